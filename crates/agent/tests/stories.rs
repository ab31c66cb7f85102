//! What an operator may rely on, tried with the real agent in front of a real engine.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use kagami_protocol::*;
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::*;

fn promote() -> Command {
    Command::Promote { min_offset: None, wait_ms: 0, force: false }
}

/// A primary with some keys and a replica in sync, cluster mode disabled.
async fn pair(keys: usize) -> (Node, Operator, Node, Operator) {
    let (a, b) = (Node::run("dva-0001-001", Setup::default()), Node::run("dva-0001-002", Setup::default()));
    let (to_a, to_b) = (Operator::of(&a).await, Operator::of(&b).await);
    to_a.start(a.start(primary(), false)).await;
    fill(&mut a.client().await.unwrap(), keys).await;
    to_b.start(b.start(replica_of(&a), false)).await;
    to_b.in_sync().await;
    to_a.until("an online replica", |report| {
        report.engine.as_ref().is_some_and(|e| e.replicas.iter().any(|r| r.online))
    })
    .await;
    (a, to_a, b, to_b)
}

#[tokio::test]
async fn a_node_is_parked_until_it_is_let_in() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    let report = operator.report().await;
    assert_eq!((&report.state, report.engine.as_ref(), report.exits), (&EngineState::Parked, None, 0));
    assert_eq!((report.boot.pod_uid.as_str(), report.boot.run), ("uid-of-dva-0001-001", 1));
    assert!(!node.is_reachable());
    let (status, why) = node.http("/readyz").await;
    assert_eq!((status, why.trim()), (503, "the engine is parked"));
    assert_eq!(node.http("/livez").await.0, 200);
    let early = operator.order(None, promote()).await;
    assert_eq!(early, Err(Refused::WrongState { is: "parked".into() }));

    let done = operator.start(node.start(primary(), false)).await;
    assert!(done.offset.is_some());
    let report = operator.until("a primary", running(Role::Primary)).await;
    assert!(report.engine.as_ref().unwrap().complete && report.trouble.is_empty());
    set(&mut node.client().await.unwrap(), "a", "1").await.unwrap();
    assert_eq!(node.http("/readyz").await.0, 200);
    assert!(node.http("/metrics").await.1.contains("kagami_agent_role 1\n"));

    let again = operator.order(None, Command::Start(node.start(primary(), false))).await;
    assert_eq!(again, Err(Refused::WrongState { is: "a primary".into() }));
}

#[tokio::test]
async fn an_order_for_another_node_life_or_time_is_refused() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    let boot = operator.report().await.boot;
    let order = operator.make_order(boot.clone(), None, Command::KeepTerm);
    let elsewhere = Order { id: 100, node: "dva-0001-002".into(), ..order.clone() };
    assert_eq!(operator.give(elsewhere).await, Err(Refused::WrongNode { node: "dva-0001-001".into() }));
    let earlier = Order { id: 101, boot: Boot { run: 9, ..boot.clone() }, ..order.clone() };
    assert_eq!(operator.give(earlier).await, Err(Refused::WrongBoot { boot: boot.clone() }));
    operator.give(Order { id: 102, term: 5, ..order.clone() }).await.unwrap();
    let record = std::fs::read_to_string(node.data.path().join(".kagami/record.json")).unwrap();
    assert!(record.contains("\"term\":5"), "on disk before the answer: {record}");
    assert_eq!(operator.give(Order { id: 103, term: 4, ..order }).await, Err(Refused::OldTerm { term: 5 }));

    let unknown = format!(
        r#"{{"type":"order","id":7,"node":"dva-0001-001","boot":"{boot}","term":5,"command":{{"do":"teleport"}}}}"#
    );
    operator.send_text(r#"{"type":"nobodyKnowsThis","x":1}"#);
    operator.send_text(&unknown);
    operator.give(operator_order(&operator, 104, 5).await).await.unwrap();
}

