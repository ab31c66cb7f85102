//! The end of a node: a primary hands over first.

use super::HANDOVER_MS;
use crate::mutant::Mutant;
use crate::world::{Event, World};

impl World {
    /// SIGTERM.
    pub fn terminate(&mut self, pod: usize) {
        let now = self.now;
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if agent.terminated_ms.is_some() {
            return;
        }
        agent.terminated_ms = Some(now);
        let life = place.life;
        self.change(pod, |state| state.terminating = true);
        self.look(pod);
        self.at(0, Event::Stopping { pod, life });
    }

    /// The end goes on: the role is handed over, the data flushed, the operator told.
    pub fn stopping(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        let Some(agent) = place.agent.as_ref().filter(|_| place.life == life && !place.gone) else { return };
        let Some(since) = agent.terminated_ms else { return };
        let skips = self.mutant == Some(Mutant::NoHandOver);
        if !skips && agent.state.hands_over_first() && self.now - since < HANDOVER_MS {
            self.expect_movement(pod, 200);
            self.at(20, Event::Stopping { pod, life });
            return;
        }
        if agent.doing.is_some() && self.now - since < HANDOVER_MS + 2_000 {
            self.at(20, Event::Stopping { pod, life });
            return;
        }
        if self.now - since < HANDOVER_MS {
            self.judge_going(pod);
        }
        self.end_engine(pod);
        self.store(pod);
        self.publish(pod);
        self.close_lines(pod, |_| true);
        self.container_ended(pod, true);
    }

    /// Ends the engine, if one runs, with its data flushed where that is worth something.
    pub fn end_engine(&mut self, pod: usize) {
        if self.pods[pod].engine.is_none() {
            return;
        }
        self.command(pod, &["CLIENT", "PAUSE", "10000", "WRITE"]);
        self.look(pod);
        let persistent = self.persistent();
        let append_only = self.shape.volumes;
        let saves = self.state_mut(pod).is_some_and(|state| state.shuts_down(persistent));
        self.publish(pod);
        let words: &[&str] = match (saves, append_only) {
            (true, true) => &["SHUTDOWN"],
            (true, false) => &["SHUTDOWN", "SAVE"],
            (false, _) => &["SHUTDOWN", "NOSAVE"],
        };
        self.command(pod, words);
        if self.pods[pod].engine.is_some() {
            self.engine_ended(pod, Some(9), None, "killed at its end", false);
        }
    }
}
