//! The groups that are measured.

use crate::faults::Cluster;
use crate::probe::{Observation, Targets};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kagami_api::names;
use kagami_api::v1alpha1::{GroupStatus, ReplicationGroup};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The zones of the local cluster's machines.
const ZONES: [&str; 3] = ["ap-northeast-1a", "ap-northeast-1c", "ap-northeast-1d"];
/// The node group whose primary meets the faults.
const SHARD: &str = "0001";
const REBOOT: &str = "elasticache.kagami.dev/reboot";
const UNDER_WAY: &str = "elasticache.kagami.dev/restart-under-way";

/// Shards and nodes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 1 × 2.
    One,
    /// 2 × 2.
    Two,
    /// 3 × 2.
    Three,
    /// Cluster mode disabled, 1 + 1.
    Disabled,
}

impl Shape {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::One => "1x2",
            Self::Two => "2x2",
            Self::Three => "3x2",
            Self::Disabled => "disabled",
        }
    }

    fn shards(self) -> usize {
        match self {
            Self::One | Self::Disabled => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::One, Self::Two, Self::Three, Self::Disabled]
            .into_iter()
            .find(|shape| shape.word() == text)
            .ok_or_else(|| format!("no such shape: {text}"))
    }
}

/// A node's pod.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) pod: String,
    pub(crate) pod_uid: String,
    pub(crate) ip: String,
    pub(crate) machine: String,
}

/// A group.
pub(crate) struct Group {
    pub(crate) shape: Shape,
    pub(crate) name: String,
    cluster: Cluster,
}

impl Group {
    /// Applies a group. The copies of each shard stand in two zones, the primaries of the shards in different ones.
    pub(crate) async fn make(cluster: &Cluster, shape: Shape) -> Result<Self> {
        Self::make_with(cluster, shape, false).await
    }

    /// The same, with or without volumes.
    pub(crate) async fn make_with(cluster: &Cluster, shape: Shape, volumes: bool) -> Result<Self> {
        let name = format!("bench-{}{}", shape.word(), if volumes { "-volumes" } else { "" });
        let mut spec = json!({
            "replicationGroupDescription": "measured", "engine": "redis", "engineVersion": "7.0",
            "cacheNodeType": "cache.t4g.micro", "automaticFailoverEnabled": true, "multiAZEnabled": true,
        });
        if shape == Shape::Disabled {
            spec["clusterMode"] = json!("disabled");
            spec["preferredCacheClusterAZs"] = json!([ZONES[0], ZONES[1]]);
            spec["numCacheClusters"] = json!(2);
        } else {
            let shards: Vec<Value> = (0..shape.shards())
                .map(|n| {
                    json!({ "primaryAvailabilityZone": ZONES[n % 3], "replicaAvailabilityZones": [ZONES[(n + 1) % 3]],
                        "replicaCount": 1 })
                })
                .collect();
            spec["clusterMode"] = json!("enabled");
            spec["numNodeGroups"] = json!(shape.shards());
            spec["replicasPerNodeGroup"] = json!(1);
            spec["nodeGroupConfiguration"] = json!(shards);
        }
        if volumes {
            spec["kubernetes"] = json!({ "storage": { "size": "256Mi" } });
        }
        let object = json!({ "apiVersion": format!("{}/{}", names::GROUP, names::VERSION), "kind": "ReplicationGroup",
            "metadata": { "name": name }, "spec": spec });
        let group = Self { shape, name, cluster: cluster.clone() };
        group.api().patch(&group.name, &PatchParams::apply("bench").force(), &Patch::Apply(object)).await?;
        Ok(group)
    }

    fn api(&self) -> Api<ReplicationGroup> {
        self.cluster.api()
    }

