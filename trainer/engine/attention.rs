//! Causal grouped-query attention over the pages of the cache.
//!
//! Key-value heads are worked on side by side; a head first writes the keys and values of all new
//! tokens, then lets all its queries read: so one sequence may read what another adds in the same
//! step.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use rayon::prelude::*;

use crate::engine::cache::{HeadCache, PAGE_TOKENS};
use crate::engine::forward::Piece;
use crate::engine::lanes::{LANES, Lanes, lanes_of, tile};
use crate::engine::matmul::Activations;
use crate::engine::norm::rms_norm_head;
use crate::engine::weights::LayerWeights;
use crate::model::config::ModelConfig;
use crate::ops::fused::lanes::exp;

/// What all heads of a layer share.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub config: &'a ModelConfig,
    pub layer: &'a LayerWeights,
    pub angles: &'a Angles,
    /// Page and offset of each row.
    pub places: &'a [(u32, usize)],
    pub pieces: &'a [Piece<'a>],
}

/// Rotary embedding (Su et al. 2021, "RoFormer"), halves paired: cosines and sines of the rows of
/// a step, the same for all heads and layers.
pub(crate) struct Angles {
    frequencies: Vec<f32>,
    /// `[rows, head_dim / 2]`.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Angles {
    pub fn new(head_dim: usize, theta: f64) -> Self {
        let exponent = |i: usize| (2 * i) as f64 / head_dim as f64;
        let frequencies = (0..head_dim / 2).map(|i| (1.0 / theta.powf(exponent(i))) as f32);
        Self { frequencies: frequencies.collect(), cosines: Vec::new(), sines: Vec::new() }
    }

    pub fn clear(&mut self) {
        self.cosines.clear();
        self.sines.clear();
    }

    /// Adds a row.
    pub fn push(&mut self, position: usize) {
        for frequency in &self.frequencies {
            let (sine, cosine) = (position as f32 * frequency).sin_cos();
            self.cosines.push(cosine);
            self.sines.push(sine);
        }
    }

    #[inline(always)]
    fn rotate(&self, row: usize, head: &mut [f32]) {
        let half = self.frequencies.len();
        let (first, second) = head.split_at_mut(half);
        let cosines = &self.cosines[row * half..][..half];
        let sines = &self.sines[row * half..][..half];
        let pairs = first.iter_mut().zip(second);
        for ((x, y), (cosine, sine)) in pairs.zip(cosines.iter().zip(sines)) {
            (*x, *y) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
        }
    }
}

/// Fills `out` `[heads, lanes of head_dim, rows]` from `qkv`, whose queries and keys are normed
/// and rotated in place, and adds keys and values to `heads`.
pub(crate) fn attend(
    attention: &Attention<'_>,
    heads: &mut [HeadCache],
    qkv: &mut Activations,
    out: &mut Activations,
) {
    let rows = qkv.rows;
    let depth = lanes_of(attention.config.head_dim);
    let group = attention.config.num_attention_heads / attention.config.num_key_value_heads;
    out.resize(attention.config.num_attention_heads * depth, rows);
    let qkv = qkv.lanes.par_chunks_mut((group + 2) * depth * rows);
    let out = out.lanes.par_chunks_mut(group * depth * rows);
    heads.par_iter_mut().zip(qkv).zip(out).for_each(|((cache, qkv), out)| {
        attend_head(attention, &Shape { rows, depth, group }, cache, qkv, out);
    });
}

#[derive(Clone, Copy)]
struct Shape {
    /// New tokens of all pieces.
    rows: usize,
    /// Lanes of a head.
    depth: usize,
    /// Queries' heads for each key-value head.
    group: usize,
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn attend_head(
    attention: &Attention<'_>,
    shape: &Shape,
    cache: &mut HeadCache,
    qkv: &mut [Lanes],
    out: &mut [Lanes],
) {
    prepare(attention, shape, qkv);
    add_to_cache(attention, shape, cache, qkv);
    if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        read::<true>(attention, shape, cache, qkv, out);
    } else {
        read::<false>(attention, shape, cache, qkv, out);
    }
}

/// Norms and rotates queries and keys; queries are scaled by 1 / sqrt(head_dim) as well.
#[inline(always)]
fn prepare(attention: &Attention<'_>, shape: &Shape, qkv: &mut [Lanes]) {
    let head_dim = attention.config.head_dim;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let eps = attention.config.rms_norm_eps as f32;
    let mut head = vec![0.0; shape.depth * LANES];
    for index in 0..=shape.group {
        let is_key = index == shape.group;
        let norm = if is_key { &attention.layer.k_norm } else { &attention.layer.q_norm };
        let lanes = &mut qkv[index * shape.depth * shape.rows..][..shape.depth * shape.rows];
        for row in 0..shape.rows {
            for (block, chunk) in head.chunks_exact_mut(LANES).enumerate() {
                chunk.copy_from_slice(&lanes[block * shape.rows + row].0);
            }
            rms_norm_head(&mut head[..head_dim], norm, eps);
            attention.angles.rotate(row, &mut head[..head_dim]);
            if !is_key {
                head.iter_mut().for_each(|x| *x *= scale);
            }
            for (block, chunk) in head.chunks_exact(LANES).enumerate() {
                lanes[block * shape.rows + row].0.copy_from_slice(chunk);
            }
        }
    }
}