async fn operator_order(operator: &Operator, id: u64, term: u64) -> Order {
    let boot = operator.report().await.boot;
    Order { id, term, ..operator.make_order(boot, None, Command::KeepTerm) }
}

#[tokio::test]
async fn a_former_leader_is_sent_away() {
    let node = Node::run("dva-0001-001", Setup::default());
    let old = Operator::with_generation(&node, 3).await;
    old.report().await;
    let new = Operator::with_generation(&node, 4).await;
    new.report().await;
    assert!(old.goodbye().await.contains("generation 4"));
    let late = Operator::with_generation(&node, 3).await;
    assert!(late.goodbye().await.contains("generation 4"));
    new.order(None, Command::KeepTerm).await.unwrap();
}

#[tokio::test]
async fn a_stranger_and_a_shouter_are_not_heard() {
    let node = Node::run("dva-0001-001", Setup::default());
    Operator::of(&node).await.report().await;
    let stranger = wire(&node, &Authority::new()).await;
    // With TLS 1.3 the client hears of the refusal with its first read.
    if let Ok(mut wire) = stranger {
        use futures::{SinkExt, StreamExt};
        let hello = ToAgent::Hello { version: 1, operator: OperatorId { name: "x".into(), generation: 9 } };
        let _ = wire.send(serde_json::to_string(&hello).unwrap()).await;
        assert!(!matches!(wire.next().await, Some(Ok(_))));
    }
    let shouter = Operator::of(&node).await;
    shouter.report().await;
    shouter.send_text(&"x".repeat(FRAME_BYTES_MAX + 10));
    shouter.goodbye().await;
    Operator::of(&node).await.report().await;
}

#[tokio::test]
async fn a_killed_engine_is_told_at_once_and_never_started_again_by_itself() {
    let (a, to_a, b, to_b) = pair(1000).await;
    let before = to_a.report().await.boot;
    // Beats tell the offset without a report.
    let offset = to_b.report().await.engine.unwrap().offset;
    fill(&mut a.client().await.unwrap(), 1000).await;
    let mut beats = to_b.offset.clone();
    let beat = beats.wait_for(|beat| beat.is_some_and(|beat| beat > offset));
    tokio::time::timeout(Duration::from_secs(10), beat).await.unwrap().unwrap();

    a.kill_engine();
    let report = to_a.until("parked", parked).await;
    let exit = report.last_exit.unwrap();
    assert_eq!((exit.signal, exit.code, exit.out_of_memory, exit.boot.run), (Some(9), None, false, 1));
    assert!(!exit.last_words.is_empty());
    assert_eq!((report.boot.run, report.boot.agent, report.exits), (2, before.agent.clone(), 1));

    let to_the_dead = Order { boot: before, ..to_a.make_order(Boot::default(), None, Command::KeepTerm) };
    assert!(matches!(to_a.give(to_the_dead).await, Err(Refused::WrongBoot { .. })));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!a.is_reachable() && a.engine_pid().is_none());
    let mut client = b.client().await.unwrap();
    assert_eq!(count(&mut client).await, 1000);

    // The best copy that lives is promoted, and the dead node comes back as its replica.
    let offset = to_b.report().await.engine.unwrap().offset;
    to_b.term.store(2, Ordering::Relaxed);
    let done = to_b
        .order(Some(Role::Replica), Command::Promote { min_offset: Some(offset), wait_ms: 100, force: false })
        .await
        .unwrap();
    assert!(done.offset.unwrap() >= offset);
    set(&mut client, "after", "1").await.unwrap();
    to_a.start(a.start(replica_of(&b), false)).await;
    to_a.in_sync().await;
    let report = to_a.until("the term", |report| report.record.as_ref().is_some_and(|r| r.complete)).await;
    assert_eq!(report.record.unwrap().role, Some(Role::Replica));
    assert_eq!(count(&mut a.client().await.unwrap()).await, 1001);
}

