//! What the tests have in common.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use kagami_api::v1alpha1::{ParameterGroupSpec, ReplicationGroupSpec, SecurityGroupSpec, SubnetGroupSpec};
use kagami_convert::{Converted, Options};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Options without anything but a name.
pub(crate) fn options(file: &str) -> Options {
    Options { file: file.to_owned(), ..Options::default() }
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
