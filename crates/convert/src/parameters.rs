//! The parameters of a template: values given and defaults, checked against what the template allows.

use std::collections::{BTreeMap, HashSet};

use regex_lite::{Regex, RegexBuilder};

use crate::Options;
use crate::problem::{At, Findings, Place};
use crate::template::Template;
use crate::tree::{Entry, Node};
use crate::value::{Secret, Text, short};

/// The value of a parameter; `None` where a problem was reported.
pub(crate) type Parameters = BTreeMap<String, Option<Parameter>>;

/// The value of a parameter.
#[derive(Clone, Debug)]
pub(crate) enum Parameter {
    /// Of a scalar type.
    One(Text),
    /// Of a list type.
    Many(Vec<Text>),
}

const FIELDS: [&str; 11] = [
    "AllowedPattern",
    "AllowedValues",
    "ConstraintDescription",
    "Default",
    "Description",
    "MaxLength",
    "MaxValue",
    "MinLength",
    "MinValue",
    "NoEcho",
    "Type",
];

/// How many bytes of values are matched against patterns, which bounds the time that takes.
const MOST_MATCHED_BYTES: usize = 1 << 16;
/// CloudFormation's own limits.
const MOST_BYTES: usize = 4096;
const MOST_PARAMETERS: usize = 200;
/// Aliases can make many of few.
const MOST_ALLOWED_VALUES: usize = 50_000;

/// Reads the section Parameters with the values that were given.
pub(crate) fn read(template: &Template, options: &Options, findings: &Findings) -> Parameters {
    let mut parameters = Parameters::new();
    let mut reader = Reader { findings, imports: &options.imports, matched: 0, allowed: 0 };
    if let Some(entry) = template.parameters.get(MOST_PARAMETERS) {
        let message = format!("a template has at most {MOST_PARAMETERS} parameters");
        findings.error(entry.at, &Place::section("Parameters"), message);
    }
    for entry in template.parameters.iter().take(MOST_PARAMETERS) {
        let given = options.parameters.get(&entry.key).map(String::as_str);
        parameters.insert(entry.key.clone(), reader.parameter(entry, given));
    }
    for (name, value) in &options.parameters {
        if parameters.contains_key(name) {
            continue;
        }
        if template.fragment {
            // A fragment declares nothing, so that what it refers to can only be given.
            parameters.insert(name.clone(), Some(Parameter::One(Text::plain(value))));
            continue;
        }
        let hint = findings.hint(name, template.parameters.iter().map(|entry| entry.key.as_str()));
        let message = format!("--parameter {name}: the template has no such parameter{hint}");
        findings.error(At { line: 1, column: 1 }, &Place::default(), message);
    }
    parameters
}

struct Reader<'a> {
    findings: &'a Findings,
    imports: &'a BTreeMap<String, String>,
    matched: usize,
    allowed: usize,
}

