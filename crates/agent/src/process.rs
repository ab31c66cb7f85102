//! The engine's process: started, its lines passed on, its end noticed at once. As the container's first process the
//! agent reaps whatever else ends, too.

use rustix::process::{Pid, Signal, WaitOptions};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What keeps an engine from being started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("no engine on the PATH: looked for {0}")]
    NotFound(String),
    #[error("{program}: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("{program} --version said: {said:?}")]
    Version { program: PathBuf, said: String },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// A running engine.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) started: Instant,
    pub(crate) last_words: LastWords,
    pub(crate) out_of_memory_before: u64,
    pub(crate) pumps: Vec<JoinHandle<()>>,
}

/// Waits for children. One lock for starting and reaping: a child cannot end before it is known who it is.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    engine: tokio::sync::Mutex<Option<(Pid, oneshot::Sender<Ended>)>>,
}

impl Reaper {
    /// Reaps until the end of the agent.
    pub(crate) async fn run(&self) -> io::Result<()> {
        let mut child_ended = signal(SignalKind::child())?;
        loop {
            self.reap().await;
            child_ended.recv().await;
        }
    }

    async fn reap(&self) {
        let mut engine = self.engine.lock().await;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some((_, tell)) = engine.take_if(|(known, _)| *known == pid) {
                let ended = Ended { code: status.exit_status(), signal: status.terminating_signal() };
                let _ = tell.send(ended);
            }
        }
    }

    /// Starts the engine through this same program, which sets what only the process itself can set.
    pub(crate) async fn start(
        &self,
        program: &Path,
        config: &Path,
        data_dir: &Path,
    ) -> Result<(Process, oneshot::Receiver<Ended>), ProcessError> {
        let failed = |source| ProcessError::Spawn { program: program.into(), source };
        let (tell, ended) = oneshot::channel();
        let mut engine = self.engine.lock().await;
        let own = std::env::current_exe().map_err(failed)?;
        let out_of_memory_before = out_of_memory_kills();
        let mut child = Command::new(own)
            .arg("exec")
            .arg(format!("--parent={}", std::process::id()))
            .arg(program)
            .arg(config)
            .current_dir(data_dir)
            // A locale that the image does not have ends some versions at their start.
            .env("LC_ALL", "C")
            .env_remove("LANG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = Pid::from_child(&child);
        *engine = Some((pid, tell));
        drop(engine);
        let last_words = LastWords::default();
        let mut pumps = Vec::new();
        if let Some(out) = child.stdout.take().and_then(|out| tokio::process::ChildStdout::from_std(out).ok())
        {
            pumps.push(tokio::spawn(pump(out, last_words.clone())));
        }
        if let Some(err) = child.stderr.take().and_then(|err| tokio::process::ChildStderr::from_std(err).ok())
        {
            pumps.push(tokio::spawn(pump(err, last_words.clone())));
        }
        Ok((Process { pid, started: Instant::now(), last_words, out_of_memory_before, pumps }, ended))
    }

    /// What the engine's program says of itself.
    pub(crate) async fn version(&self, program: &Path) -> Result<String, ProcessError> {
        let _no_reaping = self.engine.lock().await;
        let output = Command::new(program)
            .arg("--version")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ProcessError::Spawn { program: program.into(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Looks for a program on the PATH.
pub(crate) fn find(names: &[&str], path: Option<&OsStr>) -> Result<PathBuf, ProcessError> {
    let default = OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let dirs: Vec<PathBuf> = std::env::split_paths(path.unwrap_or(default)).collect();
    names
        .iter()
        .find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()))
        .ok_or_else(|| ProcessError::NotFound(names.join(", ")))
}

/// Becomes the engine. Returns only if that fails.
pub(crate) fn become_engine(parent: i32, program: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
    // The engine must not outlive its agent. In a container the first process's end ends all others anyhow; this is
    // for where the agent is not the first.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    if rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()) != parent {
        return io::Error::other("the agent is gone");
    }
    // When the container's memory runs out, the engine is the one to go, not the agent that can tell what happened. No
    // more than a step: the kubelet has weighed this pod against the others of the machine.
    if let Some(score) = fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok()) {
        let _ = fs::write(OOM_SCORE, (score + 1).min(1000).to_string());
    }
    Command::new(program).args(arguments).exec()
}

