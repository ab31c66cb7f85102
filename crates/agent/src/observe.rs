//! Looking at the engine: often while something moves, seldom at rest, never waiting long.

use crate::client::{Client, EngineError};
use crate::cluster;
use crate::node::{Life, Node, wall_ms};
use crate::persistence::Persistence;
use crate::state::Seen;
use crate::volume;
use crate::writes;
use kagami_agent::whole::Change;
use kagami_protocol::engine_text::{self, Fields};
use kagami_protocol::{AGENT_USER, Boot, ClusterView, REPLICATION_USER};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an engine may take to answer a look.
const WITHIN: Duration = Duration::from_millis(500);
/// How often the pulse asks, and when it gives a connection up: long after the engine was called hung.
const PULSE_EVERY: Duration = Duration::from_millis(250);
const PULSE_WITHIN: Duration = Duration::from_secs(600);
const MOVING_MS: u64 = 20;
const RESTING_MS: u64 = 200;
/// How many times as long as the last look took the next one waits, up to [`RESTING_MS`]: on a machine on which many nodes move
/// at once, looks that wait for each other would be most of what there is to wait for.
const BREATH: u64 = 8;
/// Something that moves for longer than this is looked at less often.
const MOVING_LONG_MS: u64 = 10_000;

/// Looks until the end of the agent.
pub(crate) async fn run(node: Arc<Node>) {
    let mut moving_since = None;
    loop {
        node.alive_ms.store(node.now_ms(), Ordering::Relaxed);
        let began = node.now_ms();
        let looked = look(&node).await.is_some();
        let took_ms = node.now_ms() - began;
        if looked {
            // An order in progress has its own idea of what comes next.
            if let Ok(_no_order) = node.orders.try_lock() {
                settle(&node).await;
            }
        }
        node.publish();
        let now = node.now_ms();
        let pause = if moving(&node) {
            let since = *moving_since.get_or_insert(now);
            let often = if now - since > MOVING_LONG_MS { RESTING_MS / 2 } else { MOVING_MS };
            often.max(took_ms * BREATH).min(RESTING_MS)
        } else {
            moving_since = None;
            RESTING_MS
        };
        let _ = tokio::time::timeout(Duration::from_millis(pause), node.wake.notified()).await;
    }
}

/// Asks one question after another on a connection of its own and waits for each answer for as long as it takes, until the end
/// of that life: an engine whose event loop turns slowly misses the deadlines of every look and serves its clients all the same.
pub(crate) async fn pulse(node: Arc<Node>, boot: Boot, client: Client) {
    while node.lives(&boot) {
        if EngineError::answered(&client.call(&["PING"], PULSE_WITHIN).await) {
            node.with_life(&boot, |life| life.unanswered_ms = 0);
        }
        tokio::time::sleep(PULSE_EVERY).await;
    }
}

fn moving(node: &Node) -> bool {
    node.state().moving(node.now_ms())
}

