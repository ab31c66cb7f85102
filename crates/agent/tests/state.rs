//! What the agent knows of its node, also while its engine does not answer, and what it writes down: pure, no engine runs here.

use kagami_agent::guard::Witness;
use kagami_agent::persistence::Persistence;
use kagami_agent::state::{Fence, Life, Seen, State};
use kagami_agent::version::Version;
use kagami_protocol::engine_text::Fields;
use kagami_protocol::{
    Address, Boot, ClusterNode, ClusterView, EngineView, Exit, FENCE_SILENCE_MS, HUNG_MS, Link, Role, Start,
    StartData, StartRole,
};
use std::sync::Arc;

fn boot(run: u32) -> Boot {
    Boot { pod_uid: "pod".into(), agent: "agent".into(), run }
}

fn start(role: StartRole) -> Start {
    Start {
        directives: Vec::new(),
        client_acl: String::new(),
        data: StartData::PutAside,
        role,
        peers: Vec::new(),
        announce: Address { host: "10.0.0.1".into(), port: 6379, bus_port: 0 },
        announce_hostname: String::new(),
        guard: true,
        keep_previous: false,
        config: None,
    }
}

/// A node that was started in term 5.
fn started(role: StartRole) -> State<()> {
    let mut state = State::new(boot(1), None, false, None, String::new());
    state.term = 5;
    let version = Arc::new(Version { kind: "redis".into(), numbers: [7, 0, 15] });
    state.begin(Life::new(boot(1), start(role), false, version, 0, ()), 0);
    state
}

/// A guarded primary of term 5 that was seen at 100 ms.
fn primary() -> State<()> {
    let mut state = started(StartRole::Primary { slots: Vec::new(), epoch: 0 });
    see(&mut state, 100, Role::Primary);
    state
}

fn see(state: &mut State<()>, now_ms: u64, role: Role) {
    let link = (role == Role::Replica).then(|| Link { host: "10.0.0.2".into(), up: true, ..Link::default() });
    let view = EngineView { role: Some(role), replid: "r".into(), offset: 10, link, ..EngineView::default() };
    let persistence = Persistence::read(&Fields::read("aof_enabled:0\n"));
    let counted = Vec::new();
    let seen = Seen { view, persistence, counted, sent_ms: now_ms, wall_sent_ms: 0, wall_answered_ms: 1 };
    assert!(state.take_in(&boot(1), seen, now_ms, |_| false).is_some());
}

/// Looks that come to nothing, with the guard's clock going on.
fn silent(state: &mut State<()>, from_ms: u64, until_ms: u64) {
    for now in (from_ms..until_ms).step_by(50) {
        state.missed(&boot(1), now, false, "no answer within 500 ms");
        tick(state, now);
    }
}

fn tick(state: &mut State<()>, now_ms: u64) {
    let facts = state.facts();
    state.guard.tick(now_ms, facts);
}

/// Fenced, and denied by a later term.
fn denied() -> State<()> {
    let mut state = primary();
    tick(&mut state, 101 + FENCE_SILENCE_MS);
    let facts = state.facts();
    state.guard.hear(1_700, facts, Witness::Lease { asked_ms: 1_690, term: 6, ours: false });
    assert_eq!(state.fence(1_700), Fence::Pause { again: false });
    state.fenced = true;
    state
}

#[test]
fn p2_a_fence_outlasts_an_engine_that_does_not_answer() {
    let mut state = denied();
    see(&mut state, 1_800, Role::Primary);
    silent(&mut state, 1_800, 5_000);
    assert!(state.view.is_none() && state.guard.fenced());
    assert_ne!(state.fence(5_000), Fence::Resume);
    see(&mut state, 5_000, Role::Primary);
    tick(&mut state, 5_050);
    assert!(state.guard.fenced(), "its answer is no witness");
    let facts = state.facts();
    state.guard.hear(5_100, facts, Witness::Confirm { term: 5, given_ms: 5_090, accepted_ms: 5_060 });
    assert!(state.guard.fenced(), "the later term is not forgotten either");
}

/// Found by the simulator (seed 10396): the lease was deleted and made anew with the term before, which confirmed nothing any more.
#[test]
fn p4_a_term_that_the_lease_denied_it_with_is_told_so_that_it_is_outbid() {
    let mut state = primary();
    let before = state.term;
    assert!(state.leased(1_000, 900, before + 1, false));
    assert!(state.guard.fenced());
    assert_eq!(state.term, before + 1);
    assert!(!state.leased(1_100, 1_000, before, true), "an older answer");
    assert!(state.guard.fenced() && state.term == before + 1);
    assert!(state.confirm(2_000, (before + 2, true), 1_900, Some(1_990)));
    assert!(!state.guard.fenced());
}

#[test]
fn p2_a_primary_that_does_not_answer_its_agent_is_guarded_all_the_same() {
    let mut state = primary();
    silent(&mut state, 150, 4_500);
    assert!(state.view.is_none() && state.guard.fenced(), "it may still answer its clients");
}

