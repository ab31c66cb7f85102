//! `INFO`, `CLUSTER INFO`, `CLUSTER NODES`: the engine's words, as `kagami_protocol::engine_text` reads them.

use super::interface::{Model, Ms};
use super::process::Engine;
use std::fmt::Write as _;

impl Engine {
    pub(super) fn info(&self, sections: &[&str]) -> String {
        let wants =
            |name: &str| sections.is_empty() || sections.iter().any(|word| word.eq_ignore_ascii_case(name));
        let mut text = String::with_capacity(512);
        if wants("server") {
            self.info_server(&mut text);
        }
        if wants("memory") {
            let _ = write!(text, "# Memory\r\nused_memory:{}\r\n", self.used_memory());
        }
        if wants("persistence") {
            text += &self.info_persistence(self.now);
        }
        if wants("stats") {
            let _ = write!(
                text,
                "# Stats\r\nsync_full:{}\r\nsync_partial_ok:{}\r\n",
                self.repl.full_syncs, self.repl.partial_syncs
            );
        }
        if sections.iter().any(|word| word.eq_ignore_ascii_case("commandstats")) {
            text += "# Commandstats\r\n";
            for (name, calls) in &self.called {
                let _ = write!(text, "cmdstat_{name}:calls={calls},usec=0,usec_per_call=0.00\r\n");
            }
        }
        if wants("replication") {
            self.info_replication(&mut text);
        }
        if wants("cluster") {
            let _ = write!(text, "# Cluster\r\ncluster_enabled:{}\r\n", u8::from(self.cluster.is_some()));
        }
        if wants("keyspace") {
            text += "# Keyspace\r\n";
            if !self.data.is_empty() {
                let _ = write!(text, "db0:keys={},expires=0,avg_ttl=0\r\n", self.data.len());
            }
        }
        text
    }

    pub(super) fn used_memory(&self) -> i64 {
        i64::try_from(1_000_000 + self.data.len() * 100).unwrap_or(i64::MAX)
    }

    fn info_server(&self, text: &mut String) {
        let mode = if self.cluster.is_some() { "cluster" } else { "standalone" };
        *text += "# Server\r\n";
        if self.valkey {
            let _ = write!(
                text,
                "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{}\r\n",
                self.version
            );
        } else {
            let _ = write!(text, "redis_version:{}\r\n", self.version);
        }
        let uptime = self.now.saturating_sub(self.started_ms) / 1000;
        let _ = write!(text, "redis_mode:{mode}\r\nuptime_in_seconds:{uptime}\r\n");
    }

    pub(super) fn info_persistence(&self, _now: Ms) -> String {
        let disk = &self.on_disk;
        format!(
            "# Persistence\r\nloading:{}\r\nasync_loading:0\r\nrdb_changes_since_last_save:{}\r\n\
             rdb_bgsave_in_progress:{}\r\nrdb_last_save_time:{}\r\nrdb_last_bgsave_status:ok\r\naof_enabled:{}\r\n\
             aof_rewrite_in_progress:{}\r\naof_rewrite_scheduled:0\r\naof_last_write_status:ok\r\n",
            u8::from(self.is_loading()),
            disk.changes,
            u8::from(disk.is_saving()),
            disk.last_save_ms / 1000,
            u8::from(self.settings.append_only),
            u8::from(disk.is_rewriting()),
        )
    }

    fn info_replication(&self, text: &mut String) {
        let repl = &self.repl;
        *text += "# Replication\r\n";
        if let Some(source) = &repl.source {
            let up = source.is_up();
            let _ = write!(
                text,
                "role:slave\r\nmaster_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\n\
                 master_last_io_seconds_ago:{}\r\nmaster_sync_in_progress:{}\r\nslave_read_repl_offset:{offset}\r\n\
                 slave_repl_offset:{offset}\r\n",
                source.addr.ip,
                source.addr.port,
                if up { "up" } else { "down" },
                if up { (self.now.saturating_sub(source.heard_ms) / 1000).to_string() } else { "-1".into() },
                u8::from(source.is_syncing()),
                offset = repl.offset,
            );
            if !up {
                let _ = write!(text, "master_link_down_since_seconds:{}\r\n", self.down_s(self.now));
            }
            *text += "slave_priority:100\r\nslave_read_only:1\r\n";
        } else {
            *text += "role:master\r\n";
        }
        let _ = write!(text, "connected_slaves:{}\r\n", repl.replicas.len());
        for (number, replica) in repl.replicas.iter().enumerate() {
            let _ = write!(
                text,
                "slave{number}:ip={},port={},state={},offset={},lag={}\r\n",
                replica.announce.ip,
                replica.announce.port,
                if replica.online { "online" } else { "wait_bgsave" },
                replica.offset,
                self.lag_s(replica, self.now),
            );
        }
        let _ = write!(
            text,
            "master_failover_state:no-failover\r\nmaster_replid:{}\r\nmaster_replid2:{}\r\nmaster_repl_offset:{}\r\n\
             second_repl_offset:{}\r\nrepl_backlog_active:{}\r\n",
            repl.replid,
            repl.replid2,
            repl.offset,
            repl.second_offset,
            u8::from(repl.backlog.is_some()),
        );
    }

