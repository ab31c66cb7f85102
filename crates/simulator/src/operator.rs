//! The operator's processes. The loop (`kagami_cycle`), the lease's rule (`kagami_core::leader`) and the mind are the real ones; here are
//! the queue, the connections to agents, and what the watches have shown.

use crate::engine::Ms;
use crate::kube::Snapshot;
use crate::mutant;
use crate::port::{Answered, Ask, Port};
use crate::script::Party;
use crate::world::{Event, Line, World};
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::desired::{References, Tables};
use kagami_core::leader::{Claim, LeaseView, evaluate};
use kagami_core::observed::{Agent, Machine, ObjectKey, PodView};
use kagami_core::plan::{Confirm, Setting};
use kagami_cycle::{ApiError, Failed, Input, Memory, Next, Shown, Written, reconcile, snapshot};
use kagami_protocol::Shared;
use kagami_protocol::{BEAT_MS, FromAgent, OperatorId, Report, ToAgent};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const SILENCE_MS: Ms = 3 * BEAT_MS;
const REDIAL_MIN_MS: Ms = 25;
const REDIAL_MAX_MS: Ms = 1_000;
const RENEW_MS: Ms = 1_000;
const GIVE_UP_MS: Ms = 5_000;
const LEASE_MS: u64 = 6_000;
/// What `src/leader.rs` counts generations from.
const EPOCH_S: i64 = 1_767_225_600;

type Task = Pin<Box<dyn Future<Output = (Memory, Result<Next, ApiError>)>>>;

/// An operator: at most one process at a time.
#[derive(Default)]
pub struct Operator {
    /// Counts its processes.
    pub processes: u64,
    /// The running one.
    pub process: Option<Box<Process>>,
    /// It stands still until then.
    pub frozen_until: Ms,
    /// Its wall clock, ahead of the true one.
    pub clock_ms: i64,
    /// Watches are late until then.
    pub lag_until: Ms,
    /// It is killed before it sends so many requests more.
    pub kill_at: Option<u64>,
}

/// One process.
pub struct Process {
    began: Ms,
    /// Since when it leads, if it does.
    pub leads: bool,
    generation: u64,
    renewed: Ms,
    seen_lease: Option<(String, Ms)>,
    port: Port,
    memory: Option<Memory>,
    written: Arc<Written>,
    task: Option<Task>,
    /// What the watches have shown.
    pub cache: Snapshot,
    inbox: BTreeMap<u64, Update>,
    last_shown: BTreeMap<u8, Ms>,
    /// The number of the last update that was shown of each object.
    newest: BTreeMap<(u8, String), u64>,
    over: BTreeMap<String, i64>,
    dials: BTreeMap<String, Dial>,
    orders: BTreeMap<u64, (u64, u64)>,
    queue_at: Option<Ms>,
    dirty: bool,
    /// Requests that it sent.
    pub requests: u64,
}

/// A pod whose agent is to be heard.
struct Dial {
    uid: String,
    ip: String,
    line: Option<u64>,
    report: Option<Shared<Report>>,
    heard: Option<Ms>,
    /// Whom to confirm, and since when.
    confirm: Option<(Confirm, Ms)>,
    pause: Ms,
    since: Ms,
    /// Since when its engine is heard to hold a whole copy.
    whole_since: Option<Ms>,
}

/// Something that a watch shows.
#[derive(Clone, Debug)]
pub enum Update {
    /// A child.
    Child(ObjectKey, Option<Shared<Value>>),
    /// A lease.
    Lease(String, Option<Shared<Value>>),
    /// A pod.
    Pod(String, Option<PodView>),
    /// A machine.
    Machine(String, Machine),
    /// The group.
    Group(Option<Arc<ReplicationGroup>>),
}

impl Update {
    fn stream(&self) -> u8 {
        match self {
            Self::Child(key, _) => 10 + key.kind as u8,
            Self::Lease(..) => 1,
            Self::Pod(..) => 2,
            Self::Machine(..) => 3,
            Self::Group(..) => 4,
        }
    }
    /// Which object it shows.
    fn object(&self) -> (u8, String) {
        let name = match self {
            Self::Child(key, _) => key.name.clone(),
            Self::Lease(name, _) | Self::Pod(name, _) | Self::Machine(name, _) => name.clone(),
            Self::Group(_) => String::new(),
        };
        (self.stream(), name)
    }
    fn same_object(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Child(a, _), Self::Child(b, _)) => a == b,
            (Self::Lease(a, _), Self::Lease(b, _))
            | (Self::Pod(a, _), Self::Pod(b, _))
            | (Self::Machine(a, _), Self::Machine(b, _)) => a == b,
            (Self::Group(_), Self::Group(_)) => true,
            _ => false,
        }
    }
}

