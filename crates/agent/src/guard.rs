//! Self-fencing (promise P2), pure: a guarded primary that heard no witness for [`FENCE_SILENCE_MS`] pauses its writes.
//!
//! A witness counts from when it was *asked for*, not from when it was read: a confirmation from the beat that it answers, the
//! lease from the question (and not for long), an acknowledgement until [`ACKNOWLEDGED_MS`] after its bytes were written. So whatever
//! the network holds back keeps nobody writing, and the operator knows without a guess when a silent primary has paused.
//!
//! A frozen agent that wakes finds old confirmations in its buffers. Hence, once the silence was too long, a confirmation counts
//! only on a connection that was accepted afterwards (its TLS handshake proves that what follows is fresh), the lease only if it
//! was asked for afterwards, and replicas only if they go on acknowledging for a while.
//!
//! All times are milliseconds of one monotonic clock.

use kagami_protocol::{ACKNOWLEDGED_MS, BEAT_MS, FENCE_SILENCE_MS, LEASE_HOLDS_MS};
use std::collections::VecDeque;

/// For how long replicas must go on acknowledging until they end a fence.
const REPLICAS_SUSTAINED_MS: u64 = 2_500;
/// The longest pause between two acknowledgements of a sustained row (engines acknowledge each second).
const REPLICAS_GAP_MS: u64 = 1_700;
/// The lease is asked for only after this much silence: two beats, since who is confirmed with every beat should not ask as often as
/// it is confirmed; and early enough for an answer before the silence ends. What is asked for before [`LEASE_HOLDS_MS`] of the
/// end adds nothing.
pub const LEASE_AFTER_MS: u64 = 2 * BEAT_MS;
/// How often it is asked for then, whether or not the last question is answered: one that takes half a second is in time.
pub const LEASE_EVERY_MS: u64 = 250;

/// Whoever knows whether this node is still the primary of its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The operator, on a connection accepted at that time.
    Confirm {
        /// The shard's term.
        term: u64,
        /// When the beat was sent that it answers.
        given_ms: u64,
        /// When the connection was accepted.
        accepted_ms: u64,
    },
    /// A replica acknowledged, not before that time.
    Replica {
        /// Not before then.
        since_ms: u64,
    },
    /// The apiserver's lease, asked for at that time.
    Lease {
        /// When it was asked for.
        asked_ms: u64,
        /// Its term.
        term: u64,
        /// Whether this node is its holder.
        ours: bool,
    },
}

/// What the guard knows of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The operator wants silence to pause writes (another copy could be promoted).
    pub on: bool,
    /// The engine is a primary.
    pub primary: bool,
    /// The highest term seen.
    pub term: u64,
}

impl Facts {
    fn guarded(self) -> bool {
        self.on && self.primary
    }
}

/// The state of the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    heard_ms: u64,
    fenced_ms: Option<u64>,
    denied_term: Option<u64>,
    /// First and last of the acknowledgements since the fence.
    replicas: Option<(u64, u64)>,
}

impl Guard {
    /// Its silence begins now.
    pub fn new(now_ms: u64) -> Self {
        Self { heard_ms: now_ms, fenced_ms: None, denied_term: None, replicas: None }
    }

    /// An order made this node the primary just now: as good as a confirmation.
    pub fn begin(&mut self, now_ms: u64) {
        *self = Self::new(now_ms);
    }

    /// Whether writes must be paused.
    pub fn fenced(&self) -> bool {
        self.fenced_ms.is_some()
    }

    /// Whether the lease is worth asking for.
    pub fn wants_lease(&self, now_ms: u64, facts: Facts) -> bool {
        facts.guarded() && now_ms.saturating_sub(self.heard_ms) >= LEASE_AFTER_MS
    }

    /// Lets time pass; to be called often, and before anything that was heard is judged.
    pub fn tick(&mut self, now_ms: u64, facts: Facts) {
        if !facts.guarded() {
            self.begin(now_ms);
        } else if self.fenced_ms.is_none() && now_ms.saturating_sub(self.heard_ms) > FENCE_SILENCE_MS {
            self.fenced_ms = Some(now_ms);
            self.replicas = None;
        }
    }

    /// Hears a witness.
    pub fn hear(&mut self, now_ms: u64, facts: Facts, witness: Witness) {
        self.tick(now_ms, facts);
        if facts.guarded() {
            self.judge(now_ms, facts, witness);
            // What was given long ago may be too old by now.
            self.tick(now_ms, facts);
        }
    }

