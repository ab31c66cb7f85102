//! The shape that a running group keeps: what this version cannot change online stays as it is, and is said to be pending.

use super::homecoming::arrive;
use super::replace::elsewhere;
use super::{Built, Setting};
use crate::build::{NodeInputs, accepted, node_inputs};
use crate::desired::{ClusterMode, Desired, DesiredNode, DesiredShard, EngineKind, Storage};
use crate::observed::Observed;
use kagami_api::reason::Reason;
use kagami_protocol::Shared;
use std::collections::BTreeMap;

/// What the plan works with: the desired state, with the parts that a running group keeps as they are.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The shape that is planned for.
    pub desired: Desired,
    /// What each node's template is built from.
    pub inputs: BTreeMap<String, Shared<NodeInputs>>,
    /// What was asked for and is not carried out by this version.
    pub pending: Vec<Pending>,
}

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Why it waits.
    pub reason: Reason,
    /// The property.
    pub property: String,
    /// A sentence.
    pub message: String,
}

/// Keeps what runs.
pub fn freeze(desired: &Desired, observed: &Observed, setting: &Setting) -> Frozen {
    freeze_with(desired, observed, setting, &mut Built::default())
}

pub(super) fn freeze_with(
    desired: &Desired,
    observed: &Observed,
    setting: &Setting,
    built: &mut Built,
) -> Frozen {
    let mut kept = built.kept(observed);
    let mut frozen = desired.clone();
    let mut pending = Vec::new();
    if let Some(first) = kept.values().next() {
        keep_group(&mut frozen, first);
        // Parameters and maxmemory go with the engine and the memory that they were resolved for: an engine that is started
        // again must not meet the directives of another version, nor a limit beyond its pod.
        let fits = frozen.engine == desired.engine
            && frozen.cluster_mode == desired.cluster_mode
            && frozen.memory_bytes == desired.memory_bytes;
        if !fits && let Some(before) = accepted(&desired.name, observed) {
            frozen.parameters = before.parameters;
            frozen.parameter_group_name = before.parameter_group_name;
            frozen.family = before.family;
            frozen.maxmemory_bytes = before.maxmemory_bytes;
            frozen.maxclients = before.maxclients;
            frozen.cache_node_type = before.cache_node_type;
        }
    }
    if !observed.leases.is_empty() {
        keep_shards(desired, &mut frozen, observed, &kept, &mut pending);
    }
    let mut inputs: BTreeMap<String, Shared<NodeInputs>> = BTreeMap::new();
    let mut changes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let places = place(desired, &frozen.shards, &kept, observed);
    // Differences are told against what was asked for, not against what is kept.
    let mut wanted = node_inputs(desired, "", None, false, &setting.agent_image);
    for shard in &frozen.shards {
        for node in &shard.nodes {
            let present = kept.get(&node.name);
            let required = node.zone.is_some() || desired.multi_az;
            let zone = node.zone.clone().or_else(|| match present {
                Some(present) => present.zone.clone(),
                None => places.get(&node.name).cloned().flatten(),
            });
            (wanted.zone, wanted.zone_required) = (zone, required);
            match present {
                Some(present) => {
                    for property in present.pending(&wanted) {
                        *changes.entry(property).or_default() += 1;
                    }
                    let mut present = present.clone();
                    // It was created where it only liked to be; with MultiAZ it stays where it stands, or its next pod could join the
                    // others in their zone.
                    if required
                        && !present.zone_required
                        && let Some(stands) = stands(observed, &node.name)
                    {
                        let inputs: &mut NodeInputs = &mut present;
                        (inputs.zone, inputs.zone_required) = (Some(stands), true);
                    }
                    if let Some(zone) = elsewhere(desired, shard, &node.name, &kept, observed) {
                        let inputs: &mut NodeInputs = &mut present;
                        let left = inputs.zone.replace(zone);
                        inputs.moved_from = inputs
                            .moved_from
                            .take()
                            .or(left)
                            .filter(|home| Some(home) != inputs.zone.as_ref());
                        inputs.away = None;
                        // P8: whoever of the shard is moved beside it, in this plan, sees where this one goes.
                        kept.insert(node.name.clone(), present.clone());
                    } else if present.away.is_some() {
                        arrive(&mut present, stands(observed, &node.name).as_ref());
                    }
                    inputs.insert(node.name.clone(), present);
                }
                None => {
                    let zone = wanted.zone.clone();
                    let mut wanted = node_inputs(&frozen, &shard.id, zone, required, &setting.agent_image);
                    // A new node beside kept ones runs the same engine.
                    if let Some(first) = kept.values().next() {
                        wanted.image.clone_from(&first.image);
                        wanted.engine_version.clone_from(&first.engine_version);
                    }
                    inputs.insert(node.name.clone(), wanted.into());
                }
            }
        }
    }
    pending.extend(changes.into_iter().map(|(property, nodes)| Pending {
        reason: Reason::UnsupportedModification,
        property: property.to_owned(),
        message: format!(
            "{property} was changed, and this version of Kagami does not change it on a running group: {nodes} cache node(s) keep \
             what they were created with. Set it back, or create a new group."
        ),
    }));
    built.turn_to(&frozen);
    pending.extend(super::parameters::pending(&frozen, observed, built));
    Frozen { desired: frozen, inputs, pending }
}

