//! A story: a namespace of its own, a time limit, a full account when it ends badly, and nothing left behind.

use super::cluster::{self, CannotDo, Cluster, Relay};
use super::engine::Connection;
use super::tools::{eventually, run, seconds};
use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kagami_api::v1alpha1::ReplicationGroup;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{OnceCell, RwLock};

/// Whether a story minds others beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It keeps to its own groups.
    SideBySide,
    /// It disturbs machines, the operator or the apiserver, so it has the cluster to itself.
    Alone,
}

/// The label of the namespaces of stories; its value is when the run began.
const RUN_LABEL: &str = "kagami-story-run";
/// Stories that disturb nobody share it, the others hold it alone.
static CLUSTER_USE: RwLock<()> = RwLock::const_new(());
/// Old namespaces are cleared away once for each run.
static CLEARED: OnceCell<()> = OnceCell::const_new();
static RUN: OnceLock<u64> = OnceLock::new();

fn run_began() -> u64 {
    *RUN.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// What a story has in its hands.
pub(crate) struct Story {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) cluster: Arc<dyn Cluster>,
    kubectl: String,
    kubeconfig: String,
    pub(crate) began: Instant,
    random: Mutex<StdRng>,
    relay: OnceCell<Relay>,
}

/// Tells a story, and gives a full account if it ends badly.
pub(crate) async fn tell(
    name: &str,
    sharing: Sharing,
    limit: Duration,
    acts: impl AsyncFnOnce(&Story) -> Result<()>,
) -> Result<()> {
    let (_shared, _alone) = match sharing {
        Sharing::SideBySide => (Some(CLUSTER_USE.read().await), None),
        Sharing::Alone => (None, Some(CLUSTER_USE.write().await)),
    };
    let story = Story::begin(name).await.with_context(|| format!("the story {name} could not begin"))?;
    let end = tokio::time::timeout(limit, acts(&story)).await;
    let took = story.began.elapsed().as_secs_f64();
    let outcome = match end {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow!("the story took longer than {:.0} s", limit.as_secs_f64())),
    };
    match &outcome {
        Ok(()) => story.say(format!("told in {took:.1} s")),
        Err(error) if error.is::<CannotDo>() && !story.cluster.complete() => {
            println!("SKIPPED {name}: {error}");
            story.end().await;
            return Ok(());
        }
        Err(error) => {
            story.say(format!("FAILED after {took:.1} s: {error:#}"));
            story.account().await;
        }
    }
    if outcome.is_ok() || std::env::var_os("KEEP").is_none() {
        story.end().await;
    }
    outcome
}

impl Story {
    async fn begin(name: &str) -> Result<Self> {
        let began = Instant::now();
        let path = cluster::kubeconfig().await?;
        let kubeconfig = kube::config::Kubeconfig::read_from(&path).with_context(|| path.clone())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let client = Client::try_from(config)?;
        let seed: u64 = match std::env::var("SEED") {
            Ok(text) => text.parse().context("SEED is not a number")?,
            Err(_) => rand::rng().random(),
        };
        let mut random = StdRng::seed_from_u64(seed);
        let unique: u32 = rand::rng().random();
        let namespace = format!("story-{name}-{:06x}", unique & 0x00ff_ffff);
        // The first draw is thrown away, so that the namespace does not depend on the seed.
        let _: u64 = random.random();
        let story = Self {
            name: name.to_owned(),
            namespace,
            client,
            cluster: cluster::chosen()?,
            kubectl: cluster::kubectl().await?,
            kubeconfig: path,
            began,
            random: Mutex::new(random),
            relay: OnceCell::new(),
        };
        CLEARED.get_or_try_init(|| story.clear_old()).await?;
        story.operator_is_there().await?;
        let namespaces: Api<Namespace> = Api::all(story.client.clone());
        let object: Namespace = serde_json::from_value(json!({
            "metadata": { "name": story.namespace, "labels": {
                RUN_LABEL: run_began().to_string(), "pod-security.kubernetes.io/enforce": "restricted" } }
        }))?;
        namespaces.create(&PostParams::default(), &object).await?;
        story.say(format!("namespace {}, SEED={seed}", story.namespace));
        Ok(story)
    }

