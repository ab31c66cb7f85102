use crate::Shared;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What the operator sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToAgent {
    /// The first frame of a connection.
    Hello {
        /// The highest protocol version the operator speaks.
        version: u32,
        /// Who is speaking.
        operator: OperatorId,
    },
    /// One order; answered by exactly one [`FromAgent::Answer`].
    Order(Box<Order>),
    /// "You are the primary of this term, and I still hold it to be so." Sent to primaries, as the answer to each beat.
    Confirm {
        /// The shard's term as the operator last read it; a lower term than the agent's confirms nothing.
        term: u64,
        /// Whether another copy could be promoted: only then does silence pause the writes.
        guard: bool,
        /// The [`FromAgent::Beat`] that it answers: from then on it confirms. `None` from operators before vocabulary 5.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heard_ms: Option<u64>,
    },
    /// "I am here." Sent every [`crate::BEAT_MS`] where there is nothing else to say; confirms no term.
    Beat,
}

/// Which operator process speaks: a former leader must not be obeyed when it wakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorId {
    /// The holder's identity in the operator's own lease.
    pub name: String,
    /// The lease's `leaseTransitions` at which it became the leader; agents refuse a lower one than they have seen.
    pub generation: u64,
}

/// What an agent sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum FromAgent {
    /// The answer to [`ToAgent::Hello`]; refused hellos end the connection with a reason instead.
    Welcome {
        /// The protocol version both sides use from here on.
        version: u32,
        /// The cache node this agent runs.
        node: String,
        /// The UID of its Pod.
        pod_uid: String,
    },
    /// The connection is ended, and why (an older operator generation, an unknown version).
    Goodbye {
        /// A sentence.
        message: String,
    },
    /// Everything the agent knows; sent at once on each change that is more than an offset.
    Report(Box<Report>),
    /// Sent every [`crate::BEAT_MS`]: the agent lives, and this is how far its data is.
    Beat {
        /// The boot the offset belongs to.
        boot: Boot,
        /// The replication offset, in bytes of history; absent while no engine runs.
        offset: Option<i64>,
        /// When it was sent, by the agent's own clock, which means nothing to others: to be repeated in
        /// [`ToAgent::Confirm`]. `None` from agents before vocabulary 5.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ms: Option<u64>,
    },
    /// The one answer to an order.
    Answer {
        /// The order's id.
        id: u64,
        /// What came of it.
        outcome: Result<Done, Refused>,
    },
}

/// One possible life of an engine: it changes whenever the engine's process ends, so an order meant for one life
/// cannot reach the next. Written `<pod uid>/<agent>/<run>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Boot {
    /// The UID of the Pod.
    pub pod_uid: String,
    /// Drawn by each agent process: `<when it began, in hexadecimal milliseconds since the Unix epoch>-<chance>`.
    pub agent: String,
    /// Counts the engine's lives within one agent process, from 1.
    pub run: u32,
}

impl Boot {
    /// The name of an agent process that begins at a time (the machine's clock, in milliseconds since the Unix epoch).
    pub fn agent_name(began_ms: i64, chance: u16) -> String {
        format!("{began_ms:011x}-{chance:04x}")
    }

    /// When the agent process of this life began, by the clock of its machine, which is also the kubelet's; `None` if its
    /// name does not say.
    pub fn began_ms(&self) -> Option<i64> {
        i64::from_str_radix(self.agent.split_once('-')?.0, 16).ok()
    }

    /// Whether this life comes after another one of the same Pod; `None` where that cannot be told.
    pub fn after(&self, other: &Self) -> Option<bool> {
        if self.pod_uid != other.pod_uid {
            return None;
        }
        if self.agent == other.agent {
            return Some(self.run > other.run);
        }
        Some(self.began_ms()? > other.began_ms()?)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.pod_uid, self.agent, self.run)
    }
}
impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl From<Boot> for String {
    fn from(boot: Boot) -> Self {
        boot.to_string()
    }
}
impl TryFrom<String> for Boot {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
impl std::str::FromStr for Boot {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next().and_then(|run| run.parse().ok()), parts.next()) {
            (Some(pod_uid), Some(agent), Some(run), None) => {
                Ok(Self { pod_uid: pod_uid.into(), agent: agent.into(), run })
            }
            _ => Err(format!("not a boot: {text:?} (expected POD-UID/AGENT/RUN)")),
        }
    }
}

