//! A node whose zone had lost every machine moves back once its zone has machines again.
//!
//! Nothing presses: the copies of its shard are apart where it stands. So it moves only while the whole group is at rest, one node
//! of the group at a time, and only as a replica in sync without a volume, whose copy all others of its shard have. First its
//! template is written; then, in a later cycle and if all of that still holds, everybody of the shard is asked and the pod deleted;
//! if it no longer holds, the template is written back. A place that it does not find at home it had where it came from
//! ([`super::replace`]).

use super::replace::{apart, template_names};
use super::{Act, Frozen, MovePod, Plan, Step, key};
use crate::build::{self, NodeInputs};
use crate::desired::{Desired, DesiredShard};
use crate::observed::{Kind, Observed, PodView, is_primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::{EngineState, Role};

/// For how long a zone must have had one and the same machine that takes pods: a zone that comes and goes moves nobody.
pub const RETURN_AFTER_MS: u64 = 600_000;

/// How long after a try that came to nothing it is tried again.
pub const RETRY_AFTER_MS: i64 = 3_600_000;

/// How old a term must be: what a failover leaves behind is over by then.
const SETTLED_MS: u64 = 60_000;

/// A node that stands in another zone than the one that it was meant for.
struct Moved<'a> {
    shard: &'a DesiredShard,
    node: &'a str,
    inputs: &'a NodeInputs,
    home: &'a String,
}

pub(super) fn rule(frozen: &Frozen, observed: &Observed, plan: &mut Plan) {
    let moved: Vec<Moved<'_>> = moved(frozen).collect();
    if moved.is_empty() {
        return;
    }
    // One of the whole group at a time: should more be under way, by whatever chance, none of them goes on.
    let mut under_way = moved.iter().filter(|each| each.inputs.away.is_some()).count();
    let rest = under_way <= 1 && at_rest(&frozen.desired, observed, plan);
    for each in &moved {
        match &each.inputs.away {
            Some(away) => each.go_on(frozen, observed, away, rest, plan),
            None if !each.wanted(frozen, observed) => {}
            None => match each.stays(frozen, observed) {
                Some(why) => each.tell(&why, plan),
                None if rest && under_way == 0 => {
                    under_way = 1;
                    each.write(frozen, plan, |inputs| {
                        inputs.away = inputs.zone.replace(each.home.clone());
                        inputs.tried_ms = Some(observed.now_ms);
                    });
                }
                None => each.tell("it moves back once all nodes are well and nothing else is done", plan),
            },
        }
    }
}

/// Takes note that a node has come home.
pub(super) fn arrive(inputs: &mut NodeInputs, stands: Option<&String>) {
    if inputs.away.is_some() && stands.is_some() && inputs.zone.as_ref() == stands {
        (inputs.moved_from, inputs.away, inputs.tried_ms) = (None, None, None);
    }
}

fn moved(frozen: &Frozen) -> impl Iterator<Item = Moved<'_>> {
    let nodes =
        frozen.desired.shards.iter().flat_map(|shard| shard.nodes.iter().map(move |node| (shard, node)));
    nodes.filter_map(move |(shard, node)| {
        let inputs: &NodeInputs = frozen.inputs.get(&node.name).filter(|inputs| inputs.zone_required)?;
        let home = inputs.moved_from.as_ref()?;
        let somewhere_else = inputs.away.is_some() || inputs.zone.as_ref() != Some(home);
        somewhere_else.then_some(Moved { shard, node: &node.name, inputs, home })
    })
}

