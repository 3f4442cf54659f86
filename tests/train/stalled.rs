//! A trainer that stands still for a minute, under 256 environments.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser as _;
use futures_util::future::BoxFuture;
use orcapack::cli::{Cli, Command};
use orcapack::config_layers::Host;
use orcapack::engine::Site;
use orcapack::memory::resident_bytes;
use orcapack::progress::Mode;
use orcapack::run_dir::{Opening, RunDir, Wanted};
use orcapack::sandboxes;
use orcapack::store_rows;
use orcapack::train::metrics::History;
use orcapack::train::plan::TrainPlan;
use orcapack::train::start::start;
use orcapack_trainer::collective::RankId;
use orcapack_trainer::ranks::home::{Home, Life, Order, Say};
use tokio::sync::watch;

use crate::policy::Learnt;

/// Rollouts that run at once, and rollouts of a batch.
const ENVIRONMENTS: u64 = 256;
const BATCH: u64 = 128;
/// Versions that a sample may lie behind.
const BEHIND: u64 = 1;
const STALL: Duration = Duration::from_secs(60);

/// Passes orders on, but for the one that begins the second step: that waits until the gate is
/// open.
struct Slow {
    home: Arc<dyn Home>,
    gate: watch::Receiver<bool>,
}

struct SlowLife {
    life: Arc<Mutex<Box<dyn Life>>>,
    gate: watch::Receiver<bool>,
    begun: u64,
}

impl Home for Slow {
    fn start(&self, rank: RankId, say: Say) -> BoxFuture<'_, Result<Box<dyn Life>, String>> {
        Box::pin(async move {
            let life = Arc::new(Mutex::new(self.home.start(rank, say).await?));
            let slow: Box<dyn Life> =
                Box::new(SlowLife { life, gate: self.gate.clone(), begun: 0 });
            Ok(slow)
        })
    }

    fn node(&self) -> &str {
        self.home.node()
    }
}

impl Life for SlowLife {
    fn order(&mut self, order: Order) {
        self.begun += u64::from(matches!(order, Order::Begin { .. }));
        if !matches!(order, Order::Begin { .. }) || self.begun != 2 {
            return self.life.lock().unwrap().order(order);
        }
        let (life, mut gate) = (self.life.clone(), self.gate.clone());
        tokio::spawn(async move {
            gate.wait_for(|is_open| *is_open).await.unwrap();
            life.lock().unwrap().order(order);
        });
    }
}

/// What could grow.
#[derive(Debug, PartialEq)]
struct Sizes {
    /// Rollouts that were admitted, and those that have ended.
    admitted: usize,
    ended: usize,
}

fn sizes(ledger: &Path) -> Sizes {
    let (_, results) = store_rows::read(ledger).unwrap_or_default();
    let admitted = store_rows::planned(ledger).map_or(0, |tasks| tasks.len());
    Sizes { admitted, ended: results.len() }
}

fn plan(folder: &Path, host: &Host) -> TrainPlan {
    let more = [
        ("rollouts.n_concurrent", ENVIRONMENTS),
        ("rollouts.n_attempts", 8),
        ("train.groups_per_step", BATCH / 8),
        ("train.max_off_policy_steps", BEHIND),
        ("train.steps", 4),
        ("evaluation.every_steps", 100),
    ];
    let settings = more.iter().flat_map(|(key, value)| ["--set".into(), format!("{key}={value}")]);
    let file = folder.join("run.toml").to_string_lossy().into_owned();
    let line = ["orcapack", "train", "--name", "r", "-c", &file].map(str::to_owned).into_iter();
    let Command::Train(args) = Cli::parse_from(line.chain(settings)).command else {
        unreachable!("it is train")
    };
    TrainPlan::make(&args, host).map_err(|failure| failure.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_while_the_trainer_stands_still_under_256_environments() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "");
    let host = Host { working_dir: folder.to_owned(), ..Host::this() };
    let plan = Arc::new(plan(folder, &host));
    let runs_dir = folder.join("runs");
    let toml = plan.config.to_toml().unwrap();
    let wanted = Wanted { runs_dir: &runs_dir, name: "r", kind: &plan.kind(), config: &toml };
    let dir = RunDir::open(Opening::New, &wanted).unwrap();
    let site = Site::Here(sandboxes::choose(&plan.config.eval.sandbox).await.unwrap());
    let (open, gate) = watch::channel(false);
    let between = |home| Arc::new(Slow { home, gate: gate.clone() }) as Arc<dyn Home>;
    let training = start(&plan, &dir, site, Mode::Silent, &between).await.unwrap();
    let ledger = dir.ledger();
    let loop_ = tokio::spawn(training.run());

    // Evaluations come first in the ledger: one before the steps, one after the last.
    let evaluated = plan.layout.block(0).len();
    // The batch of the first step, that of the second, which is under way, and those that may be
    // sampled meanwhile.
    let bound = evaluated + (BATCH * (1 + BEHIND + 1)) as usize;
    let standing = Sizes { admitted: bound, ended: bound };
    let mut most = 0;
    let until = Instant::now() + Duration::from_secs(100);
    while sizes(&ledger) != standing {
        let now = sizes(&ledger);
        assert!(now.admitted <= bound, "{now:?}");
        assert!(Instant::now() < until && !loop_.is_finished(), "{now:?}");
        most = most.max(now.admitted - now.ended);
        // The ledger tells nobody when it changes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(most as u64 > BATCH, "{most} were under way at once");
    let (memory, files) = (resident_bytes(), files_below(folder));
    // Standing still is what it is about.
    tokio::time::sleep(STALL).await;
    assert_eq!(sizes(&ledger), standing);
    assert_eq!(files_below(folder), files);
    let grown = resident_bytes().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes in {STALL:?}, from {memory}");
    assert!(!loop_.is_finished());

    open.send(true).unwrap();
    let trained = loop_.await.unwrap().map_err(|failure| failure.to_string()).unwrap();
    assert_eq!((trained.steps, trained.is_interrupted), (4, false));
    let history = History::read(&dir.metrics()).unwrap();
    assert!(history.steps.iter().all(|step| step.staleness_max <= BEHIND), "{history:?}");
    assert!(history.steps[1].seconds.train > STALL.as_secs_f64());
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let count = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => files_below(&entry.path()),
        false => 1,
    };
    entries.map(count).sum()
}
