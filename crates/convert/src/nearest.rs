//! The name that somebody may have meant.

/// The candidate nearest to `word`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    const MOST_CANDIDATES: usize = 2_000;
    if word.len() > LONGEST {
        return None;
    }
    let lower: Vec<char> = word.to_lowercase().chars().collect();
    let allowed = (lower.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .take(MOST_CANDIDATES)
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().collect();
            let near = distance(&lower, &other);
            (near <= allowed || contains(&lower, &other)).then_some((near, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `NodeType` is meant to be `CacheNodeType`, `Description` the `ReplicationGroupDescription`.
fn contains(word: &[char], candidate: &[char]) -> bool {
    word.len() >= 6 && candidate.ends_with(word)
}

/// How many letters were left out, added, changed or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_finds_its_name_and_another_word_finds_none() {
        let names = ["NumNodeGroups", "CacheNodeType", "ReplicationGroupDescription", "Port"];
        for (written, meant) in [
            ("NumNodeGroupz", Some("NumNodeGroups")),
            ("numnodegroups", Some("NumNodeGroups")),
            ("NodeType", Some("CacheNodeType")),
            ("Description", Some("ReplicationGroupDescription")),
            ("Prot", Some("Port")),
            ("Ports", Some("Port")),
            ("Nothing", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
    }
}
