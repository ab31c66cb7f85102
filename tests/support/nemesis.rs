//! Faults at random from a seed, writers that keep a history, and judges: the long way to find what nobody thought of.

use super::group::{ENGINE_PROCESS, Group, Node, clustered, spec};
use super::keys::{Writer, tag};
use super::story::Story;
use super::tools::{eventually, seconds};
use super::{cluster, operator};
use anyhow::{Context, Result, ensure};
use futures::future::{join, join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a group may take to be whole again after a fault has ended.
const HEALED_WITHIN: Duration = seconds(150);
/// How often the judge of writers looks.
const JUDGED_EVERY: Duration = Duration::from_millis(250);

/// What is done to the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL to an engine.
    Kill,
    /// SIGKILL to an agent, the container's first process.
    KillAgent,
    /// A pod is deleted by force.
    DeleteForced,
    /// A pod is deleted in order.
    Delete,
    /// A machine is off the network for some seconds.
    Silence,
    /// Every operator process dies.
    KillOperator,
    /// The apiserver dies and comes back.
    RestartApiserver,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::KillAgent,
    Fault::DeleteForced,
    Fault::Delete,
    Fault::Silence,
    Fault::KillOperator,
    Fault::RestartApiserver,
];

/// Faults for some time to a group of three shards and to one with cluster mode disabled and two replicas, while every shard
/// is written to with `WAIT 1`.
pub(crate) async fn nemesis(story: &Story, time: Duration) -> Result<()> {
    operator::well(story).await?;
    let many = Group::apply(story, "many", &clustered(3, 1)).await?;
    let plain = Group::apply(
        story,
        "plain",
        &spec(json!({ "numCacheClusters": 3, "automaticFailoverEnabled": true })),
    )
    .await?;
    let groups = [&many, &plain];
    for group in groups {
        group.settled(seconds(120)).await?;
    }
    let mut writers = Vec::new();
    for group in groups {
        for shard in group.shards().await? {
            writers.push((group, shard.clone(), Writer::start(group, &shard, true).await?));
        }
    }
    let over = Cell::new(false);
    let faults = async {
        let outcome = strike(story, &groups, time).await;
        over.set(true);
        outcome
    };
    let (struck, judged) = join(faults, one_writable_node_a_shard(&groups, &over)).await;
    let rounds = judged?;
    let struck = struck?;
    operator::well(story).await?;
    for group in groups {
        group.whole(HEALED_WITHIN).await?;
        group.no_event("DataLost").await?;
    }
    let mut checked = 0;
    for (group, shard, writer) in writers {
        let written = writer.stop(group, &shard).await.with_context(|| format!("{} {shard}", group.name))?;
        checked += written.acknowledged.len();
    }
    let total: usize = struck.values().sum();
    story.say(format!(
        "{total} faults {struck:?}; {checked} confirmed writes are all there; in {rounds} looks no shard had two writable nodes"
    ));
    Ok(())
}

