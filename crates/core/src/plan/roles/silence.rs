//! The holder is silent: who else has lost it, and when somebody may succeed it (ADR 15).

use super::View;
use super::succession::FIRST_DIAL_MS;
use crate::observed::{Agent, Cause, ShardLease};
use crate::plan::step::Order;
use crate::plan::{Plan, Primary};
use kagami_api::reason::Reason;
use kagami_protocol::{Command, Link, Role};

impl View<'_> {
    /// P3: silence promotes only where another witness than the operator has lost the primary, and nobody hears it; and after
    /// the fence. Witnesses are a replica's agent, and Kubernetes.
    pub(super) fn silence(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Primary> {
        let holder = &lease.holder;
        let unheard = matches!(self.observed.nodes.get(holder).map(|seen| &seen.agent), Some(Agent::Unheard));
        if unheard && self.observed.watching_ms < FIRST_DIAL_MS {
            plan.wait(Reason::WaitingForAgent, holder, "this operator process has just begun to listen");
            plan.again(100);
            return None;
        }
        if self.relink(lease, plan) {
            plan.wait(
                Reason::NodeUnknown,
                holder,
                "its agent is silent, and nothing comes from it to a replica: the replica asks it anew",
            );
            plan.again(50);
            return None;
        }
        let others: Vec<&str> = self.nodes().filter(|node| node != holder).collect();
        let witness = others
            .iter()
            .any(|node| self.observed.link(node).is_some_and(|link| !link.up && link.quiet == Some(true)));
        if !witness && !self.observed.kubernetes_lost(holder, &lease.boot) {
            plan.wait(
                Reason::NodeUnknown,
                holder,
                "its agent is silent, and neither a replica nor Kubernetes has lost it: unknown is not down, nothing is promoted",
            );
            plan.again(500);
            return None;
        }
        let hears = |link: &Link| link.hears() && !self.is_recycled(holder, &link.host);
        if let Some(hears) = others.iter().find(|node| self.observed.link(node).is_some_and(hears)) {
            plan.wait(
                Reason::NodeUnknown,
                holder,
                format!("its agent is silent, but replica {hears} heard it within the last moments"),
            );
            plan.again(250);
            return None;
        }
        // P2: whoever cannot be asked may be the witness that keeps the old primary writing; no time makes up for that.
        let blind = others.iter().find(|node| {
            !matches!(self.observed.nodes.get(**node).map(|seen| &seen.agent), Some(Agent::Up(_)))
                && !self.never_ran(node)
        });
        if let Some(blind) = blind {
            plan.wait(
                Reason::NodeUnknown,
                *blind,
                format!(
                    "the primary {holder} is lost, and this node cannot be asked whether it still hears it"
                ),
            );
            plan.again(500);
            return None;
        }
        self.succeed(lease, Cause::Silence, plan)
    }

    /// Lets replicas ask a silent primary anew whose link is up by the engine's word alone. A link that stays down acknowledges
    /// nothing, so it does not keep the old primary writing either (P2). Says whether there are any.
    pub(super) fn relink(&self, lease: &ShardLease, plan: &mut Plan) -> bool {
        let stale: Vec<&str> =
            self.nodes().filter(|node| self.observed.link(node).is_some_and(Link::is_stale)).collect();
        for node in &stale {
            let Some(report) = self.observed.report(node) else { continue };
            plan.order(Order {
                node,
                boot: &report.boot,
                term: lease.term,
                role: Some(Role::Replica),
                command: Command::Relink,
                reason: Reason::NodeUnknown,
            });
        }
        !stale.is_empty()
    }

    /// Another pod has that address by now: who hears it does not hear the holder.
    fn is_recycled(&self, holder: &str, host: &str) -> bool {
        self.observed.nodes.iter().any(|(node, seen)| {
            node != holder && seen.pod.as_ref().is_some_and(|pod| pod.ip.as_deref() == Some(host))
        })
    }
}