/// The role of an engine as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// `role:master`.
    Primary,
    /// `role:slave`.
    Replica,
}

/// One fenced request. The agent carries it out only if everything in it still holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Chosen by the sender, unique within a connection.
    pub id: u64,
    /// The cache node it is meant for: refused by another (an address may have been used again).
    pub node: String,
    /// The boot it is meant for: refused in another life of the engine.
    pub boot: Boot,
    /// The shard's term; refused if the agent has seen a higher one, remembered (fsynced) if it is higher.
    pub term: u64,
    /// The role the engine must have now; `None` where the engine need not run.
    #[serde(default)]
    pub role: Option<Role>,
    /// What to do.
    pub command: Command,
}

/// Where an engine is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// An IP address.
    pub host: String,
    /// The client port.
    pub port: u16,
    /// The cluster bus port; 0 with cluster mode disabled.
    #[serde(default)]
    pub bus_port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.host, self.port, self.bus_port)
    }
}

/// What an order asks for. Each is idempotent: asked again in the same state it is `Done` again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Command {
    /// Lets a parked node in: the engine is started. Refused unless parked.
    Start(Start),
    /// `CLUSTER MEET` for each peer that is not known at that address yet.
    Meet {
        /// The other nodes.
        peers: Vec<Address>,
    },
    /// Takes slots: `SET-CONFIG-EPOCH` where the engine knows nobody yet and an epoch is given (else `BUMPEPOCH` after), then
    /// `ADDSLOTSRANGE`, or `ADDSLOTS` before 7.0, of those that it does not own yet. Those that belong to one of `from` in its
    /// table are taken from it first (`DELSLOTS`); those that belong to anybody else make the order fail.
    AssignSlots {
        /// Inclusive ranges.
        slots: Vec<(u16, u16)>,
        /// The configuration epoch to claim them with.
        epoch: Option<u64>,
        /// The cluster identities that are proven gone, and own some of them for as long as nobody takes them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        from: Vec<String>,
    },
    /// Follows a primary: `CLUSTER REPLICATE` once the primary's id is known, or `REPLICAOF`.
    Replicate {
        /// The primary.
        primary: Address,
        /// The primary's cluster node id (cluster mode enabled).
        primary_id: Option<String>,
    },
    /// Becomes the primary of the term: `CLUSTER FAILOVER TAKEOVER`, or `REPLICAOF NO ONE`.
    Promote {
        /// Waits until the own offset is at least this, else refuses after `wait_ms`.
        min_offset: Option<i64>,
        /// How long it may wait for the offset, in milliseconds.
        wait_ms: u64,
        /// By an election of the living primaries instead (`CLUSTER FAILOVER FORCE`): asked for once in a term, given
        /// [`crate::ELECTION_BOUND_MS`], and `Failed` if it was not won. Without a meaning where cluster mode is disabled.
        #[serde(default)]
        force: bool,
    },
    /// Ends the engine and parks the node: its data stays, and what was put aside comes back if nothing whole is in its place.
    Park {
        /// Only if nothing would be lost: this life has taken no write since it was started, or holds no key.
        #[serde(default)]
        unwritten: bool,
    },
    /// Ends by force (`SIGKILL`) an engine that does not answer, and parks the node. Refused if it has given any answer within
    /// that time, the last look being one of just now.
    End {
        /// For how long it must have given no answer, in milliseconds.
        unanswered_ms: u64,
    },
    /// `CLUSTER FORGET` of each id; an id that is not known (any more) counts as done.
    Forget {
        /// Cluster node ids.
        ids: Vec<String>,
    },
    /// `CLIENT PAUSE ms WRITE` (the write fence by `min-replicas-to-write` before 6.2); answers with the offset after it.
    PauseWrites {
        /// For how long, in milliseconds; the pause ends by itself.
        ms: u64,
    },
    /// Ends the pause.
    ResumeWrites,
    /// `CONFIG SET` of each directive; all or nothing where the engine can (7.0), else in order.
    Configure {
        /// Directive → value, as `CONFIG SET` takes them.
        directives: BTreeMap<String, String>,
        /// What the engine runs with after it; reported from then on.
        #[serde(default)]
        config: Option<Config>,
    },
    /// Only to remember the term; a replica follows the term's primary already, and what it holds in sync is of that term.
    KeepTerm,
    /// `CLUSTER SETSLOT … STABLE`: a primary forgets that it migrates or imports these slots. No key is moved or deleted, and who
    /// owns a slot does not change.
    CloseSlots {
        /// The slots.
        slots: Vec<u16>,
        /// Only if the engine holds no key of any of them; else nothing is changed, the refusal is [`Refused::Written`], and which
        /// it holds is reported from then on.
        #[serde(default)]
        empty: bool,
    },
    /// A replica ends the link to its primary (`CLIENT KILL TYPE master`) and asks anew at once: a primary that lives answers and
    /// the stream goes on; a silent one leaves the link down, where the engine would call it up until `repl-timeout`.
    Relink,
    /// A replica that was a primary in this life, with cluster mode disabled, closes the connections that its clients made while it
    /// was one or within [`crate::FORMER_CLIENTS_MS`] after (`CLIENT KILL ID`): they came by the primary endpoint, and stay where
    /// that led to when it moves.
    CloseClients,
}

