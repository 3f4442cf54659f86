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

#[derive(Clone, Debug)]
enum Event {
    Assign,
    Report { which: usize, failure: Option<usize> },
    StaleReport { rollout: u32, fence: u64 },
    Interrupt { which: usize },
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
                Record::Terminal { rollout, outcome, .. } => {
                    self.terminals.push(rollout);
                    self.past.ended.insert(rollout, outcome.reward());
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
    /// AC-1, AC-2, AC-3: whatever happens in whatever order, crashes included, every rollout ends
    /// once and no fence is given twice.
    #[test]
    fn every_rollout_ends_exactly_once(
        groups in proptest::collection::vec(0..3u32, 1..12),
        events in proptest::collection::vec(event(), 0..200),
    ) {
        let total = groups.len();
        let new = || Ledger::new(groups.clone(), RetryLimits::same(2));
        let (mut ledger, mut disk) = (new(), Disk::default());
        let mut running: Vec<(u32, u64)> = Vec::new();
        let mut now = Instant::now();
        let mut fences = BTreeSet::new();
        let found = || [true, false].into_iter().cycle();
        let drain = (0..20 * total).flat_map(|_| {
            [Event::Assign, Event::Report { which: 0, failure: None }]
        });
        for event in events.into_iter().chain(drain) {
            now += Duration::from_secs(60);
            match event {
                Event::Assign => {
                    if let Some((rollout, _, fence, record)) = ledger.assign("n", now) {
                        prop_assert!(fences.insert(fence), "fence {} twice", fence);
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
                Event::Crash => {
                    ledger = new();
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
        prop_assert!(ledger.is_complete());
        disk.terminals.sort_unstable();
        prop_assert_eq!(disk.terminals, (0..total as u32).collect::<Vec<_>>());
    }
}
