//! `AWS::EC2::SecurityGroup` and its `…Ingress`: who may reach the nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kagami_api::properties::SOURCE_OWNER;
use serde_json::{Map, Value as Json, json};

use crate::evaluate::{Evaluator, refusal};
use crate::extras;
use crate::manifest::{Manifest, attributes, tell_recorded};
use crate::names;
use crate::problem::{At, Place};
use crate::properties::{Kind, Property, property, read, required};
use crate::replication_group::Uses;
use crate::template::Resource;
use crate::value::{Field, Text, Value, short};

pub(crate) static SECURITY_GROUP: &[Property] = &[
    required("GroupDescription", Kind::Text(255)),
    property("GroupName", Kind::Elsewhere),
    property("SecurityGroupEgress", Kind::Elsewhere),
    property("SecurityGroupIngress", Kind::Elsewhere),
    property("Tags", Kind::Tags),
    property("VpcId", Kind::Elsewhere),
];

/// The properties of a rule.
pub(crate) const RULE: [&str; 10] = [
    "CidrIp",
    "CidrIpv6",
    "Description",
    "FromPort",
    "IpProtocol",
    "SourcePrefixListId",
    "SourceSecurityGroupId",
    "SourceSecurityGroupName",
    "SourceSecurityGroupOwnerId",
    "ToPort",
];

/// What a rule that is a resource of its own has besides.
const GROUP: [&str; 2] = ["GroupId", "GroupName"];

/// The rules that are resources of their own.
pub(crate) struct Ingresses<'a> {
    /// Those of the group.
    pub(crate) rules: &'a [&'a Resource],
    /// Whether every one of the template could be read: one that could not may have been of this group.
    pub(crate) all_held: bool,
}

/// Converts a security group with the ingress resources that name it.
pub(crate) fn convert(
    evaluator: &Evaluator<'_>,
    resource: &Resource,
    ingresses: &Ingresses<'_>,
    uses: &[Uses],
) -> Option<Manifest> {
    let mut sheet = read(evaluator, resource, SECURITY_GROUP);
    let mut extras = extras::read(evaluator, resource, "SecurityGroup", SECURITY_GROUP);
    let given = extras.fields.remove("ingress");
    sheet.extend(extras);
    let mut sound = attributes(evaluator, resource);
    let name = evaluator.name(resource, resource.at, &resource.place());
    let users: Vec<&Uses> = uses.iter().filter(|group| group.resources.contains(&resource.id)).collect();
    let mut rules = Vec::new();
    let place = resource.place_of("SecurityGroupIngress");
    if let Some(entry) = resource.property("SecurityGroupIngress") {
        let found = evaluator.evaluate(&entry.value, &place);
        let items = match found.as_ref().map(|found| &found.value) {
            Some(Value::List(items)) => items.as_slice(),
            // A single rule is often written without its list.
            Some(Value::Map(_)) => found.as_slice(),
            Some(Value::Absent) => &[],
            Some(other) => {
                let message = format!("expected a list of rules, found {}", other.kind());
                evaluator.findings.error(entry.value.at, &place, message);
                sound = false;
                &[]
            }
            None => {
                sound = false;
                &[]
            }
        };
        for (index, item) in items.iter().enumerate() {
            let place = place.item(index);
            let Value::Map(fields) = &item.value else {
                let message = format!("expected a rule, found {}", item.value.kind());
                evaluator.findings.error(item.at, &place, message);
                sound = false;
                continue;
            };
            match rule(evaluator, fields, item.at, &place, &users) {
                Some(rule) => rules.extend(rule),
                None => sound = false,
            }
        }
    }
    for ingress in ingresses.rules {
        match of_resource(evaluator, ingress, &users) {
            Some(rule) => rules.extend(rule),
            None => sound = false,
        }
    }
    // Rules that CloudFormation has no words for, each with its place among the others.
    for rule in given.as_ref().and_then(Json::as_array).into_iter().flatten() {
        let mut rule = rule.clone();
        let place = rule.as_object_mut().and_then(|fields| fields.remove("place"));
        let place =
            place.and_then(|place| place.to_string().trim_matches('"').parse().ok()).unwrap_or(usize::MAX);
        rules.insert(place.min(rules.len()), rule);
    }
    if let Some(entry) = resource.property("SecurityGroupEgress")
        && entry.value.items().is_none_or(|items| !items.is_empty())
    {
        let place = resource.place_of("SecurityGroupEgress");
        let message = "egress has no counterpart: cache nodes open no connections but to each other";
        evaluator.findings.warn(entry.at, &place, message);
    }
    if rules.is_empty() && sound && ingresses.all_held && !users.is_empty() {
        let message = "no rule lets anybody in, so that only the group's own nodes and the operator reach it";
        evaluator.findings.warn(resource.at, &resource.place(), message);
    }
    let name = name?;
    if !sheet.sound || !sound {
        return None;
    }
    if !rules.is_empty() {
        sheet.set("Ingress", Json::Array(rules));
    }
    tell_recorded(evaluator, resource, &sheet, kagami_api::properties::SECURITY_GROUP);
    Some(Manifest {
        kind: "SecurityGroup",
        name,
        spec: Json::Object(sheet.values),
        at: resource.at,
        place: resource.place(),
        wrong: BTreeSet::new(),
    })
}