/// How a parked node is let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Directives for the engine's configuration file, in order, ready to be written (values quoted where needed).
    /// The agent adds what only it knows: `dir`, `unixsocket`, the announced address, the ACL users and their passwords.
    pub directives: Vec<(String, String)>,
    /// Rules of the client's user after its name, e.g. `on nopass ~* &* +@all -config`.
    pub client_acl: String,
    /// What becomes of the data that is there.
    pub data: StartData,
    /// As what the engine comes up.
    pub role: StartRole,
    /// Nodes to `MEET` as soon as the engine answers (cluster mode enabled).
    #[serde(default)]
    pub peers: Vec<Address>,
    /// The address to announce to clients and to the cluster.
    pub announce: Address,
    /// The hostname to announce (engines ≥ 7.0 with cluster mode enabled); empty where not wanted.
    #[serde(default)]
    pub announce_hostname: String,
    /// Whether silence pauses the writes of this primary (see [`ToAgent::Confirm`]).
    #[serde(default)]
    pub guard: bool,
    /// What is put aside now is ahead of what takes its place: it is kept also once this node is in sync. One such copy is
    /// kept at most, the furthest; only a person deletes it.
    #[serde(default)]
    pub keep_previous: bool,
    /// What the directives amount to; reported while this engine lives.
    #[serde(default)]
    pub config: Option<Config>,
}

/// The configuration of an engine, as far as a parameter group decides it, so that a plan knows what runs.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// A hash of the directives that can be changed while the engine runs.
    pub running: String,
    /// The directives that need a new start, with their values.
    #[serde(default)]
    pub fixed: BTreeMap<String, String>,
}

/// What a start does with the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartData {
    /// Loads what is there (the chosen best volume after a total outage). `nodes.conf` is put aside all the same.
    Keep,
    /// Puts what is there aside (a rename on the same volume), to be deleted only once this node is in sync as a replica.
    PutAside,
}

/// The role a started engine takes up by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StartRole {
    /// Serves at once; with cluster mode enabled it claims these slots with this epoch as soon as it answers.
    Primary {
        /// Inclusive ranges; empty with cluster mode disabled.
        slots: Vec<(u16, u16)>,
        /// The configuration epoch to claim them with.
        epoch: u64,
    },
    /// Never writable, and no source of replication: follows the primary.
    Replica {
        /// The primary.
        primary: Address,
        /// Its cluster node id, where known; else the agent finds it by the address once they have met.
        primary_id: Option<String>,
    },
}

