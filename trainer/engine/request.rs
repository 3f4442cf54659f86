//! What the engine is asked, and what it answers.

use std::sync::Arc;

use crate::caps::{STOP_TEXT_BYTES_MAX, STOPS_MAX, TOP_LOGPROBS_MAX};

/// One answer to be sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// At least one token.
    pub prompt: Arc<[u32]>,
    pub sampling: SamplingParams,
    /// At least 1; an answer ends earlier where the engine's context does.
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

/// What comes of a request, in order; an end or a failure is the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt is read; so many of its tokens from kept keys and values.
    Started {
        cached_tokens: usize,
    },
    Token(SampledToken),
    Ended(EndReason),
    Failed(EngineError),
}

impl Event {
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Failed(_))
    }
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
    #[error("the prompt has {found} tokens; with an answer, the context holds {max}")]
    PromptTooLong { found: usize, max: usize },
    #[error("{key}: expected {expected}, found {found}")]
    BadRequest { key: &'static str, expected: String, found: String },
    #[error("token {index} of the answer: the logit of {id} is not finite")]
    NotFinite { id: u32, index: u64 },
    #[error("the engine has ended: {0}")]
    Ended(String),
}

/// What a request must fit into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    pub vocab_size: usize,
    pub context_tokens_max: usize,
}

impl RequestLimits {
    /// Tokens of the longest answer to `request`.
    pub fn answer_tokens_max(&self, request: &GenerateRequest) -> usize {
        request.max_tokens.min(self.context_tokens_max - request.prompt.len())
    }
}

impl GenerateRequest {
    /// # Errors
    /// The first field that is out of its range.
    pub(crate) fn check(&self, limits: &RequestLimits) -> Result<(), EngineError> {
        let SamplingParams { temperature, top_p, .. } = self.sampling;
        let out_of_vocab = self.prompt.iter().find(|id| **id as usize >= limits.vocab_size);
        let bad_stop =
            self.stop.iter().find(|stop| stop.is_empty() || stop.len() > STOP_TEXT_BYTES_MAX);
        bad("prompt", self.prompt.is_empty(), "at least one token", &0)?;
        if let Some(id) = out_of_vocab {
            bad("prompt", true, format!("ids below {}", limits.vocab_size), id)?;
        }
        if self.prompt.len() >= limits.context_tokens_max {
            let (found, max) = (self.prompt.len(), limits.context_tokens_max);
            return Err(EngineError::PromptTooLong { found, max });
        }
        bad("max_tokens", self.max_tokens == 0, "at least 1", &self.max_tokens)?;
        let is_temperature = temperature.is_finite() && temperature >= 0.0;
        bad("temperature", !is_temperature, "a number of at least 0", &temperature)?;
        bad("top_p", !(top_p > 0.0 && top_p <= 1.0), "a number in (0, 1]", &top_p)?;
        let few = |count: usize, max: usize| (count > max, format!("at most {max}"));
        let (is_bad, expected) = few(self.top_logprobs, TOP_LOGPROBS_MAX);
        bad("top_logprobs", is_bad, expected, &self.top_logprobs)?;
        let (is_bad, expected) = few(self.stop.len(), STOPS_MAX);
        bad("stop", is_bad, expected, &self.stop.len())?;
        let (is_bad, expected) = few(self.stop_ids.len(), STOPS_MAX);
        bad("stop_ids", is_bad, expected, &self.stop_ids.len())?;
        let Some(stop) = bad_stop else { return Ok(()) };
        let expected = format!("texts of 1 to {STOP_TEXT_BYTES_MAX} bytes");
        bad("stop", true, expected, &format_args!("{} bytes", stop.len()))
    }
}

fn bad(
    key: &'static str,
    is_bad: bool,
    expected: impl Into<String>,
    found: &dyn std::fmt::Display,
) -> Result<(), EngineError> {
    let error =
        || EngineError::BadRequest { key, expected: expected.into(), found: found.to_string() };
    if is_bad { Err(error()) } else { Ok(()) }
}
