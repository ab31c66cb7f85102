//! Every object that is built is what its type says, and a node's template stays what it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use kagami_core::build;
use kagami_core::desired::Desired;
use kagami_core::drift::covers;
use kagami_core::observed::{Cause, Kind, Reach, Rebirth};
use kagami_core::plan::{RaiseTerm, freeze};
use kagami_protocol::Boot;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use support::{bare, desired, desired_with, setting, typed};

/// Groups that between them use every option that changes an object.
fn groups() -> Vec<Desired> {
    let rich = json!({
        "deletionPolicy": "Retain",
        "multiAZEnabled": true,
        "tags": [{ "key": "team", "value": "shop" }, { "key": "a tag/with more", "value": "x y" }],
        "kubernetes": {
            "storage": { "size": "5Gi", "storageClassName": "fast" },
            "resources": { "limits": { "cpu": "1500m", "memory": "1000Mi" } },
            "nodeSelector": { "disk": "ssd" },
            "tolerations": [{ "key": "cache", "operator": "Exists", "effect": "NoSchedule" }],
            "podLabels": { "team": "shop" },
            "podAnnotations": { "note": "x" },
            "priorityClassName": "high",
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{ "name": "pull" }],
        },
    });
    let mut guarded = desired("1x2", false, false);
    let peer = json!({ "podSelector": { "matchLabels": { "app": "shop" } } });
    guarded.ingress = Some(vec![serde_json::from_value(peer).unwrap()]);
    let mut closed = desired("2x2", true, false);
    closed.ingress = Some(Vec::new());
    vec![
        desired("1x1", false, false),
        desired("3x2", true, true),
        desired_with("1x2", true, false, &rich),
        guarded,
        closed,
    ]
}

/// Everything that is built for a group.
fn objects(group: &Desired) -> Vec<(Kind, Value)> {
    let scene = bare("1x1 plain");
    let frozen = freeze(group, &scene.observed, &setting());
    let reachable = |machine: Option<&str>| build::Reachable {
        ip: "10.0.0.1".into(),
        pod: "g-0001-001-0".into(),
        uid: "u".into(),
        machine: machine.map(str::to_owned),
        zone: machine.map(|_| "a".to_owned()),
    };
    let addresses = [reachable(Some("m1")), reachable(None)];
    let mut objects = vec![
        (Kind::ServiceAccount, build::service_account(group)),
        (Kind::Role, build::role(group)),
        (Kind::RoleBinding, build::role_binding(group)),
        (Kind::ConfigMap, build::config_map(group)),
        (Kind::Service, build::service(group, &group.name)),
        (Kind::Secret, build::secret(group, "s", &BTreeMap::from([("k".to_owned(), "v".to_owned())]))),
        (Kind::EndpointSlice, build::endpoint_slice(group, &group.name, &addresses)),
        (Kind::EndpointSlice, build::endpoint_slice(group, &group.name, &[])),
        (
            Kind::EndpointSlice,
            build::endpoint_slice(
                group,
                &kagami_api::names::reader_service(&group.name),
                &build::readers(Vec::new(), addresses.first().cloned()),
            ),
        ),
    ];
    objects.extend(build::network_policy(group, "kagami-system").map(|policy| (Kind::NetworkPolicy, policy)));
    for shard in &group.shards {
        objects.push((Kind::PodDisruptionBudget, build::disruption_budget(group, shard)));
        for node in &shard.nodes {
            let set = build::stateful_set(group, shard, &node.name, &frozen.inputs[&node.name]);
            objects.push((Kind::Service, build::service_for_node(group, shard, &node.name)));
            objects.push((Kind::StatefulSet, set));
        }
    }
    objects
}

#[test]
fn no_object_has_a_field_that_its_type_does_not_know() {
    for group in groups() {
        for (kind, object) in objects(&group) {
            let again = typed(kind, &object);
            assert!(covers(&object, &again), "{}:\nbuilt {object:#}\nread {again:#}", kind.as_str());
            assert_eq!(again["kind"], kind.as_str());
            assert_eq!(again["apiVersion"], object["apiVersion"]);
        }
    }
}

