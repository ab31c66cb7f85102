//! Many seeds over all cores.

use crate::mutant::Mutant;
use crate::run::run;
use crate::script::{FAULTS, Phase, Script, Shape};
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often each fault met each phase.
type Coverage = BTreeMap<(&'static str, Phase), u64>;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Many {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Of one shape only.
    pub shape: Option<Shape>,
    /// A planted bug, which is to be found: the first seed that does ends it.
    pub mutant: Option<Mutant>,
    /// On how many cores.
    pub jobs: usize,
    /// No seed begins after this.
    pub within: Option<Duration>,
    /// Which fault met which phase is printed.
    pub coverage: bool,
}

/// Seeds that nobody has run: from the wall clock on, a million for each second.
pub fn fresh() -> Range<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = now.map_or(1, |since| since.as_secs()).saturating_mul(1_000_000);
    first..u64::MAX
}

/// How many cores there are.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs the seeds and prints what came of them: a success if no promise was broken, or a planted bug was found.
pub fn drive(many: &Many) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(many.seeds.start);
    let found = AtomicBool::new(false);
    let bad: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::default();
    let coverage: Mutex<Coverage> = Mutex::default();
    let (runs, steps, counted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..many.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = many.within.is_some_and(|within| begun.elapsed() >= within);
                    if seed >= many.seeds.end || late || found.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(&Script::draw(seed, many.shape.clone()), many.mutant, false);
                    runs.fetch_add(1, Ordering::Relaxed);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    if outcome.steps >= 200 && outcome.overlapping >= 5 {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Ok(mut coverage) = coverage.lock() {
                        for (cell, count) in outcome.coverage {
                            *coverage.entry(cell).or_default() += count;
                        }
                    }
                    // A planted bug is found where all is well without it.
                    let broken = !outcome.violations.is_empty()
                        && (many.mutant.is_none()
                            || run(&Script::draw(seed, many.shape.clone()), None, false).violations.is_empty());
                    if broken
                        && let Ok(mut bad) = bad.lock()
                    {
                        println!("seed {seed}: {}", outcome.violations.join("; "));
                        let shape = if many.shape.is_some() { " --3x2" } else { "" };
                        match many.mutant {
                            Some(_) => found.store(true, Ordering::Relaxed),
                            None => println!(
                                "    replay: make simulate SEED={seed}, or kagami-simulator{shape} --seed {seed} (--shrink makes it small)"
                            ),
                        }
                        bad.insert(seed, outcome.violations);
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let runs = runs.into_inner();
    if many.coverage {
        print_coverage(&coverage.into_inner().unwrap_or_default());
    }
    let bad = bad.into_inner().unwrap_or_default();
    println!(
        "{runs} runs from seed {} on in {took:.1} s on {} cores: {:.0} a minute and core; {} of them with at least 200 steps and 5 faults that met an action; {} steps a run; {} broke a promise",
        many.seeds.start,
        many.jobs,
        runs as f64 / took * 60.0 / many.jobs as f64,
        counted.into_inner(),
        steps.into_inner() / runs.max(1),
        bad.len()
    );
    if bad.is_empty() == many.mutant.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table: which fault met which phase. A planted row or column of zeros is something that never happened.
fn print_coverage(coverage: &Coverage) {
    print!("| fault |");
    for phase in Phase::ALL {
        print!(" {} |", phase.name());
    }
    println!("\n|---|{}", "---:|".repeat(Phase::ALL.len()));
    for fault in FAULTS {
        print!("| {fault} |");
        for phase in Phase::ALL {
            print!(" {} |", coverage.get(&(fault, phase)).copied().unwrap_or(0));
        }
        println!();
    }
}
