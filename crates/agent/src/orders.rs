//! Whether an order may be carried out: the fences, pure.

use crate::state::State;
use kagami_protocol::{Address, Command, EngineState, Order, Refused, Role};

/// What was checked before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The term is the one that is known.
    SameTerm,
    /// The term is higher: it must be on disk before anything is done.
    NewTerm,
}

/// The first half: who and when. What is refused here changes nothing.
pub fn admit<H>(state: &State<H>, node: &str, generation: u64, order: &Order) -> Result<Admitted, Refused> {
    if order.node != node {
        return Err(Refused::WrongNode { node: node.into() });
    }
    if order.boot != state.boot {
        return Err(Refused::WrongBoot { boot: state.boot.clone() });
    }
    if generation < state.operator_generation {
        // It waited while a new leader said hello; its connection ends, too.
        let message = format!("an operator of generation {} has spoken", state.operator_generation);
        return Err(Refused::Failed { message });
    }
    if order.term < state.term {
        return Err(Refused::OldTerm { term: state.term });
    }
    // Also where a note could not be written: what is asked again must not be done in a term that a restart would forget.
    Ok(if order.term > state.kept_term { Admitted::NewTerm } else { Admitted::SameTerm })
}

/// The second half: the state and role that the order expects, looked at just before.
pub fn expects<H>(state: &State<H>, order: &Order) -> Result<(), Refused> {
    let refused = || Err(Refused::WrongState { is: state.describe() });
    match &order.command {
        Command::KeepTerm => {
            return if order.role.is_none_or(|role| state.role() == Some(role)) { Ok(()) } else { refused() };
        }
        Command::Start(_) => {
            return if state.engine == EngineState::Parked && !state.terminating {
                Ok(())
            } else {
                refused()
            };
        }
        // Also one that is still starting, or does not answer: it is ended all the same.
        Command::Park { unwritten: false } if state.life.is_some() && !state.terminating => {
            return if order.role.is_none_or(|role| state.role() == Some(role)) { Ok(()) } else { refused() };
        }
        // It has a role no more, only the last one that it said.
        Command::End { unanswered_ms } => {
            let hung = state.unanswered().filter(|hung| hung.ms >= *unanswered_ms && !state.terminating);
            let expected = hung.is_some_and(|hung| order.role.is_none_or(|role| role == hung.role));
            return if expected { Ok(()) } else { refused() };
        }
        _ if state.engine != EngineState::Running || state.view.is_none() => return refused(),
        // Asked again in the state it leads to, an order is done again.
        Command::Promote { .. } if state.role() == Some(Role::Primary) => return Ok(()),
        Command::Replicate { primary, primary_id } if follows(state, primary, primary_id.as_deref()) => {
            return Ok(());
        }
        _ => {}
    }
    if order.role.is_none_or(|role| state.role() == Some(role)) { Ok(()) } else { refused() }
}

