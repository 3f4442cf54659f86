//! Samples, packed into batches: first-fit decreasing. Pure.
//!
//! The longest sample is placed first, each into the first row that has room for it. The result is
//! within 11/9 of the fewest rows possible, and 2/3 of a row (Dosa, 2007), and the same whenever it
//! is made.

use crate::samples::batch::{Batch, Target};
use crate::samples::from_trajectory::Sample;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackSettings {
    /// Tokens of a row.
    pub row_tokens_max: usize,
    /// Of a batch.
    pub rows_max: usize,
}

/// All samples that are trained, each whole in one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packing {
    pub batches: Vec<Batch>,
    /// Indices of the samples that are longer than a row. They are in no batch.
    pub too_long: Vec<usize>,
    /// Of the samples in the batches.
    pub sample_tokens: usize,
    /// Of the batches, with what fills rows up.
    pub batch_tokens: usize,
}

impl Packing {
    /// The part of the batches' tokens that are samples', in [0, 1].
    pub fn efficiency(&self) -> f64 {
        match self.batch_tokens {
            0 => 1.0,
            tokens => self.sample_tokens as f64 / tokens as f64,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    #[error("{rows_max} rows of {row_tokens_max} tokens: expected 1 to 2^32 - 1 tokens in all")]
    Size { rows_max: usize, row_tokens_max: usize },
    #[error("sample {sample}: token {index} cannot be trained: {tokens} tokens, indices ascending")]
    Trained { sample: usize, index: u32, tokens: usize },
}

/// Packs the samples that have tokens to train, in batches of rows as long as their fullest one.
/// The samples in the targets are indices into `samples`.
///
/// # Errors
/// A batch without room or with more places than can be counted, and trained tokens that a sample
/// does not have.
pub fn pack(samples: &[&Sample], settings: &PackSettings) -> Result<Packing, PackError> {
    let PackSettings { row_tokens_max, rows_max } = *settings;
    let places = row_tokens_max.checked_mul(rows_max).and_then(|all| u32::try_from(all).ok());
    if places.is_none_or(|places| places == 0) {
        return Err(PackError::Size { rows_max, row_tokens_max });
    }
    for (index, sample) in samples.iter().enumerate() {
        check(index, sample)?;
    }
    let trained = samples.iter().enumerate().filter(|(_, sample)| !sample.trained.is_empty());
    let (mut fitting, too_long): (Vec<usize>, Vec<usize>) = trained
        .map(|(index, _)| index)
        .partition(|index| samples[*index].ids.len() <= row_tokens_max);
    // A stable sort: samples of one length keep their order.
    fitting.sort_by_key(|index| std::cmp::Reverse(samples[*index].ids.len()));
    let rows = rows(samples, &fitting, row_tokens_max);
    let batches: Vec<Batch> = rows.chunks(rows_max).map(|rows| batch(samples, rows)).collect();
    Ok(Packing {
        sample_tokens: fitting.iter().map(|index| samples[*index].ids.len()).sum(),
        batch_tokens: batches.iter().map(|batch| batch.ids.len()).sum(),
        batches,
        too_long,
    })
}

fn check(index: usize, sample: &Sample) -> Result<(), PackError> {
    let mut before = 0;
    for token in &sample.trained {
        let tokens = sample.ids.len();
        if token.index <= before || token.index as usize >= tokens {
            return Err(PackError::Trained { sample: index, index: token.index, tokens });
        }
        before = token.index;
    }
    Ok(())
}

/// The samples of each row.
fn rows(samples: &[&Sample], descending: &[usize], row_tokens_max: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
    for &index in descending {
        let tokens = samples[index].ids.len();
        match rows.iter_mut().find(|(room, _)| *room >= tokens) {
            Some((room, row)) => {
                *room -= tokens;
                row.push(index);
            }
            None => rows.push((row_tokens_max - tokens, vec![index])),
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

fn batch(samples: &[&Sample], rows: &[Vec<usize>]) -> Batch {
    let tokens = |row: &Vec<usize>| row.iter().map(|index| samples[*index].ids.len()).sum();
    let len: usize = rows.iter().map(tokens).max().unwrap_or(0);
    let mut batch = Batch { rows: rows.len(), len, ..Batch::default() };
    for row in rows {
        let mut segments = Vec::with_capacity(row.len() + 1);
        for &index in row {
            let sample = &samples[index];
            let start = batch.ids.len() as u32;
            batch.ids.extend_from_slice(&sample.ids);
            batch.positions.extend(0..sample.ids.len() as u32);
            segments.push(sample.ids.len() as u32);
            batch.targets.extend(sample.trained.iter().map(|token| Target {
                place: start + token.index - 1,
                id: sample.ids[token.index as usize],
                sample: index as u32,
                sampler_logprob: token.sampler_logprob,
                version: token.version,
            }));
        }
        let filled: u32 = segments.iter().sum();
        let room = len as u32 - filled;
        if room > 0 {
            segments.push(room);
            batch.ids.extend(std::iter::repeat_n(0, room as usize));
            batch.positions.extend(0..room);
        }
        batch.segments.push(segments);
    }
    batch
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
