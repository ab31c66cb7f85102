//! The data of a plan: exact steps, and a report that says why nothing (more) is done.

use crate::observed::{Cause, Kind, ObjectKey, Rebirth};
use crate::slots::SlotSet;
use kagami_api::reason::Reason;
use kagami_protocol::{Address, Boot, Command, Role};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// What is to be done now, and why nothing more.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Plan {
    /// Steps that disturb nothing; those of different lanes may run side by side, within a lane in order.
    pub steps: Vec<Step>,
    /// What is waited for, refused or recorded.
    pub waits: Vec<Wait>,
    /// The primaries that the operator confirms from now on: node, term, and whether silence pauses them.
    pub confirms: Vec<Confirm>,
    /// When to look again although nothing was heard, in milliseconds.
    pub again_ms: Option<u64>,
}

/// A primary whose term the operator confirms with each beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// The cache node.
    pub node: String,
    /// Its boot.
    pub boot: Boot,
    /// The term.
    pub term: u64,
    /// Whether another copy could be promoted.
    pub guard: bool,
    /// For how long it is confirmed at most, in milliseconds from now on; `None`: until another plan.
    pub for_ms: Option<u64>,
}

/// Something that is not done now, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// From the closed set.
    pub reason: Reason,
    /// What it is about: a cache node, a node group, or a property.
    pub subject: String,
    /// A sentence for the person on call.
    pub message: String,
}

/// One exact step with the event that tells of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub act: Act,
    /// Why, for the log and the event.
    pub reason: Reason,
    /// A sentence; empty where the step is not worth an event.
    pub event: String,
    /// Whether the event is a warning.
    pub warning: bool,
}

/// What can be done. No step deletes a key, or a pod that was ever placed, but that of a replica in sync without a volume that
/// moves back to its zone; a volume claim goes only when its machine is proven gone and a better copy serves.
#[derive(Clone, Debug)]
pub enum Act {
    /// Server-side apply of an object with exactly our fields.
    Apply {
        /// Which.
        key: ObjectKey,
        /// The object.
        object: Box<Value>,
    },
    /// Makes the group's certificates and passwords, if the secrets are not there.
    MakeSecrets,
    /// Deletes an object that is no longer asked for, if it still is the one that was seen.
    Delete {
        /// Which.
        key: ObjectKey,
        /// The UID that was seen.
        uid: String,
    },
    /// Changes annotations of the group itself, if it still is in the version that was seen; `None` takes one away.
    Annotate {
        /// Which, and to what.
        annotations: BTreeMap<String, Option<String>>,
        /// The group's version that was seen.
        resource_version: String,
    },
    /// Writes whose an object is, and nothing else of it.
    Tie {
        /// Which.
        what: Tied,
        /// The owner references; null for nobody's.
        owners: Box<Value>,
    },
    /// Deletes a node's volume claim, if it still is the one that was seen, so that the node gets a new one elsewhere.
    DeleteClaim {
        /// The cache node.
        node: String,
        /// The claim's name.
        claim: String,
        /// Its UID.
        uid: String,
    },
    /// Deletes a pod that never found a machine, so that the next one is made from the present template.
    DeletePod {
        /// The cache node.
        node: String,
        /// The pod's name.
        pod: String,
        /// Its UID.
        uid: String,
    },
    /// Ends the pod of a replica in sync, in good order, so that its node moves back to its zone.
    MovePod(MovePod),
    /// Raises a shard's term: the intent that is written before acting.
    RaiseTerm(RaiseTerm),
    /// Writes a pod's role label, for people and their selectors; nothing of ours depends on it.
    LabelRole {
        /// The pod's name.
        pod: String,
        /// Its UID.
        uid: String,
        /// `primary` or `replica`.
        role: &'static str,
    },
    /// Notes in the lease that the shard has served.
    NoteServed {
        /// The node group's id.
        shard: String,
        /// The version that was seen.
        resource_version: String,
    },
    /// One fenced order to an agent.
    Order {
        /// The cache node.
        node: String,
        /// The boot it is meant for.
        boot: Boot,
        /// The term it belongs to.
        term: u64,
        /// The role that is expected.
        role: Option<Role>,
        /// What to do.
        command: Box<Command>,
    },
    /// The planned handover: pause, equal offsets, promote, follow, resume.
    HandOver(HandOver),
}

