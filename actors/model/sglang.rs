//! SGLang, token ids in and out: `POST /tokenize`, then its own `POST /generate`.
//!
//! Log-probabilities are those after the temperature, unless the server runs with
//! `SGLANG_RETURN_ORIGINAL_LOGPROB=1`. They are those before `top_p` and `top_k`, so that training
//! wants both left alone. A seed (`sampling_seed`) has an effect only under
//! `--enable-deterministic-inference`.
//!
//! `extra` goes over the keys of the request; its `sampling_params` go over ours one by one, and
//! `chat_template_kwargs` go to the tokenizer.

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::http::{Credential, Http, Route};
use super::http_fault::{Words, kind_of};
use super::openai::finish;
use super::sampling::overlay;
use super::served_renderer::{Names, ServedTemplate, cache_salt};
use super::settings::{EndpointSettings, Sampling};
use super::token_prompt::TokenPrompts;
use super::token_trace::{VersionSpan, split_thought, trace, versions};
use super::{Answer, Model, ModelError, ModelErrorKind, Request, Usage};

/// An SGLang server.
#[derive(Debug)]
pub struct Sglang {
    http: Http,
    route: Route,
    template: ServedTemplate,
    prompts: TokenPrompts,
    names: Names,
    model: String,
    sampling: Sampling,
    extra: Map<String, Value>,
    /// Of `extra`.
    sampling_params: Map<String, Value>,
}

impl Sglang {
    /// # Errors
    /// `Rejected` where no call could ever be made with these settings.
    pub fn new(settings: &EndpointSettings) -> Result<Self, ModelError> {
        let http = Http::new(settings, Credential::Bearer, &[])?;
        let mut extra = settings.extra.clone();
        let sampling_params = match extra.remove("sampling_params") {
            Some(Value::Object(params)) => params,
            _ => Map::new(),
        };
        Ok(Self {
            route: http.root_route("generate"),
            template: ServedTemplate::new(&http, &settings.model, &mut extra),
            prompts: TokenPrompts::default(),
            http,
            names: Names::default(),
            model: settings.model.clone(),
            sampling: settings.sampling.clone(),
            extra,
            sampling_params,
        })
    }

    fn body(&self, request: &Request, prompt: &[u32]) -> Map<String, Value> {
        let mut params = Map::new();
        params.insert("max_new_tokens".into(), request.max_tokens.into());
        self.sampling.write(&mut params, Some("sampling_seed"), &request.key);
        overlay(&mut params, &self.sampling_params);

        let mut body = Map::new();
        body.insert("input_ids".into(), prompt.into());
        body.insert("sampling_params".into(), params.into());
        body.insert("return_logprob".into(), true.into());
        body.insert("rid".into(), self.names.of_try(&request.key).into());
        body.insert("extra_key".into(), cache_salt(request).into());
        overlay(&mut body, &self.extra);
        body
    }

    async fn complete(&self, request: &Request) -> Result<Answer, ModelError> {
        let deadline = self.http.deadline();
        let renderer = self.template.renderer(&self.http, deadline);
        let prompt = self.prompts.prompt(&renderer, request).await?;
        let body = self.body(request, &prompt);
        let generated: Generated = self.http.post(&self.route, &body, deadline).await?;
        let answer = generated.answer(prompt, &self.model);
        let answer = answer.map_err(|(kind, what)| self.http.error(kind, &self.route, what))?;
        self.prompts.keep(request, &answer);
        Ok(answer)
    }
}

impl Model for Sglang {
    fn name(&self) -> &str {
        &self.model
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(self.complete(request))
    }
}

#[derive(Deserialize)]
struct Generated {
    text: String,
    output_ids: Option<Vec<u32>>,
    meta_info: Meta,
}

#[derive(Deserialize)]
struct Meta {
    finish_reason: Option<FinishReason>,
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    cached_tokens: u64,
    /// Of each token: its log-probability, its id, and its text where that was asked for.
    output_token_logprobs: Vec<(Option<f64>, u32, Option<String>)>,
    /// Newer servers tell spans, older ones the version at the end of the answer only, which does
    /// not say what sampled the tokens before it.
    weight_versions: Option<Vec<VersionSpan>>,
}

#[derive(Deserialize)]
struct FinishReason {
    #[serde(rename = "type")]
    kind: String,
    /// Of an aborted answer.
    message: Option<String>,
    status_code: Option<u16>,
}

impl Generated {
    fn answer(self, prompt: Vec<u32>, model: &str) -> Result<Answer, (ModelErrorKind, String)> {
        let malformed = |what: String| (ModelErrorKind::Malformed, what);
        let meta = self.meta_info;
        let reason = meta.finish_reason.as_ref();
        if let Some(FinishReason { message: Some(message), status_code: Some(code), .. }) = reason {
            let words = Words::read(message.as_bytes(), str::to_owned);
            return Err((kind_of(*code, &words), format!("{code}: {message}")));
        }
        let finish = finish(reason.map(|reason| reason.kind.as_str()))?;
        let (logprobs, ids): (Vec<_>, Vec<_>) =
            meta.output_token_logprobs.into_iter().map(|(p, id, _)| (p, id)).unzip();
        if self.output_ids.is_some_and(|told| told != ids) {
            let what = "output_ids: expected those of output_token_logprobs, found others";
            return Err(malformed(what.to_owned()));
        }
        let versions = versions(&meta.weight_versions.unwrap_or_default(), ids.len());
        let tokens = trace(prompt, ids, logprobs, versions).map_err(malformed)?;
        let (reasoning, text) = split_thought(&self.text);
        Ok(Answer {
            text,
            reasoning,
            finish,
            usage: Usage::told(meta.prompt_tokens, meta.completion_tokens, meta.cached_tokens),
            model: model.to_owned(),
            tokens: Some(tokens),
        })
    }
}
