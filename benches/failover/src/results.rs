//! Runs: one line of a file each, and a table of all of them.

use crate::probe::Observation;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;

/// One fault and what clients saw of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) shape: String,
    pub(crate) fault: String,
    /// Straight to the nodes: the longest time between two acknowledged writes.
    #[serde(default = "nothing", deserialize_with = "number")]
    pub(crate) direct_ms: f64,
    /// Through the cluster client, or through the primary endpoint.
    #[serde(default = "nothing", deserialize_with = "number")]
    pub(crate) library_ms: f64,
    /// Through redis-py.
    #[serde(default = "nothing", deserialize_with = "number")]
    pub(crate) python_ms: f64,
    pub(crate) errors: usize,
    #[serde(default)]
    pub(crate) python_errors: usize,
    /// Cluster clients of redis-rs that were given up.
    #[serde(default)]
    pub(crate) stuck: usize,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) confirmed: usize,
    pub(crate) confirmed_lost: usize,
    pub(crate) told: String,
    pub(crate) at: String,
    pub(crate) load: String,
}

fn nothing() -> f64 {
    f64::NAN
}

/// What is not measured is written as `null`.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

impl Run {
    /// A run of which one time is measured, and no client.
    pub(crate) fn timed(shape: &str, fault: &str, took_ms: f64) -> Self {
        let seen = Observation { direct_ms: took_ms, ..Observation::default() };
        Self::of(shape, fault, &seen, (0, 0), String::new())
    }

    pub(crate) fn of(
        shape: &str,
        fault: &str,
        seen: &Observation,
        lost: (usize, usize),
        told: String,
    ) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            version: String::new(),
            shape: shape.to_owned(),
            fault: fault.to_owned(),
            direct_ms: seen.direct_ms,
            library_ms: seen.library_ms,
            python_ms: seen.python_ms,
            errors: seen.errors,
            python_errors: seen.python_errors,
            stuck: seen.stuck,
            acknowledged: seen.keys.len(),
            lost: lost.0,
            confirmed: seen.keys.iter().filter(|(_, confirmed)| *confirmed).count(),
            confirmed_lost: lost.1,
            told,
            at: jiff::Timestamp::now().to_string(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<18} {:<9} nodes {:>8.1} ms  client {:>8.1} ms  redis-py {:>8.1} ms  lost {} of {} ({} of {} confirmed)  {} and {} errors, {} stuck  load {}  {}",
            self.shape,
            self.fault,
            self.direct_ms,
            self.library_ms,
            self.python_ms,
            self.lost,
            self.acknowledged,
            self.confirmed_lost,
            self.confirmed,
            self.errors,
            self.python_errors,
            self.stuck,
            self.load,
            self.told
        )
    }
}

/// The file and what it holds of this version.
pub(crate) struct Results {
    file: File,
    version: String,
    runs: Vec<Run>,
}

impl Results {
    pub(crate) fn open(path: &Path, version: &str) -> Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        let runs = BufReader::new(&file)
            .lines()
            .map_while(Result::ok)
            // A line that was cut off by the end of a run is measured again.
            .filter_map(|line| serde_json::from_str::<Run>(&line).ok())
            .filter(|run| run.version == version)
            .collect();
        Ok(Self { file, version: version.to_owned(), runs })
    }

    pub(crate) fn count(&self, shape: &str, fault: &str) -> usize {
        self.runs.iter().filter(|run| run.shape == shape && run.fault == fault).count()
    }

    pub(crate) fn add(&mut self, run: Run) -> Result<()> {
        let run = Run { version: self.version.clone(), ..run };
        writeln!(self.file, "{}", serde_json::to_string(&run)?)?;
        self.runs.push(run);
        Ok(())
    }

    /// Median, 95th percentile and worst of each cell.
    pub(crate) fn table(&self) -> String {
        let mut cells: BTreeMap<(String, String), Vec<&Run>> = BTreeMap::new();
        for run in &self.runs {
            cells.entry((run.fault.clone(), run.shape.clone())).or_default().push(run);
        }
        let mut text = format!(
            "\n{} version {}\n\n\
             Longest time between two acknowledged writes, in milliseconds (median, 95th percentile, worst): straight to the nodes, through\n\
             redis-rs and through redis-py (cluster mode disabled: through the primary endpoint). Of `addresses`: from the start of the last\n\
             container to an acknowledged write to every slot. Lost: acknowledged writes that were not there afterwards; in brackets those\n\
             that a replica had acknowledged too (WAIT 1). Errors: of redis-rs and of redis-py, after their own retries; in brackets the\n\
             clients of redis-rs that were given up after ten seconds.\n\n\
             | fault | shape | runs | nodes: median | p95 | worst | redis-rs: median | p95 | worst | redis-py: median | p95 | worst | lost | errors |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            machine(),
            self.version
        );
        for ((fault, shape), runs) in cells {
            let column = |of: fn(&Run) -> f64| {
                let mut values: Vec<f64> =
                    runs.iter().map(|run| of(run)).filter(|value| !value.is_nan()).collect();
                values.sort_by(f64::total_cmp);
                if values.is_empty() {
                    return "– | – | –".to_owned();
                }
                format!("{:.0} | {:.0} | {:.0}", at(&values, 50), at(&values, 95), at(&values, 100))
            };
            let sum = |of: fn(&Run) -> usize| runs.iter().map(|run| of(run)).sum::<usize>();
            let _ = writeln!(
                text,
                "| {fault} | {shape} | {} | {} | {} | {} | {} of {} ({} of {}) | {}, {} ({}) |",
                runs.len(),
                column(|run| run.direct_ms),
                column(|run| run.library_ms),
                column(|run| run.python_ms),
                sum(|run| run.lost),
                sum(|run| run.acknowledged),
                sum(|run| run.confirmed_lost),
                sum(|run| run.confirmed),
                sum(|run| run.errors),
                sum(|run| run.python_errors),
                sum(|run| run.stuck),
            );
        }
        text
    }
}

/// The nearest rank of a percentile; the values are sorted.
fn at(values: &[f64], percent: usize) -> f64 {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Processors, memory and kernel of this machine.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{cpus} processors ({}), {} memory, Linux {}, load {}",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        kernel.trim(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    )
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let values: Vec<f64> = (1..=20).map(f64::from).collect();
    assert_eq!((at(&values, 50), at(&values, 95), at(&values, 100)), (10.0, 19.0, 20.0));
    assert_eq!((at(&[7.0], 50), at(&[7.0], 95)), (7.0, 7.0));
}
