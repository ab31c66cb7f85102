//! Sets of hash slots.
//!
//! A cluster has 16384 slots. A set is kept as a bitmap, because the questions that are asked of it (whose slot is this, what
//! is not covered, what is covered twice) are set questions, and written as ranges, because people and engines say `0-5460`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many hash slots a cluster has.
pub const SLOT_COUNT: u16 = 16_384;

const WORD_BITS: usize = 64;
const WORDS: usize = SLOT_COUNT as usize / WORD_BITS;

/// A set of hash slots out of `0..=16383`.
///
/// It prints and parses as inclusive ranges, `0-5460,6000`, which is also how it is serialized; the empty set is the empty text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

/// Why a text is no set of slots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// A part is neither a slot nor `start-end`.
    #[error("{0:?} is not a slot or a range of slots such as 0-5460")]
    NotARange(String),
    /// A slot beyond 16383.
    #[error("{0} is not a slot: slots go from 0 to 16383")]
    OutOfRange(u32),
    /// A range whose end lies before its start.
    #[error("the range {0}-{1} ends before it starts")]
    Backwards(u16, u16),
    /// A slot that is named twice.
    #[error("slot {0} is named twice")]
    Twice(u16),
}

impl SlotSet {
    /// No slot at all.
    pub fn empty() -> Self {
        Self { words: Box::new([0; WORDS]) }
    }

    /// All 16384 slots.
    pub fn full() -> Self {
        Self { words: Box::new([u64::MAX; WORDS]) }
    }

    /// The union of inclusive ranges. What lies beyond slot 16383 is left out, and a range that ends before it starts is empty.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut set = Self::empty();
        for (index, mask) in ranges.into_iter().flat_map(words_of) {
            set.words[index] |= mask;
        }
        set
    }

    /// Whether any slot of these inclusive ranges is in the set.
    pub fn meets(&self, ranges: &[(u16, u16)]) -> bool {
        ranges.iter().copied().flat_map(words_of).any(|(index, mask)| self.words[index] & mask != 0)
    }

    /// Adds a slot; tells whether it was new. A number beyond 16383 is no slot and is not added.
    pub fn insert(&mut self, slot: u16) -> bool {
        let Some(word) = self.words.get_mut(usize::from(slot) / WORD_BITS) else { return false };
        let bit = 1u64 << (usize::from(slot) % WORD_BITS);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes a slot out; tells whether it was there.
    pub fn remove(&mut self, slot: u16) -> bool {
        let Some(word) = self.words.get_mut(usize::from(slot) / WORD_BITS) else { return false };
        let bit = 1u64 << (usize::from(slot) % WORD_BITS);
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: u16) -> bool {
        let bit = 1u64 << (usize::from(slot) % WORD_BITS);
        self.words.get(usize::from(slot) / WORD_BITS).is_some_and(|word| word & bit != 0)
    }

    /// How many slots are in the set, 0 to 16384.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether all 16384 slots are in the set.
    pub fn is_full(&self) -> bool {
        self.words.iter().all(|word| *word == u64::MAX)
    }

    /// The slots that are in this set or in the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// The slots that are in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// The slots that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    fn zip(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.words.clone();
        for (word, theirs) in words.iter_mut().zip(other.words.iter()) {
            *word = op(*word, *theirs);
        }
        Self { words }
    }

    /// The slots in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..SLOT_COUNT).filter(|slot| self.contains(*slot))
    }

    /// The set as inclusive ranges in rising order, each as long as it can be.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        let mut slot = 0;
        while let Some(start) = self.next(slot, true) {
            // The first that is missing ends the range, or the end of all slots does.
            let after = self.next(start, false).unwrap_or(SLOT_COUNT);
            ranges.push((start, after - 1));
            slot = after;
        }
        ranges
    }

    /// The first slot from there on that is in the set, or that is not.
    fn next(&self, from: u16, present: bool) -> Option<u16> {
        let mut index = usize::from(from) / WORD_BITS;
        let mut mask = u64::MAX << (usize::from(from) % WORD_BITS);
        while let Some(word) = self.words.get(index) {
            let found = if present { *word } else { !*word } & mask;
            if found != 0 {
                return u16::try_from(index * WORD_BITS + found.trailing_zeros() as usize).ok();
            }
            (index, mask) = (index + 1, u64::MAX);
        }
        None
    }

    /// All slots, split as ElastiCache splits them over `n` node groups: the i-th of n gets
    /// ⌊16384·i/n⌋ to ⌊16384·(i+1)/n⌋−1. With more node groups than slots some get none; with none there is nothing.
    pub fn split_evenly(n: usize) -> Vec<SlotSet> {
        let bound = |i: usize| (usize::from(SLOT_COUNT) * i / n) as u16;
        (0..n).map(|i| Self::from_slots(bound(i)..bound(i + 1))).collect()
    }

    fn from_slots(slots: impl IntoIterator<Item = u16>) -> Self {
        let mut set = Self::empty();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::empty()
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        Self::from_slots(slots)
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (start, end)) in self.ranges().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if start == end {
                write!(f, "{comma}{start}")?;
            } else {
                write!(f, "{comma}{start}-{end}")?;
            }
        }
        Ok(())
    }
}

