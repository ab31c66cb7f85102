//! Everything that is wrong is told at once, and the warnings with it.

mod common;

use common::{group, options, problems};
use kagami_convert::convert;

/// As a compiler does: what one mistake hides from a person, it does not hide from the rules.
#[test]
fn one_mistake_does_not_hide_the_next() {
    let all = |properties: &str| problems(&group(properties), &options("t"));
    let seven = all(
        "NumCacheClusters: 2\nAutomaticFailoverEnabled: maybe\nCacheParameterGroupName: default.valkey8\n\
         Slots: x\nUserGroupIds: [a, b]\nPort: 8379\nPreferredCacheClusterAZs: [a, a]\nMultiAZEnabled: true\n\
         Tags: [{Key: a, Value: b}, {Key: a, Value: c}]",
    );
    for part in [
        "AutomaticFailoverEnabled: \"maybe\" is neither true nor false",
        "CacheParameterGroupName: Expected a parameter group of family redis7",
        "Slots: unknown property",
        "UserGroupIds: there are 2 entries",
        "Port: port must not be 8379",
        "MultiAZEnabled: multiAZEnabled needs the nodes of node group 0001 in at least two zones",
        "Tags[1]: a stands here twice",
    ] {
        assert!(seven.iter().any(|problem| problem.contains(part)), "{part}: {seven:#?}");
    }
    assert_eq!(seven.len(), 7, "{seven:#?}");
    // What cannot be known because of a mistake is not told as another.
    for (properties, alone) in [
        ("NumCacheClusters: two\nMultiAZEnabled: true\nAutomaticFailoverEnabled: true", "NumCacheClusters"),
        ("NumCacheClusters: 2\nReplicasPerNodeGroup: one", "ReplicasPerNodeGroup"),
        ("Engine: redys\nEngineVersion: 8.0\nAutomaticFailoverEnabled: false", "Engine"),
        ("EngineVersion: 7.9\nCacheParameterGroupName: default.redis6.x", "EngineVersion"),
        ("NodeGroupConfiguration: [{ReplicaCount: 9}]\nMultiAZEnabled: true", "NodeGroupConfiguration[0]"),
        (
            "CacheParameterGroupName: [a]\nNumNodeGroups: 2\nAutomaticFailoverEnabled: true",
            "CacheParameterGroupName",
        ),
        ("CacheNodeType: [a]", "CacheNodeType"),
        ("ReplicationGroupId: a_b", "ReplicationGroupId"),
    ] {
        let told = all(properties);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains(&format!("Properties.{alone}")), "{told:#?}");
    }
}

/// Warnings are told beside problems, and the extras at their own lines.
#[test]
fn warnings_are_told_beside_problems_and_extras_where_they_stand() {
    let text = group("NumCacheClusters: 1\nSnapshotRetentionLimit: 5\nPort: x").replace(
        "    Type: AWS::ElastiCache::ReplicationGroup\n",
        "    Type: AWS::ElastiCache::ReplicationGroup\n    CreationPolicy: {}\n    Metadata:\n      elasticache.kagami.dev:\n        \
         kubernetes:\n          storage: {size: 8Gi, sise: 3}\n        prot: 3\n",
    );
    let failure = convert(&text, &options("t")).unwrap_err();
    let warned = |part: &str| failure.warnings.iter().any(|warning| warning.to_string().contains(part));
    assert!(warned("snapshotRetentionLimit above 0 is refused"), "{:#?}", failure.warnings);
    assert!(
        warned("t:7:5: Group.CreationPolicy: CreationPolicy is without effect"),
        "{:#?}",
        failure.warnings
    );
    assert!(
        warned("no security group is named, so that no NetworkPolicy is made"),
        "{:#?}",
        failure.warnings
    );
    let told: Vec<String> = failure.problems.iter().map(ToString::to_string).collect();
    for part in [
        "t:11:38: Group.Metadata.elasticache.kagami.dev.kubernetes.storage.sise: there is no such field; did you mean size?",
        "Group.Metadata.elasticache.kagami.dev.prot",
        "Group.Properties.Port: \"x\" is not a whole number",
    ] {
        assert!(told.iter().any(|problem| problem.contains(part)), "{part}: {told:#?}");
    }
}

#[test]
fn a_rule_of_ingress_is_held_to_its_table() {
    let with = |rule: &str| {
        group("NumCacheClusters: 1\nSecurityGroupIds: [!Ref Guard]")
            + "  Guard: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: d}}\n"
            + &format!(
                "  Rule: {{Type: AWS::EC2::SecurityGroupIngress, Properties: {{{rule}, IpProtocol: '-1'}}}}\n"
            )
    };
    for (rule, sentence) in [
        (
            "GroupID: !Ref Guard, CidrIp: 0.0.0.0/0",
            "Rule.Properties.GroupID: unknown property; did you mean GroupId?",
        ),
        ("CidrIp: 0.0.0.0/0", "Rule.Properties: GroupId is required"),
        (
            "GroupId: !Ref Guard, CidrIP: 0.0.0.0/0",
            "Rule.Properties.CidrIP: unknown property; did you mean CidrIp?",
        ),
    ] {
        let failure = convert(&with(rule), &options("t")).unwrap_err();
        assert!(failure.to_string().contains(sentence), "{failure}");
        assert_eq!(failure.problems.len(), 1, "{failure}");
        let open = failure.warnings.iter().any(|warning| warning.message.contains("no rule lets anybody in"));
        assert!(!open, "{:?}", failure.warnings);
    }
    let owned = with("GroupId: !Ref Guard, SourceSecurityGroupName: web, SourceSecurityGroupOwnerId: 123");
    let converted = convert(&owned, &options("t")).unwrap();
    let warned = |part: &str| converted.warnings.iter().any(|warning| warning.message.contains(part));
    assert!(warned("sourceSecurityGroupOwnerId is without effect"), "{:?}", converted.warnings);
}
