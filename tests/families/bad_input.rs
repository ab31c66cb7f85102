//! P9: bad input changes nothing. It is refused at admission where a rule can see it, else by a condition; neighbours and
//! running groups do not notice.

#[path = "../../crates/api/tests/support/cases.rs"]
mod cases;

use crate::support::group::{Node, clustered, spec};
use crate::support::{Group, Keys, Sharing, seconds, tell};
use anyhow::{Context, Result, bail, ensure};
use kagami_api::v1alpha1::{GroupStatus, ParameterGroup};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::json;

/// What must not change in a group that nobody meant.
async fn pulse(group: &Group<'_>) -> Result<Vec<(String, String, i32)>> {
    let nodes: Vec<Node> = group.nodes().await?;
    Ok(nodes.into_iter().map(|node| (node.name, node.pod_uid, node.restarts)).collect())
}

async fn undisturbed(group: &Group<'_>, before: &[(String, String, i32)], keys: &Keys<'_, '_>) -> Result<()> {
    ensure!(
        pulse(group).await? == before,
        "the pods of {} were {before:?} and are {:?}",
        group.name,
        pulse(group).await?
    );
    ensure!(group.status().await?.status == Some(GroupStatus::Available), "{} is not available", group.name);
    keys.all_there().await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p9_what_a_rule_can_see_is_refused_at_admission_in_elasticaches_words() -> Result<()> {
    tell("admission", Sharing::SideBySide, seconds(60), async |story| {
        let cases = [
            ("tls", json!({ "numCacheClusters": 2, "transitEncryptionEnabled": true }), "transitEncryptionEnabled"),
            ("at-rest", json!({ "numCacheClusters": 2, "atRestEncryptionEnabled": true }), "atRestEncryptionEnabled"),
            ("token", json!({ "numCacheClusters": 2, "authToken": "0123456789abcdefghij" }), "authToken"),
            (
                "zones",
                json!({ "numCacheClusters": 3, "preferredCacheClusterAZs": ["ap-northeast-1a", "ap-northeast-1c"] }),
                "must match the number of preferred availability zones",
            ),
            (
                "replica-zones",
                json!({ "clusterMode": "enabled", "numNodeGroups": 1, "replicasPerNodeGroup": 2,
                    "nodeGroupConfiguration": [{ "replicaAvailabilityZones": ["ap-northeast-1a"] }] }),
                "replicaAvailabilityZones",
            ),
            ("lonely", json!({ "numCacheClusters": 1, "automaticFailoverEnabled": true }), "at least 2 cache clusters"),
            ("patch", json!({ "engineVersion": "6.2.6" }), "patch level"),
            ("snapshot", json!({ "deletionPolicy": "Snapshot" }), "deletionPolicy"),
            ("Upper", json!({}), ""),
        ];
        for (name, case, words) in cases {
            let refusal = Group::refused(story, name, &spec(case)).await?;
            ensure!(refusal.contains(words), "{name} is refused, but without {words:?}: {refusal}");
            story.say(format!("{name}: {refusal}"));
        }
        // Every rule by its number, in words that its table of cases has; rules about updates are tried on an apiserver of its own.
        let resource = |kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk("elasticache.kagami.dev", "v1alpha1", kind));
        for case in cases::cases().into_iter().filter(|case| case.old().is_none()) {
            let api: Api<DynamicObject> = Api::namespaced_with(story.client.clone(), &story.namespace, &resource(&case.kind));
            let dry_run = PostParams { dry_run: true, ..PostParams::default() };
            let accepted = serde_json::from_value(case.accepted())?;
            api.create(&dry_run, &accepted).await.with_context(|| format!("{} {}", case.rule, case.accepted))?;
            let Some(refused) = case.refused() else { continue };
            let (by, spec) = (if case.schema { "the schema" } else { "a rule" }, refused["spec"].to_string());
            match api.create(&dry_run, &serde_json::from_value(refused)?).await {
                Ok(_) => bail!("{} ({by}): {spec} is admitted", case.rule),
                Err(error) => ensure!(error.to_string().contains(&case.words), "{} ({by}): {spec}: {error}", case.rule),
            }
        }
        let left = story.kubectl(&["get", "rg,statefulsets,pods", "-o", "name"], None, seconds(20)).await?.well("listing")?;
        ensure!(left.is_empty(), "something was made: {left}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p9_what_only_the_operator_can_see_is_told_by_a_condition_and_neighbours_are_not_disturbed()
-> Result<()> {
    tell("conditions", Sharing::SideBySide, seconds(240), async |story| {
        let neighbour = Group::apply(story, "neighbour", &clustered(1, 1)).await?;
        neighbour.settled(seconds(90)).await?;
        let mut keys = Keys::of(&neighbour, 1);
        keys.fill(500).await?;
        let before = pulse(&neighbour).await?;

        let unknown = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ParameterGroup", "metadata": { "name": "odd" },
            "spec": { "cacheParameterGroupFamily": "redis7", "description": "a story's", "properties": { "no-such-parameter": "1" } } });
        story.apply_ours::<ParameterGroup>("odd", &unknown).await?;
        let fixed = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ParameterGroup", "metadata": { "name": "fixed" },
            "spec": { "cacheParameterGroupFamily": "redis7", "description": "a story's", "properties": { "cluster-announce-ip": "1.2.3.4" } } });
        story.apply_ours::<ParameterGroup>("fixed", &fixed).await?;
        let one = |more: serde_json::Value| {
            let mut spec = spec(json!({ "numCacheClusters": 1 }));
            if let (Some(spec), serde_json::Value::Object(more)) = (spec.as_object_mut(), more) {
                spec.extend(more);
            }
            spec
        };
        let cases = [
            ("no-parameters", one(json!({ "cacheParameterGroupName": "absent" })), "CacheParameterGroupNotFound", "absent", false),
            ("no-subnets", one(json!({ "cacheSubnetGroupName": "absent" })), "CacheSubnetGroupNotFound", "absent", false),
            ("no-security", one(json!({ "securityGroupIds": ["absent"] })), "SecurityGroupNotFound", "absent", false),
            ("no-type", one(json!({ "cacheNodeType": "cache.z9.huge" })), "InvalidParameterValue", "cache.z9.huge", false),
            ("no-version", one(json!({ "engineVersion": "5.1" })), "InvalidParameterValue", "5.1", false),
            ("odd-parameter", one(json!({ "cacheParameterGroupName": "odd" })), "InvalidParameterValue", "no-such-parameter", false),
            ("fixed-parameter", one(json!({ "cacheParameterGroupName": "fixed" })), "InvalidParameterValue", "cluster-announce-ip", false),
            (
                "no-image",
                one(json!({ "kubernetes": { "image": "localhost/there-is/no-such-image:0" } })),
                "ImageCannotBePulled",
                "no-such-image",
                true,
            ),
            (
                "no-room",
                one(json!({ "kubernetes": { "resources": { "requests": { "cpu": "900" } } } })),
                "InsufficientCacheClusterCapacity",
                "cpu",
                true,
            ),
        ];
        for (name, spec, ..) in &cases {
            Group::apply(story, name, spec).await?;
        }
        for (name, spec, reason, words, has_pods) in &cases {
            let group = Group { story, name: (*name).to_owned(), port: 6379 };
            let message = group.degraded(reason, seconds(90)).await.with_context(|| spec.to_string())?;
            ensure!(message.contains(words), "{name}: the message does not say {words:?}: {message}");
            let status = group.status().await?;
            ensure!(status.status != Some(GroupStatus::Available), "{name} says it is available");
            ensure!(*has_pods || group.nodes().await?.is_empty(), "{name}: pods were made of a refused spec");
            ensure!(status.reason.as_deref() == Some(*reason), "{name}: the reason is {:?}", status.reason);
            group.event(reason, seconds(30)).await?;
            story.say(format!("{name}: {message}"));
        }
        undisturbed(&neighbour, &before, &keys).await?;

        // A mistake that is corrected heals by itself.
        let group = Group { story, name: "no-parameters".into(), port: 6379 };
        let absent = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ParameterGroup", "metadata": { "name": "absent" },
            "spec": { "cacheParameterGroupFamily": "redis7", "description": "here after all" } });
        story.apply_ours::<ParameterGroup>("absent", &absent).await?;
        group.settled(seconds(60)).await?;
        let group = Group { story, name: "no-type".into(), port: 6379 };
        group.change(&json!({ "cacheNodeType": "cache.t4g.micro" })).await?;
        group.settled(seconds(60)).await?;
        undisturbed(&neighbour, &before, &keys).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p9_bad_input_to_a_running_group_leaves_it_as_it_was() -> Result<()> {
    tell("running-bad", Sharing::SideBySide, seconds(180), async |story| {
        let group = Group::apply(story, "running", &clustered(1, 1)).await?;
        group.settled(seconds(90)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(500).await?;
        let before = pulse(&group).await?;
        let good = group.get().await?.spec;
        let cases = [
            (json!({ "cacheParameterGroupName": "absent" }), "CacheParameterGroupNotFound"),
            (json!({ "cacheNodeType": "cache.z9.huge" }), "InvalidParameterValue"),
            (json!({ "engineVersion": "7.9" }), "InvalidParameterValue"),
            (json!({ "numNodeGroups": 2 }), "UnsupportedModification"),
            (json!({ "kubernetes": { "storage": { "size": "1Gi" } } }), "UnsupportedModification"),
        ];
        for (change, reason) in cases {
            group.change(&change).await.with_context(|| change.to_string())?;
            let message = group.degraded(reason, seconds(30)).await.with_context(|| change.to_string())?;
            story.say(format!("{change}: {message}"));
            undisturbed(&group, &before, &keys).await.with_context(|| change.to_string())?;
            // Taken back: whatever the change named is as it was.
            let mut back = serde_json::Map::new();
            for key in change.as_object().context("a change")?.keys() {
                back.insert(
                    key.clone(),
                    serde_json::to_value(&good)?.get(key).cloned().unwrap_or(json!(null)),
                );
            }
            group.change(&serde_json::Value::Object(back)).await?;
            group.settled(seconds(30)).await.with_context(|| format!("{change} was taken back"))?;
        }
        undisturbed(&group, &before, &keys).await
    })
    .await
}
