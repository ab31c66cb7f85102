//! All pods of a group are gone at once.

use crate::support::group::{ENGINE_PROCESS, clustered, replicated, stored};
use crate::support::kills::serves_again;
use crate::support::{Group, Keys, Sharing, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use kagami_api::names;
use serde_json::Value;

async fn delete_all_pods(group: &Group<'_>, force: bool) -> Result<()> {
    let before = group.nodes().await?;
    let selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, group.name);
    let mut words = vec!["delete", "pods", "-l", &selector, "--wait=false"];
    if force {
        words.extend(["--grace-period=0", "--force"]);
    }
    group.story.kubectl(&words, None, seconds(20)).await?.well("deleting all pods")?;
    eventually("every pod was replaced", seconds(90), async || {
        let now = group.nodes().await?;
        ensure!(now.len() == before.len(), "{} of {} are back", now.len(), before.len());
        let left = now.iter().filter(|node| before.iter().any(|old| old.pod_uid == node.pod_uid)).count();
        ensure!(left == 0, "{left} are still there");
        Ok(())
    })
    .await?;
    // The status may still be the one from before; the engines are asked first.
    for shard in group.shards().await? {
        serves_again(group, &shard).await?;
        group.in_sync(&shard, seconds(120)).await?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn all_pods_with_volumes_are_deleted_at_once_and_every_key_is_back() -> Result<()> {
    tell("outage-stored", Sharing::SideBySide, seconds(240), async |story| {
        let group = Group::apply(story, "stored", &stored(clustered(3, 1))).await?;
        group.settled(seconds(120)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(2_000).await?;
        delete_all_pods(&group, false).await?;
        group.settled(seconds(120)).await?;
        keys.all_there().await?;
        group.no_event("DataLost").await?;
        // Once more, and nobody says goodbye this time.
        keys.fill(500).await?;
        delete_all_pods(&group, true).await?;
        group.settled(seconds(120)).await?;
        keys.all_there().await?;
        group.no_event("DataLost").await
    })
    .await
}

/// The volumes differ, and once the first node's is the better one and once the second's.
async fn the_best_volume_is_chosen(name: &str, spec: Value) -> Result<()> {
    tell(name, Sharing::SideBySide, seconds(300), async |story| {
        let group = Group::apply(story, "volumes", &stored(spec.clone())).await?;
        group.settled(seconds(90)).await?;
        let mut best = Vec::new();
        for round in 1..=2 {
            let mut keys = Keys::of(&group, 1);
            keys.fill(300).await?;
            let primary = group.primary_of("0001").await?;
            let replica = group.replicas_of("0001").await?.pop().context("no replica")?;
            // The replica hears nothing of what follows: only the primary's volume has it.
            group.pause_engine(&replica).await?;
            let mut later = Keys::of(&group, 0);
            later.fill(2_000).await?;
            futures::future::try_join(
                group.signal(&replica, "pid1", "KILL"),
                group.signal(&primary, "pid1", "KILL"),
            )
            .await?;
            delete_all_pods(&group, true).await?;
            group.settled(seconds(150)).await?;
            later
                .all_there()
                .await
                .with_context(|| format!("round {round}: {} had the better volume", primary.name))?;
            keys.all_there().await?;
            group.event("RestoredFromVolume", seconds(10)).await?;
            group.no_event("DataLost").await?;
            story.say(format!("round {round}: {} had the better volume and its keys are back", primary.name));
            best.push(primary.name);
            // The other node becomes the primary of the second round.
            let now = group.primary_of("0001").await?;
            if round == 1 && Some(&now.name) == best.first() {
                group.signal(&now, ENGINE_PROCESS, "KILL").await?;
                eventually("the other node is the primary", seconds(45), async || {
                    ensure!(group.primary_of("0001").await?.name != now.name, "not yet");
                    Ok(())
                })
                .await?;
                group.settled(seconds(90)).await?;
            }
            let primary = group.primary_of("0001").await?;
            group.ask(&primary, &["FLUSHALL"]).await?.text()?;
        }
        ensure!(best[0] != best[1], "both rounds had the better volume at {}", best[0]);
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_after_a_total_outage_the_best_volume_is_chosen_whichever_node_has_it() -> Result<()> {
    the_best_volume_is_chosen("best-volume", clustered(1, 1)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_after_a_total_outage_with_cluster_mode_disabled_the_best_volume_is_chosen() -> Result<()> {
    the_best_volume_is_chosen("best-volume-plain", replicated(2)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn all_volatile_pods_are_deleted_at_once_and_the_group_is_available_again_empty_and_says_so()
-> Result<()> {
    tell("outage-volatile", Sharing::SideBySide, seconds(240), async |story| {
        let group = Group::apply(story, "volatile", &clustered(1, 1)).await?;
        group.settled(seconds(90)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        delete_all_pods(&group, false).await?;
        let words = group.event("DataLost", seconds(120)).await?;
        ensure!(words.contains("0001"), "{words}");
        group.settled(seconds(120)).await?;
        let missing = keys.missing().await?.len();
        ensure!(missing == keys.len(), "{} keys came from nowhere", keys.len() - missing);
        let mut keys = Keys::of(&group, 1);
        keys.fill(100).await?;
        keys.all_there().await
    })
    .await
}
