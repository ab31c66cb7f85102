//! The same facts as the texts, without printing and reading them.

use super::interface::{Model, Ms};
use super::process::Engine;
use kagami_protocol::{ClusterNode, ClusterView, EngineView, Link, ReplicaLink, Role};

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
            keys: self.data.len() as u64,
            used_memory_bytes: self.used_memory(),
            link: repl.source.as_ref().map(|source| Link {
                host: source.addr.ip.to_string(),
                port: source.addr.port,
                up: source.is_up(),
                syncing: source.is_syncing(),
                down_ms: if source.is_up() { 0 } else { self.down_s(now) * 1000 },
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
            cluster: self.cluster.as_ref().map(|_| self.cluster_view()),
        }
    }

    fn cluster_view(&self) -> ClusterView {
        let Some(cluster) = &self.cluster else { return ClusterView::default() };
        let node = |node: &super::cluster::Node| {
            let myself = node.id == cluster.me().id;
            let primary = node.primary.filter(|_| node.replica);
            let mut open_slots = Vec::new();
            if myself {
                open_slots.extend(cluster.migrating.iter().map(|(slot, to)| format!("[{slot}->-{to}]")));
                open_slots.extend(cluster.importing.iter().map(|(slot, from)| format!("[{slot}-<-{from}]")));
            }
            ClusterNode {
                id: if myself { cluster.id_text.clone() } else { node.id.to_string() },
                host: if node.noaddr { String::new() } else { node.addr.ip.to_string() },
                port: if node.noaddr { 0 } else { node.addr.port },
                myself,
                primary: !node.handshake && !node.replica,
                fail: node.fail,
                pfail: node.pfail,
                handshake: node.handshake || node.noaddr,
                primary_id: primary.map(|id| id.to_string()),
                connected: myself || node.link.is_some(),
                epoch: primary.and_then(|id| cluster.node(id)).unwrap_or(node).epoch,
                slots: node.slots.ranges().to_vec(),
                open_slots,
            }
        };
        ClusterView {
            my_id: cluster.id_text.clone(),
            ok: cluster.ok,
            current_epoch: cluster.current_epoch,
            my_epoch: cluster.my_primary().map_or(cluster.me().epoch, |node| node.epoch),
            nodes: cluster.nodes.iter().map(node).collect(),
        }
    }
}
