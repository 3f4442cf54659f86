//! Keys and values of all sequences, in pages of sixteen tokens.
//!
//! Which page belongs to whom is the scheduler's matter. A page of a head is a few blocks, as a
//! product wants them: keys as `[features, tokens]`, values as `[tokens, features]`.

use std::collections::TryReserveError;

use crate::engine::lanes::{Block, LANES, Lanes, lanes_of};
use crate::model::config::ModelConfig;

/// Tokens of a page.
pub const PAGE_TOKENS: usize = LANES;

pub(crate) struct Cache {
    pages_max: usize,
    /// By layer and key-value head, so that heads can be worked on side by side.
    layers: Vec<Vec<HeadCache>>,
}

pub(crate) struct HeadCache {
    /// Blocks of a page: lanes of the head's features.
    depth: usize,
    /// `[pages, depth]`.
    keys: Vec<Block>,
    values: Vec<Block>,
}

impl Cache {
    /// Memory is taken as pages are used for the first time, at most for `pages_max`.
    ///
    /// # Errors
    /// No room for so many in the process's address space.
    pub fn new(config: &ModelConfig, pages_max: usize) -> Result<Self, TryReserveError> {
        let heads = config.num_key_value_heads;
        let layer = || (0..heads).map(|_| HeadCache::new(config, pages_max)).collect();
        let layers = (0..config.num_hidden_layers).map(|_| layer());
        Ok(Self { pages_max, layers: layers.collect::<Result<_, _>>()? })
    }

    /// The heads of a layer, with room for `pages`.
    pub fn layer(&mut self, index: usize, pages: usize) -> &mut [HeadCache] {
        debug_assert!(pages <= self.pages_max, "memory is taken once");
        let heads = &mut self.layers[index];
        for head in heads.iter_mut() {
            let blocks = head.keys.len().max(pages * head.depth);
            head.keys.resize(blocks, Block::ZERO);
            head.values.resize(blocks, Block::ZERO);
        }
        heads
    }
}

impl HeadCache {
    fn new(config: &ModelConfig, pages_max: usize) -> Result<Self, TryReserveError> {
        let depth = lanes_of(config.head_dim);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        keys.try_reserve_exact(pages_max.saturating_mul(depth))?;
        values.try_reserve_exact(pages_max.saturating_mul(depth))?;
        Ok(Self { depth, keys, values })
    }

    pub fn keys(&self, page: u32) -> &[Block] {
        &self.keys[page as usize * self.depth..][..self.depth]
    }

    pub fn values(&self, page: u32) -> &[Block] {
        &self.values[page as usize * self.depth..][..self.depth]
    }

    /// Writes a token's key and value, in `depth` lanes each, to `offset` in a page.
    ///
    /// The first token of a page clears it: what another sequence left would count with a
    /// probability of 0, and 0 times what is not finite is not 0.
    pub fn write<'d>(
        &mut self,
        page: u32,
        offset: usize,
        key: impl Iterator<Item = &'d Lanes>,
        value: impl Iterator<Item = &'d Lanes>,
    ) {
        let blocks = page as usize * self.depth..(page as usize + 1) * self.depth;
        let (keys, values) = (&mut self.keys[blocks.clone()], &mut self.values[blocks]);
        if offset == 0 {
            keys.fill(Block::ZERO);
            values.fill(Block::ZERO);
        }
        for (block, key) in keys.iter_mut().zip(key) {
            for (row, feature) in block.0.iter_mut().zip(key.0) {
                row.0[offset] = feature;
            }
        }
        for (block, value) in values.iter_mut().zip(value) {
            block.0[offset] = *value;
        }
    }
}
