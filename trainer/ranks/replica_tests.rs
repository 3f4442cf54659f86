use std::fs;

use super::super::fixture_tests::{adapters, batch, learner, policy, prepare, run, settings};
use super::*;
use crate::loss::LossSettings;
use crate::ops::composed::to_host;
use crate::policy_step::OldLogprobs;

fn weights(state: &LearnerState) -> Vec<Vec<f32>> {
    state.weights.iter().map(|(_, tensor)| to_host(tensor).unwrap()).collect()
}

/// Over the largest step that a weight has made.
fn distance(found: &LearnerState, expected: &LearnerState, before: &LearnerState) -> f32 {
    let (found, expected, before) = (weights(found), weights(expected), weights(before));
    let (mut most, mut step) = (0.0_f32, 0.0_f32);
    for ((found, expected), before) in
        found.concat().iter().zip(expected.concat()).zip(before.concat())
    {
        most = most.max((found - expected).abs());
        step = step.max((expected - before).abs());
    }
    most / step
}

#[test]
fn any_number_of_ranks_learns_the_same() {
    for make in [learner, adapters] {
        let before = make().state().unwrap();
        let (_, alone) = run(make, &settings(), &[1; 3], 7);
        for world_size in [2, 3] {
            let (_, together) = run(make, &settings(), &[world_size; 3], 7);
            let distance = distance(&together, &alone, &before);
            assert!(distance < 0.02, "{world_size} ranks: {distance}");
        }
    }
}

#[test]
fn one_rank_makes_the_step_that_is_made_without_any() {
    let (batch, settings) = (batch(1, 5), settings());
    let mut learner = learner();
    let trainable = batch.trainable(&settings.micro_batch);
    let mut gradients = crate::model::gradients::Gradients::new(&learner.trainee().named());
    let samples: Vec<_> = batch.samples.iter().map(|it| &it.sample).collect();
    let advantages: Vec<f32> = batch.samples.iter().map(|it| it.advantage).collect();
    let packing = crate::samples::packing::pack(&samples, &settings.micro_batch).unwrap();
    for micro_batch in &packing.batches {
        let samples: Vec<u32> = micro_batch.targets.iter().map(|it| it.sample).collect();
        let sampler: Vec<f32> = micro_batch.targets.iter().map(|it| it.sampler_logprob).collect();
        learner
            .trainee()
            .with_effective(|parameters| {
                crate::model::step::forward_backward(
                    parameters,
                    micro_batch,
                    &settings.step,
                    &mut |targets| {
                        let inputs = crate::loss::LossInputs {
                            logprobs: &targets.logprobs,
                            old: &targets.logprobs,
                            sampler: &sampler,
                            reference: None,
                            samples: &samples,
                            advantages: &advantages,
                            step: trainable.counts,
                        };
                        Ok(crate::loss::loss(&settings.loss, &inputs).unwrap().d_logprobs)
                    },
                    &mut |group| gradients.add(group.gradients).unwrap(),
                )
            })
            .unwrap();
    }
    gradients.clip(settings.clip_norm).unwrap();
    learner.apply(&gradients, batch.learning_rate).unwrap();
    let (_, found) = run(super::super::fixture_tests::learner, &settings, &[1], 5);
    assert_eq!(weights(&found), weights(&learner.state().unwrap()));
}

#[test]
fn summing_beside_the_computation_changes_no_bit() {
    for bucket_bytes in [1, 1 << 10, 1 << 30] {
        let settings = RlSettings { bucket_bytes, ..settings() };
        let after = RlSettings { overlap: false, ..settings.clone() };
        let (beside, _) = run(learner, &settings, &[2, 2], 6);
        assert_eq!(beside, run(learner, &after, &[2, 2], 6).0);
    }
}

#[test]
fn a_sharded_optimizer_makes_the_same_steps_and_the_same_checkpoint() {
    // Where nothing is clipped, bit for bit. The norm itself is summed in another order, so that
    // what is scaled by it may differ in its last bit.
    let whole = RlSettings { clip_norm: f64::MAX, ..settings() };
    let sharded = RlSettings { shard_optimizer: true, ..whole.clone() };
    for make in [learner, adapters] {
        for world_size in [1, 2, 3] {
            let worlds = [world_size; 3];
            let (expected, _) = run(make, &whole, &worlds, 7);
            assert_eq!(run(make, &sharded, &worlds, 7).0, expected, "{world_size} ranks");
        }
    }
    let clipped = RlSettings { shard_optimizer: true, ..settings() };
    let (_, found) = run(learner, &clipped, &[3; 3], 7);
    let (_, expected) = run(learner, &settings(), &[3; 3], 7);
    assert!(distance(&found, &expected, &learner().state().unwrap()) < 1e-4);
}

