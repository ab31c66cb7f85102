//! Everybody but the primary: parked nodes are let in as replicas, and replicas follow the primary.

use super::roles::{self, Standing};
use super::step::Order;
use super::{Plan, Primary};
use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::observed::Observed;
use kagami_api::reason::Reason;
use kagami_protocol::{Address, Command, EngineState, EngineView, Report, Role, StartData, StartRole};

pub(super) fn rule(
    group: &Desired,
    shard: &DesiredShard,
    primary: Option<&Primary>,
    observed: &Observed,
    plan: &mut Plan,
) {
    let Some(primary) = primary else { return };
    let Some(address) = &primary.address else { return };
    for node in &shard.nodes {
        let Some(report) = observed.report(&node.name) else { continue };
        if node.name == primary.node || report.terminating {
            continue;
        }
        let standing = roles::standing(observed, &node.name, &primary.node, &primary.rebirths);
        match report.state {
            // It holds more than the shard goes on from; that is told where the primary is kept.
            _ if standing == Standing::Held => {}
            EngineState::Running if standing == Standing::Parks => {
                if primary.serving {
                    plan.order(Order {
                        node: &node.name,
                        boot: &report.boot,
                        term: primary.term,
                        role: None,
                        command: Command::Park { unwritten: false },
                        reason: Reason::RecoveringNode,
                    });
                }
            }
            EngineState::Parked => admit(group, shard, &node.name, report, primary, address, observed, plan),
            EngineState::Running => {
                if let Some(engine) = &report.engine {
                    follow(group, &node.name, report, engine, primary, address, plan);
                }
            }
            EngineState::Starting | EngineState::Stopping => {
                plan.wait(Reason::RecoveringNode, &node.name, "the engine is starting");
            }
        }
    }
}

/// Lets a parked node in as a replica, with nothing of what it held: the primary's copy is the better one.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different fact, and a struct of them would be used once"
)]
fn admit(
    group: &Desired,
    shard: &DesiredShard,
    node: &str,
    report: &Report,
    primary: &Primary,
    address: &Address,
    observed: &Observed,
    plan: &mut Plan,
) {
    // At birth nobody holds anything, so all start side by side; later only a primary that serves is followed.
    if !(primary.serving || primary.birth) {
        plan.wait(Reason::RecoveringNode, node, format!("it is let in once {} serves", primary.node));
        return;
    }
    let Some(announce) = observed.address(node, group.port, address.bus_port) else { return };
    if let Some(follower) = follower_of(group, &announce, observed) {
        // P1: an engine that comes up empty at this address would empty whoever still replicates from it.
        plan.wait(
            Reason::RecoveringNode,
            node,
            format!("{follower} still replicates from its address; it is let in once that ends"),
        );
        plan.again(50);
        return;
    }
    let role = StartRole::Replica { primary: address.clone(), primary_id: primary.id.clone() };
    let mut start = roles::start(group, shard, observed, node, announce, StartData::PutAside, role);
    start.keep_previous =
        roles::standing(observed, node, &primary.node, &primary.rebirths) == Standing::Keeps;
    if start.keep_previous && report.vocabulary < 1 {
        plan.wait(
            Reason::AgentTooOld,
            node,
            "its data is to be kept as it joins, and its agent would delete it; let its pod be replaced",
        );
        return;
    }
    let keeps = start.keep_previous;
    let command = Command::Start(start);
    let recovering = report.exits > 0 || !primary.birth;
    plan.order(Order {
        node,
        boot: &report.boot,
        term: primary.term,
        role: None,
        command,
        reason: Reason::RecoveringNode,
    });
    if keeps {
        let record = report.record.as_ref();
        let (term, offset) = record.map_or((0, 0), |record| (record.data_term, record.offset));
        plan.tell(
            true,
            format!(
                "Recovering cache nodes {node}. Its data (term {term}, offset {offset}) is no part of what serves now; it is kept on \
                 its volume under .kagami/previous, the furthest such copy only, until somebody deletes it."
            ),
        );
    } else if recovering {
        plan.tell(false, format!("Recovering cache nodes {node}"));
    }
}

/// A live engine of the group that replicates from an address.
pub(crate) fn follower_of<'a>(group: &'a Desired, address: &Address, observed: &Observed) -> Option<&'a str> {
    group.shards.iter().flat_map(|shard| &shard.nodes).map(|node| node.name.as_str()).find(|node| {
        observed.link(node).is_some_and(|link| link.host == address.host && link.port == address.port)
    })
}

/// A running node follows the primary, or is told to.
fn follow(
    group: &Desired,
    node: &str,
    report: &Report,
    engine: &EngineView,
    primary: &Primary,
    address: &Address,
    plan: &mut Plan,
) {
    let follows = match (&engine.cluster, engine.role) {
        (_, Some(Role::Primary) | None) => false,
        (Some(cluster), Some(Role::Replica)) => {
            let mine = cluster.followed();
            primary.id.as_deref() == mine && mine.is_some()
        }
        (None, Some(Role::Replica)) => {
            engine.link.as_ref().is_some_and(|link| link.host == address.host && link.port == address.port)
        }
    };
    if follows {
        let link_up = engine.link.as_ref().is_some_and(|link| link.up);
        if !engine.complete || engine.loading || !link_up {
            plan.wait(Reason::AwaitingSync, node, format!("it is not in sync with {} yet", primary.node));
            plan.again(250);
        } else if primary.serving
            && report.record.as_ref().map_or(report.term, |record| record.data_term) < primary.term
        {
            // It followed by itself. What it holds is of this term now, and its note is to say so: else it would be taken for an
            // older copy than its equal. That it has heard of the term says nothing: it may have been meant to lead in it.
            plan.order(Order {
                node,
                boot: &report.boot,
                term: primary.term,
                role: engine.role,
                command: Command::KeepTerm,
                reason: Reason::RecoveringNode,
            });
        }
        return;
    }
    if !primary.serving {
        return;
    }
    if group.cluster_mode == ClusterMode::Enabled {
        let settled = report.trouble.is_empty() && engine.role == Some(Role::Primary);
        let slots = engine.cluster.as_ref().is_some_and(|cluster| cluster.own_slots().next().is_some());
        let epoch = engine.cluster.as_ref().map_or(0, |cluster| cluster.my_epoch);
        if settled && !slots && !engine.complete && engine.offset == 0 && epoch == 0 {
            // Its agent is at it: it was started as a replica and follows as soon as it has met the primary. One with a copy, with a
            // history or with a claim of its own was a primary until another took all its slots, and nobody but us makes it follow.
            plan.wait(Reason::FormingCluster, node, "it joins the cluster");
            plan.again(250);
            return;
        }
        if slots {
            plan.wait(
                Reason::FormingCluster,
                node,
                format!("it claims slots beside {}; the higher epoch decides", primary.node),
            );
            plan.again(250);
            return;
        }
        let known = engine.cluster.as_ref().is_some_and(|cluster| {
            cluster.nodes.iter().any(|line| Some(&line.id) == primary.id.as_ref() && !line.handshake)
        });
        if !known {
            plan.wait(Reason::FormingCluster, node, format!("it does not know {} yet", primary.node));
            plan.again(100);
            return;
        }
    }
    plan.order(Order {
        node,
        boot: &report.boot,
        term: primary.term,
        role: engine.role,
        command: Command::Replicate { primary: address.clone(), primary_id: primary.id.clone() },
        reason: Reason::RecoveringNode,
    });
}
