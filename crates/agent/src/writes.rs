//! Pausing the clients' writes: for the operator, for a while, and for the guard, until a witness is heard.
//!
//! `CLIENT PAUSE … WRITE` where the version has it. Before 6.2 a pause would stop the agent's own commands, too; there
//! an impossible `min-replicas-to-write` refuses writes instead.

use crate::client::{Client, EngineError};
use crate::node::{Life, Node};
use crate::version::Version;
use kagami_protocol::{Boot, Role};
use std::sync::Arc;
use std::time::Duration;

const WITHIN: Duration = Duration::from_millis(500);
/// How long a pause of the guard lasts if it is not renewed, and how much of it may pass until it is.
const GUARD_PAUSE_MS: u64 = 10_000;
const GUARD_RENEW_AFTER_MS: u64 = 2_000;

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
        let guarded = state.guard.fenced() || state.fenced;
        let Some(life) = state.life.as_mut() else { return Ok(false) };
        life.operator_pause_until_ms = 0;
        if guarded {
            return Ok(false);
        }
        hand(life)
    };
    hand.resume(node).await?;
    Ok(true)
}

/// A replica refuses writes by itself: clients should learn that at once, and not after the pause.
pub(crate) async fn end_pause_of_a_replica(node: &Node) {
    let hand = {
        let mut state = node.state();
        if state.role() != Some(Role::Replica) {
            return;
        }
        match state.life.as_mut() {
            Some(life) if life.operator_pause_until_ms != 0 => {
                life.operator_pause_until_ms = 0;
                hand(life)
            }
            _ => return,
        }
    };
    if let Err(error) = hand.resume(node).await {
        tracing::warn!(%error, "writes could not be resumed");
    }
}

/// Brings the engine to what the guard says; called on each of its ticks.
pub(crate) async fn follow_guard(node: &Node) {
    let now = node.now_ms();
    let (want, is, hand, renew, expired) = {
        let state = node.state();
        let want = state.guard.fenced();
        let Some(life) = &state.life else { return };
        let renew = life.guard_pause_until_ms < now + GUARD_PAUSE_MS - GUARD_RENEW_AFTER_MS;
        let expired = life.min_replicas.is_some() && life.operator_pause_until_ms <= now;
        (want, state.fenced, hand(life), renew, expired)
    };
    if want {
        if !is || renew {
            fence(node, &hand, is, now).await;
        }
    } else if is {
        unfence(node, &hand, now).await;
    } else if expired {
        // Before 6.2 the operator's pause does not end by itself.
        if let Err(error) = hand.resume(node).await {
            tracing::warn!(%error, "writes could not be resumed");
        }
    }
}

async fn fence(node: &Node, hand: &Hand, already: bool, now: u64) {
    match hand.pause(node, GUARD_PAUSE_MS).await {
        Ok(()) => {
            node.with_life(&hand.boot, |life| life.guard_pause_until_ms = now + GUARD_PAUSE_MS);
            if !already {
                tracing::warn!("no witness was heard: writes are paused");
                node.change(|state| state.fenced = true);
                node.fences.send_modify(|count| *count += 1);
            }
        }
        Err(error) => tracing::error!(%error, "writes could not be paused"),
    }
}

async fn unfence(node: &Node, hand: &Hand, now: u64) {
    let operator_until = node.with_life(&hand.boot, |life| life.operator_pause_until_ms).unwrap_or(0);
    if operator_until > now {
        // The operator's own pause goes on; the guard's ends with it, or is ended below on a later tick.
        return;
    }
    match hand.resume(node).await {
        Ok(()) => {
            tracing::info!("a witness was heard: writes go on");
            node.with_life(&hand.boot, |life| life.guard_pause_until_ms = 0);
            node.change(|state| state.fenced = false);
        }
        Err(error) => tracing::error!(%error, "writes could not be resumed"),
    }
}
