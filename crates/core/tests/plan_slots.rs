//! Slots that an interrupted migration left open.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use kagami_core::check::check;
use kagami_core::observed::Agent;
use kagami_core::plan::Act;
use kagami_protocol::{Command, OpenSlot};
use support::{Scene, assert_plan, draw, engine_id, events, short, table};

const GROUP: &str = "3x1 cluster formed
     lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001 served\n lease 0003 holder 0003-001 served
     0001-001 primary 100\n 0002-001 primary 100\n 0003-001 primary 100";

/// One side of an open slot: who, its mark (`>0002`, `<0001`, or none), how many keys, whether it has stood for long enough.
type Side<'a> = (&'a str, &'a str, u64, bool);

fn with(sides: &[Side<'_>]) -> Scene {
    let mut scene = draw(GROUP);
    for (node, mark, keys, stood) in sides {
        let peer = |shard: &str| engine_id(&format!("g-{shard}-001"), 1);
        let text = match mark.split_at_checked(1) {
            Some((">", shard)) => Some(format!("[93->-{}]", peer(shard))),
            Some(("<", shard)) => Some(format!("[93-<-{}]", peer(shard))),
            _ => None,
        };
        let engine = scene.report(node).engine.as_mut().unwrap();
        engine.open_slots = vec![OpenSlot { slot: 93, keys: *keys, stood: *stood }];
        let cluster = engine.cluster.as_mut().unwrap();
        cluster.nodes.iter_mut().find(|line| line.myself).unwrap().open_slots.extend(text);
    }
    scene
}

const ALL: &str = "order 0002-001 term 1: close 93 where no key is held
     order 0003-001 term 1: close 93 where no key is held
     order 0001-001 term 1: close 93";

/// Slot 93 is node group 0001's.
#[test]
fn an_interrupted_migration_is_ended_where_only_the_owner_holds_keys() {
    let closed: [(&str, &[Side<'_>], &str); 9] = [
        ("both sides", &[("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, true)], ALL),
        ("no key at all", &[("0001-001", ">0002", 0, true), ("0002-001", "<0001", 0, true)], ALL),
        ("the other side does not import, or has forgotten it", &[("0001-001", ">0002", 3, true)], ALL),
        ("the other side is nobody any more", &[("0001-001", ">0009", 3, true)], ALL),
        (
            "two import it",
            &[("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, true), ("0003-001", "<0001", 0, true)],
            ALL,
        ),
        (
            "the owner has forgotten it, or never was asked to migrate it",
            &[("0002-001", "<0001", 0, true)],
            "order 0002-001 term 1: close 93 where no key is held",
        ),
        (
            "it is imported from one that does not own it",
            &[("0002-001", "<0003", 0, true)],
            "order 0002-001 term 1: close 93 where no key is held",
        ),
        (
            "the owner imports what it has already",
            &[("0001-001", "<0002", 3, true)],
            "order 0001-001 term 1: close 93",
        ),
        (
            "one that does not own it migrates it",
            &[("0002-001", ">0003", 0, true)],
            "order 0002-001 term 1: close 93 where no key is held",
        ),
    ];
    for (what, sides, expected) in closed {
        println!("{what}");
        assert_plan(&with(sides), expected);
    }
    let told = events(&with(closed[0].1).plan().1);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("slot 93 (0001-001 owns it: 3 keys; 0002-001: no key)"), "{told}");
}

#[test]
fn keys_that_have_moved_are_told_and_nothing_is_moved_or_deleted() {
    let held: [(&str, &[Side<'_>]); 5] = [
        ("on both sides", &[("0001-001", ">0002", 3, true), ("0002-001", "<0001", 2, true)]),
        ("all have moved", &[("0001-001", ">0002", 0, true), ("0002-001", "<0001", 5, true)]),
        ("the owner has lost its mark", &[("0002-001", "<0001", 5, true)]),
        ("the other side has lost its mark", &[("0001-001", ">0002", 3, true), ("0002-001", "", 5, true)]),
        ("it is not old yet", &[("0001-001", ">0002", 3, false), ("0002-001", "<0001", 2, false)]),
    ];
    for (what, sides) in held {
        let scene = with(sides);
        let planned = short(&scene.plan().1);
        assert_eq!(planned.lines().count(), 1, "{what}: {planned}");
        assert!(
            planned.starts_with("wait SlotsOpen ") && planned.contains("slot 93 (0001-001 owns it"),
            "{planned}"
        );
        assert!(planned.contains("redis-cli --cluster fix 0001-001."), "{planned}");
    }
}

#[test]
fn many_keys_are_told_of_roughly_and_slots_beyond_what_is_counted_too() {
    let mut scene = with(&[("0001-001", ">0002", 3_456, true), ("0002-001", "<0001", 78, true)]);
    let planned = short(&scene.plan().1);
    assert!(planned.contains("0001-001 owns it: some 3000 keys; 0002-001: some 70 keys"), "{planned}");
    scene.report("0002-001").engine.as_mut().unwrap().open_slots.clear();
    let planned = short(&scene.plan().1);
    assert!(
        planned.starts_with("wait SlotsOpen 0001-001: slot 93") && planned.contains("counted"),
        "{planned}"
    );
    assert_eq!(planned.lines().count(), 1, "{planned}");
}

#[test]
fn nobodys_running_migration_is_disturbed() {
    for sides in [
        [("0001-001", ">0002", 3, false), ("0002-001", "<0001", 0, false)],
        [("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, false)],
        [("0001-001", ">0002", 3, false), ("0002-001", "<0001", 0, true)],
    ] {
        let planned = short(&with(&sides).plan().1);
        assert!(planned.starts_with("wait SlotsOpen 0001-001: slot 93"), "{planned}");
        assert!(
            planned.contains("nothing has changed for 60 s") && planned.lines().count() == 1,
            "{planned}"
        );
    }
}

#[test]
fn an_owners_mark_stays_while_one_primary_cannot_be_asked() {
    let sides = [("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, true)];
    let mut scene = with(&sides);
    let report = match std::mem::take(&mut scene.node("0003-001").agent) {
        Agent::Up(report) => report,
        other => panic!("{other:?}"),
    };
    scene.node("0003-001").agent = Agent::Silent { silent_ms: 500, last: report };
    let planned = table(&scene.plan().1);
    assert!(!planned.contains("close") && planned.contains("wait SlotsOpen 0001-001"), "{planned}");
    // Nor while one would not understand the question.
    let mut scene = with(&sides);
    scene.report("0003-001").vocabulary = 2;
    let planned = table(&scene.plan().1);
    assert!(!planned.contains("close") && planned.contains("wait SlotsOpen 0001-001"), "{planned}");
}

#[test]
fn an_agent_that_knows_nothing_of_open_slots_is_named() {
    let mut scene = with(&[("0001-001", ">0002", 3, true)]);
    let report = scene.report("0001-001");
    report.vocabulary = 2;
    report.engine.as_mut().unwrap().open_slots.clear();
    assert_plan(&scene, "wait AgentTooOld 0001-001");
}

#[test]
fn a_slot_that_two_claim_is_left_to_them() {
    let mut scene = with(&[("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, true)]);
    let line = scene.cluster("0002-001").nodes.iter_mut().find(|line| line.myself).unwrap();
    line.slots.push((93, 93));
    let planned = table(&scene.plan().1);
    assert!(!planned.contains("close") && planned.contains("wait SlotsOpen"), "{planned}");
}

#[test]
fn the_check_refuses_to_close_what_others_may_hold_keys_of() {
    let scene = with(&[("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, true)]);
    let notes = |change: &dyn Fn(&mut kagami_core::plan::Plan)| {
        let (frozen, mut plan) = scene.plan();
        change(&mut plan);
        check(&frozen.desired, &scene.observed, &plan).join("\n")
    };
    assert_eq!(notes(&|_| {}), "");
    assert!(notes(&|plan| drop(plan.steps.remove(1))).contains("node group 0003 was not asked"));
    assert!(notes(&|plan| plan.steps.reverse()).contains("was not asked"));
    let careless = |plan: &mut kagami_core::plan::Plan| {
        if let Act::Order { command, .. } = &mut plan.steps[0].act {
            **command = Command::CloseSlots { slots: vec![93], empty: false };
        }
    };
    assert!(notes(&careless).contains("which does not own it"));
    let young = with(&[("0001-001", ">0002", 3, true), ("0002-001", "<0001", 0, false)]);
    let (frozen, plan) = scene.plan();
    assert!(check(&frozen.desired, &young.observed, &plan).join("\n").contains("may be moving"));
}