/// The good outcome of an order.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The replication offset after it, where the engine runs.
    #[serde(default)]
    pub offset: Option<i64>,
    /// What was done, in words, for the log (`"2 of 3 ids were known"`).
    #[serde(default)]
    pub note: String,
}

/// Why an order was not carried out. Except for `Failed`, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Refused {
    /// The order was meant for another node.
    #[error("this agent runs {node}")]
    WrongNode {
        /// The node of this agent.
        node: String,
    },
    /// The engine has ended or was started since.
    #[error("the boot is {boot} now")]
    WrongBoot {
        /// The current boot.
        boot: Boot,
    },
    /// A higher term was seen.
    #[error("term {term} has begun")]
    OldTerm {
        /// The highest term seen.
        term: u64,
    },
    /// The engine has another role, or does not run, or runs already.
    #[error("the engine is {is}")]
    WrongState {
        /// What it is, in words.
        is: String,
    },
    /// Clients have written since, so what was to be given up is not worthless.
    #[error("it has taken writes")]
    Written,
    /// The data is not as far as was expected.
    #[error("the offset is {offset}")]
    Behind {
        /// The own offset.
        offset: i64,
    },
    /// This agent's release does not know the command.
    #[error("this agent does not know that order: {what}")]
    Unsupported {
        /// What was not understood.
        what: String,
    },
    /// The engine answered with an error, or not in time; what was done until then stays.
    #[error("{message}")]
    Failed {
        /// The engine's words.
        message: String,
    },
}

/// What the agent's one child does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EngineState {
    /// No engine runs, and none will until it is let in.
    Parked,
    /// The process runs and does not answer yet (loading counts as running).
    Starting,
    /// It answers.
    Running,
    /// It was asked to shut down.
    Stopping,
}

/// How an engine's life ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The life that ended.
    pub boot: Boot,
    /// The exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal, if it was killed (9 is also what the kernel sends when memory runs out).
    pub signal: Option<i32>,
    /// Whether the cgroup counted an out-of-memory kill during that life.
    #[serde(default)]
    pub out_of_memory: bool,
    /// When, in milliseconds since the Unix epoch by the node's clock.
    pub at_ms: i64,
    /// How long it had lived, in milliseconds.
    pub lived_ms: u64,
    /// The last line it logged at warning level or the last line at all.
    #[serde(default)]
    pub last_words: String,
}

/// The small fsynced note beside the data: which history the volume holds, and how far.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The replication group.
    pub group: String,
    /// The cache node.
    pub node: String,
    /// The highest term seen.
    pub term: u64,
    /// The term in which the data was last written (as primary) or in sync (as replica).
    pub data_term: u64,
    /// The last role, if the node ever had one.
    pub role: Option<Role>,
    /// The replication id of the history.
    pub replid: String,
    /// How far, in bytes of history.
    pub offset: i64,
    /// False from the moment a full sync may have replaced the data until it is complete.
    pub complete: bool,
    /// The engine that wrote the data, e.g. `redis 7.0.15`.
    #[serde(default)]
    pub engine: String,
    /// When it was written, in milliseconds since the Unix epoch by the node's clock.
    pub at_ms: i64,
    /// When an engine last spoke of the data, by that clock: no leader's word and no term makes data younger. 0 in notes of
    /// earlier releases.
    #[serde(default)]
    pub data_at_ms: i64,
    /// The highest operator generation seen.
    #[serde(default)]
    pub operator_generation: u64,
    /// Written by a primary that had taken no write since it was started: it holds what it began with.
    #[serde(default)]
    pub unwritten: bool,
    /// Nothing that the engine had written is at the mercy of a power cut: it has ended, its append-only file is whole and on disk.
    /// Without this a note says less than there is, and a primary's data may be behind a replica's.
    #[serde(default)]
    pub closed: bool,
    /// The life of the machine (its kernel's boot) in which an append-only file was written that follows the engine: for as long
    /// as that lasts, what was handed to the kernel is there. Empty where there is no such file.
    #[serde(default)]
    pub machine_boot: String,
    /// How often an engine that was started from this data ended before it had loaded it; 0 again once it loads.
    #[serde(default)]
    pub failed_loads: u32,
}

