//! Terminal-Bench 1 task directories: `task.yaml`, a Dockerfile beside it, `run-tests.sh` and
//! `tests/`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::caps::TASK_CONFIG_BYTES_MAX;
use crate::compose;
use crate::defect::{Defect, Defects};
use crate::env_template::Lookup;
use crate::file_tree::{Digest, FileTree};
use crate::folder::TaskFolder;
use crate::harbor::folder_name;
use crate::harbor_environment::{TIMEOUT_SEC, check_dockerfile};
use crate::task::{
    AgentSpec, EnvironmentSpec, Format, Grading, ImageSource, RewardStrategy, Solution, Step, Task,
    VerifierMode, VerifierSpec,
};
use crate::task_digest;
use crate::toml_section::Section;
use crate::yaml_doc;

pub const CONFIG_FILE: &str = "task.yaml";
pub const TEST_SCRIPT: &str = "run-tests.sh";
/// Of the task's folder, which is the build context too, these never get near an image.
const NOT_CONTEXT: [&str; 6] =
    [CONFIG_FILE, compose::FILE, "solution.sh", "solution.yaml", TEST_SCRIPT, "tests"];

/// Reads a task's directory; `lookup` gives the values of `${VAR}` in its compose file.
pub fn read(dir: &Path, lookup: Lookup<'_>) -> Result<Task, Defects> {
    let mut folder = TaskFolder::new(dir);
    let Some(text) = folder.text(CONFIG_FILE, TASK_CONFIG_BYTES_MAX) else {
        return Err(folder.into_defects());
    };
    let doc = yaml_doc::parse(&folder.path(CONFIG_FILE), &text)?;
    let root = doc.root();
    let client = compose::read(&mut folder, lookup);
    let mut task = Task {
        name: folder_name(dir).unwrap_or_else(|| {
            folder.report("", "a folder whose name is UTF-8", format!("{dir:?}"));
            String::new()
        }),
        source: dir.to_owned(),
        format: Format::TerminalBench1,
        digest: Digest([0; 32]),
        description: String::new(),
        difficulty: root.opt_string("difficulty"),
        category: root.opt_string("category"),
        tags: root.strings("tags"),
        environment: environment(&mut folder, client),
        steps: vec![step(&mut folder, &root)],
        reward_strategy: RewardStrategy::Mean,
        known_bad: Vec::new(),
        keep_processes: false,
    };
    not_needed(&root);
    if let Err(defects) = doc.finish(()) {
        folder.append(defects);
    }
    task.digest = task_digest::of(&task);
    folder.into_defects().into_result(task)
}

/// What the format holds beyond a task's meaning, and what would change it in a way not supported.
fn not_needed(root: &Section<'_>) {
    for key in ["author_name", "author_email"] {
        root.opt_string(key);
    }
    for key in ["expert_time_estimate_min", "junior_time_estimate_min", "estimated_duration_sec"] {
        root.opt_f64(key, 0.0..=f64::INFINITY);
    }
    root.opt_bool("disable_asciinema");
    root.opt_one_of("parser_name", &[("pytest", ())]);
    if root.bool_or("run_tests_in_same_shell", false) {
        let expected = "false, as the tests never run in the agent's shell";
        root.refuse("run_tests_in_same_shell", expected, "true");
    }
}

fn step(folder: &mut TaskFolder, root: &Section<'_>) -> Step {
    let seconds =
        |key, default| root.duration_sec_or(key, Duration::from_secs(default), TIMEOUT_SEC);
    Step {
        name: String::new(),
        instruction: instruction(root),
        agent: AgentSpec { timeout: seconds("max_agent_timeout_sec", 360), user: None },
        verifier: VerifierSpec {
            timeout: seconds("max_test_timeout_sec", 60),
            user: None,
            env: BTreeMap::from([("TEST_DIR".to_owned(), "/tests".to_owned())]),
            mode: VerifierMode::Shared,
            tests: tests(folder),
            script: format!("/tests/{TEST_SCRIPT}"),
            grading: Grading::Pytest { weights: BTreeMap::new() },
            collect: Vec::new(),
        },
        solution: solution(folder),
        workdir_files: FileTree::default(),
        healthcheck: None,
        min_reward: None,
        artifacts: Vec::new(),
    }
}

