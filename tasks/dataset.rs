//! Data sets: many tasks under one path, in whatever format, with every defect in them at once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::caps::SEARCH_DEPTH_MAX;
use crate::defect::{Defect, Defects};
use crate::env_template::Lookup;
use crate::harbor::folder_name;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::task::Task;
use crate::{harbor, orca_csv, terminal_bench};

/// The tasks that are good, sorted by name, and what is wrong with the others.
#[derive(Debug)]
pub struct DataSet {
    /// From its manifest, or the name of its file or folder.
    pub name: String,
    pub tasks: Vec<Task>,
    /// By task: its folder below the data set's, its row's id, or its name.
    pub defects: Vec<(String, Defects)>,
}

pub struct LoadOptions<'a> {
    /// The values of `${VAR}` in the environment variables of tasks.
    pub lookup: Lookup<'a>,
}

/// What a path can be.
enum Kind {
    Folder,
    Csv,
    Manifest,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Defects> {
        const EXPECTED: &str = "a data set's folder, CSV file or manifest";
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Defect::new(path, EXPECTED, "nothing"),
            _ => Defect::new(path, EXPECTED, error.to_string()),
        })?;
        let ending = path.extension().and_then(|extension| extension.to_str());
        match ending {
            _ if metadata.is_dir() => Ok(Self::Folder),
            Some("csv") if metadata.is_file() => Ok(Self::Csv),
            Some("toml") if metadata.is_file() => Ok(Self::Manifest),
            _ => {
                let expected = "a data set's folder, or a file that ends in .csv (Orca's) or .toml \
                                (a manifest)";
                Err(Defect::new(path, expected, "another file").into())
            }
        }
    }
}

/// Loads a task's folder, a folder of such folders with or without a manifest, an Orca CSV file, or
/// a manifest that says where its tasks lie.
///
/// An error is one of the data set as a whole: it cannot be read, or has no tasks at all.
pub fn load(path: &Path, options: &LoadOptions<'_>) -> Result<DataSet, Defects> {
    let kind = Kind::of(path)?;
    let mut set = match manifest(path, &kind)? {
        Some(manifest) => listed(&manifest, options)?,
        None => {
            let mut set = DataSet::named(match kind {
                Kind::Folder => folder_name(path).unwrap_or_default(),
                Kind::Csv | Kind::Manifest => stem(path),
            });
            set.find(path, &kind, options)?;
            set.refuse_duplicates();
            set
        }
    };
    set.tasks.sort_by(|a, b| a.name.cmp(&b.name));
    if set.tasks.is_empty() && set.defects.is_empty() {
        let expected = match kind {
            Kind::Csv => "rows with tasks".to_owned(),
            Kind::Manifest => "[[tasks]], one at least".to_owned(),
            Kind::Folder => format!(
                "tasks (folders with {} or {}) at most {SEARCH_DEPTH_MAX} deep",
                harbor::CONFIG_FILE,
                terminal_bench::CONFIG_FILE
            ),
        };
        return Err(Defect::new(path, expected, "none").into());
    }
    Ok(set)
}

/// Where the tasks of a data set lie: what its manifest says, or the path itself.
///
/// # Errors
/// It is no data set, or its manifest cannot be read.
pub fn roots(path: &Path) -> Result<Vec<PathBuf>, Defects> {
    let manifest = manifest(path, &Kind::of(path)?)?;
    Ok(manifest.map_or_else(|| vec![path.to_owned()], |manifest| manifest.root_paths()))
}

/// All tasks that lie there, listed in a manifest or not, those of one name too, and the defects of
/// the others.
///
/// # Errors
/// One of them is neither a folder nor a CSV file, or the file cannot be read.
pub fn search(roots: &[PathBuf], options: &LoadOptions<'_>) -> Result<DataSet, Defects> {
    let mut set = DataSet::named(String::new());
    for root in roots {
        set.find(root, &Kind::of(root)?, options)?;
    }
    Ok(set)
}

/// Of a manifest, or of a folder that has one.
fn manifest(path: &Path, kind: &Kind) -> Result<Option<Manifest>, Defects> {
    let file = match kind {
        Kind::Csv => return Ok(None),
        Kind::Manifest => path.to_owned(),
        Kind::Folder => path.join(MANIFEST_FILE),
    };
    let is_there = file.symlink_metadata().is_ok();
    is_there.then(|| Manifest::read(&file)).transpose()
}

