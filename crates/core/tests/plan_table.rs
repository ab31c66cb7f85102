//! Drawings of groups, and what is planned for them. Each test is a sentence of the promises.

mod support;

use kagami_core::build::NODE_ANNOTATION;
use kagami_core::observed::{Agent, Kind, ObjectKey};
use kagami_core::plan::{Act, Confirm};
use kagami_protocol::{
    Command, FENCE_BOUND_MS, FENCE_MARGIN_MS, FENCE_SILENCE_MS, LEASE_HOLDS_MS, StartData,
};
use serde_json::json;
use support::{Scene, assert_plan, bare, desired, desired_with, draw, engine_id, events, scene_of, table};

const MET: &str = "";

// Birth.

#[test]
fn a_new_group_gets_its_objects_and_nothing_else_is_done_before_they_exist() {
    let mut scene = bare("1x2 plain");
    scene.observed.nodes.clear();
    assert_plan(
        &scene,
        "make secrets
         apply ServiceAccount/g-node
         apply Role/g-node
         apply RoleBinding/g-node
         apply ConfigMap/g-endpoints
         apply Service/g
         apply Service/g-ro
         apply PodDisruptionBudget/0001
         apply Service/0001-001
         apply StatefulSet/0001-001
         apply Service/0001-002
         apply StatefulSet/0001-002
         apply EndpointSlice/g
         apply EndpointSlice/g-ro
         wait WaitingForPods 0001-001
         wait WaitingForPods 0001-002",
    );
}

#[test]
fn a_shard_is_born_with_all_its_nodes_side_by_side() {
    assert_plan(
        &draw("1x2 plain"),
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary, put data aside
         order 0001-002 term 1: start as replica of 10.0.1.1, put data aside",
    );
    assert_plan(
        &draw("1x2 cluster"),
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary of 0-16383 epoch 1, put data aside
         order 0001-002 term 1: start as replica of 10.0.1.1, put data aside",
    );
    assert_plan(
        &draw("1x1 plain"),
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary, put data aside",
    );
}

#[test]
fn the_shards_of_a_cluster_are_born_with_different_epochs_and_all_slots() {
    assert_plan(
        &draw("3x1 cluster"),
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary of 0-5460 epoch 1, put data aside
         raise 0002 to term 1 holder 0002-001 (birth)
         order 0002-001 term 1: start as primary of 5461-10921 epoch 2, put data aside
         raise 0003 to term 1 holder 0003-001 (birth)
         order 0003-001 term 1: start as primary of 10922-16383 epoch 3, put data aside",
    );
}

#[test]
fn birth_waits_for_a_node_that_may_hold_a_copy() {
    assert_plan(
        &draw("1x2 plain volumes\n 0001-002 noip"),
        "wait WaitingForAgent 0001-002
         wait WaitingForPods 0001-002",
    );
    // It has an address, so an engine may run behind it.
    assert_plan(
        &draw("1x2 plain\n 0001-002 unheard"),
        "wait WaitingForAgent 0001-002
         wait WaitingForAgent 0001-002",
    );
}

#[test]
fn birth_does_not_wait_for_a_node_that_was_never_placed() {
    assert_plan(
        &draw("1x2 plain volumes\n 0001-002 unplaced"),
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary, put data aside
         wait InsufficientCacheClusterCapacity 0001-002",
    );
    assert_plan(
        &draw("1x2 plain\n 0001-002 pulling"),
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary, put data aside
         wait ImageCannotBePulled 0001-002",
    );
}

#[test]
fn the_node_in_the_wished_zone_is_awaited_for_a_moment_at_birth() {
    assert_plan(&draw("1x2 plain\n watching 1000\n 0001-001 noip"), "wait WaitingForPods 0001-001");
    assert_plan(
        &draw("1x2 plain\n watching 60000\n 0001-001 noip"),
        "raise 0001 to term 1 holder 0001-002 (birth)
         order 0001-002 term 1: start as primary, put data aside
         wait WaitingForPods 0001-001",
    );
}

#[test]
fn a_deleted_lease_over_living_data_is_written_again_for_the_one_that_serves() {
    assert_plan(
        &draw("1x2 plain formed\n 0001-001 replica 100 of 0001-002\n 0001-002 primary 100 term 7"),
        "raise 0001 to term 8 holder 0001-002 (adopted)\n order 0001-001 term 8: keep term",
    );
}

#[test]
fn a_shard_of_a_group_that_has_formed_stays_one_when_its_lease_is_deleted() {
    let mut scene = draw(
        "2x1 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 term 4 holder 0002-001 served
         0001-001 primary 9\n 0002-001 primary 9 term 4",
    );
    scene.observed.leases.remove("0002");
    assert_plan(&scene, "raise 0002 to term 5 holder 0002-001 (adopted)");
}

#[test]
fn a_deleted_lease_over_volumes_restores_the_best_of_them() {
    let scene =
        draw("1x2 plain volumes formed\n 0001-001 parked data 3 50\n 0001-002 parked data 4 40 term 4");
    assert_plan(
        &scene,
        "raise 0001 to term 5 holder 0001-002 (restore)
         order 0001-002 term 5: start as primary, keep data
         wait RecoveringNode 0001-001",
    );
}

#[test]
fn the_first_serving_is_noted_because_from_then_on_an_empty_start_is_a_loss() {
    assert_plan(
        &draw("1x2 plain\n lease 0001 holder 0001-001\n 0001-001 primary 0\n 0001-002 replica 0 of 0001-001"),
        "note 0001 served",
    );
}

// Rest (P4).

#[test]
fn a_group_at_rest_has_an_empty_plan() {
    for mode in ["plain", "cluster", "plain volumes", "cluster volumes"] {
        let scene = draw(&format!(
            "1x2 {mode} formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 100 of 0001-001"
        ));
        assert_plan(&scene, MET);
        let (_, plan) = scene.plan();
        assert!(plan.is_met() && plan.again_ms.is_none());
        let boot = support::boot("g-0001-001", 1);
        assert_eq!(
            plan.confirms,
            [Confirm { node: "g-0001-001".into(), boot, term: 1, guard: true, for_ms: None }]
        );
    }
}

#[test]
fn a_group_of_one_node_is_never_paused_by_silence() {
    let (_, plan) = draw("1x1 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 5").plan();
    assert!(plan.is_met());
    assert!(!plan.confirms.first().unwrap().guard);
}

// Death.

#[test]
fn a_proven_death_raises_the_term_and_promotes_in_one_plan() {
    for mode in ["plain", "cluster"] {
        let scene = draw(&format!(
            "1x2 {mode} formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica 100 of 0001-001 down 5"
        ));
        assert_plan(
            &scene,
            "raise 0001 to term 2 holder 0001-002 (death)
             order 0001-002 term 2: promote, offset at least None",
        );
        assert_eq!(
            events(&scene.plan().1),
            "Warning FailoverComplete: Failover from primary node 0001-001 to replica node 0001-002 completed"
        );
    }
}

