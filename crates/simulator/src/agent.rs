//! The agent's process: the rules are the agent's own (`kagami_agent`), here is only when they are asked and what is done about it.

mod end;
mod guard;
mod life;
mod lines;
mod looks;

use crate::engine::{Kind, Ms};
use crate::perform::Doing;
use crate::world::World;
use kagami_agent::state::State;
use kagami_protocol::{Boot, EngineState, FromAgent, Order, Record, Report, Start};
use std::collections::VecDeque;

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
        let mut state = State::new(boot, note, volume.has_data(), volume.kept(), String::new());
        state.found_in(format!("m{machine}-{}", self.machines[machine].boots));
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
            agent.state.not_stored("no space left on device");
            return false;
        }
        agent.state.stored(agent.state.note.as_ref().map_or(0, |note| note.term));
        volume.record.clone_from(&agent.state.note);
        agent.noted.clone_from(&agent.state.note);
        agent.noted_ms = now;
        true
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
