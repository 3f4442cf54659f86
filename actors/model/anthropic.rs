//! The Anthropic protocol: `POST {url}/messages`, where `{url}` ends with `/v1`; a URL without it,
//! as Anthropic's own clients take it, gets it.
//!
//! Prompts are cached up to marks in them, four at most. One stands at the end of the system
//! prompt, which all agents of a role share, and one at the end of each of the last two messages of
//! the user: the last one writes what the next call reads, and the one before reads what the last
//! call wrote, also when the turn between them was tried again.
//!
//! The protocol's version 2026-10-21 refuses `temperature`, `top_p` and `top_k`. Where one of them
//! is configured, the version before it is asked for, which takes them for the models that know
//! them.

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{Credential, Http, Route};
use super::sampling::overlay;
use super::settings::{EndpointSettings, Sampling};
use super::{Answer, Finish, Message, Model, ModelError, Request, Speaker, Usage};

const VERSION: &str = "2026-10-21";
const VERSION_WITH_SAMPLING: &str = "2023-06-01";
/// Stands for a message that is empty.
const NO_TEXT: &str = "(no text)";
const MARKED_USER_MESSAGES: usize = 2;

/// A server of the Anthropic protocol.
#[derive(Debug)]
pub struct Anthropic {
    http: Http,
    route: Route,
    model: String,
    sampling: Sampling,
    extra: Map<String, Value>,
}

impl Anthropic {
    /// # Errors
    /// `Rejected` where no call could ever be made with these settings.
    pub fn new(settings: &EndpointSettings) -> Result<Self, ModelError> {
        let is_sampled = settings.sampling.temperature.is_some()
            || settings.sampling.top_p.is_some()
            || ["temperature", "top_p", "top_k"].iter().any(|k| settings.extra.contains_key(*k));
        let version = if is_sampled { VERSION_WITH_SAMPLING } else { VERSION };
        let headers = [("anthropic-version", version)];
        let http = Http::new(settings, Credential::Header("x-api-key"), &headers)?;
        Ok(Self {
            route: http.versioned_route("messages"),
            http,
            model: settings.model.clone(),
            sampling: settings.sampling.clone(),
            extra: settings.extra.clone(),
        })
    }

    fn body(&self, request: &Request) -> Map<String, Value> {
        let is_system = |m: &&Message| m.role == Speaker::System;
        let system: Vec<&Message> = request.messages.iter().filter(is_system).collect();
        let rest: Vec<&Message> = request.messages.iter().filter(|m| !is_system(m)).collect();
        let users = rest.iter().enumerate().filter(|(_, m)| m.role == Speaker::User);
        let mut users: Vec<usize> = users.map(|(at, _)| at).collect();
        let marked = users.split_off(users.len().saturating_sub(MARKED_USER_MESSAGES));

        let mut body = Map::new();
        body.insert("model".into(), self.model.as_str().into());
        body.insert("max_tokens".into(), request.max_tokens.into());
        if let Some((last, earlier)) = system.split_last() {
            let earlier = earlier.iter().map(|m| block(m, false));
            body.insert("system".into(), earlier.chain([block(last, true)]).collect());
        }
        let messages = rest.iter().enumerate().map(|(at, message)| {
            json!({"role": message.role, "content": [block(message, marked.contains(&at))]})
        });
        body.insert("messages".into(), messages.collect());
        self.sampling.write(&mut body, None, &request.key);
        overlay(&mut body, &self.extra);
        body
    }

    async fn complete(&self, request: &Request) -> Result<Answer, ModelError> {
        let deadline = self.http.deadline();
        let message: MessageBody =
            self.http.post(&self.route, &self.body(request), deadline).await?;
        message.answer().map_err(|what| self.http.malformed(&self.route, what))
    }
}

impl Model for Anthropic {
    fn name(&self) -> &str {
        &self.model
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(self.complete(request))
    }
}

fn block(message: &Message, is_marked: bool) -> Value {
    // The protocol refuses blocks without text, and an answer may have had none.
    let text = if message.content.trim().is_empty() { NO_TEXT } else { &*message.content };
    let mut block = json!({"type": "text", "text": text});
    if is_marked && let Value::Object(keys) = &mut block {
        keys.insert("cache_control".into(), json!({"type": "ephemeral"}));
    }
    block
}

#[derive(Deserialize)]
struct MessageBody {
    role: String,
    #[serde(default)]
    model: String,
    content: Vec<Block>,
    stop_reason: Option<String>,
    usage: UsageBody,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    thinking: String,
}

#[derive(Deserialize)]
struct UsageBody {
    /// Neither read from the cache nor written to it.
    input_tokens: u64,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: u64,
}

impl MessageBody {
    fn answer(self) -> Result<Answer, String> {
        if self.role != "assistant" {
            return Err(format!("role: expected \"assistant\", found {:?}", self.role));
        }
        let finish = match self.stop_reason.as_deref() {
            Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
            Some("refusal") => Finish::Refused,
            Some(_) => Finish::Stop,
            None => return Err("stop_reason: expected a word, found none".into()),
        };
        let of_kind = |kind: &'static str| self.content.iter().filter(move |b| b.kind == kind);
        let text = of_kind("text").map(|block| block.text.as_str()).collect();
        let thoughts: String = of_kind("thinking").map(|block| block.thinking.as_str()).collect();
        let UsageBody { input_tokens, output_tokens, .. } = self.usage;
        let cached_tokens = self.usage.cache_read_input_tokens.unwrap_or(0);
        let written_tokens = self.usage.cache_creation_input_tokens.unwrap_or(0);
        Ok(Answer {
            text,
            reasoning: Some(thoughts).filter(|thoughts| !thoughts.is_empty()),
            finish,
            usage: Usage::told(
                input_tokens.saturating_add(cached_tokens).saturating_add(written_tokens),
                output_tokens,
                cached_tokens,
            ),
            model: self.model,
            tokens: None,
        })
    }
}
