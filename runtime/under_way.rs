//! A run that is watched: its status is published, nodes that come are gone to, and its end is told
//! to whoever waits for it. Whoever began it decides when it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orcapack_actors::sandbox::Swept;
use orcapack_cluster::mesh::Mesh;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::coordinator::Coordinator;
use crate::exit::{Exit, Failure};
use crate::run::Run;
use crate::status::RunStatus;
use crate::train::delivery::broadcast::Broadcast;
use crate::work::{RunEnd, Tally};

/// Between two looks at the board for the progress display.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at which nodes a cluster has.
const NODES_EVERY: Duration = Duration::from_secs(1);

/// Dropped, it leaves the run as it is: [`Self::stop`] ends it in order.
pub struct UnderWay {
    coordinator: Coordinator,
    weights: Option<Broadcast>,
    mesh: Option<Mesh>,
    status: watch::Receiver<RunStatus>,
    /// One task, which gives the run back when that has ended.
    watching: JoinSet<(Run, RunEnd)>,
    ended: Option<Result<(Run, RunEnd), JoinError>>,
}

/// How it went, beside what the ledger says.
#[derive(Debug)]
pub struct Finished {
    pub end: RunEnd,
    /// What the last sweep still had to remove. Nothing, if all went as it should (AC-6).
    pub swept: Swept,
    pub environments_peak: u64,
}

impl UnderWay {
    /// Watches a run, to whose nodes `weights` brings its policy's. `tally` is the one that it
    /// counts in.
    pub fn new(run: Run, tally: Arc<Tally>, weights: Option<Broadcast>) -> Self {
        let (coordinator, mesh) = (run.coordinator(), run.mesh());
        let (publish, status) = watch::channel(status(&run, &tally));
        let mut watching = JoinSet::new();
        watching.spawn(watch(run, publish, tally));
        Self { coordinator, weights, mesh, status, watching, ended: None }
    }

    /// Its sender is gone when the run has ended.
    pub fn status(&self) -> watch::Receiver<RunStatus> {
        self.status.clone()
    }

    /// The way of weights to the nodes of a cluster, for a run that has any to bring.
    pub fn weights(&self) -> Option<Broadcast> {
        self.weights.clone()
    }

    /// Where the nodes of a cluster are peers.
    pub fn mesh(&self) -> Option<Mesh> {
        self.mesh.clone()
    }

    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Assigns nothing more; what runs may end.
    pub fn drain(&self) {
        self.coordinator.drain();
    }

    /// Ends what runs, now; it counts as interrupted, and can be resumed.
    pub fn kill(&self) {
        self.coordinator.kill();
    }

    /// Resolves when the run has ended: every terminal record is on disk then. Nothing is lost
    /// where this is dropped before.
    pub async fn wait(&mut self) {
        if self.ended.is_none() {
            self.ended = self.watching.join_next().await;
        }
    }

    /// After the end, for which it waits: leaves nothing of the run.
    ///
    /// # Errors
    /// The ledger cannot be written, a newer process coordinates, the sandbox engine is away, or a
    /// part of the node ended.
    pub async fn stop(mut self) -> Result<Finished, Failure> {
        self.wait().await;
        let (run, end) = match self.ended {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => return Err(Failure::internal(error.to_string())),
            None => return Err(Failure::internal("nobody watches the run".to_owned())),
        };
        let environments_peak = run.environments_peak();
        let is_fenced = run.is_fenced();
        let swept = run.stop().await?;
        match end {
            RunEnd::Failed(message) => Err(Failure::internal(message)),
            RunEnd::Drained if is_fenced => Err(Failure::new(
                Exit::Fenced,
                "a newer process coordinates with this identity, and the nodes listen to it; \
                 `--resume` runs what is missing",
            )),
            end => Ok(Finished { end, swept, environments_peak }),
        }
    }
}

async fn watch(
    mut run: Run,
    publish: watch::Sender<RunStatus>,
    tally: Arc<Tally>,
) -> (Run, RunEnd) {
    let coordinator = run.coordinator();
    let end = coordinator.wait_end();
    tokio::pin!(end);
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    let mut look_for_nodes = tokio::time::interval(NODES_EVERY);
    loop {
        tokio::select! {
            biased;
            end = &mut end => return (run, end),
            _ = look_for_nodes.tick() => run.look_for_nodes(),
            _ = ticks.tick() => {
                if run.is_fenced() {
                    run.drain();
                }
                let status = status(&run, &tally);
                publish.send_if_modified(|shown| *shown != status && { *shown = status; true });
            }
        }
    }
}

fn status(run: &Run, tally: &Tally) -> RunStatus {
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed) as usize;
    let mut status = RunStatus {
        total: count(&tally.total),
        done: count(&tally.done),
        passed: count(&tally.passed),
        infra_failures: count(&tally.infra_failures),
        retries: count(&tally.retries),
        ..RunStatus::default()
    };
    run.read(&mut status);
    status
}
