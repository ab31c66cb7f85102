//! One cache node: a StatefulSet of one replica, pinned to its zone.

use super::{endpoints::PROBE_PORT, metadata};
use crate::desired::{Desired, DesiredShard};
use kagami_api::names;
use kagami_protocol::AGENT_PORT;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The annotation in which a node keeps what its template was built from.
pub const NODE_ANNOTATION: &str = "elasticache.kagami.dev/node";

/// What a node's pod template is built from. It is kept on the StatefulSet, and the template of a running node is built
/// from what was kept, not from what is desired now: a crash never pulls a change onto a node whose turn has not come
/// (P7: a new release of Kagami, with a new agent image, restarts nothing).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeInputs {
    /// The node group's id.
    pub shard: String,
    /// The zone it is pinned to, if any.
    pub zone: Option<String>,
    /// The zone that it was meant for, where all of that zone's machines were gone for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    /// The zone that it stood in meanwhile, while it moves back from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    /// When it was last begun to move it back, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_ms: Option<i64>,
    /// Whether the zone is a must (requested, or MultiAZ) or a wish.
    pub zone_required: bool,
    /// The engine's image.
    pub image: String,
    /// The image that the agent is copied from.
    pub agent_image: String,
    /// `imagePullPolicy` of both.
    pub pull_policy: Option<String>,
    /// Secrets to pull with.
    pub pull_secrets: Vec<String>,
    /// `redis` or `valkey`.
    pub engine: String,
    /// Major and minor, e.g. `6.2`.
    pub engine_version: String,
    /// Whether the cluster protocol is on.
    pub cluster: bool,
    /// The client port.
    pub port: u16,
    /// The bus port.
    pub bus_port: u16,
    /// Memory request and limit, in bytes.
    pub memory_bytes: i64,
    /// CPU request, in thousandths.
    pub cpu_request_millis: i64,
    /// CPU limit, in thousandths.
    pub cpu_limit_millis: Option<i64>,
    /// The volume's size, if the group has volumes.
    pub storage_size: Option<String>,
    /// Its class.
    pub storage_class: Option<String>,
    /// Node selector of the group.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the group.
    pub tolerations: Vec<Value>,
    /// Extra labels of the pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Extra annotations of the pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Priority class of the pods.
    pub priority_class: Option<String>,
}

impl NodeInputs {
    /// What differs from what is desired now, in the API's words; the agent's image is no difference that a user asked for.
    pub fn pending(&self, desired: &Self) -> Vec<&'static str> {
        let mut pending = Vec::new();
        let mut differs = |is: bool, word: &'static str| {
            if is {
                pending.push(word);
            }
        };
        differs(
            self.image != desired.image
                || self.engine_version != desired.engine_version
                || self.engine != desired.engine,
            "engineVersion",
        );
        differs(self.cluster != desired.cluster, "clusterMode");
        differs(self.port != desired.port, "port");
        differs(
            self.memory_bytes != desired.memory_bytes
                || self.cpu_request_millis != desired.cpu_request_millis
                || self.cpu_limit_millis != desired.cpu_limit_millis,
            "cacheNodeType",
        );
        differs(
            self.storage_size != desired.storage_size || self.storage_class != desired.storage_class,
            "kubernetes.storage",
        );
        differs(
            self.zone_required
                && desired.zone_required
                && self.zone != desired.zone
                && (self.moved_from.is_none() || self.moved_from != desired.zone),
            "preferredAvailabilityZone",
        );
        differs(self.node_selector != desired.node_selector, "kubernetes.nodeSelector");
        differs(self.tolerations != desired.tolerations, "kubernetes.tolerations");
        differs(self.pod_labels != desired.pod_labels, "kubernetes.podLabels");
        differs(self.pod_annotations != desired.pod_annotations, "kubernetes.podAnnotations");
        differs(self.priority_class != desired.priority_class, "kubernetes.priorityClassName");
        differs(self.pull_policy != desired.pull_policy, "kubernetes.imagePullPolicy");
        differs(self.pull_secrets != desired.pull_secrets, "kubernetes.imagePullSecrets");
        pending
    }
}

