//! Text out of tokens that come one by one.

use crate::text::tokenizer::Tokenizer;

/// A decoder of one stream of tokens: what it has given out, joined, is what [`Tokenizer::decode`]
/// makes of all the tokens. Special tokens have no text.
#[derive(Clone)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    /// The beginning of a character: 3 bytes at most.
    pending: Vec<u8>,
}

impl<'t> TextStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// The text that this token completes; empty where a character is not whole yet.
    pub fn push(&mut self, id: u32) -> String {
        if self.tokenizer.is_special(id) {
            return String::new();
        }
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(self.tokenizer.bytes(id));
        let whole = bytes.len() - unfinished(&bytes);
        self.pending = bytes.split_off(whole);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is left at the end, with replacement characters for bytes that make none.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// How many bytes at the end may yet become a character.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(last) {
        Err(error) if error.error_len().is_none() => last.len(),
        _ => 0,
    }
}
