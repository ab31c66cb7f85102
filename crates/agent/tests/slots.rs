//! Slots between two primaries, with real engines: what is reported of them, and how they are closed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use kagami_protocol::*;
use std::time::Duration;
use support::*;

/// Two primaries that know each other; the first owns the first half of the slots.
async fn two_primaries() -> (Node, Operator, Node, Operator) {
    let (a, b) = (Node::run("dva-0001-001", Setup::default()), Node::run("dva-0002-001", Setup::default()));
    let (to_a, to_b) = (Operator::of(&a).await, Operator::of(&b).await);
    let role = |slots, epoch| StartRole::Primary { slots: vec![slots], epoch };
    to_a.start(a.start(role((0, 8_191), 1), true)).await;
    to_b.start(b.start(role((8_192, 16_383), 2), true)).await;
    to_a.order(None, Command::Meet { peers: vec![b.address.clone()] }).await.unwrap();
    for operator in [&to_a, &to_b] {
        operator
            .until("the cluster is ok", |report| {
                let cluster = report.engine.as_ref().and_then(|engine| engine.cluster.as_ref());
                cluster.is_some_and(|c| c.ok && c.nodes.iter().filter(|n| !n.handshake).count() == 2)
            })
            .await;
    }
    (a, to_a, b, to_b)
}

async fn id(operator: &Operator) -> String {
    operator.report().await.engine.unwrap().cluster.unwrap().my_id.clone()
}

/// As a person does.
async fn say(node: &Node, words: &[&str]) -> redis::RedisResult<redis::Value> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut node.client().await.unwrap()).await
}

fn open(report: &Report) -> Vec<(u16, u64)> {
    let engine = report.engine.as_ref();
    engine.map(|e| e.open_slots.iter().map(|open| (open.slot, open.keys)).collect()).unwrap_or_default()
}

fn close(slot: u16, empty: bool) -> Command {
    Command::CloseSlots { slots: vec![slot], empty }
}

const PRIMARY: Option<Role> = Some(Role::Primary);

/// The slot of `{x}…`, by the engine.
async fn slot_of_x(node: &Node) -> (u16, String) {
    let said = say(node, &["CLUSTER", "KEYSLOT", "{b}"]).await.unwrap();
    let slot: u16 = redis::from_redis_value(said).unwrap();
    assert!(slot < 8_192, "the first node's");
    (slot, slot.to_string())
}

#[tokio::test]
async fn open_slots_are_counted_and_closed_by_order_alone() {
    let (a, to_a, b, to_b) = two_primaries().await;
    let (slot, text) = slot_of_x(&a).await;
    let (id_a, id_b) = (id(&to_a).await, id(&to_b).await);
    say(&a, &["SET", "{b}1", "1"]).await.unwrap();
    say(&a, &["SET", "{b}2", "2"]).await.unwrap();
    assert!(open(&to_a.report().await).is_empty());
    say(&b, &["CLUSTER", "SETSLOT", &text, "IMPORTING", &id_a]).await.unwrap();
    say(&a, &["CLUSTER", "SETSLOT", &text, "MIGRATING", &id_b]).await.unwrap();
    to_a.until("its keys are counted", |report| open(report) == [(slot, 2)]).await;
    let report = to_b.until("it holds none", |report| open(report) == [(slot, 0)]).await;
    assert!(!report.engine.unwrap().open_slots[0].stood, "it was opened a moment ago");
    assert!(a.http("/metrics").await.1.contains("kagami_agent_open_slots 1\n"));
    let asked = say(&a, &["GET", "{b}3"]).await.unwrap_err();
    assert_eq!(
        asked.kind(),
        redis::ErrorKind::Server(redis::ServerErrorKind::Ask),
        "sent there for what is not here"
    );

    // The one that imports goes first, where it holds nothing; then the owner.
    to_b.order(PRIMARY, close(slot, true)).await.unwrap();
    to_b.until("closed there", |report| open(report).is_empty()).await;
    to_a.order(PRIMARY, close(slot, false)).await.unwrap();
    to_a.until("closed here", |report| open(report).is_empty()).await;
    to_a.order(PRIMARY, close(slot, false)).await.unwrap();
    assert_eq!(count(&mut a.client().await.unwrap()).await, 2);
    assert_eq!(say(&a, &["GET", "{b}3"]).await.unwrap(), redis::Value::Nil);
}

#[tokio::test]
async fn a_node_that_holds_keys_of_anothers_slot_closes_nothing_and_tells() {
    let (a, to_a, b, to_b) = two_primaries().await;
    let (slot, text) = slot_of_x(&a).await;
    let (id_a, id_b) = (id(&to_a).await, id(&to_b).await);
    say(&a, &["SET", "{b}1", "1"]).await.unwrap();
    say(&b, &["CLUSTER", "SETSLOT", &text, "IMPORTING", &id_a]).await.unwrap();
    say(&a, &["CLUSTER", "SETSLOT", &text, "MIGRATING", &id_b]).await.unwrap();
    // A client that was sent there wrote its key there.
    let mut asking = redis::pipe();
    asking.cmd("ASKING").ignore().cmd("SET").arg("{b}2").arg("2").ignore();
    asking.query_async::<()>(&mut b.client().await.unwrap()).await.unwrap();
    to_b.until("it holds one", |report| open(report) == [(slot, 1)]).await;

    // As if a failover had lost its mark: nobody can see the key there, and nothing but its own count tells of it.
    say(&b, &["CLUSTER", "SETSLOT", &text, "STABLE"]).await.unwrap();
    to_b.until("nothing is open", |report| open(report).is_empty()).await;
    assert_eq!(to_b.order(PRIMARY, close(slot, true)).await, Err(Refused::Written));
    let told = to_b.until("what it holds is told", |report| open(report) == [(slot, 1)]).await;
    assert!(told.engine.unwrap().open_slots[0].stood);
    assert_eq!(open(&to_a.report().await), [(slot, 1)]);

    // Somebody takes it up again, and moves it back.
    say(&b, &["CLUSTER", "SETSLOT", &text, "IMPORTING", &id_a]).await.unwrap();
    to_b.until("it is open again", |report| {
        report.engine.as_ref().is_some_and(|e| e.open_slots.iter().any(|open| !open.stood))
    })
    .await;
    assert_eq!(to_b.order(PRIMARY, close(slot, true)).await, Err(Refused::Written));
    assert_eq!(open(&to_b.report().await), [(slot, 1)], "it is open as it was");
    let mut back = redis::pipe();
    back.cmd("ASKING").ignore().cmd("DEL").arg("{b}2").ignore();
    back.query_async::<()>(&mut b.client().await.unwrap()).await.unwrap();
    to_b.until_within("it holds none", Duration::from_secs(5), |report| open(report) == [(slot, 0)]).await;
    to_b.order(PRIMARY, close(slot, true)).await.unwrap();
    to_b.until("closed", |report| open(report).is_empty()).await;
}

#[tokio::test]
async fn slots_are_closed_in_the_present_term_and_life_alone() {
    let (_a, to_a, _b, to_b) = two_primaries().await;
    let boot = to_a.report().await.boot;
    let wrong = to_a.make_order(Boot { run: 9, ..boot }, PRIMARY, close(1, false));
    assert!(matches!(to_a.give(wrong).await, Err(Refused::WrongBoot { .. })));
    let wrong = to_a.order(Some(Role::Replica), close(1, false)).await;
    assert_eq!(wrong, Err(Refused::WrongState { is: "a primary".into() }));
    to_b.order(PRIMARY, close(1, true)).await.unwrap();
}
