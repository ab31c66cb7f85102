//! The engine's configuration file: the order's directives, then what only the agent knows.

use crate::version::Version;
use kagami_protocol::{AGENT_USER, REPLICATION_USER, Start, StartRole};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Whether the engines may elect a replica by themselves.
pub(crate) const NO_FAILOVER: &str = "cluster-replica-no-failover";

/// What the agent adds to an order.
#[derive(Debug)]
pub(crate) struct Local<'a> {
    pub(crate) version: &'a Version,
    pub(crate) data_dir: &'a str,
    pub(crate) socket: &'a str,
    pub(crate) agent_password: &'a str,
    pub(crate) replication_password: &'a str,
}

/// The value of the last directive of that name, unquoted.
pub(crate) fn directive<'a>(start: &'a Start, name: &str) -> Option<&'a str> {
    start
        .directives
        .iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']))
}

/// Whether the order is for an engine with cluster mode enabled.
pub(crate) fn cluster_enabled(start: &Start) -> bool {
    directive(start, "cluster-enabled").is_some_and(|value| value.eq_ignore_ascii_case("yes"))
}

/// The whole file.
pub(crate) fn render(start: &Start, local: &Local<'_>) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        // A line break inside a value would be a directive of its own.
        let _ = writeln!(text, "{}", words.replace(['\n', '\r'], " "));
    };
    for (name, value) in &start.directives {
        line(&format!("{name} {value}"));
    }
    let has = |name: &str| directive(start, name).is_some();
    let cluster = cluster_enabled(start);
    let announce = &start.announce;
    if !has("port") {
        line(&format!("port {}", announce.port));
    }
    if !has("protected-mode") {
        // Who may connect is the ACL's and the NetworkPolicy's matter; a `default` user without a password is wanted.
        line("protected-mode no");
    }
    line(&format!("dir {}", quoted(local.data_dir)));
    line(&format!("unixsocket {}", quoted(local.socket)));
    line("unixsocketperm 700");
    line("daemonize no");
    line("logfile \"\"");
    if cluster {
        line("cluster-config-file nodes.conf");
        if !has("cluster-port") && local.version.has_cluster_port() && announce.bus_port != 0 {
            line(&format!("cluster-port {}", announce.bus_port));
        }
        line(&format!("cluster-announce-ip {}", announce.host));
        line(&format!("cluster-announce-port {}", announce.port));
        if announce.bus_port != 0 {
            line(&format!("cluster-announce-bus-port {}", announce.bus_port));
        }
        if !start.announce_hostname.is_empty() && local.version.has_announced_hostname() {
            line(&format!("cluster-announce-hostname {}", start.announce_hostname));
        }
        if matches!(start.role, StartRole::Replica { .. }) {
            // Not until the first copy is whole: an empty one is not elected.
            line(&format!("{NO_FAILOVER} yes"));
        }
    } else {
        line(&format!("replica-announce-ip {}", announce.host));
        line(&format!("replica-announce-port {}", announce.port));
        if let StartRole::Replica { primary, .. } = &start.role {
            line(&format!("replicaof {} {}", primary.host, primary.port));
            // Not until the first copy is whole: an empty or older one answers nobody.
            line("replica-serve-stale-data no");
        }
    }
    line(&format!("user default {}", start.client_acl));
    let channels = if local.version.has_acl_channels() { "&* " } else { "" };
    line(&format!("user {AGENT_USER} on #{} ~* {channels}+@all", sha256(local.agent_password)));
    line(&format!(
        "user {REPLICATION_USER} {} #{} -@all +psync +sync +replconf +ping",
        if matches!(start.role, StartRole::Primary { .. }) { "on" } else { "off" },
        sha256(local.replication_password),
    ));
    line(&format!("masteruser {REPLICATION_USER}"));
    line(&format!("masterauth {}", quoted(local.replication_password)));
    text
}

/// A value in the quotes of the engine's configuration file.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// A shard's own replication password, made from the group's: an address is used again, and a node that still follows whoever had it
/// must not have its data replaced by that of another shard.
pub(crate) fn of_shard(password: &str, shard_lease: &str) -> String {
    sha256(&format!("{password}\n{shard_lease}"))
}

