//! P1, with one shard and with three, volatile and with volumes: no key that a live replica held is lost.

use crate::support::group::{ENGINE_PROCESS, clustered, replicated, stored};
use crate::support::kills::{killed_during_the_sync, primaries_are_killed};
use crate::support::{Group, Keys, Kill, Sharing, Writer, seconds, tell};
use anyhow::{Context, Result, ensure};
use kagami_api::names;
use serde_json::{Value, json};

async fn killed_thrice(name: &str, spec: Value) -> Result<()> {
    tell(name, Sharing::SideBySide, seconds(360), async |story| {
        let group = Group::apply(story, "killed", &spec).await?;
        group.settled(seconds(120)).await?;
        primaries_are_killed(&group, &Kill::ALL).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_of_one_shard_are_killed_in_three_ways_and_no_key_is_lost() -> Result<()> {
    killed_thrice("kill-1", clustered(1, 1)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_of_one_shard_with_volumes_are_killed_in_three_ways_and_no_key_is_lost() -> Result<()> {
    killed_thrice("kill-1-stored", stored(clustered(1, 1))).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_of_three_shards_are_killed_in_three_ways_and_no_key_is_lost() -> Result<()> {
    killed_thrice("kill-3", clustered(3, 1)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_of_three_shards_with_volumes_are_killed_in_three_ways_and_no_key_is_lost() -> Result<()>
{
    killed_thrice("kill-3-stored", stored(clustered(3, 1))).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_with_cluster_mode_disabled_are_killed_in_three_ways_and_no_key_is_lost() -> Result<()> {
    killed_thrice("kill-plain", replicated(2)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_of_the_seeds_engine_are_killed_in_three_ways_and_no_key_is_lost() -> Result<()> {
    let mut spec = clustered(1, 1);
    spec["engineVersion"] = json!("6.2");
    killed_thrice("kill-62", spec).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_primary_killed_while_its_replica_syncs_loses_only_what_no_live_copy_held_and_says_so()
-> Result<()> {
    tell("kill-during-sync", Sharing::SideBySide, seconds(240), async |story| {
        killed_during_the_sync(story, 2).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_when_both_copies_are_killed_the_shard_is_available_again_empty_and_an_event_says_what_was_lost()
-> Result<()> {
    tell("kill-both", Sharing::SideBySide, seconds(180), async |story| {
        let group = Group::apply(story, "both", &clustered(1, 1)).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(500).await?;
        let primary = group.primary_of("0001").await?;
        let replica = group.replicas_of("0001").await?.pop().context("no replica")?;
        // The primary is stopped first, so that it cannot be copied once more.
        group.pause_engine(&primary).await?;
        group.signal(&replica, ENGINE_PROCESS, "KILL").await?;
        group.signal(&primary, ENGINE_PROCESS, "KILL").await?;
        let words = group.event("DataLost", seconds(90)).await?;
        ensure!(
            words.contains("0-16383") && words.contains("0001"),
            "the event does not say what was lost: {words}"
        );
        group.settled(seconds(90)).await?;
        let missing = keys.missing().await?.len();
        ensure!(missing == keys.len(), "no copy was alive, and {} keys are there", keys.len() - missing);
        Ok(())
    })
    .await
}

/// The pod's object is gone at once, and the next one's is there within moments; the engine lives for some seconds still.
async fn deleted_by_force(name: &str, spec: Value) -> Result<()> {
    tell(name, Sharing::SideBySide, seconds(240), async |story| {
        let group = Group::apply(story, "forced", &spec).await?;
        group.settled(seconds(120)).await?;
        for _ in 0..3 {
            let before = group.primary_of("0001").await?;
            let writer = Writer::start(&group, "0001", true).await?;
            tokio::time::sleep(seconds(1)).await;
            let pod = names::pod_name(&before.name);
            let words = ["delete", "pod", &pod, "--force", "--grace-period=0", "--wait=false"];
            story.kubectl(&words, None, seconds(20)).await?.well("deleting the pod by force")?;
            let after = group.taken_over(&before, seconds(30)).await?;
            ensure!(after.name != before.name, "{} has the role again", before.name);
            tokio::time::sleep(seconds(1)).await;
            writer.stop(&group, "0001").await?;
            group.settled(seconds(120)).await?;
        }
        group.no_event("DataLost").await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_primarys_pod_is_deleted_by_force_and_no_write_that_a_replica_had_is_lost() -> Result<()> {
    deleted_by_force("forced", clustered(1, 1)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_with_cluster_mode_disabled_a_primarys_pod_is_deleted_by_force_and_no_write_is_lost() -> Result<()>
{
    deleted_by_force("forced-plain", replicated(2)).await
}
