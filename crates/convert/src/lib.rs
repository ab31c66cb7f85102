//! A CloudFormation template becomes Kagami manifests.
//!
//! [`convert`] reads a template (YAML with short forms, or JSON), evaluates what its ElastiCache resources need, and gives the
//! objects of `elasticache.kagami.dev`; [`render`] writes them. Nothing here does I/O.
//!
//! What is not known is an error that names file, line, resource and property, and never a guess; as many problems as possible
//! are told at once, as a compiler does. A template may come from anybody: no input makes this panic or hang.

mod auth_token;
mod endpoints;
mod engines;
mod evaluate;
mod export;
mod extras;
mod groups;
mod json;
mod judge;
mod left_out;
mod lift;
mod manifest;
mod names;
mod outputs;
mod parameters;
mod problem;
mod properties;
mod render;
mod replication_group;
mod schema;
mod security_group;
mod shape;
mod template;
mod tree;
mod value;
mod windows;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

pub use crate::export::{Exported, TemplateFormat, export, template};
pub use crate::problem::{Failure, Problem};
pub use crate::render::{Format, render};
pub use crate::template::{MOST_BYTES_READ, decode};

use crate::evaluate::Evaluator;
use crate::manifest::Manifest;
use crate::problem::{At, Findings, Place};
use crate::security_group::Ingresses;
use crate::template::{Resource, Template};
use crate::value::Value;

/// What a template cannot say of itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name of the template, for messages.
    pub file: String,
    /// Values of parameters, by name.
    pub parameters: BTreeMap<String, String>,
    /// `AWS::Region`.
    pub region: Option<String>,
    /// `AWS::AccountId`.
    pub account: Option<String>,
    /// `AWS::StackName`. Names that the template does not give begin with it.
    pub stack_name: Option<String>,
    /// What `Fn::ImportValue` gives, by export name. `STACK.Outputs.NAME` is the output of a nested stack, and `Fn::GetAZs` or
    /// `Fn::GetAZs:REGION` are zones, with commas between them; `ssm:NAME` is a parameter of Systems Manager.
    pub imports: BTreeMap<String, String>,
    /// The namespace of the manifests and of the endpoints in outputs (there `default` where none is given).
    pub namespace: Option<String>,
}

/// What a template became.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// The objects, in an order in which each finds what it refers to.
    pub manifests: Vec<Json>,
    /// What is worth knowing, in the order of the template.
    pub warnings: Vec<Problem>,
    /// The resources that have no counterpart here, in the order of the template.
    pub skipped: Vec<Skipped>,
    /// The outputs that name what Kagami makes, with the names on Kubernetes.
    pub outputs: BTreeMap<String, String>,
}

/// A resource that was not converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its logical id.
    pub id: String,
    /// Its type, such as `AWS::Lambda::Function`.
    pub kind: String,
}

/// Types of ElastiCache that mirror nothing that Kagami is.
const OTHER_CACHES: [&str; 2] = ["AWS::ElastiCache::CacheCluster", "AWS::ElastiCache::ServerlessCache"];

/// Why the resources of a type are refused, if they are.
fn refusal(kind: &str) -> Option<&'static str> {
    use kagami_api::properties::{Class, USER, USER_GROUP, sentence};
    let of_property = |table: &[kagami_api::properties::Property]| match table.first()?.class {
        Class::Refused(sentence) => Some(sentence),
        _ => None,
    };
    match kind {
        names::USER => of_property(USER),
        names::USER_GROUP => of_property(USER_GROUP),
        "AWS::ElastiCache::GlobalReplicationGroup" => Some(sentence("globalReplicationGroupId")),
        "AWS::ElastiCache::SecurityGroup" | "AWS::ElastiCache::SecurityGroupIngress" => {
            Some(sentence("cacheSecurityGroupNames"))
        }
        _ => None,
    }
}

const KNOWN_TYPES: [&str; 10] = [
    "AWS::ElastiCache::CacheCluster",
    "AWS::ElastiCache::GlobalReplicationGroup",
    "AWS::ElastiCache::ParameterGroup",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::SecurityGroup",
    "AWS::ElastiCache::SecurityGroupIngress",
    "AWS::ElastiCache::ServerlessCache",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::ElastiCache::User",
    "AWS::ElastiCache::UserGroup",
];

