//! The model: a decoder of the Qwen3 architecture, forwards and backwards.

pub mod config;
pub mod parameters;

pub mod init;
mod weights;
pub mod weights_write;

pub mod lora;
mod lora_dir;
