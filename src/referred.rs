//! What parameter groups, subnet groups and security groups tell of themselves: one watch for each kind, and a status that is
//! written when it says something new. What it says is decided in [`kagami_core::desired::referred`].

use crate::stores::Scope;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kagami_api::v1alpha1::{ParameterGroup, SecurityGroup, SubnetGroup};
use kagami_core::desired::referred::{parameter_group_status, security_group_status, subnet_group_status};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::time::Duration;
use tracing::{info, warn};

/// How long a write that failed waits for the next try.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Runs as long as it is polled.
pub(crate) async fn tell(scope: &Scope) {
    futures::join!(
        follow(scope, parameter_group_status, |group: &ParameterGroup| group.status.as_ref()),
        follow(scope, subnet_group_status, |group: &SubnetGroup| group.status.as_ref()),
        follow(scope, security_group_status, |group: &SecurityGroup| group.status.as_ref()),
    );
}

async fn follow<K, S>(scope: &Scope, decide: fn(&K, &Time) -> S, shown: fn(&K) -> Option<&S>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
    S: Serialize + PartialEq,
{
    let kind = K::kind(&());
    let api: Api<K> = match &scope.namespace {
        Some(namespace) => Api::namespaced(scope.client.clone(), namespace),
        None => Api::all(scope.client.clone()),
    };
    let stream = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
    let mut stream = std::pin::pin!(stream);
    while let Some(object) = stream.next().await {
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                warn!(%error, %kind, "a watch failed; it is tried again");
                continue;
            }
        };
        let status = decide(&object, &Time(jiff::Timestamp::now()));
        if object.meta().deletion_timestamp.is_none() && shown(&object) != Some(&status) {
            write(scope, &object, &status).await;
        }
    }
}

/// A newer object comes with an event of its own, so what cannot be written after a few tries is let go.
async fn write<K, S>(scope: &Scope, object: &K, status: &S)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let (kind, name) = (K::kind(&()), object.name_any());
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(scope.client.clone(), &namespace);
    let patch = json!({ "apiVersion": K::api_version(&()), "kind": kind,
        "metadata": { "name": name, "uid": object.uid() }, "status": status });
    let mut waits = AGAIN_AFTER.into_iter();
    loop {
        match api
            .patch_status(&name, &PatchParams::apply("kagami-status").force(), &Patch::Apply(&patch))
            .await
        {
            Ok(_) => return info!(%kind, name, namespace, "its status was written"),
            // Gone, or another object of the same name.
            Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => return,
            Err(error) => match waits.next() {
                Some(wait) => {
                    warn!(%error, %kind, name, namespace, "a status could not be written; it is tried again");
                    tokio::time::sleep(wait).await;
                }
                None => return warn!(%error, %kind, name, namespace, "a status could not be written"),
            },
        }
    }
}
