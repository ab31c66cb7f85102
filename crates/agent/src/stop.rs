//! The end: the primary role is handed over, the data is flushed, and the operator is told.

use crate::client::Client;
use crate::config;
use crate::node::Node;
use crate::observe;
use kagami_protocol::Boot;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

const POLL_EVERY: Duration = Duration::from_millis(20);
const LAST_ORDER_WITHIN: Duration = Duration::from_secs(2);
const KILLED_WITHIN: Duration = Duration::from_secs(2);
const GOODBYE_WITHIN: Duration = Duration::from_millis(150);

/// Waits for the order to end. The handlers are there as soon as this is first polled: the first process of a
/// container has no default ones.
pub(crate) async fn asked() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Ends the node in order.
pub(crate) async fn stop(node: &Arc<Node>, why: &str) {
    tracing::info!(why, "terminating");
    node.change(|state| state.terminating = true);
    // The last look may be a second old, and a replica have come back since.
    observe::look(node).await;
    hand_over(node).await;
    shut_down(node).await;
    if let Err(error) = node.store().await {
        tracing::error!(%error, "the note beside the data could not be written");
    }
    node.publish();
    node.closing.send_replace(Some("terminating".into()));
    tokio::time::sleep(GOODBYE_WITHIN).await;
    tracing::info!("terminated");
}

/// Keeps the engine while it is a primary that another could follow, until the operator has made it a replica.
async fn hand_over(node: &Node) {
    let until = Instant::now() + Duration::from_millis(node.settings.handover_ms);
    let mut waited = false;
    while Instant::now() < until {
        let must_wait = node.state().hands_over_first();
        if !must_wait {
            if waited {
                tracing::info!("the primary role is handed over");
            }
            return;
        }
        waited = true;
        node.expect_movement(200);
        tokio::time::sleep(POLL_EVERY).await;
    }
    if waited {
        tracing::warn!(waited_ms = node.settings.handover_ms, "the primary role was not handed over in time");
    }
}

async fn shut_down(node: &Node) {
    // No order is carried out any more; one that hangs is not waited for.
    let _last = tokio::time::timeout(LAST_ORDER_WITHIN, node.orders.lock()).await;
    end_engine(node).await;
}

/// Ends the engine, if one runs, with its data flushed where that is worth something.
pub(crate) async fn end_engine(node: &Node) {
    let Some((boot, client, append_only, pausable)) = ({
        let state = node.state();
        state.life.as_ref().map(|life| {
            let append_only =
                config::directive(&life.start, "appendonly").is_some_and(|value| value == "yes");
            (life.boot.clone(), life.client.clone(), append_only, life.version.has_write_pause())
        })
    }) else {
        return;
    };
    // So that the note says how far the data is that the engine leaves behind.
    if pausable {
        let ms = node.settings.shutdown_ms.to_string();
        let _ = client.text(&["CLIENT", "PAUSE", &ms, "WRITE"], Duration::from_millis(500)).await;
    }
    observe::look(node).await;
    let saves = node.state().shuts_down(node.settings.persistent);
    node.publish();
    let words: &[&str] = match (saves, append_only) {
        (true, true) => &["SHUTDOWN"],
        (true, false) => &["SHUTDOWN", "SAVE"],
        (false, _) => &["SHUTDOWN", "NOSAVE"],
    };
    if ended(node, &boot, &client, words, Duration::from_millis(node.settings.shutdown_ms)).await {
        return;
    }
    tracing::error!("the engine did not shut down in time and is killed");
    if saves && !append_only {
        // It was not saved after all; saying too little is safe.
        node.with_life(&boot, |life| life.durable.equal_at(0));
    }
    kill_engine(node, &boot).await;
}

/// Kills the engine. Says whether its life is over; a process that waits in the kernel ends only once it returns from there.
pub(crate) async fn kill_engine(node: &Node, boot: &Boot) -> bool {
    node.kill(boot);
    let until = Instant::now() + KILLED_WITHIN;
    while node.lives(boot) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    !node.lives(boot)
}

/// Sends the last command and waits until the process is gone.
async fn ended(node: &Node, boot: &Boot, client: &Client, words: &[&str], within: Duration) -> bool {
    let until = Instant::now() + within;
    let gone = || !node.lives(boot);
    let shutdown = async {
        while !gone() && Instant::now() < until {
            // An error is an answer too (a snapshot that failed); a closed connection is what is hoped for.
            match client.text(words, within).await {
                Err(error) if error.is_answer() => {
                    tracing::warn!(%error, "the engine refuses to shut down");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let watch = async {
        while !gone() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _ = tokio::time::timeout(within, async {
        tokio::select! {
            () = shutdown => {}
            () = watch => {}
        }
    })
    .await;
    gone()
}
