//! Keys, certificates and lists on disk.
//!
//! A private key that others can read is refused, whoever wrote it. A file is replaced as a whole:
//! written beside, synced, renamed, and the folder synced, so that a crash leaves the old or the
//! new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::pem::PemObject;

/// More than any key or certificate, or list of 100,000 revocations, has.
const FILE_BYTES_MAX: u64 = 16 << 20;

pub(crate) const PRIVATE: u32 = 0o600;
pub(crate) const PUBLIC: u32 = 0o644;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{}: expected mode 0600 or 0400, found {mode:04o}: others may read the private key",
        path.display()
    )]
    Readable { path: PathBuf, mode: u32 },
    #[error("{}: expected {expected}, found {found}", path.display())]
    Content { path: PathBuf, expected: &'static str, found: String },
    #[error("{}: is there already, and would be overwritten", path.display())]
    Exists { path: PathBuf },
}

impl FileError {
    pub(crate) fn content(path: &Path, expected: &'static str, found: impl ToString) -> Self {
        Self::Content { path: path.to_owned(), expected, found: found.to_string() }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    |error| FileError::Io { path: path.to_owned(), error }
}

/// A folder that only its owner may enter. It may be there already.
pub(crate) fn private_folder(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_open(path, File::open(path).map_err(io_error(path))?)
}

/// Reads a file that nobody but its owner may read.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(io_error(path))?;
    // Of the open file: nobody can put another in its place in between.
    let mode = file.metadata().map_err(io_error(path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Readable { path: path.to_owned(), mode });
    }
    read_open(path, file)
}

fn read_open(path: &Path, file: File) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::content(path, "at most 16 MiB", "more"));
    }
    Ok(bytes)
}

/// Puts a file in the place of another, or of none.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let beside = beside(path, "tmp");
    // What a crash has left there may have other rights.
    remove(&beside)?;
    write_new(&beside, bytes, mode)?;
    rename(&beside, path)
}

/// Writes a file that must not be there yet.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write_new(path, bytes, mode)?;
    sync_folder_of(path)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
        _ => FileError::Io { path: path.to_owned(), error },
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error(path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(io_error(to))?;
    sync_folder_of(to)
}

pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))
}

/// A file's name with something added to it.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

/// The right to change what is in a folder, among all processes, until it is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(PRIVATE);
    let file = options.open(path).map_err(io_error(path))?;
    file.lock().map_err(io_error(path))?;
    Ok(file)
}

/// The first item of this kind in a PEM file.
pub(crate) fn of_pem<T: PemObject>(
    path: &Path,
    bytes: &[u8],
    expected: &'static str,
) -> Result<T, FileError> {
    T::from_pem_slice(bytes).map_err(|error| FileError::content(path, expected, error))
}

pub(crate) fn to_pem(tag: &str, der: &[u8]) -> Vec<u8> {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(tag, der), lines).into_bytes()
}
