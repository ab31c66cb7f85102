//! Nodes that were moved out of a zone without machines, once that zone has machines again: who goes home, when, and who stays.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod support;

use kagami_core::build::{NODE_ANNOTATION, NodeInputs, pinned_zone};
use kagami_core::check::check;
use kagami_core::observed::{Agent, Claim, Kind, ObjectKey};
use kagami_core::plan::{Act, Built, Plan, REPLACE_AFTER_MS, RETRY_AFTER_MS, RETURN_AFTER_MS, plan_with};
use kagami_core::requests::Restart;
use kagami_protocol::Role;
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::{NOW_MS, Scene, boot, draw, ip, short, table};

const TEN_MINUTES_MS: i64 = 600_000;
const ONE: &str = "0001-001 primary 100\n 0001-002 replica 100 of 0001-001";
const TWO: &str =
    "lease 0002 term 5 holder 0002-001 served\n 0002-001 primary 7\n 0002-002 replica 7 of 0002-001";

fn set_of(node: &str) -> ObjectKey {
    ObjectKey { kind: Kind::StatefulSet, name: format!("g-{node}") }
}

fn inputs(scene: &Scene, node: &str) -> NodeInputs {
    let text = scene.observed.children[&set_of(node)]["metadata"]["annotations"][NODE_ANNOTATION].clone();
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

/// What a node was created with.
fn recreate(scene: &mut Scene, node: &str, change: impl FnOnce(&mut NodeInputs)) {
    let mut of = inputs(scene, node);
    change(&mut of);
    let object = scene.observed.children.get_mut(&set_of(node)).unwrap();
    object["metadata"]["annotations"][NODE_ANNOTATION] = serde_json::to_string(&of).unwrap().into();
}

/// The pod of a node stands on a machine, made for its zone.
fn stand(scene: &mut Scene, node: &str, machine: &str) {
    let zone = scene.observed.machines.get(machine).and_then(|machine| machine.zone.clone());
    let pod = scene.node(node).pod.as_mut().unwrap();
    (pod.machine, pod.zone) = (Some(machine.into()), zone);
}

/// A machine has taken pods for that long, by both clocks.
fn open(scene: &mut Scene, machine: &str, ms: i64) {
    let machine = scene.observed.machines.get_mut(machine).unwrap();
    machine.ready_since_ms = NOW_MS - ms;
    machine.open_ms = u64::try_from(ms).unwrap();
}

/// With MultiAZ; the nodes that are named were moved from zone b to zone c, when b had lost its machine. It has had one again for
/// just long enough.
fn moved(drawing: &str, nodes: &[&str]) -> Scene {
    let mut scene = draw(drawing);
    scene.desired.multi_az = true;
    let all: Vec<String> =
        scene.observed.nodes.keys().map(|node| node.trim_start_matches("g-").into()).collect();
    for node in &all {
        let away = nodes.contains(&node.as_str());
        let at = scene.node(node).pod.as_ref().and_then(|pod| pod.machine.clone()).unwrap_or("m1".into());
        let at = if away { "m3".into() } else { at };
        stand(&mut scene, node, &at);
        let zone = scene.observed.machines[&at].zone.clone();
        recreate(&mut scene, node, |inputs| {
            (inputs.zone, inputs.zone_required) = (zone, true);
            inputs.moved_from = away.then(|| "b".into());
        });
    }
    scene.world_is_met();
    open(&mut scene, "m2", TEN_MINUTES_MS);
    scene
}

fn one() -> Scene {
    moved(&format!("1x2 cluster formed\n lease 0001 term 3 holder 0001-001 served\n {ONE}"), &["0001-002"])
}

/// Two node groups, of each of which a replica was moved.
fn two() -> Scene {
    let lines = format!("2x2 cluster formed\n lease 0001 term 3 holder 0001-001 served\n {ONE}\n {TWO}");
    moved(&lines, &["0001-002", "0002-002"])
}

/// The plan, which the check must accept.
#[track_caller]
fn planned(scene: &Scene) -> Plan {
    let (frozen, plan) = scene.plan();
    let notes = check(&frozen.desired, &scene.observed, &plan);
    assert!(notes.is_empty(), "the check refuses the plan: {notes:?}\n{plan}");
    plan
}

/// One cycle: what is about objects is done.
#[track_caller]
fn cycle(scene: &mut Scene) -> String {
    let plan = planned(scene);
    for step in &plan.steps {
        scene.obey(&step.act);
    }
    table(&plan)
}

/// Whom a plan sends to another zone, by his template.
fn sent(scene: &Scene, plan: &Plan) -> Vec<String> {
    let applied = plan.steps.iter().filter_map(|step| match &step.act {
        Act::Apply { key, object } if key.kind == Kind::StatefulSet => Some((key, object)),
        _ => None,
    });
    let other =
        applied.filter(|(key, object)| pinned_zone(&scene.observed.children[*key]) != pinned_zone(object));
    other.map(|(key, object)| format!("{} to {}", &key.name[2..], pinned_zone(object).unwrap())).collect()
}

fn moves(plan: &Plan) -> Vec<String> {
    let pods = plan.steps.iter().filter_map(|step| match &step.act {
        Act::MovePod(moved) => Some(moved.node[2..].to_owned()),
        _ => None,
    });
    pods.collect()
}

/// It is neither sent home nor, were it on its way already, let go: then its template is written back.
#[track_caller]
fn stays(name: &str, mut scene: Scene, change: impl Fn(&mut Scene)) {
    let mut under_way = scene.clone();
    cycle(&mut under_way);
    assert_eq!(moves(&planned(&under_way)), ["0001-002"], "{name}: without it, it goes");
    change(&mut scene);
    let plan = planned(&scene);
    assert_eq!((sent(&scene, &plan), moves(&plan)), (vec![], vec![]), "{name}: {plan}");
    change(&mut under_way);
    let plan = planned(&under_way);
    assert_eq!(
        (sent(&under_way, &plan), moves(&plan)),
        (vec!["0001-002 to c".into()], vec![]),
        "{name}: {plan}"
    );
    // It is not begun at once again.
    cycle(&mut under_way);
    let again = sent(&under_way, &planned(&under_way));
    assert!(!again.contains(&"0001-002 to b".to_owned()), "{name}");
}

#[test]
fn a_moved_replica_goes_home_once_its_zone_has_had_machines_again_for_ten_minutes() {
    assert_eq!(u64::try_from(TEN_MINUTES_MS), Ok(RETURN_AFTER_MS));
    let mut scene = one();
    // First the template; the pod only in a later cycle.
    assert_eq!(cycle(&mut scene), "apply StatefulSet/0001-002");
    let home = inputs(&scene, "0001-002");
    assert_eq!((home.zone.as_deref(), home.away.as_deref()), (Some("b"), Some("c")));
    let plan = planned(&scene);
    assert_eq!(table(&plan), "delete Pod/0001-002-0 that moves back\nwait CacheNodeReplaceStarted 0001-002");
    assert!(short(&plan).contains("it moves back from zone c to zone b"), "{plan}");
    // The next pod stands at home, and what was remembered is forgotten.
    stand(&mut scene, "0001-002", "m2");
    assert_eq!(cycle(&mut scene), "apply StatefulSet/0001-002\napply EndpointSlice/g");
    let at_home = inputs(&scene, "0001-002");
    assert_eq!(
        (at_home.zone.as_deref(), at_home.moved_from, at_home.away, at_home.tried_ms),
        (Some("b"), None, None, None)
    );
    assert_eq!(cycle(&mut scene), "");
}

#[test]
fn its_pod_is_let_go_only_by_everybody_of_its_shard_in_the_life_and_role_that_were_seen() {
    let mut scene = moved(
        "1x3 cluster formed\n lease 0001 term 3 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 100 of 0001-001
         0001-003 replica 100 of 0001-001",
        &["0001-002"],
    );
    cycle(&mut scene);
    let plan = planned(&scene);
    let Some(Act::MovePod(moved)) = plan.steps.first().map(|step| step.act.clone()) else { panic!("{plan}") };
    let asked = |node: &str, role| (node.to_owned(), boot(node, 1), role);
    assert_eq!((moved.uid.as_str(), moved.term), ("pod-0001-002", 3));
    let everybody =
        [("g-0001-001", Role::Primary), ("g-0001-003", Role::Replica), ("g-0001-002", Role::Replica)];
    assert_eq!(moved.asked, everybody.map(|(node, role)| asked(node, role)));
}

#[test]
fn nobody_goes_home_while_anything_else_is_done_to_the_group_or_asked_of_it() {
    stays("a handover in another node group", two(), |scene| {
        scene.node("0002-001").pod.as_mut().unwrap().deleting = true
    });
    stays("a term that has just begun", two(), |scene| {
        scene.observed.leases.get_mut("0002").unwrap().known_ms = 1_000
    });
    stays("a primary that does not serve", two(), |scene| {
        scene.observed.leases.get_mut("0002").unwrap().boot = boot("g-0002-001", 2);
    });
    stays("a reboot that is asked for", two(), |scene| {
        scene.observed.requests.reboot = Some("g-0002-002".into())
    });
    stays("a test of failover", two(), |scene| scene.observed.requests.test_failover = Some("0002".into()));
    stays("a reboot under way", two(), |scene| {
        let boot = boot("g-0002-002", 1);
        scene.observed.requests.under_way = Some(Restart { node: "g-0002-002".into(), boot, test: false });
    });
    stays("a change of the spec that waits", two(), |scene| scene.desired.memory_bytes *= 2);
    stays("a change of the spec that is carried out", two(), |scene| {
        scene.desired.allow_eviction_of_only_copy ^= true
    });
    stays("an object that is missing", two(), |scene| {
        scene.observed.children.remove(&ObjectKey { kind: Kind::Service, name: "g-0002-002".into() });
    });
    stays("a drain", two(), |scene| scene.observed.machines.get_mut("m1").unwrap().unschedulable = true);
    stays("a node that shuts down", two(), |scene| scene.report("0002-001").terminating = true);
}

#[test]
fn nobody_goes_home_while_a_copy_of_the_group_is_not_up_and_in_sync() {
    let silent = |scene: &mut Scene, node: &str| {
        let last = scene.report(node).clone().into();
        scene.node(node).agent = Agent::Silent { silent_ms: 900, last };
    };
    for node in ["0001-001", "0001-002", "0002-001", "0002-002"] {
        stays(&format!("silence of {node}"), two(), |scene| silent(scene, node));
        stays(&format!("{node} is parked"), two(), |scene| {
            let report = scene.report(node);
            (report.state, report.engine) = (kagami_protocol::EngineState::Parked, None);
        });
        stays(&format!("{node} is not ready"), two(), |scene| {
            scene.node(node).pod.as_mut().unwrap().ready = false
        });
    }
    for node in ["0001-002", "0002-002"] {
        let link = |scene: &mut Scene, change: &dyn Fn(&mut kagami_protocol::Link)| {
            change(scene.report(node).engine.as_mut().unwrap().link.as_mut().unwrap());
        };
        stays(&format!("{node} is behind"), two(), |scene| link(scene, &|link| link.up = false));
        stays(&format!("{node} is syncing"), two(), |scene| link(scene, &|link| link.syncing = true));
        stays(&format!("{node} follows a stranger"), two(), |scene| {
            link(scene, &|link| link.host = ip("0001-003"))
        });
    }
}

#[test]
fn one_node_of_the_group_goes_home_at_a_time() {
    let mut scene = two();
    let first = cycle(&mut scene);
    assert_eq!(first, "apply StatefulSet/0001-002\nwait AwayFromZone 0002-002");
    assert_eq!(moves(&planned(&scene)), ["0001-002"]);
    // Were two under way, by whatever chance, neither goes on.
    let mut both = scene.clone();
    recreate(&mut both, "0002-002", |inputs| {
        (inputs.zone, inputs.away) = (Some("b".into()), Some("c".into()));
    });
    let set =
        both.observed.children[&set_of("0001-002")]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
            .clone();
    both.observed.children.get_mut(&set_of("0002-002")).unwrap()["spec"]["template"]["spec"]["affinity"]["nodeAffinity"] =
        set;
    let plan = planned(&both);
    assert_eq!(
        (sent(&both, &plan), moves(&plan)),
        (vec!["0001-002 to c".into(), "0002-002 to c".into()], vec![]),
        "{plan}"
    );
    // Its pod is going, is gone, waits for a place, starts, copies: nobody else moves.
    let well = scene.clone();
    let alone = |name: &str, change: &dyn Fn(&mut Scene)| {
        let mut scene = well.clone();
        change(&mut scene);
        let plan = planned(&scene);
        assert_eq!((sent(&scene, &plan), moves(&plan)), (vec![], vec![]), "{name}: {plan}");
    };
    // Its agent may tell that before the watch does.
    alone("told to end", &|scene| scene.report("0001-002").terminating = true);
    alone("going", &|scene| scene.node("0001-002").pod.as_mut().unwrap().deleting = true);
    alone("gone", &|scene| *scene.node("0001-002") = Default::default());
    alone("homeless", &|scene| {
        let seen = scene.node("0001-002");
        seen.agent = Agent::Unheard;
        let pod = seen.pod.as_mut().unwrap();
        (pod.uid, pod.zone, pod.machine, pod.ip) = ("pod-new".into(), Some("b".into()), None, None);
        (pod.unschedulable, pod.created_ms) = (Some("insufficient memory".into()), NOW_MS - 5_000);
    });
    alone("starting", &|scene| {
        stand(scene, "0001-002", "m2");
        scene.node("0001-002").agent = Agent::Unheard;
    });
    stand(&mut scene, "0001-002", "m2");
    let link = |scene: &mut Scene, up: bool| {
        let link = scene.report("0001-002").engine.as_mut().unwrap().link.as_mut().unwrap();
        (link.up, link.syncing) = (up, !up);
    };
    link(&mut scene, false);
    cycle(&mut scene);
    assert_eq!(moves(&planned(&scene)), Vec::<String>::new());
    assert_eq!(sent(&scene, &planned(&scene)), Vec::<String>::new(), "it copies");
    link(&mut scene, true);
    cycle(&mut scene);
    assert_eq!(sent(&scene, &planned(&scene)), ["0002-002 to b"], "then the next");
}

#[test]
fn the_only_copy_of_a_node_group_stays_where_it_is() {
    let mut scene = moved(
        "1x1 cluster formed\n lease 0001 term 3 holder 0001-001 served\n 0001-001 primary 100",
        &["0001-001"],
    );
    scene.desired.multi_az = false;
    cycle(&mut scene);
    let plan = planned(&scene);
    assert_eq!(table(&plan), "wait AwayFromZone 0001-001");
    assert!(plan.to_string().contains("it is the only copy of its node group"), "{plan}");
}

/// The role of the first node group goes to the other node, by whomever.
fn swap(scene: &mut Scene) {
    let drawn = moved(
        "2x2 cluster formed\n lease 0001 term 3 holder 0001-002 served\n 0001-001 replica 100 of 0001-002
         0001-002 primary 100\n lease 0002 term 5 holder 0002-001 served\n 0002-001 primary 7\n 0002-002 replica 7 of 0002-001",
        &["0001-002", "0002-002"],
    );
    for (node, seen) in drawn.observed.nodes {
        scene.observed.nodes.get_mut(&node).unwrap().agent = seen.agent;
    }
    scene.observed.leases = drawn.observed.leases;
    let (_, plan) = scene.plan();
    // Endpoints and labels follow the role.
    for step in plan
        .steps
        .iter()
        .filter(|step| !matches!(&step.act, Act::Apply { key, .. } if key.kind == Kind::StatefulSet))
    {
        scene.obey(&step.act);
    }
}

#[test]
fn a_moved_node_that_is_the_primary_stays_until_it_is_a_replica() {
    let mut scene = two();
    swap(&mut scene);
    let plan = planned(&scene);
    assert_eq!(sent(&scene, &plan), ["0002-002 to b"], "the other node group is free to");
    assert!(
        short(&plan).contains(
            "0001-002: it stands in c, since b had no machine, and b has machines again: it is a primary"
        ),
        "{plan}"
    );
}

#[test]
fn the_template_of_a_node_that_becomes_the_primary_is_written_back_before_anything_else() {
    let mut scene = two();
    cycle(&mut scene);
    swap(&mut scene);
    let plan = planned(&scene);
    assert_eq!((sent(&scene, &plan), moves(&plan)), (vec!["0001-002 to c".to_owned()], vec![]), "{plan}");
    cycle(&mut scene);
    assert_eq!(inputs(&scene, "0001-002").away, None);
    assert_eq!(inputs(&scene, "0001-002").moved_from.as_deref(), Some("b"));
    // One that is being made the primary.
    let mut raised = two();
    cycle(&mut raised);
    let lease = raised.observed.leases.get_mut("0001").unwrap();
    (lease.holder, lease.boot, lease.term) = ("g-0001-002".into(), boot("g-0001-002", 1), 4);
    lease.previous = Some(("g-0001-001".into(), boot("g-0001-001", 1)));
    lease.cause = kagami_core::observed::Cause::Handover;
    let plan = planned(&raised);
    assert_eq!((sent(&raised, &plan), moves(&plan)), (vec!["0001-002 to c".to_owned()], vec![]), "{plan}");
}

#[test]
fn a_zone_that_comes_and_goes_moves_nobody() {
    let young = TEN_MINUTES_MS - 1;
    let at = |scene: &mut Scene, change: &dyn Fn(&mut kagami_core::observed::Machine)| {
        change(scene.observed.machines.get_mut("m2").unwrap());
    };
    stays("it was not ready lately", one(), |scene| {
        at(scene, &|machine| machine.ready_since_ms = NOW_MS - young)
    });
    stays("this operator saw it closed lately", one(), |scene| {
        at(scene, &|machine| machine.open_ms = u64::try_from(young).unwrap())
    });
    stays("its clock is ahead of ours", one(), |scene| {
        at(scene, &|machine| machine.ready_since_ms = NOW_MS + 1)
    });
    stays("it is not ready", one(), |scene| at(scene, &|machine| machine.ready = false));
    stays("it is cordoned", one(), |scene| at(scene, &|machine| machine.unschedulable = true));
    stays("it is out of service", one(), |scene| at(scene, &|machine| machine.out_of_service = true));
    stays("it is gone", one(), |scene| drop(scene.observed.machines.remove("m2")));
    stays("it is another one each time", one(), |scene| {
        let mut other = scene.observed.machines["m2"].clone();
        other.open_ms = 1;
        scene.observed.machines.insert("m4".into(), other.clone());
        at(scene, &|machine| {
            *machine = kagami_core::observed::Machine { ready_since_ms: NOW_MS, open_ms: 0, ..other.clone() }
        });
    });
    stays("the spec asks for another zone now", one(), |scene| {
        scene.desired.shards[0].nodes[1].zone = Some("c".into());
    });
    stays("the subnet group has that zone no more", one(), |scene| {
        scene.desired.zones = vec!["a".into(), "c".into()];
    });
}

/// Its pod was let go and the next one, made for its own zone, finds no place there.
fn no_place(scene: &mut Scene) {
    cycle(scene);
    scene.observed.last_offsets.insert("g-0001-002".into(), 100);
    let seen = scene.node("0001-002");
    seen.agent = Agent::Unheard;
    let pod = seen.pod.as_mut().unwrap();
    (pod.uid, pod.zone, pod.machine, pod.ip) = ("pod-new".into(), Some("b".into()), None, None);
    pod.unschedulable = Some("0/3 nodes are available: 1 Insufficient memory".into());
    pod.created_ms = NOW_MS - i64::try_from(REPLACE_AFTER_MS).unwrap();
}

#[test]
fn a_node_that_finds_no_place_at_home_goes_back_to_where_it_was_and_is_not_sent_again_at_once() {
    let well = one();
    let mut scene = well.clone();
    no_place(&mut scene);
    let mut early = scene.clone();
    early.node("0001-002").pod.as_mut().unwrap().created_ms += 1_000;
    assert_eq!(sent(&early, &planned(&early)), Vec::<String>::new(), "within the bound");
    assert_eq!(sent(&scene, &planned(&scene)), ["0001-002 to c"]);
    assert!(!cycle(&mut scene).contains("Pod/"), "the template first");
    let told = cycle(&mut scene);
    assert!(told.contains("delete Pod/0001-002-0 that was never placed"), "{told}");
    // It stands where it was, and stays for an hour.
    scene.observed.nodes = well.observed.nodes.clone();
    cycle(&mut scene);
    let plan = planned(&scene);
    assert_eq!(table(&plan), "wait AwayFromZone 0001-002");
    assert!(plan.to_string().contains("it is tried again after an hour"), "{plan}");
    recreate(&mut scene, "0001-002", |inputs| inputs.tried_ms = Some(NOW_MS - RETRY_AFTER_MS));
    assert_eq!(sent(&scene, &planned(&scene)), ["0001-002 to b"]);
}

#[test]
fn one_that_finds_no_place_at_home_nor_where_it_was_goes_where_the_copies_are_apart() {
    let mut scene = one();
    let machine = scene.observed.machines["m3"].clone();
    no_place(&mut scene);
    scene.observed.machines.remove("m3");
    let (_, plan) = scene.plan();
    assert_eq!(sent(&scene, &plan), Vec::<String>::new(), "zone a has the only other copy");
    let other = kagami_core::observed::Machine { zone: Some("d".into()), ..machine };
    scene.observed.machines.insert("m4".into(), other);
    assert_eq!(sent(&scene, &planned(&scene)), ["0001-002 to d"]);
}

#[test]
fn a_node_with_a_volume_stays_where_its_volume_is_and_says_how_to_move_it() {
    let mut scene = moved(
        &format!("1x2 cluster volumes formed\n lease 0001 term 3 holder 0001-001 served\n {ONE}"),
        &["0001-002"],
    );
    let claim = Claim {
        name: "data-g-0001-002-0".into(),
        uid: "c".into(),
        machine: Some("m3".into()),
        deleting: false,
    };
    scene.observed.claims.insert("g-0001-002".into(), claim);
    let plan = planned(&scene);
    assert_eq!(table(&plan), "wait AwayFromZone 0001-002");
    let words = plan.to_string();
    assert!(
        words.contains(
            "kubectl delete pvc data-g-0001-002-0 --wait=false, then kubectl delete statefulset g-0001-002"
        ),
        "{words}"
    );
    // While its zone has no machine there is nothing to tell.
    scene.observed.machines.remove("m2");
    assert_eq!(table(&planned(&scene)), "");
}

#[test]
fn a_node_whose_stateful_set_a_person_deleted_is_made_anew_in_its_zone() {
    let mut scene = one();
    scene.desired.shards[0].nodes[1].zone = Some("b".into());
    scene.observed.children.remove(&set_of("0001-002"));
    let (frozen, plan) = scene.plan();
    assert_eq!(frozen.inputs["g-0001-002"].zone.as_deref(), Some("b"), "{plan}");
    assert_eq!(frozen.inputs["g-0001-002"].moved_from, None);
}

#[test]
fn a_node_stays_away_while_all_other_copies_are_in_its_zone() {
    let mut scene = one();
    recreate(&mut scene, "0001-001", |inputs| inputs.zone = Some("b".into()));
    stand(&mut scene, "0001-001", "m2");
    let (_, plan) = scene.plan();
    for step in &plan.steps {
        scene.obey(&step.act);
    }
    let plan = planned(&scene);
    assert_eq!(table(&plan), "wait AwayFromZone 0001-002");
    assert!(plan.to_string().contains("every other copy of its node group is in zone b, too"), "{plan}");
    // Nor does its template alone tell where another copy is, while that stands elsewhere still.
    let mut between = one();
    stand(&mut between, "0001-001", "m2");
    assert_eq!(sent(&between, &planned(&between)), Vec::<String>::new());
}

#[test]
fn a_pod_is_let_go_only_once_the_controller_has_seen_the_new_template() {
    let mut scene = one();
    cycle(&mut scene);
    let set = scene.observed.children.get_mut(&set_of("0001-002")).unwrap();
    set["metadata"]["generation"] = 4.into();
    set["status"]["observedGeneration"] = 3.into();
    assert_eq!(table(&planned(&scene)), "wait CacheNodeReplaceStarted 0001-002");
    scene.observed.children.get_mut(&set_of("0001-002")).unwrap()["status"]["observedGeneration"] = 4.into();
    assert_eq!(moves(&planned(&scene)), ["0001-002"]);
}

#[test]
fn the_check_refuses_every_move_that_breaks_a_promise() {
    let mut template = two();
    let (_, writes) = template.plan();
    cycle(&mut template);
    let (_, deletes) = template.plan();
    #[track_caller]
    fn refused(scene: &Scene, plan: &Plan, words: &str, change: &dyn Fn(&mut Scene, &mut Plan)) {
        let (mut scene, mut plan) = (scene.clone(), plan.clone());
        change(&mut scene, &mut plan);
        let notes = check(&scene.desired, &scene.observed, &plan);
        assert!(notes.iter().any(|note| note.contains(words)), "{words}: {notes:?}\n{plan}");
    }
    let two = two();
    for (scene, plan) in [(&two, &writes), (&template, &deletes)] {
        refused(scene, plan, "something else is done", &|_, plan| plan.steps.push(plan.steps[0].clone()));
        refused(scene, plan, "something else is done", &|scene, _| {
            scene.observed.requests.reboot = Some("g-0002-002".into());
        });
        refused(scene, plan, "its volume cannot", &|scene, _| {
            scene.observed.claims.insert("g-0001-002".into(), Claim::default());
        });
        refused(scene, plan, "it is the only copy", &|scene, _| {
            scene.desired.shards[0].nodes.remove(0);
        });
        refused(scene, plan, "it is the primary", &|scene, _| {
            scene.observed.leases.get_mut("0001").unwrap().holder = "g-0001-002".into();
        });
        refused(scene, plan, "long enough", &|scene, _| open(scene, "m2", TEN_MINUTES_MS - 1));
        refused(scene, plan, "not every node of the group is in sync", &|scene, _| {
            scene.report("0002-002").engine.as_mut().unwrap().link.as_mut().unwrap().up = false;
        });
        refused(scene, plan, "not every node of the group is in sync", &|scene, _| {
            scene.node("0001-001").agent = Agent::Unheard;
        });
        refused(scene, plan, "where all other copies of its node group are", &|scene, _| {
            stand(scene, "0001-001", "m2")
        });
    }
    let asked = |plan: &mut Plan, change: &dyn Fn(&mut kagami_core::plan::MovePod)| {
        if let Act::MovePod(moved) = &mut plan.steps[0].act {
            change(moved);
        }
    };
    refused(&template, &deletes, "not everybody of its node group is asked", &|_, plan| {
        asked(plan, &|moved| drop(moved.asked.remove(0)));
    });
    refused(&template, &deletes, "not everybody of its node group is asked", &|_, plan| {
        asked(plan, &|moved| moved.term -= 1);
    });
    refused(&template, &deletes, "the next pod would be as it is", &|_, plan| {
        asked(plan, &|moved| moved.uid = "another".into());
    });
    refused(&template, &deletes, "the next pod would be as it is", &|scene, _| {
        scene.observed.children = two.observed.children.clone();
    });
}

/// What happens to the group of the walk.
#[derive(Clone, Debug)]
enum Turn {
    /// The plan is carried out; pods that were deleted are made from the template, if a machine takes them.
    Cycle,
    /// A machine is off, takes pods, has for long enough, or is there no more.
    Machine(usize, u8),
    /// A node's agent falls silent, or speaks again.
    Hear(usize),
    /// A replica is behind, or in sync again.
    Sync(usize),
    /// The role goes to that node.
    Lead(usize),
    /// A pod dies and is made anew.
    Kill(usize),
    /// An hour passes.
    Hour,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        8 => Just(Turn::Cycle),
        3 => (0..4usize, 0..4u8).prop_map(|(machine, how)| Turn::Machine(machine, how)),
        2 => (0..3usize).prop_map(Turn::Hear),
        2 => (0..3usize).prop_map(Turn::Sync),
        1 => (0..3usize).prop_map(Turn::Lead),
        1 => (0..3usize).prop_map(Turn::Kill),
        1 => Just(Turn::Hour),
    ]
}