/// Draws faults until the time is over; gives how many of each there were.
async fn strike(story: &Story, groups: &[&Group<'_>], time: Duration) -> Result<BTreeMap<Fault, usize>> {
    let began = Instant::now();
    let mut struck: BTreeMap<Fault, usize> = BTreeMap::new();
    while began.elapsed() < time {
        let fault = FAULTS[draw(story, FAULTS.len())?];
        let group = groups[draw(story, groups.len())?];
        let node = victim(story, group).await?;
        story.say(format!("{fault:?} ({} of {})", node.name, group.name));
        one(story, fault, group, &node).await.with_context(|| format!("{fault:?}"))?;
        *struck.entry(fault).or_default() += 1;
        // What hits the operator or the apiserver is followed at once by something that needs them.
        if matches!(fault, Fault::KillOperator | Fault::RestartApiserver) && story.chance(2) == 0 {
            story.say(format!("… and Kill ({})", node.name));
            one(story, Fault::Kill, group, &node).await.context("Kill")?;
            *struck.entry(Fault::Kill).or_default() += 1;
        }
        // No copy that has the writes dies before another one has them too: what may be lost then is no news.
        for group in groups {
            whole(group).await?;
        }
    }
    Ok(struck)
}

fn draw(story: &Story, below: usize) -> Result<usize> {
    Ok(usize::try_from(story.chance(below as u64))?)
}

/// Mostly a primary, because that is where it hurts.
async fn victim(story: &Story, group: &Group<'_>) -> Result<Node> {
    let shards = group.shards().await?;
    let shard = &shards[draw(story, shards.len())?];
    if story.chance(4) == 0 {
        let mut replicas = group.replicas_of(shard).await?;
        return Ok(replicas.swap_remove(draw(story, replicas.len())?));
    }
    group.primary_of(shard).await
}

async fn one(story: &Story, fault: Fault, group: &Group<'_>, node: &Node) -> Result<()> {
    match fault {
        Fault::Kill => group.signal(node, ENGINE_PROCESS, "KILL").await,
        Fault::KillAgent => group.signal(node, "pid1", "KILL").await,
        Fault::DeleteForced => {
            story.api::<Pod>().delete(&node.pod, &DeleteParams::default().grace_period(0)).await?;
            Ok(())
        }
        Fault::Delete => {
            story.api::<Pod>().delete(&node.pod, &DeleteParams::default()).await?;
            Ok(())
        }
        Fault::Silence => {
            cluster::silence_machine(&node.machine).await?;
            tokio::time::sleep(Duration::from_millis(2_000 + story.chance(28_000))).await;
            cluster::return_machine(&node.machine).await
        }
        Fault::KillOperator => operator::kill_all(story).await,
        Fault::RestartApiserver => cluster::restart_apiserver().await,
    }
}

/// Every replica of every shard follows and is in sync, by the engines' own words, and the status agrees.
async fn whole(group: &Group<'_>) -> Result<()> {
    eventually(&format!("{} is whole again", group.name), HEALED_WITHIN, async || {
        for shard in group.shards().await? {
            group.in_sync(&shard, seconds(5)).await?;
        }
        Ok(())
    })
    .await?;
    group.whole(HEALED_WITHIN).await
}

/// Asks the nodes of a shard in turn to take a write, twice. Two that take both are two primaries: a handover in between
/// would make the first refuse the second time.
async fn one_writable_node_a_shard(groups: &[&Group<'_>], over: &Cell<bool>) -> Result<usize> {
    let mut rounds = 0;
    let mut known: Vec<Vec<Node>> = vec![Vec::new(); groups.len()];
    while !over.get() {
        for (group, known) in groups.iter().zip(&mut known) {
            // Without an apiserver, who was known last is asked.
            if let Ok(nodes) = group.nodes().await {
                *known = nodes;
            }
        }
        for (group, nodes) in groups.iter().zip(&known) {
            let mut shards: BTreeMap<&String, Vec<&Node>> = BTreeMap::new();
            for node in nodes {
                shards.entry(&node.shard).or_default().push(node);
            }
            let looks = shards.into_iter().map(async |(shard, nodes)| {
                let name = format!("{} {shard}", group.name);
                (name, look(group, &nodes).await)
            });
            for (name, found) in join_all(looks).await {
                ensure!(
                    found.len() < 2,
                    "P2: {} take writes for {name} at the same time",
                    found.join(" and ")
                );
                rounds += 1;
            }
        }
        tokio::time::sleep(JUDGED_EVERY).await;
    }
    Ok(rounds)
}

/// The nodes of a shard that took a write each of two times.
async fn look(group: &Group<'_>, nodes: &[&Node]) -> Vec<String> {
    let connect = nodes.iter().map(async |node| {
        let view = group.view(node).await.ok().filter(|view| view.primary)?;
        let connection = group.connect(node).await.ok()?.patience(Duration::from_millis(300));
        Some(((*node).clone(), tag(&view.slots).ok()?, connection))
    });
    let mut claiming: Vec<_> = join_all(connect).await.into_iter().flatten().collect();
    if claiming.len() < 2 {
        return claiming.into_iter().map(|(node, ..)| node.name).collect();
    }
    let mut taken = vec![0; claiming.len()];
    for _ in 0..2 {
        for (at, (_, tag, connection)) in claiming.iter_mut().enumerate() {
            let key = format!("{{{tag}}}:judge");
            let answer = connection.command(&["SET", &key, "1"]).await;
            taken[at] += usize::from(answer.is_ok_and(|reply| reply.text().is_ok()));
        }
    }
    let both = claiming.into_iter().zip(taken).filter(|(_, taken)| *taken == 2);
    both.map(|((node, ..), _)| node.name).collect()
}