#[test]
fn death_is_proven_by_the_kubelet_the_administrator_or_the_operators_own_memory() {
    for proof in [
        "0001-001 silent 100 primary 100 terminated",
        "0001-001 silent 100 primary 100\n machine m1 out-of-service",
        "0001-001 nopod\n over pod-0001-001",
        "0001-001 silent 100 parked boot 2",
    ] {
        let scene = draw(&format!(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-002 replica 100 of 0001-001 down 5\n {proof}"
        ));
        let planned = table(&scene.plan().1);
        assert!(
            planned
                .starts_with("raise 0001 to term 2 holder 0001-002 (death)\norder 0001-002 term 2: promote"),
            "{proof}:\n{planned}"
        );
    }
}

#[test]
fn a_report_from_before_the_boot_of_the_lease_proves_no_death() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-001/2 served\n 0001-001 primary 100 boot 1\n 0001-002 replica 100 of 0001-001",
    );
    assert_plan(&scene, "wait NodeUnknown 0001-001");
}

#[test]
fn the_furthest_copy_is_promoted_and_the_name_decides_between_equals() {
    let case = |b: &str, c: &str| {
        draw(&format!(
            "1x3 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica {b} of 0001-001 down 5\n 0001-003 replica {c} of 0001-001 down 5"
        ))
    };
    let promoted = |node: &str| {
        format!(
            "raise 0001 to term 2 holder {node} (death)
             order {node} term 2: promote, offset at least None"
        )
    };
    assert_plan(&case("100", "105"), &promoted("0001-003"));
    assert_plan(&case("105", "100"), &promoted("0001-002"));
    assert_plan(&case("100", "100"), &promoted("0001-002"));
}

#[test]
fn a_node_that_is_on_its_way_out_is_promoted_last() {
    let scene = draw(
        "1x3 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2
         0001-002 replica 100 of 0001-001 down 5 terminating\n 0001-003 replica 100 of 0001-001 down 5",
    );
    assert!(table(&scene.plan().1).contains("order 0001-003 term 2: promote"));
}

#[test]
fn a_replica_without_a_whole_copy_is_never_promoted() {
    for half in ["0 of 0001-001 syncing", "0 of 0001-001 down 5 incomplete"] {
        let scene = draw(&format!(
            "1x3 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica {half}\n 0001-003 replica 90 of 0001-001 down 5"
        ));
        let planned = table(&scene.plan().1);
        assert!(planned.contains("order 0001-003 term 2: promote"), "{half}:\n{planned}");
    }
}

// Found on real engines: a primary was killed right after its last byte of a full sync; the shard was started empty at the
// same address while the replica loaded, and the replica, whole by then, followed the emptiness.
#[test]
fn p1_a_copy_that_is_being_received_or_loaded_is_waited_for() {
    for half in [
        "0 of 0001-001 syncing",
        "0 of 0001-001 syncing loading",
        "100 of 0001-001 down 5 incomplete loading",
    ] {
        assert_plan(
            &draw(&format!(
                "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica {half}"
            )),
            "wait NoLiveCopy 0001",
        );
    }
}

#[test]
fn terms_stand_above_everything_that_anybody_of_the_shard_has_seen() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 3 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica 100 of 0001-001 down 5 term 9",
    );
    assert!(table(&scene.plan().1).starts_with("raise 0001 to term 10 holder 0001-002 (death)"));
}

// Silence (P2, P3).

const SILENT: &str = "formed\n lease 0001 holder 0001-001 served\n 0001-001 silent 9000 primary 100";

#[test]
fn silence_while_kubernetes_says_ready_promotes_nobody() {
    assert_plan(
        &draw(&format!("1x2 plain {SILENT}\n 0001-002 replica 100 of 0001-001 down 5000")),
        "wait NodeUnknown 0001-001
         wait AgentUnreachable 0001-001",
    );
}

#[test]
fn a_link_that_is_up_by_the_engines_word_alone_is_asked_anew_before_it_is_believed() {
    // A silent machine resets nothing: the replica's engine would say "up" for a minute.
    assert_plan(
        &draw(&format!("1x2 plain {SILENT}\n 0001-002 replica 100 of 0001-001 quiet")),
        "order 0001-002 term 1: relink
         wait NodeUnknown 0001-001
         wait AgentUnreachable 0001-001",
    );
    // Its primary answered: the operator alone is cut off, and nobody is promoted.
    assert_plan(
        &draw(&format!("1x2 plain {SILENT}\n 0001-002 replica 100 of 0001-001\n machine m1 notready")),
        "wait NodeUnknown 0001-001
         wait AgentUnreachable 0001-001",
    );
    // It did not: the replica is the second witness, whatever Kubernetes says for the next minute.
    assert_plan(
        &draw(&format!("1x2 plain {SILENT}\n 0001-002 replica 100 of 0001-001 down 0 quiet")),
        "raise 0001 to term 2 holder 0001-002 (silence)
         wait FencingPrimary 0001-001
         wait AgentUnreachable 0001-001",
    );
    // One that hears it outweighs one that does not.
    assert_plan(
        &draw(&format!(
            "1x3 plain {SILENT}\n 0001-002 replica 100 of 0001-001 down 0 quiet\n 0001-003 replica 100 of 0001-001"
        )),
        "wait NodeUnknown 0001-001
         wait AgentUnreachable 0001-001",
    );
}

#[test]
fn p2_a_link_to_the_silent_primary_before_is_asked_anew_while_its_fence_is_waited_for() {
    let fence = |link: &str| {
        draw(&format!(
            "1x2 plain {SILENT}\n 0001-002 replica 100 of 0001-001 {link}
             lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence since 9000 served"
        ))
    };
    assert_plan(
        &fence("quiet"),
        "order 0001-002 term 2: relink
         wait FencingPrimary 0001-001
         wait AgentUnreachable 0001-001",
    );
    // Asked anew only now, its last acknowledgement may be a moment old.
    assert_plan(
        &fence("down 0 quiet parting"),
        "wait FencingPrimary 0001-001
         wait AgentUnreachable 0001-001",
    );
    assert_plan(
        &fence("down 0 quiet"),
        "order 0001-002 term 2: promote, offset at least None
         wait AgentUnreachable 0001-001",
    );
}

