//! The definitions and their rules on a real kube-apiserver, with etcd behind it and nothing else.
//!
//! `make test-admission` runs these: they need the programs of the local cluster.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod apiserver;
    pub(crate) mod cases;
}

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use support::apiserver::Apiserver;
use support::cases::{Case, NAME, cases, object};

/// Installs the definitions and waits until they serve.
async fn install(client: &Client, definitions: Vec<CustomResourceDefinition>) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in &definitions {
        api.create(&PostParams::default(), definition).await.unwrap();
    }
    for definition in &definitions {
        let kind = &definition.spec.names.kind;
        for _ in 0..200 {
            if of(client, kind).list(&Default::default()).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn of(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("elasticache.kagami.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn dynamic(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Why the API server refuses to create this, or nothing.
async fn creation(client: &Client, value: &Value) -> String {
    let kind = value["kind"].as_str().unwrap();
    match of(client, kind).create(&dry_run(), &dynamic(value)).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// The same of a change. Everything but the spec stays.
async fn change(client: &Client, stored: &DynamicObject, spec: &Value) -> String {
    let mut changed = stored.clone();
    changed.data["spec"] = spec.clone();
    let kind = stored.types.as_ref().unwrap().kind.as_str();
    match of(client, kind).replace(stored.metadata.name.as_deref().unwrap(), &dry_run(), &changed).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Stores what was before, under a name of its own, with its status.
async fn before(client: &Client, index: usize, case: &Case) -> Option<DynamicObject> {
    let mut old = case.old()?;
    old["metadata"]["name"] = json!(format!("{NAME}-{index}"));
    let api = of(client, &case.kind);
    let stored = api.create(&PostParams::default(), &dynamic(&old)).await.unwrap();
    let Some(status) = &case.status else { return Some(stored) };
    let name = stored.metadata.name.clone().unwrap();
    let patch = Patch::Merge(json!({ "status": status }));
    Some(api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap())
}

async fn tried(client: &Client, index: usize, case: Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let old = before(client, index, &case).await;
    let accepted = match &old {
        Some(old) => change(client, old, &case.accepted()["spec"]).await,
        None => creation(client, &case.accepted()).await,
    };
    if !accepted.is_empty() {
        wrong.push(format!("{} {} is refused: {accepted}", case.rule, case.accepted));
    }
    if let Some(new) = case.refused() {
        let refused = match &old {
            Some(old) => change(client, old, &new["spec"]).await,
            None => creation(client, &new).await,
        };
        // Where the schema refuses, rules may have something to say too.
        let words = [" in body ", "Required value", "Unsupported value", "Duplicate value", "Too many"];
        let by_schema = words.iter().any(|words| refused.contains(words));
        if refused.is_empty() || !refused.contains(&case.words) || case.schema != by_schema {
            wrong.push(format!("{} {}: {:?} is not said: {refused}", case.rule, new["spec"], case.words));
        }
    }
    wrong
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: make test-admission"]
async fn the_apiserver_says_of_every_case_what_we_say() {
    let server = Apiserver::start().await;
    install(&server.client, kagami_api::crds()).await;
    let tries = cases().into_iter().enumerate().map(|(index, case)| tried(&server.client, index, case));
    let wrong: Vec<String> =
        futures::stream::iter(tries).buffer_unordered(8).collect::<Vec<_>>().await.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The API server refuses a definition whose rules could cost too much. Ours could cost four times as much and be taken.
#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: make test-admission"]
async fn the_rules_cost_at_most_a_quarter_of_what_they_may() {
    let server = Apiserver::start().await;
    let api: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    for definition in kagami_api::crds() {
        let mut value = serde_json::to_value(&definition).unwrap();
        let schema = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        for place in ["", "/properties/spec"] {
            let rules = schema.pointer_mut(&format!("{place}/x-kubernetes-validations"));
            for rule in rules.and_then(Value::as_array_mut).into_iter().flatten() {
                let once = format!("({})", rule["rule"].as_str().unwrap());
                rule["rule"] = Value::from([once.as_str(); 4].join(" && "));
            }
        }
        let costly: CustomResourceDefinition = serde_json::from_value(value).unwrap();
        if let Err(error) = api.create(&dry_run(), &costly).await {
            panic!("{}: {error}", definition.spec.names.kind);
        }
    }
}

/// What a rule costs when it is asked is limited too: the largest objects must still be judged.
#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: make test-admission"]
async fn the_largest_group_is_judged() {
    let server = Apiserver::start().await;
    install(&server.client, kagami_api::crds()).await;
    // Ninety shards, each with as many ranges as a text of this length can hold.
    let slots: Vec<Vec<String>> = (0..90)
        .map(|shard| {
            (0..182)
                .map(|at| (shard + at * 90).to_string())
                .filter(|slot| slot.parse::<u32>().unwrap() < 16384)
                .collect()
        })
        .collect();
    let groups: Vec<Value> = slots
        .iter()
        .enumerate()
        .map(|(at, slots)| {
            let mut text = String::new();
            for slot in slots {
                if text.len() + 1 + slot.len() <= 256 {
                    text = if text.is_empty() { slot.clone() } else { format!("{text},{slot}") };
                }
            }
            json!({ "nodeGroupId": format!("{:04}", at + 1), "slots": text, "replicaCount": 2,
                "primaryAvailabilityZone": "a".repeat(63), "replicaAvailabilityZones": ["b".repeat(63), "c".repeat(63)] })
        })
        .collect();
    let tags: Vec<Value> =
        (0..50).map(|at| json!({ "key": format!("{at:0>128}"), "value": "v".repeat(256) })).collect();
    let spec = json!({
        "replicationGroupDescription": "d".repeat(255), "cacheNodeType": "cache.t4g.micro", "clusterMode": "enabled", "multiAZEnabled": true, "tags": tags,
        "nodeGroupConfiguration": groups, "cacheParameterGroupName": "p".repeat(255), "cacheSubnetGroupName": "s".repeat(255),
        "snapshotWindow": "05:00-06:00", "preferredMaintenanceWindow": "sun:06:00-sun:07:00",
    });
    let new = object("ReplicationGroup", NAME, &spec);
    let said = creation(&server.client, &new).await;
    // The slots of this many ranges do not fit their length, which is all that is wrong.
    assert!(
        said.contains("must be all of 0-16383") && !said.contains("cost") && !said.contains("budget"),
        "{said}"
    );
    let mut right = spec.clone();
    for (at, group) in right["nodeGroupConfiguration"].as_array_mut().unwrap().iter_mut().enumerate() {
        group["slots"] = json!(format!("{}-{}", at * 16384 / 90, (at + 1) * 16384 / 90 - 1));
    }
    let right = object("ReplicationGroup", NAME, &right);
    assert_eq!(creation(&server.client, &right).await, "");
    let stored = of(&server.client, "ReplicationGroup")
        .create(&PostParams::default(), &dynamic(&right))
        .await
        .unwrap();
    assert_eq!(change(&server.client, &stored, &right["spec"]).await, "");
}

/// What the converter made of its fixtures stands beside them: those files are asked here, so that no client of a cluster is
/// needed there.
#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: make test-admission"]
async fn what_the_converter_makes_is_taken_or_refused_with_the_sentence_of_what_is_not_built() {
    let server = Apiserver::start().await;
    install(&server.client, kagami_api::crds()).await;
    let rules = kagami_api::rules::replication_group();
    let not_built: Vec<&str> =
        rules.iter().map(|rule| rule.message.as_str()).filter(|said| said.contains(" refused")).collect();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../convert/tests/fixtures");
    let (mut taken, mut refused) = (0, 0);
    for folder in ["", "shapes", "wild"] {
        for entry in std::fs::read_dir(fixtures.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = match path.extension() {
                Some(end) if end == "golden" => std::fs::read_to_string(&path).unwrap(),
                _ => continue,
            };
            let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
            for manifest in lines.split("\n---\n").filter(|part| part.starts_with("apiVersion: elasticache"))
            {
                let mut value: Value = serde_saphyr::from_str(manifest).unwrap();
                value["metadata"]["namespace"] = json!("default");
                let kind = value["kind"].as_str().unwrap();
                match of(&server.client, kind).create(&dry_run(), &dynamic(&value)).await {
                    Ok(_) => taken += 1,
                    Err(kube::Error::Api(status)) => {
                        refused += 1;
                        let causes = status.details.as_ref().map(|details| details.causes.as_slice());
                        let causes = causes.filter(|causes| !causes.is_empty());
                        let causes = causes.unwrap_or_else(|| panic!("{}: {status}", path.display()));
                        for cause in causes.iter().map(|cause| cause.message.as_str()) {
                            let known = not_built.iter().any(|sentence| cause.contains(sentence));
                            assert!(known, "{}: {cause}", path.display());
                        }
                    }
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        }
    }
    assert!(taken >= 25 && refused >= 2, "{taken} were taken, {refused} refused");
}
