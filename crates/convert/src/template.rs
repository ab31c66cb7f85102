//! The sections of a template.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::evaluate::refusal;
use crate::problem::{At, Findings, Place};
use crate::tree::{Entry, Node};
use crate::value::short;
use crate::{json, yaml};

/// More than this is no template: CloudFormation itself stops at one megabyte.
const MOST_BYTES: usize = 1 << 20;

/// One entry of the section Resources.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) id: String,
    pub(crate) at: At,
    pub(crate) kind: String,
    pub(crate) kind_at: At,
    pub(crate) body: Rc<Node>,
}

impl Resource {
    /// An attribute beside `Type`: `Properties`, `Condition`, `DeletionPolicy` …
    pub(crate) fn attribute(&self, name: &str) -> Option<&Entry> {
        self.body.get(name)
    }

    /// One property as it stands in the template.
    pub(crate) fn property(&self, name: &str) -> Option<&Entry> {
        self.attribute("Properties")?.value.get(name)
    }

    /// Where it stands, for messages.
    pub(crate) fn place(&self) -> Place {
        Place::resource(&self.id)
    }

    /// Where a property of it stands.
    pub(crate) fn place_of(&self, property: &str) -> Place {
        self.place().child("Properties").child(property)
    }
}

/// A template, taken apart but not evaluated.
#[derive(Debug, Default)]
pub(crate) struct Template {
    pub(crate) parameters: Vec<Entry>,
    pub(crate) mappings: BTreeMap<String, Rc<Node>>,
    pub(crate) conditions: BTreeMap<String, Rc<Node>>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) outputs: Vec<Entry>,
    /// Whether resources stand at the top level, as in the examples of AWS's manual.
    pub(crate) fragment: bool,
    by_id: HashMap<String, usize>,
}

const SECTIONS: [&str; 11] = [
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Globals",
    "Hooks",
    "Mappings",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
    "Rules",
];

/// Transforms that leave resources of ElastiCache and EC2 as they are.
const HARMLESS_TRANSFORMS: [&str; 4] = [
    "AWS::CodeDeployBlueGreen",
    "AWS::LanguageExtensions",
    "AWS::SecretsManager-2020-07-23",
    "AWS::Serverless-2016-10-31",
];

/// The text of a template that was read as bytes: UTF-8, or UTF-16 with the mark that some editors put before it.
///
/// # Errors
///
/// It is neither, or longer than a template may be; the sentence says which.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    // UTF-16 takes two bytes for most characters.
    if bytes.len() > 2 * MOST_BYTES + 2 {
        return Err(format!("the template has more than {MOST_BYTES} bytes"));
    }
    let utf_16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units)
            .map_err(|_| "the template begins as UTF-16 and is none: save it as UTF-8".to_owned())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                Err(format!("line {line} is not UTF-8: save the template as UTF-8"))
            }
        },
    }
}

/// The most bytes that [`decode`] takes; whoever reads a template may stop there.
pub const MOST_BYTES_READ: u64 = 2 * MOST_BYTES as u64 + 3;

impl Template {
    pub(crate) fn read(text: &str, findings: &Findings) -> Option<Self> {
        let top = Place::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MOST_BYTES {
            let message = format!("the template has {} bytes; the most is {MOST_BYTES}", text.len());
            findings.error(At { line: 1, column: 1 }, &top, message);
            return None;
        }
        let root = tree(text, findings)?;
        let Some(sections) = root.entries() else {
            let message =
                format!("a template is a mapping with the section Resources; this is {}", root.kind());
            findings.error(root.at, &top, message);
            return None;
        };
        let mut template = Self::default();
        if root.get("Resources").is_none() {
            if sections.is_empty() || !sections.iter().all(|entry| entry.value.get("Type").is_some()) {
                let written = sections.iter().map(|entry| entry.key.as_str());
                let hint = findings
                    .hint("Resources", written.filter(|key| !SECTIONS.contains(key)))
                    .replace("did you mean ", "is it ");
                findings.error(root.at, &top, format!("the template has no section Resources{hint}"));
                return None;
            }
            let message =
                "there is no section Resources; taken as a fragment with resources at its top level";
            findings.warn(root.at, &top, message);
            template.fragment = true;
            template.read_resources(sections, findings);
            return Some(template);
        }
        for section in sections {
            let place = Place::section(short(&section.key));
            match section.key.as_str() {
                "Parameters" => template.parameters = members(section, findings),
                "Mappings" => template.mappings = by_name(members(section, findings)),
                "Conditions" => template.conditions = by_name(members(section, findings)),
                "Resources" => template.read_resources(&members(section, findings), findings),
                "Outputs" => template.outputs = members(section, findings),
                // What the CDK puts into each of its templates is about its own bootstrap stack.
                "Rules"
                    if members(section, findings).iter().all(|rule| rule.key == "CheckBootstrapVersion") => {}
                "Rules" => {
                    findings.warn(section.at, &place, "rules about parameters are not checked here");
                }
                "Transform" => read_transforms(section, findings),
                known if SECTIONS.contains(&known) => {}
                unknown => {
                    let message = refusal(unknown).unwrap_or_else(|| {
                        format!("a template has no such section{}", findings.hint(unknown, SECTIONS))
                    });
                    findings.error(section.at, &place, message);
                }
            }
        }
        Some(template)
    }

