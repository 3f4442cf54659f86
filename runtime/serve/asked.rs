//! What both routes that answer are asked in common: how to sample, how much, and what to tell of
//! it. Pure.

use serde_json::{Value, json};

use orcapack_trainer::caps::{STOP_TEXT_BYTES_MAX, STOPS_MAX, TOP_LOGPROBS_MAX};
use orcapack_trainer::engine::request::SamplingParams;

use super::errors::ApiError;
use super::fields::{Fields, Rule, shown};

/// Answers to one prompt.
const CHOICES_MAX: i64 = 128;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub sampling: SamplingParams,
    /// `None`: as many as the context has room for.
    pub max_tokens: Option<usize>,
    /// Answers to each prompt; those after the first have the seeds after the first's.
    pub choices: usize,
    pub stop: Vec<String>,
    pub stop_ids: Vec<u32>,
    pub ignore_eos: bool,
    pub tell: Tell,
    /// `Some` where the answer is to be streamed.
    pub stream: Option<Stream>,
}

/// What is told of the tokens beside their text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tell {
    /// Log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
    pub token_ids: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub include_usage: bool,
}

/// The parameters that [`Asked::read`] reads.
pub(super) const READ: &[&str] = &[
    "model",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "n",
    "max_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "return_token_ids",
    "stream",
    "stream_options",
];

/// Of OpenAI and vLLM; what is not here either is an error, so that a misspelt parameter is none in
/// silence.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("user", Rule::Ignored),
    ("metadata", Rule::Ignored),
    ("safety_identifier", Rule::Ignored),
    ("prompt_cache_key", Rule::Ignored),
    ("request_id", Rule::Ignored),
    ("cache_salt", Rule::Ignored),
    ("service_tier", Rule::Ignored),
    ("priority", Rule::Neutral(is_zero)),
    ("store", Rule::Neutral(is_false)),
    ("presence_penalty", Rule::Neutral(is_zero)),
    ("frequency_penalty", Rule::Neutral(is_zero)),
    ("repetition_penalty", Rule::Neutral(is_one)),
    ("min_p", Rule::Neutral(is_zero)),
    ("min_tokens", Rule::Neutral(is_zero)),
    ("logit_bias", Rule::Neutral(is_empty)),
    ("best_of", Rule::Neutral(is_one)),
    ("use_beam_search", Rule::Neutral(is_false)),
    ("echo", Rule::Neutral(is_false)),
    ("suffix", Rule::Neutral(is_empty)),
    ("skip_special_tokens", Rule::Neutral(is_true)),
    ("include_stop_str_in_output", Rule::Neutral(is_false)),
    ("tools", Rule::Neutral(is_empty)),
    ("tool_choice", Rule::Neutral(is_none)),
    ("parallel_tool_calls", Rule::Ignored),
    ("functions", Rule::Neutral(is_empty)),
    ("function_call", Rule::Neutral(is_none)),
    ("response_format", Rule::Neutral(is_plain_text)),
    ("modalities", Rule::Neutral(is_text_only)),
    ("audio", Rule::Neutral(is_false)),
    ("reasoning_effort", Rule::Neutral(is_none)),
];

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_false(value: &Value) -> bool {
    *value == json!(false)
}

