//! What a process of a cluster keeps on its disk over its lives, beside its identity: `lock`, which
//! one process at a time holds, `incarnation`, which counts its starts, and `reset.key`, by which
//! peers hear of a restart at once.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use orcapack_cluster::address::Incarnation;
use orcapack_cluster::quic::ResetKey;

use crate::exit::{Exit, Failure};
use crate::files::{self, PRIVATE};

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
    files::lock(path).map_err(at(path))?.map_err(|pid| {
        Failure::new(Exit::RunTaken, format!("{} is in use by process {pid}", path.display()))
    })
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
    let text = format!("{next}\n");
    files::write_whole(path, text.as_bytes(), PRIVATE).map_err(at(path))?;
    Ok(next)
}

fn reset_key(path: &Path) -> Result<ResetKey, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = files::random::<{ ResetKey::BYTES }>().map_err(at(path))?;
            files::write_whole(path, &bytes, PRIVATE).map_err(at(path))?;
            bytes.to_vec()
        }
        Err(error) => return Err(at(path)(error)),
    };
    let key = bytes.try_into().map_err(|bytes: Vec<u8>| {
        let (path, expected, found) = (path.display(), ResetKey::BYTES, bytes.len());
        Failure::bad_input(format!("{path}: expected {expected} bytes, found {found}"))
    })?;
    Ok(ResetKey::new(key))
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
