//! `AWS::ElastiCache::SubnetGroup` and `AWS::ElastiCache::ParameterGroup`.

use std::collections::{BTreeMap, BTreeSet};

use kagami_api::parameters::{self, Family, ParameterProblem};
use kagami_api::properties as classes;
use serde_json::{Value as Json, json};

use crate::engines::{self, Lift};
use crate::evaluate::Evaluator;
use crate::extras;
use crate::manifest::{Manifest, attributes, tell_recorded};
use crate::names;
use crate::problem::At;
use crate::properties::{Kind, Property, Sheet, property, read, required};
use crate::replication_group::Uses;
use crate::template::Resource;
use crate::value::{Found, Text, Value, short};

pub(crate) static SUBNET_GROUP: &[Property] = &[
    property("CacheSubnetGroupName", Kind::Text(255)),
    required("Description", Kind::Text(255)),
    required("SubnetIds", Kind::Elsewhere),
    property("Tags", Kind::Tags),
];

pub(crate) static PARAMETER_GROUP: &[Property] = &[
    required("CacheParameterGroupFamily", Kind::Text(64)),
    property("CacheParameterGroupName", Kind::ReadOnly),
    required("Description", Kind::Text(255)),
    property("Properties", Kind::Parameters),
    property("Tags", Kind::Tags),
];

/// Converts a subnet group. Subnets matter for the zones that they are in.
pub(crate) fn subnet_group(
    evaluator: &Evaluator<'_>,
    resource: &Resource,
    uses: &[Uses],
) -> Option<Manifest> {
    let mut sheet = read(evaluator, resource, SUBNET_GROUP);
    let mut extras = extras::read(evaluator, resource, "SubnetGroup", SUBNET_GROUP);
    // Zones that are given need no reading from subnets.
    let given = extras.fields.remove("zones");
    sheet.extend(extras);
    let mut sound = attributes(evaluator, resource);
    let name = evaluator.name(resource, resource.at, &resource.place());
    let place = resource.place_of("SubnetIds");
    let subnets = match resource.property("SubnetIds") {
        None => {
            evaluator.findings.error(
                resource.at,
                &resource.place().child("Properties"),
                "SubnetIds is required",
            );
            None
        }
        Some(entry) => evaluator.evaluate(&entry.value, &place),
    };
    let mut ids = Vec::new();
    let mut zones = BTreeSet::new();
    let mut all_known = true;
    if let Some(found) = &subnets {
        let one = std::slice::from_ref(found);
        let items = match &found.value {
            Value::List(items) => items.as_slice(),
            // A list that only AWS knows.
            Value::Text(Text { unknown: Some(_), .. }) => one,
            other => {
                evaluator.findings.error(
                    found.at,
                    &place,
                    format!("expected a list, found {}", other.kind()),
                );
                sound = false;
                &[]
            }
        };
        for item in items {
            let Value::Text(text) = &item.value else {
                let message = format!("expected the id of a subnet, found {}", item.value.kind());
                evaluator.findings.error(item.at, &place, message);
                sound = false;
                continue;
            };
            match &text.reference {
                Some(reference) => ids.push(reference.id.clone()),
                None if text.unknown.is_none() && text.secret.is_none() && !text.text.is_empty() => {
                    ids.push(text.text.clone());
                }
                None => {}
            }
            match zone(evaluator, text) {
                Some(zone) => {
                    zones.insert(zone);
                }
                None => all_known = false,
            }
        }
        if items.is_empty() && sound && given.is_none() {
            evaluator.findings.error(found.at, &place, "a subnet group needs at least one subnet");
            sound = false;
        }
    }
    if sound && subnets.is_some() && !all_known && given.is_none() {
        let at = subnets.as_ref().map_or(resource.at, |found: &Found| found.at);
        let named: BTreeSet<String> = uses
            .iter()
            .filter(|group| group.resources.contains(&resource.id))
            .flat_map(|group| group.zones.iter().cloned())
            .collect();
        let message = if named.is_empty() {
            zones.clear();
            "the zones of the subnets cannot be known here, so that every zone is allowed; spec.zones may be filled in"
                .to_owned()
        } else {
            zones.extend(named);
            let names: Vec<&str> = zones.iter().map(String::as_str).collect();
            format!(
                "the zones of the subnets cannot be known here; taken from the replication groups: {}",
                names.join(", ")
            )
        };
        evaluator.findings.warn(at, &place, message);
    }
    let name = name?;
    if !sheet.sound || !sound || subnets.is_none() {
        return None;
    }
    match extras::name(evaluator, resource) {
        Some(_) => drop(sheet.values.remove("cacheSubnetGroupName")),
        None => same_name(&mut sheet.values, "cacheSubnetGroupName", &name),
    }
    match given {
        Some(Json::Array(zones)) if zones.is_empty() => {}
        Some(zones) => sheet.set("Zones", zones),
        None if zones.is_empty() => {}
        None => sheet.set("Zones", json!(zones)),
    }
    if !ids.is_empty() && ids.len() <= 20 {
        sheet.set("SubnetIds", json!(ids));
    }
    tell_recorded(evaluator, resource, &sheet, classes::SUBNET_GROUP);
    Some(Manifest {
        kind: "SubnetGroup",
        name,
        spec: Json::Object(sheet.values),
        at: resource.at,
        place: resource.place(),
        wrong: BTreeSet::new(),
    })
}

