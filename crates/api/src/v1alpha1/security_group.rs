//! The security group.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::replication_group::Tag;
use crate::v1alpha1::status::ReferredStatus;

/// The ingress of an `AWS::EC2::SecurityGroup`: who may reach the nodes of the groups that name it in securityGroupIds.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "elasticache.kagami.dev",
    version = "v1alpha1",
    kind = "SecurityGroup",
    plural = "securitygroups",
    singular = "securitygroup",
    shortname = "ecsg",
    category = "kagami",
    namespaced,
    status = "ReferredStatus",
    derive = "PartialEq",
    doc = "Who may reach cache nodes: the ingress of an AWS::EC2::SecurityGroup, as peers of a NetworkPolicy.",
    printcolumn = r#"{"name": "Description", "type": "string", "jsonPath": ".spec.groupDescription"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupSpec {
    /// What the group is for, in your words.
    #[schemars(length(min = 1, max = 255))]
    pub group_description: String,

    /// Who may connect. An empty list lets nobody in but the group's own nodes and the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 60))]
    pub ingress: Vec<Ingress>,

    /// Tags. Recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 50),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"])
    )]
    pub tags: Option<Vec<Tag>>,
}

/// One rule: who, and on which ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// What the rule is for, in your words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub description: Option<String>,

    /// Who: pods by their labels and those of their namespace, or addresses. As in a NetworkPolicy.
    pub from: NetworkPolicyPeer,

    /// The first port that is opened. The rule counts for a group only where its port is opened. Default: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub from_port: Option<i32>,

    /// The last port that is opened. Default: fromPort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub to_port: Option<i32>,
}
