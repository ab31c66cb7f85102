//! `AWS::ElastiCache::ReplicationGroup`.

use std::collections::BTreeSet;

use kagami_api::names::ID_LENGTH_MAX;
use kagami_api::properties::{self as classes, Class};
use serde_json::{Value as Json, json};

use crate::endpoints::DEFAULT_PORT;
use crate::evaluate::Evaluator;
use crate::manifest::{Manifest, attributes};
use crate::properties::{Kind, Property, Sheet, property, read, required};
use crate::shape::{Mode, Shape};
use crate::template::Resource;
use crate::value::{Found, Value, short};
use crate::{auth_token, extras, left_out, lift, names, windows};

const ENGINES: &[&str] = &["redis", "valkey"];

static NODE_GROUP: &[Property] = &[
    property("NodeGroupId", Kind::Digits(4)),
    property("PrimaryAvailabilityZone", Kind::Text(63)),
    property("ReplicaAvailabilityZones", Kind::Texts),
    property("ReplicaCount", Kind::Int(0, 5)),
    property("Slots", Kind::Text(8192)),
];

static LOG_GROUP: &[Property] = &[required("LogGroup", Kind::Outside)];
static STREAM: &[Property] = &[required("DeliveryStream", Kind::Outside)];
static DESTINATION: &[Property] = &[
    property("CloudWatchLogsDetails", Kind::Object(LOG_GROUP)),
    property("KinesisFirehoseDetails", Kind::Object(STREAM)),
];
static LOG_DELIVERY: &[Property] = &[
    required("DestinationDetails", Kind::Object(DESTINATION)),
    required("DestinationType", Kind::Choice(&["cloudwatch-logs", "kinesis-firehose"])),
    required("LogFormat", Kind::Choice(&["json", "text"])),
    required("LogType", Kind::Choice(&["engine-log", "slow-log"])),
];

/// Every property of the published schema.
pub(crate) static TABLE: &[Property] = &[
    property("AtRestEncryptionEnabled", Kind::Bool),
    property("AuthToken", Kind::Elsewhere),
    property("AutoMinorVersionUpgrade", Kind::Bool),
    property("AutomaticFailoverEnabled", Kind::Bool),
    property("CacheNodeType", Kind::Word(64)),
    property("CacheParameterGroupName", Kind::Reference(names::PARAMETER_GROUP)),
    property("CacheSecurityGroupNames", Kind::Texts),
    property("CacheSubnetGroupName", Kind::Reference(names::SUBNET_GROUP)),
    property("ClusterMode", Kind::Choice(&["enabled", "compatible", "disabled"])),
    property("ConfigurationEndPoint", Kind::ReadOnly),
    property("DataTieringEnabled", Kind::Bool),
    property("Durability", Kind::Choice(&["default", "async", "sync", "disabled"])),
    property("EffectiveDurability", Kind::ReadOnly),
    property("Engine", Kind::Choice(ENGINES)),
    property("EngineVersion", Kind::Word(32)),
    property("GlobalReplicationGroupId", Kind::Outside),
    property("IpDiscovery", Kind::Choice(&["ipv4", "ipv6"])),
    property("KmsKeyId", Kind::Outside),
    property("LogDeliveryConfigurations", Kind::Objects(LOG_DELIVERY)),
    property("MultiAZEnabled", Kind::Bool),
    property("NetworkType", Kind::Choice(&["ipv4", "ipv6", "dual_stack"])),
    property("NodeGroupConfiguration", Kind::Objects(NODE_GROUP)),
    property("NotificationTopicArn", Kind::Outside),
    property("NumCacheClusters", Kind::Int(1, 6)),
    property("NumNodeGroups", Kind::Int(1, 500)),
    property("Port", Kind::Int(1150, 65535)),
    property("PreferredCacheClusterAZs", Kind::Texts),
    property("PreferredMaintenanceWindow", Kind::Weekly),
    property("PrimaryClusterId", Kind::Text(63)),
    property("PrimaryEndPoint", Kind::ReadOnly),
    property("ReadEndPoint", Kind::ReadOnly),
    property("ReaderEndPoint", Kind::ReadOnly),
    property("ReplicasPerNodeGroup", Kind::Int(0, 5)),
    required("ReplicationGroupDescription", Kind::Text(255)),
    property("ReplicationGroupId", Kind::Text(255)),
    property("SecurityGroupIds", Kind::References(names::SECURITY_GROUP)),
    property("SnapshotArns", Kind::Texts),
    property("SnapshotName", Kind::Text(255)),
    property("SnapshotRetentionLimit", Kind::Int(0, 35)),
    property("SnapshotWindow", Kind::Daily),
    property("SnapshottingClusterId", Kind::Text(63)),
    property("Tags", Kind::Tags),
    property("TransitEncryptionEnabled", Kind::Bool),
    property("TransitEncryptionMode", Kind::Choice(&["preferred", "required"])),
    property("UserGroupIds", Kind::OutsideTexts),
];

