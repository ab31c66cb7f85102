//! The world outside of the loop, for one group: the apiserver and the agents.

use crate::agents::Agents;
use crate::cycle::Recorders;
use crate::metrics::Metrics;
use crate::secrets;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kagami_api::names;
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::observed::Kind;
use kagami_core::plan::Confirm;
use kagami_core::status::Happening;
use kagami_cycle::{ApiError, Counted, Failed, Order, Target, World};
use kagami_protocol::Done;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How many different events of a group are remembered, so that one that is repeated is counted instead of written again.
const RECORDERS: usize = 16;

/// One group's world.
pub(crate) struct Outside<'a> {
    pub(crate) client: &'a Client,
    pub(crate) agents: &'a Agents,
    pub(crate) metrics: &'a Metrics,
    pub(crate) reporter: &'a Reporter,
    pub(crate) recorders: &'a Recorders,
    pub(crate) began: Instant,
    pub(crate) group: &'a ReplicationGroup,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
}

/// One request.
enum Ask<'a> {
    Get,
    Apply(&'a Value),
    Create(&'a Value),
    Replace(&'a Value),
    Merge(&'a Value),
    Delete(Option<&'a str>),
}

fn error(error: kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => ApiError { code: status.code, message: status.message },
        error => ApiError { code: 0, message: error.to_string() },
    }
}

fn unread(error: serde_json::Error) -> ApiError {
    ApiError { code: 0, message: error.to_string() }
}

impl Outside<'_> {
    async fn ask(&self, target: &Target, ask: Ask<'_>) -> Result<Option<Value>, ApiError> {
        match target {
            Target::Child(key) => match key.kind {
                Kind::ServiceAccount => self.ask_as::<ServiceAccount>(&key.name, ask).await,
                Kind::Role => self.ask_as::<Role>(&key.name, ask).await,
                Kind::RoleBinding => self.ask_as::<RoleBinding>(&key.name, ask).await,
                Kind::Secret => self.ask_as::<Secret>(&key.name, ask).await,
                Kind::ConfigMap => self.ask_as::<ConfigMap>(&key.name, ask).await,
                Kind::NetworkPolicy => self.ask_as::<NetworkPolicy>(&key.name, ask).await,
                Kind::Service => self.ask_as::<Service>(&key.name, ask).await,
                Kind::EndpointSlice => self.ask_as::<EndpointSlice>(&key.name, ask).await,
                Kind::PodDisruptionBudget => self.ask_as::<PodDisruptionBudget>(&key.name, ask).await,
                Kind::StatefulSet => self.ask_as::<StatefulSet>(&key.name, ask).await,
            },
            Target::Lease(name) => self.ask_as::<Lease>(name, ask).await,
            Target::Pod(name) => self.ask_as::<Pod>(name, ask).await,
            Target::Claim(name) => self.ask_as::<PersistentVolumeClaim>(name, ask).await,
            Target::Group => self.ask_as::<ReplicationGroup>(self.name, ask).await,
        }
    }

    async fn ask_as<K>(&self, name: &str, ask: Ask<'_>) -> Result<Option<Value>, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let post = PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() };
        let typed = |object: &Value| serde_json::from_value::<K>(object.clone()).map_err(unread);
        let answer = match ask {
            Ask::Get => api.get_opt(name).await,
            Ask::Apply(object) => {
                let params = PatchParams::apply(names::FIELD_MANAGER).force();
                api.patch(name, &params, &Patch::Apply(object)).await.map(Some)
            }
            Ask::Create(object) => api.create(&post, &typed(object)?).await.map(Some),
            Ask::Replace(object) => api.replace(name, &post, &typed(object)?).await.map(Some),
            Ask::Merge(patch) => {
                api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(Some)
            }
            Ask::Delete(uid) => {
                let params = match uid {
                    Some(uid) => DeleteParams {
                        preconditions: Some(Preconditions {
                            uid: Some(uid.to_owned()),
                            resource_version: None,
                        }),
                        ..DeleteParams::default()
                    },
                    None => DeleteParams::background(),
                };
                api.delete(name, &params).await.map(|_| None)
            }
        };
        answer.map_err(error)?.map(|object| serde_json::to_value(object).map_err(unread)).transpose()
    }

    async fn answered(&self, target: &Target, ask: Ask<'_>) -> Result<Value, ApiError> {
        Ok(self.ask(target, ask).await?.unwrap_or_default())
    }
}

impl World for Outside<'_> {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ApiError> {
        self.ask(target, Ask::Get).await
    }
    async fn apply(&self, target: &Target, object: &Value) -> Result<Value, ApiError> {
        self.answered(target, Ask::Apply(object)).await
    }
    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ApiError> {
        self.answered(target, Ask::Create(object)).await
    }
    async fn replace(&self, target: &Target, object: &Value) -> Result<Value, ApiError> {
        self.answered(target, Ask::Replace(object)).await
    }
    async fn merge(&self, target: &Target, patch: &Value) -> Result<Value, ApiError> {
        self.answered(target, Ask::Merge(patch)).await
    }
    async fn apply_status(&self, status: &Value) -> Result<Value, ApiError> {
        let api: Api<ReplicationGroup> = Api::namespaced(self.client.clone(), self.namespace);
        let params = PatchParams::apply("kagami-status").force();
        let written = api.patch_status(self.name, &params, &Patch::Apply(status)).await.map_err(error)?;
        serde_json::to_value(written).map_err(unread)
    }
    async fn delete(&self, target: &Target, uid: Option<&str>) -> Result<(), ApiError> {
        self.ask(target, Ask::Delete(uid)).await.map(|_| ())
    }
    async fn event(&self, happening: &Happening) {
        // The API takes 1024 bytes of a note.
        let mut note = happening.message.clone();
        while note.len() > 1000 {
            note.pop();
        }
        let recorder = {
            let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
            if recorders.len() >= RECORDERS && !recorders.contains_key(&note) {
                recorders.clear();
            }
            let fresh = || Recorder::new(self.client.clone(), self.reporter.clone());
            recorders.entry(note.clone()).or_insert_with(fresh).clone()
        };
        let event = Event {
            type_: if happening.warning { EventType::Warning } else { EventType::Normal },
            reason: happening.reason.as_str().to_owned(),
            note: Some(note),
            action: "Reconcile".into(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &self.group.object_ref(&())).await {
            warn!(group = self.name, namespace = self.namespace, %error, "an event could not be sent");
        }
    }
    async fn order(&self, order: Order) -> Result<Done, Failed> {
        self.agents.order(self.namespace, order).await
    }
    fn confirm(&self, nodes: &[String], confirms: &[Confirm]) {
        self.agents.confirm(self.namespace, nodes, confirms);
    }
    fn leave(&self, nodes: &[String]) {
        self.agents.leave(self.namespace, nodes);
    }
    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
    fn operator_secret(&self) -> Result<BTreeMap<String, String>, String> {
        secrets::operator_data(self.name).map_err(|error| error.to_string())
    }
    fn agent_secret(&self, operator: &Value) -> Result<BTreeMap<String, String>, String> {
        let operator: Secret = serde_json::from_value(operator.clone()).map_err(|error| error.to_string())?;
        secrets::agent_data(self.name, &operator).map_err(|error| error.to_string())
    }
    fn count(&self, counted: Counted<'_>) {
        match counted {
            Counted::Failover(failover) => self.metrics.failover(failover),
            Counted::Step(reason) => self.metrics.step(reason),
            Counted::Reason(reason) => self.metrics.reason(reason),
            Counted::RefusedPlan => self.metrics.refused_plan(),
        }
    }
}