#[tokio::test]
async fn an_engine_that_restarts_empty_is_no_source_of_replication() {
    let (a, to_a, b, _to_b) = pair(1000).await;
    a.kill_engine();
    to_a.until("parked", parked).await;
    // Let in again at the same address, as the replica of nobody that exists: the old replica asks it at once.
    let nobody = Address { host: "127.0.0.1".into(), port: port(), bus_port: 0 };
    to_a.start(a.start(StartRole::Replica { primary: nobody, primary_id: None }, false)).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(a.is_reachable());
    assert_eq!(count(&mut b.client().await.unwrap()).await, 1000);
    let refused = to_a.order(None, promote()).await;
    assert_eq!(refused, Err(Refused::WrongState { is: "without a whole copy".into() }));
    let mut empty = a.client().await.unwrap();
    let refused = redis::cmd("GET").arg("key:1").query_async::<String>(&mut empty).await.unwrap_err();
    assert_eq!(refused.code(), Some("MASTERDOWN"));
}

/// Found by the simulator (seed 151 of 3x2): the last copy of a shard came back, followed its dead successor's address, and took over
/// the data of another shard's primary, which had that address by then.
#[tokio::test]
async fn p1_a_primary_of_another_shard_at_a_recycled_address_replaces_nobodys_data() {
    let (_a, _to_a, b, to_b) = pair(1000).await;
    let stranger = Node::run("dva-0002-001", Setup::default());
    let to_stranger = Operator::of(&stranger).await;
    to_stranger.start(stranger.start(primary(), false)).await;
    fill(&mut stranger.client().await.unwrap(), 3).await;
    let mut engine = b.client().await.unwrap();
    let (host, port) = (&stranger.address.host, stranger.address.port);
    redis::cmd("REPLICAOF").arg(host).arg(port).query_async::<()>(&mut engine).await.unwrap();
    to_b.until("a link to the stranger that stays down", |report| {
        let link = report.engine.as_ref().and_then(|engine| engine.link.as_ref());
        link.is_some_and(|link| link.port == port && !link.up && link.parted == Some(true))
    })
    .await;
    assert_eq!(count(&mut engine).await, 1000);
    let info: String =
        redis::cmd("INFO").arg("stats").query_async(&mut stranger.client().await.unwrap()).await.unwrap();
    assert!(info.contains("sync_full:0\r\n"), "{info}");
}

#[tokio::test]
async fn a_promotion_keeps_every_key_and_the_handover_is_complete() {
    let (a, to_a, b, to_b) = pair(5000).await;
    let behind = Command::Promote { min_offset: Some(i64::MAX), wait_ms: 20, force: false };
    assert!(matches!(to_b.order(Some(Role::Replica), behind).await, Err(Refused::Behind { .. })));

    to_a.term.store(2, Ordering::Relaxed);
    to_b.term.store(2, Ordering::Relaxed);
    let began = Instant::now();
    let paused = to_a.order(Some(Role::Primary), Command::PauseWrites { ms: 20_000 }).await.unwrap();
    let mut client = a.client().await.unwrap();
    let blocked = tokio::spawn(async move { set(&mut client, "late", "1").await });
    to_b.order(
        Some(Role::Replica),
        Command::Promote { min_offset: paused.offset, wait_ms: 10_000, force: false },
    )
    .await
    .unwrap();
    let demoted = Command::Replicate { primary: b.address.clone(), primary_id: None };
    to_a.order(Some(Role::Primary), demoted.clone()).await.unwrap();
    println!("handed over in {:?}", began.elapsed());
    // The client that waited is refused at once, and not after the pause.
    let answer = tokio::time::timeout(Duration::from_secs(10), blocked).await.unwrap().unwrap();
    assert!(answer.unwrap_err().to_string().to_lowercase().contains("read only"));
    to_a.order(Some(Role::Primary), demoted).await.unwrap();
    to_b.order(Some(Role::Replica), promote()).await.unwrap();
    to_a.in_sync().await;
    assert_eq!(count(&mut b.client().await.unwrap()).await, 5000);
    assert_eq!(count(&mut a.client().await.unwrap()).await, 5000);
}

