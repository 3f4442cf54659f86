//! A rank in this process: a thread, with a pool of its own, that computes and obeys.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use candle_core::Tensor;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use crate::collective::{Abort, Collective, Collectives, Place, RankId};
use crate::learner::{Learner, LearnerState};
use crate::model::parameters::Parameters;
use crate::model::step::StepError;
use crate::policy::Policy;
use crate::policy_step::{RlSettings, StepBatch};
use crate::ranks::group_events::Cause;
use crate::ranks::home::{Home, Life, Order, Reply, Said, Say};
use crate::ranks::pin::{Before, pin};
use crate::ranks::reducer::Reducer;
use crate::ranks::replica::{PrepareError, Replica};

/// Makes what a rank teaches: from the policy that the run began with, or from a checkpoint.
pub type MakeLearner = Arc<dyn Fn() -> Result<Learner, String> + Send + Sync>;

/// A home of ranks in this process.
#[derive(Clone)]
pub struct Local {
    /// Asked for on the rank's thread, for each of its lives.
    pub make: MakeLearner,
    /// What is saved beside the weights.
    pub policy: Arc<Policy>,
    pub settings: RlSettings,
    pub collectives: Arc<dyn Collectives>,
    /// Of one rank; at least 1.
    pub threads: usize,
    /// Whether the threads of a rank stay on cores of their own. Sums run beside them.
    pub pins: bool,
    /// The node's name; empty for the leader's process.
    pub node: String,
}

impl Home for Local {
    fn start(&self, rank: RankId, say: Say) -> BoxFuture<'_, Result<Box<dyn Life>, String>> {
        Box::pin(async move {
            let (orders, obeyed) = channel();
            let stopped = Arc::new(AtomicU64::new(0));
            let worker =
                Worker { local: self.clone(), rank, say: say.clone(), stopped: stopped.clone() };
            let thread = thread::Builder::new().name(format!("rank-{}", rank.0));
            thread.spawn(move || worker.live(obeyed)).map_err(|error| error.to_string())?;
            let collectives = self.collectives.clone();
            let life: Box<dyn Life> = Box::new(LocalLife {
                orders,
                say,
                collectives,
                ring: Arc::new(Mutex::new(None)),
                stopped,
                forming: None,
            });
            Ok(life)
        })
    }

    fn node(&self) -> &str {
        &self.node
    }
}

struct LocalLife {
    orders: Sender<Task>,
    say: Say,
    collectives: Arc<dyn Collectives>,
    /// What ends the collective of the epoch.
    ring: Arc<Mutex<Option<Abort>>>,
    /// The last epoch that is not wanted any more.
    stopped: Arc<AtomicU64>,
    forming: Option<JoinHandle<()>>,
}

/// What the thread has to do.
enum Task {
    Join(u64, Box<dyn Collective>),
    Begin(u64, Arc<StepBatch>),
    Commit(u64),
    Leave(u64),
    Load(Arc<LearnerState>),
    State(Reply<LearnerState>),
    Weights(Reply<(u64, Parameters)>),
    Save(PathBuf, Option<Arc<HashMap<String, Tensor>>>, Reply<()>),
}

impl LocalLife {
    fn form(&mut self, place: Place) {
        let (collectives, ring) = (self.collectives.clone(), self.ring.clone());
        let (orders, say, stopped) = (self.orders.clone(), self.say.clone(), self.stopped.clone());
        self.forming = Some(tokio::spawn(async move {
            let epoch = place.epoch;
            match collectives.form(&place).await {
                Ok((collective, abort)) => {
                    let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
                    if stopped.load(Ordering::SeqCst) >= epoch {
                        return abort.abort("the ring is not wanted any more");
                    }
                    *ring = Some(abort);
                    // Of a thread that has ended, the leader knows.
                    let _ = orders.send(Task::Join(epoch, collective));
                }
                Err(error) => say(Said::Aborted { epoch, cause: Cause::Collective(error) }),
            }
        }));
    }

    /// Nothing of the epoch, or of those before it, is wanted any more.
    fn stop(&mut self, epoch: u64, reason: &str) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.fetch_max(epoch, Ordering::SeqCst);
        if let Some(forming) = self.forming.take() {
            forming.abort();
        }
        if let Some(abort) = ring.take() {
            abort.abort(reason);
        }
    }
}

impl Life for LocalLife {
    fn order(&mut self, order: Order) {
        let task = match order {
            Order::Form(place) => return self.form(place),
            Order::Abort { epoch, reason } => {
                self.stop(epoch, &reason);
                Task::Leave(epoch)
            }
            Order::Begin { epoch, batch } => Task::Begin(epoch, batch),
            Order::Commit { epoch } => Task::Commit(epoch),
            Order::Load(state) => Task::Load(state),
            Order::State(reply) => Task::State(reply),
            Order::Weights(reply) => Task::Weights(reply),
            Order::Save { dir, optimizer, reply } => Task::Save(dir, optimizer, reply),
        };
        // Of a thread that has ended, the leader knows.
        let _ = self.orders.send(task);
    }
}

