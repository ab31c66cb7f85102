//! Parameters of engines that run: what can be changed at run time is, the rest waits for their next start.

use super::step::Order;
use super::{Built, Pending, Plan, Primary};
use crate::desired::Desired;
use crate::observed::Observed;
use kagami_api::reason::Reason;
use kagami_protocol::Command;
use std::collections::BTreeSet;

pub(super) fn rule(
    group: &Desired,
    primaries: &[Option<Primary>],
    observed: &Observed,
    built: &Built,
    plan: &mut Plan,
) {
    for (shard, primary) in group.shards.iter().zip(primaries) {
        let Some(primary) = primary.as_ref().filter(|primary| primary.serving) else { continue };
        for node in &shard.nodes {
            let Some(report) = observed.report(&node.name) else { continue };
            // An agent that does not say what runs is not asked to change it.
            let Some(config) = &report.config else { continue };
            let (directives, wanted) = built.config(group);
            let answers = observed.engine(&node.name).is_some_and(|engine| !engine.loading);
            if config.running == wanted.running || !answers || report.terminating {
                continue;
            }
            let config =
                kagami_protocol::Config { running: wanted.running.clone(), fixed: config.fixed.clone() };
            plan.order(Order {
                node: &node.name,
                boot: &report.boot,
                term: primary.term,
                role: None,
                command: Command::Configure { directives: directives.clone(), config: Some(config) },
                reason: Reason::ParametersApplied,
            });
            plan.tell(
                false,
                format!(
                    "Parameters of {} are in force on cache node {}",
                    group.parameter_group_name, node.name
                ),
            );
        }
    }
}

/// What engines run with and can only be changed by a new start.
pub(super) fn pending(group: &Desired, observed: &Observed, built: &Built) -> Option<Pending> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut nodes = 0;
    for node in group.shards.iter().flat_map(|shard| &shard.nodes) {
        let Some(config) = observed.report(&node.name).and_then(|report| report.config.as_ref()) else {
            continue;
        };
        let (_, wanted) = built.config(group);
        let keys = wanted.fixed.keys().chain(config.fixed.keys());
        let differ: Vec<&str> =
            keys.filter(|key| wanted.fixed.get(*key) != config.fixed.get(*key)).map(String::as_str).collect();
        nodes += usize::from(!differ.is_empty());
        names.extend(differ);
    }
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    Some(Pending {
        reason: Reason::PendingReboot,
        property: "cacheParameterGroupName".into(),
        message: format!(
            "{} of {} takes effect when an engine is started again; {nodes} cache node(s) run with the value before. Reboot them.",
            names.join(", "),
            group.parameter_group_name
        ),
    })
}