#[test]
fn silence_on_a_lost_machine_is_fenced_before_anybody_is_promoted() {
    let lost = "0001-002 replica 100 of 0001-001 down 5000\n machine m1 notready";
    assert_plan(
        &draw(&format!("1x2 plain {SILENT}\n {lost}")),
        "raise 0001 to term 2 holder 0001-002 (silence)
         wait FencingPrimary 0001-001
         wait AgentUnreachable 0001-001",
    );
    let raised = |silent: &str, known_ms: u64| {
        let text = format!(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 {silent} primary 100\n {lost}
             lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence since {known_ms} served"
        );
        let planned = draw(&text).plan().1.to_string();
        // An operator that was frozen between reading its clock and raising the term has not waited for anything.
        let frozen = text.replace(&format!("since {known_ms}"), &format!("since 60000 known {known_ms}"));
        assert_eq!(draw(&frozen).plan().1.to_string(), planned);
        planned.contains("promote")
    };
    // What was confirmed last, and a lease that was asked for before the term rose, both have to be over.
    let lease_ms = LEASE_HOLDS_MS + FENCE_MARGIN_MS;
    assert!(!raised("silent 9000", lease_ms - 1) && raised("silent 9000", lease_ms));
    let heard_ms = FENCE_SILENCE_MS + FENCE_MARGIN_MS;
    assert!(
        !raised(&format!("silent {}", heard_ms - 1), 9_000) && raised(&format!("silent {heard_ms}"), 9_000)
    );
    // An agent that counts its witnesses from when they came, and one that this process never heard: nobody knows what was under way.
    for whoever in ["silent 9000 old-agent", "unheard"] {
        assert!(!raised(whoever, FENCE_BOUND_MS - 1) && raised(whoever, FENCE_BOUND_MS), "{whoever}");
    }
}

#[test]
fn p2_what_a_replica_acknowledges_that_receives_nothing_keeps_nobody_waiting_for_longer_than_it_counts() {
    let promotes = |replica: &str, silent: &str| {
        let text = format!(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 silent 9000 primary 100 {silent}
             0001-002 replica 100 of 0001-001 down 0 quiet parting {replica}
             lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence since 9000 served"
        );
        draw(&text).plan().1.to_string().contains("promote")
    };
    assert!(!promotes("", "") && promotes("lost", ""));
    assert!(!promotes("lost", "old-agent"), "its agent counts an acknowledgement from when it came");
}

#[test]
fn the_fence_is_not_waited_for_once_the_end_is_proven() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence since 10 served
         0001-001 silent 9000 primary 100 terminated\n 0001-002 replica 100 of 0001-001 down 5000",
    );
    assert_plan(
        &scene,
        "order 0001-002 term 2: promote, offset at least None
         wait AgentUnreachable 0001-001",
    );
}

#[test]
fn a_replica_that_still_hears_the_primary_keeps_it_in_office() {
    for link in ["", "down 1499"] {
        assert_plan(
            &draw(&format!(
                "1x2 plain {SILENT}\n machine m1 notready\n 0001-002 replica 100 of 0001-001 {link}"
            )),
            "wait NodeUnknown 0001-001
             wait AgentUnreachable 0001-001",
        );
    }
}

#[test]
fn p2_a_replica_that_cannot_be_asked_blocks_for_as_long_as_it_takes() {
    let scene = |silent_ms: u64| {
        draw(&format!(
            "1x3 plain {SILENT}\n machine m1 notready\n 0001-002 replica 100 of 0001-001 down 5000\n 0001-003 silent {silent_ms} replica 100 of 0001-001"
        ))
    };
    assert_plan(
        &scene(9_000),
        "wait NodeUnknown 0001-003
         wait AgentUnreachable 0001-001
         wait AgentUnreachable 0001-003",
    );
    // It may be on the old primary's side and keep it writing: no time makes up for that.
    assert_plan(
        &scene(600_000),
        "wait NodeUnknown 0001-003
         wait AgentUnreachable 0001-001
         wait AgentUnreachable 0001-003",
    );
}

#[test]
fn a_fresh_operator_listens_before_it_calls_a_primary_lost() {
    let text = "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 unheard\n machine m1 notready\n 0001-002 replica 100 of 0001-001 down 5000";
    assert_plan(
        &draw(&format!("{text}\n watching 2999")),
        "wait WaitingForAgent 0001-001
         wait WaitingForAgent 0001-001",
    );
    assert_plan(
        &draw(&format!("{text}\n watching 3000")),
        "raise 0001 to term 2 holder 0001-002 (silence)
         wait FencingPrimary 0001-001
         wait WaitingForAgent 0001-001",
    );
}

/// Simulator, seed 10880: the old primary's address was another pod's by then, and its replica copied from that one.
#[test]
fn who_hears_another_pod_at_the_old_primarys_address_does_not_hear_the_primary() {
    let scene = |of: &str| {
        let text = format!(
            "2x2 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001 served\n 0001-001 nopod
             0001-002 replica 100 of {of}\n 0002-001 primary 9\n 0002-002 replica 9 of 0002-001"
        );
        table(&draw(&text).plan().1)
    };
    assert!(scene("0001-001").contains("wait NodeUnknown 0001-001"));
    assert!(scene("0002-001").contains("raise 0001 to term 2 holder 0001-002 (silence)"));
}

/// The same seed: that other pod should not have been started while somebody replicated from its address.
#[test]
fn p1_a_primary_is_not_started_where_a_replica_of_another_shard_would_copy_from_it() {
    let scene = |of: &str| {
        let text = format!(
            "2x2 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 term 2 holder 0002-001 cause empty served
             0001-001 primary 100\n 0001-002 replica 100 of {of}\n 0002-001 parked\n 0002-002 parked"
        );
        table(&draw(&text).plan().1)
    };
    assert!(scene("0001-001").contains("order 0002-001 term 2: start as primary"));
    let waits = scene("0002-001 down 900");
    assert!(
        waits.contains("wait RecoveringNode 0002-001") && !waits.contains("0002-001 term 2: start"),
        "{waits}"
    );
}

#[test]
fn a_deleted_pod_is_silence_and_no_death() {
    assert_plan(
        &draw(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 nopod\n 0001-002 replica 100 of 0001-001 down 5000",
        ),
        "raise 0001 to term 2 holder 0001-002 (silence)
         wait FencingPrimary 0001-001
         wait WaitingForPods 0001-001",
    );
}

#[test]
fn the_death_of_a_candidate_does_not_lift_the_fence_from_the_primary_before_it() {
    // Term 2 was raised for 0001-002 a moment ago because 0001-001 fell silent; then the candidate died. 0001-001 may still
    // accept writes, so nobody is promoted at once.
    let scene = draw(
        "1x3 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence since 100 served
         0001-001 silent 9000 primary 100\n machine m1 notready
         0001-002 parked boot 2\n 0001-003 replica 100 of 0001-001 down 5000",
    );
    assert_plan(
        &scene,
        "raise 0001 to term 3 holder 0001-003 (death)
         wait FencingPrimary 0001-001
         wait AgentUnreachable 0001-001",
    );
}

#[test]
fn an_empty_start_waits_for_the_fence_as_well_when_its_candidate_dies() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause empty since 100 served
         0001-001 silent 70000 primary 100\n machine m1 notready\n 0001-002 parked boot 2",
    );
    let planned = table(&scene.plan().1);
    assert!(planned.contains("wait FencingPrimary 0001-001") && !planned.contains("order"), "{planned}");
}

