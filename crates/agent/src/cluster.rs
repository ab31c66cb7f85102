//! The cluster's commands, as the agent gives them to its own engine.

use crate::client::{Client, EngineError};
use crate::version::Version;
use kagami_protocol::engine_text::{self, ClusterInfo};
use kagami_protocol::{Address, ClusterNode};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Before 7.0 slots are named one by one; a command of this many is small.
const SLOTS_AT_ONCE: usize = 2_048;

/// A bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within(pub(crate) Duration);

pub(crate) async fn nodes(client: &Client) -> Result<Vec<ClusterNode>, EngineError> {
    Ok(engine_text::cluster_nodes(&client.text(&["CLUSTER", "NODES"], WITHIN).await?))
}

pub(crate) async fn info(client: &Client) -> Result<ClusterInfo, EngineError> {
    Ok(engine_text::cluster_info(&client.text(&["CLUSTER", "INFO"], WITHIN).await?))
}

/// Meets each peer that is not known at that address yet, all at once. Answers how many that were.
pub(crate) async fn meet<'a>(
    client: &Client,
    own: &Address,
    peers: impl Iterator<Item = &'a Address>,
) -> Result<usize, EngineError> {
    let known = nodes(client).await?;
    let mut strangers: Vec<&Address> = peers
        .filter(|peer| (&peer.host, peer.port) != (&own.host, own.port))
        .filter(|peer| !known.iter().any(|node| is_at(node, peer) && !node.handshake && !node.fail))
        .collect();
    strangers.sort();
    strangers.dedup();
    let meetings = strangers.iter().map(|peer| async move {
        let mut words = vec!["CLUSTER".to_owned(), "MEET".into(), peer.host.clone(), peer.port.to_string()];
        if peer.bus_port != 0 {
            words.push(peer.bus_port.to_string());
        }
        client.text(&words, WITHIN).await
    });
    futures::future::try_join_all(meetings).await?;
    Ok(strangers.len())
}

fn is_at(node: &ClusterNode, address: &Address) -> bool {
    node.host == address.host && node.port == address.port
}

/// The slots of some ranges that are missing in others, as ranges.
fn missing(wanted: &[(u16, u16)], owned: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let within = |ranges: &[(u16, u16)], slot: u16| {
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    };
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in (0..16_384).filter(|slot| within(wanted, *slot) && !within(owned, *slot)) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// Claims the slots that the engine does not own yet. Answers how many those were.
pub(crate) async fn assign_slots(
    client: &Client,
    version: &Version,
    wanted: &[(u16, u16)],
    epoch: Option<u64>,
) -> Result<usize, EngineError> {
    let (info, nodes) = futures::try_join!(info(client), nodes(client))?;
    let mut alone = nodes.len() <= 1;
    if let Some(epoch) = epoch.filter(|epoch| alone && *epoch > 0 && info.my_epoch == 0) {
        match client.text(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()], WITHIN).await {
            Ok(_) => {}
            // Somebody has met it since it was asked: then an epoch is bumped after the claim, as for any late one.
            Err(error) if error.says("does not know any other node") => alone = false,
            Err(error) => return Err(error),
        }
    }
    let owned = nodes.iter().find(|node| node.myself).map(|node| node.slots.clone()).unwrap_or_default();
    let ranges = missing(wanted, &owned);
    let count: usize = ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
    if ranges.is_empty() {
        // Claimed by itself, since keys were loaded: nothing to add, but its claim may be the oldest there is.
    } else if version.has_slot_ranges() {
        let mut words = vec!["CLUSTER".to_owned(), "ADDSLOTSRANGE".into()];
        words.extend(ranges.iter().flat_map(|(first, last)| [first.to_string(), last.to_string()]));
        client.text(&words, WITHIN).await?;
    } else {
        let slots: Vec<u16> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
        for chunk in slots.chunks(SLOTS_AT_ONCE) {
            let mut words = vec!["CLUSTER".to_owned(), "ADDSLOTS".into()];
            words.extend(chunk.iter().map(u16::to_string));
            client.text(&words, WITHIN).await?;
        }
    }
    let old = epoch.is_some_and(|epoch| info.my_epoch < epoch);
    if !alone && (old || (epoch.is_some() && count > 0)) {
        client.text(&["CLUSTER", "BUMPEPOCH"], WITHIN).await?;
    }
    Ok(count)
}

/// Follows a primary as soon as it is known, by its id or else by its address.
pub(crate) async fn follow(
    client: &Client,
    primary: &Address,
    primary_id: Option<&str>,
    within: Within,
) -> Result<(), EngineError> {
    let until = tokio::time::Instant::now() + within.0;
    loop {
        let nodes = nodes(client).await?;
        let known =
            nodes.iter().filter(|node| !node.handshake && !node.myself).find(|node| match primary_id {
                Some(id) => node.id == id,
                // One that failed may be an earlier identity at the same address.
                None => is_at(node, primary) && node.primary && node.connected && !node.fail,
            });
        let error = match known {
            Some(known) => {
                let follows = nodes.iter().any(|node| {
                    node.myself && !node.primary && node.primary_id.as_deref() == Some(known.id.as_str())
                });
                if follows {
                    return Ok(());
                }
                match client.text(&["CLUSTER", "REPLICATE", &known.id], WITHIN).await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                }
            }
            None => EngineError::Said(format!(
                "{} at {primary} is not known yet",
                primary_id.unwrap_or("the primary")
            )),
        };
        if tokio::time::Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_slots_that_are_missing_are_claimed() {
        assert_eq!(missing(&[(0, 16383)], &[]), [(0, 16383)]);
        assert_eq!(missing(&[(0, 10), (20, 20)], &[(3, 3), (20, 30)]), [(0, 2), (4, 10)]);
        assert_eq!(missing(&[(5, 6)], &[(0, 16383)]), []);
    }

    proptest! {
        #[test]
        fn missing_and_owned_make_up_what_is_wanted(
            wanted in proptest::collection::vec((0u16..16384, 0u16..16384), 0..5),
            owned in proptest::collection::vec((0u16..16384, 0u16..16384), 0..5),
        ) {
            let result = missing(&wanted, &owned);
            let within = |ranges: &[(u16, u16)], slot: u16| ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot));
            for slot in 0..16384 {
                prop_assert_eq!(within(&result, slot), within(&wanted, slot) && !within(&owned, slot));
            }
        }
    }
}
