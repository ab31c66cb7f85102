//! Keeps what groups refer to from being deleted under them. What is written is decided in [`kagami_core::desired::in_use`].

use crate::stores::{Scope, Stores};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kagami_core::desired::in_use::{self, Hold, Referred, Uses};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{info, warn};

/// Changes come together; one look answers all that came meanwhile.
const SETTLES_AFTER: Duration = Duration::from_millis(500);
/// How often it is looked although nothing was heard.
const LOOKS_AGAIN: Duration = Duration::from_secs(60);
/// How long a write that failed waits for the next look.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The stores that are looked at.
pub(crate) struct Held {
    groups: Store<ReplicationGroup>,
    parameter_groups: Store<ParameterGroup>,
    subnet_groups: Store<SubnetGroup>,
    security_groups: Store<SecurityGroup>,
    referring: Arc<Notify>,
}

impl Held {
    pub(crate) fn of(stores: &Stores) -> Self {
        Self {
            groups: stores.groups.clone(),
            parameter_groups: stores.parameter_groups.clone(),
            subnet_groups: stores.subnet_groups.clone(),
            security_groups: stores.security_groups.clone(),
            referring: stores.referring.clone(),
        }
    }
}

/// Runs as long as it is polled.
pub(crate) async fn hold(scope: &Scope, held: &Held) {
    loop {
        // The net under what no event tells, such as a group that vanished while the watch was broken.
        let _ = tokio::time::timeout(LOOKS_AGAIN, held.referring.notified()).await;
        tokio::time::sleep(SETTLES_AFTER).await;
        let groups = held.groups.state();
        let uses = Uses::of(groups.iter().map(AsRef::as_ref));
        let written = [
            each(scope, &held.parameter_groups, Referred::ParameterGroup, &uses, |group| {
                group.status.as_ref().map(|status| status.conditions.as_slice())
            })
            .await,
            each(scope, &held.subnet_groups, Referred::SubnetGroup, &uses, |group| {
                group.status.as_ref().map(|status| status.conditions.as_slice())
            })
            .await,
            each(scope, &held.security_groups, Referred::SecurityGroup, &uses, |group| {
                group.status.as_ref().map(|status| status.conditions.as_slice())
            })
            .await,
        ];
        if written.contains(&false) {
            tokio::time::sleep(AGAIN_AFTER).await;
            held.referring.notify_one();
        }
    }
}

/// Whether everything could be written that was to be.
async fn each<K>(
    scope: &Scope,
    store: &Store<K>,
    referred: Referred,
    uses: &Uses,
    conditions: fn(&K) -> Option<&[Condition]>,
) -> bool
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let mut all = true;
    for object in store.state() {
        let users = uses.by(referred, object.meta());
        let shown = conditions(&object).unwrap_or_default();
        let wanted = in_use::hold(object.meta(), shown, users, &Time(jiff::Timestamp::now()));
        match write(scope, &*object, wanted).await {
            Ok(()) => {}
            // Gone, or changed meanwhile: an event of its own brings it here again.
            Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => {}
            Err(error) => {
                let (kind, name) = (K::kind(&()), object.name_any());
                warn!(%error, %kind, name, "what is in use could not be marked as such; it is tried again");
                all = false;
            }
        }
    }
    all
}

async fn write<K>(scope: &Scope, object: &K, wanted: Hold) -> kube::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let (kind, name) = (K::kind(&()), object.name_any());
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(scope.client.clone(), &namespace);
    if let Some(finalizers) = wanted.finalizers {
        // The list is written as it was seen, so it must still be what was seen.
        let patch = json!({ "metadata": { "finalizers": finalizers, "uid": object.uid(), "resourceVersion": object.resource_version() } });
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        info!(%kind, name, namespace, ?finalizers, "its finalizers were written");
    }
    if let Some(condition) = wanted.condition {
        let patch = json!({ "apiVersion": K::api_version(&()), "kind": kind,
            "metadata": { "name": name, "uid": object.uid() }, "status": { "conditions": [condition] } });
        let params = PatchParams::apply("kagami-in-use").force();
        api.patch_status(&name, &params, &Patch::Apply(&patch)).await?;
        info!(%kind, name, namespace, "it was deleted and is in use; its status says so");
    }
    Ok(())
}
