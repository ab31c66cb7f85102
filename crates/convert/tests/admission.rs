//! Whatever converts, the API server takes, or refuses with a sentence that a warning has said before.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{admitted, options};
use kagami_convert::convert;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A property that is left out more often than not.
fn some(values: &[Value]) -> BoxedStrategy<Option<Value>> {
    let values = values.to_vec();
    prop_oneof![2 => Just(None), 1 => prop::sample::select(values).prop_map(Some)].boxed()
}

fn node_group() -> impl Strategy<Value = Value> {
    let zones = || some(&[json!([]), json!(["a"]), json!(["a", "b"]), json!(["b", "b"])]);
    (
        some(&[json!("0001"), json!("0002"), json!("3")]),
        some(&[json!("a"), json!("b")]),
        zones(),
        some(&[json!(0), json!("1"), json!(2)]),
        some(&[json!("0-16383"), json!("0-8191"), json!("8192-16383"), json!("0-99,200"), json!("x")]),
    )
        .prop_map(|(id, primary, zones, replicas, slots)| {
            let names = [
                "NodeGroupId",
                "PrimaryAvailabilityZone",
                "ReplicaAvailabilityZones",
                "ReplicaCount",
                "Slots",
            ];
            let fields = names.into_iter().zip([id, primary, zones, replicas, slots]);
            json!(fields.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>())
        })
}

/// The properties that make the shape of a group.
fn shape() -> impl Strategy<Value = Map<String, Value>> {
    let groups = prop_oneof![
        2 => Just(None),
        1 => prop::collection::vec(node_group(), 0..4).prop_map(|groups| Some(json!(groups))),
    ];
    let named = |name: &'static str, values: &[Value]| {
        some(values).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let bools = [json!(true), json!(false), json!("true"), json!("false")];
    let own = json!({"Ref": "Own"});
    let all: Vec<BoxedStrategy<Option<(String, Value)>>> = vec![
        named("AutomaticFailoverEnabled", &bools).boxed(),
        named("MultiAZEnabled", &bools).boxed(),
        named("ClusterMode", &texts(&["enabled", "Disabled", "compatible"])).boxed(),
        named("Engine", &texts(&["redis", "valkey"])).boxed(),
        named("EngineVersion", &texts(&["6.2", "6.x", "7.1", "7.2", "8.0", "5.0.6", "6.2.6", "9.1"])).boxed(),
        named(
            "CacheParameterGroupName",
            &[
                json!("default.redis7"),
                json!("default.redis7.cluster.on"),
                json!("default.redis5.0"),
                json!("mine"),
                own,
            ],
        )
        .boxed(),
        named("NumCacheClusters", &[json!(1), json!("2"), json!(3)]).boxed(),
        named("NumNodeGroups", &[json!(1), json!("2"), json!(3)]).boxed(),
        named("ReplicasPerNodeGroup", &[json!(0), json!("1"), json!(5)]).boxed(),
        named("PreferredCacheClusterAZs", &[json!([]), json!(["a"]), json!(["a", "b"]), json!(["a", "a"])])
            .boxed(),
        groups.prop_map(|groups| groups.map(|groups| ("NodeGroupConfiguration".to_owned(), groups))).boxed(),
        named("Port", &[json!(6379), json!("8379"), json!(65535), json!(56000)]).boxed(),
    ];
    all.prop_map(|properties| properties.into_iter().flatten().collect())
}

