//! The cluster's commands, as the agent gives them to its own engine.

use crate::claim::{self, Claim, Follow};
use crate::client::{Client, EngineError};
use crate::version::Version;
use kagami_protocol::engine_text::{self, ClusterInfo};
use kagami_protocol::{Address, ClusterNode};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(20);

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
    let strangers = claim::strangers(&known, own, peers);
    let meetings = strangers.iter().map(|peer| {
        let words = claim::meet(peer);
        async move { client.text(&words, WITHIN).await }
    });
    futures::future::try_join_all(meetings).await?;
    Ok(strangers.len())
}

/// Claims the slots that the engine does not own yet. Answers how many those were.
pub(crate) async fn assign_slots(
    client: &Client,
    version: &Version,
    wanted: &[(u16, u16)],
    epoch: Option<u64>,
    from: &[String],
) -> Result<usize, EngineError> {
    let (info, nodes) = futures::try_join!(info(client), nodes(client))?;
    let mut claim = Claim::new(&info, &nodes, wanted, epoch, from, version.has_slot_ranges());
    if let Some(epoch) = claim.set_epoch {
        match client.text(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()], WITHIN).await {
            Ok(_) => {}
            Err(error) if error.says("does not know any other node") => claim.was_met(),
            Err(error) => return Err(error),
        }
    }
    for words in claim.commands() {
        client.text(&words, WITHIN).await?;
    }
    Ok(claim.count)
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
        let error = match claim::follow(&nodes, primary, primary_id) {
            Follow::Already => return Ok(()),
            Follow::Replicate(id) => match client.text(&["CLUSTER", "REPLICATE", &id], WITHIN).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            },
            Follow::Unknown => EngineError::Said(format!(
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

/// How many keys are in each of these slots.
pub(crate) async fn count_keys(
    client: &Client,
    slots: &[u16],
    within: Duration,
) -> Result<Vec<(u16, u64)>, EngineError> {
    let counts = slots.iter().map(|slot| async move {
        let said = client.call(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()], within).await?;
        let keys =
            redis::from_redis_value::<u64>(said).map_err(|error| EngineError::Odd(error.to_string()))?;
        Ok::<_, EngineError>((*slot, keys))
    });
    futures::future::try_join_all(counts).await
}

/// What came of closing slots.
pub(crate) enum Closed {
    /// They are.
    All,
    /// Nothing was changed, because it holds keys of these.
    Holds(Vec<u16>),
}

/// `SETSLOT … STABLE` for each; with `empty` only where no key of any is held.
pub(crate) async fn close_slots(client: &Client, slots: &[u16], empty: bool) -> Result<Closed, EngineError> {
    let filled = async || {
        let counts = count_keys(client, slots, WITHIN).await?;
        Ok::<Vec<u16>, EngineError>(
            counts.into_iter().filter(|(_, keys)| *keys > 0).map(|(slot, _)| slot).collect(),
        )
    };
    let before = nodes(client).await?;
    if empty {
        let held = filled().await?;
        if !held.is_empty() {
            return Ok(Closed::Holds(held));
        }
    }
    for slot in slots {
        client.text(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"], WITHIN).await?;
    }
    if !empty {
        return Ok(Closed::All);
    }
    // A client that was sent here may have written between the count and the close: then it is open as it was.
    let held = filled().await?;
    let marks = before.iter().filter(|line| line.myself).flat_map(ClusterNode::marks);
    for mark in marks.filter(|mark| held.contains(&mark.slot)) {
        let word = if mark.importing { "IMPORTING" } else { "MIGRATING" };
        client.text(&["CLUSTER", "SETSLOT", &mark.slot.to_string(), word, mark.peer], WITHIN).await?;
    }
    Ok(if held.is_empty() { Closed::All } else { Closed::Holds(held) })
}
