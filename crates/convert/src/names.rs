//! What the resources of a template are called on Kubernetes.

use kagami_api::names::{ID_LENGTH_MAX, is_replication_group_id};

use crate::evaluate::Evaluator;
use crate::template::Resource;
use crate::value::{Value, short};

pub(crate) const REPLICATION_GROUP: &str = "AWS::ElastiCache::ReplicationGroup";
pub(crate) const PARAMETER_GROUP: &str = "AWS::ElastiCache::ParameterGroup";
pub(crate) const SUBNET_GROUP: &str = "AWS::ElastiCache::SubnetGroup";
pub(crate) const SECURITY_GROUP: &str = "AWS::EC2::SecurityGroup";
pub(crate) const SECURITY_GROUP_INGRESS: &str = "AWS::EC2::SecurityGroupIngress";
pub(crate) const USER: &str = "AWS::ElastiCache::User";
pub(crate) const USER_GROUP: &str = "AWS::ElastiCache::UserGroup";
pub(crate) const SUBNET: &str = "AWS::EC2::Subnet";

/// A label of DNS, and the name part of a label of Kubernetes.
const LABEL_LENGTH_MAX: usize = 63;

/// Whether a type of resource has a counterpart on Kubernetes.
pub(crate) fn is_mirrored(kind: &str) -> bool {
    matches!(kind, REPLICATION_GROUP | PARAMETER_GROUP | SUBNET_GROUP | SECURITY_GROUP)
}

/// The name of a resource: the one that the template gives, else one made from the stack's name and the logical id, as
/// CloudFormation makes them.
pub(crate) fn of(evaluator: &Evaluator<'_>, resource: &Resource) -> Option<String> {
    let (property, longest) = match resource.kind.as_str() {
        REPLICATION_GROUP => ("ReplicationGroupId", ID_LENGTH_MAX),
        SUBNET_GROUP => ("CacheSubnetGroupName", LABEL_LENGTH_MAX),
        SECURITY_GROUP => ("GroupName", LABEL_LENGTH_MAX),
        _ => ("", LABEL_LENGTH_MAX),
    };
    let given = match crate::extras::name(evaluator, resource) {
        None => None,
        Some(name) => Some(name?),
    };
    if let Some(given) = given.as_ref().filter(|_| resource.kind != REPLICATION_GROUP) {
        return Some(given.clone());
    }
    if let Some(entry) = resource.property(property) {
        let place = resource.place_of(property);
        let found = evaluator.evaluate(&entry.value, &place)?;
        if !matches!(found.value, Value::Absent) {
            let text = evaluator.known(&found, &place)?;
            if text.secret.is_some() {
                evaluator.findings.error(found.at, &place, "a name cannot be a secret: names are printed");
                return None;
            }
            if !text.text.is_empty() {
                let lower = text.text.to_lowercase();
                if resource.kind == REPLICATION_GROUP {
                    if let Some(given) = given.filter(|given| *given != lower) {
                        let message =
                            format!("{lower} is the id, and the name in Metadata is {given}: they are one");
                        evaluator.findings.error(found.at, &place, message);
                        return None;
                    }
                    if is_replication_group_id(&lower) {
                        return Some(lower);
                    }
                    let message = format!(
                        "{:?} is not a replication group id: 1 to 40 letters, digits and single hyphens, beginning \
                         with a letter and not ending with a hyphen",
                        short(&text.text)
                    );
                    evaluator.findings.error(found.at, &place, message);
                    return None;
                }
                let legal = legal(&lower, longest);
                if legal != lower {
                    let message =
                        format!("{:?} is not a name on Kubernetes; it is called {legal}", short(&lower));
                    evaluator.findings.warn(found.at, &place, message);
                }
                return Some(legal);
            }
        }
    }
    if given.is_some() {
        return given;
    }
    Some(derived(evaluator.options.stack_name.as_deref(), &resource.id, longest))
}

fn derived(stack: Option<&str>, id: &str, longest: usize) -> String {
    match stack.filter(|stack| !stack.is_empty()) {
        Some(stack) => legal(&format!("{stack}-{id}"), longest),
        None => legal(id, longest),
    }
}

/// A name that has no more than lower-case letters, digits and single hyphens, begins with a letter and ends with none of
/// the hyphens. What is too long is cut, with a sum of the whole at its end.
pub(crate) fn legal(name: &str, longest: usize) -> String {
    let mut legal = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            legal.push(c);
        } else if !legal.is_empty() && !legal.ends_with('-') {
            legal.push('-');
        }
    }
    if !legal.starts_with(|c: char| c.is_ascii_lowercase()) {
        legal.insert_str(0, "x-");
    }
    let mut legal = legal.trim_end_matches('-').to_owned();
    if legal.len() > longest {
        legal.truncate(longest - 7);
        legal = format!("{}-{:06x}", legal.trim_end_matches('-'), sum(name) & 0xff_ffff);
    }
    legal
}

/// FNV-1a: the same on every machine and in every release.
fn sum(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{derived, is_replication_group_id, legal};

    #[test]
    fn any_name_becomes_a_legal_one_and_a_legal_one_stays() {
        for (name, expected) in [
            ("dva-03-004-replicationgroup", "dva-03-004-replicationgroup"),
            ("MyRedisCluster", "myrediscluster"),
            ("a_b  c--d-", "a-b-c-d"),
            ("9lives", "x-9lives"),
            ("", "x"),
            ("日本", "x"),
        ] {
            assert_eq!(legal(name, 40), expected, "{name}");
            assert!(is_replication_group_id(&legal(name, 40)), "{name}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_stays_different_from_its_like() {
        let one = derived(Some(&"s".repeat(50)), "First", 40);
        let other = derived(Some(&"s".repeat(50)), "Second", 40);
        assert_eq!(one.len(), 40);
        assert_ne!(one, other);
    }
}
