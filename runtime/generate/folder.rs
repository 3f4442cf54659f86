//! The folder that a model's tasks are written to.
//!
//! ```text
//! DIR/
//!   SLUG/           accepted, whole
//!   .rejected/SLUG/ the others, with reasons.txt; a task without a name is idea-N
//!   .drafts/SLUG/   what is being tried
//!   pipeline.jsonl  every step of every task
//!   .lock           held by the process that works here
//! ```
//!
//! Who reads it as a data set sees the accepted tasks alone. A task's folder appears as a whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use orcapack_tasks::{Defect, Defects, FileTree, import};

use crate::exit::{Exit, Failure};
use crate::files;
use crate::generate::journal::JOURNAL;

const LOCK: &str = ".lock";
const DRAFTS: &str = ".drafts";
const REJECTED: &str = ".rejected";
const REASONS: &str = "reasons.txt";

/// Owned by this process until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// # Errors
    /// A folder of something else, one that another process works in, or one that cannot be made.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let expected = format!("a folder with {JOURNAL}, an empty one, or none yet");
        let refuse = |found: String| Defects::from(Defect::new(path, expected.clone(), found));
        let unusable = |error: io::Error| refuse(error.to_string());
        match fs::read_dir(path) {
            Ok(mut entries) => {
                let is_else = |entry: io::Result<fs::DirEntry>| {
                    entry.map_or(true, |entry| entry.file_name() != LOCK)
                };
                if !path.join(JOURNAL).is_file() && entries.any(is_else) {
                    return Err(refuse("something else in it".to_owned()).into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(unusable)?;
            }
            Err(error) => return Err(unusable(error).into()),
        }
        let lock = files::lock(&path.join(LOCK)).map_err(unusable)?.map_err(|pid| {
            let message = format!("{} is in use by process {pid}", path.display());
            Failure::new(Exit::RunTaken, message)
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes files that are to be tried.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn draft(&self, name: &str, files: &FileTree) -> Result<PathBuf, Failure> {
        let dir = self.path.join(DRAFTS).join(name);
        replace(&dir, files)?;
        Ok(dir)
    }

    /// Puts an accepted task in its place. One that is there already was put there before this
    /// process died.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn accept(&self, name: &str, files: &FileTree) -> Result<(), Failure> {
        let dir = self.path.join(name);
        if !dir.is_dir() {
            import::write_folder(files, &dir)?;
        }
        self.forget_draft(name)
    }

    /// Puts what there is of a task aside, with the reasons.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn reject(&self, name: &str, files: &FileTree, reasons: &str) -> Result<(), Failure> {
        let mut files = files.clone();
        files.insert(REASONS, reasons.as_bytes(), false);
        replace(&self.path.join(REJECTED).join(name), &files)?;
        self.forget_draft(name)
    }

    fn forget_draft(&self, name: &str) -> Result<(), Failure> {
        let drafts = self.path.join(DRAFTS);
        remove(&drafts.join(name))?;
        // It stays while there are others in it.
        let _ = fs::remove_dir(drafts);
        Ok(())
    }
}

fn replace(dir: &Path, files: &FileTree) -> Result<(), Failure> {
    remove(dir)?;
    Ok(import::write_folder(files, dir)?)
}

fn remove(dir: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let defect = Defect::new(dir, "a folder that can be replaced", error.to_string());
            Err(Defects::from(defect).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> FileTree {
        let mut files = FileTree::default();
        files.insert("instruction.md", b"Do it.\n", false);
        files
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
        let error = Folder::open(dir.path()).expect_err("refused");
        assert_eq!(error.exit, Exit::BadInput);
        assert!(error.message.contains("found something else in it"), "{error}");
        let file = dir.path().join("thesis.txt");
        assert_eq!(Folder::open(&file).expect_err("a file").exit, Exit::BadInput);
    }

    #[test]
    fn a_folder_belongs_to_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("new")).unwrap();
        fs::write(folder.path().join(JOURNAL), "").unwrap();
        let error = Folder::open(folder.path()).expect_err("in use");
        assert_eq!(error.exit, Exit::RunTaken);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(Folder::open(&path).is_ok());
    }

    #[test]
    fn nothing_stays_of_a_draft_that_was_accepted_or_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for name in ["a", "b"] {
            folder.draft(name, &files()).unwrap();
            assert!(folder.draft(name, &files()).unwrap().join("instruction.md").is_file());
        }
        folder.accept("a", &files()).unwrap();
        folder.accept("a", &files()).unwrap();
        folder.reject("b", &files(), "dull\n").unwrap();
        folder.reject("b", &files(), "dull\n").unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(path("a/instruction.md").is_file() && !path(DRAFTS).exists());
        assert_eq!(fs::read_to_string(path(".rejected/b/reasons.txt")).unwrap(), "dull\n");
        assert!(path(".rejected/b/instruction.md").is_file());
    }
}
