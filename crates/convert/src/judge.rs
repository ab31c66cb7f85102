//! What the API server and the operator will say to the objects: their rules are asked here, so that a template hears them all at
//! once, also of an object in which something else is wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kagami_api::parameters::Family;
use kagami_api::properties::NODE_TYPE_NEEDED;
use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kagami_core::desired::{NotInEffect, References, Refusal, Tables, resolve};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use crate::extras;
use crate::manifest::Manifest;
use crate::problem::{At, Findings, Place};
use crate::properties::property_name;
use crate::schema::{Schemas, Step, Violation};
use crate::template::{Resource, Template};
use crate::value::short;

type ByName<'a> = HashMap<(&'a str, &'a str), &'a Manifest>;

/// Holds the objects to their definitions, and asks the operator's rules about every group, with what the template has of what
/// they refer to.
pub(crate) fn judge(template: &Template, manifests: &[Manifest], findings: &Findings) {
    if manifests.is_empty() {
        return;
    }
    let told: Vec<BTreeSet<String>> =
        manifests.iter().map(|manifest| findings.told(&manifest.place)).collect();
    let held: Vec<BTreeSet<String>> =
        manifests.iter().map(|manifest| hold(template, manifest, findings)).collect();
    let by_name: ByName<'_> =
        manifests.iter().map(|manifest| ((manifest.kind, manifest.name.as_str()), manifest)).collect();
    let court = Court { by_name, tables: Tables::default() };
    for ((manifest, told), held) in manifests.iter().zip(told).zip(held) {
        if manifest.kind != "ReplicationGroup" {
            continue;
        }
        let resource = manifest.place.resource.as_deref().and_then(|id| template.resource(id));
        let spot = |field: &str| {
            let property = property_name(field.split('.').next().unwrap_or_default());
            let at = resource.and_then(|resource| resource.property(&property));
            let at = at.map_or(manifest.at, |entry| entry.value.at);
            (at, manifest.place.child("Properties").child(&property), property)
        };
        let verdict = court.verdict(manifest, &held);
        for refusal in verdict.refusals {
            let (at, place, property) = spot(&refusal.property);
            // What was said of the property has been said where it was read, and nearer to it.
            if told.contains(&property) || findings.has_warned(&manifest.place, &refusal.message) {
                continue;
            }
            match refusal.property.as_str() {
                field if manifest.wrong.contains(field) => {}
                // What this version refuses, the API server will refuse with this sentence.
                _ if is_not_built(&refusal) => {
                    findings.warn(at, &place, format!("Kagami will not take this yet: {}", refusal.message));
                }
                // The parameter group has been told so itself.
                "cacheParameterGroupName" if refusal.message.starts_with("In the parameter group") => {}
                "cacheNodeType" if refusal.message == NODE_TYPE_NEEDED => {
                    findings.error(at, &place, refusal.message);
                }
                // The operator's own tables may have what the built-in ones do not.
                "cacheNodeType" | "engineVersion" => findings.warn(at, &place, refusal.message),
                _ => findings.error(at, &place, refusal.message),
            }
        }
        for recorded in verdict.recorded {
            if !findings.has_warned(&manifest.place, &recorded.sentence) {
                let (at, place, _) = spot(&recorded.property);
                findings.warn(at, &place, recorded.sentence);
            }
        }
    }
}

/// Holds an object to its definition, and gives the fields in which something is wrong.
fn hold(template: &Template, manifest: &Manifest, findings: &Findings) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    let resource = manifest.place.resource.as_deref().and_then(|id| template.resource(id));
    for Violation { path, mut message, candidates } in
        Schemas::all().violations(manifest.kind, &manifest.spec)
    {
        match path.first() {
            Some(Step::Field(field)) => drop(wrong.insert(field.clone())),
            // What is missing at the top has been told where the properties were read.
            _ => continue,
        }
        if !candidates.is_empty()
            && let Some(Step::Field(field)) = path.last()
        {
            message.push_str(&findings.hint(field, candidates));
        }
        let (at, place) = place(manifest, resource, &path);
        findings.error(at, &place, message);
    }
    wrong
}

