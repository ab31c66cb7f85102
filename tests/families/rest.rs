//! P4: what was touched is put back, and then nothing is written.

use crate::support::group::{clustered, stored};
use crate::support::tools::throughout;
use crate::support::{Group, Keys, Sharing, Story, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kagami_api::names;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Every kind that a group has, and the group itself.
const KINDS: &str = "rg,statefulsets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,pdb,pvc,leases,events";

/// The version of every object of the namespace.
async fn versions(story: &Story) -> Result<BTreeMap<String, String>> {
    let said =
        story.kubectl(&["get", KINDS, "-o", "json"], None, seconds(20)).await?.well("listing everything")?;
    let list: Value = serde_json::from_str(&said)?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items
        .iter()
        .map(|item| {
            let text =
                |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            (format!("{}/{}", text("/kind"), text("/metadata/name")), text("/metadata/resourceVersion"))
        })
        .collect())
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn p4_at_rest_nothing_is_written() -> Result<()> {
    tell("rest", Sharing::SideBySide, seconds(240), async |story| {
        let enabled = Group::apply(story, "enabled", &stored(clustered(2, 1))).await?;
        let plain = crate::support::group::spec(json!({ "numCacheClusters": 2 }));
        let disabled = Group::apply(story, "disabled", &plain).await?;
        enabled.settled(seconds(120)).await?;
        disabled.settled(seconds(60)).await?;
        // What Kubernetes itself still has to write (owner references, readiness) may be under way for some seconds.
        let mut still = None;
        eventually("everything has been still for a moment", seconds(60), async || {
            let now = versions(story).await?;
            let same = still.as_ref() == Some(&now);
            still = Some(now);
            tokio::time::sleep(seconds(2)).await;
            ensure!(same, "something is still written");
            Ok(())
        })
        .await?;
        let before = versions(story).await?;
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
            let now = versions(story).await?;
            let changed: Vec<&String> = now
                .iter()
                .filter(|(key, version)| before.get(*key) != Some(version))
                .map(|(key, _)| key)
                .chain(before.keys().filter(|key| !now.contains_key(*key)))
                .collect();
            ensure!(changed.is_empty(), "P4: written at rest: {changed:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_hand_edited_child_is_put_back_and_a_deleted_one_is_made_again() -> Result<()> {
    tell("edited", Sharing::SideBySide, seconds(180), async |story| {
        let group = Group::apply(story, "edited", &clustered(1, 1)).await?;
        group.settled(seconds(60)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(300).await?;
        let uids: Vec<String> = group.nodes().await?.into_iter().map(|node| node.pod_uid).collect();
        let hand = PatchParams::default();

        let services = story.api::<Service>();
        let service = "edited-0001-001";
        let selector = json!({ "spec": { "selector": { names::LABEL_CACHE_NODE: "edited-0001-002" } } });
        services.patch(service, &hand, &Patch::Merge(selector)).await?;
        eventually("the Service's selector is put back", seconds(20), async || {
            let selector =
                services.get(service).await?.spec.and_then(|spec| spec.selector).unwrap_or_default();
            ensure!(
                selector.get(names::LABEL_CACHE_NODE).is_some_and(|node| node == service),
                "{selector:?}"
            );
            Ok(())
        })
        .await?;

        let budgets = story.api::<PodDisruptionBudget>();
        let budget = budgets.list(&ListParams::default()).await?.items.pop().context("no budget")?.name_any();
        budgets.patch(&budget, &hand, &Patch::Merge(json!({ "spec": { "maxUnavailable": 2 } }))).await?;
        eventually("the budget is put back", seconds(20), async || {
            let spec = budgets.get(&budget).await?.spec.context("no spec")?;
            ensure!(serde_json::to_value(&spec.max_unavailable)? == json!(1), "{:?}", spec.max_unavailable);
            Ok(())
        })
        .await?;

        let labels = json!({ "metadata": { "labels": { names::LABEL_REPLICATION_GROUP: "another" } } });
        services.patch("edited", &hand, &Patch::Merge(labels)).await?;
        eventually("the label is put back", seconds(20), async || {
            let labels = services.get("edited").await?.metadata.labels.unwrap_or_default();
            ensure!(
                labels.get(names::LABEL_REPLICATION_GROUP).is_some_and(|group| group == "edited"),
                "{labels:?}"
            );
            Ok(())
        })
        .await?;

        let primary = group.primary_of("0001").await?;
        let role = json!({ "metadata": { "labels": { names::LABEL_ROLE: "replica" } } });
        story.api::<Pod>().patch(&primary.pod, &hand, &Patch::Merge(role)).await?;
        eventually("the role label is put back", seconds(20), async || {
            let labels = story.api::<Pod>().get(&primary.pod).await?.metadata.labels.unwrap_or_default();
            ensure!(labels.get(names::LABEL_ROLE).is_some_and(|role| role == "primary"), "{labels:?}");
            Ok(())
        })
        .await?;

        services.delete(service, &DeleteParams::default()).await?;
        eventually("the Service is made again", seconds(20), async || {
            ensure!(
                services.get(service).await?.metadata.deletion_timestamp.is_none(),
                "it is being deleted"
            );
            Ok(())
        })
        .await?;

        group.settled(seconds(30)).await?;
        let now: Vec<String> = group.nodes().await?.into_iter().map(|node| node.pod_uid).collect();
        ensure!(now == uids, "pods were replaced");
        keys.all_there().await
    })
    .await
}
