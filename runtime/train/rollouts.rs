//! The rollouts of a run that trains: planned all at once, admitted bit by bit by the training
//! loop, which is told how each one ended, and says which of them each step learns from.
//!
//! Nothing begins before it is admitted, and nothing is told twice, so under a loop that stands
//! still nothing grows. What a past life of the run admitted and did not see end waits to be
//! admitted again; only what still runs on the nodes of a cluster is taken back, and its end told,
//! whether or not it has been by then.

use std::collections::BTreeMap;
use std::ops::Range;

use orcapack_cluster::mesh::Mesh;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::batches::ConsumeError;
use crate::engine::Engine;
use crate::exit::Failure;
use crate::ledger::{Ended, Ledger};
use crate::status::RunStatus;
use crate::store::{Store, Writing};
use crate::train::delivery::broadcast::Broadcast;
use crate::under_way::{Finished, UnderWay};
use crate::work::Rollout;

/// A rollout that may be admitted.
#[derive(Clone, Debug)]
pub struct Planned {
    pub what: Rollout,
    /// Those of a group are compared with each other: one visit to a task has one.
    pub group: u32,
}

/// What the ledger knew when the run began. Nothing, where it is new.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resumed {
    /// The rollouts that were admitted, in their order.
    pub admitted: Vec<u32>,
    /// The rollouts that have ended, in their order. They are not told again by
    /// [`TrainRollouts::ended`], and admitting them changes nothing.
    pub ended: Vec<Ended>,
    /// The batches that were consumed, by step, each in its order.
    pub batches: BTreeMap<u64, Vec<u32>>,
}

/// Why rollouts cannot be admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    #[error("rollouts {range:?} cannot be admitted: the plan has {planned}")]
    NotPlanned { range: Range<u32>, planned: u32 },
    #[error("rollouts cannot be admitted: the run has been closed")]
    Closed,
}

/// The way to a run under way. Dropped, it leaves the run as it is: [`Self::stop`] ends it in
/// order.
pub struct TrainRollouts {
    run: UnderWay,
    life: u64,
    news: UnboundedReceiver<Ended>,
    /// By rollout id.
    standings: Vec<Standing>,
    in_flight: usize,
    closed: bool,
}

/// As far as the loop knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Held,
    InFlight,
    Ended,
}

impl TrainRollouts {
    /// Begins a run of these, which are by rollout id, or resumes it. Nothing is admitted.
    ///
    /// # Errors
    /// The ledger cannot be opened or is of another plan, the sandbox engine is away, or a part of
    /// the node ended.
    pub async fn start(engine: Engine<'_>, plan: Vec<Planned>) -> Result<(Self, Resumed), Failure> {
        let row = |id: u32| plan[id as usize].what.planned(plan[id as usize].group);
        let count = plan.len() as u32;
        let opened = Store::open_growing(&engine.ledger, count, &row, Writing::Thread)?;
        let mut standings = vec![Standing::Held; plan.len()];
        for Ended { rollout, .. } in &opened.past.ended {
            if let Some(standing) = standings.get_mut(*rollout as usize) {
                *standing = Standing::Ended;
            }
        }
        let (rollouts, groups) = plan.into_iter().map(|it| (it.what, it.group)).unzip();
        let ledger = Ledger::held(groups, engine.config.retries.clone());
        let ended = opened.past.ended.clone();
        let admitted = opened.past.planned.clone();
        let resumed = Resumed { admitted, ended, batches: opened.past.batches.clone() };
        let life = opened.incarnation;
        let (tell, news) = unbounded_channel();
        let run = engine.begin(rollouts, ledger, opened, Some(tell)).await?;
        Ok((Self { run, life, news, standings, in_flight: 0, closed: false }, resumed))
    }

    /// Lets rollouts run, after all that were admitted before. For those that have ended, or were
    /// admitted before, it changes nothing.
    ///
    /// # Errors
    /// The plan has no such rollouts, or the run was [closed](Self::close); nothing is admitted
    /// then.
    pub fn admit(&mut self, range: Range<u32>) -> Result<(), AdmitError> {
        if self.closed {
            return Err(AdmitError::Closed);
        }
        let Some(standings) = self.standings.get_mut(range.start as usize..range.end as usize)
        else {
            let planned = self.standings.len() as u32;
            return Err(AdmitError::NotPlanned { range, planned });
        };
        for standing in standings.iter_mut().filter(|standing| **standing == Standing::Held) {
            *standing = Standing::InFlight;
            self.in_flight += 1;
        }
        self.run.coordinator().admit(range);
        Ok(())
    }

    /// How the next rollout ended, once that is on disk: each once, whatever became of it. `None`
    /// when the run has ended and all has been told; [`Self::stop`] says how. Nothing is lost where
    /// this is dropped before.
    pub async fn ended(&mut self) -> Option<Ended> {
        let ended = tokio::select! {
            biased;
            ended = self.news.recv() => ended,
            // What it still had to tell, it has told by now.
            () = self.run.wait() => self.news.try_recv().ok(),
        }?;
        let standing = &mut self.standings[ended.rollout as usize];
        self.in_flight -= usize::from(*standing == Standing::InFlight);
        *standing = Standing::Ended;
        Some(ended)
    }

    /// Rollouts that were admitted and whose ends have not been told.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// AC-5: makes rollouts that have ended, in this order, the batch of a step (1 is the first),
    /// on disk before this resolves: before the step begins. The very same batch may be asked for
    /// again, as it is when steps are made again after a resume.
    ///
    /// # Errors
    /// One of them is in a batch already, the step has another batch, or the ledger cannot be
    /// written. Nothing has been consumed then.
    pub async fn consume(&self, step: u64, rollouts: &[u32]) -> Result<(), ConsumeError> {
        self.run.coordinator().consume(step, rollouts.to_vec()).await
    }

    /// The way of weights to the nodes of a cluster; `None` where the rollouts are run here.
    pub fn weights(&self) -> Option<Broadcast> {
        self.run.weights()
    }

    /// Where the nodes of a cluster are peers, and which life of the run's coordinator this is;
    /// `None` where the rollouts are run here.
    pub fn cluster(&self) -> Option<(Mesh, u64)> {
        Some((self.run.mesh()?, self.life))
    }

    /// For the progress display. Of all rollouts, it counts those that were admitted, and those
    /// that ended before a resume. Its sender is gone when the run has ended.
    pub fn status(&self) -> watch::Receiver<RunStatus> {
        self.run.status()
    }

    /// Nothing more will be admitted: the run ends when all that was has ended.
    pub fn close(&mut self) {
        self.closed = true;
        self.run.coordinator().close();
    }

    /// Begins no attempt any more; the run ends when none runs. What is missing can be resumed.
    pub fn drain(&self) {
        self.run.drain();
    }

    /// Ends what runs, now, and with it the run; it can be resumed.
    pub fn kill(&self) {
        self.run.kill();
    }

    /// Ends the run where it has not ended by itself, and leaves nothing of it.
    ///
    /// # Errors
    /// The ledger cannot be written, a newer process coordinates, the sandbox engine is away, or a
    /// part of the node ended.
    pub async fn stop(self) -> Result<Finished, Failure> {
        self.run.kill();
        self.run.stop().await
    }
}
