//! The lines of `metrics.jsonl` of `sft`.

use serde::{Deserialize, Serialize};

/// One step of the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// 1 is the first.
    pub step: u64,
    /// Times that the samples have been seen, after it.
    pub epoch: f64,
    /// Mean over the trained tokens of the batch, in nats, before the step.
    pub loss: f64,
    /// Of the policy's distribution at those tokens, mean, in nats.
    pub entropy: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    pub samples: usize,
    /// All of the batch, prompts too.
    pub tokens: usize,
    /// Those in the loss.
    pub trained_tokens: usize,
    pub tokens_per_sec: f64,
}

/// A look at the held-out samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps before it.
    pub step: u64,
    /// Mean over their trained tokens, in nats.
    pub held_out_loss: f64,
}
