//! What exists: each child is there and is what it should be.

use super::{Act, Frozen, Plan, Setting, Step, Tied, key};
use crate::build;
use crate::desired::ClusterMode;
use crate::drift::covers;
use crate::observed::{Kind, ObjectKey, Observed};
use kagami_api::{names, reason::Reason};
use serde_json::Value;

pub(super) fn rule(frozen: &Frozen, observed: &Observed, setting: &Setting, plan: &mut Plan) {
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
    // Made once and never written again: only whose they are follows the deletion policy.
    for key in secrets.iter().filter(|key| !observed.foreign.contains_key(key)) {
        let object = build::secret(group, &key.name, &std::collections::BTreeMap::new());
        if observed.children.get(key).is_some_and(|actual| owned(actual) != owned(&object)) {
            tie(Tied::Child(key.clone()), &object, plan);
        }
    }
    for (shard, lease) in &observed.leases {
        let object = build::secret(group, shard, &std::collections::BTreeMap::new());
        if lease.owned.is_some_and(|is| is != owned(&object)) {
            tie(Tied::Lease(names::shard_name(&group.name, shard)), &object, plan);
        }
    }
    let mut wanted: Vec<(ObjectKey, Value)> = Vec::new();
    let mut want = |kind: Kind, object: Value| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        wanted.push((key(kind, name), object));
    };
    want(Kind::ServiceAccount, build::service_account(group));
    want(Kind::Role, build::role(group));
    want(Kind::RoleBinding, build::role_binding(group));
    want(Kind::ConfigMap, build::config_map(group));
    let policy = build::network_policy(group, &setting.operator_namespace);
    let has_policy = policy.is_some();
    if let Some(policy) = policy {
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
    for (key, object) in wanted {
        ensure(key, object, observed, plan);
    }
    let policy = key(Kind::NetworkPolicy, &group.name);
    if !has_policy
        && let Some(uid) =
            observed.children.get(&policy).and_then(|object| object.pointer("/metadata/uid")?.as_str())
    {
        let act = Act::Delete { key: policy, uid: uid.to_owned() };
        plan.steps.push(Step { act, reason: Reason::Creating, event: String::new(), warning: false });
    }
}

/// One object, unless it is there as it should be or its name is taken.
pub(super) fn ensure(key: ObjectKey, object: Value, observed: &Observed, plan: &mut Plan) {
    if observed.foreign.contains_key(&key) {
        conflict(&key, observed, plan);
    } else if observed
        .children
        .get(&key)
        .is_none_or(|actual| !covers(&object, actual) || owned(actual) != owned(&object))
    {
        let act = Act::Apply { key, object: Box::new(object) };
        plan.steps.push(Step { act, reason: Reason::Creating, event: String::new(), warning: false });
    }
}

/// Makes an object the group's, or nobody's, as another one is.
fn tie(what: Tied, like: &Value, plan: &mut Plan) {
    let owners = like.pointer("/metadata/ownerReferences").cloned().unwrap_or(Value::Null);
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
