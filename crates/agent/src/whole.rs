//! Whether this life of the engine holds a whole copy, pure.

use kagami_protocol::{EngineView, Role};

/// A primary's copy is whole from the start. A replica's is once it was in sync, until another full sync loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    complete: bool,
    /// What was on the volume at the start is loaded; whatever loads later comes from a full sync.
    loaded: bool,
    /// A full sync began to replace the data.
    replaced: bool,
    /// The history and offset before the sync that is awaited. An engine takes over its primary's only when it has loaded
    /// the whole copy, and forgets the offset when a sync begins (`readSyncBulkPayload` in the engines' replication.c).
    before: Option<(String, i64)>,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The volume's data is loaded.
    Loaded,
    /// A full sync replaces the data.
    Replacing,
    /// In sync, after a full sync or for the first time.
    InSync,
}

impl Whole {
    /// A life that was started as a primary, or as a replica.
    pub fn started_as(role: Role) -> Self {
        Self { complete: role == Role::Primary, loaded: false, replaced: false, before: None }
    }

    /// Whether it holds a whole copy.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Whether a full sync has begun to replace it.
    pub fn replaced(&self) -> bool {
        self.replaced
    }

    /// Takes in what the engine says.
    pub fn look(&mut self, view: &EngineView) -> Change {
        if !self.loaded {
            if view.loading && !view.link.as_ref().is_some_and(|link| link.syncing) {
                return Change::None;
            }
            self.loaded = true;
            if !view.loading && !view.link.as_ref().is_some_and(|link| link.up) {
                return Change::Loaded;
            }
        }
        if self.before.is_none() || view.role == Some(Role::Primary) {
            self.before = Some((view.replid.clone(), view.offset));
        }
        // A primary without a whole copy stays without one: it was elected, or never followed, while empty.
        let Some(link) = view.link.as_ref().filter(|_| view.role == Some(Role::Replica)) else {
            return Change::None;
        };
        if view.loading {
            let began = self.complete || !self.replaced;
            if began {
                self.before = Some((view.replid.clone(), view.offset));
            }
            (self.complete, self.replaced) = (false, true);
            return if began { Change::Replacing } else { Change::None };
        }
        // The primary may die between the last byte and the next look, so that the link is never seen up.
        let taken_over = !link.syncing
            && self.before.as_ref().is_some_and(|(replid, offset)| {
                *replid != view.replid || (self.replaced && view.offset > *offset)
            });
        if !self.complete && ((link.up && !link.syncing) || taken_over) {
            (self.complete, self.replaced) = (true, false);
            return Change::InSync;
        }
        Change::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_protocol::Link;

    fn replica(up: bool, syncing: bool, loading: bool) -> EngineView {
        let link = Some(Link { up, syncing, ..Link::default() });
        EngineView { role: Some(Role::Replica), loading, link, ..EngineView::default() }
    }

    fn primary(loading: bool) -> EngineView {
        EngineView { role: Some(Role::Primary), loading, ..EngineView::default() }
    }

    #[test]
    fn a_replica_is_whole_once_in_sync() {
        let mut whole = Whole::started_as(Role::Replica);
        assert_eq!(whole.look(&primary(false)), Change::Loaded);
        assert!(!whole.complete(), "a cluster's replica-to-be says that it is a primary before it follows");
        whole.look(&replica(false, true, false));
        assert_eq!(whole.look(&replica(false, true, true)), Change::Replacing);
        assert_eq!(whole.look(&replica(true, false, false)), Change::InSync);
        assert!(whole.complete());
        whole.look(&replica(false, false, false));
        assert!(whole.complete(), "a link that is down takes nothing away");
        assert_eq!(whole.look(&replica(false, true, true)), Change::Replacing);
        whole.look(&replica(false, false, false));
        assert!(!whole.complete() && whole.replaced(), "the load may have failed half-way");
        whole.look(&primary(false));
        assert!(!whole.complete());
    }

    #[test]
    fn a_copy_whose_primary_died_as_it_was_loaded_is_whole_though_the_link_was_never_seen_up() {
        let of =
            |replid: &str, offset, view: EngineView| EngineView { replid: replid.into(), offset, ..view };
        let (syncing, loading, down) =
            (replica(false, true, false), replica(false, true, true), replica(false, false, false));
        // A fresh node, and one whose whole copy is replaced by another history, or by a later state of the same.
        for (before, began, after, whole_before) in [
            (("own", 0), ("own", 0), ("new", 0), false),
            (("old", 500), ("old", 0), ("new", 400), true),
            (("same", 500), ("same", 0), ("same", 900), true),
        ] {
            let mut whole = Whole::started_as(Role::Replica);
            whole.look(&of(before.0, before.1, replica(whole_before, false, false)));
            assert_eq!(whole.complete(), whole_before);
            whole.look(&of(began.0, began.1, syncing.clone()));
            whole.look(&of(began.0, began.1, loading.clone()));
            assert!(!whole.complete());
            let mut failed = whole.clone();
            failed.look(&of(began.0, began.1, down.clone()));
            assert!(
                !failed.complete(),
                "the load failed half-way: the history is the old one and the offset is none"
            );
            assert_eq!(whole.look(&of(after.0, after.1, down.clone())), Change::InSync);
            assert!(whole.complete());
        }
    }

    #[test]
    fn a_fresh_node_that_is_told_to_follow_holds_nothing_yet() {
        let of =
            |replid: &str, offset, view: EngineView| EngineView { replid: replid.into(), offset, ..view };
        let mut whole = Whole::started_as(Role::Replica);
        whole.look(&of("own", 0, primary(false)));
        // It caches itself as a primary that it lost, and counts the first byte to come.
        whole.look(&of("own", 1, replica(false, false, false)));
        assert!(!whole.complete());
    }

    #[test]
    fn loading_the_volume_is_not_a_full_sync() {
        let mut whole = Whole::started_as(Role::Replica);
        assert_eq!(whole.look(&replica(false, false, true)), Change::None);
        assert_eq!(whole.look(&replica(false, false, false)), Change::Loaded);
        assert!(!whole.complete() && !whole.replaced());
        assert_eq!(whole.look(&replica(true, false, false)), Change::InSync);
    }

    #[test]
    fn a_sync_that_was_over_before_the_first_look_is_seen_as_one() {
        let mut whole = Whole::started_as(Role::Replica);
        assert_eq!(whole.look(&replica(true, false, false)), Change::InSync);
    }

    #[test]
    fn a_primary_is_whole_and_stays_so_as_a_replica_until_it_loads_another_copy() {
        let mut whole = Whole::started_as(Role::Primary);
        whole.look(&primary(true));
        whole.look(&primary(false));
        whole.look(&replica(false, true, false));
        assert!(whole.complete());
        assert_eq!(whole.look(&replica(false, true, true)), Change::Replacing);
        assert!(!whole.complete());
    }
}
