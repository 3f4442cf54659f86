//! Who solves the task: the agents that need no model.

use std::time::Duration;

use orcapack_tasks::FileTree;
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::{Step, Task};

use crate::archive;
use crate::environment::Environment;
use crate::sandbox::{ExecOutput, ExecRequest, Exit, SandboxError};

/// What an agent did with one step of a task.
#[derive(Debug, Default)]
pub struct AgentRun {
    /// What it ran, and how that ended; `None`: it did nothing.
    pub command: Option<(String, ExecOutput)>,
}

impl AgentRun {
    pub fn timed_out(&self) -> bool {
        matches!(&self.command, Some((_, output)) if output.exit == Exit::TimedOut)
    }

    /// Worth telling the user although the verifier has the last word.
    pub fn note(&self) -> Option<String> {
        let (_, output) = self.command.as_ref()?;
        (!output.exit.success()).then(|| format!("the agent's script ended with {}", output.exit))
    }
}

/// Lets the agent work on one step, within `time_limit`.
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
        TrialKind::Nop => return Ok(AgentRun::default()),
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
    Ok(AgentRun { command: Some((command, output)) })
}

/// The archive of a task's files.
pub(crate) fn task_files(tree: &FileTree) -> Result<Vec<u8>, SandboxError> {
    archive::of_tree(tree).map_err(|error| {
        SandboxError::new(FailureClass::Internal, format!("cannot read the task's files: {error}"))
    })
}

/// Plans give nobody a trial that the task has no script for.
fn lacks(trial: &TrialKind) -> SandboxError {
    SandboxError::new(FailureClass::Internal, format!("the task has no script for {trial}"))
}
