//! What an engine can do, by version, and the configuration it is started with.

use crate::desired::{ClusterMode, Desired, EngineKind, EngineVersion};
use kagami_api::parameters::{self, Effect, Parameter};
use kagami_protocol::Config;
use std::collections::BTreeMap;

/// What an engine of a version can do (`reference: engine mechanics, measured`; each row is a fact, not a wish).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `ADDSLOTSRANGE`, subcommand ACLs such as `-config|set`, `CONFIG SET` of many (Redis 7.0).
    pub seven: bool,
    /// `cluster-port` (Redis 7.0): a bus port of the group's own keeps a reused address from merging two clusters.
    pub bus_port: bool,
    /// `cluster-announce-hostname` (Redis 7.0).
    pub hostname: bool,
    /// Sharded pub/sub (Redis 7.0).
    pub sharded_pubsub: bool,
}

/// The abilities of a version; every Valkey descends from Redis 7.2.
pub fn abilities(kind: EngineKind, version: EngineVersion) -> Abilities {
    let seven = kind == EngineKind::Valkey || version >= EngineVersion { major: 7, minor: 0 };
    Abilities { seven, bus_port: seven, hostname: seven, sharded_pubsub: seven }
}

/// The engines' own election starts after this long without a primary; they are the net under the operator (P6).
pub(crate) const NODE_TIMEOUT_MS: u64 = 4_000;

/// The directives of a group's engines, in order. What a parameter group says comes last and wins where it may.
pub fn directives(desired: &Desired) -> Vec<(String, String)> {
    let abilities = abilities(desired.engine.kind, desired.engine.version);
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
    put("port", &desired.port.to_string());
    put("bind", "0.0.0.0");
    // The pod network and NetworkPolicy decide who may connect; the client's user has no password unless one is asked for.
    put("protected-mode", "no");
    put("tcp-backlog", "511");
    put("maxmemory", &desired.maxmemory_bytes.to_string());
    // Of the node type, as on ElastiCache. Where a container may open fewer files, the engine takes as many as it can and says so.
    if let Some(maxclients) = desired.maxclients {
        put("maxclients", &maxclients.to_string());
    }
    // A restarted replica should resume, not copy everything again: a backlog of a megabyte is gone in moments.
    put("repl-backlog-size", "64mb");
    put("repl-diskless-sync", "yes");
    // Waiting for more replicas costs five seconds at the default; there is at most a handful here.
    put("repl-diskless-sync-delay", "0");
    put("repl-timeout", "60");
    // A silent machine resets no connection: that a ping is missing tells its replicas within moments, not after a minute.
    put("repl-ping-replica-period", "1");
    put("save", "\"\"");
    if desired.storage.is_some() {
        put("appendonly", "yes");
        put("appendfsync", "everysec");
        put("aof-use-rdb-preamble", "yes");
    } else {
        put("appendonly", "no");
        // A node without a volume keeps nothing on disk, not even what a full sync left there.
        put("rdb-del-sync-files", "yes");
    }
    if desired.cluster_mode == ClusterMode::Enabled {
        put("cluster-enabled", "yes");
        put("cluster-node-timeout", &NODE_TIMEOUT_MS.to_string());
        put("cluster-require-full-coverage", "no");
        put("cluster-replica-validity-factor", "0");
        put("cluster-migration-barrier", "999");
        put("cluster-allow-replica-migration", "no");
        if abilities.bus_port {
            put("cluster-port", &desired.bus_port.to_string());
        }
        if abilities.hostname {
            put("cluster-preferred-endpoint-type", "ip");
        }
    }
    for (name, value) in &desired.parameters {
        if !RESERVED_DIRECTIVES.contains(&name.as_str()) {
            lines.retain(|(present, _)| present != name);
            lines.push((name.clone(), value.clone()));
        }
    }
    lines
}

