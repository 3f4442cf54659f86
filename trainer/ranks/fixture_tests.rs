//! A small policy, steps for it, and ranks that are threads and nothing else.

use std::time::Duration;

use candle_core::Device;

use crate::collective::memory::{MemorySettings, group};
use crate::learner::{Learner, LearnerState, Trainee};
use crate::loss::{LossKind, LossSettings};
use crate::model::config::ModelConfig;
use crate::model::lora::{Lora, LoraSettings, LoraTarget};
use crate::model::parameters::Parameters;
use crate::model::step::{Activations, StepSettings};
use crate::ops::Ops;
use crate::optimizer::adamw::AdamWSettings;
use crate::policy::Policy;
use crate::policy_step::{OldLogprobs, RlSample, RlSettings, StepBatch};
use crate::random;
use crate::ranks::reducer::Reducer;
use crate::ranks::replica::{Prepared, Replica};
use crate::samples::from_trajectory::{Sample, TrainedToken};
use crate::samples::packing::PackSettings;
use crate::text::CHATML_SPECIALS;
use crate::text::chat::ChatTemplate;
use crate::text::tokenizer::Tokenizer;

pub const VOCAB_SIZE: usize = 300;

pub fn config() -> ModelConfig {
    ModelConfig {
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        ..ModelConfig::small(VOCAB_SIZE, 1)
    }
}

pub fn policy() -> Policy {
    let texts = ["hello there, hello you", "the cat sat on the mat"];
    Policy {
        config: config(),
        tokenizer: Tokenizer::train(&texts, VOCAB_SIZE, &CHATML_SPECIALS).unwrap(),
        chat: ChatTemplate::chatml().unwrap(),
    }
}

pub fn settings() -> RlSettings {
    RlSettings {
        loss: LossSettings { tis_cap: Some(2.0), ..LossSettings::of(LossKind::Dapo) },
        micro_batch: PackSettings { row_tokens_max: 24, rows_max: 1 },
        clip_norm: 0.1,
        adamw: AdamWSettings::default(),
        step: StepSettings {
            ops: Ops::Fused,
            activations: Activations::Keep,
            logprob_chunk: 64,
            temperature: 1.0,
        },
        old: OldLogprobs::Recompute,
        overlap: true,
        shard_optimizer: false,
        bucket_bytes: 1 << 10,
    }
}

pub fn learner() -> Learner {
    let parameters = Parameters::random(&config(), 3, &Device::Cpu).unwrap();
    Learner::new(Trainee::Full(parameters), AdamWSettings::default()).unwrap()
}

pub fn adapters() -> Learner {
    let base = Parameters::random(&config(), 3, &Device::Cpu).unwrap();
    let targets = LoraTarget::ALL.into_iter().collect();
    let settings = LoraSettings { rank: 2, alpha: 4.0, targets };
    let lora = Lora::random(&config(), &settings, 5, &Device::Cpu).unwrap();
    Learner::new(Trainee::Adapters { base, lora }, AdamWSettings::default()).unwrap()
}

/// Other samples in each step, of other lengths.
pub fn batch(step: u64, samples: usize) -> StepBatch {
    let draw = |index: usize, n: u64| random::below(step, index as u64, n);
    let samples = (0..samples).map(|at| {
        let len = 4 + draw(at, 18) as usize;
        let ids = (0..len).map(|i| draw(1000 * (at + 1) + i, VOCAB_SIZE as u64) as u32).collect();
        let trained = (1..len as u32).filter(|index| !index.is_multiple_of(3));
        let trained = trained.map(|index| TrainedToken {
            index,
            sampler_logprob: -5.0 - 0.01 * index as f32,
            version: step.saturating_sub(2),
        });
        let sample = Sample { ids, trained: trained.collect(), unproven: 0 };
        RlSample { sample, advantage: [1.0, -0.5, 0.25][at % 3] }
    });
    let samples = samples.collect();
    StepBatch { step, version: step - 1, learning_rate: 1e-2, samples }
}

/// One replica for each rank of a ring, prepared by threads.
pub fn prepare(replicas: &mut [Replica], batch: &StepBatch) -> Vec<Prepared> {
    let settings = MemorySettings { timeout: Duration::from_secs(60), first_rank: 0 };
    let ranks = group(replicas.len(), settings);
    std::thread::scope(|scope| {
        let working = replicas.iter_mut().zip(ranks).map(|(replica, (rank, _))| {
            scope.spawn(move || {
                let reducer = Reducer::start(Box::new(rank), None).unwrap();
                replica.prepare(batch, &reducer, &|| false, &mut || {}).unwrap()
            })
        });
        let working: Vec<_> = working.collect();
        working.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Makes one step for each of `worlds`, by so many ranks that start from the same weights. Gives
/// the digest after each, and what there is at the end.
pub fn run(
    make: impl Fn() -> Learner,
    settings: &RlSettings,
    worlds: &[usize],
    samples: usize,
) -> (Vec<u64>, LearnerState) {
    let mut digests = Vec::new();
    let mut replicas = vec![Replica::new(make(), settings.clone())];
    for (step, world_size) in (1..).zip(worlds) {
        replicas.truncate(*world_size);
        while replicas.len() < *world_size {
            let mut replica = Replica::new(make(), settings.clone());
            replica.load(&replicas[0].state().unwrap()).unwrap();
            replicas.push(replica);
        }
        let prepared = prepare(&mut replicas, &batch(step, samples));
        assert!(prepared.iter().all(|it| it.check == prepared[0].check));
        let own = replicas.iter_mut().map(|replica| replica.commit().unwrap());
        let own: Vec<u64> = own.collect();
        assert!(own.iter().all(|digest| *digest == own[0]), "{own:?}");
        digests.push(own[0]);
    }
    (digests, replicas[0].state().unwrap())
}
