//! An independent reading of a plan before it is carried out: written from the promises, not from the rules.
//!
//! It stands between plan and act in production too. A note is a bug of Kagami; the plan is then not carried out.

use crate::build::pinned_zone;
use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::observed::{Agent, CopyChoice, Kind, Life, ObjectKey, Observed, Rebirth};
use crate::plan::{Act, MovePod, Plan, RETURN_AFTER_MS, RaiseTerm};
use kagami_protocol::{Address, Command, EngineState, HUNG_MS, Role, StartData, StartRole};
use serde_json::Value;
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
    for (at, step) in plan.steps.iter().enumerate() {
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
                passes_over(group, observed, raise, &mut notes);
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
                        starts(group, observed, plan, shard, node, start, &mut notes);
                    }
                    Command::Promote { .. } => {
                        if !disturbed.insert(shard) {
                            notes.push(format!("P2: two promotions in node group {shard} in one plan"));
                        }
                        promotes(group, observed, plan, shard, node, &mut notes);
                    }
                    Command::Park { unwritten } => parks(observed, plan, shard, node, *unwritten, &mut notes),
                    Command::Replicate { .. } => {
                        if let Some(why) = left_behind(observed, plan, shard, node)
                            && choice(observed, node).is_none()
                        {
                            notes.push(format!("P1: {node} would copy a lesser one over its own, {why}"));
                        }
                    }
                    Command::End { unanswered_ms } => {
                        ends(group, observed, plan, shard, node, *unanswered_ms, &mut notes);
                    }
                    Command::AssignSlots { slots, from, .. } => {
                        assigns(group, observed, plan, shard, node, (slots, from), &mut notes);
                    }
                    Command::CloseSlots { slots, empty } => {
                        closes(group, observed, plan, (at, shard, node), (slots, *empty), &mut notes);
                    }
                    Command::CloseClients => {
                        let serves =
                            observed.engine(node).is_none_or(|engine| engine.role != Some(Role::Replica));
                        if group.cluster_mode == ClusterMode::Enabled
                            || serves
                            || holder(observed, plan, shard) == Some(node)
                        {
                            notes.push(format!("P6: clients of {node} are to be closed, and it serves them"));
                        }
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
            Act::DeleteClaim { node, uid, .. } => {
                let claim = observed.claims.get(node).filter(|claim| claim.uid == *uid);
                let off = claim.and_then(|claim| claim.machine.as_ref()).is_some_and(|machine| {
                    observed.machines.get(machine).is_none_or(|machine| machine.out_of_service)
                });
                if !off {
                    notes.push(format!(
                        "P1: the volume of {node} is to be deleted and its machine is not proven gone"
                    ));
                }
                let shard = shard_of.get(node.as_str()).copied().unwrap_or_default();
                if !better_copy(group, observed, shard, node) {
                    notes.push(format!(
                        "P1: the volume of {node} is to be deleted and nobody serves a better copy"
                    ));
                }
            }
            Act::DeletePod { node, uid, .. } => {
                let pod = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
                if !pod.is_some_and(|pod| pod.uid == *uid && pod.machine.is_none() && pod.ip.is_none()) {
                    notes.push(format!("P1: the pod of {node} is to be deleted and may have run"));
                }
                let next = template(observed, node).and_then(pinned_zone);
                if next.is_none() || next == pod.and_then(|pod| pod.zone.as_deref()) {
                    notes.push(format!(
                        "P4: the pod of {node} is to be deleted and the next would be as it is"
                    ));
                }
            }
            Act::MovePod(moved) => leaves(group, observed, plan, moved, &mut notes),
            Act::Apply { key, object } if key.kind == Kind::StatefulSet => {
                moves(group, observed, plan, &key.name, object, &mut notes);
            }
            Act::Annotate { .. }
            | Act::Apply { .. }
            | Act::MakeSecrets
            | Act::Delete { .. }
            | Act::Tie { .. }
            | Act::NoteServed { .. }
            | Act::LabelRole { .. } => {}
        }
    }
    notes
}

