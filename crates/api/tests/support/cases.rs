//! The cases of `cases.yaml`: each rule with an object that passes and one that is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use serde::Deserialize;
use serde_json::{Value, json};

/// A rule, an object that passes, and one that is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) rule: String,
    #[serde(default = "replication_group")]
    pub(crate) kind: String,
    pub(crate) old: Option<Value>,
    pub(crate) status: Option<Value>,
    pub(crate) accepted: Value,
    pub(crate) refused: Option<Value>,
    #[serde(default)]
    pub(crate) words: String,
    /// Whether it is the schema that refuses.
    #[serde(default)]
    pub(crate) schema: bool,
    pub(crate) name: Option<String>,
}

fn replication_group() -> String {
    "ReplicationGroup".to_owned()
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("../cases.yaml")).unwrap()
}

/// The name that accepted objects have; some specs repeat it.
pub(crate) const NAME: &str = "group";

/// An object of the kind: what is required and not given is added, and what is given as null is taken away.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let mut whole = match kind {
        "ParameterGroup" => json!({ "cacheParameterGroupFamily": "redis7", "description": "d" }),
        "SubnetGroup" => json!({ "description": "d" }),
        "SecurityGroup" => json!({ "groupDescription": "d" }),
        _ => json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro" }),
    };
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    whole.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({ "apiVersion": "elasticache.kagami.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": whole })
}

impl Case {
    pub(crate) fn accepted(&self) -> Value {
        self.with_status(object(&self.kind, NAME, &self.accepted))
    }

    pub(crate) fn refused(&self) -> Option<Value> {
        let name = self.name.as_deref().unwrap_or(NAME);
        Some(self.with_status(object(&self.kind, name, self.refused.as_ref()?)))
    }

    pub(crate) fn old(&self) -> Option<Value> {
        Some(self.with_status(object(&self.kind, NAME, self.old.as_ref()?)))
    }

    fn with_status(&self, mut object: Value) -> Value {
        if let Some(status) = &self.status {
            object["status"] = status.clone();
        }
        object
    }
}
