//! How fast the model of an engine is: a cluster of three shards with a replica each at rest, and one that loses primaries.
//!
//! `cargo run --release -p kagami-simulator --example engine_speed`

use kagami_simulator::engine::net::Net;
use kagami_simulator::engine::{EngineConfig, Ip, Key, Kind, Model, Reply, Request};
use std::time::Instant;

fn config(n: u32) -> EngineConfig {
    EngineConfig {
        kind: Kind::Redis,
        version: (7, 0, 15),
        ip: Ip(n),
        port: 6379,
        bus_port: 16379,
        cluster: true,
        node_timeout_ms: 4_000,
        append_only: false,
        save_every_ms: None,
        replica_of: None,
        repl_timeout_ms: 60_000,
        ping_every_ms: 10_000,
        backlog_writes: 10_000,
        password: 1,
        source_open: true,
        stale_reads: true,
        electable: true,
        load_us_per_write: 10,
    }
}

fn say(net: &mut Net, n: u32, words: &[&str]) -> String {
    match net.command(Ip(n), words) {
        Some(Reply::Text(text) | Reply::Error(text)) => text,
        Some(Reply::Number(number)) => number.to_string(),
        None => String::new(),
    }
}

fn join(net: &mut Net, n: u32) {
    for other in (1..=6).filter(|other| *other != n) {
        say(net, n, &["CLUSTER", "MEET", &Ip(other).to_string(), "6379", "16379"]);
    }
}

fn formed(seed: u64) -> Net {
    let mut net = Net::new(seed, 1);
    for n in 1..=6 {
        net.start(config(n), false);
        if n <= 3 {
            let (first, last) = ((n - 1) * 5_461, (n * 5_461 - 1).min(16_383));
            let last = if n == 3 { 16_383 } else { last };
            say(&mut net, n, &["CLUSTER", "SET-CONFIG-EPOCH", &n.to_string()]);
            say(&mut net, n, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
    }
    (1..=6).for_each(|n| join(&mut net, n));
    net.run(400);
    for n in 1..=3 {
        let id = say(&mut net, n, &["CLUSTER", "MYID"]);
        say(&mut net, n + 3, &["CLUSTER", "REPLICATE", &id]);
    }
    net.run(3_000);
    net
}

fn main() {
    let mut net = formed(1);
    let (before, began) = (net.steps(), Instant::now());
    net.run(3_600_000);
    let (steps, took) = (net.steps() - before, began.elapsed());
    println!(
        "at rest: an hour of six engines in {:.1} ms, {} calls, {:.2} µs each",
        took.as_secs_f64() * 1e3,
        steps,
        took.as_secs_f64() * 1e6 / steps as f64
    );

    let (began, rounds) = (Instant::now(), 1_000);
    let mut steps = 0;
    for seed in 0..rounds {
        let mut net = formed(seed);
        for write in 0..200 {
            net.request(
                Ip(1),
                write,
                Request::Set { key: Key { slot: 1, id: u32::try_from(write).unwrap_or(0) }, wait: None },
            );
            net.run(20);
        }
        net.kill(Ip(1), false);
        say(&mut net, 4, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
        net.run(2_000);
        net.start(config(1), false);
        join(&mut net, 1);
        net.run(500);
        let id = say(&mut net, 4, &["CLUSTER", "MYID"]);
        say(&mut net, 1, &["CLUSTER", "REPLICATE", &id]);
        net.run(10_000);
        assert!(net.engine(Ip(1)).is_some_and(|engine| engine.is_replica() && engine.keys() == 200));
        steps += net.steps();
    }
    let took = began.elapsed();
    println!(
        "formation, 200 writes, a death, a takeover, the return and ten seconds of rest: {:.2} ms a run, {} calls, {:.2} µs each",
        took.as_secs_f64() * 1e3 / rounds as f64,
        steps / rounds,
        took.as_secs_f64() * 1e6 / steps as f64
    );
}
