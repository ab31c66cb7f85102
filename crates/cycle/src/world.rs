//! The one trait that stands between mind and world.

use kagami_api::reason::Reason;
use kagami_core::observed::{Kind, ObjectKey};
use kagami_core::plan::Confirm;
use kagami_core::status::Happening;
use kagami_core::timeline::Failover;
use kagami_protocol::{Boot, Command, Done, Refused, Role};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

/// What a request is about. Everything is in the group's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A child.
    Child(ObjectKey),
    /// A shard's lease.
    Lease(String),
    /// A pod.
    Pod(String),
    /// A volume claim.
    Claim(String),
    /// The replication group itself.
    Group,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Child(key) => key.fmt(f),
            Self::Lease(name) => write!(f, "Lease/{name}"),
            Self::Pod(name) => f.write_str(name),
            Self::Claim(name) => write!(f, "PersistentVolumeClaim/{name}"),
            Self::Group => f.write_str("ReplicationGroup"),
        }
    }
}

impl From<&ObjectKey> for Target {
    fn from(key: &ObjectKey) -> Self {
        Self::Child(key.clone())
    }
}

impl Target {
    /// A child by its kind and name.
    pub fn child(kind: Kind, name: &str) -> Self {
        Self::Child(ObjectKey { kind, name: name.to_owned() })
    }
}

/// Why a request to the apiserver came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP code; 0 where there was no answer: the request may or may not have taken effect.
    pub code: u16,
    /// The apiserver's words, or the transport's.
    pub message: String,
}

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The agent refused it: what was expected no longer holds, or the engine said no.
    #[error("{0}")]
    Refused(Refused),
    /// There is no connection, or it broke, or no answer came: it may or may not have been carried out.
    #[error("the agent could not be asked: {0}")]
    Unanswered(String),
}

/// One order to one agent.
#[derive(Clone, Debug)]
pub struct Order {
    /// The cache node.
    pub node: String,
    /// The boot it is meant for.
    pub boot: Boot,
    /// Its term.
    pub term: u64,
    /// The role that is expected.
    pub role: Option<Role>,
    /// What to do.
    pub command: Command,
}

/// What is worth counting.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'a> {
    /// A failover is over.
    Failover(&'a Failover),
    /// A step was done.
    Step(Reason),
    /// The status has a new reason.
    Reason(Reason),
    /// A plan was refused by the check.
    RefusedPlan,
}

/// What there is outside of the loop, for one group.
pub trait World: Sync {
    /// Reads one object from the apiserver.
    fn get(&self, target: &Target) -> impl Future<Output = Result<Option<Value>, ApiError>> + Send;
    /// Server-side apply of exactly these fields, forced.
    fn apply(&self, target: &Target, object: &Value) -> impl Future<Output = Result<Value, ApiError>> + Send;
    /// Creates.
    fn create(&self, target: &Target, object: &Value)
    -> impl Future<Output = Result<Value, ApiError>> + Send;
    /// Replaces what has that `resourceVersion`.
    fn replace(
        &self,
        target: &Target,
        object: &Value,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send;
    /// A merge patch; with a `uid` or `resourceVersion` in it that is a precondition.
    fn merge(&self, target: &Target, patch: &Value) -> impl Future<Output = Result<Value, ApiError>> + Send;
    /// Server-side apply of the group's status.
    fn apply_status(&self, status: &Value) -> impl Future<Output = Result<Value, ApiError>> + Send;
    /// Deletes, if it still has that uid.
    fn delete(&self, target: &Target, uid: Option<&str>)
    -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Sends an event about the group; one that is lost is logged and nothing more.
    fn event(&self, happening: &Happening) -> impl Future<Output = ()> + Send;
    /// Sends one order and waits for its answer.
    fn order(&self, order: Order) -> impl Future<Output = Result<Done, Failed>> + Send;
    /// From now on these primaries are confirmed with each beat, and no others of these nodes.
    fn confirm(&self, nodes: &[String], confirms: &[Confirm]);
    /// Ends the connections to these nodes' agents.
    fn leave(&self, nodes: &[String]);
    /// Lets time pass, in milliseconds.
    fn pause(&self, ms: u64) -> impl Future<Output = ()> + Send;
    /// Milliseconds of a monotonic clock.
    fn now_ms(&self) -> u64;
    /// The wall clock.
    fn wall(&self) -> jiff::Timestamp;
    /// The operator's part of the group's secrets, made anew.
    ///
    /// # Errors
    /// In words.
    fn operator_secret(&self) -> Result<BTreeMap<String, String>, String>;
    /// The agents' part, signed by the authority in the operator's part.
    ///
    /// # Errors
    /// In words.
    fn agent_secret(&self, operator: &Value) -> Result<BTreeMap<String, String>, String>;
    /// For metrics.
    fn count(&self, counted: Counted<'_>);
}