#[tokio::test]
async fn parameters_are_set_all_or_none() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    let of = |pairs: &[(&str, &str)]| Command::Configure {
        directives: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        config: None,
    };
    operator.order(None, of(&[("maxmemory-policy", "allkeys-lru"), ("timeout", "7")])).await.unwrap();
    let wrong = operator.order(None, of(&[("no-such-thing", "1"), ("timeout", "9")])).await;
    assert!(matches!(wrong, Err(Refused::Failed { .. })));
    let mut client = node.client().await.unwrap();
    let timeout: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg("timeout").query_async(&mut client).await.unwrap();
    assert_eq!(timeout, ["timeout", "7"]);
}

#[tokio::test]
async fn a_primary_that_nobody_confirms_pauses_writes_until_somebody_does() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(Start { guard: true, ..node.start(primary(), false) }).await;
    let mut client = node.client().await.unwrap();
    for _ in 0..5 {
        operator.send(&ToAgent::Confirm { term: 1, guard: true, heard_ms: None });
        tokio::time::sleep(Duration::from_millis(BEAT_MS)).await;
        set(&mut client, "a", "1").await.unwrap();
    }
    let silent = Instant::now();
    let report = operator.until("fenced", |report| report.fenced).await;
    let after = silent.elapsed();
    // What an operator waits for before it promotes another.
    assert!(report.guard && after < Duration::from_millis(FENCE_BOUND_MS), "{after:?}");
    assert!(operator.goodbye().await.contains("fenced"));
    let mut writer = node.client().await.unwrap();
    let blocked = tokio::spawn(async move { (set(&mut writer, "b", "1").await, Instant::now()) });
    let read: String = redis::cmd("GET").arg("a").query_async(&mut client).await.unwrap();
    assert_eq!(read, "1");
    assert_eq!(node.http("/readyz").await.0, 503);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!blocked.is_finished());

    let operator = Operator::of(&node).await;
    operator.report().await;
    operator.send(&ToAgent::Confirm { term: 0, guard: true, heard_ms: None });
    operator.order(None, Command::ResumeWrites).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!blocked.is_finished(), "neither an old term nor a resumption ends it");
    let confirmed = Instant::now();
    operator.send(&ToAgent::Confirm { term: 1, guard: true, heard_ms: None });
    operator.until("writes again", |report| !report.fenced).await;
    let (written, at) = blocked.await.unwrap();
    written.unwrap();
    assert!(at > confirmed);

    operator.send(&ToAgent::Confirm { term: 1, guard: false, heard_ms: None });
    tokio::time::sleep(Duration::from_millis(FENCE_SILENCE_MS + 500)).await;
    assert!(!operator.report().await.fenced, "a group of one node never pauses");
}

#[tokio::test]
async fn an_online_replica_is_a_witness_too() {
    let (a, to_a, b, _to_b) = pair(10).await;
    to_a.send(&ToAgent::Confirm { term: 1, guard: true, heard_ms: None });
    to_a.until("guarded", |report| report.guard).await;
    // Nobody confirms, but the replica acknowledges each second.
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Where the machine stood still for a moment there was a fence, but without this witness it would not have ended.
    let to_a = Operator::of(&a).await;
    to_a.until("writes are accepted", |report| report.guard && !report.fenced).await;
    rustix::process::kill_process(b.engine_pid().unwrap(), Signal::STOP).unwrap();
    to_a.until_within("fenced", Duration::from_secs(10), |report| report.fenced).await;
    rustix::process::kill_process(b.engine_pid().unwrap(), Signal::CONT).unwrap();
    let again = Operator::of(&a).await;
    again.until("the replica goes on acknowledging", |report| !report.fenced).await;
}

