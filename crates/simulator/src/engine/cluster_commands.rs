//! `CLUSTER …`, with the engine's refusals in its words.

use super::cluster::{Cluster, FORGET_BAN_MS, Node};
use super::commands::{error, ok};
use super::data::{Marks, SetSlot, Write};
use super::interface::{Ip, Reply};
use super::process::Engine;
use super::slots::{SLOT_COUNT, Slots};
use super::types::{Addr, NodeId};

/// Reads slots one by one, or as pairs of first and last.
fn slots_of(words: &[&str], ranges: bool) -> Result<Slots, Reply> {
    let slot = |word: &str| {
        word.parse::<u16>()
            .ok()
            .filter(|slot| *slot < SLOT_COUNT)
            .ok_or_else(|| error("ERR Invalid or out of range slot"))
    };
    let mut all = Slots::default();
    let width = if ranges { 2 } else { 1 };
    if words.is_empty() || !words.len().is_multiple_of(width) {
        return Err(error("ERR wrong number of arguments"));
    }
    for chunk in words.chunks_exact(width) {
        let (first, last) = (slot(chunk[0])?, slot(chunk[width - 1])?);
        if first > last {
            return Err(error(format!(
                "ERR start slot number {first} is greater than end slot number {last}"
            )));
        }
        let range = Slots::range(first, last);
        if let Some((twice, _)) = all.intersection(&range).ranges().first() {
            return Err(error(format!("ERR Slot {twice} specified multiple times")));
        }
        all = all.union(&range);
    }
    Ok(all)
}

fn unknown(id: &str) -> Reply {
    error(format!("ERR Unknown node {id}"))
}

impl Cluster {
    /// `SETSLOT`, as far as it changes the table.
    pub(super) fn mark(&mut self, slot: u16, to: Marks) {
        match to {
            Marks::Migrating(id) => {
                self.migrating.insert(slot, id);
            }
            Marks::Importing(id) => {
                self.importing.insert(slot, id);
            }
            Marks::Stable => {
                self.migrating.remove(&slot);
                self.importing.remove(&slot);
            }
            Marks::Node(id) => {
                self.migrating.remove(&slot);
                self.importing.remove(&slot);
                if let Some(index) = self.index(id) {
                    self.assign(&Slots::range(slot, slot), index);
                }
            }
        }
    }
}

impl Engine {
    /// Those which an engine that loads refuses.
    pub(super) fn refused_while_loading(&self, sub: &str) -> bool {
        let known = ["INFO", "NODES", "MYID", "MEET", "SLOTS", "SHARDS", "KEYSLOT"];
        !known.iter().any(|name| sub.eq_ignore_ascii_case(name)) && self.can.seven
    }

    pub(super) fn cluster_command(&mut self, sub: &str, rest: &[&str]) -> Reply {
        match (sub, rest) {
            ("INFO", []) => Reply::Text(self.cluster_info()),
            ("NODES", []) => Reply::Text(self.cluster_nodes()),
            ("MYID", []) => {
                Reply::Text(self.cluster.as_ref().map(|cluster| cluster.id_text.clone()).unwrap_or_default())
            }
            ("KEYSLOT", [key]) => Reply::Number(super::slots::key_slot(key).into()),
            ("COUNTKEYSINSLOT", [slot]) => match slots_of(&[slot], false) {
                Ok(slots) => {
                    let slot = slots.ranges().first().map_or(0, |range| range.0);
                    Reply::Number(i64::try_from(self.data.in_slot(slot).count()).unwrap_or(i64::MAX))
                }
                Err(refused) => refused,
            },
            ("MEET", [host, port, bus @ ..]) => self.meet(host, port, bus.first().copied()),
            ("ADDSLOTS", slots) => self.add_slots(slots, false),
            ("DELSLOTS", slots) => self.del_slots(slots, false),
            ("ADDSLOTSRANGE", slots) if self.can.seven => self.add_slots(slots, true),
            ("DELSLOTSRANGE", slots) if self.can.seven => self.del_slots(slots, true),
            ("FLUSHSLOTS", []) => self.flush_slots(),
            ("SETSLOT", [slot, rest @ ..]) => self.set_slot(slot, rest),
            ("SET-CONFIG-EPOCH", [epoch]) => self.set_config_epoch(epoch),
            ("BUMPEPOCH", []) => {
                let Some(cluster) = &mut self.cluster else { return ok() };
                let word = if cluster.bump_epoch().is_some() { "BUMPED" } else { "STILL" };
                Reply::Text(format!("{word} {}", cluster.me().epoch))
            }
            ("REPLICATE", [id]) => self.replicate(id),
            ("FORGET", [id]) => self.forget(id),
            ("FAILOVER", how) => self.failover(how.first().map(|how| how.to_ascii_uppercase()).as_deref()),
            ("RESET", how) => {
                self.cluster_reset(how.first().is_some_and(|how| how.eq_ignore_ascii_case("HARD")))
            }
            ("SAVECONFIG", []) => ok(),
            _ => error(format!("ERR unknown subcommand '{sub}'. Try CLUSTER HELP.")),
        }
    }

