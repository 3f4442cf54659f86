//! Our sampling engine as a model of agents: one engine for each policy directory of this process,
//! started by the first call and ended with the last model that uses it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
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

use crate::policy_engine::{PolicyEngine, StartError, Starting};

/// The engines of a process, by the directories of their policies.
#[derive(Default)]
pub struct Engines(Mutex<HashMap<PathBuf, Weak<SharedEngine>>>);

impl Engines {
    /// Those that a model is there for.
    pub fn in_use(&self) -> usize {
        let engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        engines.values().filter(|engine| engine.strong_count() > 0).count()
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").field("in_use", &self.in_use()).finish()
    }
}

impl Policies for Engines {
    fn sampler(&self, policy: &PolicySettings) -> Result<Arc<dyn TokenSampler>, Defects> {
        let mut engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = match engines.get(&policy.checkpoint).and_then(Weak::upgrade) {
            Some(engine) => engine,
            None => {
                let engine = Arc::new(SharedEngine::new(PolicyEngine::open(policy)?));
                engines.retain(|_, engine| engine.strong_count() > 0);
                engines.insert(policy.checkpoint.clone(), Arc::downgrade(&engine));
                engine
            }
        };
        let renderer = engine.opened.policy.renderer(policy.chat_template_kwargs.clone())?;
        Ok(Arc::new(Sampler { engine, renderer: Arc::new(renderer) }))
    }
}

/// An engine that is there once somebody has asked it.
struct SharedEngine {
    opened: Arc<PolicyEngine>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: Option<EngineHandle>,
    /// Outlives the call that began it.
    starts: Option<Starting>,
}

impl SharedEngine {
    fn new(opened: PolicyEngine) -> Self {
        Self { opened: Arc::new(opened), state: tokio::sync::Mutex::default() }
    }

    /// The engine, started anew where it has ended: what broke it may have been one request's.
    async fn running(&self) -> Result<EngineHandle, ModelError> {
        let mut state = self.state.lock().await;
        if let Some(handle) = &state.runs
            && handle.ended().is_none()
        {
            return Ok(handle.clone());
        }
        let started = state.starts.get_or_insert_with(|| self.opened.start()).await;
        state.starts = None;
        let started = started.unwrap_or_else(|_| Err(StartError::Panicked));
        let handle = started
            .map_err(|error| ModelError::new(ModelErrorKind::Rejected, error.to_string()))?;
        state.runs = Some(handle.clone());
        Ok(handle)
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
