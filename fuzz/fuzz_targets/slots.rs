//! Sets of slots as people write them: what is read prints as what is read again.
#![no_main]

use kagami_core::slots::SlotSet;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(slots) = text.parse::<SlotSet>() {
        let printed = slots.to_string();
        assert_eq!(printed.parse::<SlotSet>().unwrap(), slots, "{printed}");
    }
});
