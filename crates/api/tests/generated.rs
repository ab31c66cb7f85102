//! What is made from the code and committed must be what the code makes: `UPDATE=1 cargo test -p kagami-api` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use kagami_api::properties::{self, Property};
use kagami_api::{crd, crds, parameters, reason, rules};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_committed(path: &Path, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not what the code makes: run UPDATE=1 cargo test -p kagami-api",
        path.display()
    );
}

#[test]
fn the_committed_definitions_are_those_of_the_code() {
    for definition in crds() {
        let file = format!("{}.yaml", definition.metadata.name.as_deref().unwrap());
        is_committed(&root().join("crds").join(file), &crd::yaml(&definition));
    }
}

#[test]
fn there_is_a_file_for_each_definition_and_no_other() {
    let mut files: Vec<String> = std::fs::read_dir(root().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    let mut expected: Vec<String> = crds()
        .iter()
        .map(|definition| format!("{}.yaml", definition.metadata.name.as_deref().unwrap()))
        .collect();
    expected.sort();
    assert_eq!(files, expected);
}

#[test]
fn the_files_say_what_the_definitions_say() {
    for definition in crds() {
        let read: Value = serde_saphyr::from_str(&crd::yaml(&definition)).unwrap();
        let mut made = serde_json::to_value(&definition).unwrap();
        let mut read = read;
        as_floats(&mut made);
        as_floats(&mut read);
        assert_eq!(read, made);
    }
}

/// 6 and 6.0 are the same number.
fn as_floats(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(as_floats),
        Value::Object(map) => map.values_mut().for_each(as_floats),
        Value::Number(number) => *value = Value::from(number.as_f64().unwrap()),
        _ => {}
    }
}

#[test]
fn the_page_of_reasons_is_that_of_the_code() {
    is_committed(&root().join("docs/reasons.md"), &reason::markdown());
}

#[test]
fn the_page_of_rules_is_that_of_the_code() {
    is_committed(&root().join("docs/rules.md"), &rules::markdown());
}

#[test]
fn the_page_of_parameters_is_that_of_the_code() {
    is_committed(&root().join("docs/parameters.md"), &parameters::markdown());
}

#[test]
fn the_page_of_properties_is_that_of_the_code() {
    is_committed(&root().join("docs/properties.md"), &properties::markdown());
}

/// The names of the published schemas; `cloudformation.rs` compares those with what AWS publishes.
#[test]
fn every_property_of_the_published_schemas_has_its_place_in_the_tables() {
    let of = |text: &str, at: &str| -> Vec<String> {
        let schema: Value = serde_json::from_str(text).unwrap();
        let properties = schema.pointer(&format!("{at}/properties")).unwrap();
        properties.as_object().unwrap().keys().cloned().collect()
    };
    let group = include_str!("published/ReplicationGroup.json");
    // EC2's own schemas have much that is not about who may connect, so these are their names alone.
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let guard = [
        "GroupDescription",
        "GroupId",
        "GroupName",
        "Id",
        "SecurityGroupEgress",
        "SecurityGroupIngress",
        "Tags",
        "VpcId",
    ];
    let rule = [
        "CidrIp",
        "CidrIpv6",
        "Description",
        "FromPort",
        "GroupId",
        "GroupName",
        "Id",
        "IpProtocol",
        "SourcePrefixListId",
        "SourceSecurityGroupId",
        "SourceSecurityGroupName",
        "SourceSecurityGroupOwnerId",
        "ToPort",
    ];
    let types: [(&[Property], Vec<String>); 10] = [
        (properties::SECURITY_GROUP, names(&guard)),
        (properties::SECURITY_GROUP_INGRESS, names(&rule)),
        (properties::REPLICATION_GROUP, of(group, "")),
        (properties::NODE_GROUP_CONFIGURATION, of(group, "/definitions/NodeGroupConfiguration")),
        (properties::LOG_DELIVERY_CONFIGURATION, of(group, "/definitions/LogDeliveryConfigurationRequest")),
        (properties::TAG, of(group, "/definitions/Tag")),
        (properties::PARAMETER_GROUP, of(include_str!("published/ParameterGroup.json"), "")),
        (properties::SUBNET_GROUP, of(include_str!("published/SubnetGroup.json"), "")),
        (properties::USER, of(include_str!("published/User.json"), "")),
        (properties::USER_GROUP, of(include_str!("published/UserGroup.json"), "")),
    ];
    for (table, mut published) in types {
        let mut names: Vec<String> = table.iter().map(|property| property.name.to_owned()).collect();
        names.sort();
        published.sort();
        assert_eq!(names, published);
    }
}

/// What CloudFormation replaces a group for is what the table says, and is refused here or has one accepted value.
#[test]
fn what_needs_a_replacement_is_marked() {
    let schema: Value = serde_json::from_str(include_str!("published/ReplicationGroup.json")).unwrap();
    let paths = |key: &str| -> Vec<String> {
        let list = schema[key].as_array().unwrap();
        list.iter().map(|path| path.as_str().unwrap().trim_start_matches("/properties/").to_owned()).collect()
    };
    let (only, sometimes) = (paths("createOnlyProperties"), paths("conditionalCreateOnlyProperties"));
    for property in properties::REPLICATION_GROUP {
        let name = property.name.to_owned();
        assert_eq!(property.create_only, only.contains(&name), "{name}");
        // The number of node groups is not listed, and replaces as their configuration does.
        assert_eq!(
            property.sometimes_replaces,
            sometimes.contains(&name) || name == "NumNodeGroups",
            "{name}"
        );
        if property.create_only {
            assert!(
                matches!(property.update, properties::Update::Never | properties::Update::Nothing),
                "{name}"
            );
        }
    }
}

