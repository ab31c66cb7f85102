//! States of a group, drawn as text, and plans printed as text.
//!
//! A drawing is a header and one line for each thing that was seen. Names are shortened: `0001-002` is the cache node
//! `g-0001-002`. What a drawing leaves out is well: a node that is not named is parked, machines are ready.
//!
//! ```text
//! 1x2 cluster volumes formed
//! lease 0001 term 3 holder 0001-001 served
//! 0001-001 primary 100
//! 0001-002 replica 100 of 0001-001
//! machine m1 notready
//! ```
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each set of tests needs another part of it"
)]

pub(crate) mod model;

use kagami_api::names;
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::desired::{ClusterMode, Desired, References, Tables, resolve};
use kagami_core::observed::{
    Agent, Cause, CopyChoice, Kind, Machine, ObjectKey, Observed, ObservedNode, PodView, Reach, Rebirth,
    ShardLease,
};
use kagami_core::plan::{Act, Frozen, Plan, Setting, Tied, plan};
use kagami_core::slots::SlotSet;
use kagami_protocol::{
    Boot, ClusterNode, ClusterView, EngineState, EngineView, Link, Record, Report, Role, Shared, Unanswered,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The operator's clock in every drawing.
pub(crate) const NOW_MS: i64 = 1_000_000_000;

/// The machines of every drawing: the n-th node of a shard stands on the n-th, in the n-th zone.
const MACHINES: [(&str, &str); 3] = [("m1", "a"), ("m2", "b"), ("m3", "c")];

/// What was desired and seen.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) setting: Setting,
}

pub(crate) fn setting() -> Setting {
    Setting { agent_image: "kagami-agent:1".into(), operator_namespace: "kagami-system".into() }
}

/// A group of a shape such as `3x2`: shards times nodes.
pub(crate) fn desired(shape: &str, cluster: bool, volumes: bool) -> Desired {
    desired_with(shape, cluster, volumes, &json!({}))
}

/// The same, with more in its spec.
pub(crate) fn desired_with(shape: &str, cluster: bool, volumes: bool, more: &Value) -> Desired {
    let (shards, nodes) = shape.split_once('x').unwrap();
    let (shards, nodes): (usize, usize) = (shards.parse().unwrap(), nodes.parse().unwrap());
    let mut spec = json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro",
        "engine": "valkey", "engineVersion": "8.1", "numNodeGroups": shards, "replicasPerNodeGroup": nodes - 1,
        "automaticFailoverEnabled": cluster || nodes > 1,
        "clusterMode": if cluster { "enabled" } else { "disabled" } });
    if volumes {
        spec["kubernetes"] = json!({ "storage": { "size": "1Gi" } });
    }
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let mut group = ReplicationGroup::new("g", serde_json::from_value(spec).unwrap());
    group.metadata.namespace = Some("shop".into());
    group.metadata.uid = Some("u-1".into());
    group.metadata.generation = Some(1);
    resolve(&group, &References::default(), &Tables::default()).unwrap()
}

pub(crate) fn full_name(short: &str) -> String {
    format!("g-{short}")
}

/// The number of the shard and of the node in it.
fn numbers(node: &str) -> (usize, usize) {
    let mut parts = node.rsplit('-');
    let number = parts.next().unwrap().parse().unwrap();
    (parts.next().unwrap().parse().unwrap(), number)
}

pub(crate) fn ip(node: &str) -> String {
    let (shard, number) = numbers(node);
    format!("10.0.{shard}.{number}")
}

pub(crate) fn boot(node: &str, run: u32) -> Boot {
    let agent = Boot::agent_name(NOW_MS - 3_000_000, 10);
    Boot { pod_uid: format!("pod-{}", node.trim_start_matches("g-")), agent, run }
}

pub(crate) fn engine_id(node: &str, run: u32) -> String {
    format!("id-{}-{run}", node.trim_start_matches("g-"))
}

/// A boot as a drawing writes it: `0001-002/3`.
fn boot_of(text: &str) -> (String, Boot) {
    let (node, run) = text.split_once('/').unwrap_or((text, "1"));
    (full_name(node), boot(node, run.parse().unwrap()))
}

