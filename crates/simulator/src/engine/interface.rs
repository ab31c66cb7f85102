//! What the world asks of a model of an engine: a deterministic state machine without I/O, clock or chance of its own.
//!
//! One value is one *process*: [`Model::start`] begins its life, dropping it is `kill -9`. What outlives it is the [`Model::Disk`]
//! that the world keeps: `start` is given one, [`Model::disk`] says what would be on the volume if the process ended now.
//! The same calls in the same order with the same seed give the same answers, byte for byte: no `HashMap` iteration, no wall clock.
//!
//! The world calls [`Model::tick`] no later than the wake that was asked for with [`Out::wake_at`], and delivers packets. It is
//! called tens of thousands of times in a run that should take a few milliseconds, so: no allocation where nothing happens, a wake
//! only when something is due (a real engine's cron runs each 100 ms; one that has nothing to do may be passed over).
//!
//! # The network
//! A packet belongs to a [`Lane`] and a `connection`, drawn by whoever opens it (unique between two processes: draw it from the
//! seed). The world delivers the packets of one (from, to, lane, connection) in order, or not at all any more: after a loss it may
//! call [`Model::broken`] at either end, at any later time, or never (a black hole: own time-outs must notice). It also calls
//! `broken` at the sender when nobody listens at the address (the pod is there, its engine is not). Packets of a connection that the
//! receiver does not know, which were sent to an earlier process at that address, are answered by the receiver with a reset
//! ([`Packet::reset`]), as a kernel does. Source and target are pod addresses: an address may be used again by another node, or by
//! an engine of another group.

use kagami_agent::persistence::Persistence;
use kagami_protocol::EngineView;
use std::fmt;

/// Simulated milliseconds.
pub type Ms = u64;

/// A pod's address; prints as `10.x.y.z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip(pub u32);

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"10.           ";
        let mut end = 2;
        for byte in &self.0.to_be_bytes()[1..] {
            text[end] = b'.';
            for (least, tens) in [(100, 100), (10, 10), (0, 1)] {
                if *byte >= least {
                    end += 1;
                    text[end] = b'0' + byte / tens % 10;
                }
            }
            end += 1;
        }
        f.write_str(std::str::from_utf8(&text[..end]).unwrap_or_default())
    }
}

impl Ip {
    /// The reverse of its text.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("10.")?;
        let mut bytes = [0; 4];
        let mut parts = rest.split('.');
        for byte in bytes.iter_mut().skip(1) {
            *byte = parts.next()?.parse().ok()?;
        }
        parts.next().is_none().then(|| Self(u32::from_be_bytes(bytes)))
    }
}

/// What kind of connection a packet is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The cluster bus.
    Bus,
    /// A replica's connection to its primary.
    Replication,
}

/// One packet on its way.
#[derive(Clone, Debug)]
pub struct Packet<B> {
    /// To which pod.
    pub to: Ip,
    /// The kind of connection.
    pub lane: Lane,
    /// Which connection.
    pub connection: u64,
    /// What it says; `None` is a reset.
    pub body: Option<B>,
}

impl<B> Packet<B> {
    /// The answer of a kernel to a packet of a connection that it does not know.
    pub fn reset(to: Ip, lane: Lane, connection: u64) -> Self {
        Self { to, lane, connection, body: None }
    }
}

/// What comes of a call.
#[derive(Debug)]
pub struct Out<B> {
    /// Packets to send, in order.
    pub packets: Vec<Packet<B>>,
    /// Answers to clients, by the request's number.
    pub replies: Vec<(u64, Answer)>,
    /// The engine ended by itself (it refuses its own data, or its disk is full).
    pub ended: Option<String>,
    /// When to call [`Model::tick`] at the latest; each call that fills an `Out` sets it anew.
    pub wake_ms: Option<Ms>,
}

impl<B> Default for Out<B> {
    fn default() -> Self {
        Self { packets: Vec::new(), replies: Vec::new(), ended: None, wake_ms: None }
    }
}

impl<B> Out<B> {
    /// Asks to be called then, unless that is to be sooner already.
    pub fn wake_at(&mut self, ms: Ms) {
        self.wake_ms = Some(self.wake_ms.map_or(ms, |present| present.min(ms)));
    }
}

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// How a process is started: what matters of the configuration that the agent writes.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Which engine.
    pub kind: Kind,
    /// Major, minor, patch.
    pub version: (u8, u8, u8),
    /// The pod's address, which it announces too.
    pub ip: Ip,
    /// The client port.
    pub port: u16,
    /// The bus port.
    pub bus_port: u16,
    /// `cluster-enabled`.
    pub cluster: bool,
    /// `cluster-node-timeout`.
    pub node_timeout_ms: Ms,
    /// `appendonly` (with `everysec`).
    pub append_only: bool,
    /// Snapshots on their own (`save 300 100` and the like): how often; `None` where off.
    pub save_every_ms: Option<Ms>,
    /// `replicaof` in the configuration (cluster mode disabled).
    pub replica_of: Option<Ip>,
    /// `repl-timeout`.
    pub repl_timeout_ms: Ms,
    /// `repl-ping-replica-period`.
    pub ping_every_ms: Ms,
    /// `repl-backlog-size`, in writes.
    pub backlog_writes: usize,
    /// Which replication password it has, and uses: each shard has its own.
    pub password: u64,
    /// Whether the replication user may log in from the start (`user repl on`).
    pub source_open: bool,
    /// `replica-serve-stale-data`.
    pub stale_reads: bool,
    /// Whether the others may elect it while it is a replica (`cluster-replica-no-failover no`).
    pub electable: bool,
    /// How long the loading of one write's worth of data from disk takes, in microseconds.
    pub load_us_per_write: u64,
}

