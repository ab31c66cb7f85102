//! One snapshot of everything that was seen: Kubernetes objects, agents, and what each of them knows.

use kagami_protocol::Shared;
use kagami_protocol::{
    Address, Boot, EngineState, EngineView, FENCE_BOUND_MS, FENCE_MARGIN_MS, FENCE_SILENCE_MS,
    LEASE_HOLDS_MS, Link, Record, Report, Role,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One snapshot. Nothing in it is a guess: what could not be asked is [`Agent::Silent`].
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The operator's clock, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// The objects that belong to the group, as the apiserver last showed them.
    pub children: BTreeMap<ObjectKey, Shared<Value>>,
    /// Objects that bear a name we need and do not belong to the group.
    pub foreign: BTreeMap<ObjectKey, String>,
    /// Every cache node for which a StatefulSet, a Pod or an agent was seen.
    pub nodes: BTreeMap<String, ObservedNode>,
    /// The shards' leases, by node group id.
    pub leases: BTreeMap<String, ShardLease>,
    /// The machines (Kubernetes nodes), by name.
    pub machines: BTreeMap<String, Machine>,
    /// UIDs of Pods that were going away when the kubelet reported the end of their container, as this operator process saw
    /// it, and when that was (the machine's clock, in milliseconds since the Unix epoch): no life begins there after it.
    pub over: BTreeMap<String, i64>,
    /// Whether the group has once been `available` (from its status): then no new shard is born beside it.
    pub formed: bool,
    /// For how long this operator process has been watching the group, in milliseconds.
    pub watching_ms: u64,
    /// The volume claims, by cache node.
    pub claims: BTreeMap<String, Claim>,
    /// What a person asked for by an annotation.
    pub requests: crate::requests::Requests,
    /// Last known offsets by cache node, from the status; only for words about what was lost.
    pub last_offsets: BTreeMap<String, i64>,
    /// Last known cluster node ids by cache node, from the status.
    pub last_engine_ids: BTreeMap<String, String>,
}

/// What an object is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The name; the namespace is the group's.
    pub name: String,
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

/// The kinds of objects that a group has. The order is the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What pods run as.
    ServiceAccount,
    /// What it may read.
    Role,
    /// The tie between both.
    RoleBinding,
    /// Certificates and passwords.
    Secret,
    /// The endpoints as environment variables.
    ConfigMap,
    /// Who may connect.
    NetworkPolicy,
    /// Names in DNS.
    Service,
    /// The addresses behind the endpoints.
    EndpointSlice,
    /// One for each shard.
    PodDisruptionBudget,
    /// One for each cache node.
    StatefulSet,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
        Self::Secret,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::Service,
        Self::EndpointSlice,
        Self::PodDisruptionBudget,
        Self::StatefulSet,
    ];
    /// The kind's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// One cache node as it was seen.
#[derive(Clone, Debug, Default)]
pub struct ObservedNode {
    /// The Pod, if there is one.
    pub pod: Option<PodView>,
    /// What its agent says.
    pub agent: Agent,
}

/// What an agent answered.
#[derive(Clone, Debug, Default)]
pub enum Agent {
    /// No agent of this node was heard by this operator process.
    #[default]
    Unheard,
    /// Connected, and heard within the beat.
    Up(Shared<Report>),
    /// It was heard before, and is silent now: unknown, not down.
    Silent {
        /// For how long, in milliseconds.
        silent_ms: u64,
        /// The last words.
        last: Shared<Report>,
    },
}

/// What matters of a Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// The UID.
    pub uid: String,
    /// The pod's address, once it has one.
    pub ip: Option<String>,
    /// The machine it is bound to.
    pub machine: Option<String>,
    /// The zone that it is pinned to.
    pub zone: Option<String>,
    /// A deletion is under way.
    pub deleting: bool,
    /// The kubelet reported that the engine's container has ended and does not run now.
    pub terminated: bool,
    /// When that container ended, by the machine's clock in milliseconds since the Unix epoch (whole seconds): the report may
    /// be of an earlier container than the one that an agent spoke from since.
    pub ended_ms: Option<i64>,
    /// What a person has decided about the copy that this node holds ([`CopyChoice`]).
    pub copy: Option<CopyChoice>,
    /// `Ready`.
    pub ready: bool,
    /// The role label it bears.
    pub role_label: Option<String>,
    /// How often the container was started again.
    pub restarts: i32,
    /// The scheduler's words, if it found no machine.
    pub unschedulable: Option<String>,
    /// The kubelet's words, if the image cannot be had (reason, message).
    pub image_trouble: Option<String>,
    /// The kubelet's or the init container's words, if a container cannot be started.
    pub start_trouble: Option<String>,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// What becomes of a copy that is ahead of what its shard was started again from: the value of a pod's annotation
