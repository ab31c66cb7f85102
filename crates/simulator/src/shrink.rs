//! Makes a failing schedule small: faults are taken away, and made shorter, as long as the same promise is broken.

use crate::mutant::Mutant;
use crate::run::run;
use crate::script::Script;

/// The promise that a violation is about: what comes after the time, up to the first colon or the first words.
fn kind(violation: &str) -> String {
    let text = violation.split_once("ms: ").map_or(violation, |(_, text)| text);
    text.split([':', ' ']).next().unwrap_or_default().to_owned()
}

/// A smaller script that breaks the same promise.
pub fn shrink(script: &Script, mutant: Option<Mutant>) -> Script {
    let Some(wanted) = run(script, mutant, false).violations.first().map(|violation| kind(violation)) else {
        return script.clone();
    };
    let fails = |script: &Script| {
        run(script, mutant, false).violations.first().is_some_and(|violation| kind(violation) == wanted)
    };
    let mut best = script.clone();
    // In halves, then quarters, then one by one.
    let mut size = best.faults.len().div_ceil(2);
    while size >= 1 {
        let mut from = 0;
        while from < best.faults.len() {
            let mut fewer = best.clone();
            let to = (from + size).min(fewer.faults.len());
            fewer.faults.drain(from..to);
            if fails(&fewer) {
                best = fewer;
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    if best.shape.operators > 1 {
        let mut fewer = best.clone();
        fewer.shape.operators = 1;
        if fails(&fewer) {
            best = fewer;
        }
    }
    best
}
