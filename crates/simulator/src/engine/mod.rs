//! The model of an engine: data and persistence, replication, and the cluster bus as far as it matters to Kagami.
//!
//! [`Engine`] is one process of Redis or Valkey. It does no I/O and knows no clock. Timers are coarse (100 ms, as the
//! real cluster cron) and passed over while there is nothing to do; the order of what they do is the engine's.
//! `tests/conformance.rs` holds it against real processes, `docs/simulator.md` tells how far it goes.

mod bus;
mod claims;
mod cluster;
mod cluster_commands;
mod commands;
mod config;
mod cron;
mod data;
mod disk;
mod election;
mod gossip;
mod interface;
pub mod net;
mod process;
mod replica;
mod replication;
mod slots;
mod text;
mod types;
mod view;

#[cfg(test)]
mod tests;

pub use disk::{Disk, NodesConf};
pub use interface::*;
pub use process::Engine;
pub use slots::{SLOT_COUNT, Slots, key_slot};
pub use types::Body;

use process::Chance;