/// Everything an agent knows about its node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Counts this agent process's reports.
    pub seq: u64,
    /// The cache node.
    pub node: String,
    /// The current life (of the running engine, or of the one that would be started next).
    pub boot: Boot,
    /// The agent's release.
    pub agent_version: String,
    /// The highest term seen.
    pub term: u64,
    /// What the engine's process does.
    pub state: EngineState,
    /// Whether the data directory outlives the Pod.
    pub persistent: bool,
    /// Whether there is a dataset in the data directory.
    pub has_data: bool,
    /// The note beside the data, if there is one.
    pub record: Option<Record>,
    /// What the engine says; `None` unless it runs and answers.
    pub engine: Option<EngineView>,
    /// How many lives of the engine ended under this agent process.
    pub exits: u32,
    /// The last end.
    pub last_exit: Option<Exit>,
    /// SIGTERM was received: the primary role should be handed over.
    pub terminating: bool,
    /// Whether silence pauses the writes.
    pub guard: bool,
    /// Whether the agent keeps the writes paused now because it heard no witness.
    pub fenced: bool,
    /// The last failed attempt to start or to follow, in words; empty if none since the boot.
    #[serde(default)]
    pub trouble: String,
    /// The note about a copy that was put aside and is kept until a person deletes it.
    #[serde(default)]
    pub kept: Option<Record>,
    /// What the engine runs with; `None` while none runs, and from an agent that does not say so.
    #[serde(default)]
    pub config: Option<Config>,
    /// Which orders the agent knows ([`crate::VOCABULARY`]); 0 from the first agents.
    #[serde(default)]
    pub vocabulary: u32,
    /// With cluster mode disabled: the engine was a primary in this life and is a replica now, and the clients that may have come
    /// by the primary endpoint were not closed since.
    #[serde(default)]
    pub former_clients: bool,
    /// How full the node's volume is; `None` without one, and from an agent that does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// The engine's process lives and answers nothing; `None` while it answers, loads or starts, and from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Unanswered>,
}

/// The file system that a data directory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its size.
    pub bytes: u64,
    /// What is left for us.
    pub free_bytes: u64,
}

impl Volume {
    /// How much is left, in whole percent.
    pub fn free_percent(&self) -> u64 {
        let percent = u128::from(self.free_bytes) * 100 / u128::from(self.bytes.max(1));
        u64::try_from(percent).unwrap_or(100)
    }

    /// Whether less is left than [`crate::VOLUME_SHORT_PERCENT`].
    pub fn is_short(&self) -> bool {
        self.free_percent() < crate::VOLUME_SHORT_PERCENT
    }
}

/// An engine that gives its agent no answer of any kind (an error is one, too), and what it said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unanswered {
    /// For how long it was asked in vain, in milliseconds; while the agent itself stood still nobody was asked.
    pub ms: u64,
    /// Its role.
    pub role: Role,
    /// Its history.
    pub replid: String,
    /// How far it was.
    pub offset: i64,
    /// Whether it held a whole copy.
    pub complete: bool,
}

impl Report {
    /// Whether its agent counts each witness from when it was asked for, and its beats say when they were sent.
    pub fn dates_witnesses(&self) -> bool {
        self.vocabulary >= 5
    }

    /// Whether the node's volume is short of space, or its engine could not write what it had to.
    pub fn is_short(&self) -> bool {
        let volume = |volume: &Volume| {
            let engine = self.engine.as_ref().filter(|engine| engine.write_failed);
            // A snapshot is about as large as what is in memory.
            let needs = engine.map_or(0, |engine| u64::try_from(engine.used_memory_bytes).unwrap_or(0));
            volume.is_short() || volume.free_bytes < needs
        };
        self.volume.as_ref().is_some_and(volume)
    }

