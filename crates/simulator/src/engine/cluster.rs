//! What one node knows of its cluster: the table of nodes, the owners of slots, epochs, and whether it may serve.

use super::config::{Abilities, Settings};
use super::disk::NodesConf;
use super::interface::Ip;
use super::slots::Slots;
use super::types::{Addr, Heartbeat, NodeId};
use super::{Chance, election};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A primary does not serve for this long after its start (`CLUSTER_WRITABLE_DELAY`).
const WRITABLE_DELAY_MS: u64 = 2_000;
/// The bounds of the delay after a minority.
const REJOIN_MS: (u64, u64) = (500, 5_000);
/// How long a forgotten id is not taken up again.
pub(super) const FORGET_BAN_MS: u64 = 60_000;
pub(super) const CRON_MS: u64 = 100;

/// An outbound connection to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) connection: u64,
    pub(super) since_ms: u64,
}

/// One known node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) addr: Addr,
    pub(super) replica: bool,
    /// Whom a replica follows, as far as that node is known.
    pub(super) primary: Option<NodeId>,
    pub(super) pfail: bool,
    pub(super) fail: bool,
    pub(super) handshake: bool,
    pub(super) noaddr: bool,
    /// The first packet is to be a MEET.
    pub(super) meet: bool,
    pub(super) epoch: u64,
    pub(super) slots: Arc<Slots>,
    pub(super) link: Option<Link>,
    pub(super) ping_sent: Option<u64>,
    pub(super) pong_ms: u64,
    pub(super) data_ms: u64,
    pub(super) since_ms: u64,
    /// When it was last seen without a connection from it being open, and when it was sent a MEET for that.
    pub(super) inbound_ms: u64,
    pub(super) fail_ms: u64,
    pub(super) voted_ms: Option<u64>,
    pub(super) offset: i64,
    /// Which primaries say that it fails, and when they last did.
    pub(super) reports: Vec<(NodeId, u64)>,
    pub(super) shard: u64,
}

impl Node {
    pub(super) fn new(id: NodeId, addr: Addr, shard: u64, now: u64) -> Self {
        Self {
            id,
            addr,
            replica: false,
            primary: None,
            pfail: false,
            fail: false,
            handshake: false,
            noaddr: false,
            meet: false,
            epoch: 0,
            slots: Arc::default(),
            link: None,
            ping_sent: None,
            pong_ms: 0,
            data_ms: 0,
            since_ms: now,
            inbound_ms: now,
            fail_ms: 0,
            voted_ms: None,
            offset: 0,
            reports: Vec::new(),
            shard,
        }
    }
}

/// A connection that another node opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inbound {
    pub(super) peer: Ip,
    pub(super) connection: u64,
    /// Who that is, once it said so and is known.
    pub(super) from: Option<NodeId>,
}

/// What is to be done before the engine waits for the next event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Todo {
    pub(super) state: bool,
    pub(super) failover: bool,
    pub(super) manual: bool,
    pub(super) broadcast: bool,
}

/// A node's knowledge of its cluster. The first node of the table is itself.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) id_text: String,
    pub(super) current_epoch: u64,
    pub(super) last_vote_epoch: u64,
    pub(super) ok: bool,
    /// Primaries that own slots.
    pub(super) size: usize,
    pub(super) importing: BTreeMap<u16, NodeId>,
    pub(super) migrating: BTreeMap<u16, NodeId>,
    /// Slots whose owner here does not claim them any more.
    pub(super) unclaimed: Slots,
    pub(super) banned: Vec<(NodeId, u64)>,
    /// Connections that others opened.
    pub(super) inbound: Vec<Inbound>,
    minority_ms: Option<u64>,
    first_update_ms: Option<u64>,
    pub(super) next_cron_ms: u64,
    pub(super) random_ping_ms: u64,
    pub(super) election: election::Election,
    pub(super) manual: election::Manual,
    pub(super) todo: Todo,
}

