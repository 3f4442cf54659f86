//! `orcapack sft`: a policy learns what orchestrators said in rollouts that passed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orcapack_trainer::checkpoint::{self, Checkpoint, CheckpointError};
use orcapack_trainer::sft::{Sft, SftError};
use serde::{Deserialize, Serialize};

use crate::cli_sft::SftArgs;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::metrics_file::MetricsFile;
use crate::progress::Mode;
use crate::run_dir::{CHECKPOINTS, Opening, RunDir, Wanted};
use crate::sft_metrics::{Evaluated, Trained};
use crate::sft_plan::SftPlan;
use crate::sft_progress::SftProgress;
use crate::signals::Signals;
use crate::{output, telemetry};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    steps: u64,
    /// Mean of the first and of the last ten steps that this process made.
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    held_out_loss: Option<f64>,
    elapsed_sec: f64,
    tokens_per_sec: f64,
    /// The newest.
    checkpoint: Option<PathBuf>,
}

/// What a checkpoint holds of the run, beside weights and optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    steps: u64,
}

/// Reads and checks everything, then trains; nothing is created before all of the input is known to
/// be good.
///
/// # Errors
/// See [`Exit`].
pub fn run(args: &SftArgs, host: &Host) -> Result<Exit, Failure> {
    let plan = SftPlan::make(args, host)?;
    if args.run.dry_run {
        return plan.print(args.output.json);
    }
    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(plan.config.train.learning.threads).build();
    let threads = threads.map_err(|error| Failure::internal(format!("threads: {error}")))?;
    let kind = plan.kind();
    let toml = plan.config.to_toml().map_err(|error| Failure::internal(error.to_string()))?;
    let (runs_dir, name) = (&plan.config.run.runs_dir, &plan.config.run.name);
    let wanted = Wanted { runs_dir, name, kind: &kind, config: &toml };
    let dir = RunDir::open(Opening::of(args.run.resume, args.run.clean), &wanted)?;
    telemetry::start_logs(Some(&dir.logs()), args.output.verbose).map_err(internal)?;
    let mode = telemetry::progress_mode(args.output.quiet || args.output.json, args.output.verbose);
    if mode != Mode::Silent {
        eprint!("{}", plan.about());
    }
    let interrupted = interruption()?;
    let outcome = threads.install(|| Training::start(&plan, &dir, mode)?.train(&interrupted))?;
    let is_cut = interrupted.load(Ordering::Relaxed) && outcome.steps < plan.found.steps;
    present(args, name, &outcome, is_cut)
}

/// Becomes true at the first signal; the second ends the program.
fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(internal)?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            flag.store(true, Ordering::Relaxed);
            signals.next().await;
            std::process::exit(Exit::Interrupted.code().into());
        });
    });
    Ok(interrupted)
}

/// A run under way.
struct Training<'p> {
    plan: &'p SftPlan,
    sft: Sft,
    folder: PathBuf,
    metrics: MetricsFile,
    progress: SftProgress,
    began: Instant,
    tokens: usize,
    losses: Vec<f64>,
    /// The newest, and its step.
    checkpoint: Option<(u64, PathBuf)>,
    held_out: Option<(u64, f64)>,
}

impl<'p> Training<'p> {
    /// From the newest whole checkpoint, where the run has one.
    fn start(plan: &'p SftPlan, dir: &RunDir, mode: Mode) -> Result<Self, Failure> {
        let folder = dir.folder(CHECKPOINTS)?;
        let newest = checkpoint::newest::<State>(&folder)?;
        for defect in &newest.damaged {
            eprintln!("warning: a checkpoint is damaged, and left out: {defect}");
        }
        let sft = match &newest.checkpoint {
            Some(Checkpoint { dir, state, .. }) => plan.resumed(dir, state.steps)?,
            None => plan.fresh()?,
        };
        let steps = sft.steps();
        let progress = SftProgress::start(mode, plan.found.steps, steps);
        if steps > 0 {
            progress.tell(&format!("goes on behind step {steps}"));
        }
        Ok(Self {
            plan,
            sft,
            folder,
            metrics: MetricsFile::open(&dir.metrics(), steps).map_err(internal)?,
            progress,
            began: Instant::now(),
            tokens: 0,
            losses: Vec::new(),
            checkpoint: newest.checkpoint.map(|it| (it.step, it.dir)),
            held_out: None,
        })
    }

