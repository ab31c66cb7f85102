//! What outlives the process: a snapshot, an append-only file, and what the cluster wrote down about itself.

use super::cluster::{Cluster, Node};
use super::data::{Data, Write};
use super::process::Engine;
use super::slots::Slots;
use super::types::{Addr, NodeId, ReplId};
use std::sync::Arc;

const FSYNC_EVERY_MS: u64 = 1_000;
/// How long a snapshot or a rewrite takes with little data.
const SAVE_MS: u64 = 40;

/// A snapshot file: the data, and the history and offset that were written into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) data: Data,
    pub(crate) history: Option<(ReplId, i64)>,
}

/// A volume's content. `nodes.conf` is not part of it: Kagami puts that aside at every start ([`NodesConf`] has it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub(crate) snapshot: Option<Snapshot>,
    /// The append-only file, where there is one.
    pub(crate) log: Option<Data>,
}

/// A node as `nodes.conf` keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    id: NodeId,
    addr: Addr,
    replica: bool,
    primary: Option<NodeId>,
    epoch: u64,
    slots: Arc<Slots>,
    fail: bool,
    shard: u64,
}

/// What `nodes.conf` says. Kagami never starts an engine with it; the checks against the real engine do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesConf {
    nodes: Vec<Kept>,
    current_epoch: u64,
    last_vote_epoch: u64,
}

impl NodesConf {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let kept = |node: &Node| Kept {
            id: node.id,
            addr: node.addr,
            replica: node.replica,
            primary: node.primary,
            epoch: node.epoch,
            slots: node.slots.clone(),
            fail: node.fail,
            shard: node.shard,
        };
        Self {
            nodes: cluster.nodes.iter().filter(|node| !node.handshake && !node.noaddr).map(kept).collect(),
            current_epoch: cluster.current_epoch,
            last_vote_epoch: cluster.last_vote_epoch,
        }
    }

    pub(super) fn restore(&self, cluster: &mut Cluster, own: Addr, now: u64) {
        cluster.nodes = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, kept)| Node {
                replica: kept.replica,
                primary: kept.primary,
                epoch: kept.epoch,
                slots: kept.slots.clone(),
                fail: kept.fail,
                fail_ms: now,
                ..Node::new(kept.id, if index == 0 { own } else { kept.addr }, kept.shard, now)
            })
            .collect();
        cluster.current_epoch = self.current_epoch;
        cluster.last_vote_epoch = self.last_vote_epoch;
    }
}

/// A dataset on its way from the disk into memory.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    pub(super) until_ms: u64,
    snapshot: Snapshot,
    from_log: bool,
}

/// What the engine does with its disk.
#[derive(Clone, Debug)]
pub(super) struct State {
    snapshot: Option<Snapshot>,
    /// The append-only file follows the data, unless a full sync came and it is still the old one.
    log: Log,
    /// Writes since the last fsync.
    unsynced: Vec<Write>,
    fsync_ms: u64,
    saving: Option<(u64, Snapshot)>,
    pub(super) last_save_ms: u64,
    next_save_ms: Option<u64>,
    pub(super) changes: u64,
    /// Writes reach the file only with the next fsync.
    pub(super) slow: bool,
}

#[derive(Clone, Debug)]
enum Log {
    Off,
    Follows,
    /// Being written anew until then; on disk there is the old one.
    Rewriting(u64, Option<Data>),
}

impl State {
    pub(super) fn new(disk: &Disk, save_every_ms: Option<u64>, now: u64) -> Self {
        Self {
            snapshot: disk.snapshot.clone(),
            log: Log::Off,
            unsynced: Vec::new(),
            fsync_ms: now + FSYNC_EVERY_MS,
            saving: None,
            last_save_ms: now,
            next_save_ms: save_every_ms.map(|every| now + every),
            changes: 0,
            slow: false,
        }
    }

    pub(super) fn due_ms(&self) -> u64 {
        let mut due = u64::MAX;
        if !self.unsynced.is_empty() {
            due = self.fsync_ms;
        }
        if let Log::Rewriting(until, _) = &self.log {
            due = due.min(*until);
        }
        if let Some((until, _)) = &self.saving {
            due = due.min(*until);
        }
        due.min(self.next_save_ms.unwrap_or(u64::MAX))
    }

    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Whether writes to the append-only file wait for a slow fsync.
    pub(super) fn puts_off(&self) -> bool {
        self.slow && !self.unsynced.is_empty()
    }

    pub(super) fn is_rewriting(&self) -> bool {
        matches!(self.log, Log::Rewriting(..))
    }

    pub(super) fn wrote(&mut self, write: &Write) {
        self.changes += 1;
        if matches!(self.log, Log::Follows) {
            self.unsynced.push(write.clone());
        }
    }
}

impl Engine {
    /// Begins to load what the disk holds: the append-only file where that is on, else the snapshot.
    pub(super) fn begin_loading(&mut self, disk: &Disk) {
        let (snapshot, from_log) = match (&disk.log, self.settings.append_only) {
            (Some(log), true) => (Snapshot { data: log.clone(), history: None }, true),
            (None, true) | (_, false) => match &disk.snapshot {
                // With the append-only file on, a lone snapshot is not looked at.
                Some(snapshot) if !self.settings.append_only => (snapshot.clone(), false),
                _ => {
                    self.log_follows();
                    return;
                }
            },
        };
        let took = (snapshot.data.len() as u64).saturating_mul(self.load_us_per_write) / 1_000;
        self.loading = Some(Loading { until_ms: self.now + took, snapshot, from_log });
        self.finish_loading();
    }

