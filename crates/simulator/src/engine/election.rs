//! Votes and failovers: automatic, manual, forced, and by takeover.

use super::cluster::CRON_MS;
use super::process::Engine;
use super::slots::Slots;
use super::types::{Bus, Header, NodeId};

const MANUAL_MS: u64 = 5_000;
/// Writes are paused for this many times the bound of a manual failover.
const MANUAL_PAUSE: u64 = 2;

/// A replica's attempt to be elected. Not cleared when it is promoted: that is the trap of the fake win.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Election {
    at_ms: Option<u64>,
    votes: usize,
    sent: bool,
    rank: u64,
    epoch: u64,
}

/// A manual failover, at the replica and at its primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manual {
    pub(super) end_ms: u64,
    can_start: bool,
    /// At the primary: who asked.
    pub(super) replica: Option<NodeId>,
    /// At the replica: how far the paused primary is; −1 until it says so.
    pub(super) primary_offset: i64,
}

impl Default for Manual {
    fn default() -> Self {
        Self { end_ms: 0, can_start: false, replica: None, primary_offset: -1 }
    }
}

impl Engine {
    /// Votes, if the rules allow it: once in an epoch, as a primary with slots, for the replica of a failed primary.
    pub(super) fn vote(&mut self, index: usize, request: &Header, force: bool) {
        let (now, timeout, voted_time) = (self.now, self.settings.node_timeout_ms, self.can.voted_time);
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.me().replica || cluster.me().slots.is_empty() {
            return;
        }
        if request.current_epoch < cluster.current_epoch || cluster.last_vote_epoch == cluster.current_epoch {
            return;
        }
        let node = &cluster.nodes[index];
        let primary = node.primary.filter(|_| node.replica).and_then(|id| cluster.index(id));
        let Some(primary) = primary.filter(|primary| cluster.nodes[*primary].fail || force) else { return };
        let recent = cluster.nodes[primary].voted_ms.is_some_and(|at| now.saturating_sub(at) < timeout * 2);
        if voted_time && recent {
            return;
        }
        let newer = cluster.nodes.iter().any(|owner| {
            owner.epoch > request.config_epoch
                && !owner.slots.minus(&cluster.unclaimed).intersection(&request.slots).is_empty()
        });
        if newer {
            return;
        }
        cluster.last_vote_epoch = cluster.current_epoch;
        cluster.nodes[primary].voted_ms = Some(now);
        self.send_bus(index, false, Bus::AuthAck);
    }

    pub(super) fn take_vote(&mut self, index: usize, header: &Header) {
        let Some(cluster) = &mut self.cluster else { return };
        let voter = &cluster.nodes[index];
        if !voter.replica && !voter.slots.is_empty() && header.current_epoch >= cluster.election.epoch {
            cluster.election.votes += 1;
            cluster.todo.failover = true;
        }
    }

    /// How many other replicas of the same primary have more data.
    fn rank(&self) -> u64 {
        let Some(cluster) = &self.cluster else { return 0 };
        let me = cluster.me();
        let better = |node: &&super::cluster::Node| {
            node.replica && node.primary == me.primary && node.offset > self.repl.offset
        };
        cluster.nodes[1..].iter().filter(better).count() as u64
    }

    /// A replica's part: when to ask for votes, and what to do with them.
    pub(super) fn handle_failover(&mut self) {
        let (now, timeout) = (self.now, self.settings.node_timeout_ms);
        let Some(cluster) = &mut self.cluster else { return };
        let forced = cluster.manual.end_ms != 0 && cluster.manual.can_start;
        let may = cluster.me().replica
            && cluster.my_primary().is_some_and(|primary| {
                (primary.fail || forced) && !primary.slots.is_empty() && primary.id != cluster.me().id
            })
            && (!self.settings.no_failover || forced);
        if !may {
            return;
        }
        if !forced && self.data_is_too_old() {
            return;
        }
        let auth_timeout = (timeout * 2).max(2_000);
        let Some(cluster) = &self.cluster else { return };
        let election = cluster.election;
        let manual = cluster.manual.end_ms != 0;
        let age = election.at_ms.map_or(u64::MAX, |at| now.saturating_sub(at));
        if age > auth_timeout * 2 {
            self.begin_election(manual);
            return;
        }
        if !election.sent && !manual {
            let rank = self.rank();
            if let Some(cluster) = self.cluster.as_mut().filter(|_| rank > election.rank) {
                cluster.election.at_ms = election.at_ms.map(|at| at + (rank - election.rank) * 1_000);
                cluster.election.rank = rank;
            }
        }
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.election.at_ms.is_some_and(|at| now < at) || age > auth_timeout {
            return;
        }
        if !cluster.election.sent {
            cluster.current_epoch += 1;
            cluster.election.epoch = cluster.current_epoch;
            cluster.election.sent = true;
            cluster.todo.state = true;
            cluster.hurry(now);
            for index in 1..cluster.nodes.len() {
                if self.cluster.as_ref().is_some_and(|cluster| !cluster.nodes[index].handshake) {
                    self.send_bus(index, false, Bus::AuthRequest { force: manual });
                }
            }
            return;
        }
        if cluster.election.votes >= cluster.quorum() {
            let epoch = cluster.election.epoch;
            let me = cluster.me_mut();
            me.epoch = me.epoch.max(epoch);
            self.replace_primary();
        }
    }