/// What a replication group uses of the rest of the template.
#[derive(Debug)]
pub(crate) struct Uses {
    /// Its name.
    pub(crate) name: String,
    /// Its port, unless what is written there is wrong.
    pub(crate) port: Option<u16>,
    /// Logical ids of the resources that its properties refer to.
    pub(crate) resources: BTreeSet<String>,
    /// The zones that it names.
    pub(crate) zones: BTreeSet<String>,
}

/// What a replication group became.
#[derive(Debug)]
pub(crate) struct Converted {
    /// The object, without what is wrong; `None` where nobody can tell what is missing.
    pub(crate) manifest: Option<Manifest>,
    /// Whether nothing is wrong with it.
    pub(crate) sound: bool,
    pub(crate) uses: Uses,
}

/// Converts a replication group.
pub(crate) fn convert(evaluator: &Evaluator<'_>, resource: &Resource) -> Converted {
    let mut sheet = read(evaluator, resource, TABLE);
    let name = evaluator.name(resource, resource.at, &resource.place());
    if name.is_none() {
        sheet.wrong.insert("metadata.name".to_owned());
        sheet.sound = false;
    }
    // What else is wrong is told all the same.
    let name = name.unwrap_or_else(|| names::legal(&resource.id, ID_LENGTH_MAX));
    if sheet.get("ReplicationGroupId").is_some() {
        // A name that is given beside the properties needs no repeating in the spec.
        match extras::name(evaluator, resource) {
            Some(_) => drop(sheet.values.remove("replicationGroupId")),
            None => sheet.set("ReplicationGroupId", json!(name)),
        }
    }
    sheet.extend(extras::read(evaluator, resource, "ReplicationGroup", TABLE));
    auth_token::read(evaluator, resource, &mut sheet, &name);
    let shape = Shape::of(evaluator, resource);
    lift::lift(evaluator, resource, &mut sheet);
    if is_shaped(&sheet) {
        check_shape(evaluator, resource, &mut sheet, &shape);
        check_zones(evaluator, resource, &mut sheet, &shape);
    }
    check_windows(evaluator, resource, &sheet);
    let sound = attributes(evaluator, resource) & deletion_policy(evaluator, resource, &mut sheet);
    let sound = sound & update_policy(evaluator, resource, &mut sheet);
    left_out::tell(evaluator, resource, &mut sheet);
    tell_classes(evaluator, resource, &sheet);
    let uses = Uses {
        name: name.clone(),
        port: port(&sheet),
        resources: referred(evaluator, resource),
        zones: zones(&sheet, &shape),
    };
    let manifest = (!sheet.unread).then(|| Manifest {
        kind: "ReplicationGroup",
        name,
        spec: Json::Object(sheet.values),
        at: resource.at,
        place: resource.place(),
        wrong: sheet.wrong,
    });
    Converted { manifest, sound: sheet.sound && sound, uses }
}

