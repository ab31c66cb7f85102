//! A group that runs becomes a template, and the template becomes the group again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;

use common::{admitted, options};
use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kagami_convert::{Converted, Exported, TemplateFormat, convert, export, template};
use kagami_core::desired::References;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// What runs: a group and what it refers to, as JSON.
#[derive(Clone, Debug)]
struct Running {
    group: Value,
    parameters: Option<Value>,
    subnets: Option<Value>,
    guards: Vec<Value>,
}

impl Running {
    fn export(&self) -> Exported {
        let group: ReplicationGroup = serde_json::from_value(self.group.clone()).unwrap();
        let guards =
            self.guards.iter().map(|guard| serde_json::from_value::<SecurityGroup>(guard.clone()).unwrap());
        let references = References {
            parameter_group: self
                .parameters
                .clone()
                .map(|group| serde_json::from_value::<ParameterGroup>(group).unwrap()),
            subnet_group: self
                .subnets
                .clone()
                .map(|group| serde_json::from_value::<SubnetGroup>(group).unwrap()),
            security_groups: guards.map(|guard| (guard.metadata.name.clone().unwrap(), guard)).collect(),
        };
        export(&group, &references)
    }

    /// The specs by kind and name.
    fn specs(&self) -> BTreeMap<(String, String), Value> {
        let objects =
            [&self.group].into_iter().chain(&self.parameters).chain(&self.subnets).chain(&self.guards);
        objects.map(title).collect()
    }
}

fn title(object: &Value) -> ((String, String), Value) {
    let text = |pointer: &str| object.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    ((text("/kind"), text("/metadata/name")), object["spec"].clone())
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn specs(converted: &Converted) -> BTreeMap<(String, String), Value> {
    converted.manifests.iter().map(title).collect()
}

fn some(values: &[Value]) -> BoxedStrategy<Option<Value>> {
    prop::option::of(prop::sample::select(values.to_vec())).boxed()
}

fn named(name: &'static str, values: &[Value]) -> BoxedStrategy<Option<(String, Value)>> {
    some(values).prop_map(move |value| value.map(|value| (name.to_owned(), value))).boxed()
}

fn sheet(fields: Vec<BoxedStrategy<Option<(String, Value)>>>) -> impl Strategy<Value = Map<String, Value>> {
    fields.prop_map(|fields| fields.into_iter().flatten().collect())
}

/// Texts that a careless writer or reader would change.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,40}".prop_filter("a dynamic reference", |text| !text.contains("{{resolve:")),
        prop::sample::select(vec![
            "yes",
            "~",
            "0001",
            "1e3",
            " padded ",
            "# no comment",
            "a: b",
            "${not}",
            "línea\nzwei",
            "'",
            "\"",
            "- x"
        ])
        .prop_map(str::to_owned),
    ]
}

fn tags() -> impl Strategy<Value = Option<(String, Value)>> {
    prop::option::of(prop::collection::btree_map("[a-z]{1,8}", words(), 0..3)).prop_map(|tags| {
        let tags: Vec<Value> =
            tags?.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        Some(("tags".to_owned(), json!(tags)))
    })
}

fn kubernetes() -> BoxedStrategy<Option<(String, Value)>> {
    let all = vec![
        named("image", &[json!("registry/redis:7.0@sha256:0")]),
        named("imagePullPolicy", &[json!("IfNotPresent")]),
        named("imagePullSecrets", &[json!([{"name": "pull"}]), json!([])]),
        named("storage", &[json!({"size": "8Gi"}), json!({"size": "100", "storageClassName": "fast"})]),
        named(
            "resources",
            &[json!({"limits": {"memory": "256Mi", "cpu": "2"}, "requests": {"cpu": "50m"}}), json!({})],
        ),
        named("nodeSelector", &[json!({"disk": "true", "size": "1"})]),
        named("tolerations", &[json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 30}])]),
        named("podLabels", &[json!({"example.org/team": "null"})]),
        named("podAnnotations", &[json!({"example.org/note": "0x1F"})]),
        named("allowEvictionOfOnlyCopy", &[json!(true), json!(false)]),
    ];
    prop::option::of(sheet(all)).prop_map(|fields| Some(("kubernetes".to_owned(), json!(fields?)))).boxed()
}

