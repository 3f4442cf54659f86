//! One step of reinforcement learning: what it learns from, and a rank's part of its gradients.

use bincode::{Decode, Encode};

use crate::learner::Learner;
use crate::loss::{self, LossError, LossInputs, LossMetrics, LossSettings, StepCounts};
use crate::model::parameters::Parameters;
use crate::model::step::{self, StepError, StepSettings, TargetLogprobs};
use crate::optimizer::adamw::AdamWSettings;
use crate::ranks::buckets::Filling;
use crate::samples::batch::Batch;
use crate::samples::from_trajectory::Sample;
use crate::samples::packing::{self, PackSettings};

/// What a policy said, and how much better it was than the rest of its group.
#[derive(Clone, Debug, PartialEq)]
pub struct RlSample {
    pub sample: Sample,
    pub advantage: f32,
}

/// A whole step, of which each rank computes its part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepBatch {
    /// Of the optimizer; 1 is the first.
    pub step: u64,
    /// Of the policy before it.
    pub version: u64,
    pub learning_rate: f64,
    pub samples: Vec<RlSample>,
}

/// How a step is made.
#[derive(Clone, Debug, PartialEq)]
pub struct RlSettings {
    pub loss: LossSettings,
    /// Of one forward and backward pass.
    pub micro_batch: PackSettings,
    /// Of the global gradient norm.
    pub clip_norm: f64,
    pub adamw: AdamWSettings,
    pub step: StepSettings,
    pub old: OldLogprobs,
    /// Whether ranks sum gradients while earlier layers still compute. The bits are the same.
    pub overlap: bool,
    /// Whether each rank keeps the optimizer's state of its own part only. A rank that is lost
    /// takes its part with it: the run ends then, and goes on from a checkpoint.
    pub shard_optimizer: bool,
    /// Gradients are summed so many bytes at a time, or a layer's, where those are more.
    pub bucket_bytes: usize,
}

/// Whose log-probabilities the loss takes for those at the beginning of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldLogprobs {
    /// The samplers': the ratio of the loss corrects for an older policy that has sampled.
    Sampler,
    /// The policy's before the step, by the same computation as the loss's own. A batch is used for
    /// one step, so they are what the pass computes anyway, and the ratio is 1; who sampled is
    /// corrected for by `tis_cap`.
    Recompute,
}

/// What of a batch can be trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// Indices of the samples, ascending.
    pub samples: Vec<usize>,
    pub counts: StepCounts,
    /// Of those samples, prompts too.
    pub tokens: usize,
    /// Samples that are longer than a row.
    pub too_long: usize,
}

/// Of one rank's samples, to be added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
pub struct StepSums {
    /// Its part of the step's loss.
    pub loss: f64,
    /// Over its targets, in nats.
    pub entropy: f64,
    pub metrics: LossMetrics,
}

impl StepBatch {
    pub fn trainable(&self, settings: &PackSettings) -> Trainable {
        let samples = self.samples.iter().enumerate();
        let (fitting, too_long): (Vec<_>, Vec<_>) = samples
            .filter(|(_, it)| !it.sample.trained.is_empty())
            .partition(|(_, it)| it.sample.ids.len() <= settings.row_tokens_max);
        let tokens = fitting.iter().map(|(_, it)| it.sample.trained.len() as u64).sum();
        Trainable {
            counts: StepCounts { tokens, samples: fitting.len() as u64 },
            tokens: fitting.iter().map(|(_, it)| it.sample.ids.len()).sum(),
            samples: fitting.into_iter().map(|(index, _)| index).collect(),
            too_long: too_long.len(),
        }
    }
}

/// Where the buckets go as they are final, in their order.
pub type OnBucket<'a> = dyn FnMut(usize, Vec<f32>) + 'a;

/// A rank's part of a step.
pub struct RankStep<'a> {
    pub learner: &'a Learner,
    pub settings: &'a RlSettings,
    pub batch: &'a StepBatch,
    /// The samples that are this rank's.
    pub samples: &'a [usize],
    /// Of the whole step.
    pub counts: StepCounts,
    /// Asked now and then: whether the step is not wanted any more.
    pub is_stopped: &'a dyn Fn() -> bool,
}

