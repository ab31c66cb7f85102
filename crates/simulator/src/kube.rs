//! Kubernetes, as far as Kagami meets it: an apiserver with resource versions and preconditions, the StatefulSet controller, the
//! scheduler, the garbage collector and kubelets.

use crate::agent::engine_of;
use crate::engine::Ms;
use crate::operator::Update;
use crate::port::{Answered, Ask};
use crate::script::{Party, Shape};
use crate::world::{Event, Pod, World};
use kagami_api::names;
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::build::{NODE_ANNOTATION, SERVED};
use kagami_core::leader::LeaseView;
use kagami_core::observed::{Kind, Machine, ObjectKey, PodView};
use kagami_cycle::{ApiError, Target};
use kagami_protocol::Shared;
use serde::Deserialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

const CONTROL_MS: Ms = 100;
const KUBELET_MS: Ms = 200;
/// How long a kubelet may be silent before its machine is not ready (40 s in a real cluster; only its order matters here).
const NOT_READY_MS: Ms = 8_000;
const GRACE_MS: Ms = 30_000;

/// What a list shows.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The group.
    pub group: Option<Arc<ReplicationGroup>>,
    /// Its children.
    pub children: BTreeMap<ObjectKey, Shared<Value>>,
    /// Leases of shards.
    pub leases: BTreeMap<String, Shared<Value>>,
    /// Pods.
    pub pods: BTreeMap<String, PodView>,
    /// Machines.
    pub machines: BTreeMap<String, Machine>,
}

/// A pod as the apiserver knows it.
#[derive(Clone, Debug)]
pub struct ApiPod {
    /// What matters of it.
    pub view: PodView,
    /// Its machine.
    pub machine: Option<usize>,
    /// Its sandbox.
    pub sandbox: Option<usize>,
    /// When it was deleted.
    pub deleted_ms: Option<Ms>,
    /// When its container is started (again).
    pub start_ms: Ms,
    backoff_ms: Ms,
}

/// What a shard's lease says.
#[derive(Debug)]
pub struct Term {
    /// The term, where a holder is named.
    pub number: Option<u64>,
    /// The holder.
    pub holder: String,
    /// The shard has served.
    pub served: bool,
    /// It began by a handover.
    pub handover: bool,
}

/// A lease, and what it said when it was read.
type Read = (Shared<Value>, Rc<Term>);

/// The apiserver and what it holds.
#[derive(Default)]
pub struct Kube {
    version: u64,
    lease_names: Vec<String>,
    terms: RefCell<BTreeMap<usize, Read>>,
    /// The group.
    pub group: Option<Arc<ReplicationGroup>>,
    /// Its children.
    pub children: BTreeMap<ObjectKey, Shared<Value>>,
    /// Leases of shards.
    pub leases: BTreeMap<String, Shared<Value>>,
    /// Pods, by cache node.
    pub pods: BTreeMap<String, ApiPod>,
    /// Machines.
    pub machines: BTreeMap<String, Machine>,
    /// The operator's lease.
    pub leader: Option<LeaseView>,
    /// Requests fail until then.
    pub trouble_until: Ms,
    uids: u64,
}

fn failure(code: u16, message: impl Into<String>) -> ApiError {
    ApiError { code, message: message.into() }
}

impl Kube {
    /// With the group applied.
    pub fn new(shape: &Shape) -> Self {
        let lease_names = (1..=shape.shards).map(|shard| format!("g-{shard:04}")).collect();
        let mut kube = Self { version: 100, lease_names, ..Self::default() };
        kube.apply_group(shape, shape.nodes, false);
        kube
    }

