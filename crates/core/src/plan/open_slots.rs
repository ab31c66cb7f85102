//! Slots that an interrupted migration left open (cluster mode enabled): closed where nobody but their owner holds a key of them.
//!
//! An owner that migrates a slot sends clients elsewhere for every key that it does not hold, so its mark is the only word about
//! keys that have moved: it goes last, once everybody else has said that there are none. What imports a slot gains keys for as long
//! as it does, so it goes first, by an order that counts once more. No key is moved or deleted here (P7).

use super::step::Order;
use super::{Act, Plan, Primary};
use crate::desired::{ClusterMode, Desired};
use crate::observed::Observed;
use kagami_api::{names, reason::Reason};
use kagami_protocol::{ClusterView, Command, OPEN_SLOT_BOUND_MS, OpenSlot, Report, Role};
use std::collections::{BTreeMap, BTreeSet};

/// The first vocabulary of agents that know how to count and close open slots.
const KNOWS_OPEN_SLOTS: u32 = 3;
/// How many slots a message names.
const NAMED: usize = 8;

/// A shard's primary.
struct Holder<'a> {
    node: &'a str,
    term: u64,
    report: &'a Report,
    cluster: &'a ClusterView,
    /// Its open slots; true where it migrates them.
    marks: BTreeMap<u16, bool>,
    counted: BTreeMap<u16, &'a OpenSlot>,
}

impl Holder<'_> {
    fn owns(&self, slot: u16) -> bool {
        self.cluster.owns(slot)
    }

    fn about(&self, slot: u16) -> bool {
        self.marks.contains_key(&slot) || self.counted.contains_key(&slot)
    }

    fn knows(&self) -> bool {
        self.report.vocabulary >= KNOWS_OPEN_SLOTS
    }
}

/// What is to be done about one slot.
enum Verdict {
    /// It may be moving yet.
    Young,
    /// Keys of it are held by one that does not own it.
    Held,
    /// It cannot be told who owns it.
    Unowned,
    /// Closed by all who have a mark; where its owner migrates it, everybody else is asked first.
    Close { owner: usize, asks: bool },
}

