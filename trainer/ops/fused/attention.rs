//! Causal grouped-query attention within segments, a block of queries and keys at a time.
//!
//! Forward with a running maximum and sum, so that no row of scores is ever whole; backward by
//! computing the probabilities again from the logarithm of that sum (Dao et al. 2022,
//! FlashAttention, algorithms 1 and 4). Each key head of a row is a task of its own, with all
//! queries that see it, so that no two tasks add to the same gradient.
//!
//! Layouts are those of [`head_norm`](super::head_norm): `by_head` has queries, keys and values.

use multiversion::multiversion;
use rayon::prelude::*;

use super::head_norm::HeadShape;
use super::lanes::{exp, map_pairs, map_sum, max, sum_of};
use super::matrix::{Into, Matrix, MatrixMut, multiply_here};
use super::room::zeros;

/// Queries of a block.
const QUERIES: usize = 64;
/// Keys of a block; a multiple of `QUERIES`, so that a block's first key is seen by all its
/// queries.
const KEYS: usize = 256;

/// What attention gives, and what its backward pass needs of it.
pub struct Attended {
    /// `[rows, kv_heads, groups, len, head_dim]`.
    pub out: Vec<f32>,
    /// Of each query's exponentiated scores, the logarithm of their sum:
    /// `[rows, kv_heads, groups, len]`.
    pub log_sums: Vec<f32>,
}

/// `segments`: lengths in each row, covering it.
pub fn forward(by_head: &[f32], segments: &[Vec<u32>], shape: HeadShape) -> Attended {
    let (len, head_dim, groups) = (shape.len, shape.head_dim, shape.groups);
    let queries = segments.len() * shape.kv_heads * groups * len;
    let mut attended = Attended { out: zeros(queries * head_dim), log_sums: zeros(queries) };
    let outputs = attended.out.par_chunks_mut(groups * len * head_dim);
    let tasks = outputs.zip(attended.log_sums.par_chunks_mut(groups * len)).enumerate();
    let tasks = tasks.zip(by_head.par_chunks(shape.chunk()));
    tasks.for_each(|((index, (out, log_sums)), chunk)| {
        let mut scores = vec![0.0; QUERIES * KEYS];
        let (queries, keys, values) = parts(chunk, shape);
        let heads = queries.chunks_exact(len * head_dim);
        let outputs = out.chunks_exact_mut(len * head_dim).zip(log_sums.chunks_exact_mut(len));
        for (queries, (out, log_sums)) in heads.zip(outputs) {
            for (from, to) in bounds(&segments[index / shape.kv_heads]) {
                let dims = from * head_dim..to * head_dim;
                let seen = Seen { keys: &keys[dims.clone()], values: &values[dims.clone()] };
                let out = (&mut out[dims.clone()], &mut log_sums[from..to]);
                segment(out, &queries[dims], seen, head_dim, &mut scores);
            }
        }
    });
    attended
}

/// From the gradient of `attended.out` to that of `by_head`.
pub fn backward(
    d_out: &[f32],
    attended: &Attended,
    by_head: &[f32],
    segments: &[Vec<u32>],
    shape: HeadShape,
) -> Vec<f32> {
    let (len, head_dim, groups) = (shape.len, shape.head_dim, shape.groups);
    let mut d_by_head = zeros(by_head.len());
    let tasks = d_by_head.par_chunks_mut(shape.chunk()).zip(by_head.par_chunks(shape.chunk()));
    tasks.enumerate().for_each(|(index, (d_chunk, chunk))| {
        let mut scratch = (vec![0.0; QUERIES * KEYS], vec![0.0; QUERIES * KEYS]);
        let (queries, keys, values) = parts(chunk, shape);
        let (d_queries, d_seen) = d_chunk.split_at_mut(groups * len * head_dim);
        let (d_keys, d_values) = d_seen.split_at_mut(len * head_dim);
        for group in 0..groups {
            let head = index * groups + group;
            for (from, to) in bounds(&segments[index / shape.kv_heads]) {
                let dims = from * head_dim..to * head_dim;
                let of_group = (group * len + from) * head_dim..(group * len + to) * head_dim;
                let of_all = (head * len + from) * head_dim..(head * len + to) * head_dim;
                let known = Known {
                    queries: &queries[of_group.clone()],
                    out: &attended.out[of_all.clone()],
                    d_out: &d_out[of_all],
                    log_sums: &attended.log_sums[head * len + from..head * len + to],
                };
                let seen = Seen { keys: &keys[dims.clone()], values: &values[dims.clone()] };
                let d_seen =
                    SeenMut { keys: &mut d_keys[dims.clone()], values: &mut d_values[dims] };
                let d_queries = &mut d_queries[of_group];
                segment_backward((d_queries, d_seen), known, seen, head_dim, &mut scratch);
            }
        }
    });
    d_by_head
}

