//! The gateway of one model endpoint: every try of a call to it takes its place here.
//!
//! It decides who goes when, by its [gate](CallGate): first come, first served, whereby a call that
//! is tried again comes anew, so that one which fails every time blocks nobody.
//!
//! Permits come back by their drop, so that a caller who is dropped gives up its place in the queue
//! or in flight. The end of the gateway resolves everyone who waits for [`Gateway::ended`]. The
//! queue is bounded by the agents alive, each of which makes one call at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::model::call_gate::{Admission, CallGate, Started};
use crate::model::in_flight::{Load, TryEnd};
use crate::phase::Board;

/// A gateway's address, with its calls.
#[derive(Debug)]
pub struct Gateway {
    actor: ActorRef<GatewayMessage>,
    /// Closed when the actor has ended.
    alive: watch::Receiver<()>,
    /// The next place in the queue.
    tickets: AtomicU64,
}

impl Gateway {
    /// Starts the gateway of the endpoint `name` under `parent`.
    ///
    /// # Errors
    /// When the actor system refuses.
    pub async fn spawn(
        name: &str,
        in_flight_max: usize,
        board: Arc<Board>,
        parent: ActorCell,
    ) -> Result<Self, ractor::SpawnErr> {
        let (lives, alive) = watch::channel(());
        let state = GatewayState::new(name, in_flight_max, board, lives);
        let (actor, _) = Actor::spawn_linked(None, GatewayActor, state, parent).await?;
        Ok(Self { actor, alive, tickets: AtomicU64::new(0) })
    }

    /// Waits for the right to make one try; for ever, if the endpoint stays away. `None` when the
    /// gateway has ended. Cancel it by dropping the future.
    pub async fn permit(&self) -> Option<CallPermit> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let mut place = Place { gateway: &self.actor, ticket, waiting: true };
        let call = self.actor.call(|reply| GatewayMessage::Permit { ticket, reply }, None).await;
        place.waiting = false;
        match call {
            Ok(CallResult::Success(permit)) => Some(permit),
            _ => None,
        }
    }

    pub fn loaded(&self, load: Load) {
        // Fails only when the gateway has ended, which ends all calls too.
        let _ = self.actor.cast(GatewayMessage::Loaded(load));
    }

    /// Resolves when the gateway has ended.
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        // Nothing is ever sent: an answer is the error that the sender is gone.
        while alive.changed().await.is_ok() {}
    }

    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }
}

/// A place in the queue, left when it is dropped while it waits.
struct Place<'a> {
    gateway: &'a ActorRef<GatewayMessage>,
    ticket: u64,
    waiting: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.waiting {
            let _ = self.gateway.cast(GatewayMessage::Left { ticket: self.ticket });
        }
    }
}

/// The right to one try. It comes back when it is dropped, with what came of the try.
#[derive(Debug)]
pub struct CallPermit {
    gateway: ActorRef<GatewayMessage>,
    started: Started,
    end: TryEnd,
}

impl CallPermit {
    /// Gives it back after a try.
    pub fn ended(mut self, end: TryEnd) {
        self.end = end;
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let Self { started, end, .. } = *self;
        let _ = self.gateway.cast(GatewayMessage::Ended { started, end });
    }
}

pub enum GatewayMessage {
    /// Tickets are the order of the queue.
    Permit {
        ticket: u64,
        reply: RpcReplyPort<CallPermit>,
    },
    /// Whoever waited with this ticket has gone.
    Left {
        ticket: u64,
    },
    Ended {
        started: Started,
        end: TryEnd,
    },
    Loaded(Load),
    /// The breaker's cool-down may be over.
    LookAgain,
}

struct GatewayActor;

struct GatewayState {
    name: String,
    board: Arc<Board>,
    gate: CallGate,
    queue: BTreeMap<u64, RpcReplyPort<CallPermit>>,
    /// When somebody looks again, and the timer of that. Dropping it stops it.
    look_again: Option<(std::time::Instant, JoinSet<()>)>,
    last_failure: &'static str,
    /// Its name on the board, and whether it is there.
    on_board: String,
    waits: bool,
    in_flight: metrics::Gauge,
    cap: metrics::Gauge,
    queued: metrics::Gauge,
    /// Its drop tells all callers that the gateway has ended.
    _lives: watch::Sender<()>,
}