fn port(sheet: &Sheet) -> Option<u16> {
    if sheet.is_wrong("Port") {
        return None;
    }
    let given = sheet.get("Port").and_then(Json::as_u64).and_then(|port| u16::try_from(port).ok());
    given.or_else(|| DEFAULT_PORT.parse().ok())
}

/// Whether the shape is known: of one that was wrongly written nothing can be said here.
fn is_shaped(sheet: &Sheet) -> bool {
    let decides = [
        "CacheParameterGroupName",
        "ClusterMode",
        "NodeGroupConfiguration",
        "NumCacheClusters",
        "NumNodeGroups",
        "ReplicasPerNodeGroup",
    ];
    !decides.iter().any(|name| sheet.is_wrong(name))
}

fn check_shape(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet, shape: &Shape) {
    let mut wrong = Vec::new();
    let shards = shape.node_groups.len();
    if let (Some(configured), Some(said)) = (shape.configured, shape.num_node_groups)
        && configured > 0
        && configured != said
    {
        wrong.push((
            "NodeGroupConfiguration",
            format!("it has {configured} entries, and NumNodeGroups is {said}: they have to be the same"),
        ));
    }
    if shape.mode == Mode::Disabled && shards > 1 {
        let message = match shape.mode_from {
            "ClusterMode" => "ClusterMode is disabled, so there can be only one node group".to_owned(),
            _ => "A group with cluster mode disabled has exactly one node group: set NumNodeGroups to 1, or choose a \
                  parameter group with cluster-enabled, such as default.redis7.cluster.on"
                .to_owned(),
        };
        wrong.push((
            if shape.num_node_groups.is_some() { "NumNodeGroups" } else { "NodeGroupConfiguration" },
            message,
        ));
    }
    if shards > 1 && sheet.get("NumCacheClusters").is_some() {
        let message = "it is not used if there is more than one node group, as on AWS, and is left out";
        let at = sheet.at("NumCacheClusters", resource);
        evaluator.findings.warn(at, &resource.place_of("NumCacheClusters"), message);
        sheet.values.remove("numCacheClusters");
    } else if let (Some(nodes), Some(replicas)) = (shape.num_cache_clusters, shape.replicas_per_node_group)
        && nodes != replicas + 1
    {
        wrong.push((
            "NumCacheClusters",
            format!(
                "it says {nodes} nodes and ReplicasPerNodeGroup says {} (1 + {replicas}): leave one out",
                replicas + 1
            ),
        ));
    }
    let nodes = shape.node_groups.first().map_or(1, |group| group.replicas + 1);
    let failover = sheet.bool("AutomaticFailoverEnabled");
    let valkey = sheet.text("Engine") == Some("valkey");
    match shape.mode {
        Mode::Enabled if failover == Some(false) => wrong.push((
            "AutomaticFailoverEnabled",
            "Redis with cluster mode enabled cannot be created with auto failover turned off. Set it to true or \
             leave it out"
                .to_owned(),
        )),
        Mode::Disabled
            if !sheet.is_wrong("AutomaticFailoverEnabled") && failover.unwrap_or(valkey) && shards == 1 && nodes < 2 => wrong.push((
            "AutomaticFailoverEnabled",
            "When using automatic failover, there must be at least 2 cache clusters in the replication group. Set it \
             to false, or NumCacheClusters to 2 or more"
                .to_owned(),
        )),
        _ => {}
    }
    if sheet.bool("MultiAZEnabled") == Some(true) {
        let asked = failover.unwrap_or(valkey || shape.mode != Mode::Disabled);
        if !asked && !sheet.is_wrong("AutomaticFailoverEnabled") {
            wrong.push((
                "MultiAZEnabled",
                "it needs automatic failover: set AutomaticFailoverEnabled to true".into(),
            ));
        }
        if let Some(group) = shape.node_groups.iter().find(|group| group.replicas == 0) {
            let message = format!(
                "it needs at least one replica in every node group, and {} has none: set NumCacheClusters to 2 or \
                 more, or ReplicasPerNodeGroup to 1 or more",
                short(&group.id)
            );
            wrong.push(("MultiAZEnabled", message));
        }
    }
    report(evaluator, resource, sheet, wrong);
}

