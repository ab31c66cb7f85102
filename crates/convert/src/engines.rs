//! Which versions and families are offered, and what stands in for those that are offered no more.

/// What becomes of a version or family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lift {
    /// It is offered.
    Offered,
    /// It was offered; this is the nearest.
    Nearest(&'static str),
    /// It never was; these are.
    Unknown(&'static str),
}

const REDIS: &str = "6.2, 6.x, 7.0 and 7.1";
const VALKEY: &str = "7.2, 8.0, 8.1, 8.2, 9.0 and 9.1";

/// What becomes of the version of an engine. A patch level is let go of: from version 6 on ElastiCache takes none.
pub(crate) fn version(engine: &str, text: &str) -> Lift {
    let offered: &[&'static str] = match engine {
        "valkey" => &["7.2", "8.0", "8.1", "8.2", "9.0", "9.1"],
        _ => &["6.2", "6.x", "7.0", "7.1"],
    };
    if offered.contains(&text) {
        return Lift::Offered;
    }
    let unknown = Lift::Unknown(if engine == "valkey" { VALKEY } else { REDIS });
    let mut parts = text.split('.');
    let mut number = || parts.next().map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (number(), number()) else { return unknown };
    let patch = number();
    if matches!(patch, Some(None)) || parts.next().is_some() {
        return unknown;
    }
    if patch.is_some()
        && let Some(same) = offered.iter().find(|offered| **offered == format!("{major}.{minor}"))
    {
        return Lift::Nearest(same);
    }
    match (engine, major, minor) {
        ("redis", 2..=5, _) | ("redis", 6, 0) => Lift::Nearest("6.2"),
        _ => unknown,
    }
}

/// What becomes of a parameter group family.
pub(crate) fn family(text: &str) -> Lift {
    match text {
        offered if FAMILIES.contains(&offered) => Lift::Offered,
        "redis2.6" | "redis2.8" | "redis3.2" | "redis4.0" | "redis5.0" => Lift::Nearest("redis6.x"),
        _ => Lift::Unknown("redis6.x, redis7, valkey7, valkey8 and valkey9"),
    }
}

/// The family itself, or the one that stands in for it.
pub(crate) fn nearest_family(text: &str) -> Option<&'static str> {
    match family(text) {
        Lift::Offered => FAMILIES.iter().find(|family| **family == text).copied(),
        Lift::Nearest(nearest) => Some(nearest),
        Lift::Unknown(_) => None,
    }
}

const FAMILIES: [&str; 5] = ["redis6.x", "redis7", "valkey7", "valkey8", "valkey9"];

/// Whether a family is that of the newest version of its engine, which a group has that names none.
pub(crate) fn is_newest(family: &str) -> bool {
    matches!(family, "redis7" | "valkey9")
}

/// The newest version of a family.
pub(crate) fn newest(family: &str) -> Option<&'static str> {
    Some(match family {
        "redis6.x" => "6.2",
        "redis7" => "7.1",
        "valkey7" => "7.2",
        "valkey8" => "8.2",
        "valkey9" => "9.1",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Lift, version};

    #[test]
    fn an_old_version_gives_the_nearest_and_one_that_never_was_gives_none() {
        for (engine, text, nearest) in [
            ("redis", "6.2", Some("")),
            ("redis", "6.x", Some("")),
            ("valkey", "8.0", Some("")),
            ("redis", "2.8.24", Some("6.2")),
            ("redis", "3.2", Some("6.2")),
            ("redis", "5.0.6", Some("6.2")),
            ("redis", "6.0", Some("6.2")),
            ("redis", "6.0.5", Some("6.2")),
            ("redis", "7.0.7", Some("7.0")),
            ("valkey", "8.1.3", Some("8.1")),
            ("redis", "7.2", None),
            ("redis", "8.0", None),
            ("redis", "7", None),
            ("valkey", "6.2", None),
            ("valkey", "8", None),
            ("redis", "latest", None),
            ("redis", "7.0.x", None),
            ("redis", "7.0.1.2", None),
        ] {
            let expected = match nearest {
                Some("") => matches!(version(engine, text), Lift::Offered),
                Some(nearest) => version(engine, text) == Lift::Nearest(nearest),
                None => matches!(version(engine, text), Lift::Unknown(_)),
            };
            assert!(expected, "{engine} {text}: {:?}", version(engine, text));
        }
    }
}
