//! The clients: in the network of one machine of the cluster, on a thread of their own.

use anyhow::{Context, Result, bail, ensure};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::TcpSettings;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How often a write is attempted.
const EVERY: Duration = Duration::from_millis(1);
/// How long a client waits for a connection, and for an answer.
const CONNECT: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_millis(500);
/// How long redis-py is waited for once the others write again: as long as its retries of dead addresses take, and some.
const PYTHON_WAIT: Duration = Duration::from_secs(15);
/// Writes through the cluster client that wait at a time, at most.
const IN_FLIGHT: usize = 500;
/// A cluster client that brings nothing to an end for this long is given up for a new one, as a service does that watches its
/// errors: redis-rs 1.8.1 never asks for the slots again where an address goes silent (docs/performance.md).
const STUCK: Duration = Duration::from_secs(10);
/// After this long without an acknowledgement of what was sent the kernel closes a connection: without it a client waits for an address
/// that is gone for a quarter of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_millis(500);
/// The program of the other library, and the interpreter that has it.
const REDIS_PY: &str = "benches/failover/redis_py.py";

/// What is written to.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    /// The addresses of the shard's nodes.
    pub(crate) nodes: Vec<String>,
    pub(crate) port: u16,
    /// Cluster mode: a cluster client; else a client of the primary endpoint.
    pub(crate) cluster: bool,
    /// The address of the primary endpoint, with cluster mode disabled.
    pub(crate) service: Option<String>,
    /// A hash tag of the shard.
    pub(crate) tag: String,
    /// The interpreter that has redis-py; without one that library is not measured.
    pub(crate) python: Option<PathBuf>,
}

/// An acknowledged write.
#[derive(Clone, Debug)]
struct Ack {
    at: Instant,
    node: String,
    key: String,
}

#[derive(Default)]
struct Log {
    direct: Mutex<Vec<Ack>>,
    library: Mutex<Vec<Ack>>,
    /// Acknowledged by a replica too (`WAIT 1`).
    confirmed: Mutex<Vec<Ack>>,
    /// Through redis-py.
    python: Mutex<Vec<Ack>>,
    errors: AtomicUsize,
    python_errors: AtomicUsize,
    /// How often a cluster client was given up.
    stuck: AtomicUsize,
    /// The library's last error, for a run that does not go on.
    last_error: Mutex<String>,
    count: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients that write until they are stopped.
pub(crate) struct Probe {
    log: Arc<Log>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<()>>,
    /// Whether redis-py writes, too.
    python: bool,
}

/// What the clients have seen.
pub(crate) struct Observation {
    /// The longest time between two acknowledged writes straight to the nodes, in milliseconds.
    pub(crate) direct_ms: f64,
    /// The same through the client library (or through the primary endpoint).
    pub(crate) library_ms: f64,
    /// The same through redis-py; not a number where it is not measured.
    pub(crate) python_ms: f64,
    /// Errors that the library gave to its user, after its own retries.
    pub(crate) errors: usize,
    /// The same of redis-py.
    pub(crate) python_errors: usize,
    /// How often a cluster client of redis-rs was given up.
    pub(crate) stuck: usize,
    /// Every acknowledged key; whether a replica had acknowledged it too.
    pub(crate) keys: Vec<(String, bool)>,
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            direct_ms: f64::NAN,
            library_ms: f64::NAN,
            python_ms: f64::NAN,
            errors: 0,
            python_errors: 0,
            stuck: 0,
            keys: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} keys, gaps {:.0}, {:.0} and {:.0} ms, {} and {} errors, {} clients stuck",
            self.keys.len(),
            self.direct_ms,
            self.library_ms,
            self.python_ms,
            self.errors,
            self.python_errors,
            self.stuck
        )
    }
}

impl Probe {
    /// Starts writing from a machine.
    pub(crate) fn start(machine: &str, targets: Targets) -> Result<Self> {
        let path = format!("/run/netns/kagami-{machine}");
        let namespace = std::fs::File::open(&path)
            .with_context(|| format!("{path} (only the local cluster can be measured)"))?;
        let log = Arc::new(Log::default());
        let (stop, stopped) = watch::channel(false);
        let python = targets.python.is_some();
        let written = log.clone();
        let thread = std::thread::spawn(move || {
            // This thread alone moves; those that it starts follow it.
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("the machine's network cannot be entered")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(write(targets, written, stopped))
        });
        Ok(Self { log, stop, thread, python })
    }

