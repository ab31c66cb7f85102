//! Who is a shard's primary: birth, death, silence, handover, and what to do when no copy is left.
//!
//! The lease says who is meant to be the primary (intent is written before acting); agents say who is. The rules:
//! a better live copy is never passed over (P1), a second primary is made only when the first has ended, obeys, or has
//! fenced itself (P2), and a node that could not be asked is neither promoted over nor started over (P3).

use super::step::Order;
use super::{Act, Confirm, HandOver, Plan, Primary, RaiseTerm, Step};
use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::engine;
use crate::observed::{Agent, Cause, Life, Observed, ShardLease, is_primary, own_slots};
use crate::slots::SlotSet;
use kagami_api::{names, reason::Reason};
use kagami_protocol::{
    Command, EngineState, EngineView, FENCE_SILENCE_MS, Report, Role, Start, StartData, StartRole,
};
use std::cmp::Reverse;

/// How long a copy that cannot be reached is waited for before a shard without a live copy is started without it.
///
/// Long enough for a machine to come back from a restart of its kubelet or its network, short enough for the pager.
const UNREACHABLE_COPY_WAIT_MS: u64 = 60_000;

/// How long replicas may take to notice that their primary's process has ended; their last offset comes with that.
const NOTICE_MS: i64 = 400;
/// How long after the start of an operator process the engines of three or more shards may be electing by themselves.
const ELECTION_MS: u64 = 8_000;
/// How long a fresh operator process gives the agents to be heard, before it calls one of them unknown.
const FIRST_DIAL_MS: u64 = 3_000;

/// Plans the shard's primary, and says who it is if that is settled.
pub(super) fn rule(
    group: &Desired,
    index: usize,
    shard: &DesiredShard,
    observed: &Observed,
    plan: &mut Plan,
) -> Option<Primary> {
    let view = View { group, index, shard, observed };
    let Some(lease) = observed.leases.get(&shard.id) else { return view.birth(plan) };
    if let Some(primary) = view.serving(lease) {
        return view.keep(lease, primary, plan);
    }
    view.not_serving(lease, plan)
}

/// One shard as the rules see it.
struct View<'a> {
    group: &'a Desired,
    index: usize,
    shard: &'a DesiredShard,
    observed: &'a Observed,
}

