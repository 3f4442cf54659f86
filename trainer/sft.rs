//! Supervised fine-tuning: a policy learns to say what others said.
//!
//! The order of the samples, and with it every step, is a function of the seed: a run that goes on
//! from a checkpoint makes the same steps as one that was never stopped.

use std::io;
use std::path::Path;

use orcapack_tasks::defect::Defects;

use crate::learner::{Learner, Trainee};
use crate::loss::aggregate::Aggregate;
use crate::loss::{self, StepCounts};
use crate::model::gradients::Gradients;
use crate::model::parameters::Parameters;
use crate::model::step::{self, StepError, StepSettings, TargetLogprobs};
use crate::optimizer::adamw::AdamWSettings;
use crate::optimizer::schedule::Schedule;
use crate::policy::Policy;
use crate::random;
use crate::samples::batch::Batch;
use crate::samples::from_trajectory::Sample;
use crate::samples::packing::{self, PackError, PackSettings, Packing};

/// How it learns.
#[derive(Clone, Debug, PartialEq)]
pub struct SftSettings {
    /// In one step of the optimizer.
    pub batch_samples: usize,
    /// Of one forward and backward pass.
    pub micro_batch: PackSettings,
    /// Of the global gradient norm.
    pub clip_norm: f64,
    /// Of the order of the samples.
    pub seed: u64,
    pub schedule: Schedule,
    pub adamw: AdamWSettings,
    pub step: StepSettings,
}

/// What one step of the optimizer did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SftStep {
    /// 1 is the first.
    pub step: u64,
    /// Mean over the trained tokens, in nats, before the step.
    pub loss: f64,
    /// Of the policy's distribution at those tokens, mean, in nats.
    pub entropy: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    /// All of the batch, prompts too.
    pub tokens: usize,
    pub trained_tokens: usize,
}

/// Why a step was not made. Nothing of it has been applied.
#[derive(Debug, thiserror::Error)]
pub enum SftError {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}

/// A policy that learns, its optimizer, and what it learns from.
pub struct Sft {
    learner: Learner,
    samples: Vec<Sample>,
    settings: SftSettings,
}

impl Sft {
    /// At its first step. At least one sample.
    ///
    /// # Errors
    /// The device's.
    pub fn new(
        trainee: Trainee,
        samples: Vec<Sample>,
        settings: SftSettings,
    ) -> candle_core::Result<Self> {
        Ok(Self { learner: Learner::new(trainee, settings.adamw)?, samples, settings })
    }

    /// Steps that were made.
    pub fn steps(&self) -> u64 {
        self.learner.steps()
    }

    /// Times that the samples have been seen.
    pub fn epoch(&self) -> f64 {
        self.steps() as f64 * self.settings.batch_samples as f64 / self.samples.len() as f64
    }

    /// Makes the next step.
    ///
    /// # Errors
    /// What is not finite, or does not fit the model; nothing has been applied.
    pub fn step(&mut self) -> Result<SftStep, SftError> {
        let Packing { batches, sample_tokens, .. } =
            packing::pack(&self.batch(), &self.settings.micro_batch)?;
        let counts = StepCounts::of(
            batches.iter().flat_map(|batch| batch.targets.iter().map(|target| target.sample)),
        );
        let mut gradients = Gradients::new(&self.learner.trainee().named());
        let (mut loss, mut entropy) = (0.0, 0.0);
        self.learner.trainee().with_effective(|parameters| {
            for batch in &batches {
                let (value, targets) = self.backward(parameters, batch, counts, &mut gradients)?;
                loss += value;
                entropy += targets.entropies.iter().copied().map(f64::from).sum::<f64>();
            }
            Ok::<_, SftError>(())
        })?;
        let grad_norm = gradients.clip(self.settings.clip_norm)?;
        let learning_rate = self.settings.schedule.lr(self.steps());
        self.learner.apply(&gradients, learning_rate)?;
        Ok(SftStep {
            step: self.steps(),
            loss,
            entropy: entropy / counts.tokens as f64,
            grad_norm,
            learning_rate,
            tokens: sample_tokens,
            trained_tokens: counts.tokens as usize,
        })
    }

    /// Adds a batch's gradients; gives its part of the step's loss.
    fn backward(
        &self,
        parameters: &Parameters,
        batch: &Batch,
        counts: StepCounts,
        gradients: &mut Gradients,
    ) -> Result<(f64, TargetLogprobs), StepError> {
        let samples: Vec<u32> = batch.targets.iter().map(|target| target.sample).collect();
        let (mut value, mut added) = (0.0, Ok(()));
        let targets = step::forward_backward(
            parameters,
            batch,
            &self.settings.step,
            &mut |targets| {
                let mean = Aggregate::TokenMean;
                let loss = loss::sft::loss(&targets.logprobs, &samples, counts, mean, 1);
                let (part, derivatives) =
                    loss.map_err(|error| StepError::Loss(error.to_string()))?;
                value = part;
                Ok(derivatives)
            },
            &mut |group| {
                if added.is_ok() {
                    let own = self.learner.trainee().gradients(group.gradients);
                    added = own.and_then(|own| gradients.add(own));
                }
            },
        )?;
        added?;
        Ok((value, targets))
    }

    /// The next step's samples: each epoch has an order of its own.
    fn batch(&self) -> Vec<&Sample> {
        let (len, size) = (self.samples.len(), self.settings.batch_samples);
        let first = self.steps() as usize * size;
        let mut order = (0, Vec::new());
        let places = (first..first + size).map(|place| {
            let epoch = place / len;
            if order.1.is_empty() || order.0 != epoch {
                let seed = random::bits(self.settings.seed, epoch as u64);
                order = (epoch, random::permutation(len, seed));
            }
            &self.samples[order.1[place % len]]
        });
        places.collect()
    }

    /// Mean loss over the trained tokens of `samples`, in nats; `None` where there are none.
    ///
    /// # Errors
    /// As for [`Sft::step`].
    pub fn evaluate(&self, samples: &[Sample]) -> Result<Option<f64>, SftError> {
        let (mut sum, mut count) = (0.0, 0);
        let samples: Vec<&Sample> = samples.iter().collect();
        let batches = packing::pack(&samples, &self.settings.micro_batch)?.batches;
        self.learner.trainee().with_effective(|parameters| {
            for batch in &batches {
                let targets = step::logprobs(parameters, batch, &self.settings.step)?;
                sum -= targets.logprobs.iter().copied().map(f64::from).sum::<f64>();
                count += targets.logprobs.len();
            }
            Ok::<_, SftError>(())
        })?;
        Ok((count > 0).then(|| sum / count as f64))
    }

    /// Fills a checkpoint's folder, as [`Learner::save`].
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, policy: &Policy, dir: &Path) -> io::Result<()> {
        self.learner.save(policy, dir)
    }

    /// Goes on behind the `steps` of a checkpoint, whose weights this was made with.
    ///
    /// # Errors
    /// A state that is not this optimizer's; nothing has changed then.
    pub fn restore(&mut self, dir: &Path, steps: u64) -> Result<(), Defects> {
        self.learner.restore(dir, steps)
    }
}
