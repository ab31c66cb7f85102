//! Carries out a plan: one fenced request for each step. It decides nothing; the first failure of a lane ends it.

use crate::world::{ApiError, Failed, Order, Target, World};
use crate::written::Written;
use futures::future::join_all;
use kagami_api::names;
use kagami_api::reason::Reason;
use kagami_core::build;
use kagami_core::desired::Desired;
use kagami_core::observed::{Kind, ObjectKey, Observed};
use kagami_core::plan::{Act, HandOver, MovePod, Plan, RaiseTerm, Step, Tied, Wait};
use kagami_protocol::{Boot, Command, Done, Refused, Role as EngineRole};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tracing::{info, warn};

/// How long the writes pause at a handover at most, in milliseconds; the pause ends by itself. Nobody is promoted that late: an
/// order waits half a second for its connection, its agent reads none after [`kagami_protocol::FENCE_SILENCE_MS`] of silence and
/// promotes within a second of reading it, and the candidate catches up for at most [`CATCH_UP_MS`].
const PAUSE_MS: u64 = 4_000;
/// How often, and how many times, the old primary is asked whether it has become a replica.
const DEMOTED_EVERY_MS: u64 = 10;
const DEMOTED_TRIES: u32 = 50;
/// How long the candidate may take to reach the offset, in milliseconds.
const CATCH_UP_MS: u64 = 300;

/// What performs.
pub struct Hands<'a, W> {
    /// Where.
    pub world: &'a W,
    /// What this process wrote.
    pub written: &'a Written,
    /// For which group.
    pub group: &'a Desired,
    /// What was seen as it was planned.
    pub observed: &'a Observed,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The steps that were done, and when (milliseconds since the Unix epoch), for events and the timeline.
    pub done: Vec<(Step, i64)>,
    /// The first thing that went wrong and is worth telling.
    pub failure: Option<Wait>,
    /// Something was refused because the world has moved on: observe again at once.
    pub stale: bool,
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

