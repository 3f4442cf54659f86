use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::fixture::{Fixture, ORCA_CSV};
use crate::{harbor, orca_csv, terminal_bench};

const EVERYTHING: &str = r#"
multi_step_reward_strategy = "final"
artifacts = ["/app/out"]
[task]
name = "org/it"
description = "Quotes \" and \\ and\nlines"
[metadata]
difficulty = "hard"
category = "files"
tags = ["x", "y"]
orcapack = { keep_processes = true }
[environment]
build_timeout_sec = 30.25
cpus = 1.5
memory_mb = 64
storage_mb = 65
workdir = "/app"
network_mode = "no-network"
env = { A = "b c" }
healthcheck = { command = "true", interval_sec = 0.1, retries = 9 }
[agent]
timeout_sec = 0.5
user = 1000
[verifier]
timeout_sec = 7
user = "root"
env = { B = "=" }
collect = [{ command = "dump", user = "db" }]
environment = { docker_image = "grader:1", memory_mb = 9 }
[solution]
env = { C = "" }
"#;

fn everything() -> Fixture {
    Fixture::harbor("a")
        .file("a/task.toml", EVERYTHING)
        .file("a/environment/data/x.bin", [0, 159, 146, 150])
        .file("a/environment/large", vec![1; 100_000])
        .file("a/known-bad/lazy.sh", "exit 0\n")
}

/// Writes what was read, and reads what was written.
fn round(task: &Task) -> Task {
    let out = Fixture::new();
    write(task, &out.at("b")).unwrap();
    match harbor::read(&out.at("b"), &|_| None) {
        Ok(task) => task,
        Err(defects) => panic!("{defects}"),
    }
}

#[test]
fn a_harbor_task_comes_back_the_same() {
    let fixture = everything();
    let single = harbor::read(&fixture.at("a"), &|_| None).unwrap();
    assert_eq!(round(&single).digest, single.digest);
    assert_eq!(round(&single).name, "org/it");
    let steps = "\n[[steps]]\nname = 'one'\nmin_reward = 0.5\nhealthcheck = { command = 'x' }\n\
                 artifacts = ['/one']\n[[steps]]\nname = 'two'\nagent = { timeout_sec = 1 }\n";
    let fixture = fixture
        .file("a/task.toml", format!("{EVERYTHING}{steps}"))
        .file("a/steps/one/instruction.md", "1")
        .file("a/steps/one/workdir/setup.sh", "true")
        .file("a/steps/one/solution/solve.sh", "true")
        .file("a/steps/two/instruction.md", "2")
        .file("a/steps/two/tests/test.sh", "own");
    let several = harbor::read(&fixture.at("a"), &|_| None).unwrap();
    assert_ne!(several.digest, single.digest);
    assert_eq!(round(&several).digest, several.digest);
}

#[test]
fn what_is_there_is_never_overwritten_and_nothing_half_written_is_left() {
    let fixture = everything();
    let task = harbor::read(&fixture.at("a"), &|_| None).unwrap();
    let error = write(&task, &fixture.at("a")).unwrap_err();
    assert_eq!(
        fixture.relative(error),
        "a: expected a folder that is not there yet, found one that is"
    );
    let fixture = fixture.file("a/environment/large", "changed since");
    write(&task, &fixture.at("b")).unwrap_err();
    let left: Vec<_> = fs::read_dir(fixture.at(".")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn tasks_of_other_formats_become_harbor_tasks_that_derive_their_reward() {
    let fixture = Fixture::terminal_bench("a").file("rows.csv", ORCA_CSV);
    let task = round(&terminal_bench::read(&fixture.at("a"), &|_| None).unwrap());
    assert_eq!(task.name, "terminal-bench/a");
    assert_eq!(task.steps[0].verifier.grading, Grading::RewardFile);
    assert_eq!(task.steps[0].verifier.env["TEST_DIR"], "/tests");
    assert!(task.has_solution());
    let row = orca_csv::read(&fixture.at("rows.csv")).unwrap().tasks.remove(0);
    write(&row, &fixture.at("b")).unwrap();
    let toml = fs::read_to_string(fixture.at("b/task.toml")).unwrap();
    assert!(toml.contains("oracle = \"absent\""), "{toml}");
    assert_eq!(round(&row).name, "orca/row_1");
}

/// Runs the generated script where the task's own prints `output`, and gives the reward it writes.
fn derived_reward(output: &str) -> String {
    let fixture = Fixture::new().file("output", output).file("run-tests.sh", "cat output; exit 1");
    let script = pytest_script("run-tests.sh").replace("/logs/verifier", "logs");
    let status =
        Command::new("bash").args(["-c", &script]).current_dir(fixture.at(".")).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    fs::read_to_string(fixture.at("logs/reward.txt")).unwrap()
}

#[test]
fn the_derived_reward_is_1_only_when_every_test_passed() {
    let summary = "=== short test summary info ===\n";
    for (lines, reward) in [
        ("PASSED t.py::a\nPASSED t.py::b\n", "1\n"),
        ("PASSED t.py::a\nFAILED t.py::b - no\n", "0\n"),
        ("PASSED t.py::a\nSKIPPED [1] t.py:3: no\n", "0\n"),
        ("ERROR t.py\n", "0\n"),
        ("", "0\n"),
    ] {
        assert_eq!(derived_reward(&format!("PASSED early\n{summary}{lines}")), reward, "{lines}");
    }
    assert_eq!(derived_reward("PASSED t.py::a\n"), "0\n", "no summary");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_text_survives_the_round(
        instruction in "\\PC*[a-z]", description in "\\PC*", tag in "\\PC*", value in "([^$\0]|\\$[^{$\0])*",
    ) {
        let fixture = Fixture::harbor("a");
        let mut task = harbor::read(&fixture.at("a"), &|_| None).unwrap();
        task.description = description;
        task.tags = vec![tag];
        task.environment.env.insert("A".to_owned(), value);
        task.steps[0].instruction = instruction;
        task.digest = crate::task_digest::of(&task);
        prop_assert_eq!(round(&task).digest, task.digest);
    }
}