fn check_zones(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet, shape: &Shape) {
    let mut wrong = Vec::new();
    let preferred = sheet.get("PreferredCacheClusterAZs").and_then(Json::as_array).map_or(0, Vec::len);
    if preferred > 0 {
        let nodes = shape.node_groups.first().map_or(1, |group| group.replicas + 1);
        if shape.node_groups.len() > 1 || shape.mode == Mode::Enabled {
            wrong.push((
                "PreferredCacheClusterAZs",
                "PreferredCacheClusterAZs can only be specified for one node group. With cluster mode enabled give \
                 the zones in NodeGroupConfiguration"
                    .to_owned(),
            ));
        } else if preferred != nodes {
            wrong.push((
                "PreferredCacheClusterAZs",
                format!(
                    "When specifying preferred availability zones, the number of cache clusters must be specified \
                     and must match the number of preferred availability zones. There are {preferred} zones for \
                     {nodes} nodes"
                ),
            ));
        }
    }
    let mut ids = BTreeSet::new();
    for group in &shape.node_groups {
        if !ids.insert(&group.id) {
            let message = format!("two entries have the NodeGroupId {}", short(&group.id));
            wrong.push(("NodeGroupConfiguration", message));
        }
        let zones = group.replica_zones.as_ref().map_or(0, Vec::len);
        if zones > 0 && zones != group.replicas {
            let message = format!(
                "the number of ReplicaAvailabilityZones must match ReplicaCount, or ReplicasPerNodeGroup where that \
                 is not given: node group {} has {zones} zones for {} replicas",
                short(&group.id),
                group.replicas
            );
            wrong.push(("NodeGroupConfiguration", message));
        }
    }
    report(evaluator, resource, sheet, wrong);
}

