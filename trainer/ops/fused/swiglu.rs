//! `silu(gate) * up` (Shazeer 2020, GLU Variants Improve Transformer), `silu(x) = x sigmoid(x)`.

use multiversion::multiversion;
use rayon::prelude::*;

use super::lanes::{LANES, exp};
use super::room::zeros;

/// Tokens of a task.
const TOKENS: usize = 16;

/// `gate_up` `[tokens, 2 * intermediate]`, in each row first the gate: `[tokens, intermediate]`.
pub fn forward(gate_up: &[f32], intermediate: usize) -> Vec<f32> {
    let mut out = zeros(gate_up.len() / 2);
    let block = TOKENS * intermediate;
    let blocks = out.par_chunks_mut(block).zip(gate_up.par_chunks(2 * block));
    blocks.for_each(|(out, gate_up)| rows(out, gate_up, intermediate));
    out
}

/// In place: `gate_up` becomes its own gradient, and `d_out` becomes the output again, which the
/// gradient of the next weight needs.
pub fn backward(gate_up: &mut [f32], d_out: &mut [f32], intermediate: usize) {
    let block = TOKENS * intermediate;
    let blocks = d_out.par_chunks_mut(block).zip(gate_up.par_chunks_mut(2 * block));
    blocks.for_each(|(d_out, gate_up)| rows_backward(gate_up, d_out, intermediate));
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn rows(out: &mut [f32], gate_up: &[f32], intermediate: usize) {
    let rows = gate_up.chunks_exact(2 * intermediate);
    for (out, gate_up) in out.chunks_exact_mut(intermediate).zip(rows) {
        let (gate, up) = gate_up.split_at(intermediate);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
    }
}

/// `silu'(x) = s (1 + x (1 - s))` with `s = sigmoid(x)`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn rows_backward(gate_up: &mut [f32], d_out: &mut [f32], intermediate: usize) {
    let rows = gate_up.chunks_exact_mut(2 * intermediate);
    for (d_out, gate_up) in d_out.chunks_exact_mut(intermediate).zip(rows) {
        let (gate, up) = gate_up.split_at_mut(intermediate);
        let (d, d_rest) = d_out.as_chunks_mut::<LANES>();
        let (gate, gate_rest) = gate.as_chunks_mut::<LANES>();
        let (up, up_rest) = up.as_chunks_mut::<LANES>();
        for ((d, gate), up) in d.iter_mut().zip(gate).zip(up) {
            (*d, *gate, *up) = lanes_backward(*d, *gate, *up);
        }
        for ((d, gate), up) in d_rest.iter_mut().zip(gate_rest).zip(up_rest) {
            ([*d], [*gate], [*up]) = lanes_backward([*d], [*gate], [*up]);
        }
    }
}

/// By value, so that the compiler sees that nothing overlaps.
#[inline(always)]
fn lanes_backward<const N: usize>(
    mut d: [f32; N],
    mut gate: [f32; N],
    mut up: [f32; N],
) -> ([f32; N], [f32; N], [f32; N]) {
    for i in 0..N {
        let s = sigmoid(gate[i]);
        let silu = gate[i] * s;
        let d_gate = d[i] * up[i] * (s + silu * (1.0 - s));
        (d[i], gate[i], up[i]) = (silu * up[i], d_gate, d[i] * silu);
    }
    (d, gate, up)
}
