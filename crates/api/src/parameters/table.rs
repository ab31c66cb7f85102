//! The table of all parameters.

use super::Family::{Redis6, Redis7, Valkey7, Valkey8, Valkey9};
use super::{Allowed, Effect, Family, Parameter};

pub(super) const MAX: i64 = i64::MAX;
/// Where ElastiCache names no upper bound and every engine has this one.
pub(super) const INT: i64 = i32::MAX as i64;
const YES_NO: Allowed = Allowed::Words(&["yes", "no"]);
const POLICIES: Allowed = Allowed::Words(&[
    "volatile-lru",
    "allkeys-lru",
    "volatile-lfu",
    "allkeys-lfu",
    "volatile-random",
    "allkeys-random",
    "volatile-ttl",
    "noeviction",
]);

const fn number(name: &'static str, default: &'static str, from: i64, to: i64) -> Parameter {
    directive(name, default, Allowed::Range(from, to))
}

const fn switch(name: &'static str, default: &'static str) -> Parameter {
    directive(name, default, YES_NO)
}

const fn directive(name: &'static str, default: &'static str, allowed: Allowed) -> Parameter {
    Parameter {
        name,
        default,
        allowed,
        modifiable: true,
        needs_restart: false,
        effect: Effect::Directive,
        since: Family::Redis6,
        until: Family::Valkey9,
    }
}

/// A parameter that ElastiCache shows and does not let anybody modify.
const fn fixed(name: &'static str, default: &'static str) -> Parameter {
    let mut parameter = directive(name, default, Allowed::Empty);
    parameter.modifiable = false;
    parameter.effect = Effect::Fixed;
    parameter
}

impl Parameter {
    const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    const fn needs_restart(mut self) -> Self {
        self.needs_restart = true;
        self
    }

    const fn in_families(mut self, since: Family, until: Family) -> Self {
        self.since = since;
        self.until = until;
        self
    }
}

const CLOSE_ON_REPLICA_WRITE: &str = "only no is met here: an open engine answers a write to a replica with an error and keeps the connection. Set it to no or leave it out.";
const RENAME_COMMANDS: &str = "only the empty value is met here: commands are not renamed. Leave it out.";

const NO_OTHER_USERS: &str =
    "it is about users that a template makes; this version has none, and the user default has every channel";
const ADDRESSES: &str = "without encryption in transit both values name addresses";

const LUA_REPLICATE_COMMANDS: &str =
    "only yes is met here: the engine always replicates what a script did, not the script. Leave it out.";

