//! Whether a task can be trusted to grade anyone: the rule over trials that were really run.
//!
//! A task that an agent solves by doing nothing, that its own solution does not solve every time,
//! or that a known wrong solution solves, teaches and measures nothing: it is quarantined, with the
//! reasons. A trial that the infrastructure lost says nothing about the task, and a task is never
//! admitted on what was not seen.

use std::fmt;

use bincode::{Decode, Encode};

use crate::grading::is_pass;
use crate::outcome::{FailureClass, Outcome};
use crate::task::Task;

/// How often a task's own solution must solve it, without a miss.
pub const ORACLE_TRIALS: usize = 3;

/// Who works on the task in a trial.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TrialKind {
    /// Nobody.
    Nop,
    /// The task's solution.
    Oracle,
    /// A wrong solution that comes with the task, by its name.
    KnownBad(String),
}

/// One trial that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub kind: TrialKind,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    Admitted,
    /// Never empty.
    Quarantined(Vec<Reason>),
}

/// Why a task is kept out.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The tests pass on the untouched environment.
    NopPassed,
    /// Of `trials` trials of the solution, `passed` passed.
    OracleFailed { passed: usize, trials: usize },
    /// The tests do not see what is wrong with it.
    KnownBadPassed { name: String },
    /// An infrastructure failure: nothing is known about the task.
    NotChecked { trial: TrialKind, class: FailureClass, message: String },
    /// The trial was not run.
    NotRun { trial: TrialKind },
}

/// The trials that a task needs, each as often as it is to be run.
pub fn trials(task: &Task) -> Vec<TrialKind> {
    let mut trials = vec![TrialKind::Nop];
    if task.has_solution() {
        trials.extend([const { TrialKind::Oracle }; ORACLE_TRIALS]);
    }
    trials.extend(task.known_bad.iter().map(|(name, _)| TrialKind::KnownBad(name.clone())));
    trials
}

/// The rule. `needed` is what [`trials`] asked for; `done` is what was run, in any order.
///
/// More trials than needed are all counted. Of one trial run again after an infrastructure failure,
/// the caller gives the last outcome.
pub fn admit(needed: &[TrialKind], done: &[Trial]) -> Admission {
    let mut reasons = Vec::new();
    let mut kinds: Vec<&TrialKind> = needed.iter().chain(done.iter().map(|t| &t.kind)).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        let outcomes = || done.iter().filter(|trial| trial.kind == *kind).map(|t| &t.outcome);
        for outcome in outcomes() {
            if let Outcome::InfrastructureFailure { class, message } = outcome {
                let (trial, message) = (kind.clone(), message.clone());
                reasons.push(Reason::NotChecked { trial, class: *class, message });
            }
        }
        let rewards: Vec<f64> = outcomes().filter_map(Outcome::reward).collect();
        let passed = rewards.iter().filter(|reward| is_pass(**reward)).count();
        match kind {
            TrialKind::Nop if passed > 0 => reasons.push(Reason::NopPassed),
            TrialKind::KnownBad(name) if passed > 0 => {
                reasons.push(Reason::KnownBadPassed { name: name.clone() });
            }
            TrialKind::Oracle if passed < rewards.len() => {
                reasons.push(Reason::OracleFailed { passed, trials: rewards.len() });
            }
            _ => {}
        }
        let wanted = needed.iter().filter(|needed| *needed == kind).count();
        for _ in outcomes().count()..wanted {
            reasons.push(Reason::NotRun { trial: kind.clone() });
        }
    }
    if reasons.is_empty() { Admission::Admitted } else { Admission::Quarantined(reasons) }
}