/// What all nodes of a running group share.
fn keep_group(frozen: &mut Desired, kept: &NodeInputs) {
    frozen.cluster_mode = if kept.cluster { ClusterMode::Enabled } else { ClusterMode::Disabled };
    frozen.port = kept.port;
    frozen.bus_port = kept.bus_port;
    frozen.image.clone_from(&kept.image);
    if let Some(kind) = EngineKind::ALL.iter().copied().find(|kind| kind.as_str() == kept.engine) {
        frozen.engine.kind = kind;
    }
    if let Ok(version) = kept.engine_version.parse() {
        frozen.engine.version = version;
    }
    frozen.storage =
        kept.storage_size.clone().map(|size| Storage { size, class: kept.storage_class.clone() });
    frozen.memory_bytes = kept.memory_bytes;
    frozen.cpu_request_millis = kept.cpu_request_millis;
    frozen.cpu_limit_millis = kept.cpu_limit_millis;
}

/// Shards are born together. Once the group has formed, the leases say which there are.
fn keep_shards(
    desired: &Desired,
    frozen: &mut Desired,
    observed: &Observed,
    kept: &BTreeMap<String, Shared<NodeInputs>>,
    pending: &mut Vec<Pending>,
) {
    let mut shards = Vec::new();
    for shard in &desired.shards {
        match observed.leases.get(&shard.id) {
            Some(lease) => {
                let mut shard = shard.clone();
                if !lease.slots.is_empty() {
                    shard.slots = lease.slots.clone();
                }
                let missing: Vec<&String> = kept
                    .iter()
                    .filter(|(name, inputs)| {
                        inputs.shard == shard.id && !shard.nodes.iter().any(|node| node.name == **name)
                    })
                    .map(|(name, _)| name)
                    .collect();
                if !missing.is_empty() {
                    pending.push(Pending {
                        reason: Reason::UnsupportedModification,
                        property: "replicasPerNodeGroup".into(),
                        message: format!(
                            "fewer replicas were asked for than node group {} has; this version of Kagami removes no cache node, so all \
                             of them stay. Set the number back.",
                            shard.id
                        ),
                    });
                    shard.nodes.extend(
                        missing.into_iter().map(|name| DesiredNode { name: name.clone(), zone: None }),
                    );
                }
                shards.push(shard);
            }
            // A shard that has nodes is a shard, also if somebody deleted its lease.
            None if observed.formed && !kept.values().any(|inputs| inputs.shard == shard.id) => {}
            None => shards.push(shard.clone()),
        }
    }
    for (id, lease) in &observed.leases {
        if !shards.iter().any(|shard| shard.id == *id) {
            let nodes = kept
                .iter()
                .filter(|(_, inputs)| inputs.shard == *id)
                .map(|(name, _)| DesiredNode { name: name.clone(), zone: None })
                .collect();
            shards.push(DesiredShard { id: id.clone(), slots: lease.slots.clone(), nodes });
        }
    }
    shards.sort_by(|a, b| a.id.cmp(&b.id));
    if observed.formed && shards.len() != desired.shards.len() {
        pending.push(Pending {
            reason: Reason::UnsupportedModification,
            property: "numNodeGroups".into(),
            message: format!(
                "{} node groups were asked for and the group has {}; this version of Kagami does not reshard, so the slots stay where \
                 they are. Set the number back, or create a new group.",
                desired.shards.len(),
                shards.len()
            ),
        });
    }
    frozen.shards = shards;
}

/// The zone of the machine that a node's pod runs on.
pub(super) fn stands(observed: &Observed, node: &str) -> Option<String> {
    let machine = observed.nodes.get(node)?.pod.as_ref()?.machine.as_ref()?;
    observed.machines.get(machine)?.zone.clone()
}

/// Where each node stands or is to stand.
fn place(
    desired: &Desired,
    shards: &[DesiredShard],
    kept: &BTreeMap<String, Shared<NodeInputs>>,
    observed: &Observed,
) -> BTreeMap<String, Option<String>> {
    let mut zones: Vec<String> = if desired.zones.is_empty() {
        let open = observed.machines.values().filter(|machine| machine.ready && !machine.unschedulable);
        open.filter_map(|machine| machine.zone.clone()).collect()
    } else {
        desired.zones.clone()
    };
    zones.sort();
    zones.dedup();
    let fixed: Vec<Vec<Option<String>>> = shards
        .iter()
        .map(|shard| {
            let zone = |node: &DesiredNode| match kept.get(&node.name) {
                // Where it only liked to be is not where it stands.
                Some(kept) if !kept.zone_required => {
                    stands(observed, &node.name).or_else(|| kept.zone.clone()).or_else(|| node.zone.clone())
                }
                Some(kept) => kept.zone.clone().or_else(|| node.zone.clone()),
                None => node.zone.clone(),
            };
            shard.nodes.iter().map(zone).collect()
        })
        .collect();
    let names = shards.iter().flat_map(|shard| shard.nodes.iter().map(|node| node.name.clone()));
    names.zip(super::zones::spread(&zones, &fixed).into_iter().flatten()).collect()
}
