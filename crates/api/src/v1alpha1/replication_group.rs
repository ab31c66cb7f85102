//! The replication group: every property of the CloudFormation type, and what it means here.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::kubernetes::KubernetesOptions;
use crate::v1alpha1::status::ReplicationGroupStatus;
use crate::v1alpha1::words::{
    ClusterMode, DeletionPolicy, DestinationType, Durability, Engine, IpDiscovery, LogFormat, LogType,
    NetworkType, TransitEncryptionMode,
};

/// The properties of `AWS::ElastiCache::ReplicationGroup`, in camelCase, and what Kubernetes needs to know beside them.
///
/// Every group gives replicationGroupDescription and cacheNodeType, and its shape. One node: numCacheClusters: 1. A primary with
/// two replicas: numCacheClusters: 3, automaticFailoverEnabled: true. A Redis Cluster of three shards with a replica each:
/// numNodeGroups: 3, replicasPerNodeGroup: 1. A Redis Cluster of one shard with a replica: clusterMode: enabled,
/// replicasPerNodeGroup: 1. For Valkey add engine: valkey, and to a single node of it automaticFailoverEnabled: false. For copies
/// in different zones add multiAZEnabled: true, to a group that fails over. To keep data when every node has stopped, add kubernetes.storage.
///
/// As one line of JSON, a whole group: {"apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": "ReplicationGroup", "metadata":
/// {"name": "cart"}, "spec": {"replicationGroupDescription": "carts of the shop", "cacheNodeType": "cache.t4g.micro", "engine":
/// "redis", "engineVersion": "7.1", "numCacheClusters": 2, "automaticFailoverEnabled": true}}. metadata.name is the id: 1 to 40
/// lower-case letters, digits and single hyphens, beginning with a letter and not ending with a hyphen.
///
/// Zones are values of the label topology.kubernetes.io/zone of machines. What a group refers to (parameter group, subnet group,
/// security groups) is an object of that name in the same namespace, and may be made later.
///
/// Every property is in one of four classes. In effect: it does what ElastiCache documents. Met by itself: what is asked for is
/// so anyway. Recorded: kept without an effect, and named in the condition NotInEffect. Refused: with a sentence that says what
/// to do. Nothing is accepted and ignored.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "elasticache.kagami.dev",
    version = "v1alpha1",
    kind = "ReplicationGroup",
    plural = "replicationgroups",
    singular = "replicationgroup",
    shortname = "rg",
    category = "kagami",
    namespaced,
    status = "ReplicationGroupStatus",
    derive = "PartialEq",
    doc = "A Redis or Valkey replication group that behaves as ElastiCache documents it: the mirror of AWS::ElastiCache::ReplicationGroup. metadata.name is the replication group id.",
    printcolumn = r#"{"name": "Status", "type": "string", "jsonPath": ".status.status", "description": "ElastiCache's word for the state of the group."}"#,
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".status.clusterMode", "description": "Whether cluster mode is enabled or disabled."}"#,
    printcolumn(
        name = "Shards",
        type_ = "integer",
        json_path = ".status.shards",
        description = "How many node groups (shards) the group has."
    ),
    printcolumn = r#"{"name": "Nodes", "type": "string", "jsonPath": ".status.nodesReady", "description": "How many cache nodes are available, of how many."}"#,
    printcolumn = r#"{"name": "Engine", "type": "string", "jsonPath": ".status.engine", "description": "The engine and its version."}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.reason", "description": "The reason of the condition that matters most."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationGroupSpec {
    /// What the group is for, in your words: 1 to 255 characters. The only property that ElastiCache requires.
    /// In effect: shown here and exported; it changes nothing else. A change holds at once.
    #[schemars(length(min = 1, max = 255))]
    pub replication_group_description: String,

    /// The id of the group. Here metadata.name is the id, and this, where it is given, must be the same when lower-cased: leave it
    /// out. In effect. Cannot be changed later, as a name cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub replication_group_id: Option<String>,

    /// Encryption of what lies on disk. false is met by itself; true is refused until this version can keep the promise.
    /// Default: false, also for Valkey, which ElastiCache encrypts where nothing is said: say false to mean the same in both places,
    /// and name an encrypting class in kubernetes.storage.storageClassName where volumes are to be encrypted. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_rest_encryption_enabled: Option<bool>,

    /// The password of the group in clear text. Refused, always: a secret never stands in a spec. authTokenSecretRef is its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub auth_token: Option<String>,

    /// The key of a Secret in this namespace that has the password of the group, which is what AuthToken becomes. Refused in this
    /// version: it has no encryption in transit yet, and without that ElastiCache allows no password either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretKeyReference")]
    pub auth_token_secret_ref: Option<SecretKeyReference>,

    /// Whether patch releases may be taken in the maintenance window. Recorded: this version changes an engine only when the
    /// spec asks for it. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_minor_version_upgrade: Option<bool>,

    /// Whether a replica is promoted when the primary fails. In effect. With cluster mode enabled it must not be false. With
    /// cluster mode disabled true needs at least two nodes, and a single node of Valkey must say false. With false and several nodes
    /// the role stays with one node, as in ElastiCache: a replica serves while that one is recreated, and hands the role back once
    /// it is in sync. A change holds at once. Default, as in ElastiCache: true with cluster mode enabled and for Valkey, false for Redis
    /// with cluster mode disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic_failover_enabled: Option<bool>,

    /// The node type, by ElastiCache's names, such as cache.t4g.micro (0.5 GiB), cache.t4g.medium (3.09 GiB) or cache.m7g.large
    /// (6.38 GiB): it decides the memory of every node (request and limit), maxmemory (three quarters of it, by the parameter
    /// reserved-memory-percent), maxclients, and the CPU request. A name that the operator's table does not have is told in the
    /// conditions. In effect; may be left out only where kubernetes.resources.limits.memory is given. A change waits in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub cache_node_type: Option<String>,

    /// The parameter group: the name of a ParameterGroup in this namespace, or a built-in group: default.redis6.x, default.redis7,
    /// default.valkey7, default.valkey8 or default.valkey9, each with .cluster.on at the end for cluster mode enabled. It must be
    /// of the family of the engine version, and its cluster-enabled decides the cluster mode where clusterMode is not given. In
    /// effect. A change holds at once, for a few parameters (they are told as pending) from the next start of an engine. Default: the built-in group that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub cache_parameter_group_name: Option<String>,

    /// Cache security groups of EC2-Classic. Refused: use securityGroupIds. An empty list is met by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub cache_security_group_names: Option<Vec<String>>,

    /// The name of the SubnetGroup in this namespace that says in which zones the nodes may be. In effect. Cannot be changed later; the zones
    /// of the SubnetGroup can. Default: every zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub cache_subnet_group_name: Option<String>,

    /// enabled (Redis Cluster, one or more shards; clients must speak its protocol) or disabled (one primary with replicas, for
    /// any client). In effect; compatible is refused in this version. Cannot be changed later. Default: what the parameter group's
    /// cluster-enabled says; without a parameter group, enabled exactly where there are several shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClusterMode")]
    pub cluster_mode: Option<ClusterMode>,

    /// Data tiering to disk. false is met by itself; true is refused, because no open engine does it. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_tiering_enabled: Option<bool>,

    /// How durable an acknowledged write is. default and disabled are met by itself; async and sync are refused in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Durability")]
    pub durability: Option<Durability>,

    /// redis or valkey. In effect. A change from redis to valkey waits in this version; valkey is never changed to redis.
    /// Default: redis, unless the operator's table says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Engine")]
    pub engine: Option<Engine>,

    /// The version of the engine without its patch level, in quotes, such as "7.1", because YAML takes 7.0 for a number; 6.x means the newest 6. The operator's table has the versions
    /// and their images; as it comes, redis: 6.2, 7.0, 7.1; valkey: 7.2, 8.0, 8.1, 8.2, 9.0, 9.1. In effect. A change waits in this
    /// version, and never decreases it. Default: the newest version of the engine that the table has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub engine_version: Option<String>,

    /// The global datastore that the group is a secondary of. Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub global_replication_group_id: Option<String>,

    /// The address family that nodes are discovered by. ipv4 is met by itself; ipv6 is refused in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "IpDiscovery")]
    pub ip_discovery: Option<IpDiscovery>,

    /// The key that encrypts what lies on disk. Refused, as atRestEncryptionEnabled is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key_id: Option<String>,

    /// Where slow logs and engine logs go. Refused unless empty: the engine's log is the log of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    pub log_delivery_configurations: Option<Vec<LogDeliveryConfiguration>>,

    /// Whether the copies of a shard must be in different zones. In effect, as a hard rule: never all copies of a shard in one
    /// zone, also after a failover. Needs automatic failover, a replica in every shard and at least two zones. A change holds at once for nodes that
    /// are made. Default: false, which spreads the copies as well as the zones allow.
    #[serde(rename = "multiAZEnabled", default, skip_serializing_if = "Option::is_none")]
    pub multi_az_enabled: Option<bool>,

    /// The address families of the nodes. ipv4 is met by itself; ipv6 and dual_stack are refused in this version.
    /// Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NetworkType")]
    pub network_type: Option<NetworkType>,

    /// One entry for each node group (shard): its id, zones, number of replicas and slots, each of which may be left out, as in
    /// {"nodeGroupId": "0001", "primaryAvailabilityZone": "a", "replicaAvailabilityZones": ["b"], "replicaCount": 1}. In effect. As many entries as numNodeGroups, where both are given; alone it defines the number of shards. At most 90, which is
    /// ElastiCache's own quota and what the API server's budget for rules allows: a group of more shards gives numNodeGroups alone. A change
    /// waits in this version, save that replicas are added. Slots count only when the group is created, with cluster mode enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 90))]
    pub node_group_configuration: Option<Vec<NodeGroupConfiguration>>,

    /// The SNS topic of notifications. Recorded: notifications are Kubernetes events here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub notification_topic_arn: Option<String>,

    /// The number of nodes, primary included, of a group with cluster mode disabled: 1 to 6. In effect. Not together with
    /// several shards, and only together with a replicasPerNodeGroup that says the same. More nodes are added at once; fewer
    /// wait in this version. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6))]
    pub num_cache_clusters: Option<i32>,

    /// The number of node groups (shards): 1 to 500, with at most 500 nodes in all. In effect. Several enable cluster mode; 1 says
    /// nothing about it: give clusterMode. A change waits in this version. Default: the entries of nodeGroupConfiguration, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub num_node_groups: Option<i32>,

    /// The port that every node accepts connections on: 1150 to 65535 (55535 for a Redis Cluster before 7.0), save 8379 and 8380,
    /// which the node's agent uses. These bounds are of Kagami and of ElastiCache's console; CloudFormation's schema has none. In effect. Cannot be changed later. Default: 6379.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1150, max = 65535))]
    pub port: Option<i32>,

    /// Cluster mode disabled only (with it enabled, zones are given in nodeGroupConfiguration): the zone of every node, the first
    /// being the primary's at the start, such as ["a", "b"] with numCacheClusters: 2. As many as there are nodes; a zone may stand
    /// several times; each must be one of the subnet group's. In effect. Cannot be changed later, save that zones are added or taken away at the
    /// end together with nodes. Default: Kagami spreads the nodes.
    #[serde(rename = "preferredCacheClusterAZs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6), inner(length(min = 1, max = 63)))]
    pub preferred_cache_cluster_azs: Option<Vec<String>>,

    /// The weekly window, in UTC, for disruptive work that nobody asked for: ddd:hh24:mi-ddd:hh24:mi, such as
    /// sun:05:00-sun:06:00, 60 minutes to 24 hours. It must not overlap snapshotWindow. Recorded: this version does no such work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub preferred_maintenance_window: Option<String>,

    /// The node that is to be the primary: its name in the status (my-group-0001-002), or as ElastiCache counts (my-group-002). In
    /// effect with cluster mode disabled and automaticFailoverEnabled: false, refused otherwise. A change holds at once: the role is
    /// handed over, with no write lost, as soon as that node is in sync. Default: the first node, then whoever has the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub primary_cluster_id: Option<String>,

    /// The number of replicas in each node group (shard), beside its primary: 0 to 5. In effect; replicaCount of a node group comes
    /// before it. More replicas are added at once; fewer wait in this version. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub replicas_per_node_group: Option<i32>,

    /// The names of the SecurityGroups in this namespace, 16 at most, whose ingress may reach the group's port. In effect: they become one NetworkPolicy,
    /// which protects where the cluster's network plugin enforces it. A change holds at once. Default: no policy, so whoever
    /// reaches the pods may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub security_group_ids: Option<Vec<String>>,

    /// Snapshot files to start from. Refused in this version unless empty. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 90), inner(length(max = 2048)), extend("x-kubernetes-list-type" = "set"))]
    pub snapshot_arns: Option<Vec<String>>,

    /// The snapshot to start from. Refused in this version. Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub snapshot_name: Option<String>,

    /// For how many days automatic snapshots are kept. 0, the default, is met by itself; more is refused in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 35))]
    pub snapshot_retention_limit: Option<i32>,

    /// The daily window, in UTC, in which automatic snapshots begin: hh24:mi-hh24:mi, such as 03:00-04:00, at least 60
    /// minutes. It must not overlap preferredMaintenanceWindow. Recorded: this version takes no snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub snapshot_window: Option<String>,

    /// The node that automatic snapshots are taken from. Refused in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub snapshotting_cluster_id: Option<String>,

    /// Tags of the group, as in key: team, value: shop. In effect: annotations of everything that Kagami makes for it, and labels
    /// where the tag is legal as one. At most 50, keys once each and not beginning with aws:. A change holds at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 50),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"])
    )]
    pub tags: Option<Vec<Tag>>,

    /// Encryption of what goes over the network. false is met by itself; true is refused until this version can keep the
    /// promise. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit_encryption_enabled: Option<bool>,

    /// Whether clients may connect without encryption while it is being introduced. Refused, as encryption in transit is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TransitEncryptionMode")]
    pub transit_encryption_mode: Option<TransitEncryptionMode>,

    /// The user group whose users may connect. Refused in this version unless empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1), inner(length(min = 1, max = 40)), extend("x-kubernetes-list-type" = "set"))]
    pub user_group_ids: Option<Vec<String>>,

    /// The resource attribute DeletionPolicy: what becomes of the nodes and their volumes when this object is deleted. Delete
    /// removes them. Retain leaves them running, for you to look after. Snapshot is refused in this version. A change holds at
    /// once. Default: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// The resource attribute UpdatePolicy: how a change of the number of shards is carried out. In effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpdatePolicy")]
    pub update_policy: Option<UpdatePolicy>,

    /// What CloudFormation has no word for: image, storage, resources, nodeSelector, tolerations, labels and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KubernetesOptions")]
    pub kubernetes: Option<KubernetesOptions>,
}

