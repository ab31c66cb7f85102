//! What is put right in a group that serves, and what is left as it is.

mod support;

use kagami_protocol::ClusterNode;
use support::{assert_plan, draw, engine_id, table};

#[test]
fn a_replica_of_a_replica_is_told_to_follow_the_primary() {
    let chain = "lease 0001 holder 0001-001 served
         0001-001 primary 100\n 0001-002 replica 100 of 0001-001\n 0001-003 replica 100 of 0001-002";
    assert_plan(&draw(&format!("1x3 plain formed\n {chain}")), "order 0001-003 term 1: replicate 10.0.1.1");
    let mut scene = draw(&format!("1x3 cluster formed\n {chain}"));
    let lines = &mut scene.cluster("0001-003").nodes;
    let mine = lines.iter_mut().find(|line| line.myself).unwrap();
    mine.primary_id = Some(engine_id("g-0001-002", 1));
    assert_plan(&scene, "order 0001-003 term 1: replicate 10.0.1.1");
}

#[test]
fn a_foreign_node_is_forgotten_unless_it_owns_slots() {
    for (slots, forgotten) in [(Vec::new(), true), (vec![(0, 99)], false)] {
        let mut scene = draw("1x1 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9");
        scene.cluster("0001-001").nodes.push(ClusterNode {
            id: "foreign".into(),
            host: "10.9.9.9".into(),
            primary: true,
            slots,
            ..Default::default()
        });
        let planned = table(&scene.plan().1);
        assert_eq!(planned.contains("forget 1"), forgotten, "{planned}");
    }
}

#[test]
fn an_engine_that_does_not_answer_its_agent_is_unknown_and_not_down() {
    for mode in ["plain", "cluster"] {
        let scene = draw(&format!(
            "1x2 {mode} formed\n lease 0001 holder 0001-001 served\n 0001-001 mute\n 0001-002 replica 100 of 0001-001"
        ));
        let planned = table(&scene.plan().1);
        assert_eq!(planned, "wait NodeUnknown 0001-001", "{mode}");
    }
}
