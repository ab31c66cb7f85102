//! A tiny model of the world: a Kubernetes that does what it is told, agents that obey at once, engines that replicate within
//! a tick. There are no delays and no lost messages in it; it is there to see that plans lead somewhere.

use super::as_stored;
use kagami_api::names;
use kagami_api::v1alpha1::ReplicationGroupStatus;
use kagami_core::build;
use kagami_core::check::check;
use kagami_core::desired::{ClusterMode, Desired};
use kagami_core::observed::{Agent, Kind, Machine, ObjectKey, Observed, ObservedNode, PodView};
use kagami_core::plan::{Act, Plan, Setting, plan};
use kagami_core::slots::SlotSet;
use kagami_core::status::{Seen, formed, status};
use kagami_protocol::{
    Address, Boot, ClusterNode, ClusterView, Command, EngineState, EngineView, Link, Record, Report, Role,
    Shared, StartData, StartRole,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TICK_MS: i64 = 100;

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) desired: Desired,
    setting: Setting,
    now_ms: i64,
    counter: u64,
    children: BTreeMap<ObjectKey, Shared<Value>>,
    leases: BTreeMap<String, Value>,
    pub(crate) nodes: BTreeMap<String, Node>,
    disks: BTreeMap<String, Disk>,
    over: BTreeMap<String, i64>,
    pub(crate) status: ReplicationGroupStatus,
    /// Every write that was acknowledged, by shard.
    pub(crate) acknowledged: BTreeMap<String, Vec<u64>>,
    /// What was told.
    pub(crate) events: Vec<String>,
    pub(crate) last_plan: Plan,
}

/// A pod with its agent.
#[derive(Clone)]
pub(crate) struct Node {
    shard: String,
    uid: String,
    ip: String,
    run: u32,
    term: u64,
    terminating: bool,
    role_label: Option<String>,
    pub(crate) engine: Option<Engine>,
    created_ms: i64,
}

#[derive(Clone)]
pub(crate) struct Engine {
    id: String,
    pub(crate) role: Role,
    /// Its keys: the numbers of the writes, in order.
    pub(crate) data: Vec<u64>,
    complete: bool,
    follows: Option<String>,
    up: bool,
    down_since_ms: i64,
    slots: SlotSet,
    epoch: u64,
    knows: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Disk {
    data: Vec<u64>,
    record: Record,
}

impl World {
    pub(crate) fn new(desired: Desired) -> Self {
        Self {
            desired,
            setting: super::setting(),
            now_ms: super::NOW_MS,
            counter: 0,
            children: BTreeMap::new(),
            leases: BTreeMap::new(),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            over: BTreeMap::new(),
            status: ReplicationGroupStatus::default(),
            acknowledged: BTreeMap::new(),
            events: Vec::new(),
            last_plan: Plan::default(),
        }
    }

    fn cluster(&self) -> bool {
        self.desired.cluster_mode == ClusterMode::Enabled
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Observes, plans, checks, acts, until nothing is left to be done; tells how many cycles that took.
    pub(crate) fn converge(&mut self, cycles_max: usize) -> usize {
        for cycle in 0..cycles_max {
            self.cycle();
            if self.last_plan.is_met() {
                return cycle;
            }
        }
        panic!("after {cycles_max} cycles there still is:\n{}\n{:#?}", self.last_plan, self.events);
    }

    pub(crate) fn cycle(&mut self) {
        let observed = self.observe();
        let (frozen, planned) = plan(&self.desired, &observed, &self.setting);
        let notes = check(&frozen.desired, &observed, &planned);
        assert!(notes.is_empty(), "{notes:?}\n{planned}");
        self.status = status(&Seen {
            generation: 1,
            frozen: Some(&frozen),
            refusals: &[],
            observed: &observed,
            plan: Some(&planned),
            failure: None,
            previous: &self.status,
            now: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::from_millisecond(self.now_ms).unwrap(),
            ),
            deleting: false,
        });
        let raises = planned.steps.iter().filter(|step| matches!(step.act, Act::RaiseTerm(_)));
        let others = planned.steps.iter().filter(|step| !matches!(step.act, Act::RaiseTerm(_)));
        for step in raises.chain(others) {
            if !step.event.is_empty() {
                self.events.push(format!("{}: {}", step.reason, step.event));
            }
            self.act(&step.act);
        }
        self.tick();
        self.last_plan = planned;
    }

