//! How long writes pause at a failover: `make bench-quick`, `make bench-full`.
//!
//! Writes are attempted every millisecond from inside the cluster's network, through a client library and, apart from it,
//! straight to each node of the shard. What is measured is the longest time between two acknowledged writes. Every run is
//! one line of a file, so that a run that was interrupted goes on where it stopped.

mod addresses;
mod bare;
mod faults;
mod groups;
mod probe;
mod results;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use faults::{Cluster, Fault};
use groups::{Group, Shape};
use probe::Probe;
use results::{Results, Run};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a run waits for writes to go on.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long writes go on before the fault, and after it.
const AROUND: Duration = Duration::from_millis(500);

#[derive(Parser)]
#[command(
    args_override_self = true,
    about = "Measures how long writes pause at a failover, on the local cluster with the operator deployed."
)]
struct Args {
    /// Runs of each cell, unless RUNS_MANY says otherwise.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Runs of process death and handover at 1x2 and 3x2.
    #[arg(long)]
    runs_many: Option<usize>,
    /// Runs of the engine's own elections.
    #[arg(long, default_value_t = 2)]
    elections: usize,
    /// Shapes: 1x2, 2x2, 3x2, disabled.
    #[arg(long, value_delimiter = ',', default_value = "1x2,2x2,3x2,disabled")]
    shapes: Vec<Shape>,
    /// Faults: kill, delete, handover, silent, election, roll, addresses.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "kill,delete,handover,silent,roll,addresses,election"
    )]
    faults: Vec<Fault>,
    /// The file to which every run is appended; runs of this version that are there already are not made again.
    #[arg(long)]
    out: PathBuf,
    /// What is measured, such as a commit.
    #[arg(long, default_value = "unknown")]
    version: String,
    /// Only prints what the file holds.
    #[arg(long)]
    summary: bool,
    /// Begins no new run after this many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// An interpreter of Python that has redis-py, to measure that library too.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The namespace of the groups.
    #[arg(long, default_value = "bench-failover")]
    namespace: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let results = Results::open(&args.out, &args.version)?;
    if args.summary {
        print!("{}", results.table());
        return Ok(());
    }
    println!("{}", results::machine());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::here(&args.namespace, args.python.clone()).await?;
    let mut bench = Bench { args, cluster, results, began: Instant::now() };
    let outcome = bench.all().await;
    print!("{}", bench.results.table());
    let cleared = bench.cluster.end().await;
    outcome.and(cleared)
}

struct Bench {
    args: Args,
    cluster: Cluster,
    results: Results,
    began: Instant,
}

