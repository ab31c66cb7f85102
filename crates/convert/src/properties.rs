//! Properties by their types: from what a template says, loosely, to what the API wants, strictly.

mod scalar;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::evaluate::{Evaluator, refusal};
use crate::extras::Extras;
use crate::names;
use crate::problem::{At, Place};
use crate::template::Resource;
use crate::tree::Body;
use crate::value::{Field, Found, Text, Value, short};

/// A property of a resource type, or of a structure in one.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// The type of a property.
#[derive(Debug)]
pub(crate) enum Kind {
    Bool,
    /// From the least to the most.
    Int(i64, i64),
    /// With the most characters.
    Text(usize),
    /// A text without spaces around it, with the most characters.
    Word(usize),
    /// Digits, with the most characters.
    Digits(usize),
    /// A text that may name something that stays on AWS; then its logical id stands for it.
    Outside,
    /// One of some words, in any case.
    Choice(&'static [&'static str]),
    Texts,
    /// Texts that may name something that stays on AWS; then its logical id stands for it.
    OutsideTexts,
    Object(&'static [Property]),
    Objects(&'static [Property]),
    /// Any names with texts.
    Parameters,
    Tags,
    /// `hh:mm-hh:mm`.
    Daily,
    /// `ddd:hh:mm-ddd:hh:mm`.
    Weekly,
    /// The name of a resource of a type.
    Reference(&'static str),
    /// The names of resources of a type.
    References(&'static str),
    /// Set by AWS, not by a template.
    ReadOnly,
    /// Read elsewhere, or without a meaning on Kubernetes.
    Elsewhere,
}

pub(crate) const fn property(name: &'static str, kind: Kind) -> Property {
    Property { name, kind, required: false }
}

pub(crate) const fn required(name: &'static str, kind: Kind) -> Property {
    Property { name, kind, required: true }
}

/// `NumNodeGroups` is `numNodeGroups`, `MultiAZEnabled` is `multiAZEnabled`.
pub(crate) fn field_name(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// The other way round: `multiAZEnabled` is `MultiAZEnabled`.
pub(crate) fn property_name(field: &str) -> String {
    let mut chars = field.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// The properties of one resource, converted.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) values: Map<String, Json>,
    at: BTreeMap<&'static str, At>,
    /// The fields whose values are not here because they are wrong, which has been told.
    pub(crate) wrong: BTreeSet<String>,
    /// Whether nothing is wrong.
    pub(crate) sound: bool,
    /// Whether more may have been written than could be read, so that nothing can be said of what is not here.
    pub(crate) unread: bool,
}

impl Sheet {
    /// A value, by its CloudFormation name.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.values.get(&field_name(name))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    pub(crate) fn set(&mut self, name: &str, value: Json) {
        self.values.insert(field_name(name), value);
    }

    /// Takes fields that no property says.
    pub(crate) fn extend(&mut self, extras: Extras) {
        self.sound &= extras.wrong.is_empty() && extras.sound;
        self.values.extend(extras.fields);
        self.wrong.extend(extras.wrong);
    }

    /// Lets go of a value that is wrong, which has been told.
    pub(crate) fn mark_wrong(&mut self, name: &str) {
        let field = field_name(name);
        self.values.remove(&field);
        self.wrong.insert(field);
        self.sound = false;
    }

    /// Whether a property was written and is not here because it is wrong.
    pub(crate) fn is_wrong(&self, name: &str) -> bool {
        self.unread || self.wrong.contains(&field_name(name))
    }

    /// Where a property stands, or the resource where it does not.
    pub(crate) fn at(&self, name: &str, resource: &Resource) -> At {
        self.at.get(name).copied().unwrap_or(resource.at)
    }
}

/// Converts the properties of a resource by their table.
pub(crate) fn read(evaluator: &Evaluator<'_>, resource: &Resource, table: &'static [Property]) -> Sheet {
    let mut sheet = Sheet { sound: true, ..Sheet::default() };
    let place = resource.place().child("Properties");
    let entries = match resource.attribute("Properties").map(|entry| &entry.value) {
        None => &[][..],
        Some(node) => match &node.body {
            Body::Map(entries) if node.function().is_none() => entries,
            _ => {
                let message = "the properties have to be written out as a mapping";
                evaluator.findings.error(node.at, &place, message);
                sheet.sound = false;
                sheet.unread = true;
                return sheet;
            }
        },
    };
    for entry in entries {
        let Some(property) = table.iter().find(|property| property.name == entry.key) else {
            unknown(evaluator, &entry.key, entry.at, table, &place);
            sheet.sound = false;
            sheet.unread |= entry.key.starts_with("Fn::");
            continue;
        };
        let place = place.child(property.name);
        sheet.at.insert(property.name, entry.value.at);
        match property.kind {
            Kind::Elsewhere => continue,
            Kind::ReadOnly => {
                evaluator.findings.error(
                    entry.at,
                    &place,
                    "this is set by AWS and cannot be written: remove it",
                );
                sheet.sound = false;
                continue;
            }
            _ => {}
        }
        match evaluator
            .evaluate(&entry.value, &place)
            .and_then(|found| typed(evaluator, property, &found, &place))
        {
            Some(Some(value)) => sheet.set(property.name, value),
            Some(None) => {}
            None => sheet.mark_wrong(property.name),
        }
    }
    for property in table.iter().filter(|property| property.required) {
        if sheet.get(property.name).is_none() && !sheet.is_wrong(property.name) && !reads_elsewhere(property)
        {
            let message = format!("{} is required", property.name);
            evaluator.findings.error(resource.at, &place, message);
            sheet.sound = false;
        }
    }
    sheet
}

fn reads_elsewhere(property: &Property) -> bool {
    matches!(property.kind, Kind::Elsewhere)
}

fn unknown(evaluator: &Evaluator<'_>, name: &str, at: At, table: &'static [Property], place: &Place) {
    if let Some(refusal) = refusal(name) {
        return evaluator.findings.error(at, place, refusal);
    }
    let hint = evaluator.findings.hint(name, table.iter().map(|property| property.name));
    evaluator.findings.error(at, &place.child(&short(name)), format!("unknown property{hint}"));
}

/// The value of a property; `Some(None)` where it is as if it were not written.
pub(crate) fn typed(
    evaluator: &Evaluator<'_>,
    property: &Property,
    found: &Found,
    place: &Place,
) -> Option<Option<Json>> {
    let wrong = |message: String| -> Option<Option<Json>> {
        evaluator.findings.error(found.at, place, message);
        None
    };
    match (&property.kind, &found.value) {
        (_, Value::Absent) => return Some(None),
        (Kind::Outside, Value::Text(Text { unknown: Some(_), reference: Some(reference), .. })) => {
            let message = format!("{} stays on AWS; its logical id stands here", short(&reference.id));
            evaluator.findings.warn(found.at, place, message);
            return Some(Some(json!(reference.id)));
        }
        (Kind::Outside, Value::Text(Text { unknown: Some(_), secret: None, text, .. }))
            if text.contains("${") =>
        {
            let message = format!("this stays on AWS; {} stands here", short(text));
            evaluator.findings.warn(found.at, place, message);
            return Some(Some(json!(text)));
        }
        (
            Kind::Bool
            | Kind::Int(..)
            | Kind::Text(_)
            | Kind::Word(_)
            | Kind::Digits(_)
            | Kind::Outside
            | Kind::Choice(_)
            | Kind::Daily
            | Kind::Weekly
            | Kind::Reference(_),
            _,
        ) => {
            let text = evaluator.known(found, place)?;
            if text.secret.is_some() {
                return wrong("a secret cannot stand here: it would be printed".to_owned());
            }
            if text.text.is_empty() {
                return Some(None);
            }
            return scalar::scalar(evaluator, property, &text, found.at, place).map(Some);
        }
        _ => {}
    }
    match (&property.kind, &found.value) {
        (Kind::Object(table), Value::Map(fields)) => {
            object(evaluator, table, fields, found.at, place).map(Some)
        }
        (Kind::Object(_), other) => wrong(format!("expected a mapping, found {}", other.kind())),
        (Kind::Parameters, Value::Map(fields)) => {
            let mut map = Map::new();
            let mut sound = true;
            for field in fields {
                let place = place.child(&short(&field.name));
                match evaluator.known(&field.found, &place) {
                    Some(text) if text.secret.is_some() => {
                        let message = "a secret cannot stand here: it would be printed";
                        evaluator.findings.error(field.found.at, &place, message);
                        sound = false;
                    }
                    Some(text) => {
                        map.insert(field.name.clone(), json!(text.text));
                    }
                    None => sound = false,
                }
            }
            sound.then_some(Some(Json::Object(map)))
        }
        (Kind::Parameters, other) => wrong(format!("expected a mapping, found {}", other.kind())),
        (kind, value) => {
            let items = match value {
                Value::List(items) => items,
                Value::Text(text) if text.unknown.is_some() => {
                    evaluator.known(found, place)?;
                    return None;
                }
                Value::Text(text) if text.text.is_empty() => return Some(None),
                other => return wrong(format!("expected a list, found {}", other.kind())),
            };
            list(evaluator, kind, items, place).map(Some)
        }
    }
}

fn list(evaluator: &Evaluator<'_>, kind: &Kind, items: &[Found], place: &Place) -> Option<Json> {
    let mut values = Vec::with_capacity(items.len());
    let mut seen = BTreeSet::new();
    let mut sound = true;
    for (index, item) in items.iter().enumerate() {
        let place = place.item(index);
        let value = match (kind, &item.value) {
            (Kind::Tags, value) => match tag(evaluator, value, item.at, &place) {
                Some(None) => continue,
                Some(Some(tag)) => Some(tag),
                None => None,
            },
            (Kind::Objects(table), Value::Map(fields)) => object(evaluator, table, fields, item.at, &place),
            (Kind::Objects(_), other) => {
                evaluator.findings.error(
                    item.at,
                    &place,
                    format!("expected a mapping, found {}", other.kind()),
                );
                None
            }
            (Kind::OutsideTexts, Value::Text(Text { unknown: Some(_), reference: Some(reference), .. })) => {
                let message = format!("{} stays on AWS; its logical id stands here", short(&reference.id));
                evaluator.findings.warn(item.at, &place, message);
                Some(json!(reference.id))
            }
            _ => match evaluator.known(item, &place) {
                Some(text) if text.secret.is_some() => {
                    let message = "a secret cannot stand here: it would be printed";
                    evaluator.findings.error(item.at, &place, message);
                    None
                }
                Some(text) if text.text.is_empty() => continue,
                Some(text) => match kind {
                    Kind::References(kind) => {
                        refer(evaluator, &text, kind, item.at, &place).map(Json::String)
                    }
                    _ => Some(json!(text.text)),
                },
                None => None,
            },
        };
        let identity = match (kind, &value) {
            (Kind::Tags, Some(tag)) => tag.get("key").and_then(Json::as_str).map(str::to_owned),
            (Kind::References(_), Some(Json::String(name))) => Some(name.clone()),
            _ => None,
        };
        if let Some(identity) = identity
            && !seen.insert(identity.clone())
        {
            evaluator.findings.error(item.at, &place, format!("{} stands here twice", short(&identity)));
            sound = false;
        }
        match value {
            Some(value) => values.push(value),
            None => sound = false,
        }
    }
    sound.then_some(Json::Array(values))
}

fn object(
    evaluator: &Evaluator<'_>,
    table: &'static [Property],
    fields: &[Field],
    at: At,
    place: &Place,
) -> Option<Json> {
    let mut map = Map::new();
    let mut sound = true;
    for field in fields {
        let Some(property) = table.iter().find(|property| property.name == field.name) else {
            unknown(evaluator, &field.name, field.at, table, place);
            sound = false;
            continue;
        };
        match typed(evaluator, property, &field.found, &place.child(property.name)) {
            Some(Some(value)) => {
                map.insert(field_name(property.name), value);
            }
            Some(None) => {}
            None => sound = false,
        }
    }
    for property in table.iter().filter(|property| property.required) {
        if sound && !map.contains_key(&field_name(property.name)) {
            evaluator.findings.error(at, place, format!("{} is required", property.name));
            sound = false;
        }
    }
    sound.then_some(Json::Object(map))
}

fn tag(evaluator: &Evaluator<'_>, value: &Value, at: At, place: &Place) -> Option<Option<Json>> {
    let wrong = |message: String| {
        evaluator.findings.error(at, place, message);
        None
    };
    let Value::Map(fields) = value else {
        return wrong(format!("a tag is {{Key, Value}}; this is {}", value.kind()));
    };
    if let Some(other) = fields.iter().find(|field| !matches!(field.name.as_str(), "Key" | "Value")) {
        let place = place.child(&short(&other.name));
        evaluator.findings.error(other.at, &place, "a tag has a Key and a Value and nothing else");
        return None;
    }
    let mut texts = ["Key", "Value"].map(|name| {
        let found = &fields.iter().find(|field| field.name == name)?.found;
        match &found.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    });
    let (Some(key), Some(value)) = (texts[0].take(), texts[1].take()) else {
        return wrong("a tag needs a Key and a Value, both of them texts".to_owned());
    };
    if let Some(why) = key.unknown.as_ref().or(value.unknown.as_ref()) {
        evaluator.findings.warn(at, place, format!("the tag is left out: {why}"));
        return Some(None);
    }
    if key.secret.is_some() || value.secret.is_some() {
        return wrong("a secret cannot stand in a tag: it would be printed".to_owned());
    }
    let length = key.text.chars().count();
    if !(1..=128).contains(&length) || key.text.to_lowercase().starts_with("aws:") {
        let key = short(&key.text);
        return wrong(format!(
            "{key:?} cannot be the key of a tag: 1 to 128 characters, not beginning with aws:"
        ));
    }
    if value.text.chars().count() > 256 {
        return wrong("the value of a tag has at most 256 characters".to_owned());
    }
    Some(Some(json!({"key": key.text, "value": value.text})))
}

/// The name of a resource that a property refers to, by `Ref` or by a name from outside of the template.
fn refer(evaluator: &Evaluator<'_>, text: &Text, kind: &str, at: At, place: &Place) -> Option<String> {
    if let Some(resource) = evaluator.referent(text) {
        if resource.kind == kind {
            return Some(text.text.clone());
        }
        let message = format!("{} is {}, expected {kind}", short(&resource.id), short(&resource.kind));
        evaluator.findings.error(at, place, message);
        return None;
    }
    let lower = text.text.to_lowercase();
    if kind == names::PARAMETER_GROUP && lower.starts_with("default.") {
        return Some(lower);
    }
    let legal = if crate::extras::is_name(&lower) { lower.clone() } else { names::legal(&lower, 63) };
    let here = kind.rsplit("::").next().unwrap_or(kind);
    // A name that the template itself gives to one of its resources needs no word.
    let own = evaluator.template.resources.iter().filter(|resource| resource.kind == kind).take(50).any(
        |resource| {
            evaluator.findings.quietly(|| evaluator.name(resource, at, place)).as_deref()
                == Some(legal.as_str())
        },
    );
    if !own {
        let was =
            if legal == lower { String::new() } else { format!(" (a legal name for {:?})", short(&lower)) };
        let message =
            format!("the {here} {legal}{was} is not in the template; it has to be in the namespace");
        evaluator.findings.warn(at, place, message);
    }
    Some(legal)
}
