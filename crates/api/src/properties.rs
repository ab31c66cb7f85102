//! Every property of the CloudFormation type, and in which of the four classes it is.
//!
//! The sentences of refused properties stand here once: admission (CEL), the operator and the documentation show the same words.

/// What becomes of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It does what ElastiCache documents.
    InEffect,
    /// What it can ask for is so anyway.
    MetByItself,
    /// It is kept without an effect, and shown in the condition NotInEffect, with this sentence.
    Recorded(&'static str),
    /// Where it asks for something, it is refused, with this sentence.
    Refused(&'static str),
    /// It is no input: CloudFormation returns it, and the status has it.
    Returned,
}

/// A property of `AWS::ElastiCache::ReplicationGroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// The name in CloudFormation.
    pub name: &'static str,
    /// The name of the field in the spec, or in the status where CloudFormation returns it.
    pub field: &'static str,
    /// The class.
    pub class: Class,
    /// The values that ask for nothing more than what is so anyway, of a property that is otherwise refused or in effect.
    pub met_by_itself: &'static str,
    /// Whether CloudFormation replaces the group when it changes; here the change is refused, because data would be lost.
    pub create_only: bool,
}

use Class::{InEffect, Recorded, Refused, Returned};

const fn property(name: &'static str, field: &'static str, class: Class) -> Property {
    Property { name, field, class, met_by_itself: "", create_only: false }
}

impl Property {
    const fn unless(mut self, values: &'static str) -> Self {
        self.met_by_itself = values;
        self
    }

    const fn create_only(mut self) -> Self {
        self.create_only = true;
        self
    }
}

