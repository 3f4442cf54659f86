//! Harbor's data set manifest, `dataset.toml`: which tasks belong to a data set, each by name and
//! digest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::caps::{FOLDER_DEPTH_MAX, MANIFEST_BYTES_MAX};
use crate::dataset::DataSet;
use crate::defect::{Defect, Defects};
use crate::file_tree::{Digest, FileTree, hex};
use crate::folder::{hash_file, is_litter, read_text};
use crate::harbor;
use crate::task::{Format, Task};
use crate::toml_doc::TomlDoc;

pub const MANIFEST_FILE: &str = "dataset.toml";
const SCHEMA_VERSION: &str = "1.0";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    pub tasks: Vec<Entry>,
    file: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// See [`package_digest`].
    pub digest: Digest,
    line: Option<usize>,
}

impl Manifest {
    pub fn read(file: &Path) -> Result<Self, Defects> {
        let doc = TomlDoc::parse(file, &read_text(file, MANIFEST_BYTES_MAX)?)?;
        let root = doc.root();
        root.opt_one_of("schema_version", &[(SCHEMA_VERSION, ())]);
        let about = root.section("dataset");
        let name = about.string("name");
        about.allow_any_but(&[]);
        for file in root.sections("files") {
            let path = file.string("path");
            if !path.is_empty() && !FileTree::is_plain_path(&path) {
                file.refuse("path", "a path below the data set's folder", format!("{path:?}"));
            }
            file.opt_string("digest");
        }
        let mut names = BTreeMap::new();
        let mut tasks = Vec::new();
        for task in root.sections("tasks") {
            let (name, digest) = (task.string("name"), task.string("digest"));
            let Ok(digest) = digest.parse() else {
                if !digest.is_empty() {
                    let expected = "sha256: and 64 hexadecimal digits";
                    task.refuse("digest", expected, format!("{digest:?}"));
                }
                continue;
            };
            if names.insert(name.clone(), ()).is_some() {
                task.refuse("name", "a name that no other task has", format!("{name:?}"));
            }
            tasks.push(Entry { name, digest, line: task.line() });
        }
        doc.finish(Self { name, tasks, file: file.to_owned() })
    }

    /// The manifest of the data set as it is on disk now; an error where a task's files cannot be
    /// read.
    pub fn of(set: &DataSet) -> io::Result<Self> {
        let entry = |task: &Task| {
            Ok(Entry { name: task.name.clone(), digest: package_digest(task)?, line: None })
        };
        Ok(Self {
            name: set.name.clone(),
            tasks: set.tasks.iter().map(entry).collect::<io::Result<_>>()?,
            file: PathBuf::from(MANIFEST_FILE),
        })
    }

    pub fn to_toml(&self) -> String {
        let tasks = self.tasks.iter();
        let written = ManifestToml {
            schema_version: SCHEMA_VERSION,
            dataset: About { name: &self.name },
            tasks: tasks
                .map(|task| TaskToml { name: &task.name, digest: task.digest.to_string() })
                .collect(),
        };
        // Strings in tables are always TOML.
        toml::to_string(&written).unwrap_or_default()
    }

    /// Of the tasks that were found, no two of one name, those that are listed, unchanged. The
    /// others are left out without a word; what is listed and not there, or there and changed, is a
    /// defect.
    pub fn verify(&self, found: Vec<Task>) -> (Vec<Task>, Vec<(String, Defects)>) {
        let mut by_name: BTreeMap<String, Task> =
            found.into_iter().map(|task| (task.name.clone(), task)).collect();
        let mut defects = Vec::new();
        let mut tasks = Vec::new();
        for entry in &self.tasks {
            let mut report = |file: &Path, line, expected: String, found: String| {
                let defect = Defect::new(file, expected, found);
                let defect = if let Some(line) = line { defect.at_line(line) } else { defect };
                defects.push((entry.name.clone(), defect.into()));
            };
            let Some(task) = by_name.remove(&entry.name) else {
                let expected = format!("the task {:?} in this folder", entry.name);
                report(&self.file, entry.line, expected, "none".to_owned());
                continue;
            };
            match package_digest(&task) {
                Ok(digest) if digest == entry.digest => tasks.push(task),
                Ok(digest) => {
                    report(&self.file, entry.line, entry.digest.to_string(), digest.to_string());
                }
                Err(error) => {
                    report(
                        &task.source,
                        None,
                        "files that can be read".to_owned(),
                        error.to_string(),
                    );
                }
            }
        }
        (tasks, defects)
    }
}

#[derive(Serialize)]
struct ManifestToml<'a> {
    schema_version: &'a str,
    dataset: About<'a>,
    tasks: Vec<TaskToml<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct TaskToml<'a> {
    name: &'a str,
    digest: String,
}

/// The digest of a task in a manifest. For a Harbor folder, Harbor's own: SHA-256 over a line `PATH
/// NUL SHA-256 LF` for each packaged file, sorted by path. Other formats have no packages; theirs
/// is [`Task::digest`].
pub fn package_digest(task: &Task) -> io::Result<Digest> {
    if task.format != Format::Harbor {
        return Ok(task.digest);
    }
    let mut files = BTreeMap::new();
    for name in [harbor::CONFIG_FILE, "instruction.md", "README.md", "trajectory.json"] {
        let path = task.source.join(name);
        if path.is_file() {
            files.insert(name.to_owned(), hash_file(&path)?);
        }
    }
    for name in ["environment", "tests", "solution", "steps"] {
        let path = task.source.join(name);
        if path.is_dir() {
            hash_folder(&path, name, 0, &mut files)?;
        }
    }
    let mut hasher = Sha256::new();
    for (path, digest) in files {
        hasher.update(format!("{path}\0{}\n", hex(&digest)));
    }
    Ok(Digest(hasher.finalize().into()))
}

fn hash_folder(
    dir: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, [u8; 32]>,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}/{name}");
        let kind = entry.file_type()?;
        if is_litter(&name) {
            continue;
        } else if kind.is_dir() && depth <= FOLDER_DEPTH_MAX {
            hash_folder(&entry.path(), &path, depth + 1, files)?;
        } else if kind.is_file() {
            files.insert(path, hash_file(&entry.path())?);
        }
    }
    Ok(())
}
