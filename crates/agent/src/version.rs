//! What an engine can do, by its version.

use kagami_protocol::engine_text;
use std::fmt;

/// An engine and its version. A Valkey can do whatever a Redis 7.2 can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `redis` or `valkey`.
    pub kind: String,
    /// Major, minor, patch.
    pub numbers: [u16; 3],
}

impl Version {
    /// Reads what `--version` prints.
    pub fn read(text: &str) -> Option<Self> {
        engine_text::server_version(text).map(|(kind, numbers)| Self { kind, numbers })
    }

    fn at_least(&self, major: u16, minor: u16) -> bool {
        (self.numbers[0], self.numbers[1]) >= (major, minor)
    }

    /// ACL rules for channels (`&*`).
    pub fn has_acl_channels(&self) -> bool {
        self.at_least(6, 2)
    }

    /// `CLIENT PAUSE … WRITE`, which leaves reads and the agent's own commands alone.
    pub fn has_write_pause(&self) -> bool {
        self.at_least(6, 2)
    }

    /// `CLUSTER ADDSLOTSRANGE`.
    pub fn has_slot_ranges(&self) -> bool {
        self.at_least(7, 0)
    }

    /// `CONFIG SET` of several directives, all or nothing.
    pub fn has_config_set_many(&self) -> bool {
        self.at_least(7, 0)
    }

    /// `cluster-announce-hostname`.
    pub fn has_announced_hostname(&self) -> bool {
        self.at_least(7, 0)
    }

    /// `cluster-port`.
    pub fn has_cluster_port(&self) -> bool {
        self.at_least(7, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{} {major}.{minor}.{patch}", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_follow_the_version() {
        let of = |text: &str| Version::read(text).unwrap();
        let old = of("Redis server v=6.0.16 sha=0");
        assert!(!old.has_acl_channels() && !old.has_write_pause() && !old.has_slot_ranges());
        let seed = of("Redis server v=6.2.14 sha=0");
        assert!(seed.has_acl_channels() && seed.has_write_pause() && !seed.has_slot_ranges());
        let valkey = of("Valkey server v=9.1.2 sha=0");
        assert!(valkey.has_slot_ranges() && valkey.has_config_set_many() && valkey.has_cluster_port());
        assert_eq!(valkey.to_string(), "valkey 9.1.2");
    }
}
