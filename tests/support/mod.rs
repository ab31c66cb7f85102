//! What the stories are told with: the cluster and its faults, the engines as a client sees them, groups, keys, the operator.

pub(crate) mod cluster;
pub(crate) mod engine;
pub(crate) mod group;
pub(crate) mod keys;
pub(crate) mod kills;
pub(crate) mod nemesis;
pub(crate) mod operator;
pub(crate) mod rest;
pub(crate) mod story;
pub(crate) mod tools;

pub(crate) use group::Group;
pub(crate) use keys::{Keys, Writer};
pub(crate) use kills::Kill;
pub(crate) use story::{Sharing, Story, tell};
pub(crate) use tools::{eventually, seconds};
