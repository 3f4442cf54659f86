use super::*;
use proptest::prelude::*;

const GRADED: Outcome = Outcome::Graded { reward: 1.0 };

fn failure(class: FailureClass) -> Outcome {
    Outcome::InfrastructureFailure { class, message: "x".into() }
}

fn terminals(records: &[Record]) -> Vec<u32> {
    let rollout = |record: &Record| match record {
        Record::Terminal { rollout, .. } => Some(*rollout),
        _ => None,
    };
    records.iter().filter_map(rollout).collect()
}

#[test]
fn ac2_a_failure_is_retried_within_its_limit_and_then_ends_without_a_reward() {
    let mut ledger = Ledger::new(vec![0], RetryLimits::same(2));
    let mut now = Instant::now();
    for attempt in 1..=3 {
        let (rollout, number, fence, _) = ledger.assign("n", now).unwrap();
        assert_eq!(number, attempt);
        let records = ledger.report(rollout, fence, failure(FailureClass::Oom), now).unwrap();
        assert_eq!(terminals(&records).len(), usize::from(attempt == 3));
        if attempt < 3 {
            assert!(ledger.assign("n", now).is_none(), "a retry backs off");
            now = ledger.next_ready_at().unwrap();
        }
    }
    assert!(ledger.is_complete());
}

#[test]
fn ac2_each_class_has_its_own_limit() {
    let mut ledger = Ledger::new(vec![0], RetryLimits::same(1));
    let now = Instant::now() + BACKOFF_MAX * 10;
    for class in [FailureClass::Oom, FailureClass::Daemon, FailureClass::Grader] {
        let (rollout, _, fence, _) = ledger.assign("n", now + BACKOFF_MAX).unwrap();
        let records = ledger.report(rollout, fence, failure(class), now).unwrap();
        assert!(terminals(&records).is_empty(), "the first failure of {class}");
    }
}

/// Or those that have not begun would take the room that it had.
#[test]
fn what_was_lost_with_its_node_goes_before_what_has_not_begun() {
    let mut ledger = Ledger::new(vec![0, 0, 0], RetryLimits::same(5));
    let now = Instant::now();
    let (lost, _, fence, _) = ledger.assign("n1", now).unwrap();
    ledger.report(lost, fence, failure(FailureClass::NodeLost), now).unwrap();
    assert_eq!(ledger.next(now), Some(lost));
}

#[test]
fn ac3_a_stale_fence_is_refused_and_changes_nothing() {
    let mut ledger = Ledger::new(vec![0], RetryLimits::same(5));
    let now = Instant::now();
    let (rollout, _, old, _) = ledger.assign("n", now).unwrap();
    ledger.interrupt(rollout, old).unwrap();
    let (_, _, new, _) = ledger.assign("n", now).unwrap();
    assert!(ledger.report(rollout, old, GRADED, now).is_err());
    assert!(ledger.interrupt(rollout, old).is_err());
    assert!(ledger.report(99, new, GRADED, now).is_err());
    assert_eq!((ledger.running(), ledger.ended()), (1, 0));
    assert_eq!(terminals(&ledger.report(rollout, new, GRADED, now).unwrap()), [rollout]);
    assert!(ledger.report(rollout, new, GRADED, now).is_err(), "counted twice");
}

#[test]
fn ac4_a_group_without_an_image_is_cancelled_once_and_others_go_on() {
    let mut ledger = Ledger::new(vec![0, 1, 0, 1, 0], RetryLimits::same(0));
    let now = Instant::now();
    let (first, _, fence, _) = ledger.assign("n", now).unwrap();
    let (second, _, other, _) = ledger.assign("n", now).unwrap();
    let (third, _, member, _) = ledger.assign("n", now).unwrap();
    let records = ledger.report(first, fence, failure(FailureClass::Image), now).unwrap();
    assert_eq!(terminals(&records), [0, 4], "2 is running, 1 and 3 are another group's");
    assert_eq!(terminals(&ledger.report(third, member, GRADED, now).unwrap()), [2]);
    ledger.report(second, other, GRADED, now).unwrap();
    let (last, _, fence, _) = ledger.assign("n", now).unwrap();
    assert_eq!(last, 3);
    ledger.report(last, fence, GRADED, now).unwrap();
    assert!(ledger.is_complete());
}

