//! Prompts as tokens, with the tokenizer and the chat template of the server that will be asked.
//!
//! vLLM and SGLang have one route for it, `POST /tokenize`, which takes messages or a text. (SGLang
//! takes messages since 2026; an older one refuses the call, and the error says so.)

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::conversations::{
    Beginning, Conversations, KEPT_CONVERSATIONS_MAX, KEPT_TOKENS_MAX, Ruler, Spoken,
};
use super::http::{Http, Route};
use super::openai::messages as chat_messages;
use super::{Answer, CallKey, Message, ModelError, Request, Speaker};

/// Keys of `extra` that say how a conversation is rendered, and not how an answer is sampled.
const TEMPLATE_KEYS: [&str; 2] = ["chat_template", "chat_template_kwargs"];

/// Makes the prompts of one endpoint's calls, and keeps what was answered.
#[derive(Debug)]
pub(super) struct TokenPrompts {
    route: Route,
    model: String,
    template: Map<String, Value>,
    conversations: Mutex<Conversations>,
    /// `None` inside: this server's template has none, and every prompt is rendered whole.
    ruler: OnceCell<Option<Ruler>>,
}

#[derive(Deserialize)]
struct Tokenized {
    tokens: Vec<u32>,
}

/// Names for tries in the server's log. Servers refuse a name that is still in use, as that of a
/// try that was given up may be, so each is given once.
#[derive(Debug)]
pub(super) struct Names {
    client: u64,
    given: AtomicU64,
}

impl Default for Names {
    fn default() -> Self {
        Self { client: RandomState::new().hash_one(0), given: AtomicU64::new(0) }
    }
}

impl Names {
    pub fn of_try(&self, key: &CallKey) -> String {
        let CallKey { rollout, attempt, step, agent, turn } = key;
        let (client, number) = (self.client, self.given.fetch_add(1, Ordering::Relaxed));
        format!("orcapack-{client:016x}-{number}-{rollout}.{attempt}.{step}.{agent}.{turn}")
    }
}

impl TokenPrompts {
    /// Takes the keys out of `extra` that are for it.
    pub fn new(http: &Http, model: &str, extra: &mut Map<String, Value>) -> Self {
        let template = TEMPLATE_KEYS.iter().filter_map(|key| extra.remove_entry(*key)).collect();
        let conversations = Conversations::new(KEPT_TOKENS_MAX, KEPT_CONVERSATIONS_MAX);
        Self {
            route: http.root_route("tokenize"),
            model: model.to_owned(),
            template,
            conversations: Mutex::new(conversations),
            ruler: OnceCell::new(),
        }
    }

    /// The tokens to ask with: those of the conversation so far, verbatim, and what was added; or
    /// all of it rendered anew where the conversation is not known, as after a restart, or the
    /// template gives no bridge.
    ///
    /// # Errors
    /// Those of the server's tokenizer.
    pub async fn prompt(
        &self,
        http: &Http,
        request: &Request,
        deadline: Instant,
    ) -> Result<Vec<u32>, ModelError> {
        let beginning = self.conversations().beginning(&request.key, &request.messages);
        match beginning {
            Beginning::Same(ids) => return Ok(ids),
            Beginning::Grown(spoken, added) => {
                let [answer, _] = Ruler::ANSWERS;
                if let Some(ruler) = self.ruler(http, deadline).await? {
                    let mut messages = Ruler::beginning(answer);
                    messages.extend(added);
                    let rendered = self.rendered(http, &messages, deadline).await?;
                    if let Some(bridge) = ruler.bridge(&rendered) {
                        return Ok(spoken.extended(bridge));
                    }
                }
            }
            Beginning::Unknown => {}
        }
        self.rendered(http, &request.messages, deadline).await
    }

    /// Keeps an answer with tokens, so that the conversation's next call extends it.
    pub fn keep(&self, request: &Request, answer: &Answer) {
        if let Some(tokens) = &answer.tokens {
            let spoken = Spoken {
                messages: request.messages.clone(),
                prompt_ids: tokens.prompt_ids.clone(),
                answer: answer.text.clone(),
                completion_ids: tokens.completion_ids.clone(),
                finish: answer.finish,
            };
            self.conversations().keep(&request.key, spoken);
        }
    }

    async fn ruler(&self, http: &Http, deadline: Instant) -> Result<Option<&Ruler>, ModelError> {
        let found = self.ruler.get_or_try_init(|| async {
            let [one, other] = Ruler::ANSWERS;
            let rendered = [
                self.rendered(http, &conversation(one), deadline).await?,
                self.rendered(http, &conversation(other), deadline).await?,
            ];
            let answers = [
                self.encoded(http, one, deadline).await?,
                self.encoded(http, other, deadline).await?,
            ];
            let ruler = Ruler::new(
                rendered.each_ref().map(Vec::as_slice),
                answers.each_ref().map(Vec::as_slice),
            );
            if ruler.is_none() {
                tracing::warn!(
                    model = self.model,
                    "the chat template mixes answers with what stands around them: prompts are \
                     rendered whole, and do not extend the sampled tokens"
                );
            }
            Ok(ruler)
        });
        Ok(found.await?.as_ref())
    }

    /// A conversation up to where the assistant is to speak.
    async fn rendered(
        &self,
        http: &Http,
        messages: &[Message],
        deadline: Instant,
    ) -> Result<Vec<u32>, ModelError> {
        let mut body = self.template.clone();
        body.insert("messages".into(), chat_messages(messages));
        body.insert("add_generation_prompt".into(), true.into());
        self.tokenized(http, body, deadline).await
    }

    /// A text alone.
    async fn encoded(
        &self,
        http: &Http,
        text: &str,
        deadline: Instant,
    ) -> Result<Vec<u32>, ModelError> {
        let body = Map::from_iter([("prompt".to_owned(), json!(text))]);
        self.tokenized(http, body, deadline).await
    }

    async fn tokenized(
        &self,
        http: &Http,
        mut body: Map<String, Value>,
        deadline: Instant,
    ) -> Result<Vec<u32>, ModelError> {
        body.insert("model".into(), self.model.as_str().into());
        // Templates write them themselves.
        body.insert("add_special_tokens".into(), false.into());
        let Tokenized { tokens } = http.post(&self.route, &body, deadline).await?;
        if tokens.is_empty() {
            return Err(http.malformed(&self.route, "tokens: expected some, found none"));
        }
        Ok(tokens)
    }

    fn conversations(&self) -> std::sync::MutexGuard<'_, Conversations> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a ruler is found with: the assistant's text must not be the last one, which some templates
/// render otherwise.
fn conversation(answer: &str) -> Vec<Message> {
    let mut messages = Ruler::beginning(answer);
    messages.push(Message::new(Speaker::User, "x"));
    messages
}

/// Of a request's prefix cache: what older weights computed is not read by newer ones.
pub(super) fn cache_salt(request: &Request) -> String {
    format!("policy-{}", request.policy_version)
}