    /// The next resource version.
    pub fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Somebody applies the group's spec.
    pub fn apply_group(&mut self, shape: &Shape, nodes: usize, bad: bool) {
        let (kind, (major, minor, _)) = engine_of(&shape.engine);
        let kind = if kind == crate::engine::Kind::Redis { "redis" } else { "valkey" };
        let mut spec = json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro",
            "engine": kind, "engineVersion": format!("{major}.{minor}"), "numNodeGroups": shape.shards,
            "replicasPerNodeGroup": nodes - 1,
            "automaticFailoverEnabled": shape.cluster || nodes > 1, "multiAZEnabled": nodes > 1,
            "clusterMode": if shape.cluster { "enabled" } else { "disabled" } });
        if bad {
            spec["cacheNodeType"] = json!("cache.none.such");
        }
        if shape.volumes {
            spec["kubernetes"] = json!({ "storage": { "size": "1Gi" } });
        }
        let Ok(spec) = serde_json::from_value(spec) else { return };
        let mut group = ReplicationGroup::new("g", spec);
        group.metadata.namespace = Some("shop".into());
        group.metadata.uid = Some("u-1".into());
        group.metadata.generation = Some(1);
        if let Some(before) = &self.group {
            group.metadata.clone_from(&before.metadata);
            group.metadata.generation = Some(before.metadata.generation.unwrap_or(1) + 1);
            group.status.clone_from(&before.status);
        }
        group.metadata.resource_version = Some(self.next_version());
        self.group = Some(Arc::new(group));
    }

    /// What a list shows now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            group: self.group.clone(),
            children: self.children.clone(),
            leases: self.leases.clone(),
            pods: self.pods.iter().map(|(node, pod)| (node.clone(), pod.view.clone())).collect(),
            machines: self.machines.clone(),
        }
    }

    /// A shard's term and holder, by its index.
    pub fn term_of(&self, shard: usize) -> Option<(u64, String)> {
        let term = self.term(shard)?;
        Some((term.number?, term.holder.clone()))
    }

    /// What a shard's lease says, by the shard's index; read again only where it has changed.
    pub fn term(&self, shard: usize) -> Option<Rc<Term>> {
        let lease = self.leases.get(self.lease_names.get(shard)?)?;
        let mut terms = self.terms.borrow_mut();
        if let Some((_, term)) = terms.get(&shard).filter(|(read, _)| read.same(lease)) {
            return Some(term.clone());
        }
        let (spec, annotations) = (&lease["spec"], &lease["metadata"]["annotations"]);
        let holder = spec["holderIdentity"].as_str();
        let term = Rc::new(Term {
            number: spec["leaseTransitions"].as_u64().filter(|_| holder.is_some()),
            holder: holder.unwrap_or_default().to_owned(),
            served: annotations[SERVED] == "true",
            handover: annotations["elasticache.kagami.dev/cause"] == "handover",
        });
        terms.insert(shard, (lease.clone(), term.clone()));
        Some(term)
    }

    /// The cache nodes whose pods are bound to a machine.
    pub fn nodes_on(&self, machine: usize) -> Vec<String> {
        self.pods
            .iter()
            .filter(|(_, pod)| pod.machine == Some(machine))
            .map(|(node, _)| node.clone())
            .collect()
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn object(&self, target: &Target) -> Option<&Shared<Value>> {
        match target {
            Target::Child(key) => self.children.get(key),
            Target::Lease(name) => self.leases.get(name),
            Target::Pod(_) | Target::Claim(_) | Target::Group => None,
        }
    }

    fn put(&mut self, target: &Target, mut object: Value) -> Shared<Value> {
        let before = self.object(target).cloned();
        let version = self.next_version();
        let uid = match &before {
            Some(before) => before["metadata"]["uid"].clone(),
            None => json!(self.uid()),
        };
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(version);
        let object = Shared::from(object);
        match target {
            Target::Child(key) => {
                self.children.insert(key.clone(), object.clone());
            }
            Target::Lease(name) => {
                self.leases.insert(name.clone(), object.clone());
            }
            Target::Pod(_) | Target::Claim(_) | Target::Group => {}
        }
        object
    }
}

