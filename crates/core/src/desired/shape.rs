//! Shards, nodes, zones and slots.

use std::collections::BTreeSet;

use kagami_api::names;
use kagami_api::v1alpha1::{self, Engine as EngineKind, NodeGroupConfiguration, ReplicationGroupSpec};

use super::engine::Group;
use super::{ClusterMode, DesiredNode, DesiredShard, Refusals};
use crate::slots::{SLOT_COUNT, SlotSet};

/// ElastiCache's highest quota of nodes in a group.
const NODES_MAX: usize = 500;

/// The shape of a group.
pub(super) struct Shape {
    pub(super) shards: Vec<DesiredShard>,
    pub(super) automatic_failover: bool,
    pub(super) primary: Option<String>,
}

fn configured(spec: &ReplicationGroupSpec) -> &[NodeGroupConfiguration] {
    spec.node_group_configuration.as_deref().unwrap_or_default()
}

/// How many shards the spec gives: numNodeGroups, else the entries of nodeGroupConfiguration, else one.
fn shard_count(spec: &ReplicationGroupSpec) -> usize {
    let count = spec.num_node_groups.map(|count| usize::try_from(count).unwrap_or(0));
    count.unwrap_or_else(|| configured(spec).len().max(1))
}

/// How cluster mode is decided: by clusterMode; else by cluster-enabled of the parameter group; else by the number of shards.
/// `numNodeGroups: 1` says nothing about it.
pub(super) fn cluster_mode(
    spec: &ReplicationGroupSpec,
    group: &Group,
    refusals: &mut Refusals,
) -> ClusterMode {
    let asked = match spec.cluster_mode {
        // Refused elsewhere; what else is wrong is judged as if it were enabled.
        Some(v1alpha1::ClusterMode::Enabled | v1alpha1::ClusterMode::Compatible) => Some(true),
        Some(v1alpha1::ClusterMode::Disabled) => Some(false),
        None => None,
    };
    match (asked, group.clustered) {
        (Some(false), Some(true)) => refusals.combination(
            "clusterMode",
            "Cluster mode should be disabled in parameter group, but found it is enabled. clusterMode and cacheParameterGroupName contradict each other.",
        ),
        (Some(true), Some(false)) => refusals.combination(
            "clusterMode",
            "Cluster mode should be enabled in parameter group, but found it is disabled. clusterMode and cacheParameterGroupName contradict each other.",
        ),
        _ => {}
    }
    match asked.or(group.clustered).unwrap_or(shard_count(spec) > 1) {
        true => ClusterMode::Enabled,
        false => ClusterMode::Disabled,
    }
}

/// V05, V07 to V13: how many shards and nodes, in which zones, with which slots.
pub(super) fn resolve(
    name: &str,
    spec: &ReplicationGroupSpec,
    engine: EngineKind,
    mode: ClusterMode,
    allowed_zones: &[String],
    refusals: &mut Refusals,
) -> Shape {
    check_counts(spec, mode, refusals);
    let count = shard_count(spec).clamp(1, NODES_MAX);
    let ids = shard_ids(spec, count, refusals);
    let slots = slots(spec, mode, count, refusals);
    let mut shards = Vec::with_capacity(count);
    for (index, (id, slots)) in ids.into_iter().zip(slots).enumerate() {
        let zones = node_zones(spec, configured(spec).get(index), mode, refusals);
        let nodes = zones
            .into_iter()
            .enumerate()
            .map(|(n, zone)| DesiredNode { name: names::node_name(name, &id, n + 1), zone })
            .collect();
        shards.push(DesiredShard { id, slots, nodes });
    }
    let total: usize = shards.iter().map(|shard| shard.nodes.len()).sum();
    if total > NODES_MAX {
        refusals.value(
            "numNodeGroups",
            format!("A group has at most {NODES_MAX} nodes, and this one would have {total}."),
        );
    }
    check_preferred(spec, mode, total, refusals);
    check_allowed(&shards, allowed_zones, refusals);
    let asked = asks_for_failover(spec, engine, mode);
    let automatic_failover = check_failover(spec, mode, asked, total, refusals);
    check_multi_az(spec, asked, &shards, allowed_zones, refusals);
    let primary = check_primary(name, spec, &shards, mode, automatic_failover, refusals);
    Shape { shards, automatic_failover, primary }
}