/// A pod that runs.
pub(crate) fn pod(node: &str) -> PodView {
    let (_, number) = numbers(node);
    PodView {
        uid: boot(node, 1).pod_uid,
        ip: Some(ip(node)),
        machine: MACHINES.get((number - 1) % 3).map(|(name, _)| (*name).to_owned()),
        ready: true,
        created_ms: NOW_MS - 3_600_000,
        ..PodView::default()
    }
}

/// A parked node's report.
pub(crate) fn parked(node: &str, run: u32, volumes: bool) -> Report {
    Report {
        seq: 1,
        node: node.to_owned(),
        boot: boot(node, run),
        agent_version: "1".into(),
        term: 0,
        state: EngineState::Parked,
        persistent: volumes,
        has_data: false,
        record: None,
        engine: None,
        exits: run - 1,
        last_exit: None,
        terminating: false,
        guard: true,
        fenced: false,
        trouble: String::new(),
        kept: None,
        config: None,
        vocabulary: kagami_protocol::VOCABULARY,
        former_clients: false,
        volume: None,
        unanswered: None,
    }
}

/// The words of a line, to be taken one by one.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        self.0.next().unwrap_or_else(|| panic!("a word is missing at the end of a line"))
    }
    fn maybe(&mut self) -> Option<&'a str> {
        self.0.next()
    }
    fn number<T: std::str::FromStr>(&mut self) -> T {
        let word = self.next();
        word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
    }
}

/// Reads a drawing; the objects of the group are as they should be, so that only roles are left to plan.
pub(crate) fn draw(text: &str) -> Scene {
    let mut scene = bare(text);
    scene.world_is_met();
    scene
}

/// Reads a drawing, without any object of the group.
pub(crate) fn bare(text: &str) -> Scene {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let (cluster, volumes) = (header.contains(&"cluster"), header.contains(&"volumes"));
    let mut more = json!({});
    if header.contains(&"nofailover") {
        more["automaticFailoverEnabled"] = json!(false);
    }
    if let Some(primary) = header.iter().find_map(|word| word.strip_prefix("primary=")) {
        more["primaryClusterId"] = json!(full_name(primary));
    }
    let desired = desired_with(header.first().unwrap(), cluster, volumes, &more);
    scene_of(desired, header.contains(&"formed"), lines)
}

pub(crate) fn scene_of<'a>(
    desired: Desired,
    formed: bool,
    lines: impl IntoIterator<Item = &'a str>,
) -> Scene {
    let volumes = desired.storage.is_some();
    let machine = |zone: &str| Machine { zone: Some(zone.into()), ready: true, ..Machine::default() };
    let mut observed = Observed {
        now_ms: NOW_MS,
        formed,
        watching_ms: 600_000,
        machines: MACHINES.iter().map(|(name, zone)| ((*name).to_owned(), machine(zone))).collect(),
        nodes: desired
            .nodes()
            .map(|(_, node)| {
                let report = Shared::from(parked(&node.name, 1, volumes));
                (node.name.clone(), ObservedNode { pod: Some(pod(&node.name)), agent: Agent::Up(report) })
            })
            .collect(),
        ..Observed::default()
    };
    let mut drawn: BTreeMap<String, Drawn> = BTreeMap::new();
    for line in lines {
        let mut words = Words(line.split_whitespace().peekable());
        match words.next() {
            "lease" => {
                let (id, lease) = read_lease(&desired, &mut words);
                observed.leases.insert(id, lease);
            }
            "machine" => read_machine(&mut observed, &mut words),
            "watching" => observed.watching_ms = words.number(),
            "over" => {
                observed.over.insert(words.next().to_owned(), NOW_MS - 1_000);
            }
            node => {
                let node = full_name(node);
                let read = read_node(&desired, &node, &mut words);
                drawn.insert(node, read);
            }
        }
    }
    for lease in observed.leases.values_mut() {
        lease.known_ms = lease.known_ms.min(observed.watching_ms);
    }
    for (node, read) in &drawn {
        let seen = observed.nodes.entry(node.clone()).or_default();
        seen.pod = read.pod.clone();
        seen.agent = read.agent.clone();
        let shard = desired.shards.iter().find(|shard| shard.nodes.iter().any(|each| each.name == *node));
        let term = shard.and_then(|shard| observed.leases.get(&shard.id)).map_or(0, |lease| lease.term);
        if let Agent::Up(report) = &mut seen.agent
            && report.engine.is_some()
            && report.term == 0
        {
            // Whoever runs was told the term, unless the drawing says otherwise.
            report.term = term;
        }
    }
    let mut scene = Scene { desired, observed, setting: setting() };
    scene.gossip();
    scene
}

