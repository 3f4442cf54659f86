use proptest::prelude::*;

use super::*;
use crate::generate::Difficulty;

/// An answer with all that a task needs.
fn whole() -> String {
    file("instruction.md", "Write 42 into /app/answer.\n")
        + &file("environment/Dockerfile", "FROM orcapack/base:1\nWORKDIR /app\n")
        + &file("tests/test.sh", "echo 1 > /logs/verifier/reward.txt\n")
        + &file("solution/solve.sh", "echo 42 > /app/answer\n")
        + &file("known-bad/guess.sh", "echo 41 > /app/answer\n")
}

fn file(path: &str, text: &str) -> String {
    format!("<file path=\"{path}\">\n{text}</file>\n")
}

fn idea() -> Idea {
    Idea {
        title: "The \"answer\"".into(),
        slug: "the-answer".into(),
        category: "files".into(),
        difficulty: Difficulty::Easy,
        description: "Write a number.".into(),
    }
}

fn read(answer: &str) -> Result<Draft, Vec<String>> {
    Draft::default().with(&Change::read(answer)?)
}

fn refused(answer: &str, words: &str) {
    let faults = read(answer).expect_err(words);
    assert!(faults.iter().any(|fault| fault.contains(words)), "{words}: {faults:#?}");
}

#[test]
fn a_builders_files_are_a_harbor_task() {
    let draft = read(&whole()).expect("whole");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("the-answer");
    crate::import::write_folder(&draft.tree(&idea()), &folder).unwrap();
    let task = crate::harbor::read(&folder, &|_| None).unwrap();
    assert_eq!((task.name.as_str(), task.known_bad.len()), ("authored/the-answer", 1));
    assert_eq!(task.description, "The \"answer\"");
    assert!(task.has_solution());
}

#[test]
fn a_task_that_lacks_something_is_told_all_that_it_lacks() {
    let faults = read(&file("tests/other.sh", "true\n")).expect_err("not whole");
    assert_eq!(
        faults,
        [
            "instruction.md: expected a file, found none",
            "environment/Dockerfile: expected a file, found none",
            "tests/test.sh: expected a file, found none",
            "solution/solve.sh: expected a file, found none",
            "known-bad/NAME.sh: expected one at least, found none",
        ]
    );
    refused("no files", "expected <file path=\"PATH\"> and its text, found none");
    refused(&(whole() + "<file>\n</file>\n"), "found no path");
    refused(&(whole() + &file("instruction.md", "again\n")), "expected one file of this path");
    refused(&whole().replace("Write 42 into /app/answer.", ""), "found an empty file");
    refused(&(whole() + &file("tests/test.sh/deeper", "")), "expected a file or a folder");
}

#[test]
fn files_lie_in_the_folders_of_a_task_and_nowhere_else() {
    for path in [
        "/etc/passwd",
        "../escape",
        "tests/../../x",
        "tests//x",
        "task.toml",
        "README.md",
        "other/file",
        "tests",
        "environment/\u{e9}",
        "known-bad/lazy.py",
        "known-bad/a/b.sh",
        "known-bad/.sh",
    ] {
        refused(&(whole() + &file(path, "x\n")), &format!("{path}: expected"));
    }
    refused(&(whole() + &file(&format!("tests/{}", "x".repeat(200)), "")), "at most 200 bytes");
}

#[test]
fn what_is_too_large_is_refused() {
    let large = "x".repeat(FILE_BYTES_MAX);
    refused(&(whole() + &file("tests/large", &format!("{large}\n"))), "expected at most 65536");
    let line = format!("{}\n", "x".repeat(FILE_BYTES_MAX - 1));
    let all: String = (0..4).map(|n| file(&format!("tests/{n}"), &line)).collect();
    refused(&(whole() + &all), "expected at most 262144 bytes in all files");
    let many: String = (0..FILES_MAX).map(|n| file(&format!("tests/{n}"), "")).collect();
    refused(&(whole() + &many), "expected at most 64 files, found 69");
    let long = "x".repeat(INSTRUCTION_BYTES_MAX);
    let long = whole().replace("Write 42 into /app/answer.", &long);
    refused(&long, "expected at most 8192 bytes in instruction.md");
}

#[test]
fn an_image_is_built_on_our_base_and_without_the_network() {
    let with = |dockerfile: &str| whole().replace("FROM orcapack/base:1\n", dockerfile);
    for (dockerfile, words) in [
        ("FROM debian:12\n", "FROM: expected orcapack/base:1, found debian:12"),
        ("FROM orcapack/base:1 AS a\nFROM a\n", "one stage"),
        ("FROM orcapack/base:1\nADD http://x/y z\n", "ADD"),
        ("FROM orcapack/base:1\nRUN apt-get update\n", ":2: RUN: expected no program"),
        ("FROM orcapack/base:1\nRUN true && (/usr/bin/curl -s x)\n", "found curl"),
        ("FROM orcapack/base:1\nRUN [\"pip\", \"install\", \"x\"]\n", "found pip"),
    ] {
        refused(&with(dockerfile), words);
    }
    assert!(read(&with("FROM orcapack/base:1\nCOPY f /f\nRUN mkdir -p curly\n")).is_ok());
}

#[test]
fn a_change_replaces_adds_and_removes() {
    let draft = read(&whole()).expect("whole");
    let change = file("tests/test.sh", "false\n")
        + &file("tests/more", "1\n")
        + "<remove path=\"known-bad/guess.sh\"/>\n"
        + &file("known-bad/other.sh", "true\n");
    let changed = draft.with(&Change::read(&change).unwrap()).expect("whole");
    assert_eq!(changed.tests(), ["1\n", "false\n"]);
    let shown = changed.show(["known-bad/guess.sh", "tests/more"]);
    let expected =
        "<remove path=\"known-bad/guess.sh\"/>\n<file path=\"tests/more\">\n1\n</file>\n";
    assert_eq!(shown, expected);
    let change = Change::read("<remove path=\"known-bad/guess.sh\"/>\n").unwrap();
    assert_eq!(draft.with(&change).expect_err("not whole").len(), 1);
}

proptest! {
    /// What is shown of a task is what its builder would have answered.
    #[test]
    fn what_is_shown_is_read_as_the_same(
        files in prop::collection::btree_map("[a-z]{1,8}", "([ -;=?-~]{0,20}\n){0,4}", 0..6),
    ) {
        let more = files.iter().map(|(name, text)| file(&format!("tests/data/{name}"), text));
        let draft = read(&(whole() + &more.collect::<String>())).unwrap();
        let paths: Vec<String> = draft.files.keys().cloned().collect();
        prop_assert_eq!(read(&draft.show(paths.iter().map(String::as_str))), Ok(draft));
    }
}
