//! One step of the model over pieces of many sequences.
//!
//! Every sum has one order, whatever is computed beside it (`EN-1` of [`lanes`](super::lanes)):
//! the same tokens give the same bits, alone or in a batch, in one piece or in many.

use std::collections::TryReserveError;

use crate::engine::attention::{Angles, Attention, attend};
use crate::engine::cache::{Cache, PAGE_TOKENS};
use crate::engine::lanes::lanes_of;
use crate::engine::matmul::{Activations, project, project_gated, project_onto};
use crate::engine::norm::rms_norm;
use crate::engine::weights::{EngineWeights, LayerWeights};
use crate::model::config::ModelConfig;

/// New tokens of one sequence, whose earlier ones are in the cache or come in the same step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'p> {
    pub tokens: &'p [u32],
    /// Of the first token in its sequence.
    pub position: usize,
    /// Of the sequence, from its beginning to the piece's end.
    pub pages: &'p [u32],
    /// Whether what comes after the last token is asked for.
    pub samples: bool,
}

/// The model's state between steps: keys, values, and memory that is used again.
pub(crate) struct Forward {
    cache: Cache,
    angles: Angles,
    /// Of each row: its page and its place in it.
    places: Vec<(u32, usize)>,
    hidden: Activations,
    normed: Activations,
    qkv: Activations,
    attended: Activations,
    gated: Activations,
    logits: Activations,
}

/// Of the tokens that were asked for, in the order of their pieces: one number for each token of
/// the vocabulary.
pub(crate) struct Logits<'f> {
    vocab_size: usize,
    lanes: &'f Activations,
}

impl Logits<'_> {
    /// Copies a row into `values`.
    pub fn read(&self, row: usize, values: &mut Vec<f32>) {
        values.clear();
        let blocks = 0..lanes_of(self.vocab_size);
        values.extend(blocks.flat_map(|block| self.lanes.at(block, row).0));
        values.truncate(self.vocab_size);
    }
}

impl Forward {
    /// # Errors
    /// No memory for so many pages.
    pub fn new(config: &ModelConfig, pages_max: usize) -> Result<Self, TryReserveError> {
        Ok(Self {
            cache: Cache::new(config, pages_max)?,
            angles: Angles::new(config.head_dim, config.rope_theta),
            places: Vec::new(),
            hidden: Activations::default(),
            normed: Activations::default(),
            qkv: Activations::default(),
            attended: Activations::default(),
            gated: Activations::default(),
            logits: Activations::default(),
        })
    }

    /// Computes all pieces, keeps their keys and values, and gives the logits that are asked for.
    /// A piece may read pages that another piece of the same step fills.
    pub fn step(&mut self, weights: &EngineWeights, pieces: &[Piece<'_>]) -> Logits<'_> {
        self.begin(weights, pieces);
        let pages = pieces.iter().flat_map(|piece| piece.pages).max().map_or(0, |page| page + 1);
        for (index, layer) in weights.layers.iter().enumerate() {
            self.layer(weights, layer, index, pages as usize, pieces);
        }
        self.head(weights, pieces);
        Logits { vocab_size: weights.config.vocab_size, lanes: &self.logits }
    }

    /// Embeds the tokens, and finds the place of each.
    fn begin(&mut self, weights: &EngineWeights, pieces: &[Piece<'_>]) {
        let blocks = weights.norm.len();
        let rows = pieces.iter().map(|piece| piece.tokens.len()).sum();
        self.hidden.resize(blocks, rows);
        self.places.clear();
        self.angles.clear();
        let tokens =
            pieces.iter().flat_map(|piece| {
                let positions = piece.position..;
                piece.tokens.iter().zip(positions).map(|(token, position)| {
                    (*token, position, piece.pages[position / PAGE_TOKENS])
                })
            });
        for (row, (token, position, page)) in tokens.enumerate() {
            self.places.push((page, position % PAGE_TOKENS));
            self.angles.push(position);
            let embedded = &weights.embed[token as usize * blocks..][..blocks];
            for (block, lanes) in embedded.iter().enumerate() {
                self.hidden.lanes[block * rows + row] = *lanes;
            }
        }
    }

    fn layer(
        &mut self,
        weights: &EngineWeights,
        layer: &LayerWeights,
        index: usize,
        pages: usize,
        pieces: &[Piece<'_>],
    ) {
        let config = &weights.config;
        rms_norm(&self.hidden, &layer.input_norm, config, &mut self.normed);
        project(&self.normed, &layer.qkv, &mut self.qkv);
        let attention =
            Attention { config, layer, angles: &self.angles, places: &self.places, pieces };
        attend(&attention, self.cache.layer(index, pages), &mut self.qkv, &mut self.attended);
        project_onto(&self.attended, &layer.output, &mut self.hidden);
        rms_norm(&self.hidden, &layer.post_norm, config, &mut self.normed);
        project_gated(&self.normed, &layer.gate_up, &mut self.gated);
        project_onto(&self.gated, &layer.down, &mut self.hidden);
    }

    /// Logits of the last tokens of the pieces that ask for them, and of no others.
    fn head(&mut self, weights: &EngineWeights, pieces: &[Piece<'_>]) {
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.tokens.len();
            Some((*end - 1, piece.samples))
        });
        let rows: Vec<usize> = ends.filter(|(_, samples)| *samples).map(|(row, _)| row).collect();
        if rows.is_empty() {
            return self.logits.resize(0, 0);
        }
        let blocks = weights.norm.len();
        // The attended values of the last layer are done with: their memory holds the rows.
        let asked = &mut self.attended;
        asked.resize(blocks, rows.len());
        for block in 0..blocks {
            for (to, from) in rows.iter().enumerate() {
                asked.lanes[block * rows.len() + to] = *self.hidden.at(block, *from);
            }
        }
        rms_norm(asked, &weights.norm, &weights.config, &mut self.normed);
        project(&self.normed, &weights.head, &mut self.logits);
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
