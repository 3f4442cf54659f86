//! The lease and the fence together: every history up to a bound, by stateright, and long random
//! ones with clocks that drift. And that each rule is needed: without it, there is a history that
//! goes wrong.

use proptest::prelude::*;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::world::{Action, Bounds, Rule, State, World};
use super::*;

const MS: Duration = Duration::from_millis(1);

const ONE_RIGHT: &str = "one right at a time";
const NO_STALE_RESULT: &str = "no stale result";
const ONE_RECORD: &str = "one terminal record";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(World::actions(self, state));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.next(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_RIGHT, |world: &World, s: &State| world.rights(s) <= 1),
            Property::always(NO_STALE_RESULT, |_, s: &State| !s.ledger.stale_accepted),
            Property::always(ONE_RECORD, |_, s: &State| s.ledger.terminals <= 1),
            // That the bounds leave room for something to happen.
            Property::sometimes("taken back by a successor", |_, s: &State| {
                s.ledger.adopted && s.ledger.terminals == 1
            }),
            Property::sometimes("run again elsewhere", |world: &World, s: &State| {
                s.ledger.terminals == 0 && world.rights(s) == 1 && s.ran_on_both()
            }),
        ]
    }
}

/// Clocks of one rate, and leases of two ticks.
fn world(without: Option<Rule>) -> World {
    World {
        start: Instant::now(),
        lease: LeaseConfig { lease: MS * 2, margin: Duration::ZERO },
        node_ticks: [MS; 2],
        coordinator_tick: MS,
        without,
        bounds: Bounds { ticks: 3, beats: [2, 1], fences: 2, epochs: 2, network: 3 },
    }
}

/// The coordinator's clock is half as fast again as the nodes', and so long is the margin.
fn drifting(without: Option<Rule>) -> World {
    let margin = if without == Some(Rule::Margin) { Duration::ZERO } else { MS * 3 };
    World {
        lease: LeaseConfig { lease: MS * 6, margin },
        node_ticks: [MS * 2; 2],
        coordinator_tick: MS * 3,
        bounds: Bounds { ticks: 3, beats: [1, 1], fences: 2, epochs: 1, network: 3 },
        ..world(without)
    }
}

#[test]
fn no_history_breaks_the_rules() {
    let checker = world(None).checker().threads(2).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn no_history_with_clocks_of_two_rates_gives_two_rights() {
    let checker = drifting(None).checker().threads(2).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_no_discovery(ONE_RIGHT);
    checker.assert_no_discovery(NO_STALE_RESULT);
}

/// What goes wrong without the rule, in one of the shortest histories in which something does.
fn goes_wrong(world: World) -> Vec<&'static str> {
    let without = world.without;
    let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut wrong = checker.discoveries();
    wrong.retain(|name, _| [ONE_RIGHT, NO_STALE_RESULT, ONE_RECORD].contains(name));
    for (name, path) in &wrong {
        let steps: Vec<Action> = path.clone().into_actions();
        println!("without {without:?}, not {name}, {} steps: {steps:?}", steps.len());
    }
    wrong.into_keys().collect()
}

#[test]
fn without_the_fence_a_result_counts_twice() {
    let wrong = goes_wrong(world(Some(Rule::Fence)));
    assert!(wrong.contains(&NO_STALE_RESULT), "{wrong:?}");
}

#[test]
fn without_the_wait_for_its_lease_a_node_runs_what_another_runs() {
    let bounds = Bounds { ticks: 3, beats: [1, 1], fences: 2, epochs: 1, network: 3 };
    let world = World { bounds, ..world(Some(Rule::LeaseWait)) };
    assert_eq!(goes_wrong(world), [ONE_RIGHT]);
}

#[test]
fn without_the_wait_after_a_restart_a_node_runs_what_another_runs() {
    let bounds = Bounds { ticks: 3, beats: [1, 1], fences: 2, epochs: 2, network: 3 };
    let world = World { bounds, ..world(Some(Rule::WaitAfterRestart)) };
    assert_eq!(goes_wrong(world), [ONE_RIGHT]);
}

