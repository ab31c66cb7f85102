//! Templates of six shapes: converted, brought up, answering at the endpoints that the converter named, and exported again.

use crate::support::story::zones;
use crate::support::tools::{Said, run};
use crate::support::{Group, Sharing, Story, cluster, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A template of the converter's tests, and what its group looks like.
struct Shape {
    file: &'static str,
    /// Options of the converter: among them a node type for a small machine.
    options: &'static [&'static str],
    /// How many nodes each shard has.
    nodes: &'static [usize],
    /// The zones of the nodes, where the template asks for them.
    zones: &'static [&'static str],
    /// The slots of each shard, where the template asks for them.
    slots: &'static [&'static [(u16, u16)]],
    clustered: bool,
}

const SMALL: &[&str] = &["--parameter", "NodeType=cache.t4g.micro"];
const A: &str = "ap-northeast-1a";
const C: &str = "ap-northeast-1c";
const D: &str = "ap-northeast-1d";

const SHAPES: &[Shape] = &[
    Shape {
        file: "one-shard-of-two",
        options: &[],
        nodes: &[2],
        zones: &[A, D],
        slots: &[&[(0, 16_383)]],
        clustered: true,
    },
    Shape {
        file: "two-shards-of-four",
        options: SMALL,
        nodes: &[4, 4],
        zones: &[A, C, D, C, C, A, D, A],
        slots: &[],
        clustered: true,
    },
    Shape {
        file: "own-slots",
        options: &["--stack-name", "own-slots"],
        nodes: &[2, 1],
        zones: &[],
        slots: &[&[(0, 99), (16_000, 16_383)], &[(100, 15_999)]],
        clustered: true,
    },
    Shape { file: "single", options: SMALL, nodes: &[1], zones: &[], slots: &[], clustered: false },
    Shape {
        file: "one-plus-two",
        options: SMALL,
        nodes: &[3],
        zones: &[A, C, D],
        slots: &[],
        clustered: false,
    },
    Shape {
        file: "valkey",
        options: &["--parameter", "Environment=staging", "--stack-name", "shop"],
        nodes: &[2],
        zones: &[],
        slots: &[],
        clustered: false,
    },
];

/// What the converter said: the manifests, and the outputs by name.
struct Converted {
    manifests: Vec<Value>,
    outputs: BTreeMap<String, String>,
}

async fn kagami(arguments: &[&str], input: Option<&str>) -> Result<Said> {
    let kubeconfig = format!("KUBECONFIG={}", cluster::kubeconfig().await?);
    let mut all = vec![kubeconfig.as_str(), env!("CARGO_BIN_EXE_kagami")];
    all.extend(arguments);
    run("env", &all, input, seconds(20)).await
}

async fn convert(story: &Story, template: &str, options: &[&str], input: Option<&str>) -> Result<Converted> {
    let mut arguments = vec!["convert", template, "--namespace", &story.namespace];
    arguments.extend(options);
    let said = kagami(&arguments, input).await?;
    let outputs = said.err.lines().filter_map(|line| line.strip_prefix("output: ")?.split_once(" = "));
    let outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let text = said.well(&format!("kagami convert {template}"))?;
    let documents = text.split("\n---").filter(|part| part.lines().any(|line| line.starts_with("kind:")));
    let manifests = documents
        .map(|part| serde_saphyr::from_str(part.trim_start_matches("---")).context("a manifest"))
        .collect::<Result<_>>()?;
    Ok(Converted { manifests, outputs })
}

