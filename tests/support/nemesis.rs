//! Faults at random from a seed, clients that keep a history, and judges: the long way to find what nobody thought of.

mod clients;
mod faults;
mod history;
mod judge;

use super::group::{Group, clustered, replicated, stored};
use super::story::{Story, zones};
use super::tools::seconds;
use super::{cluster, operator, rest};
use anyhow::{Context, Result, ensure};
use clients::Clients;
use faults::{Fault, Hit};
use futures::future::join;
use history::Account;
use serde_json::json;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a group may take to be whole again after a fault has ended.
const HEALED_WITHIN: Duration = seconds(150);
/// How long nothing may be written once it is.
const REST: Duration = seconds(10);

/// A group's shards, or none for cluster mode disabled with two replicas; the others have one replica a shard.
const SHAPES: [(&str, usize); 4] = [("one", 1), ("two", 2), ("three", 3), ("plain", 0)];

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Two shapes of the seed's choice and faults that end soon, for `make test`.
    Short,
    /// Every shape and every fault.
    Long,
}

/// Faults for some time to groups of several shapes, with and without volumes, while clients write and read; then the
/// groups must become whole and rest, and what was acknowledged must be there.
pub(crate) async fn nemesis(story: &Story, time: Duration, length: Length) -> Result<()> {
    ensure!(
        !story.cluster.needs_relay(),
        cluster::CannotDo("steady clients need a direct route to pods".into())
    );
    operator::well(story).await?;
    let groups = apply(story, length).await?;
    let groups: Vec<&Group<'_>> = groups.iter().collect();
    let clients = Clients::start(&groups).await?;
    let over = Cell::new(false);
    let faults = async {
        let outcome = faults::strike(story, &groups, time, length).await;
        over.set(true);
        outcome
    };
    let (struck, judged) = join(faults, judge::one_writable_node_a_shard(&groups, &over)).await;
    let hits = struck?;
    let looks = judged?;
    let ended = Instant::now();
    operator::well(story).await?;
    for group in &groups {
        group.whole(HEALED_WITHIN).await?;
        group.no_event("DataLost").await?;
    }
    let whole = ended.elapsed();
    let ledgers = clients.stop().await?;
    apart(story, &groups).await?;
    rest::still(story, REST, HEALED_WITHIN).await?;
    let mut account = Account::default();
    for (group, ledger) in &ledgers {
        account += ledger.settle(groups[*group], &hits).await.with_context(|| ledger.name.clone())?;
    }
    report(story, &hits, &account, looks, whole);
    Ok(())
}

/// Every other one has volumes; the seed says which.
async fn apply<'s>(story: &'s Story, length: Length) -> Result<Vec<Group<'s>>> {
    let mut shapes = SHAPES.to_vec();
    if length == Length::Short {
        while shapes.len() > 2 {
            shapes.remove(draw(story, shapes.len())?);
        }
    }
    let first = draw(story, 2)?;
    let mut groups = Vec::new();
    for (at, (name, shards)) in shapes.into_iter().enumerate() {
        let shape = if shards == 0 { replicated(3) } else { clustered(shards, 1) };
        let mut shape = if (at + first) % 2 == 0 { stored(shape) } else { shape };
        shape["multiAZEnabled"] = json!(true);
        groups.push(Group::apply(story, name, &shape).await?);
    }
    for group in &groups {
        group.settled(seconds(120)).await?;
    }
    Ok(groups)
}

fn draw(story: &Story, below: usize) -> Result<usize> {
    Ok(usize::try_from(story.chance(below as u64))?)
}

/// P8: the copies of no shard are all in one zone.
async fn apart(story: &Story, groups: &[&Group<'_>]) -> Result<()> {
    let zones = zones(story).await?;
    for group in groups {
        for shard in group.shards().await? {
            let nodes = group.shard(&shard).await?;
            let used: BTreeSet<_> = nodes.iter().map(|node| zones.get(&node.machine)).collect();
            ensure!(used.len() > 1, "P8: all copies of {} {shard} are in {used:?}", group.name);
        }
    }
    Ok(())
}

fn report(story: &Story, hits: &[Hit], account: &Account, looks: usize, whole: Duration) {
    let mut kinds: BTreeMap<Fault, (usize, Duration)> = BTreeMap::new();
    for hit in hits {
        let (count, longest) = kinds.entry(hit.fault).or_default();
        *count += 1;
        *longest = (*longest).max(hit.healed);
    }
    for (fault, (count, longest)) in &kinds {
        let longest = longest.as_secs_f64();
        story.say(format!("{fault:?}: {count}; whole again after {longest:.1} s at the longest"));
    }
    story.say(format!(
        "{} faults; {account}; in {looks} looks no shard had two writable nodes; {:.1} s after the last fault everything was \
         whole, zones hold, and nothing was written for {} s",
        hits.len(),
        whole.as_secs_f64(),
        REST.as_secs()
    ));
}