    fn log_follows(&mut self) {
        if self.settings.append_only {
            self.on_disk.log = Log::Follows;
        }
    }

    pub(super) fn finish_loading(&mut self) {
        if self.loading.as_ref().is_none_or(|loading| loading.until_ms > self.now) {
            return;
        }
        let Some(Loading { snapshot, from_log, .. }) = self.loading.take() else { return };
        self.data = snapshot.data;
        if let Some((replid, offset)) = snapshot.history.filter(|_| !from_log) {
            let primary = match &self.cluster {
                Some(cluster) => !cluster.me().replica,
                None => self.repl.source.is_none(),
            };
            if !primary {
                self.repl.replid = replid;
                self.repl.offset = offset;
                self.repl.resume_from_self();
            } else if self.can.loads_history {
                self.repl.replid2 = replid;
                self.repl.second_offset = offset + 1;
                self.repl.offset = offset;
                self.repl.make_backlog();
            }
        }
        self.log_follows();
        self.claim_loaded_slots();
    }

    /// A cluster's primary that loaded keys of slots that nobody owns takes those slots.
    fn claim_loaded_slots(&mut self) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.me().replica) else { return };
        for slot in self.data.slots() {
            match cluster.owner(slot).map(|node| node.id) {
                None => cluster.assign(&Slots::range(slot, slot), 0),
                Some(owner) if owner != cluster.me().id => {
                    cluster.importing.entry(slot).or_insert(owner);
                }
                Some(_) => {}
            }
        }
    }

    /// What a snapshot that is taken now says.
    pub(super) fn snapshot(&self) -> Snapshot {
        let replica = self.repl.source.is_some();
        let known = if replica { self.repl.resumable() } else { self.repl.backlog.is_some() };
        Snapshot { data: self.data.clone(), history: known.then_some((self.repl.replid, self.repl.offset)) }
    }

    pub(super) fn begin_save(&mut self) {
        if self.on_disk.saving.is_none() {
            self.on_disk.saving = Some((self.now + SAVE_MS, self.snapshot()));
        }
    }

    pub(super) fn save_now(&mut self) {
        self.on_disk.snapshot = Some(self.snapshot());
        self.on_disk.last_save_ms = self.now;
        self.on_disk.changes = 0;
    }

    /// A full sync begins to replace the data.
    pub(super) fn disk_before_sync(&mut self, old: &Data) {
        if self.settings.append_only {
            self.on_disk.log = Log::Rewriting(u64::MAX, Some(old.clone()));
            self.on_disk.unsynced.clear();
        }
    }

    /// A full sync replaced the data: the append-only file is written anew, and the received file stays where it is
    /// not told to go.
    pub(super) fn disk_after_sync(&mut self) {
        if let Log::Rewriting(until, _) = &mut self.on_disk.log {
            *until = self.now + SAVE_MS;
        } else if !self.settings.append_only && !self.del_sync_files {
            self.on_disk.snapshot = Some(self.snapshot());
        }
    }

    /// `CONFIG SET appendonly`.
    pub(super) fn set_append_only(&mut self, on: bool) {
        match (on, &self.on_disk.log) {
            (true, Log::Off) => self.on_disk.log = Log::Rewriting(self.now + SAVE_MS, None),
            (false, _) => self.on_disk.log = Log::Off,
            _ => {}
        }
    }

    pub(super) fn disk_cron(&mut self) {
        let now = self.now;
        let state = &mut self.on_disk;
        if now >= state.fsync_ms {
            state.fsync_ms = now + FSYNC_EVERY_MS;
            state.unsynced.clear();
        }
        if let Log::Rewriting(until, _) = &state.log
            && now >= *until
        {
            state.log = Log::Follows;
        }
        if state.saving.as_ref().is_some_and(|(until, _)| now >= *until)
            && let Some((_, snapshot)) = state.saving.take()
        {
            state.snapshot = Some(snapshot);
            state.last_save_ms = now;
        }
        if let (Some(due), Some(every)) = (state.next_save_ms, self.save_every_ms)
            && now >= due
        {
            state.next_save_ms = Some(now + every);
            if state.changes > 0 {
                state.changes = 0;
                self.begin_save();
            }
        }
    }

    /// What the disk holds if the process ends now.
    pub(super) fn disk_now(&self, power_lost: bool) -> Disk {
        let log = match &self.on_disk.log {
            Log::Off => None,
            Log::Rewriting(_, old) => old.clone(),
            Log::Follows => {
                // While it loads, the file is what it was.
                let mut data =
                    self.loading.as_ref().map_or(&self.data, |loading| &loading.snapshot.data).clone();
                if power_lost || self.on_disk.slow {
                    for write in self.on_disk.unsynced.iter().rev() {
                        match write {
                            Write::Set(key) => data.apply(&Write::Del(*key)),
                            Write::Del(key) => data.apply(&Write::Set(*key)),
                            Write::Flush | Write::Ping | Write::SetSlot(_) => {}
                        }
                    }
                }
                Some(data)
            }
        };
        let log = log.or_else(|| {
            self.loading
                .as_ref()
                .filter(|loading| loading.from_log)
                .map(|loading| loading.snapshot.data.clone())
        });
        Disk { snapshot: self.on_disk.snapshot.clone(), log }
    }
}
