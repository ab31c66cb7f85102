//! The words of the engine, read: `INFO`, `CLUSTER INFO`, `CLUSTER NODES`.
//!
//! Tolerant on purpose: releases add fields and sections, so whatever is not understood is passed over, and nothing
//! here fails or panics on any text.

use crate::{ClusterNode, EngineView, Link, ReplicaLink, Role};
use std::collections::BTreeMap;

/// `field:value` lines, as `INFO` and `CLUSTER INFO` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads an answer; several may be read one after the other with [`Fields::add`].
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut fields = Self::default();
        fields.add(text);
        fields
    }

    /// Reads a further section into the same fields.
    pub fn add(&mut self, text: &str) {
        for line in text.lines() {
            if line.starts_with('#') {
                continue;
            }
            if let Some((name, value)) = line.split_once(':') {
                self.0.insert(name.trim().to_owned(), value.trim_end_matches('\r').to_owned());
            }
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|value| value.trim().parse().ok())
    }

    /// A field that is not negative.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.trim().parse().ok())
    }

    /// Whether a field is `1`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.number(name) == Some(1)
    }

    /// Fields whose name is the prefix and a number (`db0`, `slave1`), with that number, by number.
    pub fn numbered<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (u64, &'a str)> {
        let mut found: Vec<(u64, &str)> = self
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.parse().ok()?, value.as_str())))
            .collect();
        found.sort_unstable();
        found.into_iter()
    }
}

/// What `INFO` says about the engine itself, its replication, memory, persistence and keyspace.
///
/// `complete` and `cluster` are not the engine's words and keep their default.
#[must_use]
pub fn engine_view(info: &Fields) -> EngineView {
    let role = match info.get("role") {
        Some("master" | "primary") => Some(Role::Primary),
        Some("slave" | "replica") => Some(Role::Replica),
        _ => None,
    };
    let word = |name: &str| info.get(name).unwrap_or_default().to_owned();
    let offset_field = if role == Some(Role::Replica) { "slave_repl_offset" } else { "master_repl_offset" };
    // The engine prints forty zeros where there is no second history.
    let replid2 = info.get("master_replid2").filter(|id| id.bytes().any(|b| b != b'0')).unwrap_or_default();
    EngineView {
        version: info
            .get("valkey_version")
            .or_else(|| info.get("redis_version"))
            .unwrap_or_default()
            .to_owned(),
        role,
        replid: word("master_replid"),
        replid2: replid2.to_owned(),
        offset: info.number(offset_field).or_else(|| info.number("master_repl_offset")).unwrap_or(0),
        second_offset: info.number("second_repl_offset").unwrap_or(-1),
        loading: info.flag("loading") || info.flag("async_loading"),
        complete: false,
        keys: keys(info),
        unwritten: false,
        used_memory_bytes: info.number("used_memory").unwrap_or(0),
        write_failed: ["aof_last_write_status", "rdb_last_bgsave_status"]
            .into_iter()
            .any(|field| info.get(field) == Some("err")),
        link: (role == Some(Role::Replica)).then(|| link(info)),
        replicas: info.numbered("slave").filter_map(|(_, line)| replica_link(line)).collect(),
        cluster: None,
        open_slots: Vec::new(),
    }
}

fn link(info: &Fields) -> Link {
    let up = info.get("master_link_status") == Some("up");
    let down_s = info.count("master_link_down_since_seconds").unwrap_or(0);
    Link {
        host: info.get("master_host").unwrap_or_default().to_owned(),
        port: info.number("master_port").and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        up,
        syncing: info.flag("master_sync_in_progress"),
        down_ms: if up { 0 } else { down_s.saturating_mul(1000) },
        quiet: None,
        parted: None,
        lost: None,
    }
}

/// The sum over all databases of `db0:keys=12,expires=0,…`.
fn keys(info: &Fields) -> u64 {
    info.numbered("db")
        .filter_map(|(_, line)| pairs(line).find(|(name, _)| *name == "keys")?.1.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// `ip=10.0.0.2,port=6379,state=online,offset=14,lag=1`.
fn replica_link(line: &str) -> Option<ReplicaLink> {
    let mut link = ReplicaLink { lag_s: -1, ..ReplicaLink::default() };
    let mut any = false;
    for (name, value) in pairs(line) {
        match name {
            "ip" => link.host = value.to_owned(),
            "port" => link.port = value.parse().unwrap_or(0),
            "state" => link.online = value == "online",
            "offset" => link.offset = value.parse().unwrap_or(0),
            "lag" => link.lag_s = value.parse().unwrap_or(-1),
            _ => continue,
        }
        any = true;
    }
    any.then_some(link)
}

fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split(',').filter_map(|pair| pair.split_once('='))
}

/// What `CLUSTER INFO` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// `cluster_state:ok`.
    pub ok: bool,
    /// `cluster_current_epoch`.
    pub current_epoch: u64,
    /// `cluster_my_epoch`.
    pub my_epoch: u64,
    /// `cluster_known_nodes`.
    pub known_nodes: u64,
    /// `cluster_slots_assigned`.
    pub slots_assigned: u64,
}

