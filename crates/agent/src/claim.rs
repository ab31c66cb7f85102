//! How an engine is brought into a cluster: whom it has to meet, what it has to claim, whom it can follow. Pure; the engine's
//! traps are in `docs/guarantees.md`.

use kagami_protocol::engine_text::ClusterInfo;
use kagami_protocol::{Address, ClusterNode};

/// Before 7.0 slots are named one by one; a command of this many is small.
const SLOTS_AT_ONCE: usize = 2_048;

/// Whether a line of `CLUSTER NODES` is at an address.
pub fn is_at(node: &ClusterNode, address: &Address) -> bool {
    node.host == address.host && node.port == address.port
}

/// The peers that are not known at their address yet.
pub fn strangers<'a>(
    known: &[ClusterNode],
    own: &Address,
    peers: impl Iterator<Item = &'a Address>,
) -> Vec<&'a Address> {
    let mut strangers: Vec<&Address> = peers
        .filter(|peer| (&peer.host, peer.port) != (&own.host, own.port))
        .filter(|peer| !known.iter().any(|node| is_at(node, peer) && !node.handshake && !node.fail))
        .collect();
    strangers.sort();
    strangers.dedup();
    strangers
}

/// `CLUSTER MEET` of one peer.
pub fn meet(peer: &Address) -> Vec<String> {
    let mut words = vec!["CLUSTER".to_owned(), "MEET".into(), peer.host.clone(), peer.port.to_string()];
    if peer.bus_port != 0 {
        words.push(peer.bus_port.to_string());
    }
    words
}

/// The slots of some ranges that are missing in others, as ranges.
pub fn missing(wanted: &[(u16, u16)], owned: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    let mut wanted: Vec<(u16, u16)> = wanted
        .iter()
        .copied()
        .filter(|(first, last)| first <= last)
        .map(|(first, last)| (first, last.min(16_383)))
        .collect();
    wanted.sort_unstable();
    let mut owned: Vec<(u16, u16)> = owned.iter().copied().filter(|(first, last)| first <= last).collect();
    owned.sort_unstable();
    let mut push = |first: u16, last: u16| match ranges.last_mut() {
        Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
        _ => ranges.push((first, last)),
    };
    for (first, last) in wanted {
        let mut from = u32::from(first);
        for (low, high) in &owned {
            if u32::from(*high) < from || *low > last {
                continue;
            }
            if u32::from(*low) > from {
                push(from as u16, low - 1);
            }
            from = u32::from(*high) + 1;
        }
        if from <= u32::from(last) {
            push(from as u16, last);
        }
    }
    ranges
}

/// The slots that are in both, as ranges.
fn common(some: &[(u16, u16)], others: &[(u16, u16)]) -> Vec<(u16, u16)> {
    missing(some, &missing(some, others))
}

/// The commands that add or delete slots.
fn change(what: &str, slots: &[(u16, u16)], ranges: bool) -> Vec<Vec<String>> {
    if slots.is_empty() {
        return Vec::new();
    }
    if ranges {
        let mut words = vec!["CLUSTER".to_owned(), format!("{what}SLOTSRANGE")];
        words.extend(slots.iter().flat_map(|(first, last)| [first.to_string(), last.to_string()]));
        return vec![words];
    }
    let slots: Vec<u16> = slots.iter().flat_map(|(first, last)| *first..=*last).collect();
    slots
        .chunks(SLOTS_AT_ONCE)
        .map(|chunk| {
            ["CLUSTER".to_owned(), format!("{what}SLOTS")]
                .into_iter()
                .chain(chunk.iter().map(u16::to_string))
                .collect()
        })
        .collect()
}

/// What has to be said to claim slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The epoch to begin with, where nobody else is known yet.
    pub set_epoch: Option<u64>,
    /// The commands that take what belongs to somebody who is gone.
    take: Vec<Vec<String>>,
    /// The commands that add what is not owned.
    add: Vec<Vec<String>>,
    /// How many slots those are.
    pub count: usize,
    alone: bool,
    old: bool,
    asked: bool,
}

