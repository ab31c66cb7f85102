//! The judges: they know the whole truth, and read each promise at every step.

use crate::engine::{Engine, Model, Ms};
use crate::port::Ask;
use crate::script::Phase;
use crate::world::World;
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{GroupStatus, MemberStatus, Role as ApiRole};
use kagami_core::observed::{Kind, ObjectKey};
use kagami_core::status::Happening;
use kagami_protocol::{Command, EngineState, Order, Start, StartData, StartRole};
use std::collections::BTreeMap;

/// How long after it went on a process that had stood still may answer as before: until its agent's next tick (docs/guarantees.md
/// says so: a frozen machine acknowledges from its buffers as it wakes).
const THAW_MS: Ms = 120;

/// How long a decision may be on its way: what the operator heard since cannot be held against it.
const KNOWN_MS: Ms = 100;

/// What the judges found, and what was covered.
#[derive(Debug, Default)]
pub struct Judge {
    /// Promises that were broken, in words.
    pub violations: Vec<String>,
    /// Which fault met which phase, how often.
    pub coverage: BTreeMap<(&'static str, Phase), u64>,
    /// When the operator sent its last request.
    pub last_request_ms: Ms,
    /// That request.
    pub last_request: String,
    /// Faults that happened.
    pub faults: u64,
    /// Faults that happened while Kagami acted.
    pub overlapping: u64,
    serving: Vec<Option<usize>>,
    serving_since: Vec<Ms>,
    deleting_since: Option<Ms>,
}

impl Judge {
    /// A fault met a phase.
    pub fn met(&mut self, fault: &'static str, phase: Phase) {
        *self.coverage.entry((fault, phase)).or_default() += 1;
        self.faults += 1;
        if phase != Phase::Rest {
            self.overlapping += 1;
        }
    }
}

impl World {
    /// A promise was broken.
    pub fn violate(&mut self, what: String) {
        self.tell(|| format!("*** {what}"));
        if self.judge.violations.len() < 8 {
            let now = self.now;
            self.judge.violations.push(format!("at {now} ms: {what}"));
        }
    }

    /// What the group is at.
    pub fn phase(&self) -> Phase {
        let Some(group) = &self.kube.group else { return Phase::Deletion };
        if group.metadata.deletion_timestamp.is_some() {
            return Phase::Deletion;
        }
        for shard in 0..self.shape.shards {
            let Some(term) = self.kube.term(shard) else { return Phase::Forming };
            if !term.served {
                return Phase::Forming;
            }
            let holder = &*term.holder;
            let slot = self.slot_of(shard);
            let serves = self.engines_of(shard).any(|pod| {
                self.pods[pod].node == holder
                    && self.pods[pod].engine.as_ref().is_some_and(|e| e.writable(self.now, slot))
            });
            if !serves {
                if term.handover {
                    return Phase::Handover;
                }
                let whole = |pod| {
                    self.state(pod).and_then(|state| state.view.as_ref()).is_some_and(|view| view.complete)
                };
                return if self.engines_of(shard).any(whole) { Phase::Failover } else { Phase::Restore };
            }
            let terminating = self.engines_of(shard).any(|pod| {
                self.pods[pod].node == holder && self.state(pod).is_some_and(|state| state.terminating)
            });
            if terminating {
                return Phase::Handover;
            }
        }
        let running = (0..self.shape.shards).flat_map(|shard| self.engines_of(shard)).count();
        let whole = (0..self.shape.shards).flat_map(|shard| self.engines_of(shard)).all(|pod| {
            self.state(pod)
                .and_then(|state| state.view.as_ref())
                .is_some_and(|view| view.complete && view.link.as_ref().is_none_or(|link| link.up))
        });
        if running < self.wanted_nodes() || !whole { Phase::Replacement } else { Phase::Rest }
    }

    /// How many nodes the spec asks for.
    pub fn wanted_nodes(&self) -> usize {
        let replicas =
            self.kube.group.as_ref().and_then(|group| group.spec.replicas_per_node_group).unwrap_or(0);
        self.shape.shards * (1 + usize::try_from(replicas).unwrap_or(0))
    }

