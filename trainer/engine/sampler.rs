//! From logits to a token.

use multiversion::multiversion;

use crate::engine::lanes::{LANES, Lanes};
use crate::engine::request::{EngineError, SamplingParams};
use crate::ops::fused::lanes::exp;

/// Weights that are summed together before they are added to the others: in a large vocabulary,
/// a sum of small numbers one by one would lose them.
const CHUNK: usize = 64;
/// Candidates that are sorted at first, to find those of `top_p`; then eight times as many.
const CANDIDATES: usize = 64;

/// What was chosen, and how likely it and others were; see
/// [`SampledToken`](super::request::SampledToken).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub id: u32,
    pub logprob: f32,
    pub top: Vec<(u32, f32)>,
}

/// Chooses the token `index` of an answer. What comes out depends on the arguments alone.
///
/// # Errors
/// [`EngineError::NotFinite`].
pub(crate) fn sample(
    logits: &[f32],
    params: &SamplingParams,
    index: u64,
    top: usize,
) -> Result<Choice, EngineError> {
    if let Some(id) = logits.iter().position(|logit| !logit.is_finite()) {
        return Err(EngineError::NotFinite { id: id as u32, index });
    }
    let is_greedy = params.temperature == 0.0;
    let temperature = if is_greedy { 1.0 } else { params.temperature };
    let distribution = Distribution::new(logits, temperature);
    let all = f64::ln(distribution.total);
    let told = distribution.likeliest(top).into_iter();
    let top = told.map(|id| (id, distribution.logprob(id, all))).collect();
    let is_whole = params.top_k == 0 && params.top_p >= 1.0;
    let uniform = uniform(params.seed, index);
    let (id, total) = if is_greedy {
        (distribution.best(), distribution.total)
    } else if is_whole {
        (choose(&distribution.weights, uniform) as u32, distribution.total)
    } else {
        let ids = distribution.candidates(params);
        let weights: Vec<f32> = ids.iter().map(|id| distribution.weights[*id as usize]).collect();
        (ids[choose(&weights, uniform)], sum(&weights))
    };
    Ok(Choice { id, logprob: distribution.logprob(id, total.ln()), top })
}

struct Distribution {
    /// Of each token: logit minus the greatest, by the temperature.
    scaled: Vec<f32>,
    /// e to the power of that.
    weights: Vec<f32>,
    /// Of all weights.
    total: f64,
}

impl Distribution {
    fn new(logits: &[f32], temperature: f32) -> Self {
        let mut scaled = logits.to_vec();
        let mut weights = vec![0.0; logits.len()];
        exponentials(&mut scaled, &mut weights, temperature);
        let total = sum(&weights);
        Self { scaled, weights, total }
    }

    fn logprob(&self, id: u32, log_total: f64) -> f32 {
        (f64::from(self.scaled[id as usize]) - log_total) as f32
    }

    /// The likeliest; the first of those that are alike.
    fn best(&self) -> u32 {
        let best = (0..self.scaled.len())
            .fold(0, |best, id| if self.scaled[id] > self.scaled[best] { id } else { best });
        best as u32
    }

    /// The `count` likeliest ids, the likeliest first, the lower first of those that are alike.
    fn likeliest(&self, count: usize) -> Vec<u32> {
        let order = |a: &u32, b: &u32| {
            let [x, y] = [a, b].map(|id| self.scaled[*id as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        let mut ids: Vec<u32> = (0..self.scaled.len() as u32).collect();
        if count == 0 {
            return Vec::new();
        }
        if count < ids.len() {
            ids.select_nth_unstable_by(count - 1, order);
            ids.truncate(count);
        }
        ids.sort_unstable_by(order);
        ids
    }

    /// The ids that `top_k`, and of these `top_p`, leaves.
    fn candidates(&self, params: &SamplingParams) -> Vec<u32> {
        let all = self.scaled.len();
        let count = if params.top_k == 0 { all } else { params.top_k.min(all) };
        if params.top_p >= 1.0 {
            return self.likeliest(count);
        }
        let mass = if count == all {
            self.total
        } else {
            self.likeliest(count).iter().map(|id| f64::from(self.weights[*id as usize])).sum()
        };
        let wanted = f64::from(params.top_p) * mass;
        let mut sorted = CANDIDATES.min(count);
        loop {
            let mut ids = self.likeliest(sorted);
            let mut reached = 0.0;
            let last = ids.iter().position(|id| {
                reached += f64::from(self.weights[*id as usize]);
                reached >= wanted
            });
            if let Some(last) = last {
                ids.truncate(last + 1);
            }
            if last.is_some() || sorted == count {
                return ids;
            }
            sorted = (sorted * 8).min(count);
        }
    }
}

/// Index of a weight, chosen with a probability in proportion to it; `uniform` is in [0, 1).
fn choose(weights: &[f32], uniform: f64) -> usize {
    let wanted = uniform * sum(weights);
    let mut reached = 0.0;
    let mut last = 0;
    for (index, chunk) in weights.chunks(CHUNK).enumerate() {
        let of_chunk = sum_chunk(chunk);
        if reached + of_chunk <= wanted {
            reached += of_chunk;
            continue;
        }
        for (at, weight) in chunk.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            reached += f64::from(*weight);
            last = index * CHUNK + at;
            if reached > wanted {
                break;
            }
        }
        break;
    }
    last
}

fn sum(weights: &[f32]) -> f64 {
    weights.chunks(CHUNK).map(sum_chunk).sum()
}

fn sum_chunk(weights: &[f32]) -> f64 {
    let mut lanes = Lanes::ZERO;
    for weights in weights.chunks(LANES) {
        for (lane, weight) in lanes.0.iter_mut().zip(weights) {
            *lane += weight;
        }
    }
    f64::from(lanes.reduce(|a, b| a + b))
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn exponentials(logits: &mut [f32], weights: &mut [f32], temperature: f32) {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (logit, weight) in logits.iter_mut().zip(weights) {
        *logit = (*logit - greatest) / temperature;
        *weight = exp(*logit);
    }
}

/// In [0, 1), from a counter: the same for the same seed and index, and nothing else is needed to
/// know it.
fn uniform(seed: u64, index: u64) -> f64 {
    let [low, high] = [index as u32, (index >> 32) as u32];
    let [a, b, ..] = philox([low, high, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let multiply = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    for _ in 0..10 {
        let (high_0, low_0) = multiply(0xD251_1F53, counter[0]);
        let (high_1, low_1) = multiply(0xCD9E_8D57, counter[2]);
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