/// [`COPY_ANNOTATION`], which a person writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyChoice {
    /// `use`: the shard goes on from this copy.
    Use,
    /// `put-aside`: the node joins as a replica; this copy is kept beside its data.
    PutAside,
}

/// The annotation of a pod that says what becomes of its copy.
pub const COPY_ANNOTATION: &str = "elasticache.kagami.dev/copy";

impl CopyChoice {
    /// Reads the annotation; another word decides nothing.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "use" => Some(Self::Use),
            "put-aside" => Some(Self::PutAside),
            _ => None,
        }
    }
}

/// A node's volume claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// The machine that the scheduler chose when the volume was made; `None` where it chose none.
    pub machine: Option<String>,
    /// A deletion is under way.
    pub deleting: bool,
}

/// A Kubernetes node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The node controller holds it to be ready. False is a witness of silence, no proof of death.
    pub ready: bool,
    /// Since when it is, or is not, in milliseconds since the Unix epoch; another process's clock, and it outlives the operator.
    pub ready_since_ms: i64,
    /// Cordoned.
    pub unschedulable: bool,
    /// Tainted `node.kubernetes.io/out-of-service`: an administrator vouches that it is off.
    pub out_of_service: bool,
    /// For how long this operator process has seen it [open](Self::open) without a break, in milliseconds of its own clock.
    pub open_ms: u64,
}

impl Machine {
    /// Whether it takes pods.
    pub fn open(&self) -> bool {
        self.ready && !self.unschedulable && !self.out_of_service
    }
}

/// A shard's term: a `Lease` of coordination.k8s.io, written by compare-and-set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardLease {
    /// For the compare-and-set.
    pub resource_version: String,
    /// `leaseTransitions`.
    pub term: u64,
    /// `holderIdentity`: the cache node that is (to be) the primary.
    pub holder: String,
    /// The boot of the holder that the term is meant for.
    pub boot: Boot,
    /// `acquireTime`, in milliseconds since the Unix epoch: when the term was raised.
    pub since_ms: i64,
    /// For how long this operator process has seen this term, in milliseconds of its own clock: whatever the wall clocks say
    /// and however long its request was under way, the term had begun by then.
    pub known_ms: u64,
    /// The primary before, while its end still matters.
    pub previous: Option<(String, Boot)>,
    /// Why the term was raised.
    pub cause: Cause,
    /// The slots of the shard, as they were given at birth (cluster mode enabled).
    pub slots: crate::slots::SlotSet,
    /// The shard has served: from then on an empty start is a loss.
    pub served: bool,
    /// Whether the group owns the lease; `None` where that was not looked at.
    pub owned: Option<bool>,
    /// The terms in which the shard's data began anew, oldest first; kept for as long as a copy from before may come back.
    pub rebirths: Vec<Rebirth>,
    /// Without automatic failover: the node that lost the role to the holder, and has it back once it is in sync.
    pub home: Option<String>,
}

/// How far a copy is: terms first; within a term no replica is ahead of its primary, whose note may lag behind its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// The term in which it was last written or in sync.
    pub data_term: u64,
    /// Written by that term's primary, all of it: a power cut may take from a primary what a replica still has.
    pub primary: bool,
    /// The offset.
    pub offset: i64,
}

/// A shard's data began anew, from an older copy or from nothing, because no better one could be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebirth {
    /// The term that began with it.
    pub term: u64,
    /// What it began from; `None` is nothing.
    pub base: Option<Reach>,
    /// A better copy came back and was given the shard: in which term, and how far it was.
    pub returned: Option<(u64, Reach)>,
}

impl Reach {
    /// By the note beside the data.
    pub fn noted(record: &Record) -> Self {
        Self {
            data_term: record.data_term,
            primary: record.role == Some(Role::Primary) && record.closed,
            offset: record.offset,
        }
    }
}

impl Rebirth {
    /// Whether a copy from before is ahead of what the shard goes on from.
    pub fn left_behind(&self, copy: Reach) -> bool {
        copy.data_term < self.term
            && self.returned.map(|(_, reach)| reach).or(self.base).is_none_or(|base| copy > base)
    }

    /// What a lease begins with whose predecessor somebody deleted, and the memory with it: a copy of any term before the last
    /// that was seen may be one that the shard had gone on without.
    pub fn forgotten(term: u64) -> Self {
        Self { term: 0, base: None, returned: Some((term.saturating_sub(1), Reach::default())) }
    }

    /// Whether a copy was written between the rebirth and the return of the better one.
    pub fn voided(&self, copy: Reach) -> bool {
        self.returned.is_some_and(|(term, _)| (self.term..term).contains(&copy.data_term))
    }
}

impl ShardLease {
    /// Whether a copy is ahead of what the shard goes on from.
    pub fn left_behind(&self, copy: Reach) -> bool {
        self.rebirths.iter().any(|rebirth| rebirth.left_behind(copy))
    }

