//! Who solves the task: the agents that need no model.

use std::fmt;
use std::time::Duration;

use orcapack_tasks::FileTree;
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::{Step, Task};

use crate::archive;
use crate::environment::Environment;
use crate::sandbox::{ExecOutput, ExecRequest, Exit, SandboxError};

/// Which agent an evaluation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentKind {
    /// Runs the task's own solution.
    Oracle,
    /// Does nothing.
    Nop,
    /// Runs one of the task's known-bad solutions: sample `i` runs number `i` modulo their count.
    KnownBad,
}

impl AgentKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Nop => "nop",
            Self::KnownBad => "known-bad",
        }
    }

    /// Why this agent cannot be asked to solve `task`, if so.
    pub fn lacks(self, task: &Task) -> Option<&'static str> {
        match self {
            Self::Oracle if !task.has_solution() => Some("a solution"),
            Self::KnownBad if task.known_bad.is_empty() => Some("known-bad solutions"),
            _ => None,
        }
    }
}

impl fmt::Display for AgentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    kind: AgentKind,
    task: &Task,
    step: &Step,
    sample: u32,
    environment: &Environment,
    time_limit: Duration,
) -> Result<AgentRun, SandboxError> {
    let (files, env) = match kind {
        AgentKind::Nop => return Ok(AgentRun::default()),
        AgentKind::Oracle => match &step.solution {
            Some(solution) => (&solution.files, solution.env.clone()),
            None => return Ok(AgentRun::default()),
        },
        AgentKind::KnownBad => match known_bad(task, sample) {
            Some(files) => (files, Default::default()),
            None => return Ok(AgentRun::default()),
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

fn known_bad(task: &Task, sample: u32) -> Option<&FileTree> {
    let index = (sample as usize).checked_rem(task.known_bad.len())?;
    task.known_bad.get(index).map(|(_, files)| files)
}
