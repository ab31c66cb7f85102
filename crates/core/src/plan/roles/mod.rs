//! Who is a shard's primary: birth, death, silence, handover, and what to do when no copy is left.
//!
//! The lease says who is meant to be the primary (intent is written before acting); agents say who is. The rules:
//! a better live copy is never passed over (P1), a second primary is made only when the first has ended, obeys, or has
//! fenced itself (P2), and a node that could not be asked is neither promoted over nor started over (P3).

mod claims;
mod copies;
mod hung;
mod office;
mod promotion;
mod rebirth;
mod silence;
mod succession;

pub(super) use rebirth::{Standing, standing};

use super::members::follower_of;
use super::step::Order;
use super::{Act, Plan, Primary, RaiseTerm, Step};
use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::engine;
use crate::observed::{Cause, Life, Observed, Rebirth, ShardLease, is_primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::{Command, EngineView, Report, Role, Start, StartData, StartRole};

/// How long a copy that cannot be reached is waited for before a shard without a live copy is started without it.
///
/// Long enough for a machine to come back from a restart of its kubelet or its network, short enough for the pager.
const UNREACHABLE_COPY_WAIT_MS: u64 = 60_000;

/// How many epochs those who cannot be asked may be ahead of those who can: each election, takeover or collision is one.
const UNHEARD_EPOCHS: u64 = 100;

/// Plans the shard's primary, and says who it is if that is settled.
pub(super) fn rule(
    group: &Desired,
    index: usize,
    shard: &DesiredShard,
    observed: &Observed,
    plan: &mut Plan,
) -> Option<Primary> {
    let view = View { group, index, shard, observed };
    let primary = view.office(plan);
    view.end_hung(primary.as_ref(), plan);
    primary
}

/// One shard as the rules see it.
struct View<'a> {
    group: &'a Desired,
    index: usize,
    shard: &'a DesiredShard,
    observed: &'a Observed,
}

