//! Parameter groups: families, their parameters, and what each parameter becomes here.
//!
//! The parameters, their defaults and allowed values are ElastiCache's (`DescribeEngineDefaultParameters`, and the user guide's
//! changes from version to version). An engine's own defaults differ: ElastiCache evicts `volatile-lru`, and its clusters serve
//! what they have when slots are missing.

use std::collections::BTreeMap;
use std::fmt;

use crate::nearest;
use crate::v1alpha1::Engine;

mod page;
mod table;

pub use page::markdown;
use table::{ALL, INT, MAX};

/// A parameter group family: the versions that share parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Family {
    /// Redis 6.0 and 6.2.
    Redis6,
    /// Redis 7.0 and 7.1, and what the operator's table has beyond.
    Redis7,
    /// Valkey 7.2.
    Valkey7,
    /// Valkey 8.
    Valkey8,
    /// Valkey 9, and what the operator's table has beyond.
    Valkey9,
}

impl Family {
    /// All families, oldest first.
    pub const ALL: &[Self] = &[Self::Redis6, Self::Redis7, Self::Valkey7, Self::Valkey8, Self::Valkey9];

    /// The name, as in `cacheParameterGroupFamily`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis6 => "redis6.x",
            Self::Redis7 => "redis7",
            Self::Valkey7 => "valkey7",
            Self::Valkey8 => "valkey8",
            Self::Valkey9 => "valkey9",
        }
    }

    /// The family of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|family| family.as_str() == name)
    }

    /// The family of an engine's major version, or `None` where ElastiCache offers no such engine any more.
    pub const fn of(engine: Engine, major: u16) -> Option<Self> {
        match (engine, major) {
            (Engine::Redis, 6) => Some(Self::Redis6),
            (Engine::Redis, 7..) => Some(Self::Redis7),
            (Engine::Valkey, 7) => Some(Self::Valkey7),
            (Engine::Valkey, 8) => Some(Self::Valkey8),
            (Engine::Valkey, 9..) => Some(Self::Valkey9),
            _ => None,
        }
    }

    /// The name of the built-in group of the family, for cluster mode enabled or disabled.
    pub fn default_group(self, clustered: bool) -> String {
        format!("default.{}{}", self.as_str(), if clustered { ".cluster.on" } else { "" })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The built-in group of that name: its family, and whether its cluster-enabled is yes.
pub fn default_group(name: &str) -> Option<(Family, bool)> {
    let rest = name.strip_prefix("default.")?;
    match rest.strip_suffix(".cluster.on") {
        Some(family) => Some((Family::parse(family)?, true)),
        None => Some((Family::parse(rest)?, false)),
    }
}

/// Which values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A whole number from the first to the second.
    Range(i64, i64),
    /// Zero, or a whole number from the first to the second.
    ZeroOrRange(i64, i64),
    /// Any of the letters, in any order, or nothing.
    Letters(&'static str),
    /// Nothing but the empty text.
    Empty,
}

/// What a parameter becomes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The engine's directive of the same name.
    Directive,
    /// The engine's directive of the same name, but only where a parameter group gives it: Kagami has a better default.
    DirectiveIfGiven,
    /// The engine's directive of the same name, with cluster mode disabled; a cluster has one database.
    DirectiveUnclustered,
    /// One of the three numbers of a class of `client-output-buffer-limit`.
    OutputBuffer,
    /// How much of the memory is kept from the data: decides maxmemory.
    ReservedMemory,
    /// Decides the cluster mode.
    ClusterMode,
    /// What it can say is so anyway, for this reason.
    MetByItself(&'static str),
    /// Only this value is met here; another one is refused with this sentence.
    Only(&'static str, &'static str),
    /// Kagami decides it; ElastiCache does not let it be modified either.
    Fixed,
}

/// A parameter of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// ElastiCache's name.
    pub name: &'static str,
    /// ElastiCache's default in this family; empty where it depends on the node type or is empty.
    pub default: &'static str,
    /// The allowed values.
    pub allowed: Allowed,
    /// Whether a parameter group may give it.
    pub modifiable: bool,
    /// Whether a change needs the engine to start again (ElastiCache: requires-reboot).
    pub needs_restart: bool,
    /// What it becomes here.
    pub effect: Effect,
    since: Family,
    until: Family,
}

impl Parameter {
    /// Whether its value depends on more than the parameter group: on the node type, or on a volume.
    pub fn depends_on_the_group(&self) -> bool {
        let open = self.default.is_empty() && !self.modifiable;
        open || self.name == "appendonly" || self.name == "client-output-buffer-limit-replica-soft-seconds"
    }

    /// Whether the family has the parameter.
    pub fn is_in(&self, family: Family) -> bool {
        (self.since..=self.until).contains(&family)
    }
}

