//! What the published schemas of CloudFormation forbid, we forbid too; and every property of theirs is one of ours.
//!
//! `published/` has what the schemas constrain: names, types, bounds, and what cannot be changed. Descriptions are left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod schema;
}

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::schema::refusals;

/// The kinds that are ours, and where an object of ours may leave out what CloudFormation asks for.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("ReplicationGroup", include_str!("published/ReplicationGroup.json"), &["Tags/Value"]),
    ("ParameterGroup", include_str!("published/ParameterGroup.json"), &["Tags/Value"]),
    // Subnets matter for the zones that they are in, and zones are given here.
    ("SubnetGroup", include_str!("published/SubnetGroup.json"), &["SubnetIds", "Tags/Value"]),
];

fn published(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The name of a property as a field: the words begin in lower case, as CloudFormation's own names would in JSON.
fn field(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A value of CloudFormation as one of ours: names become fields, and nothing else changes. The parameters of a parameter group
/// are no names of properties.
fn ours(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| {
                (field(name), if name == "Properties" { value.clone() } else { ours(value) })
            })
            .collect::<Map<String, Value>>()
            .into(),
        Value::Array(items) => items.iter().map(ours).collect(),
        other => other.clone(),
    }
}

fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(at) => root.pointer(at.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// What CloudFormation forbids about a value. Paths have no places of lists, so that they can be named.
fn forbids(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let schema = follow(root, schema);
    let mut forbid = |what: &str| found.push(format!("{path}: {what}"));
    let fits = match schema["type"].as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    if !fits {
        return forbid("type");
    }
    if let Some(text) = value.as_str() {
        let any = |words: &Value| {
            words.as_array().is_some_and(|words| {
                !words.iter().any(|word| word.as_str().unwrap().eq_ignore_ascii_case(text))
            })
        };
        if any(&schema["enumCaseInsensitive"]) || any(&schema["enum"]) {
            forbid("enum");
        }
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least)
            || schema["maxLength"].as_u64().is_some_and(|most| length > most)
        {
            forbid("length");
        }
        if schema["pattern"]
            .as_str()
            .is_some_and(|pattern| !regex::Regex::new(pattern).unwrap().is_match(text))
        {
            forbid("pattern");
        }
    }
    if let Some(number) = value.as_f64()
        && (schema["minimum"].as_f64().is_some_and(|least| number < least)
            || schema["maximum"].as_f64().is_some_and(|most| number > most))
    {
        forbid("bound");
    }
    if let Value::Array(items) = value {
        let repeated = items.iter().enumerate().any(|(at, item)| items[..at].contains(item));
        if schema["uniqueItems"] == true && repeated {
            forbid("uniqueItems");
        }
        for item in items {
            forbids(root, &schema["items"], item, path, found);
        }
    }
    if let Value::Object(map) = value {
        for name in schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()) {
            if !map.contains_key(name) {
                found.push(format!("{path}/{name}: required"));
            }
        }
        for (name, inner) in map {
            let below = format!("{path}/{name}");
            let pattern =
                schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
            match schema["properties"].get(name).or(pattern) {
                Some(known) => forbids(root, known, inner, &below, found),
                None => found.push(format!("{below}: unknown")),
            }
        }
    }
}

/// A value for a schema that is mostly of the right type, and anything otherwise.
fn value_for(root: &Value, schema: &Value) -> BoxedStrategy<Value> {
    let schema = follow(root, schema).clone();
    let words: Vec<Value> =
        schema["enumCaseInsensitive"].as_array().or(schema["enum"].as_array()).cloned().unwrap_or_default();
    let text = prop_oneof![
        Just(json!("a")),
        Just(json!("")),
        "[ -~]{1,8}".prop_map(Value::from),
        Just(json!("0001"))
    ];
    let right = match schema["type"].as_str().unwrap_or_default() {
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => {
            prop_oneof![4 => (-1i64..40).prop_map(Value::from), 1 => any::<i64>().prop_map(Value::from)]
                .boxed()
        }
        "array" => {
            proptest::collection::vec(value_for(root, &schema["items"]), 0..3).prop_map(Value::from).boxed()
        }
        "object" => object_for(root, &schema, 0.6).boxed(),
        "string" if !words.is_empty() => prop_oneof![3 => proptest::sample::select(words), 1 => text].boxed(),
        _ => text.boxed(),
    };
    let wrong = prop_oneof![
        Just(json!(1.5)),
        Just(json!(7)),
        Just(json!("x")),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({ "Unknown": 1 }))
    ];
    prop_oneof![12 => right, 1 => wrong].boxed()
}

fn object_for(root: &Value, schema: &Value, share: f64) -> impl Strategy<Value = Value> + use<> {
    let mut each = Vec::new();
    let readonly: Vec<String> = root["readOnlyProperties"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|path| path.as_str().unwrap().to_owned())
        .collect();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if readonly.iter().any(|path| path.starts_with(&format!("/properties/{name}"))) {
            continue;
        }
        // What is required is mostly there, or every object would be refused for the same reason.
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        let share = if required { 0.95 } else { share };
        let name = name.clone();
        each.push(
            proptest::option::weighted(share, value_for(root, inner))
                .prop_map(move |value| Some((name.clone(), value?)))
                .boxed(),
        );
    }
    each.push(proptest::option::weighted(0.02, Just(("Unknown".to_owned(), json!(1)))).boxed());
    each.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
}

