//! What becomes of copies, and who decides who is the primary: real agents in front of real engines.

mod support;

use kagami_protocol::*;
use rustix::process::Signal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::*;

#[tokio::test]
async fn a_half_synced_replica_that_is_parked_has_its_own_data_back() {
    let node = Node::run("dva-0001-001", Setup { persistent: true, ..Setup::default() });
    let operator = Operator::of(&node).await;
    operator.start(append_only(node.start(primary(), false))).await;
    fill(&mut node.client().await.unwrap(), 300).await;
    operator.until("the note", |report| report.record.as_ref().is_some_and(|record| record.complete)).await;
    node.kill_engine();
    operator.until("parked", parked).await;
    let nobody = Address { host: "127.0.0.1".into(), port: port(), bus_port: 0 };
    let alone = StartRole::Replica { primary: nobody, primary_id: None };
    operator.start(append_only(node.start(alone, false))).await;
    let report = operator.until("running", running(Role::Replica)).await;
    assert!(!report.record.unwrap().complete);
    operator.order(Some(Role::Replica), Command::Park { unwritten: false }).await.unwrap();
    let report =
        operator.until("parked, and the data is back", |report| parked(report) && report.exits == 2).await;
    assert!(report.has_data && report.record.unwrap().complete);
    operator.start(Start { data: StartData::Keep, ..append_only(node.start(primary(), false)) }).await;
    operator.until("a primary", |report| report.engine.as_ref().is_some_and(|engine| engine.complete)).await;
    assert_eq!(count(&mut node.client().await.unwrap()).await, 300);
}

#[tokio::test]
async fn a_primary_is_parked_as_worthless_only_if_it_took_no_write() {
    let node = Node::run("dva-0001-001", Setup { persistent: true, ..Setup::default() });
    let operator = Operator::of(&node).await;
    operator.start(append_only(node.start(primary(), false))).await;
    operator.until("unwritten", |report| report.engine.as_ref().is_some_and(|e| e.unwritten)).await;
    set(&mut node.client().await.unwrap(), "a", "1").await.unwrap();
    let park = Command::Park { unwritten: true };
    assert_eq!(operator.order(Some(Role::Primary), park.clone()).await, Err(Refused::Written));
    // And it goes on taking writes.
    set(&mut node.client().await.unwrap(), "b", "1").await.unwrap();
    operator.until("written", |report| report.engine.as_ref().is_some_and(|e| !e.unwritten)).await;
    operator.order(None, Command::Park { unwritten: false }).await.unwrap();
    let report = operator.until("parked", parked).await;
    assert!(!report.record.unwrap().unwritten);

    // What it loads from its volume is no write.
    operator.start(Start { data: StartData::Keep, ..append_only(node.start(primary(), false)) }).await;
    let report =
        operator.until("unwritten", |report| report.engine.as_ref().is_some_and(|e| e.unwritten)).await;
    assert_eq!(report.engine.unwrap().keys, 2);
    operator.order(Some(Role::Primary), park).await.unwrap();
    let report = operator.until("parked", parked).await;
    let record = report.record.unwrap();
    assert!(record.unwritten && record.complete && report.has_data);
}