fn read_lease(desired: &Desired, words: &mut Words<'_>) -> (String, ShardLease) {
    let id = words.next().to_owned();
    let slots = desired.shards.iter().find(|shard| shard.id == id).map(|shard| shard.slots.clone());
    let mut lease = ShardLease {
        resource_version: "1".into(),
        term: 1,
        since_ms: NOW_MS - 60_000,
        known_ms: 60_000,
        slots: slots.unwrap_or_else(SlotSet::empty),
        ..ShardLease::default()
    };
    while let Some(word) = words.maybe() {
        match word {
            "term" => lease.term = words.number(),
            "holder" => (lease.holder, lease.boot) = boot_of(words.next()),
            "previous" => lease.previous = Some(boot_of(words.next())),
            "cause" => lease.cause = Cause::parse(words.next()),
            "since" => {
                lease.known_ms = words.number();
                lease.since_ms = NOW_MS - i64::try_from(lease.known_ms).unwrap();
            }
            // By this process; its raiser's clock may say anything else.
            "known" => lease.known_ms = words.number(),
            "served" => lease.served = true,
            "home" => lease.home = Some(full_name(words.next())),
            // `reborn 5`, `reborn 5 from 4 100`, `reborn 5 from 4 100 returned 6 4 200`
            "reborn" => {
                let term = words.number();
                lease.rebirths.push(Rebirth { term, base: None, returned: None });
            }
            "from" => lease.rebirths.last_mut().unwrap().base = Some(reach(words)),
            "returned" => {
                let term = words.number();
                lease.rebirths.last_mut().unwrap().returned = Some((term, reach(words)));
            }
            word => panic!("{word} is nothing that a lease has"),
        }
    }
    (id, lease)
}

/// A primary's `TERM OFFSET`.
fn reach(words: &mut Words<'_>) -> Reach {
    Reach { data_term: words.number(), primary: true, offset: words.number() }
}

fn read_machine(observed: &mut Observed, words: &mut Words<'_>) {
    let machine = observed.machines.entry(words.next().to_owned()).or_default();
    machine.ready = true;
    while let Some(word) = words.maybe() {
        match word {
            "zone" => machine.zone = Some(words.next().to_owned()),
            "notready" => machine.ready = false,
            "cordoned" => machine.unschedulable = true,
            "out-of-service" => machine.out_of_service = true,
            word => panic!("{word} is nothing that a machine is"),
        }
    }
}

struct Drawn {
    pod: Option<PodView>,
    agent: Agent,
}

