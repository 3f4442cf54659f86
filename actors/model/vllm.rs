//! vLLM, token ids in and out: `POST /tokenize`, then `POST {url}/completions` with ids.
//!
//! Of the two routes that take ids, `/v1/completions` gives text, ids and log-probabilities in one
//! answer and is in every vLLM since 0.10.2; `/inference/v1/generate` gives no text, so that each
//! turn would cost one more call. Where the server tells which weights sampled a token
//! (`weight_versions`), it is kept.
//!
//! Log-probabilities are those of the distribution that was sampled from only if the server runs
//! with `--logprobs-mode processed_logprobs`: by default vLLM tells those before the temperature,
//! which are right at a temperature of 1 and `top_p` of 1 alone.
//!
//! `extra` goes over the keys of the completion, as `top_k` and `priority` (which servers without
//! `--scheduling-policy priority` refuse), but for `chat_template` and `chat_template_kwargs`,
//! which go to the tokenizer.

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::http::{Credential, Http, Route};
use super::openai::{UsageBody, finish};
use super::sampling::overlay;
use super::served_renderer::{Names, ServedTemplate, cache_salt};
use super::settings::{EndpointSettings, Sampling};
use super::token_prompt::TokenPrompts;
use super::token_trace::{VersionSpan, split_thought, trace, versions};
use super::{Answer, Model, ModelError, ModelErrorKind, Request};

/// A vLLM server.
#[derive(Debug)]
pub struct Vllm {
    http: Http,
    route: Route,
    template: ServedTemplate,
    prompts: TokenPrompts,
    names: Names,
    model: String,
    sampling: Sampling,
    extra: Map<String, Value>,
}

impl Vllm {
    /// # Errors
    /// `Rejected` where no call could ever be made with these settings.
    pub fn new(settings: &EndpointSettings) -> Result<Self, ModelError> {
        let http = Http::new(settings, Credential::Bearer, &[])?;
        let mut extra = settings.extra.clone();
        Ok(Self {
            route: http.versioned_route("completions"),
            template: ServedTemplate::new(&http, &settings.model, &mut extra),
            prompts: TokenPrompts::default(),
            http,
            names: Names::default(),
            model: settings.model.clone(),
            sampling: settings.sampling.clone(),
            extra,
        })
    }

    fn body(&self, request: &Request, prompt: &[u32]) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".into(), self.model.as_str().into());
        body.insert("prompt".into(), prompt.into());
        body.insert("max_tokens".into(), request.max_tokens.into());
        body.insert("logprobs".into(), 1.into());
        body.insert("return_token_ids".into(), true.into());
        body.insert("request_id".into(), self.names.of_try(&request.key).into());
        body.insert("cache_salt".into(), cache_salt(request).into());
        self.sampling.write(&mut body, Some("seed"), &request.key);
        overlay(&mut body, &self.extra);
        body
    }

    async fn complete(&self, request: &Request) -> Result<Answer, ModelError> {
        let deadline = self.http.deadline();
        let renderer = self.template.renderer(&self.http, deadline);
        let prompt = self.prompts.prompt(&renderer, request).await?;
        let body = self.body(request, &prompt);
        let completion: Completion = self.http.post(&self.route, &body, deadline).await?;
        let answer = completion.answer(prompt);
        let answer = answer.map_err(|(kind, what)| self.http.error(kind, &self.route, what))?;
        self.prompts.keep(request, &answer);
        Ok(answer)
    }
}

impl Model for Vllm {
    fn name(&self) -> &str {
        &self.model
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(self.complete(request))
    }
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
    text: String,
    token_ids: Vec<u32>,
    logprobs: Logprobs,
    finish_reason: Option<String>,
    prompt_token_ids: Option<Vec<u32>>,
    weight_versions: Option<Vec<VersionSpan>>,
}

#[derive(Deserialize)]
struct Logprobs {
    token_logprobs: Vec<Option<f64>>,
}

impl Completion {
    fn answer(self, prompt: Vec<u32>) -> Result<Answer, (ModelErrorKind, String)> {
        let malformed = |what: String| (ModelErrorKind::Malformed, what);
        let choice = self.choices.into_iter().next();
        let choice = choice.ok_or_else(|| malformed("choices: expected one, found none".into()))?;
        let finish = finish(choice.finish_reason.as_deref())?;
        if choice.prompt_token_ids.is_some_and(|ids| ids != prompt) {
            return Err(malformed("prompt_token_ids: expected those sent, found others".into()));
        }
        let spans = choice.weight_versions.unwrap_or_default();
        let versions = versions(&spans, choice.token_ids.len());
        let logprobs = choice.logprobs.token_logprobs;
        let tokens = trace(prompt, choice.token_ids, logprobs, versions).map_err(malformed)?;
        let (reasoning, text) = split_thought(&choice.text);
        Ok(Answer {
            text,
            reasoning,
            finish,
            usage: self.usage.unwrap_or_default().into(),
            model: self.model,
            tokens: Some(tokens),
        })
    }
}
