use orcapack_tasks::outcome::AgentFailure;
use proptest::prelude::*;

use super::*;
use crate::summary_team::tests::agents;

/// Three tasks, two rollouts of each: every kind of ending, one retry.
pub(crate) fn sample() -> RunSummary {
    let info = |name: &str, difficulty: Option<&str>, category: Option<&str>| TaskInfo {
        name: name.to_owned(),
        difficulty: difficulty.map(str::to_owned),
        category: category.map(str::to_owned),
    };
    let tasks = vec![
        info("fix-permissions", Some("easy"), Some("system-administration")),
        info("sqlite-recover", Some("hard"), Some("data")),
        info("orca/build-kernel", None, None),
    ];
    let rollout = |rollout: u64, task: &str, outcome: Outcome, exec: f64| RolloutSummary {
        rollout,
        task: task.to_owned(),
        attempts: 1,
        outcome,
        phases: PhaseSeconds {
            queue: 0.25,
            image: 0.5,
            create: 0.75,
            exec,
            model: 0.0,
            grade: 2.0,
            cleanup: 0.125,
        },
        retries: BTreeMap::new(),
        note: None,
        trajectory: Some(format!("trajectories/{rollout}.1.json")),
        agents: Vec::new(),
    };
    let graded = |reward| Outcome::Graded { reward };
    let timed_out = Outcome::AgentFailure { failure: AgentFailure::TimedOut, reward: 0.0 };
    let lost = Outcome::InfrastructureFailure {
        class: FailureClass::Image,
        message: "cannot pull kernel:6: no such image".to_owned(),
    };
    let mut rollouts = vec![
        rollout(4, "orca/build-kernel", lost.clone(), 0.0),
        rollout(0, "fix-permissions", graded(1.0), 1.0),
        rollout(1, "fix-permissions", graded(1.0), 3.0),
        rollout(2, "sqlite-recover", graded(0.5), 60.0),
        rollout(3, "sqlite-recover", timed_out, 600.0),
        rollout(5, "orca/build-kernel", lost, 0.0),
    ];
    rollouts[1].attempts = 2;
    rollouts[1].retries = BTreeMap::from([(FailureClass::Oom, 1)]);
    rollouts[3].note = Some("1 failed, 1 passed: tests/test_outputs.py::test_rows".to_owned());
    let run = RunInfo {
        name: "smoke".to_owned(),
        dataset: "datasets/core".to_owned(),
        agent: "oracle".to_owned(),
        model: None,
        sandbox: "process".to_owned(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        ended: "2026-01-02T03:16:05Z".parse().unwrap(),
        concurrent: 64,
        k: 2,
        command: "orcapack eval datasets/core --agent oracle -k 2".to_owned(),
        config: "[run]\nname = \"smoke\"\n".to_owned(),
        environments_peak: 6,
        rss_bytes_peak: 48 << 20,
        nodes: Vec::new(),
    };
    RunSummary::new(run, tasks, rollouts)
}

/// The same, solved by teams; the first attempt of one was lost.
pub(crate) fn sample_of_teams() -> RunSummary {
    let RunSummary { mut run, tasks, mut rollouts, .. } = sample();
    run.agent = "team".to_owned();
    run.model = Some("qwen3".to_owned());
    for rollout in rollouts.iter_mut().filter(|rollout| rollout.outcome.reward().is_some()) {
        rollout.agents = (1..=rollout.attempts as u32).flat_map(agents).collect();
    }
    RunSummary::new(run, tasks.into_iter().map(|task| task.info).collect(), rollouts)
}

#[test]
fn a_team_is_summed_by_role_and_by_task_with_its_lost_attempts() {
    let RunSummary { totals, tasks, .. } = sample_of_teams();
    let [orchestrator, explorer, coder] = totals.roles.try_into().unwrap();
    assert_eq!([orchestrator.agents, explorer.agents, coder.agents], [5; 3]);
    assert_eq!((orchestrator.spent.turns, orchestrator.spent.cost_usd), (10, Some(3.75)));
    let turns: Vec<_> = tasks.iter().map(|task| task.spent.map(|spent| spent.turns)).collect();
    assert_eq!(turns, [Some(18), Some(12), None]);
    assert_eq!(sample().totals.roles, []);
}

#[test]
fn infrastructure_failures_are_in_no_rate() {
    let RunSummary { totals, tasks, rollouts, .. } = sample();
    assert_eq!((totals.planned, totals.ended), (6, 6));
    let want = OutcomeCounts { passed: 2, failed: 1, agent_failed: 1, infrastructure_failed: 2 };
    assert_eq!(totals.outcomes, want);
    assert_eq!((totals.resolved.count, totals.resolved.of), (2, 4));
    assert_eq!(totals.mean_reward, Some(0.625));
    let pass_at = |k, mean| PassAt { k, mean: Some(mean), tasks: 2 };
    assert_eq!(totals.pass_at, [pass_at(1, 0.5), pass_at(2, 0.5)]);
    assert_eq!(totals.failures, BTreeMap::from([(FailureClass::Image, 2)]));
    assert_eq!(totals.retries, BTreeMap::from([(FailureClass::Oom, 1)]));
    assert_eq!(totals.rollouts_per_minute, 0.5);
    let figures: Vec<_> =
        tasks.iter().map(|t| (t.graded, t.passed, t.mean_reward, t.retries)).collect();
    assert_eq!(figures, [(2, 2, Some(1.0), 1), (2, 0, Some(0.25), 0), (0, 0, None, 0)]);
    assert!(rollouts.is_sorted_by_key(|rollout| rollout.rollout));
}

#[test]
fn quantiles_are_of_the_nearest_rank() {
    let phases = sample().totals.phases;
    let exec = phases.iter().find(|stats| stats.phase == "exec").unwrap();
    assert_eq!((exec.sum, exec.p50, exec.p99), (664.0, 1.0, 600.0));
    assert_eq!(quantile(&[], 0.5), 0.0);
}

#[test]
fn a_run_without_rollouts_has_figures_too() {
    let RunSummary { run, .. } = sample();
    let ended = run.started;
    let empty = RunSummary::new(RunInfo { ended, ..run }, Vec::new(), Vec::new());
    assert_eq!(empty.totals.resolved.share, None);
    assert_eq!(empty.totals.pass_at[0], PassAt { k: 1, mean: None, tasks: 0 });
    assert_eq!(empty.totals.rollouts_per_minute, 0.0);
}

#[test]
fn the_json_of_a_summary_is_read_back() {
    for summary in [sample(), sample_of_teams()] {
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<RunSummary>(&text).unwrap(), summary);
    }
}

