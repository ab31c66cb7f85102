//! The object is deleted: Delete takes everything with it, Retain nothing.

use crate::support::group::{clustered, stored};
use crate::support::{Group, Keys, Sharing, eventually, seconds, tell};
use anyhow::{Context, Result, ensure};
use kagami_api::names;
use kube::api::DeleteParams;
use serde_json::json;

const KINDS: &str = "statefulsets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,pdb,pvc,leases";

async fn deleted(group: &Group<'_>) -> Result<()> {
    group.api().delete(&group.name, &DeleteParams::default()).await?;
    eventually("the group's object is gone", seconds(60), async || {
        ensure!(group.api().get_opt(&group.name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn delete_removes_everything_with_the_volumes_and_nothing_of_a_neighbour() -> Result<()> {
    tell("delete", Sharing::SideBySide, seconds(180), async |story| {
        let group = Group::apply(story, "goes", &stored(clustered(1, 1))).await?;
        // A name that begins with the other's.
        let neighbour = Group::apply(story, "goes-on", &stored(clustered(1, 1))).await?;
        group.settled(seconds(90)).await?;
        neighbour.settled(seconds(60)).await?;
        let mut keys = Keys::of(&neighbour, 1);
        keys.fill(300).await?;
        let of = async |name: &str| {
            let selector = format!("{}={name}", names::LABEL_REPLICATION_GROUP);
            let said =
                story.kubectl(&["get", KINDS, "-l", &selector, "-o", "name"], None, seconds(20)).await?;
            Ok::<_, anyhow::Error>(said.well("listing")?.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let before = of("goes").await?;
        for kind in
            ["statefulset.apps/", "pod/", "service/", "persistentvolumeclaim/", "poddisruptionbudget.policy/"]
        {
            ensure!(before.iter().any(|name| name.starts_with(kind)), "no {kind} among {before:?}");
        }
        let all = async || {
            let said =
                story.kubectl(&["get", KINDS, "-o", "name"], None, seconds(20)).await?.well("listing")?;
            Ok::<_, anyhow::Error>(said.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let neighbours: Vec<String> = of("goes-on").await?;
        deleted(&group).await?;
        eventually("everything of the group is gone", seconds(60), async || {
            let left = of("goes").await?;
            ensure!(left.is_empty(), "{left:?}");
            // And what bears no label but the name.
            let named: Vec<String> = all()
                .await?
                .into_iter()
                .filter(|name| {
                    let own = name.split('/').nth(1).unwrap_or_default();
                    (own == "goes"
                        || own.starts_with("goes-0")
                        || own.starts_with("goes-kagami")
                        || own.contains("-goes-0"))
                        && !own.starts_with("goes-on")
                })
                .collect();
            ensure!(named.is_empty(), "{named:?}");
            Ok(())
        })
        .await?;
        ensure!(of("goes-on").await? == neighbours, "the neighbour lost something");
        keys.all_there().await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn retain_leaves_the_engines_serving_and_the_same_object_takes_them_back_with_every_key() -> Result<()>
{
    tell("retain", Sharing::SideBySide, seconds(240), async |story| {
        let mut spec = stored(clustered(3, 1));
        spec["deletionPolicy"] = json!("Retain");
        let group = Group::apply(story, "stays", &spec).await?;
        group.settled(seconds(120)).await?;
        let mut keys = Keys::of(&group, 1);
        keys.fill(1_000).await?;
        let before = group.nodes().await?;
        let roles = async || {
            let mut primaries = Vec::new();
            for node in group.nodes().await? {
                primaries.push((node.name.clone(), group.view(&node).await?.primary));
            }
            Ok::<_, anyhow::Error>(primaries)
        };
        let roles_before = roles().await?;
        deleted(&group).await?;

        // Long enough for Kubernetes to collect what has no owner, and for a primary to miss its operator.
        let began = std::time::Instant::now();
        let lone = before
            .iter()
            .find(|node| roles_before.iter().any(|(name, primary)| *name == node.name && *primary));
        let lone = lone.context("no primary")?.clone();
        let tag = crate::support::keys::tag(&group.view(&lone).await?.slots)?;
        while began.elapsed() < seconds(12) {
            let answer = group.ask(&lone, &["SET", &format!("{{{tag}}}:alone"), "1"]).await?;
            ensure!(
                answer == crate::support::engine::Reply::Text("OK".into()),
                "a retained primary answers {answer:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        ensure!(group.nodes().await? == before, "pods changed: {:?}", group.nodes().await?);

        let group = Group::apply(story, "stays", &spec).await?;
        group.settled(seconds(90)).await?;
        let now = group.nodes().await?;
        let same = |a: &crate::support::group::Node, b: &crate::support::group::Node| {
            a.pod_uid == b.pod_uid && a.restarts == b.restarts
        };
        ensure!(now.len() == before.len() && now.iter().zip(&before).all(|(a, b)| same(a, b)), "{now:?}");
        ensure!(roles().await? == roles_before, "the roles changed");
        let keys_now = keys.missing().await?;
        ensure!(keys_now.is_empty(), "{} keys are lost", keys_now.len());
        group.no_event("DataLost").await?;

        // And it is a group like any other again.
        let primary = group.primary_of("0001").await?;
        crate::support::Kill::Engine.strike(&group, &primary).await?;
        group.is_replica(&primary.name, seconds(60)).await?;
        keys.all_there().await
    })
    .await
}
