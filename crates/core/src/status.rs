//! What the group tells of itself: a pure function over what was desired, seen and planned.

use crate::desired::{ClusterMode, Desired, Refusal};
use crate::observed::{Agent, Observed, is_primary};
use crate::plan::{Frozen, Plan, Wait};
use crate::slots::SlotSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kagami_api::names;
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{
    ClusterMode as ApiMode, Endpoint, GroupStatus, MemberStatus, NodeGroup, NodeGroupMember, NodeGroupStatus,
    PendingModifiedValues, ReadEndpoint, ReplicationGroupStatus, Resolved, Role as ApiRole, Switch,
};
use kagami_protocol::{EngineState, Role};

/// Condition messages are for people; the apiserver takes 32 KiB, a screen takes less.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// What a status is made of.
pub struct Seen<'a> {
    /// The generation of the spec that was looked at.
    pub generation: i64,
    /// What was planned for; `None` while nothing could be resolved, ever.
    pub frozen: Option<&'a Frozen>,
    /// Why the present spec was refused; empty if it was not.
    pub refusals: &'a [Refusal],
    /// The snapshot.
    pub observed: &'a Observed,
    /// The plan.
    pub plan: Option<&'a Plan>,
    /// What went wrong as it was carried out.
    pub failure: Option<&'a Wait>,
    /// The status as it was.
    pub previous: &'a ReplicationGroupStatus,
    /// The time, for conditions that change.
    pub now: Time,
    /// The group is being deleted.
    pub deleting: bool,
}

/// The status.
pub fn status(seen: &Seen<'_>) -> ReplicationGroupStatus {
    let mut status = seen.previous.clone();
    status.observed_generation = Some(seen.generation);
    let mut whole = false;
    let mut serving = false;
    if let Some(frozen) = seen.frozen {
        let group = &frozen.desired;
        describe(&mut status, group, frozen, seen);
        let members: Vec<&NodeGroupMember> =
            status.node_groups.iter().flat_map(|g| &g.node_group_members).collect();
        let ready = members.iter().filter(|member| member.status == Some(MemberStatus::Available)).count();
        whole = ready == members.len() && !members.is_empty();
        serving = status.node_groups.iter().all(|g| {
            g.node_group_members.iter().any(|m| {
                m.current_role == Some(ApiRole::Primary) && m.status == Some(MemberStatus::Available)
            })
        });
        status.nodes_ready = Some(format!("{ready}/{}", members.len()));
    }
    let applied = seen.plan.is_some_and(|plan| plan.steps.is_empty());
    let was_formed = formed(seen.previous);
    let formed = was_formed || (whole && serving && applied && seen.frozen.is_some());
    let waits = waits(seen);
    status.status = Some(if seen.deleting {
        GroupStatus::Deleting
    } else if !formed {
        GroupStatus::Creating
    } else {
        GroupStatus::Available
    });
    let first = waits.first();
    // What may stay so for good, and harms nobody.
    let told = [Reason::NotInEffect, Reason::PendingReboot, Reason::AwayFromZone];
    let serious = waits.iter().any(|wait| formed && !told.contains(&wait.reason) || trouble(wait.reason));
    let ready = formed && serving && seen.frozen.is_some();
    let quiet = if formed { Reason::Available } else { Reason::Creating };
    let reason = first.map_or(quiet, |wait| wait.reason);
    let message = message(&waits, quiet);
    status.reason = Some(if seen.deleting { Reason::Deleting } else { reason }.as_str().to_owned());
    let mut set = |kind: &str, truth: bool, reason: Reason, message: &str| {
        put(&mut status.conditions, kind, truth, reason, message, seen);
    };
    set(
        "Ready",
        ready,
        if ready { Reason::Available } else { reason },
        if ready { "Every node group has a primary that serves." } else { &message },
    );
    let moving = seen.deleting || !formed || waits.iter().any(|wait| moving(wait.reason));
    set(
        "Progressing",
        moving,
        if moving { reason } else { quiet },
        if moving { &message } else { "Nothing is being changed." },
    );
    set(
        "Degraded",
        serious,
        if serious { reason } else { quiet },
        if serious { &message } else { "Nothing is amiss." },
    );
    let recorded = seen.frozen.map(|frozen| frozen.desired.not_in_effect.as_slice()).unwrap_or_default();
    let words: Vec<String> =
        recorded.iter().map(|item| format!("{}: {}", item.property, item.sentence)).collect();
    if recorded.is_empty() {
        status.conditions.retain(|condition| condition.type_ != "NotInEffect");
    } else {
        put(
            &mut status.conditions,
            "NotInEffect",
            true,
            Reason::NotInEffect,
            &bounded(&words.join(" ")),
            seen,
        );
    }
    status
}

