//! The outputs of a template that name something that Kagami makes.

use std::collections::BTreeMap;

use crate::evaluate::Evaluator;
use crate::problem::Place;
use crate::value::{Found, Text, Value, short};

/// The outputs with the names on Kubernetes, by their logical ids.
pub(crate) fn read(evaluator: &Evaluator<'_>) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    for entry in &evaluator.template.outputs {
        let place = Place::section(format!("Outputs.{}", short(&entry.key)));
        if evaluator.is_made(&entry.value, &place) != Some(true) {
            continue;
        }
        let Some(value) = entry.value.get("Value") else {
            evaluator.findings.error(entry.at, &place, "an output needs a Value");
            continue;
        };
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
