//! What holds for every state, and that plans lead somewhere from every one that the model can reach.

mod support;

use support::desired;
use support::model::World;

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