/// Keys and values of a segment, `[len, head_dim]` each.
#[derive(Clone, Copy)]
struct Seen<'a> {
    keys: &'a [f32],
    values: &'a [f32],
}

struct SeenMut<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
}

/// What one head's backward pass starts from, in one segment.
#[derive(Clone, Copy)]
struct Known<'a> {
    queries: &'a [f32],
    out: &'a [f32],
    d_out: &'a [f32],
    log_sums: &'a [f32],
}

/// Queries, keys and values.
fn parts(chunk: &[f32], shape: HeadShape) -> (&[f32], &[f32], &[f32]) {
    let (queries, seen) = chunk.split_at(shape.groups * shape.len * shape.head_dim);
    let (keys, values) = seen.split_at(shape.len * shape.head_dim);
    (queries, keys, values)
}

/// First token of each segment, and the one after its last.
fn bounds(segments: &[u32]) -> impl Iterator<Item = (usize, usize)> {
    let mut end = 0;
    segments.iter().map(move |&len| {
        let from = end;
        end += len as usize;
        (from, end)
    })
}

/// Blocks of queries, and for each the blocks of keys that it sees: `(first, end)`.
fn blocks(from: usize, end: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (from..end).step_by(size).map(move |from| (from, end.min(from + size)))
}

fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

fn segment(
    (out, log_sums): (&mut [f32], &mut [f32]),
    queries: &[f32],
    seen: Seen<'_>,
    head_dim: usize,
    scores: &mut [f32],
) {
    let rows = |from: usize, to: usize| from * head_dim..to * head_dim;
    for (first, end) in blocks(0, log_sums.len(), QUERIES) {
        let count = end - first;
        let q = Matrix::new(&queries[rows(first, end)], head_dim);
        let out = &mut out[first * head_dim..end * head_dim];
        let (mut maxima, mut sums) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
        for (key, key_end) in blocks(0, end, KEYS) {
            let k = Matrix::new(&seen.keys[rows(key, key_end)], head_dim);
            let v = Matrix::new(&seen.values[rows(key, key_end)], head_dim);
            let width = key_end - key;
            let scores = &mut scores[..count * width];
            let to = MatrixMut::new(scores, width);
            multiply_here(to, Into::Overwrite, scale(head_dim), q, k.transposed());
            weigh(scores, (&mut maxima[..count], &mut sums), out, first - key.min(first), width);
            let into = if key == 0 { Into::Overwrite } else { Into::Add };
            multiply_here(MatrixMut::new(out, head_dim), into, 1.0, Matrix::new(scores, width), v);
        }
        let sums = maxima.iter().zip(&sums);
        let log_sums = log_sums[first..end].iter_mut().zip(sums);
        for (out, (log_sum, (max, sum))) in out.chunks_exact_mut(head_dim).zip(log_sums) {
            out.iter_mut().for_each(|x| *x /= sum);
            *log_sum = max + sum.ln();
        }
    }
}

