//! What an agent sees of its engine, what it notes, and what follows.

use super::{MOVING_MS, RESTING_MS};
use crate::engine::{Engine, Model as _, Ms};
use crate::world::{Event, World};
use kagami_agent::state::{Seen, State, same_data};
use kagami_protocol::Refused;

/// How long a look waits for an answer.
const ANSWER_WITHIN_MS: Ms = 500;

impl World {
    /// Looks soon and often for a while.
    pub fn expect_movement(&mut self, pod: usize, for_ms: u64) {
        let until = self.agent_ms(pod) + for_ms;
        if let Some(state) = self.state_mut(pod) {
            state.moving_until_ms = state.moving_until_ms.max(until);
        }
        self.look_at(pod, 1);
    }

    pub(super) fn look_at(&mut self, pod: usize, after: Ms) {
        let at = self.now + after;
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if agent.looks_at > self.now && agent.looks_at <= at {
            return;
        }
        agent.looks_at = at;
        let life = place.life;
        self.when(at, Event::Look { pod, life });
    }

    /// The observer goes round.
    pub fn look_event(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        if place.life != life || place.agent.as_ref().is_none_or(|agent| agent.looks_at > self.now) {
            return;
        }
        if place.engine.is_none() {
            self.publish(pod);
            return;
        }
        self.look(pod);
        let idle = self.pods[pod].agent.as_ref().is_some_and(|agent| agent.doing.is_none());
        if idle && self.pods[pod].hung_until <= self.now {
            self.settle(pod);
            self.judge_source(pod);
        }
        self.keep_note(pod);
        let now = self.agent_ms(pod);
        let Some(state) = self.state(pod) else { return };
        let pause = if state.moving(now) { MOVING_MS } else { RESTING_MS };
        let moving_long =
            state.life.as_ref().is_some_and(|life| now.saturating_sub(life.process.started) > 10_000);
        let pause = if pause == MOVING_MS && moving_long && state.moving_until_ms <= now {
            RESTING_MS / 2
        } else {
            pause
        };
        let in_vain = if self.pods[pod].hung_until > self.now { ANSWER_WITHIN_MS } else { 0 };
        self.look_at(pod, pause + in_vain);
    }

    /// Writes the note whenever it changed in more than the offset, and each second when the data moved.
    pub fn keep_note(&mut self, pod: usize) {
        let persistent = self.persistent();
        let now = self.now;
        let wall = self.wall(self.pods[pod].machine);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        agent.state.write_down("g", &place.node, wall);
        let Some(new) = &agent.state.note else { return };
        if agent.noted.as_ref().is_some_and(|old| same_data(old, new, persistent)) {
            return;
        }
        let only_offset = agent.noted.as_ref().is_some_and(|old| same_data(old, new, false));
        if only_offset && now - agent.noted_ms < 1_000 {
            return;
        }
        self.store(pod);
        self.publish(pod);
    }

    /// Looks once and takes in what was seen.
    pub fn look(&mut self, pod: usize) {
        let now = self.now;
        if self.pods[pod].engine.is_some() && self.pods[pod].hung_until > now {
            let now = self.agent_ms(pod);
            self.change(pod, |state| {
                let boot = state.boot.clone();
                state.missed(&boot, now, false, "no answer")
            });
            return;
        }
        let Some(engine) = self.pods[pod].engine.as_ref() else { return };
        let view = engine.view(now);
        let persistence = engine.persistence(now);
        let sent_ms = self.agent_ms(pod);
        // The engine counts seconds by the same clock: where that jumps, both do.
        let wall = self.true_wall();
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        let boot = agent.state.boot.clone();
        let life = agent.state.life.as_ref();
        let to_count = life.map(|life| life.open_slots.to_count(sent_ms, &view)).unwrap_or_default();
        let counted = to_count.into_iter().map(|slot| (slot, self.keys_in_slot(pod, slot))).collect();
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        let seen = Seen { view, persistence, counted, sent_ms, wall_sent_ms: wall, wall_answered_ms: wall };
        // A full sync's snapshot is kept as a file only where nothing tells the engine to delete it.
        let Some(taken) = agent.state.take_in(&boot, seen, sent_ms, |_| false) else { return };
        let volume = self.volumes.get(&self.pods[pod].volume);
        let has_data = volume.is_some_and(crate::volume::Volume::has_data)
            || (self.persistent()
                && self.pods[pod]
                    .engine
                    .as_ref()
                    .is_some_and(|engine| Engine::has_data(&engine.disk(false))));
        let worth = taken.worth_a_note();
        let free_bytes = if volume.is_some_and(|volume| volume.full_until > now) { 0 } else { 1 << 30 };
        let volume = self.persistent().then_some(kagami_protocol::Volume { bytes: 2 << 30, free_bytes });
        self.change(pod, |state| {
            state.has_data = state.has_data || has_data;
            state.volume = volume;
        });
        if worth {
            self.keep_note(pod);
        }
    }

