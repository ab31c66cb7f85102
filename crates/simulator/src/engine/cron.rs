//! The cluster's cron: links, pings, failures, elections; and what is done before the engine waits.

use super::cluster::{CRON_MS, Cluster, Link};
use super::interface::Lane;
use super::process::Engine;
use super::types::Bus;

const HANDSHAKE_MS_MIN: u64 = 1_000;
const RANDOM_PING_MS: u64 = 1_000;

fn handshake_ms(node_timeout_ms: u64) -> u64 {
    node_timeout_ms.max(HANDSHAKE_MS_MIN)
}

impl Cluster {
    /// The next cron is at most one period away.
    pub(super) fn hurry(&mut self, now: u64) {
        self.next_cron_ms = self.next_cron_ms.min(now + CRON_MS);
    }

    /// Whether every node that is in contact has a connection open to here.
    fn all_connected(&self) -> bool {
        let open = |id| self.inbound.iter().any(|open| open.from == Some(id));
        self.nodes[1..]
            .iter()
            .all(|node| node.noaddr || node.handshake || node.link.is_none() || open(node.id))
    }

    /// When the cron has something to do again. A real one runs each 100 ms; here it is passed over while all is calm.
    fn plan_cron(&self, node_timeout_ms: u64, watches_inbound: bool, now: u64) -> u64 {
        let calm = self.ok == (self.size > 0)
            && self.manual.end_ms == 0
            && self.nodes[1..].iter().all(|node| {
                node.noaddr
                    || (!node.handshake && !node.pfail && node.link.is_some() && node.ping_sent.is_none())
            })
            && (!watches_inbound || self.all_connected());
        let election = self.me().replica && self.my_primary().is_some_and(|primary| primary.fail);
        if !calm || election {
            return now + CRON_MS;
        }
        let oldest = self.nodes[1..].iter().filter(|node| !node.noaddr).map(|node| node.pong_ms).min();
        oldest.map_or(now + 1_000, |pong| pong + node_timeout_ms / 2 + 1).clamp(now + CRON_MS, now + 60_000)
    }
}

impl Engine {
    pub(super) fn cluster_cron(&mut self) {
        let now = self.now;
        if self.cluster.as_ref().is_none_or(|cluster| now < cluster.next_cron_ms) {
            return;
        }
        self.reconnect();
        if self.can.watches_inbound {
            self.meet_again(handshake_ms(self.settings.node_timeout_ms));
        }
        self.random_ping();
        self.watch_nodes();
        self.resume_replication();
        self.manual_timeout();
        if self.cluster.as_ref().is_some_and(|cluster| cluster.me().replica) {
            self.handle_manual();
            self.handle_failover();
        }
        let (timeout, watches) = (self.settings.node_timeout_ms, self.can.watches_inbound);
        if let Some(cluster) = &mut self.cluster {
            if !cluster.ok {
                cluster.todo.state = true;
            }
            cluster.banned.retain(|(_, until)| *until > now);
        }
        self.before_sleep();
        if let Some(cluster) = &mut self.cluster {
            cluster.next_cron_ms = cluster.plan_cron(timeout, watches, now);
        }
    }

    /// Opens links, and gives up handshakes that took too long.
    fn reconnect(&mut self) {
        let now = self.now;
        let handshake_ms = handshake_ms(self.settings.node_timeout_ms);
        let mut index = 1;
        while let Some(node) = self.cluster.as_ref().and_then(|cluster| cluster.nodes.get(index)) {
            if node.handshake && now.saturating_sub(node.since_ms) > handshake_ms {
                self.remove_node(index);
            } else {
                index += 1;
            }
        }
        let count = self.cluster.as_ref().map_or(0, |cluster| cluster.nodes.len());
        for index in 1..count {
            let Some(cluster) = &mut self.cluster else { return };
            let node = &mut cluster.nodes[index];
            if node.noaddr || node.link.is_some() {
                continue;
            }
            node.link = Some(Link { connection: self.chance.next(), since_ms: now });
            let meet = std::mem::take(&mut node.meet);
            let id = node.id;
            let heartbeat = self.heartbeat(Some(id));
            self.send_bus(index, true, if meet { Bus::Meet(heartbeat) } else { Bus::Ping(heartbeat) });
        }
    }

