//! P1 at length: ten kills in each way, with one shard and with three, volatile and with volumes.

use crate::support::group::{clustered, stored};
use crate::support::kills::primaries_are_killed;
use crate::support::{Group, Kill, Sharing, seconds, tell};
use anyhow::{Result, ensure};

async fn killed(kill: Kill, shards: usize, volumes: bool) -> Result<()> {
    let way = match kill {
        Kill::Engine => "engine",
        Kill::Agent => "agent",
        Kill::OutOfMemory => "memory",
    };
    let name = format!("ten-{way}-{shards}{}", if volumes { "-stored" } else { "" });
    // The kubelet's back-off for containers that end again and again grows to minutes.
    tell(&name, Sharing::SideBySide, seconds(2_400), async |story| {
        let spec = clustered(shards, 1);
        let group = Group::apply(story, "killed", &if volumes { stored(spec) } else { spec }).await?;
        group.settled(seconds(120)).await?;
        primaries_are_killed(&group, &[kill; 10]).await?;
        // The agent starts the engine again at once, so that nobody would notice if it did not tell.
        if kill != Kill::Agent && shards == 1 {
            let message = group.degraded("CrashLooping", seconds(30)).await?;
            let how = if kill == Kill::Engine { "signal 9" } else { "out of memory" };
            ensure!(message.contains(how), "{message}");
        }
        Ok(())
    })
    .await
}

macro_rules! stories {
    ($($name:ident: $kill:ident $shards:literal $volumes:literal,)+) => {
        $(
            #[tokio::test]
            #[ignore = "needs a cluster with the operator"]
            async fn $name() -> Result<()> {
                killed(Kill::$kill, $shards, $volumes).await
            }
        )+
    };
}

stories! {
    p1_one_shards_engine_is_killed_ten_times_and_no_key_is_lost: Engine 1 false,
    p1_one_shards_agent_is_killed_ten_times_and_no_key_is_lost: Agent 1 false,
    p1_one_shard_runs_out_of_memory_ten_times_and_no_key_is_lost: OutOfMemory 1 false,
    p1_one_stored_shards_engine_is_killed_ten_times_and_no_key_is_lost: Engine 1 true,
    p1_one_stored_shards_agent_is_killed_ten_times_and_no_key_is_lost: Agent 1 true,
    p1_one_stored_shard_runs_out_of_memory_ten_times_and_no_key_is_lost: OutOfMemory 1 true,
    p1_three_shards_engines_are_killed_ten_times_and_no_key_is_lost: Engine 3 false,
    p1_three_shards_agents_are_killed_ten_times_and_no_key_is_lost: Agent 3 false,
    p1_three_shards_run_out_of_memory_ten_times_and_no_key_is_lost: OutOfMemory 3 false,
    p1_three_stored_shards_engines_are_killed_ten_times_and_no_key_is_lost: Engine 3 true,
    p1_three_stored_shards_agents_are_killed_ten_times_and_no_key_is_lost: Agent 3 true,
    p1_three_stored_shards_run_out_of_memory_ten_times_and_no_key_is_lost: OutOfMemory 3 true,
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p1_primaries_are_killed_while_their_replicas_sync_ten_times() -> Result<()> {
    tell("ten-during-sync", Sharing::SideBySide, seconds(1_500), async |story| {
        crate::support::kills::killed_during_the_sync(story, 10).await
    })
    .await
}
