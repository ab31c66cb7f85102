//! The properties of what a replication group refers to, and the attributes that every resource has.

use super::Class::{InEffect, MetByItself, Recorded, Refused, Returned};
use super::Update::{AtOnce, Never, NextStart};
use super::{Property, property};

const TAGS: &str = "tags are recorded: nothing is made for this object that could bear them";
/// Why a creation policy means nothing here.
pub const CREATION_POLICY: &str = "CreationPolicy is without effect: nobody signals that a group is made, and its status says when it is available";
const USERS: &str = "users and user groups are refused: this version of Kagami has none. Leave the resource out and restrict access with securityGroupIds.";

/// The properties of `AWS::ElastiCache::ParameterGroup`.
pub const PARAMETER_GROUP: &[Property] = &[
    property("CacheParameterGroupFamily", "cacheParameterGroupFamily", InEffect)
        .does(
            "Which parameters there are, and their defaults: redis6.x, redis7, valkey7, valkey8 or valkey9.",
        )
        .update(Never)
        .create_only(),
    property("CacheParameterGroupName", "metadata.name", Returned)
        .does("metadata.name. In a spec cacheParameterGroupName may repeat it, and must be the same then."),
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

/// Why the account of a source means nothing here.
pub const SOURCE_OWNER: &str = "sourceSecurityGroupOwnerId is without effect: a cluster has no accounts, and the source is the pods of the same namespace that bear the group's label";

/// The properties of a rule of ingress, in a security group or as `AWS::EC2::SecurityGroupIngress`.
pub const SECURITY_GROUP_INGRESS: &[Property] = &[
    property("CidrIp", "ingress[].from.ipBlock", InEffect).does("The range of addresses that may connect, without the bits beyond its prefix.").update(AtOnce),
    property("CidrIpv6", "ingress[].from.ipBlock", InEffect).does("The same, of IPv6.").update(AtOnce),
    property("Description", "ingress[].description", InEffect).does("What the rule is for, in your words: its first 255 characters.").update(AtOnce),
    property("FromPort", "ingress[].fromPort", InEffect).does("The first port that the rule opens; -1 opens all. A rule that does not open the group's port lets nobody in, and the converter says so.").update(AtOnce),
    property("GroupId", "–", InEffect).does("The security group that the rule belongs to, of `AWS::EC2::SecurityGroupIngress` alone: the rule becomes one of that group's.").update(AtOnce).create_only(),
    property("GroupName", "–", InEffect).does("The same, by its name.").update(AtOnce).create_only(),
    property("Id", "–", Returned).does("Nothing has an id of its own: a rule is an entry of its group."),
    property("IpProtocol", "–", InEffect).does("tcp, or -1 for all: an engine speaks TCP. The converter leaves a rule for another protocol out, with a warning.").update(AtOnce),
    property("SourcePrefixListId", "–", Refused("SourcePrefixListId is refused: what a prefix list holds is known only on AWS. Write its ranges as CidrIp.")),
    property("SourceSecurityGroupId", "ingress[].from.podSelector", InEffect).does("The pods of the same namespace that bear the label of that group may connect.").update(AtOnce),
    property("SourceSecurityGroupName", "ingress[].from.podSelector", InEffect).does("The same, by its name.").update(AtOnce),
    property("SourceSecurityGroupOwnerId", "–", Recorded(SOURCE_OWNER)),
    property("ToPort", "ingress[].toPort", InEffect).does("The last port that the rule opens.").update(AtOnce),
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
    property("CreationPolicy", "–", Recorded(CREATION_POLICY)),
    property("DeletionPolicy", "deletionPolicy", InEffect).does("Delete removes the nodes and their volumes, Retain leaves them running without an operator. Snapshot is refused.").update(AtOnce),
    property("DependsOn", "–", MetByItself).does("Objects may be applied in any order: a group waits for what it refers to, and goes on by itself."),
    property("UpdatePolicy", "updatePolicy", InEffect).does("useOnlineResharding: false refuses a change of the number of node groups at once; otherwise such a change waits in this version.").update(AtOnce),
    property("UpdateReplacePolicy", "–", MetByItself).does("A group is never replaced."),
];