#[tokio::test]
async fn data_that_cannot_be_loaded_is_counted_and_stays() {
    let node = Node::run("dva-0001-001", Setup { persistent: true, ..Setup::default() });
    let operator = Operator::of(&node).await;
    let keep = || Start { data: StartData::Keep, ..node.start(primary(), false) };
    operator.start(Start { data: StartData::PutAside, ..keep() }).await;
    set(&mut node.client().await.unwrap(), "a", "1").await.unwrap();
    operator.until("the note", |report| report.record.as_ref().is_some_and(|record| record.complete)).await;
    operator.order(None, Command::Park { unwritten: false }).await.unwrap();
    operator.until("parked", |report| parked(report) && report.has_data).await;
    let dump = node.data.path().join("dump.rdb");
    let whole = std::fs::read(&dump).unwrap();
    std::fs::write(&dump, b"REDIS0009 and then nothing that an engine understands").unwrap();
    for failures in 1..=2 {
        assert!(operator.order(None, Command::Start(keep())).await.is_err());
        let report = operator
            .until("counted", |report| {
                parked(report) && report.record.as_ref().is_some_and(|r| r.failed_loads == failures)
            })
            .await;
        assert!(report.has_data && report.record.unwrap().complete);
    }
    // A configuration that is refused says nothing about the data.
    let mut wrong = keep();
    wrong.directives.push(("maxmemory-policy".into(), "whatever".into()));
    assert!(operator.order(None, Command::Start(wrong)).await.is_err());
    let report = operator.until("parked", |report| parked(report) && report.exits == 4).await;
    assert_eq!(report.record.unwrap().failed_loads, 2);
    std::fs::write(&dump, whole).unwrap();
    operator.start(keep()).await;
    operator.until("loaded", |report| report.record.as_ref().is_some_and(|r| r.failed_loads == 0)).await;
    assert_eq!(count(&mut node.client().await.unwrap()).await, 1);
}

#[tokio::test]
async fn a_copy_that_is_ahead_of_what_takes_its_place_is_kept() {
    let node = Node::run("dva-0001-001", Setup { persistent: true, ..Setup::default() });
    let operator = Operator::of(&node).await;
    operator.start(append_only(node.start(primary(), false))).await;
    fill(&mut node.client().await.unwrap(), 300).await;
    operator.until("the note", |report| report.record.as_ref().is_some_and(|record| record.complete)).await;
    node.kill_engine();
    operator.until("parked", parked).await;
    let other = Node::run("dva-0001-002", Setup::default());
    let to_other = Operator::of(&other).await;
    to_other.start(other.start(primary(), false)).await;
    set(&mut other.client().await.unwrap(), "new", "1").await.unwrap();
    let follow = append_only(node.start(replica_of(&other), false));
    operator.start(Start { keep_previous: true, ..follow }).await;
    operator.in_sync().await;
    let report = operator.until("kept", |report| report.kept.is_some()).await;
    assert!(report.kept.unwrap().complete);
    tokio::time::sleep(Duration::from_millis(800)).await;
    let previous = std::fs::read_dir(node.data.path().join(".kagami/previous")).unwrap();
    let kept: Vec<_> = previous.flatten().map(|entry| entry.path()).collect();
    assert!(
        kept.len() == 1 && kept[0].join("appendonlydir").is_dir() || kept[0].join("appendonly.aof").is_file()
    );
    assert_eq!(count(&mut node.client().await.unwrap()).await, 1);
}

