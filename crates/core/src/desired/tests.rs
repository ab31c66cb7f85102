use kagami_api::quantity::Quantity;
use kagami_api::v1alpha1::{ParameterGroupSpec, SecurityGroupSpec, SubnetGroupSpec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The spec of the reference template: one shard with one replica, cluster mode enabled, zones a and d.
fn reference() -> Value {
    json!({
        "replicationGroupDescription": "the reference",
        "replicationGroupId": "Dva-03-004-ReplicationGroup",
        "automaticFailoverEnabled": true,
        "autoMinorVersionUpgrade": true,
        "cacheNodeType": "cache.t4g.micro",
        "cacheParameterGroupName": "default.redis6.x.cluster.on",
        "cacheSubnetGroupName": "subnets",
        "engine": "redis",
        "engineVersion": "6.2",
        "multiAZEnabled": true,
        "port": 6379,
        "numNodeGroups": 1,
        "nodeGroupConfiguration": [{
            "primaryAvailabilityZone": "ap-northeast-1a",
            "replicaAvailabilityZones": ["ap-northeast-1d"],
            "replicaCount": 1,
        }],
        "securityGroupIds": ["clients"],
    })
}

fn small(more: Value) -> Value {
    let mut spec = json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro" });
    merge(&mut spec, more);
    spec
}

fn merge(spec: &mut Value, more: Value) {
    for (key, value) in more.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key] = value.clone();
        }
    }
}

fn group(name: &str, spec: Value) -> ReplicationGroup {
    let mut rg = ReplicationGroup::new(name, serde_json::from_value(spec).unwrap());
    rg.metadata.namespace = Some("shop".to_owned());
    rg.metadata.uid = Some("u-1".to_owned());
    rg.metadata.generation = Some(3);
    rg
}

fn subnet_group(zones: &[&str]) -> SubnetGroup {
    let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
    SubnetGroup::new("subnets", SubnetGroupSpec { description: "d".to_owned(), zones, ..Default::default() })
}

fn parameter_group(family: &str, properties: &[(&str, &str)]) -> ParameterGroup {
    let spec = ParameterGroupSpec {
        cache_parameter_group_family: family.to_owned(),
        description: "d".to_owned(),
        properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    };
    ParameterGroup::new("mine", spec)
}

fn security_group(ingress: Value) -> SecurityGroup {
    let ingress = serde_json::from_value(ingress).unwrap();
    let spec = SecurityGroupSpec { group_description: "d".to_owned(), ingress, tags: None };
    SecurityGroup::new("clients", spec)
}

/// The reference's own surroundings: two zones, and one peer that may connect.
fn references() -> References {
    let clients = security_group(json!([
        { "from": { "podSelector": { "matchLabels": { "app": "shop" } } }, "fromPort": 6379, "toPort": 6379 },
    ]));
    References {
        parameter_group: None,
        subnet_group: Some(subnet_group(&["ap-northeast-1a", "ap-northeast-1d"])),
        security_groups: BTreeMap::from([("clients".to_owned(), clients)]),
    }
}

fn accepted_with(spec: Value, refs: &References) -> Desired {
    resolve(&group("g", spec), refs, &Tables::default()).unwrap()
}

fn accepted(spec: Value) -> Desired {
    accepted_with(spec, &References::default())
}

fn refused_with(spec: Value, refs: &References) -> Vec<Refusal> {
    resolve(&group("g", spec), refs, &Tables::default()).unwrap_err()
}

/// The only refusal of a spec.
fn refused(spec: Value) -> Refusal {
    let refusals = refused_with(spec, &References::default());
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    refusals.into_iter().next().unwrap()
}

fn refused_for(more: Value) -> (Reason, String, String) {
    let refusal = refused(small(more));
    (refusal.reason, refusal.property, refusal.message)
}

fn nodes(desired: &Desired) -> Vec<(String, Option<String>)> {
    desired.nodes().map(|(_, node)| (node.name.clone(), node.zone.clone())).collect()
}

fn slots(desired: &Desired) -> Vec<String> {
    desired.shards.iter().map(|shard| shard.slots.to_string()).collect()
}

#[test]
fn the_reference_template_is_a_cluster_of_one_shard_with_a_replica_in_the_other_zone() {
    let rg = group("dva-03-004-replicationgroup", reference());
    let desired = resolve(&rg, &references(), &Tables::default()).unwrap();
    assert_eq!(desired.cluster_mode, ClusterMode::Enabled);
    assert_eq!(desired.engine.to_string(), "redis 6.2");
    assert_eq!(desired.image, "docker.io/library/redis:6.2");
    assert_eq!(desired.port, 6379);
    assert_eq!(desired.bus_port, 16379);
    assert!(desired.multi_az && desired.automatic_failover);
    assert_eq!(slots(&desired), ["0-16383"]);
    assert_eq!(
        nodes(&desired),
        [
            ("dva-03-004-replicationgroup-0001-001".to_owned(), Some("ap-northeast-1a".to_owned())),
            ("dva-03-004-replicationgroup-0001-002".to_owned(), Some("ap-northeast-1d".to_owned())),
        ]
    );
    assert_eq!(desired.memory_bytes, 512 << 20);
    assert_eq!(desired.maxmemory_bytes, 402_653_175);
    assert_eq!(desired.cpu_request_millis, 200);
    assert_eq!(desired.cpu_limit_millis, None);
    assert_eq!(desired.parameter_group_name, "default.redis6.x.cluster.on");
    assert_eq!(desired.parameters.get("maxmemory-policy").map(String::as_str), Some("volatile-lru"));
    assert_eq!(desired.ingress.as_ref().map(Vec::len), Some(1));
    assert_eq!((desired.namespace.as_str(), desired.uid.as_str(), desired.generation), ("shop", "u-1", 3));
    let recorded: Vec<&str> = desired.not_in_effect.iter().map(|entry| entry.property.as_str()).collect();
    assert_eq!(recorded, ["autoMinorVersionUpgrade"]);
    assert_eq!(desired.address(&desired.name), "dva-03-004-replicationgroup.shop.svc.cluster.local");
}