fn is_true(value: &Value) -> bool {
    *value == json!(true)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn is_none(value: &Value) -> bool {
    *value == json!("none")
}

fn is_plain_text(value: &Value) -> bool {
    *value == json!({"type": "text"})
}

fn is_text_only(value: &Value) -> bool {
    *value == json!(["text"])
}

impl Asked {
    /// `seed` is for who asks for none.
    ///
    /// # Errors
    /// The first parameter that is not as it should be.
    pub fn read(fields: &Fields<'_>, seed: impl FnOnce() -> u64) -> Result<Self, ApiError> {
        let stop = stop(fields)?;
        let range = 0..=i64::from(u32::MAX);
        let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?.unwrap_or(0);
        Ok(Self {
            sampling: SamplingParams {
                temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0) as f32,
                top_p: top_p(fields)?,
                // vLLM says "all" with -1, OpenAI's servers with 0.
                top_k: usize::try_from(top_k).unwrap_or(0),
                // Any 64 bits are a seed, those of a negative number too.
                seed: match fields.integer("seed", i64::MIN..=i64::MAX)? {
                    Some(seed) => seed as u64,
                    None => seed(),
                },
            },
            max_tokens: max_tokens(fields, "max_tokens")?,
            choices: fields.integer("n", 1..=CHOICES_MAX)?.unwrap_or(1) as usize,
            stop,
            stop_ids: match fields.get("stop_token_ids") {
                Some(ids) => token_ids("stop_token_ids", ids, STOPS_MAX, range)?,
                None => Vec::new(),
            },
            ignore_eos: fields.boolean("ignore_eos")?.unwrap_or(false),
            tell: Tell {
                logprobs: None,
                token_ids: fields.boolean("return_token_ids")?.unwrap_or(false),
            },
            stream: stream(fields)?,
        })
    }
}

pub(super) fn max_tokens(fields: &Fields<'_>, key: &str) -> Result<Option<usize>, ApiError> {
    let tokens = fields.integer(key, 1..=i64::from(u32::MAX))?;
    Ok(tokens.map(|tokens| tokens as usize))
}

/// How many alternatives are asked for.
pub(super) fn alternatives(fields: &Fields<'_>, key: &str) -> Result<Option<usize>, ApiError> {
    let count = fields.integer(key, 0..=TOP_LOGPROBS_MAX as i64)?;
    Ok(count.map(|count| count as usize))
}

/// A list of ids. Whether they are in the vocabulary is the caller's or the engine's to say.
pub(super) fn token_ids(
    key: &str,
    value: &Value,
    count_max: usize,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Vec<u32>, ApiError> {
    let expected = || format!("a list of at most {count_max} token ids");
    let refuse = |value| ApiError::param(key, &expected(), shown(value));
    let items = value.as_array().filter(|items| items.len() <= count_max);
    let items = items.ok_or_else(|| refuse(value))?;
    let id = |(at, item): (usize, &Value)| {
        let id = item.as_i64().filter(|id| range.contains(id));
        let id = id.and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| {
            let expected = format!("a token id from {} to {}", range.start(), range.end());
            ApiError::param(format!("{key}[{at}]"), &expected, shown(item))
        })
    };
    items.iter().enumerate().map(id).collect()
}

fn top_p(fields: &Fields<'_>) -> Result<f32, ApiError> {
    let top_p = fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0) as f32;
    if top_p > 0.0 {
        return Ok(top_p);
    }
    Err(ApiError::param("top_p", "a number above 0", top_p))
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    const EXPECTED: &str = "a text, or a list of texts, none of them empty or very long";
    let texts = match fields.get("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.len() <= STOPS_MAX => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            let texts = texts.collect::<Option<Vec<String>>>();
            texts.ok_or_else(|| ApiError::param("stop", EXPECTED, "something else in it"))?
        }
        Some(other) => return Err(ApiError::param("stop", EXPECTED, shown(other))),
    };
    match texts.iter().find(|text| text.is_empty() || text.len() > STOP_TEXT_BYTES_MAX) {
        Some(text) => {
            Err(ApiError::param("stop", EXPECTED, format!("one of {} bytes", text.len())))
        }
        None => Ok(texts),
    }
}

fn stream(fields: &Fields<'_>) -> Result<Option<Stream>, ApiError> {
    let is_streamed = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else {
        return Ok(is_streamed.then_some(Stream { include_usage: false }));
    };
    if !is_streamed {
        return Err(ApiError::param("stream_options", "stream = true beside it", "none"));
    }
    let options = Fields(options);
    options.allow(&[&["include_usage"]], &[("include_obfuscation", Rule::Ignored)])?;
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    Ok(Some(Stream { include_usage }))
}
