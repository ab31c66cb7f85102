//! The intrinsic functions.
//!
//! Only what is asked for is evaluated: what a template says about queues and functions is none of our business.
//! Every way in is bounded (depth, steps, length of texts), because a template may come from anybody.

mod conditions;
mod functions;
mod references;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::Options;
use crate::names;
use crate::parameters::Parameters;
use crate::problem::{At, Findings, Place};
use crate::template::{Resource, Template};
use crate::tree::{Body, Entry, Node};
use crate::value::{Field, Found, Text, Value, short};

const MOST_DEPTH: usize = 150;
const MOST_STEPS: usize = 1_000_000;
const MOST_TEXT_BYTES: usize = 1 << 16;
const MOST_BYTES: usize = 1 << 25;

const FUNCTIONS: [&str; 15] = [
    "Fn::And",
    "Fn::Equals",
    "Fn::FindInMap",
    "Fn::GetAZs",
    "Fn::GetAtt",
    "Fn::If",
    "Fn::ImportValue",
    "Fn::Join",
    "Fn::Length",
    "Fn::Not",
    "Fn::Or",
    "Fn::Select",
    "Fn::Split",
    "Fn::Sub",
    "Ref",
];

/// Functions that exist and are not evaluated here, with what to do about it.
const REFUSED_FUNCTIONS: [(&str, &str); 5] = [
    ("Fn::Base64", "nothing about a cache is encoded; write the text itself"),
    ("Fn::Cidr", "address ranges are not computed here; write them out, such as 10.0.0.0/24"),
    (
        "Fn::ForEach",
        "loops are not unrolled here; convert the processed template (aws cloudformation get-template --template-stage Processed)",
    ),
    ("Fn::ToJsonString", "nothing about a cache is written in JSON; write the text itself"),
    (
        "Fn::Transform",
        "it runs a macro, which only AWS can; convert the processed template (aws cloudformation get-template --template-stage Processed)",
    ),
];

/// Why a function that exists is not evaluated here.
pub(crate) fn refusal(function: &str) -> Option<String> {
    let named = |name: &str| {
        function == name || function.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"))
    };
    let (name, why) = REFUSED_FUNCTIONS.iter().find(|(name, _)| named(name))?;
    Some(format!("{name} is refused: {why}"))
}

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

    /// Whether the template has a parameter of that name.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.parameters.contains_key(name)
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
                Value::Text(Text { plain: *plain, ..Text::plain(text) }.resolve(&self.options.imports))
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
        Some(Value::Text(text.resolve(&self.options.imports)))
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
            "Fn::Length" => match self.list(argument, call, place)? {
                Ok(items) => Some(Value::Text(Text::plain(items.len().to_string()))),
                Err(unknown) => Some(Value::Text(unknown)),
            },
            unknown => {
                let message = refusal(unknown).unwrap_or_else(|| {
                    let hint = self.findings.hint(unknown, FUNCTIONS);
                    format!("the function {} is not known{hint}", short(unknown))
                });
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
