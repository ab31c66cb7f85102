//! One run: the group is formed, the faults happen, everything is mended, and the group must come to rest.

use crate::engine::{Model, Ms};
use crate::mutant::Mutant;
use crate::script::{Phase, Script};
use crate::world::World;
use std::collections::BTreeMap;

/// How long a group may take to form, and to come to rest after the last fault.
const FORM_MS: Ms = 120_000;
const REST_MS: Ms = 420_000;
/// For how long nothing may be sent at rest.
const QUIET_MS: Ms = 3_000;
/// How long faults that last are let last after the last one began.
const LAST_MS: Ms = 15_000;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Promises that were broken.
    pub violations: Vec<String>,
    /// Steps taken from the first fault on.
    pub steps: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Those that met an action.
    pub overlapping: u64,
    /// Simulated milliseconds.
    pub ms: Ms,
    /// From the end of the faults to rest.
    pub rest_ms: Ms,
    /// Which fault met which phase.
    pub coverage: BTreeMap<(&'static str, Phase), u64>,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// What happened.
    pub story: Vec<String>,
    /// Sums up all that happened, to see whether two runs are the same.
    pub digest: u64,
}

/// Runs a script.
pub fn run(script: &Script, mutant: Option<Mutant>, told: bool) -> Outcome {
    let mut world = World::new(script.clone(), told);
    world.mutant = mutant;
    if script.shape.formed && !rests(&mut world, FORM_MS, 200) {
        let why = world.unrest().unwrap_or_default();
        world.violate(format!("P4: the group was not formed: {why}"));
        return outcome(world, 0, 0);
    }
    let before = world.steps;
    world.begin_faults();
    let ends = world.now + script.ends_ms() + LAST_MS;
    while world.next_ms().is_some_and(|at| at <= ends) && world.judge.violations.is_empty() {
        world.step();
    }
    if !world.judge.violations.is_empty() {
        world.tell_all();
        return outcome(world, before, 0);
    }
    world.end_faults();
    let mended = world.now;
    if rests(&mut world, REST_MS, QUIET_MS) {
        world.judge_rest();
        if !world.judge.violations.is_empty() {
            world.tell_all();
        }
    } else if world.judge.violations.is_empty() {
        let why =
            world.unrest().unwrap_or_else(|| format!("requests do not end: {}", world.judge.last_request));
        world.violate(format!("P4: the group did not come to rest: {why}"));
        world.tell_all();
    }
    outcome(world, before, mended)
}

/// Runs until the group is as its spec says and nothing is sent any more.
fn rests(world: &mut World, within: Ms, quiet: Ms) -> bool {
    let (began, until) = (world.now, world.now + within);
    let mut looked = 0;
    while world.now < until && world.judge.violations.is_empty() {
        if !world.step() {
            return false;
        }
        if world.now >= looked + 100 {
            looked = world.now;
            let last = world.judge.last_request_ms.max(began);
            // While nobody leads, nobody has anything to say.
            if world.now >= last + quiet && world.leader().is_some() && world.unrest().is_none() {
                return true;
            }
        }
    }
    false
}

fn outcome(world: World, before: u64, mended: Ms) -> Outcome {
    let digest =
        world.steps.wrapping_mul(31).wrapping_add(world.now).wrapping_mul(31).wrapping_add(world.counter);
    Outcome {
        steps: world.steps - before.min(world.steps),
        faults: world.judge.faults,
        overlapping: world.judge.overlapping,
        ms: world.now,
        rest_ms: world.now.saturating_sub(mended),
        coverage: world.judge.coverage,
        acknowledged: world.clients.acknowledged,
        violations: world.judge.violations,
        story: world.story.unwrap_or_default(),
        digest,
    }
}

impl World {
    /// How everybody stands, for the story of a group that does not come to rest.
    fn tell_all(&mut self) {
        if self.story.is_none() {
            return;
        }
        let pods: Vec<usize> = (0..self.pods.len()).filter(|pod| !self.pods[*pod].gone).collect();
        for pod in pods {
            let place = &self.pods[pod];
            let engine = place.engine.as_ref().map(|engine| engine.view(self.now));
            let agent = place
                .agent
                .as_ref()
                .map(|agent| (&agent.state.boot, agent.state.describe(), &agent.state.trouble));
            let line =
                format!("pod {pod} is {} at {}: agent {agent:?}, engine {engine:?}", place.node, place.ip);
            self.tell(|| line);
            let told = |report: &kagami_protocol::Report| {
                let engine =
                    report.engine.as_ref().map(|engine| (engine.complete, engine.role, engine.link.clone()));
                format!("seq {} {:?} term {} {engine:?}", report.seq, report.state, report.term)
            };
            let node = self.pods[pod].node.clone();
            let heard = self.leader().and_then(|leader| self.hears(leader, &node)).map(told);
            let seen = self.state(pod).and_then(|state| state.view.as_ref());
            let seen = seen.map(|view| (view.complete, view.role, view.link.clone()));
            self.tell(|| format!("  the leader heard {heard:?}; its agent saw {seen:?}"));
        }
        let status = self.kube.group.as_ref().and_then(|group| group.status.clone()).unwrap_or_default();
        for condition in status.conditions {
            self.tell(|| {
                format!("condition {} {}: {}", condition.type_, condition.reason, condition.message)
            });
        }
        let leases: Vec<String> =
            self.kube.leases.iter().map(|(name, lease)| format!("lease {name}: {}", lease["spec"])).collect();
        for lease in leases {
            self.tell(|| lease);
        }
    }
}
