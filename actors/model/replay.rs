//! The model of kind `replay`: gives the answers of an earlier run once more, bit for bit.
//!
//! Its source is a run's directory: `trajectories/ROLLOUT.ATTEMPT.json`, in the format of
//! [`recorded`](crate::model::recorded). Of each rollout the highest attempt that is there is
//! taken: it is the one that counted, since an attempt that counts is the last. It answers all
//! attempts of its rollout now; the attempt is no part of the key, nor is the prompt.
//!
//! For the authors of tasks it is a file instead, of their
//! [lines](orcapack_tasks::authoring::line): a task is a rollout there, and an author an agent.
//!
//! Everything is read and judged before anything starts, and kept in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use orcapack_tasks::authoring::line::{self, Event};
use orcapack_tasks::defect::{Defect, Defects};
use orcapack_tasks::trajectory::Trajectory;

use crate::model::recorded::{from_step, parse_subagent_id, root_id};
use crate::model::{Answer, CallKey, Finish, Model, ModelError, ModelErrorKind, Request, Usage};

/// All trajectories of a run that is replayed, in bytes: with answers and their tokens kept in
/// memory, what a node can spare beside its environments.
pub const RUN_BYTES_MAX: u64 = 2 << 30;

/// See the module.
#[derive(Debug)]
pub struct Replay {
    folder: PathBuf,
    /// The file of each rollout.
    files: BTreeMap<u32, PathBuf>,
    answers: HashMap<Key, Answer>,
}

/// Which answer, in every attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    rollout: u32,
    step: u32,
    agent: u32,
    turn: u32,
}

impl Replay {
    /// Reads the run in the directory `run`, or the file of lines.
    ///
    /// # Errors
    /// No such run, one that is too large, one in which no model ever answered, or everything that
    /// is wrong with its trajectories or lines.
    pub fn open(run: &Path) -> Result<Self, Defects> {
        if run.is_file() {
            return Self::open_lines(run);
        }
        let folder = run.join("trajectories");
        let attempts = attempts(&folder)?;
        let mut replay = Self { folder, files: BTreeMap::new(), answers: HashMap::new() };
        let mut defects = Vec::new();
        for (rollout, (attempt, file)) in attempts {
            if let Err(Defects(more)) = replay.read(rollout, attempt, &file) {
                defects.extend(more);
            }
            replay.files.insert(rollout, file);
        }
        if replay.answers.is_empty() && defects.is_empty() {
            let found = format!("none in {} trajectories", replay.files.len());
            defects.push(Defect::new(&replay.folder, "a run in which models answered", found));
        }
        Defects(defects).into_result(replay)
    }

    fn open_lines(file: &Path) -> Result<Self, Defects> {
        let refuse = |expected: String, found: String| Defect::new(file, expected, found);
        let unreadable = |error: io::Error| refuse("a readable file".to_owned(), error.to_string());
        let size = fs::metadata(file).map_err(unreadable)?.len();
        if size > RUN_BYTES_MAX {
            let expected = format!("at most {RUN_BYTES_MAX} bytes");
            return Err(refuse(expected, size.to_string()).into());
        }
        let text = fs::read_to_string(file).map_err(unreadable)?;
        let (mut files, mut answers) = (BTreeMap::new(), HashMap::new());
        let mut defects = Vec::new();
        for (number, line) in line::read(file, &text)? {
            let Event::Answer(answer) = line.event else { continue };
            let line::Answer { author, turn, .. } = answer;
            let key = Key { rollout: line.task, step: 0, agent: author as u32, turn };
            files.insert(line.task, file.to_owned());
            if answers.insert(key, of_author(answer)).is_some() {
                let found = format!("the {}'s turn {turn} again", author.as_str());
                defects.push(refuse("a turn of its own".to_owned(), found).at_line(number));
            }
        }
        if answers.is_empty() {
            let expected = "answers of authors of tasks".to_owned();
            defects.push(refuse(expected, "none".to_owned()));
        }
        Defects(defects).into_result(Self { folder: file.to_owned(), files, answers })
    }

