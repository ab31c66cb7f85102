//! What holds for the model by itself; whether it is like the real thing is the business of `tests/conformance.rs`.

use super::net::Net;
use super::*;
use kagami_agent::persistence::Persistence;
use kagami_protocol::engine_text::{Fields, cluster_info, cluster_nodes, engine_view};
use kagami_protocol::{ClusterView, Role};

pub(super) fn config(n: u32, cluster: bool) -> EngineConfig {
    EngineConfig {
        kind: Kind::Redis,
        version: (7, 0, 15),
        ip: Ip(n),
        port: 6379,
        bus_port: 16379,
        cluster,
        node_timeout_ms: 1_000,
        append_only: false,
        save_every_ms: None,
        replica_of: None,
        repl_timeout_ms: 60_000,
        ping_every_ms: 10_000,
        backlog_writes: 10_000,
        source_open: true,
        password: 1,
        stale_reads: true,
        electable: true,
        load_us_per_write: 10,
    }
}

fn text(net: &mut Net, n: u32, words: &[&str]) -> String {
    match net.command(Ip(n), words) {
        Some(Reply::Text(text)) => text,
        other => panic!("{words:?} at {n}: {other:?}"),
    }
}

/// A cluster of some primaries, each with one replica: node n and n + primaries.
pub(super) fn formed(primaries: u32, change: impl Fn(&mut EngineConfig)) -> Net {
    let mut net = Net::new(7, 1);
    let width = 16_384 / primaries;
    for n in 1..=primaries * 2 {
        let mut config = config(n, true);
        change(&mut config);
        net.start(config, false);
        if n <= primaries {
            let last = if n == primaries { 16_383 } else { n * width - 1 };
            text(&mut net, n, &["CLUSTER", "SET-CONFIG-EPOCH", &n.to_string()]);
            text(
                &mut net,
                n,
                &["CLUSTER", "ADDSLOTSRANGE", &((n - 1) * width).to_string(), &last.to_string()],
            );
        }
    }
    for a in 1..=primaries * 2 {
        for b in 1..=primaries * 2 {
            text(&mut net, a, &["CLUSTER", "MEET", &Ip(b).to_string(), "6379", "16379"]);
        }
    }
    net.run(500);
    for n in 1..=primaries {
        let id = text(&mut net, n, &["CLUSTER", "MYID"]);
        text(&mut net, n + primaries, &["CLUSTER", "REPLICATE", &id]);
    }
    net.run(2_500);
    net
}

fn state(net: &mut Net, n: u32) -> (bool, Role, bool) {
    let view = net.engine(Ip(n)).unwrap().view(net.now());
    let up = view.link.as_ref().is_none_or(|link| link.up);
    (view.cluster.unwrap().ok, view.role.unwrap(), up)
}

#[test]
fn a_cluster_forms() {
    let mut net = formed(3, |_| {});
    for n in 1..=6 {
        let role = if n <= 3 { Role::Primary } else { Role::Replica };
        assert_eq!(state(&mut net, n), (true, role, true), "node {n}");
    }
    let nodes = cluster_nodes(&text(&mut net, 1, &["CLUSTER", "NODES"]));
    assert_eq!(nodes.len(), 6, "{nodes:#?}");
    let owned: Vec<_> = nodes.iter().flat_map(|node| node.slots.clone()).collect();
    assert_eq!(owned.len(), 3, "{nodes:#?}");
}

#[test]
fn the_view_is_what_the_texts_say() {
    for (cluster, n) in [(true, 1), (true, 4), (false, 1)] {
        let mut net = if cluster { formed(3, |_| {}) } else { Net::new(1, 1) };
        if !cluster {
            net.start(config(1, false), false);
            net.start(EngineConfig { replica_of: Some(Ip(1)), ..config(2, false) }, false);
            net.run(500);
        } else {
            net.kill(Ip(2), false);
            net.run(3_300);
        }
        let mut fields = Fields::read(&text(&mut net, n, &["INFO"]));
        fields.add(&text(&mut net, n, &["INFO", "replication"]));
        let mut read = engine_view(&fields);
        if cluster {
            let info = cluster_info(&text(&mut net, n, &["CLUSTER", "INFO"]));
            let nodes = cluster_nodes(&text(&mut net, n, &["CLUSTER", "NODES"]));
            let my_id = text(&mut net, n, &["CLUSTER", "MYID"]);
            read.cluster = Some(kagami_protocol::Shared::from(ClusterView {
                my_id,
                ok: info.ok,
                current_epoch: info.current_epoch,
                my_epoch: info.my_epoch,
                nodes,
            }));
        }
        let engine = net.engine(Ip(n)).unwrap();
        assert_eq!(read, engine.view(net.now()));
        assert_eq!(Persistence::read(&fields), engine.persistence(net.now()));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut net = formed(3, |_| {});
        net.kill(Ip(1), false);
        net.run(10_000);
        (1..=6).map(|n| net.engine(Ip(n)).map(|engine| format!("{engine:?}"))).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_a_kill_only_on_a_slow_disk() {
    for (power, slow, kept) in [(false, false, 1), (true, false, 0), (false, true, 0)] {
        let mut engine = Engine::begin(
            EngineConfig { append_only: true, ..config(1, false) },
            &Disk::default(),
            None,
            1,
            0,
        );
        engine.set_slow_disk(slow);
        let mut out = Out::default();
        let key = Key { slot: 0, id: 7 };
        engine.client(10, 1, Request::Set { key, wait: None }, &mut out);
        assert_eq!(Engine::on_disk(&engine.disk(power)).len(), kept);
        engine.tick(1_100, &mut out);
        assert_eq!(Engine::on_disk(&engine.disk(power)), [key], "an fsync came");
    }
}

#[test]
fn a_write_is_acknowledged_by_its_replicas_or_in_time() {
    let mut net = formed(1, |_| {});
    let set = |id, wanted| Request::Set { key: Key { slot: 3, id }, wait: Some((wanted, 3_000)) };
    net.request(Ip(1), 1, set(1, 1));
    net.request(Ip(1), 2, set(2, 2));
    net.run(1_500);
    assert_eq!(net.answers(), [(Ip(1), 1, Answer::Written { replicas: 1 })]);
    net.run(2_000);
    assert_eq!(net.answers(), [(Ip(1), 2, Answer::Written { replicas: 1 })]);
}

#[test]
fn at_rest_it_is_quiet() {
    let mut net = formed(3, |config| config.node_timeout_ms = 4_000);
    net.run(10_000);
    let before = net.steps();
    net.run(10_000);
    let steps = net.steps() - before;
    assert!(steps < 800, "{steps} packets and ticks in ten seconds of six engines");
}
