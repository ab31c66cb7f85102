//! The intrinsic functions.
//!
//! Only what is asked for is evaluated: what a template says about queues and functions is none of our business.
//! Every way in is bounded (depth, steps, length of texts), because a template may come from anybody.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::Options;
use crate::names;
use crate::parameters::{Parameter, Parameters};
use crate::problem::{At, Findings, Place};
use crate::template::{Resource, Template};
use crate::tree::{Body, Entry, Node};
use crate::value::{Field, Found, Reference, Text, Value, short};

const MOST_DEPTH: usize = 150;
const MOST_STEPS: usize = 1_000_000;
const MOST_TEXT_BYTES: usize = 1 << 16;
const MOST_BYTES: usize = 1 << 25;

const FUNCTIONS: [&str; 14] = [
    "Fn::And",
    "Fn::Equals",
    "Fn::FindInMap",
    "Fn::GetAZs",
    "Fn::GetAtt",
    "Fn::If",
    "Fn::ImportValue",
    "Fn::Join",
    "Fn::Not",
    "Fn::Or",
    "Fn::Select",
    "Fn::Split",
    "Fn::Sub",
    "Ref",
];

const PSEUDO_PARAMETERS: [&str; 8] = [
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

/// Evaluates expressions of one template.
pub(crate) struct Evaluator<'a> {
    pub(crate) template: &'a Template,
    pub(crate) options: &'a Options,
    pub(crate) findings: &'a Findings,
    parameters: Parameters,
    conditions: RefCell<BTreeMap<String, Memo<bool>>>,
    names: RefCell<BTreeMap<String, Memo<String>>>,
    depth: Cell<usize>,
    steps: Cell<usize>,
    bytes: Cell<usize>,
}

