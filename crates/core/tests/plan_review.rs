//! What a review of the rules found: each test is what a promise says, and failed once.

mod support;

use kagami_core::plan::Act;
use kagami_protocol::Command;
use support::{draw, short};

fn plan_of(drawing: &str) -> String {
    let scene = draw(drawing);
    let (frozen, plan) = scene.plan();
    let notes = kagami_core::check::check(&frozen.desired, &scene.observed, &plan);
    let text = format!("{}\n{}", short(&plan), notes.join("\n"));
    assert!(notes.is_empty(), "{text}");
    text
}

// After a handover 001 -> 002, 001 lives on as a replica in the same boot, and the lease still names it `previous`.

#[test]
fn p2_after_a_handover_a_silent_primary_is_fenced_before_the_former_one_gets_the_role_back() {
    for mode in ["plain", "cluster"] {
        let text = plan_of(&format!(
            "1x2 {mode} formed
             lease 0001 term 4 holder 0001-002 previous 0001-001 cause handover since 60000 served
             machine m2 zone b notready
             0001-001 replica 100 of 0001-002 down 2000 data 4 100
             0001-002 primary 100 data 4 100 silent 20000"
        ));
        assert!(!text.contains("promote"), "{mode}: promoted with no fence:\n{text}");
        assert!(text.contains("FencingPrimary"), "{text}");
    }
}

#[test]
fn p4_after_a_handover_a_proven_death_promotes_the_third_node() {
    for (mode, cause) in [("plain", "handover"), ("cluster", "handover"), ("plain", "silence")] {
        let text = plan_of(&format!(
            "1x3 {mode} formed
             lease 0001 term 4 holder 0001-002 previous 0001-001 cause {cause} since 60000 served
             0001-001 replica 100 of 0001-002 down 900 data 4 100
             0001-002 parked boot 2
             0001-003 replica 101 of 0001-002 down 900 data 4 101"
        ));
        assert!(text.contains("promote"), "{mode}: nobody is promoted though the death is proven:\n{text}");
    }
}

#[test]
fn p4_nor_does_it_end_later() {
    for mode in ["plain", "cluster"] {
        // The state that r1b leads to.
        let text = plan_of(&format!(
            "1x3 {mode} formed
             lease 0001 term 5 holder 0001-003 previous 0001-001 cause death since 600000 served
             0001-001 replica 100 of 0001-002 down 600000 data 4 100
             0001-002 parked boot 2
             0001-003 replica 101 of 0001-002 down 600000 data 4 101"
        ));
        assert!(text.contains("promote"), "{mode}: stuck for ever:\n{text}");
    }
}

// The best volume is on a node whose pod is terminating (its agent says goodbye).

#[test]
fn p1_a_better_volume_on_a_terminating_node_is_waited_for() {
    let text = plan_of(
        "1x2 plain volumes formed
         lease 0001 term 3 holder 0001-001 served
         0001-001 parked boot 2 data 3 5000 was-primary terminating deleting
         0001-002 parked boot 2 data 3 100",
    );
    assert!(!text.contains("start as primary"), "an older volume serves:\n{text}");
    let text = plan_of(
        "1x2 plain volumes formed
         lease 0001 term 3 holder 0001-001 served
         0001-001 parked boot 2 data 3 5000 was-primary terminating deleting
         0001-002 parked boot 2",
    );
    assert!(!text.contains("start as primary"), "an empty engine serves:\n{text}");
}

// Data on a volume whose note cannot be read.

#[test]
fn p1_data_without_a_readable_note_is_no_empty_volume() {
    let mut scene = draw(
        "1x1 plain volumes formed
         lease 0001 term 3 holder 0001-001 served
         0001-001 parked boot 2 trouble unreadable",
    );
    scene.report("0001-001").has_data = true;
    let (_, plan) = scene.plan();
    let text = short(&plan);
    assert!(!text.contains("put data aside"), "{text}");
}

#[test]
fn p1_nor_is_it_deleted_once_a_lesser_copy_is_in_sync() {
    // With a sibling that has nothing: the sibling serves empty, the data is put aside and deleted once in sync.
    let mut scene = draw(
        "1x2 plain volumes formed
         lease 0001 term 3 holder 0001-001 served
         0001-001 parked boot 2 trouble unreadable
         0001-002 parked boot 2",
    );
    scene.report("0001-001").has_data = true;
    assert!(!short(&scene.plan().1).contains("0001-002 term 4: start as primary"));
    let mut scene = draw(
        "1x2 plain volumes formed
         lease 0001 term 4 holder 0001-002 cause empty served reborn 4
         0001-001 parked boot 2 trouble unreadable
         0001-002 primary 10 keys 2 data 4 10",
    );
    scene.report("0001-001").has_data = true;
    let text = short(&scene.plan().1);
    assert!(
        !text.contains("0001-001 term 4: start as replica of 10.0.1.2, put data aside\n")
            && (text.contains("keep it") || text.contains("CopyHeld")),
        "{text}"
    );
}

// Between the raise for an empty start and the start itself (fence wait, or a crash), a whole volume came back.

