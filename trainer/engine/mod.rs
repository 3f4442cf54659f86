//! The sampling engine: many conversations at a time, token by token, on one copy of the weights.
//!
//! ```text
//! requests -> bounded queue -> slots (one sequence each, with its keys and values)
//!                                |  every step: the prompts' next pieces and one token of each
//!                                v
//!                             events of each request, as they come
//! ```
//!
//! An [`Engine`] is a thread of its own; an [`EngineHandle`] is how everyone else reaches it.

pub mod request;
