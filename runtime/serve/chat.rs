//! `POST /v1/chat/completions`.

use orcapack_trainer::text::chat::ChatMessage;
use orcapack_trainer::text::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::answers::Piece;
use super::asked::{Asked, READ, RULES, Tell, alternatives, max_tokens};
use super::errors::ApiError;
use super::fields::{Fields, Rule, shown};
use super::logprobs;
use super::shape::Shape;

/// Messages of one conversation: above it, a request was mistaken.
const MESSAGES_MAX: usize = 10_000;

const OWN: &[&str] = &[
    "messages",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "chat_template_kwargs",
    "add_generation_prompt",
];

/// A conversation, and how it is to be rendered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conversation {
    pub messages: Vec<ChatMessage>,
    pub kwargs: Map<String, Value>,
    pub add_generation_prompt: bool,
}

impl Conversation {
    /// # Errors
    /// A message that is none of a text by one of the roles.
    pub fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let given = fields.get("messages");
        let items = given.and_then(Value::as_array).filter(|items| !items.is_empty());
        let items = items.filter(|items| items.len() <= MESSAGES_MAX).ok_or_else(|| {
            let found = given.map_or("nothing".to_owned(), shown);
            ApiError::param("messages", &format!("a list of 1 to {MESSAGES_MAX}"), found)
        })?;
        let messages = items.iter().enumerate().map(|(at, item)| message(at, item));
        Ok(Self {
            messages: messages.collect::<Result<_, _>>()?,
            kwargs: fields.object("chat_template_kwargs")?.cloned().unwrap_or_default(),
            add_generation_prompt: fields.boolean("add_generation_prompt")?.unwrap_or(true),
        })
    }
}

fn message(at: usize, item: &Value) -> Result<ChatMessage, ApiError> {
    const RULES: [(&str, Rule); 2] = [
        ("name", Rule::Ignored),
        ("tool_calls", Rule::Neutral(|value| value.as_array().is_some_and(Vec::is_empty))),
    ];
    let place = |key: &str| format!("messages[{at}].{key}");
    let Some(map) = item.as_object() else {
        return Err(ApiError::param(format!("messages[{at}]"), "an object", shown(item)));
    };
    let fields = Fields(map);
    fields.allow(&[&["role", "content"]], &RULES).map_err(|error| error.below(&place("")))?;
    let role = match fields.string("role").map_err(|error| error.below(&place("")))? {
        Some(role @ ("system" | "user" | "assistant")) => role.to_owned(),
        other => {
            let found = other.map_or("nothing".to_owned(), |role| format!("{role:?}"));
            return Err(ApiError::param(place("role"), "system, user or assistant", found));
        }
    };
    let content = match fields.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().enumerate();
            let texts = parts.map(|(part, value)| text_part(&place("content"), part, value));
            texts.collect::<Result<String, ApiError>>()?
        }
        other => {
            let found = other.map_or("nothing".to_owned(), shown);
            return Err(ApiError::param(place("content"), "a text, or a list of parts", found));
        }
    };
    Ok(ChatMessage { role, content })
}

fn text_part<'v>(place: &str, at: usize, part: &'v Value) -> Result<&'v str, ApiError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    match part.get("text").and_then(Value::as_str) {
        Some(text) if kind == "text" => Ok(text),
        _ => {
            let found = if kind.is_empty() { "another".to_owned() } else { format!("{kind:?}") };
            let place = format!("{place}[{at}].type");
            Err(ApiError::param(place, "\"text\" with a text: the model reads no other", found))
        }
    }
}

/// # Errors
/// The first parameter that is not as it should be.
pub(super) fn read(
    fields: &Fields<'_>,
    seed: impl FnOnce() -> u64,
) -> Result<(Conversation, Asked), ApiError> {
    fields.allow(&[READ, OWN], RULES)?;
    let conversation = Conversation::read(fields)?;
    if !conversation.add_generation_prompt {
        let what = "the assistant speaks next, so that it must be true";
        return Err(ApiError::unsupported("add_generation_prompt", what));
    }
    let mut asked = Asked::read(fields, seed)?;
    let newer = max_tokens(fields, "max_completion_tokens")?;
    if let (Some(newer), Some(older)) = (newer, asked.max_tokens)
        && newer != older
    {
        let expected = format!("{newer}, as max_completion_tokens says");
        return Err(ApiError::param("max_tokens", &expected, older));
    }
    asked.max_tokens = newer.or(asked.max_tokens);
    let top = alternatives(fields, "top_logprobs")?;
    asked.tell.logprobs = match (fields.boolean("logprobs")?.unwrap_or(false), top) {
        (true, top) => Some(top.unwrap_or(0)),
        (false, None | Some(0)) => None,
        (false, Some(_)) => {
            return Err(ApiError::param("top_logprobs", "logprobs = true beside it", "none"));
        }
    };
    Ok((conversation, asked))
}

/// See the module.
pub(super) struct Chat {
    pub tokenizer: Tokenizer,
    pub tell: Tell,
    pub prompt: std::sync::Arc<[u32]>,
}

impl Chat {
    fn logprobs(&self, piece: &Piece) -> Value {
        match self.tell.logprobs {
            Some(_) => logprobs::of_chat(&self.tokenizer, &piece.tokens),
            None => Value::Null,
        }
    }
}

impl Shape for Chat {
    const PROMPT: &'static str = "messages";
    const ID: &'static str = "chatcmpl";
    const OBJECTS: [&'static str; 2] = ["chat.completion", "chat.completion.chunk"];

    fn choice(&self, index: usize, whole: &Piece) -> Value {
        let mut choice = json!({
            "index": index,
            "message": {"role": "assistant", "content": whole.text, "refusal": null},
            "logprobs": self.logprobs(whole),
            "finish_reason": whole.end,
        });
        if self.tell.token_ids {
            choice["token_ids"] = whole.ids().into();
            choice["weight_versions"] = whole.versions();
        }
        choice
    }

    fn delta(&self, index: usize, piece: &Piece, is_first: bool) -> Value {
        let delta = match (is_first, piece.text.as_str()) {
            (true, text) => json!({"role": "assistant", "content": text}),
            (false, "") => json!({}),
            (false, text) => json!({"content": text}),
        };
        let logprobs = if piece.tokens.is_empty() { Value::Null } else { self.logprobs(piece) };
        let mut choice = json!({
            "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": piece.end,
        });
        if self.tell.token_ids {
            choice["token_ids"] = piece.ids().into();
        }
        choice
    }

    fn beside(&self) -> Map<String, Value> {
        let prompt =
            self.tell.token_ids.then(|| ("prompt_token_ids".to_owned(), json!(&self.prompt[..])));
        prompt.into_iter().collect()
    }
}