    // The world's own movement.

    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.place_pods();
        for _ in 0..3 {
            self.replicate();
            self.gossip();
        }
        self.write();
        self.replicate();
        if self.desired.storage.is_some() {
            for (name, node) in &self.nodes {
                let Some(engine) = node.engine.as_ref().filter(|engine| engine.complete) else { continue };
                let record = Record {
                    group: "g".into(),
                    node: name.clone(),
                    term: node.term,
                    data_term: node.term,
                    offset: engine.data.len() as i64,
                    complete: true,
                    closed: true,
                    ..Record::default()
                };
                self.disks.insert(name.clone(), Disk { data: engine.data.clone(), record });
            }
        }
    }

    fn place_pods(&mut self) {
        let missing: Vec<(String, String)> = self
            .desired
            .nodes()
            .filter(|(_, node)| {
                let key = ObjectKey { kind: Kind::StatefulSet, name: node.name.clone() };
                self.children.contains_key(&key) && !self.nodes.contains_key(&node.name)
            })
            .map(|(shard, node)| (shard.id.clone(), node.name.clone()))
            .collect();
        for (shard, name) in missing {
            let number = self.count();
            let node = Node {
                shard,
                uid: format!("pod{number}"),
                ip: format!("10.1.{}.{}", number / 250, number % 250),
                run: 1,
                term: self.disks.get(&name).map_or(0, |disk| disk.record.term),
                terminating: false,
                role_label: None,
                engine: None,
                created_ms: self.now_ms,
            };
            self.nodes.insert(name, node);
        }
    }

    fn at(&self, host: &str) -> Option<&Engine> {
        self.nodes.values().find(|node| node.ip == host).and_then(|node| node.engine.as_ref())
    }

