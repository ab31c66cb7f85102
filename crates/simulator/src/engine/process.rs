//! The process: its life, its clock, its outbox, and the clients that wait.

use super::cluster::Cluster;
use super::config::{Abilities, Settings};
use super::data::{Data, Write};
use super::disk::{self, Disk, Loading, NodesConf};
use super::interface::{Answer, EngineConfig, Ip, Key, Lane, Model, Ms, Out, Packet, Reply, Request};
use super::replica::{self, Source};
use super::replication::Replication;
use super::types::{Body, ReplId, Says};
use super::view::Shown;
use kagami_agent::persistence::Persistence;
use kagami_protocol::EngineView;
use std::cell::RefCell;

/// A small, fast source of chance (SplitMix64); one seed gives one sequence. Never zero.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Seeds that are near each other give sequences that have nothing in common.
    pub(super) fn new(seed: u64) -> Self {
        let mixed = Self(seed ^ 0x5851_f42d_4c95_7f2d).next();
        Self(mixed.rotate_left(23).wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }

    /// A number below a bound, which must not be zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// Until when writes wait: told so by a client, or for a manual failover.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    by_client_ms: Ms,
    by_failover_ms: Ms,
}

/// A client that waits for its answer.
#[derive(Clone, Debug)]
enum Waiting {
    /// For the end of a pause.
    Pause(u64, Request),
    /// For replicas at an offset, until then.
    Replicas { number: u64, offset: i64, wanted: u32, until_ms: Ms },
}

/// One engine process.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) version: String,
    pub(super) valkey: bool,
    pub(super) settings: Settings,
    pub(super) can: Abilities,
    pub(super) chance: Chance,
    pub(super) now: Ms,
    pub(super) started_ms: Ms,
    pub(super) data: Data,
    pub(super) loading: Option<Loading>,
    pub(super) repl: Replication,
    pub(super) cluster: Option<Cluster>,
    pub(super) on_disk: disk::State,
    pub(super) source_open: bool,
    pub(super) password: u64,
    /// Directives that are only remembered.
    pub(super) others: std::collections::BTreeMap<String, String>,
    pub(super) load_us_per_write: u64,
    pub(super) backlog_writes: usize,
    pub(super) del_sync_files: bool,
    pub(super) save_every_ms: Option<Ms>,
    pub(super) ended: Option<String>,
    /// How often each command was called.
    pub(super) called: Vec<(String, u64)>,
    pause: Pause,
    waiting: Vec<Waiting>,
    outbox: Vec<Packet<Body>>,
    pub(super) shown: RefCell<Option<Shown>>,
}

impl Engine {
    /// Whom it follows with its link up, and since when.
    pub fn followed(&self) -> Option<(super::interface::Ip, u64)> {
        let source = self.repl.source.as_ref().filter(|source| source.is_up())?;
        Some((source.addr.ip, source.up_since_ms))
    }

    /// Whether the replication user may log in.
    pub fn lets_replicas_in(&self) -> bool {
        self.source_open
    }

    /// A process begins on what its disk holds, with the `nodes.conf` that an earlier life left, if it was kept.
    #[must_use]
    pub fn begin(config: EngineConfig, disk: &Disk, nodes: Option<&NodesConf>, seed: u64, now: Ms) -> Self {
        let mut chance = Chance::new(seed);
        let can = Abilities::of(&config);
        let settings = Settings::of(&config, can);
        let (major, minor, patch) = config.version;
        let mut engine = Self {
            version: format!("{major}.{minor}.{patch}"),
            valkey: config.kind == super::interface::Kind::Valkey,
            can,
            repl: Replication::new(ReplId(chance.next()), now),
            cluster: config.cluster.then(|| Cluster::start(&settings, nodes, &mut chance, now)),
            settings,
            chance,
            now,
            started_ms: now,
            data: Data::default(),
            loading: None,
            on_disk: disk::State::new(disk, config.save_every_ms, now),
            source_open: config.source_open,
            password: config.password,
            others: std::collections::BTreeMap::new(),
            load_us_per_write: config.load_us_per_write,
            backlog_writes: config.backlog_writes,
            // Kagami has what a full sync left on disk deleted where nothing is to be kept.
            del_sync_files: !config.append_only,
            save_every_ms: config.save_every_ms,
            ended: None,
            called: Vec::new(),
            pause: Pause::default(),
            waiting: Vec::new(),
            outbox: Vec::new(),
            shown: RefCell::default(),
        };
        if let Some(ip) = config.replica_of.filter(|_| !config.cluster) {
            let addr = super::types::Addr { ip, ..engine.settings.own };
            engine.repl.source = Some(Source::new(addr, now));
        }
        engine.begin_loading(disk);
        engine
    }