fn template<'a>(observed: &'a Observed, node: &str) -> Option<&'a Value> {
    let key = ObjectKey { kind: Kind::StatefulSet, name: node.to_owned() };
    observed.children.get(&key).map(|set| &**set)
}

/// The zone of the machine that a node's pod is bound to.
fn stands<'a>(observed: &'a Observed, node: &str) -> Option<&'a str> {
    let machine = observed.nodes.get(node)?.pod.as_ref()?.machine.as_ref()?;
    observed.machines.get(machine)?.zone.as_deref()
}

/// The nodes of the shard that a node is of.
fn shard_with<'a>(group: &'a Desired, node: &str) -> Option<&'a DesiredShard> {
    group.shards.iter().find(|shard| shard.nodes.iter().any(|each| each.name == node))
}

/// P8: whether some other copy of the shard is out of that zone now, and will be, whatever the plan writes.
fn is_apart(group: &Desired, observed: &Observed, plan: &Plan, node: &str, zone: &str) -> bool {
    let written = |name: &str| {
        plan.steps.iter().find_map(|step| match &step.act {
            Act::Apply { key, object } if key.kind == Kind::StatefulSet && key.name == name => {
                Some(&**object)
            }
            _ => None,
        })
    };
    let out = |name: &str| {
        let meant = written(name).or_else(|| template(observed, name)).and_then(pinned_zone);
        meant.is_some_and(|meant| meant != zone) && stands(observed, name) != Some(zone)
    };
    let nodes = shard_with(group, node).map(|shard| shard.nodes.as_slice()).unwrap_or_default();
    !group.multi_az || nodes.iter().any(|each| each.name != node && out(&each.name))
}

/// P8: the template of a node names another zone.
fn moves(
    group: &Desired,
    observed: &Observed,
    plan: &Plan,
    node: &str,
    object: &Value,
    notes: &mut Vec<String>,
) {
    let before = template(observed, node).and_then(pinned_zone);
    let Some((before, zone)) = before.zip(pinned_zone(object)) else { return };
    let pod = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
    let made_for = pod.and_then(|pod| pod.zone.as_deref());
    // A template that is as the pod is moves nobody, also where the pod's machine is gone.
    if before == zone || stands(observed, node) == Some(zone) || made_for == Some(zone) {
        return;
    }
    if !is_apart(group, observed, plan, node, zone) {
        notes.push(format!(
            "P8: {node} is to be in zone {zone}, where all other copies of its node group are"
        ));
    }
    let placed = pod.is_some_and(|pod| pod.machine.is_some());
    if placed && let Some(why) = stays(group, observed, plan, node, zone) {
        notes.push(format!("P8: {node} is to move to zone {zone} and {why}"));
    }
}

/// Why a node that runs does not move to a zone, in words.
fn stays(group: &Desired, observed: &Observed, plan: &Plan, node: &str, zone: &str) -> Option<&'static str> {
    let requests = &observed.requests;
    let asked = requests.under_way.is_some() || requests.reboot.is_some() || requests.test_failover.is_some();
    let Some(shard) = shard_with(group, node) else { return Some("it is no node of the group") };
    let ripe = observed.machines.values().any(|machine| {
        let since = observed.now_ms - machine.ready_since_ms;
        machine.zone.as_deref() == Some(zone)
            && machine.open()
            && machine.open_ms >= RETURN_AFTER_MS
            && u64::try_from(since).is_ok_and(|since| since >= RETURN_AFTER_MS)
    });
    let whole = |shard: &DesiredShard| {
        let Some(lease) = observed.leases.get(&shard.id) else { return false };
        let host = observed.nodes.get(&lease.holder).and_then(|seen| seen.pod.as_ref()?.ip.as_ref());
        let leads = observed.report(&lease.holder).is_some_and(|report| report.boot == lease.boot);
        leads
            && shard.nodes.iter().all(|each| {
                let going = observed
                    .nodes
                    .get(&each.name)
                    .and_then(|seen| seen.pod.as_ref())
                    .is_none_or(|pod| pod.deleting);
                observed.engine(&each.name).is_some_and(|engine| {
                    let link = engine.link.as_ref();
                    let role = if each.name == lease.holder { Role::Primary } else { Role::Replica };
                    let follows =
                        link.is_some_and(|link| link.up && !link.syncing && Some(&link.host) == host);
                    !going
                        && engine.complete
                        && !engine.loading
                        && engine.role == Some(role)
                        && (role == Role::Primary || follows)
                })
            })
    };
    if plan.steps.len() > 1 || asked {
        Some("something else is done to the group")
    } else if group.storage.is_some() || observed.claims.contains_key(node) {
        Some("its volume cannot")
    } else if shard.nodes.len() < 2 {
        Some("it is the only copy")
    } else if observed.leases.get(&shard.id).is_none_or(|lease| lease.holder == node) {
        Some("it is the primary")
    } else if !ripe {
        Some("no machine of that zone has been there for long enough")
    } else if !group.shards.iter().all(whole) {
        Some("not every node of the group is in sync")
    } else {
        None
    }
}

