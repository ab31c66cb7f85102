//! Parameters of engines that run: what is planned when a parameter group changes.

mod support;

use kagami_core::engine;
use kagami_core::plan::Act;
use kagami_protocol::{Command, Config};
use support::{Scene, assert_plan, draw};

const PAIR: &str = "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9\n 0001-002 replica 9 of 0001-001";

/// Both nodes run with what was wanted when they were started.
fn settled() -> Scene {
    let mut scene = draw(PAIR);
    let config = engine::config(&scene.desired).1;
    for node in ["0001-001", "0001-002"] {
        scene.report(node).config = Some(config.clone());
    }
    scene
}

fn set(scene: &mut Scene, name: &str, value: &str) {
    scene.desired.parameters.insert(name.into(), value.into());
    scene.world_is_met();
}

#[test]
fn a_parameter_of_a_running_group_is_set_on_every_node() {
    let mut scene = settled();
    assert_plan(&scene, "");
    set(&mut scene, "maxmemory-policy", "allkeys-lru");
    set(&mut scene, "client-output-buffer-limit normal", "1 2 3");
    let (_, plan) = scene.plan();
    let orders: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.act {
            Act::Order { node, command, .. } => match &**command {
                Command::Configure { directives, config } => Some((node, directives, config.clone())),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(orders.len(), 2);
    for (_, directives, config) in &orders {
        assert_eq!(directives["maxmemory-policy"], "allkeys-lru");
        // Every class at once, as CONFIG SET takes them, and nothing in the quotes of a file.
        let limits = &directives["client-output-buffer-limit"];
        assert!(limits.starts_with("normal 1 2 3 pubsub ") && limits.contains(" replica "), "{limits}");
        assert_eq!(directives["notify-keyspace-events"], "");
        assert!(!directives.keys().any(|name| name.contains(' ') || name == "port" || name == "databases"));
        assert_eq!(config.as_ref().unwrap().running, engine::config(&scene.desired).1.running);
    }
    for node in ["0001-001", "0001-002"] {
        scene.report(node).config = Some(engine::config(&scene.desired).1);
    }
    assert_plan(&scene, "");
}

#[test]
fn a_parameter_that_needs_a_new_start_is_pending_until_then() {
    let mut scene = settled();
    set(&mut scene, "databases", "32");
    assert_plan(&scene, "wait PendingReboot cacheParameterGroupName");
    assert_eq!(scene.plan().0.pending[0].property, "cacheParameterGroupName");
    assert!(scene.plan().0.pending[0].message.starts_with("databases of default.valkey8 takes effect"));
    for node in ["0001-001", "0001-002"] {
        scene.report(node).config = Some(engine::config(&scene.desired).1);
    }
    assert_plan(&scene, "");
}

#[test]
fn an_agent_that_does_not_say_what_runs_is_left_alone() {
    let mut scene = draw(PAIR);
    set(&mut scene, "maxmemory-policy", "allkeys-lru");
    assert_plan(&scene, "");
    scene.report("0001-001").config =
        Some(Config { running: "other".into(), ..engine::config(&scene.desired).1 });
    let planned = support::table(&scene.plan().1);
    assert!(
        planned.starts_with("order 0001-001 term 1: configure ") && planned.lines().count() == 1,
        "{planned}"
    );
}