/// Whether a status says that the group has once been available.
pub fn formed(status: &ReplicationGroupStatus) -> bool {
    matches!(status.status, Some(GroupStatus::Available | GroupStatus::Modifying | GroupStatus::Snapshotting))
}

/// Worst first.
fn waits(seen: &Seen<'_>) -> Vec<Wait> {
    let mut waits: Vec<Wait> = seen
        .refusals
        .iter()
        .map(|refusal| Wait {
            reason: refusal.reason,
            subject: refusal.property.clone(),
            message: refusal.message.clone(),
        })
        .collect();
    waits.extend(seen.failure.cloned());
    waits.extend(seen.plan.into_iter().flat_map(|plan| plan.waits.iter().cloned()));
    waits.sort_by_key(|wait| severity(wait.reason));
    waits.dedup();
    waits
}

/// How much a reason matters to the person on call; lower is worse.
fn severity(reason: Reason) -> usize {
    const ORDER: [Reason; 35] = [
        Reason::BugRefused,
        Reason::NoLiveCopy,
        Reason::CopyHeld,
        Reason::DataCannotBeLoaded,
        Reason::EngineHung,
        Reason::FencingPrimary,
        Reason::PrimaryDown,
        Reason::NameConflict,
        Reason::InvalidParameterValue,
        Reason::InvalidParameterCombination,
        Reason::CacheParameterGroupNotFound,
        Reason::CacheSubnetGroupNotFound,
        Reason::SecurityGroupNotFound,
        Reason::ApplyFailed,
        Reason::CacheNodeReplaceStarted,
        Reason::ZoneNotFound,
        Reason::ImageCannotBePulled,
        Reason::InsufficientCacheClusterCapacity,
        Reason::PodUnschedulable,
        Reason::VolumeFull,
        Reason::CrashLooping,
        Reason::EngineRejectedParameter,
        Reason::SlotsOpen,
        Reason::NodeUnknown,
        Reason::AgentTooOld,
        Reason::AgentUnreachable,
        Reason::HandingOver,
        Reason::RecoveringNode,
        Reason::RebootCacheNode,
        Reason::AwaitingSync,
        Reason::FormingCluster,
        Reason::WaitingForPods,
        Reason::WaitingForAgent,
        Reason::AwayFromZone,
        Reason::UnsupportedModification,
    ];
    ORDER.iter().position(|each| *each == reason).unwrap_or(ORDER.len())
}

/// Whether a group that is still being made is already in trouble.
fn trouble(reason: Reason) -> bool {
    severity(reason) <= severity(Reason::AgentTooOld)
        && !matches!(reason, Reason::PrimaryDown | Reason::FencingPrimary)
}

/// Whether Kagami is at work on it.
fn moving(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PrimaryDown
            | Reason::FencingPrimary
            | Reason::HandingOver
            | Reason::CacheNodeReplaceStarted
            | Reason::RebootCacheNode
            | Reason::RecoveringNode
            | Reason::AwaitingSync
            | Reason::FormingCluster
            | Reason::WaitingForAgent
            | Reason::WaitingForPods
    )
}

