//! Checkpoints: folders that are whole, or not there.
//!
//! ```text
//! checkpoints/
//!   step_120/
//!     ...              a policy's Hugging Face directory, the optimizer's state
//!     checkpoint.json  the step, the state of the run, and the digest of every file
//!   step_140.staged/   of a process that died while it wrote
//! ```
//!
//! One is written under another name, forced to disk, and renamed. What is read back is compared
//! with its digests first: of a damaged one nothing is used, and the one before it is taken.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use orcapack_tasks::defect::Defect;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::caps::TEXT_BYTES_MAX;
use crate::files;

/// A checkpoint that is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<S> {
    pub step: u64,
    pub dir: PathBuf,
    /// What the run needs to go on, beside the files.
    pub state: S,
}

/// What a folder of checkpoints holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest<S> {
    pub checkpoint: Option<Checkpoint<S>>,
    /// Newer ones that are damaged, each with its fault.
    pub damaged: Vec<Defect>,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: a state that is not JSON: {source}")]
    State { path: PathBuf, source: serde_json::Error },
}

#[derive(Serialize, Deserialize)]
struct Manifest<S> {
    step: u64,
    state: S,
    /// SHA-256 of every other file, by its path in the folder.
    files: BTreeMap<String, String>,
}

const MANIFEST: &str = "checkpoint.json";
const PREFIX: &str = "step_";
const STAGED: &str = ".staged";

/// A checkpoint that is being written. Dropped before its end, it leaves `folder` as it was, but
/// for what [`prune`] removes.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    step: u64,
    staged: PathBuf,
}

impl CheckpointWriter {
    /// That of `step`, in `folder`. One that is there already is replaced, once this is finished.
    ///
    /// # Errors
    /// The file system's, with the path.
    pub fn begin(folder: &Path, step: u64) -> Result<Self, CheckpointError> {
        let staged = folder.join(format!("{PREFIX}{step}{STAGED}"));
        remove(&staged)?;
        fs::create_dir_all(&staged).map_err(io_at(&staged))?;
        Ok(Self { folder: folder.to_owned(), step, staged })
    }

    /// Where its files are to be put.
    pub fn dir(&self) -> &Path {
        &self.staged
    }

