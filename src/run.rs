//! Puts the parts together and runs them.

use crate::agents::Agents;
use crate::args::Operator;
use crate::cycle::{Context, reconcile, retry};
use crate::http;
use crate::leader;
use crate::metrics::Metrics;
use crate::stores::{Scope, Stores};
use crate::{in_use, referred};
use anyhow::Context as _;
use futures::StreamExt;
use futures::future::join_all;
use kagami_api::v1alpha1::ReplicationGroup;
use kagami_core::desired::Tables;
use kagami_core::plan::Setting;
use kagami_cycle::Written;
use kagami_protocol::OperatorId;
use kube::runtime::Controller;
use kube::runtime::events::Reporter;
use kube::{Api, Client};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// How long giving back the lease may take.
const GIVE_BACK: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the operator until it is told to end, or may no longer act.
pub(crate) async fn operator(arguments: Operator) -> anyhow::Result<()> {
    let tables = match &arguments.config {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            serde_saphyr::from_str::<Tables>(&text)
                .with_context(|| format!("{} is not a table of images and node types", path.display()))?
        }
        None => Tables::default(),
    };
    let client = Client::try_default()
        .await
        .context("no Kubernetes to talk to: neither in a pod nor with a kubeconfig")?;
    let metrics = Arc::new(Metrics::new());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let served = tokio::spawn(http::serve(arguments.listen, metrics.clone()));
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let (namespace, me) = (arguments.pod_namespace.clone(), arguments.pod_name.clone());
    let work = lead(arguments, client.clone(), tables, metrics);
    let ended = tokio::select! {
        ended = work => ended,
        _ = terminate.recv() => { info!("told to end"); Ok(()) }
        _ = interrupt.recv() => { info!("told to end"); Ok(()) }
        served = served => served.context("the HTTP server ended").and_then(|served| served.context("the HTTP server ended")),
    };
    // Nothing acts any more; given back, the lease need not expire before the other process takes over.
    let release = tokio::time::timeout(GIVE_BACK, leader::Held::release(client, &namespace, &me));
    tokio::select! {
        _ = release => ended,
        // Told to end meanwhile: then no other process is to begin in its place.
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits for the lease and acts while it is held.
async fn lead(
    arguments: Operator,
    client: Client,
    tables: Tables,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let namespaces: Vec<Option<String>> = match arguments
        .watch_namespaces
        .iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect::<Vec<_>>()
    {
        all if all.is_empty() => vec![None],
        some => some.into_iter().map(Some).collect(),
    };
    let held = leader::acquire(client.clone(), &arguments.pod_namespace, &arguments.pod_name).await;
    metrics.lead();
    let id = OperatorId { name: arguments.pod_name.clone(), generation: held.generation };
    let reporter = Reporter { controller: "kagami".into(), instance: Some(arguments.pod_name.clone()) };
    let fresh = held.fresh.clone();
    let units = namespaces.into_iter().map(|namespace| {
        unit(
            Scope { client: client.clone(), namespace },
            &arguments,
            &tables,
            id.clone(),
            fresh.clone(),
            reporter.clone(),
            metrics.clone(),
        )
    });
    let ended = tokio::select! {
        lost = held.hold() => Err(lost.into()),
        _ = join_all(units) => Err(anyhow::anyhow!("the controllers ended")),
    };
    ended
}

/// One scope: its watches, its agents, its queue.
async fn unit(
    scope: Scope,
    arguments: &Operator,
    tables: &Tables,
    id: OperatorId,
    fresh: leader::Fresh,
    reporter: Reporter,
    metrics: Arc<Metrics>,
) {
    let (wake, woken) = futures::channel::mpsc::unbounded();
    let (stores, watches) = Stores::new(&scope, &wake);
    let watching = tokio::spawn(join_all(watches));
    stores.ready().await;
    let held = in_use::Held::of(&stores);
    let groups: Api<ReplicationGroup> = match &scope.namespace {
        Some(namespace) => Api::namespaced(scope.client.clone(), namespace),
        None => Api::all(scope.client.clone()),
    };
    info!(
        namespace = scope.namespace.as_deref().unwrap_or("all"),
        groups = stores.groups.state().len(),
        "watching"
    );
    let context = Arc::new(Context {
        client: scope.client.clone(),
        stores,
        agents: Agents::new(id, fresh, wake),
        written: Written::default(),
        tables: tables.clone(),
        setting: Setting {
            agent_image: arguments.agent_image.clone(),
            operator_namespace: arguments.pod_namespace.clone(),
        },
        metrics,
        reporter,
        began: tokio::time::Instant::now(),
        memory: std::sync::Mutex::default(),
    });
    let queue = Controller::new(groups, kube::runtime::watcher::Config::default())
        .reconcile_on(woken)
        .run(reconcile, retry, context)
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                match error {
                    // The queue may hold a group that is gone; its reconciler's errors are logged where they are handled.
                    kube::runtime::controller::Error::ObjectNotFound(_)
                    | kube::runtime::controller::Error::ReconcilerFailed(..) => {}
                    other => warn!(error = %other, "the queue failed; it goes on"),
                }
            }
        });
    tokio::select! {
        () = queue => {}
        () = referred::tell(&scope) => {}
        () = in_use::hold(&scope, &held) => {}
    }
    watching.abort();
}
