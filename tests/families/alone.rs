//! Stories that disturb machines, the operator or the apiserver, one after another: nobody else is told beside them.

use crate::support::cluster;
use crate::support::group::{clustered, replicated, spec, stored};
use crate::support::story::zones;
use crate::support::tools::throughout;
use crate::support::{Group, Keys, Sharing, Story, Writer, eventually, operator, rest, seconds, tell};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kagami_api::names;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p5_the_operator_is_killed_in_the_middle_of_a_formation_and_the_group_forms() -> Result<()> {
    tell("kill-forming", Sharing::Alone, seconds(180), async |story| {
        operator::well(story).await?;
        let group = Group::apply(story, "forming", &clustered(3, 1)).await?;
        // In the middle: from the first object to the first answers of engines, wherever the seed has it.
        eventually("the formation has begun", seconds(30), async || {
            ensure!(
                !story.api::<StatefulSet>().list(&ListParams::default()).await?.items.is_empty(),
                "nothing yet"
            );
            Ok(())
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(story.chance(3_500))).await;
        let state = crate::support::group::brief(&group.status().await?);
        operator::kill_all(story).await?;
        story.say(format!("killed while the group was: {state}"));
        group.settled(seconds(120)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(600).await?;
        keys.all_there().await?;
        operator::well(story).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p5_the_operator_is_killed_in_the_middle_of_a_failover_and_no_key_is_lost() -> Result<()> {
    tell("kill-failover", Sharing::Alone, seconds(240), async |story| {
        operator::well(story).await?;
        let group = Group::apply(story, "failing", &clustered(1, 1)).await?;
        group.settled(seconds(90)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        for round in 1..=3 {
            operator::well(story).await?;
            keys.fill(100).await?;
            let old = group.primary_of("0001").await?;
            // A failover takes milliseconds, so that three rounds with the seed's delays look for its middle.
            let delay_ms = story.chance(800);
            let (engine, operators) = futures::future::join(
                async {
                    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                    group.signal(&old, crate::support::group::ENGINE_PROCESS, "KILL").await
                },
                operator::kill_all(story),
            )
            .await;
            engine?;
            operators?;
            let began = Instant::now();
            // The status may still be the one from before: nobody is there to write another.
            group.is_replica(&old.name, seconds(120)).await?;
            group.settled(seconds(60)).await?;
            story.say(format!(
                "round {round}, {delay_ms} ms: whole again after {:.1} s",
                began.elapsed().as_secs_f64()
            ));
            keys.all_there().await?;
        }
        keys.all_there().await?;
        group.no_event("DataLost").await?;
        operator::well(story).await?;
        keys.fill(100).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p3_p6_a_frozen_operator_promotes_nobody_and_no_write_waits_for_it() -> Result<()> {
    tell("frozen", Sharing::Alone, seconds(180), async |story| {
        operator::well(story).await?;
        let group = Group::apply(story, "quiet", &clustered(1, 1)).await?;
        group.settled(seconds(60)).await?;
        let before = group.terms().await?;
        let writer = Writer::start(&group, "0001", false).await?;
        let restarts = operator::restarts(story).await?;
        let frozen = operator::freeze(story).await?;
        // Longer than any lease and any beat, shorter than the kubelet's patience with the operator.
        let kept = throughout("the engines keep their roles", seconds(15), async || {
            let mut primaries = 0;
            for node in group.nodes().await? {
                primaries += usize::from(group.view(&node).await?.primary);
            }
            ensure!(primaries == 1, "{primaries} primaries");
            Ok(())
        })
        .await;
        operator::wake(&frozen).await?;
        kept?;
        operator::well(story).await?;
        // A former leader that wakes must not act on what it last saw; its end is no crash that the kubelet would wait after.
        group.settled(seconds(30)).await?;
        let after = operator::restarts(story).await?;
        ensure!(after == restarts, "the containers were started again: {restarts:?}, then {after:?}");
        let written = writer.stop(&group, "0001").await?;
        ensure!(written.errors == 0, "P6: {} writes failed", written.errors);
        ensure!(written.longest_gap < seconds(1), "P6: no write for {} ms", written.longest_gap.as_millis());
        ensure!(
            group.terms().await? == before,
            "P3: the terms were {before:?} and are {:?}",
            group.terms().await?
        );
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_cordoned_machine_gives_up_its_primaries_before_it_is_drained() -> Result<()> {
    tell("cordon", Sharing::Alone, seconds(240), async |story| {
        operator::well(story).await?;
        let enabled = Group::apply(story, "cordoned", &clustered(1, 1)).await?;
        let plain = Group::apply(story, "cordoned-plain", &replicated(2)).await?;
        for group in [&enabled, &plain] {
            group.settled(seconds(90)).await?;
            let mut keys = Keys::of(group, 1);
            keys.fill(300).await?;
            let primary = group.primary_of("0001").await?;
            let writer = Writer::start(group, "0001", false).await?;
            let kept = TcpStream::connect((primary.ip.as_str(), names::DEFAULT_PORT)).await?;
            story.kubectl(&["cordon", &primary.machine], None, seconds(20)).await?.well("cordon")?;
            let moved = eventually("another node is the primary", seconds(20), async || {
                let now = group.primary_of("0001").await?;
                ensure!(now.name != primary.name, "it is still {}", now.name);
                Ok(now)
            })
            .await;
            story.uncordon(&primary.machine).await?;
            let moved = moved?;
            group.is_replica(&primary.name, seconds(30)).await?;
            ensure!(group.node(&primary.name).await?.pod_uid == primary.pod_uid, "its pod was replaced");
            group.settled(seconds(30)).await?;
            ensure!(group.primary_of("0001").await?.name == moved.name, "the role went back by itself");
            if group.name == plain.name {
                // Whoever came by the primary endpoint comes again, and by now it leads to the new primary.
                let closed = tokio::time::timeout(seconds(15), kept.readable()).await;
                closed.context("a client of the former primary was not closed")??;
                ensure!(kept.try_read(&mut [0; 16])? == 0, "a client of the former primary was answered");
            }
            let written = writer.stop(group, "0001").await?;
            story.say(format!(
                "{}: {} took over, the longest gap was {} ms",
                group.name,
                moved.name,
                written.longest_gap.as_millis()
            ));
            keys.all_there().await?;
        }
        Ok(())
    })
    .await
}

async fn one_budget_for_each_pod(story: &Story) -> Result<()> {
    let budgets = story.api::<PodDisruptionBudget>().list(&ListParams::default()).await?.items;
    for pod in story.api::<Pod>().list(&ListParams::default()).await?.items {
        if !pod.labels().contains_key(names::LABEL_CACHE_NODE) {
            continue;
        }
        let matching = budgets
            .iter()
            .filter(|budget| {
                let labels =
                    budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()?.match_labels.clone());
                labels.is_some_and(|labels| {
                    labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
                })
            })
            .count();
        ensure!(matching == 1, "{matching} budgets match {}", pod.name_any());
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p8_a_drain_hands_the_primary_over_and_loses_no_acknowledged_write() -> Result<()> {
    tell("drain", Sharing::Alone, seconds(240), async |story| {
        operator::well(story).await?;
        let enabled = Group::apply(story, "drained", &clustered(3, 1)).await?;
        let plain = Group::apply(story, "drained-plain", &replicated(2)).await?;
        for group in [&enabled, &plain] {
            group.settled(seconds(90)).await?;
            one_budget_for_each_pod(story).await?;
            let mut keys = Keys::of(group, 1);
            keys.fill(300).await?;
            let primary = group.primary_of("0001").await?;
            let writer = Writer::start(group, "0001", false).await?;
            let selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, group.name);
            let began = Instant::now();
            let said = story.drain(&primary.machine, &selector, seconds(60)).await;
            let took = began.elapsed();
            let new = eventually("another node is the primary", seconds(10), async || {
                let now = group.primary_of("0001").await?;
                ensure!(now.name != primary.name, "it is still {}", now.name);
                Ok(now)
            })
            .await;
            let back = story.uncordon(&primary.machine).await;
            let words = said?.well("kubectl drain")?;
            ensure!(words.contains(&format!("pod/{} evicted", primary.pod)), "{words}");
            back?;
            story.say(format!(
                "{}: drained in {:.1} s, {} took over from {}",
                group.name,
                took.as_secs_f64(),
                new?.name,
                primary.name
            ));
            group.settled(seconds(90)).await?;
            let written = writer.stop(group, "0001").await?;
            story.say(format!(
                "{}: the longest gap between writes was {} ms",
                group.name,
                written.longest_gap.as_millis()
            ));
            keys.all_there().await?;
            group.no_event("DataLost").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_lone_volatile_node_refuses_its_eviction_and_one_with_a_volume_permits_it() -> Result<()> {
    tell("lone-drain", Sharing::Alone, seconds(180), async |story| {
        operator::well(story).await?;
        let volatile = Group::apply(story, "volatile", &clustered(1, 0)).await?;
        let stored = Group::apply(story, "stored", &stored(clustered(1, 0))).await?;
        volatile.settled(seconds(60)).await?;
        stored.settled(seconds(60)).await?;
        one_budget_for_each_pod(story).await?;
        let mut kept = Keys::of(&volatile, 0);
        kept.fill(300).await?;
        let node = volatile.primary_of("0001").await?;
        let selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, volatile.name);
        let said = story.drain(&node.machine, &selector, seconds(8)).await;
        story.uncordon(&node.machine).await?;
        let said = said?;
        ensure!(!said.success, "the only copy was evicted: {}", said.out);
        ensure!(said.err.contains("disruption budget"), "{}", said.err);
        ensure!(volatile.node(&node.name).await? == node, "the pod was replaced");
        kept.all_there().await?;

        let mut keys = Keys::of(&stored, 0);
        keys.fill(300).await?;
        let node = stored.primary_of("0001").await?;
        let selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, stored.name);
        let said = story.drain(&node.machine, &selector, seconds(60)).await;
        story.uncordon(&node.machine).await?;
        said?.well("kubectl drain")?;
        eventually("the pod was replaced", seconds(60), async || {
            ensure!(stored.node(&node.name).await?.pod_uid != node.pod_uid, "not yet");
            Ok(())
        })
        .await?;
        stored.settled(seconds(90)).await?;
        keys.all_there().await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_zone_without_machines_degrades_the_group_and_heals_when_a_machine_appears() -> Result<()> {
    tell("no-zone", Sharing::Alone, seconds(300), async |story| {
        operator::well(story).await?;
        let zone = "ap-northeast-1b";
        ensure!(!zones(story).await?.values().any(|present| present == zone), "{zone} has a machine already");
        let shard = json!([{ "primaryAvailabilityZone": "ap-northeast-1a", "replicaAvailabilityZones": [zone] }]);
        let given = json!({ "clusterMode": "enabled", "numNodeGroups": 1, "replicasPerNodeGroup": 1, "nodeGroupConfiguration": shard });
        let group = Group::apply(story, "zoned", &spec(given)).await?;
        let message = group.degraded("ZoneNotFound", seconds(60)).await?;
        ensure!(message.contains(zone), "{message}");
        group.event("ZoneNotFound", seconds(30)).await?;
        let machine = "node-4";
        let added = cluster::add_machine(machine, zone).await;
        let healed = match added {
            Ok(()) => group.settled(seconds(120)).await,
            Err(error) => Err(error),
        };
        let placed = async {
            let node = group.node("zoned-0001-002").await?;
            ensure!(node.machine == machine, "{node:?}");
            let mut keys = Keys::of(&group, 1);
            keys.fill(100).await?;
            keys.all_there().await
        };
        let placed = if healed.is_ok() { placed.await } else { Ok(()) };
        // The group goes before its machine does.
        if healed.is_ok() {
            group.api().delete(&group.name, &Default::default()).await?;
            eventually("no pod of the group is left", seconds(60), async || {
                ensure!(group.nodes().await?.is_empty(), "there are some");
                Ok(())
            })
            .await?;
        }
        if !healed.as_ref().is_err_and(|error| error.is::<cluster::CannotDo>()) {
            cluster::remove_machine(machine).await?;
        }
        healed?;
        placed
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p3_the_apiserver_is_away_for_a_moment_and_nobody_is_promoted_and_no_write_is_lost() -> Result<()> {
    tell("apiserver", Sharing::Alone, seconds(240), async |story| {
        operator::well(story).await?;
        let group = Group::apply(story, "served", &clustered(1, 1)).await?;
        group.settled(seconds(60)).await?;
        let before = group.terms().await?;
        let writer = Writer::start(&group, "0001", false).await?;
        let restarted = cluster::restart_apiserver().await;
        let settled = group.settled(seconds(90)).await;
        let written = writer.stop(&group, "0001").await;
        restarted?;
        settled?;
        let written = written?;
        ensure!(written.errors == 0, "{} writes failed: {}", written.errors, written.last_error);
        ensure!(written.longest_gap < seconds(1), "no write for {} ms", written.longest_gap.as_millis());
        operator::well(story).await?;
        ensure!(
            group.terms().await? == before,
            "P3: the terms were {before:?} and are {:?}",
            group.terms().await?
        );
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p4_at_rest_nothing_is_written() -> Result<()> {
    tell("rest", Sharing::Alone, seconds(240), async |story| {
        let enabled = Group::apply(story, "enabled", &stored(clustered(2, 1))).await?;
        let plain = replicated(2);
        let disabled = Group::apply(story, "disabled", &plain).await?;
        enabled.settled(seconds(120)).await?;
        disabled.settled(seconds(60)).await?;
        rest::still(story, seconds(2), seconds(60)).await?;
        let before = rest::versions(story).await?;
        for kind in [
            "ReplicationGroup/",
            "StatefulSet/",
            "Pod/",
            "Service/",
            "EndpointSlice/",
            "Lease/",
            "PodDisruptionBudget/",
        ] {
            ensure!(before.keys().any(|key| key.starts_with(kind)), "no {kind} in {:?}", before.keys());
        }
        throughout("nothing is written", seconds(20), async || {
            let now = rest::versions(story).await?;
            let changed = rest::changed(&before, &now);
            ensure!(changed.is_empty(), "P4: written at rest: {changed:?}");
            Ok(())
        })
        .await
    })
    .await
}
