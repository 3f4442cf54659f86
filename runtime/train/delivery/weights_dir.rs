//! The directories that servers read weights from: `weights/step_N`, each whole or not there.

use std::path::{Path, PathBuf};
use std::{fs, io};

use orcapack_trainer::model::weights_write::WeightsFormat;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::snapshot::Snapshot;

/// Directories that are kept: the newest, and the one that a server may still be reading.
const KEPT: usize = 2;
const STEP: &str = "step_";
const STAGED: &str = ".staged_";

/// Writes `snapshot` as a Hugging Face directory of `policy` below `folder`, in the place of one of
/// the same version, and removes what is older than the last two. Its path is absolute.
///
/// # Errors
/// The file system's; what is there already stays whole.
pub fn write(
    folder: &Path,
    policy: &Policy,
    snapshot: &Snapshot,
    format: WeightsFormat,
) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let folder = fs::canonicalize(folder)?;
    let version = snapshot.version;
    let staged = folder.join(format!("{STAGED}{version}"));
    let dir = folder.join(format!("{STEP}{version}"));
    remove(&staged)?;
    snapshot.save(policy, &staged, format)?;
    // Of an earlier life of the run.
    remove(&dir)?;
    fs::rename(&staged, &dir)?;
    fs::File::open(&folder)?.sync_all()?;
    prune(&folder, version)?;
    Ok(dir)
}

/// Those of later versions are of an earlier life of the run, and so are half-written ones.
fn prune(folder: &Path, newest: u64) -> io::Result<()> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if let Some(version) = name.strip_prefix(STEP).and_then(|step| step.parse::<u64>().ok()) {
            steps.push((version, path));
        } else if name.starts_with(STAGED) {
            remove(&path)?;
        }
    }
    steps.sort();
    let (known, stale): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|(version, _)| *version <= newest);
    let old = known.len().saturating_sub(KEPT);
    known.iter().take(old).chain(&stale).try_for_each(|(_, path)| remove(path))
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
