//! What a person asked for by name: TestFailover of a node group, and the reboot of a node. ElastiCache's rules and words.

use super::step::Order;
use super::{Plan, Primary, Step};
use crate::desired::{Desired, DesiredShard};
use crate::observed::{Observed, is_primary};
use crate::requests::{REBOOT, Restart, TEST_FAILOVER, TESTED, TESTS_MAX, UNDER_WAY};
use kagami_api::reason::Reason;
use kagami_protocol::{Command, EngineState, Role};

/// The first vocabulary of agents that know how to park an engine.
const KNOWS_PARK: u32 = 1;

/// Why a request is refused: a reason of the closed set and a sentence.
type Refusal = (Reason, String);

pub(super) fn rule(group: &Desired, primaries: &[Option<Primary>], observed: &Observed, plan: &mut Plan) {
    let requests = &observed.requests;
    if let Some(restart) = &requests.under_way {
        // One after the other: ElastiCache wants the first replacement to be complete, too.
        return go_on(group, primaries, restart, observed, plan);
    }
    let (name, outcome) = if let Some(id) = &requests.test_failover {
        (TEST_FAILOVER, test_failover(group, id, observed, plan))
    } else if let Some(node) = &requests.reboot {
        (REBOOT, reboot(group, node, observed, plan))
    } else {
        return;
    };
    let (act, reason, event, warning) = match outcome {
        Ok((restart, event)) => {
            let under_way = serde_json::to_string(&restart).unwrap_or_default();
            let mut changes = vec![(name, None), (UNDER_WAY, Some(under_way))];
            if restart.test {
                changes.push((TESTED, Some(requests.tested_with(observed.now_ms))));
            }
            let reason = if restart.test { Reason::TestFailover } else { Reason::RebootCacheNode };
            (requests.annotate(changes), reason, event, false)
        }
        Err((reason, words)) => (requests.annotate([(name, None)]), reason, words, true),
    };
    plan.steps.push(Step { act, reason, event, warning });
}

/// TestFailover: the role is handed over, and the old primary is started again as a replica.
fn test_failover(
    group: &Desired,
    id: &str,
    observed: &Observed,
    plan: &Plan,
) -> Result<(Restart, String), Refusal> {
    let not_available = |why: &str| {
        (Reason::TestFailoverNotAvailable, format!("The TestFailover action is not available: {why}"))
    };
    let shard = group.shards.iter().find(|shard| shard.id == id).ok_or_else(|| {
        (
            Reason::NodeGroupNotFound,
            format!(
                "The node group specified by the NodeGroupId parameter could not be found. Please verify that the node group exists and \
                 that you spelled the NodeGroupId value correctly: {id:?}"
            ),
        )
    })?;
    if !group.automatic_failover {
        return Err(not_available("automatic failover is disabled for this replication group."));
    }
    if shard.nodes.len() < 2 {
        return Err(not_available(&format!("node group {id} has no replica.")));
    }
    available(plan)?;
    if observed.requests.tested_lately(observed.now_ms).count() >= TESTS_MAX {
        return Err((
            Reason::APICallRateForCustomerExceeded,
            format!(
                "The customer has exceeded the allowed rate of API calls: {TESTS_MAX} node groups were tested within 24 hours."
            ),
        ));
    }
    let lease = observed.leases.get(id).ok_or_else(|| state("it has no primary yet."))?;
    let restart = restart(&lease.holder, observed, true)?;
    Ok((restart, format!("Test Failover API called for node group {id}")))
}

/// Reboot of a node: a primary hands its role over first, which ElastiCache does not; no copy is lost by it.
fn reboot(
    group: &Desired,
    node: &str,
    observed: &Observed,
    plan: &Plan,
) -> Result<(Restart, String), Refusal> {
    let shard = shard_of(group, node).ok_or_else(|| {
        (
            Reason::CacheClusterNotFound,
            format!("The requested cluster ID does not refer to an existing cluster: {node:?} is no cache node of this group."),
        )
    })?;
    if shard.nodes.len() < 2 && group.storage.is_none() && !group.allow_eviction_of_only_copy {
        return Err(state(&format!(
            "{node} is the only copy of its node group and has no volume, so a reboot would lose all its keys (as in ElastiCache). \
             kubernetes.allowEvictionOfOnlyCopy permits it."
        )));
    }
    available(plan)?;
    let restart = restart(node, observed, false)?;
    Ok((restart, format!("Reboot of cache node {node} was asked for")))
}