/// `instruction`, or of several `descriptions` the one with the key `base`, or else the first.
fn instruction(root: &Section<'_>) -> String {
    let descriptions = root.sections("descriptions");
    if descriptions.is_empty() {
        return root.string("instruction");
    }
    let mut texts: Vec<(String, String)> = descriptions
        .iter()
        .map(|section| (section.string("key"), section.string("description")))
        .collect();
    let base = texts.iter().position(|(key, _)| key == "base").unwrap_or(0);
    texts.swap_remove(base).1
}

fn tests(folder: &mut TaskFolder) -> FileTree {
    let mut tests = folder.tree("tests");
    tests.overlay(&folder.tree_of("", &|name| name == TEST_SCRIPT));
    if tests.get(TEST_SCRIPT).is_none() {
        folder.report(TEST_SCRIPT, "the script that runs the tests", "nothing");
    }
    tests
}

fn environment(folder: &mut TaskFolder, client: compose::Client) -> EnvironmentSpec {
    let context = folder.tree_of("", &|name| !NOT_CONTEXT.contains(&name));
    if let Err(found) = check_dockerfile(&context) {
        folder.report("Dockerfile", "a Dockerfile with a FROM instruction", found);
    }
    EnvironmentSpec {
        image: ImageSource::Dockerfile(context),
        build_timeout: Duration::from_secs(600),
        cpus: None,
        memory_mb: None,
        storage_mb: None,
        env: client.env,
        workdir: None,
        network: client.network,
        healthcheck: None,
    }
}

/// `solution.sh`, or the commands of `solution.yaml` as a script.
fn solution(folder: &mut TaskFolder) -> Option<Solution> {
    let (script, commands) = (folder.has("solution.sh"), folder.has("solution.yaml"));
    if script && commands {
        folder.report("solution.yaml", "one solution", "solution.sh as well");
    }
    let mut files = FileTree::default();
    if script {
        let read = folder.tree_of("", &|name| name == "solution.sh");
        files.insert_entry("solve.sh", read.get("solution.sh")?.clone());
    } else if commands {
        let text = folder.text("solution.yaml", TASK_CONFIG_BYTES_MAX)?;
        match script_of_commands(&folder.path("solution.yaml"), &text) {
            Ok(script) => files.insert("solve.sh", script.as_bytes(), true),
            Err(defects) => {
                folder.append(defects);
                return None;
            }
        }
    } else {
        return None;
    }
    Some(Solution { files, env: BTreeMap::new() })
}

/// An entry of `solution.yaml`: what is typed into the terminal, and for how long to wait then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    command: String,
    #[serde(default)]
    block: bool,
    #[serde(default = "enter")]
    append_enter: bool,
    #[serde(default, rename = "min_timeout_sec")]
    _min_timeout_sec: Option<f64>,
    #[serde(default, rename = "max_timeout_sec")]
    _max_timeout_sec: Option<f64>,
}

fn enter() -> bool {
    true
}

/// Only commands that are waited for make a script; key presses for a program on the screen do not.
fn script_of_commands(file: &Path, text: &str) -> Result<String, Defects> {
    let commands: Vec<serde_saphyr::Spanned<Command>> = yaml_doc::from_str(file, text)?;
    let mut script = "#!/bin/bash\n".to_owned();
    let mut defects = Defects::default();
    for (i, command) in commands.iter().enumerate() {
        if command.value.block && command.value.append_enter {
            script.push_str(command.value.command.trim_end_matches('\n'));
            script.push('\n');
            continue;
        }
        let expected = "commands with `block: true`, which can be run as a script";
        let found = format!("key presses: {:?}", command.value.command);
        let line = usize::try_from(command.referenced.line()).unwrap_or(0);
        let defect = Defect::new(file, expected, found).at_line(line);
        defects.0.push(defect.at_key(format!("[{i}]")));
    }
    defects.into_result(script)
}

#[cfg(test)]
#[path = "terminal_bench_tests.rs"]
mod tests;