// No live copy (P1).

#[test]
fn with_no_copy_left_a_volatile_shard_is_started_empty_and_says_what_was_lost() {
    let mut scene = draw(
        "2x2 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001 served
         0001-001 parked boot 2\n 0001-002 parked boot 2\n 0002-001 primary 9\n 0002-002 replica 9 of 0002-001",
    );
    scene.observed.last_offsets.insert("g-0001-001".into(), 4711);
    assert_plan(
        &scene,
        "raise 0001 to term 2 holder 0001-001 (empty)
         order 0001-001 term 2: start as primary of 0-8191 epoch 104, put data aside
         wait RecoveringNode 0001-002",
    );
    assert_eq!(
        events(&scene.plan().1),
        "Warning DataLost: No live copy of node group 0001, slots 0-8191 was left and no volume holds one: it is started empty on \
         0001-001, as ElastiCache does. All its keys are lost (its last primary 0001-001 had reached offset 4711)."
    );
}

#[test]
fn a_shard_that_never_served_is_born_again_without_a_warning() {
    let scene =
        draw("1x2 plain\n lease 0001 holder 0001-001\n 0001-001 parked boot 2\n 0001-002 parked boot 2");
    assert_plan(
        &scene,
        "raise 0001 to term 2 holder 0001-001 (birth)
         order 0001-001 term 2: start as primary, put data aside
         order 0001-002 term 2: start as replica of 10.0.1.1, put data aside",
    );
}

#[test]
fn the_best_volume_is_known_and_not_guessed() {
    let restored = |b: &str, a: &str| {
        let scene = draw(&format!(
            "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2 {a}\n 0001-002 parked boot 2 {b}"
        ));
        let (_, plan) = scene.plan();
        let text = table(&plan);
        assert!(text.contains("(restore)") && text.contains("keep data"), "{text}");
        text.split_whitespace().nth(6).unwrap().to_owned()
    };
    assert_eq!(restored("data 5 90", "data 5 100"), "0001-001");
    assert_eq!(restored("data 5 110", "data 5 100"), "0001-002");
    // An offset is noted now and then, and within a term the primary is never behind.
    assert_eq!(restored("data 5 110", "data 5 100 was-primary"), "0001-001");
    assert_eq!(restored("data 5 90 was-primary", "data 5 100"), "0001-002");
    // A longer history of an older term is the losing branch.
    assert_eq!(restored("data 4 900 was-primary", "data 5 100"), "0001-001");
    assert_eq!(restored("data 4 900", "data 5 100"), "0001-001");
    // A copy that was being replaced is no copy as long as there is a whole one.
    assert_eq!(restored("data 4 10", "data 5 100 torn"), "0001-002");
    assert_eq!(restored("data 5 100", "data 5 100"), "0001-001");
}

#[test]
fn a_restore_says_from_where_and_how_far() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 parked boot 2 data 5 90",
    );
    assert_eq!(
        events(&scene.plan().1),
        "Warning RestoredFromVolume: No live copy of node group 0001 was left; it is started from the volume of 0001-002, the best by \
         the agents' records (term 5, offset 90). Writes that had not reached that volume are lost."
    );
}

#[test]
fn a_volume_that_cannot_be_asked_is_waited_for_a_minute() {
    let scene = |silent_ms: u64, machine: &str| {
        draw(&format!(
            "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n machine m2 {machine}\n 0001-001 parked boot 2 data 5 90\n 0001-002 silent {silent_ms} replica 100 of 0001-001"
        ))
    };
    // A pod that runs on a machine that is well is never given up (P3).
    assert_plan(
        &scene(600_000, "zone a"),
        "wait NoLiveCopy 0001
         wait AgentUnreachable 0001-002",
    );
    assert_plan(
        &scene(59_999, "notready"),
        "wait NoLiveCopy 0001
         wait AgentUnreachable 0001-002",
    );
    assert_plan(
        &scene(60_000, "notready"),
        "raise 0001 to term 6 holder 0001-001 (restore)
         order 0001-001 term 6: start as primary, keep data
         wait AgentUnreachable 0001-002",
    );
}

/// Simulator, seed 11934: it began to lead with an old list of pods, in which the only live copy had none.
#[test]
fn p1_a_new_leader_takes_no_absent_pod_for_an_empty_node() {
    let scene = |second: &str, watching: u64| {
        let text = format!(
            "1x2 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 {second}\n watching {watching}"
        );
        table(&draw(&text).plan().1)
    };
    for second in ["nopod", "unplaced", "noip"] {
        let waits = scene(second, 400);
        assert!(waits.contains("wait NoLiveCopy 0001") && !waits.contains("raise"), "{waits}");
        assert!(scene(second, 60_000).contains("raise 0001 to term 2 holder 0001-001 (empty)"), "{second}");
    }
}

#[test]
fn a_new_operator_waits_the_whole_minute_itself() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 5 holder 0001-001 served\n watching 5000\n 0001-001 parked boot 2 data 5 90\n 0001-002 silent 90000 replica 100 of 0001-001",
    );
    assert!(table(&scene.plan().1).starts_with("wait NoLiveCopy 0001"));
}

#[test]
fn a_live_copy_is_preferred_to_the_start_of_an_empty_holder() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-001 cause empty served\n 0001-001 parked\n 0001-002 replica 100 of 0001-001 down 500",
    );
    let planned = table(&scene.plan().1);
    assert!(planned.contains("raise 0001 to term 3 holder 0001-002 (death)"), "{planned}");
    assert!(!planned.contains("start as primary"), "{planned}");
}

// Members (P1).

#[test]
fn a_parked_old_primary_is_let_in_only_when_nobody_replicates_from_its_address() {
    let scene = |link: &str| {
        draw(&format!(
            "1x3 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause death served
             0001-001 parked boot 2\n 0001-002 primary 110\n 0001-003 replica 100 of {link}"
        ))
    };
    assert_plan(
        &scene("0001-001 down 20"),
        "order 0001-003 term 2: replicate 10.0.1.2
         wait RecoveringNode 0001-001",
    );
    assert_plan(&scene("0001-002"), "order 0001-001 term 2: start as replica of 10.0.1.2, put data aside");
    assert_eq!(events(&scene("0001-002").plan().1), "Normal RecoveringNode: Recovering cache nodes 0001-001");
}

