//! Products of activations and packed weights.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use rayon::prelude::*;

use crate::engine::lanes::{Block, Lanes, tile};
use crate::engine::weights::Packed;
use crate::ops::fused::lanes::exp;

/// Tasks for each thread: a thread that is disturbed gets fewer of them.
const TASKS_PER_THREAD: usize = 4;

/// What flows through the model: `[lanes of features, rows]`, so that a panel of an output is one
/// piece of memory, which one thread writes.
#[derive(Default)]
pub(crate) struct Activations {
    pub rows: usize,
    pub lanes: Vec<Lanes>,
}

impl Activations {
    /// Of `blocks` lanes each; what was in it is left.
    pub fn resize(&mut self, blocks: usize, rows: usize) {
        self.rows = rows;
        self.lanes.resize(blocks * rows, Lanes::ZERO);
    }

    #[inline(always)]
    pub fn at(&self, block: usize, row: usize) -> &Lanes {
        &self.lanes[block * self.rows + row]
    }
}

/// `out = a * weights`.
pub(crate) fn project(a: &Activations, weights: &Packed, out: &mut Activations) {
    out.resize(weights.panels(), a.rows);
    by_panels(out, |first, out| store(a, weights, first, out));
}

/// `out += a * weights`.
pub(crate) fn project_onto(a: &Activations, weights: &Packed, out: &mut Activations) {
    by_panels(out, |first, out| add(a, weights, first, out));
}

/// `out = silu(a * gate) * (a * up)`, for the panels of `gate` and `up` in turn.
pub(crate) fn project_gated(a: &Activations, gate_up: &Packed, out: &mut Activations) {
    out.resize(gate_up.panels() / 2, a.rows);
    by_panels(out, |first, out| store_gated(a, gate_up, first, out));
}

/// Some panels of `out` to each task, with the index of the first.
fn by_panels(out: &mut Activations, task: impl Fn(usize, &mut [Lanes]) + Sync) {
    let panels = out.lanes.len() / out.rows;
    let each = panels.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads());
    let chunks = out.lanes.par_chunks_mut(each * out.rows).enumerate();
    chunks.for_each(|(index, out)| task(index * each, out));
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn store(a: &Activations, weights: &Packed, first: usize, out: &mut [Lanes]) {
    if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        panels::<true, 1>(a, weights, first, out, |_, [sum]| sum);
    } else {
        panels::<false, 1>(a, weights, first, out, |_, [sum]| sum);
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn add(a: &Activations, weights: &Packed, first: usize, out: &mut [Lanes]) {
    if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        panels::<true, 1>(a, weights, first, out, |old, [sum]| old.zip(sum, |x, y| x + y));
    } else {
        panels::<false, 1>(a, weights, first, out, |old, [sum]| old.zip(sum, |x, y| x + y));
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn store_gated(a: &Activations, weights: &Packed, first: usize, out: &mut [Lanes]) {
    if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        panels::<true, 2>(a, weights, first, out, |_, [gate, up]| gated(gate, up));
    } else {
        panels::<false, 2>(a, weights, first, out, |_, [gate, up]| gated(gate, up));
    }
}

#[inline(always)]
fn gated(gate: Lanes, up: Lanes) -> Lanes {
    gate.zip(up, |gate, up| gate / (1.0 + exp(-gate)) * up)
}

/// The panels of `out`, each finished from `G` panels of the weights and what it held.
#[inline(always)]
fn panels<const FUSED: bool, const G: usize>(
    a: &Activations,
    weights: &Packed,
    first: usize,
    out: &mut [Lanes],
    finish: impl Fn(Lanes, [Lanes; G]) -> Lanes + Copy,
) {
    for (index, out) in out.chunks_exact_mut(a.rows).enumerate() {
        let blocks = &weights.blocks[(first + index) * G * weights.depth..][..G * weights.depth];
        let mut row = 0;
        while row < a.rows {
            row += match a.rows - row {
                1 => rows::<FUSED, 1, G>(a, blocks, row, out, finish),
                2 => rows::<FUSED, 2, G>(a, blocks, row, out, finish),
                3 => rows::<FUSED, 3, G>(a, blocks, row, out, finish),
                4 => rows::<FUSED, 4, G>(a, blocks, row, out, finish),
                5 => rows::<FUSED, 5, G>(a, blocks, row, out, finish),
                _ => rows::<FUSED, 6, G>(a, blocks, row, out, finish),
            };
        }
    }
}

/// `M` rows from `row` on, panel after panel: the sums of 6 rows of one fill AVX2's registers.
#[inline(always)]
fn rows<const FUSED: bool, const M: usize, const G: usize>(
    a: &Activations,
    blocks: &[Block],
    row: usize,
    out: &mut [Lanes],
    finish: impl Fn(Lanes, [Lanes; G]) -> Lanes,
) -> usize {
    let depth = blocks.len() / G;
    let mut sums = [[Lanes::ZERO; G]; M];
    for g in 0..G {
        let panel = &blocks[g * depth..][..depth];
        let tile = tile::<FUSED, M, 1>(depth, |m, i| a.at(i, row + m), |_, i| &panel[i]);
        for (sums, [sum]) in sums.iter_mut().zip(tile) {
            sums[g] = sum;
        }
    }
    for (out, sums) in out[row..row + M].iter_mut().zip(sums) {
        *out = finish(*out, sums);
    }
    M
}
