//! The leader's actor: it does what the [group](super::group) wants done, and supervises the ranks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::collective::{Member, Place, RankId};
use crate::learner::LearnerState;
use crate::policy_step::StepBatch;
use crate::ranks::actor::{self, RankMessage};
use crate::ranks::ask::{Snapshot, State, ask_save, ask_snapshot, ask_state};
use crate::ranks::group::{Effect, Event, Group};
use crate::ranks::home::{Home, Order, Said};
use crate::ranks::replica::Prepared;
use crate::ranks::report::StepReport;
use crate::ranks::{RanksError, RanksSetup};

pub(super) type Answer<T> = oneshot::Sender<Result<T, RanksError>>;

pub(super) enum LeaderMessage {
    Step(StepBatch, Answer<StepReport>),
    Snapshot(Answer<Snapshot>),
    /// What was taken, for who asks next.
    Taken(Snapshot),
    Save(PathBuf, Answer<()>),
    Kill(RankId),
    Said {
        rank: RankId,
        life: u64,
        said: Said,
    },
    /// What one rank has, for another.
    State {
        from: (RankId, u64),
        to: (RankId, u64),
        state: Result<Arc<LearnerState>, String>,
    },
    Tick,
}

pub(super) struct LeaderActor;

/// A life of a rank.
pub(super) struct Alive {
    number: u64,
    actor: ActorRef<RankMessage>,
}

pub(super) struct LeaderState {
    group: Group,
    setup: RanksSetup,
    began: Instant,
    lives: BTreeMap<RankId, Alive>,
    lives_begun: u64,
    started: Option<Answer<()>>,
    step: Option<Pending>,
    snapshot: Option<Snapshot>,
    timer: Option<JoinHandle<()>>,
}

/// A step that was asked for.
struct Pending {
    batch: Arc<StepBatch>,
    /// Of this try.
    prepared: BTreeMap<RankId, Prepared>,
    answer: Answer<StepReport>,
}

impl Actor for LeaderActor {
    type Msg = LeaderMessage;
    type State = LeaderState;
    type Arguments = (RanksSetup, Answer<()>);

    async fn pre_start(
        &self,
        myself: ActorRef<LeaderMessage>,
        (setup, started): Self::Arguments,
    ) -> Result<LeaderState, ActorProcessingErr> {
        let count = u32::try_from(setup.homes.len())?;
        let shards_optimizer = setup.settings.shard_optimizer;
        let (group, effects) = Group::new(count, shards_optimizer, setup.group.clone());
        let mut state = LeaderState {
            group,
            setup,
            began: Instant::now(),
            lives: BTreeMap::new(),
            lives_begun: 0,
            started: Some(started),
            step: None,
            snapshot: None,
            timer: None,
        };
        state.obey(&myself, effects).await;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<LeaderMessage>,
        message: LeaderMessage,
        state: &mut LeaderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LeaderMessage::Step(batch, answer) => state.begin(&myself, batch, answer).await,
            LeaderMessage::Snapshot(answer) => state.take_snapshot(&myself, answer),
            LeaderMessage::Taken(snapshot) => state.keep(snapshot),
            LeaderMessage::Save(dir, answer) => state.save(dir, answer),
            LeaderMessage::Kill(rank) => state.lost(&myself, rank, "killed".to_owned()).await,
            LeaderMessage::Said { rank, life, said } if state.lives(rank, life) => {
                state.heard(&myself, rank, said).await;
            }
            LeaderMessage::State { from, to, state: taken } => {
                state.hand_over(&myself, from, to, taken).await;
            }
            LeaderMessage::Tick => {
                let effects = state.group.tick(state.began.elapsed());
                state.obey(&myself, effects).await;
            }
            // Of a life that is over.
            LeaderMessage::Said { .. } => {}
        }
        state.set_timer(&myself);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<LeaderMessage>,
        event: SupervisionEvent,
        state: &mut LeaderState,
    ) -> Result<(), ActorProcessingErr> {
        let (id, why) = match event {
            SupervisionEvent::ActorTerminated(cell, _, why) => {
                (cell.get_id(), why.unwrap_or_else(|| "its actor has ended".to_owned()))
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            _ => return Ok(()),
        };
        if let Some(rank) = state.rank_of(id) {
            state.lost(&myself, rank, why).await;
            state.set_timer(&myself);
        }
        Ok(())
    }
}

impl LeaderState {
    fn lives(&self, rank: RankId, life: u64) -> bool {
        self.lives.get(&rank).is_some_and(|alive| alive.number == life)
    }

    fn rank_of(&self, actor: ActorId) -> Option<RankId> {
        let found = self.lives.iter().find(|(_, alive)| alive.actor.get_id() == actor);
        found.map(|(rank, _)| *rank)
    }