fn merge_patch(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge_patch(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

impl World {
    /// Whether a request fails, as the apiserver is in trouble.
    pub fn api_fails(&mut self) -> bool {
        self.kube.trouble_until > self.now && self.chance.per_mille(350)
    }

    /// A request arrives.
    pub fn asked(&mut self, operator: usize, process: u64, number: u64, ask: Ask) {
        // Somebody else wrote meanwhile, says the apiserver; it is for whoever asked to look again.
        let conflicts = matches!(ask, Ask::Replace(..) | Ask::Merge(..))
            && self.api_fails()
            && self.chance.per_mille(300);
        let answer = if conflicts {
            Err(failure(409, "the object has been modified; please apply your changes to the latest version"))
        } else {
            self.serve_ask(&ask)
        };
        let lost = self.api_fails() && self.chance.per_mille(500);
        let way = self.way(Party::Api, Party::Operator(operator)).filter(|_| !lost);
        match way {
            Some(delay) => self.reply(operator, process, number, delay + 1, Answered::Api(answer)),
            None => {
                let after = self.chance.between(500, 5_000);
                let lost = failure(0, "the connection timed out");
                self.reply(operator, process, number, after, Answered::Api(Err(lost)));
            }
        }
    }

    fn serve_ask(&mut self, ask: &Ask) -> Result<Option<Value>, ApiError> {
        let stored = |object: Shared<Value>| Ok(Some((*object).clone()));
        match ask {
            Ask::Get(target) => Ok(self.kube.object(target).map(|object| (**object).clone())),
            Ask::Apply(target, object) => {
                let mut merged =
                    self.kube.object(target).map_or_else(|| json!({}), |before| (**before).clone());
                let before = merged.clone();
                if object.pointer("/metadata/ownerReferences").is_none()
                    && let Some(metadata) = merged.get_mut("metadata").and_then(Value::as_object_mut)
                {
                    metadata.remove("ownerReferences");
                }
                merge_patch(&mut merged, object);
                if merged == before {
                    return Ok(Some(before));
                }
                let object = self.write(target, merged);
                stored(object)
            }
            Ask::Create(target, object) => {
                if self.kube.object(target).is_some() {
                    return Err(failure(409, "it exists already"));
                }
                let object = self.write(target, object.clone());
                stored(object)
            }
            Ask::Replace(target, object) => {
                let Some(before) = self.kube.object(target) else { return Err(failure(404, "not found")) };
                let asked = &object["metadata"]["resourceVersion"];
                if !asked.is_null() && *asked != before["metadata"]["resourceVersion"] {
                    return Err(failure(409, "the object has been modified"));
                }
                let object = self.write(target, object.clone());
                stored(object)
            }
            Ask::Merge(Target::Pod(pod), patch) => {
                let node = pod.trim_end_matches("-0").to_owned();
                let Some(known) = self.kube.pods.get_mut(&node) else {
                    return Err(failure(404, "not found"));
                };
                if patch["metadata"]["uid"].as_str().is_some_and(|uid| uid != known.view.uid) {
                    return Err(failure(409, "Precondition failed: UID in precondition"));
                }
                let role = patch["metadata"]["labels"][names::LABEL_ROLE].as_str().map(str::to_owned);
                known.view.role_label = role;
                self.show_pod(&node);
                Ok(None)
            }
            Ask::Merge(Target::Group, patch) => {
                let Some(group) = self.kube.group.clone() else { return Err(failure(404, "not found")) };
                let asked = patch["metadata"]["resourceVersion"].as_str();
                if asked.is_some() && asked != group.metadata.resource_version.as_deref() {
                    return Err(failure(409, "the object has been modified"));
                }
                let mut group = (*group).clone();
                let finalizers: Vec<String> = patch["metadata"]["finalizers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|f| f.as_str().map(str::to_owned))
                    .collect();
                let gone = finalizers.is_empty() && group.metadata.deletion_timestamp.is_some();
                group.metadata.finalizers = Some(finalizers);
                group.metadata.resource_version = Some(self.kube.next_version());
                self.kube.group = (!gone).then(|| Arc::new(group));
                if gone {
                    self.judge_let_go();
                }
                let update = Update::Group(self.kube.group.clone());
                self.show(&update);
                Ok(None)
            }
            Ask::Merge(target, patch) => {
                let Some(before) = self.kube.object(target) else { return Err(failure(404, "not found")) };
                let asked = &patch["metadata"]["resourceVersion"];
                if !asked.is_null() && *asked != before["metadata"]["resourceVersion"] {
                    return Err(failure(409, "the object has been modified"));
                }
                let mut merged = (**before).clone();
                merge_patch(&mut merged, patch);
                let object = self.write(target, merged);
                stored(object)
            }
            Ask::Status(patch) => {
                let Some(group) = self.kube.group.clone() else { return Err(failure(404, "not found")) };
                let mut group = (*group).clone();
                group.status = Deserialize::deserialize(&patch["status"]).ok();
                let version = self.kube.next_version();
                group.metadata.resource_version = Some(version.clone());
                self.kube.group = Some(Arc::new(group));
                let update = Update::Group(self.kube.group.clone());
                self.show(&update);
                Ok(Some(json!({ "metadata": { "resourceVersion": version } })))
            }
            Ask::Delete(Target::Child(key), uid) => {
                let Some(present) = self.kube.children.get(key) else {
                    return Err(failure(404, "not found"));
                };
                if uid.as_ref().is_some_and(|uid| present["metadata"]["uid"] != **uid) {
                    return Err(failure(409, "Precondition failed: UID in precondition"));
                }
                self.judge_delete(key);
                self.kube.children.remove(key);
                self.show(&Update::Child(key.clone(), None));
                Ok(None)
            }
            Ask::Event(happening) => {
                self.judge_event(happening);
                Ok(None)
            }
            Ask::Delete(..) | Ask::Order(_) | Ask::Pause(_) => Ok(None),
        }
    }

    fn write(&mut self, target: &Target, object: Value) -> Shared<Value> {
        let object = self.kube.put(target, object);
        let update = match target {
            Target::Child(key) => Update::Child(key.clone(), Some(object.clone())),
            Target::Lease(name) => {
                self.tell(|| {
                    format!(
                        "lease {name}: term {} holder {} {}",
                        object["spec"]["leaseTransitions"],
                        object["spec"]["holderIdentity"],
                        object["metadata"]["annotations"]
                    )
                });
                Update::Lease(name.clone(), Some(object.clone()))
            }
            Target::Pod(_) | Target::Claim(_) | Target::Group => return object,
        };
        self.show(&update);
        object
    }

    /// The watches show a pod as it is.
    pub fn show_pod(&mut self, node: &str) {
        let view = self.kube.pods.get(node).map(|pod| pod.view.clone());
        self.show(&Update::Pod(node.to_owned(), view));
    }

    /// The watches show a machine as it is.
    pub fn show_machine(&mut self, machine: usize, ready: bool) {
        let known = &self.machines[machine];
        let view = Machine {
            zone: Some(known.zone.clone()),
            ready,
            unschedulable: known.cordoned,
            out_of_service: known.off_until == Ms::MAX,
            // No zone of the model is ever without a machine, so nobody moves back to one.
            ..Machine::default()
        };
        let name = known.name.clone();
        if self.kube.machines.insert(name.clone(), view.clone()) != Some(view.clone()) {
            self.show(&Update::Machine(name, view));
        }
    }

    // Controllers.

    /// StatefulSets, the scheduler, the garbage collector.
    pub fn control(&mut self) {
        self.at(CONTROL_MS, Event::Control);
        for machine in 0..self.machines.len() {
            if self.now.saturating_sub(self.machines[machine].heard_ms) > NOT_READY_MS {
                self.show_machine(machine, false);
                let name = self.machines[machine].name.clone();
                let nodes: Vec<String> = self
                    .kube
                    .pods
                    .iter()
                    .filter(|(_, pod)| pod.view.machine.as_ref() == Some(&name) && pod.view.ready)
                    .map(|(node, _)| node.clone())
                    .collect();
                for node in nodes {
                    if let Some(pod) = self.kube.pods.get_mut(&node) {
                        pod.view.ready = false;
                    }
                    self.show_pod(&node);
                }
            }
        }
        let sets: Vec<String> = self
            .kube
            .children
            .keys()
            .filter(|key| key.kind == Kind::StatefulSet)
            .map(|key| key.name.clone())
            .collect();
        for node in &sets {
            if !self.kube.pods.contains_key(node) {
                let uid = self.kube.uid();
                let view = PodView { uid, created_ms: self.true_wall(), ..PodView::default() };
                let start_ms = 0;
                let pod =
                    ApiPod { view, machine: None, sandbox: None, deleted_ms: None, start_ms, backoff_ms: 0 };
                self.kube.pods.insert(node.clone(), pod);
                self.schedule(node);
                self.show_pod(node);
            } else if self.kube.pods[node].machine.is_none() {
                self.schedule(node);
            }
        }
        let orphans: Vec<String> =
            self.kube.pods.keys().filter(|node| !sets.contains(node)).cloned().collect();
        for node in orphans {
            self.delete_pod(&node);
        }
        if self.kube.group.is_none() && !(self.kube.children.is_empty() && self.kube.leases.is_empty()) {
            let owned: Vec<ObjectKey> = self
                .kube
                .children
                .iter()
                .filter(|(_, object)| object.pointer("/metadata/ownerReferences").is_some())
                .map(|(key, _)| key.clone())
                .collect();
            for key in owned {
                self.kube.children.remove(&key);
                self.show(&Update::Child(key, None));
            }
            let leases: Vec<String> = self.kube.leases.keys().cloned().collect();
            for name in leases {
                self.kube.leases.remove(&name);
                self.show(&Update::Lease(name, None));
            }
        }
    }

    /// A pod is deleted through the apiserver, with its grace.
    pub fn delete_pod(&mut self, node: &str) {
        let now = self.now;
        let Some(pod) = self.kube.pods.get_mut(node) else { return };
        if pod.deleted_ms.is_some() {
            return;
        }
        pod.deleted_ms = Some(now);
        pod.view.deleting = true;
        if pod.machine.is_none() {
            self.kube.pods.remove(node);
        }
        self.show_pod(node);
    }

    /// The scheduler places a pod: where its volume lies, in its zone, away from its shard, on the emptiest machine.
    fn schedule(&mut self, node: &str) {
        let key = ObjectKey { kind: Kind::StatefulSet, name: node.to_owned() };
        let Some(set) = self.kube.children.get(&key) else { return };
        let inputs: Value = set
            .pointer("/metadata/annotations")
            .and_then(|annotations| annotations.get(NODE_ANNOTATION)?.as_str())
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let zone = inputs["zone"].as_str().filter(|_| inputs["zoneRequired"] == true).map(str::to_owned);
        let pinned = self.volumes.get(node).and_then(|volume| volume.machine);
        let load = |machine: usize| {
            let here = self.kube.pods.iter().filter(|(_, pod)| pod.machine == Some(machine));
            let same = here.clone().filter(|(other, _)| shard_of(other) == shard_of(node)).count();
            (same, here.count(), machine)
        };
        let fits = |machine: &usize| {
            let known = &self.machines[*machine];
            let ready =
                self.kube.machines.get(&known.name).is_some_and(|view| view.ready && !view.out_of_service);
            ready
                && !known.cordoned
                && pinned.is_none_or(|pinned| pinned == *machine)
                && zone.as_ref().is_none_or(|zone| known.zone == *zone)
        };
        let best = (0..self.machines.len()).filter(fits).min_by_key(|machine| load(*machine));
        let now = self.now;
        let start_ms = now + self.chance.between(200, 1_500);
        let name = best.map(|machine| self.machines[machine].name.clone());
        let Some(pod) = self.kube.pods.get_mut(node) else { return };
        match best {
            Some(machine) => {
                pod.machine = Some(machine);
                pod.view.machine = name;
                pod.view.unschedulable = None;
                pod.start_ms = start_ms;
                if self.shape.volumes {
                    self.volumes.entry(node.to_owned()).or_default().machine = Some(machine);
                }
                self.judge_zones(node);
                self.show_pod(node);
            }
            None if pod.view.unschedulable.is_none() => {
                pod.view.unschedulable = Some("0/6 nodes are available".into());
                self.show_pod(node);
            }
            None => {}
        }
    }

    /// A machine's kubelet goes round.
    pub fn kubelet(&mut self, machine: usize) {
        self.at(KUBELET_MS, Event::Kubelet { machine });
        if !self.machines[machine].up {
            return;
        }
        let hears = !self.is_cut(Party::Machine(machine), Party::Api)
            && !self.is_cut(Party::Api, Party::Machine(machine));
        let frozen = self
            .pods
            .iter()
            .any(|pod| pod.machine == machine && pod.frozen_until > self.now && pod.kill_at.is_none());
        // What it was told to do it does, whether or not it hears the apiserver.
        let due: Vec<usize> = self
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| {
                pod.machine == machine && !pod.gone && pod.kill_at.is_some_and(|at| at <= self.now)
            })
            .map(|(index, _)| index)
            .collect();
        for pod in due {
            self.kill_container(pod, false);
            self.pods[pod].gone = true;
        }
        if !hears || (frozen && self.chance.per_mille(500)) {
            return;
        }
        self.machines[machine].heard_ms = self.now;
        self.show_machine(machine, true);
        // Sandboxes whose pod is gone are ended.
        let strays: Vec<usize> = self
            .pods
            .iter()
            .enumerate()
            .filter(|(index, pod)| {
                pod.machine == machine
                    && !pod.gone
                    && self
                        .kube
                        .pods
                        .get(&pod.node)
                        .is_none_or(|api| api.view.uid != pod.uid || api.sandbox != Some(*index))
            })
            .map(|(index, _)| index)
            .collect();
        for pod in strays {
            self.kill_container(pod, false);
            self.pods[pod].gone = true;
        }
        for node in self.kube.nodes_on(machine) {
            self.sync_pod(machine, &node);
        }
    }

    /// One pod is brought to what it should be, and its status told.
    fn sync_pod(&mut self, machine: usize, node: &str) {
        let now = self.now;
        let Some(api) = self.kube.pods.get(node).cloned() else { return };
        let before = api.view.clone();
        let mut api = api;
        match api.sandbox.filter(|index| !self.pods[*index].gone) {
            None => {
                if api.deleted_ms.is_some() {
                    // Told once that the container is over, then removed.
                    if api.sandbox.is_none() || api.view.terminated {
                        self.kube.pods.remove(node);
                        self.show_pod(node);
                        return;
                    }
                    api.view.terminated = true;
                    api.view.ready = false;
                } else if now >= api.start_ms {
                    if api.sandbox.is_some() {
                        api.view.restarts += 1;
                    }
                    let index = self.sandbox(machine, node, &api.view.uid);
                    api.sandbox = Some(index);
                    api.view.ip = Some(self.pods[index].ip.to_string());
                    api.view.terminated = false;
                }
            }
            Some(index) => {
                if api.deleted_ms.is_some() {
                    if self.pods[index].kill_at.is_none() {
                        self.pods[index].kill_at = Some(now + GRACE_MS);
                        self.terminate(index);
                    }
                    if self.pods[index].agent.is_none() {
                        self.pods[index].gone = true;
                        api.view.terminated = true;
                    }
                } else if self.pods[index].agent.is_none() {
                    // The container ended: it is started again, each time later.
                    if !api.view.terminated && api.start_ms <= now {
                        api.view.terminated = true;
                        api.start_ms = now + api.backoff_ms.max(800);
                        api.backoff_ms = (api.backoff_ms * 2).clamp(10_000, 300_000);
                    } else if now >= api.start_ms {
                        api.view.terminated = false;
                        api.view.restarts += 1;
                        let life = self.pods[index].life;
                        self.begin(index, life);
                    }
                }
                let ready = self.state(index).is_some_and(|state| state.ready().is_ok());
                api.view.ready = ready && self.pods[index].frozen_until <= now;
            }
        }
        if api.view.terminated && !before.terminated {
            api.view.ended_ms = api.sandbox.and_then(|index| self.pods[index].ended_ms);
        }
        let changed = api.view != before;
        self.kube.pods.insert(node.to_owned(), api);
        if changed {
            self.show_pod(node);
        }
    }

    /// A sandbox for a pod.
    fn sandbox(&mut self, machine: usize, node: &str, uid: &str) -> usize {
        let index = self.pods.len();
        let ip = self.address(index);
        let volume = if self.shape.volumes { node.to_owned() } else { uid.to_owned() };
        self.volumes.entry(volume.clone()).or_default();
        self.pods.push(Pod {
            node: node.to_owned(),
            shard: shard_of(node),
            uid: uid.to_owned(),
            machine,
            ip,
            agent: None,
            life: 1,
            engine: None,
            engine_life: 0,
            wake_ms: Ms::MAX,
            volume,
            frozen_until: 0,
            hung_until: 0,
            thawed_ms: 0,
            gone: false,
            kill_at: None,
            made_primary_ms: None,
            ended_ms: None,
        });
        self.tell(|| format!("pod {index} is {node} ({uid}) at {ip} on m{}", machine + 1));
        let after = self.chance.between(20, 200);
        self.at(after, Event::Begin { pod: index, life: 1 });
        index
    }

    /// The container of a pod ends, with all that runs in it.
    pub fn kill_container(&mut self, pod: usize, power: bool) {
        self.engine_ended(pod, Some(9), None, "killed with its container", power);
        self.container_ended(pod, false);
    }

    /// The agent has ended.
    pub fn container_ended(&mut self, pod: usize, in_order: bool) {
        let place = &mut self.pods[pod];
        if place.agent.is_none() {
            return;
        }
        let lines: Vec<u64> = place.agent.as_ref().map(|agent| agent.lines.clone()).unwrap_or_default();
        for line in lines {
            self.close_at_agent(line);
        }
        let ended_ms = self.wall(self.pods[pod].machine).div_euclid(1_000) * 1_000;
        let place = &mut self.pods[pod];
        place.ended_ms = Some(ended_ms);
        place.agent = None;
        place.life += 1;
        place.frozen_until = 0;
        self.tell(|| format!("container of pod {pod} has ended{}", if in_order { " in order" } else { "" }));
        // Somebody deleted the pod; what only it held went with it.
        self.excuse_lost();
    }
}

/// The index of a node's shard.
pub fn shard_of(node: &str) -> usize {
    node.rsplit('-').nth(1).and_then(|text| text.parse::<usize>().ok()).map_or(0, |number| number - 1)
}