    /// Namespaces of runs that ended without clearing up, unless they may be another run's that is still going on.
    async fn clear_old(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for old in namespaces.list(&ListParams::default().labels(RUN_LABEL)).await? {
            let began: u64 = old.labels().get(RUN_LABEL).and_then(|text| text.parse().ok()).unwrap_or(0);
            if began + 30 * 60 < run_began() && old.metadata.deletion_timestamp.is_none() {
                println!("clearing away {}", old.name_any());
                remove_namespace(&self.client, &old.name_any()).await?;
            }
        }
        Ok(())
    }

    async fn operator_is_there(&self) -> Result<()> {
        if std::env::var("OPERATOR").is_ok_and(|where_| where_ == "by-hand") {
            // For those who develop it: `kagami operator` runs outside of the cluster.
            return Ok(());
        }
        let namespace = super::operator::namespace();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        eventually("the operator is installed and available", seconds(60), async || {
            let list = deployments
                .list(
                    &ListParams::default()
                        .labels("app.kubernetes.io/name=kagami,app.kubernetes.io/component=operator"),
                )
                .await?;
            let found = list.items.first().with_context(|| {
                format!("no Deployment of Kagami in the namespace {namespace}; `make deploy` installs it")
            })?;
            let ready = found.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
            let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            ensure!(ready >= wanted, "{ready} of {wanted} replicas are available");
            Ok(())
        })
        .await
    }

    pub(crate) fn say(&self, text: impl AsRef<str>) {
        println!("[{:>6.1} {}] {}", self.began.elapsed().as_secs_f64(), self.name, text.as_ref());
    }

    /// A number below a bound, from the story's seed.
    pub(crate) fn chance(&self, below: u64) -> u64 {
        self.random.lock().map_or(0, |mut random| random.random_range(0..below))
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies an object of ours, as a user does.
    pub(crate) async fn apply_ours<K>(&self, name: &str, object: &Value) -> Result<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let parameters = PatchParams::apply("story").force();
        Ok(self.api::<K>().patch(name, &parameters, &Patch::Apply(object)).await?)
    }

