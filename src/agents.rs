//! The agents' streams: one connection for each pod, dialled by the operator; what is pushed is kept, and wakes the group.

use crate::leader::Fresh;
use futures::channel::mpsc::UnboundedSender;
use futures::{SinkExt, StreamExt};
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::observed::{Agent, PodView};
use kagami_core::plan::Confirm;
use kagami_cycle::Failed;
use kagami_protocol::Shared;
use kagami_protocol::{
    AGENT_PORT, AGENT_SERVER_NAME, BEAT_MS, Boot, Done, EngineState, FRAME_BYTES_MAX, FromAgent, OperatorId,
    Order, Report, ToAgent, VERSION,
};
use kube::runtime::reflector::ObjectRef;
use rustls::pki_types::ServerName;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::codec::{Framed, LinesCodec};
use tracing::{debug, info};

/// An agent that said nothing for this long is silent: three beats, so that one lost frame is no silence.
const SILENCE: Duration = Duration::from_millis(3 * BEAT_MS);
/// How long a connection may take.
const DIAL: Duration = Duration::from_millis(1_000);
/// The first pause before dialling again; it doubles up to [`REDIAL_MAX`].
const REDIAL_MIN: Duration = Duration::from_millis(25);
const REDIAL_MAX: Duration = Duration::from_millis(1_000);
/// How long an order may take in all: the agent bounds each of its commands by 5 s, starting an engine by 20 s.
const ORDER: Duration = Duration::from_secs(25);

/// Wakes a group's queue entry.
pub(crate) type Wake = UnboundedSender<ObjectRef<ReplicationGroup>>;

/// All connections of this process.
pub(crate) struct Agents {
    operator: OperatorId,
    fresh: Fresh,
    wake: Wake,
    connections: Mutex<HashMap<(String, String), Connection>>,
    ids: AtomicU64,
}

/// One pod's connection; dropped, it ends.
struct Connection {
    tls: Arc<rustls::ClientConfig>,
    pod_uid: String,
    ip: String,
    heard: Arc<Mutex<Heard>>,
    orders: mpsc::Sender<Request>,
    confirm: Arc<Mutex<Option<(Confirm, Instant)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was heard of one pod.
#[derive(Default)]
struct Heard {
    report: Option<Shared<Report>>,
    at: Option<Instant>,
    connected: bool,
    /// The last offset of an engine that ran there, also after its end.
    offset: Option<i64>,
}

/// How long an order may wait for its connection; it was decided on what was seen then.
const ORDER_WAITS: Duration = Duration::from_millis(500);

struct Request {
    order: Box<Order>,
    since: Instant,
    answer: oneshot::Sender<Result<Done, Failed>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking holder left is still what was heard last.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pod whose agent is to be heard.
pub(crate) struct Wanted {
    pub(crate) node: String,
    pub(crate) pod_uid: String,
    pub(crate) ip: String,
}

impl Agents {
    pub(crate) fn new(operator: OperatorId, fresh: Fresh, wake: Wake) -> Self {
        Self { operator, fresh, wake, connections: Mutex::default(), ids: AtomicU64::new(1) }
    }

    /// Connects to the pods of a group that are there now, and to no others.
    pub(crate) fn attend(
        &self,
        group: &ObjectRef<ReplicationGroup>,
        wanted: &[Wanted],
        tls: &Arc<rustls::ClientConfig>,
    ) {
        let namespace = group.namespace.clone().unwrap_or_default();
        let mut connections = locked(&self.connections);
        for pod in wanted {
            let key = (namespace.clone(), pod.node.clone());
            let fits = connections.get(&key).is_some_and(|present| {
                present.pod_uid == pod.pod_uid && present.ip == pod.ip && Arc::ptr_eq(&present.tls, tls)
            });
            if !fits {
                let connection = self.dial(group.clone(), pod, tls.clone());
                connections.insert(key, connection);
            }
        }
    }