/// Reads `CLUSTER INFO`.
#[must_use]
pub fn cluster_info(text: &str) -> ClusterInfo {
    let fields = Fields::read(text);
    ClusterInfo {
        ok: fields.get("cluster_state") == Some("ok"),
        current_epoch: fields.count("cluster_current_epoch").unwrap_or(0),
        my_epoch: fields.count("cluster_my_epoch").unwrap_or(0),
        known_nodes: fields.count("cluster_known_nodes").unwrap_or(0),
        slots_assigned: fields.count("cluster_slots_assigned").unwrap_or(0),
    }
}

/// Reads `CLUSTER NODES`; lines that are none are passed over.
#[must_use]
pub fn cluster_nodes(text: &str) -> Vec<ClusterNode> {
    text.lines().filter_map(cluster_node).collect()
}

/// `ID IP:PORT@BUS[,HOSTNAME[,AUX=VALUE]…] FLAGS PRIMARY-ID PING PONG EPOCH LINK-STATE [SLOTS…]`
fn cluster_node(line: &str) -> Option<ClusterNode> {
    let mut words = line.split_ascii_whitespace();
    let id = words.next()?;
    let (host, port) = node_address(words.next()?);
    let flags: Vec<&str> = words.next()?.split(',').collect();
    let primary_id = words.next()?;
    let (_ping, _pong) = (words.next()?, words.next()?);
    let epoch = words.next()?.parse().ok()?;
    let connected = words.next()? == "connected";
    let has = |flag: &str| flags.contains(&flag);
    let mut node = ClusterNode {
        id: id.to_owned(),
        host,
        port,
        myself: has("myself"),
        primary: has("master") || has("primary"),
        fail: has("fail"),
        pfail: has("fail?"),
        handshake: has("handshake") || has("noaddr"),
        primary_id: (primary_id != "-").then(|| primary_id.to_owned()),
        connected,
        epoch,
        slots: Vec::new(),
        open_slots: Vec::new(),
    };
    for word in words {
        if word.starts_with('[') {
            node.open_slots.push(word.to_owned());
        } else if let Some(range) = slot_range(word) {
            node.slots.push(range);
        }
    }
    Some(node)
}

/// `ip:port@bus,hostname,aux=value` → ip and port. The IP may be IPv6, hence full of colons, or empty.
fn node_address(text: &str) -> (String, u16) {
    let address = text.split(',').next().unwrap_or_default();
    let client = address.rsplit_once('@').map_or(address, |(client, _bus)| client);
    match client.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(0)),
        None => (client.to_owned(), 0),
    }
}

fn slot_range(word: &str) -> Option<(u16, u16)> {
    match word.split_once('-') {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => word.parse().ok().map(|slot| (slot, slot)),
    }
}

/// The engine's name and version as `--version` prints it:
/// `Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=…` → `("redis", [7, 0, 15])`.
#[must_use]
pub fn server_version(text: &str) -> Option<(String, [u16; 3])> {
    let kind = text.split_ascii_whitespace().next()?.to_ascii_lowercase();
    let version = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u16>().ok());
    let major = numbers.next()??;
    let minor = numbers.next().flatten().unwrap_or(0);
    let patch = numbers.next().flatten().unwrap_or(0);
    Some((kind, [major, minor, patch]))
}

