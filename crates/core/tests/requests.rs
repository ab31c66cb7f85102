//! TestFailover, the reboot of a node, and cordoned machines: what is planned for a drawing.

mod support;

use kagami_core::requests::{REBOOT, Requests, Restart, TEST_FAILOVER, TESTED, UNDER_WAY};
use kagami_protocol::Role;
use std::collections::BTreeMap;
use support::{NOW_MS, Scene, assert_plan, boot, draw, events};

const WHOLE: &str = "1x2 cluster formed
    lease 0001 term 3 holder 0001-001 served
    0001-001 primary 100
    0001-002 replica 100 of 0001-001";

/// A scene in which every agent knows how to start an engine again.
fn asked(text: &str, annotations: &[(&str, &str)]) -> Scene {
    let mut scene = draw(text);
    ask(&mut scene, annotations);
    scene
}

fn ask(scene: &mut Scene, annotations: &[(&str, &str)]) {
    for node in scene.observed.nodes.values_mut() {
        if let kagami_core::observed::Agent::Up(report) = &mut node.agent {
            report.vocabulary = 1;
        }
    }
    let annotations: BTreeMap<String, String> =
        annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    scene.observed.requests = Requests::read(&annotations, "7");
}

fn under_way(node: &str, run: u32, test: bool) -> String {
    let node = format!("g-{node}");
    serde_json::to_string(&Restart { boot: boot(&node, run), node, test }).unwrap_or_default()
}

#[track_caller]
fn assert_refused(scene: &Scene, words: &str) {
    let (_, plan) = scene.plan();
    assert!(plan.steps.iter().all(|step| !step.act.about_roles()), "{plan}");
    let told = events(&plan);
    assert!(told.contains(words), "told: {told}\nplanned: {plan}");
    assert!(plan.to_string().contains("removed"), "the request stays: {plan}");
}

#[test]
fn testfailover_is_taken_in_one_write_before_anything_is_done() {
    let scene = asked(WHOLE, &[(TEST_FAILOVER, "0001")]);
    assert_plan(&scene, "annotate restart-under-way, test-failover removed, test-failovers");
    assert_eq!(events(&scene.plan().1), "Normal TestFailover: Test Failover API called for node group 0001");
}

#[test]
fn testfailover_hands_the_role_over_then_starts_the_old_primary_again_and_then_is_over() {
    let way = under_way("0001-001", 1, true);
    assert_plan(
        &asked(WHOLE, &[(UNDER_WAY, &way)]),
        "raise 0001 to term 4 holder 0001-002 (handover)
         hand over 0001-001 -> 0001-002 term 4
         wait RebootCacheNode 0001-001",
    );
    let handed = "1x2 cluster formed
        lease 0001 term 4 holder 0001-002 previous 0001-001 cause handover served
        0001-001 replica 100 of 0001-002
        0001-002 primary 100";
    assert_plan(
        &asked(handed, &[(UNDER_WAY, &way)]),
        "order 0001-001 term 4: park
         wait RebootCacheNode 0001-001",
    );
    let ended = handed.replace("0001-001 replica 100 of 0001-002", "0001-001 boot 2");
    assert_plan(
        &asked(&ended, &[(UNDER_WAY, &way)]),
        "order 0001-001 term 4: start as replica of 10.0.1.2, put data aside
         wait RebootCacheNode 0001-001",
    );
    let back = handed.replace("0001-001 replica 100 of 0001-002", "0001-001 replica 100 of 0001-002 boot 2");
    assert_plan(&asked(&back, &[(UNDER_WAY, &way)]), "annotate restart-under-way removed");
}

#[test]
fn the_node_that_is_tested_is_not_ended_while_no_other_serves() {
    let way = under_way("0001-001", 1, true);
    let scene = asked(
        "1x2 cluster formed
         lease 0001 term 4 holder 0001-002/1 previous 0001-001 cause handover served
         0001-001 replica 100 of 0001-002
         0001-002 boot 2",
        &[(UNDER_WAY, &way)],
    );
    let (_, plan) = scene.plan();
    assert!(!plan.to_string().contains("park"), "{plan}");
}

#[test]
fn testfailover_is_refused_in_elasticaches_words() {
    assert_refused(
        &asked(WHOLE, &[(TEST_FAILOVER, "0002")]),
        "NodeGroupNotFound: The node group specified by",
    );
    let lone = "1x1 cluster formed\n lease 0001 term 1 holder 0001-001 served\n 0001-001 primary 100";
    assert_refused(&asked(lone, &[(TEST_FAILOVER, "0001")]), "TestFailoverNotAvailable: ");
    let syncing = WHOLE.replace("0001-002 replica 100 of 0001-001", "0001-002 replica 0 of 0001-001 syncing");
    assert_refused(
        &asked(&syncing, &[(TEST_FAILOVER, "0001")]),
        "InvalidReplicationGroupState: The requested replication group is not in the available state",
    );
    let mut disabled = draw(&WHOLE.replace("1x2 cluster", "1x2 plain"));
    disabled.desired.automatic_failover = false;
    disabled.world_is_met();
    ask(&mut disabled, &[(TEST_FAILOVER, "0001")]);
    assert_refused(
        &disabled,
        "TestFailoverNotAvailable: The TestFailover action is not available: automatic failover is disabled",
    );
}

