//! Admission: what the API server can refuse by looking at one object, as CEL in the definitions.
//!
//! A rule has the number that it has in ElastiCache's documentation of this project (V01 to V26), and a message in ElastiCache's
//! own words where they are known; every message names the field. What needs to see another object (a parameter group, a zone)
//! is told by a condition instead.

use serde_json::{Value, json};

use crate::properties;

/// Where a rule stands in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole object: `self` has `metadata` and `spec`.
    Object,
    /// The spec: `self` is the spec.
    Spec,
}

/// One rule of admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionRule {
    /// Its number, such as `V08`.
    pub number: &'static str,
    /// Where it stands.
    pub scope: Scope,
    /// The field that a refusal points at, below the scope; empty for the scope itself.
    pub field: &'static str,
    /// The CEL expression, true where the object is right. One with `oldSelf` is about updates only.
    pub expression: String,
    /// What a person is told.
    pub message: String,
}

fn spec(number: &'static str, field: &'static str, expression: &str, message: &str) -> AdmissionRule {
    AdmissionRule {
        number,
        scope: Scope::Spec,
        field,
        expression: expand(expression),
        message: message.to_owned(),
    }
}

fn object(number: &'static str, expression: &str, message: &str) -> AdmissionRule {
    AdmissionRule {
        number,
        scope: Scope::Object,
        field: "",
        expression: expression.to_owned(),
        message: message.to_owned(),
    }
}

/// Refuses a field of the class Refused wherever it asks for something, with the sentence of the table of properties.
fn refused(number: &'static str, field: &'static str, met: &str) -> AdmissionRule {
    let expression =
        if met.is_empty() { format!("!has(self.{field})") } else { format!("!has(self.{field}) || {met}") };
    spec(number, field, &expression, properties::sentence(field))
}

/// Words that several rules share. They are put in as text, because CEL in a definition has no functions of one's own.
const TERMS: &[(&str, &str)] = &[
    // The order matters: later terms are used by earlier ones.
    (
        "CLUSTERED",
        "(has(self.clusterMode) ? self.clusterMode == 'enabled' : (has(self.cacheParameterGroupName) ? GROUP_ON : SHARDS > 1))",
    ),
    (
        "UNCLUSTERED",
        "(has(self.clusterMode) ? self.clusterMode == 'disabled' : (has(self.cacheParameterGroupName) ? GROUP_OFF : SHARDS <= 1))",
    ),
    (
        "GROUP_ON",
        "(self.cacheParameterGroupName.startsWith('default.') && self.cacheParameterGroupName.endsWith('.cluster.on'))",
    ),
    (
        "GROUP_OFF",
        "(self.cacheParameterGroupName.startsWith('default.') && !self.cacheParameterGroupName.endsWith('.cluster.on'))",
    ),
    ("NODES", "(has(self.numCacheClusters) ? self.numCacheClusters : 1 + FIRST_REPLICAS)"),
    (
        "FIRST_REPLICAS",
        "(CONFIGURED && has(self.nodeGroupConfiguration[0].replicaCount) ? self.nodeGroupConfiguration[0].replicaCount : REPLICAS)",
    ),
    (
        "SHARDS",
        "(has(self.numNodeGroups) ? self.numNodeGroups : (CONFIGURED ? size(self.nodeGroupConfiguration) : 1))",
    ),
    (
        "REPLICAS",
        "(has(self.replicasPerNodeGroup) ? self.replicasPerNodeGroup : (has(self.numCacheClusters) ? self.numCacheClusters - 1 : 0))",
    ),
    ("CONFIGURED", "(has(self.nodeGroupConfiguration) && size(self.nodeGroupConfiguration) > 0)"),
];

fn expand(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (term, meaning) in TERMS {
        text = replace_word(&text, term, meaning);
    }
    text
}

/// Replaces a whole word: `CLUSTERED` is a part of `UNCLUSTERED`, which means something else.
fn replace_word(text: &str, word: &str, meaning: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, found) = rest.split_at(at);
        let after = &found[word.len()..];
        result.push_str(before);
        let whole = !before.ends_with(is_part) && !after.starts_with(is_part) && !result.ends_with(is_part);
        result.push_str(if whole { meaning } else { word });
        rest = after;
    }
    result.push_str(rest);
    result
}

