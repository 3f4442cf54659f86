//! A small vocabulary of one's own: byte-level BPE, learnt from texts.

use std::path::Path;

use orcapack_tasks::defect::{Defect, Defects};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::text::tokenizer::Tokenizer;

/// The special tokens of ChatML: what begins a turn, what ends it, what ends a text.
pub const CHATML_SPECIALS: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

/// Words with the space before them, digits one by one, runs of signs, and space. As in the
/// tokenizers of Qwen's models.
const WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

impl Tokenizer {
    /// Learns a byte-level BPE of at most `vocab_size` tokens, among them `specials` (with the
    /// first ids) and one for each byte. The same texts give the same tokenizer, bit for bit, in
    /// whichever order they come.
    ///
    /// # Errors
    /// A `vocab_size` without room for the specials and the bytes.
    pub fn train<T: AsRef<str> + Send + Sync>(
        texts: &[T],
        vocab_size: usize,
        specials: &[&str],
    ) -> Result<Self, Defects> {
        let file = Path::new("tokenizer.json");
        let least = specials.len() + 256;
        if vocab_size < least {
            let defect = Defect::new(file, format!("at least {least}"), vocab_size.to_string());
            return Err(defect.at_key("vocab_size").into());
        }
        let broken =
            |error: tokenizers::Error| Defect::new(file, "a vocabulary", error.to_string());
        let pattern = SplitPattern::Regex(WORDS.to_owned());
        let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(broken)?;
        let bytes = ByteLevel::new(false, false, false);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])));
        inner.with_decoder(Some(bytes));
        let specials = specials.iter().map(|special| AddedToken::from(*special, true));
        let trainer = BpeTrainerBuilder::new()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(specials.collect())
            .build();
        inner
            .train(&mut TrainerWrapper::from(trainer), texts.iter().map(AsRef::as_ref))
            .map_err(broken)?;
        Self::new(inner, file, vocab_size)
    }
}
