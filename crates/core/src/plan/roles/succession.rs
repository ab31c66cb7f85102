//! The holder does not serve (yet, or any more): who succeeds it, and when that is safe.

use super::View;
use super::rebirth::Way;
use crate::desired::ClusterMode;
use crate::observed::{Agent, Cause, Life, ShardLease, is_primary};
use crate::plan::{Plan, Primary};
use kagami_api::reason::Reason;
use kagami_protocol::{Boot, EngineState, EngineView, Report, Role};

/// How long replicas may take to notice that their primary's process has ended; their last offset comes with that.
const NOTICE_MS: i64 = 400;
/// How long a fresh operator process gives the agents to be heard, before it calls one of them unknown.
pub(super) const FIRST_DIAL_MS: u64 = 3_000;

impl View<'_> {
    /// The lease names a holder that is not the primary (yet, or any more).
    pub(super) fn not_serving(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
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
    pub(super) fn elected(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        if self.group.cluster_mode != ClusterMode::Enabled {
            return None;
        }
        let copies = self.live_copies();
        // A majority that could have elected it lives, and its claim is the newest that is known.
        let undisputed = |node: &str| self.majority_lives() && self.is_newest_claimant(node);
        let (node, report, _) = copies
            .iter()
            .filter(|(node, _, engine)| *node != lease.holder && is_primary(engine))
            // P1: a primary of an earlier term that was cut off and came back was not elected, whatever slots it claims.
            .filter(|(node, report, engine)| {
                let later = |(_, other, its): &(&str, &Report, &EngineView)| {
                    other.data_term() > report.data_term() && its.replid != engine.replid
                };
                // A later term's primary, which may be about to claim, is passed over by nobody's election.
                let mut others = copies.iter().filter(|copy| later(copy));
                others.all(|(.., its)| its.role == Some(Role::Replica) && undisputed(node))
            })
            // P2: nor was the one that the holder relieved, or was to relieve, while the holder cannot be asked whether it serves.
            .filter(|(node, report, _)| {
                let relieved = |(of, boot): &(String, Boot)| of == node && *boot == report.boot;
                self.observed.report(&lease.holder).is_some()
                    || !lease.previous.as_ref().is_some_and(relieved)
                    || undisputed(node)
            })
            .max_by_key(|(_, _, engine)| engine.cluster.as_ref().map_or(0, |cluster| cluster.my_epoch))?;
        // While a handover is under way the old primary is no winner of an election, it is the one to be relieved.
        if (lease.cause == Cause::Handover || lease.undoing().is_some())
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
    pub(super) fn take_office(
        &self,
        lease: &ShardLease,
        report: &Report,
        plan: &mut Plan,
    ) -> Option<Primary> {
        match self.make_way(lease, plan) {
            Way::Free => {}
            Way::Waits => return None,
            Way::Closed => return self.succeed(lease, Cause::Adopted, plan),
        }
        match report.state {
            EngineState::Parked => {
                let rivals = self.live_copies();
                let rival = rivals
                    .iter()
                    .map(|(node, ..)| *node)
                    .find(|node| !(lease.cause == Cause::Restore && self.outruns(&lease.holder, node)));
                if let Some(rival) = rival.map(str::to_owned) {
                    // P1: it was to start from nothing or from its volume, and meanwhile a live copy was found.
                    plan.wait(
                        Reason::PrimaryDown,
                        &lease.holder,
                        format!("not started, because {rival} holds a live copy"),
                    );
                    return self.succeed(lease, Cause::Death, plan);
                }
                // P1: between the term and the start a better volume may have come back; beside a stale live copy only one that outruns it.
                let outruns_all = |volume: &str| rivals.iter().all(|(live, ..)| self.outruns(volume, live));
                let best = self.best_volume_of(Some(lease), outruns_all).filter(|best| *best != lease.holder);
                if lease.cause == Cause::Empty && best.is_some()
                    || lease.cause == Cause::Restore
                        && lease.undoing().is_none()
                        && best.is_some_and(|best| {
                            self.observed.reach(best) > self.observed.reach(&lease.holder)
                        })
                {
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
                    if self.hung(&lease.holder).is_some() {
                        return None;
                    }
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
    pub(super) fn promotion(
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
            if self.observed.in_sync_with(engine, previous) && self.stays(&lease.holder) {
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
        // P1: since it was chosen another may have become the better copy; as the candidate of a handover it was chosen for being
        // in sync, not for being the furthest.
        if self.outrun(lease, report, engine) {
            return self.succeed(lease, Cause::Death, plan);
        }
        if let (Cause::Handover, Some((previous, boot))) = (lease.cause, &lease.previous)
            && (self.awaits_a_word(previous, boot, plan)
                || self.awaits_a_further(previous, report, engine, plan))
        {
            return None;
        }
        self.promote(lease, &report.boot, plan);
        None
    }

    /// P1: whether another replica is the better copy now than the holder, which is not promoted yet.
    fn outrun(&self, lease: &ShardLease, report: &Report, engine: &EngineView) -> bool {
        lease.undoing().is_none()
            && self.live_copies().first().is_some_and(|(_, best, of_best)| {
                of_best.role == Some(Role::Replica) && self.rank(best, of_best) > self.rank(report, engine)
            })
    }

    /// P1: whether somebody may say within moments that it holds a better copy, now that a primary is gone; says so.
    fn awaits_a_word(&self, gone: &str, boot: &Boot, plan: &mut Plan) -> bool {
        let Some(node) = self.not_heard_yet(gone, boot) else { return false };
        plan.wait(
            Reason::PrimaryDown,
            gone,
            format!("{node} may hold the better copy, and is given a moment to say how far it is"),
        );
        plan.again(50);
        true
    }

    /// P1: whether a copy that cannot be asked was further than the one that would succeed; says so.
    fn awaits_a_further(&self, gone: &str, report: &Report, engine: &EngineView, plan: &mut Plan) -> bool {
        if let Some(node) = self.nodes().find(|node| *node != gone && self.is_unheard_copy(node)) {
            plan.wait(
                Reason::PrimaryDown,
                gone,
                format!(
                    "{node} was not heard since this operator process began, and may hold the better copy: it is waited for, a minute \
                     at most. If it is gone for good, delete its pod"
                ),
            );
            plan.again(500);
            return true;
        }
        let Some((node, offset)) = self.further_out_of_reach(report, engine) else { return false };
        plan.wait(
            Reason::PrimaryDown,
            gone,
            format!(
                "{node} cannot be asked, and was further (offset {offset}) when it was last heard than any copy that can be: it is \
                 waited for, a minute at most. If it is gone for good, delete its pod"
            ),
        );
        plan.again(500);
        true
    }

    /// Whether the one before can no longer accept writes: its end is proven, or its bound has passed.
    pub(super) fn relieved(&self, lease: &ShardLease) -> bool {
        let Some((previous, boot)) = &lease.previous else { return true };
        // In that same life it is a replica by its own words: it accepts no writes, and the holder after it did serve.
        let replica = || self.observed.engine(previous).is_some_and(|e| e.role == Some(Role::Replica));
        let stepped_down = match self.observed.life(previous, boot) {
            Life::Ended(_) => true,
            Life::Alive => replica(),
            Life::Unknown => false,
        };
        stepped_down || self.observed.fence_passed(lease)
    }

    /// P2: whether the holder may accept writes.
    pub(super) fn may_serve(&self, lease: &ShardLease, plan: &mut Plan) -> bool {
        let Some((previous, boot)) = &lease.previous else { return true };
        if self.relieved(lease) {
            return true;
        }
        if self.observed.life(previous, boot) == Life::Unknown {
            self.relink(lease, plan);
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
    pub(super) fn succeed(&self, lease: &ShardLease, cause: Cause, plan: &mut Plan) -> Option<Primary> {
        if self.awaits_a_word(&lease.holder, &lease.boot, plan) {
            return None;
        }
        let copies = self.live_copies();
        let outruns_all = |volume: &str| copies.iter().all(|(live, ..)| self.outruns(volume, live));
        if !copies.is_empty()
            && let Some(volume) = self.best_volume_of(Some(lease), outruns_all)
        {
            return self.start_again(lease, volume, Cause::Restore, plan);
        }
        // Among the best, one that is the primary already keeps the role: a second one beside it would break P2.
        let rank = |(_, report, engine): &(&str, &Report, &EngineView)| self.rank(report, engine);
        let best = copies.first().map(rank);
        if let Some((_, report, engine)) = copies.first()
            && self.awaits_a_further(&lease.holder, report, engine, plan)
        {
            return None;
        }
        let in_office = copies.iter().find(|copy| Some(rank(copy)) == best && is_primary(copy.2));
        if let Some((node, report, engine)) = in_office.or(copies.first()) {
            if engine.role != Some(Role::Primary)
                && let Some(other) = self.elsewhere_elected(node)
            {
                plan.wait(
                    Reason::NodeUnknown,
                    &*other,
                    "it cannot be asked, and the primaries that cannot be asked either may have elected it: nobody is promoted beside it",
                );
                plan.again(500);
                return None;
            }
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

    /// P1: a node that this process has never heard: nobody knows how far it is.
    fn is_unheard_copy(&self, node: &str) -> bool {
        let Some(seen) = self.observed.nodes.get(node) else { return false };
        let here = seen.pod.as_ref().is_some_and(|pod| pod.ip.is_some() && !pod.deleting && !pod.terminated);
        here && matches!(seen.agent, Agent::Unheard) && !self.waited_for(node)
    }

    /// P1: a copy that cannot be asked for less than a minute, and was further when it was last heard than the best one that can be
    /// asked. Its name and offset.
    fn further_out_of_reach(&self, best: &Report, of_best: &EngineView) -> Option<(String, i64)> {
        let (term, _) = self.rank(best, of_best);
        self.nodes().find_map(|node| {
            let seen = self.observed.nodes.get(node)?;
            let Agent::Silent { last, .. } = &seen.agent else { return None };
            let engine = last.engine.as_ref().filter(|engine| engine.complete)?;
            let further = match (engine.role?, engine.replid == of_best.replid) {
                (Role::Replica, true) => engine.offset > of_best.offset,
                // Nobody had confirmed what it alone had of the same history.
                (Role::Primary, true) => false,
                (_, false) => last.data_term() > term,
            };
            let here = seen.pod.as_ref().is_some_and(|pod| pod.uid == last.boot.pod_uid && !pod.deleting);
            let waits = here && !self.observed.ended(node, &last.boot) && !self.waited_for(node);
            (further && waits).then(|| (node.to_owned(), engine.offset))
        })
    }

    /// P2: a copy of the shard that the other side of a partition may have elected: it cannot be asked, nor can so many of the
    /// other shards' primaries that those who can be asked might not know.
    fn elsewhere_elected(&self, successor: &str) -> Option<String> {
        if self.group.cluster_mode != ClusterMode::Enabled
            || self.group.shards.len() < 3
            || self.majority_lives()
        {
            return None;
        }
        let hidden = self.group.shards.iter().filter(|shard| shard.id != self.shard.id).filter(|shard| {
            self.observed.leases.get(&shard.id).is_some_and(|lease| {
                !self.observed.ended(&lease.holder, &lease.boot)
                    && self.observed.engine(&lease.holder).is_none()
            })
        });
        if hidden.count() * 2 <= self.group.shards.len() {
            return None;
        }
        let silent = |node: &&str| {
            *node != successor
                && matches!(self.observed.nodes.get(*node).map(|seen| &seen.agent), Some(Agent::Silent { last, .. })
                    if last.engine.as_ref().is_some_and(|engine| engine.complete)
                        && !self.observed.ended(node, &last.boot))
        };
        self.nodes().find(silent).map(str::to_owned)
    }

    /// A node whose word would matter for the choice and may come within moments: one that a fresh process has not dialled
    /// yet or that fell silent just now, and a replica that has not noticed the end of its primary.
    pub(super) fn not_heard_yet(&self, gone: &str, boot: &Boot) -> Option<String> {
        let quiet = self.nodes().find(|node| {
            *node != gone
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
        let just_now = self.just_died(gone, boot);
        let address = self.observed.address(gone, self.group.port, 0)?;
        copies
            .iter()
            .find(|(_, _, engine)| {
                just_now && engine.link.as_ref().is_some_and(|link| link.up && link.host == address.host)
            })
            .map(|(node, ..)| (*node).to_owned())
    }

    /// Whether a primary's life ended so recently that what its replicas last said may be from before.
    pub(super) fn just_died(&self, gone: &str, boot: &Boot) -> bool {
        self.observed
            .report(gone)
            .and_then(|report| report.last_exit.as_ref())
            .is_some_and(|exit| exit.boot == *boot && (self.observed.now_ms - exit.at_ms).abs() < NOTICE_MS)
    }
}
