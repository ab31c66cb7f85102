//! The network between parties, and between engines.

use super::{Body, Event, World};
use crate::engine::{Ip, Model as _, Ms, Packet};
use crate::script::Party;

impl World {
    /// Cuts one way until a time.
    pub fn cut(&mut self, from: Party, to: Party, until: Ms) {
        let present = self.cuts.entry((from, to)).or_default();
        *present = until.max(*present);
    }

    /// Mends all.
    pub fn mend_network(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing gets from one to the other now.
    pub fn is_cut(&self, from: Party, to: Party) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    /// How long a message takes, if it arrives.
    pub fn way(&mut self, from: Party, to: Party) -> Option<Ms> {
        if self.is_cut(from, to) {
            return None;
        }
        for party in [from, to] {
            if let Party::Machine(machine) = party
                && !self.machines[machine].up
            {
                return None;
            }
        }
        let mut delay = self.chance.below(3);
        for party in [from, to] {
            if let Party::Machine(machine) = party {
                let (until, by) = self.machines[machine].slow;
                if until > self.now {
                    delay += self.chance.below(by + 1);
                }
            }
        }
        Some(delay)
    }

    /// The pod at an address.
    pub fn at_ip(&self, ip: Ip) -> Option<usize> {
        self.by_ip.get(&ip).copied()
    }

    /// A fresh address, or one that was used before.
    pub fn address(&mut self, pod: usize) -> Ip {
        let old: Vec<Ip> =
            self.by_ip.iter().filter(|(_, pod)| self.pods[**pod].gone).map(|(ip, _)| *ip).collect();
        let ip = if !old.is_empty() && self.chance.per_mille(100) {
            old[self.chance.below(old.len() as u64) as usize]
        } else {
            self.next_ip += 1;
            Ip(self.next_ip)
        };
        self.by_ip.insert(ip, pod);
        ip
    }

    pub(super) fn send(&mut self, from: Ip, packet: Packet<Body>) {
        let key = (from, packet.to, packet.connection);
        let (Some(a), Some(b)) = (self.by_ip.get(&from), self.by_ip.get(&packet.to)) else { return };
        let (a, b) = (self.pods[*a].machine, self.pods[*b].machine);
        if self.pods[self.by_ip[&packet.to]].gone {
            return;
        }
        if packet.body.is_some() && self.dead.contains(&key) {
            if self.way(Party::Machine(b), Party::Machine(a)).is_some() {
                let (lane, connection, peer) = (packet.lane, packet.connection, packet.to);
                self.at(1, Event::Broken { at: from, peer, lane, connection });
            }
            return;
        }
        let Some(delay) = self.way(Party::Machine(a), Party::Machine(b)) else {
            // What was lost cannot be made up for: nothing of this connection arrives any more, in either direction.
            self.dead.insert(key);
            self.dead.insert((packet.to, from, packet.connection));
            return;
        };
        let last = self.order.entry(key).or_default();
        let at = (self.now + delay).max(*last);
        *last = at;
        self.when(at, Event::Packet { from, packet });
    }

    pub(super) fn packet(&mut self, from: Ip, packet: Packet<Body>) {
        let Some(pod) = self.by_ip.get(&packet.to).copied() else { return };
        if self.pods[pod].gone || !self.machines[self.pods[pod].machine].up {
            return;
        }
        if self.pods[pod].engine.is_none() {
            if packet.body.is_some() {
                let (lane, connection, peer) = (packet.lane, packet.connection, packet.to);
                self.at(0, Event::Broken { at: from, peer, lane, connection });
            }
            return;
        }
        self.engine(pod, |engine, now, out| engine.packet(now, from, packet, out));
    }
}
