//! A script's world of real processes on loopback.

use super::model::{cluster_view, remember};
use super::observation::Observed;
use super::resp::{Connection, Value};
use super::script::{Request, World};
use kagami_protocol::{REPLICATION_USER, engine_text};
use kagami_simulator::engine::Kind;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The engine under test: `KAGAMI_TEST_ENGINE`, or the first on the PATH.
pub(crate) fn engine() -> PathBuf {
    if let Some(engine) = std::env::var_os("KAGAMI_TEST_ENGINE") {
        return engine.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| [dir.join("redis-server"), dir.join("valkey-server")])
        .find(|program| program.is_file())
        .expect("no engine to test with: run `make deps` (it installs redis-server)")
}

pub(crate) fn version() -> (Kind, (u8, u8, u8)) {
    let said = Command::new(engine()).arg("--version").output().unwrap().stdout;
    let (kind, [major, minor, patch]) = engine_text::server_version(&String::from_utf8_lossy(&said)).unwrap();
    let kind = if kind == "valkey" { Kind::Valkey } else { Kind::Redis };
    let small = |number: u16| u8::try_from(number).unwrap_or(u8::MAX);
    (kind, (small(major), small(minor), small(patch)))
}

struct Place {
    port: u16,
    dir: PathBuf,
    process: Option<Child>,
    connection: Option<Connection>,
    frozen: bool,
    owner: String,
}

