//! The operator's own pods.

use super::cluster;
use super::story::Story;
use super::tools::{eventually, seconds};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use std::time::Duration;

/// Where it is installed.
pub(crate) fn namespace() -> String {
    std::env::var("KAGAMI_NAMESPACE").unwrap_or_else(|_| "kagami-system".into())
}

const SELECTOR: &str = "app.kubernetes.io/name=kagami,app.kubernetes.io/component=operator";
const CONTAINER: &str = "operator";

/// Its pods that are not on their way out.
pub(crate) async fn pods(story: &Story) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(story.client.clone(), &namespace());
    let list = pods.list(&ListParams::default().labels(SELECTOR)).await?;
    Ok(list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

/// The pod that holds the lease.
pub(crate) async fn leader(story: &Story) -> Result<Pod> {
    let leases: Api<Lease> = Api::namespaced(story.client.clone(), &namespace());
    let holders: Vec<String> = leases
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|lease| lease.spec?.holder_identity)
        .collect();
    let all = pods(story).await?;
    let found = all.iter().find(|pod| holders.iter().any(|holder| holder.starts_with(&pod.name_any())));
    found
        .cloned()
        .with_context(|| format!("none of the operator's pods holds a lease; the holders are {holders:?}"))
}

/// The names of those whose process runs.
pub(crate) async fn running(story: &Story) -> Result<Vec<String>> {
    let runs = |pod: &Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        containers.is_some_and(|all| {
            all.iter().any(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()))
        })
    };
    Ok(pods(story).await?.iter().filter(|pod| runs(pod)).map(ResourceExt::name_any).collect())
}

/// How often the kubelet has started each operator's container again: the pods' names with it.
pub(crate) async fn restarts(story: &Story) -> Result<Vec<(String, i32)>> {
    let restarts = |pod: &Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        containers.into_iter().flatten().map(|one| one.restart_count).sum()
    };
    Ok(pods(story).await?.iter().map(|pod| (pod.name_any(), restarts(pod))).collect())
}

/// Both replicas run and are ready, and one of them holds the lease.
pub(crate) async fn well(story: &Story) -> Result<()> {
    eventually("both operator replicas are ready and one leads", seconds(120), async || {
        let all = pods(story).await?;
        let ready = all
            .iter()
            .filter(|pod| {
                let status = pod.status.as_ref();
                status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
                    conditions
                        .iter()
                        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
                })
            })
            .count();
        ensure!(ready >= 2, "{ready} ready");
        leader(story).await.map(drop)
    })
    .await
}

/// Every operator process dies at once, and so do their pods, so that no back-off stands between death and return.
pub(crate) async fn kill_all(story: &Story) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(story.client.clone(), &namespace());
    let home = namespace();
    let names = eventually("an operator process to kill", seconds(60), async || {
        let names: Vec<String> = pods(story).await?.iter().map(ResourceExt::name_any).collect();
        let kills = names.iter().map(|name| cluster::kill_process(&home, name, CONTAINER, "pid1", "KILL"));
        let outcomes = futures::future::join_all(kills).await;
        // One that has not started has no process to kill (a fault before this one took its predecessor); its pod goes like the others.
        let killed = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        for error in outcomes.into_iter().filter_map(Result::err) {
            ensure!(killed > 0 && error.to_string().contains("no started container"), error);
        }
        Ok(names)
    })
    .await?;
    for name in &names {
        let now = DeleteParams::default().grace_period(0);
        let _gone_already = api.delete(name, &now).await;
    }
    story.say(format!("killed {}", names.join(" and ")));
    Ok(())
}

/// Deletes one pod as an administrator does.
pub(crate) async fn delete(story: &Story, name: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(story.client.clone(), &namespace());
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// One process dies without a word, and its pod with it, so that no other life of its comes back under its name.
pub(crate) async fn kill(story: &Story, name: &str) -> Result<()> {
    cluster::kill_process(&namespace(), name, CONTAINER, "pid1", "KILL").await?;
    let api: Api<Pod> = Api::namespaced(story.client.clone(), &namespace());
    api.delete(name, &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

/// Something is done while no operator runs: the Deployment is scaled to nothing, and back whatever came of it.
pub(crate) async fn away<T>(
    story: &Story,
    limit: Duration,
    acts: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    let wanted = pods(story).await?.len();
    scale(story, 0).await?;
    let gone = eventually("no operator runs", seconds(60), async || {
        let left = running(story).await?;
        ensure!(left.is_empty() && pods(story).await?.is_empty(), "{left:?}");
        Ok(())
    })
    .await;
    let outcome = match gone {
        Ok(()) => tokio::time::timeout(limit, acts()).await.context("it took too long"),
        Err(error) => Err(error),
    };
    scale(story, wanted).await?;
    well(story).await?;
    outcome?
}

async fn scale(story: &Story, replicas: usize) -> Result<()> {
    let home = namespace();
    let replicas = format!("--replicas={replicas}");
    let words = ["-n", &home, "scale", "deployment", "-l", SELECTOR, &replicas];
    story.kubectl(&words, None, seconds(20)).await?.well("scaling the operator").map(drop)
}

/// Freezes every operator process.
pub(crate) async fn freeze(story: &Story) -> Result<Vec<String>> {
    let names: Vec<String> = pods(story).await?.iter().map(ResourceExt::name_any).collect();
    let home = namespace();
    for outcome in futures::future::join_all(
        names.iter().map(|name| cluster::pause_process(&home, name, CONTAINER, "pid1")),
    )
    .await
    {
        outcome?;
    }
    Ok(names)
}

/// And wakes them.
pub(crate) async fn wake(names: &[String]) -> Result<()> {
    let home = namespace();
    for outcome in futures::future::join_all(
        names.iter().map(|name| cluster::resume_process(&home, name, CONTAINER, "pid1")),
    )
    .await
    {
        outcome?;
    }
    Ok(())
}
