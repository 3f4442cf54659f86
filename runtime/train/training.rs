//! The loop: rollouts are admitted, become batches, become steps, become weights that sample the
//! next rollouts. What may happen when is the [pacer](crate::train::pacer)'s to say; who does it
//! are the [rollouts](crate::train::rollouts), the ranks and the deliveries.
//!
//! A step is: its batch is written down (AC-5), the ranks make it, the samplers get its weights.
//! After a resume, steps that were written down after the checkpoint are made again, from the same
//! rollouts in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orcapack_tasks::grading::is_pass;
use orcapack_trainer::optimizer::schedule::Schedule;
use orcapack_trainer::policy_step::StepBatch;
use orcapack_trainer::ranks::{Ranks, StepReport};
use orcapack_trainer::snapshot::Snapshot;

use crate::exit::{Exit, Failure};
use crate::ledger::Ended;
use crate::metrics_file::MetricsFile;
use crate::stops::{Stop, Stops};
use crate::summary::Share;
use crate::train::batch::{self, GroupFigures};
use crate::train::checkpoints::Checkpoints;
use crate::train::curriculum::Curriculum;
use crate::train::delivery::{Deliveries, Delivery as _};
use crate::train::io;
use crate::train::layout::Layout;
use crate::train::metrics::{Evaluated, Learnt, Seconds, Stepped};
use crate::train::pacer::{End, Group, Pace, Pacer};
use crate::train::progress::Progress;
use crate::train::rollouts::{Resumed, TrainRollouts};
use crate::train::trajectories::{Said, Trajectories};

