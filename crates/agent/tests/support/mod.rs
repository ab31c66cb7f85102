//! Real agents in front of real engines on loopback, and an operator of a few lines that speaks the protocol.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests; each set of tests needs another part of them"
)]

use futures::{SinkExt, StreamExt};
use kagami_protocol::*;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::codec::{Framed, LinesCodec};

/// A directory that goes with the test.
pub(crate) type Dir = tempfile::TempDir;

pub(crate) fn dir() -> Dir {
    tempfile::tempdir().unwrap()
}

/// A port that is free now, and not given to another test of this process.
pub(crate) fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the range of ephemeral ports, and a bus port (+10000 before 7.0) still fits above.
    let base = 12_000 + (std::process::id() % 100) as u16 * 80;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 80;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// The engine under test: `KAGAMI_TEST_ENGINE`, or the first on the PATH.
pub(crate) fn engine() -> PathBuf {
    if let Some(engine) = std::env::var_os("KAGAMI_TEST_ENGINE") {
        return engine.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| [dir.join("redis-server"), dir.join("valkey-server")])
        .find(|program| program.is_file())
        .expect("no engine to test with: run `make deps` (it installs redis-server)")
}

/// A group's certificate authority, an agent's identity and the operator's.
pub(crate) struct Authority {
    pub(crate) ca: String,
    agent: (String, String),
    operator: (String, String),
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let leaf = |name: &str, purpose| {
            let names = vec![name.to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names).unwrap();
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let agent = leaf(AGENT_SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth);
        let operator = leaf("operator.kagami", ExtendedKeyUsagePurpose::ClientAuth);
        Self { ca, agent, operator }
    }

    fn write(&self, dir: &Path) {
        let files = [
            ("ca.crt", self.ca.as_str()),
            ("tls.crt", &self.agent.0),
            ("tls.key", &self.agent.1),
            ("agent-password", "agent-secret\n"),
            ("replication-password", "replication-secret"),
            ("token", "the-token\n"),
        ];
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }
}

/// An apiserver that knows one Lease: its term and its holder.
pub(crate) async fn apiserver(authority: &Authority, lease: watch::Receiver<(u64, String)>) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(authority.agent.0.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(authority.agent.1.as_bytes()).unwrap(),
            )
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let path = "get /apis/coordination.k8s.io/v1/namespaces/default/leases/dva-0001 ";
            assert!(
                request.starts_with(path) && request.contains("authorization: bearer the-token\r\n"),
                "{request}"
            );
            let (term, holder) = lease.borrow().clone();
            let body = format!(r#"{{"spec":{{"holderIdentity":"{holder}","leaseTransitions":{term}}}}}"#);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// One node: an agent's process and its directories.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) authority: Arc<Authority>,
    pub(crate) data: Arc<Dir>,
    _dirs: [Dir; 2],
    pub(crate) process: Child,
    pub(crate) agent_port: u16,
    pub(crate) health_port: u16,
    pub(crate) address: Address,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What differs from one agent to the next.
pub(crate) struct Setup {
    pub(crate) authority: Arc<Authority>,
    pub(crate) data: Arc<Dir>,
    pub(crate) persistent: bool,
    pub(crate) handover_ms: u64,
    /// The port of an apiserver, if there is one.
    pub(crate) apiserver: Option<u16>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            authority: Arc::new(Authority::new()),
            data: Arc::new(dir()),
            persistent: false,
            handover_ms: 10_000,
            apiserver: None,
        }
    }
}

