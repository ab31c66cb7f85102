//! A better copy comes back after its shard was started again from an older one, or from nothing (P1).
//!
//! Where nothing was written since, the shard is given back to it. Otherwise nobody but a person knows which of the two is
//! worth more: the copy is held as it is, and an annotation of its pod decides.

use super::View;
use crate::observed::{
    COPY_ANNOTATION, Cause, CopyChoice, Life, Observed, Reach, Rebirth, ShardLease, is_primary,
};
use crate::plan::step::Order;
use crate::plan::{Plan, Primary};
use kagami_api::{names, reason::Reason};
use kagami_protocol::{Boot, Command, EngineState, Record, Report, Role};

/// How many new beginnings a lease remembers; beyond, the two oldest are told together, which may hold a copy too many.
const REBIRTHS_MAX: usize = 8;
/// How much longer than its primary lived a replica must have been without it to be called stale, in milliseconds: clocks
/// of machines differ, and a note is up to a second old.
const STALE_MS: i64 = 10_000;

/// What becomes of a node that is not the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Standing {
    /// It joins; what it held is superseded.
    Joins,
    /// It joins; what it held is put aside and kept.
    Keeps,
    /// It is parked first, because what it holds is to be put aside and kept.
    Parks,
    /// It is left as it is.
    Held,
}

/// What becomes of a node's copy as it joins a primary whose shard's data began anew in these terms.
pub(in crate::plan) fn standing(
    observed: &Observed,
    node: &str,
    holder: &str,
    rebirths: &[Rebirth],
) -> Standing {
    let Some(report) = observed.report(node) else { return Standing::Joins };
    let Some(reach) = observed.reach(node) else {
        // Data without a note that can be read: nobody knows what it is, so nobody may delete it.
        let unknown = report.state == EngineState::Parked && report.persistent && report.has_data;
        return if unknown { Standing::Keeps } else { Standing::Joins };
    };
    let parked = report.state == EngineState::Parked;
    if is_ahead(observed, node, holder, rebirths, reach) {
        return match (copy_choice(observed, node), parked) {
            (Some(CopyChoice::PutAside), true) => Standing::Keeps,
            (Some(CopyChoice::PutAside), false) if report.persistent => Standing::Parks,
            (Some(CopyChoice::PutAside), false) => Standing::Joins,
            // It cannot serve; what could be repaired by hand is kept.
            (None, true) if failed_loads(report) > 0 => Standing::Keeps,
            _ => Standing::Held,
        };
    }
    let voided = rebirths.iter().any(|rebirth| rebirth.voided(reach));
    if voided && !parked && report.persistent && is_another_history(observed, node, holder) {
        return Standing::Parks;
    }
    let worthless = report.record.as_ref().is_some_and(|record| record.unwritten);
    let keeps = parked && (voided && !worthless || failed_loads(report) > 0);
    if keeps { Standing::Keeps } else { Standing::Joins }
}

/// Whether a node other than the holder holds more than its shard goes on from.
fn is_ahead(observed: &Observed, node: &str, holder: &str, rebirths: &[Rebirth], reach: Reach) -> bool {
    // A note may be a second old: one that copied from the holder shows its history. Its first replica gives the holder a new one,
    // of which it may not have told yet; whoever's link to it is up has copied from it all the same.
    let same = observed.engine(node).is_some_and(|own| {
        observed.engine(holder).is_some_and(|its| own.replid == its.replid)
            || observed.in_sync_with(own, holder)
    });
    let empty = observed.engine(node).is_some_and(|engine| engine.keys == 0 && engine.offset == 0);
    node != holder && !same && !empty && rebirths.iter().any(|rebirth| rebirth.left_behind(reach))
}