    fn judge(&mut self, now_ms: u64, facts: Facts, witness: Witness) {
        let fenced_ms = self.fenced_ms;
        // "Is this from after the fence began?"
        let fresh = |given_ms: u64| fenced_ms.is_none_or(|fenced_ms| given_ms > fenced_ms);
        match witness {
            Witness::Confirm { term, given_ms, accepted_ms } => {
                let known = facts.term.max(self.denied_term.unwrap_or(0));
                if term >= known && fresh(accepted_ms) {
                    self.confirmed(now_ms, given_ms.min(now_ms));
                }
            }
            Witness::Lease { asked_ms, term, ours } => {
                if term > facts.term || (term == facts.term && !ours) {
                    self.denied_term = Some(term.max(self.denied_term.unwrap_or(0)));
                    self.fenced_ms.get_or_insert(now_ms);
                } else if term == facts.term && ours && self.denied_term.is_none() && fresh(asked_ms) {
                    self.confirmed(now_ms, (asked_ms + LEASE_HOLDS_MS).saturating_sub(FENCE_SILENCE_MS));
                }
            }
            Witness::Replica { since_ms } => {
                if self.denied_term.is_some() || !fresh(since_ms) {
                    return;
                }
                if fenced_ms.is_none() {
                    self.heard_ms = self.heard_ms.max(since_ms.min(now_ms));
                    return;
                }
                let first = match self.replicas {
                    Some((first, last)) if since_ms.saturating_sub(last) <= REPLICAS_GAP_MS => first,
                    _ => since_ms,
                };
                self.replicas = Some((first, since_ms));
                if since_ms.saturating_sub(first) >= REPLICAS_SUSTAINED_MS {
                    self.confirmed(now_ms, since_ms);
                }
            }
        }
    }

    fn confirmed(&mut self, now_ms: u64, given_ms: u64) {
        if now_ms.saturating_sub(given_ms) > FENCE_SILENCE_MS {
            return;
        }
        self.heard_ms = self.heard_ms.max(given_ms);
        self.fenced_ms = None;
        self.denied_term = None;
        self.replicas = None;
    }
}

/// When a replica's acknowledgement arrived, as narrowly as `INFO replication` tells.
///
/// `lag` counts whole seconds of the engine's cached clock, so each poll gives only bounds for the second of the last
/// acknowledgement; it has certainly been followed by another once the lower bound exceeds an earlier upper bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgements {
    /// The smallest upper bound, the offset, and when the poll that gave them was sent.
    last: Option<(i64, i64, u64)>,
}

/// Since when at the earliest a primary's bytes have been written, by the agent's own looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// When the last look was sent.
    looked_ms: u64,
    /// Offsets that were new in a look, and when the look before it was sent: none of them was written earlier.
    since: VecDeque<(i64, u64)>,
    /// Up to there it is not remembered.
    forgotten: i64,
}

impl Written {
    /// A look that was sent at that time showed that offset.
    pub fn look(&mut self, sent_ms: u64, offset: i64) {
        let last = self.since.back().map_or(self.forgotten, |(last, _)| *last);
        if self.looked_ms == 0 || offset < last {
            // The first look, or another history: nobody knows when that was written.
            (self.since, self.forgotten) = (VecDeque::new(), offset);
        } else if offset > last {
            self.since.push_back((offset, self.looked_ms));
            while self.since.front().is_some_and(|(_, at)| at + 2 * ACKNOWLEDGED_MS < sent_ms) {
                self.forgotten = self.since.pop_front().map_or(self.forgotten, |(offset, _)| offset);
            }
        }
        self.looked_ms = sent_ms;
    }

    /// Until when an acknowledgement of bytes up to there counts, if it does at all.
    pub fn counts_until(&self, offset: i64) -> Option<u64> {
        let known = self.since.iter().find(|(seen, _)| *seen >= offset).filter(|_| offset > self.forgotten);
        known.map(|(_, since_ms)| since_ms + ACKNOWLEDGED_MS)
    }
}

/// One poll of one replica's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// When the poll was sent.
    pub sent_ms: u64,
    /// The wall clock, in milliseconds, when it was sent.
    pub wall_sent_ms: i64,
    /// The wall clock when it was answered.
    pub wall_answered_ms: i64,
    /// The acknowledged offset.
    pub offset: i64,
    /// `lag`.
    pub lag_s: i64,
}

