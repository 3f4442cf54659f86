//! One node over fake sandboxes: exactly one terminal record for every rollout, and nothing left
//! over.

mod support;
#[path = "support/team.rs"]
#[expect(dead_code, reason = "how often a call was answered is the chaos tests' matter")]
mod team;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orcapack::run::Run;
use orcapack::status::RunStatus;
use orcapack::work::RunEnd;
use orcapack_actors::agent::Solver;
use orcapack_actors::fake::{FakeDriver, FakeTimes};
use orcapack_actors::model::Request;
use orcapack_actors::model::settings::EndpointKind;
use orcapack_actors::phase::Waiting;
use orcapack_actors::sandbox::{SandboxError, Swept};
use orcapack_actors::team::role::Role;
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::{FailureClass, Outcome};
use support::{Ended, Scenario};
use team::{Scripted, explore_then_solve};

const ONE: Outcome = Outcome::Graded { reward: 1.0 };
const ZERO: Outcome = Outcome::Graded { reward: 0.0 };

fn slow() -> FakeDriver {
    let ms = Duration::from_millis(5);
    FakeDriver::new(FakeTimes { image: ms, create: ms, exec: ms, remove: ms })
}

fn outcomes(ended: &Ended) -> Vec<Outcome> {
    ended.results.iter().map(|row| row.outcome.clone()).collect()
}

fn failed_attempts(ended: &Ended) -> Vec<FailureClass> {
    let class = |outcome: &Option<Outcome>| match outcome {
        Some(Outcome::InfrastructureFailure { class, .. }) => Some(*class),
        _ => None,
    };
    ended.attempts.iter().filter_map(|row| class(&row.outcome)).collect()
}

fn waiting(run: &Run) -> Vec<Waiting> {
    let mut status = RunStatus::default();
    run.read(&mut status);
    status.waiting
}

#[tokio::test]
async fn the_oracle_passes_nop_and_known_bad_do_not_and_nothing_is_left() {
    let wrong = TrialKind::KnownBad("wrong".into());
    let expectations = [(TrialKind::Oracle, ONE), (TrialKind::Nop, ZERO), (wrong, ZERO)];
    for (agent, expected) in expectations {
        let (dir, driver) = (tempfile::tempdir().unwrap(), FakeDriver::default());
        let run =
            Scenario { agent: Solver::Trial(agent.clone()), ..Scenario::new(dir.path(), 5, 3, 4) };
        let ended = run.to_end(&driver).await;
        assert_eq!(ended.end, RunEnd::Complete);
        assert_eq!(outcomes(&ended), vec![expected; 15], "{agent}");
        assert_eq!((driver.live(), ended.swept), (0, Swept::default()));
    }
}

#[tokio::test]
async fn a_demonstrator_is_sent_the_tasks_own_scripts_and_nobody_else_is() {
    for kind in EndpointKind::NAMES.map(|(_, kind)| kind) {
        if kind.lacks(Role::Orchestrator).is_some() {
            continue;
        }
        let sent: Arc<Mutex<BTreeSet<(Role, String)>>> = Arc::default();
        let seen = sent.clone();
        let script = move |role: Role, request: &Request| {
            if request.scripts.is_some() || format!("{request:?}").contains("wrong\\n") {
                seen.lock().unwrap().insert((role, format!("{:?}", request.scripts)));
            }
            explore_then_solve(role, request)
        };
        let (models, _) = Scripted::team(Arc::new(script), Duration::ZERO);
        let (dir, driver) = (tempfile::tempdir().unwrap(), FakeDriver::default());
        let run = Scenario {
            agent: Solver::Team,
            models: Some(models),
            orchestrator: kind,
            ..Scenario::new(dir.path(), 2, 1, 2)
        };
        assert_eq!(run.to_end(&driver).await.end, RunEnd::Complete);
        let sent = sent.lock().unwrap();
        match kind {
            EndpointKind::Solution => {
                let (role, scripts) = sent.first().expect("scripts");
                assert_eq!((sent.len(), *role), (1, Role::Orchestrator));
                let [right, wrong] = ["right\\n", "wrong\\n"].map(|it| scripts.contains(it));
                assert!(right && wrong, "{scripts}");
            }
            _ => assert!(sent.is_empty(), "{}: {sent:?}", kind.as_str()),
        }
    }
}

