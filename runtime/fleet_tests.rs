use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: LeaseConfig = LeaseConfig { lease: Duration::from_secs(10), margin: SECOND };
const BREAKER: BreakerConfig =
    BreakerConfig { failures: 3, cooldown: SECOND, cooldown_max: Duration::from_secs(60) };
const FIRST: Incarnation = Incarnation(1);
const ANY: Want = Want { image: 0 };

/// A fleet, its time, and the fences that go out.
struct Driver {
    fleet: Fleet,
    now: Instant,
    fence: u64,
    beats: u64,
}

impl Driver {
    fn new(lease: Option<LeaseConfig>) -> Self {
        let fleet = Fleet::new(FleetConfig { epoch: Epoch(1), lease, breaker: BREAKER });
        Self { fleet, now: Instant::now(), fence: 0, beats: 0 }
    }

    fn with_nodes(slots: &[u32]) -> Self {
        let mut driver = Self::new(Some(LEASE));
        for (number, slots) in (1..).zip(slots) {
            driver.come(number, FIRST, *slots);
        }
        driver
    }

    fn come(&mut self, number: u64, incarnation: Incarnation, slots: u32) -> Arrival {
        let arrival = self.fleet.attached(&node(number), incarnation, slots, self.now);
        self.beat(number, incarnation);
        arrival
    }

    fn beat(&mut self, number: u64, incarnation: Incarnation) -> Option<Renewal> {
        self.beats += 1;
        let beat = Beat { epoch: Epoch(1), seq: self.beats };
        self.fleet.beat(&node(number), incarnation, beat, self.now)
    }

    /// Places one, and says where and with which fence.
    fn place(&mut self, want: Want) -> Option<(NodeId, u64)> {
        let node = self.fleet.place(&want, self.now)?;
        self.fence += 1;
        self.fleet.placed(&node, self.fence, &want);
        Some((node, self.fence))
    }

    fn fill(&mut self) -> Vec<(NodeId, u64)> {
        std::iter::from_fn(|| self.place(ANY)).collect()
    }

    fn placed(&self, number: u64) -> usize {
        self.fleet.nodes()[&node(number)].placed.len()
    }

    fn waiting(&self) -> String {
        self.fleet.waiting(self.now).unwrap_or_default()
    }
}

fn node(number: u64) -> NodeId {
    format!("n{number}").parse().unwrap()
}

#[test]
fn nodes_of_different_sizes_fill_in_proportion() {
    let mut driver = Driver::with_nodes(&[64, 2, 32]);
    for image in 0..49 {
        driver.place(Want { image }).unwrap();
    }
    assert_eq!([1, 2, 3].map(|n| driver.placed(n)), [32, 1, 16]);
    assert_eq!(driver.fill().len(), 49, "and then up to the last slot");
    assert_eq!(driver.waiting(), "n1, n2, n3: full");
}

#[test]
fn an_image_decides_between_nodes_that_are_about_as_full() {
    let mut driver = Driver::with_nodes(&[100, 100]);
    let (has_image, image) = (node(2), Want { image: 7 });
    driver.fleet.placed(&has_image, 1000, &image);
    for _ in 0..8 {
        assert_eq!(driver.place(image).unwrap().0, has_image);
    }
    assert_eq!(driver.place(ANY).unwrap().0, node(1), "others go to the emptier one");
    assert_eq!(driver.place(image).unwrap().0, node(1), "the next band is not worth an image");
}

#[test]
fn what_else_a_node_does_decides_between_equals() {
    let mut driver = Driver::with_nodes(&[8, 8]);
    driver.fleet.reported(&node(1), 8, 95);
    driver.fleet.reported(&node(2), 8, 10);
    assert_eq!(driver.place(ANY).unwrap().0, node(2));
    assert_eq!(driver.place(ANY).unwrap().0, node(1));
}

/// By its own clock the lease has ended; ours lets go later.
#[test]
fn a_node_that_says_that_it_has_no_right_gets_nothing_before_its_next_beat() {
    let mut driver = Driver::with_nodes(&[8]);
    let (it, fence) = driver.place(ANY).unwrap();
    driver.fleet.ended(&it, fence, Verdict::Neutral, driver.now);
    driver.fleet.lapsed(&it);
    assert_eq!(driver.place(ANY), None);
    assert_eq!(driver.waiting(), "n1: its lease has to be renewed");
    driver.beat(1, FIRST).unwrap();
    assert!(driver.place(ANY).is_some());
}