/// What a parameter group decides: the directives that `CONFIG SET` takes while the engine runs, and what an agent reports
/// of it once they are in force. Those that need a new start are in [`Config::fixed`].
pub fn config(desired: &Desired) -> (BTreeMap<String, String>, Config) {
    let mut running: BTreeMap<String, String> = BTreeMap::new();
    let mut fixed = BTreeMap::new();
    let parameters: Vec<&Parameter> =
        parameters::of(desired.family).filter(|parameter| parameter.modifiable).collect();
    // Taken out of its group again, a parameter that is empty by default must become empty again.
    for parameter in &parameters {
        if parameter.effect == Effect::Directive && parameter.default.is_empty() && !parameter.needs_restart {
            running.insert(parameter.name.to_owned(), String::new());
        }
    }
    for (name, value) in directives(desired) {
        let value = if value == "\"\"" { String::new() } else { value };
        if let Some(class) = name.strip_prefix("client-output-buffer-limit ") {
            // A class is a line of a file, and a part of one value here.
            let limits = running.entry("client-output-buffer-limit".to_owned()).or_default();
            let separator = if limits.is_empty() { "" } else { " " };
            limits.push_str(&format!("{separator}{class} {value}"));
        } else if name == "maxmemory" {
            running.insert(name, value);
        } else if let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name)
            && !RESERVED_DIRECTIVES.contains(&name.as_str())
        {
            let to = if parameter.needs_restart { &mut fixed } else { &mut running };
            to.insert(name, value);
        }
    }
    let text: Vec<String> = running.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    let config = Config { running: format!("{:016x}", fnv(text.concat().as_bytes())), fixed };
    (running, config)
}

/// FNV-1a: the same in every release and on every machine, which is all that is asked of it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Directives that a parameter group never decides here: they are how Kagami keeps its promises.
const RESERVED_DIRECTIVES: [&str; 13] = [
    "port",
    "bind",
    "protected-mode",
    "maxmemory",
    "maxclients",
    "appendonly",
    "appendfsync",
    "save",
    "cluster-enabled",
    "cluster-port",
    "cluster-node-timeout",
    "repl-diskless-sync-delay",
    "repl-timeout",
];

/// The rules of the client's user: everything but what ElastiCache restricts (its table of restricted commands).
///
/// Before Redis 7.0 an ACL cannot deny a subcommand, only allow one, so `CLUSTER` and `CLIENT` are denied and their
/// harmless subcommands are allowed again.
pub fn client_acl(desired: &Desired) -> String {
    let abilities = abilities(desired.engine.kind, desired.engine.version);
    let mut rules = vec!["on", "nopass", "~*", "&*", "+@all"];
    rules.extend([
        "-config",
        "-debug",
        "-migrate",
        "-psync",
        "-sync",
        "-replicaof",
        "-slaveof",
        "-shutdown",
        "-save",
        "-bgsave",
        "-bgrewriteaof",
        "-acl",
        "+acl|whoami",
        "+acl|cat",
        "+acl|genpass",
        "-replconf",
        "-failover",
        "-module",
    ]);
    // The pause of writes is the fence of a primary that is being replaced (P2): nobody else begins or lifts it.
    if abilities.seven {
        rules.extend(["-client|pause", "-client|unpause"]);
    } else {
        rules.extend([
            "-client",
            "+client|caching",
            "+client|getname",
            "+client|getredir",
            "+client|id",
            "+client|info",
            "+client|kill",
            "+client|list",
            "+client|reply",
            "+client|setname",
            "+client|tracking",
            "+client|trackinginfo",
            "+client|unblock",
        ]);
    }
    if abilities.seven {
        rules.extend([
            "-cluster|addslots",
            "-cluster|addslotsrange",
            "-cluster|bumpepoch",
            "-cluster|delslots",
            "-cluster|delslotsrange",
            "-cluster|failover",
            "-cluster|flushslots",
            "-cluster|forget",
            "-cluster|meet",
            "-cluster|replicate",
            "-cluster|reset",
            "-cluster|saveconfig",
            "-cluster|set-config-epoch",
            "-cluster|setslot",
        ]);
    } else {
        rules.extend([
            "-cluster",
            "+cluster|info",
            "+cluster|nodes",
            "+cluster|slots",
            "+cluster|keyslot",
            "+cluster|myid",
            "+cluster|countkeysinslot",
            "+cluster|getkeysinslot",
            "+cluster|replicas",
            "+cluster|slaves",
            "+cluster|count-failure-reports",
        ]);
    }
    rules.join(" ")
}