const DAILY: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$";
const WEEKLY: &str = "^(sun|mon|tue|wed|thu|fri|sat):([01][0-9]|2[0-3]):[0-5][0-9]-(sun|mon|tue|wed|thu|fri|sat):([01][0-9]|2[0-3]):[0-5][0-9]$";

/// The rules of a replication group.
pub fn replication_group() -> Vec<AdmissionRule> {
    let daily_minutes = "((int(self.snapshotWindow.substring(6, 8)) * 60 + int(self.snapshotWindow.substring(9, 11)) \
                         - int(self.snapshotWindow.substring(0, 2)) * 60 - int(self.snapshotWindow.substring(3, 5)) + 1440) % 1440)";
    // The place of the day in the week times three is where its name stands in this text.
    let week = |from: usize| {
        let window = "self.preferredMaintenanceWindow";
        format!(
            "('sunmontuewedthufrisat'.indexOf({window}.lowerAscii().substring({from}, {})) * 480 + int({window}.substring({}, {})) * 60 + int({window}.substring({}, {})))",
            from + 3,
            from + 4,
            from + 6,
            from + 7,
            from + 9,
        )
    };
    let weekly_minutes = format!("(({} - {} + 10080) % 10080)", week(10), week(0));
    let version = |object: &str| {
        format!(
            "(int({object}.engineVersion.split('.')[0]) * 1000 + int({object}.engineVersion.split('.')[1]))"
        )
    };
    let plain = r"matches('^[0-9]{1,3}[.][0-9]{1,3}$')";
    let engine_of = |object: &str| format!("(has({object}.engine) ? {object}.engine : 'redis')");

    let mut rules = vec![
        object(
            "V02",
            "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z][a-z0-9]*(-[a-z0-9]+)*$')",
            "metadata.name is the replication group id: 1 to 40 letters, digits and hyphens; it must begin with a letter, must not end with a hyphen and must not contain two consecutive hyphens.",
        ),
        object(
            "V02",
            "!has(self.spec.replicationGroupId) || self.spec.replicationGroupId.lowerAscii() == self.metadata.name",
            "replicationGroupId must be metadata.name when lower-cased, because the name of the object is the id of the group.",
        ),
        spec(
            "V03",
            "engineVersion",
            "!has(self.engineVersion) || self.engineVersion.matches('^[0-9]+[.]([0-9]+([.][0-9]+)?|x)$')",
            "engineVersion must be a version such as 6.2, 7.1 or 8.0, or 6.x.",
        ),
        spec(
            "V04",
            "engineVersion",
            "!has(self.engineVersion) || !self.engineVersion.matches('^([6-9]|[1-9][0-9]+)[.][0-9]+[.][0-9]+$')",
            "engineVersion must not have a patch level from version 6 on: write 6.2, not 6.2.6.",
        ),
        spec(
            "V04",
            "engine",
            &format!("!({} == 'valkey' && {} == 'redis')", engine_of("oldSelf"), engine_of("self")),
            "engine cannot be changed from valkey to redis.",
        ),
        // Compared with the version that runs, not with the one that was asked for before: a mistake can be taken back.
        object(
            "V04",
            &format!(
                "!has(self.spec.engineVersion) || (has(oldSelf.spec.engineVersion) && self.spec.engineVersion == oldSelf.spec.engineVersion) \
                 || !has(oldSelf.status) || !has(oldSelf.status.resolved) || !has(oldSelf.status.resolved.engineVersion) \
                 || {} != {} || !self.spec.engineVersion.{plain} || !oldSelf.status.resolved.engineVersion.{plain} || {} >= {}",
                engine_of("self.spec"),
                engine_of("oldSelf.spec"),
                version("self.spec"),
                version("oldSelf.status.resolved"),
            ),
            "engineVersion cannot be decreased: an engine is upgraded, never downgraded.",
        ),
        spec(
            "V07",
            "numCacheClusters",
            "!has(self.numCacheClusters) || SHARDS <= 1",
            "numCacheClusters is not used if there is more than one node group: use replicasPerNodeGroup.",
        ),
        spec(
            "V07",
            "numCacheClusters",
            "!has(self.numCacheClusters) || !has(self.replicasPerNodeGroup) || self.numCacheClusters == 1 + self.replicasPerNodeGroup",
            "numCacheClusters and replicasPerNodeGroup say different numbers of nodes: leave one out.",
        ),
        spec(
            "V07",
            "numCacheClusters",
            "!has(self.numCacheClusters) || !CONFIGURED || SHARDS > 1 || !has(self.nodeGroupConfiguration[0].replicaCount) || self.numCacheClusters == 1 + self.nodeGroupConfiguration[0].replicaCount",
            "numCacheClusters and the replicaCount of nodeGroupConfiguration say different numbers of nodes: leave one out.",
        ),
        spec(
            "V08",
            "automaticFailoverEnabled",
            "!(has(self.automaticFailoverEnabled) ? self.automaticFailoverEnabled : (has(self.engine) && self.engine == 'valkey')) || !UNCLUSTERED || SHARDS > 1 || NODES >= 2",
            "When using automatic failover, there must be at least 2 cache clusters in the replication group. Set automaticFailoverEnabled to false, or numCacheClusters to 2 or more.",
        ),
        spec(
            "V08",
            "automaticFailoverEnabled",
            "!has(self.automaticFailoverEnabled) || self.automaticFailoverEnabled || !UNCLUSTERED || SHARDS > 1 || NODES < 2",
            properties::FAILOVER_OFF_REFUSED,
        ),
        spec(
            "V09",
            "automaticFailoverEnabled",
            "!has(self.automaticFailoverEnabled) || self.automaticFailoverEnabled || !CLUSTERED",
            "Redis with cluster mode enabled cannot be created with auto failover turned off. Set automaticFailoverEnabled to true or leave it out.",
        ),
        spec(
            "V10",
            "multiAZEnabled",
            "!has(self.multiAZEnabled) || !self.multiAZEnabled || !has(self.automaticFailoverEnabled) || self.automaticFailoverEnabled",
            "multiAZEnabled needs automatic failover: set automaticFailoverEnabled to true.",
        ),
        spec(
            "V10",
            "multiAZEnabled",
            "!has(self.multiAZEnabled) || !self.multiAZEnabled || (CONFIGURED ? self.nodeGroupConfiguration.all(g, (has(g.replicaCount) ? g.replicaCount : REPLICAS) >= 1) : REPLICAS >= 1)",
            "multiAZEnabled needs at least one replica in every node group: set numCacheClusters to 2 or more, or replicasPerNodeGroup to 1 or more.",
        ),
        spec(
            "V11",
            "preferredCacheClusterAZs",
            "!has(self.preferredCacheClusterAZs) || size(self.preferredCacheClusterAZs) == 0 || (SHARDS <= 1 && !CLUSTERED)",
            "PreferredCacheClusterAZs can only be specified for one node group. With cluster mode enabled give the zones in nodeGroupConfiguration.",
        ),
        spec(
            "V11",
            "preferredCacheClusterAZs",
            "!has(self.preferredCacheClusterAZs) || size(self.preferredCacheClusterAZs) == 0 || SHARDS > 1 || size(self.preferredCacheClusterAZs) == NODES",
            "When specifying preferred availability zones, the number of cache clusters must be specified and must match the number of preferred availability zones. Give preferredCacheClusterAZs as many zones as there are nodes.",
        ),
        spec(
            "V11",
            "preferredCacheClusterAZs",
            "!has(self.preferredCacheClusterAZs) || size(self.preferredCacheClusterAZs) == 0 || !CONFIGURED || self.nodeGroupConfiguration.all(g, !has(g.primaryAvailabilityZone) && !has(g.replicaAvailabilityZones))",
            "preferredCacheClusterAZs and the zones of nodeGroupConfiguration exclude each other: leave one out.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || !has(self.numNodeGroups) || size(self.nodeGroupConfiguration) == self.numNodeGroups",
            "nodeGroupConfiguration must have as many entries as numNodeGroups says.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || self.nodeGroupConfiguration.all(g, !has(g.nodeGroupId) || self.nodeGroupConfiguration.exists_one(h, has(h.nodeGroupId) && h.nodeGroupId == g.nodeGroupId))",
            "nodeGroupConfiguration has two entries with the same nodeGroupId.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || self.nodeGroupConfiguration.all(g, !has(g.replicaAvailabilityZones) || size(g.replicaAvailabilityZones) == 0 || size(g.replicaAvailabilityZones) == (has(g.replicaCount) ? g.replicaCount : REPLICAS))",
            "The number of replicaAvailabilityZones in nodeGroupConfiguration must match replicaCount, or replicasPerNodeGroup where replicaCount is not given.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || self.nodeGroupConfiguration.all(g, has(g.slots)) || !self.nodeGroupConfiguration.exists(g, has(g.slots))",
            "nodeGroupConfiguration must give slots to every node group or to none.",
        ),
        spec(
            "V12",
            "nodeGroupConfiguration",
            "!CONFIGURED || self.nodeGroupConfiguration.all(g, !has(g.slots) || g.slots.matches('^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$'))",
            "slots in nodeGroupConfiguration must be ranges such as 0-3999 or 0-99,200-299.",
        ),
        spec(
            "V13",
            "numNodeGroups",
            "!UNCLUSTERED || SHARDS <= 1",
            "A group with cluster mode disabled has exactly one node group: set numNodeGroups to 1, or choose a parameter group with cluster-enabled, such as default.redis7.cluster.on.",
        ),
        spec(
            "V13",
            "clusterMode",
            "!has(self.clusterMode) || !has(self.cacheParameterGroupName) || self.clusterMode != 'disabled' || !GROUP_ON",
            "Cluster mode should be disabled in parameter group, but found it is enabled. clusterMode and cacheParameterGroupName contradict each other.",
        ),
        spec(
            "V13",
            "clusterMode",
            "!has(self.clusterMode) || !has(self.cacheParameterGroupName) || self.clusterMode != 'enabled' || !GROUP_OFF",
            "Cluster mode should be enabled in parameter group, but found it is disabled. clusterMode and cacheParameterGroupName contradict each other.",
        ),
        spec(
            "V14",
            "clusterMode",
            "!has(self.clusterMode) || self.clusterMode != 'compatible'",
            properties::COMPATIBLE_REFUSED,
        ),
        spec(
            "V16",
            "snapshotWindow",
            &format!("!has(self.snapshotWindow) || self.snapshotWindow.matches('{DAILY}')"),
            "snapshotWindow must be a daily window in UTC such as 05:00-06:00.",
        ),
        spec(
            "V16",
            "snapshotWindow",
            &format!(
                "!has(self.snapshotWindow) || !self.snapshotWindow.matches('{DAILY}') || {daily_minutes} >= 60"
            ),
            "Snapshot window must be at least 60 minutes. (snapshotWindow)",
        ),
        spec(
            "V16",
            "preferredMaintenanceWindow",
            &format!(
                "!has(self.preferredMaintenanceWindow) || self.preferredMaintenanceWindow.lowerAscii().matches('{WEEKLY}')"
            ),
            "preferredMaintenanceWindow must be a weekly window in UTC such as sun:05:00-sun:06:00.",
        ),
        spec(
            "V16",
            "preferredMaintenanceWindow",
            &format!(
                "!has(self.preferredMaintenanceWindow) || !self.preferredMaintenanceWindow.lowerAscii().matches('{WEEKLY}') || ({weekly_minutes} >= 60 && {weekly_minutes} <= 1440)"
            ),
            "preferredMaintenanceWindow must be at least 60 minutes and at most 24 hours.",
        ),
        spec(
            "V05",
            "port",
            "!has(self.port) || (self.port != 8379 && self.port != 8380)",
            "port must not be 8379 or 8380: the agent of every node listens there.",
        ),
        spec(
            "V24",
            "port",
            "(has(self.port) ? self.port : 6379) == (has(oldSelf.port) ? oldSelf.port : 6379)",
            "port: update requires replacement, which would lose the data. Take the change back, or make a new group.",
        ),
        spec(
            "V24",
            "cacheSubnetGroupName",
            "has(self.cacheSubnetGroupName) == has(oldSelf.cacheSubnetGroupName) && (!has(self.cacheSubnetGroupName) || self.cacheSubnetGroupName == oldSelf.cacheSubnetGroupName)",
            "cacheSubnetGroupName: update requires replacement, which would lose the data. Take the change back, or make a new group.",
        ),
        spec(
            "V24",
            "preferredCacheClusterAZs",
            "has(self.preferredCacheClusterAZs) == has(oldSelf.preferredCacheClusterAZs) && (!has(self.preferredCacheClusterAZs) || self.preferredCacheClusterAZs == oldSelf.preferredCacheClusterAZs)",
            "preferredCacheClusterAZs: update requires replacement, which would lose the data. Take the change back, or make a new group.",
        ),
        spec(
            "D01",
            "deletionPolicy",
            "!has(self.deletionPolicy) || self.deletionPolicy != 'Snapshot'",
            properties::DELETION_SNAPSHOT_REFUSED,
        ),
        spec(
            "T01",
            "tags",
            "!has(self.tags) || self.tags.all(t, !t.key.startsWith('aws:'))",
            "tags must not have keys that begin with aws:.",
        ),
    ];
    rules.extend([
        refused("V17", "snapshotArns", "size(self.snapshotArns) == 0"),
        refused("V17", "snapshotName", ""),
        refused("V17", "snapshotRetentionLimit", "self.snapshotRetentionLimit == 0"),
        refused("V17", "snapshottingClusterId", ""),
        refused("V17", "primaryClusterId", ""),
        refused("V18", "authToken", ""),
        refused("V19", "transitEncryptionEnabled", "!self.transitEncryptionEnabled"),
        refused("V19", "transitEncryptionMode", ""),
        refused("V20", "userGroupIds", "size(self.userGroupIds) == 0"),
        refused("V21", "logDeliveryConfigurations", "size(self.logDeliveryConfigurations) == 0"),
        refused("V22", "networkType", "self.networkType == 'ipv4'"),
        refused("V22", "ipDiscovery", "self.ipDiscovery == 'ipv4'"),
        refused("V23", "atRestEncryptionEnabled", "!self.atRestEncryptionEnabled"),
        refused("V23", "kmsKeyId", ""),
        refused("V23", "dataTieringEnabled", "!self.dataTieringEnabled"),
        refused("V23", "durability", "self.durability in ['default', 'disabled']"),
        refused("V23", "globalReplicationGroupId", ""),
        refused("V23", "cacheSecurityGroupNames", "size(self.cacheSecurityGroupNames) == 0"),
    ]);
    rules
}

