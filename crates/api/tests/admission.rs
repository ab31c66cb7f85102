//! Each rule of admission, by its number: one object that passes and one that is refused with the right words.
//!
//! The rules are evaluated here as the API server evaluates them, without one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kagami_api::crds;
use kagami_api::rules::{self, AdmissionRule};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

fn compiled(definition: CustomResourceDefinition) -> (String, CompiledSchema) {
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let compiled = compile_schema(&serde_json::to_value(schema).unwrap());
    assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
    (definition.spec.names.kind, compiled)
}

fn schema(kind: &str) -> &'static CompiledSchema {
    static SCHEMAS: OnceLock<BTreeMap<String, CompiledSchema>> = OnceLock::new();
    &SCHEMAS.get_or_init(|| crds().into_iter().map(compiled).collect())[kind]
}

fn object(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// The same as it runs: the status tells the version.
fn running(name: &str, spec: &Value) -> Value {
    let mut object = object(name, spec);
    if let Some(version) = spec.get("engineVersion") {
        object["status"] = json!({ "resolved": { "engineVersion": version } });
    }
    object
}

/// What an object is refused with.
fn messages(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate_compiled(schema(kind), new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

struct Case {
    number: &'static str,
    old: Option<Value>,
    accepted: Value,
    refused: Value,
    words: &'static str,
}

fn case(number: &'static str, accepted: Value, refused: Value, words: &'static str) -> Case {
    Case { number, old: None, accepted, refused, words }
}

fn update(number: &'static str, old: Value, accepted: Value, refused: Value, words: &'static str) -> Case {
    Case { number, old: Some(old), accepted, refused, words }
}

fn full(spec: &Value) -> Value {
    let mut whole = json!({ "replicationGroupDescription": "d" });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    whole
}

fn cases() -> Vec<Case> {
    let log = json!([{ "logType": "slow-log", "logFormat": "json", "destinationType": "cloudwatch-logs", "destinationDetails": {} }]);
    vec![
        case(
            "V02",
            json!({ "replicationGroupId": "GROUP" }),
            json!({ "replicationGroupId": "other" }),
            "replicationGroupId must be metadata.name",
        ),
        case(
            "V03",
            json!({ "engineVersion": "6.x" }),
            json!({ "engineVersion": "seven" }),
            "engineVersion must be a version such as 6.2",
        ),
        case(
            "V04",
            json!({ "engineVersion": "5.0.6" }),
            json!({ "engineVersion": "6.2.6" }),
            "must not have a patch level",
        ),
        update(
            "V04",
            json!({}),
            json!({ "engine": "valkey", "automaticFailoverEnabled": false }),
            json!({ "engine": "redis" }),
            "",
        ),
        update(
            "V04",
            json!({ "engine": "valkey", "numCacheClusters": 2 }),
            json!({ "engine": "valkey", "numCacheClusters": 3 }),
            json!({ "engine": "redis", "numCacheClusters": 2 }),
            "engine cannot be changed from valkey to redis.",
        ),
        update(
            "V04",
            json!({ "engine": "valkey", "numCacheClusters": 2 }),
            json!({ "engine": "valkey", "numCacheClusters": 2 }),
            json!({ "numCacheClusters": 2 }),
            "engine cannot be changed from valkey to redis.",
        ),
        update(
            "V04",
            json!({ "engineVersion": "7.0" }),
            json!({ "engineVersion": "7.1" }),
            json!({ "engineVersion": "6.2" }),
            "cannot be decreased",
        ),
        update(
            "V04",
            json!({ "engineVersion": "6.x" }),
            json!({ "engineVersion": "6.2" }),
            json!({ "engineVersion": "6.2.1" }),
            "patch level",
        ),
        case("V05", json!({ "port": 6380 }), json!({ "port": 8379 }), "port must not be 8379 or 8380"),
        case(
            "V07",
            json!({ "numCacheClusters": 2, "numNodeGroups": 1 }),
            json!({ "numCacheClusters": 2, "numNodeGroups": 2 }),
            "numCacheClusters is not used if there is more than one node group",
        ),
        case(
            "V07",
            json!({ "numCacheClusters": 2, "replicasPerNodeGroup": 1 }),
            json!({ "numCacheClusters": 2, "replicasPerNodeGroup": 2 }),
            "numCacheClusters and replicasPerNodeGroup",
        ),
        case(
            "V07",
            json!({ "numCacheClusters": 2, "nodeGroupConfiguration": [{ "replicaCount": 1 }] }),
            json!({ "numCacheClusters": 2, "nodeGroupConfiguration": [{ "replicaCount": 2 }] }),
            "replicaCount of nodeGroupConfiguration",
        ),
        case(
            "V08",
            json!({ "numCacheClusters": 2, "automaticFailoverEnabled": true }),
            json!({ "numCacheClusters": 1, "automaticFailoverEnabled": true }),
            "When using automatic failover, there must be at least 2 cache clusters in the replication group.",
        ),
        case(
            "V08",
            json!({ "engine": "valkey", "automaticFailoverEnabled": false }),
            json!({ "engine": "valkey" }),
            "When using automatic failover",
        ),
        case(
            "V08",
            json!({ "cacheParameterGroupName": "default.redis7.cluster.on", "automaticFailoverEnabled": true }),
            json!({ "cacheParameterGroupName": "default.redis7", "automaticFailoverEnabled": true }),
            "When using automatic failover",
        ),
        case(
            "V08",
            json!({ "cacheParameterGroupName": "mine", "automaticFailoverEnabled": true }),
            json!({ "clusterMode": "disabled", "automaticFailoverEnabled": true }),
            "When using automatic failover",
        ),
        case(
            "V08",
            json!({ "numCacheClusters": 1, "automaticFailoverEnabled": false }),
            json!({ "numCacheClusters": 2, "automaticFailoverEnabled": false }),
            "automaticFailoverEnabled: false is refused for a group of several nodes",
        ),
        case(
            "V09",
            json!({ "numNodeGroups": 2, "automaticFailoverEnabled": true }),
            json!({ "numNodeGroups": 2, "automaticFailoverEnabled": false }),
            "Redis with cluster mode enabled cannot be created with auto failover turned off.",
        ),
        case(
            "V09",
            json!({ "cacheParameterGroupName": "default.redis7.cluster.on" }),
            json!({ "cacheParameterGroupName": "default.redis7.cluster.on", "automaticFailoverEnabled": false }),
            "Redis with cluster mode enabled cannot be created with auto failover turned off.",
        ),
        case(
            "V10",
            json!({ "numCacheClusters": 2, "multiAZEnabled": true, "automaticFailoverEnabled": true }),
            json!({ "numCacheClusters": 2, "multiAZEnabled": true, "automaticFailoverEnabled": false }),
            "multiAZEnabled needs automatic failover",
        ),
        case(
            "V10",
            json!({ "numCacheClusters": 2, "multiAZEnabled": true }),
            json!({ "numCacheClusters": 1, "multiAZEnabled": true }),
            "multiAZEnabled needs at least one replica",
        ),
        case(
            "V10",
            json!({ "multiAZEnabled": true, "nodeGroupConfiguration": [{ "replicaCount": 1 }, { "replicaCount": 2 }] }),
            json!({ "multiAZEnabled": true, "nodeGroupConfiguration": [{ "replicaCount": 1 }, { "replicaCount": 0 }] }),
            "multiAZEnabled needs at least one replica",
        ),
        case(
            "V11",
            json!({ "numCacheClusters": 1, "preferredCacheClusterAZs": ["a"] }),
            json!({ "numNodeGroups": 2, "preferredCacheClusterAZs": ["a"] }),
            "PreferredCacheClusterAZs can only be specified for one node group.",
        ),
        case(
            "V11",
            json!({ "numCacheClusters": 2, "preferredCacheClusterAZs": ["a", "a"] }),
            json!({ "numCacheClusters": 2, "preferredCacheClusterAZs": ["a"] }),
            "must match the number of preferred availability zones",
        ),
        case(
            "V11",
            json!({ "preferredCacheClusterAZs": ["a"], "nodeGroupConfiguration": [{}] }),
            json!({ "preferredCacheClusterAZs": ["a"], "nodeGroupConfiguration": [{ "primaryAvailabilityZone": "a" }] }),
            "exclude each other",
        ),
        case(
            "V12",
            json!({ "numNodeGroups": 2, "nodeGroupConfiguration": [{}, {}] }),
            json!({ "numNodeGroups": 3, "nodeGroupConfiguration": [{}, {}] }),
            "as many entries as numNodeGroups",
        ),
        case(
            "V12",
            json!({ "nodeGroupConfiguration": [{ "nodeGroupId": "0001" }, { "nodeGroupId": "0002" }, {}, {}] }),
            json!({ "nodeGroupConfiguration": [{ "nodeGroupId": "0001" }, { "nodeGroupId": "0001" }] }),
            "two entries with the same nodeGroupId",
        ),
        case(
            "V12",
            json!({ "replicasPerNodeGroup": 1, "nodeGroupConfiguration": [{ "replicaAvailabilityZones": ["a"] }, { "replicaCount": 2, "replicaAvailabilityZones": ["a", "b"] }] }),
            json!({ "replicasPerNodeGroup": 2, "nodeGroupConfiguration": [{ "replicaAvailabilityZones": ["a"] }, {}] }),
            "The number of replicaAvailabilityZones",
        ),
        case(
            "V12",
            json!({ "nodeGroupConfiguration": [{ "slots": "0-99" }, { "slots": "100-16383" }] }),
            json!({ "nodeGroupConfiguration": [{ "slots": "0-99" }, {}] }),
            "to every node group or to none",
        ),
        case(
            "V12",
            json!({ "nodeGroupConfiguration": [{ "slots": "0-99,200-16383" }, { "slots": "100-199" }] }),
            json!({ "nodeGroupConfiguration": [{ "slots": "0..99" }, { "slots": "100-199" }] }),
            "slots in nodeGroupConfiguration must be ranges",
        ),
        case(
            "V13",
            json!({ "clusterMode": "enabled", "numNodeGroups": 2 }),
            json!({ "clusterMode": "disabled", "numNodeGroups": 2 }),
            "A group with cluster mode disabled has exactly one node group",
        ),
        case(
            "V13",
            json!({ "cacheParameterGroupName": "mine", "numNodeGroups": 2 }),
            json!({ "cacheParameterGroupName": "default.redis7", "numNodeGroups": 2 }),
            "A group with cluster mode disabled has exactly one node group",
        ),
        case(
            "V13",
            json!({ "clusterMode": "disabled", "cacheParameterGroupName": "default.redis7" }),
            json!({ "clusterMode": "disabled", "cacheParameterGroupName": "default.redis7.cluster.on" }),
            "Cluster mode should be disabled in parameter group, but found it is enabled.",
        ),
        case(
            "V13",
            json!({ "clusterMode": "enabled", "cacheParameterGroupName": "default.redis7.cluster.on" }),
            json!({ "clusterMode": "enabled", "cacheParameterGroupName": "default.redis7" }),
            "Cluster mode should be enabled in parameter group, but found it is disabled.",
        ),
        case(
            "V14",
            json!({ "clusterMode": "disabled" }),
            json!({ "clusterMode": "compatible" }),
            "clusterMode: compatible is refused",
        ),
        case(
            "V16",
            json!({ "snapshotWindow": "23:30-00:30" }),
            json!({ "snapshotWindow": "5:00-6:00" }),
            "snapshotWindow must be a daily window",
        ),
        case(
            "V16",
            json!({ "snapshotWindow": "05:00-06:00" }),
            json!({ "snapshotWindow": "05:00-05:59" }),
            "Snapshot window must be at least 60 minutes.",
        ),
        case(
            "V16",
            json!({ "preferredMaintenanceWindow": "Sat:23:30-Sun:00:30" }),
            json!({ "preferredMaintenanceWindow": "05:00-06:00" }),
            "preferredMaintenanceWindow must be a weekly window",
        ),
        case(
            "V16",
            json!({ "preferredMaintenanceWindow": "sun:05:00-mon:05:00" }),
            json!({ "preferredMaintenanceWindow": "sun:05:00-mon:05:01" }),
            "preferredMaintenanceWindow must be at least 60 minutes and at most 24 hours.",
        ),
        case(
            "V17",
            json!({ "snapshotArns": [] }),
            json!({ "snapshotArns": ["arn:aws:s3:::b/k.rdb"] }),
            "snapshotArns is refused",
        ),
        case("V17", json!({}), json!({ "snapshotName": "s" }), "snapshotName is refused"),
        case(
            "V17",
            json!({ "snapshotRetentionLimit": 0 }),
            json!({ "snapshotRetentionLimit": 7 }),
            "snapshotRetentionLimit above 0 is refused",
        ),
        case("V17", json!({}), json!({ "snapshottingClusterId": "s" }), "snapshottingClusterId is refused"),
        case("V17", json!({}), json!({ "primaryClusterId": "p" }), "primaryClusterId is refused"),
        case("V18", json!({}), json!({ "authToken": "0123456789abcdef" }), "authToken is refused"),
        case(
            "V19",
            json!({ "transitEncryptionEnabled": false }),
            json!({ "transitEncryptionEnabled": true }),
            "transitEncryptionEnabled: true is refused",
        ),
        case(
            "V19",
            json!({}),
            json!({ "transitEncryptionMode": "preferred" }),
            "transitEncryptionMode is refused",
        ),
        case(
            "V20",
            json!({ "userGroupIds": [] }),
            json!({ "userGroupIds": ["u"] }),
            "userGroupIds is refused",
        ),
        case(
            "V21",
            json!({ "logDeliveryConfigurations": [] }),
            json!({ "logDeliveryConfigurations": log }),
            "logDeliveryConfigurations is refused",
        ),
        case(
            "V22",
            json!({ "networkType": "ipv4" }),
            json!({ "networkType": "dual_stack" }),
            "networkType ipv6 and dual_stack are refused",
        ),
        case(
            "V22",
            json!({ "ipDiscovery": "ipv4" }),
            json!({ "ipDiscovery": "ipv6" }),
            "ipDiscovery: ipv6 is refused",
        ),
        case(
            "V23",
            json!({ "atRestEncryptionEnabled": false }),
            json!({ "atRestEncryptionEnabled": true }),
            "atRestEncryptionEnabled: true is refused",
        ),
        case("V23", json!({}), json!({ "kmsKeyId": "k" }), "kmsKeyId is refused"),
        case(
            "V23",
            json!({ "dataTieringEnabled": false }),
            json!({ "dataTieringEnabled": true }),
            "dataTieringEnabled: true is refused",
        ),
        case(
            "V23",
            json!({ "durability": "default" }),
            json!({ "durability": "sync" }),
            "durability async and sync are refused",
        ),
        case(
            "V23",
            json!({}),
            json!({ "globalReplicationGroupId": "g" }),
            "globalReplicationGroupId is refused",
        ),
        case(
            "V23",
            json!({ "cacheSecurityGroupNames": [] }),
            json!({ "cacheSecurityGroupNames": ["x"] }),
            "cacheSecurityGroupNames is refused",
        ),
        update(
            "V24",
            json!({}),
            json!({ "port": 6379 }),
            json!({ "port": 6380 }),
            "port: update requires replacement",
        ),
        update(
            "V24",
            json!({ "cacheSubnetGroupName": "a" }),
            json!({ "cacheSubnetGroupName": "a", "numCacheClusters": 2 }),
            json!({}),
            "cacheSubnetGroupName: update requires replacement",
        ),
        update(
            "V24",
            json!({ "numCacheClusters": 2, "preferredCacheClusterAZs": ["a", "c"] }),
            json!({ "numCacheClusters": 2, "preferredCacheClusterAZs": ["a", "c"] }),
            json!({ "numCacheClusters": 2, "preferredCacheClusterAZs": ["c", "a"] }),
            "preferredCacheClusterAZs: update requires replacement",
        ),
        case(
            "D01",
            json!({ "deletionPolicy": "Retain" }),
            json!({ "deletionPolicy": "Snapshot" }),
            "deletionPolicy: Snapshot is refused",
        ),
        case(
            "T01",
            json!({ "tags": [{ "key": "team", "value": "x" }] }),
            json!({ "tags": [{ "key": "aws:x", "value": "" }] }),
            "tags must not have keys that begin with aws:",
        ),
    ]
}

#[test]
fn each_rule_lets_one_object_pass_and_refuses_another_with_its_words() {
    for case in cases() {
        let old = case.old.as_ref().map(|spec| running("group", &full(spec)));
        let accepted = messages("ReplicationGroup", &object("group", &full(&case.accepted)), old.as_ref());
        assert!(accepted.is_empty(), "{} {}: {accepted:?}", case.number, case.accepted);
        let refused = messages("ReplicationGroup", &object("group", &full(&case.refused)), old.as_ref());
        if case.words.is_empty() {
            assert!(refused.is_empty(), "{} {}: {refused:?}", case.number, case.refused);
        } else {
            let found = refused.iter().any(|message| message.contains(case.words));
            assert!(found, "{} {}: {refused:?}", case.number, case.refused);
        }
    }
}

#[test]
fn every_rule_of_a_group_is_tried_and_no_message_comes_from_elsewhere() {
    let mut seen = BTreeSet::new();
    let rules: Vec<AdmissionRule> = rules::replication_group();
    for case in cases() {
        let old = case.old.as_ref().map(|spec| running("group", &full(spec)));
        for message in messages("ReplicationGroup", &object("group", &full(&case.refused)), old.as_ref()) {
            let rule = rules.iter().find(|rule| rule.message == message);
            assert!(rule.is_some(), "{} {}: {message}", case.number, case.refused);
            if message.contains(case.words) && !case.words.is_empty() {
                assert_eq!(rule.unwrap().number, case.number, "{message}");
            }
            seen.insert(message);
        }
    }
    let name = messages("ReplicationGroup", &object("a--b", &full(&json!({}))), None);
    seen.extend(name);
    let untried: Vec<&str> =
        rules.iter().filter(|rule| !seen.contains(&rule.message)).map(|rule| rule.message.as_str()).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

#[test]
fn a_version_that_was_asked_for_by_mistake_can_be_taken_back() {
    let of = |version: &str| {
        let mut object = object("group", &full(&json!({ "engineVersion": version })));
        object["status"] = json!({ "resolved": { "engineVersion": "7.0" } });
        object
    };
    let mistaken = of("7.9");
    assert_eq!(messages("ReplicationGroup", &of("7.0"), Some(&mistaken)), Vec::<String>::new());
    assert_eq!(messages("ReplicationGroup", &mistaken, Some(&mistaken)), Vec::<String>::new());
    assert!(messages("ReplicationGroup", &of("6.2"), Some(&mistaken))[0].contains("cannot be decreased"));
}

#[test]
fn the_name_of_a_group_is_its_id() {
    for name in ["a", "dva-03-004-replicationgroup", &"a".repeat(40)] {
        assert!(messages("ReplicationGroup", &object(name, &full(&json!({}))), None).is_empty(), "{name}");
    }
    for name in ["1a", "a-", "a--b", "a.b", &"a".repeat(41)] {
        let refused = messages("ReplicationGroup", &object(name, &full(&json!({}))), None);
        assert!(refused[0].starts_with("metadata.name is the replication group id"), "{name}: {refused:?}");
    }
}

#[test]
fn the_reference_template_is_admitted() {
    let spec = json!({
        "replicationGroupDescription": "the reference", "replicationGroupId": "group", "automaticFailoverEnabled": true,
        "autoMinorVersionUpgrade": true, "cacheNodeType": "cache.t4g.micro",
        "cacheParameterGroupName": "default.redis6.x.cluster.on", "cacheSubnetGroupName": "subnets", "engine": "redis",
        "engineVersion": "6.2", "multiAZEnabled": true, "port": 6379, "numNodeGroups": 1,
        "nodeGroupConfiguration": [{ "primaryAvailabilityZone": "ap-northeast-1a",
            "replicaAvailabilityZones": ["ap-northeast-1d"], "replicaCount": 1 }],
        "securityGroupIds": ["clients"],
    });
    let new = object("group", &spec);
    assert_eq!(messages("ReplicationGroup", &new, None), Vec::<String>::new());
    assert_eq!(messages("ReplicationGroup", &new, Some(&new)), Vec::<String>::new());
}

#[test]
fn the_other_kinds_have_their_rules_too() {
    let family = json!({ "cacheParameterGroupFamily": "redis7", "description": "d" });
    assert!(messages("ParameterGroup", &object("mine", &family), None).is_empty());
    assert!(messages("ParameterGroup", &object("default.redis7", &family), None)[0].contains("built in"));
    let named = json!({ "cacheParameterGroupFamily": "redis7", "description": "d", "cacheParameterGroupName": "Mine" });
    assert!(messages("ParameterGroup", &object("mine", &named), None).is_empty());
    assert!(messages("ParameterGroup", &object("yours", &named), None)[0].contains("must be metadata.name"));
    let old = json!({ "cacheParameterGroupFamily": "redis3.2", "description": "d" });
    assert!(messages("ParameterGroup", &object("mine", &old), None)[0].contains("must be one of redis6.x"));
    let other = json!({ "cacheParameterGroupFamily": "valkey8", "description": "d" });
    let changed = messages("ParameterGroup", &object("mine", &other), Some(&object("mine", &family)));
    assert!(changed[0].contains("cannot be changed"));

    let subnets = |name: &str| json!({ "description": "d", "cacheSubnetGroupName": name, "zones": ["a"] });
    assert!(messages("SubnetGroup", &object("mine", &subnets("Mine")), None).is_empty());
    assert!(
        messages("SubnetGroup", &object("mine", &subnets("yours")), None)[0]
            .contains("must be metadata.name")
    );

    let ingress = |rule: Value| object("sg", &json!({ "groupDescription": "d", "ingress": [rule] }));
    for rule in [
        json!({ "from": { "podSelector": {} } }),
        json!({ "from": { "podSelector": {}, "namespaceSelector": {} }, "fromPort": 6379 }),
        json!({ "from": { "ipBlock": { "cidr": "10.0.0.0/8" } }, "fromPort": 1, "toPort": 2 }),
    ] {
        assert!(messages("SecurityGroup", &ingress(rule.clone()), None).is_empty(), "{rule}");
    }
    for (rule, words) in [
        (json!({ "from": {} }), "either an ipBlock or"),
        (
            json!({ "from": { "podSelector": {}, "ipBlock": { "cidr": "10.0.0.0/8" } } }),
            "either an ipBlock or",
        ),
        (json!({ "from": { "podSelector": {} }, "toPort": 1 }), "needs a fromPort"),
        (json!({ "from": { "podSelector": {} }, "fromPort": 2, "toPort": 1 }), "needs a fromPort"),
    ] {
        let refused = messages("SecurityGroup", &ingress(rule.clone()), None);
        assert!(refused.iter().any(|message| message.contains(words)), "{rule}: {refused:?}");
    }
}