    fn begin_election(&mut self, manual: bool) {
        let now = self.now;
        let rank = self.rank();
        let quick = self.can.quick_election;
        let fixed = if quick { (self.settings.node_timeout_ms / 30).min(500) } else { 500 };
        let delay = fixed + self.chance.below(fixed) + rank * 2 * fixed;
        let Some(cluster) = &mut self.cluster else { return };
        let at = if manual || (quick && rank == 0) { now } else { now + delay };
        let rank = if manual { 0 } else { rank };
        cluster.election = Election { at_ms: Some(at), votes: 0, sent: false, rank, ..cluster.election };
        cluster.hurry(now);
        if at == now {
            cluster.todo.failover = true;
        }
        self.broadcast(true);
        if at == now {
            self.handle_failover();
        }
    }

    fn data_is_too_old(&self) -> bool {
        let (factor, timeout) = (self.settings.validity_factor, self.settings.node_timeout_ms);
        let Some(source) = self.repl.source.as_ref().filter(|_| factor != 0) else { return false };
        let since = if source.is_up() { source.heard_ms } else { source.down_since_ms };
        let age = self.now.saturating_sub(since);
        let age = if age > timeout { age - timeout } else { age };
        age > 10_000 + timeout * factor
    }

    /// Takes the primary's place: its slots, a history of its own.
    pub(super) fn replace_primary(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(old) = cluster.me().primary.filter(|_| cluster.me().replica) else { return };
        let slots = cluster.node(old).map(|node| node.slots.clone()).unwrap_or_default();
        cluster.set_as_primary(0);
        if !slots.is_empty() {
            cluster.assign(&Slots::clone(&slots), 0);
        }
        cluster.todo.state = true;
        cluster.todo.broadcast = true;
        self.unset_source();
        self.end_manual();
    }

    /// `CLUSTER FAILOVER`, with nothing, `FORCE` or `TAKEOVER`; what it refuses was refused before.
    pub(super) fn begin_manual(&mut self, force: bool, takeover: bool) {
        let now = self.now;
        let (clean, at_once) = (self.can.clean_election, self.can.force_at_once);
        self.end_manual();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.manual.end_ms = now + MANUAL_MS;
        cluster.hurry(now);
        if takeover {
            cluster.bump_epoch();
            self.replace_primary();
            return;
        }
        if clean {
            cluster.election = Election::default();
        }
        if force {
            cluster.manual.can_start = true;
            if at_once {
                cluster.todo.manual = true;
            }
        } else if let Some(index) = cluster.me().primary.and_then(|id| cluster.index(id)) {
            self.send_bus(index, false, Bus::ManualStart);
        }
    }

    /// The primary's part: writes pause, and the replica hears how far they went.
    pub(super) fn manual_start(&mut self, index: usize) {
        let now = self.now;
        let Some(cluster) = &self.cluster else { return };
        let node = &cluster.nodes[index];
        let id = node.id;
        if cluster.me().replica || node.primary != Some(cluster.me().id) {
            return;
        }
        self.end_manual();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.manual = Manual { end_ms: now + MANUAL_MS, replica: Some(id), ..Manual::default() };
        cluster.hurry(now);
        self.pause_until(now + MANUAL_MS * MANUAL_PAUSE, true);
        let heartbeat = self.heartbeat(Some(id));
        self.send_bus(index, false, Bus::Ping(heartbeat));
    }

    pub(super) fn end_manual(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let paused_here = cluster.manual.replica.is_some();
        cluster.manual = Manual::default();
        if paused_here {
            self.end_pause(true);
        }
    }

    pub(super) fn manual_timeout(&mut self) {
        let now = self.now;
        if self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.manual.end_ms != 0 && cluster.manual.end_ms < now)
        {
            self.end_manual();
        }
    }

    /// The replica's part: once it is as far as its paused primary, it may ask for votes.
    pub(super) fn handle_manual(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let manual = &mut cluster.manual;
        if manual.end_ms == 0 || manual.can_start || manual.primary_offset < 0 {
            return;
        }
        if manual.primary_offset == self.repl.offset {
            manual.can_start = true;
        } else {
            cluster.todo.manual = true;
            cluster.next_cron_ms = cluster.next_cron_ms.min(self.now + CRON_MS);
        }
    }
}
