//! What is done to the groups, several things at a time. All of it is drawn from the story's seed.

use super::{HEALED_WITHIN, Length, draw};
use crate::support::group::{ENGINE_PROCESS, Group, Node};
use crate::support::story::{Story, zones};
use crate::support::tools::{eventually, seconds};
use crate::support::{cluster, operator};
use anyhow::{Context, Result, ensure};
use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kagami_api::names;
use kube::api::DeleteParams;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How many faults there may be at a time.
const AT_ONCE: usize = 3;
/// How long it is tried to begin a fault or to end it: the apiserver may be away.
const DONE_WITHIN: Duration = seconds(120);
/// A write that was acknowledged this long before a fault may not have reached a replica.
const ON_ITS_WAY: Duration = seconds(1);
const DRAINED_WITHIN: Duration = seconds(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL to an engine.
    Kill,
    /// SIGKILL to an agent, the container's first process.
    KillAgent,
    /// SIGSTOP to an engine, and SIGCONT.
    StopEngine,
    /// SIGSTOP to an agent, and SIGCONT.
    StopAgent,
    /// A pod is deleted by force.
    DeleteForced,
    /// A pod is deleted in order.
    Delete,
    /// All pods of a group that has volumes are deleted: every address changes at once.
    DeleteAll,
    /// A machine takes no more pods for a while.
    Cordon,
    /// A machine is drained, and taken back.
    Drain,
    /// A machine is off the network.
    Silence,
    /// Everything on a machine is gone at once; it boots again.
    Crash,
    /// Every operator process dies.
    KillOperator,
    /// SIGSTOP to every operator process, and SIGCONT.
    StopOperator,
    /// The apiserver dies and comes back.
    RestartApiserver,
}

impl Fault {
    const ALL: [Self; 14] = [
        Self::Kill,
        Self::KillAgent,
        Self::StopEngine,
        Self::StopAgent,
        Self::DeleteForced,
        Self::Delete,
        Self::DeleteAll,
        Self::Cordon,
        Self::Drain,
        Self::Silence,
        Self::Crash,
        Self::KillOperator,
        Self::StopOperator,
        Self::RestartApiserver,
    ];

    fn of_machine(self) -> bool {
        matches!(self, Self::Cordon | Self::Drain | Self::Silence | Self::Crash)
    }

    fn of_control(self) -> bool {
        matches!(self, Self::KillOperator | Self::StopOperator | Self::RestartApiserver)
    }

    fn of_node(self) -> bool {
        !self.of_machine() && !self.of_control() && self != Self::DeleteAll
    }

    /// The role is handed over before the engine goes, so that no acknowledged write is lost.
    fn planned(self) -> bool {
        matches!(self, Self::Cordon | Self::Drain | Self::Delete)
    }

    /// The operator may not be there to see to a handover.
    fn without_operator(self) -> bool {
        self.of_control() || matches!(self, Self::Silence | Self::Crash)
    }
}

/// What was done, to whom, and for how long.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) fault: Fault,
    /// Names as in [`super::history::Ledger`].
    shards: Vec<String>,
    from: Instant,
    until: Instant,
    /// From the end of the fault until its shards were whole.
    pub(super) healed: Duration,
}

/// Whether a write of a shard that no replica had confirmed may be lost (docs/guarantees.md): its primary died or fell
/// silent about then, or its handover had nobody to see to it.
pub(super) fn excuse(hits: &[Hit], shard: &str, at: Instant) -> bool {
    let mine = hits.iter().filter(|hit| hit.shards.iter().any(|name| name == shard));
    mine.filter(|hit| at + ON_ITS_WAY >= hit.from && at <= hit.until).any(|hit| {
        let alone = |other: &Hit| {
            other.fault.without_operator() && other.from <= hit.until && hit.from <= other.until
        };
        !hit.fault.planned() || hits.iter().any(alone)
    })
}

/// A fault as it is drawn: the same seed draws the same ones, whatever has become of the groups meanwhile.
struct Draw {
    fault: Fault,
    shard: usize,
    /// Mostly a primary, because that is where it hurts.
    replica: bool,
    machine: usize,
    hold: Duration,
    /// How long after the one before.
    gap: Duration,
    /// Whether everything is whole before it.
    rested: bool,
}