/// Converts a template.
///
/// # Errors
///
/// Everything that is wrong with the template, in its order, and the warnings beside it.
pub fn convert(template: &str, options: &Options) -> Result<Converted, Failure> {
    let findings = Findings::new(&options.file);
    let converted = work(template, options, &findings);
    let (problems, warnings) = findings.settle();
    match converted {
        Some(converted) if problems.is_empty() => Ok(Converted { warnings, ..converted }),
        // Whatever fails says why; this is the net beneath.
        None if problems.is_empty() => {
            let problem = Problem {
                file: options.file.clone(),
                line: 1,
                column: 1,
                resource: None,
                property: None,
                message: "the template could not be converted".to_owned(),
            };
            Err(Failure { problems: vec![problem], warnings })
        }
        _ => Err(Failure { problems, warnings }),
    }
}

fn work(text: &str, options: &Options, findings: &Findings) -> Option<Converted> {
    let template = Template::read(text, findings)?;
    let parameters = parameters::read(&template, options, findings);
    let evaluator = Evaluator::new(&template, options, findings, parameters);

    let mut skipped = BTreeSet::new();
    let mut made: Vec<&Resource> = Vec::new();
    let mut left_out: Vec<&Resource> = Vec::new();
    for resource in &template.resources {
        if !is_known(&evaluator, resource) {
            skipped.insert(resource.id.as_str());
            continue;
        }
        match evaluator.is_made(&resource.body, &resource.place()) {
            Some(true) => made.push(resource),
            Some(false) => left_out.push(resource),
            None => {}
        }
    }
    let of = |kind: &'static str| made.iter().copied().filter(move |resource| resource.kind == kind);

    let mut manifests = Vec::new();
    let mut uses = Vec::new();
    let mut complete = true;
    for resource in of(names::REPLICATION_GROUP) {
        let converted = replication_group::convert(&evaluator, resource);
        uses.push(converted.uses);
        complete &= converted.sound;
        manifests.extend(converted.manifest);
    }
    for resource in of(names::PARAMETER_GROUP) {
        match groups::parameter_group(&evaluator, resource, &uses) {
            groups::Converted::Manifest(manifest) => manifests.push(manifest),
            groups::Converted::Skipped => {
                skipped.insert(&resource.id);
            }
            groups::Converted::Wrong => complete = false,
        }
    }
    for resource in of(names::SUBNET_GROUP) {
        let manifest = groups::subnet_group(&evaluator, resource, &uses);
        complete &= manifest.is_some();
        manifests.extend(manifest);
    }
    // Security groups of other things than caches are not ours, unless they have a template to themselves.
    let alone = !template.resources.iter().any(|resource| resource.kind == names::REPLICATION_GROUP);
    let used: BTreeSet<&String> = uses.iter().flat_map(|group| &group.resources).collect();
    let is_ours = |id: &String| alone || used.contains(id);
    let mut ingresses: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    let mut all_held = true;
    for ingress in of(names::SECURITY_GROUP_INGRESS) {
        if !security_group::hold(&evaluator, ingress) {
            all_held = false;
            continue;
        }
        match security_group::target(&evaluator, ingress) {
            Some(id) if is_ours(&id) => ingresses.entry(id).or_default().push(ingress),
            Some(_) => {
                skipped.insert(&ingress.id);
            }
            None => {
                skipped.insert(&ingress.id);
                let message =
                    "its group is not in this template: add the rule to that SecurityGroup yourself";
                findings.warn(ingress.at, &ingress.place(), message);
            }
        }
    }
    complete &= all_held;
    for resource in of(names::SECURITY_GROUP) {
        if !is_ours(&resource.id) {
            skipped.insert(&resource.id);
            continue;
        }
        let rules = ingresses.remove(&resource.id).unwrap_or_default();
        let ingresses = Ingresses { rules: &rules, all_held };
        let manifest = security_group::convert(&evaluator, resource, &ingresses, &uses);
        complete &= manifest.is_some();
        manifests.extend(manifest);
    }
    judge::judge(&template, &manifests, findings);
    let outputs = outputs::read(&evaluator);

    if manifests.is_empty() && complete {
        let message = match left_out.first() {
            Some(resource) => format!("nothing is converted: the condition of {} does not hold", resource.id),
            None => "nothing is converted: the template has no replication group".to_owned(),
        };
        findings.warn(At { line: 1, column: 1 }, &Place::default(), message);
    }
    if !complete && !findings.any() {
        return None;
    }
    Some(Converted {
        manifests: objects(manifests, options, findings),
        warnings: Vec::new(),
        skipped: template
            .resources
            .iter()
            .filter(|resource| skipped.contains(resource.id.as_str()))
            .map(|resource| Skipped { id: resource.id.clone(), kind: resource.kind.clone() })
            .collect(),
        outputs,
    })
}