/// V05, V07, V12 and V13: the counts must be possible and agree with each other.
fn check_counts(spec: &ReplicationGroupSpec, mode: ClusterMode, refusals: &mut Refusals) {
    let ranges = [
        ("numCacheClusters", spec.num_cache_clusters, 1, 6),
        ("numNodeGroups", spec.num_node_groups, 1, 500),
        ("replicasPerNodeGroup", spec.replicas_per_node_group, 0, 5),
    ];
    for (property, value, from, to) in ranges {
        if let Some(value) = value.filter(|value| !(from..=to).contains(value)) {
            refusals.value(property, format!("{property} must be {from} to {to} and is {value}."));
        }
    }
    let shards = shard_count(spec);
    if let Some(nodes) = spec.num_cache_clusters {
        if shards > 1 {
            refusals.combination(
                "numCacheClusters",
                "numCacheClusters is not used if there is more than one node group: use replicasPerNodeGroup.",
            );
        }
        let first = configured(spec).first().and_then(|group| group.replica_count);
        for replicas in [spec.replicas_per_node_group, first.filter(|_| shards <= 1)].into_iter().flatten() {
            if nodes.saturating_sub(1) != replicas {
                refusals.combination(
                    "numCacheClusters",
                    format!("numCacheClusters says {nodes} nodes, and {replicas} replicas are asked for elsewhere: leave one out."),
                );
            }
        }
    }
    let entries = configured(spec).len();
    if entries > 0 && entries != shards {
        refusals.combination(
            "nodeGroupConfiguration",
            format!("nodeGroupConfiguration must have as many entries as numNodeGroups says: it has {entries}, and numNodeGroups is {shards}."),
        );
    }
    if mode == ClusterMode::Disabled && shards > 1 {
        refusals.combination(
            "numNodeGroups",
            "A group with cluster mode disabled has exactly one node group: set numNodeGroups to 1, or choose a parameter group with cluster-enabled, such as default.redis7.cluster.on.",
        );
    }
}

/// Ids are four digits; those that the spec leaves out are the lowest that are free, in the order of the list.
fn shard_ids(spec: &ReplicationGroupSpec, count: usize, refusals: &mut Refusals) -> Vec<String> {
    const PROPERTY: &str = "nodeGroupConfiguration";
    let mut taken = BTreeSet::new();
    let mut given = Vec::with_capacity(count);
    for index in 0..count {
        let id = configured(spec).get(index).and_then(|group| group.node_group_id.as_deref());
        let number = id.and_then(|id| {
            let digits = (1..=4).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit());
            let number = id.parse::<u32>().ok().filter(|number| digits && *number > 0);
            if number.is_none() {
                refusals.value(
                    PROPERTY,
                    format!("nodeGroupId must be one to four digits, not all 0, and is {id:?}."),
                );
            }
            number
        });
        if let Some(number) = number
            && !taken.insert(number)
        {
            refusals.combination(
                PROPERTY,
                format!("nodeGroupConfiguration has two entries with the nodeGroupId {number:04}."),
            );
        }
        given.push(number);
    }
    let mut free = (1u32..).filter(|number| !taken.contains(number));
    given
        .into_iter()
        .map(|number| format!("{:04}", number.or_else(|| free.next()).unwrap_or_default()))
        .collect()
}

/// V12: either every node group gives its slots, and together they are all slots once, or none does and they are split evenly.
fn slots(
    spec: &ReplicationGroupSpec,
    mode: ClusterMode,
    count: usize,
    refusals: &mut Refusals,
) -> Vec<SlotSet> {
    const PROPERTY: &str = "nodeGroupConfiguration";
    let default = || match mode {
        ClusterMode::Enabled => SlotSet::split_evenly(count),
        ClusterMode::Disabled => vec![SlotSet::empty(); count],
    };
    let texts: Vec<&str> = configured(spec).iter().filter_map(|group| group.slots.as_deref()).collect();
    if texts.is_empty() {
        return default();
    }
    if texts.len() != configured(spec).len() {
        refusals
            .combination(PROPERTY, "nodeGroupConfiguration must give slots to every node group or to none.");
        return default();
    }
    let mut sets = Vec::with_capacity(count);
    let mut covered = SlotSet::empty();
    for text in texts {
        match text.parse::<SlotSet>() {
            Ok(set) if set.is_empty() => {
                refusals.value(PROPERTY, "slots in nodeGroupConfiguration must not be empty.");
            }
            Ok(set) => {
                let twice = covered.intersection(&set);
                if !twice.is_empty() {
                    let twice = few(&twice);
                    refusals
                        .combination(PROPERTY, format!("slots in nodeGroupConfiguration overlap: {twice}."));
                }
                covered = covered.union(&set);
                sets.push(set);
            }
            Err(error) => refusals.value(PROPERTY, format!("slots in nodeGroupConfiguration: {error}.")),
        }
    }
    let missing = SlotSet::full().difference(&covered);
    if !missing.is_empty() && sets.len() == configured(spec).len() {
        refusals.combination(
            PROPERTY,
            format!(
                "slots in nodeGroupConfiguration must cover 0-{} and leave out {}.",
                SLOT_COUNT - 1,
                few(&missing)
            ),
        );
    }
    if sets.len() == count && mode == ClusterMode::Enabled { sets } else { default() }
}

