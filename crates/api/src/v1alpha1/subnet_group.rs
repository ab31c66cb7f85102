//! The subnet group.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::replication_group::Tag;
use crate::v1alpha1::status::ReferredStatus;

/// The properties of `AWS::ElastiCache::SubnetGroup`. Subnets matter for the zones they are in, so here the group names zones.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "elasticache.kagami.dev",
    version = "v1alpha1",
    kind = "SubnetGroup",
    plural = "subnetgroups",
    singular = "subnetgroup",
    shortname = "csg",
    category = "kagami",
    namespaced,
    status = "ReferredStatus",
    derive = "PartialEq",
    doc = "The zones in which cache nodes may run: the mirror of AWS::ElastiCache::SubnetGroup.",
    printcolumn = r#"{"name": "Zones", "type": "string", "jsonPath": ".spec.zones"}"#,
    printcolumn = r#"{"name": "Description", "type": "string", "jsonPath": ".spec.description"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SubnetGroupSpec {
    /// What the group is for, in your words.
    #[schemars(length(min = 1, max = 255))]
    pub description: String,

    /// The name of the group. Here metadata.name is the name, and this, where it is given, must be the same when lower-cased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub cache_subnet_group_name: Option<String>,

    /// The zones (values of the label topology.kubernetes.io/zone of machines) in which nodes may run, such as [a, c]. A change
    /// holds for nodes that are made; those that run stay where they are. Default: every zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub zones: Vec<String>,

    /// Labels that a machine must have to run a node, as in a pod's nodeSelector. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// The subnets of the CloudFormation template that the zones were read from. Recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), inner(length(max = 255)))]
    pub subnet_ids: Option<Vec<String>>,

    /// Tags. Recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 50),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"])
    )]
    pub tags: Option<Vec<Tag>>,
}