/// The group comes up as its template says, and answers where the converter said that it would.
async fn answers(story: &Story, shape: &Shape, converted: &Converted) -> Result<()> {
    let group = converted.manifests.iter().find(|object| object["kind"] == "ReplicationGroup");
    let group = group.context("no ReplicationGroup")?;
    let name = group["metadata"]["name"].as_str().context("no name")?.to_owned();
    let port = group["spec"]["port"].as_u64().unwrap_or(6379).try_into()?;
    let group = Group { story, name, port };
    group.settled(seconds(120)).await?;

    let nodes = group.nodes().await?;
    let shards = group.shards().await?;
    let sizes: Vec<usize> =
        shards.iter().map(|shard| nodes.iter().filter(|node| node.shard == *shard).count()).collect();
    ensure!(sizes == shape.nodes, "{}: the shards have {sizes:?} nodes", shape.file);
    if !shape.zones.is_empty() {
        let machines = zones(story).await?;
        let placed: Vec<&str> = nodes.iter().map(|node| machines[&node.machine].as_str()).collect();
        ensure!(placed == shape.zones, "{}: the zones are {placed:?}", shape.file);
    }
    for (shard, wanted) in shards.iter().zip(shape.slots) {
        let found = group.view(&group.primary_of(shard).await?).await?.slots;
        ensure!(found == *wanted, "{}: the slots of {shard} are {found:?}", shape.file);
    }

    let status = group.status().await?;
    let endpoint = match shape.clustered {
        true => status.configuration_end_point.context("no configurationEndPoint")?,
        false => status.primary_end_point.context("no primaryEndPoint")?,
    };
    for (output, value) in &converted.outputs {
        let named = ["Port", "Readers"].contains(&output.as_str()) || value.contains(&endpoint.address);
        ensure!(
            named,
            "{}: the output {output} is {value}, and the endpoint {}",
            shape.file,
            endpoint.address
        );
    }
    let cli = async |words: &[&str]| {
        let mut command = vec!["redis-cli", "-c", "-h", &endpoint.address, "-p", &endpoint.port];
        command.extend(words);
        story.in_pod("client", &command).await
    };
    eventually(&format!("{} answers at {}", shape.file, endpoint.address), seconds(20), async || {
        for key in ["one", "two", "three"] {
            ensure!(cli(&["SET", key, shape.file]).await? == "OK", "SET {key}");
            ensure!(cli(&["GET", key]).await? == shape.file, "GET {key}");
        }
        Ok(())
    })
    .await
}

/// What is exported converts to what runs.
async fn comes_back(story: &Story, converted: &Converted) -> Result<()> {
    let object = converted.manifests.iter().find(|object| object["kind"] == "ReplicationGroup");
    let name = object.and_then(|object| object["metadata"]["name"].as_str()).context("no name")?;
    let said = kagami(&["export", name, "--namespace", &story.namespace], None).await?;
    let template = said.well(&format!("kagami export {name}"))?;
    let again = convert(story, "-", &[], Some(&template)).await?;
    for object in &converted.manifests {
        let same = again.manifests.iter().any(|other| {
            ["kind", "spec"].iter().all(|part| object[part] == other[part])
                && object["metadata"]["name"] == other["metadata"]["name"]
        });
        ensure!(same, "{} is not in what was exported:\n{template}", object["metadata"]["name"]);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn templates_of_six_shapes_come_up_answer_and_are_exported_as_they_were() -> Result<()> {
    tell("templates", Sharing::SideBySide, seconds(180), async |story| {
        story.client_pod("client", &json!({})).await?;
        let mut all = Vec::new();
        for shape in SHAPES {
            let template = format!(
                "{}/crates/convert/tests/fixtures/shapes/{}.yaml",
                env!("CARGO_MANIFEST_DIR"),
                shape.file
            );
            let converted = convert(story, &template, shape.options, None).await?;
            let yaml: Vec<String> = converted.manifests.iter().map(Value::to_string).collect();
            story
                .kubectl(&["apply", "-f", "-"], Some(&yaml.join("\n---\n")), seconds(20))
                .await?
                .well(&format!("kubectl apply of {}", shape.file))?;
            all.push((shape, converted));
        }
        let told = all.iter().map(async |(shape, converted)| {
            answers(story, shape, converted).await?;
            comes_back(story, converted).await
        });
        futures::future::try_join_all(told).await?;
        Ok(())
    })
    .await
}
