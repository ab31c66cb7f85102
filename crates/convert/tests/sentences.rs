//! One thing at a time: what a template says, and the sentence or the value that comes of it.

mod common;

use common::{group, options, problems};
use kagami_convert::{Format, Options, convert, render};

#[test]
fn what_each_cluster_mode_refuses_for_another_reason_is_refused() {
    let text = group(
        "CacheParameterGroupName: of-elsewhere\nMultiAZEnabled: true\nPreferredCacheClusterAZs: [a, a]\nReplicasPerNodeGroup: 1",
    );
    let said = problems(&text, &options("t"));
    let [one] = said.as_slice() else { panic!("{said:#?}") };
    assert!(one.contains("It is refused whichever cluster mode of-elsewhere has. Enabled: "), "{one}");
    assert!(one.contains(" Disabled: multiAZEnabled needs automatic failover"), "{one}");
}

#[test]
fn a_wrong_property_is_named_with_what_would_be_right() {
    for (properties, sentence) in [
        (
            "NumNodeGroupz: 2",
            "t:10:7: Group.Properties.NumNodeGroupz: unknown property; did you mean NumNodeGroups?",
        ),
        ("NodeType: cache.t4g.micro", "did you mean CacheNodeType?"),
        ("MultiAZ: true", "did you mean MultiAZEnabled?"),
        ("Description: x", "did you mean ReplicationGroupDescription?"),
        ("Port: 80", "t:10:13: Group.Properties.Port: 80 is out of range: 1150 to 65535"),
        ("Port: ${x}", "\"${x}\" is not a whole number"),
        ("AutomaticFailoverEnabled: \"yes\"", "\"yes\" is neither true nor false"),
        ("ClusterMode: enable", "did you mean enabled?"),
        ("Engine: [redis]", "expected a single value, found a list"),
        ("SecurityGroupIds: {a: b}", "expected a list, found a mapping"),
        ("SecurityGroupIds: [sg-1, sg-1]", "sg-1 stands here twice"),
        ("Tags: {a: b}", "expected a list, found a mapping"),
        ("EngineVersion: 7.2", "redis has no version \"7.2\"; there are 6.2, 6.x, 7.0 and 7.1"),
        ("CacheParameterGroupName: default.redis9", "there is no parameter group default.redis9"),
        ("ReplicationGroupId: -x-", "\"-x-\" is not a replication group id"),
        ("ReplicationGroupId: a_b", "1 to 40 letters, digits and single hyphens"),
        ("ReplicationGroupDescription: \"\"", "ReplicationGroupDescription is required"),
        ("KmsKeyId: ~", "null values are not allowed"),
        ("ConfigurationEndPoint: {}", "set by AWS"),
        ("AuthToken: hunter2-hunter2-hunter2", "set TransitEncryptionEnabled to true"),
        ("AuthToken: hunter2", "Passwords length must be between 16-128 characters."),
        ("AuthToken: \"hunter2 hunter2 hunter2\"", "and no others"),
        ("AuthToken: [a]", "expected a single value, found a list"),
        (
            "TransitEncryptionEnabled: true\nTransitEncryptionMode: preferred\nAuthToken: '{{resolve:secretsmanager:x}}'",
            "Transit encryption preferred is not supported",
        ),
        (
            "TransitEncryptionEnabled: true\nUserGroupIds: [u]\nAuthToken: '{{resolve:secretsmanager:x}}'",
            "AuthToken and UserGroupIds exclude each other",
        ),
        ("SnapshotName: !Ref Secret", "a secret cannot stand here"),
        ("SnapshotName: !Sub 'x${Secret}'", "a secret cannot stand here"),
        ("ReplicationGroupId: '{{resolve:ssm-secure:x:1}}'", "a name cannot be a secret"),
        (
            "SnapshotName: '{{resolve:ssm:/the/name:1}}'",
            "the SSM parameter /the/name can only be read on AWS",
        ),
        ("SnapshotName: !Ref AWS::Region", "AWS::Region is not known here: give --region REGION"),
        ("SnapshotName: !Sub '${AWS::AccountId}'", "give --account ID"),
        ("SnapshotName: !Ref AWS::StackName", "give --stack-name NAME"),
        (
            "SnapshotName: !Ref AWS::Regoin",
            "AWS::Regoin is not a pseudo parameter; did you mean AWS::Region?",
        ),
        ("SnapshotName: !ImportValue x-y", "give it with --import x-y=VALUE"),
        ("SnapshotName: !Select [0, !GetAZs '']", "give them with --import Fn::GetAZs=ZONE,ZONE"),
        (
            "SnapshotName: !Ref Sekret",
            "Sekret is neither a parameter nor a resource of the template; did you mean Secret?",
        ),
        ("ReplicationGroupId: !Sub 'x${Group}'", "the name of Group depends on itself"),
        ("SnapshotName: !GetAtt Gruop.Arn", "the template has no resource Gruop; did you mean Group?"),
        ("SnapshotName: !Sub '${a b}'", "must contain only alphanumeric characters"),
        ("SnapshotName: !Base64 x", "Fn::Base64 is refused: nothing about a cache is encoded"),
        (
            "SnapshotName: !Cidr [10.0.0.0/16, 1, 8]",
            "Fn::Cidr is refused: address ranges are not computed here",
        ),
        ("SnapshotName: {Fn::Transform: {Name: Mine}}", "Fn::Transform is refused: it runs a macro"),
        ("SnapshotName: !ToJsonString {a: b}", "Fn::ToJsonString is refused"),
        ("SnapshotName: {'Fn::ForEach::X': []}", "Fn::ForEach is refused: loops are not unrolled"),
        ("SnapshotName: !Base46 x", "the function Fn::Base46 is not known"),
        ("SnapshotName: !FindInMap [A, B, C]", "the section Mappings has no A"),
        ("SnapshotName: !If [No, a, b]", "the template has no condition No"),
        ("SnapshotName: !Equals [a, b]", "can only stand in the section Conditions"),
        ("SnapshotName: !Select [2, [a, b]]", "there is no item 2 in a list of 2"),
        ("SnapshotName: !Split [',', 'a,b']", "expected a single value, found a list"),
        ("SnapshotName: {Fn::Sub: x, Other: y}", "has to stand alone"),
        ("SnapshotWindow: 5am", "a snapshot window is hh24:mi-hh24:mi"),
        ("SnapshotWindow: 05:00-06:00\nPreferredMaintenanceWindow: sun:05:30-sun:06:30", "must not overlap"),
        ("NumNodeGroups: 2\nClusterMode: disabled", "there can be only one node group"),
        ("NumNodeGroups: 2\nCacheParameterGroupName: default.redis7", "has exactly one node group"),
        (
            "NumNodeGroups: 3\nNodeGroupConfiguration: [{ReplicaCount: 1}]",
            "it has 1 entries, and NumNodeGroups is 3",
        ),
        ("NumCacheClusters: 2\nReplicasPerNodeGroup: 3", "leave one out"),
        ("NumCacheClusters: 1\nAutomaticFailoverEnabled: true", "there must be at least 2 cache clusters"),
        ("Engine: valkey\nNumCacheClusters: 1", "there must be at least 2 cache clusters"),
        (
            "NumNodeGroups: 2\nAutomaticFailoverEnabled: false",
            "cannot be created with auto failover turned off",
        ),
        ("MultiAZEnabled: true", "it needs at least one replica in every node group"),
        (
            "MultiAZEnabled: true\nNumCacheClusters: 2",
            "it needs automatic failover: set AutomaticFailoverEnabled to true",
        ),
        ("NumCacheClusters: 2\nPreferredCacheClusterAZs: [a]", "There are 1 zones for 2 nodes"),
        ("NumNodeGroups: 2\nPreferredCacheClusterAZs: [a]", "can only be specified for one node group"),
        (
            "NodeGroupConfiguration: [{ReplicaCount: 1, ReplicaAvailabilityZones: [a, b]}]",
            "node group 0001 has 2 zones for 1 replicas",
        ),
        (
            "NumNodeGroups: 2\nNodeGroupConfiguration: [{Slots: 0-99}, {ReplicaCount: 1}]",
            "must give slots to every node group or to none",
        ),
        (
            "NumNodeGroups: 2\nNodeGroupConfiguration: [{Slots: 0-99}, {Slots: 90-16383}]",
            "slots in nodeGroupConfiguration overlap: 90-99",
        ),
        (
            "NumNodeGroups: 2\nNodeGroupConfiguration: [{Slots: 0-99}, {Slots: 101-16383}]",
            "must cover 0-16383 and leave out 100",
        ),
        ("Port: 8379", "port must not be 8379 or 8380"),
        (
            "ClusterMode: enabled\nCacheParameterGroupName: default.redis7",
            "should be enabled in parameter group",
        ),
        (
            "EngineVersion: 7.1\nCacheParameterGroupName: default.redis6.x",
            "Expected a parameter group of family redis7 but found one of family redis6.x",
        ),
        ("SecurityGroupIds: ['']", "every id is an empty text"),
        ("SecurityGroupIds: ['', !Sub '']", "every id is an empty text"),
        ("CacheNodeType: ''", "cacheNodeType is needed, such as cache.t4g.micro"),
        ("CacheNodeType: '  '", "this is nothing but spaces"),
        ("CacheNodeTyp: cache.t4g.micro", "did you mean CacheNodeType?"),
        ("Fn::Transform: {Name: Mine}", "Group.Properties: Fn::Transform is refused: it runs a macro"),
        (
            "UserGroupIds: [a, b]",
            "t:10:21: Group.Properties.UserGroupIds: there are 2 entries; the most is 1",
        ),
        (
            "NodeGroupConfiguration: [{NodeGroupId: '1'}, {NodeGroupId: '1'}]",
            "two entries have the NodeGroupId 1",
        ),
    ] {
        let told = problems(&group(properties), &options("t"));
        assert!(told.iter().any(|problem| problem.contains(sentence)), "{properties}: {told:#?}");
        assert!(!told.iter().any(|problem| problem.contains("hunter2")), "{properties}: {told:#?}");
    }
}

