//! `/livez`, `/readyz` and `/metrics`.

use crate::node::{Node, State};
use axum::Router;
use axum::extract::State as Of;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kagami_protocol::{EngineState, Role};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// The observer looks at least each second; after this long it does not run any more.
const STUCK_AFTER_MS: u64 = 15_000;

/// Serves until the end of the agent.
pub(crate) async fn run(node: Arc<Node>, listener: TcpListener) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(node);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "health is not served any more");
    }
}

async fn livez(Of(node): Of<Arc<Node>>) -> Response {
    let silent_ms = node.now_ms().saturating_sub(node.alive_ms.load(Ordering::Relaxed));
    if silent_ms > STUCK_AFTER_MS {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("the observer has not run for {silent_ms} ms\n"))
            .into_response();
    }
    "ok\n".into_response()
}

async fn readyz(Of(node): Of<Arc<Node>>) -> Response {
    match node.state().ready() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(Of(node): Of<Arc<Node>>) -> Response {
    let registry = registry(&node.state());
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn registry(state: &State) -> Registry {
    let mut registry = Registry::with_prefix("kagami_agent");
    let mut gauge =
        |name: &str, help: &str, value: i64| registry.register(name, help, ConstGauge::new(value));
    let yes = i64::from;
    let view = state.view.as_ref();
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    gauge("engine_up", "Whether the engine answers", yes(view.is_some()));
    let role = match state.role() {
        Some(Role::Primary) => 1,
        Some(Role::Replica) => 2,
        None => 0,
    };
    gauge("role", "1 primary, 2 replica, 0 none", role);
    gauge("parked", "Whether the engine waits to be let in", yes(state.engine == EngineState::Parked));
    gauge("ready", "Whether the node is ready for clients", yes(state.ready().is_ok()));
    gauge("term", "The highest term of the shard that was seen", signed(state.term));
    gauge("guarded", "Whether silence pauses writes", yes(state.guard_on));
    gauge("fenced", "Whether writes are paused because no witness was heard", yes(state.fenced));
    if let Some(volume) = &state.volume {
        gauge("volume_bytes", "Size of the node's volume", signed(volume.bytes));
        gauge("volume_free_bytes", "What is left of the node's volume", signed(volume.free_bytes));
    }
    if let Some(view) = view {
        let failed = yes(view.write_failed);
        gauge("engine_write_failed", "Whether the engine's last write to its volume failed", failed);
        gauge("replication_offset_bytes", "How far the engine's data is", view.offset);
        gauge("complete", "Whether the engine holds a whole copy", yes(view.complete));
        gauge("keys", "Keys in all databases", signed(view.keys));
        gauge("used_memory_bytes", "Memory that the engine uses", view.used_memory_bytes);
        gauge(
            "replicas_online",
            "Replicas that are online",
            signed(view.replicas.iter().filter(|r| r.online).count() as u64),
        );
        if let Some(link) = &view.link {
            gauge("link_up", "Whether a replica's link to its primary is up", yes(link.up));
        }
        let open = view.open_slots.len() as u64;
        gauge("open_slots", "Slots that an unfinished migration leaves between two primaries", signed(open));
        if let Some(cluster) = &view.cluster {
            gauge("cluster_ok", "Whether the cluster's state is ok", yes(cluster.ok));
        }
    }
    registry.register(
        "exits",
        "Ends of the engine under this agent",
        ConstCounter::new(u64::from(state.exits)),
    );
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_protocol::{ClusterView, EngineView, Link};

    fn why(change: impl FnOnce(&mut State)) -> Result<(), String> {
        let node = Node::new(crate::args::test_settings(), None, false, String::new());
        let mut state = node.state();
        change(&mut state);
        state.ready()
    }

    fn view(role: Role) -> EngineView {
        EngineView { role: Some(role), complete: true, ..EngineView::default() }
    }

    fn running(state: &mut State, view: EngineView) {
        state.engine = EngineState::Running;
        state.view = Some(view);
    }

    #[test]
    fn a_parked_node_is_not_ready_and_says_so() {
        assert_eq!(why(|_| {}), Err("the engine is parked".into()));
    }

    #[test]
    fn a_primary_is_ready_unless_fenced_or_its_cluster_is_down() {
        assert_eq!(why(|state| running(state, view(Role::Primary))), Ok(()));
        let fenced = |state: &mut State| {
            running(state, view(Role::Primary));
            state.fenced = true;
        };
        assert!(why(fenced).unwrap_err().contains("paused"));
        let cluster = EngineView { cluster: Some(ClusterView::default().into()), ..view(Role::Primary) };
        assert!(why(|state| running(state, cluster)).unwrap_err().contains("cluster"));
    }

    #[test]
    fn a_replica_is_ready_once_in_sync() {
        let up = |up| EngineView { link: Some(Link { up, ..Link::default() }), ..view(Role::Replica) };
        assert_eq!(why(|state| running(state, up(true))), Ok(()));
        assert!(why(|state| running(state, up(false))).is_err());
        let incomplete = EngineView { complete: false, ..up(true) };
        assert!(why(|state| running(state, incomplete)).is_err());
    }

    #[test]
    fn metrics_are_few_and_without_labels() {
        let node = Node::new(crate::args::test_settings(), None, false, String::new());
        running(&mut node.state(), view(Role::Primary));
        let mut text = String::new();
        encode(&mut text, &registry(&node.state())).unwrap();
        for line in ["kagami_agent_engine_up 1", "kagami_agent_role 1", "kagami_agent_exits_total 0"] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains('{') && text.lines().count() < 80);
    }
}
