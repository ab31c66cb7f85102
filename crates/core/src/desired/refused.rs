//! What this version refuses, wherever it asks for an effect.

use kagami_api::properties::{self, Class};
use kagami_api::v1alpha1::{
    ClusterMode, DeletionPolicy, Durability, IpDiscovery, NetworkType, ReplicationGroupSpec,
};

use super::Refusals;

/// Refuses every property of the class Refused that asks for something, with the sentence of the table of properties.
pub(super) fn check(spec: &ReplicationGroupSpec, refusals: &mut Refusals) {
    for property in properties::REPLICATION_GROUP {
        if let Class::Refused(sentence) = property.class
            && asks(spec, property.name)
        {
            refusals.combination(property.field, sentence);
        }
    }
    if spec.auth_token.is_some() {
        refusals.combination("authToken", properties::AUTH_TOKEN_REFUSED);
    }
    if spec.cluster_mode == Some(ClusterMode::Compatible) {
        refusals.combination("clusterMode", properties::COMPATIBLE_REFUSED);
    }
    if spec.deletion_policy == Some(DeletionPolicy::Snapshot) {
        refusals.combination("deletionPolicy", properties::DELETION_SNAPSHOT_REFUSED);
    }
}

/// Whether the spec asks a refused property for something that is not so anyway.
fn asks(spec: &ReplicationGroupSpec, property: &str) -> bool {
    let several = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    match property {
        "AtRestEncryptionEnabled" => spec.at_rest_encryption_enabled == Some(true),
        "AuthToken" => spec.auth_token_secret_ref.is_some(),
        "CacheSecurityGroupNames" => several(&spec.cache_security_group_names),
        "DataTieringEnabled" => spec.data_tiering_enabled == Some(true),
        "Durability" => matches!(spec.durability, Some(Durability::Async | Durability::Sync)),
        "GlobalReplicationGroupId" => spec.global_replication_group_id.is_some(),
        "IpDiscovery" => spec.ip_discovery.is_some_and(|family| family != IpDiscovery::Ipv4),
        "KmsKeyId" => spec.kms_key_id.is_some(),
        "LogDeliveryConfigurations" => {
            spec.log_delivery_configurations.as_ref().is_some_and(|list| !list.is_empty())
        }
        "NetworkType" => spec.network_type.is_some_and(|family| family != NetworkType::Ipv4),
        "SnapshotArns" => several(&spec.snapshot_arns),
        "SnapshotName" => spec.snapshot_name.is_some(),
        "SnapshotRetentionLimit" => spec.snapshot_retention_limit.is_some_and(|days| days != 0),
        "SnapshottingClusterId" => spec.snapshotting_cluster_id.is_some(),
        "TransitEncryptionEnabled" => spec.transit_encryption_enabled == Some(true),
        "TransitEncryptionMode" => spec.transit_encryption_mode.is_some(),
        "UserGroupIds" => several(&spec.user_group_ids),
        // A property that was moved to the class Refused and forgotten here would be ignored, so it counts as asking.
        _ => true,
    }
}