/// P1, P8: the pod of a replica is ended so that the next one is made for its own zone; everybody of the shard is asked before.
fn leaves(group: &Desired, observed: &Observed, plan: &Plan, moved: &MovePod, notes: &mut Vec<String>) {
    let node = &moved.node;
    let pod = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
    let Some(zone) = template(observed, node).and_then(pinned_zone) else {
        return notes.push(format!("P4: {node} is to move and its template names no zone"));
    };
    if !pod
        .is_some_and(|pod| pod.uid == moved.uid && pod.zone.as_deref().is_some_and(|stands| stands != zone))
    {
        notes.push(format!("P4: {node} is to move and the next pod would be as it is"));
    }
    if let Some(why) = stays(group, observed, plan, node, zone) {
        notes.push(format!("P8: {node} is to move to zone {zone} and {why}"));
    }
    if !is_apart(group, observed, plan, node, zone) {
        notes.push(format!(
            "P8: {node} is to be in zone {zone}, where all other copies of its node group are"
        ));
    }
    let shard = shard_with(group, node);
    let lease = shard.and_then(|shard| observed.leases.get(&shard.id));
    let everybody = shard.is_some_and(|shard| {
        shard.nodes.iter().all(|each| {
            let role = if lease.is_some_and(|lease| lease.holder == each.name) {
                Role::Primary
            } else {
                Role::Replica
            };
            moved.asked.iter().any(|(name, boot, expected)| {
                *name == each.name
                    && *expected == role
                    && observed.report(name).is_some_and(|report| report.boot == *boot)
            })
        })
    });
    if !everybody || lease.is_none_or(|lease| lease.term != moved.term) {
        notes.push(format!("P5: {node} is to move and not everybody of its node group is asked before"));
    }
}

/// P1: a holder without a copy while somebody holds one.
fn passes_over(group: &Desired, observed: &Observed, raise: &RaiseTerm, notes: &mut Vec<String>) {
    let holds = |node: &str| observed.engine(node).is_some_and(|engine| engine.complete && !engine.loading);
    if holds(&raise.holder) {
        return;
    }
    let nodes = group.shards.iter().filter(|each| each.id == raise.shard).flat_map(|each| &each.nodes);
    for live in nodes.map(|node| &node.name).filter(|node| **node != raise.holder && holds(node)) {
        let returns = raise.rebirths.iter().any(|rebirth| {
            rebirth.returned.is_some_and(|(term, _)| term == raise.term)
                && of_term(observed, &raise.holder) < rebirth.term
                && (raise.previous.as_ref().is_some_and(|(previous, _)| previous == live)
                    || observed.engine(live).is_some_and(|engine| engine.role == Some(Role::Replica)))
        });
        if !returns && !beyond(observed, &raise.holder, live) {
            notes.push(format!(
                "P1: {} is made the holder of node group {} while {live} holds a live copy",
                raise.holder, raise.shard
            ));
        }
    }
}

