//! The operator goes, or its leader: what groups do meanwhile, and what is made good when there is one again.

use crate::support::group::{ENGINE_PROCESS, Node, clustered, replicated};
use crate::support::kills::serves_again;
use crate::support::tools::throughout;
use crate::support::{Group, Keys, Kill, Sharing, Story, eventually, operator, seconds, tell};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use std::time::{Duration, Instant};

/// The leader goes in some way; the other replica leads, and promotes when the next primary dies.
async fn led_by_the_other(
    story: &Story,
    within: Duration,
    go: impl AsyncFnOnce(&str) -> Result<()>,
) -> Result<()> {
    operator::well(story).await?;
    let group = Group::apply(story, "led", &clustered(1, 1)).await?;
    group.settled(seconds(60)).await?;
    let mut keys = Keys::of(&group, 1);
    keys.fill(500).await?;
    let leader = operator::leader(story).await?.name_any();
    go(&leader).await?;
    let began = Instant::now();
    let next = eventually("another pod leads", within, async || {
        let now = operator::leader(story).await?.name_any();
        ensure!(now != leader, "it is still {now}");
        Ok(now)
    })
    .await?;
    // The one that stood by, or the one that took the place of the one that went: whoever asked for the lease first.
    story.say(format!("{next} leads after {} ms", began.elapsed().as_millis()));
    let old = group.primary_of("0001").await?;
    Kill::Engine.strike(&group, &old).await?;
    let new = group.taken_over(&old, seconds(45)).await?;
    story.say(format!("{} took over", new.name));
    keys.all_there().await?;
    operator::well(story).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn the_leader_is_deleted_and_the_other_replica_handles_the_next_failover() -> Result<()> {
    tell("leader", Sharing::Alone, seconds(180), async |story| {
        led_by_the_other(story, seconds(30), async |leader| operator::delete(story, leader).await).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p5_the_leaders_process_is_killed_and_the_other_replica_handles_the_next_failover() -> Result<()> {
    tell("leader-killed", Sharing::Alone, seconds(180), async |story| {
        // It gives nothing back: the lease has to run out first.
        led_by_the_other(story, seconds(12), async |leader| operator::kill(story, leader).await).await
    })
    .await
}

/// Of a group whose primary has died, nobody serves: the replica stays one, and the dead engine is not started again.
async fn nobody_is_promoted(group: &Group<'_>, old: &Node) -> Result<()> {
    for node in group.shard(&old.shard).await? {
        if node.name == old.name {
            ensure!(group.view(&node).await.is_err(), "{} serves again", node.name);
        } else {
            ensure!(!group.view(&node).await?.primary, "{} was promoted", node.name);
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_p6_primaries_die_while_the_operator_is_away_and_three_shards_elect_and_fewer_wait_for_it()
-> Result<()> {
    tell("away", Sharing::Alone, seconds(400), async |story| {
        operator::well(story).await?;
        let three = Group::apply(story, "three", &clustered(3, 1)).await?;
        let two = Group::apply(story, "two", &clustered(2, 1)).await?;
        let one = Group::apply(story, "one", &clustered(1, 1)).await?;
        let plain = Group::apply(story, "plain", &replicated(2)).await?;
        let groups = [&three, &two, &one, &plain];
        let mut keys = Vec::new();
        let mut old = Vec::new();
        for group in groups {
            group.settled(seconds(120)).await?;
            let mut filled = Keys::of(group, 1);
            filled.fill(500).await?;
            keys.push(filled);
            old.push(group.primary_of("0001").await?);
        }
        let (elected, later) = operator::away(story, seconds(120), async || {
            for (group, node) in groups.iter().zip(&old) {
                group.signal(node, ENGINE_PROCESS, "KILL").await?;
            }
            let began = Instant::now();
            let elected = three.taken_over(&old[0], seconds(45)).await.context("P6")?;
            story.say(format!("{} was elected after {} ms", elected.name, began.elapsed().as_millis()));
            for shard in three.shards().await? {
                serves_again(&three, &shard).await.context("P6")?;
            }
            let mut later = Keys::of(&three, 0);
            later.fill(200).await.context("P6")?;
            let time = seconds(20).saturating_sub(began.elapsed()).max(seconds(5));
            throughout("one and two shards wait", time, async || {
                for (group, node) in groups.iter().zip(&old).skip(1) {
                    nobody_is_promoted(group, node).await.with_context(|| group.name.clone())?;
                }
                Ok(())
            })
            .await?;
            later.all_there().await?;
            Ok((elected, later))
        })
        .await?;
        for (group, node) in groups.iter().zip(&old) {
            group.taken_over(node, seconds(60)).await?;
            group.is_replica(&node.name, seconds(90)).await?;
            group.settled(seconds(90)).await?;
            group.no_event("DataLost").await?;
        }
        let adopted = three.primary_of("0001").await?;
        ensure!(adopted.name == elected.name, "{} was elected, and {} serves", elected.name, adopted.name);
        later.all_there().await?;
        for keys in &keys {
            keys.all_there().await?;
        }
        Ok(())
    })
    .await
}