fn rule() -> impl Strategy<Value = Value> {
    let label = |name: &str| {
        let key = format!("security-group.elasticache.kagami.dev/{name}");
        json!({"podSelector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}})
    };
    let from = prop::sample::select(vec![
        json!({"ipBlock": {"cidr": "10.0.0.0/8"}}),
        json!({"ipBlock": {"cidr": "10.1.2.3/8"}}),
        json!({"ipBlock": {"cidr": "2001:db8::/32"}}),
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}),
        label("guard"),
        label("sg-0123"),
        label("elsewhere"),
        label("with.dots"),
        json!({"podSelector": {"matchLabels": {"app": "web"}}}),
        json!({"namespaceSelector": {}}),
        json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "1"}}}),
    ]);
    let ports = prop::sample::select(vec![
        json!({}),
        json!({"fromPort": 6379}),
        json!({"fromPort": 6379, "toPort": 6379}),
        json!({"fromPort": 0, "toPort": 65535}),
    ]);
    (from, ports, prop::option::of(words())).prop_map(|(from, ports, description)| {
        let mut rule = ports;
        rule["from"] = from;
        if let Some(text) = description {
            rule["description"] = json!(text);
        }
        rule
    })
}

fn guard(name: &'static str) -> impl Strategy<Value = Value> {
    (words(), prop::collection::vec(rule(), 0..5), tags()).prop_map(move |(description, ingress, tags)| {
        let mut spec = json!({"groupDescription": description});
        if !ingress.is_empty() {
            spec["ingress"] = json!(ingress);
        }
        spec.as_object_mut().unwrap().extend(tags);
        object("SecurityGroup", name, spec)
    })
}

fn subnets() -> impl Strategy<Value = Value> {
    let all = vec![
        named("cacheSubnetGroupName", &[json!("subnets")]),
        named("zones", &[json!(["b", "a"]), json!(["eu-central-1a"])]),
        named("nodeSelector", &[json!({"pool": "cache"})]),
        named("subnetIds", &[json!(["subnet-1", "subnet-2"])]),
        tags().boxed(),
    ];
    (words(), sheet(all)).prop_map(|(description, mut spec)| {
        spec.insert("description".into(), json!(description));
        object("SubnetGroup", "subnets", json!(spec))
    })
}

fn parameters() -> impl Strategy<Value = Value> {
    let all = vec![
        named("cacheParameterGroupName", &[json!("my.parameters")]),
        named(
            "properties",
            &[json!({"maxmemory-policy": "allkeys-lru", "timeout": "20", "notify-keyspace-events": ""})],
        ),
        tags().boxed(),
    ];
    (words(), sheet(all)).prop_map(|(description, mut spec)| {
        spec.insert("description".into(), json!(description));
        spec.insert("cacheParameterGroupFamily".into(), json!("redis7"));
        object("ParameterGroup", "my.parameters", json!(spec))
    })
}

/// Shapes that are right, so that what is drawn beside them is what is tried.
const SHAPES: [&str; 6] = [
    r#"{}"#,
    r#"{"numCacheClusters": 3, "automaticFailoverEnabled": true, "preferredCacheClusterAZs": ["a", "b", "a"], "multiAZEnabled": true}"#,
    r#"{"clusterMode": "enabled", "numNodeGroups": 2, "replicasPerNodeGroup": 1}"#,
    r#"{"clusterMode": "enabled", "nodeGroupConfiguration": [{"nodeGroupId": "0001", "slots": "0-99,200-16383", "replicaCount": 0}, {"nodeGroupId": "7", "slots": "100-199", "primaryAvailabilityZone": "a"}]}"#,
    r#"{"numNodeGroups": 1, "nodeGroupConfiguration": []}"#,
    r#"{"clusterMode": "disabled", "nodeGroupConfiguration": [{"replicaCount": 1, "replicaAvailabilityZones": ["b"]}]}"#,
];