/// The term of a node's data, by what its agent wrote down.
fn of_term(observed: &Observed, node: &str) -> u64 {
    observed.report(node).map_or(0, kagami_protocol::Report::data_term)
}

/// Whether a whole volume that can be loaded is of a later term than a live replica's copy, or further in the same one.
fn beyond(observed: &Observed, volume: &str, live: &str) -> bool {
    let Some(record) = observed.parked(volume).and_then(|report| report.record.as_ref()) else {
        return false;
    };
    let Some(engine) = observed.engine(live) else { return false };
    let later = record.data_term > of_term(observed, live);
    let further = record.data_term == of_term(observed, live) && record.offset > engine.offset;
    record.complete && record.failed_loads == 0 && engine.role == Some(Role::Replica) && (later || further)
}

fn choice(observed: &Observed, node: &str) -> Option<CopyChoice> {
    observed.nodes.get(node)?.pod.as_ref()?.copy
}

/// What a plan leaves of a shard's new beginnings: what it raises, or what is there.
fn rebirths<'a>(observed: &'a Observed, plan: &'a Plan, shard: &str) -> (u64, &'a [Rebirth]) {
    let raised = plan.steps.iter().find_map(|step| match &step.act {
        Act::RaiseTerm(raise) if raise.shard == shard => Some((raise.term, raise.rebirths.as_slice())),
        _ => None,
    });
    let leased = || observed.leases.get(shard).map(|lease| (lease.term, lease.rebirths.as_slice()));
    raised.or_else(leased).unwrap_or_default()
}

/// Whom a plan makes a shard's holder, or who is.
fn holder<'a>(observed: &'a Observed, plan: &'a Plan, shard: &str) -> Option<&'a String> {
    let raised = plan.steps.iter().find_map(|step| match &step.act {
        Act::RaiseTerm(raise) if raise.shard == shard => Some(&raise.holder),
        _ => None,
    });
    raised.or_else(|| observed.leases.get(shard).map(|lease| &lease.holder))
}

/// Whether a node holds what its shard went on without, in words.
fn left_behind(observed: &Observed, plan: &Plan, shard: &str, node: &str) -> Option<String> {
    let report = observed.report(node)?;
    let record = report.record.as_ref()?;
    let (whole, offset) = match &report.engine {
        Some(engine) => (engine.complete && !engine.loading, engine.offset),
        None => (record.complete && report.persistent && report.has_data, record.offset),
    };
    let empty = report.engine.as_ref().is_some_and(|engine| engine.keys == 0 && engine.offset == 0);
    let holder = holder(observed, plan, shard)?;
    let histories = report.engine.as_ref().zip(observed.engine(holder));
    if histories.is_some_and(|(own, its)| own.replid == its.replid) {
        return None;
    }
    // A primary's note that is not closed may be behind a replica's.
    let noted = record.role.filter(|_| record.closed);
    let primary = report.engine.as_ref().map_or(noted, |engine| engine.role) == Some(Role::Primary);
    let own = (record.data_term, primary, offset);
    let rebirth = rebirths(observed, plan, shard).1.iter().find(|rebirth| {
        let from = rebirth.returned.map(|(_, reach)| reach).or(rebirth.base);
        let from = from.map(|reach| (reach.data_term, reach.primary, reach.offset));
        record.data_term < rebirth.term && from.is_none_or(|from| own > from)
    })?;
    (whole && !empty).then(|| {
        format!("which is of term {} while the shard began anew in term {}", record.data_term, rebirth.term)
    })
}

