//! What a group tells of itself, and when it tells it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kagami_api::reason::Reason;
use kagami_api::v1alpha1::{GroupStatus, MemberStatus, ReplicationGroupStatus, Role};
use kagami_core::desired::Refusal;
use kagami_core::observed::Observed;
use kagami_core::plan::Wait;
use kagami_core::status::{Seen, differs, formed, happenings, status};
use support::{NOW_MS, Scene, draw};

/// A look at a scene, some milliseconds after the first.
struct Look<'a> {
    after_ms: i64,
    refusals: &'a [Refusal],
    failure: Option<Wait>,
    deleting: bool,
}

const NOW: Look<'static> = Look { after_ms: 0, refusals: &[], failure: None, deleting: false };

impl Look<'_> {
    fn at(&self, scene: &Scene, previous: &ReplicationGroupStatus) -> ReplicationGroupStatus {
        let (frozen, plan) = scene.plan();
        status(&Seen {
            generation: 3,
            frozen: Some(&frozen),
            refusals: self.refusals,
            observed: &scene.observed,
            plan: Some(&plan),
            failure: self.failure.as_ref(),
            previous,
            now: time(self.after_ms),
            deleting: self.deleting,
        })
    }
}

fn later(after_ms: i64) -> Look<'static> {
    Look { after_ms, ..NOW }
}

fn time(after_ms: i64) -> Time {
    Time(jiff::Timestamp::from_millisecond(NOW_MS + after_ms).unwrap())
}

fn condition<'a>(status: &'a ReplicationGroupStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == kind).unwrap()
}

fn words(status: &ReplicationGroupStatus, kind: &str) -> String {
    let condition = condition(status, kind);
    format!("{} {}", condition.status, condition.reason)
}

fn well() -> Scene {
    draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 replica 100 of 0001-001",
    )
}

/// The primary has died, and its replica is being promoted.
fn failing_over() -> Scene {
    draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 parked boot 2\n 0001-002 replica 100 of 0001-001 down 5",
    )
}

fn told(old: &ReplicationGroupStatus, new: &ReplicationGroupStatus) -> Vec<String> {
    happenings("g", old, new)
        .into_iter()
        .map(|each| {
            let kind = if each.warning { "Warning" } else { "Normal" };
            format!("{kind} {}: {}", each.reason, each.message)
        })
        .collect()
}

#[test]
fn a_group_that_is_well_says_so() {
    let status = NOW.at(&well(), &ReplicationGroupStatus::default());
    assert_eq!(status.status, Some(GroupStatus::Available));
    assert_eq!(status.reason.as_deref(), Some("Available"));
    assert_eq!(status.nodes_ready.as_deref(), Some("2/2"));
    assert_eq!(words(&status, "Ready"), "True Available");
    assert_eq!(words(&status, "Progressing"), "False Available");
    assert_eq!(words(&status, "Degraded"), "False Available");
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn endpoints_are_those_of_the_cluster_mode() {
    let plain = NOW.at(&well(), &ReplicationGroupStatus::default());
    assert!(plain.configuration_end_point.is_none());
    assert_eq!(plain.primary_end_point.unwrap().address, "g.shop.svc.cluster.local");
    assert_eq!(plain.reader_end_point.unwrap().address, "g-ro.shop.svc.cluster.local");
    assert_eq!(plain.read_end_point.unwrap().addresses.len(), 2);
    let scene = draw("1x1 cluster formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 9");
    let cluster = NOW.at(&scene, &ReplicationGroupStatus::default());
    assert!(cluster.primary_end_point.is_none() && cluster.reader_end_point.is_none());
    assert_eq!(cluster.configuration_end_point.unwrap().address, "g.shop.svc.cluster.local");
    assert_eq!(cluster.node_groups.first().unwrap().slots.as_deref(), Some("0-16383"));
}

#[test]
fn the_time_of_a_condition_changes_only_with_its_truth() {
    let first = NOW.at(&well(), &ReplicationGroupStatus::default());
    let again = later(60_000).at(&well(), &first);
    for kind in ["Ready", "Progressing", "Degraded"] {
        assert_eq!(condition(&again, kind).last_transition_time, time(0), "{kind}");
    }
    let broken = later(90_000).at(&failing_over(), &again);
    assert_eq!(words(&broken, "Ready").split(' ').next(), Some("False"));
    assert_eq!(condition(&broken, "Ready").last_transition_time, time(90_000));
    let mended = later(95_000).at(&well(), &broken);
    assert_eq!(condition(&mended, "Ready").last_transition_time, time(95_000));
}

#[test]
fn a_group_at_rest_writes_no_status() {
    let first = NOW.at(&well(), &ReplicationGroupStatus::default());
    assert!(differs(&ReplicationGroupStatus::default(), &first));
    assert!(!differs(&first, &later(60_000).at(&well(), &first)));
    // Offsets move with every write, and are told along with something else.
    let mut busy = well();
    for node in ["0001-001", "0001-002"] {
        busy.report(node).engine.as_mut().unwrap().offset = 999;
    }
    let next = later(1_000).at(&busy, &first);
    assert!(!differs(&first, &next));
    assert_eq!(
        next.node_groups.first().unwrap().node_group_members.first().unwrap().replication_offset,
        Some(999)
    );
}

#[test]
fn a_group_that_has_formed_stays_available_and_tells_what_is_amiss() {
    let first = NOW.at(&well(), &ReplicationGroupStatus::default());
    let lost = draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 primary 100\n 0001-002 silent 7000 replica 100 of 0001-001",
    );
    let status = later(10).at(&lost, &first);
    assert_eq!(status.status, Some(GroupStatus::Available));
    assert!(formed(&status));
    assert_eq!(words(&status, "Ready"), "True Available");
    assert_eq!(words(&status, "Degraded"), "True AgentUnreachable");
    assert!(condition(&status, "Degraded").message.contains("g-0001-002: its agent is silent for 7 s"));
    assert_eq!(status.nodes_ready.as_deref(), Some("1/2"));
}

