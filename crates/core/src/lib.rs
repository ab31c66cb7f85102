//! The mind of Kagami: what was observed and what is desired become a plan. No client, no runtime, no clock: time and
//! chance are arguments.
//!
//! The way of one event: [`desired::resolve`] → [`plan::plan`] → [`check::check`] → (the operator acts) → [`status::status`].

pub mod build;
pub mod check;
pub mod desired;
pub mod drift;
pub mod engine;
pub mod leader;
pub mod observed;
pub mod plan;
pub mod requests;
pub mod slots;
pub mod status;
pub mod timeline;