    /// A node that is connected to from here and opens no connection does not know this one any more.
    fn meet_again(&mut self, handshake_ms: u64) {
        let now = self.now;
        let count = self.cluster.as_ref().map_or(0, |cluster| cluster.nodes.len());
        for index in 1..count {
            let Some(cluster) = &mut self.cluster else { return };
            let id = cluster.nodes[index].id;
            let open = cluster.inbound.iter().any(|open| open.from == Some(id));
            let node = &mut cluster.nodes[index];
            let quiet = node.link.is_none() || node.handshake || node.noaddr || node.pfail || node.fail;
            if open || quiet || now.saturating_sub(node.inbound_ms) <= handshake_ms {
                continue;
            }
            node.inbound_ms = now;
            let heartbeat = self.heartbeat(Some(id));
            self.send_bus(index, false, Bus::Meet(heartbeat));
        }
    }

    fn ping(&mut self, index: usize) {
        let id = self.cluster.as_ref().map(|cluster| cluster.nodes[index].id);
        let heartbeat = self.heartbeat(id);
        self.send_bus(index, false, Bus::Ping(heartbeat));
    }

    /// Once a second, while anything moves, the one that was not heard of for longest out of a few.
    fn random_ping(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else { return };
        if now < cluster.random_ping_ms + RANDOM_PING_MS {
            return;
        }
        cluster.random_ping_ms = now;
        let mut chosen: Option<usize> = None;
        for _ in 0..5 {
            let index = usize::try_from(self.chance.below(cluster.nodes.len() as u64)).unwrap_or(0);
            let node = &cluster.nodes[index];
            if index == 0 || node.handshake || node.link.is_none() || node.ping_sent.is_some() {
                continue;
            }
            if chosen.is_none_or(|best| cluster.nodes[best].pong_ms > node.pong_ms) {
                chosen = Some(index);
            }
        }
        if let Some(index) = chosen {
            self.ping(index);
        }
    }

    /// Pings who was not heard of, and notes who does not answer.
    fn watch_nodes(&mut self) {
        let (now, timeout) = (self.now, self.settings.node_timeout_ms);
        let count = self.cluster.as_ref().map_or(0, |cluster| cluster.nodes.len());
        for index in 1..count {
            let Some(cluster) = &mut self.cluster else { return };
            let manual = cluster.manual.end_ms != 0 && !cluster.me().replica;
            let asked_by = cluster.manual.replica;
            let (size, i_vote) = (cluster.size, !cluster.me().replica);
            let node = &mut cluster.nodes[index];
            if node.noaddr || node.handshake {
                continue;
            }
            let ping_delay = node.ping_sent.map(|sent| now.saturating_sub(sent));
            let data_delay = now.saturating_sub(node.data_ms);
            if let (Some(link), Some(delay)) = (node.link, ping_delay)
                && now.saturating_sub(link.since_ms) > timeout
                && delay > timeout / 2
                && data_delay > timeout / 2
            {
                // Perhaps the connection is dead and not the node: a new one is tried.
                node.link = None;
                let ip = node.addr.ip;
                self.reset(ip, Lane::Bus, link.connection);
                continue;
            }
            let due = now.saturating_sub(node.pong_ms) > timeout / 2;
            let asks = manual && asked_by == Some(node.id);
            if node.link.is_some() && ((ping_delay.is_none() && due) || asks) {
                self.ping(index);
                continue;
            }
            let Some(delay) = ping_delay.map(|delay| delay.min(data_delay)) else { continue };
            if delay > timeout && !node.pfail && !node.fail {
                node.pfail = true;
                cluster.todo.state = true;
                let id = cluster.nodes[index].id;
                if i_vote && size == 1 && cluster.mark_failing(index, &self.settings, now) {
                    self.tell_failure(id);
                }
            }
        }
    }

    /// A replica whose primary's address became known follows it.
    fn resume_replication(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.me().replica
            && self.repl.source.is_none()
            && let Some(addr) =
                cluster.my_primary().filter(|primary| !primary.noaddr).map(|primary| primary.addr)
        {
            self.set_source(addr);
        }
    }

    /// What events left to be done.
    pub(super) fn before_sleep(&mut self) {
        let now = self.now;
        self.replica_work();
        let Some(cluster) = &mut self.cluster else { return };
        let todo = std::mem::take(&mut cluster.todo);
        cluster.todo.state = todo.state;
        if (todo.manual || todo.failover) && cluster.me().replica {
            if todo.manual {
                self.handle_manual();
            }
            self.handle_failover();
        }
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.todo.state {
            cluster.update_state(&self.settings, now);
            cluster.hurry(now);
        }
        let broadcast = todo.broadcast || cluster.todo.broadcast;
        cluster.todo.broadcast = false;
        if broadcast {
            self.broadcast(false);
        }
    }
}
