//! What an engine's version can do, and the directives that the model follows.

use super::interface::{EngineConfig, Kind};
use super::types::Addr;

/// What differs between versions, as far as Kagami meets it. Each row was seen on the real engine
/// (`tests/conformance.rs`), or is said by its release notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// `ADDSLOTSRANGE`, `DELSLOTSRANGE` (7.0).
    pub(crate) seven: bool,
    /// `FORGET` spreads by gossip, shards have ids, slots that their owner no longer claims may be taken (7.2).
    pub(crate) shards: bool,
    /// A manual failover starts from a clean election (Valkey 8.1); before, old votes may win a fake one.
    pub(crate) clean_election: bool,
    /// A voter refuses a second vote about the same primary for twice the node timeout (not since Valkey 8.1).
    pub(crate) voted_time: bool,
    /// The best replica is elected without the delay of half a second to a second (Valkey 9.1).
    pub(crate) quick_election: bool,
    /// A node at whose address another identity answers has failed at once; one that opens no connection is sent a
    /// MEET again, so that a living node is not forgotten for long (Valkey 8.1).
    pub(crate) watches_inbound: bool,
    /// A forced failover starts at once, not with the next cron (Valkey 8.1).
    pub(crate) force_at_once: bool,
    /// A primary that loads a snapshot keeps the history in it as its second one (7.0).
    pub(crate) loads_history: bool,
    /// A primary that lost its last slot follows the new owner only within its shard (Valkey 8.0).
    pub(crate) follows_own_shard: bool,
    /// `SETSLOT` is replicated (Valkey 8.0).
    pub(crate) setslot_replicated: bool,
}

impl Abilities {
    pub(crate) fn of(config: &EngineConfig) -> Self {
        let numbers = (config.version.0, config.version.1);
        let since = |major, minor| numbers >= (major, minor);
        let valkey = |major, minor| config.kind == Kind::Valkey && numbers >= (major, minor);
        Self {
            seven: since(7, 0),
            shards: since(7, 2),
            clean_election: valkey(8, 1),
            voted_time: !valkey(8, 1),
            quick_election: valkey(9, 1),
            watches_inbound: valkey(8, 1),
            force_at_once: valkey(8, 1),
            loads_history: since(7, 0),
            follows_own_shard: valkey(8, 0),
            setslot_replicated: valkey(8, 0),
        }
    }
}

/// The directives that the model follows; the defaults are as Kagami configures its engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) own: Addr,
    pub(crate) node_timeout_ms: u64,
    pub(crate) full_coverage: bool,
    pub(crate) reads_when_down: bool,
    /// 0: data of any age may be elected.
    pub(crate) validity_factor: u64,
    pub(crate) no_failover: bool,
    pub(crate) append_only: bool,
    pub(crate) repl_timeout_ms: u64,
    pub(crate) ping_every_ms: u64,
    pub(crate) serve_stale: bool,
    pub(crate) min_replicas: u32,
    pub(crate) min_replicas_lag_s: u64,
    /// How long a full sync transfers.
    pub(crate) sync_ms: u64,
}

impl Settings {
    pub(crate) fn of(config: &EngineConfig, can: Abilities) -> Self {
        Self {
            own: Addr { ip: config.ip, port: config.port, bus_port: config.bus_port },
            node_timeout_ms: config.node_timeout_ms,
            full_coverage: false,
            reads_when_down: false,
            validity_factor: 0,
            no_failover: !config.electable,
            append_only: config.append_only,
            repl_timeout_ms: config.repl_timeout_ms,
            ping_every_ms: config.ping_every_ms,
            serve_stale: config.stale_reads,
            min_replicas: 0,
            min_replicas_lag_s: 10,
            // Measured with little data; the newest Valkey polls the download from a cron of one second.
            sync_ms: if can.quick_election { 1_000 } else { 60 },
        }
    }

    /// Sets one directive; says whether the model has it.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> bool {
        let yes = value.eq_ignore_ascii_case("yes");
        let number = || value.parse::<u64>().unwrap_or(0);
        match name {
            "cluster-node-timeout" => self.node_timeout_ms = number(),
            "cluster-require-full-coverage" => self.full_coverage = yes,
            "cluster-allow-reads-when-down" => self.reads_when_down = yes,
            "cluster-replica-validity-factor" => self.validity_factor = number(),
            "cluster-replica-no-failover" => self.no_failover = yes,
            "appendonly" => self.append_only = yes,
            "repl-timeout" => self.repl_timeout_ms = number().saturating_mul(1000),
            "repl-ping-replica-period" => self.ping_every_ms = number().saturating_mul(1000),
            "replica-serve-stale-data" => self.serve_stale = yes,
            "min-replicas-to-write" => self.min_replicas = u32::try_from(number()).unwrap_or(u32::MAX),
            "min-replicas-max-lag" => self.min_replicas_lag_s = number(),
            _ => return false,
        }
        true
    }

    /// What `CONFIG GET` answers for a directive of the model.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        Some(match name {
            "cluster-node-timeout" => self.node_timeout_ms.to_string(),
            "cluster-require-full-coverage" => word(self.full_coverage),
            "cluster-allow-reads-when-down" => word(self.reads_when_down),
            "cluster-replica-validity-factor" => self.validity_factor.to_string(),
            "cluster-replica-no-failover" => word(self.no_failover),
            "appendonly" => word(self.append_only),
            "repl-timeout" => (self.repl_timeout_ms / 1000).to_string(),
            "replica-serve-stale-data" => word(self.serve_stale),
            "min-replicas-to-write" => self.min_replicas.to_string(),
            "min-replicas-max-lag" => self.min_replicas_lag_s.to_string(),
            _ => return None,
        })
    }
}