#[test]
fn a_checkpoint_has_the_same_files_whether_the_optimizer_is_sharded_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let saved = |shard_optimizer: bool| {
        let settings = RlSettings { shard_optimizer, clip_norm: f64::MAX, ..settings() };
        let mut replicas: Vec<Replica> =
            (0..3).map(|_| Replica::new(learner(), settings.clone())).collect();
        prepare(&mut replicas, &batch(1, 7));
        for replica in &mut replicas {
            replica.commit().unwrap();
        }
        let parts: Vec<_> =
            replicas.iter().map(|replica| replica.state().unwrap().optimizer).collect();
        let merged = shard_optimizer.then(|| merge(&parts).unwrap());
        let dir = folder.path().join(shard_optimizer.to_string());
        replicas[0].save(&policy(), &dir, merged.as_ref()).unwrap();
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect();
        files.sort();
        files
    };
    let (whole, sharded) = (saved(false), saved(true));
    let names = |files: &[(std::ffi::OsString, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&whole), names(&sharded));
    assert!(names(&whole).iter().any(|name| name == "optimizer.safetensors"));
    let load = |dir: &str| {
        let file = folder.path().join(dir).join("optimizer.safetensors");
        let state = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
        let mut state: Vec<_> = state.into_iter().collect();
        state.sort_by(|one, other| one.0.cmp(&other.0));
        state.into_iter().map(|(name, it)| (name, to_host(&it).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(load("false"), load("true"));
    for ((name, whole), (_, sharded)) in whole.iter().zip(&sharded) {
        // Whose keys stand in any order.
        if name != "optimizer.safetensors" {
            assert_eq!(whole, sharded, "{name:?}");
        }
    }
}

#[test]
fn a_rank_without_a_sample_takes_part() {
    let (digests, state) = run(learner, &settings(), &[3, 3], 1);
    let (_, alone) = run(learner, &settings(), &[1, 1], 1);
    assert_eq!(digests.len(), 2);
    assert!(distance(&state, &alone, &learner().state().unwrap()) < 0.02);
}

#[test]
fn what_is_prepared_and_not_committed_changes_nothing() {
    for shard_optimizer in [false, true] {
        let settings = RlSettings { shard_optimizer, ..settings() };
        let mut replicas: Vec<Replica> =
            (0..2).map(|_| Replica::new(learner(), settings.clone())).collect();
        let before = replicas[0].digest().unwrap();
        prepare(&mut replicas, &batch(1, 5));
        assert_eq!(replicas[0].digest().unwrap(), before);
        replicas[0].discard();
        assert!(replicas[0].commit().is_err());
        assert_eq!((replicas[0].digest().unwrap(), replicas[0].steps()), (before, 0));
    }
}

#[test]
fn the_sums_of_all_ranks_are_those_of_the_step() {
    let prepared = |world_size: usize, settings: &RlSettings| {
        let mut replicas: Vec<Replica> =
            (0..world_size).map(|_| Replica::new(learner(), settings.clone())).collect();
        let prepared = prepare(&mut replicas, &batch(1, 7));
        let mut sums = StepSums::default();
        for Prepared { sums: own, .. } in &prepared {
            sums.loss += own.loss;
            sums.entropy += own.entropy;
            sums.metrics.add(&own.metrics);
        }
        (sums, prepared[0].grad_norm)
    };
    let loss = LossSettings { kl_coef: 0.0, ..settings().loss };
    for old in [OldLogprobs::Recompute, OldLogprobs::Sampler] {
        let settings = RlSettings { old, loss, ..settings() };
        let (alone, norm) = prepared(1, &settings);
        let (together, norm_together) = prepared(3, &settings);
        assert!((alone.loss - together.loss).abs() < 1e-5);
        assert!((alone.entropy / together.entropy - 1.0).abs() < 1e-5);
        assert!((norm / norm_together - 1.0).abs() < 1e-4);
        assert_eq!(alone.metrics.tokens, together.metrics.tokens);
        let ratio = alone.metrics.ratio_mean();
        assert_eq!(ratio == 1.0, old == OldLogprobs::Recompute, "{ratio}");
    }
}

#[test]
fn a_policy_is_held_to_its_reference() {
    let loss = LossSettings { kl_coef: 0.5, ..settings().loss };
    let settings = RlSettings { loss, ..settings() };
    let mut alone = Replica::new(learner(), settings.clone());
    let reducer = || {
        let memory = crate::collective::memory::MemorySettings {
            timeout: std::time::Duration::from_secs(60),
            first_rank: 0,
        };
        let (rank, _) = crate::collective::memory::group(1, memory).swap_remove(0);
        Reducer::start(Box::new(rank), None).unwrap()
    };
    let refused = alone.prepare(&batch(1, 3), &reducer(), &|| false, &mut || {}).unwrap_err();
    assert_eq!(refused.to_string(), "the loss: kl_coef is 0.5, and there is no reference");
    let reference = learner().effective().unwrap();
    let mut held = Replica::new(learner().with_reference(reference), settings.clone());
    let prepared = held.prepare(&batch(1, 3), &reducer(), &|| false, &mut || {}).unwrap();
    // It is its reference, still.
    assert_eq!(prepared.sums.metrics.kl_to_reference_k3(), Some(0.0));
    // Adapters have one: their base.
    let mut held = Replica::new(adapters(), settings);
    let prepared = held.prepare(&batch(1, 3), &reducer(), &|| false, &mut || {}).unwrap();
    assert!(prepared.sums.metrics.kl_to_reference_k3().is_some());
}

#[test]
fn a_step_that_is_not_wanted_any_more_stops_between_passes() {
    let mut replicas = [Replica::new(learner(), settings())];
    let memory = crate::collective::memory::MemorySettings {
        timeout: std::time::Duration::from_secs(60),
        first_rank: 0,
    };
    let (rank, _) = crate::collective::memory::group(1, memory).swap_remove(0);
    let reducer = Reducer::start(Box::new(rank), None).unwrap();
    let stopped = replicas[0].prepare(&batch(1, 5), &reducer, &|| true, &mut || {});
    assert!(matches!(stopped, Err(PrepareError::Step(StepError::Stopped))));
}
