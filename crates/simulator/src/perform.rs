//! Carrying out an order, step by step: the fences are the agent's own (`kagami_agent::orders`), the sequence is that of its
//! `perform`, with time passing between the steps.

use crate::engine::Ms;
use crate::mutant::Mutant;
use crate::script::Party;
use crate::world::{Event, World};
use kagami_agent::claim::outbids;
use kagami_agent::orders::{self, Admitted};
use kagami_agent::state::State;
use kagami_protocol::engine_text::cluster_info;
use kagami_protocol::{Command, Done, ELECTION_BOUND_MS, FromAgent, Order, Refused, Role};

const ROLE_WITHIN_MS: Ms = 500;
const KNOWN_WITHIN_MS: Ms = 3_000;
const OUTBID_WITHIN_MS: Ms = 250;
const ANSWER_WITHIN_MS: Ms = 20_000;
const PARK_PAUSE_MS: u64 = 10_000;
const MOVEMENT_MS: u64 = 3_000;

/// An order that is being carried out.
#[derive(Debug)]
pub struct Doing {
    line: u64,
    generation: u64,
    order: Order,
    number: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The term is being kept.
    Admit,
    /// The fences are asked again, and it begins.
    Begin,
    /// The data is ready, the process is started.
    Spawn,
    /// The engine is to answer.
    Answer(Ms),
    /// The offset is to be reached.
    Behind(Ms),
    /// The primary is to be known.
    Known(Ms),
    /// The epoch that all count from is to be newer than this, before a takeover.
    Outbid(u64, Ms),
    /// The role is to change.
    AwaitRole(Role, Ms),
}

enum Next {
    Again(Stage, Ms),
    Over(Result<Done, Refused>),
}

fn failed(words: impl Into<String>) -> Next {
    Next::Over(Err(Refused::Failed { message: words.into() }))
}

fn done(note: impl Into<String>) -> Next {
    Next::Over(Ok(Done { offset: None, note: note.into() }))
}

impl World {
    /// Begins the next order, if none is being carried out.
    pub fn next_order(&mut self, pod: usize) {
        let life = self.pods[pod].life;
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        if agent.doing.is_some() {
            return;
        }
        let Some((line, generation, order)) = agent.orders.pop_front() else { return };
        agent.works += 1;
        let number = agent.works;
        agent.doing = Some(Doing { line, generation, order, number, stage: Stage::Admit });
        self.at(0, Event::Work { pod, life, number });
    }

    /// The order goes on.
    pub fn work(&mut self, pod: usize, life: u64, number: u64) {
        let place = &mut self.pods[pod];
        if place.life != life || place.gone {
            return;
        }
        let Some(agent) = place.agent.as_mut() else { return };
        let Some(doing) = agent.doing.take_if(|doing| doing.number == number) else { return };
        let next = self.step_of(pod, &doing);
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        match next {
            Next::Again(stage, after) => {
                agent.doing = Some(Doing { stage, ..doing });
                self.at(after, Event::Work { pod, life, number });
            }
            Next::Over(outcome) => {
                self.expect_movement(pod, MOVEMENT_MS);
                let offset = self.state(pod).and_then(|state| state.view.as_ref()).map(|view| view.offset);
                let outcome = outcome.map(|done| Done { offset: done.offset.or(offset), ..done });
                let id = doing.order.id;
                self.tell(|| format!("pod {pod} did {:?}: {outcome:?}", short(&doing.order.command)));
                self.publish(pod);
                self.from_agent(doing.line, FromAgent::Answer { id, outcome });
                self.next_order(pod);
            }
        }
    }