const NODES: [&str; 3] = ["0001-001", "0001-002", "0001-003"];

/// A walk of a group of three copies with cluster mode disabled, whose zones come and go.
struct Walk {
    scene: Scene,
    pods: u32,
    built: Built,
    /// What the agent of a replica says.
    replica: Agent,
}

impl Walk {
    fn new() -> Self {
        let scene = moved(
            "1x3 plain formed\n lease 0001 term 3 holder 0001-001 served\n 0001-001 primary 100
             0001-002 replica 100 of 0001-001\n 0001-003 replica 100 of 0001-001",
            &["0001-002"],
        );
        let mut scene = scene;
        for node in NODES {
            scene.observed.last_offsets.insert(format!("g-{node}"), 100);
        }
        let fourth = kagami_core::observed::Machine {
            zone: Some("d".into()),
            ..scene.observed.machines["m1"].clone()
        };
        scene.observed.machines.insert("m4".into(), fourth);
        let replica = scene.observed.nodes["g-0001-003"].agent.clone();
        Self { scene, pods: 0, built: Built::default(), replica }
    }

    /// The pod of a node is made from its template.
    fn make(&mut self, node: &str) {
        self.pods += 1;
        let zone = inputs(&self.scene, node).zone;
        let taken =
            self.scene.observed.machines.iter().find(|(_, machine)| machine.zone == zone && machine.open());
        let machine = taken.map(|(name, _)| name.clone());
        let number = self.pods;
        let seen = self.scene.node(node);
        let pod = seen.pod.get_or_insert_with(Default::default);
        pod.uid = format!("pod-{node}-{number}");
        (pod.zone, pod.deleting) = (zone, false);
        pod.unschedulable = machine.is_none().then(|| "no machine takes it".into());
        pod.created_ms = NOW_MS - i64::try_from(REPLACE_AFTER_MS).unwrap();
        pod.ip = machine.is_some().then(|| ip(node));
        pod.machine = machine;
        if pod.machine.is_none() {
            seen.agent = Agent::Unheard;
        } else {
            let uid = pod.uid.clone();
            let Agent::Up(mut report) = self.replica.clone() else { panic!("it is drawn") };
            report.node = format!("g-{node}");
            report.boot.pod_uid = uid;
            self.scene.node(node).agent = Agent::Up(report);
            self.follow();
        }
    }

