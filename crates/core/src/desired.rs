//! What a validated group asks for.
//!
//! A spec is validated once, here, and becomes a typed value; nobody looks at the raw spec afterwards. What another object has to
//! tell (a parameter group, the zones of a subnet group) comes as an argument, so the rules can be tried as tables.
//!
//! Admission (CEL) refuses most bad specs before they are stored. The rules are here again, because a definition may be older
//! than the operator, and because what depends on a custom parameter group cannot be seen by looking at one object.

mod engine;
pub mod in_use;
mod ingress;
mod pods;
pub mod referred;
mod refused;
mod resources;
mod shape;
mod tables;
mod windows;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde::{Deserialize, Serialize};

use kagami_api::names;
use kagami_api::parameters::Family;
use kagami_api::properties::{self, Class};
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{
    self, ParameterGroup, ReplicationGroup, ReplicationGroupSpec, SecurityGroup, SubnetGroup,
};

use crate::slots::SlotSet;

pub use engine::{Engine, EngineVersion};
pub use kagami_api::v1alpha1::{DeletionPolicy, Engine as EngineKind};
pub use tables::{NodeTypeOverride, Tables};

/// The objects that a spec refers to, as far as they were found; one that is missing is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct References {
    /// The parameter group of `cacheParameterGroupName`, unless that is a built-in one.
    pub parameter_group: Option<ParameterGroup>,
    /// The subnet group of `cacheSubnetGroupName`.
    pub subnet_group: Option<SubnetGroup>,
    /// The security groups of `securityGroupIds`, by name.
    pub security_groups: BTreeMap<String, SecurityGroup>,
}

/// Why a spec is not carried out, in a sentence for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of the condition and the event.
    pub reason: Reason,
    /// The property, as it is written below `spec`.
    pub property: String,
    /// What is wrong, in ElastiCache's words where they are known, and what to do.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.message)
    }
}

/// Whether the nodes speak the cluster protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClusterMode {
    /// One or more shards, each with its slots.
    Enabled,
    /// One primary with replicas.
    Disabled,
}

impl From<ClusterMode> for v1alpha1::ClusterMode {
    fn from(mode: ClusterMode) -> Self {
        match mode {
            ClusterMode::Enabled => Self::Enabled,
            ClusterMode::Disabled => Self::Disabled,
        }
    }
}

/// A replication group as its spec asks for it, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The namespace.
    pub namespace: String,
    /// The name, which is the replication group id.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// The generation of the spec.
    pub generation: i64,
    /// What the group is for, in its owner's words.
    pub description: String,
    /// Cluster mode.
    pub cluster_mode: ClusterMode,
    /// The engine and its version.
    pub engine: Engine,
    /// The engine's image.
    pub image: String,
    /// `imagePullPolicy`, where one is asked for.
    pub image_pull_policy: Option<String>,
    /// The Secrets to pull the image with.
    pub image_pull_secrets: Vec<String>,
    /// The port that clients connect to.
    pub port: u16,
    /// The port of the cluster bus; without meaning where cluster mode is disabled.
    pub bus_port: u16,
    /// The shards, in the order of the spec; exactly one where cluster mode is disabled.
    pub shards: Vec<DesiredShard>,
    /// Whether a replica is promoted when its primary fails.
    pub automatic_failover: bool,
    /// The node that is to be the primary, where one is named: only without automatic failover.
    #[serde(default)]
    pub primary: Option<String>,
    /// Whether the copies of a shard must not all be in one zone.
    pub multi_az: bool,
    /// The zones that the subnet group allows; empty means any.
    pub zones: Vec<String>,
    /// The name of the parameter group.
    pub parameter_group_name: String,
    /// The family of the engine version.
    pub family: Family,
    /// The engine's directives that come from the parameter group, its family's defaults included, ready for a line of the
    /// configuration file: `key value`. A key may carry a first argument (`client-output-buffer-limit normal`).
    pub parameters: BTreeMap<String, String>,
    /// The node type, where one is named.
    pub cache_node_type: Option<String>,
    /// The memory of a node, request and limit, in bytes.
    pub memory_bytes: i64,
    /// The CPU request of a node, in thousandths of a CPU.
    pub cpu_request_millis: i64,
    /// The CPU limit of a node, in thousandths of a CPU, where one is asked for.
    pub cpu_limit_millis: Option<i64>,
    /// The engine's maxmemory, in bytes.
    pub maxmemory_bytes: i64,
    /// The engine's maxclients, by the node type; where none is named, the engine's own.
    #[serde(default)]
    pub maxclients: Option<i64>,
    /// The volume of a node, where one is asked for.
    pub storage: Option<Storage>,
    /// Who may reach the port; `None` where no security group is named, which means no policy.
    pub ingress: Option<Vec<NetworkPolicyPeer>>,
    /// What becomes of the nodes when the object is deleted.
    pub deletion_policy: DeletionPolicy,
    /// What the pods are given.
    pub pod: PodOptions,
    /// Whether a pod may be evicted although it holds the only copy, in memory.
    pub allow_eviction_of_only_copy: bool,
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// The properties that are recorded without an effect.
    pub not_in_effect: Vec<NotInEffect>,
    /// The domain of the cluster's DNS.
    pub cluster_domain: String,
}