#[test]
fn what_real_templates_write_loosely_is_understood() {
    for (properties, field, value) in [
        ("AutomaticFailoverEnabled: 'True'\nNumCacheClusters: 2", "automaticFailoverEnabled", "true"),
        ("TransitEncryptionEnabled: no", "transitEncryptionEnabled", "false"),
        ("Port: '6400'", "port", "6400"),
        ("Port: ''", "port", "null"),
        ("EngineVersion: 7.0", "engineVersion", "\"7.0\""),
        ("EngineVersion: 6.x", "engineVersion", "\"6.x\""),
        ("EngineVersion: 5.0.6", "engineVersion", "\"6.2\""),
        ("EngineVersion: 6.2.6", "engineVersion", "\"6.2\""),
        ("Engine: valkey\nEngineVersion: 8.0\nAutomaticFailoverEnabled: false", "engineVersion", "\"8.0\""),
        ("Engine: Redis", "engine", "\"redis\""),
        ("ClusterMode: Disabled", "clusterMode", "\"disabled\""),
        (
            "PreferredMaintenanceWindow: Sun:05:00-Sun:07:00",
            "preferredMaintenanceWindow",
            "\"sun:05:00-sun:07:00\"",
        ),
        ("ReplicationGroupId: MyGroup", "replicationGroupId", "\"mygroup\""),
        ("KmsKeyId: !Ref AWS::NoValue", "kmsKeyId", "null"),
        (
            "CacheParameterGroupName: default.redis5.0.cluster.on",
            "cacheParameterGroupName",
            "\"default.redis6.x.cluster.on\"",
        ),
        ("CacheParameterGroupName: default.redis3.2", "engineVersion", "\"6.2\""),
        ("CacheParameterGroupName: default.redis6.x", "engineVersion", "\"6.2\""),
        ("NumNodeGroups: 2\nNumCacheClusters: 2", "numCacheClusters", "null"),
        ("SnapshotName: !Sub ['${a}-${!b}', {a: x}]", "snapshotName", "\"x-${b}\""),
        ("SnapshotName: !Join ['', [a, !Ref 'AWS::NoValue', b]]", "snapshotName", "\"ab\""),
        ("SnapshotName: !Select ['1', !Split [',', 'a,b']]", "snapshotName", "\"b\""),
        ("CacheNodeType: ' cache.t4g.small '", "cacheNodeType", "\"cache.t4g.small\""),
        ("EngineVersion: '7.1 '", "engineVersion", "\"7.1\""),
        ("UserGroupIds: ['']", "userGroupIds", "[]"),
        ("KmsKeyId: !GetAtt Key.Arn", "kmsKeyId", "\"Key\""),
        (
            "NotificationTopicArn: !Sub 'arn:aws:sns:${AWS::Region}:1:${Key}'",
            "notificationTopicArn",
            "\"arn:aws:sns:${AWS::Region}:1:${Key}\"",
        ),
    ] {
        let converted = convert(&group(properties), &options("t"))
            .unwrap_or_else(|failure| panic!("{properties}: {failure}"));
        common::admitted(&converted);
        assert_eq!(converted.manifests[0]["spec"][field].to_string(), value, "{properties}");
    }
}

