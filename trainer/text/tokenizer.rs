//! Text to token ids and back: tokenizer.json, read by the `tokenizers` crate.
//!
//! Only byte-level vocabularies are taken: there every text has tokens, and the bytes of a token do
//! not depend on its neighbours.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use orcapack_tasks::defect::{Defect, Defects};
use tokenizers::{DecoderWrapper, ModelWrapper};

use crate::caps::TOKENIZER_BYTES_MAX;
use crate::files;
use crate::model::config::ModelConfig;
use crate::text::byte_pieces::BytePieces;
use crate::text::text_stream::TextStream;

/// A tokenizer whose ids fit the model's vocabulary. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    inner: tokenizers::Tokenizer,
    pieces: BytePieces,
    /// By their texts.
    specials: Vec<(String, u32)>,
    tokens: usize,
    vocab_size: usize,
}

impl Tokenizer {
    /// # Errors
    /// A file that cannot be read, or ids beyond the model's vocabulary.
    pub fn read(file: &Path, config: &ModelConfig) -> Result<Self, Defects> {
        let bytes = files::read(file, TOKENIZER_BYTES_MAX)?;
        Self::from_json(file, &bytes, config.vocab_size)
    }

    /// A tokenizer.json; `file` is only its name.
    ///
    /// # Errors
    /// What is no byte-level tokenizer, or has ids that are not below `vocab_size`.
    pub fn from_json(file: &Path, bytes: &[u8], vocab_size: usize) -> Result<Self, Defects> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| Defect::new(file, "a tokenizer", error.to_string()))?;
        Self::new(inner, file, vocab_size)
    }

    pub(super) fn new(
        mut inner: tokenizers::Tokenizer,
        file: &Path,
        vocab_size: usize,
    ) -> Result<Self, Defects> {
        // Both would change what is trained on, in silence.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| {
            Defect::new(file, "no truncation", error.to_string()).at_key("truncation")
        })?;
        let vocab = inner.get_vocab(true);
        let mut defects = faults(&inner, &vocab, file, vocab_size);
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        let mut specials: Vec<(String, u32)> =
            special.map(|(id, token)| (token.content.clone(), *id)).collect();
        specials.sort_unstable_by_key(|(_, id)| *id);
        let ids = specials.iter().map(|(_, id)| *id).collect();
        let last = vocab.values().max().map_or(0, |id| *id as usize);
        let pieces = BytePieces::new(&vocab, ids, vocab_size.min(last + 1));
        let missing = (0..=u8::MAX).filter(|byte| pieces.of_byte(*byte).is_none()).count();
        if missing > 0 {
            let found = format!("{missing} bytes without one");
            defects.push(Defect::new(file, "a token for each byte", found).at_key("model.vocab"));
        }
        Defects(defects).into_result(())?;
        let shared = Shared { inner, pieces, specials, tokens: vocab.len(), vocab_size };
        let tokenizer = Self { shared: Arc::new(shared) };
        let read = tokenizer.decode(&tokenizer.encode(PROBE), false);
        if read != PROBE {
            let expected = format!("{PROBE:?} to come back from its tokens");
            return Err(Defect::new(file, expected, format!("{read:?}")).into());
        }
        Ok(tokenizer)
    }

    /// How many tokens it knows, the special ones too.
    pub fn tokens(&self) -> usize {
        self.shared.tokens
    }

    /// Of the model: ids are below it, those of no token too.
    pub fn vocab_size(&self) -> usize {
        self.shared.vocab_size
    }

    /// Special tokens in the text are read as such, none is added.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match self.shared.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // The crate's type allows for it, a byte-level vocabulary does not.
            Err(_) => text.bytes().filter_map(|byte| self.shared.pieces.of_byte(byte)).collect(),
        }
    }

    /// Text of the ids; special tokens are left out unless `special`. Bytes that make no character
    /// are replaced.
    pub fn decode(&self, ids: &[u32], special: bool) -> String {
        let told = ids.iter().filter(|id| special || !self.is_special(**id));
        let bytes: Vec<u8> = told.flat_map(|id| self.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A decoder of one stream of tokens: gives text out only where its bytes are whole.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The bytes that a token stands for; none of an id that is no token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.shared.pieces.bytes(id)
    }

    /// Whether it is a special token, such as one that ends a turn.
    pub fn is_special(&self, id: u32) -> bool {
        self.shared.pieces.is_special(id)
    }

    /// The special tokens, by their ids.
    pub fn specials(&self) -> &[(String, u32)] {
        &self.shared.specials
    }

    /// The id of a token that is written so in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.shared.inner.token_to_id(token)
    }

    /// A tokenizer.json.
    ///
    /// # Errors
    /// What the `tokenizers` crate cannot write.
    pub fn to_json(&self) -> Result<String, Defect> {
        let unwritable = |error: tokenizers::Error| {
            Defect::new(Path::new("tokenizer.json"), "a tokenizer to write", error.to_string())
        };
        self.shared.inner.to_string(true).map_err(unwritable)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("tokens", &self.tokens()).finish_non_exhaustive()
    }
}

/// Letters beside digits, more than one byte a character, all kinds of space.
const PROBE: &str = "a b1\n\t  \u{e9}\u{1f600}";

fn faults(
    inner: &tokenizers::Tokenizer,
    vocab: &HashMap<String, u32>,
    file: &Path,
    vocab_size: usize,
) -> Vec<Defect> {
    let mut defects = Vec::new();
    if !matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
        defects.push(Defect::new(file, "`ByteLevel`", "another").at_key("decoder.type"));
    }
    if let ModelWrapper::BPE(bpe) = inner.get_model()
        && let Some(dropout) = bpe.dropout.filter(|dropout| *dropout > 0.0)
    {
        let found = dropout.to_string();
        defects.push(Defect::new(file, "no dropout", found).at_key("model.dropout"));
    }
    if let Some((token, id)) = vocab.iter().max_by_key(|(_, id)| **id)
        && *id as usize >= vocab_size
    {
        let expected = format!("ids below {vocab_size}, the model's vocab_size");
        let found = format!("{id} of {token:?}");
        defects.push(Defect::new(file, expected, found).at_key("model.vocab"));
    }
    defects
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
