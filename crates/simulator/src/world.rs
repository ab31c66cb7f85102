//! The world: who is there, what is on its way, and the one clock. Rooms of their own hold what each kind of part does.

mod network;

use crate::agent::Agent;
use crate::chance::Chance;
use crate::engine::{Answer, Engine, Ip, Model, Ms, Out, Packet, Reply, Request};
use crate::judge::Judge;
use crate::kube::Kube;
use crate::operator::Operator;
use crate::port::{Answered, Ask};
use crate::queue::Queue;
use crate::script::{Fault, MACHINES, Party, Script, Shape};
use crate::volume::Volume;
use kagami_protocol::{FromAgent, ToAgent};
use std::collections::{BTreeMap, BTreeSet};

type Body = <Engine as Model>::Body;

/// 2026-06-01T00:00:00Z, when every simulation begins.
pub const BEGAN_MS: i64 = 1_780_272_000_000;
/// How soon it is seen that a hung engine goes on, or was ended.
const HUNG_STEP_MS: Ms = 100;

/// Something that happens at a time.
#[derive(Debug)]
pub enum Event {
    /// An engine's timer.
    Tick { pod: usize, life: u64 },
    /// A packet between engines arrives.
    Packet { from: Ip, packet: Packet<Body> },
    /// A connection between engines is broken at one end.
    Broken { at: Ip, peer: Ip, lane: crate::engine::Lane, connection: u64 },
    /// An agent looks at its engine.
    Look { pod: usize, life: u64 },
    /// An agent goes on with what it does.
    Work { pod: usize, life: u64, number: u64 },
    /// The guard's clock.
    Guard { pod: usize, life: u64 },
    /// The role script of a started engine goes on.
    Script { pod: usize, life: u64, engine: u64 },
    /// The end of a node goes on.
    Stopping { pod: usize, life: u64 },
    /// The apiserver answered the agent's question for its lease: term and holder.
    Leased { pod: usize, life: u64, asked_ms: u64, lease: Option<(u64, String)> },
    /// An operator dials a pod.
    Dial { operator: usize, process: u64, node: String, line: u64 },
    /// The connection is there: the hello arrives at the agent.
    Hello { line: u64 },
    /// A frame arrives at an agent.
    ToAgent { line: u64, frame: Box<ToAgent> },
    /// A frame arrives at an operator.
    FromAgent { line: u64, frame: Box<FromAgent> },
    /// The end of a connection is noticed.
    Closed { line: u64, at_operator: bool },
    /// Each end beats.
    BeatOperator { line: u64 },
    /// Each end beats.
    BeatAgent { line: u64 },
    /// A request arrives at the apiserver.
    Asked { operator: usize, process: u64, number: u64, ask: Box<Ask> },
    /// An answer arrives at an operator.
    Answered { operator: usize, process: u64, number: u64, answer: Box<Answered> },
    /// A watch shows something.
    Shown { operator: usize, process: u64, number: u64 },
    /// An operator's queue runs.
    Queue { operator: usize, process: u64 },
    /// An operator's lease work.
    Lead { operator: usize, process: u64 },
    /// The answer to it.
    Led { operator: usize, process: u64, led: crate::operator::Led },
    /// An operator's process begins.
    Boot { operator: usize },
    /// StatefulSet controller, scheduler, garbage collector.
    Control,
    /// A machine's kubelet.
    Kubelet { machine: usize },
    /// A container begins.
    Begin { pod: usize, life: u64 },
    /// A client writes.
    Write { shard: usize },
    /// A client's request arrives at an engine.
    Request { to: Ip, number: u64, request: Request },
    /// A client's answer arrives.
    Answer { number: u64, answer: Answer },
    /// A client has waited long enough.
    GaveUp { number: u64 },
    /// A fault of the script.
    Fault(usize),
    /// The end of a fault.
    Mend(Box<Fault>),
}

/// One pod's sandbox on its machine: what runs, whatever the apiserver says.
#[derive(Debug)]
pub struct Pod {
    /// The cache node.
    pub node: String,
    /// The shard's index.
    pub shard: usize,
    /// The pod's UID.
    pub uid: String,
    /// Its machine.
    pub machine: usize,
    /// Its address.
    pub ip: Ip,
    /// Its agent, while the container runs.
    pub agent: Option<Box<Agent>>,
    /// Counts the containers.
    pub life: u64,
    /// The engine, while it runs.
    pub engine: Option<Engine>,
    /// Counts the engines.
    pub engine_life: u64,
    /// Its next timer.
    pub wake_ms: Ms,
    /// The name of its data directory in [`World::volumes`].
    pub volume: String,
    /// It stands still until then.
    pub frozen_until: Ms,
    /// Its engine alone stands still until then.
    pub hung_until: Ms,
    /// When it went on for the last time.
    pub thawed_ms: Ms,
    /// The sandbox is gone.
    pub gone: bool,
    /// SIGKILL comes then.
    pub kill_at: Option<Ms>,
    /// When its container ended last, by the machine's clock, in whole seconds as the kubelet tells it.
    pub ended_ms: Option<i64>,
    /// Until when its engine's writes count as taken by a command that Kagami gave.
    pub made_primary_ms: Option<Ms>,
}

