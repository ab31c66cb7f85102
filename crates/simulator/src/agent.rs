//! The agent's process: the rules are the agent's own (`kagami_agent`), here is only when they are asked and what is done about it.

use crate::engine::{Engine, EngineConfig, Ip, Kind, Model, Ms, Out, Reply};
use crate::mutant::Mutant;
use crate::perform::Doing;
use crate::script::Party;
use crate::world::{Event, World};
use kagami_agent::claim::{self, Claim, Follow};
use kagami_agent::guard::Witness;
use kagami_agent::state::{
    Fence, GUARD_PAUSE_MS, Life, Seen, State, note_of_start, puts_aside, same_data, started_as,
};
use kagami_agent::version::Version;
use kagami_protocol::engine_text::{cluster_info, cluster_nodes};
use kagami_protocol::{
    BEAT_MS, Boot, EngineState, Exit, FromAgent, Order, Record, Report, Role, Start, StartRole, ToAgent,
};
use std::collections::VecDeque;
use std::sync::Arc;

const MOVING_MS: Ms = 20;
const RESTING_MS: Ms = 200;
const GUARD_TICK_MS: Ms = 50;
const FOLLOW_WITHIN_MS: Ms = 10_000;
const FOLLOW_EVERY_MS: Ms = 20;
/// The agent's `--handover-ms` and `--shutdown-ms`.
const HANDOVER_MS: Ms = 20_000;
/// An operator that is not heard for this long is gone.
const OPERATOR_SILENT_MS: Ms = kagami_protocol::FENCE_SILENCE_MS;

/// What an engine of this world needs beside what is known of it.
#[derive(Debug)]
pub struct Process {
    /// When it was started.
    pub started: Ms,
    /// The role script still runs, until then.
    pub script: Option<Ms>,
    /// A full sync came since the start.
    pub synced: bool,
    /// Clients have written to it.
    pub written_to: bool,
}

/// An agent process.
#[derive(Debug)]
pub struct Agent {
    /// What it knows.
    pub state: State<Process>,
    /// When it began, for its own clock.
    pub began: Ms,
    /// Orders that wait, with the line they came by.
    pub orders: VecDeque<(u64, u64, Order)>,
    /// The order that is being carried out.
    pub doing: Option<Doing>,
    /// Counts what it does.
    pub works: u64,
    /// Open connections.
    pub lines: Vec<u64>,
    published: Option<Report>,
    published_ms: Ms,
    seq: u64,
    asked_lease_ms: Ms,
    asking: bool,
    looks_at: Ms,
    noted: Option<Record>,
    noted_ms: Ms,
    /// SIGTERM came, and when.
    pub terminated_ms: Option<Ms>,
}

impl World {
    /// A container begins: the agent reads its note and parks.
    pub fn begin(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        if place.gone || place.life != life || place.agent.is_some() || !self.machines[place.machine].up {
            return;
        }
        let machine = place.machine;
        let chance = (self.chance.draw() & 0xffff) as u16;
        let boot =
            Boot { pod_uid: place.uid.clone(), agent: Boot::agent_name(self.wall(machine), chance), run: 1 };
        let name = place.volume.clone();
        let volume = self.volumes.entry(name).or_default();
        let mut note = volume.record.clone();
        if note.as_ref().is_some_and(|note| !note.complete)
            && let Some(back) = volume.restore(note.as_ref())
        {
            note = Some(back);
        }
        let state = State::new(boot, note, volume.has_data(), volume.kept(), String::new());
        let agent = Agent {
            state,
            began: self.now,
            orders: VecDeque::new(),
            doing: None,
            works: 0,
            lines: Vec::new(),
            published: None,
            published_ms: 0,
            seq: 0,
            asked_lease_ms: 0,
            asking: false,
            looks_at: 0,
            noted: None,
            noted_ms: 0,
            terminated_ms: None,
        };
        self.pods[pod].agent = Some(Box::new(agent));
        self.tell(|| format!("agent of pod {pod} begins"));
    }

    /// The agent's own clock.
    pub fn agent_ms(&self, pod: usize) -> u64 {
        self.pods[pod].agent.as_ref().map_or(0, |agent| self.now - agent.began)
    }

