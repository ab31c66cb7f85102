//! One snapshot of a group, from what the watches show, what this process wrote, and what the agents say. It decides nothing.

use crate::world::Target;
use crate::written::Written;
use kagami_api::v1alpha1::ReplicationGroupStatus;
use kagami_core::observed::{Agent, Claim, Kind, Machine, ObjectKey, Observed, PodView, ShardLease};
use kagami_protocol::{Report, Shared};
use serde_json::Value;
use std::collections::BTreeMap;

/// How long after its next pod was created a pod that was deleted by force may take to end: the kubelet gives it two seconds.
const DEPARTS_WITHIN_MS: i64 = 10_000;

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
    /// Pods whose objects are gone, or replaced already, and whose agents speak still, by cache node: deleted by force, they are ended
    /// some seconds later.
    pub departing: BTreeMap<String, (PodView, Shared<Report>)>,
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
    let mut departing = shown.departing;
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
        // A primary says what becomes of it, and hands over, until it is ended; its next pod is looked at after that.
        let young = |shown: &PodView| now_ms.saturating_sub(shown.created_ms) < DEPARTS_WITHIN_MS;
        if let Some((pod, report)) = departing.remove(node).filter(|(_, report)| {
            seen.pod.as_ref().is_none_or(young) && was_primary(&observed.leases, node, report)
        }) {
            (seen.pod, seen.agent) = (Some(pod), Agent::Up(report));
        }
    }
    known(status, &mut observed);
    observed
}

/// Whether a shard that has served has its primary in that pod of a node, or had it there until just now.
fn was_primary(leases: &BTreeMap<String, ShardLease>, node: &str, report: &Report) -> bool {
    let of = |lease: &ShardLease| lease.holder == node && lease.boot.pod_uid == report.boot.pod_uid;
    leases.values().any(|lease| lease.served && of(lease))
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

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_api::names;
    use kagami_protocol::Boot;
    use serde_json::json;

    const NODE: &str = "g-0001-001";
    const NOW_MS: i64 = 1_000_000;

    fn boot(pod_uid: &str) -> Boot {
        format!("{pod_uid}/0199-1/1").parse().unwrap()
    }

    fn pod(uid: &str, created_ms: i64) -> PodView {
        PodView { uid: uid.into(), created_ms, ..PodView::default() }
    }

    /// What is shown of a node whose pod `old` was deleted by force while its agent speaks on.
    fn shown_of(leased: &str, served: bool, next: Option<PodView>) -> Option<PodView> {
        let lease = json!({
            "metadata": {
                "name": "g-0001", "resourceVersion": "1", "labels": { names::LABEL_NODE_GROUP: "0001" },
                "annotations": {
                    "elasticache.kagami.dev/boot": boot(leased).to_string(),
                    "elasticache.kagami.dev/served": served.to_string(),
                },
            },
            "spec": { "holderIdentity": NODE, "leaseTransitions": 3 },
        });
        let report: Report = serde_json::from_value(json!({
            "seq": 1, "node": NODE, "boot": boot("old").to_string(), "agentVersion": "0", "term": 3, "state": { "is": "running" },
            "persistent": false, "hasData": true, "exits": 0, "terminating": true, "guard": true, "fenced": false,
        }))
        .unwrap();
        let mut shown = Shown::default();
        shown.children.insert(ObjectKey { kind: Kind::StatefulSet, name: NODE.into() }, json!({}).into());
        shown.leases.insert("g-0001".into(), lease.into());
        shown.pods.extend(next.map(|pod| (NODE.to_owned(), pod)));
        let departing = PodView { deleting: true, ..pod("old", 0) };
        shown.departing.insert(NODE.into(), (departing, report.into()));
        let agent = |_: &str, _: Option<&str>| Agent::Unheard;
        let mut observed = snapshot(("n", "g"), shown, &Written::default(), None, agent, NOW_MS, 60_000);
        let seen = observed.nodes.remove(NODE)?;
        assert_eq!(matches!(seen.agent, Agent::Up(_)), seen.pod.as_ref().is_some_and(|pod| pod.uid == "old"));
        seen.pod
    }

    #[test]
    fn a_primary_whose_pod_was_deleted_by_force_is_shown_until_its_agent_is_silent() {
        let uid = |leased: &str, served: bool, next: Option<PodView>| {
            shown_of(leased, served, next).map(|pod| pod.uid).unwrap_or_default()
        };
        let next = |age_ms: i64| Some(pod("new", NOW_MS - age_ms));
        assert_eq!(uid("old", true, None), "old");
        assert_eq!(uid("old", true, next(500)), "old", "its next pod is there already");
        assert_eq!(uid("old", true, next(10_000)), "new", "but not for ever");
        assert_eq!(uid("new", true, next(500)), "new", "it is the primary no more");
        assert_eq!(uid("old", false, next(500)), "new", "nor was it ever");
    }
}
