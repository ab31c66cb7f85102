//! A script's world of models.

use super::observation::Observed;
use super::script::{Request, World};
use kagami_protocol::engine_text;
use kagami_simulator::engine::net::Net;
use kagami_simulator::engine::{Answer, EngineConfig, Ip, Key, Kind, Reply, Request as Asked, key_slot};
use std::collections::BTreeMap;

const PORT: u16 = 6379;

pub(crate) struct ModelWorld {
    net: Net,
    kind: Kind,
    version: (u8, u8, u8),
    /// Which address a name has, and what its process was started with.
    places: BTreeMap<String, (Ip, Vec<String>)>,
    /// Whose process is at an address.
    at: BTreeMap<Ip, String>,
    names: Vec<(String, String)>,
    ids: BTreeMap<String, String>,
    waiting: BTreeMap<String, (u64, Option<String>)>,
    number: u64,
}

impl ModelWorld {
    pub(crate) fn new(kind: Kind, version: (u8, u8, u8), seed: u64) -> Self {
        Self {
            net: Net::new(seed, 1),
            kind,
            version,
            places: BTreeMap::new(),
            at: BTreeMap::new(),
            names: Vec::new(),
            ids: BTreeMap::new(),
            waiting: BTreeMap::new(),
            number: 0,
        }
    }

    fn ip(&self, name: &str) -> Ip {
        self.places[name].0
    }