    /// The term of the data, by the note beside it; 0 without a note.
    pub fn data_term(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.data_term)
    }
}

/// What an engine says of itself (`INFO`, `CLUSTER INFO`, `CLUSTER NODES`).
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineView {
    /// `redis_version` or `valkey_version`.
    pub version: String,
    /// The role; `None` only in a default value.
    pub role: Option<Role>,
    /// `master_replid`.
    pub replid: String,
    /// `master_replid2`; empty where there is none.
    pub replid2: String,
    /// A primary's `master_repl_offset`, a replica's `slave_repl_offset`.
    pub offset: i64,
    /// `second_repl_offset`; -1 where there is none.
    pub second_offset: i64,
    /// A dataset is being loaded.
    pub loading: bool,
    /// Whether this life of the engine holds a whole copy: a primary always, a replica once its first sync is complete.
    pub complete: bool,
    /// Keys in all databases.
    pub keys: u64,
    /// A primary that has taken no write since it was started, as far as its agent saw.
    #[serde(default)]
    pub unwritten: bool,
    /// `used_memory`, in bytes.
    pub used_memory_bytes: i64,
    /// The last write of the append-only file or the last snapshot failed (`aof_last_write_status`, `rdb_last_bgsave_status`).
    #[serde(default)]
    pub write_failed: bool,
    /// A replica's link.
    pub link: Option<Link>,
    /// A primary's replicas.
    pub replicas: Vec<ReplicaLink>,
    /// With cluster mode enabled.
    pub cluster: Option<Shared<ClusterView>>,
    /// A primary's slots that are marked as being migrated or imported, and those that it was asked to hold no key of and does: the
    /// first [`crate::OPEN_SLOTS_COUNTED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_slots: Vec<OpenSlot>,
}

/// A slot between two primaries, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSlot {
    /// Which.
    pub slot: u16,
    /// `CLUSTER COUNTKEYSINSLOT`.
    pub keys: u64,
    /// Whether the engine's marks have been as they are for [`crate::OPEN_SLOT_BOUND_MS`], by the agent's own looks.
    pub stood: bool,
}

/// A replica's link to its primary.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// `master_host`.
    pub host: String,
    /// `master_port`.
    pub port: u16,
    /// `master_link_status:up`.
    pub up: bool,
    /// `master_sync_in_progress:1`.
    pub syncing: bool,
    /// Since when it is down, in milliseconds (whole seconds, as of the report); 0 while it is up.
    pub down_ms: u64,
    /// Whether nothing has come in the stream for [`crate::FENCE_SILENCE_MS`], by the agent's own looks: an engine calls the link
    /// to a machine that fell silent up for a minute. `None` from agents that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<bool>,
    /// Whether the link has been down for [`crate::FENCE_SILENCE_MS`], by the agent's own looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parted: Option<bool>,
    /// Whether nothing has come in the stream for so long that whatever this replica acknowledged meanwhile keeps no primary writing
    /// any more ([`crate::ACKNOWLEDGED_MS`] and [`crate::FENCE_SILENCE_MS`]). `None` from agents before vocabulary 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
}

impl Link {
    /// Whether the primary is heard, or was within the last moments; a link that is up is believed until it was asked anew.
    pub fn hears(&self) -> bool {
        self.up || self.quiet.map_or(self.down_ms < crate::FENCE_SILENCE_MS, |quiet| !quiet)
    }

    /// Whether an acknowledgement may have reached the primary within the silence that it allows itself (P2), even where
    /// nothing came back.
    pub fn acknowledges(&self) -> bool {
        self.up || self.parted.map_or(self.down_ms < crate::FENCE_SILENCE_MS, |parted| !parted)
    }

