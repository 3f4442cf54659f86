use proptest::prelude::*;

use super::*;

const CONFIG: &str = "[rollouts]\nn_concurrent = 4\nn_attempts = 3\n";

/// A run with these (scored, passed) of 3 attempts at each of the tasks `t0`, `t1`, and so on.
pub(crate) fn run(label: &str, config: &str, tasks: &[(u64, u64)]) -> Run {
    let task = |(number, &(scored, passed)): (usize, &(u64, u64))| {
        let key = TaskKey { name: format!("t{number}"), digest: "d".to_owned() };
        let category = Some(if number % 2 == 0 { "even" } else { "odd" }.to_owned());
        (key, Tally { category, planned: 3, scored, passed, lost: 3 - scored })
    };
    Run {
        label: label.to_owned(),
        policy: "oracle".to_owned(),
        conditions: Conditions::of(&config.parse().unwrap()),
        tasks: tasks.iter().enumerate().map(task).collect(),
    }
}

pub(crate) fn arm(name: &str, runs: Vec<Run>) -> Arm {
    Arm { name: name.to_owned(), runs }
}

/// Two arms, the second of two runs, which had another concurrency.
pub(crate) fn sample() -> Report {
    let before = run("before", CONFIG, &[(3, 0), (3, 1), (2, 1), (3, 3)]);
    let other = CONFIG.replace("n_concurrent = 4", "n_concurrent = 8");
    let after = [
        run("after-0", &other, &[(3, 1), (3, 1), (3, 3), (3, 3)]),
        run("after-1", &other, &[(3, 2), (3, 0), (3, 3), (3, 2)]),
    ];
    Report::of(&[arm("before", vec![before]), arm("after", after.into())], None)
}

#[test]
fn rates_are_means_over_tasks_and_infrastructure_failures_are_in_none() {
    let report = sample();
    let [before, after] = &report.arms[..] else { panic!("two arms") };
    assert_eq!((before.tasks, before.attempts, before.scored, before.lost), (4, (3, 3), 11, 1));
    let mean = (0.0 + 1.0 / 3.0 + 0.5 + 1.0) / 4.0;
    assert!((before.pass_at_1.unwrap().mean - mean).abs() < 1e-12);
    // Three attempts have rewards at three of the tasks only.
    assert_eq!(report.k, 3);
    assert!((before.pass_at_k.unwrap().mean - 2.0 / 3.0).abs() < 1e-12);
    let [first, second] = &after.runs[..] else { panic!("two runs") };
    let rates = (first.pass_at_1.unwrap(), second.pass_at_1.unwrap());
    assert!((rates.0 - 2.0 / 3.0).abs() < 1e-12 && (rates.1 - 7.0 / 12.0).abs() < 1e-12);
    assert!((after.pass_at_1.unwrap().mean - (rates.0 + rates.1) / 2.0).abs() < 1e-12);
    assert!((after.spread.unwrap() - (rates.0 - rates.1) / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(before.spread, None);
}

#[test]
fn a_family_has_its_tasks_alone() {
    let report = sample();
    let rows: Vec<(&str, &str, usize)> = report
        .families
        .iter()
        .map(|it| (it.family.as_deref().unwrap(), it.arm.as_str(), it.tasks))
        .collect();
    let expected =
        [("even", "before", 2), ("even", "after", 2), ("odd", "before", 2), ("odd", "after", 2)];
    assert_eq!(rows, expected);
    assert!((report.families[0].pass_at_1.unwrap().mean - 0.25).abs() < 1e-12);
}

#[test]
fn differences_are_by_task_and_other_conditions_are_told() {
    let report = sample();
    let [pair] = &report.differences[..] else { panic!("one pair") };
    assert_eq!((pair.tasks, pair.wins, pair.ties, pair.losses), (4, 2, 0, 2));
    // By task: 1/2 - 0, 1/6 - 1/3, 1 - 1/2, 5/6 - 1.
    assert!((pair.difference.unwrap().mean - 1.0 / 6.0).abs() < 1e-12);
    let told: Vec<(&str, &str)> =
        report.notes.iter().map(|note| (note.run.as_str(), note.what.as_str())).collect();
    let what = "rollouts.n_concurrent = 8, not 4";
    assert_eq!(told, [("after-0", what), ("after-1", what)]);
    assert_eq!(report.arms.iter().map(|arm| arm.is_marked).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn tasks_with_other_files_are_not_compared_and_it_is_told() {
    let before = run("before", CONFIG, &[(3, 1), (3, 1), (3, 1)]);
    let mut after = run("after", CONFIG, &[(3, 1), (3, 1), (3, 1), (2, 1)]);
    let changed = TaskKey { name: "t0".to_owned(), digest: "d".to_owned() };
    let tally = after.tasks.remove(&changed).unwrap();
    after.tasks.insert(TaskKey { digest: "other".to_owned(), ..changed }, tally);
    after.tasks.values_mut().last().unwrap().lost = 0;
    let report = Report::of(&[arm("before", vec![before]), arm("after", vec![after])], Some(2));
    assert_eq!((report.k, report.differences[0].tasks, report.differences[0].ties), (2, 2, 2));
    let told: Vec<&str> = report.notes.iter().map(|note| note.what.as_str()).collect();
    let expected = [
        "not finished: 1 of 12 rollouts have not ended",
        "other tasks than before: 1 with other files, 1 more",
    ];
    assert_eq!(told, expected);
}

#[test]
fn arms_without_rewards_or_without_tasks_in_common_have_no_figures() {
    let lost = run("lost", CONFIG, &[(0, 0), (0, 0)]);
    let before = run("before", CONFIG, &[(3, 1)]);
    let report = Report::of(&[arm("before", vec![before]), arm("lost", vec![lost])], None);
    assert_eq!(report.arms[1].pass_at_1, None);
    assert_eq!((report.differences[0].tasks, report.differences[0].difference), (0, None));
}

proptest! {
    #[test]
    fn a_comparison_turned_round_has_wins_for_losses(
        tasks in prop::collection::vec((0u64..=3, 0u64..=3), 1..12),
    ) {
        let (one, other): (Vec<_>, Vec<_>) =
            tasks.into_iter().map(|(one, other)| ((3, one), (3, other))).unzip();
        let one = arm("one", vec![run("one", CONFIG, &one)]);
        let other = arm("other", vec![run("other", CONFIG, &other)]);
        let (there, back) = (one.against(&other), other.against(&one));
        let turned = (back.losses, back.ties, back.wins);
        prop_assert_eq!((there.wins, there.ties, there.losses), turned);
        let (there, back) = (there.difference.unwrap(), back.difference.unwrap());
        prop_assert_eq!(there.mean, -back.mean);
        prop_assert_eq!(there.low, back.high.map(|high| -high));
    }

    #[test]
    fn the_same_run_twice_in_an_arm_changes_no_mean(
        tasks in prop::collection::vec(0u64..=3, 2..10),
    ) {
        let tasks: Vec<_> = tasks.into_iter().map(|passed| (3, passed)).collect();
        let single = arm("one", vec![run("r", CONFIG, &tasks)]);
        let double = arm("two", vec![run("r", CONFIG, &tasks), run("s", CONFIG, &tasks)]);
        let (single, double) = (single.figures(1, &[]), double.figures(1, &[]));
        let means = (single.pass_at_1.unwrap().mean, double.pass_at_1.unwrap().mean);
        prop_assert!((means.0 - means.1).abs() < 1e-12);
        prop_assert_eq!(double.spread, Some(0.0));
    }
}