    /// A replica has what its primary has, at once.
    fn replicate(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let Some(engine) = self.nodes[&name].engine.as_ref() else { continue };
            let Some(host) = engine.follows.clone() else { continue };
            let source = self.at(&host).map(|source| (source.id.clone(), source.data.clone()));
            let cluster = self.cluster();
            let now_ms = self.now_ms;
            let Some(engine) = self.nodes.get_mut(&name).and_then(|node| node.engine.as_mut()) else {
                continue;
            };
            match source {
                Some((id, data)) if !cluster || engine.knows.contains_key(&id) => {
                    // What it had is gone: replication checks nothing.
                    (engine.role, engine.data, engine.complete, engine.up) =
                        (Role::Replica, data, true, true);
                    engine.slots = SlotSet::empty();
                }
                _ if engine.up => (engine.up, engine.down_since_ms) = (false, now_ms),
                _ => {}
            }
        }
    }

    /// The higher epoch wins a slot, and who lost all of its slots follows the winner.
    fn gossip(&mut self) {
        if !self.cluster() {
            return;
        }
        let claims: Vec<(String, String, u64, SlotSet)> = self
            .nodes
            .values()
            .filter_map(|node| {
                let engine = node.engine.as_ref().filter(|engine| engine.role == Role::Primary)?;
                Some((engine.id.clone(), node.ip.clone(), engine.epoch, engine.slots.clone()))
            })
            .collect();
        let followed: BTreeMap<String, Option<String>> = self
            .nodes
            .values()
            .map(|node| (node.ip.clone(), node.engine.as_ref().and_then(|engine| engine.follows.clone())))
            .collect();
        for node in self.nodes.values_mut() {
            let Some(engine) = node.engine.as_mut() else { continue };
            for (id, host, epoch, slots) in &claims {
                if *id == engine.id || !engine.knows.contains_key(id) {
                    continue;
                }
                if engine.role == Role::Primary && *epoch > engine.epoch && !engine.slots.is_empty() {
                    engine.slots = engine.slots.difference(slots);
                    if engine.slots.is_empty() {
                        engine.follows = Some(host.clone());
                    }
                }
            }
            // Its primary was demoted: it follows whom that one follows.
            if let Some(Some(next)) = engine.follows.as_ref().and_then(|host| followed.get(host))
                && *next != node.ip
            {
                engine.follows = Some(next.clone());
            }
        }
    }

    /// A client writes one key to each shard's primary; there is never more than one that would take it (P2).
    fn write(&mut self) {
        for shard in self.desired.shards.clone() {
            let cluster = self.cluster();
            let number = self.count();
            let mut takers = Vec::new();
            for node in self.nodes.values_mut().filter(|node| node.shard == shard.id) {
                let Some(engine) = node.engine.as_mut() else { continue };
                if engine.role == Role::Primary && (!cluster || !engine.slots.is_empty()) {
                    engine.data.push(number);
                    takers.push(engine.id.clone());
                }
            }
            assert!(takers.len() < 2, "P2: {takers:?} both take writes for node group {}", shard.id);
            if !takers.is_empty() {
                self.acknowledged.entry(shard.id).or_default().push(number);
            }
        }
    }

    // Faults.

    /// The engine's process ends; the agent parks it.
    pub(crate) fn kill_engine(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).unwrap();
        if node.engine.take().is_some() {
            node.run += 1;
        }
    }

    /// The pod is gone, and another comes with another address; whether its end was seen makes the difference between death
    /// and silence.
    pub(crate) fn kill_pod(&mut self, name: &str, seen: bool) {
        let node = self.nodes.remove(name).unwrap();
        if seen {
            self.over.insert(node.uid, self.now_ms);
        }
        self.place_pods();
    }

    pub(crate) fn terminate(&mut self, name: &str) {
        self.nodes.get_mut(name).unwrap().terminating = true;
    }

    // What is seen.

    fn observe(&self) -> Observed {
        let mut observed = Observed {
            now_ms: self.now_ms,
            children: self.children.clone(),
            over: self.over.clone(),
            formed: formed(&self.status),
            watching_ms: 600_000,
            ..Observed::default()
        };
        for (name, zone) in [("m1", "a"), ("m2", "b"), ("m3", "c")] {
            let machine = Machine { zone: Some(zone.into()), ready: true, ..Machine::default() };
            observed.machines.insert(name.into(), machine);
        }
        for object in self.leases.values() {
            let (shard, mut lease) = build::read_lease(object).unwrap();
            lease.known_ms = u64::try_from(self.now_ms - lease.since_ms).unwrap_or(0);
            observed.leases.insert(shard, lease);
        }
        for (name, node) in &self.nodes {
            let pod = PodView {
                uid: node.uid.clone(),
                ip: Some(node.ip.clone()),
                machine: Some("m1".into()),
                ready: node.engine.is_some(),
                role_label: node.role_label.clone(),
                created_ms: node.created_ms,
                ..PodView::default()
            };
            let agent = Agent::Up(self.report(name, node).into());
            observed.nodes.insert(name.clone(), ObservedNode { pod: Some(pod), agent });
        }
        for member in self.status.node_groups.iter().flat_map(|group| &group.node_group_members) {
            let name = member.cache_cluster_id.clone();
            if let Some(offset) = member.replication_offset {
                observed.last_offsets.insert(name.clone(), offset);
            }
            if let Some(id) = &member.engine_id {
                observed.last_engine_ids.insert(name, id.clone());
            }
        }
        observed
    }

    fn boot(node: &Node) -> Boot {
        Boot { pod_uid: node.uid.clone(), agent: Boot::agent_name(node.created_ms, 10), run: node.run }
    }

    fn report(&self, name: &str, node: &Node) -> Report {
        let disk = self.disks.get(name);
        Report {
            boot: Self::boot(node),
            term: node.term,
            state: if node.engine.is_some() { EngineState::Running } else { EngineState::Parked },
            has_data: disk.is_some(),
            record: disk.map(|disk| disk.record.clone()),
            engine: node.engine.as_ref().map(|engine| self.view(node, engine)),
            terminating: node.terminating,
            ..super::parked(name, node.run, self.desired.storage.is_some())
        }
    }

    fn view(&self, node: &Node, engine: &Engine) -> EngineView {
        EngineView {
            version: "8.1".into(),
            role: Some(engine.role),
            replid: "h".into(),
            offset: engine.data.len() as i64,
            second_offset: -1,
            keys: engine.data.len() as u64,
            complete: engine.complete,
            link: engine.follows.as_ref().filter(|_| engine.role == Role::Replica).map(|host| Link {
                host: host.clone(),
                port: self.desired.port,
                up: engine.up,
                syncing: false,
                down_ms: if engine.up { 0 } else { (self.now_ms - engine.down_since_ms) as u64 },
                quiet: None,
                parted: None,
                lost: None,
            }),
            cluster: self.cluster().then(|| self.cluster_view(node, engine).into()),
            ..EngineView::default()
        }
    }

    fn cluster_view(&self, node: &Node, engine: &Engine) -> ClusterView {
        let engines: Vec<(&Node, &Engine)> =
            self.nodes.values().filter_map(|node| Some((node, node.engine.as_ref()?))).collect();
        let line = |id: &str, host: &str| {
            let alive = engines.iter().find(|(_, engine)| engine.id == id);
            let primary_id = alive
                .and_then(|(_, engine)| engine.follows.as_ref().filter(|_| engine.role == Role::Replica))
                .and_then(|host| self.at(host))
                .map(|primary| primary.id.clone());
            ClusterNode {
                id: id.to_owned(),
                host: alive.map_or(host, |(node, _)| node.ip.as_str()).to_owned(),
                port: self.desired.port,
                myself: id == engine.id,
                primary: alive.is_some_and(|(_, engine)| engine.role == Role::Primary),
                fail: alive.is_none(),
                connected: alive.is_some(),
                primary_id,
                epoch: alive.map_or(0, |(_, engine)| engine.epoch),
                slots: alive.map(|(_, engine)| engine.slots.ranges()).unwrap_or_default(),
                ..ClusterNode::default()
            }
        };
        let mut nodes = vec![line(&engine.id, &node.ip)];
        nodes.extend(engine.knows.iter().map(|(id, host)| line(id, host)));
        let covered = nodes
            .iter()
            .fold(SlotSet::empty(), |all, line| all.union(&SlotSet::from_ranges(line.slots.iter().copied())));
        ClusterView {
            my_id: engine.id.clone(),
            ok: covered.is_full(),
            current_epoch: nodes.iter().map(|line| line.epoch).max().unwrap_or(0),
            my_epoch: engine.epoch,
            nodes,
        }
    }

    // What is done.

    fn act(&mut self, act: &Act) {
        match act {
            Act::Apply { key, object } => {
                let stored = as_stored(key.kind, object, self.children.get(key).map(|is| &**is));
                self.children.insert(key.clone(), stored.into());
            }
            Act::MakeSecrets => {
                for name in
                    [names::agent_secret(&self.desired.name), names::operator_secret(&self.desired.name)]
                {
                    let object = build::secret(&self.desired, &name, &BTreeMap::new());
                    let key = ObjectKey { kind: Kind::Secret, name };
                    self.children.insert(key, as_stored(Kind::Secret, &object, None).into());
                }
            }
            Act::Tie { .. } => {}
            Act::Delete { key, .. } => {
                self.children.remove(key);
            }
            Act::DeleteClaim { .. } | Act::DeletePod { .. } | Act::MovePod(_) => {
                panic!("no machine is gone")
            }
            Act::Annotate { .. } => panic!("nobody asked for anything"),
            Act::LabelRole { pod, uid, role } => {
                let node = self.nodes.get_mut(pod.trim_end_matches("-0")).unwrap();
                assert_eq!(node.uid, *uid);
                node.role_label = Some((*role).to_owned());
            }
            Act::RaiseTerm(raise) => {
                let now = jiff::Timestamp::from_millisecond(self.now_ms).unwrap().to_string();
                let mut object = build::lease(&self.desired, raise, &now);
                let present = self.leases.get(&raise.shard);
                let version = present.and_then(|lease| lease["metadata"]["resourceVersion"].as_str());
                assert_eq!(version, raise.resource_version.as_deref(), "the compare-and-set");
                object["metadata"]["resourceVersion"] = json!(self.count().to_string());
                self.leases.insert(raise.shard.clone(), object);
            }
            Act::NoteServed { shard, .. } => {
                let number = self.count();
                let lease = self.leases.get_mut(shard).unwrap();
                lease["metadata"]["annotations"][build::SERVED] = json!("true");
                lease["metadata"]["resourceVersion"] = json!(number.to_string());
            }
            Act::Order { node, boot, term, role, command } => self.order(node, boot, *term, *role, command),
            Act::HandOver(hand) => {
                self.order(
                    &hand.to,
                    &hand.to_boot,
                    hand.term,
                    Some(Role::Replica),
                    &Command::Promote { min_offset: None, wait_ms: 0, force: false },
                );
                if !hand.cluster {
                    let follow = Command::Replicate {
                        primary: hand.to_address.clone(),
                        primary_id: hand.to_id.clone(),
                    };
                    self.order(&hand.from, &hand.from_boot, hand.term, Some(Role::Primary), &follow);
                }
            }
        }
    }

    /// What an agent does with an order: nothing where its fences do not hold.
    fn order(&mut self, name: &str, boot: &Boot, term: u64, role: Option<Role>, command: &Command) {
        let number = self.count();
        let disk = self.disks.get(name).cloned();
        let highest =
            self.nodes.values().filter_map(|node| Some(node.engine.as_ref()?.epoch)).max().unwrap_or(0);
        let hosts: BTreeMap<String, String> = self
            .nodes
            .values()
            .filter_map(|node| Some((node.ip.clone(), node.engine.as_ref()?.id.clone())))
            .collect();
        let slots_of: BTreeMap<String, SlotSet> = self
            .nodes
            .values()
            .filter_map(|node| Some((node.ip.clone(), node.engine.as_ref()?.slots.clone())))
            .collect();
        let (own_slots, now_ms) = (self.desired.shards.clone(), self.now_ms);
        let node = self.nodes.get_mut(name).unwrap();
        if Self::boot(node) != *boot || term < node.term {
            return;
        }
        if role.is_some() && node.engine.as_ref().map(|engine| engine.role) != role {
            return;
        }
        node.term = term;
        let mut met: Vec<Address> = Vec::new();
        match (command, node.engine.as_mut()) {
            (Command::Start(start), None) => {
                let data = match start.data {
                    StartData::Keep => disk.map(|disk| disk.data).unwrap_or_default(),
                    StartData::PutAside => Vec::new(),
                };
                let (slots, epoch, follows) = match &start.role {
                    StartRole::Primary { slots, epoch } => {
                        (SlotSet::from_ranges(slots.iter().copied()), *epoch, None)
                    }
                    StartRole::Replica { primary, .. } => (SlotSet::empty(), 0, Some(primary.host.clone())),
                };
                let primary = follows.is_none();
                node.engine = Some(Engine {
                    id: format!("id{number}"),
                    // In a cluster it is a primary without slots until it has met whom it follows.
                    role: if primary || !slots_of.is_empty() && start.announce.bus_port != 0 {
                        Role::Primary
                    } else {
                        Role::Replica
                    },
                    data,
                    complete: primary,
                    follows,
                    up: false,
                    down_since_ms: now_ms,
                    slots,
                    epoch,
                    knows: BTreeMap::new(),
                });
                met.clone_from(&start.peers);
                // Its agent meets the primary by itself.
                if let StartRole::Replica { primary, .. } = &start.role {
                    met.push(primary.clone());
                }
            }
            (Command::Meet { peers }, Some(_)) => met.clone_from(peers),
            (Command::AssignSlots { slots, epoch, .. }, Some(engine)) => {
                engine.slots = engine.slots.union(&SlotSet::from_ranges(slots.iter().copied()));
                engine.epoch = epoch.unwrap_or(highest + 1);
            }
            (Command::Replicate { primary, .. }, Some(engine)) => {
                engine.follows = Some(primary.host.clone());
                (engine.role, engine.up, engine.down_since_ms) = (Role::Replica, false, now_ms);
            }
            (Command::Promote { .. }, Some(engine)) => {
                assert!(engine.complete, "P1: {name} is promoted without a whole copy");
                (engine.role, engine.follows, engine.epoch) = (Role::Primary, None, highest + 1);
                if self.desired.cluster_mode == ClusterMode::Enabled {
                    let shard = own_slots.iter().find(|shard| shard.id == node.shard).unwrap();
                    engine.slots = shard.slots.clone();
                }
            }
            (Command::Forget { ids }, Some(engine)) => engine.knows.retain(|id, _| !ids.contains(id)),
            _ => {}
        }
        let (own_id, own_ip) = (node.engine.as_ref().map(|engine| engine.id.clone()), node.ip.clone());
        let Some(own_id) = own_id else { return };
        for address in met {
            if let (Some(id), true) = (hosts.get(&address.host), address.host != own_ip) {
                let known = self.nodes.get_mut(name).and_then(|node| node.engine.as_mut()).unwrap();
                known.knows.insert(id.clone(), address.host.clone());
                let peer = self.nodes.values_mut().find(|node| node.ip == address.host).unwrap();
                peer.engine.as_mut().unwrap().knows.insert(own_id.clone(), own_ip.clone());
            }
        }
    }

    /// The data of a shard's primary.
    pub(crate) fn served(&self, shard: &str) -> &[u64] {
        let mut engines =
            self.nodes.values().filter(|node| node.shard == shard).filter_map(|node| node.engine.as_ref());
        engines.find(|engine| engine.role == Role::Primary).map(|engine| engine.data.as_slice()).unwrap()
    }

    pub(crate) fn shard_of(&self, name: &str) -> &str {
        &self.nodes[name].shard
    }
}