/// A shard (node group).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredShard {
    /// The id of the node group, four digits.
    pub id: String,
    /// The slots at its birth; empty where cluster mode is disabled.
    pub slots: SlotSet,
    /// Its nodes; the first is the primary at its birth.
    pub nodes: Vec<DesiredNode>,
}

/// A node of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredNode {
    /// Its name, such as `my-group-0001-001`.
    pub name: String,
    /// The zone that was asked for; `None` leaves it to the planner.
    pub zone: Option<String>,
}

/// The volume of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// The size, as Kubernetes writes amounts.
    pub size: String,
    /// The storage class; `None` is the cluster's default.
    pub class: Option<String>,
}

/// What the pods are given beside what Kagami gives them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodOptions {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Labels that a machine must have, of the spec and of the subnet group.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// The priority class.
    pub priority_class_name: Option<String>,
}

/// A property that is recorded without an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotInEffect {
    /// The property, as it is written below `spec`.
    pub property: String,
    /// What that means.
    pub sentence: String,
}

impl Desired {
    /// The DNS name of one of the group's Services.
    pub fn address(&self, service: &str) -> String {
        names::address(service, &self.namespace, &self.cluster_domain)
    }

    /// All nodes, shard by shard.
    pub fn nodes(&self) -> impl Iterator<Item = (&DesiredShard, &DesiredNode)> {
        self.shards.iter().flat_map(|shard| shard.nodes.iter().map(move |node| (shard, node)))
    }
}

/// What is wrong with a spec, gathered over all rules, because a person wants to hear of all mistakes at once.
#[derive(Debug, Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn add(&mut self, reason: Reason, property: &str, message: impl Into<String>) {
        let refusal = Refusal { reason, property: property.to_owned(), message: message.into() };
        if !self.0.contains(&refusal) {
            self.0.push(refusal);
        }
    }

    fn value(&mut self, property: &str, message: impl Into<String>) {
        self.add(Reason::InvalidParameterValue, property, message);
    }

    fn combination(&mut self, property: &str, message: impl Into<String>) {
        self.add(Reason::InvalidParameterCombination, property, message);
    }
}

