//! What this process wrote and the watches may not have shown yet; the newer of both is the truth.

use crate::world::Target;
use kagami_api::names;
use kagami_core::observed::ObjectKey;
use kagami_protocol::Shared;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What this process wrote, by namespace and object.
#[derive(Default)]
pub struct Written(Mutex<BTreeMap<(String, Target), Shared<Value>>>);

impl Written {
    /// Notes an object as the apiserver answered it.
    pub fn note(&self, namespace: &str, target: Target, object: Value) {
        self.lock().insert((namespace.to_owned(), target), object.into());
    }
    /// It was deleted.
    pub fn forget(&self, namespace: &str, key: &ObjectKey) {
        self.lock().remove(&(namespace.to_owned(), key.into()));
    }
    /// The group is gone.
    pub fn forget_group(&self, namespace: &str, group: &str) {
        self.lock().retain(|(space, _), object| space != namespace || label(object) != Some(group));
    }
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Target), Shared<Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The newer of what was seen and what was written; what was written is dropped once it was seen.
    pub fn newer(
        &self,
        namespace: &str,
        target: &Target,
        seen: Option<Shared<Value>>,
    ) -> Option<Shared<Value>> {
        let mut written = self.lock();
        if written.is_empty() {
            return seen;
        }
        let slot = (namespace.to_owned(), target.clone());
        let Some(own) = written.get(&slot) else { return seen };
        match &seen {
            Some(seen_object) if version(seen_object) >= version(own) => {
                written.remove(&slot);
                seen
            }
            _ => Some(own.clone()),
        }
    }
    /// What was written in a namespace, and whether it bears the group's label.
    pub fn targets(&self, namespace: &str, group: &str) -> Vec<(Target, bool)> {
        self.lock()
            .iter()
            .filter(|((space, _), _)| space == namespace)
            .map(|((_, target), object)| (target.clone(), label(object) == Some(group)))
            .collect()
    }
}

fn label(object: &Value) -> Option<&str> {
    object.pointer("/metadata/labels")?.get(names::LABEL_REPLICATION_GROUP)?.as_str()
}

/// Resource versions of one resource can be compared since Kubernetes says so (KEP-5504); before, every release did it.
fn version(object: &Value) -> u64 {
    object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