/// Every property of `AWS::ElastiCache::ReplicationGroup`, in the order of its schema.
pub const REPLICATION_GROUP: &[Property] = &[
    property("AtRestEncryptionEnabled", "atRestEncryptionEnabled", Refused("atRestEncryptionEnabled: true is refused, because this version of Kagami does not encrypt volumes itself and does not pretend to. Set it to false or leave it out; to encrypt at rest, name an encrypting class in kubernetes.storage.storageClassName.")).unless("false").create_only(),
    property("AuthToken", "authToken", Refused("authToken is refused: a password must not stand in a spec, and this version of Kagami has no encryption in transit, without which ElastiCache allows no token either. Leave it out and restrict access with securityGroupIds.")),
    property("AutoMinorVersionUpgrade", "autoMinorVersionUpgrade", Recorded("autoMinorVersionUpgrade is recorded: the engine is changed only when the spec or the operator's table of images asks for it")),
    property("AutomaticFailoverEnabled", "automaticFailoverEnabled", InEffect),
    property("CacheNodeType", "cacheNodeType", InEffect),
    property("CacheParameterGroupName", "cacheParameterGroupName", InEffect),
    property("CacheSecurityGroupNames", "cacheSecurityGroupNames", Refused("cacheSecurityGroupNames is refused: cache security groups belong to EC2-Classic. Leave it out and use securityGroupIds.")).unless("[]"),
    property("CacheSubnetGroupName", "cacheSubnetGroupName", InEffect).create_only(),
    property("ClusterMode", "clusterMode", InEffect),
    property("ConfigurationEndPoint", "configurationEndPoint", Returned),
    property("DataTieringEnabled", "dataTieringEnabled", Refused("dataTieringEnabled: true is refused: no open engine tiers data to disk. Set it to false or leave it out, and choose a node type with enough memory.")).unless("false").create_only(),
    property("Durability", "durability", Refused("durability async and sync are refused: this version of Kagami keeps no log of acknowledged writes. Set it to default or disabled, or leave it out.")).unless("default, disabled"),
    property("EffectiveDurability", "effectiveDurability", Returned),
    property("Engine", "engine", InEffect),
    property("EngineVersion", "engineVersion", InEffect),
    property("GlobalReplicationGroupId", "globalReplicationGroupId", Refused("globalReplicationGroupId is refused: this version of Kagami has no global datastores. Leave it out.")).create_only(),
    property("IpDiscovery", "ipDiscovery", Refused("ipDiscovery: ipv6 is refused: this version of Kagami speaks IPv4 only. Set it to ipv4 or leave it out.")).unless("ipv4"),
    property("KmsKeyId", "kmsKeyId", Refused("kmsKeyId is refused, because this version of Kagami does not encrypt volumes itself. Leave it out; to encrypt at rest, name an encrypting class in kubernetes.storage.storageClassName.")).create_only(),
    property("LogDeliveryConfigurations", "logDeliveryConfigurations", Refused("logDeliveryConfigurations is refused: this version of Kagami delivers no logs. Leave it out; the engine's log is the log of its container.")).unless("[]"),
    property("MultiAZEnabled", "multiAZEnabled", InEffect),
    property("NetworkType", "networkType", Refused("networkType ipv6 and dual_stack are refused: this version of Kagami speaks IPv4 only. Set it to ipv4 or leave it out.")).unless("ipv4").create_only(),
    property("NodeGroupConfiguration", "nodeGroupConfiguration", InEffect),
    property("NotificationTopicArn", "notificationTopicArn", Recorded("notificationTopicArn is recorded: notifications are Kubernetes events of the group, and nothing is sent to SNS")),
    property("NumCacheClusters", "numCacheClusters", InEffect),
    property("NumNodeGroups", "numNodeGroups", InEffect),
    property("Port", "port", InEffect).create_only(),
    property("PreferredCacheClusterAZs", "preferredCacheClusterAZs", InEffect).create_only(),
    property("PreferredMaintenanceWindow", "preferredMaintenanceWindow", Recorded("preferredMaintenanceWindow is recorded: this version does no disruptive work that the spec does not ask for")),
    property("PrimaryClusterId", "primaryClusterId", Refused("primaryClusterId is refused: this version of Kagami chooses the primary itself. Leave it out.")),
    property("PrimaryEndPoint", "primaryEndPoint", Returned),
    property("ReadEndPoint", "readEndPoint", Returned),
    property("ReaderEndPoint", "readerEndPoint", Returned),
    property("ReplicasPerNodeGroup", "replicasPerNodeGroup", InEffect),
    property("ReplicationGroupDescription", "replicationGroupDescription", InEffect),
    property("ReplicationGroupId", "replicationGroupId", InEffect).create_only(),
    property("SecurityGroupIds", "securityGroupIds", InEffect),
    property("SnapshotArns", "snapshotArns", Refused("snapshotArns is refused: this version of Kagami restores no snapshots. Leave it out and load the data into the new group.")).unless("[]").create_only(),
    property("SnapshotName", "snapshotName", Refused("snapshotName is refused: this version of Kagami restores no snapshots. Leave it out and load the data into the new group.")).create_only(),
    property("SnapshotRetentionLimit", "snapshotRetentionLimit", Refused("snapshotRetentionLimit above 0 is refused: this version of Kagami takes no snapshots. Set it to 0 or leave it out.")).unless("0"),
    property("SnapshotWindow", "snapshotWindow", Recorded("snapshotWindow is recorded: this version takes no snapshots")),
    property("SnapshottingClusterId", "snapshottingClusterId", Refused("snapshottingClusterId is refused: this version of Kagami takes no snapshots. Leave it out.")),
    property("Tags", "tags", InEffect),
    property("TransitEncryptionEnabled", "transitEncryptionEnabled", Refused("transitEncryptionEnabled: true is refused: this version of Kagami does not encrypt what goes over the network, and does not pretend to. Set it to false or leave it out, and restrict access with securityGroupIds.")).unless("false"),
    property("TransitEncryptionMode", "transitEncryptionMode", Refused("transitEncryptionMode is refused: this version of Kagami does not encrypt what goes over the network. Leave it out.")),
    property("UserGroupIds", "userGroupIds", Refused("userGroupIds is refused: this version of Kagami has no users and user groups. Leave it out and restrict access with securityGroupIds.")).unless("[]"),
];

/// Why `clusterMode: compatible` is refused.
pub const COMPATIBLE_REFUSED: &str = "clusterMode: compatible is refused: this version of Kagami cannot change the mode of a running group. Choose enabled or disabled.";
/// Why `deletionPolicy: Snapshot` is refused.
pub const DELETION_SNAPSHOT_REFUSED: &str = "deletionPolicy: Snapshot is refused: this version of Kagami takes no snapshots, and would delete what you meant to keep. Choose Retain or Delete.";
/// Why a group with replicas and cluster mode disabled cannot do without failover.
pub const FAILOVER_OFF_REFUSED: &str = "automaticFailoverEnabled: false is refused for a group of several nodes with cluster mode disabled: this version of Kagami always promotes a replica when the primary fails. Set it to true; doing without comes later.";

