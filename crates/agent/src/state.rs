//! What the agent knows of its node, and what follows from it. All of it is pure; `H` is what a process needs beside it.
//!
//! Times in `now_ms` are milliseconds of one monotonic clock, `at_ms` is the node's wall clock since the Unix epoch.

use crate::durable::Durable;
use crate::guard::{Acknowledgements, Facts, Guard, Poll, Witness, Written};
use crate::hearing::Hearing;
use crate::persistence::Persistence;
use crate::slots::OpenSlots;
use crate::unwritten::Unwritten;
use crate::version::Version;
use crate::whole::{Change, Whole};
use kagami_protocol::{
    Boot, EngineState, EngineView, Exit, HUNG_MS, Link, Record, ReplicaLink, Report, Role, Start, StartData,
    StartRole, Unanswered, Volume,
};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// How long a pause of the guard lasts if it is not renewed, and how much of it may pass until it is.
pub const GUARD_PAUSE_MS: u64 = 10_000;
const GUARD_RENEW_AFTER_MS: u64 = 2_000;
/// How the words begin of a note that could not be written.
const NOTE_TROUBLE: &str = "the note beside the data";
/// After this long without an answer of the engine there is no view any more.
const SILENT_AFTER_MS: u64 = 2_000;
/// One look in vain counts for this long at most: where more time passed, the agent itself stood still.
const LOOK_MS: u64 = 1_000;

/// One life of the engine.
#[derive(Debug)]
pub struct Life<H> {
    /// Which.
    pub boot: Boot,
    /// The order that began it.
    pub start: Start,
    /// Cluster mode is enabled.
    pub cluster: bool,
    /// The engine.
    pub version: Arc<Version>,
    /// The same in words, as the note tells it.
    engine: String,
    /// When it last answered, or was started.
    pub heard_ms: u64,
    /// For how long it was asked in vain since.
    pub unanswered_ms: u64,
    /// The last look in vain.
    pub missed_ms: u64,
    /// What it said last, once it is no longer what is so.
    pub last_view: Option<EngineView>,
    /// The role as it was last seen in this life; `None` until it was.
    pub role: Option<Role>,
    /// Whether it holds a whole copy.
    pub whole: Whole,
    /// How far its volume is.
    pub durable: Durable,
    /// Whether it has taken a write.
    pub unwritten: Unwritten,
    /// The engine was seen when it was not loading (any more).
    pub loaded: bool,
    /// The term in which an election was asked for: once is enough.
    pub election_term: Option<u64>,
    /// Whether replicas may log in, as last set; `None` when that is not known (a command failed half-way).
    pub source_open: Option<bool>,
    /// Whether the engines may elect this one, as last set; `None` when that is not known.
    pub electable: Option<bool>,
    /// The identity that it was last in sync with, as a replica.
    synced_with: Option<String>,
    /// `replica-serve-stale-data no` stands, until the first sync is complete.
    pub stale_reads_off: bool,
    /// Until when the operator has paused writes.
    pub operator_pause_until_ms: u64,
    /// Until when writes are paused for the guard; renewed while it is fenced.
    pub guard_pause_until_ms: u64,
    /// A pause of the guard was asked for and not answered: it may have begun, or may begin yet.
    pub pause_unsure: bool,
    /// Before 6.2: what `min-replicas-to-write` was before it became the pause.
    pub min_replicas: Option<String>,
    /// Each replica's, by its address.
    pub acknowledgements: BTreeMap<(String, u16), Acknowledgements>,
    /// Since when what they acknowledge has been written.
    pub written: Written,
    /// Slots that a migration left open.
    pub open_slots: OpenSlots,
    /// What a replica heard of its primary.
    pub hearing: Hearing,
    /// The replica is in sync and nothing is put aside any more.
    pub previous_forgotten: bool,
    /// When it was seen to be a primary no more; `None` once the clients of then are closed.
    pub demoted_ms: Option<u64>,
    /// The process itself.
    pub process: H,
}

