//! Who may do what: the pods' service account, and the network policy.

use super::{group_selector, metadata};
use crate::desired::{ClusterMode, Desired};
use kagami_api::names;
use kagami_protocol::AGENT_PORT;
use serde_json::{Value, json};

/// The name of the pods' service account, role and binding.
pub(super) fn account_name(desired: &Desired) -> String {
    format!("{}-node", desired.name)
}

/// What the pods run as.
pub fn service_account(desired: &Desired) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(desired, &account_name(desired), &[]),
        "automountServiceAccountToken": false })
}

/// An agent may read its own group's leases (whether its term still holds), and nothing else.
pub fn role(desired: &Desired) -> Value {
    let leases: Vec<String> =
        desired.shards.iter().map(|shard| names::shard_name(&desired.name, &shard.id)).collect();
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": metadata(desired, &account_name(desired), &[]),
        "rules": [{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": leases, "verbs": ["get"] }] })
}

/// The tie between both.
pub fn role_binding(desired: &Desired) -> Value {
    let name = account_name(desired);
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata(desired, &name, &[]),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": desired.namespace }] })
}

/// Who may connect: to the client port the peers of the security groups and the group itself, to the bus only the group,
/// to the agents only the operator. Without security groups there is no policy, as a security group that is not named
/// protects nothing.
pub fn network_policy(desired: &Desired, operator_namespace: &str) -> Option<Value> {
    let peers = desired.ingress.as_ref()?;
    let own = json!([{ "podSelector": { "matchLabels": group_selector(desired) } }]);
    let client = json!([{ "protocol": "TCP", "port": desired.port }]);
    let mut ingress = Vec::new();
    if !peers.is_empty() {
        ingress.push(json!({ "from": peers, "ports": client }));
    }
    let mut between = vec![json!({ "protocol": "TCP", "port": desired.port })];
    if desired.cluster_mode == ClusterMode::Enabled {
        between.push(json!({ "protocol": "TCP", "port": desired.bus_port }));
    }
    ingress.push(json!({ "from": own, "ports": between }));
    ingress.push(json!({
        "from": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": operator_namespace } } }],
        "ports": [{ "protocol": "TCP", "port": AGENT_PORT }]
    }));
    Some(json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": metadata(desired, &desired.name, &[]),
        "spec": { "podSelector": { "matchLabels": group_selector(desired) }, "policyTypes": ["Ingress"], "ingress": ingress } }))
}

/// A Secret of the group.
pub fn secret(desired: &Desired, name: &str, data: &std::collections::BTreeMap<String, String>) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata(desired, name, &[]), "stringData": data })
}