#[test]
fn a_group_is_being_created_until_every_node_serves() {
    let half = draw("1x2 plain\n lease 0001 holder 0001-001\n 0001-001 primary 0\n 0001-002 parked");
    let status = NOW.at(&half, &ReplicationGroupStatus::default());
    assert_eq!(status.status, Some(GroupStatus::Creating));
    assert!(!formed(&status));
    assert_eq!(words(&status, "Degraded").split(' ').next(), Some("False"));
    assert_eq!(words(&status, "Progressing").split(' ').next(), Some("True"));
}

#[test]
fn trouble_while_a_group_is_being_created_is_told_as_such() {
    let stuck = draw("1x2 plain\n lease 0001 holder 0001-001\n 0001-001 primary 0\n 0001-002 pulling");
    let status = NOW.at(&stuck, &ReplicationGroupStatus::default());
    assert_eq!(words(&status, "Degraded"), "True ImageCannotBePulled");
    assert_eq!(status.reason.as_deref(), Some("ImageCannotBePulled"));
}

#[test]
fn the_worst_is_told_first() {
    let mut scene = draw(
        "1x2 plain formed\n lease 0001 holder 0001-001 served\n 0001-001 silent 9000 primary 9\n 0001-002 pulling",
    );
    scene
        .observed
        .foreign
        .insert(kagami_core::plan::key(kagami_core::observed::Kind::Service, "g"), "Helm".into());
    let status = NOW.at(&scene, &ReplicationGroupStatus::default());
    assert_eq!(status.reason.as_deref(), Some("NameConflict"));
    let message = &condition(&status, "Ready").message;
    assert!(message.starts_with("Service/g:") && message.contains("g-0001-002: ErrImagePull"), "{message}");
}

#[test]
fn a_spec_that_was_refused_is_told_and_the_group_serves_on() {
    let refusal = Refusal {
        reason: Reason::InvalidParameterValue,
        property: "port".into(),
        message: "port must be 1150 to 65535 and is 1.".into(),
    };
    let first = NOW.at(&well(), &ReplicationGroupStatus::default());
    let status = Look { refusals: &[refusal], ..later(10) }.at(&well(), &first);
    assert_eq!(words(&status, "Ready"), "True Available");
    assert_eq!(words(&status, "Degraded"), "True InvalidParameterValue");
    assert_eq!(status.status, Some(GroupStatus::Available));
    assert_eq!(
        told(&first, &status),
        ["Warning InvalidParameterValue: port: port must be 1150 to 65535 and is 1."]
    );
    assert_eq!(told(&status, &status), Vec::<String>::new());
}

