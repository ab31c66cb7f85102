//! What exists: each child is there and is what it should be.

use super::built::{Built, Wanted};
use super::{Act, Frozen, Plan, Setting, Step, Tied, key};
use crate::build;
use crate::desired::{ClusterMode, Desired};
use crate::drift::covers;
use crate::observed::{Kind, ObjectKey, Observed};
use kagami_api::{names, reason::Reason};
use serde_json::Value;

pub(super) fn rule(
    frozen: &Frozen,
    observed: &Observed,
    setting: &Setting,
    built: &mut Built,
    plan: &mut Plan,
) {
    let group = &frozen.desired;
    let secrets = [names::agent_secret(&group.name), names::operator_secret(&group.name)]
        .map(|name| key(Kind::Secret, name));
    if let Some(taken) = secrets.iter().find(|key| observed.foreign.contains_key(key)) {
        conflict(taken, observed, plan);
    } else if secrets.iter().any(|key| !observed.children.contains_key(key)) {
        plan.steps.push(Step {
            act: Act::MakeSecrets,
            reason: Reason::Creating,
            event: String::new(),
            warning: false,
        });
    }
    let owns = build::owns(group);
    // Made once and never written again: only whose they are follows the deletion policy.
    for key in secrets.iter().filter(|key| !observed.foreign.contains_key(key)) {
        if observed.children.get(key).is_some_and(|actual| owned(actual) != owns) {
            tie(Tied::Child(key.clone()), group, plan);
        }
    }
    for (shard, lease) in &observed.leases {
        if lease.owned.is_some_and(|is| is != owns) {
            tie(Tied::Lease(names::shard_name(&group.name, shard)), group, plan);
        }
    }
    for wanted in built.objects(frozen, setting) {
        // What a node is created with stays; made now, all copies of its shard might land in one zone for good (P8).
        if let Some(why) = no_zone_yet(frozen, &wanted.key, observed) {
            plan.wait(Reason::ZoneNotFound, wanted.key.name.clone(), why);
        } else {
            ensure(wanted, observed, plan);
        }
    }
    let policy = key(Kind::NetworkPolicy, &group.name);
    if group.ingress.is_none()
        && let Some(uid) =
            observed.children.get(&policy).and_then(|object| object.pointer("/metadata/uid")?.as_str())
    {
        let act = Act::Delete { key: policy, uid: uid.to_owned() };
        plan.steps.push(Step { act, reason: Reason::Creating, event: String::new(), warning: false });
    }
}

/// Why a node cannot be made yet: its zone is chosen first.
fn no_zone_yet(frozen: &Frozen, key: &ObjectKey, observed: &Observed) -> Option<&'static str> {
    let inputs = frozen.inputs.get(&key.name).filter(|_| key.kind == Kind::StatefulSet)?;
    if inputs.zone.is_some() || observed.children.contains_key(key) {
        return None;
    }
    if observed.machines.is_empty() {
        return Some("no machine is known yet; its zone is chosen first");
    }
    frozen.desired.multi_az.then_some(
        "with multiAZEnabled its zone is chosen first, and no machine that takes pods bears the label topology.kubernetes.io/zone",
    )
}

/// All objects whose shape does not depend on who serves.
pub(super) fn wanted(frozen: &Frozen, setting: &Setting) -> Vec<Wanted> {
    let group = &frozen.desired;
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut want = |kind: Kind, object: Value| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        wanted.push(Wanted::new(key(kind, name), object));
    };
    want(Kind::ServiceAccount, build::service_account(group));
    want(Kind::Role, build::role(group));
    want(Kind::RoleBinding, build::role_binding(group));
    want(Kind::ConfigMap, build::config_map(group));
    if let Some(policy) = build::network_policy(group, &setting.operator_namespace) {
        want(Kind::NetworkPolicy, policy);
    }
    want(Kind::Service, build::service(group, &group.name));
    if group.cluster_mode == ClusterMode::Disabled {
        want(Kind::Service, build::service(group, &names::reader_service(&group.name)));
    }
    for shard in &group.shards {
        want(Kind::PodDisruptionBudget, build::disruption_budget(group, shard));
        for node in &shard.nodes {
            want(Kind::Service, build::service_for_node(group, shard, &node.name));
            if let Some(inputs) = frozen.inputs.get(&node.name) {
                want(Kind::StatefulSet, build::stateful_set(group, shard, &node.name, inputs));
            }
        }
    }
    wanted
}

/// One object, unless it is there as it should be or its name is taken.
pub(super) fn ensure(wanted: &mut Wanted, observed: &Observed, plan: &mut Plan) {
    if observed.foreign.contains_key(&wanted.key) {
        return conflict(&wanted.key, observed, plan);
    }
    let actual = observed.children.get(&wanted.key);
    // The very object that was found to be as it should the last time.
    if let (Some(actual), Some(met)) = (actual, &wanted.met)
        && actual.same(met)
    {
        return;
    }
    wanted.met = actual
        .filter(|actual| covers(&wanted.object, actual) && owned(actual) == owned(&wanted.object))
        .cloned();
    if wanted.met.is_none() {
        apply(wanted, plan);
    }
}

/// Writes an object.
pub(super) fn apply(wanted: &Wanted, plan: &mut Plan) {
    let act = Act::Apply { key: wanted.key.clone(), object: Box::new(wanted.object.clone()) };
    plan.steps.push(Step { act, reason: Reason::Creating, event: String::new(), warning: false });
}

/// Makes an object the group's, or nobody's.
fn tie(what: Tied, group: &Desired, plan: &mut Plan) {
    let owners = build::owners(group);
    let act = Act::Tie { what, owners: Box::new(owners) };
    plan.steps.push(Step { act, reason: Reason::Creating, event: String::new(), warning: false });
}

/// Whether a replication group owns it: a group that turned to `Retain` lets its children go.
pub(crate) fn owned(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "ReplicationGroup"))
}

fn conflict(key: &ObjectKey, observed: &Observed, plan: &mut Plan) {
    let owner = observed.foreign.get(key).map_or("somebody else", String::as_str);
    plan.wait(
        Reason::NameConflict,
        key.to_string(),
        format!("{key} is there already and belongs to {owner}; Kagami takes over nothing. Rename the group, or remove that object."),
    );
}
