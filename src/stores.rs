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
use kagami_core::observed::Machine;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
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
    /// Since when machines take pods.
    open: Arc<Mutex<Open>>,
}

/// The machines that take pods, in which zone, and since when this process has seen that without a break: by the monotonic clock,
/// and by each event of the watch, so that no moment between two looks is missed.
#[derive(Default)]
pub(crate) struct Open(HashMap<String, (Option<String>, Option<String>, Instant)>);

impl Open {
    /// A machine as the watch shows it; `None` where it is gone.
    fn see(&mut self, name: &str, machine: Option<(&Node, &Machine)>, now: Instant) {
        let Some((node, machine)) = machine.filter(|(_, machine)| machine.open()) else {
            self.0.remove(name);
            return;
        };
        // Another machine of that name, or the same in another zone, is a new one.
        let of = (node.metadata.uid.clone(), machine.zone.clone());
        let known = self.0.get(name).is_some_and(|(uid, zone, _)| (uid, zone) == (&of.0, &of.1));
        if !known {
            self.0.insert(name.to_owned(), (of.0, of.1, now));
        }
    }

    /// For how long, in milliseconds.
    pub(crate) fn open_ms(&self, name: &str, now: Instant) -> u64 {
        let since = self.0.get(name).map(|(_, _, since)| now.saturating_duration_since(*since));
        since.map_or(0, |open| u64::try_from(open.as_millis()).unwrap_or(u64::MAX))
    }
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
        let open = Arc::new(Mutex::new(Open::default()));
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
                let mut seen = HashMap::new();
                let (open, shown) = (open.clone(), reader.clone());
                let stream = reflector(writer, watcher(api, any.clone())).default_backoff().touched_objects();
                watches.push(Box::pin(stream.for_each(move |machine| {
                    match machine {
                        // A kubelet's heartbeat is no news.
                        Ok(machine) => {
                            let fact = crate::observe::machine(&machine);
                            let name = machine.name_any();
                            // The store shows it already; not one that was deleted.
                            let there = shown.get(&ObjectRef::new(&name)).is_some();
                            let view = there.then_some((&machine, &fact));
                            open.lock().unwrap_or_else(PoisonError::into_inner).see(
                                &name,
                                view,
                                Instant::now(),
                            );
                            if seen.insert(name, fact.clone()) != Some(fact) {
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
            open,
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

    /// The machines.
    pub(crate) fn machines(&self) -> BTreeMap<String, Machine> {
        let (open, now) = (self.open.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let machines = self.machines.state();
        let each = machines.iter().map(|node| {
            let name = node.name_any();
            let open_ms = open.open_ms(&name, now);
            (name, Machine { open_ms, ..crate::observe::machine(node) })
        });
        each.collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn machine(uid: &str, zone: &str, ready: bool, cordoned: bool) -> Node {
        let mut node = Node::default();
        node.metadata.uid = Some(uid.into());
        node.metadata.labels = Some([(names::LABEL_ZONE.to_owned(), zone.to_owned())].into());
        let status = if ready { "True" } else { "Unknown" };
        node.status = serde_json::from_value(
            serde_json::json!({ "conditions": [{ "type": "Ready", "status": status }] }),
        )
        .ok();
        node.spec = serde_json::from_value(serde_json::json!({ "unschedulable": cordoned })).ok();
        node
    }

    #[test]
    fn a_machine_is_open_for_as_long_as_the_watch_showed_nothing_else() {
        let began = Instant::now();
        let mut open = Open::default();
        let mut see = |second: u64, node: Option<&Node>| {
            let now = began + Duration::from_secs(second);
            let fact = node.map(crate::observe::machine);
            open.see("m2", node.zip(fact.as_ref()), now);
            open.open_ms("m2", now)
        };
        let well = machine("u1", "b", true, false);
        assert_eq!([see(0, Some(&well)), see(30, Some(&well)), see(60, Some(&well))], [0, 30_000, 60_000]);
        assert_eq!(
            [see(61, Some(&machine("u1", "b", true, true))), see(62, Some(&well))],
            [0, 0],
            "cordoned"
        );
        assert_eq!(
            [see(70, Some(&machine("u1", "b", false, false))), see(71, Some(&well))],
            [0, 0],
            "not ready"
        );
        assert_eq!(see(80, Some(&well)), 9_000);
        assert_eq!([see(81, None), see(82, Some(&well))], [0, 0], "deleted and made again");
        assert_eq!(see(90, Some(&machine("u2", "b", true, false))), 0, "another machine of that name");
        assert_eq!(see(91, Some(&machine("u2", "c", true, false))), 0, "in another zone");
    }
}