impl View<'_> {
    /// Who has the role, or is to have it.
    fn office(&self, plan: &mut Plan) -> Option<Primary> {
        let Some(lease) = self.observed.leases.get(&self.shard.id) else { return self.birth(plan) };
        if let Some(primary) = self.serving(lease) {
            return self.keep(lease, primary, plan);
        }
        self.not_serving(lease, plan)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.shard.nodes.iter().map(|node| node.name.as_str())
    }

    /// The highest term that anybody of the shard has seen, plus one.
    pub(super) fn next_term(&self) -> u64 {
        let seen = self.nodes().filter_map(|node| self.observed.report(node)).map(|report| report.term);
        let leased = self.observed.leases.get(&self.shard.id).map_or(0, |lease| lease.term);
        seen.max().unwrap_or(0).max(leased) + 1
    }

    /// Whether a node may be given the role: it is not on its way out.
    pub(super) fn stays(&self, node: &str) -> bool {
        let pod = self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
        self.observed.report(node).is_some_and(|report| !report.terminating)
            && pod.is_some_and(|pod| !pod.deleting)
    }

    /// The holder, if it is the primary by everybody's word.
    pub(super) fn serving(&self, lease: &ShardLease) -> Option<Primary> {
        let report = self.observed.report(&lease.holder)?;
        let engine = self.observed.engine(&lease.holder)?;
        // Once it has served, a primary without slots is one that has just been restored: nobody may meet it before it has
        // claimed them, or older claims would take its keys.
        let whole = !lease.served || is_primary(engine);
        // Before, the engines may have elected another over it: then it will never get them.
        let outvoted = !lease.served && !is_primary(engine) && {
            let of_others = |(node, _, engine): &(&str, &Report, &EngineView)| {
                *node != lease.holder && is_primary(engine)
            };
            self.group.cluster_mode == ClusterMode::Enabled && self.live_copies().iter().any(of_others)
        };
        // The one before it may still serve from the lesser copy: it has to make way first.
        let way = lease.undoing().is_none()
            || lease
                .previous
                .as_ref()
                .is_none_or(|(node, boot)| self.observed.life(node, boot) != Life::Alive);
        let running =
            report.boot == lease.boot && engine.role == Some(Role::Primary) && whole && !outvoted && way;
        // An engine that was promoted by the lease shows the role; one that lost it to an election shows a replica.
        running.then(|| self.primary(lease, true))
    }

    pub(super) fn primary(&self, lease: &ShardLease, serving: bool) -> Primary {
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
            rebirths: lease.rebirths.clone(),
        }
    }

    pub(super) fn bus_port(&self) -> u16 {
        if self.group.cluster_mode == ClusterMode::Enabled { self.group.bus_port } else { 0 }
    }

    /// No lease: the shard was never formed, or somebody deleted the lease.
    pub(super) fn birth(&self, plan: &mut Plan) -> Option<Primary> {
        let living: Vec<_> = self.live_copies();
        // P2: whoever has no report may still be the primary, whatever became of its pod.
        let everybody = self.nodes().all(|node| self.observed.report(node).is_some());
        if let Some((node, report, _)) =
            living.iter().find(|(_, _, engine)| is_primary(engine)).or(living.first().filter(|_| everybody))
        {
            // Data is served without a lease: the one that serves keeps the role, whatever else is there.
            let lease = self.raise(None, node, report, Cause::Adopted, plan);
            return Some(self.primary(&lease, self.observed.engine(node).is_some_and(is_primary)));
        }
        if let Some(absent) = self.nodes().find(|node| {
            let asked = self.observed.parked(node).is_some() || self.observed.engine(node).is_some();
            !asked && !self.cannot_hold_a_copy(node)
        }) {
            let absent = absent.to_owned();
            plan.wait(
                Reason::WaitingForAgent,
                &*absent,
                "its volume or memory may hold a copy: the node group is not formed without asking it",
            );
            return None;
        }
        // P1: a live copy is adopted above once everybody has a word; until then it is not passed over.
        if let Some((node, ..)) = living.first() {
            let node = (*node).to_owned();
            plan.wait(Reason::WaitingForAgent, &*node, "it holds a live copy; the others are asked first");
            return None;
        }
        // Everybody was asked, and whoever runs holds nothing whole (yet).
        if self.receives_a_copy(None, plan) || self.park_half_copies(self.next_term() - 1, plan) {
            return None;
        }
        let best = self.best_volume(None);
        let first = self.nodes().find(|node| self.observed.parked(node).is_some() && self.stays(node));
        let (node, cause) = match (best, first) {
            (Some(node), _) => (node, Cause::Restore),
            // Somebody deleted the lease of a shard that has served.
            (None, Some(node)) if self.observed.formed => (node, Cause::Empty),
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
        match cause {
            Cause::Restore => plan.tell(true, self.restored(node)),
            Cause::Empty => plan.tell(true, self.lost(&lease, node)),
            _ => {}
        }
        self.start(&lease, report, plan);
        Some(self.primary(&lease, false))
    }

    /// A node that will surely be there soon: it has a pod that is placed.
    pub(super) fn awaited(&self, node: &str) -> bool {
        self.observed.nodes.get(node).and_then(|seen| seen.pod.as_ref()).is_none_or(|pod| {
            pod.unschedulable.is_none() && pod.image_trouble.is_none() && pod.start_trouble.is_none()
        }) && self.observed.watching_ms < UNREACHABLE_COPY_WAIT_MS
    }

    /// The intent, written before anything is done; later rules of this plan already see it.
    pub(super) fn raise(
        &self,
        lease: Option<&ShardLease>,
        node: &str,
        report: &Report,
        cause: Cause,
        plan: &mut Plan,
    ) -> ShardLease {
        let term = self.next_term();
        let formed = lease.is_some() || cause != Cause::Birth;
        let mut rebirths = if formed { self.rebirths(lease, node) } else { Vec::new() };
        let again = lease.and_then(ShardLease::undoing).copied().filter(|_| {
            lease.is_some_and(|lease| lease.holder == node) && matches!(cause, Cause::Restore | Cause::Death)
        });
        if let Some(again) = again {
            // The copy that came back is to have the shard still, in another boot.
            for rebirth in rebirths.iter_mut().filter(|rebirth| rebirth.term == again.term) {
                rebirth.returned = again.returned.map(|(_, reach)| (term, reach));
            }
        } else if matches!(cause, Cause::Restore | Cause::Empty) {
            let record = report.record.as_ref().filter(|_| cause == Cause::Restore);
            let base = record.map(|record| rebirth::reach_of(record, lease));
            rebirths.push(Rebirth { term, base, returned: None });
        }
        self.raise_with(lease, node, report, cause, rebirths, plan)
    }

    pub(super) fn raise_with(
        &self,
        lease: Option<&ShardLease>,
        node: &str,
        report: &Report,
        cause: Cause,
        rebirths: Vec<Rebirth>,
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
        let served = lease.is_some_and(|lease| lease.served)
            || matches!(cause, Cause::Adopted | Cause::Restore | Cause::Empty);
        let home = self.home(lease, node);
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
            rebirths: rebirths.clone(),
            home: home.clone(),
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
            known_ms: 0,
            previous,
            cause,
            slots,
            served,
            owned: None,
            rebirths,
            home,
        }
    }

    /// How much newer than all that are known the first claim of a primary is that begins anew.
    ///
    /// P1: who cannot be asked may know a newer claim of the shard's last life than all who can; with the slots it takes the keys.
    pub(super) fn room(&self, lease: &ShardLease) -> u64 {
        if lease.cause == Cause::Birth { 0 } else { UNHEARD_EPOCHS }
    }

    /// Lets the holder in as the primary.
    pub(super) fn start(&self, lease: &ShardLease, report: &Report, plan: &mut Plan) {
        if report.terminating {
            return;
        }
        let Some(announce) = self.observed.address(&lease.holder, self.group.port, self.bus_port()) else {
            return;
        };
        // P1: a replica of another shard would copy a stranger's data over its own; a link never asks who answers.
        let follower = follower_of(self.group, &announce, self.observed)
            .filter(|follower| !self.nodes().any(|node| node == *follower));
        if let Some(follower) = follower {
            plan.wait(
                Reason::RecoveringNode,
                &lease.holder,
                format!("{follower} of another node group still replicates from its address; it is started once that ends"),
            );
            plan.again(50);
            return;
        }
        let slots =
            if self.group.cluster_mode == ClusterMode::Enabled { lease.slots.ranges() } else { Vec::new() };
        let data = if lease.cause == Cause::Restore { StartData::Keep } else { StartData::PutAside };
        let role = StartRole::Primary { slots, epoch: self.fresh_epoch() + self.room(lease) };
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
            .filter(|peer| peer.name != node && may_be_met(group, observed, &peer.name))
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
        keep_previous: false,
        config: Some(engine::config(group).1),
    }
}

