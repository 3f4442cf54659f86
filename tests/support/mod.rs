//! Small drivers for whole-system scenarios and benchmarks over fake sandboxes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orcapack::config::RetryLimits;
use orcapack::fleet::Fleet;
use orcapack::ledger::{self, Ledger};
use orcapack::node::NodeConfig;
use orcapack::record::Folders;
use orcapack::run::Run;
use orcapack::store::{PlannedRollout, Store, Writing};
use orcapack::store_rows::AttemptRow;
use orcapack::team_plan::TeamParts;
use orcapack::work::{Rollout, RunEnd, Tally, Work};
use orcapack_actors::agent::Solver;
use orcapack_actors::fake::FakeDriver;
use orcapack_actors::model::Model;
use orcapack_actors::model::models::EndpointNames;
use orcapack_actors::model::settings::{EndpointKind, EndpointSettings};
use orcapack_actors::sandbox::{Driver, Limits, Swept};
use orcapack_actors::start_gate::StartGateConfig;
use orcapack_actors::team::role::Role;
use orcapack_actors::team::settings::TeamSettings;
use orcapack_cluster::lease::Epoch;
use orcapack_tasks::FileTree;
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::grading::Scheme;
use orcapack_tasks::task::{
    AgentSpec, EnvironmentSpec, Format, Grading, ImageSource, NetworkPolicy, RewardStrategy,
    Solution, Step, Task, VerifierMode, VerifierSpec,
};

/// A plain task that the fake sandbox can solve.
pub fn task(name: &str) -> Task {
    let file = |path: &str, text: &str| {
        let mut files = FileTree::default();
        files.insert(path, text.as_bytes(), true);
        files
    };
    let dockerfile = file("Dockerfile", "FROM fake\n");
    let step = Step {
        name: String::new(),
        instruction: "Solve it.".into(),
        agent: AgentSpec { timeout: Duration::from_secs(60), user: None },
        verifier: VerifierSpec {
            timeout: Duration::from_secs(60),
            user: None,
            env: Default::default(),
            mode: VerifierMode::Shared,
            tests: file("test.sh", "true\n"),
            script: "/tests/test.sh".into(),
            grading: Grading::RewardFile,
            collect: Vec::new(),
        },
        solution: Some(Solution { files: file("solve.sh", "right\n"), env: Default::default() }),
        workdir_files: FileTree::default(),
        healthcheck: None,
        min_reward: None,
        artifacts: Vec::new(),
    };
    Task {
        name: name.into(),
        source: name.into(),
        format: Format::Harbor,
        digest: dockerfile.digest(),
        description: String::new(),
        difficulty: None,
        category: None,
        tags: Vec::new(),
        environment: EnvironmentSpec {
            image: ImageSource::Dockerfile(dockerfile),
            build_timeout: Duration::from_secs(60),
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
        known_bad: vec![("wrong".into(), file("solve.sh", "wrong\n"))],
        keep_processes: false,
    }
}

/// A run over fake sandboxes, with a real ledger in `dir`.
pub struct Scenario<'a> {
    pub dir: &'a Path,
    pub tasks: Vec<Arc<Task>>,
    pub samples: u32,
    pub slots: usize,
    pub agent: Solver,
    pub retries: u32,
    /// Starts that the engine is given at one time.
    pub starts: usize,
    /// Of orchestrator, explorer and coder, for a team.
    pub models: Option<[Arc<dyn Model>; 3]>,
    /// As which the orchestrator's model is configured.
    pub orchestrator: EndpointKind,
    /// On everything that it makes.
    pub label: String,
    /// Where trajectories and logs are kept, if they are.
    pub records: Option<&'a Path>,
}

/// What a run left in its ledger, and what the last sweep still had to remove.
pub struct Ended {
    pub end: RunEnd,
    pub attempts: Vec<AttemptRow>,
    pub results: Vec<ledger::Ended>,
    pub swept: Swept,
}

impl<'a> Scenario<'a> {
    pub fn new(dir: &'a Path, tasks: usize, samples: u32, slots: usize) -> Self {
        let tasks = (0..tasks).map(|n| Arc::new(task(&format!("task-{n}")))).collect();
        Self {
            dir,
            tasks,
            samples,
            slots,
            agent: Solver::Trial(TrialKind::Oracle),
            retries: 3,
            starts: 16,
            models: None,
            orchestrator: EndpointKind::OpenAi,
            label: "test".into(),
            records: None,
        }
    }

