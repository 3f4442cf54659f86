//! The answers to one request, as the engine samples them: several side by side, each a text that
//! grows by pieces. Whole answers are made of the same pieces as streamed ones.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use orcapack_trainer::engine::handle::{EngineHandle, Generation};
use orcapack_trainer::engine::request::{EndReason, Event, GenerateRequest, SampledToken};
use orcapack_trainer::engine::stop::StopTexts;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::text::text_stream::TextStream;
use serde_json::{Value, json};

use super::asked::Asked;
use super::errors::ApiError;
use super::metrics::ServeMetrics;

/// What comes of one choice at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    pub text: String,
    pub tokens: Vec<Told>,
    pub end: Option<&'static str>,
}

/// A token of an answer.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub sampled: SampledToken,
    /// Characters of the answer before it.
    pub offset: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Of the prompts.
    pub cached_tokens: usize,
}

/// See the module. Dropping it cancels what is not sampled yet.
pub(super) struct Answers<'a> {
    /// One for each answer that has not ended.
    coming: FuturesUnordered<BoxFuture<'static, Coming>>,
    choices: Vec<Choice<'a>>,
    usage: Usage,
    metrics: &'a ServeMetrics,
    began: Instant,
}

/// A choice's index, its next event, and what comes after that.
type Coming = (usize, Option<Event>, Generation);

/// One answer on its way.
struct Choice<'a> {
    text: TextStream<'a>,
    stop: StopTexts,
    /// Tokens that end it, which are no part of its text.
    ends: Arc<[u32]>,
    /// Characters so far, those that are held back too.
    chars: usize,
    is_first_of_prompt: bool,
    last_token: Option<Instant>,
}

impl<'a> Answers<'a> {
    /// Asks the engine for every choice of every prompt at once; choice `i` is the `i % n`th of
    /// prompt `i / n`.
    ///
    /// # Errors
    /// What is wrong with a request; nothing is left running then.
    pub fn start(
        engine: &EngineHandle,
        policy: &'a Policy,
        prompts: &[Arc<[u32]>],
        asked: &Asked,
        (metrics, prompt_name): (&'a ServeMetrics, &'static str),
    ) -> Result<Self, ApiError> {
        let own = if asked.ignore_eos { &[][..] } else { policy.config.eos_token_ids.as_slice() };
        let ends: Arc<[u32]> = [own, &asked.stop_ids].concat().into();
        let coming = FuturesUnordered::new();
        let mut choices = Vec::new();
        for prompt in prompts {
            for at in 0..asked.choices {
                let request = request(prompt.clone(), asked, at as u64);
                let generation = engine.generate(request);
                let generation =
                    generation.map_err(|error| ApiError::of_engine(&error, prompt_name))?;
                coming.push(next(choices.len(), generation));
                choices.push(Choice {
                    text: policy.tokenizer.stream(),
                    stop: StopTexts::new(&asked.stop),
                    ends: ends.clone(),
                    chars: 0,
                    is_first_of_prompt: at == 0,
                    last_token: None,
                });
            }
        }
        let prompt_tokens = prompts.iter().map(|prompt| prompt.len()).sum();
        let usage = Usage { prompt_tokens, ..Usage::default() };
        Ok(Self { coming, choices, usage, metrics, began: Instant::now() })
    }

    /// What comes next of any choice; `None` when all have ended. The first piece of a choice is
    /// empty: its prompt has been read.
    ///
    /// # Errors
    /// The engine has failed: nothing more comes.
    pub async fn next(&mut self) -> Result<Option<(usize, Piece)>, ApiError> {
        let Some((index, event, generation)) = self.coming.next().await else { return Ok(None) };
        let choice = &mut self.choices[index];
        let piece = match event {
            Some(Event::Started { cached_tokens }) => {
                if choice.is_first_of_prompt {
                    self.usage.cached_tokens += cached_tokens;
                }
                Piece::default()
            }
            Some(Event::Token(sampled)) => {
                self.usage.completion_tokens += 1;
                let now = Instant::now();
                self.metrics.token(self.began, choice.last_token.replace(now), now);
                choice.push(sampled)
            }
            Some(Event::Ended(end)) => {
                let piece = choice.end(end);
                self.metrics.ended(piece.end, self.began.elapsed());
                return Ok(Some((index, piece)));
            }
            Some(Event::Failed(error)) => return Err(ApiError::of_engine(&error, "prompt")),
            None => return Err(ApiError::internal("an answer without an end")),
        };
        self.coming.push(next(index, generation));
        Ok(Some((index, piece)))
    }

    /// Each choice as a whole.
    ///
    /// # Errors
    /// Those of [`Self::next`].
    pub async fn whole(&mut self) -> Result<Vec<Piece>, ApiError> {
        let mut whole = vec![Piece::default(); self.choices.len()];
        while let Some((index, piece)) = self.next().await? {
            whole[index].append(piece);
        }
        Ok(whole)
    }

    /// Of what has come so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

fn next(index: usize, mut generation: Generation) -> BoxFuture<'static, Coming> {
    Box::pin(async move { (index, generation.next().await, generation) })
}

fn request(prompt: Arc<[u32]>, asked: &Asked, at: u64) -> GenerateRequest {
    let mut sampling = asked.sampling;
    sampling.seed = sampling.seed.wrapping_add(at);
    GenerateRequest {
        prompt,
        sampling,
        // The context ends an answer that nothing else does.
        max_tokens: asked.max_tokens.unwrap_or(usize::MAX),
        stop_ids: asked.stop_ids.clone(),
        stop: asked.stop.clone(),
        ignore_eos: asked.ignore_eos,
        top_logprobs: asked.tell.logprobs.unwrap_or(0),
    }
}

impl Choice<'_> {
    fn push(&mut self, sampled: SampledToken) -> Piece {
        let offset = self.chars;
        let is_end = self.ends.contains(&sampled.id);
        let text = if is_end { String::new() } else { self.text.push(sampled.id) };
        self.chars += text.chars().count();
        let text = self.stop.push(&text).text;
        Piece { text, tokens: vec![Told { sampled, offset }], end: None }
    }

    fn end(&mut self, end: EndReason) -> Piece {
        let mut text = self.stop.push(&self.text.clone().finish()).text;
        text.push_str(&std::mem::take(&mut self.stop).finish());
        let end = match end {
            EndReason::StopToken | EndReason::StopText(_) => "stop",
            EndReason::Length => "length",
        };
        Piece { text, tokens: Vec::new(), end: Some(end) }
    }
}

impl Piece {
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty() && self.end.is_none()
    }

    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|told| told.sampled.id).collect()
    }

    /// Which weights sampled which tokens, as newer servers tell it:
    /// `[{"version": "7", "start": 0, "end": 12}]`.
    pub fn versions(&self) -> Value {
        let tokens: Vec<u64> = self.tokens.iter().map(|told| told.sampled.version).collect();
        let mut start = 0;
        let spans = tokens.chunk_by(|one, other| one == other).map(|span| {
            let (version, from) = (span[0].to_string(), start);
            start += span.len();
            json!({"version": version, "start": from, "end": start})
        });
        spans.collect()
    }

    fn append(&mut self, next: Self) {
        self.text.push_str(&next.text);
        self.tokens.extend(next.tokens);
        self.end = self.end.or(next.end);
    }
}

impl Usage {
    pub fn to_json(self) -> Value {
        let Self { prompt_tokens, completion_tokens, cached_tokens } = self;
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        })
    }
}
