//! A rank on another node, as its leader sees it: like any other. On the rank's side,
//! [`serve`](super::served::serve) runs it at its home there. What carries the messages between the
//! two, in order, is the caller's; where it lets go of its channels, the rank's life is over.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::learner::LearnerState;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::policy_step::StepBatch;
use crate::ranks::bulk::{self, Gathering};
use crate::ranks::home::{Life, Order, Reply, Said, Say};
use crate::ranks::wire::{self, FromRank, StateHead, ToRank};

/// Messages that wait for the wire, on each side.
pub const MESSAGES_WAITING_MAX: usize = 16;

/// The way to a rank that is served elsewhere. `config` is of its policy. Must be called within a
/// tokio runtime.
pub fn connect(
    say: Say,
    config: ModelConfig,
    send: mpsc::Sender<ToRank>,
    receive: mpsc::Receiver<FromRank>,
) -> Box<dyn Life> {
    let (orders, taken) = mpsc::unbounded_channel();
    let asked = Arc::new(Mutex::new(VecDeque::new()));
    let writing = Writing { send, asked: asked.clone() };
    // Where it fails, it lets go of the wire, and so ends the rank.
    tokio::spawn(async move { drop(writing.write(taken).await) });
    tokio::spawn(async move {
        let mut reading = Reading { receive, asked, config };
        let why = match reading.read(&say).await {
            Ok(()) => "its node is gone".to_owned(),
            Err(why) => why,
        };
        say(Said::Down(why));
    });
    Box::new(RemoteLife { orders })
}

struct RemoteLife {
    /// At most those of a step, and what is asked beside it.
    orders: mpsc::UnboundedSender<Order>,
}

impl Life for RemoteLife {
    fn order(&mut self, order: Order) {
        // Of a rank that is gone, the leader is told.
        let _ = self.orders.send(order);
    }
}

/// What was asked and is not answered yet, in the order of the answers.
enum Asked {
    State(Reply<LearnerState>),
    Weights(Reply<(u64, Parameters)>),
    Save(PathBuf, Reply<()>),
}

type AllAsked = Arc<Mutex<VecDeque<Asked>>>;

/// Orders to messages.
struct Writing {
    send: mpsc::Sender<ToRank>,
    asked: AllAsked,
}

impl Writing {
    async fn write(self, mut orders: mpsc::UnboundedReceiver<Order>) -> Result<(), String> {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Form(place) => self.send(wire::form(&place)).await?,
                Order::Commit { epoch } => self.send(ToRank::Commit { epoch }).await?,
                Order::Abort { epoch, reason } => {
                    self.send(ToRank::Abort { epoch, reason }).await?;
                }
                Order::Begin { epoch, batch } => self.begin(epoch, &batch).await?,
                Order::Load(state) => {
                    let (head, tensors) = bulk::cut(&state).map_err(|error| error.to_string())?;
                    self.send(ToRank::Load(head)).await?;
                    self.values(tensors).await?;
                }
                Order::State(reply) => self.ask(Asked::State(reply), ToRank::State).await?,
                Order::Weights(reply) => self.ask(Asked::Weights(reply), ToRank::Weights).await?,
                Order::Save { dir, optimizer, reply } => {
                    let cut = optimizer.as_deref().map(bulk::cut_optimizer).transpose();
                    let cut = cut.map_err(|error| error.to_string())?;
                    let (optimizer, tensors) = cut.map_or((None, Vec::new()), |cut| {
                        let (optimizer, tensors, optimizer_steps) = cut;
                        let head = StateHead { optimizer, optimizer_steps, ..StateHead::default() };
                        (Some(head), tensors)
                    });
                    self.ask(Asked::Save(dir, reply), ToRank::Save { optimizer }).await?;
                    self.values(tensors).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(&self, message: ToRank) -> Result<(), String> {
        self.send.send(message).await.map_err(|_| "its node is gone".to_owned())
    }

    async fn ask(&self, asked: Asked, message: ToRank) -> Result<(), String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(asked);
        self.send(message).await
    }

    async fn begin(&self, epoch: u64, batch: &StepBatch) -> Result<(), String> {
        let samples = u32::try_from(batch.samples.len()).map_err(|error| error.to_string())?;
        let StepBatch { step, version, learning_rate, .. } = *batch;
        self.send(ToRank::Begin { epoch, step, version, learning_rate, samples }).await?;
        for sample in &batch.samples {
            self.send(ToRank::Sample(sample.into())).await?;
        }
        Ok(())
    }

    async fn values(&self, tensors: Vec<Tensor>) -> Result<(), String> {
        for piece in bulk::pieces(tensors) {
            self.send(ToRank::Values(piece.map_err(|error| error.to_string())?)).await?;
        }
        Ok(())
    }
}

/// Messages to what the leader hears.
struct Reading {
    receive: mpsc::Receiver<FromRank>,
    asked: AllAsked,
    config: ModelConfig,
}

/// An answer that is on its way.
enum Answering {
    State(Gathering, StateHead, Reply<LearnerState>),
    Weights(Gathering, u64, Reply<(u64, Parameters)>),
    Save { dir: PathBuf, file: Option<(File, u64)>, reply: Reply<()> },
}

impl Reading {
    /// # Errors
    /// What the rank must not say.
    async fn read(&mut self, say: &Say) -> Result<(), String> {
        let mut answering = None;
        while let Some(message) = self.receive.recv().await {
            match message.said() {
                Ok(said) => say(said),
                Err(message) => {
                    answering = match answering.take() {
                        Some(answering) => self.go_on(answering, *message).await?,
                        None => self.answer(*message).await?,
                    };
                }
            }
        }
        Ok(())
    }

