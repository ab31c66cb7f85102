//! What clients are told: the addresses behind the endpoints, and the role labels.

use super::built::Built;
use super::children::{apply, ensure};
use super::step::Order;
use super::{Act, Plan, Primary, Step, key};
use crate::build::{self, Reachable};
use crate::desired::{ClusterMode, Desired, DesiredShard};
use crate::observed::{Agent, Cause, Kind, Observed, is_primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::{Command, FENCE_BOUND_MS, FORMER_CLIENTS_MS, Role};
use serde_json::Value;

/// How long a term must be known before the clients of the former primary are closed: the promotion may wait for the fence, and then
/// the machines' proxies have this long to learn of the endpoint that moved, or a client would come straight back.
const CLOSE_AFTER_MS: u64 = FENCE_BOUND_MS + FORMER_CLIENTS_MS;

pub(super) fn rule(
    group: &Desired,
    primaries: &[Option<Primary>],
    observed: &Observed,
    built: &mut Built,
    plan: &mut Plan,
) {
    let nodes: Vec<&String> =
        group.shards.iter().flat_map(|shard| shard.nodes.iter().map(|node| &node.name)).collect();
    if group.cluster_mode == ClusterMode::Enabled {
        let shards = group.shards.iter().map(|shard| (shard, forms(shard, observed)));
        let ready: Vec<Reachable> = shards
            .flat_map(|(shard, forms)| shard.nodes.iter().map(move |node| (&node.name, forms)))
            .filter(|(node, forms)| *forms || serves(observed, node))
            .filter_map(|(node, _)| reachable(observed, node))
            .collect();
        ensure_slice(group, &group.name, ready, observed, built, plan);
    } else {
        let holder = primaries.iter().flatten().next();
        let primary =
            holder.filter(|primary| primary.serving).and_then(|primary| reachable(observed, &primary.node));
        // A primary that is silent, or hands over, keeps its endpoint until another is promoted: unknown is not down.
        let primary = primary.or_else(|| if holder.is_none() { in_office(group, observed) } else { None });
        let forms = group.shards.first().is_some_and(|shard| forms(shard, observed));
        let leads = group.shards.first().filter(|_| forms).and_then(|shard| {
            let lease = observed.leases.get(&shard.id);
            lease.map(|lease| &lease.holder).or(shard.nodes.first().map(|node| &node.name))
        });
        let primary = primary.or_else(|| reachable(observed, leads?));
        if primary.is_some() || holder.is_none() {
            let addresses: Vec<Reachable> = primary.clone().into_iter().collect();
            ensure_slice(group, &group.name, addresses, observed, built, plan);
        }
        let replicas: Vec<Reachable> = nodes
            .iter()
            .filter(|node| {
                holder.is_none_or(|primary| primary.node != ***node)
                    && (serves(observed, node) || forms && leads != Some(**node))
            })
            .filter_map(|node| reachable(observed, node))
            .collect();
        let reader = names::reader_service(&group.name);
        if primary.is_some()
            || !replicas.is_empty()
            || !observed.children.contains_key(&key(Kind::EndpointSlice, &*reader))
        {
            let addresses = build::readers(replicas, primary);
            ensure_slice(group, &reader, addresses, observed, built, plan);
        }
        if let Some(primary) = holder.filter(|primary| primary.serving) {
            former_clients(group, primary, observed, plan);
        }
    }
    for node in nodes {
        label(node, observed, plan);
    }
}

/// With cluster mode disabled a connection outlives the move of the endpoint that it was made by, and its client meets `READONLY`
/// for as long as it keeps it.
fn former_clients(group: &Desired, primary: &Primary, observed: &Observed, plan: &mut Plan) {
    let slice = key(Kind::EndpointSlice, &*group.name);
    let moves = plan.steps.iter().any(|step| matches!(&step.act, Act::Apply { key, .. } if *key == slice));
    let lease = group.shards.first().and_then(|shard| observed.leases.get(&shard.id));
    let known_ms = lease.map_or(0, |lease| lease.known_ms);
    let former = observed.nodes.keys().filter(|node| **node != primary.node).filter_map(|node| {
        let report = observed.report(node).filter(|report| report.former_clients)?;
        let replica = observed.engine(node).is_some_and(|engine| engine.role == Some(Role::Replica));
        replica.then_some((node, report))
    });
    for (node, report) in former {
        if moves || known_ms < CLOSE_AFTER_MS {
            plan.again(CLOSE_AFTER_MS.saturating_sub(known_ms).max(100));
            continue;
        }
        plan.order(Order {
            node,
            boot: &report.boot,
            term: primary.term,
            role: Some(Role::Replica),
            command: Command::CloseClients,
            reason: Reason::FormerClientsClosed,
        });
        plan.tell(
            false,
            format!(
                "Connections that clients have kept to {node} since it was the primary are closed: the primary endpoint leads to {} now",
                primary.node
            ),
        );
    }
}

/// Addresses must be exactly ours: an address more is a client sent astray.
fn ensure_slice(
    group: &Desired,
    service: &str,
    addresses: Vec<Reachable>,
    observed: &Observed,
    built: &mut Built,
    plan: &mut Plan,
) {
    let wanted = built.slice(group, service, addresses);
    let count = |object: &Value| object.get("endpoints").and_then(|list| list.as_array()).map_or(0, Vec::len);
    match observed.children.get(&wanted.key) {
        Some(actual)
            if count(actual) != count(&wanted.object) && !observed.foreign.contains_key(&wanted.key) =>
        {
            apply(wanted, plan);
        }
        _ => ensure(wanted, observed, plan),
    }
}

/// Whether a shard is being formed: nothing was served yet, so nobody can be led astray, and whoever connects as soon as the
/// group is available finds that the machines' proxies have learnt its addresses meanwhile. Never in a failover.
fn forms(shard: &DesiredShard, observed: &Observed) -> bool {
    let lease = observed.leases.get(&shard.id);
    !observed.formed && lease.is_none_or(|lease| lease.cause == Cause::Birth)
}

/// Whether clients may be sent to a node: it serves by its own word, or it is silent and the kubelet finds it ready.
fn serves(observed: &Observed, node: &str) -> bool {
    if let Some(engine) = observed.engine(node) {
        let fenced = observed.report(node).is_some_and(|report| report.fenced);
        let whole = engine.complete && !engine.loading;
        return match engine.role {
            Some(Role::Primary) => {
                whole && !fenced && engine.cluster.as_ref().is_none_or(|cluster| cluster.ok)
            }
            Some(Role::Replica) => {
                whole
                    && engine.link.as_ref().is_some_and(|link| link.up)
                    && engine.cluster.as_ref().is_none_or(|cluster| cluster.ok)
            }
            None => false,
        };
    }
    observed.nodes.get(node).is_some_and(|seen| {
        !matches!(seen.agent, Agent::Up(_))
            && seen.pod.as_ref().is_some_and(|pod| pod.ready && !pod.terminated)
    })
}

/// Who may still accept writes while no primary is settled: the lease's holder, or the one before it.
fn in_office(group: &Desired, observed: &Observed) -> Option<Reachable> {
    let lease = observed.leases.get(&group.shards.first()?.id)?;
    let before = lease.previous.as_ref().map(|(node, _)| node);
    let node = [Some(&lease.holder), before].into_iter().flatten().find(|node| {
        serves(observed, node)
            && observed.engine(node).is_none_or(|engine| engine.role == Some(Role::Primary))
    })?;
    reachable(observed, node)
}

fn reachable(observed: &Observed, node: &str) -> Option<Reachable> {
    let pod = observed.nodes.get(node)?.pod.as_ref()?;
    let zone = pod.machine.as_ref().and_then(|name| observed.machines.get(name)?.zone.clone());
    Some(Reachable {
        ip: pod.ip.clone()?,
        pod: names::pod_name(node),
        uid: pod.uid.clone(),
        machine: pod.machine.clone(),
        zone,
    })
}

fn label(node: &str, observed: &Observed, plan: &mut Plan) {
    // A node that joins is a primary without slots for a moment; that is nobody's primary.
    let Some(engine) = observed.engine(node) else { return };
    let Some(role) = engine.role.filter(|role| *role == Role::Replica || is_primary(engine)) else { return };
    let Some(pod) = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref()) else { return };
    let role = match role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    };
    if pod.role_label.as_deref() != Some(role) && !pod.deleting {
        let act = Act::LabelRole { pod: names::pod_name(node), uid: pod.uid.clone(), role };
        plan.steps.push(Step { act, reason: Reason::Creating, event: String::new(), warning: false });
    }
}