/// What came of the work on the operator's lease.
#[derive(Clone, Debug)]
pub enum Led {
    /// It was read, having been asked for then.
    Read(Option<LeaseView>, Ms),
    /// It is to be written, at the apiserver: the version that was read, and the generation.
    Write { version: Option<String>, generation: u64, asked: Ms },
    /// It was written, or somebody else was sooner.
    Wrote { done: bool, generation: u64, asked: Ms },
}

impl World {
    fn process(&mut self, operator: usize, process: u64) -> Option<&mut Process> {
        let known = &mut self.operators[operator];
        if known.processes != process { None } else { known.process.as_deref_mut() }
    }

    /// The process that leads, if one does.
    pub fn leader(&self) -> Option<usize> {
        self.operators
            .iter()
            .position(|operator| operator.process.as_ref().is_some_and(|process| process.leads))
    }

    /// A process begins.
    pub fn boot(&mut self, operator: usize) {
        if self.operators[operator].process.is_some() {
            return;
        }
        let (now, mutant) = (self.now, self.mutant);
        let known = &mut self.operators[operator];
        known.processes += 1;
        let number = known.processes;
        known.process = Some(Box::new(Process {
            began: now,
            leads: false,
            generation: 0,
            renewed: 0,
            seen_lease: None,
            port: Port::new(mutant),
            memory: None,
            written: Arc::new(Written::default()),
            task: None,
            cache: Snapshot::default(),
            inbox: BTreeMap::new(),
            last_shown: BTreeMap::new(),
            newest: BTreeMap::new(),
            over: BTreeMap::new(),
            dials: BTreeMap::new(),
            orders: BTreeMap::new(),
            queue_at: None,
            dirty: false,
            requests: 0,
        }));
        self.tell(|| format!("operator {operator} begins (process {number})"));
        self.at(1, Event::Lead { operator, process: number });
    }

    /// A process ends, and the kubelet starts another.
    pub fn kill_operator(&mut self, operator: usize) {
        if self.operators[operator].process.take().is_none() {
            return;
        }
        self.tell(|| format!("operator {operator} ends"));
        let lines: Vec<u64> = self
            .lines
            .iter()
            .filter(|(_, line)| line.operator == operator && line.operator_open)
            .map(|(id, _)| *id)
            .collect();
        for line in lines {
            self.close_at_operator(line);
        }
        self.operators[operator].frozen_until = 0;
        let after = self.chance.between(300, 3_000);
        self.at(after, Event::Boot { operator });
    }

    // The lease.

    /// Each second: read, and then take or renew.
    pub fn lead(&mut self, operator: usize, process: u64) {
        let (now, mutant) = (self.now, self.mutant);
        let Some(own) = self.process(operator, process) else { return };
        if own.leads && now - own.renewed >= GIVE_UP_MS && mutant != Some(mutant::Mutant::TwoLeaders) {
            self.tell(|| format!("operator {operator} could not renew its lease"));
            self.kill_operator(operator);
            return;
        }
        let there = self.way(Party::Operator(operator), Party::Api);
        let back = self.way(Party::Api, Party::Operator(operator));
        if let (Some(there), Some(back)) = (there, back)
            && !self.api_fails()
        {
            let view = self.kube.leader.clone();
            self.at(there + back, Event::Led { operator, process, led: Led::Read(view, now) });
        }
        self.at(RENEW_MS, Event::Lead { operator, process });
    }

