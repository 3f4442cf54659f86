//! What all layers need to know of a batch, made once per pass.

use candle_core::Device;

use crate::model::config::ModelConfig;
use crate::model::step::StepError;
use crate::ops::Ops;
use crate::ops::composed::Places;
use crate::ops::rotary::RotaryTable;
use crate::samples::batch::Batch;

/// A checked batch, and what attention needs of it.
pub struct Plan<'a> {
    pub config: &'a ModelConfig,
    pub batch: &'a Batch,
    pub attention: AttentionPlan,
}

/// As [`Ops`] says.
pub enum AttentionPlan {
    Composed(Places),
    Fused(RotaryTable),
}

impl<'a> Plan<'a> {
    /// # Errors
    /// A batch that does not fit itself or the model; [`Ops::Fused`] on another device.
    pub fn new(
        config: &'a ModelConfig,
        batch: &'a Batch,
        ops: Ops,
        device: &Device,
    ) -> Result<Self, StepError> {
        check(batch, config)?;
        let positions = batch.positions.iter().max().map_or(0, |&last| last as usize + 1);
        let rotary = RotaryTable::new(config.rope_theta, config.head_dim, positions);
        let attention = match ops {
            Ops::Composed => AttentionPlan::Composed(Places::new(batch, &rotary, device)?),
            Ops::Fused if device.is_cpu() => AttentionPlan::Fused(rotary),
            Ops::Fused => return Err(StepError::NotOnCpu(device.location())),
        };
        Ok(Self { config, batch, attention })
    }

    /// Of the batch, with those that fill it up.
    pub fn tokens(&self) -> usize {
        self.batch.rows * self.batch.len
    }
}

/// Everything that a kernel would otherwise index with, unseen.
fn check(batch: &Batch, config: &ModelConfig) -> Result<(), StepError> {
    let tokens = batch.rows * batch.len;
    let sized = |what: &str, found: usize, expected: usize| {
        if found == expected {
            return Ok(());
        }
        Err(StepError::Batch(format!("{what}: expected {expected}, found {found}")))
    };
    if tokens == 0 {
        return Err(StepError::Batch("it has no tokens".to_owned()));
    }
    sized("token ids", batch.ids.len(), tokens)?;
    sized("positions", batch.positions.len(), tokens)?;
    sized("rows of segments", batch.segments.len(), batch.rows)?;
    for (row, segments) in batch.segments.iter().enumerate() {
        let covered = segments.iter().map(|&segment| segment as usize).sum();
        sized(&format!("tokens in the segments of row {row}"), covered, batch.len)?;
    }
    let below = |what: &str, found: u32, bound: usize| {
        if (found as usize) < bound {
            return Ok(());
        }
        Err(StepError::Batch(format!("{what}: expected less than {bound}, found {found}")))
    };
    batch.ids.iter().try_for_each(|&id| below("token id", id, config.vocab_size))?;
    let positions_max = config.max_position_embeddings;
    batch.positions.iter().try_for_each(|&at| below("position", at, positions_max))?;
    batch.targets.iter().try_for_each(|target| {
        below("token id of a target", target.id, config.vocab_size)?;
        below("place of a target", target.place, tokens)
    })
}
