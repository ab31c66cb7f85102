//! Cluster identities (cluster mode enabled): who lives in one, and which are proven gone.

use crate::desired::Desired;
use crate::observed::Observed;
use kagami_protocol::{ClusterNode, ClusterView};
use std::collections::{BTreeMap, BTreeSet};

/// The identities of a group, as those who can be asked tell of them.
pub(crate) struct Identities<'a> {
    /// The table of every engine that answers, by cache node.
    pub(crate) views: Vec<(&'a str, &'a ClusterView)>,
    living: BTreeMap<&'a str, &'a ClusterView>,
    ended: BTreeSet<&'a str>,
    everybody_asked: bool,
}

impl<'a> Identities<'a> {
    /// Everybody who lives is asked, also those of a shard whose term is not known (any more).
    pub(crate) fn of(group: &'a Desired, observed: &'a Observed) -> Self {
        let nodes = || group.shards.iter().flat_map(|shard| &shard.nodes).map(|node| node.name.as_str());
        let views: Vec<(&str, &ClusterView)> =
            nodes().filter_map(|node| Some((node, observed.engine(node)?.cluster.as_deref()?))).collect();
        let everybody_asked = nodes().all(|node| {
            observed.parked(node).is_some()
                || observed.engine(node).is_some_and(|engine| engine.cluster.is_some())
        });
        let ended = observed
            .last_engine_ids
            .iter()
            .filter(|(node, id)| {
                observed.parked(node).is_some()
                    || observed.engine(node).and_then(|e| e.cluster.as_ref()).is_some_and(|c| c.my_id != **id)
                    || observed.leases.values().any(|lease| {
                        lease.previous.as_ref().is_some_and(|(previous, boot)| {
                            previous == *node
                                && observed.ended(previous, boot)
                                && observed.report(node).is_some()
                        })
                    })
            })
            .map(|(_, id)| id.as_str())
            .collect();
        let living = views.iter().map(|(_, view)| (view.my_id.as_str(), *view)).collect();
        Self { views, living, ended, everybody_asked }
    }

    /// Whether its node lives in another one, or is proven to have ended.
    pub(crate) fn is_gone(&self, id: &str) -> bool {
        !self.living.contains_key(id) && (self.everybody_asked || self.ended.contains(id))
    }

    /// The slots that the one in a line may still serve, whoever wrote that line: a living one knows best what it owns, and one
    /// that is gone owns nothing.
    pub(crate) fn owned_by<'b>(&'b self, line: &'b ClusterNode) -> Vec<(u16, u16)> {
        match self.living.get(line.id.as_str()) {
            Some(view) => view.own_slots().collect(),
            None if self.is_gone(&line.id) => Vec::new(),
            None => line.slots.clone(),
        }
    }
}
