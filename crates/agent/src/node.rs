//! What the agent knows of its node, and the report it makes of it. Locks are held for moments, never across waiting.

use crate::args::Settings;
use crate::client::Client;
use crate::durable::Durable;
use crate::guard::{Acknowledgements, Facts, Guard};
use crate::process::{LastWords, Reaper};
use crate::record::{self, RecordError};
use crate::unwritten::Unwritten;
use crate::version::Version;
use crate::whole::Whole;
use kagami_protocol::{Boot, EngineState, EngineView, Exit, Record, Report, Role, Start, StartData};
use rustix::process::{Pid, Signal};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::AbortHandle;

/// One life of the engine.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) boot: Boot,
    pub(crate) pid: Pid,
    pub(crate) started: Instant,
    pub(crate) started_wall: std::time::SystemTime,
    pub(crate) last_words: LastWords,
    pub(crate) out_of_memory_before: u64,
    pub(crate) start: Start,
    pub(crate) cluster: bool,
    pub(crate) version: Arc<Version>,
    pub(crate) client: Arc<Client>,
    /// When it last answered, or was started.
    pub(crate) heard_ms: u64,
    pub(crate) whole: Whole,
    pub(crate) durable: Durable,
    pub(crate) unwritten: Unwritten,
    /// The engine was seen when it was not loading (any more).
    pub(crate) loaded: bool,
    /// The term in which an election was asked for: once is enough.
    pub(crate) election_term: Option<u64>,
    /// Whether replicas may log in, as last set; `None` when that is not known (a command failed half-way).
    pub(crate) source_open: Option<bool>,
    /// `replica-serve-stale-data no` stands, until the first sync is complete.
    pub(crate) stale_reads_off: bool,
    /// The role script that runs in the background after the start.
    pub(crate) script: Option<AbortHandle>,
    /// Until when the operator has paused writes.
    pub(crate) operator_pause_until_ms: u64,
    /// Until when writes are paused for the guard; renewed while it is fenced.
    pub(crate) guard_pause_until_ms: u64,
    /// Before 6.2: what `min-replicas-to-write` was before it became the pause.
    pub(crate) min_replicas: Option<String>,
    pub(crate) acknowledgements: HashMap<(String, u16), Acknowledgements>,
    /// The replica is in sync and nothing is put aside any more.
    pub(crate) previous_forgotten: bool,
}

/// Everything that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) boot: Boot,
    pub(crate) engine: EngineState,
    pub(crate) term: u64,
    pub(crate) operator_generation: u64,
    pub(crate) note: Option<Record>,
    pub(crate) has_data: bool,
    /// The note about what is put aside for good.
    pub(crate) kept: Option<Record>,
    pub(crate) view: Option<EngineView>,
    pub(crate) life: Option<Life>,
    pub(crate) exits: u32,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) terminating: bool,
    /// The last term in which this node was made or confirmed the primary: what it wrote then is that term's history.
    pub(crate) lead_term: u64,
    pub(crate) guard_on: bool,
    pub(crate) guard: Guard,
    /// Writes are paused for the guard.
    pub(crate) fenced: bool,
    pub(crate) trouble: String,
    /// Until when to look often.
    pub(crate) moving_until_ms: u64,
}

impl State {
    pub(crate) fn role(&self) -> Option<Role> {
        self.view.as_ref().and_then(|view| view.role)
    }

    /// What the guard needs to know.
    pub(crate) fn facts(&self) -> Facts {
        Facts { on: self.guard_on, primary: self.role() == Some(Role::Primary), term: self.term }
    }

    /// Whether the life that ends was given data to load and ended by itself before it had; a configuration that it refused
    /// says nothing about the data.
    pub(crate) fn failed_to_load(&self) -> bool {
        self.life.as_ref().is_some_and(|life| {
            life.start.data == StartData::Keep
                && !life.loaded
                && self.engine != EngineState::Stopping
                && !life.last_words.blames_the_start()
        })
    }

    /// In words, for refusals.
    pub(crate) fn describe(&self) -> String {
        match (&self.engine, self.role()) {
            (EngineState::Parked, _) if self.terminating => "parked, and its pod is terminating".into(),
            (EngineState::Parked, _) => "parked".into(),
            (EngineState::Starting, _) => "starting".into(),
            (EngineState::Stopping, _) => "stopping".into(),
            (EngineState::Running, Some(Role::Primary)) => "a primary".into(),
            (EngineState::Running, Some(Role::Replica)) => "a replica".into(),
            (EngineState::Running, None) => "running but not answering".into(),
        }
    }

