//! Faults, as they happen and as they end.

use crate::engine::{Model as _, Ms, Reply};
use crate::operator::Update;
use crate::script::{AIM_MS, Fault, MACHINES, Party};
use crate::world::{Event, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kagami_core::slots::SlotSet;
use std::sync::Arc;

impl World {
    /// The faults begin now.
    pub fn begin_faults(&mut self) {
        self.faults_from = self.now;
        let times: Vec<Ms> = self.script.faults.iter().map(|timed| timed.at_ms).collect();
        for (index, at) in times.into_iter().enumerate() {
            self.at(at, Event::Fault(index));
        }
    }

    fn party(&self, party: Party) -> Party {
        match party {
            Party::Machine(machine) => Party::Machine(machine % MACHINES),
            Party::Operator(operator) => Party::Operator(operator % self.operators.len()),
            other => other,
        }
    }

    /// The sandbox of a node, by its number.
    fn pod_of(&self, node: usize) -> Option<usize> {
        let nodes: Vec<&String> = self.kube.pods.keys().collect();
        let name = nodes.get(node % nodes.len().max(1))?;
        self.kube.pods.get(*name)?.sandbox.filter(|pod| !self.pods[*pod].gone)
    }

    fn primary_of(&self, shard: usize) -> Option<usize> {
        let (_, holder) = self.kube.term_of(shard % self.shape.shards)?;
        self.kube.pods.get(&holder)?.sandbox.filter(|pod| !self.pods[*pod].gone)
    }

    /// A fault happens.
    pub fn fault(&mut self, index: usize) {
        let Some(timed) = self.script.faults.get(index) else { return };
        let (fault, phase) = (timed.fault.clone(), self.phase());
        if timed.phase.is_some_and(|aim| aim != phase) && self.now < self.faults_from + timed.at_ms + AIM_MS {
            self.steps -= 1;
            self.at(1, Event::Fault(index));
            return;
        }
        if !matches!(fault, Fault::KillLeaderAt { .. }) {
            self.judge.met(fault.name(), phase);
        }
        self.tell(|| format!("FAULT {fault:?} (in {})", phase.name()));
        let now = self.now;
        match fault.clone() {
            Fault::KillEngine { node } => {
                if let Some(pod) = self.pod_of(node) {
                    self.engine_ended(pod, Some(9), None, "killed", false);
                }
            }
            Fault::KillPrimary { shard } => {
                if let Some(pod) = self.primary_of(shard) {
                    self.engine_ended(pod, Some(9), None, "killed", false);
                }
            }
            Fault::KillContainer { node } => {
                if let Some(pod) = self.pod_of(node) {
                    self.kill_container(pod, false);
                }
            }
            Fault::DeletePod { node } => {
                if let Some(pod) = self.pod_of(node) {
                    let node = self.pods[pod].node.clone();
                    self.delete_pod(&node);
                }
            }
            Fault::DrainPrimary { shard } => {
                if let Some(pod) = self.primary_of(shard) {
                    let node = self.pods[pod].node.clone();
                    self.delete_pod(&node);
                }
            }
            Fault::ForceDeletePod { node } => {
                if let Some(pod) = self.pod_of(node) {
                    let node = self.pods[pod].node.clone();
                    self.kube.pods.remove(&node);
                    self.show_pod(&node);
                }
            }
            Fault::ForceDeletePrimary { shard } => {
                if let Some(pod) = self.primary_of(shard) {
                    let node = self.pods[pod].node.clone();
                    self.kube.pods.remove(&node);
                    self.show_pod(&node);
                }
            }
            Fault::StrandPrimary { shard, with_leader, ms } => {
                if let Some(pod) = self.primary_of(shard) {
                    let mut side = vec![Party::Machine(self.pods[pod].machine)];
                    side.extend(self.leader().filter(|_| with_leader).map(Party::Operator));
                    let others = self.parties().into_iter().filter(|other| !side.contains(other));
                    for other in others.collect::<Vec<_>>() {
                        for one in &side {
                            self.cut(*one, other, now + ms);
                            self.cut(other, *one, now + ms);
                        }
                    }
                }
            }
            Fault::LagReplica { shard, ms } => {
                let primary = self.primary_of(shard);
                let shard = shard % self.shape.shards;
                let replica = self.engines_of(shard).find(|pod| Some(*pod) != primary);
                if let (Some(a), Some(b)) = (primary, replica) {
                    let (a, b) = (self.pods[a].machine, self.pods[b].machine);
                    self.cut(Party::Machine(a), Party::Machine(b), now + ms);
                    self.cut(Party::Machine(b), Party::Machine(a), now + ms);
                }
            }
            Fault::PowerOff { machine, ms } => {
                let machine = machine % MACHINES;
                let on: Vec<usize> = (0..self.pods.len())
                    .filter(|pod| self.pods[*pod].machine == machine && !self.pods[*pod].gone)
                    .collect();
                for pod in on {
                    self.kill_container(pod, true);
                    self.pods[pod].gone = true;
                }
                self.machines[machine].up = false;
                self.machines[machine].boots += 1;
                self.at(ms, Event::Mend(Box::new(fault.clone())));
            }
            Fault::Isolate { machine, ms } => {
                let machine = Party::Machine(machine % MACHINES);
                for other in self.parties().into_iter().filter(|other| *other != machine) {
                    self.cut(machine, other, now + ms);
                    self.cut(other, machine, now + ms);
                }
            }
            Fault::Cut { from, to, ms } => {
                let (from, to) = (self.party(from), self.party(to));
                if from != to {
                    self.cut(from, to, now + ms);
                }
            }
            Fault::Part { a, b, ms } => {
                let (a, b) = (self.party(a), self.party(b));
                if a != b {
                    self.cut(a, b, now + ms);
                    self.cut(b, a, now + ms);
                }
            }
            Fault::Freeze { machine, ms } => {
                for pod in 0..self.pods.len() {
                    if self.pods[pod].machine == machine % MACHINES && !self.pods[pod].gone {
                        self.freeze(pod, ms);
                    }
                }
            }
            Fault::FreezeNode { node, ms } => {
                if let Some(pod) = self.pod_of(node) {
                    self.freeze(pod, ms);
                }
            }
            Fault::FreezeEngine { shard, primary, ms } => {
                let shard = shard % self.shape.shards;
                let lead = self.primary_of(shard);
                let other = self.engines_of(shard).find(|pod| Some(*pod) != lead);
                if let Some(pod) = if primary { lead } else { other } {
                    let place = &mut self.pods[pod];
                    place.hung_until = place.hung_until.max(now + ms);
                    place.thawed_ms = place.thawed_ms.max(place.hung_until);
                }
            }
            Fault::KillOperator { operator } => self.kill_operator(operator % self.operators.len()),
            Fault::KillLeaderAt { request } => {
                let leader = self.leader().unwrap_or(0);
                self.operators[leader].kill_at = Some(request);
            }
            Fault::FreezeOperator { operator, ms } => {
                let operator = operator % self.operators.len();
                self.operators[operator].frozen_until = now + ms;
            }
            Fault::ApiTrouble { ms } => self.kube.trouble_until = now + ms,
            Fault::WatchLag { operator, ms } => {
                let operator = operator % self.operators.len();
                self.operators[operator].lag_until = now + ms;
            }
            Fault::ClockJump { machine, ms } => self.machines[machine % MACHINES].clock_ms += ms,
            Fault::OperatorClockJump { operator, ms } => {
                let operator = operator % self.operators.len();
                self.operators[operator].clock_ms += ms;
            }
            Fault::DiskFull { node, ms } => {
                if let Some(pod) = self.pod_of(node) {
                    let volume = self.pods[pod].volume.clone();
                    if let Some(volume) = self.volumes.get_mut(&volume) {
                        volume.full_until = now + ms;
                    }
                }
            }
            Fault::Slow { machine, ms, by_ms } => self.machines[machine % MACHINES].slow = (now + ms, by_ms),
            Fault::DeleteLease { shard } => {
                let name = format!("g-{:04}", shard % self.shape.shards + 1);
                self.kube.leases.remove(&name);
                self.show(&Update::Lease(name, None));
            }
            Fault::Replicas { count } => self.respec(count + 1, false),
            Fault::BadSpec { ms } => {
                let nodes = self.wanted_nodes() / self.shape.shards;
                self.respec(nodes.max(1), true);
                self.at(ms, Event::Mend(Box::new(fault.clone())));
            }
            Fault::Drain { machine, ms } => {
                let machine = machine % MACHINES;
                self.machines[machine].cordoned = true;
                for node in self.kube.nodes_on(machine) {
                    self.delete_pod(&node);
                }
                self.at(ms, Event::Mend(Box::new(fault.clone())));
            }
            Fault::OpenSlot { from, to, migrating, importing } => {
                self.open_slot(from, to, migrating, importing)
            }
            Fault::DeleteGroup => {
                if let Some(group) = self.kube.group.clone() {
                    let mut group = (*group).clone();
                    group.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::default()));
                    group.metadata.resource_version = Some(self.kube.next_version());
                    let held =
                        group.metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
                    self.kube.group = held.then(|| Arc::new(group));
                    let update = Update::Group(self.kube.group.clone());
                    self.show(&update);
                }
            }
        }
        self.excuse_lost();
    }

    fn parties(&self) -> Vec<Party> {
        let machines = (0..MACHINES).map(Party::Machine);
        let operators = (0..self.operators.len()).map(Party::Operator);
        machines.chain(operators).chain([Party::Api, Party::Clients]).collect()
    }

    /// A slot of that shard which no client writes to.
    fn open_slot(&mut self, from: usize, to: usize, migrating: bool, importing: bool) {
        let from = from % self.shape.shards;
        let slots = SlotSet::split_evenly(self.shape.shards);
        let own = slots.get(from).and_then(|slots| slots.iter().find(|slot| *slot != self.slot_of(from)));
        let (Some(owner), Some(other), Some(slot)) = (self.primary_of(from), self.primary_of(to), own) else {
            return;
        };
        let now = self.now;
        let id = |pod: usize| {
            let view = self.pods[pod].engine.as_ref()?.view(now);
            view.cluster.map(|cluster| cluster.my_id.clone())
        };
        let (Some(owner_id), Some(other_id)) = (id(owner), id(other)) else { return };
        let slot = slot.to_string();
        if importing {
            self.command(other, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &owner_id]);
        }
        if migrating {
            self.command(owner, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &other_id]);
        }
    }

    fn freeze(&mut self, pod: usize, ms: u64) {
        let until = self.now + ms;
        let place = &mut self.pods[pod];
        place.frozen_until = place.frozen_until.max(until);
        // Its engine may stand still for longer than its agent.
        place.thawed_ms = place.thawed_ms.max(place.frozen_until);
    }

    fn respec(&mut self, nodes: usize, bad: bool) {
        if self.kube.group.as_ref().is_none_or(|group| group.metadata.deletion_timestamp.is_some()) {
            return;
        }
        let shape = self.shape.clone();
        // This version adds replicas to a running group and takes none away.
        let nodes = if bad { nodes } else { nodes.max(self.shape.nodes) };
        self.shape.nodes = self.shape.nodes.max(nodes);
        self.kube.apply_group(&shape, nodes, bad);
        let update = Update::Group(self.kube.group.clone());
        self.show(&update);
    }

    /// A fault ends.
    pub fn mend(&mut self, fault: &Fault) {
        match fault {
            Fault::PowerOff { machine, .. } => self.machines[machine % MACHINES].up = true,
            Fault::Drain { machine, .. } => self.machines[machine % MACHINES].cordoned = false,
            Fault::BadSpec { .. } => self.respec(self.shape.nodes, false),
            _ => {}
        }
    }

    /// All faults end.
    pub fn end_faults(&mut self) {
        self.mend_network();
        for machine in &mut self.machines {
            machine.up = true;
            machine.cordoned = false;
            machine.slow = (0, 0);
        }
        for pod in &mut self.pods {
            pod.frozen_until = pod.frozen_until.min(self.now);
            pod.hung_until = pod.hung_until.min(self.now);
            pod.thawed_ms = pod.thawed_ms.min(self.now);
        }
        for operator in &mut self.operators {
            operator.frozen_until = operator.frozen_until.min(self.now);
            operator.lag_until = 0;
            operator.kill_at = None;
        }
        for volume in self.volumes.values_mut() {
            volume.full_until = 0;
        }
        self.kube.trouble_until = 0;
        let bad = self
            .kube
            .group
            .as_ref()
            .is_some_and(|group| group.spec.cache_node_type.as_deref() != Some("cache.t4g.micro"));
        if bad {
            self.respec(self.shape.nodes, false);
        }
        self.tell(|| "FAULTS END".into());
    }

    /// The reply of a command that must not fail.
    pub fn expect(reply: &Reply) -> bool {
        reply.error().is_none()
    }
}