fn listed(manifest: &Manifest, options: &LoadOptions<'_>) -> Result<DataSet, Defects> {
    let mut set = DataSet::named(manifest.name.clone());
    for root in manifest.root_paths() {
        match Kind::of(&root) {
            Ok(kind @ (Kind::Folder | Kind::Csv)) => set.find(&root, &kind, options)?,
            Ok(Kind::Manifest) => return Err(manifest.refuse_root(&root, "another manifest")),
            Err(_) => return Err(manifest.refuse_root(&root, "nothing that can be read")),
        }
    }
    if manifest.roots.is_empty() {
        set.refuse_duplicates();
    }
    let (tasks, defects) = manifest.verify(std::mem::take(&mut set.tasks));
    set.tasks = tasks;
    set.defects.extend(defects);
    Ok(set)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folders that hold a task, in the order of their paths; never one inside another.
fn find(dir: &Path, depth: usize, found: &mut Vec<PathBuf>, defects: &mut Vec<(String, Defects)>) {
    let marks = [harbor::CONFIG_FILE, terminal_bench::CONFIG_FILE, "instruction.md"];
    if marks.iter().any(|mark| dir.join(mark).symlink_metadata().is_ok()) {
        found.push(dir.to_owned());
        return;
    }
    if depth == SEARCH_DEPTH_MAX {
        return;
    }
    let mut report = |path: &Path, expected: &str, what: String| {
        defects.push((path.display().to_string(), Defect::new(path, expected, what).into()));
    };
    let entries = match fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return report(dir, "a folder that can be read", error.to_string()),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let name = entry.file_name();
        let skipped = name == "target" || name.as_encoded_bytes().starts_with(b".");
        match entry.file_type() {
            _ if skipped => {}
            Ok(kind) if kind.is_dir() => folders.push(entry.path()),
            Ok(kind) if kind.is_symlink() && entry.path().is_dir() => {
                report(&entry.path(), "a task's folder", "a symbolic link".to_owned());
            }
            Ok(_) => {}
            Err(error) => report(&entry.path(), "a task's folder", error.to_string()),
        }
    }
    folders.sort();
    for folder in folders {
        find(&folder, depth + 1, found, defects);
    }
}

impl DataSet {
    fn named(name: String) -> Self {
        Self { name, tasks: Vec::new(), defects: Vec::new() }
    }

    /// Adds the tasks of a folder or a CSV file, whatever a manifest says of them.
    fn find(&mut self, path: &Path, kind: &Kind, options: &LoadOptions<'_>) -> Result<(), Defects> {
        match kind {
            Kind::Folder => self.find_below(path, options),
            Kind::Csv => {
                let rows = orca_csv::read(path)?;
                self.tasks.extend(rows.tasks);
                self.defects.extend(rows.defects);
            }
            Kind::Manifest => {
                let expected = "a folder of tasks or a CSV file";
                return Err(Defect::new(path, expected, "a manifest").into());
            }
        }
        Ok(())
    }

    fn find_below(&mut self, path: &Path, options: &LoadOptions<'_>) {
        let mut found = Vec::new();
        find(path, 0, &mut found, &mut self.defects);
        for dir in found {
            let below = dir.strip_prefix(path).unwrap_or(&dir).display().to_string();
            let task = if dir.join(harbor::CONFIG_FILE).symlink_metadata().is_ok() {
                harbor::read(&dir, options.lookup)
            } else if dir.join(terminal_bench::CONFIG_FILE).symlink_metadata().is_ok() {
                terminal_bench::read(&dir, options.lookup)
            } else {
                let expected = format!("{} beside instruction.md", harbor::CONFIG_FILE);
                Err(Defect::new(&dir, expected, "none").into())
            };
            match task {
                Ok(task) => self.tasks.push(task),
                Err(defects) if below.is_empty() => {
                    self.defects.push((folder_name(path).unwrap_or_default(), defects));
                }
                Err(defects) => self.defects.push((below, defects)),
            }
        }
    }

    /// Of tasks with one name the first stays.
    fn refuse_duplicates(&mut self) {
        let mut first: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut kept = Vec::new();
        for task in std::mem::take(&mut self.tasks) {
            if let Some(other) = first.get(&task.name) {
                let found = format!("{:?}, the name of {}", task.name, other.display());
                let defect = Defect::new(&task.source, "a name that no other task has", found);
                self.defects.push((task.name, defect.into()));
            } else {
                first.insert(task.name.clone(), task.source.clone());
                kept.push(task);
            }
        }
        self.tasks = kept;
    }
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
