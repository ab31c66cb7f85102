//! Nodes whose machine or zone is gone for good: replaced after a bound, in their zone if that can be, else where the copies
//! of the shard are still not all in one zone.
//!
//! Kubernetes makes a new pod by itself; what keeps it from being placed is a volume on the machine that is gone, or a zone
//! without machines. A volume claim goes only when its machine is proven gone and a better copy serves elsewhere.

use super::{Act, Frozen, Plan, Step};
use crate::build::NodeInputs;
use crate::desired::{Desired, DesiredShard};
use crate::observed::{Agent, Observed, PodView, is_primary};
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
                plan.steps.push(Step {
                    act: Act::DeletePod {
                        node: node.to_owned(),
                        pod: names::pod_name(node),
                        uid: pod.uid.clone(),
                    },
                    reason: Reason::CacheNodeReplaceStarted,
                    event: format!(
                        "Recovering cache nodes {node}: no machine is left in availability zone {pinned}; it is replaced in {home}"
                    ),
                    warning: true,
                });
                plan.wait(Reason::CacheNodeReplaceStarted, node, format!("it is replaced in zone {home}"));
            }
        }
    }
}

/// Whether a machine is proven gone: its object was deleted, or somebody vouches that it is off.
fn gone(machine: &str, observed: &Observed) -> bool {
    observed.machines.get(machine).is_none_or(|machine| machine.out_of_service)
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

/// The zone to which a node moves, because its own has lost every machine for good; `None` where it stays, also because the
/// copies of the shard would all be in one zone (P8).
pub(super) fn elsewhere(
    group: &Desired,
    shard: &DesiredShard,
    node: &str,
    kept: &BTreeMap<String, Shared<NodeInputs>>,
    observed: &Observed,
) -> Option<String> {
    let inputs = kept.get(node).filter(|inputs| inputs.zone_required)?;
    let zone = inputs.zone.as_ref()?;
    let left = observed
        .machines
        .values()
        .any(|machine| machine.zone.as_ref() == Some(zone) && !machine.out_of_service);
    if left {
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
        .filter(|machine| machine.ready && !machine.unschedulable && !machine.out_of_service)
        .filter_map(|machine| machine.zone.as_ref())
        .filter(|zone| group.zones.is_empty() || group.zones.contains(*zone))
        .filter(|zone| !group.multi_az || others.iter().any(|other| other != zone))
        .collect();
    let copies = |zone: &String| others.iter().filter(|other| **other == zone).count();
    fit.into_iter().min_by_key(|zone| (copies(zone), (*zone).clone())).cloned()
}