#[test]
fn a_template_that_is_none_is_told_so() {
    for (text, sentence) in [
        ("", "the template is empty"),
        ("just words", "a template is a mapping with the section Resources; this is a scalar"),
        ("- a\n- b", "this is a list"),
        ("a: b", "the template has no section Resources"),
        ("Resource: {}", "the template has no section Resources; is it Resource?"),
        ("Resources: {}\nOutput: {}", "a template has no such section; did you mean Outputs?"),
        ("Resources: []", "a section is a mapping; this is a list"),
        ("Resources: {}\n---\nResources: {}", "this is the start of a second one"),
        ("a: [", "this is not YAML"),
        ("{\"a\": ", "this is not JSON: the template ends too early"),
        ("{\"a\": 1, \"a\": 2}", "a is written twice in one mapping, first in line 1"),
        ("Resources: {}\nResources: {}", "t:2:1: Resources is written twice in one mapping, first in line 1"),
        (
            "Resources:\n  A: {Type: AWS::ElastiCache::GlobalReplicationGroup}",
            "AWS::ElastiCache::GlobalReplicationGroup has to be removed: globalReplicationGroupId is refused",
        ),
        (
            "Resources:\n  A: {Type: AWS::Elasticache::ReplicationGroup}",
            "did you mean AWS::ElastiCache::ReplicationGroup?",
        ),
        ("Resources:\n  A: {}", "a resource needs a Type"),
        ("Resources:\n  a-b: {Type: x}", "the logical id \"a-b\" is not alphanumeric"),
        ("Transform: Mine\nResources: {}", "the macro Mine may rewrite the template"),
        ("Resources:\n  x: {Type: x, <<: [a]}", "a merge key (<<) wants a mapping, found a scalar"),
    ] {
        let told = problems(text, &options("t"));
        assert!(told.iter().any(|problem| problem.contains(sentence)), "{text}: {told:#?}");
    }
}