fn message(waits: &[Wait], quiet: Reason) -> String {
    if waits.is_empty() {
        return quiet.doc().to_owned();
    }
    let words: Vec<String> = waits.iter().map(|wait| format!("{}: {}", wait.subject, wait.message)).collect();
    bounded(&words.join("; "))
}

fn bounded(text: &str) -> String {
    if text.chars().count() <= MESSAGE_CHARS_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    format!("{head}…")
}

/// Sets a condition; its time changes only when its truth does.
fn put(
    conditions: &mut Vec<Condition>,
    kind: &str,
    truth: bool,
    reason: Reason,
    message: &str,
    seen: &Seen<'_>,
) {
    let truth = if truth { "True" } else { "False" };
    let fresh = Condition {
        type_: kind.to_owned(),
        status: truth.to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.to_owned(),
        observed_generation: Some(seen.generation),
        last_transition_time: seen.now.clone(),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(present) => {
            let since = if present.status == truth {
                present.last_transition_time.clone()
            } else {
                fresh.last_transition_time.clone()
            };
            *present = Condition { last_transition_time: since, ..fresh };
        }
        None => conditions.push(fresh),
    }
}

fn describe(status: &mut ReplicationGroupStatus, group: &Desired, frozen: &Frozen, seen: &Seen<'_>) {
    let cluster = group.cluster_mode == ClusterMode::Enabled;
    let endpoint = |service: &str| {
        Some(Endpoint {
            address: names::address(service, &group.namespace, &group.cluster_domain),
            port: group.port.to_string(),
        })
    };
    status.cluster_mode = Some(if cluster { ApiMode::Enabled } else { ApiMode::Disabled });
    status.engine = Some(format!("{} {}", group.engine.kind.as_str(), group.engine.version));
    status.shards = i32::try_from(group.shards.len()).ok();
    status.configuration_end_point = if cluster { endpoint(&group.name) } else { None };
    status.primary_end_point = if cluster { None } else { endpoint(&group.name) };
    status.reader_end_point = if cluster { None } else { endpoint(&names::reader_service(&group.name)) };
    let nodes: Vec<String> =
        group.shards.iter().flat_map(|shard| shard.nodes.iter().map(|node| node.name.clone())).collect();
    status.read_end_point = (!cluster).then(|| ReadEndpoint {
        addresses: nodes
            .iter()
            .map(|node| names::address(node, &group.namespace, &group.cluster_domain))
            .collect(),
        ports: nodes.iter().map(|_| group.port.to_string()).collect(),
    });
    status.member_clusters = nodes;
    status.automatic_failover =
        Some(if group.automatic_failover { Switch::Enabled } else { Switch::Disabled });
    status.multi_az = Some(if group.multi_az { Switch::Enabled } else { Switch::Disabled });
    status.resolved = Some(Resolved {
        engine_version: Some(group.engine.version.to_string()),
        image: Some(group.image.clone()),
        parameter_group: Some(group.parameter_group_name.clone()),
        memory_bytes: Some(group.memory_bytes),
        maxmemory_bytes: Some(group.maxmemory_bytes),
        cpu_request_millis: Some(group.cpu_request_millis),
        ..status.resolved.clone().unwrap_or_default()
    });
    let pending: Vec<String> = frozen.pending.iter().map(|pending| pending.property.clone()).collect();
    status.pending_modified_values = (!pending.is_empty())
        .then(|| PendingModifiedValues { properties: pending, ..PendingModifiedValues::default() });
    let previous = std::mem::take(&mut status.node_groups);
    status.node_groups = group
        .shards
        .iter()
        .map(|shard| {
            let lease = seen.observed.leases.get(&shard.id);
            let before = previous.iter().find(|before| before.node_group_id == shard.id);
            let primary_offset =
                lease.and_then(|lease| seen.observed.engine(&lease.holder)).map(|engine| engine.offset);
            let members: Vec<NodeGroupMember> = shard
                .nodes
                .iter()
                .map(|node| {
                    let known = before
                        .and_then(|b| b.node_group_members.iter().find(|m| m.cache_cluster_id == node.name));
                    let zone = frozen.inputs.get(&node.name).and_then(|inputs| inputs.zone.clone());
                    let holder = lease.is_some_and(|lease| lease.holder == node.name);
                    member(group, &node.name, zone, holder, primary_offset, known, seen.observed)
                })
                .collect();
            let serves = members.iter().all(|member| member.status == Some(MemberStatus::Available));
            let slots = lease
                .and_then(|lease| seen.observed.engine(&lease.holder)?.cluster.as_ref())
                .map(|cluster| SlotSet::from_ranges(cluster.own_slots()))
                .filter(|slots| !slots.is_empty());
            NodeGroup {
                node_group_id: shard.id.clone(),
                status: Some(if serves {
                    NodeGroupStatus::Available
                } else if before.is_some_and(|b| {
                    b.status == Some(NodeGroupStatus::Available)
                        || b.status == Some(NodeGroupStatus::Modifying)
                }) {
                    NodeGroupStatus::Modifying
                } else {
                    NodeGroupStatus::Creating
                }),
                slots: slots.map(|slots| slots.to_string()).or_else(|| before.and_then(|b| b.slots.clone())),
                primary_endpoint: lease.and_then(|lease| endpoint(&lease.holder)),
                term: lease.and_then(|lease| i64::try_from(lease.term).ok()),
                node_group_members: members,
            }
        })
        .collect();
}

