//! Bounded waiting and running of programs.

use anyhow::{Context, Result, bail, ensure};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Looks until it finds something. What stood in the way last (an error or "not yet") is part of the complaint.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    let mut last = String::from("it was never looked at to the end");
    while began.elapsed() < limit {
        match tokio::time::timeout(limit.saturating_sub(began.elapsed()), look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => break,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!("not within {:.0} s: {what}; last: {last}", limit.as_secs_f64())
}

/// The opposite: something must hold the whole time.
pub(crate) async fn throughout(
    what: &str,
    time: Duration,
    mut look: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        look().await.with_context(|| format!("after {:.1} s: {what}", began.elapsed().as_secs_f64()))?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// What a program has said.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its output, or its complaint as an error.
    pub(crate) fn well(self, what: &str) -> Result<String> {
        ensure!(self.success, "{what}: {}{}", self.err.trim(), self.out.trim());
        Ok(self.out.trim().to_owned())
    }
}

/// Runs a program to its end, or ends it.
pub(crate) async fn run(
    program: &str,
    arguments: &[&str],
    input: Option<&str>,
    limit: Duration,
) -> Result<Said> {
    use tokio::io::AsyncWriteExt;
    let what = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(what)?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).await.with_context(what)?;
    }
    let output = tokio::time::timeout(limit, child.wait_with_output())
        .await
        .with_context(|| format!("not done within {:.0} s: {}", limit.as_secs_f64(), what()))?
        .with_context(what)?;
    Ok(Said {
        success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