    fn meet(&mut self, host: &str, port: &str, bus: Option<&str>) -> Reply {
        let invalid = || error(format!("ERR Invalid node address specified: {host}:{port}"));
        let (Some(ip), Ok(port)) = (Ip::parse(host), port.parse::<u16>()) else { return invalid() };
        let bus_port = match bus {
            Some(bus) => bus.parse().ok(),
            None => port.checked_add(10_000),
        };
        let Some(bus_port) = bus_port else { return invalid() };
        let addr = Addr { ip, port, bus_port };
        let (id, shard) = (NodeId(self.chance.next()), self.chance.next());
        let Some(cluster) = &mut self.cluster else { return invalid() };
        if cluster.nodes.iter().any(|node| node.handshake && node.addr == addr) {
            return ok();
        }
        let mut node = Node::new(id, addr, shard, self.now);
        (node.handshake, node.meet) = (true, true);
        cluster.nodes.push(node);
        cluster.hurry(self.now);
        ok()
    }

    fn add_slots(&mut self, words: &[&str], ranges: bool) -> Reply {
        let slots = match slots_of(words, ranges) {
            Ok(slots) => slots,
            Err(refused) => return refused,
        };
        let Some(cluster) = &mut self.cluster else { return ok() };
        let free = cluster.unowned(&slots);
        if let Some((busy, _)) = slots.minus(&free).ranges().first() {
            return error(format!("ERR Slot {busy} is already busy"));
        }
        for (first, last) in slots.ranges() {
            for slot in *first..=*last {
                if cluster.importing.is_empty() {
                    break;
                }
                cluster.importing.remove(&slot);
            }
        }
        cluster.assign(&slots, 0);
        ok()
    }

    fn del_slots(&mut self, words: &[&str], ranges: bool) -> Reply {
        let slots = match slots_of(words, ranges) {
            Ok(slots) => slots,
            Err(refused) => return refused,
        };
        let Some(cluster) = &mut self.cluster else { return ok() };
        if let Some((free, _)) = cluster.unowned(&slots).ranges().first() {
            return error(format!("ERR Slot {free} is already unassigned"));
        }
        cluster.release(&slots);
        ok()
    }

    fn flush_slots(&mut self) -> Reply {
        if !self.data.is_empty() {
            return error("ERR DB must be empty to perform CLUSTER FLUSHSLOTS.");
        }
        let Some(cluster) = &mut self.cluster else { return ok() };
        let own = cluster.me().slots.clone();
        cluster.release(&own);
        ok()
    }

    fn set_slot(&mut self, slot: &str, rest: &[&str]) -> Reply {
        let Some(cluster) = &mut self.cluster else { return ok() };
        let Some(slot) = slot.parse::<u16>().ok().filter(|slot| *slot < SLOT_COUNT) else {
            return error("ERR Invalid or out of range slot");
        };
        if cluster.me().replica {
            return error("ERR You can use SETSLOT only with masters.");
        }
        let me = cluster.me().id;
        let mine = cluster.me().slots.contains(slot);
        let node = |id: &str| {
            id.parse::<NodeId>().ok().filter(|id| cluster.node(*id).is_some_and(|node| !node.handshake))
        };
        let what = rest.first().map(|what| what.to_ascii_uppercase());
        let to = match (what.as_deref(), rest.get(1)) {
            (Some("MIGRATING"), Some(id)) => {
                if !mine {
                    return error(format!("ERR I'm not the owner of hash slot {slot}"));
                }
                match node(id) {
                    Some(id) => Marks::Migrating(id),
                    None => return error(format!("ERR I don't know about node {id}")),
                }
            }
            (Some("IMPORTING"), Some(id)) => {
                if mine {
                    return error(format!("ERR I'm already the owner of hash slot {slot}"));
                }
                match node(id) {
                    Some(id) => Marks::Importing(id),
                    None => return error(format!("ERR I don't know about node {id}")),
                }
            }
            (Some("STABLE"), None) => Marks::Stable,
            (Some("NODE"), Some(id)) => match node(id) {
                Some(id) => Marks::Node(id),
                None => return unknown(id),
            },
            _ => return error("ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"),
        };
        if let Marks::Node(id) = to {
            if cluster.node(id).is_some_and(|node| node.replica) {
                return error("ERR Target node is not a master");
            }
            let keys = self.data.in_slot(slot).next().is_some();
            if mine && id != me && keys {
                return error(format!(
                    "ERR Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
                ));
            }
            let imported = id == me && cluster.importing.contains_key(&slot);
            let marks = (cluster.migrating.get(&slot).copied(), cluster.importing.get(&slot).copied());
            cluster.mark(slot, to);
            if keys && let Some(kept) = marks.0 {
                cluster.migrating.insert(slot, kept);
            }
            if imported {
                // The one way to win the slot everywhere: a newer claim than the owner's.
                cluster.bump_epoch();
                cluster.todo.broadcast = true;
            } else if let Some(kept) = marks.1 {
                cluster.importing.insert(slot, kept);
            }
        } else {
            cluster.mark(slot, to);
        }
        if self.can.setslot_replicated {
            self.propagate(Write::SetSlot(SetSlot { slot, to }));
        }
        ok()
    }

