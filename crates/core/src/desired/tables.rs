//! What the operator's configuration decides for all groups.

use std::collections::BTreeMap;

use kagami_api::names;
use kagami_api::nearest;
use kagami_api::node_types::{self, NodeType};
use kagami_api::quantity::Quantity;
use kagami_api::v1alpha1::Engine;
use serde::{Deserialize, Serialize};

/// The operator's configuration file: what the chart's values say about all groups. What is left out is as built in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Tables {
    /// The engine of a group that names none. CloudFormation's text says redis.
    pub default_engine: Engine,
    /// The image of each engine version, as in `redis 6.2`: these are the versions that there are.
    pub engine_images: BTreeMap<String, String>,
    /// `imagePullPolicy` of the engine's image, where the group says none.
    pub image_pull_policy: Option<String>,
    /// Node types beside the built-in ones, or in place of them: for machines that are too small for the real ones.
    pub node_types: BTreeMap<String, NodeTypeOverride>,
    /// The domain of the cluster's DNS.
    pub cluster_domain: String,
}

/// What a node type has in place of what is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeTypeOverride {
    /// Memory, request and limit; maxmemory follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// The CPU request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// The engine's maxclients: the most connections at a time, at least [`MAXCLIENTS_LEAST`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxclients: Option<i64>,
}

/// With fewer an engine's own replicas and its agent would compete with clients for a connection.
const MAXCLIENTS_LEAST: i64 = 100;
/// What ElastiCache gives every node type but the smallest.
const MAXCLIENTS_MOST: i64 = 65_000;

/// The versions that ElastiCache offers and that can be had, and where.
const ENGINE_IMAGES: &[(&str, &str)] = &[
    ("redis 6.2", "docker.io/library/redis:6.2"),
    ("redis 7.0", "docker.io/library/redis:7.0"),
    ("redis 7.1", "docker.io/library/redis:7.0"),
    ("valkey 7.2", "docker.io/valkey/valkey:7.2"),
    ("valkey 8.0", "docker.io/valkey/valkey:8.0"),
    ("valkey 8.1", "docker.io/valkey/valkey:8.1"),
    ("valkey 8.2", "docker.io/valkey/valkey:8.1"),
    ("valkey 9.0", "docker.io/valkey/valkey:9.0"),
    ("valkey 9.1", "docker.io/valkey/valkey:9.1"),
];

impl Default for Tables {
    fn default() -> Self {
        let own = |(version, image): &(&str, &str)| ((*version).to_owned(), (*image).to_owned());
        Self {
            default_engine: Engine::Redis,
            engine_images: ENGINE_IMAGES.iter().map(own).collect(),
            image_pull_policy: None,
            node_types: BTreeMap::new(),
            cluster_domain: names::DEFAULT_CLUSTER_DOMAIN.to_owned(),
        }
    }
}

impl Tables {
    /// The node type of that name, or why there is none.
    pub(super) fn node_type(&self, name: &str) -> Result<NodeType, String> {
        let built_in = node_types::find(name);
        let Some(given) = self.node_types.get(name) else {
            return built_in.ok_or_else(|| {
                let built_in: Vec<String> = node_types::all().map(|node_type| node_type.name).collect();
                let known = built_in.iter().chain(self.node_types.keys()).map(String::as_str);
                let hint = nearest::hint(name, known).replace("; did", ". Did");
                let end = if hint.is_empty() { "." } else { "" };
                format!(
                    "Invalid Cache Node Type: {name}{hint}{end} The operator's table nodeTypes can add it."
                )
            });
        };
        let amount = |what: &str, read: Option<i64>| {
            read.filter(|amount| *amount > 0).ok_or_else(|| {
                format!("The operator's table nodeTypes gives {name} no {what} that can be read.")
            })
        };
        let memory_bytes = match (&given.memory, &built_in) {
            (Some(memory), _) => amount("memory", memory.units())?,
            (None, Some(built_in)) => built_in.memory_bytes,
            (None, None) => return Err(format!("The operator's table nodeTypes gives {name} no memory.")),
        };
        let mut node_type = built_in.unwrap_or_else(|| NodeType {
            name: name.to_owned(),
            vcpus: 1,
            memory_bytes,
            baseline_percent: Some(10),
            maxclients: MAXCLIENTS_MOST,
        });
        node_type.memory_bytes = memory_bytes;
        if let Some(maxclients) = given.maxclients {
            if !(MAXCLIENTS_LEAST..=MAXCLIENTS_MOST).contains(&maxclients) {
                return Err(format!(
                    "The operator's table nodeTypes gives {name} maxclients {maxclients}: it must be {MAXCLIENTS_LEAST} to {MAXCLIENTS_MOST}."
                ));
            }
            node_type.maxclients = maxclients;
        }
        Ok(node_type)
    }

    /// The CPU request of a node type, in thousandths of a CPU.
    pub(super) fn cpu_request_millis(&self, node_type: &NodeType) -> i64 {
        let given = self.node_types.get(&node_type.name).and_then(|given| given.cpu.as_ref());
        given
            .and_then(Quantity::millis)
            .filter(|millis| *millis > 0)
            .unwrap_or_else(|| node_type.cpu_request_millis())
    }
}
