//! What was written, and whether it is still there.

use super::engine::{Connection, Reply, slot};
use super::group::{Group, Node};
use super::tools::{eventually, seconds};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Keys that were acknowledged, with their values.
pub(crate) struct Keys<'g, 's> {
    group: &'g Group<'s>,
    written: BTreeMap<String, String>,
    replicas: usize,
}

/// A primary with its slots and a connection.
struct Owner {
    shard: String,
    node: Node,
    slots: Vec<(u16, u16)>,
    connection: Connection,
}

impl Owner {
    fn owns(&self, key: &str) -> bool {
        let slot = slot(key);
        self.slots.is_empty() || self.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
    }
}

const BATCH: usize = 200;

impl<'g, 's> Keys<'g, 's> {
    /// None yet. `replicas` is how many replicas must acknowledge every write.
    pub(crate) fn of(group: &'g Group<'s>, replicas: usize) -> Self {
        Self { group, written: BTreeMap::new(), replicas }
    }

    pub(crate) fn len(&self) -> usize {
        self.written.len()
    }

    async fn owners(&self) -> Result<Vec<Owner>> {
        let mut owners = Vec::new();
        for shard in self.group.shards().await? {
            let node = self.group.primary_of(&shard).await?;
            let slots = self.group.view(&node).await?.slots;
            let connection = self.group.connect(&node).await?.patience(seconds(12));
            owners.push(Owner { shard, node, slots, connection });
        }
        ensure!(!owners.is_empty(), "{} has no shards", self.group.name);
        Ok(owners)
    }

    /// Writes keys, all of them acknowledged, by the replicas too.
    pub(crate) async fn fill(&mut self, count: usize) -> Result<()> {
        self.fill_values(count, "").await
    }

    /// The same with values that take some room.
    pub(crate) async fn fill_values(&mut self, count: usize, filler: &str) -> Result<()> {
        let mut owners = self.owners().await?;
        let first = self.written.len();
        let fresh: Vec<(String, String)> =
            (first..first + count).map(|n| (format!("key:{n}"), format!("value:{n}:{filler}"))).collect();
        for owner in &mut owners {
            let mine: Vec<&(String, String)> = fresh.iter().filter(|(key, _)| owner.owns(key)).collect();
            for batch in mine.chunks(BATCH) {
                let commands: Vec<Vec<String>> =
                    batch.iter().map(|(key, value)| vec!["SET".into(), key.clone(), value.clone()]).collect();
                for ((key, value), reply) in batch.iter().zip(owner.connection.pipeline(&commands).await?) {
                    ensure!(reply == Reply::Text("OK".into()), "SET {key} at {}: {reply:?}", owner.node.name);
                    self.written.insert(key.clone(), value.clone());
                }
            }
            if self.replicas > 0 && !mine.is_empty() {
                let wanted = self.replicas.to_string();
                let reached = owner.connection.command(&["WAIT", &wanted, "10000"]).await?.number()?;
                ensure!(
                    reached >= i64::try_from(self.replicas)?,
                    "shard {}: only {reached} of {wanted} replicas acknowledged",
                    owner.shard
                );
            }
        }
        ensure!(
            self.written.len() == first + count,
            "{} of {count} keys found an owner",
            self.written.len() - first
        );
        Ok(())
    }

    /// The keys that are not there, or have another value.
    pub(crate) async fn missing(&self) -> Result<Vec<String>> {
        let mut owners = self.owners().await?;
        let mut missing = Vec::new();
        let mut looked_at = 0;
        for owner in &mut owners {
            let mine: Vec<(&String, &String)> =
                self.written.iter().filter(|(key, _)| owner.owns(key)).collect();
            for batch in mine.chunks(BATCH) {
                let commands: Vec<Vec<String>> =
                    batch.iter().map(|(key, _)| vec!["GET".into(), (*key).clone()]).collect();
                for ((key, value), reply) in batch.iter().zip(owner.connection.pipeline(&commands).await?) {
                    looked_at += 1;
                    match reply {
                        Reply::Text(found) if found == **value => {}
                        Reply::Nothing | Reply::Text(_) => missing.push((*key).clone()),
                        other => bail!("GET {key} at {}: {other:?}", owner.node.name),
                    }
                }
            }
        }
        ensure!(looked_at == self.written.len(), "{looked_at} of {} keys have an owner", self.written.len());
        Ok(missing)
    }

    /// Every acknowledged key must be there.
    pub(crate) async fn all_there(&self) -> Result<()> {
        let missing = eventually("every slot is served", seconds(60), async || self.missing().await).await?;
        ensure!(
            missing.is_empty(),
            "{} of {} acknowledged keys of {} are lost, the first is {}",
            missing.len(),
            self.written.len(),
            self.group.name,
            missing[0]
        );
        Ok(())
    }
}

/// A client that goes on writing to one shard whatever happens, and remembers what was acknowledged and when.
pub(crate) struct Writer {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<Written>,
}

/// What a writer has written.
#[derive(Default)]
pub(crate) struct Written {
    /// Acknowledged by the primary (and by a replica, where that was asked for).
    pub(crate) acknowledged: Vec<String>,
    /// The longest time between two acknowledged writes.
    pub(crate) longest_gap: Duration,
    /// Errors that a client without retries would have seen.
    pub(crate) errors: usize,
    /// The last of them.
    pub(crate) last_error: String,
}

