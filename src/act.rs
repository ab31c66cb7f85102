//! Carries out a plan: one fenced request for each step. It decides nothing; the first failure of a lane ends it.

use crate::agents::{Agents, Failed};
use crate::observe::Written;
use crate::secrets;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kagami_api::names;
use kagami_api::reason::Reason;
use kagami_core::build;
use kagami_core::desired::Desired;
use kagami_core::observed::{Kind, ObjectKey, Observed};
use kagami_core::plan::{Act, HandOver, Plan, RaiseTerm, Step, Wait};
use kagami_protocol::{Boot, Command, Refused, Role as EngineRole};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use tracing::{info, warn};

/// How long the writes pause at a handover at most, in milliseconds; the pause ends by itself.
const PAUSE_MS: u64 = 2_000;
/// How often, and how many times, the old primary is asked whether it has become a replica.
const DEMOTED_EVERY: std::time::Duration = std::time::Duration::from_millis(10);
const DEMOTED_TRIES: u32 = 50;
/// How long the candidate may take to reach the offset, in milliseconds.
const CATCH_UP_MS: u64 = 300;

/// What performs.
pub(crate) struct Hands<'a> {
    pub(crate) client: &'a Client,
    pub(crate) agents: &'a Agents,
    pub(crate) written: &'a Written,
    pub(crate) group: &'a Desired,
    pub(crate) observed: &'a Observed,
}

/// What came of a plan.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The steps that were done, for events.
    pub(crate) done: Vec<Step>,
    /// The first thing that went wrong and is worth telling.
    pub(crate) failure: Option<Wait>,
    /// Something was refused because the world has moved on: observe again at once.
    pub(crate) stale: bool,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.done.extend(other.done);
        self.failure = self.failure.take().or(other.failure);
        self.stale |= other.stale;
    }
}

/// Why a step was not done.
enum Trouble {
    /// What was expected no longer holds.
    Stale(String),
    /// Something for the status.
    Tell(Reason, String, String),
}

