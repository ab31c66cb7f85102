//! What a node does with the packets of the cluster bus.

use super::cluster::{Inbound, Node};
use super::interface::{Ip, Lane};
use super::process::Engine;
use super::types::{Body, Bus, Header, Heartbeat, NodeId, Says};
use std::sync::Arc;

/// Connections that one peer may have open; the oldest goes.
const INBOUND_PER_PEER: usize = 4;

impl Engine {
    pub(super) fn header(&self) -> Option<Arc<Header>> {
        let cluster = self.cluster.as_ref()?;
        let me = cluster.me();
        let primary = cluster.my_primary();
        Some(Arc::new(Header {
            sender: me.id,
            addr: self.settings.own,
            replica: me.replica,
            primary: me.primary,
            current_epoch: cluster.current_epoch,
            config_epoch: primary.map_or(me.epoch, |node| node.epoch),
            slots: primary.map(|node| node.slots.clone()).unwrap_or_default(),
            offset: self.repl.offset,
            paused: !me.replica && cluster.manual.end_ms != 0 && cluster.manual.replica.is_some(),
            shard: me.shard,
        }))
    }

    /// Sends over the link to a node; nothing where there is none.
    pub(super) fn send_bus(&mut self, index: usize, opens: bool, bus: Bus) {
        let Some(header) = self.header() else { return };
        let Some(cluster) = &mut self.cluster else { return };
        let node = &mut cluster.nodes[index];
        let Some(link) = node.link else { return };
        if matches!(bus, Bus::Ping(_) | Bus::Meet(_)) && node.ping_sent.is_none() {
            node.ping_sent = Some(self.now);
        }
        let addr = node.addr;
        let body = Body { port: addr.bus_port, says: Says::Bus { opens, header, bus } };
        self.send(addr.ip, Lane::Bus, link.connection, Some(body));
    }

    pub(super) fn heartbeat(&mut self, to: Option<NodeId>) -> Heartbeat {
        match &self.cluster {
            Some(cluster) => cluster.heartbeat(to, self.can, &mut self.chance, self.now),
            None => Heartbeat::default(),
        }
    }

    /// Tells every node at once, without being asked.
    pub(super) fn broadcast(&mut self, replicas_of_mine_only: bool) {
        let Some(cluster) = &self.cluster else { return };
        let mine = cluster.my_primary().map(|node| node.id);
        let to: Vec<usize> = (1..cluster.nodes.len())
            .filter(|index| {
                let node = &cluster.nodes[*index];
                let local = node.replica && node.primary.is_some() && node.primary == mine;
                node.link.is_some() && !node.handshake && (!replicas_of_mine_only || local)
            })
            .collect();
        for index in to {
            let heartbeat = self.heartbeat(None);
            self.send_bus(index, false, Bus::Pong(heartbeat));
        }
    }

    pub(super) fn bus_broken(&mut self, peer: Ip, connection: u64) {
        let Some(cluster) = &mut self.cluster else { return };
        let lost = cluster.inbound.iter().position(|open| (open.peer, open.connection) == (peer, connection));
        if let Some(lost) = lost {
            let from = cluster.inbound.remove(lost).from;
            if let Some(node) = cluster.nodes.iter_mut().find(|node| Some(node.id) == from) {
                node.inbound_ms = self.now;
                cluster.hurry(self.now);
            }
        }
        let found =
            cluster.nodes.iter_mut().find(|node| node.link.is_some_and(|link| link.connection == connection));
        if let Some(node) = found {
            node.link = None;
            cluster.hurry(self.now);
        }
    }