    /// P2, and who serves: after each call of an engine.
    pub fn judge_primaries(&mut self, pod: usize) {
        let shard = self.pods[pod].shard;
        let slot = self.slot_of(shard);
        let now = self.now;
        if self.pods[pod].engine.as_ref().is_some_and(Model::is_replica) {
            // If it is a primary again, then by whoever makes it one.
            self.pods[pod].made_primary_ms = None;
        }
        let mut first: Option<usize> = None;
        let mut second: Option<usize> = None;
        for (index, place) in self.pods.iter().enumerate() {
            if place.shard != shard || place.gone || place.is_still(now) || now < place.thawed_ms + THAW_MS {
                continue;
            }
            let Some(engine) = &place.engine else { continue };
            if engine.writable(now, slot) {
                if first.is_some() {
                    second = Some(index);
                } else {
                    first = Some(index);
                }
            }
        }
        if self.judge.serving.len() <= shard {
            self.judge.serving.resize(shard + 1, None);
            self.judge.serving_since.resize(shard + 1, 0);
        }
        if let (Some(a), Some(b)) = (first, second) {
            // Who came second? By the engines' own election the majority of primaries is its fence, and it is none of Kagami's making.
            let newcomer = if self.judge.serving[shard] == Some(b) { a } else { b };
            let elder = if newcomer == a { b } else { a };
            if self.pods[newcomer].made_primary_ms.is_some() && !self.vouched_for(elder) {
                self.violate(format!(
                    "P2: {} (pod {a}) and {} (pod {b}) of shard {shard} both accept writes",
                    self.pods[a].node, self.pods[b].node
                ));
                self.pods[newcomer].made_primary_ms = None;
            }
            return;
        }
        if let Some(serves) = first
            && self.judge.serving[shard] != Some(serves)
        {
            self.judge.serving[shard] = Some(serves);
            self.judge.serving_since[shard] = now;
            self.judge_new_primary(serves);
        }
    }

    /// A group of one node has no fence: whoever deletes its pod by force vouches for its end (docs/guarantees.md), also where it
    /// got replicas since that the old one never heard of.
    fn vouched_for(&self, pod: usize) -> bool {
        !self.has_object(pod) && self.state(pod).is_some_and(|state| !state.guard_on)
    }

    /// Whether the apiserver still has the pod's object: it goes last, unless somebody deletes it by force.
    fn has_object(&self, pod: usize) -> bool {
        let place = &self.pods[pod];
        self.kube.pods.get(&place.node).is_some_and(|object| object.view.uid == place.uid)
    }

    /// P1: whoever serves holds every confirmed write of which a better copy could be reached.
    fn judge_new_primary(&mut self, pod: usize) {
        let shard = self.pods[pod].shard;
        let Some(engine) = &self.pods[pod].engine else { return };
        let missing: Vec<usize> = self
            .clients
            .sent
            .iter()
            .enumerate()
            .filter(|(_, sent)| {
                sent.shard == shard && sent.confirmed && !sent.excused && !engine.holds(sent.key)
            })
            .map(|(index, _)| index)
            .collect();
        self.tell(|| {
            format!("pod {pod} serves shard {shard}; {} confirmed writes are missing in it", missing.len())
        });
        let by_kagami = self.pods[pod].made_primary_ms.is_some();
        for index in missing {
            let key = self.clients.sent[index].key;
            let better = self.engines_of(shard).find(|other| {
                *other != pod
                    && self.reachable_copy(*other)
                    && self.pods[*other].engine.as_ref().is_some_and(|e| e.holds(key))
            });
            match better {
                Some(better) if by_kagami => {
                    let (node, other) = (self.pods[pod].node.clone(), self.pods[better].node.clone());
                    self.violate(format!(
                        "P1: {node} serves without write {} that the reachable copy of {other} holds",
                        key.id
                    ));
                    self.clients.sent[index].excused = true;
                }
                _ => self.clients.sent[index].excused = true,
            }
        }
    }

