//! Whose the slots are (cluster mode enabled): drawings, and what is planned for them. Whoever died with the newest claim owns its
//! slots for ever in the tables of those who live on, unless somebody takes them.

mod support;

use kagami_core::check::check;
use kagami_core::plan::Act;
use kagami_protocol::{ClusterNode, Command};
use support::{Scene, assert_plan, draw, engine_id, table};

/// Two shards of two nodes, of which the first had trouble.
fn scene(first: &str) -> Scene {
    draw(&format!(
        "2x2 cluster formed\n lease 0001 term 4 holder 0001-002 served\n lease 0002 holder 0002-001 served\n {first}
         0002-001 primary 9\n 0002-002 replica 9 of 0002-001"
    ))
}

/// Somebody who is no more owns all slots of the first shard in a node's table.
fn remembers(scene: &mut Scene, node: &str, id: &str, epoch: u64) {
    scene.cluster(node).nodes.push(ClusterNode {
        id: id.into(),
        host: "10.9.9.9".into(),
        primary: true,
        fail: true,
        epoch,
        slots: vec![(0, 8191)],
        ..ClusterNode::default()
    });
}

fn orders(scene: &Scene) -> String {
    let planned = table(&scene.plan().1);
    planned
        .lines()
        .filter(|line| line.contains("assign") || line.contains("claim"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Simulator, seeds 10071, 10954, 10988, 11984, 12336, 12772, 12835 and 12902.
#[test]
fn p4_slots_of_an_identity_that_is_gone_are_taken_from_it() {
    let mut scene = scene("0001-001 parked\n 0001-002 primary 100 slotless");
    remembers(&mut scene, "0001-002", "ghost", 7);
    assert_eq!(orders(&scene), "order 0001-002 term 4: assign 0-8191 from ghost epoch Some(4)");
}

/// Simulator, seeds 20059, 30571 and 31474: the first primary ended before it had claimed its slots, so whoever was promoted inherited
/// none; or it was started again, and its last life outbid it. Its agent was taken to be at it, for ever.
#[test]
fn p4_a_primary_that_has_an_epoch_and_no_slots_before_its_shard_has_served_is_told_to_claim_them() {
    let scene = |cause: &str, epoch: u64| {
        draw(&format!(
            "2x2 cluster\n lease 0001 term 2 holder 0001-002 cause {cause}\n lease 0002 holder 0002-001 served\n 0001-001 parked boot 2
             0001-002 primary 1 slotless epoch {epoch}\n 0002-001 primary 9\n 0002-002 replica 9 of 0002-001"
        ))
    };
    assert_eq!(orders(&scene("death", 3)), "order 0001-002 term 2: assign 0-8191 epoch Some(4)");
    let mut outbid = scene("birth", 1);
    remembers(&mut outbid, "0001-002", "last-life", 7);
    assert_eq!(orders(&outbid), "order 0001-002 term 2: assign 0-8191 from last-life epoch Some(4)");
    // Its agent is at it.
    assert_eq!(orders(&scene("birth", 0)), "");
}

#[test]
fn p2_slots_are_not_taken_from_one_that_may_still_serve_them() {
    // Somebody cannot be asked, and may be the one.
    let mut silent = scene("0001-001 silent 9000 replica 100 of 0001-002\n 0001-002 primary 100 slotless");
    remembers(&mut silent, "0001-002", "ghost", 7);
    assert_eq!(orders(&silent), "");
    // Its node is known to live in another identity by now.
    silent.observed.last_engine_ids.insert("g-0002-002".into(), "ghost".into());
    remembers(&mut silent, "0001-002", "other", 7);
    silent.cluster("0001-002").nodes.last_mut().unwrap().slots = vec![(0, 99)];
    assert_eq!(orders(&silent), "order 0001-002 term 4: assign 100-8191 from ghost epoch Some(4)");
}

#[test]
fn p2_the_check_refuses_to_take_slots_from_whoever_lives() {
    let scene = scene("0001-001 silent 9000 primary 100\n 0001-002 primary 100 slotless");
    let (frozen, mut plan) = scene.plan();
    plan.steps.clear();
    let mut refused = |node: &str, from: &str| {
        let report = scene.observed.report(node).unwrap();
        plan.steps.clear();
        plan.steps.push(kagami_core::plan::Step {
            act: Act::Order {
                node: node.into(),
                boot: report.boot.clone(),
                term: 4,
                role: None,
                command: Box::new(Command::AssignSlots {
                    slots: vec![(0, 8191)],
                    epoch: Some(9),
                    from: vec![from.into()],
                }),
            },
            reason: kagami_api::reason::Reason::FormingCluster,
            event: String::new(),
            warning: false,
        });
        check(&frozen.desired, &scene.observed, &plan).join("; ")
    };
    assert_eq!(refused("g-0001-002", "ghost"), "");
    assert!(refused("g-0001-002", &engine_id("g-0001-001", 1)).contains("may serve them"));
    assert!(refused("g-0002-002", "ghost").contains("is not the holder of node group 0002"));
}

/// Simulator, seeds 11049 and 12196: started again with an old epoch, while the others knew the newer claim of its last life.
#[test]
fn p4_who_is_believed_by_an_older_claim_than_the_ghosts_claims_by_a_newer_epoch() {
    let first = "0001-001 replica 100 of 0001-002\n 0001-002 primary 100 epoch 5";
    let mut older = scene(first);
    remembers(&mut older, "0002-001", "ghost", 4);
    assert_eq!(orders(&older), "", "gossip settles that");
    let mut newer = scene(first);
    remembers(&mut newer, "0002-001", "ghost", 5);
    newer.cluster("0001-002").current_epoch = 6;
    assert_eq!(orders(&newer), "order 0001-002 term 4: claim by epoch Some(7)");
}

/// Simulator, seed 1271: a takeover without a newer epoch. An engine whose epoch is the newest of all bumps nothing.
#[test]
fn p4_where_the_holders_epoch_is_the_newest_another_one_bumps_first() {
    let mut scene = scene("0001-001 replica 100 of 0001-002\n 0001-002 primary 100 epoch 5");
    remembers(&mut scene, "0001-001", "ghost", 5);
    assert_eq!(orders(&scene), "order 0002-001 term 1: claim by epoch Some(6)");
    let mut alone = draw(
        "1x2 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9 epoch 5\n 0001-002 replica 9 of 0001-001",
    );
    assert_plan(&alone, "");
    remembers(&mut alone, "0001-002", "ghost", 5);
    assert_eq!(orders(&alone), "order 0001-002 term 1: claim by epoch Some(6)");
}

/// Simulator, seed 11844: met before its agent had claimed its slots by a new epoch, a restored primary lost them, and its keys, to
/// the newer claim of its last life, which one that had stood still remembered (P1).
#[test]
fn p1_a_restored_primary_is_met_only_once_it_has_claimed_its_slots_by_an_epoch_of_its_own() {
    let scene = |epoch: u64| {
        let mut scene = draw(&format!(
            "2x1 cluster volumes formed\n lease 0001 term 3 holder 0001-001 cause restore served\n lease 0002 holder 0002-001 served
             0001-001 primary 100 epoch {epoch}\n 0002-001 primary 9"
        ));
        for node in ["0001-001", "0002-001"] {
            scene.cluster(node).nodes.truncate(1);
        }
        table(&scene.plan().1)
    };
    assert!(!scene(0).contains("meet"), "{}", scene(0));
    assert!(scene(104).contains("meet"), "{}", scene(104));
}

/// Simulator, seed 11389: the claim that Kagami ordered came before the agent's own, by an epoch that another primary had as well.
#[test]
fn p1_a_restored_primary_that_has_claimed_nothing_yet_is_ordered_to_claim_with_room_for_those_who_cannot_be_asked()
 {
    let first = |epoch: u64| {
        let mut scene = draw(&format!(
            "2x1 cluster volumes formed\n lease 0001 term 3 holder 0001-001 cause restore served\n lease 0002 holder 0002-001 served
             0001-001 primary 100 slotless epoch {epoch}\n 0002-001 primary 9"
        ));
        for node in ["0001-001", "0002-001"] {
            scene.cluster(node).nodes.truncate(1);
        }
        orders(&scene)
    };
    assert_eq!(first(0), "order 0001-001 term 3: assign 0-8191 epoch Some(104)");
    assert_eq!(first(3), "order 0001-001 term 3: assign 0-8191 epoch Some(4)");
}
