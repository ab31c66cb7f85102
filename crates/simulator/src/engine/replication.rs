//! Histories and offsets, and an engine as the source of replicas.

use super::Chance;
use super::data::Write;
use super::disk::Snapshot;
use super::interface::{Ip, Lane};
use super::process::Engine;
use super::replica::Source;
use super::types::{Addr, Repl, ReplId};
use std::collections::VecDeque;

pub(super) const CRON_MS: u64 = 1_000;

/// The last writes, for replicas that come back.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    /// The offset before the first write.
    pub(super) after: i64,
    pub(super) writes: VecDeque<Write>,
}

/// A replica's connection.
#[derive(Clone, Debug)]
pub(super) struct ReplicaLink {
    pub(super) peer: Ip,
    pub(super) connection: u64,
    pub(super) announce: Addr,
    pub(super) online: bool,
    pub(super) offset: i64,
    pub(super) heard_ms: u64,
}

/// The state of replication.
#[derive(Clone, Debug)]
pub(super) struct Replication {
    pub(super) replid: ReplId,
    pub(super) replid2: ReplId,
    /// −1 where there is no second history.
    pub(super) second_offset: i64,
    pub(super) offset: i64,
    pub(super) backlog: Option<Backlog>,
    pub(super) replicas: Vec<ReplicaLink>,
    pub(super) source: Option<Source>,
    /// The history and offset from which a lost link may go on.
    pub(super) resume: Option<(ReplId, i64)>,
    pub(super) cron_ms: u64,
    ping_ms: u64,
    pub(super) full_syncs: u64,
    pub(super) partial_syncs: u64,
}

impl Replication {
    pub(super) fn new(replid: ReplId, now: u64) -> Self {
        Self {
            replid,
            replid2: ReplId::default(),
            second_offset: -1,
            offset: 0,
            backlog: None,
            replicas: Vec::new(),
            source: None,
            resume: None,
            cron_ms: now,
            ping_ms: now,
            full_syncs: 0,
            partial_syncs: 0,
        }
    }

    pub(super) fn make_backlog(&mut self) {
        if self.backlog.is_none() {
            self.backlog = Some(Backlog { after: self.offset, writes: VecDeque::new() });
        }
    }

    /// A new history; the old one stays known up to here.
    pub(super) fn shift(&mut self, chance: &mut Chance) {
        self.replid2 = self.replid;
        self.second_offset = self.offset + 1;
        self.replid = ReplId(chance.next());
    }

    pub(super) fn forget_second(&mut self) {
        self.replid2 = ReplId::default();
        self.second_offset = -1;
    }

    pub(super) fn resume_from_self(&mut self) {
        self.make_backlog();
        self.resume = Some((self.replid, self.offset));
    }

    pub(super) fn resumable(&self) -> bool {
        self.resume.is_some() || self.source.as_ref().is_some_and(Source::is_up)
    }

    /// Whether a replica may go on after an offset of a history.
    fn has(&self, replid: ReplId, offset: i64) -> bool {
        let known = replid == self.replid || (replid == self.replid2 && offset < self.second_offset);
        known && self.backlog.as_ref().is_some_and(|backlog| offset >= backlog.after && offset <= self.offset)
    }

    fn online(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.online).count()
    }

    /// How many replicas acknowledged an offset.
    pub(super) fn acknowledged(&self, offset: i64) -> usize {
        self.replicas.iter().filter(|replica| replica.online && replica.offset >= offset).count()
    }

    /// How many replicas count for `min-replicas-to-write`.
    pub(super) fn good(&self, lag_s: u64, now: u64) -> usize {
        let fresh =
            |replica: &&ReplicaLink| replica.online && now.saturating_sub(replica.heard_ms) / 1000 <= lag_s;
        self.replicas.iter().filter(fresh).count()
    }
}

impl Engine {
    /// A write of a primary's client: done, kept, sent.
    pub(super) fn write(&mut self, write: Write) {
        self.data.apply(&write);
        self.on_disk.wrote(&write);
        self.propagate(write);
    }

    /// Puts a write into the stream; without a replica now or before, there is none.
    pub(super) fn propagate(&mut self, write: Write) {
        if self.repl.backlog.is_none() {
            if self.settings.append_only && self.can.shards {
                // The newer engines count their append-only file's progress by this number.
                self.repl.offset += 1;
            }
            return;
        }
        let after = self.repl.offset;
        self.stream(after, vec![write]);
    }