    fn key(&self, name: &str, key: &str) -> Key {
        let mut id: u32 = 0x811c_9dc5;
        for byte in key.bytes() {
            id = (id ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        let cluster = self
            .net
            .engine(self.ip(name))
            .is_some_and(|engine| !kagami_simulator::engine::Model::id(engine).is_empty());
        Key { slot: if cluster { key_slot(key) } else { 0 }, id }
    }

    fn answer(answer: &Answer) -> String {
        match answer {
            Answer::Written { .. } => "OK".into(),
            Answer::Found(found) => if *found { "found" } else { "missing" }.into(),
            Answer::Moved(_) => "MOVED".into(),
            Answer::Error(words) => words.clone(),
        }
    }

    fn text(&mut self, ip: Ip, words: &[&str]) -> Option<String> {
        match self.net.command(ip, words)? {
            Reply::Text(text) | Reply::Error(text) => Some(text),
            Reply::Number(number) => Some(number.to_string()),
        }
    }
}

impl World for ModelWorld {
    fn version(&self) -> (Kind, (u8, u8, u8)) {
        (self.kind, self.version)
    }

    fn start(&mut self, name: &str, options: &[&str]) {
        let count = u32::try_from(self.places.len()).unwrap();
        let mut ip = self.places.get(name).map_or(Ip(count + 1), |(ip, _)| *ip);
        let mut config = EngineConfig {
            kind: self.kind,
            version: self.version,
            ip,
            port: PORT,
            bus_port: PORT + 10_000,
            cluster: true,
            node_timeout_ms: 1_000,
            append_only: false,
            save_every_ms: None,
            replica_of: None,
            repl_timeout_ms: 60_000,
            ping_every_ms: 10_000,
            backlog_writes: 100_000,
            source_open: true,
            password: 1,
            stale_reads: true,
            electable: true,
            load_us_per_write: 5,
        };
        let mut keep = false;
        let mut directives = Vec::new();
        for option in options {
            match option.split_once('=') {
                None if *option == "keep" => keep = true,
                None if *option == "closed" => config.source_open = false,
                Some(("at", place)) => ip = self.ip(place),
                Some(("cluster", value)) => config.cluster = value == "yes",
                Some(("replicaof", place)) => config.replica_of = Some(self.ip(place)),
                Some(("appendonly", value)) => config.append_only = value == "yes",
                Some(("cluster-node-timeout", value)) => config.node_timeout_ms = value.parse().unwrap(),
                Some((directive, value)) => directives.push((directive, value)),
                None => panic!("no option {option}"),
            }
        }
        config.ip = ip;
        self.places
            .insert(name.to_owned(), (ip, options.iter().map(|option| (*option).to_owned()).collect()));
        self.at.insert(ip, name.to_owned());
        let cluster = config.cluster;
        self.net.start(config, keep);
        self.net.run(1);
        for (directive, value) in directives {
            self.net.command(ip, &["CONFIG", "SET", directive, value]);
        }
        if cluster {
            let id = self.text(ip, &["CLUSTER", "MYID"]).unwrap();
            remember(&mut self.names, name, &id);
            self.ids.insert(name.to_owned(), id);
        }
    }

    fn kill(&mut self, name: &str) {
        let ip = self.ip(name);
        self.net.kill(ip, false);
    }

    fn freeze(&mut self, name: &str, frozen: bool) {
        let ip = self.ip(name);
        self.net.freeze(ip, frozen);
    }

    fn wipe(&mut self, name: &str) {
        let ip = self.ip(name);
        self.net.wipe(ip);
    }

    fn pass(&mut self, ms: u64) {
        self.net.run(ms);
    }

    fn now_ms(&self) -> u64 {
        self.net.now()
    }

    fn command(&mut self, name: &str, words: &[String]) -> String {
        if words.len() == 2 && words[1] == "MYID" && self.net.engine(self.ip(name)).is_none() {
            return self.ids[name].clone();
        }
        let ip = self.ip(name);
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                let place = word.strip_prefix('@').map(|place| self.ip(place).to_string());
                let port = word.strip_prefix('#').map(|_| PORT.to_string());
                place.or(port).unwrap_or_else(|| word.clone())
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.text(ip, &words).unwrap_or_else(|| "-".into())
    }

    fn begin(&mut self, client: &str, name: &str, key: &str) {
        self.number += 1;
        let (ip, key) = (self.ip(name), self.key(name, key));
        self.waiting.insert(client.to_owned(), (self.number, None));
        self.net.request(ip, self.number, Asked::Set { key, wait: None });
        // As long as the real one is given to answer at once.
        self.net.run(20);
    }

    fn request(&mut self, client: &str) -> Request {
        for (_, number, answer) in self.net.answers() {
            for (waiting, said) in self.waiting.values_mut() {
                if *waiting == number {
                    *said = Some(Self::answer(&answer));
                }
            }
        }
        match &self.waiting[client].1 {
            Some(said) => Request::Said(said.clone()),
            None => Request::Waits,
        }
    }

    fn get(&mut self, name: &str, key: &str) -> String {
        self.number += 1;
        let (ip, key, number) = (self.ip(name), self.key(name, key), self.number);
        self.net.request(ip, number, Asked::Get { key });
        let answers = self.net.answers();
        let found = answers.iter().find(|(_, answered, _)| *answered == number);
        found.map_or_else(|| "-".into(), |(_, _, answer)| Self::answer(answer))
    }

    fn observe(&mut self) -> Vec<Observed> {
        let places: Vec<((String, u16), String)> =
            self.at.iter().map(|(ip, name)| ((ip.to_string(), PORT), name.clone())).collect();
        let mut all = Vec::new();
        let at: Vec<(Ip, String)> = self.at.iter().map(|(ip, name)| (*ip, name.clone())).collect();
        for (ip, name) in at {
            // Through the texts, as the agent reads them.
            let Some(info) = self.text(ip, &["INFO"]) else { continue };
            let mut view = engine_text::engine_view(&engine_text::Fields::read(&info));
            if let Some(nodes) = self.text(ip, &["CLUSTER", "NODES"]).filter(|text| !text.starts_with("ERR"))
            {
                let info = self.text(ip, &["CLUSTER", "INFO"]).unwrap();
                let cluster = cluster_view(&info, &nodes);
                view.cluster = Some(cluster.into());
            }
            all.push(Observed { name, view, names: self.names.clone(), places: places.clone() });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn address(&self, name: &str) -> (String, u16, u16) {
        (self.ip(name).to_string(), PORT, PORT + 10_000)
    }

    fn fill(&mut self, name: &str, keys: &[String]) {
        let ip = self.ip(name);
        for key in keys {
            let said = self.text(ip, &["SET", key, "1"]);
            assert_eq!(said.as_deref(), Some("OK"), "{key}");
        }
    }
}

/// A name for an identity: `b`, then `b′` for the second of the same place.
pub(crate) fn remember(names: &mut Vec<(String, String)>, name: &str, id: &str) {
    if !names.iter().any(|(known, _)| known == id) {
        // The latest life has the plain name.
        for (_, known) in names.iter_mut().filter(|(_, known)| known.trim_end_matches('\'') == name) {
            known.push('\'');
        }
        names.push((id.to_owned(), name.to_owned()));
    }
}

pub(crate) fn cluster_view(info: &str, nodes: &str) -> kagami_protocol::ClusterView {
    let info = engine_text::cluster_info(info);
    let nodes = engine_text::cluster_nodes(nodes);
    kagami_protocol::ClusterView {
        my_id: nodes.iter().find(|node| node.myself).map(|node| node.id.clone()).unwrap_or_default(),
        ok: info.ok,
        current_epoch: info.current_epoch,
        my_epoch: info.my_epoch,
        nodes,
    }
}
