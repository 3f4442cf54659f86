//! One node at work on a run: the root of the supervision tree, and the order in which its parts
//! come up and go down.
//!
//! ```text
//! NodeActor
//! ├─ EnvironmentPool ── Environment (one per live sandbox)
//! ├─ RolloutSupervisor ── Rollout (one per attempt)
//! ├─ Gateway (one per model endpoint)
//! ├─ Recorder
//! └─ Reaper
//! ```
//! The children hold state that no restart could give back, so the end of one ends the node; the
//! ledger and the sweep by labels are what a new start begins from. Who keeps the books is told of
//! every attempt's end: the coordinator in this process, or the run's host on a node of a cluster.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::attempt::{Context, Started};
use orcapack_actors::model::models::Models;
use orcapack_actors::phase::Board;
use orcapack_actors::pool::Pool;
use orcapack_actors::reaper;
use orcapack_actors::rollout_supervisor::Rollouts;
use orcapack_actors::sandbox::{Driver, Limits, SandboxError, SweepScope, Swept};
use orcapack_actors::start_gate::StartGateConfig;
use orcapack_actors::team::stage::TeamContext;
use orcapack_tasks::grading::Scheme;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, DerivedActorRef, SupervisionEvent};
use tokio::sync::Semaphore;

use crate::recorder::{self, Records};
use crate::team_plan::TeamParts;

/// How environments are made and rollouts are run on a node.
pub struct NodeConfig {
    pub gate: StartGateConfig,
    pub think: Duration,
    pub limits: Limits,
    pub start_timeout: Duration,
    /// Verifiers that run at one time.
    pub verify_concurrency: usize,
    pub timeout_multiplier: f64,
    pub agent_timeout: Option<Duration>,
    pub verifier_timeout: Option<Duration>,
    pub scheme: Scheme,
    /// For rollouts that a team solves.
    pub team: Option<TeamParts>,
    /// Labels of everything that this process creates.
    pub run: String,
    pub node: String,
    pub incarnation: u64,
    /// Whether logs and trajectories are wanted.
    pub keep_files: bool,
    /// Who is told of environments that are up, if anyone wants to know.
    pub started: Option<DerivedActorRef<Started>>,
}

pub struct Node {
    driver: Arc<dyn Driver>,
    run: String,
    node: String,
    root: ActorRef<()>,
    pool: Pool,
    pub rollouts: Rollouts,
    pub board: Arc<Board>,
}

/// After the end of a run, environments that are being removed get this long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

impl Node {
    /// Sweeps what earlier incarnations of this node left of the run, then starts everything under
    /// `parent`. The record of every attempt goes to `records`.
    ///
    /// # Errors
    /// Where the sweep fails (the engine is away), or the actor system refuses.
    pub async fn start(
        driver: Arc<dyn Driver>,
        config: NodeConfig,
        records: Records,
        parent: ActorCell,
    ) -> Result<Self, SandboxError> {
        let scope = SweepScope::Node {
            node: config.node.clone(),
            run: Some(config.run.clone()),
            except_incarnation: Some(config.incarnation),
        };
        let swept = driver.sweep(&scope).await?;
        if swept != Swept::default() {
            tracing::info!(?swept, "removed what an earlier start of this run left");
        }
        Self::spawn(driver, config, records, parent).await.map_err(|error| {
            let class = orcapack_tasks::outcome::FailureClass::Internal;
            SandboxError::new(class, format!("the node does not start: {error}"))
        })
    }

    async fn spawn(
        driver: Arc<dyn Driver>,
        config: NodeConfig,
        records: Records,
        parent: ActorCell,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (run, node) = (config.run.clone(), config.node.clone());
        let board = Arc::new(Board::default());
        let (root, _) = Actor::spawn_linked(None, NodeActor, (), parent).await?;
        let pool = Pool::spawn(driver.clone(), config.gate, board.clone(), root.get_cell()).await?;
        reaper::spawn(driver.clone(), root.get_cell()).await?;
        let team = match config.team {
            None => None,
            Some(TeamParts { settings, endpoints, roles }) => {
                let models = Models::spawn(endpoints, &roles, &board, &root.get_cell()).await?;
                Some(Arc::new(TeamContext { settings: Arc::new(settings), models }))
            }
        };
        let context = Arc::new(Context {
            pool: pool.clone(),
            board: board.clone(),
            verifiers: Semaphore::new(config.verify_concurrency),
            think: config.think,
            limits: config.limits,
            start_timeout: config.start_timeout,
            timeout_multiplier: config.timeout_multiplier,
            agent_timeout: config.agent_timeout,
            verifier_timeout: config.verifier_timeout,
            scheme: config.scheme,
            team,
            started: config.started,
            run: config.run,
            node: config.node,
            incarnation: config.incarnation,
        });
        let keep_files = config.keep_files;
        let recorder = recorder::Config { run: run.clone(), keep_files, records };
        let reports = recorder::spawn(recorder, root.get_cell()).await?;
        let rollouts = Rollouts::spawn(context, reports, root.get_cell()).await?;
        Ok(Self { driver, run, node, root, pool, rollouts, board })
    }

    /// The root of its actors.
    pub fn cell(&self) -> ActorCell {
        self.root.get_cell()
    }

    /// Takes the node down and leaves nothing of its run in the engine (AC-6): what the sweep still
    /// had to remove is its answer, and is nothing when every actor did its duty.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn stop(self) -> Result<Swept, SandboxError> {
        if !self.pool.wait_idle(IDLE_LIMIT).await {
            tracing::warn!("environments are still alive {IDLE_LIMIT:?} after the run's end");
        }
        if let Err(error) = self.root.stop_and_wait(None, Some(IDLE_LIMIT)).await {
            tracing::warn!(%error, "the node's actors did not stop");
        }
        let (node, run) = (self.node, Some(self.run));
        self.driver.sweep(&SweepScope::Node { node, run, except_incarnation: None }).await
    }
}

/// Supervises the node's parts. Has no messages of its own.
struct NodeActor;

impl Actor for NodeActor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let reason = match event {
            SupervisionEvent::ActorFailed(_, error) => error.to_string(),
            SupervisionEvent::ActorTerminated(_, _, reason) => reason.unwrap_or_default(),
            _ => return Ok(()),
        };
        tracing::error!(reason, "a part of the node has ended: the node ends");
        myself.stop(Some(reason));
        Ok(())
    }
}