#[test]
fn a_spec_that_was_never_accepted_has_a_status_too() {
    let refusal =
        Refusal { reason: Reason::InvalidParameterValue, property: "port".into(), message: "no".into() };
    let status = status(&Seen {
        generation: 1,
        frozen: None,
        refusals: &[refusal],
        observed: &Observed::default(),
        plan: None,
        failure: None,
        previous: &ReplicationGroupStatus::default(),
        now: time(0),
        deleting: false,
    });
    assert_eq!(status.status, Some(GroupStatus::Creating));
    assert_eq!(words(&status, "Ready"), "False InvalidParameterValue");
}

#[test]
fn a_failure_of_a_step_is_told() {
    let failure = Wait { reason: Reason::ApplyFailed, subject: "Service/g".into(), message: "no".into() };
    let status = Look { failure: Some(failure), ..NOW }.at(&well(), &ReplicationGroupStatus::default());
    assert_eq!(words(&status, "Degraded"), "True ApplyFailed");
}

#[test]
fn a_deletion_is_told() {
    let status = Look { deleting: true, ..NOW }.at(&well(), &ReplicationGroupStatus::default());
    assert_eq!(status.status, Some(GroupStatus::Deleting));
    assert_eq!(status.reason.as_deref(), Some("Deleting"));
}

#[test]
fn messages_have_an_end() {
    let failure = Wait { reason: Reason::ApplyFailed, subject: "s".into(), message: "ü".repeat(5_000) };
    let status = Look { failure: Some(failure), ..NOW }.at(&well(), &ReplicationGroupStatus::default());
    assert!(condition(&status, "Degraded").message.chars().count() <= 1_001);
}

#[test]
fn members_say_who_they_are_and_keep_what_is_known_while_they_are_away() {
    let first = NOW.at(&well(), &ReplicationGroupStatus::default());
    let member = |status: &ReplicationGroupStatus, index: usize| {
        status.node_groups.first().unwrap().node_group_members.get(index).unwrap().clone()
    };
    assert_eq!(member(&first, 0).current_role, Some(Role::Primary));
    assert_eq!(member(&first, 1).current_role, Some(Role::Replica));
    assert_eq!(member(&first, 1).preferred_availability_zone.as_deref(), Some("b"));
    assert_eq!(member(&first, 1).lag_bytes, Some(0));
    let next = later(10).at(&failing_over(), &first);
    assert_eq!(member(&next, 0).status, Some(MemberStatus::Rebooting));
    assert_eq!(
        member(&next, 0).replication_offset,
        Some(100),
        "the last that is known, for words about what was lost"
    );
    assert_eq!(member(&next, 0).restarts, Some(1));
}

#[test]
fn events_speak_as_elasticache_does() {
    let empty = ReplicationGroupStatus::default();
    let half = draw("1x2 plain\n lease 0001 holder 0001-001\n 0001-001 primary 0\n 0001-002 parked");
    let creating = NOW.at(&half, &empty);
    assert_eq!(
        told(&empty, &creating),
        [
            "Normal ReplicationGroupCreated: Replication group g is being created",
            "Normal AddCacheNodeComplete: Added cache node g-0001-001 in availability zone a",
        ]
    );
    let available = later(10).at(&well(), &creating);
    assert_eq!(
        told(&creating, &available),
        [
            "Normal CreateReplicationGroupComplete: Replication group g created",
            "Normal AddCacheNodeComplete: Added cache node g-0001-002 in availability zone b",
        ]
    );
    let failing = later(20).at(&failing_over(), &available);
    let mended = draw(
        "1x2 plain formed\n lease 0001 term 2 holder 0001-002 served\n 0001-001 replica 100 of 0001-002 boot 2\n 0001-002 primary 100",
    );
    let recovered = later(30).at(&mended, &failing);
    assert_eq!(
        told(&failing, &recovered),
        ["Normal CacheNodesRebooted: Finished recovery for cache nodes g-0001-001"]
    );
    assert_eq!(told(&recovered, &recovered), Vec::<String>::new());
}

#[test]
fn pending_changes_are_named() {
    let mut scene = well();
    scene.desired =
        support::desired_with("1x2", false, false, &serde_json::json!({ "engineVersion": "9.0" }));
    scene.world_is_met();
    let first = NOW.at(&well(), &ReplicationGroupStatus::default());
    let status = later(10).at(&scene, &first);
    assert_eq!(status.pending_modified_values.as_ref().unwrap().properties, ["engineVersion"]);
    assert_eq!(status.engine.as_deref(), Some("valkey 8.1"), "what runs, not what is asked for");
    assert_eq!(words(&status, "Degraded"), "True UnsupportedModification");
    assert_eq!(status.status, Some(GroupStatus::Available));
}