    fn step_of(&mut self, pod: usize, doing: &Doing) -> Next {
        let order = &doing.order;
        let node = self.pods[pod].node.clone();
        let Some(state) = self.state(pod) else { return failed("gone") };
        match doing.stage {
            Stage::Admit => match self.admitted(pod, &node, doing) {
                Err(refused) => Next::Over(Err(refused)),
                Ok(Admitted::SameTerm) => Next::Again(Stage::Begin, 0),
                Ok(Admitted::NewTerm) => {
                    let term = order.term;
                    self.change(pod, |state| state.term = state.term.max(term));
                    if !self.store(pod) {
                        return failed("the term could not be kept: no space left on device");
                    }
                    Next::Again(Stage::Begin, 1)
                }
            },
            Stage::Begin => {
                if !matches!(order.command, Command::Start(_)) {
                    self.look(pod);
                }
                if let Err(refused) = self.admitted(pod, &node, doing) {
                    return Next::Over(Err(refused));
                }
                let Some(state) = self.state(pod) else { return failed("gone") };
                if let Err(refused) = orders::expects(state, order)
                    && self.mutant != Some(Mutant::NoFences)
                {
                    return Next::Over(Err(refused));
                }
                self.judge_order(pod, doing.generation, order);
                self.tell(|| format!("pod {pod} begins {:?} of term {}", short(&order.command), order.term));
                self.begin_command(pod, order)
            }
            Stage::Spawn => {
                let Command::Start(start) = &order.command else { return failed("no start") };
                self.start_engine(pod, start.clone());
                let within = ANSWER_WITHIN_MS + self.now;
                let pause = self.chance.between(4, 60);
                Next::Again(Stage::Answer(within), pause)
            }
            Stage::Answer(_) => {
                if self.pods[pod].engine.is_none() {
                    return failed("the engine ended at its start");
                }
                self.look(pod);
                done("")
            }
            Stage::Behind(until) => {
                let Command::Promote { min_offset, force, .. } = &order.command else {
                    return failed("no promotion");
                };
                self.look(pod);
                let offset =
                    self.state(pod).and_then(|state| state.view.as_ref()).map_or(0, |view| view.offset);
                if min_offset.is_none_or(|wanted| offset >= wanted) {
                    return self.promote(pod, *force);
                }
                if self.now >= until {
                    return Next::Over(Err(Refused::Behind { offset }));
                }
                Next::Again(Stage::Behind(until), 1)
            }
            Stage::Known(until) => {
                let Command::Replicate { primary, primary_id } = &order.command else {
                    return failed("no primary");
                };
                match self.follow_once(pod, primary, primary_id.as_deref()) {
                    Ok(()) => Next::Again(Stage::AwaitRole(Role::Replica, self.now + ROLE_WITHIN_MS), 0),
                    Err(error) if self.now >= until => self.replicated(pod, order.term, Some(error)),
                    Err(_) => Next::Again(Stage::Known(until), 20),
                }
            }
            Stage::Outbid(epoch, until) => {
                let info = self.text(pod, &["CLUSTER", "INFO"]);
                let newer = info.is_ok_and(|info| cluster_info(&info).current_epoch > epoch);
                if !newer && self.now < until {
                    return Next::Again(Stage::Outbid(epoch, until), 1);
                }
                self.take_over(pod, &["CLUSTER", "FAILOVER", "TAKEOVER"])
            }
            Stage::AwaitRole(role, until) => {
                let _ = state;
                let Some(engine) = self.pods[pod].engine.as_ref() else { return failed("the engine ended") };
                let is = if crate::engine::Model::is_replica(engine) { Role::Replica } else { Role::Primary };
                if is != role && self.now < until {
                    return Next::Again(Stage::AwaitRole(role, until), 1);
                }
                let error = (is != role).then(|| format!("the role did not become {role:?} in time"));
                match role {
                    Role::Replica => self.replicated(pod, order.term, error),
                    Role::Primary => {
                        self.look(pod);
                        self.source(pod);
                        error.map_or_else(|| done(""), failed)
                    }
                }
            }
        }
    }