    /// Ends the connections of a group.
    pub(crate) fn leave(&self, namespace: &str, nodes: &[String]) {
        let mut connections = locked(&self.connections);
        for node in nodes {
            connections.remove(&(namespace.to_owned(), node.clone()));
        }
    }

    /// What is known of a node's agent.
    pub(crate) fn agent(&self, namespace: &str, node: &str, pod_uid: Option<&str>) -> Agent {
        let connections = locked(&self.connections);
        let Some(connection) = connections.get(&(namespace.to_owned(), node.to_owned())) else {
            return Agent::Unheard;
        };
        if pod_uid.is_some_and(|uid| uid != connection.pod_uid) {
            return Agent::Unheard;
        }
        let heard = locked(&connection.heard);
        let (Some(report), Some(at)) = (&heard.report, heard.at) else { return Agent::Unheard };
        let silent = at.elapsed();
        if heard.connected && silent < SILENCE {
            Agent::Up(report.clone())
        } else {
            Agent::Silent {
                silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
                last: report.clone(),
            }
        }
    }

    /// A node's pod that is not the one of that UID, and whose agent speaks still: as it was, and being deleted.
    pub(crate) fn departing(
        &self,
        namespace: &str,
        node: &str,
        uid: Option<&str>,
    ) -> Option<(PodView, Shared<Report>)> {
        let (pod_uid, ip) = {
            let connections = locked(&self.connections);
            let connection = connections.get(&(namespace.to_owned(), node.to_owned()))?;
            (connection.pod_uid.clone(), connection.ip.clone())
        };
        if uid == Some(&pod_uid) {
            return None;
        }
        let Agent::Up(report) = self.agent(namespace, node, Some(&pod_uid)) else { return None };
        Some((PodView { uid: pod_uid, ip: Some(ip), deleting: true, ..PodView::default() }, report))
    }

    /// The last offset that was heard of a node's engine, in bytes of history; also after the engine's end.
    pub(crate) fn last_offset(&self, namespace: &str, node: &str) -> Option<i64> {
        let connections = locked(&self.connections);
        let connection = connections.get(&(namespace.to_owned(), node.to_owned()))?;
        locked(&connection.heard).offset
    }

    /// From now on these primaries of a group are confirmed with each beat, and no others of the group.
    pub(crate) fn confirm(&self, namespace: &str, nodes: &[String], confirms: &[Confirm]) {
        let connections = locked(&self.connections);
        let now = Instant::now();
        for node in nodes {
            if let Some(connection) = connections.get(&(namespace.to_owned(), node.clone())) {
                let confirm = confirms.iter().find(|confirm| confirm.node == *node);
                *locked(&connection.confirm) = confirm.map(|confirm| (confirm.clone(), now));
            }
        }
    }

    /// Sends one order and waits for its answer.
    pub(crate) async fn order(&self, namespace: &str, order: kagami_cycle::Order) -> Result<Done, Failed> {
        let kagami_cycle::Order { node, boot, term, role, command } = order;
        if !self.fresh.holds() {
            return Err(Failed::Unanswered("this process may no longer act".into()));
        }
        let (answer, answered) = oneshot::channel();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let key = (namespace.to_owned(), node.clone());
        let order = Box::new(Order { id, node, boot, term, role, command });
        let orders = {
            let connections = locked(&self.connections);
            let connection = connections.get(&key);
            connection.map(|connection| connection.orders.clone())
        };
        let Some(orders) = orders else { return Err(Failed::Unanswered("no connection".into())) };
        if orders.send(Request { order, since: Instant::now(), answer }).await.is_err() {
            return Err(Failed::Unanswered("no connection".into()));
        }
        match timeout(ORDER, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failed::Unanswered("the connection ended".into())),
            Err(_) => Err(Failed::Unanswered(format!("no answer within {ORDER:?}"))),
        }
    }

