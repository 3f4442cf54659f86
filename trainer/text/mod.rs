//! Words and tokens: tokenizer, chat template, and conversations that only grow.

mod byte_pieces;
pub mod text_stream;
pub mod tokenizer;
mod train_tokenizer;

pub mod chat;
mod template_functions;

pub mod conversation;

pub use train_tokenizer::CHATML_SPECIALS;

#[cfg(test)]
mod golden_tests;