    /// Everybody follows the holder, as far as it is heard.
    fn follow(&mut self) {
        let lease = self.scene.observed.leases["0001"].clone();
        let host = ip(&lease.holder);
        for node in NODES {
            let leads = lease.holder.ends_with(node);
            if !matches!(self.scene.node(node).agent, Agent::Up(_)) {
                continue;
            }
            let report = self.scene.report(node);
            report.term = lease.term;
            let Some(engine) = report.engine.as_mut() else { continue };
            engine.role = Some(if leads { Role::Primary } else { Role::Replica });
            engine.link = (!leads).then(|| kagami_protocol::Link {
                host: host.clone(),
                port: 6379,
                up: true,
                ..Default::default()
            });
        }
    }

    fn take(&mut self, turn: &Turn) {
        match turn {
            Turn::Cycle => self.cycle(),
            Turn::Machine(at, how) => {
                let name = ["m1", "m2", "m3", "m4"][*at];
                if *how == 3 {
                    self.scene.observed.machines.remove(name);
                    return;
                }
                let machine = self.scene.observed.machines.entry(name.into()).or_default();
                machine.zone = Some(["a", "b", "c", "d"][*at].into());
                // Out of service is as good as gone.
                (machine.ready, machine.out_of_service) = (*how > 0, *how == 0);
                machine.ready_since_ms = if *how == 2 { NOW_MS - TEN_MINUTES_MS } else { NOW_MS };
                machine.open_ms = if *how == 2 { RETURN_AFTER_MS } else { 0 };
            }
            Turn::Hear(at) => {
                let seen = self.scene.node(NODES[*at]);
                seen.agent = match seen.agent.clone() {
                    Agent::Up(last) => Agent::Silent { silent_ms: 700, last },
                    Agent::Silent { last, .. } => Agent::Up(last),
                    Agent::Unheard => Agent::Unheard,
                };
            }
            Turn::Sync(at) => {
                if let Agent::Up(report) = &mut self.scene.node(NODES[*at]).agent
                    && let Some(link) = report.engine.as_mut().and_then(|engine| engine.link.as_mut())
                {
                    link.up ^= true;
                }
            }
            Turn::Lead(at) => {
                let node = NODES[*at];
                let Agent::Up(report) = &self.scene.node(node).agent else { return };
                let boot = report.boot.clone();
                let lease = self.scene.observed.leases.get_mut("0001").unwrap();
                (lease.holder, lease.boot, lease.term) = (format!("g-{node}"), boot, lease.term + 1);
                self.follow();
            }
            Turn::Kill(at) => {
                let leads = self.scene.observed.leases["0001"].holder.ends_with(NODES[*at]);
                if !leads {
                    self.make(NODES[*at]);
                }
            }
            Turn::Hour => {
                for node in NODES {
                    recreate(&mut self.scene, node, |inputs| {
                        inputs.tried_ms = inputs.tried_ms.map(|tried| tried - RETRY_AFTER_MS);
                    });
                }
            }
        }
    }

