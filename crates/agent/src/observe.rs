//! Looking at the engine: often while something moves, seldom at rest, never waiting long.

use crate::client::EngineError;
use crate::guard::{Poll, Witness};
use crate::node::{Node, wall_ms};
use crate::volume;
use crate::whole::Change;
use crate::writes;
use kagami_protocol::engine_text::{self, Fields};
use kagami_protocol::{AGENT_USER, Boot, ClusterView, EngineState, EngineView, REPLICATION_USER, Role};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an engine may take to answer a look.
const WITHIN: Duration = Duration::from_millis(500);
/// After this long without an answer there is no view any more.
const SILENT_AFTER_MS: u64 = 2_000;
const MOVING_MS: u64 = 20;
const RESTING_MS: u64 = 200;
/// Something that moves for longer than this is looked at less often.
const MOVING_LONG_MS: u64 = 10_000;

/// Looks until the end of the agent.
pub(crate) async fn run(node: Arc<Node>) {
    let mut moving_since = None;
    loop {
        node.alive_ms.store(node.now_ms(), Ordering::Relaxed);
        if look(&node).await.is_some() {
            // An order in progress has its own idea of what comes next.
            if let Ok(_no_order) = node.orders.try_lock() {
                settle(&node).await;
            }
        }
        node.publish();
        let now = node.now_ms();
        let pause = if moving(&node) {
            let since = *moving_since.get_or_insert(now);
            if now - since > MOVING_LONG_MS { RESTING_MS / 2 } else { MOVING_MS }
        } else {
            moving_since = None;
            RESTING_MS
        };
        let _ = tokio::time::timeout(Duration::from_millis(pause), node.wake.notified()).await;
    }
}

fn moving(node: &Node) -> bool {
    let now = node.now_ms();
    let state = node.state();
    let Some(life) = &state.life else { return false };
    if state.engine != EngineState::Running || state.moving_until_ms > now {
        return true;
    }
    let Some(view) = &state.view else { return true };
    view.loading
        || !life.whole.complete()
        || view.link.as_ref().is_some_and(|link| !link.up || link.syncing)
        || view.cluster.as_ref().is_some_and(|cluster| !cluster.ok)
}

struct Seen {
    view: EngineView,
    persistence: Fields,
    sent_ms: u64,
    wall_sent_ms: i64,
    wall_answered_ms: i64,
}