/// Whether a resource is a replication group that names user groups; what cannot be read may name some.
fn uses_users(evaluator: &Evaluator<'_>, group: &Resource) -> bool {
    if group.kind != names::REPLICATION_GROUP {
        return false;
    }
    let Some(entry) = group.property("UserGroupIds") else { return false };
    let found = evaluator.findings.quietly(|| {
        let made = evaluator.is_made(&group.body, &group.place()) != Some(false);
        made.then(|| evaluator.evaluate(&entry.value, &group.place_of("UserGroupIds")))
    });
    match found {
        None => false,
        Some(None) => true,
        Some(Some(found)) => match found.value {
            Value::Absent => false,
            Value::List(items) => !items.is_empty(),
            _ => true,
        },
    }
}

/// Whether a resource is of a type that is converted. What is of ElastiCache and cannot be is an error.
fn is_known(evaluator: &Evaluator<'_>, resource: &Resource) -> bool {
    let kind = resource.kind.as_str();
    if names::is_mirrored(kind) || kind == names::SECURITY_GROUP_INGRESS {
        return true;
    }
    if !kind.to_ascii_lowercase().starts_with("aws::elasticache::") {
        return false;
    }
    let place = resource.place().child("Type");
    if OTHER_CACHES.contains(&kind) {
        let message = format!("{kind} is skipped: Kagami mirrors replication groups");
        evaluator.findings.warn(resource.kind_at, &place, message);
        return false;
    }
    if matches!(kind, names::USER | names::USER_GROUP) {
        // Users of other caches than replication groups are not ours. Those of ours are told as everything that is not built yet:
        // the API server refuses the group that names them.
        let message = match refusal(kind) {
            Some(sentence)
                if evaluator.template.resources.iter().any(|group| uses_users(evaluator, group)) =>
            {
                format!("{kind} is skipped. Kagami will not take this yet: {sentence}")
            }
            _ => format!("{kind} is skipped: no replication group of the template has UserGroupIds"),
        };
        evaluator.findings.warn(resource.kind_at, &place, message);
        return false;
    }
    // A resource that its condition leaves out does no harm.
    if evaluator.is_made(&resource.body, &resource.place()) != Some(false) {
        let kind = value::short(kind);
        let message = match refusal(&kind) {
            Some(sentence) => format!("{kind} has to be removed: {}", sentence.trim_end_matches('.')),
            None => {
                format!("{kind} is not a type of ElastiCache{}", evaluator.findings.hint(&kind, KNOWN_TYPES))
            }
        };
        evaluator.findings.error(resource.kind_at, &place, message);
    }
    false
}

/// The objects in their order; two of one kind cannot have one name.
fn objects(mut manifests: Vec<Manifest>, options: &Options, findings: &Findings) -> Vec<Json> {
    manifests.sort_by(|a, b| (a.rank(), &a.name).cmp(&(b.rank(), &b.name)));
    for pair in manifests.windows(2) {
        let named = pair.iter().all(|manifest| !manifest.wrong.contains("metadata.name"));
        if named && (pair[0].kind, &pair[0].name) == (pair[1].kind, &pair[1].name) {
            let first = pair[0].place.resource.as_deref().unwrap_or_default();
            let message = format!("{} and {first} have the same name: {}", pair[1].kind, pair[1].name);
            findings.error(pair[1].at, &pair[1].place, message);
        }
    }
    manifests.into_iter().map(|manifest| manifest.object(options.namespace.as_deref())).collect()
}
