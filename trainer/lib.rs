//! The policy: a language model, how it samples, and how it is trained.
//!
//! A policy lives in a Hugging Face directory (config.json, tokenizer.json, chat template,
//! safetensors) and is of the Qwen3 architecture. Everything here is told what to do by its caller:
//! this crate reads no configuration, knows no agent, and prints nothing.
//!
//! - [`policy::Policy`] is such a directory, opened and checked.
//! - [`engine`] samples from it, token by token, many conversations at a time.
//! - [`text`] turns conversations into token ids that only ever grow.
//! - [`samples`] makes training samples of what agents did; [`loss`] says how good a policy's
//!   log-probabilities for them are, and which way they should go.
//! - [`model`] computes them, and the gradients of its weights, layer by layer; [`optimizer`]
//!   applies those.
//! - [`collective`] sums them over several ranks.

pub mod caps;
mod files;
mod json_file;

pub mod random;

pub mod policy;
pub mod text;

pub mod model;
pub mod ops;
pub mod optimizer;
pub mod tensors;

pub mod loss;
pub mod samples;

pub mod checkpoint;
pub mod collective;
pub mod engine;
pub mod snapshot;

pub mod learner;
pub mod sft;

pub mod policy_step;
pub mod ranks;
