//! Where the time of a failover goes: when the primary was lost, when that was noticed, when another node was chosen, when
//! the old one was fenced, when the new one was promoted, and when the endpoints had moved.
//!
//! Nothing here decides anything. It looks at what was observed and planned, and is told what was done; the clock is the
//! caller's. All times are milliseconds since the Unix epoch by the operator's clock, but for the moment of the loss, which an
//! agent tells by its own machine's clock.

use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::observed::{Agent, Cause, Kind, Observed, ShardLease};
use crate::plan::{Act, Plan, RaiseTerm, Step};
use kagami_api::names;
use kagami_protocol::{Command, Role};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How long a moved endpoint is waited for before the failover is told of without it, in milliseconds.
const TOLD_AT_LAST_MS: i64 = 5_000;
/// A loss that is said to be older than this when it is noticed is told by a clock that is wrong, in milliseconds.
const SKEW_MS: i64 = 600_000;

/// The part of a failover that a duration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// From the loss of the primary until the operator noticed.
    Detect,
    /// From there until the term was raised for another node.
    Choose,
    /// From there until the old primary was known to accept no more writes.
    Fence,
    /// From there until the new one had been promoted.
    Promote,
    /// From there until the endpoints had moved; 0 where they had moved before.
    Endpoints,
    /// All of it.
    Total,
}

impl Phase {
    /// In order of time, the sum last.
    pub const ALL: [Self; 6] =
        [Self::Detect, Self::Choose, Self::Fence, Self::Promote, Self::Endpoints, Self::Total];
    /// The label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Choose => "choose",
            Self::Fence => "fence",
            Self::Promote => "promote",
            Self::Endpoints => "endpoints",
            Self::Total => "total",
        }
    }
}

/// One failover of one shard, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The node group's id.
    pub shard: String,
    /// The primary before.
    pub from: String,
    /// The new one; empty until it is chosen.
    pub to: String,
    /// Why.
    pub cause: Cause,
    /// When the old primary ended or was last heard, if that is known.
    pub lost_ms: Option<i64>,
    /// When this operator process noticed.
    pub detected_ms: i64,
    /// When the term had been raised.
    pub chosen_ms: Option<i64>,
    /// When the old primary was known to accept no more writes.
    pub fenced_ms: Option<i64>,
    /// When the new one had been promoted.
    pub promoted_ms: Option<i64>,
    /// When the endpoints had moved.
    pub endpoints_ms: Option<i64>,
    /// The last offset that was known of the old primary, in bytes of history.
    pub old_offset: Option<i64>,
    /// The offset at which the new one was chosen, in bytes of history.
    pub new_offset: Option<i64>,
}

impl Failover {
    /// By how many bytes of history the new primary was behind the last that was known of the old one.
    pub fn behind_bytes(&self) -> Option<i64> {
        Some((self.old_offset? - self.new_offset?).max(0))
    }

    /// How long a phase took, in milliseconds; `None` while it is not over, and where its begin is not known.
    pub fn took_ms(&self, phase: Phase) -> Option<i64> {
        let between = |from: i64, to: i64| (to - from).max(0);
        let begin = self.lost_ms.unwrap_or(self.detected_ms);
        match phase {
            Phase::Detect => self.lost_ms.map(|lost| between(lost, self.detected_ms)),
            Phase::Choose => self.chosen_ms.map(|chosen| between(self.detected_ms, chosen)),
            Phase::Fence => Some(between(self.chosen_ms?, self.fenced_ms?)),
            Phase::Promote => Some(between(self.fenced_ms?, self.promoted_ms?)),
            Phase::Endpoints => Some(between(self.promoted_ms?, self.endpoints_ms?)),
            Phase::Total => self
                .promoted_ms
                .map(|promoted| between(begin, promoted.max(self.endpoints_ms.unwrap_or(promoted)))),
        }
    }

    /// ElastiCache's sentence, and then what it does not tell.
    pub fn words(&self) -> String {
        let mut words =
            format!("Failover from primary node {} to replica node {} completed", self.from, self.to);
        let _ = write!(words, " (cause: {}", self.cause.as_str());
        if let Some(total) = self.took_ms(Phase::Total) {
            let _ = write!(words, "; {total} ms");
            let parts: Vec<String> = Phase::ALL
                .iter()
                .filter(|phase| **phase != Phase::Total)
                .filter_map(|phase| Some(format!("{} {} ms", phase.as_str(), self.took_ms(*phase)?)))
                .collect();
            if !parts.is_empty() {
                let _ = write!(words, ": {}", parts.join(", "));
            }
        }
        if let Some(offset) = self.new_offset {
            let _ = write!(words, "; offset {offset}");
        }
        if let Some(behind) = self.behind_bytes() {
            let _ = write!(words, ", {behind} bytes behind the last that was known of the old primary");
        }
        words.push(')');
        words
    }
}

