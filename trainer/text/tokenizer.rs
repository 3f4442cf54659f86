//! Text to token ids and back: tokenizer.json, read by the `tokenizers` crate.

use std::path::Path;

use orcapack_tasks::defect::Defects;

use crate::model::config::ModelConfig;

/// A tokenizer whose ids fit the model's vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    _inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// # Errors
    /// A file that cannot be read, or ids beyond the model's vocabulary.
    pub fn read(_file: &Path, _config: &ModelConfig) -> Result<Self, Defects> {
        todo!()
    }

    /// Special tokens in the text are read as such, none is added.
    pub fn encode(&self, _text: &str) -> Vec<u32> {
        todo!()
    }

    /// Text of the ids; special tokens are left out unless `special`.
    pub fn decode(&self, _ids: &[u32], _special: bool) -> String {
        todo!()
    }

    /// A decoder of one stream of tokens: gives text out only where its bytes are whole.
    pub fn stream(&self) -> TextStream<'_> {
        todo!()
    }
}

/// See [`Tokenizer::stream`].
pub struct TextStream<'t> {
    _tokenizer: &'t Tokenizer,
}

impl TextStream<'_> {
    /// The text that this token completes; empty where a character is not whole yet.
    pub fn push(&mut self, _id: u32) -> String {
        todo!()
    }

    /// What is left at the end, with replacement characters for bytes that make none.
    pub fn finish(self) -> String {
        todo!()
    }
}
