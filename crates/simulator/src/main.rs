//! `make simulate`: many seeds over all cores, or one with its story.

use kagami_simulator::driver::{self, Many};
use kagami_simulator::mutant::Mutant;
use kagami_simulator::run::run;
use kagami_simulator::script::{Script, Shape};
use std::process::ExitCode;
use std::time::Duration;

/// A run is mostly small objects that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut many = Many {
        seeds: 1..101,
        shape: None,
        mutant: None,
        jobs: driver::cores(),
        within: None,
        coverage: false,
    };
    let mut story = false;
    let mut file = None;
    let mut shrinks = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--seeds" => {
                let text = value();
                let (from, to) = text.split_once("..").unwrap_or(("1", &text));
                many.seeds = from.parse().unwrap_or(1)..to.parse::<u64>().unwrap_or(100) + 1;
            }
            "--seed" => {
                let seed: u64 = value().parse().unwrap_or(1);
                many.seeds = seed..seed + 1;
                story = true;
            }
            "--quiet" => story = false,
            "--3x2" => many.shape = Some(Shape::three_by_two()),
            "--mutant" => {
                let name = value();
                many.mutant = Mutant::parse(&name);
                if many.mutant.is_none() {
                    eprintln!("{name} is none of {:?}", Mutant::ALL);
                    return ExitCode::FAILURE;
                }
            }
            "--jobs" => many.jobs = value().parse().unwrap_or(1),
            // For that long, seeds that nobody has run before.
            "--seconds" => {
                many.within = Some(Duration::from_secs(value().parse().unwrap_or(60)));
                many.seeds = driver::fresh();
            }
            "--coverage" => many.coverage = true,
            "--script" => file = Some(value()),
            "--shrink" => shrinks = true,
            other => {
                eprintln!("unknown argument {other}");
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(file) = file {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let Ok(script) = serde_json::from_str::<Script>(&text) else {
            eprintln!("{file} is no script");
            return ExitCode::FAILURE;
        };
        return tell(&script, many.mutant);
    }
    if story || shrinks {
        let mut script = Script::draw(many.seeds.start, many.shape);
        if shrinks {
            script = kagami_simulator::shrink::shrink(&script, many.mutant);
            println!("{}", serde_json::to_string_pretty(&script).unwrap_or_default());
        }
        return tell(&script, many.mutant);
    }
    driver::drive(&many)
}

fn tell(script: &Script, mutant: Option<Mutant>) -> ExitCode {
    println!("{}", serde_json::to_string(script).unwrap_or_default());
    let outcome = run(script, mutant, true);
    for line in &outcome.story {
        println!("{line}");
    }
    println!(
        "{} steps, {} faults, {} overlapping, {} ms, rest after {} ms",
        outcome.steps, outcome.faults, outcome.overlapping, outcome.ms, outcome.rest_ms
    );
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