impl<H> Life<H> {
    /// A life that begins now.
    pub fn new(
        boot: Boot,
        start: Start,
        cluster: bool,
        version: Arc<Version>,
        now_ms: u64,
        process: H,
    ) -> Self {
        let role = started_as(&start);
        Self {
            boot,
            start,
            cluster,
            engine: version.to_string(),
            version,
            heard_ms: now_ms,
            unanswered_ms: 0,
            missed_ms: now_ms,
            last_view: None,
            role: None,
            whole: Whole::started_as(role),
            durable: Durable::default(),
            unwritten: Unwritten::default(),
            loaded: false,
            election_term: None,
            source_open: Some(role == Role::Primary),
            electable: Some(role == Role::Primary),
            synced_with: None,
            stale_reads_off: role == Role::Replica && !cluster,
            operator_pause_until_ms: 0,
            guard_pause_until_ms: 0,
            pause_unsure: false,
            min_replicas: None,
            acknowledgements: BTreeMap::new(),
            written: Written::default(),
            open_slots: OpenSlots::default(),
            hearing: Hearing::default(),
            previous_forgotten: false,
            demoted_ms: None,
            process,
        }
    }

    /// It has answered.
    fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.unanswered_ms = 0;
    }
}

impl<H> Deref for Life<H> {
    type Target = H;
    fn deref(&self) -> &H {
        &self.process
    }
}

impl<H> DerefMut for Life<H> {
    fn deref_mut(&mut self) -> &mut H {
        &mut self.process
    }
}

/// The role that a start order asks for.
pub fn started_as(start: &Start) -> Role {
    if matches!(start.role, StartRole::Primary { .. }) { Role::Primary } else { Role::Replica }
}

/// Whether a start puts aside what the volume holds. A cluster's engine that loads keys claims their slots and would serve them
/// until it hears of a better owner.
pub fn puts_aside(start: &Start, cluster: bool) -> bool {
    start.data == StartData::PutAside || (cluster && started_as(start) == Role::Replica)
}

/// The note that is written before anything of the data is moved for a start.
pub fn note_of_start(
    old: Option<&Record>,
    group: &str,
    node: &str,
    term: u64,
    generation: u64,
    at_ms: i64,
) -> Record {
    Record {
        group: group.into(),
        node: node.into(),
        term,
        operator_generation: generation,
        complete: false,
        offset: 0,
        replid: String::new(),
        closed: false,
        machine_boot: String::new(),
        unwritten: false,
        failed_loads: 0,
        at_ms,
        ..old.cloned().unwrap_or_default()
    }
}

/// What one look at the engine saw.
#[derive(Debug)]
pub struct Seen {
    /// What the engine says of itself; `complete` is still to be judged.
    pub view: EngineView,
    /// `INFO persistence`.
    pub persistence: Persistence,
    /// How many keys are in the slots that [`OpenSlots::to_count`] asked for.
    pub counted: Vec<(u16, u64)>,
    /// When the look began.
    pub sent_ms: u64,
    /// The wall clock as it began.
    pub wall_sent_ms: i64,
    /// The wall clock as it ended.
    pub wall_answered_ms: i64,
}

/// What a look led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenIn {
    /// The engine has another role than before.
    pub role_changed: bool,
    /// The engines elected it; silence pauses nothing until the operator confirms.
    pub elected: bool,
    /// What became of its copy.
    pub change: Change,
}

impl TakenIn {
    /// Whether the note beside the data must be written.
    pub fn worth_a_note(self) -> bool {
        self.role_changed || self.change != Change::None
    }
}

/// What the guard asks for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Nothing.
    Rest,
    /// Writes are to be paused (again).
    Pause {
        /// They are paused already; this renews it.
        again: bool,
    },
    /// Writes may go on.
    Resume,
    /// Before 6.2 the operator's pause does not end by itself.
    Expired,
}

