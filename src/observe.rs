//! One snapshot of a group: objects from the stores, agents from their streams. It decides nothing.

use crate::agents::{Agents, Wanted};
use crate::stores::Stores;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, PersistentVolumeClaim, Pod};
use kagami_api::names;
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::desired::References;
use kagami_core::observed::{
    COPY_ANNOTATION, Claim, CopyChoice, Kind, Machine, ObjectKey, Observed, ObservedNode, PodView,
};
use kagami_cycle::{Shown, Written, snapshot};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use std::collections::BTreeMap;

/// The objects that a group's spec refers to.
pub(crate) fn references(group: &ReplicationGroup, stores: &Stores) -> References {
    let namespace = group.namespace().unwrap_or_default();
    References {
        parameter_group: group.spec.cache_parameter_group_name.as_ref().and_then(|name| {
            stores
                .parameter_groups
                .get(&ObjectRef::new(&name.to_lowercase()).within(&namespace))
                .map(|found| (*found).clone())
        }),
        subnet_group: group.spec.cache_subnet_group_name.as_ref().and_then(|name| {
            stores
                .subnet_groups
                .get(&ObjectRef::new(&name.to_lowercase()).within(&namespace))
                .map(|found| (*found).clone())
        }),
        security_groups: group
            .spec
            .security_group_ids
            .iter()
            .flatten()
            .filter_map(|name| {
                let found = stores.security_groups.get(&ObjectRef::new(name).within(&namespace))?;
                Some((name.clone(), (*found).clone()))
            })
            .collect(),
    }
}

/// The snapshot.
pub(crate) fn observe(
    group: &ReplicationGroup,
    stores: &Stores,
    written: &Written,
    agents: &Agents,
    watching_ms: u64,
) -> Observed {
    let (name, namespace) = (group.name_any(), group.namespace().unwrap_or_default());
    let here = Here { name: &name, namespace: &namespace };
    let mut shown = Shown { over: stores.over(), machines: stores.machines(), ..Shown::default() };
    here.collect(&stores.stateful_sets, Kind::StatefulSet, &mut shown);
    here.collect(&stores.services, Kind::Service, &mut shown);
    here.collect(&stores.secrets, Kind::Secret, &mut shown);
    here.collect(&stores.config_maps, Kind::ConfigMap, &mut shown);
    here.collect(&stores.accounts, Kind::ServiceAccount, &mut shown);
    here.collect(&stores.roles, Kind::Role, &mut shown);
    here.collect(&stores.role_bindings, Kind::RoleBinding, &mut shown);
    here.collect(&stores.policies, Kind::NetworkPolicy, &mut shown);
    here.collect(&stores.slices, Kind::EndpointSlice, &mut shown);
    here.collect(&stores.budgets, Kind::PodDisruptionBudget, &mut shown);
    for lease in stores.leases.state().into_iter().filter(|lease| here.holds(&**lease)) {
        if let Ok(object) = serde_json::to_value(&*lease) {
            shown.leases.insert(lease.name_any(), object.into());
        }
    }
    for pod in stores.pods.state().into_iter().filter(|pod| here.holds(&**pod)) {
        if let Some(node) = pod.labels().get(names::LABEL_CACHE_NODE) {
            shown.pods.insert(node.clone(), self::pod(&pod));
        }
    }
    for claim in stores.claims.state().into_iter().filter(|claim| here.holds(&**claim)) {
        if let Some(node) = claim.labels().get(names::LABEL_CACHE_NODE) {
            shown.claims.insert(node.clone(), self::claim(&claim));
        }
    }
    for node in shown.children.keys().filter(|key| key.kind == Kind::StatefulSet).map(|key| &key.name) {
        let uid = shown.pods.get(node).map(|pod| pod.uid.as_str());
        if let Some(departing) = agents.departing(&namespace, node, uid) {
            shown.departing.insert(node.clone(), departing);
        }
    }
    let agent = |node: &str, uid: Option<&str>| agents.agent(&namespace, node, uid);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let status = group.status.as_ref();
    let mut observed = snapshot((&namespace, &name), shown, written, status, agent, now_ms, watching_ms);
    for node in observed.nodes.keys() {
        if let Some(offset) = agents.last_offset(&namespace, node) {
            observed.last_offsets.insert(node.clone(), offset);
        }
    }
    observed
}

