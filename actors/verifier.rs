//! Runs a task's hidden tests in an environment and reads the report they leave.
//!
//! What a `shared` verifier does not protect from: an agent that was root and replaced the programs
//! that the tests use. A task whose tests must not trust the agent's container says
//! `environment_mode = "separate"`.

use std::time::Duration;

use orcapack_tasks::grading::{self, Scheme, Verdict};
use orcapack_tasks::outcome::FailureClass;
use orcapack_tasks::planted;
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

/// What was in a new environment at the places where an agent could plant something to mislead the
/// tests.
#[derive(Debug)]
pub struct Baseline(Vec<u8>);

/// Makes the folders that agents and verifiers expect, and takes the baseline. The first thing done
/// in an environment.
///
/// # Errors
/// Class `image` where its shell cannot do that much.
pub async fn prepare(environment: &Environment) -> Result<Baseline, SandboxError> {
    const DIRS: &str = "mkdir -p /logs/agent /logs/verifier /logs/artifacts && \
                        chmod 777 /logs /logs/agent /logs/artifacts || exit";
    let script = format!("{DIRS}\n{}", planted::listing_script(""));
    let output = environment.housekeeping(&script).await?;
    if !output.exit.success() {
        let message = format!("cannot make /logs ({}): {}", output.exit, output.stderr);
        return Err(SandboxError::new(FailureClass::Image, message));
    }
    Ok(Baseline(output.stdout.head))
}

/// Cleans up what could mislead the tests, uploads them, runs them, and grades.
///
/// # Errors
/// Only where the infrastructure failed. Tests that fail, crash, hang or leave no report are a
/// verdict.
pub async fn run(
    environment: &Environment,
    baseline: &Baseline,
    spec: &VerifierSpec,
    time_limit: Duration,
    scheme: Scheme,
) -> Result<Record, SandboxError> {
    clean(environment, baseline).await?;
    environment.put("/tests", task_files(&spec.tests)?).await?;
    let request = ExecRequest {
        env: spec.env.clone(),
        user: spec.user.clone(),
        // A pytest summary that is cut is no summary.
        output_bytes_max: 1 << 20,
        ..ExecRequest::new(["bash", &spec.script], time_limit)
    };
    let output = environment.exec(request).await?;
    let verdict = match output.exit {
        Exit::OutOfMemory => {
            let message = "the kernel killed the verifier for memory";
            return Err(SandboxError::new(FailureClass::Oom, message));
        }
        Exit::TimedOut => grading::timed_out(time_limit),
        Exit::Code(_) | Exit::Signal(_) => grade(environment, spec, &output, scheme).await?,
    };
    Ok(Record { verdict, output })
}

/// Empties the folders of tests and reports, and removes what was planted since the baseline.
async fn clean(environment: &Environment, baseline: &Baseline) -> Result<(), SandboxError> {
    let script = planted::cleaning_script("", &baseline.0);
    let output = environment.housekeeping(&script).await?;
    if !output.exit.success() {
        let message = format!("cannot make way for the tests ({}): {}", output.exit, output.stderr);
        return Err(SandboxError::new(FailureClass::Grader, message));
    }
    if !output.stdout.head.is_empty() {
        let planted = output.stdout.to_string().replace('\0', " ");
        tracing::info!(planted, "removed before the tests");
    }
    Ok(())
}

async fn grade(
    environment: &Environment,
    spec: &VerifierSpec,
    output: &ExecOutput,
    scheme: Scheme,
) -> Result<Verdict, SandboxError> {
    match &spec.grading {
        Grading::Pytest { weights } => {
            Ok(grading::pytest(&output.stdout.to_string(), weights, scheme))
        }
        Grading::RewardFile => {
            let json = report(environment, "reward.json").await?;
            let text = match &json {
                None => report(environment, "reward.txt").await?,
                Some(_) => None,
            };
            Ok(grading::reward_file(json.as_deref(), text.as_deref()))
        }
    }
}

/// A report's bytes; for one that is too large just enough of them to be refused as such.
async fn report(environment: &Environment, name: &str) -> Result<Option<Vec<u8>>, SandboxError> {
    let path = format!("/logs/verifier/{name}");
    match environment.get(&path, grading::REWARD_BYTES_MAX + archive::OVERHEAD_BYTES).await? {
        Fetched::Absent => Ok(None),
        Fetched::TooLarge => Ok(Some(vec![0; grading::REWARD_BYTES_MAX as usize + 1])),
        Fetched::Archive(bytes) => archive::file_of(&bytes).map_err(|error| {
            let message = format!("{path} came back unreadable: {error}");
            SandboxError::new(FailureClass::Grader, message)
        }),
    }
}

/// Takes tests and solution away again, before the agent works on the next step.
pub async fn hide(environment: &Environment) -> Result<(), SandboxError> {
    environment.housekeeping("rm -rf /tests /solution").await.map(drop)
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
