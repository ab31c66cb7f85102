//! TestFailover and reboot, by kubectl alone.

use crate::support::group::{clustered, replicated, spec};
use crate::support::{Group, Keys, Kill, Sharing, Writer, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;

const TEST_FAILOVER: &str = "elasticache.kagami.dev/test-failover";
const REBOOT: &str = "elasticache.kagami.dev/reboot";
const UNDER_WAY: &str = "elasticache.kagami.dev/restart-under-way";

async fn annotate(group: &Group<'_>, name: &str, value: &str) -> Result<()> {
    let words = ["annotate", "rg", &group.name, &format!("{name}={value}")];
    group.story.kubectl(&words, None, seconds(20)).await?.well("kubectl annotate").map(drop)
}

/// Asks, and asks again where that was refused because something was amiss for a moment, as the refusal says, until what was asked for
/// is so.
async fn asked(
    group: &Group<'_>,
    (name, value): (&str, &str),
    what: &str,
    so: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    eventually(what, seconds(90), async || {
        let Err(not_yet) = so().await else { return Ok(()) };
        let object = group.get().await?;
        if !object.annotations().keys().any(|key| [name, UNDER_WAY].contains(&key.as_str())) {
            annotate(group, name, value).await?;
        }
        Err(not_yet)
    })
    .await
}

/// The request is taken or refused: its annotation is gone, and so is what was under way.
async fn answered(group: &Group<'_>) -> Result<()> {
    eventually("nothing is asked for or under way any more", seconds(60), async || {
        let object = group.get().await?;
        let left: Vec<&String> = object
            .annotations()
            .keys()
            .filter(|name| [TEST_FAILOVER, REBOOT, UNDER_WAY].contains(&name.as_str()))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

async fn tested(group: &Group<'_>) -> Result<()> {
    let mut keys = Keys::of(group, 1);
    keys.fill(300).await?;
    let old = group.primary_of("0001").await?;
    let run = group.view(&old).await?.run_id;
    let writer = Writer::start(group, "0001", false).await?;
    asked(group, (TEST_FAILOVER, "0001"), "another node is the primary", async || {
        let now = group.primary_of("0001").await?.name;
        ensure!(now != old.name, "it is still {now}");
        Ok(())
    })
    .await?;
    group.event("TestFailover", seconds(20)).await?;
    let told = group.event("FailoverComplete", seconds(30)).await?;
    ensure!(told.contains("cause: handover") && told.contains("promote"), "no timeline: {told}");
    group.story.say(told);
    answered(group).await?;
    let new = group.primary_of("0001").await?;
    ensure!(new.name != old.name, "{} is still the primary", old.name);
    group.is_replica(&old.name, seconds(60)).await?;
    ensure!(
        group.view(&group.node(&old.name).await?).await?.run_id != run,
        "the old primary's engine runs on"
    );
    group.settled(seconds(60)).await?;
    let written = writer.stop(group, "0001").await?;
    ensure!(written.longest_gap < seconds(3), "no write for {} ms", written.longest_gap.as_millis());
    keys.all_there().await?;
    let pods: Vec<String> = group.nodes().await?.into_iter().map(|node| node.pod_uid).collect();
    ensure!(pods.contains(&old.pod_uid), "a pod was replaced");
    group.no_event("DataLost").await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn testfailover_promotes_a_replica_starts_the_old_primary_again_and_loses_nothing() -> Result<()> {
    tell("test-failover", Sharing::SideBySide, seconds(240), async |story| {
        let enabled = Group::apply(story, "tested", &clustered(1, 1)).await?;
        let plain = Group::apply(story, "tested-plain", &replicated(2)).await?;
        for group in [&enabled, &plain] {
            group.settled(seconds(90)).await?;
            tested(group).await?;
        }
        let before = enabled.terms().await?;
        annotate(&enabled, TEST_FAILOVER, "0007").await?;
        let words = enabled.event("NodeGroupNotFound", seconds(20)).await?;
        ensure!(words.contains("0007"), "{words}");
        answered(&enabled).await?;
        ensure!(enabled.terms().await? == before, "a refused test changed the terms");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_node_is_rebooted_by_kubectl_and_an_only_copy_without_a_volume_is_not() -> Result<()> {
    tell("reboot", Sharing::SideBySide, seconds(240), async |story| {
        let group = Group::apply(story, "rebooted", &clustered(1, 1)).await?;
        let lone = Group::apply(story, "lone", &clustered(1, 0)).await?;
        group.settled(seconds(90)).await?;
        lone.settled(seconds(90)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(300).await?;
        let replica = group.replicas_of("0001").await?.pop().context("no replica")?;
        let primary = group.primary_of("0001").await?;
        let run = group.view(&replica).await?.run_id;
        asked(&group, (REBOOT, &replica.name), "the replica's engine is another one", async || {
            ensure!(group.view(&group.node(&replica.name).await?).await?.run_id != run, "not yet");
            Ok(())
        })
        .await?;
        answered(&group).await?;
        group.settled(seconds(60)).await?;
        ensure!(
            group.primary_of("0001").await?.name == primary.name,
            "the reboot of a replica moved the primary"
        );
        asked(&group, (REBOOT, &primary.name), "the primary has handed over", async || {
            ensure!(group.primary_of("0001").await?.name == replica.name, "not yet");
            Ok(())
        })
        .await?;
        answered(&group).await?;
        group.settled(seconds(60)).await?;
        keys.all_there().await?;
        let node = lone.primary_of("0001").await?;
        let run = lone.view(&node).await?.run_id;
        annotate(&lone, REBOOT, &node.name).await?;
        lone.event("InvalidReplicationGroupState", seconds(20)).await?;
        answered(&lone).await?;
        ensure!(lone.view(&node).await?.run_id == run, "the only copy was rebooted");
        Ok(())
    })
    .await
}

async fn has_the_role(group: &Group<'_>, node: &str, limit: std::time::Duration) -> Result<()> {
    eventually(&format!("{node} has the role"), limit, async || {
        let primary = group.primary_of("0001").await?.name;
        ensure!(primary == node, "{primary} has it");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn without_automatic_failover_the_role_goes_back_and_is_moved_by_primary_cluster_id() -> Result<()> {
    tell("no-failover", Sharing::SideBySide, seconds(240), async |story| {
        let shape = json!({ "numCacheClusters": 2, "automaticFailoverEnabled": false });
        let group = Group::apply(story, "steady", &spec(shape)).await?;
        group.settled(seconds(90)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(300).await?;
        let (home, away) = (group.primary_of("0001").await?, group.replicas_of("0001").await?.remove(0));
        let terms = group.terms().await?;
        Kill::Engine.strike(&group, &home).await?;
        group.event("FailoverComplete", seconds(60)).await?;
        eventually("the role was away and is back", seconds(90), async || {
            let now = group.terms().await?;
            ensure!(now.first().map(|term| term.1) >= terms.first().map(|term| term.1.map(|n| n + 2)), "{now:?}");
            Ok(())
        })
        .await?;
        has_the_role(&group, &home.name, seconds(60)).await?;
        group.settled(seconds(60)).await?;
        keys.all_there().await?;

        let writer = Writer::start(&group, "0001", false).await?;
        group.change(&json!({ "primaryClusterId": away.name })).await?;
        has_the_role(&group, &away.name, seconds(60)).await?;
        group.settled(seconds(60)).await?;
        writer.stop(&group, "0001").await?;
        keys.all_there().await?;
        let refused = Group::refused(
            story,
            "moved",
            &spec(json!({ "numCacheClusters": 2, "automaticFailoverEnabled": true, "primaryClusterId": "moved-001" })),
        )
        .await?;
        ensure!(refused.contains("needs automaticFailoverEnabled: false"), "{refused}");
        group.no_event("DataLost").await
    })
    .await
}
