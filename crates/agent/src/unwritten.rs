//! Whether a primary has taken a write since it was started, pure. Where it is not sure it says that it has.

use crate::persistence::Persistence;

/// What the agent and replicas ask; whatever else was called counts as a write.
const HARMLESS: [&str; 14] = [
    "info", "ping", "auth", "hello", "acl", "client", "cluster", "command", "config", "replconf", "psync",
    "sync", "select", "wait",
];

/// Follows `INFO persistence` of one life, from the moment its data is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Unwritten {
    /// Its data is not loaded yet, or nobody has looked since.
    #[default]
    Unknown,
    /// The counters as they were when they were first seen; what was called before that is still to be asked.
    Seen(Counters),
    /// No command that could write was called before the counters were seen, and they stand still.
    Yes(Counters),
    /// A write was seen, or could not be excluded.
    No,
}

/// `rdb_changes_since_last_save` and `rdb_last_save_time`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    changes: i64,
    saved_at: i64,
}

impl Unwritten {
    /// Takes in `INFO persistence` of a primary that is not loading.
    pub fn poll(&mut self, info: &Persistence) {
        let (Some(changes), Some(saved_at)) = (info.changes, info.last_save_s) else {
            *self = Self::No;
            return;
        };
        let now = Counters { changes, saved_at };
        match self {
            Self::Unknown => *self = Self::Seen(now),
            Self::Seen(before) | Self::Yes(before) if *before != now => *self = Self::No,
            _ => {}
        }
    }

    /// Whether `INFO commandstats` is still to be asked.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Seen(_))
    }

    /// Takes in `INFO commandstats`, asked after the counters were seen.
    pub fn called(&mut self, info: &str) {
        let Self::Seen(counters) = self else { return };
        let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split([':', '|']).next());
        let only_harmless = names.into_iter().all(|name| HARMLESS.contains(&name));
        *self = if only_harmless { Self::Yes(counters.clone()) } else { Self::No };
    }

    /// No longer known: the role changed.
    pub fn lose(&mut self) {
        *self = Self::No;
    }

    /// Whether it is sure that nothing was written.
    pub fn yes(&self) -> bool {
        matches!(self, Self::Yes(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(changes: i64, saved_at: i64) -> Persistence {
        Persistence { changes: Some(changes), last_save_s: Some(saved_at), ..Persistence::default() }
    }

    #[test]
    fn a_primary_is_unwritten_until_its_counters_move() {
        let mut unwritten = Unwritten::default();
        // What an append-only file loads counts as changes; they are the beginning.
        unwritten.poll(&info(5, 1));
        assert!(unwritten.asks() && !unwritten.yes());
        unwritten.called("# Commandstats\ncmdstat_info:calls=3\ncmdstat_acl|setuser:calls=1\n");
        unwritten.poll(&info(5, 1));
        assert!(unwritten.yes());
        unwritten.poll(&info(6, 1));
        assert!(!unwritten.yes());
        unwritten.poll(&info(5, 1));
        assert!(!unwritten.yes());
    }

    #[test]
    fn a_command_before_the_first_look_may_have_written() {
        let mut unwritten = Unwritten::default();
        unwritten.poll(&info(5, 1));
        unwritten.called("cmdstat_set:calls=1\n");
        assert!(!unwritten.yes() && !unwritten.asks());
    }

    #[test]
    fn a_snapshot_resets_the_count_so_it_proves_nothing_any_more() {
        let mut unwritten = Unwritten::Yes(Counters { changes: 0, saved_at: 1 });
        unwritten.poll(&info(0, 2));
        assert!(!unwritten.yes());
    }
}