    /// It goes on.
    pub fn led(&mut self, operator: usize, process: u64, led: Led) {
        let now = self.now;
        let me = format!("operator-{operator}");
        let goes_on = self.mutant == Some(mutant::Mutant::TwoLeaders);
        let wall_s = (self.true_wall() + self.operators[operator].clock_ms) / 1000;
        let Some(own) = self.process(operator, process) else { return };
        match led {
            Led::Read(view, asked) => {
                let version = view.as_ref().map(|view| view.version.clone());
                let generation = if own.leads {
                    let mine = view
                        .as_ref()
                        .is_some_and(|view| view.holder == me && view.transitions == own.generation);
                    if !mine && goes_on {
                        return;
                    }
                    if !mine {
                        self.tell(|| format!("operator {operator} lost its lease"));
                        self.kill_operator(operator);
                        return;
                    }
                    own.generation
                } else {
                    let text = version.clone().unwrap_or_default();
                    let since = match &own.seen_lease {
                        Some((before, since)) if *before == text => *since,
                        _ => asked,
                    };
                    own.seen_lease = Some((text, since));
                    let counted = match evaluate(view.as_ref(), &me, asked - since) {
                        Claim::Wait => return,
                        Claim::Take(generation) => generation,
                        Claim::Renew => view.as_ref().map_or(0, |view| view.transitions) + 1,
                    };
                    counted.max(u64::try_from(wall_s - EPOCH_S).unwrap_or(0))
                };
                if let Some(delay) = self.way(Party::Operator(operator), Party::Api) {
                    self.at(
                        delay,
                        Event::Led { operator, process, led: Led::Write { version, generation, asked } },
                    );
                }
            }
            Led::Write { version, generation, asked } => {
                let fits = self.kube.leader.as_ref().map(|view| view.version.clone()) == version;
                if fits {
                    let version = self.kube.next_version();
                    self.kube.leader = Some(LeaseView {
                        holder: me,
                        transitions: generation,
                        version,
                        duration_ms: LEASE_MS,
                    });
                }
                if let Some(delay) = self.way(Party::Api, Party::Operator(operator)) {
                    let led = Led::Wrote { done: fits, generation, asked };
                    self.at(delay, Event::Led { operator, process, led });
                }
            }
            Led::Wrote { done: false, .. } => {
                if own.leads && !goes_on {
                    self.kill_operator(operator);
                }
            }
            Led::Wrote { done: true, generation, asked } => {
                own.renewed = asked;
                if own.leads {
                    return;
                }
                own.leads = true;
                own.generation = generation;
                own.began = now;
                self.tell(|| format!("operator {operator} leads, generation {generation}"));
                self.list(operator, process);
            }
        }
    }

    /// Whether the process may speak as the leader.
    fn fresh(&self, operator: usize) -> bool {
        if self.mutant == Some(mutant::Mutant::TwoLeaders) {
            return true;
        }
        self.operators[operator]
            .process
            .as_ref()
            .is_some_and(|own| own.leads && self.now - own.renewed < GIVE_UP_MS)
    }

    // Watches.

    /// The first list: a leader reads it from the store itself (`src/stores.rs`), so only what comes after it may be late.
    fn list(&mut self, operator: usize, process: u64) {
        let current = self.kube.snapshot();
        let Some(own) = self.process(operator, process) else { return };
        own.cache = current;
        self.wake(operator, process, 1);
    }

    /// All operators' watches are to show something.
    pub fn show(&mut self, update: &Update) {
        for operator in 0..self.operators.len() {
            let process = self.operators[operator].processes;
            if self.operators[operator].process.as_ref().is_none_or(|own| !own.leads) {
                continue;
            }
            self.counter += 1;
            let number = self.counter;
            let lag = self.operators[operator].lag_until.saturating_sub(self.now);
            let extra = if lag > 0 { self.chance.below(lag + 1) } else { 0 };
            let at = self.now + 1 + self.chance.below(4) + extra;
            let stream = update.stream();
            let Some(own) = self.process(operator, process) else { continue };
            let last = own.last_shown.entry(stream).or_default();
            *last = at.max(*last);
            let at = *last;
            own.inbox.insert(number, update.clone());
            self.when(at, Event::Shown { operator, process, number });
        }
    }