#[tokio::test]
async fn the_living_primaries_elect_whom_they_are_asked_to() {
    let names = ["dva-0001-001", "dva-0002-001", "dva-0003-001", "dva-0001-002"];
    let nodes: Vec<Node> = names.iter().map(|name| Node::run(name, Setup::default())).collect();
    let mut operators = Vec::new();
    for node in &nodes {
        operators.push(Operator::of(node).await);
    }
    let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
    let peers = |own: usize| -> Vec<Address> {
        nodes.iter().enumerate().filter(|(i, _)| *i != own).map(|(_, node)| node.address.clone()).collect()
    };
    let starts = (0..4).map(|i| {
        let role = match slots.get(i) {
            Some(range) => StartRole::Primary { slots: vec![*range], epoch: i as u64 + 1 },
            None => replica_of(&nodes[0]),
        };
        let start = Start { peers: peers(i), ..nodes[i].start(role, true) };
        operators[i].start(start)
    });
    futures::future::join_all(starts).await;
    operators[3].in_sync().await;
    // Who does not know yet whose replica asks, or by which epoch its primary owns its slots, gives it no vote.
    for operator in &operators {
        operator
            .until("the cluster is ok and knows the replica and every epoch", |report| {
                let cluster = report.engine.as_ref().and_then(|engine| engine.cluster.as_ref());
                cluster.is_some_and(|cluster| {
                    let claims = (1..=3).all(|epoch| {
                        cluster
                            .nodes
                            .iter()
                            .any(|node| node.primary && node.epoch == epoch && !node.slots.is_empty())
                    });
                    let replicas = cluster.nodes.iter().filter(|node| node.primary_id.is_some()).count();
                    cluster.ok && cluster.nodes.len() == 4 && claims && replicas == 1
                })
            })
            .await;
    }
    rustix::process::kill_process(nodes[0].engine_pid().unwrap(), Signal::STOP).unwrap();
    let elected = Instant::now();
    let force = Command::Promote { min_offset: None, wait_ms: 0, force: true };
    operators[3].term.store(2, Ordering::Relaxed);
    operators[3].order(Some(Role::Replica), force).await.unwrap();
    println!("elected after {:?}", elected.elapsed());
    let report = operators[3].until("a primary", running(Role::Primary)).await;
    assert!(report.engine.unwrap().cluster.unwrap().my_epoch > 3);
    nodes[0].kill_engine();
}

#[tokio::test]
async fn an_election_without_a_majority_fails_in_its_time_and_a_takeover_follows() {
    // One shard: there is nobody to vote.
    let (a, b) = (Node::run("dva-0001-001", Setup::default()), Node::run("dva-0001-002", Setup::default()));
    let (to_a, to_b) = (Operator::of(&a).await, Operator::of(&b).await);
    let lead = StartRole::Primary { slots: vec![(0, 16383)], epoch: 1 };
    let start_a = Start { peers: vec![b.address.clone()], ..a.start(lead, true) };
    let start_b = Start { peers: vec![a.address.clone()], ..b.start(replica_of(&a), true) };
    tokio::join!(to_a.start(start_a), to_b.start(start_b));
    to_b.in_sync().await;
    to_b.until("the cluster is ok", |report| {
        report.engine.as_ref().is_some_and(|e| e.cluster.as_ref().is_some_and(|c| c.ok && c.nodes.len() == 2))
    })
    .await;
    a.kill_engine();
    to_a.until("parked", parked).await;
    to_b.term.store(2, Ordering::Relaxed);
    let asked = Instant::now();
    let force = |force| Command::Promote { min_offset: None, wait_ms: 0, force };
    let lost = to_b.order(Some(Role::Replica), force(true)).await;
    assert!(matches!(lost, Err(Refused::Failed { .. })), "{lost:?}");
    let bound = Duration::from_millis(ELECTION_BOUND_MS);
    assert!(asked.elapsed() >= bound);
    to_b.order(Some(Role::Replica), force(false)).await.unwrap();
    set(&mut b.client().await.unwrap(), "after", "1").await.unwrap();
}

#[tokio::test]
async fn what_the_engine_runs_with_is_reported() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    let config = |running: &str| Some(Config { running: running.into(), ..Config::default() });
    operator.start(Start { config: config("a"), ..node.start(primary(), false) }).await;
    let report = operator.until("a primary", running(Role::Primary)).await;
    assert_eq!((report.config, report.vocabulary), (config("a"), VOCABULARY));
    let set = |limit: &str, hash: &str| Command::Configure {
        directives: [("client-output-buffer-limit".to_owned(), limit.to_owned())].into(),
        config: config(hash),
    };
    operator
        .order(None, set("normal 0 0 0 pubsub 1048576 0 0 replica 2097152 2097152 60", "b"))
        .await
        .unwrap();
    assert_eq!(operator.until("b", |report| report.config == config("b")).await.config, config("b"));
    assert!(operator.order(None, set("nobody 1", "c")).await.is_err());
    assert_eq!(operator.report().await.config, config("b"));
}
