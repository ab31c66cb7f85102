//! One snapshot of a group: objects from the stores, agents from their streams. It decides nothing.

use crate::agents::{Agents, Wanted};
use crate::stores::Stores;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kagami_api::names;
use kagami_api::v1alpha1::{ReplicationGroup, ReplicationGroupStatus};
use kagami_core::build::read_lease;
use kagami_core::desired::References;
use kagami_core::observed::{Kind, Machine, ObjectKey, Observed, ObservedNode, PodView};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// What this process wrote and the watches may not have shown yet; the newer of both is the truth.
#[derive(Default)]
pub(crate) struct Written(Mutex<HashMap<(String, Kind, String), Value>>);

/// The kind under which shard leases are kept in [`Written`]; they are no children of a plan.
const LEASE_KIND: Kind = Kind::ServiceAccount;

impl Written {
    pub(crate) fn note(&self, namespace: &str, key: &ObjectKey, object: Value) {
        self.lock().insert((namespace.to_owned(), key.kind, key.name.clone()), object);
    }
    pub(crate) fn note_lease(&self, namespace: &str, name: &str, object: Value) {
        self.lock().insert((namespace.to_owned(), LEASE_KIND, format!("lease/{name}")), object);
    }
    pub(crate) fn forget(&self, namespace: &str, key: &ObjectKey) {
        self.lock().remove(&(namespace.to_owned(), key.kind, key.name.clone()));
    }
    pub(crate) fn forget_group(&self, namespace: &str, group: &str) {
        self.lock().retain(|(space, _, _), object| {
            space != namespace
                || object
                    .pointer("/metadata/labels")
                    .and_then(|l| l.get(names::LABEL_REPLICATION_GROUP))
                    .and_then(Value::as_str)
                    != Some(group)
        });
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Kind, String), Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The newer of what was seen and what was written; what was written is dropped once it was seen.
    fn newer(&self, namespace: &str, kind: Kind, name: &str, seen: Option<Value>) -> Option<Value> {
        let mut written = self.lock();
        let slot = (namespace.to_owned(), kind, name.to_owned());
        let Some(own) = written.get(&slot) else { return seen };
        match &seen {
            Some(seen_object) if version(seen_object) >= version(own) => {
                written.remove(&slot);
                seen
            }
            _ => Some(own.clone()),
        }
    }
    fn names(&self, namespace: &str, group: &str) -> Vec<(Kind, String)> {
        self.lock()
            .iter()
            .filter(|((space, _, _), object)| {
                space == namespace
                    && object
                        .pointer("/metadata/labels")
                        .and_then(|l| l.get(names::LABEL_REPLICATION_GROUP))
                        .and_then(Value::as_str)
                        == Some(group)
            })
            .map(|((_, kind, name), _)| (*kind, name.clone()))
            .collect()
    }
}

/// Resource versions of one resource can be compared since Kubernetes says so (KEP-5504); before, every release did it.
fn version(object: &Value) -> u64 {
    object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

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
    let mut observed = Observed {
        now_ms: jiff::Timestamp::now().as_millisecond(),
        watching_ms,
        over: stores.over(),
        machines: stores.machines.state().iter().map(|node| (node.name_any(), machine(node))).collect(),
        formed: group.status.as_ref().is_some_and(kagami_core::status::formed),
        ..Observed::default()
    };
    let here = Here { name: &name, namespace: &namespace, written };
    here.collect(&stores.stateful_sets, Kind::StatefulSet, &mut observed);
    here.collect(&stores.services, Kind::Service, &mut observed);
    here.collect(&stores.secrets, Kind::Secret, &mut observed);
    here.collect(&stores.config_maps, Kind::ConfigMap, &mut observed);
    here.collect(&stores.accounts, Kind::ServiceAccount, &mut observed);
    here.collect(&stores.roles, Kind::Role, &mut observed);
    here.collect(&stores.role_bindings, Kind::RoleBinding, &mut observed);
    here.collect(&stores.policies, Kind::NetworkPolicy, &mut observed);
    here.collect(&stores.slices, Kind::EndpointSlice, &mut observed);
    here.collect(&stores.budgets, Kind::PodDisruptionBudget, &mut observed);
    for (kind, own) in written.names(&namespace, &name) {
        if own.starts_with("lease/") {
            continue;
        }
        let key = ObjectKey { kind, name: own };
        if !observed.children.contains_key(&key)
            && let Some(object) = written.newer(&namespace, kind, &key.name, None)
        {
            observed.children.insert(key, object);
        }
    }
    leases(&here, stores, &mut observed);
    for pod in stores.pods.state().into_iter().filter(|pod| here.holds(&**pod)) {
        if let Some(node) = pod.labels().get(names::LABEL_CACHE_NODE) {
            observed.nodes.entry(node.clone()).or_default().pod = Some(self::pod(&pod));
        }
    }
    for key in observed.children.keys().filter(|key| key.kind == Kind::StatefulSet) {
        observed.nodes.entry(key.name.clone()).or_default();
    }
    let nodes: Vec<String> = observed.nodes.keys().cloned().collect();
    for node in nodes {
        if let Some(seen) = observed.nodes.get_mut(&node) {
            let uid = seen.pod.as_ref().map(|pod| pod.uid.clone());
            seen.agent = agents.agent(&namespace, &node, uid.as_deref());
        }
    }
    known(group.status.as_ref(), &mut observed);
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
    written: &'a Written,
}

