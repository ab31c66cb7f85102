//! A schedule as data: what the group looks like, and which faults happen when. It is what a seed expands to, what the shrinker
//! cuts down, and what the corpus keeps.

use crate::chance::Chance;
use serde::{Deserialize, Serialize};

/// The group and what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    /// Node groups.
    pub shards: usize,
    /// Nodes in each.
    pub nodes: usize,
    /// Cluster mode.
    pub cluster: bool,
    /// Volumes (with an append-only file), or memory alone.
    pub volumes: bool,
    /// `redis 6.2`, `redis 7.0`, `valkey 8.1` …
    pub engine: String,
    /// The group is formed and at rest when the faults begin; else they meet its creation.
    pub formed: bool,
    /// Operator processes.
    pub operators: usize,
}

/// What can go wrong. Nodes are numbered over the whole group, machines over the cluster; a number that is too high is taken modulo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fault {
    /// The engine's process is killed; its agent sees it.
    KillEngine { node: usize },
    /// Whichever node is the primary of that shard by its lease.
    KillPrimary { shard: usize },
    /// The container is killed, agent and engine together; the kubelet starts it again.
    KillContainer { node: usize },
    /// The pod is deleted (evicted, drained): SIGTERM, 30 s of grace.
    DeletePod { node: usize },
    /// The pod of the shard's primary is.
    DrainPrimary { shard: usize },
    /// The pod object is removed at once, whatever still runs on the machine.
    ForceDeletePod { node: usize },
    /// The pod object of the shard's primary is removed.
    ForceDeletePrimary { shard: usize },
    /// The machine of the shard's primary is cut from everybody; with the leader on its side, or not.
    StrandPrimary { shard: usize, with_leader: bool, ms: u64 },
    /// The shard's primary and one of its replicas do not hear each other.
    LagReplica { shard: usize, ms: u64 },
    /// The machine loses its power, and comes back.
    PowerOff { machine: usize, ms: u64 },
    /// The machine is cut from everybody; what runs on it runs on.
    Isolate { machine: usize, ms: u64 },
    /// One way between two parties is cut.
    Cut { from: Party, to: Party, ms: u64 },
    /// Both ways.
    Part { a: Party, b: Party, ms: u64 },
    /// Everything on the machine stands still (SIGSTOP, a hypervisor's pause).
    Freeze { machine: usize, ms: u64 },
    /// The engine and agent of one node stand still.
    FreezeNode { node: usize, ms: u64 },
    /// The engine alone of the shard's primary, or of one of its replicas, stands still.
    FreezeEngine { shard: usize, primary: bool, ms: u64 },
    /// The operator's process is killed, and started again by the kubelet.
    KillOperator { operator: usize },
    /// The leader's process is killed just before it sends its k-th request from now on.
    KillLeaderAt { request: u64 },
    /// The operator's process stands still.
    FreezeOperator { operator: usize, ms: u64 },
    /// Requests to the apiserver fail: some without effect, some after they took effect, some conflict.
    ApiTrouble { ms: u64 },
    /// What the operator is shown is late, merged and out of date.
    WatchLag { operator: usize, ms: u64 },
    /// A machine's wall clock jumps.
    ClockJump { machine: usize, ms: i64 },
    /// An operator's wall clock jumps.
    OperatorClockJump { operator: usize, ms: i64 },
    /// Nothing can be written to the node's disk.
    DiskFull { node: usize, ms: u64 },
    /// Messages from and to the machine take longer, and overtake each other.
    Slow { machine: usize, ms: u64, by_ms: u64 },
    /// Somebody deletes a shard's lease.
    DeleteLease { shard: usize },
    /// The spec is changed: replicas for each shard.
    Replicas { count: usize },
    /// The spec is changed to one that is refused, and back.
    BadSpec { ms: u64 },
    /// The machine is cordoned and its pods are evicted.
    Drain { machine: usize, ms: u64 },
    /// Somebody begins to move a slot from one shard to another and goes away: with a mark at its owner, at the other, or at both.
    OpenSlot { from: usize, to: usize, migrating: bool, importing: bool },
    /// The group is deleted.
    DeleteGroup,
}