/// The zone of a subnet of the template, if it says one that can be known here.
fn zone(evaluator: &Evaluator<'_>, subnet: &Text) -> Option<String> {
    let resource = evaluator.referent(subnet).filter(|resource| resource.kind == names::SUBNET)?;
    evaluator.findings.quietly(|| {
        let entry = resource.property("AvailabilityZone")?;
        let text = evaluator.text(&entry.value, &resource.place_of("AvailabilityZone"))?;
        Some(text.text).filter(|zone| !zone.is_empty())
    })
}

/// The name in the spec is the object's own, or is left out.
fn same_name(values: &mut serde_json::Map<String, Json>, field: &str, name: &str) {
    if let Some(given) = values.get(field).and_then(Json::as_str) {
        if given.to_lowercase() == name {
            values.insert(field.to_owned(), json!(name));
        } else {
            values.remove(field);
        }
    }
}

/// What became of a parameter group.
#[derive(Debug)]
pub(crate) enum Converted {
    /// It is an object.
    Manifest(Manifest),
    /// It has nothing to do with replication groups.
    Skipped,
    /// It was wrong, which was reported.
    Wrong,
}

/// Converts a parameter group.
pub(crate) fn parameter_group(evaluator: &Evaluator<'_>, resource: &Resource, uses: &[Uses]) -> Converted {
    let place = resource.place_of("CacheParameterGroupFamily");
    let used = uses.iter().find(|group| group.resources.contains(&resource.id));
    if let Some(entry) = resource.property("CacheParameterGroupFamily")
        && let Some(family) = evaluator.findings.quietly(|| evaluator.text(&entry.value, &place))
        && family.text.starts_with("memcached")
    {
        let Some(user) = used else { return Converted::Skipped };
        let message = format!(
            "{} is a family of Memcached, and the replication group {} uses this parameter group",
            short(family.shown()),
            user.name
        );
        evaluator.findings.error(entry.value.at, &place, message);
        return Converted::Wrong;
    }
    let mut sheet = read(evaluator, resource, PARAMETER_GROUP);
    sheet.extend(extras::read(evaluator, resource, "ParameterGroup", PARAMETER_GROUP));
    let mut sound = attributes(evaluator, resource);
    let name = evaluator.name(resource, resource.at, &resource.place());
    let mut family = None;
    let mut lifted = None;
    if let Some(written) = sheet.text("CacheParameterGroupFamily").map(str::to_owned) {
        let at = sheet.at("CacheParameterGroupFamily", resource);
        match engines::family(&written) {
            Lift::Offered => family = Family::parse(&written),
            Lift::Nearest(nearest) => {
                let message = format!("{} is not offered; the nearest family is {nearest}", short(&written));
                evaluator.findings.warn(at, &place, message);
                sheet.set("CacheParameterGroupFamily", json!(nearest));
                family = Family::parse(nearest);
                lifted = family;
            }
            Lift::Unknown(offered) => {
                let message =
                    format!("{:?} is not a parameter group family; there are {offered}", short(&written));
                evaluator.findings.error(at, &place, message);
                sound = false;
            }
        }
    }
    if matches!(sheet.get("Properties"), Some(Json::Object(given)) if given.is_empty()) {
        sheet.values.remove("properties");
    }
    if let Some(family) = lifted {
        rename(evaluator, resource, &mut sheet, family);
    }
    if let Some(family) = family {
        sound &= check_parameters(evaluator, resource, &sheet, family, lifted.is_some());
    }
    tell_recorded(evaluator, resource, &sheet, classes::PARAMETER_GROUP);
    match name {
        Some(name) if sheet.sound && sound => Converted::Manifest(Manifest {
            kind: "ParameterGroup",
            name,
            spec: Json::Object(sheet.values),
            at: resource.at,
            place: resource.place(),
            wrong: BTreeSet::new(),
        }),
        _ => Converted::Wrong,
    }
}