    /// A watch shows something.
    pub fn shown(&mut self, operator: usize, process: u64, number: u64) {
        let now = self.now;
        if self.is_cut(Party::Api, Party::Operator(operator))
            || self.is_cut(Party::Operator(operator), Party::Api)
        {
            self.at(400, Event::Shown { operator, process, number });
            return;
        }
        let merges = self.operators[operator].lag_until > now || self.chance.per_mille(50);
        let Some(own) = self.process(operator, process) else { return };
        let Some(update) = own.inbox.remove(&number) else { return };
        // A watch never goes back: what was shown of an object since is later than this.
        let newest = own.newest.entry(update.object()).or_default();
        if *newest > number {
            return;
        }
        *newest = number;
        // Events of one object are merged where a later one is there already.
        if merges && own.inbox.range(number..).any(|(_, later)| later.same_object(&update)) {
            return;
        }
        let mut news = true;
        match update {
            Update::Child(key, Some(object)) => {
                own.cache.children.insert(key, object);
            }
            Update::Child(key, None) => {
                own.cache.children.remove(&key);
            }
            Update::Lease(name, Some(object)) => {
                own.cache.leases.insert(name, object);
            }
            Update::Lease(name, None) => {
                own.cache.leases.remove(&name);
            }
            Update::Pod(node, Some(view)) => {
                if view.deleting
                    && view.terminated
                    && let Some(ended_ms) = view.ended_ms
                {
                    own.over.insert(view.uid.clone(), ended_ms);
                }
                own.cache.pods.insert(node, view);
            }
            Update::Pod(node, None) => {
                own.cache.pods.remove(&node);
            }
            Update::Machine(name, machine) => {
                news = own.cache.machines.insert(name, machine.clone()) != Some(machine);
            }
            Update::Group(group) => own.cache.group = group,
        }
        if news {
            self.wake(operator, process, 0);
        }
    }

    // The queue.

    /// The group's entry is to run soon.
    fn wake(&mut self, operator: usize, process: u64, after: Ms) {
        let at = self.now + after;
        let Some(own) = self.process(operator, process) else { return };
        if own.task.is_some() {
            own.dirty = true;
            return;
        }
        if own.queue_at.is_none_or(|present| at < present) {
            own.queue_at = Some(at);
            self.when(at, Event::Queue { operator, process });
        }
    }

    /// A cycle begins.
    pub fn queue_runs(&mut self, operator: usize, process: u64) {
        let now = self.now;
        let wall = self.true_wall() + self.operators[operator].clock_ms;
        let mutant = self.mutant;
        let Some(own) = self.process(operator, process) else { return };
        // One that stood still runs late.
        if own.queue_at.is_none_or(|at| at > now) || own.task.is_some() {
            return;
        }
        own.queue_at = None;
        let Some(group) = own.cache.group.clone() else { return };
        let mut memory = own
            .memory
            .take()
            .filter(|memory| memory.is_of(&group))
            .unwrap_or_else(|| Memory::new(&group, now));
        let shown = Shown {
            children: own.cache.children.clone(),
            leases: own.cache.leases.clone(),
            pods: own.cache.pods.clone(),
            // Volumes of this world outlive their machines, so no claim is ever seen to be lost.
            claims: std::collections::BTreeMap::new(),
            departing: departing(&own.dials, &own.cache.pods, now),
            machines: own.cache.machines.clone(),
            over: own.over.clone(),
        };
        let dials = &own.dials;
        let agent = |node: &str, uid: Option<&str>| heard(dials.get(node), uid, now);
        let watching = memory.watching_ms(now);
        let mut observed =
            snapshot(("shop", "g"), shown, &own.written, memory.latest_status(&group), agent, wall, watching);
        memory.know(&mut observed, now);
        mutant::observe(mutant, group.metadata.deletion_timestamp.is_some(), &mut observed);
        for key in mutant::superfluous(mutant, &group, &observed) {
            own.port.send(Ask::Delete(kagami_cycle::Target::Child(key), None));
        }
        let tied = own
            .cache
            .leases
            .iter()
            .filter(|(_, lease)| lease.pointer("/metadata/ownerReferences").is_some())
            .map(|(name, _)| name.clone())
            .collect();
        let wanted: Vec<(String, String, String)> = observed
            .nodes
            .iter()
            .filter_map(|(node, seen)| {
                let pod = seen.pod.as_ref()?;
                Some((node.clone(), pod.uid.clone(), pod.ip.clone()?))
            })
            .collect();
        let (port, written) = (own.port.clone(), own.written.clone());
        {
            let mut desk = port.desk();
            (desk.now_ms, desk.wall_ms) = (now, wall);
        }
        let agent_image = "kagami:1".to_owned();
        own.task = Some(Box::pin(async move {
            let tables = Tables::default();
            let setting = Setting { agent_image, operator_namespace: "kagami".into() };
            let input = Input {
                group: &group,
                observed,
                tied_leases: tied,
                references: References::default(),
                tables: &tables,
                setting: &setting,
                written: &written,
            };
            let next = reconcile(&port, &mut memory, input).await;
            (memory, next)
        }));
        self.attend(operator, process, &wanted);
        self.poll(operator, process);
    }

