//! A replication group as its user, its clients and an administrator see it.

use super::cluster;
use super::engine::{Connection, Reply};
use super::story::Story;
use super::tools::{eventually, seconds};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kagami_api::names;
use kagami_api::v1alpha1::{ClusterMode, GroupStatus, NodeGroup, ReplicationGroup, ReplicationGroupStatus};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The container that the engine runs in.
pub(crate) const CONTAINER: &str = "engine";
/// The engine's process, by its command line.
pub(crate) const ENGINE_PROCESS: &str = "(redis|valkey)-server";

/// A group of a story.
pub(crate) struct Group<'s> {
    pub(crate) story: &'s Story,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A cache node as Kubernetes shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) shard: String,
    pub(crate) pod: String,
    pub(crate) pod_uid: String,
    pub(crate) ip: String,
    pub(crate) machine: String,
    pub(crate) restarts: i32,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What an engine says of its replication.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) primary: bool,
    pub(crate) run_id: String,
    pub(crate) slots: Vec<(u16, u16)>,
    pub(crate) link_up: bool,
    pub(crate) syncing: bool,
    pub(crate) follows: String,
}

/// The smallest spec of the seed's kind; the second is laid over the first.
pub(crate) fn spec(of: Value) -> Value {
    let mut spec = json!({
        "replicationGroupDescription": "a story's", "engine": "redis", "engineVersion": "7.0",
        "cacheNodeType": "cache.t4g.micro",
    });
    if let (Some(spec), Value::Object(of)) = (spec.as_object_mut(), of) {
        spec.extend(of);
    }
    spec
}

/// `shards` × (1 + `replicas`), cluster mode enabled.
pub(crate) fn clustered(shards: usize, replicas: usize) -> Value {
    spec(json!({ "clusterMode": "enabled", "numNodeGroups": shards, "replicasPerNodeGroup": replicas }))
}

/// So many nodes with cluster mode disabled, of which a replica takes over by itself.
pub(crate) fn replicated(nodes: usize) -> Value {
    spec(json!({ "numCacheClusters": nodes, "automaticFailoverEnabled": true }))
}

/// With a volume for every node.
pub(crate) fn stored(mut spec: Value) -> Value {
    spec["kubernetes"]["storage"] = json!({ "size": "256Mi" });
    spec
}

fn object(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": "ReplicationGroup",
        "metadata": { "name": name }, "spec": spec })
}

impl<'s> Group<'s> {
    /// Applies a group, as a user does; an error is admission's.
    pub(crate) async fn apply(story: &'s Story, name: &str, spec: &Value) -> Result<Self> {
        story.apply_ours::<ReplicationGroup>(name, &object(name, spec)).await?;
        let port = spec["port"].as_u64().and_then(|port| port.try_into().ok()).unwrap_or(names::DEFAULT_PORT);
        Ok(Self { story, name: name.to_owned(), port })
    }

