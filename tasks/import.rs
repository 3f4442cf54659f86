//! Writes a task of any format as a Harbor 1.4 directory.
//!
//! Harbor's reward is a file that the tests write; where a task is graded by pytest's summary
//! instead, a `tests/test.sh` is added that runs the task's own script and writes the file: 1 when
//! every test passed, else 0. Weights of tests have no place in the format and are left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::defect::{Defect, Defects};
use crate::file_tree::FileTree;
use crate::harbor::CONFIG_FILE;
use crate::harbor_toml;
use crate::task::{Grading, ImageSource, Task, VerifierMode, VerifierSpec};

const TEST_SCRIPT: &str = "test.sh";

/// Writes `task` to `dir`, which must not be there yet. On an error nothing is left at `dir`.
///
/// `${VAR}`s in environment variables have been resolved when the task was read, and are written as
/// their values.
pub fn write(task: &Task, dir: &Path) -> Result<(), Defects> {
    write_folder(&files(task, dir)?, dir)
}

/// The same of files that are a task directory already.
///
/// # Errors
/// `dir` is there, or cannot be written.
pub fn write_folder(files: &FileTree, dir: &Path) -> Result<(), Defects> {
    if dir.symlink_metadata().is_ok() {
        return Err(Defect::new(dir, "a folder that is not there yet", "one that is").into());
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let partial = dir.with_file_name(format!(".{name}.partial"));
    let written = write_files(files, &partial).and_then(|()| fs::rename(&partial, dir));
    written.map_err(|error| {
        let _ = fs::remove_dir_all(&partial);
        Defect::new(dir, "a folder that can be written", error.to_string()).into()
    })
}

fn write_files(files: &FileTree, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (path, entry) in files.iter() {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, entry.read()?)?;
        let mode = if entry.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    // Harbor wants the folder, also where the image is a prebuilt one.
    fs::create_dir_all(dir.join("environment"))
}

fn files(task: &Task, dir: &Path) -> Result<FileTree, Defects> {
    let mut files = FileTree::default();
    files.insert(CONFIG_FILE, config(task, dir)?.as_bytes(), false);
    if let ImageSource::Dockerfile(context) = &task.environment.image {
        add(&mut files, "environment", context);
    }
    for step in &task.steps {
        let prefix =
            if step.name.is_empty() { String::new() } else { format!("steps/{}/", step.name) };
        files.insert(format!("{prefix}instruction.md"), step.instruction.as_bytes(), false);
        add(&mut files, &format!("{prefix}tests"), &tests(&step.verifier, dir)?);
        if let Some(solution) = &step.solution {
            add(&mut files, &format!("{prefix}solution"), &solution.files);
        }
        add(&mut files, &format!("{prefix}workdir"), &step.workdir_files);
    }
    for (name, tree) in &task.known_bad {
        if let Some(script) = tree.get("solve.sh") {
            files.insert_entry(format!("known-bad/{name}.sh"), script.clone());
        }
    }
    Ok(files)
}

fn add(files: &mut FileTree, folder: &str, tree: &FileTree) {
    for (path, entry) in tree.iter() {
        files.insert_entry(format!("{folder}/{path}"), entry.clone());
    }
}

fn tests(verifier: &VerifierSpec, dir: &Path) -> Result<FileTree, Defects> {
    let mut tests = verifier.tests.clone();
    if verifier.grading == Grading::RewardFile {
        return Ok(tests);
    }
    if tests.get(TEST_SCRIPT).is_some() {
        let expected = "no test.sh among the tests of a task that is graded by pytest's summary";
        return Err(Defect::new(dir, expected, "one").into());
    }
    tests.insert(TEST_SCRIPT, pytest_script(&verifier.script).as_bytes(), true);
    Ok(tests)
}

fn pytest_script(script: &str) -> String {
    format!(
        r#"#!/bin/bash
# The reward is 1 when pytest's summary has passed tests and no others, else 0.
mkdir -p /logs/verifier
bash {script} 2>&1 | tee /logs/verifier/output.txt
awk '
  /short test summary info/ {{ summary = 1; passed = 0; others = 0; next }}
  summary && /^PASSED / {{ passed++ }}
  summary && /^(FAILED|ERROR|SKIPPED|XFAIL|XPASS) / {{ others++ }}
  END {{ print (passed > 0 && others == 0) ? 1 : 0 }}
' /logs/verifier/output.txt > /logs/verifier/reward.txt
"#
    )
}

fn config(task: &Task, dir: &Path) -> Result<String, Defects> {
    refuse_templates(task, dir)?;
    toml::to_string(&harbor_toml::of(task))
        .map_err(|error| Defect::new(dir, "a task that TOML can hold", error.to_string()).into())
}

/// The format has no way to write a `${` in an environment variable as itself.
fn refuse_templates(task: &Task, dir: &Path) -> Result<(), Defects> {
    let own = |verifier: &VerifierSpec| match &verifier.mode {
        VerifierMode::Separate(Some(own)) => own.env.clone(),
        VerifierMode::Separate(None) | VerifierMode::Shared => BTreeMap::new(),
    };
    let mut envs = vec![task.environment.env.clone()];
    for step in &task.steps {
        envs.extend([step.verifier.env.clone(), own(&step.verifier)]);
        envs.extend(step.solution.as_ref().map(|solution| solution.env.clone()));
    }
    let defects =
        envs.iter().flatten().filter(|(_, value)| value.contains("${")).map(|(name, _)| {
            Defect::new(dir, "no `${` in an environment variable's value", "one").at_key(name)
        });
    Defects(defects.collect()).into_result(())
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
