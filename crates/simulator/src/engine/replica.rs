//! An engine as a replica: connecting, partial and full syncs, the stream.

use super::data::{Data, Marks, Write};
use super::interface::{Ip, Lane};
use super::process::Engine;
use super::types::{Addr, Body, Repl, ReplId, Says};

/// Where the link to the source is.
#[derive(Clone, Debug)]
enum Link {
    /// No connection; the next try is then.
    Down { retry_ms: u64 },
    /// A connection that asked and was not answered yet.
    Asking { connection: u64, since_ms: u64 },
    /// A full sync is being received until then.
    Receiving { connection: u64, until_ms: u64, full: Full },
    /// The old data is gone, the new one is loaded until then; a broken connection does not stop it.
    Loading { connection: Option<u64>, until_ms: u64, full: Full },
    /// The stream flows.
    Up { connection: u64 },
}

#[derive(Clone, Debug)]
struct Full {
    replid: ReplId,
    offset: i64,
    data: Data,
}

/// Whom an engine follows.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) addr: Addr,
    link: Link,
    pub(super) heard_ms: u64,
    pub(super) up_since_ms: u64,
    pub(super) down_since_ms: u64,
}

impl Source {
    pub(super) fn new(addr: Addr, now: u64) -> Self {
        Self { addr, link: Link::Down { retry_ms: now }, heard_ms: now, up_since_ms: now, down_since_ms: now }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    pub(super) fn is_syncing(&self) -> bool {
        matches!(self.link, Link::Receiving { .. } | Link::Loading { .. })
    }

    pub(super) fn is_loading(&self) -> bool {
        matches!(self.link, Link::Loading { .. })
    }

    fn connection(&self) -> Option<u64> {
        match &self.link {
            Link::Down { .. } => None,
            Link::Asking { connection, .. }
            | Link::Receiving { connection, .. }
            | Link::Up { connection } => Some(*connection),
            Link::Loading { connection, .. } => *connection,
        }
    }
}

impl Engine {
    pub(super) fn send_repl(&mut self, to: Addr, connection: u64, repl: Repl) {
        let body = Body { port: to.port, says: Says::Repl(repl) };
        self.send(to.ip, Lane::Replication, connection, Some(body));
    }

    /// When the link has something to do.
    pub(super) fn replica_due_ms(&self) -> Option<u64> {
        match self.repl.source.as_ref()?.link {
            Link::Down { retry_ms } => Some(retry_ms),
            Link::Receiving { until_ms, .. } | Link::Loading { until_ms, .. } => Some(until_ms),
            Link::Asking { .. } | Link::Up { .. } => None,
        }
    }

    /// Follows a source. What was a primary offers its own history to go on from.
    pub(super) fn set_source(&mut self, addr: Addr) {
        match self.repl.source.take() {
            None => self.repl.resume_from_self(),
            Some(old) => {
                if old.is_up() {
                    self.repl.resume = Some((self.repl.replid, self.repl.offset));
                }
                self.close_source(&old);
            }
        }
        self.drop_replicas();
        self.repl.source = Some(Source::new(addr, self.now));
        self.replica_work();
    }

    fn close_source(&mut self, old: &Source) {
        if let Some(connection) = old.connection() {
            self.reset(old.addr.ip, Lane::Replication, connection);
        }
    }

    /// Becomes a source of its own: a new history, the old one known up to here.
    pub(super) fn unset_source(&mut self) {
        let Some(old) = self.repl.source.take() else { return };
        self.close_source(&old);
        self.repl.resume = None;
        self.repl.shift(&mut self.chance);
        self.repl.make_backlog();
        self.drop_replicas();
    }

    /// What is due on the link now.
    pub(super) fn replica_work(&mut self) {
        let now = self.now;
        let Some(source) = &mut self.repl.source else { return };
        match &source.link {
            Link::Down { retry_ms } if now >= *retry_ms => {
                let connection = self.chance.next();
                source.link = Link::Asking { connection, since_ms: now };
                source.heard_ms = now;
                let to = source.addr;
                let (replid, offset) = self.repl.resume.unwrap_or((ReplId::default(), -1));
                self.send_repl(
                    to,
                    connection,
                    Repl::Psync { password: self.password, replid, offset, announce: self.settings.own },
                );
            }
            Link::Receiving { until_ms, .. } if now >= *until_ms => self.begin_replacing(),
            Link::Loading { until_ms, .. } if now >= *until_ms => self.finish_replacing(),
            _ => {}
        }
    }

    /// The file is here: the old data goes before the new one is loaded.
    fn begin_replacing(&mut self) {
        let Some(source) = &mut self.repl.source else { return };
        let Link::Receiving { connection, full, .. } =
            std::mem::replace(&mut source.link, Link::Down { retry_ms: 0 })
        else {
            return;
        };
        let took = (full.data.len() as u64).saturating_mul(self.load_us_per_write) / 1_000;
        source.link = Link::Loading { connection: Some(connection), until_ms: self.now + took, full };
        let old = std::mem::take(&mut self.data);
        self.disk_before_sync(&old);
        self.repl.backlog = None;
        self.drop_replicas();
        self.replica_work();
    }

