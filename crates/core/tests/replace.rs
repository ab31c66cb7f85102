//! Machines and zones that are gone for good: what is planned for a drawing.

mod support;

use kagami_core::build::{NODE_ANNOTATION, NodeInputs};
use kagami_core::check::check;
use kagami_core::observed::{Agent, Claim, Kind, ObjectKey};
use kagami_core::plan::{Act, REPLACE_AFTER_MS};
use support::{NOW_MS, Scene, assert_plan, draw, table};

/// The second copy lost its machine; its new pod finds none.
fn homeless(volumes: bool) -> Scene {
    let scene = draw(&format!(
        "1x2 cluster {} formed
         lease 0001 term 3 holder 0001-001 served
         0001-001 primary 100
         0001-002 unplaced unheard",
        if volumes { "volumes" } else { "" }
    ));
    let mut scene = scene;
    scene.observed.last_offsets.insert("g-0001-002".into(), 90);
    scene.observed.machines.remove("m2");
    if let Some(pod) = &mut scene.node("0001-002").pod {
        pod.uid = "pod-new".into();
        pod.machine = None;
        pod.ip = None;
        pod.zone = Some("b".into());
        pod.unschedulable = Some("0/2 nodes are available".into());
        pod.created_ms = NOW_MS - i64::try_from(REPLACE_AFTER_MS).unwrap_or(0);
    }
    if volumes {
        let claim = Claim {
            name: "data-g-0001-002-0".into(),
            uid: "claim-1".into(),
            machine: Some("m2".into()),
            deleting: false,
        };
        scene.observed.claims.insert("g-0001-002".into(), claim);
    }
    scene
}

/// The zone of a node, pinned by its stateful set.
fn pin(scene: &mut Scene, node: &str, zone: &str) {
    let key = ObjectKey { kind: Kind::StatefulSet, name: format!("g-{node}") };
    scene.desired.multi_az = true;
    if let Some(object) = scene.observed.children.get_mut(&key) {
        let text = object["metadata"]["annotations"][NODE_ANNOTATION].as_str().unwrap_or_default().to_owned();
        if let Ok(mut inputs) = serde_json::from_str::<NodeInputs>(&text) {
            inputs.zone = Some(zone.into());
            inputs.zone_required = true;
            object["metadata"]["annotations"][NODE_ANNOTATION] =
                serde_json::json!(serde_json::to_string(&inputs).unwrap_or_default());
        }
    }
}

/// Every node pinned to the zone of its machine, and the objects as they should be.
fn zoned(volumes: bool) -> Scene {
    let mut scene = homeless(volumes);
    // What was pinned while all was well.
    let pods = scene.observed.nodes.clone();
    for seen in scene.observed.nodes.values_mut() {
        seen.pod = None;
    }
    pin(&mut scene, "0001-001", "a");
    pin(&mut scene, "0001-002", "b");
    scene.world_is_met();
    scene.observed.nodes = pods;
    scene
}

fn no_deletion(scene: &Scene) {
    let (_, plan) = scene.plan();
    let deletes = |act: &Act| matches!(act, Act::DeleteClaim { .. } | Act::DeletePod { .. });
    assert!(!plan.steps.iter().any(|step| deletes(&step.act)), "{plan}");
}

#[test]
fn the_claim_of_a_volume_that_went_with_its_machine_is_given_up_after_the_bound() {
    let scene = homeless(true);
    assert_plan(
        &scene,
        "delete PersistentVolumeClaim/data-0001-002-0
         wait InsufficientCacheClusterCapacity 0001-002
         wait CacheNodeReplaceStarted 0001-002",
    );
    let mut early = homeless(true);
    if let Some(pod) = &mut early.node("0001-002").pod {
        pod.created_ms += 1_000;
    }
    no_deletion(&early);
    let mut fresh = homeless(true);
    fresh.observed.watching_ms = REPLACE_AFTER_MS - 1;
    no_deletion(&fresh);
}

#[test]
fn a_machine_that_is_only_not_ready_or_cordoned_is_not_gone() {
    for word in ["notready", "cordoned"] {
        let mut scene = homeless(true);
        let drawn = draw(&format!("1x2 cluster volumes formed\n machine m2 zone b {word}"));
        scene.observed.machines = drawn.observed.machines;
        no_deletion(&scene);
    }
    let mut off = homeless(true);
    let drawn = draw("1x2 cluster volumes formed\n machine m2 zone b out-of-service");
    off.observed.machines = drawn.observed.machines;
    assert!(table(&off.plan().1).contains("delete PersistentVolumeClaim"), "an administrator vouches for it");
}

#[test]
fn no_claim_is_given_up_while_nobody_serves_a_better_copy() {
    // The primary's engine has just ended.
    let mut parked = homeless(true);
    parked.observed.nodes.insert(
        "g-0001-001".into(),
        draw("1x2 cluster volumes formed\n 0001-001 boot 2 data 3 100").node("0001-001").clone(),
    );
    no_deletion(&parked);
    let mut silent = homeless(true);
    let drawn = draw("1x2 cluster volumes formed\n 0001-001 silent 9000 primary 100");
    silent.observed.nodes.insert("g-0001-001".into(), drawn.observed.nodes["g-0001-001"].clone());
    no_deletion(&silent);
    // The lost one is the holder itself.
    let mut holder = homeless(true);
    if let Some(lease) = holder.observed.leases.get_mut("0001") {
        lease.holder = "g-0001-002".into();
    }
    no_deletion(&holder);
}

#[test]
fn a_claim_that_no_machine_was_chosen_for_is_left_alone() {
    let mut scene = homeless(true);
    if let Some(claim) = scene.observed.claims.get_mut("g-0001-002") {
        claim.machine = None;
    }
    no_deletion(&scene);
}

