//! Admission and mind agree: what the API server takes can be planned for or is told by a condition, what it refuses the mind
//! refuses too, and no series of edits leads where a running group cannot go.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../api/tests/support/schema.rs"]
mod schema;

use std::collections::BTreeMap;

use kagami_api::v1alpha1::{
    ParameterGroup, ParameterGroupSpec, ReplicationGroup, SecurityGroup, SubnetGroup, SubnetGroupSpec,
};
use kagami_core::check::check;
use kagami_core::desired::{ClusterMode, Desired, References, Refusal, Tables, resolve};
use kagami_core::observed::Observed;
use kagami_core::plan::{Setting, plan};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Map, Value, json};

const KIND: &str = "ReplicationGroup";

/// Any of these, the first ones more often.
fn any_of(values: Vec<Value>) -> BoxedStrategy<Value> {
    let weighted: Vec<(u32, Just<Value>)> =
        values.into_iter().enumerate().map(|(at, value)| (if at < 2 { 4 } else { 1 }, Just(value))).collect();
    proptest::strategy::Union::new_weighted(weighted).boxed()
}

fn node_group() -> impl Strategy<Value = Value> {
    let fields = vec![
        ("nodeGroupId", any_of(vec![json!("0001"), json!("2"), json!("3"), json!("0002")])),
        ("replicaCount", any_of(vec![json!(1), json!(2), json!(0), json!(5)])),
        (
            "slots",
            any_of(vec![
                json!("0-16383"),
                json!("0-8191"),
                json!("8192-16383"),
                json!("0,1"),
                json!("9-1"),
                json!("x"),
            ]),
        ),
        ("primaryAvailabilityZone", any_of(vec![json!("a"), json!("c")])),
        ("replicaAvailabilityZones", any_of(vec![json!(["c"]), json!(["a"]), json!(["a", "c"]), json!([])])),
    ];
    some_of(fields, 0.25)
}

/// What a spec may give, mostly sensible: every value fits the schema, and any two may contradict each other.
fn fields() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let texts = |texts: &[&str]| any_of(texts.iter().map(|text| json!(text)).collect());
    let flag = || any_of(vec![json!(true), json!(false)]);
    vec![
        ("automaticFailoverEnabled", flag()),
        ("multiAZEnabled", flag()),
        ("engine", texts(&["valkey", "redis"])),
        (
            "engineVersion",
            texts(&["6.2", "7.1", "7.0", "6.x", "8.1", "7.2", "5.0.6", "6.2.6", "x", "99999.1"]),
        ),
        (
            "cacheParameterGroupName",
            texts(&[
                "default.redis7",
                "default.redis7.cluster.on",
                "mine",
                "default.redis6.x.cluster.on",
                "Default.Valkey8",
                "default.redis5.0",
                "absent",
                "default.nonsense.cluster.on",
            ]),
        ),
        ("clusterMode", texts(&["enabled", "disabled", "compatible"])),
        ("numCacheClusters", (1..=6).prop_map(|n| json!(n)).boxed()),
        ("numNodeGroups", any_of(vec![json!(1), json!(2), json!(3), json!(90), json!(500)])),
        ("replicasPerNodeGroup", (0..=5).prop_map(|n| json!(n)).boxed()),
        (
            "nodeGroupConfiguration",
            proptest::collection::vec(node_group(), 0..4).prop_map(Value::from).boxed(),
        ),
        ("port", any_of(vec![json!(6379), json!(6380), json!(8379), json!(60000)])),
        ("cacheSubnetGroupName", texts(&["subnets", "Subnets", "absent"])),
        (
            "preferredCacheClusterAZs",
            any_of(vec![
                json!(["a"]),
                json!(["a", "c"]),
                json!(["a", "c", "a"]),
                json!(["a", "a"]),
                json!(["x"]),
                json!([]),
            ]),
        ),
        ("securityGroupIds", any_of(vec![json!(["clients"]), json!([]), json!(["absent"])])),
        ("snapshotWindow", texts(&["05:00-06:00", "23:30-00:30", "05:00-05:30", "x"])),
        (
            "preferredMaintenanceWindow",
            texts(&["sun:06:00-sun:07:00", "Sat:23:30-Sun:00:15", "mon:00:00-wed:00:00", "x"]),
        ),
        ("transitEncryptionEnabled", flag().prop_map(|_| json!(false)).boxed()),
        ("deletionPolicy", texts(&["Delete", "Retain", "Snapshot"])),
        ("updatePolicy", flag().prop_map(|on| json!({ "useOnlineResharding": on })).boxed()),
        (
            "tags",
            any_of(vec![json!([{ "key": "team", "value": "x" }]), json!([{ "key": "aws:x", "value": "" }])]),
        ),
        ("cacheNodeType", texts(&["cache.t4g.micro", "cache.m6g.large", "cache.nonsense"])),
    ]
}

