//! Without automatic failover the role belongs to one node (cluster mode disabled).

mod support;

use kagami_core::observed::Agent;
use kagami_core::plan::Act;
use kagami_core::requests::Restart;
use kagami_protocol::Exit;
use support::{assert_plan, boot, draw, events};

const DEAD: &str = "lease 0001 term 4 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica 100 of 0001-001 down 5";

fn home_of(drawing: &str) -> Option<String> {
    let (_, plan) = draw(drawing).plan();
    plan.steps.iter().find_map(|step| match &step.act {
        Act::RaiseTerm(raise) => Some(raise.home.clone()),
        _ => None,
    })?
}

#[test]
fn a_replica_serves_while_the_failed_primary_is_recreated_and_the_way_back_is_remembered() {
    assert_plan(
        &draw(&format!("1x2 plain formed nofailover\n {DEAD}")),
        "raise 0001 to term 5 holder 0001-002 (death)
         order 0001-002 term 5: promote, offset at least None",
    );
    assert_eq!(home_of(&format!("1x2 plain formed nofailover\n {DEAD}")).as_deref(), Some("g-0001-001"));
    assert_eq!(home_of(&format!("1x2 plain formed\n {DEAD}")), None, "automatic failover moves the role");
    // A second failure does not change whose the role is.
    let second =
        "lease 0001 term 5 holder 0001-002 home 0001-001 served\n 0001-001 nopod\n 0001-002 parked boot 2
         0001-003 replica 100 of 0001-002 down 5";
    assert_eq!(home_of(&format!("1x3 plain formed nofailover\n {second}")).as_deref(), Some("g-0001-001"));
}

const BACK: &str = "lease 0001 term 5 holder 0001-002 home 0001-001 served\n 0001-001 replica 100 of 0001-002\n 0001-002 primary 100";

#[test]
fn the_role_goes_back_by_a_handover_once_that_node_is_in_sync() {
    let text = format!("1x2 plain formed nofailover\n {BACK}");
    assert_plan(
        &draw(&text),
        "raise 0001 to term 6 holder 0001-001 (handover)
         hand over 0001-002 -> 0001-001 term 6",
    );
    assert_eq!(home_of(&text), None, "it is at home");
    assert_plan(&draw(&format!("1x2 plain formed\n {BACK}")), "");
}

#[test]
fn it_does_not_go_back_to_a_node_that_is_not_in_sync_or_about_to_go() {
    let not_yet = "lease 0001 term 5 holder 0001-002 home 0001-001 served\n 0001-001 replica 50 of 0001-002 down 900\n 0001-002 primary 100";
    assert_plan(&draw(&format!("1x2 plain formed nofailover\n {not_yet}")), "wait AwaitingSync 0001-001");
    assert_plan(&draw(&format!("1x2 plain formed nofailover\n machine m1 zone a cordoned\n {BACK}")), "");
}

#[test]
fn the_node_that_is_named_has_the_role_handed_over() {
    let group =
        "lease 0001 term 5 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 100 of 0001-001";
    assert_plan(
        &draw(&format!("1x2 plain formed nofailover primary=0001-002\n {group}")),
        "raise 0001 to term 6 holder 0001-002 (handover)
         hand over 0001-001 -> 0001-002 term 6",
    );
    assert_plan(&draw(&format!("1x2 plain formed nofailover primary=0001-001\n {group}")), "");
}

#[test]
fn a_node_that_is_to_be_rebooted_or_crashes_again_and_again_has_the_role_back_later() {
    let text = format!("1x2 plain formed nofailover\n {BACK}");
    let mut rebooted = draw(&text);
    rebooted.observed.requests.under_way =
        Some(Restart { node: "g-0001-001".into(), boot: boot("g-0001-001", 1), test: false });
    let (_, plan) = rebooted.plan();
    let planned = support::table(&plan);
    assert!(planned.contains("order 0001-001 term 5: park") && !planned.contains("hand over"), "{planned}");
    let mut looping = draw(&text);
    if let Agent::Up(report) = &mut looping.observed.nodes.get_mut("g-0001-001").unwrap().agent {
        report.exits = 3;
        report.last_exit = Some(Exit {
            boot: boot("g-0001-001", 0),
            code: None,
            signal: Some(9),
            out_of_memory: false,
            lived_ms: 5_000,
            last_words: String::new(),
            at_ms: support::NOW_MS - 60_000,
        });
    }
    let planned = support::table(&looping.plan().1);
    assert!(planned.contains("wait CrashLooping 0001-001") && !planned.contains("raise"), "{planned}");
    assert!(events(&draw(&text).plan().1).contains("is in sync and becomes the primary: it had the role"));
}