impl Draw {
    fn next(story: &Story, length: Length) -> Result<Self> {
        let longest_ms = if length == Length::Short { 3_000 } else { 25_000 };
        let fault = loop {
            let fault = Fault::ALL[draw(story, Fault::ALL.len())?];
            // Some take a minute to heal; what deletes all pods has a story of its own beside the short run.
            let long = matches!(fault, Fault::Crash | Fault::Drain | Fault::Silence | Fault::DeleteAll);
            if length == Length::Long || !long {
                break fault;
            }
        };
        Ok(Self {
            fault,
            shard: draw(story, 5_040)?,
            replica: story.chance(4) == 0,
            machine: draw(story, 5_040)?,
            hold: Duration::from_millis(500 + story.chance(longest_ms)),
            gap: Duration::from_millis(story.chance(2_000)),
            rested: story.chance(4) == 0,
        })
    }
}

/// Draws faults until the time is over, and gives what was done. What has begun is ended, whatever goes wrong.
pub(super) async fn strike<'f>(
    story: &'f Story,
    groups: &[&'f Group<'f>],
    time: Duration,
    length: Length,
) -> Result<Vec<Hit>> {
    let machines = zones(story).await?;
    let field = Field {
        story,
        shards: shards_of(groups, &machines).await?,
        machines: machines.into_iter().collect(),
        turn: tokio::sync::Mutex::default(),
        control: tokio::sync::Mutex::default(),
        taken: RefCell::default(),
        hits: RefCell::default(),
    };
    let began = Instant::now();
    let mut going = FuturesUnordered::new();
    let mut outcome = Ok(());
    while outcome.is_ok() && began.elapsed() < time {
        let draw = Draw::next(story, length)?;
        let beside = if draw.rested { 0 } else { AT_ONCE - 1 };
        while going.len() > beside && outcome.is_ok() {
            outcome = going.next().await.unwrap_or(Ok(()));
        }
        let gap = tokio::time::sleep(draw.gap);
        tokio::pin!(gap);
        loop {
            tokio::select! {
                () = &mut gap => break,
                Some(ended) = going.next(), if !going.is_empty() => outcome = outcome.and(ended),
            }
        }
        if outcome.is_ok() && began.elapsed() < time {
            going.push(field.one(draw));
        }
    }
    while let Some(ended) = going.next().await {
        outcome = outcome.and(ended);
    }
    drop(going);
    outcome.map(|()| field.hits.into_inner())
}

/// Where faults strike. A shard is struck by one at a time, so that no copy that has the writes dies before another one has
/// them too: what may be lost then is no news.
struct Field<'f> {
    story: &'f Story,
    shards: Vec<Shard<'f>>,
    /// With their zones.
    machines: Vec<(String, String)>,
    /// Whoever waits for shards is served first, so that the faults that need many get them.
    turn: tokio::sync::Mutex<()>,
    control: tokio::sync::Mutex<()>,
    taken: RefCell<BTreeSet<String>>,
    hits: RefCell<Vec<Hit>>,
}

/// A shard of one of the groups.
struct Shard<'f> {
    group: &'f Group<'f>,
    id: String,
    /// How many nodes it has.
    nodes: usize,
    /// Where its nodes stand; they are not moved to others.
    zones: BTreeSet<String>,
    /// Whether it keeps its data on volumes.
    stored: bool,
}

async fn shards_of<'f>(
    groups: &[&'f Group<'f>],
    machines: &BTreeMap<String, String>,
) -> Result<Vec<Shard<'f>>> {
    let mut shards = Vec::new();
    for &group in groups {
        let stored = group.get().await?.spec.kubernetes.is_some_and(|ours| ours.storage.is_some());
        for id in group.shards().await? {
            let nodes = group.shard(&id).await?;
            let zones = nodes.iter().filter_map(|node| machines.get(&node.machine).cloned()).collect();
            shards.push(Shard { group, id, nodes: nodes.len(), zones, stored });
        }
    }
    Ok(shards)
}

impl Shard<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.group.name, self.id)
    }
}

impl<'f> Field<'f> {
    async fn one(&self, draw: Draw) -> Result<()> {
        let fault = draw.fault;
        let shards = self.hit_by(&draw);
        // One of them at a time is enough for the operator, and they wait for no shard.
        let _alone = if fault.of_control() { Some(self.control.lock().await) } else { None };
        let taken: Vec<String> = shards.iter().map(|shard| shard.name()).collect();
        if !taken.is_empty() {
            self.take(&taken).await;
        }
        let outcome = self.inflict(&draw, &shards).await.with_context(|| format!("{fault:?}"));
        self.taken.borrow_mut().retain(|name| !taken.contains(name));
        outcome
    }

