//! What is kept of an attempt that has ended: its outcome and figures for the ledger, an ATIF
//! trajectory, and a readable log. It is made where the attempt was run, so that the coordinator of
//! many nodes has only to write it down.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bincode::{Decode, Encode};
use orcapack_actors::agent::AgentRun;
use orcapack_actors::attempt::{Assignment, AttemptReport, StepRecord, TeamStep, Unfinished};
use orcapack_actors::phase::Phase;
use orcapack_actors::sandbox::ExecOutput;
use orcapack_actors::team::figures;
use orcapack_tasks::outcome::Outcome;
use orcapack_tasks::task::Step as TaskStep;
use orcapack_tasks::trajectory::{
    Agent, Observation, ObservationResult, Source, Step, ToolCall, Trajectory,
};
use serde_json::json;

use crate::record_team::{self, Place};
use crate::store::Details;
use crate::summary_team::AgentSummary;

/// An attempt that has ended, whole.
#[derive(Clone, Debug, Encode, Decode)]
pub struct AttemptRecord {
    pub rollout: u32,
    pub attempt: u32,
    pub fence: u64,
    pub outcome: Outcome,
    pub details: Details,
    /// `None` where no files are kept.
    pub files: Option<RecordFiles>,
}

/// As they are to lie in the run's directory.
#[derive(Clone, Debug, Encode, Decode)]
pub struct RecordFiles {
    pub log: Vec<u8>,
    /// `None` where nothing was begun.
    pub trajectory: Option<Vec<u8>>,
}

/// Where the files of a run's attempts go.
#[derive(Clone, Debug)]
pub struct Folders {
    pub trajectories: PathBuf,
    pub logs: PathBuf,
}

/// The name of an attempt's trajectory in the folder of trajectories.
pub fn trajectory_name(rollout: u32, attempt: u32) -> String {
    format!("{rollout}.{attempt}.json")
}

impl AttemptRecord {
    /// With files if `keep_files`; `run` is the run's id, which is the session of all its
    /// trajectories.
    pub fn of(report: &AttemptReport, run: &str, keep_files: bool) -> Self {
        let Assignment { rollout, attempt, fence, .. } = report.assignment;
        Self {
            rollout,
            attempt,
            fence,
            outcome: report.outcome.clone(),
            details: Details {
                started: report.started,
                wall: report.wall,
                phases: report.phases,
                note: report.note.clone(),
                agents: agents(report),
            },
            files: keep_files.then(|| files(report, run)),
        }
    }
}

impl Folders {
    /// Where the files of a record go, for the ledger's writer to write before it commits the
    /// attempt's end.
    pub fn files(&self, record: &mut AttemptRecord) -> Vec<(PathBuf, Vec<u8>)> {
        let Some(RecordFiles { log, trajectory }) = record.files.take() else { return Vec::new() };
        let (rollout, attempt) = (record.rollout, record.attempt);
        let mut files = vec![(self.logs.join(format!("attempt_{rollout}.{attempt}.log")), log)];
        let path = self.trajectories.join(trajectory_name(rollout, attempt));
        files.extend(trajectory.map(|bytes| (path, bytes)));
        files
    }
}

/// Who worked on each step, where a team did.
fn agents(report: &AttemptReport) -> Vec<AgentSummary> {
    let attempt = report.assignment.attempt;
    let of_step = |team: TeamStep<'_>| {
        let agents = figures::agents(&team.run.record).into_iter();
        agents.map(move |agent| AgentSummary::of(attempt, team.step, &agent))
    };
    report.teams().flat_map(of_step).collect()
}

fn files(report: &AttemptReport, run: &str) -> RecordFiles {
    let begun = !report.steps.is_empty() || report.unfinished.is_some();
    let trajectory = begun.then(|| {
        let Assignment { rollout, attempt, .. } = report.assignment;
        let json = trajectory(report, run).to_json(trajectory_name(rollout, attempt).as_ref());
        // It would be a defect of ours; the attempt itself counts all the same.
        json.inspect_err(|defects| tracing::error!(%defects, "a trajectory was not written")).ok()
    });
    RecordFiles { log: log_text(report).into_bytes(), trajectory: trajectory.flatten() }
}

