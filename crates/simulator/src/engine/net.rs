//! A plain network of engines, for the checks of the model against the real thing: every packet takes the same time, nothing
//! is lost, and processes are killed, frozen and started by hand.

use super::{
    Answer, Disk, Engine, EngineConfig, Ip, Lane, Model, Ms, NodesConf, Out, Packet, Reply, Request,
    types::Body,
};
use std::collections::{BTreeMap, BTreeSet};

/// One place for a process: its address, its disk, and the process while it lives.
#[derive(Debug, Default)]
struct Place {
    engine: Option<Engine>,
    disk: Disk,
    nodes: Option<NodesConf>,
    wake_ms: Option<Ms>,
    frozen: bool,
}

/// Engines and what is on its way between them.
#[derive(Debug)]
pub struct Net {
    now: Ms,
    delay_ms: Ms,
    seed: u64,
    sent: u64,
    steps: u64,
    places: BTreeMap<Ip, Place>,
    flying: BTreeMap<(Ms, u64), (Ip, Packet<Body>)>,
    open: BTreeSet<(Ip, Ip, Lane, u64)>,
    answers: Vec<(Ip, u64, Answer)>,
}

impl Net {
    /// An empty network in which a packet takes some milliseconds.
    #[must_use]
    pub fn new(seed: u64, delay_ms: Ms) -> Self {
        Self {
            now: 1_000_000,
            delay_ms,
            seed,
            sent: 0,
            steps: 0,
            places: BTreeMap::new(),
            flying: BTreeMap::new(),
            open: BTreeSet::new(),
            answers: Vec::new(),
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Ms {
        self.now
    }

    /// The process at an address, if one lives.
    #[must_use]
    pub fn engine(&self, ip: Ip) -> Option<&Engine> {
        self.places.get(&ip)?.engine.as_ref()
    }

    /// How many calls were made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Starts a process on the disk that is at its address; with the identity that was left there, or without.
    pub fn start(&mut self, config: EngineConfig, keep_identity: bool) {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let (ip, seed, now) = (config.ip, self.seed, self.now);
        let place = self.places.entry(ip).or_default();
        let nodes = place.nodes.take().filter(|_| keep_identity);
        place.engine = Some(Engine::begin(config, &place.disk, nodes.as_ref(), seed, now));
        (place.wake_ms, place.frozen) = (Some(now), false);
    }

    /// Kills a process; every connection is closed at once. `power`: with its machine, so that what was not on disk is lost.
    pub fn kill(&mut self, ip: Ip, power: bool) {
        let Some(place) = self.places.get_mut(&ip) else { return };
        let Some(engine) = place.engine.take() else { return };
        place.disk = engine.disk(power);
        place.nodes = engine.nodes_conf();
        place.wake_ms = None;
        self.flying.retain(|_, (from, packet)| *from != ip && packet.to != ip);
        let broken: Vec<_> = self.open.iter().filter(|(a, b, ..)| *a == ip || *b == ip).copied().collect();
        for (a, b, lane, connection) in broken {
            self.open.remove(&(a, b, lane, connection));
            let peer = if a == ip { b } else { a };
            self.with(peer, |engine, now, out| engine.broken(now, ip, lane, connection, out));
        }
    }

    /// Wipes the disk at an address.
    pub fn wipe(&mut self, ip: Ip) {
        if let Some(place) = self.places.get_mut(&ip) {
            place.disk = Disk::default();
        }
    }

    /// Stops a process where it is, or lets it go on; packets wait for it.
    pub fn freeze(&mut self, ip: Ip, frozen: bool) {
        if let Some(place) = self.places.get_mut(&ip) {
            place.frozen = frozen;
        }
    }

    /// Gives a command; `None` if nobody answers.
    pub fn command(&mut self, ip: Ip, words: &[&str]) -> Option<Reply> {
        self.with(ip, |engine, now, out| engine.command(now, words, out))
    }

    /// Sends a client's request; what it is answered comes with [`Net::answers`].
    pub fn request(&mut self, ip: Ip, number: u64, request: Request) {
        self.with(ip, |engine, now, out| engine.client(now, number, request, out));
    }

    /// The answers to requests since the last time.
    pub fn answers(&mut self) -> Vec<(Ip, u64, Answer)> {
        std::mem::take(&mut self.answers)
    }

    fn with<T>(&mut self, ip: Ip, act: impl FnOnce(&mut Engine, Ms, &mut Out<Body>) -> T) -> Option<T> {
        let place = self.places.get_mut(&ip).filter(|place| !place.frozen)?;
        let engine = place.engine.as_mut()?;
        self.steps += 1;
        let mut out = Out::default();
        let answer = act(engine, self.now, &mut out);
        place.wake_ms = out.wake_ms;
        if out.ended.is_some() {
            self.kill(ip, false);
            return Some(answer);
        }
        self.answers.extend(out.replies.into_iter().map(|(number, answer)| (ip, number, answer)));
        for packet in out.packets {
            self.sent += 1;
            let pair = (ip.min(packet.to), ip.max(packet.to), packet.lane, packet.connection);
            if packet.body.is_some() {
                self.open.insert(pair);
            } else {
                self.open.remove(&pair);
            }
            self.flying.insert((self.now + self.delay_ms, self.sent), (ip, packet));
        }
        Some(answer)
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: Ms) {
        let until = self.now + ms;
        loop {
            let frozen =
                |ip: &Ip| self.places.get(ip).is_some_and(|place| place.frozen && place.engine.is_some());
            let packet = self.flying.iter().find(|(_, (_, packet))| !frozen(&packet.to)).map(|(key, _)| *key);
            let wake = self
                .places
                .iter()
                .filter(|(_, place)| !place.frozen && place.engine.is_some())
                .filter_map(|(ip, place)| Some((place.wake_ms?, *ip)))
                .min();
            let at = match (packet, wake) {
                (Some((at, _)), Some((wake, _))) => at.min(wake),
                (Some((at, _)), None) => at,
                (None, Some((wake, _))) => wake,
                (None, None) => until,
            };
            if at >= until {
                break;
            }
            self.now = self.now.max(at);
            match (packet, wake) {
                (Some(key), wake) if wake.is_none_or(|(wake, _)| key.0 <= wake) => {
                    if let Some((from, packet)) = self.flying.remove(&key) {
                        self.deliver(from, packet);
                    }
                }
                (_, Some((_, ip))) => {
                    self.with(ip, |engine, now, out| engine.tick(now, out));
                }
                _ => {}
            }
        }
        self.now = self.now.max(until);
    }

    fn deliver(&mut self, from: Ip, packet: Packet<Body>) {
        let to = packet.to;
        let (lane, connection) = (packet.lane, packet.connection);
        if self.engine(to).is_some() {
            self.with(to, |engine, now, out| engine.packet(now, from, packet, out));
        } else {
            // Nobody listens there.
            self.with(from, |engine, now, out| engine.broken(now, to, lane, connection, out));
        }
    }
}