    /// The loop goes on as far as it can.
    fn poll(&mut self, operator: usize, process: u64) {
        let now = self.now;
        let wall = self.true_wall() + self.operators[operator].clock_ms;
        let Some(own) = self.process(operator, process) else { return };
        let Some(mut task) = own.task.take() else { return };
        {
            let mut desk = own.port.desk();
            (desk.now_ms, desk.wall_ms) = (now, wall);
        }
        let polled = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Some(own) = self.process(operator, process) else { return };
        let (asked, confirms, leaves, refused) = {
            let mut desk = own.port.desk();
            let refused = std::mem::take(&mut desk.refused_plans);
            (
                std::mem::take(&mut desk.asked),
                std::mem::take(&mut desk.confirms),
                std::mem::take(&mut desk.leaves),
                refused,
            )
        };
        for (nodes, confirms) in confirms {
            for node in nodes {
                if let Some(dial) = own.dials.get_mut(&node) {
                    let confirm = confirms.iter().find(|confirm| confirm.node == node);
                    dial.confirm = confirm.map(|confirm| (confirm.clone(), now));
                }
            }
        }
        let mut closes = Vec::new();
        for node in leaves.into_iter().flatten() {
            closes.extend(own.dials.remove(&node).and_then(|dial| dial.line));
        }
        match polled {
            Poll::Pending => own.task = Some(task),
            Poll::Ready((memory, next)) => {
                let next = match next {
                    Ok(Next::After(ms)) => Some(ms),
                    Ok(Next::Change) => None,
                    Ok(Next::Gone) => None,
                    Err(_) => Some(2_000),
                };
                own.memory = Some(memory);
                let dirty = std::mem::take(&mut own.dirty);
                if dirty {
                    self.wake(operator, process, 1);
                } else if let Some(ms) = next {
                    self.wake(operator, process, ms);
                }
            }
        }
        if refused > 0 {
            self.judge_refused_plan(operator);
        }
        for line in closes {
            self.close_at_operator(line);
        }
        for (number, ask) in asked {
            if !self.send_ask(operator, process, number, ask) {
                return;
            }
        }
    }

    /// One request leaves the operator. False if it was killed before.
    fn send_ask(&mut self, operator: usize, process: u64, number: u64, ask: Ask) -> bool {
        if !matches!(ask, Ask::Pause(_)) {
            if let Some(left) = self.operators[operator].kill_at {
                if left == 0 {
                    self.operators[operator].kill_at = None;
                    self.tell(|| format!("operator {operator} is killed before {}", brief(&ask)));
                    self.judge.met("kill at request", self.phase());
                    self.kill_operator(operator);
                    return false;
                }
                self.operators[operator].kill_at = Some(left - 1);
            }
            if let Some(own) = self.process(operator, process) {
                own.requests += 1;
            }
            self.judge_request(operator, &ask);
        }
        match ask {
            Ask::Pause(ms) => self.reply(operator, process, number, ms, Answered::Nothing),
            Ask::Order(order) => self.send_order(operator, process, number, *order),
            ask => {
                let lost = ApiError { code: 0, message: "the connection timed out".into() };
                let before = self.api_fails() && self.chance.per_mille(500);
                match self.way(Party::Operator(operator), Party::Api).filter(|_| !before) {
                    Some(delay) => {
                        let ask = Box::new(ask);
                        self.at(delay + 1, Event::Asked { operator, process, number, ask });
                    }
                    None => {
                        let after = self.chance.between(500, 5_000);
                        self.reply(operator, process, number, after, Answered::Api(Err(lost)));
                    }
                }
            }
        }
        true
    }

    /// An answer to an operator, after a while.
    pub fn reply(&mut self, operator: usize, process: u64, number: u64, after: Ms, answer: Answered) {
        let answer = Box::new(answer);
        self.at(after, Event::Answered { operator, process, number, answer });
    }

    /// An answer arrives.
    pub fn answered(&mut self, operator: usize, process: u64, number: u64, answer: Answered) {
        let Some(own) = self.process(operator, process) else { return };
        own.port.desk().answers.insert(number, answer);
        self.poll(operator, process);
    }

    // Agents.

