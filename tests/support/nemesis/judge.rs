//! P2, looked at all the time: no shard has two nodes that take writes.

use crate::support::group::{Group, Node};
use crate::support::keys::tag;
use anyhow::{Result, ensure};
use futures::future::join_all;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often is looked.
const JUDGED_EVERY: Duration = Duration::from_millis(250);

/// Asks the nodes of a shard in turn to take a write, twice. Two that take both are two primaries: a handover in between
/// would make the first refuse the second time.
pub(super) async fn one_writable_node_a_shard(groups: &[&Group<'_>], over: &Cell<bool>) -> Result<usize> {
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
