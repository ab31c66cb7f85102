//! The words of Kagami: custom resources, admission rules, ElastiCache's rules and defaults. Nothing here does I/O.
//!
//! The API speaks ElastiCache (replication group, node group, cache node), in the camelCase of the CloudFormation names, so that
//! translation is mechanical. What CloudFormation has no word for sits under one key, `spec.kubernetes`.

pub mod crd;
pub mod names;
pub mod nearest;
pub mod node_types;
pub mod parameters;
pub mod properties;
pub mod quantity;
pub mod reason;
pub mod rules;
pub mod v1alpha1;

pub use crd::crds;
pub use reason::Reason;