#[test]
fn every_object_says_to_whom_it_belongs() {
    for group in groups() {
        for (kind, object) in objects(&group) {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["elasticache.kagami.dev/replication-group"], "g", "{}", kind.as_str());
            assert_eq!(labels["app.kubernetes.io/managed-by"], "kagami", "{}", kind.as_str());
            assert_eq!(object["metadata"]["namespace"], "shop");
            for (key, value) in labels.as_object().unwrap() {
                assert!(value.as_str().unwrap().len() <= 63, "{key}");
            }
        }
    }
}

#[test]
fn a_lease_says_what_was_raised_and_is_a_lease() {
    let group = desired("1x2", true, false);
    let boot = |run| Boot { pod_uid: "u".into(), agent: "a".into(), run };
    for previous in [None, Some(("g-0001-002".to_owned(), boot(3)))] {
        let raise = RaiseTerm {
            shard: "0001".into(),
            resource_version: Some("7".into()),
            term: 4,
            holder: "g-0001-001".into(),
            boot: boot(2),
            previous,
            cause: Cause::Silence,
            slots: group.shards[0].slots.clone(),
            served: true,
            rebirths: vec![Rebirth {
                term: 5,
                base: Some(Reach { data_term: 4, primary: true, offset: 90 }),
                returned: Some((6, Reach { data_term: 4, primary: false, offset: 100 })),
            }],
            home: Some("g-0001-002".into()),
        };
        let object = build::lease(&group, &raise, "2026-01-01T00:00:00.000000Z");
        let read: k8s_openapi::api::coordination::v1::Lease = serde_json::from_value(object.clone()).unwrap();
        let again = serde_json::to_value(read).unwrap();
        let (shard, lease) = build::read_lease(&again).unwrap();
        assert_eq!(shard, "0001");
        assert_eq!((lease.term, lease.holder, lease.boot), (4, raise.holder.clone(), boot(2)));
        assert_eq!(
            (lease.previous, lease.cause, lease.served),
            (raise.previous.clone(), Cause::Silence, true)
        );
        assert_eq!((lease.slots, lease.resource_version.as_str()), (raise.slots.clone(), "7"));
        assert_eq!(lease.since_ms, 1_767_225_600_000);
        assert_eq!((lease.rebirths, lease.home), (raise.rebirths, raise.home));
        // What cannot be read may have said anything: every copy from before is held.
        let mut garbled = again.clone();
        garbled["metadata"]["annotations"]["elasticache.kagami.dev/rebirths"] = "[{".into();
        let (_, lease) = build::read_lease(&garbled).unwrap();
        assert!(lease.left_behind(Reach { data_term: 3, primary: false, offset: 1 }));
    }
}

#[test]
fn every_pod_passes_the_restricted_level() {
    for group in groups() {
        for (_, set) in objects(&group).into_iter().filter(|(kind, _)| *kind == Kind::StatefulSet) {
            let pod = &set["spec"]["template"]["spec"];
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[host].is_null(), "{host}");
            }
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true);
            assert!(security["runAsUser"].as_i64().is_some_and(|user| user > 0));
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
            let allowed = [
                "configMap",
                "csi",
                "downwardAPI",
                "emptyDir",
                "ephemeral",
                "persistentVolumeClaim",
                "projected",
                "secret",
            ];
            for volume in pod["volumes"].as_array().unwrap() {
                let kinds: Vec<&String> =
                    volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
                assert!(kinds.iter().all(|kind| allowed.contains(&kind.as_str())), "{kinds:?}");
            }
            let containers =
                pod["containers"].as_array().unwrap().iter().chain(pod["initContainers"].as_array().unwrap());
            for container in containers {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }));
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert!(context["privileged"].is_null() && context["runAsUser"].is_null());
                assert!(container["resources"]["limits"]["memory"].is_string());
                for port in container["ports"].as_array().into_iter().flatten() {
                    assert!(port["hostPort"].is_null());
                }
            }
        }
    }
}