    /// Whether groups here have volumes that outlive pods.
    pub fn persistent(&self) -> bool {
        self.shape.volumes
    }

    /// The state, changed, and told if that is worth telling.
    pub fn change<R>(&mut self, pod: usize, change: impl FnOnce(&mut State<Process>) -> R) -> Option<R> {
        let result = change(&mut self.pods[pod].agent.as_mut()?.state);
        self.publish(pod);
        Some(result)
    }

    /// The state as it is.
    pub fn state(&self, pod: usize) -> Option<&State<Process>> {
        self.pods[pod].agent.as_ref().map(|agent| &agent.state)
    }

    /// The same, to be changed without telling.
    pub fn state_mut(&mut self, pod: usize) -> Option<&mut State<Process>> {
        self.pods[pod].agent.as_mut().map(|agent| &mut agent.state)
    }

    /// Pushes a report if it says something new, or if the last one is five seconds old.
    pub fn publish(&mut self, pod: usize) {
        let now = self.now;
        let persistent = self.persistent();
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if agent.lines.is_empty() {
            return;
        }
        let told = agent.published.as_ref().is_some_and(|report| agent.state.is_told_by(report));
        if told && now - agent.published_ms < 5_000 {
            return;
        }
        agent.seq += 1;
        agent.published_ms = now;
        let report = Report { seq: agent.seq, ..agent.state.report(&place.node, persistent, "1") };
        agent.published = Some(report.clone());
        for line in agent.lines.clone() {
            self.from_agent(line, FromAgent::Report(Box::new(report.clone())));
        }
    }

    fn current_report(&self, pod: usize) -> Option<Report> {
        let agent = self.pods[pod].agent.as_ref()?;
        let report = agent.state.report(&self.pods[pod].node, self.persistent(), "1");
        Some(Report { seq: agent.seq, ..report })
    }

