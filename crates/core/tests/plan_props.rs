//! What holds for every state, and that plans lead somewhere from every one that the model can reach.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use kagami_core::check::check;
use kagami_core::observed::{Agent, Observed, is_primary};
use kagami_core::plan::Act;
use kagami_protocol::{Command, EngineView};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::model::World;
use support::{Scene, bare, desired};

fn shapes() -> Vec<(String, bool, bool)> {
    let mut shapes = Vec::new();
    for volumes in [false, true] {
        for nodes in 1..=3 {
            shapes.push((format!("1x{nodes}"), false, volumes));
            for shards in 1..=3 {
                shapes.push((format!("{shards}x{nodes}"), true, volumes));
            }
        }
    }
    shapes
}

fn born(shape: &str, cluster: bool, volumes: bool) -> World {
    let mut world = World::new(desired(shape, cluster, volumes));
    world.converge(20);
    world
}

#[test]
fn every_shape_is_born_and_then_rests() {
    for (shape, cluster, volumes) in shapes() {
        let mut world = World::new(desired(&shape, cluster, volumes));
        let cycles = world.converge(20);
        println!("{shape} cluster={cluster} volumes={volumes}: {cycles} cycles");
        for _ in 0..3 {
            world.cycle();
            assert!(world.last_plan.is_met(), "{shape}:\n{}", world.last_plan);
        }
    }
}

#[test]
fn every_subset_of_engines_may_die() {
    for (shape, cluster, volumes) in shapes() {
        let world_at_rest = born(&shape, cluster, volumes);
        let names: Vec<String> = world_at_rest.nodes.keys().cloned().collect();
        // All subsets of the small shapes; of the large ones a few, spread over all sizes.
        let subsets = 1u32 << names.len();
        for subset in (1..subsets)
            .filter(|subset| subsets <= 16 || subset % (subsets / 8 + 3) == 1 || *subset == subsets - 1)
        {
            let mut world = world_at_rest.clone();
            let before = world.acknowledged.clone();
            let killed: Vec<&String> = names
                .iter()
                .enumerate()
                .filter(|(index, _)| subset >> index & 1 == 1)
                .map(|(_, name)| name)
                .collect();
            for name in &killed {
                world.kill_engine(name);
            }
            world.converge(60);
            for (shard, writes) in &before {
                let left = names.iter().any(|name| world.shard_of(name) == shard && !killed.contains(&name));
                let kept = writes.iter().all(|write| world.served(shard).contains(write));
                let told =
                    world.events.iter().any(|event| event.starts_with("DataLost") && event.contains(shard));
                assert_eq!(kept, left || volumes, "{shape} {killed:?}: node group {shard}");
                assert_eq!(told, !kept, "{shape} {killed:?}: node group {shard}: {:?}", world.events);
            }
        }
    }
}

#[test]
fn pods_that_come_back_elsewhere_are_taken_in_whether_their_end_was_seen_or_not() {
    for (shape, cluster, volumes) in
        [("1x2", false, false), ("1x3", false, true), ("1x2", true, false), ("3x2", true, true)]
    {
        let rested = born(shape, cluster, volumes);
        let names: Vec<String> = rested.nodes.keys().cloned().collect();
        for seen in [true, false] {
            for name in &names {
                let mut world = rested.clone();
                world.kill_pod(name, seen);
                world.converge(100);
                for (shard, writes) in &rested.acknowledged {
                    assert!(
                        writes.iter().all(|write| world.served(shard).contains(write)),
                        "{shape} {name} seen={seen}"
                    );
                }
            }
            let mut world = rested.clone();
            for name in &names {
                world.kill_pod(name, seen);
            }
            world.converge(1_000);
            for (shard, writes) in &rested.acknowledged {
                let kept = writes.iter().all(|write| world.served(shard).contains(write));
                assert_eq!(kept, volumes, "{shape} all seen={seen} node group {shard}");
            }
        }
    }
}

#[test]
fn a_primary_hands_over_before_it_goes_and_nothing_is_lost() {
    for (shape, cluster) in [("1x2", false), ("1x3", false), ("1x2", true), ("3x2", true)] {
        let mut world = born(shape, cluster, false);
        world.terminate("g-0001-001");
        for _ in 0..4 {
            world.cycle();
        }
        assert!(
            world.events.iter().any(|event| event.contains("Failover from primary node g-0001-001")),
            "{:?}",
            world.events
        );
        let before = world.acknowledged["0001"].clone();
        world.kill_pod("g-0001-001", true);
        world.converge(20);
        assert!(before.iter().all(|write| world.served("0001").contains(write)));
        assert!(!world.events.iter().any(|event| event.starts_with("DataLost")));
    }
}