impl Here<'_> {
    fn holds<K: Resource>(&self, object: &K) -> bool {
        object.meta().namespace.as_deref() == Some(self.namespace)
            && object.labels().get(names::LABEL_REPLICATION_GROUP).map(String::as_str) == Some(self.name)
    }

    fn collect<K>(&self, store: &Store<K>, kind: Kind, observed: &mut Observed)
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + 'static,
    {
        for object in store.state().into_iter().filter(|object| self.holds(&**object)) {
            let name = object.name_any();
            let seen = serde_json::to_value(&*object).ok();
            if let Some(object) = self.written.newer(self.namespace, kind, &name, seen) {
                observed.children.insert(ObjectKey { kind, name }, object);
            }
        }
    }
}

fn leases(here: &Here<'_>, stores: &Stores, observed: &mut Observed) {
    let mut objects: BTreeMap<String, Option<Value>> = stores
        .leases
        .state()
        .into_iter()
        .filter(|lease| here.holds(&**lease))
        .map(|lease| (lease.name_any(), serde_json::to_value(&*lease).ok()))
        .collect();
    for (_, name) in here.written.names(here.namespace, here.name) {
        if let Some(name) = name.strip_prefix("lease/") {
            objects.entry(name.to_owned()).or_default();
        }
    }
    for (name, seen) in objects {
        let newest = here.written.newer(here.namespace, LEASE_KIND, &format!("lease/{name}"), seen);
        if let Some((shard, lease)) = newest.as_ref().and_then(read_lease) {
            observed.leases.insert(shard, lease);
        }
    }
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

/// What matters of a machine.
pub(crate) fn machine(node: &Node) -> Machine {
    let spec = node.spec.clone().unwrap_or_default();
    let ready =
        node.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
    Machine {
        zone: node.labels().get(names::LABEL_ZONE).cloned(),
        ready,
        unschedulable: spec.unschedulable.unwrap_or(false),
        out_of_service: spec
            .taints
            .iter()
            .flatten()
            .any(|taint| taint.key == "node.kubernetes.io/out-of-service"),
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
        deleting: pod.metadata.deletion_timestamp.is_some(),
        // Only the kubelet writes this; a phase is also written by the garbage collector of a machine that was deleted.
        terminated: engine
            .and_then(|container| container.state.as_ref())
            .is_some_and(|state| state.terminated.is_some()),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        role_label: pod.labels().get(names::LABEL_ROLE).cloned(),
        restarts: engine.map_or(0, |container| container.restart_count),
        unschedulable,
        image_trouble,
        start_trouble,
        created_ms: pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond()),
    }
}

/// What keeps a container from running, if that is more than a moment.
fn trouble(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    let passing = matches!(reason.as_str(), "" | "PodInitializing" | "ContainerCreating");
    (!passing).then(|| (reason, waiting.message.clone().unwrap_or_default()))
}
