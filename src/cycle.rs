//! One cycle for one group, always forward: observe → resolve → plan → check → act → status. The driver; rules are elsewhere.

use crate::act::{Hands, Outcome};
use crate::agents::Agents;
use crate::metrics::Metrics;
use crate::observe::{Written, observe, references, wanted};
use crate::secrets;
use crate::stores::Stores;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kagami_api::names;
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{DeletionPolicy, ReplicationGroup, ReplicationGroupStatus};
use kagami_core::build::accepted;
use kagami_core::check::check;
use kagami_core::desired::{Desired, Refusal, Tables, resolve};
use kagami_core::observed::{Kind, ObjectKey, Observed};
use kagami_core::plan::{Frozen, Plan, Setting, Wait, plan};
use kagami_core::status::{Happening, Seen, differs, happenings, status};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How often a group is looked at although nothing was heard: the net under all watches and streams.
const RESYNC: Duration = Duration::from_secs(60);
/// After a step, what it changed is looked at soon; most of it is pushed sooner.
const AFTER_STEP: Duration = Duration::from_millis(50);
/// The pause after a failure; it doubles with each failure in a row.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a deleted group's pods are waited for before its finalizer is removed all the same (a machine may be gone).
const DELETE_WAIT: Duration = Duration::from_secs(60);
/// How many different events of a group are remembered, so that one that is repeated is counted instead of written again.
const RECORDERS: usize = 16;

/// What all cycles share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) stores: Stores,
    pub(crate) agents: Agents,
    pub(crate) written: Written,
    pub(crate) tables: Tables,
    pub(crate) setting: Setting,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reporter: Reporter,
    pub(crate) memory: Mutex<HashMap<(String, String), Memory>>,
}

/// What is kept of a group between cycles; all of it may be lost.
pub(crate) struct Memory {
    since: Instant,
    /// The last spec that was accepted: a bad edit leaves the running group as it was (P9).
    accepted: Option<Desired>,
    status: Option<(u64, ReplicationGroupStatus)>,
    tls: Option<(String, Arc<rustls::ClientConfig>)>,
    failures: u32,
    deleting: Option<Instant>,
    uid: String,
    /// By what they tell. A recorder counts events of one reason as one, and keeps the words of the first only.
    recorders: HashMap<String, Recorder>,
}

/// A cycle that could not be ended; everything else is in the status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CycleError {
    /// The group itself could not be written.
    #[error("the replication group could not be written")]
    Group(#[source] Box<kube::Error>),
}

impl From<kube::Error> for CycleError {
    fn from(error: kube::Error) -> Self {
        Self::Group(Box::new(error))
    }
}

/// One cycle.
pub(crate) async fn reconcile(
    group: Arc<ReplicationGroup>,
    context: Arc<Context>,
) -> Result<Action, CycleError> {
    let begun = Instant::now();
    let outcome = Cycle {
        group: &group,
        context: &context,
        name: group.name_any(),
        namespace: group.namespace().unwrap_or_default(),
    }
    .run()
    .await;
    context.metrics.cycle(begun.elapsed().as_secs_f64());
    context.metrics.groups(context.stores.groups.state().len());
    outcome
}

/// After a cycle that could not be ended.
pub(crate) fn retry(group: Arc<ReplicationGroup>, error: &CycleError, _context: Arc<Context>) -> Action {
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    warn!(
        group = group.name_any(),
        namespace = group.namespace(),
        error = chain,
        "a cycle failed; it is tried again"
    );
    Action::requeue(Duration::from_secs(2))
}

struct Cycle<'a> {
    group: &'a ReplicationGroup,
    context: &'a Context,
    name: String,
    namespace: String,
}