/// P1: a whole copy leaves memory only for a better one that came back, or because a person said so. A reboot or a test of
/// failover is a person's word too, for that node in that life.
fn parks(
    observed: &Observed,
    plan: &Plan,
    shard: &str,
    node: &str,
    unwritten: bool,
    notes: &mut Vec<String>,
) {
    let Some(engine) = observed.engine(node).filter(|engine| engine.complete && !engine.loading) else {
        return;
    };
    let asked = observed.requests.under_way.as_ref().is_some_and(|restart| {
        restart.node == node && observed.report(node).is_some_and(|report| report.boot == restart.boot)
    });
    let (term, rebirths) = rebirths(observed, plan, shard);
    let makes_way =
        rebirths.iter().any(|rebirth| rebirth.returned.is_some_and(|(returned, _)| returned == term));
    let chosen = observed.nodes.keys().any(|each| choice(observed, each) == Some(CopyChoice::Use));
    let spared = unwritten || chosen || engine.role == Some(Role::Replica);
    // It is put aside and kept, because nobody remembers any more whether its shard had gone on without it.
    let voided =
        observed.reach(node).is_some_and(|reach| rebirths.iter().any(|rebirth| rebirth.voided(reach)));
    let kept = voided && observed.report(node).is_some_and(|report| report.persistent);
    if !(asked || kept || makes_way && spared || choice(observed, node) == Some(CopyChoice::PutAside)) {
        notes.push(format!("P1: {node} holds a whole copy and would be parked"));
    }
}

/// P1, P3: an engine is ended by force only if it stands still by its agent's word, and another that stays holds what it held.
fn ends(
    group: &Desired,
    observed: &Observed,
    plan: &Plan,
    shard: &str,
    node: &str,
    unanswered_ms: u64,
    notes: &mut Vec<String>,
) {
    let report = observed.report(node);
    let hung = report.filter(|report| report.state == EngineState::Running && report.engine.is_none());
    let hung = hung.and_then(|report| report.unanswered.as_ref());
    let Some(hung) = hung.filter(|hung| hung.ms.min(unanswered_ms) >= HUNG_MS) else {
        notes.push(format!("P3: {node} is to be ended by force and is not known to stand still"));
        return;
    };
    if !hung.complete {
        return;
    }
    let others = || {
        let nodes = group.shards.iter().filter(|each| each.id == shard).flat_map(|each| &each.nodes);
        nodes.map(|each| each.name.as_str()).filter(|each| *each != node)
    };
    let began_anew = !rebirths(observed, plan, shard).1.is_empty();
    let serves = |each: &str| {
        observed.leases.get(shard).is_some_and(|lease| {
            lease.holder == each && observed.report(each).is_some_and(|report| report.boot == lease.boot)
        }) && observed.engine(each).is_some_and(|engine| engine.role == Some(Role::Primary))
    };
    let reached = others()
        .filter_map(|each| {
            let engine = observed.engine(each).filter(|engine| engine.complete && !engine.loading)?;
            let pod = observed.nodes.get(each)?.pod.as_ref()?;
            let stays = !pod.deleting && !observed.report(each)?.terminating;
            let own = engine.replid == hung.replid && engine.offset >= hung.offset;
            let grown = engine.replid2 == hung.replid && engine.second_offset > hung.offset;
            let later = serves(each) && !began_anew && of_term(observed, each) > of_term(observed, node);
            (stays && (own || grown || later)).then_some(engine.offset)
        })
        .max();
    let Some(reached) = reached else {
        notes.push(format!("P1: {node} is to be ended by force and nobody is known to hold what it holds"));
        return;
    };
    let further = |each: &&str| match observed.nodes.get(*each).map(|seen| &seen.agent) {
        Some(Agent::Silent { last, .. }) => {
            let ended = observed.ended(each, &last.boot);
            let engine = last.engine.as_ref().filter(|engine| engine.complete && !ended);
            engine.is_some_and(|engine| engine.replid == hung.replid && engine.offset > reached)
        }
        _ => false,
    };
    if !others().any(serves)
        && let Some(further) = others().find(further)
    {
        notes.push(format!(
            "P1: {node} is to be ended by force while {further} was further and cannot be asked"
        ));
    }
}

