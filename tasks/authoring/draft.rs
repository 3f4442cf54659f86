//! The files of a task as its builder writes them: instruction, environment, tests, solution, and
//! known wrong solutions. The builder's answer is a sequence of `<file path="...">` and
//! `<remove path="..."/>`; `task.toml` is ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::authoring::blocks::{Block, blocks};
use crate::authoring::idea::Idea;
use crate::dockerfile::{Dockerfile, Instruction};
use crate::file_tree::FileTree;
use crate::harbor::{CONFIG_FILE, SCHEMA_VERSION};
use crate::similarity::Text;

/// All the files of one task.
const FILES_MAX: usize = 64;
/// One file, in bytes: what is larger is not written by hand, and a script can make it.
const FILE_BYTES_MAX: usize = 64 << 10;
/// All of them together, in bytes.
const TASK_BYTES_MAX: usize = 256 << 10;
/// The instruction, in bytes.
const INSTRUCTION_BYTES_MAX: usize = 8 << 10;
const PATH_BYTES_MAX: usize = 200;

/// The tags of an answer with files.
pub(super) const TAGS: [&str; 2] = ["file", "remove"];

const INSTRUCTION: &str = "instruction.md";
const DOCKERFILE: &str = "environment/Dockerfile";
const FOLDERS: [&str; 4] = ["environment", "tests", "solution", "known-bad"];
const NEEDED: [&str; 4] = [INSTRUCTION, DOCKERFILE, "tests/test.sh", "solution/solve.sh"];
const BASE: &str = "orcapack/base:1";

/// A task of its own is none of these; an image that needs the network to be built is another one
/// each time.
const NETWORK_PROGRAMS: [&str; 15] = [
    "apt", "apt-get", "aptitude", "curl", "cargo", "gem", "go", "npm", "pip", "pip3", "rsync",
    "scp", "ssh", "wget", "yarn",
];

/// What a task consists of, whole and within its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// By path below the task's folder.
    files: BTreeMap<String, String>,
}

/// Files that are put in the place of others, or taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// By path; `None` takes it away.
    files: BTreeMap<String, Option<String>>,
}

impl Change {
    /// Reads a builder's answer.
    ///
    /// # Errors
    /// Everything that is wrong with it, for its author to mend.
    pub fn read(answer: &str) -> Result<Self, Vec<String>> {
        let change = Self::of(&blocks(answer, &TAGS)?)?;
        if change.is_empty() {
            return Err(vec!["expected <file path=\"PATH\"> and its text, found none".to_owned()]);
        }
        Ok(change)
    }

