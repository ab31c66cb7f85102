//! Planted bugs: Kagami as it would be with a mistake in it, so that it is known that the judges bite. They live here alone, around
//! the mind and the hand and never in them; nothing of this crate is part of what is shipped.

use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::observed::{Agent, Kind, ObjectKey, Observed};
use kagami_cycle::Order;
use kagami_protocol::{Command, EngineState, Role, StartData};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Of two copies the older one is promoted.
    PromotesTheOlder,
    /// A silent primary's successor takes over without waiting for its fence.
    NoFenceBound,
    /// A primary that hears nobody goes on writing.
    NeverFences,
    /// Identities that own slots, or live, are forgotten.
    ForgetsOwners,
    /// A StatefulSet that the group, as a late watch shows it, does not ask for is deleted.
    TrustsStaleReads,
    /// A pod object that is gone is taken for the end of what ran in it.
    DeletedIsDead,
    /// A node that cannot be asked is taken for dead.
    UnknownIsDown,
    /// A primary that is asked to go goes, before its replica took over.
    NoHandOver,
    /// A node that starts as a primary starts from nothing, whatever its volume holds.
    RecreatesOverData,
    /// The group lets go before its nodes have ended.
    DropsFinalizerEarly,
    /// A former leader is obeyed, and goes on.
    TwoLeaders,
    /// An empty node is made the primary beside a living copy.
    EmptyPrimaryServes,
    /// Replicas may copy from any node, whatever it holds.
    SourceAlwaysOpen,
    /// Orders are carried out whatever boot, term or role they were meant for.
    NoFences,
    /// The promotion is ordered before the term is known to be written.
    ActsBeforeIntent,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::PromotesTheOlder,
        Self::NoFenceBound,
        Self::NeverFences,
        Self::ForgetsOwners,
        Self::TrustsStaleReads,
        Self::DeletedIsDead,
        Self::UnknownIsDown,
        Self::NoHandOver,
        Self::RecreatesOverData,
        Self::DropsFinalizerEarly,
        Self::TwoLeaders,
        Self::EmptyPrimaryServes,
        Self::SourceAlwaysOpen,
        Self::NoFences,
        Self::ActsBeforeIntent,
    ];

    /// By its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| format!("{mutant:?}").eq_ignore_ascii_case(text))
    }
}

/// What the mistaken mind believes to see.
pub fn observe(mutant: Option<Mutant>, deleting: bool, observed: &mut Observed) {
    match mutant {
        Some(Mutant::PromotesTheOlder) => {
            for seen in observed.nodes.values_mut() {
                if let Agent::Up(report) = &mut seen.agent
                    && let Some(engine) = &mut report.engine
                    && engine.role == Some(Role::Replica)
                {
                    engine.offset = i64::MAX / 2 - engine.offset;
                    if let Some(record) = &mut report.record {
                        record.data_term = u64::MAX / 2 - record.data_term;
                    }
                }
            }
        }
        Some(Mutant::NoFenceBound) => {
            for lease in observed.leases.values_mut() {
                lease.known_ms = u64::MAX / 4;
            }
            // Nor is a replica asked whether it still hears a primary that is silent.
            let silent: Vec<String> = observed
                .leases
                .values()
                .filter(|lease| observed.report(&lease.holder).is_none())
                .map(|lease| lease.holder.rsplit_once('-').map_or("", |(shard, _)| shard).to_owned())
                .collect();
            for (node, seen) in &mut observed.nodes {
                if silent.iter().any(|shard| node.starts_with(shard.as_str()))
                    && let Agent::Up(report) = &mut seen.agent
                    && let Some(link) = report.engine.as_mut().and_then(|engine| engine.link.as_mut())
                {
                    (link.up, link.down_ms) = (false, 1_000_000);
                    (link.quiet, link.parted) = (Some(true), Some(true));
                }
            }
        }
        Some(Mutant::UnknownIsDown) => {
            let lost: Vec<(String, i64)> = observed
                .nodes
                .values()
                .filter(|seen| matches!(seen.agent, Agent::Silent { .. }))
                .filter_map(|seen| seen.pod.as_ref().map(|pod| (pod.uid.clone(), i64::MAX)))
                .collect();
            observed.over.extend(lost);
        }
        Some(Mutant::ForgetsOwners) => {
            for seen in observed.nodes.values_mut() {
                if let Agent::Up(report) = &mut seen.agent
                    && let Some(cluster) = report.engine.as_mut().and_then(|engine| engine.cluster.as_mut())
                {
                    // It thinks that whoever it does not see connected has failed and owns nothing.
                    for line in cluster.nodes.iter_mut().filter(|line| !line.myself) {
                        line.slots.clear();
                        line.fail |= !line.connected || line.pfail;
                    }
                }
                if let Agent::Silent { last, .. } = &seen.agent {
                    let mut parked = last.clone();
                    parked.state = EngineState::Parked;
                    parked.engine = None;
                    seen.agent = Agent::Up(parked);
                }
            }
        }
        Some(Mutant::DeletedIsDead) => {
            let lost: Vec<(String, i64)> = observed
                .leases
                .values()
                .filter(|lease| {
                    let pod = observed.nodes.get(&lease.holder).and_then(|seen| seen.pod.as_ref());
                    pod.is_none_or(|pod| pod.uid != lease.boot.pod_uid)
                })
                .map(|lease| (lease.boot.pod_uid.clone(), i64::MAX))
                .collect();
            observed.over.extend(lost);
        }
        Some(Mutant::DropsFinalizerEarly) if deleting => {
            observed.children.clear();
            observed.nodes.clear();
        }
        Some(Mutant::EmptyPrimaryServes) => {
            // Replicas' copies count for nothing.
            for seen in observed.nodes.values_mut() {
                if let Agent::Up(report) = &mut seen.agent
                    && let Some(engine) = &mut report.engine
                    && engine.role == Some(Role::Replica)
                    && engine.link.as_ref().is_some_and(|link| !link.up)
                {
                    engine.complete = false;
                    engine.loading = false;
                }
            }
        }
        _ => {}
    }
}

/// What the mistaken mind takes for superfluous: StatefulSets beyond the replicas that the group is seen to ask for.
pub fn superfluous(mutant: Option<Mutant>, group: &ReplicationGroup, observed: &Observed) -> Vec<ObjectKey> {
    let nodes = 1 + group.spec.replicas_per_node_group.unwrap_or(0).max(0) as usize;
    let beyond = |name: &str| {
        name.rsplit('-').next().and_then(|number| number.parse::<usize>().ok()).is_some_and(|n| n > nodes)
    };
    let keys = observed.children.keys().filter(|_| mutant == Some(Mutant::TrustsStaleReads));
    keys.filter(|key| key.kind == Kind::StatefulSet && beyond(&key.name)).cloned().collect()
}

/// What the mistaken hand sends.
pub fn order(mutant: Option<Mutant>, order: &mut Order) {
    if mutant == Some(Mutant::RecreatesOverData)
        && let Command::Start(start) = &mut order.command
    {
        start.data = StartData::PutAside;
        start.keep_previous = false;
    }
}
