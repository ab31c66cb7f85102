//! Admission: what the API server can refuse by looking at one object, as CEL in the definitions.
//!
//! A rule has the number that it has in ElastiCache's documentation of this project (V01 to V26), and a message in ElastiCache's
//! own words where they are known; every message names the field. What needs to see another object (a parameter group, a zone)
//! is told by a condition instead.

mod referred;
mod replication_group;
mod table;
mod terms;
mod updates;

use serde_json::{Value, json};

use crate::properties;

pub use referred::{parameter_group, security_group, subnet_group};
pub use replication_group::replication_group;
pub use table::{CONDITIONS, Condition, NUMBERED, Numbered, markdown};

/// Where a rule stands in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole object: `self` has `metadata` and `spec`.
    Object,
    /// The spec: `self` is the spec.
    Spec,
}

/// One rule of admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionRule {
    /// Its number, such as `V08`.
    pub number: &'static str,
    /// Where it stands.
    pub scope: Scope,
    /// The field that a refusal points at, below the scope; empty for the scope itself.
    pub field: &'static str,
    /// The CEL expression, true where the object is right. One with `oldSelf` is about updates only.
    pub expression: String,
    /// What a person is told.
    pub message: String,
}

fn spec(number: &'static str, field: &'static str, expression: &str, message: &str) -> AdmissionRule {
    rule(number, Scope::Spec, field, terms::expand(expression, "self", "oldSelf"), message)
}

/// A rule that needs the name or the status: words speak of the spec all the same.
fn object(number: &'static str, field: &'static str, expression: &str, message: &str) -> AdmissionRule {
    rule(number, Scope::Object, field, terms::expand(expression, "self.spec", "oldSelf.spec"), message)
}

fn rule(
    number: &'static str,
    scope: Scope,
    field: &'static str,
    expression: String,
    message: &str,
) -> AdmissionRule {
    AdmissionRule { number, scope, field, expression, message: message.to_owned() }
}

/// Refuses a field of the class Refused wherever it asks for something, with the sentence of the table of properties.
fn refused(number: &'static str, field: &'static str, met: &str) -> AdmissionRule {
    let expression =
        if met.is_empty() { format!("!has(@.{field})") } else { format!("!has(@.{field}) || {met}") };
    spec(number, field, &expression, properties::sentence(field))
}

/// Puts rules into the schema of a definition.
pub(crate) fn install(schema: &mut Value, rules: &[AdmissionRule]) {
    for rule in rules {
        let mut entry = json!({ "rule": rule.expression, "message": rule.message });
        if !rule.field.is_empty() {
            entry["fieldPath"] = Value::from(format!(".{}", rule.field));
        }
        let place = match rule.scope {
            Scope::Object => Some(&mut *schema),
            Scope::Spec => schema.pointer_mut("/properties/spec"),
        };
        let Some(Value::Object(place)) = place else { continue };
        let list = place.entry("x-kubernetes-validations").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(entry);
        }
    }
}
