//! How the program ends: the documented exit codes, and the one message that goes with a failure.

use std::fmt::Write as _;
use std::process::ExitCode;

/// The exit codes. Scripts rely on them, so a code is never given a second meaning.
///
/// | code | meaning |
/// |---|---|
/// | 0 | done: every rollout ended with a graded record, whatever its reward; every task admitted |
/// | 1 | internal error: a defect of Orcapack |
/// | 2 | bad input: usage, configuration, or tasks |
/// | 3 | some rollouts ended as infrastructure failures |
/// | 4 | no sandbox available: the engine does not answer, or the host cannot isolate |
/// | 5 | run directory in use, or its name taken |
/// | 6 | some tasks quarantined (`tasks check`), or fewer than asked for (`tasks generate`) |
/// | 7 | a node of the cluster does not answer, or does not trust us |
/// | 8 | this node was fenced: a newer process has its identity |
/// | 9 | training stopped: a value not finite, no rank left, or samplers without weights |
/// | 130 | interrupted, and drained: `--resume` runs what is missing |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Internal = 1,
    BadInput = 2,
    InfrastructureFailures = 3,
    NoSandbox = 4,
    RunTaken = 5,
    Quarantined = 6,
    Unreachable = 7,
    Fenced = 8,
    TrainingStopped = 9,
    Interrupted = 130,
}

impl Exit {
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Internal,
        Self::BadInput,
        Self::InfrastructureFailures,
        Self::NoSandbox,
        Self::RunTaken,
        Self::Quarantined,
        Self::Unreachable,
        Self::Fenced,
        Self::TrainingStopped,
        Self::Interrupted,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    /// As in the table above.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "done: every rollout ended with a graded record, whatever its reward; \
                 every task admitted"
            }
            Self::Internal => "internal error: a defect of Orcapack",
            Self::BadInput => "bad input: usage, configuration, or tasks",
            Self::InfrastructureFailures => "some rollouts ended as infrastructure failures",
            Self::NoSandbox => {
                "no sandbox available: the engine does not answer, or the host cannot isolate"
            }
            Self::RunTaken => "run directory in use, or its name taken",
            Self::Quarantined => {
                "some tasks quarantined (`tasks check`), or fewer than asked for (`tasks generate`)"
            }
            Self::Unreachable => "a node of the cluster does not answer, or does not trust us",
            Self::Fenced => "this node was fenced: a newer process has its identity",
            Self::TrainingStopped => {
                "training stopped: a value not finite, no rank left, or samplers without weights"
            }
            Self::Interrupted => "interrupted, and drained: `--resume` runs what is missing",
        }
    }

    /// Of a process that has ended with this code; one that has none was killed.
    pub fn of_code(code: Option<i32>) -> Self {
        let known = Self::ALL.into_iter().find(|exit| code == Some(i32::from(exit.code())));
        known.unwrap_or(Self::Internal)
    }

    /// The whole table as plain text, for `--help`.
    pub fn table() -> String {
        let mut text = String::from("Exit codes:\n");
        for exit in Self::ALL {
            let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do its work: what the user reads on standard error, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: Exit,
    /// Whole and fit to be shown, without a prefix such as `error:`.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }
}

impl From<orcapack_tasks::Defects> for Failure {
    /// All the defects, one on each line.
    fn from(defects: orcapack_tasks::Defects) -> Self {
        Self::bad_input(defects.to_string())
    }
}

impl From<orcapack_tasks::Defect> for Failure {
    fn from(defect: orcapack_tasks::Defect) -> Self {
        Self::bad_input(defect.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_table_is_the_enum() {
        let source = include_str!("exit.rs");
        let documented: Vec<String> = source
            .lines()
            .filter_map(|line| line.strip_prefix("/// | "))
            .filter(|row| row.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
            .collect();
        let enumerated: Vec<String> =
            Exit::ALL.iter().map(|e| format!("{} | {} |", e.code(), e.meaning())).collect();
        assert_eq!(documented, enumerated);
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes = Exit::ALL.map(Exit::code).to_vec();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }
}