/// The ids in `CLIENT LIST` of clients that have been connected for at least so many seconds. Not replicas and primaries (flags `S`,
/// `M`), nor whoever comes by the unix socket (`U`), which is the agent.
pub fn former_clients(list: &str, seconds: u64) -> impl Iterator<Item = &str> {
    list.lines().filter_map(move |line| {
        let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let theirs = !field("flags")?.contains(['S', 'M', 'U']);
        let age: u64 = field("age")?.parse().ok()?;
        (theirs && age >= seconds).then(|| field("id")).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIMARY_7_0: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n\r\n# Memory\r\nused_memory:2049792\r\n\
        used_memory_human:1.95M\r\n\r\n# Persistence\r\nloading:0\r\nasync_loading:0\r\n\r\n# Replication\r\nrole:master\r\n\
        connected_slaves:2\r\nslave0:ip=127.0.0.1,port=7001,state=online,offset=1234,lag=0\r\n\
        slave1:ip=10.0.0.3,port=7002,state=wait_bgsave,offset=0,lag=3\r\nmaster_failover_state:no-failover\r\n\
        master_replid:8f1c0a6f3b6f8df1d4a5b4d4bfcf0f0c7cb05a11\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:1234\r\nsecond_repl_offset:-1\r\n\r\n\
        # Keyspace\r\ndb0:keys=10,expires=1,avg_ttl=0\r\ndb3:keys=5,expires=0,avg_ttl=0\r\n";

    #[test]
    fn a_primary_is_read() {
        let view = engine_view(&Fields::read(PRIMARY_7_0));
        assert_eq!(view.version, "7.0.15");
        assert_eq!(view.role, Some(Role::Primary));
        assert_eq!((view.offset, view.second_offset, view.replid2.as_str()), (1234, -1, ""));
        assert_eq!((view.keys, view.used_memory_bytes, view.loading), (15, 2_049_792, false));
        assert_eq!(view.link, None);
        assert!(!view.write_failed);
        for failed in ["rdb_last_bgsave_status:err\r\naof_last_write_status:ok", "aof_last_write_status:err"]
        {
            assert!(engine_view(&Fields::read(failed)).write_failed, "{failed}");
        }
        assert_eq!(view.replicas.len(), 2);
        assert_eq!(
            view.replicas[0],
            ReplicaLink { host: "127.0.0.1".into(), port: 7001, online: true, offset: 1234, lag_s: 0 }
        );
        assert!(!view.replicas[1].online);
    }

    #[test]
    fn a_replica_is_read_with_its_own_offset() {
        let text = "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379\r\nmaster_link_status:down\r\n\
            master_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:1\r\nslave_read_repl_offset:77\r\nslave_repl_offset:77\r\n\
            master_sync_total_bytes:176\r\nmaster_link_down_since_seconds:4\r\nslave_priority:100\r\nconnected_slaves:0\r\n\
            master_replid:8f1c0a6f3b6f8df1d4a5b4d4bfcf0f0c7cb05a11\r\n\
            master_replid2:9f1c0a6f3b6f8df1d4a5b4d4bfcf0f0c7cb05a11\r\nmaster_repl_offset:76\r\nsecond_repl_offset:70\r\n";
        let view = engine_view(&Fields::read(text));
        assert_eq!((view.role, view.offset, view.second_offset), (Some(Role::Replica), 77, 70));
        let link = view.link.unwrap();
        assert_eq!(
            (link.host.as_str(), link.port, link.up, link.syncing, link.down_ms),
            ("10.0.0.9", 6379, false, true, 4000)
        );
    }

    #[test]
    fn valkey_names_itself_and_redis_8_adds_a_type_to_replicas() {
        let text = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nrole:master\r\n\
            slave0:ip=::1,port=6380,state=online,offset=5,lag=1,type=replica\r\ndb0:keys=1,expires=0,avg_ttl=0,keys_with_volatile_items=0\r\n";
        let view = engine_view(&Fields::read(text));
        assert_eq!((view.version.as_str(), view.keys), ("9.1.2", 1));
        assert_eq!((view.replicas[0].host.as_str(), view.replicas[0].lag_s), ("::1", 1));
    }

    #[test]
    fn nodes_of_6_2_are_read() {
        let nodes = cluster_nodes(
            "07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected\n\
             67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n\
             e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 7000 [93-<-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f] [77->-e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca]\n",
        );
        assert_eq!(nodes.len(), 3);
        assert_eq!(nodes[0].primary_id.as_deref(), Some("e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca"));
        assert!(!nodes[0].primary && nodes[1].primary && nodes[2].myself && nodes[0].connected);
        assert_eq!(nodes[2].slots, [(0, 5460), (7000, 7000)]);
        let view = crate::ClusterView { nodes: nodes.clone(), ..crate::ClusterView::default() };
        let marks: Vec<_> = view.marks().map(|mark| (mark.slot, mark.importing, &mark.peer[..4])).collect();
        assert_eq!(marks, [(93, true, "292f"), (77, false, "e7d1")]);
        for other in ["[93]", "[x-<-a]", "[20000->-a]", "93->-a", "[93->-a"] {
            assert_eq!(crate::Mark::read(other), None, "{other}");
        }
        assert_eq!((nodes[1].host.as_str(), nodes[1].port, nodes[1].epoch), ("127.0.0.1", 30002, 2));
    }

    #[test]
    fn hostnames_aux_fields_ipv6_and_lost_addresses_are_read() {
        let id = "07c37dfeb235213a872192d90877d0cd55635b91";
        let one = |address: &str, flags: &str| {
            cluster_nodes(&format!("{id} {address} {flags} - 0 0 0 disconnected")).remove(0)
        };
        let host = one("10.1.2.3:6379@16379,dva-0001-001.example", "master");
        assert_eq!((host.host.as_str(), host.port, host.connected), ("10.1.2.3", 6379, false));
        let aux = one(
            "10.1.2.3:6379@16379,,tls-port=0,shard-id=69bc080733d1355567173199cff4a6a039a2f024",
            "myself,slave",
        );
        assert_eq!((aux.host.as_str(), aux.port, aux.myself), ("10.1.2.3", 6379, true));
        let v6 = one("fd00::1:2:6379@16379", "master,fail?");
        assert_eq!((v6.host.as_str(), v6.port, v6.pfail, v6.fail), ("fd00::1:2", 6379, true, false));
        let lost = one(":0@0", "master,noaddr,fail");
        assert_eq!((lost.host.as_str(), lost.port, lost.handshake, lost.fail), ("", 0, true, true));
        assert!(one("10.0.0.1:1@2", "handshake").handshake);
    }

    #[test]
    fn cluster_info_is_read() {
        let info = cluster_info(
            "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_known_nodes:6\r\n\
             cluster_size:3\r\ncluster_current_epoch:6\r\ncluster_my_epoch:2\r\ncluster_nodes_pfail:0\r\n",
        );
        assert_eq!(
            info,
            ClusterInfo { ok: true, current_epoch: 6, my_epoch: 2, known_nodes: 6, slots_assigned: 16384 }
        );
    }

    #[test]
    fn clients_of_then_are_told_from_those_who_came_since() {
        let list = "id=3 addr=/run/s:0 fd=8 name= age=90 idle=0 flags=U db=0\n\
                    id=4 addr=10.0.0.9:41000 fd=9 name=a age=90 idle=0 flags=N db=0 sub=0\n\
                    id=5 addr=10.0.0.8:6379 fd=10 name= age=90 idle=0 flags=M db=0\n\
                    id=6 addr=10.0.0.7:41000 fd=11 name= age=90 idle=0 flags=S db=0\n\
                    id=7 addr=10.0.0.9:41002 fd=12 name= age=7 idle=0 flags=P db=0\n\
                    id=8 addr=10.0.0.9:41003 fd=13 name= age=6 idle=0 flags=N db=0\n\
                    garbage\n";
        assert_eq!(former_clients(list, 7).collect::<Vec<_>>(), ["4", "7"]);
    }

    #[test]
    fn versions_are_read() {
        let of = |text| server_version(text);
        assert_eq!(
            of("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1"),
            Some(("redis".into(), [7, 0, 15]))
        );
        assert_eq!(of("Valkey server v=9.1.0-rc1 sha=0"), Some(("valkey".into(), [9, 1, 0])));
        assert_eq!(of("Redis server v=255.255.255 sha=0"), Some(("redis".into(), [255, 255, 255])));
        assert_eq!(of("no such thing"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = engine_view(&Fields::read(&text));
            let _ = cluster_nodes(&text);
            let _ = cluster_info(&text);
            let _ = server_version(&text);
            let _ = former_clients(&text, 0).count();
        }

        #[test]
        fn no_text_of_their_own_alphabet_makes_them_panic(text in "[a-z0-9:@,=\\[\\]<>?# \r\n.-]{0,400}") {
            let _ = engine_view(&Fields::read(&text));
            let _ = cluster_nodes(&text);
            let _ = server_version(&text);
        }

        #[test]
        fn a_printed_node_is_read_back(port in 1u16.., bus in 1u16.., epoch: u64, first in 0u16..8000, length in 0u16..8000) {
            let line = format!("{} 10.0.0.1:{port}@{bus} master - 0 1 {epoch} connected {first}-{}", "a".repeat(40), first + length);
            let nodes = cluster_nodes(&line);
            prop_assert_eq!((nodes[0].port, nodes[0].epoch), (port, epoch));
            prop_assert_eq!(&nodes[0].slots, &[(first, first + length)]);
        }
    }
}