#[test]
fn without_the_margin_a_faster_clock_ends_a_lease_too_soon() {
    assert_eq!(goes_wrong(drifting(Some(Rule::Margin))), [ONE_RIGHT]);
}

#[test]
fn without_terms_a_late_assignment_is_started() {
    let bounds = Bounds { ticks: 3, beats: [2, 1], fences: 2, epochs: 1, network: 4 };
    let world = World { bounds, ..world(Some(Rule::Term)) };
    assert_eq!(goes_wrong(world), [ONE_RIGHT]);
}

#[test]
fn without_the_nodes_own_fence_an_assignment_that_comes_twice_is_started_again() {
    let bounds = Bounds { ticks: 3, beats: [2, 1], fences: 2, epochs: 1, network: 4 };
    let world = World { bounds, ..world(Some(Rule::NodeFence)) };
    assert_eq!(goes_wrong(world), [ONE_RIGHT]);
}

/// One step of a random walk: what kind of action, and which of that kind.
fn step() -> impl Strategy<Value = (u8, u16)> {
    let kind = prop_oneof![
        8 => Just(0), 6 => Just(1), 9 => Just(2), 2 => Just(3), 3 => Just(4), 3 => Just(5),
    ];
    // Rare, or nothing would go on for long enough.
    let kind = prop_oneof![40 => kind, 1 => Just(6), 1 => Just(7)];
    (kind, any::<u16>())
}

fn walk(world: &World, steps: &[(u8, u16)]) -> Result<(), TestCaseError> {
    let mut state = world.start();
    for (kind, which) in steps {
        let mut actions = world.actions(&state);
        actions.retain(|action| {
            *kind
                == match action {
                    Action::Tick => 0,
                    Action::Beat(_) => 1,
                    Action::Deliver(..) => 2,
                    Action::Look(_) => 3,
                    Action::LetGo(_) => 4,
                    Action::Assign(_) => 5,
                    Action::Finish(_) => 6,
                    Action::Restart => 7,
                }
        });
        let possible: Vec<State> =
            actions.into_iter().filter_map(|action| world.next(&state, action)).collect();
        if let Some(next) = possible.get(usize::from(*which) % possible.len().max(1)) {
            state = next.clone();
        }
        // Some are lost.
        while state.network.len() > 16 {
            let lost = state.network.iter().nth(usize::from(*which) % 16).copied();
            state.network.retain(|message| Some(*message) != lost);
        }
        prop_assert!(world.rights(&state) <= 1, "{state:#?}");
        prop_assert!(state.ledger.terminals <= 1 && !state.ledger.stale_accepted, "{state:#?}");
    }
    Ok(())
}

fn clocks() -> impl Strategy<Value = [Duration; 3]> {
    // A tenth between the slowest and the fastest is what the margin is for.
    [955..=1045_u32, 955..=1045, 955..=1045].prop_map(|ms| ms.map(|ms| MS * ms))
}

fn wide(clocks: [Duration; 3], without: Option<Rule>) -> World {
    World {
        lease: LeaseConfig::of(MS * 10_000),
        node_ticks: [clocks[0], clocks[1]],
        coordinator_tick: clocks[2],
        bounds: Bounds {
            ticks: u32::MAX,
            beats: [u64::MAX; 2],
            fences: u64::MAX,
            epochs: u64::MAX,
            network: usize::MAX,
        },
        ..world(without)
    }
}

proptest! {
    /// LE-1 to LE-3, with clocks of bounded drift and everything that a network and pauses can do.
    #[test]
    fn no_long_history_gives_two_rights(
        clocks in clocks(),
        steps in prop::collection::vec(step(), 1..600),
    ) {
        walk(&wide(clocks, None), &steps)?;
    }
}
