//! The operator's connections, as an agent has them.

use super::OPERATOR_SILENT_MS;
use crate::mutant::Mutant;
use crate::script::Party;
use crate::world::{Event, World};
use kagami_protocol::{BEAT_MS, FromAgent, ToAgent};

impl World {
    /// A hello arrives.
    pub fn hello(&mut self, line: u64) {
        let Some(known) = self.lines.get(&line).cloned() else { return };
        let pod = known.pod;
        if self.pods[pod].life != known.life || self.pods[pod].agent.is_none() || self.pods[pod].gone {
            return;
        }
        let now = self.agent_ms(pod);
        let Some(agent) = self.pods[pod].agent.as_mut() else { return };
        if known.generation < agent.state.operator_generation && self.mutant != Some(Mutant::TwoLeaders) {
            self.close_at_agent(line);
            return;
        }
        let newer = known.generation > agent.state.operator_generation;
        if newer {
            agent.state.operator_generation = known.generation;
        }
        agent.lines.push(line);
        if newer {
            let generation = known.generation;
            let refuses = self.mutant != Some(Mutant::TwoLeaders);
            if !self.store(pod) {
                self.close_at_agent(line);
                return;
            }
            self.close_lines(pod, |line| refuses && line.generation < generation);
        }
        if let Some(open) = self.lines.get_mut(&line) {
            open.agent_open = true;
            open.accepted_ms = now;
            open.heard_by_agent = self.now;
        }
        let welcome = FromAgent::Welcome {
            version: 1,
            node: self.pods[pod].node.clone(),
            pod_uid: self.pods[pod].uid.clone(),
        };
        self.from_agent(line, welcome);
        if let Some(report) = self.current_report(pod) {
            self.from_agent(line, FromAgent::Report(Box::new(report)));
        }
        self.beat_agent(line);
    }

    /// The agent's beat.
    pub fn beat_agent(&mut self, line: u64) {
        let Some(known) = self.lines.get(&line).filter(|line| line.agent_open) else { return };
        let pod = known.pod;
        if self.now - known.heard_by_agent > OPERATOR_SILENT_MS {
            self.close_at_agent(line);
            return;
        }
        let Some(state) = self.state(pod) else { return };
        let offset = state.view.as_ref().map(|view| view.offset);
        let beat = FromAgent::Beat { boot: state.boot.clone(), offset, at_ms: Some(self.agent_ms(pod)) };
        self.from_agent(line, beat);
        self.at(BEAT_MS, Event::BeatAgent { line });
    }

    /// A frame of an operator.
    pub fn to_agent_arrives(&mut self, line: u64, frame: ToAgent) {
        let now = self.now;
        let Some(known) = self.lines.get_mut(&line).filter(|line| line.agent_open) else { return };
        if now - known.heard_by_agent > OPERATOR_SILENT_MS {
            self.close_at_agent(line);
            return;
        }
        known.heard_by_agent = now;
        let (pod, generation, accepted_ms) = (known.pod, known.generation, known.accepted_ms);
        if self.state(pod).is_some_and(|state| state.operator_generation > generation)
            && self.mutant != Some(Mutant::TwoLeaders)
        {
            self.close_at_agent(line);
            return;
        }
        match frame {
            ToAgent::Hello { .. } | ToAgent::Beat => {}
            ToAgent::Confirm { term, guard, heard_ms } => {
                let agent_now = self.agent_ms(pod);
                let raised =
                    self.change(pod, |state| state.confirm(agent_now, (term, guard), accepted_ms, heard_ms));
                if raised == Some(true) {
                    self.keep_note(pod);
                }
            }
            ToAgent::Order(order) => {
                if let Some(agent) = self.pods[pod].agent.as_mut() {
                    agent.orders.push_back((line, generation, *order));
                }
                self.next_order(pod);
            }
        }
    }

    /// Closes connections at the agent's end.
    pub fn close_lines(&mut self, pod: usize, which: impl Fn(&crate::world::Line) -> bool) {
        let Some(agent) = self.pods[pod].agent.as_ref() else { return };
        let lines: Vec<u64> =
            agent.lines.iter().copied().filter(|line| self.lines.get(line).is_some_and(&which)).collect();
        let report = self.current_report(pod);
        for line in lines {
            if let Some(report) = &report {
                self.from_agent(line, FromAgent::Report(Box::new(report.clone())));
            }
            self.close_at_agent(line);
        }
    }

    /// One connection ends at the agent's end; the operator notices if the message reaches it.
    pub fn close_at_agent(&mut self, line: u64) {
        let Some(known) = self.lines.get_mut(&line) else { return };
        known.agent_open = false;
        let (pod, operator, last) = (known.pod, known.operator, known.last_from_agent);
        if let Some(agent) = self.pods[pod].agent.as_mut() {
            agent.lines.retain(|each| *each != line);
            agent.orders.retain(|(by, ..)| *by != line);
        }
        let machine = self.pods[pod].machine;
        if let Some(delay) = self.way(Party::Machine(machine), Party::Operator(operator)) {
            let at = (self.now + delay).max(last);
            self.when(at, Event::Closed { line, at_operator: true });
        }
    }
}
