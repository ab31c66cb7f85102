//! All addresses of a group change at once: how long until every slot takes a write again.

use crate::groups::{Group, connect, slot};
use anyhow::{Context, Result, ensure};
use kagami_protocol::ClusterView;
use kagami_protocol::engine_text::cluster_nodes;
use redis::aio::MultiplexedConnection;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(90);

/// Deletes all pods of a group with volumes at once, and says how many milliseconds passed between the start of the last
/// container and the moment when every slot had taken a write.
pub(crate) async fn all_at_once(group: &Group) -> Result<f64> {
    let before: BTreeSet<String> = group.all_nodes().await?.into_iter().map(|node| node.pod_uid).collect();
    group.delete_pods().await?;
    let until = Instant::now() + PATIENCE;
    // By slot, what is still to be written.
    let mut keys = keys();
    let mut connections: BTreeMap<String, MultiplexedConnection> = BTreeMap::new();
    while !keys.is_empty() {
        ensure!(Instant::now() < until, "{} slots take no write", keys.len());
        let nodes = group.all_nodes().await?;
        for node in nodes.into_iter().filter(|node| !before.contains(&node.pod_uid)) {
            if let Err(_refused) = write(&node.ip, &mut keys, &mut connections).await {
                connections.remove(&node.ip);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let all = Instant::now();
    let last = last_start(&group.name, group.size())?;
    Ok(all.saturating_duration_since(last).as_secs_f64() * 1_000.0)
}

/// A key of each slot.
fn keys() -> BTreeMap<u16, String> {
    let mut keys = BTreeMap::new();
    for n in 0_u64.. {
        let key = format!("a{n}");
        keys.entry(slot(&key)).or_insert(key);
        if keys.len() == 16_384 {
            break;
        }
    }
    keys
}

/// Writes what a node owns and has not been written yet.
async fn write(
    ip: &str,
    keys: &mut BTreeMap<u16, String>,
    connections: &mut BTreeMap<String, MultiplexedConnection>,
) -> Result<()> {
    if !connections.contains_key(ip) {
        connections.insert(ip.to_owned(), connect(ip).await?);
    }
    let connection = connections.get_mut(ip).context("a connection")?;
    let view: String = redis::cmd("CLUSTER").arg("NODES").query_async(connection).await?;
    let view = ClusterView { nodes: cluster_nodes(&view), ..ClusterView::default() };
    let own: Vec<u16> = view
        .own_slots()
        .flat_map(|(first, last)| first..=last)
        .filter(|slot| keys.contains_key(slot))
        .collect();
    let mut batch = own.iter().filter_map(|slot| keys.get(slot).map(|key| (*slot, key.clone())));
    // One first: a node that is not ready refuses them all.
    let Some((first, key)) = batch.next() else { return Ok(()) };
    let rest: Vec<(u16, String)> = batch.collect();
    redis::cmd("SET").arg(&key).arg("1").query_async::<String>(connection).await?;
    keys.remove(&first);
    let mut pipe = redis::pipe();
    for (_, key) in &rest {
        pipe.cmd("SET").arg(key).arg("1").ignore();
    }
    pipe.query_async::<()>(connection).await?;
    for (slot, _) in rest {
        keys.remove(&slot);
    }
    Ok(())
}

/// When the last of the group's containers was started, by the kernel: its first process is the agent.
fn last_start(group: &str, size: usize) -> Result<Instant> {
    let wanted = format!("KAGAMI_GROUP={group}");
    let mut started = Vec::new();
    for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let path = entry.path();
        let Ok(words) = std::fs::read(path.join("cmdline")) else { continue };
        let agent = words.starts_with(b"/kagami/bin/kagami-agent\0run");
        let Ok(environment) = std::fs::read(path.join("environ")) else { continue };
        if !agent || !environment.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes()) {
            continue;
        }
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        // Field 22, counted from behind the name, which may hold blanks.
        let ticks = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)?.parse::<u64>().ok());
        started.extend(ticks);
    }
    ensure!(started.len() >= size, "{} of {size} agents of {group} run", started.len());
    let last = started.into_iter().max().context("no agent")?;
    let now = clock_gettime(ClockId::Boottime);
    let now_ms = u64::try_from(now.tv_sec)? * 1_000 + u64::try_from(now.tv_nsec)? / 1_000_000;
    let ago = now_ms.saturating_sub(last * 1_000 / clock_ticks_per_second());
    Instant::now().checked_sub(Duration::from_millis(ago)).context("the clock")
}
