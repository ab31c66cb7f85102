//! The model of an engine, held against the real one: the same scripts of commands and faults run on real processes and on the
//! model, and what Kagami relies on must agree: roles, epochs, flags, links, slots, histories, offsets' order, refusals.
//!
//! The engine is `KAGAMI_TEST_ENGINE`, or the first on the PATH; the model takes its version. `KAGAMI_TEST_SCRIPT` runs those
//! scripts alone whose name contains it.

#[cfg(test)]
mod conformance {
    pub(crate) mod model;
    pub(crate) mod observation;
    pub(crate) mod real;
    pub(crate) mod resp;
    pub(crate) mod script;
}

use conformance::model::ModelWorld;
use conformance::real::{self, RealWorld};
use conformance::script::Script;
use kagami_simulator::engine::Kind;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

/// Scripts that run at the same time: they mostly wait, but every process costs some start-up.
const SIDE_BY_SIDE: usize = 6;

#[cfg(test)]
fn scripts() -> Vec<Script> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/scripts");
    let only = std::env::var("KAGAMI_TEST_SCRIPT").unwrap_or_default();
    let mut scripts: Vec<Script> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| Script::read(&entry.unwrap().path()))
        .filter(|script| script.name.contains(&only))
        .collect();
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!scripts.is_empty(), "no script is called like {only:?}");
    scripts
}

/// The versions that Kagami's images have, whatever is installed here: each script must hold on the model by itself.
const VERSIONS: [(Kind, (u8, u8, u8)); 5] = [
    (Kind::Redis, (6, 2, 14)),
    (Kind::Redis, (7, 0, 15)),
    (Kind::Redis, (8, 6, 3)),
    (Kind::Valkey, (8, 1, 1)),
    (Kind::Valkey, (9, 1, 2)),
];

#[test]
fn every_script_holds_on_the_model_of_every_version() {
    let scripts = scripts();
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (kind, version) in VERSIONS {
            let (scripts, failures) = (&scripts, &failures);
            scope.spawn(move || {
                for script in scripts {
                    let mut world = ModelWorld::new(kind, version, 1);
                    if let Err(failure) = script.run(&mut world, None) {
                        let failure =
                            format!("{} on the model of {kind:?} {version:?}: {failure}", script.name);
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_model_does_what_the_engine_does() {
    let (kind, version) = real::version();
    let scripts = Mutex::new(scripts());
    let results = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(script) = scripts.lock().unwrap().pop() else { break };
                    let began = Instant::now();
                    // A machine that is busy with other things disturbs the real engines, never the model: a second try.
                    let mut result = compare(&script, kind, version);
                    for _ in 0..2 {
                        if result.is_err() && std::env::var_os("KAGAMI_TEST_ONCE").is_none() {
                            eprintln!("{} once more: {}", script.name, result.as_ref().unwrap_err());
                            result = compare(&script, kind, version);
                        }
                    }
                    results.lock().unwrap().push((script.name.clone(), result, began.elapsed()));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by(|a, b| a.0.cmp(&b.0));
    let mut failures = Vec::new();
    for (name, result, took) in results {
        println!("{:>6.1} s  {name}{}", took.as_secs_f32(), if result.is_err() { "  FAILED" } else { "" });
        if let Err(failure) = result {
            failures.push(format!("{name}: {failure}"));
        }
    }
    println!("{kind:?} {version:?}: {:.1} s in all", began.elapsed().as_secs_f32());
    assert!(failures.is_empty(), "{kind:?} {version:?}:\n{}", failures.join("\n\n"));
}

fn compare(script: &Script, kind: Kind, version: (u8, u8, u8)) -> Result<(), String> {
    let mut model = ModelWorld::new(kind, version, 11);
    let said = script.run(&mut model, None).map_err(|failure| format!("on the model: {failure}"))?;
    let mut engine = RealWorld::new(version);
    let outcome = script.run(&mut engine, Some(&said));
    outcome.map(|_| ()).map_err(|failure| format!("on the engine: {failure}\n{}", engine.last_words()))
}
