//! The holder serves: it is confirmed, its slots are claimed, and it hands over when it has to go.

use super::View;
use crate::desired::ClusterMode;
use crate::observed::{Cause, ShardLease};
use crate::plan::{Act, Confirm, HandOver, Plan, Primary, Step};
use crate::slots::SlotSet;
use kagami_api::reason::Reason;
use kagami_protocol::{FENCE_BOUND_MS, FENCE_MARGIN_MS, FENCE_SILENCE_MS, Report, Role};

/// For how long a primary that is to hand over is confirmed in the term before. P2: what was confirmed last ends, with the silence
/// that it allows, before the bound that counts from the new term.
const RELIEVED_WITHIN_MS: u64 = 1_000;
const _: () = assert!(RELIEVED_WITHIN_MS + FENCE_SILENCE_MS + FENCE_MARGIN_MS <= FENCE_BOUND_MS);

impl View<'_> {
    /// The holder serves: confirm it, note it, and hand over if it has to go.
    pub(super) fn keep(&self, lease: &ShardLease, primary: Primary, plan: &mut Plan) -> Option<Primary> {
        let (node, engine) = (&lease.holder, self.observed.engine(&lease.holder)?);
        if self.next_term() > lease.term + 1 {
            // The agents have seen a later term than the lease tells (it was restored from a backup): the lease catches up.
            let report = self.observed.report(node)?;
            let raised = self.raise(Some(lease), node, report, Cause::Adopted, plan);
            return Some(self.primary(&raised, true));
        }
        if let Some(outcome) = self.better_copy(lease, plan) {
            return outcome;
        }
        // P2: what paused its own writes is not to go on before whoever it follows in the role can no longer write.
        let paused = self.observed.report(node).is_some_and(|report| report.fenced);
        if paused && !self.may_serve(lease, plan) {
            return Some(primary);
        }
        plan.confirms.push(Confirm {
            node: node.clone(),
            boot: lease.boot.clone(),
            term: lease.term,
            guard: self.shard.nodes.len() > 1,
            for_ms: None,
        });
        if let Some(cluster) = &engine.cluster {
            self.claim(lease, cluster, plan);
        }
        let whole = engine.cluster.as_ref().is_none_or(|cluster| {
            cluster.ok && self.shard.slots.difference(&SlotSet::from_ranges(cluster.own_slots())).is_empty()
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
        let asked = !self.stays(node)
            || self.restarts(lease)
            // Before its machine is drained, and only where that helps: a cordon is no emergency.
            || self.cordoned(node) && self.in_sync_replica(node).is_some_and(|(to, _)| !self.cordoned(to));
        if asked {
            let to = self.in_sync_replica(node);
            return self.hand_over(lease, primary, to, "", plan);
        }
        if let Some(to) = self.rightful(lease) {
            let whose =
                if self.group.primary.is_some() { "primaryClusterId names it" } else { "it had the role" };
            let why = format!(
                "{} is in sync and becomes the primary: {whose}, and automaticFailoverEnabled is false",
                to.0
            );
            return self.hand_over(lease, primary, Some(to), &why, plan);
        }
        Some(primary)
    }

    /// Without automatic failover the role belongs to one node, as in ElastiCache, which recreates a failed primary in place: the
    /// one that `primaryClusterId` names, else the one that lost it to a replica. Until that one is whole again a replica serves.
    fn rightful(&self, lease: &ShardLease) -> Option<(&str, &Report)> {
        if self.group.automatic_failover {
            return None;
        }
        let node = self.group.primary.as_deref().or(lease.home.as_deref())?;
        let goes = self.cordoned(node) || self.is_restarting(node) || self.loops(node);
        (!goes).then(|| self.in_sync_replicas(&lease.holder).find(|(each, _)| *each == node))?
    }

    /// Whom the next term remembers as the one that the role goes back to.
    pub(super) fn home(&self, lease: Option<&ShardLease>, node: &str) -> Option<String> {
        let lease = lease.filter(|_| !self.group.automatic_failover && self.group.primary.is_none())?;
        let home = lease.home.clone().unwrap_or_else(|| lease.holder.clone());
        (home != node && self.nodes().any(|each| each == home)).then_some(home)
    }

    /// Its engine is to be started again, and there is another copy that can serve meanwhile.
    fn restarts(&self, lease: &ShardLease) -> bool {
        self.shard.nodes.len() > 1 && self.is_restarting(&lease.holder)
    }

    /// A person asked for its engine to be started again, and that has not happened yet.
    fn is_restarting(&self, node: &str) -> bool {
        self.observed.requests.under_way.as_ref().is_some_and(|restart| {
            restart.node == node
                && self.observed.report(node).is_some_and(|report| report.boot == restart.boot)
        })
    }

    /// Its engine crashes again and again: with the role it would do so once more.
    fn loops(&self, node: &str) -> bool {
        self.observed
            .report(node)
            .is_some_and(|report| crate::plan::pods::loops(report, self.observed.now_ms).is_some())
    }

    /// Whether a node stands on a machine that takes no more pods.
    fn cordoned(&self, node: &str) -> bool {
        let pod = self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
        pod.and_then(|pod| pod.machine.as_ref())
            .and_then(|name| self.observed.machines.get(name))
            .is_some_and(|machine| machine.unschedulable)
    }

    /// The primary is asked to go (SIGTERM, eviction, drain): a replica in sync takes over first.
    fn hand_over(
        &self,
        lease: &ShardLease,
        primary: Primary,
        to: Option<(&str, &Report)>,
        why: &str,
        plan: &mut Plan,
    ) -> Option<Primary> {
        let Some((to, report)) = to else {
            plan.wait(
                Reason::HandingOver,
                &lease.holder,
                "it is asked to go, and no replica is in sync to take over",
            );
            return Some(primary);
        };
        if !self.relieved(lease) {
            // Raised now, the term would name the one before the holder as the one to be relieved, which is not whom we ask to go.
            plan.wait(
                Reason::HandingOver,
                &lease.holder,
                "it is asked to go; the one before it is not known to have ended, and its bound is waited for",
            );
            plan.again(100);
            return Some(primary);
        }
        // On a busy machine the term's way takes longer than a primary may go unheard. Its own term counts until the pause tells it
        // of the next one.
        let dated = self.observed.report(&lease.holder).is_some_and(Report::dates_witnesses);
        let confirmed = plan.confirms.iter().find(|confirm| dated && confirm.node == lease.holder).cloned();
        let raised = self.raise(Some(lease), to, report, Cause::Handover, plan);
        plan.confirms
            .extend(confirmed.map(|confirm| Confirm { for_ms: Some(RELIEVED_WITHIN_MS), ..confirm }));
        plan.tell(false, why);
        self.perform_hand_over(&raised, plan)
    }

    /// The best replica in sync; one on a cordoned machine only if there is no other.
    pub(super) fn in_sync_replica(&self, primary: &str) -> Option<(&str, &Report)> {
        self.in_sync_replicas(primary).min_by_key(|(node, _)| self.cordoned(node))
    }

    /// The replicas in sync that stay, best first.
    fn in_sync_replicas(&self, primary: &str) -> impl Iterator<Item = (&str, &Report)> {
        self.live_copies()
            .into_iter()
            .filter(move |(node, _, engine)| {
                *node != primary
                    && self.stays(node)
                    && engine.role == Some(Role::Replica)
                    && self.observed.in_sync_with(engine, primary)
            })
            .map(|(node, report, _)| (node, report))
    }

    pub(super) fn perform_hand_over(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
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
}
