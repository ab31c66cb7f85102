//! One snapshot of a group, from what the watches show, what this process wrote, and what the agents say. It decides nothing.

use crate::world::Target;
use crate::written::Written;
use kagami_api::v1alpha1::ReplicationGroupStatus;
use kagami_core::observed::{Agent, Claim, Kind, Machine, ObjectKey, Observed, PodView};
use kagami_protocol::Shared;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the watches show of a group.
#[derive(Default)]
pub struct Shown {
    /// Its children.
    pub children: BTreeMap<ObjectKey, Shared<Value>>,
    /// Its shards' leases, by their names.
    pub leases: BTreeMap<String, Shared<Value>>,
    /// Its pods, by cache node.
    pub pods: BTreeMap<String, PodView>,
    /// Its volume claims, by cache node.
    pub claims: BTreeMap<String, Claim>,
    /// The machines.
    pub machines: BTreeMap<String, Machine>,
    /// UIDs of pods that are over.
    pub over: BTreeMap<String, i64>,
}

/// The snapshot. `agent` answers for a cache node, given the UID of its pod.
pub fn snapshot(
    (namespace, name): (&str, &str),
    shown: Shown,
    written: &Written,
    status: Option<&ReplicationGroupStatus>,
    agent: impl Fn(&str, Option<&str>) -> Agent,
    now_ms: i64,
    watching_ms: u64,
) -> Observed {
    let mut observed = Observed {
        now_ms,
        watching_ms,
        over: shown.over,
        machines: shown.machines,
        claims: shown.claims,
        formed: status.is_some_and(kagami_core::status::formed),
        ..Observed::default()
    };
    observed.children = shown.children;
    let mut leases: BTreeMap<String, Option<Shared<Value>>> =
        shown.leases.into_iter().map(|(name, object)| (name, Some(object))).collect();
    for (target, ours) in written.targets(namespace, name) {
        match target {
            Target::Child(key) => {
                let seen = observed.children.remove(&key);
                if (ours || seen.is_some())
                    && let Some(object) = written.newer(namespace, &Target::from(&key), seen, now_ms)
                {
                    observed.children.insert(key, object);
                }
            }
            Target::Lease(name) if ours => {
                leases.entry(name).or_default();
            }
            Target::Lease(_) => {}
            Target::Pod(_) | Target::Claim(_) | Target::Group => {}
        }
    }
    for (name, seen) in leases {
        let newest = written.newer(namespace, &Target::Lease(name.clone()), seen, now_ms);
        if let Some((shard, lease)) = newest.and_then(|newest| written.lease(namespace, name, newest)) {
            observed.leases.insert(shard, lease);
        }
    }
    for (node, pod) in shown.pods {
        observed.nodes.entry(node).or_default().pod = Some(pod);
    }
    for key in observed.children.keys().filter(|key| key.kind == Kind::StatefulSet) {
        observed.nodes.entry(key.name.clone()).or_default();
    }
    for (node, seen) in &mut observed.nodes {
        seen.agent = agent(node, seen.pod.as_ref().map(|pod| pod.uid.as_str()));
    }
    known(status, &mut observed);
    observed
}

/// What the status remembers.
fn known(status: Option<&ReplicationGroupStatus>, observed: &mut Observed) {
    for member in
        status.iter().flat_map(|status| &status.node_groups).flat_map(|group| &group.node_group_members)
    {
        if let Some(offset) = member.replication_offset {
            observed.last_offsets.insert(member.cache_cluster_id.clone(), offset);
        }
        if let Some(id) = &member.engine_id {
            observed.last_engine_ids.insert(member.cache_cluster_id.clone(), id.clone());
        }
    }
}