    /// Brings the note up to date with the term and, where an engine says something of worth, with the data.
    pub(crate) fn write_down(&mut self, group: &str, node: &str) {
        let mut note = self.note.take().unwrap_or_default();
        group.clone_into(&mut note.group);
        node.clone_into(&mut note.node);
        note.term = self.term;
        note.operator_generation = self.operator_generation;
        note.at_ms = wall_ms();
        if let (Some(life), Some(view)) = (&self.life, &self.view) {
            if life.whole.complete() && !view.loading && view.role.is_some() {
                // An append-only file that is still being written anew is not what the engine holds, and is all that it loads.
                note.complete = life.durable.settled();
                note.role = view.role;
                view.replid.clone_into(&mut note.replid);
                note.offset = life.durable.offset();
                note.engine = life.version.to_string();
                note.unwritten = view.unwritten;
                note.failed_loads = 0;
                // A primary that merely heard of a higher term has written nothing in it.
                match view.role {
                    Some(Role::Primary) => note.data_term = note.data_term.max(self.lead_term),
                    _ if view.link.as_ref().is_some_and(|link| link.up) => note.data_term = self.term,
                    _ => {}
                }
            } else if life.whole.replaced() {
                note.complete = false;
            }
        }
        self.note = Some(note);
    }
}

/// The node, shared by all tasks.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: Settings,
    began: Instant,
    state: Mutex<State>,
    published: Mutex<Published>,
    reports: watch::Sender<Arc<Report>>,
    /// Wakes the observer.
    pub(crate) wake: Notify,
    /// Wakes the recorder.
    pub(crate) write_down: Notify,
    /// One order at a time.
    pub(crate) orders: tokio::sync::Mutex<()>,
    /// One look at the engine at a time, so that an older answer never follows a newer one.
    pub(crate) looking: tokio::sync::Mutex<()>,
    /// One writer of the note at a time.
    pub(crate) storing: tokio::sync::Mutex<()>,
    pub(crate) reaper: Reaper,
    pub(crate) version: OnceCell<(std::path::PathBuf, Arc<Version>)>,
    /// The highest operator generation: connections of a lower one end.
    pub(crate) generation: watch::Sender<u64>,
    /// Counts fences: connections from before one end, so that confirmations after it are known to be fresh.
    pub(crate) fences: watch::Sender<u64>,
    /// The agent ends, and why.
    pub(crate) closing: watch::Sender<Option<String>>,
    /// When the observer last went round.
    pub(crate) alive_ms: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Default)]
struct Published {
    seq: u64,
    /// The last report without what changes all the time.
    calm: Option<Report>,
    at_ms: u64,
}