/// One node group (shard) of a replication group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupConfiguration {
    /// The id of the node group, one to four digits such as 0001. Default: its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), pattern("^0*[1-9][0-9]*$"))]
    pub node_group_id: Option<String>,

    /// The zone of the first node, which is the primary at the start; a failover moves the role, not the node. Default: Kagami
    /// spreads the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub primary_availability_zone: Option<String>,

    /// The zones of the replicas, as many as there are replicas. Default: Kagami spreads the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 63)))]
    pub replica_availability_zones: Option<Vec<String>>,

    /// The number of replicas of this node group: 0 to 5. Default: replicasPerNodeGroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub replica_count: Option<i32>,

    /// The slots of this node group when the group is created, such as 0-3999 or 0-99,200-299, in at most 256 characters (some twenty ranges; the API server's budget for rules allows no more). Either every node
    /// group says its slots, and together they are 0-16383, or none does and they are split evenly. Where slots are later is in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub slots: Option<String>,
}

/// A key of a Secret in the namespace of the object. Its value is read there and stands nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data, such as auth-token.
    #[schemars(length(min = 1, max = 253), pattern("^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// The key, 1 to 128 characters, not beginning with aws:.
    #[schemars(length(min = 1, max = 128))]
    pub key: String,
    /// The value, up to 256 characters.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub value: String,
}