/// Whether others may meet a node (cluster mode enabled): it owns slots or follows somebody. One that was started as a
/// primary and has not claimed its slots yet must be alone, so that it claims them with an epoch of its own.
pub(super) fn may_be_met(group: &Desired, observed: &Observed, node: &str) -> bool {
    let claims = observed.leases.values().any(|lease| lease.holder == node);
    observed.engine(node).is_some_and(|engine| {
        // An engine claims the slots of keys that it loads by itself, with the oldest claim there is: its agent's is still to come.
        let claimed = engine.cluster.as_ref().is_none_or(|cluster| cluster.my_epoch > 0);
        engine.role == Some(Role::Replica)
            || is_primary(engine) && claimed && !is_apart(group, observed, node)
            || !is_primary(engine) && !claims
    })
}

/// P1: a primary whom others would take the slots from, and then the keys, by their higher epoch: a better copy that came
/// back, and both of two until it is settled which goes on.
fn is_apart(group: &Desired, observed: &Observed, node: &str) -> bool {
    let Some(shard) = group.shards.iter().find(|shard| shard.nodes.iter().any(|each| each.name == node))
    else {
        return false;
    };
    let Some(lease) = observed.leases.get(&shard.id) else { return false };
    let standing = standing(observed, node, &lease.holder, &lease.rebirths);
    let serves = |name: &str| observed.engine(name).is_some_and(is_primary);
    let settled = lease.undoing().is_none() && serves(&lease.holder);
    matches!(standing, Standing::Held | Standing::Parks)
        || !settled && shard.nodes.iter().any(|other| other.name != node && serves(&other.name))
}
