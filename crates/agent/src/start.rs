//! Letting a parked node in: the data is made ready, the engine is started, and brought into its role.

use crate::args::EngineKind;
use crate::client::{Client, EngineError};
use crate::cluster::{self, Within};
use crate::config;
use crate::node::{self, Life, Node, wall_ms};
use crate::observe;
use crate::process::{self, Ended, ProcessError};
use crate::record;
use crate::state;
use crate::version::Version;
use crate::volume::{self, VolumeError};
use kagami_protocol::{Boot, Done, Exit, Record, Refused, Start, StartRole};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// How long the order waits for the first answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const ASK_WITHIN: Duration = Duration::from_millis(500);
const ASK_EVERY: Duration = Duration::from_millis(4);
/// How long a replica tries to find and follow its primary by itself.
const FOLLOW_WITHIN: Duration = Duration::from_secs(10);
const FOLLOW_EVERY: Duration = Duration::from_millis(20);

/// Why a node could not be let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("a task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("the engine ended at its start: {0}")]
    Ended(String),
    #[error("the engine did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
}

/// Carries out the order; the node is parked and stays so until the engine runs.
pub(crate) async fn start(node: &Arc<Node>, start: Start) -> Result<Done, Refused> {
    let failed = |error: StartError| {
        tracing::error!(%error, "the engine was not started");
        let message = error.to_string();
        node.change(|state| state.trouble.clone_from(&message));
        Refused::Failed { message }
    };
    let (boot, answered, note) = spawn(node, start).await.map_err(failed)?;
    let answered = tokio::time::timeout(ANSWER_WITHIN, answered).await;
    match answered {
        Ok(Ok(())) => {}
        // The script ends with the engine.
        Ok(Err(_)) => {
            let words =
                node.state().last_exit.as_ref().map(|exit| exit.last_words.clone()).unwrap_or_default();
            return Err(failed(StartError::Ended(words)));
        }
        Err(_) => return Err(failed(StartError::Silent)),
    }
    observe::look(node).await;
    let offset = {
        let state = node.state();
        state.view.as_ref().filter(|_| state.boot == boot).map(|view| view.offset)
    };
    Ok(Done { offset, note })
}

async fn spawn(node: &Arc<Node>, start: Start) -> Result<(Boot, oneshot::Receiver<()>, String), StartError> {
    let settings = &node.settings;
    let (program, version) = node.version.get_or_try_init(|| version(node)).await?;
    let agent_password = secret(&settings.secrets_dir, "agent-password")?;
    let replication_password = secret(&settings.secrets_dir, "replication-password")?;
    let replication_password = config::of_shard(&replication_password, &settings.shard_lease);
    let cluster = config::cluster_enabled(&start);
    let note = prepare_data(node, &start, cluster).await?;
    let text = config::render(
        &start,
        &config::Local {
            version,
            data_dir: &settings.data_dir.to_string_lossy(),
            socket: &settings.socket().to_string_lossy(),
            agent_password: &agent_password,
            replication_password: &replication_password,
        },
    );
    write_private(&settings.engine_config(), &text)?;
    let _ = std::fs::remove_file(settings.socket());
    let started_wall = SystemTime::now();
    let (process, ended) = node.reaper.start(program, &settings.engine_config(), &settings.data_dir).await?;
    let client = Arc::new(Client::new(settings.socket(), agent_password.clone()));
    let role = state::started_as(&start);
    let process::Process { pid, started, last_words, out_of_memory_before, pumps } = process;
    let boot = node.change(|state| {
        let now_ms = node.now_ms();
        let process = node::Process {
            pid,
            started,
            started_wall,
            last_words,
            out_of_memory_before,
            client: client.clone(),
            script: None,
        };
        let boot = state.boot.clone();
        state
            .begin(Life::new(boot.clone(), start.clone(), cluster, version.clone(), now_ms, process), now_ms);
        boot
    });
    tracing::info!(%boot, ?role, cluster, version = %version, pod_ip = %settings.pod_ip, "let in: the engine is started");
    tokio::spawn(await_end(node.clone(), boot.clone(), ended, pumps));
    tokio::spawn(observe::pulse(node.clone(), boot.clone(), Client::new(settings.socket(), agent_password)));
    let (tell, answered) = oneshot::channel();
    let script =
        tokio::spawn(script(node.clone(), boot.clone(), client, start, cluster, version.clone(), tell));
    node.with_life(&boot, |life| life.script = Some(script.abort_handle()));
    node.expect_movement(3_000);
    Ok((boot, answered, note))
}