impl Claim {
    /// What follows from what the engine says: `from` are identities that are gone, `ranges` is whether it has `ADDSLOTSRANGE`.
    pub fn new(
        info: &ClusterInfo,
        nodes: &[ClusterNode],
        wanted: &[(u16, u16)],
        epoch: Option<u64>,
        from: &[String],
        ranges: bool,
    ) -> Self {
        let alone = nodes.len() <= 1;
        let owned = nodes.iter().find(|node| node.myself).map(|node| node.slots.clone()).unwrap_or_default();
        let missing = missing(wanted, &owned);
        let count = missing.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
        let of_the_gone: Vec<(u16, u16)> = nodes
            .iter()
            .filter(|node| !node.myself && from.contains(&node.id))
            .flat_map(|node| node.slots.iter().copied())
            .collect();
        let take = change("DEL", &common(&missing, &of_the_gone), ranges);
        // Claimed by itself, since keys were loaded: nothing to add, but its claim may be the oldest there is.
        let add = change("ADD", &missing, ranges);
        Self {
            set_epoch: epoch.filter(|epoch| alone && *epoch > 0 && info.my_epoch == 0),
            take,
            add,
            count,
            alone,
            old: epoch.is_some_and(|epoch| info.my_epoch < epoch),
            asked: epoch.is_some(),
        }
    }

    /// `SET-CONFIG-EPOCH` was refused because somebody has met it since it was asked: then an epoch is bumped after the claim, as
    /// for any late one.
    pub fn was_met(&mut self) {
        self.alone = false;
    }

    /// What to say, in this order, once the epoch to begin with is set or was refused.
    pub fn commands(&self) -> Vec<Vec<String>> {
        let mut commands = self.take.clone();
        commands.extend(self.add.iter().cloned());
        if self.bumps() {
            let at = if self.bumps_first() { 0 } else { commands.len() };
            commands.insert(at, vec!["CLUSTER".to_owned(), "BUMPEPOCH".to_owned()]);
        }
        commands
    }

    /// Whether an epoch is to be bumped before the claim: it is to be newer than that of those who are gone from the first
    /// moment on, or whoever believes in them says so, and the engine believes it too.
    fn bumps_first(&self) -> bool {
        !self.take.is_empty() && self.bumps()
    }

    /// Whether an epoch is to be bumped at all.
    fn bumps(&self) -> bool {
        !self.alone && (self.old || (self.asked && self.count > 0))
    }
}

/// Whether an engine's answer to `CLUSTER BUMPEPOCH` says that its own epoch is newer than another.
///
/// A replica has an epoch of its own that nobody is shown. Where that is the newest of all, and its primary's as well, `TAKEOVER`
/// bumps nothing: a primary that only stood still would claim as well as its successor when it goes on, and win by chance.
pub fn outbids(answer: &str, epoch: u64) -> bool {
    let own = answer.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    own.is_some_and(|own| own > epoch)
}

/// How a primary is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is followed already.
    Already,
    /// `CLUSTER REPLICATE` this id.
    Replicate(String),
    /// It is not known yet.
    Unknown,
}

