//! The closed sets of words that stand in a spec or a status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a closed set of words that stand in a spec, with the text of each.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// All words of the set.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word as it is written in a spec or status.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The cluster mode.
    ClusterMode {
        /// The Redis Cluster protocol, one or more shards.
        Enabled = "enabled",
        /// Both ways for clients, on the way from disabled to enabled.
        Compatible = "compatible",
        /// One primary with replicas.
        Disabled = "disabled",
    }
}

words! {
    /// The engine.
    Engine {
        /// Redis.
        Redis = "redis",
        /// Valkey.
        Valkey = "valkey",
    }
}

words! {
    /// How durable an acknowledged write is.
    Durability {
        /// What the service chooses, which is disabled.
        Default = "default",
        /// Written to a log, without waiting for it.
        Async = "async",
        /// Written to a log before it is acknowledged.
        Sync = "sync",
        /// In memory only.
        Disabled = "disabled",
    }
}

words! {
    /// An address family.
    IpDiscovery {
        /// IPv4.
        Ipv4 = "ipv4",
        /// IPv6.
        Ipv6 = "ipv6",
    }
}

words! {
    /// One address family or both.
    NetworkType {
        /// IPv4 only.
        Ipv4 = "ipv4",
        /// IPv6 only.
        Ipv6 = "ipv6",
        /// Both.
        DualStack = "dual_stack",
    }
}

words! {
    /// Whether clients may still connect without encryption.
    TransitEncryptionMode {
        /// With or without.
        Preferred = "preferred",
        /// Only with encryption.
        Required = "required",
    }
}

words! {
    /// What becomes of the nodes when the object is deleted.
    DeletionPolicy {
        /// They are deleted with their volumes.
        Delete = "Delete",
        /// They go on running, without an operator.
        Retain = "Retain",
        /// A last snapshot is taken first.
        Snapshot = "Snapshot",
    }
}

words! {
    /// The kind of a log.
    LogType {
        /// Commands that took long.
        SlowLog = "slow-log",
        /// What the engine says.
        EngineLog = "engine-log",
    }
}

words! {
    /// The format of a log.
    LogFormat {
        /// JSON.
        Json = "json",
        /// Text.
        Text = "text",
    }
}

words! {
    /// The kind of place that a log goes to.
    DestinationType {
        /// CloudWatch Logs.
        CloudWatchLogs = "cloudwatch-logs",
        /// Kinesis Data Firehose.
        KinesisFirehose = "kinesis-firehose",
    }
}
