use proptest::prelude::*;

use super::*;
use crate::fixture::{Fixture, orca_csv};

const WEIGHTS: &str = r#"{"test_a": 0.5, "test_b": 0.5}"#;

fn row(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut row = vec![
        ("task_id", "draft_1"),
        ("difficulty", "extremely_hard"),
        ("title", "A title"),
        ("prompt", "Do it, \"now\".\nAll of it."),
        ("category", "files"),
        ("tags", r#"["x", "y"]"#),
        ("dockerfile", "FROM scratch\nCOPY x /x\n"),
        ("test_functions", "def test_a():\n  pass\ndef test_b():\n  pass\n"),
        ("test_weights", WEIGHTS),
        ("additional_files", r##"{"x": "1", "bin/run": "#!/bin/sh\n"}"##),
    ];
    for (column, value) in changes {
        match row.iter_mut().find(|(name, _)| name == column) {
            Some(cell) => cell.1 = value,
            None => row.push((column, value)),
        }
    }
    row.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn rows(rows: &[Vec<(String, String)>]) -> Rows {
    let fixture = Fixture::new().file("a.csv", orca_csv(rows));
    read(&fixture.at("a.csv")).unwrap()
}

fn fault(changes: &[(&str, &str)]) -> String {
    let first = row(&[("task_id", "other")]);
    let fixture = Fixture::new().file("a.csv", orca_csv(&[first, row(changes)]));
    let rows = read(&fixture.at("a.csv")).unwrap();
    rows.defects.iter().map(|(_, defects)| fixture.relative(defects)).collect()
}

#[test]
fn a_row_becomes_a_task_without_solution() {
    let task = rows(&[row(&[])]).tasks.remove(0);
    assert_eq!((task.name.as_str(), task.format), ("draft_1", Format::Orca));
    assert_eq!(task.tags, ["x", "y"]);
    assert_eq!(task.difficulty.as_deref(), Some("extremely_hard"));
    assert!(!task.has_solution());
    let ImageSource::Dockerfile(context) = &task.environment.image else { panic!("built") };
    let files: Vec<(&str, bool)> =
        context.iter().map(|(path, entry)| (path, entry.executable)).collect();
    assert_eq!(files, [("Dockerfile", false), ("bin/run", true), ("x", false)]);
    let step = &task.steps[0];
    assert_eq!(step.instruction, "Do it, \"now\".\nAll of it.");
    let Grading::Pytest { weights } = &step.verifier.grading else { panic!("pytest") };
    assert_eq!(weights["test_a"], 0.5);
    assert!(step.verifier.tests.get("test_outputs.py").is_some());
}

#[test]
fn weights_sum_to_one_within_a_thousandth() {
    for (a, good) in [("0.499", true), ("0.501", true), ("0.4989", false), ("0.5011", false)] {
        let message = fault(&[("test_weights", &format!(r#"{{"test_a": {a}, "test_b": 0.5}}"#))]);
        assert_eq!(message.is_empty(), good, "{a}: {message}");
    }
}

#[test]
fn a_bad_row_is_named_by_its_line_and_column_and_the_others_go_on() {
    let bad = [
        row(&[("task_id", "ok")]),
        row(&[("task_id", "bad"), ("additional_files", r#"{"../x": "", "/y": "", "z": 1}"#)]),
        row(&[("task_id", "../up"), ("prompt", " "), ("test_weights", "{")]),
        row(&[("task_id", "w"), ("test_weights", r#"{"test_c": 1, "test_a": -1}"#)]),
        row(&[("task_id", "d"), ("dockerfile", "RUN true")]),
    ];
    let fixture = Fixture::new().file("a.csv", orca_csv(&bad));
    let rows = read(&fixture.at("a.csv")).unwrap();
    assert_eq!(rows.tasks.len(), 1);
    let table: Vec<String> = rows
        .defects
        .iter()
        .map(|(label, defects)| format!("{label}:\n{}", fixture.relative(defects)))
        .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    bad:
    a.csv:10: additional_files: expected paths inside the build context, other than Dockerfile, found "../x"
    a.csv:10: additional_files: expected paths inside the build context, other than Dockerfile, found "/y"
    a.csv:10: additional_files: expected bodies as strings, found 1
    ../up:
    a.csv:18: task_id: expected a name of letters, digits, `-`, `_`, `.`, found "../up"
    a.csv:18: prompt: expected a text, found an empty cell
    a.csv:18: test_weights: expected a JSON object, found EOF while parsing an object at line 1 column 1
    w:
    a.csv:25: test_weights: expected names of functions in test_functions, found "test_c"
    a.csv:25: test_weights: expected weights from 0 to 1, found -1 for test_a
    d:
    a.csv:33: dockerfile: expected a Dockerfile with a FROM instruction, found a Dockerfile without FROM
    "#);
}

#[test]
fn columns_are_known_by_name() {
    let fixture = Fixture::new().file("a.csv", "task_id,promt,dockerfile,test_functions\n");
    let defects = read(&fixture.at("a.csv")).unwrap_err();
    insta::assert_snapshot!(fixture.relative(defects), @r"
    a.csv:1: promt: expected one of: task_id, prompt, dockerfile, test_functions, test_weights, difficulty, title, use_case_category, category, tags, additional_files, created_at, updated_at, found unknown column `promt` (did you mean `prompt`?)
    a.csv:1: prompt: expected a column of that name, found none
    a.csv:1: test_weights: expected a column of that name, found none
    ");
}

proptest! {
    #[test]
    fn no_file_makes_reading_panic(text in "[a,\"\n{}:0\\\\]{0,60}|\\PC{0,40}") {
        let head = "task_id,prompt,dockerfile,test_functions,test_weights,additional_files\n";
        let fixture = Fixture::new().file("a.csv", format!("{head}{text}"));
        let _ = read(&fixture.at("a.csv"));
    }
}