fn read_node(desired: &Desired, node: &str, words: &mut Words<'_>) -> Drawn {
    let cluster = desired.cluster_mode == ClusterMode::Enabled;
    let mut pod = Some(pod(node));
    let mut report = parked(node, 1, desired.storage.is_some());
    let mut engine: Option<EngineView> = None;
    let (mut run, mut silent_ms, mut heard) = (1, None, true);
    let of_pod = |pod: &mut Option<PodView>, with: &dyn Fn(&mut PodView)| {
        if let Some(pod) = pod {
            with(pod);
        }
    };
    while let Some(word) = words.maybe() {
        match word {
            "parked" => {}
            "starting" => report.state = EngineState::Starting,
            "mute" => report.state = EngineState::Running,
            "primary" | "replica" => {
                let primary = word == "primary";
                report.state = EngineState::Running;
                engine = Some(EngineView {
                    version: "8.1".into(),
                    role: Some(if primary { Role::Primary } else { Role::Replica }),
                    replid: "h".into(),
                    offset: words.number(),
                    second_offset: -1,
                    complete: true,
                    link: (!primary).then(|| Link { port: desired.port, up: true, ..Link::default() }),
                    ..EngineView::default()
                });
                if primary && cluster {
                    let id = node.trim_start_matches("g-").split('-').next().unwrap_or_default();
                    let shard = desired.shards.iter().find(|shard| shard.id == id);
                    let slots = shard.map(|shard| shard.slots.ranges()).unwrap_or_default();
                    engine.as_mut().unwrap().cluster = Some(view(node, 1, true, slots).into());
                } else if cluster {
                    engine.as_mut().unwrap().cluster = Some(view(node, 1, false, Vec::new()).into());
                }
            }
            "of" => engine.as_mut().unwrap().link.as_mut().unwrap().host = ip(words.next()),
            "down" => {
                let link = engine.as_mut().unwrap().link.as_mut().unwrap();
                (link.up, link.down_ms) = (false, words.number());
            }
            // By its agent's looks nothing comes in the stream.
            "quiet" => {
                let link = engine.as_mut().unwrap().link.as_mut().unwrap();
                (link.quiet, link.parted) = (Some(true), Some(!link.up));
            }
            // And nothing has for so long that what it acknowledged meanwhile has lost its worth.
            "lost" => engine.as_mut().unwrap().link.as_mut().unwrap().lost = Some(true),
            // The link went down only now.
            "parting" => engine.as_mut().unwrap().link.as_mut().unwrap().parted = Some(false),
            "syncing" => {
                let engine = engine.as_mut().unwrap();
                engine.complete = false;
                let link = engine.link.as_mut().unwrap();
                (link.up, link.syncing) = (false, true);
            }
            // Of a history that nobody else shares.
            "foreign" => engine.as_mut().unwrap().replid = format!("of-{node}"),
            "loading" => engine.as_mut().unwrap().loading = true,
            "incomplete" => engine.as_mut().unwrap().complete = false,
            "slotless" => {
                let cluster = engine.as_mut().unwrap().cluster.as_mut().unwrap();
                cluster.nodes.first_mut().unwrap().slots.clear();
                cluster.ok = false;
            }
            "epoch" => {
                let epoch = words.number();
                let cluster = engine.as_mut().unwrap().cluster.as_mut().unwrap();
                (cluster.my_epoch, cluster.current_epoch) = (epoch, epoch);
                cluster.nodes.first_mut().unwrap().epoch = epoch;
            }
            // Nothing that its agent asked was answered for so long; before, it was a primary or a replica at an offset.
            "hung" => {
                report.state = EngineState::Running;
                report.unanswered = Some(Unanswered {
                    ms: words.number(),
                    role: if words.next() == "primary" { Role::Primary } else { Role::Replica },
                    replid: "h".into(),
                    offset: words.number(),
                    complete: true,
                });
            }
            "boot" => run = words.number(),
            "term" => report.term = words.number(),
            "data" => {
                report.has_data = true;
                let (term, offset) = (words.number(), words.number());
                report.record = Some(Record {
                    group: "g".into(),
                    node: node.into(),
                    term,
                    data_term: term,
                    offset,
                    complete: true,
                    replid: "h".into(),
                    at_ms: NOW_MS - 1_000,
                    ..Record::default()
                });
            }
            "torn" => report.record.as_mut().unwrap().complete = false,
            "was-primary" => {
                let record = report.record.as_mut().unwrap();
                (record.role, record.closed) = (Some(Role::Primary), true);
            }
            "was-replica" => report.record.as_mut().unwrap().role = Some(Role::Replica),
            // Its machine lost its power.
            "cut" => report.record.as_mut().unwrap().closed = false,
            "fenced" => report.fenced = true,
            "terminating" => report.terminating = true,
            "trouble" => report.trouble = words.next().to_owned(),
            "silent" => silent_ms = Some(words.number()),
            "unheard" => heard = false,
            "nopod" => (pod, heard) = (None, false),
            "unplaced" => {
                heard = false;
                of_pod(&mut pod, &|pod| {
                    (pod.ip, pod.machine, pod.ready) = (None, None, false);
                    pod.unschedulable = Some("0/3 nodes are available: 3 Insufficient memory.".into());
                });
            }
            "pulling" => {
                heard = false;
                of_pod(&mut pod, &|pod| {
                    (pod.ip, pod.ready) = (None, false);
                    pod.image_trouble = Some("ErrImagePull: not found (valkey:8.1)".into());
                });
            }
            "noip" => {
                heard = false;
                of_pod(&mut pod, &|pod| (pod.ip, pod.ready) = (None, false));
            }
            "young" => of_pod(&mut pod, &|pod| pod.created_ms = NOW_MS - 1_000),
            "deleting" => of_pod(&mut pod, &|pod| pod.deleting = true),
            "terminated" => of_pod(&mut pod, &|pod| {
                (pod.terminated, pod.ready, pod.ended_ms) = (true, false, Some(NOW_MS - 1_000));
            }),
            // The container before the one that the agent speaks from.
            "terminated-before" => of_pod(&mut pod, &|pod| {
                (pod.terminated, pod.ready, pod.ended_ms) = (true, false, Some(NOW_MS - 3_001_000));
            }),
            "use" => of_pod(&mut pod, &|pod| pod.copy = Some(CopyChoice::Use)),
            "put-aside" => of_pod(&mut pod, &|pod| pod.copy = Some(CopyChoice::PutAside)),
            "unwritten" => match engine.as_mut() {
                Some(engine) => engine.unwritten = true,
                None => report.record.as_mut().unwrap().unwritten = true,
            },
            "unloadable" => report.record.as_mut().unwrap().failed_loads = 1,
            "keys" => engine.as_mut().unwrap().keys = words.number(),
            // So much of 100 MiB is left.
            "left" => {
                let free_bytes = words.number::<u64>() << 20;
                report.volume = Some(kagami_protocol::Volume { bytes: 100 << 20, free_bytes });
            }
            "write-failed" => engine.as_mut().unwrap().write_failed = true,
            "old-agent" => report.vocabulary = 0,
            "guarded" => report.guard = true,
            "unguarded" => report.guard = false,
            "notready" => of_pod(&mut pod, &|pod| pod.ready = false),
            "uid" => {
                let uid = words.next().to_owned();
                of_pod(&mut pod, &|pod| pod.uid.clone_from(&uid));
                report.boot.pod_uid = uid;
            }
            word => panic!("{word} is nothing that a node is"),
        }
    }
    report.boot.run = run;
    report.exits = run - 1;
    if let Some(cluster) = engine.as_mut().and_then(|engine| engine.cluster.as_mut()) {
        cluster.my_id = engine_id(node, run);
        cluster.nodes.first_mut().unwrap().id = engine_id(node, run);
    }
    report.engine = engine;
    let report = Shared::from(report);
    let agent = match (heard, silent_ms) {
        (false, _) => Agent::Unheard,
        (true, Some(silent_ms)) => Agent::Silent { silent_ms, last: report },
        (true, None) => Agent::Up(report),
    };
    Drawn { pod, agent }
}