/// FL-3: it is always the emptiest, and must not become everyone's grave.
#[test]
fn a_node_that_fails_every_start_gets_a_handful_of_a_thousand() {
    let mut driver = Driver::with_nodes(&[16; 4]);
    let (broken, mut failed, mut done) = (node(3), 0, 0);
    let mut running = Vec::new();
    while done < 1000 {
        while let Some((node, fence)) = driver.place(ANY) {
            if node == broken {
                driver.fleet.ended(&node, fence, Verdict::EngineFailed, driver.now);
                failed += 1;
            } else {
                running.push((node, fence));
            }
        }
        // The others take a second for each of theirs.
        driver.now += SECOND;
        for (node, fence) in running.drain(..) {
            assert!(driver.fleet.ended(&node, fence, Verdict::Ok, driver.now));
            done += 1;
        }
        for number in 1..=4 {
            driver.beat(number, FIRST);
        }
    }
    assert!((3..=10).contains(&failed), "{failed}");
    driver.fill();
    assert!(
        driver.waiting().contains("n3: its starts fail; next trial in"),
        "{}",
        driver.waiting()
    );
}

#[test]
fn one_trial_decides_when_a_broken_node_is_used_again() {
    let mut driver = Driver::with_nodes(&[8]);
    let first = driver.fill();
    for (node, fence) in &first[..3] {
        driver.fleet.ended(node, *fence, Verdict::EngineFailed, driver.now);
    }
    assert_eq!(driver.place(ANY), None);
    let trial_at = driver.now + BREAKER.cooldown;
    assert_eq!(driver.fleet.wake_at(), Some(trial_at));
    driver.now = trial_at;
    assert_eq!(driver.fleet.expired(driver.now), []);
    assert!(driver.fleet.wake_at() > Some(trial_at), "woken once");
    let (only, trial) = driver.place(ANY).unwrap();
    assert_eq!(driver.place(ANY), None);
    assert_eq!(driver.waiting(), "n1: its starts failed; a trial is under way");
    // Stopped for another reason: nothing was learnt, and the next one is the trial.
    driver.fleet.ended(&only, trial, Verdict::Neutral, driver.now);
    let (_, trial) = driver.place(ANY).unwrap();
    assert_eq!(driver.place(ANY), None);
    driver.fleet.started(&only, trial);
    assert_eq!(driver.fill().len(), 2, "an environment that is up is enough to know");
}

#[test]
fn what_a_lost_node_had_is_given_up_when_its_lease_has_ended_and_once() {
    let mut driver = Driver::with_nodes(&[2, 1]);
    let fences: Vec<u64> = driver.fill().into_iter().map(|(_, fence)| fence).collect();
    driver.fleet.link_lost(&node(1), FIRST, driver.now);
    let ends = driver.now + LEASE.lease + LEASE.margin;
    assert_eq!(driver.fleet.wake_at(), Some(ends));
    driver.now = ends - SECOND;
    driver.beat(2, FIRST);
    assert_eq!(driver.fleet.expired(driver.now), []);
    assert_eq!(driver.waiting(), "n1: no link for 10 s; n2: full");
    driver.now = ends;
    let lost = driver.fleet.expired(driver.now);
    assert_eq!(lost, [Lost { node: node(1), fences: vec![fences[0], fences[1]] }]);
    assert_eq!(driver.fleet.expired(driver.now), []);
    assert!(!driver.fleet.ended(&node(1), fences[0], Verdict::Ok, driver.now), "given up");
    assert_eq!(driver.fleet.placed_count(), 1);
}

#[test]
fn a_node_that_comes_again_keeps_what_it_has_and_a_new_process_has_nothing() {
    let mut driver = Driver::with_nodes(&[2]);
    let before = driver.fleet.placed(&node(1), 1, &ANY).unwrap();
    driver.fleet.link_lost(&node(1), FIRST, driver.now);
    assert_eq!(driver.place(ANY), None);
    assert_eq!(driver.fleet.attached(&node(1), FIRST, 2, driver.now), Arrival::Again);
    assert_eq!(driver.waiting(), "n1: its lease has to be renewed");
    driver.beat(1, FIRST);
    assert_eq!(driver.placed(1), 1);
    let second = Incarnation(2);
    assert_eq!(driver.come(1, second, 2), Arrival::Restarted(vec![1]));
    assert_eq!(driver.fleet.attached(&node(1), FIRST, 2, driver.now), Arrival::Stale);
    driver.fleet.link_lost(&node(1), FIRST, driver.now);
    assert_eq!(driver.beat(1, FIRST), None, "of a process that has a successor");
    let after = driver.fleet.placed(&node(1), 2, &ANY).unwrap();
    assert!(before.term < after.term, "a message for the first process is none for the second");
    assert_eq!(driver.fill().len(), 1);
}

