//! What the pods are given: labels, annotations, tags, and where they may run.

use std::collections::BTreeMap;

use kagami_api::names;
use kagami_api::v1alpha1::{KubernetesOptions, ReplicationGroupSpec};

use super::{PodOptions, References, Refusals};

/// Labels, annotations and where the pods may run.
pub(super) fn resolve(options: &KubernetesOptions, refs: &References, refusals: &mut Refusals) -> PodOptions {
    let mut node_selector = options.node_selector.clone().unwrap_or_default();
    for (key, value) in refs.subnet_group.iter().flat_map(|group| group.spec.node_selector.iter().flatten()) {
        if node_selector.insert(key.clone(), value.clone()).is_some_and(|ours| ours != *value) {
            refusals.combination(
                "kubernetes.nodeSelector",
                format!("kubernetes.nodeSelector and the subnet group ask for different values of {key}."),
            );
        }
    }
    for (key, value) in &node_selector {
        if !is_label_key(key) || !(value.is_empty() || is_label_name(value)) {
            refusals.value(
                "kubernetes.nodeSelector",
                format!("kubernetes.nodeSelector, or the subnet group's, asks for {key}={value}, which no label can be."),
            );
        }
    }
    let secrets =
        options.image_pull_secrets.iter().flatten().map(|secret| ("imagePullSecrets", &secret.name));
    let class = options.storage.iter().filter_map(|storage| storage.storage_class_name.as_ref());
    let named = class.map(|name| ("storage.storageClassName", name));
    let priority = options.priority_class_name.iter().map(|name| ("priorityClassName", name));
    for (field, name) in secrets.chain(named).chain(priority).filter(|(_, name)| !is_object_name(name)) {
        let property = format!("kubernetes.{field}");
        refusals.value(&property, format!("{property} has {name:?}, which no object can be called."));
    }
    let labels = options.pod_labels.clone().unwrap_or_default();
    let annotations = options.pod_annotations.clone().unwrap_or_default();
    for (property, map) in [("kubernetes.podLabels", &labels), ("kubernetes.podAnnotations", &annotations)] {
        for key in map.keys().filter(|key| is_reserved(key)) {
            refusals.value(property, format!("{property} must not set {key}: it belongs to Kagami."));
        }
        for key in map.keys().filter(|key| !is_label_key(key)) {
            refusals
                .value(property, format!("{property} has the key {key:?}, which Kubernetes does not allow."));
        }
    }
    for (key, value) in labels.iter().filter(|(_, value)| !value.is_empty() && !is_label_name(value)) {
        refusals.value(
            "kubernetes.podLabels",
            format!("kubernetes.podLabels gives {key} the value {value:?}, which Kubernetes does not allow."),
        );
    }
    PodOptions {
        labels,
        annotations,
        node_selector,
        tolerations: options.tolerations.clone().unwrap_or_default(),
        priority_class_name: options.priority_class_name.clone(),
    }
}

fn is_reserved(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    // Membership in a security group is the one thing of ours that a person may say of a pod.
    let ours = prefix == names::GROUP || prefix.ends_with(&format!(".{}", names::GROUP));
    prefix == "app.kubernetes.io" || (ours && !key.starts_with(names::SECURITY_GROUP_MEMBER_PREFIX))
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

/// A DNS name in lower case, which is what most objects are called by.
fn is_object_name(name: &str) -> bool {
    let legal =
        |part: &str| is_label_name(part) && part.bytes().all(|b| !b.is_ascii_uppercase() && b != b'_');
    name.len() <= 253 && name.split('.').all(legal)
}

fn is_label_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
}

/// The tags, keys once each.
pub(super) fn tags(spec: &ReplicationGroupSpec, refusals: &mut Refusals) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for tag in spec.tags.iter().flatten() {
        if tag.key.is_empty() || tag.key.chars().count() > 128 || tag.value.chars().count() > 256 {
            refusals.value("tags", format!("The tag {:?} is too long, or its key is empty: a key has 1 to 128 characters, a value up to 256.", tag.key));
        }
        if tag.key.starts_with("aws:") {
            refusals.value("tags", "tags must not have keys that begin with aws:.");
        }
        if tags.insert(tag.key.clone(), tag.value.clone()).is_some() {
            refusals.value("tags", format!("Duplicate tag keys found: {}", tag.key));
        }
    }
    if tags.len() > 50 {
        refusals.value("tags", format!("A group has at most 50 tags, and this one has {}.", tags.len()));
    }
    tags
}