/// Slots for a sentence: their first ranges, since thousands of them would fit into no condition.
fn few(slots: &SlotSet) -> String {
    const RANGES_MOST: usize = 8;
    let ranges = slots.ranges();
    let shown = SlotSet::from_ranges(ranges.iter().copied().take(RANGES_MOST));
    match ranges.len().saturating_sub(RANGES_MOST) {
        0 => shown.to_string(),
        more => format!("{shown} and {more} more ranges"),
    }
}

/// The zone of each node of a shard, as far as it is asked for; as many as the shard has nodes.
fn node_zones(
    spec: &ReplicationGroupSpec,
    group: Option<&NodeGroupConfiguration>,
    mode: ClusterMode,
    refusals: &mut Refusals,
) -> Vec<Option<String>> {
    const PROPERTY: &str = "nodeGroupConfiguration";
    if let Some(count) = group.and_then(|group| group.replica_count).filter(|count| !(0..=5).contains(count))
    {
        refusals.value(
            PROPERTY,
            format!("replicaCount in nodeGroupConfiguration must be 0 to 5 and is {count}."),
        );
    }
    let replicas = group
        .and_then(|group| group.replica_count)
        .or(spec.replicas_per_node_group)
        .or(spec.num_cache_clusters.map(|nodes| nodes.saturating_sub(1)))
        .unwrap_or(0)
        .clamp(0, 5);
    let replicas = usize::try_from(replicas).unwrap_or(0);
    let preferred = spec.preferred_cache_cluster_azs.as_deref().unwrap_or_default();
    if mode == ClusterMode::Disabled && preferred.len() == 1 + replicas {
        return preferred.iter().cloned().map(Some).collect();
    }
    let mut zones = vec![group.and_then(|group| group.primary_availability_zone.clone())];
    let wished = group.and_then(|group| group.replica_availability_zones.as_deref()).unwrap_or_default();
    if !wished.is_empty() && wished.len() != replicas {
        refusals.combination(
            PROPERTY,
            format!(
                "The number of replicaAvailabilityZones in nodeGroupConfiguration must match replicaCount, or replicasPerNodeGroup where replicaCount is not given: there are {} zones for {replicas} replicas.",
                wished.len()
            ),
        );
    }
    zones.extend((0..replicas).map(|index| wished.get(index).cloned()));
    zones
}

/// V11.
fn check_preferred(spec: &ReplicationGroupSpec, mode: ClusterMode, nodes: usize, refusals: &mut Refusals) {
    const PROPERTY: &str = "preferredCacheClusterAZs";
    let preferred = spec.preferred_cache_cluster_azs.as_deref().unwrap_or_default();
    if preferred.is_empty() {
        return;
    }
    if mode == ClusterMode::Enabled || shard_count(spec) > 1 {
        refusals.combination(
            PROPERTY,
            "PreferredCacheClusterAZs can only be specified for one node group. With cluster mode enabled give the zones in nodeGroupConfiguration.",
        );
    } else if preferred.len() != nodes {
        refusals.combination(
            PROPERTY,
            format!(
                "When specifying preferred availability zones, the number of cache clusters must be specified and must match the number of preferred availability zones. There are {} zones for {nodes} nodes.",
                preferred.len()
            ),
        );
    }
    let zoned = |group: &NodeGroupConfiguration| {
        group.primary_availability_zone.is_some() || group.replica_availability_zones.is_some()
    };
    if configured(spec).iter().any(zoned) {
        refusals.combination(PROPERTY, "preferredCacheClusterAZs and the zones of nodeGroupConfiguration exclude each other: leave one out.");
    }
}

/// Every zone that is asked for must be one of the subnet group's.
fn check_allowed(shards: &[DesiredShard], allowed: &[String], refusals: &mut Refusals) {
    let asked: BTreeSet<&String> =
        shards.iter().flat_map(|shard| &shard.nodes).filter_map(|node| node.zone.as_ref()).collect();
    for zone in asked.into_iter().filter(|zone| !allowed.is_empty() && !allowed.contains(zone)) {
        refusals.combination(
            "cacheSubnetGroupName",
            format!("The availability zone {zone} is not one of the subnet group's: {}.", allowed.join(", ")),
        );
    }
}