    /// Waits until every node is available and nothing is amiss but that engines have ended before.
    pub(crate) async fn settled(&self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let mut calm = 0;
        loop {
            let look = async {
                let status = self.api().get(&self.name).await?.status.unwrap_or_default();
                ensure!(status.status == Some(GroupStatus::Available), "not available");
                let ready = status.nodes_ready.unwrap_or_default();
                let (some, all) = ready.split_once('/').unwrap_or(("0", "?"));
                ensure!(some == all, "{ready}");
                let degraded = status.conditions.iter().find(|condition| condition.type_ == "Degraded");
                ensure!(
                    degraded.is_none_or(|found| found.status == "False" || found.reason == "CrashLooping"),
                    "{}",
                    degraded.map_or("", |found| &found.message)
                );
                for node in self.nodes().await? {
                    let info = ask(&node.ip, &["INFO", "replication"]).await?;
                    ensure!(
                        info.contains("role:master") || info.contains("master_link_status:up"),
                        "{} is not in sync",
                        node.name
                    );
                }
                Ok::<(), anyhow::Error>(())
            };
            match look.await {
                // The status may be the one from before for a moment.
                Ok(()) if calm >= 2 => return Ok(()),
                Ok(()) => calm += 1,
                Err(error) => {
                    calm = 0;
                    if Instant::now() > until {
                        return Err(error.context(format!("{} does not settle", self.name)));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The nodes of the first shard.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        let nodes = self.nodes_of(Some(SHARD)).await?;
        ensure!(nodes.len() == 2, "{} of 2 nodes of {} have an address", nodes.len(), self.name);
        Ok(nodes)
    }

    /// The nodes of all shards that have an address.
    pub(crate) async fn all_nodes(&self) -> Result<Vec<Node>> {
        self.nodes_of(None).await
    }

    async fn nodes_of(&self, shard: Option<&str>) -> Result<Vec<Node>> {
        let pods: Api<Pod> = self.cluster.api();
        let mut selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, self.name);
        if let Some(shard) = shard {
            selector = format!("{selector},{}={shard}", names::LABEL_NODE_GROUP);
        }
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        let nodes: Vec<Node> = list
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| {
                Some(Node {
                    name: pod.labels().get(names::LABEL_CACHE_NODE)?.clone(),
                    pod: pod.name_any(),
                    pod_uid: pod.uid()?,
                    ip: pod.status.as_ref()?.pod_ip.clone()?,
                    machine: pod.spec.as_ref()?.node_name.clone()?,
                })
            })
            .collect();
        Ok(nodes)
    }

    /// How many nodes all shards have.
    pub(crate) fn size(&self) -> usize {
        2 * self.shape.shards()
    }

    /// Starts the engine of one node again, as a person does, and waits until that is over.
    pub(crate) async fn reboot(&self, node: &str) -> Result<()> {
        let annotation = json!({ "metadata": { "annotations": { REBOOT: node } } });
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(annotation)).await?;
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let annotations = self.api().get(&self.name).await?.metadata.annotations.unwrap_or_default();
            if !annotations.contains_key(REBOOT) && !annotations.contains_key(UNDER_WAY) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "the reboot of {node} does not end");
        }
    }

    /// All pods at once, by force.
    pub(crate) async fn delete_pods(&self) -> Result<()> {
        let pods: Api<Pod> = self.cluster.api();
        let selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, self.name);
        let now = DeleteParams::default().grace_period(0);
        pods.delete_collection(&now, &ListParams::default().labels(&selector)).await?;
        Ok(())
    }

    /// The primary of the first shard, by the engines' words.
    pub(crate) async fn primary(&self) -> Result<Node> {
        for node in self.nodes().await? {
            if ask(&node.ip, &["INFO", "replication"]).await?.contains("role:master") {
                return Ok(node);
            }
        }
        bail!("{} has no primary", self.name)
    }

    pub(crate) async fn targets(&self) -> Result<Targets> {
        let nodes = self.nodes().await?.into_iter().map(|node| node.ip).collect();
        let clustered = self.shape != Shape::Disabled;
        let service = if clustered {
            None
        } else {
            let services: Api<Service> = self.cluster.api();
            services.get(&self.name).await?.spec.and_then(|spec| spec.cluster_ip)
        };
        // Slots are dealt out in order, so the first shard has the first ones.
        let last = 16_384 / self.shape.shards() - 1;
        let tag = tag_below(last)?;
        Ok(Targets {
            nodes,
            port: names::DEFAULT_PORT,
            cluster: clustered,
            service,
            tag,
            python: self.cluster.python.clone(),
        })
    }

    /// How many acknowledged keys are not there; and of those that a replica had acknowledged too. What is there is removed.
    pub(crate) async fn lost(&self, seen: &Observation) -> Result<(usize, usize)> {
        let primary = self.primary().await?;
        let mut connection = connect_patiently(&primary.ip).await?;
        let (mut lost, mut confirmed_lost) = (0, 0);
        for batch in seen.keys.chunks(500) {
            let mut pipe = redis::pipe();
            for (key, _) in batch {
                pipe.cmd("DEL").arg(key);
            }
            let found: Vec<i64> = pipe.query_async(&mut connection).await?;
            for ((_, confirmed), found) in batch.iter().zip(found) {
                if found == 0 {
                    lost += 1;
                    confirmed_lost += usize::from(*confirmed);
                }
            }
        }
        Ok((lost, confirmed_lost))
    }

    /// What the group told of its last failover.
    pub(crate) async fn last_failover(&self) -> Result<String> {
        let events: Api<Event> = self.cluster.api();
        let mut found: Vec<Event> = events
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .filter(|event| {
                event.involved_object.name.as_deref() == Some(&self.name)
                    && event.reason.as_deref() == Some("FailoverComplete")
            })
            .collect();
        found.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        found.pop().and_then(|event| event.message).context("no event FailoverComplete")
    }
}

fn tag_below(last: usize) -> Result<String> {
    (0..10_000)
        .map(|n| format!("b{n}"))
        .find(|tag| usize::from(slot(tag)) <= last)
        .context("no tag for these slots")
}

/// The hash slot of a tag.
pub(crate) fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

pub(crate) async fn connect(ip: &str) -> Result<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{ip}:{}/", names::DEFAULT_PORT))?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    client.get_multiplexed_async_connection_with_config(&config).await.with_context(|| ip.to_owned())
}

/// The same where nothing is measured any more: an engine that has just been through a fault may need a moment to accept.
pub(crate) async fn connect_patiently(ip: &str) -> Result<redis::aio::MultiplexedConnection> {
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        match connect(ip).await {
            Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(200)).await,
            done => return done,
        }
    }
}

/// One command whose answer is a text.
pub(crate) async fn ask(ip: &str, words: &[&str]) -> Result<String> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    let answer: redis::Value = command.query_async(&mut connect(ip).await?).await?;
    Ok(match answer {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        redis::Value::SimpleString(text) => text,
        redis::Value::VerbatimString { text, .. } => text,
        other => format!("{other:?}"),
    })
}

#[test]
fn the_slot_of_a_tag_is_what_the_engine_says() {
    assert_eq!(slot("hoge"), 1525);
    assert_eq!(slot("foo"), 12_182);
}