#[test]
fn a_node_that_was_never_a_member_waits_for_its_zone() {
    let mut scene = homeless(true);
    scene.observed.last_offsets.clear();
    no_deletion(&scene);
}

#[test]
fn a_node_whose_zone_has_lost_every_machine_moves_to_one_where_the_copies_are_apart() {
    let mut scene = zoned(false);
    let found = table(&scene.plan().1);
    assert!(found.contains("apply StatefulSet/0001-002"), "{found}");
    // Deleted before its template is written, its pod would be made for the old zone once more.
    assert!(!found.contains("Pod/"), "{found}");
    let (frozen, plan) = scene.plan();
    assert_eq!(frozen.inputs["g-0001-002"].zone.as_deref(), Some("c"), "not with the other copy in a");
    assert_eq!(frozen.inputs["g-0001-002"].moved_from.as_deref(), Some("b"));
    assert_eq!(check(&frozen.desired, &scene.observed, &plan), Vec::<String>::new());
    // The move is no change that somebody asked for, and it is not made twice.
    let applied: Vec<Act> = plan.steps.iter().map(|step| step.act.clone()).collect();
    for act in &applied {
        scene.obey(act);
    }
    let (frozen, plan) = scene.plan();
    assert!(table(&plan).contains("delete Pod/0001-002-0 that was never placed"), "{plan}");
    assert_eq!(check(&frozen.desired, &scene.observed, &plan), Vec::<String>::new());
    let set = ObjectKey { kind: Kind::StatefulSet, name: "g-0001-002".into() };
    let mut unseen = scene.clone();
    unseen.observed.children.get_mut(&set).unwrap()["metadata"]["generation"] = 2.into();
    unseen.observed.children.get_mut(&set).unwrap()["status"]["observedGeneration"] = 1.into();
    assert!(!table(&unseen.plan().1).contains("Pod/"), "the controller knows the old template only");
    // The check wants it in that order, too.
    let mut sooner = scene.clone();
    sooner.observed.children = zoned(false).observed.children;
    let notes = check(&frozen.desired, &sooner.observed, &plan);
    assert!(notes.iter().any(|note| note.contains("the next would be as it is")), "{notes:?}");
    if let Some(pod) = &mut scene.node("0001-002").pod {
        pod.zone = Some("c".into());
        pod.created_ms = NOW_MS;
    }
    let (frozen, plan) = scene.plan();
    assert_eq!(frozen.inputs["g-0001-002"].zone.as_deref(), Some("c"));
    assert!(frozen.pending.is_empty(), "{:?}", frozen.pending);
    assert!(plan.steps.is_empty(), "{plan}");
}

#[test]
fn a_node_stays_where_only_the_zone_of_the_other_copy_is_left() {
    let mut scene = zoned(false);
    scene.observed.machines.remove("m3");
    no_deletion(&scene);
    let (frozen, _) = scene.plan();
    assert_eq!(frozen.inputs["g-0001-002"].zone.as_deref(), Some("b"), "P8");
}

#[test]
fn a_node_stays_in_a_zone_that_has_a_machine_left() {
    let mut scene = zoned(false);
    let machine = scene.observed.machines["m1"].clone();
    let other = kagami_core::observed::Machine { zone: Some("b".into()), ready: false, ..machine };
    scene.observed.machines.insert("m4".into(), other);
    no_deletion(&scene);
    assert_eq!(scene.plan().0.inputs["g-0001-002"].zone.as_deref(), Some("b"));
}

#[test]
fn the_check_refuses_to_give_up_a_volume_whose_machine_may_return() {
    let mut scene = homeless(true);
    let (frozen, plan) = scene.plan();
    let drawn = draw("1x2 cluster volumes formed\n machine m2 zone b notready");
    scene.observed.machines = drawn.observed.machines;
    let notes = check(&frozen.desired, &scene.observed, &plan);
    assert!(notes.iter().any(|note| note.contains("not proven gone")), "{notes:?}");
    if let Agent::Up(report) = &mut scene.node("0001-001").agent {
        report.engine = None;
    }
    let notes = check(&frozen.desired, &scene.observed, &plan);
    assert!(notes.iter().any(|note| note.contains("nobody serves a better copy")), "{notes:?}");
}

#[test]
fn two_copies_that_lose_their_zone_at_once_do_not_both_go_to_the_zone_of_the_third() {
    let mut scene = draw(
        "1x3 cluster formed
         lease 0001 term 3 holder 0001-001 served
         0001-001 primary 100
         0001-002 unplaced unheard
         0001-003 unplaced unheard",
    );
    let pods = scene.observed.nodes.clone();
    for seen in scene.observed.nodes.values_mut() {
        seen.pod = None;
    }
    for (node, zone) in [("0001-001", "a"), ("0001-002", "b"), ("0001-003", "b")] {
        pin(&mut scene, node, zone);
    }
    scene.world_is_met();
    scene.observed.nodes = pods;
    scene.observed.machines.retain(|name, _| name == "m1");
    for node in ["0001-002", "0001-003"] {
        scene.observed.last_offsets.insert(format!("g-{node}"), 90);
        if let Some(pod) = &mut scene.node(node).pod {
            (pod.zone, pod.unschedulable) = (Some("b".into()), Some("0/1 nodes are available".into()));
            pod.created_ms = NOW_MS - i64::try_from(REPLACE_AFTER_MS).unwrap_or(0);
        }
    }
    let (frozen, plan) = scene.plan();
    let zones: Vec<_> =
        frozen.inputs.values().map(|inputs| inputs.zone.as_deref().unwrap_or_default()).collect();
    assert_eq!(zones, ["a", "a", "b"], "{plan}");
    assert_eq!(check(&frozen.desired, &scene.observed, &plan), Vec::<String>::new());
}
