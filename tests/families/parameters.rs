//! A parameter group tells its values, and what is wrong with it, before any group uses it.

use crate::support::{Sharing, seconds, tell};
use anyhow::{Result, ensure};
use kagami_api::v1alpha1::{ParameterGroup, SubnetGroup};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a cluster with the operator"]
async fn a_parameter_group_shows_the_values_in_effect_and_what_is_wrong_with_it() -> Result<()> {
    tell("parameters", Sharing::SideBySide, seconds(60), async |story| {
        let with = |properties: serde_json::Value| {
            json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ParameterGroup", "metadata": { "name": "mine" },
                "spec": { "cacheParameterGroupFamily": "valkey8", "description": "a story's", "properties": properties } })
        };
        let shown = |path: &'static str, kind: &'static str, wanted: &'static str| async move {
            let wait = format!("--for=jsonpath={{{path}}}={wanted}");
            let waited = story.kubectl(&["wait", kind, &wait, "--timeout=20s"], None, seconds(30)).await?;
            waited.well(&format!("{path} of {kind} is not {wanted}"))
        };
        story.apply_ours::<ParameterGroup>("mine", &with(json!({ "timeout": "60" }))).await?;
        shown(".status.parameters.timeout", "parametergroup/mine", "60").await?;
        shown(".status.parameters.maxmemory-policy", "parametergroup/mine", "volatile-lru").await?;
        shown(".status.conditions[?(@.type==\"Valid\")].status", "parametergroup/mine", "True").await?;
        story.apply_ours::<ParameterGroup>("mine", &with(json!({ "timeout": "5", "maxmemory": "1" }))).await?;
        shown(".status.conditions[?(@.type==\"Valid\")].status", "parametergroup/mine", "False").await?;
        let told = story.kubectl(&["get", "parametergroup/mine", "-o", "yaml"], None, seconds(20)).await?.well("get")?;
        for words in ["is not allowed for parameter timeout", "maxmemory cannot be modified"] {
            ensure!(told.contains(words), "{words:?} is not said: {told}");
        }
        let subnets = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "SubnetGroup", "metadata": { "name": "mine" },
            "spec": { "description": "a story's", "subnetIds": ["subnet-1"] } });
        story.apply_ours::<SubnetGroup>("mine", &subnets).await?;
        shown(".status.conditions[?(@.type==\"NotInEffect\")].status", "subnetgroup/mine", "True").await?;
        Ok(())
    })
    .await
}