    fn admitted(&self, pod: usize, node: &str, doing: &Doing) -> Result<Admitted, Refused> {
        let Some(state) = self.state(pod) else {
            return Err(Refused::Failed { message: "gone".into() });
        };
        if self.mutant == Some(Mutant::NoFences) {
            return Ok(if doing.order.term > state.term { Admitted::NewTerm } else { Admitted::SameTerm });
        }
        let generation = if self.mutant == Some(Mutant::TwoLeaders) { u64::MAX } else { doing.generation };
        orders::admit(state, node, generation, &doing.order)
    }

    fn begin_command(&mut self, pod: usize, order: &Order) -> Next {
        let own = self
            .state(pod)
            .and_then(|state| state.life.as_ref())
            .map(|life| (life.start.announce.clone(), life.cluster));
        match &order.command {
            Command::KeepTerm => {
                let term = order.term;
                self.change(pod, |state| state.keeps_following(term));
                if !self.store(pod) {
                    return failed("the term could not be kept: no space left on device");
                }
                self.publish(pod);
                done("")
            }
            Command::Start(start) => {
                self.judge_start(pod, start);
                if let Err(message) = self.prepare_data(pod, start) {
                    self.change(pod, |state| state.trouble.clone_from(&message));
                    return failed(message);
                }
                Next::Again(Stage::Spawn, self.chance.between(2, 30))
            }
            Command::Meet { peers } => {
                let Some((own, true)) = own else { return failed("MEET: cluster mode is disabled") };
                self.meet_peers(pod, &own, peers).map_or_else(failed, |met| done(format!("met {met}")))
            }
            Command::AssignSlots { slots, epoch, from } => {
                let assigned = self.assign_slots(pod, slots, *epoch, from);
                if assigned.is_ok() {
                    self.change(pod, State::in_role);
                }
                assigned.map_or_else(failed, |count| done(format!("{count} slots")))
            }
            Command::Replicate { primary, primary_id } => {
                self.end_script(pod);
                let Some((own, cluster)) = own else { return failed("not running") };
                if cluster {
                    if self.follow_once(pod, primary, primary_id.as_deref()).is_ok() {
                        return Next::Again(Stage::AwaitRole(Role::Replica, self.now + ROLE_WITHIN_MS), 0);
                    }
                    if let Err(error) = self.meet_peers(pod, &own, std::slice::from_ref(primary)) {
                        return self.replicated(pod, order.term, Some(error));
                    }
                    Next::Again(Stage::Known(self.now + KNOWN_WITHIN_MS), 20)
                } else {
                    let follows = self
                        .state(pod)
                        .and_then(|state| state.view.as_ref()?.link.as_ref())
                        .is_some_and(|link| link.host == primary.host && link.port == primary.port);
                    if !follows
                        && let Err(error) =
                            self.text(pod, &["REPLICAOF", &primary.host, &primary.port.to_string()])
                    {
                        return self.replicated(pod, order.term, Some(error));
                    }
                    Next::Again(Stage::AwaitRole(Role::Replica, self.now + ROLE_WITHIN_MS), 0)
                }
            }
            Command::Promote { wait_ms, .. } => {
                if let Some(is) = self.state(pod).and_then(kagami_agent::state::State::cannot_be_promoted)
                    && self.mutant != Some(Mutant::NoFences)
                {
                    return Next::Over(Err(Refused::WrongState { is: is.into() }));
                }
                if self.state(pod).and_then(kagami_agent::state::State::role) == Some(Role::Primary) {
                    self.source(pod);
                    return done("it is the primary already");
                }
                Next::Again(Stage::Behind(self.now + wait_ms), 0)
            }
            Command::Relink => {
                let ended = self.text(pod, &["CLIENT", "KILL", "TYPE", "master"]);
                self.look(pod);
                ended.map_or_else(failed, |ended| done(format!("{ended} links ended")))
            }
            Command::CloseSlots { slots, empty } => match self.close_slots(pod, slots, *empty) {
                Ok(()) => done(format!("{} slots are closed", slots.len())),
                Err(refused) => Next::Over(Err(refused)),
            },
            Command::CloseClients => {
                // The model's clients ask for the endpoint's address before each write.
                if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
                    life.demoted_ms = None;
                }
                done("clients closed")
            }
            Command::Park { unwritten } => {
                if *unwritten {
                    self.pause_writes(pod, PARK_PAUSE_MS);
                    self.look(pod);
                    let worthless = self
                        .state(pod)
                        .and_then(|state| state.view.as_ref())
                        .is_some_and(|view| !view.loading && (view.keys == 0 || view.unwritten));
                    if !worthless {
                        self.resume_writes(pod);
                        return Next::Over(Err(Refused::Written));
                    }
                }
                self.end_script(pod);
                self.judge_park(pod);
                self.end_engine(pod);
                done("parked")
            }
            Command::End { .. } => {
                self.end_script(pod);
                self.judge_park(pod);
                self.engine_ended(pod, Some(9), None, "ended by force", false);
                done("ended by force")
            }
            Command::Forget { ids } => {
                let mut refused = Vec::new();
                for id in ids {
                    match self.text(pod, &["CLUSTER", "FORGET", id]) {
                        Ok(_) => {}
                        Err(error) if error.to_lowercase().contains("unknown node") => {}
                        Err(error) => refused.push(error),
                    }
                }
                if refused.is_empty() { done("") } else { failed(refused.join("; ")) }
            }
            Command::PauseWrites { ms } => {
                self.pause_writes(pod, *ms);
                self.look(pod);
                let offset = self.state(pod).and_then(|state| state.view.as_ref()).map(|view| view.offset);
                Next::Over(Ok(Done { offset, note: String::new() }))
            }
            Command::ResumeWrites => {
                self.resume_writes(pod);
                done("")
            }
            Command::Configure { config, .. } => {
                let config = config.clone();
                self.change(pod, |state| {
                    if let Some(life) = state.life.as_mut() {
                        life.start.config = config.or(life.start.config.take());
                    }
                });
                done("")
            }
        }
    }

    fn pause_writes(&mut self, pod: usize, ms: u64) {
        let until = self.agent_ms(pod) + ms;
        self.command(pod, &["CLIENT", "PAUSE", &ms.to_string(), "WRITE"]);
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.operator_pause_until_ms = until;
        }
    }

    fn resume_writes(&mut self, pod: usize) {
        if self.state_mut(pod).is_some_and(kagami_agent::state::State::resume) {
            self.command(pod, &["CLIENT", "UNPAUSE"]);
        }
    }

    /// The role is another's to decide now: what the start still tries is over.
    fn end_script(&mut self, pod: usize) {
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.process.script = None;
        }
    }

    fn promote(&mut self, pod: usize, force: bool) -> Next {
        self.end_script(pod);
        self.judge_promotion(pod);
        if self.story.is_some() {
            let nodes = self.text(pod, &["CLUSTER", "NODES"]).unwrap_or_default();
            self.tell(|| format!("pod {pod} is promoted; it says: {}", nodes.trim().replace('\n', " | ")));
        }
        let Some(cluster) = self.state(pod).and_then(|state| state.life.as_ref()).map(|life| life.cluster)
        else {
            return failed("the engine ended");
        };
        let term = self.state(pod).map_or(0, |state| state.term);
        if let Some(state) = self.state_mut(pod) {
            state.lead_term = term;
        }
        self.set_source(pod, true);
        let elect = force && cluster;
        if elect {
            let known = self.state_mut(pod).and_then(|state| state.life.as_mut());
            let asked = known.and_then(|life| life.election_term.replace(term)) == Some(term);
            if !asked && let Err(error) = self.text(pod, &["CLUSTER", "FAILOVER", "FORCE"]) {
                return self.not_promoted(pod, error);
            }
            return Next::Again(Stage::AwaitRole(Role::Primary, self.now + ELECTION_BOUND_MS), 0);
        }
        if !cluster {
            return self.take_over(pod, &["REPLICAOF", "NO", "ONE"]);
        }
        let seen = self.state(pod).and_then(|state| state.view.as_ref()?.cluster.as_ref());
        let epochs = seen.map(|seen| (seen.my_epoch, seen.current_epoch));
        if let Some((epoch, current)) = epochs {
            match self.text(pod, &["CLUSTER", "BUMPEPOCH"]) {
                Err(error) => return self.not_promoted(pod, error),
                Ok(bumped) if outbids(&bumped, epoch) => {}
                Ok(_) => {
                    if let Err(error) = self.text(pod, &["CLUSTER", "FAILOVER", "FORCE"]) {
                        return self.not_promoted(pod, error);
                    }
                    return Next::Again(Stage::Outbid(current, self.now + OUTBID_WITHIN_MS), 1);
                }
            }
        }
        self.take_over(pod, &["CLUSTER", "FAILOVER", "TAKEOVER"])
    }

    fn take_over(&mut self, pod: usize, words: &[&str]) -> Next {
        // An election has the majority of primaries for its fence; a takeover has only Kagami's word.
        self.pods[pod].made_primary_ms = Some(self.now);
        match self.text(pod, words) {
            Err(error) if !error.contains("CLUSTER FAILOVER to a replica") => self.not_promoted(pod, error),
            _ => Next::Again(Stage::AwaitRole(Role::Primary, self.now + ROLE_WITHIN_MS), 0),
        }
    }

    fn not_promoted(&mut self, pod: usize, error: String) -> Next {
        self.look(pod);
        self.source(pod);
        failed(error)
    }

    fn replicated(&mut self, pod: usize, term: u64, error: Option<String>) -> Next {
        self.look(pod);
        self.settle(pod);
        match error {
            Some(error) => failed(error),
            None => {
                self.change(pod, |state| {
                    state.in_role();
                    state.followed(term);
                });
                self.keep_note(pod);
                done("")
            }
        }
    }

    /// Sends a frame from an agent to its operator.
    pub fn from_agent(&mut self, line: u64, frame: FromAgent) {
        let Some(known) = self.lines.get(&line) else { return };
        if !known.agent_open && !matches!(frame, FromAgent::Welcome { .. } | FromAgent::Report(_)) {
            return;
        }
        let (machine, operator) = (self.pods[known.pod].machine, known.operator);
        let Some(delay) = self.way(Party::Machine(machine), Party::Operator(operator)) else {
            // A stream does not go on behind a gap.
            if let Some(known) = self.lines.get_mut(&line) {
                known.last_from_agent = Ms::MAX;
            }
            return;
        };
        let now = self.now;
        let Some(known) = self.lines.get_mut(&line) else { return };
        if known.last_from_agent == Ms::MAX {
            return;
        }
        let at = (now + delay).max(known.last_from_agent);
        known.last_from_agent = at;
        self.when(at, Event::FromAgent { line, frame: Box::new(frame) });
    }
}

fn short(command: &Command) -> &'static str {
    match command {
        Command::Start(start) => match start.role {
            kagami_protocol::StartRole::Primary { .. } => "start as primary",
            kagami_protocol::StartRole::Replica { .. } => "start as replica",
        },
        Command::Meet { .. } => "meet",
        Command::AssignSlots { .. } => "assign slots",
        Command::Replicate { .. } => "replicate",
        Command::Promote { force: true, .. } => "promote by election",
        Command::Promote { .. } => "promote",
        Command::Park { .. } => "park",
        Command::End { .. } => "end by force",
        Command::Forget { .. } => "forget",
        Command::PauseWrites { .. } => "pause writes",
        Command::ResumeWrites => "resume writes",
        Command::Configure { .. } => "configure",
        Command::KeepTerm => "keep term",
        Command::Relink => "relink",
        Command::CloseSlots { .. } => "close slots",
        Command::CloseClients => "close clients",
    }
}
