//! Whether an object still is what it should be.
//!
//! Server-side apply is not asked to find out, because a group at rest sends nothing but observations (P4).

use kagami_api::quantity::Quantity;
use serde_json::Value;

/// Whether `actual` holds everything that `desired` says.
///
/// Fields that only the actual object has are somebody else's. Lists of named or numbered things are matched by their
/// key, because others may add to them; lists of scalars must be equal.
pub fn covers(desired: &Value, actual: &Value) -> bool {
    match (desired, actual) {
        (Value::Object(desired), Value::Object(actual)) => {
            desired.iter().all(|(key, value)| match actual.get(key) {
                // An extra label in a selector is no neighbour's field: it selects something else.
                Some(found) if key == "selector" || key == "matchLabels" => value == found,
                // The apiserver writes amounts in a form of its own: 1024Mi comes back as 1Gi.
                Some(found) if key == "storage" => covers(value, found) || same_amount(value, found),
                Some(found) => covers(value, found),
                None => is_nothing(value),
            })
        }
        (Value::Array(desired), Value::Array(actual)) => covers_list(desired, actual),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (desired, actual) => desired == actual,
    }
}

fn same_amount(desired: &Value, actual: &Value) -> bool {
    let bytes = |value: &Value| Quantity(value.as_str()?.to_owned()).units();
    bytes(desired).is_some() && bytes(desired) == bytes(actual)
}

/// The apiserver drops what is empty.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn covers_list(desired: &[Value], actual: &[Value]) -> bool {
    let key = |value: &Value| {
        ["name", "uid", "mountPath", "port", "key"]
            .iter()
            .find_map(|key| value.get(key).map(|found| (*key, found.clone())))
    };
    if desired.iter().all(|item| key(item).is_some()) && !desired.is_empty() {
        return desired.iter().all(|item| {
            let wanted = key(item);
            actual.iter().any(|found| key(found) == wanted && covers(item, found))
        });
    }
    desired.len() == actual.len() && desired.iter().zip(actual).all(|(item, found)| covers(item, found))
}

#[cfg(test)]
mod tests {
    use super::covers;
    use serde_json::json;

    #[test]
    fn defaults_and_foreign_fields_are_not_drift() {
        let desired = json!({"spec": {"ports": [{"name": "redis", "port": 6379}], "selector": {"a": "b"}}});
        let actual = json!({"spec": {"clusterIP": "None", "ports": [{"name": "other", "port": 1}, {"name": "redis", "port": 6379, "protocol": "TCP"}],
            "selector": {"a": "b"}}, "status": {}});
        assert!(covers(&desired, &actual));
    }

    #[test]
    fn a_hand_edit_is_drift() {
        let desired = json!({"spec": {"replicas": 1, "list": ["a"]}});
        assert!(!covers(&desired, &json!({"spec": {"replicas": 0, "list": ["a"]}})));
        assert!(!covers(&desired, &json!({"spec": {"replicas": 1, "list": ["a", "b"]}})));
        assert!(!covers(&desired, &json!({"spec": {"list": ["a"]}})));
        assert!(!covers(&json!({"selector": {"a": "b"}}), &json!({"selector": {"a": "b", "c": "d"}})));
    }

    #[test]
    fn what_is_empty_may_be_absent() {
        assert!(covers(&json!({"metadata": {"annotations": {}}, "spec": null}), &json!({"metadata": {}})));
    }
}