async fn version(node: &Node) -> Result<(PathBuf, Arc<Version>), StartError> {
    let names = match node.settings.engine {
        EngineKind::Redis => ["redis-server", "valkey-server"],
        EngineKind::Valkey => ["valkey-server", "redis-server"],
    };
    let program = match &node.settings.engine_binary {
        Some(program) => program.clone(),
        None => process::find(&names, std::env::var_os("PATH").as_deref())?,
    };
    let said = node.reaper.version(&program).await?;
    let version = Version::read(&said)
        .ok_or_else(|| ProcessError::Version { program: program.clone(), said: said.clone() })?;
    tracing::info!(program = %program.display(), version = %version, "the engine");
    Ok((program, Arc::new(version)))
}

fn secret(dir: &Path, name: &str) -> Result<String, StartError> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
        Err(source) => Err(StartError::Io { path, source }),
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), StartError> {
    let io = |source| StartError::Io { path: path.into(), source };
    let _ = std::fs::remove_file(path);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)
}

/// Puts the data aside or keeps it, and says which in the note beside it. Answers what was done, in words.
async fn prepare_data(node: &Node, start: &Start, cluster: bool) -> Result<String, StartError> {
    let aside = state::puts_aside(start, cluster);
    let (data_dir, keep) = (node.settings.data_dir.clone(), start.keep_previous);
    // Nobody else writes the note meanwhile.
    let _in_turn = node.storing.lock().await;
    let (label, old, new) = {
        let state = node.state();
        let old = state.note.clone();
        let label = state.boot.to_string().replace('/', "-");
        let (group, name) = (&node.settings.group, &node.settings.node);
        let new =
            state::note_of_start(old.as_ref(), group, name, state.term, state.operator_generation, wall_ms());
        (label, old, new)
    };
    let done = if aside {
        let note = new.clone();
        let moved = tokio::task::spawn_blocking(move || {
            volume::put_aside(&data_dir, &label, old.as_ref(), &note, keep)
        })
        .await??;
        node.state().note = Some(new);
        if moved { "the data that was there is put aside" } else { "there was no data" }
    } else {
        tokio::task::spawn_blocking(move || volume::drop_identity(&data_dir)).await??;
        "the data that was there is kept"
    };
    node.change(|state| {
        state.has_data = volume::has_data(&node.settings.data_dir);
        state.kept = volume::kept(&node.settings.data_dir);
    });
    tracing::info!(done);
    Ok(done.into())
}