impl Moved<'_> {
    /// Whether its zone is still the one that it is to stand in, and has had machines for long enough.
    fn wanted(&self, frozen: &Frozen, observed: &Observed) -> bool {
        let group = &frozen.desired;
        let asked =
            self.shard.nodes.iter().find(|each| each.name == self.node).and_then(|each| each.zone.as_ref());
        let meant = asked.is_none_or(|asked| asked == self.home)
            && (group.zones.is_empty() || group.zones.contains(self.home));
        meant
            && observed.machines.values().any(|machine| {
                let ready_ms =
                    u64::try_from(observed.now_ms.saturating_sub(machine.ready_since_ms)).unwrap_or(0);
                machine.zone.as_ref() == Some(self.home)
                    && machine.open()
                    && machine.open_ms.min(ready_ms) >= RETURN_AFTER_MS
            })
    }

    /// Why it is not moved, whatever the others do, in words.
    fn stays(&self, frozen: &Frozen, observed: &Observed) -> Option<String> {
        let node = self.node;
        let stored = self.inputs.storage_size.is_some() || frozen.desired.storage.is_some();
        if stored || observed.claims.contains_key(node) {
            // P1: the claim of a machine that is well is never given up by us.
            return Some(format!(
                "its volume cannot leave the zone that it is in, and is not given up while its machine is well. To move it by hand, once \
                 it is a replica in sync: kubectl delete pvc data-{} --wait=false, then kubectl delete statefulset {node}; it is \
                 made anew, and copies the data of its primary",
                names::pod_name(node)
            ));
        }
        if self.shard.nodes.len() < 2 {
            return Some("it is the only copy of its node group, and a move would lose all its keys".into());
        }
        let leads = observed.leases.get(&self.shard.id).is_none_or(|lease| lease.holder == node);
        let replica = observed.engine(node).is_none_or(|engine| engine.role == Some(Role::Replica));
        if leads || !replica {
            return Some(format!(
                "it is a primary, which hands its role over for no zone's sake; it moves once it is a replica (kubectl annotate rg {} \
                 elasticache.kagami.dev/test-failover={} makes it one)",
                frozen.desired.name, self.shard.id
            ));
        }
        if !apart(&frozen.desired, self.shard, node, self.home, &frozen.inputs, observed) {
            return Some(format!("every other copy of its node group is in zone {}, too", self.home));
        }
        let lately = |tried: i64| observed.now_ms.saturating_sub(tried) < RETRY_AFTER_MS;
        if self.inputs.away.is_none() && self.inputs.tried_ms.is_some_and(lately) {
            return Some(
                "that was begun within the last hour and came to nothing; it is tried again after an hour"
                    .into(),
            );
        }
        None
    }

    /// Its template names its zone. Its pod goes if all is still as it was; else the template is written back.
    fn go_on(&self, frozen: &Frozen, observed: &Observed, away: &String, rest: bool, plan: &mut Plan) {
        let (node, home) = (self.node, self.home);
        let seen = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
        // Its agent may tell that the pod ends before the watch does.
        let going = observed.report(node).is_some_and(|report| report.terminating);
        let stands_there =
            seen.filter(|pod| pod.zone.as_ref() == Some(away) && home != away && !pod.deleting && !going);
        if let Some(pod) = stands_there {
            let holds = rest && self.wanted(frozen, observed) && self.stays(frozen, observed).is_none();
            if !holds {
                return self.write(frozen, plan, |inputs| inputs.zone = inputs.away.take());
            }
            if !template_names(observed, node, home) {
                plan.again(250);
            } else if let Some(act) = self.leave(pod, observed) {
                plan.steps.push(Step {
                    act,
                    reason: Reason::CacheNodeReplaceStarted,
                    event: format!(
                        "Recovering cache nodes {node}: availability zone {home} has machines again, and it moves back there from {away}"
                    ),
                    warning: false,
                });
            }
        }
        plan.wait(
            Reason::CacheNodeReplaceStarted,
            node,
            format!("it moves back from zone {away} to zone {home}"),
        );
    }

    fn leave(&self, pod: &PodView, observed: &Observed) -> Option<Act> {
        let lease = observed.leases.get(&self.shard.id)?;
        let others = self.shard.nodes.iter().map(|each| each.name.as_str()).filter(|each| *each != self.node);
        let asked = others.chain([self.node]).map(|each| {
            Some((each.to_owned(), observed.report(each)?.boot.clone(), observed.engine(each)?.role?))
        });
        Some(Act::MovePod(MovePod {
            node: self.node.to_owned(),
            pod: names::pod_name(self.node),
            uid: pod.uid.clone(),
            term: lease.term,
            asked: asked.collect::<Option<Vec<_>>>()?,
        }))
    }

    /// Writes its StatefulSet, unless that is written in this plan already.
    fn write(&self, frozen: &Frozen, plan: &mut Plan, change: impl FnOnce(&mut NodeInputs)) {
        let key = key(Kind::StatefulSet, self.node);
        let written =
            plan.steps.iter().any(|step| matches!(&step.act, Act::Apply { key: other, .. } if *other == key));
        if written {
            return;
        }
        let mut inputs = self.inputs.clone();
        change(&mut inputs);
        let object = build::stateful_set(&frozen.desired, self.shard, self.node, &inputs);
        let act = Act::Apply { key, object: Box::new(object) };
        plan.steps.push(Step {
            act,
            reason: Reason::CacheNodeReplaceStarted,
            event: String::new(),
            warning: false,
        });
    }

    fn tell(&self, why: &str, plan: &mut Plan) {
        let stands = self.inputs.zone.as_deref().unwrap_or("another zone");
        let words = format!(
            "it stands in {stands}, since {} had no machine, and {} has machines again: {why}",
            self.home, self.home
        );
        plan.wait(Reason::AwayFromZone, self.node, words);
    }
}

/// Nothing is planned, waited for or asked for, and everybody is what the leases say, in sync, on a machine that stays.
fn at_rest(group: &Desired, observed: &Observed, plan: &Plan) -> bool {
    let requests = &observed.requests;
    let asked = requests.under_way.is_some() || requests.reboot.is_some() || requests.test_failover.is_some();
    plan.is_met() && !asked && group.shards.iter().all(|shard| is_whole(shard, observed))
}

fn is_whole(shard: &DesiredShard, observed: &Observed) -> bool {
    let Some(lease) = observed.leases.get(&shard.id) else { return false };
    let leads = observed.report(&lease.holder).is_some_and(|report| report.boot == lease.boot);
    leads
        && lease.served
        && lease.known_ms >= SETTLED_MS
        && shard.nodes.iter().map(|node| node.name.as_str()).all(|node| {
            let pod = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
            let stays = pod.filter(|pod| pod.ready && !pod.deleting).and_then(|pod| pod.machine.as_ref());
            let on = stays.and_then(|machine| observed.machines.get(machine));
            let well = observed.report(node).is_some_and(|report| {
                report.state == EngineState::Running && !report.terminating && !report.fenced
            });
            let right = observed.engine(node).is_some_and(|engine| {
                let in_sync =
                    engine.role == Some(Role::Replica) && observed.in_sync_with(engine, &lease.holder);
                engine.complete
                    && !engine.loading
                    && if node == lease.holder { is_primary(engine) } else { in_sync }
            });
            on.is_some_and(crate::observed::Machine::open) && well && right
        })
}
