//! Groups of other shapes than the seed's, and where their nodes go.

use crate::support::engine::Reply;
use crate::support::group::{clustered, spec};
use crate::support::story::zones;
use crate::support::{Group, Keys, Sharing, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn with_cluster_mode_disabled_the_primary_endpoint_takes_writes_and_the_reader_endpoint_reads()
-> Result<()> {
    tell("endpoints", Sharing::SideBySide, seconds(180), async |story| {
        let mode = json!({ "numCacheClusters": 3, "automaticFailoverEnabled": true, "multiAZEnabled": true });
        let group = Group::apply(story, "plain", &spec(mode)).await?;
        story.client_pod("client", &json!({})).await?;
        group.settled(seconds(90)).await?;
        let status = group.status().await?;
        ensure!(status.configuration_end_point.is_none(), "cluster mode is disabled");
        let primary_endpoint = status.primary_end_point.context("no primaryEndPoint")?.address;
        let reader_endpoint = status.reader_end_point.context("no readerEndPoint")?.address;
        ensure!(
            status.read_end_point.context("no readEndPoint")?.addresses.len() == 3,
            "a read endpoint for each node"
        );
        let cli = async |host: &str, words: &[&str]| {
            let mut command = vec!["redis-cli", "-h", host];
            command.extend(words);
            story.in_pod("client", &command).await
        };
        let primary = group.primary_of("0001").await?;
        // One look is one visit to the pod: on a busy machine each takes seconds.
        let look = r#"redis-cli -h "$1" SET "$3" "by the primary endpoint"; redis-cli -h "$1" ROLE | head -n 1
            for _ in 1 2 3 4; do redis-cli -h "$2" ROLE | head -n 1; done
            redis-cli -h "$2" GET "$3"; redis-cli -h "$2" SET "$3" x"#;
        let answers = async |key: &str| {
            eventually("the endpoints do what they are for", seconds(20), async || {
                let command = ["sh", "-c", look, "-", &primary_endpoint, &reader_endpoint, key];
                let answer = story.in_pod("client", &command).await?;
                let lines: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).collect();
                let [set, led, readers @ .., got, refusal] = &lines[..] else { anyhow::bail!("{answer}") };
                ensure!(*set == "OK", "SET: {set}");
                ensure!(led.starts_with("master"), "the primary endpoint leads to a {led}");
                ensure!(readers.len() == 4, "{answer}");
                for role in readers {
                    ensure!(role.starts_with("slave"), "the reader endpoint leads to a {role}");
                }
                ensure!(*got == "by the primary endpoint", "GET at the reader endpoint: {got}");
                ensure!(refusal.contains("READONLY"), "{refusal}");
                Ok(())
            })
            .await
        };
        answers("before").await?;

        // And after a failover the same names lead to the new roles.
        crate::support::Kill::Engine.strike(&group, &primary).await?;
        answers("after").await?;
        let new = group.primary_of("0001").await?;
        ensure!(new.name != primary.name, "{} came back as the primary", primary.name);
        group.is_replica(&primary.name, seconds(60)).await?;
        ensure!(
            cli(&primary_endpoint, &["GET", "before"]).await? == "by the primary endpoint",
            "the key from before"
        );
        let machines = zones(story).await?;
        let nodes = group.nodes().await?;
        let used: BTreeSet<&String> = nodes.iter().filter_map(|node| machines.get(&node.machine)).collect();
        ensure!(used.len() > 1, "P8: all copies are in {used:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p8_the_copies_of_each_of_three_shards_stand_in_different_zones() -> Result<()> {
    tell("zones", Sharing::SideBySide, seconds(180), async |story| {
        let mut spec = clustered(3, 1);
        spec["multiAZEnabled"] = json!(true);
        let group = Group::apply(story, "spread", &spec).await?;
        group.settled(seconds(90)).await?;
        let spread = async || {
            let machines = zones(story).await?;
            let nodes = group.nodes().await?;
            ensure!(nodes.len() == 6, "{} nodes", nodes.len());
            let mut primaries = BTreeSet::new();
            for shard in group.shards().await? {
                let used: BTreeSet<&String> = nodes
                    .iter()
                    .filter(|node| node.shard == shard)
                    .filter_map(|node| machines.get(&node.machine))
                    .collect();
                ensure!(used.len() == 2, "P8: the copies of {shard} are in {used:?}");
                primaries.insert(machines[&group.primary_of(&shard).await?.machine].clone());
            }
            Ok(primaries)
        };
        let primaries = spread().await?;
        ensure!(
            primaries.len() == 3,
            "the primaries stand in {primaries:?}, so that one zone's loss takes a majority"
        );
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;

        // A node that is replaced comes back to its own zone.
        let node = group.primary_of("0002").await?;
        story
            .kubectl(&["delete", "pod", &node.pod, "--wait=false"], None, seconds(20))
            .await?
            .well("deleting a pod")?;
        eventually("the pod was replaced", seconds(60), async || {
            ensure!(group.node(&node.name).await?.pod_uid != node.pod_uid, "the old one is still there");
            Ok(())
        })
        .await?;
        group.settled(seconds(60)).await?;
        spread().await?;
        keys.all_there().await?;
        let answers = group.primary_of("0002").await?;
        ensure!(
            answers.name != node.name,
            "a primary hands over before it goes, and the node that came back is a replica"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn one_shard_with_one_node_serves() -> Result<()> {
    tell("one-by-one", Sharing::SideBySide, seconds(120), async |story| {
        let group = Group::apply(story, "lone", &clustered(1, 0)).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 0);
        keys.fill(500).await?;
        keys.all_there().await?;
        let plain = Group::apply(story, "lone-plain", &spec(json!({ "numCacheClusters": 1 }))).await?;
        plain.settled(seconds(60)).await?;
        let mut keys = Keys::of(&plain, 0);
        keys.fill(500).await?;
        keys.all_there().await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn six_shards_share_all_slots() -> Result<()> {
    tell("six-shards", Sharing::SideBySide, seconds(180), async |story| {
        let mut spec = clustered(6, 1);
        spec["engine"] = json!("valkey");
        spec["engineVersion"] = json!("8.1");
        let group = Group::apply(story, "six", &spec).await?;
        group.settled(seconds(120)).await?;
        let mut slots = 0;
        for shard in group.shards().await? {
            let primary = group.primary_of(&shard).await?;
            slots += group
                .view(&primary)
                .await?
                .slots
                .iter()
                .map(|(from, to)| u32::from(to - from) + 1)
                .sum::<u32>();
        }
        ensure!(slots == 16_384, "{slots} slots have an owner");
        for node in group.nodes().await? {
            let mut connection = group.connect(&node).await?;
            let text = connection.command(&["CLUSTER", "INFO"]).await?.text()?;
            ensure!(
                text.contains("cluster_state:ok") && text.contains("cluster_known_nodes:12"),
                "{}: {text}",
                node.name
            );
        }
        let mut keys = Keys::of(&group, 1);
        keys.fill(2_000).await?;
        keys.all_there().await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn the_slots_that_are_asked_for_are_the_slots_that_are_served() -> Result<()> {
    tell("own-slots", Sharing::SideBySide, seconds(120), async |story| {
        let shards = json!([{ "slots": "0-99,16000-16383" }, { "slots": "100-15999" }]);
        let given = json!({ "clusterMode": "enabled", "numNodeGroups": 2, "replicasPerNodeGroup": 0, "nodeGroupConfiguration": shards });
        let group = Group::apply(story, "slots", &spec(given)).await?;
        group.settled(seconds(60)).await?;
        let first = group.view(&group.primary_of("0001").await?).await?.slots;
        let second = group.view(&group.primary_of("0002").await?).await?.slots;
        ensure!(first == [(0, 99), (16_000, 16_383)] && second == [(100, 15_999)], "{first:?} {second:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn the_parameters_of_a_parameter_group_reach_the_engine() -> Result<()> {
    tell("parameters", Sharing::SideBySide, seconds(120), async |story| {
        let parameters = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ParameterGroup", "metadata": { "name": "mine" },
            "spec": { "cacheParameterGroupFamily": "redis7", "description": "a story's",
                "properties": { "maxmemory-policy": "allkeys-lfu", "notify-keyspace-events": "Ex", "timeout": "7200" } } });
        story.apply_ours::<kagami_api::v1alpha1::ParameterGroup>("mine", &parameters).await?;
        let mut spec = clustered(1, 1);
        spec["cacheParameterGroupName"] = json!("mine");
        spec.as_object_mut().context("a spec")?.remove("clusterMode");
        spec["numNodeGroups"] = json!(1);
        spec["cacheParameterGroupName"] = json!("mine");
        let group = Group::apply(story, "tuned", &spec).await?;
        group.settled(seconds(60)).await?;
        for node in group.nodes().await? {
            let mut connection = group.connect(&node).await?;
            let memory = connection.info("memory").await?;
            ensure!(memory.get("maxmemory_policy").is_some_and(|policy| policy == "allkeys-lfu"), "{memory:?}");
            let limit: i64 = memory.get("maxmemory").context("no maxmemory")?.parse()?;
            ensure!(limit > 0, "maxmemory is not set");
            // Parameters that INFO does not show are seen by what they do: nobody but the agent may ask CONFIG.
            ensure!(matches!(connection.command(&["CONFIG", "GET", "*"]).await?, Reply::Error(_)), "CONFIG is restricted");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn ten_groups_applied_at_once_come_up() -> Result<()> {
    tell("ten-groups", Sharing::SideBySide, seconds(240), async |story| {
        let names: Vec<String> = (1..=10).map(|n| format!("ten-{n:02}")).collect();
        let spec = clustered(1, 1);
        let groups =
            futures::future::try_join_all(names.iter().map(|name| Group::apply(story, name, &spec))).await?;
        let took =
            futures::future::try_join_all(groups.iter().map(|group| group.settled(seconds(200)))).await?;
        let slowest = took.iter().max().context("no groups")?;
        story.say(format!("ten groups are available after {:.1} s", slowest.as_secs_f64()));
        for group in &groups {
            let mut keys = Keys::of(group, 1);
            keys.fill(50).await?;
            keys.all_there().await?;
        }
        Ok(())
    })
    .await
}