/// Why a parameter of a group is refused, in ElastiCache's words where they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterProblem {
    /// The family has no such parameter.
    Unknown {
        /// The parameter.
        name: String,
        /// The family.
        family: Family,
    },
    /// ElastiCache does not let it be modified.
    NotModifiable {
        /// The parameter.
        name: String,
    },
    /// The value is not allowed.
    NotAllowed {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// ElastiCache allows it, and this version has no way to do it.
    NotBuilt {
        /// The parameter.
        name: String,
        /// Why, and what to do.
        sentence: &'static str,
    },
}

impl fmt::Display for ParameterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, family } => {
                let hint = nearest::hint(name, of(*family).map(|parameter| parameter.name));
                write!(f, "Could not find parameter with name: {name} in the family {family}{hint}")
            }
            Self::NotModifiable { name } => write!(f, "The parameter {name} cannot be modified"),
            Self::NotAllowed { name, value, allowed } => {
                write!(
                    f,
                    "The parameter value {value:?} is not allowed for parameter {name}: allowed values are {allowed}"
                )
            }
            Self::NotBuilt { name, sentence } => write!(f, "The parameter {name}: {sentence}"),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Words(words) => f.write_str(&words.join(",")),
            Self::Range(from, MAX | INT) => write!(f, "{from}-"),
            Self::Range(from, to) => write!(f, "{from}-{to}"),
            Self::ZeroOrRange(from, MAX | INT) => write!(f, "0,{from}-"),
            Self::ZeroOrRange(from, to) => write!(f, "0,{from}-{to}"),
            Self::Letters(letters) => write!(f, "any of the letters {letters}"),
            Self::Empty => f.write_str("none"),
        }
    }
}

impl Allowed {
    /// Whether the value is one of the allowed ones.
    pub fn takes(self, value: &str) -> bool {
        // Every number goes into the engine's configuration as it is written, so it must be written plainly.
        let number = || {
            let digits = value.strip_prefix('-').unwrap_or(value);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| value.parse::<i64>().ok()).flatten()
        };
        match self {
            Self::Words(words) => words.contains(&value),
            Self::Range(from, to) => number().is_some_and(|number| (from..=to).contains(&number)),
            Self::ZeroOrRange(from, to) => {
                number().is_some_and(|number| number == 0 || (from..=to).contains(&number))
            }
            Self::Letters(letters) => value.chars().all(|letter| letters.contains(letter)),
            Self::Empty => value.is_empty(),
        }
    }
}

/// The parameters of a family, in the order of their names (nearly: as ElastiCache lists them).
pub fn of(family: Family) -> impl Iterator<Item = &'static Parameter> {
    ALL.iter().filter(move |parameter| parameter.is_in(family))
}

/// The parameter of a family by its name.
pub fn find(family: Family, name: &str) -> Option<&'static Parameter> {
    of(family).find(|parameter| parameter.name == name)
}

/// What is wrong with the values that a parameter group gives, if anything.
pub fn check(family: Family, given: &BTreeMap<String, String>) -> Vec<ParameterProblem> {
    given.iter().filter_map(|(name, value)| check_one(family, name, value).err()).collect()
}

fn check_one(family: Family, name: &str, value: &str) -> Result<(), ParameterProblem> {
    let name = name.to_owned();
    let Some(parameter) = find(family, &name) else { return Err(ParameterProblem::Unknown { name, family }) };
    // Repeating the value that it has is no modification; templates that were exported do so.
    if !parameter.modifiable && (parameter.default != value || value.is_empty()) {
        return Err(ParameterProblem::NotModifiable { name });
    }
    if let Effect::Only(met, sentence) = parameter.effect
        && value != met
    {
        return Err(ParameterProblem::NotBuilt { name, sentence });
    }
    if parameter.modifiable && !parameter.allowed.takes(value) {
        let (value, allowed) = (value.to_owned(), parameter.allowed.to_string());
        return Err(ParameterProblem::NotAllowed { name, value, allowed });
    }
    Ok(())
}

/// The value that a parameter has in a group: what is given, else the family's default.
pub fn effective<'a>(family: Family, given: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    match given.get(name) {
        Some(value) => value,
        None => find(family, name).map_or("", |parameter| parameter.default),
    }
}

/// The backlog of a group that gives none, in bytes: with ElastiCache's a replica that was away for moments copies everything.
pub const REPL_BACKLOG_BYTES: i64 = 64 << 20;