#[test]
fn a_replica_that_is_seen_or_the_end_of_the_life_ends_the_fence() {
    let mut state = denied();
    silent(&mut state, 1_800, 5_000);
    see(&mut state, 5_000, Role::Replica);
    tick(&mut state, 5_050);
    assert!(!state.guard.fenced());
    assert_eq!(state.fence(5_050), Fence::Resume);

    let mut state = denied();
    state.life = None;
    let exit = Exit {
        boot: boot(1),
        code: None,
        signal: Some(9),
        out_of_memory: false,
        at_ms: 0,
        lived_ms: 0,
        last_words: String::new(),
    };
    state.end(exit, false);
    tick(&mut state, 2_000);
    assert!(!state.guard.fenced());
}

#[test]
fn a_pause_whose_answer_did_not_come_is_ended_once_a_witness_is_heard() {
    let mut state = primary();
    silent(&mut state, 150, 4_500);
    state.life.as_mut().unwrap().pause_unsure = true;
    let facts = state.facts();
    state.guard.hear(4_700, facts, Witness::Lease { asked_ms: 4_600, term: 5, ours: true });
    assert_eq!(state.fence(4_700), Fence::Resume, "it may have been carried out late");
}

fn data_term(state: &mut State<()>) -> u64 {
    state.write_down("g", "g-0001-002", 0);
    state.note.as_ref().map_or(0, |note| note.data_term)
}

/// The candidate of a handover that came to nothing had the latest term in its note, and was preferred to a copy that was further.
#[test]
fn p1_a_replica_is_of_the_term_whose_primary_it_follows_and_of_none_that_it_only_heard_of() {
    let primary = Address { host: "10.0.0.2".into(), port: 6379, bus_port: 0 };
    let mut state = started(StartRole::Replica { primary, primary_id: None });
    see(&mut state, 100, Role::Replica);
    assert_eq!(data_term(&mut state), 5, "it was started to follow");
    state.term = 6;
    see(&mut state, 200, Role::Replica);
    assert_eq!(data_term(&mut state), 5, "it was to lead in that term, and did not");
    assert_eq!(state.note.as_ref().map(|note| note.term), Some(6));
    state.term = 7;
    state.followed(7);
    assert_eq!(data_term(&mut state), 7, "it was told that it follows the primary of that term");
}

/// Sees an engine with an append-only file.
fn appends(state: &mut State<()>, now_ms: u64, offset: i64) {
    let view = EngineView { role: Some(Role::Primary), replid: "r".into(), offset, ..EngineView::default() };
    let persistence = Persistence::read(&Fields::read("aof_enabled:1\n"));
    let counted = Vec::new();
    let seen = Seen { view, persistence, counted, sent_ms: now_ms, wall_sent_ms: 0, wall_answered_ms: 1 };
    assert!(state.take_in(&boot(1), seen, now_ms, |_| false).is_some());
}

#[test]
fn a_note_claims_what_a_power_cut_leaves_and_is_closed_by_the_end_of_the_engine_alone() {
    let mut state = started(StartRole::Primary { slots: Vec::new(), epoch: 0 });
    state.found_in("kernel-1".into());
    for (now_ms, offset) in [(100, 10), (1_000, 20), (2_200, 30)] {
        appends(&mut state, now_ms, offset);
    }
    state.write_down("g", "n", 0);
    let living = state.note.clone().unwrap();
    assert_eq!((living.offset, living.closed), (10, false), "fsync each second");
    state.write_down_the_end("g", "n", 0);
    let ended = state.note.clone().unwrap();
    assert_eq!((ended.offset, ended.closed), (30, true));

    // The container ended, and its agent with it: the same kernel has it all, another may not.
    for (kernel, closed) in [("kernel-1", true), ("kernel-2", false)] {
        let mut next: State<()> = State::new(boot(1), Some(living.clone()), true, None, String::new());
        next.found_in(kernel.into());
        assert_eq!(next.note.unwrap().closed, closed, "{kernel}");
    }
}

#[test]
fn an_engine_that_answers_nothing_is_told_of_with_what_it_said_last() {
    let mut state = primary();
    silent(&mut state, 150, 2_000);
    assert_eq!(state.unanswered(), None, "what it said is still what is so");
    silent(&mut state, 2_000, 10_200);
    let hung = state.unanswered().unwrap();
    assert_eq!((hung.role, hung.replid.as_str(), hung.offset), (Role::Primary, "r", 10));
    assert!((HUNG_MS..HUNG_MS + 200).contains(&hung.ms), "{}", hung.ms);
    assert_eq!(state.report("n", false, "1").unanswered, Some(hung));
    // Any answer is one: an error, too.
    state.missed(&boot(1), 10_300, true, "BUSY");
    assert_eq!(state.unanswered(), None);
    silent(&mut state, 10_350, 11_000);
    assert!(state.unanswered().unwrap().ms < 1_000);
    see(&mut state, 11_000, Role::Primary);
    silent(&mut state, 11_050, 12_000);
    assert_eq!(state.unanswered(), None);
}

