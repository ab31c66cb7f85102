//! Many seeds over all cores.

use crate::mutant::Mutant;
use crate::run::run;
use crate::script::{Script, Shape};
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Runs the seeds and prints what came of them.
pub fn drive(seeds: Range<u64>, shape: Option<Shape>, mutant: Option<Mutant>) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let bad: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::default();
    let coverage: Mutex<BTreeMap<(&'static str, &'static str), u64>> = Mutex::default();
    let (steps, counted) = (AtomicU64::new(0), AtomicU64::new(0));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(&Script::draw(seed, shape.clone()), mutant, false);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    if outcome.steps >= 200 && outcome.overlapping >= 5 {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Ok(mut coverage) = coverage.lock() {
                        for (cell, count) in outcome.coverage {
                            *coverage.entry(cell).or_default() += count;
                        }
                    }
                    if !outcome.violations.is_empty()
                        && let Ok(mut bad) = bad.lock()
                    {
                        println!("seed {seed}: {}", outcome.violations.join("; "));
                        bad.insert(seed, outcome.violations);
                    }
                }
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let runs = seeds.end - seeds.start;
    let coverage = coverage.into_inner().unwrap_or_default();
    print_coverage(&coverage);
    let bad = bad.into_inner().unwrap_or_default();
    println!(
        "{runs} runs in {took:.1} s on {cores} cores: {:.0} a minute and core; {} of them with at least 200 steps and 5 faults that met an action; {} steps a run; {} broke a promise",
        runs as f64 / took * 60.0 / cores as f64,
        counted.into_inner(),
        steps.into_inner() / runs.max(1),
        bad.len()
    );
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table: which fault met which phase.
pub fn print_coverage(coverage: &BTreeMap<(&'static str, &'static str), u64>) {
    let phases = ["creation", "failover", "handover", "replacement", "deletion", "rest"];
    print!("{:<18}", "fault met phase");
    for phase in phases {
        print!("{phase:>12}");
    }
    println!();
    let faults: std::collections::BTreeSet<&str> = coverage.keys().map(|(fault, _)| *fault).collect();
    for fault in faults {
        print!("{fault:<18}");
        for phase in phases {
            let count =
                coverage.iter().find(|((f, p), _)| *f == fault && *p == phase).map_or(0, |(_, count)| *count);
            print!("{count:>12}");
        }
        println!();
    }
}
