//! What is waited for: nodes whose pod or agent is not there, in the words of those who know why.

use super::{Frozen, Plan};
use crate::observed::{Agent, Observed, ObservedNode, PodView, is_primary};
use kagami_api::reason::Reason;
use kagami_protocol::{EngineState, Exit, Report};

/// A node whose engine ended this often within [`CRASH_WINDOW_MS`] is said to loop.
const CRASHES: u32 = 3;
/// How long a volume may take to be bound before the scheduler's words are taken for trouble.
const BINDING_MS: i64 = 15_000;
const CRASH_WINDOW_MS: i64 = 10 * 60 * 1000;

/// The last crash of an engine that crashes again and again.
pub(super) fn loops(report: &Report, now_ms: i64) -> Option<&Exit> {
    report.last_exit.as_ref().filter(|exit| {
        report.exits >= CRASHES
            // One that was told to end has not crashed.
            && (exit.signal.is_some() || exit.out_of_memory || exit.code != Some(0))
            && now_ms - exit.at_ms < CRASH_WINDOW_MS
    })
}

pub(super) fn rule(frozen: &Frozen, observed: &Observed, plan: &mut Plan) {
    for node in frozen.desired.shards.iter().flat_map(|shard| &shard.nodes) {
        let nothing = ObservedNode::default();
        let seen = observed.nodes.get(&node.name).unwrap_or(&nothing);
        match (&seen.agent, &seen.pod) {
            (Agent::Up(report), _) => {
                if let Some(exit) = loops(report, observed.now_ms) {
                    let how = match (exit.out_of_memory, exit.signal, exit.code) {
                        (true, ..) => "out of memory".to_owned(),
                        (_, Some(signal), _) => format!("signal {signal}"),
                        (_, _, code) => format!("exit code {}", code.unwrap_or_default()),
                    };
                    plan.wait(
                        Reason::CrashLooping,
                        &node.name,
                        format!(
                            "its engine ended {} times, last by {how}; last words: {}",
                            report.exits, exit.last_words
                        ),
                    );
                    plan.again(60_000);
                }
                if let Some(record) = &report.record
                    && record.failed_loads > 0
                    && report.state == EngineState::Parked
                {
                    let words = report.last_exit.as_ref().map_or("", |exit| exit.last_words.as_str());
                    plan.wait(
                        Reason::DataCannotBeLoaded,
                        &node.name,
                        format!(
                            "its data (term {}, offset {}) could not be loaded {} time(s) and is left as it is; last words: {words}",
                            record.data_term, record.offset, record.failed_loads
                        ),
                    );
                }
                let serves = report.engine.as_ref().is_some_and(|engine| {
                    engine.complete
                        && (is_primary(engine) || engine.link.as_ref().is_some_and(|link| link.up))
                });
                if !report.trouble.is_empty() && !serves {
                    plan.wait(Reason::RecoveringNode, &node.name, report.trouble.clone());
                }
            }
            (_, None) => plan.wait(Reason::WaitingForPods, &node.name, "its pod is not there yet"),
            (agent, Some(pod)) => absent(&node.name, agent, pod, frozen, observed, plan),
        }
    }
}

fn absent(node: &str, agent: &Agent, pod: &PodView, frozen: &Frozen, observed: &Observed, plan: &mut Plan) {
    let zone =
        frozen.inputs.get(node).filter(|inputs| inputs.zone_required).and_then(|inputs| inputs.zone.as_ref());
    // A volume that waits for its first consumer makes a pod unschedulable for the seconds until it is bound.
    let binding = frozen.desired.storage.is_some() && observed.now_ms - pod.created_ms < BINDING_MS;
    if let Some(words) = &pod.unschedulable {
        match zone {
            Some(zone) if !observed.machines.values().any(|machine| machine.zone.as_ref() == Some(zone)) => plan.wait(
                Reason::ZoneNotFound,
                node,
                format!("no machine is in zone {zone}; it is placed as soon as there is one (label topology.kubernetes.io/zone={zone})"),
            ),
            _ if binding => {
                plan.wait(Reason::WaitingForPods, node, words.clone());
                plan.again(5_000);
            }
            _ => plan.wait(Reason::InsufficientCacheClusterCapacity, node, words.clone()),
        }
    } else if let Some(words) = &pod.image_trouble {
        plan.wait(Reason::ImageCannotBePulled, node, words.clone());
    } else if let Some(words) = &pod.start_trouble {
        plan.wait(Reason::WaitingForPods, node, words.clone());
    } else if let Agent::Silent { silent_ms, .. } = agent {
        plan.wait(Reason::AgentUnreachable, node, format!("its agent is silent for {} s", silent_ms / 1000));
        plan.again(500);
    } else if pod.ip.is_some() {
        plan.wait(Reason::WaitingForAgent, node, "its agent is being dialled");
    } else {
        plan.wait(Reason::WaitingForPods, node, "its pod is being started");
    }
}
