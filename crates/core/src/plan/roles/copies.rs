//! Where a copy is or may be: in a live engine, on a volume, or behind a node that cannot be asked.

use super::rebirth::reach_of;
use super::{UNREACHABLE_COPY_WAIT_MS, View};
use crate::observed::{Agent, Cause, ShardLease};
use crate::plan::{Plan, Primary};
use kagami_api::reason::Reason;
use kagami_protocol::{EngineView, Report, Role};
use std::cmp::Reverse;

impl View<'_> {
    /// Live nodes with a whole copy, best first: of the latest term, the furthest, one that stays, one that has room on its volume,
    /// then by name.
    pub(super) fn live_copies(&self) -> Vec<(&str, &Report, &EngineView)> {
        let mut copies: Vec<(&str, &Report, &EngineView)> = self
            .nodes()
            .filter_map(|node| Some((node, self.observed.report(node)?, self.observed.engine(node)?)))
            .filter(|(_, _, engine)| engine.complete && !engine.loading)
            .collect();
        // A later term's history is the better one, however short: an old primary's own branch may be longer.
        copies.sort_by_key(|(node, report, engine)| {
            (Reverse(self.rank(report, engine)), !self.stays(node), report.is_short(), node.to_string())
        });
        copies
    }

    /// How good a live copy is: the term of its history, then how far it is. Copies of one history are of one term, the latest that
    /// any of them has learnt: within it one is the beginning of the other, so nothing but the offset tells them apart.
    pub(super) fn rank(&self, report: &Report, engine: &EngineView) -> (u64, i64) {
        let learnt = self.nodes().filter_map(|node| {
            let its = self.observed.engine(node).filter(|its| its.complete && !its.loading)?;
            (its.replid == engine.replid).then(|| self.observed.report(node).map(Report::data_term))?
        });
        (learnt.max().unwrap_or(0).max(report.data_term()), engine.offset)
    }

    /// No live node holds a whole copy: the best volume is restored, or the shard starts empty.
    pub(super) fn no_live_copy(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        if self.receives_a_copy(Some(lease), plan) || self.park_half_copies(lease.term, plan) {
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
        // Its volume comes back with its next pod.
        if let Some(node) = self.nodes().find(|node| {
            let report = self.observed.parked(node);
            report.is_some_and(|report| report.persistent && report.has_data) && !self.stays(node)
        }) {
            let node = node.to_owned();
            let words = format!(
                "{node} has data on its volume and its pod is being ended; its next pod is waited for"
            );
            plan.wait(Reason::NoLiveCopy, &*self.shard.id, words);
            plan.again(500);
            return None;
        }
        let best = self.best_volume(Some(lease));
        let first = self.nodes().find(|node| self.observed.parked(node).is_some() && self.stays(node));
        let Some(node) = best.or(first) else {
            plan.wait(
                Reason::NoLiveCopy,
                &*self.shard.id,
                "no live copy is known, and no cache node is ready to be started",
            );
            return None;
        };
        let cause = match (best, lease.served) {
            (Some(_), _) => Cause::Restore,
            (None, true) => Cause::Empty,
            (None, false) => Cause::Birth,
        };
        self.start_again(lease, node, cause, plan)
    }

    /// Starts the shard from what a parked node has, or from nothing.
    pub(super) fn start_again(
        &self,
        lease: &ShardLease,
        node: &str,
        cause: Cause,
        plan: &mut Plan,
    ) -> Option<Primary> {
        let report = self.observed.parked(node)?;
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

    /// A transfer that is under way ends by itself, whole or not: within moments of its primary's death, or `repl-timeout`.
    pub(super) fn receives_a_copy(&self, lease: Option<&ShardLease>, plan: &mut Plan) -> bool {
        let receives = self.nodes().find(|node| {
            self.observed.engine(node).is_some_and(|engine| {
                let transfer = engine.loading || engine.link.as_ref().is_some_and(|link| link.syncing);
                let just_died = || lease.is_some_and(|lease| self.just_died(&lease.holder, &lease.boot));
                engine.role == Some(Role::Replica) && (transfer || just_died())
            })
        });
        let Some(node) = receives.map(str::to_owned) else { return false };
        plan.wait(
            Reason::NoLiveCopy,
            &*self.shard.id,
            format!("{node} is receiving or loading a copy; it may be whole"),
        );
        plan.again(100);
        true
    }

    /// A replica whose primary went before it was in sync holds nothing whole, but what it had before is put aside beside it:
    /// parked, it has that back, and is judged by it.
    pub(super) fn park_half_copies(&self, term: u64, plan: &mut Plan) -> bool {
        let half: Vec<(&str, &Report)> = self
            .nodes()
            .filter_map(|node| {
                let (report, engine) = (self.observed.report(node)?, self.observed.engine(node)?);
                (report.persistent && !engine.complete && !report.terminating).then_some((node, report))
            })
            .collect();
        for (node, report) in &half {
            self.park(node, &report.boot, term, false, plan);
        }
        if let Some((node, _)) = half.first() {
            let words = format!(
                "{node} was never in sync; it is parked, so that the data that it put aside comes back"
            );
            plan.wait(Reason::NoLiveCopy, &*self.shard.id, words);
            plan.again(100);
        }
        !half.is_empty()
    }

    pub(super) fn restored(&self, node: &str) -> String {
        let record = self.observed.parked(node).and_then(|report| report.record.as_ref());
        let (offset, term) = record.map_or((0, 0), |record| (record.offset, record.data_term));
        let unloaded: Vec<String> = self
            .nodes()
            .filter(|each| *each != node)
            .filter_map(|each| {
                let report = self.observed.parked(each)?;
                let record = report.record.as_ref().filter(|record| record.failed_loads > 0)?;
                Some(format!(
                    " The data of {each} (term {}, offset {}) could not be loaded and is kept as it is.",
                    record.data_term, record.offset
                ))
            })
            .collect();
        let left = if self.live_copies().is_empty() { "No live copy" } else { "Only a stale live copy" };
        format!(
            "{left} of node group {} was left; it is started from the volume of {node}, the best by the agents' records (term \
             {term}, offset {offset}). Writes that had not reached that volume are lost.{}",
            self.shard.id,
            unloaded.concat()
        )
    }

    pub(super) fn lost(&self, lease: &ShardLease, node: &str) -> String {
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
    pub(super) fn cannot_hold_a_copy(&self, node: &str) -> bool {
        // P1: another process led until just now, and may have let it in since what this one sees of its pod.
        let has_served = self.observed.formed
            || self.observed.leases.get(&self.shard.id).is_some_and(|lease| lease.served);
        if has_served && self.observed.watching_ms < UNREACHABLE_COPY_WAIT_MS {
            return false;
        }
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
    pub(super) fn never_ran(&self, node: &str) -> bool {
        self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref()).is_some_and(|pod| {
            pod.ip.is_none() && pod.machine.is_none() && !self.observed.last_offsets.contains_key(node)
        })
    }

    /// Whether a node that cannot be asked has been waited for long enough, and Kubernetes, too, has lost it. A pod that runs
    /// on a machine that is well is never given up: whoever wants that deletes it.
    pub(super) fn given_up(&self, node: &str) -> bool {
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

    pub(super) fn waited_for(&self, node: &str) -> bool {
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
    pub(super) fn best_volume(&self, lease: Option<&ShardLease>) -> Option<&str> {
        self.best_volume_of(lease, |_| true)
    }

    /// The same, of some of them.
    pub(super) fn best_volume_of(
        &self,
        lease: Option<&ShardLease>,
        among: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        self.nodes()
            .filter(|node| among(node))
            .filter_map(|node| {
                let report = self.observed.parked(node)?;
                let record = report.record.as_ref();
                (report.persistent && report.has_data && self.stays(node)).then_some((node, record))
            })
            .max_by_key(|(node, record)| {
                // What could not be loaded comes last, and again only when everything else could not be either. Data without
                // a note that can be read is data all the same, the least of all.
                let rank = record
                    .map(|record| (Reverse(record.failed_loads), record.complete, reach_of(record, lease)));
                (rank, Reverse((*node).to_owned()))
            })
            .map(|(node, _)| node)
    }
}
