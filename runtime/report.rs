//! The HTML report: one file that needs nothing else and fetches nothing.
//!
//! Task names, notes and messages come from tasks and their programs, which may be hostile: the
//! template escapes everything that it prints, and its content policy lets nothing be loaded.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use orcapack_tasks::grading::is_pass;
use orcapack_tasks::outcome::{AgentFailure, Outcome};
use serde::Serialize;

use crate::report_team::Tree;
use crate::summary::{Failure, RolloutSummary, RunInfo, RunSummary, TaskSummary, Totals};
use crate::summary_team::{RoleSummary, Spent};
use crate::{table, table_team};

/// Rows of the rollout table; the ledger has all of them. A browser sorts so many without a pause.
const ROLLOUTS_MAX: usize = 2000;
/// Different failure messages.
const MESSAGES_MAX: usize = 50;
/// Rollouts whose team is shown, agent by agent.
const TREES_MAX: usize = 200;

/// Of all pages: whose templates are fixed, so that an error names its line, and a dump of the data
/// beside it would help nobody. A template whose name ends in `.html` escapes what it prints.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("percent", table::percent);
    environment
}

/// The whole file.
///
/// # Errors
/// A defect of the template only.
pub fn render(summary: &RunSummary) -> Result<String, minijinja::Error> {
    let mut environment = environment();
    environment.add_filter("seconds", table::seconds);
    environment.add_filter("bytes", table::bytes);
    environment.add_filter("tokens", table_team::tokens);
    environment.add_filter("dollars", table_team::dollars);
    environment.add_filter("per", |part: f64, whole: f64| {
        // Of a bar, for CSS: never NaN, never more than the whole.
        let share = if whole > 0.0 { (100.0 * part / whole).clamp(0.0, 100.0) } else { 0.0 };
        format!("{share:.3}")
    });
    environment.add_filter("fixed", |number: Option<f64>, places: usize| {
        number.map_or_else(|| "–".to_owned(), |number| format!("{number:.places$}"))
    });
    // The name's ending turns escaping on.
    environment.add_template("report.html", include_str!("report.html"))?;
    environment.get_template("report.html")?.render(Serde(View::of(summary)))
}

/// What the template sees.
#[derive(Serialize)]
struct View<'a> {
    run: &'a RunInfo,
    totals: &'a Totals,
    tasks: &'a [TaskSummary],
    failures: Vec<Failure<'a>>,
    failures_left_out: usize,
    rollouts: Vec<Row<'a>>,
    rollouts_left_out: usize,
    /// What teams used, by role; empty without any.
    roles: &'a [RoleSummary],
    /// The sum of that.
    team: Spent,
    trees: Vec<Tree<'a>>,
    trees_left_out: usize,
}

#[derive(Serialize)]
pub(crate) struct Row<'a> {
    pub rollout: &'a RolloutSummary,
    /// Also the CSS class.
    pub ending: &'static str,
    label: String,
    reward: Option<f64>,
    note: &'a str,
    seconds: f64,
}

impl<'a> View<'a> {
    fn of(summary: &'a RunSummary) -> Self {
        let mut rows: Vec<_> = summary.rollouts.iter().map(Row::of).collect();
        let rollouts_left_out = rows.len().saturating_sub(ROLLOUTS_MAX);
        if rollouts_left_out > 0 {
            // What did not pass is what one looks for.
            rows.sort_by_key(|row| row.ending == "passed");
            rows.truncate(ROLLOUTS_MAX);
        }
        let mut failures = summary.failures();
        let failures_left_out = failures.len().saturating_sub(MESSAGES_MAX);
        failures.truncate(MESSAGES_MAX);
        let mut trees: Vec<_> =
            summary.rollouts.iter().filter_map(|rollout| Tree::of(Row::of(rollout))).collect();
        let trees_left_out = trees.len().saturating_sub(TREES_MAX);
        if trees_left_out > 0 {
            trees.sort_by_key(|tree| tree.row.ending == "passed");
            trees.truncate(TREES_MAX);
        }
        let RunSummary { run, totals, tasks, .. } = summary;
        let team = Spent::sum(totals.roles.iter().map(|role| &role.spent));
        Self {
            run,
            totals,
            tasks,
            failures,
            failures_left_out,
            rollouts: rows,
            rollouts_left_out,
            roles: &totals.roles,
            team,
            trees,
            trees_left_out,
        }
    }
}

impl<'a> Row<'a> {
    fn of(rollout: &'a RolloutSummary) -> Self {
        let reward = rollout.outcome.reward();
        let (ending, label) = match &rollout.outcome {
            Outcome::InfrastructureFailure { class, .. } => ("infra", class.to_string()),
            _ if reward.is_some_and(is_pass) => ("passed", "passed".to_owned()),
            Outcome::Graded { .. } => ("failed", "failed".to_owned()),
            Outcome::AgentFailure { failure, .. } => ("agent", agent_label(*failure).to_owned()),
        };
        let note = match &rollout.outcome {
            Outcome::InfrastructureFailure { message, .. } => message,
            _ => rollout.note.as_deref().unwrap_or_default(),
        };
        Self { rollout, ending, label, reward, note, seconds: rollout.phases.total() }
    }
}

