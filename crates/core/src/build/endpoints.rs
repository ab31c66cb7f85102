//! Names and addresses: services, the endpoint slices behind them, the environment for clients, disruption budgets.

use super::{group_selector, metadata};
use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::observed::{Kind, ObjectKey, Observed};
use kagami_api::names;
use kagami_protocol::HEALTH_PORT;
use serde_json::{Value, json};

/// A pod behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reachable {
    /// Its address.
    pub ip: String,
    /// Its pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Its machine.
    pub machine: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
}

/// The service of one cache node: its DNS name is the node's endpoint, also while it is not ready, because replicas and
/// people look for a node by its name before it serves.
pub fn service_for_node(desired: &Desired, shard: &DesiredShard, node: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(desired, node, &[(names::LABEL_NODE_GROUP, &shard.id), (names::LABEL_CACHE_NODE, node)]),
        "spec": { "clusterIP": "None", "publishNotReadyAddresses": true,
            "selector": { names::LABEL_REPLICATION_GROUP: desired.name, names::LABEL_CACHE_NODE: node },
            "ports": ports(desired) } })
}

/// The configuration endpoint (headless: DNS gives every node), or the primary's or reader's (one address that stays).
/// They select nothing: the operator writes the addresses, because it knows the roles first.
pub fn service(desired: &Desired, name: &str) -> Value {
    let mut spec = json!({ "ports": ports(desired) });
    if desired.cluster_mode == ClusterMode::Enabled {
        spec["clusterIP"] = json!("None");
    }
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata(desired, name, &[]), "spec": spec })
}

fn ports(desired: &Desired) -> Value {
    json!([{ "name": desired.engine.kind.as_str(), "port": desired.port, "protocol": "TCP", "targetPort": desired.port }])
}

/// The addresses behind a service.
pub fn endpoint_slice(desired: &Desired, service: &str, addresses: &[Reachable]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| {
            let mut endpoint = json!({ "addresses": [address.ip], "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "name": address.pod, "namespace": desired.namespace, "uid": address.uid } });
            if let Some(machine) = &address.machine {
                endpoint["nodeName"] = json!(machine);
            }
            if let Some(zone) = &address.zone {
                endpoint["zone"] = json!(zone);
            }
            endpoint
        })
        .collect();
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata(desired, service, &[("kubernetes.io/service-name", service),
            ("endpointslice.kubernetes.io/managed-by", "controller.kagami.dev")]),
        "endpoints": endpoints,
        "ports": [{ "name": desired.engine.kind.as_str(), "port": desired.port, "protocol": "TCP" }] })
}

/// Who is behind the reader endpoint: the replicas, or the primary where there are none (as in ElastiCache).
pub fn readers(replicas: Vec<Reachable>, primary: Option<Reachable>) -> Vec<Reachable> {
    if replicas.is_empty() { primary.into_iter().collect() } else { replicas }
}

/// The endpoints as environment variables, for `envFrom`: what a CloudFormation user takes from the stack's outputs.
pub fn config_map(desired: &Desired) -> Value {
    let address = |service: &str| names::address(service, &desired.namespace, &desired.cluster_domain);
    let mut data = json!({ "REDIS_PORT": desired.port.to_string() });
    if desired.cluster_mode == ClusterMode::Enabled {
        data["CONFIGURATION_ENDPOINT_ADDRESS"] = json!(address(&desired.name));
    } else {
        data["PRIMARY_ENDPOINT_ADDRESS"] = json!(address(&desired.name));
        data["READER_ENDPOINT_ADDRESS"] = json!(address(&names::reader_service(&desired.name)));
    }
    let mut metadata = metadata(desired, &names::endpoints_config_map(&desired.name), &[]);
    // What was accepted last outlives the operator: a bad edit, or a parameter group that was deleted, must not leave a
    // running group unattended by the next process (P9).
    metadata["annotations"][ACCEPTED] = json!(serde_json::to_string(desired).unwrap_or_default());
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data })
}

const ACCEPTED: &str = "elasticache.kagami.dev/accepted";

/// What was accepted last, as it was written beside the endpoints.
pub fn accepted(group: &str, observed: &Observed) -> Option<Desired> {
    let key = ObjectKey { kind: Kind::ConfigMap, name: names::endpoints_config_map(group) };
    let text = observed.children.get(&key)?.pointer("/metadata/annotations")?.get(ACCEPTED)?.as_str()?;
    serde_json::from_str(text).ok()
}

/// One copy of a shard at a time may be evicted. The written rule for a shard of one node: with a volume it may go (the
/// copy stays on the volume); without one its eviction would destroy the only copy, so it is refused unless
/// `spec.kubernetes.allowEvictionOfOnlyCopy` says that it may be lost.
pub fn disruption_budget(desired: &Desired, shard: &DesiredShard) -> Value {
    let keep_only_copy =
        shard.nodes.len() == 1 && desired.storage.is_none() && !desired.allow_eviction_of_only_copy;
    json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": metadata(desired, &names::shard_name(&desired.name, &shard.id), &[(names::LABEL_NODE_GROUP, &shard.id)]),
        "spec": { "maxUnavailable": i32::from(!keep_only_copy),
            "selector": { "matchLabels": shard_selector(desired, &shard.id) } } })
}

fn shard_selector(desired: &Desired, shard: &str) -> Value {
    let mut selector = group_selector(desired);
    selector[names::LABEL_NODE_GROUP] = json!(shard);
    selector
}

/// The port that the kubelet asks for readiness.
pub(super) const PROBE_PORT: u16 = HEALTH_PORT;