impl Drop for LocalLife {
    fn drop(&mut self) {
        self.stop(u64::MAX, "the rank's life is over");
    }
}

struct Worker {
    local: Local,
    rank: RankId,
    say: Say,
    stopped: Arc<AtomicU64>,
}

impl Worker {
    /// The thread. What it says last is why it has ended.
    fn live(self, tasks: Receiver<Task>) {
        let lived = catch_unwind(AssertUnwindSafe(|| self.work(tasks)));
        let why = match lived {
            Ok(Ok(())) => "it was told to end".to_owned(),
            Ok(Err(why)) => why,
            Err(panic) => format!("it has panicked: {}", text_of(panic.as_ref())),
        };
        (self.say)(Said::Down(why));
    }

    fn work(&self, tasks: Receiver<Task>) -> Result<(), String> {
        let threads = self.local.threads.max(1);
        let pinned = self.local.pins.then(|| pin(self.rank.0 as usize, threads)).transpose();
        let before = pinned.map_err(|error| format!("its cores: {error}"))?;
        let rank = self.rank.0;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("rank-{rank}-{index}"))
            .build()
            .map_err(|error| format!("no threads: {error}"))?;
        pool.install(move || {
            let learner = (self.local.make)()?;
            let replica = Replica::new(learner, self.local.settings.clone());
            let mut obeying = Obeying { worker: self, before, replica, ring: None };
            let digest = obeying.replica.digest().map_err(|error| error.to_string())?;
            (self.say)(Said::Came { steps: obeying.replica.steps(), digest });
            tasks.into_iter().try_for_each(|task| obeying.obey(task))
        })
    }

    fn is_stopped(&self, epoch: u64) -> bool {
        self.stopped.load(Ordering::SeqCst) >= epoch
    }
}

struct Obeying<'w> {
    worker: &'w Worker,
    /// The cores of the process, where this thread is pinned.
    before: Option<Before>,
    replica: Replica,
    ring: Option<(u64, Reducer)>,
}

impl Obeying<'_> {
    /// # Errors
    /// This life cannot go on.
    fn obey(&mut self, task: Task) -> Result<(), String> {
        let say = &self.worker.say;
        match task {
            Task::Join(epoch, collective) => {
                let reducer = Reducer::start(collective, self.before);
                let reducer = reducer.map_err(|error| format!("no thread: {error}"))?;
                self.ring = Some((epoch, reducer));
                say(Said::Formed { epoch });
            }
            Task::Begin(epoch, batch) => self.begin(epoch, &batch),
            Task::Commit(epoch) => {
                let digest = self.replica.commit().map_err(|error| error.to_string())?;
                say(Said::Applied { epoch, digest });
            }
            Task::Leave(epoch) => {
                self.replica.discard();
                self.ring = self.ring.take().filter(|(other, _)| *other > epoch);
                say(Said::Aborted { epoch, cause: Cause::Told });
            }
            Task::Load(state) => {
                self.replica.load(&state).map_err(|error| error.to_string())?;
                let digest = self.replica.digest().map_err(|error| error.to_string())?;
                say(Said::CaughtUp { steps: self.replica.steps(), digest });
            }
            // Who has asked may have stopped waiting.
            Task::State(reply) => {
                let _ = reply.send(self.replica.state().map_err(|error| error.to_string()));
            }
            Task::Weights(reply) => {
                let weights = self.replica.effective().map_err(|error| error.to_string());
                let _ = reply.send(weights.map(|weights| (self.replica.steps(), weights)));
            }
            Task::Save(dir, optimizer, reply) => {
                let saved =
                    self.replica.save(&self.worker.local.policy, &dir, optimizer.as_deref());
                let _ = reply.send(saved.map_err(|error| error.to_string()));
            }
        }
        Ok(())
    }

    fn begin(&mut self, epoch: u64, batch: &StepBatch) {
        let (worker, say) = (self.worker, &self.worker.say);
        // Of an epoch that was left meanwhile, nobody waits for anything.
        let Some((_, reducer)) = self.ring.as_ref().filter(|(other, _)| *other == epoch) else {
            return;
        };
        let is_stopped = || worker.is_stopped(epoch);
        let prepared = self.replica.prepare(batch, reducer, &is_stopped, &mut || {
            say(Said::Computed { epoch });
        });
        let cause = match prepared {
            Ok(prepared) => return say(Said::Ready { epoch, prepared }),
            Err(PrepareError::Step(StepError::Stopped)) => Cause::Told,
            Err(PrepareError::Step(error)) => Cause::Step(error.to_string()),
            Err(PrepareError::Collective(error)) => Cause::Collective(error),
        };
        say(Said::Aborted { epoch, cause });
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}