impl Hands<'_> {
    /// Roles first in time: objects and roles do not wait for each other.
    pub(crate) async fn perform(&self, plan: &Plan) -> Outcome {
        let (roles, objects): (Vec<&Step>, Vec<&Step>) = plan.steps.iter().partition(|step| {
            matches!(
                step.act,
                Act::RaiseTerm(_) | Act::Order { .. } | Act::HandOver(_) | Act::NoteServed { .. }
            )
        });
        let (mut outcome, other) = futures::join!(self.roles(&roles), self.objects(&objects));
        outcome.merge(other);
        outcome
    }

    /// Terms, then orders: a lane for each node, so that one silent node holds up nobody else.
    async fn roles(&self, steps: &[&Step]) -> Outcome {
        let mut outcome = Outcome::default();
        let raises: Vec<&Step> =
            steps.iter().copied().filter(|step| matches!(step.act, Act::RaiseTerm(_))).collect();
        for raised in join_all(raises.iter().map(|step| self.lane(vec![step]))).await {
            outcome.merge(raised);
        }
        if outcome.stale || outcome.failure.is_some() {
            return outcome;
        }
        let mut lanes: BTreeMap<String, Vec<&Step>> = BTreeMap::new();
        for step in steps {
            let lane = match &step.act {
                Act::Order { node, .. } => node.clone(),
                Act::HandOver(hand) => format!("handover/{}", hand.to),
                Act::NoteServed { shard, .. } => format!("served/{shard}"),
                _ => continue,
            };
            lanes.entry(lane).or_default().push(step);
        }
        for lane in join_all(lanes.into_values().map(|steps| self.lane(steps))).await {
            outcome.merge(lane);
        }
        outcome
    }

    /// Secrets, then everything that pods need, then pods; and ties between a role and an account, which the apiserver
    /// takes only when it finds the role.
    async fn objects(&self, steps: &[&Step]) -> Outcome {
        let mut outcome = Outcome::default();
        let rank = |step: &Step| match &step.act {
            Act::MakeSecrets => 0,
            Act::Apply { key, .. } if matches!(key.kind, Kind::StatefulSet | Kind::RoleBinding) => 2,
            _ => 1,
        };
        for each in 0..=2 {
            let phase = steps.iter().copied().filter(|step| rank(step) == each);
            for done in join_all(phase.map(|step| self.lane(vec![step]))).await {
                outcome.merge(done);
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        outcome
    }

    async fn lane(&self, steps: Vec<&Step>) -> Outcome {
        let mut outcome = Outcome::default();
        for step in steps {
            let begun = tokio::time::Instant::now();
            match self.step(&step.act).await {
                Ok(note) => {
                    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    info!(
                        group = self.group.name,
                        namespace = self.group.namespace,
                        reason = step.reason.as_str(),
                        took_ms,
                        note,
                        "{}",
                        step.act
                    );
                    outcome.done.push(step.clone());
                }
                Err(Trouble::Stale(why)) => {
                    info!(
                        group = self.group.name,
                        namespace = self.group.namespace,
                        why,
                        "not done, the world has moved on: {}",
                        step.act
                    );
                    outcome.stale = true;
                    return outcome;
                }
                Err(Trouble::Tell(reason, subject, message)) => {
                    warn!(
                        group = self.group.name,
                        namespace = self.group.namespace,
                        reason = reason.as_str(),
                        message,
                        "failed: {}",
                        step.act
                    );
                    outcome.failure = Some(Wait { reason, subject, message });
                    return outcome;
                }
            }
        }
        outcome
    }

    async fn step(&self, act: &Act) -> Result<String, Trouble> {
        match act {
            Act::Apply { key, object } => self.apply(key, object).await,
            Act::Delete { key, uid } => self.delete(key, uid).await,
            Act::MakeSecrets => self.make_secrets().await,
            Act::LabelRole { pod, uid, role } => self.label(pod, uid, role).await,
            Act::RaiseTerm(raise) => self.raise(raise).await,
            Act::NoteServed { shard, resource_version } => self.note_served(shard, resource_version).await,
            Act::Order { node, boot, term, role, command } => self
                .agents
                .order(&self.group.namespace, node, boot, *term, *role, (**command).clone())
                .await
                .map(|done| done.note)
                .map_err(|failed| refused(node, failed)),
            Act::HandOver(hand) => self.hand_over(hand).await,
        }
    }

    async fn apply(&self, key: &ObjectKey, object: &Value) -> Result<String, Trouble> {
        match key.kind {
            Kind::ServiceAccount => self.apply_as::<ServiceAccount>(key, object).await,
            Kind::Role => self.apply_as::<Role>(key, object).await,
            Kind::RoleBinding => self.apply_as::<RoleBinding>(key, object).await,
            Kind::Secret => self.apply_as::<Secret>(key, object).await,
            Kind::ConfigMap => self.apply_as::<ConfigMap>(key, object).await,
            Kind::NetworkPolicy => self.apply_as::<NetworkPolicy>(key, object).await,
            Kind::Service => self.apply_as::<Service>(key, object).await,
            Kind::EndpointSlice => self.apply_as::<EndpointSlice>(key, object).await,
            Kind::PodDisruptionBudget => self.apply_as::<PodDisruptionBudget>(key, object).await,
            Kind::StatefulSet => self.apply_as::<StatefulSet>(key, object).await,
        }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.group.namespace)
    }

    async fn apply_as<K>(&self, key: &ObjectKey, object: &Value) -> Result<String, Trouble>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api = self.api::<K>();
        if !self.observed.children.contains_key(key) {
            // What is not ours is not taken over: neither a stranger's object nor another group's.
            let found = api.get_opt(&key.name).await.map_err(|error| failed(key, &error))?;
            let found = found.and_then(|found| serde_json::to_value(found).ok());
            if let Some(found) = found {
                let label = found
                    .pointer("/metadata/labels")
                    .and_then(|labels| labels.get(names::LABEL_REPLICATION_GROUP));
                // A label can be edited by hand; an owner's uid says whose it is all the same.
                let owners = found.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                let owned =
                    owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *self.group.uid));
                if !owned && label.and_then(Value::as_str) != Some(&self.group.name) {
                    let message = format!(
                        "{key} is there already and does not belong to this group; Kagami takes over nothing. Rename the group, or \
                         remove that object."
                    );
                    return Err(Trouble::Tell(Reason::NameConflict, key.to_string(), message));
                }
            }
        }
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let applied = api
            .patch(&key.name, &params, &Patch::Apply(object))
            .await
            .map_err(|error| failed(key, &error))?;
        if let Ok(applied) = serde_json::to_value(applied) {
            self.written.note(&self.group.namespace, key, applied);
        }
        Ok(String::new())
    }

    async fn delete(&self, key: &ObjectKey, uid: &str) -> Result<String, Trouble> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api::<NetworkPolicy>().delete(&key.name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(failed(key, &error)),
        }
        self.written.forget(&self.group.namespace, key);
        Ok(String::new())
    }

    /// The operator's Secret first, because it holds the authority that signs the other; each is created, never replaced.
    async fn make_secrets(&self) -> Result<String, Trouble> {
        let api = self.api::<Secret>();
        let names = [names::operator_secret(&self.group.name), names::agent_secret(&self.group.name)];
        let made = |error: secrets::SecretError| {
            Trouble::Tell(Reason::ApplyFailed, "Secret".into(), error.to_string())
        };
        let (mut operator, mut new_authority) = (None, false);
        for (index, name) in names.iter().enumerate() {
            let key = ObjectKey { kind: Kind::Secret, name: name.clone() };
            let present = api.get_opt(name).await.map_err(|error| failed(&key, &error))?;
            let secret = match present {
                Some(secret)
                    if secret
                        .metadata
                        .labels
                        .as_ref()
                        .and_then(|l| l.get(names::LABEL_REPLICATION_GROUP))
                        != Some(&self.group.name) =>
                {
                    let message = format!(
                        "{key} is there already and does not belong to this group; rename the group, or remove that object"
                    );
                    return Err(Trouble::Tell(Reason::NameConflict, key.to_string(), message));
                }
                // A new authority signs the agents anew; their passwords stay, because engines run with them.
                Some(secret) if index == 1 && new_authority => {
                    let mut data = secrets::agent_data(
                        &self.group.name,
                        operator.as_ref().unwrap_or(&Secret::default()),
                    )
                    .map_err(made)?;
                    data.retain(|key, _| !key.ends_with("-password"));
                    let patch = json!({ "metadata": { "resourceVersion": secret.metadata.resource_version }, "stringData": data });
                    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                        .await
                        .map_err(|error| failed(&key, &error))?
                }
                Some(secret) => secret,
                None => {
                    new_authority |= index == 0;
                    let data = if index == 0 {
                        secrets::operator_data(&self.group.name).map_err(made)?
                    } else {
                        secrets::agent_data(&self.group.name, operator.as_ref().unwrap_or(&Secret::default()))
                            .map_err(made)?
                    };
                    let secret: Secret = serde_json::from_value(build::secret(self.group, name, &data))
                        .map_err(|error| {
                            Trouble::Tell(Reason::ApplyFailed, key.to_string(), error.to_string())
                        })?;
                    let params = PostParams {
                        field_manager: Some(names::FIELD_MANAGER.into()),
                        ..PostParams::default()
                    };
                    api.create(&params, &secret).await.map_err(|error| failed(&key, &error))?
                }
            };
            if let Ok(object) = serde_json::to_value(&secret) {
                self.written.note(&self.group.namespace, &key, object);
            }
            if index == 0 {
                operator = Some(secret);
            }
        }
        Ok(String::new())
    }

    async fn label(&self, pod: &str, uid: &str, role: &str) -> Result<String, Trouble> {
        let patch = json!({ "metadata": { "uid": uid, "labels": { names::LABEL_ROLE: role } } });
        match self.api::<Pod>().patch_metadata(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(String::new()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                Err(Trouble::Stale(status.message))
            }
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, pod.to_owned(), error.to_string())),
        }
    }

    /// The compare-and-set of a term.
    async fn raise(&self, raise: &RaiseTerm) -> Result<String, Trouble> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let object = build::lease(self.group, raise, &now);
        self.write_lease(&raise.shard, object, raise.resource_version.is_some()).await
    }

    async fn note_served(&self, shard: &str, resource_version: &str) -> Result<String, Trouble> {
        let name = names::shard_name(&self.group.name, shard);
        let patch = json!({ "metadata": { "resourceVersion": resource_version, "annotations": { build::SERVED: "true" } } });
        match self.api::<Lease>().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(lease) => {
                if let Ok(object) = serde_json::to_value(lease) {
                    self.written.note_lease(&self.group.namespace, &name, object);
                }
                Ok(String::new())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Err(Trouble::Stale(status.message))
            }
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, name, error.to_string())),
        }
    }

    async fn write_lease(&self, shard: &str, object: Value, exists: bool) -> Result<String, Trouble> {
        let name = names::shard_name(&self.group.name, shard);
        let tell = |error: String| Trouble::Tell(Reason::ApplyFailed, format!("Lease/{name}"), error);
        let lease: Lease = serde_json::from_value(object).map_err(|error| tell(error.to_string()))?;
        let api = self.api::<Lease>();
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() };
        let outcome = if exists {
            api.replace(&name, &params, &lease).await
        } else {
            api.create(&params, &lease).await
        };
        match outcome {
            Ok(lease) => {
                if let Ok(object) = serde_json::to_value(lease) {
                    self.written.note_lease(&self.group.namespace, &name, object);
                }
                Ok(String::new())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Err(Trouble::Stale(status.message))
            }
            Err(error) => Err(tell(error.to_string())),
        }
    }

    /// Pause, equal offsets, promote, follow, resume. Whatever fails, the pause is ended or ends by itself.
    async fn hand_over(&self, hand: &HandOver) -> Result<String, Trouble> {
        let namespace = &self.group.namespace;
        let (from, to) = ((&*hand.from, &hand.from_boot), (&*hand.to, &hand.to_boot));
        let order = async |(node, boot): (&str, &Boot), role, command| {
            self.agents.order(namespace, node, boot, hand.term, role, command).await
        };
        let paused = order(from, Some(EngineRole::Primary), Command::PauseWrites { ms: PAUSE_MS })
            .await
            .map_err(|failed| refused(&hand.from, failed))?;
        let promote = Command::Promote { min_offset: paused.offset, wait_ms: CATCH_UP_MS, force: false };
        let promoted = match order(to, Some(EngineRole::Replica), promote).await {
            Ok(promoted) => promoted,
            Err(failed) => {
                // An order that was refused changed nothing; one without an answer may have been carried out, so the pause stays.
                if matches!(failed, Failed::Refused(_)) {
                    let _ = order(from, None, Command::ResumeWrites).await;
                }
                return Err(refused(&hand.to, failed));
            }
        };
        if !hand.cluster {
            let follow = Command::Replicate { primary: hand.to_address.clone(), primary_id: None };
            order(from, None, follow).await.map_err(|failed| refused(&hand.from, failed))?;
        }
        // Only a replica may go on: an old primary that has not learnt of the new one stays paused until its pause ends.
        for _ in 0..DEMOTED_TRIES {
            if order(from, Some(EngineRole::Replica), Command::ResumeWrites).await.is_ok() {
                break;
            }
            tokio::time::sleep(DEMOTED_EVERY).await;
        }
        Ok(promoted.note)
    }
}