/// Older families say slave where newer ones say replica.
fn rename(evaluator: &Evaluator<'_>, resource: &Resource, sheet: &mut Sheet, family: Family) {
    let Some(Json::Object(given)) = sheet.get("Properties") else { return };
    let old = given.keys().filter(|name| parameters::find(family, name).is_none());
    let names: Vec<(String, String)> = old
        .map(|name| (name.clone(), name.replace("slave", "replica")))
        .filter(|(_, new)| parameters::find(family, new).is_some() && !given.contains_key(new))
        .collect();
    let mut given = given.clone();
    for (old, new) in names {
        let place = resource.place_of("Properties").child(&short(&old));
        let message = format!("it is called {new} in the family {family}");
        evaluator.findings.warn(parameter_at(resource, sheet, &old), &place, message);
        if let Some(value) = given.remove(&old) {
            given.insert(new, value);
        }
    }
    sheet.set("Properties", Json::Object(given));
}

/// Where a parameter stands, by its own name or by that of an older family.
fn parameter_at(resource: &Resource, sheet: &Sheet, name: &str) -> At {
    let properties = resource.property("Properties");
    let entry = properties.and_then(|entry| {
        entry.value.get(name).or_else(|| entry.value.get(&name.replace("replica", "slave")))
    });
    entry.map_or_else(|| sheet.at("Properties", resource), |entry| entry.at)
}

/// Holds the parameters to their family.
fn check_parameters(
    evaluator: &Evaluator<'_>,
    resource: &Resource,
    sheet: &Sheet,
    family: Family,
    lifted: bool,
) -> bool {
    let Some(Json::Object(given)) = sheet.get("Properties") else { return true };
    let texts = given.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let mut sound = true;
    for (name, value) in texts {
        for problem in parameters::check(family, &BTreeMap::from([(name.clone(), value)])) {
            let at = parameter_at(resource, sheet, &name);
            let place = resource.place_of("Properties").child(&short(&name));
            if let ParameterProblem::NotBuilt { .. } = problem {
                evaluator.findings.warn(at, &place, format!("Kagami will not take this yet: {problem}"));
                continue;
            }
            let which = if lifted { ", which stands in for the one that is written" } else { "" };
            let message = match &problem {
                ParameterProblem::Unknown { .. } => format!("{problem}{which}"),
                other => other.to_string(),
            };
            evaluator.findings.error(at, &place, message);
            sound = false;
        }
    }
    sound
}