pub(crate) struct RealWorld {
    version: (u8, u8, u8),
    root: tempfile::TempDir,
    places: Vec<Place>,
    at: BTreeMap<String, usize>,
    names: Vec<(String, String)>,
    ids: BTreeMap<String, String>,
    waiting: BTreeMap<String, (Connection, Option<String>)>,
    began: Instant,
}

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port whose bus port, ten thousand above as Redis 6 has it, is free too.
fn free_port() -> u16 {
    // Below the ports that the kernel gives to outgoing connections.
    let base = 11_000 + u16::try_from(std::process::id() % 9_000).unwrap();
    loop {
        let port = base + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % 1_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

impl RealWorld {
    pub(crate) fn new(version: (u8, u8, u8)) -> Self {
        Self {
            version,
            root: tempfile::tempdir().unwrap(),
            places: Vec::new(),
            at: BTreeMap::new(),
            names: Vec::new(),
            ids: BTreeMap::new(),
            waiting: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    fn place(&mut self, name: &str) -> &mut Place {
        let at = self.at[name];
        &mut self.places[at]
    }

    fn ask(place: &mut Place, words: &[&str]) -> Option<Value> {
        if place.process.is_none() || place.frozen {
            return None;
        }
        for _ in 0..2 {
            if place.connection.is_none() {
                place.connection = Connection::open(place.port, Duration::from_secs(3)).ok();
            }
            match place.connection.as_mut()?.ask(words) {
                Ok(value) => return Some(value),
                Err(_) => place.connection = None,
            }
        }
        None
    }

    fn end(place: &mut Place) {
        place.connection = None;
        if let Some(mut process) = place.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        place.frozen = false;
    }

    /// The end of each engine's log, for whoever reads a failure.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        for place in &self.places {
            let log = std::fs::read_to_string(place.dir.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let _ = writeln!(text, "--- {} (port {})", place.owner, place.port);
            for line in &lines[lines.len().saturating_sub(12)..] {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    fn configuration(&self, port: u16, dir: &Path, options: &[&str]) -> String {
        let mut cluster = true;
        let mut open = "on";
        let mut lines = Vec::new();
        for option in options {
            match option.split_once('=') {
                None if *option == "keep" => {}
                None if *option == "closed" => open = "off",
                Some(("at", _)) => {}
                Some(("cluster", value)) => cluster = value == "yes",
                Some(("replicaof", place)) => {
                    lines.push(format!("replicaof 127.0.0.1 {}", self.places[self.at[place]].port));
                }
                Some((directive, value)) => lines.push(format!("{directive} {value}")),
                None => panic!("no option {option}"),
            }
        }
        let has = |name: &str| lines.iter().any(|line| line.starts_with(name));
        // As `kagami_core::engine::directives` and the agent have it, as far as it matters here.
        let mut text = format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {}\nlogfile {}\nsave \"\"\n\
             repl-backlog-size 64mb\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\nrepl-timeout 60\n\
             user default on nopass ~* &* +@all\n\
             user {REPLICATION_USER} {open} >secret -@all +psync +sync +replconf +ping\n\
             masteruser {REPLICATION_USER}\nmasterauth secret\nenable-debug-command yes\n",
            dir.display(),
            dir.join("log").display(),
        );
        if (self.version.0, self.version.1) < (7, 0) {
            text = text.replace("enable-debug-command yes\n", "");
        }
        if !has("appendonly") {
            text += "appendonly no\nrdb-del-sync-files yes\n";
        }
        if cluster {
            text += "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-announce-ip 127.0.0.1\n\
                     cluster-require-full-coverage no\ncluster-replica-validity-factor 0\ncluster-migration-barrier 999\n\
                     cluster-allow-replica-migration no\n";
            if !has("cluster-node-timeout") {
                text += "cluster-node-timeout 1000\n";
            }
        } else {
            text += "replica-announce-ip 127.0.0.1\n";
        }
        for line in lines {
            text += &line;
            text.push('\n');
        }
        text
    }
}

impl World for RealWorld {
    fn version(&self) -> (Kind, (u8, u8, u8)) {
        version()
    }

    fn start(&mut self, name: &str, options: &[&str]) {
        let shared = options.iter().find_map(|option| option.strip_prefix("at="));
        let index = match (shared, self.at.get(name)) {
            (Some(other), _) => self.at[other],
            (None, Some(index)) => *index,
            (None, None) => {
                let dir = self.root.path().join(name);
                std::fs::create_dir(&dir).unwrap();
                let owner = String::new();
                self.places.push(Place {
                    port: free_port(),
                    dir,
                    process: None,
                    connection: None,
                    frozen: false,
                    owner,
                });
                self.places.len() - 1
            }
        };
        self.at.insert(name.to_owned(), index);
        Self::end(&mut self.places[index]);
        let (port, dir) = (self.places[index].port, self.places[index].dir.clone());
        if !options.contains(&"keep") {
            let _ = std::fs::remove_file(dir.join("nodes.conf"));
        }
        let text = self.configuration(port, &dir, options);
        std::fs::write(dir.join("engine.conf"), text).unwrap();
        let process = Command::new(engine())
            .arg(dir.join("engine.conf"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let place = &mut self.places[index];
        place.process = Some(process);
        name.clone_into(&mut place.owner);
        let until = Instant::now() + Duration::from_secs(10);
        while !matches!(Self::ask(place, &["INFO", "server"]), Some(Value::Text(_))) {
            if let Some(Ok(Some(status))) = place.process.as_mut().map(Child::try_wait) {
                panic!("{name} ended at its start: {status}\n{}", self.last_words());
            }
            assert!(Instant::now() < until, "{name} does not answer");
            std::thread::sleep(Duration::from_millis(3));
        }
        loop {
            match Self::ask(place, &["CLUSTER", "MYID"]) {
                Some(Value::Text(id)) => {
                    remember(&mut self.names, name, &id);
                    self.ids.insert(name.to_owned(), id);
                    break;
                }
                Some(Value::Error(error)) if error.starts_with("LOADING") => {
                    std::thread::sleep(Duration::from_millis(3));
                }
                _ => break,
            }
        }
    }

    fn kill(&mut self, name: &str) {
        Self::end(self.place(name));
    }

    fn freeze(&mut self, name: &str, frozen: bool) {
        let place = self.place(name);
        let pid = Pid::from_child(place.process.as_ref().unwrap());
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).unwrap();
        place.frozen = frozen;
    }

    fn wipe(&mut self, name: &str) {
        let dir = self.place(name).dir.clone();
        let _ = std::fs::remove_file(dir.join("dump.rdb"));
        let _ = std::fs::remove_file(dir.join("appendonly.aof"));
        let _ = std::fs::remove_dir_all(dir.join("appendonlydir"));
    }

    fn pass(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    fn command(&mut self, name: &str, words: &[String]) -> String {
        if words.len() == 2 && words[1] == "MYID" && self.place(name).process.is_none() {
            return self.ids[name].clone();
        }
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                let port = word.strip_prefix('#').map(|place| self.places[self.at[place]].port.to_string());
                let host = word.strip_prefix('@').map(|_| "127.0.0.1".to_owned());
                host.or(port).unwrap_or_else(|| word.clone())
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Self::ask(self.place(name), &words).map_or_else(|| "-".into(), |value| value.text())
    }

    fn begin(&mut self, client: &str, name: &str, key: &str) {
        let port = self.place(name).port;
        let mut connection = Connection::open(port, Duration::from_millis(20)).unwrap();
        connection.send(&["SET", key, "1"]).unwrap();
        self.waiting.insert(client.to_owned(), (connection, None));
    }

    fn request(&mut self, client: &str) -> Request {
        let (connection, said) = self.waiting.get_mut(client).unwrap();
        if said.is_none() {
            match connection.read() {
                Ok(value) => *said = Some(value.text()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => *said = Some("-".into()),
            }
        }
        said.clone().map_or(Request::Waits, Request::Said)
    }

    fn get(&mut self, name: &str, key: &str) -> String {
        let port = self.place(name).port;
        let Ok(mut connection) = Connection::open(port, Duration::from_millis(500)) else {
            return "-".into();
        };
        let _ = connection.ask(&["READONLY"]);
        match connection.ask(&["EXISTS", key]) {
            Ok(Value::Number(number)) => if number == 1 { "found" } else { "missing" }.into(),
            Ok(value) => value.text(),
            Err(_) => "-".into(),
        }
    }

    fn observe(&mut self) -> Vec<Observed> {
        let places: Vec<((String, u16), String)> = self
            .places
            .iter()
            .map(|place| (("127.0.0.1".to_owned(), place.port), place.owner.clone()))
            .collect();
        let mut all = Vec::new();
        for place in &mut self.places {
            let Some(Value::Text(info)) = Self::ask(place, &["INFO"]) else { continue };
            let mut view = engine_text::engine_view(&engine_text::Fields::read(&info));
            if let Some(Value::Text(nodes)) = Self::ask(place, &["CLUSTER", "NODES"]) {
                let Some(Value::Text(info)) = Self::ask(place, &["CLUSTER", "INFO"]) else { continue };
                let cluster = cluster_view(&info, &nodes);
                view.cluster = Some(cluster.into());
            }
            let name = place.owner.clone();
            all.push(Observed { name, view, names: self.names.clone(), places: places.clone() });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn address(&self, name: &str) -> (String, u16, u16) {
        let port = self.places[self.at[name]].port;
        ("127.0.0.1".into(), port, port + 10_000)
    }

    fn fill(&mut self, name: &str, keys: &[String]) {
        let port = self.place(name).port;
        let mut connection = Connection::open(port, Duration::from_secs(3)).unwrap();
        for key in keys {
            assert_eq!(connection.ask(&["SET", key, "1"]).unwrap().text(), "OK", "{key}");
        }
    }
}

impl Drop for RealWorld {
    fn drop(&mut self) {
        for place in &mut self.places {
            Self::end(place);
        }
    }
}
