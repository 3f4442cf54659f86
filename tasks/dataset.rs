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

/// Loads a task's folder, a folder of such folders with or without a manifest, or an Orca CSV file.
///
/// An error is one of the data set as a whole: it cannot be read, or has no tasks at all.
pub fn load(path: &Path, options: &LoadOptions<'_>) -> Result<DataSet, Defects> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Defect::new(path, "a data set's folder or CSV file", "nothing"),
        _ => Defect::new(path, "a data set's folder or CSV file", error.to_string()),
    })?;
    let mut set = DataSet {
        name: path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        tasks: Vec::new(),
        defects: Vec::new(),
    };
    if metadata.is_file() && path.extension().is_some_and(|extension| extension == "csv") {
        let rows = orca_csv::read(path)?;
        set.tasks = rows.tasks;
        set.defects = rows.defects;
    } else if metadata.is_dir() {
        set.name = folder_name(path).unwrap_or_default();
        load_folder(path, options, &mut set)?;
    } else {
        let expected = "a data set's folder, or an Orca file that ends in .csv";
        return Err(Defect::new(path, expected, "another file").into());
    }
    set.tasks.sort_by(|a, b| a.name.cmp(&b.name));
    if set.tasks.is_empty() && set.defects.is_empty() {
        let expected = if metadata.is_file() {
            "rows with tasks".to_owned()
        } else {
            let (harbor, terminal_bench) = (harbor::CONFIG_FILE, terminal_bench::CONFIG_FILE);
            format!(
                "tasks (folders with {harbor} or {terminal_bench}) at most {SEARCH_DEPTH_MAX} deep"
            )
        };
        return Err(Defect::new(path, expected, "none").into());
    }
    Ok(set)
}

fn load_folder(path: &Path, options: &LoadOptions<'_>, set: &mut DataSet) -> Result<(), Defects> {
    let mut found = Vec::new();
    find(path, 0, &mut found, &mut set.defects);
    for dir in found {
        let below = dir.strip_prefix(path).unwrap_or(&dir).display().to_string();
        let label = if below.is_empty() { set.name.clone() } else { below };
        let task = if dir.join(harbor::CONFIG_FILE).symlink_metadata().is_ok() {
            harbor::read(&dir, options.lookup)
        } else if dir.join(terminal_bench::CONFIG_FILE).symlink_metadata().is_ok() {
            terminal_bench::read(&dir, options.lookup)
        } else {
            let expected = format!("{} beside instruction.md", harbor::CONFIG_FILE);
            Err(Defect::new(&dir, expected, "none").into())
        };
        match task {
            Ok(task) => set.tasks.push(task),
            Err(defects) => set.defects.push((label, defects)),
        }
    }
    set.refuse_duplicates();
    let manifest = path.join(MANIFEST_FILE);
    if manifest.symlink_metadata().is_ok() {
        let manifest = Manifest::read(&manifest)?;
        let (tasks, defects) = manifest.verify(std::mem::take(&mut set.tasks));
        set.tasks = tasks;
        set.defects.extend(defects);
        set.name = manifest.name;
    }
    Ok(())
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