impl View<'_> {
    fn nodes(&self) -> impl Iterator<Item = &str> {
        self.shard.nodes.iter().map(|node| node.name.as_str())
    }

    /// The highest term that anybody of the shard has seen, plus one.
    fn next_term(&self) -> u64 {
        let seen = self.nodes().filter_map(|node| self.observed.report(node)).map(|report| report.term);
        let leased = self.observed.leases.get(&self.shard.id).map_or(0, |lease| lease.term);
        seen.max().unwrap_or(0).max(leased) + 1
    }

    /// Whether a node may be given the role: it is not on its way out.
    fn stays(&self, node: &str) -> bool {
        let pod = self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
        self.observed.report(node).is_some_and(|report| !report.terminating)
            && pod.is_some_and(|pod| !pod.deleting)
    }

    /// Live nodes with a whole copy, best first: of the latest term, the furthest, one that stays, then by name.
    fn live_copies(&self) -> Vec<(&str, &Report, &EngineView)> {
        let mut copies: Vec<(&str, &Report, &EngineView)> = self
            .nodes()
            .filter_map(|node| Some((node, self.observed.report(node)?, self.observed.engine(node)?)))
            .filter(|(_, _, engine)| engine.complete && !engine.loading)
            .collect();
        // A later term's history is the better one, however short: an old primary's own branch may be longer.
        copies.sort_by_key(|(node, report, engine)| {
            let data_term = report.record.as_ref().map_or(0, |record| record.data_term);
            (Reverse(data_term), Reverse(engine.offset), !self.stays(node), node.to_string())
        });
        copies
    }

    /// The holder, if it is the primary by everybody's word.
    fn serving(&self, lease: &ShardLease) -> Option<Primary> {
        let report = self.observed.report(&lease.holder)?;
        let engine = self.observed.engine(&lease.holder)?;
        // Once it has served, a primary without slots is one that has just been restored: nobody may meet it before it has
        // claimed them, or older claims would take its keys.
        let whole = !lease.served || is_primary(engine);
        let running = report.boot == lease.boot && engine.role == Some(Role::Primary) && whole;
        // An engine that was promoted by the lease shows the role; one that lost it to an election shows a replica.
        running.then(|| self.primary(lease, true))
    }

    fn primary(&self, lease: &ShardLease, serving: bool) -> Primary {
        let id = self
            .observed
            .engine(&lease.holder)
            .and_then(|engine| engine.cluster.as_ref())
            .map(|cluster| cluster.my_id.clone());
        Primary {
            node: lease.holder.clone(),
            term: lease.term,
            address: self.observed.address(&lease.holder, self.group.port, self.bus_port()),
            id,
            serving,
            birth: lease.cause == Cause::Birth && !lease.served,
        }
    }

    fn bus_port(&self) -> u16 {
        if self.group.cluster_mode == ClusterMode::Enabled { self.group.bus_port } else { 0 }
    }

    /// No lease: the shard was never formed, or somebody deleted the lease.
    fn birth(&self, plan: &mut Plan) -> Option<Primary> {
        let living: Vec<_> = self.live_copies();
        let everybody = self.nodes().all(|node| self.observed.report(node).is_some());
        if let Some((node, report, _)) =
            living.iter().find(|(_, _, engine)| is_primary(engine)).or(living.first().filter(|_| everybody))
        {
            // Data is served without a lease: the one that serves keeps the role, whatever else is there.
            let lease = self.raise(None, node, report, Cause::Adopted, plan);
            return Some(self.primary(&lease, self.observed.engine(node).is_some_and(is_primary)));
        }
        if let Some(absent) =
            self.nodes().find(|node| self.observed.parked(node).is_none() && !self.cannot_hold_a_copy(node))
        {
            let absent = absent.to_owned();
            plan.wait(
                Reason::WaitingForAgent,
                &*absent,
                "its volume or memory may hold a copy: the node group is not formed without asking it",
            );
            return None;
        }
        let best = self.best_volume();
        let first = self.nodes().find(|node| self.observed.parked(node).is_some() && self.stays(node));
        let (node, cause) = match (best, first) {
            (Some(node), _) => (node, Cause::Restore),
            (None, Some(node)) => (node, Cause::Birth),
            (None, None) => return None,
        };
        let wished = self.shard.nodes.first().map(|node| node.name.as_str());
        if cause == Cause::Birth && wished != Some(node) && !self.observed.formed {
            // The first node stands in the zone that was wished for the primary; it is worth a moment.
            if let Some(wished) = wished
                && self.awaited(wished)
            {
                return None;
            }
        }
        let report = self.observed.parked(node)?;
        let lease = self.raise(None, node, report, cause, plan);
        self.start(&lease, report, plan);
        if cause == Cause::Restore {
            plan.tell(true, self.restored(node));
        }
        Some(self.primary(&lease, false))
    }

    /// A node that will surely be there soon: it has a pod that is placed.
    fn awaited(&self, node: &str) -> bool {
        self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref()).is_none_or(|pod| {
            pod.unschedulable.is_none() && pod.image_trouble.is_none() && pod.start_trouble.is_none()
        }) && self.observed.watching_ms < UNREACHABLE_COPY_WAIT_MS
    }

    /// The holder serves: confirm it, note it, and hand over if it has to go.
    fn keep(&self, lease: &ShardLease, primary: Primary, plan: &mut Plan) -> Option<Primary> {
        let (node, engine) = (&lease.holder, self.observed.engine(&lease.holder)?);
        if self.next_term() > lease.term + 1 {
            // The agents have seen a later term than the lease tells (it was restored from a backup): the lease catches up.
            let report = self.observed.report(node)?;
            let raised = self.raise(Some(lease), node, report, Cause::Adopted, plan);
            return Some(self.primary(&raised, true));
        }
        plan.confirms.push(Confirm {
            node: node.clone(),
            boot: lease.boot.clone(),
            term: lease.term,
            guard: self.shard.nodes.len() > 1,
        });
        if let Some(cluster) = &engine.cluster {
            self.claim(lease, cluster, plan);
        }
        let whole = engine.cluster.as_ref().is_none_or(|cluster| {
            cluster.ok && self.shard.slots.difference(&SlotSet::from_ranges(own_slots(cluster))).is_empty()
        });
        if !lease.served && whole {
            plan.steps.push(Step {
                act: Act::NoteServed {
                    shard: self.shard.id.clone(),
                    resource_version: lease.resource_version.clone(),
                },
                reason: Reason::Available,
                event: String::new(),
                warning: false,
            });
        }
        if !self.stays(node) {
            return self.hand_over(lease, primary, plan);
        }
        Some(primary)
    }

    /// Slots of the shard that nobody claims are claimed by its primary.
    fn claim(&self, lease: &ShardLease, cluster: &kagami_protocol::ClusterView, plan: &mut Plan) {
        let report = self.observed.report(&lease.holder);
        // The agent claims them itself as it starts a primary; it is asked again only once that is over.
        if !lease.served
            && report.is_some_and(|report| report.trouble.is_empty())
            && own_slots(cluster).next().is_none()
        {
            plan.wait(Reason::FormingCluster, &*self.shard.id, "the primary is taking its slots");
            return;
        }
        let claimed = SlotSet::from_ranges(
            cluster
                .nodes
                .iter()
                .filter(|node| node.primary && !node.fail)
                .flat_map(|node| node.slots.iter().copied()),
        );
        let missing = self.shard.slots.difference(&claimed);
        if !missing.is_empty() {
            plan.order(Order {
                node: &lease.holder,
                boot: &lease.boot,
                term: lease.term,
                role: Some(Role::Primary),
                command: Command::AssignSlots { slots: missing.ranges(), epoch: Some(self.fresh_epoch()) },
                reason: Reason::FormingCluster,
            });
        } else if !cluster.ok {
            plan.wait(
                Reason::FormingCluster,
                &*self.shard.id,
                "its primary says cluster_state:fail; an engine says so for 2 s after its start",
            );
            plan.again(250);
        }
    }

    /// An epoch above all that were seen, and different for each shard.
    fn fresh_epoch(&self) -> u64 {
        let highest = self
            .observed
            .nodes
            .keys()
            .filter_map(|node| self.observed.engine(node)?.cluster.as_ref())
            .map(|cluster| cluster.current_epoch)
            .max();
        highest.unwrap_or(0) + 1 + self.index as u64
    }

    /// The primary is asked to go (SIGTERM, eviction, drain): a replica in sync takes over first.
    fn hand_over(&self, lease: &ShardLease, primary: Primary, plan: &mut Plan) -> Option<Primary> {
        let Some((to, report)) = self.in_sync_replica(&lease.holder) else {
            plan.wait(
                Reason::HandingOver,
                &lease.holder,
                "it is asked to go, and no replica is in sync to take over",
            );
            return Some(primary);
        };
        // The old primary is no longer confirmed from the moment the term is raised.
        plan.confirms.retain(|confirm| confirm.node != lease.holder);
        let raised = self.raise(Some(lease), to, report, Cause::Handover, plan);
        self.perform_hand_over(&raised, plan)
    }

    fn in_sync_replica(&self, primary: &str) -> Option<(&str, &Report)> {
        self.live_copies()
            .into_iter()
            .find(|(node, _, engine)| {
                *node != primary
                    && self.stays(node)
                    && engine.role == Some(Role::Replica)
                    && engine.link.as_ref().is_some_and(|link| link.up && !link.syncing)
            })
            .map(|(node, report, _)| (node, report))
    }

    fn perform_hand_over(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        let (from, from_boot) = lease.previous.clone()?;
        let address = self.observed.address(&lease.holder, self.group.port, self.bus_port())?;
        let id = self
            .observed
            .engine(&lease.holder)
            .and_then(|engine| engine.cluster.as_ref())
            .map(|c| c.my_id.clone());
        plan.steps.push(Step {
            act: Act::HandOver(HandOver {
                from: from.clone(),
                from_boot,
                to: lease.holder.clone(),
                to_boot: lease.boot.clone(),
                term: lease.term,
                to_address: address,
                to_id: id,
                cluster: self.group.cluster_mode == ClusterMode::Enabled,
            }),
            reason: Reason::FailoverComplete,
            event: format!("Failover from primary node {from} to replica node {} completed", lease.holder),
            warning: false,
        });
        None
    }

    /// The lease names a holder that is not the primary (yet, or any more).
    fn not_serving(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        if let Some(primary) = self.elected(lease, plan) {
            return Some(primary);
        }
        let report = self.observed.report(&lease.holder);
        match report {
            Some(report) if report.boot == lease.boot => self.take_office(lease, report, plan),
            _ => match self.observed.life(&lease.holder, &lease.boot) {
                Life::Ended(_) => self.succeed(lease, Cause::Death, plan),
                Life::Alive => None,
                Life::Unknown => self.silence(lease, plan),
            },
        }
    }

    /// The engines have elected by themselves (the majority of primaries is their fence): the lease follows.
    fn elected(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        if self.group.cluster_mode != ClusterMode::Enabled {
            return None;
        }
        let (node, report, _) = self
            .live_copies()
            .into_iter()
            .filter(|(node, _, engine)| {
                *node != lease.holder && engine.role == Some(Role::Primary) && is_primary(engine)
            })
            .max_by_key(|(_, _, engine)| engine.cluster.as_ref().map_or(0, |cluster| cluster.my_epoch))?;
        // While a handover is under way the old primary is no winner of an election, it is the one to be relieved.
        if lease.cause == Cause::Handover
            && lease
                .previous
                .as_ref()
                .is_some_and(|(previous, boot)| previous == node && *boot == report.boot)
        {
            return None;
        }
        let raised = self.raise(Some(lease), node, report, Cause::Adopted, plan);
        plan.tell(true, format!("Failover from primary node {} to replica node {node} completed (the engines elected by themselves)", lease.holder));
        Some(self.primary(&raised, true))
    }

    /// The holder lives in the boot that the lease means, and is not the primary yet.
    fn take_office(&self, lease: &ShardLease, report: &Report, plan: &mut Plan) -> Option<Primary> {
        match report.state {
            EngineState::Parked => {
                if let Some(rival) = self.live_copies().first().map(|(node, ..)| (*node).to_owned()) {
                    // P1: it was to start from nothing or from its volume, and meanwhile a live copy was found.
                    plan.wait(
                        Reason::PrimaryDown,
                        &lease.holder,
                        format!("not started, because {rival} holds a live copy"),
                    );
                    return self.succeed(lease, Cause::Death, plan);
                }
                if !self.may_serve(lease, plan) {
                    return None;
                }
                self.start(lease, report, plan);
                Some(self.primary(lease, false))
            }
            EngineState::Starting | EngineState::Stopping => {
                plan.wait(
                    Reason::RecoveringNode,
                    &lease.holder,
                    "the engine is starting (loading its data counts as starting)",
                );
                Some(self.primary(lease, false))
            }
            EngineState::Running => {
                let Some(engine) = &report.engine else {
                    plan.wait(
                        Reason::NodeUnknown,
                        &lease.holder,
                        "the engine runs and does not answer its agent",
                    );
                    return None;
                };
                if engine.role == Some(Role::Primary) {
                    if let Some(cluster) = &engine.cluster {
                        self.claim(lease, cluster, plan);
                    }
                    return Some(self.primary(lease, false));
                }
                self.promotion(lease, report, engine, plan)
            }
        }
    }

    /// The holder is a replica that is to be promoted.
    fn promotion(
        &self,
        lease: &ShardLease,
        report: &Report,
        engine: &EngineView,
        plan: &mut Plan,
    ) -> Option<Primary> {
        if let Some((previous, boot)) = &lease.previous
            && self.observed.life(previous, boot) == Life::Alive
            && self.observed.engine(previous).is_some_and(|engine| engine.role == Some(Role::Primary))
        {
            // The one before it lives and obeys: it is relieved, not overthrown; or keeps the role if nobody is in sync.
            if engine.link.as_ref().is_some_and(|link| link.up && !link.syncing) && self.stays(&lease.holder)
            {
                return self.perform_hand_over(lease, plan);
            }
            let previous_report = self.observed.report(previous)?;
            let raised = self.raise(Some(lease), previous, previous_report, Cause::Adopted, plan);
            return Some(self.primary(&raised, true));
        }
        if !engine.complete || engine.loading {
            return self.succeed(lease, Cause::Death, plan);
        }
        if !self.may_serve(lease, plan) {
            return None;
        }
        self.promote(lease, &report.boot, plan);
        None
    }

    fn promote(&self, lease: &ShardLease, boot: &kagami_protocol::Boot, plan: &mut Plan) {
        plan.order(Order {
            node: &lease.holder,
            boot,
            term: lease.term,
            role: Some(Role::Replica),
            command: Command::Promote { min_offset: None, wait_ms: 0 },
            reason: Reason::FailoverComplete,
        });
        let from = lease.previous.as_ref().map_or("an unknown node", |(node, _)| node.as_str());
        plan.tell(
            true,
            format!("Failover from primary node {from} to replica node {} completed", lease.holder),
        );
    }

    /// Whether the one before can no longer accept writes: its end is proven, or its bound has passed.
    fn relieved(&self, lease: &ShardLease) -> bool {
        let Some((previous, boot)) = &lease.previous else { return true };
        matches!(self.observed.life(previous, boot), Life::Ended(_)) || self.observed.fence_passed(lease)
    }

    /// P2: whether the holder may accept writes.
    fn may_serve(&self, lease: &ShardLease, plan: &mut Plan) -> bool {
        let Some((previous, _)) = &lease.previous else { return true };
        if self.relieved(lease) {
            return true;
        }
        plan.wait(
            Reason::FencingPrimary,
            previous,
            "its end is not proven: the bound after which it has paused its own writes is waited for",
        );
        plan.again(100);
        false
    }

    /// The holder has ended: the best live copy succeeds it, or the shard starts anew from what is left.
    fn succeed(&self, lease: &ShardLease, cause: Cause, plan: &mut Plan) -> Option<Primary> {
        if let Some(node) = self.not_heard_yet(lease, plan) {
            plan.wait(
                Reason::PrimaryDown,
                &lease.holder,
                format!("{node} may hold the better copy, and is given a moment to say how far it is"),
            );
            plan.again(50);
            return None;
        }
        let copies = self.live_copies();
        // Among the best, one that is the primary already keeps the role: a second one beside it would break P2.
        let rank = |(_, report, engine): &(&str, &Report, &EngineView)| {
            (report.record.as_ref().map_or(0, |record| record.data_term), engine.offset)
        };
        let best = copies.first().map(rank);
        let in_office = copies.iter().find(|copy| Some(rank(copy)) == best && is_primary(copy.2));
        if let Some((node, report, engine)) = in_office.or(copies.first()) {
            let raised = self.raise(Some(lease), node, report, cause, plan);
            if engine.role == Some(Role::Primary) {
                return Some(self.primary(&raised, true));
            }
            if self.may_serve(&raised, plan) {
                self.promote(&raised, &report.boot, plan);
            }
            return None;
        }
        self.no_live_copy(lease, plan)
    }

    /// A node whose word would matter for the choice and may come within moments: one that a fresh process has not dialled
    /// yet or that fell silent just now, and a replica that has not noticed the end of its primary. Where the engines may
    /// be electing already, a fresh process leaves them to it: a takeover beside an election makes two primaries.
    fn not_heard_yet(&self, lease: &ShardLease, plan: &mut Plan) -> Option<String> {
        let quiet = self.nodes().find(|node| {
            *node != lease.holder
                && match self.observed.nodes.get(*node).map(|seen| (&seen.agent, &seen.pod)) {
                    Some((Agent::Unheard, Some(pod))) => {
                        pod.ip.is_some() && self.observed.watching_ms < FIRST_DIAL_MS
                    }
                    Some((Agent::Silent { silent_ms, .. }, Some(_))) => *silent_ms < FIRST_DIAL_MS,
                    _ => false,
                }
        });
        if let Some(node) = quiet {
            return Some(node.to_owned());
        }
        let copies = self.live_copies();
        if copies.len() < 2 {
            return None;
        }
        if self.group.cluster_mode == ClusterMode::Enabled
            && self.group.shards.len() >= 3
            && self.observed.watching_ms < ELECTION_MS
        {
            plan.again(250);
            return copies.first().map(|(node, ..)| (*node).to_owned());
        }
        let just_now = self.just_died(lease);
        let address = self.observed.address(&lease.holder, self.group.port, 0)?;
        copies
            .iter()
            .find(|(_, _, engine)| {
                just_now && engine.link.as_ref().is_some_and(|link| link.up && link.host == address.host)
            })
            .map(|(node, ..)| (*node).to_owned())
    }

    /// Whether the holder's life ended so recently that what its replicas last said may be from before.
    fn just_died(&self, lease: &ShardLease) -> bool {
        self.observed.report(&lease.holder).and_then(|report| report.last_exit.as_ref()).is_some_and(|exit| {
            exit.boot == lease.boot && (self.observed.now_ms - exit.at_ms).abs() < NOTICE_MS
        })
    }

    /// P3: silence promotes only where Kubernetes and every replica have lost the primary too, and after the fence.
    fn silence(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        let holder = &lease.holder;
        let unheard = matches!(self.observed.nodes.get(holder).map(|seen| &seen.agent), Some(Agent::Unheard));
        if unheard && self.observed.watching_ms < FIRST_DIAL_MS {
            plan.wait(Reason::WaitingForAgent, holder, "this operator process has just begun to listen");
            plan.again(100);
            return None;
        }
        if !self.observed.kubernetes_lost(holder, &lease.boot) {
            plan.wait(
                Reason::NodeUnknown,
                holder,
                "its agent is silent, and Kubernetes does not say that its pod or machine is gone: unknown is not down, nothing is promoted",
            );
            plan.again(500);
            return None;
        }
        let others: Vec<&str> = self.nodes().filter(|node| node != holder).collect();
        let hears = others.iter().find(|node| {
            self.observed.engine(node).is_some_and(|engine| {
                engine.link.as_ref().is_some_and(|link| link.up || link.down_ms < FENCE_SILENCE_MS)
            })
        });
        if let Some(hears) = hears {
            plan.wait(
                Reason::NodeUnknown,
                holder,
                format!("its agent is silent, but replica {hears} heard it within the last moments"),
            );
            plan.again(250);
            return None;
        }
        // P2: whoever cannot be asked may be the witness that keeps the old primary writing; no time makes up for that.
        let blind = others.iter().find(|node| {
            !matches!(self.observed.nodes.get(**node).map(|seen| &seen.agent), Some(Agent::Up(_)))
                && !self.never_ran(node)
        });
        if let Some(blind) = blind {
            plan.wait(
                Reason::NodeUnknown,
                *blind,
                format!(
                    "the primary {holder} is lost, and this node cannot be asked whether it still hears it"
                ),
            );
            plan.again(500);
            return None;
        }
        self.succeed(lease, Cause::Silence, plan)
    }

    /// No live node holds a whole copy: the best volume is restored, or the shard starts empty.
    fn no_live_copy(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        // A transfer that was under way ends by itself, whole or not: within moments of its primary's death, or `repl-timeout`.
        if let Some(node) = self.nodes().find(|node| {
            self.observed.engine(node).is_some_and(|engine| {
                let transfer = engine.loading || engine.link.as_ref().is_some_and(|link| link.syncing);
                engine.role == Some(Role::Replica) && (transfer || self.just_died(lease))
            })
        }) {
            let node = node.to_owned();
            plan.wait(
                Reason::NoLiveCopy,
                &*self.shard.id,
                format!("{node} is receiving or loading a copy; it may be whole"),
            );
            plan.again(100);
            return None;
        }
        for node in self.nodes() {
            if self.observed.parked(node).is_some()
                || self.observed.engine(node).is_some()
                || self.cannot_hold_a_copy(node)
            {
                continue;
            }
            if !self.given_up(node) {
                plan.wait(
                    Reason::NoLiveCopy,
                    &*self.shard.id,
                    format!("no live copy is known, and {node} cannot be asked whether it holds one; it is waited for (at most a minute)"),
                );
                plan.again(500);
                return None;
            }
        }
        let best = self.best_volume();
        let first = self.nodes().find(|node| self.observed.parked(node).is_some() && self.stays(node));
        let Some(node) = best.or(first) else {
            plan.wait(
                Reason::NoLiveCopy,
                &*self.shard.id,
                "no live copy is known, and no cache node is ready to be started",
            );
            return None;
        };
        let report = self.observed.parked(node)?;
        let cause = match (best, lease.served) {
            (Some(_), _) => Cause::Restore,
            (None, true) => Cause::Empty,
            (None, false) => Cause::Birth,
        };
        let raised = self.raise(Some(lease), node, report, cause, plan);
        match cause {
            Cause::Restore => plan.tell(true, self.restored(node)),
            Cause::Empty => plan.tell(true, self.lost(lease, node)),
            _ => {}
        }
        if self.may_serve(&raised, plan) {
            self.start(&raised, report, plan);
        }
        Some(self.primary(&raised, false))
    }

    fn restored(&self, node: &str) -> String {
        let record = self.observed.parked(node).and_then(|report| report.record.as_ref());
        let (offset, term) = record.map_or((0, 0), |record| (record.offset, record.data_term));
        format!(
            "No live copy of node group {} was left; it is started from the volume of {node}, the best by the agents' records (term \
             {term}, offset {offset}). Writes that had not reached that volume are lost.",
            self.shard.id
        )
    }

    fn lost(&self, lease: &ShardLease, node: &str) -> String {
        let offset = self.observed.last_offsets.get(&lease.holder).copied();
        let until = offset.map_or_else(String::new, |offset| {
            format!(" (its last primary {} had reached offset {offset})", lease.holder)
        });
        let slots = if lease.slots.is_empty() { String::new() } else { format!(", slots {}", lease.slots) };
        format!(
            "No live copy of node group {}{slots} was left and no volume holds one: it is started empty on {node}, as ElastiCache does. \
             All its keys are lost{until}.",
            self.shard.id
        )
    }

    /// A node that was never placed, or never had an address, holds nothing in memory; without volumes that is all there is.
    fn cannot_hold_a_copy(&self, node: &str) -> bool {
        let Some(seen) = self.observed.nodes.get(node) else { return self.group.storage.is_none() };
        match &seen.pod {
            None => self.group.storage.is_none(),
            Some(pod) => {
                // A claim that waits for its first consumer is empty as well.
                let served = self.observed.leases.get(&self.shard.id).is_some_and(|lease| lease.served);
                let fresh = !self.observed.formed && !served && pod.unschedulable.is_some();
                (self.group.storage.is_none() || fresh)
                    && matches!(seen.agent, Agent::Unheard)
                    && (pod.terminated || pod.ip.is_none())
            }
        }
    }

    /// A node whose first pod was never started: it has nobody to hear.
    fn never_ran(&self, node: &str) -> bool {
        self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref()).is_some_and(|pod| {
            pod.ip.is_none() && pod.machine.is_none() && !self.observed.last_offsets.contains_key(node)
        })
    }

    /// Whether a node that cannot be asked has been waited for long enough, and Kubernetes, too, has lost it. A pod that runs
    /// on a machine that is well is never given up: whoever wants that deletes it.
    fn given_up(&self, node: &str) -> bool {
        let lost = match self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref()) {
            None => true,
            Some(pod) => {
                pod.ip.is_none()
                    || pod.terminated
                    || pod.machine.as_ref().is_some_and(|name| {
                        self.observed.machines.get(name).is_none_or(|machine| !machine.ready)
                    })
            }
        };
        lost && self.waited_for(node)
    }

    fn waited_for(&self, node: &str) -> bool {
        let Some(seen) = self.observed.nodes.get(node) else {
            return self.observed.watching_ms >= UNREACHABLE_COPY_WAIT_MS;
        };
        let age = seen
            .pod
            .as_ref()
            .map_or(u64::MAX, |pod| u64::try_from(self.observed.now_ms - pod.created_ms).unwrap_or(0));
        let silent = match &seen.agent {
            Agent::Up(_) => 0,
            Agent::Silent { silent_ms, .. } => *silent_ms,
            Agent::Unheard => u64::MAX,
        };
        age.min(silent).min(self.observed.watching_ms) >= UNREACHABLE_COPY_WAIT_MS
    }

    /// The parked node whose volume is the furthest, by what its agent wrote down and not by a guess.
    fn best_volume(&self) -> Option<&str> {
        self.nodes()
            .filter_map(|node| {
                let report = self.observed.parked(node)?;
                let record = report.record.as_ref()?;
                (report.persistent && report.has_data && self.stays(node)).then_some((node, record))
            })
            .max_by_key(|(node, record)| {
                // Within a term no replica is ahead of its primary, and an offset is written down only now and then: the
                // primary's note may lag behind its own volume by more than its replica did.
                let primary = record.role == Some(Role::Primary);
                (record.complete, record.data_term, primary, record.offset, Reverse((*node).to_owned()))
            })
            .map(|(node, _)| node)
    }

    /// The intent, written before anything is done; later rules of this plan already see it.
    fn raise(
        &self,
        lease: Option<&ShardLease>,
        node: &str,
        report: &Report,
        cause: Cause,
        plan: &mut Plan,
    ) -> ShardLease {
        let term = self.next_term();
        let previous = lease.and_then(|lease| {
            let same = lease.holder == node && lease.boot == report.boot;
            // P2: the one before the holder may still accept writes, so the holder never did; it is the one to be fenced.
            if same || !self.relieved(lease) {
                lease.previous.clone()
            } else {
                Some((lease.holder.clone(), lease.boot.clone()))
            }
        });
        // A node that keeps or gets back the role is nobody to be fenced before itself.
        let previous = previous.filter(|(previous, boot)| previous != node || *boot != report.boot);
        let slots = lease
            .filter(|lease| !lease.slots.is_empty())
            .map_or_else(|| self.shard.slots.clone(), |lease| lease.slots.clone());
        let served =
            lease.is_some_and(|lease| lease.served) || matches!(cause, Cause::Adopted | Cause::Restore);
        plan.confirms.retain(|confirm| lease.is_none_or(|lease| confirm.node != lease.holder));
        let raise = RaiseTerm {
            shard: self.shard.id.clone(),
            resource_version: lease.map(|lease| lease.resource_version.clone()),
            term,
            holder: node.to_owned(),
            boot: report.boot.clone(),
            previous: previous.clone(),
            cause,
            slots: slots.clone(),
            served,
        };
        let reason = match cause {
            Cause::Birth => Reason::FormingCluster,
            Cause::Empty => Reason::DataLost,
            Cause::Restore => Reason::RestoredFromVolume,
            Cause::Handover => Reason::HandingOver,
            Cause::Death | Cause::Silence | Cause::Adopted => Reason::PrimaryDown,
        };
        plan.steps.push(Step { act: Act::RaiseTerm(raise), reason, event: String::new(), warning: false });
        ShardLease {
            resource_version: String::new(),
            term,
            holder: node.to_owned(),
            boot: report.boot.clone(),
            since_ms: self.observed.now_ms,
            previous,
            cause,
            slots,
            served,
        }
    }

    /// Lets the holder in as the primary.
    fn start(&self, lease: &ShardLease, report: &Report, plan: &mut Plan) {
        if report.terminating {
            return;
        }
        let Some(announce) = self.observed.address(&lease.holder, self.group.port, self.bus_port()) else {
            return;
        };
        let slots =
            if self.group.cluster_mode == ClusterMode::Enabled { lease.slots.ranges() } else { Vec::new() };
        let data = if lease.cause == Cause::Restore { StartData::Keep } else { StartData::PutAside };
        let role = StartRole::Primary { slots, epoch: self.fresh_epoch() };
        let command =
            Command::Start(start(self.group, self.shard, self.observed, &lease.holder, announce, data, role));
        plan.order(Order {
            node: &lease.holder,
            boot: &lease.boot,
            term: lease.term,
            role: None,
            command,
            reason: Reason::RecoveringNode,
        });
    }
}