    /// A disk on which a background fsync always runs: the engine puts off its writes to the append-only file for up to two
    /// seconds, so that even `kill -9` loses them.
    pub fn set_slow_disk(&mut self, slow: bool) {
        self.on_disk.slow = slow;
    }

    /// What `nodes.conf` says now.
    #[must_use]
    pub fn nodes_conf(&self) -> Option<NodesConf> {
        self.cluster.as_ref().map(NodesConf::of)
    }

    pub(super) fn send(&mut self, to: Ip, lane: Lane, connection: u64, body: Option<Body>) {
        self.outbox.push(Packet { to, lane, connection, body });
    }

    pub(super) fn reset(&mut self, to: Ip, lane: Lane, connection: u64) {
        self.outbox.push(Packet::reset(to, lane, connection));
    }

    pub(super) fn paused(&self) -> bool {
        self.pause.by_client_ms.max(self.pause.by_failover_ms) > self.now
    }

    /// Writes wait until then, unless they wait for longer already.
    pub(super) fn pause_until(&mut self, until_ms: Ms, for_failover: bool) {
        let pause = if for_failover { &mut self.pause.by_failover_ms } else { &mut self.pause.by_client_ms };
        *pause = until_ms.max(*pause);
    }

    pub(super) fn end_pause(&mut self, of_failover: bool) {
        // Before 7.0 there is one pause for both.
        if of_failover || !self.can.seven {
            self.pause.by_failover_ms = 0;
        }
        if !of_failover || !self.can.seven {
            self.pause.by_client_ms = 0;
        }
    }

    pub(super) fn count(&mut self, name: &str) {
        match self.called.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, count)) => *count += 1,
            None => self.called.push((name.to_ascii_lowercase(), 1)),
        }
    }

    fn advance(&mut self, now: Ms) {
        self.now = self.now.max(now);
    }

    /// The end of each call: what follows at once, and what the world is told.
    fn finish(&mut self, out: &mut Out<Body>) {
        if let Some(why) = &self.ended {
            out.ended = Some(why.clone());
            self.outbox.clear();
            return;
        }
        self.before_sleep();
        self.serve_waiting(out);
        out.packets.append(&mut self.outbox);
        out.wake_at(self.due_ms());
    }

    fn due_ms(&self) -> Ms {
        let mut due = self.repl.cron_ms;
        if self.repl.source.is_none() && self.repl.replicas.is_empty() {
            // Nobody to be pinged, and nothing to be reconnected.
            due = Ms::MAX;
        }
        if let Some(cluster) = &self.cluster {
            due = due.min(cluster.next_cron_ms);
        }
        if let Some(loading) = &self.loading {
            due = due.min(loading.until_ms);
        }
        due = due.min(self.replica_due_ms().unwrap_or(Ms::MAX)).min(self.on_disk.due_ms());
        for waiting in &self.waiting {
            due = due.min(match waiting {
                Waiting::Pause(..) => self.pause.by_client_ms.max(self.pause.by_failover_ms),
                Waiting::Replicas { until_ms, .. } => *until_ms,
            });
        }
        due.max(self.now + 1)
    }

    fn serve_waiting(&mut self, out: &mut Out<Body>) {
        if self.waiting.is_empty() {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Pause(number, request) if self.paused() => {
                    self.waiting.push(Waiting::Pause(number, request));
                }
                Waiting::Pause(number, request) => self.serve(number, request, out),
                Waiting::Replicas { number, offset, wanted, until_ms } => {
                    let have = u32::try_from(self.repl.acknowledged(offset)).unwrap_or(u32::MAX);
                    if have >= wanted || self.now >= until_ms || self.repl.source.is_some() {
                        out.replies.push((number, Answer::Written { replicas: have }));
                    } else {
                        self.waiting.push(waiting);
                    }
                }
            }
        }
    }

    fn serve(&mut self, number: u64, request: Request, out: &mut Out<Body>) {
        let (key, writes) = match request {
            Request::Set { key, .. } => (key, true),
            Request::Get { key } => (key, false),
        };
        if let Err(answer) = self.admit(key.slot, Some(key), writes, true) {
            out.replies.push((number, answer));
            return;
        }
        if !(writes && self.paused()) {
            self.count(if writes { "set" } else { "get" });
        }
        match request {
            Request::Get { .. } => out.replies.push((number, Answer::Found(self.data.has(key)))),
            Request::Set { .. } if self.paused() => self.waiting.push(Waiting::Pause(number, request)),
            Request::Set { wait, .. } => {
                self.write(Write::Set(key));
                match wait {
                    None => out.replies.push((number, Answer::Written { replicas: 0 })),
                    Some((wanted, within_ms)) => {
                        let (offset, until_ms) = (self.repl.offset, self.now + within_ms);
                        // `WAIT` asks the replicas to acknowledge at once.
                        self.waiting.push(Waiting::Replicas { number, offset, wanted, until_ms });
                    }
                }
            }
        }
    }
}