#[test]
fn a_replica_is_let_in_with_nothing_of_what_it_held() {
    let scene = draw(
        "1x2 plain volumes formed\n lease 0001 term 2 holder 0001-002 served\n 0001-001 parked boot 2 data 9 999\n 0001-002 primary 110",
    );
    let (_, plan) = scene.plan();
    let starts: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.act {
            Act::Order { command, .. } => match &**command {
                Command::Start(start) => Some(start.data),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(starts, [StartData::PutAside]);
}

#[test]
fn a_stale_primary_is_told_to_follow() {
    assert_plan(
        &draw(
            "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence served\n 0001-001 primary 105\n 0001-002 primary 110",
        ),
        "order 0001-001 term 2: replicate 10.0.1.2",
    );
    // In a cluster its slots go to the higher epoch by themselves.
    let planned = table(&draw("1x2 cluster formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence served\n 0001-001 primary 105\n 0001-002 primary 110 epoch 9").plan().1);
    assert_eq!(planned, "wait FormingCluster 0001-001");
}

#[test]
fn a_replica_that_copies_is_awaited() {
    assert_plan(
        &draw(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 0 of 0001-001 syncing",
        ),
        "wait AwaitingSync 0001-002",
    );
}

#[test]
fn a_node_that_is_going_is_not_let_in() {
    assert_plan(
        &draw(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 parked boot 2 terminating",
        ),
        MET,
    );
}

#[test]
fn the_history_of_a_later_term_succeeds_even_if_an_old_primarys_own_branch_is_longer() {
    // 0001-003 is a primary of old that was cut off; what it took since is nothing that was promised.
    let mut scene = draw(
        "1x3 plain formed\n lease 0001 term 3 holder 0001-002 previous 0001-003 cause silence served
         0001-002 parked boot 2\n 0001-001 replica 100 of 0001-002 down 900 term 3\n 0001-003 primary 500 foreign fenced",
    );
    for (node, data_term) in [("0001-001", 3), ("0001-003", 2)] {
        scene.report(node).record =
            Some(kagami_protocol::Record { data_term, complete: true, ..Default::default() });
    }
    assert!(table(&scene.plan().1).starts_with("raise 0001 to term 4 holder 0001-001 (death)"));
}

// The engines' own election.

#[test]
fn the_engines_own_election_is_adopted() {
    let scene = draw(
        "3x2 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001 served\n lease 0003 holder 0003-001 served
         0001-001 silent 9000 primary 100\n 0001-002 primary 110 epoch 9
         0002-001 primary 9\n 0002-002 replica 9 of 0002-001\n 0003-001 primary 9\n 0003-002 replica 9 of 0003-001",
    );
    assert_plan(
        &scene,
        "raise 0001 to term 2 holder 0001-002 (adopted)
         wait AgentUnreachable 0001-001",
    );
    assert_eq!(
        events(&scene.plan().1),
        "Warning PrimaryDown: Failover from primary node 0001-001 to replica node 0001-002 completed (the engines elected by themselves)"
    );
}

// Handover.

const PAIR: &str = "0001-001 primary 100 terminating\n 0001-002 replica 100 of 0001-001";

#[test]
fn a_primary_that_is_asked_to_go_hands_over_first() {
    for mode in ["plain", "cluster"] {
        let scene = draw(&format!("1x2 {mode} formed\n lease 0001 holder 0001-001 served\n {PAIR}"));
        assert_plan(
            &scene,
            "raise 0001 to term 2 holder 0001-002 (handover)
             hand over 0001-001 -> 0001-002 term 2",
        );
        let confirms = scene.plan().1.confirms;
        assert!(
            matches!(&*confirms, [Confirm { term: 1, for_ms: Some(1_000), .. }]),
            "until it is asked to pause: {confirms:?}"
        );
    }
}

#[test]
fn a_pod_that_is_being_deleted_hands_over_too() {
    let scene = draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100 deleting\n 0001-002 replica 100 of 0001-001",
    );
    assert!(table(&scene.plan().1).contains("hand over 0001-001 -> 0001-002"));
}

#[test]
fn nobody_takes_over_who_is_not_in_sync() {
    for replica in ["50 of 0001-001 syncing", "100 of 0001-001 down 5", "100 of 0001-001 terminating"] {
        let scene = draw(&format!(
            "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100 terminating\n 0001-002 replica {replica}"
        ));
        let planned = table(&scene.plan().1);
        assert!(planned.starts_with("wait HandingOver 0001-001"), "{replica}:\n{planned}");
        assert_eq!(scene.plan().1.confirms.len(), 1, "it goes on as the primary");
    }
}

#[test]
fn a_handover_waits_for_the_fence_of_the_one_before() {
    // Found by the simulator (seed 48): the node before the holder, long gone, was asked to hand over in its place.
    let scene = draw(
        "1x3 plain formed
         lease 0001 term 2 holder 0001-002 previous 0001-001 cause silence served since 500
         0001-001 silent 4000
         0001-002 primary 100 terminating
         0001-003 replica 100 of 0001-002",
    );
    let planned = table(&scene.plan().1);
    assert!(planned.contains("wait HandingOver 0001-002") && !planned.contains("hand over"), "{planned}");
}

#[test]
fn an_interrupted_handover_is_resumed_or_taken_back() {
    let half = "lease 0001 term 2 holder 0001-002 previous 0001-001 cause handover served since 50";
    assert_plan(
        &draw(&format!("1x2 plain formed\n {half}\n {PAIR}")),
        "hand over 0001-001 -> 0001-002 term 2",
    );
    let scene = draw(&format!(
        "1x2 plain formed\n {half}\n 0001-001 primary 100\n 0001-002 replica 90 of 0001-001 down 30"
    ));
    assert_plan(
        &scene,
        "raise 0001 to term 3 holder 0001-001 (adopted)
         wait AwaitingSync 0001-002",
    );
}

#[test]
fn a_handover_whose_candidate_died_leaves_the_old_primary_in_office() {
    // 0001-003 lives and obeys; to promote 0001-001 beside it would make two primaries.
    for mode in ["plain", "cluster"] {
        let scene = draw(&format!(
            "1x3 {mode} formed\n lease 0001 term 2 holder 0001-002 previous 0001-003 cause handover since 50 served
             0001-001 replica 100 of 0001-003\n 0001-002 parked boot 2\n 0001-003 primary 100"
        ));
        let planned = table(&scene.plan().1);
        assert!(planned.starts_with("raise 0001 to term 3 holder 0001-003 (death)"), "{mode}:\n{planned}");
        assert!(!planned.contains("promote"), "{mode}:\n{planned}");
    }
}

// Gossip.

#[test]
fn everybody_meets_everybody_at_once() {
    let mut scene = draw(
        "3x1 cluster\n lease 0001 holder 0001-001\n lease 0002 holder 0002-001\n lease 0003 holder 0003-001
         0001-001 primary 0\n 0002-001 primary 0\n 0003-001 primary 0",
    );
    for node in ["0001-001", "0002-001", "0003-001"] {
        scene.cluster(node).nodes.truncate(1);
        scene.cluster(node).ok = false;
    }
    let planned = table(&scene.plan().1);
    for order in ["0001-001 term 1: meet 2", "0002-001 term 1: meet 1"] {
        assert!(planned.contains(order), "{planned}");
    }
    assert!(!planned.contains("0003-001 term 1: meet"), "one word is enough for two: {planned}");
}

#[test]
fn a_node_whose_address_changed_is_met_there() {
    let mut scene = draw(
        "1x2 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001",
    );
    for line in &mut scene.cluster("0001-001").nodes {
        if !line.myself {
            line.host = "10.9.9.9".into();
        }
    }
    assert_plan(&scene, "order 0001-001 term 1: meet 1");
}

/// Two shards at rest that remember somebody who is no more.
fn with_ghost(slots: Vec<(u16, u16)>, more: &str) -> Scene {
    let mut scene = draw(&format!(
        "2x1 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001 served
         0001-001 primary 9\n 0002-001 primary 9\n {more}"
    ));
    for node in ["0001-001", "0002-001"] {
        if matches!(scene.node(node).agent, Agent::Up(_)) {
            let ghost = kagami_protocol::ClusterNode {
                id: "ghost".into(),
                host: "10.9.9.9".into(),
                fail: true,
                primary: true,
                slots: slots.clone(),
                ..Default::default()
            };
            scene.cluster(node).nodes.push(ghost);
        }
    }
    scene
}

#[test]
fn an_identity_that_is_gone_is_forgotten_by_everybody() {
    assert_plan(
        &with_ghost(Vec::new(), ""),
        "order 0001-001 term 1: forget 1
         order 0002-001 term 1: forget 1",
    );
}

#[test]
fn an_owner_of_slots_is_never_forgotten() {
    let planned = table(&with_ghost(vec![(0, 8191)], "").plan().1);
    assert!(!planned.contains("forget"), "{planned}");
}

#[test]
fn nobody_is_forgotten_as_long_as_somebody_cannot_be_asked() {
    let planned = table(&with_ghost(Vec::new(), "0002-001 silent 9000 primary 9").plan().1);
    assert!(!planned.contains("forget"), "{planned}");
}

#[test]
fn an_identity_is_forgotten_once_its_node_is_known_to_live_in_another() {
    let mut scene = with_ghost(Vec::new(), "0002-001 silent 9000 primary 9");
    scene.observed.last_engine_ids.insert("g-0001-001".into(), "ghost".into());
    assert!(table(&scene.plan().1).contains("order 0001-001 term 1: forget 1"));
}

#[test]
fn a_living_identity_is_never_forgotten() {
    let mut scene = draw(
        "1x2 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001",
    );
    scene.observed.last_engine_ids.insert("g-0001-001".into(), engine_id("g-0001-002", 1));
    for line in &mut scene.cluster("0001-001").nodes {
        line.fail = !line.myself;
    }
    assert_plan(&scene, MET);
}

#[test]
fn a_living_identity_of_a_shard_without_a_lease_is_not_forgotten_either() {
    // Its lease was deleted by hand, and it cannot be written again before its other node is heard.
    let mut scene = draw(
        "2x2 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001/3 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001
         0002-001 parked\n 0002-002 replica 0 of 0002-001 syncing",
    );
    scene.observed.leases.remove("0002");
    let planned = table(&scene.plan().1);
    assert!(!planned.contains("forget"), "{planned}");
}

#[test]
fn slots_that_nobody_claims_are_claimed_by_the_primary_of_their_shard() {
    let mut scene = draw("1x1 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9");
    scene.cluster("0001-001").nodes.first_mut().unwrap().slots = vec![(0, 99)];
    assert_plan(&scene, "order 0001-001 term 1: assign 100-16383 epoch Some(3)");
}

// Objects.

#[test]
fn an_object_of_somebody_else_with_a_needed_name_is_left_alone() {
    let mut scene = bare("1x1 plain");
    let key = ObjectKey { kind: Kind::Service, name: "g".into() };
    scene.observed.foreign.insert(key, "Helm".into());
    scene.world_is_met();
    assert_plan(
        &scene,
        "raise 0001 to term 1 holder 0001-001 (birth)
         order 0001-001 term 1: start as primary, put data aside
         wait NameConflict Service/g",
    );
}

#[test]
fn a_hand_edit_is_put_right() {
    let mut scene = draw("1x1 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9");
    let key = ObjectKey { kind: Kind::StatefulSet, name: "g-0001-001".into() };
    scene.observed.children.get_mut(&key).unwrap()["spec"]["replicas"] = json!(0);
    assert_plan(&scene, "apply StatefulSet/0001-001");
}

#[test]
fn a_new_agent_image_changes_no_template() {
    let mut scene = draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001",
    );
    scene.setting.agent_image = "kagami-agent:2".into();
    assert_plan(&scene, MET);
}