impl Node {
    pub(crate) fn run(name: &str, setup: Setup) -> Self {
        let (secrets, run) = (dir(), dir());
        setup.authority.write(secrets.path());
        let (agent_port, health_port, engine_port) = (port(), port(), port());
        // The only one that engines before 7.0 can have.
        let bus_port = engine_port + 10_000;
        let process = Program::new(env!("CARGO_BIN_EXE_kagami-agent"))
            .arg("run")
            .env("KAGAMI_GROUP", "dva")
            .env("KAGAMI_NODE", name)
            .env("POD_UID", format!("uid-of-{name}"))
            .env("POD_IP", "127.0.0.1")
            .env("KAGAMI_API", if setup.apiserver.is_some() { "in-cluster" } else { "disabled" })
            .env("KAGAMI_NAMESPACE", "default")
            .env("KAGAMI_SHARD_LEASE", name.rsplit_once('-').map_or(name, |(shard, _)| shard))
            .env("KAGAMI_ACCOUNT_DIR", secrets.path())
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", setup.apiserver.unwrap_or(1).to_string())
            .env("KAGAMI_DATA_DIR", setup.data.path())
            .env("KAGAMI_PERSISTENT", setup.persistent.to_string())
            .env("KAGAMI_SECRETS_DIR", secrets.path())
            .env("KAGAMI_RUN_DIR", run.path())
            .env("KAGAMI_AGENT_PORT", agent_port.to_string())
            .env("KAGAMI_HEALTH_PORT", health_port.to_string())
            .env("KAGAMI_ENGINE_BINARY", engine())
            .env("KAGAMI_HANDOVER_MS", setup.handover_ms.to_string())
            .env("KAGAMI_LOG", "text")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            name: name.into(),
            authority: setup.authority,
            data: setup.data,
            _dirs: [secrets, run],
            process,
            agent_port,
            health_port,
            address: Address { host: "127.0.0.1".into(), port: engine_port, bus_port },
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).unwrap();
    }

    /// The engine's process: the agent's only child that lives long.
    pub(crate) fn engine_pid(&self) -> Option<rustix::process::Pid> {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = std::fs::read_to_string(children).ok()?;
        rustix::process::Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    pub(crate) fn kill_engine(&self) {
        rustix::process::kill_process(self.engine_pid().unwrap(), rustix::process::Signal::KILL).unwrap();
    }

    /// A client as the group's users are.
    pub(crate) async fn client(&self) -> Result<redis::aio::MultiplexedConnection, redis::RedisError> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.address.port))?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(3)));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Whether anything listens on the engine's port.
    pub(crate) fn is_reachable(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.address.port)).is_ok()
    }

    /// One plain HTTP GET: the status and the body.
    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(("127.0.0.1", self.health_port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A start with sensible directives.
    pub(crate) fn start(&self, role: StartRole, cluster: bool) -> Start {
        let mut directives = vec![
            ("port".to_owned(), self.address.port.to_string()),
            ("save".to_owned(), "\"\"".to_owned()),
            ("repl-diskless-sync".to_owned(), "yes".to_owned()),
            ("repl-diskless-sync-delay".to_owned(), "0".to_owned()),
            ("repl-ping-replica-period".to_owned(), "1".to_owned()),
        ];
        if cluster {
            directives.push(("cluster-enabled".into(), "yes".into()));
            directives.push(("cluster-node-timeout".into(), "5000".into()));
        }
        Start {
            directives,
            client_acl: "on nopass ~* &* +@all".into(),
            data: StartData::PutAside,
            role,
            peers: vec![],
            announce: self.address.clone(),
            announce_hostname: String::new(),
            guard: false,
            keep_previous: false,
            config: None,
        }
    }
}

pub(crate) fn primary() -> StartRole {
    StartRole::Primary { slots: vec![], epoch: 0 }
}

pub(crate) fn replica_of(node: &Node) -> StartRole {
    StartRole::Replica { primary: node.address.clone(), primary_id: None }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Done, Refused>>>>>;

/// The operator's end of one connection.
pub(crate) struct Operator {
    node: String,
    pub(crate) reports: watch::Receiver<Option<Report>>,
    pub(crate) goodbye: watch::Receiver<Option<String>>,
    pub(crate) offset: watch::Receiver<Option<i64>>,
    frames: mpsc::UnboundedSender<String>,
    waiting: Waiting,
    next_id: std::sync::atomic::AtomicU64,
    pub(crate) term: std::sync::atomic::AtomicU64,
}

impl Operator {
    /// Connects as soon as the agent listens.
    pub(crate) async fn of(node: &Node) -> Self {
        Self::with_generation(node, 1).await
    }

    pub(crate) async fn with_generation(node: &Node, generation: u64) -> Self {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match wire(node, &node.authority).await {
                Ok(wire) => return Self::talk(node, wire, generation).await,
                Err(error) if Instant::now() > until => panic!("the agent is not reached: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn talk(
        node: &Node,
        wire: Framed<tokio_rustls::client::TlsStream<TcpStream>, LinesCodec>,
        generation: u64,
    ) -> Self {
        let (mut sink, mut stream) = wire.split();
        let (tell_report, reports) = watch::channel(None);
        let (tell_goodbye, goodbye) = watch::channel(None);
        let (tell_offset, offset) = watch::channel(None);
        let (frames, mut to_send) = mpsc::unbounded_channel::<String>();
        let waiting = Waiting::default();
        let answers = waiting.clone();
        let mut greeted = false;
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(BEAT_MS));
            loop {
                let text = tokio::select! {
                    text = to_send.recv() => text,
                    _ = beat.tick(), if greeted => Some(serde_json::to_string(&ToAgent::Beat).unwrap()),
                };
                let Some(text) = text else { return };
                greeted = true;
                if sink.send(text).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(Ok(line)) = stream.next().await {
                match serde_json::from_str::<FromAgent>(&line).unwrap() {
                    FromAgent::Report(report) => {
                        tell_report.send_replace(Some(*report));
                    }
                    FromAgent::Beat { offset, .. } => {
                        tell_offset.send_replace(offset);
                    }
                    FromAgent::Answer { id, outcome } => {
                        if let Some(tell) = answers.lock().unwrap().remove(&id) {
                            let _ = tell.send(outcome);
                        }
                    }
                    FromAgent::Goodbye { message } => {
                        tell_goodbye.send_replace(Some(message));
                    }
                    FromAgent::Welcome { .. } => {}
                }
            }
            tell_goodbye.send_if_modified(|message| {
                message.is_none().then(|| *message = Some("closed".into())).is_some()
            });
            answers.lock().unwrap().clear();
        });
        let hello =
            ToAgent::Hello { version: VERSION, operator: OperatorId { name: "test".into(), generation } };
        frames.send(serde_json::to_string(&hello).unwrap()).unwrap();
        Self {
            node: node.name.clone(),
            reports,
            goodbye,
            offset,
            frames,
            waiting,
            next_id: 1.into(),
            term: 1.into(),
        }
    }

    pub(crate) fn send_text(&self, text: &str) {
        let _ = self.frames.send(text.to_owned());
    }

    pub(crate) fn send(&self, frame: &ToAgent) {
        self.send_text(&serde_json::to_string(frame).unwrap());
    }

    pub(crate) async fn report(&self) -> Report {
        self.until("the first report", |_| true).await
    }

    /// Waits for a report of that kind.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Report) -> bool) -> Report {
        self.until_within(what, Duration::from_secs(10), is).await
    }

    pub(crate) async fn until_within(
        &self,
        what: &str,
        within: Duration,
        is: impl Fn(&Report) -> bool,
    ) -> Report {
        let mut reports = self.reports.clone();
        let seen = reports.wait_for(|report| report.as_ref().is_some_and(&is));
        match tokio::time::timeout(within, seen).await {
            Ok(Ok(report)) => report.clone().unwrap(),
            other => panic!(
                "{}: not seen within {within:?}: {what}; connection closed: {}; last {:#?}",
                self.node,
                matches!(other, Ok(Err(_))),
                *self.reports.borrow()
            ),
        }
    }

    pub(crate) fn make_order(&self, boot: Boot, role: Option<Role>, command: Command) -> Order {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Order { id, node: self.node.clone(), boot, term: self.term.load(Ordering::Relaxed), role, command }
    }

    pub(crate) async fn give(&self, order: Order) -> Result<Done, Refused> {
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(order.id, tell);
        self.send(&ToAgent::Order(Box::new(order)));
        tokio::time::timeout(Duration::from_secs(25), answer)
            .await
            .expect("no answer")
            .expect("the connection ended")
    }

    /// An order to the current life of the engine.
    pub(crate) async fn order(&self, role: Option<Role>, command: Command) -> Result<Done, Refused> {
        let boot = self.report().await.boot;
        self.give(self.make_order(boot, role, command)).await
    }

    pub(crate) async fn start(&self, start: Start) -> Done {
        self.order(None, Command::Start(start)).await.unwrap()
    }

    pub(crate) async fn in_sync(&self) -> Report {
        self.until("a replica in sync", |report| {
            report.engine.as_ref().is_some_and(|engine| {
                engine.role == Some(Role::Replica)
                    && engine.complete
                    && engine.link.as_ref().is_some_and(|link| link.up)
            })
        })
        .await
    }

    pub(crate) async fn goodbye(&self) -> String {
        let mut goodbye = self.goodbye.clone();
        let said = tokio::time::timeout(Duration::from_secs(15), goodbye.wait_for(Option::is_some));
        said.await.expect("no goodbye").unwrap().clone().unwrap()
    }
}

pub(crate) async fn wire(
    node: &Node,
    authority: &Authority,
) -> Result<Framed<tokio_rustls::client::TlsStream<TcpStream>, LinesCodec>, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(node.authority.ca.as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(authority.operator.0.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(authority.operator.1.as_bytes()).unwrap(),
            )
            .unwrap();
    let stream = TcpStream::connect(("127.0.0.1", node.agent_port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(AGENT_SERVER_NAME).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Framed::new(stream, LinesCodec::new_with_max_length(FRAME_BYTES_MAX)))
}

pub(crate) async fn set(
    connection: &mut redis::aio::MultiplexedConnection,
    key: &str,
    value: &str,
) -> redis::RedisResult<()> {
    redis::cmd("SET").arg(key).arg(value).query_async(connection).await
}

pub(crate) async fn fill(connection: &mut redis::aio::MultiplexedConnection, count: usize) {
    let mut pipe = redis::pipe();
    for i in 0..count {
        pipe.cmd("SET").arg(format!("key:{i}")).arg(i).ignore();
    }
    pipe.query_async::<()>(connection).await.unwrap();
}

pub(crate) async fn count(connection: &mut redis::aio::MultiplexedConnection) -> usize {
    redis::cmd("DBSIZE").query_async(connection).await.unwrap()
}

pub(crate) fn running(role: Role) -> impl Fn(&Report) -> bool {
    move |report| {
        report.state == EngineState::Running
            && report.engine.as_ref().is_some_and(|engine| engine.role == Some(role))
    }
}

pub(crate) fn parked(report: &Report) -> bool {
    report.state == EngineState::Parked
}

pub(crate) fn append_only(mut start: Start) -> Start {
    start.directives.push(("appendonly".into(), "yes".into()));
    start
}
