//! Queries, keys and values as attention wants them: normalised per head, turned by their position,
//! and each head's tokens side by side.
//!
//! `qkv` `[tokens, (heads + 2 * kv_heads) * head_dim]` is what comes of the projections: in each
//! row the queries, then the keys, then the values. `by_head`
//! `[rows, kv_heads, groups + 2, len, head_dim]` has for each key head the queries that see it
//! (there are `groups = heads / kv_heads` of them), its keys, and its values.

use multiversion::multiversion;
use rayon::prelude::*;

use super::rms_norm::{inverse_rms, row_backward, sum};
use super::room::zeros;
use crate::model::config::ModelConfig;
use crate::ops::rotary::RotaryTable;

/// Tokens of a task in the backward pass, and of one partial sum of the weights' gradients.
const TOKENS: usize = 64;

/// Sizes of the heads, and of a row of tokens.
#[derive(Clone, Copy, Debug)]
pub struct HeadShape {
    pub kv_heads: usize,
    /// Queries' heads of each key head.
    pub groups: usize,
    pub head_dim: usize,
    /// Tokens of a row.
    pub len: usize,
}

impl HeadShape {
    pub fn new(config: &ModelConfig, len: usize) -> Self {
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        Self { kv_heads, groups: heads / kv_heads, head_dim: config.head_dim, len }
    }

    /// Of a token's queries.
    pub fn queries(self) -> usize {
        self.kv_heads * self.groups * self.head_dim
    }

    /// Of a token's keys, and of its values.
    pub fn keys(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Of a token's queries, keys and values.
    pub fn qkv(self) -> usize {
        self.queries() + 2 * self.keys()
    }

    /// All that belongs to a key head in a row: its part of `by_head`.
    pub fn chunk(self) -> usize {
        (self.groups + 2) * self.len * self.head_dim
    }

    /// Where in a token's `qkv` the head is that is number `part` of those of `kv_head`.
    fn column(self, kv_head: usize, part: usize) -> usize {
        let head = match part.checked_sub(self.groups) {
            None => kv_head * self.groups + part,
            Some(kind) => self.kv_heads * (self.groups + kind) + kv_head,
        };
        head * self.head_dim
    }
}

/// The weights of the queries' and keys' norms, `[head_dim]` each, and positions of all tokens.
#[derive(Clone, Copy)]
pub struct HeadNorm<'a> {
    pub q_norm: &'a [f32],
    pub k_norm: &'a [f32],
    pub eps: f32,
    pub rotary: &'a RotaryTable,
    pub positions: &'a [u32],
}

impl<'a> HeadNorm<'a> {
    /// Of the head that is number `part` of its group; values have none.
    fn weight(&self, shape: HeadShape, part: usize) -> Option<&'a [f32]> {
        match part.checked_sub(shape.groups) {
            None => Some(self.q_norm),
            Some(0) => Some(self.k_norm),
            Some(_) => None,
        }
    }
}

/// `qkv` to `by_head`.
pub fn forward(qkv: &[f32], norm: HeadNorm<'_>, shape: HeadShape) -> Vec<f32> {
    let mut by_head = zeros(qkv.len());
    by_head.par_chunks_mut(shape.chunk()).enumerate().for_each(|(index, chunk)| {
        let (row, kv_head) = (index / shape.kv_heads, index % shape.kv_heads);
        let positions = &norm.positions[row * shape.len..][..shape.len];
        let qkv = &qkv[row * shape.len * shape.qkv()..][..shape.len * shape.qkv()];
        for (part, out) in chunk.chunks_exact_mut(shape.len * shape.head_dim).enumerate() {
            let columns = (shape.qkv(), shape.column(kv_head, part));
            match norm.weight(shape, part) {
                Some(weight) => turn(out, qkv, columns, weight, positions, norm),
                None => copy(out, qkv, columns, shape.head_dim),
            }
        }
    });
    by_head
}

/// From the gradient of `by_head` to that of `qkv`, and those of the two norms' weights.
pub fn backward(
    d_by_head: &[f32],
    qkv: &[f32],
    norm: HeadNorm<'_>,
    shape: HeadShape,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut d_qkv = zeros(qkv.len());
    let block = TOKENS * shape.qkv();
    let blocks = d_qkv.par_chunks_mut(block).zip(qkv.par_chunks(block)).enumerate();
    let partial = blocks.map(|(block, (d_qkv, qkv))| {
        let mut d_norms = (vec![0.0; shape.head_dim], vec![0.0; shape.head_dim]);
        let mut room = d_norms.clone();
        let tokens = d_qkv.chunks_exact_mut(shape.qkv()).zip(qkv.chunks_exact(shape.qkv()));
        for (token, (d_qkv, qkv)) in (block * TOKENS..).zip(tokens) {
            let out = (d_qkv, &mut d_norms, &mut room);
            token_backward(out, (d_by_head, qkv), token, norm, shape);
        }
        d_norms
    });
    let (d_q_norm, d_k_norm): (Vec<_>, Vec<_>) = partial.collect::<Vec<_>>().into_iter().unzip();
    (d_qkv, sum(d_q_norm, shape.head_dim), sum(d_k_norm, shape.head_dim))
}