fn member(
    group: &Desired,
    node: &str,
    zone: Option<String>,
    holder: bool,
    primary_offset: Option<i64>,
    known: Option<&NodeGroupMember>,
    observed: &Observed,
) -> NodeGroupMember {
    let pod = observed.nodes.get(node).and_then(|seen| seen.pod.as_ref());
    let engine = observed.engine(node);
    let report = observed.report(node);
    let serves = engine.is_some_and(|engine| {
        engine.complete
            && !engine.loading
            && match engine.role {
                Some(Role::Primary) => {
                    holder && is_primary(engine) && engine.cluster.as_ref().is_none_or(|cluster| cluster.ok)
                }
                Some(Role::Replica) => engine.link.as_ref().is_some_and(|link| link.up),
                None => false,
            }
    });
    let was = known.and_then(|known| known.status);
    let once =
        matches!(was, Some(MemberStatus::Available | MemberStatus::Rebooting | MemberStatus::Modifying));
    // It runs on and only changes whom it follows: nothing was started again.
    let same_life = matches!(was, Some(MemberStatus::Available | MemberStatus::Modifying))
        && engine.is_some()
        && report.map(|report| report.boot.to_string()) == known.and_then(|known| known.boot.clone());
    let silent = matches!(observed.nodes.get(node).map(|seen| &seen.agent), Some(Agent::Silent { .. }));
    let status = if serves {
        MemberStatus::Available
    } else if report.is_some_and(|report| report.terminating) || pod.is_some_and(|pod| pod.deleting) {
        MemberStatus::Deleting
    } else if same_life {
        MemberStatus::Modifying
    } else if once
        || silent
        || report.is_some_and(|report| report.exits > 0 && report.state != EngineState::Running)
    {
        MemberStatus::Rebooting
    } else {
        MemberStatus::Creating
    };
    // An offset that moves with each write would rewrite the status for ever; it is refreshed when something else changes.
    let offset = engine.map(|engine| engine.offset);
    NodeGroupMember {
        cache_cluster_id: node.to_owned(),
        cache_node_id: Some("0001".to_owned()),
        read_endpoint: Some(Endpoint {
            address: names::address(node, &group.namespace, &group.cluster_domain),
            port: group.port.to_string(),
        }),
        preferred_availability_zone: zone,
        current_role: match engine.and_then(|engine| engine.role) {
            Some(Role::Primary) if holder => Some(ApiRole::Primary),
            Some(_) => Some(ApiRole::Replica),
            None => known.and_then(|known| known.current_role),
        },
        status: Some(status),
        machine: pod.and_then(|pod| pod.machine.clone()),
        engine_id: engine
            .and_then(|engine| engine.cluster.as_ref())
            .map(|cluster| cluster.my_id.clone())
            .or_else(|| known.and_then(|known| known.engine_id.clone())),
        boot: report
            .map(|report| report.boot.to_string())
            .or_else(|| known.and_then(|known| known.boot.clone())),
        replication_offset: offset.or_else(|| known.and_then(|known| known.replication_offset)),
        lag_bytes: match (primary_offset, offset) {
            (Some(primary), Some(own)) => Some((primary - own).max(0)),
            _ => known.and_then(|known| known.lag_bytes),
        },
        restarts: report
            .map(|report| i32::try_from(report.exits).unwrap_or(i32::MAX))
            .or_else(|| known.and_then(|known| known.restarts)),
    }
}

