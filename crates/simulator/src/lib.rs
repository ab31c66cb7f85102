//! A seeded world in which Kagami is made to fail: engines, agents, operators, clients and a Kubernetes, one simulated clock,
//! faults between any two steps, and judges that read every promise at every step. One seed gives one run, byte for byte.

pub mod engine;
