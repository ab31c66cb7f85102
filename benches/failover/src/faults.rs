//! The cluster and what is done to it: every fault is a verb of `local/cluster` or an API call that a person makes.

use crate::groups::Node;
use anyhow::{Context, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node as Machine, Pod};
use kagami_api::v1alpha1::ReplicationGroup;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// What happens to a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to its process.
    Kill,
    /// `kubectl delete pod --force`.
    Delete,
    /// `kubectl delete pod`: SIGTERM, and the role is handed over.
    Handover,
    /// Its machine is off the network.
    Silent,
    /// The engines elect without an operator.
    Election,
    /// Every engine of the group is started again by the annotation `reboot`, one after the other.
    Roll,
    /// All pods of a group with volumes are deleted at once.
    Addresses,
}

impl Fault {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Delete => "delete",
            Self::Handover => "handover",
            Self::Silent => "silent",
            Self::Election => "election",
            Self::Roll => "roll",
            Self::Addresses => "addresses",
        }
    }
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            Self::Kill,
            Self::Delete,
            Self::Handover,
            Self::Silent,
            Self::Election,
            Self::Roll,
            Self::Addresses,
        ];
        all.into_iter().find(|fault| fault.word() == text).ok_or_else(|| format!("no such fault: {text}"))
    }
}

/// The cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    pub(crate) namespace: String,
    operator: String,
    /// The interpreter that has redis-py.
    pub(crate) python: Option<PathBuf>,
}

const OPERATOR: &str = "app.kubernetes.io/name=kagami,app.kubernetes.io/component=operator";

impl Cluster {
    /// The one of the KUBECONFIG, with a fresh namespace.
    pub(crate) async fn here(namespace: &str, python: Option<PathBuf>) -> Result<Self> {
        let client = Client::try_default().await.context("KUBECONFIG")?;
        let operator = std::env::var("KAGAMI_NAMESPACE").unwrap_or_else(|_| "kagami-system".into());
        let cluster = Self { client, namespace: namespace.to_owned(), operator, python };
        cluster.end().await?;
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let until = Instant::now() + Duration::from_secs(120);
        while namespaces.get_opt(namespace).await?.is_some() {
            ensure!(Instant::now() < until, "the namespace {namespace} does not go away");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let object: Namespace = serde_json::from_value(json!({ "metadata": { "name": namespace } }))?;
        namespaces.create(&PostParams::default(), &object).await?;
        Ok(cluster)
    }

    /// The groups, then their namespace.
    pub(crate) async fn end(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt(&self.namespace).await?.is_none() {
            return Ok(());
        }
        let groups: Api<ReplicationGroup> = self.api();
        groups.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let until = Instant::now() + Duration::from_secs(90);
        while !groups.list(&ListParams::default()).await?.items.is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A machine that is ready and none of these.
    pub(crate) async fn machine_but(&self, those: &[&str]) -> Result<String> {
        let machines: Api<Machine> = Api::all(self.client.clone());
        let all = machines.list(&ListParams::default()).await?;
        all.items
            .iter()
            .map(ResourceExt::name_any)
            .find(|name| !those.contains(&name.as_str()))
            .context("no machine")
    }

    /// Does it, as a person would.
    pub(crate) async fn strike(&self, fault: Fault, node: &Node) -> Result<()> {
        let pods: Api<Pod> = self.api();
        match fault {
            Fault::Kill => {
                self.verb(&[
                    "kill-process",
                    &self.namespace,
                    &node.pod,
                    "engine",
                    "(redis|valkey)-server",
                    "KILL",
                ])
                .await
            }
            Fault::Delete => {
                pods.delete(&node.pod, &DeleteParams::default().grace_period(0)).await?;
                Ok(())
            }
            Fault::Handover => {
                pods.delete(&node.pod, &DeleteParams::default()).await?;
                Ok(())
            }
            Fault::Silent => self.silence(&node.machine).await,
            Fault::Election | Fault::Roll | Fault::Addresses => Ok(()),
        }
    }

    pub(crate) async fn silence(&self, machine: &str) -> Result<()> {
        self.verb(&["silence-machine", machine]).await
    }

    pub(crate) async fn give_back(&self, machine: &str) -> Result<()> {
        self.verb(&["return-machine", machine]).await
    }

    pub(crate) async fn verb(&self, words: &[&str]) -> Result<()> {
        let said = Command::new("local/cluster").args(words).output().await.context("local/cluster")?;
        ensure!(said.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    fn operators(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.operator)
    }

    async fn operator_pods(&self) -> Result<Vec<Pod>> {
        let list = self.operators().list(&ListParams::default().labels(OPERATOR)).await?;
        Ok(list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    async fn leader(&self) -> Result<Pod> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.operator);
        let leases = leases.list(&ListParams::default()).await?.items;
        let holders: Vec<String> =
            leases.into_iter().filter_map(|lease| lease.spec?.holder_identity).collect();
        let pods = self.operator_pods().await?;
        let found =
            pods.into_iter().find(|pod| holders.iter().any(|holder| holder.starts_with(&pod.name_any())));
        found.context("no operator leads")
    }

    /// What is measured is the silence of a primary, not that of the operator too.
    pub(crate) async fn leader_elsewhere(&self, machine: &str) -> Result<()> {
        for _ in 0..20 {
            if let Ok(leader) = self.leader().await {
                if leader.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(machine) {
                    return Ok(());
                }
                self.operators().delete(&leader.name_any(), &DeleteParams::default()).await?;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        anyhow::bail!("the operator leads from {machine} again and again")
    }

    /// SIGSTOP to every operator process.
    pub(crate) async fn freeze_operator(&self) -> Result<Vec<String>> {
        let names: Vec<String> = self.operator_pods().await?.iter().map(ResourceExt::name_any).collect();
        for name in &names {
            self.verb(&["pause-process", &self.operator, name, "operator", "pid1"]).await?;
        }
        Ok(names)
    }

    /// SIGCONT.
    pub(crate) async fn wake_operator(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.verb(&["resume-process", &self.operator, name, "operator", "pid1"]).await?;
        }
        Ok(())
    }
}