/// Whether automatic failover is asked for. Where nothing is said, ElastiCache takes it to be on with cluster mode enabled and for
/// valkey, also for a group that cannot do it, so that one must say false; and off for redis with cluster mode disabled.
fn asks_for_failover(spec: &ReplicationGroupSpec, engine: EngineKind, mode: ClusterMode) -> bool {
    let default = mode == ClusterMode::Enabled || engine == EngineKind::Valkey;
    spec.automatic_failover_enabled.unwrap_or(default)
}

/// V08 and V09.
fn check_failover(
    spec: &ReplicationGroupSpec,
    mode: ClusterMode,
    asked: bool,
    nodes: usize,
    refusals: &mut Refusals,
) -> bool {
    const PROPERTY: &str = "automaticFailoverEnabled";
    if mode == ClusterMode::Enabled {
        if spec.automatic_failover_enabled == Some(false) {
            refusals.combination(
                PROPERTY,
                "Redis with cluster mode enabled cannot be created with auto failover turned off. Set automaticFailoverEnabled to true or leave it out.",
            );
        }
        return true;
    }
    if asked && nodes < 2 {
        refusals.combination(
            PROPERTY,
            "When using automatic failover, there must be at least 2 cache clusters in the replication group. Set automaticFailoverEnabled to false, or numCacheClusters to 2 or more.",
        );
    }
    asked && nodes > 1
}

/// ModifyReplicationGroup takes `PrimaryClusterId` where nothing else moves the role.
fn check_primary(
    name: &str,
    spec: &ReplicationGroupSpec,
    shards: &[DesiredShard],
    mode: ClusterMode,
    automatic_failover: bool,
    refusals: &mut Refusals,
) -> Option<String> {
    const PROPERTY: &str = "primaryClusterId";
    let named = spec.primary_cluster_id.clone()?;
    if mode == ClusterMode::Enabled {
        refusals
            .combination(PROPERTY, "primaryClusterId is not used with cluster mode enabled. Leave it out.");
    } else if automatic_failover && shards.iter().any(|shard| shard.nodes.len() > 1) {
        refusals.combination(
            PROPERTY,
            "primaryClusterId needs automaticFailoverEnabled: false, because automatic failover moves the role. Set that, or leave this out.",
        );
    }
    let members: Vec<&str> =
        shards.iter().flat_map(|shard| &shard.nodes).map(|node| node.name.as_str()).collect();
    // ElastiCache counts my-group-001, my-group-002.
    let number = named.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    let number = number.filter(|digits| digits.len() == 3).and_then(|digits| digits.parse::<usize>().ok());
    let counted = number.and_then(|number| members.get(number.checked_sub(1)?).copied());
    let member = members.iter().copied().find(|member| *member == named).or(counted);
    if mode == ClusterMode::Disabled && member.is_none() {
        refusals.value(
            PROPERTY,
            format!(
                "primaryClusterId must be a node of this group, one of {}, and is {named}. A node of another group cannot be taken over.",
                members.join(", ")
            ),
        );
    }
    member.map(str::to_owned)
}

/// V10.
fn check_multi_az(
    spec: &ReplicationGroupSpec,
    failover: bool,
    shards: &[DesiredShard],
    allowed: &[String],
    refusals: &mut Refusals,
) {
    const PROPERTY: &str = "multiAZEnabled";
    if spec.multi_az_enabled != Some(true) {
        return;
    }
    if !failover {
        refusals.combination(
            PROPERTY,
            "multiAZEnabled needs automatic failover: set automaticFailoverEnabled to true.",
        );
    }
    if allowed.len() == 1 {
        refusals.combination(
            PROPERTY,
            format!(
                "multiAZEnabled needs at least two zones, and the subnet group has only {}.",
                allowed.join(", ")
            ),
        );
    }
    for shard in shards {
        if shard.nodes.len() < 2 {
            refusals.combination(
                PROPERTY,
                "multiAZEnabled needs at least one replica in every node group: set numCacheClusters to 2 or more, or replicasPerNodeGroup to 1 or more.",
            );
            continue;
        }
        let zones: BTreeSet<Option<&String>> = shard.nodes.iter().map(|node| node.zone.as_ref()).collect();
        if let [Some(zone)] = zones.into_iter().collect::<Vec<_>>().as_slice() {
            refusals.combination(
                PROPERTY,
                format!("multiAZEnabled needs the nodes of node group {} in at least two zones, and all of them are to be in {zone}.", shard.id),
            );
        }
    }
}