impl RankStep<'_> {
    /// The gradients of the rank's samples, by bucket.
    ///
    /// # Errors
    /// What is not finite, or does not fit the model; the device's. [`StepError::Stopped`].
    pub fn backward(
        &self,
        mut filling: Filling<'_>,
        on_bucket: &mut OnBucket<'_>,
    ) -> Result<StepSums, StepError> {
        let own = || self.samples.iter().map(|index| &self.batch.samples[*index]);
        let samples: Vec<&Sample> = own().map(|it| &it.sample).collect();
        let advantages: Vec<f32> = own().map(|it| it.advantage).collect();
        let packing = packing::pack(&samples, &self.settings.micro_batch);
        let batches = packing.map_err(|error| StepError::Batch(error.to_string()))?.batches;
        let mut sums = StepSums::default();
        if batches.is_empty() {
            filling.zeros().into_iter().for_each(|(index, bucket)| on_bucket(index, bucket));
            return Ok(sums);
        }
        self.learner.trainee().with_effective(|parameters| {
            let pass = Pass { step: self, parameters, advantages: &advantages };
            for (at, batch) in batches.iter().enumerate() {
                let is_last = at + 1 == batches.len();
                pass.run(batch, &mut filling, is_last, on_bucket, &mut sums)?;
            }
            filling.end()
        })?;
        Ok(sums)
    }

    fn go_on(&self) -> Result<(), StepError> {
        if (self.is_stopped)() { Err(StepError::Stopped) } else { Ok(()) }
    }
}

/// Of one micro-batch.
struct Pass<'a> {
    step: &'a RankStep<'a>,
    /// The policy as it is now.
    parameters: &'a Parameters,
    advantages: &'a [f32],
}

impl Pass<'_> {
    fn run(
        &self,
        batch: &Batch,
        filling: &mut Filling<'_>,
        is_last: bool,
        on_bucket: &mut OnBucket<'_>,
        sums: &mut StepSums,
    ) -> Result<(), StepError> {
        self.step.go_on()?;
        let (settings, trainee) = (self.step.settings, self.step.learner.trainee());
        let reference = self.reference(batch)?;
        let mut added = Ok(());
        let targets = step::forward_backward(
            self.parameters,
            batch,
            &settings.step,
            &mut |targets| {
                self.step.go_on()?;
                let of = self.loss(batch, targets, reference.as_deref());
                let output = of.map_err(|error| StepError::Loss(error.to_string()))?;
                sums.loss += output.value;
                sums.metrics.add(&output.metrics);
                Ok(output.d_logprobs)
            },
            &mut |group| {
                if added.is_ok() {
                    let own = trainee.gradients(group.gradients);
                    added = own.and_then(|own| filling.add(&own, is_last)).map(|done| {
                        done.into_iter().for_each(|(index, bucket)| on_bucket(index, bucket));
                    });
                }
            },
        )?;
        added?;
        sums.entropy += targets.entropies.iter().copied().map(f64::from).sum::<f64>();
        Ok(())
    }

    /// What the fixed policy says of the targets, where the loss asks for it.
    fn reference(&self, batch: &Batch) -> Result<Option<Vec<f32>>, StepError> {
        let RankStep { learner, settings, .. } = self.step;
        let asked = learner.reference().filter(|_| settings.loss.kl_coef > 0.0);
        let said = asked.map(|reference| step::logprobs(reference, batch, &settings.step));
        Ok(said.transpose()?.map(|targets| targets.logprobs))
    }

    fn loss(
        &self,
        batch: &Batch,
        targets: &TargetLogprobs,
        reference: Option<&[f32]>,
    ) -> Result<loss::LossOutput, LossError> {
        let samples: Vec<u32> = batch.targets.iter().map(|target| target.sample).collect();
        let sampler: Vec<f32> = batch.targets.iter().map(|it| it.sampler_logprob).collect();
        let old = match self.step.settings.old {
            OldLogprobs::Sampler => &sampler,
            OldLogprobs::Recompute => &targets.logprobs,
        };
        let inputs = LossInputs {
            logprobs: &targets.logprobs,
            old,
            sampler: &sampler,
            reference,
            samples: &samples,
            advantages: self.advantages,
            step: self.step.counts,
        };
        loss::loss(&self.step.settings.loss, &inputs)
    }
}
