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
//!
//! - [`request`]: what is asked and answered; [`handle`]: how; `worker`: the thread.
//! - `scheduler` decides who is computed next, over `pages` of keys and values; both are pure.
//! - `forward` computes a step: `matmul`, `norm` and `attention` over `weights` and `cache`, all
//!   of them in `lanes`; `sampler` chooses tokens, [`stop`] finds the texts that end an answer.

pub mod handle;
pub mod request;
pub mod stop;
pub mod weights;

mod pages;
mod scheduler;
mod worker;

mod attention;
mod cache;
#[cfg(test)]
mod fixture_tests;
mod forward;
mod lanes;
mod matmul;
mod norm;
mod sampler;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::caps::{CONTEXT_TOKENS_MAX, REQUESTS_WAITING_MAX};
use crate::engine::cache::PAGE_TOKENS;
use crate::engine::forward::Forward;
use crate::engine::handle::EngineHandle;
use crate::engine::request::{EngineError, RequestLimits};
use crate::engine::scheduler::{Limits, Scheduler};
use crate::engine::weights::EngineWeights;
use crate::engine::worker::Worker;
use crate::text::tokenizer::Tokenizer;

/// How much an engine takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Requests that are computed side by side.
    pub slots: usize,
    /// Of one prompt and its answer.
    pub context_tokens_max: usize,
    /// That keys and values are held for, of all requests together; at least one context.
    pub kept_tokens_max: usize,
    /// Requests that wait for a slot.
    pub queue_max: usize,
    /// Of prompts, in one step: what a running answer waits for, at most.
    pub prefill_tokens_max: usize,
    pub threads: usize,
}

pub struct Engine;

impl Engine {
    /// Starts the engine's thread. `eos` are the model's own end tokens.
    ///
    /// # Errors
    /// The first setting that is out of its range, or threads that cannot be started.
    pub fn start(
        weights: Arc<EngineWeights>,
        tokenizer: Tokenizer,
        eos: Vec<u32>,
        settings: EngineSettings,
    ) -> Result<EngineHandle, EngineError> {
        settings.check()?;
        let limits = RequestLimits {
            vocab_size: weights.config.vocab_size,
            context_tokens_max: settings.context_tokens_max,
        };
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads)
            .thread_name(|index| format!("engine-{index}"))
            .build()
            .map_err(|error| EngineError::Ended(format!("no threads: {error}")))?;
        let pages = settings.pages();
        let forward =
            Forward::new(&weights.config, pages).map_err(|error| EngineError::BadRequest {
                key: "kept_tokens_max",
                expected: "keys and values that fit into memory".to_owned(),
                found: error.to_string(),
            })?;
        let (handle, commands, shared) =
            EngineHandle::new(limits, settings.queue_max, weights.version);
        let work = move || {
            let mut worker = Worker {
                scheduler: Scheduler::new(Limits {
                    slots: settings.slots,
                    queue_max: settings.queue_max,
                    pages,
                    prefill_tokens_max: settings.prefill_tokens_max,
                }),
                forward,
                weights,
                tokenizer: &tokenizer,
                eos,
                limits,
                threads,
                commands,
                shared: shared.clone(),
                requests: HashMap::new(),
                requests_taken: 0,
            };
            let result = catch_unwind(AssertUnwindSafe(|| worker.run()));
            let reason = match result {
                Ok(()) => "its last handle was dropped",
                Err(_) => "a step has panicked",
            };
            // First the reason, then, with the worker, the channels of those who wait.
            shared.close(reason.to_owned());
        };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(work);
        thread.map_err(|error| EngineError::Ended(format!("no thread: {error}")))?;
        Ok(handle)
    }
}

impl EngineSettings {
    fn check(&self) -> Result<(), EngineError> {
        let least = [
            ("slots", self.slots, 1),
            ("context_tokens_max", self.context_tokens_max, 2),
            ("kept_tokens_max", self.kept_tokens_max, self.context_tokens_max),
            ("queue_max", self.queue_max, 1),
            ("prefill_tokens_max", self.prefill_tokens_max, PAGE_TOKENS),
            ("threads", self.threads, 1),
        ];
        let most = [
            ("context_tokens_max", self.context_tokens_max, CONTEXT_TOKENS_MAX),
            ("queue_max", self.queue_max, REQUESTS_WAITING_MAX),
        ];
        let low = least.into_iter().find(|(_, found, least)| found < least);
        let low = low.map(|(key, found, least)| (key, found, format!("at least {least}")));
        let high = most.into_iter().find(|(_, found, most)| found > most);
        let high = high.map(|(key, found, most)| (key, found, format!("at most {most}")));
        match low.or(high) {
            Some((key, found, expected)) => {
                Err(EngineError::BadRequest { key, expected, found: found.to_string() })
            }
            None => Ok(()),
        }
    }

    fn pages(&self) -> usize {
        self.kept_tokens_max.div_ceil(PAGE_TOKENS)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