/// The resource attribute UpdatePolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePolicy {
    /// Whether a change of the number of shards is carried out online. false refuses such a change at once: here a group is never
    /// replaced, because its data would be lost. With true it waits in this version, which says so with the reason
    /// UnsupportedModification. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_online_resharding: Option<bool>,
}

/// Where one kind of log goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogDeliveryConfiguration {
    /// slow-log or engine-log.
    pub log_type: LogType,
    /// json or text.
    pub log_format: LogFormat,
    /// cloudwatch-logs or kinesis-firehose.
    pub destination_type: DestinationType,
    /// The destination.
    pub destination_details: DestinationDetails,
}

/// The destination of a log, of the kind that destinationType says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationDetails {
    /// The log group of CloudWatch Logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CloudWatchLogsDetails")]
    pub cloud_watch_logs_details: Option<CloudWatchLogsDetails>,
    /// The delivery stream of Kinesis Data Firehose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KinesisFirehoseDetails")]
    pub kinesis_firehose_details: Option<KinesisFirehoseDetails>,
}

/// A log group of CloudWatch Logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchLogsDetails {
    /// The name of the log group.
    #[schemars(length(max = 512))]
    pub log_group: String,
}

/// A delivery stream of Kinesis Data Firehose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseDetails {
    /// The name of the delivery stream.
    #[schemars(length(max = 64))]
    pub delivery_stream: String,
}