    /// A live, whole copy whose agent the leader hears, and that was not relieved.
    fn reachable_copy(&self, pod: usize) -> bool {
        let Some(leader) = self.leader() else { return false };
        let place = &self.pods[pod];
        // Whoever deletes its pod by force gives the copy up, and the operator with it.
        if !self.has_object(pod) {
            return false;
        }
        let whole = self.state(pod).is_some_and(|state| {
            state.engine == EngineState::Running
                && state.view.as_ref().is_some_and(|view| view.complete && !view.loading)
        });
        whole
            && !place.is_still(self.now)
            // What was told while an order was on its way could not be known.
            && self.whole_since(leader, &place.node).is_some_and(|since| self.now >= since + KNOWN_MS)
            && self.machines[place.machine].up
            && self
                .hears(leader, &place.node)
                .is_some_and(|report| Some(&report.boot) == self.state(pod).map(|state| &state.boot))
    }

    /// Whether anybody or anything still holds a write.
    fn is_held(&self, shard: usize, key: crate::engine::Key) -> bool {
        self.engines_of(shard)
            // Whoever deletes a pod by force gives up what its process still holds.
            .any(|pod| {
                self.pods[pod].engine.as_ref().is_some_and(|engine| engine.holds(key)) && self.has_object(pod)
            })
            || self.volumes.iter().any(|(_, volume)| {
                Engine::on_disk(&volume.data).contains(&key)
                    || volume.aside.iter().any(|aside| Engine::on_disk(&aside.data).contains(&key))
            })
    }

    /// P1: an engine holds less than before; no fault did that.
    pub fn judge_shrunk(&mut self, pod: usize) {
        let shard = self.pods[pod].shard;
        let gone: Vec<u32> = self
            .clients
            .sent
            .iter()
            .filter(|sent| {
                sent.shard == shard && sent.confirmed && !sent.excused && !self.is_held(shard, sent.key)
            })
            .map(|sent| sent.key.id)
            .collect();
        if let Some(first) = gone.first() {
            let node = self.pods[pod].node.clone();
            self.violate(format!(
                "P1: the last copy of {} confirmed writes (from {first} on) was overwritten on {node}",
                gone.len()
            ));
            for sent in self.clients.sent.iter_mut().filter(|sent| gone.contains(&sent.key.id)) {
                sent.excused = true;
            }
        }
    }

    /// After a fault: what nobody holds any more was lost to the fault.
    pub fn excuse_lost(&mut self) {
        let lost: Vec<usize> = self
            .clients
            .sent
            .iter()
            .enumerate()
            .filter(|(_, sent)| !sent.excused && !self.is_held(sent.shard, sent.key))
            .map(|(index, _)| index)
            .collect();
        for index in lost {
            self.clients.sent[index].excused = true;
        }
    }

    /// P1: a node is started as a primary.
    pub fn judge_start(&mut self, pod: usize, start: &Start) {
        if !matches!(start.role, StartRole::Primary { .. }) {
            return;
        }
        let shard = self.pods[pod].shard;
        let other = self.engines_of(shard).find(|other| *other != pod && self.reachable_copy(*other));
        if let Some(other) = other {
            // From a volume that is no older the node may serve: the rules prefer the later term's data. From nothing, never.
            let volume = self.volumes.get(&self.pods[pod].volume);
            let on_disk =
                volume.filter(|_| start.data == StartData::Keep).map(|volume| Engine::on_disk(&volume.data));
            let on_disk = on_disk.unwrap_or_default();
            let older = self.pods[other].engine.as_ref().is_some_and(|engine| {
                (on_disk.is_empty() && engine.keys() > 0)
                    || self.clients.sent.iter().any(|sent| {
                        sent.shard == shard
                            && sent.confirmed
                            && engine.holds(sent.key)
                            && !on_disk.contains(&sent.key)
                    })
            });
            if older {
                let (node, other) = (self.pods[pod].node.clone(), self.pods[other].node.clone());
                self.violate(format!("P1: {node} is started as a primary beside the live copy of {other}"));
            }
        }
        if start.data == StartData::PutAside {
            let Some(leader) = self.leader() else { return };
            let better = self.pods.iter().enumerate().find(|(index, place)| {
                place.shard == shard
                    && !place.gone
                    && place.engine.is_none()
                    && self.volumes.get(&place.volume).is_some_and(|volume| {
                        volume
                            .record
                            .as_ref()
                            .is_some_and(|record| record.complete && record.failed_loads == 0)
                            && !Engine::on_disk(&volume.data).is_empty()
                    })
                    && self.state(*index).is_some_and(|state| !state.terminating)
                    && self
                        .hears(leader, &place.node)
                        .is_some_and(|report| report.has_data && report.persistent)
            });
            if let Some((index, _)) = better {
                let (node, other) = (self.pods[pod].node.clone(), self.pods[index].node.clone());
                self.violate(format!("P1: {node} is started empty while the volume of {other} holds data"));
            }
        }
    }