fn running() -> impl Strategy<Value = Running> {
    let all = vec![
        named("replicationGroupId", &[json!("group-1")]),
        named("engineVersion", &[json!("7.0"), json!("7.1")]),
        named("port", &[json!(6400)]),
        named("autoMinorVersionUpgrade", &[json!(true), json!(false)]),
        named("notificationTopicArn", &[json!("arn:aws:sns:x")]),
        named("preferredMaintenanceWindow", &[json!("sun:05:00-sun:07:00")]),
        named("snapshotWindow", &[json!("08:00-09:00")]),
        named("snapshotRetentionLimit", &[json!(0)]),
        named("transitEncryptionEnabled", &[json!(false)]),
        named("deletionPolicy", &[json!("Retain"), json!("Delete")]),
        named("updatePolicy", &[json!({"useOnlineResharding": false}), json!({})]),
        named("userGroupIds", &[json!([])]),
        kubernetes(),
        tags().boxed(),
    ];
    let shape = prop::sample::select(SHAPES.to_vec());
    let guards = (prop::option::of(guard("guard")), prop::option::of(guard("sg-0123")));
    let others = (prop::option::of(parameters()), prop::option::of(subnets()), guards, prop::bool::ANY);
    (words(), shape, sheet(all), others).prop_map(|(description, shape, rest, others)| {
        let (parameters, subnets, (guard, other), outside) = others;
        let mut spec: Value = serde_json::from_str(shape).unwrap();
        let fields = spec.as_object_mut().unwrap();
        fields.extend(rest);
        fields.insert("replicationGroupDescription".into(), json!(description));
        fields.insert("cacheNodeType".into(), json!("cache.t4g.micro"));
        fields.insert("engine".into(), json!("redis"));
        // The parameter group's cluster-enabled is no, so it fits only where cluster mode is not asked for.
        let parameters = parameters.filter(|_| shape != SHAPES[2] && shape != SHAPES[3]);
        if parameters.is_some() {
            fields.insert("cacheParameterGroupName".into(), json!("my.parameters"));
        }
        // With zones of its own the group's must be among them.
        let subnets = subnets.filter(|_| !shape.contains("vailability") && !shape.contains("AZs"));
        if subnets.is_some() {
            fields.insert("cacheSubnetGroupName".into(), json!("subnets"));
        }
        let guards: Vec<Value> = guard.into_iter().chain(other).collect();
        let mut ids: Vec<Value> = guards.iter().map(|guard| guard["metadata"]["name"].clone()).collect();
        if outside {
            ids.push(json!("not.found"));
        }
        if !ids.is_empty() {
            fields.insert("securityGroupIds".into(), json!(ids));
        }
        Running { group: object("ReplicationGroup", "group-1", spec), parameters, subnets, guards }
    })
}

/// Converts the exported text.
fn back(exported: &Exported, format: TemplateFormat) -> Converted {
    let text = template(exported, format);
    convert(&text, &options("exported")).unwrap_or_else(|failure| panic!("{text}\n{failure}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
    ))]

    #[test]
    fn what_was_exported_converts_to_what_it_was(running in running()) {
        let exported = running.export();
        for format in [TemplateFormat::Yaml, TemplateFormat::Json] {
            let converted = back(&exported, format);
            prop_assert_eq!(running.specs(), specs(&converted));
            admitted(&converted);
        }
        let lost = exported.warnings.iter().find(|warning| warning.contains("cannot be told"));
        prop_assert_eq!(lost, None);
    }
}