impl fmt::Display for TrialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nop => f.write_str("nop"),
            Self::Oracle => f.write_str("oracle"),
            Self::KnownBad(name) => write!(f, "known-bad {name}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NopPassed => f.write_str("the tests pass when nothing is done"),
            Self::OracleFailed { passed, trials } => {
                write!(f, "the task's own solution passed {passed} of {trials}")
            }
            Self::KnownBadPassed { name } => {
                write!(f, "the tests pass on the wrong solution {name}")
            }
            Self::NotChecked { trial, class, message } => {
                write!(f, "could not be checked: {trial} ended in {class}: {message}")
            }
            Self::NotRun { trial } => write!(f, "could not be checked: {trial} was not run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::file_tree::{Digest, FileTree};
    use crate::task::{
        AgentSpec, EnvironmentSpec, Format, Grading, ImageSource, NetworkPolicy, RewardStrategy,
        Solution, Step, VerifierMode, VerifierSpec,
    };

    const FAIL: Outcome = Outcome::Graded { reward: 0.0 };
    const PASS: Outcome = Outcome::Graded { reward: 1.0 };

    fn lost() -> Outcome {
        Outcome::InfrastructureFailure { class: FailureClass::Image, message: "no disk".to_owned() }
    }

    fn bad() -> TrialKind {
        TrialKind::KnownBad("lazy".to_owned())
    }

    fn needed() -> Vec<TrialKind> {
        vec![TrialKind::Nop, TrialKind::Oracle, TrialKind::Oracle, TrialKind::Oracle, bad()]
    }

    /// The outcomes of the needed trials, in order.
    fn decided(outcomes: [Outcome; 5]) -> Vec<String> {
        let done: Vec<_> = needed()
            .into_iter()
            .zip(outcomes)
            .map(|(kind, outcome)| Trial { kind, outcome })
            .collect();
        match admit(&needed(), &done) {
            Admission::Admitted => Vec::new(),
            Admission::Quarantined(reasons) => reasons.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_task_is_admitted_when_only_its_solution_passes_and_every_time() {
        assert!(decided([FAIL, PASS, PASS, PASS, FAIL]).is_empty());
    }

    #[test]
    fn every_reason_is_given() {
        let want = [
            "the tests pass when nothing is done",
            "the task's own solution passed 2 of 3",
            "the tests pass on the wrong solution lazy",
        ];
        assert_eq!(decided([PASS, PASS, FAIL, PASS, PASS]), want);
    }

    #[test]
    fn a_partial_reward_of_nop_is_no_pass_and_of_the_oracle_neither() {
        let half = Outcome::Graded { reward: 0.5 };
        assert!(decided([half.clone(), PASS, PASS, PASS, half.clone()]).is_empty());
        let want = ["the task's own solution passed 2 of 3"];
        assert_eq!(decided([FAIL, PASS, PASS, half, FAIL]), want);
    }

    #[test]
    fn an_infrastructure_failure_is_a_reason_of_its_own_and_no_failure_of_the_task() {
        let want = ["could not be checked: nop ended in image: no disk"];
        assert_eq!(decided([lost(), PASS, PASS, PASS, FAIL]), want);
        let want = ["could not be checked: oracle ended in image: no disk"];
        assert_eq!(decided([FAIL, PASS, lost(), PASS, FAIL]), want);
        let want = ["could not be checked: known-bad lazy ended in image: no disk"];
        assert_eq!(decided([FAIL, PASS, PASS, PASS, lost()]), want);
    }

    /// A plain task, with a solution or without, and one wrong solution.
    fn task(solution: Option<Solution>) -> Task {
        let step = Step {
            name: String::new(),
            instruction: String::new(),
            agent: AgentSpec { timeout: Duration::ZERO, user: None },
            verifier: VerifierSpec {
                timeout: Duration::ZERO,
                user: None,
                env: BTreeMap::new(),
                mode: VerifierMode::Shared,
                tests: FileTree::default(),
                script: String::new(),
                grading: Grading::RewardFile,
                collect: Vec::new(),
            },
            solution,
            workdir_files: FileTree::default(),
            healthcheck: None,
            min_reward: None,
            artifacts: Vec::new(),
        };
        Task {
            name: String::new(),
            source: PathBuf::new(),
            format: Format::Orca,
            digest: Digest([0; 32]),
            description: String::new(),
            difficulty: None,
            category: None,
            tags: Vec::new(),
            environment: EnvironmentSpec {
                image: ImageSource::Prebuilt(String::new()),
                build_timeout: Duration::ZERO,
                cpus: None,
                memory_mb: None,
                storage_mb: None,
                env: BTreeMap::new(),
                workdir: None,
                network: NetworkPolicy::None,
                healthcheck: None,
            },
            steps: vec![step],
            reward_strategy: RewardStrategy::Mean,
            known_bad: vec![("lazy".to_owned(), FileTree::default())],
            keep_processes: false,
        }
    }

    #[test]
    fn a_task_without_a_solution_is_admitted_on_what_must_fail_alone() {
        let solution = Solution { files: FileTree::default(), env: BTreeMap::new() };
        assert_eq!(trials(&task(Some(solution))), needed());
        let without = trials(&task(None));
        assert_eq!(without, [TrialKind::Nop, bad()]);
        let done = without.iter().map(|kind| Trial { kind: kind.clone(), outcome: FAIL });
        assert_eq!(admit(&without, &done.collect::<Vec<_>>()), Admission::Admitted);
    }

    proptest! {
        /// Whatever is taken away from the evidence, the task is not admitted on the rest.
        #[test]
        fn nothing_is_admitted_on_trials_that_were_not_run(missing in 0_usize..5) {
            let outcomes = [FAIL, PASS, PASS, PASS, FAIL];
            let mut done: Vec<_> = needed().into_iter().zip(outcomes)
                .map(|(kind, outcome)| Trial { kind, outcome }).collect();
            let gone = done.remove(missing);
            let want = Admission::Quarantined(vec![Reason::NotRun { trial: gone.kind }]);
            prop_assert_eq!(admit(&needed(), &done), want);
        }

        #[test]
        fn the_order_of_trials_is_of_no_matter(
            outcomes in prop::collection::vec(prop::sample::select(vec![FAIL, PASS, lost()]), 5),
            order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(),
        ) {
            let done: Vec<_> = needed().into_iter().zip(outcomes)
                .map(|(kind, outcome)| Trial { kind, outcome }).collect();
            let shuffled: Vec<_> = order.iter().map(|i| done[*i].clone()).collect();
            prop_assert_eq!(admit(&needed(), &done), admit(&needed(), &shuffled));
        }
    }
}