/// The pods whose agents are to be heard.
pub(crate) fn wanted(nodes: &BTreeMap<String, ObservedNode>) -> Vec<Wanted> {
    nodes
        .iter()
        .filter_map(|(node, seen)| {
            let pod = seen.pod.as_ref()?;
            Some(Wanted { node: node.clone(), pod_uid: pod.uid.clone(), ip: pod.ip.clone()? })
        })
        .collect()
}

struct Here<'a> {
    name: &'a str,
    namespace: &'a str,
}

impl Here<'_> {
    fn holds<K: Resource>(&self, object: &K) -> bool {
        object.meta().namespace.as_deref() == Some(self.namespace)
            && object.labels().get(names::LABEL_REPLICATION_GROUP).map(String::as_str) == Some(self.name)
    }

    fn collect<K>(&self, store: &Store<K>, kind: Kind, shown: &mut Shown)
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + 'static,
    {
        for object in store.state().into_iter().filter(|object| self.holds(&**object)) {
            let name = object.name_any();
            if let Ok(object) = serde_json::to_value(&*object) {
                shown.children.insert(ObjectKey { kind, name }, object.into());
            }
        }
    }
}

/// What matters of a machine.
pub(crate) fn machine(node: &Node) -> Machine {
    let spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let condition = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let since = condition.and_then(|condition| condition.last_transition_time.as_ref());
    Machine {
        zone: node.labels().get(names::LABEL_ZONE).cloned(),
        ready: condition.is_some_and(|condition| condition.status == "True"),
        ready_since_ms: since.map_or(i64::MAX, |time| time.0.as_millisecond()),
        unschedulable: spec.unschedulable.unwrap_or(false),
        out_of_service: spec
            .taints
            .iter()
            .flatten()
            .any(|taint| taint.key == "node.kubernetes.io/out-of-service"),
        open_ms: 0,
    }
}

/// What matters of a pod.
pub(crate) fn pod(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let engine = status.container_statuses.iter().flatten().find(|container| container.name == "engine");
    let init = status.init_container_statuses.iter().flatten();
    let condition = |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let unschedulable = condition("PodScheduled")
        .filter(|condition| condition.status == "False")
        .map(|condition| condition.message.clone().or_else(|| condition.reason.clone()).unwrap_or_default());
    let (mut image_trouble, mut start_trouble) = (None, None);
    for container in engine.into_iter().chain(init) {
        if let Some((reason, message)) = trouble(container) {
            let words = format!("{reason}: {message}");
            if matches!(
                reason.as_str(),
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull"
            ) {
                image_trouble = Some(format!("{} ({})", words, container.image));
            } else {
                start_trouble = Some(words);
            }
        }
    }
    PodView {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ip: status.pod_ip.clone().filter(|ip| !ip.is_empty()),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        zone: pinned_zone(pod),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        // Only the kubelet writes this; a phase is also written by the garbage collector of a machine that was deleted.
        terminated: engine
            .and_then(|container| container.state.as_ref())
            .is_some_and(|state| state.terminated.is_some()),
        ended_ms: engine
            .and_then(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
            .map(|time| time.0.as_millisecond()),
        copy: pod.annotations().get(COPY_ANNOTATION).and_then(|word| CopyChoice::parse(word)),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        role_label: pod.labels().get(names::LABEL_ROLE).cloned(),
        restarts: engine.map_or(0, |container| container.restart_count),
        unschedulable,
        image_trouble,
        start_trouble,
        created_ms: pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond()),
    }
}

/// The zone that the pod's affinity demands.
fn pinned_zone(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let terms = required.node_selector_terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    terms.filter(|term| term.key == names::LABEL_ZONE).find_map(|term| term.values.as_ref()?.first().cloned())
}

/// What matters of a volume claim.
fn claim(claim: &PersistentVolumeClaim) -> Claim {
    Claim {
        name: claim.name_any(),
        uid: claim.uid().unwrap_or_default(),
        machine: claim.annotations().get("volume.kubernetes.io/selected-node").cloned(),
        deleting: claim.metadata.deletion_timestamp.is_some(),
    }
}

/// What keeps a container from running, if that is more than a moment.
fn trouble(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    let passing = matches!(reason.as_str(), "" | "PodInitializing" | "ContainerCreating");
    (!passing).then(|| (reason, waiting.message.clone().unwrap_or_default()))
}