/// One node, as a line of a drawing without its name.
fn node_line(shard: usize, nodes: usize, cluster: bool) -> impl Strategy<Value = String> {
    let primary = (0..200i64, any::<bool>()).prop_map(move |(offset, slotless)| {
        format!("primary {offset}{}", if slotless && cluster { " slotless" } else { "" })
    });
    let link = prop_oneof![
        3 => Just(String::new()),
        1 => Just(" syncing".to_owned()),
        1 => Just(" loading".to_owned()),
        1 => Just(" down 5 incomplete".to_owned()),
        2 => (0..6000u64).prop_map(|ms| format!(" down {ms}")),
    ];
    let replica = (0..200i64, 1..=nodes, link)
        .prop_map(move |(offset, of, link)| format!("replica {offset} of {shard:04}-{of:03}{link}"));
    let data = (1..5u64, 0..200i64, any::<bool>()).prop_map(|(term, offset, torn)| {
        format!("parked data {term} {offset}{}", if torn { " torn" } else { "" })
    });
    let engine = prop_oneof![
        3 => primary,
        4 => replica,
        2 => Just("parked".to_owned()),
        1 => data,
        1 => Just("starting".to_owned()),
        1 => Just("mute".to_owned()),
        1 => (9_000..70_000u64, any::<bool>(), 0..200i64).prop_map(|(ms, primary, offset)| {
            format!("hung {ms} {} {offset}", if primary { "primary" } else { "replica" })
        }),
    ];
    let pod = prop_oneof![
        8 => Just(""),
        1 => Just(" deleting"),
        1 => Just(" terminated"),
        1 => Just(" notready"),
        1 => Just(" young"),
        1 => Just(" uid other"),
    ];
    let agent = prop_oneof![
        8 => Just(String::new()),
        2 => (0..90_000u64).prop_map(|ms| format!(" silent {ms}")),
        1 => Just(" unheard".to_owned()),
        1 => Just(" nopod".to_owned()),
        1 => Just(" unplaced".to_owned()),
        1 => Just(" terminating".to_owned()),
        1 => Just(" fenced".to_owned()),
        1 => Just(" trouble words".to_owned()),
    ];
    let data = prop_oneof![
        3 => Just(String::new()),
        2 => (1..6u64, 0..200i64).prop_map(|(term, offset)| format!(" data {term} {offset}")),
        1 => (1..6u64, 0..200i64).prop_map(|(term, offset)| format!(" data {term} {offset} was-primary")),
        1 => (1..6u64, 0..200i64).prop_map(|(term, offset)| format!(" data {term} {offset} unwritten")),
        1 => (1..6u64, 0..200i64).prop_map(|(term, offset)| format!(" data {term} {offset} unloadable")),
    ];
    let word =
        prop_oneof![6 => Just(""), 1 => Just(" use"), 1 => Just(" put-aside"), 1 => Just(" old-agent")];
    let history = prop_oneof![2 => Just(""), 1 => Just(" foreign")];
    (engine, 1..3u32, 0..6u64, pod, agent, data, (word, history), prop::option::of(0..3u64)).prop_map(
        |(engine, run, term, pod, agent, data, (word, history), keys)| {
            let keys = keys.filter(|_| engine.starts_with("primary") || engine.starts_with("replica"));
            let keys = keys.map_or_else(String::new, |keys| format!(" keys {keys}{history}"));
            let data = if engine.contains("data") { "" } else { &data };
            format!("{engine} boot {run} term {term}{keys}{data}{pod}{agent}{word}")
        },
    )
}

fn lease_line(shard: usize, nodes: usize) -> impl Strategy<Value = String> {
    let cause =
        prop::sample::select(vec!["birth", "death", "silence", "handover", "restore", "empty", "adopted"]);
    // What an agent reports is never older than what a lease was raised for.
    let previous = prop::option::of((1..=nodes, Just(1u32)));
    let reborn = prop_oneof![
        3 => Just(String::new()),
        1 => (1..6u64).prop_map(|term| format!(" reborn {term}")),
        1 => (1..6u64, 1..6u64, 0..200i64).prop_map(|(term, of, offset)| format!(" reborn {term} from {of} {offset}")),
        1 => (1..6u64, 1..6u64, 1..6u64, 0..200i64)
            .prop_map(|(term, to, of, offset)| format!(" reborn {term} returned {to} {of} {offset}")),
    ];
    (1..6u64, 1..=nodes, Just(1u32), previous, cause, 0..6_000i64, any::<bool>(), reborn).prop_map(
        move |(term, holder, run, previous, cause, since, served, reborn)| {
            let previous = previous.filter(|(node, of)| (*node, *of) != (holder, run)).map_or_else(String::new, |(node, run)| {
                format!(" previous {shard:04}-{node:03}/{run}")
            });
            let served = if served { " served" } else { "" };
            format!("lease {shard:04} term {term} holder {shard:04}-{holder:03}/{run}{previous} cause {cause} since {since}{served}{reborn}")
        },
    )
}