/// One property at a time, so that each constraint is met on its own; and a few together.
fn any_resource() -> impl Strategy<Value = (usize, Value)> {
    (0..KINDS.len()).prop_flat_map(|at| {
        let schema = published(KINDS[at].1);
        prop_oneof![object_for(&schema, &schema, 0.03), object_for(&schema, &schema, 0.1)]
            .prop_map(move |value| (at, value))
    })
}

fn refused_here(kind: &str, resource: &Value) -> bool {
    let mut spec = ours(resource);
    // ElastiCache needs it for a new group, and the schema does not say so.
    if kind == "ReplicationGroup" && spec["cacheNodeType"].is_null() {
        spec["cacheNodeType"] = json!("cache.t4g.micro");
    }
    let object = json!({ "metadata": { "name": "g" }, "spec": spec });
    let (by_schema, by_rules) = refusals(kind, &object, None);
    !by_schema.is_empty() || !by_rules.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn what_cloudformation_forbids_we_forbid((at, resource) in any_resource()) {
        let (kind, text, lenient) = KINDS[at];
        let schema = published(text);
        let mut forbidden = Vec::new();
        forbids(&schema, &schema, &resource, "", &mut forbidden);
        forbidden.retain(|what| !lenient.iter().any(|path| *what == format!("/{path}: required")));
        if !forbidden.is_empty() {
            prop_assert!(refused_here(kind, &resource), "{kind} {}: {forbidden:?}", ours(&resource));
        }
    }
}

/// Each bound and each word of the schemas, on its own.
#[test]
fn every_constraint_of_the_schemas_is_ours_too() {
    let mut tried = 0;
    for (kind, text, lenient) in KINDS {
        let schema = published(text);
        let minimal: Value = schema["required"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| (name.as_str().unwrap().to_owned(), json!("d")))
            .collect::<Map<_, _>>()
            .into();
        for name in schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
            if !lenient.contains(&name) {
                let mut without = minimal.clone();
                without.as_object_mut().unwrap().remove(name);
                assert!(refused_here(kind, &without), "{kind} without {name}");
            }
        }
        for (name, property) in schema["properties"].as_object().unwrap() {
            let property = follow(&schema, property);
            let mut wrong = vec![json!(1.5), json!({ "Unknown": 1 })];
            if property["enumCaseInsensitive"].is_array() {
                wrong.push(json!("none of the words"));
            }
            if let Some(most) = property["maximum"].as_i64() {
                wrong.push(json!(most + 1));
            }
            if let Some(least) = property["minimum"].as_i64() {
                wrong.push(json!(least - 1));
            }
            if property["uniqueItems"] == true {
                wrong.push(json!(["a", "a"]));
            }
            for value in wrong {
                let mut resource = minimal.clone();
                resource[name] = value.clone();
                assert!(refused_here(kind, &resource), "{kind} {name}: {value}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn every_property_of_the_schemas_is_a_field_or_is_returned() {
    for (kind, text, _) in KINDS {
        let schema = published(text);
        let fields = support::schema::schema(kind)["properties"]["spec"]["properties"].as_object().unwrap();
        let returned: BTreeSet<&str> = schema["readOnlyProperties"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|path| path.as_str().unwrap().split('/').nth(2))
            .collect();
        for name in schema["properties"].as_object().unwrap().keys() {
            assert!(returned.contains(name.as_str()) || fields.contains_key(&field(name)), "{kind} {name}");
        }
    }
}

/// Where the published schemas are at hand, ours are compared with them.
#[test]
fn the_constraints_are_those_that_are_published() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/schemas");
    if !folder.is_dir() {
        return;
    }
    for kind in ["ReplicationGroup", "ParameterGroup", "SubnetGroup", "User", "UserGroup"] {
        let whole = std::fs::read_to_string(folder.join(format!("AWS-ElastiCache-{kind}.json"))).unwrap();
        let mine = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/published/{kind}.json"));
        let mine = std::fs::read_to_string(mine).unwrap();
        assert_eq!(published(&mine), constraints(&published(&whole), false), "{kind}");
    }
}

/// What a schema constrains; below `properties` and its like the keys are names.
fn constraints(schema: &Value, names: bool) -> Value {
    const KEPT: &[&str] = &[
        "additionalProperties",
        "required",
        "properties",
        "definitions",
        "createOnlyProperties",
        "conditionalCreateOnlyProperties",
        "readOnlyProperties",
        "type",
        "enum",
        "enumCaseInsensitive",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "patternProperties",
        "uniqueItems",
        "items",
        "$ref",
        "minItems",
        "maxItems",
        "typeName",
    ];
    let Value::Object(map) = schema else { return schema.clone() };
    map.iter()
        .filter(|(key, _)| names || KEPT.contains(&key.as_str()))
        .map(|(key, value)| {
            let named = !names && ["properties", "definitions", "patternProperties"].contains(&key.as_str());
            (key.clone(), constraints(value, named))
        })
        .collect::<Map<String, Value>>()
        .into()
}
