//! The engine alone: six bare pods, three primaries with a replica each, at the engine's defaults and without any operator.

use crate::faults::{Cluster, Fault};
use crate::groups::{ask, connect_patiently};
use crate::probe::{Probe, Targets};
use crate::results::Run;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;
use std::time::{Duration, Instant};

const IMAGE: &str = "docker.io/library/redis:7.0";
const PORT: u16 = 6379;
const LABEL: &str = "bench=bare";

pub(crate) struct Bare {
    cluster: Cluster,
}

struct Member {
    pod: String,
    ip: String,
    machine: String,
}

impl Bare {
    pub(crate) async fn make(cluster: &Cluster) -> Result<Self> {
        let bare = Self { cluster: cluster.clone() };
        Ok(bare)
    }

    /// The pods go away.
    pub(crate) async fn remove(&self) -> Result<()> {
        let pods: Api<Pod> = self.cluster.api();
        let now = DeleteParams::default().grace_period(0);
        pods.delete_collection(&now, &ListParams::default().labels(LABEL)).await?;
        Ok(())
    }

    async fn members(&self) -> Result<Vec<Member>> {
        let pods: Api<Pod> = self.cluster.api();
        let list = pods.list(&ListParams::default().labels(LABEL)).await?;
        let mut members: Vec<Member> = list
            .items
            .into_iter()
            .filter_map(|pod| {
                let status = pod.status.as_ref()?;
                (status.phase.as_deref() == Some("Running")).then_some(())?;
                Some(Member {
                    pod: pod.name_any(),
                    ip: status.pod_ip.clone()?,
                    machine: pod.spec.as_ref()?.node_name.clone()?,
                })
            })
            .collect();
        members.sort_by(|a, b| a.pod.cmp(&b.pod));
        Ok(members)
    }

    /// Six fresh engines that nobody restarts, for each run: the first three are primaries, the others follow them.
    async fn form(&self) -> Result<Vec<Member>> {
        let pods: Api<Pod> = self.cluster.api();
        let now = DeleteParams::default().grace_period(0);
        pods.delete_collection(&now, &ListParams::default().labels(LABEL)).await?;
        let until = Instant::now() + Duration::from_secs(60);
        while !pods.list(&ListParams::default().labels(LABEL)).await?.items.is_empty() {
            ensure!(Instant::now() < until, "the bare pods do not go away");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        for n in 0..6 {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": format!("bare-{n}"), "labels": { "bench": "bare" } },
                "spec": {
                    "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "enableServiceLinks": false,
                    "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "bench": "bare" } } }],
                    "containers": [{ "name": "engine", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                        "command": ["redis-server", "--dir", "/data", "--cluster-enabled", "yes", "--protected-mode", "no", "--save", "",
                            "--repl-diskless-sync-delay", "0"],
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }],
                    "volumes": [{ "name": "data", "emptyDir": {} }],
                }
            }))?;
            pods.create(&PostParams::default(), &pod).await?;
        }
        let members = loop {
            let members = self.members().await?;
            if members.len() == 6 {
                break members;
            }
            ensure!(Instant::now() < until + Duration::from_secs(60), "the bare pods do not start");
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        let mut ids = Vec::new();
        for member in &members {
            let until = Instant::now() + Duration::from_secs(20);
            while ask(&member.ip, &["PING"]).await.is_err() {
                ensure!(Instant::now() < until, "{} does not answer", member.pod);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            ids.push(ask(&member.ip, &["CLUSTER", "MYID"]).await?);
        }
        for (n, member) in members.iter().enumerate() {
            for peer in &members {
                ask(&member.ip, &["CLUSTER", "MEET", &peer.ip, &PORT.to_string()]).await?;
            }
            if n < 3 {
                let (from, to) = (16_384 * n / 3, 16_384 * (n + 1) / 3 - 1);
                ask(&member.ip, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await?;
            }
        }
        for n in 3..6 {
            let until = Instant::now() + Duration::from_secs(20);
            while ask(&members[n].ip, &["CLUSTER", "REPLICATE", &ids[n - 3]]).await.is_err() {
                ensure!(Instant::now() < until, "{} does not follow", members[n].pod);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut well = true;
            for (n, member) in members.iter().enumerate() {
                let state = ask(&member.ip, &["CLUSTER", "INFO"]).await?;
                let known = state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:6");
                let linked = n < 3
                    || ask(&member.ip, &["INFO", "replication"]).await?.contains("master_link_status:up");
                well &= known && linked;
            }
            if well {
                break;
            }
            ensure!(Instant::now() < until, "the bare engines do not form a cluster");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        // Gossip has told everybody of everybody's replicas by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(members)
    }

    /// The first primary dies, and stays dead.
    pub(crate) async fn election(&self) -> Result<Run> {
        let members = self.form().await?;
        let [old, .., replica] = [&members[0], &members[3]];
        let machine = self.cluster.machine_but(&[&old.machine]).await?;
        let tag = "b0".to_owned();
        let slot = ask(&old.ip, &["CLUSTER", "KEYSLOT", &tag]).await?;
        let owner: usize = slot.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>()? * 3 / 16_384;
        let (old, replica) = if owner == 0 { (old, replica) } else { (&members[owner], &members[owner + 3]) };
        let nodes = vec![old.ip.clone(), replica.ip.clone()];
        let python = self.cluster.python.clone();
        let targets = Targets { nodes, port: PORT, cluster: true, service: None, tag, python };
        let probe = Probe::start(&machine, targets)?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let at = Instant::now();
        self.cluster
            .verb(&["kill-process", &self.cluster.namespace, &old.pod, "engine", "redis-server", "KILL"])
            .await?;
        let went_on = probe.goes_on(at, &old.ip, Duration::from_secs(120)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let seen = probe.stop(at)?;
        went_on.context("the engines did not elect")?;
        let mut connection = connect_patiently(&replica.ip).await?;
        let mut lost = (0, 0);
        for (key, confirmed) in &seen.keys {
            let found: i64 = redis::cmd("EXISTS").arg(key).query_async(&mut connection).await?;
            if found == 0 {
                lost.0 += 1;
                lost.1 += usize::from(*confirmed);
            }
        }
        let run = Run::of("engine alone", Fault::Election.word(), &seen, lost, String::new());
        println!("{run}");
        Ok(run)
    }
}