#[test]
fn how_cluster_mode_is_decided() {
    use ClusterMode::{Disabled, Enabled};
    let custom = |value: &str| References {
        parameter_group: Some(parameter_group("redis7", &[("cluster-enabled", value)])),
        ..References::default()
    };
    let none = References::default();
    for (more, refs, mode) in [
        (json!({}), &none, Disabled),
        (json!({ "numNodeGroups": 1 }), &none, Disabled),
        (json!({ "numNodeGroups": 2 }), &none, Enabled),
        (json!({ "nodeGroupConfiguration": [{}] }), &none, Disabled),
        (json!({ "nodeGroupConfiguration": [{}, {}] }), &none, Enabled),
        (json!({ "clusterMode": "enabled" }), &none, Enabled),
        (json!({ "clusterMode": "disabled", "numCacheClusters": 2 }), &none, Disabled),
        (json!({ "cacheParameterGroupName": "default.redis7", "numNodeGroups": 1 }), &none, Disabled),
        (
            json!({ "cacheParameterGroupName": "default.redis7.cluster.on", "numNodeGroups": 1 }),
            &none,
            Enabled,
        ),
        (
            json!({ "cacheParameterGroupName": "default.redis7.cluster.on", "numNodeGroups": 3 }),
            &none,
            Enabled,
        ),
        (json!({ "cacheParameterGroupName": "Mine", "numNodeGroups": 1 }), &custom("yes"), Enabled),
        (json!({ "cacheParameterGroupName": "mine" }), &custom("no"), Disabled),
    ] {
        assert_eq!(accepted_with(small(more.clone()), refs).cluster_mode, mode, "{more}");
    }
}

#[test]
fn a_mode_that_contradicts_its_parameter_group_or_its_shards_is_refused() {
    let (reason, property, message) = refused_for(
        json!({ "clusterMode": "disabled", "cacheParameterGroupName": "default.redis7.cluster.on" }),
    );
    assert_eq!((reason, property.as_str()), (Reason::InvalidParameterCombination, "clusterMode"));
    assert!(
        message.starts_with("Cluster mode should be disabled in parameter group, but found it is enabled.")
    );
    for more in [
        json!({ "clusterMode": "disabled", "numNodeGroups": 2 }),
        json!({ "cacheParameterGroupName": "default.redis7", "numNodeGroups": 2 }),
    ] {
        assert!(refused_for(more).2.contains("exactly one node group"));
    }
}

#[test]
fn a_group_with_cluster_mode_disabled_has_one_shard_without_slots() {
    for more in [json!({ "numCacheClusters": 3 }), json!({ "replicasPerNodeGroup": 2 })] {
        let desired = accepted(small(more));
        assert_eq!(slots(&desired), [""]);
        assert_eq!(desired.nodes().count(), 3);
        assert_eq!(desired.shards[0].id, "0001");
        assert_eq!(desired.parameter_group_name, "default.redis7");
        assert!(desired.not_in_effect.is_empty());
    }
    let one = accepted(small(json!({})));
    assert_eq!(one.nodes().count(), 1);
    assert!(!one.automatic_failover);
    assert!(one.not_in_effect.is_empty());
}

#[test]
fn the_zones_of_a_group_with_cluster_mode_disabled_are_those_preferred() {
    let more = json!({ "numCacheClusters": 2, "automaticFailoverEnabled": true, "multiAZEnabled": true,
        "preferredCacheClusterAZs": ["a", "c"] });
    let zones: Vec<Option<String>> =
        nodes(&accepted(small(more))).into_iter().map(|(_, zone)| zone).collect();
    assert_eq!(zones, [Some("a".to_owned()), Some("c".to_owned())]);
}

#[test]
fn three_shards_with_a_replica_each_are_six_nodes_and_all_slots() {
    let desired = accepted(small(json!({ "numNodeGroups": 3, "replicasPerNodeGroup": 1 })));
    assert_eq!(desired.cluster_mode, ClusterMode::Enabled);
    assert_eq!(slots(&desired), ["0-5460", "5461-10921", "10922-16383"]);
    let names: Vec<String> = nodes(&desired).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["g-0001-001", "g-0001-002", "g-0002-001", "g-0002-002", "g-0003-001", "g-0003-002"]);
    assert_eq!(desired.parameter_group_name, "default.redis7.cluster.on");
    assert!(desired.automatic_failover);
}

