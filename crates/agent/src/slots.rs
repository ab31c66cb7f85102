//! Slots that a migration left open, pure: which are to be counted, and whether they have stood for long enough to be called
//! interrupted.

use kagami_protocol::{EngineView, OPEN_SLOT_BOUND_MS, OPEN_SLOTS_COUNTED, OpenSlot, Role};
use std::collections::{BTreeMap, BTreeSet};

/// How often keys are counted while nothing changes.
const COUNT_EVERY_MS: u64 = 1_000;
/// Looks further apart than this prove nothing of what was between them.
const LOOKING_MS: u64 = 5_000;

/// What is known of a primary's open slots, from look to look.
#[derive(Clone, Debug, Default)]
pub struct OpenSlots {
    /// As printed, by slot.
    marks: BTreeMap<u16, String>,
    since_ms: u64,
    looked_ms: u64,
    /// It was asked to hold no key of these, and does.
    held: BTreeSet<u16>,
    counts: BTreeMap<u16, u64>,
    counted_ms: Option<u64>,
}

impl OpenSlots {
    /// Of which slots the keys are to be counted now; mostly of none.
    pub fn to_count(&self, now_ms: u64, view: &EngineView) -> Vec<u16> {
        let (marks, held) = self.present(view);
        if marks.is_empty() && held.is_empty() {
            return Vec::new();
        }
        let fresh = self.counted_ms.is_some_and(|at| now_ms.saturating_sub(at) < COUNT_EVERY_MS);
        if fresh && marks == self.marks { Vec::new() } else { first(&marks, &held) }
    }

    /// Takes a look in, with what was counted; says what is to be reported.
    pub fn look(&mut self, now_ms: u64, view: &EngineView, counted: &[(u16, u64)]) -> Vec<OpenSlot> {
        let (marks, held) = self.present(view);
        let stood_still = now_ms.saturating_sub(self.looked_ms) > LOOKING_MS;
        if stood_still || marks != self.marks {
            // Of a migration that opens many slots and moves them one by one, each goes on for as long as any does.
            self.since_ms = now_ms;
        }
        self.looked_ms = now_ms;
        self.marks = marks;
        if !counted.is_empty() {
            self.counts = counted.iter().copied().collect();
            self.counted_ms = Some(now_ms);
        }
        self.held = held.into_iter().filter(|slot| self.counts.get(slot) != Some(&0)).collect();
        let old = now_ms.saturating_sub(self.since_ms) >= OPEN_SLOT_BOUND_MS;
        first(&self.marks, &self.held)
            .into_iter()
            .filter_map(|slot| {
                let stood = old || !self.marks.contains_key(&slot);
                Some(OpenSlot { slot, keys: *self.counts.get(&slot)?, stood })
            })
            .collect()
    }

    /// The agent itself has closed these: for the others that is no sign of life.
    pub fn closed(&mut self, slots: &[u16]) {
        for slot in slots {
            self.marks.remove(slot);
        }
    }

    /// It was asked to hold no key of these, and does.
    pub fn holds(&mut self, slots: impl IntoIterator<Item = u16>) {
        self.held.extend(slots);
        self.counted_ms = None;
    }

    /// The marks, and what is held although another owns it.
    fn present(&self, view: &EngineView) -> (BTreeMap<u16, String>, BTreeSet<u16>) {
        let mut marks = BTreeMap::new();
        let Some(cluster) = view.cluster.as_deref().filter(|_| view.role == Some(Role::Primary)) else {
            return (marks, BTreeSet::new());
        };
        for mark in cluster.marks() {
            marks.insert(mark.slot, format!("{}{}", mark.importing, mark.peer));
        }
        (marks, self.held.iter().copied().filter(|slot| !cluster.owns(*slot)).collect())
    }
}

fn first(marks: &BTreeMap<u16, String>, held: &BTreeSet<u16>) -> Vec<u16> {
    let all: BTreeSet<u16> = marks.keys().chain(held).copied().collect();
    all.into_iter().take(OPEN_SLOTS_COUNTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_protocol::{ClusterNode, ClusterView};

    fn view(marks: &[&str]) -> EngineView {
        let line = ClusterNode {
            myself: true,
            primary: true,
            slots: vec![(0, 99)],
            open_slots: marks.iter().map(|mark| (*mark).to_owned()).collect(),
            ..ClusterNode::default()
        };
        let cluster = ClusterView { nodes: vec![line], ..ClusterView::default() };
        EngineView { role: Some(Role::Primary), cluster: Some(cluster.into()), ..EngineView::default() }
    }

    /// Looks each 200 ms until that time, with so many keys in each slot; what the last look reports.
    fn look(
        open: &mut OpenSlots,
        from_ms: u64,
        to_ms: u64,
        marks: &[&str],
        keys: u64,
    ) -> Vec<(u16, u64, bool)> {
        let view = view(marks);
        let mut last = Vec::new();
        for now in (from_ms..=to_ms).step_by(200) {
            let counts: Vec<_> = open.to_count(now, &view).into_iter().map(|slot| (slot, keys)).collect();
            last = open.look(now, &view, &counts);
        }
        last.into_iter().map(|open| (open.slot, open.keys, open.stood)).collect()
    }

    #[test]
    fn a_slot_that_stands_for_the_bound_is_interrupted_and_one_that_moves_is_not() {
        let mut open = OpenSlots::default();
        assert!(open.to_count(0, &view(&[])).is_empty(), "nothing is asked where nothing is open");
        assert_eq!(look(&mut open, 0, 59_800, &["[5->-b]"], 3), [(5, 3, false)]);
        assert_eq!(look(&mut open, 60_000, 60_200, &["[5->-b]"], 3), [(5, 3, true)]);
        // Another one is opened: somebody is at it again.
        assert_eq!(
            look(&mut open, 60_400, 61_000, &["[5->-b]", "[6->-b]"], 3),
            [(5, 3, false), (6, 3, false)]
        );
        // Its own closing says nothing about the others.
        look(&mut open, 61_200, 122_000, &["[5->-b]", "[6->-b]"], 3);
        open.closed(&[5]);
        assert_eq!(look(&mut open, 122_200, 122_400, &["[6->-b]"], 3), [(6, 3, true)]);
        // Nor does a look after a silence prove anything of what was between.
        assert_eq!(look(&mut open, 200_000, 200_000, &["[6->-b]"], 3), [(6, 3, false)]);
    }

    #[test]
    fn keys_are_counted_each_second_and_of_so_many_slots_only() {
        let mut open = OpenSlots::default();
        let view = view(&["[5->-b]"]);
        assert_eq!(open.to_count(0, &view), [5]);
        open.look(0, &view, &[(5, 1)]);
        assert!(open.to_count(900, &view).is_empty());
        assert_eq!(open.to_count(1_000, &view), [5]);
        let many: Vec<String> = (0..100).map(|slot| format!("[{slot}->-b]")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(open.to_count(1_000, &super::tests::view(&many)).len(), OPEN_SLOTS_COUNTED);
    }

    #[test]
    fn what_it_holds_of_anothers_slot_is_told_for_as_long_as_it_does() {
        let mut open = OpenSlots::default();
        open.holds([500]);
        assert_eq!(look(&mut open, 0, 2_000, &[], 4), [(500, 4, true)]);
        assert!(look(&mut open, 2_200, 3_400, &[], 0).is_empty());
        // A replica is no source of marks.
        let replica = EngineView { role: Some(Role::Replica), ..view(&["[5->-b]"]) };
        assert!(open.to_count(4_000, &replica).is_empty());
        assert!(open.look(4_000, &replica, &[]).is_empty());
    }
}