impl Fault {
    /// Its name in the coverage table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KillEngine { .. } => "kill engine",
            Self::KillPrimary { .. } => "kill primary",
            Self::KillContainer { .. } => "kill container",
            Self::DeletePod { .. } => "delete pod",
            Self::DrainPrimary { .. } => "drain primary",
            Self::ForceDeletePod { .. } => "force-delete pod",
            Self::ForceDeletePrimary { .. } => "force-delete pod",
            Self::StrandPrimary { .. } => "strand primary",
            Self::LagReplica { .. } => "lag replica",
            Self::PowerOff { .. } => "power off",
            Self::Isolate { .. } => "isolate machine",
            Self::Cut { .. } => "one-way cut",
            Self::Part { .. } => "partition",
            Self::Freeze { .. } => "freeze machine",
            Self::FreezeNode { .. } => "freeze node",
            Self::FreezeEngine { .. } => "freeze engine",
            Self::KillOperator { .. } => "kill operator",
            Self::KillLeaderAt { .. } => "kill at request",
            Self::FreezeOperator { .. } => "freeze operator",
            Self::ApiTrouble { .. } => "api trouble",
            Self::WatchLag { .. } => "watch lag",
            Self::ClockJump { .. } => "clock jump",
            Self::OperatorClockJump { .. } => "operator's clock",
            Self::DiskFull { .. } => "disk full",
            Self::Slow { .. } => "slow machine",
            Self::DeleteLease { .. } => "delete lease",
            Self::Replicas { .. } => "change replicas",
            Self::BadSpec { .. } => "refused spec",
            Self::Drain { .. } => "drain machine",
            Self::OpenSlot { .. } => "open slot",
            Self::DeleteGroup => "delete group",
        }
    }
}

/// The names of all faults, in the order of the table.
pub const FAULTS: [&str; 29] = [
    "kill engine",
    "kill primary",
    "kill container",
    "delete pod",
    "drain primary",
    "force-delete pod",
    "strand primary",
    "lag replica",
    "power off",
    "isolate machine",
    "one-way cut",
    "partition",
    "freeze machine",
    "freeze node",
    "freeze engine",
    "kill operator",
    "kill at request",
    "freeze operator",
    "api trouble",
    "watch lag",
    "clock jump",
    "operator's clock",
    "disk full",
    "slow machine",
    "delete lease",
    "change replicas",
    "refused spec",
    "drain machine",
    "delete group",
];

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Party {
    /// The apiserver.
    Api,
    /// An operator process.
    Operator(usize),
    /// A machine and all on it.
    Machine(usize),
    /// The clients.
    Clients,
}

/// A fault and its time after the beginning (of the faults).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timed {
    /// Milliseconds.
    pub at_ms: u64,
    /// It waits until the group is in that phase, for [`AIM_MS`] at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What.
    pub fault: Fault,
}

/// For how long a fault that is aimed waits for its phase.
pub const AIM_MS: u64 = 4_000;

/// Tells the chance of what was added to schedules from theirs.
const ENGINES_FREEZE: u64 = 0x6875_6e67;

/// What a group is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It is formed.
    Forming,
    /// A shard has lost its primary, and a copy lives.
    Failover,
    /// A shard's primary hands over.
    Handover,
    /// A shard has no live copy: it is started from a volume, or from nothing.
    Restore,
    /// A replica is missing.
    Replacement,
    /// It is deleted.
    Deletion,
    /// Nothing happens.
    Rest,
}

impl Phase {
    /// All, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Forming,
        Self::Failover,
        Self::Handover,
        Self::Restore,
        Self::Replacement,
        Self::Deletion,
        Self::Rest,
    ];

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forming => "forming",
            Self::Failover => "failover",
            Self::Handover => "handover",
            Self::Restore => "restore",
            Self::Replacement => "replacement",
            Self::Deletion => "deletion",
            Self::Rest => "rest",
        }
    }
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Script {
    /// Of delays and other chance within the run.
    pub seed: u64,
    /// The group.
    pub shape: Shape,
    /// The faults, in order of time.
    pub faults: Vec<Timed>,
}