    /// P5: an order is carried out: it is the leader's, meant for this life, of no earlier term than the node has seen, and what it
    /// does is written in the shard's lease before.
    pub fn judge_order(&mut self, pod: usize, generation: u64, order: &Order) {
        let Some(state) = self.state(pod) else { return };
        let node = self.pods[pod].node.clone();
        if order.boot != state.boot {
            self.violate(format!("P5: {node} obeys an order that was meant for another life"));
        } else if order.term < state.term {
            let term = state.term;
            self.violate(format!(
                "P5: {node} has seen term {term} and obeys an order of term {}",
                order.term
            ));
        }
        if generation < self.state(pod).map_or(0, |state| state.operator_generation) {
            self.violate(format!("P5: {node} obeys a former leader, of generation {generation}"));
        }
        let leads = match &order.command {
            Command::Promote { .. } => true,
            Command::Start(start) => matches!(start.role, StartRole::Primary { .. }),
            _ => false,
        };
        // A lease that somebody deleted says nothing.
        let leased = self.kube.term_of(self.pods[pod].shard);
        if let Some((term, _)) = leased.filter(|(term, _)| leads && *term < order.term) {
            let wanted = order.term;
            self.violate(format!(
                "P5: {node} is made the primary of term {wanted}, and the lease is of term {term}"
            ));
        }
    }

    /// P1: whoever holds no whole copy is no source of replication.
    pub fn judge_source(&mut self, pod: usize) {
        let place = &self.pods[pod];
        let Some(engine) = &place.engine else { return };
        let whole =
            self.state(pod).and_then(|state| state.life.as_ref()).is_some_and(|life| life.whole.complete());
        if engine.lets_replicas_in() && !whole {
            let node = place.node.clone();
            self.violate(format!("P1: {node} lets replicas copy from it and holds no whole copy"));
        }
    }

