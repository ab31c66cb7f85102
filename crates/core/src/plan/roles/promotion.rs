//! How a replica is promoted: by proof, not by shape; and never beside a primary that may accept writes (P2).

use super::{View, may_be_met};
use crate::desired::ClusterMode;
use crate::engine::NODE_TIMEOUT_MS;
use crate::observed::{Agent, ShardLease, is_primary};
use crate::plan::Plan;
use crate::plan::step::Order;
use kagami_api::reason::Reason;
use kagami_protocol::{
    Boot, Command, ELECTION_BOUND_MS, EngineState, FENCE_BOUND_MS, FENCE_SILENCE_MS, Report, Role,
};

/// How much longer than its bound an election is waited for: the order's way, and the plan's own pace.
const ELECTION_SLACK_MS: u64 = 500;
/// An engine tells in whole seconds for how long its link is down.
const LINK_SECOND_MS: u64 = 1_000;

impl View<'_> {
    /// Orders the holder of the term to become the primary, unless another one may still accept writes.
    pub(super) fn promote(&self, lease: &ShardLease, boot: &Boot, plan: &mut Plan) {
        if self.rivalled(lease, plan) {
            return;
        }
        let elects = self.elects(lease);
        if !elects && let Some(newer) = self.newer_claim(&lease.holder) {
            plan.wait(
                Reason::PrimaryDown,
                &lease.holder,
                format!(
                    "its engine has not heard of the newest claim to its slots yet (epoch {newer}): by an older one it would lose \
                     them again, and its keys; that comes with the first packet from any node of the cluster"
                ),
            );
            plan.again(50);
            return;
        }
        plan.order(Order {
            node: &lease.holder,
            boot,
            term: lease.term,
            role: Some(Role::Replica),
            command: Command::Promote { min_offset: None, wait_ms: 0, force: elects },
            reason: Reason::FailoverComplete,
        });
        let from = lease.previous.as_ref().map_or("an unknown node", |(node, _)| node.as_str());
        plan.tell(
            true,
            format!("Failover from primary node {from} to replica node {} completed", lease.holder),
        );
    }

    /// The claims to the shard's slots that the engines of others know, by epoch and id; a node's own counts as long as they know it.
    fn claims(&self, node: &str) -> impl Iterator<Item = (u64, &str)> {
        let others =
            self.group.shards.iter().flat_map(|shard| &shard.nodes).filter(move |each| each.name != node);
        let met = others.filter(|each| may_be_met(self.group, self.observed, &each.name));
        let views = met.filter_map(|each| self.observed.engine(&each.name)?.cluster.as_ref());
        let claims = views.flat_map(|view| &view.nodes).filter(|line| self.shard.slots.meets(&line.slots));
        claims.map(|line| (line.epoch, line.id.as_str()))
    }

    /// The newest epoch of those claims.
    fn newest_claim(&self, node: &str) -> Option<u64> {
        self.claims(node).map(|(epoch, _)| epoch).max()
    }

    /// P1: that epoch, if it is newer than any that a node's engine has heard of. A takeover bumps what its engine knows: it would be
    /// outbid as soon as it hears of that claim, and delete its keys.
    fn newer_claim(&self, node: &str) -> Option<u64> {
        let known = self.observed.engine(node)?.cluster.as_ref()?.current_epoch;
        self.newest_claim(node).filter(|newest| *newest > known)
    }

    /// Whether the others' engines know a node's claim to the shard's slots, and none that is as new. P1: of two of one epoch the
    /// engines move no slot, so neither shows who was elected.
    pub(super) fn is_newest_claimant(&self, node: &str) -> bool {
        let Some(newest) = self.newest_claim(node) else { return false };
        let view = self.observed.engine(node).and_then(|engine| engine.cluster.as_ref());
        view.is_some_and(|view| {
            view.my_epoch == newest && self.claims(node).all(|(epoch, id)| epoch < newest || id == view.my_id)
        })
    }

    /// Whether the living primaries are asked for their votes, which is the better fence where death is not proven, and the
    /// only safe way beside an election that the engines may have begun by themselves. It is given its time once; then, or
    /// where no majority of primaries lives that could vote, the replica takes over.
    fn elects(&self, lease: &ShardLease) -> bool {
        let able = self.group.cluster_mode == ClusterMode::Enabled
            && self.group.shards.len() >= 3
            && self.majority_lives()
            && self.observed.report(&lease.holder).is_some_and(|report| report.vocabulary >= 1);
        let proven = lease.previous.as_ref().is_none_or(|(node, boot)| self.observed.ended(node, boot));
        let exact = |(node, boot): &(String, Boot)| self.observed.asks_its_witnesses(node, boot).is_some();
        let begins_ms = match &lease.previous {
            _ if proven => 0,
            Some(previous) if exact(previous) => FENCE_SILENCE_MS,
            _ => FENCE_BOUND_MS,
        };
        let in_time = lease.known_ms < begins_ms + ELECTION_BOUND_MS + ELECTION_SLACK_MS;
        able && in_time && (!proven || self.may_be_electing(lease))
    }

    /// Whether more than half of the shards have a primary that lives; this shard's own is not among them.
    pub(super) fn majority_lives(&self) -> bool {
        let living = self.group.shards.iter().filter(|shard| {
            shard.id != self.shard.id
                && self
                    .observed
                    .leases
                    .get(&shard.id)
                    .and_then(|lease| self.observed.engine(&lease.holder))
                    .is_some_and(is_primary)
        });
        living.count() * 2 > self.group.shards.len()
    }

    /// Engines begin an election when a majority has missed a primary for the node timeout. None has begun while a replica
    /// heard it within that time (a link that is only called up says nothing), nor where nobody else could be elected.
    fn may_be_electing(&self, lease: &ShardLease) -> bool {
        let recent = self.nodes().any(|node| {
            self.observed.link(node).is_some_and(|link| {
                link.quiet != Some(true)
                    && (link.up || link.down_ms.saturating_add(LINK_SECOND_MS) < NODE_TIMEOUT_MS)
            })
        });
        let before = lease.previous.as_ref().map(|(node, _)| node.as_str());
        let others = self
            .nodes()
            .filter(|node| *node != lease.holder && Some(*node) != before)
            .any(|node| self.observed.parked(node).is_none() && !self.never_ran(node));
        others && !recent
    }

    /// Whether a primary that fell silent surely accepts no more writes.
    fn silenced(&self, node: &str, last: &Report, silent_ms: u64) -> bool {
        let ended = self.observed.ended(node, &last.boot);
        ended || last.fenced || last.guard && silent_ms >= FENCE_BOUND_MS
    }

    /// Another node that the holder follows, which the lease does not relieve: only the engines can have elected it. What it says
    /// of itself may be older than that, and an elected primary fences itself only once it is confirmed.
    fn follows_another(&self, lease: &ShardLease) -> Option<&str> {
        let holder = self.observed.engine(&lease.holder)?;
        let followed = &holder.link.as_ref()?.host;
        let clustered = self.group.cluster_mode == ClusterMode::Enabled;
        let identity = holder.cluster.as_ref().and_then(|cluster| cluster.followed());
        let node = self.nodes().filter(|_| clustered).find(|node| {
            let pod = self.observed.nodes.get(*node).and_then(|seen| seen.pod.as_ref());
            pod.and_then(|pod| pod.ip.as_ref()) == Some(followed)
        })?;
        let agent = &self.observed.nodes.get(node)?.agent;
        // In that life only: what runs there since was let in, and may have been elected.
        let relieved = lease.previous.as_ref().is_some_and(|(previous, boot)| {
            let same = match agent {
                Agent::Up(report) => report.boot == *boot,
                Agent::Silent { last, .. } => last.boot == *boot,
                Agent::Unheard => true,
            };
            previous == node && same
        });
        let over = match agent {
            Agent::Up(report) => {
                // What runs at that address is another identity: the life that the holder followed is over, for one agent starts one
                // engine at a time.
                let engine = report.engine.as_ref().and_then(|engine| engine.cluster.as_ref());
                let another =
                    identity.zip(engine).is_some_and(|(followed, cluster)| cluster.my_id != followed);
                report.state == EngineState::Parked || report.fenced || another
            }
            Agent::Silent { silent_ms, last } => {
                let led = last.engine.as_ref().is_some_and(is_primary);
                // Parked, it told that all its lives were over that had been heard of by then, and so had been this one.
                let known = self.observed.last_engine_ids.get(node).map(String::as_str);
                let passed = last.state == EngineState::Parked && identity.is_some() && known == identity;
                passed
                    || self.observed.ended(node, &last.boot)
                    || led && self.silenced(node, last, *silent_ms)
            }
            Agent::Unheard => {
                let pod = self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
                pod.is_some_and(|pod| pod.terminated)
            }
        };
        (node != lease.holder && !relieved && !over).then_some(node)
    }

    /// P2: a third primary, which neither the lease nor its predecessor names, holds a promotion back until it is fenced.
    fn rivalled(&self, lease: &ShardLease, plan: &mut Plan) -> bool {
        let of_lease = |node: &str, boot: &Boot| {
            lease.previous.as_ref().is_some_and(|(previous, of)| previous == node && of == boot)
        };
        if let Some(elected) = self.follows_another(lease) {
            plan.wait(
                Reason::FencingPrimary,
                elected,
                format!(
                    "{} follows it, so the engines have elected it; it is to say so itself",
                    lease.holder
                ),
            );
            plan.again(100);
            return true;
        }
        for node in self.nodes().filter(|node| *node != lease.holder) {
            match self.observed.nodes.get(node).map(|seen| &seen.agent) {
                Some(Agent::Up(report))
                    if !report.fenced && self.observed.engine(node).is_some_and(is_primary) =>
                {
                    plan.wait(
                        Reason::FencingPrimary,
                        node,
                        format!("it is a primary that the term does not name; {} is promoted once it has paused its writes", lease.holder),
                    );
                    plan.again(100);
                    if let (ClusterMode::Disabled, Some(primary)) =
                        (self.group.cluster_mode, self.observed.address(&lease.holder, self.group.port, 0))
                    {
                        // It obeys: told to follow, it accepts no write from then on.
                        plan.order(Order {
                            node,
                            boot: &report.boot,
                            term: lease.term,
                            role: Some(Role::Primary),
                            command: Command::Replicate { primary, primary_id: None },
                            reason: Reason::FencingPrimary,
                        });
                    }
                    return true;
                }
                Some(Agent::Silent { silent_ms, last })
                    if last.engine.as_ref().is_some_and(is_primary)
                        && !of_lease(node, &last.boot)
                        && !self.silenced(node, last, *silent_ms) =>
                {
                    plan.wait(
                        Reason::FencingPrimary,
                        node,
                        "it was a primary when it was last heard, and may still accept writes",
                    );
                    plan.again(100);
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}