fn view(node: &str, epoch: u64, primary: bool, slots: Vec<(u16, u16)>) -> ClusterView {
    let (shard, _) = numbers(node);
    let epoch = epoch + shard as u64;
    ClusterView {
        my_id: engine_id(node, 1),
        ok: true,
        current_epoch: epoch,
        my_epoch: epoch,
        nodes: vec![ClusterNode {
            id: engine_id(node, 1),
            host: ip(node),
            myself: true,
            primary,
            connected: true,
            epoch,
            slots,
            ..ClusterNode::default()
        }],
    }
}

impl Scene {
    /// Everybody knows everybody, and replicas name their primary.
    pub(crate) fn gossip(&mut self) {
        let port = self.desired.port;
        let mut lines: Vec<ClusterNode> = Vec::new();
        let mut by_host: BTreeMap<String, String> = BTreeMap::new();
        for seen in self.observed.nodes.values() {
            let (report, silent) = match &seen.agent {
                Agent::Up(report) => (report, false),
                Agent::Silent { last, .. } => (last, true),
                Agent::Unheard => continue,
            };
            let Some(mut line) = report
                .engine
                .as_ref()
                .and_then(|engine| engine.cluster.as_ref())
                .and_then(|cluster| cluster.nodes.first())
                .cloned()
            else {
                continue;
            };
            by_host.insert(line.host.clone(), line.id.clone());
            line.myself = false;
            line.fail = silent;
            line.port = port;
            lines.push(line);
        }
        for seen in self.observed.nodes.values_mut() {
            let report = match &mut seen.agent {
                Agent::Up(report) => report,
                Agent::Silent { last, .. } => last,
                Agent::Unheard => continue,
            };
            let Some(engine) = report.engine.as_mut() else { continue };
            let host = engine.link.as_ref().map(|link| link.host.clone());
            let Some(cluster) = engine.cluster.as_deref_mut() else { continue };
            if let Some(own) = cluster.nodes.first_mut() {
                own.port = port;
                own.primary_id = host.and_then(|host| by_host.get(&host).cloned());
            }
            cluster.nodes.truncate(1);
            cluster.nodes.extend(lines.iter().filter(|line| line.id != cluster.my_id).cloned());
        }
    }

