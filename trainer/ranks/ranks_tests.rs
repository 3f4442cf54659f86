use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use candle_core::Device;

use super::faults_tests::{Fault, Lab, group, lab};
use super::fixture_tests::{adapters, batch, learner, policy, run, settings};
use super::thread::MakeLearner;
use super::*;
use crate::learner::{ADAPTERS, Learner, Trainee};
use crate::model::lora::Lora;
use crate::policy::Policy;

const SAMPLES: usize = 7;

fn full() -> MakeLearner {
    Arc::new(|| Ok(learner()))
}

async fn plain(count: usize, settings: &RlSettings) -> Ranks {
    lab(count, full(), settings.clone(), group(), &[]).await.ranks
}

/// The buckets of the small policy, and with them the calls of a step.
fn calls() -> usize {
    let weights = learner();
    let named = weights.trainee().named().into_iter();
    let named = named.map(|(name, var)| (name, var.elem_count())).collect();
    let groups = weights.trainee().groups();
    buckets::Layout::new(named, &groups, settings().bucket_bytes).lens().len()
}

/// A step, in which the rank that tells that it has stopped is killed.
async fn step_with_a_kill(lab: &mut Lab, step: u64) -> StepReport {
    let Lab { ranks, told } = lab;
    let kill = async {
        let rank = told.recv().await.unwrap();
        ranks.kill(rank).await;
    };
    let (report, ()) = tokio::join!(ranks.step(batch(step, SAMPLES)), kill);
    report.unwrap()
}