    fn attend(&mut self, operator: usize, process: u64, wanted: &[(String, String, String)]) {
        let now = self.now;
        for (node, uid, ip) in wanted {
            let Some(own) = self.process(operator, process) else { return };
            if own.dials.get(node).is_some_and(|dial| dial.uid == *uid && dial.ip == *ip) {
                continue;
            }
            let dial = Dial {
                uid: uid.clone(),
                ip: ip.clone(),
                line: None,
                report: None,
                heard: None,
                confirm: None,
                pause: REDIAL_MIN_MS,
                since: now,
                whole_since: None,
            };
            let old = own.dials.insert(node.clone(), dial);
            if let Some(line) = old.and_then(|old| old.line) {
                self.close_at_operator(line);
            }
            let line = self.count();
            self.at(0, Event::Dial { operator, process, node: node.clone(), line });
        }
    }

    /// A connection is made, or not.
    pub fn dialled(&mut self, operator: usize, process: u64, node: String, line: u64) {
        let now = self.now;
        let Some(own) = self.process(operator, process) else { return };
        let generation = own.generation;
        let Some(dial) = own.dials.get_mut(&node) else { return };
        if dial.line.is_some() {
            return;
        }
        let ip = crate::engine::Ip::parse(&dial.ip);
        let pause = dial.pause;
        dial.pause = (dial.pause * 2).min(REDIAL_MAX_MS);
        let pod = ip.and_then(|ip| self.at_ip(ip)).filter(|pod| {
            let place = &self.pods[*pod];
            !place.gone && place.agent.is_some() && place.frozen_until <= now
        });
        let ways = pod.and_then(|pod| {
            let machine = Party::Machine(self.pods[pod].machine);
            let there = self.way(Party::Operator(operator), machine)?;
            let back = self.way(machine, Party::Operator(operator))?;
            Some((pod, there, back))
        });
        let Some((pod, there, back)) = ways else {
            let line = self.count();
            self.at(pause + 20, Event::Dial { operator, process, node, line });
            return;
        };
        let at = now + 2 * (there + back) + 1;
        let life = self.pods[pod].life;
        let known = Line {
            operator,
            process,
            node: node.clone(),
            pod,
            life,
            operator_open: true,
            agent_open: false,
            accepted_ms: 0,
            generation,
            last_to_agent: at,
            last_from_agent: at,
            heard_by_agent: now,
            beat_ms: None,
            said_ms: 0,
        };
        self.lines.insert(line, known);
        if let Some(dial) = self.process(operator, process).and_then(|own| own.dials.get_mut(&node)) {
            dial.line = Some(line);
            dial.since = now;
        }
        self.when(at, Event::Hello { line });
        self.at(BEAT_MS, Event::BeatOperator { line });
    }

    /// The operator's beat.
    pub fn beat_operator(&mut self, line: u64) {
        let now = self.now;
        let Some(known) = self.lines.get(&line).filter(|line| line.operator_open).cloned() else { return };
        let (operator, process) = (known.operator, known.process);
        let Some(dial) = self.process(operator, process).and_then(|own| own.dials.get(&known.node)) else {
            return;
        };
        if dial.line != Some(line) {
            return;
        }
        let last = dial.heard.unwrap_or(0).max(dial.since);
        if now - last > SILENCE_MS {
            self.lost_line(line);
            return;
        }
        if now - known.said_ms >= BEAT_MS {
            self.say(line);
        }
        self.at(BEAT_MS, Event::BeatOperator { line });
    }

    /// Confirms the primary, or says that somebody is here.
    fn say(&mut self, line: u64) {
        let now = self.now;
        let Some(known) = self.lines.get_mut(&line) else { return };
        known.said_ms = now;
        let (operator, process, node, heard_ms) =
            (known.operator, known.process, known.node.clone(), known.beat_ms);
        let fresh = self.fresh(operator);
        let Some(dial) = self.process(operator, process).and_then(|own| own.dials.get(&node)) else { return };
        let frame = match (&dial.confirm, &dial.report) {
            (Some((confirm, since)), Some(report))
                if report.boot == confirm.boot
                    && fresh
                    && heard_ms.is_some()
                    && confirm.for_ms.is_none_or(|ms| now < since + ms) =>
            {
                ToAgent::Confirm { term: confirm.term, guard: confirm.guard, heard_ms }
            }
            _ => ToAgent::Beat,
        };
        self.send_agent(line, frame);
    }

