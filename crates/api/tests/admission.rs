//! Each rule of admission, by its number: one object that passes and one that is refused with the right words.
//!
//! Schema and rules are evaluated here as the API server evaluates them, without one; `apiserver.rs` asks a real one the same.

mod support {
    pub(crate) mod cases;
    pub(crate) mod schema;
}

use std::collections::{BTreeMap, BTreeSet};

use kagami_api::rules::{self, AdmissionRule};
use serde_json::{Value, json};
use support::cases::{NAME, cases, object};
use support::schema::{by_rules, refusals};

fn rules() -> BTreeMap<&'static str, Vec<AdmissionRule>> {
    BTreeMap::from([
        ("ReplicationGroup", rules::replication_group()),
        ("ParameterGroup", rules::parameter_group()),
        ("SubnetGroup", rules::subnet_group()),
        ("SecurityGroup", rules::security_group()),
    ])
}

fn messages(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let (by_schema, by_rules) = refusals(kind, new, old);
    by_schema.into_iter().chain(by_rules).collect()
}

#[test]
fn each_rule_lets_one_object_pass_and_refuses_another_with_its_words() {
    for case in cases() {
        let old = case.old();
        let accepted = messages(&case.kind, &case.accepted(), old.as_ref());
        assert!(accepted.is_empty(), "{} {}: {accepted:?}", case.rule, case.accepted);
        let Some(new) = case.refused() else { continue };
        let (by_schema, by_rules) = refusals(&case.kind, &new, old.as_ref());
        let refused = if case.schema { by_schema } else { by_rules };
        let found = refused.iter().any(|message| message.contains(&case.words));
        assert!(found, "{} {}: {refused:?}", case.rule, new["spec"]);
    }
}

#[test]
fn every_rule_is_tried_under_its_number_and_no_message_comes_from_elsewhere() {
    let rules = rules();
    let mut seen = BTreeSet::new();
    for case in cases().into_iter().filter(|case| !case.schema) {
        let Some(new) = case.refused() else { continue };
        for message in messages(&case.kind, &new, case.old().as_ref()) {
            let rule = rules[case.kind.as_str()].iter().find(|rule| rule.message == message).unwrap();
            if message.contains(&case.words) {
                assert_eq!(rule.number, case.rule, "{message}");
            }
            seen.insert((case.kind.clone(), message));
        }
    }
    for (kind, rules) in rules {
        let untried: Vec<&AdmissionRule> =
            rules.iter().filter(|rule| !seen.contains(&(kind.to_owned(), rule.message.clone()))).collect();
        assert!(untried.is_empty(), "{kind}: {untried:?}");
    }
}

/// A rule that is told by a condition alone is tried in `crates/core`.
#[test]
fn every_number_has_a_case_or_is_told_by_a_condition() {
    let tried: BTreeSet<String> = cases().into_iter().map(|case| case.rule).collect();
    for rule in rules::NUMBERED {
        let told = rules::CONDITIONS.iter().any(|condition| condition.number == rule.number);
        assert!(tried.contains(rule.number) || told, "{}", rule.number);
    }
    for number in tried {
        assert!(rules::NUMBERED.iter().any(|rule| rule.number == number), "{number}");
    }
}

#[test]
fn the_name_of_a_group_is_its_id() {
    for name in ["a", "dva-03-004-replicationgroup", &"a".repeat(40)] {
        let group = object("ReplicationGroup", name, &json!({}));
        assert!(messages("ReplicationGroup", &group, None).is_empty(), "{name}");
    }
    for name in ["1a", "a-", "a--b", "a.b", &"a".repeat(41)] {
        let refused = messages("ReplicationGroup", &object("ReplicationGroup", name, &json!({})), None);
        assert!(refused[0].starts_with("metadata.name is the replication group id"), "{name}: {refused:?}");
    }
}

#[test]
fn the_reference_template_is_admitted() {
    let spec = json!({
        "replicationGroupDescription": "the reference", "replicationGroupId": NAME, "automaticFailoverEnabled": true,
        "autoMinorVersionUpgrade": true, "cacheNodeType": "cache.t4g.micro",
        "cacheParameterGroupName": "default.redis6.x.cluster.on", "cacheSubnetGroupName": "subnets", "engine": "redis",
        "engineVersion": "6.2", "multiAZEnabled": true, "port": 6379, "numNodeGroups": 1,
        "nodeGroupConfiguration": [{ "primaryAvailabilityZone": "ap-northeast-1a",
            "replicaAvailabilityZones": ["ap-northeast-1d"], "replicaCount": 1 }],
        "securityGroupIds": ["clients"],
    });
    let new = object("ReplicationGroup", NAME, &spec);
    assert_eq!(messages("ReplicationGroup", &new, None), Vec::<String>::new());
    assert_eq!(messages("ReplicationGroup", &new, Some(&new)), Vec::<String>::new());
}

/// A finalizer is taken away by an update, and a status written by one; what was stored before a rule came must not stop them.
#[test]
fn an_update_that_changes_nothing_of_the_spec_is_never_refused_for_what_was_before() {
    for case in cases().into_iter().filter(|case| case.old.is_some()) {
        let Some(mistaken) = case.refused() else { continue };
        let create: BTreeSet<String> = by_rules(&case.kind, &mistaken, None).into_iter().collect();
        for message in by_rules(&case.kind, &mistaken, Some(&mistaken)) {
            assert!(create.contains(&message), "{} {}: {message}", case.rule, mistaken["spec"]);
        }
    }
}
