//! An independent reading of a plan before it is carried out: written from the promises, not from the rules.
//!
//! It stands between plan and act in production too. A note is a bug of Kagami; the plan is then not carried out.

use crate::desired::{ClusterMode, Desired};
use crate::observed::{Life, Observed};
use crate::plan::{Act, Plan};
use kagami_protocol::{Command, EngineState, Role, StartData, StartRole};
use std::collections::{BTreeMap, BTreeSet};

/// What a plan would break, in words; empty for a good plan.
pub fn check(group: &Desired, observed: &Observed, plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let shard_of: BTreeMap<&str, &str> = group
        .shards
        .iter()
        .flat_map(|shard| shard.nodes.iter().map(|node| (node.name.as_str(), shard.id.as_str())))
        .collect();
    let mut disturbed: BTreeSet<&str> = BTreeSet::new();
    let mut raised: BTreeSet<&str> = BTreeSet::new();
    for step in &plan.steps {
        match &step.act {
            Act::RaiseTerm(raise) => {
                if !raised.insert(&raise.shard) {
                    notes
                        .push(format!("P2: two terms are raised for node group {} in one plan", raise.shard));
                }
                let seen = observed.leases.get(&raise.shard).map_or(0, |lease| lease.term);
                if raise.term <= seen {
                    notes.push(format!(
                        "P5: the term of node group {} would go from {seen} to {}",
                        raise.shard, raise.term
                    ));
                }
                if observed.report(&raise.holder).is_none_or(|report| report.boot != raise.boot) {
                    notes.push(format!(
                        "P3: {} is made the holder and cannot be asked in that boot",
                        raise.holder
                    ));
                }
                passes_over(group, observed, &raise.shard, &raise.holder, &mut notes);
            }
            Act::Order { node, boot, command, .. } => {
                let Some(report) = observed.report(node) else {
                    notes.push(format!("P3: an order goes to {node}, whose state is unknown"));
                    continue;
                };
                if report.boot != *boot {
                    notes.push(format!("P5: an order to {node} is meant for another boot"));
                }
                let Some(shard) = shard_of.get(node.as_str()) else {
                    notes.push(format!("an order goes to {node}, which is no node of the group"));
                    continue;
                };
                match &**command {
                    Command::Start(start) => {
                        if report.state != EngineState::Parked {
                            notes.push(format!("P1: {node} is to be started and is not parked"));
                        }
                        starts(group, observed, shard, node, start, &mut notes);
                    }
                    Command::Promote { .. } => {
                        if !disturbed.insert(shard) {
                            notes.push(format!("P2: two promotions in node group {shard} in one plan"));
                        }
                        promotes(observed, plan, shard, node, &mut notes);
                    }
                    Command::Forget { ids } => forgets(group, observed, ids, &mut notes),
                    _ => {}
                }
            }
            Act::HandOver(hand) => {
                let shard = shard_of.get(hand.to.as_str()).copied().unwrap_or_default();
                if !disturbed.insert(shard) {
                    notes.push(format!("P2: two promotions in node group {shard} in one plan"));
                }
                if observed.life(&hand.from, &hand.from_boot) != Life::Alive {
                    notes.push(format!("P3: {} is to hand over and is not known to live", hand.from));
                }
            }
            Act::Annotate { .. }
            | Act::Apply { .. }
            | Act::MakeSecrets
            | Act::Delete { .. }
            | Act::NoteServed { .. }
            | Act::LabelRole { .. } => {}
        }
    }
    notes
}

/// P1: a holder without a copy while somebody holds one.
fn passes_over(group: &Desired, observed: &Observed, shard: &str, holder: &str, notes: &mut Vec<String>) {
    let holds = |node: &str| observed.engine(node).is_some_and(|engine| engine.complete && !engine.loading);
    let nodes = group.shards.iter().filter(|each| each.id == shard).flat_map(|each| &each.nodes);
    if !holds(holder)
        && let Some(better) = nodes.map(|node| &node.name).find(|node| *node != holder && holds(node))
    {
        notes.push(format!(
            "P1: {holder} is made the holder of node group {shard} while {better} holds a live copy"
        ));
    }
}

fn starts(
    group: &Desired,
    observed: &Observed,
    shard: &str,
    node: &str,
    start: &kagami_protocol::Start,
    notes: &mut Vec<String>,
) {
    let nodes: Vec<&String> = group
        .shards
        .iter()
        .filter(|each| each.id == shard)
        .flat_map(|each| each.nodes.iter().map(|node| &node.name))
        .collect();
    let holds = |node: &str| observed.engine(node).is_some_and(|engine| engine.complete && !engine.loading);
    match &start.role {
        StartRole::Primary { slots, .. } => {
            if let Some(better) = nodes.iter().find(|each| ***each != *node && holds(each)) {
                notes.push(format!("P1: {node} would serve while {better} holds a live copy"));
            }
            if (group.cluster_mode == ClusterMode::Enabled) == slots.is_empty() {
                notes.push(format!("{node} would be started as a primary with the wrong slots"));
            }
        }
        StartRole::Replica { .. } => {
            if start.data != StartData::PutAside {
                notes.push(format!("P1: {node} would keep data of its own as a replica"));
            }
            let follower = group.shards.iter().flat_map(|shard| &shard.nodes).find(|each| {
                observed
                    .engine(&each.name)
                    .and_then(|engine| engine.link.as_ref())
                    .is_some_and(|link| link.host == start.announce.host && link.port == start.announce.port)
            });
            if let Some(follower) = follower {
                notes.push(format!(
                    "P1: {} replicates from the address at which {node} would come up empty",
                    follower.name
                ));
            }
        }
    }
}

fn promotes(observed: &Observed, plan: &Plan, shard: &str, node: &str, notes: &mut Vec<String>) {
    let Some(engine) = observed.engine(node) else {
        notes.push(format!("P3: {node} is to be promoted and its engine does not answer"));
        return;
    };
    if engine.role != Some(Role::Replica) || !engine.complete || engine.loading {
        notes.push(format!("P1: {node} is to be promoted and is no replica with a whole copy"));
    }
    let raised = plan.steps.iter().find_map(|step| match &step.act {
        Act::RaiseTerm(raise) if raise.shard == shard => Some(raise.previous.clone()),
        _ => None,
    });
    let lease = observed.leases.get(shard);
    let fresh = raised.is_some();
    let previous = raised.unwrap_or_else(|| lease.and_then(|lease| lease.previous.clone()));
    if let Some((previous, boot)) = previous {
        let ended = matches!(observed.life(&previous, &boot), Life::Ended(_));
        let fenced = !fresh && lease.is_some_and(|lease| observed.fence_passed(lease));
        if !ended && !fenced {
            notes.push(format!("P2: {node} is to be promoted while {previous} may still accept writes"));
        }
    }
}

/// An identity that owns slots, or lives, is nobody to forget.
fn forgets(group: &Desired, observed: &Observed, ids: &[String], notes: &mut Vec<String>) {
    for shard in &group.shards {
        for cluster in shard.nodes.iter().filter_map(|node| observed.engine(&node.name)?.cluster.as_ref()) {
            if ids.contains(&cluster.my_id) {
                notes.push(format!("P1: the living identity {} is to be forgotten", cluster.my_id));
            }
            for line in cluster.nodes.iter().filter(|line| !line.slots.is_empty() && ids.contains(&line.id)) {
                notes.push(format!("P1: {} is to be forgotten and owns slots", line.id));
            }
        }
    }
}