/// Looks once and takes in what was seen. `None` if no engine runs or it did not answer.
pub(crate) async fn look(node: &Node) -> Option<()> {
    let _in_turn = node.looking.lock().await;
    let (boot, client, in_cluster, known_version) = {
        let state = node.state();
        let life = state.life.as_ref()?;
        let version =
            state.view.as_ref().map(|view| view.version.clone()).filter(|version| !version.is_empty());
        (life.boot.clone(), life.client.clone(), life.cluster, version)
    };
    let (sent_ms, wall_sent_ms) = (node.now_ms(), wall_ms());
    let info = async |section: &'static str| client.text(&["INFO", section], WITHIN).await;
    let server = async {
        match known_version {
            Some(_) => Ok(String::new()),
            None => info("server").await,
        }
    };
    let cluster_text = async {
        if !in_cluster {
            return Ok(None);
        }
        let (info, nodes) = futures::join!(
            client.text(&["CLUSTER", "INFO"], WITHIN),
            client.text(&["CLUSTER", "NODES"], WITHIN)
        );
        Ok::<_, EngineError>(Some((info?, nodes?)))
    };
    let (server, replication, memory, persistence, keyspace, cluster_text) = futures::join!(
        server,
        info("replication"),
        info("memory"),
        info("persistence"),
        info("keyspace"),
        cluster_text
    );
    let answered = [&replication, &memory, &persistence, &keyspace].into_iter().any(EngineError::answered);
    let (server, replication, persistence) = match (server, replication, persistence) {
        (Ok(server), Ok(replication), Ok(persistence)) => (server, replication, persistence),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            missed(node, &boot, &error, answered);
            return None;
        }
    };
    let mut fields = Fields::read(&server);
    for section in [&replication, &persistence] {
        fields.add(section);
    }
    for section in [memory, keyspace].iter().flatten() {
        fields.add(section);
    }
    let mut view = engine_text::engine_view(&fields);
    if let Some(version) = known_version {
        view.version = version;
    }
    // While loading some versions refuse these; then there is nothing to say about the cluster.
    view.cluster = cluster_text.ok().flatten().map(|(info, nodes)| cluster_view(&info, &nodes).into());
    let persistence = Persistence::read(&fields);
    let wall_answered_ms = wall_ms();
    let to_count = node.with_life(&boot, |life| life.open_slots.to_count(node.now_ms(), &view));
    let counted = cluster::count_keys(&client, &to_count.unwrap_or_default(), WITHIN).await;
    let counted = counted.unwrap_or_default();
    let seen = Seen { view, persistence, counted, sent_ms, wall_sent_ms, wall_answered_ms };
    take_in(node, &boot, seen);
    Some(())
}

fn cluster_view(info: &str, nodes: &str) -> ClusterView {
    let info = engine_text::cluster_info(info);
    let nodes = engine_text::cluster_nodes(nodes);
    ClusterView {
        my_id: nodes.iter().find(|node| node.myself).map(|node| node.id.clone()).unwrap_or_default(),
        ok: info.ok,
        current_epoch: info.current_epoch,
        my_epoch: info.my_epoch,
        nodes,
    }
}

fn missed(node: &Node, boot: &Boot, error: &EngineError, any_answer: bool) {
    let now = node.now_ms();
    let silent = node.change(|state| {
        let silent = state.missed(boot, now, error.is_answer(), &error.to_string());
        if let Some(life) = state.life.as_mut().filter(|life| any_answer && life.boot == *boot) {
            // Too slow for a view, and not hung.
            life.unanswered_ms = 0;
        }
        silent
    });
    if let Some(silent_ms) = silent {
        tracing::warn!(%error, silent_ms, "the engine does not answer");
    }
}

fn take_in(node: &Node, boot: &Boot, seen: Seen) {
    let now = node.now_ms();
    let data_dir = &node.settings.data_dir;
    let (offset, replid) = (seen.view.offset, seen.view.replid.clone());
    node.change(|state| {
        let before = state.role();
        let kept =
            |life: &Life| volume::snapshot_written_at(data_dir).is_some_and(|at| at >= life.started_wall);
        let Some(taken) = state.take_in(boot, seen, now, kept) else { return };
        if taken.change == Change::InSync {
            tracing::info!(offset, replid, "in sync");
        }
        if before.is_some() && taken.role_changed {
            tracing::info!(role = ?state.role(), offset, "the engine has another role");
        }
        if taken.elected {
            tracing::info!("elected by the engines; silence pauses no writes until the operator confirms");
        }
        if taken.worth_a_note() {
            node.write_down.notify_one();
        }
        state.has_data = state.has_data || volume::has_data(data_dir);
    });
}

/// Does what follows from what was seen.
pub(crate) async fn settle(node: &Node) {
    commands_called(node).await;
    source(node).await;
    electable(node).await;
    stale_reads(node).await;
    writes::end_pause_of_a_replica(node).await;
    forget_previous(node).await;
}

