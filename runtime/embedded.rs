//! Our sampling engine as a model of agents: one engine for each policy directory of a run in this
//! process, started by the first call and ended with the last model that uses it.
//!
//! Which weights it samples with is its [shelf's](crate::shelf::Shelf) matter: those that were
//! delivered last, or else the directory's own.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::BoxFuture;
use orcapack_actors::model::embedded::{Ask, Policies, Sampled, TokenSampler};
use orcapack_actors::model::renderer::Renderer;
use orcapack_actors::model::settings::PolicySettings;
use orcapack_actors::model::{Finish, Message, ModelError, ModelErrorKind, Speaker};
use orcapack_tasks::{Defect, Defects};
use orcapack_trainer::engine::handle::EngineHandle;
use orcapack_trainer::engine::request::{
    EndReason, EngineError, Event, GenerateRequest, SampledToken, SamplingParams,
};
use orcapack_trainer::text::chat::ChatMessage;
use orcapack_trainer::text::conversation;

use crate::policy_engine::PolicyEngine;
use crate::shelf::{SharedEngine, Shelf};

/// The engines of a process, by their runs and the directories of their policies. Runs share none:
/// the weights that are delivered to one are nothing to another.
#[derive(Default)]
pub struct Engines(Mutex<HashMap<(String, PathBuf), Weak<Shelf>>>);

/// Those of one run.
pub struct RunEngines<'e> {
    engines: &'e Engines,
    run: &'e str,
}

impl Engines {
    /// Those that a model is there for.
    pub fn in_use(&self) -> usize {
        let shelves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let engines = shelves.values().filter_map(Weak::upgrade);
        engines.filter(|shelf| shelf.is_in_use()).count()
    }

    pub fn of_run<'e>(&'e self, run: &'e str) -> RunEngines<'e> {
        RunEngines { engines: self, run }
    }
}

impl RunEngines<'_> {
    /// Where weights for the policy in this directory are put. It remembers them for engines that
    /// start later, for as long as somebody has it, or its engine is in use.
    pub fn shelf(&self, checkpoint: &Path) -> Arc<Shelf> {
        let mut shelves = self.engines.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.run.to_owned(), checkpoint.to_owned());
        if let Some(shelf) = shelves.get(&key).and_then(Weak::upgrade) {
            return shelf;
        }
        let shelf = Arc::default();
        shelves.retain(|_, shelf| shelf.strong_count() > 0);
        shelves.insert(key, Arc::downgrade(&shelf));
        shelf
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").field("in_use", &self.in_use()).finish()
    }
}

impl Policies for RunEngines<'_> {
    fn sampler(&self, policy: &PolicySettings) -> Result<Arc<dyn TokenSampler>, Defects> {
        let engine = self.shelf(&policy.checkpoint).engine(|| PolicyEngine::open(policy))?;
        let renderer = engine.opened.policy.renderer(policy.chat_template_kwargs.clone())?;
        Ok(Arc::new(Sampler { engine, renderer: Arc::new(renderer) }))
    }
}

/// Of the one run that a process is for, which needs no name.
impl Policies for Engines {
    fn sampler(&self, policy: &PolicySettings) -> Result<Arc<dyn TokenSampler>, Defects> {
        self.of_run("").sampler(policy)
    }
}

/// A policy with a way to render for it.
struct Sampler {
    engine: Arc<SharedEngine>,
    renderer: Arc<conversation::Renderer>,
}