    fn read(&mut self, rollout: u32, attempt: u32, file: &Path) -> Result<(), Defects> {
        let bytes = fs::read(file).map_err(|error| {
            Defects::from(Defect::new(file, "a readable file", error.to_string()))
        })?;
        let root = Trajectory::from_json(file, &bytes)?;
        let id = root_id(rollout, attempt);
        let mut defects = Vec::new();
        match root.trajectory_id.as_deref() {
            Some(found) if found == id => self.take(rollout, None, &root, file, &mut defects),
            found => {
                let found = format!("`{}`", found.unwrap_or_default());
                let defect = Defect::new(file, format!("`{id}`, as the file is named"), found);
                defects.push(defect.at_key("trajectory_id"));
            }
        }
        for (i, subagent) in root.subagent_trajectories.iter().enumerate() {
            let name = subagent.trajectory_id.as_deref().unwrap_or_default();
            match parse_subagent_id(&id, name) {
                Some(agent) => self.take(rollout, Some(agent), subagent, file, &mut defects),
                None => {
                    let key = format!("subagent_trajectories[{i}].trajectory_id");
                    let expected = format!("`{id}/STEP/AGENT`");
                    defects.push(Defect::new(file, expected, format!("`{name}`")).at_key(key));
                }
            }
        }
        Defects(defects).into_result(())
    }

    /// The answers of one agent: of the orchestrator, in all steps of the task, or of a subagent,
    /// whose step and number are given.
    fn take(
        &mut self,
        rollout: u32,
        subagent: Option<(u32, u32)>,
        trajectory: &Trajectory,
        file: &Path,
        defects: &mut Vec<Defect>,
    ) {
        let of = trajectory.trajectory_id.as_deref().unwrap_or_default();
        for step in &trajectory.steps {
            let (place, answer) = match from_step(step, file) {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                Err(defect) => {
                    let key = format!("{of}: {}", defect.key.as_deref().unwrap_or_default());
                    defects.push(defect.at_key(key));
                    continue;
                }
            };
            let (in_step, agent) = subagent.unwrap_or((place.step, 0));
            let key = Key { rollout, step: place.step, agent, turn: place.turn };
            let mut refuse = |expected: String, found: String| {
                let key = format!("{of}: steps[{}].extra", step.step_id.saturating_sub(1));
                defects.push(Defect::new(file, expected, found).at_key(key));
            };
            if in_step != place.step {
                refuse(format!("step {in_step}, as in the id"), format!("step {}", place.step));
            } else if self.answers.insert(key, answer).is_some() {
                refuse("a turn of its own".to_owned(), format!("turn {} again", place.turn));
            }
        }
    }

    fn answer(&self, key: &CallKey) -> Result<Answer, ModelError> {
        let CallKey { rollout, attempt: _, step, agent, turn } = *key;
        let recorded = self.answers.get(&Key { rollout, step, agent, turn });
        recorded.cloned().ok_or_else(|| {
            let place = match self.files.get(&rollout) {
                Some(file) => format!("no answer in {}", file.display()),
                None => format!("no rollout {rollout} in {}", self.folder.display()),
            };
            ModelError::new(ModelErrorKind::NotRecorded, format!("{key}: {place}"))
        })
    }
}

impl Model for Replay {
    fn name(&self) -> &str {
        "replay"
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        ready(self.answer(&request.key)).boxed()
    }
}

fn of_author(answer: line::Answer) -> Answer {
    let line::Tokens { prompt, completion, cached } = answer.tokens;
    Answer {
        text: answer.text,
        reasoning: answer.reasoning,
        finish: if answer.is_cut { Finish::Length } else { Finish::Stop },
        usage: Usage::told(prompt, completion, cached),
        model: answer.model,
        tokens: None,
    }
}

/// The highest attempt of each rollout, and its file. Files of other names are none of ours.
fn attempts(folder: &Path) -> Result<BTreeMap<u32, (u32, PathBuf)>, Defect> {
    let expected = "the trajectories of a run";
    let unreadable = |error: io::Error| Defect::new(folder, expected, error.to_string());
    let mut attempts: BTreeMap<u32, (u32, PathBuf)> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Some((rollout, attempt)) = entry.file_name().to_str().and_then(numbers) else {
            continue;
        };
        let known = attempts.get(&rollout).map_or(0, |(attempt, _)| *attempt);
        if attempt > known {
            attempts.insert(rollout, (attempt, entry.path()));
        }
    }
    if attempts.is_empty() {
        return Err(Defect::new(folder, expected, "no file ROLLOUT.ATTEMPT.json"));
    }
    let mut bytes = 0_u64;
    for (_, file) in attempts.values() {
        bytes = bytes.saturating_add(fs::metadata(file).map_err(unreadable)?.len());
    }
    if bytes > RUN_BYTES_MAX {
        let expected = format!("at most {RUN_BYTES_MAX} bytes of trajectories");
        return Err(Defect::new(folder, expected, bytes.to_string()));
    }
    Ok(attempts)
}

/// Rollout and attempt out of a file's name.
fn numbers(name: &str) -> Option<(u32, u32)> {
    let (rollout, attempt) = name.strip_suffix(".json")?.split_once('.')?;
    Some((rollout.parse().ok()?, attempt.parse().ok()?))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
