//! `INFO` and `--version`.
#![no_main]

use kagami_protocol::engine_text::{Fields, engine_view, server_version};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let fields = Fields::read(text);
    let view = engine_view(&fields);
    assert!(view.link.as_ref().is_none_or(|link| !link.up || link.down_ms == 0));
    // Reading section by section is reading the whole.
    let mut parts = Fields::default();
    for line in text.lines() {
        parts.add(line);
    }
    assert_eq!(parts, fields);
    let _ = server_version(text);
});
