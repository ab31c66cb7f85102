//! The page `docs/properties.md`.

use super::{
    ATTRIBUTES, Class, LOG_DELIVERY_CONFIGURATION, NODE_GROUP_CONFIGURATION, PARAMETER_GROUP, Property,
    REPLICATION_GROUP, SECURITY_GROUP, SECURITY_GROUP_INGRESS, SUBNET_GROUP, TAG, USER, USER_GROUP,
};

/// The types, each with its properties, and what a reader should know first.
const TYPES: &[(&str, &[Property], &str)] = &[
    (
        "AWS::ElastiCache::ReplicationGroup",
        REPLICATION_GROUP,
        "The kind `ReplicationGroup`. `metadata.name` is its id.",
    ),
    (
        "AWS::ElastiCache::ReplicationGroup NodeGroupConfiguration",
        NODE_GROUP_CONFIGURATION,
        "One entry for each node group.",
    ),
    (
        "AWS::ElastiCache::ReplicationGroup LogDeliveryConfigurations",
        LOG_DELIVERY_CONFIGURATION,
        "Refused with the whole.",
    ),
    ("AWS::ElastiCache::ReplicationGroup Tags", TAG, "The same in every kind that has tags."),
    (
        "Attributes of a ReplicationGroup's resource",
        ATTRIBUTES,
        "What a template says beside the properties.",
    ),
    (
        "AWS::ElastiCache::ParameterGroup",
        PARAMETER_GROUP,
        "The kind `ParameterGroup`; the `default.*` groups are built in.",
    ),
    (
        "AWS::ElastiCache::SubnetGroup",
        SUBNET_GROUP,
        "The kind `SubnetGroup`: the zones that its subnets are in.",
    ),
    (
        "AWS::EC2::SecurityGroup",
        SECURITY_GROUP,
        "The kind `SecurityGroup`, as far as it decides who may reach a node.",
    ),
    (
        "AWS::EC2::SecurityGroupIngress, and SecurityGroupIngress of AWS::EC2::SecurityGroup",
        SECURITY_GROUP_INGRESS,
        "One rule of a `SecurityGroup`.",
    ),
    ("AWS::ElastiCache::User", USER, "No kind in this version."),
    ("AWS::ElastiCache::UserGroup", USER_GROUP, "No kind in this version."),
];

const HEAD: &str = "# Properties\n\n\
    Every property of the CloudFormation types, and what becomes of it. **In effect**: it does what ElastiCache documents. **Met by\n\
    itself**: what it can ask for is so anyway. **Recorded**: kept without an effect, and named in the condition `NotInEffect`.\n\
    **Refused**: wherever it asks for something, with this sentence; where a value asks for nothing, it stands in brackets.\n\
    **Returned**: no input; the status has it. [rules.md](rules.md) has what is refused about the values of properties in effect.\n\
    This page is made from `crates/api/src/properties`; `UPDATE=1 cargo test -p kagami-api` writes it anew.\n";

/// The page `docs/properties.md`.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for (name, properties, note) in TYPES {
        page.push_str(&format!("\n## {name}\n\n{note}\n\n"));
        page.push_str("| property | here | state | what it does here | a change in CloudFormation | a change here |\n|---|---|---|---|---|---|\n");
        for property in *properties {
            page.push_str(&row(property));
        }
    }
    page
}

fn row(property: &Property) -> String {
    let (state, does) = match property.class {
        Class::InEffect => ("in effect", property.does),
        Class::MetByItself => ("met by itself", property.does),
        Class::Recorded(sentence) => ("recorded", sentence),
        Class::Refused(sentence) => ("refused", sentence),
        Class::Returned => ("returned", property.does),
    };
    let met = match property.met_by_itself {
        "" => String::new(),
        values => format!(" ({values}: met by itself)"),
    };
    let theirs = match property {
        Property { class: Class::Returned, .. } => "returned",
        Property { create_only: true, .. } => "replacement",
        Property { sometimes_replaces: true, .. } => "no interruption, or replacement",
        _ => "no interruption",
    };
    let ours = match property.class {
        Class::Returned => "returned",
        _ => property.update.text(),
    };
    let field = if property.field == "–" { "–".to_owned() } else { format!("`{}`", property.field) };
    let left_out =
        if property.left_out.is_empty() { String::new() } else { format!(" {}", property.left_out) };
    format!("| `{}` | {field} | {state}{met} | {does}{left_out} | {theirs} | {ours} |\n", property.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_empty() {
        for line in markdown().lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            assert_eq!(cells.len(), 6, "{line}");
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{line}");
        }
    }

    #[test]
    fn what_is_in_effect_says_what_it_does_and_when_a_change_holds() {
        for property in TYPES.iter().flat_map(|(_, properties, _)| *properties) {
            let silent = matches!(property.class, Class::Recorded(_) | Class::Refused(_));
            assert_eq!(property.does.is_empty(), silent, "{}", property.name);
            let changes = property.update != super::super::Update::Nothing;
            assert_eq!(changes, property.class == Class::InEffect, "{}", property.name);
        }
    }
}