    pub(crate) fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.get(*self.by_id.get(id)?)
    }

    fn read_resources(&mut self, entries: &[Entry], findings: &Findings) {
        for entry in entries {
            let place = Place::resource(&short(&entry.key));
            if entry.key.starts_with("Fn::") {
                let message = refusal(&entry.key).unwrap_or_else(|| {
                    format!("{} is not known here; write the resources out", short(&entry.key))
                });
                findings.error(entry.at, &Place::section("Resources"), message);
                continue;
            }
            let legal = entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if entry.key.is_empty() || entry.key.len() > 255 || !legal {
                let message = format!(
                    "the logical id {:?} is not alphanumeric, 1 to 255 characters",
                    short(&entry.key)
                );
                findings.error(entry.at, &Place::section("Resources"), message);
                continue;
            }
            let Some(kind) = entry.value.get("Type") else {
                let message = "a resource needs a Type, such as AWS::ElastiCache::ReplicationGroup";
                findings.error(entry.at, &place, message);
                continue;
            };
            let Some(name) = kind.value.text() else {
                findings.error(kind.at, &place.child("Type"), "the type has to be a name");
                continue;
            };
            self.by_id.insert(entry.key.clone(), self.resources.len());
            self.resources.push(Resource {
                id: entry.key.clone(),
                at: entry.at,
                kind: name.to_owned(),
                kind_at: kind.value.at,
                body: Rc::clone(&entry.value),
            });
        }
    }
}

fn tree(text: &str, findings: &Findings) -> Option<Rc<Node>> {
    if !text.trim_start().starts_with('{') {
        return yaml::read(text, findings);
    }
    // A template that begins like JSON may still be YAML in braces.
    let as_json = Findings::new("");
    if let Some(node) = json::read(text, &as_json) {
        return Some(node);
    }
    yaml::read(text, &Findings::new("")).or_else(|| json::read(text, findings))
}

fn members(section: &Entry, findings: &Findings) -> Vec<Entry> {
    match section.value.entries() {
        Some(entries) => entries.to_vec(),
        None if section.value.is_null() => Vec::new(),
        None => {
            let message = format!("a section is a mapping; this is {}", section.value.kind());
            findings.error(section.value.at, &Place::section(short(&section.key)), message);
            Vec::new()
        }
    }
}

fn by_name(entries: Vec<Entry>) -> BTreeMap<String, Rc<Node>> {
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

fn read_transforms(section: &Entry, findings: &Findings) {
    let place = Place::section("Transform");
    let one = [Rc::clone(&section.value)];
    for node in section.value.items().unwrap_or(&one) {
        match node.text() {
            Some(name) if HARMLESS_TRANSFORMS.contains(&name) => {}
            Some(name) => {
                let message = format!(
                    "the macro {name} may rewrite the template, and only AWS can run it; \
                     convert the processed template (aws cloudformation get-template --template-stage Processed)"
                );
                findings.error(node.at, &place, message);
            }
            None => findings.error(node.at, &place, "expected the name of a transform"),
        }
    }
}