/// The rules of a parameter group.
pub fn parameter_group() -> Vec<AdmissionRule> {
    vec![
        object(
            "P01",
            "!self.metadata.name.startsWith('default.')",
            "metadata.name must not begin with default.: the default parameter groups are built in.",
        ),
        object(
            "P01",
            "!has(self.spec.cacheParameterGroupName) || self.spec.cacheParameterGroupName.lowerAscii() == self.metadata.name",
            "cacheParameterGroupName must be metadata.name when lower-cased.",
        ),
        spec(
            "P02",
            "cacheParameterGroupFamily",
            "self.cacheParameterGroupFamily in ['redis6.x', 'redis7', 'valkey7', 'valkey8', 'valkey9']",
            "cacheParameterGroupFamily must be one of redis6.x, redis7, valkey7, valkey8 and valkey9.",
        ),
        spec(
            "P02",
            "cacheParameterGroupFamily",
            "self.cacheParameterGroupFamily == oldSelf.cacheParameterGroupFamily",
            "cacheParameterGroupFamily cannot be changed: make a new parameter group.",
        ),
    ]
}

/// The rules of a subnet group.
pub fn subnet_group() -> Vec<AdmissionRule> {
    vec![object(
        "S01",
        "!has(self.spec.cacheSubnetGroupName) || self.spec.cacheSubnetGroupName.lowerAscii() == self.metadata.name",
        "cacheSubnetGroupName must be metadata.name when lower-cased.",
    )]
}

