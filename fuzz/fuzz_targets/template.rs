//! CloudFormation templates: whatever is given is converted, or refused with a place and a sentence.
#![no_main]

use kagami_convert::{Options, convert, decode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = decode(bytes) else { return };
    if let Err(failure) = convert(&text, &Options::default()) {
        assert!(!failure.problems.is_empty());
        assert!(failure.problems.iter().all(|problem| problem.line > 0));
    }
});