    pub(super) fn lag_s(&self, replica: &super::replication::ReplicaLink, now: Ms) -> i64 {
        // A replica that is still being sent the data never acknowledged anything. Engines subtract whole seconds of their clock.
        let lag = if replica.online { now / 1000 - (replica.heard_ms / 1000).min(now / 1000) } else { 0 };
        i64::try_from(lag).unwrap_or(i64::MAX)
    }

    pub(super) fn down_s(&self, now: Ms) -> u64 {
        self.repl.source.as_ref().map_or(0, |source| (now / 1000).saturating_sub(source.down_since_ms / 1000))
    }

    pub(super) fn cluster_info(&self) -> String {
        let Some(cluster) = &self.cluster else { return String::new() };
        let assigned: u32 = cluster.nodes.iter().map(|node| node.slots.len()).sum();
        let of = |test: fn(&super::cluster::Node) -> bool| -> u32 {
            cluster.nodes.iter().filter(|node| test(node)).map(|node| node.slots.len()).sum()
        };
        format!(
            "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{}\r\ncluster_slots_pfail:{}\r\n\
             cluster_slots_fail:{}\r\ncluster_known_nodes:{}\r\ncluster_size:{}\r\ncluster_current_epoch:{}\r\n\
             cluster_my_epoch:{}\r\n",
            if cluster.ok { "ok" } else { "fail" },
            of(|node| !node.fail && !node.pfail),
            of(|node| node.pfail),
            of(|node| node.fail),
            cluster.nodes.len(),
            cluster.size,
            cluster.current_epoch,
            cluster.my_primary().map_or(cluster.me().epoch, |node| node.epoch),
        )
    }

    pub(super) fn cluster_nodes(&self) -> String {
        let Some(cluster) = &self.cluster else { return String::new() };
        let mut text = String::with_capacity(cluster.nodes.len() * 120);
        for node in &cluster.nodes {
            let myself = node.id == cluster.me().id;
            let mut flags: Vec<&str> = Vec::new();
            if myself {
                flags.push("myself");
            }
            if !node.handshake {
                flags.push(if node.replica { "slave" } else { "master" });
            }
            for (has, flag) in [
                (node.pfail, "fail?"),
                (node.fail, "fail"),
                (node.handshake, "handshake"),
                (node.noaddr, "noaddr"),
            ] {
                if has {
                    flags.push(flag);
                }
            }
            let primary = node.primary.filter(|_| node.replica).and_then(|id| cluster.node(id));
            let epoch = primary.unwrap_or(node).epoch;
            let _ = write!(text, "{} ", node.id);
            let _ = if node.noaddr {
                write!(text, ":0@0")
            } else {
                write!(text, "{}:{}@{}", node.addr.ip, node.addr.port, node.addr.bus_port)
            };
            let _ = write!(text, " {} ", flags.join(","));
            let _ = match node.primary.filter(|_| node.replica) {
                Some(id) => write!(text, "{id}"),
                None => write!(text, "-"),
            };
            let link = if myself || node.link.is_some() { "connected" } else { "disconnected" };
            let _ = write!(text, " {} {} {epoch} {link}", node.ping_sent.unwrap_or(0), node.pong_ms);
            for (first, last) in node.slots.ranges() {
                let _ =
                    if first == last { write!(text, " {first}") } else { write!(text, " {first}-{last}") };
            }
            if myself {
                for (slot, to) in &cluster.migrating {
                    let _ = write!(text, " [{slot}->-{to}]");
                }
                for (slot, from) in &cluster.importing {
                    let _ = write!(text, " [{slot}-<-{from}]");
                }
            }
            text.push('\n');
        }
        text
    }
}
