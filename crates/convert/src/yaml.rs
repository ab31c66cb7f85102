//! YAML (and flow-style JSON) into a tree.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::problem::{At, Findings, Place};
use crate::tree::{Body, Entry, MOST_DEPTH, Node};

fn at(mark: Marker) -> At {
    At {
        line: u32::try_from(mark.line().max(1)).unwrap_or(u32::MAX),
        column: u32::try_from(mark.col() + 1).unwrap_or(u32::MAX),
    }
}

/// A list or mapping that is not closed yet.
struct Open {
    at: At,
    anchor: usize,
    tag: Option<String>,
    body: Body,
    key: Option<(String, At)>,
    seen: HashMap<String, At>,
    merged: Vec<Entry>,
}

/// Merge keys copy entries; without a bound a few lines would make any number of them.
const MOST_MERGED_BYTES: usize = 1 << 22;

/// Reads the one document of `text`. Problems are reported; then there is no tree.
pub(crate) fn read(text: &str, findings: &Findings) -> Option<Rc<Node>> {
    let nowhere = Place::default();
    let mut stack: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut root: Option<Rc<Node>> = None;
    let mut sound = true;
    let mut merged = 0;
    for step in Parser::new_from_str(text) {
        let (event, span) = match step {
            Ok(step) => step,
            Err(error) => {
                findings.error(at(*error.marker()), &nowhere, format!("this is not YAML: {}", error.info()));
                return None;
            }
        };
        let here = at(span.start);
        let (anchor, node) = match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd | Event::StreamEnd => continue,
            Event::DocumentStart(_) => {
                if root.is_some() {
                    findings.error(
                        here,
                        &nowhere,
                        "a template is one document; this is the start of a second one",
                    );
                    return None;
                }
                continue;
            }
            Event::SequenceStart(anchor, tag) => {
                if !open(&mut stack, here, anchor, tag, Body::List(Vec::new()), findings) {
                    return None;
                }
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                if !open(&mut stack, here, anchor, tag, Body::Map(Vec::new()), findings) {
                    return None;
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut done) = stack.pop() else { continue };
                if let Body::Map(entries) = &mut done.body {
                    // What is written here comes before what is merged, and what is merged first before what is merged later.
                    for entry in done.merged {
                        if !done.seen.contains_key(&entry.key) {
                            done.seen.insert(entry.key.clone(), entry.at);
                            entries.push(entry);
                        }
                    }
                }
                (done.anchor, finish(done.at, done.tag.as_deref(), done.body))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let forced =
                    tag.as_deref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !forced;
                let tag = own(tag.as_deref());
                (anchor, finish(here, tag.as_deref(), Body::Scalar { text: text.into_owned(), plain }))
            }
            Event::Alias(id) => match anchors.get(&id) {
                Some(node) => (0, Some(Rc::clone(node))),
                None => {
                    findings.error(here, &nowhere, "an alias inside of what it stands for");
                    return None;
                }
            },
        };
        let Some(node) = node else {
            too_deep(here, findings);
            return None;
        };
        if anchor > 0 {
            anchors.insert(anchor, Rc::clone(&node));
        }
        match stack.last_mut() {
            None => root = Some(node),
            Some(parent) => match &mut parent.body {
                Body::List(items) => items.push(node),
                Body::Map(entries) => match parent.key.take() {
                    None => {
                        let Some(key) = node.text() else {
                            findings.error(here, &nowhere, "a key has to be a name");
                            return None;
                        };
                        parent.key = Some((key.to_owned(), here));
                    }
                    Some((key, key_at)) => {
                        if key == "<<" {
                            sound &= merge(&node, key_at, &mut parent.merged, &mut merged, findings);
                            continue;
                        }
                        if let Some(first) = parent.seen.insert(key.clone(), key_at) {
                            sound = false;
                            let message = format!(
                                "{key} is written twice in one mapping, first in line {}",
                                first.line
                            );
                            findings.error(key_at, &nowhere, message);
                        }
                        entries.push(Entry { key, at: key_at, value: node });
                    }
                },
                Body::Scalar { .. } => {}
            },
        }
    }
    if root.is_none() {
        findings.error(At { line: 1, column: 1 }, &nowhere, "the template is empty");
    }
    root.filter(|_| sound)
}

/// Takes the entries of a mapping, or of a list of mappings, into another one: YAML's merge key.
fn merge(node: &Node, at: At, into: &mut Vec<Entry>, merged: &mut usize, findings: &Findings) -> bool {
    let nowhere = Place::default();
    let one = [node];
    let sources: Vec<&Node> = match &node.body {
        Body::List(items) => items.iter().map(|item| &**item).collect(),
        _ => one.to_vec(),
    };
    for source in sources {
        let Some(entries) = source.entries().filter(|_| source.function().is_none()) else {
            let message = format!("a merge key (<<) wants a mapping, found {}", source.kind());
            findings.error(at, &nowhere, message);
            return false;
        };
        *merged += entries.iter().map(|entry| entry.key.len() + 64).sum::<usize>();
        if *merged > MOST_MERGED_BYTES {
            findings.error(at, &nowhere, "too much is merged with merge keys (<<) in this template");
            return false;
        }
        into.extend(entries.iter().cloned());
    }
    let message =
        "merge keys (<<) are taken here; CloudFormation itself takes none: write the entries out for it";
    findings.warn(at, &nowhere, message);
    true
}

/// The short form behind a tag: `Ref` of `!Ref`. YAML's own tags say nothing that a template needs.
fn own(tag: Option<&Tag>) -> Option<String> {
    let tag = tag?;
    (tag.handle == "!" && !tag.suffix.is_empty()).then(|| tag.suffix.clone())
}

fn open(
    stack: &mut Vec<Open>,
    here: At,
    anchor: usize,
    tag: Option<std::borrow::Cow<'_, Tag>>,
    body: Body,
    findings: &Findings,
) -> bool {
    if stack.len() >= MOST_DEPTH {
        too_deep(here, findings);
        return false;
    }
    stack.push(Open {
        at: here,
        anchor,
        tag: own(tag.as_deref()),
        body,
        key: None,
        seen: HashMap::new(),
        merged: Vec::new(),
    });
    true
}

fn too_deep(here: At, findings: &Findings) {
    let message = format!("this is nested more than {MOST_DEPTH} levels deep");
    findings.error(here, &Place::default(), message);
}

fn finish(here: At, tag: Option<&str>, body: Body) -> Option<Rc<Node>> {
    let node = Node::new(here, body)?;
    match tag {
        None => Some(node),
        Some(tag) => Node::call(here, tag, node),
    }
}