/// The engine ended, for whatever reason: parked again, and told at once.
async fn await_end(
    node: Arc<Node>,
    boot: Boot,
    ended: oneshot::Receiver<Ended>,
    pumps: Vec<tokio::task::JoinHandle<()>>,
) {
    let ended = ended.await.unwrap_or(Ended { code: None, signal: None });
    // Whatever it forked goes with it: a snapshot still being written must not land in the next life's data.
    node.kill(&boot);
    process::drain(pumps).await;
    let note = {
        let mut state = node.state();
        state.write_down_the_end(&node.settings.group, &node.settings.node, wall_ms());
        if state.failed_to_load(|life| life.last_words.blames_the_start()) {
            // Never deleted for that; but the next best volume comes first from now on.
            if let Some(note) = &mut state.note {
                note.failed_loads = note.failed_loads.saturating_add(1);
            }
        }
        state.note.clone()
    };
    // Before it is told: what was put aside is the best there is if nothing whole came in its place.
    if note.as_ref().is_some_and(|note| !note.complete) {
        restore(&node, note).await;
    }
    node.change(|state| {
        let life = state.life.take();
        let Some(life) = life.filter(|life| life.boot == boot) else { return };
        if let Some(script) = &life.script {
            script.abort();
        }
        let kills = process::out_of_memory_kills();
        let exit = Exit {
            boot: boot.clone(),
            code: ended.code,
            signal: ended.signal,
            out_of_memory: ended.signal == Some(9) && kills > life.out_of_memory_before,
            at_ms: wall_ms(),
            lived_ms: u64::try_from(life.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            last_words: life.last_words.get(),
        };
        tracing::warn!(
            %boot, code = exit.code, signal = exit.signal, out_of_memory = exit.out_of_memory,
            lived_ms = exit.lived_ms, last_words = %exit.last_words, "the engine ended: parked"
        );
        state.end(exit, volume::has_data(&node.settings.data_dir));
    });
    let _ = std::fs::remove_file(node.settings.socket());
    if let Err(error) = node.store().await {
        tracing::error!(%error, "the note beside the data could not be written");
    }
}

/// Brings back what was put aside, if that is better than what is there.
pub(crate) async fn restore(node: &Node, note: Option<Record>) {
    let data_dir = node.settings.data_dir.clone();
    let _in_turn = node.storing.lock().await;
    match tokio::task::spawn_blocking(move || volume::restore(&data_dir, note.as_ref())).await {
        Ok(Ok(Some(note))) => {
            tracing::warn!(
                offset = note.offset,
                "the copy in its place was never complete: what was put aside is back"
            );
            let mut state = node.state();
            state.kept = volume::kept(&node.settings.data_dir);
            // So that nothing of the ended life is written over it.
            state.view = None;
            state.note = Some(note);
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::error!(%error, "what was put aside could not be brought back"),
        Err(error) => tracing::error!(%error, "what was put aside could not be brought back"),
    }
}

/// Reads the note at the agent's start. One that cannot be read is put away, not trusted and not lost.
pub(crate) fn load_note(data_dir: &Path) -> (Option<Record>, String) {
    let path = record::path(data_dir);
    match record::load(&path) {
        Ok(note) => (note, String::new()),
        Err(error) => {
            tracing::error!(%error, "the note beside the data cannot be read");
            let _ = std::fs::rename(&path, path.with_extension("json.unreadable"));
            (None, format!("the note beside the data cannot be read: {error}"))
        }
    }
}

/// Brings the engine into its role; ends with the engine, or when another order takes over.
async fn script(
    node: Arc<Node>,
    boot: Boot,
    client: Arc<Client>,
    start: Start,
    cluster: bool,
    version: Arc<Version>,
    answered: oneshot::Sender<()>,
) {
    loop {
        match client.text(&["INFO", "server"], ASK_WITHIN).await {
            Ok(_) => break,
            Err(error) if error.is_answer() => break,
            Err(_) => tokio::time::sleep(ASK_EVERY).await,
        }
    }
    let now_ms = node.now_ms();
    node.with_life(&boot, |life| life.heard_ms = now_ms);
    let _ = answered.send(());
    node.wake.notify_one();
    if !cluster {
        return;
    }
    let result = match &start.role {
        StartRole::Primary { slots, epoch } => lead(&client, &version, &start, slots, *epoch).await,
        StartRole::Replica { primary, primary_id } => {
            let until = tokio::time::Instant::now() + FOLLOW_WITHIN;
            loop {
                let followed = async {
                    cluster::meet(&client, &start.announce, start.peers.iter().chain([primary])).await?;
                    cluster::follow(&client, primary, primary_id.as_deref(), Within(Duration::from_secs(1)))
                        .await
                };
                match followed.await {
                    Ok(()) => break Ok(()),
                    Err(error) if tokio::time::Instant::now() >= until => break Err(error),
                    Err(_) => tokio::time::sleep(FOLLOW_EVERY).await,
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::warn!(%error, "the engine runs, but not in its role");
        node.change(|state| {
            if state.boot == boot && state.life.is_some() {
                state.not_in_role(&error.to_string());
            }
        });
    }
    node.expect_movement(3_000);
}

/// A primary claims its slots as soon as its data is loaded, then meets the others.
async fn lead(
    client: &Client,
    version: &Version,
    start: &Start,
    slots: &[(u16, u16)],
    epoch: u64,
) -> Result<(), EngineError> {
    // No bound: a large dataset takes as long as it takes, and the engine's end ends this, too.
    while let Err(error) = cluster::assign_slots(client, version, slots, Some(epoch), &[]).await {
        let loading =
            error.says("LOADING") || matches!(error, EngineError::Silent(_) | EngineError::Unreached(_));
        if !loading {
            return Err(error);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
    cluster::meet(client, &start.announce, start.peers.iter()).await?;
    Ok(())
}
