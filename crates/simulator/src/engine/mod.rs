//! The model of an engine: data and persistence, replication, and the cluster bus as far as it matters to Kagami.

mod interface;

pub use interface::*;
