//! P1: a primary is killed, again and again, and no key that a live replica held is lost.

use super::group::{ENGINE_PROCESS, Group, Node, clustered};
use super::keys::{Keys, tag};
use super::story::Story;
use super::tools::{eventually, seconds};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Instant;

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// SIGKILL to the engine; its agent lives on.
    Engine,
    /// SIGKILL to the agent, which is PID 1, so that the container ends with it.
    Agent,
    /// A command that needs more memory than the container may have.
    OutOfMemory,
}

/// More than any node of a story has, and less than an engine refuses (512 MB).
const TOO_MUCH_BYTES: &str = "500000000";

impl Kill {
    pub(crate) const ALL: [Self; 3] = [Self::Engine, Self::Agent, Self::OutOfMemory];

    /// Kills a node's engine and makes sure that it is dead.
    pub(crate) async fn strike(self, group: &Group<'_>, node: &Node) -> Result<()> {
        let before = group.view(node).await?;
        match self {
            Self::Engine => group.signal(node, ENGINE_PROCESS, "KILL").await?,
            Self::Agent => group.signal(node, "pid1", "KILL").await?,
            Self::OutOfMemory => {
                let key = format!("{{{}}}:huge", tag(&before.slots)?);
                let mut connection = group.connect(node).await?.patience(seconds(20));
                let answer = connection.command(&["SETRANGE", &key, TOO_MUCH_BYTES, "x"]).await;
                ensure!(answer.is_err(), "{} had the memory: {answer:?}", node.name);
            }
        }
        eventually(&format!("{} is dead", node.name), seconds(10), async || {
            if let Ok(now) = group.view(node).await {
                ensure!(now.run_id != before.run_id, "its engine lives on");
            }
            Ok(())
        })
        .await
    }
}

/// Waits until a shard has a primary that accepts writes.
pub(crate) async fn serves_again(group: &Group<'_>, shard: &str) -> Result<Node> {
    eventually("the shard accepts writes again", seconds(90), async || {
        let primary = group.primary_of(shard).await?;
        let key = format!("{{{}}}:probe", tag(&group.view(&primary).await?.slots)?);
        let answer = group.ask(&primary, &["SET", &key, "1"]).await?;
        ensure!(answer == super::engine::Reply::Text("OK".into()), "{answer:?}");
        Ok(primary)
    })
    .await
}

/// Kills the primary of a shard of the story's choice, as soon as a replica is in sync again, as often as there are kills.
pub(crate) async fn primaries_are_killed(group: &Group<'_>, kills: &[Kill]) -> Result<()> {
    let story = group.story;
    let mut keys = Keys::of(group, 1);
    keys.fill(1_000).await?;
    let shards = group.shards().await?;
    for (round, kill) in kills.iter().enumerate() {
        let shard = &shards[usize::try_from(story.chance(shards.len() as u64))?];
        let old = group.primary_of(shard).await?;
        // Acknowledged by a replica: from here on nothing of this may be lost.
        keys.fill(100).await?;
        let began = Instant::now();
        kill.strike(group, &old).await?;
        let new = serves_again(group, shard).await?;
        let writes_ms = began.elapsed().as_millis();
        ensure!(
            new.name != old.name,
            "{} was the primary, died, and serves again although a replica in sync was alive",
            old.name
        );
        keys.all_there().await?;
        group.is_replica(&old.name, seconds(150)).await?;
        story.say(format!(
            "kill {} of {} ({kill:?}) of {}: {} accepts writes after {writes_ms} ms, the old one is a replica after {} ms, {} keys kept",
            round + 1,
            kills.len(),
            old.name,
            new.name,
            began.elapsed().as_millis(),
            keys.len(),
        ));
    }
    keys.all_there().await?;
    group.no_event("DataLost").await?;
    group.whole(seconds(60)).await?;
    keys.all_there().await
}

/// What is known of the replica at the moment of the kill decides what may be lost.
pub(crate) async fn killed_during_the_sync(story: &Story, rounds: usize) -> Result<()> {
    let mut spec = clustered(1, 1);
    spec["cacheNodeType"] = json!("cache.m6g.large");
    let group = Group::apply(story, "syncing", &spec).await?;
    group.settled(seconds(60)).await?;
    let mut caught = 0;
    for round in 1..=rounds {
        let mut keys = Keys::of(&group, 1);
        // About 40 MB, so that a sync takes a while.
        keys.fill_values(4_000, &"x".repeat(10_000)).await?;
        let losses = group.events_sent("DataLost").await?;
        let primary = group.primary_of("0001").await?;
        let replica = group.replicas_of("0001").await?.pop().context("no replica")?;
        group.signal(&replica, ENGINE_PROCESS, "KILL").await?;
        let before = eventually("the replica is on its way back", seconds(30), async || {
            let view = group.view(&replica).await?;
            ensure!(!view.primary || view.slots.is_empty(), "it is the primary");
            Ok(view)
        })
        .await;
        let complete = matches!(&before, Ok(view) if !view.primary && view.link_up && !view.syncing);
        caught += usize::from(!complete);
        Kill::Engine.strike(&group, &primary).await?;
        // The status may still be the one from before; the engines are asked first.
        serves_again(&group, "0001").await?;
        group.in_sync("0001", seconds(150)).await?;
        group.whole(seconds(60)).await?;
        let missing =
            eventually("every slot is served", seconds(60), async || keys.missing().await).await?.len();
        let told = group.events_sent("DataLost").await? > losses;
        story.say(format!(
            "round {round}: the replica was {}, {missing} of {} keys are lost, {} event DataLost",
            if complete { "whole" } else { "syncing" },
            keys.len(),
            if told { "an" } else { "no" }
        ));
        ensure!(missing == 0 || !complete, "P1: {missing} keys are lost although a live replica held them");
        ensure!((missing > 0) == told, "{missing} keys are lost and the event DataLost is {told}");
        // The next round begins with an empty group.
        let primary = group.primary_of("0001").await?;
        group.ask(&primary, &["FLUSHALL"]).await?.text()?;
    }
    story.say(format!("{caught} of {rounds} kills were during the sync"));
    Ok(())
}