/// The property of that name in CloudFormation.
pub fn find(name: &str) -> Option<&'static Property> {
    REPLICATION_GROUP.iter().find(|property| property.name == name)
}

/// The sentence of a property of the classes Recorded and Refused, by the name of its field; otherwise empty.
pub fn sentence(field: &str) -> &'static str {
    let found = REPLICATION_GROUP.iter().find(|property| property.field == field);
    match found.map(|property| property.class) {
        Some(Recorded(sentence) | Refused(sentence)) => sentence,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::CustomResourceExt;

    use super::*;
    use crate::v1alpha1::ReplicationGroup;

    /// The names of the published schema of `AWS::ElastiCache::ReplicationGroup`.
    const SCHEMA: &[&str] = &[
        "AtRestEncryptionEnabled",
        "AuthToken",
        "AutoMinorVersionUpgrade",
        "AutomaticFailoverEnabled",
        "CacheNodeType",
        "CacheParameterGroupName",
        "CacheSecurityGroupNames",
        "CacheSubnetGroupName",
        "ClusterMode",
        "ConfigurationEndPoint",
        "DataTieringEnabled",
        "Durability",
        "EffectiveDurability",
        "Engine",
        "EngineVersion",
        "GlobalReplicationGroupId",
        "IpDiscovery",
        "KmsKeyId",
        "LogDeliveryConfigurations",
        "MultiAZEnabled",
        "NetworkType",
        "NodeGroupConfiguration",
        "NotificationTopicArn",
        "NumCacheClusters",
        "NumNodeGroups",
        "Port",
        "PreferredCacheClusterAZs",
        "PreferredMaintenanceWindow",
        "PrimaryClusterId",
        "PrimaryEndPoint",
        "ReadEndPoint",
        "ReaderEndPoint",
        "ReplicasPerNodeGroup",
        "ReplicationGroupDescription",
        "ReplicationGroupId",
        "SecurityGroupIds",
        "SnapshotArns",
        "SnapshotName",
        "SnapshotRetentionLimit",
        "SnapshotWindow",
        "SnapshottingClusterId",
        "Tags",
        "TransitEncryptionEnabled",
        "TransitEncryptionMode",
        "UserGroupIds",
    ];

    fn fields_of(part: &str) -> BTreeSet<String> {
        let crd = serde_json::to_value(ReplicationGroup::crd()).unwrap();
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}/properties");
        crd.pointer(&path).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_property_of_the_published_schema_has_a_class() {
        let names: Vec<&str> = REPLICATION_GROUP.iter().map(|property| property.name).collect();
        assert_eq!(names, SCHEMA);
    }

    #[test]
    fn every_property_is_a_field_of_the_spec_or_of_the_status() {
        let (spec, status) = (fields_of("spec"), fields_of("status"));
        for property in REPLICATION_GROUP {
            let fields = if property.class == Returned { &status } else { &spec };
            assert!(fields.contains(property.field), "{}", property.name);
        }
    }

    #[test]
    fn every_field_of_the_spec_is_a_property_or_one_of_the_three_that_are_ours() {
        let ours = ["deletionPolicy", "kubernetes", "updatePolicy"];
        for field in fields_of("spec") {
            let known = REPLICATION_GROUP.iter().any(|property| property.field == field);
            assert!(known || ours.contains(&field.as_str()), "{field}");
        }
    }

    #[test]
    fn every_refusal_names_its_field_and_says_what_to_do() {
        for property in REPLICATION_GROUP {
            if let Refused(sentence) = property.class {
                assert!(sentence.starts_with(property.field), "{}", property.name);
                assert!(
                    ["Leave it out", "leave it out"].iter().any(|advice| sentence.contains(advice)),
                    "{}",
                    property.name
                );
                assert!(sentence.ends_with('.'), "{}", property.name);
            }
        }
    }

    #[test]
    fn what_promises_security_is_never_recorded() {
        for name in [
            "AtRestEncryptionEnabled",
            "AuthToken",
            "KmsKeyId",
            "TransitEncryptionEnabled",
            "TransitEncryptionMode",
            "UserGroupIds",
        ] {
            let class = find(name).unwrap().class;
            assert!(matches!(class, InEffect | Refused(_)), "{name}");
        }
    }
}