#[test]
fn while_the_agent_stood_still_nobody_was_asked() {
    let mut state = primary();
    silent(&mut state, 150, 2_500);
    let before = state.unanswered().unwrap().ms;
    state.missed(&boot(1), 62_500, false, "no answer within 500 ms");
    assert!(state.unanswered().unwrap().ms <= before + 1_000);
}

#[test]
fn an_engine_that_starts_or_loads_is_not_hung() {
    let mut state = started(StartRole::Primary { slots: Vec::new(), epoch: 0 });
    silent(&mut state, 50, 30_000);
    assert_eq!(state.unanswered(), None, "it has not answered yet");

    let mut state = started(StartRole::Primary { slots: Vec::new(), epoch: 0 });
    let view = EngineView { role: Some(Role::Primary), loading: true, ..EngineView::default() };
    let persistence = Persistence::read(&Fields::read("aof_enabled:0\n"));
    let seen = Seen { view, counted: vec![], persistence, sent_ms: 50, wall_sent_ms: 0, wall_answered_ms: 1 };
    state.take_in(&boot(1), seen, 50, |_| false).unwrap();
    silent(&mut state, 100, 30_000);
    assert!(state.view.is_none());
    assert_eq!(state.unanswered(), None, "it was loading");
}

#[test]
fn that_an_engine_is_called_hung_is_told_at_once_and_how_long_it_lasts_is_not() {
    let mut state = primary();
    silent(&mut state, 150, 2_500);
    let told = state.report("n", false, "1");
    silent(&mut state, 2_500, 9_000);
    assert!(state.is_told_by(&told));
    silent(&mut state, 9_000, 10_200);
    assert!(!state.is_told_by(&told));
}

/// Simulator, seeds 10204, 20059, 20638 and 21785: nobody knew any more that the start had been given up, and it was waited for.
#[test]
fn p4_that_an_engine_is_not_in_its_role_is_told_again_once_other_trouble_is_over() {
    let astray = "the engine runs, but not in its role: the primary is not known yet";
    let mut state = started(StartRole::Replica { primary: start_of_another(), primary_id: None });
    see(&mut state, 100, Role::Primary);
    state.not_in_role("the primary is not known yet");
    assert_eq!(state.trouble, astray);
    state.not_stored("no space left on device");
    assert_ne!(state.trouble, astray);
    state.stored(5);
    assert_eq!(state.trouble, astray);
    silent(&mut state, 150, 6_000);
    assert!(state.trouble.starts_with("the engine does not answer"), "{}", state.trouble);
    see(&mut state, 6_000, Role::Primary);
    assert_eq!(state.trouble, astray);
    state.in_role();
    state.not_stored("no space left on device");
    state.stored(5);
    assert_eq!(state.trouble, "");
}

/// Found by the simulator (seeds 12101 31052 32644): a primary that came back from a partition became the replica of one that stood
/// still, and a replica that had slept through a term that of one that was gone; the engines elected them, with nothing of that term.
#[test]
fn p1_a_replica_that_was_never_in_sync_with_whom_it_follows_is_not_to_be_elected() {
    let mut state = State::new(boot(1), None, false, None, String::new());
    let version = Arc::new(Version { kind: "valkey".into(), numbers: [8, 1, 0] });
    let role = StartRole::Primary { slots: Vec::new(), epoch: 0 };
    state.begin(Life::new(boot(1), start(role), true, version, 0, ()), 0);
    let mut look = |now_ms: u64, role: Role, followed: &str, up: bool| {
        let link = (role == Role::Replica).then(|| Link { up, ..Link::default() });
        let myself = ClusterNode {
            myself: true,
            primary: role == Role::Primary,
            primary_id: link.is_some().then(|| followed.to_owned()),
            ..ClusterNode::default()
        };
        let cluster = Some(ClusterView { nodes: vec![myself], ..ClusterView::default() }.into());
        let view =
            EngineView { role: Some(role), replid: "r".into(), link, cluster, ..EngineView::default() };
        let persistence = Persistence::read(&Fields::read("aof_enabled:0\n"));
        let counted = Vec::new();
        let seen = Seen { view, persistence, counted, sent_ms: now_ms, wall_sent_ms: 0, wall_answered_ms: 1 };
        state.take_in(&boot(1), seen, now_ms, |_| false).unwrap();
        let change = state.electable();
        if let (Some(may), Some(life)) = (change, state.life.as_mut()) {
            life.electable = Some(may);
        }
        change
    };
    assert_eq!(look(100, Role::Primary, "", false), None, "it may from the start");
    assert_eq!(look(200, Role::Replica, "a", false), Some(false), "its copy is whole, and of before");
    assert_eq!(look(300, Role::Replica, "a", true), Some(true));
    assert_eq!(look(400, Role::Replica, "a", false), None, "that one is gone, and it had what there was");
    assert_eq!(look(500, Role::Replica, "b", false), Some(false));
    assert_eq!(look(600, Role::Replica, "b", true), Some(true));
}

fn start_of_another() -> Address {
    Address { host: "10.0.0.2".into(), port: 6379, bus_port: 16379 }
}
