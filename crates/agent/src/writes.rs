//! Pausing the clients' writes: for the operator, for a while, and for the guard, until a witness is heard.
//!
//! `CLIENT PAUSE … WRITE` where the version has it. Before 6.2 a pause would stop the agent's own commands, too; there
//! an impossible `min-replicas-to-write` refuses writes instead.

use crate::client::{Client, EngineError};
use crate::node::{Life, Node};
use crate::state::{Fence, GUARD_PAUSE_MS};
use crate::version::Version;
use kagami_protocol::Boot;
use std::sync::Arc;
use std::time::Duration;

const WITHIN: Duration = Duration::from_millis(500);

struct Hand {
    boot: Boot,
    client: Arc<Client>,
    version: Arc<Version>,
}

fn hand(life: &Life) -> Hand {
    Hand { boot: life.boot.clone(), client: life.client.clone(), version: life.version.clone() }
}

impl Hand {
    async fn pause(&self, node: &Node, ms: u64) -> Result<(), EngineError> {
        if self.version.has_write_pause() {
            self.client.text(&["CLIENT", "PAUSE", &ms.to_string(), "WRITE"], WITHIN).await?;
            return Ok(());
        }
        let known = node.with_life(&self.boot, |life| life.min_replicas.is_some()).unwrap_or(false);
        if !known {
            let before = self.client.call(&["CONFIG", "GET", "min-replicas-to-write"], WITHIN).await?;
            let before = redis::from_redis_value::<Vec<String>>(before)
                .ok()
                .and_then(|pair| pair.into_iter().nth(1))
                .unwrap_or_else(|| "0".into());
            node.with_life(&self.boot, |life| life.min_replicas = Some(before));
        }
        self.client.text(&["CONFIG", "SET", "min-replicas-to-write", "100"], WITHIN).await?;
        Ok(())
    }

    async fn resume(&self, node: &Node) -> Result<(), EngineError> {
        if self.version.has_write_pause() {
            self.client.text(&["CLIENT", "UNPAUSE"], WITHIN).await?;
            return Ok(());
        }
        let before = node.with_life(&self.boot, |life| life.min_replicas.clone()).flatten();
        if let Some(before) = before {
            self.client.text(&["CONFIG", "SET", "min-replicas-to-write", &before], WITHIN).await?;
            node.with_life(&self.boot, |life| life.min_replicas = None);
        }
        Ok(())
    }
}

/// The operator's pause.
pub(crate) async fn pause(node: &Node, ms: u64) -> Result<(), EngineError> {
    let Some(hand) = node.state().life.as_ref().map(hand) else { return Ok(()) };
    // Counted from before, so that it is never believed to last longer than it does.
    let until_ms = node.now_ms() + ms;
    hand.pause(node, ms).await?;
    node.with_life(&hand.boot, |life| life.operator_pause_until_ms = until_ms);
    Ok(())
}

/// Ends the operator's pause, unless the guard keeps writes paused. Says whether writes go on.
pub(crate) async fn resume(node: &Node) -> Result<bool, EngineError> {
    let hand = {
        let mut state = node.state();
        if !state.resume() {
            return Ok(false);
        }
        let Some(life) = &state.life else { return Ok(false) };
        hand(life)
    };
    hand.resume(node).await?;
    Ok(true)
}

/// A replica refuses writes by itself: clients should learn that at once, and not after the pause.
pub(crate) async fn end_pause_of_a_replica(node: &Node) {
    let hand = {
        let mut state = node.state();
        if !state.ends_pause_of_a_replica() {
            return;
        }
        let Some(life) = &state.life else { return };
        hand(life)
    };
    if let Err(error) = hand.resume(node).await {
        tracing::warn!(%error, "writes could not be resumed");
    }
}

/// Brings the engine to what the guard says; called on each of its ticks.
pub(crate) async fn follow_guard(node: &Node) {
    let now = node.now_ms();
    let (step, hand) = {
        let state = node.state();
        let Some(life) = &state.life else { return };
        (state.fence(now), hand(life))
    };
    match step {
        Fence::Rest => {}
        Fence::Pause { again } => fence(node, &hand, again, now).await,
        Fence::Resume => unfence(node, &hand).await,
        Fence::Expired => {
            if let Err(error) = hand.resume(node).await {
                tracing::warn!(%error, "writes could not be resumed");
            }
        }
    }
}

async fn fence(node: &Node, hand: &Hand, already: bool, now: u64) {
    match hand.pause(node, GUARD_PAUSE_MS).await {
        Ok(()) => {
            node.with_life(&hand.boot, |life| {
                (life.guard_pause_until_ms, life.pause_unsure) = (now + GUARD_PAUSE_MS, false);
            });
            if !already {
                tracing::warn!("no witness was heard: writes are paused");
                node.change(|state| state.fenced = true);
                node.fences.send_modify(|count| *count += 1);
            }
        }
        Err(error) => {
            let told = node.with_life(&hand.boot, |life| {
                let before = life.pause_unsure;
                life.pause_unsure |= !error.is_answer();
                before
            });
            if told != Some(true) {
                tracing::error!(%error, "writes could not be paused");
            }
        }
    }
}

async fn unfence(node: &Node, hand: &Hand) {
    match hand.resume(node).await {
        Ok(()) => {
            tracing::info!("a witness was heard: writes go on");
            node.with_life(&hand.boot, |life| (life.guard_pause_until_ms, life.pause_unsure) = (0, false));
            node.change(|state| state.fenced = false);
        }
        Err(error) => tracing::error!(%error, "writes could not be resumed"),
    }
}
