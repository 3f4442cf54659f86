//! Habits of this repository, held by a machine so that nobody has to remember them. Each says why
//! it is there. What a tool holds already is not here: layout is rustfmt's; `todo!`, `dbg!`, a lint
//! that is silenced without a reason, and the like are clippy's, in `Cargo.toml`.

mod imports;
mod layout;
mod packages;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours, or the material of tasks, which follows rules of its own.
const LEFT_OUT: [&str; 5] = [".git", "target", "runs", "snapshots", "builtin"];

/// A text file of the repository.
struct Source {
    /// Relative to the repository's root.
    path: String,
    text: String,
}

impl Source {
    /// Wholly a test, or a driver of tests.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.starts_with("benches/")
            || self.path.ends_with("_tests.rs")
            || self.path == "tasks/fixture.rs"
    }

    /// Numbered lines of the program itself, without those of its tests.
    fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test() { 0 } else { self.tests_start() };
        self.lines().take(end)
    }

    /// Numbered lines of tests.
    fn tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let start = if self.is_test() { 0 } else { self.tests_start() };
        self.lines().skip(start)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// How many lines come before the module of unit tests, which is a file's last part.
    fn tests_start(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_start = |at: usize| {
            lines[at] == "#[cfg(test)]"
                && lines.iter().skip(at + 1).take(2).any(|line| line.contains("mod tests"))
        };
        (0..lines.len()).find(|at| is_start(*at)).unwrap_or(lines.len())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files, sorted by path.
fn rust() -> Vec<Source> {
    let mut sources = files();
    sources.retain(|path| path.ends_with(".rs"));
    sources.into_iter().map(read).collect()
}

/// The Rust files of one crate: `actors`, `runtime` or `tasks`.
fn of_crate(name: &str) -> Vec<Source> {
    let mut sources = rust();
    sources.retain(|source| source.path.starts_with(&format!("{name}/")));
    assert!(!sources.is_empty(), "no files in {name}/");
    sources
}

fn read(path: impl Into<String>) -> Source {
    let path = path.into();
    let text = fs::read_to_string(root().join(&path));
    Source { text: text.unwrap_or_else(|error| panic!("{path}: {error}")), path }
}

/// The paths of all files that are ours.
fn files() -> Vec<String> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && !LEFT_OUT.contains(&name.as_str()) => {
                    folders.push(folder.join(name));
                }
                kind if kind.is_file() => files.push(folder.join(name).display().to_string()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// Fails with all of the faults at once, and with the reason of the habit that they break.
#[track_caller]
fn none(faults: impl IntoIterator<Item = String>, reason: &str) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{reason}\n  {}\n", faults.join("\n  "));
}

#[test]
fn a_program_and_its_tests_are_told_apart() {
    let text = "use x;\n\n#[cfg(test)]\nuse y;\n\n#[cfg(test)]\n#[path = \"t\"]\nmod tests;\n";
    let source = Source { path: "actors/x.rs".to_owned(), text: text.to_owned() };
    assert_eq!((source.program().count(), source.tests().count()), (5, 3));
    let source = Source { path: "tests/x.rs".to_owned(), text: text.to_owned() };
    assert_eq!((source.program().count(), source.tests().count()), (0, 8));
}
