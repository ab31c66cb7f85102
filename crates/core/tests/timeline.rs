//! Where the time of a failover goes, told from what was observed, planned and done.

mod support;

use kagami_core::observed::Cause;
use kagami_core::plan::{Act, Plan, Step};
use kagami_core::timeline::{Failover, Phase, Timeline};
use kagami_protocol::{Command, Exit};
use support::{NOW_MS, Scene, boot, draw};

/// One look of the operator at a scene, some milliseconds after the first.
fn look(timeline: &mut Timeline, scene: &mut Scene, after_ms: i64) -> (Plan, Vec<Failover>) {
    scene.observed.now_ms = NOW_MS + after_ms;
    let (frozen, plan) = scene.plan();
    let over = timeline.look(&frozen.desired, &scene.observed, &plan);
    (plan, over)
}

/// The steps of a plan that a filter takes are carried out at a time.
fn carried_out(
    timeline: &mut Timeline,
    scene: &Scene,
    plan: &Plan,
    after_ms: i64,
    which: impl Fn(&Act) -> bool,
) {
    let steps: Vec<&Step> = plan.steps.iter().filter(|step| which(&step.act)).collect();
    assert!(!steps.is_empty(), "nothing of that kind is planned:\n{plan}");
    for step in steps {
        timeline.done(&scene.desired, &scene.observed, step, NOW_MS + after_ms);
    }
}

fn raise(act: &Act) -> bool {
    matches!(act, Act::RaiseTerm(_))
}
fn promotion(act: &Act) -> bool {
    matches!(act, Act::HandOver(_))
        || matches!(act, Act::Order { command, .. } if matches!(**command, Command::Promote { .. }))
}
fn slices(act: &Act) -> bool {
    matches!(act, Act::Apply { .. })
}

const DEAD: &str = "1x2 plain formed
    lease 0001 term 1 holder 0001-001/1 served
    0001-001 boot 2
    0001-002 replica 90 of 0001-001 down 20";

fn exit_ms(scene: &mut Scene, before_ms: i64) {
    let of = boot("g-0001-001", 1);
    scene.report("0001-001").last_exit = Some(Exit {
        boot: of,
        code: None,
        signal: Some(9),
        out_of_memory: false,
        at_ms: NOW_MS - before_ms,
        lived_ms: 1,
        last_words: String::new(),
    });
}

#[test]
fn a_primary_that_dies_is_told_with_the_time_of_each_phase_and_how_far_the_copy_was_behind() {
    let mut timeline = Timeline::default();
    let mut well = draw(
        "1x2 plain formed\n lease 0001 term 1 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 90 of 0001-001",
    );
    let (_, over) = look(&mut timeline, &mut well, -60);
    assert_eq!(over, []);
    let mut scene = draw(DEAD);
    scene.observed.last_offsets.insert("g-0001-001".into(), 140);
    exit_ms(&mut scene, 3);
    let (plan, over) = look(&mut timeline, &mut scene, 0);
    assert_eq!(over, []);
    carried_out(&mut timeline, &scene, &plan, 7, raise);
    carried_out(&mut timeline, &scene, &plan, 12, promotion);
    let mut after = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause death served\n 0001-001 boot 2\n 0001-002 primary 90",
    );
    // The objects are still those from before.
    after.observed.children = draw(DEAD).observed.children;
    let (plan, over) = look(&mut timeline, &mut after, 30);
    assert_eq!(over, [], "the endpoints have not moved:\n{plan}");
    carried_out(&mut timeline, &after, &plan, 41, slices);
    after.world_is_met();
    let (_, over) = look(&mut timeline, &mut after, 60);
    let failover = over.first().unwrap();
    assert_eq!(
        failover.words(),
        "Failover from primary node g-0001-001 to replica node g-0001-002 completed (cause: death; 44 ms: detect 3 ms, choose 7 ms, \
         fence 0 ms, promote 5 ms, endpoints 29 ms; offset 90, 50 bytes behind the last that was known of the old primary)"
    );
    assert_eq!(failover.took_ms(Phase::Total), Some(44));
    assert_eq!(look(&mut timeline, &mut after, 90).1, [], "it is told once");
}

