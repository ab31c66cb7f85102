//! What one object does not tell: each rule that is told by a condition, by its number, with a spec that is carried out and one
//! that is refused with the words of `docs/rules.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use kagami_api::rules::{CONDITIONS, Condition};
use kagami_api::v1alpha1::{
    ParameterGroup, ParameterGroupSpec, ReplicationGroup, SecurityGroup, SubnetGroup, SubnetGroupSpec,
};
use kagami_core::desired::{Desired, References, Refusal, Tables, resolve};
use serde_json::{Value, json};

/// What a spec may refer to: the parameter group `mine` with what is given, the subnet group `subnets`, the security group `clients`.
fn references(parameters: &Value, zones: &[&str]) -> References {
    let text = |text: &str| text.to_owned();
    let group = ParameterGroupSpec {
        cache_parameter_group_family: text("redis7"),
        description: text("d"),
        properties: serde_json::from_value(parameters.clone()).unwrap(),
        ..ParameterGroupSpec::default()
    };
    let subnets = SubnetGroupSpec {
        description: text("d"),
        zones: zones.iter().map(|zone| text(zone)).collect(),
        ..SubnetGroupSpec::default()
    };
    References {
        parameter_group: Some(ParameterGroup::new("mine", group)),
        subnet_group: Some(SubnetGroup::new("subnets", subnets)),
        security_groups: BTreeMap::from([(
            text("clients"),
            SecurityGroup::new("clients", Default::default()),
        )]),
    }
}

fn resolved(spec: &Value, refs: &References) -> Result<Desired, Vec<Refusal>> {
    let mut whole = json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro" });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    resolve(&ReplicationGroup::new("g", serde_json::from_value(whole).unwrap()), refs, &Tables::default())
}

struct Case {
    number: &'static str,
    accepted: (Value, References),
    refused: (Value, References),
    words: &'static str,
}