/// An object that is made once and not applied again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tied {
    /// A Secret.
    Child(ObjectKey),
    /// A shard's lease, by its name.
    Lease(String),
}

impl fmt::Display for Tied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Child(key) => key.fmt(f),
            Self::Lease(name) => write!(f, "Lease/{name}"),
        }
    }
}

/// The compare-and-set of a shard's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaiseTerm {
    /// The node group's id.
    pub shard: String,
    /// The lease's version that was seen; `None` creates it.
    pub resource_version: Option<String>,
    /// The new term.
    pub term: u64,
    /// The new holder.
    pub holder: String,
    /// Its boot.
    pub boot: Boot,
    /// The holder before.
    pub previous: Option<(String, Boot)>,
    /// Why.
    pub cause: Cause,
    /// The shard's slots.
    pub slots: SlotSet,
    /// Whether the shard has served before.
    pub served: bool,
    /// The terms in which its data began anew.
    pub rebirths: Vec<Rebirth>,
    /// Whom the role goes back to.
    pub home: Option<String>,
}

/// One copy of a shard goes for a moment, and everybody of the shard is asked just before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovePod {
    /// The cache node.
    pub node: String,
    /// The pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The shard's term.
    pub term: u64,
    /// Every node of the shard, with the boot and the role that it must still have; the one that moves comes last.
    pub asked: Vec<(String, Boot, Role)>,
}

/// Between two live nodes that both obey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The primary that is to go.
    pub from: String,
    /// Its boot.
    pub from_boot: Boot,
    /// The replica that takes over.
    pub to: String,
    /// Its boot.
    pub to_boot: Boot,
    /// The term that was raised for it.
    pub term: u64,
    /// Where the new primary listens.
    pub to_address: Address,
    /// The new primary's cluster node id.
    pub to_id: Option<String>,
    /// With cluster mode enabled the cluster bus tells the old primary; otherwise it must be told to follow.
    pub cluster: bool,
}

impl Act {
    /// Whether it is about who serves and who follows, and not about objects.
    pub fn about_roles(&self) -> bool {
        matches!(self, Self::RaiseTerm(_) | Self::Order { .. } | Self::HandOver(_))
    }

    /// Whether it changes which node serves: at most one of these is in a plan for each shard.
    pub fn disruptive(&self) -> bool {
        match self {
            Self::HandOver(_) => true,
            Self::Order { command, .. } => matches!(**command, Command::Promote { .. }),
            _ => false,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply { key, .. } => write!(f, "apply {key}"),
            Self::MakeSecrets => f.write_str("make secrets"),
            Self::Tie { what, owners } => {
                write!(f, "{} {what}", if owners.is_null() { "untie" } else { "tie" })
            }
            Self::Delete { key, .. } => write!(f, "delete {key}"),
            Self::RaiseTerm(raise) => {
                write!(
                    f,
                    "raise {} to term {} holder {} ({})",
                    raise.shard,
                    raise.term,
                    raise.holder,
                    raise.cause.as_str()
                )
            }
            Self::Annotate { annotations, .. } => {
                let each = |(name, value): (&String, &Option<String>)| {
                    let name = name.rsplit('/').next().unwrap_or_default();
                    format!("{name}{}", if value.is_some() { "" } else { " removed" })
                };
                write!(f, "annotate {}", annotations.iter().map(each).collect::<Vec<_>>().join(", "))
            }
            Self::DeleteClaim { claim, .. } => write!(f, "delete PersistentVolumeClaim/{claim}"),
            Self::DeletePod { pod, .. } => write!(f, "delete Pod/{pod} that was never placed"),
            Self::MovePod(MovePod { pod, .. }) => write!(f, "delete Pod/{pod} that moves back"),
            Self::LabelRole { pod, role, .. } => write!(f, "label {pod} {role}"),
            Self::NoteServed { shard, .. } => write!(f, "note {shard} served"),
            Self::Order { node, term, command, .. } => {
                write!(f, "order {node} term {term}: {}", brief(command))
            }
            Self::HandOver(hand) => write!(f, "hand over {} -> {} term {}", hand.from, hand.to, hand.term),
        }
    }
}

