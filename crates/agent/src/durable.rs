//! How far the data on the volume is, which is not how far the engine is: without an append-only file it is as far as
//! the last snapshot. Pure.

use crate::persistence::Persistence;
use std::collections::VecDeque;

/// After this long, what the engine held is on disk under `appendfsync everysec`, in milliseconds.
const SYNCED_AFTER_MS: u64 = 2_000;
/// Polls closer together than this are one, in milliseconds.
const APART_MS: u64 = 100;

/// Follows `INFO persistence`. Where it cannot know exactly it says too little, never too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    offset: i64,
    polled: Option<Polled>,
    /// A full sync replaced the data and the append-only file has not been written anew since.
    append_only_behind: bool,
    /// When the append-only file was at which offset, oldest first: the last that is surely on disk, and what came after it.
    recent: VecDeque<(u64, i64)>,
    /// How far the append-only file is that follows the engine, as its kernel knows it.
    handed_over: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Polled {
    offset: i64,
    last_save: i64,
    saving_since: Option<i64>,
}

impl Durable {
    /// The engine loaded what is on the volume, or began with nothing: there the two are equal.
    pub fn equal_at(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// A full sync replaced the engine's data; `kept` says that the snapshot file is the one it received.
    pub fn synced(&mut self, offset: i64, kept: bool) {
        *self = Self { offset: if kept { offset } else { 0 }, polled: self.polled.take(), ..Self::default() };
        self.append_only_behind = true;
    }

    /// Takes in what the engine says at a time.
    pub fn poll(&mut self, info: &Persistence, offset: i64, now_ms: u64) {
        let last_save = info.last_save_s.unwrap_or(0);
        let before = self.polled.take();
        let before_offset = before.as_ref().map_or(0, |polled| polled.offset);
        let saving_since = before.as_ref().and_then(|polled| polled.saving_since);
        if before.as_ref().is_some_and(|polled| polled.last_save != last_save) {
            // It began after the poll before the first that saw it, or after the last one.
            self.offset = self.offset.max(saving_since.unwrap_or(before_offset));
        }
        if !info.rewriting {
            self.append_only_behind = false;
        }
        if info.append_only {
            self.append(info, offset, now_ms);
        } else {
            self.recent.clear();
            self.handed_over = None;
        }
        let saving_since = info.saving.then(|| saving_since.unwrap_or(before_offset));
        self.polled = Some(Polled { offset, last_save, saving_since });
    }

    fn append(&mut self, info: &Persistence, offset: i64, now_ms: u64) {
        if self.recent.back().is_none_or(|(at_ms, _)| now_ms >= at_ms + APART_MS) {
            self.recent.push_back((now_ms, offset));
        }
        while self.recent.get(1).is_some_and(|(at_ms, _)| now_ms >= at_ms + SYNCED_AFTER_MS) {
            self.recent.pop_front();
        }
        if self.append_only_behind {
            return;
        }
        if let Some((at_ms, then)) = self.recent.front()
            && now_ms >= at_ms + SYNCED_AFTER_MS
        {
            self.offset = self.offset.max(*then);
        }
        if info.buffered == 0 {
            self.handed_over = Some(offset);
        }
    }

    /// Whether an append-only file follows the engine.
    pub fn follows(&self) -> bool {
        self.handed_over.is_some() && !self.append_only_behind
    }

    /// The engine has ended, and its machine has not: what was handed to the kernel is there. Says whether that is all there was.
    pub fn close(&mut self) -> bool {
        let follows = self.follows();
        if follows {
            self.offset = self.offset.max(self.handed_over.unwrap_or(0));
        }
        follows
    }

    /// How far the volume is.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Whether what the engine holds is also on the volume as far as it will ever be by itself.
    pub fn settled(&self) -> bool {
        !self.append_only_behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(aof: u8, rewriting: u8, last_save: i64, saving: u8) -> Persistence {
        Persistence::read(&kagami_protocol::engine_text::Fields::read(&format!(
            "aof_enabled:{aof}\naof_rewrite_in_progress:{rewriting}\nrdb_last_save_time:{last_save}\nrdb_bgsave_in_progress:{saving}\n"
        )))
    }

    #[test]
    fn with_an_append_only_file_the_volume_follows() {
        let mut durable = Durable::default();
        for (now_ms, at_that_time, surely) in
            [(0, 10, 0), (1_000, 20, 0), (1_999, 25, 0), (2_000, 30, 10), (3_100, 40, 20)]
        {
            durable.poll(&info(1, 0, 1, 0), at_that_time, now_ms);
            assert_eq!(durable.offset(), surely, "what is younger than two seconds may go with the power");
        }
        assert!(durable.follows() && durable.close());
        assert_eq!(durable.offset(), 40, "the engine alone has ended");
    }

    #[test]
    fn what_waits_for_the_file_goes_with_the_engine() {
        let mut durable = Durable::default();
        durable.poll(&info(1, 0, 1, 0), 10, 0);
        durable.poll(&Persistence { buffered: 10, ..info(1, 0, 1, 0) }, 20, 200);
        assert!(durable.close());
        assert_eq!(durable.offset(), 10);
    }

    #[test]
    fn a_snapshot_alone_is_never_closed() {
        let mut durable = Durable::default();
        durable.poll(&info(0, 0, 1, 0), 10, 0);
        assert!(!durable.close());
    }

    #[test]
    fn after_a_full_sync_the_append_only_file_counts_once_it_is_written_anew() {
        let mut durable = Durable::default();
        durable.synced(100, false);
        durable.poll(&info(1, 1, 1, 0), 110, 0);
        assert_eq!((durable.offset(), durable.settled(), durable.follows()), (0, false, false));
        durable.poll(&info(1, 0, 1, 0), 120, 1_000);
        assert_eq!((durable.offset(), durable.settled(), durable.follows()), (0, true, true));
        durable.poll(&info(1, 0, 1, 0), 130, 3_000);
        assert_eq!(durable.offset(), 120);
    }

    #[test]
    fn without_one_it_is_as_far_as_the_last_snapshot_began() {
        let mut durable = Durable::default();
        durable.equal_at(5);
        durable.poll(&info(0, 0, 1, 0), 10, 0);
        assert_eq!(durable.offset(), 5);
        durable.poll(&info(0, 0, 1, 1), 20, 200);
        durable.poll(&info(0, 0, 1, 1), 30, 400);
        durable.poll(&info(0, 0, 2, 0), 40, 600);
        assert_eq!(durable.offset(), 10, "it may have begun right after the poll that said 10");
        durable.poll(&info(0, 0, 3, 0), 50, 800);
        assert_eq!(durable.offset(), 40);
    }
}