    /// To the end, or to the end of the step in which `interrupted` came.
    fn train(mut self, interrupted: &AtomicBool) -> Result<Outcome, Failure> {
        let config = &self.plan.config;
        let due = |step: u64, every: usize| step.is_multiple_of(every as u64);
        if self.sft.steps() == 0 {
            self.evaluate()?;
        }
        while self.sft.steps() < self.plan.found.steps && !interrupted.load(Ordering::Relaxed) {
            self.step()?;
            let steps = self.sft.steps();
            if due(steps, config.evaluation.every_steps) {
                self.evaluate()?;
            }
            if due(steps, config.checkpoints.every_steps) {
                self.save()?;
            }
        }
        self.save()?;
        self.evaluate()?;
        let elapsed = self.began.elapsed();
        Ok(Outcome {
            steps: self.sft.steps(),
            first_loss: mean(self.losses.iter().take(TOLD)),
            last_loss: mean(self.losses.iter().rev().take(TOLD)),
            held_out_loss: self.held_out.map(|(_, loss)| loss),
            elapsed_sec: elapsed.as_secs_f64(),
            tokens_per_sec: per_sec(self.tokens, elapsed),
            checkpoint: self.checkpoint.take().map(|(_, dir)| dir),
        })
    }

    fn step(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let step = self.sft.step()?;
        self.tokens += step.tokens;
        self.losses.push(step.loss);
        let trained = Trained {
            step: step.step,
            epoch: self.sft.epoch(),
            loss: step.loss,
            entropy: step.entropy,
            grad_norm: step.grad_norm,
            learning_rate: step.learning_rate,
            samples: self.plan.config.train.batch_samples,
            tokens: step.tokens,
            trained_tokens: step.trained_tokens,
            tokens_per_sec: per_sec(step.tokens, began.elapsed()),
        };
        self.metrics.write(&trained).map_err(internal)?;
        self.progress.trained(&trained);
        Ok(())
    }

    /// Looks at the held-out samples, unless that was done at this step.
    fn evaluate(&mut self) -> Result<(), Failure> {
        let step = self.sft.steps();
        if self.held_out.is_some_and(|(at, _)| at == step) {
            return Ok(());
        }
        if let Some(held_out_loss) = self.sft.evaluate(&self.plan.held_out)? {
            let evaluated = Evaluated { step, held_out_loss };
            self.metrics.write(&evaluated).map_err(internal)?;
            self.progress.evaluated(&evaluated);
            self.held_out = Some((step, held_out_loss));
        }
        Ok(())
    }

    /// Writes a checkpoint, unless there is one of this step.
    fn save(&mut self) -> Result<(), Failure> {
        let step = self.sft.steps();
        if self.checkpoint.as_ref().is_some_and(|(at, _)| *at == step) {
            return Ok(());
        }
        let fill = |dir: &std::path::Path| self.sft.save(&self.plan.policy, dir);
        let dir = checkpoint::write(&self.folder, step, &State { steps: step }, fill)?;
        checkpoint::prune(&self.folder, self.plan.config.checkpoints.keep)?;
        self.checkpoint = Some((step, dir));
        Ok(())
    }
}

/// Steps whose mean loss is told.
const TOLD: usize = 10;

fn mean<'l>(losses: impl ExactSizeIterator<Item = &'l f64>) -> Option<f64> {
    let count = losses.len();
    (count > 0).then(|| losses.sum::<f64>() / count as f64)
}

fn per_sec(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

fn present(
    args: &SftArgs,
    name: &str,
    outcome: &Outcome,
    is_interrupted: bool,
) -> Result<Exit, Failure> {
    if args.output.json {
        output::print_json(outcome)?;
    } else {
        output::print(&text(outcome))?;
    }
    if is_interrupted {
        eprintln!("interrupted: `--name {name} --resume` goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Done)
}

fn text(outcome: &Outcome) -> String {
    let Outcome { steps, elapsed_sec, tokens_per_sec, .. } = outcome;
    let mut text = format!(
        "{} in {}, {tokens_per_sec:.0} tokens/s\n",
        output::plural(*steps as usize, "step"),
        output::duration(Duration::from_secs_f64(*elapsed_sec)),
    );
    if let (Some(first), Some(last)) = (outcome.first_loss, outcome.last_loss) {
        text += &format!("loss {first:.4} -> {last:.4}");
        if let Some(loss) = outcome.held_out_loss {
            text += &format!(", held out {loss:.4}");
        }
        text.push('\n');
    }
    if let Some(checkpoint) = &outcome.checkpoint {
        text += &format!("checkpoint: {}\n", checkpoint.display());
    }
    text
}

fn internal(error: io::Error) -> Failure {
    Failure::internal(error.to_string())
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<SftError> for Failure {
    fn from(error: SftError) -> Self {
        Self::internal(error.to_string())
    }
}
