//! Actors killed at random while teams work: exactly one terminal record for every rollout, no
//! infrastructure failure rewarded, no answered call made again, nothing left over.
//!
//! The seed is printed; `ORCAPACK_SEED` sets it.

#[path = "support/random.rs"]
mod random;
mod support;
#[path = "support/team.rs"]
mod team;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orcapack::config::{EvalConfig, SandboxDriver};
use orcapack::config_layers::Host;
use orcapack::metrics_log::{Metrics, Quantiles};
use orcapack::run::Run;
use orcapack::sandboxes;
use orcapack::store_rows::AttemptRow;
use orcapack::work::RunEnd;
use orcapack_actors::agent::Solver;
use orcapack_actors::census::{self, ActorKind};
use orcapack_actors::fake::{FakeDriver, FakeTimes};
use orcapack_actors::model::{Model, Request};
use orcapack_actors::sandbox::Swept;
use orcapack_actors::team::action::{Bash, Tool};
use orcapack_actors::team::role::Role;
use orcapack_actors::team::write_action;
use orcapack_tasks::dataset::{self, LoadOptions};
use orcapack_tasks::{Outcome, Task};
use ractor::ActorCell;
use random::Random;
use support::{Ended, Scenario};
use team::{Answered, Scripted, explore_then_solve};

fn slow() -> FakeDriver {
    let ms = Duration::from_millis;
    FakeDriver::new(FakeTimes { image: ms(1), create: ms(2), exec: ms(3), remove: ms(1) })
}

/// 64 tasks, four rollouts each, all at once.
fn crowd(dir: &Path, models: [Arc<dyn Model>; 3]) -> Scenario<'_> {
    let run = Scenario::new(dir, 64, 4, 256);
    Scenario { agent: Solver::Team, retries: 1000, models: Some(models), ..run }
}

/// Every rollout graded once, and nothing lost on the way that was rewarded.
fn check(ended: &Ended, rollouts: usize, answered: &Answered) {
    assert_eq!(ended.end, RunEnd::Complete);
    assert_eq!(ended.results.len(), rollouts);
    for row in &ended.results {
        assert_eq!(row.outcome, Outcome::Graded { reward: 1.0 }, "rollout {}", row.rollout);
    }
    let graded = |row: &&AttemptRow| row.outcome.as_ref().is_some_and(|it| it.reward().is_some());
    let graded = ended.attempts.iter().filter(graded).count();
    assert_eq!(graded, rollouts, "an attempt too many counts");
    assert_eq!(answered.repeated(), [], "answered and asked again");
    assert_eq!(ended.swept, Swept::default());
}

/// Kills this many actors while teams work: round by round one of each kind, chosen at random.
async fn kill(node: &Run, kills: usize, every: Duration) {
    let mut random = Random::seeded();
    let mut killed: BTreeMap<ActorKind, usize> = BTreeMap::new();
    let end = node.wait_end();
    tokio::pin!(end);
    while killed.values().sum::<usize>() < kills {
        let mut alive: BTreeMap<ActorKind, Vec<ActorCell>> = BTreeMap::new();
        for (kind, actor) in census::below(&node.cell()) {
            alive.entry(kind).or_default().push(actor);
        }
        // Not into images being built, but into teams at work.
        let working = alive.contains_key(&ActorKind::Coder) || !killed.is_empty();
        for (kind, actors) in alive.into_iter().filter(|_| working) {
            actors[random.below(actors.len())].kill();
            *killed.entry(kind).or_default() += 1;
        }
        tokio::select! {
            biased;
            _ = &mut end => break,
            // Spreads the kills over the run; how long it takes decides nothing.
            () = tokio::time::sleep(every) => {}
        }
    }
    eprintln!("killed {killed:?}");
}

