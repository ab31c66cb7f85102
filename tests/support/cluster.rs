//! The Kubernetes that the stories run on, and what can go wrong with it.
//!
//! Every fault is a verb of `local/cluster`, so the drivers differ only in how an engine is reached from here, and in which
//! verbs they can do. What a driver cannot do makes a story say SKIPPED, except on the local one, which can do everything.

use super::engine::Connection;
use super::tools::{Said, run, seconds};
use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::process::Command;

/// A kind of cluster.
pub(crate) trait Cluster: Send + Sync {
    /// The word that CLUSTER has for it.
    fn driver(&self) -> &'static str;
    /// Whether it must be able to do every fault.
    fn complete(&self) -> bool;
    /// A connection to a port of a pod. `relay` is a pod that can be used to get there.
    fn connect<'a>(&'a self, relay: &'a Relay, ip: &'a str, port: u16) -> BoxFuture<'a, Result<Connection>>;
    /// Whether a relay pod is needed.
    fn needs_relay(&self) -> bool;
}

/// A pod that carries connections from here into the cluster: namespace and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relay {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) kubectl: String,
    pub(crate) kubeconfig: String,
}

/// The one under `local/`: pods are reached directly.
struct Local;
/// kind, or the cluster of a KUBECONFIG: pods are reached through a pod.
struct Elsewhere(&'static str);

impl Cluster for Local {
    fn driver(&self) -> &'static str {
        "local"
    }
    fn complete(&self) -> bool {
        true
    }
    fn needs_relay(&self) -> bool {
        false
    }
    fn connect<'a>(&'a self, _: &'a Relay, ip: &'a str, port: u16) -> BoxFuture<'a, Result<Connection>> {
        Box::pin(Connection::dial(ip, port))
    }
}

impl Cluster for Elsewhere {
    fn driver(&self) -> &'static str {
        self.0
    }
    fn complete(&self) -> bool {
        false
    }
    fn needs_relay(&self) -> bool {
        true
    }
    fn connect<'a>(&'a self, relay: &'a Relay, ip: &'a str, port: u16) -> BoxFuture<'a, Result<Connection>> {
        Box::pin(async move {
            // The engine's image has bash, which can open a connection; the reading half ends when the connection does.
            let script = format!("exec 3<>/dev/tcp/{ip}/{port} && {{ cat <&3 & exec cat >&3; }}");
            let mut command = Command::new(&relay.kubectl);
            command.env("KUBECONFIG", &relay.kubeconfig);
            command.args(["-n", &relay.namespace, "exec", "-i", &relay.pod, "--", "bash", "-c", &script]);
            Connection::over(command).await.with_context(|| format!("to {ip}:{port} through {}", relay.pod))
        })
    }
}

/// The cluster that CLUSTER names.
pub(crate) fn chosen() -> Result<Arc<dyn Cluster>> {
    let word = std::env::var("KAGAMI_CLUSTER").or_else(|_| std::env::var("CLUSTER")).unwrap_or_default();
    Ok(match word.as_str() {
        "" | "local" => Arc::new(Local),
        "kind" => Arc::new(Elsewhere("kind")),
        "current" => Arc::new(Elsewhere("current")),
        other => bail!("CLUSTER is {other}, but must be local, kind or current"),
    })
}

/// Something this driver cannot do.
#[derive(Debug)]
pub(crate) struct CannotDo(pub(crate) String);

impl fmt::Display for CannotDo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for CannotDo {}

fn entry() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "local", "cluster"].iter().collect()
}

async fn verb(arguments: &[&str]) -> Result<String> {
    let driver = chosen()?.driver();
    let program = entry().display().to_string();
    let mut all = vec![format!("CLUSTER={driver}"), program];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let said: Said = run("env", &all, None, seconds(150)).await?;
    if !said.success && said.err.contains(&format!("the driver {driver} cannot do")) {
        return Err(CannotDo(said.err.trim().to_owned()).into());
    }
    said.well(&format!("local/cluster {}", arguments.join(" ")))
}

/// The path of the kubeconfig: what the environment says, else the driver's.
pub(crate) async fn kubeconfig() -> Result<String> {
    match std::env::var("KUBECONFIG") {
        Ok(path) if !path.is_empty() => Ok(path),
        _ => verb(&["kubeconfig"]).await,
    }
}

/// The path of kubectl.
pub(crate) async fn kubectl() -> Result<String> {
    match std::env::var("KUBECTL") {
        Ok(path) if !path.is_empty() => Ok(path),
        _ => verb(&["tool", "kubectl"]).await,
    }
}

/// Sends a signal to the processes of a container whose command line matches; `pid1` is its first process.
pub(crate) async fn kill_process(
    namespace: &str,
    pod: &str,
    container: &str,
    pattern: &str,
    signal: &str,
) -> Result<()> {
    verb(&["kill-process", namespace, pod, container, pattern, signal]).await.map(drop)
}

/// SIGSTOP.
pub(crate) async fn pause_process(namespace: &str, pod: &str, container: &str, pattern: &str) -> Result<()> {
    verb(&["pause-process", namespace, pod, container, pattern]).await.map(drop)
}

/// SIGCONT.
pub(crate) async fn resume_process(namespace: &str, pod: &str, container: &str, pattern: &str) -> Result<()> {
    verb(&["resume-process", namespace, pod, container, pattern]).await.map(drop)
}

/// Everything on the machine is gone at once.
pub(crate) async fn crash_machine(node: &str) -> Result<()> {
    verb(&["crash-machine", node]).await.map(drop)
}

/// A crashed machine boots again.
pub(crate) async fn start_machine(node: &str) -> Result<()> {
    verb(&["start-machine", node]).await.map(drop)
}

/// Off the network; what runs on it lives on.
pub(crate) async fn silence_machine(node: &str) -> Result<()> {
    verb(&["silence-machine", node]).await.map(drop)
}

/// On the network again.
pub(crate) async fn return_machine(node: &str) -> Result<()> {
    verb(&["return-machine", node]).await.map(drop)
}

/// The apiserver dies and comes back.
pub(crate) async fn restart_apiserver() -> Result<()> {
    verb(&["restart-apiserver"]).await.map(drop)
}

/// One more machine.
pub(crate) async fn add_machine(name: &str, zone: &str) -> Result<()> {
    verb(&["add-machine", name, zone]).await.map(drop)
}

/// And away with it.
pub(crate) async fn remove_machine(name: &str) -> Result<()> {
    verb(&["remove-machine", name]).await.map(drop)
}
