//! What the apiserver shows: one reflector for each kind, and one queue. Events carry no data, only the group's key.

use crate::agents::Wake;
use futures::{StreamExt, future::BoxFuture};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kagami_api::names;
use kagami_api::v1alpha1::{ParameterGroup, ReplicationGroup, SecurityGroup, SubnetGroup};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tracing::warn;

/// How many ended pods are remembered; each matters for the few seconds until its shard has another primary.
const OVER_MAX: usize = 10_000;

/// The stores of everything that is watched.
pub(crate) struct Stores {
    pub(crate) groups: Store<ReplicationGroup>,
    pub(crate) parameter_groups: Store<ParameterGroup>,
    pub(crate) subnet_groups: Store<SubnetGroup>,
    pub(crate) security_groups: Store<SecurityGroup>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) pods: Store<Pod>,
    pub(crate) services: Store<Service>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) accounts: Store<ServiceAccount>,
    pub(crate) roles: Store<Role>,
    pub(crate) role_bindings: Store<RoleBinding>,
    pub(crate) policies: Store<NetworkPolicy>,
    pub(crate) slices: Store<EndpointSlice>,
    pub(crate) budgets: Store<PodDisruptionBudget>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    pub(crate) leases: Store<Lease>,
    pub(crate) machines: Store<Node>,
    /// Told when a group, or something that groups refer to, has come, changed or gone.
    pub(crate) referring: Arc<Notify>,
    /// UIDs of pods that the kubelet said are over.
    pub(crate) over: Arc<Mutex<VecDeque<(String, i64)>>>,
}

/// Where the watches look.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) client: Client,
    /// All namespaces where it is `None`.
    pub(crate) namespace: Option<String>,
}

/// The reflectors, to be run beside the controller.
pub(crate) type Watches = Vec<BoxFuture<'static, ()>>;

impl Stores {
    /// Starts nothing: the watches run as long as their futures are polled.
    pub(crate) fn new(scope: &Scope, wake: &Wake) -> (Self, Watches) {
        let mut watches: Watches = Vec::new();
        let over = Arc::new(Mutex::new(VecDeque::new()));
        let ours = newest().labels(names::LABEL_REPLICATION_GROUP);
        let any = newest();
        macro_rules! owned {
            () => {
                watch(
                    scope,
                    &ours,
                    &mut watches,
                    wake,
                    |object: &_, wake: &Wake, _: &Store<ReplicationGroup>| by_label(object, wake),
                    None,
                )
            };
        }
        let (groups, groups_writer) = store::<ReplicationGroup>();
        let referring = Arc::new(Notify::new());
        let pods = {
            let over = over.clone();
            watch(
                scope,
                &ours,
                &mut watches,
                wake,
                move |pod: &Pod, wake: &Wake, _: &Store<ReplicationGroup>| {
                    note_over(pod, &over);
                    by_label(pod, wake);
                },
                None,
            )
        };
        let stores = Self {
            parameter_groups: watch(scope, &any, &mut watches, wake, referred(&referring), Some(&groups)),
            subnet_groups: watch(scope, &any, &mut watches, wake, referred(&referring), Some(&groups)),
            security_groups: watch(scope, &any, &mut watches, wake, referred(&referring), Some(&groups)),
            stateful_sets: owned!(),
            pods,
            services: owned!(),
            secrets: owned!(),
            config_maps: owned!(),
            accounts: owned!(),
            roles: owned!(),
            role_bindings: owned!(),
            policies: owned!(),
            slices: owned!(),
            budgets: owned!(),
            claims: owned!(),
            leases: owned!(),
            machines: {
                let (reader, writer) = store::<Node>();
                let api: Api<Node> = Api::all(scope.client.clone());
                let groups = groups.clone();
                let wake = wake.clone();
                let mut seen = std::collections::HashMap::new();
                let stream = reflector(writer, watcher(api, any.clone())).default_backoff().touched_objects();
                watches.push(Box::pin(stream.for_each(move |machine| {
                    match machine {
                        // A kubelet's heartbeat is no news.
                        Ok(machine) => {
                            let fact = crate::observe::machine(&machine);
                            if seen.insert(machine.name_any(), fact.clone()) != Some(fact) {
                                for group in groups.state() {
                                    let _ = wake.unbounded_send(ObjectRef::from_obj(&*group));
                                }
                            }
                        }
                        Err(error) => warn!(%error, "the watch of machines failed; it is tried again"),
                    }
                    futures::future::ready(())
                })));
                reader
            },
            groups: groups.clone(),
            referring: referring.clone(),
            over,
        };
        let wake = wake.clone();
        follow(scope, groups_writer, &any, &mut watches, move |group: &ReplicationGroup| {
            referring.notify_one();
            let _ = wake.unbounded_send(ObjectRef::from_obj(group));
        });
        (stores, watches)
    }

