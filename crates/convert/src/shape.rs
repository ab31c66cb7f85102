//! How many shards and nodes a replication group has, and whether cluster mode is enabled.

use crate::evaluate::Evaluator;
use crate::names;
use crate::template::Resource;
use crate::value::{Found, Text, Value};

/// Whether cluster mode is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Enabled,
    Compatible,
    Disabled,
    /// A parameter group outside of the template decides.
    Unknown,
}

/// What the properties say about shards and nodes, as far as they can be read.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) mode: Mode,
    /// The property that decided the mode, for messages.
    pub(crate) mode_from: &'static str,
    pub(crate) node_groups: Vec<NodeGroup>,
    pub(crate) num_cache_clusters: Option<usize>,
    pub(crate) num_node_groups: Option<usize>,
    pub(crate) replicas_per_node_group: Option<usize>,
    pub(crate) configured: Option<usize>,
}

/// One shard.
#[derive(Clone, Debug)]
pub(crate) struct NodeGroup {
    pub(crate) id: String,
    pub(crate) replicas: usize,
    pub(crate) primary_zone: Option<String>,
    pub(crate) replica_zones: Option<Vec<String>>,
}

/// More shards than ElastiCache can have.
const MOST_NODE_GROUPS: usize = 500;

impl Shape {
    /// Reads the shape. What is wrong with the properties themselves is reported where they are converted.
    pub(crate) fn of(evaluator: &Evaluator<'_>, resource: &Resource) -> Self {
        evaluator.findings.quietly(|| Self::read(evaluator, resource))
    }

    fn read(evaluator: &Evaluator<'_>, resource: &Resource) -> Self {
        let value = |name: &str| {
            let entry = resource.property(name)?;
            evaluator.evaluate(&entry.value, &resource.place_of(name))
        };
        let number = |name: &str| count(value(name)?.value);
        let configuration = match value("NodeGroupConfiguration") {
            Some(Found { value: Value::List(items), .. }) => Some(items),
            _ => None,
        };
        let num_cache_clusters = number("NumCacheClusters");
        let num_node_groups = number("NumNodeGroups");
        let replicas_per_node_group = number("ReplicasPerNodeGroup");
        let configured = configuration.as_ref().map(Vec::len);
        let shards = configured.or(num_node_groups).unwrap_or(1).clamp(1, MOST_NODE_GROUPS);
        let replicas = match (replicas_per_node_group, num_cache_clusters) {
            (Some(replicas), _) => replicas,
            (None, Some(nodes)) if shards == 1 => nodes.saturating_sub(1),
            _ => 0,
        };
        let configuration = configuration.unwrap_or_default();
        let node_groups = (0..shards)
            .map(|index| match configuration.get(index) {
                Some(Found { value: Value::Map(fields), .. }) => {
                    let field =
                        |name: &str| fields.iter().find(|field| field.name == name).map(|field| &field.found);
                    let text = |name: &str| match &field(name)?.value {
                        Value::Text(text) if !text.text.is_empty() && text.unknown.is_none() => {
                            Some(text.text.clone())
                        }
                        _ => None,
                    };
                    NodeGroup {
                        id: text("NodeGroupId").unwrap_or_else(|| format!("{:04}", index + 1)),
                        replicas: field("ReplicaCount")
                            .and_then(|found| count(found.value.clone()))
                            .unwrap_or(replicas),
                        primary_zone: text("PrimaryAvailabilityZone"),
                        replica_zones: field("ReplicaAvailabilityZones")
                            .and_then(|found| texts(&found.value)),
                    }
                }
                _ => NodeGroup {
                    id: format!("{:04}", index + 1),
                    replicas,
                    primary_zone: None,
                    replica_zones: None,
                },
            })
            .collect();
        let (mode, mode_from) = mode(evaluator, &value, shards);
        Self {
            mode,
            mode_from,
            node_groups,
            num_cache_clusters,
            num_node_groups,
            replicas_per_node_group,
            configured,
        }
    }

    /// The names of all nodes.
    pub(crate) fn nodes(&self, group: &str) -> Vec<String> {
        let node = |id: &str, number: usize| format!("{group}-{id}-{number:03}");
        self.node_groups
            .iter()
            .flat_map(|shard| (1..=shard.replicas.min(5) + 1).map(|number| node(&shard.id, number)))
            .collect()
    }
}

/// A whole number, if it is one.
fn count(value: Value) -> Option<usize> {
    match value {
        Value::Text(text) => text.text.trim().parse().ok(),
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let Value::List(items) = value else { return None };
    items
        .iter()
        .map(|item| match &item.value {
            Value::Text(text) if text.unknown.is_none() => Some(text.text.clone()),
            _ => None,
        })
        .collect()
}

/// ClusterMode decides; else the parameter group; else the number of shards.
fn mode(
    evaluator: &Evaluator<'_>,
    value: &impl Fn(&str) -> Option<Found>,
    shards: usize,
) -> (Mode, &'static str) {
    let text = |name: &str| match value(name)?.value {
        Value::Text(text) if !text.text.is_empty() => Some(text),
        _ => None,
    };
    if let Some(mode) = text("ClusterMode") {
        let mode = match mode.text.to_lowercase().as_str() {
            "enabled" => Mode::Enabled,
            "compatible" => Mode::Compatible,
            "disabled" => Mode::Disabled,
            _ => Mode::Unknown,
        };
        return (mode, "ClusterMode");
    }
    if let Some(group) = text("CacheParameterGroupName") {
        let mode = parameter_group_mode(evaluator, &group);
        // Several shards can be nothing else.
        let mode = if mode == Mode::Unknown && shards > 1 { Mode::Enabled } else { mode };
        return (mode, "CacheParameterGroupName");
    }
    (if shards > 1 { Mode::Enabled } else { Mode::Disabled }, "NumNodeGroups")
}

fn parameter_group_mode(evaluator: &Evaluator<'_>, group: &Text) -> Mode {
    if let Some(resource) =
        evaluator.referent(group).filter(|resource| resource.kind == names::PARAMETER_GROUP)
    {
        let Some(entry) = resource.property("Properties") else { return Mode::Disabled };
        let place = resource.place_of("Properties");
        let found = match entry.value.function() {
            // The whole mapping may depend on a condition.
            Some(_) => match evaluator.evaluate(&entry.value, &place).map(|found| found.value) {
                Some(Value::Map(fields)) => fields
                    .into_iter()
                    .find(|field| field.name == "cluster-enabled")
                    .map(|field| Some(field.found)),
                Some(Value::Absent) => None,
                _ => Some(None),
            },
            None => {
                let parameter = entry.value.get("cluster-enabled");
                parameter.map(|parameter| evaluator.evaluate(&parameter.value, &place))
            }
        };
        return match found {
            None | Some(Some(Found { value: Value::Absent, .. })) => Mode::Disabled,
            Some(Some(Found { value: Value::Text(Text { unknown: Some(_), .. }), .. })) => Mode::Unknown,
            Some(Some(Found { value: Value::Text(text), .. })) => match text.text.to_lowercase().as_str() {
                "yes" | "true" | "on" => Mode::Enabled,
                _ => Mode::Disabled,
            },
            Some(_) => Mode::Unknown,
        };
    }
    let name = group.text.to_lowercase();
    match name.starts_with("default.") {
        true if name.ends_with(".cluster.on") => Mode::Enabled,
        true => Mode::Disabled,
        false => Mode::Unknown,
    }
}
