//! Whether anything is written at all: a group at rest is looked at, and nothing else.

use super::story::Story;
use super::tools::{eventually, seconds};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Every kind that a group has, and the group itself.
const KINDS: &str = "rg,statefulsets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,pdb,pvc,leases,events";

/// The version of every object of the story's namespace.
pub(crate) async fn versions(story: &Story) -> Result<BTreeMap<String, String>> {
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

/// What differs between two looks.
pub(crate) fn changed<'a>(
    before: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> Vec<&'a String> {
    let written = now.iter().filter(|(key, version)| before.get(*key) != Some(version)).map(|(key, _)| key);
    written.chain(before.keys().filter(|key| !now.contains_key(*key))).collect()
}

/// Waits until nothing has been written for some time. What Kubernetes itself still has to write (owner references,
/// readiness), and what is told for a while (that engines ended again and again), comes to its end too.
pub(crate) async fn still(story: &Story, time: Duration, limit: Duration) -> Result<()> {
    eventually(&format!("nothing is written for {} s", time.as_secs()), limit, async || {
        let before = versions(story).await?;
        tokio::time::sleep(time).await;
        let now = versions(story).await?;
        let changed = changed(&before, &now);
        ensure!(changed.is_empty(), "P4: still written: {changed:?}");
        Ok(())
    })
    .await
}