/// Everything that changes.
#[derive(Debug)]
pub struct State<H> {
    /// The life that is, or would be next.
    pub boot: Boot,
    /// What the engine's process does.
    pub engine: EngineState,
    /// The highest term seen.
    pub term: u64,
    /// The term that is known to be on the volume.
    pub kept_term: u64,
    /// How full the volume is, if there is one.
    pub volume: Option<Volume>,
    /// The highest operator generation seen.
    pub operator_generation: u64,
    /// The note beside the data.
    pub note: Option<Record>,
    /// The life of the machine; empty where that is not known.
    pub machine_boot: String,
    /// There is a dataset in the data directory.
    pub has_data: bool,
    /// The note about what is put aside for good.
    pub kept: Option<Record>,
    /// What the engine says.
    pub view: Option<EngineView>,
    /// The running engine.
    pub life: Option<Life<H>>,
    /// How many lives ended.
    pub exits: u32,
    /// The last end.
    pub last_exit: Option<Exit>,
    /// SIGTERM was received.
    pub terminating: bool,
    /// The last term in which this node was made or confirmed the primary: what it wrote then is that term's history.
    pub lead_term: u64,
    /// The last term of whose primary this node was told that it follows it, or was told to follow it: what it holds in sync is of
    /// that term. A term that it merely heard of makes its data no younger.
    pub follow_term: u64,
    /// Silence pauses writes.
    pub guard_on: bool,
    /// The guard.
    pub guard: Guard,
    /// Writes are paused for the guard.
    pub fenced: bool,
    /// The last failure, in words.
    pub trouble: String,
    /// Why the engine is not in the role that it was started for.
    astray: String,
    /// Until when to look often.
    pub moving_until_ms: u64,
}

impl<H> State<H> {
    /// An agent that has just begun: parked.
    pub fn new(
        boot: Boot,
        note: Option<Record>,
        has_data: bool,
        kept: Option<Record>,
        trouble: String,
    ) -> Self {
        Self {
            boot,
            engine: EngineState::Parked,
            term: note.as_ref().map_or(0, |note| note.term),
            kept_term: note.as_ref().map_or(0, |note| note.term),
            volume: None,
            operator_generation: note.as_ref().map_or(0, |note| note.operator_generation),
            note,
            machine_boot: String::new(),
            has_data,
            kept,
            view: None,
            life: None,
            exits: 0,
            last_exit: None,
            terminating: false,
            lead_term: 0,
            follow_term: 0,
            guard_on: false,
            guard: Guard::new(0),
            fenced: false,
            trouble,
            astray: String::new(),
            moving_until_ms: 0,
        }
    }

    /// The note that was found was written in this life of the machine, by an agent that has ended since with its engine: what that
    /// had handed to the kernel is there.
    pub fn found_in(&mut self, machine_boot: String) {
        self.machine_boot = machine_boot;
        if let Some(note) = &mut self.note
            && !self.machine_boot.is_empty()
            && note.machine_boot == self.machine_boot
        {
            note.closed = note.complete;
        }
    }

    /// The engine's role, where it answers.
    pub fn role(&self) -> Option<Role> {
        self.view.as_ref().and_then(|view| view.role)
    }

    /// What the guard needs to know. A primary that does not answer its agent may still answer its clients: it is one until it
    /// is seen to be a replica, or its life ends.
    pub fn facts(&self) -> Facts {
        let role = self.life.as_ref().and_then(|life| life.role);
        Facts { on: self.guard_on, primary: role == Some(Role::Primary), term: self.term }
    }

    /// An engine that ran and gives no answer of any kind. One that starts or loads is not hung, however long it takes.
    pub fn unanswered(&self) -> Option<Unanswered> {
        let life = self.life.as_ref().filter(|_| self.engine == EngineState::Running)?;
        let last = life.last_view.as_ref().filter(|last| !last.loading && life.unanswered_ms > 0)?;
        Some(Unanswered {
            ms: life.unanswered_ms,
            role: last.role?,
            replid: last.replid.clone(),
            offset: last.offset,
            complete: last.complete,
        })
    }