fn report(
    evaluator: &Evaluator<'_>,
    resource: &Resource,
    sheet: &mut Sheet,
    wrong: Vec<(&'static str, String)>,
) {
    for (property, message) in wrong {
        evaluator.findings.error(sheet.at(property, resource), &resource.place_of(property), message);
        sheet.sound = false;
    }
}

fn check_windows(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &Sheet) {
    let daily = sheet.text("SnapshotWindow").and_then(|text| windows::daily(text).ok());
    let weekly = sheet.text("PreferredMaintenanceWindow").and_then(|text| windows::weekly(text).ok());
    if let (Some(daily), Some(weekly)) = (daily, weekly)
        && windows::overlap(daily, weekly)
    {
        let message = "The snapshot window and maintenance window must not overlap.";
        let at = sheet.at("SnapshotWindow", resource);
        evaluator.findings.error(at, &resource.place_of("SnapshotWindow"), message);
    }
}

fn deletion_policy(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet) -> bool {
    let words = ["Delete", "Retain", "RetainExceptOnCreate", "Snapshot"];
    let mut sound = true;
    for attribute in ["DeletionPolicy", "UpdateReplacePolicy"] {
        let Some(entry) = resource.attribute(attribute) else { continue };
        let place = resource.place().child(attribute);
        let Some(text) = evaluator.text(&entry.value, &place) else {
            sound = false;
            continue;
        };
        if !words.contains(&text.text.as_str()) {
            let hint = evaluator.findings.hint(&text.text, words);
            let message = format!("{:?} is not one of {}{hint}", short(text.shown()), words.join(", "));
            evaluator.findings.error(entry.value.at, &place, message);
            sound = false;
            continue;
        }
        // Nothing is ever replaced here, so that UpdateReplacePolicy has nothing to say.
        if attribute == "UpdateReplacePolicy" {
            continue;
        }
        let policy = match text.text.as_str() {
            "RetainExceptOnCreate" => {
                let message = "there is no roll-back here; it means Retain";
                evaluator.findings.warn(entry.value.at, &place, message);
                "Retain"
            }
            "Snapshot" => {
                let message =
                    format!("Kagami will not take this yet: {}", classes::DELETION_SNAPSHOT_REFUSED);
                evaluator.findings.warn(entry.value.at, &place, message);
                "Snapshot"
            }
            other => other,
        };
        sheet.values.insert("deletionPolicy".to_owned(), json!(policy));
    }
    sound
}

fn update_policy(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet) -> bool {
    static UPDATE_POLICY: &[Property] = &[property("UseOnlineResharding", Kind::Bool)];
    static ATTRIBUTE: &[Property] = &[property("UpdatePolicy", Kind::Object(UPDATE_POLICY))];
    let Some(entry) = resource.attribute("UpdatePolicy") else { return true };
    let place = resource.place().child("UpdatePolicy");
    let found = evaluator.evaluate(&entry.value, &place);
    match found.and_then(|found| crate::properties::typed(evaluator, &ATTRIBUTE[0], &found, &place)) {
        Some(Some(policy)) => {
            sheet.values.insert("updatePolicy".to_owned(), policy);
            true
        }
        Some(None) => true,
        None => false,
    }
}

/// Says which properties are recorded only, and which ones the API server will refuse.
fn tell_classes(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &Sheet) {
    for class in classes::REPLICATION_GROUP {
        let Some(value) = sheet.values.get(class.field) else { continue };
        let message = match class.class {
            Class::Recorded(sentence) => sentence.to_owned(),
            Class::Refused(sentence) => {
                let text = match value {
                    Json::String(text) => text.clone(),
                    other => other.to_string(),
                };
                if class.met_by_itself.split(", ").any(|met| met == text) {
                    continue;
                }
                format!("Kagami will not take this yet: {sentence}")
            }
            _ => continue,
        };
        evaluator.findings.warn(sheet.at(class.name, resource), &resource.place_of(class.name), message);
    }
    let refused = |name: &str, sentence: &str| {
        let message = format!("Kagami will not take this yet: {sentence}");
        evaluator.findings.warn(sheet.at(name, resource), &resource.place_of(name), message);
    };
    if sheet.text("ClusterMode") == Some("compatible") {
        refused("ClusterMode", classes::COMPATIBLE_REFUSED);
    }
}

/// The resources that the properties refer to.
fn referred(evaluator: &Evaluator<'_>, resource: &Resource) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    evaluator.findings.quietly(|| {
        for name in ["CacheParameterGroupName", "CacheSubnetGroupName", "SecurityGroupIds"] {
            let Some(entry) = resource.property(name) else { continue };
            let Some(found) = evaluator.evaluate(&entry.value, &resource.place()) else { continue };
            note(&found, &mut ids);
        }
    });
    ids
}

fn note(found: &Found, ids: &mut BTreeSet<String>) {
    match &found.value {
        Value::Text(text) => ids.extend(text.reference.iter().map(|reference| reference.id.clone())),
        Value::List(items) => items.iter().for_each(|item| note(item, ids)),
        _ => {}
    }
}

fn zones(sheet: &Sheet, shape: &Shape) -> BTreeSet<String> {
    let preferred = sheet.get("PreferredCacheClusterAZs").and_then(Json::as_array).into_iter().flatten();
    let mut zones: BTreeSet<String> = preferred.filter_map(Json::as_str).map(str::to_owned).collect();
    for group in &shape.node_groups {
        zones.extend(group.primary_zone.clone());
        zones.extend(group.replica_zones.iter().flatten().cloned());
    }
    zones
}
