//! The node agent: the first process of a cache node's container, in front of a stock engine.
//!
//! It parks, starts, reports, obeys fenced orders, and hands over. It decides nothing about the cluster, with one
//! exception: a primary that hears no witness of its role pauses writes ([`guard`]).

mod args;
mod client;
mod cluster;
mod config;
mod health;
mod install;
mod lease;
mod node;
mod observe;
mod perform;
mod process;
mod record;
mod server;
mod start;
mod stop;
mod volume;
mod writes;

use kagami_agent::{claim, guard, orders, persistence, state, version};

use args::{Args, Command, LogFormat, Settings};
use clap::Parser as _;
use node::Node;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// What keeps the agent from running.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Server(#[from] server::ServerError),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Install { dest } => install::install(&dest).map_err(RunError::from),
        Command::Exec { parent, program, arguments } => {
            Err(process::become_engine(parent, &program, &arguments).into())
        }
        Command::Run(settings) => {
            logs(settings.log);
            run(*settings)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Also what an engine that could not be started leaves as its last words.
            eprintln!("kagami-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.with_ansi(false).init(),
    }
}

/// One thread: the engine must die with the thread that started it, and there is little to do.
fn run(settings: Settings) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(settings));
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings) -> Result<(), RunError> {
    // First of all: the kernel gives the first process no default handlers.
    let asked = tokio::spawn(stop::asked());
    tokio::task::yield_now().await;
    let (note, trouble) = start::load_note(&settings.data_dir);
    let has_data = volume::has_data(&settings.data_dir);
    let node = Arc::new(Node::new(settings, note.clone(), has_data, trouble));
    if note.as_ref().is_some_and(|note| !note.complete) {
        start::restore(&node, note).await;
        node.change(|state| state.has_data = volume::has_data(&node.settings.data_dir));
    }
    let operators = server::listen(node.settings.agent_port).await?;
    let probes = server::listen(node.settings.health_port).await?;
    {
        let state = node.state();
        tracing::info!(node = %node.settings.node, boot = %state.boot, term = state.term, has_data = state.has_data, "parked");
    }
    let reaper = node.clone();
    tokio::spawn(async move {
        if let Err(error) = reaper.reaper.run().await {
            tracing::error!(%error, "children are not reaped");
        }
    });
    let notes = node.clone();
    tokio::spawn(async move { notes.keep_note().await });
    let volume = node.clone();
    tokio::spawn(async move { volume.watch_volume().await });
    tokio::spawn(observe::run(node.clone()));
    tokio::spawn(lease::guard(node.clone()));
    tokio::spawn(health::run(node.clone(), probes));
    tokio::spawn(server::run(node.clone(), operators));
    let why = asked.await.unwrap_or(Ok("the end of its task"))?;
    stop::stop(&node, why).await;
    Ok(())
}