/// What a loop runs on.
pub struct Parts {
    pub layout: Layout,
    pub pace: Pace,
    pub schedule: Schedule,
    pub batch: batch::Settings,
    pub curriculum: Option<Curriculum>,
    pub rollouts: TrainRollouts,
    pub ranks: Arc<Ranks>,
    pub deliveries: Deliveries,
    pub trajectories: Trajectories,
    pub checkpoints: Checkpoints,
    pub metrics: MetricsFile,
    pub progress: Progress,
    pub stops: Stops,
    /// The steps after which evaluations were told before a resume.
    pub evaluated: BTreeSet<u64>,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trained {
    pub steps: u64,
    pub is_interrupted: bool,
    /// The plan had no more rollouts, before all steps were made.
    pub is_exhausted: bool,
    /// The newest.
    pub checkpoint: Option<PathBuf>,
    pub elapsed: Duration,
}

/// A loop under way.
pub struct Training {
    parts: Parts,
    pacer: Pacer<Said>,
    /// The first training rollout: the pacer counts from it.
    first: u32,
    /// Of this run's past: how rollouts ended that have not been admitted again.
    past: Vec<Ended>,
    /// Batches that were written down for steps still to be made.
    written: BTreeMap<u64, Vec<u32>>,
    /// What was admitted before a resume and did not end is to be admitted again.
    has_left_open: bool,
    /// Of the evaluation under way and of those before: reward by rollout; `None` is a loss.
    rewards: BTreeMap<u32, Option<f64>>,
    trained: Trained,
    began: Instant,
    seconds: Seconds,
    /// Since when no rollout has run, though there are more in the plan.
    idle_since: Option<Instant>,
    step_began: Instant,
}

/// The run is to end before its last step.
enum Stopped {
    /// By the user, in order.
    Interrupted,
    /// By the user, at once.
    Killed,
    /// No batch will come any more.
    Exhausted,
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Training {
    /// Behind `steps` steps; `resumed` is what the ledger knows.
    pub fn new(parts: Parts, steps: u64, resumed: Resumed) -> Self {
        let Resumed { admitted, ended, batches } = resumed;
        let first = parts.layout.first_training();
        let group_size = parts.layout.group_size;
        let group = |rollout: &u32| rollout.checked_sub(first).map(|at| at / group_size);
        let mut batches = batches;
        let written = batches.split_off(&(steps + 1));
        let consumed_batches: Vec<Vec<u32>> = batches.into_values().collect();
        let consumed: BTreeSet<u32> = consumed_batches.iter().flatten().filter_map(group).collect();
        let admitted: BTreeSet<u32> = admitted.iter().filter_map(group).collect();
        let pacer = Pacer::resume(parts.pace, steps, &admitted, &consumed);
        let trained = Trained {
            steps,
            checkpoint: parts.checkpoints.newest().map(|(_, dir)| dir.to_owned()),
            ..Trained::default()
        };
        let mut this = Self {
            parts,
            pacer,
            first,
            past: ended,
            written,
            has_left_open: true,
            rewards: BTreeMap::new(),
            trained,
            began: Instant::now(),
            seconds: Seconds::default(),
            idle_since: None,
            step_began: Instant::now(),
        };
        this.measure_past(consumed_batches);
        this
    }

    /// The batches of steps that are not made again, as the curriculum knew them.
    fn measure_past(&mut self, batches: Vec<Vec<u32>>) {
        let Some(curriculum) = &mut self.parts.curriculum else { return };
        let reward = |ended: &Ended| Some((ended.rollout, ended.outcome.reward()?));
        let rewards: BTreeMap<u32, f64> = self.past.iter().filter_map(reward).collect();
        let size = self.parts.layout.group_size;
        for group in batches.iter().flat_map(|batch| batch.chunks(size as usize)) {
            let passed = group.iter().filter_map(|rollout| rewards.get(rollout));
            let number = (group[0] - self.first) / size;
            curriculum.measured(number, passed.map(|reward| is_pass(*reward)));
        }
    }

    /// To the last step, or to where it is interrupted. Whatever the end, nothing of its rollouts
    /// is left.
    ///
    /// # Errors
    /// A value that is not finite, no rank left, samplers that cannot be reached, and what the
    /// rollouts' run ends with. Checkpoints stay as they are.
    pub async fn run(mut self) -> Result<Trained, Failure> {
        let end = self.steps().await;
        let end = match end {
            Ok(()) | Err(Stopped::Killed) => Ok(()),
            Err(Stopped::Interrupted) => self.checkpoint().await,
            Err(Stopped::Exhausted) => {
                self.trained.is_exhausted = true;
                self.checkpoint().await
            }
            Err(Stopped::Failed(failure)) => Err(failure),
        };
        let Self { parts, mut trained, began, .. } = self;
        let Parts { rollouts, ranks, progress, .. } = parts;
        drop(progress);
        if let Some(ranks) = Arc::into_inner(ranks) {
            ranks.stop().await;
        }
        let stopped = rollouts.stop().await;
        end?;
        stopped?;
        trained.elapsed = began.elapsed();
        Ok(trained)
    }

    async fn steps(&mut self) -> Result<(), Stopped> {
        self.deliver().await?;
        self.take_past().await?;
        let evaluations = self.parts.layout.evaluations();
        while self.trained.steps < self.parts.layout.steps {
            self.step_began = Instant::now();
            self.evaluate_if_due(&evaluations).await?;
            self.step().await?;
            if self.trained.is_interrupted {
                return Err(Stopped::Interrupted);
            }
            if self.parts.checkpoints.is_due(self.trained.steps) {
                self.checkpoint().await?;
            }
        }
        self.checkpoint().await?;
        self.evaluate_if_due(&evaluations).await
    }

    /// Unless that was told before a resume.
    async fn evaluate_if_due(&mut self, evaluations: &[u64]) -> Result<(), Stopped> {
        let step = self.trained.steps;
        match evaluations.iter().position(|at| *at == step) {
            Some(index) if !self.parts.evaluated.contains(&step) => self.evaluate(index).await,
            _ => Ok(()),
        }
    }

    async fn step(&mut self) -> Result<(), Stopped> {
        let step = self.trained.steps + 1;
        let waited = Instant::now();
        let groups = self.next_batch(step).await?;
        self.seconds.waiting_for_batch += waited.elapsed().as_secs_f64();
        self.measure(&groups);
        // Whole groups, their lost members too.
        let rollouts: Vec<u32> =
            groups.iter().flat_map(|group| self.rollouts(group.number)).collect();
        let consumed = self.parts.rollouts.consume(step, &rollouts).await;
        consumed.map_err(|error| Failure::internal(error.to_string()))?;
        let learning_rate = self.parts.schedule.lr(step - 1);
        let made = batch::make(groups, step - 1, self.parts.batch);
        let (samples, figures) = made.map_err(|error| Failure::internal(error.to_string()))?;
        let version = step - 1;
        let step_of_optimizer = self.parts.checkpoints.optimizer_steps + 1;
        let batch = StepBatch { step: step_of_optimizer, version, learning_rate, samples };
        let trained = Instant::now();
        let report = match batch.samples.is_empty() {
            true => None,
            false => {
                let report = self.make_step(batch).await?;
                self.parts.checkpoints.optimizer_steps = step_of_optimizer;
                Some(report)
            }
        };
        self.seconds.train += trained.elapsed().as_secs_f64();
        self.trained.steps = step;
        self.pacer.stepped();
        self.deliver().await?;
        self.tell(step, &figures, report.as_ref(), learning_rate)?;
        Ok(())
    }

    /// The rollouts of a group, as the ledger knows them.
    fn rollouts(&self, group: u32) -> Range<u32> {
        let Range { start, end } = self.pacer.rollouts(group);
        start + self.first..end + self.first
    }

    fn measure(&mut self, groups: &[Group<Said>]) {
        if let Some(curriculum) = &mut self.parts.curriculum {
            for group in groups {
                let passed = group.members.iter().map(|member| is_pass(member.reward));
                curriculum.measured(group.number, passed);
            }
        }
    }

    /// The groups of a step: those that were written down for it, or the next that there are.
    async fn next_batch(&mut self, step: u64) -> Result<Vec<Group<Said>>, Stopped> {
        if let Some(rollouts) = self.written.remove(&step) {
            let numbers: Vec<u32> = rollouts.iter().map(|rollout| rollout - self.first).collect();
            return self.pacer.replay(&numbers).ok_or_else(|| {
                let message = format!("rollouts of step {step} are not in the ledger any more");
                Stopped::Failed(Failure::internal(message))
            });
        }
        self.admit_left_open()?;
        loop {
            self.admit()?;
            if let Some(groups) = self.pacer.batch() {
                return Ok(groups);
            }
            if self.pacer.is_exhausted() {
                return Err(Stopped::Exhausted);
            }
            self.news().await?;
        }
    }

    /// Has the ranks make a step, and goes on with the rollouts meanwhile. A step is waited for
    /// even when the run is to end: it cannot be left half made.
    async fn make_step(&mut self, batch: StepBatch) -> Result<StepReport, Stopped> {
        let ranks = self.parts.ranks.clone();
        let mut stepping = pin!(ranks.step(batch));
        loop {
            let Parts { rollouts, stops, .. } = &mut self.parts;
            let news = tokio::select! {
                biased;
                report = &mut stepping => return Ok(report.map_err(stopped)?),
                news = News::next(rollouts, stops) => news,
            };
            self.hear(news).await?;
            if !self.trained.is_interrupted {
                self.admit()?;
            }
        }
    }

    /// The samplers get the newest weights.
    async fn deliver(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let version = self.trained.steps;
        let snapshot = self.parts.ranks.snapshot().await.map_err(stopped)?;
        // A step without signal has made no other weights, but is a step.
        let snapshot = Snapshot::of(&snapshot.parameters, version).map_err(stopped)?;
        self.parts.deliveries.deliver(&snapshot).await.map_err(stopped)?;
        self.pacer.delivered(version);
        self.seconds.deliver += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Lets as many rollouts begin as may.
    fn admit(&mut self) -> Result<(), Failure> {
        let curriculum = self.parts.curriculum.as_ref();
        let wanted = |group| curriculum.is_none_or(|curriculum| curriculum.wants(group));
        let groups = self.pacer.admit(wanted).into_iter();
        let rollouts: Vec<u32> = groups.flat_map(|group| self.rollouts(group)).collect();
        self.admit_all(&rollouts)?;
        let is_idle = self.parts.rollouts.in_flight() == 0;
        match (is_idle, self.idle_since) {
            (true, None) => self.idle_since = Some(Instant::now()),
            (false, Some(since)) => {
                self.seconds.waiting_for_policy += since.elapsed().as_secs_f64();
                self.idle_since = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Rollouts in order: those that follow each other at once, since each admission is written
    /// down.
    fn admit_all(&mut self, rollouts: &[u32]) -> Result<(), Failure> {
        let mut runs = rollouts.chunk_by(|one, next| one + 1 == *next);
        runs.try_for_each(|run| self.admit_range(run[0]..run[0] + run.len() as u32))
    }

    fn admit_range(&mut self, range: Range<u32>) -> Result<(), Failure> {
        let admitted = self.parts.rollouts.admit(range);
        admitted.map_err(|error| Failure::internal(error.to_string()))
    }

    /// What ended before a resume is taken as if it had ended now.
    async fn take_past(&mut self) -> Result<(), Failure> {
        for ended in std::mem::take(&mut self.past) {
            self.take(ended).await?;
        }
        Ok(())
    }

    /// Once the steps that were written down have been made again: earlier, older weights would
    /// sample what newer ones have begun.
    fn admit_left_open(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.has_left_open) {
            let open: Vec<u32> =
                self.pacer.not_ended().map(|rollout| rollout + self.first).collect();
            self.admit_all(&open)?;
        }
        Ok(())
    }

    /// Waits for the next rollout to end.
    async fn news(&mut self) -> Result<(), Stopped> {
        let news = News::next(&mut self.parts.rollouts, &mut self.parts.stops).await;
        self.hear(news).await?;
        if self.trained.is_interrupted { Err(Stopped::Interrupted) } else { Ok(()) }
    }

    async fn hear(&mut self, news: News) -> Result<(), Stopped> {
        match news {
            News::Ended(ended) => {
                self.parts.progress.ended(self.parts.rollouts.in_flight());
                self.take(ended).await?;
            }
            News::Stop(Stop::Drain) => {
                self.trained.is_interrupted = true;
                self.parts.rollouts.drain();
            }
            News::Stop(Stop::Kill) => {
                self.trained.is_interrupted = true;
                return Err(Stopped::Killed);
            }
            News::Over if self.trained.is_interrupted => return Err(Stopped::Interrupted),
            News::Over => {
                return Err(Failure::internal("the run of the rollouts has ended").into());
            }
        }
        Ok(())
    }

    async fn take(&mut self, ended: Ended) -> Result<(), Failure> {
        let Ended { rollout, attempt, outcome } = ended;
        let Some(number) = rollout.checked_sub(self.first) else {
            self.rewards.insert(rollout, outcome.reward());
            return Ok(());
        };
        if !self.pacer.is_open(number) {
            return Ok(());
        }
        let end = match outcome.reward() {
            Some(reward) => {
                let samples = self.parts.trajectories.said(rollout, attempt).await?;
                let oldest = samples.oldest();
                End::Graded { reward, samples, oldest }
            }
            None => End::Lost,
        };
        self.pacer.ended(number, end);
        Ok(())
    }

    /// Runs the held-out tasks with the newest policy, and nothing beside them.
    async fn evaluate(&mut self, index: usize) -> Result<(), Stopped> {
        let began = Instant::now();
        self.pacer.hold(true);
        while self.parts.rollouts.in_flight() > 0 {
            self.news().await?;
        }
        let block = self.parts.layout.block(index);
        self.admit_range(block.clone())?;
        while self.rewards.range(block.clone()).count() < block.len() {
            self.news().await?;
        }
        self.pacer.hold(false);
        let rewards: Vec<f64> =
            self.rewards.range(block.clone()).filter_map(|(_, it)| *it).collect();
        let passed = rewards.iter().filter(|it| is_pass(**it)).count();
        let held_out = Share::wilson(passed as u64, rewards.len() as u64);
        let lost = (block.len() - rewards.len()) as u64;
        let evaluated = Evaluated { step: self.trained.steps, held_out, lost };
        self.parts.metrics.write(&evaluated).map_err(io)?;
        self.parts.progress.evaluated(&evaluated);
        self.seconds.evaluate += began.elapsed().as_secs_f64();
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let written = self.parts.checkpoints.write(self.trained.steps, &self.parts.ranks).await?;
        self.trained.checkpoint = Some(written);
        self.seconds.checkpoint += began.elapsed().as_secs_f64();
        Ok(())
    }

    fn tell(
        &mut self,
        step: u64,
        figures: &GroupFigures,
        report: Option<&StepReport>,
        learning_rate: f64,
    ) -> Result<(), Failure> {
        let elapsed = self.step_began.elapsed().as_secs_f64().max(1e-9);
        let mut seconds = std::mem::take(&mut self.seconds);
        seconds.reduce = report.map_or(0.0, |report| report.reduce_sec);
        let told = Stepped {
            samples: report.map_or(0, |report| report.samples as u64),
            learnt: report.map(|report| Learnt::of(report, learning_rate)),
            tokens_per_sec: report
                .map_or(0.0, |report| report.tokens as f64 / seconds.train.max(1e-9)),
            rollouts_per_min: figures.rollouts as f64 * 60.0 / elapsed,
            seconds,
            curriculum: self.parts.curriculum.as_ref().map(Curriculum::pools),
            ..Stepped::of(step, figures, self.pacer.dropped())
        };
        self.parts.metrics.write(&told).map_err(io)?;
        self.parts.progress.stepped(&told);
        Ok(())
    }
}

/// What may be heard while waiting.
enum News {
    Ended(Ended),
    Stop(Stop),
    Over,
}

impl News {
    /// Nothing is lost where this is dropped before.
    async fn next(rollouts: &mut TrainRollouts, stops: &mut Stops) -> Self {
        tokio::select! {
            biased;
            stop = stops.next() => Self::Stop(stop),
            ended = rollouts.ended() => ended.map_or(Self::Over, Self::Ended),
        }
    }
}

/// Training cannot go on; its checkpoints can be resumed.
fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::TrainingStopped, error.to_string())
}
