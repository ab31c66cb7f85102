//! Clients of a former primary are closed once the primary endpoint leads elsewhere (cluster mode disabled).

mod support;

use kagami_core::observed::Agent;
use kagami_protocol::{FENCE_BOUND_MS, FORMER_CLIENTS_MS};
use support::{Scene, assert_plan, draw, events};

const MOVED: &str =
    "lease 0001 term 5 holder 0001-002 served\n 0001-001 replica 100 of 0001-002\n 0001-002 primary 100";

fn scene(header: &str, known_ms: u64) -> Scene {
    let mut scene = draw(&format!("{header} formed\n {MOVED}"));
    for lease in scene.observed.leases.values_mut() {
        lease.known_ms = known_ms;
    }
    for seen in scene.observed.nodes.values_mut() {
        if let Agent::Up(report) = &mut seen.agent {
            report.former_clients = true;
        }
    }
    scene
}

#[test]
fn clients_of_a_former_primary_are_closed_once_the_endpoint_has_moved() {
    // The primary's own clients stay, whatever it was before.
    assert_plan(&scene("1x2 plain", 10_000), "order 0001-001 term 5: close clients");
    let told = events(&scene("1x2 plain", 10_000).plan().1);
    assert!(
        told.contains("Connections that clients have kept to 0001-001 since it was the primary are closed"),
        "{told}"
    );
    assert!(told.contains("leads to 0001-002 now"), "{told}");
}

#[test]
fn they_are_not_closed_before_the_proxies_know_where_to_send_them() {
    // A promotion after a silence comes as late as the fence, and its endpoint after it.
    let early = scene("1x2 plain", FENCE_BOUND_MS + 100);
    assert_plan(&early, "");
    assert!(early.plan().1.again_ms.is_some_and(|ms| ms <= FORMER_CLIENTS_MS));
    let mut moving = scene("1x2 plain", 10_000);
    moving.observed.children.retain(|key, _| !key.to_string().contains("EndpointSlice"));
    let planned = support::table(&moving.plan().1);
    assert!(!planned.contains("close clients"), "{planned}");
}

#[test]
fn clients_of_a_cluster_learn_it_from_the_engines() {
    assert_plan(&scene("1x2 cluster", 10_000), "");
}