fn whole() -> Running {
    let label = |name: &str| {
        let key = format!("security-group.elasticache.kagami.dev/{name}");
        json!({"podSelector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}})
    };
    Running {
        group: object(
            "ReplicationGroup",
            "sessions",
            json!({
                "replicationGroupDescription": "web sessions", "engine": "redis", "engineVersion": "7.1",
                "cacheNodeType": "cache.t4g.micro", "cacheParameterGroupName": "mine", "cacheSubnetGroupName": "private",
                "securityGroupIds": ["cache", "sg-outside"], "deletionPolicy": "Retain",
                "updatePolicy": {"useOnlineResharding": true},
                "nodeGroupConfiguration": [
                    {"nodeGroupId": "0001", "primaryAvailabilityZone": "a", "replicaAvailabilityZones": ["b"], "replicaCount": 1},
                    {"nodeGroupId": "0002", "primaryAvailabilityZone": "b", "replicaAvailabilityZones": ["a"], "replicaCount": 1}],
                "kubernetes": {"storage": {"size": "8Gi"}, "resources": {"limits": {"memory": "256Mi"}}},
                "tags": [{"key": "team", "value": "web"}],
            }),
        ),
        parameters: Some(object(
            "ParameterGroup",
            "mine",
            json!({"cacheParameterGroupFamily": "redis7", "description": "ours",
                "properties": {"cluster-enabled": "yes", "maxmemory-policy": "allkeys-lru"}}),
        )),
        subnets: Some(object(
            "SubnetGroup",
            "private",
            json!({"description": "two zones", "zones": ["a", "b"]}),
        )),
        guards: vec![object(
            "SecurityGroup",
            "cache",
            json!({"groupDescription": "clients", "ingress": [
                {"from": label("clients"), "fromPort": 6379, "toPort": 6379},
                {"from": {"podSelector": {"matchLabels": {"app": "web"}}}},
                {"from": {"ipBlock": {"cidr": "10.0.0.0/8"}}, "description": "the office"},
            ]}),
        )],
    }
}

#[test]
fn the_template_of_a_group_is_as_it_is_written_down() {
    let exported = whole().export();
    let mut text = template(&exported, TemplateFormat::Yaml);
    exported.warnings.iter().for_each(|warning| text.push_str(&format!("# {warning}\n")));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/exported.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}

#[test]
fn what_cannot_be_told_is_told() {
    let mut running = whole();
    running.group["spec"]["snapshotName"] = json!("");
    let warnings = running.export().warnings;
    assert!(
        warnings.iter().any(
            |warning| warning.starts_with("snapshotName of the ReplicationGroup sessions cannot be told")
        ),
        "{warnings:#?}"
    );
}

#[test]
fn metadata_says_only_what_no_property_can() {
    for (metadata, sentence) in [
        ("{port: 6400}", "Group.Metadata.elasticache.kagami.dev.port: what properties can say"),
        ("{kubernets: {}}", "did you mean kubernetes?"),
        ("{name: other}", "group is the id, and the name in Metadata is other"),
        ("{name: 'A b'}", "\"A b\" is not a name on Kubernetes"),
        ("[]", "expected a mapping, found a list"),
        ("{kubernetes: {storage: {size: 8Gi, fast: true}}}", "there is no such field"),
        ("{kubernetes: {image: '{{resolve:secretsmanager:x}}'}}", "a secret cannot stand here"),
    ] {
        let text = format!(
            "Resources:\n  Group:\n    Type: AWS::ElastiCache::ReplicationGroup\n    Metadata: {{elasticache.kagami.dev: {metadata}}}\n    \
             Properties: {{ReplicationGroupDescription: d, ReplicationGroupId: Group, CacheNodeType: cache.t4g.micro}}\n"
        );
        let failure = convert(&text, &options("t")).unwrap_err();
        let told: Vec<String> = failure.problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|problem| problem.contains(sentence)), "{metadata}: {told:#?}");
    }
}