/// An apiserver's refusal, in its own words.
fn failed(key: &ObjectKey, error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) if status.code == 409 => Trouble::Stale(status.message.clone()),
        kube::Error::Api(status) => {
            Trouble::Tell(Reason::ApplyFailed, key.to_string(), status.message.clone())
        }
        error => Trouble::Tell(Reason::ApplyFailed, key.to_string(), error.to_string()),
    }
}

/// An agent's refusal: mostly the world has moved on.
fn refused(node: &str, failed: Failed) -> Trouble {
    match failed {
        Failed::Refused(Refused::Unsupported { what }) => Trouble::Tell(
            Reason::AgentTooOld,
            node.to_owned(),
            format!("its agent does not know an order of this release: {what}"),
        ),
        Failed::Refused(Refused::Failed { message }) => {
            Trouble::Tell(Reason::RecoveringNode, node.to_owned(), message)
        }
        other => Trouble::Stale(format!("{node}: {other}")),
    }
}

/// Cuts a child's tie to the group.
pub(crate) async fn untie(client: &Client, namespace: &str, key: &ObjectKey) -> Result<(), kube::Error> {
    async fn cut<K>(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let patch = json!({ "metadata": { "ownerReferences": null } });
        match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
    match key.kind {
        Kind::ServiceAccount => cut::<ServiceAccount>(client, namespace, &key.name).await,
        Kind::Role => cut::<Role>(client, namespace, &key.name).await,
        Kind::RoleBinding => cut::<RoleBinding>(client, namespace, &key.name).await,
        Kind::Secret => cut::<Secret>(client, namespace, &key.name).await,
        Kind::ConfigMap => cut::<ConfigMap>(client, namespace, &key.name).await,
        Kind::NetworkPolicy => cut::<NetworkPolicy>(client, namespace, &key.name).await,
        Kind::Service => cut::<Service>(client, namespace, &key.name).await,
        Kind::EndpointSlice => cut::<EndpointSlice>(client, namespace, &key.name).await,
        Kind::PodDisruptionBudget => cut::<PodDisruptionBudget>(client, namespace, &key.name).await,
        Kind::StatefulSet => cut::<StatefulSet>(client, namespace, &key.name).await,
    }
}

/// Cuts a shard lease's tie to the group.
pub(crate) async fn untie_lease(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let patch = json!({ "metadata": { "ownerReferences": null } });
    api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}