    fn zones(&self, of: impl Fn(&Self, &str) -> Option<String>) -> Vec<Option<String>> {
        NODES.iter().map(|node| of(self, node)).collect()
    }

    fn stands(&self, node: &str) -> Option<String> {
        let machine = self.scene.observed.nodes[&format!("g-{node}")].pod.as_ref()?.machine.clone()?;
        self.scene.observed.machines.get(&machine)?.zone.clone()
    }

    fn cycle(&mut self) {
        let scene = &self.scene;
        let (frozen, plan) = plan_with(&scene.desired, &scene.observed, &scene.setting, &mut self.built);
        let notes = check(&frozen.desired, &scene.observed, &plan);
        assert!(notes.is_empty(), "the check refuses the plan: {notes:?}\n{plan}");
        for step in &plan.steps {
            self.scene.obey(&step.act);
        }
        // P8, by their templates and by their machines.
        let meant: BTreeSet<_> =
            self.zones(|walk, node| inputs(&walk.scene, node).zone).into_iter().collect();
        assert!(meant.len() > 1, "all templates name {meant:?}\n{plan}");
        let stand = self.zones(Self::stands);
        let stood: BTreeSet<_> = stand.iter().collect();
        assert!(stood.len() > 1 || stood.contains(&None), "all copies stand in {stood:?}\n{plan}");
        let away = NODES.iter().filter(|node| inputs(&self.scene, node).away.is_some()).count();
        assert!(away <= 1, "{away} are on their way\n{plan}");
        for step in &plan.steps {
            match &step.act {
                Act::MovePod(moved) => {
                    assert_eq!(plan.steps.len(), 1, "{plan}");
                    let live = NODES.iter().filter(|node| {
                        let engine = self.scene.observed.engine(&format!("g-{node}"));
                        engine.is_some_and(|engine| engine.link.as_ref().is_none_or(|link| link.up))
                    });
                    assert_eq!(live.count(), NODES.len(), "a copy is missing\n{plan}");
                    self.make(&moved.node[2..]);
                }
                Act::DeletePod { node, .. } => self.make(&node[2..]),
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn zones_that_come_and_go_cost_one_copy_at_a_time_at_most_and_never_bring_all_together(
        turns in prop::collection::vec(turn(), 1..40),
    ) {
        let mut walk = Walk::new();
        for turn in &turns {
            walk.take(turn);
        }
    }
}