    pub(crate) fn plan(&self) -> (Frozen, Plan) {
        plan(&self.desired, &self.observed, &self.setting)
    }

    /// Carries out everything that is about objects, until only roles are left.
    pub(crate) fn world_is_met(&mut self) {
        for _ in 0..6 {
            let (_, plan) = self.plan();
            let mut busy = false;
            for step in &plan.steps {
                busy |= self.obey(&step.act);
            }
            if !busy {
                return;
            }
        }
        let (_, plan) = self.plan();
        panic!("the objects do not come to rest:\n{plan}");
    }

    /// Carries out a step that is about objects; tells whether it was one.
    pub(crate) fn obey(&mut self, act: &Act) -> bool {
        match act {
            Act::Apply { key, object } => {
                let before = self.observed.children.get(key).cloned();
                self.observed
                    .children
                    .insert(key.clone(), as_stored(key.kind, object, before.as_deref()).into());
            }
            Act::MakeSecrets => {
                for name in
                    [names::agent_secret(&self.desired.name), names::operator_secret(&self.desired.name)]
                {
                    let object = kagami_core::build::secret(&self.desired, &name, &BTreeMap::new());
                    let key = ObjectKey { kind: Kind::Secret, name };
                    self.observed.children.insert(key.clone(), as_stored(Kind::Secret, &object, None).into());
                }
            }
            Act::Tie { what: Tied::Child(key), owners } => {
                let object = self.observed.children.get_mut(key).unwrap();
                object["metadata"]["ownerReferences"] = (**owners).clone();
            }
            Act::Delete { key, .. } => {
                self.observed.children.remove(key);
            }
            Act::LabelRole { pod, role, .. } => {
                let node = pod.trim_end_matches("-0");
                let seen = self.observed.nodes.get_mut(node).and_then(|seen| seen.pod.as_mut());
                seen.unwrap().role_label = Some((*role).to_owned());
            }
            _ => return false,
        }
        true
    }

    /// What is planned, as text, with the group's name left out.
    pub(crate) fn text(&self) -> String {
        short(&self.plan().1)
    }

    pub(crate) fn node(&mut self, short: &str) -> &mut ObservedNode {
        self.observed.nodes.get_mut(&full_name(short)).unwrap()
    }

    pub(crate) fn report(&mut self, short: &str) -> &mut Report {
        match &mut self.node(short).agent {
            Agent::Up(report) | Agent::Silent { last: report, .. } => report,
            Agent::Unheard => panic!("{short} was never heard"),
        }
    }

    pub(crate) fn cluster(&mut self, short: &str) -> &mut ClusterView {
        self.report(short).engine.as_mut().unwrap().cluster.as_mut().unwrap()
    }
}

/// A plan as text, with names as drawings write them.
pub(crate) fn short(plan: &Plan) -> String {
    plan.to_string().replace("g-0", "0")
}

/// The plan's events, as text.
pub(crate) fn events(plan: &Plan) -> String {
    let told = plan.steps.iter().filter(|step| !step.event.is_empty());
    let lines: Vec<String> = told
        .map(|step| {
            let kind = if step.warning { "Warning" } else { "Normal" };
            format!("{kind} {}: {}", step.reason, step.event).replace("g-0", "0")
        })
        .collect();
    lines.join("\n")
}