/// Whom to follow: a primary by its id, or else by its address.
pub fn follow(nodes: &[ClusterNode], primary: &Address, primary_id: Option<&str>) -> Follow {
    let known = nodes.iter().filter(|node| !node.handshake && !node.myself).find(|node| match primary_id {
        Some(id) => node.id == id,
        // One that failed may be an earlier identity at the same address.
        None => is_at(node, primary) && node.primary && node.connected && !node.fail,
    });
    let Some(known) = known else { return Follow::Unknown };
    let follows = nodes
        .iter()
        .any(|node| node.myself && !node.primary && node.primary_id.as_deref() == Some(known.id.as_str()));
    if follows { Follow::Already } else { Follow::Replicate(known.id.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_slots_that_are_missing_are_claimed() {
        assert_eq!(missing(&[(0, 16383)], &[]), [(0, 16383)]);
        assert_eq!(missing(&[(0, 10), (20, 20)], &[(3, 3), (20, 30)]), [(0, 2), (4, 10)]);
        assert_eq!(missing(&[(5, 6)], &[(0, 16383)]), []);
    }

    #[test]
    fn slots_are_taken_from_those_who_are_gone_and_from_nobody_else() {
        let node =
            |id: &str, slots: Vec<(u16, u16)>| ClusterNode { id: id.into(), slots, ..ClusterNode::default() };
        let mut me = node("me", vec![]);
        me.myself = true;
        let nodes = [me, node("gone", vec![(0, 99)]), node("lives", vec![(100, 199)])];
        let info = ClusterInfo { my_epoch: 3, current_epoch: 7, ..ClusterInfo::default() };
        let claim = |wanted: &[(u16, u16)], from: &[&str], ranges: bool| {
            let from: Vec<String> = from.iter().map(|id| (*id).to_owned()).collect();
            let claim = Claim::new(&info, &nodes, wanted, Some(8), &from, ranges);
            (claim.take.clone(), claim.add.clone(), claim.bumps_first(), claim.bumps())
        };
        let words = |text: &str| vec![text.split(' ').map(str::to_owned).collect::<Vec<_>>()];
        let (take, add, first, bumps) = claim(&[(0, 99)], &["gone"], true);
        assert_eq!((take, add), (words("CLUSTER DELSLOTSRANGE 0 99"), words("CLUSTER ADDSLOTSRANGE 0 99")));
        assert!(first && bumps);
        let (take, add, ..) = claim(&[(98, 100)], &["gone"], false);
        assert_eq!((take, add), (words("CLUSTER DELSLOTS 98 99"), words("CLUSTER ADDSLOTS 98 99 100")));
        // The engine refuses what belongs to anybody else.
        let (take, _, first, _) = claim(&[(0, 199)], &[], true);
        assert!(take.is_empty() && !first);
        // A newer claim for what it has.
        let (take, add, first, bumps) = claim(&[], &[], true);
        assert!(take.is_empty() && add.is_empty() && !first && bumps);
        let all = |wanted: &[(u16, u16)], from: &[String]| {
            let commands = Claim::new(&info, &nodes, wanted, Some(8), from, true).commands();
            commands.into_iter().map(|words| words[1..].join(" ")).collect::<Vec<_>>()
        };
        let gone = ["gone".to_owned()];
        assert_eq!(all(&[(0, 9)], &gone), ["BUMPEPOCH", "DELSLOTSRANGE 0 9", "ADDSLOTSRANGE 0 9"]);
        assert_eq!(all(&[(200, 209)], &gone), ["ADDSLOTSRANGE 200 209", "BUMPEPOCH"]);
        assert_eq!(all(&[], &[]), ["BUMPEPOCH"]);
    }

    #[test]
    fn p1_a_takeover_outbids_its_primary_only_by_a_newer_epoch() {
        assert!(outbids("BUMPED 4", 3) && outbids("STILL 4", 3));
        assert!(!outbids("STILL 3", 3) && !outbids("STILL 2", 3) && !outbids("OK", 0));
    }

    proptest! {
        #[test]
        fn missing_and_owned_make_up_what_is_wanted(
            wanted in proptest::collection::vec((0u16..16384, 0u16..16384), 0..5),
            owned in proptest::collection::vec((0u16..16384, 0u16..16384), 0..5),
        ) {
            let result = missing(&wanted, &owned);
            let within = |ranges: &[(u16, u16)], slot: u16| ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot));
            for slot in 0..16384 {
                prop_assert_eq!(within(&result, slot), within(&wanted, slot) && !within(&owned, slot));
            }
        }
    }
}