/// The failovers of one group that are under way. All of it may be lost: then a failover is told from its promotion on.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    open: BTreeMap<String, Failover>,
    /// The furthest that each node was known to be.
    offsets: BTreeMap<String, i64>,
}

impl Timeline {
    /// Looks at a cycle before it is carried out; gives the failovers that are over.
    pub fn look(&mut self, group: &Desired, observed: &Observed, plan: &Plan) -> Vec<Failover> {
        self.remember(observed);
        let mut over = Vec::new();
        for shard in &group.shards {
            let lease = observed.leases.get(&shard.id);
            if let Some(lease) = lease.filter(|lease| lease.served) {
                self.detect(shard, lease, observed);
            }
            let Some(open) = self.open.get_mut(&shard.id) else { continue };
            if open.promoted_ms.is_none() {
                if promotes(plan, shard) && open.fenced_ms.is_none() {
                    open.fenced_ms = Some(open.chosen_ms.unwrap_or(observed.now_ms).max(observed.now_ms));
                }
                continue;
            }
            let at_last = open.promoted_ms.is_some_and(|at| observed.now_ms - at > TOLD_AT_LAST_MS);
            let serves = lease.is_some_and(|lease| lease.holder == open.to && holds_office(lease, observed));
            if at_last || serves && !moves_endpoints(group, plan) {
                if !at_last && open.endpoints_ms.is_none() {
                    open.endpoints_ms = open.promoted_ms;
                }
                over.extend(self.open.remove(&shard.id));
            }
        }
        over
    }

    /// A step was carried out.
    pub fn done(&mut self, group: &Desired, observed: &Observed, step: &Step, at_ms: i64) {
        match &step.act {
            Act::RaiseTerm(raise) => self.raised(observed, raise, at_ms),
            Act::Order { node, command, .. } if matches!(**command, Command::Promote { .. }) => {
                self.promoted(group, observed, node, at_ms);
            }
            Act::HandOver(hand) => self.promoted(group, observed, &hand.to, at_ms),
            Act::Apply { key, .. } if key.kind == Kind::EndpointSlice && key.name == group.name => {
                for open in self.open.values_mut() {
                    open.endpoints_ms = Some(at_ms);
                }
            }
            _ => {}
        }
    }

    fn raised(&mut self, observed: &Observed, raise: &RaiseTerm, at_ms: i64) {
        let before = observed.leases.get(&raise.shard).filter(|lease| lease.served);
        let open = self.open.get(&raise.shard).filter(|open| open.promoted_ms.is_none());
        let from = open.map(|open| &open.from).or_else(|| before.map(|lease| &lease.holder)).cloned();
        let failover =
            matches!(raise.cause, Cause::Death | Cause::Silence | Cause::Handover | Cause::Adopted);
        // One that keeps or gets back the role, and a shard that is started anew, are no failover.
        let Some(from) = from.filter(|from| failover && *from != raise.holder) else {
            self.open.remove(&raise.shard);
            return;
        };
        let old_offset = self.offset(&from);
        let holder = observed.engine(&raise.holder);
        let open = self
            .open
            .entry(raise.shard.clone())
            .or_insert_with(|| Failover::begun(&raise.shard, &from, raise.cause, observed.now_ms));
        open.to.clone_from(&raise.holder);
        open.cause = raise.cause;
        open.chosen_ms = Some(at_ms);
        open.fenced_ms = open.fenced_ms.map(|_| at_ms);
        open.old_offset = open.old_offset.max(old_offset);
        open.new_offset = holder.map(|engine| engine.offset);
        if holder.is_some_and(|engine| engine.role == Some(Role::Primary)) {
            open.fenced_ms = Some(at_ms);
            open.promoted_ms = Some(at_ms);
        }
    }

    /// The last offset that was known of a node.
    fn offset(&self, node: &str) -> Option<i64> {
        self.offsets.get(node).copied()
    }

    fn remember(&mut self, observed: &Observed) {
        for (node, seen) in &observed.nodes {
            let report = match &seen.agent {
                Agent::Up(report) | Agent::Silent { last: report, .. } => report,
                Agent::Unheard => continue,
            };
            let told = observed.last_offsets.get(node).copied();
            let offset = report.engine.as_ref().map(|engine| engine.offset);
            match (offset, self.offsets.get_mut(node)) {
                (Some(offset), Some(known)) => *known = offset,
                // The engine has ended; what was heard in between is in the last offsets.
                (None, Some(known)) => *known = told.map_or(*known, |told| told.max(*known)),
                (offset, None) => {
                    if let Some(offset) = offset.or(told) {
                        self.offsets.insert(node.clone(), offset);
                    }
                }
            }
        }
    }

