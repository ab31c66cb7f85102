//! What the definitions say of an object: lengths, ranges, patterns and words. Whatever is converted is held to them, so that
//! the API server has nothing left to say but its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use regex_lite::Regex;
use serde_json::{Map, Value as Json};

/// The schemas of all kinds.
pub(crate) struct Schemas(BTreeMap<String, Json>);

/// What is wrong with a value: the way to it from the spec, and a sentence.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) path: Vec<Step>,
    pub(crate) message: String,
    /// What might have been meant.
    pub(crate) candidates: Vec<&'static str>,
}

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Field(String),
    Item(usize),
}

impl Schemas {
    /// The schemas, which are the same in every template.
    pub(crate) fn all() -> &'static Self {
        static ALL: OnceLock<Schemas> = OnceLock::new();
        ALL.get_or_init(Self::new)
    }

    fn new() -> Self {
        let kinds = kagami_api::crds().into_iter().filter_map(|definition| {
            let kind = definition.spec.names.kind.clone();
            let schema = definition.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
            let schema = serde_json::to_value(schema).ok()?;
            Some((kind, schema.pointer("/properties/spec")?.clone()))
        });
        Self(kinds.collect())
    }

    /// The names of the fields of a spec.
    pub(crate) fn fields(&self, kind: &str) -> impl Iterator<Item = String> {
        let properties = self.0.get(kind).and_then(|schema| schema.get("properties")?.as_object());
        properties.into_iter().flat_map(|properties| properties.keys().cloned())
    }

    /// The schema of a field of a spec.
    pub(crate) fn field(&self, kind: &str, field: &str) -> Option<&Json> {
        self.0.get(kind)?.get("properties")?.get(field)
    }

    /// Everything that the definition of the kind does not allow in a spec.
    pub(crate) fn violations(&'static self, kind: &str, spec: &Json) -> Vec<Violation> {
        let mut found = Vec::new();
        if let Some(schema) = self.0.get(kind) {
            check(schema, spec, &mut Vec::new(), &mut found);
        }
        found
    }
}

fn check(schema: &'static Json, value: &Json, path: &mut Vec<Step>, found: &mut Vec<Violation>) {
    let mut wrong =
        |message: String| found.push(Violation { path: path.clone(), message, candidates: Vec::new() });
    let number = |key: &str| schema.get(key).and_then(Json::as_f64);
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    let either = schema.get("x-kubernetes-int-or-string").and_then(Json::as_bool) == Some(true);
    if let Some(wanted) = schema.get("type").and_then(Json::as_str)
        && wanted != kind
        && !(wanted == "number" && kind == "integer")
    {
        wrong(format!("expected the type {wanted}, found {kind}"));
        return;
    }
    if either && !matches!(kind, "integer" | "string") {
        wrong(format!("expected an integer or a string, found {kind}"));
        return;
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array)
        && !words.contains(value)
    {
        let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
        wrong(format!("{value} is not one of {}", words.join(", ")));
    }
    let mut sized = |size: usize, what: &str, least: &str, most: &str| {
        if let Some(least) = number(least)
            && (size as f64) < least
        {
            wrong(format!("there are {size} {what}; the least is {least}"));
        }
        if let Some(most) = number(most)
            && size as f64 > most
        {
            wrong(format!("there are {size} {what}; the most is {most}"));
        }
    };
    match value {
        Json::String(text) => {
            sized(text.chars().count(), "characters", "minLength", "maxLength");
            if let Some(pattern) = schema.get("pattern").and_then(Json::as_str)
                && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
            {
                wrong(format!("{text:?} does not match {pattern}"));
            }
        }
        Json::Number(_) => {
            let value = value.as_f64().unwrap_or_default();
            let least = number("minimum").unwrap_or(f64::NEG_INFINITY);
            let most = number("maximum").unwrap_or(f64::INFINITY);
            if !(least..=most).contains(&value) {
                wrong(format!("{value} is out of range: {least} to {most}"));
            }
        }
        Json::Array(items) => {
            sized(items.len(), "entries", "minItems", "maxItems");
            if let Some(twice) = repeated(schema, items) {
                wrong(format!("{twice} stands here twice"));
            }
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Item(index));
                check(schema, item, path, found);
                path.pop();
            }
        }
        Json::Object(fields) => {
            sized(fields.len(), "entries", "minProperties", "maxProperties");
            object(schema, fields, path, found);
        }
        _ => {}
    }
}

fn object(
    schema: &'static Json,
    fields: &Map<String, Json>,
    path: &mut Vec<Step>,
    found: &mut Vec<Violation>,
) {
    for required in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
        if let Some(name) = required.as_str()
            && !fields.contains_key(name)
        {
            let message = format!("{name} is required");
            found.push(Violation { path: path.clone(), message, candidates: Vec::new() });
        }
    }
    let properties = schema.get("properties").and_then(Json::as_object);
    let others = schema.get("additionalProperties");
    let open = schema.get("x-kubernetes-preserve-unknown-fields").and_then(Json::as_bool) == Some(true);
    for (name, value) in fields {
        let known = properties
            .and_then(|properties| properties.get(name))
            .or(others.filter(|other| other.is_object()));
        path.push(Step::Field(name.clone()));
        match known {
            Some(schema) => check(schema, value, path, found),
            None if open || others.is_some() => {}
            None => {
                let candidates = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                let message = "there is no such field".to_owned();
                found.push(Violation { path: path.clone(), message, candidates });
            }
        }
        path.pop();
    }
}

/// An entry of a list that stands in it twice where the definition allows each but once.
fn repeated(schema: &Json, items: &[Json]) -> Option<String> {
    let keys: Vec<&str> = match schema.get("x-kubernetes-list-type").and_then(Json::as_str)? {
        "set" => Vec::new(),
        "map" => {
            schema.get("x-kubernetes-list-map-keys")?.as_array()?.iter().filter_map(Json::as_str).collect()
        }
        _ => return None,
    };
    let mut seen = BTreeSet::new();
    items.iter().find_map(|item| {
        let identity = match keys.as_slice() {
            [] => item.to_string(),
            keys => keys
                .iter()
                .filter_map(|key| item.get(key))
                .map(Json::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        (!seen.insert(identity.clone())).then_some(identity)
    })
}