/// An object as the apiserver would return it and a typed store would keep it: with what it fills in, and without what its
/// type does not know.
pub(crate) fn as_stored(kind: Kind, object: &Value, before: Option<&Value>) -> Value {
    let mut stored = typed(kind, object);
    let version: u64 = before
        .and_then(|object| object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok())
        .unwrap_or(0);
    stored["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    stored["metadata"]["uid"] = before.map_or_else(
        || json!(format!("uid-{}", stored["metadata"]["name"])),
        |b| b["metadata"]["uid"].clone(),
    );
    stored["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    match kind {
        Kind::Service => {
            let spec = &mut stored["spec"];
            spec["type"] = json!("ClusterIP");
            spec["sessionAffinity"] = json!("None");
            spec["internalTrafficPolicy"] = json!("Cluster");
            spec["ipFamilies"] = json!(["IPv4"]);
            spec["ipFamilyPolicy"] = json!("SingleStack");
            if spec["clusterIP"].is_null() {
                spec["clusterIP"] = json!("10.96.0.7");
            }
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
            stored["status"] = json!({ "loadBalancer": {} });
        }
        Kind::StatefulSet => {
            let spec = &mut stored["spec"]["template"]["spec"];
            spec["dnsPolicy"] = json!("ClusterFirst");
            spec["restartPolicy"] = json!("Always");
            spec["schedulerName"] = json!("default-scheduler");
            spec["serviceAccount"] = spec["serviceAccountName"].clone();
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array_mut().unwrap() {
                    container["terminationMessagePath"] = json!("/dev/termination-log");
                    container["terminationMessagePolicy"] = json!("File");
                    if container["imagePullPolicy"].is_null() {
                        container["imagePullPolicy"] = json!("IfNotPresent");
                    }
                    for field in container["env"].as_array_mut().into_iter().flatten() {
                        if let Some(reference) = field.pointer_mut("/valueFrom/fieldRef") {
                            reference["apiVersion"] = json!("v1");
                        }
                    }
                }
            }
            for claim in stored["spec"]["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
                claim["spec"]["volumeMode"] = json!("Filesystem");
                claim["status"] = json!({ "phase": "Pending" });
                if let Some(size) = claim.pointer_mut("/spec/resources/requests/storage")
                    && size == "1024Mi"
                {
                    // The apiserver writes amounts in their canonical form.
                    *size = json!("1Gi");
                }
            }
            stored["status"] = json!({ "replicas": 1 });
        }
        Kind::EndpointSlice => {
            stored["metadata"]["generation"] = json!(1);
            for endpoint in stored["endpoints"].as_array_mut().into_iter().flatten() {
                if endpoint["addresses"].is_null() {
                    endpoint["addresses"] = json!([]);
                }
            }
        }
        Kind::PodDisruptionBudget => stored["status"] = json!({ "currentHealthy": 1 }),
        _ => {}
    }
    stored
}

/// An object, read as its type and written again.
pub(crate) fn typed(kind: Kind, object: &Value) -> Value {
    use k8s_openapi::api;
    fn through<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
        let read: K =
            serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}:\n{object:#}"));
        serde_json::to_value(read).unwrap()
    }
    match kind {
        Kind::ServiceAccount => through::<api::core::v1::ServiceAccount>(object),
        Kind::Role => through::<api::rbac::v1::Role>(object),
        Kind::RoleBinding => through::<api::rbac::v1::RoleBinding>(object),
        Kind::Secret => through::<api::core::v1::Secret>(object),
        Kind::ConfigMap => through::<api::core::v1::ConfigMap>(object),
        Kind::NetworkPolicy => through::<api::networking::v1::NetworkPolicy>(object),
        Kind::Service => through::<api::core::v1::Service>(object),
        Kind::EndpointSlice => through::<api::discovery::v1::EndpointSlice>(object),
        Kind::PodDisruptionBudget => through::<api::policy::v1::PodDisruptionBudget>(object),
        Kind::StatefulSet => through::<api::apps::v1::StatefulSet>(object),
    }
}

/// A plan as a table shows it: each step, and of each wait its reason and subject, without the sentence.
pub(crate) fn table(plan: &Plan) -> String {
    let lines: Vec<String> = short(plan)
        .lines()
        .map(|line| match line.strip_prefix("wait ") {
            Some(rest) => format!("wait {}", rest.split(": ").next().unwrap_or_default()),
            None => line.to_owned(),
        })
        .collect();
    lines.join("\n")
}

/// The plan for a drawing is this.
#[track_caller]
pub(crate) fn assert_plan(scene: &Scene, expected: &str) {
    let (frozen, plan) = scene.plan();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let expected = expected.join("\n");
    let found = table(&plan);
    assert!(found == expected, "expected:\n{expected}\n\nplanned:\n{found}\n\nin full:\n{}", short(&plan));
    let notes = kagami_core::check::check(&frozen.desired, &scene.observed, &plan);
    assert!(notes.is_empty(), "the check refuses the plan: {notes:?}\n{plan}");
}