    pub(super) fn bus_packet(&mut self, from: Ip, connection: u64, opens: bool, header: &Header, bus: Bus) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            self.reset(from, Lane::Bus, connection);
            return;
        };
        let link = cluster.nodes.iter().position(|node| {
            node.link.is_some_and(|link| link.connection == connection) && node.addr.ip == from
        });
        let open = cluster.inbound.iter().position(|open| (open.peer, open.connection) == (from, connection));
        if link.is_none() && open.is_none() {
            if !opens {
                self.reset(from, Lane::Bus, connection);
                return;
            }
            if cluster.inbound.iter().filter(|open| open.peer == from).count() >= INBOUND_PER_PEER
                && let Some(oldest) = cluster.inbound.iter().position(|open| open.peer == from)
            {
                cluster.inbound.remove(oldest);
            }
            cluster.inbound.push(Inbound { peer: from, connection, from: None });
        }
        let sender = cluster.index(header.sender).filter(|index| !cluster.nodes[*index].handshake);
        if link.is_none() && sender.is_some() {
            let open =
                cluster.inbound.iter_mut().find(|open| (open.peer, open.connection) == (from, connection));
            if let Some(open) = open {
                open.from = Some(header.sender);
            }
        }
        if sender == Some(0) {
            // It met itself.
            if let Some(index) = link.filter(|index| cluster.nodes[*index].handshake) {
                self.remove_node(index);
            }
            return;
        }
        if let Some(index) = sender {
            cluster.nodes[index].data_ms = now;
            self.note_sender(index, header);
        }
        match bus {
            Bus::Ping(heartbeat) => {
                self.pong(from, connection);
                self.heard(sender, None, from, header, &heartbeat, true);
            }
            Bus::Meet(heartbeat) => {
                if sender.is_none() {
                    self.met(header);
                }
                self.pong(from, connection);
                self.heard(sender, None, from, header, &heartbeat, false);
            }
            Bus::Pong(heartbeat) => {
                let Some(sender) = self.handshaken(sender, link, header) else { return };
                self.heard(sender, link, from, header, &heartbeat, false);
            }
            Bus::Fail(about) => self.told_of_failure(sender, about),
            Bus::AuthRequest { force } => {
                if let Some(sender) = sender {
                    self.vote(sender, header, force);
                }
            }
            Bus::AuthAck => {
                if let Some(sender) = sender {
                    self.take_vote(sender, header);
                }
            }
            Bus::ManualStart => {
                if let Some(sender) = sender {
                    self.manual_start(sender);
                }
            }
            Bus::Update { about, config_epoch, slots } => {
                if sender.is_some() {
                    self.told_of_owner(about, config_epoch, &slots);
                }
            }
        }
    }

    fn note_sender(&mut self, index: usize, header: &Header) {
        let offset_due = {
            let Some(cluster) = &mut self.cluster else { return };
            cluster.current_epoch = cluster.current_epoch.max(header.current_epoch);
            let node = &mut cluster.nodes[index];
            node.epoch = node.epoch.max(header.config_epoch);
            node.offset = header.offset;
            let id = node.id;
            let waits = cluster.manual.end_ms != 0 && cluster.manual.primary_offset < 0;
            waits && header.paused && cluster.me().replica && cluster.me().primary == Some(id)
        };
        if offset_due && let Some(cluster) = &mut self.cluster {
            cluster.manual.primary_offset = header.offset;
            cluster.todo.manual = true;
        }
    }

    fn pong(&mut self, to: Ip, connection: u64) {
        let heartbeat = self.heartbeat(None);
        let Some(header) = self.header() else { return };
        let says = Says::Bus { opens: false, header, bus: Bus::Pong(heartbeat) };
        self.send(to, Lane::Bus, connection, Some(Body { port: 0, says }));
    }

    /// A stranger introduces itself: a handshake begins from here, too.
    fn met(&mut self, header: &Header) {
        let (id, shard) = (NodeId(self.chance.next()), self.chance.next());
        let Some(cluster) = &mut self.cluster else { return };
        let mut node = Node::new(id, header.addr, shard, self.now);
        node.handshake = true;
        cluster.nodes.push(node);
        cluster.hurry(self.now);
    }

    /// A pong ends a handshake, or shows that somebody else is at an address. `None` ends the processing.
    #[expect(clippy::option_option, reason = "to stop, and to go on without a known sender, are two things")]
    fn handshaken(
        &mut self,
        sender: Option<usize>,
        link: Option<usize>,
        header: &Header,
    ) -> Option<Option<usize>> {
        let (now, watches) = (self.now, self.can.watches_inbound);
        let Some(link) = link else { return Some(sender) };
        let cluster = self.cluster.as_mut()?;
        if cluster.nodes[link].handshake {
            if let Some(known) = sender {
                self.move_address(known, header);
                self.remove_node(link);
                return None;
            }
            let node = &mut cluster.nodes[link];
            node.id = header.sender;
            node.handshake = false;
            node.replica = header.replica;
            node.data_ms = now;
            cluster.todo.state = true;
            self.note_sender(link, header);
            return Some(Some(link));
        }
        if cluster.nodes[link].id != header.sender {
            let node = &mut cluster.nodes[link];
            node.noaddr = true;
            node.link = None;
            cluster.todo.state = true;
            if watches && !node.fail {
                node.fail = true;
                node.fail_ms = now;
                cluster.todo.failover = true;
                let id = cluster.nodes[link].id;
                self.tell_failure(id);
            }
            return None;
        }
        Some(sender)
    }

    /// A node is at another address than was known.
    fn move_address(&mut self, index: usize, header: &Header) {
        let Some(cluster) = &mut self.cluster else { return };
        let node = &mut cluster.nodes[index];
        if node.addr == header.addr && !node.noaddr {
            return;
        }
        node.addr = header.addr;
        node.noaddr = false;
        let (id, addr) = (node.id, node.addr);
        let old = node.link.take();
        cluster.todo.state = true;
        cluster.hurry(self.now);
        let mine = cluster.me().replica && cluster.me().primary == Some(id);
        if let Some(old) = old {
            self.reset(addr.ip, Lane::Bus, old.connection);
        }
        if mine {
            self.set_source(addr);
        }
    }

    /// What a ping, pong or meet says about its sender.
    fn heard(
        &mut self,
        sender: Option<usize>,
        link: Option<usize>,
        _from: Ip,
        header: &Header,
        heartbeat: &Heartbeat,
        is_ping: bool,
    ) {
        let now = self.now;
        if is_ping && let Some(index) = sender {
            self.move_address(index, header);
        }
        let Some(cluster) = &mut self.cluster else { return };
        if let Some(index) = link {
            let node = &mut cluster.nodes[index];
            node.pong_ms = now;
            node.ping_sent = None;
            if node.pfail {
                node.pfail = false;
                cluster.todo.state = true;
            } else if node.fail {
                cluster.clear_failure(index, &self.settings, now);
            }
        }
        let Some(index) = sender else { return };
        self.follow_role(index, header);
        self.compare_slots(index, header);
        let Some(cluster) = &mut self.cluster else { return };
        let node = &cluster.nodes[index];
        if !cluster.me().replica && !node.replica && header.config_epoch == cluster.me().epoch {
            let id = node.id;
            cluster.resolve_collision(id);
        }
        self.gossip(index, &heartbeat.gossip);
        self.forgotten(&heartbeat.forgotten);
    }
}
