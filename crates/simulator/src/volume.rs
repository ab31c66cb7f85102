//! A node's data directory as the agent keeps it: the dataset, the note beside it, and what is put aside. The order of its steps is
//! that of the agent's `volume` and `record`.

use crate::engine::{Engine, Model};
use kagami_protocol::Record;

type Disk = <Engine as Model>::Disk;

/// Something that was put aside.
#[derive(Clone, Debug)]
pub struct Aside {
    /// The dataset.
    pub data: Disk,
    /// Its note.
    pub record: Option<Record>,
    /// Only a person deletes it.
    pub keep: bool,
}

/// One data directory.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    /// The machine that it lies on, once it is bound.
    pub machine: Option<usize>,
    /// The dataset.
    pub data: Disk,
    /// The note beside it.
    pub record: Option<Record>,
    /// What was put aside.
    pub aside: Vec<Aside>,
    /// Nothing can be written until then.
    pub full_until: u64,
}

fn rank(record: Option<&Record>) -> (bool, u64, i64, i64) {
    record.map_or((false, 0, 0, 0), |r| (r.complete, r.data_term, r.offset, r.at_ms))
}

impl Volume {
    /// Whether there is a dataset that an engine would load.
    pub fn has_data(&self) -> bool {
        Engine::has_data(&self.data)
    }

    /// Puts the dataset aside, and writes the new note before.
    pub fn put_aside(&mut self, old: Option<Record>, new: Record, keep: bool) {
        if self.has_data() {
            let data = std::mem::take(&mut self.data);
            self.aside.push(Aside { data, record: old, keep });
        }
        self.record = Some(new);
    }

    /// Brings back the best that was put aside, if what is in its place is not whole.
    pub fn restore(&mut self, current: Option<&Record>) -> Option<Record> {
        if current.is_none_or(|record| record.complete) {
            return None;
        }
        let (index, _) = self
            .aside
            .iter()
            .enumerate()
            .filter(|(_, aside)| aside.record.as_ref().is_some_and(|record| record.complete))
            .max_by_key(|(_, aside)| aside.record.as_ref().map(|r| (r.data_term, r.offset, r.at_ms)))?;
        let aside = self.aside.remove(index);
        let mut record = aside.record?;
        self.data = aside.data;
        if let Some(current) = current {
            record.term = record.term.max(current.term);
            record.operator_generation = record.operator_generation.max(current.operator_generation);
        }
        self.record = Some(record.clone());
        Some(record)
    }

    /// The note about what is kept for good.
    pub fn kept(&self) -> Option<Record> {
        let marked = self.aside.iter().filter(|aside| aside.keep);
        marked
            .max_by_key(|aside| rank(aside.record.as_ref()))
            .map(|aside| aside.record.clone().unwrap_or_default())
    }

    /// Deletes what was put aside, but for the furthest of what is to be kept.
    pub fn forget_previous(&mut self) {
        let best = self
            .aside
            .iter()
            .enumerate()
            .filter(|(_, aside)| aside.keep)
            .max_by_key(|(_, aside)| rank(aside.record.as_ref()))
            .map(|(index, _)| index);
        let mut index = 0;
        self.aside.retain(|_| {
            index += 1;
            Some(index - 1) == best
        });
    }
}
