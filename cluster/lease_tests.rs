use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CONFIG: LeaseConfig = LeaseConfig { lease: Duration::from_secs(10), margin: SECOND };
const FIRST: Epoch = Epoch(1);

/// A node and its coordinator, with nothing in between.
struct Pair {
    node: Lessee,
    coordinator: Lessor,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut node = Lessee::default();
        node.attach(FIRST, now).unwrap();
        Self { node, coordinator: Lessor::new(CONFIG, FIRST, now), now }
    }

    fn renewal(&mut self) -> Renewal {
        let beat = self.node.beat(self.now).unwrap();
        self.coordinator.heard(beat, self.now).unwrap()
    }

    fn renew(&mut self) -> bool {
        let renewal = self.renewal();
        self.node.renewed(&renewal, self.now)
    }
}

#[test]
fn a_right_lasts_from_the_time_of_the_beat_and_not_of_its_answer() {
    let mut pair = Pair::new();
    assert!(!pair.node.valid(pair.now), "no right before the first answer");
    let start = pair.now;
    let renewal = pair.renewal();
    pair.now += SECOND * 4;
    assert!(pair.node.renewed(&renewal, pair.now));
    assert_eq!(pair.node.deadline(), Some(start + CONFIG.lease));
    assert_eq!(pair.coordinator.free_at(), Some(start + CONFIG.lease + CONFIG.margin));
}

#[test]
fn an_older_answer_never_shortens_a_right() {
    let mut pair = Pair::new();
    let first = pair.renewal();
    pair.now += SECOND;
    assert!(pair.renew());
    let deadline = pair.node.deadline();
    assert!(!pair.node.renewed(&first, pair.now), "the newer answer has made it worthless");
    let unknown = Renewal { seq: 99, ..first };
    assert!(!pair.node.renewed(&unknown, pair.now));
    assert_eq!(pair.node.deadline(), deadline);
}

#[test]
fn the_end_is_told_once_and_a_renewal_in_the_queue_does_not_undo_it() {
    let mut pair = Pair::new();
    pair.renew();
    pair.now += SECOND * 9;
    let late = pair.renewal();
    // The node's process is stopped for a while.
    pair.now += SECOND * 2;
    assert!(!pair.node.valid(pair.now));
    assert!(!pair.node.renewed(&late, pair.now), "attempts have not been stopped yet");
    assert!(!pair.node.valid(pair.now));
    assert!(pair.node.expired(pair.now));
    assert!(!pair.node.expired(pair.now), "told twice");
    assert!(pair.node.renewed(&late, pair.now), "for new attempts");
    assert!(pair.node.valid(pair.now));
}

#[test]
fn who_was_let_go_of_starts_nothing_of_before() {
    let mut pair = Pair::new();
    pair.renew();
    let before = pair.coordinator.grant();
    assert!(pair.node.may_start(before, pair.now));
    pair.now += SECOND * 11;
    assert!(pair.coordinator.expired(pair.now));
    assert!(!pair.coordinator.expired(pair.now), "told twice");
    assert_eq!(pair.coordinator.free_at(), None);
    assert!(pair.node.expired(pair.now));
    assert!(pair.renew());
    assert!(pair.coordinator.free_at().is_some());
    assert!(!pair.node.may_start(before, pair.now));
    assert!(pair.node.may_start(pair.coordinator.grant(), pair.now));
}

/// Clocks that go wrong by more than the margin, or a coordinator with another's lease.
#[test]
fn who_hears_that_it_was_let_go_of_has_no_right_whatever_its_clock_says() {
    let mut pair = Pair::new();
    pair.renew();
    assert!(pair.coordinator.expired(pair.now + SECOND * 11));
    assert!(!pair.renew());
    assert!(!pair.node.valid(pair.now));
    assert!(pair.node.expired(pair.now));
    assert!(pair.renew());
}

#[test]
fn a_higher_epoch_takes_over_with_the_right_that_there_is_and_a_lower_one_is_refused() {
    let mut pair = Pair::new();
    pair.renew();
    let (deadline, of_old) = (pair.node.deadline(), pair.renewal());
    let old = pair.coordinator.grant();
    pair.now += SECOND * 2;
    let second = Epoch(2);
    pair.coordinator = Lessor::new(CONFIG, second, pair.now);
    pair.node.attach(second, pair.now).unwrap();
    assert_eq!(pair.node.deadline(), deadline);
    assert!(!pair.node.renewed(&of_old, pair.now), "of another epoch");
    assert!(!pair.node.may_start(old, pair.now));
    assert!(pair.renew());
    assert_eq!(pair.node.deadline(), Some(pair.now + CONFIG.lease));
    let refused = StaleEpoch { theirs: FIRST, ours: second };
    assert_eq!(pair.node.attach(FIRST, pair.now), Err(refused));
    assert_eq!(pair.node.epoch(), Some(second));
    assert!(pair.node.valid(pair.now));
    assert_eq!(refused.to_string(), "a coordinator of epoch 1 came after one of epoch 2");
}

#[test]
fn a_restarted_coordinator_waits_for_nodes_that_do_not_come() {
    let mut pair = Pair::new();
    pair.renew();
    let deadline = pair.node.deadline().unwrap();
    let mut successor = Lessor::new(CONFIG, Epoch(2), pair.now);
    assert!(!successor.expired(deadline + CONFIG.margin - Duration::from_nanos(1)));
    assert!(successor.expired(deadline + CONFIG.margin));
}

#[test]
fn a_beat_that_comes_twice_or_late_holds_nothing() {
    let mut pair = Pair::new();
    let first = pair.node.beat(pair.now).unwrap();
    pair.renew();
    let free_at = pair.coordinator.free_at();
    pair.now += SECOND;
    assert_eq!(pair.coordinator.heard(first, pair.now), None);
    assert_eq!(pair.coordinator.heard(Beat { seq: 2, ..first }, pair.now), None);
    let other = Beat { epoch: Epoch(9), seq: 50 };
    assert_eq!(pair.coordinator.heard(other, pair.now), None);
    assert_eq!(pair.coordinator.free_at(), free_at);
}

#[test]
fn a_restarted_node_is_granted_a_new_term_at_once() {
    let mut pair = Pair::new();
    pair.renew();
    let before = pair.coordinator.grant();
    pair.coordinator.restarted();
    assert_eq!(pair.coordinator.free_at(), None);
    pair.node = Lessee::default();
    pair.node.attach(FIRST, pair.now).unwrap();
    assert!(pair.renew());
    assert!(!pair.node.may_start(before, pair.now), "it was for the node's previous life");
}

#[test]
fn few_beats_are_remembered_and_no_lease_overflows_the_clock() {
    let mut pair = Pair::new();
    assert_eq!(Lessee::default().beat(pair.now), None, "there is nobody to send it to");
    let oldest = pair.renewal();
    for _ in 0..BEATS_MAX {
        pair.node.beat(pair.now);
    }
    assert_eq!(pair.node.sent.len(), BEATS_MAX);
    assert!(!pair.node.renewed(&oldest, pair.now));
    let endless = Renewal { lease: Duration::MAX, ..pair.renewal() };
    assert!(!pair.node.renewed(&endless, pair.now));
    assert!(!pair.node.valid(pair.now));
}
