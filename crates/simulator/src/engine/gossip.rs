//! What nodes say about third ones: failures, acquaintances, the forgotten.

use super::cluster::{Inbound, Node};
use super::interface::Lane;
use super::process::Engine;
use super::types::{Bus, Gossip, NodeId};

impl Engine {
    pub(super) fn told_of_failure(&mut self, sender: Option<usize>, about: NodeId) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        let Some(index) = sender.and_then(|_| cluster.index(about)).filter(|index| *index != 0) else {
            return;
        };
        let node = &mut cluster.nodes[index];
        if !node.fail {
            node.fail = true;
            node.pfail = false;
            node.fail_ms = now;
            cluster.todo.state = true;
            cluster.hurry(now);
        }
    }

    pub(super) fn gossip(&mut self, from: usize, gossip: &[Gossip]) {
        let now = self.now;
        let timeout = self.settings.node_timeout_ms;
        for line in gossip {
            let Some(cluster) = &mut self.cluster else { return };
            let by = cluster.nodes[from].id;
            let voter = !cluster.nodes[from].replica;
            let Some(index) = cluster.index(line.id) else {
                // Taken up with the identity that was told: whoever else is at that address is no part of it.
                if !line.noaddr && !cluster.banned(line.id, now) {
                    let shard = self.chance.next();
                    let mut node = Node::new(line.id, line.addr, shard, now);
                    node.replica = line.replica;
                    cluster.nodes.push(node);
                    cluster.hurry(now);
                }
                continue;
            };
            if index == 0 {
                continue;
            }
            let node = &mut cluster.nodes[index];
            if voter {
                node.reports.retain(|(reporter, _)| *reporter != by);
                if line.fail || line.pfail {
                    node.reports.push((by, now));
                }
            }
            let calm = !line.fail && !line.pfail;
            if calm && node.ping_sent.is_none() && node.reports.is_empty() && line.pong_ms <= now + 500 {
                node.pong_ms = node.pong_ms.max(line.pong_ms);
            }
            if (node.fail || node.pfail) && calm && !line.noaddr && node.addr != line.addr {
                node.addr = line.addr;
                node.noaddr = false;
                if let Some(old) = node.link.take() {
                    let ip = node.addr.ip;
                    self.reset(ip, Lane::Bus, old.connection);
                }
            }
            let Some(cluster) = &mut self.cluster else { return };
            cluster.nodes[index].reports.retain(|(_, at)| now.saturating_sub(*at) <= timeout * 2);
            if voter && (line.fail || line.pfail) && cluster.mark_failing(index, &self.settings, now) {
                self.tell_failure(line.id);
            }
        }
    }

    pub(super) fn tell_failure(&mut self, about: NodeId) {
        let count = self.cluster.as_ref().map_or(0, |cluster| cluster.nodes.len());
        for index in 1..count {
            let known = self.cluster.as_ref().is_some_and(|cluster| !cluster.nodes[index].handshake);
            if known {
                self.send_bus(index, false, Bus::Fail(about));
            }
        }
    }

    /// Takes a node out of the table; the link to it is closed.
    pub(super) fn remove_node(&mut self, index: usize) {
        let Some(cluster) = &mut self.cluster else { return };
        let node = &cluster.nodes[index];
        let (id, link, ip) = (node.id, node.link, node.addr.ip);
        cluster.remove(index);
        let theirs: Vec<Inbound> = cluster.inbound.extract_if(.., |open| open.from == Some(id)).collect();
        if let Some(link) = link {
            self.reset(ip, Lane::Bus, link.connection);
        }
        for open in theirs {
            self.reset(open.peer, Lane::Bus, open.connection);
        }
    }

    pub(super) fn forgotten(&mut self, ids: &[(NodeId, u64)]) {
        for (id, until) in ids {
            let Some(cluster) = &mut self.cluster else { return };
            let mine = cluster.me().replica && cluster.me().primary == Some(*id);
            if let Some(index) = cluster.index(*id).filter(|index| *index != 0 && !mine) {
                cluster.ban(*id, *until);
                self.remove_node(index);
            }
        }
    }
}
