//! What the agent decides, apart from how it is done: no socket, no clock, no process. The agent itself and the simulator run
//! the same rules.

pub mod claim;
pub mod durable;
pub mod guard;
pub mod hearing;
pub mod orders;
pub mod persistence;
pub mod slots;
pub mod state;
pub mod unwritten;
pub mod version;
pub mod whole;