/// The values that the engines of a group run with: what is given where it is right, else the default; and what is met here where
/// that differs. Those that depend on more than the parameter group (the node type, a volume) are left out.
pub fn effective_values(family: Family, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let clustered = given.get("cluster-enabled").is_some_and(|value| value == "yes");
    for parameter in of(family).filter(|parameter| !parameter.depends_on_the_group()) {
        let right =
            given.get(parameter.name).filter(|value| check_one(family, parameter.name, value).is_ok());
        let value = match (parameter.effect, right) {
            (Effect::Only(met, _), _) => met.to_owned(),
            // A cluster of these versions has one database.
            (Effect::DirectiveUnclustered, _) if clustered => "1".to_owned(),
            (_, Some(value)) => value.clone(),
            (Effect::DirectiveIfGiven, None) if parameter.name == "repl-backlog-size" => {
                REPL_BACKLOG_BYTES.to_string()
            }
            (_, None) => parameter.default.to_owned(),
        };
        values.insert(parameter.name.to_owned(), value);
    }
    values
}

/// The engine's directives of a parameter group, ready for a configuration file: what is given, and the family's defaults.
///
/// `limits` of replicas' output buffers come from maxmemory, a tenth of it, as ElastiCache sets them. A key may carry the first
/// word of its directive's arguments, as in `client-output-buffer-limit normal`, because before Redis 7.0 a configuration file
/// sets one class per line.
pub fn directives(
    family: Family,
    given: &BTreeMap<String, String>,
    clustered: bool,
    maxmemory_bytes: i64,
) -> BTreeMap<String, String> {
    let mut directives = BTreeMap::new();
    for parameter in of(family) {
        let value = effective(family, given, parameter.name);
        let wanted = match parameter.effect {
            Effect::Directive => true,
            Effect::DirectiveIfGiven => given.contains_key(parameter.name),
            Effect::DirectiveUnclustered => !clustered,
            _ => false,
        };
        // An empty value is the engine's default wherever ElastiCache has it as the default.
        if wanted && (!value.is_empty() || given.contains_key(parameter.name)) {
            let value = if value.is_empty() { "\"\"" } else { value };
            directives.insert(parameter.name.to_owned(), value.to_owned());
        }
    }
    for class in ["normal", "pubsub"] {
        let limit =
            |what: &str| effective(family, given, &format!("client-output-buffer-limit-{class}-{what}"));
        directives.insert(
            format!("client-output-buffer-limit {class}"),
            format!("{} {} {}", limit("hard-limit"), limit("soft-limit"), limit("soft-seconds")),
        );
    }
    let tenth = maxmemory_bytes / 10;
    directives.insert("client-output-buffer-limit replica".to_owned(), format!("{tenth} {tenth} 60"));
    directives
}