    /// P8: a primary that was asked to go ends: not while the leader hears a replica in sync that could have taken over.
    pub fn judge_going(&mut self, pod: usize) {
        let Some(leader) = self.leader() else { return };
        if self.phase() == Phase::Deletion {
            return;
        }
        let place = &self.pods[pod];
        let (shard, ip) = (place.shard, place.ip);
        let slot = self.slot_of(shard);
        // Whoever has just been promoted has nobody in sync yet by its own word: replicas come to it within moments.
        let settled = self.judge.serving_since.get(shard).is_some_and(|since| self.now >= since + 1_000);
        // Whoever stands still can hand over to nobody.
        let moves = settled && !place.is_still(self.now);
        let serves = moves && place.engine.as_ref().is_some_and(|engine| engine.writable(self.now, slot));
        // After a gap the primary is to have the replica back first (one side of a lost connection may still hold it to be up), and
        // its agent looks each second.
        let online: Vec<String> = place.engine.as_ref().map_or_else(Vec::new, |engine| {
            let replicas = engine.view(self.now).replicas.into_iter();
            replicas.filter(|replica| replica.online).map(|replica| replica.host).collect()
        });
        let follows = |other: &usize| {
            if !online.contains(&self.pods[*other].ip.to_string()) {
                return false;
            }
            let engine = self.pods[*other].engine.as_ref();
            engine
                .and_then(Engine::followed)
                .is_some_and(|(host, since)| host == ip && self.now >= since + 1_000)
        };
        // For long enough that everybody could know of it.
        let known = |other: &usize| {
            let since = self.whole_since(leader, &self.pods[*other].node);
            since.is_some_and(|since| self.now >= since + 1_000)
        };
        let heir = self
            .engines_of(shard)
            .find(|other| *other != pod && self.reachable_copy(*other) && follows(other) && known(other));
        if let Some(heir) = heir.filter(|_| serves) {
            let (node, heir) = (place.node.clone(), self.pods[heir].node.clone());
            let seen = self.state(pod).and_then(|state| state.view.as_ref());
            let seen = seen.map(|view| (view.role, view.complete, view.replicas.clone()));
            self.tell(|| format!("{node} saw {seen:?}"));
            self.violate(format!("P8: {node} went without handing over to {heir}, which is in sync"));
        }
    }

    /// P1: a promotion is carried out.
    pub fn judge_promotion(&mut self, pod: usize) {
        let complete =
            self.state(pod).and_then(|state| state.view.as_ref()).is_some_and(|view| view.complete);
        if !complete {
            let node = self.pods[pod].node.clone();
            self.violate(format!("P1: {node} is promoted without a whole copy"));
        }
    }

    /// P1: a node is parked by order.
    pub fn judge_park(&mut self, pod: usize) {
        let shard = self.pods[pod].shard;
        let Some(engine) = &self.pods[pod].engine else { return };
        let only = self.clients.sent.iter().find(|sent| {
            sent.shard == shard
                && sent.acknowledged
                && !sent.excused
                && engine.holds(sent.key)
                && !self.shape.volumes
                && !self.engines_of(shard).any(|other| {
                    other != pod
                        && self.pods[other].engine.as_ref().is_some_and(|engine| engine.holds(sent.key))
                })
        });
        if let Some(sent) = only {
            let (node, id) = (self.pods[pod].node.clone(), sent.key.id);
            self.violate(format!("P1: {node} is parked, the only one to hold write {id}"));
        }
    }

    /// P8: where a pod was placed.
    pub fn judge_zones(&mut self, node: &str) {
        let shard = crate::kube::shard_of(node);
        let multi = self.kube.group.as_ref().is_some_and(|group| group.spec.multi_az_enabled == Some(true));
        let placed: Vec<usize> = self
            .kube
            .pods
            .iter()
            .filter(|(other, _)| crate::kube::shard_of(other) == shard)
            .filter_map(|(_, pod)| pod.machine)
            .collect();
        let one_zone =
            placed.windows(2).all(|pair| self.machines[pair[0]].zone == self.machines[pair[1]].zone);
        if multi && placed.len() > 1 && one_zone {
            self.violate(format!("P8: all copies of shard {shard} are in one zone"));
        }
    }

    /// A child is deleted.
    pub fn judge_delete(&mut self, key: &ObjectKey) {
        let deleting =
            self.kube.group.as_ref().is_none_or(|group| group.metadata.deletion_timestamp.is_some());
        if key.kind == Kind::StatefulSet {
            if !deleting {
                self.violate(format!("P1: {key} is deleted, and the group is not"));
            } else {
                self.judge.deleting_since.get_or_insert(self.now);
            }
        }
    }

    /// The group's finalizer is gone.
    pub fn judge_let_go(&mut self) {
        // Whoever deletes a pod by force vouches for its end.
        let runs = |pod: &usize| !self.pods[*pod].gone && self.pods[*pod].engine.is_some();
        let running = (0..self.pods.len()).filter(|pod| runs(pod) && self.has_object(*pod)).count();
        let since = self.judge.deleting_since.unwrap_or(self.now);
        let sets = self.kube.children.keys().filter(|key| key.kind == Kind::StatefulSet).count();
        if (running > 0 || sets > 0) && self.now - since < 59_000 {
            self.violate(format!(
                "the group was let go while {running} engines ran and {sets} StatefulSets were there"
            ));
        }
    }

