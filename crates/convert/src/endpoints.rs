//! The return values of a replication group, with the names that they have on Kubernetes.

use crate::evaluate::Evaluator;
use crate::problem::{At, Place};
use crate::shape::{Mode, Shape};
use crate::template::Resource;
use crate::value::{Found, Text, Value, short};

const ATTRIBUTES: [&str; 13] = [
    "ConfigurationEndPoint.Address",
    "ConfigurationEndPoint.Port",
    "EffectiveDurability",
    "PrimaryEndPoint.Address",
    "PrimaryEndPoint.Port",
    "ReadEndPoint.Addresses",
    "ReadEndPoint.Addresses.List",
    "ReadEndPoint.AddressesList",
    "ReadEndPoint.Ports",
    "ReadEndPoint.Ports.List",
    "ReadEndPoint.PortsList",
    "ReaderEndPoint.Address",
    "ReaderEndPoint.Port",
];

/// The port of a group that says none.
pub(crate) const DEFAULT_PORT: &str = "6379";

/// The value of `Fn::GetAtt` for a replication group called `group`.
pub(crate) fn attribute(
    evaluator: &Evaluator<'_>,
    resource: &Resource,
    group: &str,
    attribute: &str,
    at: At,
    place: &Place,
) -> Option<Value> {
    if !ATTRIBUTES.contains(&attribute) {
        let message = format!(
            "a replication group has no attribute {}{}",
            short(attribute),
            evaluator.findings.hint(attribute, ATTRIBUTES)
        );
        evaluator.findings.error(at, place, message);
        return None;
    }
    if attribute == "EffectiveDurability" {
        return Some(Value::Text(Text { mirrored: true, ..Text::plain("disabled") }));
    }
    let (endpoint, member) = attribute.split_once('.')?;
    let shape = Shape::of(evaluator, resource);
    let absent = match (endpoint, shape.mode) {
        ("ConfigurationEndPoint", Mode::Disabled) => {
            Some("cluster mode is disabled, so there is no configuration endpoint; use PrimaryEndPoint")
        }
        ("PrimaryEndPoint" | "ReaderEndPoint" | "ReadEndPoint", Mode::Enabled) => Some(
            "cluster mode is enabled, so there is only the configuration endpoint; use ConfigurationEndPoint",
        ),
        _ => None,
    };
    if let Some(why) = absent {
        let placeholder = format!("${{{}.{attribute}}}", resource.id);
        let why = format!("{}.{attribute}: {why}", short(&resource.id));
        return Some(Value::Text(Text { mirrored: true, ..Text::unknown(placeholder, why) }));
    }
    if shape.mode == Mode::Unknown {
        let message = format!(
            "whether there is {}.{endpoint} is decided by the cluster-enabled of a parameter group that is not in the template: \
             where it is yes there is only ConfigurationEndPoint, and where it is no the others",
            short(&resource.id)
        );
        evaluator.findings.warn(at, place, message);
    }
    let port = port(evaluator, resource)?;
    let namespace = evaluator.options.namespace.as_deref().unwrap_or("default");
    let address = |service: &str| format!("{service}.{namespace}.svc.cluster.local");
    let text = |text: String| Text { mirrored: true, ..Text::plain(text) };
    let list = |texts: Vec<String>| {
        Value::List(texts.into_iter().map(|item| Found { at, value: Value::Text(text(item)) }).collect())
    };
    if endpoint == "ReadEndPoint" {
        evaluator.spend(shape.nodes(group).len() * 100);
    }
    let nodes = || shape.nodes(group);
    let addresses = || nodes().iter().map(|node| address(node)).collect::<Vec<_>>();
    let ports = || nodes().iter().map(|_| port.clone()).collect::<Vec<_>>();
    Some(match (endpoint, member) {
        ("ReadEndPoint", "Addresses") => Value::Text(text(format!("[{}]", addresses().join(", ")))),
        ("ReadEndPoint", "Ports") => Value::Text(text(format!("[{}]", ports().join(", ")))),
        ("ReadEndPoint", member) if member.starts_with("Addresses") => list(addresses()),
        ("ReadEndPoint", _) => list(ports()),
        (_, "Port") => Value::Text(text(port)),
        ("ReaderEndPoint", _) => Value::Text(text(address(&format!("{group}-ro")))),
        _ => Value::Text(text(address(group))),
    })
}

/// The port of a group, as text.
fn port(evaluator: &Evaluator<'_>, resource: &Resource) -> Option<String> {
    let Some(entry) = resource.property("Port") else { return Some(DEFAULT_PORT.to_owned()) };
    let place = resource.place_of("Port");
    let found = evaluator.evaluate(&entry.value, &place)?;
    if matches!(found.value, Value::Absent) {
        return Some(DEFAULT_PORT.to_owned());
    }
    let text = evaluator.known(&found, &place)?;
    Some(if text.text.is_empty() { DEFAULT_PORT.to_owned() } else { text.text })
}
