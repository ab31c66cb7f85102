//! The keys of an engine, and the stream of writes that makes them.

use super::interface::Key;
use super::slots::Slots;
use super::types::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Keys; a copy shares them until one of the two is written. Values are not kept: a write has a key of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Data(Arc<BTreeSet<Key>>);

/// One entry of the replication stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Set(Key),
    Del(Key),
    Flush,
    /// The source's heartbeat: no data, but it moves the offset.
    Ping,
    /// A slot's owner and marks, which newer engines replicate (Valkey 8).
    SetSlot(SetSlot),
}

/// What `CLUSTER SETSLOT` says about one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetSlot {
    pub(crate) slot: u16,
    pub(crate) to: Marks,
}

/// The words of `CLUSTER SETSLOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    Migrating(NodeId),
    Importing(NodeId),
    Stable,
    Node(NodeId),
}

impl Write {
    /// How far it moves the offset, bytes of the protocol.
    pub(crate) fn bytes(&self) -> i64 {
        match self {
            Self::Set(_) => 40,
            Self::Del(_) => 30,
            Self::Flush => 18,
            Self::Ping => 14,
            Self::SetSlot(_) => 90,
        }
    }
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.0.contains(&key)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.0.iter().copied().collect()
    }

    pub(crate) fn apply(&mut self, write: &Write) {
        match write {
            Write::Set(key) => {
                Arc::make_mut(&mut self.0).insert(*key);
            }
            Write::Del(key) => {
                if self.has(*key) {
                    Arc::make_mut(&mut self.0).remove(key);
                }
            }
            Write::Flush => self.0 = Arc::default(),
            Write::Ping | Write::SetSlot(_) => {}
        }
    }

    /// The keys of a slot, in order.
    pub(crate) fn in_slot(&self, slot: u16) -> impl Iterator<Item = &Key> {
        self.0.range(Key { slot, id: 0 }..=Key { slot, id: u32::MAX })
    }

    /// The slots that hold keys.
    pub(crate) fn slots(&self) -> Vec<u16> {
        let mut slots: Vec<u16> = self.0.iter().map(|key| key.slot).collect();
        slots.dedup();
        slots
    }

    /// Removes the keys of some slots.
    pub(crate) fn drop_slots(&mut self, slots: &Slots) {
        if self.0.iter().any(|key| slots.contains(key.slot)) {
            Arc::make_mut(&mut self.0).retain(|key| !slots.contains(key.slot));
        }
    }
}
