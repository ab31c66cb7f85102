//! A node whose zone had lost every machine moves back once the zone has machines again: its pod is deleted in good order, and
//! the next one is made from a template that names the zone.
//!
//! Only a replica without a volume moves, and only while every node of its group is well: what it holds, its primary holds too,
//! and a volume cannot leave its machine. A primary stays where it is for as long as it is one (no failover for a zone's sake). It
//! is tried once: a node that finds no place at home goes back to where it came from ([`super::replace`]).

use super::{Act, Frozen, Plan, Step, key};
use crate::build::NodeInputs;
use crate::desired::{Desired, DesiredShard};
use crate::observed::{Kind, Observed, is_primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::{Role, Shared};
use std::collections::BTreeMap;

/// How long a machine of the zone must have been ready: a zone that comes and goes moves nobody.
pub const RETURN_AFTER_MS: u64 = 60_000;

/// The zone to which a node returns.
pub(super) fn home(
    group: &Desired,
    shard: &DesiredShard,
    node: &str,
    kept: &BTreeMap<String, Shared<NodeInputs>>,
    observed: &Observed,
) -> Option<String> {
    let inputs = kept.get(node).filter(|inputs| inputs.storage_size.is_none() && inputs.away.is_none())?;
    let home = inputs.moved_from.as_ref().filter(|home| inputs.zone.as_ref() != Some(*home))?;
    let open = observed.machines.values().any(|machine| {
        let ready_ms = u64::try_from(observed.now_ms - machine.ready_since_ms).unwrap_or(0);
        machine.zone.as_ref() == Some(home)
            && machine.ready
            && !machine.unschedulable
            && !machine.out_of_service
            && ready_ms >= RETURN_AFTER_MS
    });
    let others = shard.nodes.iter().filter(|each| each.name != node);
    let mut others = others.filter_map(|each| kept.get(&each.name)?.zone.as_ref());
    let apart = !group.multi_az || others.any(|zone| zone != home);
    (open && apart && may_go(group, shard, node, observed)).then(|| home.clone())
}

pub(super) fn rule(frozen: &Frozen, observed: &Observed, plan: &mut Plan) {
    let group = &frozen.desired;
    for shard in &group.shards {
        for node in shard.nodes.iter().map(|node| node.name.as_str()) {
            let Some(inputs) = frozen.inputs.get(node) else { continue };
            let (Some(home), Some(away)) = (&inputs.zone, &inputs.away) else { continue };
            let pod = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
            let Some(pod) = pod.filter(|pod| pod.zone.as_ref() == Some(away) && home != away) else {
                continue;
            };
            let set = key(Kind::StatefulSet, node);
            let written =
                !plan.steps.iter().any(|step| matches!(&step.act, Act::Apply { key, .. } if *key == set));
            if written && !pod.deleting && may_go(group, shard, node, observed) {
                plan.steps.push(Step {
                    act: Act::MovePod { node: node.to_owned(), pod: names::pod_name(node), uid: pod.uid.clone() },
                    reason: Reason::CacheNodeReplaceStarted,
                    event: format!(
                        "Recovering cache nodes {node}: availability zone {home} has machines again, and it moves back there from {away}"
                    ),
                    warning: false,
                });
            }
            plan.wait(Reason::CacheNodeReplaceStarted, node, format!("it moves back to zone {home}"));
        }
    }
}

/// Whether a node is a replica in sync, and everybody else of its group is well.
fn may_go(group: &Desired, shard: &DesiredShard, node: &str, observed: &Observed) -> bool {
    let replica = observed.engine(node).is_some_and(|engine| engine.role == Some(Role::Replica));
    let leads = observed.leases.get(&shard.id).is_some_and(|lease| {
        lease.served && lease.holder != node && observed.engine(&lease.holder).is_some_and(is_primary)
    });
    let well = group.shards.iter().flat_map(|each| &each.nodes).all(|each| {
        observed.nodes.get(&each.name).and_then(|seen| seen.pod.as_ref()).is_some_and(|pod| !pod.deleting)
            && observed.report(&each.name).is_some_and(|report| !report.terminating)
            && observed.engine(&each.name).is_some_and(|engine| {
                engine.complete
                    && !engine.loading
                    && (is_primary(engine) || engine.link.as_ref().is_some_and(|link| link.up))
            })
    });
    replica && leads && well
}