fn trajectory(report: &AttemptReport, run: &str) -> Trajectory {
    let assignment = &report.assignment;
    let id = format!("{}.{}", assignment.rollout, assignment.attempt);
    let agent = Agent {
        name: assignment.agent.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model_name: None,
        tool_definitions: None,
        extra: None,
    };
    let mut trajectory = Trajectory::new(run, &id, agent);
    for (step, record) in assignment.task.steps.iter().zip(&report.steps) {
        if !matches!(record.agent, AgentRun::Team(_)) {
            append_step(&mut trajectory, step, record);
        }
    }
    for TeamStep { step, started, run } in report.teams() {
        let instruction = assignment.task.steps.get(step).map_or("", |step| &step.instruction);
        let Assignment { rollout, attempt, .. } = *assignment;
        let place = Place { rollout, attempt, step: step as u32, started };
        record_team::append(&mut trajectory, instruction, run, place);
    }
    trajectory.notes.clone_from(&report.note);
    trajectory.total();
    trajectory
}

/// To the millisecond, and of the same length whatever the time.
pub(crate) fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|_| String::new(), |timestamp| format!("{timestamp:.3}"))
}

fn append_step(trajectory: &mut Trajectory, step: &TaskStep, record: &StepRecord) {
    let timestamp = timestamp(record.started);
    trajectory.append(Step::new(Source::User, &timestamp, &step.instruction));
    let AgentRun::Script { command, output } = &record.agent else { return };
    let acted = trajectory.append(Step::new(Source::Agent, timestamp, ""));
    let call = format!("call_{}", acted.step_id);
    let arguments = json!({ "cmd": command }).as_object().cloned().unwrap_or_default();
    acted.tool_calls = vec![ToolCall {
        tool_call_id: call.clone(),
        function_name: "bash".into(),
        arguments,
        extra: None,
    }];
    let result = ObservationResult {
        source_call_id: Some(call),
        content: Some(output_text(output)),
        ..ObservationResult::default()
    };
    acted.observation = Some(Observation { results: vec![result] });
}

fn log_text(report: &AttemptReport) -> String {
    let assignment = &report.assignment;
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(text, "task     {}", assignment.task.name);
    let _ = writeln!(text, "agent    {}", assignment.agent);
    let _ = writeln!(text, "attempt  {} of rollout {}", assignment.attempt, assignment.rollout);
    let _ = writeln!(text, "outcome  {:?}", report.outcome);
    if let Some(note) = &report.note {
        let _ = writeln!(text, "note     {note}");
    }
    let phases = Phase::ALL
        .map(|phase| format!("{} {:.3}", phase.as_str(), report.phases.get(phase).as_secs_f64()));
    let wall = report.wall.as_secs_f64();
    let _ = writeln!(text, "seconds  {wall:.3} = {}", phases.join(" + "));
    for (step, record) in assignment.task.steps.iter().zip(&report.steps) {
        let name = if step.name.is_empty() { "" } else { &step.name };
        if let AgentRun::Script { command, output } = &record.agent {
            let _ = write!(text, "\n--- {name} agent: {command}\n{}", output_text(output));
        }
        if let AgentRun::Team(run) = &record.agent {
            let _ = write!(text, "\n--- {name} agent: a team\n{}", record_team::log_text(run));
        }
        let output = &record.verifier.output;
        let script = Path::new(&step.verifier.script).display();
        let _ = write!(text, "\n--- {name} verifier: {script}\n{}", output_text(output));
        let _ = writeln!(text, "\n--- {name} rewards: {:?}", record.verifier.verdict.rewards);
    }
    if let Some(Unfinished { run, .. }) = &report.unfinished {
        let _ = write!(text, "\n--- unfinished: a team\n{}", record_team::log_text(run));
    }
    text
}

fn output_text(output: &ExecOutput) -> String {
    let mut text = output.stdout.to_string();
    let stderr = output.stderr.to_string();
    if !stderr.is_empty() {
        let _ = write!(text, "[stderr]\n{stderr}");
    }
    let _ = write!(text, "[{} after {:.3} s]", output.exit, output.elapsed.as_secs_f64());
    text
}
