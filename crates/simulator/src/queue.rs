//! What is going to happen, in order of time, and of being asked for within one millisecond.

use crate::engine::Ms;
use crate::world::Event;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The queue. What is sorted is small: events stay where they were put.
#[derive(Debug, Default)]
pub struct Queue {
    order: BinaryHeap<Reverse<(Ms, u64, u32)>>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    sequence: u64,
}

impl Queue {
    /// Something happens at a time.
    pub fn insert(&mut self, at: Ms, event: Event) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            u32::try_from(self.events.len() - 1).unwrap_or(u32::MAX)
        });
        self.events[place as usize] = Some(event);
        self.order.push(Reverse((at, self.sequence, place)));
    }

    /// When the next thing happens.
    pub fn next_ms(&self) -> Option<Ms> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next thing, and when.
    pub fn pop(&mut self) -> Option<(Ms, Event)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.events[place as usize].take().map(|event| (at, event))
    }
}
