//! Log-probabilities of given tokens, their gradients, and the entropies beside them, row by row
//! of the logits.

use multiversion::multiversion;
use rayon::prelude::*;

use super::lanes::{exp, max, sum_of};

/// Of a row of logits, divided by the temperature.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenLogprob {
    pub logprob: f32,
    /// In nats.
    pub entropy: f32,
    /// Logarithm of the sum of exponentials; the backward pass needs it.
    pub log_sum: f32,
}

/// Of token `ids[row]` in each row of `logits` `[ids.len(), vocab]`.
pub fn forward(logits: &[f32], ids: &[u32], temperature: f32) -> Vec<TokenLogprob> {
    let vocab = logits.len() / ids.len().max(1);
    let rows = logits.par_chunks(vocab.max(1)).zip(ids);
    rows.map(|(logits, &id)| row(logits, id as usize, 1.0 / temperature)).collect()
}

/// `logits` become their own gradients: `derivative / temperature * ([j = id] - p(j))`.
/// `rows`: id, derivative of the loss by its log-probability, and log-sum of each.
pub fn backward(logits: &mut [f32], rows: &[(u32, f32, f32)], temperature: f32) {
    let vocab = logits.len() / rows.len().max(1);
    logits.par_chunks_mut(vocab.max(1)).zip(rows).for_each(|(logits, &(id, d, log_sum))| {
        row_backward(logits, d / temperature, log_sum, 1.0 / temperature);
        logits[id as usize] += d / temperature;
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn row(logits: &[f32], id: usize, scale: f32) -> TokenLogprob {
    let max = max(logits);
    let shifted = |x: f32| (x - max) * scale;
    let sum = sum_of(logits, logits, |x, _| exp(shifted(x)));
    let mean = sum_of(logits, logits, |x, _| exp(shifted(x)) * shifted(x)) / sum;
    let log_sum = sum.ln();
    TokenLogprob {
        logprob: shifted(logits[id]) - log_sum,
        entropy: log_sum - mean,
        log_sum: max * scale + log_sum,
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn row_backward(logits: &mut [f32], derivative: f32, log_sum: f32, scale: f32) {
    for x in logits {
        *x = -derivative * exp(*x * scale - log_sum);
    }
}