/// The inputs of a node as they are desired now.
pub fn node_inputs(
    desired: &Desired,
    shard: &str,
    zone: Option<String>,
    zone_required: bool,
    agent_image: &str,
) -> NodeInputs {
    NodeInputs {
        shard: shard.to_owned(),
        zone,
        moved_from: None,
        away: None,
        tried_ms: None,
        zone_required,
        image: desired.image.clone(),
        agent_image: agent_image.to_owned(),
        pull_policy: desired.image_pull_policy.clone(),
        pull_secrets: desired.image_pull_secrets.clone(),
        engine: desired.engine.kind.as_str().to_owned(),
        engine_version: desired.engine.version.to_string(),
        cluster: desired.cluster_mode == crate::desired::ClusterMode::Enabled,
        port: desired.port,
        bus_port: desired.bus_port,
        memory_bytes: desired.memory_bytes,
        cpu_request_millis: desired.cpu_request_millis,
        cpu_limit_millis: desired.cpu_limit_millis,
        storage_size: desired.storage.as_ref().map(|storage| storage.size.clone()),
        storage_class: desired.storage.as_ref().and_then(|storage| storage.class.clone()),
        node_selector: desired.pod.node_selector.clone(),
        tolerations: desired.pod.tolerations.iter().filter_map(|t| serde_json::to_value(t).ok()).collect(),
        pod_labels: desired.pod.labels.clone(),
        pod_annotations: desired.pod.annotations.clone(),
        priority_class: desired.pod.priority_class_name.clone(),
    }
}

/// The StatefulSet of a node.
///
/// `OnDelete`, one replica, and a service of the same name. The pod passes the `restricted` Pod Security level. It has no
/// liveness probe: a kill never heals data, and a hung engine is the operator's to judge.
pub fn stateful_set(desired: &Desired, shard: &DesiredShard, node: &str, inputs: &NodeInputs) -> Value {
    let mut pod_labels = super::labels(desired);
    pod_labels.extend(inputs.pod_labels.clone());
    pod_labels.insert(names::LABEL_NODE_GROUP.to_owned(), shard.id.clone());
    pod_labels.insert(names::LABEL_CACHE_NODE.to_owned(), node.to_owned());
    let persistent = inputs.storage_size.is_some();
    let data = if persistent { Vec::new() } else { vec![json!({ "name": "data", "emptyDir": {} })] };
    let selector = json!({ names::LABEL_REPLICATION_GROUP: desired.name, names::LABEL_CACHE_NODE: node });
    let mut spec = json!({
        "replicas": 1,
        "serviceName": node,
        "podManagementPolicy": "Parallel",
        "updateStrategy": { "type": "OnDelete" },
        "revisionHistoryLimit": 2,
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": if desired.deletion_policy == crate::desired::DeletionPolicy::Retain { "Retain" } else { "Delete" },
            "whenScaled": "Retain",
        },
        "selector": { "matchLabels": selector },
        "template": {
            "metadata": { "labels": pod_labels, "annotations": inputs.pod_annotations },
            "spec": pod_spec(desired, shard, node, inputs, &data),
        },
    });
    if let Some(size) = &inputs.storage_size {
        let mut claim =
            json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } });
        if let Some(class) = &inputs.storage_class {
            claim["storageClassName"] = json!(class);
        }
        spec["volumeClaimTemplates"] = json!([{ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "data", "labels": { names::LABEL_REPLICATION_GROUP: desired.name, names::LABEL_CACHE_NODE: node } },
            "spec": claim }]);
    }
    let mut metadata =
        metadata(desired, node, &[(names::LABEL_NODE_GROUP, &shard.id), (names::LABEL_CACHE_NODE, node)]);
    // A map of strings and numbers always serializes.
    metadata["annotations"][NODE_ANNOTATION] = json!(serde_json::to_string(inputs).unwrap_or_default());
    json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec })
}

/// The zone that a StatefulSet's template demands.
pub fn pinned_zone(set: &Value) -> Option<&str> {
    let required = set.pointer(
        "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
    )?;
    let terms = required.as_array()?.iter();
    let expressions = terms.filter_map(|term| term.get("matchExpressions")?.as_array()).flatten();
    expressions
        .filter(|each| each["key"] == names::LABEL_ZONE)
        .find_map(|each| each.pointer("/values/0")?.as_str())
}

