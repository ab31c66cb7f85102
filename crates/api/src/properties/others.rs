//! The properties of what a replication group refers to, and the attributes that every resource has.

use super::Class::{InEffect, MetByItself, Recorded, Refused, Returned};
use super::Update::{AtOnce, Never, NextStart};
use super::{Property, property};

const TAGS: &str = "tags are recorded: nothing is made for this object that could bear them";
const USERS: &str = "users and user groups are refused: this version of Kagami has none. Leave the resource out and restrict access with securityGroupIds.";

/// The properties of `AWS::ElastiCache::ParameterGroup`.
pub const PARAMETER_GROUP: &[Property] = &[
    property("CacheParameterGroupFamily", "cacheParameterGroupFamily", InEffect)
        .does(
            "Which parameters there are, and their defaults: redis6.x, redis7, valkey7, valkey8 or valkey9.",
        )
        .update(Never)
        .create_only(),
    property("CacheParameterGroupName", "cacheParameterGroupName", InEffect)
        .does("metadata.name, which it must be when lower-cased.")
        .update(Never),
    property("Description", "description", InEffect)
        .does("What the group is for, in your words.")
        .update(AtOnce),
    property("Properties", "properties", InEffect)
        .does("The parameters that differ from the family's defaults: see [parameters](parameters.md).")
        .update(NextStart),
    property("Tags", "tags", Recorded(TAGS)),
];

/// The properties of `AWS::ElastiCache::SubnetGroup`.
pub const SUBNET_GROUP: &[Property] = &[
    property("CacheSubnetGroupName", "cacheSubnetGroupName", InEffect)
        .does("metadata.name, which it must be when lower-cased.")
        .update(Never)
        .create_only(),
    property("Description", "description", InEffect)
        .does("What the group is for, in your words.")
        .update(AtOnce),
    property(
        "SubnetIds",
        "subnetIds",
        Recorded(
            "subnetIds are recorded: the zones that the subnets are in stand in zones, with the labels of machines in nodeSelector",
        ),
    ),
    property("Tags", "tags", Recorded(TAGS)),
];

/// The properties of `AWS::EC2::SecurityGroup`.
pub const SECURITY_GROUP: &[Property] = &[
    property("GroupDescription", "groupDescription", InEffect).does("What the group is for, in your words.").update(AtOnce),
    property("GroupId", "metadata.name", Returned).does("metadata.name, which is what securityGroupIds names."),
    property("GroupName", "metadata.name", InEffect).does("metadata.name is the name of the group.").update(Never).create_only(),
    property("Id", "metadata.name", Returned).does("metadata.name."),
    property("SecurityGroupEgress", "–", MetByItself).does("An engine connects to the nodes of its own group only, and no client can make it connect elsewhere, because the commands that would are denied."),
    property("SecurityGroupIngress", "ingress", InEffect).does("Who may reach the port: a CIDR becomes an ipBlock, a security group the pods that bear its label.").update(AtOnce),
    property("Tags", "tags", Recorded(TAGS)),
    property("VpcId", "–", MetByItself).does("The cluster's network is the only one.").create_only(),
];

/// The properties of `AWS::ElastiCache::User`.
pub const USER: &[Property] = &[
    property("AccessString", "–", Refused(USERS)),
    property("Arn", "–", Refused(USERS)),
    property("AuthenticationMode", "–", Refused(USERS)),
    property("Engine", "–", Refused(USERS)),
    property("NoPasswordRequired", "–", Refused(USERS)),
    property("Passwords", "–", Refused(USERS)),
    property("Status", "–", Refused(USERS)),
    property("Tags", "–", Refused(USERS)),
    property("UserId", "–", Refused(USERS)).create_only(),
    property("UserName", "–", Refused(USERS)).create_only(),
];

/// The properties of `AWS::ElastiCache::UserGroup`.
pub const USER_GROUP: &[Property] = &[
    property("Arn", "–", Refused(USERS)),
    property("Engine", "–", Refused(USERS)),
    property("Status", "–", Refused(USERS)),
    property("Tags", "–", Refused(USERS)),
    property("UserGroupId", "–", Refused(USERS)).create_only(),
    property("UserIds", "–", Refused(USERS)),
];

/// The attributes of a resource that mean something for a replication group.
pub const ATTRIBUTES: &[Property] = &[
    property("DeletionPolicy", "deletionPolicy", InEffect).does("Delete removes the nodes and their volumes, Retain leaves them running without an operator. Snapshot is refused.").update(AtOnce),
    property("DependsOn", "–", MetByItself).does("Objects may be applied in any order: a group waits for what it refers to, and goes on by itself."),
    property("UpdatePolicy", "updatePolicy", InEffect).does("useOnlineResharding: false refuses a change of the number of node groups at once; otherwise such a change waits in this version.").update(AtOnce),
    property("UpdateReplacePolicy", "–", MetByItself).does("A group is never replaced."),
];
