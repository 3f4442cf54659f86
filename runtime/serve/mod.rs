//! A policy behind HTTP, in the protocols of OpenAI and vLLM: `orcapack serve`.
//!
//! ```text
//! routes -> fields, asked, chat, completions   what is asked, parameter by parameter
//!        -> answers                            the engine's events as pieces of text
//!        -> shape, logprobs, stream            what is answered, whole or as it comes
//! ```
//! Everything is bounded: bodies, prompts, choices, the engine's queue (beyond it, 429), and the
//! events that wait for a slow reader. A connection that goes cancels what it asked for.

mod answers;
mod asked;
mod body;
mod chat;
mod completions;
mod errors;
mod fields;
mod logprobs;
mod metrics;
mod routes;
mod shape;
mod stream;
mod tokens;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use orcapack_actors::model::settings::Secret;
use orcapack_tasks::splitmix;
use orcapack_trainer::engine::EngineSettings;
use orcapack_trainer::engine::handle::EngineHandle;
use orcapack_trainer::policy::Policy;
use tokio::sync::Semaphore;

use crate::policy_engine::PolicyEngine;
use answers::Answers;
use asked::Asked;
use chat::Conversation;
use errors::ApiError;
use fields::Fields;
use metrics::ServeMetrics;
pub use routes::router;
use shape::{Head, Shape};

/// A policy that is served.
pub struct Served {
    opened: Arc<PolicyEngine>,
    engine: EngineHandle,
    /// What clients call the model.
    name: String,
    key: Option<Secret>,
    seed: u64,
    /// Unix time of the start, in seconds.
    created: u64,
    /// Requests that have been given a seed or an id.
    numbers: AtomicU64,
    /// Part of every id, and another in every process.
    process: u64,
    metrics: ServeMetrics,
    bodies: Arc<Semaphore>,
}

impl Served {
    /// `seed` is what the seeds of requests without one are made of; `None`: another each time.
    pub fn new(
        opened: Arc<PolicyEngine>,
        engine: EngineHandle,
        name: String,
        key: Option<Secret>,
        seed: Option<u64>,
    ) -> Self {
        let process = RandomState::new().hash_one(0);
        Self {
            opened,
            engine,
            name,
            key,
            seed: seed.unwrap_or(process),
            created: unix_time(),
            numbers: AtomicU64::new(0),
            process,
            metrics: ServeMetrics::default(),
            bodies: Arc::new(Semaphore::new(body::BODIES_MAX)),
        }
    }

    fn policy(&self) -> &Policy {
        &self.opened.policy
    }

    fn settings(&self) -> &EngineSettings {
        &self.opened.settings
    }

    fn context_tokens_max(&self) -> usize {
        self.settings().context_tokens_max
    }

    fn seed(&self) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        // So that its bits are spread over all of the seed.
        self.seed.wrapping_add(number.wrapping_mul(splitmix::GOLDEN))
    }

    fn head<S: Shape>(&self) -> Head {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Head {
            id: format!("{}-{:016x}{number:08x}", S::ID, self.process),
            created: unix_time(),
            model: self.name.clone(),
        }
    }

    /// # Errors
    /// 404 where another model is asked for. Who names none means this one.
    fn check_model(&self, fields: &Fields<'_>) -> Result<(), ApiError> {
        fields.string("model")?.map_or(Ok(()), |name| self.check_name(name))
    }

    fn check_name(&self, name: &str) -> Result<(), ApiError> {
        if name == self.name {
            return Ok(());
        }
        let message = format!("model: expected {:?}, the only one here, found {name:?}", self.name);
        let error = ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message);
        Err(ApiError { param: Some("model".to_owned()), ..error })
    }

    /// The tokens of texts. Long ones take their time, which is not that of a thread that others
    /// wait for.
    async fn encoded(self: &Arc<Self>, texts: Vec<String>) -> Result<Vec<Vec<u32>>, ApiError> {
        let tokenizer = self.policy().tokenizer.clone();
        let encoding = tokio::task::spawn_blocking(move || {
            texts.iter().map(|text| tokenizer.encode(text)).collect()
        });
        encoding.await.map_err(|error| ApiError::internal(error.to_string()))
    }

    /// The tokens of a conversation.
    async fn rendered(
        self: &Arc<Self>,
        conversation: Conversation,
    ) -> Result<Arc<[u32]>, ApiError> {
        let served = self.clone();
        let rendering = tokio::task::spawn_blocking(move || {
            let Conversation { messages, kwargs, add_generation_prompt } = conversation;
            let policy = served.policy();
            let text = policy.chat.render(&messages, add_generation_prompt, &kwargs);
            text.map(|text| policy.tokenizer.encode(&text))
        });
        let rendered = rendering.await.map_err(|error| ApiError::internal(error.to_string()))?;
        rendered.map(Into::into).map_err(|defect| {
            let expected = format!("what the chat template can render ({})", defect.expected);
            ApiError::param("messages", &expected, defect.found)
        })
    }
}

/// Prompts, and what is asked of each.
struct Job {
    prompts: Vec<Arc<[u32]>>,
    asked: Asked,
}

impl Job {
    /// # Errors
    /// More answers than the queue could ever hold.
    fn check(&self, served: &Served) -> Result<(), ApiError> {
        let queue_max = served.settings().queue_max;
        let answers = self.prompts.len() * self.asked.choices;
        if answers <= queue_max {
            return Ok(());
        }
        Err(ApiError::param("n", &format!("at most {queue_max} answers in all"), answers))
    }

    fn start<'a, S: Shape>(&self, served: &'a Served) -> Result<Answers<'a>, ApiError> {
        let Self { prompts, asked } = self;
        let told = (&served.metrics, S::PROMPT);
        Answers::start(&served.engine, served.policy(), prompts, asked, told)
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
