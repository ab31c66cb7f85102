//! One cycle for one group: what the watches and the agents say is put together, and the loop (`kagami_cycle`) is run over it.

use crate::agents::Agents;
use crate::metrics::Metrics;
use crate::observe::{observe, references, wanted};
use crate::secrets;
use crate::stores::Stores;
use crate::world::Outside;
use kagami_api::names;
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::desired::Tables;
use kagami_core::observed::{Kind, ObjectKey, Observed};
use kagami_core::plan::Setting;
use kagami_cycle::{ApiError, Input, Memory, Next, Written};
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// What all cycles share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) stores: Stores,
    pub(crate) agents: Agents,
    pub(crate) written: Written,
    pub(crate) tables: Tables,
    pub(crate) setting: Setting,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reporter: Reporter,
    pub(crate) began: Instant,
    pub(crate) memory: Mutex<HashMap<(String, String), Kept>>,
}

/// A group's recorders, by what they tell. A recorder counts events of one reason as one, and keeps the words of the first only.
pub(crate) type Recorders = Mutex<HashMap<String, Recorder>>;

/// What is kept of a group between cycles; all of it may be lost. The queue never runs two cycles of one group at a time.
pub(crate) struct Kept {
    memory: Memory,
    tls: Option<(String, Arc<rustls::ClientConfig>)>,
    recorders: Recorders,
}

/// A cycle that could not be ended; everything else is in the status.
#[derive(Debug, thiserror::Error)]
#[error("the replication group could not be written")]
pub(crate) struct CycleError(#[source] ApiError);

/// One cycle.
pub(crate) async fn reconcile(
    group: Arc<ReplicationGroup>,
    context: Arc<Context>,
) -> Result<Action, CycleError> {
    let begun = Instant::now();
    let outcome = cycle(&group, &context).await;
    context.metrics.cycle(begun.elapsed().as_secs_f64());
    context.metrics.groups(context.stores.groups.state().len());
    outcome
}

async fn cycle(group: &ReplicationGroup, context: &Context) -> Result<Action, CycleError> {
    let (name, namespace) = (group.name_any(), group.namespace().unwrap_or_default());
    let now_ms = u64::try_from(context.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let key = (namespace.clone(), name.clone());
    let fresh = || Kept { memory: Memory::new(group, now_ms), tls: None, recorders: Recorders::default() };
    let known = memory(context).remove(&key).filter(|kept| kept.memory.is_of(group));
    let mut kept = known.unwrap_or_else(fresh);
    let mut shown = group.clone();
    shown.status = kept.memory.latest_status(group).cloned();
    let watching_ms = kept.memory.watching_ms(now_ms);
    let mut observed = observe(&shown, &context.stores, &context.written, &context.agents, watching_ms);
    kept.memory.know(&mut observed, now_ms);
    attend(context, group, &mut kept, &observed);
    let input = Input {
        group,
        observed,
        tied_leases: tied_leases(context, &namespace, &name),
        references: references(group, &context.stores),
        tables: &context.tables,
        setting: &context.setting,
        written: &context.written,
    };
    let world = Outside {
        client: &context.client,
        agents: &context.agents,
        metrics: &context.metrics,
        reporter: &context.reporter,
        recorders: &kept.recorders,
        began: context.began,
        group,
        name: &name,
        namespace: &namespace,
    };
    let next = kagami_cycle::reconcile(&world, &mut kept.memory, input).await;
    if !matches!(next, Ok(Next::Gone)) {
        memory(context).insert(key, kept);
    }
    match next.map_err(CycleError)? {
        Next::After(ms) => Ok(Action::requeue(Duration::from_millis(ms))),
        Next::Change | Next::Gone => Ok(Action::await_change()),
    }
}

fn memory(context: &Context) -> MutexGuard<'_, HashMap<(String, String), Kept>> {
    context.memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After a cycle that could not be ended.
pub(crate) fn retry(group: Arc<ReplicationGroup>, error: &CycleError, _context: Arc<Context>) -> Action {
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    warn!(
        group = group.name_any(),
        namespace = group.namespace(),
        error = chain,
        "a cycle failed; it is tried again"
    );
    Action::requeue(Duration::from_secs(2))
}

/// Dials the pods that are there.
fn attend(context: &Context, group: &ReplicationGroup, kept: &mut Kept, observed: &Observed) {
    let (name, namespace) = (group.name_any(), group.namespace().unwrap_or_default());
    let key = ObjectKey { kind: Kind::Secret, name: names::operator_secret(&name) };
    let Some(secret) = observed.children.get(&key) else { return };
    let version = secret.pointer("/metadata/uid").and_then(|uid| uid.as_str()).unwrap_or_default().to_owned();
    let known = kept.tls.clone();
    let tls = match known {
        Some((of, tls)) if of == version => tls,
        _ => {
            let parsed = serde_json::from_value((**secret).clone()).ok();
            match parsed.as_ref().map(secrets::client_config) {
                Some(Ok(tls)) => {
                    kept.tls = Some((version, tls.clone()));
                    tls
                }
                Some(Err(error)) => {
                    warn!(group = name, namespace, %error, "the group's certificates cannot be used");
                    return;
                }
                None => return,
            }
        }
    };
    let reference = ObjectRef::new(&name).within(&namespace);
    context.agents.attend(&reference, &wanted(&observed.nodes), &tls);
}

/// The leases that the group owns.
fn tied_leases(context: &Context, namespace: &str, name: &str) -> Vec<String> {
    let ours = |lease: &k8s_openapi::api::coordination::v1::Lease| {
        lease.namespace().as_deref() == Some(namespace)
            && lease.labels().get(names::LABEL_REPLICATION_GROUP).map(String::as_str) == Some(name)
            && !lease.owner_references().is_empty()
    };
    let leases = context.stores.leases.state();
    leases.into_iter().filter(|lease| ours(lease)).map(|lease| lease.name_any()).collect()
}