    /// Whether it was a primary and is none any more, and its clients are those of then.
    fn former_clients(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.demoted_ms.is_some())
    }

    /// Whether the life that ends was given data to load and ended by itself before it had; a configuration that it refused
    /// (`blames_the_start`, by its last words) says nothing about the data.
    pub fn failed_to_load(&self, blames_the_start: impl FnOnce(&Life<H>) -> bool) -> bool {
        self.life.as_ref().is_some_and(|life| {
            life.start.data == StartData::Keep
                && !life.loaded
                && self.engine != EngineState::Stopping
                && !blames_the_start(life)
        })
    }

    /// In words, for refusals.
    pub fn describe(&self) -> String {
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
    pub fn write_down(&mut self, group: &str, node: &str, at_ms: i64) {
        let mut note = self.note.take().unwrap_or_default();
        group.clone_into(&mut note.group);
        node.clone_into(&mut note.node);
        note.term = self.term;
        note.operator_generation = self.operator_generation;
        if note.data_at_ms == 0 {
            // A note of an earlier release.
            note.data_at_ms = note.at_ms;
        }
        note.at_ms = at_ms;
        if let (Some(life), Some(view)) = (&self.life, &self.view) {
            if life.whole.complete() && !view.loading && view.role.is_some() {
                note.data_at_ms = at_ms;
                // An append-only file that is still being written anew is not what the engine holds, and is all that it loads.
                note.complete = life.durable.settled();
                note.role = view.role;
                view.replid.clone_into(&mut note.replid);
                note.offset = life.durable.offset();
                life.engine.clone_into(&mut note.engine);
                note.closed = false;
                let machine_boot = if life.durable.follows() { self.machine_boot.as_str() } else { "" };
                machine_boot.clone_into(&mut note.machine_boot);
                note.unwritten = view.unwritten;
                note.failed_loads = 0;
                // A primary that merely heard of a higher term has written nothing in it.
                match view.role {
                    Some(Role::Primary) => note.data_term = note.data_term.max(self.lead_term),
                    _ if view.link.as_ref().is_some_and(|link| link.up) => {
                        note.data_term = note.data_term.max(self.follow_term);
                    }
                    _ => {}
                }
            } else if life.whole.replaced() {
                note.complete = false;
            }
        }
        self.note = Some(note);
    }

    /// The same once the engine has ended, and its machine has not.
    pub fn write_down_the_end(&mut self, group: &str, node: &str, at_ms: i64) {
        let closed = self.life.as_mut().is_some_and(|life| life.durable.close());
        self.write_down(group, node, at_ms);
        if let Some(note) = &mut self.note {
            note.closed = closed && note.complete;
        }
    }

    /// The note with that term is on the volume.
    pub fn stored(&mut self, term: u64) {
        self.kept_term = self.kept_term.max(term);
        if self.trouble.starts_with(NOTE_TROUBLE) {
            self.over();
        }
    }

    /// The start was given up: the engine runs, and is not in its role. Until an order brings it there, or its life ends, that is
    /// told again once anything else that is told meanwhile is over; or the operator would believe that the start goes on.
    pub fn not_in_role(&mut self, words: &str) {
        self.astray = format!("the engine runs, but not in its role: {words}");
        self.trouble.clone_from(&self.astray);
    }

    /// An order has brought the engine into its role.
    pub fn in_role(&mut self) {
        self.astray.clear();
        self.trouble.clear();
    }

    /// What was told last is over.
    fn over(&mut self) {
        self.trouble.clone_from(&self.astray);
    }

    /// The note could not be written: what is on the volume is the one before.
    pub fn not_stored(&mut self, words: &str) {
        self.trouble = format!("{NOTE_TROUBLE}: {words}");
    }

    /// Takes in what a look at the life of that boot saw. `kept` says whether the snapshot file is the one that a full sync
    /// brought. `None` if that life is over.
    pub fn take_in(
        &mut self,
        boot: &Boot,
        seen: Seen,
        now_ms: u64,
        kept: impl FnOnce(&Life<H>) -> bool,
    ) -> Option<TakenIn> {
        let facts = self.facts();
        let life = self.life.as_mut().filter(|life| life.boot == *boot)?;
        let mut view = seen.view;
        life.heard(now_ms);
        life.last_view = None;
        let change = life.whole.look(&view);
        match change {
            Change::None => {}
            Change::Loaded => life.durable.equal_at(view.offset),
            Change::Replacing => life.durable.synced(0, false),
            Change::InSync => {
                // Received through a file, or straight into memory? With an append-only file that snapshot is not what would be
                // loaded.
                let kept = kept(life);
                life.durable.synced(view.offset, kept && !seen.persistence.append_only);
            }
        }
        if !view.loading {
            life.durable.poll(&seen.persistence, view.offset, now_ms);
            life.loaded = true;
            if view.role == Some(Role::Primary) {
                life.unwritten.poll(&seen.persistence);
            } else {
                life.unwritten.lose();
            }
        }
        view.unwritten = life.unwritten.yes();
        view.complete = life.whole.complete() && !view.loading;
        if let Some(link) = &mut view.link {
            life.hearing.look(now_ms, link, view.offset);
            if link.up && !link.syncing && view.complete {
                let followed = view.cluster.as_ref().and_then(|cluster| cluster.followed());
                life.synced_with = followed.map(str::to_owned);
            }
        }
        view.open_slots = life.open_slots.look(now_ms, &view, &seen.counted);
        life.written.look(seen.sent_ms, view.offset);
        let mut acknowledged = None;
        for replica in view.replicas.iter().filter(|replica| replica.online && replica.lag_s >= 0) {
            let poll = Poll {
                sent_ms: seen.sent_ms,
                wall_sent_ms: seen.wall_sent_ms,
                wall_answered_ms: seen.wall_answered_ms,
                offset: replica.offset,
                lag_s: replica.lag_s,
            };
            let key = (replica.host.clone(), replica.port);
            let since_ms = life.acknowledgements.entry(key).or_default().poll(poll);
            let counts_until = life.written.counts_until(replica.offset);
            acknowledged =
                acknowledged.max(since_ms.zip(counts_until).map(|(since, until)| since.min(until)));
        }
        life.acknowledgements
            .retain(|(host, port), _| view.replicas.iter().any(|r| r.host == *host && r.port == *port));
        if self.engine == EngineState::Starting {
            self.engine = EngineState::Running;
        }
        let before = life.role;
        let role_changed = before != view.role;
        life.role = view.role;
        if role_changed && !life.cluster {
            life.demoted_ms = (before == Some(Role::Primary)).then_some(now_ms);
        }
        if self.view.is_none() && self.trouble.starts_with("the engine does not answer") {
            self.over();
        }
        self.view = Some(view);
        let mut elected = false;
        if before != Some(Role::Primary) && self.role() == Some(Role::Primary) {
            self.guard.begin(now_ms);
            if before.is_some() && self.lead_term != self.term {
                // Elected by the engines: the majority of primaries is its fence, until the operator confirms it (P6).
                elected = true;
                self.guard_on = false;
            }
        }
        if let Some(since_ms) = acknowledged {
            self.guard.hear(now_ms, facts, Witness::Replica { since_ms });
        }
        Some(TakenIn { role_changed, elected, change })
    }

    /// A look that came to nothing: an error is an answer, too. Says for how long the engine has been silent, if its view is given
    /// up for that.
    pub fn missed(&mut self, boot: &Boot, now_ms: u64, answered: bool, words: &str) -> Option<u64> {
        let life = self.life.as_mut().filter(|life| life.boot == *boot)?;
        if answered {
            life.heard(now_ms);
            return None;
        }
        let asked_ms = now_ms.saturating_sub(life.missed_ms.max(life.heard_ms));
        life.unanswered_ms += asked_ms.min(LOOK_MS);
        life.missed_ms = now_ms;
        let silent_ms = now_ms.saturating_sub(life.heard_ms);
        if self.engine == EngineState::Running && silent_ms > SILENT_AFTER_MS && self.view.is_some() {
            life.last_view = self.view.take();
            self.trouble = format!("the engine does not answer: {words}");
            return Some(silent_ms);
        }
        None
    }

    /// "You are the primary of this term", on a connection accepted at that time, as the answer to a beat of that time (`None`: an
    /// operator that does not say; it allows for what was under way). Says whether the term rose; then it is to be written down.
    pub fn confirm(
        &mut self,
        now_ms: u64,
        (term, guard): (u64, bool),
        accepted_ms: u64,
        heard_ms: Option<u64>,
    ) -> bool {
        if term < self.term {
            return false;
        }
        let facts = self.facts();
        let given_ms = heard_ms.unwrap_or(now_ms);
        self.guard.hear(now_ms, facts, Witness::Confirm { term, given_ms, accepted_ms });
        self.guard_on = guard;
        let raised = term > self.term;
        self.term = term;
        if facts.primary {
            self.lead_term = term;
        }
        raised
    }

    /// The shard's lease as the apiserver told it, asked for at that time. Says whether the term rose; then it is to be written down:
    /// whatever term denied the guard is one that the operator has to outbid, also where somebody deleted the lease meanwhile.
    pub fn leased(&mut self, now_ms: u64, asked_ms: u64, term: u64, ours: bool) -> bool {
        let facts = self.facts();
        self.guard.hear(now_ms, facts, Witness::Lease { asked_ms, term, ours });
        let raised = term > self.term;
        self.term = self.term.max(term);
        raised
    }

    /// The engine's process runs.
    pub fn begin(&mut self, life: Life<H>, now_ms: u64) {
        self.engine = EngineState::Starting;
        self.in_role();
        self.view = None;
        match started_as(&life.start) {
            Role::Primary => self.lead_term = self.term,
            Role::Replica => self.followed(self.term),
        }
        self.guard_on = life.start.guard;
        self.guard.begin(now_ms);
        self.fenced = false;
        self.life = Some(life);
    }

    /// An order of that term has made it follow that term's primary, or said that it does.
    pub fn followed(&mut self, term: u64) {
        self.follow_term = self.follow_term.max(term);
    }

    /// A replica was told that it follows that term's primary already; whoever is none has only heard of the term.
    pub fn keeps_following(&mut self, term: u64) {
        if self.role() == Some(Role::Replica) {
            self.followed(term);
        }
    }

    /// The engine's process has ended: parked again, in a new boot.
    pub fn end(&mut self, exit: Exit, has_data: bool) {
        self.engine = EngineState::Parked;
        self.view = None;
        self.boot.run += 1;
        self.exits += 1;
        self.last_exit = Some(exit);
        self.guard_on = false;
        self.fenced = false;
        self.in_role();
        self.has_data = has_data;
    }

    /// What the guard asks for at this moment.
    pub fn fence(&self, now_ms: u64) -> Fence {
        let Some(life) = &self.life else { return Fence::Rest };
        if self.guard.fenced() {
            let renew = life.guard_pause_until_ms < now_ms + GUARD_PAUSE_MS - GUARD_RENEW_AFTER_MS;
            if !self.fenced || renew { Fence::Pause { again: self.fenced } } else { Fence::Rest }
        } else if self.fenced || life.pause_unsure {
            // The operator's own pause goes on; the guard's ends with it, or on a later tick.
            if life.operator_pause_until_ms > now_ms { Fence::Rest } else { Fence::Resume }
        } else if life.min_replicas.is_some() && life.operator_pause_until_ms <= now_ms {
            Fence::Expired
        } else {
            Fence::Rest
        }
    }

    /// The operator ends its pause. Says whether writes go on, or the guard keeps them paused.
    pub fn resume(&mut self) -> bool {
        let guarded = self.guard.fenced() || self.fenced;
        match self.life.as_mut() {
            Some(life) => {
                life.operator_pause_until_ms = 0;
                !guarded
            }
            None => false,
        }
    }

    /// A replica refuses writes by itself: clients should learn that at once, and not after the pause. Says whether the pause is to
    /// be ended, and counts it as ended.
    pub fn ends_pause_of_a_replica(&mut self) -> bool {
        if self.role() != Some(Role::Replica) {
            return false;
        }
        match self.life.as_mut() {
            Some(life) if life.operator_pause_until_ms != 0 => {
                life.operator_pause_until_ms = 0;
                true
            }
            _ => false,
        }
    }

    /// Whether replicas are to be let in, or turned away, where that is not how it is.
    ///
    /// They may log in iff this engine is a primary, by order or by election, and held a whole copy when it became one. A replica
    /// that is complete could be left open too, in cluster mode; it is not, so that one rule holds everywhere: whatever restarts,
    /// or was never a primary, is no source of replication (promise P1).
    pub fn source(&self) -> Option<bool> {
        let (life, view) = self.life.as_ref().zip(self.view.as_ref())?;
        let open = view.role == Some(Role::Primary) && life.whole.complete();
        (life.source_open != Some(open)).then_some(open)
    }

    /// Whether the engines may elect this one, or may not, where that is not how it is (cluster mode enabled): iff it holds a whole
    /// copy, and was in sync with whom it follows. They judge by the age of a link and never by what came over it, so they would
    /// elect an empty replica, or one that has nothing yet of its primary's history (promise P1).
    pub fn electable(&self) -> Option<bool> {
        let (life, view) = self.life.as_ref().filter(|life| life.cluster).zip(self.view.as_ref())?;
        let followed = view.cluster.as_ref().and_then(|cluster| cluster.followed());
        let in_step = followed.is_some() && followed == life.synced_with.as_deref();
        let may = life.whole.complete() && (in_step || view.role != Some(Role::Replica));
        (life.electable != Some(may)).then_some(may)
    }

    /// Whether a replica that was in sync once may now answer from its copy when the link is down.
    pub fn stale_reads_on(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.stale_reads_off && life.whole.complete())
    }

    /// Whether what was put aside is superseded: this node is a replica in sync, and its volume holds the copy.
    pub fn supersedes_previous(&self) -> bool {
        let in_sync = self.role() == Some(Role::Replica)
            && self
                .view
                .as_ref()
                .is_some_and(|view| view.complete && view.link.as_ref().is_some_and(|link| link.up));
        self.life.as_ref().is_some_and(|life| in_sync && !life.previous_forgotten && life.durable.settled())
    }

    /// Why a promotion is refused, if it is.
    pub fn cannot_be_promoted(&self) -> Option<&'static str> {
        let whole = self.life.as_ref().is_some_and(|life| life.whole.complete());
        let loading = self.view.as_ref().is_none_or(|view| view.loading);
        match (loading, whole) {
            (true, _) => Some("loading"),
            (false, false) => Some("without a whole copy"),
            (false, true) => None,
        }
    }

    /// Whether the end is put off: a primary that another could follow waits until the operator has made it a replica.
    pub fn hands_over_first(&self) -> bool {
        self.engine == EngineState::Running
            && self.view.as_ref().is_some_and(|view| {
                view.role == Some(Role::Primary)
                    && view.complete
                    && view.replicas.iter().any(|replica| replica.online)
            })
    }

    /// The engine is told to shut down. Says whether it is to save: an incomplete copy must not be saved over what may be there.
    pub fn shuts_down(&mut self, persistent: bool) -> bool {
        self.engine = EngineState::Stopping;
        let whole = self.view.as_ref().is_some_and(|view| view.complete);
        let saves = persistent && whole;
        let offset = self.view.as_ref().map(|view| view.offset);
        if let (true, Some(life), Some(offset)) = (saves, self.life.as_mut(), offset) {
            life.durable.equal_at(offset);
        }
        saves
    }

    /// Whether to look often.
    pub fn moving(&self, now_ms: u64) -> bool {
        let Some(life) = &self.life else { return false };
        if self.engine != EngineState::Running || self.moving_until_ms > now_ms {
            return true;
        }
        let Some(view) = &self.view else { return true };
        view.loading
            || !life.whole.complete()
            || view.link.as_ref().is_some_and(|link| !link.up || link.syncing)
            || life.hearing.closely(now_ms)
            || view.cluster.as_ref().is_some_and(|cluster| !cluster.ok)
    }

    /// Whether clients should be sent here, or why not.
    ///
    /// # Errors
    /// A sentence, for the kubelet's event.
    pub fn ready(&self) -> Result<(), String> {
        if self.engine != EngineState::Running {
            return Err(format!("the engine is {}", self.describe()));
        }
        let Some(view) = &self.view else { return Err("the engine does not answer".into()) };
        if view.loading {
            return Err("the engine is loading its data".into());
        }
        match view.role {
            Some(Role::Primary) => {
                if self.fenced {
                    return Err("writes are paused: no witness of its being the primary was heard".into());
                }
                if !view.complete {
                    return Err("it does not follow its primary yet".into());
                }
                if view.cluster.as_ref().is_some_and(|cluster| !cluster.ok) {
                    return Err("the cluster's state is not ok".into());
                }
            }
            Some(Role::Replica) => {
                if !view.link.as_ref().is_some_and(|link| link.up) {
                    return Err("the link to the primary is down".into());
                }
                if !view.complete {
                    return Err("the first copy is not complete".into());
                }
            }
            None => return Err("the engine has no role".into()),
        }
        Ok(())
    }

    /// Everything the operator is told.
    pub fn report(&self, node: &str, persistent: bool, agent_version: &str) -> Report {
        Report {
            seq: 0,
            node: node.into(),
            boot: self.boot.clone(),
            agent_version: agent_version.into(),
            term: self.term,
            state: self.engine.clone(),
            persistent,
            has_data: self.has_data,
            record: self.note.clone(),
            engine: self.view.clone(),
            exits: self.exits,
            last_exit: self.last_exit.clone(),
            terminating: self.terminating,
            guard: self.guard_on,
            fenced: self.fenced,
            trouble: self.trouble.clone(),
            kept: self.kept.clone(),
            config: self.life.as_ref().and_then(|life| life.start.config.clone()),
            vocabulary: kagami_protocol::VOCABULARY,
            former_clients: self.former_clients(),
            volume: self.volume,
            unanswered: self.unanswered(),
        }
    }

    /// Whether a report of this agent says all that is worth telling at once: what changes all the time is not.
    pub fn is_told_by(&self, report: &Report) -> bool {
        let Report {
            seq: _,
            node: _,
            boot,
            agent_version: _,
            term,
            state,
            persistent: _,
            has_data,
            record,
            engine,
            exits,
            last_exit,
            terminating,
            guard,
            fenced,
            trouble,
            kept,
            config,
            vocabulary: _,
            former_clients,
            volume,
            unanswered,
        } = report;
        // How much is left moves all the time.
        let told = |volume: &Volume| (volume.bytes, volume.free_percent());
        // How long it lasts is told with the next report; that it is called hung now, at once.
        let hung = |unanswered: &Option<Unanswered>| unanswered.as_ref().map(|each| each.ms >= HUNG_MS);
        let same_record = match (&self.note, record) {
            (Some(a), Some(b)) => same_data(a, b, false),
            (None, None) => true,
            _ => false,
        };
        let same_engine = match (&self.view, engine) {
            (Some(a), Some(b)) => same_view(a, b),
            (None, None) => true,
            _ => false,
        };
        same_record
            && same_engine
            && self.term == *term
            && self.former_clients() == *former_clients
            && self.engine == *state
            && self.volume.as_ref().map(told) == volume.as_ref().map(told)
            && self.has_data == *has_data
            && self.exits == *exits
            && self.terminating == *terminating
            && self.guard_on == *guard
            && self.fenced == *fenced
            && self.boot == *boot
            && self.last_exit == *last_exit
            && self.trouble == *trouble
            && hung(&self.unanswered()) == hung(unanswered)
            && self.kept == *kept
            && self.life.as_ref().and_then(|life| life.start.config.as_ref()) == config.as_ref()
    }
}