    pub async fn start(&self, driver: &FakeDriver) -> Run {
        self.start_on(Arc::new(driver.clone())).await
    }

    pub async fn start_on(&self, driver: Arc<dyn Driver>) -> Run {
        let (mut rollouts, mut planned) = (Vec::new(), Vec::new());
        for _ in 0..self.samples {
            for (group, task) in (0..).zip(&self.tasks) {
                rollouts.push(Rollout { task: task.clone(), agent: self.agent.clone() });
                planned.push(PlannedRollout {
                    task: task.name.clone(),
                    task_digest: task.digest.to_string(),
                    group,
                    agent: self.agent.to_string(),
                });
            }
        }
        let opened = Store::open(&self.db(), &planned, Writing::Thread).expect("the ledger opens");
        let limits = RetryLimits::same(self.retries);
        let mut ledger = Ledger::new(planned.iter().map(|p| p.group).collect(), limits);
        let orphans = ledger.resume(&opened.past);
        let work = Work {
            rollouts,
            concurrent_max: self.slots,
            store: opened.store,
            ledger,
            fleet: Fleet::local(Epoch(opened.incarnation)),
            orphans,
            folders: self.records.map(folders),
            tally: Arc::new(Tally::default()),
            ended: None,
        };
        let config = NodeConfig {
            gate: StartGateConfig {
                concurrency: self.starts,
                rate_per_sec: None,
                breaker_failures: 3,
                breaker_cooldown: Duration::from_millis(10),
            },
            think: Duration::ZERO,
            limits: Limits { cpus: 1.0, memory_bytes: 1 << 30, pids: 512, storage_bytes: 2 << 30 },
            start_timeout: Duration::from_secs(120),
            verify_concurrency: self.slots,
            timeout_multiplier: 1.0,
            agent_timeout: None,
            verifier_timeout: None,
            scheme: Scheme::Binary,
            team: self.models.clone().map(|models| team(models, self.orchestrator)),
            run: self.label.clone(),
            node: "local".into(),
            incarnation: opened.incarnation,
            keep_files: self.records.is_some(),
            started: None,
        };
        Run::start(driver, config, work).await.expect("the node starts")
    }

    pub async fn finish(&self, node: Run) -> Ended {
        let end = node.wait_end().await;
        let swept = node.stop().await.expect("the engine answers");
        self.ended(end, swept)
    }

    /// Reads the ledger of a run that has ended.
    pub fn ended(&self, end: RunEnd, swept: Swept) -> Ended {
        let (attempts, results) = orcapack::store_rows::read(&self.db()).expect("the ledger reads");
        Ended { end, attempts, results, swept }
    }

    pub async fn to_end(&self, driver: &FakeDriver) -> Ended {
        let node = self.start(driver).await;
        self.finish(node).await
    }

    fn db(&self) -> std::path::PathBuf {
        self.dir.join("run.db")
    }
}

/// Whose agents may die as often as a scenario wants them to.
fn team(models: [Arc<dyn Model>; 3], orchestrator: EndpointKind) -> TeamParts {
    let settings = |role: Role| EndpointSettings {
        name: role.as_str().into(),
        kind: if role == Role::Orchestrator { orchestrator } else { EndpointKind::OpenAi },
        model: String::new(),
        url: String::new(),
        api_key: None,
        sampling: Default::default(),
        extra: Default::default(),
        try_timeout: Duration::from_secs(60),
        tries_max: 8,
        in_flight_max: 1 << 16,
        price: None,
        run: None,
        policy: None,
        mistakes: Default::default(),
    };
    let [orchestrator, explorer, coder] = Role::ALL.map(|role| role.as_str().to_owned());
    TeamParts {
        settings: TeamSettings { restarts_max: 1000, ..TeamSettings::default() },
        endpoints: Role::ALL.map(settings).into_iter().zip(models).collect(),
        roles: EndpointNames { orchestrator, explorer, coder },
    }
}

fn folders(records: &Path) -> Folders {
    let folder = |name| {
        let folder = records.join(name);
        std::fs::create_dir_all(&folder).expect("the scenario's folder can be written");
        folder
    };
    Folders { trajectories: folder("trajectories"), logs: folder("logs") }
}