fn each(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            each(&schema[key], &format!("{path}[]"), visit);
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        each(property, &format!("{path}.{name}"), visit);
    }
}

fn schemas() -> Vec<(String, Value)> {
    let schema = |definition| {
        let value = serde_json::to_value(definition).unwrap();
        let kind = value["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        (kind, value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    };
    crds().into_iter().map(schema).collect()
}

#[test]
fn no_definition_has_what_an_api_server_warns_of() {
    for (kind, schema) in schemas() {
        each(&schema, &kind, &mut |path, schema| {
            let format = schema["format"].as_str();
            assert!(
                format.is_none_or(|format| ["int32", "int64", "date-time"].contains(&format)),
                "{path}: {format:?}"
            );
            assert!(schema["nullable"].is_null(), "{path} is nullable");
            let typed = schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true;
            assert!(typed, "{path} has no type: {schema}");
        });
    }
}

/// The API server reckons the cost of a rule from the bounds of what it reads.
#[test]
fn everything_in_a_spec_that_a_rule_could_read_has_a_bound() {
    for (kind, schema) in schemas() {
        let spec = &schema["properties"]["spec"];
        each(spec, &kind, &mut |path, schema| {
            // What Kubernetes' own types hold is read by no rule but whether it is there.
            if path.contains(".tolerations[]") || path.contains(".from.") {
                return;
            }
            match schema["type"].as_str() {
                Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
                Some("string") if !path.ends_with("[]") || !path.contains("Selector") => {
                    let bounded = schema["maxLength"].is_u64() || schema["enum"].is_array();
                    assert!(bounded || is_map_value(path), "{path} has no maxLength");
                }
                Some("object") if schema["additionalProperties"].is_object() => {
                    assert!(schema["maxProperties"].is_u64(), "{path} has no maxProperties");
                }
                _ => {}
            }
        });
    }
}

fn is_map_value(path: &str) -> bool {
    [".podLabels[]", ".podAnnotations[]", ".properties[]"].iter().any(|end| path.ends_with(end))
}

#[test]
fn everything_in_a_spec_and_a_status_is_described() {
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            each(&schema["properties"][part], &format!("{kind}.{part}"), &mut |path, schema| {
                if !path.ends_with("[]") && !schema.is_null() {
                    assert!(schema["description"].is_string(), "{path} has no description");
                }
            });
        }
    }
}

/// A field says what it does here; what its type is in general does not help whoever asks `kubectl explain`.
#[test]
fn a_field_of_the_spec_says_its_class() {
    let group = &schemas()[0].1["properties"]["spec"]["properties"];
    for (field, schema) in group.as_object().unwrap() {
        let description = schema["description"].as_str().unwrap();
        let classes = [
            "In effect",
            "in effect",
            "met by itself",
            "Recorded",
            "efused",
            "resource attribute",
            "CloudFormation has no word",
        ];
        assert!(classes.iter().any(|class| description.contains(class)), "{field}: {description}");
        assert!(
            !description.contains("  ") && !description.replace("\n\n", "").contains('\n'),
            "{field}: {description}"
        );
    }
}

/// What can be done to a group that runs is asked as often as what a field is.
#[test]
fn a_field_in_effect_says_when_a_change_of_it_holds() {
    let group = &schemas()[0].1["properties"]["spec"]["properties"];
    for property in
        properties::REPLICATION_GROUP.iter().filter(|property| property.class == properties::Class::InEffect)
    {
        let description = group[property.field]["description"].as_str().unwrap();
        let words = match property.update {
            properties::Update::AtOnce => "at once",
            properties::Update::NextStart => "from the next start of an engine",
            properties::Update::Waits => "waits in this version",
            properties::Update::Never => "Cannot be changed later",
            properties::Update::Nothing => "",
        };
        assert!(description.contains(words), "{}: {words}: {description}", property.field);
    }
}

/// `kubectl get rg` while the reference template comes up.
#[test]
fn the_columns_of_a_group_read_well_in_a_hundred_characters() {
    let widths = [
        ("NAME", "dva-03-004-replicationgroup".len()),
        ("STATUS", "creating".len()),
        ("MODE", "enabled".len()),
        ("SHARDS", "1".len()),
        ("NODES", "0/2".len()),
        ("ENGINE", "redis 6.2".len()),
        ("REASON", "WaitingForPods".len()),
        ("AGE", "10s".len()),
    ];
    let width: usize = widths.iter().map(|(head, width)| head.len().max(*width) + 3).sum::<usize>() - 3;
    assert!(width <= 100, "{width}");
    let definition = serde_json::to_value(&crds()[0]).unwrap();
    let columns: Vec<String> = definition["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap().to_uppercase())
        .collect();
    assert_eq!(columns, widths.iter().skip(1).map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>());
}