/// What was called before the first look at a primary: it may have been a write.
async fn commands_called(node: &Node) {
    let Some((boot, client)) = ({
        let state = node.state();
        let life = state.life.as_ref().filter(|life| life.unwritten.asks());
        life.map(|life| (life.boot.clone(), life.client.clone()))
    }) else {
        return;
    };
    if let Ok(said) = client.text(&["INFO", "commandstats"], WITHIN).await {
        node.with_life(&boot, |life| life.unwritten.called(&said));
    }
}

/// Lets replicas log in, or turns them away, as [`crate::state::State::source`] says.
pub(crate) async fn source(node: &Node) {
    let Some((boot, client, open)) = ({
        let state = node.state();
        state
            .source()
            .zip(state.life.as_ref())
            .map(|(open, life)| (life.boot.clone(), life.client.clone(), open))
    }) else {
        return;
    };
    if let Err(error) = set_source(node, &boot, &client, open).await {
        tracing::warn!(%error, open, "the replication user could not be changed");
    }
}

/// Lets replicas log in, or not.
pub(crate) async fn set_source(
    node: &Node,
    boot: &Boot,
    client: &crate::client::Client,
    open: bool,
) -> Result<(), EngineError> {
    let word = if open { "on" } else { "off" };
    let set = client.text(&["ACL", "SETUSER", REPLICATION_USER, word], WITHIN).await;
    node.with_life(boot, |life| life.source_open = set.is_ok().then_some(open));
    set.map(|_| tracing::info!(open, user = REPLICATION_USER, by = AGENT_USER, "replication"))
}

/// Lets the engines elect this one, or not, as [`crate::state::State::electable`] says.
async fn electable(node: &Node) {
    let Some((boot, client, may)) = ({
        let state = node.state();
        let change = state.electable().zip(state.life.as_ref());
        change.map(|(may, life)| (life.boot.clone(), life.client.clone(), may))
    }) else {
        return;
    };
    let word = if may { "no" } else { "yes" };
    let set = client.text(&["CONFIG", "SET", crate::config::NO_FAILOVER, word], WITHIN).await;
    if let Err(error) = &set {
        tracing::warn!(%error, may, "whether it may be elected could not be changed");
    }
    node.with_life(&boot, |life| life.electable = set.is_ok().then_some(may));
}

/// A replica that was in sync once may answer from its copy when the link is down.
async fn stale_reads(node: &Node) {
    let Some((boot, client, value)) = ({
        let state = node.state();
        let on = state.stale_reads_on();
        state.life.as_ref().filter(|_| on).map(|life| {
            let value = crate::config::directive(&life.start, "replica-serve-stale-data").unwrap_or("yes");
            (life.boot.clone(), life.client.clone(), value.to_owned())
        })
    }) else {
        return;
    };
    if client.text(&["CONFIG", "SET", "replica-serve-stale-data", &value], WITHIN).await.is_ok() {
        node.with_life(&boot, |life| life.stale_reads_off = false);
    }
}

/// What was put aside is superseded by a copy in sync.
async fn forget_previous(node: &Node) {
    let Some(boot) = ({
        let state = node.state();
        state.life.as_ref().filter(|_| state.supersedes_previous()).map(|life| life.boot.clone())
    }) else {
        return;
    };
    // The note says that the copy is whole before the other one goes.
    if let Err(error) = node.store().await {
        tracing::error!(%error, "the note beside the data could not be written");
        return;
    }
    let data_dir = node.settings.data_dir.clone();
    let forgotten = tokio::task::spawn_blocking(move || volume::forget_previous(&data_dir)).await;
    match forgotten {
        Ok(Ok(deleted)) => {
            for path in deleted {
                tracing::info!(path = %path.display(), "in sync: the data that was put aside is deleted");
            }
            node.with_life(&boot, |life| life.previous_forgotten = true);
            node.change(|state| state.kept = volume::kept(&node.settings.data_dir));
        }
        Ok(Err(error)) => tracing::warn!(%error, "the data that was put aside could not be deleted"),
        Err(error) => tracing::warn!(%error, "the data that was put aside could not be deleted"),
    }
}
