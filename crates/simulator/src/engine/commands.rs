//! Commands other than the cluster's, and who may be served.

use super::data::Write;
use super::interface::{Answer, Ip, Key, Model, Reply};
use super::process::Engine;
use super::slots::key_slot;
use super::types::Addr;

pub(super) fn ok() -> Reply {
    Reply::Text("OK".into())
}

pub(super) fn error(words: impl Into<String>) -> Reply {
    Reply::Error(words.into())
}

/// The key of a name, as the commands of tests use them: its slot, and a number from its letters.
fn key_of(name: &str, cluster: bool) -> Key {
    let mut id: u32 = 0x811c_9dc5;
    for byte in name.bytes() {
        id = (id ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    Key { slot: if cluster { key_slot(name) } else { 0 }, id }
}

impl Engine {
    pub(super) fn dispatch(&mut self, words: &[&str]) -> Reply {
        let Some((name, rest)) = words.split_first() else { return error("ERR empty command") };
        let name = name.to_ascii_uppercase();
        self.count(&name);
        let while_loading =
            ["INFO", "CONFIG", "CLIENT", "ACL", "SHUTDOWN", "REPLICAOF", "SLAVEOF", "READONLY", "ROLE"];
        let cluster_too =
            name == "CLUSTER" && !rest.first().is_some_and(|sub| self.refused_while_loading(sub));
        if self.is_loading() && !while_loading.contains(&name.as_str()) && !cluster_too && !is_data(&name) {
            return error("LOADING Redis is loading the dataset in memory");
        }
        match (name.as_str(), rest) {
            ("PING", _) => Reply::Text("PONG".into()),
            ("INFO", sections) => Reply::Text(self.info(sections)),
            ("ROLE", _) => Reply::Text(if self.is_replica() { "slave" } else { "master" }.into()),
            ("CLUSTER", _) if self.cluster.is_none() => {
                error("ERR This instance has cluster support disabled")
            }
            ("CLUSTER", [sub, rest @ ..]) => self.cluster_command(&sub.to_ascii_uppercase(), rest),
            ("CONFIG", [sub, rest @ ..]) => self.config(&sub.to_ascii_uppercase(), rest),
            ("ACL", [sub, user, rules @ ..]) if sub.eq_ignore_ascii_case("SETUSER") => {
                self.set_user(user, rules)
            }
            ("CLIENT", [sub, rest @ ..]) => self.client_command(&sub.to_ascii_uppercase(), rest),
            ("REPLICAOF" | "SLAVEOF", [host, port]) => self.replica_of(host, port),
            ("READONLY" | "READWRITE" | "ASKING", []) => ok(),
            ("WAIT", [_, _]) => {
                Reply::Number(i64::try_from(self.repl.acknowledged(self.repl.offset)).unwrap_or(i64::MAX))
            }
            ("DBSIZE", []) => Reply::Number(i64::try_from(self.data.len()).unwrap_or(i64::MAX)),
            ("SAVE", []) => {
                self.save_now();
                ok()
            }
            ("BGSAVE", _) => {
                self.begin_save();
                Reply::Text("Background saving started".into())
            }
            ("SHUTDOWN", how) => self.shut_down(how),
            ("FLUSHALL", _) => self.on_keys(None, true, |engine, _| {
                engine.write(Write::Flush);
                ok()
            }),
            ("SET", [key, _]) => self.on_keys(Some(key), true, |engine, key| {
                engine.write(Write::Set(key));
                ok()
            }),
            ("DEL", [key]) => self.on_keys(Some(key), true, |engine, key| {
                let had = engine.data.has(key);
                if had {
                    engine.write(Write::Del(key));
                }
                Reply::Number(had.into())
            }),
            ("GET" | "EXISTS", [key]) => {
                self.on_keys(Some(key), false, |engine, key| Reply::Number(engine.data.has(key).into()))
            }
            _ => error(format!("ERR unknown command '{}'", words[0])),
        }
    }

    fn on_keys(
        &mut self,
        name: Option<&str>,
        writes: bool,
        act: impl FnOnce(&mut Self, Key) -> Reply,
    ) -> Reply {
        let key = key_of(name.unwrap_or_default(), self.cluster.is_some());
        let admitted = match name {
            Some(_) => self.admit(key.slot, Some(key), writes, false),
            None => self.admit_here(writes),
        };
        match admitted {
            Ok(()) if writes && self.paused() => {
                error("ERR the model's command connection does not wait for a pause")
            }
            Ok(()) => act(self, key),
            Err(Answer::Error(words)) => Reply::Error(words),
            Err(other) => Reply::Error(match other {
                Answer::Moved(ip) => format!("MOVED {} {ip}:{}", key.slot, self.settings.own.port),
                _ => "ERR".into(),
            }),
        }
    }

    /// Whether a request about a slot is served here: the engine's checks in the engine's order.
    pub(super) fn admit(
        &self,
        slot: u16,
        key: Option<Key>,
        writes: bool,
        readonly: bool,
    ) -> Result<(), Answer> {
        let words = |words: String| Err(Answer::Error(words));
        if let Some(cluster) = &self.cluster {
            let Some(owner) = cluster.owner(slot) else {
                return words("CLUSTERDOWN Hash slot not served".into());
            };
            if !cluster.ok {
                if !self.settings.reads_when_down {
                    return words("CLUSTERDOWN The cluster is down".into());
                }
                if writes {
                    return words("CLUSTERDOWN The cluster is down and only accepts read commands".into());
                }
            }
            let me = cluster.me();
            if owner.id == me.id {
                let missing = key.is_some_and(|key| !self.data.has(key));
                if let Some(to) =
                    cluster.migrating.get(&slot).and_then(|to| cluster.node(*to)).filter(|_| missing)
                {
                    return words(format!("ASK {slot} {}:{}", to.addr.ip, to.addr.port));
                }
            } else if !(me.replica && readonly && !writes && me.primary == Some(owner.id)) {
                return Err(Answer::Moved(owner.addr.ip));
            }
        }
        self.admit_here(writes)
    }

    /// The checks that know no slot.
    fn admit_here(&self, writes: bool) -> Result<(), Answer> {
        let words = |words: &str| Err(Answer::Error(words.into()));
        let source = self.repl.source.as_ref();
        let good = self.repl.good(self.settings.min_replicas_lag_s, self.now);
        if writes && source.is_none() && good < self.settings.min_replicas as usize {
            return words("NOREPLICAS Not enough good replicas to write.");
        }
        if writes && source.is_some() {
            return words("READONLY You can't write against a read only replica.");
        }
        if !self.settings.serve_stale && source.is_some_and(|source| !source.is_up()) {
            return words("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
        }
        if self.is_loading() {
            return words("LOADING Redis is loading the dataset in memory");
        }
        Ok(())
    }

    fn config(&mut self, sub: &str, rest: &[&str]) -> Reply {
        match (sub, rest) {
            ("GET", [name]) => {
                let name = name.to_ascii_lowercase();
                let value = self.settings.get(&name).or_else(|| self.others.get(&name).cloned());
                Reply::Text(value.map(|value| format!("{name}\n{value}")).unwrap_or_default())
            }
            ("SET", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                if pairs.len() > 2 && !self.can.seven {
                    return error(
                        "ERR Unknown subcommand or wrong number of arguments for 'SET'. Try CONFIG HELP.",
                    );
                }
                for pair in pairs.chunks_exact(2) {
                    let name = pair[0].to_ascii_lowercase();
                    if !self.settings.set(&name, pair[1]) {
                        self.others.insert(name.clone(), pair[1].to_owned());
                    }
                    if name == "appendonly" {
                        self.set_append_only(pair[1].eq_ignore_ascii_case("yes"));
                    }
                }
                if let Some(cluster) = &mut self.cluster {
                    cluster.hurry(self.now);
                    cluster.todo.state = true;
                }
                ok()
            }
            _ => error("ERR wrong number of arguments for 'config' command"),
        }
    }

    fn set_user(&mut self, user: &str, rules: &[&str]) -> Reply {
        if user == kagami_protocol::REPLICATION_USER {
            for rule in rules {
                match *rule {
                    "on" => self.source_open = true,
                    "off" => self.source_open = false,
                    _ => {}
                }
            }
        }
        ok()
    }

    fn client_command(&mut self, sub: &str, rest: &[&str]) -> Reply {
        match (sub, rest) {
            ("PAUSE", [ms, mode]) if mode.eq_ignore_ascii_case("WRITE") => match ms.parse::<u64>() {
                Ok(ms) => {
                    self.pause_until(self.now.saturating_add(ms), false);
                    ok()
                }
                Err(_) => error("ERR timeout is not an integer or out of range"),
            },
            ("KILL", [of, kind])
                if of.eq_ignore_ascii_case("TYPE") && kind.eq_ignore_ascii_case("master") =>
            {
                Reply::Number(self.ask_source_anew().into())
            }
            ("UNPAUSE", []) => {
                self.end_pause(false);
                ok()
            }
            _ => ok(),
        }
    }

    fn replica_of(&mut self, host: &str, port: &str) -> Reply {
        if self.cluster.is_some() {
            return error("ERR REPLICAOF not allowed in cluster mode.");
        }
        if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
            self.unset_source();
            return ok();
        }
        let (Some(ip), Ok(port)) = (Ip::parse(host), port.parse::<u16>()) else {
            return error("ERR Invalid master port");
        };
        let addr = Addr { ip, port, bus_port: 0 };
        let same = |known: Addr| (known.ip, known.port) == (ip, port);
        if self.repl.source.as_ref().is_some_and(|source| same(source.addr)) {
            return Reply::Text("OK Already connected to specified master".into());
        }
        self.set_source(addr);
        ok()
    }

    fn shut_down(&mut self, how: &[&str]) -> Reply {
        let save = how.iter().any(|word| word.eq_ignore_ascii_case("SAVE"));
        if save && !self.is_loading() {
            self.save_now();
        }
        self.ended = Some("shut down by a command".into());
        ok()
    }
}

/// Commands that are redirected or refused before anybody asks whether the engine loads.
fn is_data(name: &str) -> bool {
    matches!(name, "SET" | "GET" | "EXISTS" | "DEL" | "FLUSHALL")
}