impl Actor for GatewayActor {
    type Msg = GatewayMessage;
    type State = GatewayState;
    type Arguments = GatewayState;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GatewayMessage::Permit { ticket, reply } => {
                state.queue.insert(ticket, reply);
            }
            GatewayMessage::Left { ticket } => {
                state.queue.remove(&ticket);
            }
            GatewayMessage::Ended { started, end } => state.ended(started, end),
            GatewayMessage::Loaded(load) => state.gate.loaded(load),
            GatewayMessage::LookAgain => state.look_again = None,
        }
        state.let_through(&myself);
        state.show();
        Ok(())
    }
}

impl GatewayState {
    fn new(name: &str, in_flight_max: usize, board: Arc<Board>, lives: watch::Sender<()>) -> Self {
        let name = name.to_owned();
        Self {
            board,
            gate: CallGate::new(in_flight_max),
            queue: BTreeMap::new(),
            look_again: None,
            last_failure: "",
            on_board: format!("endpoint {name}"),
            waits: false,
            in_flight: metrics::gauge!("orcapack_model_in_flight", "endpoint" => name.clone()),
            cap: metrics::gauge!("orcapack_model_in_flight_cap", "endpoint" => name.clone()),
            queued: metrics::gauge!("orcapack_model_queue", "endpoint" => name.clone()),
            _lives: lives,
            name,
        }
    }

    fn ended(&mut self, started: Started, end: TryEnd) {
        self.gate.ended(started, end, Instant::now().into_std());
        let outcome = match end {
            TryEnd::Answered => "answered",
            TryEnd::GivenUp => "given_up",
            TryEnd::Failed(kind) => {
                self.last_failure = kind.as_str();
                kind.as_str()
            }
        };
        let name = self.name.clone();
        metrics::counter!("orcapack_model_tries_total", "endpoint" => name, "outcome" => outcome)
            .increment(1);
    }

    /// Gives out as many permits as the gate allows, and sees to it that somebody looks again when
    /// it does not.
    fn let_through(&mut self, myself: &ActorRef<GatewayMessage>) {
        while !self.queue.is_empty() {
            match self.gate.try_start(Instant::now().into_std()) {
                Admission::Go(started) => {
                    let Some((_, reply)) = self.queue.pop_first() else { return };
                    let end = TryEnd::GivenUp;
                    // A caller that has gone drops the permit, which comes back as a message.
                    drop(reply.send(CallPermit { gateway: myself.clone(), started, end }));
                }
                Admission::WaitForEnd => return,
                Admission::WaitUntil(at) => return self.look_again_at(at, myself),
            }
        }
    }

    fn look_again_at(&mut self, at: std::time::Instant, myself: &ActorRef<GatewayMessage>) {
        if self.look_again.as_ref().is_some_and(|(set, _)| *set == at) {
            return;
        }
        let (gateway, mut timer) = (myself.clone(), JoinSet::new());
        timer.spawn(async move {
            sleep_until(at.into()).await;
            let _ = gateway.cast(GatewayMessage::LookAgain);
        });
        self.look_again = Some((at, timer));
    }

    fn show(&mut self) {
        self.in_flight.set(self.gate.in_flight() as f64);
        self.cap.set(self.gate.cap() as f64);
        self.queued.set(self.queue.len() as f64);
        let somebody_waits = !self.queue.is_empty() || self.gate.in_flight() > 0;
        let waits = !self.gate.is_closed() && somebody_waits;
        if waits {
            let what = format!("the endpoint {}, {} of late", self.name, self.last_failure);
            self.board.wait_for(&self.on_board, what);
        } else if self.waits {
            self.board.go_on(&self.on_board);
        }
        self.waits = waits;
    }
}

impl Drop for GatewayState {
    fn drop(&mut self) {
        self.board.go_on(&self.on_board);
    }
}
