//! What CloudFormation has no word for, in the attribute `Metadata` of a resource, where AWS keeps it and does nothing with it:
//!
//! ```yaml
//! Metadata:
//!   elasticache.kagami.dev:
//!     kubernetes: {storage: {size: 8Gi}}
//! ```
//!
//! Only what no property can say may stand here, so that nothing is said twice.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::evaluate::Evaluator;
use crate::problem::Place;
use crate::properties::{Kind, Property, field_name};
use crate::schema::{Schemas, Step};
use crate::template::Resource;
use crate::tree::Node;
use crate::value::{Found, Value, short};

/// The name of the object, beside the fields of its spec.
const NAME: &str = "name";
/// Fields of the spec that attributes of the resource say.
const ATTRIBUTES: [&str; 2] = ["deletionPolicy", "updatePolicy"];

fn node(resource: &Resource) -> Option<&Node> {
    Some(&resource.attribute("Metadata")?.value.get(kagami_api::names::GROUP)?.value)
}

fn place(resource: &Resource) -> Place {
    resource.place().child("Metadata").child(kagami_api::names::GROUP)
}

/// The name that is given to the object; `None` inside where a problem was reported.
pub(crate) fn name(evaluator: &Evaluator<'_>, resource: &Resource) -> Option<Option<String>> {
    let entry = node(resource)?.get(NAME)?;
    let place = place(resource).child(NAME);
    let Some(text) = evaluator.text(&entry.value, &place) else { return Some(None) };
    if text.secret.is_some() || !is_name(&text.text) {
        let message = format!(
            "{:?} is not a name on Kubernetes: lower-case letters, digits, hyphens and dots, at most 253",
            short(text.shown())
        );
        evaluator.findings.error(entry.value.at, &place, message);
        return Some(None);
    }
    Some(Some(text.text))
}

/// Whether a text is a name of Kubernetes (a subdomain of RFC 1123).
pub(crate) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let edge =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && edge(label.bytes().next())
            && edge(label.bytes().next_back())
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The fields of the spec that no property can say.
pub(crate) fn fields(kind: &str, table: &[Property]) -> Vec<String> {
    let said = |field: &String| {
        ATTRIBUTES.contains(&field.as_str())
            || table.iter().any(|property| {
                !matches!(property.kind, Kind::ReadOnly) && field_name(property.name) == *field
            })
    };
    Schemas::all().fields(kind).filter(|field| !said(field)).collect()
}

/// What stands in the attribute.
#[derive(Debug)]
pub(crate) struct Extras {
    pub(crate) fields: Map<String, Json>,
    /// The fields that are not here because they are wrong, which has been told.
    pub(crate) wrong: BTreeSet<String>,
    /// Whether nothing else is wrong.
    pub(crate) sound: bool,
}

/// Reads the fields that are given.
pub(crate) fn read(evaluator: &Evaluator<'_>, resource: &Resource, kind: &str, table: &[Property]) -> Extras {
    let known = fields(kind, table);
    let mut read = Extras { fields: Map::new(), wrong: BTreeSet::new(), sound: true };
    let Some(node) = node(resource) else { return read };
    let place = place(resource);
    let Some(found) = evaluator.evaluate(node, &place) else {
        // Any of them may have been meant.
        return Extras { wrong: known.into_iter().collect(), ..read };
    };
    let Value::Map(given) = &found.value else {
        let message = format!("expected a mapping, found {}", found.value.kind());
        evaluator.findings.error(found.at, &place, message);
        return Extras { sound: false, ..read };
    };
    for field in given.iter().filter(|field| field.name != NAME) {
        let place = place.child(&short(&field.name));
        if !known.contains(&field.name) {
            let hint = evaluator.findings.hint(&field.name, known.iter().map(String::as_str));
            let message = format!("what properties can say, and what is unknown, has no place here{hint}");
            evaluator.findings.error(field.at, &place, message);
            read.sound = false;
            continue;
        }
        let schema = Schemas::all().field(kind, &field.name);
        match value(evaluator, schema, &field.found, &place) {
            Some(value) => drop(read.fields.insert(field.name.clone(), value)),
            None => drop(read.wrong.insert(field.name.clone())),
        }
    }
    read
}

/// The node that stands at a path below the attribute, as far down as it is written out.
pub(crate) fn written<'a>(resource: &'a Resource, path: &[Step]) -> Option<&'a Node> {
    let Some(Step::Field(first)) = path.first() else { return None };
    let top = node(resource)?.get(first)?;
    Some(below(&top.value, &path[1..], |field| field.to_owned()))
}

/// The node at a path, as far down as it is written out.
pub(crate) fn below<'a>(node: &'a Node, path: &[Step], key: impl Fn(&str) -> String) -> &'a Node {
    let mut node = node;
    for step in path {
        let next = match step {
            Step::Field(field) => node.get(&key(field)).map(|entry| &*entry.value),
            Step::Item(index) => node.items().and_then(|items| items.get(*index)).map(|item| &**item),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// A value as its schema wants it: a template does not tell numbers from texts.
fn value(evaluator: &Evaluator<'_>, schema: Option<&Json>, found: &Found, place: &Place) -> Option<Json> {
    let within = |key: &str| schema.and_then(|schema| schema.get(key));
    match &found.value {
        Value::Absent => Some(Json::Null),
        Value::Text(_) => {
            let text = evaluator.known(found, place)?;
            if text.secret.is_some() {
                let message = "a secret cannot stand here: it would be printed";
                evaluator.findings.error(found.at, place, message);
                return None;
            }
            let either = within("x-kubernetes-int-or-string").is_some() && text.plain;
            let typed = match within("type").and_then(Json::as_str) {
                Some("integer") => text.text.trim().parse::<i64>().ok().map(|number| json!(number)),
                Some("boolean") => text.text.trim().parse::<bool>().ok().map(|word| json!(word)),
                Some("number") => text.text.trim().parse::<f64>().ok().map(|number| json!(number)),
                _ if either => text.text.parse::<i64>().ok().map(|number| json!(number)),
                _ => None,
            };
            Some(typed.unwrap_or_else(|| json!(text.text)))
        }
        Value::List(items) => {
            let values = items.iter().enumerate();
            values.map(|(index, item)| value(evaluator, within("items"), item, &place.item(index))).collect()
        }
        Value::Map(fields) => {
            let mut map = Map::new();
            let mut sound = true;
            for field in fields {
                let schema = within("properties")
                    .and_then(|properties| properties.get(&field.name))
                    .or(within("additionalProperties"));
                match value(evaluator, schema, &field.found, &place.child(&short(&field.name))) {
                    Some(value) => {
                        map.insert(field.name.clone(), value);
                    }
                    None => sound = false,
                }
            }
            sound.then_some(Json::Object(map))
        }
    }
}
