//! CPU and memory of a node, and how much of the memory is the data's.

use kagami_api::parameters::{self, Family};
use kagami_api::properties;
use kagami_api::quantity::Quantity;
use kagami_api::v1alpha1::{ComputeResources, KubernetesOptions, ReplicationGroupSpec, ResourceAmounts};

use super::engine::Group;
use super::{Refusals, Storage, Tables};

const MIB: i64 = 1 << 20;
/// An engine with its buffers and its agent does not run in less.
const MEMORY_BYTES_MIN: i64 = 32 * MIB;
/// The CPU request of a node that names no node type.
const CPU_REQUEST_MILLIS_DEFAULT: i64 = 100;

pub(super) struct Resources {
    pub(super) memory_bytes: i64,
    pub(super) cpu_request_millis: i64,
    pub(super) cpu_limit_millis: Option<i64>,
    pub(super) maxmemory_bytes: i64,
    pub(super) maxclients: Option<i64>,
}

/// The node type, or what `kubernetes.resources` gives in its place. maxmemory is what reserved-memory-percent leaves of it.
pub(super) fn resolve(
    spec: &ReplicationGroupSpec,
    options: &KubernetesOptions,
    group: &Group,
    family: Family,
    tables: &Tables,
    refusals: &mut Refusals,
) -> Resources {
    let asked = read(options.resources.as_ref(), refusals);
    let node_type = spec.cache_node_type.as_deref().and_then(|name| match tables.node_type(name) {
        Ok(node_type) => Some(node_type),
        Err(message) => {
            refusals.value("cacheNodeType", message);
            None
        }
    });
    // What the type says before rounding is ElastiCache's maxmemory; a limit of one's own is both.
    let whole = asked.memory_bytes.or(node_type.as_ref().map(|node_type| node_type.memory_bytes));
    if whole.is_none() && spec.cache_node_type.is_none() {
        refusals.combination("cacheNodeType", properties::NODE_TYPE_NEEDED);
    }
    let whole = whole.unwrap_or(MEMORY_BYTES_MIN);
    // Beyond this a sum of nodes could not be told in bytes any more; no machine has a pebibyte.
    if !(MEMORY_BYTES_MIN..=1 << 50).contains(&whole) {
        refusals.value(
            "kubernetes.resources.limits.memory",
            format!("A node needs at least {} Mi of memory, and at most 1 Pi.", MEMORY_BYTES_MIN / MIB),
        );
    }
    let reserved: i64 =
        parameters::effective(family, &group.given, "reserved-memory-percent").parse().unwrap_or(25);
    let maxmemory_bytes = whole.clamp(0, 1 << 50) / 100 * (100 - reserved.clamp(0, 100));
    if maxmemory_bytes < 8 * MIB && whole >= MEMORY_BYTES_MIN {
        refusals.combination(
            "cacheParameterGroupName",
            format!("reserved-memory-percent {reserved} leaves no memory for data."),
        );
    }
    let from_type = node_type.as_ref().map(|node_type| tables.cpu_request_millis(node_type));
    let default_request = from_type.unwrap_or(CPU_REQUEST_MILLIS_DEFAULT);
    let limit = asked.cpu_limit_millis;
    let cpu_request_millis = asked
        .cpu_request_millis
        .unwrap_or_else(|| limit.map_or(default_request, |limit| default_request.min(limit)));
    if limit.is_some_and(|limit| cpu_request_millis > limit) {
        refusals.combination(
            "kubernetes.resources.requests.cpu",
            "kubernetes.resources.requests.cpu must not be above kubernetes.resources.limits.cpu.",
        );
    }
    Resources {
        memory_bytes: round_up(whole),
        cpu_request_millis,
        cpu_limit_millis: limit,
        maxmemory_bytes,
        maxclients: node_type.map(|node_type| node_type.maxclients),
    }
}

fn round_up(bytes: i64) -> i64 {
    bytes
        .clamp(0, 1 << 50)
        .div_euclid(MIB)
        .saturating_add(i64::from(bytes.rem_euclid(MIB) > 0))
        .saturating_mul(MIB)
}

#[derive(Default)]
struct Asked {
    memory_bytes: Option<i64>,
    cpu_request_millis: Option<i64>,
    cpu_limit_millis: Option<i64>,
}

fn read(resources: Option<&ComputeResources>, refusals: &mut Refusals) -> Asked {
    let Some(resources) = resources else { return Asked::default() };
    let mut amount = |part: Option<&ResourceAmounts>, part_name: &str, memory: bool| {
        let quantity = part.and_then(|part| if memory { part.memory.as_ref() } else { part.cpu.as_ref() })?;
        let read = if memory { quantity.units() } else { quantity.millis() };
        if let Some(read) = read.filter(|read| *read > 0) {
            return Some(read);
        }
        let what = if memory { "memory" } else { "cpu" };
        let property = format!("kubernetes.resources.{part_name}.{what}");
        refusals.value(&property, format!("{property} is no amount of {what}: {:?}.", quantity.0));
        None
    };
    let request = amount(resources.requests.as_ref(), "requests", true);
    let limit = amount(resources.limits.as_ref(), "limits", true);
    let cpu_request_millis = amount(resources.requests.as_ref(), "requests", false);
    let cpu_limit_millis = amount(resources.limits.as_ref(), "limits", false);
    if let (Some(request), Some(limit)) = (request, limit)
        && request != limit
    {
        refusals.combination(
            "kubernetes.resources.requests.memory",
            "kubernetes.resources.requests.memory must be the limit or be left out: a node that is promised less than it may use is killed when its machine runs short.",
        );
    }
    Asked { memory_bytes: limit.or(request), cpu_request_millis, cpu_limit_millis }
}

/// The volume of a node.
pub(super) fn storage(options: &KubernetesOptions, refusals: &mut Refusals) -> Option<Storage> {
    let storage = options.storage.as_ref()?;
    if storage.size.units().is_none_or(|bytes| bytes <= 0) {
        refusals.value(
            "kubernetes.storage.size",
            format!("kubernetes.storage.size is no amount of storage: {:?}.", storage.size.0),
        );
    }
    let Quantity(size) = storage.size.clone();
    Some(Storage { size, class: storage.storage_class_name.clone() })
}