    async fn begin(
        &mut self,
        myself: &ActorRef<LeaderMessage>,
        batch: StepBatch,
        answer: Answer<StepReport>,
    ) {
        let step = batch.step;
        let trainable = batch.trainable(&self.setup.settings.micro_batch);
        let refused = if trainable.counts.tokens == 0 {
            Some(RanksError::Empty { step, too_long: trainable.too_long })
        } else {
            self.step.is_some().then_some(RanksError::Busy { step })
        };
        if let Some(refused) = refused {
            // Who has asked may have stopped waiting: here, and for all answers.
            return drop(answer.send(Err(refused)));
        }
        let batch = Arc::new(batch);
        self.step = Some(Pending { batch, prepared: BTreeMap::new(), answer });
        self.tell(myself, Event::Step(step)).await;
    }

    async fn heard(&mut self, myself: &ActorRef<LeaderMessage>, rank: RankId, said: Said) {
        let event = match said {
            Said::Came { steps, digest } => Event::Came { rank, steps, digest },
            Said::Formed { epoch } => Event::Formed { rank, epoch },
            Said::Computed { epoch } => Event::Computed { rank, epoch },
            Said::Ready { epoch, prepared } => {
                if let Some(step) = self.step.as_mut().filter(|_| epoch == self.group.epoch()) {
                    step.prepared.insert(rank, prepared);
                }
                Event::Ready { rank, epoch, check: prepared.check }
            }
            Said::Applied { epoch, digest } => Event::Applied { rank, epoch, digest },
            Said::Aborted { epoch, cause } => Event::Aborted { rank, epoch, cause },
            Said::CaughtUp { steps, digest } => Event::CaughtUp { rank, steps, digest },
            Said::Down(why) => return self.lost(myself, rank, why).await,
        };
        self.tell(myself, event).await;
    }

    /// The life of a rank is over, or has to be.
    async fn lost(&mut self, myself: &ActorRef<LeaderMessage>, rank: RankId, why: String) {
        if let Some(alive) = self.lives.remove(&rank) {
            alive.actor.kill();
            self.tell(myself, Event::Down { rank, why }).await;
        }
    }

    async fn tell(&mut self, myself: &ActorRef<LeaderMessage>, event: Event) {
        let effects = self.group.handle(self.began.elapsed(), event);
        self.obey(myself, effects).await;
    }

