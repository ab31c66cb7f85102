//! Machines that crash or fall silent.

use crate::support::cluster;
use crate::support::group::{clustered, spec};
use crate::support::story::zones;
use crate::support::{Group, Keys, Sharing, Story, Writer, eventually, operator, seconds, tell};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};

/// A group of one shard whose primary stands on a machine without the operator's leader.
async fn away_from_the_leader(story: &Story) -> Result<Value> {
    let leader = operator::leader(story)
        .await?
        .spec
        .and_then(|spec| spec.node_name)
        .context("the leader has no machine")?;
    let machines = zones(story).await?;
    let mut free: Vec<&String> =
        machines.iter().filter(|(name, _)| **name != leader).map(|(_, zone)| zone).collect();
    free.dedup();
    ensure!(free.len() >= 2, "two zones beside {leader}'s are needed");
    Ok(json!([{ "primaryAvailabilityZone": free[0], "replicaAvailabilityZones": [free[1]] }]))
}

fn zoned(shards: &Value) -> Value {
    spec(
        json!({ "clusterMode": "enabled", "numNodeGroups": 1, "replicasPerNodeGroup": 1, "nodeGroupConfiguration": shards }),
    )
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p2_a_primarys_machine_falls_silent_and_returns_and_no_write_that_a_replica_had_is_lost() -> Result<()>
{
    tell("silent-machine", Sharing::Alone, seconds(400), async |story| {
        operator::well(story).await?;
        let group = Group::apply(story, "silent", &zoned(&away_from_the_leader(story).await?)).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        let old = group.primary_of("0001").await?;
        let writer = Writer::start(&group, "0001", true).await?;
        let began = std::time::Instant::now();
        cluster::silence_machine(&old.machine).await?;
        let new = group.taken_over(&old, seconds(150)).await;
        let after = began.elapsed();
        cluster::return_machine(&old.machine).await?;
        story.say(format!("{} took over after {:.1} s of silence", new?.name, after.as_secs_f64()));
        group.settled(seconds(150)).await?;
        group.is_replica(&old.name, seconds(60)).await?;
        writer.stop(&group, "0001").await?;
        keys.all_there().await?;
        group.no_event("DataLost").await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_primarys_machine_crashes_and_boots_again_and_no_write_that_a_replica_had_is_lost() -> Result<()>
{
    tell("crashed-machine", Sharing::Alone, seconds(400), async |story| {
        operator::well(story).await?;
        let group = Group::apply(story, "crashed", &zoned(&away_from_the_leader(story).await?)).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        let old = group.primary_of("0001").await?;
        let writer = Writer::start(&group, "0001", true).await?;
        let began = std::time::Instant::now();
        cluster::crash_machine(&old.machine).await?;
        let new = group.taken_over(&old, seconds(150)).await;
        let after = began.elapsed();
        cluster::start_machine(&old.machine).await?;
        story.say(format!("{} took over {:.1} s after the crash", new?.name, after.as_secs_f64()));
        group.settled(seconds(180)).await?;
        group.is_replica(&old.name, seconds(60)).await?;
        writer.stop(&group, "0001").await?;
        keys.all_there().await?;
        group.no_event("DataLost").await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p3_the_machine_of_the_operators_leader_falls_silent_and_nobody_is_promoted() -> Result<()> {
    tell("silent-leader", Sharing::Alone, seconds(300), async |story| {
        operator::well(story).await?;
        let leader = operator::leader(story).await?;
        let machine = leader.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("no machine")?;
        let group = Group::apply(story, "watched", &zoned(&away_from_the_leader(story).await?)).await?;
        group.settled(seconds(60)).await?;
        let before = group.terms().await?;
        let writer = Writer::start(&group, "0001", false).await?;
        cluster::silence_machine(&machine).await?;
        let next = eventually("the other operator leads", seconds(60), async || {
            let now = operator::leader(story).await?.name_any();
            ensure!(now != leader.name_any(), "it is still {now}");
            Ok(now)
        })
        .await;
        // The former leader wakes into a world that has another one.
        cluster::return_machine(&machine).await?;
        story.say(format!("{} leads now", next?));
        operator::well(story).await?;
        group.settled(seconds(60)).await?;
        let written = writer.stop(&group, "0001").await?;
        ensure!(written.errors == 0, "{} writes failed: {}", written.errors, written.last_error);
        ensure!(
            group.terms().await? == before,
            "P3: the terms were {before:?} and are {:?}",
            group.terms().await?
        );
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_majority_of_three_primaries_is_killed_at_once_and_no_key_is_lost() -> Result<()> {
    tell("majority", Sharing::SideBySide, seconds(240), async |story| {
        let group = Group::apply(story, "majority", &clustered(3, 1)).await?;
        group.settled(seconds(120)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        let mut primaries = Vec::new();
        for shard in group.shards().await? {
            primaries.push(group.primary_of(&shard).await?);
        }
        let kills =
            primaries.iter().map(|node| group.signal(node, crate::support::group::ENGINE_PROCESS, "KILL"));
        futures::future::try_join_all(kills).await?;
        for node in &primaries {
            group.is_replica(&node.name, seconds(120)).await?;
        }
        group.settled(seconds(60)).await?;
        keys.all_there().await?;
        group.no_event("DataLost").await
    })
    .await
}