/// The rules of a security group.
pub fn security_group() -> Vec<AdmissionRule> {
    vec![
        spec(
            "G01",
            "ingress",
            "!has(self.ingress) || self.ingress.all(i, has(i.from.ipBlock) != (has(i.from.podSelector) || has(i.from.namespaceSelector)))",
            "from in ingress must be either an ipBlock or a podSelector and namespaceSelector.",
        ),
        spec(
            "G02",
            "ingress",
            "!has(self.ingress) || self.ingress.all(i, !has(i.toPort) || (has(i.fromPort) && i.fromPort <= i.toPort))",
            "toPort in ingress needs a fromPort that is not above it.",
        ),
    ]
}

/// Puts rules into the schema of a definition.
pub(crate) fn install(schema: &mut Value, rules: &[AdmissionRule]) {
    for rule in rules {
        let mut entry = json!({ "rule": rule.expression, "message": rule.message });
        if !rule.field.is_empty() {
            entry["fieldPath"] = Value::from(format!(".{}", rule.field));
        }
        let place = match rule.scope {
            Scope::Object => Some(&mut *schema),
            Scope::Spec => schema.pointer_mut("/properties/spec"),
        };
        let Some(Value::Object(place)) = place else { continue };
        let list = place.entry("x-kubernetes-validations").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(entry);
        }
    }
}