#[tokio::test]
async fn a_replica_tells_within_moments_that_its_primary_fell_silent_and_asks_it_anew() {
    let (a, to_a, b, to_b) = pair(10).await;
    let quiet = |report: &Report| {
        let link = report.engine.as_ref().and_then(|engine| engine.link.as_ref());
        link.is_some_and(|link| link.quiet == Some(true))
    };
    let down = |report: &Report| {
        let link = report.engine.as_ref().and_then(|engine| engine.link.as_ref());
        link.is_some_and(|link| !link.up)
    };
    // No connection is reset, as where a machine falls silent.
    let engine = a.engine_pid().unwrap();
    a.signal(Signal::STOP);
    rustix::process::kill_process(engine, Signal::STOP).unwrap();
    let report = to_b.until("quiet", quiet).await;
    let link = report.engine.unwrap().link.unwrap();
    assert!(link.up && link.is_stale(), "the engine itself notices nothing: {link:?}");
    to_b.order(Some(Role::Replica), Command::Relink).await.unwrap();
    to_b.until("a link that stays down", |report| down(report) && quiet(report)).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(down(&to_b.report().await));
    rustix::process::kill_process(engine, Signal::CONT).unwrap();
    a.signal(Signal::CONT);
    to_b.until_within("heard again", Duration::from_secs(20), |report| !down(report) && !quiet(report)).await;
    to_b.order(Some(Role::Replica), Command::Relink).await.unwrap();
    to_b.in_sync().await;
    assert_eq!(count(&mut b.client().await.unwrap()).await, 10);
    drop(to_a);
}

#[tokio::test]
async fn the_shards_lease_is_a_witness_and_a_higher_term_in_it_is_a_no() {
    let setup = Setup::default();
    let (lease, known) = tokio::sync::watch::channel((1, "dva-0001-001".to_owned()));
    let port = apiserver(&setup.authority, known).await;
    let node = Node::run("dva-0001-001", Setup { apiserver: Some(port), ..setup });
    let operator = Operator::of(&node).await;
    operator.start(Start { guard: true, ..node.start(primary(), false) }).await;
    tokio::time::sleep(Duration::from_millis(2 * FENCE_SILENCE_MS)).await;
    let operator = Operator::of(&node).await;
    // As above: a fence that a standstill made ends, since the lease says that it is the primary.
    operator.until("writes are accepted", |report| report.guard && !report.fenced).await;
    lease.send((2, "dva-0001-002".to_owned())).unwrap();
    let told = Instant::now();
    operator.until("fenced", |report| report.fenced).await;
    assert!(told.elapsed() < Duration::from_millis(FENCE_BOUND_MS), "{:?}", told.elapsed());
    let operator = Operator::of(&node).await;
    operator.report().await;
    operator.send(&ToAgent::Confirm { term: 1, guard: true, heard_ms: None });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(operator.report().await.fenced, "an operator that does not know of the higher term");
    lease.send((2, "dva-0001-001".to_owned())).unwrap();
    operator.send(&ToAgent::Confirm { term: 2, guard: true, heard_ms: None });
    operator.until("writes again", |report| !report.fenced && report.term == 2).await;
}

#[tokio::test]
async fn a_configuration_that_the_engine_refuses_is_said_in_its_words() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    let mut start = node.start(primary(), false);
    start.directives.push(("maxmemory-policy".into(), "whatever".into()));
    let Err(Refused::Failed { message }) = operator.order(None, Command::Start(start)).await else {
        panic!()
    };
    assert!(message.contains("maxmemory-policy"), "{message}");
    let report = operator.until("parked again", |report| parked(report) && !report.trouble.is_empty()).await;
    assert!(report.trouble.contains("maxmemory-policy") && report.exits == 1);
    operator.start(node.start(primary(), false)).await;
    operator.until("a primary", |report| running(Role::Primary)(report) && report.trouble.is_empty()).await;
}

#[tokio::test]
async fn a_replica_that_was_elected_becomes_a_source_by_itself() {
    let (_a, _to_a, b, _to_b) = pair(100).await;
    // As an election does: without the agent.
    let mut client = b.client().await.unwrap();
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async::<()>(&mut client).await.unwrap();
    let c = Node::run("dva-0001-003", Setup::default());
    let to_c = Operator::of(&c).await;
    to_c.start(c.start(replica_of(&b), false)).await;
    to_c.in_sync().await;
    assert_eq!(count(&mut c.client().await.unwrap()).await, 100);
}

