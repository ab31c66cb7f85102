//! Every property of the CloudFormation types, in which of the four classes it is, and what a change of it does.
//!
//! The sentences of refused properties stand here once: admission (CEL), the operator and the documentation show the same words.

mod others;
mod page;
mod replication_group;

pub use others::{
    ATTRIBUTES, CREATION_POLICY, PARAMETER_GROUP, SECURITY_GROUP, SECURITY_GROUP_INGRESS, SOURCE_OWNER,
    SUBNET_GROUP, USER, USER_GROUP,
};
pub use page::markdown;
pub use replication_group::{LOG_DELIVERY_CONFIGURATION, NODE_GROUP_CONFIGURATION, REPLICATION_GROUP, TAG};

/// What becomes of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It does what ElastiCache documents.
    InEffect,
    /// What it can ask for is so anyway.
    MetByItself,
    /// It is kept without an effect, and shown in the condition NotInEffect, with this sentence.
    Recorded(&'static str),
    /// Where it asks for something, it is refused, with this sentence.
    Refused(&'static str),
    /// It is no input: CloudFormation returns it, and the status has it.
    Returned,
}

/// What a change of a property does to a group that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It is carried out at once.
    AtOnce,
    /// It holds at once, for a few parameters from the next start of an engine.
    NextStart,
    /// This version does not carry it out: it waits, and the group says so.
    Waits,
    /// It is refused.
    Never,
    /// There is nothing to change: one value is accepted, or nothing depends on it.
    Nothing,
}

impl Update {
    /// What the documentation says.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::NextStart => "at once, a few parameters from the next start of an engine",
            Self::Waits => "waits: `pendingModifiedValues`, `UnsupportedModification`",
            Self::Never => "refused",
            Self::Nothing => "nothing to change",
        }
    }
}

/// A property of a CloudFormation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// The name in CloudFormation.
    pub name: &'static str,
    /// The name of the field in the spec, or in the status where CloudFormation returns it.
    pub field: &'static str,
    /// The class.
    pub class: Class,
    /// What its absence means here and not in ElastiCache; empty where that is the same.
    pub left_out: &'static str,
    /// The values that ask for nothing more than what is so anyway, of a property that is otherwise refused or in effect.
    pub met_by_itself: &'static str,
    /// Whether CloudFormation replaces the resource when it changes; here the change is refused, because data would be lost.
    pub create_only: bool,
    /// Whether CloudFormation replaces the resource at some changes of it.
    pub sometimes_replaces: bool,
    /// What it does here, of the classes InEffect, MetByItself and Returned; the others have their sentences.
    pub does: &'static str,
    /// What a change does to a group that runs.
    pub update: Update,
}

use Class::{Recorded, Refused};

const fn property(name: &'static str, field: &'static str, class: Class) -> Property {
    Property {
        name,
        field,
        class,
        left_out: "",
        met_by_itself: "",
        create_only: false,
        sometimes_replaces: false,
        does: "",
        update: Update::Nothing,
    }
}

impl Property {
    const fn unless(mut self, values: &'static str) -> Self {
        self.met_by_itself = values;
        self
    }

    const fn left_out(mut self, sentence: &'static str) -> Self {
        self.left_out = sentence;
        self
    }

    const fn create_only(mut self) -> Self {
        self.create_only = true;
        self
    }

    const fn sometimes_replaces(mut self) -> Self {
        self.sometimes_replaces = true;
        self
    }

    const fn does(mut self, sentence: &'static str) -> Self {
        self.does = sentence;
        self
    }

    const fn update(mut self, update: Update) -> Self {
        self.update = update;
        self
    }
}

/// Why `clusterMode: compatible` is refused.
pub const COMPATIBLE_REFUSED: &str = "clusterMode: compatible is refused: this version of Kagami cannot change the mode of a running group. Choose enabled or disabled.";
/// Why a password in clear text is refused, in this version and in every other.
pub const AUTH_TOKEN_REFUSED: &str = "authToken is refused: a password must not stand in a spec. Leave it out and name the key of a Secret in authTokenSecretRef.";
/// Why a group without a node type is refused.
pub const NODE_TYPE_NEEDED: &str =
    "cacheNodeType is needed, such as cache.t4g.micro; or give kubernetes.resources.limits.memory instead.";
/// Why `deletionPolicy: Snapshot` is refused.
pub const DELETION_SNAPSHOT_REFUSED: &str = "deletionPolicy: Snapshot is refused: this version of Kagami takes no snapshots, and would delete what you meant to keep. Choose Retain or Delete.";
/// What `slots` mean for a group without any.
pub const SLOTS_RECORDED: &str = "slots in nodeGroupConfiguration are recorded: with cluster mode disabled there are none, and the one node group has every key";

/// The property of that name in CloudFormation.
pub fn find(name: &str) -> Option<&'static Property> {
    REPLICATION_GROUP.iter().find(|property| property.name == name)
}

/// The sentence of a property of the classes Recorded and Refused, by the name of its field; otherwise empty.
pub fn sentence(field: &str) -> &'static str {
    let found = REPLICATION_GROUP.iter().find(|property| property.field == field);
    match found.map(|property| property.class) {
        Some(Recorded(sentence) | Refused(sentence)) => sentence,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::CustomResourceExt;

    use super::Class::{InEffect, Returned};
    use super::*;
    use crate::v1alpha1::ReplicationGroup;

    fn fields_of(part: &str) -> BTreeSet<String> {
        let crd = serde_json::to_value(ReplicationGroup::crd()).unwrap();
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}/properties");
        crd.pointer(&path).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_property_is_a_field_of_the_spec_or_of_the_status() {
        let (spec, status) = (fields_of("spec"), fields_of("status"));
        for property in REPLICATION_GROUP {
            let fields = if property.class == Returned { &status } else { &spec };
            assert!(fields.contains(property.field), "{}", property.name);
        }
    }

    #[test]
    fn every_field_of_the_spec_is_a_property_or_one_of_the_four_that_are_ours() {
        let ours = ["authToken", "deletionPolicy", "kubernetes", "updatePolicy"];
        for field in fields_of("spec") {
            let known = REPLICATION_GROUP.iter().any(|property| property.field == field);
            assert!(known || ours.contains(&field.as_str()), "{field}");
        }
    }

    #[test]
    fn every_refusal_names_its_field_and_says_what_to_do() {
        for property in REPLICATION_GROUP {
            if let Refused(sentence) = property.class {
                assert!(sentence.starts_with(property.field), "{}", property.name);
                assert!(
                    ["Leave it out", "leave it out"].iter().any(|advice| sentence.contains(advice)),
                    "{}",
                    property.name
                );
                assert!(sentence.ends_with('.'), "{}", property.name);
            }
        }
    }

    #[test]
    fn what_promises_security_is_never_recorded() {
        for name in [
            "AtRestEncryptionEnabled",
            "AuthToken",
            "KmsKeyId",
            "TransitEncryptionEnabled",
            "TransitEncryptionMode",
            "UserGroupIds",
        ] {
            let class = find(name).unwrap().class;
            assert!(matches!(class, InEffect | Refused(_)), "{name}");
        }
    }
}