    async fn take(&self, names: &[String]) {
        let _turn = self.turn.lock().await;
        while names.iter().any(|name| self.taken.borrow().contains(name)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.taken.borrow_mut().extend(names.iter().cloned());
    }

    fn machine(&self, draw: &Draw) -> &str {
        &self.machines[draw.machine % self.machines.len()].0
    }

    /// The shards that lose a node to it, for a while or for good.
    fn hit_by(&self, draw: &Draw) -> Vec<&Shard<'f>> {
        let fault = draw.fault;
        if fault.of_control() {
            return Vec::new();
        }
        if fault.of_machine() {
            let zone = self.machines[draw.machine % self.machines.len()].1.as_str();
            return self.shards.iter().filter(|shard| shard.zones.contains(zone)).collect();
        }
        if fault.of_node() {
            return vec![&self.shards[draw.shard % self.shards.len()]];
        }
        let stored: Vec<&Shard<'_>> = self.shards.iter().filter(|shard| shard.stored).collect();
        let group = &stored[draw.shard % stored.len()].group.name;
        stored.iter().filter(|shard| shard.group.name == *group).copied().collect()
    }

    /// From whole to whole.
    async fn inflict(&self, draw: &Draw, shards: &[&Shard<'f>]) -> Result<()> {
        whole(shards).await?;
        let fault = draw.fault;
        let who = match shards {
            [shard] if fault.of_node() => Some(self.victim(draw, shard).await?),
            _ => None,
        };
        let whom = match &who {
            Some(node) => format!(" {}", node.name),
            None if fault.of_machine() => format!(" {}", self.machine(draw)),
            None if fault == Fault::DeleteAll => format!(" of {}", shards[0].group.name),
            None => String::new(),
        };
        self.story.say(format!("{fault:?}{whom}"));
        let from = Instant::now();
        match &who {
            Some(node) => self.of_node(draw, shards[0].group, node).await?,
            None if fault.of_machine() => self.of_machine(draw).await?,
            None if fault == Fault::DeleteAll => {
                let group = shards[0].group;
                let nodes = eventually("the nodes are known", DONE_WITHIN, async || group.nodes().await);
                self.delete(group, &nodes.await?, false).await?;
            }
            None => self.control(draw).await?,
        }
        let ended = Instant::now();
        whole(shards).await?;
        let until = Instant::now();
        let shards = shards.iter().map(|shard| shard.name()).collect();
        self.hits.borrow_mut().push(Hit { fault, shards, from, until, healed: until - ended });
        Ok(())
    }

    async fn victim(&self, draw: &Draw, shard: &Shard<'_>) -> Result<Node> {
        eventually("somebody to strike", DONE_WITHIN, async || {
            if draw.replica {
                return shard.group.replicas_of(&shard.id).await?.pop().context("no replica");
            }
            shard.group.primary_of(&shard.id).await
        })
        .await
    }

    async fn of_node(&self, draw: &Draw, group: &Group<'_>, node: &Node) -> Result<()> {
        let signal = async |process: &str, signal: &str| {
            eventually("the signal is sent", DONE_WITHIN, async || {
                // Its container may have ended since: nothing is stopped any more.
                if signal == "CONT" && self.replaced(group, node).await? {
                    return Ok(());
                }
                group.signal(node, process, signal).await
            })
            .await
        };
        match draw.fault {
            Fault::Kill => signal(ENGINE_PROCESS, "KILL").await,
            Fault::KillAgent => signal("pid1", "KILL").await,
            Fault::StopEngine | Fault::StopAgent => {
                let process = if draw.fault == Fault::StopEngine { ENGINE_PROCESS } else { "pid1" };
                signal(process, "STOP").await?;
                tokio::time::sleep(draw.hold).await;
                signal(process, "CONT").await
            }
            fault => self.delete(group, std::slice::from_ref(node), fault == Fault::DeleteForced).await,
        }
    }

    async fn replaced(&self, group: &Group<'_>, node: &Node) -> Result<bool> {
        let now = group.nodes().await?.into_iter().find(|each| each.name == node.name);
        Ok(now.is_none_or(|now| now.pod_uid != node.pod_uid || now.restarts != node.restarts))
    }

    async fn delete(&self, group: &Group<'_>, nodes: &[Node], force: bool) -> Result<()> {
        let how = if force { DeleteParams::default().grace_period(0) } else { DeleteParams::default() };
        let pods = self.story.api::<Pod>();
        eventually("the pods are deleted and made again", DONE_WITHIN, async || {
            let now = group.nodes().await?;
            for node in nodes {
                if now.iter().any(|each| each.pod_uid == node.pod_uid) {
                    let _gone_already = pods.delete(&node.pod, &how).await;
                }
            }
            let back = now.iter().filter(|each| nodes.iter().any(|node| node.name == each.name));
            let left = now.iter().any(|each| nodes.iter().any(|node| node.pod_uid == each.pod_uid));
            ensure!(!left && back.count() == nodes.len(), "not yet");
            Ok(())
        })
        .await
    }

    async fn of_machine(&self, draw: &Draw) -> Result<()> {
        let machine = self.machine(draw);
        match draw.fault {
            Fault::Silence => {
                cluster::silence_machine(machine).await?;
                tokio::time::sleep(draw.hold).await;
                eventually("it returns", DONE_WITHIN, async || cluster::return_machine(machine).await).await
            }
            Fault::Crash => {
                cluster::crash_machine(machine).await?;
                tokio::time::sleep(draw.hold).await;
                eventually("it boots", DONE_WITHIN * 2, async || cluster::start_machine(machine).await).await
            }
            fault => {
                eventually("it is cordoned", DONE_WITHIN, async || self.story.cordon(machine).await).await?;
                if fault == Fault::Drain {
                    // An eviction that is refused for so long is no failure: the operator may be away.
                    let all = names::LABEL_REPLICATION_GROUP;
                    let said = self.story.drain(machine, all, DRAINED_WITHIN).await;
                    let drained = said.is_ok_and(|said| said.success);
                    self.story.say(format!("{machine} is {}drained", if drained { "" } else { "not " }));
                } else {
                    tokio::time::sleep(draw.hold).await;
                }
                eventually("it is uncordoned", DONE_WITHIN, async || self.story.uncordon(machine).await).await
            }
        }
    }

    async fn control(&self, draw: &Draw) -> Result<()> {
        match draw.fault {
            Fault::RestartApiserver => cluster::restart_apiserver().await?,
            Fault::KillOperator => {
                eventually("the operator is killed", DONE_WITHIN, async || {
                    operator::kill_all(self.story).await
                })
                .await?;
            }
            _ => {
                let frozen = eventually("the operator stands", DONE_WITHIN, async || {
                    operator::freeze(self.story).await
                })
                .await?;
                tokio::time::sleep(draw.hold).await;
                // One whose container has ended meanwhile stands no more.
                eventually("the operator goes on", DONE_WITHIN, async || {
                    let there: Vec<String> = operator::running(self.story).await?;
                    let left: Vec<String> =
                        frozen.iter().filter(|name| there.contains(name)).cloned().collect();
                    operator::wake(&left).await
                })
                .await?;
            }
        }
        operator::well(self.story).await
    }
}

/// Every replica of these shards follows and is in sync, by the engines' own words.
async fn whole(shards: &[&Shard<'_>]) -> Result<()> {
    for Shard { group, id, nodes, .. } in shards {
        eventually(&format!("{} {id} is whole", group.name), HEALED_WITHIN, async || {
            // A node between two pods, or whose pod has no address yet, is not among them: without it a fault would take the last copy.
            let present = group.shard(id).await?;
            ensure!(
                present.len() == *nodes,
                "{} of its {nodes} nodes have a pod with an address",
                present.len()
            );
            let primary = group.primary_of(id).await?;
            for replica in present.iter().filter(|node| node.name != primary.name) {
                group.is_replica(&replica.name, seconds(10)).await?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[test]
fn a_write_may_be_lost_around_a_death_and_not_in_a_handover_that_somebody_sees_to() {
    let begin = Instant::now();
    let at = |second: u64| begin + seconds(second);
    let hit = |fault, shard: &str, from, until| Hit {
        fault,
        shards: vec![shard.to_owned()],
        from: at(from),
        until: at(until),
        healed: Duration::ZERO,
    };
    let killed = [hit(Fault::Kill, "one 0001", 10, 20)];
    assert!(excuse(&killed, "one 0001", at(9)) && excuse(&killed, "one 0001", at(20)));
    assert!(!excuse(&killed, "one 0001", at(8)) && !excuse(&killed, "one 0001", at(21)));
    assert!(!excuse(&killed, "two 0001", at(15)));
    let mut drained = vec![hit(Fault::Drain, "one 0001", 10, 20)];
    assert!(!excuse(&drained, "one 0001", at(15)));
    drained.push(hit(Fault::KillOperator, "", 18, 30));
    assert!(excuse(&drained, "one 0001", at(15)));
}