/// `[rows, kv_heads, groups, len, head_dim]`, each head's outputs side by side, to
/// `[tokens, heads * head_dim]`, each token's.
pub fn to_tokens(by_head: &[f32], shape: HeadShape) -> Vec<f32> {
    let mut out = zeros(by_head.len());
    let heads = shape.kv_heads * shape.groups;
    out.par_chunks_mut(TOKENS * shape.queries()).enumerate().for_each(|(block, out)| {
        for (token, out) in (block * TOKENS..).zip(out.chunks_exact_mut(shape.queries())) {
            let (row, column) = (token / shape.len, token % shape.len);
            for (head, out) in out.chunks_exact_mut(shape.head_dim).enumerate() {
                let from = ((row * heads + head) * shape.len + column) * shape.head_dim;
                out.copy_from_slice(&by_head[from..from + shape.head_dim]);
            }
        }
    });
    out
}

/// The inverse of [`to_tokens`].
pub fn to_heads(by_token: &[f32], shape: HeadShape) -> Vec<f32> {
    let mut out = zeros(by_token.len());
    let heads = shape.kv_heads * shape.groups;
    out.par_chunks_mut(shape.len * shape.head_dim).enumerate().for_each(|(index, out)| {
        let (row, head) = (index / heads, index % heads);
        let tokens = &by_token[row * shape.len * shape.queries()..];
        copy(out, tokens, (shape.queries(), head * shape.head_dim), shape.head_dim);
    });
    out
}

/// `head_dim` columns from `from` of `tokens`, whose rows have `stride` values.
fn copy(out: &mut [f32], tokens: &[f32], (stride, from): (usize, usize), head_dim: usize) {
    for (out, token) in out.chunks_exact_mut(head_dim).zip(tokens.chunks_exact(stride)) {
        out.copy_from_slice(&token[from..from + head_dim]);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn turn(
    out: &mut [f32],
    qkv: &[f32],
    columns: (usize, usize),
    weight: &[f32],
    positions: &[u32],
    norm: HeadNorm<'_>,
) {
    let (head_dim, half) = (weight.len(), weight.len() / 2);
    let (stride, from) = columns;
    let tokens = qkv.chunks_exact(stride).zip(positions);
    for (out, (token, &position)) in out.chunks_exact_mut(head_dim).zip(tokens) {
        let x = &token[from..from + head_dim];
        let inverse = inverse_rms(x, norm.eps);
        let (cos, sin) = norm.rotary.at(position);
        let (out_a, out_b) = out.split_at_mut(half);
        let ((a, b), (weight_a, weight_b)) = (x.split_at(half), weight.split_at(half));
        let turned = out_a.iter_mut().zip(out_b).zip(cos.iter().zip(sin));
        let normed = a.iter().zip(b).zip(weight_a.iter().zip(weight_b));
        for (((out_a, out_b), (cos, sin)), ((a, b), (weight_a, weight_b))) in turned.zip(normed) {
            let (a, b) = (a * inverse * weight_a, b * inverse * weight_b);
            (*out_a, *out_b) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
}

/// Two vectors of a head's length.
type Pair = (Vec<f32>, Vec<f32>);

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn token_backward(
    (d_qkv, d_norms, (normed, scaled)): (&mut [f32], &mut Pair, &mut Pair),
    (d_by_head, qkv): (&[f32], &[f32]),
    token: usize,
    norm: HeadNorm<'_>,
    shape: HeadShape,
) {
    let (head_dim, half) = (shape.head_dim, shape.head_dim / 2);
    let (row, column) = (token / shape.len, token % shape.len);
    let (cos, sin) = norm.rotary.at(norm.positions[token]);
    for kv_head in 0..shape.kv_heads {
        for part in 0..shape.groups + 2 {
            let head = (row * shape.kv_heads + kv_head) * (shape.groups + 2) + part;
            let d = &d_by_head[(head * shape.len + column) * head_dim..][..head_dim];
            let from = shape.column(kv_head, part);
            let d_x = &mut d_qkv[from..from + head_dim];
            let Some(weight) = norm.weight(shape, part) else {
                d_x.copy_from_slice(d);
                continue;
            };
            // The turn is orthogonal: back by the same angle.
            let ((d_a, d_b), (a, b)) = (d.split_at(half), normed.split_at_mut(half));
            let angles = cos.iter().zip(sin);
            for (((a, b), (d_a, d_b)), (cos, sin)) in
                a.iter_mut().zip(b).zip(d_a.iter().zip(d_b)).zip(angles)
            {
                (*a, *b) = (d_a * cos + d_b * sin, d_b * cos - d_a * sin);
            }
            let d_weight = if part < shape.groups { &mut d_norms.0 } else { &mut d_norms.1 };
            let x = &qkv[from..from + head_dim];
            row_backward(d_x, d_weight, scaled, (normed, x), weight, norm.eps);
        }
    }
}