/// A result that is computed once; asked for while it is being computed, it depends on itself.
#[derive(Clone)]
enum Memo<T> {
    Running,
    Done(Option<T>),
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        template: &'a Template,
        options: &'a Options,
        findings: &'a Findings,
        parameters: Parameters,
    ) -> Self {
        Self {
            template,
            options,
            findings,
            parameters,
            conditions: RefCell::default(),
            names: RefCell::default(),
            depth: Cell::new(0),
            steps: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// The value of a node, or `None` where a problem was reported.
    pub(crate) fn evaluate(&self, node: &Node, place: &Place) -> Option<Found> {
        let _level = self.enter(node.at, place)?;
        let value = match &node.body {
            Body::Scalar { .. } if node.is_null() => {
                self.findings.error(
                    node.at,
                    place,
                    "null values are not allowed in templates: remove the key",
                );
                return None;
            }
            Body::Scalar { text, plain } => {
                self.spend(text.len());
                Value::Text(Text { plain: *plain, ..Text::plain(text) }.resolve())
            }
            Body::List(items) => {
                // Every item is looked at, so that every problem is reported.
                let found: Vec<Option<Found>> = items.iter().map(|item| self.evaluate(item, place)).collect();
                let found: Option<Vec<Found>> = found.into_iter().collect();
                Value::List(
                    found?.into_iter().filter(|found| !matches!(found.value, Value::Absent)).collect(),
                )
            }
            Body::Map(entries) => match node.function() {
                Some(call) => self.call(call, place)?,
                None => {
                    let mut sound = true;
                    let mut fields = Vec::with_capacity(entries.len());
                    for entry in entries {
                        self.spend(entry.key.len());
                        if entry.key.starts_with("Fn::") {
                            let message = format!("{} has to stand alone in its mapping", short(&entry.key));
                            self.findings.error(entry.at, place, message);
                            sound = false;
                            continue;
                        }
                        match self.evaluate(&entry.value, place) {
                            Some(Found { value: Value::Absent, .. }) => {}
                            Some(found) => {
                                fields.push(Field { name: entry.key.clone(), at: entry.at, found });
                            }
                            None => sound = false,
                        }
                    }
                    if !sound {
                        return None;
                    }
                    Value::Map(fields)
                }
            },
        };
        Some(Found { at: node.at, value })
    }

    /// A text that is known and not a list.
    pub(crate) fn text(&self, node: &Node, place: &Place) -> Option<Text> {
        let found = self.evaluate(node, place)?;
        self.known(&found, place)
    }

    /// The text of a value, if it is one and known; else the problem is reported.
    pub(crate) fn known(&self, found: &Found, place: &Place) -> Option<Text> {
        match &found.value {
            Value::Text(Text { unknown: Some(why), .. }) => {
                self.findings.error(found.at, place, why.clone());
                None
            }
            Value::Text(text) => Some(text.clone()),
            other => {
                self.findings.error(
                    found.at,
                    place,
                    format!("expected a single value, found {}", other.kind()),
                );
                None
            }
        }
    }

    /// Whether a condition holds.
    pub(crate) fn condition(&self, name: &str, at: At, place: &Place) -> Option<bool> {
        let Some(node) = self.template.conditions.get(name) else {
            let hint = self.findings.hint(name, self.template.conditions.keys().map(String::as_str));
            let message = format!("the template has no condition {}{hint}", short(name));
            self.findings.error(at, place, message);
            return None;
        };
        let memo = self.conditions.borrow().get(name).cloned();
        match memo {
            Some(Memo::Done(result)) => return result,
            Some(Memo::Running) => {
                self.findings.error(at, place, format!("the condition {} depends on itself", short(name)));
                return None;
            }
            None => {}
        }
        self.conditions.borrow_mut().insert(name.to_owned(), Memo::Running);
        let result = self.test(node, &Place::section(format!("Conditions.{}", short(name))));
        self.conclude(&self.conditions, name, result);
        result
    }

    /// Whether a resource or an output is made, by its attribute Condition.
    pub(crate) fn is_made(&self, body: &Node, place: &Place) -> Option<bool> {
        let Some(condition) = body.get("Condition") else { return Some(true) };
        let place = place.child("Condition");
        match condition.value.text() {
            Some(name) => self.condition(name, condition.value.at, &place),
            None => {
                let message = format!("expected the name of a condition, found {}", condition.value.kind());
                self.findings.error(condition.value.at, &place, message);
                None
            }
        }
    }

    /// The name that a resource has on Kubernetes.
    pub(crate) fn name(&self, resource: &Resource, at: At, place: &Place) -> Option<String> {
        let memo = self.names.borrow().get(&resource.id).cloned();
        match memo {
            Some(Memo::Done(name)) => return name,
            Some(Memo::Running) => {
                self.findings.error(
                    at,
                    place,
                    format!("the name of {} depends on itself", short(&resource.id)),
                );
                return None;
            }
            None => {}
        }
        self.names.borrow_mut().insert(resource.id.clone(), Memo::Running);
        let name = names::of(self, resource);
        self.conclude(&self.names, &resource.id, name.clone());
        name
    }

    /// Remembers a result. A failure that nobody was told of is forgotten, so that it is told when it matters.
    fn conclude<T>(&self, memos: &RefCell<BTreeMap<String, Memo<T>>>, name: &str, result: Option<T>) {
        if result.is_none() && self.findings.is_quiet() {
            memos.borrow_mut().remove(name);
        } else {
            memos.borrow_mut().insert(name.to_owned(), Memo::Done(result));
        }
    }

    /// The resource that a text is the `Ref` or `GetAtt` of.
    pub(crate) fn referent(&self, text: &Text) -> Option<&'a Resource> {
        self.template.resource(&text.reference.as_ref()?.id)
    }

    fn enter(&self, at: At, place: &Place) -> Option<Level<'_>> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MOST_STEPS || self.bytes.get() > MOST_BYTES {
            self.findings.error(at, place, "the template is too large when its functions are evaluated");
            return None;
        }
        if self.depth.get() >= MOST_DEPTH {
            self.findings.error(at, place, "functions and references are nested too deep here");
            return None;
        }
        self.depth.set(self.depth.get() + 1);
        Some(Level(&self.depth))
    }

    /// Counts bytes that are made elsewhere.
    pub(crate) fn spend(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// A text that a function made, within bounds.
    fn made(&self, text: Text, at: At, place: &Place) -> Option<Value> {
        self.bytes.set(self.bytes.get() + text.text.len());
        if text.text.len() > MOST_TEXT_BYTES {
            self.findings.error(at, place, format!("this text has more than {MOST_TEXT_BYTES} bytes"));
            return None;
        }
        Some(Value::Text(text.resolve()))
    }

    fn call(&self, call: &Entry, place: &Place) -> Option<Value> {
        let argument = &*call.value;
        self.spend(argument.text().map_or(0, str::len) * 2);
        match call.key.as_str() {
            "Ref" => match argument.text() {
                Some(name) => self.reference(name, argument.at, place),
                None => self.wants(call, place, "the name of a parameter or resource"),
            },
            "Fn::GetAtt" => self.get_att(call, place),
            "Fn::Sub" => self.sub(call, place),
            "Fn::Join" => self.join(call, place),
            "Fn::Select" => self.select(call, place),
            "Fn::Split" => self.split(call, place),
            "Fn::If" => self.choose(call, place),
            "Fn::FindInMap" => self.find_in_map(call, place),
            "Fn::ImportValue" => {
                let name = self.text(argument, place)?;
                Some(Value::Text(match self.options.imports.get(&name.text) {
                    Some(value) => {
                        self.spend(value.len());
                        Text::plain(value)
                    }
                    None => {
                        let name = short(name.shown());
                        let why = format!(
                            "the import {name} is not known here: give it with --import {name}=VALUE"
                        );
                        Text::unknown(format!("${{{name}}}"), why)
                    }
                }))
            }
            "Fn::GetAZs" => self.zones(call, place),
            condition @ ("Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not") => {
                let message = format!("{condition} can only stand in the section Conditions");
                self.findings.error(call.at, place, message);
                None
            }
            unknown => {
                let message = format!(
                    "the function {} is not known{}",
                    short(unknown),
                    self.findings.hint(unknown, FUNCTIONS)
                );
                self.findings.error(call.at, place, message);
                None
            }
        }
    }

    fn wants<T>(&self, call: &Entry, place: &Place, what: &str) -> Option<T> {
        let message = format!("{} wants {what}, found {}", call.key, call.value.kind());
        self.findings.error(call.value.at, place, message);
        None
    }

    /// The arguments of a function that takes a list of a certain length.
    fn arguments<'n>(
        &self,
        call: &'n Entry,
        place: &Place,
        count: std::ops::RangeInclusive<usize>,
        what: &str,
    ) -> Option<&'n [Rc<Node>]> {
        match call.value.items() {
            Some(items) if count.contains(&items.len()) => Some(items),
            Some(items) => {
                let message = format!("{} wants [{what}], found a list of {}", call.key, items.len());
                self.findings.error(call.value.at, place, message);
                None
            }
            None => self.wants(call, place, &format!("[{what}]")),
        }
    }

    fn reference(&self, name: &str, at: At, place: &Place) -> Option<Value> {
        if let Some(parameter) = self.parameters.get(name) {
            // A parameter that was wrong has been reported.
            return Some(match parameter.as_ref()? {
                Parameter::One(text) => {
                    self.spend(text.text.len());
                    Value::Text(text.clone())
                }
                Parameter::Many(texts) => {
                    self.spend(texts.iter().map(|text| text.text.len()).sum());
                    self.steps.set(self.steps.get() + texts.len());
                    let found = |text: &Text| Found { at, value: Value::Text(text.clone()) };
                    Value::List(texts.iter().map(found).collect())
                }
            });
        }
        if name.starts_with("AWS::") {
            return self.pseudo_parameter(name, at, place);
        }
        if let Some(resource) = self.template.resource(name) {
            return self.resource(resource, at, place).map(Value::Text);
        }
        let known = self.parameters.keys().map(String::as_str);
        let known = known.chain(self.template.resources.iter().map(|resource| resource.id.as_str()));
        let name = short(name);
        let hint = match self.template.fragment {
            true => format!("; in a fragment, give it with --parameter {name}=VALUE"),
            false => self.findings.hint(&name, known.chain(PSEUDO_PARAMETERS)),
        };
        self.findings.error(
            at,
            place,
            format!("{name} is neither a parameter nor a resource of the template{hint}"),
        );
        None
    }

    fn pseudo_parameter(&self, name: &str, at: At, place: &Place) -> Option<Value> {
        let given = |value: &Option<String>, option: &str| match value {
            Some(value) => Text::plain(value),
            None => Text::unknown(format!("${{{name}}}"), format!("{name} is not known here: give {option}")),
        };
        let by_region = |china: &str, government: &str, world: &str| match &self.options.region {
            Some(region) if region.starts_with("cn-") => Text::plain(china),
            Some(region) if region.starts_with("us-gov-") => Text::plain(government),
            _ => Text { text: world.to_owned(), ..given(&self.options.region, "--region REGION") },
        };
        Some(Value::Text(match name {
            "AWS::NoValue" => return Some(Value::Absent),
            "AWS::Region" => given(&self.options.region, "--region REGION"),
            "AWS::AccountId" => given(&self.options.account, "--account ID"),
            "AWS::StackName" => given(&self.options.stack_name, "--stack-name NAME"),
            "AWS::Partition" => by_region("aws-cn", "aws-us-gov", "aws"),
            "AWS::URLSuffix" => by_region("amazonaws.com.cn", "amazonaws.com", "amazonaws.com"),
            "AWS::StackId" | "AWS::NotificationARNs" => {
                Text::unknown(format!("${{{name}}}"), format!("{name} is known only on AWS; write a value"))
            }
            unknown => {
                let hint = self.findings.hint(unknown, PSEUDO_PARAMETERS);
                let message = format!("{} is not a pseudo parameter{hint}", short(unknown));
                self.findings.error(at, place, message);
                return None;
            }
        }))
    }

    /// What `Ref` gives for a resource: the name of what is mirrored; of anything else only AWS knows it.
    fn resource(&self, resource: &Resource, at: At, place: &Place) -> Option<Text> {
        let own = resource.place();
        if !self.is_made(&resource.body, &own)? {
            let message =
                format!("{} is left out by its condition, so nothing can refer to it", short(&resource.id));
            self.findings.error(at, place, message);
            return None;
        }
        let reference = Some(Reference { id: resource.id.clone(), attribute: None });
        if names::is_mirrored(&resource.kind) {
            let name = self.name(resource, at, place)?;
            return Some(Text { reference, mirrored: true, ..Text::plain(name) });
        }
        let why = format!(
            "{} is {}, whose id is known only on AWS; write a value, or make it a parameter",
            short(&resource.id),
            article(&resource.kind)
        );
        Some(Text { reference, ..Text::unknown(format!("${{{}}}", resource.id), why) })
    }

    fn get_att(&self, call: &Entry, place: &Place) -> Option<Value> {
        let argument = &*call.value;
        let (id, attribute) = match &argument.body {
            Body::Scalar { text, .. } => match text.split_once('.') {
                Some((id, attribute)) => (id.to_owned(), attribute.to_owned()),
                None => return self.wants(call, place, "Resource.Attribute"),
            },
            Body::List(items) if items.len() >= 2 => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| Some(self.text(item, place)?.text)).collect();
                let texts = texts?;
                (texts[0].clone(), texts[1..].join("."))
            }
            _ => return self.wants(call, place, "Resource.Attribute"),
        };
        self.attribute(&id, &attribute, argument.at, place)
    }

    fn attribute(&self, id: &str, attribute: &str, at: At, place: &Place) -> Option<Value> {
        let Some(resource) = self.template.resource(id) else {
            let hint =
                self.findings.hint(id, self.template.resources.iter().map(|resource| resource.id.as_str()));
            self.findings.error(at, place, format!("the template has no resource {}{hint}", short(id)));
            return None;
        };
        let text = self.resource(resource, at, place)?;
        let reference = Some(Reference { id: id.to_owned(), attribute: Some(attribute.to_owned()) });
        match resource.kind.as_str() {
            names::REPLICATION_GROUP => {
                let found = crate::endpoints::attribute(self, resource, &text.text, attribute, at, place)?;
                return Some(match found {
                    Value::Text(text) => Value::Text(Text { reference, ..text }),
                    other => other,
                });
            }
            names::SECURITY_GROUP if matches!(attribute, "GroupId" | "Id") => {
                return Some(Value::Text(Text { reference, ..text }));
            }
            names::PARAMETER_GROUP if attribute == "CacheParameterGroupName" => {
                return Some(Value::Text(Text { reference, ..text }));
            }
            names::SUBNET_GROUP if attribute == "CacheSubnetGroupName" => {
                return Some(Value::Text(Text { reference, ..text }));
            }
            names::SUBNET if attribute == "AvailabilityZone" => {
                if let Some(zone) = resource.property("AvailabilityZone") {
                    return Some(self.evaluate(&zone.value, &resource.place_of("AvailabilityZone"))?.value);
                }
            }
            // The outputs of a nested stack are like imports.
            "AWS::CloudFormation::Stack" if attribute.starts_with("Outputs.") => {
                let name = format!("{id}.{attribute}");
                return Some(Value::Text(match self.options.imports.get(&name) {
                    Some(value) => Text::plain(value),
                    None => {
                        let name = short(&name);
                        let why = format!(
                            "the output of the nested stack is not known here: give it with --import {name}=VALUE"
                        );
                        Text::unknown(format!("${{{name}}}"), why)
                    }
                }));
            }
            _ => {}
        }
        let why = format!(
            "{} of {} ({}) is known only on AWS; write a value, or make it a parameter",
            short(attribute),
            short(id),
            short(&resource.kind)
        );
        Some(Value::Text(Text { reference, ..Text::unknown(format!("${{{id}.{attribute}}}"), why) }))
    }

    fn sub(&self, call: &Entry, place: &Place) -> Option<Value> {
        let argument = &*call.value;
        let (pattern, variables) = match &argument.body {
            Body::Scalar { .. } => (argument, None),
            Body::List(items) if items.len() == 2 => (&*items[0], Some(&*items[1])),
            _ => return self.wants(call, place, "a text, or [text, variables]"),
        };
        let (Some(text), at) = (pattern.text(), pattern.at) else {
            return self.wants(call, place, "a text, or [text, variables]");
        };
        let variables = match variables {
            None => &[][..],
            Some(node) => match node.entries() {
                Some(entries) if node.function().is_none() => entries,
                _ => return self.wants(call, place, "[text, variables] with a mapping of variables"),
            },
        };
        let variables: HashMap<&str, &Node> =
            variables.iter().map(|entry| (entry.key.as_str(), &*entry.value)).collect();
        let mut result = Text::default();
        let mut rest = text;
        let mut sound = true;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            let Some(end) = from.find('}') else { break };
            let name = &from[2..end];
            result.append(&Text::plain(before));
            rest = &from[end + 1..];
            if let Some(literal) = name.strip_prefix('!') {
                result.append(&Text::plain(format!("${{{literal}}}")));
            } else {
                match self.variable(name, &variables, at, place) {
                    Some(text) => result.append(&text),
                    None => sound = false,
                }
            }
            if result.text.len() > MOST_TEXT_BYTES {
                break;
            }
        }
        result.append(&Text::plain(rest));
        result.plain = false;
        if !sound {
            return None;
        }
        self.made(result, at, place)
    }

    /// A variable of `Fn::Sub`.
    fn variable(&self, name: &str, variables: &HashMap<&str, &Node>, at: At, place: &Place) -> Option<Text> {
        let _level = self.enter(at, place)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
        if name.is_empty() || !name.chars().all(legal) {
            let message = format!(
                "${{{}}}: variable names in Fn::Sub must contain only alphanumeric characters, underscores, periods \
                 and colons (write ${{!…}} for a literal one)",
                short(name)
            );
            self.findings.error(at, place, message);
            return None;
        }
        let value = match variables.get(name) {
            Some(node) => self.evaluate(node, place)?.value,
            None => match name.split_once('.') {
                Some((id, attribute)) => self.attribute(id, attribute, at, place)?,
                None => self.reference(name, at, place)?,
            },
        };
        match value {
            Value::Text(text) => Some(text),
            other => {
                let message =
                    format!("${{{}}} has to be a single value, it is {}", short(name), other.kind());
                self.findings.error(at, place, message);
                None
            }
        }
    }

    fn join(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 2..=2, "delimiter, list")?;
        let delimiter = self.text(&arguments[0], place)?;
        let list = self.list(&arguments[1], call, place)?;
        let mut result = Text::default();
        for (index, found) in list.iter().enumerate() {
            let Value::Text(text) = &found.value else {
                let message = format!("Fn::Join joins single values, found {}", found.value.kind());
                self.findings.error(found.at, place, message);
                return None;
            };
            if index > 0 {
                result.append(&delimiter);
            }
            result.append(text);
            if result.text.len() > MOST_TEXT_BYTES {
                break;
            }
        }
        self.made(result, call.at, place)
    }

    /// A list argument. A text that is not known stands for a list that is not known.
    fn list(&self, node: &Node, call: &Entry, place: &Place) -> Option<Vec<Found>> {
        let found = self.evaluate(node, place)?;
        match found.value {
            Value::List(items) => {
                self.steps.set(self.steps.get() + items.len());
                Some(items)
            }
            Value::Text(Text { unknown: Some(why), .. }) => {
                self.findings.error(found.at, place, why);
                None
            }
            other => {
                let message = format!("{} wants a list here, found {}", call.key, other.kind());
                self.findings.error(found.at, place, message);
                None
            }
        }
    }

    fn select(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 2..=2, "index, list")?;
        let index = self.text(&arguments[0], place)?;
        let list = self.list(&arguments[1], call, place)?;
        let Some(found) = index.text.trim().parse::<usize>().ok().and_then(|index| list.get(index)) else {
            let message = format!(
                "Fn::Select: there is no item {} in a list of {} (the first is 0)",
                short(index.shown()),
                list.len()
            );
            self.findings.error(arguments[0].at, place, message);
            return None;
        };
        Some(found.value.clone())
    }

    fn split(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 2..=2, "delimiter, text")?;
        let delimiter = self.text(&arguments[0], place)?;
        let found = self.evaluate(&arguments[1], place)?;
        if let Value::Text(text @ Text { unknown: Some(_), .. }) = found.value {
            return Some(Value::Text(text));
        }
        let text = self.known(&found, place)?;
        if delimiter.text.is_empty() {
            self.findings.error(arguments[0].at, place, "Fn::Split wants a delimiter that is not empty");
            return None;
        }
        if text.secret.is_some() {
            self.findings.error(arguments[1].at, place, "a secret is not taken apart here");
            return None;
        }
        let items: Vec<Found> = text
            .text
            .split(&delimiter.text)
            .map(|item| Found {
                at: found.at,
                value: Value::Text(Text { mirrored: text.mirrored, ..Text::plain(item) }),
            })
            .collect();
        self.steps.set(self.steps.get() + items.len());
        self.bytes.set(self.bytes.get() + text.text.len());
        Some(Value::List(items))
    }

    fn choose(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 3..=3, "condition, value if true, value if false")?;
        let Some(name) = arguments[0].text() else {
            self.findings.error(arguments[0].at, place, "Fn::If wants the name of a condition first");
            return None;
        };
        let holds = self.condition(name, arguments[0].at, place)?;
        Some(self.evaluate(if holds { &arguments[1] } else { &arguments[2] }, place)?.value)
    }

    fn find_in_map(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 3..=4, "map, first key, second key")?;
        let mut keys = Vec::new();
        for argument in &arguments[..3] {
            keys.push(self.text(argument, place)?.text);
        }
        let default = arguments.get(3).and_then(|node| node.get("DefaultValue"));
        let Some(map) = self.template.mappings.get(&keys[0]) else {
            let hint = self.findings.hint(&keys[0], self.template.mappings.keys().map(String::as_str));
            let message = format!("the section Mappings has no {}{hint}", short(&keys[0]));
            self.findings.error(arguments[0].at, place, message);
            return None;
        };
        let mut node = &**map;
        for (depth, key) in keys[1..].iter().enumerate() {
            match node.get(key) {
                Some(entry) => node = &entry.value,
                None => {
                    if let Some(default) = default {
                        return Some(self.evaluate(&default.value, place)?.value);
                    }
                    let known = node.entries().unwrap_or_default().iter().map(|entry| entry.key.as_str());
                    let hint = self.findings.hint(key, known);
                    let within = keys[..=depth].join(".");
                    let message = format!("the mapping {} has no key {}{hint}", short(&within), short(key));
                    self.findings.error(arguments[depth + 1].at, place, message);
                    return None;
                }
            }
        }
        Some(self.evaluate(node, place)?.value)
    }

    fn zones(&self, call: &Entry, place: &Place) -> Option<Value> {
        let region = match call.value.text() {
            Some("") => None,
            _ => Some(self.text(&call.value, place)?.text),
        };
        let region = region.filter(|region| !region.is_empty()).or_else(|| self.options.region.clone());
        let region = region.unwrap_or_default();
        let given = self.options.imports.get(&format!("Fn::GetAZs:{region}"));
        let Some(zones) = given.or_else(|| self.options.imports.get("Fn::GetAZs")) else {
            let region = if region.is_empty() { "the region".to_owned() } else { region };
            let why = format!(
                "the zones that AWS shows your account in {region} are not known here: \
                 give them with --import Fn::GetAZs=ZONE,ZONE"
            );
            return Some(Value::Text(Text::unknown("${Fn::GetAZs}", why)));
        };
        let found = |zone: &str| Found { at: call.value.at, value: Value::Text(Text::plain(zone.trim())) };
        Some(Value::List(zones.split(',').map(found).collect()))
    }

    /// An expression of the section Conditions.
    fn test(&self, node: &Node, place: &Place) -> Option<bool> {
        let _level = self.enter(node.at, place)?;
        let call = match node.entries() {
            Some([only]) => only,
            _ => {
                let message = format!("expected a function such as Fn::Equals, found {}", node.kind());
                self.findings.error(node.at, place, message);
                return None;
            }
        };
        match call.key.as_str() {
            "Condition" => match call.value.text() {
                Some(name) => self.condition(name, call.value.at, place),
                None => self.wants(call, place, "the name of a condition"),
            },
            "Fn::Equals" => {
                let arguments = self.arguments(call, place, 2..=2, "value, value")?;
                let left = self.text(&arguments[0], place);
                let right = self.text(&arguments[1], place);
                Some(left?.text == right?.text)
            }
            "Fn::Not" => {
                let arguments = self.arguments(call, place, 1..=1, "condition")?;
                Some(!self.test(&arguments[0], place)?)
            }
            name @ ("Fn::And" | "Fn::Or") => {
                let arguments = self.arguments(call, place, 1..=10, "two to ten conditions")?;
                let results: Vec<Option<bool>> =
                    arguments.iter().map(|argument| self.test(argument, place)).collect();
                let results: Option<Vec<bool>> = results.into_iter().collect();
                let mut results = results?.into_iter();
                Some(if name == "Fn::And" { results.all(|holds| holds) } else { results.any(|holds| holds) })
            }
            unknown => {
                let known = ["Condition", "Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or"];
                let message =
                    format!("{} is not a condition{}", short(unknown), self.findings.hint(unknown, known));
                self.findings.error(call.at, place, message);
                None
            }
        }
    }
}

/// One level of evaluation, left when this is dropped.
struct Level<'a>(&'a Cell<usize>);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn article(kind: &str) -> String {
    let kind = short(kind);
    if kind.starts_with("AWS") { format!("an {kind}") } else { format!("a {kind}") }
}