/// Holds an ingress resource to its table, whichever group it belongs to: one that is misspelt belongs to none.
pub(crate) fn hold(evaluator: &Evaluator<'_>, ingress: &Resource) -> bool {
    let place = ingress.place().child("Properties");
    let entries = ingress.attribute("Properties").and_then(|entry| entry.value.entries()).unwrap_or_default();
    let known = || RULE.into_iter().chain(GROUP);
    let mut sound = true;
    for entry in entries.iter().filter(|entry| !known().any(|name| name == entry.key)) {
        let message = refusal(&entry.key)
            .unwrap_or_else(|| format!("unknown property{}", evaluator.findings.hint(&entry.key, known())));
        evaluator.findings.error(entry.at, &place.child(&short(&entry.key)), message);
        sound = false;
    }
    if sound && !entries.iter().any(|entry| GROUP.contains(&entry.key.as_str())) {
        evaluator.findings.error(ingress.at, &place, "GroupId is required");
        sound = false;
    }
    sound
}

/// The logical id of the security group of the template that an ingress resource belongs to.
pub(crate) fn target(evaluator: &Evaluator<'_>, ingress: &Resource) -> Option<String> {
    evaluator.findings.quietly(|| {
        let entry = ingress.property("GroupId").or_else(|| ingress.property("GroupName"))?;
        let text = evaluator.text(&entry.value, &ingress.place())?;
        let group = evaluator.referent(&text).filter(|resource| resource.kind == names::SECURITY_GROUP)?;
        Some(group.id.clone())
    })
}

fn of_resource(evaluator: &Evaluator<'_>, ingress: &Resource, users: &[&Uses]) -> Option<Option<Json>> {
    let sound = attributes(evaluator, ingress);
    let place = ingress.place().child("Properties");
    let mut fields = Vec::new();
    for entry in ingress.attribute("Properties").and_then(|entry| entry.value.entries()).unwrap_or_default() {
        if GROUP.contains(&entry.key.as_str()) {
            continue;
        }
        let found = evaluator.evaluate(&entry.value, &place.child(&short(&entry.key)))?;
        if !matches!(found.value, Value::Absent) {
            fields.push(Field { name: entry.key.clone(), at: entry.at, found });
        }
    }
    let rule = rule(evaluator, &fields, ingress.at, &place, users)?;
    sound.then_some(rule)
}

