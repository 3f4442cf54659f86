//! What bytes each token of a byte-level vocabulary stands for.
//!
//! Such a vocabulary is written in characters, one for each byte: printable ones stand for
//! themselves, the 68 others are told by the characters from U+0100 on, in the bytes' order. (As in
//! GPT-2, and the `ByteLevel` of `tokenizers`.)

use std::collections::HashMap;

/// The bytes of all tokens, by id.
pub(super) struct BytePieces {
    bytes: Vec<u8>,
    /// Of the id's bytes; they begin where the id before ends.
    ends: Vec<usize>,
    /// Sorted.
    special: Vec<u32>,
    /// The token of each byte alone.
    of_byte: [Option<u32>; 256],
}

impl BytePieces {
    /// `vocab` has all tokens, the special ones too; ids are below `ids`.
    pub fn new(vocab: &HashMap<String, u32>, mut special: Vec<u32>, ids: usize) -> Self {
        special.sort_unstable();
        let mut tokens = vec![None; ids];
        for (token, id) in vocab {
            if let Some(place) = tokens.get_mut(*id as usize) {
                *place = Some(token.as_str());
            }
        }
        let others: Vec<u8> = (0..=u8::MAX).filter(|byte| !is_printable(*byte)).collect();
        let mut pieces =
            Self { bytes: Vec::new(), ends: Vec::new(), special, of_byte: [None; 256] };
        for (id, token) in (0..).zip(tokens) {
            let token = token.unwrap_or_default();
            let bytes: Option<Vec<u8>> = token.chars().map(|c| byte_of(c, &others)).collect();
            if let Some([byte]) = bytes.as_deref()
                && !pieces.is_special(id)
            {
                pieces.of_byte[usize::from(*byte)] = Some(id);
            }
            // An added token may hold characters that stand for no byte: it is its own text.
            pieces.bytes.extend(bytes.as_deref().unwrap_or(token.as_bytes()));
            pieces.ends.push(pieces.bytes.len());
        }
        pieces
    }

    /// Of an id that is no token, none.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = id.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(id).copied();
        end.and_then(|end| self.bytes.get(start.unwrap_or(0)..end)).unwrap_or_default()
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// The token of this byte alone.
    pub fn of_byte(&self, byte: u8) -> Option<u32> {
        self.of_byte[usize::from(byte)]
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

fn byte_of(c: char, others: &[u8]) -> Option<u8> {
    match u8::try_from(u32::from(c)) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => others.get((u32::from(c) - 0x100) as usize).copied(),
    }
}
