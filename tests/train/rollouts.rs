//! Rollouts that are admitted group by group over fake sandboxes: each ends once, is in one batch
//! at most, and none begins before it is admitted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orcapack::batches::ConsumeError;
use orcapack::config::{EvalConfig, RetryLimits};
use orcapack::embedded::Engines;
use orcapack::engine::{Engine, Site};
use orcapack::ledger::Ended;
use orcapack::store_rows::{self, AttemptRow};
use orcapack::train::rollouts::{AdmitError, Planned, Resumed, TrainRollouts};
use orcapack::under_way::Finished;
use orcapack::work::{Rollout, RunEnd};
use orcapack_actors::agent::Solver;
use orcapack_actors::fake::{FakeDriver, FakeTimes};
use orcapack_actors::sandbox::{SandboxError, Swept};
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::{FailureClass, Outcome, Task};
use tempfile::TempDir;

use crate::support;

const ONE: Outcome = Outcome::Graded { reward: 1.0 };
/// Rollouts of one visit.
const SIZE: u32 = 4;

/// A run directory, and what runs in it.
struct Lab {
    dir: TempDir,
    driver: FakeDriver,
    config: EvalConfig,
    /// Every third visit is to the same one.
    tasks: Vec<Arc<Task>>,
    visits: u32,
}

impl Lab {
    fn new(driver: FakeDriver, visits: u32, concurrent: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = EvalConfig::defaults(2, dir.path().join("cache"));
        config.rollouts.n_concurrent = concurrent;
        config.retries = RetryLimits::same(50);
        config.sandbox.breaker_cooldown = Duration::from_millis(10);
        let tasks = (0..3).map(|n| Arc::new(support::task(&format!("task-{n}")))).collect();
        Self { dir, driver, config, tasks, visits }
    }

    fn ledger(&self) -> PathBuf {
        self.dir.path().join("run.db")
    }

    async fn start(&self) -> (TrainRollouts, Resumed) {
        let agent = Solver::Trial(TrialKind::Oracle);
        let plan = (0..self.visits * SIZE).map(|id| {
            let group = id / SIZE;
            let task = self.tasks[group as usize % self.tasks.len()].clone();
            Planned { what: Rollout { task, agent: agent.clone() }, group }
        });
        let engine = Engine {
            config: &self.config,
            team: None,
            engines: &Engines::default(),
            site: Site::Here(Arc::new(self.driver.clone())),
            weights: None,
            run_id: "test".to_owned(),
            ledger: self.ledger(),
            folders: None,
        };
        TrainRollouts::start(engine, plan.collect()).await.unwrap()
    }

    fn attempts(&self) -> Vec<AttemptRow> {
        store_rows::read(&self.ledger()).unwrap().0
    }

    /// Of what counts: interrupted and lost attempts aside.
    fn graded(&self) -> Vec<u32> {
        let (attempts, results) = store_rows::read(&self.ledger()).unwrap();
        let graded = attempts.into_iter().filter(|row| row.outcome == Some(ONE));
        let graded: Vec<u32> = graded.map(|row| row.rollout).collect();
        assert_eq!(graded, results.iter().map(|row| row.rollout).collect::<Vec<_>>());
        graded
    }

    fn assert_nothing_is_left(&self, finished: &Finished) {
        assert_eq!((self.driver.live(), finished.swept), (0, Swept::default()));
    }
}

fn slow() -> FakeDriver {
    let ms = Duration::from_millis(5);
    FakeDriver::new(FakeTimes { image: ms, create: ms, exec: ms, remove: ms })
}

fn visit(group: u32) -> Range<u32> {
    group * SIZE..(group + 1) * SIZE
}

/// The next ends, in the order in which they are told; all passed.
async fn passed(run: &mut TrainRollouts, count: usize) -> Vec<u32> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let Ended { rollout, outcome, .. } = run.ended().await.expect("the run goes on");
        assert_eq!(outcome, ONE, "rollout {rollout}");
        ids.push(rollout);
    }
    ids
}

fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn visits_are_run_as_they_are_admitted_and_no_other_rollout_is() {
    let lab = Lab::new(slow(), 6, 3);
    let (mut run, resumed) = lab.start().await;
    assert_eq!(resumed, Resumed::default());
    for (done, group) in (1..).zip([4, 0, 2]) {
        run.admit(visit(group)).unwrap();
        assert_eq!(run.in_flight(), SIZE as usize);
        let ids = sorted(passed(&mut run, SIZE as usize).await);
        assert_eq!((&ids, run.in_flight()), (&visit(group).collect(), 0));
        assert_eq!(lab.attempts().len(), done * SIZE as usize, "something else was begun");
        run.consume(done as u64, &ids).await.unwrap();
    }
    run.status().wait_for(|it| (it.total, it.done) == (12, 12)).await.unwrap();
    run.close();
    assert_eq!(run.admit(visit(1)), Err(AdmitError::Closed));
    assert_eq!(run.ended().await, None);
    let finished = run.stop().await.unwrap();
    assert_eq!(finished.end, RunEnd::Complete);
    lab.assert_nothing_is_left(&finished);
    let batches = [(1, 4), (2, 0), (3, 2)].map(|(step, group)| (step, visit(group).collect()));
    assert_eq!(store_rows::batches(&lab.ledger()).unwrap(), BTreeMap::from(batches));
    let planned: Vec<u32> = store_rows::planned(&lab.ledger()).unwrap().into_keys().collect();
    assert_eq!(planned, [visit(0), visit(2), visit(4)].into_iter().flatten().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_plan_does_not_have_is_not_admitted() {
    let lab = Lab::new(slow(), 2, 3);
    let (mut run, _) = lab.start().await;
    for range in [0..9, 8..9, u32::MAX - 1..u32::MAX] {
        let error = AdmitError::NotPlanned { range: range.clone(), planned: 8 };
        assert_eq!(run.admit(range), Err(error));
    }
    assert_eq!(run.in_flight(), 0);
    assert_eq!(run.stop().await.unwrap().end, RunEnd::Drained);
    assert_eq!(lab.attempts().len(), 0);
}

#[tokio::test]
async fn ac2_killed_environments_are_made_good_within_their_visits() {
    let lab = Lab::new(slow(), 8, 8);
    let (mut run, _) = lab.start().await;
    let mut told = Vec::new();
    let mut killed = 0;
    for group in 0..8 {
        run.admit(visit(group)).unwrap();
        // Two visits are under way at any time, and each loses some of its environments.
        while run.in_flight() > SIZE as usize {
            if killed < 6 {
                killed += lab.driver.kill(2);
            }
            told.extend(passed(&mut run, 1).await);
        }
    }
    told.extend(passed(&mut run, SIZE as usize).await);
    assert!(killed > 0, "nothing was killed");
    assert_eq!(sorted(told), (0..32).collect::<Vec<_>>());
    run.close();
    let finished = run.stop().await.unwrap();
    assert_eq!(finished.end, RunEnd::Complete);
    lab.assert_nothing_is_left(&finished);
    assert_eq!(lab.graded(), (0..32).collect::<Vec<_>>());
}

#[tokio::test]
async fn ac4_one_visit_to_a_task_without_an_image_is_cancelled_and_another_goes_on() {
    let mut lab = Lab::new(slow(), 4, 1);
    lab.config.retries = RetryLimits::same(0);
    lab.driver.fail_creations([SandboxError::new(FailureClass::Image, "no image")]);
    let (mut run, _) = lab.start().await;
    run.admit(visit(0).start..visit(0).end - 1).unwrap();
    let mut cancelled = Vec::new();
    // The fourth one too, which is held.
    while cancelled.len() < SIZE as usize {
        let Ended { rollout, outcome, .. } = run.ended().await.unwrap();
        assert_eq!(outcome.reward(), None);
        cancelled.push(rollout);
    }
    assert_eq!((cancelled, run.in_flight()), (visit(0).collect(), 0));
    run.admit(visit(0)).unwrap();
    assert_eq!(run.in_flight(), 0, "it has ended");
    run.admit(visit(3)).unwrap();
    assert_eq!(passed(&mut run, SIZE as usize).await, visit(3).collect::<Vec<_>>());
    run.stop().await.unwrap();
}

#[tokio::test]
async fn ac5_a_rollout_is_consumed_once_and_a_refused_batch_leaves_nothing() {
    let lab = Lab::new(slow(), 3, 4);
    let (mut run, _) = lab.start().await;
    run.admit(0..8).unwrap();
    assert_eq!(run.consume(1, &[9]).await, Err(ConsumeError::NotEnded(9)));
    passed(&mut run, 8).await;
    run.consume(1, &[3, 1]).await.unwrap();
    let twice = ConsumeError::Twice { rollout: 1, step: 1 };
    assert_eq!(run.consume(2, &[2, 1]).await, Err(twice));
    assert_eq!(run.consume(1, &[1, 3]).await, Err(ConsumeError::OtherBatch(1)));
    run.consume(1, &[3, 1]).await.unwrap();
    run.consume(2, &[2]).await.unwrap();
    run.drain();
    run.consume(3, &[0]).await.expect("what has ended can be learnt from");
    assert_eq!(run.ended().await, None);
    run.stop().await.unwrap();
    let batches = BTreeMap::from([(1, vec![3, 1]), (2, vec![2]), (3, vec![0])]);
    assert_eq!(store_rows::batches(&lab.ledger()).unwrap(), batches);
}

#[tokio::test]
async fn a_killed_run_resumes_with_what_it_had_and_runs_nothing_twice() {
    let lab = Lab::new(slow(), 6, 3);
    let (mut run, _) = lab.start().await;
    run.admit(0..16).unwrap();
    let first = passed(&mut run, 5).await;
    run.consume(1, &first[..3]).await.unwrap();
    run.kill();
    // What ended in the meantime is told all the same.
    let mut told: BTreeSet<u32> = first.iter().copied().collect();
    while let Some(ended) = run.ended().await {
        assert!(told.insert(ended.rollout), "told twice");
    }
    let finished = run.stop().await.unwrap();
    assert_eq!(finished.end, RunEnd::Drained);
    lab.assert_nothing_is_left(&finished);

    let (mut run, resumed) = lab.start().await;
    let known: Vec<u32> = resumed.ended.iter().map(|ended| ended.rollout).collect();
    assert_eq!(known, told.iter().copied().collect::<Vec<_>>());
    assert!(resumed.ended.iter().all(|ended| ended.outcome == ONE && ended.attempt > 0));
    assert_eq!(resumed.batches, BTreeMap::from([(1, first[..3].to_vec())]));
    // The step is made again; the rest goes on in another order.
    run.consume(1, &first[..3]).await.unwrap();
    assert_eq!(run.consume(1, &first[..2]).await, Err(ConsumeError::OtherBatch(1)));
    let twice = ConsumeError::Twice { rollout: first[0], step: 1 };
    assert_eq!(run.consume(2, &first[..1]).await, Err(twice));
    run.admit(8..16).unwrap();
    run.admit(0..8).unwrap();
    assert_eq!(run.in_flight(), 16 - known.len());
    let missing = run.in_flight();
    told.extend(passed(&mut run, missing).await);
    assert_eq!(told.len(), 16, "told again");
    run.close();
    assert_eq!(run.stop().await.unwrap().end, RunEnd::Complete);
    assert_eq!(lab.graded(), (0..16).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_admitted_before_a_resume_waits_to_be_admitted_again() {
    let lab = Lab::new(slow(), 4, 2);
    let (mut run, _) = lab.start().await;
    run.admit(0..8).unwrap();
    passed(&mut run, 1).await;
    run.stop().await.unwrap();
    let begun = lab.attempts().len();
    let (mut run, resumed) = lab.start().await;
    run.admit(12..14).unwrap();
    assert_eq!(sorted(passed(&mut run, 2).await), [12, 13]);
    run.stop().await.unwrap();
    assert_eq!(lab.attempts().len(), begun + 2, "something else was begun");
    assert_eq!(lab.graded().len(), resumed.ended.len() + 2);
}

#[tokio::test]
async fn under_a_loop_that_stands_still_nothing_grows() {
    let lab = Lab::new(slow(), 100, 8);
    let (mut run, _) = lab.start().await;
    run.admit(0..8).unwrap();
    // Nobody hears how they end.
    let mut status = run.status();
    status.wait_for(|it| it.done == 8 && it.live_environments == 0).await.unwrap();
    let before = status.borrow_and_update().clone();
    // Nobody admits anything either, for as long as this takes.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert_eq!((before.total, before.queued()), (8, 0));
    assert_eq!((lab.driver.live(), run.in_flight()), (0, 8));
    assert_eq!(sorted(passed(&mut run, 8).await), (0..8).collect::<Vec<_>>());
    assert_eq!((lab.attempts().len(), run.in_flight()), (8, 0));
    run.admit(visit(50)).unwrap();
    passed(&mut run, SIZE as usize).await;
    run.stop().await.unwrap();
}

#[tokio::test]
async fn of_a_long_plan_only_what_is_admitted_is_written() {
    let lab = Lab::new(FakeDriver::default(), 25_000, 8);
    let (mut run, _) = lab.start().await;
    run.admit(visit(24_999)).unwrap();
    passed(&mut run, SIZE as usize).await;
    run.stop().await.unwrap();
    assert_eq!(store_rows::planned(&lab.ledger()).unwrap().len(), SIZE as usize);
}