#[test]
fn a_circle_of_resources_is_told_once_for_each_that_is_in_it() {
    let text = "Resources:\n  \
        G: {Type: AWS::ElastiCache::ReplicationGroup, DependsOn: [S], Properties: {ReplicationGroupDescription: d, CacheNodeType: cache.t4g.micro}}\n  \
        S: {Type: AWS::ElastiCache::SubnetGroup, DependsOn: Q, Properties: {Description: d, SubnetIds: [a]}}\n  \
        Q: {Type: AWS::SQS::Queue, DependsOn: G}\n  O: {Type: AWS::SQS::Queue, DependsOn: O}\n";
    let told = problems(text, &options("t"));
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains(
            "t:2:60: G.DependsOn: the resources depend on each other in a circle: G -> S -> Q -> G"
        ),
        "{told:#?}"
    );
    assert!(
        told[1].contains("S.DependsOn: the resources depend on each other in a circle: S -> Q -> G -> S"),
        "{told:#?}"
    );
}

/// Which endpoints there will be is not known where a parameter group outside of the template decides the cluster mode.
#[test]
fn an_endpoint_that_may_not_exist_is_told() {
    let text = |group: &str| {
        self::group(&format!("NumCacheClusters: 2\nCacheParameterGroupName: {group}"))
            + "Outputs:\n  C: {Value: !GetAtt Group.ConfigurationEndPoint.Address}\n  P: {Value: !GetAtt Group.PrimaryEndPoint.Address}\n"
    };
    let unsure = |group: &str| {
        let converted = convert(&text(group), &options("t")).unwrap();
        converted.warnings.iter().filter(|told| told.message.starts_with("whether there is Group.")).count()
    };
    assert_eq!((unsure("mine"), unsure("default.redis7")), (2, 0));
}

