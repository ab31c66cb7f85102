//! One cycle for one group, always forward: (observe) → resolve → plan → check → act → status. The driver; rules are elsewhere.

use crate::act::{Hands, Outcome};
use crate::world::{ApiError, Counted, Target, World};
use crate::written::Written;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kagami_api::names;
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{DeletionPolicy, ReplicationGroup, ReplicationGroupSpec, ReplicationGroupStatus};
use kagami_core::build::accepted;
use kagami_core::check::check;
use kagami_core::desired::{Desired, References, Refusal, Tables, resolve};
use kagami_core::observed::{Cause, Kind, ObjectKey, Observed};
use kagami_core::plan::{Built, Frozen, Plan, Setting, Wait, plan_with};
use kagami_core::requests::Requests;
use kagami_core::status::{Happening, Seen, differs, happenings, status};
use kagami_core::timeline::{Failover, Timeline};
use kagami_protocol::Shared;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tracing::{error, info};

/// How often a group is looked at although nothing was heard: the net under all watches and streams.
const RESYNC_MS: u64 = 60_000;
/// After a step, what it changed is looked at soon; most of it is pushed sooner.
const AFTER_STEP_MS: u64 = 50;
/// The pause after a failure; it doubles with each failure in a row.
const RETRY_MIN_MS: u64 = 500;
const RETRY_MAX_MS: u64 = 30_000;
/// How often a group that is being deleted is looked at.
const DELETING_MS: u64 = 500;
/// How long a deleted group's pods are waited for before its finalizer is removed all the same (a machine may be gone).
const DELETE_WAIT_MS: u64 = 60_000;

/// When to look again, if nothing is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After this long, in milliseconds.
    After(u64),
    /// Only when something changes.
    Change,
    /// Only when something changes, and what was remembered of the group is worth nothing any more.
    Gone,
}

/// What is kept of a group between cycles; all of it may be lost.
#[derive(Debug)]
pub struct Memory {
    since_ms: u64,
    /// The last spec that was accepted: a bad edit leaves the running group as it was (P9).
    accepted: Option<Shared<Desired>>,
    status: Option<(u64, ReplicationGroupStatus)>,
    timeline: Timeline,
    failures: u32,
    deleting_ms: Option<u64>,
    uid: String,
    /// Each shard's term, and when it was first seen.
    terms: BTreeMap<String, (u64, u64)>,
    resolved: Option<Resolved>,
    built: Built,
}

/// What a spec was resolved to, and from what.
#[derive(Debug)]
struct Resolved {
    spec: ReplicationGroupSpec,
    references: References,
    generation: Option<i64>,
    outcome: Result<Shared<Desired>, Vec<Refusal>>,
}

impl Memory {
    /// Of a group that is seen for the first time.
    pub fn new(group: &ReplicationGroup, now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            accepted: None,
            status: None,
            timeline: Timeline::default(),
            failures: 0,
            deleting_ms: None,
            uid: group.uid().unwrap_or_default(),
            terms: BTreeMap::new(),
            resolved: None,
            built: Built::default(),
        }
    }

    /// Whether it is of that very object, not of an earlier one of the same name.
    pub fn is_of(&self, group: &ReplicationGroup) -> bool {
        group.uid().unwrap_or_default() == self.uid
    }

    /// For how long the group has been watched.
    pub fn watching_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms)
    }

    /// Says of each lease for how long its term has been seen.
    pub fn know(&mut self, observed: &mut Observed, now_ms: u64) {
        self.terms.retain(|shard, _| observed.leases.contains_key(shard));
        for (shard, lease) in &mut observed.leases {
            let known = self.terms.entry(shard.clone()).or_insert((lease.term, now_ms));
            if known.0 != lease.term {
                *known = (lease.term, now_ms);
            }
            lease.known_ms = now_ms.saturating_sub(known.1);
        }
    }

    /// The newer of what the watch shows and what was written last.
    pub fn latest_status<'a>(&'a self, group: &'a ReplicationGroup) -> Option<&'a ReplicationGroupStatus> {
        let version: u64 = group.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0);
        match &self.status {
            Some((written, status)) if *written > version => Some(status),
            _ => group.status.as_ref(),
        }
    }
}