#[inline(always)]
fn add_to_cache(attention: &Attention<'_>, shape: &Shape, cache: &mut HeadCache, qkv: &[Lanes]) {
    let keys = &qkv[shape.group * shape.depth * shape.rows..];
    let (keys, values) = keys.split_at(shape.depth * shape.rows);
    for (row, (page, offset)) in attention.places.iter().enumerate() {
        let of = |lanes| <[Lanes]>::iter(lanes).skip(row).step_by(shape.rows);
        cache.write(*page, *offset, of(keys), of(values));
    }
}

/// All queries of the head, a few of one piece at a time: its tokens, and of each token the
/// group's heads.
#[inline(always)]
fn read<const FUSED: bool>(
    attention: &Attention<'_>,
    shape: &Shape,
    cache: &HeadCache,
    queries: &[Lanes],
    out: &mut [Lanes],
) {
    let mut scores = Vec::new();
    let mut row = 0;
    for piece in attention.pieces {
        let count = piece.tokens.len() * shape.group;
        let mut first = 0;
        while first < count {
            let mut work = Queries { shape, cache, piece, row, first, scores: &mut scores };
            first += match count - first {
                1 => work.read::<FUSED, 1, 4>(queries, out),
                2 => work.read::<FUSED, 2, 2>(queries, out),
                3 => work.read::<FUSED, 3, 2>(queries, out),
                4 => work.read::<FUSED, 4, 1>(queries, out),
                5 => work.read::<FUSED, 5, 1>(queries, out),
                _ => work.read::<FUSED, 6, 1>(queries, out),
            };
        }
        row += piece.tokens.len();
    }
}

/// Some queries of a piece, from `first` on.
struct Queries<'q> {
    shape: &'q Shape,
    cache: &'q HeadCache,
    piece: &'q Piece<'q>,
    /// Of the piece's first token.
    row: usize,
    first: usize,
    /// `[queries, pages]`.
    scores: &'q mut Vec<Lanes>,
}

impl Queries<'_> {
    /// Reads for `M` queries, `N` pages or lanes of features at a time.
    #[inline(always)]
    fn read<const FUSED: bool, const M: usize, const N: usize>(
        &mut self,
        queries: &[Lanes],
        out: &mut [Lanes],
    ) -> usize {
        let Shape { rows, depth, group } = *self.shape;
        // Where the lanes of each query begin; they are `rows` apart.
        let mut places = [0; M];
        for (query, place) in (self.first..).zip(&mut places) {
            *place = query % group * depth * rows + self.row + query / group;
        }
        let position = |m: usize| self.piece.position + (self.first + m) / group;
        let pages = position(M - 1) / PAGE_TOKENS + 1;
        let pages = &self.piece.pages[..pages];
        self.scores.clear();
        self.scores.resize(M * pages.len(), Lanes::ZERO);
        for (index, some) in pages.chunks(N).enumerate() {
            // The last page stands in for those that are not there.
            let page = |n: usize| some[n.min(some.len() - 1)];
            let sums = tile::<FUSED, M, N>(
                depth,
                |m, i| &queries[places[m] + i * rows],
                |n, i| &self.cache.keys(page(n))[i],
            );
            for (m, sums) in sums.iter().enumerate() {
                let scores = &mut self.scores[m * pages.len() + index * N..][..some.len()];
                scores.copy_from_slice(&sums[..some.len()]);
            }
        }
        let mut scales = [0.0; M];
        for (m, scale) in scales.iter_mut().enumerate() {
            let scores = &mut self.scores[m * pages.len()..][..pages.len()];
            *scale = 1.0 / exponentials(scores, position(m) + 1);
        }
        let mut block = 0;
        while block < depth {
            let wide = depth - block >= N;
            let scores = |m: usize, page: usize| &self.scores[m * pages.len() + page];
            let value = |n: usize, page: usize| &self.cache.values(pages[page])[block + n];
            let mut finish = |m: usize, n: usize, sum: Lanes| {
                out[places[m] + (block + n) * rows] = sum.map(|x| x * scales[m]);
            };
            if wide {
                let sums = tile::<FUSED, M, N>(pages.len(), scores, value);
                (0..M).for_each(|m| (0..N).for_each(|n| finish(m, n, sums[m][n])));
            } else {
                let sums = tile::<FUSED, M, 1>(pages.len(), scores, value);
                (0..M).for_each(|m| finish(m, 0, sums[m][0]));
            }
            block += if wide { N } else { 1 };
        }
        M
    }
}

/// Turns the first `count` scores into e^(score - greatest), the others into 0; their sum.
#[inline(always)]
fn exponentials(scores: &mut [Lanes], count: usize) -> f32 {
    let (whole, rest) = (count / LANES, count % LANES);
    if rest > 0 {
        scores[whole].0[rest..].fill(f32::NEG_INFINITY);
    }
    let used = lanes_of(count);
    scores[used..].fill(Lanes::ZERO);
    let used = &mut scores[..used];
    let greatest = used.iter().fold(Lanes::splat(f32::NEG_INFINITY), |a, b| a.zip(*b, f32::max));
    let greatest = greatest.reduce(f32::max);
    let mut sum = Lanes::ZERO;
    for scores in used {
        *scores = scores.map(|score| exp(score - greatest));
        sum = sum.zip(*scores, |a, b| a + b);
    }
    sum.reduce(|a, b| a + b)
}