/// FL-3 once more: whatever kills it, it dies of what it is given.
#[test]
fn a_node_that_dies_of_its_work_again_and_again_is_left_in_peace() {
    let mut driver = Driver::with_nodes(&[4]);
    for life in 2..=4 {
        assert_eq!(driver.fill().len(), 4);
        driver.come(1, Incarnation(life), 4);
    }
    assert_eq!(driver.place(ANY), None);
}

#[test]
fn a_draining_node_goes_on_with_what_it_has_and_then_leaves() {
    let mut driver = Driver::with_nodes(&[1, 1]);
    let (_, fence) = driver.place(ANY).unwrap();
    for number in [1, 2] {
        driver.fleet.draining(&node(number), true);
    }
    assert_eq!(driver.waiting(), "n1, n2: draining");
    driver.fleet.link_lost(&node(2), FIRST, driver.now);
    driver.come(2, FIRST, 1);
    assert_eq!(driver.place(ANY), None, "a lost link does not end a drain");
    driver.come(2, Incarnation(2), 1);
    assert_eq!(driver.place(ANY).unwrap().0, node(2), "a restart does");
    assert!(driver.fleet.ended(&node(1), fence, Verdict::Ok, driver.now));
    assert!(driver.fleet.left(&node(1), driver.now).is_empty());
    assert_eq!(driver.beat(1, FIRST), None);
    assert_eq!(driver.waiting(), "n2: full");
    driver.now += SECOND * 60;
    let lost: Vec<NodeId> =
        driver.fleet.expired(driver.now).into_iter().map(|lost| lost.node).collect();
    assert_eq!(lost, [node(2)], "who left has no lease to end");
}

#[test]
fn slots_may_become_fewer_than_what_is_placed() {
    let mut driver = Driver::with_nodes(&[4]);
    let placed = driver.fill();
    driver.fleet.reported(&node(1), 1, 0);
    for (node, fence) in &placed[..3] {
        assert_eq!(driver.place(ANY), None);
        assert!(driver.fleet.ended(node, *fence, Verdict::Ok, driver.now));
    }
    assert_eq!((driver.placed(1), driver.place(ANY)), (1, None));
    driver.fleet.reported(&node(1), 2, 0);
    assert_eq!(driver.fill().len(), 1);
}

#[test]
fn a_restarted_coordinator_waits_for_the_nodes_of_its_ledger() {
    let mut driver = Driver::new(Some(LEASE));
    assert_eq!(driver.waiting(), "no node has come yet");
    for number in [1, 2] {
        driver.fleet.expected(&node(number), driver.now);
        driver.fleet.placed(&node(number), number, &ANY);
    }
    assert_eq!(driver.come(1, FIRST, 1), Arrival::New);
    assert_eq!(driver.placed(1), 1, "it is taken back");
    driver.now += SECOND * 5;
    driver.beat(1, FIRST);
    assert_eq!(driver.waiting(), "n1: full; n2: not back for 5 s");
    driver.now += SECOND * 6;
    assert_eq!(driver.fleet.expired(driver.now), [Lost { node: node(2), fences: vec![2] }]);
}

#[test]
fn a_run_without_a_cluster_is_one_node_that_is_never_given_up() {
    let mut driver = Driver::new(None);
    driver.fleet.attached(&"local".parse().unwrap(), FIRST, 3, driver.now);
    assert_eq!(driver.fill().len(), 3);
    assert_eq!(driver.fleet.wake_at(), None);
    driver.now += SECOND * 1_000_000;
    assert_eq!(driver.fleet.expired(driver.now), []);
    assert_eq!(driver.fleet.placed_count(), 3);
}

#[test]
fn many_nodes_that_wait_for_the_same_are_told_in_one_line() {
    let driver = Driver::with_nodes(&[0; 7]);
    assert_eq!(driver.waiting(), "n1, n2, n3, n4 and 3 more: full");
}