/// One rule of ingress; `Some(None)` where it says nothing about cache nodes.
fn rule(
    evaluator: &Evaluator<'_>,
    fields: &[Field],
    at: At,
    place: &Place,
    users: &[&Uses],
) -> Option<Option<Json>> {
    let findings = evaluator.findings;
    let mut sound = true;
    for field in fields.iter().filter(|field| !RULE.contains(&field.name.as_str())) {
        let place = place.child(&short(&field.name));
        findings.error(field.at, &place, format!("unknown property{}", findings.hint(&field.name, RULE)));
        sound = false;
    }
    // Every field is read, so that every problem is reported.
    let mut text = |name: &str| -> Option<(Text, At)> {
        let found = &fields.iter().find(|field| field.name == name)?.found;
        match evaluator.known(found, &place.child(name)) {
            Some(text) if text.secret.is_some() => {
                findings.error(
                    found.at,
                    &place.child(name),
                    "a secret cannot stand here: it would be printed",
                );
                sound = false;
                None
            }
            Some(text) => Some((text, found.at)).filter(|(text, _)| !text.text.is_empty()),
            None => {
                sound = false;
                None
            }
        }
    };
    let (protocol, from_port, to_port) = (text("IpProtocol"), text("FromPort"), text("ToPort"));
    let (cidr, cidr6) = (text("CidrIp"), text("CidrIpv6"));
    let (group, group_name) = (text("SourceSecurityGroupId"), text("SourceSecurityGroupName"));
    let (prefixes, description) = (text("SourcePrefixListId"), text("Description"));
    let owner = fields.iter().find(|field| field.name == "SourceSecurityGroupOwnerId");
    if !sound {
        return None;
    }
    let wrong = |at: At, name: &str, message: String| -> Option<Option<Json>> {
        findings.error(at, &place.child(name), message);
        None
    };
    let Some((protocol, protocol_at)) = protocol else {
        return wrong(at, "IpProtocol", "IpProtocol is required, such as tcp".to_owned());
    };
    let ports = match protocol.text.trim().to_lowercase().as_str() {
        "tcp" | "6" => {
            let number = |port: &Option<(Text, At)>, name: &str| match port {
                None => Some(None),
                Some((text, at)) => match text.text.trim().parse::<i64>() {
                    Ok(number @ -1..=65535) => Some(Some(number)),
                    _ => {
                        wrong(*at, name, format!("{:?} is not a port: 0 to 65535", short(text.shown())));
                        None
                    }
                },
            };
            let (first, last) = (number(&from_port, "FromPort")?, number(&to_port, "ToPort")?);
            match (first, last) {
                (None, None) => {
                    return wrong(at, "FromPort", "FromPort and ToPort are required with tcp".to_owned());
                }
                (None, Some(_)) => {
                    return wrong(at, "FromPort", "FromPort is required with ToPort".to_owned());
                }
                (Some(-1), _) => None,
                (Some(first), last) => {
                    let last = last.unwrap_or(first);
                    if first > last {
                        let at = to_port.map_or(at, |(_, at)| at);
                        return wrong(at, "ToPort", format!("{last} is below FromPort {first}"));
                    }
                    Some((first, last))
                }
            }
        }
        "-1" | "all" => None,
        "udp" | "17" | "icmp" | "1" | "icmpv6" | "58" => {
            let message = "the rule is left out: cache nodes speak TCP only";
            findings.warn(protocol_at, &place.child("IpProtocol"), message);
            return Some(None);
        }
        other => {
            return wrong(
                protocol_at,
                "IpProtocol",
                format!("{:?} is not tcp, udp, icmp or -1", short(other)),
            );
        }
    };
    if let Some((prefixes, at)) = prefixes {
        let message = format!(
            "the prefix list {} is known only on AWS: write its address ranges as CidrIp",
            short(&prefixes.text)
        );
        return wrong(at, "SourcePrefixListId", message);
    }
    let mut sources = Vec::new();
    for (name, found) in [("CidrIp", cidr), ("CidrIpv6", cidr6)] {
        let Some((text, at)) = found else { continue };
        match block(text.text.trim(), name == "CidrIpv6") {
            Some(cidr) => sources.push(json!({"ipBlock": {"cidr": cidr}})),
            None => {
                let example = if name == "CidrIp" { "10.0.0.0/16" } else { "2001:db8::/32" };
                let message = format!("{:?} is not an address range, such as {example}", short(&text.text));
                return wrong(at, name, message);
            }
        }
    }
    for (name, found) in [("SourceSecurityGroupId", group), ("SourceSecurityGroupName", group_name)] {
        let Some((text, at)) = found else { continue };
        sources.push(members(evaluator, &text, at, &place.child(name))?);
    }
    if let Some(owner) = owner {
        findings.warn(owner.found.at, &place.child(&owner.name), SOURCE_OWNER);
    }
    if sources.len() > 1 {
        return wrong(
            at,
            "CidrIp",
            "a rule has one source, this one has several: write a rule for each".to_owned(),
        );
    }
    let Some(source) = sources.pop() else {
        let message = "a rule needs a source: CidrIp, CidrIpv6 or SourceSecurityGroupId";
        return wrong(at, "CidrIp", message.to_owned());
    };
    let mut rule = Map::new();
    if let Some((description, _)) = description {
        rule.insert("description".to_owned(), json!(description.text.chars().take(255).collect::<String>()));
    }
    rule.insert("from".to_owned(), source);
    if let Some((first, last)) = ports {
        rule.insert("fromPort".to_owned(), json!(first));
        rule.insert("toPort".to_owned(), json!(last));
        for user in users {
            if let Some(port) = user.port.filter(|port| !(first..=last).contains(&i64::from(*port))) {
                findings.warn(at, place, format!("the rule does not open the port {port} of {}", user.name));
            }
        }
    }
    Some(Some(Json::Object(rule)))
}