/// Whether the engine is a replica of that primary.
fn follows<H>(state: &State<H>, primary: &Address, primary_id: Option<&str>) -> bool {
    let Some(view) = state.view.as_ref().filter(|view| view.role == Some(Role::Replica)) else {
        return false;
    };
    match (primary_id, &view.cluster) {
        (Some(id), Some(cluster)) => {
            cluster.nodes.iter().any(|node| node.myself && node.primary_id.as_deref() == Some(id))
        }
        _ => view.link.as_ref().is_some_and(|link| link.host == primary.host && link.port == primary.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_protocol::{Boot, EngineView, Link};

    fn with(change: impl FnOnce(&mut State<()>), check: impl FnOnce(&State<()>)) {
        let mut state = State::new(boot(), None, false, None, String::new());
        (state.term, state.kept_term) = (5, 5);
        change(&mut state);
        check(&state);
    }

    fn boot() -> Boot {
        "pod/agent/1".parse().unwrap()
    }

    fn order(command: Command) -> Order {
        Order { id: 1, node: "dva-0001-001".into(), boot: boot(), term: 5, role: None, command }
    }

    fn running(role: Role) -> impl FnOnce(&mut State<()>) {
        move |state| {
            state.engine = EngineState::Running;
            state.view = Some(EngineView { role: Some(role), ..EngineView::default() });
        }
    }

    fn promote() -> Command {
        Command::Promote { min_offset: None, wait_ms: 0, force: false }
    }

    #[test]
    fn node_boot_and_term_are_checked_in_that_order() {
        with(
            |state| state.operator_generation = 3,
            |state| {
                let right = order(Command::KeepTerm);
                let of = |order: &Order| admit(state, "dva-0001-001", 3, order);
                assert_eq!(of(&right), Ok(Admitted::SameTerm));
                assert_eq!(of(&Order { term: 6, ..right.clone() }), Ok(Admitted::NewTerm));
                let wrong = Order { term: 4, ..right };
                assert_eq!(of(&wrong), Err(Refused::OldTerm { term: 5 }));
                assert!(matches!(admit(state, "dva-0001-001", 2, &wrong), Err(Refused::Failed { .. })));
                let wrong = Order { boot: "pod/agent/2".parse().unwrap(), ..wrong };
                assert_eq!(of(&wrong), Err(Refused::WrongBoot { boot: boot() }));
                let wrong = Order { node: "other".into(), ..wrong };
                assert!(matches!(of(&wrong), Err(Refused::WrongNode { .. })));
            },
        );
    }

    #[test]
    fn a_term_that_could_not_be_written_down_is_written_down_before_the_next_order() {
        with(
            |state| {
                state.term = 6;
                state.not_stored("no space left on device");
            },
            |state| {
                let again = Order { term: 6, ..order(Command::KeepTerm) };
                assert_eq!(admit(state, "dva-0001-001", 0, &again), Ok(Admitted::NewTerm));
                assert_eq!(state.trouble, "the note beside the data: no space left on device");
            },
        );
        with(
            |state| {
                state.term = 6;
                state.not_stored("no space left on device");
                state.stored(6);
            },
            |state| {
                let again = Order { term: 6, ..order(Command::KeepTerm) };
                assert_eq!(admit(state, "dva-0001-001", 0, &again), Ok(Admitted::SameTerm));
                assert_eq!(state.trouble, "");
            },
        );
    }

    #[test]
    fn a_role_that_is_not_expected_is_refused() {
        with(running(Role::Replica), |state| {
            let pause = Order { role: Some(Role::Primary), ..order(Command::PauseWrites { ms: 1 }) };
            assert_eq!(expects(state, &pause), Err(Refused::WrongState { is: "a replica".into() }));
            let pause = Order { role: Some(Role::Replica), ..pause };
            assert_eq!(expects(state, &pause), Ok(()));
        });
    }

    #[test]
    fn a_replica_is_told_again_to_follow_the_same_primary_only() {
        let to = |host: &str| {
            let primary = Address { host: host.into(), port: 6379, bus_port: 0 };
            Order { role: Some(Role::Primary), ..order(Command::Replicate { primary, primary_id: None }) }
        };
        let following = |state: &mut State<()>| {
            running(Role::Replica)(state);
            let link = Link { host: "10.0.0.1".into(), port: 6379, ..Link::default() };
            state.view.as_mut().unwrap().link = Some(link);
        };
        with(following, |state| {
            assert_eq!(expects(state, &to("10.0.0.1")), Ok(()));
            assert!(expects(state, &to("10.0.0.2")).is_err());
        });
    }

    #[test]
    fn a_promotion_is_done_again_on_a_primary() {
        let promote = Order { role: Some(Role::Replica), ..order(promote()) };
        with(running(Role::Primary), |state| assert_eq!(expects(state, &promote), Ok(())));
        with(|_| {}, |state| assert!(expects(state, &promote).is_err(), "parked"));
    }

    #[test]
    fn an_engine_is_ended_by_force_only_while_it_is_hung_and_was_what_is_expected() {
        use crate::state::Life;
        use crate::version::Version;
        use kagami_protocol::{Start, StartData, StartRole};
        let hung = |missed: u64, terminating: bool| {
            move |state: &mut State<()>| {
                running(Role::Primary)(state);
                let start = Start {
                    directives: vec![],
                    client_acl: String::new(),
                    data: StartData::PutAside,
                    role: StartRole::Primary { slots: vec![], epoch: 0 },
                    peers: vec![],
                    announce: Address { host: "10.0.0.1".into(), port: 6379, bus_port: 0 },
                    announce_hostname: String::new(),
                    guard: true,
                    keep_previous: false,
                    config: None,
                };
                let version = Version { kind: "redis".into(), numbers: [7, 0, 15] };
                state.life = Some(Life::new(boot(), start, false, version.into(), 0, ()));
                state.terminating = terminating;
                for now in (0..=missed).step_by(500) {
                    state.missed(&boot(), now, false, "no answer");
                }
            }
        };
        let end = |role| Order { role: Some(role), ..order(Command::End { unanswered_ms: 10_000 }) };
        with(hung(10_000, false), |state| {
            assert_eq!(expects(state, &end(Role::Primary)), Ok(()));
            assert!(expects(state, &end(Role::Replica)).is_err());
        });
        with(hung(9_500, false), |state| assert!(expects(state, &end(Role::Primary)).is_err()));
        with(hung(10_000, true), |state| assert!(expects(state, &end(Role::Primary)).is_err()));
        with(running(Role::Primary), |state| assert!(expects(state, &end(Role::Primary)).is_err()));
        let answers = |state: &mut State<()>| {
            hung(10_000, false)(state);
            state.missed(&boot(), 10_100, true, "BUSY");
        };
        with(answers, |state| assert!(expects(state, &end(Role::Primary)).is_err()));
    }
}
