//! What the tests have in common.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test uses what it needs")]

use kagami_api::v1alpha1::{ParameterGroupSpec, ReplicationGroupSpec, SecurityGroupSpec, SubnetGroupSpec};
use kagami_convert::{Converted, Format, Options, convert, render};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Options without anything but a name.
pub(crate) fn options(file: &str) -> Options {
    Options { file: file.to_owned(), ..Options::default() }
}

/// A group with these lines as properties, each indented by six.
pub(crate) fn group(properties: &str) -> String {
    let mut text = String::from(
        "Parameters:\n  Secret: {Type: String, NoEcho: yes, Default: hunter2-hunter2-hunter2}\n\
         Resources:\n  Key: {Type: AWS::KMS::Key}\n  Group:\n    Type: AWS::ElastiCache::ReplicationGroup\n    Properties:\n",
    );
    if !properties.contains("ReplicationGroupDescription") {
        text.push_str("      ReplicationGroupDescription: words\n");
    }
    if !properties.contains("CacheNodeType") {
        text.push_str("      CacheNodeType: cache.t4g.micro\n");
    }
    properties.lines().for_each(|line| text.push_str(&format!("      {line}\n")));
    text
}

/// What is wrong with a template, in words.
pub(crate) fn problems(text: &str, options: &Options) -> Vec<String> {
    match convert(text, options) {
        Ok(converted) => panic!("it converts: {}", render(&converted, Format::Yaml)),
        Err(failure) => failure.problems.iter().map(ToString::to_string).collect(),
    }
}

/// The path of a fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// A fixture.
pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// Compares with the file, or writes it.
pub(crate) fn golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(fixture(name), text).unwrap();
    }
    assert_eq!(read(name), text, "{name}");
}

/// Everything that a conversion says.
pub(crate) fn whole(converted: &Converted) -> String {
    let mut text = render(converted, Format::Yaml);
    text.push_str("# outputs\n");
    converted.outputs.iter().for_each(|(name, value)| text.push_str(&format!("# {name} = {value}\n")));
    text.push_str("# warnings\n");
    converted.warnings.iter().for_each(|warning| text.push_str(&format!("# {warning}\n")));
    text.push_str("# skipped\n");
    converted
        .skipped
        .iter()
        .for_each(|skipped| text.push_str(&format!("# {} {}\n", skipped.id, skipped.kind)));
    text
}

/// Every spec is one of the API's, with no field that the API does not have.
pub(crate) fn strictly(converted: &Converted) {
    for manifest in &converted.manifests {
        let spec = manifest["spec"].clone();
        let back = match manifest["kind"].as_str().unwrap() {
            "ReplicationGroup" => again::<ReplicationGroupSpec>(&spec),
            "ParameterGroup" => again::<ParameterGroupSpec>(&spec),
            "SubnetGroup" => again::<SubnetGroupSpec>(&spec),
            "SecurityGroup" => again::<SecurityGroupSpec>(&spec),
            other => panic!("an object of the kind {other}"),
        };
        assert_eq!(spec, back, "{manifest}");
    }
}

/// What the rules of admission (CEL) say to the objects, evaluated as the API server does.
pub(crate) fn refusals(converted: &Converted) -> Vec<String> {
    static SCHEMAS: OnceLock<BTreeMap<String, CompiledSchema>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let compiled = kagami_api::crds().into_iter().map(|definition| {
            let schema =
                definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            (definition.spec.names.kind, compile_schema(&serde_json::to_value(schema).unwrap()))
        });
        compiled.collect()
    });
    let said = converted.manifests.iter().map(|manifest| {
        let schema = &schemas[manifest["kind"].as_str().unwrap()];
        Validator::new().validate_compiled(schema, manifest, None)
    });
    said.filter_map(Result::err).flat_map(|errors| errors.into_vec()).map(|error| error.message).collect()
}

/// The API server takes the objects, or refuses them with a sentence that a warning has said before.
pub(crate) fn admitted(converted: &Converted) {
    strictly(converted);
    for refusal in refusals(converted) {
        let told = converted.warnings.iter().any(|warning| warning.message.contains(&refusal));
        assert!(told, "refused without a warning: {refusal}\n{:#?}", converted.manifests);
    }
}

fn again<T: serde::de::DeserializeOwned + serde::Serialize>(spec: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(spec.clone()).unwrap()).unwrap()
}
