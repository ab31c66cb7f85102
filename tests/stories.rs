//! The stories that users would tell, on a real Kubernetes with real engines: `make test-cluster`.
//!
//! They run side by side, each in a namespace of its own; those that disturb the whole cluster wait until they are alone.
//! The long ones are in `long.rs`.

mod support;

#[path = "families/bad_input.rs"]
mod bad_input;
#[path = "families/deletion.rs"]
mod deletion;
#[path = "families/hung.rs"]
mod hung;
#[path = "families/kills.rs"]
mod kills;
#[path = "families/outage.rs"]
mod outage;
#[path = "families/parameters.rs"]
mod parameters;
#[path = "families/requests.rs"]
mod requests;
#[path = "families/rest.rs"]
mod rest;
#[path = "families/seed.rs"]
mod seed;
#[path = "families/shapes.rs"]
mod shapes;
#[path = "families/slots.rs"]
mod slots;
#[path = "families/templates.rs"]
mod templates;
// Sorted behind the others, so that these wait for nobody in the middle of a run.
#[path = "families/alone.rs"]
mod with_the_cluster_alone;
#[path = "families/away.rs"]
mod with_the_cluster_alone_away;
#[path = "families/nemesis.rs"]
mod with_the_cluster_alone_nemesis;
