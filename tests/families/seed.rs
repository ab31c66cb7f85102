//! The walk-through of the article behind the reference template, step by step.

use crate::support::engine::slot;
use crate::support::story::zones;
use crate::support::tools::run;
use crate::support::{Group, Sharing, Story, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value, json};

/// The manifests that the converter makes of the seed's template.
async fn converted() -> Result<Vec<Value>> {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/seed.yaml");
    let said = run(
        env!("CARGO_BIN_EXE_kagami"),
        &["convert", "--region", "ap-northeast-1", template],
        None,
        seconds(20),
    )
    .await?;
    let text = said.well("kagami convert examples/seed.yaml")?;
    let documents = text.split("\n---").filter(|part| part.lines().any(|line| line.starts_with("kind:")));
    documents
        .map(|part| serde_saphyr::from_str(part.trim_start_matches("---")).context("a manifest"))
        .collect()
}

async fn redis_cli(story: &Story, host: &str, port: u16, words: &[&str]) -> Result<String> {
    let port = port.to_string();
    let mut command = vec!["redis-cli", "-h", host, "-p", &port];
    command.extend(words);
    story.in_pod("client", &command).await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn the_seed_template_becomes_a_group_that_answers_as_the_article_shows() -> Result<()> {
    tell("seed", Sharing::SideBySide, seconds(150), async |story| {
        let manifests = converted().await?;
        let group =
            manifests.iter().find(|object| object["kind"] == "ReplicationGroup").context("no group")?;
        let name = group["metadata"]["name"].as_str().context("no name")?.to_owned();
        let spec = group["spec"].clone();
        ensure!(
            spec["engineVersion"] == "6.2"
                && spec["cacheParameterGroupName"] == "default.redis6.x.cluster.on",
            "{spec}"
        );
        let yaml: Vec<String> = manifests.iter().map(Value::to_string).collect();
        story
            .kubectl(&["apply", "-f", "-"], Some(&yaml.join("\n---\n")), seconds(20))
            .await?
            .well("kubectl apply of the converted manifests")?;
        let port = spec["port"].as_u64().unwrap_or(6379).try_into()?;
        let group = Group { story, name, port };

        // The client bears what the security group lets in.
        let mut labels = Map::new();
        for object in manifests.iter().filter(|object| object["kind"] == "SecurityGroup") {
            for rule in object["spec"]["ingress"].as_array().into_iter().flatten() {
                if let Some(own) = rule["from"]["podSelector"]["matchLabels"].as_object() {
                    labels.extend(own.clone());
                }
            }
        }
        story.client_pod("client", &Value::Object(labels)).await?;
        group.settled(seconds(60)).await?;

        let nodes = group.nodes().await?;
        ensure!(nodes.len() == 2, "{nodes:?}");
        let machines = zones(story).await?;
        let placed: Vec<&str> = nodes.iter().map(|node| machines[&node.machine].as_str()).collect();
        ensure!(placed == ["ap-northeast-1a", "ap-northeast-1d"], "the zones are {placed:?}");

        let status = group.status().await?;
        let endpoint = status.configuration_end_point.context("no configurationEndPoint")?;
        ensure!(endpoint.port == port.to_string(), "{endpoint:?}");
        let mut ips: Vec<String> = nodes.iter().map(|node| node.ip.clone()).collect();
        ips.sort();
        eventually("the configuration endpoint resolves to both nodes", seconds(20), async || {
            let found = story.resolve("client", &endpoint.address).await?;
            ensure!(found == ips, "{found:?}");
            Ok(())
        })
        .await?;
        for member in &status.node_groups[0].node_group_members {
            let name = &member.read_endpoint.as_ref().context("a member without endpoint")?.address;
            let node =
                nodes.iter().find(|node| node.name == member.cache_cluster_id).context("no such node")?;
            let found = story.resolve("client", name).await?;
            ensure!(found == [node.ip.clone()], "{name} resolves to {found:?} and not to {}", node.ip);
        }
        let variables: ConfigMap = story.api().get(&format!("{}-endpoints", group.name)).await?;
        let data = variables.data.unwrap_or_default();
        ensure!(data.get("CONFIGURATION_ENDPOINT_ADDRESS") == Some(&endpoint.address), "{data:?}");
        ensure!(data.get("REDIS_PORT") == Some(&endpoint.port), "{data:?}");

        ensure!(
            redis_cli(story, &endpoint.address, port, &["-c", "SET", "hoge", "foo"]).await? == "OK",
            "SET"
        );
        ensure!(redis_cli(story, &endpoint.address, port, &["-c", "GET", "hoge"]).await? == "foo", "GET");
        let primary = group.primary_of("0001").await?;
        let replica = group.replicas_of("0001").await?.pop().context("no replica")?;
        let answer = redis_cli(story, &replica.ip, port, &["GET", "hoge"]).await?;
        let expected = format!("MOVED {} {}:{port}", slot("hoge"), primary.ip);
        ensure!(answer.contains(&expected), "the replica answers {answer}, not {expected}");
        ensure!(redis_cli(story, &primary.ip, port, &["GET", "hoge"]).await? == "foo", "GET at the primary");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_client_may_not_run_what_elasticache_restricts() -> Result<()> {
    tell("restricted-commands", Sharing::SideBySide, seconds(120), async |story| {
        let spec = crate::support::group::spec(json!({ "engineVersion": "6.2", "clusterMode": "enabled" }));
        let group = Group::apply(story, "restricted", &spec).await?;
        group.settled(seconds(60)).await?;
        let node = group.primary_of("0001").await?;
        for words in [
            &["CONFIG", "SET", "maxmemory", "0"][..],
            &["DEBUG", "SLEEP", "0"],
            &["REPLICAOF", "NO", "ONE"],
            &["SHUTDOWN", "NOSAVE"],
            &["CLUSTER", "RESET"],
            &["CLUSTER", "FAILOVER"],
            &["ACL", "SETUSER", "default", "off"],
            &["BGSAVE"],
        ] {
            let answer = group.ask(&node, words).await?;
            let refused =
                matches!(&answer, crate::support::engine::Reply::Error(text) if text.starts_with("NOPERM"));
            ensure!(refused, "{words:?}: {answer:?}");
        }
        Ok(())
    })
    .await
}
