//! What the objects that groups refer to tell of themselves: which values are in effect, what is wrong, what is only recorded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kagami_api::parameters::{self, Family};
use kagami_api::properties::{self, Class, Property};
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{
    ParameterGroup, ParameterGroupStatus, ReferredStatus, SecurityGroup, SubnetGroup,
};

/// The status of a parameter group: its values, whether groups may use it, and why not.
pub fn parameter_group_status(group: &ParameterGroup, now: &Time) -> ParameterGroupStatus {
    let before = group.status.clone().unwrap_or_default();
    let spec = &group.spec;
    let generation = group.metadata.generation;
    let family = Family::parse(&spec.cache_parameter_group_family);
    let problems: Vec<String> = match family {
        Some(family) => parameters::check(family, &spec.properties).iter().map(ToString::to_string).collect(),
        None => vec![format!("There is no family {}", spec.cache_parameter_group_family)],
    };
    let valid = match problems.as_slice() {
        [] => ("True", Reason::Valid, "Replication groups may use it".to_owned()),
        problems => ("False", Reason::InvalidParameterValue, problems.join("; ")),
    };
    let recorded = recorded(properties::PARAMETER_GROUP, &[("tags", is_given(spec.tags.as_ref()))]);
    let conditions = [
        Some(condition("Valid", valid.0, valid.1, valid.2, generation, &before.conditions, now)),
        recorded.map(|said| not_in_effect(said, generation, &before.conditions, now)),
    ];
    ParameterGroupStatus {
        observed_generation: generation,
        parameters: family
            .map(|family| parameters::effective_values(family, &spec.properties))
            .unwrap_or_default(),
        conditions: conditions.into_iter().flatten().collect(),
    }
}

/// The status of a subnet group: what of it is only recorded.
pub fn subnet_group_status(group: &SubnetGroup, now: &Time) -> ReferredStatus {
    let given = [
        ("subnetIds", is_given(group.spec.subnet_ids.as_ref())),
        ("tags", is_given(group.spec.tags.as_ref())),
    ];
    let before = group.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    referred(recorded(properties::SUBNET_GROUP, &given), group.metadata.generation, before, now)
}

/// The status of a security group: what of it is only recorded.
pub fn security_group_status(group: &SecurityGroup, now: &Time) -> ReferredStatus {
    let given = [("tags", is_given(group.spec.tags.as_ref()))];
    let before = group.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    referred(recorded(properties::SECURITY_GROUP, &given), group.metadata.generation, before, now)
}

fn is_given<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn referred(
    recorded: Option<String>,
    generation: Option<i64>,
    before: &[Condition],
    now: &Time,
) -> ReferredStatus {
    ReferredStatus {
        observed_generation: generation,
        conditions: recorded.map(|said| not_in_effect(said, generation, before, now)).into_iter().collect(),
    }
}

/// The sentences of the properties of the class Recorded that are given.
fn recorded(properties: &[Property], given: &[(&str, bool)]) -> Option<String> {
    let said: Vec<&str> = properties
        .iter()
        .filter(|property| given.contains(&(property.field, true)))
        .filter_map(|property| match property.class {
            Class::Recorded(sentence) => Some(sentence),
            _ => None,
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn not_in_effect(said: String, generation: Option<i64>, before: &[Condition], now: &Time) -> Condition {
    condition("NotInEffect", "True", Reason::NotInEffect, said, generation, before, now)
}

/// A condition keeps the time of its last change.
fn condition(
    kind: &str,
    status: &str,
    reason: Reason,
    message: String,
    generation: Option<i64>,
    before: &[Condition],
    now: &Time,
) -> Condition {
    let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: same.map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn group(properties: serde_json::Value) -> ParameterGroup {
        let spec =
            json!({ "cacheParameterGroupFamily": "redis7", "description": "d", "properties": properties });
        let mut group = ParameterGroup::new("mine", serde_json::from_value(spec).unwrap());
        group.metadata.generation = Some(4);
        group
    }

    fn said(conditions: &[Condition]) -> Vec<String> {
        conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect()
    }

    #[test]
    fn a_parameter_group_shows_the_values_in_effect() {
        let status = parameter_group_status(&group(json!({ "maxmemory-policy": "allkeys-lru" })), &at(1));
        assert_eq!(status.observed_generation, Some(4));
        assert_eq!(status.parameters["maxmemory-policy"], "allkeys-lru");
        assert_eq!(status.parameters["timeout"], "0");
        assert!(status.parameters.len() > 55, "{}", status.parameters.len());
        assert_eq!(said(&status.conditions), ["Valid=True Valid: Replication groups may use it"]);
    }

    /// The engine is given it elsewhere, in words of its own.
    #[test]
    fn the_backlog_that_is_shown_is_the_one_that_engines_have() {
        let spec = json!({ "replicationGroupDescription": "d", "cacheNodeType": "cache.t4g.micro" });
        let group = kagami_api::v1alpha1::ReplicationGroup::new("g", serde_json::from_value(spec).unwrap());
        let desired = super::super::resolve(&group, &Default::default(), &Default::default()).unwrap();
        let has = crate::engine::directives(&desired).contains(&("repl-backlog-size".into(), "64mb".into()));
        assert!(has && parameters::REPL_BACKLOG_BYTES == 64 << 20);
    }

    #[test]
    fn what_is_wrong_with_a_parameter_group_is_told_at_once() {
        let status = parameter_group_status(&group(json!({ "nonsense": "1", "timeout": "5" })), &at(1));
        assert_eq!(
            said(&status.conditions),
            [
                "Valid=False InvalidParameterValue: Could not find parameter with name: nonsense in the family redis7; \
              The parameter value \"5\" is not allowed for parameter timeout: allowed values are 0,20-"
            ]
        );
        assert_eq!(status.parameters["timeout"], "0", "what is wrong has no effect");
    }

    #[test]
    fn a_status_that_is_written_again_says_the_same() {
        let mut group = group(json!({ "timeout": "5" }));
        let first = parameter_group_status(&group, &at(1));
        group.status = Some(first.clone());
        assert_eq!(parameter_group_status(&group, &at(2)), first);
        group.spec.properties.clear();
        let healed = parameter_group_status(&group, &at(3));
        assert_eq!(healed.conditions[0].last_transition_time, at(3));
    }

    #[test]
    fn what_is_only_recorded_is_said() {
        let spec =
            json!({ "description": "d", "subnetIds": ["subnet-1"], "tags": [{ "key": "a", "value": "" }] });
        let subnets = SubnetGroup::new("s", serde_json::from_value(spec).unwrap());
        let told = said(&subnet_group_status(&subnets, &at(1)).conditions);
        assert!(told[0].starts_with("NotInEffect=True NotInEffect: subnetIds are recorded"), "{told:?}");
        assert!(told[0].contains("tags are recorded"), "{told:?}");
        let plain =
            SecurityGroup::new("s", serde_json::from_value(json!({ "groupDescription": "d" })).unwrap());
        assert!(security_group_status(&plain, &at(1)).conditions.is_empty());
    }
}
