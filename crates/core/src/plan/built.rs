//! What plans build again and again: objects are built when what they are built from has changed, and held against what is there
//! when that has changed.

use super::{Frozen, Setting, children, key};
use crate::build::{self, NODE_ANNOTATION, NodeInputs, Reachable};
use crate::desired::Desired;
use crate::engine;
use crate::observed::{Kind, ObjectKey, Observed};
use kagami_protocol::Config;
use kagami_protocol::Shared;
use serde_json::Value;

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What one group's last plan built. It says nothing that the arguments of [`super::plan`] do not say, and may be lost at any
/// time.
#[derive(Debug, Default)]
pub struct Built {
    group: Option<Desired>,
    config: OnceLock<(BTreeMap<String, String>, Config)>,
    kept: BTreeMap<ObjectKey, (Shared<Value>, Option<Shared<NodeInputs>>)>,
    inputs: BTreeMap<String, Shared<NodeInputs>>,
    operator_namespace: String,
    objects: Option<Vec<Wanted>>,
    slices: BTreeMap<String, (Vec<Reachable>, Wanted)>,
}

/// An object as it should be.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: ObjectKey,
    pub(super) object: Value,
    /// What was found to be as it should.
    pub(super) met: Option<Shared<Value>>,
}

impl Wanted {
    pub(super) fn new(key: ObjectKey, object: Value) -> Self {
        Self { key, object, met: None }
    }
}

impl Built {
    /// What the nodes' StatefulSets were built from, by cache node.
    pub(super) fn kept(&mut self, observed: &Observed) -> BTreeMap<String, Shared<NodeInputs>> {
        let sets = observed.children.iter().filter(|(key, _)| key.kind == Kind::StatefulSet);
        self.kept.retain(|key, _| observed.children.contains_key(key));
        let mut kept = BTreeMap::new();
        for (key, object) in sets {
            if self.kept.get(key).is_none_or(|(read, _)| !read.same(object)) {
                self.kept.insert(key.clone(), (object.clone(), read_inputs(object)));
            }
            if let Some((_, Some(inputs))) = self.kept.get(key) {
                kept.insert(key.name.clone(), inputs.clone());
            }
        }
        kept
    }

    /// What is built of another group is worth nothing.
    pub(super) fn turn_to(&mut self, group: &Desired) {
        if self.group.as_ref() != Some(group) {
            self.group = Some(group.clone());
            self.config = OnceLock::new();
            self.objects = None;
            self.slices.clear();
        }
    }

    /// What engines of the group run with.
    pub(super) fn config(&self, group: &Desired) -> &(BTreeMap<String, String>, Config) {
        self.config.get_or_init(|| engine::config(group))
    }

    /// All objects whose shape does not depend on who serves.
    pub(super) fn objects(&mut self, frozen: &Frozen, setting: &Setting) -> &mut [Wanted] {
        if self.inputs != frozen.inputs || self.operator_namespace != setting.operator_namespace {
            self.inputs.clone_from(&frozen.inputs);
            self.operator_namespace.clone_from(&setting.operator_namespace);
            self.objects = None;
        }
        self.objects.get_or_insert_with(|| children::wanted(frozen, setting))
    }

    /// The addresses behind a service.
    pub(super) fn slice(&mut self, group: &Desired, service: &str, addresses: Vec<Reachable>) -> &mut Wanted {
        let fits = self.slices.get(service).is_some_and(|(of, _)| *of == addresses);
        if !fits {
            self.slices.remove(service);
        }
        let (_, wanted) = self.slices.entry(service.to_owned()).or_insert_with(|| {
            let slice = build::endpoint_slice(group, service, &addresses);
            (addresses, Wanted::new(key(Kind::EndpointSlice, service), slice))
        });
        wanted
    }
}

fn read_inputs(object: &Value) -> Option<Shared<NodeInputs>> {
    let text = object.pointer("/metadata/annotations")?.get(NODE_ANNOTATION)?.as_str()?;
    serde_json::from_str::<NodeInputs>(text).ok().map(Shared::from)
}
