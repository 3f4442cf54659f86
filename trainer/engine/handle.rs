//! How everyone reaches the engine.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};

use crate::engine::request::{EngineError, Event, GenerateRequest, RequestLimits};
use crate::engine::weights::EngineWeights;

/// Reaches one engine, from any thread or task; the engine ends when its last handle is dropped.
#[derive(Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// The answer to one request, as it comes. Dropping it cancels the request.
pub struct Generation {
    events: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
    has_ended: bool,
}

/// Where an engine stands, and what it has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    pub running: usize,
    pub waiting: usize,
    /// Tokens that keys and values are held for: of running requests, whole pages, and of earlier
    /// ones whose beginnings may come again.
    pub kept_tokens: usize,
    pub prompt_tokens: u64,
    /// Of the prompts' tokens, those that were not computed again.
    pub cached_tokens: u64,
    pub generated_tokens: u64,
    pub steps: u64,
    /// Of the weights in use.
    pub version: u64,
}

pub(super) enum Command {
    Generate(Box<Order>),
    Swap(Arc<EngineWeights>, oneshot::Sender<Result<(), EngineError>>),
}

/// A request that was taken.
pub(super) struct Order {
    pub request: GenerateRequest,
    /// Has room for everything that can come of the request, so that nobody waits for a reader.
    pub events: mpsc::Sender<Event>,
    /// The place in the queue, given back when the request leaves it.
    pub place: OwnedSemaphorePermit,
}

/// What the engine and its handles both know.
pub(super) struct Shared {
    limits: RequestLimits,
    queue_max: usize,
    places: Arc<Semaphore>,
    stats: Mutex<EngineStats>,
    /// Why it has ended.
    ended: OnceLock<String>,
}

impl EngineHandle {
    pub(super) fn new(
        limits: RequestLimits,
        queue_max: usize,
        version: u64,
    ) -> (Self, mpsc::Receiver<Command>, Arc<Shared>) {
        let (commands, received) = mpsc::channel(queue_max);
        let shared = Arc::new(Shared {
            limits,
            queue_max,
            places: Arc::new(Semaphore::new(queue_max)),
            stats: Mutex::new(EngineStats { version, ..EngineStats::default() }),
            ended: OnceLock::new(),
        });
        (Self { commands, shared: shared.clone() }, received, shared)
    }

    /// Asks for an answer; waits for nothing.
    ///
    /// # Errors
    /// What is wrong with the request, a full queue, or the engine's end.
    pub fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        request.check(&self.shared.limits)?;
        let full = EngineError::QueueFull(self.shared.queue_max);
        let place =
            self.shared.places.clone().try_acquire_owned().map_err(|error| match error {
                TryAcquireError::NoPermits => full.clone(),
                TryAcquireError::Closed => self.shared.end(),
            })?;
        let (order, generation) = self.order(request, place);
        self.commands.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full,
            mpsc::error::TrySendError::Closed(_) => self.shared.end(),
        })?;
        Ok(generation)
    }

    /// The same, but waits until the queue has room.
    ///
    /// # Errors
    /// What is wrong with the request, or the engine's end.
    pub async fn generate_when_room(
        &self,
        request: GenerateRequest,
    ) -> Result<Generation, EngineError> {
        request.check(&self.shared.limits)?;
        let place = self.shared.places.clone().acquire_owned().await;
        let (order, generation) = self.order(request, place.map_err(|_| self.shared.end())?);
        self.commands.send(order).await.map_err(|_| self.shared.end())?;
        Ok(generation)
    }

    /// Gives the engine other weights of the same model, between two steps. Running requests go on
    /// with them, and each token carries the version that it was sampled with; what earlier weights
    /// have computed is not given to later requests.
    ///
    /// # Errors
    /// Weights of another model, or the engine's end.
    pub async fn swap(&self, weights: Arc<EngineWeights>) -> Result<(), EngineError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Swap(weights, answer);
        self.commands.send(command).await.map_err(|_| self.shared.end())?;
        answered.await.unwrap_or_else(|_| Err(self.shared.end()))
    }

    pub fn stats(&self) -> EngineStats {
        let waiting = self.shared.queue_max - self.shared.places.available_permits();
        EngineStats { waiting, ..*self.shared.stats() }
    }

    /// Why the engine takes no requests any more; `None` while it does.
    pub fn ended(&self) -> Option<EngineError> {
        self.shared.ended.get().map(|_| self.shared.end())
    }

    /// Of the weights in use.
    pub fn version(&self) -> u64 {
        self.stats().version
    }

    fn order(
        &self,
        request: GenerateRequest,
        place: OwnedSemaphorePermit,
    ) -> (Command, Generation) {
        let tokens_max = self.shared.limits.answer_tokens_max(&request);
        // The beginning, every token, and the end.
        let (events, received) = mpsc::channel(tokens_max + 2);
        let shared = self.shared.clone();
        let generation = Generation { events: received, shared, has_ended: false };
        (Command::Generate(Box::new(Order { request, events, place })), generation)
    }
}

impl Generation {
    /// The next event; `None` after the last. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        if self.has_ended {
            return None;
        }
        let event = self.events.recv().await;
        let event = event.unwrap_or_else(|| Event::Failed(self.shared.end()));
        self.has_ended = event.is_last();
        Some(event)
    }
}

impl Shared {
    pub fn stats(&self) -> std::sync::MutexGuard<'_, EngineStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is taken any more; those who wait learn `reason`.
    pub fn close(&self, reason: String) {
        // Only the engine's thread sets it, once.
        let _ = self.ended.set(reason);
        self.places.close();
    }

    fn end(&self) -> EngineError {
        let reason = self.ended.get().map_or("its thread is gone", String::as_str);
        EngineError::Ended(reason.to_owned())
    }
}
