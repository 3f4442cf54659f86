//! Answers as they come: server-sent events, one JSON object each, and `[DONE]`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::answers::Answers;
use super::asked::Stream;
use super::errors::ApiError;
use super::shape::{Head, Shape};
use super::{Job, Served};

/// Events that wait for a slow reader; the engine keeps the rest, which the answer bounds.
const EVENTS_MAX: usize = 16;

/// Writes from a task of its own, which ends with the connection: then nothing more is sampled.
///
/// # Errors
/// What is refused is refused before anything of a stream is sent.
pub(super) async fn respond<S: Shape>(
    served: Arc<Served>,
    job: Job,
    shape: S,
    options: Stream,
) -> Result<Response, ApiError> {
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let (begun, begins) = oneshot::channel();
    tokio::spawn(async move {
        let started = job.start::<S>(&served);
        // Whoever asked may have gone meanwhile, which the channel of events tells below.
        let _ = begun.send(started.as_ref().map(drop).map_err(ApiError::clone));
        let Ok(answers) = started else { return };
        let writer = Writer { head: served.head::<S>(), shape, options, events: &events };
        tokio::select! {
            biased;
            () = events.closed() => {}
            _gone = writer.write(answers) => {}
        }
    });
    begins.await.unwrap_or_else(|_| Err(ApiError::internal("the answer was cut off")))?;
    let events = stream::unfold(received, |mut received| async {
        received.recv().await.map(|event| (Ok::<_, Infallible>(event), received))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

struct Writer<'a, S> {
    shape: S,
    head: Head,
    options: Stream,
    events: &'a mpsc::Sender<Event>,
}

/// The reader is not there any more.
struct Gone;

impl<S: Shape> Writer<'_, S> {
    async fn write(&self, mut answers: Answers<'_>) -> Result<(), Gone> {
        let mut begun = BTreeSet::new();
        loop {
            match answers.next().await {
                Ok(Some((index, piece))) => {
                    let is_first = begun.insert(index);
                    if let Some(event) = self.shape.event(&self.head, index, &piece, is_first) {
                        self.send(&event).await?;
                    }
                }
                Ok(None) => break,
                // The status has been sent long ago: an event is all that there is to say it with.
                Err(error) => return self.send(&error.body()).await,
            }
        }
        if self.options.include_usage {
            self.send(&self.shape.usage(&self.head, answers.usage())).await?;
        }
        self.events.send(Event::default().data("[DONE]")).await.map_err(|_| Gone)
    }

    async fn send(&self, event: &Value) -> Result<(), Gone> {
        let event = Event::default().data(event.to_string());
        self.events.send(event).await.map_err(|_| Gone)
    }
}
