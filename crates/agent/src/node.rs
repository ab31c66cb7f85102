//! What the agent knows of its node, and the report it makes of it. Locks are held for moments, never across waiting.

use crate::args::Settings;
use crate::client::Client;
use crate::process::{LastWords, Reaper};
use crate::record::{self, RecordError};
use crate::state::same_data;
use crate::version::Version;
use crate::volume;
use kagami_protocol::{Boot, Record, Report};
use rustix::process::{Pid, Signal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::AbortHandle;

/// What one life of the engine is made of, beside what is known of it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) started: Instant,
    pub(crate) started_wall: std::time::SystemTime,
    pub(crate) last_words: LastWords,
    pub(crate) out_of_memory_before: u64,
    pub(crate) client: Arc<Client>,
    /// The role script that runs in the background after the start.
    pub(crate) script: Option<AbortHandle>,
}

pub(crate) type Life = crate::state::Life<Process>;
pub(crate) type State = crate::state::State<Process>;

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
    report: Option<Arc<Report>>,
    at_ms: u64,
}

/// The node's wall clock, in milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The life of this machine's kernel.
fn machine_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Node {
    pub(crate) fn new(settings: Settings, note: Option<Record>, has_data: bool, trouble: String) -> Self {
        // Later than every life before it in this pod, also where the clock was set back.
        let began_ms = note.as_ref().map_or(0, |note| note.at_ms + 1).max(wall_ms());
        let boot = Boot {
            pod_uid: settings.pod_uid.clone(),
            agent: Boot::agent_name(began_ms, rand::random()),
            run: 1,
        };
        let mut state = State::new(boot, note, has_data, volume::kept(&settings.data_dir), trouble);
        state.found_in(machine_boot());
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

    /// Whether that life goes on.
    pub(crate) fn lives(&self, boot: &Boot) -> bool {
        self.with_life(boot, |_| ()).is_some()
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
        let state = self.state();
        let told = published.report.as_ref().is_some_and(|report| state.is_told_by(report));
        if told && now_ms.saturating_sub(published.at_ms) < 5_000 {
            return;
        }
        let mut report = report(&self.settings, &state);
        drop(state);
        published.seq += 1;
        published.at_ms = now_ms;
        report.seq = published.seq;
        let report = Arc::new(report);
        published.report = Some(report.clone());
        self.reports.send_replace(report);
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
            state.write_down(&self.settings.group, &self.settings.node, wall_ms());
            state.note.clone()
        };
        let Some(note) = note else { return Ok(()) };
        let term = note.term;
        let path = record::path(&self.settings.data_dir);
        let (at, data_dir) = (path.clone(), self.settings.data_dir.clone());
        let save = move || {
            let closed = note.closed && volume::sync_append_only(&data_dir);
            record::save(&path, &Record { closed, ..note })
        };
        let saved = tokio::task::spawn_blocking(save)
            .await
            .map_err(|error| RecordError::Io { path: at, source: std::io::Error::other(error) })
            .flatten();
        self.change(|state| match &saved {
            Ok(()) => state.stored(term),
            Err(error) => state.not_stored(&error.to_string()),
        });
        saved
    }

    /// Looks how full the volume is, until the end of the agent.
    pub(crate) async fn watch_volume(&self) {
        if !self.settings.persistent {
            return;
        }
        let mut every = tokio::time::interval(Duration::from_millis(1_000));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let data_dir = self.settings.data_dir.clone();
            match tokio::task::spawn_blocking(move || volume::fullness(&data_dir)).await {
                Ok(Ok(volume)) => self.change(|state| state.volume = Some(volume)),
                Ok(Err(error)) => tracing::warn!(%error, "it is not known how full the volume is"),
                Err(error) => tracing::warn!(%error, "it is not known how full the volume is"),
            }
        }
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
                state.write_down(&self.settings.group, &self.settings.node, wall_ms());
                state.note.clone()
            };
            let (Some(new), old) = (note, stored.as_ref()) else { continue };
            if old.is_some_and(|old| same_data(old, &new, self.settings.persistent)) {
                continue;
            }
            if let Err(error) = self.store().await {
                tracing::error!(%error, "the note beside the data could not be written");
                continue;
            }
            stored = Some(new);
            // Offsets alone at most each second; `notified` keeps one permit for what comes meanwhile.
        }
    }
}

fn report(settings: &Settings, state: &State) -> Report {
    state.report(&settings.node, settings.persistent, env!("CARGO_PKG_VERSION"))
}
