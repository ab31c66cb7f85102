//! Carrying out an order: fences first, then the engine's commands, each with a bound.

use crate::claim;
use crate::client::{Client, EngineError};
use crate::cluster::{self, Within};
use crate::node::Node;
use crate::observe;
use crate::orders::{self, Admitted};
use crate::start;
use crate::state::State;
use crate::stop;
use crate::version::Version;
use crate::writes;
use kagami_protocol::{
    Address, Boot, Command, Done, ELECTION_BOUND_MS, FORMER_CLIENTS_MS, Order, Refused, Role, engine_text,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(5);
const ROLE_WITHIN: Duration = Duration::from_millis(500);
const POLL_EVERY: Duration = Duration::from_millis(1);
/// How long an order waits until a primary's id is known.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// How long writes pause while it is seen whether there were any, in milliseconds; the engine ends well within it.
const PARK_PAUSE_MS: u64 = 10_000;
const MOVEMENT_MS: u64 = 3_000;
/// How long after an order was read nobody is promoted by it any more (P2): behind another order or a slow disk it may have
/// outlived the pause of a handover, or the bound after which another was promoted. Asked again, it is quick.
const PROMOTED_WITHIN: Duration = Duration::from_secs(1);

/// How long a takeover waits for a newer epoch; an engine asks for votes on its clock of a tenth of a second.
const OUTBID_WITHIN: Duration = Duration::from_millis(250);

/// The engine as one order uses it.
struct Hand {
    boot: Boot,
    client: Arc<Client>,
    cluster: bool,
    version: Arc<Version>,
    own: Address,
}

fn failed(error: EngineError) -> Refused {
    Refused::Failed { message: error.to_string() }
}

/// Carries out one order, after those that came before it.
pub(crate) async fn perform(
    node: &Arc<Node>,
    generation: u64,
    order: Order,
    read: Instant,
) -> Result<Done, Refused> {
    let _in_turn = node.orders.lock().await;
    let admitted = orders::admit(&node.state(), &node.settings.node, generation, &order)?;
    if admitted == Admitted::NewTerm {
        raise_term(node, order.term).await?;
    }
    if !matches!(order.command, Command::Start(_)) {
        observe::look(node).await;
    }
    {
        let state = node.state();
        // The engine may have ended while it was looked at.
        orders::admit(&state, &node.settings.node, generation, &order)?;
        orders::expects(&state, &order)?;
    }
    tracing::info!(order = order.id, term = order.term, command = ?order.command, "an order");
    let outcome = match order.command {
        Command::Start(start) => start::start(node, start).await,
        Command::KeepTerm => keep_term(node, order.term).await,
        command => {
            let follows = matches!(command, Command::Replicate { .. });
            let outcome = engine_command(node, command, read).await;
            if follows && outcome.is_ok() {
                node.change(|state| state.followed(order.term));
                node.write_down.notify_one();
            }
            outcome
        }
    };
    node.expect_movement(MOVEMENT_MS);
    match outcome {
        Ok(done) => {
            let offset = done.offset.or_else(|| node.state().view.as_ref().map(|view| view.offset));
            Ok(Done { offset, ..done })
        }
        Err(refused) => {
            tracing::warn!(order = order.id, %refused, "the order was not carried out");
            Err(refused)
        }
    }
}

/// The term is on disk before anything is done in it.
pub(crate) async fn raise_term(node: &Node, term: u64) -> Result<(), Refused> {
    node.change(|state| state.term = state.term.max(term));
    node.store()
        .await
        .map_err(|error| Refused::Failed { message: format!("the term could not be kept: {error}") })
}

/// A replica follows the primary of that term by itself: what it holds is of that term, and its note is to say so.
async fn keep_term(node: &Node, term: u64) -> Result<Done, Refused> {
    node.change(|state| state.keeps_following(term));
    raise_term(node, term).await?;
    node.publish();
    Ok(Done::default())
}

async fn engine_command(node: &Node, command: Command, read: Instant) -> Result<Done, Refused> {
    let hand = {
        let state = node.state();
        let Some(life) = &state.life else { return Err(Refused::WrongState { is: state.describe() }) };
        Hand {
            boot: life.boot.clone(),
            client: life.client.clone(),
            cluster: life.cluster,
            version: life.version.clone(),
            own: life.start.announce.clone(),
        }
    };
    let only_cluster = |what: &str| Refused::Failed { message: format!("{what}: cluster mode is disabled") };
    let words = |note: String| Ok(Done { offset: None, note });
    match command {
        Command::Meet { peers } => {
            if !hand.cluster {
                return Err(only_cluster("MEET"));
            }
            let met = cluster::meet(&hand.client, &hand.own, peers.iter()).await.map_err(failed)?;
            words(format!("met {met} of {}", peers.len()))
        }
        Command::AssignSlots { slots, epoch, from } => {
            if !hand.cluster {
                return Err(only_cluster("ADDSLOTS"));
            }
            let assigned = cluster::assign_slots(&hand.client, &hand.version, &slots, epoch, &from);
            let count = assigned.await.map_err(failed)?;
            node.change(State::in_role);
            words(format!("{count} slots were not owned yet"))
        }
        Command::Replicate { primary, primary_id } => {
            replicate(node, &hand, &primary, primary_id.as_deref()).await
        }
        Command::Promote { min_offset, wait_ms, force } => {
            let until = read + PROMOTED_WITHIN + Duration::from_millis(wait_ms);
            promote(node, &hand, min_offset, wait_ms, force, until).await
        }
        Command::Park { unwritten } => park(node, &hand, unwritten).await,
        Command::End { unanswered_ms } => {
            end_script(node, &hand);
            tracing::warn!(unanswered_ms, "the engine does not answer and is killed");
            if !stop::kill_engine(node, &hand.boot).await {
                let message = "the engine was killed, and its process has not ended yet".into();
                return Err(Refused::Failed { message });
            }
            words("ended by force".into())
        }
        Command::Relink => {
            // Every version takes the old word.
            let kill = ["CLIENT", "KILL", "TYPE", "master"];
            let ended = hand.client.call(&kill, WITHIN).await.map_err(failed)?;
            observe::look(node).await;
            let ended = redis::from_redis_value::<u64>(ended).unwrap_or_default();
            words(format!("{ended} links ended"))
        }
        Command::CloseClients => close_clients(node, &hand).await,
        Command::Forget { ids } => forget(&hand, &ids).await,
        Command::CloseSlots { slots, empty } => {
            if !hand.cluster {
                return Err(only_cluster("SETSLOT"));
            }
            let closed = cluster::close_slots(&hand.client, &slots, empty).await;
            node.with_life(&hand.boot, |life| match &closed {
                Ok(cluster::Closed::All) => life.open_slots.closed(&slots),
                Ok(cluster::Closed::Holds(held)) => life.open_slots.holds(held.iter().copied()),
                Err(_) => {}
            });
            observe::look(node).await;
            match closed.map_err(failed)? {
                cluster::Closed::All => words(format!("{} slots are closed", slots.len())),
                cluster::Closed::Holds(_) => Err(Refused::Written),
            }
        }
        Command::PauseWrites { ms } => {
            writes::pause(node, ms).await.map_err(failed)?;
            let offset = offset(&hand.client).await.map_err(failed)?;
            Ok(Done { offset: Some(offset), note: String::new() })
        }
        Command::ResumeWrites => {
            let resumed = writes::resume(node).await.map_err(failed)?;
            words(if resumed { String::new() } else { "the guard keeps writes paused".into() })
        }
        Command::Configure { directives, config } => {
            let done = configure(&hand, &directives).await?;
            node.change(|state| {
                if let Some(life) = state.life.as_mut().filter(|life| life.boot == hand.boot) {
                    life.start.config = config.or(life.start.config.take());
                }
            });
            Ok(done)
        }
        Command::Start(_) | Command::KeepTerm => Ok(Done::default()),
    }
}

/// Closes the connections that were made before its demotion, or so soon after that the primary endpoint may have led here.
async fn close_clients(node: &Node, hand: &Hand) -> Result<Done, Refused> {
    let demoted_ms = node.with_life(&hand.boot, |life| life.demoted_ms).flatten();
    let Some(demoted_ms) = demoted_ms else { return Ok(Done::default()) };
    let since_ms = node.now_ms().saturating_sub(demoted_ms + FORMER_CLIENTS_MS);
    let list = hand.client.text(&["CLIENT", "LIST"], WITHIN).await.map_err(failed)?;
    let mut closed = 0;
    for id in engine_text::former_clients(&list, since_ms / 1_000) {
        // One that has gone by itself is no error.
        let killed = hand.client.call(&["CLIENT", "KILL", "ID", id], WITHIN).await.map_err(failed)?;
        closed += redis::from_redis_value::<u64>(killed).unwrap_or_default();
    }
    node.with_life(&hand.boot, |life| life.demoted_ms = None);
    node.publish();
    Ok(Done { offset: None, note: format!("{closed} clients closed") })
}

async fn info(client: &Client, section: &str) -> Result<kagami_protocol::engine_text::Fields, EngineError> {
    Ok(kagami_protocol::engine_text::Fields::read(&client.text(&["INFO", section], WITHIN).await?))
}

async fn offset(client: &Client) -> Result<i64, EngineError> {
    Ok(kagami_protocol::engine_text::engine_view(&info(client, "replication").await?).offset)
}

async fn await_role(client: &Client, role: Role, within: Duration) -> Result<(), EngineError> {
    let until = Instant::now() + within;
    loop {
        let view = kagami_protocol::engine_text::engine_view(&info(client, "replication").await?);
        if view.role == Some(role) {
            return Ok(());
        }
        if Instant::now() >= until {
            let within_ms = within.as_millis();
            return Err(EngineError::Said(format!("the role did not become {role:?} within {within_ms} ms")));
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// The role is another's to decide now: what the start still tries is over.
fn end_script(node: &Node, hand: &Hand) {
    node.with_life(&hand.boot, |life| {
        if let Some(script) = life.script.take() {
            script.abort();
        }
    });
}

async fn promote(
    node: &Node,
    hand: &Hand,
    min_offset: Option<i64>,
    wait_ms: u64,
    force: bool,
    in_time: Instant,
) -> Result<Done, Refused> {
    let (role, refused) = {
        let state = node.state();
        (state.role(), state.cannot_be_promoted())
    };
    if let Some(is) = refused {
        return Err(Refused::WrongState { is: is.into() });
    }
    if role == Some(Role::Primary) {
        observe::source(node).await;
        return Ok(Done { offset: None, note: "it is the primary already".into() });
    }
    let until = Instant::now() + Duration::from_millis(wait_ms);
    if let Some(min_offset) = min_offset {
        loop {
            let offset = offset(&hand.client).await.map_err(failed)?;
            if offset >= min_offset {
                break;
            }
            if Instant::now() >= until {
                return Err(Refused::Behind { offset });
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
    if Instant::now() > in_time {
        let is = format!("not promoted: the order was read more than {PROMOTED_WITHIN:?} ago");
        return Err(Refused::WrongState { is });
    }
    end_script(node, hand);
    node.change(|state| state.lead_term = state.term);
    // Its replicas-to-be come at once; should the promotion fail, the next look takes it back.
    observe::set_source(node, &hand.boot, &hand.client, true).await.map_err(failed)?;
    let elect = force && hand.cluster;
    let (promotion, within): (&[&str], _) = match (hand.cluster, elect) {
        (_, true) => (&["CLUSTER", "FAILOVER", "FORCE"], Duration::from_millis(ELECTION_BOUND_MS)),
        (true, false) => (&["CLUSTER", "FAILOVER", "TAKEOVER"], ROLE_WITHIN),
        (false, _) => (&["REPLICAOF", "NO", "ONE"], ROLE_WITHIN),
    };
    let promoted = async {
        // Asked again, an election would begin anew before the last one is over.
        let term = node.state().term;
        let asked = elect
            && node.with_life(&hand.boot, |life| life.election_term.replace(term)).flatten() == Some(term);
        if hand.cluster && !elect {
            outbid(node, hand, in_time).await?;
        }
        if !asked {
            match hand.client.text(promotion, WITHIN).await {
                // It was elected meanwhile.
                Err(error) if error.says("CLUSTER FAILOVER to a replica") => {}
                said => drop(said?),
            }
        }
        await_role(&hand.client, Role::Primary, within).await
    };
    let promoted = promoted.await;
    observe::look(node).await;
    observe::source(node).await;
    promoted.map_err(failed)?;
    Ok(Done::default())
}

/// P1: a takeover is to claim by a newer epoch than the primary's. Where the replica's own is no newer and cannot be bumped, it asks
/// for votes first: whatever comes of it, the epoch that all count from is newer then.
async fn outbid(node: &Node, hand: &Hand, in_time: Instant) -> Result<(), EngineError> {
    let seen = node.state().view.as_ref().and_then(|view| view.cluster.clone());
    let Some(seen) = seen else { return Ok(()) };
    let bumped = hand.client.text(&["CLUSTER", "BUMPEPOCH"], WITHIN).await?;
    if claim::outbids(&bumped, seen.my_epoch) {
        return Ok(());
    }
    tracing::info!(
        epoch = seen.my_epoch,
        "its own epoch is no newer than its primary's: it asks for votes first"
    );
    hand.client.text(&["CLUSTER", "FAILOVER", "FORCE"], WITHIN).await?;
    let until = in_time.min(Instant::now() + OUTBID_WITHIN);
    while cluster::info(&hand.client).await?.current_epoch <= seen.current_epoch && Instant::now() < until {
        tokio::time::sleep(POLL_EVERY).await;
    }
    Ok(())
}

/// Ends the engine; what it leaves behind is what the next start finds.
async fn park(node: &Node, hand: &Hand, unwritten: bool) -> Result<Done, Refused> {
    if unwritten {
        // Nobody writes between the question and the end.
        writes::pause(node, PARK_PAUSE_MS).await.map_err(failed)?;
        observe::look(node).await;
        let worthless = node
            .state()
            .view
            .as_ref()
            .is_some_and(|view| !view.loading && (view.keys == 0 || view.unwritten));
        if !worthless {
            writes::resume(node).await.map_err(failed)?;
            return Err(Refused::Written);
        }
    }
    end_script(node, hand);
    stop::end_engine(node).await;
    Ok(Done { offset: None, note: "parked".into() })
}

async fn replicate(
    node: &Node,
    hand: &Hand,
    primary: &Address,
    primary_id: Option<&str>,
) -> Result<Done, Refused> {
    end_script(node, hand);
    let followed = async {
        if hand.cluster {
            if cluster::follow(&hand.client, primary, primary_id, Within(Duration::ZERO)).await.is_err() {
                cluster::meet(&hand.client, &hand.own, [primary].into_iter()).await?;
                cluster::follow(&hand.client, primary, primary_id, Within(KNOWN_WITHIN)).await?;
            }
        } else {
            let view = kagami_protocol::engine_text::engine_view(&info(&hand.client, "replication").await?);
            let follows =
                view.link.is_some_and(|link| link.host == primary.host && link.port == primary.port);
            if !follows {
                hand.client.text(&["REPLICAOF", &primary.host, &primary.port.to_string()], WITHIN).await?;
            }
        }
        await_role(&hand.client, Role::Replica, ROLE_WITHIN).await
    };
    let followed = followed.await;
    observe::look(node).await;
    // Only after the role changed: its replicas leave it by themselves, and nobody else may come.
    observe::settle(node).await;
    followed.map_err(failed)?;
    node.change(State::in_role);
    Ok(Done::default())
}

async fn forget(hand: &Hand, ids: &[String]) -> Result<Done, Refused> {
    let mut known = 0;
    let mut refused = Vec::new();
    for id in ids {
        match hand.client.text(&["CLUSTER", "FORGET", id], WITHIN).await {
            Ok(_) => known += 1,
            Err(error) if error.says("unknown node") => {}
            Err(error) => refused.push(format!("{id}: {error}")),
        }
    }
    if !refused.is_empty() {
        return Err(Refused::Failed { message: refused.join("; ") });
    }
    Ok(Done { offset: None, note: format!("{known} of {} ids were known", ids.len()) })
}

async fn configure(hand: &Hand, directives: &BTreeMap<String, String>) -> Result<Done, Refused> {
    let pairs = directives.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    if directives.is_empty() {
        return Ok(Done::default());
    }
    if hand.version.has_config_set_many() {
        let words: Vec<&str> =
            ["CONFIG", "SET"].into_iter().chain(pairs.flat_map(|(name, value)| [name, value])).collect();
        hand.client.text(&words, WITHIN).await.map_err(failed)?;
    } else {
        for (name, value) in pairs {
            hand.client.text(&["CONFIG", "SET", name, value], WITHIN).await.map_err(failed)?;
        }
    }
    Ok(Done { offset: None, note: format!("{} directives", directives.len()) })
}