    /// Waits until every store has been filled once.
    pub(crate) async fn ready(&self) {
        macro_rules! all {
            ($($field:ident),+) => { $( let _ = self.$field.wait_until_ready().await; )+ };
        }
        all!(
            groups,
            parameter_groups,
            subnet_groups,
            security_groups,
            stateful_sets,
            pods,
            services,
            secrets,
            config_maps,
            accounts,
            roles,
            role_bindings,
            policies,
            slices,
            budgets,
            claims,
            leases,
            machines
        );
    }

    /// UIDs of pods that are over, and since when.
    pub(crate) fn over(&self) -> BTreeMap<String, i64> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// P1: what a leader begins with is no older than its lease. A list from the apiserver's cache may show a group as it was before it
/// was asked for a replica, and the shard would be started empty beside the replica's copy.
fn newest() -> watcher::Config {
    watcher::Config::default().list_semantic(watcher::ListSemantic::MostRecent)
}

/// The kubelet's last word on a pod that is going away: its container has ended, and this pod starts no other.
fn note_over(pod: &Pod, over: &Mutex<VecDeque<(String, i64)>>) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let view = crate::observe::pod(pod);
    // Seen again, its end may be a later one: the report before was of an earlier container.
    if view.deleting
        && view.terminated
        && let Some(ended_ms) = view.ended_ms
    {
        let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = over.iter_mut().find(|(known, _)| *known == uid) {
            *known = ended_ms;
        } else {
            over.push_back((uid, ended_ms));
            if over.len() > OVER_MAX {
                over.pop_front();
            }
        }
    }
}

/// The group that the label names, and the owner, which is another one while a label is wrong.
fn by_label<K: Resource>(object: &K, wake: &Wake) {
    if let Some(namespace) = object.namespace() {
        for owner in object.owner_references().iter().filter(|owner| owner.kind == "ReplicationGroup") {
            if object.labels().get(names::LABEL_REPLICATION_GROUP) != Some(&owner.name) {
                let _ = wake.unbounded_send(ObjectRef::new(&owner.name).within(&namespace));
            }
        }
    }
    if let (Some(group), Some(namespace)) =
        (object.labels().get(names::LABEL_REPLICATION_GROUP), object.namespace())
    {
        let _ = wake.unbounded_send(ObjectRef::new(group).within(&namespace));
    }
}

/// What groups refer to: whoever keeps count of it looks again, and so does every group of the namespace.
fn referred<K: Resource>(
    referring: &Arc<Notify>,
) -> impl Fn(&K, &Wake, &Store<ReplicationGroup>) + Send + use<K> {
    let referring = referring.clone();
    move |object, wake, groups| {
        referring.notify_one();
        by_namespace(object, wake, groups);
    }
}

fn by_namespace<K: Resource>(object: &K, wake: &Wake, groups: &Store<ReplicationGroup>) {
    let namespace = object.namespace();
    for group in groups.state().into_iter().filter(|group| group.namespace() == namespace) {
        let _ = wake.unbounded_send(ObjectRef::from_obj(&*group));
    }
}

fn watch<K, F>(
    scope: &Scope,
    config: &watcher::Config,
    watches: &mut Watches,
    wake: &Wake,
    touched: F,
    groups: Option<&Store<ReplicationGroup>>,
) -> Store<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
    F: Fn(&K, &Wake, &Store<ReplicationGroup>) + Send + 'static,
{
    let (reader, writer) = store::<K>();
    let wake = wake.clone();
    let groups = groups.cloned().unwrap_or_else(|| store::<ReplicationGroup>().0);
    follow(scope, writer, config, watches, move |object: &K| touched(object, &wake, &groups));
    reader
}

/// One watch, over the namespace or over all, into one store.
fn follow<K>(
    scope: &Scope,
    writer: reflector::store::Writer<K>,
    config: &watcher::Config,
    watches: &mut Watches,
    touched: impl Fn(&K) + Send + 'static,
) where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let kind = K::kind(&()).to_string();
    let api: Api<K> = match &scope.namespace {
        Some(namespace) => Api::namespaced(scope.client.clone(), namespace),
        None => Api::all(scope.client.clone()),
    };
    let stream = reflector(writer, watcher(api, config.clone())).default_backoff().touched_objects();
    watches.push(Box::pin(stream.for_each(move |object| {
        match object {
            Ok(object) => touched(&object),
            Err(error) => warn!(%error, kind, "a watch failed; it is tried again"),
        }
        futures::future::ready(())
    })));
}