#[test]
fn p1_p5_an_empty_start_is_not_carried_out_once_a_whole_volume_is_back() {
    let text = plan_of(
        "1x2 plain volumes formed
         lease 0001 term 4 holder 0001-002 previous 0001-001 cause empty since 2000 served reborn 4
         0001-001 parked boot 2 data 3 5000 was-primary
         0001-002 parked",
    );
    assert!(!text.contains("0001-002 term 4: start as primary"), "{text}");
}

#[test]
fn p1_p5_nor_the_start_of_an_older_volume() {
    let text = plan_of(
        "1x3 plain volumes formed
         lease 0001 term 4 holder 0001-002 previous 0001-001 cause restore since 2000 served reborn 4 from 2 10
         0001-001 parked boot 2 data 3 5000 was-primary
         0001-002 parked data 2 10
         0001-003 parked",
    );
    assert!(!text.contains("0001-002 term 4: start as primary"), "{text}");
}

// A takeover beside an election that a silent sibling may have won.

#[test]
fn p2_no_takeover_while_a_silent_sibling_may_have_been_elected() {
    let text = plan_of(
        "3x3 cluster formed
         lease 0001 term 3 holder 0001-001 served
         lease 0002 term 3 holder 0002-001 served
         lease 0003 term 3 holder 0003-001 served
         machine m2 zone b notready
         0001-001 parked boot 2
         0001-002 replica 100 of 0001-001 silent 9000
         0001-003 replica 100 of 0001-001 down 9000
         0002-001 primary 5 silent 9000
         0002-002 replica 5 of 0002-001 silent 9000
         0002-003 replica 5 of 0002-001
         0003-001 primary 5 silent 9000
         0003-002 replica 5 of 0003-001 silent 9000
         0003-003 replica 5 of 0003-001",
    );
    assert!(!text.contains(": promote"), "{text}");
}

// The bound counts for a primary that was not guarded (elected by the engines and not confirmed since).

#[test]
fn p2_the_bound_fences_nobody_who_is_not_guarded() {
    let text = plan_of(
        "3x3 cluster formed
         lease 0001 term 5 holder 0001-003 previous 0001-002 cause silence since 3500 served
         lease 0002 term 3 holder 0002-001 served
         lease 0003 term 3 holder 0003-001 served
         machine m2 zone b notready
         0001-001 parked boot 2
         0001-002 primary 100 unguarded silent 9000
         0001-003 replica 100 of 0001-002 down 9000
         0002-001 primary 5
         0002-002 replica 5 of 0002-001
         0002-003 replica 5 of 0002-001
         0003-001 primary 5
         0003-002 replica 5 of 0003-001
         0003-003 replica 5 of 0003-001",
    );
    assert!(!text.contains("0001-003 term 5: promote"), "{text}");
}

// Cluster mode: a live better copy that is held is introduced to the lesser primary, whose epoch is the higher one.

/// A shard of cluster mode went on from nothing on its first node; its live second one, which knows nobody, is back.
fn returned(lesser: &str, more: &str) -> support::Scene {
    let mut scene = draw(&format!(
        "1x3 cluster formed
         lease 0001 term 5 holder 0001-001 served reborn 5
         0001-001 primary {lesser} data 5 0 epoch 9 foreign
         0001-002 primary 1000 keys 900 data 4 1000 epoch 2
         0001-003 {more}"
    ));
    for node in ["0001-001", "0001-002"] {
        scene.cluster(node).nodes.truncate(1);
    }
    scene
}

#[test]
fn p1_a_held_live_copy_is_not_introduced_to_the_lesser_primary() {
    let text = short(&returned("7 keys 3", "nopod").plan().1);
    assert!(!text.contains("meet"), "{text}");
}

#[test]
fn p1_nor_by_a_node_that_is_let_in_beside_it() {
    let scene = returned("7 keys 3", "parked");
    let (_, plan) = scene.plan();
    let held = scene.observed.address("g-0001-002", 6379, 0).map(|address| address.host);
    let peers: Vec<String> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.act {
            Act::Order { command, .. } => match &**command {
                Command::Start(start) => Some(&start.peers),
                _ => None,
            },
            _ => None,
        })
        .flatten()
        .map(|peer| peer.host.clone())
        .collect();
    assert!(
        !peers.is_empty() && !peers.iter().any(|host| Some(host) == held.as_ref()),
        "{peers:?}\n{}",
        short(&plan)
    );
}

#[test]
fn p1_a_copy_that_is_given_the_shard_back_is_not_introduced_before_the_lesser_one_is_parked() {
    let text = short(&returned("0", "nopod").plan().1);
    assert!(!text.contains("meet"), "{text}");
}

// The kept `previous` of a completed handover also makes a volume/empty start wait for ever.

#[test]
fn p4_a_restore_after_a_handover_is_not_blocked() {
    let text = plan_of(
        "1x3 plain volumes formed
         lease 0001 term 4 holder 0001-002 previous 0001-001 cause handover since 60000 served
         0001-001 replica 100 of 0001-002 down 900000 data 3 100
         0001-002 parked boot 2 data 4 50000 was-primary
         0001-003 parked",
    );
    assert!(text.contains("start as primary"), "{text}");
}
