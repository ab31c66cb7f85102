//! Words that several rules share. They are put in as text, because CEL in a definition has no functions of one's own.

/// A word and its meaning; `@` stands for the spec that it is asked of. Later words are used by earlier ones.
const TERMS: &[(&str, &str)] = &[
    // Whether cluster mode is certainly enabled, or certainly disabled: a parameter group of one's own may say either.
    (
        "CLUSTERED",
        "(has(@.clusterMode) ? @.clusterMode == 'enabled' : (has(@.cacheParameterGroupName) ? GROUP_ON : SHARDS > 1))",
    ),
    (
        "UNCLUSTERED",
        "(has(@.clusterMode) ? @.clusterMode == 'disabled' : (has(@.cacheParameterGroupName) ? GROUP_OFF : SHARDS <= 1))",
    ),
    ("GROUP_ON", "(GROUP.startsWith('default.') && GROUP.endsWith('.cluster.on'))"),
    ("GROUP_OFF", "(GROUP.startsWith('default.') && !GROUP.endsWith('.cluster.on'))"),
    ("GROUP", "@.cacheParameterGroupName.lowerAscii()"),
    // The nodes of a group of one shard, and of all shards.
    ("NODES", "(has(@.numCacheClusters) ? @.numCacheClusters : 1 + FIRST_REPLICAS)"),
    (
        "ALL_NODES",
        "(CONFIGURED ? @.nodeGroupConfiguration.map(g, 1 + REPLICAS_OF_G).sum() : SHARDS * (1 + REPLICAS))",
    ),
    (
        "FIRST_REPLICAS",
        "(CONFIGURED && has(@.nodeGroupConfiguration[0].replicaCount) ? @.nodeGroupConfiguration[0].replicaCount : REPLICAS)",
    ),
    ("REPLICAS_OF_G", "(has(g.replicaCount) ? g.replicaCount : REPLICAS)"),
    (
        "SHARDS",
        "(has(@.numNodeGroups) ? @.numNodeGroups : (CONFIGURED ? size(@.nodeGroupConfiguration) : 1))",
    ),
    (
        "REPLICAS",
        "(has(@.replicasPerNodeGroup) ? @.replicasPerNodeGroup : (has(@.numCacheClusters) ? @.numCacheClusters - 1 : 0))",
    ),
    ("PREFERRED", "(has(@.preferredCacheClusterAZs) && size(@.preferredCacheClusterAZs) > 0)"),
    ("CONFIGURED", "(has(@.nodeGroupConfiguration) && size(@.nodeGroupConfiguration) > 0)"),
    ("ENGINE", "(has(@.engine) ? @.engine : 'redis')"),
    (
        "ONLINE",
        "(!has(@.updatePolicy) || !has(@.updatePolicy.useOnlineResharding) || @.updatePolicy.useOnlineResharding)",
    ),
    ("MULTI_AZ", "(has(@.multiAZEnabled) && @.multiAZEnabled)"),
    ("FAILOVER", "(has(@.automaticFailoverEnabled) ? @.automaticFailoverEnabled : ENGINE == 'valkey')"),
];

/// Puts the meanings in. A word speaks of the spec below `now`, or below `before` where `OLD_` stands in front of it; `@` itself
/// is the spec below `now`.
pub(super) fn expand(expression: &str, now: &str, before: &str) -> String {
    let mut text = expression.to_owned();
    // A meaning may use words of any place in the list, so it is gone through until nothing changes.
    loop {
        let mut next = text.clone();
        for (word, meaning) in TERMS {
            next = replace_word(&next, &format!("OLD_{word}"), &of_old(meaning));
            next = replace_word(&next, word, meaning);
        }
        if next == text {
            return text.replace("@OLD", before).replace('@', now);
        }
        text = next;
    }
}

/// The meaning, asked of the spec as it was: so is every word in it.
fn of_old(meaning: &str) -> String {
    let mut text = meaning.replace('@', "@OLD");
    for (word, _) in TERMS {
        text = replace_word(&text, word, &format!("OLD_{word}"));
    }
    text
}

/// Replaces a whole word: `CLUSTERED` is a part of `UNCLUSTERED`, which means something else.
fn replace_word(text: &str, word: &str, meaning: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, found) = rest.split_at(at);
        let after = &found[word.len()..];
        result.push_str(before);
        let whole = !result.ends_with(is_part) && !after.starts_with(is_part);
        result.push_str(if whole { meaning } else { word });
        rest = after;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_speaks_of_the_spec_that_it_is_asked_of() {
        assert_eq!(
            expand("ENGINE == 'x'", "self", "oldSelf"),
            "(has(self.engine) ? self.engine : 'redis') == 'x'"
        );
        assert_eq!(
            expand("OLD_ENGINE", "self.spec", "oldSelf.spec"),
            "(has(oldSelf.spec.engine) ? oldSelf.spec.engine : 'redis')"
        );
        assert_eq!(expand("@.port == @OLD.port", "self", "oldSelf"), "self.port == oldSelf.port");
    }

    #[test]
    fn no_word_is_left_and_old_and_new_are_not_mixed() {
        for (word, _) in TERMS {
            let now = expand(word, "self", "oldSelf");
            let old = expand(&format!("OLD_{word}"), "self", "oldSelf");
            assert!(
                !now.contains("oldSelf") && now.replace("self", "oldSelf") == old,
                "{word}: {now}\n{old}"
            );
            for (other, _) in TERMS {
                assert_eq!(replace_word(&now, other, ""), now, "{word} has {other} left");
            }
        }
    }
}
