//! What CloudFormation has no word for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;
use crate::v1alpha1::words::words;

/// What CloudFormation has no word for: how the nodes of the group run on Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesOptions {
    /// The engine's image, in place of the one that the operator's table has for the engine version. It must hold that very
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// When the image is pulled. Default: the operator's setting, else what Kubernetes does for the image's tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets in this namespace that hold the registry's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Option<Vec<SecretName>>,

    /// A volume for every node. Without it nodes are volatile, as ElastiCache's are: what no live node holds is lost.
    /// Cannot be added, removed or changed on a running group in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "StorageOptions")]
    pub storage: Option<StorageOptions>,

    /// CPU and memory of every node, in place of what the node type gives. maxmemory follows the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ComputeResources")]
    pub resources: Option<ComputeResources>,

    /// Labels that a machine must have to run a node of the group, beside those of the subnet group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints that the nodes tolerate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub tolerations: Option<Vec<Toleration>>,

    /// Labels of the pods. Those of Kagami and app.kubernetes.io cannot be set here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_labels: Option<BTreeMap<String, String>>,

    /// Annotations of the pods. Those of Kagami cannot be set here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_annotations: Option<BTreeMap<String, String>>,

    /// The priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// A shard whose only copy is in memory (no replica, no storage) would lose its data when its pod is evicted, so the
    /// eviction is not allowed and a drain of its machine waits. true allows it. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_eviction_of_only_copy: Option<bool>,
}

words! {
    /// When an image is pulled.
    ImagePullPolicy {
        /// Each time.
        Always = "Always",
        /// When the machine does not have it.
        IfNotPresent = "IfNotPresent",
        /// Never.
        Never = "Never",
    }
}

/// The name of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// The name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A volume for every node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageOptions {
    /// The size of the volume, such as 8Gi. It holds the data set up to three times over while it is rewritten.
    pub size: Quantity,
    /// The storage class. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// CPU and memory of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeResources {
    /// What the scheduler sets aside. Memory is always requested as high as its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResourceAmounts")]
    pub requests: Option<ResourceAmounts>,
    /// What a node may use at most. Without a CPU limit it may use what the machine has to spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResourceAmounts")]
    pub limits: Option<ResourceAmounts>,
}

/// An amount of CPU and of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// CPU, such as 500m or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    pub cpu: Option<Quantity>,
    /// Memory, such as 512Mi or 4Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    pub memory: Option<Quantity>,
}