/// The pods that are members of a security group: they carry its label.
fn members(evaluator: &Evaluator<'_>, text: &Text, at: At, place: &Place) -> Option<Json> {
    let name = match evaluator.referent(text) {
        Some(resource) if resource.kind == names::SECURITY_GROUP => text.text.clone(),
        Some(resource) => {
            let message = format!(
                "{} is {}, expected {}",
                short(&resource.id),
                short(&resource.kind),
                names::SECURITY_GROUP
            );
            evaluator.findings.error(at, place, message);
            return None;
        }
        None => names::legal(&text.text, 63),
    };
    let label = kagami_api::names::security_group_member_label(&name);
    let message =
        format!("the pods that this lets in have to carry the label {label} (in the same namespace)");
    evaluator.findings.warn(at, place, message);
    Some(json!({"podSelector": {"matchExpressions": [{"key": label, "operator": "Exists"}]}}))
}

/// An address range in its canonical form, without bits beyond its prefix.
pub(crate) fn block(text: &str, v6: bool) -> Option<String> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u32 = prefix.parse().ok()?;
    match address {
        IpAddr::V4(address) if !v6 && prefix <= 32 => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Some(format!("{}/{prefix}", std::net::Ipv4Addr::from(u32::from(address) & mask)))
        }
        IpAddr::V6(address) if v6 && prefix <= 128 => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Some(format!("{}/{prefix}", std::net::Ipv6Addr::from(u128::from(address) & mask)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn an_address_range_loses_the_bits_beyond_its_prefix() {
        for (text, v6, expected) in [
            ("10.0.0.0/16", false, Some("10.0.0.0/16")),
            ("100.68.0.18/18", false, Some("100.68.0.0/18")),
            ("0.0.0.0/0", false, Some("0.0.0.0/0")),
            ("192.168.1.0/32", false, Some("192.168.1.0/32")),
            ("::/0", true, Some("::/0")),
            ("2001:db8::1/32", true, Some("2001:db8::/32")),
            ("10.0.0.0/33", false, None),
            ("10.0.0.0", false, None),
            ("::/0", false, None),
            ("anywhere", false, None),
        ] {
            assert_eq!(block(text, v6).as_deref(), expected, "{text}");
        }
    }
}