/// The other properties: what is recorded, refused, or loosely written.
fn rest() -> impl Strategy<Value = Map<String, Value>> {
    let named = |name: &'static str, values: &[Value]| {
        some(values).prop_map(move |value| value.map(|value| (name.to_owned(), value))).boxed()
    };
    let long = "x".repeat(300);
    let all = vec![
        named("AtRestEncryptionEnabled", &[json!(true), json!("false")]),
        named("TransitEncryptionEnabled", &[json!(true), json!("false")]),
        named("TransitEncryptionMode", &[json!("preferred"), json!("")]),
        named("DataTieringEnabled", &[json!(true), json!(false)]),
        named("Durability", &[json!("default"), json!("sync"), json!("DISABLED")]),
        named("IpDiscovery", &[json!("ipv4"), json!("ipv6")]),
        named("NetworkType", &[json!("ipv4"), json!("dual_stack")]),
        named("GlobalReplicationGroupId", &[json!("x"), json!("")]),
        named("KmsKeyId", &[json!("key"), json!("")]),
        named("NotificationTopicArn", &[json!("arn"), json!(long)]),
        named("PrimaryClusterId", &[json!("x"), json!("")]),
        named("SnapshotArns", &[json!([]), json!(["a"]), json!(["a", "a"])]),
        named("SnapshotName", &[json!("x")]),
        named("SnapshotRetentionLimit", &[json!(0), json!("7"), json!(36)]),
        named("SnapshotWindow", &[json!("05:00-06:00"), json!("23:30-00:29"), json!("05:00-06:00 ")]),
        named("PreferredMaintenanceWindow", &[json!("Sun:05:00-Sun:07:00"), json!("sat:23:00-sun:00:00")]),
        named("SnapshottingClusterId", &[json!("x")]),
        named("CacheSecurityGroupNames", &[json!([]), json!(["x", "x"])]),
        named("UserGroupIds", &[json!([]), json!(["users"]), json!(["a", "b"])]),
        named("SecurityGroupIds", &[json!([]), json!(["sg-1", "sg-2"])]),
        named("CacheNodeType", &[json!("cache.t4g.micro"), json!(" cache.t4g.micro"), json!("")]),
        named("ReplicationGroupId", &[json!("Mine"), json!("x".repeat(41)), json!("a--b")]),
        named(
            "Tags",
            &[
                json!([]),
                json!([{"Key": "a", "Value": ""}]),
                json!([{"Key": "a", "Value": "x"}, {"Key": "a", "Value": "y"}]),
            ],
        ),
        named(
            "LogDeliveryConfigurations",
            &[
                json!([]),
                json!([{"LogType": "slow-log", "LogFormat": "json", "DestinationType": "cloudwatch-logs",
                    "DestinationDetails": {"CloudWatchLogsDetails": {"LogGroup": "g"}}}]),
            ],
        ),
    ];
    all.prop_map(|properties| properties.into_iter().flatten().collect())
}

fn template(properties: Map<String, Value>, attributes: Map<String, Value>) -> String {
    let mut properties = properties;
    properties.insert("ReplicationGroupDescription".into(), json!("d"));
    properties.insert("CacheNodeType".into(), json!("cache.t4g.micro"));
    let mut group = json!({"Type": "AWS::ElastiCache::ReplicationGroup", "Properties": properties});
    group.as_object_mut().unwrap().extend(attributes);
    let own = json!({"Type": "AWS::ElastiCache::ParameterGroup", "Properties": {"Description": "d",
        "CacheParameterGroupFamily": "redis7", "Properties": {"cluster-enabled": "yes"}}});
    json!({"Resources": {"Group": group, "Own": own}}).to_string()
}

fn attempt(properties: Map<String, Value>, attributes: Map<String, Value>) -> bool {
    match convert(&template(properties, attributes), &options("t")) {
        Ok(converted) => {
            admitted(&converted);
            true
        }
        Err(failure) => {
            assert!(!failure.problems.is_empty());
            false
        }
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_group_of_any_shape_that_converts_is_admitted(properties in shape()) {
        attempt(properties, Map::new());
    }

    #[test]
    fn whatever_else_a_group_asks_for_is_admitted_or_its_refusal_was_told(
        properties in rest(),
        deletion in some(&[json!("Snapshot"), json!("Retain"), json!("Delete"), json!("RetainExceptOnCreate")]),
        resharding in some(&[json!({"UseOnlineResharding": "true"}), json!({})]),
    ) {
        let mut attributes = Map::new();
        attributes.extend(deletion.map(|policy| ("DeletionPolicy".to_owned(), policy)));
        attributes.extend(resharding.map(|policy| ("UpdatePolicy".to_owned(), policy)));
        attempt(properties, attributes);
    }
}

#[test]
fn most_simple_shapes_convert() {
    // Guards the properties above against a generator that makes nothing but errors.
    for properties in [
        json!({}),
        json!({"NumCacheClusters": 3, "AutomaticFailoverEnabled": true, "MultiAZEnabled": true}),
        json!({"NumNodeGroups": 2, "ReplicasPerNodeGroup": 1}),
        json!({"NumNodeGroups": 2, "CacheParameterGroupName": {"Ref": "Own"}}),
        json!({"NumNodeGroups": 1, "NodeGroupConfiguration": [{"ReplicaCount": 1, "Slots": "0-16383"}], "ClusterMode": "enabled"}),
    ] {
        assert!(attempt(properties.as_object().unwrap().clone(), Map::new()), "{properties}");
    }
}