#[test]
fn ac4_a_lost_member_alone_runs_again() {
    let mut ledger = Ledger::new(vec![0, 0], RetryLimits::same(1));
    let now = Instant::now();
    let (first, _, fence, _) = ledger.assign("n", now).unwrap();
    let (second, _, other, _) = ledger.assign("n", now).unwrap();
    ledger.report(second, other, GRADED, now).unwrap();
    ledger.report(first, fence, failure(FailureClass::ExecTransport), now).unwrap();
    let (again, attempt, ..) = ledger.assign("n", now + BACKOFF_MAX).unwrap();
    assert_eq!((again, attempt), (first, 2));
    assert!(ledger.assign("n", now + BACKOFF_MAX).is_none());
}

fn begin(ledger: &mut Ledger, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| ledger.assign("n", now).map(|(rollout, ..)| rollout)).collect()
}

#[test]
fn what_is_held_waits_and_what_is_admitted_starts_in_the_order_of_admission() {
    let mut ledger = Ledger::held(vec![0; 8], RetryLimits::same(1));
    let now = Instant::now();
    assert!(begin(&mut ledger, now).is_empty());
    ledger.admit(4..6);
    ledger.admit(0..2);
    // Again, and beyond the plan.
    ledger.admit(4..5);
    ledger.admit(7..20);
    assert_eq!(begin(&mut ledger, now), [4, 5, 0, 1, 7]);
    assert_eq!((ledger.running(), ledger.total()), (5, 5));
}

#[test]
fn what_is_run_again_keeps_its_place_among_the_admitted() {
    let mut ledger = Ledger::held(vec![0; 6], RetryLimits::same(5));
    let now = Instant::now();
    ledger.admit(3..5);
    let (first, _, fence, _) = ledger.assign("n", now).unwrap();
    ledger.admit(0..2);
    ledger.interrupt(first, fence).unwrap();
    assert_eq!(begin(&mut ledger, now), [3, 4, 0, 1]);
}

#[test]
fn a_run_is_complete_when_it_is_closed_and_all_that_was_admitted_has_ended() {
    let mut ledger = Ledger::held(vec![0; 4], RetryLimits::same(0));
    let now = Instant::now();
    assert!(!ledger.is_complete(), "more may be admitted");
    ledger.admit(1..2);
    ledger.close();
    ledger.admit(2..3);
    assert!(!ledger.is_complete());
    let (rollout, _, fence, _) = ledger.assign("n", now).unwrap();
    ledger.report(rollout, fence, GRADED, now).unwrap();
    assert!(ledger.is_complete(), "what is admitted after the close, is not");
    assert_eq!((rollout, ledger.total()), (1, 1));
}

#[test]
fn ac4_a_visit_without_an_image_is_cancelled_with_those_that_are_held() {
    // Two visits to one task, and another task's between them.
    let mut ledger = Ledger::held(vec![7, 7, 8, 9, 9, 7], RetryLimits::same(0));
    let now = Instant::now();
    ledger.admit(0..5);
    let (first, _, fence, _) = ledger.assign("n", now).unwrap();
    let records = ledger.report(first, fence, failure(FailureClass::Image), now).unwrap();
    assert_eq!(terminals(&records), [0, 1, 5]);
    ledger.admit(5..6);
    assert_eq!(begin(&mut ledger, now), [2, 3, 4], "5 has ended before it was admitted");
}

#[test]
fn after_a_resume_what_was_running_waits_to_be_admitted_again() {
    let assigned = |rollout, fence| PastAttempt {
        rollout,
        attempt: 1,
        fence,
        node: "n".to_owned(),
        end: None,
    };
    let ended = Ended { rollout: 0, attempt: 1, outcome: GRADED };
    let past = Past {
        attempts: vec![assigned(1, 2), assigned(2, 3), assigned(3, 4)],
        ended: vec![ended],
        ..Past::default()
    };
    let mut ledger = Ledger::held(vec![0; 5], RetryLimits::same(1));
    let now = Instant::now();
    assert_eq!(ledger.resume(&past).len(), 3);
    assert_eq!((ledger.running(), ledger.total()), (3, 1));
    // 1 is nowhere to be found, 2 fails, 3 goes on, and is admitted while it does.
    ledger.interrupt(1, 2).unwrap();
    ledger.report(2, 3, failure(FailureClass::Oom), now).unwrap();
    assert!(begin(&mut ledger, now + BACKOFF_MAX).is_empty(), "nobody has admitted them");
    ledger.admit(0..4);
    assert_eq!(begin(&mut ledger, now + BACKOFF_MAX), [1, 2]);
    let again = begin(&mut ledger, now + BACKOFF_MAX * 9);
    assert!(again.is_empty(), "a retry waits only once");
    assert_eq!(terminals(&ledger.report(3, 4, GRADED, now).unwrap()), [3]);
    assert_eq!((ledger.running(), ledger.total()), (2, 4));
}