    /// Applies a group that admission must refuse, and gives its words.
    pub(crate) async fn refused(story: &'s Story, name: &str, spec: &Value) -> Result<String> {
        match Self::apply(story, name, spec).await {
            Ok(_) => bail!("{name} was admitted: {spec}"),
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                    Ok(status.message.clone())
                }
                _ => Err(error),
            },
        }
    }

    pub(crate) fn api(&self) -> Api<ReplicationGroup> {
        self.story.api()
    }

    pub(crate) async fn get(&self) -> Result<ReplicationGroup> {
        Ok(self.api().get(&self.name).await?)
    }

    pub(crate) async fn status(&self) -> Result<ReplicationGroupStatus> {
        Ok(self.get().await?.status.unwrap_or_default())
    }

    /// Merges into the spec, as a user does with `kubectl patch`.
    pub(crate) async fn change(&self, spec: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api().patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until the status says something, and prints what it says meanwhile.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&ReplicationGroup, &ReplicationGroupStatus) -> Result<T>,
    ) -> Result<T> {
        let last = RefCell::new(String::new());
        eventually(&format!("{}: {what}", self.name), limit, async || {
            let group = self.get().await?;
            let status = group.status.clone().unwrap_or_default();
            let words = brief(&status);
            if *last.borrow() != words {
                self.story.say(format!("{}: {words}", self.name));
                last.replace(words);
            }
            look(&group, &status)
        })
        .await
    }

    /// Every node is available, and nothing is amiss or being changed.
    pub(crate) async fn settled(&self, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        self.wait("available, whole and at rest", limit, |group, status| at_rest(group, status, &[])).await?;
        Ok(began.elapsed())
    }

    /// The same of a group whose engines were ended again and again, which its status tells for some minutes.
    pub(crate) async fn whole(&self, limit: Duration) -> Result<()> {
        let what = "available, whole, and nothing amiss but that engines have ended";
        self.wait(what, limit, |group, status| at_rest(group, status, &["CrashLooping"])).await
    }

    /// Degraded with a reason; gives the message.
    pub(crate) async fn degraded(&self, reason: &str, limit: Duration) -> Result<String> {
        self.wait(&format!("Degraded with {reason}"), limit, |_, status| {
            let found = status.conditions.iter().find(|condition| condition.type_ == "Degraded");
            let found = found.context("no condition Degraded")?;
            ensure!(found.status == "True", "Degraded is {}", found.status);
            ensure!(found.reason == reason, "Degraded with {}: {}", found.reason, found.message);
            Ok(found.message.clone())
        })
        .await
    }

    /// The nodes whose pods have an address and are not on their way out, by name.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        let pods: Api<Pod> = self.story.api();
        let selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, self.name);
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        let mut nodes: Vec<Node> = list
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| {
                let label = |key: &str| pod.labels().get(key).cloned();
                let status = pod.status.as_ref()?;
                let restarts = status
                    .container_statuses
                    .as_ref()
                    .map_or(0, |all| all.iter().map(|one| one.restart_count).sum());
                Some(Node {
                    name: label(names::LABEL_CACHE_NODE)?,
                    shard: label(names::LABEL_NODE_GROUP)?,
                    pod: pod.name_any(),
                    pod_uid: pod.uid()?,
                    ip: status.pod_ip.clone()?,
                    machine: pod.spec.as_ref()?.node_name.clone()?,
                    restarts,
                    labels: pod.labels().clone(),
                })
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// The nodes of one shard.
    pub(crate) async fn shard(&self, shard: &str) -> Result<Vec<Node>> {
        Ok(self.nodes().await?.into_iter().filter(|node| node.shard == shard).collect())
    }

    pub(crate) async fn node(&self, name: &str) -> Result<Node> {
        self.nodes()
            .await?
            .into_iter()
            .find(|node| node.name == name)
            .with_context(|| format!("no node {name}"))
    }

    /// The ids of the shards, by their pods.
    pub(crate) async fn shards(&self) -> Result<Vec<String>> {
        let mut shards: Vec<String> = self.nodes().await?.into_iter().map(|node| node.shard).collect();
        shards.dedup();
        Ok(shards)
    }

    pub(crate) async fn connect(&self, node: &Node) -> Result<Connection> {
        self.story.connect(&node.ip, self.port).await.with_context(|| node.name.clone())
    }

    pub(crate) async fn clustered(&self) -> Result<bool> {
        Ok(self.status().await?.cluster_mode == Some(ClusterMode::Enabled))
    }

    /// What the engine of a node says.
    pub(crate) async fn view(&self, node: &Node) -> Result<View> {
        let mut connection = self.connect(node).await?;
        let server = connection.info("server").await?;
        let replication = connection.info("replication").await?;
        let is = |key: &str, value: &str| replication.get(key).is_some_and(|found| found == value);
        let mut slots = Vec::new();
        if connection.info("cluster").await?.get("cluster_enabled").is_some_and(|value| value == "1") {
            let lines = connection.command(&["CLUSTER", "NODES"]).await?.text()?;
            let mine = lines.lines().find(|line| line.contains("myself")).unwrap_or_default();
            for range in mine.split(' ').skip(8).filter(|range| !range.starts_with('[')) {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                slots.push((from.parse()?, to.parse()?));
            }
        }
        Ok(View {
            primary: is("role", "master"),
            run_id: server.get("run_id").cloned().unwrap_or_default(),
            slots,
            link_up: is("master_link_status", "up"),
            syncing: is("master_sync_in_progress", "1"),
            follows: replication.get("master_host").cloned().unwrap_or_default(),
        })
    }

    /// Waits until another node of a shard is the primary, with its slots.
    pub(crate) async fn taken_over(&self, old: &Node, limit: Duration) -> Result<Node> {
        let clustered = self.clustered().await?;
        eventually(&format!("somebody took over from {}", old.name), limit, async || {
            for node in self.shard(&old.shard).await?.into_iter().filter(|node| node.name != old.name) {
                let view = self.view(&node).await?;
                if view.primary && (!clustered || !view.slots.is_empty()) {
                    return Ok(node);
                }
            }
            bail!("not yet")
        })
        .await
    }

    /// The one primary of a shard, by the engines' own words. Two primaries at once are an error that no waiting heals.
    pub(crate) async fn primary_of(&self, shard: &str) -> Result<Node> {
        let clustered = self.clustered().await?;
        eventually(&format!("one primary of {} {shard}", self.name), seconds(60), async || {
            let nodes = self.shard(shard).await?;
            let views = futures::future::join_all(nodes.iter().map(|node| self.view(node))).await;
            let mut primaries = Vec::new();
            for (node, view) in nodes.iter().zip(views) {
                if let Ok(view) = view
                    && view.primary
                    && (!clustered || !view.slots.is_empty())
                {
                    primaries.push(node.clone());
                }
            }
            ensure!(
                primaries.len() == 1,
                "the primaries are {:?}",
                primaries.iter().map(|node| &node.name).collect::<Vec<_>>()
            );
            primaries.pop().context("no primary")
        })
        .await
    }

    /// The replicas of a shard.
    pub(crate) async fn replicas_of(&self, shard: &str) -> Result<Vec<Node>> {
        let primary = self.primary_of(shard).await?;
        Ok(self.shard(shard).await?.into_iter().filter(|node| node.name != primary.name).collect())
    }

    /// Waits until a node follows the shard's primary with its link up.
    pub(crate) async fn is_replica(&self, node: &str, limit: Duration) -> Result<()> {
        eventually(&format!("{node} is a replica in sync"), limit, async || {
            let node = self.node(node).await?;
            let view = self.view(&node).await?;
            ensure!(!view.primary, "it is a primary");
            ensure!(view.link_up && !view.syncing, "its link to {} is not up", view.follows);
            let primary = self.primary_of(&node.shard).await?;
            ensure!(view.follows == primary.ip, "it follows {} and not {}", view.follows, primary.ip);
            Ok(())
        })
        .await
    }

    /// Waits until every node of a shard but its primary follows it.
    pub(crate) async fn in_sync(&self, shard: &str, limit: Duration) -> Result<()> {
        for replica in self.replicas_of(shard).await? {
            self.is_replica(&replica.name, limit).await?;
        }
        Ok(())
    }

    /// Sends a signal to a node's engine or agent. A busy kubelet tells seconds later than its agent that a container has started.
    pub(crate) async fn signal(&self, node: &Node, pattern: &str, signal: &str) -> Result<()> {
        let namespace = &self.story.namespace;
        eventually(
            "the kubelet has told of its container",
            seconds(10),
            async || match cluster::kill_process(namespace, &node.pod, CONTAINER, pattern, signal).await {
                Err(error) if error.to_string().contains("no started container") => Err(error),
                done => Ok(done),
            },
        )
        .await?
    }

    pub(crate) async fn pause_engine(&self, node: &Node) -> Result<()> {
        cluster::pause_process(&self.story.namespace, &node.pod, CONTAINER, ENGINE_PROCESS).await
    }

    /// The events of the group: reason and message, in the order of their time.
    pub(crate) async fn events(&self) -> Result<Vec<(String, String)>> {
        let events: Api<Event> = self.story.api();
        let mut found: Vec<Event> = events
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(&self.name))
            .collect();
        found.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        Ok(found
            .into_iter()
            .map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect())
    }

    /// How often an event with a reason was sent; events that say the same are counted on one object.
    pub(crate) async fn events_sent(&self, reason: &str) -> Result<i32> {
        let events: Api<Event> = self.story.api();
        let ours = events.list(&ListParams::default()).await?.items.into_iter().filter(|event| {
            event.involved_object.name.as_deref() == Some(&self.name)
                && event.reason.as_deref() == Some(reason)
        });
        Ok(ours.map(|event| event.series.and_then(|series| series.count).or(event.count).unwrap_or(1)).sum())
    }

    /// Waits for an event with a reason; gives its message.
    pub(crate) async fn event(&self, reason: &str, limit: Duration) -> Result<String> {
        eventually(&format!("{}: an event {reason}", self.name), limit, async || {
            let all = self.events().await?;
            let reasons: Vec<&String> = all.iter().map(|(reason, _)| reason).collect();
            let found = all.iter().find(|(found, _)| found == reason);
            found.map(|(_, message)| message.clone()).with_context(|| format!("there are {reasons:?}"))
        })
        .await
    }

    pub(crate) async fn no_event(&self, reason: &str) -> Result<()> {
        match self.events().await?.into_iter().find(|(found, _)| found == reason) {
            Some((_, message)) => bail!("there is an event {reason}: {message}"),
            None => Ok(()),
        }
    }

    /// The shards' terms, as the status tells them.
    pub(crate) async fn terms(&self) -> Result<Vec<(String, Option<i64>, Option<String>)>> {
        let primary = |shard: &NodeGroup| {
            shard
                .node_group_members
                .iter()
                .find(|member| member.current_role == Some(kagami_api::v1alpha1::Role::Primary))
                .map(|member| member.cache_cluster_id.clone())
        };
        let status = self.status().await?;
        Ok(status
            .node_groups
            .iter()
            .map(|shard| (shard.node_group_id.clone(), shard.term, primary(shard)))
            .collect())
    }

    /// One command at a node.
    pub(crate) async fn ask(&self, node: &Node, words: &[&str]) -> Result<Reply> {
        self.connect(node).await?.command(words).await
    }
}