/// Steps until all are back, and one more. Gives how many ranks each step was made by.
async fn until_all_are_back(lab: &Lab, count: usize, first: u64) -> (Vec<usize>, u64) {
    let mut worlds = Vec::new();
    for step in first..first + 2000 {
        let report = lab.ranks.step(batch(step, SAMPLES)).await.unwrap();
        worlds.push(report.world_size);
        if worlds.ends_with(&[count, count]) {
            return (worlds, report.digest);
        }
    }
    panic!("not all have come back: {worlds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_step_together_and_tell_what_they_did() {
    let ranks = plain(2, &settings()).await;
    let (expected, _) = run(learner, &settings(), &[2; 3], SAMPLES);
    for (step, digest) in (1..).zip(expected) {
        let batch = batch(step, SAMPLES);
        let report = ranks.step(batch.clone()).await.unwrap();
        assert_eq!((report.step, report.world_size, report.epoch), (step, 2, 1));
        assert_eq!((report.aborts.len(), report.digest), (0, digest));
        assert_eq!((report.samples, report.too_long), (SAMPLES, 0));
        let tokens = batch.samples.iter().map(|it| it.sample.ids.len());
        assert_eq!(report.tokens, tokens.sum::<usize>());
        assert_eq!(report.metrics.tokens as usize, report.trained_tokens);
        let age = step - 1 - step.saturating_sub(2);
        assert_eq!((report.staleness_mean, report.staleness_max), (age as f64, age));
        assert!(report.grad_norm > 0.0 && report.loss.is_finite() && report.entropy > 0.0);
        assert!(report.compute_sec > 0.0 && report.reduce_sec >= 0.0);
    }
    ranks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_killed_before_in_or_after_the_reduction_leaves_the_whole_step_to_the_others() {
    let last = calls() - 1;
    for fault in [Fault::StopsBefore(0), Fault::StopsBefore(last), Fault::StopsAfter(last)] {
        for overlap in [true, false] {
            let settings = RlSettings { overlap, ..settings() };
            let planned = [(1, 1, fault)];
            let mut lab = lab(3, full(), settings.clone(), group(), &planned).await;
            let report = step_with_a_kill(&mut lab, 1).await;
            assert_eq!((report.world_size, report.epoch), (2, 2), "{fault:?}");
            assert_eq!(report.members, [RankId(0), RankId(2)]);
            assert_eq!(report.aborts, ["rank 1 is down: killed"]);
            // It comes back, and has all that it has missed.
            let (mut worlds, digest) = until_all_are_back(&lab, 3, 2).await;
            worlds.insert(0, 2);
            let (expected, _) = run(learner, &settings, &worlds, SAMPLES);
            assert_eq!(expected.first(), Some(&report.digest), "{fault:?}");
            assert_eq!(expected.last(), Some(&digest), "{fault:?}");
            lab.ranks.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_killed_at_the_commit_is_out_and_the_step_counts() {
    let planned = [(1, 1, Fault::MissesCommit)];
    let mut lab = lab(3, full(), settings(), group(), &planned).await;
    let report = step_with_a_kill(&mut lab, 1).await;
    assert_eq!((report.world_size, report.epoch, report.aborts.len()), (3, 1, 0));
    assert_eq!(report.members, [RankId(0), RankId(2)]);
    let (mut worlds, digest) = until_all_are_back(&lab, 3, 2).await;
    worlds.insert(0, 3);
    let (expected, _) = run(learner, &settings(), &worlds, SAMPLES);
    assert_eq!((expected[0], expected.last()), (report.digest, Some(&digest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_that_never_applies_is_out_at_the_deadline() {
    let planned = [(1, 2, Fault::MissesCommit)];
    let group = GroupSettings { apply_timeout: Duration::from_secs(2), ..group() };
    let lab = lab(3, full(), settings(), group, &planned).await;
    let report = lab.ranks.step(batch(1, SAMPLES)).await.unwrap();
    assert_eq!((report.world_size, report.members), (3, vec![RankId(0), RankId(1)]));
    let (mut worlds, digest) = until_all_are_back(&lab, 3, 2).await;
    worlds.insert(0, 3);
    let (expected, _) = run(learner, &settings(), &worlds, SAMPLES);
    assert_eq!((expected[0], expected.last()), (report.digest, Some(&digest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rank_is_out_at_the_deadline_and_the_others_make_the_step() {
    let planned = [(1, 0, Fault::MissesBegin)];
    let group = GroupSettings { step_timeout: Duration::from_secs(3), ..group() };
    let lab = lab(3, full(), settings(), group, &planned).await;
    let report = lab.ranks.step(batch(1, SAMPLES)).await.unwrap();
    assert_eq!(report.aborts, ["rank 0 is late"]);
    assert_eq!(report.members, [RankId(1), RankId(2)]);
    let (mut worlds, digest) = until_all_are_back(&lab, 3, 2).await;
    worlds.insert(0, 2);
    let (expected, _) = run(learner, &settings(), &worlds, SAMPLES);
    assert_eq!((expected[0], expected.last()), (report.digest, Some(&digest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_that_sends_what_it_cannot_have_is_out() {
    let planned = [(1, 0, Fault::Finds { call: 1, place: 2 })];
    let lab = lab(3, full(), settings(), group(), &planned).await;
    let report = lab.ranks.step(batch(1, SAMPLES)).await.unwrap();
    assert_eq!((report.epoch, report.members), (2, vec![RankId(0), RankId(1)]));
    assert!(report.aborts[0].contains("rank 0: what rank 2 sent"), "{:?}", report.aborts);
    assert_eq!(run(learner, &settings(), &[2], SAMPLES).0, [report.digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_one_step_after_the_other_leave_the_same_weights() {
    let last = calls() - 1;
    let planned = [(1, 3, Fault::StopsBefore(1)), (2, 0, Fault::StopsAfter(last))];
    let mut lab = lab(4, full(), settings(), group(), &planned).await;
    let Lab { ranks, told } = &mut lab;
    let kill = async {
        for _ in 0..2 {
            let rank = told.recv().await.unwrap();
            ranks.kill(rank).await;
        }
    };
    let (report, ()) = tokio::join!(ranks.step(batch(1, SAMPLES)), kill);
    let report = report.unwrap();
    assert_eq!((report.epoch, report.members), (3, vec![RankId(1), RankId(2)]));
    let (mut worlds, digest) = until_all_are_back(&lab, 4, 2).await;
    worlds.insert(0, 2);
    let (expected, _) = run(learner, &settings(), &worlds, SAMPLES);
    assert_eq!((expected[0], expected.last()), (report.digest, Some(&digest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_that_fails_at_every_start_stays_out_and_the_others_go_on() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let make: MakeLearner = Arc::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
        0..2 => Ok(learner()),
        _ => Err("no such checkpoint".to_owned()),
    });
    let restarts = RestartSettings { max: 2, after: Duration::ZERO, ..group().restarts };
    let group = GroupSettings { restarts, ..group() };
    let planned = [(1, 1, Fault::StopsBefore(0))];
    let mut lab = lab(2, make, settings(), group, &planned).await;
    step_with_a_kill(&mut lab, 1).await;
    let mut step = 1;
    while made.load(Ordering::SeqCst) < 4 && step < 5000 {
        step += 1;
        assert_eq!(lab.ranks.step(batch(step, 1)).await.unwrap().world_size, 1);
    }
    assert_eq!(made.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rank_the_step_fails_with_the_reason() {
    let mut lab = lab(1, full(), settings(), group(), &[(1, 0, Fault::StopsBefore(0))]).await;
    let Lab { ranks, told } = &mut lab;
    let kill = async {
        let rank = told.recv().await.unwrap();
        ranks.kill(rank).await;
    };
    let (failed, ()) = tokio::join!(ranks.step(batch(1, SAMPLES)), kill);
    let expected = GroupError::NoRankLeft { why: vec!["rank 0: killed".to_owned()] };
    assert_eq!(failed.unwrap_err(), RanksError::Group(expected.clone()));
    let again = ranks.step(batch(1, SAMPLES)).await.unwrap_err();
    assert_eq!(again, RanksError::Group(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_optimizer_that_is_lost_ends_the_training() {
    let settings = RlSettings { shard_optimizer: true, ..settings() };
    let planned = [(1, 1, Fault::StopsBefore(0))];
    let mut lab = lab(2, full(), settings, group(), &planned).await;
    let Lab { ranks, told } = &mut lab;
    let kill = async {
        let rank = told.recv().await.unwrap();
        ranks.kill(rank).await;
    };
    let (failed, ()) = tokio::join!(ranks.step(batch(1, SAMPLES)), kill);
    let failed = failed.unwrap_err().to_string();
    assert_eq!(failed, "rank 1 is lost, and its part of the optimizer's state with it: killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_cannot_be_made_is_told_and_the_next_one_is_made() {
    let ranks = plain(2, &settings()).await;
    let empty = StepBatch { step: 1, ..StepBatch::default() };
    let refused = ranks.step(empty).await.unwrap_err();
    assert_eq!(refused, RanksError::Empty { step: 1, too_long: 0 });
    let mut broken = batch(1, SAMPLES);
    broken.samples[3].advantage = f32::NAN;
    let failed = ranks.step(broken).await.unwrap_err().to_string();
    assert!(failed.contains("advantage of target"), "{failed}");
    let early = ranks.step(batch(2, SAMPLES)).await.unwrap_err();
    assert_eq!(early, RanksError::Group(GroupError::Order { asked: 2, done: 0 }));
    let report = ranks.step(batch(1, SAMPLES)).await.unwrap();
    assert_eq!(run(learner, &settings(), &[2], SAMPLES).0, [report.digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why() {
    let make: MakeLearner = Arc::new(|| Err("no such checkpoint".to_owned()));
    let local = thread::Local {
        make,
        policy: Arc::new(policy()),
        settings: settings(),
        collectives: Arc::new(crate::collective::exchange::Exchange::new(Duration::ZERO)),
        threads: 1,
        pins: false,
        node: String::new(),
    };
    let setup = RanksSetup { homes: vec![Arc::new(local)], settings: settings(), group: group() };
    let failed = Ranks::start(setup).await.err().unwrap().to_string();
    assert_eq!(failed, "rank 0 does not start: no such checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_goes_on_as_if_it_had_never_stopped() {
    for (is_lora, shard_optimizer) in [(false, false), (false, true), (true, false)] {
        let make = if is_lora { adapters } else { learner };
        let settings = RlSettings { shard_optimizer, clip_norm: f64::MAX, ..settings() };
        let start = |make: MakeLearner| lab(2, make, settings.clone(), group(), &[]);
        let folder = tempfile::tempdir().unwrap();
        let ranks = start(Arc::new(move || Ok(make()))).await.ranks;
        ranks.step(batch(1, SAMPLES)).await.unwrap();
        ranks.step(batch(2, SAMPLES)).await.unwrap();
        let dir = folder.path().join("step_2");
        ranks.save(dir.clone()).await.unwrap();
        let snapshot = ranks.snapshot().await.unwrap();
        assert_eq!(snapshot.version, 2);
        let again = ranks.snapshot().await.unwrap();
        assert!(Arc::ptr_eq(&snapshot.parameters, &again.parameters), "it is taken once");
        ranks.step(batch(3, SAMPLES)).await.unwrap();
        assert_eq!(ranks.snapshot().await.unwrap().version, 3);
        ranks.stop().await;
        // What was taken has not changed since, and is what was saved.
        let policy = Policy::open(&dir).unwrap();
        let saved = policy.load(&dir, &Device::Cpu).unwrap();
        for ((name, saved), (_, taken)) in
            saved.named().into_iter().zip(snapshot.parameters.named())
        {
            let values = |var: &candle_core::Var| crate::ops::composed::to_host(var).unwrap();
            assert_eq!(values(saved), values(taken), "{name}");
        }
        let resumed: MakeLearner = Arc::new(move || {
            let trainee = match make().trainee() {
                Trainee::Full(_) => Trainee::Full(policy.load(&dir, &Device::Cpu).unwrap()),
                Trainee::Adapters { base, .. } => Trainee::Adapters {
                    base: base.duplicate().unwrap(),
                    lora: Lora::load(&dir.join(ADAPTERS), &policy.config, &Device::Cpu).unwrap(),
                },
            };
            let mut learner = Learner::new(trainee, Default::default()).unwrap();
            learner.restore(&dir, 2).map_err(|defects| format!("{defects:?}"))?;
            Ok(learner)
        });
        let ranks = start(resumed).await.ranks;
        let report = ranks.step(batch(3, SAMPLES)).await.unwrap();
        let (expected, _) = run(make, &settings, &[2; 3], SAMPLES);
        assert_eq!(expected.last(), Some(&report.digest), "{is_lora} {shard_optimizer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_differ_at_the_start_are_refused() {
    let made = Arc::new(AtomicUsize::new(0));
    let make: MakeLearner = Arc::new(move || {
        let seed = made.fetch_add(1, Ordering::SeqCst) as u64;
        let config = fixture_tests::config();
        let parameters =
            crate::model::parameters::Parameters::random(&config, seed, &Device::Cpu).unwrap();
        Ok(Learner::new(Trainee::Full(parameters), Default::default()).unwrap())
    });
    let local = thread::Local {
        make,
        policy: Arc::new(policy()),
        settings: settings(),
        collectives: Arc::new(crate::collective::exchange::Exchange::new(Duration::ZERO)),
        threads: 1,
        pins: false,
        node: String::new(),
    };
    let home: Arc<dyn Home> = Arc::new(local);
    let setup = RanksSetup { homes: vec![home; 2], settings: settings(), group: group() };
    let refused = Ranks::start(setup).await.err().unwrap();
    let RanksError::Group(GroupError::Differ { digests, .. }) = refused else { panic!() };
    assert_eq!(HashSet::from([digests.0, digests.1]).len(), 2);
}
