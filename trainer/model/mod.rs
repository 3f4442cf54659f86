//! The model: a decoder of the Qwen3 architecture, forwards and backwards.

pub mod config;
pub mod parameters;

pub mod init;