fn drawing() -> impl Strategy<Value = String> {
    (1..=3usize, 1..=3usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_flat_map(
        |(shards, nodes, cluster, volumes, formed)| {
            let shards = if cluster { shards } else { 1 };
            let each: Vec<_> = (1..=shards)
                .map(|shard| {
                    let lines: Vec<_> = (1..=nodes).map(|_| node_line(shard, nodes, cluster)).collect();
                    (prop::option::weighted(0.85, lease_line(shard, nodes)), lines)
                })
                .collect();
            let machine = prop_oneof![6 => Just(""), 2 => Just("notready"), 1 => Just("out-of-service"), 1 => Just("cordoned")];
            let watching = prop::sample::select(vec![0u64, 2_000, 10_000, 600_000]);
            (each, prop::collection::vec(machine, 3), watching).prop_map(move |(each, machines, watching)| {
                let mode = if cluster { "cluster" } else { "plain" };
                let mut text = format!(
                    "{shards}x{nodes} {mode}{}{}\nwatching {watching}\n",
                    if volumes { " volumes" } else { "" },
                    if formed { " formed" } else { "" }
                );
                for (index, machine) in machines.iter().enumerate() {
                    text.push_str(&format!("machine m{} {machine}\n", index + 1));
                }
                for (shard, (lease, lines)) in each.into_iter().enumerate() {
                    text.extend(lease.map(|lease| format!("{lease}\n")));
                    for (node, line) in lines.into_iter().enumerate() {
                        text.push_str(&format!("{:04}-{:03} {line}\n", shard + 1, node + 1));
                    }
                }
                text
            })
        },
    )
}

fn whole(engine: &EngineView) -> bool {
    engine.complete && !engine.loading
}

/// A whole copy on a volume, which may be the better one; the check says when.
fn has_volume(observed: &Observed, node: &str) -> bool {
    let report = observed.parked(node);
    report.is_some_and(|report| {
        report.record.as_ref().is_some_and(|record| record.complete && record.failed_loads == 0)
    })
}

fn up(observed: &Observed, node: &str) -> bool {
    observed.nodes.get(node).is_some_and(|seen| matches!(seen.agent, Agent::Up(_)))
}

fn assert_well_behaved(scene: &Scene) -> Result<(), TestCaseError> {
    let (frozen, plan) = scene.plan();
    let notes = check(&frozen.desired, &scene.observed, &plan);
    prop_assert!(notes.is_empty(), "{notes:?}\n{plan}");
    prop_assert_eq!(plan.to_string(), scene.plan().1.to_string(), "the same question has the same answer");
    prop_assert_eq!(plan.is_met(), plan.to_string().is_empty());
    let shard_of: BTreeMap<&str, &str> =
        frozen.desired.nodes().map(|(shard, node)| (node.name.as_str(), shard.id.as_str())).collect();
    let mut disturbed: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &plan.steps {
        let node = match &step.act {
            Act::Order { node, boot, .. } => {
                prop_assert!(up(&scene.observed, node), "{node} is ordered and is not heard");
                prop_assert_eq!(scene.observed.report(node).map(|report| &report.boot), Some(boot));
                node
            }
            Act::HandOver(hand) => {
                prop_assert!(up(&scene.observed, &hand.from) && up(&scene.observed, &hand.to));
                &hand.to
            }
            Act::RaiseTerm(raise) => {
                let before = scene.observed.leases.get(&raise.shard);
                prop_assert!(
                    before.is_none_or(|lease| raise.term > lease.term),
                    "the term goes back:\n{plan}"
                );
                let others = frozen.desired.nodes().filter(|(shard, _)| shard.id == raise.shard);
                let holds = |node: &str| scene.observed.engine(node).is_some_and(whole);
                prop_assert!(
                    holds(&raise.holder)
                        || has_volume(&scene.observed, &raise.holder)
                        || !others.into_iter().any(|(_, node)| holds(&node.name)),
                    "P1: {} is made the holder and holds nothing:\n{plan}",
                    raise.holder
                );
                for (_, node) in frozen.desired.nodes().filter(|(shard, _)| shard.id == raise.shard) {
                    let seen = scene.observed.report(&node.name).map_or(0, |report| report.term);
                    prop_assert!(raise.term > seen, "{} has seen term {seen}:\n{plan}", node.name);
                }
                continue;
            }
            _ => continue,
        };
        if let Act::Order { command, .. } = &step.act
            && matches!(**command, Command::Promote { .. })
        {
            let rival = frozen.desired.nodes().find(|(shard, other)| {
                shard_of.get(node.as_str()) == Some(&shard.id.as_str())
                    && other.name != *node
                    && scene.observed.engine(&other.name).is_some_and(is_primary)
                    && scene.observed.report(&other.name).is_some_and(|report| !report.fenced)
            });
            prop_assert!(rival.is_none(), "P2: {node} is promoted beside {}:\n{plan}", rival.unwrap().1.name);
        }
        if step.act.disruptive() {
            *disturbed.entry(shard_of.get(node.as_str()).copied().unwrap_or_default()).or_default() += 1;
        }
        if let Act::Order { command, .. } = &step.act
            && let Command::Start(start) = &**command
        {
            prop_assert!(!start.directives.is_empty() && start.announce.host == support::ip(node));
        }
    }
    prop_assert!(disturbed.values().all(|count| *count == 1), "{disturbed:?}:\n{plan}");
    Ok(())
}

/// A few with every change, and as many as one likes by hand.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_state_makes_a_plan_that_breaks_a_promise(text in drawing()) {
        let mut scene = bare(&text);
        assert_well_behaved(&scene)?;
        scene.world_is_met();
        assert_well_behaved(&scene)?;
    }
}
