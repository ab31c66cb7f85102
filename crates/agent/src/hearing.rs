//! Whether a replica still hears its primary, pure.
//!
//! An engine calls its link up until `repl-timeout`, a minute, where a machine falls silent without a word. The stream tells
//! sooner: a primary pings its replicas each second (`repl-ping-replica-period 1`), and each ping moves the offset.

use kagami_protocol::{ACKNOWLEDGED_MS, FENCE_MARGIN_MS, FENCE_SILENCE_MS, Link};

/// Looks further apart than this are no listening: whoever stood still did not hear that nobody spoke.
const LISTENING_MS: u64 = 1_000;
/// A primary pings each second: where nothing came for longer, a silence may be about to be told, and looks come closer.
const CLOSELY_AFTER_MS: u64 = 1_200;
/// And no longer than this: by then it is told.
const CLOSELY_UNTIL_MS: u64 = LOST_MS + 100;
/// Whatever was acknowledged without having received anything keeps no primary writing any more.
const LOST_MS: u64 = ACKNOWLEDGED_MS + FENCE_SILENCE_MS + FENCE_MARGIN_MS;

/// What was heard of the primary, from look to look.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    looked_ms: u64,
    heard_ms: u64,
    up_ms: u64,
    last: Option<(String, u16, bool, i64)>,
}

impl Hearing {
    /// Takes a look in, `offset` being the replica's own; says in the link for how long nothing came, and how long it is down.
    pub fn look(&mut self, now_ms: u64, link: &mut Link, offset: i64) {
        let stood_still = now_ms.saturating_sub(self.looked_ms) > LISTENING_MS;
        let came = match &self.last {
            Some((host, port, was_up, before)) => {
                *host != link.host || *port != link.port || link.up && (!was_up || *before != offset)
            }
            None => true,
        };
        if stood_still || came {
            self.heard_ms = now_ms;
        }
        if stood_still || link.up || self.last.is_none() {
            self.up_ms = now_ms;
        }
        self.looked_ms = now_ms;
        self.last = Some((link.host.clone(), link.port, link.up, offset));
        link.quiet = Some(now_ms.saturating_sub(self.heard_ms) >= FENCE_SILENCE_MS);
        link.parted = Some(now_ms.saturating_sub(self.up_ms) >= FENCE_SILENCE_MS);
        link.lost = Some(now_ms.saturating_sub(self.heard_ms) >= LOST_MS);
    }

    /// Whether the next look should not be waited for as long as at rest.
    pub fn closely(&self, now_ms: u64) -> bool {
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        self.last.is_some() && (CLOSELY_AFTER_MS..CLOSELY_UNTIL_MS).contains(&silent_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(up: bool) -> Link {
        Link { host: "10.0.0.1".into(), port: 6379, up, ..Link::default() }
    }

    fn look(hearing: &mut Hearing, now_ms: u64, mut link: Link, offset: i64) -> (bool, bool) {
        hearing.look(now_ms, &mut link, offset);
        (link.quiet.unwrap(), link.parted.unwrap())
    }

    #[test]
    fn a_stream_that_stands_still_is_quiet_after_the_silence_and_not_before() {
        let mut hearing = Hearing::default();
        for step in 0..50 {
            // A ping each second.
            let (now_ms, offset) = (step * 200, (step as i64 * 200 / 1_000) * 14);
            assert_eq!(look(&mut hearing, now_ms, link(true), offset), (false, false), "at {now_ms}");
        }
        let quiet = |step: &u64| look(&mut hearing, step * 200, link(true), 126).0;
        assert_eq!((50..70).find(quiet), Some(53), "the last ping came at 9,000, and was seen at once");
        assert!(!look(&mut hearing, 10_800, link(true), 140).0, "one byte is a word");
    }

    #[test]
    fn a_link_that_goes_down_is_no_word_and_its_last_acknowledgement_is_a_time_of_its_own() {
        let mut hearing = Hearing::default();
        let looks = [
            (0, true, (false, false)),
            (900, true, (false, false)),
            (1_500, false, (true, false)),
            (2_400, false, (true, true)),
            (2_600, true, (false, false)),
        ];
        for (now_ms, up, seen) in looks {
            assert_eq!(look(&mut hearing, now_ms, link(up), 5), seen, "at {now_ms}");
        }
    }

    #[test]
    fn who_stood_still_has_not_listened() {
        let mut hearing = Hearing::default();
        for (now_ms, quiet) in [(0, false), (60_000, false), (60_800, false), (61_600, true)] {
            assert_eq!(look(&mut hearing, now_ms, link(false), 5), (quiet, quiet), "at {now_ms}");
        }
    }

    #[test]
    fn another_primary_is_heard_anew() {
        let mut hearing = Hearing::default();
        assert!(!look(&mut hearing, 0, link(true), 5).0);
        assert!(!look(&mut hearing, 800, link(true), 5).0);
        let other = Link { host: "10.0.0.2".into(), ..link(false) };
        assert!(!look(&mut hearing, 1_600, other, 5).0);
    }
}