impl Pod {
    /// Whether its engine stands still, with its agent or without.
    pub fn is_still(&self, now: Ms) -> bool {
        self.frozen_until.max(self.hung_until) > now
    }
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `m1` and so on.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// It has power.
    pub up: bool,
    /// How often it has lost its power.
    pub boots: u32,
    /// Off until then.
    pub off_until: Ms,
    /// What its kubelet told the apiserver last.
    pub heard_ms: Ms,
    /// Its wall clock, ahead of the true one.
    pub clock_ms: i64,
    /// Cordoned.
    pub cordoned: bool,
    /// More delay.
    pub slow: (Ms, Ms),
}

/// A connection of an operator to an agent.
#[derive(Clone, Debug)]
pub struct Line {
    /// Whose.
    pub operator: usize,
    /// Which process of it.
    pub process: u64,
    /// The cache node that is dialled.
    pub node: String,
    /// The pod that it reached.
    pub pod: usize,
    /// Which container of it.
    pub life: u64,
    /// Open at the operator's end.
    pub operator_open: bool,
    /// Open at the agent's end.
    pub agent_open: bool,
    /// When the agent accepted it, by the agent's clock.
    pub accepted_ms: u64,
    /// The operator's generation, once it said hello.
    pub generation: u64,
    /// When the last frame arrives, so that none overtakes another.
    pub last_to_agent: Ms,
    /// The same, the other way.
    pub last_from_agent: Ms,
    /// When the agent last heard the operator.
    pub heard_by_agent: Ms,
    /// The last beat that the operator heard on it, by the agent's clock.
    pub beat_ms: Option<u64>,
    /// When the operator last said something on it.
    pub said_ms: Ms,
}

/// The world.
pub struct World {
    /// The time.
    pub now: Ms,
    /// Chance.
    pub chance: Chance,
    queue: Queue,
    /// Steps taken.
    pub steps: u64,
    /// The group.
    pub shape: Shape,
    /// The schedule.
    pub script: Script,
    /// Machines.
    pub machines: Vec<Machine>,
    /// Sandboxes, also those that are gone.
    pub pods: Vec<Pod>,
    by_ip: BTreeMap<Ip, usize>,
    /// Data directories.
    pub volumes: BTreeMap<String, Volume>,
    /// Kubernetes.
    pub kube: Kube,
    /// Operators.
    pub operators: Vec<Operator>,
    /// Connections between operators and agents.
    pub lines: BTreeMap<u64, Line>,
    /// Counts lines, requests and names.
    pub counter: u64,
    cuts: BTreeMap<(Party, Party), Ms>,
    dead: BTreeSet<(Ip, Ip, u64)>,
    order: BTreeMap<(Ip, Ip, u64), Ms>,
    /// The judges.
    pub judge: Judge,
    /// Clients.
    pub clients: crate::clients::Clients,
    /// Faults have begun at.
    pub faults_from: Ms,
    /// What happened, for people; empty unless asked for.
    pub story: Option<Vec<String>>,
    /// A planted bug.
    pub mutant: Option<crate::mutant::Mutant>,
    next_ip: u32,
}