#[cfg(test)]
mod tests {
    use super::Family::{Redis6, Redis7, Valkey8, Valkey9};
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn problem(family: Family, name: &str, value: &str) -> String {
        check(family, &given(&[(name, value)])).first().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn every_default_is_an_allowed_value_of_its_own_parameter() {
        for parameter in ALL.iter().filter(|parameter| parameter.modifiable) {
            assert!(parameter.allowed.takes(parameter.default), "{}", parameter.name);
        }
    }

    #[test]
    fn no_family_has_a_parameter_twice() {
        for family in Family::ALL {
            let mut names: Vec<&str> = of(*family).map(|parameter| parameter.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{family}");
            assert!(count > 50, "{family}");
        }
    }

    #[test]
    fn the_default_groups_are_built_in() {
        assert_eq!(default_group("default.redis6.x.cluster.on"), Some((Redis6, true)));
        assert_eq!(default_group("default.redis6.x"), Some((Redis6, false)));
        assert_eq!(default_group("default.valkey9.cluster.on"), Some((Valkey9, true)));
        for name in ["default.redis3.2", "default.", "redis7", "default.redis7.cluster.off"] {
            assert_eq!(default_group(name), None, "{name}");
        }
        for family in Family::ALL {
            for clustered in [false, true] {
                assert_eq!(default_group(&family.default_group(clustered)), Some((*family, clustered)));
            }
        }
    }

    #[test]
    fn a_version_has_the_family_that_elasticache_gives_it() {
        assert_eq!(Family::of(Engine::Redis, 6), Some(Redis6));
        assert_eq!(Family::of(Engine::Redis, 8), Some(Redis7));
        assert_eq!(Family::of(Engine::Valkey, 8), Some(Valkey8));
        assert_eq!(Family::of(Engine::Redis, 5), None);
        assert_eq!(Family::of(Engine::Valkey, 6), None);
    }

    #[test]
    fn what_elasticache_would_not_take_is_refused_in_its_words() {
        assert_eq!(
            problem(Redis7, "nonsense", "1"),
            "Could not find parameter with name: nonsense in the family redis7"
        );
        assert_eq!(problem(Redis7, "maxmemory", "1"), "The parameter maxmemory cannot be modified");
        assert_eq!(
            problem(Redis7, "timeout", "5"),
            "The parameter value \"5\" is not allowed for parameter timeout: allowed values are 0,20-"
        );
        assert!(problem(Redis7, "hash-max-ziplist-entries", "1").starts_with("Could not find"));
        assert!(problem(Redis6, "hash-max-ziplist-entries", "1").is_empty());
        assert!(problem(Valkey8, "lazyfree-lazy-expire", "yes").starts_with("Could not find"));
        assert!(problem(Redis7, "maxmemory-policy", "allkeys-lru").is_empty());
        assert!(problem(Redis7, "maxmemory-policy", "never").contains("volatile-lru,allkeys-lru"));
        for value in ["", "1 2", "+1", "1\n2", "0x10", "1e3", "99999999999999999999"] {
            assert!(problem(Redis7, "maxmemory-samples", value).contains("not allowed"), "{value}");
        }
    }

    #[test]
    fn what_no_open_engine_does_is_refused_unless_it_asks_for_nothing() {
        assert!(problem(Redis7, "close-on-replica-write", "yes").contains("only no is met here"));
        assert!(problem(Redis7, "close-on-replica-write", "no").is_empty());
        assert!(problem(Redis7, "rename-commands", "").is_empty());
        assert!(problem(Redis7, "rename-commands", "GET x").contains("not renamed"));
    }

    #[test]
    fn repeating_the_value_of_a_fixed_parameter_is_no_modification() {
        assert!(problem(Redis7, "appendonly", "no").is_empty());
        assert!(problem(Redis7, "appendonly", "yes").contains("cannot be modified"));
    }

    #[test]
    fn the_directives_are_elasticaches_defaults_and_what_is_given() {
        let directives = directives(
            Redis6,
            &given(&[("timeout", "60"), ("notify-keyspace-events", "Ex")]),
            true,
            402_653_180,
        );
        let get = |name: &str| directives.get(name).map(String::as_str);
        assert_eq!(get("maxmemory-policy"), Some("volatile-lru"));
        assert_eq!(get("cluster-require-full-coverage"), Some("no"));
        assert_eq!(get("timeout"), Some("60"));
        assert_eq!(get("notify-keyspace-events"), Some("Ex"));
        assert_eq!(get("client-output-buffer-limit pubsub"), Some("33554432 8388608 60"));
        assert_eq!(get("client-output-buffer-limit replica"), Some("40265318 40265318 60"));
        for name in [
            "maxmemory",
            "databases",
            "reserved-memory-percent",
            "repl-backlog-size",
            "close-on-replica-write",
        ] {
            assert_eq!(get(name), None, "{name}");
        }
    }

    #[test]
    fn the_effective_values_are_what_the_engines_run_with() {
        let odd = given(&[
            ("timeout", "60"),
            ("maxmemory-policy", "never"),
            ("cluster-enabled", "yes"),
            ("nonsense", "1"),
        ]);
        let values = effective_values(Redis7, &odd);
        let get = |name: &str| values.get(name).map(String::as_str);
        assert_eq!(get("timeout"), Some("60"));
        assert_eq!(get("maxmemory-policy"), Some("volatile-lru"), "what is not allowed has no effect");
        assert_eq!(get("databases"), Some("1"));
        assert_eq!(get("close-on-replica-write"), Some("no"));
        assert_eq!(get("repl-backlog-size"), Some("67108864"));
        assert_eq!(get("notify-keyspace-events"), Some(""));
        for name in [
            "nonsense",
            "maxmemory",
            "maxclients",
            "appendonly",
            "client-output-buffer-limit-replica-hard-limit",
        ] {
            assert_eq!(get(name), None, "{name}");
        }
        assert_eq!(effective_values(Redis7, &given(&[]))["databases"], "16");
        assert_eq!(
            effective_values(Redis7, &given(&[("repl-backlog-size", "16384")]))["repl-backlog-size"],
            "16384"
        );
    }

    /// What the directives say, the values say too.
    #[test]
    fn no_directive_contradicts_the_effective_values() {
        for family in Family::ALL {
            let given = given(&[("timeout", "60"), ("databases", "4"), ("repl-backlog-size", "16384")]);
            let values = effective_values(*family, &given);
            for (name, value) in directives(*family, &given, false, 1 << 30) {
                if let Some(shown) = values.get(&name) {
                    assert_eq!(*shown, value.trim_matches('"'), "{family} {name}");
                } else {
                    assert!(name.starts_with("client-output-buffer-limit "), "{family} {name}");
                }
            }
        }
    }

    #[test]
    fn a_backlog_that_is_given_is_taken() {
        let directives = directives(Redis7, &given(&[("repl-backlog-size", "33554432")]), false, 0);
        assert_eq!(directives.get("repl-backlog-size").map(String::as_str), Some("33554432"));
        assert_eq!(directives.get("databases").map(String::as_str), Some("16"));
    }
}
