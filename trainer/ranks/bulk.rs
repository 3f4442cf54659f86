//! Tensors and batches cut into pieces, and put together again. Pure.

use std::collections::{HashMap, VecDeque};

use candle_core::{Device, Tensor, Var};

use crate::caps::{RANK_SAMPLES_MAX, RANK_TENSORS_MAX, RANK_VALUES_MAX};
use crate::learner::LearnerState;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::ops::composed::to_host;
use crate::optimizer::adamw::STEP;
use crate::policy_step::{RlSample, StepBatch};
use crate::ranks::wire::{StateHead, TensorHead, VALUES_MAX, WireSample};

/// The head of a state, and its tensors in the order of the head.
pub(super) fn cut(state: &LearnerState) -> candle_core::Result<(StateHead, Vec<Tensor>)> {
    let (weights, mut tensors) = heads(state.weights.iter().map(|(name, it)| (name, it)));
    let (optimizer, moments, optimizer_steps) = cut_optimizer(&state.optimizer)?;
    tensors.extend(moments);
    Ok((StateHead { steps: state.steps, optimizer_steps, weights, optimizer }, tensors))
}

/// The same of an optimizer alone.
pub(super) fn cut_optimizer(
    state: &HashMap<String, Tensor>,
) -> candle_core::Result<(Vec<TensorHead>, Vec<Tensor>, i64)> {
    let mut moments: Vec<_> = state.iter().filter(|(name, _)| *name != STEP).collect();
    moments.sort_by_key(|(name, _)| *name);
    let steps = match state.get(STEP) {
        Some(steps) => steps.flatten_all()?.to_vec1::<i64>()?.first().copied().unwrap_or(0),
        None => candle_core::bail!("{STEP}: not in the optimizer's state"),
    };
    let (heads, tensors) = heads(moments.into_iter());
    Ok((heads, tensors, steps))
}

pub(super) fn heads<'a>(
    named: impl Iterator<Item = (&'a String, &'a Tensor)>,
) -> (Vec<TensorHead>, Vec<Tensor>) {
    let heads = named.map(|(name, tensor)| {
        let dims = tensor.dims().iter().map(|dim| *dim as u64).collect();
        (TensorHead { name: name.clone(), dims }, tensor.clone())
    });
    heads.unzip()
}

/// The values of tensors, piece by piece.
pub(super) fn pieces(tensors: Vec<Tensor>) -> impl Iterator<Item = candle_core::Result<Vec<f32>>> {
    tensors.into_iter().flat_map(|tensor| match to_host(&tensor) {
        Ok(values) => values.chunks(VALUES_MAX).map(|piece| Ok(piece.to_vec())).collect(),
        Err(error) => vec![Err(error)],
    })
}

/// Tensors whose pieces are on their way.
pub(super) struct Gathering {
    heads: VecDeque<(TensorHead, usize)>,
    /// Of the first of them.
    values: Vec<f32>,
    done: Vec<(String, Tensor)>,
}

impl Gathering {
    /// # Errors
    /// More than a model can have.
    pub fn new(heads: impl IntoIterator<Item = TensorHead>) -> Result<Self, String> {
        let mut all = 0_usize;
        let sized = heads.into_iter().map(|head| {
            let mut dims = head.dims.iter().map(|dim| usize::try_from(*dim).ok());
            let len = dims.try_fold(1_usize, |len, dim| len.checked_mul(dim?));
            all = len.and_then(|len| all.checked_add(len)).unwrap_or(usize::MAX);
            (head, len.unwrap_or(usize::MAX))
        });
        let heads: VecDeque<_> = sized.take(RANK_TENSORS_MAX + 1).collect();
        if heads.len() > RANK_TENSORS_MAX || all > RANK_VALUES_MAX {
            return Err(format!("{} tensors with {all} values", heads.len()));
        }
        let mut gathering = Self { heads, values: Vec::new(), done: Vec::new() };
        gathering.close()?;
        Ok(gathering)
    }

    /// # Errors
    /// A piece that is not of these tensors.
    pub fn add(&mut self, piece: &[f32]) -> Result<(), String> {
        let room = self.heads.front().map_or(0, |(_, len)| len - self.values.len());
        if piece.len() > room {
            return Err(format!("{} values, where {room} are missing", piece.len()));
        }
        self.values.extend_from_slice(piece);
        self.close()
    }

    /// Makes tensors of what is whole.
    fn close(&mut self) -> Result<(), String> {
        while self.heads.front().is_some_and(|(_, len)| *len == self.values.len()) {
            let Some((head, _)) = self.heads.pop_front() else { break };
            let dims: Vec<usize> = head.dims.iter().map(|dim| *dim as usize).collect();
            let values = std::mem::take(&mut self.values);
            let tensor = Tensor::from_vec(values, dims, &Device::Cpu);
            self.done.push((head.name, tensor.map_err(|error| error.to_string())?));
        }
        Ok(())
    }

    /// All tensors, where they are whole.
    pub fn end(self) -> Result<Vec<(String, Tensor)>, Self> {
        if self.heads.is_empty() { Ok(self.done) } else { Err(self) }
    }
}

/// A state, of its tensors in the order of the head.
pub(super) fn state(
    head: &StateHead,
    tensors: Vec<(String, Tensor)>,
) -> Result<LearnerState, String> {
    let mut weights = tensors;
    let optimizer = weights.split_off(head.weights.len().min(weights.len()));
    let optimizer = optimizer_state(head.optimizer_steps, optimizer)?;
    Ok(LearnerState { steps: head.steps, weights, optimizer })
}

pub(super) fn optimizer_state(
    steps: i64,
    tensors: Vec<(String, Tensor)>,
) -> Result<HashMap<String, Tensor>, String> {
    let steps = Tensor::new(&[steps], &Device::Cpu).map_err(|error| error.to_string())?;
    Ok(tensors.into_iter().chain([(STEP.to_owned(), steps)]).collect())
}

/// A policy's weights, of tensors that are named so and have their shapes.
pub(super) fn parameters(
    config: &ModelConfig,
    tensors: Vec<(String, Tensor)>,
) -> Result<Parameters, String> {
    let mut tensors = tensors.into_iter();
    Parameters::build(config, |name, shape| match tensors.next() {
        Some((other, tensor)) if other == name && tensor.dims() == shape => {
            Var::from_tensor(&tensor).map_err(|error| error.to_string())
        }
        _ => Err(format!("{name}: another tensor in its place")),
    })
}

/// A step's batch whose samples are on their way.
pub(super) struct Batching {
    pub epoch: u64,
    batch: StepBatch,
    missing: u32,
}

impl Batching {
    /// `batch` has no samples yet, and is to have `samples`.
    ///
    /// # Errors
    /// More than a step can have.
    pub fn new(epoch: u64, batch: StepBatch, samples: u32) -> Result<Self, String> {
        if samples > RANK_SAMPLES_MAX {
            return Err(format!("{samples} samples of one step"));
        }
        Ok(Self { epoch, batch, missing: samples })
    }

    /// # Errors
    /// One too many.
    pub fn add(&mut self, sample: WireSample) -> Result<(), String> {
        self.missing = self.missing.checked_sub(1).ok_or("a sample of no step")?;
        self.batch.samples.push(RlSample::from(sample));
        Ok(())
    }

    /// The batch, where it is whole.
    pub fn end(self) -> Result<(u64, StepBatch), Self> {
        if self.missing == 0 { Ok((self.epoch, self.batch)) } else { Err(self) }
    }
}