/// Another node of the shard is its primary, with a whole copy, by its own word and the lease's.
fn better_copy(group: &Desired, observed: &Observed, shard: &str, node: &str) -> bool {
    let nodes = group.shards.iter().filter(|each| each.id == shard).flat_map(|each| &each.nodes);
    nodes.filter(|each| each.name != node).any(|each| {
        observed.leases.get(shard).is_some_and(|lease| lease.served && lease.holder == each.name)
            && observed.engine(&each.name).is_some_and(|engine| {
                engine.role == Some(Role::Primary) && engine.complete && !engine.loading
            })
    })
}

fn starts(
    group: &Desired,
    observed: &Observed,
    plan: &Plan,
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
            if let Some(better) = nodes.iter().find(|each| {
                ***each != *node
                    && holds(each)
                    && !(start.data == StartData::Keep && beyond(observed, node, each))
            }) {
                notes.push(format!("P1: {node} would serve while {better} holds a live copy"));
            }
            let stranger = follower(group, observed, &start.announce).filter(|each| !nodes.contains(each));
            if let Some(stranger) = stranger {
                notes.push(format!(
                    "P1: {stranger} of another node group replicates from the address at which {node} would serve"
                ));
            }
            if (group.cluster_mode == ClusterMode::Enabled) == slots.is_empty() {
                notes.push(format!("{node} would be started as a primary with the wrong slots"));
            }
        }
        StartRole::Replica { .. } => {
            if start.data != StartData::PutAside {
                notes.push(format!("P1: {node} would keep data of its own as a replica"));
            }
            if let Some(why) = left_behind(observed, plan, shard, node)
                && !start.keep_previous
            {
                notes.push(format!("P1: {node} would lose its copy, {why}"));
            }
            if let Some(follower) = follower(group, observed, &start.announce) {
                notes.push(format!(
                    "P1: {follower} replicates from the address at which {node} would come up empty"
                ));
            }
        }
    }
}

/// Who replicates from an address.
fn follower<'a>(group: &'a Desired, observed: &Observed, address: &Address) -> Option<&'a String> {
    let nodes = group.shards.iter().flat_map(|shard| &shard.nodes).map(|node| &node.name);
    nodes.into_iter().find(|each| {
        observed.link(each).is_some_and(|link| link.host == address.host && link.port == address.port)
    })
}

fn promotes(
    group: &Desired,
    observed: &Observed,
    plan: &Plan,
    shard: &str,
    node: &str,
    notes: &mut Vec<String>,
) {
    let Some(engine) = observed.engine(node) else {
        notes.push(format!("P3: {node} is to be promoted and its engine does not answer"));
        return;
    };
    if engine.role != Some(Role::Replica) || !engine.complete || engine.loading {
        notes.push(format!("P1: {node} is to be promoted and is no replica with a whole copy"));
    }
    let nodes = group.shards.iter().filter(|each| each.id == shard).flat_map(|each| &each.nodes);
    for other in nodes.clone().filter(|each| each.name != *node) {
        let further = observed.engine(&other.name).is_some_and(|its| {
            let whole = its.role == Some(Role::Replica) && its.complete && !its.loading;
            whole && its.replid == engine.replid && its.offset > engine.offset
        });
        if further {
            notes.push(format!(
                "P1: {node} is to be promoted while {} is further in the same history",
                other.name
            ));
        }
    }
    let writes = |each: &str| {
        observed.report(each).is_some_and(|report| !report.fenced)
            && observed.engine(each).is_some_and(|engine| {
                let slots = |cluster: &kagami_protocol::ClusterView| {
                    cluster.nodes.iter().any(|line| line.myself && !line.slots.is_empty())
                };
                engine.role == Some(Role::Primary) && engine.cluster.as_deref().is_none_or(slots)
            })
    };
    for rival in nodes.map(|each| &each.name).filter(|each| *each != node && writes(each)) {
        notes.push(format!("P2: {node} is to be promoted while {rival} is a primary that accepts writes"));
    }
    let raised = plan.steps.iter().find_map(|step| match &step.act {
        Act::RaiseTerm(raise) if raise.shard == shard => Some(raise.previous.clone()),
        _ => None,
    });
    let lease = observed.leases.get(shard);
    let fresh = raised.is_some();
    let previous = raised.unwrap_or_else(|| lease.and_then(|lease| lease.previous.clone()));
    if let Some((previous, boot)) = previous {
        let ended = observed.ended(&previous, &boot);
        let fenced = !fresh && lease.is_some_and(|lease| observed.fence_passed(lease));
        let follows = observed.report(&previous).is_some_and(|report| report.boot == boot)
            && observed.engine(&previous).is_some_and(|engine| engine.role == Some(Role::Replica));
        if !ended && !fenced && !follows {
            notes.push(format!("P2: {node} is to be promoted while {previous} may still accept writes"));
        }
    }
}

