//! The engine's life: its data, its start, its role, its end.

use super::{FOLLOW_EVERY_MS, FOLLOW_WITHIN_MS, GUARD_TICK_MS, Process, engine_of, is_cluster};
use crate::engine::{Engine, EngineConfig, Ip, Kind, Model as _, Out, Reply};
use crate::mutant::Mutant;
use crate::world::{Event, World};
use kagami_agent::claim::{self, Claim, Follow};
use kagami_agent::state::{Life, note_of_start, puts_aside, started_as};
use kagami_agent::version::Version;
use kagami_protocol::engine_text::{cluster_info, cluster_nodes};
use kagami_protocol::{Exit, Role, Start, StartRole};
use std::sync::Arc;

impl World {
    /// The data is made ready: puts it aside or keeps it, and says which in the note beside it.
    pub fn prepare_data(&mut self, pod: usize, start: &Start) -> Result<(), String> {
        let now = self.now;
        let wall = self.wall(self.pods[pod].machine);
        let cluster = is_cluster(start);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return Err("gone".into()) };
        let Some(volume) = self.volumes.get_mut(&place.volume) else { return Err("no volume".into()) };
        if puts_aside(start, cluster) {
            if volume.full_until > now {
                return Err("no space left on device".into());
            }
            let old = agent.state.note.clone();
            let (term, generation) = (agent.state.term, agent.state.operator_generation);
            let new = note_of_start(old.as_ref(), "g", &place.node, term, generation, wall);
            volume.put_aside(old, new.clone(), start.keep_previous);
            agent.state.note = Some(new);
        }
        agent.state.has_data = volume.has_data();
        agent.state.kept = volume.kept();
        Ok(())
    }

    /// The engine's process begins.
    pub fn start_engine(&mut self, pod: usize, start: Start) {
        let cluster = is_cluster(&start);
        let directive = |name: &str| {
            start.directives.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let (kind, numbers) = engine_of(&self.shape.engine);
        let replica = started_as(&start) == Role::Replica;
        let primary = match &start.role {
            StartRole::Replica { primary, .. } => Ip::parse(&primary.host),
            StartRole::Primary { .. } => None,
        };
        let config = EngineConfig {
            kind,
            version: numbers,
            ip: self.pods[pod].ip,
            port: start.announce.port,
            bus_port: start.announce.bus_port,
            cluster,
            node_timeout_ms: directive("cluster-node-timeout")
                .and_then(|text| text.parse().ok())
                .unwrap_or(15_000),
            append_only: directive("appendonly") == Some("yes"),
            save_every_ms: None,
            replica_of: if cluster { None } else { primary },
            repl_timeout_ms: 60_000,
            ping_every_ms: directive("repl-ping-replica-period")
                .and_then(|period| period.parse::<u64>().ok())
                .map_or(10_000, |period| period * 1_000),
            backlog_writes: 10_000,
            password: self.pods[pod].shard as u64,
            source_open: !replica || self.mutant == Some(Mutant::SourceAlwaysOpen),
            stale_reads: !replica || cluster,
            electable: !replica,
            load_us_per_write: self.chance.between(10, 2_000),
        };
        let disk =
            self.volumes.get(&self.pods[pod].volume).map(|volume| volume.data.clone()).unwrap_or_default();
        let seed = self.chance.draw();
        let now = self.now;
        let agent_now = self.agent_ms(pod);
        let mut out = Out::default();
        let engine = Engine::start(config, disk, seed, now, &mut out);
        let place = &mut self.pods[pod];
        place.engine_life += 1;
        place.engine = Some(engine);
        place.wake_ms = 0;
        let role = started_as(&start);
        place.made_primary_ms = (role == Role::Primary).then_some(now);
        let version = Arc::new(Version {
            kind: if kind == Kind::Redis { "redis".into() } else { "valkey".into() },
            numbers: [numbers.0.into(), numbers.1.into(), numbers.2.into()],
        });
        let process = Process {
            started: agent_now,
            script: cluster.then_some(now + FOLLOW_WITHIN_MS),
            synced: false,
            written_to: false,
        };
        let (life, engine_life) = (place.life, place.engine_life);
        self.came_of(pod, out);
        self.judge_primaries(pod);
        self.tell(|| format!("engine of pod {pod} is started as {role:?}"));
        self.change(pod, |state| {
            let boot = state.boot.clone();
            state.begin(Life::new(boot, start, cluster, version, agent_now, process), agent_now);
        });
        let pause = self.chance.between(5, 60);
        if cluster {
            self.at(pause, Event::Script { pod, life, engine: engine_life });
        }
        self.at(GUARD_TICK_MS, Event::Guard { pod, life });
        self.expect_movement(pod, 3_000);
    }

    /// The engine's process has ended: parked again, and told.
    pub fn engine_ended(
        &mut self,
        pod: usize,
        signal: Option<i32>,
        code: Option<i32>,
        words: &str,
        power: bool,
    ) {
        let wall = self.wall(self.pods[pod].machine);
        let agent_now = self.agent_ms(pod);
        let place = &mut self.pods[pod];
        let Some(engine) = place.engine.take() else { return };
        place.engine_life += 1;
        place.made_primary_ms = None;
        if place.hung_until > self.now {
            place.hung_until = 0;
            place.thawed_ms = place.frozen_until;
        }
        let disk = engine.disk(power);
        if let Some(volume) = self.volumes.get_mut(&place.volume) {
            volume.data = disk;
        }
        self.tell(|| format!("engine of pod {pod} has ended ({words})"));
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if power {
            // Nobody was left to write anything down.
            agent.state.life = None;
            return;
        }
        agent.state.write_down_the_end("g", &place.node, wall);
        if agent.state.failed_to_load(|_| false)
            && let Some(note) = &mut agent.state.note
        {
            note.failed_loads = note.failed_loads.saturating_add(1);
        }
        let note = agent.state.note.clone();
        let volume = self.volumes.entry(place.volume.clone()).or_default();
        if note.as_ref().is_some_and(|note| !note.complete)
            && let Some(back) = volume.restore(note.as_ref())
        {
            agent.state.view = None;
            agent.state.note = Some(back);
        }
        agent.state.kept = volume.kept();
        let has_data = volume.has_data();
        let Some(life) = agent.state.life.take() else { return };
        let exit = Exit {
            boot: life.boot.clone(),
            code,
            signal,
            out_of_memory: false,
            at_ms: wall,
            lived_ms: agent_now.saturating_sub(life.process.started),
            last_words: words.into(),
        };
        self.change(pod, |state| state.end(exit, has_data));
        self.store(pod);
    }

    /// Brings the engine into its role.
    pub fn script_event(&mut self, pod: usize, life: u64, engine: u64) {
        let place = &self.pods[pod];
        if place.life != life || place.engine_life != engine || place.engine.is_none() {
            return;
        }
        let Some(known) = self.state(pod).and_then(|state| state.life.as_ref()) else { return };
        let Some(until) = known.process.script else { return };
        let start = known.start.clone();
        let failed = match &start.role {
            StartRole::Primary { slots, epoch } => match self.assign_slots(pod, slots, Some(*epoch), &[]) {
                Ok(_) => self.meet(pod, &start, None).err(),
                Err(error) if error.contains("LOADING") => {
                    self.at(FOLLOW_EVERY_MS, Event::Script { pod, life, engine });
                    return;
                }
                Err(error) => Some(error),
            },
            StartRole::Replica { primary, primary_id } => {
                let met = self.meet(pod, &start, Some(primary));
                match met.and_then(|_| self.follow_once(pod, primary, primary_id.as_deref())) {
                    Ok(()) => None,
                    Err(error) if self.now >= until => Some(error),
                    Err(_) => {
                        self.at(FOLLOW_EVERY_MS, Event::Script { pod, life, engine });
                        return;
                    }
                }
            }
        };
        if let Some(error) = failed {
            self.change(pod, |state| state.not_in_role(&error));
        }
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.process.script = None;
        }
        self.expect_movement(pod, 3_000);
    }

    /// A text answer, or the engine's error.
    pub fn text(&mut self, pod: usize, words: &[&str]) -> Result<String, String> {
        match self.command(pod, words) {
            Reply::Text(text) => Ok(text),
            Reply::Number(number) => Ok(number.to_string()),
            Reply::Error(error) => Err(error),
        }
    }

    pub(super) fn meet(
        &mut self,
        pod: usize,
        start: &Start,
        primary: Option<&kagami_protocol::Address>,
    ) -> Result<usize, String> {
        let own = start.announce.clone();
        let peers: Vec<_> = start.peers.iter().chain(primary).cloned().collect();
        self.meet_peers(pod, &own, &peers)
    }

    /// `CLUSTER MEET` of those that are not known.
    pub fn meet_peers(
        &mut self,
        pod: usize,
        own: &kagami_protocol::Address,
        peers: &[kagami_protocol::Address],
    ) -> Result<usize, String> {
        let known = cluster_nodes(&self.text(pod, &["CLUSTER", "NODES"])?);
        let strangers: Vec<_> = claim::strangers(&known, own, peers.iter()).into_iter().cloned().collect();
        for peer in &strangers {
            let words = claim::meet(peer);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.text(pod, &words)?;
        }
        Ok(strangers.len())
    }

    /// Claims slots.
    pub fn assign_slots(
        &mut self,
        pod: usize,
        slots: &[(u16, u16)],
        epoch: Option<u64>,
        from: &[String],
    ) -> Result<usize, String> {
        let info = cluster_info(&self.text(pod, &["CLUSTER", "INFO"])?);
        let nodes = cluster_nodes(&self.text(pod, &["CLUSTER", "NODES"])?);
        let ranges = self
            .state(pod)
            .and_then(|state| state.life.as_ref())
            .is_none_or(|life| life.version.has_slot_ranges());
        let mut claim = Claim::new(&info, &nodes, slots, epoch, from, ranges);
        if let Some(epoch) = claim.set_epoch {
            match self.text(pod, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]) {
                Ok(_) => {}
                Err(error) if error.contains("does not know any other node") => claim.was_met(),
                Err(error) => return Err(error),
            }
        }
        for words in claim.commands() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.text(pod, &words)?;
        }
        Ok(claim.count)
    }

    /// One attempt to follow.
    pub fn follow_once(
        &mut self,
        pod: usize,
        primary: &kagami_protocol::Address,
        primary_id: Option<&str>,
    ) -> Result<(), String> {
        let nodes = cluster_nodes(&self.text(pod, &["CLUSTER", "NODES"])?);
        match claim::follow(&nodes, primary, primary_id) {
            Follow::Already => Ok(()),
            Follow::Replicate(id) => self.text(pod, &["CLUSTER", "REPLICATE", &id]).map(|_| ()),
            Follow::Unknown => Err("the primary is not known yet".into()),
        }
    }
}
