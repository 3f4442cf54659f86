//! What a process of a cluster keeps on its disk over its lives, beside its identity: `lock`, which
//! one process at a time holds, `incarnation`, which counts its starts, and `reset.key`, by which
//! peers hear of a restart at once.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use orcapack_cluster::address::Incarnation;
use orcapack_cluster::quic::ResetKey;

use crate::exit::{Exit, Failure};

/// A state that is this process's, as long as it lives.
#[derive(Debug)]
pub struct NodeState {
    pub incarnation: Incarnation,
    pub reset_key: ResetKey,
    _lock: File,
}

impl NodeState {
    /// Takes the state in a folder that has an identity, and counts one more start.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be used; the message names the file.
    pub fn take(folder: &Path) -> Result<Self, Failure> {
        let lock = lock(&folder.join("lock"))?;
        let incarnation = next_incarnation(&folder.join("incarnation"))?;
        let reset_key = reset_key(&folder.join("reset.key"))?;
        Ok(Self { incarnation: Incarnation(incarnation), reset_key, _lock: lock })
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok_and(|len| len > 0);
            let pid = if known { pid.trim() } else { "(unknown)" };
            let message = format!("{} is in use by process {pid}", path.display());
            return Err(Failure::new(Exit::RunTaken, message));
        }
        Err(TryLockError::Error(error)) => return Err(at(path)(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(at(path))?;
    Ok(file)
}

/// On disk before anyone is told of it: no two lives may have one number.
fn next_incarnation(path: &Path) -> Result<u64, Failure> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            let found = text.trim().chars().take(40).collect::<String>();
            let path = path.display();
            Failure::bad_input(format!("{path}: expected a number, found `{found}`"))
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(at(path)(error)),
    };
    let next = before + 1;
    write_whole(path, format!("{next}\n").as_bytes()).map_err(at(path))?;
    Ok(next)
}

fn reset_key(path: &Path) -> Result<ResetKey, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = vec![0; ResetKey::BYTES];
            File::open("/dev/urandom")
                .and_then(|mut random| random.read_exact(&mut bytes))
                .and_then(|()| write_whole(path, &bytes))
                .map_err(at(path))?;
            bytes
        }
        Err(error) => return Err(at(path)(error)),
    };
    let key = bytes.try_into().map_err(|bytes: Vec<u8>| {
        let (path, expected, found) = (path.display(), ResetKey::BYTES, bytes.len());
        Failure::bad_input(format!("{path}: expected {expected} bytes, found {found}"))
    })?;
    Ok(ResetKey::new(key))
}

/// Either the old bytes or the new ones are there, whenever the process dies; nobody else reads
/// them.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged: PathBuf = path.with_extension("staged");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::bad_input(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_has_the_next_number_and_the_same_key_and_no_two_live_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = NodeState::take(folder.path()).unwrap();
        let error = NodeState::take(folder.path()).unwrap_err();
        assert_eq!(error.exit, Exit::RunTaken);
        assert!(error.to_string().contains("in use by process"), "{error}");
        let key = fs::read(folder.path().join("reset.key")).unwrap();
        assert_eq!((first.incarnation, key.len()), (Incarnation(1), ResetKey::BYTES));
        drop(first);
        assert_eq!(NodeState::take(folder.path()).unwrap().incarnation, Incarnation(2));
        assert_eq!(fs::read(folder.path().join("reset.key")).unwrap(), key);
    }

    #[test]
    fn a_state_that_is_not_one_is_told_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("incarnation"), "many").unwrap();
        let error = NodeState::take(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("incarnation: expected a number, found `many`"), "{error}");
        fs::write(folder.path().join("incarnation"), "7").unwrap();
        fs::write(folder.path().join("reset.key"), "short").unwrap();
        let error = NodeState::take(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("reset.key: expected 64 bytes, found 5"), "{error}");
    }
}