#[tokio::test]
async fn the_clients_of_a_former_primary_are_told_of_and_closed_on_order() {
    let (a, to_a, b, to_b) = pair(10).await;
    let mut client = a.client().await.unwrap();
    let former = |report: &Report| report.former_clients;
    assert!(!to_a.report().await.former_clients && !to_b.report().await.former_clients);
    to_b.term.store(2, Ordering::Relaxed);
    to_a.term.store(2, Ordering::Relaxed);
    let promote = Command::Promote { min_offset: None, wait_ms: 0, force: false };
    to_b.order(Some(Role::Replica), promote).await.unwrap();
    to_a.order(None, Command::Replicate { primary: b.address.clone(), primary_id: None }).await.unwrap();
    to_a.until("former clients", former).await;
    // As a pool does that is not told: it keeps the connection and meets the same refusal for ever.
    let refused = set(&mut client, "k", "v").await.unwrap_err();
    assert!(
        refused.to_string().contains("READONLY") || refused.to_string().contains("read only"),
        "{refused}"
    );
    to_a.order(Some(Role::Replica), Command::CloseClients).await.unwrap();
    to_a.until("none any more", |report| !former(report) && running(Role::Replica)(report)).await;
    let gone = set(&mut client, "k", "v").await.unwrap_err();
    assert!(gone.is_connection_dropped() || gone.is_io_error(), "{gone}");
    to_a.in_sync().await;
    assert!(!to_b.report().await.former_clients, "the primary has none");
    assert_eq!(count(&mut a.client().await.unwrap()).await, 10);
}

#[tokio::test]
async fn a_terminated_primary_waits_for_the_handover() {
    let (mut a, to_a, b, to_b) = pair(100).await;
    a.signal(Signal::TERM);
    to_a.until("terminating", |report| report.terminating).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    set(&mut a.client().await.unwrap(), "still", "1").await.unwrap();
    to_b.term.store(2, Ordering::Relaxed);
    to_a.term.store(2, Ordering::Relaxed);
    let paused = to_a.order(Some(Role::Primary), Command::PauseWrites { ms: 20_000 }).await.unwrap();
    to_b.order(
        Some(Role::Replica),
        Command::Promote { min_offset: paused.offset, wait_ms: 10_000, force: false },
    )
    .await
    .unwrap();
    to_a.order(None, Command::Replicate { primary: b.address.clone(), primary_id: None }).await.unwrap();
    let began = Instant::now();
    assert_eq!(to_a.goodbye().await, "terminating");
    let last = to_a.report().await;
    assert_eq!((&last.state, last.last_exit.as_ref().unwrap().code), (&EngineState::Parked, Some(0)));
    assert!(a.process.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(9), "as soon as it is a replica: {:?}", began.elapsed());
    assert_eq!(count(&mut b.client().await.unwrap()).await, 101);
}

