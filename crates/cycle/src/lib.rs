//! The loop around the mind: observe → resolve → plan → check → act → status. It talks to everything outside through one trait,
//! [`World`], which is a Kubernetes and a set of agents in the operator, and a seeded model of both in the simulator.

mod act;
mod cycle;
mod snapshot;
mod world;
mod written;

pub use act::{Hands, Outcome};
pub use cycle::{Input, Memory, Next, reconcile};
pub use snapshot::{Shown, snapshot};
pub use world::{ApiError, Counted, Failed, Order, Target, World};
pub use written::Written;