/// The node's wall clock, in milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Node {
    pub(crate) fn new(settings: Settings, note: Option<Record>, has_data: bool, trouble: String) -> Self {
        let boot = Boot {
            pod_uid: settings.pod_uid.clone(),
            agent: Boot::agent_name(wall_ms(), rand::random()),
            run: 1,
        };
        let state = State {
            boot: boot.clone(),
            engine: EngineState::Parked,
            term: note.as_ref().map_or(0, |note| note.term),
            operator_generation: note.as_ref().map_or(0, |note| note.operator_generation),
            note,
            has_data,
            kept: crate::volume::kept(&settings.data_dir),
            view: None,
            life: None,
            exits: 0,
            last_exit: None,
            terminating: false,
            lead_term: 0,
            guard_on: false,
            guard: Guard::new(0),
            fenced: false,
            trouble,
            moving_until_ms: 0,
        };
        let generation = state.operator_generation;
        let report = report(&settings, &state);
        Self {
            settings,
            began: Instant::now(),
            state: Mutex::new(state),
            published: Mutex::default(),
            reports: watch::Sender::new(Arc::new(report)),
            wake: Notify::new(),
            write_down: Notify::new(),
            orders: tokio::sync::Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            reaper: Reaper::default(),
            version: OnceCell::new(),
            generation: watch::Sender::new(generation),
            fences: watch::Sender::new(0),
            closing: watch::Sender::new(None),
            alive_ms: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Milliseconds since the agent began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The state, for a moment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells the operator if that is worth telling.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state());
        self.publish();
        result
    }

    /// Changes the life that an order or a task is about, if it is still the current one.
    pub(crate) fn with_life<R>(&self, boot: &Boot, change: impl FnOnce(&mut Life) -> R) -> Option<R> {
        self.state().life.as_mut().filter(|life| life.boot == *boot).map(change)
    }

    /// Looks often for a while.
    pub(crate) fn expect_movement(&self, for_ms: u64) {
        let until = self.now_ms() + for_ms;
        {
            let mut state = self.state();
            state.moving_until_ms = state.moving_until_ms.max(until);
        }
        self.wake.notify_one();
    }

    /// Pushes a report if it says something new, or if the last full one is five seconds old.
    pub(crate) fn publish(&self) {
        let now_ms = self.now_ms();
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = report(&self.settings, &self.state());
        let calm = calm(&report);
        if published.calm.as_ref() == Some(&calm) && now_ms.saturating_sub(published.at_ms) < 5_000 {
            return;
        }
        published.seq += 1;
        published.at_ms = now_ms;
        published.calm = Some(calm);
        report.seq = published.seq;
        self.reports.send_replace(Arc::new(report));
    }

    /// The reports; only the newest is kept.
    pub(crate) fn reports(&self) -> watch::Receiver<Arc<Report>> {
        self.reports.subscribe()
    }

    /// Everything as it is now, with the sequence number of the last report that was pushed.
    pub(crate) fn current_report(&self) -> Report {
        let seq = self.published.lock().unwrap_or_else(PoisonError::into_inner).seq;
        Report { seq, ..report(&self.settings, &self.state()) }
    }

    /// Writes the note down now, fsynced.
    pub(crate) async fn store(&self) -> Result<(), RecordError> {
        let _in_turn = self.storing.lock().await;
        let note = {
            let mut state = self.state();
            state.write_down(&self.settings.group, &self.settings.node);
            state.note.clone()
        };
        let Some(note) = note else { return Ok(()) };
        let path = record::path(&self.settings.data_dir);
        let at = path.clone();
        tokio::task::spawn_blocking(move || record::save(&path, &note))
            .await
            .map_err(|error| RecordError::Io { path: at, source: std::io::Error::other(error) })?
    }

    /// Sends the engine a signal, if it is still that life.
    pub(crate) fn kill(&self, boot: &Boot) {
        self.with_life(boot, |life| {
            let _ = rustix::process::kill_process_group(life.pid, Signal::KILL);
        });
    }

    /// Writes the note whenever it changed in more than the offset, and each second when the data moved.
    pub(crate) async fn keep_note(&self) {
        let mut stored: Option<Record> = self.state().note.clone();
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(1_000), self.write_down.notified()).await;
            let note = {
                let mut state = self.state();
                if state.life.is_none() {
                    continue;
                }
                state.write_down(&self.settings.group, &self.settings.node);
                state.note.clone()
            };
            let (Some(new), old) = (note, stored.as_ref()) else { continue };
            if old.is_some_and(|old| same_data(old, &new, self.settings.persistent)) {
                continue;
            }
            if let Err(error) = self.store().await {
                tracing::error!(%error, "the note beside the data could not be written");
                self.change(|state| state.trouble = format!("the note beside the data: {error}"));
                continue;
            }
            stored = Some(new);
            // Offsets alone at most each second; `notified` keeps one permit for what comes meanwhile.
        }
    }
}

/// Whether two notes differ only in when they were written, or in offsets that nobody will ever compare.
fn same_data(a: &Record, b: &Record, persistent: bool) -> bool {
    let data = |record: &Record| {
        let offset = if persistent { record.offset } else { 0 };
        Record { at_ms: 0, offset, ..record.clone() }
    };
    data(a) == data(b)
}

fn report(settings: &Settings, state: &State) -> Report {
    Report {
        seq: 0,
        node: settings.node.clone(),
        boot: state.boot.clone(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        term: state.term,
        state: state.engine.clone(),
        persistent: settings.persistent,
        has_data: state.has_data,
        record: state.note.clone(),
        engine: state.view.clone(),
        exits: state.exits,
        last_exit: state.last_exit.clone(),
        terminating: state.terminating,
        guard: state.guard_on,
        fenced: state.fenced,
        trouble: state.trouble.clone(),
        kept: state.kept.clone(),
        config: state.life.as_ref().and_then(|life| life.start.config.clone()),
        vocabulary: kagami_protocol::VOCABULARY,
    }
}

/// A report without what changes all the time.
fn calm(report: &Report) -> Report {
    let mut calm = report.clone();
    calm.seq = 0;
    if let Some(record) = &mut calm.record {
        record.offset = 0;
        record.at_ms = 0;
    }
    if let Some(view) = &mut calm.engine {
        view.offset = 0;
        view.keys = 0;
        view.used_memory_bytes = 0;
        if let Some(link) = &mut view.link {
            link.down_ms = 0;
        }
        for replica in &mut view.replicas {
            replica.offset = 0;
            replica.lag_s = 0;
        }
    }
    calm
}