/// A hash tag whose slot belongs to one of the ranges.
pub(crate) fn tag(ranges: &[(u16, u16)]) -> Result<String> {
    (0..100_000)
        .map(|n| format!("t{n}"))
        .find(|tag| {
            let slot = slot(tag);
            ranges.is_empty() || ranges.iter().any(|(from, to)| (*from..=*to).contains(&slot))
        })
        .context("no tag for these slots")
}

impl Writer {
    /// Starts writing. With `wait` every write waits for the acknowledgement of a replica.
    pub(crate) async fn start(group: &Group<'_>, shard: &str, wait: bool) -> Result<Self> {
        let primary = group.primary_of(shard).await?;
        let tag = tag(&group.view(&primary).await?.slots)?;
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let story_namespace = group.story.namespace.clone();
        let client = group.story.client.clone();
        let cluster = group.story.cluster.clone();
        ensure!(
            !cluster.needs_relay(),
            super::cluster::CannotDo("a steady writer needs a direct route to pods".into())
        );
        let (name, shard, port) = (group.name.clone(), shard.to_owned(), group.port);
        let task = tokio::spawn(async move {
            let mut written = Written::default();
            let mut connection: Option<Connection> = None;
            let mut next_ip = Some(primary.ip);
            let mut last = Instant::now();
            let mut round = 0usize;
            let mut count = 0u64;
            while !*stopped.borrow_and_update() {
                if connection.is_none() {
                    let ip = match next_ip.take() {
                        Some(ip) => Some(ip),
                        None => {
                            addresses(&client, &story_namespace, &name, &shard).await.ok().and_then(|all| {
                                round += 1;
                                (!all.is_empty()).then(|| all[round % all.len()].clone())
                            })
                        }
                    };
                    if let Some(ip) = ip {
                        connection = Connection::dial(&ip, port)
                            .await
                            .ok()
                            .map(|one| one.patience(Duration::from_millis(700)));
                    }
                }
                let Some(open) = &mut connection else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                count += 1;
                let key = format!("{{{tag}}}:{count}");
                let outcome = write(open, &key, wait).await;
                match outcome {
                    Ok(None) => {
                        written.longest_gap = written.longest_gap.max(last.elapsed());
                        last = Instant::now();
                        written.acknowledged.push(key);
                    }
                    Ok(Some(moved)) => {
                        next_ip = Some(moved);
                        connection = None;
                    }
                    Err(error) => {
                        written.errors += 1;
                        written.last_error = format!("{error:#}");
                        connection = None;
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            written.longest_gap = written.longest_gap.max(last.elapsed());
            written
        });
        Ok(Self { stop, task })
    }

    /// Stops, and checks that every acknowledged write is there.
    pub(crate) async fn stop(self, group: &Group<'_>, shard: &str) -> Result<Written> {
        self.stop.send(true)?;
        let written = self.task.await?;
        ensure!(!written.acknowledged.is_empty(), "the writer wrote nothing: {}", written.last_error);
        let missing = eventually("the writer's keys can be read", seconds(30), async || {
            let primary = group.primary_of(shard).await?;
            let mut connection = group.connect(&primary).await?.patience(seconds(10));
            let mut missing = Vec::new();
            for batch in written.acknowledged.chunks(BATCH) {
                let commands: Vec<Vec<String>> =
                    batch.iter().map(|key| vec!["GET".into(), key.clone()]).collect();
                for (key, reply) in batch.iter().zip(connection.pipeline(&commands).await?) {
                    match reply {
                        Reply::Text(value) if value == *key => {}
                        Reply::Nothing | Reply::Text(_) => missing.push(key.clone()),
                        other => bail!("GET {key}: {other:?}"),
                    }
                }
            }
            Ok(missing)
        })
        .await?;
        ensure!(
            missing.is_empty(),
            "{} of {} acknowledged writes are lost, the first is {}",
            missing.len(),
            written.acknowledged.len(),
            missing[0]
        );
        group.story.say(format!(
            "{} writes acknowledged, longest gap {} ms, {} errors{}",
            written.acknowledged.len(),
            written.longest_gap.as_millis(),
            written.errors,
            if written.errors > 0 { format!(" (the last: {})", written.last_error) } else { String::new() },
        ));
        Ok(written)
    }
}

async fn write(connection: &mut Connection, key: &str, wait: bool) -> Result<Option<String>> {
    let reply = connection.command(&["SET", key, key]).await?;
    if let Some(ip) = reply.moved_to() {
        return Ok(Some(ip.to_owned()));
    }
    ensure!(reply == Reply::Text("OK".into()), "{reply:?}");
    if wait {
        let reached = connection.command(&["WAIT", "1", "500"]).await?.number()?;
        ensure!(reached >= 1, "no replica acknowledged");
    }
    Ok(None)
}

async fn addresses(client: &kube::Client, namespace: &str, group: &str, shard: &str) -> Result<Vec<String>> {
    use kagami_api::names;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(client.clone(), namespace);
    let selector = format!("{}={group},{}={shard}", names::LABEL_REPLICATION_GROUP, names::LABEL_NODE_GROUP);
    let list = pods.list(&kube::api::ListParams::default().labels(&selector)).await?;
    Ok(list.items.into_iter().filter_map(|pod| pod.status?.pod_ip).collect())
}