pub(super) fn rule(group: &Desired, primaries: &[Option<Primary>], observed: &Observed, plan: &mut Plan) {
    if group.cluster_mode != ClusterMode::Enabled {
        return;
    }
    let holders: Vec<Holder<'_>> =
        primaries.iter().flatten().filter_map(|primary| holder(primary, observed)).collect();
    let mut slots: BTreeSet<u16> = BTreeSet::new();
    for holder in &holders {
        if !holder.marks.is_empty() && !holder.knows() {
            plan.wait(
                Reason::AgentTooOld,
                holder.node,
                "slots are open there, and its agent does not know how to close them; let its pod be replaced",
            );
        }
        slots.extend(holder.marks.keys().chain(holder.counted.keys()));
    }
    if slots.is_empty() {
        return;
    }
    let everybody = holders.len() == group.shards.len() && holders.iter().all(Holder::knows);
    let (mut young, mut held, mut unowned, mut unasked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut uncounted = Vec::new();
    // What each is to close: where it holds no key, and then whatever its owner holds.
    let (mut empty, mut owned) = (vec![BTreeSet::new(); holders.len()], vec![BTreeSet::new(); holders.len()]);
    for slot in slots {
        let Some(verdict) = judge(&holders, slot) else {
            uncounted.extend(holders.iter().all(|each| each.knows() || !each.about(slot)).then_some(slot));
            continue;
        };
        match verdict {
            Verdict::Young => young.push(slot),
            Verdict::Held => held.push(slot),
            Verdict::Unowned => unowned.push(slot),
            Verdict::Close { asks: true, .. } if !everybody => unasked.push(slot),
            Verdict::Close { owner, asks } => {
                for (at, holder) in holders.iter().enumerate() {
                    if at != owner && (asks || holder.marks.contains_key(&slot)) {
                        empty[at].insert(slot);
                    } else if at == owner && holder.marks.contains_key(&slot) {
                        owned[at].insert(slot);
                    }
                }
            }
        }
    }
    let seconds = OPEN_SLOT_BOUND_MS / 1_000;
    let mut tell = |slots: &[u16], why: &str| {
        if let Some(subject) = slots.first().and_then(|slot| holders.iter().find(|each| each.about(*slot))) {
            plan.wait(Reason::SlotsOpen, subject.node, format!("{}: {why}", words(&holders, slots)));
        }
    };
    let fix = held.first().and_then(|slot| holders.iter().find(|each| each.owns(*slot) || each.about(*slot)));
    if let Some(fix) = fix {
        let host = names::address(fix.node, &group.namespace, &group.cluster_domain);
        tell(
            &held,
            &format!(
                "keys are with one that does not own their slot, and nothing is moved or deleted; finish the migration with \
                 redis-cli --cluster fix {host}:{} --user {} (its password is in the Secret {})",
                group.port,
                kagami_protocol::AGENT_USER,
                names::agent_secret(&group.name)
            ),
        );
    }
    tell(
        &young,
        &format!(
            "closed once nothing has changed for {seconds} s, where only their owner holds keys of them"
        ),
    );
    tell(&unowned, "it cannot be told who owns them");
    tell(&unasked, "not every primary can be asked whether it holds keys of them");
    tell(
        &uncounted,
        &format!(
            "keys are counted of {} slots at a time, and not yet of these",
            kagami_protocol::OPEN_SLOTS_COUNTED
        ),
    );
    // Whoever is about to have the role is asked when it has it.
    let moving = plan.steps.iter().any(|step| step.act.disruptive() || matches!(step.act, Act::RaiseTerm(_)));
    if moving {
        return;
    }
    for (slots, empty) in [(empty, true), (owned, false)] {
        for (holder, slots) in holders.iter().zip(slots).filter(|(_, slots)| !slots.is_empty()) {
            let closing: Vec<u16> = slots.into_iter().collect();
            let event = format!(
                "A migration of slots stood still for {seconds} s, and nobody but their owner held keys of them: closed at {}. {}",
                holder.node,
                words(&holders, &closing)
            );
            plan.order(Order {
                node: holder.node,
                boot: &holder.report.boot,
                term: holder.term,
                role: Some(Role::Primary),
                command: Command::CloseSlots { slots: closing.clone(), empty },
                reason: Reason::SlotsOpen,
            });
            if closing.iter().any(|slot| holder.marks.contains_key(slot)) {
                plan.tell(false, event);
            }
        }
    }
}

fn holder<'a>(primary: &'a Primary, observed: &'a Observed) -> Option<Holder<'a>> {
    let report = observed.report(&primary.node).filter(|_| primary.serving)?;
    let engine = observed.engine(&primary.node)?;
    let cluster = engine.cluster.as_deref()?;
    Some(Holder {
        node: &primary.node,
        term: primary.term,
        report,
        cluster,
        marks: cluster.marks().map(|mark| (mark.slot, !mark.importing)).collect(),
        counted: engine.open_slots.iter().map(|open| (open.slot, open)).collect(),
    })
}

/// `None` where nothing is known yet: its keys are counted once fewer slots are open, or by another agent.
fn judge(holders: &[Holder<'_>], slot: u16) -> Option<Verdict> {
    let sides = || holders.iter().filter(|holder| holder.about(slot));
    if sides().any(|side| !side.counted.contains_key(&slot)) {
        return None;
    }
    let mut owners = holders.iter().enumerate().filter(|(_, holder)| holder.owns(slot));
    let owner = match (owners.next(), owners.next()) {
        (Some((at, _)), None) => at,
        _ => return Some(Verdict::Unowned),
    };
    let mut counts = sides().filter_map(|side| Some((side, side.counted.get(&slot)?)));
    if counts.any(|(side, open)| !side.owns(slot) && open.keys > 0) {
        return Some(Verdict::Held);
    }
    if sides().any(|side| !side.counted.get(&slot).is_some_and(|open| open.stood)) {
        return Some(Verdict::Young);
    }
    let asks = holders.get(owner).is_some_and(|holder| holder.marks.get(&slot) == Some(&true));
    Some(Verdict::Close { owner, asks })
}

/// The slots with what each side holds: `slot 93 (g-0001-001 owns it: 3 keys; g-0002-001: no key)`.
fn words(holders: &[Holder<'_>], slots: &[u16]) -> String {
    let one = |slot: &u16| {
        let sides = holders.iter().filter(|holder| holder.about(*slot) || holder.owns(*slot));
        let side = |side: &Holder<'_>| {
            let keys = match side.counted.get(slot).map(|open| open.keys) {
                None => String::new(),
                Some(0) => ": no key".into(),
                Some(1) => ": 1 key".into(),
                Some(keys @ 2..10) => format!(": {keys} keys"),
                // Clients may write all the time, and the words are not to change with each key.
                Some(keys) => {
                    let ten = 10_u64.pow(keys.ilog10());
                    format!(": some {} keys", keys / ten * ten)
                }
            };
            format!("{}{}{keys}", side.node, if side.owns(*slot) { " owns it" } else { "" })
        };
        format!("slot {slot} ({})", sides.map(side).collect::<Vec<_>>().join("; "))
    };
    let named: Vec<String> = slots.iter().take(NAMED).map(one).collect();
    let more = slots.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}