#[test]
fn wilsons_interval_is_that_of_the_books() {
    // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for (count, of, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ] {
        let share = Share::wilson(count, of);
        assert!((share.low.unwrap() - low).abs() < 5e-5, "{share:?}");
        assert!((share.high.unwrap() - high).abs() < 5e-5, "{share:?}");
    }
}

#[test]
fn wilsons_interval_holds_the_share_also_where_it_ends_there() {
    for of in 1..=200 {
        for count in [0, 1, of / 2, of] {
            let Share { share, low, high, .. } = Share::wilson(count, of);
            assert!(low <= share && share <= high, "{count} of {of}: {low:?} {share:?} {high:?}");
        }
    }
}

proptest! {
    #[test]
    fn every_ended_rollout_has_one_kind_of_outcome(
        kinds in prop::collection::vec((0..4_u8, 0..3_u8, 0.0..2.0_f64), 0..40),
    ) {
        let template = sample().rollouts.remove(0);
        let rollouts: Vec<_> = kinds.iter().zip(0..).map(|((kind, task, reward), rollout)| {
            let reward = *reward;
            let outcome = match kind {
                0 | 1 => Outcome::Graded { reward },
                2 => Outcome::AgentFailure { failure: AgentFailure::TimedOut, reward },
                _ => Outcome::InfrastructureFailure {
                    class: FailureClass::Daemon, message: String::new(),
                },
            };
            RolloutSummary { rollout, task: task.to_string(), outcome, ..template.clone() }
        }).collect();
        let ended = rollouts.len() as u64;
        let totals = RunSummary::new(sample().run, Vec::new(), rollouts).totals;
        let OutcomeCounts { passed, failed, agent_failed, infrastructure_failed } = totals.outcomes;
        prop_assert_eq!(passed + failed + agent_failed + infrastructure_failed, ended);
        prop_assert_eq!(totals.resolved.count, passed);
        prop_assert_eq!(totals.resolved.of, ended - infrastructure_failed);
        let Share { share, low, high, .. } = totals.resolved;
        if let (Some(share), Some(low), Some(high)) = (share, low, high) {
            prop_assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
        }
    }
}
