//! The functions that make values of values.

use std::collections::HashMap;

use super::{Evaluator, MOST_TEXT_BYTES};
use crate::problem::{At, Place};
use crate::tree::{Body, Entry, Node};
use crate::value::{Found, Text, Value, short};

impl Evaluator<'_> {
    pub(super) fn sub(&self, call: &Entry, place: &Place) -> Option<Value> {
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
    pub(super) fn variable(
        &self,
        name: &str,
        variables: &HashMap<&str, &Node>,
        at: At,
        place: &Place,
    ) -> Option<Text> {
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

    pub(super) fn join(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 2..=2, "delimiter, list")?;
        let delimiter = self.text(&arguments[0], place)?;
        let list = match self.list(&arguments[1], call, place)? {
            Ok(list) => list,
            Err(unknown) => return Some(Value::Text(unknown)),
        };
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

    /// A list argument. A text that is not known stands for a list that is not known, and so is what is made of it.
    pub(super) fn list(&self, node: &Node, call: &Entry, place: &Place) -> Option<Result<Vec<Found>, Text>> {
        let found = self.evaluate(node, place)?;
        match found.value {
            Value::List(items) => {
                self.steps.set(self.steps.get() + items.len());
                Some(Ok(items))
            }
            Value::Text(text @ Text { unknown: Some(_), .. }) => Some(Err(Text { reference: None, ..text })),
            other => {
                let message = format!("{} wants a list here, found {}", call.key, other.kind());
                self.findings.error(found.at, place, message);
                None
            }
        }
    }

    pub(super) fn select(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 2..=2, "index, list")?;
        let index = self.text(&arguments[0], place)?;
        let list = match self.list(&arguments[1], call, place)? {
            Ok(list) => list,
            Err(unknown) => return Some(Value::Text(unknown)),
        };
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

    pub(super) fn split(&self, call: &Entry, place: &Place) -> Option<Value> {
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

    pub(super) fn choose(&self, call: &Entry, place: &Place) -> Option<Value> {
        let arguments = self.arguments(call, place, 3..=3, "condition, value if true, value if false")?;
        let Some(name) = arguments[0].text() else {
            self.findings.error(arguments[0].at, place, "Fn::If wants the name of a condition first");
            return None;
        };
        let holds = self.condition(name, arguments[0].at, place)?;
        Some(self.evaluate(if holds { &arguments[1] } else { &arguments[2] }, place)?.value)
    }

    pub(super) fn find_in_map(&self, call: &Entry, place: &Place) -> Option<Value> {
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

    pub(super) fn zones(&self, call: &Entry, place: &Place) -> Option<Value> {
        let everywhere = self.options.imports.contains_key("Fn::GetAZs");
        let region = match call.value.text() {
            Some("") => None,
            // Zones that were given for every region need none.
            _ if everywhere => self.findings.quietly(|| self.text(&call.value, place)).map(|text| text.text),
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
}