/// Validates a group and fills in every default, or says everything that is wrong with it.
pub fn resolve(rg: &ReplicationGroup, refs: &References, tables: &Tables) -> Result<Desired, Vec<Refusal>> {
    let mut refusals = Refusals::default();
    let spec = &rg.spec;
    let options = spec.kubernetes.clone().unwrap_or_default();
    let name = rg.metadata.name.clone().unwrap_or_default();
    let namespace = rg.metadata.namespace.clone().unwrap_or_default();

    check_name(&name, spec, &mut refusals);
    refused::check(spec, &mut refusals);
    windows::check(spec, &mut refusals);

    let engine = engine::resolve(spec, refs, tables, &mut refusals);
    let group = engine::parameter_group(spec, engine.family, refs, &mut refusals);
    let cluster_mode = shape::cluster_mode(spec, &group, &mut refusals);
    let zones = allowed_zones(spec, refs, &mut refusals);
    let shape = shape::resolve(&name, spec, engine.engine.kind, cluster_mode, &zones, &mut refusals);
    let resources = resources::resolve(spec, &options, &group, engine.family, tables, &mut refusals);
    let port = port(spec, &mut refusals);
    let bus_port = bus_port(&namespace, &name, port, engine.engine.version, cluster_mode, &mut refusals);
    let ingress = ingress::resolve(spec, refs, port, &mut refusals);
    let pod = pods::resolve(&options, refs, &mut refusals);
    let storage = resources::storage(&options, &mut refusals);
    let tags = pods::tags(spec, &mut refusals);

    if !refusals.0.is_empty() {
        return Err(refusals.0);
    }
    Ok(Desired {
        parameters: kagami_api::parameters::directives(
            engine.family,
            &group.given,
            cluster_mode == ClusterMode::Enabled,
            resources.maxmemory_bytes,
        ),
        parameter_group_name: group
            .name
            .unwrap_or_else(|| engine.family.default_group(cluster_mode == ClusterMode::Enabled)),
        not_in_effect: not_in_effect(spec, cluster_mode),
        namespace,
        name,
        uid: rg.metadata.uid.clone().unwrap_or_default(),
        generation: rg.metadata.generation.unwrap_or_default(),
        description: spec.replication_group_description.clone(),
        cluster_mode,
        image: options.image.clone().unwrap_or(engine.image),
        engine: engine.engine,
        family: engine.family,
        image_pull_policy: options
            .image_pull_policy
            .map(|policy| policy.as_str().to_owned())
            .or_else(|| tables.image_pull_policy.clone()),
        image_pull_secrets: options
            .image_pull_secrets
            .iter()
            .flatten()
            .map(|secret| secret.name.clone())
            .collect(),
        port,
        bus_port,
        shards: shape.shards,
        automatic_failover: shape.automatic_failover,
        primary: shape.primary,
        multi_az: spec.multi_az_enabled == Some(true),
        zones,
        cache_node_type: spec.cache_node_type.clone(),
        memory_bytes: resources.memory_bytes,
        cpu_request_millis: resources.cpu_request_millis,
        cpu_limit_millis: resources.cpu_limit_millis,
        maxmemory_bytes: resources.maxmemory_bytes,
        maxclients: resources.maxclients,
        storage,
        ingress,
        deletion_policy: spec.deletion_policy.unwrap_or(DeletionPolicy::Delete),
        pod,
        allow_eviction_of_only_copy: options.allow_eviction_of_only_copy == Some(true),
        tags,
        cluster_domain: tables.cluster_domain.clone(),
    })
}

/// V01 and V02.
fn check_name(name: &str, spec: &ReplicationGroupSpec, refusals: &mut Refusals) {
    if !names::is_replication_group_id(name) {
        refusals.value(
            "metadata.name",
            format!(
                "{name:?} is no replication group id: 1 to 40 letters, digits and hyphens; it must begin with a letter, must not end with a hyphen and must not contain two consecutive hyphens."
            ),
        );
    }
    if let Some(id) = &spec.replication_group_id
        && id.to_ascii_lowercase() != name
    {
        refusals.combination(
            "replicationGroupId",
            "replicationGroupId must be metadata.name when lower-cased, because the name of the object is the id of the group.",
        );
    }
    let length = spec.replication_group_description.chars().count();
    if !(1..=255).contains(&length) {
        refusals.value(
            "replicationGroupDescription",
            format!("replicationGroupDescription must have 1 to 255 characters and has {length}."),
        );
    }
}

