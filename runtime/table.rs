//! A run's figures on a terminal.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use orcapack_tasks::outcome::FailureClass;

use crate::summary::{NodeSummary, PhaseSeconds, RunSummary, Share, TaskSummary};
use crate::table_team;

/// The figures, then one line per task, at most `width` columns wide; the last line ends with a
/// line feed.
pub fn render(summary: &RunSummary, width: u16) -> String {
    let columns = Columns::of(summary, width);
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(header(columns));
    table.style_mut().row_separator = presets::NOTHING.row_separator;
    for task in &summary.tasks {
        table.add_row(row(task, columns));
    }
    for numeric in 1..header(columns).len() - 1 {
        if let Some(column) = table.column_mut(numeric) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines = head(summary);
    lines.extend(table_team::roles(&summary.totals.roles, width));
    lines.push(table.trim_fmt());
    lines.extend(failures(summary));
    lines.join("\n") + "\n"
}

/// A share as `62.5%`, or a dash of nothing.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.1}%", 100.0 * share))
}

/// A time in the unit that fits it: `0.45 s`, `12.0 s`, `3 min 20 s`, `2 h 05 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Memory in binary units.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        b if b < 1 << 20 => format!("{:.1} KiB", b as f64 / 1024.0),
        b if b < 1 << 30 => format!("{:.1} MiB", b as f64 / f64::from(1 << 20)),
        b => format!("{:.2} GiB", b as f64 / f64::from(1 << 30)),
    }
}

/// `oom 2, image 1`; a dash of none.
pub fn counts(counts: &BTreeMap<FailureClass, u64>) -> String {
    let parts: Vec<_> = counts.iter().map(|(class, count)| format!("{class} {count}")).collect();
    if parts.is_empty() { dash() } else { parts.join(", ") }
}

pub(crate) fn dash() -> String {
    "–".to_owned()
}

fn head(summary: &RunSummary) -> Vec<String> {
    let RunSummary { run, totals, .. } = summary;
    let mut who = vec![&run.name, &run.dataset, &run.agent];
    who.extend(&run.model);
    who.push(&run.sandbox);
    let who: Vec<_> = who.into_iter().map(|text| printable(text)).collect();
    let Share { count, of, low, high, .. } = totals.resolved;
    // The first, the last, and the powers of two between them.
    let shown = totals.pass_at.iter().filter(|at| at.k.is_power_of_two() || at.k == run.k);
    let rates: Vec<_> = shown.map(|at| format!("pass@{} {}", at.k, percent(at.mean))).collect();
    let outcomes = totals.outcomes;
    let mut lines = vec![
        who.join(" · "),
        rates.join("   "),
        format!(
            "{count} of {of} graded rollouts passed (95%: {} to {}), mean reward {}",
            percent(low),
            percent(high),
            totals.mean_reward.map_or_else(dash, |reward| format!("{reward:.3}")),
        ),
        format!(
            "{} of {} rollouts ended: passed {}, failed {}, agent failure {}, \
             infrastructure failure {}",
            totals.ended,
            totals.planned,
            outcomes.passed,
            outcomes.failed,
            outcomes.agent_failed,
            outcomes.infrastructure_failed,
        ),
        format!(
            "{}, {:.1} rollouts/min, at most {} environments at once, {} of memory",
            seconds(totals.wall_sec),
            totals.rollouts_per_minute,
            run.environments_peak,
            bytes(run.rss_bytes_peak),
        ),
    ];
    if !run.nodes.is_empty() {
        let nodes = run.nodes.iter().map(|NodeSummary { node, attempts, lost }| match lost {
            0 => format!("{node} {attempts}"),
            _ => format!("{node} {attempts} ({lost} lost)"),
        });
        lines.push(format!("attempts by node: {}", nodes.collect::<Vec<_>>().join(", ")));
    }
    let shown = totals.phases.iter().filter(|phase| phase.sum > 0.0);
    let phases: Vec<_> =
        shown.map(|at| format!("{} {:.2} / {:.2}", at.phase, at.p50, at.p99)).collect();
    if !phases.is_empty() {
        lines.push(format!("seconds p50 / p99: {}", phases.join(", ")));
    }
    if !totals.retries.is_empty() {
        lines.push(format!("retried: {}", counts(&totals.retries)));
    }
    lines
}

/// Which groups of columns there is room for.
#[derive(Clone, Copy)]
struct Columns {
    /// One for each phase, instead of one for all.
    phases: bool,
    /// What a team used.
    team: bool,
}

impl Columns {
    fn of(summary: &RunSummary, width: u16) -> Self {
        let team = !summary.totals.roles.is_empty();
        Self { phases: width >= if team { 140 } else { 110 }, team: team && width >= 90 }
    }
}