impl Model for Engine {
    type Body = Body;
    type Disk = Disk;

    fn start(config: EngineConfig, disk: Disk, seed: u64, now: Ms, out: &mut Out<Body>) -> Self {
        let mut engine = Self::begin(config, &disk, None, seed, now);
        engine.finish(out);
        engine
    }

    fn command(&mut self, now: Ms, words: &[&str], out: &mut Out<Body>) -> Reply {
        self.advance(now);
        let reply = self.dispatch(words);
        self.finish(out);
        reply
    }

    fn client(&mut self, now: Ms, number: u64, request: Request, out: &mut Out<Body>) {
        self.advance(now);
        self.serve(number, request, out);
        self.finish(out);
    }

    fn packet(&mut self, now: Ms, from: Ip, packet: Packet<Body>, out: &mut Out<Body>) {
        self.advance(now);
        let Packet { lane, connection, body, .. } = packet;
        match body {
            None if lane == Lane::Bus => self.bus_broken(from, connection),
            None => self.repl_broken(from, connection),
            Some(Body { port, says }) => match says {
                Says::Bus { opens, .. } if opens && port != self.settings.own.bus_port => {
                    self.reset(from, lane, connection);
                }
                Says::Bus { opens, header, bus } => self.bus_packet(from, connection, opens, &header, bus),
                Says::Repl(repl) => self.repl_packet(from, connection, repl),
            },
        }
        self.finish(out);
    }

    fn broken(&mut self, now: Ms, peer: Ip, lane: Lane, connection: u64, out: &mut Out<Body>) {
        self.packet(now, peer, Packet::reset(peer, lane, connection), out);
    }

    fn tick(&mut self, now: Ms, out: &mut Out<Body>) {
        self.advance(now);
        self.finish_loading();
        self.replication_cron();
        self.cluster_cron();
        self.disk_cron();
        self.finish(out);
    }

    fn disk(&self, power_lost: bool) -> Disk {
        self.disk_now(power_lost)
    }

    fn view(&self, now: Ms) -> EngineView {
        self.typed_view(now)
    }

    fn persistence(&self, _now: Ms) -> Persistence {
        self.typed_persistence()
    }

    fn writable(&self, now: Ms, slot: u16) -> bool {
        let paused = self.pause.by_client_ms.max(self.pause.by_failover_ms) > now;
        !paused && self.admit(slot, None, true, false).is_ok()
    }

    fn readable(&self, _now: Ms, slot: u16) -> bool {
        self.admit(slot, None, false, true).is_ok()
    }

    fn is_replica(&self) -> bool {
        match &self.cluster {
            Some(cluster) => cluster.me().replica,
            None => self.repl.source.is_some(),
        }
    }

    fn is_loading(&self) -> bool {
        self.loading.is_some() || self.repl.source.as_ref().is_some_and(replica::Source::is_loading)
    }

    fn holds(&self, key: Key) -> bool {
        self.data.has(key)
    }

    fn keys(&self) -> usize {
        self.data.len()
    }

    fn id(&self) -> &str {
        self.cluster.as_ref().map_or("", |cluster| cluster.id_text.as_str())
    }

    fn on_disk(disk: &Disk) -> Vec<Key> {
        disk.log
            .as_ref()
            .or(disk.snapshot.as_ref().map(|snapshot| &snapshot.data))
            .map(Data::keys)
            .unwrap_or_default()
    }

    fn has_data(disk: &Disk) -> bool {
        disk.log.is_some() || disk.snapshot.is_some()
    }
}
