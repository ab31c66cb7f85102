//! An engine that stands still while its agent does not (ADR 16): the agent is its parent and can end it, which is a proof of death.
//!
//! It is ended only where another live copy is known to hold all that it was last heard to hold (P1). Where none does, a person is
//! told, and nothing is done: what stands still may go on.

use super::View;
use crate::observed::{Agent, ShardLease};
use crate::plan::step::Order;
use crate::plan::{Plan, Primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::{Boot, Command, EngineState, EngineView, HUNG_MS, Report, Unanswered};

/// How soon it is ordered again where its process waits in the kernel and does not end.
const AGAIN_MS: u64 = 5_000;

impl View<'_> {
    /// An engine that is called hung, by its agent's word.
    pub(super) fn hung(&self, node: &str) -> Option<(&Report, &Unanswered)> {
        let report = self.observed.report(node)?;
        let silence = report.unanswered.as_ref().filter(|silence| silence.ms >= HUNG_MS)?;
        let runs = report.state == EngineState::Running && report.engine.is_none();
        (runs && self.stays(node)).then_some((report, silence))
    }

    /// Hung engines are ended where another copy can serve, and told of otherwise.
    pub(super) fn end_hung(&self, primary: Option<&Primary>, plan: &mut Plan) {
        let lease = self.observed.leases.get(&self.shard.id);
        for node in self.nodes() {
            let Some((report, silence)) = self.hung(node) else { continue };
            let lasting = lasting(silence.ms);
            let outlived = match lease {
                Some(lease) => self.outlived(lease, primary, node, report, silence).map(|by| (by, lease)),
                None => Err("its node group has no primary by any lease".to_owned()),
            };
            match outlived {
                Ok((by, lease)) => {
                    plan.order(Order {
                        node,
                        boot: &report.boot,
                        term: primary.map_or(lease.term, |primary| primary.term.max(lease.term)),
                        role: Some(silence.role),
                        command: Command::End { unanswered_ms: HUNG_MS },
                        reason: Reason::EngineHung,
                    });
                    plan.tell(
                        true,
                        format!(
                            "The engine of cache node {node} stood still: it had answered nothing for {lasting} while its process lived. \
                             It was ended; {by} holds all that it was heard to hold"
                        ),
                    );
                    plan.wait(
                        Reason::EngineHung,
                        node,
                        format!(
                            "its engine has answered nothing for {lasting} while its process lives; {by} holds all that it was heard \
                             to hold, so it is ended, and comes back as a replica"
                        ),
                    );
                    plan.again(AGAIN_MS);
                }
                Err(why) => {
                    let pod = names::pod_name(node);
                    plan.wait(
                        Reason::EngineHung,
                        node,
                        format!(
                            "its engine has answered nothing for {lasting} while its process lives, and is not ended: {why}. If you hold \
                             it to be dead, `kubectl delete pod {pod}` ends it, and what no other copy or volume has is lost"
                        ),
                    );
                }
            }
        }
    }

    /// Who holds all that a hung engine was last heard to hold, and may go on without it; or why nobody is known to.
    fn outlived(
        &self,
        lease: &ShardLease,
        primary: Option<&Primary>,
        node: &str,
        report: &Report,
        silence: &Unanswered,
    ) -> Result<String, String> {
        if let Some(primary) = primary.filter(|primary| primary.serving && primary.node != node) {
            let by = &primary.node;
            let (Some(its), Some(engine)) = (self.observed.report(by), self.observed.engine(by)) else {
                return Err(format!("{by} is not heard"));
            };
            // What was written in an earlier term beside the history that goes on is superseded, unless it is a copy that is held.
            let in_office = lease.holder == *by && lease.boot == its.boot;
            let superseded = in_office && its.data_term() > report.data_term() && lease.rebirths.is_empty();
            return if !self.stays(by) {
                Err(format!("{by}, which serves, is on its way out"))
            } else if engine.complete && !engine.loading && (contains(engine, silence) || superseded) {
                Ok(by.clone())
            } else {
                Err(format!("it is not known that {by}, which serves, holds all that it holds"))
            };
        }
        let of = |(holder, boot): (&String, &Boot)| holder == node && *boot == report.boot;
        let blocks = of((&lease.holder, &lease.boot))
            || lease.previous.as_ref().is_some_and(|(n, boot)| of((n, boot)));
        if !blocks {
            return Err("its node group is to have a primary that serves first".into());
        }
        let copies = self.live_copies();
        let Some((by, _, engine)) = copies.first() else {
            return Err("no other live copy of its node group is known".into());
        };
        if !contains(engine, silence) {
            return Err(format!(
                "{by}, the best live copy, is at offset {}, and it was at {} when it was last heard",
                engine.offset, silence.offset
            ));
        }
        if !self.stays(by) {
            return Err(format!("{by}, the only copy that could succeed it, is on its way out"));
        }
        match self
            .nodes()
            .filter(|each| *each != node && each != by)
            .find(|each| self.may_be_further(each, by, engine))
        {
            Some(other) => Err(format!("{other} cannot be asked, or may hold more than {by}")),
            None => Ok((*by).to_owned()),
        }
    }

    /// Whether a node may hold what the best live copy does not: it cannot be asked, or was heard to.
    fn may_be_further(&self, node: &str, best: &str, of_best: &EngineView) -> bool {
        match self.observed.nodes.get(node).map(|seen| &seen.agent) {
            Some(Agent::Up(report)) => match (&report.state, &report.engine, &report.unanswered) {
                (EngineState::Parked, ..) => self.outruns(node, best),
                (EngineState::Running, None, Some(silence)) => !contains(of_best, silence),
                (EngineState::Running, None, None) => true,
                _ => false,
            },
            _ => !self.cannot_hold_a_copy(node) && !self.given_up(node),
        }
    }
}

/// Whether a live copy holds all that a hung engine was last heard to hold: the same history, as far.
fn contains(engine: &EngineView, silence: &Unanswered) -> bool {
    let same = engine.replid == silence.replid;
    let before = engine.replid2 == silence.replid && silence.offset < engine.second_offset;
    !silence.complete || (same || before) && engine.offset >= silence.offset
}

/// In steps, so that words about what lasts do not change all the time.
fn lasting(ms: u64) -> &'static str {
    match ms / 1_000 {
        0..30 => "10 s",
        30..60 => "30 s",
        60..300 => "a minute",
        300..3_600 => "five minutes",
        3_600..86_400 => "an hour",
        _ => "a day",
    }
}
