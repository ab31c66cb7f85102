//! How far the data on the volume is, which is not how far the engine is: without an append-only file it is as far as
//! the last snapshot. Pure.

use crate::persistence::Persistence;

/// Follows `INFO persistence`. Where it cannot know exactly it says too little, never too much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    offset: i64,
    polled: Option<Polled>,
    /// A full sync replaced the data and the append-only file has not been written anew since.
    append_only_behind: bool,
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
        self.offset = if kept { offset } else { 0 };
        self.append_only_behind = true;
    }

    /// Takes in what the engine says.
    pub fn poll(&mut self, info: &Persistence, offset: i64) {
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
        if info.append_only && !self.append_only_behind {
            self.offset = offset;
        }
        let saving_since = info.saving.then(|| saving_since.unwrap_or(before_offset));
        self.polled = Some(Polled { offset, last_save, saving_since });
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
        durable.poll(&info(1, 0, 1, 0), 10);
        durable.poll(&info(1, 0, 1, 0), 20);
        assert_eq!(durable.offset(), 20);
    }

    #[test]
    fn after_a_full_sync_the_append_only_file_counts_once_it_is_written_anew() {
        let mut durable = Durable::default();
        durable.synced(100, false);
        durable.poll(&info(1, 1, 1, 0), 110);
        assert_eq!((durable.offset(), durable.settled()), (0, false));
        durable.poll(&info(1, 0, 1, 0), 120);
        assert_eq!((durable.offset(), durable.settled()), (120, true));
    }

    #[test]
    fn without_one_it_is_as_far_as_the_last_snapshot_began() {
        let mut durable = Durable::default();
        durable.equal_at(5);
        durable.poll(&info(0, 0, 1, 0), 10);
        assert_eq!(durable.offset(), 5);
        durable.poll(&info(0, 0, 1, 1), 20);
        durable.poll(&info(0, 0, 1, 1), 30);
        durable.poll(&info(0, 0, 2, 0), 40);
        assert_eq!(durable.offset(), 10, "it may have begun right after the poll that said 10");
        durable.poll(&info(0, 0, 3, 0), 50);
        assert_eq!(durable.offset(), 40);
    }
}
