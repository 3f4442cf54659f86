//! A rank that lives here for a leader on another node: its messages are orders to the rank's home,
//! and what the rank says and answers goes back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::collective::RankId;
use crate::learner::LearnerState;
use crate::model::parameters::Parameters;
use crate::policy_step::StepBatch;
use crate::ranks::bulk::{self, Batching, Gathering};
use crate::ranks::home::{Home, Life, Order, Reply, Said};
use crate::ranks::wire::{self, BYTES_MAX, FromRank, StateHead, ToRank};

/// Runs one life of `rank` at `home`, until the leader lets go of it, or it ends by itself.
/// Checkpoints are made in `scratch`, and removed when they are sent.
///
/// # Errors
/// What the leader must not say, or a rank that does not start.
pub async fn serve(
    home: &dyn Home,
    rank: RankId,
    scratch: PathBuf,
    send: mpsc::Sender<FromRank>,
    mut receive: mpsc::Receiver<ToRank>,
) -> Result<(), String> {
    // What a rank says is little, and bounded by what it is told.
    let (said, mut heard) = mpsc::unbounded_channel();
    let say = Arc::new(move |it| drop(said.send(it)));
    let life = home.start(rank, say).await?;
    let (answers, waiting) = mpsc::unbounded_channel();
    let mut serving = Serving { life, coming: None, answers, scratch, saved: 0 };
    let answering = tokio::spawn(answer(waiting, send.clone()));
    let result = loop {
        tokio::select! {
            message = receive.recv() => match message.map(|message| serving.take(message)) {
                Some(Ok(())) => {}
                Some(Err(why)) => break Err(why),
                None => break Ok(()),
            },
            Some(said) = heard.recv() => {
                let is_last = matches!(said, Said::Down(_));
                if send.send(said.into()).await.is_err() || is_last {
                    break Ok(());
                }
            }
        }
    };
    answering.abort();
    result
}

struct Serving {
    life: Box<dyn Life>,
    coming: Option<Coming>,
    /// Not more than the leader has asked for.
    answers: mpsc::UnboundedSender<Answer>,
    scratch: PathBuf,
    /// Checkpoints, each of which has a folder of its own.
    saved: u64,
}

/// What an order waits for.
enum Coming {
    Batch(Batching),
    State(Gathering, StateHead),
    /// To be saved.
    Optimizer(Gathering, StateHead),
}

/// What the rank will say, and in what form it goes back.
enum Answer {
    State(oneshot::Receiver<Result<LearnerState, String>>),
    Weights(oneshot::Receiver<Result<(u64, Parameters), String>>),
    Saved(PathBuf, oneshot::Receiver<Result<(), String>>),
}

impl Serving {
    /// # Errors
    /// A message that does not fit to those before it.
    fn take(&mut self, message: ToRank) -> Result<(), String> {
        let order = match (self.coming.take(), message) {
            // An abort may come between the pieces of anything.
            (coming, ToRank::Abort { epoch, reason }) => {
                self.coming = coming;
                Order::Abort { epoch, reason }
            }
            (Some(coming), message) => return self.go_on(coming, message),
            (None, ToRank::Begin { epoch, step, version, learning_rate, samples }) => {
                let batch = StepBatch { step, version, learning_rate, samples: Vec::new() };
                return self.end(Coming::Batch(Batching::new(epoch, batch, samples)?));
            }
            (None, ToRank::Load(head)) => {
                let heads = head.weights.iter().chain(&head.optimizer).cloned();
                let gathering = Gathering::new(heads)?;
                return self.end(Coming::State(gathering, head));
            }
            (None, ToRank::Save { optimizer: Some(head) }) => {
                let gathering = Gathering::new(head.optimizer.iter().cloned())?;
                return self.end(Coming::Optimizer(gathering, head));
            }
            (None, ToRank::Save { optimizer: None }) => self.save(None),
            (None, ToRank::Form { epoch, place, members }) => {
                Order::Form(wire::place(epoch, place, members))
            }
            (None, ToRank::Commit { epoch }) => Order::Commit { epoch },
            (None, ToRank::State) => Order::State(self.asked(Answer::State)),
            (None, ToRank::Weights) => Order::Weights(self.asked(Answer::Weights)),
            (None, ToRank::Sample(_) | ToRank::Values(_)) => {
                return Err("a piece of nothing".to_owned());
            }
        };
        self.life.order(order);
        Ok(())
    }

    fn go_on(&mut self, mut coming: Coming, message: ToRank) -> Result<(), String> {
        match (&mut coming, message) {
            (Coming::Batch(batching), ToRank::Sample(sample)) => batching.add(sample)?,
            (
                Coming::State(gathering, _) | Coming::Optimizer(gathering, _),
                ToRank::Values(piece),
            ) => gathering.add(&piece)?,
            _ => return Err("something else than the rest of an order".to_owned()),
        }
        self.end(coming)
    }

