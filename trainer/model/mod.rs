//! The model: a decoder of the Qwen3 architecture, forwards and backwards.

pub mod config;
pub mod parameters;

pub mod init;
mod weights;
pub mod weights_write;

pub mod lora;
mod lora_dir;

mod head;
mod head_fused;
mod layer;
mod layer_fused;
mod plan;

pub mod step;

pub mod gradients;

#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod parity_tests;