#[test]
fn ac5_only_what_has_ended_is_consumed_and_that_once() {
    let past = Past { batches: BTreeMap::from([(1, vec![2])]), ..Past::default() };
    let mut ledger = Ledger::held(vec![0; 4], RetryLimits::same(1));
    let now = Instant::now();
    ledger.resume(&past);
    ledger.admit(0..2);
    assert_eq!(ledger.consume(2, vec![0]), Err(ConsumeError::NotEnded(0)));
    assert_eq!(ledger.consume(2, vec![9]), Err(ConsumeError::NotEnded(9)));
    let (rollout, _, fence, _) = ledger.assign("n", now).unwrap();
    assert_eq!(ledger.consume(2, vec![0]), Err(ConsumeError::NotEnded(0)), "it runs");
    ledger.report(rollout, fence, GRADED, now).unwrap();
    let record = Record::Consumed { step: 2, rollouts: vec![0] };
    assert_eq!(ledger.consume(2, vec![0]), Ok(Some(record)));
    assert_eq!(ledger.consume(2, vec![0]), Ok(None));
    let twice = ConsumeError::Twice { rollout: 0, step: 2 };
    assert_eq!(ledger.consume(3, vec![0]), Err(twice));
}

#[derive(Clone, Debug)]
enum Event {
    Assign,
    Report { which: usize, failure: Option<usize> },
    StaleReport { rollout: u32, fence: u64 },
    Interrupt { which: usize },
    Admit { from: u32, count: u32 },
    Consume { step: u64, rollouts: Vec<u32> },
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Assign),
        4 => (any::<usize>(), proptest::option::of(0..FailureClass::ALL.len()))
            .prop_map(|(which, failure)| Event::Report { which, failure }),
        1 => (0..12u32, 0..40u64)
            .prop_map(|(rollout, fence)| Event::StaleReport { rollout, fence }),
        1 => any::<usize>().prop_map(|which| Event::Interrupt { which }),
        1 => (0..12u32, 1..5u32).prop_map(|(from, count)| Event::Admit { from, count }),
        1 => (0..4u64, proptest::collection::vec(0..14u32, 1..4))
            .prop_map(|(step, rollouts)| Event::Consume { step, rollouts }),
        1 => Just(Event::Crash),
    ]
}

/// What the store would know: built from records alone.
#[derive(Default)]
struct Disk {
    past: Past,
    terminals: Vec<u32>,
}

impl Disk {
    fn commit(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Assigned { rollout, attempt, fence, node } => {
                    let attempt = PastAttempt { rollout, attempt, fence, node, end: None };
                    self.past.attempts.push(attempt);
                }
                Record::AttemptEnded { fence, outcome, .. } => {
                    let end = match outcome {
                        Outcome::InfrastructureFailure { class, .. } => PastEnd::Failed(class),
                        _ => PastEnd::Graded,
                    };
                    self.end(fence, end);
                }
                Record::Interrupted { fence, .. } => self.end(fence, PastEnd::Interrupted),
                Record::Terminal { rollout, attempt, outcome } => {
                    self.terminals.push(rollout);
                    self.past.ended.push(Ended { rollout, attempt, outcome });
                }
                Record::Consumed { step, rollouts } => {
                    let before = self.past.batches.insert(step, rollouts);
                    assert_eq!(before, None, "a step has two batches");
                }
            }
        }
    }

    fn end(&mut self, fence: u64, end: PastEnd) {
        let attempt = self.past.attempts.iter_mut().find(|a| a.fence == fence).unwrap();
        assert_eq!(attempt.end.replace(end), None, "an attempt ended twice");
    }
}

