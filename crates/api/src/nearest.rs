//! The name that somebody may have meant.

/// `; did you mean X?` with the candidate that is near enough to `word` to be meant, or nothing.
pub fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

/// The candidate nearest to `word`, if it is near enough to be meant: letters left out, added, changed or swapped with their
/// neighbour, one for every three and three at most. Case does not matter.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    const MOST_CANDIDATES: usize = 2_000;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (lower.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .take(MOST_CANDIDATES)
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let near = strsim::osa_distance(&lower, &other);
            let near = if begins(&lower, &other) { 0 } else { near };
            (near <= allowed || contains(&lower, &other)).then_some((near, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `NodeType` is meant to be `CacheNodeType`, `Description` the `ReplicationGroupDescription`.
fn contains(word: &str, candidate: &str) -> bool {
    word.len() >= 6 && candidate.ends_with(word)
}

/// `MultiAZ` is meant to be `MultiAZEnabled`.
fn begins(word: &str, candidate: &str) -> bool {
    word.len() >= 6 && candidate.strip_prefix(word).is_some_and(|rest| rest == "enabled")
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_finds_its_name_and_another_word_finds_none() {
        let names =
            ["NumNodeGroups", "CacheNodeType", "ReplicationGroupDescription", "Port", "MultiAZEnabled"];
        for (written, meant) in [
            ("NumNodeGroupz", Some("NumNodeGroups")),
            ("numnodegroups", Some("NumNodeGroups")),
            ("NodeType", Some("CacheNodeType")),
            ("Description", Some("ReplicationGroupDescription")),
            ("Prot", Some("Port")),
            ("Ports", Some("Port")),
            ("MultiAZ", Some("MultiAZEnabled")),
            ("Nothing", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
    }
}
