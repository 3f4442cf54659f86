//! The program as a script sees it: exit codes, standard output, standard error.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn orcapack(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
    // No engine answers there, so that what is printed is the same everywhere.
    let command = command.env("DOCKER_HOST", "unix:///no/such.sock");
    let command = command.current_dir(dir).env("ORCAPACK_CACHE", dir.join("cache"));
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Two good tasks and one without instruction, in `tasks/`.
fn tasks() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["alpha", "beta", "broken"] {
        let task = dir.path().join("tasks").join(name);
        for folder in ["environment", "tests", "solution"] {
            fs::create_dir_all(task.join(folder)).unwrap();
        }
        fs::write(task.join("task.toml"), "schema_version = \"1.4\"\n").unwrap();
        fs::write(task.join("environment/Dockerfile"), "FROM orcapack/base:1\n").unwrap();
        fs::write(task.join("tests/test.sh"), "echo 1 > /logs/verifier/reward.txt\n").unwrap();
        fs::write(task.join("solution/solve.sh"), "true\n").unwrap();
        if name != "broken" {
            fs::write(task.join("instruction.md"), "Do it.\n").unwrap();
        }
    }
    dir
}

#[test]
fn wrong_usage_is_exit_2_and_help_is_exit_0() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["evil"][..], &["eval", "--resume", "--clean"], &["eval"], &["tasks", "list"]] {
        let output = orcapack(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
    let help = orcapack(dir.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Exit codes:"));
}

#[test]
fn tasks_that_cannot_be_read_are_told_after_those_that_can() {
    let dir = tasks();
    let output = orcapack(dir.path(), &["tasks", "list", "-d", "tasks", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = listing["tasks"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(names, ["alpha", "beta"]);
    assert_eq!(listing["defects"][0]["task"], "broken");
    assert!(stderr(&output).contains("1 task cannot be used\nbroken:\n"), "{}", stderr(&output));

    fs::remove_dir_all(dir.path().join("tasks/broken")).unwrap();
    let output = orcapack(dir.path(), &["tasks", "list", "-d", "tasks", "-t", "b*"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("\n1 task in tasks\n"), "{}", stdout(&output));
}

#[test]
fn a_dry_run_prints_a_configuration_that_eval_reads_again() {
    let dir = tasks();
    let args = ["eval", "-d", "tasks", "-k", "3", "--name", "r", "--dry-run"];
    let first = orcapack(dir.path(), &args);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).ends_with("3 attempts each: 6 rollouts\n"), "{}", stdout(&first));
    assert!(stderr(&first).starts_with("warning: 1 task cannot be used"));
    assert!(!dir.path().join("runs").exists(), "a dry run makes nothing");

    fs::write(dir.path().join("eval.toml"), stdout(&first)).unwrap();
    let again = orcapack(dir.path(), &["eval", "-c", "eval.toml", "--dry-run"]);
    assert_eq!(stdout(&again), stdout(&first));
}

#[test]
fn imported_tasks_are_read_again_and_never_overwritten() {
    let dir = tasks();
    fs::remove_dir_all(dir.path().join("tasks/broken")).unwrap();
    let import = ["tasks", "import", "tasks", "-o", "copy"];
    let first = orcapack(dir.path(), &import);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert_eq!(stdout(&first), "2 tasks written to copy\n");
    assert_eq!(orcapack(dir.path(), &["tasks", "list", "-d", "copy"]).status.code(), Some(0));
    let second = orcapack(dir.path(), &import);
    assert_eq!(second.status.code(), Some(2));
    assert_eq!(stdout(&second), "0 tasks written to copy\n");
}

#[test]
fn completions_name_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&orcapack(dir.path(), &["completions", shell]));
        for command in ["eval", "tasks", "doctor", "gc", "n-concurrent"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn doctor_tells_what_is_missing_and_fails_only_when_a_check_does() {
    let dir = tempfile::tempdir().unwrap();
    let output = orcapack(dir.path(), &["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str| {
        let rows = checks.as_array().unwrap().iter();
        rows.clone().find(|row| row["check"] == name).cloned().unwrap()
    };
    assert_eq!(row("docker engine")["status"], "warn");
    assert!(row("docker engine")["advice"].as_str().unwrap().contains("DOCKER_HOST"));
    assert_eq!(row("base image orcapack/base:1")["found"], "none");
    let failed = checks.as_array().unwrap().iter().any(|row| row["status"] == "fail");
    assert_eq!(output.status.code(), Some(if failed { 4 } else { 0 }));

    let output = orcapack(dir.path(), &["doctor", "-n", "1000000000"]);
    assert_eq!(output.status.code(), Some(4), "no machine opens that many files");
}

#[test]
fn gc_passes_over_an_engine_that_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let output = orcapack(dir.path(), &["gc", "--dry-run", "--images"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "0 leftovers and 0 images to remove\n");
    assert!(stderr(&output).starts_with("warning: docker is passed over: "), "{}", stderr(&output));
}