fn agent_label(failure: AgentFailure) -> &'static str {
    match failure {
        AgentFailure::TimedOut => "agent timed out",
        AgentFailure::NoFinish => "agent did not finish",
        AgentFailure::TokensUsedUp => "agent used up its tokens",
        AgentFailure::Refused => "agent refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{sample, sample_of_teams};
    use crate::summary_team::AgentSummary;

    #[test]
    fn a_report_has_its_figures_and_needs_nothing_else() {
        let html = render(&sample_of_teams()).unwrap();
        for part in [
            "Look around",
            "15.0k",
            "$3.75",
            "50.0%",
            "fix-permissions",
            "12 min 00 s",
            "cannot pull kernel:6",
            "./trajectories&#x2f;3.1.json",
        ] {
            assert!(html.contains(part), "{part}");
        }
        for fetch in ["http:", "https:", "//cdn", "@import", "url(", "src="] {
            assert!(!html.contains(fetch), "{fetch}");
        }
    }

    #[test]
    fn no_text_from_outside_becomes_markup() {
        let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&lt;</pre>{{ 7*7 }}";
        let mut summary = sample_of_teams();
        summary.run.name = evil.to_owned();
        summary.run.dataset = evil.to_owned();
        summary.run.agent = evil.to_owned();
        summary.run.model = Some(evil.to_owned());
        summary.run.sandbox = evil.to_owned();
        summary.run.command = evil.to_owned();
        summary.run.config = evil.to_owned();
        for task in &mut summary.tasks {
            task.info.name = evil.to_owned();
            task.info.difficulty = Some(evil.to_owned());
            task.info.category = Some(evil.to_owned());
        }
        for rollout in &mut summary.rollouts {
            rollout.task = evil.to_owned();
            rollout.note = Some(evil.to_owned());
            for agent in &mut rollout.agents {
                let AgentSummary { task, title, model, ended, message, .. } = agent;
                for text in [task, title, model, ended, message] {
                    *text = evil.to_owned();
                }
            }
            rollout.trajectory = Some(format!("javascript:alert(3)//{evil}"));
            if let Outcome::InfrastructureFailure { message, .. } = &mut rollout.outcome {
                *message = evil.to_owned();
            }
        }
        let html = render(&summary).unwrap();
        let plain = render(&sample_of_teams()).unwrap();
        let count = |text: &str, what: &str| text.matches(what).count();
        for mark in ["<script", "</script", "</pre", "href=\"javascript"] {
            assert_eq!(count(&html, mark), count(&plain, mark), "{mark}");
        }
        assert_eq!(count(&html, "<img"), 0);
        assert!(count(&html, "&lt;script&gt;alert(1)") >= 20, "the text is still there to be read");
        assert_eq!(count(&html, "49"), count(&plain, "49"), "text is no template");
        let quotes = |text: &str| count(text, "\"") % 2;
        assert_eq!(quotes(&html), 0, "an attribute was left open");
    }

    #[test]
    fn a_large_run_shows_what_did_not_pass_and_says_what_it_left_out() {
        let mut summary = sample();
        let passed = summary.rollouts[0].clone();
        summary
            .rollouts
            .extend((10..4000).map(|rollout| RolloutSummary { rollout, ..passed.clone() }));
        let view = View::of(&summary);
        assert_eq!((view.rollouts.len(), view.rollouts_left_out), (ROLLOUTS_MAX, 1996));
        let not_passed = view.rollouts.iter().filter(|row| row.ending != "passed").count();
        assert_eq!(not_passed, 4);
        assert!(render(&summary).unwrap().contains("1996 more"));
    }

    #[test]
    fn teams_are_shown_agent_by_agent_within_bounds_and_it_says_so() {
        let mut summary = sample_of_teams();
        let passed = summary.rollouts[0].clone();
        let agent = passed.agents[1].clone();
        summary.rollouts[2].agents.extend((3..100).map(|number| AgentSummary {
            agent: number,
            began_sec: 4.0,
            ended_sec: 3.0,
            ..agent.clone()
        }));
        summary
            .rollouts
            .extend((10..300).map(|rollout| RolloutSummary { rollout, ..passed.clone() }));
        let view = View::of(&summary);
        assert_eq!((view.trees.len(), view.trees_left_out), (TREES_MAX, 94));
        assert_eq!(view.trees[0].row.rollout.rollout, 2, "what did not pass comes first");
        assert_eq!((view.trees[0].agents.len(), view.trees[0].agents_left_out), (60, 40));
        let html = render(&summary).unwrap();
        assert!(html.contains("94 more teams") && html.contains("40 more agents"));
        let widths = view.trees[0].agents.iter().map(|leaf| leaf.width);
        assert!(widths.into_iter().all(|width| (0.0..=100.0).contains(&width)));
        assert!(!render(&sample()).unwrap().contains("Teams"), "only where there are any");
    }

    #[test]
    fn a_tree_is_of_the_last_attempt() {
        let summary = sample_of_teams();
        let twice = summary.rollouts.iter().find(|rollout| rollout.attempts == 2).unwrap();
        let tree = Tree::of(Row::of(twice)).unwrap();
        assert_eq!((twice.agents.len(), tree.agents.len()), (6, 3));
        let bars: Vec<_> = tree.agents.iter().map(|leaf| (leaf.left, leaf.width)).collect();
        assert_eq!(bars, [(0.0, 100.0), (20.0, 30.0), (20.0, 70.0)]);
        assert!(Tree::of(Row::of(&sample().rollouts[0])).is_none());
    }

    #[test]
    fn a_run_without_rollouts_has_a_report() {
        let run = sample().run;
        assert!(render(&RunSummary::new(run, Vec::new(), Vec::new())).is_ok());
    }
}