    /// Writes the note down now, fsynced. False where the disk is full.
    pub fn store(&mut self, pod: usize) -> bool {
        let now = self.now;
        let wall = self.wall(self.pods[pod].machine);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return false };
        agent.state.write_down("g", &place.node, wall);
        let Some(volume) = self.volumes.get_mut(&place.volume) else { return false };
        if volume.full_until > now {
            return false;
        }
        volume.record.clone_from(&agent.state.note);
        agent.noted.clone_from(&agent.state.note);
        agent.noted_ms = now;
        true
    }

    // Looking.

    /// Looks soon and often for a while.
    pub fn expect_movement(&mut self, pod: usize, for_ms: u64) {
        let until = self.agent_ms(pod) + for_ms;
        if let Some(state) = self.state_mut(pod) {
            state.moving_until_ms = state.moving_until_ms.max(until);
        }
        self.look_at(pod, 1);
    }

    fn look_at(&mut self, pod: usize, after: Ms) {
        let at = self.now + after;
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if agent.looks_at > self.now && agent.looks_at <= at {
            return;
        }
        agent.looks_at = at;
        let life = place.life;
        self.when(at, Event::Look { pod, life });
    }

    /// The observer goes round.
    pub fn look_event(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        if place.life != life || place.agent.as_ref().is_none_or(|agent| agent.looks_at > self.now) {
            return;
        }
        if place.engine.is_none() {
            self.publish(pod);
            return;
        }
        self.look(pod);
        if self.pods[pod].agent.as_ref().is_some_and(|agent| agent.doing.is_none()) {
            self.settle(pod);
        }
        self.keep_note(pod);
        let now = self.agent_ms(pod);
        let Some(state) = self.state(pod) else { return };
        let pause = if state.moving(now) { MOVING_MS } else { RESTING_MS };
        let moving_long =
            state.life.as_ref().is_some_and(|life| now.saturating_sub(life.process.started) > 10_000);
        let pause = if pause == MOVING_MS && moving_long && state.moving_until_ms <= now {
            RESTING_MS / 2
        } else {
            pause
        };
        self.look_at(pod, pause);
    }

    /// Writes the note whenever it changed in more than the offset, and each second when the data moved.
    fn keep_note(&mut self, pod: usize) {
        let persistent = self.persistent();
        let now = self.now;
        let wall = self.wall(self.pods[pod].machine);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        agent.state.write_down("g", &place.node, wall);
        let Some(new) = &agent.state.note else { return };
        if agent.noted.as_ref().is_some_and(|old| same_data(old, new, persistent)) {
            return;
        }
        let only_offset = agent.noted.as_ref().is_some_and(|old| same_data(old, new, false));
        if only_offset && now - agent.noted_ms < 1_000 {
            return;
        }
        if !self.store(pod) {
            self.change(pod, |state| {
                state.trouble = "the note beside the data: no space left on device".into()
            });
        }
    }

    /// Looks once and takes in what was seen.
    pub fn look(&mut self, pod: usize) {
        let now = self.now;
        let Some(engine) = self.pods[pod].engine.as_ref() else { return };
        let view = engine.view(now);
        let persistence = engine.persistence(now);
        let sent_ms = self.agent_ms(pod);
        let wall = self.wall(self.pods[pod].machine);
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        let boot = agent.state.boot.clone();
        let seen = Seen { view, persistence, sent_ms, wall_sent_ms: wall, wall_answered_ms: wall };
        // A full sync's snapshot is kept as a file only where nothing tells the engine to delete it.
        let Some(taken) = agent.state.take_in(&boot, seen, sent_ms, |_| false) else { return };
        let volume = self.volumes.get(&self.pods[pod].volume);
        let has_data = volume.is_some_and(super::volume::Volume::has_data)
            || (self.persistent()
                && self.pods[pod]
                    .engine
                    .as_ref()
                    .is_some_and(|engine| Engine::has_data(&engine.disk(false))));
        let worth = taken.worth_a_note();
        self.change(pod, |state| state.has_data = state.has_data || has_data);
        if worth {
            self.keep_note(pod);
        }
    }

    /// Does what follows from what was seen.
    pub fn settle(&mut self, pod: usize) {
        let asks =
            self.state(pod).and_then(|state| state.life.as_ref()).is_some_and(|life| life.unwritten.asks());
        if asks && let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            let said = if life.written_to { "cmdstat_set:calls=1\n" } else { "cmdstat_info:calls=9\n" };
            life.unwritten.called(said);
        }
        self.source(pod);
        if self.state(pod).is_some_and(State::stale_reads_on) {
            self.command(pod, &["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
            if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
                life.stale_reads_off = false;
            }
        }
        if self.state_mut(pod).is_some_and(State::ends_pause_of_a_replica) {
            self.command(pod, &["CLIENT", "UNPAUSE"]);
        }
        if self.state(pod).is_some_and(State::supersedes_previous) && self.store(pod) {
            let place = &mut self.pods[pod];
            if let Some(volume) = self.volumes.get_mut(&place.volume) {
                volume.forget_previous();
                let kept = volume.kept();
                if let Some(state) = place.agent.as_mut().map(|agent| &mut agent.state) {
                    state.kept = kept;
                    if let Some(life) = state.life.as_mut() {
                        life.previous_forgotten = true;
                    }
                }
            }
        }
    }

    /// Lets replicas log in, or turns them away.
    pub fn source(&mut self, pod: usize) {
        if let Some(open) = self.state(pod).and_then(State::source) {
            self.set_source(pod, open);
        }
    }

    /// The replication user.
    pub fn set_source(&mut self, pod: usize, open: bool) {
        let word = if open { "on" } else { "off" };
        let set = self.command(pod, &["ACL", "SETUSER", "kagami-replication", word]);
        let done = set.error().is_none();
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.source_open = done.then_some(open);
        }
    }

    // The guard.

    /// Its clock; it runs only while silence may pause writes.
    pub fn guard(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        if place.life != life || place.agent.is_none() || place.engine.is_none() {
            return;
        }
        let now = self.agent_ms(pod);
        let true_now = self.now;
        let no_fence = self.mutant == Some(Mutant::NeverFences);
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        let facts = agent.state.facts();
        agent.state.guard.tick(now, facts);
        let wants = agent.state.guard.wants_lease(now, facts);
        let fence = if no_fence { Fence::Rest } else { agent.state.fence(now) };
        let mut asks = false;
        if wants && !agent.asking && true_now - agent.asked_lease_ms >= 500 {
            (agent.asking, agent.asked_lease_ms, asks) = (true, true_now, true);
        }
        match fence {
            Fence::Rest | Fence::Expired => {}
            Fence::Pause { again } => {
                let ms = GUARD_PAUSE_MS.to_string();
                if self.command(pod, &["CLIENT", "PAUSE", &ms, "WRITE"]).error().is_none() {
                    if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
                        life.guard_pause_until_ms = now + GUARD_PAUSE_MS;
                    }
                    if !again {
                        self.tell(|| format!("pod {pod} hears no witness: writes are paused"));
                        self.change(pod, |state| state.fenced = true);
                        // A confirmation is known to be fresh only on a new connection.
                        self.close_lines(pod, |_| true);
                    }
                }
            }
            Fence::Resume => {
                self.command(pod, &["CLIENT", "UNPAUSE"]);
                self.tell(|| format!("pod {pod} hears a witness: writes go on"));
                self.change(pod, |state| {
                    state.fenced = false;
                    if let Some(life) = state.life.as_mut() {
                        life.guard_pause_until_ms = 0;
                    }
                });
            }
        }
        if asks {
            self.ask_lease(pod);
        }
        let life = self.pods[pod].life;
        self.at(GUARD_TICK_MS, Event::Guard { pod, life });
    }

    fn ask_lease(&mut self, pod: usize) {
        let (machine, life, shard) = (self.pods[pod].machine, self.pods[pod].life, self.pods[pod].shard);
        let asked_ms = self.agent_ms(pod);
        let there = self.way(Party::Machine(machine), Party::Api);
        let back = self.way(Party::Api, Party::Machine(machine));
        let (after, lease) = match (there, back) {
            (Some(there), Some(back)) => (there + back + 2, self.kube.term_of(shard)),
            _ => (1_000, None),
        };
        self.at(after, Event::Leased { pod, life, asked_ms, lease });
    }

    /// The apiserver's word on the term.
    pub fn leased(&mut self, pod: usize, life: u64, asked_ms: u64, lease: Option<(u64, String)>) {
        if self.pods[pod].life != life {
            return;
        }
        let now = self.agent_ms(pod);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        agent.asking = false;
        if let Some((term, holder)) = lease {
            let ours = holder == place.node;
            let facts = agent.state.facts();
            agent.state.guard.hear(now, facts, Witness::Lease { asked_ms, term, ours });
        }
    }

    // The engine's life.

    /// The data is made ready: puts it aside or keeps it, and says which in the note beside it.
    pub fn prepare_data(&mut self, pod: usize, start: &Start) -> Result<(), String> {
        let now = self.now;
        let wall = self.wall(self.pods[pod].machine);
        let cluster = is_cluster(start);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return Err("gone".into()) };
        let Some(volume) = self.volumes.get_mut(&place.volume) else { return Err("no volume".into()) };
        if puts_aside(start, cluster) {
            if volume.full_until > now {
                return Err("no space left on device".into());
            }
            let old = agent.state.note.clone();
            let (term, generation) = (agent.state.term, agent.state.operator_generation);
            let new = note_of_start(old.as_ref(), "g", &place.node, term, generation, wall);
            volume.put_aside(old, new.clone(), start.keep_previous);
            agent.state.note = Some(new);
        }
        agent.state.has_data = volume.has_data();
        agent.state.kept = volume.kept();
        Ok(())
    }

    /// The engine's process begins.
    pub fn start_engine(&mut self, pod: usize, start: Start) {
        let cluster = is_cluster(&start);
        let directive = |name: &str| {
            start.directives.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let (kind, numbers) = engine_of(&self.shape.engine);
        let replica = started_as(&start) == Role::Replica;
        let primary = match &start.role {
            StartRole::Replica { primary, .. } => Ip::parse(&primary.host),
            StartRole::Primary { .. } => None,
        };
        let config = EngineConfig {
            kind,
            version: numbers,
            ip: self.pods[pod].ip,
            port: start.announce.port,
            bus_port: start.announce.bus_port,
            cluster,
            node_timeout_ms: directive("cluster-node-timeout")
                .and_then(|text| text.parse().ok())
                .unwrap_or(15_000),
            append_only: directive("appendonly") == Some("yes"),
            save_every_ms: None,
            replica_of: if cluster { None } else { primary },
            repl_timeout_ms: 60_000,
            backlog_writes: 10_000,
            source_open: !replica || self.mutant == Some(Mutant::SourceAlwaysOpen),
            stale_reads: !replica || cluster,
            load_us_per_write: self.chance.between(10, 2_000),
        };
        let disk =
            self.volumes.get(&self.pods[pod].volume).map(|volume| volume.data.clone()).unwrap_or_default();
        let seed = self.chance.draw();
        let now = self.now;
        let agent_now = self.agent_ms(pod);
        let mut out = Out::default();
        let engine = Engine::start(config, disk, seed, now, &mut out);
        let place = &mut self.pods[pod];
        place.engine_life += 1;
        place.engine = Some(engine);
        place.wake_ms = 0;
        let role = started_as(&start);
        place.made_primary_ms = (role == Role::Primary).then_some(now);
        let version = Arc::new(Version {
            kind: if kind == Kind::Redis { "redis".into() } else { "valkey".into() },
            numbers: [numbers.0.into(), numbers.1.into(), numbers.2.into()],
        });
        let process = Process {
            started: agent_now,
            script: cluster.then_some(now + FOLLOW_WITHIN_MS),
            synced: false,
            written_to: false,
        };
        let (life, engine_life) = (place.life, place.engine_life);
        self.came_of(pod, out);
        self.judge_primaries(pod);
        self.tell(|| format!("engine of pod {pod} is started as {role:?}"));
        self.change(pod, |state| {
            let boot = state.boot.clone();
            state.begin(Life::new(boot, start, cluster, version, agent_now, process), agent_now);
        });
        let pause = self.chance.between(5, 60);
        if cluster {
            self.at(pause, Event::Script { pod, life, engine: engine_life });
        }
        self.at(GUARD_TICK_MS, Event::Guard { pod, life });
        self.expect_movement(pod, 3_000);
    }

    /// The engine's process has ended: parked again, and told.
    pub fn engine_ended(
        &mut self,
        pod: usize,
        signal: Option<i32>,
        code: Option<i32>,
        words: &str,
        power: bool,
    ) {
        let wall = self.wall(self.pods[pod].machine);
        let agent_now = self.agent_ms(pod);
        let place = &mut self.pods[pod];
        let Some(engine) = place.engine.take() else { return };
        place.engine_life += 1;
        place.made_primary_ms = None;
        let disk = engine.disk(power);
        if let Some(volume) = self.volumes.get_mut(&place.volume) {
            volume.data = disk;
        }
        self.tell(|| format!("engine of pod {pod} has ended ({words})"));
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        agent.state.write_down("g", &place.node, wall);
        if agent.state.failed_to_load(|_| false)
            && let Some(note) = &mut agent.state.note
        {
            note.failed_loads = note.failed_loads.saturating_add(1);
        }
        let note = agent.state.note.clone();
        let volume = self.volumes.entry(place.volume.clone()).or_default();
        if note.as_ref().is_some_and(|note| !note.complete)
            && let Some(back) = volume.restore(note.as_ref())
        {
            agent.state.view = None;
            agent.state.note = Some(back);
        }
        agent.state.kept = volume.kept();
        let has_data = volume.has_data();
        let Some(life) = agent.state.life.take() else { return };
        let exit = Exit {
            boot: life.boot.clone(),
            code,
            signal,
            out_of_memory: false,
            at_ms: wall,
            lived_ms: agent_now.saturating_sub(life.process.started),
            last_words: words.into(),
        };
        self.change(pod, |state| state.end(exit, has_data));
        self.store(pod);
    }

    /// Brings the engine into its role.
    pub fn script_event(&mut self, pod: usize, life: u64, engine: u64) {
        let place = &self.pods[pod];
        if place.life != life || place.engine_life != engine || place.engine.is_none() {
            return;
        }
        let Some(known) = self.state(pod).and_then(|state| state.life.as_ref()) else { return };
        let Some(until) = known.process.script else { return };
        let start = known.start.clone();
        let failed = match &start.role {
            StartRole::Primary { slots, epoch } => match self.assign_slots(pod, slots, Some(*epoch)) {
                Ok(_) => self.meet(pod, &start, None).err(),
                Err(error) if error.contains("LOADING") => {
                    self.at(FOLLOW_EVERY_MS, Event::Script { pod, life, engine });
                    return;
                }
                Err(error) => Some(error),
            },
            StartRole::Replica { primary, primary_id } => {
                let met = self.meet(pod, &start, Some(primary));
                match met.and_then(|_| self.follow_once(pod, primary, primary_id.as_deref())) {
                    Ok(()) => None,
                    Err(error) if self.now >= until => Some(error),
                    Err(_) => {
                        self.at(FOLLOW_EVERY_MS, Event::Script { pod, life, engine });
                        return;
                    }
                }
            }
        };
        if let Some(error) = failed {
            let trouble = format!("the engine runs, but not in its role: {error}");
            self.change(pod, |state| state.trouble = trouble);
        }
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.process.script = None;
        }
        self.expect_movement(pod, 3_000);
    }

    /// A text answer, or the engine's error.
    pub fn text(&mut self, pod: usize, words: &[&str]) -> Result<String, String> {
        match self.command(pod, words) {
            Reply::Text(text) => Ok(text),
            Reply::Number(number) => Ok(number.to_string()),
            Reply::Error(error) => Err(error),
        }
    }

    fn meet(
        &mut self,
        pod: usize,
        start: &Start,
        primary: Option<&kagami_protocol::Address>,
    ) -> Result<usize, String> {
        let own = start.announce.clone();
        let peers: Vec<_> = start.peers.iter().chain(primary).cloned().collect();
        self.meet_peers(pod, &own, &peers)
    }

    /// `CLUSTER MEET` of those that are not known.
    pub fn meet_peers(
        &mut self,
        pod: usize,
        own: &kagami_protocol::Address,
        peers: &[kagami_protocol::Address],
    ) -> Result<usize, String> {
        let known = cluster_nodes(&self.text(pod, &["CLUSTER", "NODES"])?);
        let strangers: Vec<_> = claim::strangers(&known, own, peers.iter()).into_iter().cloned().collect();
        for peer in &strangers {
            let words = claim::meet(peer);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.text(pod, &words)?;
        }
        Ok(strangers.len())
    }

    /// Claims slots.
    pub fn assign_slots(
        &mut self,
        pod: usize,
        slots: &[(u16, u16)],
        epoch: Option<u64>,
    ) -> Result<usize, String> {
        let info = cluster_info(&self.text(pod, &["CLUSTER", "INFO"])?);
        let nodes = cluster_nodes(&self.text(pod, &["CLUSTER", "NODES"])?);
        let ranges = self
            .state(pod)
            .and_then(|state| state.life.as_ref())
            .is_none_or(|life| life.version.has_slot_ranges());
        let mut claim = Claim::new(&info, &nodes, slots, epoch, ranges);
        if let Some(epoch) = claim.set_epoch {
            match self.text(pod, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]) {
                Ok(_) => {}
                Err(error) if error.contains("does not know any other node") => claim.was_met(),
                Err(error) => return Err(error),
            }
        }
        for words in claim.add.clone() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.text(pod, &words)?;
        }
        if claim.bumps() {
            self.text(pod, &["CLUSTER", "BUMPEPOCH"])?;
        }
        Ok(claim.count)
    }

    /// One attempt to follow.
    pub fn follow_once(
        &mut self,
        pod: usize,
        primary: &kagami_protocol::Address,
        primary_id: Option<&str>,
    ) -> Result<(), String> {
        let nodes = cluster_nodes(&self.text(pod, &["CLUSTER", "NODES"])?);
        match claim::follow(&nodes, primary, primary_id) {
            Follow::Already => Ok(()),
            Follow::Replicate(id) => self.text(pod, &["CLUSTER", "REPLICATE", &id]).map(|_| ()),
            Follow::Unknown => Err("the primary is not known yet".into()),
        }
    }

    // The end.

    /// SIGTERM.
    pub fn terminate(&mut self, pod: usize) {
        let now = self.now;
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if agent.terminated_ms.is_some() {
            return;
        }
        agent.terminated_ms = Some(now);
        let life = place.life;
        self.change(pod, |state| state.terminating = true);
        self.at(0, Event::Stopping { pod, life });
    }

    /// The end goes on: the role is handed over, the data flushed, the operator told.
    pub fn stopping(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        let Some(agent) = place.agent.as_ref().filter(|_| place.life == life && !place.gone) else { return };
        let Some(since) = agent.terminated_ms else { return };
        let skips = self.mutant == Some(Mutant::NoHandOver);
        if !skips && agent.state.hands_over_first() && self.now - since < HANDOVER_MS {
            self.expect_movement(pod, 200);
            self.at(20, Event::Stopping { pod, life });
            return;
        }
        if agent.doing.is_some() && self.now - since < HANDOVER_MS + 2_000 {
            self.at(20, Event::Stopping { pod, life });
            return;
        }
        self.end_engine(pod);
        self.store(pod);
        self.publish(pod);
        self.close_lines(pod, |_| true);
        self.container_ended(pod, true);
    }

    /// Ends the engine, if one runs, with its data flushed where that is worth something.
    pub fn end_engine(&mut self, pod: usize) {
        if self.pods[pod].engine.is_none() {
            return;
        }
        self.command(pod, &["CLIENT", "PAUSE", "10000", "WRITE"]);
        self.look(pod);
        let persistent = self.persistent();
        let append_only = self.shape.volumes;
        let saves = self.state_mut(pod).is_some_and(|state| state.shuts_down(persistent));
        self.publish(pod);
        let words: &[&str] = match (saves, append_only) {
            (true, true) => &["SHUTDOWN"],
            (true, false) => &["SHUTDOWN", "SAVE"],
            (false, _) => &["SHUTDOWN", "NOSAVE"],
        };
        self.command(pod, words);
        if self.pods[pod].engine.is_some() {
            self.engine_ended(pod, Some(9), None, "killed at its end", false);
        }
    }

    // The operator's connections.

    /// A hello arrives.
    pub fn hello(&mut self, line: u64) {
        let Some(known) = self.lines.get(&line).cloned() else { return };
        let pod = known.pod;
        if self.pods[pod].life != known.life || self.pods[pod].agent.is_none() || self.pods[pod].gone {
            return;
        }
        let now = self.agent_ms(pod);
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        if known.generation < agent.state.operator_generation && self.mutant != Some(Mutant::TwoLeaders) {
            self.close_at_agent(line);
            return;
        }
        let newer = known.generation > agent.state.operator_generation;
        if newer {
            agent.state.operator_generation = known.generation;
        }
        agent.lines.push(line);
        if newer {
            let generation = known.generation;
            let refuses = self.mutant != Some(Mutant::TwoLeaders);
            if !self.store(pod) {
                self.close_at_agent(line);
                return;
            }
            self.close_lines(pod, |line| refuses && line.generation < generation);
        }
        if let Some(open) = self.lines.get_mut(&line) {
            open.agent_open = true;
            open.accepted_ms = now;
            open.heard_by_agent = self.now;
        }
        let welcome = FromAgent::Welcome {
            version: 1,
            node: self.pods[pod].node.clone(),
            pod_uid: self.pods[pod].uid.clone(),
        };
        self.from_agent(line, welcome);
        if let Some(report) = self.current_report(pod) {
            self.from_agent(line, FromAgent::Report(Box::new(report)));
        }
        self.at(BEAT_MS, Event::BeatAgent { line });
    }

    /// The agent's beat.
    pub fn beat_agent(&mut self, line: u64) {
        let Some(known) = self.lines.get(&line).filter(|line| line.agent_open) else { return };
        let pod = known.pod;
        if self.now - known.heard_by_agent > OPERATOR_SILENT_MS {
            self.close_at_agent(line);
            return;
        }
        let Some(state) = self.state(pod) else { return };
        let beat =
            FromAgent::Beat { boot: state.boot.clone(), offset: state.view.as_ref().map(|view| view.offset) };
        self.from_agent(line, beat);
        self.at(BEAT_MS, Event::BeatAgent { line });
    }

    /// A frame of an operator.
    pub fn to_agent_arrives(&mut self, line: u64, frame: ToAgent) {
        let now = self.now;
        let Some(known) = self.lines.get_mut(&line).filter(|line| line.agent_open) else { return };
        if now - known.heard_by_agent > OPERATOR_SILENT_MS {
            self.close_at_agent(line);
            return;
        }
        known.heard_by_agent = now;
        let (pod, generation, accepted_ms) = (known.pod, known.generation, known.accepted_ms);
        if self.state(pod).is_some_and(|state| state.operator_generation > generation)
            && self.mutant != Some(Mutant::TwoLeaders)
        {
            self.close_at_agent(line);
            return;
        }
        match frame {
            ToAgent::Hello { .. } | ToAgent::Beat => {}
            ToAgent::Confirm { term, guard } => {
                let agent_now = self.agent_ms(pod);
                let raised = self.change(pod, |state| state.confirm(agent_now, term, guard, accepted_ms));
                if raised == Some(true) {
                    self.keep_note(pod);
                }
            }
            ToAgent::Order(order) => {
                if let Some(agent) = self.pods[pod].agent.as_mut() {
                    agent.orders.push_back((line, generation, *order));
                }
                self.next_order(pod);
            }
        }
    }

    /// Closes connections at the agent's end.
    pub fn close_lines(&mut self, pod: usize, which: impl Fn(&crate::world::Line) -> bool) {
        let Some(agent) = self.pods[pod].agent.as_ref() else { return };
        let lines: Vec<u64> =
            agent.lines.iter().copied().filter(|line| self.lines.get(line).is_some_and(&which)).collect();
        let report = self.current_report(pod);
        for line in lines {
            if let Some(report) = &report {
                self.from_agent(line, FromAgent::Report(Box::new(report.clone())));
            }
            self.close_at_agent(line);
        }
    }

    /// One connection ends at the agent's end; the operator notices if the message reaches it.
    pub fn close_at_agent(&mut self, line: u64) {
        let Some(known) = self.lines.get_mut(&line) else { return };
        known.agent_open = false;
        let (pod, operator, last) = (known.pod, known.operator, known.last_from_agent);
        if let Some(agent) = self.pods[pod].agent.as_mut() {
            agent.lines.retain(|each| *each != line);
            agent.orders.retain(|(by, ..)| *by != line);
        }
        let machine = self.pods[pod].machine;
        if let Some(delay) = self.way(Party::Machine(machine), Party::Operator(operator)) {
            let at = (self.now + delay).max(last);
            self.when(at, Event::Closed { line, at_operator: true });
        }
    }
}

/// Whether a start order is for cluster mode enabled.
pub fn is_cluster(start: &Start) -> bool {
    start.directives.iter().any(|(name, value)| name == "cluster-enabled" && value == "yes")
}

/// The engine of a shape: kind and version.
pub fn engine_of(text: &str) -> (Kind, (u8, u8, u8)) {
    let (kind, version) = text.split_once(' ').unwrap_or(("valkey", "8.1"));
    let mut numbers = version.split('.').filter_map(|part| part.parse().ok());
    let numbers = (numbers.next().unwrap_or(8), numbers.next().unwrap_or(1), numbers.next().unwrap_or(0));
    (if kind == "redis" { Kind::Redis } else { Kind::Valkey }, numbers)
}

/// The state of an engine, in one word.
pub fn word(state: &EngineState) -> &'static str {
    match state {
        EngineState::Parked => "parked",
        EngineState::Starting => "starting",
        EngineState::Running => "running",
        EngineState::Stopping => "stopping",
    }
}