#[test]
fn six_shards_without_replicas_fail_over_by_word_only() {
    let desired = accepted(small(json!({ "numNodeGroups": 6, "automaticFailoverEnabled": true })));
    assert_eq!(desired.shards.len(), 6);
    assert_eq!(desired.nodes().count(), 6);
    assert_eq!(desired.shards[5].id, "0006");
}

#[test]
fn slots_and_ids_that_are_given_are_taken() {
    let desired = accepted(small(json!({
        "clusterMode": "enabled",
        "nodeGroupConfiguration": [
            { "nodeGroupId": "2", "slots": "0-99,200-16383" },
            { "slots": "100-199", "replicaCount": 2 },
        ],
    })));
    let ids: Vec<&str> = desired.shards.iter().map(|shard| shard.id.as_str()).collect();
    assert_eq!(ids, ["0002", "0001"]);
    assert_eq!(slots(&desired), ["0-99,200-16383", "100-199"]);
    assert_eq!(desired.shards[1].nodes.len(), 3);
}

#[test]
fn slots_that_are_no_exact_cover_are_refused() {
    let slots = |first: &str, second: &str| {
        refused_for(json!({ "nodeGroupConfiguration": [{ "slots": first }, { "slots": second }] })).2
    };
    assert!(slots("0-99", "100-16382").contains("leave out 16383"));
    assert!(slots("0-100", "100-16383").contains("overlap: 100"));
    assert!(slots("0-100", "101-16384").contains("16384 is not a slot"));
    let partly = json!({ "nodeGroupConfiguration": [{ "slots": "0-16383" }, {}] });
    assert!(refused_for(partly).2.contains("to every node group or to none"));
}

#[test]
fn counts_that_do_not_agree_are_refused() {
    for (more, word) in [
        (json!({ "numCacheClusters": 2, "numNodeGroups": 2 }), "more than one node group"),
        (json!({ "numCacheClusters": 2, "replicasPerNodeGroup": 2 }), "leave one out"),
        (json!({ "numNodeGroups": 3, "nodeGroupConfiguration": [{}] }), "as many entries as numNodeGroups"),
        (json!({ "numCacheClusters": 7 }), "must be 1 to 6"),
        (json!({ "nodeGroupConfiguration": [{ "nodeGroupId": "1" }, { "nodeGroupId": "0001" }] }), "same"),
        (json!({ "numNodeGroups": 100, "replicasPerNodeGroup": 5 }), "at most 500 nodes"),
    ] {
        let refusals = refused_with(small(more.clone()), &References::default());
        let message = refusals[0].message.replace("the nodeGroupId 0001", "the same nodeGroupId");
        assert!(message.contains(word), "{more}: {message}");
    }
    accepted(small(json!({ "numCacheClusters": 2, "replicasPerNodeGroup": 1 })));
}

#[test]
fn zone_lists_of_the_wrong_length_are_refused() {
    let preferred = refused_for(json!({ "numCacheClusters": 2, "preferredCacheClusterAZs": ["a"] }));
    assert_eq!(preferred.1, "preferredCacheClusterAZs");
    assert!(preferred.2.contains("must match the number of preferred availability zones"));
    let replicas = refused_for(json!({ "clusterMode": "enabled",
        "nodeGroupConfiguration": [{ "replicaCount": 2, "replicaAvailabilityZones": ["a"] }] }));
    assert!(replicas.2.contains("must match replicaCount"));
    let shards = refused_for(json!({ "numNodeGroups": 2, "preferredCacheClusterAZs": ["a"] }));
    assert!(shards.2.starts_with("PreferredCacheClusterAZs can only be specified for one node group."));
}

#[test]
fn multi_az_needs_replicas_in_several_zones() {
    let refs =
        |zones: &[&str]| References { subnet_group: Some(subnet_group(zones)), ..References::default() };
    let mut spec = reference();
    merge(&mut spec, json!({ "replicationGroupId": null, "securityGroupIds": null }));
    let one_zone =
        json!([{ "primaryAvailabilityZone": "a", "replicaAvailabilityZones": ["a"], "replicaCount": 1 }]);
    merge(&mut spec, json!({ "nodeGroupConfiguration": one_zone }));
    let refusals = refused_with(spec.clone(), &refs(&["a", "c"]));
    assert!(refusals[0].message.contains("at least two zones"), "{refusals:?}");
    merge(&mut spec, json!({ "nodeGroupConfiguration": [{ "replicaCount": 1 }] }));
    accepted_with(spec.clone(), &refs(&["a", "c"]));
    assert!(refused_with(spec.clone(), &refs(&["a"]))[0].message.contains("has only a"));
    merge(&mut spec, json!({ "nodeGroupConfiguration": [{ "replicaCount": 0 }] }));
    assert!(
        refused_with(spec, &refs(&["a", "c"]))[0]
            .message
            .contains("at least one replica in every node group")
    );
}

#[test]
fn a_zone_outside_the_subnet_group_is_refused() {
    let refs = References { subnet_group: Some(subnet_group(&["a", "c"])), ..References::default() };
    let spec = small(json!({ "cacheSubnetGroupName": "subnets", "preferredCacheClusterAZs": ["x"] }));
    assert!(refused_with(spec, &refs)[0].message.contains("zone x is not one of the subnet group's: a, c"));
}

