//! Supervised fine-tuning: a policy learns to say what others said.
//!
//! The order of the samples, and with it every step, is a function of the seed: a run that goes on
//! from a checkpoint makes the same steps as one that was never stopped.

use std::path::Path;
use std::{fs, io};

use candle_core::{Device, Tensor, Var, safetensors};
use orcapack_tasks::defect::{Defect, Defects};

use crate::loss::aggregate::Aggregate;
use crate::loss::{self, StepCounts};
use crate::model::gradients::Gradients;
use crate::model::lora::Lora;
use crate::model::parameters::Parameters;
use crate::model::step::{self, StepError, StepSettings, TargetLogprobs};
use crate::model::weights_write::WeightsFormat;
use crate::optimizer::adamw::{AdamW, AdamWSettings};
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

/// What of a policy learns.
pub enum Trainee {
    /// All of its weights.
    Full(Parameters),
    /// Adapters of a base that stays as it is.
    Adapters { base: Parameters, lora: Lora },
}

/// A policy that learns, its optimizer, and what it learns from.
pub struct Sft {
    trainee: Trainee,
    optimizer: AdamW,
    samples: Vec<Sample>,
    settings: SftSettings,
    steps: u64,
}

impl Trainee {
    fn named(&self) -> Vec<(String, &Var)> {
        match self {
            Self::Full(parameters) => parameters.named(),
            Self::Adapters { lora, .. } => lora.named(),
        }
    }

    /// The policy as it is now.
    fn with_effective<T, E: From<candle_core::Error>>(
        &self,
        with: impl FnOnce(&Parameters) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Full(parameters) => with(parameters),
            Self::Adapters { base, lora } => with(&lora.effective(base)?),
        }
    }

    /// Of what learns, by the gradients of the policy's weights.
    fn gradients(
        &self,
        gradients: Vec<(usize, Tensor)>,
    ) -> Result<Vec<(usize, Tensor)>, StepError> {
        match self {
            Self::Full(_) => Ok(gradients),
            Self::Adapters { lora, .. } => Ok(lora.gradients(&gradients)?),
        }
    }
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
        let optimizer = AdamW::new(&trainee.named(), settings.adamw)?;
        Ok(Self { trainee, optimizer, samples, settings, steps: 0 })
    }

    /// Steps that were made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Times that the samples have been seen.
    pub fn epoch(&self) -> f64 {
        self.steps as f64 * self.settings.batch_samples as f64 / self.samples.len() as f64
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
        let mut gradients = Gradients::new(&self.trainee.named());
        let (mut loss, mut entropy) = (0.0, 0.0);
        self.trainee.with_effective(|parameters| {
            for batch in &batches {
                let (value, targets) = self.backward(parameters, batch, counts, &mut gradients)?;
                loss += value;
                entropy += targets.entropies.iter().copied().map(f64::from).sum::<f64>();
            }
            Ok::<_, SftError>(())
        })?;
        let grad_norm = gradients.clip(self.settings.clip_norm)?;
        let learning_rate = self.settings.schedule.lr(self.steps);
        self.optimizer.step(&self.trainee.named(), &gradients, learning_rate)?;
        self.steps += 1;
        Ok(SftStep {
            step: self.steps,
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
                    let own = self.trainee.gradients(group.gradients);
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
        let first = self.steps as usize * size;
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
        self.trainee.with_effective(|parameters| {
            for batch in &batches {
                let targets = step::logprobs(parameters, batch, &self.settings.step)?;
                sum -= targets.logprobs.iter().copied().map(f64::from).sum::<f64>();
                count += targets.logprobs.len();
            }
            Ok::<_, SftError>(())
        })?;
        Ok((count > 0).then(|| sum / count as f64))
    }

    /// Fills a checkpoint's folder: the policy's directory, the optimizer's state, and the adapters
    /// where there are some, which are merged in the policy's weights.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, policy: &Policy, dir: &Path) -> io::Result<()> {
        self.trainee
            .with_effective(|parameters| {
                let saved = policy.save(dir, parameters, WeightsFormat::default());
                saved.map_err(candle_core::Error::from)
            })
            .map_err(io::Error::other)?;
        if let Trainee::Adapters { lora, .. } = &self.trainee {
            // In a folder of their own: beside a config.json they would be loaded over it.
            let adapters = dir.join(ADAPTERS);
            fs::create_dir(&adapters)?;
            lora.save(&adapters, "")?;
        }
        let state = self.optimizer.state().map_err(io::Error::other)?;
        safetensors::save(&state, dir.join(OPTIMIZER)).map_err(io::Error::other)
    }

    /// Goes on behind the `steps` of a checkpoint, whose weights this was made with.
    ///
    /// # Errors
    /// A state that is not this optimizer's; nothing has changed then.
    pub fn restore(&mut self, dir: &Path, steps: u64) -> Result<(), Defects> {
        let file = dir.join(OPTIMIZER);
        let restored =
            safetensors::load(&file, &Device::Cpu).and_then(|state| self.optimizer.restore(&state));
        let unfit = |error: candle_core::Error| {
            Defect::new(&file, "the state of this policy's optimizer", error.to_string())
        };
        restored.map_err(unfit)?;
        self.steps = steps;
        Ok(())
    }
}

/// In a checkpoint's folder.
pub const ADAPTERS: &str = "adapters";
const OPTIMIZER: &str = "optimizer.safetensors";
