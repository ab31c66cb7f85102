//! Clients: each writes to one shard, with `WAIT` or without, follows where it is sent, and keeps what it was told.

use crate::engine::{Answer, Ip, Key, Model, Ms, Request};
use crate::script::Party;
use crate::world::{Event, World};
use kagami_core::observed::{Kind, ObjectKey};
use std::collections::BTreeMap;

const TIMEOUT_MS: Ms = 1_000;

/// One write.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its key.
    pub key: Key,
    /// The shard it belongs to.
    pub shard: usize,
    /// It was acknowledged.
    pub acknowledged: bool,
    /// A replica had it too, by `WAIT`.
    pub confirmed: bool,
    /// Its loss is nobody's fault but the faults'.
    pub excused: bool,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    at: Vec<Option<Ip>>,
    waiting: BTreeMap<u64, (usize, usize)>,
    /// Every write, in order.
    pub sent: Vec<Sent>,
    /// They have stopped.
    pub stopped: bool,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
}

impl Clients {
    /// One for each shard.
    pub fn new(shards: usize) -> Self {
        Self {
            at: vec![None; shards],
            waiting: BTreeMap::new(),
            sent: Vec::new(),
            stopped: false,
            acknowledged: 0,
        }
    }
}

impl World {
    /// A slot of a shard.
    pub fn slot_of(&self, shard: usize) -> u16 {
        if self.shape.cluster { (shard * 16_384 / self.shape.shards + 3) as u16 } else { 0 }
    }

    /// A client writes.
    pub fn client_writes(&mut self, shard: usize) {
        let pause = self.chance.between(60, 240);
        self.at(pause, Event::Write { shard });
        if self.clients.stopped {
            return;
        }
        let Some(to) = self.clients.at[shard].or_else(|| self.endpoint(shard)) else { return };
        self.clients.at[shard] = Some(to);
        let id = self.clients.sent.len() as u32 + 1;
        let key = Key { slot: self.slot_of(shard), id };
        let wait = (self.shape.nodes > 1 && self.chance.per_mille(600)).then_some((1, 800));
        self.clients.sent.push(Sent { key, shard, acknowledged: false, confirmed: false, excused: false });
        let number = self.count();
        self.clients.waiting.insert(number, (shard, id as usize - 1));
        self.at(TIMEOUT_MS, Event::GaveUp { number });
        let Some(pod) = self.at_ip(to) else { return };
        let machine = self.pods[pod].machine;
        if let Some(delay) = self.way(Party::Clients, Party::Machine(machine)) {
            self.at(delay, Event::Request { to, number, request: Request::Set { key, wait } });
        }
    }

    /// An address that the endpoint of the shard gives.
    fn endpoint(&mut self, shard: usize) -> Option<Ip> {
        let name = "g".to_owned();
        let slice = self.kube.children.get(&ObjectKey { kind: Kind::EndpointSlice, name })?;
        let addresses: Vec<Ip> = slice
            .get("endpoints")?
            .as_array()?
            .iter()
            .filter_map(|endpoint| Ip::parse(endpoint.get("addresses")?.get(0)?.as_str()?))
            .collect();
        let own: Vec<Ip> = addresses
            .iter()
            .copied()
            .filter(|ip| self.at_ip(*ip).is_some_and(|pod| self.pods[pod].shard == shard))
            .collect();
        let of = if self.shape.cluster && !own.is_empty() { own } else { addresses };
        self.chance.pick(&of).copied()
    }

    /// A request arrives at an address.
    pub fn request_arrives(&mut self, to: Ip, number: u64, request: Request) {
        let Some(pod) = self.at_ip(to) else { return };
        if self.pods[pod].gone || !self.machines[self.pods[pod].machine].up {
            return;
        }
        if self.pods[pod].engine.is_none() {
            self.at(1, Event::Answer { number, answer: Answer::Error("refused".into()) });
            return;
        }
        if let Some(life) = self.state_mut(pod).and_then(|state| state.life.as_mut()) {
            life.process.written_to = true;
        }
        self.engine(pod, |engine, now, out| engine.client(now, number, request, out));
    }

    /// An answer arrives.
    pub fn answer_arrives(&mut self, number: u64, answer: Answer) {
        let Some((shard, index)) = self.clients.waiting.remove(&number) else { return };
        match answer {
            Answer::Written { replicas } => {
                let sent = &mut self.clients.sent[index];
                sent.acknowledged = true;
                sent.confirmed = replicas > 0;
                self.clients.acknowledged += 1;
            }
            Answer::Moved(to) => self.clients.at[shard] = Some(to),
            Answer::Found(_) | Answer::Error(_) => self.clients.at[shard] = None,
        }
    }

    /// A client has waited long enough.
    pub fn gave_up(&mut self, number: u64) {
        if let Some((shard, _)) = self.clients.waiting.remove(&number) {
            self.clients.at[shard] = None;
        }
    }
}