    /// The rebirth that is being undone: this term was given to the better copy that came back.
    pub fn undoing(&self) -> Option<&Rebirth> {
        self.rebirths.iter().rev().find(|rebirth| rebirth.returned.is_some_and(|(term, _)| term == self.term))
    }
}

/// Why a term began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The shard was formed.
    #[default]
    Birth,
    /// The old primary's death was proven.
    Death,
    /// The old primary fell silent.
    Silence,
    /// The role was handed over on purpose.
    Handover,
    /// No live copy was left: started from the best volume.
    Restore,
    /// No copy at all was left: started empty.
    Empty,
    /// The engines had elected by themselves, or a live primary was found without a lease.
    Adopted,
}

impl Cause {
    /// As it is written in the lease and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Death => "death",
            Self::Silence => "silence",
            Self::Handover => "handover",
            Self::Restore => "restore",
            Self::Empty => "empty",
            Self::Adopted => "adopted",
        }
    }
    /// The reverse of [`Cause::as_str`]; an unknown word is a birth, which claims nothing.
    pub fn parse(text: &str) -> Self {
        [Self::Death, Self::Silence, Self::Handover, Self::Restore, Self::Empty, Self::Adopted]
            .into_iter()
            .find(|cause| cause.as_str() == text)
            .unwrap_or_default()
    }
}

/// Whether one life of an engine is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its agent says that it runs.
    Alive,
    /// It is over, and that is proven.
    Ended(Proof),
    /// Nobody can say.
    Unknown,
}

/// What proves that a life is over. Silence and deleted objects are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The agent, the sole starter of the engine, reports its exit or lives in a later boot of the same Pod.
    Agent,
    /// The kubelet reports that the container has ended.
    Kubelet,
    /// An administrator declared the machine to be off.
    OutOfService,
}

impl Observed {
    /// The report of a node whose agent is heard now.
    pub fn report(&self, node: &str) -> Option<&Report> {
        match &self.nodes.get(node)?.agent {
            Agent::Up(report) => Some(report),
            Agent::Silent { .. } | Agent::Unheard => None,
        }
    }

    /// The engine's own words, of a node whose agent is heard now.
    pub fn engine(&self, node: &str) -> Option<&EngineView> {
        self.report(node).filter(|report| report.state == EngineState::Running)?.engine.as_ref()
    }

    /// A replica's link to its primary, of a node whose agent is heard now.
    pub fn link(&self, node: &str) -> Option<&Link> {
        self.engine(node)?.link.as_ref()
    }

    /// Whether a replica is in sync with that primary, and not with somebody else.
    pub fn in_sync_with(&self, replica: &EngineView, primary: &str) -> bool {
        let host = self.nodes.get(primary).and_then(|seen| seen.pod.as_ref()?.ip.as_ref());
        replica.link.as_ref().is_some_and(|link| link.up && !link.syncing && host == Some(&link.host))
    }

    /// Whether the node is parked now, by its agent's word.
    pub fn parked(&self, node: &str) -> Option<&Report> {
        self.report(node).filter(|report| report.state == EngineState::Parked)
    }

    /// How far the copy of a node is that is heard now: in its live engine, or parked on its volume.
    pub fn reach(&self, node: &str) -> Option<Reach> {
        let report = self.report(node)?;
        let record = report.record.as_ref();
        if let Some(engine) = self.engine(node) {
            let whole = engine.complete && !engine.loading;
            return whole.then(|| Reach {
                data_term: report.data_term(),
                primary: engine.role == Some(Role::Primary),
                offset: engine.offset,
            });
        }
        let record = record.filter(|record| record.complete && report.persistent && report.has_data)?;
        self.parked(node)?;
        Some(Reach::noted(record))
    }

    /// Where a node's engine listens.
    pub fn address(&self, node: &str, port: u16, bus_port: u16) -> Option<Address> {
        let host = self.nodes.get(node)?.pod.as_ref()?.ip.clone()?;
        Some(Address { host, port, bus_port })
    }

