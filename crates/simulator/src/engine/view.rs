//! The same facts as the texts, without printing and reading them.

use super::cluster::{Cluster, Node};
use super::interface::{Model, Ms};
use super::process::Engine;
use super::types::{Addr, NodeId};
use kagami_agent::persistence::Persistence;
use kagami_protocol::{ClusterNode, ClusterView, EngineView, Link, ReplicaLink, Role, Shared};

/// A view of the cluster that was made, with what its texts were made of: most looks show the same.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    texts: Vec<(NodeId, Addr, bool, Option<NodeId>)>,
    view: Shared<ClusterView>,
}

fn texts(node: &Node) -> (NodeId, Addr, bool, Option<NodeId>) {
    (node.id, node.addr, node.noaddr, node.primary.filter(|_| node.replica))
}

impl Engine {
    pub(super) fn typed_view(&self, now: Ms) -> EngineView {
        let repl = &self.repl;
        let replid2 = if repl.replid2.0 == 0 { String::new() } else { repl.replid2.to_string() };
        EngineView {
            version: self.version.clone(),
            role: Some(if repl.source.is_some() { Role::Replica } else { Role::Primary }),
            replid: repl.replid.to_string(),
            replid2,
            offset: repl.offset,
            second_offset: repl.second_offset,
            loading: self.is_loading(),
            complete: false,
            unwritten: false,
            write_failed: false,
            keys: self.data.len() as u64,
            used_memory_bytes: self.used_memory(),
            link: repl.source.as_ref().map(|source| Link {
                host: source.addr.ip.to_string(),
                port: source.addr.port,
                up: source.is_up(),
                syncing: source.is_syncing(),
                down_ms: if source.is_up() { 0 } else { self.down_s(now) * 1000 },
                quiet: None,
                parted: None,
                lost: None,
            }),
            replicas: repl
                .replicas
                .iter()
                .map(|replica| ReplicaLink {
                    host: replica.announce.ip.to_string(),
                    port: replica.announce.port,
                    online: replica.online,
                    offset: replica.offset,
                    lag_s: self.lag_s(replica, now),
                })
                .collect(),
            cluster: self.cluster.as_ref().map(|cluster| self.cluster_view(cluster)),
            open_slots: Vec::new(),
        }
    }

    /// What `INFO persistence` says.
    pub(super) fn typed_persistence(&self) -> Persistence {
        let disk = &self.on_disk;
        Persistence {
            append_only: self.settings.append_only,
            rewriting: disk.is_rewriting(),
            buffered: i64::from(disk.puts_off()),
            saving: disk.is_saving(),
            last_save_s: i64::try_from(disk.last_save_ms / 1000).ok(),
            changes: i64::try_from(disk.changes).ok(),
        }
    }

    fn cluster_view(&self, cluster: &Cluster) -> Shared<ClusterView> {
        let mut shown = self.shown.borrow_mut();
        match &*shown {
            Some(shown) if shown.fits(cluster) => shown.view.clone(),
            _ => {
                let view = Shared::from(cluster.view());
                let texts = cluster.nodes.iter().map(texts).collect();
                *shown = Some(Shown { texts, view: view.clone() });
                view
            }
        }
    }
}

impl Shown {
    /// Whether the cluster looks as it did.
    fn fits(&self, cluster: &Cluster) -> bool {
        let view = &*self.view;
        view.ok == cluster.ok
            && view.current_epoch == cluster.current_epoch
            && view.my_epoch == cluster.my_epoch()
            && cluster.migrating.is_empty()
            && cluster.importing.is_empty()
            && self.texts.len() == cluster.nodes.len()
            && cluster.nodes.iter().zip(self.texts.iter().zip(&view.nodes)).all(|(node, (shown, line))| {
                texts(node) == *shown
                    && line.open_slots.is_empty()
                    && line.primary == (!node.handshake && !node.replica)
                    && line.fail == node.fail
                    && line.pfail == node.pfail
                    && line.handshake == (node.handshake || node.noaddr)
                    && line.connected == cluster.is_connected(node)
                    && line.epoch == cluster.epoch_of(node)
                    && line.slots == node.slots.ranges()
            })
    }
}

impl Cluster {
    fn my_epoch(&self) -> u64 {
        self.my_primary().map_or(self.me().epoch, |node| node.epoch)
    }

    fn is_connected(&self, node: &Node) -> bool {
        node.id == self.me().id || node.link.is_some()
    }

    /// A replica's line shows its primary's.
    fn epoch_of(&self, node: &Node) -> u64 {
        let primary = node.primary.filter(|_| node.replica);
        primary.and_then(|id| self.node(id)).unwrap_or(node).epoch
    }

    fn view(&self) -> ClusterView {
        let node = |node: &Node| {
            let myself = node.id == self.me().id;
            let mut open_slots = Vec::new();
            if myself {
                open_slots.extend(self.migrating.iter().map(|(slot, to)| format!("[{slot}->-{to}]")));
                open_slots.extend(self.importing.iter().map(|(slot, from)| format!("[{slot}-<-{from}]")));
            }
            ClusterNode {
                id: if myself { self.id_text.clone() } else { node.id.to_string() },
                host: if node.noaddr { String::new() } else { node.addr.ip.to_string() },
                port: if node.noaddr { 0 } else { node.addr.port },
                myself,
                primary: !node.handshake && !node.replica,
                fail: node.fail,
                pfail: node.pfail,
                handshake: node.handshake || node.noaddr,
                primary_id: node.primary.filter(|_| node.replica).map(|id| id.to_string()),
                connected: self.is_connected(node),
                epoch: self.epoch_of(node),
                slots: node.slots.ranges().to_vec(),
                open_slots,
            }
        };
        ClusterView {
            my_id: self.id_text.clone(),
            ok: self.ok,
            current_epoch: self.current_epoch,
            my_epoch: self.my_epoch(),
            nodes: self.nodes.iter().map(node).collect(),
        }
    }
}
