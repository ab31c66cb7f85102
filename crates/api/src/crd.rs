//! The CustomResourceDefinitions, as they are committed under `crds/` and installed by the chart.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::rules::{self, AdmissionRule};
use crate::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};

/// The CustomResourceDefinitions of all kinds, with their admission rules.
///
/// These, and not what `CustomResourceExt::crd` gives, are the definitions: the rules of [`rules`] are put in here, and `null`
/// is no value of any field, because a rule that meets a `null` fails with a message that helps nobody.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        finish(ReplicationGroup::crd(), &rules::replication_group()),
        finish(ParameterGroup::crd(), &rules::parameter_group()),
        finish(SubnetGroup::crd(), &rules::subnet_group()),
        finish(SecurityGroup::crd(), &rules::security_group()),
    ]
}

fn finish(crd: CustomResourceDefinition, rules: &[AdmissionRule]) -> CustomResourceDefinition {
    let Ok(mut value) = serde_json::to_value(&crd) else { return crd };
    if let Some(schema) = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
        bound_addresses(schema);
        rules::install(schema, rules);
    }
    serde_json::from_value(value).unwrap_or(crd)
}

/// Takes `nullable` out. Also what an API server warns of: formats that it does not know, titles, empty defaults.
fn tidy(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    schema.remove("nullable");
    schema.remove("title");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = unwrap_lines(text);
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    let known = ["int32", "int64", "date-time", "byte"];
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| !known.contains(&format)) {
        schema.remove("format");
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            tidy(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
}

/// A range of addresses, as far as a pattern can tell; the operator reads it.
const ADDRESSES: &str =
    r"^([0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/[0-9]{1,3})$";

/// The peer of an ingress is Kubernetes' own type, whose addresses are any text; a NetworkPolicy with such a text is refused, and
/// then it is late.
fn bound_addresses(schema: &mut Value) {
    let block = "/properties/spec/properties/ingress/items/properties/from/properties/ipBlock/properties";
    let Some(Value::Object(block)) = schema.pointer_mut(block) else { return };
    let range = [("maxLength", Value::from(49)), ("pattern", Value::from(ADDRESSES))];
    if let Some(Value::Object(cidr)) = block.get_mut("cidr") {
        cidr.extend(range.clone().map(|(key, value)| (key.to_owned(), value)));
    }
    if let Some(Value::Object(except)) = block.get_mut("except") {
        except.insert("maxItems".to_owned(), Value::from(64));
        if let Some(Value::Object(items)) = except.get_mut("items") {
            items.extend(range.map(|(key, value)| (key.to_owned(), value)));
        }
    }
}

/// Doc comments break lines where the source does; a description breaks paragraphs only.
fn unwrap_lines(text: &str) -> String {
    let paragraph = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n\n")
}

/// A CustomResourceDefinition as the text of its file.
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(crd).unwrap_or_default();
    whole_numbers(&mut value);
    let mut text =
        String::from("# Made from crates/api by `UPDATE=1 cargo test -p kagami-api`; do not edit.\n");
    write_yaml(&value, 0, &mut text);
    text
}

/// `500.0` is `500` to everybody but a number type without integers.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}

/// YAML with keys in the order of the map and every text in JSON's quotes where it could be read as something else: what a
/// definition needs and no more, so that the committed files depend on no library's taste.
fn write_yaml(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            // Whether a map keeps its order or sorts is decided by whoever else is compiled with serde_json.
            for (key, value) in map.iter().collect::<BTreeMap<_, _>>() {
                text.push_str(&format!("{pad}{}:", scalar(key)));
                write_child(value, indent, text);
            }
        }
        Value::Array(values) => {
            for value in values {
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        write_yaml(value, indent + 2, &mut inner);
                        text.push_str(&format!("{pad}- {}", inner.trim_start()));
                    }
                    _ => {
                        text.push_str(&format!("{pad}-"));
                        write_child(value, indent, text);
                    }
                }
            }
        }
        _ => text.push_str(&format!("{pad}{}\n", leaf(value))),
    }
}

fn write_child(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            write_yaml(value, indent + 2, text);
        }
        Value::Array(values) if !values.is_empty() => {
            text.push('\n');
            write_yaml(value, indent, text);
        }
        _ => text.push_str(&format!(" {}\n", leaf(value))),
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/')
        && text.len() > 1
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./ ".contains(&byte))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
