//! An engine that stands still while its agent does not, with the real agent in front of a real engine.

mod support;

use kagami_protocol::*;
use rustix::process::{Signal, kill_process};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::*;

fn unanswered(report: &Report, ms: u64) -> bool {
    report.unanswered.as_ref().is_some_and(|hung| hung.ms >= ms)
}

fn end(unanswered_ms: u64) -> Command {
    Command::End { unanswered_ms }
}

#[tokio::test]
async fn a_hung_primary_is_told_of_and_ended_by_force_and_comes_back_as_a_replica() {
    let (a, b) = (Node::run("dva-0001-001", Setup::default()), Node::run("dva-0001-002", Setup::default()));
    let (to_a, to_b) = (Operator::of(&a).await, Operator::of(&b).await);
    to_a.start(a.start(primary(), false)).await;
    fill(&mut a.client().await.unwrap(), 100).await;
    to_b.start(b.start(replica_of(&a), false)).await;
    let history = to_b.in_sync().await.engine.unwrap().replid;
    // Its history is a new one since its first replica came; what is heard of it last is to be of that one.
    let before = to_a
        .until("a primary of that history", |report| {
            running(Role::Primary)(report)
                && report.engine.as_ref().is_some_and(|engine| engine.replid == history)
        })
        .await;
    kill_process(a.engine_pid().unwrap(), Signal::STOP).unwrap();
    let began = Instant::now();
    let report =
        to_a.until_within("hung", Duration::from_secs(20), |report| unanswered(report, HUNG_MS)).await;
    println!("told after {:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_millis(HUNG_MS - 500));
    let hung = report.unanswered.unwrap();
    assert_eq!((report.state, report.engine), (EngineState::Running, None));
    assert_eq!((hung.role, hung.complete), (Role::Primary, true));
    // The replica has all that the primary was heard to have.
    let replica = to_b.report().await.engine.unwrap();
    assert_eq!((&hung.replid, &replica.replid), (&history, &history));
    assert!(replica.offset >= hung.offset, "{} {}", replica.offset, hung.offset);

    assert!(matches!(to_a.order(Some(Role::Replica), end(HUNG_MS)).await, Err(Refused::WrongState { .. })));
    let done = to_a.order(Some(Role::Primary), end(HUNG_MS)).await.unwrap();
    assert_eq!(done.note, "ended by force");
    let report = to_a.until("parked", parked).await;
    assert_eq!(report.boot.after(&before.boot), Some(true));
    let exit = report.last_exit.unwrap();
    assert_eq!((exit.boot, exit.signal), (before.boot, Some(9)));
    assert_eq!(report.unanswered, None);

    to_a.term.store(2, Ordering::Relaxed);
    to_b.term.store(2, Ordering::Relaxed);
    let promote = Command::Promote { min_offset: None, wait_ms: 0, force: false };
    to_b.order(Some(Role::Replica), promote).await.unwrap();
    set(&mut b.client().await.unwrap(), "after", "1").await.unwrap();
    to_a.start(a.start(replica_of(&b), false)).await;
    to_a.in_sync().await;
    assert_eq!(count(&mut a.client().await.unwrap()).await, 101);
}

#[tokio::test]
async fn an_engine_that_has_answered_since_is_not_ended() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    operator.until("a primary", running(Role::Primary)).await;
    let pid = node.engine_pid().unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    operator.until("silence", |report| unanswered(report, 1)).await;
    assert!(matches!(operator.order(None, end(60_000)).await, Err(Refused::WrongState { .. })), "too early");
    kill_process(pid, Signal::CONT).unwrap();
    let refused = operator.order(Some(Role::Primary), end(1_000)).await.unwrap_err();
    assert!(matches!(refused, Refused::WrongState { .. }), "{refused}");
    assert_eq!(node.engine_pid(), Some(pid));
    let report = operator.until("an answer", running(Role::Primary)).await;
    assert_eq!((report.unanswered, report.exits), (None, 0));
}

#[tokio::test]
async fn an_engine_that_is_busy_with_its_clients_is_not_hung() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    operator.start(node.start(primary(), false)).await;
    operator.until("a primary", running(Role::Primary)).await;
    // Each turn of the event loop takes longer than a look waits, and each client is answered.
    let script = "local now = function() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end \
                  local began = now() while now() - began < 250000 do end return 1";
    let until = Instant::now() + Duration::from_secs(12);
    let clients = (0..3).map(|_| async {
        let mut client = node.client().await.unwrap();
        let mut answers = 0;
        while Instant::now() < until {
            let answer = redis::cmd("EVAL").arg(script).arg(0).query_async::<i64>(&mut client).await;
            answers += i64::from(answer.is_ok());
        }
        answers
    });
    let watched = async {
        let mut longest = 0;
        while Instant::now() < until {
            let report = operator.report().await;
            longest = longest.max(report.unanswered.map_or(0, |hung| hung.ms));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        longest
    };
    let (answers, longest) = tokio::join!(futures::future::join_all(clients), watched);
    println!("{answers:?} answers, unanswered for {longest} ms at most");
    assert!(answers.iter().sum::<i64>() > 20, "{answers:?}");
    assert!(longest < HUNG_MS / 2, "{longest} ms");
}

#[tokio::test]
async fn an_engine_that_says_that_it_is_busy_is_not_hung() {
    let node = Node::run("dva-0001-001", Setup::default());
    let operator = Operator::of(&node).await;
    let mut start = node.start(primary(), false);
    start.directives.push(("lua-time-limit".into(), "300".into()));
    operator.start(start).await;
    operator.until("a primary", running(Role::Primary)).await;
    let mut client = node.client().await.unwrap();
    let script = tokio::spawn(async move {
        let looping = "while true do end";
        redis::cmd("EVAL").arg(looping).arg(0).query_async::<()>(&mut client).await
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    let refused = operator.order(Some(Role::Primary), end(1_000)).await;
    assert!(matches!(refused, Err(Refused::WrongState { .. })), "{refused:?}");
    assert_eq!(operator.report().await.unanswered, None);
    script.abort();
}
