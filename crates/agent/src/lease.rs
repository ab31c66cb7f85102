//! The shard's Lease, asked of the apiserver: the guard's third witness.

use crate::args::{Api, Settings};
use crate::guard::LEASE_EVERY_MS;
use crate::node::Node;
use crate::writes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kagami_protocol::FENCE_SILENCE_MS;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// An answer that takes longer is too old to confirm anything. Until then the next question is asked beside it, so that an
/// apiserver that answers late, but within the silence, still keeps a primary writing.
const ASK_WITHIN: Duration = Duration::from_millis(FENCE_SILENCE_MS);
/// How long a connection waits for the next question: while something is wrong they come every [`LEASE_EVERY_MS`].
const KEPT: Duration = Duration::from_secs(10);
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
    Http(#[from] hyper_util::client::legacy::Error),
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
    let apiserver = Arc::new(Apiserver::default());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked_ms = 0;
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
        let asks = node.settings.api == Api::InCluster && !node.settings.shard_lease.is_empty();
        if asks && wants_lease && now.saturating_sub(asked_ms) >= LEASE_EVERY_MS {
            asked_ms = now;
            tokio::spawn(ask(node.clone(), apiserver.clone()));
        }
    }
}

async fn ask(node: Arc<Node>, apiserver: Arc<Apiserver>) {
    let asked_ms = node.now_ms();
    let answer = timeout(ASK_WITHIN, apiserver.lease(&node.settings)).await.unwrap_or(Err(LeaseError::Late));
    match answer {
        Ok(lease) => {
            let term = lease.spec.lease_transitions.unwrap_or(0);
            let ours = lease.spec.holder_identity.as_deref() == Some(node.settings.node.as_str());
            let now = node.now_ms();
            let (own_term, raised) = {
                let mut state = node.state();
                (state.term, state.leased(now, asked_ms, term, ours))
            };
            if own_term != term || !ours {
                tracing::warn!(term, own_term, holder = ?lease.spec.holder_identity, "the shard's lease");
            }
            if raised {
                node.write_down.notify_one();
            }
        }
        Err(error) => tracing::debug!(%error, "the shard's lease could not be read"),
    }
}

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The way to the apiserver. Its connections are kept from question to question: handshakes are what an apiserver that is
/// busy with everybody's questions can least afford.
#[derive(Default)]
struct Apiserver(Mutex<Option<(Vec<u8>, Https)>>);

impl Apiserver {
    /// The client that trusts what the service account's folder says now.
    fn client(&self, settings: &Settings) -> Result<Https, LeaseError> {
        let authorities = std::fs::read(settings.account_dir.join("ca.crt"))?;
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((of, client)) if *of == authorities => Ok(client.clone()),
            _ => {
                let client = https(&authorities)?;
                *made = Some((authorities, client.clone()));
                Ok(client)
            }
        }
    }

    /// One GET.
    async fn lease(&self, settings: &Settings) -> Result<Lease, LeaseError> {
        let variable =
            |name: &str| std::env::var(name).map_err(|_| LeaseError::Outside(format!("{name} is not set")));
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let token = std::fs::read_to_string(settings.account_dir.join("token"))?;
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let request = Request::get(format!(
            "https://{authority}/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}",
            settings.namespace, settings.shard_lease
        ))
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("accept", "application/json")
        .header("user-agent", concat!("kagami-agent/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
        let response = self.client(settings)?.request(request).await?;
        if !response.status().is_success() {
            return Err(LeaseError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
        let body = body.collect().await.map_err(|error| LeaseError::Body(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| LeaseError::Body(error.to_string()))
    }
}

fn https(authorities: &[u8]) -> Result<Https, LeaseError> {
    let outside = |error: rustls::pki_types::pem::Error| LeaseError::Outside(error.to_string());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities) {
        roots.add(authority.map_err(outside)?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(KEPT)
        .pool_timer(TokioTimer::new())
        // One that went dead unnoticed costs one question, not several.
        .pool_max_idle_per_host(1)
        .build(connector))
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
