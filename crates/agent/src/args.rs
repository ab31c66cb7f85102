//! The command line and the environment.

use clap::{Parser, Subcommand, ValueEnum};
use kagami_protocol::{AGENT_PORT, HEALTH_PORT};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(name = "kagami-agent", version, about = "Parks, starts and hands over one cache node's engine")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copies this program to a path, for a container whose image does not have it.
    Install {
        /// Where to; replaced atomically.
        dest: PathBuf,
    },
    /// Runs as the container's first process.
    Run(Box<Settings>),
    /// Becomes the engine: sets what only the process itself can set, then is replaced by the program.
    #[command(hide = true)]
    Exec {
        /// The agent's process id; if it is gone already, nothing is started.
        #[arg(long)]
        parent: i32,
        /// The program.
        program: PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// What `run` is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// The replication group.
    #[arg(long, env = "KAGAMI_GROUP")]
    pub(crate) group: String,
    /// The cache node, e.g. `dva-0001-001`.
    #[arg(long, env = "KAGAMI_NODE")]
    pub(crate) node: String,
    /// The Lease that holds the shard's term.
    #[arg(long, env = "KAGAMI_SHARD_LEASE", default_value = "")]
    pub(crate) shard_lease: String,
    /// The namespace of the group.
    #[arg(long, env = "KAGAMI_NAMESPACE", default_value = "")]
    pub(crate) namespace: String,
    /// The Pod's UID.
    #[arg(long, env = "POD_UID")]
    pub(crate) pod_uid: String,
    /// The Pod's address (for the log; what is announced comes with the order to start).
    #[arg(long, env = "POD_IP", default_value = "")]
    pub(crate) pod_ip: String,
    /// Where the engine keeps its data.
    #[arg(long, env = "KAGAMI_DATA_DIR", default_value = "/data")]
    pub(crate) data_dir: PathBuf,
    /// Whether the data outlives the Pod.
    #[arg(long, env = "KAGAMI_PERSISTENT", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) persistent: bool,
    /// `ca.crt`, `tls.crt`, `tls.key`, `agent-password`, `replication-password`.
    #[arg(long, env = "KAGAMI_SECRETS_DIR", default_value = "/kagami/secrets")]
    pub(crate) secrets_dir: PathBuf,
    /// The engine's socket and configuration file.
    #[arg(long, env = "KAGAMI_RUN_DIR", default_value = "/kagami/run")]
    pub(crate) run_dir: PathBuf,
    /// The operator's port (mutual TLS).
    #[arg(long, env = "KAGAMI_AGENT_PORT", default_value_t = AGENT_PORT)]
    pub(crate) agent_port: u16,
    /// The port of `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "KAGAMI_HEALTH_PORT", default_value_t = HEALTH_PORT)]
    pub(crate) health_port: u16,
    /// The engine's program; else the group's engine is looked for on the PATH.
    #[arg(long, env = "KAGAMI_ENGINE_BINARY")]
    pub(crate) engine_binary: Option<PathBuf>,
    /// The group's engine.
    #[arg(long, env = "KAGAMI_ENGINE", default_value = "redis")]
    pub(crate) engine: EngineKind,
    /// How logs are written.
    #[arg(long, env = "KAGAMI_LOG", default_value = "json")]
    pub(crate) log: LogFormat,
    /// Whether the guard may ask the apiserver for the shard's Lease.
    #[arg(long, env = "KAGAMI_API", default_value = "in-cluster")]
    pub(crate) api: Api,
    /// The service account that asks: `token`, `ca.crt`.
    #[arg(long, env = "KAGAMI_ACCOUNT_DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    pub(crate) account_dir: PathBuf,
    /// How long a SIGTERM waits for the primary role to be handed over, in milliseconds.
    #[arg(long, env = "KAGAMI_HANDOVER_MS", default_value_t = 10_000)]
    pub(crate) handover_ms: u64,
    /// How long the engine may take to shut down before it is killed, in milliseconds.
    #[arg(long, env = "KAGAMI_SHUTDOWN_MS", default_value_t = 8_000)]
    pub(crate) shutdown_ms: u64,
}

impl Settings {
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("engine.sock")
    }

    pub(crate) fn engine_config(&self) -> PathBuf {
        self.run_dir.join("engine.conf")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineKind {
    Redis,
    Valkey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    InCluster,
    Disabled,
}

#[cfg(test)]
pub(crate) fn test_settings() -> Settings {
    let words =
        ["kagami-agent", "run", "--group=dva", "--node=dva-0001-001", "--pod-uid=pod", "--api=disabled"];
    match Args::parse_from(words).command {
        Command::Run(settings) => *settings,
        other => panic!("{other:?}"),
    }
}