impl Bench {
    /// In rounds, so that where it is stopped every cell has been measured about as often.
    async fn all(&mut self) -> Result<()> {
        if self.elections_left("engine alone") {
            let bare = bare::Bare::make(&self.cluster).await?;
            while self.elections_left("engine alone") {
                let run = bare.election().await?;
                println!("[{:>5.0} s] {run}", self.began.elapsed().as_secs_f64());
                self.results.add(run)?;
            }
            bare.remove().await?;
        }
        let mut groups = Vec::new();
        for shape in self.args.shapes.clone() {
            groups.push(Group::make(&self.cluster, shape).await?);
        }
        let mut stored = Vec::new();
        for shape in [Shape::One, Shape::Three] {
            if self.args.shapes.contains(&shape) && self.wanted(Fault::Addresses, shape) {
                stored.push(Group::make_with(&self.cluster, shape, true).await?);
            }
        }
        for group in groups.iter().chain(&stored) {
            group.settled(Duration::from_secs(120)).await?;
        }
        let most = self.args.runs_many.unwrap_or(0).max(self.args.runs).max(self.args.elections);
        for round in 1..=most {
            for fault in [Fault::Kill, Fault::Delete, Fault::Handover] {
                for group in &groups {
                    if self.due(round, fault, group.shape) {
                        self.one(fault, group).await?;
                    }
                }
            }
            if groups.iter().any(|group| self.due(round, Fault::Silent, group.shape)) {
                self.silent(&groups).await?;
            }
            for group in &groups {
                if self.due(round, Fault::Roll, group.shape) {
                    self.roll(group).await?;
                }
            }
            for group in &stored {
                if self.due(round, Fault::Addresses, group.shape) {
                    self.addresses(group).await?;
                }
            }
            for group in groups.iter().filter(|group| group.shape == Shape::Three) {
                let shape = "3x2, operator away";
                if self.elections_left(shape) && self.results.count(shape, Fault::Election.word()) < round {
                    self.away(group).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a cell has its turn in a round.
    fn due(&self, round: usize, fault: Fault, shape: Shape) -> bool {
        self.wanted(fault, shape) && self.results.count(shape.word(), fault.word()) < round
    }

    async fn addresses(&mut self, group: &Group) -> Result<()> {
        group.settled(Duration::from_secs(120)).await?;
        let took = addresses::all_at_once(group).await?;
        let run = Run::timed(group.shape.word(), Fault::Addresses.word(), took);
        println!("[{:>5.0} s] {run}", self.began.elapsed().as_secs_f64());
        self.results.add(run)
    }

    fn in_time(&self) -> bool {
        self.args.minutes.is_none_or(|minutes| self.began.elapsed() < Duration::from_secs(60 * minutes))
    }

    fn wanted(&self, fault: Fault, shape: Shape) -> bool {
        let many =
            matches!(fault, Fault::Kill | Fault::Handover) && matches!(shape, Shape::One | Shape::Three);
        let runs = if many { self.args.runs_many.unwrap_or(self.args.runs) } else { self.args.runs };
        self.in_time()
            && self.args.faults.contains(&fault)
            && self.results.count(shape.word(), fault.word()) < runs
    }

    fn elections_left(&self, shape: &str) -> bool {
        self.in_time()
            && self.args.faults.contains(&Fault::Election)
            && self.results.count(shape, Fault::Election.word()) < self.args.elections
    }

    /// One fault to the primary of the first shard.
    async fn one(&mut self, fault: Fault, group: &Group) -> Result<()> {
        group.settled(Duration::from_secs(120)).await?;
        let primary = group.primary().await?;
        let machine = self.cluster.machine_but(&[&primary.machine]).await?;
        let probe = Probe::start(&machine, group.targets().await?)?;
        tokio::time::sleep(AROUND).await;
        let at = Instant::now();
        self.cluster.strike(fault, &primary).await?;
        let run = self.measure(fault, group, probe, at, &primary.ip).await?;
        self.results.add(run)
    }

    /// Every engine of a group is started again, one after the other, the replicas of the shards first.
    async fn roll(&mut self, group: &Group) -> Result<()> {
        group.settled(Duration::from_secs(120)).await?;
        let primary = group.primary().await?;
        let machine = self.cluster.machine_but(&[&primary.machine]).await?;
        let mut nodes: Vec<String> = group.all_nodes().await?.into_iter().map(|node| node.name).collect();
        nodes.sort_by_key(|node| *node == primary.name);
        let probe = Probe::start(&machine, group.targets().await?)?;
        tokio::time::sleep(AROUND).await;
        let at = Instant::now();
        for node in &nodes {
            group.settled(Duration::from_secs(120)).await?;
            group.reboot(node).await?;
        }
        let run = self.measure(Fault::Roll, group, probe, at, &primary.ip).await?;
        self.results.add(run)
    }

    /// A machine falls silent on which the first shards of all groups have their primaries.
    async fn silent(&mut self, groups: &[Group]) -> Result<()> {
        let groups: Vec<&Group> =
            groups.iter().filter(|group| self.wanted(Fault::Silent, group.shape)).collect();
        for group in &groups {
            group.settled(Duration::from_secs(120)).await?;
        }
        let first = groups.first().context("no group")?;
        let victim = first.primary().await?.machine;
        // All on one machine: who is elsewhere hands over once.
        for group in &groups {
            let primary = group.primary().await?;
            if primary.machine != victim {
                self.cluster.strike(Fault::Handover, &primary).await?;
                group.settled(Duration::from_secs(120)).await?;
                let now = group.primary().await?.machine;
                ensure!(now == victim, "the primary of {} is on {now}, not on {victim}", group.name);
            }
        }
        self.cluster.leader_elsewhere(&victim).await?;
        let machine = self.cluster.machine_but(&[&victim]).await?;
        let mut probes = Vec::new();
        for group in &groups {
            let old = group.primary().await?.ip;
            probes.push((Probe::start(&machine, group.targets().await?)?, old));
        }
        tokio::time::sleep(AROUND).await;
        let at = Instant::now();
        self.cluster.silence(&victim).await?;
        let waits = probes.iter().map(|(probe, old)| probe.goes_on(at, old, PATIENCE));
        let went_on = futures::future::join_all(waits).await;
        tokio::time::sleep(AROUND).await;
        self.cluster.give_back(&victim).await?;
        for ((group, (probe, old)), went_on) in groups.iter().zip(probes).zip(went_on) {
            went_on.with_context(|| group.name.clone())?;
            let run = self.measure(Fault::Silent, group, probe, at, &old).await?;
            self.results.add(run)?;
        }
        Ok(())
    }

    /// The primary of three shards dies while the operator is frozen: the engines elect by themselves.
    async fn away(&mut self, group: &Group) -> Result<()> {
        group.settled(Duration::from_secs(120)).await?;
        let primary = group.primary().await?;
        let machine = self.cluster.machine_but(&[&primary.machine]).await?;
        let probe = Probe::start(&machine, group.targets().await?)?;
        tokio::time::sleep(AROUND).await;
        let frozen = self.cluster.freeze_operator().await?;
        let at = Instant::now();
        let struck = self.cluster.strike(Fault::Kill, &primary).await;
        let went_on = probe.goes_on(at, &primary.ip, PATIENCE).await;
        self.cluster.wake_operator(&frozen).await?;
        struck?;
        went_on?;
        let run = self.measure(Fault::Kill, group, probe, at, &primary.ip).await?;
        self.results.add(Run {
            shape: "3x2, operator away".into(),
            fault: Fault::Election.word().into(),
            ..run
        })
    }

    async fn measure(
        &self,
        fault: Fault,
        group: &Group,
        probe: Probe,
        at: Instant,
        old: &str,
    ) -> Result<Run> {
        let went_on = probe.goes_on(at, old, PATIENCE).await;
        tokio::time::sleep(AROUND).await;
        let seen = probe.stop(at)?;
        if let Err(error) = went_on {
            bail!("{} after {}: {error:#}; {seen:?}", group.name, fault.word());
        }
        group.settled(Duration::from_secs(180)).await?;
        let lost = group.lost(&seen).await?;
        let told = group.last_failover().await.unwrap_or_default();
        let run = Run::of(group.shape.word(), fault.word(), &seen, lost, told);
        println!("[{:>5.0} s] {run}", self.began.elapsed().as_secs_f64());
        Ok(run)
    }
}