/// The rules of one parameter.
struct Rules<'a> {
    node: &'a Node,
    place: Place,
    number: bool,
    secret: bool,
    allowed: Option<Vec<&'a str>>,
    words: HashSet<&'a str>,
    numbers: HashSet<u64>,
    pattern: Option<(Regex, &'a str)>,
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

impl Reader<'_> {
    fn parameter(&mut self, entry: &Entry, given: Option<&str>) -> Option<Parameter> {
        let place = Place::section(format!("Parameters.{}", short(&entry.key)));
        let node = &*entry.value;
        let Some(fields) = node.entries() else {
            let message = format!("a parameter is a mapping with a Type; this is {}", node.kind());
            self.findings.error(node.at, &place, message);
            return None;
        };
        let mut sound = true;
        for field in fields.iter().filter(|field| !FIELDS.contains(&field.key.as_str())) {
            sound = false;
            let hint = self.findings.hint(&field.key, FIELDS);
            let place = place.child(&short(&field.key));
            self.findings.error(field.at, &place, format!("a parameter has no such field{hint}"));
        }
        sound &= self.well_formed(node, &place);
        let kind = node.get("Type").and_then(|kind| kind.value.text());
        let Some(kind) = kind.filter(|kind| is_type(kind)) else {
            let message = match kind {
                Some(kind) => format!(
                    "{:?} is not a type of parameters{}",
                    short(kind),
                    self.findings.hint(kind, TYPES)
                ),
                None => "a parameter needs a Type, such as String".to_owned(),
            };
            let at = node.get("Type").map_or(entry.at, |kind| kind.value.at);
            self.findings.error(at, &place.child("Type"), message);
            return None;
        };
        let default = node.get("Default");
        let default_text = default.and_then(|default| default.value.text());
        if let (Some(default), None) = (default, default_text) {
            let message = format!("a default is a string or a number; this is {}", default.value.kind());
            self.findings.error(default.value.at, &place.child("Default"), message);
            return None;
        }
        let Some(value) = given.or(default_text) else {
            let message =
                format!("the parameter has no default: give its value with --parameter {}=VALUE", entry.key);
            self.findings.error(entry.at, &place, message);
            return None;
        };
        let secret = node.get("NoEcho").and_then(|no_echo| no_echo.value.text());
        // What is no list has been told, and says nothing of the value.
        let allowed = node.get("AllowedValues").and_then(|allowed| {
            let items = allowed.value.items()?;
            Some(items.iter().filter_map(|item| item.text()).collect::<Vec<_>>())
        });
        self.allowed += allowed.as_ref().map_or(0, Vec::len);
        if self.allowed > MOST_ALLOWED_VALUES {
            let message =
                format!("there are more than {MOST_ALLOWED_VALUES} allowed values in this template");
            self.findings.error(entry.at, &place.child("AllowedValues"), message);
            return None;
        }
        let numbers = allowed.iter().flatten().filter_map(|text| number(text)).map(f64::to_bits).collect();
        let rules = Rules {
            words: allowed.iter().flatten().copied().collect(),
            numbers,
            allowed,
            pattern: self.pattern(&entry.key, node, &place),
            node,
            number: matches!(kind, "Number" | "List<Number>"),
            // Whatever is not a clear no keeps the value out of sight.
            secret: secret
                .is_some_and(|text| !["false", "no", "off"].contains(&text.to_ascii_lowercase().as_str())),
            place,
        };
        let at = match (given, default) {
            (None, Some(default)) => default.value.at,
            _ => entry.at,
        };
        let plain = given.is_some() || default.is_some_and(|default| !is_quoted(&default.value));
        let text = |value: &str| match rules.secret {
            true => Text::secret(value, Secret::Parameter),
            false => Text { plain, ..Text::plain(value) }.resolve(self.imports),
        };
        if value.len() > MOST_BYTES {
            let message =
                format!("the value is longer than the {MOST_BYTES} bytes that a parameter may have");
            self.findings.error(at, &rules.place, message);
            return None;
        }
        if kind.starts_with("AWS::SSM::Parameter::Value<") && given.is_none() {
            let why = format!(
                "the SSM parameter {value} can only be read on AWS: give its value with --parameter {}=VALUE",
                entry.key
            );
            return Some(Parameter::One(Text::unknown(value, why)));
        }
        if kind.starts_with("AWS::SSM::Parameter::Value<")
            && given.is_some_and(|given| given.starts_with('/') || Some(given) == default_text)
        {
            let message = format!(
                "{:?} is the name of the parameter on AWS: give the value that it has there, with --parameter {}=VALUE",
                short(value),
                entry.key
            );
            self.findings.error(at, &rules.place, message);
            return None;
        }
        let list = kind == "CommaDelimitedList" || kind.contains("List<");
        if !list {
            sound &= self.check(value, at, &rules);
            return sound.then(|| Parameter::One(text(value)));
        }
        let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
        for item in items() {
            sound &= self.check(item, at, &rules);
        }
        sound.then(|| Parameter::Many(items().map(text).collect()))
    }

    /// Whether the rules of a parameter are rules: a bound that is no number, or words that are no list, would allow anything.
    fn well_formed(&self, node: &Node, place: &Place) -> bool {
        let mut sound = true;
        let mut wrong = |entry: &Entry, wanted: &str| {
            let message = match entry.value.text() {
                Some(text) => format!("expected {wanted}, found {:?}", short(text)),
                None => format!("expected {wanted}, found {}", entry.value.kind()),
            };
            self.findings.error(entry.value.at, &place.child(&entry.key), message);
            sound = false;
        };
        for field in ["MaxLength", "MaxValue", "MinLength", "MinValue"] {
            let Some(entry) = node.get(field) else { continue };
            let bound = entry.value.text().and_then(number);
            if !bound.is_some_and(|bound| !field.ends_with("Length") || bound >= 0.0 && bound.fract() == 0.0)
            {
                wrong(entry, if field.ends_with("Length") { "a whole number" } else { "a number" });
            }
        }
        if let Some(entry) = node.get("AllowedValues")
            && !entry.value.items().is_some_and(|items| items.iter().all(|item| item.text().is_some()))
        {
            wrong(entry, "a list of texts or numbers");
        }
        if let Some(entry) = node.get("AllowedPattern")
            && entry.value.text().is_none()
        {
            wrong(entry, "a regular expression");
        }
        sound
    }

    /// Whether a value is one that the template allows.
    fn check(&mut self, value: &str, at: At, rules: &Rules<'_>) -> bool {
        match self.violation(value, rules) {
            None => true,
            Some(wrong) => {
                let shown = if rules.secret { "****" } else { value };
                let description =
                    rules.node.get("ConstraintDescription").and_then(|field| field.value.text());
                let because = description.map(|text| format!(" ({})", short(text))).unwrap_or_default();
                let message = format!("{:?} {wrong}{because}", short(shown));
                self.findings.error(at, &rules.place, message);
                false
            }
        }
    }

    fn violation(&mut self, value: &str, rules: &Rules<'_>) -> Option<String> {
        let number = number(value);
        if rules.number && number.is_none() {
            return Some("is not a number".to_owned());
        }
        if let Some(allowed) = &rules.allowed {
            let same = rules.number && number.is_some_and(|number| rules.numbers.contains(&number.to_bits()));
            if !rules.words.contains(value) && !same {
                let texts: Vec<String> = allowed.iter().take(20).map(|text| short(text)).collect();
                return Some(format!("is not one of the allowed values: {}", texts.join(", ")));
            }
        }
        let length = value.chars().count();
        let limit = |field: &str| rules.node.get(field)?.value.text()?.trim().parse::<f64>().ok();
        let bounds = [
            ("MinLength", length as f64, "characters", false),
            ("MaxLength", length as f64, "characters", true),
            ("MinValue", number.unwrap_or(0.0), "", false),
            ("MaxValue", number.unwrap_or(0.0), "", true),
        ];
        for (field, actual, unit, is_most) in bounds {
            if field.ends_with("Value") && !rules.number {
                continue;
            }
            let Some(bound) = limit(field) else { continue };
            let broken = if is_most { actual > bound } else { actual < bound };
            if broken {
                let side = if is_most { "more" } else { "less" };
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                return Some(format!("is {side} than the {bound}{unit} of {field}"));
            }
        }
        let (pattern, written) = rules.pattern.as_ref()?;
        self.matched += value.len() + 1;
        if self.matched > MOST_MATCHED_BYTES {
            return None;
        }
        (!pattern.is_match(value)).then(|| format!("does not match AllowedPattern {}", short(written)))
    }

    /// The pattern, if it can be checked here; else that is told.
    fn pattern<'n>(&self, name: &str, node: &'n Node, place: &Place) -> Option<(Regex, &'n str)> {
        let entry = node.get("AllowedPattern")?;
        let text = entry.value.text()?;
        let compiled = RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 15).nest_limit(50).build();
        let why = match compiled {
            Ok(_) if self.matched > MOST_MATCHED_BYTES => "there is too much to match in this template",
            Ok(compiled) => return Some((compiled, text)),
            Err(_) => "its syntax is Java's own, or it is too large",
        };
        let message = format!("the pattern is not checked here ({why}): see that {} fits it", short(name));
        self.findings.warn(entry.at, &place.child("AllowedPattern"), message);
        None
    }
}

