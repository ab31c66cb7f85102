//! Version `v1alpha1` of the group `elasticache.kagami.dev`.

mod kubernetes;
mod parameter_group;
mod replication_group;
mod security_group;
mod status;
mod subnet_group;
mod words;

pub use kubernetes::{
    ComputeResources, ImagePullPolicy, KubernetesOptions, ResourceAmounts, SecretName, StorageOptions,
};
pub use parameter_group::{ParameterGroup, ParameterGroupSpec};
pub use replication_group::{
    CloudWatchLogsDetails, DestinationDetails, KinesisFirehoseDetails, LogDeliveryConfiguration,
    NodeGroupConfiguration, ReplicationGroup, ReplicationGroupSpec, SecretKeyReference, Tag, UpdatePolicy,
};
pub use security_group::{Ingress, SecurityGroup, SecurityGroupSpec};
pub use status::{
    Endpoint, GroupStatus, MemberStatus, NodeGroup, NodeGroupMember, NodeGroupStatus, ParameterGroupStatus,
    PendingModifiedValues, ReadEndpoint, ReferredStatus, ReplicationGroupStatus, Resolved, Role, Switch,
};
pub use subnet_group::{SubnetGroup, SubnetGroupSpec};
pub use words::{
    ClusterMode, DeletionPolicy, DestinationType, Durability, Engine, IpDiscovery, LogFormat, LogType,
    NetworkType, TransitEncryptionMode,
};
