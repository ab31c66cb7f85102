//! What this process wrote and the watches may not have shown yet; the newer of both is the truth.

use crate::world::Target;
use kagami_api::names;
use kagami_core::build::read_lease;
use kagami_core::observed::ShardLease;
use kagami_protocol::Shared;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// For how long a watch may fail to show an object that was written, in milliseconds; then it is gone: deleted by somebody before
/// the watch was ever read. Should the watch only be that late, then what is created in its place is refused as a conflict.
const UNSEEN_MS: u64 = 10_000;

/// What this process wrote, by namespace and object, and when.
#[derive(Default)]
pub struct Written {
    noted: Mutex<Noted>,
    leases: Mutex<Leases>,
}

type Noted = BTreeMap<(String, Target), (Shared<Value>, i64)>;

/// What leases say, by namespace and name: read again only where one has changed.
type Leases = BTreeMap<(String, String), (Shared<Value>, Option<(String, ShardLease)>)>;

impl Written {
    /// Notes an object as the apiserver answered it, at that time (milliseconds since the Unix epoch).
    pub fn note(&self, namespace: &str, target: Target, object: Value, now_ms: i64) {
        self.lock().insert((namespace.to_owned(), target), (object.into(), now_ms));
    }
    /// It was deleted, by whomever.
    pub fn forget(&self, namespace: &str, target: &Target) {
        self.lock().remove(&(namespace.to_owned(), target.clone()));
    }
    /// The group is gone.
    pub fn forget_group(&self, namespace: &str, group: &str) {
        let other = |space: &str, object: &Value| space != namespace || label(object) != Some(group);
        self.lock().retain(|(space, _), (object, _)| other(space, object));
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|(space, _), (object, _)| other(space, object));
    }
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// What a lease says, and of which shard it is; `None` if it is no shard's.
    pub fn lease(
        &self,
        namespace: &str,
        name: String,
        object: Shared<Value>,
    ) -> Option<(String, ShardLease)> {
        let slot = (namespace.to_owned(), name);
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lease)) = leases.get(&slot).filter(|(read, _)| read.same(&object)) {
            return lease.clone();
        }
        let lease = read_lease(&object);
        leases.insert(slot, (object, lease.clone()));
        lease
    }
    /// The newer of what was seen and what was written; what was written is dropped once it was seen.
    pub fn newer(
        &self,
        namespace: &str,
        target: &Target,
        seen: Option<Shared<Value>>,
        now_ms: i64,
    ) -> Option<Shared<Value>> {
        let mut written = self.lock();
        if written.is_empty() {
            return seen;
        }
        let slot = (namespace.to_owned(), target.clone());
        let Some((own, noted_ms)) = written.get(&slot) else { return seen };
        match &seen {
            Some(seen_object) if version(seen_object) >= version(own) => {
                written.remove(&slot);
                seen
            }
            None if now_ms.abs_diff(*noted_ms) > UNSEEN_MS => {
                written.remove(&slot);
                None
            }
            _ => Some(own.clone()),
        }
    }
    /// What was written in a namespace, and whether it bears the group's label.
    pub fn targets(&self, namespace: &str, group: &str) -> Vec<(Target, bool)> {
        self.lock()
            .iter()
            .filter(|((space, _), _)| space == namespace)
            .map(|((_, target), (object, _))| (target.clone(), label(object) == Some(group)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(version: &str) -> Value {
        json!({ "metadata": { "resourceVersion": version } })
    }

    fn newer(written: &Written, target: &Target, seen: Option<Value>, now_ms: i64) -> Option<Value> {
        written.newer("shop", target, seen.map(Shared::from), now_ms).map(|object| (*object).clone())
    }

    /// A person deleted the lease of a shard within the moments before the watch had shown that its term was raised.
    #[test]
    fn what_was_deleted_before_the_watch_showed_it_is_not_believed_in_for_ever() {
        let (written, target) = (Written::default(), Target::Lease("g-0001".into()));
        written.note("shop", target.clone(), lease("7"), 100_000);
        assert_eq!(newer(&written, &target, Some(lease("6")), 150_000), Some(lease("7")), "a late watch");
        assert_eq!(newer(&written, &target, None, 105_000), Some(lease("7")), "not shown yet");
        assert_eq!(newer(&written, &target, None, 111_000), None, "never to be shown");
        assert_eq!(newer(&written, &target, None, 105_000), None);
    }

    #[test]
    fn what_the_watch_has_shown_is_the_watchs() {
        let (written, target) = (Written::default(), Target::Lease("g-0001".into()));
        written.note("shop", target.clone(), lease("7"), 100_000);
        assert_eq!(newer(&written, &target, Some(lease("8")), 100_001), Some(lease("8")));
        assert_eq!(newer(&written, &target, None, 100_002), None);
    }
}