    fn send_agent(&mut self, line: u64, frame: ToAgent) {
        let now = self.now;
        let Some(known) = self.lines.get(&line) else { return };
        let (operator, machine) = (known.operator, self.pods[known.pod].machine);
        let delay = self.way(Party::Operator(operator), Party::Machine(machine));
        let Some(known) = self.lines.get_mut(&line) else { return };
        let Some(delay) = delay.filter(|_| known.last_to_agent != Ms::MAX) else {
            known.last_to_agent = Ms::MAX;
            return;
        };
        let at = (now + delay).max(known.last_to_agent);
        known.last_to_agent = at;
        self.when(at, Event::ToAgent { line, frame: Box::new(frame) });
    }

    fn send_order(&mut self, operator: usize, process: u64, number: u64, order: kagami_cycle::Order) {
        let fresh = self.fresh(operator);
        let id = self.count();
        let Some(own) = self.process(operator, process) else { return };
        let line = own.dials.get(&order.node).and_then(|dial| dial.line);
        let Some(line) = line.filter(|_| fresh) else {
            let failed = Failed::Unanswered("no connection".into());
            self.reply(operator, process, number, 0, Answered::Order(Err(failed)));
            return;
        };
        own.orders.insert(id, (number, line));
        let order = kagami_protocol::Order {
            id,
            node: order.node,
            boot: order.boot,
            term: order.term,
            role: order.role,
            command: order.command,
        };
        self.send_agent(line, ToAgent::Order(Box::new(order)));
    }

    /// A frame of an agent.
    pub fn from_agent_arrives(&mut self, line: u64, frame: FromAgent) {
        let now = self.now;
        let Some(known) = self.lines.get(&line).filter(|line| line.operator_open).cloned() else { return };
        let (operator, process) = (known.operator, known.process);
        let Some(own) = self.process(operator, process) else { return };
        match frame {
            FromAgent::Welcome { node, .. } if node != known.node => self.lost_line(line),
            FromAgent::Welcome { .. } => {}
            FromAgent::Goodbye { .. } => self.lost_line(line),
            FromAgent::Answer { id, outcome } => {
                if let Some((number, _)) = own.orders.remove(&id) {
                    let answer = Answered::Order(outcome.map_err(Failed::Refused));
                    own.port.desk().answers.insert(number, answer);
                    self.poll(operator, process);
                }
            }
            FromAgent::Beat { boot, offset, at_ms } => {
                let Some(dial) = own.dials.get_mut(&known.node).filter(|dial| dial.line == Some(line)) else {
                    return;
                };
                dial.heard = Some(now);
                if let Some(report) = &mut dial.report
                    && report.boot == boot
                    && let (Some(engine), Some(offset)) = (&mut report.engine, offset)
                {
                    engine.offset = offset;
                }
                if let Some(known) = self.lines.get_mut(&line) {
                    known.beat_ms = at_ms;
                }
                self.say(line);
            }
            FromAgent::Report(report) => {
                if report.node != known.node {
                    return;
                }
                let Some(dial) = own.dials.get_mut(&known.node).filter(|dial| dial.line == Some(line)) else {
                    return;
                };
                dial.heard = Some(now);
                dial.pause = REDIAL_MIN_MS;
                let whole = report.engine.as_ref().is_some_and(|engine| engine.complete && !engine.loading);
                dial.whole_since = if whole { dial.whole_since.or(Some(now)) } else { None };
                dial.report = Some(report.into());
                self.wake(operator, process, 0);
            }
        }
    }

    /// The end of a connection is noticed.
    pub fn closed(&mut self, line: u64, at_operator: bool) {
        if at_operator {
            self.lost_line(line);
        } else if let Some(known) = self.lines.get_mut(&line).filter(|line| line.agent_open) {
            known.agent_open = false;
            let pod = known.pod;
            if let Some(agent) = self.pods[pod].agent.as_mut() {
                agent.lines.retain(|each| *each != line);
                agent.orders.retain(|(by, ..)| *by != line);
            }
        }
    }

    /// The operator's end of a connection is closed; the agent notices if the message reaches it.
    fn close_at_operator(&mut self, line: u64) {
        let Some(known) = self.lines.get_mut(&line).filter(|line| line.operator_open) else { return };
        known.operator_open = false;
        let (operator, pod, last) = (known.operator, known.pod, known.last_to_agent);
        let machine = self.pods[pod].machine;
        if last != Ms::MAX
            && let Some(delay) = self.way(Party::Operator(operator), Party::Machine(machine))
        {
            let at = (self.now + delay).max(last);
            self.when(at, Event::Closed { line, at_operator: false });
        }
    }