    fn finish_replacing(&mut self) {
        let now = self.now;
        let Some(source) = &mut self.repl.source else { return };
        let Link::Loading { connection, full, .. } =
            std::mem::replace(&mut source.link, Link::Down { retry_ms: now })
        else {
            return;
        };
        source.heard_ms = now;
        let to = source.addr;
        if let Some(connection) = connection {
            (source.link, source.up_since_ms) = (Link::Up { connection }, now);
        }
        self.data = full.data;
        self.repl.replid = full.replid;
        self.repl.offset = full.offset;
        self.repl.forget_second();
        self.repl.make_backlog();
        self.repl.resume = Some((full.replid, full.offset));
        if let Some(connection) = connection {
            self.send_repl(to, connection, Repl::Ack { offset: full.offset });
        }
        self.disk_after_sync();
    }

    /// Once a second: the acknowledgement, the next try, the time-out.
    pub(super) fn replica_cron(&mut self) {
        let (now, timeout) = (self.now, self.settings.repl_timeout_ms);
        let Some(source) = &self.repl.source else { return };
        let silent = now.saturating_sub(source.heard_ms) > timeout;
        match &source.link {
            Link::Up { connection } if silent => self.lose_source(*connection, true),
            Link::Asking { connection, since_ms } if now.saturating_sub(*since_ms) > timeout => {
                self.lose_source(*connection, true);
            }
            Link::Up { connection } => {
                let (to, connection, offset) = (source.addr, *connection, self.repl.offset);
                self.send_repl(to, connection, Repl::Ack { offset });
            }
            _ => {}
        }
        self.replica_work();
    }

    /// The connection is lost; what is up may go on later from where it is.
    fn lose_source(&mut self, connection: u64, tell: bool) {
        // Reconnections are the work of a cron of one second.
        let (now, retry_ms) = (self.now, self.repl.cron_ms.max(self.now + 1));
        let Some(source) = &mut self.repl.source else { return };
        if source.connection() != Some(connection) {
            return;
        }
        let to = source.addr;
        match &mut source.link {
            Link::Loading { connection, .. } => *connection = None,
            link => {
                if matches!(link, Link::Up { .. }) {
                    self.repl.resume = Some((self.repl.replid, self.repl.offset));
                    source.down_since_ms = now;
                }
                *link = Link::Down { retry_ms };
            }
        }
        if tell {
            self.reset(to.ip, Lane::Replication, connection);
        }
    }

    /// Ends a link that is up, to go on from there (`CLIENT KILL TYPE master`); says whether there was one.
    pub(super) fn ask_source_anew(&mut self) -> bool {
        let up = self.repl.source.as_ref().filter(|source| source.is_up()).and_then(Source::connection);
        if let Some(connection) = up {
            self.lose_source(connection, true);
        }
        up.is_some()
    }

    /// A replication connection with a peer is closed, from either side.
    pub(super) fn repl_broken(&mut self, peer: Ip, connection: u64) {
        self.repl.replicas.retain(|replica| (replica.peer, replica.connection) != (peer, connection));
        if self.repl.source.as_ref().is_some_and(|source| source.addr.ip == peer) {
            self.lose_source(connection, false);
        }
    }

    pub(super) fn repl_packet(&mut self, from: Ip, connection: u64, repl: Repl) {
        match repl {
            Repl::Psync { password, replid, offset, announce } => {
                let known = password == self.password;
                self.psync(from, connection, known, (replid, offset), announce)
            }
            Repl::Ack { offset } => self.acknowledge(from, connection, offset),
            answer => self.answer_of_source(from, connection, answer),
        }
    }

    fn answer_of_source(&mut self, from: Ip, connection: u64, answer: Repl) {
        let now = self.now;
        let known = |source: &&mut Source| source.addr.ip == from && source.connection() == Some(connection);
        let Some(source) = self.repl.source.as_mut().filter(known) else {
            self.reset(from, Lane::Replication, connection);
            return;
        };
        source.heard_ms = now;
        match (answer, &source.link) {
            (Repl::Denied, _) => self.lose_source(connection, false),
            (Repl::Continue { replid }, Link::Asking { .. }) => {
                (source.link, source.up_since_ms) = (Link::Up { connection }, now);
                if replid != self.repl.replid {
                    // The same history under a new name: the old name stays known up to here.
                    self.repl.replid2 = self.repl.replid;
                    self.repl.second_offset = self.repl.offset + 1;
                    self.repl.replid = replid;
                    self.drop_replicas();
                }
                self.repl.make_backlog();
                let (to, offset) = (self.repl.source.as_ref().map(|source| source.addr), self.repl.offset);
                if let Some(to) = to {
                    self.send_repl(to, connection, Repl::Ack { offset });
                }
            }
            (Repl::Full { replid, offset, data }, Link::Asking { .. }) => {
                // From here on there is nothing to go on from: should it break off, it begins anew.
                self.repl.resume = None;
                let full = Full { replid, offset, data };
                source.link = Link::Receiving { connection, until_ms: now + self.settings.sync_ms, full };
            }
            (Repl::Stream { after, writes }, Link::Up { .. }) => {
                if after == self.repl.offset {
                    self.take_in(after, writes);
                } else {
                    self.lose_source(connection, true);
                }
            }
            _ => {}
        }
    }

    /// Applies the stream and passes it on.
    fn take_in(&mut self, after: i64, writes: Vec<Write>) {
        for write in &writes {
            self.data.apply(write);
            match write {
                Write::Ping => {}
                Write::SetSlot(set) => self.replicated_setslot(set.slot, set.to),
                _ => self.on_disk.wrote(write),
            }
        }
        self.stream(after, writes);
    }

    fn replicated_setslot(&mut self, slot: u16, to: Marks) {
        if let Some(cluster) = &mut self.cluster {
            cluster.mark(slot, to);
        }
    }
}