#[tokio::test]
async fn ac2_killed_environments_are_retried_and_never_rewarded_with_zero() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), slow());
    let run = Scenario { retries: 20, ..Scenario::new(dir.path(), 16, 2, 16) };
    let node = run.start(&driver).await;
    let mut killed = 0;
    while killed < 12 {
        killed += driver.kill(4);
        // Spreads the kills over the run; how long it takes decides nothing.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ended = run.finish(node).await;
    assert_eq!(outcomes(&ended), vec![ONE; 32]);
    let failures = failed_attempts(&ended);
    assert!(!failures.is_empty());
    assert!(failures.iter().all(|class| *class == FailureClass::ExecTransport), "{failures:?}");
    assert_eq!((driver.live(), ended.swept), (0, Swept::default()));
}

#[tokio::test]
async fn an_engine_that_stops_is_waited_for_and_the_run_finishes() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), slow());
    let run = Scenario { retries: 50, ..Scenario::new(dir.path(), 8, 2, 8) };
    let node = run.start(&driver).await;
    while driver.live() == 0 {
        // The board is a set of counters that wake nobody: polled.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    driver.set_down(true);
    while waiting(&node).is_empty() {
        // The board is a set of counters that wake nobody: polled.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waiting(&node)[0].what.contains("fake engine"));
    driver.set_down(false);
    let ended = run.finish(node).await;
    assert_eq!(outcomes(&ended), vec![ONE; 16]);
    assert!(failed_attempts(&ended).contains(&FailureClass::Daemon));
}

#[tokio::test]
async fn ac2_a_class_over_its_limit_ends_the_rollout_without_a_reward() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), FakeDriver::default());
    let oom = SandboxError::new(FailureClass::Oom, "out of memory");
    driver.fail_creations(vec![oom; 2]);
    let run = Scenario { retries: 1, ..Scenario::new(dir.path(), 1, 1, 1) };
    let ended = run.to_end(&driver).await;
    assert_eq!(ended.end, RunEnd::Complete);
    assert_eq!(failed_attempts(&ended), [FailureClass::Oom; 2]);
    assert_eq!(ended.results[0].outcome.reward(), None);
}

#[tokio::test]
async fn a_drained_run_resumes_where_it_stopped_and_runs_nothing_twice() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), slow());
    let run = Scenario::new(dir.path(), 10, 4, 4);
    let node = run.start(&driver).await;
    // Into the run. Whatever has happened by then, what is checked must hold.
    tokio::time::sleep(Duration::from_millis(60)).await;
    node.drain();
    node.kill();
    let first = run.finish(node).await;
    assert_eq!(first.end, RunEnd::Drained);
    assert!(first.results.len() < 40);
    assert_eq!(driver.live(), 0);
    let ended = run.to_end(&driver).await;
    assert_eq!(ended.end, RunEnd::Complete);
    assert_eq!(outcomes(&ended), vec![ONE; 40]);
    let graded = ended.attempts.iter().filter(|row| row.outcome == Some(ONE)).count();
    assert_eq!(graded, 40, "a finished rollout was run again");
}

#[tokio::test]
async fn the_time_ledger_of_every_attempt_adds_up_to_its_wall_time() {
    let (dir, driver) = (tempfile::tempdir().unwrap(), slow());
    let ended = Scenario::new(dir.path(), 6, 2, 3).to_end(&driver).await;
    for row in ended.attempts {
        let (wall, sum) = (row.wall.as_secs_f64(), row.phases.total().as_secs_f64());
        assert!(wall > 0.0 && (wall - sum).abs() <= 0.01 * wall, "{wall} s, phases {sum} s");
    }
}