    /// What the engine counts.
    fn keys_in_slot(&mut self, pod: usize, slot: u16) -> u64 {
        match self.command(pod, &["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) {
            crate::engine::Reply::Number(keys) => u64::try_from(keys).unwrap_or(0),
            _ => 0,
        }
    }

    /// `SETSLOT … STABLE` for each, as the agent does it; no time passes between its count and its close.
    pub fn close_slots(&mut self, pod: usize, slots: &[u16], empty: bool) -> Result<(), Refused> {
        let held: Vec<u16> = if empty {
            slots.iter().copied().filter(|slot| self.keys_in_slot(pod, *slot) > 0).collect()
        } else {
            Vec::new()
        };
        let mut failed = None;
        if held.is_empty() {
            for slot in slots {
                if let Err(message) = self.text(pod, &["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]) {
                    failed = Some(message);
                    break;
                }
            }
        }
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            match &failed {
                None if held.is_empty() => life.open_slots.closed(slots),
                _ => life.open_slots.holds(held.iter().copied()),
            }
        }
        self.look(pod);
        match failed {
            Some(message) => Err(Refused::Failed { message }),
            None if held.is_empty() => Ok(()),
            None => Err(Refused::Written),
        }
    }

    /// Does what follows from what was seen.
    pub fn settle(&mut self, pod: usize) {
        let asks =
            self.state(pod).and_then(|state| state.life.as_ref()).is_some_and(|life| life.unwritten.asks());
        if asks && let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            let said = if life.written_to { "cmdstat_set:calls=1\n" } else { "cmdstat_info:calls=9\n" };
            life.unwritten.called(said);
        }
        self.source(pod);
        self.electable(pod);
        if self.state(pod).is_some_and(State::stale_reads_on) {
            self.command(pod, &["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
            if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
                life.stale_reads_off = false;
            }
        }
        if self.state_mut(pod).is_some_and(State::ends_pause_of_a_replica) {
            self.command(pod, &["CLIENT", "UNPAUSE"]);
        }
        if self.state(pod).is_some_and(State::supersedes_previous) && self.store(pod) {
            let place = &mut self.pods[pod];
            if let Some(volume) = self.volumes.get_mut(&place.volume) {
                volume.forget_previous();
                let kept = volume.kept();
                if let Some(state) = place.agent.as_mut().map(|agent| &mut agent.state) {
                    state.kept = kept;
                    if let Some(life) = state.life.as_mut() {
                        life.previous_forgotten = true;
                    }
                }
            }
        }
    }

    /// Lets replicas log in, or turns them away.
    pub fn source(&mut self, pod: usize) {
        if let Some(open) = self.state(pod).and_then(State::source) {
            self.set_source(pod, open);
        }
    }

    /// Lets the engines elect this one, or not.
    fn electable(&mut self, pod: usize) {
        let Some(may) = self.state(pod).and_then(State::electable) else { return };
        let word = if may { "no" } else { "yes" };
        let set = self.command(pod, &["CONFIG", "SET", "cluster-replica-no-failover", word]);
        let done = set.error().is_none();
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.electable = done.then_some(may);
        }
    }

    /// The replication user.
    pub fn set_source(&mut self, pod: usize, open: bool) {
        let word = if open { "on" } else { "off" };
        let set = self.command(pod, &["ACL", "SETUSER", "kagami-replication", word]);
        let done = set.error().is_none();
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.source_open = done.then_some(open);
        }
    }
}