    /// An event was told: it must be true.
    pub fn judge_event(&mut self, happening: &Happening) {
        self.tell(|| format!("event {}: {}", happening.reason, happening.message));
        if happening.reason == Reason::DataLost {
            for shard in 0..self.shape.shards {
                let named = happening.message.contains(&format!("node group {:04}", shard + 1));
                let old = self.engines_of(shard).find(|pod| {
                    self.reachable_copy(*pod)
                        && self.pods[*pod].made_primary_ms.is_none()
                        && self.pods[*pod].engine.as_ref().is_some_and(|engine| engine.keys() > 0)
                });
                if let Some(pod) = old.filter(|_| named) {
                    let node = self.pods[pod].node.clone();
                    self.violate(format!("an event says that all keys are lost, and {node} holds a copy"));
                }
            }
        }
    }

    /// The operator sends a request.
    pub fn judge_request(&mut self, operator: usize, ask: &Ask) {
        self.judge.last_request_ms = self.now;
        if let Ask::Status(status) = ask
            && status["status"]["reason"] == Reason::BugRefused.as_str()
        {
            let words =
                status["status"]["conditions"].as_array().into_iter().flatten().find_map(|condition| {
                    condition["message"]
                        .as_str()
                        .filter(|_| condition["reason"] == Reason::BugRefused.as_str())
                });
            let words = words.unwrap_or_default().to_owned();
            self.violate(format!("plan: operator {operator} planned what its own check refuses: {words}"));
        }
        if self.story.is_some() || self.faults_from != Ms::MAX {
            let text = crate::operator::brief(ask);
            if self.story.is_some() {
                let told = text.clone();
                self.tell(|| format!("operator {operator}: {told}"));
            }
            self.judge.last_request = text;
        }
    }

    /// The check refused a plan: then a rule is wrong.
    pub fn judge_refused_plan(&mut self, operator: usize) {
        self.tell(|| format!("operator {operator} planned what its own check refuses"));
    }

    /// The nodes whose copies wait for a person's decision (ADR 12): that is rest, and said.
    fn held(&self) -> Vec<String> {
        let status = self.kube.group.as_ref().and_then(|group| group.status.as_ref());
        let degraded = status.iter().flat_map(|status| &status.conditions);
        let words: Vec<&str> = degraded
            .filter(|condition| condition.reason == Reason::CopyHeld.as_str())
            .map(|condition| condition.message.as_str())
            .collect();
        let told =
            |node: &&String| words.iter().any(|words| words.contains(&format!("{node}: it holds a copy")));
        self.kube.pods.keys().filter(told).cloned().collect()
    }

