//! Where things lie: the tree in the README, and the folders of the built-in tasks.

use std::collections::BTreeSet;
use std::fs;

use crate::{files, none, read, root};

/// The README's tree has a line for every file, so that a newcomer finds what they look for. A
/// file of tests, `X_tests.rs`, belongs to `X.rs`, and a test's folder to its `main.rs`.
#[test]
fn the_readme_lists_every_file() {
    let listed = listed();
    let is_code = |path: &String| path.ends_with(".rs") || path.ends_with(".sh");
    let present: BTreeSet<String> =
        files().into_iter().filter(is_code).filter(|path| !path.ends_with("_tests.rs")).collect();
    let missing = present.difference(&listed).map(|path| format!("{path}: not in the README"));
    let gone = listed
        .iter()
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("{path}: in the README only"));
    none(missing.chain(gone), "the tree in README.md has one line for every file");
}

/// Paths out of the block of the README that begins with the root's name: two columns of
/// indentation for each level, then a name, then what it is.
fn listed() -> BTreeSet<String> {
    let readme = read("README.md");
    let block = readme.text.split("```text\norcapack/\n").nth(1).expect("the tree in README.md");
    let block = block.split("```").next().expect("its end");
    let mut folders: Vec<&str> = Vec::new();
    let mut paths = BTreeSet::new();
    for line in block.lines() {
        let name = line.split_whitespace().next().expect("no empty lines in the tree");
        let depth = (line.len() - line.trim_start().len()) / 2;
        folders.truncate(depth - 1);
        match name.strip_suffix('/') {
            Some(folder) => folders.push(folder),
            None => drop(paths.insert([&folders[..], &[name]].concat().join("/"))),
        }
    }
    paths
}

#[test]
fn every_built_in_task_is_whole() {
    let demanded = [
        "task.toml",
        "instruction.md",
        "environment/Dockerfile",
        "solution/solve.sh",
        "tests/test.sh",
        "tests/test_outputs.py",
    ];
    let mut faults = Vec::new();
    for task in fs::read_dir(root().join("tasks/builtin")).unwrap() {
        let task = task.unwrap().path();
        let missing = demanded.iter().filter(|file| !task.join(file).is_file());
        faults.extend(missing.map(|file| format!("{}: no {file}", task.display())));
        let known_bad = fs::read_dir(task.join("known-bad")).map_or(0, Iterator::count);
        if known_bad < 2 {
            faults.push(format!("{}: {known_bad} known-bad solutions", task.display()));
        }
        let dockerfile = fs::read_to_string(task.join("environment/Dockerfile")).unwrap();
        if !dockerfile.starts_with("FROM orcapack/base:1\n") {
            faults.push(format!("{}: not on orcapack/base:1", task.display()));
        }
    }
    none(faults, "a task that wrong solutions have not been tried on is not known to grade");
}
