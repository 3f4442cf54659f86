//! Runs a task's hidden tests in an environment and reads the report they leave.
//!
//! What a `shared` verifier does not protect from: an agent that was root and replaced the programs that the tests
//! use. A task whose tests must not trust the agent's container says `environment_mode = "separate"`.

use std::time::Duration;

use orcapack_tasks::grading::{self, Verdict};
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::task::{Grading, Step, VerifierSpec};

use crate::agent::task_files;
use crate::archive;
use crate::environment::Environment;
use crate::sandbox::{ExecOutput, ExecRequest, Exit, Fetched, SandboxError};

/// Of all artifacts of a step together.
const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

/// What the verifier did and said.
#[derive(Debug)]
pub struct Record {
    pub verdict: Verdict,
    pub output: ExecOutput,
}

/// Cleans up what could mislead the tests, uploads them, runs them, and grades.
///
/// # Errors
/// Only where the infrastructure failed. Tests that fail, crash, hang or leave no report are a verdict.
pub async fn run(
    environment: &Environment,
    spec: &VerifierSpec,
    time_limit: Duration,
    partial: bool,
) -> Result<Record, SandboxError> {
    let cleaned = environment.housekeeping(grading::CLEAN_SCRIPT, Default::default()).await?;
    if !cleaned.exit.success() {
        let message = format!("cannot prepare /tests ({}): {}", cleaned.exit, cleaned.stderr);
        return Err(SandboxError::new(FailureClass::Grader, message));
    }
    environment.put("/tests", task_files(&spec.tests)?).await?;
    let request = ExecRequest {
        env: spec.env.clone(),
        user: spec.user.clone(),
        ..ExecRequest::new(["bash", &spec.script], time_limit)
    };
    let output = environment.exec(request).await?;
    let verdict = match output.exit {
        Exit::OutOfMemory => {
            let message = "the kernel killed the verifier for memory";
            return Err(SandboxError::new(FailureClass::Oom, message));
        }
        Exit::TimedOut => grading::timed_out(time_limit),
        Exit::Code(_) | Exit::Signal(_) => grade(environment, spec, &output, partial).await?,
    };
    Ok(Record { verdict, output })
}

async fn grade(
    environment: &Environment,
    spec: &VerifierSpec,
    output: &ExecOutput,
    partial: bool,
) -> Result<Verdict, SandboxError> {
    match &spec.grading {
        Grading::Pytest { weights } => {
            let weights = partial.then_some(weights).filter(|weights| !weights.is_empty());
            Ok(grading::from_pytest(&output.stdout.to_string(), weights))
        }
        Grading::RewardFile => {
            for name in ["reward.json", "reward.txt"] {
                match environment
                    .get(&format!("/logs/verifier/{name}"), grading::REPORT_BYTES_MAX + (8 << 10))
                    .await?
                {
                    Fetched::Absent => {}
                    Fetched::TooLarge => return Ok(grading::report_too_large(name)),
                    Fetched::Archive(bytes) => {
                        let file = archive::first_file(&bytes).map_err(bad_archive)?;
                        return Ok(grading::from_report(name, file.as_deref()));
                    }
                }
            }
            Ok(grading::from_report("reward.txt", None))
        }
    }
}

/// Takes tests and solution away again, before the agent works on the next step.
pub async fn hide(environment: &Environment) -> Result<(), SandboxError> {
    environment.housekeeping("rm -rf /tests /solution", Default::default()).await.map(drop)
}

/// The declared artifacts of a step, each with the folder that it goes back into.
pub type Artifacts = Vec<(String, Vec<u8>)>;

/// Runs the step's collect commands, stops all processes, and copies the declared artifacts out.
pub async fn collect(environment: &Environment, step: &Step) -> Result<Artifacts, SandboxError> {
    for collect in &step.verifier.collect {
        let request = ExecRequest {
            user: collect.user.clone(),
            ..ExecRequest::new(["bash", "-c", &collect.command], collect.timeout)
        };
        // A command that fails leaves its artifact missing, and that is for the tests to judge.
        environment.exec(request).await?;
    }
    environment.stop_processes().await?;
    let mut artifacts = Artifacts::new();
    let mut left = ARTIFACT_BYTES_MAX;
    for path in &step.artifacts {
        match environment.get(path, left).await? {
            Fetched::Archive(archive) => {
                left = left.saturating_sub(archive.len() as u64);
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                artifacts.push((format!("{parent}/"), archive));
            }
            // The tests see that it is not there.
            Fetched::Absent | Fetched::TooLarge => {}
        }
    }
    Ok(artifacts)
}

/// Puts artifacts into a fresh environment at the paths where they were.
pub async fn put_artifacts(
    environment: &Environment,
    artifacts: Artifacts,
) -> Result<(), SandboxError> {
    for (dir, archive) in artifacts {
        environment.put(&dir, archive).await?;
    }
    Ok(())
}

fn bad_archive(error: std::io::Error) -> SandboxError {
    SandboxError::new(FailureClass::Grader, format!("the report came back unreadable: {error}"))
}