#[test]
fn what_this_version_cannot_change_is_pending_and_changes_nothing() {
    let text = "lease 0001 holder 0001-001 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001";
    for (more, property) in [
        (json!({ "engineVersion": "9.0" }), "engineVersion"),
        (json!({ "cacheNodeType": "cache.m6g.large" }), "cacheNodeType"),
        (json!({ "port": 7000 }), "port"),
        (json!({ "clusterMode": "enabled" }), "clusterMode"),
        (json!({ "kubernetes": { "storage": { "size": "2Gi" } } }), "kubernetes.storage"),
        (json!({ "kubernetes": { "podLabels": { "a": "b" } } }), "kubernetes.podLabels"),
        (json!({ "replicasPerNodeGroup": 0, "automaticFailoverEnabled": false }), "replicasPerNodeGroup"),
    ] {
        let mut scene = scene_of(desired("1x2", false, false), true, text.lines());
        scene.world_is_met();
        let templates = |scene: &Scene| -> Vec<_> {
            scene
                .observed
                .children
                .iter()
                .filter(|(key, _)| key.kind == Kind::StatefulSet)
                .map(|(_, object)| object["spec"].clone())
                .collect()
        };
        let before = templates(&scene);
        scene.desired = desired_with("1x2", false, false, &more);
        scene.world_is_met();
        assert_eq!(templates(&scene), before, "{property}");
        assert_plan(&scene, &format!("wait UnsupportedModification {property}"));
    }
}

#[test]
fn a_group_that_has_formed_keeps_its_shards() {
    let text = "lease 0001 holder 0001-001 served\n 0001-001 primary 9";
    let mut scene = scene_of(desired("1x1", true, false), true, text.lines());
    scene.world_is_met();
    scene.desired = desired("2x1", true, false);
    scene.world_is_met();
    let planned = table(&scene.plan().1);
    assert_eq!(planned, "wait UnsupportedModification numNodeGroups");
}

