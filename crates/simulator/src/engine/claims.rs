//! Who owns which slots, and whom a node follows: claims by epoch, roles that others say they have.

use super::cluster::Cluster;
use super::process::Engine;
use super::slots::Slots;
use super::types::{Bus, Header, NodeId};
use std::sync::Arc;

impl Engine {
    /// The sender may have become a primary, or a replica, or the replica of another.
    pub(super) fn follow_role(&mut self, index: usize, header: &Header) {
        let shards = self.can.shards;
        let Some(cluster) = &mut self.cluster else { return };
        if !header.replica {
            cluster.set_as_primary(index);
            cluster.nodes[index].shard = header.shard;
            // A replica that followed before it knew its primary's shard is of that one too (`updateShardId`).
            let id = cluster.nodes[index].id;
            let me = cluster.me_mut();
            if me.replica && me.primary == Some(id) {
                me.shard = header.shard;
            }
            return;
        }
        let primary = header.primary.and_then(|id| cluster.index(id));
        let sender = &cluster.nodes[index];
        let slots = sender.slots.clone();
        if !sender.replica {
            let same_shard =
                shards && primary.is_some_and(|primary| cluster.nodes[primary].shard == sender.shard);
            if let (Some(primary), true) = (primary, same_shard) {
                if sender.epoch <= header.config_epoch {
                    cluster.assign(&slots, primary);
                    cluster.set_as_primary(primary);
                    cluster.nodes[primary].epoch = header.config_epoch;
                }
            } else {
                cluster.release(&slots);
            }
            cluster.nodes[index].replica = true;
            cluster.todo.state = true;
        }
        let primary_id = primary.map(|primary| (cluster.nodes[primary].id, cluster.nodes[primary].shard));
        if let Some((id, shard)) = primary_id {
            let sender = &mut cluster.nodes[index];
            sender.primary = Some(id);
            sender.shard = shard;
        }
    }

    /// The sender's claims against what is known here.
    pub(super) fn compare_slots(&mut self, index: usize, header: &Header) {
        let Some(cluster) = &self.cluster else { return };
        let sender = &cluster.nodes[index];
        let owner =
            if sender.replica { sender.primary.and_then(|id| cluster.index(id)) } else { Some(index) };
        let Some(owner) = owner else { return };
        let known = &cluster.nodes[owner].slots;
        if Arc::ptr_eq(known, &header.slots) || *known == header.slots {
            return;
        }
        if !sender.replica {
            self.take_claims(index, header.config_epoch, &header.slots);
        }
        // The other way round: the sender claims what a newer claim took from it.
        let Some(cluster) = &self.cluster else { return };
        let newer = cluster.nodes.iter().enumerate().find(|(other, node)| {
            *other != index
                && node.epoch > header.config_epoch
                && !node.slots.minus(&cluster.unclaimed).intersection(&header.slots).is_empty()
        });
        if let Some((_, node)) = newer {
            let update = Bus::Update { about: node.id, config_epoch: node.epoch, slots: node.slots.clone() };
            self.send_bus(index, false, update);
        }
    }

    /// Rebinds what a node claims by a newer epoch than the owner's, and follows where all of one's own went.
    pub(super) fn take_claims(&mut self, index: usize, epoch: u64, claimed: &Arc<Slots>) {
        if index == 0 {
            return;
        }
        let (shards, own_shard) = (self.can.shards, self.can.follows_own_shard);
        let Some(cluster) = &mut self.cluster else { return };
        let mut wanted = claimed.minus(&cluster.nodes[index].slots);
        for slot in cluster.importing.keys() {
            wanted = wanted.minus(&Slots::range(*slot, *slot));
        }
        let mine = if cluster.me().replica { cluster.me().primary } else { Some(cluster.me().id) };
        let mut taken = cluster.unowned(&wanted);
        let (mut from_mine, mut from_me) = (0, Slots::default());
        for (other, node) in cluster.nodes.iter().enumerate() {
            let theirs = node.slots.intersection(&wanted);
            let won = if node.epoch < epoch { theirs } else { theirs.intersection(&cluster.unclaimed) };
            if won.is_empty() {
                continue;
            }
            if Some(node.id) == mine {
                from_mine = won.len();
            }
            if other == 0 {
                from_me = won.clone();
            }
            taken = taken.union(&won);
        }
        let given_up = cluster.nodes[index].slots.minus(claimed);
        if !taken.is_empty() {
            cluster.assign(&taken, index);
        }
        if shards {
            cluster.unclaimed = cluster.unclaimed.minus(claimed).union(&given_up);
        }
        let left = mine.and_then(|id| cluster.node(id)).map(|node| node.slots.len());
        let may_follow = !own_shard || cluster.nodes[index].shard == cluster.me().shard;
        if from_mine > 0 && left == Some(0) && claimed.len() == from_mine && may_follow {
            let id = cluster.nodes[index].id;
            self.follow(id);
            if let Some(cluster) = &mut self.cluster {
                cluster.todo.broadcast = true;
            }
            return;
        }
        if let Some(grand) = Self::grand_primary(cluster) {
            self.follow(grand);
            if let Some(cluster) = &mut self.cluster {
                cluster.todo.broadcast = true;
            }
        } else {
            self.data.drop_slots(&from_me);
        }
    }

    /// A replica of a replica follows that one's primary, unless that is itself.
    fn grand_primary(cluster: &Cluster) -> Option<NodeId> {
        let me = cluster.me();
        let primary = me.primary.filter(|_| me.replica).and_then(|id| cluster.node(id))?;
        primary.primary.filter(|grand| primary.replica && *grand != me.id && cluster.node(*grand).is_some())
    }

    /// Becomes the replica of a node.
    pub(super) fn follow(&mut self, id: NodeId) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some((addr, shard)) = cluster.node(id).map(|node| (node.addr, node.shard)) else { return };
        let me = cluster.me_mut();
        if !me.replica {
            me.replica = true;
            cluster.importing.clear();
            cluster.migrating.clear();
        }
        let me = cluster.me_mut();
        me.primary = Some(id);
        me.shard = shard;
        cluster.todo.state = true;
        cluster.hurry(self.now);
        self.end_manual();
        self.set_source(addr);
    }

    pub(super) fn told_of_owner(&mut self, about: NodeId, epoch: u64, slots: &Arc<Slots>) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(index) = cluster.index(about) else { return };
        if cluster.nodes[index].epoch >= epoch {
            return;
        }
        cluster.set_as_primary(index);
        cluster.nodes[index].epoch = epoch;
        self.take_claims(index, epoch, slots);
    }
}