/// What a cycle begins with.
pub struct Input<'a> {
    /// The group as the watch shows it.
    pub group: &'a ReplicationGroup,
    /// The snapshot.
    pub observed: Observed,
    /// The leases' names that are tied to the group by an owner reference.
    pub tied_leases: Vec<String>,
    /// What the spec refers to.
    pub references: References,
    /// Images and node types.
    pub tables: &'a Tables,
    /// What the operator brings.
    pub setting: &'a Setting,
    /// What this process wrote.
    pub written: &'a Written,
}

/// One cycle.
///
/// # Errors
/// Where the group itself could not be written; everything else is in its status.
pub async fn reconcile<W: World>(
    world: &W,
    memory: &mut Memory,
    mut input: Input<'_>,
) -> Result<Next, ApiError> {
    let version = input.group.resource_version().unwrap_or_default();
    input.observed.requests = Requests::read(input.group.annotations(), &version);
    let previous = memory.latest_status(input.group).cloned().unwrap_or_default();
    let name = input.group.name_any();
    let namespace = input.group.namespace().unwrap_or_default();
    Cycle { world, memory, input, previous, name, namespace }.run().await
}

struct Cycle<'a, W> {
    world: &'a W,
    memory: &'a mut Memory,
    input: Input<'a>,
    previous: ReplicationGroupStatus,
    name: String,
    namespace: String,
}