/// How long takeovers took, from the death to the successor's first word.
fn report(metrics: &Metrics, answered: &Answered) {
    let takeovers = metrics.snapshot().histograms["orcapack_takeover_seconds"];
    let Quantiles { count, p50, p99, .. } = takeovers;
    let calls = answered.count();
    eprintln!("{calls} calls answered; {count} takeovers, p50 {p50:.4} s, p99 {p99:.4} s");
    assert!(count > 0, "nobody was taken over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_teams_is_graded_and_nothing_is_left() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), slow());
    let (models, answered) = Scripted::team(Arc::new(explore_then_solve), Duration::from_millis(5));
    let ended = crowd(dir.path(), models).to_end(&driver).await;
    check(&ended, 256, &answered);
    assert_eq!(driver.live(), 0);
    assert_eq!(answered.count(), 256 * 9, "three of the orchestrator's, two of each subagent's");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_kills_change_no_reward_and_repeat_no_answered_call() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), slow());
    let metrics = Metrics::new();
    metrics.install().unwrap();
    let (models, answered) =
        Scripted::team(Arc::new(explore_then_solve), Duration::from_millis(15));
    let run = crowd(dir.path(), models);
    let node = run.start(&driver).await;
    kill(&node, 500, Duration::from_millis(10)).await;
    let ended = run.finish(node).await;
    report(&metrics, &answered);
    check(&ended, 256, &answered);
    assert_eq!(driver.live(), 0);
}

/// Over real sandboxes: `ORCAPACK_ROLLOUTS` teams, of which `ORCAPACK_KILLS` actors are killed.
async fn real_teams_are_killed_into(sandbox: SandboxDriver) {
    let number = |name, default| match std::env::var(name) {
        Ok(value) => value.parse().expect("a number"),
        Err(_) => default,
    };
    let (rollouts, kills) = (number("ORCAPACK_ROLLOUTS", 8), number("ORCAPACK_KILLS", 15));
    let mut config = EvalConfig::defaults(2, Host::this().cache_dir).sandbox;
    config.driver = sandbox;
    let driver = match sandboxes::choose(&config).await {
        Ok(driver) => driver,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    metrics.install().unwrap();
    let tasks = built_in(&["retry-decorator", "server-errors-by-path", "rename-property-key"]);
    let solutions: Vec<String> = tasks.iter().map(|task| solution(task)).collect();
    let script = move |role, request: &Request| match (role, request.key.turn) {
        (Role::Coder, 1) => {
            let solution = &solutions[request.key.rollout as usize % solutions.len()];
            Ok(command(solution))
        }
        _ => explore_then_solve(role, request),
    };
    let (models, answered) = Scripted::team(Arc::new(script), Duration::from_millis(200));
    let samples = u32::try_from(rollouts).unwrap().div_ceil(tasks.len() as u32);
    let rollouts = tasks.len() * samples as usize;
    let run = Scenario {
        tasks,
        samples,
        agent: Solver::Team,
        retries: 1000,
        models: Some(models),
        starts: 2,
        label: format!("chaos-{}", std::process::id()),
        ..Scenario::new(dir.path(), 0, 0, rollouts)
    };
    let node = run.start_on(driver).await;
    kill(&node, kills, Duration::from_millis(500)).await;
    let ended = run.finish(node).await;
    report(&metrics, &answered);
    check(&ended, rollouts, &answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_in_process_sandboxes_survive_their_actors() {
    real_teams_are_killed_into(SandboxDriver::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_in_docker_survive_their_actors() {
    real_teams_are_killed_into(SandboxDriver::Docker).await;
}

fn built_in(names: &[&str]) -> Vec<Arc<Task>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/builtin");
    let options = LoadOptions { lookup: &|_| None };
    let load = |name: &&str| dataset::load(&folder.join(name), &options).expect("is there").tasks;
    names.iter().flat_map(load).map(Arc::new).collect()
}

/// The text of a task's own solution.
fn solution(task: &Task) -> String {
    let files = &task.steps[0].solution.as_ref().expect("has one").files;
    let script = files.get("solve.sh").expect("has one");
    String::from_utf8(script.read().expect("can be read").to_vec()).expect("is text")
}

/// A coder's answer that runs a script.
fn command(script: &str) -> String {
    let bash = Bash { cmd: script.to_owned(), block: true, timeout: None };
    write_action::tool(&Tool::Bash(bash))
}
