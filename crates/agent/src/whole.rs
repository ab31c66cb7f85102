//! Whether this life of the engine holds a whole copy, pure.

use kagami_protocol::{EngineView, Role};

/// A primary's copy is whole from the start. A replica's is once it was in sync, until another full sync loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    complete: bool,
    /// What was on the volume at the start is loaded; whatever loads later comes from a full sync.
    loaded: bool,
    /// A full sync began to replace the data.
    replaced: bool,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
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
    pub(crate) fn started_as(role: Role) -> Self {
        Self { complete: role == Role::Primary, loaded: false, replaced: false }
    }

    pub(crate) fn complete(self) -> bool {
        self.complete
    }

    pub(crate) fn replaced(self) -> bool {
        self.replaced
    }

    /// Takes in what the engine says.
    pub(crate) fn look(&mut self, view: &EngineView) -> Change {
        if !self.loaded {
            if view.loading && !view.link.as_ref().is_some_and(|link| link.syncing) {
                return Change::None;
            }
            self.loaded = true;
            if !view.loading && !view.link.as_ref().is_some_and(|link| link.up) {
                return Change::Loaded;
            }
        }
        // A primary without a whole copy stays without one: it was elected, or never followed, while empty.
        let Some(link) = view.link.as_ref().filter(|_| view.role == Some(Role::Replica)) else {
            return Change::None;
        };
        if view.loading {
            let began = self.complete || !self.replaced;
            (self.complete, self.replaced) = (false, true);
            return if began { Change::Replacing } else { Change::None };
        }
        if link.up && !link.syncing && !self.complete {
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
