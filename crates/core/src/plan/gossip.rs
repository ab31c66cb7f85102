//! Who knows whom (cluster mode enabled): everybody meets everybody at the present addresses, and old identities are
//! forgotten everywhere.

use super::identities::Identities;
use super::roles::may_be_met;
use super::step::Order;
use super::{Plan, Primary};
use crate::desired::{ClusterMode, Desired};
use crate::observed::Observed;
use kagami_api::reason::Reason;
use kagami_protocol::{ClusterNode, ClusterView, Command, Report};
use std::collections::{BTreeMap, BTreeSet};

struct Member<'a> {
    node: &'a str,
    term: u64,
    report: &'a Report,
    cluster: &'a ClusterView,
}

pub(super) fn rule(group: &Desired, primaries: &[Option<Primary>], observed: &Observed, plan: &mut Plan) {
    if group.cluster_mode != ClusterMode::Enabled {
        return;
    }
    let members: Vec<Member<'_>> = group
        .shards
        .iter()
        .zip(primaries)
        .flat_map(|(shard, primary)| shard.nodes.iter().map(move |node| (node, shard, primary)))
        .filter_map(|(node, shard, primary)| {
            let term = primary
                .as_ref()
                .map(|p| p.term)
                .or_else(|| observed.leases.get(&shard.id).map(|lease| lease.term))?;
            let report = observed.report(&node.name)?;
            let cluster = observed.engine(&node.name)?.cluster.as_ref()?;
            Some(Member { node: &node.name, term, report, cluster })
        })
        .collect();
    meet(group, &members, observed, plan);
    forget(group, &members, observed, plan);
    let not_ok = members.iter().find(|member| !member.cluster.ok);
    if let Some(member) = not_ok
        && plan.waits.is_empty()
        && plan.steps.is_empty()
    {
        plan.wait(Reason::FormingCluster, member.node, "it says cluster_state:fail");
        plan.again(250);
    }
}

fn knows(member: &Member<'_>, peer: &Member<'_>) -> bool {
    member.cluster.nodes.iter().any(|line| line.id == peer.cluster.my_id)
}

/// A mesh, not a star: gossip takes seconds where a `MEET` takes a tenth of one.
fn meet(group: &Desired, members: &[Member<'_>], observed: &Observed, plan: &mut Plan) {
    let met: Vec<_> = members
        .iter()
        .filter(|member| may_be_met(group, observed, member.node))
        .map(|member| (member, observed.address(member.node, group.port, group.bus_port)))
        .collect();
    for (member, _) in &met {
        let peers: Vec<_> = met
            .iter()
            .filter(|(peer, _)| peer.node != member.node)
            .filter_map(|(peer, address)| {
                let address = address.as_ref()?;
                let known = member.cluster.nodes.iter().any(|line| {
                    line.id == peer.cluster.my_id
                        && line.host == address.host
                        && line.port == address.port
                        && !line.handshake
                });
                let greeted = member.cluster.nodes.iter().any(|line| {
                    line.host == address.host && line.port == address.port && line.handshake && !line.fail
                });
                // Two that have never met do so by one word; a changed address must be told in both directions.
                let strangers = !knows(member, peer) && !knows(peer, member);
                let other_asks = strangers && peer.node < member.node;
                (!known && !greeted && !other_asks).then(|| address.clone())
            })
            .collect();
        if !peers.is_empty() {
            plan.order(Order {
                node: member.node,
                boot: &member.report.boot,
                term: member.term,
                role: None,
                command: Command::Meet { peers },
                reason: Reason::FormingCluster,
            });
        }
    }
}

/// An identity is forgotten when its node lives in another one or is proven to have ended, and no live node says that it
/// owns a slot. Everybody is told at once, inside the ban time of a minute.
fn forget(group: &Desired, members: &[Member<'_>], observed: &Observed, plan: &mut Plan) {
    let identities = Identities::of(group, observed);
    let lines = || identities.views.iter().flat_map(|(_, cluster)| &cluster.nodes);
    let owners: BTreeSet<&str> =
        lines().filter(|line| !line.slots.is_empty()).map(|line| line.id.as_str()).collect();
    let followed: BTreeSet<&str> =
        identities.views.iter().filter_map(|(_, cluster)| cluster.followed()).collect();
    let gone = |line: &ClusterNode| {
        !line.myself
            && (!line.handshake || line.fail)
            && !owners.contains(line.id.as_str())
            && !followed.contains(line.id.as_str())
            && identities.is_gone(&line.id)
    };
    let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for member in members {
        let ids: Vec<String> =
            member.cluster.nodes.iter().filter(|line| gone(line)).map(|line| line.id.clone()).collect();
        if !ids.is_empty() {
            told.insert(member.node, ids);
        }
    }
    for member in members {
        if let Some(ids) = told.remove(member.node) {
            plan.order(Order {
                node: member.node,
                boot: &member.report.boot,
                term: member.term,
                role: None,
                command: Command::Forget { ids },
                reason: Reason::RecoveringNode,
            });
        }
    }
}