/// Scores to exponentials over the running maximum; what is in `out` to the new maximum. The first
/// query sees `seen + 1` of the `width` keys, each next one more.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn weigh(
    scores: &mut [f32],
    (maxima, sums): (&mut [f32], &mut [f32]),
    out: &mut [f32],
    seen: usize,
    width: usize,
) {
    let out = out.chunks_exact_mut(out.len() / maxima.len());
    let running = maxima.iter_mut().zip(sums).zip(out);
    for (query, (scores, ((maximum, sum), out))) in
        scores.chunks_exact_mut(width).zip(running).enumerate()
    {
        let (scores, unseen) = scores.split_at_mut(width.min(seen + query + 1));
        unseen.fill(0.0);
        let new = max(scores).max(*maximum);
        let before = exp(*maximum - new);
        *sum = *sum * before + map_sum(scores, |x| exp(x - new));
        *maximum = new;
        if before != 1.0 {
            out.iter_mut().for_each(|x| *x *= before);
        }
    }
}

fn segment_backward(
    (d_queries, d_seen): (&mut [f32], SeenMut<'_>),
    known: Known<'_>,
    seen: Seen<'_>,
    head_dim: usize,
    (probabilities, d_scores): &mut (Vec<f32>, Vec<f32>),
) {
    for (first, end) in blocks(0, known.log_sums.len(), QUERIES) {
        let dims = first * head_dim..end * head_dim;
        let q = Matrix::new(&known.queries[dims.clone()], head_dim);
        let d_out = Matrix::new(&known.d_out[dims.clone()], head_dim);
        let mut deltas = [0.0; QUERIES];
        let outputs = known.out[dims.clone()].chunks_exact(head_dim);
        let outputs = outputs.zip(known.d_out[dims.clone()].chunks_exact(head_dim));
        for (delta, (out, d_out)) in deltas.iter_mut().zip(outputs) {
            *delta = sum_of(out, d_out, |a, b| a * b);
        }
        for (key, key_end) in blocks(0, end, KEYS) {
            let of_keys = key * head_dim..key_end * head_dim;
            let k = Matrix::new(&seen.keys[of_keys.clone()], head_dim);
            let v = Matrix::new(&seen.values[of_keys.clone()], head_dim);
            let width = key_end - key;
            let p = &mut probabilities[..(end - first) * width];
            let d_s = &mut d_scores[..(end - first) * width];
            let onto = |x| MatrixMut::new(x, width);
            multiply_here(onto(p), Into::Overwrite, scale(head_dim), q, k.transposed());
            multiply_here(onto(d_s), Into::Overwrite, 1.0, d_out, v.transposed());
            let rows = (&known.log_sums[first..end], &deltas[..]);
            scores_backward(p, d_s, rows, first - key.min(first), scale(head_dim));

            let (p, d_s) = (Matrix::new(p, width), Matrix::new(d_s, width));
            let of_head = |x| MatrixMut::new(x, head_dim);
            let d_v = of_head(&mut d_seen.values[of_keys.clone()]);
            multiply_here(d_v, Into::Add, 1.0, p.transposed(), d_out);
            let d_k = of_head(&mut d_seen.keys[of_keys]);
            multiply_here(d_k, Into::Add, 1.0, d_s.transposed(), q);
            let d_q = of_head(&mut d_queries[dims.clone()]);
            multiply_here(d_q, Into::Add, 1.0, d_s, k);
        }
    }
}

/// Scores to probabilities `p`; their gradients to those of the scores, `p (d_p - delta) scale`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn scores_backward(
    p: &mut [f32],
    d_s: &mut [f32],
    (log_sums, deltas): (&[f32], &[f32]),
    seen: usize,
    scale: f32,
) {
    let width = p.len() / log_sums.len();
    let rows = p.chunks_exact_mut(width).zip(d_s.chunks_exact_mut(width));
    let of_rows = log_sums.iter().copied().zip(deltas.iter().copied());
    for (query, ((p, d_s), (log_sum, delta))) in rows.zip(of_rows).enumerate() {
        let visible = width.min(seen + query + 1);
        let (p, p_unseen) = p.split_at_mut(visible);
        let (d_s, d_s_unseen) = d_s.split_at_mut(visible);
        p_unseen.fill(0.0);
        d_s_unseen.fill(0.0);
        map_pairs(p, d_s, |score, d_p| {
            let p = exp(score - log_sum);
            (p, p * (d_p - delta) * scale)
        });
    }
}