fn is_quoted(node: &Node) -> bool {
    matches!(node.body, crate::tree::Body::Scalar { plain: false, .. })
}

const TYPES: [&str; 16] = [
    "AWS::EC2::AvailabilityZone::Name",
    "AWS::EC2::Image::Id",
    "AWS::EC2::Instance::Id",
    "AWS::EC2::KeyPair::KeyName",
    "AWS::EC2::SecurityGroup::GroupName",
    "AWS::EC2::SecurityGroup::Id",
    "AWS::EC2::Subnet::Id",
    "AWS::EC2::VPC::Id",
    "AWS::EC2::Volume::Id",
    "AWS::Route53::HostedZone::Id",
    "AWS::SSM::Parameter::Name",
    "AWS::SSM::Parameter::Value<String>",
    "CommaDelimitedList",
    "List<Number>",
    "Number",
    "String",
];

/// Whether CloudFormation has a type of parameters of that name.
fn is_type(kind: &str) -> bool {
    let within = |kind: &str, outer: &str| {
        kind.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>')).map(str::to_owned)
    };
    // One of AWS's own types, or a list of them.
    let listed = |kind: &str| {
        let inner = within(kind, "List<").unwrap_or_else(|| kind.to_owned());
        inner.starts_with("AWS::") && !inner.contains('<') && TYPES.contains(&inner.as_str())
    };
    match within(kind, "AWS::SSM::Parameter::Value<") {
        Some(inner) => {
            ["String", "List<String>", "CommaDelimitedList"].contains(&inner.as_str()) || listed(&inner)
        }
        None => TYPES.contains(&kind) || kind == "List<String>" || listed(kind),
    }
}