/// Seconds, turns, tokens and cost are means over the task's rollouts; `agent` is its commands and
/// its model.
fn header(columns: Columns) -> Vec<&'static str> {
    let team: &[&str] = if columns.team { &["turns", "tokens", "cost"] } else { &[] };
    let seconds: &[&str] = match columns.phases {
        true => &["queue", "image", "create", "agent", "grade", "clean-up"],
        false => &["s / rollout"],
    };
    [&["task", "passed", "reward"], team, seconds, &["failures"]].concat()
}

fn row(task: &TaskSummary, columns: Columns) -> Vec<String> {
    let PhaseSeconds { queue, image, create, exec, model, grade, cleanup } = task.phases;
    let seconds = match columns.phases {
        true => vec![queue, image, create, exec + model, grade, cleanup],
        false => vec![task.phases.total()],
    };
    let mean = |seconds: f64| match task.ended {
        0 => dash(),
        ended => format!("{:.2}", seconds / ended as f64),
    };
    let mut row = vec![
        printable(&task.info.name),
        format!("{} of {}", task.passed, task.graded),
        task.mean_reward.map_or_else(dash, |reward| format!("{reward:.3}")),
    ];
    if columns.team {
        row.extend(table_team::means(task.spent.as_ref(), task.ended));
    }
    row.extend(seconds.into_iter().map(mean));
    row.push(counts(&task.failures));
    row
}

/// The infrastructure failures that ended most rollouts, in the words of whoever refused.
fn failures(summary: &RunSummary) -> Vec<String> {
    const SHOWN_MAX: usize = 3;
    let failures = summary.failures();
    let mut lines: Vec<_> = failures
        .iter()
        .take(SHOWN_MAX)
        .map(|at| {
            let message = at.message.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{} x {}: {}", at.rollouts.len(), at.class, printable(&message))
        })
        .collect();
    if failures.len() > SHOWN_MAX {
        lines.push(format!("{} other failures: see the report", failures.len() - SHOWN_MAX));
    }
    lines
}

/// Text from outside without what a terminal would obey: controls, and marks that turn the
/// direction of text.
pub(crate) fn printable(text: &str) -> String {
    let turns = ['\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    let obeyed = |c: char| c.is_control() || turns.iter().any(|range| range.contains(&c));
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use orcapack_tasks::Outcome;

    use super::*;
    use crate::summary::RolloutSummary;
    use crate::summary::tests::{sample, sample_of_teams};

    #[test]
    fn the_table_of_a_run() {
        insta::assert_snapshot!("wide", render(&sample(), 120));
        insta::assert_snapshot!("narrow", render(&sample(), 80));
        insta::assert_snapshot!("team_wide", render(&sample_of_teams(), 140));
        insta::assert_snapshot!("team", render(&sample_of_teams(), 100));
        insta::assert_snapshot!("team_narrow", render(&sample_of_teams(), 80));
    }

    #[test]
    fn a_task_name_cannot_command_the_terminal() {
        let mut summary = sample();
        summary.tasks[0].info.name = "a\u{1b}[2J\u{7}\u{202e}b\nc".to_owned();
        summary.run.name = "\u{1b}]0;x\u{7}".to_owned();
        let text = render(&summary, 80);
        assert!(text.contains("a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}c"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    #[test]
    fn a_message_of_several_lines_is_told_in_one() {
        let mut summary = sample();
        let failed = |row: &&mut RolloutSummary| row.outcome.reward().is_none();
        let row = summary.rollouts.iter_mut().find(failed).expect("one was lost");
        let (class, message) = (FailureClass::Image, "exit code 15:\nchage: no".to_owned());
        row.outcome = Outcome::InfrastructureFailure { class, message };
        let text = render(&summary, 100);
        assert!(text.contains("image: exit code 15: chage: no"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_is_not_overrun() {
        let mut summary = sample();
        summary.tasks[0].info.name = "long-".repeat(40);
        let text = render(&summary, 60);
        let table = text.lines().skip_while(|line| !line.starts_with('─'));
        assert!(table.map(|line| line.chars().count()).all(|columns| columns <= 60), "{text}");
    }

    #[test]
    fn figures_have_the_unit_that_fits() {
        let times = [0.0, 9.99, 9.996, 59.94, 59.96, 200.0, 3599.6, 7500.0].map(seconds);
        let want = [
            "0.00 s",
            "9.99 s",
            "10.0 s",
            "59.9 s",
            "1 min 00 s",
            "3 min 20 s",
            "1 h 00 min",
            "2 h 05 min",
        ];
        assert_eq!(times, want);
        assert_eq!([512, 48 << 20, 3 << 29].map(bytes), ["0.5 KiB", "48.0 MiB", "1.50 GiB"]);
        assert_eq!(percent(Some(0.125)), "12.5%");
        assert_eq!(percent(None), "–");
    }
}