    /// Whether one life of a node's engine is over (P3: unknown is not down).
    pub fn life(&self, node: &str, boot: &Boot) -> Life {
        // A container's end proves the end of the lives that began before it, and of no later one.
        let ended_by =
            |ended_ms: Option<i64>| ended_ms.zip(boot.began_ms()).is_some_and(|(end, began)| end >= began);
        let over = ended_by(self.over.get(&boot.pod_uid).copied());
        let Some(seen) = self.nodes.get(node) else {
            return if over { Life::Ended(Proof::Kubelet) } else { Life::Unknown };
        };
        let report = match &seen.agent {
            Agent::Up(report) => Some((report, true)),
            Agent::Silent { last, .. } => Some((last, false)),
            Agent::Unheard => None,
        };
        if let Some((report, up)) = report {
            if report.boot == *boot {
                if up && report.state != EngineState::Parked {
                    return Life::Alive;
                }
                if report.state == EngineState::Parked && up {
                    return Life::Ended(Proof::Agent);
                }
            } else if report.boot.after(boot) == Some(true) {
                // Lives of one Pod follow each other: the kubelet starts a container again only after the last has ended. An
                // older report than the boot is of before it (another process raised the term), and proves nothing.
                return Life::Ended(Proof::Agent);
            }
        }
        if over {
            return Life::Ended(Proof::Kubelet);
        }
        if let Some(pod) = &seen.pod
            && pod.uid == boot.pod_uid
        {
            if pod.terminated && ended_by(pod.ended_ms) {
                return Life::Ended(Proof::Kubelet);
            }
            if pod.machine.as_ref().and_then(|name| self.machines.get(name)).is_some_and(|m| m.out_of_service)
            {
                return Life::Ended(Proof::OutOfService);
            }
        }
        Life::Unknown
    }

    /// Whether Kubernetes, too, has lost sight of that life: its Pod is gone or replaced, or its machine is not ready.
    pub fn kubernetes_lost(&self, node: &str, boot: &Boot) -> bool {
        match self.nodes.get(node).and_then(|seen| seen.pod.as_ref()) {
            None => true,
            Some(pod) if pod.uid != boot.pod_uid => true,
            Some(pod) => pod
                .machine
                .as_ref()
                .is_some_and(|name| self.machines.get(name).is_none_or(|machine| !machine.ready)),
        }
    }

    /// Whether the end of a node's life is proven, by whatever word.
    pub fn ended(&self, node: &str, boot: &Boot) -> bool {
        matches!(self.life(node, boot), Life::Ended(_))
    }

    /// Whether the bound after which a guarded primary has paused its writes has passed since the term was raised.
    ///
    /// It is counted from when this process first saw the term, because the time in the lease is another clock's and was taken
    /// before the request; and not while a replica still hears the primary before, whose writes go on as long as one does.
    /// Where the agent counts each witness from when it was asked for, and this process was the one that it answered, each of them
    /// is waited for by itself: the last confirmation answered the last beat that was heard.
    pub fn fence_passed(&self, lease: &ShardLease) -> bool {
        let heard = lease.previous.as_ref().is_some_and(|(previous, boot)| {
            self.life(previous, boot) == Life::Alive
                && !self.report(previous).is_some_and(|report| report.fenced)
                // Another pod of that name has another address: who hears it does not hear the life before.
                || (self.nodes.get(previous).and_then(|seen| seen.pod.as_ref()).is_some_and(|pod| pod.uid == boot.pod_uid)
                    && self.heard_by(previous).is_some())
        });
        let silent_ms =
            lease.previous.as_ref().and_then(|(previous, boot)| self.asks_its_witnesses(previous, boot));
        let passed = match silent_ms {
            Some(silent_ms) => {
                silent_ms >= FENCE_SILENCE_MS + FENCE_MARGIN_MS
                    && lease.known_ms >= LEASE_HOLDS_MS + FENCE_MARGIN_MS
            }
            None => lease.known_ms >= FENCE_BOUND_MS,
        };
        passed && !heard
    }

    /// For how long a primary of that life is silent, if its agent counts each witness from when it was asked for. An order that
    /// makes it the primary is one, too, from when it is carried out: so only if it was one by its own last word.
    pub fn asks_its_witnesses(&self, node: &str, boot: &Boot) -> Option<u64> {
        match &self.nodes.get(node)?.agent {
            Agent::Silent { silent_ms, last } if last.boot == *boot && last.dates_witnesses() => {
                let primary = last.engine.as_ref().is_some_and(|engine| engine.role == Some(Role::Primary));
                primary.then_some(*silent_ms)
            }
            _ => None,
        }
    }

    /// A live replica whose link to a node is up, or was within the silence that a guarded primary allows itself.
    pub fn heard_by(&self, node: &str) -> Option<&str> {
        let seen = self.nodes.get(node)?;
        let host = seen.pod.as_ref()?.ip.as_deref()?;
        let exact = matches!(&seen.agent, Agent::Silent { last, .. } if last.dates_witnesses());
        self.nodes.keys().map(String::as_str).find(|each| {
            self.link(each).is_some_and(|link| {
                link.host == host && if exact { link.sustains() } else { link.acknowledges() }
            })
        })
    }
}

/// Whether an engine is a primary that may accept writes, by its own words.
pub fn is_primary(engine: &EngineView) -> bool {
    engine.role == Some(Role::Primary)
        && engine.cluster.as_ref().is_none_or(|cluster| cluster.own_slots().next().is_some())
}
