//! The properties of the replication group.

use super::Class::{InEffect, Recorded, Refused, Returned};
use super::Update::{AtOnce, Never, NextStart, Waits};
use super::{Property, property};

/// Every property of `AWS::ElastiCache::ReplicationGroup`, in the order of its schema.
pub const REPLICATION_GROUP: &[Property] = &[
    property("AtRestEncryptionEnabled", "atRestEncryptionEnabled", Refused("atRestEncryptionEnabled: true is refused, because this version of Kagami does not encrypt volumes itself and does not pretend to. Set it to false or leave it out; to encrypt at rest, name an encrypting class in kubernetes.storage.storageClassName.")).unless("false").left_out("Left out it is false; ElastiCache encrypts valkey where nothing is said, so that the converter warns there.").create_only(),
    property("AuthToken", "authTokenSecretRef", Refused("authTokenSecretRef is refused: this version of Kagami has no encryption in transit, without which ElastiCache allows no token either. Leave it out and restrict access with securityGroupIds.")).sometimes_replaces(),
    property("AutoMinorVersionUpgrade", "autoMinorVersionUpgrade", Recorded("autoMinorVersionUpgrade is recorded: the engine is changed only when the spec or the operator's table of images asks for it")),
    property("AutomaticFailoverEnabled", "automaticFailoverEnabled", InEffect).does("A replica is promoted when the primary fails; with false it hands the role back once that node is in sync again.").update(AtOnce),
    property("CacheNodeType", "cacheNodeType", InEffect).does("Memory (request and limit), maxmemory and CPU request of every node.").update(Waits),
    property("CacheParameterGroupName", "cacheParameterGroupName", InEffect).does("The parameters of the engine, and the cluster mode where clusterMode is not given.").update(NextStart),
    property("CacheSecurityGroupNames", "cacheSecurityGroupNames", Refused("cacheSecurityGroupNames is refused: cache security groups belong to EC2-Classic. Leave it out and use securityGroupIds.")).unless("[]"),
    property("CacheSubnetGroupName", "cacheSubnetGroupName", InEffect).create_only().does("The zones, and the labels of machines, that nodes may run in.").update(Never),
    property("ClusterMode", "clusterMode", InEffect).does("enabled: the cluster protocol; disabled: one primary with replicas. compatible is refused, and so is any other mode than that of the group that runs.").update(Never),
    property("ConfigurationEndPoint", "configurationEndPoint", Returned).does("The name of all nodes, with cluster mode enabled."),
    property("DataTieringEnabled", "dataTieringEnabled", Refused("dataTieringEnabled: true is refused: no open engine tiers data to disk. Set it to false or leave it out, and choose a node type with enough memory.")).unless("false").create_only(),
    property("Durability", "durability", Refused("durability async and sync are refused: this version of Kagami keeps no log of acknowledged writes. Set it to default or disabled, or leave it out.")).unless("default, disabled"),
    property("EffectiveDurability", "effectiveDurability", Returned).does("disabled."),
    property("Engine", "engine", InEffect).does("The engine that runs, and the image with it.").update(Waits),
    property("EngineVersion", "engineVersion", InEffect).does("The version that runs: the image that the operator's table has for it. Never decreases.").update(Waits),
    property("GlobalReplicationGroupId", "globalReplicationGroupId", Refused("globalReplicationGroupId is refused: this version of Kagami has no global datastores. Leave it out.")).create_only(),
    property("IpDiscovery", "ipDiscovery", Refused("ipDiscovery: ipv6 is refused: this version of Kagami speaks IPv4 only. Set it to ipv4 or leave it out.")).unless("ipv4"),
    property("KmsKeyId", "kmsKeyId", Refused("kmsKeyId is refused, because this version of Kagami does not encrypt volumes itself. Leave it out; to encrypt at rest, name an encrypting class in kubernetes.storage.storageClassName.")).create_only(),
    property("LogDeliveryConfigurations", "logDeliveryConfigurations", Refused("logDeliveryConfigurations is refused: this version of Kagami delivers no logs. Leave it out; the engine's log is the log of its container.")).unless("[]"),
    property("MultiAZEnabled", "multiAZEnabled", InEffect).does("The copies of a shard are never all in one zone.").update(AtOnce),
    property("NetworkType", "networkType", Refused("networkType ipv6 and dual_stack are refused: this version of Kagami speaks IPv4 only. Set it to ipv4 or leave it out.")).unless("ipv4").create_only(),
    property("NodeGroupConfiguration", "nodeGroupConfiguration", InEffect).does("Ids, zones, replicas and first slots of the node groups, 90 at most: a group of more has numNodeGroups alone.").update(Waits).sometimes_replaces(),
    property("NotificationTopicArn", "notificationTopicArn", Recorded("notificationTopicArn is recorded: notifications are Kubernetes events of the group, and nothing is sent to SNS")),
    property("NumCacheClusters", "numCacheClusters", InEffect).does("The number of nodes with cluster mode disabled. More are added at once; fewer wait.").update(AtOnce),
    property("NumNodeGroups", "numNodeGroups", InEffect).does("The number of node groups (shards).").update(Waits).sometimes_replaces(),
    property("Port", "port", InEffect).create_only().does("The port that every node accepts connections on, 1150 to 65535: bounds of ours, as ElastiCache's console has them.").update(Never),
    property("PreferredCacheClusterAZs", "preferredCacheClusterAZs", InEffect).create_only().does("The zone of every node with cluster mode disabled. Zones may be added and taken away at the end, with the nodes.").update(Never),
    property("PreferredMaintenanceWindow", "preferredMaintenanceWindow", Recorded("preferredMaintenanceWindow is recorded: this version does no disruptive work that the spec does not ask for")),
    property("PrimaryClusterId", "primaryClusterId", InEffect).does("The node that is the primary, with cluster mode disabled and without automatic failover. Another node has the role handed over once it is in sync.").update(AtOnce),
    property("PrimaryEndPoint", "primaryEndPoint", Returned).does("The name of the primary, with cluster mode disabled."),
    property("ReadEndPoint", "readEndPoint", Returned).does("The names of all nodes, with cluster mode disabled."),
    property("ReaderEndPoint", "readerEndPoint", Returned).does("The name of the replicas, with cluster mode disabled."),
    property("ReplicasPerNodeGroup", "replicasPerNodeGroup", InEffect).does("The number of replicas in every node group. More are added at once; fewer wait.").update(AtOnce),
    property("ReplicationGroupDescription", "replicationGroupDescription", InEffect).does("What the group is for, in your words.").update(AtOnce),
    property("ReplicationGroupId", "replicationGroupId", InEffect).create_only().does("metadata.name, which it must be when lower-cased.").update(Never),
    property("SecurityGroupIds", "securityGroupIds", InEffect).does("Who may reach the port: the SecurityGroups become one NetworkPolicy.").left_out("Left out or empty there is none, and whoever reaches the pods may connect; ElastiCache takes the VPC's default group, so that the converter warns.").update(AtOnce),
    property("SnapshotArns", "snapshotArns", Refused("snapshotArns is refused: this version of Kagami restores no snapshots. Leave it out and load the data into the new group.")).unless("[]").create_only(),
    property("SnapshotName", "snapshotName", Refused("snapshotName is refused: this version of Kagami restores no snapshots. Leave it out and load the data into the new group.")).create_only(),
    property("SnapshotRetentionLimit", "snapshotRetentionLimit", Refused("snapshotRetentionLimit above 0 is refused: this version of Kagami takes no snapshots. Set it to 0 or leave it out.")).unless("0"),
    property("SnapshotWindow", "snapshotWindow", Recorded("snapshotWindow is recorded: this version takes no snapshots")),
    property("SnapshottingClusterId", "snapshottingClusterId", Refused("snapshottingClusterId is refused: this version of Kagami takes no snapshots. Leave it out.")),
    property("Tags", "tags", InEffect).does("Annotations of everything that is made for the group, and labels where a tag is legal as one.").update(AtOnce),
    property("TransitEncryptionEnabled", "transitEncryptionEnabled", Refused("transitEncryptionEnabled: true is refused: this version of Kagami does not encrypt what goes over the network, and does not pretend to. Set it to false or leave it out, and restrict access with securityGroupIds.")).unless("false"),
    property("TransitEncryptionMode", "transitEncryptionMode", Refused("transitEncryptionMode is refused: this version of Kagami does not encrypt what goes over the network. Leave it out.")),
    property("UserGroupIds", "userGroupIds", Refused("userGroupIds is refused: this version of Kagami has no users and user groups. Leave it out and restrict access with securityGroupIds.")).unless("[]"),
];

