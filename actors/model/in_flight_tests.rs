use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const LIMITED: TryEnd = TryEnd::Failed(ModelErrorKind::RateLimited);

/// An endpoint in rounds: it works on up to `capacity` calls at a time, refuses the others at once,
/// and answers those it works on one by one. There is always more to ask.
struct Endpoint {
    capacity: usize,
    cap: InFlight,
    working: VecDeque<Window>,
    refused: usize,
    answered: usize,
}

impl Endpoint {
    fn new(max: usize, capacity: usize) -> Self {
        let cap = InFlight::new(max);
        Self { capacity, cap, working: VecDeque::new(), refused: 0, answered: 0 }
    }

    /// As many answers as the endpoint works on, each of which makes room at once.
    fn round(&mut self) {
        self.fill();
        for _ in 0..self.working.len().min(self.capacity) {
            let Some(window) = self.working.pop_front() else { break };
            self.cap.ended(window, TryEnd::Answered);
            self.answered += 1;
            self.fill();
        }
    }

    /// Starts all that there is room for. A refused call makes room for the next in the queue.
    fn fill(&mut self) {
        while self.cap.has_room() {
            let window = self.cap.started();
            if self.working.len() < self.capacity {
                self.working.push_back(window);
            } else {
                self.refused += 1;
                self.cap.ended(window, LIMITED);
            }
        }
    }

    /// Least and most of the cap over many rounds.
    fn band(&mut self, rounds: usize) -> (usize, usize) {
        let caps: Vec<usize> = (0..rounds)
            .map(|_| {
                self.round();
                self.cap.cap()
            })
            .collect();
        (*caps.iter().min().unwrap(), *caps.iter().max().unwrap())
    }
}

#[test]
fn the_cap_settles_around_what_the_endpoint_can_take_and_follows_it() {
    for capacity in [4, 16, 40, 100] {
        let mut endpoint = Endpoint::new(256, capacity);
        for now in [capacity, capacity * 2, capacity / 2] {
            endpoint.capacity = now;
            for _ in 0..80 {
                endpoint.round();
            }
            let (least, most) = endpoint.band(200);
            let fair = (now as f64 * 0.65).floor() as usize..=now + 1;
            assert!(fair.contains(&least) && fair.contains(&most), "{now}: {least} to {most}");
        }
        let share = endpoint.refused as f64 / (endpoint.answered + endpoint.refused) as f64;
        // Between two refusals lie about 0.3 * capacity rounds of as many answers.
        let share_max = if capacity < 16 { 0.25 } else { 0.05 };
        assert!(share < share_max, "{share} of all calls were refused at a capacity of {capacity}");
    }
}

#[test]
fn an_endpoint_that_takes_everything_is_given_everything_within_six_rounds() {
    let mut endpoint = Endpoint::new(256, 1000);
    for _ in 0..6 {
        endpoint.round();
    }
    assert_eq!(endpoint.cap.cap(), 256);
}

#[test]
fn one_burst_of_refusals_is_one_cut() {
    let mut cap = InFlight::new(8);
    let windows: Vec<Window> = (0..8).map(|_| cap.started()).collect();
    for window in windows {
        cap.ended(window, LIMITED);
    }
    assert_eq!(cap.cap(), 5, "8 * 0.7");
    let window = cap.started();
    cap.ended(window, LIMITED);
    assert_eq!(cap.cap(), 1, "5.6 / 2 * 0.7: a call from after the cut was refused all alone");
}

#[test]
fn a_cap_that_is_not_used_does_not_grow() {
    let mut cap = InFlight::new(100);
    for _ in 0..1000 {
        let windows: Vec<Window> = (0..4).map(|_| cap.started()).collect();
        windows.into_iter().for_each(|window| cap.ended(window, TryEnd::Answered));
    }
    assert_eq!(cap.cap(), 8);
}

#[test]
fn what_is_no_refusal_cuts_nothing() {
    let mut cap = InFlight::new(8);
    let unreachable = TryEnd::Failed(ModelErrorKind::Unreachable);
    let rejected = TryEnd::Failed(ModelErrorKind::Rejected);
    for end in [unreachable, rejected, TryEnd::GivenUp] {
        let window = cap.started();
        cap.ended(window, end);
    }
    assert_eq!((cap.cap(), cap.in_flight()), (8, 0));
}

#[test]
fn a_queue_inside_the_endpoint_holds_the_cap_and_a_long_one_cuts_it_once() {
    let mut cap = InFlight::new(64);
    let mut windows: VecDeque<Window> = (0..8).map(|_| cap.started()).collect();
    let load = |queued| Load { queued, cache_used: 0.5 };
    cap.loaded(load(2));
    cap.loaded(load(2));
    let window = windows.pop_front().unwrap();
    cap.ended(window, TryEnd::Answered);
    assert_eq!(cap.cap(), 8, "held");
    cap.loaded(load(6));
    cap.loaded(load(6));
    assert_eq!(cap.cap(), 4, "7 * 0.7, once");
    for window in windows {
        cap.ended(window, TryEnd::Answered);
    }
    let again: Vec<Window> = (0..4).map(|_| cap.started()).collect();
    cap.loaded(load(6));
    assert_eq!(cap.cap(), 2, "those from before are gone, and the queue is not");
    again.into_iter().for_each(|window| cap.ended(window, TryEnd::Answered));
    cap.loaded(Load { queued: 0, cache_used: 0.99 });
    cap.started();
    let last = cap.started();
    cap.ended(last, TryEnd::Answered);
    assert_eq!(cap.cap(), 2, "a full cache holds too");
}

fn end() -> impl Strategy<Value = TryEnd> {
    prop_oneof![
        3 => Just(TryEnd::Answered),
        1 => Just(TryEnd::GivenUp),
        1 => Just(LIMITED),
        1 => Just(TryEnd::Failed(ModelErrorKind::TimedOut)),
        1 => Just(TryEnd::Failed(ModelErrorKind::Malformed)),
    ]
}

proptest! {
    #[test]
    fn the_cap_stays_within_its_bounds_whatever_happens(
        max in 0..100_usize,
        history in prop::collection::vec((any::<bool>(), any::<usize>(), end(), 0..20_u64), 0..200),
    ) {
        let mut cap = InFlight::new(max);
        let mut calls: Vec<Window> = Vec::new();
        for (start, which, end, queued) in history {
            if start && cap.has_room() {
                calls.push(cap.started());
            } else if !calls.is_empty() {
                let call = calls.swap_remove(which % calls.len());
                cap.ended(call, end);
            }
            if which % 7 == 0 {
                cap.loaded(Load { queued, cache_used: 0.5 });
            }
            prop_assert!((1..=max.max(1)).contains(&cap.cap()));
            prop_assert_eq!(cap.in_flight(), calls.len());
            prop_assert!(cap.from_before <= cap.in_flight);
        }
    }
}