    /// Gives the order, where it is whole.
    fn end(&mut self, coming: Coming) -> Result<(), String> {
        let order = match coming {
            Coming::Batch(batching) => match batching.end() {
                Ok((epoch, batch)) => Order::Begin { epoch, batch: Arc::new(batch) },
                Err(rest) => return self.wait(Coming::Batch(rest)),
            },
            Coming::State(gathering, head) => match gathering.end() {
                Ok(tensors) => Order::Load(Arc::new(bulk::state(&head, tensors)?)),
                Err(rest) => return self.wait(Coming::State(rest, head)),
            },
            Coming::Optimizer(gathering, head) => match gathering.end() {
                Ok(tensors) => {
                    let state = bulk::optimizer_state(head.optimizer_steps, tensors)?;
                    self.save(Some(Arc::new(state)))
                }
                Err(rest) => return self.wait(Coming::Optimizer(rest, head)),
            },
        };
        self.life.order(order);
        Ok(())
    }

    fn wait(&mut self, coming: Coming) -> Result<(), String> {
        self.coming = Some(coming);
        Ok(())
    }

    fn save(&mut self, optimizer: Option<Arc<OptimizerState>>) -> Order {
        self.saved += 1;
        let dir = self.scratch.join(format!("checkpoint-{}", self.saved));
        let reply = self.asked(|saved| Answer::Saved(dir.clone(), saved));
        Order::Save { dir, optimizer, reply }
    }

    fn asked<T>(
        &self,
        answer: impl FnOnce(oneshot::Receiver<Result<T, String>>) -> Answer,
    ) -> Reply<T> {
        let (reply, waiting) = oneshot::channel();
        // Fails only where nobody can be answered any more.
        let _ = self.answers.send(answer(waiting));
        reply
    }
}

/// One after the other, in the order in which they were asked for.
async fn answer(
    mut waiting: mpsc::UnboundedReceiver<Answer>,
    send: mpsc::Sender<FromRank>,
) -> Result<(), Gone> {
    let out = Out { send };
    while let Some(answer) = waiting.recv().await {
        // A rank that is gone without an answer has said so.
        let answered = match answer {
            Answer::State(state) => match state.await.map_err(|_| Gone)? {
                Ok(state) => out.state(&state).await,
                Err(why) => Err(why),
            },
            Answer::Weights(weights) => match weights.await.map_err(|_| Gone)? {
                Ok((steps, parameters)) => out.weights(steps, &parameters).await,
                Err(why) => Err(why),
            },
            Answer::Saved(dir, saved) => match saved.await.map_err(|_| Gone)? {
                Ok(()) => out.checkpoint(&dir).await,
                Err(why) => Err(why),
            },
        };
        if let Err(why) = answered {
            out.send(FromRank::Refused(why)).await.map_err(|_| Gone)?;
        }
    }
    Ok(())
}

struct Gone;

type OptimizerState = std::collections::HashMap<String, Tensor>;

struct Out {
    send: mpsc::Sender<FromRank>,
}

impl Out {
    async fn send(&self, message: FromRank) -> Result<(), String> {
        self.send.send(message).await.map_err(|_| "the leader is gone".to_owned())
    }

    async fn values(&self, tensors: Vec<Tensor>) -> Result<(), String> {
        for piece in bulk::pieces(tensors) {
            self.send(FromRank::Values(piece.map_err(|error| error.to_string())?)).await?;
        }
        Ok(())
    }

    async fn state(&self, state: &LearnerState) -> Result<(), String> {
        let (head, tensors) = bulk::cut(state).map_err(|error| error.to_string())?;
        self.send(FromRank::State(head)).await?;
        self.values(tensors).await
    }

    async fn weights(&self, steps: u64, parameters: &Parameters) -> Result<(), String> {
        let named = parameters.named().into_iter();
        let named: Vec<(String, Tensor)> =
            named.map(|(name, var)| (name, var.as_detached_tensor())).collect();
        let (heads, tensors) = bulk::heads(named.iter().map(|(name, tensor)| (name, tensor)));
        self.send(FromRank::Weights { steps, tensors: heads }).await?;
        self.values(tensors).await
    }

    /// All files of a folder, which is then removed.
    async fn checkpoint(&self, dir: &Path) -> Result<(), String> {
        for name in files(dir).await.map_err(|error| error.to_string())? {
            self.file(dir, name).await?;
        }
        fs::remove_dir_all(dir).await.map_err(|error| error.to_string())?;
        self.send(FromRank::Saved).await
    }

    async fn file(&self, dir: &Path, name: String) -> Result<(), String> {
        let told = |error: io::Error| error.to_string();
        let mut file = File::open(dir.join(&name)).await.map_err(told)?;
        let mut left = file.metadata().await.map_err(told)?.len();
        self.send(FromRank::File { name, bytes: left }).await?;
        while left > 0 {
            let mut piece = vec![0; BYTES_MAX.min(usize::try_from(left).unwrap_or(BYTES_MAX))];
            file.read_exact(&mut piece).await.map_err(told)?;
            left -= piece.len() as u64;
            self.send(FromRank::Bytes(piece)).await?;
        }
        Ok(())
    }
}

/// The names of all files below a folder.
async fn files(dir: &Path) -> io::Result<Vec<String>> {
    let (mut names, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let mut entries = fs::read_dir(dir.join(&folder)).await?;
        while let Some(entry) = entries.next_entry().await? {
            let path = folder.join(entry.file_name());
            match entry.file_type().await?.is_dir() {
                true => folders.push(path),
                false => names.push(path.to_string_lossy().into_owned()),
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[path = "served_tests.rs"]
mod tests;