    fn set_config_epoch(&mut self, epoch: &str) -> Reply {
        let Some(cluster) = &mut self.cluster else { return ok() };
        let Ok(epoch) = epoch.parse::<u64>() else {
            return error("ERR Invalid config epoch specified: ".to_owned() + epoch);
        };
        if cluster.nodes.len() > 1 {
            return error(
                "ERR The user can assign a config epoch only when the node does not know any other node.",
            );
        }
        if cluster.me().epoch != 0 {
            return error("ERR Node config epoch is already non-zero");
        }
        cluster.me_mut().epoch = epoch;
        cluster.current_epoch = cluster.current_epoch.max(epoch);
        ok()
    }

    fn replicate(&mut self, id: &str) -> Reply {
        let Some(cluster) = &self.cluster else { return ok() };
        let found = id.parse::<NodeId>().ok().and_then(|id| cluster.node(id));
        let Some(node) = found else { return unknown(id) };
        if node.id == cluster.me().id {
            return error("ERR Can't replicate myself");
        }
        if node.replica {
            return error("ERR I can only replicate a master, not a replica.");
        }
        let empty = cluster.me().slots.is_empty() && self.data.is_empty();
        if !cluster.me().replica && !empty {
            return error("ERR To set a master the node must be empty and without assigned slots.");
        }
        if cluster.me().replica && cluster.me().primary == Some(node.id) && self.can.shards && self.valkey {
            return ok();
        }
        let id = node.id;
        self.follow(id);
        ok()
    }

    fn forget(&mut self, id: &str) -> Reply {
        let (now, shards) = (self.now, self.can.shards);
        let Some(cluster) = &mut self.cluster else { return ok() };
        let parsed = id.parse::<NodeId>().ok();
        let Some(index) = parsed.and_then(|id| cluster.index(id)) else {
            return match parsed {
                Some(id) if shards && cluster.banned(id, now) => ok(),
                _ => unknown(id),
            };
        };
        let id = cluster.nodes[index].id;
        if index == 0 {
            return error("ERR I tried hard but I can't forget myself...");
        }
        if cluster.me().replica && cluster.me().primary == Some(id) {
            return error("ERR Can't forget my master!");
        }
        cluster.ban(id, now + FORGET_BAN_MS);
        cluster.todo.broadcast |= shards;
        self.remove_node(index);
        ok()
    }

    fn failover(&mut self, how: Option<&str>) -> Reply {
        let (force, takeover) = match how {
            None => (false, false),
            Some("FORCE") => (true, false),
            Some("TAKEOVER") => (true, true),
            Some(_) => return error("ERR syntax error"),
        };
        let Some(cluster) = &self.cluster else { return ok() };
        if !cluster.me().replica {
            return error("ERR You should send CLUSTER FAILOVER to a replica");
        }
        let Some(primary) = cluster.my_primary() else {
            return error("ERR I'm a replica but my master is unknown to me");
        };
        if (primary.fail || primary.link.is_none()) && !force {
            return error("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE");
        }
        self.begin_manual(force, takeover);
        ok()
    }

    fn cluster_reset(&mut self, hard: bool) -> Reply {
        let (now, id, shard) = (self.now, NodeId(self.chance.next()), self.chance.next());
        let Some(cluster) = &self.cluster else { return ok() };
        let replica = cluster.me().replica;
        if !replica && !self.data.is_empty() {
            return error("ERR CLUSTER RESET can't be called with master nodes containing keys");
        }
        if replica {
            self.unset_source();
            self.data = super::data::Data::default();
        }
        self.end_manual();
        let Some(cluster) = &mut self.cluster else { return ok() };
        cluster.importing.clear();
        cluster.migrating.clear();
        while self.cluster.as_ref().is_some_and(|cluster| cluster.nodes.len() > 1) {
            self.remove_node(1);
        }
        let Some(cluster) = &mut self.cluster else { return ok() };
        let own = cluster.me().slots.clone();
        cluster.release(&own);
        let me = cluster.me_mut();
        (me.replica, me.primary) = (false, None);
        if hard {
            *me = Node::new(id, me.addr, shard, now);
            cluster.current_epoch = 0;
            cluster.last_vote_epoch = 0;
            cluster.id_text = id.to_string();
        }
        ok()
    }
}
