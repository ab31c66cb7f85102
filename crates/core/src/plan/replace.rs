//! Nodes whose machine or zone is gone for good: replaced after a bound, in their zone if that can be, else where the copies
//! of the shard are still not all in one zone.
//!
//! Kubernetes makes a new pod by itself; what keeps it from being placed is a volume on the machine that is gone, or a zone
//! without machines. A volume claim goes only when its machine is proven gone and a better copy serves elsewhere.

use super::shape::stands;
use super::{Act, Frozen, Plan, Step, key};
use crate::build::{NodeInputs, pinned_zone};
use crate::desired::{Desired, DesiredShard};
use crate::observed::{Agent, Kind, Observed, PodView, is_primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::Shared;
use std::collections::{BTreeMap, BTreeSet};

/// How long a node's new pod must have found no machine before anything is done about it: long enough for a zone to come
/// back from an outage of its control plane, short enough that a shard is not one copy short for a lunch break.
pub const REPLACE_AFTER_MS: u64 = 60_000;

pub(super) fn rule(frozen: &Frozen, observed: &Observed, plan: &mut Plan) {
    let group = &frozen.desired;
    for shard in &group.shards {
        for node in shard.nodes.iter().map(|node| node.name.as_str()) {
            let Some((pod, better)) = replaceable(shard, node, observed) else { continue };
            let home = frozen.inputs.get(node).and_then(|inputs| inputs.zone.as_ref());
            if let Some(claim) = observed.claims.get(node)
                && let Some(machine) = &claim.machine
                && gone(machine, observed)
            {
                if !claim.deleting {
                    plan.steps.push(Step {
                        act: Act::DeleteClaim {
                            node: node.to_owned(),
                            claim: claim.name.clone(),
                            uid: claim.uid.clone(),
                        },
                        reason: Reason::CacheNodeReplaceStarted,
                        event: format!(
                            "Recovering cache nodes {node}: machine {machine} is gone, and the volume that was on it with it; {better} \
                             holds the copy that is served"
                        ),
                        warning: true,
                    });
                }
                plan.wait(
                    Reason::CacheNodeReplaceStarted,
                    node,
                    format!(
                        "it gets a new volume in the place of the one on machine {machine}, which is gone"
                    ),
                );
            } else if let (Some(pinned), Some(home)) = (&pod.zone, home)
                && pinned != home
            {
                // Made from the old template, the next pod would wait for that zone once more.
                if template_names(observed, node, home) {
                    let why = if is_left(pinned, observed) { "takes it" } else { "is left" };
                    plan.steps.push(Step {
                        act: Act::DeletePod {
                            node: node.to_owned(),
                            pod: names::pod_name(node),
                            uid: pod.uid.clone(),
                        },
                        reason: Reason::CacheNodeReplaceStarted,
                        event: format!(
                            "Recovering cache nodes {node}: no machine {why} in availability zone {pinned}; it is replaced in {home}"
                        ),
                        warning: true,
                    });
                }
                plan.wait(Reason::CacheNodeReplaceStarted, node, format!("it is replaced in zone {home}"));
            }
        }
    }
}

/// Whether a machine is proven gone: its object was deleted, or somebody vouches that it is off.
fn gone(machine: &str, observed: &Observed) -> bool {
    observed.machines.get(machine).is_none_or(|machine| machine.out_of_service)
}

/// Whether a zone has a machine that may come back.
fn is_left(zone: &str, observed: &Observed) -> bool {
    observed.machines.values().any(|machine| machine.zone.as_deref() == Some(zone) && !machine.out_of_service)
}

/// Whether the next pod of a node is made for that zone: its StatefulSet says so, and the controller has taken notice.
pub(super) fn template_names(observed: &Observed, node: &str, zone: &str) -> bool {
    observed.children.get(&key(Kind::StatefulSet, node)).is_some_and(|set| {
        let number = |path: &str| set.pointer(path).and_then(serde_json::Value::as_i64);
        let noticed = number("/status/observedGeneration")
            .zip(number("/metadata/generation"))
            .is_none_or(|(seen, is)| seen >= is);
        pinned_zone(set) == Some(zone) && noticed
    })
}

/// P8: whether another copy of the shard is in another zone, and stays there, if this one is in that zone: by its template, and
/// by the machine that it stands on.
pub(super) fn apart(
    group: &Desired,
    shard: &DesiredShard,
    node: &str,
    zone: &str,
    inputs: &BTreeMap<String, Shared<NodeInputs>>,
    observed: &Observed,
) -> bool {
    let elsewhere = |name: &str| {
        let stands = stands(observed, name);
        // One that only liked to be somewhere is pinned to where it stands.
        let pinned = inputs.get(name).filter(|inputs| inputs.zone_required);
        let meant = pinned.map_or(stands.as_ref(), |inputs| inputs.zone.as_ref());
        meant.is_some_and(|meant| meant != zone) && stands.is_none_or(|stands| stands != zone)
    };
    !group.multi_az || shard.nodes.iter().any(|each| each.name != node && elsewhere(&each.name))
}

/// A node that was a member, whose new pod has found no machine for longer than the bound, while another node serves the
/// better copy: its pod, and that node.
fn replaceable<'a>(
    shard: &DesiredShard,
    node: &str,
    observed: &'a Observed,
) -> Option<(&'a PodView, &'a str)> {
    let seen = observed.nodes.get(node)?;
    let pod = seen.pod.as_ref()?;
    let age = u64::try_from(observed.now_ms - pod.created_ms).unwrap_or(0);
    let waited = age.min(observed.watching_ms) >= REPLACE_AFTER_MS;
    let homeless = pod.unschedulable.is_some() && pod.machine.is_none() && !pod.deleting;
    let member = observed.last_offsets.contains_key(node);
    if !(waited && homeless && member) || matches!(seen.agent, Agent::Up(_)) {
        return None;
    }
    let lease = observed.leases.get(&shard.id).filter(|lease| lease.served && lease.holder != node)?;
    let serves = observed.report(&lease.holder).is_some_and(|report| report.boot == lease.boot)
        && observed
            .engine(&lease.holder)
            .is_some_and(|engine| is_primary(engine) && engine.complete && !engine.loading);
    serves.then_some((pod, lease.holder.as_str()))
}

