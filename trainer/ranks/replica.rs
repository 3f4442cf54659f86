//! One rank's copy of what learns, and its part in a step: prepared first, with nothing changed,
//! then committed or let go.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use candle_core::Tensor;

use crate::collective::CollectiveError;
use crate::learner::{Learner, LearnerState};
use crate::model::parameters::Parameters;
use crate::model::step::StepError;
use crate::optimizer::Proposal;
use crate::policy::Policy;
use crate::policy_step::{RankStep, RlSettings, StepBatch, StepSums};
use crate::ranks::buckets::{Filling, Layout};
use crate::ranks::digest::Digest;
use crate::ranks::reducer::{Call, Reducer};
use crate::ranks::shards::shards;

/// Why a rank has not prepared a step.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It could not on another rank either.
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}

/// A step that can be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prepared {
    /// Of the rank's own samples.
    pub sums: StepSums,
    /// Of the whole step, before clipping.
    pub grad_norm: f64,
    /// The rank's own forward and backward passes.
    pub compute_sec: f64,
    /// What the rank then waited for its peers and the sum.
    pub reduce_sec: f64,
    /// Of what would be applied: the same on every rank.
    pub check: u64,
}

pub struct Replica {
    learner: Learner,
    settings: RlSettings,
    layout: Layout,
    staged: Option<Staged>,
}

/// What a commit makes of the weights.
enum Staged {
    Gradients { buckets: Vec<Vec<f32>>, learning_rate: f64 },
    Weights { buckets: Vec<Vec<f32>>, proposal: Proposal },
}

impl Replica {
    pub fn new(learner: Learner, settings: RlSettings) -> Self {
        let weights = learner.trainee().named().into_iter();
        let weights = weights.map(|(name, var)| (name, var.elem_count())).collect();
        let layout = Layout::new(weights, &learner.trainee().groups(), settings.bucket_bytes);
        Self { learner, settings, layout, staged: None }
    }

    pub fn steps(&self) -> u64 {
        self.learner.steps()
    }

    /// Computes the rank's part of a step, and sums it with the others'. Nothing is changed.
    /// `on_computed` is called when only the others are waited for.
    ///
    /// # Errors
    /// A step that cannot be made, or a collective that is of no use any more.
    pub fn prepare(
        &mut self,
        batch: &StepBatch,
        reducer: &Reducer,
        is_stopped: &dyn Fn() -> bool,
        on_computed: &mut dyn FnMut(),
    ) -> Result<Prepared, PrepareError> {
        self.staged = None;
        let trainable = batch.trainable(&self.settings.micro_batch);
        let tokens = |index: &usize| batch.samples[*index].sample.ids.len();
        let tokens: Vec<usize> = trainable.samples.iter().map(tokens).collect();
        let own = shards(&tokens, reducer.world_size()).swap_remove(reducer.rank());
        let own: Vec<usize> = own.into_iter().map(|at| trainable.samples[at]).collect();
        let call = match self.settings.shard_optimizer {
            true => Call::ReduceScatter,
            false => Call::AllReduce,
        };
        let started = Instant::now();
        let step = RankStep {
            learner: &self.learner,
            settings: &self.settings,
            batch,
            samples: &own,
            counts: trainable.counts,
            is_stopped,
        };
        let mut held = Vec::new();
        let sums = step.backward(Filling::new(&self.layout), &mut |_, bucket| match self
            .settings
            .overlap
        {
            true => reducer.ask(call, bucket),
            false => held.push(bucket),
        })?;
        held.into_iter().for_each(|bucket| reducer.ask(call, bucket));
        let compute_sec = started.elapsed().as_secs_f64();
        on_computed();
        let waited = Instant::now();
        let buckets = self.layout.lens().iter().map(|_| reducer.next());
        let buckets = buckets.collect::<Result<Vec<_>, _>>()?;
        let mut reduce_sec = waited.elapsed().as_secs_f64();
        let (staged, grad_norm, check) = match self.settings.shard_optimizer {
            false => self.whole(buckets, batch.learning_rate)?,
            true => {
                let waited = Instant::now();
                let staged = self.sharded(buckets, batch.learning_rate, reducer)?;
                reduce_sec += waited.elapsed().as_secs_f64();
                staged
            }
        };
        self.staged = Some(staged);
        Ok(Prepared { sums, grad_norm, compute_sec, reduce_sec, check })
    }

    fn whole(
        &self,
        mut buckets: Vec<Vec<f32>>,
        learning_rate: f64,
    ) -> Result<(Staged, f64, u64), StepError> {
        let squares = self.squares(&self.layout.weights(&buckets))?;
        let norm = squares.sqrt();
        let check = digest(buckets.iter().map(Vec::as_slice));
        buckets.iter_mut().for_each(|bucket| clip(bucket, norm, self.settings.clip_norm));
        Ok((Staged::Gradients { buckets, learning_rate }, norm, check))
    }

    /// Steps this rank's part, and gathers the others'.
    fn sharded(
        &mut self,
        mut buckets: Vec<Vec<f32>>,
        learning_rate: f64,
        reducer: &Reducer,
    ) -> Result<(Staged, f64, u64), PrepareError> {
        let (rank, world_size) = (reducer.rank(), reducer.world_size());
        let parts = self.layout.parts(rank, world_size);
        self.learner.optimizer.keep_part(&parts).map_err(StepError::from)?;
        let squares = self.squares(&own(&self.layout, &buckets, &parts))?;
        reducer.ask(Call::AllGather, to_bytes(squares, rank, world_size));
        let norm = of_bytes(&reducer.next()?).into_iter().sum::<f64>().sqrt();
        buckets.iter_mut().for_each(|bucket| clip(bucket, norm, self.settings.clip_norm));
        let named = self.learner.trainee().named();
        let gradients = own(&self.layout, &buckets, &parts);
        let proposed = self.learner.optimizer.propose(&named, &parts, &gradients, learning_rate);
        let proposal = proposed.map_err(StepError::from)?;
        for (index, (part, values)) in parts.iter().zip(&proposal.weights).enumerate() {
            self.layout.put(&mut buckets, index, part.clone(), values);
        }
        buckets.into_iter().for_each(|bucket| reducer.ask(Call::AllGather, bucket));
        let gathered = self.layout.lens().iter().map(|_| reducer.next());
        let buckets = gathered.collect::<Result<Vec<_>, _>>()?;
        let check = digest(buckets.iter().map(Vec::as_slice));
        Ok((Staged::Weights { buckets, proposal }, norm, check))
    }

