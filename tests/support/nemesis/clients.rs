//! Clients that write and read whatever happens: bare connections, which hide nothing, and redis-rs, as users have it.

use super::history::{Ledger, Write, value};
use crate::support::engine::{Connection, Reply};
use crate::support::group::Group;
use crate::support::keys::tag;
use crate::support::tools::seconds;
use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kagami_api::names;
use kube::api::{Api, ListParams};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a client does something.
const EVERY: Duration = Duration::from_millis(10);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_millis(700);
/// How long a replica's acknowledgement is waited for, in milliseconds.
const CONFIRMED_WITHIN_MS: &str = "300";
/// A cluster client that has had no answer for this long is made anew, as a service is that starts again.
const GIVE_UP: Duration = seconds(5);
/// After so many turns a bare reader looks at another node.
const NEXT_NODE: usize = 50;

/// All clients, and what they have seen.
pub(super) struct Clients {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// With the index of its group.
    ledgers: Vec<(usize, Arc<Ledger>)>,
}

impl Clients {
    /// A bare writer and reader for each shard, and a writer and a reader with the library for each group.
    pub(super) async fn start(groups: &[&Group<'_>]) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut clients = Self { stop, tasks: Vec::new(), ledgers: Vec::new() };
        for (at, group) in groups.iter().enumerate() {
            let place = Place {
                client: group.story.client.clone(),
                namespace: group.story.namespace.clone(),
                group: group.name.clone(),
                port: group.port,
                clustered: group.clustered().await?,
            };
            let mut ledgers = Vec::new();
            for shard in group.shards().await? {
                let slots = group.view(&group.primary_of(&shard).await?).await?.slots;
                ledgers.push(Arc::new(Ledger::new(&group.name, &shard, tag(&slots)?)));
            }
            let alone = ledgers.iter().map(|ledger| (vec![ledger.clone()], false));
            for (ledgers, library) in alone.chain([(ledgers.clone(), true)]) {
                for reads in [false, true] {
                    let client = Client { place: place.clone(), ledgers: ledgers.clone(), library, reads };
                    clients.tasks.push(tokio::spawn(client.run(stopped.clone())));
                }
            }
            clients.ledgers.extend(ledgers.into_iter().map(|ledger| (at, ledger)));
        }
        Ok(clients)
    }

    /// Stops them, and gives what they have seen.
    pub(super) async fn stop(self) -> Result<Vec<(usize, Arc<Ledger>)>> {
        self.stop.send(true)?;
        try_join_all(self.tasks).await?;
        Ok(self.ledgers)
    }
}

/// Where a client finds its group. These run outside of the cluster and ask Kubernetes for what pods would ask DNS for.
#[derive(Clone)]
struct Place {
    client: kube::Client,
    namespace: String,
    group: String,
    port: u16,
    clustered: bool,
}

impl Place {
    /// The addresses of the nodes, of one shard or of all.
    async fn nodes(&self, shard: Option<&str>) -> Result<Vec<String>> {
        let mut selector = format!("{}={}", names::LABEL_REPLICATION_GROUP, self.group);
        if let Some(shard) = shard {
            selector.push_str(&format!(",{}={shard}", names::LABEL_NODE_GROUP));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        Ok(list.items.into_iter().filter_map(|pod| pod.status?.pod_ip).collect())
    }

    /// Where the primary endpoint leads.
    async fn primary(&self) -> Result<String> {
        let service = names::endpoint_service(&self.group);
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!("kubernetes.io/service-name={service}");
        let list = slices.list(&ListParams::default().labels(&selector)).await?;
        let mut addresses =
            list.items.into_iter().flat_map(|slice| slice.endpoints).flat_map(|end| end.addresses);
        addresses.next().context("the primary endpoint leads nowhere")
    }

    fn url(&self, ip: &str) -> String {
        format!("redis://{ip}:{}/", self.port)
    }
}

/// One client: a bare one is of one shard, one with the library of all.
struct Client {
    place: Place,
    ledgers: Vec<Arc<Ledger>>,
    library: bool,
    reads: bool,
}

impl Client {
    async fn run(self, stopped: watch::Receiver<bool>) {
        let mut open: Option<Open> = None;
        let mut answered = Instant::now();
        let mut turn = 0;
        while !*stopped.borrow() {
            turn += 1;
            let ledger = &self.ledgers[turn % self.ledgers.len()];
            if open.is_none() {
                open = self.open(ledger, turn).await.ok();
                answered = Instant::now();
            }
            let Some(connection) = &mut open else {
                tokio::time::sleep(EVERY * 5).await;
                continue;
            };
            // Of this shard.
            let round = turn / self.ledgers.len();
            let outcome = async {
                if self.reads {
                    read(connection, ledger, round).await
                } else {
                    self.write(connection, ledger, round).await
                }
            };
            // Whatever a library does inside, its user has a deadline.
            match tokio::time::timeout(GIVE_UP, outcome).await {
                Ok(Ok(())) => answered = Instant::now(),
                Ok(Err(_)) | Err(_) => ledger.failed(),
            }
            let lost = answered.elapsed() > connection.patience();
            let moves_on = self.reads && !self.library && turn.is_multiple_of(NEXT_NODE);
            if lost || moves_on {
                open = None;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn open(&self, ledger: &Ledger, turn: usize) -> Result<Open> {
        if !self.library {
            let nodes = self.place.nodes(Some(&ledger.shard)).await?;
            ensure!(!nodes.is_empty(), "no node has an address");
            let mut connection =
                Connection::dial(&nodes[turn % nodes.len()], self.place.port).await?.patience(ANSWER);
            if self.reads && self.place.clustered {
                connection.command(&["READONLY"]).await?;
            }
            return Ok(Open::Bare(Box::new(connection)));
        }
        if self.place.clustered {
            let seeds: Vec<String> =
                self.place.nodes(None).await?.iter().map(|ip| self.place.url(ip)).collect();
            let client = ClusterClientBuilder::new(seeds)
                .connection_timeout(ANSWER)
                .response_timeout(ANSWER)
                .min_retry_wait(1)
                .max_retry_wait(20)
                .build()?;
            return Ok(Open::Cluster(tokio::time::timeout(GIVE_UP, client.get_async_connection()).await??));
        }
        let client = redis::Client::open(self.place.url(&self.place.primary().await?))?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        Ok(Open::Endpoint(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    async fn write(&self, connection: &mut Open, ledger: &Ledger, round: usize) -> Result<()> {
        let key = format!("{{{}}}:{}{round}", ledger.tag, if self.library { 'l' } else { 'b' });
        // Some writes wait for nobody, as most of a service's do.
        let confirm = !round.is_multiple_of(4);
        let at = Instant::now();
        let confirmed = connection.write(&key, confirm).await?;
        ledger.wrote(Write { key, at, confirmed });
        Ok(())
    }
}

async fn read(connection: &mut Open, ledger: &Ledger, round: usize) -> Result<()> {
    let Some(write) = ledger.pick(round) else { return Ok(()) };
    let (found, by_primary) = connection.read(&write.key).await?;
    ledger.read(&write, found.as_deref(), by_primary);
    Ok(())
}

/// A connection of one of the three kinds.
enum Open {
    /// To one node: no retries, no redirects.
    Bare(Box<Connection>),
    /// redis-rs with a whole cluster.
    Cluster(ClusterConnection),
    /// redis-rs with the primary endpoint.
    Endpoint(MultiplexedConnection),
}

impl Open {
    /// How long it may fail before it is given up: what has a library of its own to heal it is not given up at once.
    fn patience(&self) -> Duration {
        if matches!(self, Self::Cluster(_)) { GIVE_UP } else { Duration::ZERO }
    }

    /// Writes a key; whether a replica acknowledged it too, where that is asked for.
    async fn write(&mut self, key: &str, confirm: bool) -> Result<bool> {
        let value = value(key);
        if let Self::Bare(connection) = self {
            let mut commands = vec![words(&["SET", key, &value])];
            if confirm {
                commands.push(words(&["WAIT", "1", CONFIRMED_WITHIN_MS]));
            }
            let mut replies = connection.pipeline(&commands).await?.into_iter();
            let set = replies.next().context("no answer")?;
            ensure!(set == Reply::Text("OK".into()), "{set:?}");
            return Ok(replies.next().map(Reply::number).transpose()?.is_some_and(|count| count >= 1));
        }
        // In one pipeline, so that the same connection that wrote waits.
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(key).arg(&value).ignore();
        if confirm {
            pipe.cmd("WAIT").arg(1).arg(CONFIRMED_WITHIN_MS);
        }
        let replicas: Vec<i64> = self.ask(&pipe).await?;
        Ok(replicas.first().is_some_and(|count| *count >= 1))
    }

    /// Reads a key; and whether who answered is a primary.
    async fn read(&mut self, key: &str) -> Result<(Option<String>, bool)> {
        if let Self::Cluster(connection) = self {
            // It asks the primary and nobody else.
            let found = redis::cmd("GET").arg(key).query_async(connection).await?;
            return Ok((found, true));
        }
        let (about, found) = if let Self::Bare(connection) = self {
            let commands =
                [words(&["MULTI"]), words(&["INFO", "replication"]), words(&["GET", key]), words(&["EXEC"])];
            let Some(Reply::List(mut replies)) = connection.pipeline(&commands).await?.pop() else {
                bail!("the transaction was refused")
            };
            ensure!(replies.len() == 2, "{replies:?}");
            let found = match replies.pop() {
                Some(Reply::Text(found)) => Some(found),
                Some(Reply::Nothing) => None,
                other => bail!("{other:?}"),
            };
            (replies.pop().context("no answer")?.text()?, found)
        } else {
            let mut pipe = redis::pipe();
            pipe.atomic().cmd("INFO").arg("replication").cmd("GET").arg(key);
            self.ask::<(String, Option<String>)>(&pipe).await?
        };
        Ok((found, about.contains("role:master")))
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, pipe: &redis::Pipeline) -> Result<T> {
        match self {
            Self::Cluster(connection) => Ok(pipe.query_async(connection).await?),
            Self::Endpoint(connection) => Ok(pipe.query_async(connection).await?),
            Self::Bare(_) => bail!("a bare connection has no library"),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