/// Looks once and takes in what was seen. `None` if no engine runs or it did not answer.
pub(crate) async fn look(node: &Node) -> Option<()> {
    let _in_turn = node.looking.lock().await;
    let (boot, client, cluster, known_version) = {
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
        if !cluster {
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
    let (server, replication, persistence) = match (server, replication, persistence) {
        (Ok(server), Ok(replication), Ok(persistence)) => (server, replication, persistence),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            missed(node, &boot, &error);
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
    view.cluster = cluster_text.ok().flatten().map(|(info, nodes)| cluster_view(&info, &nodes));
    let seen = Seen { view, persistence: fields, sent_ms, wall_sent_ms, wall_answered_ms: wall_ms() };
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

fn missed(node: &Node, boot: &Boot, error: &EngineError) {
    let now = node.now_ms();
    node.change(|state| {
        let Some(life) = state.life.as_mut().filter(|life| life.boot == *boot) else { return };
        if error.is_answer() {
            life.heard_ms = now;
            return;
        }
        let silent_ms = now.saturating_sub(life.heard_ms);
        if state.engine == EngineState::Running && silent_ms > SILENT_AFTER_MS && state.view.is_some() {
            tracing::warn!(%error, silent_ms, "the engine does not answer");
            state.view = None;
            state.trouble = format!("the engine does not answer: {error}");
        }
    });
}

fn take_in(node: &Node, boot: &Boot, seen: Seen) {
    let now = node.now_ms();
    let data_dir = &node.settings.data_dir;
    let mut role_changed = false;
    node.change(|state| {
        let facts = state.facts();
        let Some(life) = state.life.as_mut().filter(|life| life.boot == *boot) else { return };
        let mut view = seen.view;
        life.heard_ms = now;
        let change = life.whole.look(&view);
        match change {
            Change::None => {}
            Change::Loaded => life.durable.equal_at(view.offset),
            Change::Replacing => life.durable.synced(0, false),
            Change::InSync => {
                // Received through a file, or straight into memory?
                let kept = volume::snapshot_written_at(data_dir).is_some_and(|at| at >= life.started_wall);
                // With an append-only file that snapshot is not what would be loaded.
                life.durable.synced(view.offset, kept && !seen.persistence.flag("aof_enabled"));
            }
        }
        if change == Change::InSync {
            tracing::info!(offset = view.offset, replid = %view.replid, "in sync");
        }
        if !view.loading {
            life.durable.poll(&seen.persistence, view.offset);
            life.loaded = true;
            if view.role == Some(Role::Primary) {
                life.unwritten.poll(&seen.persistence);
            } else {
                life.unwritten.lose();
            }
        }
        view.unwritten = life.unwritten.yes();
        view.complete = life.whole.complete() && !view.loading;
        let mut acknowledged = None;
        for replica in view.replicas.iter().filter(|replica| replica.online && replica.lag_s >= 0) {
            let poll = Poll {
                sent_ms: seen.sent_ms,
                wall_sent_ms: seen.wall_sent_ms,
                wall_answered_ms: seen.wall_answered_ms,
                offset: replica.offset,
                lag_s: replica.lag_s,
            };
            let key = (replica.host.clone(), replica.port);
            acknowledged = acknowledged.max(life.acknowledgements.entry(key).or_default().poll(poll));
        }
        life.acknowledgements
            .retain(|(host, port), _| view.replicas.iter().any(|r| r.host == *host && r.port == *port));
        if state.engine == EngineState::Starting {
            state.engine = EngineState::Running;
        }
        let before = state.view.as_ref().and_then(|view| view.role);
        role_changed = before != view.role;
        if before.is_some() && role_changed {
            tracing::info!(role = ?view.role, offset = view.offset, "the engine has another role");
        }
        if state.view.is_none() && state.trouble.starts_with("the engine does not answer") {
            state.trouble.clear();
        }
        state.view = Some(view);
        if before != Some(Role::Primary) && state.role() == Some(Role::Primary) {
            state.guard.begin(now);
            if before.is_some() && state.lead_term != state.term {
                // Elected by the engines: the majority of primaries is its fence, until the operator confirms it (P6).
                tracing::info!(
                    "elected by the engines; silence pauses no writes until the operator confirms"
                );
                state.guard_on = false;
            }
        }
        if let Some(since_ms) = acknowledged {
            state.guard.hear(now, facts, Witness::Replica { since_ms });
        }
        if role_changed || change != Change::None {
            node.write_down.notify_one();
        }
        state.has_data = state.has_data || volume::has_data(data_dir);
    });
}

/// Does what follows from what was seen.
pub(crate) async fn settle(node: &Node) {
    commands_called(node).await;
    source(node).await;
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

/// Replicas may log in iff this engine is a primary, by order or by election, and held a whole copy when it became one.
///
/// A replica that is complete could be left open too, in cluster mode; it is not, so that one rule holds everywhere:
/// whatever restarts, or was never a primary, is no source of replication (promise P1).
pub(crate) async fn source(node: &Node) {
    let Some((boot, client, open)) = ({
        let state = node.state();
        state.life.as_ref().zip(state.view.as_ref()).and_then(|(life, view)| {
            let open = view.role == Some(Role::Primary) && life.whole.complete();
            (life.source_open != Some(open)).then(|| (life.boot.clone(), life.client.clone(), open))
        })
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

/// A replica that was in sync once may answer from its copy when the link is down.
async fn stale_reads(node: &Node) {
    let Some((boot, client, value)) = ({
        let state = node.state();
        state.life.as_ref().filter(|life| life.stale_reads_off && life.whole.complete()).map(|life| {
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
        let in_sync = state.role() == Some(Role::Replica)
            && state
                .view
                .as_ref()
                .is_some_and(|view| view.complete && view.link.as_ref().is_some_and(|link| link.up));
        state
            .life
            .as_ref()
            .filter(|life| in_sync && !life.previous_forgotten && life.durable.settled())
            .map(|life| life.boot.clone())
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
