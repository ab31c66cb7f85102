//! The parameter group.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::replication_group::Tag;
use crate::v1alpha1::status::ParameterGroupStatus;

/// The properties of `AWS::ElastiCache::ParameterGroup`: the parameters of an engine family that differ from its defaults.
/// The default.* groups of every family are built in.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "elasticache.kagami.dev",
    version = "v1alpha1",
    kind = "ParameterGroup",
    plural = "parametergroups",
    singular = "parametergroup",
    shortname = "cpg",
    category = "kagami",
    namespaced,
    status = "ParameterGroupStatus",
    derive = "PartialEq",
    doc = "Engine parameters that differ from their family's defaults: the mirror of AWS::ElastiCache::ParameterGroup.",
    printcolumn = r#"{"name": "Family", "type": "string", "jsonPath": ".spec.cacheParameterGroupFamily"}"#,
    printcolumn = r#"{"name": "Valid", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Valid\")].status", "description": "Whether groups may use it."}"#,
    printcolumn = r#"{"name": "Description", "type": "string", "jsonPath": ".spec.description"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ParameterGroupSpec {
    /// The family: redis6.x, redis7, valkey7, valkey8 or valkey9. Cannot be changed later.
    #[schemars(length(min = 1, max = 64))]
    pub cache_parameter_group_family: String,

    /// What the group is for, in your words.
    #[schemars(length(min = 1, max = 255))]
    pub description: String,

    /// The name of the group. Here metadata.name is the name, and this, where it is given, must be the same when lower-cased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub cache_parameter_group_name: Option<String>,

    /// The parameters that differ from the family's defaults, by ElastiCache's names, such as maxmemory-policy: allkeys-lru. Every
    /// value is a text: timeout: "60". docs/parameters.md lists them all; the status shows the values in effect. A parameter that
    /// the family does not have, that cannot be modified, or a value that is not allowed makes the group invalid: the condition
    /// Valid says why, and no replication group takes it over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    pub properties: BTreeMap<String, String>,

    /// Tags. Recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 50),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"])
    )]
    pub tags: Option<Vec<Tag>>,
}
