use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::model::{CallKey, Message};

#[derive(Debug, Deserialize, PartialEq)]
struct BashBody {
    cmd: String,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ReportBody {
    #[serde(default)]
    contexts: Vec<ContextBody>,
    #[serde(default)]
    comments: String,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ContextBody {
    id: String,
    content: String,
}

fn asked(turn: u32, instruction: &str, last: &str) -> String {
    let request = Request {
        key: CallKey { rollout: 1, attempt: 1, step: 0, agent: 3, turn },
        messages: vec![
            Message::new(Speaker::System, "you explore"),
            Message::new(Speaker::User, "first"),
            Message::new(Speaker::Assistant, "<bash>"),
            Message::new(Speaker::User, last),
        ],
        max_tokens: 100,
        instruction: instruction.into(),
        policy_version: 0,
        scripts: None,
    };
    let answer = answer(&request);
    assert_eq!((answer.usage, answer.finish), (Usage::default(), Finish::Stop));
    answer.text
}

/// The bodies of the actions: tags stand alone on their lines, and nothing stands between actions.
fn bodies(text: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut bodies: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let end = line.trim_end_matches('\n');
        if end == open {
            assert!(!inside, "{text}");
            inside = true;
            bodies.push(String::new());
        } else if end == close {
            assert!(inside, "{text}");
            inside = false;
        } else {
            assert!(inside && !line.starts_with('<'), "{text}");
            bodies.last_mut().unwrap().push_str(line);
        }
    }
    assert!(!inside, "{text}");
    bodies
}

fn run(instruction: &str) -> Vec<String> {
    let text = asked(1, instruction, "");
    let bodies = bodies(&text, "bash");
    bodies.iter().map(|body| serde_saphyr::from_str::<BashBody>(body).unwrap().cmd).collect()
}

#[test]
fn code_blocks_are_commands_each_as_it_stands() {
    let description = concat!(
        "Do this:\n```sh\nset -e\n  ls -l\n```\n$ not this\n\n",
        "  ~~~\n  cat <<'E'\n   ```\n  </bash>\n  E\n  ~~~\nand that:\n",
        "````\n```\n````",
    );
    assert_eq!(run(description), ["set -e\n  ls -l\n", "cat <<'E'\n ```\n</bash>\nE\n", "```\n"]);
}

#[test]
fn without_blocks_prompted_lines_are_commands_and_without_those_everything_is() {
    assert_eq!(run("First\n$ ls\nthen\n$ cat x | wc\n $ not this\n"), ["ls", "cat x | wc"]);
    assert_eq!(run("  echo hi\n"), ["echo hi"]);
}

#[test]
fn a_block_that_is_not_closed_goes_on_to_the_end() {
    assert_eq!(run("```\nmake"), ["make\n"]);
}

#[test]
fn what_came_of_them_is_reported_verbatim() {
    let output = "exit 0\n<report>\n  x: |\n\n";
    let text = asked(2, "$ ls\n$ pwd", output);
    let report: ReportBody = serde_saphyr::from_str(&bodies(&text, "report")[0]).unwrap();
    assert_eq!(report.comments, "Ran 2 command(s) of the description as they stood.");
    assert_eq!(
        report.contexts,
        [ContextBody { id: "output-3".to_owned(), content: output.to_owned() }]
    );
}

#[test]
fn a_description_without_a_command_is_reported_at_once() {
    for description in [" \n", "```\n\n```\nmake"] {
        let answer = asked(1, description, "");
        assert!(!answer.contains("<bash>"), "{answer}");
        let report: ReportBody = serde_saphyr::from_str(&bodies(&answer, "report")[0]).unwrap();
        assert_eq!(report.contexts, []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_comes_back_from_its_yaml(
        text in prop_oneof![
            any::<String>(),
            "[ \n\t<>/a\"#:|\\\\-]{0,40}",
            "(  |\t|a: b|- |# |</?bash>|\u{85}|\u{2028}|\u{feff}|\r|\n){0,12}",
        ]
    ) {
        let body = bodies(&bash(&text), "bash");
        let read: BashBody = serde_saphyr::from_str(&body[0]).unwrap();
        prop_assert_eq!(&read.cmd, &text);
        let body = bodies(&report(Some(("c", &text)), &text), "report");
        let read: ReportBody = serde_saphyr::from_str(&body[0]).unwrap();
        prop_assert_eq!(&read.comments, &text);
        prop_assert_eq!(&read.contexts[0].content, &text);
    }
}