/// Where a field of an object stands in the template.
fn place(manifest: &Manifest, resource: Option<&Resource>, path: &[Step]) -> (At, Place) {
    let extra = resource.and_then(|resource| extras::written(resource, path));
    let (mut place, name): (Place, fn(&str) -> String) = match extra {
        Some(_) => {
            let place = manifest.place.child("Metadata").child(kagami_api::names::GROUP);
            (place, |field| field.to_owned())
        }
        None => (manifest.place.child("Properties"), property_name),
    };
    for step in path {
        place = match step {
            Step::Field(field) => place.child(&short(&name(field))),
            Step::Item(index) => place.item(*index),
        };
    }
    let property = || match path.first()? {
        Step::Field(field) => {
            let entry = resource?.property(&property_name(field))?;
            Some(extras::below(&entry.value, &path[1..], property_name))
        }
        Step::Item(_) => None,
    };
    (extra.or_else(property).map_or(manifest.at, |node| node.at), place)
}

/// What the rules are asked with.
struct Court<'a> {
    by_name: ByName<'a>,
    tables: Tables,
}

/// What the operator would say to a group.
#[derive(Default)]
struct Verdict {
    refusals: Vec<Refusal>,
    /// What has no effect, where nothing is refused.
    recorded: Vec<NotInEffect>,
}

impl Verdict {
    /// What both say.
    fn and(mut self, other: &Self) -> Self {
        self.refusals.retain(|refusal| other.refusals.contains(refusal));
        self.recorded.retain(|recorded| other.recorded.contains(recorded));
        self
    }
}

impl Court<'_> {
    /// What is said whatever stands in the place of what is wrong.
    fn verdict(&self, manifest: &Manifest, held: &BTreeSet<String>) -> Verdict {
        let mut wrong = manifest.wrong.clone();
        let mut spec = manifest.spec.as_object().cloned().unwrap_or_default();
        // What its definition does not allow may be too wrong to be read.
        if !held.is_empty() && object::<ReplicationGroup>(&manifest.name, &spec).is_none() {
            spec.retain(|field, _| !held.contains(field));
            wrong.extend(held.iter().cloned());
        }
        for (field, value) in [
            ("replicationGroupDescription", "unknown"),
            ("cacheNodeType", "cache.t4g.micro"),
            ("cacheParameterGroupName", "unknown"),
        ] {
            let needed = wrong.contains(field) || field == "replicationGroupDescription";
            if needed && !spec.contains_key(field) {
                spec.insert(field.to_owned(), json!(value));
            }
        }
        let said = variants(&spec, &wrong).into_iter().filter_map(|spec| {
            let group = object::<ReplicationGroup>(&manifest.name, &spec)?;
            Some(self.said(&group))
        });
        said.reduce(|all, some| all.and(&some)).unwrap_or_default()
    }

    /// What the group refers to, as far as the template has it; the rest is taken to be there.
    fn references(&self, group: &ReplicationGroup) -> References {
        let mut known = References::default();
        let named = |kind: &'static str, name: &str| self.by_name.get(&(kind, name)).copied();
        if let Some(name) = &group.spec.cache_subnet_group_name {
            let found = named("SubnetGroup", name).and_then(of_manifest::<SubnetGroup>);
            known.subnet_group = Some(found.unwrap_or_else(|| SubnetGroup::new(name, Default::default())));
        }
        let ids = group.spec.security_group_ids.iter().flatten();
        known.security_groups = ids
            .map(|id| {
                let found = named("SecurityGroup", id).and_then(of_manifest::<SecurityGroup>);
                (id.clone(), found.unwrap_or_else(|| SecurityGroup::new(id, Default::default())))
            })
            .collect::<BTreeMap<_, _>>();
        let name = group.spec.cache_parameter_group_name.as_deref().unwrap_or_default();
        known.parameter_group = named("ParameterGroup", name).and_then(of_manifest::<ParameterGroup>);
        known
    }

    /// What is said whatever the objects outside of the template are.
    fn said(&self, group: &ReplicationGroup) -> Verdict {
        let known = self.references(group);
        let judged = |references: &References| match resolve(group, references, &self.tables) {
            Ok(desired) => Verdict { refusals: Vec::new(), recorded: desired.not_in_effect },
            Err(refusals) => Verdict { refusals, recorded: Vec::new() },
        };
        let name = group.spec.cache_parameter_group_name.as_deref().unwrap_or_default();
        if name.is_empty() || name.starts_with("default.") || known.parameter_group.is_some() {
            return judged(&known);
        }
        // A parameter group that nobody here knows decides the cluster mode: only what both modes refuse is refused.
        let under = |enabled: &str| -> Vec<Verdict> {
            let verdicts = Family::ALL.iter().map(|family| {
                let mut other = known.clone();
                let spec = json!({"cacheParameterGroupFamily": family.as_str(), "description": "unknown",
                    "properties": {"cluster-enabled": enabled}});
                other.parameter_group =
                    serde_json::from_value(spec).ok().map(|spec| ParameterGroup::new(name, spec));
                judged(&other)
            });
            verdicts.collect()
        };
        let modes = [under("yes"), under("no")];
        let least = |verdicts: &[Verdict]| {
            let least = verdicts.iter().min_by_key(|verdict| verdict.refusals.len())?;
            least.refusals.first().cloned()
        };
        let each = (least(&modes[0]), least(&modes[1]));
        let mut all = modes.into_iter().flatten().reduce(|all, some| all.and(&some)).unwrap_or_default();
        if all.refusals.is_empty()
            && let (Some(enabled), Some(disabled)) = each
        {
            // Each mode refuses something else, so nothing of that kind is ever taken.
            let message = format!(
                "It is refused whichever cluster mode {name} has. Enabled: {} Disabled: {}",
                enabled.message, disabled.message
            );
            all.refusals.push(Refusal { message, ..disabled });
        }
        all
    }
}