#[test]
fn no_secret_is_ever_printed() {
    let text = group("NumCacheClusters: 1")
        + "Outputs:\n  Url:\n    Value: !Sub 'redis://:${Secret}@${Group.PrimaryEndPoint.Address}'\n  \
        Dynamic:\n    Value: !Sub ['${a}@${Group}', {a: '{{resolve:secretsmanager:hunter2}}'}]\n";
    let converted = convert(&text, &options("t")).unwrap();
    assert_eq!(converted.outputs["Url"], "redis://:****@group.default.svc.cluster.local");
    assert_eq!(converted.outputs["Dynamic"], "****@group");
    assert!(!format!("{converted:?}").contains("hunter2"));
}

/// Whatever says it, the token's text is nowhere, and the way from there into the Secret is told.
#[test]
fn a_token_becomes_the_name_of_a_secret_and_its_text_is_nowhere() {
    for (token, from) in [
        ("hunter2-hunter2-hunter2", "printf %s \"$TOKEN\" |"),
        ("!Ref Secret", "printf %s \"$TOKEN\" |"),
        ("!Sub '${Secret}${AWS::NoValue}'", ""),
        ("!GetAtt Key.Arn", "printf %s \"$TOKEN\" |"),
        (
            "'{{resolve:secretsmanager:prod/redis:SecretString:hunter2}}'",
            "--secret-id prod/redis --query SecretString --output text | jq -j '.\"hunter2\"' |",
        ),
        (
            "'{{resolve:secretsmanager:prod/redis}}'",
            "--secret-id prod/redis --query SecretString --output text | tr -d",
        ),
        ("'{{resolve:secretsmanager:prod/redis::password}}'", "jq -j '.\"password\"'"),
        (
            "!Sub '{{resolve:secretsmanager:${Key}:SecretString:::}}'",
            "aws secretsmanager get-secret-value --secret-id SECRET-ID --query",
        ),
        (
            "'{{resolve:secretsmanager:x; rm -rf /:SecretString:$(a)}}'",
            "--secret-id SECRET-ID --query SecretString --output text | jq -j '.\"JSON-KEY\"'",
        ),
        (
            "'{{resolve:ssm-secure:/redis/token:3}}'",
            "aws ssm get-parameter --with-decryption --name /redis/token ",
        ),
    ] {
        let text = group(&format!("NumCacheClusters: 1\nTransitEncryptionEnabled: true\nAuthToken: {token}"));
        let options = Options { namespace: Some("shop".to_owned()), ..options("t") };
        let Ok(converted) = convert(&text, &options) else {
            assert!(from.is_empty(), "{token}: {:?}", problems(&text, &options));
            continue;
        };
        let spec = &converted.manifests[0]["spec"];
        assert_eq!(
            spec["authTokenSecretRef"],
            serde_json::json!({ "name": "group-auth-token", "key": "auth-token" })
        );
        assert!(spec.get("authToken").is_none());
        let all = render(&converted, Format::Yaml) + &render(&converted, Format::HelmValues);
        assert!(!all.contains("hunter2"), "{all}");
        let warnings: Vec<String> = converted.warnings.iter().map(ToString::to_string).collect();
        let warnings = warnings.join("\n");
        let ends = "kubectl create secret generic group-auth-token --namespace shop --from-file=auth-token=/dev/stdin";
        assert!(warnings.contains(from) && warnings.contains(ends), "{token}: {warnings}");
        assert!(
            warnings.contains("Kagami will not take this yet: authTokenSecretRef is refused"),
            "{warnings}"
        );
        assert!(!warnings.contains("hunter2-"), "{warnings}");
        assert_eq!(
            warnings.contains("whoever reads the template"),
            token.starts_with("hunter2"),
            "{warnings}"
        );
    }
    let named = group("NumCacheClusters: 1\nTransitEncryptionEnabled: true\nAuthToken: !Ref Secret")
        + "    Metadata: {elasticache.kagami.dev: {authTokenSecretRef: {name: mine, key: token}}}\n";
    let converted = convert(&named, &options("t")).unwrap();
    assert_eq!(converted.manifests[0]["spec"]["authTokenSecretRef"]["name"], "mine");
    assert!(
        converted.warnings.iter().any(|warning| warning.message.contains("generic mine --from-file=token="))
    );
    for empty in ["''", "!Ref AWS::NoValue"] {
        let converted =
            convert(&group(&format!("NumCacheClusters: 1\nAuthToken: {empty}")), &options("t")).unwrap();
        assert!(converted.manifests[0]["spec"].get("authTokenSecretRef").is_none());
    }
}