    async fn obey(&mut self, myself: &ActorRef<LeaderMessage>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start(rank) => self.start(myself, rank).await,
                Effect::Kill { rank, .. } => {
                    if let Some(alive) = self.lives.remove(&rank) {
                        alive.actor.kill();
                    }
                }
                Effect::Started => self.answer_start(Ok(())),
                Effect::Form { epoch, members } => self.form(epoch, &members),
                Effect::Begin { epoch, members, .. } => {
                    let Some(step) = &mut self.step else { continue };
                    step.prepared.clear();
                    let batch = step.batch.clone();
                    self.order(&members, || Order::Begin { epoch, batch: batch.clone() });
                }
                Effect::Commit { epoch, members, .. } => {
                    self.order(&members, || Order::Commit { epoch });
                }
                Effect::Abort { epoch, members, reason } => {
                    self.order(&members, || Order::Abort { epoch, reason: reason.clone() });
                }
                Effect::CatchUp { from, to } => self.catch_up(myself, from, to),
                Effect::Done(done) => {
                    self.snapshot = None;
                    let Some(Pending { batch, prepared, answer }) = self.step.take() else {
                        continue;
                    };
                    let trainable = batch.trainable(&self.setup.settings.micro_batch);
                    let members = self.group.ring().iter();
                    let prepared: Vec<Prepared> =
                        members.filter_map(|rank| prepared.get(rank).copied()).collect();
                    drop(answer.send(Ok(StepReport::new(done, &batch, &trainable, &prepared))));
                }
                Effect::Failed(error) => {
                    self.answer_start(Err(error.clone().into()));
                    if let Some(step) = self.step.take() {
                        drop(step.answer.send(Err(error.into())));
                    }
                }
            }
        }
    }

    fn answer_start(&mut self, started: Result<(), RanksError>) {
        if let Some(answer) = self.started.take() {
            drop(answer.send(started));
        }
    }

    async fn start(&mut self, myself: &ActorRef<LeaderMessage>, rank: RankId) {
        self.lives_begun += 1;
        let number = self.lives_begun;
        let Some(home) = self.home(rank).cloned() else { return };
        let leader = myself.clone();
        let config = actor::Config {
            rank,
            home,
            say: Arc::new(move |said| {
                // A leader that has ended has ended its ranks.
                let _ = leader.cast(LeaderMessage::Said { rank, life: number, said });
            }),
        };
        match actor::spawn(config, myself.get_cell()).await {
            Ok(actor) => drop(self.lives.insert(rank, Alive { number, actor })),
            Err(error) => {
                let why = Said::Down(error.to_string());
                // It is heard as if the rank had said so.
                let said = LeaderMessage::Said { rank, life: number, said: why };
                self.lives.remove(&rank);
                let _ = myself.cast(said);
            }
        }
    }

    fn home(&self, rank: RankId) -> Option<&Arc<dyn Home>> {
        self.setup.homes.get(rank.0 as usize)
    }

    fn form(&self, epoch: u64, ring: &[RankId]) {
        let node = |rank| self.home(rank).map_or_else(String::new, |home| home.node().to_owned());
        let members = ring.iter().map(|rank| Member { id: *rank, node: node(*rank) });
        let members: Vec<Member> = members.collect();
        for (rank, member) in ring.iter().enumerate() {
            let place = Place { epoch, rank, members: members.clone() };
            self.order(&[*member], || Order::Form(place.clone()));
        }
    }

    fn order(&self, members: &[RankId], order: impl Fn() -> Order) {
        for alive in members.iter().filter_map(|rank| self.lives.get(rank)) {
            // Of an actor that has ended, its leader is told.
            let _ = alive.actor.cast(RankMessage::Order(order()));
        }
    }

    fn catch_up(&self, myself: &ActorRef<LeaderMessage>, from: RankId, to: RankId) {
        let (Some(source), Some(target)) = (self.lives.get(&from), self.lives.get(&to)) else {
            return;
        };
        let (from, to) = ((from, source.number), (to, target.number));
        let (actor, leader) = (source.actor.clone(), myself.clone());
        tokio::spawn(async move {
            // A source that ends is told of as such.
            if let Some(state) = ask_state(&actor).await {
                let state = state.map(Arc::new);
                let _ = leader.cast(LeaderMessage::State { from, to, state });
            }
        });
    }

    async fn hand_over(
        &mut self,
        myself: &ActorRef<LeaderMessage>,
        (from, from_life): (RankId, u64),
        (to, to_life): (RankId, u64),
        state: Result<Arc<LearnerState>, String>,
    ) {
        match state {
            Ok(state) if self.lives(to, to_life) => {
                self.order(&[to], || Order::Load(state.clone()));
            }
            Err(why) if self.lives(from, from_life) => self.lost(myself, from, why).await,
            _ => {}
        }
    }

    /// Members, those of this process first.
    fn nearest(&self) -> Vec<(RankId, ActorRef<RankMessage>)> {
        let alive = |rank: RankId| Some((rank, self.lives.get(&rank)?.actor.clone()));
        let mut members: Vec<_> = self.group.members().into_iter().filter_map(alive).collect();
        members
            .sort_by_key(|(rank, _)| self.home(*rank).is_none_or(|home| !home.node().is_empty()));
        members
    }

    fn take_snapshot(&self, myself: &ActorRef<LeaderMessage>, answer: Answer<Snapshot>) {
        if let Some(snapshot) = &self.snapshot {
            return drop(answer.send(Ok(snapshot.clone())));
        }
        let (members, leader) = (self.nearest(), myself.clone());
        tokio::spawn(async move {
            let taken = ask_snapshot(&members).await;
            if let Ok(snapshot) = &taken {
                let _ = leader.cast(LeaderMessage::Taken(snapshot.clone()));
            }
            drop(answer.send(taken));
        });
    }

    fn keep(&mut self, snapshot: Snapshot) {
        if snapshot.version == self.group.done() {
            self.snapshot = Some(snapshot);
        }
    }

    fn save(&self, dir: PathBuf, answer: Answer<()>) {
        let (members, ring) = (self.nearest(), self.group.ring().to_vec());
        let state = match self.setup.settings.shard_optimizer {
            true => State::Sharded(ring),
            false => State::Whole,
        };
        tokio::spawn(async move { drop(answer.send(ask_save(&members, state, dir).await)) });
    }

    fn set_timer(&mut self, myself: &ActorRef<LeaderMessage>) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        if let Some(at) = self.group.deadline() {
            let (leader, at) = (myself.clone(), self.began + at + GRAIN);
            self.timer = Some(tokio::spawn(async move {
                tokio::time::sleep_until(at).await;
                let _ = leader.cast(LeaderMessage::Tick);
            }));
        }
    }
}

/// Of tokio's timers: what is due has come then.
const GRAIN: Duration = Duration::from_millis(1);