#[test]
fn failover_is_where_elasticache_has_it() {
    let alone = refused_for(json!({ "automaticFailoverEnabled": true }));
    assert!(alone.2.starts_with("When using automatic failover, there must be at least 2 cache clusters"));
    // Valkey's default is on, also where it cannot be.
    assert_eq!(refused_for(json!({ "engine": "valkey" })).1, "automaticFailoverEnabled");
    assert!(
        !accepted(small(json!({ "engine": "valkey", "automaticFailoverEnabled": false }))).automatic_failover
    );
    let clustered = refused_for(json!({ "numNodeGroups": 2, "automaticFailoverEnabled": false }));
    assert!(
        clustered
            .2
            .starts_with("Redis with cluster mode enabled cannot be created with auto failover turned off.")
    );
    let off = json!({ "numCacheClusters": 2, "automaticFailoverEnabled": false });
    assert!(!accepted(small(off)).automatic_failover);
    // Where nothing is said.
    for (more, on) in [
        (json!({ "numCacheClusters": 2 }), false),
        (json!({ "replicasPerNodeGroup": 2 }), false),
        (json!({ "engine": "valkey", "numCacheClusters": 2 }), true),
        (json!({ "numNodeGroups": 2 }), true),
        (json!({ "clusterMode": "enabled" }), true),
    ] {
        assert_eq!(accepted(small(more.clone())).automatic_failover, on, "{more}");
    }
    let zoned = |more: Value| {
        let mut spec = json!({ "numCacheClusters": 2, "multiAZEnabled": true });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    for more in [json!({}), json!({ "automaticFailoverEnabled": false })] {
        let refused = refused_for(zoned(more));
        assert!(refused.2.contains("multiAZEnabled needs automatic failover"), "{refused:?}");
    }
    assert!(accepted(small(zoned(json!({ "engine": "valkey" })))).multi_az);
    assert!(accepted(small(zoned(json!({ "automaticFailoverEnabled": true })))).multi_az);
}

#[test]
fn slots_of_a_group_with_cluster_mode_disabled_are_recorded() {
    let one = |mode: &str| json!({ "clusterMode": mode, "nodeGroupConfiguration": [{ "slots": "0-16383" }] });
    let desired = accepted(small(one("disabled")));
    assert_eq!(slots(&desired), [""]);
    assert_eq!(desired.not_in_effect[0].property, "nodeGroupConfiguration");
    assert!(desired.not_in_effect[0].sentence.contains("with cluster mode disabled there are none"));
    assert!(accepted(small(one("enabled"))).not_in_effect.is_empty());
}

#[test]
fn a_primary_can_be_named_where_nothing_else_moves_the_role() {
    let named = |primary: &str, failover: bool| json!({ "numCacheClusters": 2, "automaticFailoverEnabled": failover, "primaryClusterId": primary });
    for name in ["g-0001-002", "g-002"] {
        assert_eq!(accepted(small(named(name, false))).primary.as_deref(), Some("g-0001-002"));
    }
    assert!(refused_for(named("g-002", true)).2.contains("needs automaticFailoverEnabled: false"));
    let unsaid = json!({ "numCacheClusters": 2, "primaryClusterId": "g-002" });
    assert_eq!(accepted(small(unsaid)).primary.as_deref(), Some("g-0001-002"));
    for other in ["g-003", "other-0001-002", "g-0"] {
        assert!(refused_for(named(other, false)).2.contains("one of g-0001-001, g-0001-002"));
    }
    let clustered = refused_for(json!({ "numNodeGroups": 2, "primaryClusterId": "g-0001-001" }));
    assert!(clustered.2.contains("not used with cluster mode enabled"));
}

#[test]
fn what_is_absent_is_named_and_waited_for() {
    for (more, reason) in [
        (json!({ "cacheParameterGroupName": "mine" }), Reason::CacheParameterGroupNotFound),
        (json!({ "cacheParameterGroupName": "default.redis3.2" }), Reason::CacheParameterGroupNotFound),
        (json!({ "cacheSubnetGroupName": "none" }), Reason::CacheSubnetGroupNotFound),
        (json!({ "securityGroupIds": ["none"] }), Reason::SecurityGroupNotFound),
    ] {
        assert_eq!(refused_for(more.clone()).0, reason, "{more}");
    }
}

#[test]
fn a_parameter_group_must_be_of_the_family_and_give_only_what_it_may() {
    let with = |group: ParameterGroup| References { parameter_group: Some(group), ..References::default() };
    let spec = || small(json!({ "engineVersion": "6.2", "cacheParameterGroupName": "mine" }));
    let wrong = refused_with(spec(), &with(parameter_group("redis7", &[])));
    assert_eq!(
        wrong[0].message,
        "Expected a parameter group of family redis6.x but found one of family redis7"
    );
    let unknown =
        refused_with(spec(), &with(parameter_group("redis6.x", &[("nonsense", "1"), ("timeout", "3")])));
    assert_eq!(unknown.len(), 2);
    let built_in =
        refused_for(json!({ "engineVersion": "6.2", "cacheParameterGroupName": "default.redis7" }));
    assert_eq!(built_in.0, Reason::InvalidParameterCombination);
}

#[test]
fn an_unknown_version_is_told_without_blaming_its_parameter_group() {
    for name in ["default.redis6.x", "default.redis6.x.cluster.on"] {
        refused_for(json!({ "engineVersion": "5.0.6", "cacheParameterGroupName": name }));
    }
}

#[test]
fn reserved_memory_decides_maxmemory() {
    let group = parameter_group("redis7", &[("reserved-memory-percent", "50")]);
    let refs = References { parameter_group: Some(group), ..References::default() };
    let desired = accepted_with(small(json!({ "cacheParameterGroupName": "mine" })), &refs);
    assert_eq!(desired.maxmemory_bytes, (512 << 20) / 100 * 50);
    let all = parameter_group("redis7", &[("reserved-memory-percent", "100")]);
    let refs = References { parameter_group: Some(all), ..References::default() };
    // maxmemory 0 would mean no limit at all.
    let refusals = refused_with(small(json!({ "cacheParameterGroupName": "mine" })), &refs);
    assert!(refusals[0].message.contains("leaves no memory"));
}

#[test]
fn versions_are_those_of_the_table() {
    for (more, engine, image) in [
        (json!({}), "redis 7.1", "docker.io/library/redis:7.0"),
        (json!({ "engineVersion": "6.x" }), "redis 6.2", "docker.io/library/redis:6.2"),
        (json!({ "engineVersion": "7.1" }), "redis 7.1", "docker.io/library/redis:7.0"),
        (json!({ "engine": "valkey", "numCacheClusters": 2 }), "valkey 9.1", "docker.io/valkey/valkey:9.1"),
        (
            json!({ "engine": "valkey", "engineVersion": "8.2", "numCacheClusters": 2 }),
            "valkey 8.2",
            "docker.io/valkey/valkey:8.1",
        ),
    ] {
        let desired = accepted(small(more));
        assert_eq!((desired.engine.to_string().as_str(), desired.image.as_str()), (engine, image));
    }
    for version in ["6.2.6", "5.0.6", "9.9", "7", "x", "", "6.-2", "é.1"] {
        let refusal = refused_for(json!({ "engineVersion": version }));
        assert_eq!(refusal.1, "engineVersion", "{version}");
        assert!(refusal.2.contains("6.2, 7.0, 7.1"), "{}", refusal.2);
    }
}

#[test]
fn the_operators_table_adds_versions_and_aliases_stay() {
    let tables: Tables = serde_json::from_value(json!({
        "clusterDomain": "corp.local",
        "imagePullPolicy": "Never",
        "engineImages": { "redis 6.2": "r62", "redis 7.0": "r70", "redis 8.6": "r86", "nonsense": "x" },
        "nodeTypes": { "cache.t4g.micro": { "memory": "128Mi", "cpu": "50m" }, "tiny": { "memory": "64Mi" }, "bad": {},
            "few": { "memory": "64Mi", "maxclients": 500 }, "none": { "memory": "64Mi", "maxclients": 5 } },
    }))
    .unwrap();
    let resolved = |more: Value| resolve(&group("g", small(more)), &References::default(), &tables);
    let newest = resolved(json!({})).unwrap();
    assert_eq!((newest.engine.to_string().as_str(), newest.image.as_str()), ("redis 8.6", "r86"));
    assert_eq!(newest.family, Family::Redis7);
    assert_eq!(newest.image_pull_policy.as_deref(), Some("Never"));
    assert_eq!(newest.cluster_domain, "corp.local");
    assert_eq!((newest.memory_bytes, newest.cpu_request_millis), (128 << 20, 50));
    assert_eq!(resolved(json!({ "engineVersion": "7.1" })).unwrap().image, "r70");
    assert_eq!(resolved(json!({ "cacheNodeType": "tiny" })).unwrap().memory_bytes, 64 << 20);
    assert!(resolved(json!({ "cacheNodeType": "bad" })).unwrap_err()[0].message.contains("no memory"));
    assert_eq!(newest.maxclients, Some(20_000));
    assert_eq!(resolved(json!({ "cacheNodeType": "few" })).unwrap().maxclients, Some(500));
    let none = resolved(json!({ "cacheNodeType": "none" })).unwrap_err();
    assert!(none[0].message.contains("must be 100 to 65000"), "{}", none[0]);
    assert!(serde_json::from_value::<Tables>(json!({ "nodeTyps": {} })).is_err());
}

#[test]
fn memory_and_cpu_come_from_the_node_type_or_from_what_is_given() {
    let unknown = refused_for(json!({ "cacheNodeType": "cache.nonsense" }));
    assert_eq!((unknown.0, unknown.1.as_str()), (Reason::InvalidParameterValue, "cacheNodeType"));
    let slip = refused_for(json!({ "cacheNodeType": "cache.t4g.mirco" }));
    assert_eq!(
        slip.2,
        "Invalid Cache Node Type: cache.t4g.mirco. Did you mean cache.t4g.micro? The operator's table nodeTypes can add it."
    );
    let none = refused(json!({ "replicationGroupDescription": "d" }));
    assert!(none.message.contains("kubernetes.resources.limits.memory"));
    let large = accepted(small(json!({ "cacheNodeType": "cache.m6g.large" })));
    assert_eq!(large.memory_bytes % (1 << 20), 0);
    assert_eq!(large.cpu_request_millis, 2000);
    assert_eq!(large.maxclients, Some(65_000));
    assert!(crate::engine::directives(&large).contains(&("maxclients".into(), "65000".into())));
    // It holds from the start of an engine on: changed at run time it could fail for want of files.
    assert!(!crate::engine::config(&large).0.contains_key("maxclients"));
    let own = accepted(json!({ "replicationGroupDescription": "d", "kubernetes": {
        "resources": { "requests": { "cpu": "250m" }, "limits": { "cpu": 1, "memory": "1Gi" } },
        "storage": { "size": "4Gi", "storageClassName": "fast" } } }));
    assert_eq!((own.memory_bytes, own.cpu_request_millis, own.cpu_limit_millis), (1 << 30, 250, Some(1000)));
    assert_eq!(own.maxclients, None, "the engine's own");
    assert_eq!(own.storage, Some(Storage { size: "4Gi".to_owned(), class: Some("fast".to_owned()) }));
    for (kubernetes, property) in [
        (json!({ "resources": { "limits": { "memory": "lots" } } }), "kubernetes.resources.limits.memory"),
        (json!({ "resources": { "limits": { "memory": "1Mi" } } }), "kubernetes.resources.limits.memory"),
        (
            json!({ "resources": { "requests": { "memory": "1Gi" }, "limits": { "memory": "2Gi" } } }),
            "kubernetes.resources.requests.memory",
        ),
        (
            json!({ "resources": { "requests": { "cpu": 2 }, "limits": { "cpu": 1 } } }),
            "kubernetes.resources.requests.cpu",
        ),
        (json!({ "storage": { "size": "0" } }), "kubernetes.storage.size"),
        (json!({ "podLabels": { "app.kubernetes.io/name": "x" } }), "kubernetes.podLabels"),
        (json!({ "podLabels": { "elasticache.kagami.dev/role": "primary" } }), "kubernetes.podLabels"),
        (json!({ "podLabels": { "a": "b c" } }), "kubernetes.podLabels"),
        (json!({ "nodeSelector": { "disk": "a b" } }), "kubernetes.nodeSelector"),
        (json!({ "nodeSelector": { "/disk": "ssd" } }), "kubernetes.nodeSelector"),
        (json!({ "imagePullSecrets": [{ "name": "Pull" }] }), "kubernetes.imagePullSecrets"),
        (
            json!({ "storage": { "size": "1Gi", "storageClassName": "a/b" } }),
            "kubernetes.storage.storageClassName",
        ),
        (json!({ "priorityClassName": "-" }), "kubernetes.priorityClassName"),
        (json!({ "podAnnotations": { "elasticache.kagami.dev/x": "" } }), "kubernetes.podAnnotations"),
    ] {
        assert_eq!(refused_for(json!({ "kubernetes": kubernetes })).1, property);
    }
}

#[test]
fn the_agents_ports_are_not_for_clients() {
    for port in [8379, 8380] {
        assert!(refused_for(json!({ "port": port })).2.contains("the agent of every node listens there"));
    }
    for port in [-1, 0, 80, 65_536, 4_000_000] {
        assert!(refused_for(json!({ "port": port })).2.contains("1150 to 65535"), "{port}");
    }
}

#[test]
fn a_bus_port_is_the_groups_own_and_always_the_same() {
    let own = own_bus_port("shop", "g", 6379);
    assert_eq!(own, own_bus_port("shop", "g", 6380));
    assert_ne!(own, own_bus_port("shop", "h", 6379));
    assert_ne!(own_bus_port("a", "b-c", 6379), own_bus_port("a-b", "c", 6379));
    assert_eq!(own_bus_port("shop", "g", own), own + 1);
    // This is what running groups of earlier releases use: it must never change.
    assert_eq!(own, 20_799);
    let old = refused_for(json!({ "engineVersion": "6.2", "clusterMode": "enabled", "port": 60000 }));
    assert!(old.2.contains("at most 55535"));
    accepted(small(json!({ "engineVersion": "6.2", "port": 60000 })));
}

#[test]
fn security_groups_open_only_the_ports_they_name() {
    let clients = security_group(json!([
        { "from": { "ipBlock": { "cidr": "10.0.0.0/8" } }, "fromPort": 6379 },
        { "from": { "ipBlock": { "cidr": "10.1.0.0/16" } }, "fromPort": 7000, "toPort": 7100 },
        { "from": { "ipBlock": { "cidr": "10.2.0.0/16" } } },
    ]));
    let refs = References {
        security_groups: BTreeMap::from([("clients".to_owned(), clients)]),
        ..References::default()
    };
    let peers = |port: i32| {
        accepted_with(small(json!({ "securityGroupIds": ["clients"], "port": port })), &refs)
            .ingress
            .unwrap()
            .len()
    };
    assert_eq!((peers(6379), peers(7050), peers(7101)), (2, 2, 1));
    assert_eq!(accepted(small(json!({ "securityGroupIds": [] }))).ingress, None);
}

#[test]
fn whatever_asks_for_what_is_not_built_is_refused_with_its_sentence() {
    for (more, property) in [
        (json!({ "transitEncryptionEnabled": true }), "transitEncryptionEnabled"),
        (json!({ "transitEncryptionMode": "required" }), "transitEncryptionMode"),
        (json!({ "authTokenSecretRef": { "name": "s", "key": "k" } }), "authTokenSecretRef"),
        (json!({ "userGroupIds": ["u"] }), "userGroupIds"),
        (json!({ "atRestEncryptionEnabled": true }), "atRestEncryptionEnabled"),
        (json!({ "kmsKeyId": "k" }), "kmsKeyId"),
        (json!({ "dataTieringEnabled": true }), "dataTieringEnabled"),
        (json!({ "globalReplicationGroupId": "g" }), "globalReplicationGroupId"),
        (json!({ "durability": "sync" }), "durability"),
        (json!({ "snapshotArns": ["arn:aws:s3:::b/k.rdb"] }), "snapshotArns"),
        (json!({ "snapshotName": "s" }), "snapshotName"),
        (json!({ "snapshotRetentionLimit": 1 }), "snapshotRetentionLimit"),
        (json!({ "snapshottingClusterId": "s" }), "snapshottingClusterId"),
        (json!({ "cacheSecurityGroupNames": ["x"] }), "cacheSecurityGroupNames"),
        (json!({ "networkType": "dual_stack" }), "networkType"),
        (json!({ "ipDiscovery": "ipv6" }), "ipDiscovery"),
        (
            json!({ "logDeliveryConfigurations": [{ "logType": "slow-log", "logFormat": "json",
            "destinationType": "cloudwatch-logs", "destinationDetails": {} }] }),
            "logDeliveryConfigurations",
        ),
    ] {
        let refusal = refused_for(more);
        assert_eq!(refusal.1, property);
        assert_eq!(refusal.2, properties::sentence(property));
        assert!(!refusal.2.is_empty());
    }
    let token = refused_for(json!({ "authToken": "0123456789abcdef" }));
    assert_eq!((token.1.as_str(), token.2.as_str()), ("authToken", properties::AUTH_TOKEN_REFUSED));
    assert!(refused_for(json!({ "deletionPolicy": "Snapshot" })).2.contains("Choose Retain or Delete"));
    assert!(refused_for(json!({ "clusterMode": "compatible" })).2.contains("Choose enabled or disabled"));
}

#[test]
fn thousands_of_missing_slots_are_told_in_one_short_sentence() {
    let odd: Vec<String> = (0..300).map(|at| (at * 2).to_string()).collect();
    let spec = json!({ "clusterMode": "enabled", "nodeGroupConfiguration": [{ "slots": odd.join(",") }] });
    let told = refused_for(spec).2;
    assert!(told.ends_with("leave out 1,3,5,7,9,11,13,15 and 292 more ranges."), "{told}");
}

#[test]
fn what_asks_for_nothing_is_met_by_itself() {
    let desired = accepted(small(json!({
        "transitEncryptionEnabled": false, "atRestEncryptionEnabled": false, "dataTieringEnabled": false,
        "durability": "default", "snapshotRetentionLimit": 0, "networkType": "ipv4", "ipDiscovery": "ipv4",
        "userGroupIds": [], "snapshotArns": [], "cacheSecurityGroupNames": [], "logDeliveryConfigurations": [],
        "deletionPolicy": "Retain",
    })));
    assert!(desired.not_in_effect.is_empty());
    assert_eq!(desired.deletion_policy, DeletionPolicy::Retain);
}

#[test]
fn windows_are_recorded_and_must_be_windows() {
    let desired = accepted(small(json!({ "snapshotWindow": "05:00-06:00",
        "preferredMaintenanceWindow": "Sun:06:00-Sun:07:00", "notificationTopicArn": "arn" })));
    assert_eq!(desired.not_in_effect.len(), 3);
    assert_eq!(
        refused_for(json!({ "snapshotWindow": "05:00-05:30" })).2,
        "Snapshot window must be at least 60 minutes."
    );
    let both =
        json!({ "snapshotWindow": "05:00-07:00", "preferredMaintenanceWindow": "sun:06:00-sun:08:00" });
    assert_eq!(refused_for(both).2, "The snapshot window and maintenance window must not overlap.");
}

#[test]
fn several_mistakes_are_told_at_once() {
    let spec = small(json!({ "cacheNodeType": "cache.nonsense", "port": 1, "engineVersion": "1.0",
        "transitEncryptionEnabled": true, "snapshotWindow": "x" }));
    let properties: BTreeMap<String, usize> =
        refused_with(spec, &References::default()).into_iter().map(|refusal| (refusal.property, 1)).collect();
    assert_eq!(properties.len(), 5, "{properties:?}");
}

#[test]
fn a_name_that_is_no_id_is_refused() {
    for name in ["", "A", "a--b", "a.b", &"a".repeat(41)] {
        let refusals =
            resolve(&group(name, small(json!({}))), &References::default(), &Tables::default()).unwrap_err();
        assert_eq!(refusals[0].property, "metadata.name", "{name}");
    }
    assert_eq!(refused_for(json!({ "replicationGroupId": "other" })).1, "replicationGroupId");
}

/// Any value that a field may have, sensible or not.
fn any_spec() -> impl Strategy<Value = Value> {
    let text = || {
        prop_oneof![
            Just(json!("a")),
            Just(json!("default.redis7.cluster.on")),
            Just(json!("default.valkey8")),
            Just(json!("6.2")),
            Just(json!("8.1")),
            Just(json!("cache.t4g.micro")),
            Just(json!("05:00-06:00")),
            Just(json!("sun:05:00-sun:06:00")),
            ".{0,12}".prop_map(Value::from),
        ]
    };
    let number = || prop_oneof![0i32..8, any::<i32>()].prop_map(Value::from);
    let flag = || any::<bool>().prop_map(Value::from);
    let texts = || proptest::collection::vec(text(), 0..4).prop_map(Value::from);
    let quantity =
        || prop_oneof![Just(json!("1Gi")), Just(json!(2)), "[0-9.eEmMiGkT+-]{0,8}".prop_map(Value::from)];
    let amounts = (quantity(), quantity()).prop_map(|(cpu, memory)| json!({ "cpu": cpu, "memory": memory }));
    let kubernetes = (amounts.clone(), amounts, quantity()).prop_map(|(requests, limits, size)| {
        json!({ "resources": { "requests": requests, "limits": limits }, "storage": { "size": size } })
    });
    let node_group = (
        proptest::option::of("[0-9a-z]{0,5}"),
        proptest::option::of(number()),
        proptest::option::of(prop_oneof![
            Just("0-16383".to_owned()),
            Just("0-99".to_owned()),
            "[0-9,-]{0,12}"
        ]),
        proptest::option::of(texts()),
    )
        .prop_map(|(id, count, slots, zones)| {
            let mut group = json!({});
            let fields = [
                ("nodeGroupId", id.map(Value::from)),
                ("replicaCount", count),
                ("slots", slots.map(Value::from)),
                ("replicaAvailabilityZones", zones),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    group[field] = value;
                }
            }
            group
        });
    let fields: Vec<(&'static str, BoxedStrategy<Value>)> = vec![
        ("cacheNodeType", text().boxed()),
        ("cacheParameterGroupName", text().boxed()),
        ("cacheSubnetGroupName", text().boxed()),
        (
            "clusterMode",
            prop_oneof![Just(json!("enabled")), Just(json!("disabled")), Just(json!("compatible"))].boxed(),
        ),
        ("engine", prop_oneof![Just(json!("redis")), Just(json!("valkey"))].boxed()),
        ("engineVersion", text().boxed()),
        ("automaticFailoverEnabled", flag().boxed()),
        ("multiAZEnabled", flag().boxed()),
        ("numCacheClusters", number().boxed()),
        ("numNodeGroups", number().boxed()),
        ("replicasPerNodeGroup", number().boxed()),
        ("port", prop_oneof![number(), Just(json!(6379))].boxed()),
        ("preferredCacheClusterAZs", texts().boxed()),
        ("securityGroupIds", texts().boxed()),
        ("snapshotWindow", text().boxed()),
        ("preferredMaintenanceWindow", text().boxed()),
        ("nodeGroupConfiguration", proptest::collection::vec(node_group, 0..4).prop_map(Value::from).boxed()),
        ("kubernetes", kubernetes.boxed()),
    ];
    let optional: Vec<_> = fields
        .into_iter()
        .map(|(field, strategy)| {
            proptest::option::weighted(0.3, strategy).prop_map(move |value| (field, value))
        })
        .collect();
    optional.prop_map(|fields| {
        let mut spec = small(json!({}));
        for (field, value) in fields {
            if let Some(value) = value {
                spec[field] = value;
            }
        }
        spec
    })
}