    /// Waits until writes go on at another node than the old primary, and through the library.
    pub(crate) async fn goes_on(&self, at: Instant, old: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let mut patience = None;
        loop {
            if self.thread.is_finished() {
                bail!("the clients have ended");
            }
            let direct = locked(&self.log.direct).iter().rev().find(|ack| ack.node != old).map(|ack| ack.at);
            let library = locked(&self.log.library).last().map(|ack| ack.at);
            if let (Some(direct), Some(library)) = (direct, library)
                && direct > at
                && library > direct
            {
                // redis-py may be at its retries still; where it does not come back, its gap lasts until the end.
                let python = locked(&self.log.python).last().map(|ack| ack.at);
                let waited = *patience.get_or_insert_with(Instant::now);
                if !self.python
                    || python.is_some_and(|python| python > direct)
                    || waited.elapsed() > PYTHON_WAIT
                {
                    return Ok(());
                }
            }
            ensure!(
                Instant::now() < until,
                "no writes after {:.0} s; the library's last error: {}",
                limit.as_secs_f64(),
                locked(&self.log.last_error)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the clients; gaps count if they end after the fault.
    pub(crate) fn stop(self, at: Instant) -> Result<Observation> {
        let end = Instant::now();
        self.stop.send_replace(true);
        match self.thread.join() {
            Ok(outcome) => outcome?,
            Err(_) => bail!("the clients have panicked"),
        }
        let logs = [&self.log.direct, &self.log.library, &self.log.python];
        let keys = logs
            .into_iter()
            .map(|acks| (acks, false))
            .chain([(&self.log.confirmed, true)])
            .flat_map(|(acks, confirmed)| {
                locked(acks).iter().map(|ack| (ack.key.clone(), confirmed)).collect::<Vec<_>>()
            })
            .collect();
        Ok(Observation {
            direct_ms: longest_gap(&locked(&self.log.direct), at, end),
            library_ms: longest_gap(&locked(&self.log.library), at, end),
            python_ms: longest_gap(&locked(&self.log.python), at, end),
            errors: self.log.errors.load(Ordering::Relaxed),
            python_errors: self.log.python_errors.load(Ordering::Relaxed),
            stuck: self.log.stuck.load(Ordering::Relaxed),
            keys,
        })
    }
}

/// Of those that end after the fault; who wrote no more has one until the end.
fn longest_gap(acks: &[Ack], at: Instant, end: Instant) -> f64 {
    if acks.is_empty() {
        return f64::NAN;
    }
    let mut times: Vec<Instant> = acks.iter().map(|ack| ack.at).chain([end]).collect();
    times.sort();
    let gaps = times.windows(2).filter(|pair| pair[1] >= at).map(|pair| pair[1] - pair[0]);
    gaps.max().map_or(f64::NAN, |gap| gap.as_secs_f64() * 1_000.0)
}

/// All clients, until they are stopped.
async fn write(targets: Targets, log: Arc<Log>, stopped: watch::Receiver<bool>) -> Result<()> {
    let mut clients = Vec::new();
    if let Some(python) = &targets.python {
        let client = start_python(python, &targets)?;
        clients.push(tokio::spawn(through_python(client, log.clone(), stopped.clone())));
    }
    for node in &targets.nodes {
        let client = Straight { ip: node.clone(), port: targets.port, tag: targets.tag.clone(), word: "d" };
        clients.push(tokio::spawn(client.clone().run(log.clone(), stopped.clone(), false)));
        let client = Straight { word: "w", ..client };
        clients.push(tokio::spawn(client.run(log.clone(), stopped.clone(), true)));
    }
    if targets.cluster {
        through_library(&targets, &log, stopped).await?;
    } else if let Some(service) = &targets.service {
        let client =
            Straight { ip: service.clone(), port: targets.port, tag: targets.tag.clone(), word: "e" };
        client.through_endpoint(&log, stopped).await;
    }
    for client in clients {
        client.await?;
    }
    Ok(())
}

/// One connection to one address.
#[derive(Clone)]
struct Straight {
    ip: String,
    port: u16,
    tag: String,
    word: &'static str,
}

impl Straight {
    async fn connect(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://{}:{}/", self.ip, self.port)).ok()?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        client.get_multiplexed_async_connection_with_config(&config).await.ok()
    }

    fn key(&self, log: &Log) -> String {
        format!("{{{}}}:{}{}", self.tag, self.word, log.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Attempts a write every millisecond, one after another; with `confirm` each waits for a replica.
    async fn run(self, log: Arc<Log>, stopped: watch::Receiver<bool>, confirm: bool) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stopped.borrow() {
            tick.tick().await;
            if connection.is_none() {
                connection = self.connect().await;
            }
            let Some(open) = &mut connection else { continue };
            let key = self.key(&log);
            match redis::cmd("SET").arg(&key).arg("1").query_async::<String>(open).await {
                Ok(_) if confirm => {
                    let waited = redis::cmd("WAIT").arg(1).arg(300).query_async::<i64>(open).await;
                    match waited {
                        Ok(count) if count >= 1 => self.note(&log.confirmed, key),
                        Ok(_) => {}
                        Err(_) => connection = None,
                    }
                }
                Ok(_) => self.note(&log.direct, key),
                // READONLY, MOVED, CLUSTERDOWN: it is no primary (yet).
                Err(error) if error.is_connection_dropped() || error.is_timeout() || error.is_io_error() => {
                    connection = None;
                }
                Err(_) => {}
            }
        }
    }

    /// A client of an endpoint: any error means to connect again, as a name that moves asks for.
    async fn through_endpoint(self, log: &Log, stopped: watch::Receiver<bool>) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stopped.borrow() {
            tick.tick().await;
            if connection.is_none() {
                connection = self.connect().await;
            }
            let Some(open) = &mut connection else { continue };
            let key = self.key(log);
            match redis::cmd("SET").arg(&key).arg("1").query_async::<String>(open).await {
                Ok(_) => self.note(&log.library, key),
                Err(_) => {
                    log.errors.fetch_add(1, Ordering::Relaxed);
                    connection = None;
                }
            }
        }
    }

    fn note(&self, acks: &Mutex<Vec<Ack>>, key: String) {
        locked(acks).push(Ack { at: Instant::now(), node: self.ip.clone(), key });
    }
}

/// A write every millisecond through the cluster client, each on its own, as the requests of a service are.
async fn through_library(targets: &Targets, log: &Arc<Log>, stopped: watch::Receiver<bool>) -> Result<()> {
    let seeds: Vec<String> =
        targets.nodes.iter().map(|ip| format!("redis://{ip}:{}/", targets.port)).collect();
    let client = ClusterClientBuilder::new(seeds)
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER)
        .tcp_settings(TcpSettings::default().set_nodelay(true).set_user_timeout(UNACKNOWLEDGED))
        .min_retry_wait(1)
        .max_retry_wait(20)
        .build()?;
    let mut connection = client.get_async_connection().await.context("the cluster client")?;
    let mut in_flight = Arc::new(AtomicUsize::new(0));
    let mut acknowledged = Arc::new(Mutex::new(Instant::now()));
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        tick.tick().await;
        if locked(&acknowledged).elapsed() > STUCK {
            log.stuck.fetch_add(1, Ordering::Relaxed);
            if let Ok(Ok(new)) = tokio::time::timeout(STUCK, client.get_async_connection()).await {
                connection = new;
            }
            (in_flight, acknowledged) = (Arc::default(), Arc::new(Mutex::new(Instant::now())));
        }
        if in_flight.load(Ordering::Relaxed) >= IN_FLIGHT {
            continue;
        }
        in_flight.fetch_add(1, Ordering::Relaxed);
        let (mut connection, log) = (connection.clone(), log.clone());
        let (in_flight, acknowledged) = (in_flight.clone(), acknowledged.clone());
        let key = format!("{{{}}}:c{}", targets.tag, log.count.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(async move {
            let mut command = redis::cmd("SET");
            command.arg(&key).arg("1");
            match connection.req_packed_command(&command).await {
                Ok(_) => {
                    locked(&log.library).push(Ack { at: Instant::now(), node: String::new(), key });
                    *locked(&acknowledged) = Instant::now();
                }
                Err(error) => {
                    log.errors.fetch_add(1, Ordering::Relaxed);
                    *locked(&log.last_error) = error.to_string();
                }
            }
            in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }
    // What waits is given a moment, so that an acknowledged key is not forgotten.
    for _ in 0..100 {
        if in_flight.load(Ordering::Relaxed) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A process of redis-py, in the network of this thread, which it is started from.
fn start_python(python: &PathBuf, targets: &Targets) -> Result<Child> {
    let (mode, host) = match &targets.service {
        Some(service) if !targets.cluster => ("endpoint", service.clone()),
        _ => ("cluster", targets.nodes.join(",")),
    };
    Command::new(python)
        .args([REDIS_PY, mode, &host, &targets.port.to_string(), &targets.tag])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} {REDIS_PY}", python.display()))
}

/// Reads what redis-py was answered, until it has ended.
async fn through_python(mut client: Child, log: Arc<Log>, mut stopped: watch::Receiver<bool>) {
    let Some(output) = client.stdout.take() else { return };
    let mut lines = BufReader::new(output).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                let mut words = line.splitn(3, ' ');
                let (kind, at, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
                let at = at.and_then(|at| at.parse().ok()).and_then(instant);
                match (kind, at) {
                    (Some("a"), Some(at)) => {
                        locked(&log.python).push(Ack { at, node: String::new(), key: rest.to_owned() });
                    }
                    (Some("e"), Some(_)) => {
                        log.python_errors.fetch_add(1, Ordering::Relaxed);
                        *locked(&log.last_error) = format!("redis-py: {rest}");
                    }
                    _ => {}
                }
            }
            // The end of its input is its end.
            _ = stopped.changed() => drop(client.stdin.take()),
        }
    }
    let _ = client.wait().await;
}

/// The instant of a reading of CLOCK_MONOTONIC, which is the clock of `Instant` too.
fn instant(nanoseconds: u64) -> Option<Instant> {
    let now = clock_gettime(ClockId::Monotonic);
    let now_ns = u64::try_from(now.tv_sec).ok()? * 1_000_000_000 + u64::try_from(now.tv_nsec).ok()?;
    Instant::now().checked_sub(Duration::from_nanos(now_ns.checked_sub(nanoseconds)?))
}