#[test]
fn fifteen_node_groups_are_tested_a_day_and_not_one_more() {
    let at = |hours: i64| {
        jiff::Timestamp::from_millisecond(NOW_MS - hours * 3_600_000)
            .map(|at| at.to_string())
            .unwrap_or_default()
    };
    let times = |hours: i64| vec![at(hours); 15].join(",");
    let full = asked(WHOLE, &[(TEST_FAILOVER, "0001"), (TESTED, &times(23))]);
    assert_refused(&full, "APICallRateForCustomerExceeded: ");
    let scene = asked(WHOLE, &[(TEST_FAILOVER, "0001"), (TESTED, &times(25))]);
    assert_plan(&scene, "annotate restart-under-way, test-failover removed, test-failovers");
}

#[test]
fn one_request_is_under_way_at_a_time() {
    let way = under_way("0001-002", 1, false);
    let scene = asked(WHOLE, &[(UNDER_WAY, &way), (TEST_FAILOVER, "0001")]);
    assert_plan(
        &scene,
        "order 0001-002 term 3: park
         wait RebootCacheNode 0001-002",
    );
}

#[test]
fn a_replica_is_rebooted_where_it_stands_and_a_primary_hands_over_first() {
    assert_plan(&asked(WHOLE, &[(REBOOT, "g-0001-002")]), "annotate reboot removed, restart-under-way");
    let way = under_way("0001-001", 1, false);
    let (_, plan) = asked(WHOLE, &[(UNDER_WAY, &way)]).plan();
    assert!(plan.to_string().contains("hand over g-0001-001 -> g-0001-002"), "{plan}");
    assert_refused(
        &asked(WHOLE, &[(REBOOT, "g-0001-009")]),
        "CacheClusterNotFound: The requested cluster ID",
    );
}

#[test]
fn the_reboot_of_an_only_copy_needs_a_volume_or_a_permission() {
    let lone = "1x1 cluster formed\n lease 0001 term 1 holder 0001-001 served\n 0001-001 primary 100";
    assert_refused(&asked(lone, &[(REBOOT, "g-0001-001")]), "only copy");
    let stored = lone.replace("1x1 cluster", "1x1 cluster volumes");
    assert_plan(&asked(&stored, &[(REBOOT, "g-0001-001")]), "annotate reboot removed, restart-under-way");
    let way = under_way("0001-001", 1, false);
    let scene = asked(&stored, &[(UNDER_WAY, &way)]);
    assert_plan(
        &scene,
        "order 0001-001 term 1: park
         wait RebootCacheNode 0001-001",
    );
    assert!(scene.observed.engine("g-0001-001").is_some_and(|engine| engine.role == Some(Role::Primary)));
}

#[test]
fn an_agent_that_does_not_know_the_order_is_named() {
    let mut scene = asked(WHOLE, &[(REBOOT, "g-0001-002")]);
    scene.report("0001-002").vocabulary = 0;
    assert_refused(&scene, "AgentTooOld: ");
}

// Cordoned machines.

#[test]
fn a_primary_on_a_cordoned_machine_hands_over_before_the_drain() {
    let cordoned = format!("{WHOLE}\n machine m1 zone a cordoned");
    assert_plan(
        &draw(&cordoned),
        "raise 0001 to term 4 holder 0001-002 (handover)
         hand over 0001-001 -> 0001-002 term 4",
    );
    let plain = cordoned.replace("1x2 cluster", "1x2 plain");
    assert_plan(
        &draw(&plain),
        "raise 0001 to term 4 holder 0001-002 (handover)
         hand over 0001-001 -> 0001-002 term 4",
    );
}

#[test]
fn a_cordon_that_a_handover_would_not_help_changes_nothing() {
    for text in [
        format!("{WHOLE}\n machine m1 zone a cordoned\n machine m2 zone b cordoned"),
        format!("{WHOLE}\n machine m2 zone b cordoned"),
        "1x1 cluster formed\n lease 0001 term 1 holder 0001-001 served\n 0001-001 primary 100\n machine m1 zone a cordoned".into(),
    ] {
        assert_plan(&draw(&text), "");
    }
}

#[test]
fn of_replicas_in_sync_one_on_a_machine_that_stays_is_chosen() {
    let text = "1x3 cluster formed
        lease 0001 term 3 holder 0001-001 served
        0001-001 primary 100
        0001-002 replica 100 of 0001-001
        0001-003 replica 90 of 0001-001
        machine m1 zone a cordoned
        machine m2 zone b cordoned";
    assert_plan(
        &draw(text),
        "raise 0001 to term 4 holder 0001-003 (handover)
         hand over 0001-001 -> 0001-003 term 4",
    );
}
