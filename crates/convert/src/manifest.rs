//! A Kubernetes object in the making, and what all resources have in common.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kagami_api::properties::{self as classes, Class};
use serde_json::{Map, Value as Json, json};

use crate::evaluate::Evaluator;
use crate::names;
use crate::problem::{At, Place};
use crate::properties::Sheet;
use crate::template::Resource;
use crate::value::short;

/// An object to be.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) spec: Json,
    pub(crate) at: At,
    pub(crate) place: Place,
    /// What is not here because it is wrong, by the names of fields. Where there is any, or anything else was wrong, the object
    /// is here only to be judged, so that one mistake does not hide the next.
    pub(crate) wrong: BTreeSet<String>,
}

impl Manifest {
    /// What another object may refer to before this one exists comes first.
    pub(crate) fn rank(&self) -> usize {
        ["ParameterGroup", "SubnetGroup", "SecurityGroup"]
            .iter()
            .position(|kind| *kind == self.kind)
            .unwrap_or(3)
    }

    pub(crate) fn object(self, namespace: Option<&str>) -> Json {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(self.name));
        if let Some(namespace) = namespace {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        json!({
            "apiVersion": format!("{}/{}", kagami_api::names::GROUP, kagami_api::names::VERSION),
            "kind": self.kind,
            "metadata": metadata,
            "spec": self.spec,
        })
    }
}

const ATTRIBUTES: [&str; 9] = [
    "Condition",
    "CreationPolicy",
    "DeletionPolicy",
    "DependsOn",
    "Metadata",
    "Properties",
    "Type",
    "UpdatePolicy",
    "UpdateReplacePolicy",
];

/// Checks what stands beside `Properties`.
pub(crate) fn attributes(evaluator: &Evaluator<'_>, resource: &Resource) -> bool {
    let mut sound = true;
    let place = resource.place();
    for entry in resource.body.entries().unwrap_or_default() {
        if !ATTRIBUTES.contains(&entry.key.as_str()) {
            let hint = evaluator.findings.hint(&entry.key, ATTRIBUTES);
            let place = place.child(&short(&entry.key));
            evaluator.findings.error(entry.at, &place, format!("a resource has no such attribute{hint}"));
            sound = false;
        }
    }
    if resource.kind == names::REPLICATION_GROUP {
        if let Some(entry) = resource.attribute("CreationPolicy") {
            evaluator.findings.warn(entry.at, &place.child("CreationPolicy"), classes::CREATION_POLICY);
        }
    } else {
        for attribute in ["CreationPolicy", "DeletionPolicy", "UpdatePolicy", "UpdateReplacePolicy"] {
            let Some(entry) = resource.attribute(attribute) else { continue };
            if entry.value.text() != Some("Delete") {
                let message =
                    "it has no counterpart here: this object stays as it is until somebody deletes it";
                evaluator.findings.warn(entry.value.at, &place.child(attribute), message);
            }
        }
    }
    let Some(entry) = resource.attribute("DependsOn") else { return sound };
    let place = place.child("DependsOn");
    let one = [std::rc::Rc::clone(&entry.value)];
    for node in entry.value.items().unwrap_or(&one) {
        let known = node.text().is_some_and(|id| evaluator.template.resource(id).is_some());
        if !known {
            let ids = evaluator.template.resources.iter().map(|resource| resource.id.as_str());
            let message = match node.text() {
                Some(id) => {
                    format!("the template has no resource {}{}", short(id), evaluator.findings.hint(id, ids))
                }
                None => format!("expected the logical id of a resource, found {}", node.kind()),
            };
            evaluator.findings.error(node.at, &place, message);
            sound = false;
        }
    }
    if let Some(round) = round(evaluator, resource) {
        let message =
            format!("the resources depend on each other in a circle: {}", short(&round.join(" -> ")));
        evaluator.findings.error(entry.value.at, &place, message);
        sound = false;
    }
    sound
}

/// What a resource waits for by its own word.
fn awaited(resource: &Resource) -> impl Iterator<Item = &str> {
    let node = resource.attribute("DependsOn").map(|entry| &entry.value);
    let listed = node.and_then(|node| node.items()).into_iter().flatten();
    node.into_iter().filter(|node| node.items().is_none()).chain(listed).filter_map(|node| node.text())
}

/// The shortest way on which a resource waits for itself.
fn round<'a>(evaluator: &Evaluator<'a>, resource: &'a Resource) -> Option<Vec<&'a str>> {
    /// More than a cache waits for in any template that was written for a purpose.
    const MOST: usize = 500;
    let mut looked_at = 0;
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = VecDeque::from([resource]);
    while let Some(waiting) = next.pop_front() {
        for id in awaited(waiting) {
            looked_at += 1;
            if looked_at > MOST {
                return None;
            }
            if id == resource.id {
                let mut way = vec![id, waiting.id.as_str()];
                while let Some(earlier) = before.get(way[way.len() - 1]) {
                    way.push(earlier);
                }
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(id)
                && let Some(awaited) = evaluator.template.resource(id)
            {
                before.insert(id, waiting.id.as_str());
                next.push_back(awaited);
            }
        }
    }
    None
}

/// Says which properties of a resource are recorded only.
pub(crate) fn tell_recorded(
    evaluator: &Evaluator<'_>,
    resource: &Resource,
    sheet: &Sheet,
    classes: &[classes::Property],
) {
    for class in classes {
        if let Class::Recorded(sentence) = class.class
            && sheet.values.contains_key(class.field)
        {
            evaluator.findings.warn(sheet.at(class.name, resource), &resource.place_of(class.name), sentence);
        }
    }
}
