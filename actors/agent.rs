//! Who solves the task: the agents that need no model, and what any agent leaves.

use std::fmt;
use std::time::Duration;

use orcapack_tasks::FileTree;
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::outcome::{AgentFailure, FailureClass};
use orcapack_tasks::task::{Step, Task};

use crate::archive;
use crate::environment::Environment;
use crate::sandbox::{ExecOutput, ExecRequest, Exit, SandboxError};
use crate::team::record::{AgentEnd, ForcedBy, TeamRun};

/// Who solves a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Solver {
    /// A script of the task's own, or nobody.
    Trial(TrialKind),
    /// Models, as the node's plan for the team says.
    Team,
}

/// What an agent did with one step of a task.
#[derive(Debug, Default)]
pub enum AgentRun {
    #[default]
    Nothing,
    /// What it ran, and how that ended.
    Script {
        command: String,
        output: ExecOutput,
    },
    Team(Box<TeamRun>),
}

impl AgentRun {
    pub fn timed_out(&self) -> bool {
        self.failure() == Some(AgentFailure::TimedOut)
    }

    /// Why the agent did not end as it should have; it is graded all the same.
    pub fn failure(&self) -> Option<AgentFailure> {
        match self {
            Self::Nothing => None,
            Self::Script { output, .. } => {
                (output.exit == Exit::TimedOut).then_some(AgentFailure::TimedOut)
            }
            Self::Team(run) => team_failure(&run.end),
        }
    }

    /// Worth telling the user although the verifier has the last word.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Script { output, .. } => (!output.exit.success())
                .then(|| format!("the agent's script ended with {}", output.exit)),
            Self::Team(run) => match &run.end {
                AgentEnd::Finished { .. } => None,
                AgentEnd::Forced { by, .. } => Some(format!("told to finish: {by}")),
                AgentEnd::Synthetic { by, .. } => Some(format!("the team did not finish: {by}")),
                AgentEnd::Refused { message } => Some(format!("the model refused: {message}")),
                AgentEnd::Failed { message } => Some(format!("the team failed: {message}")),
                AgentEnd::Cancelled => Some("the team was cancelled".to_owned()),
            },
        }
    }
}

/// What it says of the team that its orchestrator ended so. A failed one is an error of the
/// attempt, and so is none here.
fn team_failure(end: &AgentEnd) -> Option<AgentFailure> {
    match end {
        // Who was told to finish, and did, has kept within its budget.
        AgentEnd::Finished { .. } | AgentEnd::Forced { .. } => None,
        AgentEnd::Failed { .. } | AgentEnd::Cancelled => None,
        AgentEnd::Refused { .. } => Some(AgentFailure::Refused),
        AgentEnd::Synthetic { by, .. } => Some(match by {
            ForcedBy::TokensUsedUp => AgentFailure::TokensUsedUp,
            ForcedBy::DeadlineNear => AgentFailure::TimedOut,
            ForcedBy::ParseErrors
            | ForcedBy::NoActions
            | ForcedBy::TurnsUsedUp
            | ForcedBy::ContextFull => AgentFailure::NoFinish,
        }),
    }
}

/// Lets an agent that needs no model work on one step, within `time_limit`.
///
/// # Errors
/// Only when the environment failed, or a file of the task cannot be read any more.
pub async fn run(
    trial: &TrialKind,
    task: &Task,
    step: &Step,
    environment: &Environment,
    time_limit: Duration,
) -> Result<AgentRun, SandboxError> {
    let (files, env) = match trial {
        TrialKind::Nop => return Ok(AgentRun::Nothing),
        TrialKind::Oracle => match &step.solution {
            Some(solution) => (&solution.files, solution.env.clone()),
            None => return Err(lacks(trial)),
        },
        TrialKind::KnownBad(name) => match task.known_bad.iter().find(|(bad, _)| bad == name) {
            Some((_, files)) => (files, Default::default()),
            None => return Err(lacks(trial)),
        },
    };
    environment.put("/solution", task_files(files)?).await?;
    let request = ExecRequest {
        env,
        user: step.agent.user.clone(),
        ..ExecRequest::new(["bash", "/solution/solve.sh"], time_limit)
    };
    let command = request.argv.join(" ");
    let output = environment.exec(request).await?;
    Ok(AgentRun::Script { command, output })
}

/// The archive of a task's files.
pub(crate) fn task_files(tree: &FileTree) -> Result<Vec<u8>, SandboxError> {
    archive::of_tree(tree).map_err(|error| unreadable(&error))
}

pub(crate) fn unreadable(error: &std::io::Error) -> SandboxError {
    SandboxError::new(FailureClass::Internal, format!("cannot read the task's files: {error}"))
}

impl fmt::Display for Solver {
    /// The name in ledgers and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trial(trial) => trial.fmt(f),
            Self::Team => f.write_str("team"),
        }
    }
}

/// Plans give nobody a trial that the task has no script for.
fn lacks(trial: &TrialKind) -> SandboxError {
    SandboxError::new(FailureClass::Internal, format!("the task has no script for {trial}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_team_has_failed_only_where_nobody_finished_for_it() {
        let message = String::new;
        let table = [
            (AgentEnd::Finished { message: message() }, None),
            (AgentEnd::Forced { by: ForcedBy::TurnsUsedUp, message: message() }, None),
            (AgentEnd::Forced { by: ForcedBy::ContextFull, message: message() }, None),
            (synthetic(ForcedBy::TurnsUsedUp), Some(AgentFailure::NoFinish)),
            (synthetic(ForcedBy::ContextFull), Some(AgentFailure::NoFinish)),
            (synthetic(ForcedBy::TokensUsedUp), Some(AgentFailure::TokensUsedUp)),
            (synthetic(ForcedBy::DeadlineNear), Some(AgentFailure::TimedOut)),
            (AgentEnd::Refused { message: message() }, Some(AgentFailure::Refused)),
        ];
        for (end, failure) in table {
            let (settings, record, end) = (Arc::default(), Vec::new(), end);
            let run = TeamRun { settings, record, end: end.clone() };
            let run = AgentRun::Team(Box::new(run));
            assert_eq!(run.failure(), failure, "{end:?}");
            assert_eq!(run.note().is_some(), !matches!(end, AgentEnd::Finished { .. }), "{end:?}");
        }
    }

    fn synthetic(by: ForcedBy) -> AgentEnd {
        AgentEnd::Synthetic { by, message: String::new() }
    }
}