impl Cluster {
    pub(super) fn start(
        settings: &Settings,
        kept: Option<&NodesConf>,
        chance: &mut Chance,
        now: u64,
    ) -> Self {
        let (id, shard) = (NodeId(chance.next()), chance.next());
        let mut cluster = Self {
            nodes: vec![Node::new(id, settings.own, shard, now)],
            id_text: String::new(),
            current_epoch: 0,
            last_vote_epoch: 0,
            ok: false,
            size: 0,
            importing: BTreeMap::new(),
            migrating: BTreeMap::new(),
            unclaimed: Slots::default(),
            banned: Vec::new(),
            inbound: Vec::new(),
            minority_ms: None,
            first_update_ms: None,
            next_cron_ms: now,
            random_ping_ms: now,
            election: election::Election::default(),
            manual: election::Manual::default(),
            todo: Todo::default(),
        };
        if let Some(kept) = kept {
            kept.restore(&mut cluster, settings.own, now);
        }
        cluster.id_text = cluster.me().id.to_string();
        cluster
    }

    pub(super) fn me(&self) -> &Node {
        &self.nodes[0]
    }

    pub(super) fn me_mut(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    pub(super) fn index(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Itself, or whom it follows.
    pub(super) fn my_primary(&self) -> Option<&Node> {
        let me = self.me();
        if me.replica { me.primary.and_then(|id| self.node(id)) } else { Some(me) }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Node> {
        self.nodes.iter().find(|node| node.slots.contains(slot))
    }

    /// Slots that nobody owns.
    pub(super) fn unowned(&self, of: &Slots) -> Slots {
        self.nodes.iter().fold(of.clone(), |rest, node| rest.minus(&node.slots))
    }

    /// Binds slots to a node, whoever owned them.
    pub(super) fn assign(&mut self, slots: &Slots, to: usize) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if index != to && !node.slots.intersection(slots).is_empty() {
                node.slots = Arc::new(node.slots.minus(slots));
            }
        }
        let node = &mut self.nodes[to];
        node.slots = Arc::new(node.slots.union(slots));
        self.unclaimed = self.unclaimed.minus(slots);
        self.todo.state = true;
    }

    pub(super) fn release(&mut self, slots: &Slots) {
        for node in &mut self.nodes {
            if !node.slots.intersection(slots).is_empty() {
                node.slots = Arc::new(node.slots.minus(slots));
            }
        }
        self.unclaimed = self.unclaimed.minus(slots);
        self.todo.state = true;
    }

    pub(super) fn remove(&mut self, index: usize) {
        let gone = self.nodes.remove(index);
        for node in &mut self.nodes {
            if node.primary == Some(gone.id) {
                node.primary = None;
            }
            node.reports.retain(|(by, _)| *by != gone.id);
        }
        self.importing.retain(|_, from| *from != gone.id);
        self.migrating.retain(|_, to| *to != gone.id);
        self.todo.state = true;
    }

    pub(super) fn banned(&self, id: NodeId, now: u64) -> bool {
        self.banned.iter().any(|(banned, until)| *banned == id && *until > now)
    }

    pub(super) fn ban(&mut self, id: NodeId, until: u64) {
        self.banned.retain(|(banned, _)| *banned != id);
        self.banned.push((id, until));
    }

    pub(super) fn set_as_primary(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.replica {
            node.replica = false;
            node.primary = None;
            self.todo.state = true;
        }
    }

    /// The highest epoch that is known.
    pub(super) fn max_epoch(&self) -> u64 {
        self.nodes.iter().map(|node| node.epoch).max().unwrap_or(0).max(self.current_epoch)
    }

    /// A new epoch of one's own, without asking anybody. `None` if it has the newest already.
    pub(super) fn bump_epoch(&mut self) -> Option<u64> {
        let max = self.max_epoch();
        if self.me().epoch != 0 && self.me().epoch == max {
            return None;
        }
        self.current_epoch += 1;
        let epoch = self.current_epoch;
        self.me_mut().epoch = epoch;
        Some(epoch)
    }

    /// Two primaries claim by the same epoch: the one with the smaller id takes a new one.
    pub(super) fn resolve_collision(&mut self, with: NodeId) {
        if with > self.me().id {
            self.current_epoch += 1;
            self.me_mut().epoch = self.current_epoch;
        }
    }

    pub(super) fn quorum(&self) -> usize {
        self.size / 2 + 1
    }

    /// Decides whether the node may serve.
    pub(super) fn update_state(&mut self, settings: &Settings, now: u64) {
        self.todo.state = false;
        let voting = |node: &&Node| !node.replica && !node.slots.is_empty();
        self.size = self.nodes.iter().filter(voting).count();
        let first = *self.first_update_ms.get_or_insert(now);
        if !self.me().replica && !self.ok && now.saturating_sub(first) < WRITABLE_DELAY_MS {
            return;
        }
        let mut ok = true;
        if settings.full_coverage {
            let covered: u32 = self.nodes.iter().filter(|node| !node.fail).map(|node| node.slots.len()).sum();
            ok = covered == u32::from(super::slots::SLOT_COUNT);
        }
        let reachable = self.nodes.iter().filter(voting).filter(|node| !node.fail && !node.pfail).count();
        if reachable < self.quorum() {
            ok = false;
            self.minority_ms = Some(now);
        }
        if ok == self.ok {
            return;
        }
        let delay = settings.node_timeout_ms.clamp(REJOIN_MS.0, REJOIN_MS.1);
        let rejoined = self.minority_ms.is_none_or(|since| now.saturating_sub(since) >= delay);
        if ok && !self.me().replica && !rejoined {
            return;
        }
        self.ok = ok;
    }

    /// Marks a node as failed once a majority of primaries says so. Says whether it was marked now.
    pub(super) fn mark_failing(&mut self, index: usize, settings: &Settings, now: u64) -> bool {
        let quorum = self.quorum();
        let i_vote = usize::from(!self.me().replica);
        let node = &mut self.nodes[index];
        if !node.pfail || node.fail {
            return false;
        }
        node.reports.retain(|(_, at)| now.saturating_sub(*at) <= settings.node_timeout_ms * 2);
        if node.reports.len() + i_vote < quorum {
            return false;
        }
        node.pfail = false;
        node.fail = true;
        node.fail_ms = now;
        self.todo.state = true;
        true
    }

    /// A failed node is heard again.
    pub(super) fn clear_failure(&mut self, index: usize, settings: &Settings, now: u64) {
        let node = &mut self.nodes[index];
        let undo = now.saturating_sub(node.fail_ms) > settings.node_timeout_ms * 2;
        if node.replica || node.slots.is_empty() || undo {
            node.fail = false;
            self.todo.state = true;
        }
    }

    /// What a heartbeat carries: a few nodes, and every one that seems to fail.
    pub(super) fn heartbeat(
        &self,
        to: Option<NodeId>,
        can: Abilities,
        chance: &mut Chance,
        now: u64,
    ) -> Heartbeat {
        let count = self.nodes.len();
        let wanted = (count / 10).max(3);
        let from = usize::try_from(chance.below(count as u64)).unwrap_or(0);
        let mut gossip = Vec::with_capacity(wanted + 1);
        for step in 0..count {
            let node = &self.nodes[(from + step) % count];
            let myself = node.id == self.me().id;
            if myself || node.handshake || node.noaddr || Some(node.id) == to {
                continue;
            }
            let fresh =
                !node.pfail && gossip.len() < wanted && (node.link.is_some() || !node.slots.is_empty());
            if node.pfail || fresh {
                gossip.push(super::types::Gossip {
                    id: node.id,
                    addr: node.addr,
                    replica: node.replica,
                    pfail: node.pfail,
                    fail: node.fail,
                    noaddr: node.noaddr,
                    pong_ms: node.pong_ms,
                });
            }
        }
        let forgotten = if can.shards {
            self.banned.iter().filter(|(_, until)| *until > now).copied().collect()
        } else {
            Vec::new()
        };
        Heartbeat { gossip, forgotten }
    }
}
