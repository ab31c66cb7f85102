//! A template as a tree whose every node knows where it stands.
//!
//! YAML's short forms are gone here: `!Ref X` is `{Ref: X}`, `!Sub X` is `{Fn::Sub: X}`, as in JSON.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::problem::At;

/// Deeper than any template that was written for a purpose, and shallow enough for any stack.
pub(crate) const MOST_DEPTH: usize = 100;

/// A node. Aliases share it, so that a bomb of them weighs nothing.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) body: Body,
    height: usize,
    index: OnceCell<HashMap<String, usize>>,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Body {
    /// A string, number, boolean or null, as it was written: `7.0` stays `7.0`.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping, in the order of the template.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) value: Rc<Node>,
}

impl Node {
    /// A node, unless it would be too deep.
    pub(crate) fn new(at: At, body: Body) -> Option<Rc<Self>> {
        let below = match &body {
            Body::Scalar { .. } => 0,
            Body::List(items) => items.iter().map(|item| item.height).max().unwrap_or(0),
            Body::Map(entries) => entries.iter().map(|entry| entry.value.height).max().unwrap_or(0),
        };
        (below < MOST_DEPTH).then(|| Rc::new(Self { at, body, height: below + 1, index: OnceCell::new() }))
    }

    /// The node behind a YAML tag: `!Ref X` becomes `{Ref: X}`.
    pub(crate) fn call(at: At, tag: &str, argument: Rc<Self>) -> Option<Rc<Self>> {
        let key = match tag {
            "Ref" | "Condition" => tag.to_owned(),
            name => format!("Fn::{name}"),
        };
        Self::new(at, Body::Map(vec![Entry { key, at, value: argument }]))
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.body {
            Body::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> Option<&[Rc<Self>]> {
        match &self.body {
            Body::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        const FEW: usize = 32;
        let entries = self.entries()?;
        if entries.len() <= FEW {
            return entries.iter().find(|entry| entry.key == key);
        }
        // A large mapping may be asked as often as it is large.
        let index = self.index.get_or_init(|| {
            entries.iter().enumerate().rev().map(|(at, entry)| (entry.key.clone(), at)).collect()
        });
        entries.get(*index.get(key)?)
    }

    /// Whether it is YAML's nothing: an empty, `~` or `null` scalar without quotes.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.body, Body::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// `a list`, `a mapping` …, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.body {
            Body::Scalar { .. } if self.is_null() => "nothing",
            Body::Scalar { .. } => "a scalar",
            Body::List(_) => "a list",
            Body::Map(_) => "a mapping",
        }
    }

    /// The intrinsic function that this node calls, if it is a call.
    pub(crate) fn function(&self) -> Option<&Entry> {
        match self.entries()? {
            [only] if only.key == "Ref" || only.key.starts_with("Fn::") => Some(only),
            _ => None,
        }
    }
}