    /// Notices that the holder is lost, or that it was nothing.
    fn detect(&mut self, shard: &DesiredShard, lease: &ShardLease, observed: &Observed) {
        if holds_office(lease, observed) {
            if let Some(open) = self.open.get_mut(&shard.id).filter(|open| open.promoted_ms.is_none()) {
                if open.to == lease.holder {
                    // The order had no answer, and was carried out.
                    open.promoted_ms = Some(observed.now_ms);
                } else {
                    self.open.remove(&shard.id);
                }
            }
            return;
        }
        let old_offset = self.offset(&lease.holder);
        self.open.entry(shard.id.clone()).or_insert_with(|| {
            let taking = lease.previous.as_ref().filter(|_| !matches!(lease.cause, Cause::Birth));
            let awaited =
                observed.engine(&lease.holder).is_some_and(|engine| engine.role == Some(Role::Replica));
            match taking.filter(|_| awaited) {
                // Begun by another process: the term is raised, and the promotion is still to come.
                Some((previous, _)) => Failover {
                    to: lease.holder.clone(),
                    chosen_ms: Some(lease.since_ms),
                    new_offset: observed.engine(&lease.holder).map(|engine| engine.offset),
                    ..Failover::begun(&shard.id, previous, lease.cause, observed.now_ms.min(lease.since_ms))
                },
                None => Failover {
                    lost_ms: lost_ms(lease, observed),
                    old_offset,
                    ..Failover::begun(&shard.id, &lease.holder, Cause::Death, observed.now_ms)
                },
            }
        });
    }

    fn promoted(&mut self, group: &Desired, observed: &Observed, node: &str, at_ms: i64) {
        let shard = group.shards.iter().find(|shard| shard.nodes.iter().any(|each| each.name == node));
        let Some(open) = shard.and_then(|shard| self.open.get_mut(&shard.id)) else { return };
        let began = open.chosen_ms.unwrap_or(observed.now_ms);
        open.fenced_ms.get_or_insert(began);
        open.promoted_ms = Some(at_ms);
        if group.cluster_mode == ClusterMode::Disabled {
            // The one that names the old primary; the next is awaited.
            open.endpoints_ms = None;
        }
    }
}

impl Failover {
    fn begun(shard: &str, from: &str, cause: Cause, detected_ms: i64) -> Self {
        Self {
            shard: shard.to_owned(),
            from: from.to_owned(),
            to: String::new(),
            cause,
            lost_ms: None,
            detected_ms,
            chosen_ms: None,
            fenced_ms: None,
            promoted_ms: None,
            endpoints_ms: None,
            old_offset: None,
            new_offset: None,
        }
    }
}

/// The holder runs as the primary, in the life that the lease means.
fn holds_office(lease: &ShardLease, observed: &Observed) -> bool {
    observed.report(&lease.holder).is_some_and(|report| {
        report.boot == lease.boot
            && report.engine.as_ref().is_some_and(|engine| engine.role == Some(Role::Primary))
    })
}

/// When the holder's engine ended, or its agent was last heard.
fn lost_ms(lease: &ShardLease, observed: &Observed) -> Option<i64> {
    let lost = match &observed.nodes.get(&lease.holder)?.agent {
        Agent::Up(report) => {
            report.last_exit.as_ref().filter(|exit| exit.boot == lease.boot).map(|exit| exit.at_ms)?
        }
        Agent::Silent { silent_ms, .. } => {
            observed.now_ms.saturating_sub(i64::try_from(*silent_ms).unwrap_or(i64::MAX))
        }
        Agent::Unheard => return None,
    };
    // Another machine's clock may be ahead by a little; one that is wrong by much tells nothing.
    let ago = observed.now_ms - lost;
    (-1_000..SKEW_MS).contains(&ago).then(|| lost.min(observed.now_ms))
}

fn promotes(plan: &Plan, shard: &DesiredShard) -> bool {
    plan.steps.iter().any(|step| match &step.act {
        Act::Order { node, command, .. } => {
            matches!(**command, Command::Promote { .. }) && shard.nodes.iter().any(|each| each.name == *node)
        }
        Act::HandOver(hand) => shard.nodes.iter().any(|each| each.name == hand.to),
        _ => false,
    })
}

fn moves_endpoints(group: &Desired, plan: &Plan) -> bool {
    let reader = names::reader_service(&group.name);
    plan.steps.iter().any(|step| {
        matches!(&step.act, Act::Apply { key, .. }
            if key.kind == Kind::EndpointSlice && (key.name == group.name || key.name == reader))
    })
}
