//! Sets of hash slots as ranges, and the slot of a key.

/// How many hash slots a cluster has.
pub const SLOT_COUNT: u16 = 16_384;

/// A set of slots: sorted ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slots {
    ranges: Vec<(u16, u16)>,
    count: u32,
}

impl Slots {
    /// One range, both ends included.
    #[must_use]
    pub fn range(first: u16, last: u16) -> Self {
        if first > last {
            return Self::default();
        }
        Self { ranges: vec![(first, last)], count: u32::from(last - first) + 1 }
    }

    fn from_ranges(ranges: Vec<(u16, u16)>) -> Self {
        let count = ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum();
        Self { ranges, count }
    }

    /// The ranges in order.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// How many slots those are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a slot is in it.
    #[must_use]
    pub fn contains(&self, slot: u16) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= slot);
        after > 0 && self.ranges[after - 1].1 >= slot
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        let mut all: Vec<(u16, u16)> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        let mut ranges: Vec<(u16, u16)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        Self::from_ranges(ranges)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (0, 0);
        let mut ranges = Vec::new();
        while let (Some(x), Some(y)) = (self.ranges.get(a), other.ranges.get(b)) {
            let (first, last) = (x.0.max(y.0), x.1.min(y.1));
            if first <= last {
                ranges.push((first, last));
            }
            if x.1 < y.1 { a += 1 } else { b += 1 }
        }
        Self::from_ranges(ranges)
    }

    /// What is in this one alone.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        if other.is_empty() || self.is_empty() {
            return self.clone();
        }
        let mut ranges = Vec::new();
        for &(first, last) in &self.ranges {
            let mut from = u32::from(first);
            for &(cut_first, cut_last) in &other.ranges {
                if cut_last < first || cut_first > last {
                    continue;
                }
                if u32::from(cut_first) > from {
                    // Slots are below 16384: what was widened fits again.
                    ranges.push((u16::try_from(from).unwrap_or(u16::MAX), cut_first - 1));
                }
                from = u32::from(cut_last) + 1;
            }
            if from <= u32::from(last) {
                ranges.push((u16::try_from(from).unwrap_or(u16::MAX), last));
            }
        }
        Self::from_ranges(ranges)
    }
}

/// The slot of a key: CRC16 (XMODEM) of the key, or of what is between its first `{` and the next `}`.
#[must_use]
pub fn key_slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    let mut crc: u16 = 0;
    for byte in tag.unwrap_or(key).bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_fall_into_the_slots_that_the_engine_says() {
        assert_eq!(key_slot("foo"), 12_182);
        assert_eq!(key_slot("bar"), 5_061);
        assert_eq!(key_slot("{foo}x"), 12_182);
        assert_eq!(key_slot("a{}foo"), key_slot("a{}foo"));
        assert_eq!(key_slot("123456789"), 12_739);
    }

    fn of(ranges: &[(u16, u16)]) -> (Slots, BTreeSet<u16>) {
        let slots = ranges.iter().fold(Slots::default(), |all, (a, b)| all.union(&Slots::range(*a, *b)));
        (slots, ranges.iter().flat_map(|(a, b)| *a..=*b).collect())
    }

    proptest! {
        #[test]
        fn sets_of_ranges_are_sets(
            a in proptest::collection::vec((0u16..60, 0u16..60), 0..6),
            b in proptest::collection::vec((0u16..60, 0u16..60), 0..6),
        ) {
            let ((a, set_a), (b, set_b)) = (of(&a), of(&b));
            for (slots, set) in [
                (a.union(&b), &set_a | &set_b),
                (a.intersection(&b), &set_a & &set_b),
                (a.minus(&b), &set_a - &set_b),
            ] {
                prop_assert_eq!(slots.len() as usize, set.len());
                for slot in 0..60 {
                    prop_assert_eq!(slots.contains(slot), set.contains(&slot));
                }
                for pair in slots.ranges().windows(2) {
                    prop_assert!(pair[0].1 + 1 < pair[1].0);
                }
            }
        }
    }
}