/// How many machines there are: two in each of three zones.
pub const MACHINES: usize = 6;

impl Shape {
    /// A shape of chance.
    pub fn draw(chance: &mut Chance) -> Self {
        let cluster = chance.per_mille(750);
        let shards = if cluster { [1, 1, 2, 3, 3][chance.below(5) as usize] } else { 1 };
        let nodes = [1, 2, 2, 2, 3, 3][chance.below(6) as usize];
        let engine = ["redis 6.2", "redis 7.0", "valkey 8.1", "valkey 8.1"][chance.below(4) as usize];
        Self {
            shards,
            nodes,
            cluster,
            volumes: chance.per_mille(500),
            engine: engine.into(),
            formed: chance.per_mille(800),
            operators: if chance.per_mille(400) { 2 } else { 1 },
        }
    }

    /// Three node groups of two.
    pub fn three_by_two() -> Self {
        Self {
            shards: 3,
            nodes: 2,
            cluster: true,
            volumes: false,
            engine: "valkey 8.1".into(),
            formed: true,
            operators: 1,
        }
    }
}

impl Script {
    /// What a seed expands to; of that shape, where one is given.
    pub fn draw(seed: u64, shape: Option<Shape>) -> Self {
        let mut chance = Chance::new(seed);
        let drawn = Shape::draw(&mut chance);
        let shape = shape.unwrap_or(drawn);
        let mut faults = Vec::new();
        let mut at_ms = chance.between(50, 1_500);
        let timed = |at_ms, fault| Timed { at_ms, phase: None, fault };
        // Bursts: a first fault that makes Kagami act, and others while it does; some of them wait for what it will be at.
        for _ in 0..chance.between(1, 3) {
            let mut within = at_ms;
            // Some begin with what a promise is about: a copy that is behind, a primary that nobody hears.
            let shard = chance.below(shape.shards as u64) as usize;
            match chance.below(10) {
                0 => {
                    faults.push(timed(at_ms, Fault::LagReplica { shard, ms: chance.between(500, 8_000) }));
                    within += chance.between(100, 1_500);
                    let ends = [Fault::KillPrimary { shard }, Fault::DrainPrimary { shard }];
                    faults.extend(chance.pick(&ends).map(|fault| timed(within, fault.clone())));
                }
                1 => {
                    let with_leader = shape.operators > 1 && chance.per_mille(500);
                    let ms = chance.between(2_000, 25_000);
                    faults.push(timed(at_ms, Fault::StrandPrimary { shard, with_leader, ms }));
                    if chance.per_mille(700) {
                        within += chance.below(500);
                        faults.push(timed(within, Fault::ForceDeletePrimary { shard }));
                    }
                }
                _ => faults.push(timed(at_ms, Self::disturbance(&mut chance, &shape))),
            }
            for _ in 0..chance.between(2, 5) {
                within += if chance.per_mille(700) { chance.below(400) } else { chance.between(400, 4_000) };
                let fault = if chance.per_mille(550) {
                    Self::complication(&mut chance, &shape)
                } else {
                    Self::disturbance(&mut chance, &shape)
                };
                let aims = [Phase::Failover, Phase::Handover, Phase::Restore, Phase::Replacement];
                let phase = if chance.per_mille(250) { chance.pick(&aims).copied() } else { None };
                faults.push(Timed { at_ms: within, phase, fault });
            }
            at_ms = within + chance.between(500, 12_000);
        }
        if chance.per_mille(60) {
            // At the end, or in the midst of it.
            let at_ms = if chance.per_mille(700) { at_ms } else { chance.below(at_ms) };
            faults.push(timed(at_ms, Fault::DeleteGroup));
            for _ in 0..chance.between(1, 4) {
                let fault = if chance.per_mille(550) {
                    Self::complication(&mut chance, &shape)
                } else {
                    Self::disturbance(&mut chance, &shape)
                };
                faults.push(Timed { at_ms: at_ms + chance.below(800), phase: Some(Phase::Deletion), fault });
            }
        }
        // Drawn apart, so that the other schedules are what they were before there was this fault.
        let mut apart = Chance::new(seed ^ ENGINES_FREEZE);
        if apart.per_mille(200) {
            let shard = apart.below(shape.shards as u64) as usize;
            let primary = apart.per_mille(700);
            let ms = apart.between(500, 40_000);
            faults.push(timed(apart.below(at_ms), Fault::FreezeEngine { shard, primary, ms }));
        }
        faults.sort_by_key(|timed| timed.at_ms);
        Self { seed, shape, faults }
    }