/// Whether a live copy is no part of the live holder's history, so that it would be emptied as it follows.
fn is_another_history(observed: &Observed, node: &str, holder: &str) -> bool {
    observed.engine(node).zip(observed.engine(holder)).is_some_and(|(own, its)| {
        let before = own.replid == its.replid2 && own.offset <= its.second_offset;
        own.keys > 0 && own.replid != its.replid && !before
    })
}

fn copy_choice(observed: &Observed, node: &str) -> Option<CopyChoice> {
    observed.nodes.get(node)?.pod.as_ref()?.copy
}

fn failed_loads(report: &Report) -> u32 {
    report.record.as_ref().map_or(0, |record| record.failed_loads)
}

/// How far a volume is by its note. What a primary wrote before it took any write is what it was started from.
pub(super) fn reach_of(record: &Record, lease: Option<&ShardLease>) -> Reach {
    let rebirth = lease.and_then(|lease| {
        lease.rebirths.iter().find(|rebirth| record.unwritten && rebirth.term == record.data_term)
    });
    rebirth.map_or_else(|| Reach::noted(record), |rebirth| rebirth.base.unwrap_or_default())
}

fn words(reach: Option<Reach>) -> String {
    reach.map_or_else(
        || "nothing".to_owned(),
        |reach| format!("a copy of term {}, offset {}", reach.data_term, reach.offset),
    )
}