/// Whether every node is available and nothing is amiss, but for reasons that are expected.
fn at_rest(group: &ReplicationGroup, status: &ReplicationGroupStatus, expected: &[&str]) -> Result<()> {
    ensure!(status.observed_generation == group.metadata.generation, "the status is of an older spec");
    ensure!(status.status == Some(GroupStatus::Available), "not available");
    let (ready, all) =
        status.nodes_ready.as_deref().and_then(|text| text.split_once('/')).unwrap_or(("0", "?"));
    ensure!(ready == all, "{ready} of {all} nodes");
    for (kind, wanted) in [("Ready", "True"), ("Progressing", "False"), ("Degraded", "False")] {
        let found = status.conditions.iter().find(|condition| condition.type_ == kind);
        let found = found.with_context(|| format!("no condition {kind}"))?;
        ensure!(
            found.status == wanted || (kind == "Degraded" && expected.contains(&found.reason.as_str())),
            "{kind} is {}: {} {}",
            found.status,
            found.reason,
            found.message
        );
    }
    Ok(())
}

/// A status in one line.
pub(crate) fn brief(status: &ReplicationGroupStatus) -> String {
    let degraded = status.conditions.iter().find(|condition| condition.type_ == "Degraded");
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let message = [degraded, ready]
        .into_iter()
        .flatten()
        .find(|condition| (condition.type_ == "Degraded") == (condition.status == "True"));
    format!(
        "{} {} {}{}",
        status.status.map_or("(no status)", |word| word.as_str()),
        status.nodes_ready.as_deref().unwrap_or("-"),
        status.reason.as_deref().unwrap_or("-"),
        message.map_or_else(String::new, |condition| format!(
            " ({})",
            condition.message.chars().take(160).collect::<String>()
        )),
    )
}
