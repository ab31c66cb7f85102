//! What a group consists of in Kubernetes: desired state in, objects out. Pure, one file for each kind of thing.
//!
//! Objects are JSON values, because server-side apply sends exactly the fields that we own, and a typed object would add
//! empty ones; a test reads each of them back as its type, so that a misspelt field cannot pass.

mod access;
mod endpoints;
mod lease;
mod node;

pub use access::{network_policy, role, role_binding, secret, service_account};
pub use endpoints::{
    Reachable, accepted, config_map, disruption_budget, endpoint_slice, readers, service, service_for_node,
};
pub use lease::{SERVED, lease, read_lease};
pub use node::{NODE_ANNOTATION, NodeInputs, node_inputs, pinned_zone, stateful_set};

use crate::desired::Desired;
use kagami_api::names;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The labels that every child of a group carries.
pub fn labels(desired: &Desired) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), desired.engine.kind.as_str().to_owned()),
        ("app.kubernetes.io/instance".to_owned(), desired.name.clone()),
        ("app.kubernetes.io/component".to_owned(), "cache".to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "kagami".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), names::FIELD_MANAGER.to_owned()),
        (names::LABEL_REPLICATION_GROUP.to_owned(), desired.name.clone()),
    ]);
    for (key, value) in &desired.tags {
        if let Some((key, value)) = tag_label(key, value) {
            labels.insert(key, value);
        }
    }
    labels
}

/// A tag as a label, where Kubernetes allows its characters; every tag is an annotation as well.
fn tag_label(key: &str, value: &str) -> Option<(String, String)> {
    let legal = |text: &str| {
        text.len() <= 63
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && text.chars().next().is_none_or(|c| c.is_ascii_alphanumeric())
            && text.chars().last().is_none_or(|c| c.is_ascii_alphanumeric())
    };
    (legal(key) && !key.is_empty() && legal(value))
        .then(|| (format!("tags.{}/{key}", names::GROUP), value.to_owned()))
}

/// The annotations that every child carries: the tags. A name that Kubernetes does not allow is written with what it allows;
/// where nothing is left of it, or another tag has that name, a number made of the key keeps them apart.
fn annotations(desired: &Desired) -> BTreeMap<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let written = |key: &str| -> String {
        let name: String = key.chars().map(|c| if allowed(c) { c } else { '_' }).take(63).collect();
        name.trim_matches(['-', '_', '.']).to_owned()
    };
    let mut named: BTreeMap<String, &String> = BTreeMap::new();
    // Those that need no rewriting keep their names, whatever the others would like to be called.
    let (plain, odd): (Vec<_>, Vec<_>) = desired.tags.iter().partition(|(key, _)| written(key) == **key);
    for (key, value) in plain.into_iter().chain(odd) {
        let mut name = written(key);
        if name.is_empty() || named.contains_key(&name) {
            let hash = key
                .bytes()
                .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            name = format!("{}{hash:08x}", name.chars().take(54).collect::<String>());
        }
        named.insert(name, value);
    }
    named.into_iter().map(|(name, value)| (format!("tags.{}/{name}", names::GROUP), value.clone())).collect()
}

/// The metadata of a child. A group that is to outlive its resource (`deletionPolicy: Retain`) owns nothing, so that no
/// garbage collector can take it, whichever way the deletion is asked for.
fn metadata(desired: &Desired, name: &str, extra: &[(&str, &str)]) -> Value {
    let mut labels = labels(desired);
    labels.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let mut metadata = json!({ "name": name, "namespace": desired.namespace, "labels": labels });
    let annotations = annotations(desired);
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    if owns(desired) {
        metadata["ownerReferences"] = owners(desired);
    }
    metadata
}

/// Whether the group owns its children.
pub(crate) fn owns(desired: &Desired) -> bool {
    desired.deletion_policy != crate::desired::DeletionPolicy::Retain
}

/// The owner references of a child; null where the group owns nothing.
pub(crate) fn owners(desired: &Desired) -> Value {
    if !owns(desired) {
        return Value::Null;
    }
    json!([{
        "apiVersion": format!("{}/v1alpha1", names::GROUP),
        "kind": "ReplicationGroup",
        "name": desired.name,
        "uid": desired.uid,
        "controller": true,
    }])
}

/// What selects the pods of a group.
fn group_selector(desired: &Desired) -> Value {
    json!({ names::LABEL_REPLICATION_GROUP: desired.name })
}