/// A spec with what might have been meant by each of the fields that are wrong, one at a time; the first has none of them.
fn variants(spec: &Map<String, Json>, wrong: &BTreeSet<String>) -> Vec<Map<String, Json>> {
    let mut all = vec![spec.clone()];
    for field in wrong.iter().filter(|field| !spec.contains_key(*field)) {
        for value in guesses(field) {
            let mut spec = spec.clone();
            spec.insert(field.clone(), value);
            all.push(spec);
        }
    }
    all
}

/// What a field may hold: all of it where that is little, else its ends and what is common.
fn guesses(field: &str) -> Vec<Json> {
    let schema = Schemas::all().field("ReplicationGroup", field);
    let within = |key: &str| schema.and_then(|schema| schema.get(key));
    let number = |key: &str| within(key).and_then(Json::as_f64).map(|number| number as i64);
    if let Some(words) = within("enum").and_then(Json::as_array) {
        return words.clone();
    }
    match (field, within("type").and_then(Json::as_str)) {
        (_, Some("boolean")) => vec![json!(true), json!(false)],
        (_, Some("integer")) => {
            let (least, most) = (number("minimum").unwrap_or(0), number("maximum").unwrap_or(6));
            [least, least + 1, least + 2, most].map(|number| json!(number)).into()
        }
        ("nodeGroupConfiguration", _) => [1, 2, 3]
            .into_iter()
            .flat_map(|count| {
                [json!({}), json!({"replicaCount": 1}), json!({"replicaCount": 2})]
                    .map(|entry| json!(vec![entry; count]))
            })
            .collect(),
        ("engineVersion", _) => ["6.2", "7.0", "7.1", "7.2", "8.0", "9.0"].map(|text| json!(text)).into(),
        ("kubernetes", _) => vec![json!({"resources": {"limits": {"memory": "1Gi"}}})],
        _ => Vec::new(),
    }
}

fn is_not_built(refusal: &Refusal) -> bool {
    use kagami_api::properties::{COMPATIBLE_REFUSED, DELETION_SNAPSHOT_REFUSED, sentence};
    let message = refusal.message.as_str();
    message == sentence(&refusal.property)
        || [COMPATIBLE_REFUSED, DELETION_SNAPSHOT_REFUSED].contains(&message)
}

fn of_manifest<K: DeserializeOwned>(manifest: &Manifest) -> Option<K> {
    object(&manifest.name, manifest.spec.as_object()?)
}

fn object<K: DeserializeOwned>(name: &str, spec: &Map<String, Json>) -> Option<K> {
    let object: Json = json!({"metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).ok()
}
