//! What replication groups refer to stays as long as one does: ElastiCache refuses to delete a parameter group or a subnet group
//! that is in use, and a finalizer is how an object of Kubernetes says so (ADR 14).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kagami_api::names::FINALIZER_IN_USE;
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::ReplicationGroup;

/// More groups than this are counted and not named.
const NAMED_MOST: usize = 10;

/// A kind that replication groups refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referred {
    /// `cacheParameterGroupName`.
    ParameterGroup,
    /// `cacheSubnetGroupName`.
    SubnetGroup,
    /// `securityGroupIds`.
    SecurityGroup,
}

/// Which groups refer to which objects.
#[derive(Debug, Default)]
pub struct Uses(BTreeMap<(Referred, String, String), Vec<String>>);

impl Uses {
    /// Of these groups. One that is being deleted refers to what it has until it is gone.
    pub fn of<'a>(groups: impl IntoIterator<Item = &'a ReplicationGroup>) -> Self {
        let mut uses = Self::default();
        for group in groups {
            let spec = &group.spec;
            let of = |kind, name: &Option<String>| name.as_ref().map(|name| (kind, name.to_lowercase()));
            let named = [
                of(Referred::ParameterGroup, &spec.cache_parameter_group_name),
                of(Referred::SubnetGroup, &spec.cache_subnet_group_name),
            ];
            let guards = spec.security_group_ids.iter().flatten();
            let guards = guards.map(|name| (Referred::SecurityGroup, name.clone()));
            let namespace = group.metadata.namespace.clone().unwrap_or_default();
            let user = group.metadata.name.clone().unwrap_or_default();
            for (kind, name) in named.into_iter().flatten().chain(guards) {
                uses.0.entry((kind, namespace.clone(), name)).or_default().push(user.clone());
            }
        }
        uses.0.values_mut().for_each(|users| {
            users.sort();
            users.dedup();
        });
        uses
    }

    /// The groups that refer to an object.
    pub fn by(&self, kind: Referred, object: &ObjectMeta) -> &[String] {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let key = (kind, text(&object.namespace), text(&object.name));
        self.0.get(&key).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What is to be written about an object that groups may refer to; nothing where it is as it should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hold {
    /// The finalizers that it should have.
    pub finalizers: Option<Vec<String>>,
    /// The condition that it should show.
    pub condition: Option<Condition>,
}

/// Holds what is in use, lets go of what is not, and says why an object that was deleted is still there.
pub fn hold(object: &ObjectMeta, shown: &[Condition], users: &[String], now: &Time) -> Hold {
    let present = object.finalizers.clone().unwrap_or_default();
    let held = present.iter().any(|name| name == FINALIZER_IN_USE);
    let deleted = object.deletion_timestamp.is_some();
    match (users.is_empty(), held) {
        (true, true) => {
            let others = present.into_iter().filter(|name| name != FINALIZER_IN_USE).collect();
            Hold { finalizers: Some(others), condition: None }
        }
        // What is being deleted takes no new finalizer.
        (false, false) if !deleted => {
            let all = present.into_iter().chain([FINALIZER_IN_USE.to_owned()]).collect();
            Hold { finalizers: Some(all), condition: None }
        }
        (false, true) if deleted => Hold { finalizers: None, condition: told(object, shown, users, now) },
        _ => Hold::default(),
    }
}

fn told(object: &ObjectMeta, shown: &[Condition], users: &[String], now: &Time) -> Option<Condition> {
    let named = users.iter().take(NAMED_MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match users.len().saturating_sub(NAMED_MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "It was deleted and is still in use by the replication groups {named}{more}. It stays in effect until none refers to it"
    );
    let before = shown.iter().find(|condition| condition.type_ == Reason::InUse.as_str());
    if before.is_some_and(|before| before.message == message && before.status == "True") {
        return None;
    }
    Some(Condition {
        type_: Reason::InUse.as_str().to_owned(),
        status: "True".to_owned(),
        reason: Reason::InUse.as_str().to_owned(),
        message,
        observed_generation: object.generation,
        last_transition_time: before
            .map_or_else(|| now.clone(), |before| before.last_transition_time.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(name: &str, spec: Value) -> ReplicationGroup {
        let mut group = ReplicationGroup::new(name, serde_json::from_value(spec).unwrap());
        group.metadata.namespace = Some("shop".to_owned());
        group
    }

    fn object(name: &str, finalizers: &[&str], deleted: bool) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
            deletion_timestamp: deleted.then(|| at(1)),
            ..ObjectMeta::default()
        }
    }

    fn at(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn users(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_group_uses_what_it_names_in_its_own_namespace() {
        let spec = json!({ "replicationGroupDescription": "d", "cacheParameterGroupName": "Mine",
            "cacheSubnetGroupName": "nets", "securityGroupIds": ["a", "b"] });
        let mut elsewhere =
            group("third", json!({ "replicationGroupDescription": "d", "securityGroupIds": ["a"] }));
        elsewhere.metadata.namespace = Some("other".to_owned());
        let groups = [group("second", spec.clone()), group("first", spec), elsewhere];
        let uses = Uses::of(&groups);
        let both = users(&["first", "second"]);
        for (kind, name) in [
            (Referred::ParameterGroup, "mine"),
            (Referred::SubnetGroup, "nets"),
            (Referred::SecurityGroup, "a"),
            (Referred::SecurityGroup, "b"),
        ] {
            assert_eq!(uses.by(kind, &object(name, &[], false)), both, "{name}");
        }
        assert!(uses.by(Referred::SecurityGroup, &object("nets", &[], false)).is_empty());
    }

    #[test]
    fn what_is_in_use_is_held_and_what_is_not_is_let_go() {
        const OURS: &str = FINALIZER_IN_USE;
        let used = users(&["cache"]);
        let finalizers = |present: &[&str], deleted: bool, users: &[String]| {
            hold(&object("o", present, deleted), &[], users, &at(1)).finalizers
        };
        assert_eq!(finalizers(&["x"], false, &used), Some(users(&["x", OURS])));
        assert_eq!(finalizers(&["x", OURS], false, &used), None);
        assert_eq!(finalizers(&["x", OURS], false, &[]), Some(users(&["x"])));
        assert_eq!(finalizers(&[OURS], true, &[]), Some(vec![]));
        assert_eq!(finalizers(&["x"], false, &[]), None);
        // The API server takes no new finalizer then, and nothing is asked for.
        assert_eq!(hold(&object("o", &["x"], true), &[], &used, &at(1)), Hold::default());
    }

    #[test]
    fn a_deleted_object_says_who_keeps_it_and_says_it_once() {
        let object = object("o", &[FINALIZER_IN_USE], true);
        let said =
            |shown: &[Condition], users: &[String], now: i64| hold(&object, shown, users, &at(now)).condition;
        let first = said(&[], &users(&["cart", "cache"]), 1).unwrap();
        assert_eq!(
            (first.type_.as_str(), first.status.as_str(), first.reason.as_str()),
            ("InUse", "True", "InUse")
        );
        assert!(first.message.contains("replication groups cart, cache."), "{}", first.message);
        assert_eq!(said(std::slice::from_ref(&first), &users(&["cart", "cache"]), 2), None);
        let fewer = said(&[first], &users(&["cache"]), 3).unwrap();
        assert_eq!(fewer.last_transition_time, at(1), "it has been so since then");
        let many: Vec<String> = (0..12).map(|number| format!("g{number}")).collect();
        assert!(said(&[], &many, 1).unwrap().message.contains("g9 and 2 more."));
    }
}