/// A key: its slot, and a number that no other write has (clients of the simulation never write a key twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `CRC16(key) mod 16384`, chosen by the world; 0 with cluster mode disabled.
    pub slot: u16,
    /// The number.
    pub id: u32,
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `SET`, and then `WAIT replicas within_ms` where `wait` is given.
    Set {
        /// The key.
        key: Key,
        /// How many replicas, and for how long.
        wait: Option<(u32, Ms)>,
    },
    /// `GET` (a cluster client sends `READONLY` first).
    Get {
        /// The key.
        key: Key,
    },
}

/// What a client is answered. While writes are paused a `Set` is answered when the pause ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The write is in; this many replicas have acknowledged it (0 where no `WAIT` was asked for).
    Written {
        /// `WAIT`'s answer.
        replicas: u32,
    },
    /// The key is there, or not.
    Found(bool),
    /// `MOVED` to there.
    Moved(Ip),
    /// Any other error, in the engine's words (`CLUSTERDOWN …`, `READONLY …`, `LOADING …`, `MASTERDOWN …`, `NOREPLICAS …`).
    Error(String),
}

/// What a command of the agent is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple or bulk string.
    Text(String),
    /// A number.
    Number(i64),
    /// An error, in the engine's words.
    Error(String),
}

impl Reply {
    /// The error, if it is one.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(words) => Some(words),
            _ => None,
        }
    }
}

/// A model of an engine.
pub trait Model: Sized {
    /// What its packets say.
    type Body: Clone + fmt::Debug;
    /// A volume's content: dataset (`dump.rdb`, the append-only file) with its replication id and offset. No `nodes.conf`: Kagami
    /// puts that aside at every start. The default is empty.
    type Disk: Clone + fmt::Debug + Default;

    /// A process begins, with what is on its disk. `seed` gives it its run id, node id, replication id and jitter.
    fn start(config: EngineConfig, disk: Self::Disk, seed: u64, now: Ms, out: &mut Out<Self::Body>) -> Self;

    /// A command over the agent's socket; answered at once, also while it loads (with `LOADING …` where an engine says so).
    ///
    /// Those which the agent sends (`crates/agent/src/{cluster,observe,perform,start,stop,writes}.rs`): `INFO [section]`, `ROLE`,
    /// `CLUSTER INFO|NODES|MYID|MEET|ADDSLOTS|ADDSLOTSRANGE|SET-CONFIG-EPOCH|BUMPEPOCH|REPLICATE|FORGET|FAILOVER [FORCE|TAKEOVER]|
    /// RESET`, `REPLICAOF`, `CLIENT PAUSE ms WRITE`, `CLIENT UNPAUSE`, `CONFIG GET|SET`, `ACL SETUSER kagami-replication on|off`,
    /// `SHUTDOWN [SAVE|NOSAVE]` (sets [`Out::ended`]), `BGSAVE`, `DEBUG SLEEP` is the world's (it just does not call).
    fn command(&mut self, now: Ms, words: &[&str], out: &mut Out<Self::Body>) -> Reply;

    /// A client's request; answered through [`Out::replies`], now or in a later call.
    fn client(&mut self, now: Ms, number: u64, request: Request, out: &mut Out<Self::Body>);

    /// A packet arrived.
    fn packet(&mut self, now: Ms, from: Ip, packet: Packet<Self::Body>, out: &mut Out<Self::Body>);

    /// A connection with a peer is broken (reset, or refused as it was opened).
    fn broken(&mut self, now: Ms, peer: Ip, lane: Lane, connection: u64, out: &mut Out<Self::Body>);

    /// Time has passed.
    fn tick(&mut self, now: Ms, out: &mut Out<Self::Body>);

    /// What would be on the volume if the process ended now. `power_lost`: what the kernel had not written yet is gone too (up to a
    /// second of an append-only file).
    fn disk(&self, power_lost: bool) -> Self::Disk;

    // What follows is for the agent's fast way and for the judges; none of it changes anything.

    /// What `INFO` (server, replication, keyspace, memory), `CLUSTER INFO` and `CLUSTER NODES` say, read as the agent reads them:
    /// equal to `engine_text` over the texts (a test holds both together). `complete` is left false: the agent judges that.
    fn view(&self, now: Ms) -> EngineView;

    /// What `INFO persistence` says, read as the agent reads it.
    fn persistence(&self, now: Ms) -> Persistence;

    /// Whether a client's write to that slot would be taken *now*: a primary that owns it, `cluster_state:ok`, not loading, not
    /// paused, enough replicas.
    fn writable(&self, now: Ms, slot: u16) -> bool;

    /// Whether reads of that slot would be answered from the own data (by a primary, or by a replica to a `READONLY` client).
    fn readable(&self, now: Ms, slot: u16) -> bool;

    /// Whether it is a replica.
    fn is_replica(&self) -> bool;

    /// Whether it is loading, from disk or from a full sync.
    fn is_loading(&self) -> bool;

    /// Whether it holds a key now (while a full sync replaces the data: what is in memory).
    fn holds(&self, key: Key) -> bool;

    /// How many keys it holds.
    fn keys(&self) -> usize;

    /// Its cluster node id, where cluster mode is enabled.
    fn id(&self) -> &str;

    /// The keys on a disk.
    fn on_disk(disk: &Self::Disk) -> Vec<Key>;

    /// Whether there is a dataset that an engine would load.
    fn has_data(disk: &Self::Disk) -> bool;
}