    /// A connection is lost: what waited for it is told, and it is dialled again.
    fn lost_line(&mut self, line: u64) {
        let Some(known) = self.lines.get(&line).filter(|line| line.operator_open).cloned() else { return };
        let (operator, process) = (known.operator, known.process);
        self.close_at_operator(line);
        let Some(own) = self.process(operator, process) else { return };
        let mut pause = REDIAL_MIN_MS;
        let mut again = false;
        if let Some(dial) = own.dials.get_mut(&known.node).filter(|dial| dial.line == Some(line)) {
            dial.line = None;
            pause = dial.pause;
            again = true;
        }
        let waiting: Vec<(u64, u64)> = own
            .orders
            .iter()
            .filter(|(_, (_, by))| *by == line)
            .map(|(id, (number, _))| (*id, *number))
            .collect();
        for (id, number) in waiting {
            if let Some(own) = self.process(operator, process) {
                own.orders.remove(&id);
            }
            let failed = Failed::Unanswered("the connection ended".into());
            self.reply(operator, process, number, 0, Answered::Order(Err(failed)));
        }
        if again {
            let fresh = self.count();
            self.at(pause, Event::Dial { operator, process, node: known.node, line: fresh });
        }
        self.wake(operator, process, 0);
    }

    /// What the agents say of themselves to an operator: its name.
    pub fn operator_id(&self, operator: usize) -> OperatorId {
        let generation = self.operators[operator].process.as_ref().map_or(0, |own| own.generation);
        OperatorId { name: format!("operator-{operator}"), generation }
    }

    /// Since when an operator has heard that a node holds a whole copy.
    pub fn whole_since(&self, operator: usize, node: &str) -> Option<Ms> {
        self.operators[operator].process.as_ref()?.dials.get(node)?.whole_since
    }

    /// Whether an operator hears an agent of that boot now.
    pub fn hears(&self, operator: usize, node: &str) -> Option<&Report> {
        let dial = self.operators[operator].process.as_ref()?.dials.get(node)?;
        let heard = dial.line.is_some() && dial.heard.is_some_and(|at| self.now - at < SILENCE_MS);
        dial.report.as_deref().filter(|_| heard)
    }
}

/// Pods that the watch does not show any more, and whose agents speak still.
fn departing(
    dials: &BTreeMap<String, Dial>,
    pods: &BTreeMap<String, PodView>,
    now: Ms,
) -> BTreeMap<String, (PodView, Shared<Report>)> {
    let gone = |(node, dial): &(&String, &Dial)| pods.get(*node).is_none_or(|pod| pod.uid != dial.uid);
    let speaks = |(node, dial): (&String, &Dial)| {
        let Agent::Up(report) = heard(Some(dial), Some(&dial.uid), now) else { return None };
        let (uid, ip) = (dial.uid.clone(), Some(dial.ip.clone()));
        Some((node.clone(), (PodView { uid, ip, deleting: true, ..PodView::default() }, report)))
    };
    dials.iter().filter(gone).filter_map(speaks).collect()
}

fn heard(dial: Option<&Dial>, uid: Option<&str>, now: Ms) -> Agent {
    let Some(dial) = dial else { return Agent::Unheard };
    if uid.is_some_and(|uid| uid != dial.uid) {
        return Agent::Unheard;
    }
    let (Some(report), Some(at)) = (&dial.report, dial.heard) else { return Agent::Unheard };
    let silent = now - at;
    if dial.line.is_some() && silent < SILENCE_MS {
        Agent::Up(report.clone())
    } else {
        Agent::Silent { silent_ms: silent, last: report.clone() }
    }
}

/// A request in a few words.
pub fn brief(ask: &Ask) -> String {
    match ask {
        Ask::Get(target) => format!("get {target}"),
        Ask::Apply(target, _) => format!("apply {target}"),
        Ask::Create(target, _) => format!("create {target}"),
        Ask::Replace(target, _) => format!("replace {target}"),
        Ask::Merge(target, _) => format!("merge {target}"),
        Ask::Status(_) => "status".into(),
        Ask::Delete(target, _) => format!("delete {target}"),
        Ask::Event(happening) => format!("event {}: {}", happening.reason, happening.message),
        Ask::Order(order) => {
            format!("order {} term {}: {:?}", order.node, order.term, std::mem::discriminant(&order.command))
        }
        Ask::Pause(ms) => format!("pause {ms}"),
    }
}