#[derive(Clone, Debug)]
enum Event {
    Attach { node: u64, incarnation: u64, slots: u32 },
    Beat { node: u64 },
    Report { node: u64, slots: u32 },
    LinkLost { node: u64 },
    Drain { node: u64 },
    Leave { node: u64 },
    Place { image: u64 },
    Start { which: usize },
    End { which: usize, verdict: Verdict },
    EndOfGivenUp { which: usize },
    Pass { tenths: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 1..4_u64;
    let verdict = prop_oneof![
        3 => Just(Verdict::Ok),
        2 => Just(Verdict::EngineFailed),
        1 => Just(Verdict::Neutral),
    ];
    prop_oneof![
        3 => (node(), 1..4_u64, 0..5_u32)
            .prop_map(|(node, incarnation, slots)| Event::Attach { node, incarnation, slots }),
        6 => node().prop_map(|node| Event::Beat { node }),
        1 => (node(), 0..5_u32).prop_map(|(node, slots)| Event::Report { node, slots }),
        1 => node().prop_map(|node| Event::LinkLost { node }),
        1 => node().prop_map(|node| Event::Drain { node }),
        1 => node().prop_map(|node| Event::Leave { node }),
        9 => (0..3_u64).prop_map(|image| Event::Place { image }),
        1 => any::<usize>().prop_map(|which| Event::Start { which }),
        6 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Event::End { which, verdict }),
        1 => any::<usize>().prop_map(|which| Event::EndOfGivenUp { which }),
        4 => (1..40_u32).prop_map(|tenths| Event::Pass { tenths }),
    ]
}

proptest! {
    /// FL-1, whatever happens to nodes and attempts; and a coordinator that sleeps until `wake_at`
    /// misses nothing.
    #[test]
    fn credits_out_are_credits_in(history in prop::collection::vec(event(), 1..200)) {
        let mut driver = Driver::new(Some(LEASE));
        let mut out: Vec<(NodeId, u64)> = Vec::new();
        let mut given_up: Vec<(NodeId, u64)> = Vec::new();
        for event in history {
            let mut lost = Vec::new();
            let now = driver.now;
            match event {
                Event::Attach { node: number, incarnation, slots } => {
                    if let Arrival::Restarted(fences) =
                        driver.fleet.attached(&node(number), Incarnation(incarnation), slots, now)
                    {
                        lost.push(Lost { node: node(number), fences });
                    }
                }
                Event::Beat { node: number } => {
                    let known = driver.fleet.nodes().get(&node(number));
                    if let Some(incarnation) = known.and_then(|node| node.incarnation) {
                        driver.beat(number, incarnation);
                    }
                }
                Event::Report { node: number, slots } => {
                    driver.fleet.reported(&node(number), slots, 0);
                }
                Event::LinkLost { node: number } => {
                    let known = driver.fleet.nodes().get(&node(number));
                    if let Some(incarnation) = known.and_then(|node| node.incarnation) {
                        driver.fleet.link_lost(&node(number), incarnation, now);
                    }
                }
                Event::Drain { node: number } => driver.fleet.draining(&node(number), true),
                Event::Leave { node: number } => {
                    lost.push(Lost { node: node(number), fences: driver.fleet.left(&node(number), now) });
                }
                Event::Place { image } => {
                    prop_assert_eq!(
                        driver.fleet.place(&Want { image }, now).is_none(),
                        driver.fleet.waiting(now).is_some(),
                        "either there is room or a reason"
                    );
                    if let Some((at, fence)) = driver.place(Want { image }) {
                        let node = &driver.fleet.nodes()[&at];
                        prop_assert!(node.link == NodeLink::Up && !node.draining);
                        prop_assert!(node.placed.len() <= node.slots as usize);
                        out.push((at, fence));
                    }
                }
                Event::Start { which } if !out.is_empty() => {
                    let (node, fence) = &out[which % out.len()];
                    driver.fleet.started(node, *fence);
                }
                Event::End { which, verdict } if !out.is_empty() => {
                    let (node, fence) = out.swap_remove(which % out.len());
                    prop_assert!(driver.fleet.ended(&node, fence, verdict, now));
                    prop_assert!(!driver.fleet.ended(&node, fence, verdict, now), "given back twice");
                }
                Event::EndOfGivenUp { which } if !given_up.is_empty() => {
                    let (node, fence) = &given_up[which % given_up.len()];
                    prop_assert!(!driver.fleet.ended(node, *fence, Verdict::Ok, now));
                }
                Event::Start { .. } | Event::End { .. } | Event::EndOfGivenUp { .. } => {}
                Event::Pass { tenths } => {
                    let until = now + SECOND / 10 * tenths;
                    while let Some(at) = driver.fleet.wake_at().filter(|at| *at <= until) {
                        driver.now = driver.now.max(at);
                        lost.extend(driver.fleet.expired(driver.now));
                        prop_assert!(driver.fleet.wake_at().is_none_or(|next| at < next));
                    }
                    driver.now = until;
                    prop_assert_eq!(driver.fleet.expired(until), []);
                }
            }
            for Lost { node, fences } in lost {
                for fence in fences {
                    let at = out.iter().position(|held| *held == (node.clone(), fence));
                    given_up.push(out.swap_remove(at.expect("given up twice, or never placed")));
                }
            }
            prop_assert_eq!(driver.fleet.placed_count(), out.len());
        }
    }
}