    /// P4: what is still missing at rest; `None` if all is as the spec says.
    pub fn unrest(&self) -> Option<String> {
        let Some(group) = &self.kube.group else {
            let running = self.pods.iter().filter(|pod| !pod.gone && pod.agent.is_some()).count();
            return (running > 0).then(|| format!("{running} nodes of a deleted group run"));
        };
        if group.metadata.deletion_timestamp.is_some() {
            return Some("the group is being deleted".into());
        }
        let held = self.held();
        let mut count = held.len();
        for shard in 0..self.shape.shards {
            let Some((_, holder)) = self.kube.term_of(shard) else {
                return Some(format!("shard {shard} has no lease"));
            };
            let slot = self.slot_of(shard);
            let Some(primary) = self.engines_of(shard).find(|pod| self.pods[*pod].node == holder) else {
                return Some(format!("{holder} does not run"));
            };
            let Some(source) = &self.pods[primary].engine else { return Some("no engine".into()) };
            if !source.writable(self.now, slot) {
                return Some(format!("{holder} does not accept writes"));
            }
            let marked =
                source.view(self.now).cluster.is_some_and(|cluster| cluster.marks().next().is_some());
            if marked {
                return Some(format!("a slot is open at {holder}"));
            }
            for pod in self.engines_of(shard) {
                let Some(engine) = &self.pods[pod].engine else { continue };
                let node = &self.pods[pod].node;
                if held.contains(node) {
                    continue;
                }
                if node.rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0)
                    * self.shape.shards
                    > self.wanted_nodes()
                {
                    continue;
                }
                count += 1;
                if pod == primary {
                    continue;
                }
                let view = engine.view(self.now);
                if !engine.is_replica() || !view.link.as_ref().is_some_and(|link| link.up) {
                    return Some(format!("{node} is no replica in sync"));
                }
            }
        }
        if count < self.wanted_nodes() {
            return Some(format!("{count} of {} nodes run", self.wanted_nodes()));
        }
        let status = group.status.clone().unwrap_or_default();
        // A crash loop of before is told for minutes, whatever else is awaited.
        let members = status.node_groups.iter().flat_map(|group| &group.node_group_members);
        let awaited = members
            .filter(|member| !held.contains(&member.cache_cluster_id))
            .find(|member| member.status != Some(MemberStatus::Available));
        if let Some(member) = awaited {
            return Some(format!("the status says that {} is {:?}", member.cache_cluster_id, member.status));
        }
        if status.status != Some(GroupStatus::Available) {
            return Some(format!("the status is {:?}, {:?}", status.status, status.reason));
        }
        if status.reason.as_deref() != Some("Available")
            && status.reason.as_deref() != Some("UnsupportedModification")
            && status.reason.as_deref() != Some("CrashLooping")
            && status.reason.as_deref() != Some("CopyHeld")
        {
            return Some(format!(
                "the reason is {:?}: {:?}",
                status.reason,
                status.conditions.first().map(|c| &c.message)
            ));
        }
        None
    }

    /// At rest: the status tells the truth, and every confirmed write is served.
    pub fn judge_rest(&mut self) {
        let Some(group) = self.kube.group.clone() else { return };
        let status = group.status.clone().unwrap_or_default();
        let mut wrong = Vec::new();
        let held = self.held();
        for members in status.node_groups.iter().map(|group| &group.node_group_members) {
            for member in members.iter().filter(|member| !held.contains(&member.cache_cluster_id)) {
                let Some(pod) = self
                    .pods
                    .iter()
                    .position(|pod| !pod.gone && pod.engine.is_some() && pod.node == member.cache_cluster_id)
                else {
                    wrong.push(format!("{} is in the status and does not run", member.cache_cluster_id));
                    continue;
                };
                let replica = self.pods[pod].engine.as_ref().is_some_and(Model::is_replica);
                let told = member.current_role == Some(ApiRole::Replica);
                if replica != told {
                    wrong.push(format!(
                        "the status says that {} is {:?}",
                        member.cache_cluster_id, member.current_role
                    ));
                }
                if member.status != Some(MemberStatus::Available) {
                    wrong.push(format!(
                        "the status says that {} is {:?}",
                        member.cache_cluster_id, member.status
                    ));
                }
            }
        }
        for shard in 0..self.shape.shards {
            let Some((_, holder)) = self.kube.term_of(shard) else { continue };
            let Some(primary) = self.engines_of(shard).find(|pod| self.pods[*pod].node == holder) else {
                continue;
            };
            let Some(engine) = &self.pods[primary].engine else { continue };
            let lost: Vec<u32> = self
                .clients
                .sent
                .iter()
                .filter(|sent| {
                    sent.shard == shard && sent.confirmed && !sent.excused && !engine.holds(sent.key)
                })
                .map(|sent| sent.key.id)
                .collect();
            if let Some(first) = lost.first() {
                wrong.push(format!("P1: {} confirmed writes (from {first} on) of shard {shard} are not served, and nothing was lost to a fault", lost.len()));
            }
        }
        for what in wrong {
            self.violate(what);
        }
    }
}
