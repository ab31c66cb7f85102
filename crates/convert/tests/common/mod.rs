//! What the tests have in common.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use kagami_api::v1alpha1::{ParameterGroupSpec, ReplicationGroupSpec, SecurityGroupSpec, SubnetGroupSpec};
use kagami_convert::{Converted, Options};
use serde_json::Value;

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

fn again<T: serde::de::DeserializeOwned + serde::Serialize>(spec: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(spec.clone()).unwrap()).unwrap()
}
