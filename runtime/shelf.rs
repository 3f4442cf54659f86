//! A policy of a run: the newest weights that were delivered for it, and the engine that samples.
//!
//! - **WD-1** An engine never goes back to older weights: not by a late delivery, not by a start.
//! - **WD-2** An engine that starts after a delivery samples its first token with what was
//!   delivered.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use orcapack_actors::model::{ModelError, ModelErrorKind};
use orcapack_tasks::Defects;
use orcapack_trainer::engine::handle::EngineHandle;
use orcapack_trainer::engine::request::EngineError;
use orcapack_trainer::engine::weights::EngineWeights;

use crate::policy_engine::{PolicyEngine, StartError, Starting};

/// Where weights are put, and found by the engine.
#[derive(Default)]
pub struct Shelf {
    newest: Mutex<Option<Delivered>>,
    engine: Mutex<Weak<SharedEngine>>,
}

/// Which weights are newer. A run that is resumed goes on from its last checkpoint, so that its
/// versions count only within one life of its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// Of the coordinator.
    pub life: u64,
    /// Of the policy.
    pub version: u64,
}

#[derive(Clone)]
struct Delivered {
    issue: Issue,
    weights: Arc<EngineWeights>,
}

/// Why weights were not taken.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("version {} was delivered after version {}", .0.version, .1.version)]
    Older(Issue, Issue),
    #[error("the weights are of another model than the policy")]
    OtherModel,
    #[error(transparent)]
    Engine(EngineError),
}

impl Shelf {
    /// Puts weights here, and resolves when whatever samples does so with these, or newer ones. To
    /// put the same again changes nothing.
    ///
    /// # Errors
    /// Weights that are older than those that are here, or of another model; nothing has changed
    /// then.
    pub async fn put(&self, life: u64, weights: Arc<EngineWeights>) -> Result<(), PutError> {
        let issue = Issue { life, version: weights.version };
        let engine = self.in_use();
        if engine.as_ref().is_some_and(|engine| !engine.opened.fits(&weights)) {
            return Err(PutError::OtherModel);
        }
        {
            let mut newest = lock(&self.newest);
            match &*newest {
                Some(newer) if newer.issue > issue => {
                    return Err(PutError::Older(issue, newer.issue));
                }
                Some(same) if same.issue == issue => {}
                _ => *newest = Some(Delivered { issue, weights }),
            }
        }
        match self.in_use() {
            Some(engine) => engine.renew().await.map_err(PutError::Engine),
            None => Ok(()),
        }
    }

    /// What was put here last.
    pub fn newest(&self) -> Option<Issue> {
        lock(&self.newest).as_ref().map(|newest| newest.issue)
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use().is_some()
    }

    fn in_use(&self) -> Option<Arc<SharedEngine>> {
        lock(&self.engine).upgrade()
    }

    /// The policy's engine, which is made where there is none.
    pub(crate) fn engine(
        self: &Arc<Self>,
        open: impl FnOnce() -> Result<PolicyEngine, Defects>,
    ) -> Result<Arc<SharedEngine>, Defects> {
        let mut engine = lock(&self.engine);
        if let Some(engine) = engine.upgrade() {
            return Ok(engine);
        }
        let shared = Arc::new(SharedEngine {
            opened: Arc::new(open()?),
            shelf: self.clone(),
            state: tokio::sync::Mutex::default(),
        });
        *engine = Arc::downgrade(&shared);
        Ok(shared)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("newest", &self.newest()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An engine that is there once somebody has asked it.
pub(crate) struct SharedEngine {
    pub opened: Arc<PolicyEngine>,
    shelf: Arc<Shelf>,
    /// Whoever has it decides what the engine samples with.
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: Option<Running>,
    /// Outlives the call that began it.
    starts: Option<Starting>,
    /// What it starts with.
    starts_with: Option<Issue>,
}

struct Running {
    handle: EngineHandle,
    /// `None`: the directory's own weights.
    has: Option<Issue>,
}

impl SharedEngine {
    /// The engine, started anew where it has ended: what broke it may have been one request's.
    pub async fn running(&self) -> Result<EngineHandle, ModelError> {
        let rejected =
            |error: &dyn fmt::Display| ModelError::new(ModelErrorKind::Rejected, error.to_string());
        let mut state = self.state.lock().await;
        if state.runs.as_ref().is_none_or(|running| running.handle.ended().is_some()) {
            let State { starts, starts_with, .. } = &mut *state;
            let starting = starts.get_or_insert_with(|| {
                let newest = self.newest();
                *starts_with = newest.as_ref().map(|newest| newest.issue);
                self.opened.start(newest.map(|newest| newest.weights))
            });
            let started = starting.await;
            state.starts = None;
            let started = started.unwrap_or_else(|_| Err(StartError::Panicked));
            let handle = started.map_err(|error| rejected(&error))?;
            state.runs = Some(Running { handle, has: state.starts_with });
        }
        let Some(running) = &mut state.runs else { return Err(rejected(&"it has not started")) };
        // Some may have been delivered since its start began.
        self.renewed(running).await.map_err(|error| rejected(&error))?;
        Ok(running.handle.clone())
    }

    /// Gives the newest weights to the engine, if it runs.
    async fn renew(&self) -> Result<(), EngineError> {
        match &mut self.state.lock().await.runs {
            Some(running) => self.renewed(running).await,
            None => Ok(()),
        }
    }

    async fn renewed(&self, running: &mut Running) -> Result<(), EngineError> {
        let Some(Delivered { issue, weights }) = self.newest() else { return Ok(()) };
        if running.has >= Some(issue) {
            return Ok(());
        }
        match running.handle.swap(weights).await {
            Ok(()) => running.has = Some(issue),
            // It will start with them.
            Err(EngineError::Ended(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn newest(&self) -> Option<Delivered> {
        lock(&self.shelf.newest).clone()
    }
}