impl World {
    /// Machines, an apiserver, operators: nothing has begun.
    pub fn new(script: Script, told: bool) -> Self {
        let machines = (0..MACHINES)
            .map(|index| Machine {
                name: format!("m{}", index + 1),
                zone: ["a", "b", "c"][index % 3].to_owned(),
                up: true,
                boots: 0,
                off_until: 0,
                heard_ms: 0,
                clock_ms: 0,
                cordoned: false,
                slow: (0, 0),
            })
            .collect();
        let mut world = Self {
            now: 1_000,
            chance: Chance::new(script.seed.wrapping_mul(0x9e37_79b9).wrapping_add(7)),
            queue: Queue::default(),
            steps: 0,
            shape: script.shape.clone(),
            machines,
            pods: Vec::new(),
            by_ip: BTreeMap::new(),
            volumes: BTreeMap::new(),
            kube: Kube::new(&script.shape),
            operators: (0..script.shape.operators).map(|_| Operator::default()).collect(),
            lines: BTreeMap::new(),
            counter: 0,
            cuts: BTreeMap::new(),
            dead: BTreeSet::new(),
            order: BTreeMap::new(),
            judge: Judge::default(),
            clients: crate::clients::Clients::new(script.shape.shards),
            faults_from: Ms::MAX,
            story: told.then(Vec::new),
            mutant: None,
            next_ip: 0x000a_0101 & 0x00ff_ffff,
            script,
        };
        // The cluster is there before the group is.
        for machine in 0..world.machines.len() {
            world.machines[machine].heard_ms = world.now;
            world.show_machine(machine, true);
        }
        for operator in 0..world.operators.len() {
            let after = world.chance.below(300);
            world.at(after, Event::Boot { operator });
        }
        for machine in 0..world.machines.len() {
            world.at(10 + machine as u64, Event::Kubelet { machine });
        }
        world.at(5, Event::Control);
        for shard in 0..world.shape.shards {
            world.at(500 + shard as u64 * 7, Event::Write { shard });
        }
        world
    }

