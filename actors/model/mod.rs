//! Models: what an agent asks, what it is answered, and who can be asked.
//!
//! A [`Model`] is one try of one call to one endpoint, in the terms of its users. Everything around
//! a try (queue, limit on calls in flight, breaker, back-off, accounting) is the gateway's.

pub mod anthropic;
pub mod backoff;
pub mod call_gate;
pub mod connect;
pub mod control;
mod conversations;
pub mod desk;
pub mod embedded;
pub mod endpoint;
pub mod gateway;
mod http;
mod http_fault;
pub mod in_flight;
pub mod literal;
pub mod models;
pub mod openai;
pub mod price;
pub mod recorded;
pub mod renderer;
pub mod replay;
mod sampling;
pub mod scripts;
mod served_renderer;
pub mod settings;
pub mod sglang;
pub mod solution;
mod token_prompt;
mod token_trace;
pub mod vllm;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::model::scripts::Scripts;

/// Something that answers. Shared by all rollouts of a node.
pub trait Model: Send + Sync + 'static {
    /// The model's name, as the endpoint knows it.
    fn name(&self) -> &str;

    /// One try. Dropping the future gives the call up.
    ///
    /// # Errors
    /// Everything that is not a whole answer of the assistant's is a [`ModelError`]; an answer
    /// without text is a whole one.
    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>>;
}

/// One call for one turn of one agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub key: CallKey,
    /// A system message first, then user and assistant in turns, a user's last.
    pub messages: Vec<Message>,
    /// Of the answer.
    pub max_tokens: u32,
    /// What the agent has been asked to do, in the words of whoever asked; it is in the messages
    /// too.
    pub instruction: Arc<str>,
    /// Of the policy that answers, where it changes under way; salts prefix caches.
    pub policy_version: u64,
    /// Of the step that is worked on; for a demonstrator alone, `None` for all others.
    pub scripts: Option<Arc<Scripts>>,
}

/// Which call it is: the same in every run of the same plan, and unique in one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    pub rollout: u32,
    /// 1 for the first.
    pub attempt: u32,
    /// The step of the task, 0 for the first.
    pub step: u32,
    /// 0 is the orchestrator, the others are numbered as they were launched.
    pub agent: u32,
    /// 1 for the agent's first.
    pub turn: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Speaker,
    pub content: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    /// What a reasoning model thought, where its endpoint tells it apart from the answer.
    pub reasoning: Option<String>,
    pub finish: Finish,
    pub usage: Usage,
    /// The name that the endpoint gave; empty where it gave none.
    pub model: String,
    pub tokens: Option<TokenTrace>,
}

/// Why an answer ends where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Stop,
    /// Cut at `max_tokens`.
    Length,
    /// Withheld by the endpoint, or refused by the model in its protocol's own words.
    Refused,
}

/// Tokens of one call, or a sum over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All of the prompt, those read from a cache included.
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Of the prompt.
    pub cached_tokens: u64,
}

/// The tokens themselves, from endpoints that tell them: what training needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenTrace {
    pub prompt_ids: Vec<u32>,
    pub completion_ids: Vec<u32>,
    /// Natural logarithms, one for each completion id, of the distribution that was sampled from.
    pub logprobs: Vec<f64>,
    /// The policy version of each completion id; empty where the endpoint does not tell.
    pub versions: Vec<u64>,
}

/// A try that gave no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    pub kind: ModelErrorKind,
    /// Lower-case, whole, without secrets: what was asked of whom, and what came.
    pub message: String,
    /// The endpoint's own wish.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelErrorKind {
    /// 429, or a quota.
    RateLimited,
    /// 5xx, 529.
    Overloaded,
    /// No connection, or one that broke.
    Unreachable,
    /// No answer within the time limit of a try.
    TimedOut,
    /// Not the protocol: cut-off JSON, another role, missing fields.
    Malformed,
    /// The prompt does not fit the model's context window.
    ContextOverflow,
    /// Credentials are missing or refused.
    Unauthorized,
    /// The endpoint will never take this request: unknown model, bad parameters.
    Rejected,
    /// A recorded run has no such call.
    NotRecorded,
}

impl ModelError {
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

impl ModelErrorKind {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Malformed => "malformed",
            Self::ContextOverflow => "context_overflow",
            Self::Unauthorized => "unauthorized",
            Self::Rejected => "rejected",
            Self::NotRecorded => "not_recorded",
        }
    }

    /// Whether the same request may fare better later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::Unreachable
            | Self::TimedOut
            | Self::Malformed => true,
            Self::ContextOverflow | Self::Unauthorized | Self::Rejected | Self::NotRecorded => {
                false
            }
        }
    }
}

impl Message {
    pub fn new(role: Speaker, content: impl Into<Arc<str>>) -> Self {
        Self { role, content: content.into() }
    }
}

impl Usage {
    /// As an endpoint tells it; no call has more tokens than 32 bits count, so that sums over all
    /// calls of a run hold whatever is told.
    fn told(prompt_tokens: u64, completion_tokens: u64, cached_tokens: u64) -> Self {
        let bounded = |tokens: u64| tokens.min(u64::from(u32::MAX));
        Self {
            prompt_tokens: bounded(prompt_tokens),
            completion_tokens: bounded(completion_tokens),
            cached_tokens: bounded(cached_tokens),
        }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rollout, attempt, step, agent, turn } = self;
        write!(f, "{rollout}.{attempt} step {step} agent {agent} turn {turn}")
    }
}