fn cases() -> Vec<Case> {
    let plain = || references(&json!({}), &["a", "c"]);
    let with = |parameters: Value| references(&parameters, &["a", "c"]);
    let without = References::default;
    let case = |number, accepted: Value, refused: Value, words| Case {
        number,
        accepted: (accepted, plain()),
        refused: (refused, plain()),
        words,
    };
    let mine = || json!({ "cacheParameterGroupName": "mine" });
    let parameters = |number, good: Value, bad: Value, words| Case {
        number,
        accepted: (mine(), with(good)),
        refused: (mine(), with(bad)),
        words,
    };
    let missing = |given: Value, words| Case {
        number: "R01",
        accepted: (given.clone(), plain()),
        refused: (given, without()),
        words,
    };
    let clients = |block: Value| {
        let ingress = json!({ "groupDescription": "d", "ingress": [{ "from": { "ipBlock": block } }] });
        let group = SecurityGroup::new("clients", serde_json::from_value(ingress).unwrap());
        References {
            security_groups: BTreeMap::from([("clients".to_owned(), group)]),
            ..References::default()
        }
    };
    let addresses = |good: Value, bad: Value, words| Case {
        number: "G03",
        accepted: (json!({ "securityGroupIds": ["clients"] }), clients(good)),
        refused: (json!({ "securityGroupIds": ["clients"] }), clients(bad)),
        words,
    };
    let two = |first: &str, second: &str| json!({ "nodeGroupConfiguration": [{ "slots": first }, { "slots": second }] });
    let zoned = json!({ "multiAZEnabled": true, "automaticFailoverEnabled": true, "numCacheClusters": 2, "cacheSubnetGroupName": "subnets" });
    vec![
        case(
            "V03",
            json!({ "engineVersion": "7.0" }),
            json!({ "engineVersion": "5.1" }),
            "Cannot find version",
        ),
        case(
            "V03",
            json!({ "engineVersion": "7.0", "cacheParameterGroupName": "mine" }),
            json!({ "engineVersion": "6.2", "cacheParameterGroupName": "mine" }),
            "Expected a parameter group of family",
        ),
        Case {
            number: "V10",
            accepted: (zoned.clone(), plain()),
            refused: (zoned, references(&json!({}), &["a"])),
            words: "multiAZEnabled needs at least two zones, and the subnet group has only",
        },
        case(
            "V11",
            json!({ "cacheSubnetGroupName": "subnets", "preferredCacheClusterAZs": ["a"] }),
            json!({ "cacheSubnetGroupName": "subnets", "preferredCacheClusterAZs": ["x"] }),
            "is not one of the subnet group's",
        ),
        // As many slots as there are, so that counting them finds nothing.
        case("V12", two("0-8191", "8192-16383"), two("0-8191", "8191-16382"), "overlap"),
        Case {
            number: "V13",
            accepted: (json!({ "clusterMode": "disabled", "cacheParameterGroupName": "mine" }), plain()),
            refused: (
                json!({ "clusterMode": "disabled", "cacheParameterGroupName": "mine" }),
                with(json!({ "cluster-enabled": "yes" })),
            ),
            words: "Cluster mode should be disabled in parameter group, but found it is enabled.",
        },
        Case {
            number: "V13",
            accepted: (
                json!({ "clusterMode": "enabled", "cacheParameterGroupName": "mine" }),
                with(json!({ "cluster-enabled": "yes" })),
            ),
            refused: (json!({ "clusterMode": "enabled", "cacheParameterGroupName": "mine" }), plain()),
            words: "Cluster mode should be enabled in parameter group, but found it is disabled.",
        },
        Case {
            number: "V13",
            accepted: (
                json!({ "numNodeGroups": 2, "cacheParameterGroupName": "mine" }),
                with(json!({ "cluster-enabled": "yes" })),
            ),
            refused: (json!({ "numNodeGroups": 2, "cacheParameterGroupName": "mine" }), plain()),
            words: "A group with cluster mode disabled has exactly one node group",
        },
        Case {
            number: "V08",
            accepted: (
                json!({ "automaticFailoverEnabled": true, "cacheParameterGroupName": "mine" }),
                with(json!({ "cluster-enabled": "yes" })),
            ),
            refused: (
                json!({ "automaticFailoverEnabled": true, "cacheParameterGroupName": "mine" }),
                plain(),
            ),
            words: "When using automatic failover, there must be at least 2 cache clusters in the replication group.",
        },
        Case {
            number: "V09",
            accepted: (
                json!({ "automaticFailoverEnabled": false, "cacheParameterGroupName": "mine" }),
                plain(),
            ),
            refused: (
                json!({ "automaticFailoverEnabled": false, "cacheParameterGroupName": "mine" }),
                with(json!({ "cluster-enabled": "yes" })),
            ),
            words: "Redis with cluster mode enabled cannot be created with auto failover turned off.",
        },
        parameters(
            "P03",
            json!({ "timeout": "60" }),
            json!({ "time-out": "60" }),
            "Could not find parameter with name",
        ),
        parameters(
            "P03",
            json!({ "appendonly": "no" }),
            json!({ "appendonly": "yes" }),
            "cannot be modified",
        ),
        parameters(
            "P03",
            json!({ "timeout": "20" }),
            json!({ "timeout": "19" }),
            "is not allowed for parameter",
        ),
        addresses(
            json!({ "cidr": "10.0.0.0/8" }),
            json!({ "cidr": "10.0.0.0/33" }),
            "which is no range of addresses",
        ),
        addresses(
            json!({ "cidr": "fd00::/8", "except": ["fd00:1::/32"] }),
            json!({ "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] }),
            "which is not a part of",
        ),
        missing(mine(), "CacheParameterGroup not found"),
        missing(json!({ "cacheSubnetGroupName": "subnets" }), "CacheSubnetGroup not found"),
        missing(json!({ "securityGroupIds": ["clients"] }), "does not exist"),
        case(
            "R01",
            json!({ "cacheNodeType": "cache.m6g.large" }),
            json!({ "cacheNodeType": "cache.z9.huge" }),
            "Invalid Cache Node Type",
        ),
    ]
}

#[test]
fn each_condition_is_told_of_one_spec_and_not_of_another() {
    for case in cases() {
        let (accepted, refs) = &case.accepted;
        assert!(
            resolved(accepted, refs).is_ok(),
            "{} {accepted}: {:?}",
            case.number,
            resolved(accepted, refs).err()
        );
        let (refused, refs) = &case.refused;
        let told = resolved(refused, refs).unwrap_err();
        let condition: &Condition =
            CONDITIONS.iter().find(|known| known.number == case.number && known.words == case.words).unwrap();
        let found = told.iter().find(|refusal| refusal.message.contains(case.words));
        assert!(found.is_some(), "{} {refused}: {told:?}", case.number);
        let found = found.unwrap();
        assert_eq!(
            (found.reason, found.property.as_str()),
            (condition.reason, condition.property),
            "{}",
            case.number
        );
    }
}

#[test]
fn every_condition_of_the_table_is_tried() {
    let tried: BTreeSet<(&str, &str)> = cases().iter().map(|case| (case.number, case.words)).collect();
    for condition in CONDITIONS {
        assert!(tried.contains(&(condition.number, condition.words)), "{condition:?}");
    }
}

/// V06: a group that gives no number of nodes has one.
#[test]
fn a_group_that_gives_no_number_of_nodes_has_one() {
    assert_eq!(resolved(&json!({}), &References::default()).unwrap().nodes().count(), 1);
}

/// Whoever reads `kubectl explain rg.spec` writes these.
#[test]
fn the_shapes_that_the_spec_is_explained_with_are_right() {
    let definition = serde_json::to_value(&kagami_api::crds()[0]).unwrap();
    let explained =
        definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/description").unwrap();
    let explained = explained.as_str().unwrap();
    for (words, more, nodes) in [
        ("One node: numCacheClusters: 1.", "", 1),
        ("two replicas: numCacheClusters: 3, automaticFailoverEnabled: true.", "", 3),
        ("a replica each: numNodeGroups: 3, replicasPerNodeGroup: 1.", "", 6),
        ("of one shard with a replica: clusterMode: enabled, replicasPerNodeGroup: 1.", "", 2),
        ("One node: numCacheClusters: 1.", "engine: valkey, automaticFailoverEnabled: false", 1),
        ("two replicas: numCacheClusters: 3, automaticFailoverEnabled: true.", "engine: valkey", 3),
        (
            "a replica each: numNodeGroups: 3, replicasPerNodeGroup: 1.",
            "engine: valkey, multiAZEnabled: true",
            6,
        ),
    ] {
        assert!(explained.contains(words), "{words}: {explained}");
        let (_, fields) = words.split_once(": ").unwrap();
        let spec: serde_json::Map<String, Value> = format!("{}, {more}", fields.trim_end_matches('.'))
            .split(", ")
            .filter_map(|field| field.split_once(": "))
            .map(|(field, value)| {
                let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
                (field.to_owned(), value)
            })
            .collect();
        let spec = Value::Object(spec);
        let desired = resolved(&spec, &References::default());
        assert_eq!(desired.map(|desired| desired.nodes().count()), Ok(nodes), "{spec}");
    }
}