    /// As [`Self::acknowledges`], for a primary whose agent counts acknowledgements from when their bytes were written: from the last
    /// byte that came on, whatever became of the link.
    pub fn sustains(&self) -> bool {
        self.lost.map_or_else(|| self.acknowledges(), |lost| !lost)
    }

    /// Whether the link is up by the engine's word alone: only asking anew tells whether anybody is there.
    pub fn is_stale(&self) -> bool {
        self.up && self.quiet == Some(true)
    }
}

/// A primary's view of a replica (up to a second old).
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaLink {
    /// The replica's address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `state=online`.
    pub online: bool,
    /// The offset it acknowledged.
    pub offset: i64,
    /// Seconds since its last acknowledgement.
    pub lag_s: i64,
}

/// The cluster as one engine sees it.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// The engine's own node id.
    pub my_id: String,
    /// `cluster_state:ok`.
    pub ok: bool,
    /// `cluster_current_epoch`.
    pub current_epoch: u64,
    /// `cluster_my_epoch`.
    pub my_epoch: u64,
    /// All nodes it knows, itself included.
    pub nodes: Vec<ClusterNode>,
}

impl ClusterView {
    /// The slots that the engine says it owns, as inclusive ranges.
    pub fn own_slots(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let own = self.nodes.iter().filter(|line| line.myself && line.primary);
        own.flat_map(|line| line.slots.iter().copied())
    }

    /// Whether the engine says that it owns a slot.
    pub fn owns(&self, slot: u16) -> bool {
        self.own_slots().any(|(first, last)| (first..=last).contains(&slot))
    }

    /// The slots that the engine itself migrates or imports.
    pub fn marks(&self) -> impl Iterator<Item = Mark<'_>> {
        self.nodes.iter().filter(|line| line.myself).flat_map(ClusterNode::marks)
    }

    /// The identity that the engine follows, by its own line.
    pub fn followed(&self) -> Option<&str> {
        self.nodes.iter().find(|line| line.myself)?.primary_id.as_deref()
    }
}

/// What an engine notes of a slot that is being migrated: `[93-<-ID]` or `[77->-ID]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark<'a> {
    /// Which slot.
    pub slot: u16,
    /// It is being imported; else it is being migrated.
    pub importing: bool,
    /// From whom, or to whom.
    pub peer: &'a str,
}

impl<'a> Mark<'a> {
    /// Reads what `CLUSTER NODES` prints; `None` if it is something else.
    pub fn read(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('[')?.strip_suffix(']')?;
        let (slot, importing, peer) = match (text.split_once("->-"), text.split_once("-<-")) {
            (Some((slot, peer)), _) => (slot, false, peer),
            (None, Some((slot, peer))) => (slot, true, peer),
            (None, None) => return None,
        };
        let slot = slot.parse().ok().filter(|slot| *slot < 16_384)?;
        Some(Self { slot, importing, peer })
    }
}

/// One line of `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNode {
    /// The node id.
    pub id: String,
    /// Where it is reached.
    pub host: String,
    /// Its client port.
    pub port: u16,
    /// `myself`.
    pub myself: bool,
    /// `master` (true) or `slave`.
    pub primary: bool,
    /// `fail`.
    pub fail: bool,
    /// `fail?`.
    pub pfail: bool,
    /// `handshake` or `noaddr`: not (or no longer) a full member.
    pub handshake: bool,
    /// The id of its primary, if it is a replica.
    pub primary_id: Option<String>,
    /// `connected`.
    pub connected: bool,
    /// Its configuration epoch.
    pub epoch: u64,
    /// Inclusive ranges of its slots.
    pub slots: Vec<(u16, u16)>,
    /// Slots being migrated or imported, as printed.
    #[serde(default)]
    pub open_slots: Vec<String>,
}

impl ClusterNode {
    /// Its slots that are being migrated or imported; an engine prints them of itself alone.
    pub fn marks(&self) -> impl Iterator<Item = Mark<'_>> {
        self.open_slots.iter().filter_map(|text| Mark::read(text))
    }
}