#[test]
fn the_copies_of_a_shard_are_spread_over_the_zones() {
    let mut scene = bare("3x3 cluster");
    scene.observed.nodes.clear();
    let (frozen, _) = scene.plan();
    for shard in &frozen.desired.shards {
        let mut zones: Vec<_> =
            shard.nodes.iter().map(|node| frozen.inputs[&node.name].zone.clone().unwrap()).collect();
        zones.sort();
        assert_eq!(zones, ["a", "b", "c"], "node group {}", shard.id);
    }
    let of = |node: &str| frozen.inputs[node].zone.clone().unwrap();
    let primaries = [of("g-0001-001"), of("g-0002-001"), of("g-0003-001")];
    assert_eq!(primaries, ["a", "b", "c"], "no zone takes all primaries with it");
}

/// Simulator, seeds 21642 and 22601: created as the only copy, a node only liked its zone and stood in another one.
#[test]
fn p8_a_copy_is_not_put_beside_one_that_stands_elsewhere_than_it_was_to() {
    let mut scene = draw("1x1 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9");
    scene.node("0001-001").pod.as_mut().unwrap().machine = Some("m2".into());
    scene.desired = desired_with("1x2", true, false, &json!({ "multiAZEnabled": true }));
    let (frozen, _) = scene.plan();
    let stands = &frozen.inputs["g-0001-001"];
    assert_eq!((stands.zone.as_deref(), stands.zone_required), (Some("b"), true));
    assert_ne!(frozen.inputs["g-0001-002"].zone.as_deref(), Some("b"));
}

#[test]
fn a_zone_stays_what_it_was_when_its_machines_are_gone() {
    let mut scene = draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001",
    );
    scene.observed.machines.get_mut("m2").unwrap().ready = false;
    scene.observed.machines.remove("m3");
    assert_plan(&scene, MET);
    assert_eq!(scene.plan().0.inputs["g-0001-002"].zone.as_deref(), Some("b"));
}

#[test]
fn a_group_that_is_to_be_retained_owns_nothing() {
    let mut scene = bare("1x1 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9");
    scene.desired = desired_with("1x1", false, false, &json!({ "deletionPolicy": "Retain" }));
    scene.world_is_met();
    for (key, object) in &scene.observed.children {
        assert!(object["metadata"]["ownerReferences"].is_null(), "{key}");
    }
    // And the other way about: its owner takes it back.
    scene.desired = desired("1x1", false, false);
    assert!(table(&scene.plan().1).contains("apply StatefulSet/0001-001"));
    scene.world_is_met();
    for (key, object) in &scene.observed.children {
        assert!(object["metadata"]["ownerReferences"].is_array(), "{key}");
    }
}

#[test]
fn the_only_copy_in_memory_may_not_be_evicted() {
    let allowed = |shape: &str, volumes: bool, more: serde_json::Value| {
        let group = desired_with(shape, false, volumes, &more);
        kagami_core::build::disruption_budget(&group, group.shards.first().unwrap())["spec"]["maxUnavailable"]
            .clone()
    };
    assert_eq!(allowed("1x1", false, json!({})), 0);
    assert_eq!(allowed("1x1", true, json!({})), 1);
    assert_eq!(allowed("1x2", false, json!({})), 1);
    assert_eq!(allowed("1x1", false, json!({ "kubernetes": { "allowEvictionOfOnlyCopy": true } })), 1);
}

#[test]
fn a_volume_size_in_other_words_is_no_drift() {
    let more = json!({ "kubernetes": { "storage": { "size": "1024Mi" } } });
    let text = "lease 0001 holder 0001-001 served\n 0001-001 primary 9";
    let mut scene = scene_of(desired_with("1x1", false, true, &more), true, text.lines());
    scene.world_is_met();
    assert_plan(&scene, MET);
}

#[test]
fn a_templates_inputs_are_kept_beside_it() {
    let scene = draw("1x1 plain");
    let key = ObjectKey { kind: Kind::StatefulSet, name: "g-0001-001".into() };
    assert!(scene.observed.children[&key]["metadata"]["annotations"][NODE_ANNOTATION].is_string());
}

// Endpoints.

#[test]
fn the_primary_endpoint_follows_the_promotion_and_a_silent_primary_keeps_it() {
    let addresses = |scene: &Scene, name: &str| -> Vec<String> {
        let key = ObjectKey { kind: Kind::EndpointSlice, name: name.into() };
        let slice = &scene.observed.children[&key];
        let list = slice["endpoints"].as_array().cloned().unwrap_or_default();
        list.iter().map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
    };
    let mut scene = draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 100 of 0001-001",
    );
    assert_eq!(
        (addresses(&scene, "g"), addresses(&scene, "g-ro")),
        (vec!["10.0.1.1".into()], vec!["10.0.1.2".into()])
    );
    let silent = draw(&format!("1x2 plain {SILENT}\n 0001-002 replica 100 of 0001-001 down 5000"));
    scene.observed.nodes = silent.observed.nodes.clone();
    scene.world_is_met();
    assert_eq!(addresses(&scene, "g"), ["10.0.1.1"]);
    let promoted = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 previous 0001-001 served\n 0001-001 parked boot 2\n 0001-002 primary 100",
    );
    scene.observed.nodes = promoted.observed.nodes.clone();
    scene.observed.leases = promoted.observed.leases.clone();
    scene.world_is_met();
    assert_eq!(
        (addresses(&scene, "g"), addresses(&scene, "g-ro")),
        (vec!["10.0.1.2".into()], vec!["10.0.1.2".into()])
    );
}

#[test]
fn addresses_are_published_while_the_group_is_formed_and_not_in_a_failover() {
    let addresses = |scene: &Scene, name: &str| -> Vec<String> {
        let key = ObjectKey { kind: Kind::EndpointSlice, name: name.into() };
        let slice = &scene.observed.children[&key];
        let list = slice["endpoints"].as_array().cloned().unwrap_or_default();
        list.iter().map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
    };
    // Parked, and not even a lease: the proxies learn the addresses meanwhile.
    let plain = draw("1x2 plain");
    assert_eq!(
        (addresses(&plain, "g"), addresses(&plain, "g-ro")),
        (vec!["10.0.1.1".into()], vec!["10.0.1.2".into()])
    );
    let cluster = draw("2x1 cluster\n 0002-001 noip");
    assert_eq!(addresses(&cluster, "g"), ["10.0.1.1"]);
    // The shard has lost its first primary before the group was formed, or the group has formed: only who serves.
    let failed = draw(
        "1x2 plain\n lease 0001 term 2 holder 0001-002 cause death served\n 0001-001 parked boot 2\n 0001-002 replica 9 of 0001-001 down 9",
    );
    assert!(addresses(&failed, "g").is_empty());
    let formed = draw(
        "2x1 cluster formed\n lease 0001 holder 0001-001 served\n lease 0002 holder 0002-001 served\n 0001-001 primary 9",
    );
    assert_eq!(addresses(&formed, "g"), ["10.0.1.1"]);
}

// What is waited for.