impl Cycle<'_> {
    async fn run(&self) -> Result<Action, CycleError> {
        let watching_ms =
            self.remember(|memory| u64::try_from(memory.since.elapsed().as_millis()).unwrap_or(u64::MAX));
        let previous = self.latest_status();
        let context = self.context;
        let mut group = self.group.clone();
        group.status = Some(previous.clone());
        let mut observed = observe(&group, &context.stores, &context.written, &context.agents, watching_ms);
        self.attend(&observed);
        if self.group.meta().deletion_timestamp.is_some() {
            return self.delete(&observed, &previous).await;
        }
        if !self.group.finalizers().iter().any(|name| name == names::FINALIZER) {
            self.protect().await?;
        }
        let (desired, refusals) = self.resolve(&observed);
        let Some(desired) = desired else {
            let seen = self.seen(None, &refusals, &observed, None, None, &previous, false);
            self.tell(&previous, &seen, &[]).await?;
            return Ok(Action::requeue(RESYNC));
        };
        observed.formed = kagami_core::status::formed(&previous);
        let (frozen, planned) = plan(&desired, &observed, &context.setting);
        let notes = check(&frozen.desired, &observed, &planned);
        let (outcome, planned) = if notes.is_empty() {
            self.confirm(&frozen, &planned);
            (self.act(&frozen, &observed, &planned).await, planned)
        } else {
            error!(group = self.name, namespace = self.namespace, notes = notes.join("; "), plan = %planned, "the plan was refused by the check");
            context.metrics.refused_plan();
            let failure =
                Wait { reason: Reason::BugRefused, subject: self.name.clone(), message: notes.join("; ") };
            (Outcome { failure: Some(failure), ..Outcome::default() }, planned)
        };
        let seen = self.seen(
            Some(&frozen),
            &refusals,
            &observed,
            Some(&planned),
            outcome.failure.as_ref(),
            &previous,
            false,
        );
        let told: Vec<Happening> = outcome
            .done
            .iter()
            .filter(|step| !step.event.is_empty())
            .map(|step| Happening { reason: step.reason, message: step.event.clone(), warning: step.warning })
            .collect();
        self.tell(&previous, &seen, &told).await?;
        Ok(self.next(&planned, &outcome))
    }

    /// When to look again.
    fn next(&self, planned: &Plan, outcome: &Outcome) -> Action {
        let failures = self.remember(|memory| {
            memory.failures = if outcome.failure.is_some() { memory.failures + 1 } else { 0 };
            memory.failures
        });
        if failures > 0 {
            return Action::requeue((RETRY_MIN * 2u32.saturating_pow(failures.min(10) - 1)).min(RETRY_MAX));
        }
        if outcome.stale || !outcome.done.is_empty() {
            return Action::requeue(AFTER_STEP);
        }
        Action::requeue(planned.again_ms.map_or(RESYNC, Duration::from_millis).min(RESYNC))
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<(String, String), Memory>> {
        self.context.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        let uid = self.group.uid().unwrap_or_default();
        let mut memory = self.memory();
        let fresh = || Memory {
            since: Instant::now(),
            accepted: None,
            status: None,
            tls: None,
            failures: 0,
            deleting: None,
            uid: uid.clone(),
            recorders: HashMap::new(),
        };
        let entry = memory.entry((self.namespace.clone(), self.name.clone())).or_insert_with(fresh);
        if entry.uid != uid {
            *entry = fresh();
        }
        with(entry)
    }

    /// The newer of what the watch shows and what was written last.
    fn latest_status(&self) -> ReplicationGroupStatus {
        let shown = self.group.status.clone().unwrap_or_default();
        let version: u64 = self.group.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0);
        self.remember(|memory| match &memory.status {
            Some((written, status)) if *written > version => status.clone(),
            _ => shown,
        })
    }

    fn resolve(&self, observed: &Observed) -> (Option<Desired>, Vec<Refusal>) {
        let found = references(self.group, &self.context.stores);
        match resolve(self.group, &found, &self.context.tables) {
            Ok(desired) => {
                self.remember(|memory| memory.accepted = Some(desired.clone()));
                (Some(desired), Vec::new())
            }
            Err(refusals) => {
                let kept = self
                    .remember(|memory| memory.accepted.clone())
                    .or_else(|| accepted(&self.name, observed));
                (kept, refusals)
            }
        }
    }

    /// Dials the pods that are there.
    fn attend(&self, observed: &Observed) {
        let key = ObjectKey { kind: Kind::Secret, name: names::operator_secret(&self.name) };
        let Some(secret) = observed.children.get(&key) else { return };
        let version =
            secret.pointer("/metadata/uid").and_then(|uid| uid.as_str()).unwrap_or_default().to_owned();
        let known = self.remember(|memory| memory.tls.clone());
        let tls = match known {
            Some((of, tls)) if of == version => tls,
            _ => {
                let parsed = serde_json::from_value(secret.clone()).ok();
                match parsed.as_ref().map(secrets::client_config) {
                    Some(Ok(tls)) => {
                        self.remember(|memory| memory.tls = Some((version, tls.clone())));
                        tls
                    }
                    Some(Err(error)) => {
                        warn!(group = self.name, namespace = self.namespace, %error, "the group's certificates cannot be used");
                        return;
                    }
                    None => return,
                }
            }
        };
        self.context.agents.attend(&self.reference(), &wanted(&observed.nodes), &tls);
    }

    fn reference(&self) -> ObjectRef<ReplicationGroup> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }

    /// Before anything is done: whoever is no longer to be the primary is no longer confirmed.
    fn confirm(&self, frozen: &Frozen, planned: &Plan) {
        let nodes: Vec<String> = frozen
            .desired
            .shards
            .iter()
            .flat_map(|shard| shard.nodes.iter().map(|node| node.name.clone()))
            .collect();
        self.context.agents.confirm(&self.namespace, &nodes, &planned.confirms);
    }

    async fn act(&self, frozen: &Frozen, observed: &Observed, planned: &Plan) -> Outcome {
        let hands = Hands {
            client: &self.context.client,
            agents: &self.context.agents,
            written: &self.context.written,
            group: &frozen.desired,
            observed,
        };
        let outcome = hands.perform(planned).await;
        for step in &outcome.done {
            self.context.metrics.step(step.reason);
        }
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "it only names the parts of a struct")]
    fn seen(
        &self,
        frozen: Option<&Frozen>,
        refusals: &[Refusal],
        observed: &Observed,
        planned: Option<&Plan>,
        failure: Option<&Wait>,
        previous: &ReplicationGroupStatus,
        deleting: bool,
    ) -> ReplicationGroupStatus {
        status(&Seen {
            generation: self.group.metadata.generation.unwrap_or(0),
            frozen,
            refusals,
            observed,
            plan: planned,
            failure,
            previous,
            now: Time(jiff::Timestamp::now()),
            deleting,
        })
    }

    /// Writes the status if it says something new, and sends the events.
    async fn tell(
        &self,
        previous: &ReplicationGroupStatus,
        fresh: &ReplicationGroupStatus,
        told: &[Happening],
    ) -> Result<(), CycleError> {
        let mut happened = told.to_vec();
        if differs(previous, fresh) {
            let api: Api<ReplicationGroup> = Api::namespaced(self.context.client.clone(), &self.namespace);
            let patch = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ReplicationGroup",
                "metadata": { "name": self.name, "uid": self.group.uid() }, "status": fresh });
            let written = api
                .patch_status(&self.name, &PatchParams::apply("kagami-status").force(), &Patch::Apply(&patch))
                .await?;
            let version = written.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0);
            self.remember(|memory| memory.status = Some((version, fresh.clone())));
            if previous.reason != fresh.reason {
                let reason = fresh.reason.clone().unwrap_or_default();
                let message = fresh
                    .conditions
                    .iter()
                    .find(|c| c.reason == reason)
                    .map(|c| c.message.clone())
                    .unwrap_or_default();
                info!(
                    group = self.name,
                    namespace = self.namespace,
                    reason,
                    status = fresh.status.map(|s| s.as_str()),
                    "{message}"
                );
                if let Ok(reason) = reason.parse::<Reason>() {
                    self.context.metrics.reason(reason);
                }
            }
            happened.extend(happenings(&self.name, previous, fresh));
        }
        for happening in happened {
            self.event(happening).await;
        }
        Ok(())
    }

    async fn event(&self, happening: Happening) {
        // The API takes 1024 bytes of a note.
        let mut note = happening.message;
        while note.len() > 1000 {
            note.pop();
        }
        let recorder = self.remember(|memory| {
            if memory.recorders.len() >= RECORDERS && !memory.recorders.contains_key(&note) {
                memory.recorders.clear();
            }
            let fresh = || Recorder::new(self.context.client.clone(), self.context.reporter.clone());
            memory.recorders.entry(note.clone()).or_insert_with(fresh).clone()
        });
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

    async fn protect(&self) -> Result<(), CycleError> {
        let api: Api<ReplicationGroup> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let mut finalizers = self.group.finalizers().to_vec();
        finalizers.push(names::FINALIZER.to_owned());
        let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": self.group.resource_version() } });
        match api.patch_metadata(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // Somebody wrote meanwhile: the next cycle sees it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// `Delete`: the nodes are ended, then everything else goes with the object. `Retain`: nothing is touched but the ties.
    async fn delete(
        &self,
        observed: &Observed,
        previous: &ReplicationGroupStatus,
    ) -> Result<Action, CycleError> {
        if !self.group.finalizers().iter().any(|name| name == names::FINALIZER) {
            return Ok(Action::await_change());
        }
        let seen = self.seen(None, &[], observed, None, None, previous, true);
        self.tell(previous, &seen, &[]).await?;
        let retain = self.group.spec.deletion_policy == Some(DeletionPolicy::Retain);
        if retain {
            self.untie(observed).await?;
            let message = format!(
                "Replication group {} was deleted with deletionPolicy Retain: its nodes run on, without an operator",
                self.name
            );
            self.event(Happening { reason: Reason::Retained, message, warning: false }).await;
        } else {
            let since = self.remember(|memory| *memory.deleting.get_or_insert_with(Instant::now));
            let sets: Vec<&ObjectKey> =
                observed.children.keys().filter(|key| key.kind == Kind::StatefulSet).collect();
            let api: Api<StatefulSet> = Api::namespaced(self.context.client.clone(), &self.namespace);
            for set in &sets {
                match api.delete(&set.name, &DeleteParams::background()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        self.context.written.forget(&self.namespace, set)
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let pods = observed.nodes.values().filter(|node| node.pod.is_some()).count();
            if (pods > 0 || !sets.is_empty()) && since.elapsed() < DELETE_WAIT {
                return Ok(Action::requeue(Duration::from_millis(500)));
            }
        }
        let nodes: Vec<String> = observed.nodes.keys().cloned().collect();
        self.context.agents.leave(&self.namespace, &nodes);
        let api: Api<ReplicationGroup> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let finalizers: Vec<&String> =
            self.group.finalizers().iter().filter(|name| *name != names::FINALIZER).collect();
        let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": self.group.resource_version() } });
        match api.patch_metadata(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                return Ok(Action::requeue(AFTER_STEP));
            }
            Err(error) => return Err(error.into()),
        }
        info!(group = self.name, namespace = self.namespace, retain, "let go");
        self.context.written.forget_group(&self.namespace, &self.name);
        self.memory().remove(&(self.namespace.clone(), self.name.clone()));
        Ok(Action::await_change())
    }

    /// Cuts the owner references, so that the garbage collector leaves the children alone.
    async fn untie(&self, observed: &Observed) -> Result<(), CycleError> {
        let uid = self.group.uid();
        for (key, object) in &observed.children {
            let owners = object.pointer("/metadata/ownerReferences").and_then(|owners| owners.as_array());
            let tied = owners
                .is_some_and(|owners| owners.iter().any(|owner| owner["uid"].as_str() == uid.as_deref()));
            if tied {
                crate::act::untie(&self.context.client, &self.namespace, key).await?;
            }
        }
        for lease in self.context.stores.leases.state() {
            let ours = lease.namespace().as_deref() == Some(&self.namespace)
                && lease.labels().get(names::LABEL_REPLICATION_GROUP) == Some(&self.name);
            if ours && !lease.owner_references().is_empty() {
                crate::act::untie_lease(&self.context.client, &self.namespace, &lease.name_any()).await?;
            }
        }
        Ok(())
    }
}
