//! What the operator and the node agents say to each other.
//!
//! The operator dials each agent over mutual TLS (a certificate authority of the group's own) and both sides send
//! newline-delimited JSON frames: [`ToAgent`] one way, [`FromAgent`] the other. Agents and operators of different
//! releases meet for months, so every field added later is optional or has a default, unknown fields are ignored,
//! and an order that an agent does not know is refused as [`Refused::Unsupported`], never guessed.
//!
//! Nothing here does I/O. The words of the engine (`INFO`, `CLUSTER NODES`) are read by [`engine_text`].

pub mod engine_text;
mod messages;
mod shared;

pub use messages::*;
pub use shared::Shared;

/// The newest version of the protocol this code speaks; peers use the lower of both.
pub const VERSION: u32 = 1;
/// Which orders and fields this code knows, counted up with each addition that a peer must know before it relies on it.
///
/// 1: [`Command::Park`], [`Start::keep_previous`], [`Config`], elections by [`Command::Promote`].
///
/// 2: [`Command::Relink`], [`Link::quiet`], [`Link::parted`], slots that are taken from the gone by [`Command::AssignSlots`].
///
/// 3: [`Command::CloseSlots`], [`EngineView::open_slots`], [`Command::CloseClients`], [`Report::former_clients`].
///
/// 4: [`Command::End`], [`Report::unanswered`].
///
/// 5: [`Link::lost`]; a primary's witnesses count from when they were asked for ([`ToAgent::Confirm`]'s `heard_ms`,
/// [`LEASE_HOLDS_MS`], [`ACKNOWLEDGED_MS`]), so that its fence needs no allowance for what was under way.
pub const VOCABULARY: u32 = 5;
/// The TCP port on which an agent takes the operator's connection (mutual TLS).
pub const AGENT_PORT: u16 = 8379;
/// The TCP port on which an agent serves `/livez`, `/readyz` and `/metrics` (plain HTTP).
pub const HEALTH_PORT: u16 = 8380;
/// The longest frame that is read, in bytes; a longer one ends the connection.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often each side says that it is there, in milliseconds.
pub const BEAT_MS: u64 = 500;
/// How long after its demotion a connection to a former primary may still have been led there by the primary endpoint.
pub const FORMER_CLIENTS_MS: u64 = 3_000;
/// A guarded primary pauses writes after it heard no witness for this long, in milliseconds.
///
/// Witnesses: the operator's [`ToAgent::Confirm`], an online replica's acknowledgement, the apiserver's lease.
pub const FENCE_SILENCE_MS: u64 = 1_500;
/// How long the apiserver's lease keeps a primary writing, in milliseconds from the question.
///
/// A question that was asked before the term rose is answered with the old term; this is how long that may count.
pub const LEASE_HOLDS_MS: u64 = 800;
/// How long after bytes were written an acknowledgement of them still counts, in milliseconds: replicas acknowledge each second,
/// also those that receive nothing any more. A second, a tick of the engine, and a look of the agent: who receives the pings of a
/// second is not to lose any of its worth.
pub const ACKNOWLEDGED_MS: u64 = 1_300;
/// What is added to an agent's own bounds before the operator relies on them, in milliseconds: its tick and the
/// pause itself.
pub const FENCE_MARGIN_MS: u64 = 300;
/// How long the operator waits after raising the term before it counts a silent primary as fenced whose agent counts its witnesses
/// from when they came (before vocabulary 5), in milliseconds.
///
/// Twice the silence that the agent allows itself: one whole silence, the time a confirmation may have been under way,
/// and the agent's own tick.
pub const FENCE_BOUND_MS: u64 = 3_000;
/// How long an engine may give its agent no answer before it is called hung, in milliseconds, and is ended where another copy can
/// serve.
///
/// Longer than what a healthy engine may need: a script answers `BUSY` after 5 s (`lua-time-limit`), and no fence (3 s) or election of
/// the engines' own (their node timeout is 5 s at most) is under way any more.
pub const HUNG_MS: u64 = 10_000;
/// How long an election of the living primaries may take before it is called lost, in milliseconds.
///
/// Votes come within tens of milliseconds of the request (measured: 5–106 ms to the first write) or not at all.
pub const ELECTION_BOUND_MS: u64 = 2_000;
/// Less than this of a volume left is short of space, in percent.
pub const VOLUME_SHORT_PERCENT: u64 = 5;
/// For how long the marks of a slot must have stood as they are before its migration counts as interrupted, in milliseconds:
/// nobody's running one is disturbed.
pub const OPEN_SLOT_BOUND_MS: u64 = 60_000;
/// Of how many open slots an agent counts the keys.
pub const OPEN_SLOTS_COUNTED: usize = 64;
/// The DNS name in an agent's certificate.
pub const AGENT_SERVER_NAME: &str = "agent.kagami";
/// The name of the engine's user for the agent (unix socket and loopback only by use; all commands).
pub const AGENT_USER: &str = "kagami-agent";
/// The name of the engine's user that replicas authenticate as.
pub const REPLICATION_USER: &str = "kagami-replication";
