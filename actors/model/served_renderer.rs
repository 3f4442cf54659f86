//! The tokenizer and the chat template of a server, behind its `POST /tokenize`; and what else its
//! requests need that go by token ids.
//!
//! vLLM and SGLang have one route for it, which takes messages or a text. (SGLang takes messages
//! since 2026; an older one refuses the call, and the error says so.)

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::conversations::Ruler;
use super::http::{Http, Route};
use super::openai::messages as chat_messages;
use super::renderer::Renderer;
use super::{CallKey, Message, ModelError, Request, Speaker};

/// Keys of `extra` that say how a conversation is rendered, and not how an answer is sampled.
const TEMPLATE_KEYS: [&str; 2] = ["chat_template", "chat_template_kwargs"];

/// What a server renders with, and what is known of it.
#[derive(Debug)]
pub(super) struct ServedTemplate {
    route: Route,
    model: String,
    template: Map<String, Value>,
    /// `None` inside: this server's template has none, and every prompt is rendered whole.
    ruler: OnceCell<Option<Ruler>>,
}

/// A renderer for the calls of one try.
pub(super) struct ServedRenderer<'a> {
    served: &'a ServedTemplate,
    http: &'a Http,
    deadline: Instant,
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

impl ServedTemplate {
    /// Takes the keys out of `extra` that are for it.
    pub fn new(http: &Http, model: &str, extra: &mut Map<String, Value>) -> Self {
        let template = TEMPLATE_KEYS.iter().filter_map(|key| extra.remove_entry(*key)).collect();
        Self {
            route: http.root_route("tokenize"),
            model: model.to_owned(),
            template,
            ruler: OnceCell::new(),
        }
    }

    pub fn renderer<'a>(&'a self, http: &'a Http, deadline: Instant) -> ServedRenderer<'a> {
        ServedRenderer { served: self, http, deadline }
    }
}

impl Renderer for ServedRenderer<'_> {
    fn prompt<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> BoxFuture<'a, Result<Vec<u32>, ModelError>> {
        Box::pin(self.rendered(messages))
    }

    fn bridge<'a>(
        &'a self,
        added: &'a [Message],
    ) -> BoxFuture<'a, Result<Option<Vec<u32>>, ModelError>> {
        Box::pin(async move {
            let [answer, _] = Ruler::ANSWERS;
            let Some(ruler) = self.ruler().await? else { return Ok(None) };
            let mut messages = Ruler::beginning(answer);
            messages.extend_from_slice(added);
            let rendered = self.rendered(&messages).await?;
            Ok(ruler.bridge(&rendered).map(<[u32]>::to_vec))
        })
    }
}

impl<'a> ServedRenderer<'a> {
    async fn ruler(&self) -> Result<Option<&'a Ruler>, ModelError> {
        let found = self.served.ruler.get_or_try_init(|| async {
            let [one, other] = Ruler::ANSWERS;
            let rendered = [
                self.rendered(&conversation(one)).await?,
                self.rendered(&conversation(other)).await?,
            ];
            let answers = [self.encoded(one).await?, self.encoded(other).await?];
            let ruler = Ruler::new(
                rendered.each_ref().map(Vec::as_slice),
                answers.each_ref().map(Vec::as_slice),
            );
            if ruler.is_none() {
                tracing::warn!(
                    model = self.served.model,
                    "the chat template mixes answers with what stands around them: prompts are \
                     rendered whole, and do not extend the sampled tokens"
                );
            }
            Ok(ruler)
        });
        Ok(found.await?.as_ref())
    }

    /// A conversation up to where the assistant is to speak.
    async fn rendered(&self, messages: &[Message]) -> Result<Vec<u32>, ModelError> {
        let mut body = self.served.template.clone();
        body.insert("messages".into(), chat_messages(messages));
        body.insert("add_generation_prompt".into(), true.into());
        self.tokenized(body).await
    }

    /// A text alone.
    async fn encoded(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenized(Map::from_iter([("prompt".to_owned(), json!(text))])).await
    }

    async fn tokenized(&self, mut body: Map<String, Value>) -> Result<Vec<u32>, ModelError> {
        let ServedTemplate { route, model, .. } = self.served;
        body.insert("model".into(), model.as_str().into());
        // Templates write them themselves.
        body.insert("add_special_tokens".into(), false.into());
        let Tokenized { tokens } = self.http.post(route, &body, self.deadline).await?;
        if tokens.is_empty() {
            return Err(self.http.malformed(route, "tokens: expected some, found none"));
        }
        Ok(tokens)
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