    /// `kubectl` in the story's namespace.
    pub(crate) async fn kubectl(
        &self,
        arguments: &[&str],
        input: Option<&str>,
        limit: Duration,
    ) -> Result<super::tools::Said> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig);
        let mut all = vec![kubeconfig.as_str(), "-n", self.namespace.as_str()];
        all.extend(arguments);
        run(&self.kubectl, &all, input, limit).await
    }

    /// `kubectl drain` for the pods of a selector.
    pub(crate) async fn drain(
        &self,
        machine: &str,
        selector: &str,
        limit: Duration,
    ) -> Result<super::tools::Said> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let mut words = vec!["drain", machine, "--ignore-daemonsets", "--delete-emptydir-data"];
        words.extend(["--pod-selector", selector, &timeout]);
        self.kubectl(&words, None, limit + seconds(10)).await
    }

    /// Takes a machine out of service for new pods.
    pub(crate) async fn cordon(&self, machine: &str) -> Result<()> {
        self.kubectl(&["cordon", machine], None, seconds(20)).await?.well("cordon").map(drop)
    }

    /// Takes it back.
    pub(crate) async fn uncordon(&self, machine: &str) -> Result<()> {
        self.kubectl(&["uncordon", machine], None, seconds(20)).await?.well("uncordon").map(drop)
    }

    /// A pod that clients of the story run in. It has redis-cli, a shell and a resolver.
    pub(crate) async fn client_pod(&self, name: &str, labels: &Value) -> Result<()> {
        let image = std::env::var("CLI_IMAGE").unwrap_or_else(|_| "docker.io/library/redis:6.2".into());
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "enableServiceLinks": false,
                "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{ "name": "client", "image": image, "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", "exec sleep 3600"],
                    "resources": { "requests": { "cpu": "5m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
                    "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } } }]
            }
        }))?;
        let pods: Api<Pod> = self.api();
        pods.create(&PostParams::default(), &pod).await?;
        eventually("the client's pod runs", seconds(60), async || {
            let phase = pods.get(name).await?.status.and_then(|status| status.phase).unwrap_or_default();
            ensure!(phase == "Running", "{phase}");
            Ok(())
        })
        .await
    }

    /// Runs a program in a client pod.
    pub(crate) async fn in_pod(&self, pod: &str, command: &[&str]) -> Result<String> {
        let mut all = vec!["exec", pod, "--"];
        all.extend(command);
        self.kubectl(&all, None, seconds(20)).await?.well(&command.join(" "))
    }

    /// The IPv4 addresses of a name, as a pod sees them.
    pub(crate) async fn resolve(&self, pod: &str, name: &str) -> Result<Vec<String>> {
        let script = r#"if command -v getent >/dev/null; then getent ahostsv4 "$1" | cut -d" " -f1; else nslookup "$1" 2>/dev/null | sed -n "1,/^Name:/d; s/^Address[^:]*: *\([0-9.]*\).*/\1/p"; fi"#;
        let out = self.in_pod(pod, &["sh", "-c", script, "-", name]).await?;
        let mut addresses: Vec<String> = out.split_whitespace().map(str::to_owned).collect();
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    }

    /// A connection to a port of a pod.
    pub(crate) async fn connect(&self, ip: &str, port: u16) -> Result<Connection> {
        let relay = self
            .relay
            .get_or_try_init(|| async {
                if !self.cluster.needs_relay() {
                    return Ok(Relay::default());
                }
                self.client_pod("relay", &json!({})).await?;
                Ok::<_, anyhow::Error>(Relay {
                    namespace: self.namespace.clone(),
                    pod: "relay".into(),
                    kubectl: self.kubectl.clone(),
                    kubeconfig: self.kubeconfig.clone(),
                })
            })
            .await?;
        self.cluster.connect(relay, ip, port).await
    }

    /// Everything that helps to understand a failure.
    async fn account(&self) {
        let print = async |title: &str, arguments: &[&str]| {
            let text = match self.kubectl(arguments, None, seconds(20)).await {
                Ok(said) => format!("{}{}", said.out, said.err),
                Err(error) => format!("{error:#}"),
            };
            println!("---- {}: {title}\n{}", self.name, text.trim_end());
        };
        print("groups", &["get", "rg", "-o", "custom-columns=NAME:.metadata.name,STATUS:.status"]).await;
        print("pods", &["get", "pods,pvc,pdb", "-o", "wide", "--show-labels=false"]).await;
        print("leases", &["get", "leases", "-o", "yaml"]).await;
        print("events", &["get", "events", "--sort-by=.metadata.creationTimestamp"]).await;
        let pods: Api<Pod> = self.api();
        for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let name = pod.name_any();
            if pod.labels().contains_key(kagami_api::names::LABEL_CACHE_NODE) {
                print(&name, &["logs", &name, "-c", "engine", "--tail=40"]).await;
                print(
                    &format!("{name}, before"),
                    &["logs", &name, "-c", "engine", "--tail=15", "--previous"],
                )
                .await;
            }
        }
        let operator = super::operator::namespace();
        let selector = "app.kubernetes.io/component=operator";
        print(
            "the operator",
            &["logs", "-n", &operator, "-l", selector, "--tail=150", "--prefix", "--max-log-requests=10"],
        )
        .await;
    }

    async fn end(&self) {
        if let Err(error) = remove_namespace(&self.client, &self.namespace).await {
            self.say(format!("could not clear up: {error:#}"));
        }
    }
}

/// Groups first, so that the operator still finds everything that it needs for the deletion.
async fn remove_namespace(client: &Client, name: &str) -> Result<()> {
    let groups: Api<ReplicationGroup> = Api::namespaced(client.clone(), name);
    groups.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let gone = eventually("the groups are gone", seconds(30), async || {
        let left = groups.list(&ListParams::default()).await?.items.len();
        ensure!(left == 0, "{left} left");
        Ok(())
    })
    .await;
    Api::<Namespace>::all(client.clone()).delete(name, &DeleteParams::default()).await?;
    gone
}

/// The zones of the machines.
pub(crate) async fn zones(story: &Story) -> Result<std::collections::BTreeMap<String, String>> {
    use kube::ResourceExt;
    let machines: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(story.client.clone());
    let list = machines.list(&kube::api::ListParams::default()).await?;
    Ok(list
        .items
        .into_iter()
        .map(|machine| {
            let zone = machine.labels().get(kagami_api::names::LABEL_ZONE).cloned().unwrap_or_default();
            (machine.name_any(), zone)
        })
        .collect())
}
