//! Files by which processes agree: locks that say who has them, and files that change as a whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Who may read a file: everyone whom the user's mask lets, or nobody else.
pub const PUBLIC: u32 = 0o666;
pub const PRIVATE: u32 = 0o600;

/// A lock that is this process's until the file is closed, or who has it: a process's id.
///
/// # Errors
/// The file cannot be opened or written.
pub fn lock(path: &Path) -> io::Result<Result<File, String>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok_and(|len| len > 0);
            return Ok(Err(if known { pid.trim() } else { "(unknown)" }.to_owned()));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}

/// Either the old bytes or the new ones are there, whenever the process dies.
///
/// # Errors
/// The file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let staged = path.with_extension("staged");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)
}

/// The way from a folder to a path, both absolute and without links.
pub fn way(folder: &Path, path: &Path) -> PathBuf {
    let pairs = folder.components().zip(path.components());
    let common = pairs.take_while(|(one, other)| one == other).count();
    let up = folder.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(path.components().skip(common)).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

/// # Errors
/// The system has no random numbers; the message names their file.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; N];
    let read = File::open(SOURCE).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| io::Error::new(error.kind(), format!("{SOURCE}: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_path_goes_up_and_then_down() {
        let way = |folder: &str, path: &str| way(Path::new(folder), Path::new(path));
        assert_eq!(way("/a/b", "/a/c/d"), Path::new("../c/d"));
        assert_eq!(way("/a", "/a/tasks"), Path::new("tasks"));
        assert_eq!(way("/a/b", "/a"), Path::new(".."));
        assert_eq!(way("/a/b", "/a/b"), Path::new("."));
        assert_eq!(way("/a/bc", "/a/b"), Path::new("../b"));
    }
}
