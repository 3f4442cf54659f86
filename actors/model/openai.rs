//! Any server of the OpenAI chat protocol: `POST {url}/chat/completions`.
//!
//! The answer's length is limited by `max_completion_tokens` at OpenAI itself and at Azure, whose
//! newer models take nothing else, and by `max_tokens` everywhere else, where not all servers know
//! the newer name. Where that is wrong, either name in `extra` replaces both.

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{Credential, Http, Route};
use super::sampling::overlay;
use super::settings::{EndpointSettings, Sampling};
use super::{Answer, CallKey, Finish, Message, Model, ModelError, ModelErrorKind, Request, Usage};

const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// A server of the OpenAI chat protocol.
#[derive(Debug)]
pub struct OpenAi {
    http: Http,
    route: Route,
    model: String,
    sampling: Sampling,
    extra: Map<String, Value>,
    /// Whether it is the protocol's author: others may refuse keys that only it knows.
    is_official: bool,
}

impl OpenAi {
    /// # Errors
    /// `Rejected` where no call could ever be made with these settings.
    pub fn new(settings: &EndpointSettings) -> Result<Self, ModelError> {
        let http = Http::new(settings, Credential::Bearer, &[])?;
        let is_official = ["api.openai.com", "openai.azure.com"]
            .iter()
            .any(|host| http.host() == *host || http.host().ends_with(&format!(".{host}")));
        Ok(Self {
            route: http.route("chat/completions"),
            http,
            model: settings.model.clone(),
            sampling: settings.sampling.clone(),
            extra: settings.extra.clone(),
            is_official,
        })
    }

    /// What is posted for a request.
    pub fn body(&self, request: &Request) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".into(), self.model.as_str().into());
        body.insert("messages".into(), messages(&request.messages));
        let [plain, newer] = LIMITS;
        if LIMITS.iter().all(|limit| !self.extra.contains_key(*limit)) {
            let limit = if self.is_official { newer } else { plain };
            body.insert(limit.into(), request.max_tokens.into());
        }
        self.sampling.write(&mut body, Some("seed"), &request.key);
        if self.is_official {
            // Calls with one key are sent where the conversation is cached.
            body.insert("prompt_cache_key".into(), conversation(&request.key).into());
        }
        overlay(&mut body, &self.extra);
        body
    }

    async fn complete(&self, request: &Request) -> Result<Answer, ModelError> {
        let deadline = self.http.deadline();
        let completion: Completion =
            self.http.post(&self.route, &self.body(request), deadline).await?;
        completion.answer().map_err(|(kind, what)| self.http.error(kind, &self.route, what))
    }
}

impl Model for OpenAi {
    fn name(&self) -> &str {
        &self.model
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(self.complete(request))
    }
}

/// Messages as the chat protocol writes them.
pub(super) fn messages(messages: &[Message]) -> Value {
    messages.iter().map(|m| json!({"role": m.role, "content": &*m.content})).collect()
}

/// The name of the conversation that a call belongs to.
fn conversation(key: &CallKey) -> String {
    let CallKey { rollout, attempt, step, agent, turn: _ } = key;
    format!("orcapack-{rollout}-{attempt}-{step}-{agent}")
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: String,
    choices: Vec<Choice>,
    usage: Option<UsageBody>,
}

#[derive(Deserialize)]
struct Choice {
    message: MessageBody,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct MessageBody {
    role: String,
    /// A text, a list of parts, or null.
    content: Option<Value>,
    refusal: Option<String>,
    /// DeepSeek's name, and that of most servers; the other is OpenRouter's and vLLM's newer one.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

/// The protocol's count of tokens, which vLLM's other routes have too.
#[derive(Default, Deserialize)]
pub(super) struct UsageBody {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

impl From<UsageBody> for Usage {
    fn from(body: UsageBody) -> Self {
        let cached = body.prompt_tokens_details.and_then(|details| details.cached_tokens);
        Self::told(body.prompt_tokens, body.completion_tokens, cached.unwrap_or(0))
    }
}

impl Completion {
    fn answer(self) -> Result<Answer, (ModelErrorKind, String)> {
        let malformed = |what: String| (ModelErrorKind::Malformed, what);
        let choice = self.choices.into_iter().next();
        let Choice { message, finish_reason } =
            choice.ok_or_else(|| malformed("choices: expected one, found none".into()))?;
        if message.role != "assistant" {
            let found = message.role;
            return Err(malformed(format!(
                "message.role: expected \"assistant\", found {found:?}"
            )));
        }
        let refusal = message.refusal.filter(|refusal| !refusal.is_empty());
        let finish = match finish_reason.as_deref() {
            _ if refusal.is_some() => Finish::Refused,
            reason => finish(reason)?,
        };
        let text = text(message.content).map_err(malformed)?;
        let reasoning = message.reasoning_content.or(message.reasoning);
        Ok(Answer {
            text: if text.is_empty() { refusal.unwrap_or_default() } else { text },
            reasoning: reasoning.filter(|reasoning| !reasoning.is_empty()),
            finish,
            usage: self.usage.unwrap_or_default().into(),
            model: self.model,
            tokens: None,
        })
    }
}

/// From the protocol's word for the end of an answer. Words that only some servers use mean that
/// the model came to its end; `abort` and `error` that the server gave up in the middle.
pub(super) fn finish(reason: Option<&str>) -> Result<Finish, (ModelErrorKind, String)> {
    match reason {
        Some("length") => Ok(Finish::Length),
        Some("content_filter") => Ok(Finish::Refused),
        Some(gave_up @ ("abort" | "error")) => {
            Err((ModelErrorKind::Overloaded, format!("the server gave up: {gave_up:?}")))
        }
        _ => Ok(Finish::Stop),
    }
}

/// The text of a content, whichever way it is written. Parts of other types are no text.
fn text(content: Option<Value>) -> Result<String, String> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            Ok(parts.iter().filter_map(|part| part.get("text")?.as_str()).collect())
        }
        Some(other) => {
            Err(format!("message.content: expected a text, parts or null, found {other}"))
        }
    }
}