impl Sampler {
    /// Long texts take their time, which is not that of a thread that others wait for.
    async fn render<T: Send + 'static>(
        &self,
        messages: &[Message],
        with: fn(&conversation::Renderer, &[ChatMessage]) -> Result<T, Defect>,
    ) -> Result<T, ModelError> {
        let (renderer, messages) = (self.renderer.clone(), messages.to_vec());
        let rendering = tokio::task::spawn_blocking(move || {
            let messages: Vec<ChatMessage> = messages.iter().map(chat_message).collect();
            with(&renderer, &messages)
        });
        let rendered = rendering.await.map_err(|error| unavailable(error.to_string()))?;
        rendered.map_err(|defect| ModelError::new(ModelErrorKind::Rejected, defect.to_string()))
    }

    async fn generate(&self, ask: Ask) -> Result<Sampled, ModelError> {
        let engine = self.engine.running().await?;
        self.answer(&engine, request(ask)).await.map_err(|error| refused(&error))
    }

    async fn answer(
        &self,
        engine: &EngineHandle,
        request: GenerateRequest,
    ) -> Result<Sampled, EngineError> {
        let mut generation = engine.generate_when_room(request).await?;
        let mut answer = Answering::default();
        while let Some(event) = generation.next().await {
            match event {
                Event::Started { cached_tokens } => answer.cached_tokens = cached_tokens,
                Event::Token(token) => answer.push(&token),
                Event::Ended(end) => {
                    let tokenizer = &self.engine.opened.policy.tokenizer;
                    return Ok(answer.ended(end, |ids| tokenizer.decode(ids, false)));
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Err(EngineError::Ended("in the middle of an answer".to_owned()))
    }
}

impl Renderer for Sampler {
    fn prompt<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> BoxFuture<'a, Result<Vec<u32>, ModelError>> {
        Box::pin(self.render(messages, conversation::Renderer::prompt))
    }

    fn bridge<'a>(
        &'a self,
        added: &'a [Message],
    ) -> BoxFuture<'a, Result<Option<Vec<u32>>, ModelError>> {
        Box::pin(async move { self.render(added, conversation::Renderer::bridge).await.map(Some) })
    }
}

impl TokenSampler for Sampler {
    fn sample(&self, ask: Ask) -> BoxFuture<'_, Result<Sampled, ModelError>> {
        Box::pin(self.generate(ask))
    }
}

/// An answer as far as it has come.
#[derive(Default)]
struct Answering {
    cached_tokens: usize,
    ids: Vec<u32>,
    logprobs: Vec<f64>,
    versions: Vec<u64>,
}

impl Answering {
    fn push(&mut self, token: &SampledToken) {
        self.ids.push(token.id);
        self.logprobs.push(token.logprob.into());
        self.versions.push(token.version);
    }

    fn ended(self, end: EndReason, text: impl Fn(&[u32]) -> String) -> Sampled {
        let Self { cached_tokens, ids, logprobs, versions } = self;
        let (said, finish) = match end {
            // The token that ends an answer is no word of it.
            EndReason::StopToken => (ids.len().saturating_sub(1), Finish::Stop),
            EndReason::StopText(_) => (ids.len(), Finish::Stop),
            EndReason::Length => (ids.len(), Finish::Length),
        };
        let text = text(&ids[..said]);
        Sampled { text, ids, logprobs, versions, cached_tokens, finish }
    }
}

fn request(ask: Ask) -> GenerateRequest {
    let Ask { prompt, max_tokens, temperature, top_p, seed } = ask;
    let (temperature, top_p) = (temperature as f32, top_p as f32);
    GenerateRequest {
        prompt: prompt.into(),
        sampling: SamplingParams { temperature, top_p, top_k: 0, seed },
        max_tokens: max_tokens as usize,
        stop_ids: Vec::new(),
        stop: Vec::new(),
        ignore_eos: false,
        top_logprobs: 0,
    }
}

fn chat_message(message: &Message) -> ChatMessage {
    let role = match message.role {
        Speaker::System => "system",
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    ChatMessage { role: role.to_owned(), content: message.content.to_string() }
}

fn refused(error: &EngineError) -> ModelError {
    let kind = match error {
        EngineError::PromptTooLong { .. } => ModelErrorKind::ContextOverflow,
        EngineError::QueueFull(_) => ModelErrorKind::RateLimited,
        EngineError::BadRequest { .. } | EngineError::NotFinite { .. } => ModelErrorKind::Rejected,
        EngineError::Ended(_) => ModelErrorKind::Unreachable,
    };
    ModelError::new(kind, error.to_string())
}

fn unavailable(why: impl Into<String>) -> ModelError {
    ModelError::new(ModelErrorKind::Unreachable, why)
}
