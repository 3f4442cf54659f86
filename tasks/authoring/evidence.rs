//! What came of trying a task: admission's verdict, what it is too much like, and how each trial
//! ended.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::admission::{self, Admission, Trial, TrialKind};
use crate::grading::is_pass;
use crate::outcome::Outcome;

/// What is known of a task as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Why it is not admitted; none where it is.
    pub reasons: Vec<String>,
    /// What it is too much like.
    pub findings: Vec<String>,
    pub trials: Vec<Seen>,
}

/// One trial, as an author is shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub trial: String,
    pub outcome: String,
    /// The end of its log; empty where it is like another one's.
    pub log: String,
}

impl Evidence {
    /// Of all trials, each with the end of its log. `needed` are those that admission asked for.
    pub fn of(needed: &[TrialKind], done: Vec<(Trial, String)>, findings: Vec<String>) -> Self {
        let trials: Vec<Trial> = done.iter().map(|(trial, _)| trial.clone()).collect();
        let reasons = match admission::admit(needed, &trials) {
            Admission::Admitted => Vec::new(),
            Admission::Quarantined(reasons) => reasons.iter().map(ToString::to_string).collect(),
        };
        let mut trials: Vec<Seen> = Vec::with_capacity(done.len());
        for (Trial { kind, outcome }, log) in done {
            let (trial, outcome) = (kind.to_string(), outcome_text(&outcome));
            let is_known = trials.iter().any(|it| it.trial == trial && it.outcome == outcome);
            trials.push(Seen { trial, outcome, log: if is_known { String::new() } else { log } });
        }
        Self { reasons, findings, trials }
    }

    /// Whether nothing stands in the way of accepting it.
    pub fn is_clean(&self) -> bool {
        self.reasons.is_empty() && self.findings.is_empty()
    }

    /// All that stands in the way.
    pub fn against(&self) -> Vec<String> {
        [&self.reasons[..], &self.findings[..]].concat()
    }

    /// As its reviewer reads it.
    pub(super) fn text(&self) -> String {
        let mut text = if self.reasons.is_empty() {
            "Admitted: doing nothing fails, the solution passed every time, the known wrong \
             solutions fail.\n"
                .to_owned()
        } else {
            format!("Not admitted:\n{}", list(&self.reasons))
        };
        if !self.findings.is_empty() {
            let _ = write!(text, "\nToo much like another task:\n{}", list(&self.findings));
        }
        for Seen { trial, outcome, log } in &self.trials {
            let _ = write!(text, "\n## {trial}: {outcome}\n");
            if !log.is_empty() {
                let _ = write!(text, "\n{}\n", log.trim_end());
            }
        }
        text
    }
}

/// A line for each.
pub fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {item}\n")).collect()
}

fn outcome_text(outcome: &Outcome) -> String {
    let passed = |reward: f64| match is_pass(reward) {
        true => "passed".to_owned(),
        false => format!("failed with reward {reward}"),
    };
    match outcome {
        Outcome::Graded { reward } => passed(*reward),
        Outcome::AgentFailure { failure, reward } => {
            format!("{} ({})", passed(*reward), failure.as_str())
        }
        Outcome::InfrastructureFailure { class, message } => format!("lost ({class}): {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::FailureClass;

    fn done(kind: TrialKind, outcome: Outcome) -> (Trial, String) {
        (Trial { kind, outcome }, "the log\n".to_owned())
    }

    #[test]
    fn evidence_says_what_admission_says_and_shows_each_log_once() {
        let graded = |reward| Outcome::Graded { reward };
        let needed = [TrialKind::Nop, TrialKind::Oracle, TrialKind::Oracle];
        let trials = vec![
            done(TrialKind::Nop, graded(0.0)),
            done(TrialKind::Oracle, graded(1.0)),
            done(TrialKind::Oracle, graded(1.0)),
        ];
        let clean = Evidence::of(&needed, trials.clone(), Vec::new());
        assert!(clean.is_clean());
        let text = clean.text();
        assert!(text.starts_with("Admitted: "), "{text}");
        assert_eq!(text.matches("the log").count(), 2, "{text}");
        assert!(text.contains("## nop: failed with reward 0\n\nthe log\n"), "{text}");

        let found = Evidence::of(&needed, trials, vec!["it has the name of a/b".to_owned()]);
        assert!(!found.is_clean());
        assert!(found.text().contains("Too much like another task:\n- it has the name of a/b\n"));
    }

    #[test]
    fn a_lost_trial_and_one_that_was_not_run_are_against_it() {
        let (class, message) = (FailureClass::Image, "RUN false: exit 1".to_owned());
        let lost = done(TrialKind::Nop, Outcome::InfrastructureFailure { class, message });
        let evidence = Evidence::of(&[TrialKind::Nop, TrialKind::Oracle], vec![lost], Vec::new());
        assert_eq!(
            evidence.against(),
            [
                "could not be checked: nop ended in image: RUN false: exit 1",
                "could not be checked: oracle was not run",
            ]
        );
        assert!(evidence.text().contains("## nop: lost (image): RUN false: exit 1\n"));
    }
}
