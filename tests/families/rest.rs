//! What was touched by hand is put back.

use crate::support::group::clustered;
use crate::support::{Group, Keys, Sharing, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kagami_api::names;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

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