    /// Summed in f64, weight by weight.
    fn squares(&self, gradients: &[&[f32]]) -> Result<f64, StepError> {
        let mut total = 0.0;
        for (name, gradient) in self.layout.names().iter().zip(gradients) {
            let squares: f64 = gradient.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            if !squares.is_finite() {
                let name = format!("the gradient of {name}");
                return Err(StepError::NotFinite { name, value: squares.sqrt() });
            }
            total += squares;
        }
        Ok(total)
    }

    /// Applies what was prepared; gives the digest of the weights.
    ///
    /// # Errors
    /// Nothing is prepared, or the device's: this replica is of no use any more.
    pub fn commit(&mut self) -> candle_core::Result<u64> {
        match self.staged.take() {
            None => candle_core::bail!("a commit of a step that is not prepared"),
            Some(Staged::Gradients { buckets, learning_rate }) => {
                self.learner.apply_host(&self.layout.weights(&buckets), learning_rate)?;
            }
            Some(Staged::Weights { buckets, proposal }) => {
                self.learner.apply_weights(&self.layout.weights(&buckets))?;
                self.learner.optimizer.accept(proposal);
            }
        }
        self.digest()
    }

    /// Lets go what was prepared.
    pub fn discard(&mut self) {
        self.staged = None;
    }

    /// Of the weights that learn.
    ///
    /// # Errors
    /// The device's.
    pub fn digest(&self) -> candle_core::Result<u64> {
        let mut digest = Digest::default();
        for (_, var) in self.learner.trainee().named() {
            crate::ops::composed::with_host(var, |values| digest.add(values))?;
        }
        Ok(digest.end())
    }

    /// # Errors
    /// The device's.
    pub fn state(&self) -> candle_core::Result<LearnerState> {
        self.learner.state()
    }

    /// # Errors
    /// A state of another policy; nothing has changed then.
    pub fn load(&mut self, state: &LearnerState) -> candle_core::Result<()> {
        self.staged = None;
        self.learner.load(state)
    }

    /// # Errors
    /// The device's.
    pub fn effective(&self) -> candle_core::Result<Parameters> {
        self.learner.effective()
    }

    /// As [`Learner::save`]; `optimizer` is the state of all ranks where each has a part.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(
        &self,
        policy: &Policy,
        dir: &Path,
        optimizer: Option<&HashMap<String, Tensor>>,
    ) -> io::Result<()> {
        match optimizer {
            None => self.learner.save(policy, dir),
            Some(optimizer) => self.learner.save_with(policy, dir, optimizer),
        }
    }
}

/// Puts the parts of the ranks, in the order of the ranks, together: the optimizer's state of which
/// each has a part.
///
/// # Errors
/// Parts that do not fit each other.
pub fn merge(parts: &[HashMap<String, Tensor>]) -> candle_core::Result<HashMap<String, Tensor>> {
    let Some(first) = parts.first() else { candle_core::bail!("no part of an optimizer's state") };
    let merged = first.iter().map(|(name, tensor)| {
        if name == crate::optimizer::adamw::STEP {
            return Ok((name.clone(), tensor.clone()));
        }
        let mut pieces = Vec::new();
        for part in parts {
            match part.get(name) {
                Some(piece) if piece.elem_count() > 0 => pieces.push(piece),
                Some(_) => {}
                None => candle_core::bail!("{name}: not in a part of the optimizer's state"),
            }
        }
        Ok((name.clone(), Tensor::cat(&pieces, 0)?))
    });
    merged.collect()
}

/// Of each weight, the elements of a part.
fn own<'b>(layout: &Layout, buckets: &'b [Vec<f32>], parts: &[Range<usize>]) -> Vec<&'b [f32]> {
    let weights = layout.weights(buckets).into_iter();
    weights.zip(parts).map(|(values, part)| &values[part.clone()]).collect()
}

fn digest<'a>(slices: impl Iterator<Item = &'a [f32]>) -> u64 {
    let mut digest = Digest::default();
    slices.for_each(|values| digest.add(values));
    digest.end()
}

/// As [`Gradients::clip`](crate::model::gradients::Gradients::clip).
fn clip(gradients: &mut [f32], norm: f64, max: f64) {
    if norm > max {
        let scale = (max / norm) as f32;
        gradients.iter_mut().for_each(|gradient| *gradient *= scale);
    }
}

/// A number of each rank, by its bytes: they pass through any wire of f32 or bf16 as they are.
fn to_bytes(value: f64, rank: usize, world_size: usize) -> Vec<f32> {
    let mut values = vec![0.0; 8 * world_size];
    let own = value.to_le_bytes().map(f32::from);
    values[8 * rank..8 * (rank + 1)].copy_from_slice(&own);
    values
}

fn of_bytes(values: &[f32]) -> Vec<f64> {
    let (numbers, _) = values.as_chunks::<8>();
    numbers.iter().map(|bytes| f64::from_le_bytes(bytes.map(|byte| byte as u8))).collect()
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