#[test]
fn the_time_until_a_silent_primary_has_fenced_itself_is_a_phase_of_its_own() {
    let mut timeline = Timeline::default();
    let silent = "1x2 cluster formed
        lease 0001 term 1 holder 0001-001 served
        0001-001 silent 2000 primary 100
        0001-002 replica 100 of 0001-001 down 2000
        machine m1 notready";
    let mut scene = draw(silent);
    let (plan, _) = look(&mut timeline, &mut scene, 0);
    carried_out(&mut timeline, &scene, &plan, 4, raise);
    let raised = silent.replace(
        "lease 0001 term 1 holder 0001-001 served",
        "lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence since 3100 served",
    );
    let mut scene = draw(&raised);
    let (plan, _) = look(&mut timeline, &mut scene, 3_104);
    carried_out(&mut timeline, &scene, &plan, 3_110, promotion);
    let mut after = draw(
        "1x2 cluster formed
         lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence served
         0001-001 silent 5200 primary 100
         0001-002 primary 100
         machine m1 notready",
    );
    let (_, over) = look(&mut timeline, &mut after, 3_200);
    let failover = over.first().unwrap();
    assert_eq!(failover.cause, Cause::Silence);
    let took: Vec<Option<i64>> = Phase::ALL.iter().map(|phase| failover.took_ms(*phase)).collect();
    assert_eq!(took, [Some(2_000), Some(4), Some(3_100), Some(6), Some(0), Some(5_110)]);
}

#[test]
fn a_process_that_finds_a_raised_term_tells_the_failover_from_there_on() {
    let mut timeline = Timeline::default();
    let mut scene = draw(
        "1x2 plain formed
         lease 0001 term 2 holder 0001-002 previous 0001-001/1 cause death since 500 served
         0001-001 boot 2
         0001-002 replica 90 of 0001-001 down 600",
    );
    let (plan, _) = look(&mut timeline, &mut scene, 0);
    carried_out(&mut timeline, &scene, &plan, 5, promotion);
    let mut after = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause death served\n 0001-001 boot 2\n 0001-002 primary 90",
    );
    let (_, over) = look(&mut timeline, &mut after, 60);
    let failover = over.first().unwrap();
    assert_eq!((failover.took_ms(Phase::Detect), failover.took_ms(Phase::Total)), (None, Some(505)));
    assert!(failover.words().contains("from primary node g-0001-001 to replica node g-0001-002"));
}

#[test]
fn a_primary_that_was_only_silent_for_a_moment_is_no_failover() {
    let mut timeline = Timeline::default();
    let mut scene = draw(
        "1x2 plain formed\n lease 0001 term 1 holder 0001-001 served\n 0001-001 silent 1600 primary 100\n 0001-002 replica 100 of 0001-001",
    );
    let (_, over) = look(&mut timeline, &mut scene, 0);
    assert_eq!(over, []);
    let mut well = draw(
        "1x2 plain formed\n lease 0001 term 1 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 100 of 0001-001",
    );
    assert_eq!(look(&mut timeline, &mut well, 100).1, []);
    assert_eq!(look(&mut timeline, &mut well, 60_000).1, []);
}

#[test]
fn a_clock_that_is_wrong_by_much_tells_no_time_of_the_loss() {
    let mut timeline = Timeline::default();
    let mut scene = draw(DEAD);
    exit_ms(&mut scene, 3_600_000);
    let (plan, _) = look(&mut timeline, &mut scene, 0);
    carried_out(&mut timeline, &scene, &plan, 7, raise);
    carried_out(&mut timeline, &scene, &plan, 12, promotion);
    let mut after = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause death served\n 0001-001 boot 2\n 0001-002 primary 90",
    );
    let (_, over) = look(&mut timeline, &mut after, 60);
    assert_eq!(over.first().unwrap().took_ms(Phase::Detect), None);
    assert_eq!(over.first().unwrap().took_ms(Phase::Total), Some(12));
}