/// The zone to which a node moves, because its own has lost every machine for good, or has no place for one that was to move back
/// there; `None` where it stays, also because the copies of the shard would all be in one zone (P8).
pub(super) fn elsewhere(
    group: &Desired,
    shard: &DesiredShard,
    node: &str,
    kept: &BTreeMap<String, Shared<NodeInputs>>,
    observed: &Observed,
) -> Option<String> {
    let inputs = kept.get(node).filter(|inputs| inputs.zone_required)?;
    let zone = inputs.zone.as_ref()?;
    // On its way home it is not to wait for a place: where it came from it had one.
    if is_left(zone, observed) && inputs.away.is_none() {
        return None;
    }
    replaceable(shard, node, observed)?;
    let others: Vec<&String> = shard
        .nodes
        .iter()
        .filter(|each| each.name != node)
        .filter_map(|each| kept.get(&each.name)?.zone.as_ref())
        .collect();
    let fit: BTreeSet<&String> = observed
        .machines
        .values()
        .filter(|machine| machine.open())
        .filter_map(|machine| machine.zone.as_ref())
        .filter(|other| *other != zone)
        .filter(|zone| group.zones.is_empty() || group.zones.contains(*zone))
        .filter(|zone| apart(group, shard, node, zone, kept, observed))
        .collect();
    let copies = |zone: &String| others.iter().filter(|other| **other == zone).count();
    let came_from = |zone: &String| inputs.away.as_ref() == Some(zone);
    fit.into_iter().min_by_key(|zone| (!came_from(zone), copies(zone), (*zone).clone())).cloned()
}