fn pod_spec(
    desired: &Desired,
    shard: &DesiredShard,
    node: &str,
    inputs: &NodeInputs,
    data: &[Value],
) -> Value {
    let unprivileged = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] } });
    let mut resources = json!({
        "requests": { "memory": quantity(inputs.memory_bytes), "cpu": cpu(inputs.cpu_request_millis) },
        "limits": { "memory": quantity(inputs.memory_bytes) },
    });
    if let Some(millis) = inputs.cpu_limit_millis {
        resources["limits"]["cpu"] = json!(cpu(millis));
    }
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    let mut init = json!({ "name": "agent", "image": inputs.agent_image, "command": ["/kagami-agent", "install", "/install/kagami-agent"],
        "resources": { "requests": { "memory": "16Mi", "cpu": "10m" }, "limits": { "memory": "64Mi" } },
        "securityContext": unprivileged, "volumeMounts": [{ "name": "bin", "mountPath": "/install" }] });
    let mut engine = json!({
        "name": "engine", "image": inputs.image, "command": ["/kagami/bin/kagami-agent", "run"],
        "workingDir": "/data",
        "env": [
            field("POD_IP", "status.podIP"), field("POD_UID", "metadata.uid"), field("KAGAMI_NAMESPACE", "metadata.namespace"),
            value("KAGAMI_GROUP", &desired.name), value("KAGAMI_NODE", node), value("KAGAMI_ENGINE", &inputs.engine),
            value("KAGAMI_SHARD_LEASE", &names::shard_name(&desired.name, &shard.id)),
            value("KAGAMI_PERSISTENT", if inputs.storage_size.is_some() { "true" } else { "false" }),
        ],
        "ports": [
            { "name": "engine", "containerPort": inputs.port, "protocol": "TCP" },
            { "name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP" },
            { "name": "health", "containerPort": PROBE_PORT, "protocol": "TCP" },
        ],
        "readinessProbe": { "httpGet": { "path": "/readyz", "port": "health", "scheme": "HTTP" }, "periodSeconds": 1,
            "timeoutSeconds": 2, "failureThreshold": 2, "successThreshold": 1 },
        "resources": resources,
        "securityContext": unprivileged,
        "volumeMounts": [
            { "name": "bin", "mountPath": "/kagami/bin", "readOnly": true },
            { "name": "run", "mountPath": "/kagami/run" },
            { "name": "secrets", "mountPath": "/kagami/secrets", "readOnly": true },
            { "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true },
            { "name": "data", "mountPath": "/data" },
        ],
    });
    if let Some(policy) = &inputs.pull_policy {
        init["imagePullPolicy"] = json!(policy);
        engine["imagePullPolicy"] = json!(policy);
    }
    let mut volumes = vec![
        json!({ "name": "bin", "emptyDir": {} }),
        json!({ "name": "run", "emptyDir": {} }),
        json!({ "name": "secrets", "secret": { "secretName": names::agent_secret(&desired.name), "defaultMode": 0o440 } }),
        // Mounted by hand, because the account itself mounts nothing by default.
        json!({ "name": "token", "projected": { "defaultMode": 0o440, "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
        ] } }),
    ];
    volumes.extend(data.iter().cloned());
    let mut spec = json!({
        "serviceAccountName": super::access::account_name(desired),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": { "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": { "type": "RuntimeDefault" } },
        "initContainers": [init],
        "containers": [engine],
        "volumes": volumes,
        "affinity": affinity(desired, shard, inputs),
    });
    if !inputs.node_selector.is_empty() {
        spec["nodeSelector"] = json!(inputs.node_selector);
    }
    if !inputs.tolerations.is_empty() {
        spec["tolerations"] = json!(inputs.tolerations);
    }
    if let Some(class) = &inputs.priority_class {
        spec["priorityClassName"] = json!(class);
    }
    if !inputs.pull_secrets.is_empty() {
        spec["imagePullSecrets"] =
            inputs.pull_secrets.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>().into();
    }
    spec
}

/// The zone, and one machine for one copy of a shard where there are enough machines.
fn affinity(desired: &Desired, shard: &DesiredShard, inputs: &NodeInputs) -> Value {
    let mut affinity = json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": {
            names::LABEL_REPLICATION_GROUP: desired.name, names::LABEL_NODE_GROUP: shard.id } } } }] } });
    if let Some(zone) = &inputs.zone {
        let term = json!({ "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone] }] });
        affinity["nodeAffinity"] = if inputs.zone_required {
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } })
        } else {
            json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 50, "preference": term }] })
        };
    }
    affinity
}

/// Bytes as the apiserver would write them, so that an object read back equals the one that was sent.
fn quantity(bytes: i64) -> String {
    for (unit, suffix) in [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
        if bytes % unit == 0 {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// Thousandths of a processor as the apiserver would write them.
fn cpu(millis: i64) -> String {
    if millis % 1000 == 0 { (millis / 1000).to_string() } else { format!("{millis}m") }
}