/// What the engine logged last.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastWords(Arc<Mutex<Words>>);

#[derive(Debug, Default)]
struct Words {
    last: String,
    warning: String,
    /// A configuration that it refuses is told in several lines, of which the last says least.
    refused: Vec<String>,
}

impl LastWords {
    fn add(&self, line: &str) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if line.split_ascii_whitespace().any(|word| word == "#") {
            line.clone_into(&mut words.warning);
        }
        if line.contains("FATAL CONFIG FILE ERROR") || (!words.refused.is_empty() && words.refused.len() < 4)
        {
            words.refused.push(line.to_owned());
        }
        line.clone_into(&mut words.last);
    }

    /// Whether the engine refused its configuration, or its program could not be run at all.
    pub(crate) fn blames_the_start(&self) -> bool {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !words.refused.is_empty() || words.last.starts_with("kagami-agent:")
    }

    /// The last line at warning level, or the last line at all.
    pub(crate) fn get(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (words.refused.as_slice(), words.warning.as_str()) {
            ([], "") => words.last.clone(),
            ([], warning) => warning.to_owned(),
            (refused, _) => refused.join(" "),
        }
    }
}

async fn pump(from: impl AsyncRead + Unpin, last_words: LastWords) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        tracing::info!(target: "engine", "{line}");
        // `1:M 01 Jan 2026 00:00:00.000 # Out Of Memory …`, as far as it helps.
        let end = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
        last_words.add(&line[..end]);
    }
}

/// Lets the pumps reach the end of the lines, but not for long: a forked child may hold the pipe.
pub(crate) async fn drain(pumps: Vec<JoinHandle<()>>) {
    let all = futures::future::join_all(pumps);
    let _ = tokio::time::timeout(Duration::from_millis(10), all).await;
}

/// How many processes the kernel ended in this container's cgroup because memory ran out.
pub(crate) fn out_of_memory_kills() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup_files(&own).iter().find_map(|path| oom_kill_count(&fs::read_to_string(path).ok()?)).unwrap_or(0)
}

/// Where the count may be: in a container its own cgroup is mounted as the root, elsewhere it is below.
fn cgroup_files(own: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            paths.push(Path::new("/sys/fs/cgroup").join(path).join("memory.events"));
            paths.push(PathBuf::from("/sys/fs/cgroup/memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            paths.push(Path::new("/sys/fs/cgroup/memory").join(path).join("memory.oom_control"));
            paths.push(PathBuf::from("/sys/fs/cgroup/memory/memory.oom_control"));
        }
    }
    paths
}

/// `oom_kill 2`, in both versions of cgroups.
fn oom_kill_count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_warning_is_kept_over_later_chatter() {
        let words = LastWords::default();
        words.add("1:M 01 Jan 2026 00:00:00.000 * Ready to accept connections");
        assert!(words.get().ends_with("connections"));
        words.add("1:M 01 Jan 2026 00:00:00.000 # Out Of Memory allocating 8 bytes!");
        words.add("1:M 01 Jan 2026 00:00:00.000 * bye");
        assert!(words.get().contains("Out Of Memory"));
    }

    #[test]
    fn a_refused_configuration_is_told_with_the_line() {
        let words = LastWords::default();
        for line in [
            "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***",
            "Reading the configuration file, at line 2",
            ">>> 'no-such-thing 1'",
            "Bad directive or wrong number of arguments",
        ] {
            words.add(line);
        }
        assert!(words.get().contains("'no-such-thing 1' Bad directive"));
    }

    #[test]
    fn kills_are_counted_in_both_versions_of_cgroups() {
        assert_eq!(oom_kill_count("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(oom_kill_count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(oom_kill_count("oom_kill_disable 0\n"), None);
        let v1 = cgroup_files("4:memory:/kubepods/pod1/abc\n1:cpu:/\n0::/\n");
        assert_eq!(v1[0], Path::new("/sys/fs/cgroup/memory/kubepods/pod1/abc/memory.oom_control"));
        assert_eq!(v1[1], Path::new("/sys/fs/cgroup/memory/memory.oom_control"));
    }

    #[test]
    fn a_missing_engine_is_said_by_name() {
        let error = find(&["redis-server"], Some(OsStr::new("/nowhere"))).unwrap_err();
        assert_eq!(error.to_string(), "no engine on the PATH: looked for redis-server");
    }
}