/// The same as `Display`: 256 words of bits in a failed assertion help nobody.
impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl FromStr for SlotSet {
    type Err = SlotError;

    /// Reads `0-5460,6000`, with or without spaces. Naming a slot twice is an error, since whoever writes it means something else.
    fn from_str(text: &str) -> Result<Self, SlotError> {
        let mut set = Self::empty();
        if text.trim().is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let (start, end) = match part.split_once('-') {
                Some((start, end)) => (parse_slot(start, part)?, parse_slot(end, part)?),
                None => {
                    let slot = parse_slot(part, part)?;
                    (slot, slot)
                }
            };
            if end < start {
                return Err(SlotError::Backwards(start, end));
            }
            let range = Self::from_ranges([(start, end)]);
            if let Some(twice) = set.intersection(&range).next(0, true) {
                return Err(SlotError::Twice(twice));
            }
            set = set.union(&range);
        }
        Ok(set)
    }
}

/// The words that an inclusive range has slots in, and which of their bits.
fn words_of((start, end): (u16, u16)) -> impl Iterator<Item = (usize, u64)> {
    let (start, end) = (usize::from(start), usize::from(end.min(SLOT_COUNT - 1)));
    let words = if start > end { 0..0 } else { start / WORD_BITS..end / WORD_BITS + 1 };
    words.map(move |index| {
        let base = index * WORD_BITS;
        let low = u64::MAX << (start.max(base) - base);
        let high = u64::MAX >> (WORD_BITS - 1 - (end.min(base + WORD_BITS - 1) - base));
        (index, low & high)
    })
}

fn parse_slot(text: &str, part: &str) -> Result<u16, SlotError> {
    let text = text.trim();
    // `u32::from_str` takes "+5", which no engine does.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SlotError::NotARange(part.trim().to_owned()));
    }
    let number: u32 = text.parse().map_err(|_| SlotError::NotARange(part.trim().to_owned()))?;
    match u16::try_from(number) {
        Ok(slot) if slot < SLOT_COUNT => Ok(slot),
        _ => Err(SlotError::OutOfRange(number)),
    }
}

impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> SlotSet {
        text.parse().unwrap()
    }

    #[test]
    fn three_node_groups_get_what_elasticache_gives_them() {
        let split: Vec<String> = SlotSet::split_evenly(3).iter().map(ToString::to_string).collect();
        assert_eq!(split, ["0-5460", "5461-10921", "10922-16383"]);
    }

    #[test]
    fn one_node_group_gets_everything_and_none_gets_nothing() {
        assert_eq!(SlotSet::split_evenly(1), [SlotSet::full()]);
        assert!(SlotSet::split_evenly(0).is_empty());
    }

    #[test]
    fn every_split_covers_everything_once_and_differs_by_one_slot_at_most() {
        for n in [1, 2, 3, 5, 6, 7, 90, 500, 16_384, 20_000] {
            let split = SlotSet::split_evenly(n);
            let union = split.iter().fold(SlotSet::empty(), |all, part| all.union(part));
            assert!(union.is_full(), "{n}");
            assert_eq!(split.iter().map(SlotSet::len).sum::<usize>(), 16_384, "{n}");
            let min = split.iter().map(SlotSet::len).min().unwrap();
            let max = split.iter().map(SlotSet::len).max().unwrap();
            assert!(max - min <= 1, "{n}");
        }
    }

    #[test]
    fn it_reads_what_people_write() {
        assert_eq!(set("0-5460,6000").len(), 5462);
        assert_eq!(set(" 1 , 3-4 ").to_string(), "1,3-4");
        assert_eq!(set("5,4,3").to_string(), "3-5");
        assert!(set("").is_empty());
        assert!(set("0-16383").is_full());
    }

    #[test]
    fn it_refuses_what_is_no_range_and_says_why() {
        let refused = |text: &str| text.parse::<SlotSet>().unwrap_err();
        assert_eq!(refused("0-16384"), SlotError::OutOfRange(16_384));
        assert_eq!(refused("70000"), SlotError::OutOfRange(70_000));
        assert_eq!(refused("9-3"), SlotError::Backwards(9, 3));
        assert_eq!(refused("0-9,9"), SlotError::Twice(9));
        for text in ["a", "1-", "-1", "1-2-3", ",", "1,,2", "+1", "99999999999"] {
            assert!(matches!(refused(text), SlotError::NotARange(_)), "{text}");
        }
    }

    #[test]
    fn what_lies_beyond_the_last_slot_is_no_slot() {
        let mut slots = SlotSet::empty();
        assert!(!slots.insert(16_384));
        assert!(!slots.contains(u16::MAX));
        assert!(slots.is_empty());
        assert!(SlotSet::from_ranges([(0, u16::MAX)]).is_full());
    }

    #[test]
    fn it_serializes_as_its_text() {
        let slots = set("0-5460,6000");
        assert_eq!(serde_json::to_string(&slots).unwrap(), "\"0-5460,6000\"");
        assert_eq!(serde_json::from_str::<SlotSet>("\"0-5460,6000\"").unwrap(), slots);
        assert!(serde_json::from_str::<SlotSet>("\"x\"").is_err());
    }

    fn any_set() -> impl Strategy<Value = SlotSet> {
        proptest::collection::vec((0..SLOT_COUNT, 0..SLOT_COUNT), 0..12)
            .prop_map(|pairs| SlotSet::from_ranges(pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b)))))
    }

    proptest! {
        #[test]
        fn what_it_prints_it_reads(slots in any_set()) {
            prop_assert_eq!(slots.to_string().parse::<SlotSet>().unwrap(), slots);
        }

        #[test]
        fn its_ranges_make_it_again(slots in any_set()) {
            prop_assert_eq!(SlotSet::from_ranges(slots.ranges()), slots);
        }

        #[test]
        fn the_set_operations_agree_with_membership(a in any_set(), b in any_set(), slot in 0..SLOT_COUNT) {
            prop_assert_eq!(a.union(&b).contains(slot), a.contains(slot) || b.contains(slot));
            prop_assert_eq!(a.intersection(&b).contains(slot), a.contains(slot) && b.contains(slot));
            prop_assert_eq!(a.difference(&b).contains(slot), a.contains(slot) && !b.contains(slot));
            prop_assert_eq!(a.difference(&b).len() + a.intersection(&b).len(), a.len());
        }

        #[test]
        fn it_meets_ranges_that_share_a_slot_with_it(a in any_set(), ranges in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..4)) {
            let shared = !a.intersection(&SlotSet::from_ranges(ranges.iter().copied())).is_empty();
            prop_assert_eq!(a.meets(&ranges), shared);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9,\\- ]{0,40}|.{0,20}") {
            let _ = text.parse::<SlotSet>();
        }
    }
}