impl<W: World> Cycle<'_, W> {
    async fn run(mut self) -> Result<Next, ApiError> {
        let group = self.input.group;
        if group.meta().deletion_timestamp.is_some() {
            return self.delete().await;
        }
        if !group.finalizers().iter().any(|name| name == names::FINALIZER) {
            self.protect().await?;
        }
        let (desired, refusals) = self.resolve();
        let Some(desired) = desired else {
            let seen = self.seen(None, &refusals, None, None, false);
            self.tell(&seen, &[]).await?;
            return Ok(Next::After(RESYNC_MS));
        };
        let (frozen, planned) =
            plan_with(&desired, &self.input.observed, self.input.setting, &mut self.memory.built);
        let over = self.memory.timeline.look(&frozen.desired, &self.input.observed, &planned);
        let notes = check(&frozen.desired, &self.input.observed, &planned);
        let outcome = if notes.is_empty() {
            self.confirm(&frozen, &planned);
            self.act(&frozen, &planned).await
        } else {
            error!(group = self.name, namespace = self.namespace, notes = notes.join("; "), plan = %planned, "the plan was refused by the check");
            self.world.count(Counted::RefusedPlan);
            let failure =
                Wait { reason: Reason::BugRefused, subject: self.name.clone(), message: notes.join("; ") };
            Outcome { failure: Some(failure), ..Outcome::default() }
        };
        let seen = self.seen(Some(&frozen), &refusals, Some(&planned), outcome.failure.as_ref(), false);
        for (step, at_ms) in &outcome.done {
            self.memory.timeline.done(&frozen.desired, &self.input.observed, step, *at_ms);
        }
        // A failover is told once it is over, with where its time went.
        let mut told: Vec<Happening> = outcome
            .done
            .iter()
            .map(|(step, _)| step)
            .filter(|step| !step.event.is_empty() && step.reason != Reason::FailoverComplete)
            .map(|step| Happening { reason: step.reason, message: step.event.clone(), warning: step.warning })
            .collect();
        told.extend(over.iter().map(|failover| self.failed_over(failover)));
        self.tell(&seen, &told).await?;
        Ok(self.next(&planned, &outcome))
    }

    fn failed_over(&self, failover: &Failover) -> Happening {
        self.world.count(Counted::Failover(failover));
        let message = failover.words();
        info!(group = self.name, namespace = self.namespace, node_group = failover.shard, "{message}");
        Happening { reason: Reason::FailoverComplete, message, warning: failover.cause != Cause::Handover }
    }

    /// When to look again.
    fn next(&mut self, planned: &Plan, outcome: &Outcome) -> Next {
        self.memory.failures = if outcome.failure.is_some() { self.memory.failures + 1 } else { 0 };
        let failures = self.memory.failures;
        if failures > 0 {
            let pause = RETRY_MIN_MS.saturating_mul(2u64.saturating_pow(failures.min(10) - 1));
            return Next::After(pause.min(RETRY_MAX_MS));
        }
        if outcome.stale || !outcome.done.is_empty() {
            return Next::After(AFTER_STEP_MS);
        }
        Next::After(planned.again_ms.unwrap_or(RESYNC_MS).min(RESYNC_MS))
    }

    /// What the spec says now. A cycle is mostly of the spec of the one before; the tables are the process's own.
    fn resolved(&mut self) -> Result<Shared<Desired>, Vec<Refusal>> {
        let (group, references) = (self.input.group, &self.input.references);
        let generation = group.metadata.generation;
        let known = self.memory.resolved.as_ref().filter(|known| {
            known.generation == generation && known.references == *references && known.spec == group.spec
        });
        if let Some(known) = known {
            return known.outcome.clone();
        }
        let outcome = resolve(group, references, self.input.tables).map(Shared::from);
        self.memory.resolved = Some(Resolved {
            spec: group.spec.clone(),
            references: references.clone(),
            generation,
            outcome: outcome.clone(),
        });
        outcome
    }

    fn resolve(&mut self) -> (Option<Shared<Desired>>, Vec<Refusal>) {
        match self.resolved() {
            Ok(desired) => {
                self.memory.accepted = Some(desired.clone());
                (Some(desired), Vec::new())
            }
            Err(refusals) => {
                let kept = self
                    .memory
                    .accepted
                    .clone()
                    .or_else(|| Some(accepted(&self.name, &self.input.observed)?.into()));
                (kept, refusals)
            }
        }
    }

    /// Before anything is done: whoever is no longer to be the primary is no longer confirmed, or for a moment until it is asked to pause.
    fn confirm(&self, frozen: &Frozen, planned: &Plan) {
        let nodes: Vec<String> = frozen
            .desired
            .shards
            .iter()
            .flat_map(|shard| shard.nodes.iter().map(|node| node.name.clone()))
            .collect();
        self.world.confirm(&nodes, &planned.confirms);
    }

    async fn act(&self, frozen: &Frozen, planned: &Plan) -> Outcome {
        let hands = Hands {
            world: self.world,
            written: self.input.written,
            group: &frozen.desired,
            observed: &self.input.observed,
        };
        let outcome = hands.perform(planned).await;
        for (step, _) in &outcome.done {
            self.world.count(Counted::Step(step.reason));
        }
        outcome
    }

    fn seen(
        &self,
        frozen: Option<&Frozen>,
        refusals: &[Refusal],
        planned: Option<&Plan>,
        failure: Option<&Wait>,
        deleting: bool,
    ) -> ReplicationGroupStatus {
        status(&Seen {
            generation: self.input.group.metadata.generation.unwrap_or(0),
            frozen,
            refusals,
            observed: &self.input.observed,
            plan: planned,
            failure,
            previous: &self.previous,
            now: Time(self.world.wall()),
            deleting,
        })
    }

    /// Writes the status if it says something new, and sends the events.
    async fn tell(&mut self, fresh: &ReplicationGroupStatus, told: &[Happening]) -> Result<(), ApiError> {
        let mut happened = told.to_vec();
        if differs(&self.previous, fresh) {
            let patch = json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ReplicationGroup",
                "metadata": { "name": self.name, "uid": self.input.group.uid() }, "status": fresh });
            let written = self.world.apply_status(&patch).await?;
            let version = written
                .pointer("/metadata/resourceVersion")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            self.memory.status = Some((version, fresh.clone()));
            if self.previous.reason != fresh.reason {
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
                    self.world.count(Counted::Reason(reason));
                }
            }
            happened.extend(happenings(&self.name, &self.previous, fresh));
        }
        for happening in happened {
            self.world.event(&happening).await;
        }
        Ok(())
    }

    async fn protect(&self) -> Result<(), ApiError> {
        let group = self.input.group;
        let mut finalizers = group.finalizers().to_vec();
        finalizers.push(names::FINALIZER.to_owned());
        let patch =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": group.resource_version() } });
        match self.world.merge(&Target::Group, &patch).await {
            Ok(_) => Ok(()),
            // Somebody wrote meanwhile: the next cycle sees it.
            Err(error) if error.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// `Delete`: the nodes are ended, then everything else goes with the object. `Retain`: nothing is touched but the ties.
    async fn delete(mut self) -> Result<Next, ApiError> {
        let group = self.input.group;
        if !group.finalizers().iter().any(|name| name == names::FINALIZER) {
            return Ok(Next::Change);
        }
        let seen = self.seen(None, &[], None, None, true);
        self.tell(&seen, &[]).await?;
        let retain = group.spec.deletion_policy == Some(DeletionPolicy::Retain);
        if retain {
            self.untie().await?;
            let message = format!(
                "Replication group {} was deleted with deletionPolicy Retain: its nodes run on, without an operator",
                self.name
            );
            self.world.event(&Happening { reason: Reason::Retained, message, warning: false }).await;
        } else {
            let now = self.world.now_ms();
            let since = *self.memory.deleting_ms.get_or_insert(now);
            let sets: Vec<&ObjectKey> =
                self.input.observed.children.keys().filter(|key| key.kind == Kind::StatefulSet).collect();
            for set in &sets {
                match self.world.delete(&Target::from(*set), None).await {
                    Ok(()) => {}
                    Err(error) if error.code == 404 => {
                        self.input.written.forget(&self.namespace, &Target::from(*set));
                    }
                    Err(error) => return Err(error),
                }
            }
            let pods = self.input.observed.nodes.values().filter(|node| node.pod.is_some()).count();
            let waited = self.world.now_ms().saturating_sub(since);
            if (pods > 0 || !sets.is_empty()) && waited < DELETE_WAIT_MS {
                return Ok(Next::After(DELETING_MS));
            }
        }
        let nodes: Vec<String> = self.input.observed.nodes.keys().cloned().collect();
        self.world.leave(&nodes);
        let finalizers: Vec<&String> =
            group.finalizers().iter().filter(|name| *name != names::FINALIZER).collect();
        let patch =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": group.resource_version() } });
        match self.world.merge(&Target::Group, &patch).await {
            Ok(_) => {}
            Err(error) if matches!(error.code, 404 | 409) => return Ok(Next::After(AFTER_STEP_MS)),
            Err(error) => return Err(error),
        }
        info!(group = self.name, namespace = self.namespace, retain, "let go");
        self.input.written.forget_group(&self.namespace, &self.name);
        Ok(Next::Gone)
    }

    /// Cuts the owner references, so that the garbage collector leaves the children alone.
    async fn untie(&self) -> Result<(), ApiError> {
        let uid = self.input.group.uid();
        let patch = json!({ "metadata": { "ownerReferences": null } });
        let tied = |object: &Value| {
            let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"].as_str() == uid.as_deref()))
        };
        for (key, object) in &self.input.observed.children {
            if tied(object) {
                match self.world.merge(&Target::from(key), &patch).await {
                    Err(error) if error.code != 404 => return Err(error),
                    _ => {}
                }
            }
        }
        for lease in &self.input.tied_leases {
            self.world.merge(&Target::Lease(lease.clone()), &patch).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_core::observed::ShardLease;

    #[test]
    fn a_term_is_known_from_its_first_sight_on_whatever_the_lease_says() {
        let group = ReplicationGroup::new("g", Default::default());
        let mut memory = Memory::new(&group, 0);
        let mut seen = |term, now_ms| {
            let lease = ShardLease { term, since_ms: 1, ..ShardLease::default() };
            let mut observed = Observed { leases: [("0001".into(), lease)].into(), ..Observed::default() };
            memory.know(&mut observed, now_ms);
            observed.leases["0001"].known_ms
        };
        let known = [seen(1, 50_000), seen(1, 53_000), seen(2, 54_000), seen(2, 54_100)];
        assert_eq!(known, [0, 3_000, 0, 100]);
    }
}