impl View<'_> {
    /// The new beginnings that the next term remembers: those that a copy may still come back from.
    pub(super) fn rebirths(&self, lease: Option<&ShardLease>, node: &str) -> Vec<Rebirth> {
        let Some(lease) = lease else { return vec![Rebirth::forgotten(self.next_term())] };
        let mut rebirths = lease.rebirths.clone();
        // Whoever is preferred to the copy that was to have the shard back undoes that.
        if let Some(undoing) = lease.undoing().copied()
            && node != lease.holder
            && self.observed.reach(node).is_some_and(|reach| reach.data_term >= undoing.term)
        {
            for rebirth in rebirths.iter_mut().filter(|rebirth| rebirth.term == undoing.term) {
                rebirth.returned = None;
            }
        }
        let all_heard = self.nodes().all(|node| self.observed.report(node).is_some());
        let any_ahead = self.nodes().any(|node| {
            self.observed.reach(node).is_some_and(|reach| {
                rebirths.iter().any(|rebirth| rebirth.left_behind(reach) || rebirth.voided(reach))
            })
        });
        if all_heard && !any_ahead {
            rebirths.clear();
        }
        if rebirths.len() >= REBIRTHS_MAX {
            let oldest = rebirths.remove(0);
            if let Some(next) = rebirths.first_mut() {
                *next = Rebirth { base: next.base.min(oldest.base), returned: None, ..*next };
            }
        }
        rebirths
    }

    /// While the holder serves: a better copy that came back has the shard again, or is held.
    pub(super) fn better_copy(&self, lease: &ShardLease, plan: &mut Plan) -> Option<Option<Primary>> {
        let mut ahead: Vec<(&str, &Report, Reach)> = self
            .nodes()
            .filter_map(|node| Some((node, self.observed.report(node)?, self.observed.reach(node)?)))
            .filter(|(node, _, reach)| is_ahead(self.observed, node, &lease.holder, &lease.rebirths, *reach))
            .collect();
        ahead.sort_by_key(|(node, _, reach)| {
            let chosen = copy_choice(self.observed, node) == Some(CopyChoice::Use);
            (std::cmp::Reverse((chosen, *reach)), *node)
        });
        let engine = self.observed.engine(&lease.holder)?;
        let unwritten = engine.keys == 0 || engine.unwritten;
        let usable = ahead.iter().find(|(node, report, _)| {
            failed_loads(report) == 0 && !report.terminating && self.stays(node) && {
                let choice = copy_choice(self.observed, node);
                choice == Some(CopyChoice::Use) || unwritten && choice.is_none()
            }
        });
        if let Some((node, report, reach)) = usable
            && self.obeys(&lease.holder, plan)
        {
            return Some(self.give_back(lease, node, report, *reach, plan));
        }
        for (node, _, reach) in ahead {
            if standing(self.observed, node, &lease.holder, &lease.rebirths) == Standing::Held {
                plan.wait(Reason::CopyHeld, node, self.held(lease, node, reach));
            }
        }
        None
    }

    fn held(&self, lease: &ShardLease, node: &str, reach: Reach) -> String {
        let rebirth = lease.rebirths.iter().find(|rebirth| rebirth.left_behind(reach));
        let (term, base) = rebirth.map_or((lease.term, None), |rebirth| (rebirth.term, rebirth.base));
        let keys = self.observed.engine(&lease.holder).map_or(0, |engine| engine.keys);
        let pod = names::pod_name(node);
        format!(
            "it holds {}, and node group {} went on in term {term} from {}; {} has {keys} keys now, and clients have written since. \
             Nothing is done to it. To go on from it: kubectl annotate pod {pod} {COPY_ANNOTATION}=use (what was written since stays \
             on volumes, put aside). To keep what serves now: {COPY_ANNOTATION}=put-aside",
            words(Some(reach)),
            self.shard.id,
            words(base),
            lease.holder,
        )
    }

    /// The term is raised for the copy that came back; its place is made by parking who serves from the lesser one.
    fn give_back(
        &self,
        lease: &ShardLease,
        node: &str,
        report: &Report,
        reach: Reach,
        plan: &mut Plan,
    ) -> Option<Primary> {
        let cause = if report.state == EngineState::Parked { Cause::Restore } else { Cause::Adopted };
        let mut before = lease.clone();
        let term = self.next_term();
        let undone = before.rebirths.iter().position(|rebirth| rebirth.left_behind(reach))?;
        // Later beginnings went on from the one that is undone.
        before.rebirths.truncate(undone + 1);
        if let Some(rebirth) = before.rebirths.last_mut() {
            rebirth.returned = Some((term, reach));
        }
        let raised = self.raise_with(Some(&before), node, report, cause, before.rebirths.clone(), plan);
        plan.tell(
            true,
            format!(
                "{node} came back with {}; node group {} had gone on without it from {}. It serves again from {node}.",
                words(Some(reach)),
                self.shard.id,
                words(before.rebirths.last().and_then(|rebirth| rebirth.base)),
            ),
        );
        self.make_way(&raised, plan);
        None
    }

    /// Whether everybody who serves from the lesser copy has made way for the one that came back.
    pub(super) fn make_way(&self, lease: &ShardLease, plan: &mut Plan) -> Way {
        let Some(undoing) = lease.undoing() else { return Way::Free };
        let forced = copy_choice(self.observed, &lease.holder) == Some(CopyChoice::Use);
        let worthless = |node: &str| {
            self.observed.engine(node).is_some_and(|engine| engine.keys == 0 || engine.unwritten)
        };
        if let Some((previous, boot)) = &lease.previous
            && self.observed.life(previous, boot) == Life::Alive
        {
            if !forced && !worthless(previous) {
                return Way::Closed;
            }
            self.park(previous, boot, lease.term, !forced, plan);
            return Way::Waits;
        }
        let mut way = Way::Free;
        for node in self.nodes().filter(|node| *node != lease.holder) {
            let of_the_lesser = lease.previous.as_ref().and_then(|(previous, _)| {
                Some(self.observed.report(previous)?.record.as_ref()?.replid.as_str())
            });
            let same = self
                .observed
                .engine(node)
                .is_some_and(|engine| Some(engine.replid.as_str()) == of_the_lesser);
            let lesser =
                same || self.observed.reach(node).is_some_and(|reach| reach.data_term >= undoing.term);
            if let Some(report) =
                self.observed.report(node).filter(|_| lesser && self.observed.engine(node).is_some())
            {
                let leads = self.observed.engine(node).is_some_and(is_primary);
                if leads && !forced && !worthless(node) {
                    return Way::Closed;
                }
                self.park(node, &report.boot, lease.term, leads && !forced, plan);
                way = Way::Waits;
            }
        }
        way
    }

    /// Whether an agent knows the orders that park an engine.
    fn obeys(&self, node: &str, plan: &mut Plan) -> bool {
        let knows = self.observed.report(node).is_some_and(|report| report.vocabulary >= 1);
        if !knows {
            plan.wait(
                Reason::AgentTooOld,
                node,
                "its agent cannot park an engine that runs; let its pod be replaced",
            );
        }
        knows
    }

    /// Orders an engine to be ended; says so where the agent cannot.
    pub(super) fn park(&self, node: &str, boot: &Boot, term: u64, unwritten: bool, plan: &mut Plan) {
        if self.obeys(node, plan) {
            plan.order(Order {
                node,
                boot,
                term,
                role: None,
                command: Command::Park { unwritten },
                reason: Reason::RecoveringNode,
            });
        }
    }

    /// Whether a parked volume holds more of the history than a live copy: of a later term, or further in the same one. There a
    /// primary's tail that nobody had confirmed counts only where the live copy had lost its primary long before that ended.
    pub(super) fn outruns(&self, volume: &str, live: &str) -> bool {
        let (Some(parked), Some(report)) = (self.observed.parked(volume), self.observed.report(live)) else {
            return false;
        };
        let (Some(own), Some(its), Some(engine)) =
            (&parked.record, &report.record, self.observed.engine(live))
        else {
            return false;
        };
        let written_ms = if own.data_at_ms == 0 { own.at_ms } else { own.data_at_ms };
        let written_ago_ms = self.observed.now_ms.saturating_sub(written_ms).max(0);
        let stale = || {
            engine.link.as_ref().is_some_and(|link| {
                !link.up && i64::try_from(link.down_ms).unwrap_or(i64::MAX) > written_ago_ms + STALE_MS
            })
        };
        let led = own.role == Some(Role::Primary);
        let tail = || led && (stale() || self.nodes().any(|other| self.had_more_confirmed(other, live)));
        let further = own.data_term > its.data_term
            || own.data_term == its.data_term
                && own.offset > engine.offset
                && (self.had_more_confirmed(volume, live) || tail());
        self.is_fit(volume) && further && engine.role == Some(Role::Replica)
    }

    /// Whether a parked volume is of another replica that was further in the history of a live one: what it had was confirmed. Not
    /// while the live one hears its primary, for then it has more by now than it told.
    fn had_more_confirmed(&self, volume: &str, live: &str) -> bool {
        let record = self.observed.parked(volume).and_then(|parked| parked.record.as_ref());
        let of_live = self.observed.report(live).zip(self.observed.engine(live));
        record.zip(of_live).is_some_and(|(own, (report, engine))| {
            let parted = engine.link.as_ref().is_some_and(|link| !link.up || link.quiet == Some(true));
            let further = own.replid == engine.replid && own.offset > engine.offset;
            let of_term = own.data_term == report.data_term() && own.role == Some(Role::Replica);
            self.is_fit(volume) && of_term && further && parted
        })
    }

    /// Whether a parked volume can be preferred to a live copy: it is whole, it can be loaded, and its node stays.
    fn is_fit(&self, volume: &str) -> bool {
        let Some(parked) = self.observed.parked(volume) else { return false };
        parked.record.as_ref().is_some_and(|own| {
            let whole = own.complete && own.failed_loads == 0 && !own.unwritten;
            whole && parked.persistent && parked.has_data && self.stays(volume)
        })
    }
}

/// Whether a copy that came back may take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nobody serves from the lesser copy any more.
    Free,
    /// Somebody was ordered to make way.
    Waits,
    /// Clients have written to the lesser copy meanwhile: it keeps the shard.
    Closed,
}
