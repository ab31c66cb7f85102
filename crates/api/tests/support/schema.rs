//! What an API server refuses by a definition: its schema, and its rules. The part of OpenAPI that our definitions use.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use regex::Regex;
use serde_json::Value;

/// The schema of a kind, as JSON.
pub(crate) fn schema(kind: &str) -> &'static Value {
    &schemas()[kind].0
}

fn schemas() -> &'static BTreeMap<String, (Value, CompiledSchema)> {
    static SCHEMAS: OnceLock<BTreeMap<String, (Value, CompiledSchema)>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let of = |definition: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let schema = serde_json::to_value(schema).unwrap();
            let compiled = compile_schema(&schema);
            assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
            (definition.spec.names.kind, (schema, compiled))
        };
        kagami_api::crds().into_iter().map(of).collect()
    })
}

/// What an object is refused with, and by whom: first by the schema, and if that finds nothing, by the rules.
pub(crate) fn refusals(kind: &str, new: &Value, old: Option<&Value>) -> (Vec<String>, Vec<String>) {
    let mut by_schema = Vec::new();
    check(schema(kind), new, "", &mut by_schema);
    if !by_schema.is_empty() {
        return (by_schema, Vec::new());
    }
    (by_schema, by_rules(kind, new, old))
}

/// What the rules say, whatever the schema does.
pub(crate) fn by_rules(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate_compiled(&schemas()[kind].1, new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut refuse = |what: String| found.push(format!("{}: {what}", path.trim_start_matches('.')));
    let either = schema["x-kubernetes-int-or-string"] == true;
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => !either || value.is_string() || value.is_i64(),
    };
    if !fits {
        return refuse(format!("must be of type {kind}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        refuse(format!("unsupported value {value}"));
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            refuse("too short".to_owned());
        }
        if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            refuse("too long".to_owned());
        }
        if schema["pattern"].as_str().is_some_and(|pattern| !Regex::new(pattern).unwrap().is_match(text)) {
            refuse("does not match".to_owned());
        }
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|least| number < least) {
            refuse("too small".to_owned());
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            refuse("too large".to_owned());
        }
        let bits = if schema["format"] == "int32" { f64::from(i32::MAX) } else { f64::INFINITY };
        if number.abs() > bits {
            refuse("no int32".to_owned());
        }
    }
    match value {
        Value::Array(items) => {
            if schema["maxItems"].as_u64().is_some_and(|most| items.len() as u64 > most) {
                refuse("too many items".to_owned());
            }
            if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
                refuse("too few items".to_owned());
            }
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let unique = keys.is_some() || schema["x-kubernetes-list-type"] == "set";
            let key = |item: &Value| match keys {
                Some(keys) => keys.iter().map(|key| item[key.as_str().unwrap()].to_string()).collect(),
                None => item.to_string(),
            };
            let of: Vec<String> = items.iter().map(key).collect();
            if unique && of.iter().enumerate().any(|(at, item)| of[..at].contains(item)) {
                refuse("duplicate value".to_owned());
            }
            for (at, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        Value::Object(map)
            if schema["properties"].is_object() || schema["additionalProperties"].is_object() =>
        {
            if schema["maxProperties"].as_u64().is_some_and(|most| map.len() as u64 > most) {
                refuse("too many properties".to_owned());
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap();
                if !map.contains_key(name) {
                    refuse(format!("{name} is required"));
                }
            }
            for (name, inner) in map {
                let below = format!("{path}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (known @ Value::Object(_), _) | (Value::Null, known @ Value::Object(_)) => {
                        check(known, inner, &below, found);
                    }
                    // The definition says nothing of these two; the API server knows them.
                    _ if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) => {}
                    _ => found.push(format!("{}: unknown field", below.trim_start_matches('.'))),
                }
            }
        }
        _ => {}
    }
}