    /// Takes writes into the own history and passes them on.
    pub(super) fn stream(&mut self, after: i64, writes: Vec<Write>) {
        self.repl.offset = after + writes.iter().map(Write::bytes).sum::<i64>();
        if let Some(backlog) = &mut self.repl.backlog {
            backlog.writes.extend(writes.iter().cloned());
            while backlog.writes.len() > self.backlog_writes {
                if let Some(write) = backlog.writes.pop_front() {
                    backlog.after += write.bytes();
                }
            }
        }
        for index in 0..self.repl.replicas.len() {
            let replica = &self.repl.replicas[index];
            if replica.online {
                let (to, connection) = (replica.announce, replica.connection);
                self.send_repl(to, connection, Repl::Stream { after, writes: writes.clone() });
            }
        }
    }

    pub(super) fn drop_replicas(&mut self) {
        for replica in std::mem::take(&mut self.repl.replicas) {
            self.reset(replica.peer, Lane::Replication, replica.connection);
        }
    }

    /// A replica asks to follow, with a password that is known here, or not.
    pub(super) fn psync(
        &mut self,
        peer: Ip,
        connection: u64,
        known: bool,
        (replid, offset): (ReplId, i64),
        announce: Addr,
    ) {
        let unlinked = self.repl.source.as_ref().is_some_and(|source| !source.is_up());
        if !known || !self.source_open || self.loading.is_some() || unlinked {
            self.send_repl(announce, connection, Repl::Denied);
            return;
        }
        // One connection for each replica; an older one is dead if it comes again.
        self.repl.replicas.retain(|replica| replica.announce.ip != announce.ip);
        let mut link = ReplicaLink { peer, connection, announce, online: false, offset, heard_ms: self.now };
        if replid != ReplId::default() && self.repl.has(replid, offset) {
            self.repl.partial_syncs += 1;
            link.online = true;
            self.repl.replicas.push(link);
            self.send_repl(announce, connection, Repl::Continue { replid: self.repl.replid });
            self.catch_up(self.repl.replicas.len() - 1, offset);
            return;
        }
        self.repl.full_syncs += 1;
        if self.repl.backlog.is_none() {
            // The first replica: what was written before belongs to no history that anybody may go on from.
            self.repl.replid = ReplId(self.chance.next());
            self.repl.forget_second();
            self.repl.offset += 1;
            self.repl.make_backlog();
        }
        link.offset = 0;
        self.repl.replicas.push(link);
        let Snapshot { data, .. } = self.snapshot();
        let full = Repl::Full { replid: self.repl.replid, offset: self.repl.offset, data };
        self.send_repl(announce, connection, full);
    }

    /// Sends a replica what it lacks after an offset; `false` if the backlog does not reach back so far.
    fn catch_up(&mut self, index: usize, offset: i64) -> bool {
        let replica = &self.repl.replicas[index];
        let (to, connection) = (replica.announce, replica.connection);
        let Some(backlog) = self.repl.backlog.as_ref().filter(|backlog| offset >= backlog.after) else {
            return false;
        };
        let mut at = backlog.after;
        let mut writes = Vec::new();
        for write in &backlog.writes {
            if at >= offset {
                writes.push(write.clone());
            }
            at += write.bytes();
        }
        if !writes.is_empty() {
            self.send_repl(to, connection, Repl::Stream { after: offset, writes });
        }
        true
    }

    /// A replica says how far it is.
    pub(super) fn acknowledge(&mut self, peer: Ip, connection: u64, offset: i64) {
        let found =
            self.repl.replicas.iter().position(|link| link.peer == peer && link.connection == connection);
        let Some(index) = found else {
            self.reset(peer, Lane::Replication, connection);
            return;
        };
        let replica = &mut self.repl.replicas[index];
        replica.offset = offset;
        replica.heard_ms = self.now;
        if !replica.online {
            replica.online = true;
            if !self.catch_up(index, offset) {
                let gone = self.repl.replicas.remove(index);
                self.reset(gone.peer, Lane::Replication, gone.connection);
            }
        }
    }

    /// Once a second: heartbeats, time-outs, acknowledgements, reconnections.
    pub(super) fn replication_cron(&mut self) {
        let now = self.now;
        if now < self.repl.cron_ms {
            return;
        }
        self.repl.cron_ms = now + CRON_MS;
        if now >= self.repl.ping_ms + self.settings.ping_every_ms {
            self.repl.ping_ms = now;
            let manual =
                self.cluster.as_ref().is_some_and(|cluster| cluster.manual.end_ms != 0) && self.paused();
            if self.repl.source.is_none() && self.repl.online() > 0 && !manual {
                self.propagate(Write::Ping);
            }
        }
        let timeout = self.settings.repl_timeout_ms;
        let mut index = 0;
        while index < self.repl.replicas.len() {
            let replica = &self.repl.replicas[index];
            if replica.online && now.saturating_sub(replica.heard_ms) > timeout {
                let gone = self.repl.replicas.remove(index);
                self.reset(gone.peer, Lane::Replication, gone.connection);
            } else {
                index += 1;
            }
        }
        self.replica_cron();
    }
}
