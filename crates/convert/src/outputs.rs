//! The outputs of a template that name something that Kagami makes.

use std::collections::{BTreeMap, HashMap};

use crate::evaluate::{Evaluator, refusal};
use crate::names;
use crate::problem::Place;
use crate::tree::{Body, Node};
use crate::value::{Found, Text, Value, short};

/// The outputs with the names on Kubernetes, by their logical ids.
pub(crate) fn read(evaluator: &Evaluator<'_>) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut mentions = Mentions { evaluator, seen: HashMap::new() };
    for entry in &evaluator.template.outputs {
        let place = Place::section(format!("Outputs.{}", short(&entry.key)));
        if let Some(refusal) = refusal(&entry.key) {
            evaluator.findings.warn(entry.at, &place, format!("the outputs are left out: {refusal}"));
            continue;
        }
        if evaluator.is_made(&entry.value, &place) != Some(true) {
            continue;
        }
        let Some(value) = entry.value.get("Value") else {
            evaluator.findings.error(entry.at, &place, "an output needs a Value");
            continue;
        };
        // What says nothing about caches may say it in any way.
        if !mentions.of(&value.value) {
            continue;
        }
        let place = place.child("Value");
        let Some(found) = evaluator.evaluate(&value.value, &place) else { continue };
        match &found.value {
            Value::Text(text) => {
                if let Some(text) = shown(evaluator, text, &found, &place) {
                    outputs.insert(entry.key.clone(), text);
                }
            }
            // Such as !GetAtt X.ReadEndPoint.Addresses.List.
            Value::List(items) => {
                let texts: Option<Vec<String>> = items
                    .iter()
                    .map(|item| match &item.value {
                        Value::Text(text) => shown(evaluator, text, item, &place),
                        _ => None,
                    })
                    .collect();
                if let Some(texts) = texts.filter(|texts| !texts.is_empty()) {
                    outputs.insert(entry.key.clone(), texts.join(","));
                }
            }
            Value::Absent | Value::Map(_) => {}
        }
    }
    outputs
}

/// Whether a node says something about what Kagami makes, or about what the template does not have. Aliases share nodes, so
/// each is looked at once.
struct Mentions<'a> {
    evaluator: &'a Evaluator<'a>,
    seen: HashMap<*const Node, bool>,
}

impl Mentions<'_> {
    fn of(&mut self, node: &Node) -> bool {
        let key = std::ptr::from_ref(node);
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let found = match &node.body {
            Body::Scalar { .. } => false,
            Body::List(items) => items.iter().any(|item| self.of(item)),
            Body::Map(entries) => entries.iter().any(|entry| {
                let named = match (entry.key.as_str(), &entry.value.body) {
                    ("Ref" | "Fn::GetAtt", Body::Scalar { text, .. }) => self.is_ours(text),
                    ("Fn::GetAtt", Body::List(items)) => {
                        items.first().and_then(|item| item.text()).is_some_and(|id| self.is_ours(id))
                    }
                    ("Fn::Sub", Body::Scalar { text, .. }) => self.in_text(text, None),
                    ("Fn::Sub", Body::List(items)) => {
                        let variables = items.get(1).map(|variables| &**variables);
                        let text = items.first().and_then(|item| item.text());
                        text.is_some_and(|text| self.in_text(text, variables))
                    }
                    _ => false,
                };
                named || self.of(&entry.value)
            }),
        };
        self.seen.insert(key, found);
        found
    }

    fn in_text(&self, text: &str, variables: Option<&Node>) -> bool {
        let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        let is_variable = |name: &str| variables.is_some_and(|variables| variables.get(name).is_some());
        names.into_iter().any(|name| !is_variable(name) && self.is_ours(name))
    }

    fn is_ours(&self, name: &str) -> bool {
        let id = name.split_once('.').map_or(name, |(id, _)| id);
        match self.evaluator.template.resource(id) {
            Some(resource) => names::is_mirrored(&resource.kind),
            None => {
                !name.starts_with("AWS::") && !name.starts_with('!') && !self.evaluator.has_parameter(name)
            }
        }
    }
}

fn shown(evaluator: &Evaluator<'_>, text: &Text, found: &Found, place: &Place) -> Option<String> {
    if !text.mirrored {
        return None;
    }
    match &text.unknown {
        None => Some(text.shown().to_owned()),
        Some(why) => {
            evaluator.findings.warn(found.at, place, format!("the output is left out: {why}"));
            None
        }
    }
}