/// The members of `NodeGroupConfiguration`.
pub const NODE_GROUP_CONFIGURATION: &[Property] = &[
    property("NodeGroupId", "nodeGroupId", InEffect)
        .does("The id of the node group, hence of its objects: my-group-0001.")
        .update(Waits),
    property("PrimaryAvailabilityZone", "primaryAvailabilityZone", InEffect)
        .does("The zone of the first node, which is the primary at the start.")
        .update(Waits),
    property("ReplicaAvailabilityZones", "replicaAvailabilityZones", InEffect)
        .does("The zones of the replicas.")
        .update(Waits),
    property("ReplicaCount", "replicaCount", InEffect)
        .does("The number of replicas of this node group. More are added at once; fewer wait.")
        .update(AtOnce),
    property("Slots", "slots", InEffect)
        .does("The slots of the node group when it is made; where slots are later is in the status.")
        .update(Waits),
];

const LOGS: &str = "logDeliveryConfigurations is refused: this version of Kagami delivers no logs. Leave it out; the engine's log is the log of its container.";

/// The members of `LogDeliveryConfigurations`.
pub const LOG_DELIVERY_CONFIGURATION: &[Property] = &[
    property("DestinationDetails", "destinationDetails", Refused(LOGS)),
    property("DestinationType", "destinationType", Refused(LOGS)),
    property("LogFormat", "logFormat", Refused(LOGS)),
    property("LogType", "logType", Refused(LOGS)),
];

/// The members of `Tags`.
pub const TAG: &[Property] = &[
    property("Key", "key", InEffect)
        .does("The key: 1 to 128 characters, once each, not beginning with aws:.")
        .update(AtOnce),
    property("Value", "value", InEffect)
        .does("The value, up to 256 characters. Default: empty.")
        .update(AtOnce),
];
