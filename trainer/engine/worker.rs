//! The engine's thread: commands in, steps, events out.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::engine::forward::{Forward, Piece};
use crate::engine::handle::{Command, Order, Shared};
use crate::engine::request::{
    EndReason, EngineError, Event, GenerateRequest, RequestLimits, SampledToken,
};
use crate::engine::sampler::{Choice, sample};
use crate::engine::scheduler::{Planned, RequestId, Sampling, Scheduler};
use crate::engine::stop::StopTexts;
use crate::engine::weights::EngineWeights;
use crate::text::text_stream::TextStream;
use crate::text::tokenizer::Tokenizer;

pub(super) struct Worker<'t> {
    pub weights: Arc<EngineWeights>,
    pub tokenizer: &'t Tokenizer,
    pub eos: Vec<u32>,
    pub limits: RequestLimits,
    pub scheduler: Scheduler,
    pub forward: Forward,
    pub threads: rayon::ThreadPool,
    pub commands: mpsc::Receiver<Command>,
    pub shared: Arc<Shared>,
    pub requests: HashMap<RequestId, Request<'t>>,
    pub requests_taken: RequestId,
}

/// A request that waits or runs.
pub(super) struct Request<'t> {
    asked: GenerateRequest,
    events: mpsc::Sender<Event>,
    /// In the queue, as long as it waits.
    place: Option<OwnedSemaphorePermit>,
    /// Its text so far, where a text may end it.
    text: Option<(TextStream<'t>, StopTexts)>,
    sampled: u64,
}

impl Worker<'_> {
    /// Works until all handles are gone.
    pub fn run(&mut self) {
        loop {
            if self.requests.is_empty() {
                match self.commands.blocking_recv() {
                    Some(command) => self.obey(command),
                    None => return,
                }
            }
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.cancel_those_left();
            self.step();
            self.publish();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Generate(order) => self.take(*order),
            Command::Swap(weights, answer) => {
                let result = self.swap(weights);
                self.publish();
                // Whoever asked may have stopped waiting.
                let _ = answer.send(result);
            }
        }
    }

    fn take(&mut self, order: Order) {
        let Order { request, events, place } = order;
        self.requests_taken += 1;
        let id = self.requests_taken;
        let tokens_max = self.limits.answer_tokens_max(&request);
        if !self.scheduler.enqueue(id, request.prompt.clone(), tokens_max) {
            let full = EngineError::QueueFull(self.scheduler.waiting());
            return tell(&events, Event::Failed(full));
        }
        let watches_text = !request.stop.is_empty();
        let text = watches_text.then(|| (self.tokenizer.stream(), StopTexts::new(&request.stop)));
        let request = Request { asked: request, events, place: Some(place), text, sampled: 0 };
        self.requests.insert(id, request);
    }

    fn swap(&mut self, weights: Arc<EngineWeights>) -> Result<(), EngineError> {
        if weights.config != self.weights.config {
            return Err(EngineError::BadRequest {
                key: "weights",
                expected: format!("{:?}", self.weights.config),
                found: format!("{:?}", weights.config),
            });
        }
        self.weights = weights;
        self.scheduler.forget_prefixes();
        Ok(())
    }

    /// Those whose [`Generation`](super::handle::Generation) was dropped.
    fn cancel_those_left(&mut self) {
        let scheduler = &mut self.scheduler;
        self.requests.retain(|id, request| {
            let is_left = request.events.is_closed();
            if is_left {
                scheduler.cancel(*id);
            }
            !is_left
        });
    }

    fn step(&mut self) {
        let plan = self.scheduler.plan();
        if plan.is_empty() {
            return;
        }
        for planned in &plan {
            if let Some(request) = self.requests.get_mut(&planned.id) {
                request.place = None;
            }
        }
        for (planned, choice) in self.compute(&plan) {
            self.sampled(planned, choice);
        }
        self.shared.stats().steps += 1;
    }

    /// The choices for all that is to be sampled.
    fn compute<'p>(
        &mut self,
        plan: &'p [Planned],
    ) -> Vec<(&'p Planned, Result<Choice, EngineError>)> {
        let Self { weights, forward, requests, threads, .. } = self;
        let pieces = plan.iter().map(|planned| Piece {
            tokens: &planned.tokens,
            position: planned.position,
            pages: &planned.pages,
            samples: planned.samples.is_some(),
        });
        let pieces: Vec<Piece<'_>> = pieces.collect();
        let sampled = plan.iter().filter(|planned| planned.samples.is_some());
        let sampled: Vec<_> = sampled
            .filter_map(|planned| {
                let request = requests.get(&planned.id)?;
                Some((planned, &request.asked, request.sampled))
            })
            .collect();
        threads.install(|| {
            let logits = forward.step(weights, &pieces);
            let choices = sampled.into_par_iter().enumerate().map_init(Vec::new, |row, each| {
                let (index, (planned, asked, sampled)) = each;
                logits.read(index, row);
                (planned, sample(row, &asked.sampling, sampled, asked.top_logprobs))
            });
            choices.collect()
        })
    }

    fn sampled(&mut self, planned: &Planned, choice: Result<Choice, EngineError>) {
        let Some(request) = self.requests.get_mut(&planned.id) else { return };
        if let Some(Sampling::First { cached_tokens }) = planned.samples {
            let mut stats = self.shared.stats();
            stats.prompt_tokens += request.asked.prompt.len() as u64;
            stats.cached_tokens += cached_tokens as u64;
            tell(&request.events, Event::Started { cached_tokens });
        }
        let choice = match choice {
            Ok(choice) => choice,
            Err(error) => {
                tell(&request.events, Event::Failed(error));
                self.requests.remove(&planned.id);
                self.scheduler.cancel(planned.id);
                return;
            }
        };
        request.sampled += 1;
        let reason = request.ended_by(choice.id, &self.eos);
        let ended = self.scheduler.advance(planned.id, choice.id, reason);
        let Choice { id, logprob, top } = choice;
        let token = SampledToken { id, logprob, version: self.weights.version, top };
        tell(&request.events, Event::Token(token));
        self.shared.stats().generated_tokens += 1;
        if let Some(reason) = ended {
            tell(&request.events, Event::Ended(reason));
            self.requests.remove(&planned.id);
        }
    }

    fn publish(&self) {
        let mut stats = self.shared.stats();
        stats.running = self.scheduler.running();
        stats.kept_tokens = self.scheduler.held_tokens();
        stats.version = self.weights.version;
    }
}

impl Request<'_> {
    /// What `token` ends the answer by, if it does.
    fn ended_by(&mut self, token: u32, eos: &[u32]) -> Option<EndReason> {
        let is_eos = !self.asked.ignore_eos && eos.contains(&token);
        if is_eos || self.asked.stop_ids.contains(&token) {
            return Some(EndReason::StopToken);
        }
        let (stream, stops) = self.text.as_mut()?;
        stops.push(&stream.push(token)).stopped.map(EndReason::StopText)
    }
}

/// There is room for every event of a request; whoever dropped its generation is not told.
fn tell(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.try_send(event);
}