/// Whether the new status says more than the old one than how far the offsets are.
pub fn differs(old: &ReplicationGroupStatus, new: &ReplicationGroupStatus) -> bool {
    let mut rest = new.clone();
    let both = rest.node_groups.iter_mut().zip(&old.node_groups);
    for (new, old) in
        both.flat_map(|(new, old)| new.node_group_members.iter_mut().zip(&old.node_group_members))
    {
        (new.replication_offset, new.lag_bytes) = (old.replication_offset, old.lag_bytes);
    }
    rest != *old
}

/// Something that happened, for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// From the closed set.
    pub reason: Reason,
    /// In ElastiCache's wording where it has one.
    pub message: String,
    /// Whether it is a warning.
    pub warning: bool,
}

/// What a change of the status tells.
pub fn happenings(name: &str, old: &ReplicationGroupStatus, new: &ReplicationGroupStatus) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let mut tell = |reason: Reason, warning: bool, message: String| {
        happenings.push(Happening { reason, message, warning })
    };
    if old.status.is_none() && new.status == Some(GroupStatus::Creating) {
        tell(Reason::ReplicationGroupCreated, false, format!("Replication group {name} is being created"));
    }
    if !formed(old) && formed(new) {
        tell(Reason::CreateReplicationGroupComplete, false, format!("Replication group {name} created"));
    }
    for member in new.node_groups.iter().flat_map(|group| &group.node_group_members) {
        let before = old
            .node_groups
            .iter()
            .flat_map(|group| &group.node_group_members)
            .find(|before| before.cache_cluster_id == member.cache_cluster_id);
        let was = before.and_then(|before| before.status);
        let (id, zone) =
            (&member.cache_cluster_id, member.preferred_availability_zone.as_deref().unwrap_or("any zone"));
        match (was, member.status) {
            (Some(MemberStatus::Rebooting | MemberStatus::Deleting), Some(MemberStatus::Available)) => {
                tell(Reason::CacheNodesRebooted, false, format!("Finished recovery for cache nodes {id}"));
            }
            (None | Some(MemberStatus::Creating), Some(MemberStatus::Available)) => {
                tell(
                    Reason::AddCacheNodeComplete,
                    false,
                    format!("Added cache node {id} in availability zone {zone}"),
                );
            }
            _ => {}
        }
    }
    let degraded = |status: &ReplicationGroupStatus| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == "Degraded" && c.status == "True")
            .map(|c| (c.reason.clone(), c.message.clone()))
    };
    if let Some((reason, message)) = degraded(new)
        && degraded(old).is_none_or(|(before, _)| before != reason)
        && let Ok(reason) = reason.parse::<Reason>()
        && (trouble(reason)
            || matches!(
                reason,
                Reason::PrimaryDown | Reason::FencingPrimary | Reason::UnsupportedModification
            ))
    {
        tell(reason, true, message);
    }
    happenings
}
