//! Rollouts over fake sandboxes, with a model that thinks for ever.

use std::time::Duration;

use futures_util::future::{BoxFuture, pending, ready};
use orcapack_tasks::FileTree;
use orcapack_tasks::grading::Scheme;
use orcapack_tasks::task::{
    AgentSpec, EnvironmentSpec, Format, Grading, ImageSource, NetworkPolicy, RewardStrategy, Step,
    Task, VerifierMode, VerifierSpec,
};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::agent::Solver;
use crate::census::{self, ActorKind};
use crate::fake::FakeDriver;
use crate::model::endpoint::tests::settings;
use crate::model::models::{EndpointNames, Models};
use crate::model::settings::EndpointKind;
use crate::model::{Answer, Model, ModelError, Request};
use crate::phase::Board;
use crate::pool::Pool;
use crate::sandbox::{Driver, Limits};
use crate::start_gate::StartGateConfig;
use crate::team::record::Event;
use crate::team::sample;
use crate::team::settings::TeamSettings;
use crate::team::stage::TeamContext;

const LONG: Duration = Duration::from_secs(3600);

/// Is done with all steps of a task but the last one, of two, over which it thinks for ever; tells
/// of each such call.
struct Thinking(mpsc::UnboundedSender<()>, bool);

impl Model for Thinking {
    fn name(&self) -> &str {
        "thinking"
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        if self.1 && request.key.step == 0 {
            let text =
                "<add_context>\nid: a\ncontent: b\n</add_context>\n<finish>\ndone\n</finish>";
            return Box::pin(ready(Ok(sample::answer(text))));
        }
        let _ = self.0.send(());
        Box::pin(pending())
    }
}

/// Passes reports on.
struct Collector;

struct Collected(Box<AttemptReport>);

impl From<Box<AttemptReport>> for Collected {
    fn from(report: Box<AttemptReport>) -> Self {
        Self(report)
    }
}

impl TryFrom<Collected> for Box<AttemptReport> {
    type Error = ();

    fn try_from(collected: Collected) -> Result<Self, ()> {
        Ok(collected.0)
    }
}

impl Actor for Collector {
    type Msg = Collected;
    type State = mpsc::UnboundedSender<Box<AttemptReport>>;
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _myself: ActorRef<Collected>,
        reports: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(reports)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Collected>,
        Collected(report): Collected,
        reports: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        reports.send(report)?;
        Ok(())
    }
}

struct World {
    driver: FakeDriver,
    root: ActorRef<Collected>,
    rollouts: Rollouts,
    reports: mpsc::UnboundedReceiver<Box<AttemptReport>>,
    calls: mpsc::UnboundedReceiver<()>,
    steps: usize,
}

impl World {
    async fn new(steps: usize) -> Self {
        let (send_report, reports) = mpsc::unbounded_channel();
        let (send_call, calls) = mpsc::unbounded_channel();
        let (root, _) = Actor::spawn(None, Collector, send_report).await.unwrap();
        let (driver, board) = (FakeDriver::default(), Arc::new(Board::default()));
        let gate = StartGateConfig {
            concurrency: 1,
            rate_per_sec: None,
            breaker_failures: 3,
            breaker_cooldown: LONG,
        };
        let of_pool: Arc<dyn Driver> = Arc::new(driver.clone());
        let pool = Pool::spawn(of_pool, gate, board.clone(), root.get_cell()).await.unwrap();
        let model: Arc<dyn Model> = Arc::new(Thinking(send_call, steps > 1));
        let names = EndpointNames::same("thinking");
        let endpoints = vec![(settings("thinking", EndpointKind::OpenAi), model)];
        let models = Models::spawn(endpoints, &names, &board, &root.get_cell()).await.unwrap();
        let bounds = Arc::new(TeamSettings::default());
        let context = Context {
            pool,
            board,
            verifiers: Semaphore::new(1),
            think: Duration::ZERO,
            limits: Limits { cpus: 1.0, memory_bytes: 1, pids: 1, storage_bytes: 1 },
            start_timeout: LONG,
            timeout_multiplier: 1.0,
            agent_timeout: None,
            verifier_timeout: None,
            scheme: Scheme::Binary,
            team: Some(Arc::new(TeamContext { settings: bounds, models })),
            started: None,
            run: "run".to_owned(),
            node: "node".to_owned(),
            incarnation: 1,
        };
        let cell = root.get_cell();
        let rollouts = Rollouts::spawn(Arc::new(context), root.get_derived(), cell).await.unwrap();
        Self { driver, root, rollouts, reports, calls, steps }
    }