    /// Something for the story.
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let line = format!("{:>7} {}", self.now, text());
            story.push(line);
        }
    }

    /// A number that nothing else has.
    pub fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Something happens after so many milliseconds.
    pub fn at(&mut self, after: Ms, event: Event) {
        self.when(self.now + after, event);
    }

    /// Something happens at a time.
    pub fn when(&mut self, at: Ms, event: Event) {
        self.queue.insert(at.max(self.now), event);
    }

    /// When the next thing happens.
    pub fn next_ms(&self) -> Option<Ms> {
        self.queue.next_ms()
    }

    /// One step; false if nothing is left.
    pub fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else { return false };
        self.now = at;
        if let Some(until) = self.stands_still(&event) {
            self.when(until, event);
            return true;
        }
        self.steps += 1;
        self.happen(event);
        true
    }

    /// Until when whoever it happens to stands still.
    fn stands_still(&self, event: &Event) -> Option<Ms> {
        let pod = match event {
            Event::Tick { pod, .. }
            | Event::Look { pod, .. }
            | Event::Work { pod, .. }
            | Event::Guard { pod, .. }
            | Event::Script { pod, .. }
            | Event::Leased { pod, .. }
            | Event::Stopping { pod, .. } => Some(*pod),
            Event::Packet { packet, .. } => self.by_ip.get(&packet.to).copied(),
            Event::Broken { at, .. } => self.by_ip.get(at).copied(),
            Event::Request { to, .. } => self.by_ip.get(to).copied(),
            Event::Hello { line } | Event::ToAgent { line, .. } | Event::BeatAgent { line } => {
                self.lines.get(line).map(|line| line.pod)
            }
            Event::Closed { line, at_operator: false } => self.lines.get(line).map(|line| line.pod),
            _ => None,
        };
        let of_engine = matches!(
            event,
            Event::Tick { .. } | Event::Packet { .. } | Event::Broken { .. } | Event::Request { .. }
        );
        // In steps, because it may be killed before it goes on; all that waits keeps its order.
        let hung_until = pod
            .filter(|pod| of_engine && self.pods[*pod].hung_until > self.now)
            .map_or(0, |pod| self.pods[pod].hung_until.min((self.now / HUNG_STEP_MS + 1) * HUNG_STEP_MS));
        let operator = match event {
            Event::Dial { operator, .. }
            | Event::Answered { operator, .. }
            | Event::Shown { operator, .. }
            | Event::Queue { operator, .. }
            | Event::Lead { operator, .. }
            | Event::Led { operator, .. } => Some(*operator),
            Event::FromAgent { line, .. }
            | Event::BeatOperator { line }
            | Event::Closed { line, at_operator: true } => self.lines.get(line).map(|line| line.operator),
            _ => None,
        };
        let until = pod
            .map_or(0, |pod| self.pods[pod].frozen_until)
            .max(hung_until)
            .max(operator.map_or(0, |operator| self.operators[operator].frozen_until));
        (until > self.now).then_some(until)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { pod, life } => self.tick(pod, life),
            Event::Packet { from, packet } => self.packet(from, packet),
            Event::Broken { at, peer, lane, connection } => {
                if let Some(pod) = self.by_ip.get(&at).copied() {
                    self.engine(pod, |engine, now, out| engine.broken(now, peer, lane, connection, out));
                }
            }
            Event::Look { pod, life } => self.look_event(pod, life),
            Event::Work { pod, life, number } => self.work(pod, life, number),
            Event::Guard { pod, life } => self.guard(pod, life),
            Event::Script { pod, life, engine } => self.script_event(pod, life, engine),
            Event::Stopping { pod, life } => self.stopping(pod, life),
            Event::Leased { pod, life, asked_ms, lease } => self.leased(pod, life, asked_ms, lease),
            Event::Dial { operator, process, node, line } => self.dialled(operator, process, node, line),
            Event::Hello { line } => self.hello(line),
            Event::ToAgent { line, frame } => self.to_agent_arrives(line, *frame),
            Event::FromAgent { line, frame } => self.from_agent_arrives(line, *frame),
            Event::Closed { line, at_operator } => self.closed(line, at_operator),
            Event::BeatOperator { line } => self.beat_operator(line),
            Event::BeatAgent { line } => self.beat_agent(line),
            Event::Asked { operator, process, number, ask } => self.asked(operator, process, number, *ask),
            Event::Answered { operator, process, number, answer } => {
                self.answered(operator, process, number, *answer);
            }
            Event::Shown { operator, process, number } => self.shown(operator, process, number),
            Event::Queue { operator, process } => self.queue_runs(operator, process),
            Event::Lead { operator, process } => self.lead(operator, process),
            Event::Led { operator, process, led } => self.led(operator, process, led),
            Event::Boot { operator } => self.boot(operator),
            Event::Control => self.control(),
            Event::Kubelet { machine } => self.kubelet(machine),
            Event::Begin { pod, life } => self.begin(pod, life),
            Event::Write { shard } => self.client_writes(shard),
            Event::Request { to, number, request } => self.request_arrives(to, number, request),
            Event::Answer { number, answer } => self.answer_arrives(number, answer),
            Event::GaveUp { number } => self.gave_up(number),
            Event::Fault(index) => self.fault(index),
            Event::Mend(fault) => self.mend(&fault),
        }
    }

    // Clocks.

    /// The wall clock of a machine.
    pub fn wall(&self, machine: usize) -> i64 {
        self.true_wall() + self.machines[machine].clock_ms
    }

    /// The true wall clock.
    pub fn true_wall(&self) -> i64 {
        BEGAN_MS + i64::try_from(self.now).unwrap_or(0)
    }

    fn tick(&mut self, pod: usize, life: u64) {
        let place = &mut self.pods[pod];
        if place.engine_life != life || place.engine.is_none() || place.wake_ms > self.now {
            return;
        }
        place.wake_ms = Ms::MAX;
        self.engine(pod, |engine, now, out| engine.tick(now, out));
    }

    /// Calls an engine and sees to what comes of it.
    pub fn engine<R>(
        &mut self,
        pod: usize,
        call: impl FnOnce(&mut Engine, Ms, &mut Out<Body>) -> R,
    ) -> Option<R> {
        let now = self.now;
        let mut out = Out::default();
        let place = &mut self.pods[pod];
        let engine = place.engine.as_mut()?;
        let before = engine.keys();
        let result = call(engine, now, &mut out);
        let shrunk = engine.keys() < before;
        self.came_of(pod, out);
        if shrunk {
            self.judge_shrunk(pod);
        }
        self.judge_primaries(pod);
        Some(result)
    }

    /// What comes of a call of an engine.
    pub fn came_of(&mut self, pod: usize, out: Out<Body>) {
        let (ip, machine) = (self.pods[pod].ip, self.pods[pod].machine);
        for packet in out.packets {
            self.send(ip, packet);
        }
        for (number, answer) in out.replies {
            if let Some(delay) = self.way(Party::Machine(machine), Party::Clients) {
                self.at(delay, Event::Answer { number, answer });
            }
        }
        if let Some(wake) = out.wake_ms {
            let place = &mut self.pods[pod];
            if wake < place.wake_ms || place.wake_ms <= self.now {
                place.wake_ms = wake;
                let life = place.engine_life;
                self.when(wake, Event::Tick { pod, life });
            }
        }
        if let Some(why) = out.ended {
            self.engine_ended(pod, None, Some(0), &why, false);
        }
    }

    /// A command of the agent.
    pub fn command(&mut self, pod: usize, words: &[&str]) -> Reply {
        if self.pods[pod].hung_until > self.now {
            return Reply::Error("the engine does not answer".into());
        }
        let reply = self.engine(pod, |engine, now, out| engine.command(now, words, out));
        reply.unwrap_or_else(|| Reply::Error("the engine does not answer".into()))
    }

    /// The sandboxes of a shard in which an engine runs.
    pub fn engines_of(&self, shard: usize) -> impl Iterator<Item = usize> + '_ {
        self.pods
            .iter()
            .enumerate()
            .filter(move |(_, pod)| pod.shard == shard && pod.engine.is_some() && !pod.gone)
            .map(|(index, _)| index)
    }
}