#[tokio::test]
async fn a_terminated_node_without_anyone_to_hand_over_to_goes_at_once() {
    let mut node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    let began = Instant::now();
    node.signal(Signal::TERM);
    assert!(node.process.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_engine_does_not_outlive_its_agent() {
    let mut node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    assert!(node.is_reachable());
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while node.is_reachable() {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_note_survives_and_says_how_far_the_volume_is() {
    let data = Arc::new(dir());
    let setup = || Setup { data: data.clone(), persistent: true, ..Setup::default() };
    let mut node = Node::run("dva-0001-001", setup());
    let operator = Operator::of(&node).await;
    operator.term.store(7, Ordering::Relaxed);
    operator.start(append_only(node.start(primary(), false))).await;
    fill(&mut node.client().await.unwrap(), 500).await;
    // A primary without a replica has no history to count; give it one.
    let replica = Node::run("dva-0001-002", Setup::default());
    let to_replica = Operator::of(&replica).await;
    to_replica.start(replica.start(replica_of(&node), false)).await;
    to_replica.in_sync().await;
    set(&mut node.client().await.unwrap(), "last", "1").await.unwrap();
    drop(replica);
    operator
        .until("no replica", |report| report.engine.as_ref().is_some_and(|e| e.replicas.is_empty()))
        .await;
    node.signal(Signal::TERM);
    assert_eq!(operator.goodbye().await, "terminating");
    node.process.wait().unwrap();
    let last = operator.report().await;
    let record = last.record.unwrap();
    assert!(record.offset > 0 && record.complete && last.has_data, "{record:?} {}", last.has_data);
    assert_eq!((record.term, record.data_term, record.role), (7, 7, Some(Role::Primary)));
    drop(node);

    let node = Node::run("dva-0001-001", setup());
    let operator = Operator::of(&node).await;
    let report = operator.report().await;
    assert_eq!((report.term, report.has_data, report.persistent), (7, true, true));
    let found = report.record.unwrap();
    assert_eq!((found.offset, &found.replid), (record.offset, &record.replid));
    let again = Operator::with_generation(&node, 2).await;
    again.term.store(8, Ordering::Relaxed);
    again.order(None, Command::KeepTerm).await.unwrap();
    let later = again.until("the new term", |report| report.term == 8).await.record.unwrap();
    assert_eq!(
        (later.data_at_ms, later.data_term),
        (found.data_at_ms, 7),
        "a leader's word makes no data younger"
    );
    let operator = again;
    operator.start(Start { data: StartData::Keep, ..append_only(node.start(primary(), false)) }).await;
    operator.until("a primary", |report| report.engine.as_ref().is_some_and(|engine| engine.complete)).await;
    assert_eq!(count(&mut node.client().await.unwrap()).await, 501);
}

#[tokio::test]
async fn data_that_is_put_aside_serves_nobody_comes_back_and_goes_once_in_sync() {
    let setup = Setup { persistent: true, ..Setup::default() };
    let node = Node::run("dva-0001-001", setup);
    let operator = Operator::of(&node).await;
    operator.start(append_only(node.start(primary(), false))).await;
    fill(&mut node.client().await.unwrap(), 300).await;
    operator.until("the note", |report| report.record.as_ref().is_some_and(|record| record.complete)).await;
    node.kill_engine();
    assert!(operator.until("parked", parked).await.has_data);

    // As the replica of a primary that never answers: empty, but what was there is not lost.
    let nobody = Address { host: "127.0.0.1".into(), port: port(), bus_port: 0 };
    let alone = StartRole::Replica { primary: nobody, primary_id: None };
    operator.start(append_only(node.start(alone, false))).await;
    let previous = node.data.path().join(".kagami/previous");
    assert!(previous.is_dir());
    let report = operator.until("running", running(Role::Replica)).await;
    assert!(!report.engine.as_ref().unwrap().complete && !report.record.as_ref().unwrap().complete);
    assert_eq!(report.engine.unwrap().keys, 0);
    node.kill_engine();
    let report =
        operator.until("parked, and the data is back", |report| parked(report) && report.exits == 2).await;
    assert!(report.has_data && report.record.unwrap().complete);

    // In sync with a real primary: superseded.
    let other = Node::run("dva-0001-002", Setup::default());
    let to_other = Operator::of(&other).await;
    to_other.start(other.start(primary(), false)).await;
    set(&mut other.client().await.unwrap(), "new", "1").await.unwrap();
    operator.start(append_only(node.start(replica_of(&other), false))).await;
    assert!(previous.is_dir());
    operator.in_sync().await;
    let until = Instant::now() + Duration::from_secs(20);
    while previous.exists() {
        assert!(Instant::now() < until, "still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&mut node.client().await.unwrap()).await, 1);
}

#[tokio::test]
async fn p2_an_order_that_waited_while_the_agent_stood_still_is_not_carried_out() {
    let (_a, _to_a, b, to_b) = pair(3).await;
    let boot = to_b.report().await.boot;
    b.signal(Signal::STOP);
    to_b.send(&ToAgent::Order(Box::new(to_b.make_order(boot, Some(Role::Replica), promote()))));
    tokio::time::sleep(Duration::from_millis(FENCE_SILENCE_MS + 300)).await;
    b.signal(Signal::CONT);
    to_b.goodbye().await;
    let again = Operator::of(&b).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(again.in_sync().await.engine.unwrap().role, Some(Role::Replica));
}

#[tokio::test]
async fn a_hung_engine_is_not_waited_for() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    operator.until("a primary", running(Role::Primary)).await;
    let pid = node.engine_pid().unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let report =
        operator.until_within("silence", Duration::from_secs(10), |report| report.engine.is_none()).await;
    assert_eq!(report.state, EngineState::Running);
    assert!(report.trouble.contains("does not answer"));
    assert!(matches!(operator.order(None, promote()).await, Err(Refused::WrongState { .. })));
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    let report = operator.until("an answer", |report| report.engine.is_some()).await;
    assert_eq!(report.trouble, "");
}

#[tokio::test]
async fn a_cluster_of_one_shard_forms_by_the_orders_to_start_alone() {
    let (a, b) = (Node::run("dva-0001-001", Setup::default()), Node::run("dva-0001-002", Setup::default()));
    let (to_a, to_b) = (Operator::of(&a).await, Operator::of(&b).await);
    let began = Instant::now();
    let lead = StartRole::Primary { slots: vec![(0, 16383)], epoch: 1 };
    let start_a = Start { peers: vec![b.address.clone()], ..a.start(lead, true) };
    let start_b = Start { peers: vec![a.address.clone()], ..b.start(replica_of(&a), true) };
    tokio::join!(to_a.start(start_a), to_b.start(start_b));
    println!("answered after {:?}", began.elapsed());
    let ok = |report: &Report| {
        report.engine.as_ref().is_some_and(|e| e.cluster.as_ref().is_some_and(|c| c.ok && c.nodes.len() == 2))
    };
    to_b.in_sync().await;
    println!("in sync after {:?}", began.elapsed());
    to_a.until("the cluster is ok at the primary", ok).await;
    to_b.until("the cluster is ok at the replica", ok).await;
    println!("ok after {:?}", began.elapsed());
    let report = to_a.report().await;
    assert_eq!(report.engine.unwrap().cluster.unwrap().my_epoch, 1);
    fill(&mut a.client().await.unwrap(), 2000).await;

    // The primary's process dies: takeover, all keys, and the old node follows under a new identity.
    let id_of_a = to_a.report().await.engine.unwrap().cluster.unwrap().my_id.clone();
    a.kill_engine();
    to_a.until("parked", parked).await;
    to_b.term.store(2, Ordering::Relaxed);
    to_a.term.store(2, Ordering::Relaxed);
    let began = Instant::now();
    to_b.order(Some(Role::Replica), promote()).await.unwrap();
    set(&mut b.client().await.unwrap(), "after", "1").await.unwrap();
    println!("writes after {:?}", began.elapsed());
    assert_eq!(count(&mut b.client().await.unwrap()).await, 2001);
    to_b.order(Some(Role::Primary), Command::Forget { ids: vec![id_of_a.clone()] }).await.unwrap();
    let again =
        to_b.order(Some(Role::Primary), Command::Forget { ids: vec![id_of_a.clone()] }).await.unwrap();
    // Newer engines say yes to whatever they have forgotten already.
    assert!(again.note.ends_with("of 1 ids were known"));
    to_a.start(Start { peers: vec![b.address.clone()], ..a.start(replica_of(&b), true) }).await;
    to_a.in_sync().await;
    println!("joined again after {:?}", began.elapsed());
    assert_ne!(to_a.report().await.engine.unwrap().cluster.unwrap().my_id, id_of_a);
    let everyone = to_b.until("both know each other", ok).await;
    assert_eq!(everyone.engine.unwrap().role, Some(Role::Primary));
    assert_eq!(everyone.trouble, "");
}
