//! What `sft` learns from: the trajectories of runs, and of other folders.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use orcapack_tasks::trajectory::Trajectory;
use orcapack_tasks::{Defect, Defects, Digest, Outcome};

use crate::record;
use crate::run_dir::TRAJECTORIES;
use crate::sft_config::DataConfig;
use crate::store_rows;

/// One orchestrator's record, to be learnt from.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    pub file: PathBuf,
    /// What it was about; of a trajectory outside of a run, its file's name.
    pub task: String,
    pub trajectory: Trajectory,
}

/// All that was found, in the order of `data.from`, rollout by rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstrations {
    pub all: Vec<Demonstration>,
    /// Rollouts that failed, or had less than the reward that is asked for.
    pub left_out: usize,
    /// Of all files that are learnt from.
    pub digest: Digest,
}

/// More than any run's; what is larger is no trajectory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads everything below `data.from`.
///
/// # Errors
/// All that cannot be read, and folders without a single trajectory.
pub fn read(data: &DataConfig) -> Result<Demonstrations, Defects> {
    let (mut files, mut left_out, mut defects) = (Vec::new(), 0, Vec::new());
    for from in &data.from {
        match sources(from, data.reward_min) {
            Ok(sources) => {
                files.extend(sources.files);
                left_out += sources.left_out;
            }
            Err(faults) => defects.extend(faults.0),
        }
    }
    let (mut all, mut digests) = (Vec::with_capacity(files.len()), Vec::new());
    for (file, task) in files {
        match trajectory(&file) {
            Ok((trajectory, digest)) => {
                digests.extend(digest.0);
                all.push(Demonstration { file, task, trajectory });
            }
            Err(faults) => defects.extend(faults.0),
        }
    }
    Defects(defects).into_result(Demonstrations { all, left_out, digest: Digest::of(&digests) })
}

struct Sources {
    /// Each with its task.
    files: Vec<(PathBuf, String)>,
    left_out: usize,
}

/// The files of a run, or of a folder.
fn sources(from: &Path, reward_min: f64) -> Result<Sources, Defects> {
    let ledger = from.join("run.db");
    let sources = if ledger.is_file() {
        of_run(from, &ledger, reward_min)?
    } else {
        Sources { files: of_folder(from)?, left_out: 0 }
    };
    if sources.files.is_empty() {
        let expected = match sources.left_out {
            0 => "a run with trajectories, or a folder of them".to_owned(),
            _ => format!("finished rollouts of reward {reward_min} or more (data.reward_min)"),
        };
        return Err(Defect::new(from, expected, "none").into());
    }
    Ok(sources)
}

/// Those attempts of a run that count, and are good enough.
fn of_run(run: &Path, ledger: &Path, reward_min: f64) -> Result<Sources, Defects> {
    let unread = |error: &dyn std::fmt::Display| {
        Defects::from(Defect::new(ledger, "the ledger of a run", error.to_string()))
    };
    let (_, results) = store_rows::read(ledger).map_err(|error| unread(&error))?;
    let planned = store_rows::planned(ledger).map_err(|error| unread(&error))?;
    let mut sources = Sources { files: Vec::new(), left_out: 0 };
    for result in results {
        let is_good = matches!(result.outcome, Outcome::Graded { reward } if reward >= reward_min);
        if !is_good {
            sources.left_out += 1;
            continue;
        }
        let name = record::trajectory_name(result.rollout, result.attempt);
        let file = run.join(TRAJECTORIES).join(name);
        let task = planned.get(&result.rollout).map(|it| it.task.clone()).unwrap_or_default();
        if file.is_file() {
            sources.files.push((file, task));
        }
    }
    Ok(sources)
}

fn of_folder(folder: &Path) -> Result<Vec<(PathBuf, String)>, Defects> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| {
        let expected = "a run's directory, or a folder of ATIF trajectories";
        Defect::new(folder, expected, error.to_string())
    })?;
    let paths = entries.iter().map(fs::DirEntry::path);
    let mut files: Vec<(PathBuf, String)> = paths
        .filter(|path| path.extension() == Some(OsStr::new("json")))
        .map(|path| {
            let task = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (path, task)
        })
        .collect();
    files.sort();
    Ok(files)
}

fn trajectory(file: &Path) -> Result<(Trajectory, Digest), Defects> {
    let unread = |found: String| Defects::from(Defect::new(file, "a readable trajectory", found));
    let size = fs::metadata(file).map_err(|error| unread(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unread(format!("{size} bytes, more than {FILE_BYTES_MAX}")));
    }
    let bytes = fs::read(file).map_err(|error| unread(error.to_string()))?;
    Ok((Trajectory::from_json(file, &bytes)?, Digest::of(&bytes)))
}
