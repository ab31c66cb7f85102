//! Machines and zones that are gone for good: their nodes are replaced, and no copy is given up before another one serves.

use crate::support::cluster;
use crate::support::group::{spec, stored};
use crate::support::story::zones;
use crate::support::{Group, Keys, Sharing, Story, eventually, operator, seconds, tell};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

const EXTRA: &str = "node-4";

/// One shard, its primary in the first zone and its replica in the second, with volumes.
async fn over_two_zones(story: &Story, first: &str, second: &str) -> Result<serde_json::Value> {
    ensure!(zones(story).await?.values().any(|zone| zone == first), "no machine is in {first}");
    Ok(stored(spec(
        json!({ "clusterMode": "enabled", "numNodeGroups": 1, "replicasPerNodeGroup": 1, "multiAZEnabled": true,
        "automaticFailoverEnabled": true,
        "nodeGroupConfiguration": [{ "primaryAvailabilityZone": first, "replicaAvailabilityZones": [second] }] }),
    )))
}

async fn claim_of(story: &Story, node: &str) -> Result<String> {
    let claims: Vec<PersistentVolumeClaim> = story.api().list(&ListParams::default()).await?.items;
    let found = claims.iter().find(|claim| claim.name_any().contains(node));
    found.and_then(ResourceExt::uid).with_context(|| format!("{node} has no claim"))
}

/// The machine of the replica is removed; the replica comes back whole on another one.
async fn replaced<'a>(story: &'a Story, zone: &str, other: &[&str]) -> Result<Group<'a>> {
    let group = Group::apply(story, "gone", &over_two_zones(story, "ap-northeast-1a", zone).await?).await?;
    group.settled(seconds(120)).await?;
    let mut keys = Keys::of(&group, 1);
    keys.fill(500).await?;
    let replica = group.node("gone-0001-002").await?;
    ensure!(replica.machine == EXTRA, "{} is on {}", replica.name, replica.machine);
    let claim = claim_of(story, &replica.name).await?;
    for machine in other {
        story.kubectl(&["uncordon", machine], None, seconds(20)).await?.well("uncordon")?;
    }
    cluster::remove_machine(EXTRA).await?;
    let words = group.event("CacheNodeReplaceStarted", seconds(240)).await?;
    story.say(words);
    group.settled(seconds(240)).await?;
    let now = group.node(&replica.name).await?;
    ensure!(
        now.machine != EXTRA && claim_of(story, &now.name).await? != claim,
        "it is not replaced: {now:?}"
    );
    let primary = group.primary_of("0001").await?;
    let zones = zones(story).await?;
    ensure!(zones.get(&now.machine) != zones.get(&primary.machine), "P8: both copies are in one zone");
    story.say(format!("{} is on {} now", now.name, now.machine));
    keys.all_there().await?;
    group.no_event("DataLost").await?;
    Ok(group)
}

/// The zone has a machine again: nobody moves at once. That replicas move after ten minutes is told by tables.
async fn comes_back(group: &Group<'_>, zone: &str) -> Result<()> {
    let before = group.node("gone-0001-002").await?;
    cluster::add_machine(EXTRA, zone).await?;
    tokio::time::sleep(seconds(30)).await;
    let after = group.node("gone-0001-002").await?;
    ensure!(after == before, "it moved at once: {before:?}, {after:?}");
    group.settled(seconds(30)).await.map(drop)
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_a_machine_that_is_gone_for_good_costs_a_replica_its_volume_and_not_its_zone() -> Result<()> {
    tell("gone-machine", Sharing::Alone, seconds(700), async |story| {
        operator::well(story).await?;
        let zone = "ap-northeast-1d";
        let there: Vec<String> =
            zones(story).await?.into_iter().filter(|(_, at)| at == zone).map(|(name, _)| name).collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        for machine in &there {
            story.kubectl(&["cordon", machine], None, seconds(20)).await?.well("cordon")?;
        }
        let outcome = async {
            cluster::add_machine(EXTRA, zone).await?;
            replaced(story, zone, &there).await.map(drop)
        }
        .await;
        for machine in &there {
            story.kubectl(&["uncordon", machine], None, seconds(20)).await?;
        }
        let _gone_already = cluster::remove_machine(EXTRA).await;
        outcome
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p8_a_zone_that_is_gone_for_good_moves_its_copy_to_a_zone_without_one() -> Result<()> {
    tell("gone-zone", Sharing::Alone, seconds(700), async |story| {
        operator::well(story).await?;
        let zone = "ap-northeast-1b";
        ensure!(!zones(story).await?.values().any(|present| present == zone), "{zone} has a machine already");
        let outcome = async {
            cluster::add_machine(EXTRA, zone).await?;
            let group = replaced(story, zone, &[]).await?;
            comes_back(&group, zone).await
        }
        .await;
        let _gone_already = cluster::remove_machine(EXTRA).await;
        outcome
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_machine_that_is_only_away_keeps_its_volume() -> Result<()> {
    tell("away-machine", Sharing::Alone, seconds(500), async |story| {
        operator::well(story).await?;
        let group =
            Group::apply(story, "away", &over_two_zones(story, "ap-northeast-1a", "ap-northeast-1c").await?)
                .await?;
        group.settled(seconds(120)).await?;
        let replica = group.replicas_of("0001").await?.pop().context("no replica")?;
        let claim = claim_of(story, &replica.name).await?;
        cluster::crash_machine(&replica.machine).await?;
        // Longer than the bound after which a node is replaced.
        tokio::time::sleep(seconds(90)).await;
        let kept = claim_of(story, &replica.name).await;
        cluster::start_machine(&replica.machine).await?;
        ensure!(kept? == claim, "the volume of a machine that may come back was given up");
        eventually("the replica is back", seconds(180), async || {
            group.is_replica(&replica.name, seconds(5)).await
        })
        .await?;
        group.no_event("CacheNodeReplaceStarted").await
    })
    .await
}