/// All parameters. One that stands twice has different defaults in different families.
pub(super) const ALL: &[Parameter] = &[
    number("acllog-max-len", "128", 1, 10_000),
    directive("acl-pubsub-default", "allchannels", Allowed::Words(&["allchannels", "resetchannels"]))
        .effect(Effect::MetByItself(NO_OTHER_USERS)),
    switch("activedefrag", "no"),
    number("active-defrag-cycle-max", "75", 1, 75),
    number("active-defrag-cycle-min", "5", 1, 75),
    number("active-defrag-ignore-bytes", "104857600", 1_048_576, MAX),
    number("active-defrag-max-scan-fields", "1000", 1, 1_000_000),
    number("active-defrag-threshold-lower", "10", 1, 100),
    number("active-defrag-threshold-upper", "100", 1, 100),
    number("active-expire-effort", "1", 1, 10),
    switch("activerehashing", "yes").needs_restart(),
    fixed("appendfsync", "everysec"),
    fixed("appendonly", "no"),
    number("client-output-buffer-limit-normal-hard-limit", "0", 0, MAX).effect(Effect::OutputBuffer),
    number("client-output-buffer-limit-normal-soft-limit", "0", 0, MAX).effect(Effect::OutputBuffer),
    number("client-output-buffer-limit-normal-soft-seconds", "0", 0, MAX).effect(Effect::OutputBuffer),
    number("client-output-buffer-limit-pubsub-hard-limit", "33554432", 0, MAX).effect(Effect::OutputBuffer),
    number("client-output-buffer-limit-pubsub-soft-limit", "8388608", 0, MAX).effect(Effect::OutputBuffer),
    number("client-output-buffer-limit-pubsub-soft-seconds", "60", 0, MAX).effect(Effect::OutputBuffer),
    fixed("client-output-buffer-limit-replica-hard-limit", ""),
    fixed("client-output-buffer-limit-replica-soft-limit", ""),
    fixed("client-output-buffer-limit-replica-soft-seconds", "60"),
    number("client-query-buffer-limit", "1073741824", 1_048_576, 1_073_741_824),
    switch("close-on-replica-write", "yes").effect(Effect::Only("no", CLOSE_ON_REPLICA_WRITE)),
    switch("cluster-allow-pubsubshard-when-down", "yes").in_families(Redis7, Valkey9),
    switch("cluster-allow-reads-when-down", "no"),
    number("cluster-databases", "1", 1, 10_000)
        .in_families(Valkey9, Valkey9)
        .effect(Effect::DirectiveIfGiven)
        .needs_restart(),
    switch("cluster-enabled", "no").effect(Effect::ClusterMode).needs_restart(),
    directive("cluster-preferred-endpoint-type", "tls-dynamic", Allowed::Words(&["ip", "tls-dynamic"]))
        .in_families(Redis7, Valkey9)
        .effect(Effect::MetByItself(ADDRESSES)),
    switch("cluster-require-full-coverage", "no"),
    number("databases", "16", 1, 10_000).effect(Effect::DirectiveUnclustered).needs_restart(),
    number("hash-max-listpack-entries", "512", 0, MAX).in_families(Redis7, Valkey9),
    number("hash-max-listpack-value", "64", 0, MAX).in_families(Redis7, Valkey9),
    number("hash-max-ziplist-entries", "512", 0, MAX).in_families(Redis6, Redis6),
    number("hash-max-ziplist-value", "64", 0, MAX).in_families(Redis6, Redis6),
    number("hll-sparse-max-bytes", "3000", 1, 16_000),
    switch("latency-tracking", "no").in_families(Redis7, Valkey9),
    switch("lazyfree-lazy-eviction", "no").in_families(Redis6, Valkey7),
    switch("lazyfree-lazy-expire", "no").in_families(Redis6, Valkey7),
    switch("lazyfree-lazy-server-del", "no").in_families(Redis6, Valkey7),
    switch("lazyfree-lazy-user-del", "no").in_families(Redis6, Valkey7),
    number("lfu-decay-time", "1", 0, INT),
    number("lfu-log-factor", "10", 1, INT),
    number("list-compress-depth", "0", 0, INT),
    fixed("list-max-listpack-size", "-2").in_families(Redis7, Valkey9),
    fixed("list-max-ziplist-size", "-2").in_families(Redis6, Redis6),
    switch("lua-replicate-commands", "yes")
        .in_families(Redis6, Redis6)
        .effect(Effect::Only("yes", LUA_REPLICATE_COMMANDS)),
    fixed("lua-time-limit", "5000"),
    fixed("maxclients", ""),
    fixed("maxmemory", ""),
    directive("maxmemory-policy", "volatile-lru", POLICIES),
    number("maxmemory-samples", "3", 1, INT).in_families(Redis6, Redis6),
    // ElastiCache names no upper bound; engines refuse more than 64 from Redis 7.4 on.
    number("maxmemory-samples", "3", 1, 64).in_families(Redis7, Valkey9),
    number("min-replicas-max-lag", "10", 0, INT),
    number("min-replicas-to-write", "0", 0, INT),
    directive("notify-keyspace-events", "", Allowed::Letters("KEg$lshzxeAtdmn")),
    number("proto-max-bulk-len", "536870912", 1_048_576, 536_870_912),
    directive("rename-commands", "", Allowed::Empty).effect(Effect::Only("", RENAME_COMMANDS)),
    number("repl-backlog-size", "1048576", 16_384, MAX)
        .in_families(Redis6, Valkey7)
        .effect(Effect::DirectiveIfGiven),
    number("repl-backlog-size", "10485760", 16_384, MAX)
        .in_families(Valkey8, Valkey9)
        .effect(Effect::DirectiveIfGiven),
    number("repl-backlog-ttl", "3600", 0, MAX),
    fixed("repl-timeout", "60"),
    fixed("replica-allow-chaining", "no"),
    fixed("replica-ignore-maxmemory", "yes"),
    fixed("replica-lazy-flush", "no").in_families(Redis6, Valkey7),
    number("reserved-memory-percent", "25", 0, 100).effect(Effect::ReservedMemory),
    number("set-max-intset-entries", "512", 0, MAX),
    number("slowlog-log-slower-than", "10000", -1, MAX),
    number("slowlog-max-len", "128", 0, MAX),
    number("stream-node-max-bytes", "4096", 0, MAX),
    number("stream-node-max-entries", "100", 0, MAX),
    number("tcp-keepalive", "300", 0, INT),
    directive("timeout", "0", Allowed::ZeroOrRange(20, INT)),
    number("tracking-table-max-keys", "1000000", 1, 100_000_000),
    number("zset-max-listpack-entries", "128", 0, MAX).in_families(Redis7, Valkey9),
    number("zset-max-listpack-value", "64", 0, MAX).in_families(Redis7, Valkey9),
    number("zset-max-ziplist-entries", "128", 0, MAX).in_families(Redis6, Redis6),
    number("zset-max-ziplist-value", "64", 0, MAX).in_families(Redis6, Redis6),
];
