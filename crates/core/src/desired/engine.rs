//! The engine, its version, and the parameter group that must fit it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kagami_api::parameters::{self, Family};
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{Engine as EngineKind, ReplicationGroupSpec};

use super::{References, Refusals, Tables};

/// An engine of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Engine {
    /// Redis or Valkey.
    pub kind: EngineKind,
    /// Its version, as ElastiCache counts: Redis 7.1 and Valkey 8.2 are numbers of its own.
    pub version: EngineVersion,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.version)
    }
}

/// A version without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct EngineVersion {
    /// The 6 of 6.2.
    pub major: u16,
    /// The 2 of 6.2.
    pub minor: u16,
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is no version such as 6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version such as 6.2")]
pub struct NoVersion;

impl FromStr for EngineVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse::<u16>().map_err(|_| NoVersion),
            false => Err(NoVersion),
        };
        let (major, minor) = text.split_once('.').ok_or(NoVersion)?;
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// The engine of a group, its image and its parameter family.
pub(super) struct Found {
    pub(super) engine: Engine,
    pub(super) family: Family,
    pub(super) image: String,
}

/// V03 and V04: the version must be one of the operator's table.
pub(super) fn resolve(
    spec: &ReplicationGroupSpec,
    refs: &References,
    tables: &Tables,
    refusals: &mut Refusals,
) -> Found {
    let kind = spec.engine.unwrap_or(tables.default_engine);
    let versions = versions(kind, tables);
    let newest = |major: Option<u16>| {
        versions.iter().rev().find(|(version, _)| major.is_none_or(|major| version.major == major))
    };
    let asked = spec.engine_version.as_deref().unwrap_or("newest");
    let found = match asked.split_once('.') {
        None if spec.engine_version.is_none() => newest(None).copied(),
        Some((major, "x")) => major.parse().ok().and_then(|major| newest(Some(major))).copied(),
        _ => asked.parse().ok().and_then(|version| find(kind, version, &versions)),
    };
    if let Some((version, image)) = found
        && let Some(family) = Family::of(kind, version.major)
    {
        return Found { engine: Engine { kind, version }, family, image: image.to_owned() };
    }
    let has_patch = asked.split('.').count() == 3;
    let known: Vec<String> = versions.iter().map(|(version, _)| version.to_string()).collect();
    let advice = if has_patch { " A version is written without its patch level." } else { "" };
    refusals.value(
        "engineVersion",
        format!(
            "Cannot find version {asked} for {kind}.{advice} This operator has the versions {}.",
            known.join(", ")
        ),
    );
    // The rest of the spec is still worth judging: by the family of its parameter group, so that this is not blamed for a
    // version that does not exist, else by the family that most groups have.
    let named = spec.cache_parameter_group_name.as_deref().map(str::to_ascii_lowercase);
    let built_in = named.as_deref().and_then(parameters::default_group).map(|(family, _)| family);
    let custom = refs.parameter_group.as_ref().map(|group| group.spec.cache_parameter_group_family.as_str());
    let usual = if kind == EngineKind::Redis { Family::Redis7 } else { Family::Valkey8 };
    let family = built_in.or_else(|| custom.and_then(Family::parse)).unwrap_or(usual);
    let major = if kind == EngineKind::Redis { 7 } else { 8 };
    Found {
        engine: Engine { kind, version: EngineVersion { major, minor: 0 } },
        family,
        image: String::new(),
    }
}

fn versions(kind: EngineKind, tables: &Tables) -> Vec<(EngineVersion, &str)> {
    let mut versions: Vec<(EngineVersion, &str)> = tables
        .engine_images
        .iter()
        .filter_map(|(name, image)| {
            let (engine, version) = name.split_once(' ')?;
            (engine == kind.as_str()).then(|| Some((version.parse().ok()?, image.as_str())))?
        })
        .filter(|(version, _): &(EngineVersion, &str)| Family::of(kind, version.major).is_some())
        .collect();
    versions.sort_unstable();
    versions
}

/// A version of the table. ElastiCache's Redis 7.1 and Valkey 8.2 are no versions of the engines: where the table does not have
/// them, they are served by the version that they are made of.
fn find<'a>(
    kind: EngineKind,
    version: EngineVersion,
    versions: &[(EngineVersion, &'a str)],
) -> Option<(EngineVersion, &'a str)> {
    let image_of =
        |wanted: EngineVersion| versions.iter().find(|(has, _)| *has == wanted).map(|(_, image)| *image);
    let origin = match (kind, version.major, version.minor) {
        (EngineKind::Redis, 7, 1) => Some(EngineVersion { major: 7, minor: 0 }),
        (EngineKind::Valkey, 8, 2) => Some(EngineVersion { major: 8, minor: 1 }),
        _ => None,
    };
    image_of(version).or_else(|| origin.and_then(image_of)).map(|image| (version, image))
}

/// The parameter group of a spec, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Its name; `None` where the spec names none.
    pub(super) name: Option<String>,
    /// What its cluster-enabled says; `None` where the spec names no group, or one that was not found.
    pub(super) clustered: Option<bool>,
    /// What it gives; nothing where it is built in.
    pub(super) given: BTreeMap<String, String>,
}

/// The parameter group must exist, fit the engine's family, and give nothing but what its family allows.
pub(super) fn parameter_group(
    spec: &ReplicationGroupSpec,
    family: Family,
    refs: &References,
    refusals: &mut Refusals,
) -> Group {
    const PROPERTY: &str = "cacheParameterGroupName";
    let Some(name) = spec.cache_parameter_group_name.as_ref().map(|name| name.to_ascii_lowercase()) else {
        return Group::default();
    };
    let not_found = |refusals: &mut Refusals| {
        refusals.add(
            Reason::CacheParameterGroupNotFound,
            PROPERTY,
            format!("CacheParameterGroup not found: {name}"),
        );
    };
    let mismatch = |refusals: &mut Refusals, found: &str| {
        refusals.combination(
            PROPERTY,
            format!("Expected a parameter group of family {family} but found one of family {found}"),
        );
    };
    if name.starts_with("default.") {
        let Some((its_family, clustered)) = parameters::default_group(&name) else {
            not_found(refusals);
            return Group { name: Some(name), ..Group::default() };
        };
        if its_family != family {
            mismatch(refusals, its_family.as_str());
        }
        return Group { name: Some(name), clustered: Some(clustered), given: BTreeMap::new() };
    }
    let Some(group) = &refs.parameter_group else {
        not_found(refusals);
        return Group { name: Some(name), ..Group::default() };
    };
    if group.spec.cache_parameter_group_family == family.as_str() {
        for problem in parameters::check(family, &group.spec.properties) {
            refusals.value(PROPERTY, format!("In the parameter group {name}: {problem}"));
        }
    } else {
        mismatch(refusals, &group.spec.cache_parameter_group_family);
    }
    let clustered = group.spec.properties.get("cluster-enabled").is_some_and(|value| value == "yes");
    Group { name: Some(name), clustered: Some(clustered), given: group.spec.properties.clone() }
}