#[test]
fn a_zone_without_machines_is_named() {
    let zones = json!({ "multiAZEnabled": true, "preferredCacheClusterAZs": null, "nodeGroupConfiguration":
        [{ "primaryAvailabilityZone": "a", "replicaAvailabilityZones": ["z"], "replicaCount": 1 }] });
    let mut scene = scene_of(desired_with("1x2", false, false, &zones), false, ["0001-002 unplaced"]);
    scene.world_is_met();
    assert!(table(&scene.plan().1).ends_with("wait ZoneNotFound 0001-002"));
}

#[test]
fn a_crash_loop_is_shown_although_the_agent_hides_it_from_the_kubelet() {
    let mut scene =
        draw("1x1 plain formed\n lease 0001 holder 0001-001/4 served\n 0001-001 primary 9 boot 4");
    scene.report("0001-001").last_exit = Some(kagami_protocol::Exit {
        boot: support::boot("g-0001-001", 3),
        code: None,
        signal: Some(11),
        out_of_memory: false,
        at_ms: support::NOW_MS - 1_000,
        lived_ms: 10,
        last_words: "oh".into(),
    });
    assert_eq!(
        support::short(&scene.plan().1).trim(),
        "wait CrashLooping 0001-001: its engine ended 3 times, last by signal 11; last words: oh"
    );
}

/// Simulator, `--3x2 --seed 19` and seed 106: frozen or cut off, a primary lost all its slots to an election; Valkey leaves it a
/// primary without any.
#[test]
fn a_primary_that_lost_its_slots_to_an_election_is_made_a_replica() {
    let scene = draw(
        "1x2 cluster formed\n lease 0001 term 3 holder 0001-001 cause adopted served\n 0001-001 primary 900 epoch 10
         0001-002 primary 300 slotless",
    );
    assert_plan(&scene, "order 0001-002 term 3: replicate 10.0.1.1");
    let joins = draw(
        "1x2 cluster formed\n lease 0001 term 3 holder 0001-001 served\n 0001-001 primary 900 epoch 10
         0001-002 primary 0 slotless incomplete epoch 0",
    );
    assert_plan(&joins, "wait FormingCluster 0001-002");
    // Simulator, 3x2, seeds 324 and 375: elected while it was empty, and outvoted later.
    let empty = draw(
        "1x2 cluster formed\n lease 0001 term 3 holder 0001-001 served\n 0001-001 primary 900 epoch 10
         0001-002 primary 0 slotless incomplete epoch 9",
    );
    assert_plan(&empty, "order 0001-002 term 3: replicate 10.0.1.1");
}

/// Simulator, seed 282: cut off as the group was formed, the first primary was outvoted before it had ever served.
#[test]
fn whoever_is_elected_before_the_group_has_formed_keeps_the_role() {
    let scene = draw(
        "3x2 cluster\n lease 0001 holder 0001-001\n lease 0002 holder 0002-001\n lease 0003 holder 0003-001
         0001-001 primary 0 slotless\n 0001-002 primary 40 epoch 5\n 0002-001 primary 0 epoch 2\n 0003-001 primary 0 epoch 3
         0002-002 replica 0 of 0002-001\n 0003-002 replica 0 of 0003-001",
    );
    assert_plan(
        &scene,
        "raise 0001 to term 2 holder 0001-002 (adopted)\n note 0002 served\n note 0003 served\n order 0001-001 term 2: replicate 10.0.1.2",
    );
}

/// Simulator, seed 113: the lease was deleted while the only node that ran was a replica that had never found its primary.
#[test]
fn a_shard_without_a_lease_does_not_wait_for_whoever_holds_nothing_whole() {
    let scene =
        draw("1x2 cluster formed\n 0001-001 primary 0 slotless incomplete trouble alone\n 0001-002 parked");
    assert_plan(
        &scene,
        "raise 0001 to term 1 holder 0001-002 (empty)\n order 0001-002 term 1: start as primary of 0-16383 epoch 103, put data aside
         wait RecoveringNode 0001-001",
    );
    let receives = draw("1x2 cluster formed\n 0001-001 replica 0 of 0001-002 syncing\n 0001-002 parked");
    assert_plan(&receives, "wait NoLiveCopy 0001");
    let live = draw("1x3 cluster\n 0001-001 nopod\n 0001-002 parked\n 0001-003 primary 0 slotless");
    let planned = table(&live.plan().1);
    assert!(!planned.contains("raise") && planned.contains("wait WaitingForAgent 0001-003"), "{planned}");
    let half = draw("1x2 cluster volumes formed\n 0001-001 primary 0 slotless incomplete\n 0001-002 parked");
    assert_plan(&half, "order 0001-001 term 0: park\n wait NoLiveCopy 0001");
}

/// Simulator, seeds 20779000065 and 1152: a replica that followed by itself never learnt the raised term; later it was taken for an
/// older copy than its equal, or for one that its shard had gone on without.
#[test]
fn a_replica_that_followed_by_itself_learns_the_term() {
    let scene = draw(
        "1x2 cluster formed\n lease 0001 term 4 holder 0001-001 cause adopted served\n 0001-001 primary 90 term 4
         0001-002 replica 90 of 0001-001 term 3",
    );
    assert_plan(&scene, "order 0001-002 term 4: keep term");
    // One that has heard of the term, because it was to lead in it, holds nothing of it for that.
    let heard = draw(
        "1x2 cluster formed\n lease 0001 term 4 holder 0001-001 cause adopted served\n 0001-001 primary 90 data 4 90
         0001-002 replica 90 of 0001-001 data 2 90 term 4",
    );
    assert_plan(&heard, "order 0001-002 term 4: keep term");
    let syncing = draw(
        "1x2 cluster formed\n lease 0001 term 4 holder 0001-001 served\n 0001-001 primary 90 term 4
         0001-002 replica 0 of 0001-001 term 3 syncing",
    );
    assert_plan(&syncing, "wait AwaitingSync 0001-002");
}

/// Simulator, seed 131: the operator had seen no machine yet, and the nodes of a MultiAZ group were made without a zone for good.
#[test]
fn a_node_is_not_made_before_its_zone_can_be_chosen() {
    let sets = |scene: &Scene| {
        let (_, plan) = scene.plan();
        plan.steps.iter().filter(|step| step.act.to_string().contains("StatefulSet")).count()
    };
    for multi in [true, false] {
        let desired = desired_with("1x2", true, false, &json!({ "multiAZEnabled": multi }));
        let mut scene = scene_of(desired, false, []);
        scene.observed.nodes.clear();
        assert_eq!(sets(&scene), 2);
        let known = std::mem::take(&mut scene.observed.machines);
        assert_eq!(sets(&scene), 0, "no machine is known");
        assert!(table(&scene.plan().1).contains("wait ZoneNotFound 0001-001"));
        scene.observed.machines = known;
        for machine in scene.observed.machines.values_mut() {
            machine.zone = None;
        }
        assert_eq!(sets(&scene), if multi { 0 } else { 2 }, "no machine has a zone");
    }
}
