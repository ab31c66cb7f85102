//! The guard's clock, and the lease that an agent asks for.

use super::GUARD_TICK_MS;
use crate::mutant::Mutant;
use crate::script::Party;
use crate::world::{Event, World};
use kagami_agent::guard::LEASE_EVERY_MS;
use kagami_agent::state::{Fence, GUARD_PAUSE_MS};

impl World {
    /// Its clock; it runs only while silence may pause writes.
    pub fn guard(&mut self, pod: usize, life: u64) {
        let place = &self.pods[pod];
        if place.life != life || place.agent.is_none() || place.engine.is_none() {
            return;
        }
        let now = self.agent_ms(pod);
        let true_now = self.now;
        let no_fence = self.mutant == Some(Mutant::NeverFences);
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        let facts = agent.state.facts();
        agent.state.guard.tick(now, facts);
        let wants = agent.state.guard.wants_lease(now, facts);
        let fence = if no_fence { Fence::Rest } else { agent.state.fence(now) };
        let mut asks = false;
        if wants && true_now - agent.asked_lease_ms >= LEASE_EVERY_MS {
            (agent.asked_lease_ms, asks) = (true_now, true);
        }
        match fence {
            Fence::Rest | Fence::Expired => {}
            Fence::Pause { again } => {
                let ms = GUARD_PAUSE_MS.to_string();
                if self.command(pod, &["CLIENT", "PAUSE", &ms, "WRITE"]).error().is_none() {
                    if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
                        life.guard_pause_until_ms = now + GUARD_PAUSE_MS;
                    }
                    if !again {
                        self.tell(|| format!("pod {pod} hears no witness: writes are paused"));
                        self.change(pod, |state| state.fenced = true);
                        // A confirmation is known to be fresh only on a new connection.
                        self.close_lines(pod, |_| true);
                    }
                }
            }
            Fence::Resume => {
                self.command(pod, &["CLIENT", "UNPAUSE"]);
                self.tell(|| format!("pod {pod} hears a witness: writes go on"));
                self.change(pod, |state| {
                    state.fenced = false;
                    if let Some(life) = state.life.as_mut() {
                        life.guard_pause_until_ms = 0;
                    }
                });
            }
        }
        if asks {
            self.ask_lease(pod);
        }
        let life = self.pods[pod].life;
        self.at(GUARD_TICK_MS, Event::Guard { pod, life });
    }

    pub(super) fn ask_lease(&mut self, pod: usize) {
        let (machine, life, shard) = (self.pods[pod].machine, self.pods[pod].life, self.pods[pod].shard);
        let asked_ms = self.agent_ms(pod);
        let there = self.way(Party::Machine(machine), Party::Api);
        let back = self.way(Party::Api, Party::Machine(machine));
        let (Some(there), Some(back)) = (there, back) else { return };
        let lease = self.kube.term_of(shard);
        self.at(there + back + 2, Event::Leased { pod, life, asked_ms, lease });
    }

    /// The apiserver's word on the term.
    pub fn leased(&mut self, pod: usize, life: u64, asked_ms: u64, lease: Option<(u64, String)>) {
        if self.pods[pod].life != life {
            return;
        }
        let now = self.agent_ms(pod);
        let place = &mut self.pods[pod];
        let Some(agent) = place.agent.as_mut() else { return };
        if let Some((term, holder)) = lease {
            let ours = holder == place.node;
            if agent.state.leased(now, asked_ms, term, ours) {
                self.keep_note(pod);
            }
        }
    }
}
