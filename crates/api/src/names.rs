//! What things are called: the API group, labels, annotations, and the names of everything that belongs to a group.
//!
//! A replication group id is at most 40 characters long, so that every name made from it fits the 63 of a DNS label.

use crate::v1alpha1::ReplicationGroup;

/// The API group.
pub const GROUP: &str = "elasticache.kagami.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "kagami";
/// The finalizer of a replication group.
pub const FINALIZER: &str = "elasticache.kagami.dev/protection";
/// The finalizer of what a replication group refers to, as long as it does.
pub const FINALIZER_IN_USE: &str = "elasticache.kagami.dev/in-use";
/// The name that events come from, and the value of [`LABEL_MANAGED_BY`].
pub const CONTROLLER: &str = "kagami";
/// The domain of the cluster's DNS where nothing else is said.
pub const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";
/// The port that the agent of a node serves the operator on.
pub const AGENT_PORT: u16 = 8379;
/// The port that the agent of a node serves health and metrics on.
pub const AGENT_METRICS_PORT: u16 = 8380;
/// The port of a group that says none.
pub const DEFAULT_PORT: u16 = 6379;
/// The label of a machine that says its zone.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// `app.kubernetes.io/name`: redis or valkey.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/instance`: the replication group.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// `app.kubernetes.io/component`: what the object is for.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// `app.kubernetes.io/part-of`: kagami.
pub const LABEL_PART_OF: &str = "app.kubernetes.io/part-of";
/// `app.kubernetes.io/managed-by`: kagami.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The replication group that an object belongs to.
pub const LABEL_REPLICATION_GROUP: &str = "elasticache.kagami.dev/replication-group";
/// The node group (shard) that an object belongs to, such as 0001.
pub const LABEL_NODE_GROUP: &str = "elasticache.kagami.dev/node-group";
/// The cache node that an object belongs to, such as my-group-0001-001.
pub const LABEL_CACHE_NODE: &str = "elasticache.kagami.dev/cache-node";
/// The role of a pod's node: primary or replica. Absent while it is neither.
pub const LABEL_ROLE: &str = "elasticache.kagami.dev/role";

/// The prefix of the labels and annotations that tags become.
pub const TAG_PREFIX: &str = "tags.elasticache.kagami.dev/";
/// The prefix of the label of a pod that belongs to a security group, which is how a rule lets in the members of another group.
pub const SECURITY_GROUP_MEMBER_PREFIX: &str = "security-group.elasticache.kagami.dev/";

/// The longest replication group id.
pub const ID_LENGTH_MAX: usize = 40;

/// Whether a text is a replication group id as it is stored: lower case, 1 to 40 letters, digits and single hyphens, beginning
/// with a letter and not ending with a hyphen (rule V02).
pub fn is_replication_group_id(text: &str) -> bool {
    text.len() <= ID_LENGTH_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// The id of the node group at a place of the list that begins with 0: `0001` for the first.
pub fn node_group_id(index: usize) -> String {
    format!("{:04}", index + 1)
}

/// The name of a shard (node group) and of its objects: `my-group-0001`.
pub fn shard_name(replication_group: &str, node_group: &str) -> String {
    format!("{replication_group}-{node_group}")
}

/// The name of a cache node: `my-group-0001-001`. Nodes are counted from 1. It is also the name of the node's StatefulSet and
/// Service, hence its DNS name.
pub fn node_name(replication_group: &str, node_group: &str, number: usize) -> String {
    format!("{replication_group}-{node_group}-{number:03}")
}

/// The name of a node's only pod.
pub fn pod_name(node: &str) -> String {
    format!("{node}-0")
}

/// The Service of the configuration endpoint (cluster mode enabled) or of the primary endpoint (disabled).
pub fn endpoint_service(replication_group: &str) -> String {
    replication_group.to_owned()
}

/// The Service of the reader endpoint (cluster mode disabled).
pub fn reader_service(replication_group: &str) -> String {
    format!("{replication_group}-ro")
}

/// The Secret with what an agent needs to trust the operator and to be trusted by it.
pub fn agent_secret(replication_group: &str) -> String {
    format!("{replication_group}-kagami-agent")
}

/// The Secret with what the operator alone may know.
pub fn operator_secret(replication_group: &str) -> String {
    format!("{replication_group}-kagami-operator")
}

/// The ConfigMap with the endpoints, which is what a CloudFormation user takes from the outputs of a stack.
pub fn endpoints_config_map(replication_group: &str) -> String {
    format!("{replication_group}-endpoints")
}

/// The DNS name of a Service.
pub fn address(service: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{service}.{namespace}.svc.{cluster_domain}")
}

/// The label of a pod that is a member of a security group.
pub fn security_group_member_label(security_group: &str) -> String {
    format!("{SECURITY_GROUP_MEMBER_PREFIX}{security_group}")
}

/// The label selector of everything that belongs to a replication group.
pub fn selector(group: &ReplicationGroup) -> String {
    format!("{LABEL_REPLICATION_GROUP}={}", group.metadata.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_elasticache_names_them() {
        assert_eq!(node_group_id(0), "0001");
        assert_eq!(node_group_id(89), "0090");
        assert_eq!(node_name("dva", &node_group_id(0), 1), "dva-0001-001");
        assert_eq!(shard_name("dva", "0001"), "dva-0001");
        assert_eq!(address("dva", "shop", DEFAULT_CLUSTER_DOMAIN), "dva.shop.svc.cluster.local");
    }

    #[test]
    fn every_name_of_the_longest_id_fits_a_dns_label() {
        let id = "a".repeat(ID_LENGTH_MAX);
        assert!(is_replication_group_id(&id));
        for name in [
            pod_name(&node_name(&id, "0090", 6)),
            endpoint_service(&id),
            reader_service(&id),
            agent_secret(&id),
            operator_secret(&id),
            endpoints_config_map(&id),
        ] {
            assert!(name.len() <= 63, "{name}");
        }
    }

    #[test]
    fn an_id_is_what_elasticache_takes_for_one() {
        for id in ["a", "dva-03-004-replicationgroup", "my-redis7"] {
            assert!(is_replication_group_id(id), "{id}");
        }
        for text in ["", "1a", "-a", "a-", "a--b", "A", "a.b", "a_b", &"a".repeat(41)] {
            assert!(!is_replication_group_id(text), "{text}");
        }
    }
}
