//! The mind of Kagami: what was observed and what is desired become a plan. No client, no runtime, no clock.

pub mod desired;
pub mod slots;