    fn start(&self) {
        let mut task = task();
        task.steps = vec![task.steps[0].clone(); self.steps];
        let (task, agent) = (Arc::new(task), Solver::Team);
        self.rollouts.start(Assignment { rollout: 0, attempt: 1, fence: 1, task, agent });
    }
}

fn task() -> Task {
    let mut dockerfile = FileTree::default();
    dockerfile.insert("Dockerfile", b"FROM any\n", false);
    let verifier = VerifierSpec {
        timeout: LONG,
        user: None,
        env: Default::default(),
        mode: VerifierMode::Shared,
        tests: FileTree::default(),
        script: "/tests/test.sh".into(),
        grading: Grading::RewardFile,
        collect: Vec::new(),
    };
    let step = Step {
        name: String::new(),
        instruction: "Do it.".to_owned(),
        agent: AgentSpec { timeout: LONG, user: None },
        verifier,
        solution: None,
        workdir_files: FileTree::default(),
        healthcheck: None,
        min_reward: None,
        artifacts: Vec::new(),
    };
    Task {
        name: "task".into(),
        source: "task".into(),
        format: Format::Harbor,
        digest: dockerfile.digest(),
        description: String::new(),
        difficulty: None,
        category: None,
        tags: Vec::new(),
        environment: EnvironmentSpec {
            image: ImageSource::Dockerfile(dockerfile),
            build_timeout: LONG,
            cpus: None,
            memory_mb: None,
            storage_mb: None,
            env: Default::default(),
            workdir: None,
            network: NetworkPolicy::None,
            healthcheck: None,
        },
        steps: vec![step],
        reward_strategy: RewardStrategy::Mean,
        known_bad: Vec::new(),
        keep_processes: false,
    }
}

fn lost(report: &AttemptReport) -> FailureClass {
    match &report.outcome {
        Outcome::InfrastructureFailure { class, .. } => *class,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_team_that_only_thinks_notices_the_loss_of_its_environment_and_keeps_its_record() {
    let mut world = World::new(1).await;
    world.start();
    world.calls.recv().await.unwrap();
    world.driver.kill(1);
    let report = world.reports.recv().await.unwrap();
    assert_eq!(lost(&report), FailureClass::ExecTransport);
    let record = &report.unfinished.expect("what was done is kept").run.record;
    assert!(matches!(record[0].event, Event::Began(_)), "{record:?}");
    assert!(matches!(record[1].event, Event::Asked { .. }), "{record:?}");
    world.root.stop(None);
}

#[tokio::test]
async fn with_a_rollout_its_whole_team_is_killed_and_its_environment_removed() {
    let mut world = World::new(1).await;
    world.start();
    world.calls.recv().await.unwrap();
    let alive = census::below(&world.root.get_cell());
    assert!(alive.iter().any(|(kind, _)| *kind == ActorKind::Orchestrator));
    world.rollouts.kill(1);
    assert_eq!(lost(&world.reports.recv().await.unwrap()), FailureClass::NodeLost);
    while world.driver.live() > 0 || !census::below(&world.root.get_cell()).is_empty() {
        // Neither wakes anybody: polled.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.root.stop(None);
}

#[tokio::test]
async fn the_team_of_one_step_has_gone_when_the_next_one_works() {
    let mut world = World::new(2).await;
    world.start();
    world.calls.recv().await.unwrap();
    let expected = [ActorKind::Rollout, ActorKind::Orchestrator, ActorKind::Environment];
    let gone = async {
        loop {
            let alive = census::below(&world.root.get_cell());
            let mut alive: Vec<_> = alive.into_iter().map(|(kind, _)| kind).collect();
            alive.sort();
            if alive == expected {
                break;
            }
            // The ends of actors that were told to end wake nobody: polled.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("somebody stays");
    world.root.stop(None);
}
