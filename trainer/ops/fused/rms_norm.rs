//! Root mean square normalisation (Zhang & Sennrich 2019):
//! `y = x / sqrt(mean(x^2) + eps) * weight`.

use multiversion::multiversion;
use rayon::prelude::*;

use super::lanes::sum_of;
use super::room::zeros;

/// Rows of a task, and of one partial sum of the weight's gradient.
const ROWS: usize = 64;

/// Over rows of `weight.len()` values.
pub fn forward(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut y = zeros(x.len());
    let block = ROWS * weight.len();
    y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| rows(y, x, weight, eps));
    y
}

/// Adds the gradient by `x` to `d_x`, and gives that by `weight`.
pub fn backward(d_x: &mut [f32], d_y: &[f32], x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let block = ROWS * weight.len();
    let blocks = d_x.par_chunks_mut(block).zip(d_y.par_chunks(block)).zip(x.par_chunks(block));
    let partial = blocks.map(|((d_x, d_y), x)| {
        let mut d_weight = vec![0.0; weight.len()];
        rows_backward(d_x, &mut d_weight, d_y, x, weight, eps);
        d_weight
    });
    sum(partial.collect(), weight.len())
}

/// In the order of the blocks.
pub(super) fn sum(partial: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let mut total = vec![0.0; len];
    for partial in partial {
        total.iter_mut().zip(partial).for_each(|(total, x)| *total += x);
    }
    total
}

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
pub(super) fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of(x, x, |a, b| a * b) / x.len() as f32 + eps).sqrt()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn rows(y: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    for (y, x) in y.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len())) {
        let inverse = inverse_rms(x, eps);
        for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
            *y = x * inverse * weight;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn rows_backward(
    d_x: &mut [f32],
    d_weight: &mut [f32],
    d_y: &[f32],
    x: &[f32],
    weight: &[f32],
    eps: f32,
) {
    let len = weight.len();
    let mut scaled = vec![0.0; len];
    let values = d_y.chunks_exact(len).zip(x.chunks_exact(len));
    for (d_x, (d_y, x)) in d_x.chunks_exact_mut(len).zip(values) {
        row_backward(d_x, d_weight, &mut scaled, (d_y, x), weight, eps);
    }
}

/// With `n = x / rms` and `g = weight * d_y`: `d_x += (g - n mean(g n)) / rms`, and
/// `d_weight += d_y n`.
/// `scaled` is room for `g`.
#[inline(always)]
pub(super) fn row_backward(
    d_x: &mut [f32],
    d_weight: &mut [f32],
    scaled: &mut [f32],
    (d_y, x): (&[f32], &[f32]),
    weight: &[f32],
    eps: f32,
) {
    let inverse = inverse_rms(x, eps);
    let values = d_y.iter().zip(x).zip(weight);
    for ((g, d_weight), ((d_y, x), weight)) in scaled.iter_mut().zip(d_weight).zip(values) {
        *g = d_y * weight;
        *d_weight += d_y * x * inverse;
    }
    let mean = sum_of(scaled, x, |g, x| g * x) * inverse / x.len() as f32;
    for ((d_x, g), x) in d_x.iter_mut().zip(scaled).zip(x) {
        *d_x += (*g - x * inverse * mean) * inverse;
    }
}