/// P2: slots are claimed by their shard's holder alone, and taken from nobody who serves them or may.
fn assigns(
    group: &Desired,
    observed: &Observed,
    plan: &Plan,
    shard: &str,
    node: &str,
    (slots, from): (&[(u16, u16)], &[String]),
    notes: &mut Vec<String>,
) {
    let holder = holder(observed, plan, shard);
    if !slots.is_empty() && holder.is_none_or(|holder| holder != node) {
        notes.push(format!("P2: {node} is to claim slots and is not the holder of node group {shard}"));
    }
    let claimed =
        |range: &(u16, u16)| slots.iter().any(|(first, last)| range.0 <= *last && *first <= range.1);
    for each in group.shards.iter().flat_map(|shard| &shard.nodes).map(|each| &each.name) {
        let seen = observed.nodes.get(each).map(|seen| &seen.agent);
        let (report, silent) = match seen {
            Some(Agent::Up(report)) => (report, false),
            Some(Agent::Silent { last, .. }) => (last, true),
            _ => continue,
        };
        let Some(cluster) = report.engine.as_ref().and_then(|engine| engine.cluster.as_ref()) else {
            continue;
        };
        let serves = cluster.own_slots().any(|range| claimed(&range));
        let ended = silent && observed.ended(each, &report.boot);
        if from.contains(&cluster.my_id) && !ended && (silent || serves) {
            notes.push(format!("P2: slots are to be taken from {each}, which may serve them"));
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

/// P1, P7: a mark is the only word about keys that have moved. It goes where the node holds none, or where the owner closes it
/// after everybody else has said in this plan that they hold none.
fn closes(
    group: &Desired,
    observed: &Observed,
    plan: &Plan,
    (at, shard, node): (usize, &str, &str),
    (slots, empty): (&[u16], bool),
    notes: &mut Vec<String>,
) {
    let holders = || group.shards.iter().map(|shard| (&shard.id, observed.leases.get(&shard.id)));
    for (_, lease) in holders() {
        let Some(engine) = lease.and_then(|lease| observed.engine(&lease.holder)) else { continue };
        let young = engine.open_slots.iter().find(|open| slots.contains(&open.slot) && !open.stood);
        if let Some(open) = young {
            notes.push(format!("P1: slot {} is to be closed at {node} and may be moving", open.slot));
        }
    }
    if empty {
        return;
    }
    let Some(cluster) = observed.engine(node).and_then(|engine| engine.cluster.as_deref()) else {
        notes.push(format!("P3: slots are to be closed at {node}, whose table is not known"));
        return;
    };
    for slot in slots {
        if !cluster.owns(*slot) {
            notes.push(format!("P1: slot {slot} is to be closed at {node}, which does not own it"));
        }
        let migrates = cluster.marks().any(|mark| mark.slot == *slot && !mark.importing);
        let asked = |other: &str| {
            plan.steps.iter().take(at).any(|step| match &step.act {
                Act::Order { node, command, .. } if node == other => matches!(
                    &**command,
                    Command::CloseSlots { slots, empty: true } if slots.contains(slot)
                ),
                _ => false,
            })
        };
        for (id, lease) in holders().filter(|(id, _)| migrates && *id != shard) {
            if !lease.is_some_and(|lease| asked(&lease.holder)) {
                notes.push(format!(
                    "P1: slot {slot} is to be closed at {node}, and node group {id} was not asked for keys of it"
                ));
            }
        }
    }
}
