//! One run: the group is formed, the faults happen, everything is mended, and the group must come to rest.

use crate::engine::Ms;
use crate::mutant::Mutant;
use crate::script::Script;
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
    pub coverage: BTreeMap<(&'static str, &'static str), u64>,
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
        return outcome(world, before, 0);
    }
    world.end_faults();
    let mended = world.now;
    if rests(&mut world, REST_MS, QUIET_MS) {
        world.judge_rest();
    } else if world.judge.violations.is_empty() {
        let why =
            world.unrest().unwrap_or_else(|| format!("requests do not end: {}", world.judge.last_request));
        world.violate(format!("P4: the group did not come to rest: {why}"));
    }
    outcome(world, before, mended)
}

/// Runs until the group is as its spec says and nothing is sent any more.
fn rests(world: &mut World, within: Ms, quiet: Ms) -> bool {
    let until = world.now + within;
    let mut looked = 0;
    while world.now < until && world.judge.violations.is_empty() {
        if !world.step() {
            return false;
        }
        if world.now >= looked + 100 {
            looked = world.now;
            let waited = world.now.saturating_sub(world.judge.last_request_ms) >= quiet;
            if waited && world.unrest().is_none() {
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