    fn dial(
        &self,
        group: ObjectRef<ReplicationGroup>,
        pod: &Wanted,
        tls: Arc<rustls::ClientConfig>,
    ) -> Connection {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let confirm = Arc::new(Mutex::new(None));
        let (orders, requests) = mpsc::channel(16);
        let kept = tls.clone();
        let line = Line {
            operator: self.operator.clone(),
            fresh: self.fresh.clone(),
            node: pod.node.clone(),
            ip: pod.ip.clone(),
            tls,
            heard: heard.clone(),
            confirm: confirm.clone(),
            wake: self.wake.clone(),
            group,
        };
        let task = tokio::spawn(line.run(requests));
        Connection {
            tls: kept,
            pod_uid: pod.pod_uid.clone(),
            ip: pod.ip.clone(),
            heard,
            orders,
            confirm,
            task,
        }
    }
}

/// One pod's line.
struct Line {
    operator: OperatorId,
    fresh: Fresh,
    node: String,
    ip: String,
    tls: Arc<rustls::ClientConfig>,
    heard: Arc<Mutex<Heard>>,
    confirm: Arc<Mutex<Option<(Confirm, Instant)>>>,
    wake: Wake,
    group: ObjectRef<ReplicationGroup>,
}

type Stream = Framed<tokio_rustls::client::TlsStream<TcpStream>, LinesCodec>;

impl Line {
    async fn run(self, mut requests: mpsc::Receiver<Request>) {
        let mut pause = REDIAL_MIN;
        loop {
            match timeout(DIAL, self.connect()).await {
                Ok(Ok(stream)) => {
                    locked(&self.heard).connected = true;
                    let begun = Instant::now();
                    let ended = self.talk(stream, &mut requests).await;
                    locked(&self.heard).connected = false;
                    info!(node = self.node, ip = self.ip, why = ended, "an agent's connection ended");
                    // One that is turned away at once (by an agent that knows a newer operator) is not asked all the time.
                    if begun.elapsed() >= SILENCE {
                        pause = REDIAL_MIN;
                    }
                    self.wake();
                }
                Ok(Err(error)) => {
                    debug!(node = self.node, ip = self.ip, error, "an agent could not be dialled")
                }
                Err(_) => debug!(node = self.node, ip = self.ip, "an agent could not be dialled in time"),
            }
            while let Ok(request) = requests.try_recv() {
                let _ = request.answer.send(Err(Failed::Unanswered("no connection".into())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }

    fn wake(&self) {
        let _ = self.wake.unbounded_send(self.group.clone());
    }

    async fn connect(&self) -> Result<Stream, String> {
        let tcp =
            TcpStream::connect((self.ip.as_str(), AGENT_PORT)).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(AGENT_SERVER_NAME).map_err(|error| error.to_string())?;
        let tls = TlsConnector::from(self.tls.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| error.to_string())?;
        let mut stream = Framed::new(tls, LinesCodec::new_with_max_length(FRAME_BYTES_MAX));
        send(&mut stream, &ToAgent::Hello { version: VERSION, operator: self.operator.clone() }).await?;
        Ok(stream)
    }

    /// Returns why the connection ended.
    async fn talk(&self, mut stream: Stream, requests: &mut mpsc::Receiver<Request>) -> String {
        let mut waiting: BTreeMap<u64, oneshot::Sender<Result<Done, Failed>>> = BTreeMap::new();
        let mut beat = tokio::time::interval(Duration::from_millis(BEAT_MS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        // The agent's last beat on this connection, by its own clock: what a confirmation answers.
        let mut heard_ms = None;
        loop {
            tokio::select! {
                // Not with the next beat: each moment of it is one in which nobody may write.
                () = tokio::time::sleep_until(last + SILENCE) => return format!("nothing was heard for {SILENCE:?}"),
                frame = stream.next() => {
                    let line = match frame {
                        None => return "the agent closed it".into(),
                        Some(Err(error)) => return error.to_string(),
                        Some(Ok(line)) => line,
                    };
                    last = Instant::now();
                    // A frame of a later release that is not understood is no reason to stop listening.
                    let Ok(frame) = serde_json::from_str::<FromAgent>(&line) else {
                        debug!(node = self.node, "a frame was not understood");
                        continue;
                    };
                    match frame {
                        FromAgent::Welcome { node, .. } if node != self.node => return format!("{node} answers at this address"),
                        FromAgent::Welcome { .. } => {}
                        FromAgent::Goodbye { message } => return message,
                        FromAgent::Answer { id, outcome } => {
                            if let Some(answer) = waiting.remove(&id) {
                                let _ = answer.send(outcome.map_err(Failed::Refused));
                            }
                        }
                        FromAgent::Beat { boot, offset, at_ms } => {
                            self.beat(&boot, offset);
                            if at_ms.is_some() {
                                heard_ms = at_ms;
                                // At once: the older the beat is that it answers, the less a confirmation is worth.
                                if let Err(error) = self.say(&mut stream, heard_ms).await {
                                    return error;
                                }
                                beat.reset();
                            }
                        }
                        FromAgent::Report(report) => self.report(report),
                    }
                }
                request = requests.recv() => {
                    let Some(Request { order, since, answer }) = request else { return "no longer wanted".into() };
                    if since.elapsed() > ORDER_WAITS {
                        let _ = answer.send(Err(Failed::Unanswered("it waited too long for a connection".into())));
                        continue;
                    }
                    let id = order.id;
                    if let Err(error) = send(&mut stream, &ToAgent::Order(order)).await {
                        let _ = answer.send(Err(Failed::Unanswered(error.clone())));
                        return error;
                    }
                    waiting.insert(id, answer);
                }
                _ = beat.tick() => {
                    if let Err(error) = self.say(&mut stream, heard_ms).await {
                        return error;
                    }
                }
            }
        }
    }

    /// Confirms the primary, or says that somebody is here.
    async fn say(&self, stream: &mut Stream, heard_ms: Option<u64>) -> Result<(), String> {
        let confirm = locked(&self.confirm).clone();
        let frame = match confirm {
            Some((confirm, since)) if self.may_confirm(&confirm, since, heard_ms) => {
                ToAgent::Confirm { term: confirm.term, guard: confirm.guard, heard_ms }
            }
            _ => ToAgent::Beat,
        };
        send(stream, &frame).await
    }

    /// Only the life that was reported last, in its time, by a leader; and on a new connection not before its first beat, where the
    /// agent's beats say when they were sent: without one, it would count from when it reads this.
    fn may_confirm(&self, confirm: &Confirm, since: Instant, heard_ms: Option<u64>) -> bool {
        let heard = locked(&self.heard);
        let asked = |report: &Report| heard_ms.is_some() || !report.dates_witnesses();
        let in_time = confirm.for_ms.is_none_or(|ms| since.elapsed() < Duration::from_millis(ms));
        heard.report.as_deref().is_some_and(|report| report.boot == confirm.boot && asked(report))
            && in_time
            && self.fresh.holds()
    }

    fn beat(&self, boot: &Boot, offset: Option<i64>) {
        let mut heard = locked(&self.heard);
        heard.at = Some(Instant::now());
        if let Some(report) = &mut heard.report
            && report.boot == *boot
            && let (Some(engine), Some(offset)) = (&mut report.engine, offset)
        {
            engine.offset = offset;
            heard.offset = Some(offset);
        }
    }

    fn report(&self, report: Box<Report>) {
        if report.node != self.node {
            return;
        }
        if let Some(exit) = &report.last_exit
            && report.state == EngineState::Parked
        {
            debug!(node = self.node, signal = exit.signal, code = exit.code, "an engine has ended");
        }
        {
            let mut heard = locked(&self.heard);
            heard.at = Some(Instant::now());
            heard.connected = true;
            heard.offset = report.engine.as_ref().map(|engine| engine.offset).or(heard.offset);
            heard.report = Some(report.into());
        }
        self.wake();
    }
}

async fn send(stream: &mut Stream, frame: &ToAgent) -> Result<(), String> {
    let line = serde_json::to_string(frame).map_err(|error| error.to_string())?;
    match timeout(DIAL, stream.send(line)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("it could not be written to in time".into()),
    }
}