fn brief(command: &Command) -> String {
    match command {
        Command::Start(start) => {
            let role = match &start.role {
                kagami_protocol::StartRole::Primary { slots, epoch } => {
                    let slots = SlotSet::from_ranges(slots.iter().copied());
                    if slots.is_empty() {
                        "primary".to_owned()
                    } else {
                        format!("primary of {slots} epoch {epoch}")
                    }
                }
                kagami_protocol::StartRole::Replica { primary, .. } => format!("replica of {}", primary.host),
            };
            let data = match start.data {
                kagami_protocol::StartData::Keep => "keep data",
                kagami_protocol::StartData::PutAside if start.keep_previous => "put data aside and keep it",
                kagami_protocol::StartData::PutAside => "put data aside",
            };
            format!("start as {role}, {data}")
        }
        Command::Meet { peers } => format!("meet {}", peers.len()),
        Command::AssignSlots { slots, epoch, .. } if slots.is_empty() => format!("claim by epoch {epoch:?}"),
        Command::AssignSlots { slots, epoch, from } => {
            let gone = if from.is_empty() { String::new() } else { format!(" from {}", from.join(" ")) };
            format!("assign {}{gone} epoch {epoch:?}", SlotSet::from_ranges(slots.iter().copied()))
        }
        Command::Replicate { primary, .. } => format!("replicate {}", primary.host),
        Command::Promote { force: true, .. } => "ask for an election".into(),
        Command::Promote { min_offset, .. } => format!("promote, offset at least {min_offset:?}"),
        Command::Park { unwritten } => if *unwritten { "park if unwritten" } else { "park" }.into(),
        Command::End { .. } => "end by force".into(),
        Command::Forget { ids } => format!("forget {}", ids.len()),
        Command::PauseWrites { ms } => format!("pause writes {ms} ms"),
        Command::ResumeWrites => "resume writes".into(),
        Command::Configure { directives, .. } => {
            format!("configure {}", directives.keys().cloned().collect::<Vec<_>>().join(" "))
        }
        Command::KeepTerm => "keep term".into(),
        Command::Relink => "relink".into(),
        Command::CloseSlots { slots, empty } => {
            let slots = SlotSet::from_ranges(slots.iter().map(|slot| (*slot, *slot)));
            format!("close {slots}{}", if *empty { " where no key is held" } else { "" })
        }
        Command::CloseClients => "close clients".into(),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{}", step.act)?;
        }
        for wait in &self.waits {
            writeln!(f, "wait {} {}: {}", wait.reason.as_str(), wait.subject, wait.message)?;
        }
        Ok(())
    }
}

impl Plan {
    /// Whether nothing is left to be done, now or later.
    pub fn is_met(&self) -> bool {
        self.steps.is_empty() && self.waits.is_empty()
    }

    pub(super) fn order(&mut self, order: Order<'_>) {
        let Order { node, boot, term, role, command, reason } = order;
        self.steps.push(Step {
            act: Act::Order {
                node: node.to_owned(),
                boot: boot.clone(),
                term,
                role,
                command: Box::new(command),
            },
            reason,
            event: String::new(),
            warning: false,
        });
    }

    pub(super) fn wait(&mut self, reason: Reason, subject: impl Into<String>, message: impl Into<String>) {
        self.waits.push(Wait { reason, subject: subject.into(), message: message.into() });
    }

    /// Puts words for an event to the last step.
    pub(super) fn tell(&mut self, warning: bool, event: impl Into<String>) {
        if let Some(step) = self.steps.last_mut() {
            step.event = event.into();
            step.warning = warning;
        }
    }

    /// Looks again after this long at the latest.
    pub(super) fn again(&mut self, ms: u64) {
        self.again_ms = Some(self.again_ms.map_or(ms, |present| present.min(ms)));
    }
}

/// The parts of an order, named.
pub(super) struct Order<'a> {
    pub(super) node: &'a str,
    pub(super) boot: &'a Boot,
    pub(super) term: u64,
    pub(super) role: Option<Role>,
    pub(super) command: Command,
    pub(super) reason: Reason,
}

/// A key for an object of a kind.
pub fn key(kind: Kind, name: impl Into<String>) -> ObjectKey {
    ObjectKey { kind, name: name.into() }
}
