//! The Kagami operator: watch → observe → plan → act → status; and the command line.

mod agents;
mod args;
mod convert;
mod cycle;
mod export;
mod http;
mod in_use;
mod leader;
mod metrics;
mod observe;
mod referred;
mod run;
mod secrets;
mod stores;
mod world;

use args::{Arguments, Command, LogFormat};
use clap::Parser;
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Operator(operator) => {
            logs(operator.log);
            wait_for(run::operator(operator))
        }
        Command::Convert(convert) => return convert::command(&convert),
        Command::Export(export) => wait_for(export::command(export)),
        Command::Crds => print(&crds()),
        Command::Reasons => print(&kagami_api::reason::markdown()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = if error.is::<leader::Lost>() { begin_again(&error) } else { error };
            let _ = writeln!(std::io::stderr(), "kagami: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A process that lost its lease ends, and with it whatever it still meant to do; the next one begins in its place, by an exec and
/// not by an exit: to the kubelet an exit is a crash, and a slow apiserver would have it wait longer and longer between two
/// attempts. Returns only if that fails.
fn begin_again(error: &anyhow::Error) -> anyhow::Error {
    let lost = metrics::leadership_lost() + 1;
    tracing::warn!(%error, lost, "this process may no longer act; another begins in its place");
    let mut words = std::env::args_os();
    let mut again = std::process::Command::new("/proc/self/exe");
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    again.args(words).env(metrics::LEADERSHIP_LOST, lost.to_string()).exec().into()
}

/// Runs what speaks to a cluster to its end.
fn wait_for(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // One crypto provider for the whole process; a second call would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).map_err(anyhow::Error::from)
}

fn crds() -> String {
    let documents: Vec<String> = kagami_api::crds().iter().map(kagami_api::crd::yaml).collect();
    documents
        .iter()
        .map(
            |document| {
                if document.starts_with("---") { document.clone() } else { format!("---\n{document}") }
            },
        )
        .collect()
}

fn logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}