impl Acknowledgements {
    /// Takes a poll in; answers since when at the earliest a new acknowledgement has come, if one has.
    pub fn poll(&mut self, poll: Poll) -> Option<u64> {
        // The engine's cached clock may be a tick behind.
        let lower = (poll.wall_sent_ms - 150).div_euclid(1000) - poll.lag_s;
        let upper = poll.wall_answered_ms.div_euclid(1000) - poll.lag_s;
        let Some((known_upper, known_offset, known_ms)) = self.last else {
            self.last = Some((upper, poll.offset, poll.sent_ms));
            return None;
        };
        if lower > known_upper || poll.offset > known_offset {
            self.last = Some((upper, poll.offset, poll.sent_ms));
            return Some(known_ms);
        }
        if upper <= known_upper {
            self.last = Some((upper, poll.offset, poll.sent_ms));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ON: Facts = Facts { on: true, primary: true, term: 5 };

    /// The answer to a beat of just now.
    fn confirm(term: u64, accepted_ms: u64) -> Witness {
        Witness::Confirm { term, given_ms: u64::MAX, accepted_ms }
    }

    #[test]
    fn p2_a_confirmation_counts_from_the_beat_that_it_answers_however_long_it_was_under_way() {
        let mut guard = Guard::new(0);
        for under_way in [100, 700, 1_400] {
            guard.begin(0);
            guard.hear(under_way, ON, Witness::Confirm { term: 5, given_ms: 10, accepted_ms: 0 });
            guard.tick(10 + FENCE_SILENCE_MS, ON);
            assert!(!guard.fenced());
            guard.tick(11 + FENCE_SILENCE_MS, ON);
            assert!(guard.fenced(), "{under_way}");
        }
        guard.hear(4_000, ON, Witness::Confirm { term: 5, given_ms: 2_000, accepted_ms: 1_900 });
        assert!(guard.fenced(), "fresh, and too old all the same");
        guard.hear(4_000, ON, Witness::Confirm { term: 5, given_ms: 3_900, accepted_ms: 1_900 });
        assert!(!guard.fenced());
    }

    #[test]
    fn p2_the_lease_holds_for_its_time_from_the_question() {
        let mut guard = Guard::new(0);
        guard.hear(1_450, ON, Witness::Lease { asked_ms: 1_200, term: 5, ours: true });
        guard.tick(1_200 + LEASE_HOLDS_MS, ON);
        assert!(!guard.fenced());
        guard.tick(1_201 + LEASE_HOLDS_MS, ON);
        assert!(guard.fenced());
        guard.hear(3_100, ON, Witness::Lease { asked_ms: 3_000, term: 5, ours: true });
        assert!(!guard.fenced());
        for asked_ms in (3_250..8_000).step_by(LEASE_EVERY_MS as usize) {
            guard.hear(asked_ms + 500, ON, Witness::Lease { asked_ms, term: 5, ours: true });
            assert!(!guard.fenced(), "answers that take half a second are in time");
        }
    }

    #[test]
    fn p2_who_receives_nothing_acknowledges_nothing_new() {
        let mut written = Written::default();
        for (sent_ms, offset) in [(1_000, 10), (1_200, 10), (1_400, 24), (1_600, 24), (1_800, 90)] {
            written.look(sent_ms, offset);
        }
        assert_eq!(written.counts_until(10), None, "nobody knows when that was written");
        assert_eq!(written.counts_until(24), Some(1_200 + ACKNOWLEDGED_MS));
        assert_eq!(written.counts_until(25), Some(1_600 + ACKNOWLEDGED_MS));
        assert_eq!(written.counts_until(91), None);
        for sent_ms in (2_000..9_000).step_by(20) {
            written.look(sent_ms, sent_ms as i64);
        }
        assert_eq!(written.counts_until(90), None, "it is acknowledged for ever, and counts no more");
        assert_eq!(written.counts_until(8_980), Some(8_960 + ACKNOWLEDGED_MS));
        written.look(9_100, 5);
        assert_eq!(written.counts_until(5), None, "another history");
    }

    #[test]
    fn silence_fences_and_a_fresh_confirmation_resumes() {
        let mut guard = Guard::new(0);
        guard.tick(FENCE_SILENCE_MS, ON);
        assert!(!guard.fenced());
        guard.tick(FENCE_SILENCE_MS + 1, ON);
        assert!(guard.fenced());
        guard.hear(2000, ON, confirm(5, 100));
        assert!(guard.fenced(), "it may have lain in a buffer since before the fence");
        guard.hear(2100, ON, confirm(4, 2050));
        assert!(guard.fenced(), "an old term confirms nothing");
        guard.hear(2200, ON, confirm(5, 2050));
        assert!(!guard.fenced());
    }

    #[test]
    fn a_frozen_agent_does_not_take_what_it_finds_in_its_buffers() {
        let mut guard = Guard::new(0);
        guard.hear(400, ON, confirm(5, 0));
        // Frozen for ten seconds; the first thing it reads is a confirmation, before any tick.
        guard.hear(10_400, ON, confirm(5, 0));
        assert!(guard.fenced());
    }

    #[test]
    fn the_lease_confirms_and_a_higher_term_in_it_is_a_definite_no() {
        let mut guard = Guard::new(0);
        guard.hear(1000, ON, Witness::Lease { asked_ms: 900, term: 5, ours: true });
        guard.tick(1_650, ON);
        assert!(!guard.fenced());
        guard.hear(1_660, ON, Witness::Lease { asked_ms: 1_655, term: 6, ours: false });
        assert!(guard.fenced());
        for now in [3000, 4000, 5000, 6000, 7000] {
            guard.hear(now, ON, Witness::Replica { since_ms: now });
            guard.hear(now, ON, Witness::Lease { asked_ms: now, term: 5, ours: true });
            guard.hear(now, ON, confirm(5, now));
            assert!(guard.fenced());
        }
        guard.hear(8000, ON, confirm(6, 7500));
        assert!(!guard.fenced());
    }

    #[test]
    fn another_holder_of_the_same_term_is_a_no() {
        let mut guard = Guard::new(0);
        guard.hear(10, ON, Witness::Lease { asked_ms: 5, term: 5, ours: false });
        assert!(guard.fenced());
        guard.tick(20, Facts { primary: false, ..ON });
        assert!(!guard.fenced(), "another role ends it");
    }

    #[test]
    fn replicas_keep_it_awake_but_end_a_fence_only_if_they_go_on() {
        let mut guard = Guard::new(0);
        for now in (1000..10_000).step_by(1000) {
            guard.hear(now, ON, Witness::Replica { since_ms: now - 200 });
            guard.tick(now + 400, ON);
            assert!(!guard.fenced());
        }
        guard.tick(20_000, ON);
        guard.hear(20_010, ON, Witness::Replica { since_ms: 20_005 });
        assert!(guard.fenced(), "one acknowledgement may have been under way for long");
        guard.hear(21_000, ON, Witness::Replica { since_ms: 20_900 });
        guard.hear(22_000, ON, Witness::Replica { since_ms: 21_900 });
        assert!(guard.fenced());
        guard.hear(23_000, ON, Witness::Replica { since_ms: 22_900 });
        assert!(!guard.fenced());
    }

    #[test]
    fn without_guard_nothing_is_ever_fenced() {
        let mut guard = Guard::new(0);
        guard.tick(1_000_000, Facts { on: false, ..ON });
        assert!(!guard.fenced());
        guard.tick(1_000_000 + FENCE_SILENCE_MS, ON);
        assert!(!guard.fenced(), "turned on, its silence begins");
    }

    #[test]
    fn acknowledgements_are_noticed_each_second_with_polls_each_200_ms() {
        for (phase, pinged) in
            [0, 50, 333, 500, 777, 999].into_iter().flat_map(|phase| [(phase, 0), (phase, 490), (phase, 810)])
        {
            let (mut acks, mut written) = (Acknowledgements::default(), Written::default());
            let (mut heard, mut worst) = (Vec::new(), 0);
            let mut last = 100_000u64;
            // A ping each second, or a tick of the engine later, and each second an acknowledgement of what had come by then.
            let offset = |now: u64| {
                let count = (now - pinged).div_euclid(1000);
                let late = (now - pinged) % 1000 < 100 * (count % 2);
                14 * (count - u64::from(late)) as i64
            };
            for now in (100_000u64..160_000).step_by(200) {
                let ack = (now - phase).div_euclid(1000) * 1000 + phase;
                let lag_s = (now / 1000) as i64 - (ack / 1000) as i64;
                let poll = Poll {
                    sent_ms: now,
                    wall_sent_ms: now as i64,
                    wall_answered_ms: now as i64 + 1,
                    offset: offset(ack),
                    lag_s,
                };
                written.look(now, offset(now));
                if let Some((since, until)) = acks.poll(poll).zip(written.counts_until(poll.offset)) {
                    assert!(since <= ack, "never later than the acknowledgement itself");
                    heard.push(since);
                    last = last.max(since.min(until));
                }
                if now > 103_000 {
                    worst = worst.max(now - last);
                }
            }
            assert!(heard.len() > 50, "phases {phase} and {pinged}: {}", heard.len());
            assert!(worst <= FENCE_SILENCE_MS, "phases {phase} and {pinged}: {worst} ms");
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Tick,
        Confirm { term: u64, given_ago: u64, accepted_ago: u64 },
        Replica { ago: u64 },
        Lease { ago: u64, term: u64, ours: bool },
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            3 => Just(Event::Tick),
            2 => (4u64..8, 0u64..3000, 0u64..6000)
                .prop_map(|(term, given_ago, accepted_ago)| Event::Confirm { term, given_ago, accepted_ago }),
            2 => (0u64..3000).prop_map(|ago| Event::Replica { ago }),
            1 => (0u64..2000, 4u64..7, any::<bool>()).prop_map(|(ago, term, ours)| Event::Lease { ago, term, ours }),
        ];
        proptest::collection::vec((1u64..900, event), 1..80)
    }

    fn witness(now: u64, event: &Event) -> Option<Witness> {
        Some(match *event {
            Event::Tick => return None,
            Event::Confirm { term, given_ago, accepted_ago } => Witness::Confirm {
                term,
                given_ms: now.saturating_sub(given_ago),
                accepted_ms: now.saturating_sub(accepted_ago),
            },
            Event::Replica { ago } => Witness::Replica { since_ms: now.saturating_sub(ago) },
            Event::Lease { ago, term, ours } => {
                Witness::Lease { asked_ms: now.saturating_sub(ago), term, ours }
            }
        })
    }

    proptest! {
        /// Whatever happens: unfenced only if something that says so was heard within the silence.
        #[test]
        fn never_unfenced_after_silence(events in events()) {
            let mut guard = Guard::new(0);
            let mut now = 0;
            let mut said_yes = 0;
            for (step, event) in &events {
                now += step;
                let witness = witness(now, event);
                match witness {
                    Some(w) => guard.hear(now, ON, w),
                    None => guard.tick(now, ON),
                }
                match witness {
                    Some(Witness::Confirm { term, given_ms, .. }) if term >= ON.term => said_yes = said_yes.max(given_ms),
                    Some(Witness::Replica { since_ms }) => said_yes = said_yes.max(since_ms),
                    Some(Witness::Lease { asked_ms, term: 5, ours: true }) => said_yes = said_yes.max(asked_ms),
                    _ => {}
                }
                prop_assert!(guard.fenced() || now - said_yes <= FENCE_SILENCE_MS, "at {now}, last yes at {said_yes}");
            }
        }

        /// A fence ends only by what was given after it began.
        #[test]
        fn a_fence_ends_only_by_what_is_fresh(events in events()) {
            let mut guard = Guard::new(0);
            let mut now = 0;
            let mut fenced_at = None;
            for (step, event) in &events {
                now += step;
                let before = fenced_at;
                let witness = witness(now, event);
                match witness {
                    Some(w) => guard.hear(now, ON, w),
                    None => guard.tick(now, ON),
                }
                fenced_at = if guard.fenced() { fenced_at.or(Some(now)) } else { None };
                if let (Some(began), None) = (before, fenced_at) {
                    let given = match witness {
                        Some(Witness::Confirm { accepted_ms, .. }) => accepted_ms,
                        Some(Witness::Replica { since_ms }) => since_ms,
                        Some(Witness::Lease { asked_ms, .. }) => asked_ms,
                        None => 0,
                    };
                    prop_assert!(given > began);
                }
            }
        }

        /// A definite no is undone by the operator alone.
        #[test]
        fn a_denial_lasts_until_the_operator_confirms(events in events()) {
            let mut guard = Guard::new(0);
            guard.hear(1, ON, Witness::Lease { asked_ms: 0, term: 7, ours: false });
            let mut now = 1;
            for (step, event) in &events {
                now += step;
                let witness = witness(now, event);
                match witness {
                    Some(w) => guard.hear(now, ON, w),
                    None => guard.tick(now, ON),
                }
                if matches!(witness, Some(Witness::Confirm { term: 7.., .. })) && !guard.fenced() {
                    return Ok(());
                }
                prop_assert!(guard.fenced());
            }
        }
    }
}