/// Whether an engine's view says nothing new beside what changes all the time.
fn same_view(a: &EngineView, b: &EngineView) -> bool {
    let EngineView {
        version,
        role,
        replid,
        replid2,
        offset: _,
        second_offset,
        loading,
        complete,
        keys: _,
        unwritten,
        used_memory_bytes: _,
        write_failed,
        link,
        replicas,
        cluster,
        open_slots,
    } = a;
    let same_link = match (link, &b.link) {
        (Some(Link { host, port, up, syncing, down_ms: _, quiet, parted, lost }), Some(b)) => {
            *host == b.host
                && *port == b.port
                && *up == b.up
                && *syncing == b.syncing
                && *quiet == b.quiet
                && *parted == b.parted
                && *lost == b.lost
        }
        (None, None) => true,
        _ => false,
    };
    same_link
        && *role == b.role
        && *replid == b.replid
        && *replid2 == b.replid2
        && *second_offset == b.second_offset
        && *loading == b.loading
        && *complete == b.complete
        && *unwritten == b.unwritten
        && *write_failed == b.write_failed
        && replicas.len() == b.replicas.len()
        && replicas.iter().zip(&b.replicas).all(
            |(ReplicaLink { host, port, online, offset: _, lag_s: _ }, b)| {
                *host == b.host && *port == b.port && *online == b.online
            },
        )
        && *version == b.version
        && *cluster == b.cluster
        && *open_slots == b.open_slots
}

/// Whether two notes differ only in when they were written, or in offsets that nobody will ever compare.
pub fn same_data(a: &Record, b: &Record, persistent: bool) -> bool {
    let Record {
        group,
        node,
        term,
        data_term,
        role,
        replid,
        offset,
        complete,
        engine,
        at_ms: _,
        data_at_ms: _,
        operator_generation,
        closed,
        machine_boot,
        unwritten,
        failed_loads,
    } = a;
    (!persistent || *offset == b.offset)
        && *term == b.term
        && *data_term == b.data_term
        && *role == b.role
        && *complete == b.complete
        && *operator_generation == b.operator_generation
        && *closed == b.closed
        && *machine_boot == b.machine_boot
        && *unwritten == b.unwritten
        && *failed_loads == b.failed_loads
        && *replid == b.replid
        && *engine == b.engine
        && *group == b.group
        && *node == b.node
}