impl<W: World> Hands<'_, W> {
    /// Roles first in time: objects and roles do not wait for each other.
    pub async fn perform(&self, plan: &Plan) -> Outcome {
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
                // A slot is closed by its owner only after everybody else has said that it holds no key of it.
                Act::Order { command, .. } if matches!(**command, Command::CloseSlots { .. }) => {
                    "slots".into()
                }
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
            let begun = self.world.now_ms();
            match self.step(&step.act).await {
                Ok(note) => {
                    let took_ms = self.world.now_ms().saturating_sub(begun);
                    info!(
                        group = self.group.name,
                        namespace = self.group.namespace,
                        reason = step.reason.as_str(),
                        took_ms,
                        note,
                        "{}",
                        step.act
                    );
                    outcome.done.push((step.clone(), self.world.wall().as_millisecond()));
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
            Act::Tie { what, owners } => {
                let target = match what {
                    Tied::Child(key) => Target::from(key),
                    Tied::Lease(name) => Target::Lease(name.clone()),
                };
                self.tie(&target, owners).await
            }
            Act::LabelRole { pod, uid, role } => self.label(pod, uid, role).await,
            Act::RaiseTerm(raise) => self.raise(raise).await,
            Act::NoteServed { shard, resource_version } => self.note_served(shard, resource_version).await,
            Act::Order { node, boot, term, role, command } => {
                let order = Order {
                    node: node.clone(),
                    boot: boot.clone(),
                    term: *term,
                    role: *role,
                    command: (**command).clone(),
                };
                let configures = matches!(order.command, Command::Configure { .. });
                self.world.order(order).await.map(|done| done.note).map_err(|failed| match failed {
                    Failed::Refused(Refused::Failed { message }) if configures => {
                        Trouble::Tell(Reason::EngineRejectedParameter, node.clone(), message)
                    }
                    failed => refused(node, failed),
                })
            }
            Act::HandOver(hand) => self.hand_over(hand).await,
            Act::Annotate { annotations, resource_version } => {
                self.annotate(annotations, resource_version).await
            }
            Act::DeleteClaim { claim, uid, .. } => self.remove(Target::Claim(claim.clone()), uid).await,
            Act::DeletePod { pod, uid, .. } => self.remove(Target::Pod(pod.clone()), uid).await,
            Act::MovePod(moved) => self.move_pod(moved).await,
        }
    }

    async fn apply(&self, key: &ObjectKey, object: &Value) -> Result<String, Trouble> {
        let target = Target::from(key);
        if !self.observed.children.contains_key(key) {
            // What is not ours is not taken over: neither a stranger's object nor another group's.
            let found = self.world.get(&target).await.map_err(|error| failed(key, error))?;
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
        let applied = self.world.apply(&target, object).await.map_err(|error| failed(key, error))?;
        self.note(target, applied);
        Ok(String::new())
    }

    async fn delete(&self, key: &ObjectKey, uid: &str) -> Result<String, Trouble> {
        match self.world.delete(&Target::from(key), Some(uid)).await {
            Ok(()) => {}
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(failed(key, error)),
        }
        self.written.forget(&self.group.namespace, &Target::from(key));
        Ok(String::new())
    }

    /// The operator's Secret first, because it holds the authority that signs the other; each is created, never replaced.
    async fn make_secrets(&self) -> Result<String, Trouble> {
        let names = [names::operator_secret(&self.group.name), names::agent_secret(&self.group.name)];
        let made = |error: String| Trouble::Tell(Reason::ApplyFailed, "Secret".into(), error);
        let (mut operator, mut new_authority) = (Value::Null, false);
        for (index, name) in names.iter().enumerate() {
            let key = ObjectKey { kind: Kind::Secret, name: name.clone() };
            let target = Target::from(&key);
            let present = self.world.get(&target).await.map_err(|error| failed(&key, error))?;
            let secret = match present {
                Some(secret)
                    if secret
                        .pointer("/metadata/labels")
                        .and_then(|labels| labels.get(names::LABEL_REPLICATION_GROUP))
                        .and_then(Value::as_str)
                        != Some(&self.group.name) =>
                {
                    let message = format!(
                        "{key} is there already and does not belong to this group; rename the group, or remove that object"
                    );
                    return Err(Trouble::Tell(Reason::NameConflict, key.to_string(), message));
                }
                // A new authority signs the agents anew; their passwords stay, because engines run with them.
                Some(secret) if index == 1 && new_authority => {
                    let mut data = self.world.agent_secret(&operator).map_err(made)?;
                    data.retain(|key, _| !key.ends_with("-password"));
                    let patch = json!({ "metadata": { "resourceVersion": secret["metadata"]["resourceVersion"] }, "stringData": data });
                    self.world.merge(&target, &patch).await.map_err(|error| failed(&key, error))?
                }
                Some(secret) => secret,
                None => {
                    new_authority |= index == 0;
                    let data = if index == 0 {
                        self.world.operator_secret().map_err(made)?
                    } else {
                        self.world.agent_secret(&operator).map_err(made)?
                    };
                    let secret = build::secret(self.group, name, &data);
                    self.world.create(&target, &secret).await.map_err(|error| failed(&key, error))?
                }
            };
            self.note(target, secret.clone());
            if index == 0 {
                operator = secret;
            }
        }
        Ok(String::new())
    }

    async fn label(&self, pod: &str, uid: &str, role: &str) -> Result<String, Trouble> {
        let patch = json!({ "metadata": { "uid": uid, "labels": { names::LABEL_ROLE: role } } });
        match self.world.merge(&Target::Pod(pod.to_owned()), &patch).await {
            Ok(_) => Ok(String::new()),
            Err(error) if matches!(error.code, 404 | 409 | 422) => Err(Trouble::Stale(error.message)),
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, pod.to_owned(), error.message)),
        }
    }

    /// Writes whose an object is.
    async fn tie(&self, target: &Target, owners: &Value) -> Result<String, Trouble> {
        let patch = json!({ "metadata": { "ownerReferences": owners } });
        match self.world.merge(target, &patch).await {
            Ok(_) => Ok(String::new()),
            Err(error) if matches!(error.code, 404 | 409) => Err(Trouble::Stale(error.message)),
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, target.to_string(), error.message)),
        }
    }

    /// Deletes exactly what was seen.
    async fn remove(&self, target: Target, uid: &str) -> Result<String, Trouble> {
        match self.world.delete(&target, Some(uid)).await {
            Ok(()) => Ok(String::new()),
            Err(error) if matches!(error.code, 404 | 409) => Err(Trouble::Stale(error.message)),
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, target.to_string(), error.message)),
        }
    }

    /// A replica's pod is deleted only once everybody of its shard has said that all is as it was when that was planned: the same
    /// life, the same role, no later term. Whoever says no, or nothing, leaves all as it is.
    async fn move_pod(&self, moved: &MovePod) -> Result<String, Trouble> {
        for (node, boot, role) in &moved.asked {
            let (node, boot, role) = (node.clone(), boot.clone(), Some(*role));
            let order =
                Order { node: node.clone(), boot, term: moved.term, role, command: Command::KeepTerm };
            self.world.order(order).await.map_err(|failed| refused(&node, failed))?;
        }
        self.remove(Target::Pod(moved.pod.clone()), &moved.uid).await
    }

    /// Writes what became of a request; a version that is older than the group's is refused by the apiserver.
    async fn annotate(
        &self,
        annotations: &BTreeMap<String, Option<String>>,
        resource_version: &str,
    ) -> Result<String, Trouble> {
        let patch =
            json!({ "metadata": { "resourceVersion": resource_version, "annotations": annotations } });
        match self.world.merge(&Target::Group, &patch).await {
            Ok(_) => Ok(String::new()),
            Err(error) if matches!(error.code, 404 | 409) => Err(Trouble::Stale(error.message)),
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, self.group.name.clone(), error.message)),
        }
    }

    /// The compare-and-set of a term.
    async fn raise(&self, raise: &RaiseTerm) -> Result<String, Trouble> {
        let now = self.world.wall().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let object = build::lease(self.group, raise, &now);
        let name = names::shard_name(&self.group.name, &raise.shard);
        let target = Target::Lease(name);
        let outcome = if raise.resource_version.is_some() {
            self.world.replace(&target, &object).await
        } else {
            self.world.create(&target, &object).await
        };
        self.leased(target, outcome)
    }

    async fn note_served(&self, shard: &str, resource_version: &str) -> Result<String, Trouble> {
        let target = Target::Lease(names::shard_name(&self.group.name, shard));
        let patch = json!({ "metadata": { "resourceVersion": resource_version, "annotations": { build::SERVED: "true" } } });
        let outcome = self.world.merge(&target, &patch).await;
        self.leased(target, outcome)
    }

    fn leased(&self, target: Target, outcome: Result<Value, ApiError>) -> Result<String, Trouble> {
        match outcome {
            Ok(object) => {
                self.note(target, object);
                Ok(String::new())
            }
            Err(error) if matches!(error.code, 404 | 409) => {
                if error.code == 404 {
                    self.written.forget(&self.group.namespace, &target);
                }
                Err(Trouble::Stale(error.message))
            }
            Err(error) => Err(Trouble::Tell(Reason::ApplyFailed, target.to_string(), error.message)),
        }
    }

    /// What was written is known before the watch shows it.
    fn note(&self, target: Target, object: Value) {
        self.written.note(&self.group.namespace, target, object, self.world.wall().as_millisecond());
    }

    /// Pause, equal offsets, promote, follow, resume. Whatever fails, the pause is ended or ends by itself.
    async fn hand_over(&self, hand: &HandOver) -> Result<String, Trouble> {
        let (from, to) = ((&*hand.from, &hand.from_boot), (&*hand.to, &hand.to_boot));
        let order = async |(node, boot): (&str, &Boot), role, command| {
            let (node, boot) = (node.to_owned(), boot.clone());
            self.world.order(Order { node, boot, term: hand.term, role, command }).await
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
        for _ in 0..DEMOTED_TRIES {
            if !asked_again(&order(from, Some(EngineRole::Replica), Command::ResumeWrites).await) {
                break;
            }
            self.world.pause(DEMOTED_EVERY_MS).await;
        }
        Ok(promoted.note)
    }
}

