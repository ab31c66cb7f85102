//! `CLUSTER NODES` and `CLUSTER INFO`, whatever an engine may say. `nodes.conf` has the same lines; Kagami never reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let nodes = kagami_protocol::engine_text::cluster_nodes(text);
    assert!(nodes.len() <= text.lines().count());
    for node in &nodes {
        assert!(!node.id.is_empty() && !node.id.contains(|c: char| c.is_ascii_whitespace()));
        assert!(node.open_slots.iter().all(|open| open.starts_with('[')));
    }
    let _ = kagami_protocol::engine_text::cluster_info(text);
});