fn restart(node: &str, observed: &Observed, test: bool) -> Result<Restart, Refusal> {
    let report = observed.report(node).ok_or_else(|| state(&format!("the agent of {node} is not heard.")))?;
    if report.vocabulary < KNOWS_PARK {
        return Err((
            Reason::AgentTooOld,
            format!(
                "The agent of {node} is of a release that cannot start an engine again on order. Delete the pod of {node}; the new \
                     one has the present agent."
            ),
        ));
    }
    Ok(Restart { node: node.to_owned(), boot: report.boot.clone(), test })
}

fn state(why: &str) -> Refusal {
    (
        Reason::InvalidReplicationGroupState,
        format!("The requested replication group is not in the available state: {why}"),
    )
}

/// The group must be whole: with everybody in sync, and nothing under way.
fn available(plan: &Plan) -> Result<(), Refusal> {
    let harmless =
        [Reason::UnsupportedModification, Reason::PendingReboot, Reason::CrashLooping, Reason::AwayFromZone];
    match plan.waits.iter().find(|wait| !harmless.contains(&wait.reason)) {
        Some(wait) => Err(state(&format!("{} {}: {}", wait.reason, wait.subject, wait.message))),
        None if plan.steps.iter().any(|step| step.act.about_roles()) => {
            Err(state("its roles are being changed."))
        }
        None => Ok(()),
    }
}

fn shard_of<'a>(group: &'a Desired, node: &str) -> Option<&'a DesiredShard> {
    group.shards.iter().find(|shard| shard.nodes.iter().any(|each| each.name == node))
}

/// From the role to the end of the engine, to a node that is available again. What is to be done is seen, not remembered.
fn go_on(
    group: &Desired,
    primaries: &[Option<Primary>],
    restart: &Restart,
    observed: &Observed,
    plan: &mut Plan,
) {
    let node = &restart.node;
    let over = |plan: &mut Plan| {
        let act = observed.requests.annotate([(UNDER_WAY, None)]);
        plan.steps.push(Step {
            act,
            reason: Reason::CacheNodesRebooted,
            event: String::new(),
            warning: false,
        });
    };
    let Some(shard) = shard_of(group, node) else { return over(plan) };
    let Some(report) = observed.report(node) else {
        plan.wait(Reason::RebootCacheNode, node, "it is being rebooted and is not heard");
        plan.again(500);
        return;
    };
    if report.boot != restart.boot {
        let back = report.engine.as_ref().is_some_and(|engine| {
            engine.complete && (is_primary(engine) || engine.link.as_ref().is_some_and(|link| link.up))
        });
        return if back && report.state == EngineState::Running { over(plan) } else { waited(node, plan) };
    }
    let primary = group.shards.iter().position(|each| each.id == shard.id).and_then(|at| primaries.get(at));
    let Some(primary) = primary.and_then(Option::as_ref).filter(|primary| primary.serving) else {
        return waited(node, plan);
    };
    let role = report.engine.as_ref().and_then(|engine| engine.role);
    let lone = shard.nodes.len() == 1 && primary.node == *node && role == Some(Role::Primary);
    // The primary's copy is the better one by then; of a lone node the volume is, or it was permitted to be lost.
    let replica = primary.node != *node && role == Some(Role::Replica);
    if (lone || replica) && report.state == EngineState::Running && !report.terminating {
        plan.order(Order {
            node,
            boot: &report.boot,
            term: primary.term,
            role,
            command: Command::Park { unwritten: false },
            reason: Reason::RebootCacheNode,
        });
    }
    waited(node, plan);
}

fn waited(node: &str, plan: &mut Plan) {
    plan.wait(Reason::RebootCacheNode, node, "its engine is being started again, as it was asked for");
    plan.again(250);
}