fn some_of(fields: Vec<(&'static str, BoxedStrategy<Value>)>, share: f64) -> impl Strategy<Value = Value> {
    let each: Vec<_> = fields
        .into_iter()
        .map(|(field, value)| {
            proptest::option::weighted(share, value).prop_map(move |value| Some((field.to_owned(), value?)))
        })
        .collect();
    each.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<String, Value>>()))
}

fn any_spec(share: f64) -> impl Strategy<Value = Value> {
    some_of(fields(), share).prop_map(|given| {
        merged(&json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro" }), &given)
    })
}

/// The spec with some fields put in, and those that are null taken away.
fn merged(spec: &Value, change: &Value) -> Value {
    let mut spec = spec.clone();
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    spec
}

fn object(spec: &Value, status: Option<&Value>) -> Value {
    let mut object = json!({ "metadata": { "name": "g" }, "spec": spec });
    if let Some(status) = status {
        object["status"] = status.clone();
    }
    object
}

/// What the API server refuses a spec with, an update where there is something before it.
fn refusals(spec: &Value, old: Option<(&Value, Option<&Value>)>) -> Vec<String> {
    let status = old.and_then(|(_, status)| status);
    let before = old.map(|(spec, status)| object(spec, status));
    let (mut by_schema, by_rules) = schema::refusals(KIND, &object(spec, status), before.as_ref());
    by_schema.extend(by_rules);
    by_schema
}

fn references() -> References {
    let text = |text: &str| text.to_owned();
    let parameters = ParameterGroupSpec {
        cache_parameter_group_family: text("redis7"),
        description: text("d"),
        properties: BTreeMap::from([(text("cluster-enabled"), text("yes"))]),
        ..ParameterGroupSpec::default()
    };
    let zones = SubnetGroupSpec {
        description: text("d"),
        zones: vec![text("a"), text("c")],
        ..SubnetGroupSpec::default()
    };
    References {
        parameter_group: Some(ParameterGroup::new("mine", parameters)),
        subnet_group: Some(SubnetGroup::new("subnets", zones)),
        security_groups: BTreeMap::from([(
            text("clients"),
            SecurityGroup::new("clients", Default::default()),
        )]),
    }
}

/// What the mind makes of a spec. What is called absent is not found.
fn resolved(spec: &Value) -> Result<Desired, Vec<Refusal>> {
    let mut refs = references();
    if spec["cacheParameterGroupName"] == "absent" {
        refs.parameter_group = None;
    }
    if spec["cacheSubnetGroupName"] == "absent" {
        refs.subnet_group = None;
    }
    let mut group = ReplicationGroup::new("g", serde_json::from_value(spec.clone()).unwrap());
    group.metadata.namespace = Some("shop".to_owned());
    resolve(&group, &refs, &Tables::default())
}

/// What a group that was made of a spec tells of itself.
fn status_of(desired: &Desired) -> Value {
    json!({
        "engine": desired.engine.to_string(),
        "clusterMode": if desired.cluster_mode == ClusterMode::Enabled { "enabled" } else { "disabled" },
        "shards": desired.shards.len(),
        "resolved": { "engineVersion": desired.engine.version.to_string() },
    })
}

/// Below this, the property would say little.
const TAKEN_LEAST: usize = 40;

#[test]
fn the_specs_that_are_tried_are_taken_often_enough() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let specs = any_spec(0.15);
    let taken = (0..400)
        .filter(|_| refusals(&specs.new_tree(&mut runner).unwrap().current(), None).is_empty())
        .count();
    assert!(taken >= TAKEN_LEAST, "{taken} of 400");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn what_admission_takes_is_planned_for_or_told_by_a_condition(spec in any_spec(0.15)) {
        if !refusals(&spec, None).is_empty() {
            return Ok(());
        }
        match resolved(&spec) {
            Ok(desired) => {
                let setting = Setting { agent_image: "agent".to_owned(), operator_namespace: "kagami".to_owned() };
                let observed = Observed::default();
                let (frozen, planned) = plan(&desired, &observed, &setting);
                prop_assert!(!planned.steps.is_empty(), "nothing would be done, and nothing is there");
                prop_assert_eq!(check(&frozen.desired, &observed, &planned), Vec::<String>::new());
            }
            Err(told) => {
                prop_assert!(!told.is_empty());
                for refusal in told {
                    let field = refusal.property.split('.').next().unwrap();
                    let known = schema::schema(KIND)["properties"]["spec"]["properties"][field].is_object();
                    prop_assert!(known && refusal.message.len() > 10, "{refusal:?}");
                }
            }
        }
    }

    /// A definition may be older than the operator, so the mind knows every rule too.
    #[test]
    fn what_a_rule_refuses_the_mind_refuses_too(spec in any_spec(0.2)) {
        let refused = schema::by_rules(KIND, &object(&spec, None), None);
        if !refused.is_empty() {
            prop_assert!(resolved(&spec).is_err(), "{spec}: {refused:?}");
        }
    }

    /// Edits come one after the other; some are carried out, some not yet.
    #[test]
    fn no_series_of_edits_leads_where_a_running_group_cannot_go(
        first in any_spec(0.12),
        edits in proptest::collection::vec((some_of(fields(), 0.12), proptest::option::of(0..21usize), any::<bool>()), 1..8),
    ) {
        if !refusals(&first, None).is_empty() {
            return Ok(());
        }
        let Ok(desired) = resolved(&first) else { return Ok(()) };
        let mut status = status_of(&desired);
        let mut spec = first.clone();
        for (edit, taken_away, carried_out) in edits {
            let mut edit = edit;
            if let Some(at) = taken_away {
                edit[fields()[at].0] = Value::Null;
            }
            let next = merged(&spec, &edit);
            if !refusals(&next, Some((&spec, Some(&status)))).is_empty() {
                continue;
            }
            let port = |spec: &Value| spec["port"].as_i64().unwrap_or(6379);
            prop_assert_eq!(port(&next), port(&first));
            let subnets = |spec: &Value| spec["cacheSubnetGroupName"].as_str().map(str::to_lowercase);
            prop_assert_eq!(subnets(&next), subnets(&first));
            // Nobody has carried it out: it can be taken back.
            let back = refusals(&spec, Some((&next, Some(&status))));
            prop_assert!(back.is_empty(), "{spec}\n{next}\n{status}\n{back:?}");
            if let Ok(desired) = resolved(&next) {
                let asked = status_of(&desired);
                // What a custom parameter group decides, no rule can see; the operator tells of it.
                if next["cacheParameterGroupName"] != "mine" {
                    prop_assert_eq!(&asked["clusterMode"], &status["clusterMode"], "{}", next);
                }
                let kind = |status: &Value| status["engine"].as_str().unwrap().split(' ').next().unwrap().to_owned();
                prop_assert!(kind(&status) != "valkey" || kind(&asked) != "redis", "{next}");
                let version = |status: &Value| {
                    let text = status["resolved"]["engineVersion"].as_str().unwrap();
                    text.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>()
                };
                if kind(&asked) == kind(&status) && next["engineVersion"] != spec["engineVersion"] && !next["engineVersion"].is_null() {
                    prop_assert!(version(&asked) >= version(&status), "{next}\n{status}");
                }
                if carried_out && asked["clusterMode"] == status["clusterMode"] && version(&asked) >= version(&status) {
                    status = asked;
                }
            }
            spec = next;
        }
    }
}