    /// The first message of an answer.
    async fn answer(&mut self, message: FromRank) -> Result<Option<Answering>, String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        // Whoever has asked may have stopped waiting: here, and for all answers.
        match (asked, message) {
            (Some(Asked::State(reply)), FromRank::State(head)) => {
                let heads = head.weights.iter().chain(&head.optimizer).cloned();
                let gathering = Gathering::new(heads)?;
                self.end(Answering::State(gathering, head, reply))
            }
            (Some(Asked::Weights(reply)), FromRank::Weights { steps, tensors }) => {
                self.end(Answering::Weights(Gathering::new(tensors)?, steps, reply))
            }
            (
                Some(Asked::Save(dir, reply)),
                message @ (FromRank::File { .. } | FromRank::Saved),
            ) => {
                let saving = Answering::Save { dir, file: None, reply };
                self.go_on(saving, message).await
            }
            (Some(Asked::State(reply)), FromRank::Refused(why)) => {
                drop(reply.send(Err(why)));
                Ok(None)
            }
            (Some(Asked::Weights(reply)), FromRank::Refused(why)) => {
                drop(reply.send(Err(why)));
                Ok(None)
            }
            (Some(Asked::Save(_, reply)), FromRank::Refused(why)) => {
                drop(reply.send(Err(why)));
                Ok(None)
            }
            _ => Err("it answers what nobody has asked".to_owned()),
        }
    }

    async fn go_on(
        &self,
        mut answering: Answering,
        message: FromRank,
    ) -> Result<Option<Answering>, String> {
        match (&mut answering, message) {
            (
                Answering::State(gathering, ..) | Answering::Weights(gathering, ..),
                FromRank::Values(piece),
            ) => gathering.add(&piece)?,
            (Answering::Save { dir, file: file @ None, .. }, FromRank::File { name, bytes }) => {
                let opened =
                    create(dir, &name).await.map_err(|error| format!("{name}: {error}"))?;
                *file = (bytes > 0).then_some((opened, bytes));
            }
            (Answering::Save { file, .. }, FromRank::Bytes(bytes)) => {
                let Some((open, missing)) = file else {
                    return Err("it sends bytes of no file".to_owned());
                };
                let left = missing.checked_sub(bytes.len() as u64);
                *missing = left.ok_or("it sends more of a file than it has said")?;
                open.write_all(&bytes).await.map_err(|error| error.to_string())?;
                if *missing == 0 {
                    open.flush().await.map_err(|error| error.to_string())?;
                    *file = None;
                }
            }
            (Answering::Save { file: None, .. }, FromRank::Saved) => {
                if let Answering::Save { reply, .. } = answering {
                    drop(reply.send(Ok(())));
                }
                return Ok(None);
            }
            _ => return Err("it says something else than the rest of its answer".to_owned()),
        }
        self.end(answering)
    }

    /// Gives the answer, where it is whole.
    fn end(&self, answering: Answering) -> Result<Option<Answering>, String> {
        match answering {
            Answering::State(gathering, head, reply) => match gathering.end() {
                Ok(tensors) => drop(reply.send(bulk::state(&head, tensors))),
                Err(rest) => return Ok(Some(Answering::State(rest, head, reply))),
            },
            Answering::Weights(gathering, steps, reply) => match gathering.end() {
                Ok(tensors) => {
                    let weights = bulk::parameters(&self.config, tensors);
                    drop(reply.send(weights.map(|weights| (steps, weights))));
                }
                Err(rest) => return Ok(Some(Answering::Weights(rest, steps, reply))),
            },
            saving @ Answering::Save { .. } => return Ok(Some(saving)),
        }
        Ok(None)
    }
}

/// Makes a file below `dir`, and nowhere else.
async fn create(dir: &Path, name: &str) -> std::io::Result<File> {
    let name = Path::new(name);
    let is_below = name.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_below || name.as_os_str().is_empty() {
        return Err(std::io::Error::other("not the name of a file in a checkpoint"));
    }
    let path = dir.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await?;
    }
    File::create_new(path).await
}
