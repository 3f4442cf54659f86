//! A policy that is sampled from in this process: token ids in and out, without a server between.
//!
//! What is behind it is a [`TokenSampler`], which the composition root makes of an engine: agents
//! know no engine, and an engine knows no agent.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use orcapack_tasks::defect::Defects;

use super::renderer::Renderer;
use super::sampling::seed_of_call;
use super::settings::{EndpointSettings, PolicySettings, Sampling};
use super::token_prompt::TokenPrompts;
use super::token_trace::{split_thought, trace};
use super::{Answer, Finish, Model, ModelError, ModelErrorKind, Request, Usage};

/// A policy at hand: it renders conversations, and samples what comes next.
pub trait TokenSampler: Renderer + 'static {
    /// One answer. Waits for room where there is none. Dropping the future gives it up, and the
    /// room that it takes comes free.
    ///
    /// # Errors
    /// `ContextOverflow` where the prompt leaves no room for a single token.
    fn sample(&self, ask: Ask) -> BoxFuture<'_, Result<Sampled, ModelError>>;
}

/// Where a policy's directory becomes something that samples. Those who name the same directory
/// share what it becomes.
pub trait Policies {
    /// Nothing is computed yet; the directory is read as far as it must be to know that it can be.
    ///
    /// # Errors
    /// Everything that is wrong with the directory.
    fn sampler(&self, policy: &PolicySettings) -> Result<Arc<dyn TokenSampler>, Defects>;
}

/// What is asked of a [`TokenSampler`].
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub prompt: Vec<u32>,
    /// Of the answer; the end of the context ends it too.
    pub max_tokens: u32,
    pub temperature: f64,
    pub top_p: f64,
    pub seed: u64,
}

/// What it sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Without the tokens that are marks and not words, as the one that ends it.
    pub text: String,
    pub ids: Vec<u32>,
    /// Natural logarithms, one for each id.
    pub logprobs: Vec<f64>,
    /// The policy version of each id.
    pub versions: Vec<u64>,
    /// Of the prompt: how many tokens needed no computation.
    pub cached_tokens: usize,
    pub finish: Finish,
}

/// See the module.
pub struct Embedded {
    endpoint: String,
    model: String,
    sampling: Sampling,
    /// Where the settings have none, another in every process.
    seed: u64,
    prompts: TokenPrompts,
    sampler: Arc<dyn TokenSampler>,
}

impl Embedded {
    pub fn new(settings: &EndpointSettings, sampler: Arc<dyn TokenSampler>) -> Self {
        Self {
            endpoint: settings.name.clone(),
            model: settings.model.clone(),
            sampling: settings.sampling.clone(),
            seed: settings.sampling.seed.unwrap_or_else(|| RandomState::new().hash_one(0)),
            prompts: TokenPrompts::default(),
            sampler,
        }
    }

    async fn sample(&self, request: &Request) -> Result<Answer, ModelError> {
        let prompt = self.prompts.prompt(&*self.sampler, request).await?;
        let ask = Ask {
            prompt: prompt.clone(),
            max_tokens: request.max_tokens,
            temperature: self.sampling.temperature.unwrap_or(1.0),
            top_p: self.sampling.top_p.unwrap_or(1.0),
            seed: seed_of_call(self.seed, &request.key),
        };
        let sampled = self.sampler.sample(ask).await?;
        let answer = self.answer(prompt, sampled)?;
        self.prompts.keep(request, &answer);
        Ok(answer)
    }

    fn answer(&self, prompt: Vec<u32>, sampled: Sampled) -> Result<Answer, ModelError> {
        let Sampled { text, ids, logprobs, versions, cached_tokens, finish } = sampled;
        let usage = Usage::told(prompt.len() as u64, ids.len() as u64, cached_tokens as u64);
        let logprobs = logprobs.into_iter().map(Some).collect();
        let tokens = trace(prompt, ids, logprobs, versions)
            .map_err(|what| ModelError::new(ModelErrorKind::Malformed, what))?;
        let (reasoning, text) = split_thought(&text);
        let (model, tokens) = (self.model.clone(), Some(tokens));
        Ok(Answer { text, reasoning, finish, usage, model, tokens })
    }
}

impl Model for Embedded {
    fn name(&self) -> &str {
        &self.model
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(async move {
            self.sample(request).await.map_err(|error| ModelError {
                message: format!("endpoint {:?}: {}", self.endpoint, error.message),
                ..error
            })
        })
    }
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
