//! A comparison on a terminal.

use crate::compare::bootstrap::Estimate;
use crate::compare::figures::{ArmFigures, DifferenceFigures, Report};
use crate::output;
use crate::table::{dash, percent};

/// Tables with the notes under the first, at most `width` columns wide.
pub fn render(report: &Report, width: Option<u16>) -> String {
    let mut text = arms(report, width);
    for note in &report.notes {
        let run = if note.run == note.arm { String::new() } else { format!(" ({})", note.run) };
        text += &format!("! {}{run}: {}\n", note.arm, note.what);
    }
    let parts = [differences(report, width), runs(report, width), families(report, width)];
    for part in parts.into_iter().flatten() {
        text += &format!("\n{part}");
    }
    text + &format!("\n{}\n", basis(report))
}

/// How the figures were come by.
pub fn basis(report: &Report) -> String {
    let drawn = match report.arms.iter().any(|arm| arm.runs.len() > 1) {
        true => "over tasks, and over the runs of an arm",
        false => "over tasks",
    };
    let pass_at_k = match report.k {
        1 => String::new(),
        k => format!("\npass@{k}: the unbiased estimate (Chen et al. 2021)"),
    };
    format!(
        "Intervals: 95%, percentile bootstrap (Efron 1979) {drawn}, {} resamples{pass_at_k}",
        report.resamples
    )
}

/// A difference of shares in percentage points.
pub fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference)
}

fn arms(report: &Report, width: Option<u16>) -> String {
    let rows = report.arms.iter().map(|arm| {
        let mark = if arm.is_marked { " !" } else { "" };
        [
            format!("{}{mark}", arm.arm),
            arm.policy.clone(),
            arm.tasks.to_string(),
            attempts(arm),
            arm.scored.to_string(),
            arm.lost.to_string(),
            estimate(arm.pass_at_1, percent_of),
            estimate(arm.pass_at_k, percent_of),
        ]
    });
    let pass_at_k = format!("pass@{}", report.k);
    let [one, two, three, four, five, six, seven, eight] =
        ["arm", "who", "tasks", "attempts", "scored", "lost", "pass@1", pass_at_k.as_str()];
    if report.k > 1 {
        return output::table([one, two, three, four, five, six, seven, eight], rows, width);
    }
    let rows = rows.map(|[one, two, three, four, five, six, seven, _]| {
        [one, two, three, four, five, six, seven]
    });
    output::table([one, two, three, four, five, six, seven], rows, width)
}

/// At each task, in each run.
fn attempts(arm: &ArmFigures) -> String {
    let (fewest, most) = arm.attempts;
    let each = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    match arm.runs.len() {
        1 => each,
        runs => format!("{runs} x {each}"),
    }
}

fn differences(report: &Report, width: Option<u16>) -> Option<String> {
    let reference = &report.differences.first()?.reference;
    let rows = report.differences.iter().map(|it| {
        let DifferenceFigures { arm, tasks, difference, wins, ties, losses, .. } = it;
        let difference = estimate(*difference, points);
        [arm.clone(), tasks.to_string(), difference, format!("{wins}/{ties}/{losses}")]
    });
    let header = [&*format!("against {reference}"), "tasks", "points", "better/same/worse"];
    Some(output::table(header, rows, width))
}

fn runs(report: &Report, width: Option<u16>) -> Option<String> {
    let mut rows = Vec::new();
    for arm in &report.arms {
        let (Some(spread), Some(whole)) = (arm.spread, arm.pass_at_1) else { continue };
        let row = |run: &str, figure| [arm.arm.clone(), run.to_owned(), figure];
        rows.extend(arm.runs.iter().map(|run| row(&run.run, percent(run.pass_at_1))));
        let both = format!("{}, {}", percent_of(whole.mean), percent_of(spread));
        rows.push(row("mean, standard deviation", both));
    }
    (!rows.is_empty()).then(|| output::table(["arm", "run", "pass@1"], rows, width))
}

fn families(report: &Report, width: Option<u16>) -> Option<String> {
    let rows = report.families.iter().map(|it| {
        let family = it.family.clone().unwrap_or_else(dash);
        [family, it.arm.clone(), it.tasks.to_string(), estimate(it.pass_at_1, percent_of)]
    });
    let header = ["family", "arm", "tasks", "pass@1"];
    (!report.families.is_empty()).then(|| output::table(header, rows, width))
}

/// `62.5% [51.0% to 73.5%]`.
fn estimate(found: Option<Estimate>, show: fn(f64) -> String) -> String {
    match found {
        None => dash(),
        Some(Estimate { mean, low: Some(low), high: Some(high) }) => {
            format!("{} [{} to {}]", show(mean), show(low), show(high))
        }
        Some(Estimate { mean, .. }) => show(mean),
    }
}

fn percent_of(share: f64) -> String {
    percent(Some(share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::tests::{arm, run, sample};

    #[test]
    fn a_comparison_as_it_is_printed() {
        insta::assert_snapshot!(render(&sample(), None));
    }

    #[test]
    fn one_run_with_one_attempt_is_told_in_short() {
        let mut single = run("a", "", &[(3, 3)]);
        for tally in single.tasks.values_mut() {
            (tally.category, tally.planned) = (None, 1);
            (tally.scored, tally.passed) = (1, 1);
        }
        let report = Report::of(&[arm("a", vec![single])], None);
        assert_eq!(
            render(&report, None),
            "arm  who     tasks  attempts  scored  lost  pass@1\n\
             a    oracle  1      1         1       0     100.0%\n\n\
             Intervals: 95%, percentile bootstrap (Efron 1979) over tasks, 10000 resamples\n"
        );
    }
}
