//! What a replication group tells of itself: CloudFormation's return values, ElastiCache's words, and what Kubernetes expects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::words::{ClusterMode, Durability, words};

/// What was seen of the group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationGroupStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// ElastiCache's word for the state of the group. As there, a group that lost a copy stays available; the condition
    /// Degraded tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GroupStatus")]
    pub status: Option<GroupStatus>,

    /// The reason of the condition that matters most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// How many cache nodes are available, of how many: 2/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_ready: Option<String>,

    /// How many node groups (shards) there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<i32>,

    /// The engine and its version: redis 6.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub engine: Option<String>,

    /// Whether cluster mode is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClusterMode")]
    pub cluster_mode: Option<ClusterMode>,

    /// Cluster mode enabled: the name that resolves to every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Endpoint")]
    pub configuration_end_point: Option<Endpoint>,

    /// Cluster mode disabled: the name of the primary, also after a failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Endpoint")]
    pub primary_end_point: Option<Endpoint>,

    /// Cluster mode disabled: the name of the replicas; of the only node where there is no replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Endpoint")]
    pub reader_end_point: Option<Endpoint>,

    /// Cluster mode disabled: the names of all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReadEndpoint")]
    pub read_end_point: Option<ReadEndpoint>,

    /// The node groups (shards).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["nodeGroupId"]))]
    pub node_groups: Vec<NodeGroup>,

    /// The names of all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_clusters: Vec<String>,

    /// What the spec asks for and is not so yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PendingModifiedValues")]
    pub pending_modified_values: Option<PendingModifiedValues>,

    /// Whether a replica is promoted when a primary fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Switch")]
    pub automatic_failover: Option<Switch>,

    /// Whether the copies of a shard must be in different zones.
    #[serde(rename = "multiAZ", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Switch")]
    pub multi_az: Option<Switch>,

    /// How durable an acknowledged write is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Durability")]
    pub effective_durability: Option<Durability>,

    /// What the defaults came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resolved")]
    pub resolved: Option<Resolved>,

    /// Ready, Progressing, Degraded and NotInEffect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where clients connect. The port is a text, as CloudFormation's is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The name in the cluster's DNS.
    pub address: String,
    /// The port.
    pub port: String,
}

/// Where clients reach every node. Addresses and ports are in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadEndpoint {
    /// The names in the cluster's DNS.
    pub addresses: Vec<String>,
    /// The ports.
    pub ports: Vec<String>,
}

/// A node group (shard).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroup {
    /// Its id, such as 0001.
    pub node_group_id: String,
    /// ElastiCache's word for its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NodeGroupStatus")]
    pub status: Option<NodeGroupStatus>,
    /// The slots that its primary serves, such as 0-5460. Absent with cluster mode disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<String>,
    /// Where its primary is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Endpoint")]
    pub primary_endpoint: Option<Endpoint>,
    /// The term: how often the primary role was given in this shard. A node that knows a higher one obeys no lower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    /// Its nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cacheClusterId"]))]
    pub node_group_members: Vec<NodeGroupMember>,
}

/// A cache node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupMember {
    /// Its name, such as my-group-0001-001: of the StatefulSet, the Service and the DNS name.
    pub cache_cluster_id: String,
    /// Always 0001: a member of a replication group has exactly one cache node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_node_id: Option<String>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Endpoint")]
    pub read_endpoint: Option<Endpoint>,
    /// The zone it belongs to, also while it is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_availability_zone: Option<String>,
    /// primary or replica; absent while it is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Role")]
    pub current_role: Option<Role>,
    /// ElastiCache's word for its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MemberStatus")]
    pub status: Option<MemberStatus>,
    /// The machine (Kubernetes node) that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The engine's own id of the node. Absent with cluster mode disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// The boot: which start of the engine this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// How far its history goes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_offset: Option<i64>,
    /// How far it is behind its primary, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<i64>,
    /// How often its engine was started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i32>,
}

/// What the spec asks for and is not so yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingModifiedValues {
    /// The cluster mode that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClusterMode")]
    pub cluster_mode: Option<ClusterMode>,
    /// The state of automatic failover that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Switch")]
    pub automatic_failover_status: Option<Switch>,
    /// The engine and version that are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The node type that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_node_type: Option<String>,
    /// The number of node groups that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_node_groups: Option<i32>,
    /// The number of nodes that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_cache_clusters: Option<i32>,
    /// The properties whose change is asked for and not carried out, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<String>,
}

/// What the defaults came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The version of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub engine_version: Option<String>,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The parameter group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_group: Option<String>,
    /// The node type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_node_type: Option<String>,
    /// The memory of a node, request and limit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// maxmemory of the engine, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxmemory_bytes: Option<i64>,
    /// The CPU request of a node, in thousandths of a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request_millis: Option<i64>,
}

/// What was seen of a parameter group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParameterGroupStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The values that the engines of a replication group with this parameter group run with, the family's defaults included.
    /// Those that depend on the node type or on a volume are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Valid and NotInEffect; InUse where it was deleted and a replication group still refers to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What was seen of an object that replication groups refer to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferredStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// NotInEffect; InUse where it was deleted and a replication group still refers to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

words! {
    /// ElastiCache's words for the state of a replication group.
    GroupStatus {
        /// It is being made.
        Creating = "creating",
        /// It serves.
        Available = "available",
        /// It serves, and is being changed.
        Modifying = "modifying",
        /// It is being deleted.
        Deleting = "deleting",
        /// It could not be made; the conditions say why.
        CreateFailed = "create-failed",
        /// A snapshot of it is being taken.
        Snapshotting = "snapshotting",
    }
}

words! {
    /// ElastiCache's words for the state of a node group.
    NodeGroupStatus {
        /// It is being made.
        Creating = "creating",
        /// It serves.
        Available = "available",
        /// It is being changed.
        Modifying = "modifying",
        /// It is being deleted.
        Deleting = "deleting",
    }
}

words! {
    /// ElastiCache's words for the state of a cache node.
    MemberStatus {
        /// It is being made.
        Creating = "creating",
        /// It serves.
        Available = "available",
        /// It is being changed.
        Modifying = "modifying",
        /// Its engine is being started again, or brought up to date after that.
        Rebooting = "rebooting cluster nodes",
        /// It is being deleted.
        Deleting = "deleting",
        /// It is gone.
        Deleted = "deleted",
        /// Its zone cannot hold it.
        IncompatibleNetwork = "incompatible-network",
        /// Its snapshot could not be restored.
        RestoreFailed = "restore-failed",
        /// A snapshot of it is being taken.
        Snapshotting = "snapshotting",
    }
}

words! {
    /// The role of a node in its shard.
    Role {
        /// It accepts writes.
        Primary = "primary",
        /// It follows the primary.
        Replica = "replica",
    }
}

words! {
    /// The state of something that is on or off.
    Switch {
        /// On.
        Enabled = "enabled",
        /// Off.
        Disabled = "disabled",
        /// Being turned on.
        Enabling = "enabling",
        /// Being turned off.
        Disabling = "disabling",
    }
}
