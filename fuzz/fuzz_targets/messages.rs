//! What operator and agent say to each other, and the note beside the data: what is read and written again is the same.
#![no_main]

use kagami_protocol::{FromAgent, Record, ToAgent};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = serde_json::from_slice::<ToAgent>(bytes) {
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::to_string(&serde_json::from_str::<ToAgent>(&text).unwrap()).unwrap(), text);
    }
    if let Ok(message) = serde_json::from_slice::<FromAgent>(bytes) {
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::to_string(&serde_json::from_str::<FromAgent>(&text).unwrap()).unwrap(), text);
    }
    if let Ok(note) = serde_json::from_slice::<Record>(bytes) {
        let text = serde_json::to_string(&note).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), note);
    }
});