#[test]
fn a_node_has_one_replica_that_is_replaced_only_when_it_is_asked_for() {
    for (_, set) in groups().iter().flat_map(objects).filter(|(kind, _)| *kind == Kind::StatefulSet) {
        assert_eq!(set["spec"]["replicas"], 1);
        assert_eq!(set["spec"]["updateStrategy"], json!({ "type": "OnDelete" }));
        let pod = &set["spec"]["template"]["spec"];
        assert!(pod["containers"].as_array().unwrap().iter().all(|each| each["livenessProbe"].is_null()));
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        assert!(covers(&set["spec"]["selector"]["matchLabels"], labels));
    }
}

#[test]
fn a_budget_matches_the_pods_of_its_own_shard_and_no_others() {
    let group = desired("3x2", true, false);
    let built = objects(&group);
    let of = |kind: Kind| built.iter().filter(move |(each, _)| *each == kind).map(|(_, object)| object);
    for set in of(Kind::StatefulSet) {
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        let matching = of(Kind::PodDisruptionBudget)
            .filter(|budget| covers(&budget["spec"]["selector"]["matchLabels"], labels))
            .count();
        assert_eq!(matching, 1, "a pod that two budgets match cannot be evicted at all");
    }
}

/// The templates as they were when they were last meant to change. A difference restarts every pod of every group as its
/// turn comes, so it is a decision: `UPDATE=1` writes them anew, and the release notes say so.
#[test]
fn the_template_of_a_node_is_what_it_was() {
    let cases = [
        ("plain", groups().remove(0)),
        ("cluster-with-volumes", groups().remove(1)),
        ("rich", groups().remove(2)),
    ];
    for (name, group) in cases {
        let set = objects(&group).into_iter().find(|(kind, _)| *kind == Kind::StatefulSet).unwrap().1;
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
        let text = format!("{:#}\n", set["spec"]);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == text, "{} is no longer what it was:\n{text}", path.display());
    }
}

#[test]
fn a_template_that_is_built_from_what_was_kept_is_the_same_template() {
    let mut scene = bare("1x2 plain volumes");
    scene.observed.nodes.clear();
    scene.world_is_met();
    let before = scene.observed.children.clone();
    scene.setting.agent_image = "kagami-agent:2".into();
    let (frozen, _) = scene.plan();
    let shard = &frozen.desired.shards[0];
    for node in &shard.nodes {
        let set = build::stateful_set(&frozen.desired, shard, &node.name, &frozen.inputs[&node.name]);
        let key = kagami_core::plan::key(Kind::StatefulSet, &*node.name);
        assert!(covers(&set, &before[&key]), "{}", node.name);
    }
}

/// A tag may have any letters; an annotation's name may not, and must not be empty.
#[test]
fn every_tag_is_an_annotation_of_every_object_and_none_hides_another() {
    let keys =
        ["team", "a/b", "a_b", "\u{65e5}\u{672c}", "\u{5357}", "--", &"x/".repeat(60), &"x/".repeat(61)];
    let tags: Vec<Value> =
        keys.iter().map(|key| json!({ "key": key, "value": format!("of {key}") })).collect();
    let group = desired_with("1x2", true, false, &json!({ "tags": tags }));
    for (kind, object) in objects(&group) {
        let annotations = object.pointer("/metadata/annotations").unwrap().as_object().unwrap();
        let ours: Vec<(&String, &Value)> =
            annotations.iter().filter(|(key, _)| key.starts_with("tags.elasticache.kagami.dev/")).collect();
        for key in keys {
            let held = ours.iter().filter(|(_, value)| **value == format!("of {key}")).count();
            assert_eq!(held, 1, "{kind:?}: {key} in {ours:?}");
        }
        for (key, _) in ours {
            let name = key.trim_start_matches("tags.elasticache.kagami.dev/");
            let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            let edges = [name.chars().next(), name.chars().last()];
            let whole = edges.iter().all(|edge| edge.is_some_and(|edge| edge.is_ascii_alphanumeric()));
            assert!(legal && whole && name.len() <= 63, "{kind:?}: {key}");
        }
    }
}
