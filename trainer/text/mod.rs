//! Words and tokens: tokenizer, chat template, and conversations that only grow.

pub mod chat;
pub mod tokenizer;
