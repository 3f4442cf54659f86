//! A model endpoint that can be asked: one call, as often as it must be tried.
//!
//! A call runs in its caller's task. It takes a permit of the [gateway](crate::model::gateway),
//! makes one try, gives the permit back with what came of it, and backs off before the next try,
//! without a permit. It ends at its deadline whatever happens, and at once when the gateway does.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::ActorCell;
use tokio::time::{Instant, sleep, timeout_at};

use crate::model::backoff::{self, GaveUp, Next};
use crate::model::gateway::{CallPermit, Gateway};
use crate::model::in_flight::{Load, TryEnd};
use crate::model::settings::EndpointSettings;
use crate::model::{Answer, Model, ModelError, ModelErrorKind, Request};
use crate::phase::Board;
use crate::team::record::CallFacts;

/// An answer, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    pub answer: Answer,
    pub facts: CallFacts,
}

/// A call that ended without an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error} ({}, tries made: {tries})", why.as_str())]
pub struct CallError {
    /// Of the last try; where there was none, what stood in its way.
    pub error: ModelError,
    pub tries: u32,
    pub why: GaveUp,
}

/// An endpoint that can be asked. Clones share its gateway.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    settings: EndpointSettings,
    model: Arc<dyn Model>,
    gateway: Gateway,
    policy_version: AtomicU64,
}

impl Endpoint {
    /// Starts a gateway before `model`, under `parent`.
    ///
    /// # Errors
    /// When the actor system refuses.
    pub async fn spawn(
        settings: EndpointSettings,
        model: Arc<dyn Model>,
        board: Arc<Board>,
        parent: ActorCell,
    ) -> Result<Self, ractor::SpawnErr> {
        let gateway = Gateway::spawn(&settings.name, settings.in_flight_max, board, parent).await?;
        Ok(Self(Arc::new(Inner { settings, model, gateway, policy_version: AtomicU64::new(0) })))
    }

    /// One call, as often as it must be tried. The request's policy version is the endpoint's.
    /// Dropping the future gives the call up.
    ///
    /// # Errors
    /// [`CallError::why`] says which limit was reached; never later than at `deadline`.
    pub async fn ask(&self, request: &Request, deadline: Instant) -> Result<Called, CallError> {
        let mut call = Call {
            endpoint: &self.0,
            request: request.clone(),
            deadline,
            tries: 0,
            waited: Duration::ZERO,
            last: None,
        };
        let ended = tokio::select! {
            biased;
            ended = call.run() => Some(ended),
            () = self.0.gateway.ended() => None,
        };
        ended.unwrap_or_else(|| Err(call.gateway_gone()))
    }

    /// The trained policy behind the endpoint has changed; tries that begin from now on say so.
    pub fn set_policy_version(&self, version: u64) {
        self.0.policy_version.store(version, Ordering::Relaxed);
    }

    /// The endpoint told its load.
    pub fn loaded(&self, load: Load) {
        self.0.gateway.loaded(load);
    }

    pub fn settings(&self) -> &EndpointSettings {
        &self.0.settings
    }

    pub fn cell(&self) -> ActorCell {
        self.0.gateway.cell()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.0.settings.name).finish()
    }
}

/// A call on its way.
struct Call<'a> {
    endpoint: &'a Inner,
    request: Request,
    deadline: Instant,
    tries: u32,
    waited: Duration,
    /// What the last try failed with.
    last: Option<ModelError>,
}

impl Call<'_> {
    async fn run(&mut self) -> Result<Called, CallError> {
        loop {
            let began = Instant::now();
            let permit = self.permit().await?;
            self.waited += began.elapsed();
            let began = Instant::now();
            match self.once(permit).await {
                Ok(answer) => return Ok(self.answered(answer, began.elapsed())),
                Err(error) => {
                    let left = self.deadline.saturating_duration_since(Instant::now());
                    let tries_max = self.endpoint.settings.tries_max;
                    match backoff::next(self.tries, tries_max, &error, self.random(), left) {
                        Next::GiveUp(why) => {
                            return Err(CallError { error, tries: self.tries, why });
                        }
                        Next::TryIn(delay) => {
                            tracing::debug!(key = %self.request.key, %error, ?delay, "tried again");
                            self.last = Some(error);
                            sleep(delay).await;
                            self.waited += delay;
                        }
                    }
                }
            }
        }
    }

    async fn permit(&mut self) -> Result<CallPermit, CallError> {
        match timeout_at(self.deadline, self.endpoint.gateway.permit()).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(self.gateway_gone()),
            Err(_) => {
                let error = self.last.take().unwrap_or_else(|| {
                    let name = &self.endpoint.settings.name;
                    let message = format!("endpoint {name} had no room before the deadline");
                    ModelError::new(ModelErrorKind::TimedOut, message)
                });
                Err(CallError { error, tries: self.tries, why: GaveUp::Deadline })
            }
        }
    }

    async fn once(&mut self, permit: CallPermit) -> Result<Answer, ModelError> {
        self.tries += 1;
        let Inner { settings, model, policy_version, .. } = self.endpoint;
        self.request.policy_version = policy_version.load(Ordering::Relaxed);
        let limit = Instant::now() + settings.try_timeout;
        let no_answer = |until: &str| {
            let message = format!("no answer from endpoint {} {until}", settings.name);
            ModelError::new(ModelErrorKind::TimedOut, message)
        };
        match timeout_at(limit.min(self.deadline), model.call(&self.request)).await {
            Ok(Ok(answer)) => {
                permit.ended(TryEnd::Answered);
                Ok(answer)
            }
            Ok(Err(error)) => {
                permit.ended(TryEnd::Failed(error.kind));
                Err(error)
            }
            Err(_) if limit <= self.deadline => {
                permit.ended(TryEnd::Failed(ModelErrorKind::TimedOut));
                Err(no_answer(&format!("within {} s", settings.try_timeout.as_secs_f64())))
            }
            // The endpoint may have been about to answer: dropping the permit says so.
            Err(_) => Err(no_answer("before the deadline")),
        }
    }

    fn answered(&self, answer: Answer, took: Duration) -> Called {
        let EndpointSettings { name, price, .. } = &self.endpoint.settings;
        let tokens = [
            ("prompt", answer.usage.prompt_tokens),
            ("cached", answer.usage.cached_tokens),
            ("completion", answer.usage.completion_tokens),
        ];
        for (kind, count) in tokens {
            metrics::counter!(
                "orcapack_model_tokens_total", "endpoint" => name.clone(), "kind" => kind
            )
            .increment(count);
        }
        metrics::histogram!("orcapack_model_seconds", "endpoint" => name.clone()).record(took);
        let cost_usd = price.map(|price| price.of(&answer.usage));
        let facts = CallFacts { tries: self.tries, waited: self.waited, took, cost_usd };
        Called { answer, facts }
    }

    /// The same in every run, and another for each call and try, which is all that jitter is for.
    fn random(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        (&self.request.key, self.tries).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn gateway_gone(&self) -> CallError {
        let message = format!("the gateway of endpoint {} has ended", self.endpoint.settings.name);
        CallError {
            error: ModelError::new(ModelErrorKind::Unreachable, message),
            tries: self.tries,
            why: GaveUp::GatewayGone,
        }
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
pub(crate) mod tests;