fn sha256(password: &str) -> String {
    Sha256::digest(password.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_protocol::{Address, StartData};

    fn start(cluster: bool, role: StartRole) -> Start {
        Start {
            directives: vec![
                ("port".into(), "7000".into()),
                ("cluster-enabled".into(), if cluster { "yes" } else { "no" }.into()),
                ("save".into(), "\"\"".into()),
            ],
            client_acl: "on nopass ~* &* +@all -config".into(),
            data: StartData::PutAside,
            role,
            peers: vec![],
            announce: Address { host: "10.0.0.1".into(), port: 7000, bus_port: 17000 },
            announce_hostname: "dva-0001-001".into(),
            guard: false,
            keep_previous: false,
            config: None,
        }
    }

    fn rendered(start: &Start, version: &str) -> Vec<String> {
        let version = Version::read(version).unwrap();
        let local = Local {
            version: &version,
            data_dir: "/data",
            socket: "/kagami/run/engine.sock",
            agent_password: "secret",
            replication_password: "it's \"quoted\"",
        };
        render(start, &local).lines().map(str::to_owned).collect()
    }

    fn replica() -> StartRole {
        let primary = Address { host: "10.0.0.2".into(), port: 7000, bus_port: 17000 };
        StartRole::Replica { primary, primary_id: None }
    }

    fn has(lines: &[String], line: &str) -> bool {
        lines.iter().any(|l| l == line)
    }

    #[test]
    fn the_orders_directives_come_first_and_in_order() {
        let lines = rendered(&start(true, replica()), "Redis server v=7.0.15");
        assert_eq!(&lines[..3], ["port 7000", "cluster-enabled yes", "save \"\""]);
        assert!(has(&lines, "dir \"/data\""));
        assert!(has(&lines, "user default on nopass ~* &* +@all -config"));
    }

    #[test]
    fn a_cluster_announces_itself_as_far_as_the_version_can() {
        let lines = rendered(&start(true, replica()), "Redis server v=7.0.15");
        for line in [
            "cluster-port 17000",
            "cluster-announce-ip 10.0.0.1",
            "cluster-announce-port 7000",
            "cluster-announce-bus-port 17000",
            "cluster-announce-hostname dva-0001-001",
        ] {
            assert!(has(&lines, line), "{line} in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.starts_with("replicaof")), "cluster mode has its own command");
        let old = rendered(&start(true, replica()), "Redis server v=6.2.14");
        assert!(!old.iter().any(|line| line.starts_with("cluster-port") || line.contains("hostname")));
    }

    #[test]
    fn a_replica_without_cluster_answers_nothing_stale() {
        let lines = rendered(&start(false, replica()), "Redis server v=6.2.14");
        assert!(has(&lines, "replicaof 10.0.0.2 7000") && has(&lines, "replica-serve-stale-data no"));
        assert!(!lines.iter().any(|line| line.starts_with("cluster-announce")));
    }

    #[test]
    fn only_a_primary_is_a_source_of_replication() {
        let off = rendered(&start(true, replica()), "Redis server v=7.0.15");
        assert!(off.iter().any(|line| line.starts_with("user kagami-replication off #")));
        let on =
            rendered(&start(true, StartRole::Primary { slots: vec![], epoch: 1 }), "Redis server v=7.0.15");
        assert!(on.iter().any(|line| line.starts_with("user kagami-replication on #")));
    }

    #[test]
    fn p1_a_node_of_another_shard_cannot_log_in_as_a_replica() {
        let of = |shard: &str| of_shard("secret", shard);
        assert_eq!(of("dva-0001"), of("dva-0001"));
        assert_ne!(of("dva-0001"), of("dva-0002"));
        assert_ne!(of("dva-0001"), of_shard("other", "dva-0001"));
        assert!(of("dva-0001").bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn an_empty_replica_is_not_elected() {
        let has_line = |start: &Start| {
            rendered(start, "Redis server v=6.2.14").contains(&"cluster-replica-no-failover yes".to_owned())
        };
        assert!(has_line(&start(true, replica())));
        assert!(!has_line(&start(true, StartRole::Primary { slots: vec![], epoch: 1 })));
        assert!(!has_line(&start(false, replica())));
    }

    #[test]
    fn channels_and_secrets_are_written_as_the_engine_reads_them() {
        let lines = rendered(&start(true, replica()), "Redis server v=6.0.16");
        let sha = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert!(has(&lines, &format!("user kagami-agent on #{sha} ~* +@all")));
        assert!(has(&lines, r#"masterauth "it's \"quoted\"""#));
    }

    #[test]
    fn a_value_cannot_smuggle_in_a_directive() {
        let mut start = start(true, replica());
        start.client_acl = "on nopass\nmasterauth x".into();
        let lines = rendered(&start, "Redis server v=7.0.15");
        assert_eq!(lines.iter().filter(|line| line.starts_with("masterauth")).count(), 1);
    }
}