/// Whether an old primary is asked again to let writes go on. Only a replica may: one that has not learnt of the new primary is asked
/// again, and else stays paused until its pause ends. Who does not answer is on its way out: nothing waits for it.
fn asked_again(answer: &Result<Done, Failed>) -> bool {
    matches!(answer, Err(Failed::Refused(_)))
}

/// An apiserver's refusal, in its own words.
fn failed(key: &ObjectKey, error: ApiError) -> Trouble {
    if error.code == 409 {
        Trouble::Stale(error.message)
    } else {
        Trouble::Tell(Reason::ApplyFailed, key.to_string(), error.message)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Counted;
    use kagami_api::v1alpha1::ReplicationGroup;
    use kagami_core::desired::{References, Tables, resolve};
    use kagami_core::plan::Confirm;
    use kagami_core::status::Happening;
    use std::sync::Mutex;

    /// A world that notes what it is asked, and in which one agent says no.
    struct Noted {
        refuses: &'static str,
        asked: Mutex<Vec<String>>,
    }

    impl Noted {
        fn note(&self, words: String) {
            self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(words);
        }
    }

    fn unasked<T>() -> Result<T, ApiError> {
        Err(ApiError { code: 500, message: "nobody asks for this".into() })
    }

    impl World for Noted {
        async fn get(&self, _: &Target) -> Result<Option<Value>, ApiError> {
            unasked()
        }
        async fn apply(&self, _: &Target, _: &Value) -> Result<Value, ApiError> {
            unasked()
        }
        async fn create(&self, _: &Target, _: &Value) -> Result<Value, ApiError> {
            unasked()
        }
        async fn replace(&self, _: &Target, _: &Value) -> Result<Value, ApiError> {
            unasked()
        }
        async fn merge(&self, _: &Target, _: &Value) -> Result<Value, ApiError> {
            unasked()
        }
        async fn apply_status(&self, _: &Value) -> Result<Value, ApiError> {
            unasked()
        }
        async fn delete(&self, target: &Target, uid: Option<&str>) -> Result<(), ApiError> {
            self.note(format!("delete {target} {}", uid.unwrap_or("whatever it is")));
            Ok(())
        }
        async fn event(&self, _: &Happening) {}
        async fn order(&self, order: Order) -> Result<Done, Failed> {
            let Order { node, boot, term, role, command } = order;
            self.note(format!("{node} {boot} term {term} {role:?} {command:?}"));
            if node == self.refuses {
                return Err(Failed::Refused(Refused::WrongState { is: "a primary".into() }));
            }
            Ok(Done::default())
        }
        fn confirm(&self, _: &[String], _: &[Confirm]) {}
        fn leave(&self, _: &[String]) {}
        async fn pause(&self, _: u64) {}
        fn now_ms(&self) -> u64 {
            0
        }
        fn wall(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn operator_secret(&self) -> Result<BTreeMap<String, String>, String> {
            Err("nobody asks for this".into())
        }
        fn agent_secret(&self, _: &Value) -> Result<BTreeMap<String, String>, String> {
            Err("nobody asks for this".into())
        }
        fn count(&self, _: Counted<'_>) {}
    }

    /// What is asked as a pod is to move while one agent says no, and whether it was done.
    fn asked_to_move(refuses: &'static str) -> (Vec<String>, bool) {
        let spec = json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro", "engine": "valkey",
            "engineVersion": "8.1", "numCacheClusters": 2, "automaticFailoverEnabled": true });
        let mut group = ReplicationGroup::new("g", serde_json::from_value(spec).unwrap());
        group.metadata.namespace = Some("shop".into());
        let group = resolve(&group, &References::default(), &Tables::default()).unwrap();
        let life =
            |node: &str, role| (node.to_owned(), format!("{node}/agent/1").parse::<Boot>().unwrap(), role);
        let moved = MovePod {
            node: "two".into(),
            pod: "two-0".into(),
            uid: "u2".into(),
            term: 7,
            asked: vec![life("one", EngineRole::Primary), life("two", EngineRole::Replica)],
        };
        let (event, reason) = (String::new(), Reason::CacheNodeReplaceStarted);
        let step = Step { act: Act::MovePod(moved), reason, event, warning: false };
        let plan = Plan { steps: vec![step], ..Plan::default() };
        let (world, written, observed) =
            (Noted { refuses, asked: Mutex::default() }, Written::default(), Observed::default());
        let hands = Hands { world: &world, written: &written, group: &group, observed: &observed };
        let outcome = futures::executor::block_on(hands.perform(&plan));
        assert!(outcome.failure.is_none(), "a no is no failure: {:?}", outcome.failure);
        (world.asked.into_inner().unwrap(), !outcome.done.is_empty() && !outcome.stale)
    }

    #[test]
    fn a_pod_that_moves_is_deleted_only_once_everybody_has_agreed() {
        let one = "one one/agent/1 term 7 Some(Primary) KeepTerm";
        let two = "two two/agent/1 term 7 Some(Replica) KeepTerm";
        assert_eq!(asked_to_move("nobody"), (vec![one.into(), two.into(), "delete two-0 u2".into()], true));
        assert_eq!(asked_to_move("one"), (vec![one.into()], false), "the primary is one no more");
        assert_eq!(asked_to_move("two"), (vec![one.into(), two.into()], false), "the replica is one no more");
    }

    #[test]
    fn a_handover_does_not_wait_for_an_old_primary_that_answers_no_more() {
        // Each question to an address that is gone takes a second or two: fifty of them took a minute and a half.
        assert!(!asked_again(&Err(Failed::Unanswered("no connection".into()))));
        assert!(asked_again(&Err(Failed::Refused(Refused::WrongState { is: "a primary".into() }))));
        assert!(!asked_again(&Ok(Done::default())));
    }
}
