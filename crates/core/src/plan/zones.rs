//! Which zone each cache node stands in: a pure function of what is fixed already (P8).

/// Fills the zones that are not fixed. `shards` has the nodes of each shard in order; the first one is where its primary
/// begins. A fixed zone (asked for, or where a node stands already) is never changed.
///
/// First the copies of a shard are spread, then the primaries of the group over the shards, so that no zone takes them all
/// with it, then the load; then the order of the zones decides: the same question has the same answer.
pub(super) fn spread(zones: &[String], shards: &[Vec<Option<String>>]) -> Vec<Vec<Option<String>>> {
    let mut filled = shards.to_vec();
    let firsts =
        filled.iter().enumerate().filter(|(_, nodes)| !nodes.is_empty()).map(|(shard, _)| (shard, 0));
    let others =
        filled.iter().enumerate().flat_map(|(shard, nodes)| (1..nodes.len()).map(move |node| (shard, node)));
    let order: Vec<(usize, usize)> = firsts.chain(others).collect();
    for (shard, node) in order {
        let fixed = |at: &Vec<Option<String>>, index: usize| at.get(index).cloned().flatten();
        if filled.get(shard).and_then(|nodes| fixed(nodes, node)).is_some() {
            continue;
        }
        // Copies go round from their primary, so that the second of them do not all meet in one zone.
        let primary = filled.get(shard).and_then(|nodes| fixed(nodes, 0));
        let from = zones.iter().position(|zone| Some(zone) == primary.as_ref()).unwrap_or(0);
        let best = zones.iter().enumerate().min_by_key(|(index, zone)| {
            let stands = |at: &&Option<String>| at.as_ref() == Some(*zone);
            let in_shard = filled.get(shard).map_or(0, |nodes| nodes.iter().filter(stands).count());
            let primaries = filled.iter().filter(|nodes| nodes.first().is_some_and(|at| stands(&at))).count();
            let in_group = filled.iter().flatten().filter(stands).count();
            let round = (index + zones.len() - from) % zones.len();
            (in_shard, if node == 0 { primaries } else { 0 }, in_group, round)
        });
        if let Some(slot) = filled.get_mut(shard).and_then(|nodes| nodes.get_mut(node)) {
            *slot = best.map(|(_, zone)| zone.clone());
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn names(count: usize) -> Vec<String> {
        ["a", "b", "c", "d"].iter().take(count).map(|name| (*name).to_owned()).collect()
    }

    /// The most and the fewest that stand in one zone.
    fn uneven<'a>(zones: &[String], at: impl Iterator<Item = &'a Option<String>>) -> usize {
        let mut counts: BTreeMap<&str, usize> = zones.iter().map(|zone| (zone.as_str(), 0)).collect();
        for zone in at.flatten() {
            *counts.entry(zone).or_default() += 1;
        }
        counts.values().max().unwrap_or(&0) - counts.values().min().unwrap_or(&0)
    }

    #[test]
    fn no_zone_holds_all_primaries_of_a_common_shape() {
        let shape = vec![vec![None, None]; 3];
        let filled = spread(&names(3), &shape);
        let of = |shard: usize| -> Vec<&str> { filled[shard].iter().flatten().map(String::as_str).collect() };
        assert_eq!([of(0), of(1), of(2)], [["a", "b"], ["b", "c"], ["c", "a"]]);
    }

    proptest! {
        #[test]
        fn copies_and_primaries_are_spread_and_what_is_fixed_stays(
            count in 1..=4usize,
            shape in prop::collection::vec(1..=4usize, 1..=6),
            fixed in prop::collection::vec(prop::option::weighted(0.3, 0..4usize), 24),
        ) {
            let zones = names(count);
            let free: Vec<Vec<Option<String>>> = shape.iter().map(|nodes| vec![None; *nodes]).collect();
            let filled = spread(&zones, &free);
            for nodes in &filled {
                prop_assert!(nodes.iter().all(Option::is_some));
                prop_assert!(uneven(&zones, nodes.iter()) <= 1, "{:?}", filled);
            }
            prop_assert!(uneven(&zones, filled.iter().filter_map(|nodes| nodes.first())) <= 1, "{:?}", filled);

            // What stands stays, and is the beginning of what comes.
            let mut zone = fixed.iter();
            let some: Vec<Vec<Option<String>>> = shape
                .iter()
                .map(|nodes| {
                    (0..*nodes)
                        .map(|_| zone.next().copied().flatten().and_then(|index| zones.get(index).cloned()))
                        .collect()
                })
                .collect();
            let filled = spread(&zones, &some);
            for (before, after) in some.iter().flatten().zip(filled.iter().flatten()) {
                prop_assert!(before.is_none() || before == after);
                prop_assert!(after.is_some());
            }
            prop_assert_eq!(&spread(&zones, &filled), &filled);
            // As far as fixed zones allow: a copy was never put beside another while a zone of its shard stood empty.
            for (nodes, fixed) in filled.iter().zip(&some) {
                let free_zone = zones.iter().any(|zone| !nodes.iter().flatten().any(|at| at == zone));
                let doubled = nodes.iter().zip(fixed).any(|(at, fixed)| {
                    fixed.is_none() && nodes.iter().filter(|other| *other == at).count() > 1
                });
                prop_assert!(!(free_zone && doubled), "{:?} from {:?}", filled, some);
            }
        }
    }
}
