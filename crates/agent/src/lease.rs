//! The shard's Lease, asked of the apiserver: the guard's third witness.

use crate::args::{Api, Settings};
use crate::guard::{LEASE_AFTER_MS, Witness};
use crate::node::Node;
use crate::writes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

const ASK_WITHIN: Duration = Duration::from_millis(1_000);
const TICK: Duration = Duration::from_millis(50);
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Why the apiserver did not tell.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("not in a cluster: {0}")]
    Outside(String),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("the apiserver said {0}")]
    Status(u16),
    #[error("the answer was not read: {0}")]
    Body(String),
    #[error("not in time")]
    Late,
}

#[derive(Debug, Deserialize)]
struct Lease {
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    holder_identity: Option<String>,
    #[serde(default)]
    lease_transitions: Option<u64>,
}

/// The guard's clock: lets time pass, asks for the lease when nobody else speaks, brings the engine to what follows.
pub(crate) async fn guard(node: Arc<Node>) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked_ms = 0;
    let mut asking: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tick.tick().await;
        let now = node.now_ms();
        let wants_lease = {
            let mut state = node.state();
            let facts = state.facts();
            state.guard.tick(now, facts);
            state.guard.wants_lease(now, facts)
        };
        writes::follow_guard(&node).await;
        let idle = asking.as_ref().is_none_or(tokio::task::JoinHandle::is_finished);
        let asks = node.settings.api == Api::InCluster && !node.settings.shard_lease.is_empty();
        if asks && wants_lease && idle && now.saturating_sub(asked_ms) >= LEASE_AFTER_MS {
            asked_ms = now;
            asking = Some(tokio::spawn(ask(node.clone())));
        }
    }
}

async fn ask(node: Arc<Node>) {
    let asked_ms = node.now_ms();
    let answer = timeout(ASK_WITHIN, get(&node.settings)).await.unwrap_or(Err(LeaseError::Late));
    match answer {
        Ok(lease) => {
            let term = lease.spec.lease_transitions.unwrap_or(0);
            let ours = lease.spec.holder_identity.as_deref() == Some(node.settings.node.as_str());
            let now = node.now_ms();
            let mut state = node.state();
            let facts = state.facts();
            if facts.term != term || !ours {
                tracing::warn!(term, own_term = facts.term, holder = ?lease.spec.holder_identity, "the shard's lease");
            }
            state.guard.hear(now, facts, Witness::Lease { asked_ms, term, ours });
        }
        Err(error) => tracing::debug!(%error, "the shard's lease could not be read"),
    }
}

/// One GET, on a connection of its own: it is asked for only while something is wrong.
async fn get(settings: &Settings) -> Result<Lease, LeaseError> {
    let variable =
        |name: &str| std::env::var(name).map_err(|_| LeaseError::Outside(format!("{name} is not set")));
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port: u16 = variable("KUBERNETES_SERVICE_PORT")?
        .parse()
        .map_err(|_| LeaseError::Outside("KUBERNETES_SERVICE_PORT is not a port".into()))?;
    let account = settings.account_dir.as_path();
    let token = std::fs::read_to_string(account.join("token"))?;
    let outside = |error: rustls::pki_types::pem::Error| LeaseError::Outside(error.to_string());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(account.join("ca.crt")).map_err(outside)? {
        roots.add(authority.map_err(outside)?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.clone()).map_err(|error| LeaseError::Outside(error.to_string()))?;
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let request = Request::get(format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}",
        settings.namespace, settings.shard_lease
    ))
    .header("host", authority)
    .header("authorization", format!("Bearer {}", token.trim()))
    .header("accept", "application/json")
    .header("user-agent", concat!("kagami-agent/", env!("CARGO_PKG_VERSION")))
    .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(LeaseError::Status(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
    let body = body.collect().await.map_err(|error| LeaseError::Body(error.to_string()))?.to_bytes();
    connection.abort();
    serde_json::from_slice(&body).map_err(|error| LeaseError::Body(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_the_apiserver_writes_it() {
        let text = r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"dva-0001"},
            "spec":{"holderIdentity":"dva-0001-002","leaseTransitions":7,"renewTime":"2026-01-01T00:00:00.000000Z"}}"#;
        let lease: Lease = serde_json::from_str(text).unwrap();
        assert_eq!(
            (lease.spec.holder_identity.as_deref(), lease.spec.lease_transitions),
            (Some("dva-0001-002"), Some(7))
        );
        let lease: Lease = serde_json::from_str("{}").unwrap();
        assert_eq!(lease.spec.lease_transitions, None);
    }
}