fn allowed_zones(spec: &ReplicationGroupSpec, refs: &References, refusals: &mut Refusals) -> Vec<String> {
    let Some(wanted) = &spec.cache_subnet_group_name else { return Vec::new() };
    match &refs.subnet_group {
        Some(group) => group.spec.zones.clone(),
        None => {
            refusals.add(
                Reason::CacheSubnetGroupNotFound,
                "cacheSubnetGroupName",
                format!("CacheSubnetGroup not found: {}", wanted.to_ascii_lowercase()),
            );
            Vec::new()
        }
    }
}

fn port(spec: &ReplicationGroupSpec, refusals: &mut Refusals) -> u16 {
    let Some(asked) = spec.port else { return names::DEFAULT_PORT };
    match u16::try_from(asked) {
        Ok(port) if port == names::AGENT_PORT || port == names::AGENT_METRICS_PORT => {
            refusals.value("port", "port must not be 8379 or 8380: the agent of every node listens there.");
            port
        }
        Ok(port) if port >= 1150 => port,
        _ => {
            refusals.value("port", format!("port must be 1150 to 65535 and is {asked}."));
            names::DEFAULT_PORT
        }
    }
}

/// From Redis 7.0 on the bus has a port of the group's own, so that a node that is handed the address of another group's node
/// cannot be met by it. Before, the engine fixes it: the port plus 10000.
fn bus_port(
    namespace: &str,
    name: &str,
    port: u16,
    version: EngineVersion,
    mode: ClusterMode,
    refusals: &mut Refusals,
) -> u16 {
    if version.major >= 7 {
        return own_bus_port(namespace, name, port);
    }
    match port.checked_add(10_000) {
        Some(bus_port) => bus_port,
        None => {
            if mode == ClusterMode::Enabled {
                refusals.value(
                    "port",
                    "port must be at most 55535 with cluster mode enabled before version 7.0: the nodes talk to each other on the port 10000 above it.",
                );
            }
            own_bus_port(namespace, name, port)
        }
    }
}

fn own_bus_port(namespace: &str, name: &str, port: u16) -> u16 {
    // FNV-1a: a hash that is the same in every release, which the standard library's is not.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in namespace.bytes().chain([b'/']).chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let bus_port = 20_000 + (hash % 10_000) as u16;
    match bus_port == port {
        true if bus_port == 29_999 => 20_000,
        true => bus_port + 1,
        false => bus_port,
    }
}

/// The properties that are recorded, as far as the spec gives them.
fn not_in_effect(spec: &ReplicationGroupSpec, mode: ClusterMode) -> Vec<NotInEffect> {
    let given = [
        ("autoMinorVersionUpgrade", spec.auto_minor_version_upgrade.is_some()),
        ("notificationTopicArn", spec.notification_topic_arn.is_some()),
        ("preferredMaintenanceWindow", spec.preferred_maintenance_window.is_some()),
        ("snapshotWindow", spec.snapshot_window.is_some()),
    ];
    let mut list: Vec<NotInEffect> = properties::REPLICATION_GROUP
        .iter()
        .filter_map(|property| match property.class {
            Class::Recorded(sentence) if given.contains(&(property.field, true)) => {
                Some(NotInEffect { property: property.field.to_owned(), sentence: sentence.to_owned() })
            }
            _ => None,
        })
        .collect();
    let mut groups = spec.node_group_configuration.iter().flatten();
    if mode == ClusterMode::Disabled && groups.any(|group| group.slots.is_some()) {
        list.push(NotInEffect {
            property: "nodeGroupConfiguration".to_owned(),
            sentence: properties::SLOTS_RECORDED.to_owned(),
        });
    }
    list
}

#[cfg(test)]
mod tests;