proptest! {
    #[test]
    fn no_spec_makes_it_panic_and_what_it_accepts_is_whole(spec in any_spec()) {
        let spec: ReplicationGroupSpec = serde_json::from_value(spec).unwrap();
        let mut rg = ReplicationGroup::new("g", spec);
        rg.metadata.namespace = Some("shop".to_owned());
        let refs = References {
            parameter_group: Some(parameter_group("redis7", &[("cluster-enabled", "yes")])),
            subnet_group: Some(subnet_group(&["a", "c"])),
            security_groups: BTreeMap::from([("a".to_owned(), security_group(json!([])))]),
        };
        match resolve(&rg, &refs, &Tables::default()) {
            Ok(desired) => {
                prop_assert!(!desired.shards.is_empty());
                prop_assert!(desired.shards.iter().all(|shard| !shard.nodes.is_empty()));
                prop_assert!(desired.nodes().count() <= 500);
                prop_assert!(desired.maxmemory_bytes > 0 && desired.maxmemory_bytes < desired.memory_bytes);
                prop_assert_ne!(desired.port, desired.bus_port);
                let union = desired.shards.iter().fold(SlotSet::empty(), |all, shard| all.union(&shard.slots));
                let count: usize = desired.shards.iter().map(|shard| shard.slots.len()).sum();
                prop_assert_eq!(union.len(), count);
                prop_assert_eq!(union.is_full(), desired.cluster_mode == ClusterMode::Enabled);
                if desired.cluster_mode == ClusterMode::Disabled {
                    prop_assert_eq!(desired.shards.len(), 1);
                }
            }
            Err(refusals) => {
                prop_assert!(!refusals.is_empty());
                for refusal in refusals {
                    prop_assert!(!refusal.message.is_empty() && !refusal.property.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_amount_makes_it_panic(text in ".{0,30}") {
        let _ = Quantity(text.clone()).units();
        let _ = Quantity(text).millis();
    }
}