    pub(super) fn of(blocks: &[Block<'_>]) -> Result<Self, Vec<String>> {
        let (mut change, mut faults) = (Self::default(), Vec::new());
        for Block { tag, path, line, body } in blocks {
            let Some(path) = path else {
                faults.push(format!("line {line}: expected <{tag} path=\"PATH\">, found no path"));
                continue;
            };
            if let Err(expected) = may_be_written(path) {
                faults.push(format!("line {line}: {path}: expected {expected}"));
            } else if body.len() > FILE_BYTES_MAX {
                let found = body.len();
                faults.push(format!(
                    "line {line}: {path}: expected at most {FILE_BYTES_MAX} bytes, found {found}"
                ));
            }
            let text = (*tag == "file").then(|| body.clone());
            if change.files.insert((*path).to_owned(), text).is_some() {
                faults.push(format!(
                    "line {line}: {path}: expected one file of this path, found two"
                ));
            }
        }
        if faults.is_empty() { Ok(change) } else { Err(faults) }
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

/// What was expected instead, where a path will not do.
fn may_be_written(path: &str) -> Result<(), String> {
    let is_plain = FileTree::is_plain_path(path)
        && path.len() <= PATH_BYTES_MAX
        && path.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if !is_plain {
        return Err(format!(
            "a path of plain parts below the task's folder, at most {PATH_BYTES_MAX} bytes"
        ));
    }
    let (folder, name) = path.split_once('/').unwrap_or(("", path));
    match folder {
        "" if path == INSTRUCTION => Ok(()),
        "known-bad" if !is_known_bad(name) => Err("known-bad/NAME.sh".to_owned()),
        _ if FOLDERS.contains(&folder) => Ok(()),
        _ => Err(format!("{INSTRUCTION}, or a path below {}", FOLDERS.join(", "))),
    }
}

fn is_known_bad(name: &str) -> bool {
    let name = name.strip_suffix(".sh").unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl Draft {
    /// With these changes.
    ///
    /// # Errors
    /// Everything that is wrong with what comes of them, for their author to mend.
    pub fn with(&self, change: &Change) -> Result<Self, Vec<String>> {
        let mut draft = self.clone();
        for (path, text) in &change.files {
            match text {
                Some(text) => draft.files.insert(path.clone(), text.clone()),
                None => draft.files.remove(path),
            };
        }
        let faults = draft.faults();
        if faults.is_empty() { Ok(draft) } else { Err(faults) }
    }

    fn faults(&self) -> Vec<String> {
        let missing = NEEDED.iter().filter(|path| !self.files.contains_key(**path));
        let mut faults: Vec<String> =
            missing.map(|path| format!("{path}: expected a file, found none")).collect();
        if !self.files.keys().any(|path| path.starts_with("known-bad/")) {
            faults.push("known-bad/NAME.sh: expected one at least, found none".to_owned());
        }
        let too_many = |what: &str, max: usize, found: usize| {
            (found > max).then(|| format!("expected at most {max} {what}, found {found}"))
        };
        let bytes = self.files.values().map(String::len).sum();
        faults.extend(too_many("files", FILES_MAX, self.files.len()));
        faults.extend(too_many("bytes in all files", TASK_BYTES_MAX, bytes));
        faults.extend(too_many(
            "bytes in instruction.md",
            INSTRUCTION_BYTES_MAX,
            self.instruction().len(),
        ));
        if self.files.get(INSTRUCTION).is_some_and(|text| text.trim().is_empty()) {
            faults.push(format!("{INSTRUCTION}: expected an instruction, found an empty file"));
        }
        let is_folder = |path: &String| {
            let below = format!("{path}/");
            self.files.keys().any(|other| other.starts_with(&below))
        };
        let both = self.files.keys().filter(|path| is_folder(path));
        faults.extend(both.map(|path| format!("{path}: expected a file or a folder, found both")));
        if let Some(text) = self.files.get(DOCKERFILE) {
            faults.extend(dockerfile_faults(text));
        }
        faults
    }

    pub fn instruction(&self) -> &str {
        self.files.get(INSTRUCTION).map_or("", String::as_str)
    }

    /// The files of its tests.
    pub fn tests(&self) -> Vec<String> {
        let tests = self.files.iter().filter(|(path, _)| path.starts_with("tests/"));
        tests.map(|(_, text)| text.clone()).collect()
    }

    /// What it is compared by; `tests` are [its own](Self::tests).
    pub fn text<'t>(&'t self, idea: &'t Idea, tests: &'t [String]) -> Text<'t> {
        Text { name: &idea.slug, instruction: self.instruction(), tests }
    }

    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// As blocks of an answer: these files, and of those that are gone that they are.
    pub(super) fn show<'p>(&self, paths: impl IntoIterator<Item = &'p str>) -> String {
        let mut shown = String::new();
        for path in paths {
            // Writing into a string cannot fail.
            let _ = match self.files.get(path) {
                Some(text) => writeln!(shown, "<file path=\"{path}\">\n{text}</file>"),
                None => writeln!(shown, "<remove path=\"{path}\"/>"),
            };
        }
        shown
    }

    /// The whole task directory.
    pub fn tree(&self, idea: &Idea) -> FileTree {
        let mut tree = FileTree::default();
        tree.insert(CONFIG_FILE, config(idea).as_bytes(), false);
        for (path, text) in &self.files {
            let is_script = path.ends_with(".sh") || text.starts_with("#!");
            tree.insert(path.as_str(), text.as_bytes(), is_script);
        }
        tree
    }
}

/// Limits are wide for what is asked for: an agent that thinks needs minutes.
fn config(idea: &Idea) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let (title, slug, category) = (quoted(&idea.title), &idea.slug, &idea.category);
    let difficulty = idea.difficulty.as_str();
    format!(
        r#"schema_version = "{SCHEMA_VERSION}"

[task]
name = "authored/{slug}"
description = {title}
keywords = ["{category}"]

[metadata]
difficulty = "{difficulty}"
category = "{category}"
tags = ["{category}"]

[environment]
network_mode = "no-network"
memory_mb = 512

[agent]
timeout_sec = 600.0

[verifier]
timeout_sec = 60.0
"#
    )
}

fn dockerfile_faults(text: &str) -> Vec<String> {
    let dockerfile = match Dockerfile::parse(Path::new(DOCKERFILE), text) {
        Ok(dockerfile) => dockerfile,
        Err(defects) => return defects.0.iter().map(ToString::to_string).collect(),
    };
    let mut faults = Vec::new();
    if dockerfile.from != BASE {
        let found = &dockerfile.from;
        faults.push(format!("{DOCKERFILE}: FROM: expected {BASE}, found {found}"));
    }
    for (line, instruction) in &dockerfile.instructions {
        let command = match instruction {
            Instruction::RunShell(command) => command.clone(),
            Instruction::RunExec(words) => words.join(" "),
            _ => continue,
        };
        let mut words = command.split(|c: char| c.is_whitespace() || ";&|(){}`$\"'".contains(c));
        let program = words.find_map(|word| {
            let name = word.rsplit('/').next().unwrap_or_default();
            NETWORK_PROGRAMS.contains(&name).then_some(name)
        });
        if let Some(program) = program {
            faults.push(format!(
                "{DOCKERFILE}:{line}: RUN: expected no program that needs the network, found \
                 {program}"
            ));
        }
    }
    faults
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