proptest! {
    /// AC-1, AC-2, AC-3, AC-5: whatever happens in whatever order, crashes included, every rollout
    /// ends once, is in one batch at most and no fence is given twice. Of rollouts that are held,
    /// none begins before it is admitted.
    #[test]
    fn every_rollout_ends_exactly_once(
        groups in proptest::collection::vec(0..3u32, 1..12),
        held: bool,
        events in proptest::collection::vec(event(), 0..200),
    ) {
        let total = groups.len();
        let new = || {
            let (groups, limits) = (groups.clone(), RetryLimits::same(2));
            if held { Ledger::held(groups, limits) } else { Ledger::new(groups, limits) }
        };
        let mut admitted: BTreeSet<u32> = (0..total as u32).filter(|_| !held).collect();
        let (mut ledger, mut disk) = (new(), Disk::default());
        let mut running: Vec<(u32, u64)> = Vec::new();
        let mut now = Instant::now();
        let mut fences = BTreeSet::new();
        let found = || [true, false].into_iter().cycle();
        let drain = (0..20 * total).flat_map(|_| {
            [Event::Assign, Event::Report { which: 0, failure: None }]
        });
        let admit_all = [Event::Admit { from: 0, count: 12 }];
        for event in events.into_iter().chain(admit_all).chain(drain) {
            now += Duration::from_secs(60);
            match event {
                Event::Assign => {
                    if let Some((rollout, _, fence, record)) = ledger.assign("n", now) {
                        prop_assert!(fences.insert(fence), "fence {} twice", fence);
                        prop_assert!(admitted.contains(&rollout), "{} is held", rollout);
                        disk.commit(vec![record]);
                        running.push((rollout, fence));
                    }
                }
                Event::Report { which, failure: class } if !running.is_empty() => {
                    let (rollout, fence) = running.swap_remove(which % running.len());
                    let outcome = class.map_or(GRADED, |class| failure(FailureClass::ALL[class]));
                    disk.commit(ledger.report(rollout, fence, outcome, now).unwrap());
                }
                Event::StaleReport { rollout, fence } if !running.contains(&(rollout, fence)) => {
                    prop_assert!(ledger.report(rollout, fence, GRADED, now).is_err());
                }
                Event::Interrupt { which } if !running.is_empty() => {
                    let (rollout, fence) = running.swap_remove(which % running.len());
                    disk.commit(vec![ledger.interrupt(rollout, fence).unwrap()]);
                }
                Event::Admit { from, count } => {
                    ledger.admit(from..from + count);
                    admitted.extend(from..from + count);
                }
                Event::Consume { step, rollouts } => {
                    let again = disk.past.batches.get(&step) == Some(&rollouts);
                    let ended = rollouts.iter().all(|it| disk.terminals.contains(it));
                    match ledger.consume(step, rollouts) {
                        Ok(record) => {
                            prop_assert!(ended);
                            prop_assert_eq!(record.is_none(), again);
                            disk.commit(Vec::from_iter(record));
                        }
                        Err(_) => prop_assert!(!again),
                    }
                }
                Event::Crash => {
                    ledger = new();
                    if held {
                        admitted.clear();
                    }
                    let orphans = ledger.resume(&disk.past);
                    prop_assert_eq!(orphans.len(), running.len());
                    // Every other one is taken back, the rest are nowhere to be found.
                    running.clear();
                    for (Orphan { rollout, fence, .. }, found) in orphans.into_iter().zip(found()) {
                        if found {
                            running.push((rollout, fence));
                        } else {
                            disk.commit(vec![ledger.interrupt(rollout, fence).unwrap()]);
                        }
                    }
                }
                _ => {}
            }
            prop_assert_eq!(ledger.running(), running.len());
        }
        prop_assert_eq!(ledger.is_complete(), !held);
        ledger.close();
        prop_assert!(ledger.is_complete());
        disk.terminals.sort_unstable();
        prop_assert_eq!(disk.terminals, (0..total as u32).collect::<Vec<_>>());
        let mut batched: Vec<u32> = disk.past.batches.into_values().flatten().collect();
        let all = batched.len();
        batched.sort_unstable();
        batched.dedup();
        prop_assert_eq!(batched.len(), all, "a rollout is in two batches");
    }
}
