//! Observed and desired become a plan: a pure function, rules in a fixed order, one file for each family of rules.
//!
//! The order is the order of importance: what exists (children), who is the primary (roles), who follows it (members),
//! who knows whom (gossip), what clients are told (endpoints), and what is waited for (pods).

mod built;
pub(crate) mod children;
mod endpoints;
mod gossip;
mod homecoming;
pub(crate) mod identities;
mod members;
mod open_slots;
mod parameters;
mod pods;
mod replace;
mod requests;
mod roles;
mod shape;
mod step;
mod volumes;
mod zones;

pub use built::Built;
pub use homecoming::{RETRY_AFTER_MS, RETURN_AFTER_MS};
pub use replace::REPLACE_AFTER_MS;
pub use shape::{Frozen, Pending, freeze};
pub use step::{Act, Confirm, HandOver, MovePod, Plan, RaiseTerm, Step, Tied, Wait, key};

use crate::desired::Desired;
use crate::observed::{Observed, Rebirth};
use kagami_protocol::Address;

/// What the operator itself brings into a plan.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The image that new nodes copy their agent from.
    pub agent_image: String,
    /// The namespace from which the operator dials the agents.
    pub operator_namespace: String,
}

/// A shard's primary that serves now, or that is sure to be the one (a shard that is being born).
#[derive(Clone, Debug)]
pub(crate) struct Primary {
    node: String,
    term: u64,
    address: Option<Address>,
    /// The cluster node id, once the engine has one.
    id: Option<String>,
    /// It runs as a primary now.
    serving: bool,
    /// The shard is being born: the others may start beside it, because nobody holds anything yet.
    birth: bool,
    /// The terms in which the shard's data began anew.
    rebirths: Vec<Rebirth>,
}

/// The plan for one group.
pub fn plan(desired: &Desired, observed: &Observed, setting: &Setting) -> (Frozen, Plan) {
    plan_with(desired, observed, setting, &mut Built::default())
}

/// The same plan, sooner, by what the last one of that group has built.
pub fn plan_with(
    desired: &Desired,
    observed: &Observed,
    setting: &Setting,
    built: &mut Built,
) -> (Frozen, Plan) {
    let mut plan = Plan::default();
    let frozen = shape::freeze_with(desired, observed, setting, built);
    let group = &frozen.desired;
    for pending in &frozen.pending {
        plan.wait(pending.reason, &pending.property, &pending.message);
    }
    children::rule(&frozen, observed, setting, built, &mut plan);
    let mut primaries = Vec::new();
    for (index, shard) in group.shards.iter().enumerate() {
        primaries.push(roles::rule(group, index, shard, observed, &mut plan));
    }
    for (shard, primary) in group.shards.iter().zip(&primaries) {
        members::rule(group, shard, primary.as_ref(), observed, &mut plan);
    }
    gossip::rule(group, &primaries, observed, &mut plan);
    open_slots::rule(group, &primaries, observed, &mut plan);
    parameters::rule(group, &primaries, observed, built, &mut plan);
    endpoints::rule(group, &primaries, observed, built, &mut plan);
    pods::rule(&frozen, observed, &mut plan);
    replace::rule(&frozen, observed, &mut plan);
    requests::rule(group, &primaries, observed, &mut plan);
    volumes::rule(group, observed, &mut plan);
    // The last: it wants a group for which nothing else is planned and nothing is waited for.
    homecoming::rule(&frozen, observed, &mut plan);
    (frozen, plan)
}
