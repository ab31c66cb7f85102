//! The operator's connection: mutual TLS 1.3, one JSON object a line.

use crate::node::Node;
use crate::perform;
use futures::{SinkExt, StreamExt};
use kagami_protocol::{
    BEAT_MS, FENCE_SILENCE_MS, FRAME_BYTES_MAX, FromAgent, OperatorId, Order, Refused, ToAgent, VERSION,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

const HELLO_WITHIN: Duration = Duration::from_secs(5);
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// An operator beats twice a second, and gives a connection up after this silence itself. What is read later waited in a
/// buffer while this agent stood still: somebody else may have been promoted since (P2).
const SILENT_AFTER: Duration = Duration::from_millis(FENCE_SILENCE_MS);
/// An old and a new leader, and a few that are being closed.
const CONNECTIONS_MAX: usize = 16;
/// Orders of one connection that wait for their turn.
const ORDERS_MAX: usize = 64;

/// Why the operator cannot be served, or one connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("port {port}: {source}")]
    Listen { port: u16, source: io::Error },
    #[error("{file}: {source}")]
    Pem { file: String, source: rustls::pki_types::pem::Error },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the client's certificate cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("{0}")]
    Frame(#[from] LinesCodecError),
    #[error("not a frame: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no {0} in time")]
    Late(&'static str),
    #[error("the first frame was not a hello")]
    NoHello,
    #[error("{0}")]
    Goodbye(String),
}

/// An order, and since when it waits for its turn.
struct Waiting {
    order: Order,
    since: Instant,
}

type Wire = Framed<TlsStream<TcpStream>, LinesCodec>;

/// Listens on all addresses.
pub(crate) async fn listen(port: u16) -> Result<TcpListener, ServerError> {
    let both: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
    match TcpListener::bind(both).await {
        Ok(listener) => Ok(listener),
        // Where the kernel has no IPv6.
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            .await
            .map_err(|source| ServerError::Listen { port, source }),
    }
}

/// Reads the agent's identity; for each connection anew, since certificates are renewed under a running agent.
pub(crate) fn tls(secrets: &Path) -> Result<Arc<ServerConfig>, ServerError> {
    let pem = |file: &str| {
        let file = file.to_owned();
        move |source| ServerError::Pem { file, source }
    };
    let certificates = |file: &str| {
        CertificateDer::pem_file_iter(secrets.join(file))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(pem(file))
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates("ca.crt")? {
        roots.add(authority)?;
    }
    let key = PrivateKeyDer::from_pem_file(secrets.join("tls.key")).map_err(pem("tls.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("tls.crt")?, key)?;
    Ok(Arc::new(config))
}

/// Serves until the end of the agent.
pub(crate) async fn run(node: Arc<Node>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            tracing::warn!("too many connections");
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match connection(&node, stream).await {
                Ok(()) => tracing::debug!("the operator's connection ended"),
                Err(error) => tracing::info!(%error, "the operator's connection ended"),
            }
        });
    }
}

async fn connection(node: &Arc<Node>, stream: TcpStream) -> Result<(), ServerError> {
    // Before the handshake: whatever is read on this connection was sent after this moment.
    let (accepted_ms, accepted) = (node.now_ms(), Instant::now());
    let mut fences = node.fences.subscribe();
    fences.mark_unchanged();
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(tls(&node.settings.secrets_dir)?);
    let stream = timeout(HELLO_WITHIN, acceptor.accept(stream))
        .await
        .map_err(|_| ServerError::Late("handshake"))?
        .map_err(ServerError::Handshake)?;
    let mut wire = Framed::new(stream, LinesCodec::new_with_max_length(FRAME_BYTES_MAX));
    let operator = match hello(node, &mut wire).await {
        Ok(operator) => operator,
        Err(ServerError::Goodbye(message)) => return goodbye(&mut wire, message).await,
        Err(error) => return Err(error),
    };
    tracing::info!(operator = %operator.name, generation = operator.generation, "the operator is here");
    let ended = talk(node, &mut wire, &operator, (accepted_ms, accepted), fences).await;
    match ended {
        Err(ServerError::Goodbye(message)) => goodbye(&mut wire, message).await,
        other => other,
    }
}

async fn goodbye(wire: &mut Wire, message: String) -> Result<(), ServerError> {
    send(wire, &FromAgent::Goodbye { message: message.clone() }).await?;
    let _ = timeout(Duration::from_millis(500), SinkExt::<String>::close(wire)).await;
    Err(ServerError::Goodbye(message))
}

async fn send(wire: &mut Wire, frame: &FromAgent) -> Result<(), ServerError> {
    let text = serde_json::to_string(frame)?;
    Ok(timeout(SEND_WITHIN, wire.send(text))
        .await
        .map_err(|_| ServerError::Late("reading by the operator"))??)
}

fn superseded(generation: u64) -> ServerError {
    ServerError::Goodbye(format!("an operator of generation {generation} has spoken"))
}

async fn hello(node: &Node, wire: &mut Wire) -> Result<OperatorId, ServerError> {
    let line = timeout(HELLO_WITHIN, wire.next()).await.map_err(|_| ServerError::Late("hello"))?;
    let line = line.ok_or(ServerError::NoHello)??;
    let ToAgent::Hello { version, operator } = serde_json::from_str(&line)? else {
        return Err(ServerError::NoHello);
    };
    if version == 0 {
        return Err(ServerError::Goodbye(format!("protocol version {version} is not spoken here")));
    }
    let known = node.state().operator_generation;
    if operator.generation < known {
        return Err(superseded(known));
    }
    if operator.generation > known {
        node.change(|state| state.operator_generation = operator.generation.max(state.operator_generation));
        // A former leader must stay refused after a restart, too.
        node.store().await.map_err(|error| ServerError::Goodbye(error.to_string()))?;
        node.generation.send_if_modified(|generation| {
            let newer = operator.generation > *generation;
            *generation = operator.generation.max(*generation);
            newer
        });
    }
    let welcome = FromAgent::Welcome {
        version: version.min(VERSION),
        node: node.settings.node.clone(),
        pod_uid: node.settings.pod_uid.clone(),
    };
    send(wire, &welcome).await?;
    Ok(operator)
}

async fn talk(
    node: &Arc<Node>,
    wire: &mut Wire,
    operator: &OperatorId,
    (accepted_ms, accepted): (u64, Instant),
    mut fences: watch::Receiver<u64>,
) -> Result<(), ServerError> {
    let mut reports = node.reports();
    let mut generation = node.generation.subscribe();
    let mut closing = node.closing.subscribe();
    let (answers, mut answered) = mpsc::channel::<FromAgent>(2 * ORDERS_MAX);
    let orders = orders(node.clone(), operator.generation, answers.clone());
    let mut beat = interval(Duration::from_millis(BEAT_MS));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one at once, after the first report: what answers it may end a fence.
    send(wire, &FromAgent::Report(Box::new(node.current_report()))).await?;
    reports.mark_unchanged();
    // An agent may stand still between a handshake and what follows it, too.
    let mut heard = accepted;
    let silence = tokio::time::sleep_until((heard + SILENT_AFTER).into());
    tokio::pin!(silence);
    loop {
        tokio::select! {
            biased;
            () = &mut silence => return Err(ServerError::Late("word from the operator")),
            line = wire.next() => {
                let Some(line) = line else { return Ok(()) };
                // The timer may not have been looked at yet.
                if heard.elapsed() > SILENT_AFTER {
                    return Err(ServerError::Late("word from the operator"));
                }
                heard = Instant::now();
                silence.as_mut().reset((heard + SILENT_AFTER).into());
                let highest = node.state().operator_generation;
                if highest > operator.generation {
                    return Err(superseded(highest));
                }
                frame(node, &line?, accepted_ms, &orders, &answers)?;
            }
            Some(answer) = answered.recv() => {
                // The report that the order led to is older news than its answer.
                if reports.has_changed().unwrap_or(false) {
                    let report = reports.borrow_and_update().as_ref().clone();
                    send(wire, &FromAgent::Report(Box::new(report))).await?;
                }
                send(wire, &answer).await?;
            }
            changed = reports.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let report = reports.borrow_and_update().as_ref().clone();
                send(wire, &FromAgent::Report(Box::new(report))).await?;
            }
            _ = beat.tick() => {
                let frame = {
                    let state = node.state();
                    let offset = state.view.as_ref().map(|view| view.offset);
                    FromAgent::Beat { boot: state.boot.clone(), offset, at_ms: Some(node.now_ms()) }
                };
                send(wire, &frame).await?;
            }
            Ok(highest) = seen(&mut generation, |highest| *highest > operator.generation) => {
                return Err(superseded(highest));
            }
            _ = fences.changed() => {
                send(wire, &FromAgent::Report(Box::new(node.current_report()))).await?;
                let message = "fenced: a confirmation is known to be fresh only on a new connection";
                return Err(ServerError::Goodbye(message.into()));
            }
            Ok(reason) = seen(&mut closing, Option::is_some) => {
                let message = reason.unwrap_or_default();
                send(wire, &FromAgent::Report(Box::new(node.current_report()))).await?;
                return Err(ServerError::Goodbye(message));
            }
        }
    }
}

/// Waits until a watched value is of a kind, and copies it: its lock must not be held any longer.
async fn seen<T: Clone>(
    watched: &mut watch::Receiver<T>,
    is: impl FnMut(&T) -> bool,
) -> Result<T, watch::error::RecvError> {
    watched.wait_for(is).await.map(|value| value.clone())
}

/// Carries out the orders of one connection one after the other. An order that was begun is finished even if the
/// connection ends; those that wait are dropped with it.
fn orders(node: Arc<Node>, generation: u64, answers: mpsc::Sender<FromAgent>) -> mpsc::Sender<Waiting> {
    let (orders, mut ordered) = mpsc::channel::<Waiting>(ORDERS_MAX);
    tokio::spawn(async move {
        while let Some(Waiting { order, since }) = ordered.recv().await {
            if answers.is_closed() {
                return;
            }
            let id = order.id;
            let outcome = perform::perform(&node, generation, order, since).await;
            if answers.send(FromAgent::Answer { id, outcome }).await.is_err() {
                return;
            }
        }
    });
    orders
}

fn frame(
    node: &Arc<Node>,
    line: &str,
    accepted_ms: u64,
    orders: &mpsc::Sender<Waiting>,
    answers: &mpsc::Sender<FromAgent>,
) -> Result<(), ServerError> {
    match serde_json::from_str::<ToAgent>(line) {
        Ok(ToAgent::Hello { .. } | ToAgent::Beat) => {}
        Ok(ToAgent::Confirm { term, guard, heard_ms }) => confirm(node, (term, guard), accepted_ms, heard_ms),
        Ok(ToAgent::Order(order)) => {
            let id = order.id;
            if orders.try_send(Waiting { order: *order, since: Instant::now() }).is_err() {
                let refused =
                    Refused::Failed { message: format!("more than {ORDERS_MAX} orders are waiting") };
                let _ = answers.try_send(FromAgent::Answer { id, outcome: Err(refused) });
            }
        }
        Err(error) => {
            // A newer operator's words: an order must be answered, anything else is passed over.
            let value: serde_json::Value = serde_json::from_str(line)?;
            let Some(id) = value.get("id").and_then(serde_json::Value::as_u64) else {
                tracing::debug!(%error, "a frame that is not known");
                return Ok(());
            };
            let what = value.pointer("/command/do").and_then(serde_json::Value::as_str);
            let refused =
                Refused::Unsupported { what: what.map_or_else(|| error.to_string(), str::to_owned) };
            let _ = answers.try_send(FromAgent::Answer { id, outcome: Err(refused) });
        }
    }
    Ok(())
}

/// "You are the primary of this term."
fn confirm(node: &Node, (term, guard): (u64, bool), accepted_ms: u64, heard_ms: Option<u64>) {
    let now = node.now_ms();
    let raised = {
        let mut state = node.state();
        let before = state.guard_on;
        let raised = state.confirm(now, (term, guard), accepted_ms, heard_ms);
        if state.guard_on != before {
            tracing::info!(guard, "silence pauses writes");
        }
        raised
    };
    if raised {
        node.write_down.notify_one();
    }
}