    /// Makes it a checkpoint; gives its folder.
    ///
    /// # Errors
    /// The file system's, with the path; `folder` has what it had before, then.
    pub fn finish<S: Serialize>(self, state: &S) -> Result<PathBuf, CheckpointError> {
        let Self { folder, step, staged } = self;
        let dir = folder.join(format!("{PREFIX}{step}"));
        let mut digests = BTreeMap::new();
        for name in names(&staged, "")? {
            let path = staged.join(&name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(io_at(&path))?;
            digests.insert(name, digest(&path).map_err(io_at(&path))?);
        }
        let path = staged.join(MANIFEST);
        let text = serde_json::to_string_pretty(&Manifest { step, state, files: digests })
            .map_err(|source| CheckpointError::State { path: path.clone(), source })?;
        files::write_text(&path, &text).map_err(io_at(&path))?;
        sync_dir(&staged)?;
        remove(&dir)?;
        fs::rename(&staged, &dir).map_err(io_at(&dir))?;
        sync_dir(&folder)?;
        Ok(dir)
    }
}

/// Writes the checkpoint of `step` into `folder`: `fill` puts files into the folder that it is
/// given. One that is there already is replaced.
///
/// # Errors
/// The file system's, with the path; `folder` has what it had before, then.
pub fn write<S: Serialize>(
    folder: &Path,
    step: u64,
    state: &S,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<PathBuf, CheckpointError> {
    let writer = CheckpointWriter::begin(folder, step)?;
    fill(writer.dir()).map_err(io_at(writer.dir()))?;
    writer.finish(state)
}

/// The newest checkpoint in `folder` that is whole. A folder that is absent holds none.
///
/// # Errors
/// The folder cannot be read.
pub fn newest<S: DeserializeOwned>(folder: &Path) -> Result<Newest<S>, CheckpointError> {
    let mut damaged = Vec::new();
    for (step, dir) in all(folder)?.into_iter().rev() {
        match read(step, &dir) {
            Ok(state) => {
                let checkpoint = Some(Checkpoint { step, dir, state });
                return Ok(Newest { checkpoint, damaged });
            }
            Err(defect) => damaged.push(defect),
        }
    }
    Ok(Newest { checkpoint: None, damaged })
}

/// The checkpoint of one step.
///
/// # Errors
/// It is not there, or damaged.
pub fn of_step<S: DeserializeOwned>(folder: &Path, step: u64) -> Result<Checkpoint<S>, Defect> {
    let dir = folder.join(format!("{PREFIX}{step}"));
    read(step, &dir).map(|state| Checkpoint { step, dir, state })
}

/// The steps of which there are checkpoints, whole or not, the oldest first. A folder that is
/// absent holds none.
///
/// # Errors
/// The folder cannot be read.
pub fn steps(folder: &Path) -> Result<Vec<u64>, CheckpointError> {
    Ok(all(folder)?.into_keys().collect())
}

/// Removes all but the last `keep`, and what dead processes left half written.
///
/// # Errors
/// The file system's, with the path.
pub fn prune(folder: &Path, keep: usize) -> Result<(), CheckpointError> {
    let all = all(folder)?;
    let old = all.len().saturating_sub(keep.max(1));
    all.iter().take(old).try_for_each(|(_, dir)| remove(dir))?;
    for entry in entries(folder)? {
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(STAGED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Checkpoints by their step, the oldest first.
fn all(folder: &Path) -> Result<BTreeMap<u64, PathBuf>, CheckpointError> {
    let steps = entries(folder)?.into_iter().filter_map(|entry| {
        let name = entry.file_name();
        let step = name.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
        Some((step, entry.path()))
    });
    Ok(steps.collect())
}

fn read<S: DeserializeOwned>(step: u64, dir: &Path) -> Result<S, Defect> {
    let path = dir.join(MANIFEST);
    let unread = |error: &dyn std::fmt::Display| {
        Defect::new(&path, "the manifest of a checkpoint", error.to_string())
    };
    let size = fs::metadata(&path).map_err(|error| unread(&error))?.len();
    if size > TEXT_BYTES_MAX {
        return Err(unread(&format!("{size} bytes")));
    }
    let text = fs::read(&path).map_err(|error| unread(&error))?;
    let manifest: Manifest<S> = serde_json::from_slice(&text).map_err(|error| unread(&error))?;
    if manifest.step != step {
        return Err(Defect::new(&path, step.to_string(), manifest.step.to_string()).at_key("step"));
    }
    for (name, expected) in &manifest.files {
        let file = dir.join(name);
        let found = digest(&file).unwrap_or_else(|error| error.to_string());
        if found != *expected {
            return Err(Defect::new(&file, format!("SHA-256 {expected}"), found));
        }
    }
    Ok(manifest.state)
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, CheckpointError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(io_at(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_at(folder)(error)),
    }
}

/// Of all files below `dir`, with their folders below it.
fn names(dir: &Path, above: &str) -> Result<Vec<String>, CheckpointError> {
    let mut names = Vec::new();
    for entry in entries(dir)? {
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            names.extend(self::names(&path, &format!("{name}/"))?);
            sync_dir(&path)?;
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

/// Lower-case hexadecimal SHA-256.
fn digest(path: &Path) -> io::Result<String> {
    const PIECE: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn remove(dir: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(dir)(error)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), CheckpointError> {
    files::sync_dir(dir).map_err(io_at(dir))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &Path, step: u64) -> PathBuf {
        let fill = |dir: &Path| {
            fs::create_dir(dir.join("more"))?;
            fs::write(dir.join("more/weights"), "more")?;
            fs::write(dir.join("weights"), format!("weights of {step}"))
        };
        write(folder, step, &format!("state of {step}"), fill).unwrap()
    }

    #[test]
    fn the_newest_is_by_number_and_comes_back_with_its_state() {
        let folder = tempfile::tempdir().unwrap();
        for step in [9, 100, 20] {
            save(folder.path(), step);
        }
        let Newest { checkpoint, damaged } = newest::<String>(folder.path()).unwrap();
        let checkpoint = checkpoint.unwrap();
        assert_eq!((checkpoint.step, checkpoint.state.as_str()), (100, "state of 100"));
        assert_eq!(fs::read_to_string(checkpoint.dir.join("weights")).unwrap(), "weights of 100");
        assert_eq!(damaged, []);
        let absent = newest::<String>(&folder.path().join("absent")).unwrap();
        assert_eq!(absent, Newest { checkpoint: None, damaged: Vec::new() });
    }

    #[test]
    fn a_damaged_one_is_told_and_the_one_before_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 1);
        let flipped = save(folder.path(), 2).join("weights");
        fs::write(&flipped, "weights of 3").unwrap();
        fs::remove_file(save(folder.path(), 3).join("weights")).unwrap();
        fs::write(save(folder.path(), 4).join(MANIFEST), "{").unwrap();
        fs::rename(save(folder.path(), 5), folder.path().join("step_6")).unwrap();
        fs::write(save(folder.path(), 7).join("more/weights"), "less").unwrap();
        let Newest { checkpoint, damaged } = newest::<String>(folder.path()).unwrap();
        assert_eq!(checkpoint.unwrap().step, 1);
        let files: Vec<_> =
            damaged.iter().map(|it| it.file.strip_prefix(folder.path()).unwrap()).collect();
        let expected = [
            "step_7/more/weights",
            "step_6/checkpoint.json",
            "step_4/checkpoint.json",
            "step_3/weights",
            "step_2/weights",
        ];
        assert_eq!(files, expected.map(Path::new));
    }

    #[test]
    fn a_writer_that_fails_leaves_what_there_was() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 1);
        let fail = |dir: &Path| {
            fs::write(dir.join("weights"), "half")?;
            Err(io::Error::other("the disk is full"))
        };
        let error = write(folder.path(), 1, &"state of 1", fail).unwrap_err().to_string();
        assert!(error.ends_with("step_1.staged: the disk is full"), "{error}");
        let Newest { checkpoint, damaged } = newest::<String>(folder.path()).unwrap();
        assert_eq!((checkpoint.unwrap().step, damaged.len()), (1, 0));
        prune(folder.path(), 1).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_last_few_are_kept_and_never_less_than_one() {
        let folder = tempfile::tempdir().unwrap();
        for step in [1, 2, 10] {
            save(folder.path(), step);
        }
        prune(folder.path(), 2).unwrap();
        assert_eq!(steps(folder.path()).unwrap(), [2, 10]);
        assert_eq!(of_step::<String>(folder.path(), 2).unwrap().state, "state of 2");
        assert!(of_step::<String>(folder.path(), 1).is_err());
        prune(folder.path(), 0).unwrap();
        assert_eq!(steps(folder.path()).unwrap(), [10]);
    }
}
