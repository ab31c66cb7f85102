//! A seeded world in which Kagami is made to fail: engines, agents, operators, clients and a Kubernetes, one simulated clock,
//! faults between any two steps, and judges that read every promise at every step. One seed gives one run, byte for byte.

#![expect(
    missing_docs,
    reason = "the fields of events and faults say what they are, and nobody builds upon this crate"
)]

pub mod agent;
pub mod chance;
pub mod clients;
pub mod driver;
pub mod engine;
pub mod faults;
pub mod judge;
pub mod kube;
pub mod mutant;
pub mod operator;
pub mod perform;
pub mod port;
pub mod queue;
pub mod run;
pub mod script;
pub mod shrink;
pub mod volume;
pub mod world;