#[test]
fn a_parameter_of_systems_manager_can_be_given() {
    let mut options = options("t");
    options.imports.insert("ssm:/cache/version".to_owned(), "7.1".to_owned());
    let text = group(
        "EngineVersion: '{{resolve:ssm:/cache/version:3}}'\nReplicationGroupDescription: !Sub 'v{{resolve:ssm:/cache/version}}'",
    );
    let converted = convert(&text, &options).unwrap();
    assert_eq!(converted.manifests[0]["spec"]["engineVersion"], "7.1");
    assert_eq!(converted.manifests[0]["spec"]["replicationGroupDescription"], "v7.1");
}

#[test]
fn what_has_no_counterpart_is_told() {
    let warnings = |text: &str| -> Vec<String> {
        convert(text, &options("t")).unwrap().warnings.iter().map(ToString::to_string).collect()
    };
    let parameters = "Resources:\n  P:\n    Type: AWS::ElastiCache::ParameterGroup\n    DeletionPolicy: Retain\n    \
                      UpdateReplacePolicy: Delete\n    Properties: {CacheParameterGroupFamily: redis7, Description: d}\n";
    assert_eq!(
        warnings(parameters),
        [
            "t:4:21: P.DeletionPolicy: it has no counterpart here: this object stays as it is until somebody deletes it"
        ]
    );
    // A user of a serverless cache, say.
    let user = group("NumCacheClusters: 1\nCacheNodeType: cache.t4g.micro")
        + "  U: {Type: AWS::ElastiCache::User}\n";
    let told = warnings(&user);
    assert!(
        told.iter()
            .any(|told| told.contains("U.Type: AWS::ElastiCache::User is skipped: no replication group")),
        "{told:?}"
    );
    for (ids, sentence) in [
        (
            "[u]",
            "AWS::ElastiCache::User is skipped. Kagami will not take this yet: users and user groups are refused",
        ),
        ("!If [No, [u], !Ref 'AWS::NoValue']", "no replication group of the template has UserGroupIds"),
        ("[!If [No, u, !Ref 'AWS::NoValue']]", "no replication group of the template has UserGroupIds"),
    ] {
        let text = group(&format!("NumCacheClusters: 1\nUserGroupIds: {ids}"))
            + "  U: {Type: AWS::ElastiCache::User}\nConditions: {No: !Equals [a, b]}\n";
        let told = warnings(&text);
        assert!(told.iter().any(|told| told.contains(sentence)), "{ids}: {told:?}");
    }
    let valkey = group("Engine: valkey\nCacheNodeType: cache.t4g.micro\nAutomaticFailoverEnabled: false");
    for part in [
        "CloudFormation wants it said with valkey",
        "AWS encrypts valkey at rest where nothing is said",
        "no security group is named",
    ] {
        assert!(warnings(&valkey).iter().any(|told| told.contains(part)), "{part}");
    }
}

#[test]
fn two_groups_cannot_have_one_name() {
    let text = "Resources:\n  A: &a {Type: AWS::ElastiCache::ReplicationGroup, Properties: \
                {ReplicationGroupDescription: x, ReplicationGroupId: same, CacheNodeType: cache.t4g.micro}}\n  B: *a\n";
    assert!(problems(text, &options("t"))[0].contains("have the same name: same"));
}

#[test]
fn a_template_without_a_group_says_so_and_one_with_a_condition_says_which() {
    for (text, sentence) in [
        ("Resources: {Q: {Type: AWS::SQS::Queue}}", "the template has no replication group"),
        (
            "Conditions: {No: !Equals [a, b]}\nResources: {G: {Type: AWS::ElastiCache::ReplicationGroup, Condition: No}}",
            "the condition of G does not hold",
        ),
    ] {
        let converted = convert(text, &options("t")).unwrap();
        assert!(converted.manifests.is_empty());
        assert!(
            converted.warnings.iter().any(|warning| warning.message.contains(sentence)),
            "{:?}",
            converted.warnings
        );
    }
}
