//! `POST /v1/completions`: prompts as text or as token ids, one or several.

use std::sync::Arc;

use orcapack_trainer::caps::CONTEXT_TOKENS_MAX;
use orcapack_trainer::text::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::answers::Piece;
use super::asked::{Asked, READ, RULES, Tell, alternatives, token_ids};
use super::errors::ApiError;
use super::fields::{Fields, Rule, shown};
use super::logprobs;
use super::shape::Shape;

/// OpenAI's default.
const MAX_TOKENS: usize = 16;
/// Of one request.
const PROMPTS_MAX: usize = 128;

const OWN: &[&str] = &["prompt", "logprobs"];
/// The tokenizer adds none, asked or not.
const OWN_RULES: [(&str, Rule); 1] = [("add_special_tokens", Rule::Ignored)];

/// A prompt as it was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// # Errors
/// The first parameter that is not as it should be.
pub(super) fn read(
    fields: &Fields<'_>,
    vocab_size: usize,
    seed: impl FnOnce() -> u64,
) -> Result<(Vec<Prompt>, Asked), ApiError> {
    fields.allow(&[READ, OWN], &[RULES, &OWN_RULES].concat())?;
    let prompts = prompts(fields, vocab_size)?;
    let mut asked = Asked::read(fields, seed)?;
    asked.max_tokens = asked.max_tokens.or(Some(MAX_TOKENS));
    asked.tell.logprobs = alternatives(fields, "logprobs")?;
    Ok((prompts, asked))
}

fn prompts(fields: &Fields<'_>, vocab_size: usize) -> Result<Vec<Prompt>, ApiError> {
    const EXPECTED: &str = "a text, a list of token ids, or a list of either";
    let ids = |key: &str, value: &Value| {
        let range = 0..=vocab_size as i64 - 1;
        token_ids(key, value, CONTEXT_TOKENS_MAX, range).map(Prompt::Ids)
    };
    match fields.get("prompt") {
        Some(Value::String(text)) => Ok(vec![Prompt::Text(text.clone())]),
        Some(list @ Value::Array(items)) if items.first().is_some_and(Value::is_number) => {
            Ok(vec![ids("prompt", list)?])
        }
        Some(Value::Array(items)) if !items.is_empty() => {
            if items.len() > PROMPTS_MAX {
                let expected = format!("at most {PROMPTS_MAX} prompts");
                return Err(ApiError::param("prompt", &expected, items.len()));
            }
            let prompt = |(at, item): (usize, &Value)| match item {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                item => ids(&format!("prompt[{at}]"), item),
            };
            items.iter().enumerate().map(prompt).collect()
        }
        other => {
            let found = other.map_or("nothing".to_owned(), shown);
            Err(ApiError::param("prompt", EXPECTED, found))
        }
    }
}

/// See the module.
pub(super) struct Completions {
    pub tokenizer: Tokenizer,
    pub tell: Tell,
    pub prompts: Vec<Arc<[u32]>>,
    /// Choices of each prompt.
    pub choices: usize,
}

impl Completions {
    fn of(&self, index: usize, piece: &Piece) -> Value {
        let logprobs = match self.tell.logprobs {
            Some(_) => logprobs::of_completion(&self.tokenizer, &piece.tokens),
            None => Value::Null,
        };
        let mut choice = json!({
            "index": index,
            "text": piece.text,
            "logprobs": logprobs,
            "finish_reason": piece.end,
        });
        if self.tell.token_ids {
            choice["token_ids"] = piece.ids().into();
        }
        choice
    }

    fn with_prompt(&self, index: usize, mut choice: Value) -> Value {
        if let Some(prompt) = self.prompts.get(index / self.choices)
            && self.tell.token_ids
        {
            choice["prompt_token_ids"] = json!(&prompt[..]);
        }
        choice
    }
}

impl Shape for Completions {
    const PROMPT: &'static str = "prompt";
    const ID: &'static str = "cmpl";
    const OBJECTS: [&'static str; 2] = ["text_completion", "text_completion"];

    fn choice(&self, index: usize, whole: &Piece) -> Value {
        let mut choice = self.with_prompt(index, self.of(index, whole));
        if self.tell.token_ids {
            choice["weight_versions"] = whole.versions();
        }
        choice
    }

    fn delta(&self, index: usize, piece: &Piece, is_first: bool) -> Value {
        let delta = self.of(index, piece);
        if is_first { self.with_prompt(index, delta) } else { delta }
    }

    fn beside(&self) -> Map<String, Value> {
        Map::new()
    }
}
