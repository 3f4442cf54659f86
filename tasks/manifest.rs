//! Harbor's data set manifest, `dataset.toml`: which tasks belong to a data set, each by name and
//! digest.
//!
//! Two things are our own. `roots` says where the tasks lie, relative to the manifest, so that it
//! need not be in their folder. `passed` and `attempts` of a task say how it was measured, by which
//! a curriculum was cut.

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
use crate::toml_section::Section;

pub const MANIFEST_FILE: &str = "dataset.toml";
const SCHEMA_VERSION: &str = "1.0";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    /// Folders and CSV files, relative to the manifest's folder or absolute. None: that folder.
    pub roots: Vec<PathBuf>,
    pub tasks: Vec<Entry>,
    file: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// See [`package_digest`].
    pub digest: Digest,
    pub measured: Option<Measured>,
    line: Option<usize>,
}

/// How often a task was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub passed: u32,
    /// At least as many.
    pub attempts: u32,
}

impl Manifest {
    pub fn read(file: &Path) -> Result<Self, Defects> {
        let doc = TomlDoc::parse(file, &read_text(file, MANIFEST_BYTES_MAX)?)?;
        let root = doc.root();
        root.opt_one_of("schema_version", &[(SCHEMA_VERSION, ())]);
        let about = root.section("dataset");
        let name = about.string("name");
        about.allow_any_but(&[]);
        let roots = root.strings("roots");
        if root.has("roots") && roots.iter().any(|path| path.trim().is_empty()) {
            root.refuse("roots", "paths of folders or CSV files", "an empty string");
        }
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
            let measured = Measured::read(&task);
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
            tasks.push(Entry { name, digest, measured, line: task.line() });
        }
        let roots = roots.into_iter().map(PathBuf::from).collect();
        doc.finish(Self { name, roots, tasks, file: file.to_owned() })
    }

    /// The manifest of the data set as it is on disk now; an error where a task's files cannot be
    /// read.
    pub fn of(set: &DataSet) -> io::Result<Self> {
        let entry = |task: &Task| {
            let (name, digest) = (task.name.clone(), package_digest(task)?);
            Ok(Entry { name, digest, measured: None, line: None })
        };
        Ok(Self {
            name: set.name.clone(),
            roots: Vec::new(),
            tasks: set.tasks.iter().map(entry).collect::<io::Result<_>>()?,
            file: PathBuf::from(MANIFEST_FILE),
        })
    }

    pub fn to_toml(&self) -> String {
        let tasks = self.tasks.iter();
        let written = ManifestToml {
            schema_version: SCHEMA_VERSION,
            roots: &self.roots,
            dataset: About { name: &self.name },
            tasks: tasks
                .map(|task| TaskToml {
                    name: &task.name,
                    digest: task.digest.to_string(),
                    passed: task.measured.map(|it| it.passed),
                    attempts: task.measured.map(|it| it.attempts),
                })
                .collect(),
        };
        // Strings in tables are always TOML.
        toml::to_string(&written).unwrap_or_default()
    }

    /// Where the tasks lie.
    pub fn root_paths(&self) -> Vec<PathBuf> {
        let folder = self.file.parent().filter(|path| !path.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        if self.roots.is_empty() {
            return vec![folder.to_owned()];
        }
        self.roots.iter().map(|root| folder.join(root)).collect()
    }

    /// A fault of the key `roots`.
    pub(crate) fn refuse_root(&self, root: &Path, found: &str) -> Defects {
        let found = format!("{}: {found}", root.display());
        Defect::new(&self.file, "folders of tasks and CSV files", found).at_key("roots").into()
    }

    /// Of the tasks that were found, those that are listed, unchanged. The others are left out
    /// without a word; what is listed and not there, or there and changed, is a defect. Of several
    /// with one name, that with the digest is meant.
    pub fn verify(&self, found: Vec<Task>) -> (Vec<Task>, Vec<(String, Defects)>) {
        let mut by_name: BTreeMap<String, Vec<Task>> = BTreeMap::new();
        for task in found {
            by_name.entry(task.name.clone()).or_default().push(task);
        }
        let mut defects = Vec::new();
        let mut tasks = Vec::new();
        for entry in &self.tasks {
            match self.listed(entry, by_name.remove(&entry.name).unwrap_or_default()) {
                Ok(task) => tasks.push(task),
                Err(defect) => defects.push((entry.name.clone(), defect.into())),
            }
        }
        (tasks, defects)
    }

    /// The one that an entry means, of all that have its name.
    fn listed(&self, entry: &Entry, found: Vec<Task>) -> Result<Task, Defect> {
        let here = |expected: String, found: String| {
            let defect = Defect::new(&self.file, expected, found);
            entry.line.into_iter().fold(defect, Defect::at_line)
        };
        let mut unlike = None;
        for task in found {
            let fault = match package_digest(&task) {
                Ok(digest) if digest == entry.digest => return Ok(task),
                Ok(digest) => here(entry.digest.to_string(), digest.to_string()),
                Err(error) => {
                    Defect::new(&task.source, "files that can be read", error.to_string())
                }
            };
            unlike.get_or_insert(fault);
        }
        let place = if self.roots.is_empty() { "in this folder" } else { "in one of the roots" };
        let absent = || here(format!("the task {:?} {place}", entry.name), "none".to_owned());
        Err(unlike.unwrap_or_else(absent))
    }
}

impl Measured {
    /// Both or neither.
    fn read(task: &Section<'_>) -> Option<Self> {
        if !task.has("passed") && !task.has("attempts") {
            return None;
        }
        let attempts = task.u64("attempts", 1..=u32::MAX.into());
        let passed = task.u64("passed", 0..=attempts);
        Some(Self { passed: passed as u32, attempts: attempts as u32 })
    }
}

#[derive(Serialize)]
struct ManifestToml<'a> {
    schema_version: &'a str,
    #[serde(skip_serializing_if = "<[PathBuf]>::is_empty")]
    roots: &'a [PathBuf],
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
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
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