    /// What changes who serves.
    fn disturbance(chance: &mut Chance, shape: &Shape) -> Fault {
        let node = chance.below((shape.shards * shape.nodes) as u64) as usize;
        let shard = chance.below(shape.shards as u64) as usize;
        let machine = chance.below(MACHINES as u64) as usize;
        match chance.below(20) {
            0..=4 => Fault::KillPrimary { shard },
            5 => Fault::KillEngine { node },
            6 | 7 => Fault::KillContainer { node },
            8 => Fault::DeletePod { node },
            9 | 10 => Fault::DrainPrimary { shard },
            11 => Fault::ForceDeletePod { node },
            12 | 13 => Fault::PowerOff { machine, ms: chance.between(2_000, 60_000) },
            14 | 15 => Fault::Isolate { machine, ms: chance.between(500, 30_000) },
            16 => Fault::Freeze { machine, ms: chance.between(200, 10_000) },
            17 => Fault::FreezeNode { node, ms: chance.between(200, 10_000) },
            18 => Fault::Drain { machine, ms: chance.between(5_000, 30_000) },
            _ => Fault::Replicas { count: chance.below(3) as usize },
        }
    }

    /// What makes acting harder.
    fn complication(chance: &mut Chance, shape: &Shape) -> Fault {
        let node = chance.below((shape.shards * shape.nodes) as u64) as usize;
        let operator = chance.below(shape.operators as u64) as usize;
        let machine = chance.below(MACHINES as u64) as usize;
        match chance.below(16) {
            0 | 1 => Fault::KillLeaderAt { request: chance.below(8) },
            2 => Fault::KillOperator { operator },
            3 => Fault::FreezeOperator { operator, ms: chance.between(200, 12_000) },
            4 | 5 => Fault::ApiTrouble { ms: chance.between(500, 10_000) },
            6 | 7 => Fault::WatchLag { operator, ms: chance.between(500, 10_000) },
            8 => Fault::ClockJump { machine, ms: chance.between(0, 20_000) as i64 - 10_000 },
            9 => Fault::OperatorClockJump { operator, ms: chance.between(0, 20_000) as i64 - 10_000 },
            10 => Fault::DiskFull { node, ms: chance.between(500, 10_000) },
            11 => Fault::Slow { machine, ms: chance.between(500, 15_000), by_ms: chance.between(5, 400) },
            12 => Fault::DeleteLease { shard: chance.below(shape.shards as u64) as usize },
            13 => Fault::BadSpec { ms: chance.between(500, 10_000) },
            _ => {
                let parties = [
                    Party::Api,
                    Party::Operator(operator),
                    Party::Machine(machine),
                    Party::Machine(chance.below(MACHINES as u64) as usize),
                ];
                let a = parties[chance.below(4) as usize];
                let b = parties[chance.below(4) as usize];
                let ms = chance.between(300, 20_000);
                if chance.per_mille(500) {
                    Fault::Cut { from: a, to: b, ms }
                } else {
                    Fault::Part { a, b, ms }
                }
            }
        }
    }

    /// How long the faults last, and their effects.
    pub fn ends_ms(&self) -> u64 {
        let waits = |timed: &Timed| if timed.phase.is_some() { AIM_MS } else { 0 };
        self.faults.iter().map(|timed| timed.at_ms + waits(timed)).max().unwrap_or(0)
    }
}
