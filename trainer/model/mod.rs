//! The model: a decoder of the Qwen3 architecture, forwards and backwards.

pub mod config;
pub mod parameters;

pub mod init;
pub mod weights;
pub mod weights_write;
