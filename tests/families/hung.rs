//! P1: an engine stands still while its agent, its machine and its kubelet do not, and another copy serves.

use crate::support::group::{ENGINE_PROCESS, clustered, replicated};
use crate::support::kills::serves_again;
use crate::support::{Group, Keys, Sharing, Writer, seconds, tell};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Instant;

async fn a_primary_stands_still(name: &str, spec: Value) -> Result<()> {
    tell(name, Sharing::SideBySide, seconds(240), async |story| {
        let group = Group::apply(story, "hung", &spec).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        let old = group.primary_of("0001").await?;
        let writer = Writer::start(&group, "0001", true).await?;
        let began = Instant::now();
        group.pause_engine(&old).await?;
        let new = group.taken_over(&old, seconds(20)).await?;
        serves_again(&group, "0001").await?;
        story.say(format!(
            "{} accepts writes {:.1} s after {} stood still",
            new.name,
            began.elapsed().as_secs_f64(),
            old.name
        ));
        let words = group.event("EngineHung", seconds(10)).await?;
        ensure!(words.contains(&old.name), "the event does not say which: {words}");
        // Nobody lets the old process go on: it was ended, and another one follows.
        group.is_replica(&old.name, seconds(60)).await?;
        group.settled(seconds(60)).await?;
        writer.stop(&group, "0001").await?;
        keys.all_there().await?;
        group.no_event("DataLost").await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_primary_of_one_shard_that_stands_still_is_ended_and_no_write_that_a_replica_had_is_lost()
-> Result<()> {
    a_primary_stands_still("hung-1", clustered(1, 1)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_primary_with_cluster_mode_disabled_that_stands_still_is_ended_and_no_write_is_lost()
-> Result<()> {
    a_primary_stands_still("hung-plain", replicated(2)).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_an_only_copy_that_stands_still_is_told_of_and_goes_on_with_its_keys() -> Result<()> {
    tell("hung-alone", Sharing::SideBySide, seconds(180), async |story| {
        let group = Group::apply(story, "lone", &clustered(1, 0)).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 0);
        keys.fill(500).await?;
        let only = group.primary_of("0001").await?;
        group.pause_engine(&only).await?;
        let words = group.degraded("EngineHung", seconds(30)).await?;
        ensure!(words.contains("kubectl delete pod"), "nothing says what a person may do: {words}");
        group.signal(&only, ENGINE_PROCESS, "CONT").await?;
        group.settled(seconds(60)).await?;
        keys.all_there().await
    })
    .await
}