/// Everything a node needs to be let in.
pub(super) fn start(
    group: &Desired,
    shard: &DesiredShard,
    observed: &Observed,
    node: &str,
    announce: kagami_protocol::Address,
    data: StartData,
    role: StartRole,
) -> Start {
    let cluster = group.cluster_mode == ClusterMode::Enabled;
    let abilities = engine::abilities(group.engine.kind, group.engine.version);
    let peers = if cluster {
        group
            .shards
            .iter()
            .flat_map(|shard| &shard.nodes)
            .filter(|peer| peer.name != node && may_be_met(observed, &peer.name))
            .filter_map(|peer| observed.address(&peer.name, group.port, announce.bus_port))
            .collect()
    } else {
        Vec::new()
    };
    Start {
        directives: engine::directives(group),
        client_acl: engine::client_acl(group),
        data,
        role,
        peers,
        announce,
        announce_hostname: if cluster && abilities.hostname {
            names::address(node, &group.namespace, &group.cluster_domain)
        } else {
            String::new()
        },
        guard: shard.nodes.len() > 1,
    }
}

/// Whether others may meet a node (cluster mode enabled): it owns slots or follows somebody. One that was started as a
/// primary and has not claimed its slots yet must be alone, so that it claims them with an epoch of its own.
pub(super) fn may_be_met(observed: &Observed, node: &str) -> bool {
    let claims = observed.leases.values().any(|lease| lease.holder == node);
    observed
        .engine(node)
        .is_some_and(|engine| engine.role == Some(Role::Replica) || is_primary(engine) || !claims)
}
