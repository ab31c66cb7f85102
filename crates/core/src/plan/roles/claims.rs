//! Which slots the holder claims (cluster mode enabled), and that everybody comes to know of it.
//!
//! A claim is as good as its epoch. What died with the newest claim, or was never heard by some, owns its slots in their tables
//! for ever: nobody else says otherwise. So slots are taken from whoever is proven gone, and never from anybody else.

use super::View;
use crate::observed::{ShardLease, is_primary};
use crate::plan::Plan;
use crate::plan::identities::Identities;
use crate::plan::step::Order;
use crate::slots::SlotSet;
use kagami_api::reason::Reason;
use kagami_protocol::{ClusterNode, ClusterView, Command, Role};

impl View<'_> {
    /// Slots of the shard that nobody else may serve are claimed by its primary.
    pub(super) fn claim(&self, lease: &ShardLease, cluster: &ClusterView, plan: &mut Plan) {
        let report = self.observed.report(&lease.holder);
        // The agent claims them itself as it starts a primary, by an epoch of its own; it is asked again only once that is over. Who was
        // promoted has one, and found nothing to inherit; so has one whose claim an older life's outbid.
        if !lease.served
            && cluster.my_epoch == 0
            && report.is_some_and(|report| report.trouble.is_empty())
            && cluster.own_slots().next().is_none()
        {
            plan.wait(Reason::FormingCluster, &*self.shard.id, "the primary is taking its slots");
            return;
        }
        let missing = self.shard.slots.difference(&SlotSet::from_ranges(cluster.own_slots()));
        if !missing.is_empty() {
            self.take(lease, cluster, &missing, plan);
        } else if !self.outbid(lease, cluster, plan) && !cluster.ok {
            plan.wait(
                Reason::FormingCluster,
                &*self.shard.id,
                "its primary says cluster_state:fail; an engine says so for 2 s after its start",
            );
            plan.again(250);
        }
    }

    /// P2: only what no other node may still serve is taken; one that cannot be asked may.
    fn take(&self, lease: &ShardLease, cluster: &ClusterView, missing: &SlotSet, plan: &mut Plan) {
        let identities = Identities::of(self.group, self.observed);
        let of_others =
            identities.views.iter().flat_map(|(_, view)| &view.nodes).filter(|line| line.id != cluster.my_id);
        let held = SlotSet::from_ranges(of_others.flat_map(|line| identities.owned_by(line)));
        let free = missing.difference(&held);
        if free.is_empty() {
            plan.wait(
                Reason::FormingCluster,
                &*self.shard.id,
                format!("its slots belong to somebody else in the tables of the cluster, who may still serve them; {} waits", lease.holder),
            );
            plan.again(250);
            return;
        }
        let from = cluster.nodes.iter().filter(|line| !line.myself && overlap(line, &free));
        let from = from.map(|line| line.id.clone()).collect();
        // P1: what began anew and has claimed nothing yet leaves the room that its own start leaves, whichever is first.
        let room = if cluster.my_epoch == 0 { self.room(lease) } else { 0 };
        self.order_claim(lease, &free, from, room, plan);
    }

    fn order_claim(
        &self,
        lease: &ShardLease,
        slots: &SlotSet,
        from: Vec<String>,
        room: u64,
        plan: &mut Plan,
    ) {
        plan.order(Order {
            node: &lease.holder,
            boot: &lease.boot,
            term: lease.term,
            role: Some(Role::Primary),
            command: Command::AssignSlots {
                slots: slots.ranges(),
                epoch: Some(self.fresh_epoch() + room),
                from,
            },
            reason: Reason::FormingCluster,
        });
    }

    /// Somebody believes one that is gone by a claim that is no older than the holder's: the holder claims by a newer epoch. An
    /// engine whose epoch is the newest of all bumps nothing, so another one has to bump its own first.
    fn outbid(&self, lease: &ShardLease, cluster: &ClusterView, plan: &mut Plan) -> bool {
        let doubts = |line: &&ClusterNode| {
            line.id != cluster.my_id && line.epoch >= cluster.my_epoch && overlap(line, &self.shard.slots)
        };
        let believes =
            |view: &ClusterView| view.my_id != cluster.my_id && view.nodes.iter().any(|line| doubts(&line));
        let engines = || {
            self.group
                .shards
                .iter()
                .flat_map(|shard| shard.nodes.iter().map(move |node| (shard, node)))
                .filter_map(|(shard, node)| Some((shard, node, self.observed.engine(&node.name)?)))
        };
        if !engines().any(|(.., engine)| engine.cluster.as_deref().is_some_and(believes)) {
            return false;
        }
        let identities = Identities::of(self.group, self.observed);
        let stale = |view: &ClusterView| {
            let mut lines = view.nodes.iter().filter(doubts);
            lines.any(|line| !self.shard.slots.meets(&identities.owned_by(line)))
        };
        let believer = identities.views.iter().find(|(_, view)| believes(view) && stale(view));
        let Some((believer, _)) = believer else { return false };
        if cluster.my_epoch < cluster.current_epoch {
            self.order_claim(lease, &SlotSet::empty(), Vec::new(), 0, plan);
            return true;
        }
        let rank = |node: &str, engine: &kagami_protocol::EngineView| {
            let older = engine.cluster.as_ref().is_some_and(|view| view.my_epoch < cluster.my_epoch);
            (!(is_primary(engine) && older), node != *believer)
        };
        let another = engines()
            .filter(|(_, node, engine)| node.name != lease.holder && engine.cluster.is_some())
            .min_by_key(|(_, node, engine)| rank(&node.name, engine));
        if let Some((shard, node, _)) = another
            && let Some(report) = self.observed.report(&node.name)
        {
            plan.order(Order {
                node: &node.name,
                boot: &report.boot,
                term: self.observed.leases.get(&shard.id).map_or(report.term, |lease| lease.term),
                role: None,
                command: Command::AssignSlots {
                    slots: Vec::new(),
                    epoch: Some(cluster.my_epoch + 1),
                    from: Vec::new(),
                },
                reason: Reason::FormingCluster,
            });
        }
        true
    }

    /// An epoch above all that were seen, and different for each shard.
    pub(super) fn fresh_epoch(&self) -> u64 {
        let highest = self
            .observed
            .nodes
            .keys()
            .filter_map(|node| self.observed.engine(node)?.cluster.as_ref())
            .map(|cluster| cluster.current_epoch)
            .max();
        highest.unwrap_or(0) + 1 + self.index as u64
    }
}

fn overlap(line: &ClusterNode, slots: &SlotSet) -> bool {
    slots.meets(&line.slots)
}
