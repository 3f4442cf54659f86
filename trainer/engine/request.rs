//! What the engine is asked, and what it answers.

use std::sync::Arc;

/// One answer to be sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// At least one token.
    pub prompt: Arc<[u32]>,
    pub sampling: SamplingParams,
    /// At least 1; prompt and answer together stay within the engine's context.
    pub max_tokens: usize,
    /// Token ids that end the answer, beside the model's own.
    pub stop_ids: Vec<u32>,
    /// Texts that end the answer; the text is cut before them, the tokens are not.
    pub stop: Vec<String>,
    /// The model's own end tokens do not end the answer.
    pub ignore_eos: bool,
    /// Alternatives told with each token, the likeliest first.
    pub top_logprobs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy: the likeliest token, and its log-probability at temperature 1.
    pub temperature: f32,
    /// In (0, 1]: the smallest set of likeliest tokens with at least that probability.
    pub top_p: f32,
    /// 0 is all.
    pub top_k: usize,
    /// The same seed, prompt and weights give the same tokens, whoever else is in the batch.
    pub seed: u64,
}

/// One sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledToken {
    pub id: u32,
    /// Natural logarithm, of the distribution that was sampled from: after temperature, top-k and
    /// top-p.
    pub logprob: f32,
    /// Of the weights that it was computed with.
    pub version: u64,
    /// Ids and log-probabilities of the alternatives, before top-k and top-p.
    pub top: Vec<(u32, f32)>,
}

/// What comes of a request, in order; an end is the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of the prompt, so many tokens were read from kept keys and values.
    Started {
        cached_tokens: usize,
    },
    Token(SampledToken),
    Ended(EndReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// An end token, or one of `stop_ids`: the last token of the answer.
    StopToken,
    /// `stop[index]` came in the text.
    StopText(usize),
    /// `max_tokens`, or the end of the context.
    Length,
}

/// Why a request is not taken, or does not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("the queue is full: {0} requests wait")]
    QueueFull(usize),
    #[error("the prompt has {found} tokens, the context holds {max}")]
    PromptTooLong { found: usize, max: usize },
    #[error("{key}: expected {expected}, found {found}")]
    BadRequest { key: &'static str, expected: String, found: String },
    #[error("the engine has ended: {0}")]
    Ended(String),
}
