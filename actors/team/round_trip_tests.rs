//! What is written is read back, and no text at all makes reading panic, run on or grow.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::model::Finish;
use crate::team::action::{
    Bash, Bootstrap, Change, CoderAction, CreateTask, Edit, MAX_TURNS_MAX, OrchestratorAction,
    ReadFile, Report, ReportedContext, Scratchpad, Search, SubagentAction, Todo, TodoOperation,
    Tool,
};
use crate::team::grammar::{ACTIONS_MAX, ANSWER_BYTES_MAX, BODY_BYTES_MAX};
use crate::team::read_action::{self, FAULTS_MAX, Reading};
use crate::team::role::SubagentKind;
use crate::team::write_action;

/// Texts like those in actions, and unlike any.
fn text() -> BoxedStrategy<String> {
    let piece = prop_oneof![
        "[a-z ]{1,8}",
        "\\PC{0,6}",
        any::<char>().prop_map(String::from),
        prop::sample::select(PIECES).prop_map(str::to_owned),
    ];
    let text = vec(piece, 1..12).prop_map(|pieces| pieces.concat());
    text.prop_filter("not empty", |text| !text.trim().is_empty()).boxed()
}

const PIECES: &[&str] = &[
    "\n",
    "\n\n",
    "\n  ",
    "\n\t",
    " ",
    "\"",
    "'",
    "\\",
    ": ",
    " #",
    "#",
    "- ",
    "|",
    ">",
    "&a ",
    "*a",
    "%",
    "@",
    "`",
    "```",
    "\n```\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    "!x ",
    "---\n",
    "\n---\n",
    "...",
    "<<EOF\n",
    "\nEOF\n",
    "<bash>",
    "\n<bash>\n",
    "</bash>",
    "\n</bash>\n",
    "\n</file>\n",
    "\n<file>\n",
    "</report>",
    "<think>",
    "\n</think>\n",
    "</reasoning>",
    "cmd: ",
    "\ncmd: |\n",
    "\ncontent: x\n",
    "\n- id: a\n",
    "\r\n",
    "\r",
    "\u{feff}",
    "\u{2028}",
    "\u{85}",
    "\0",
    "\u{1b}[0m",
    "é",
    "日本",
    "🦀",
    "true",
    "null",
    "1.0",
    "~",
];

fn word() -> impl Strategy<Value = String> {
    let word = "[a-zA-Z0-9_./:# &*@\"'<>\\-é日]{1,20}".prop_map(|word| word.trim().to_owned());
    word.prop_filter("not empty", |word| !word.is_empty())
}

fn tool() -> impl Strategy<Value = Tool> {
    prop_oneof![
        (text(), any::<bool>(), proptest::option::of(1..86_400_u64)).prop_map(|(cmd, block, t)| {
            Tool::Bash(Bash { cmd, block, timeout: t.map(Duration::from_secs) })
        }),
        (word(), proptest::option::of(1..9_u64), proptest::option::of(1..9_u64))
            .prop_map(|(path, offset, limit)| Tool::Read(ReadFile { path, offset, limit })),
        vec(word(), 1..10).prop_map(|paths| Tool::Metadata { paths }),
        (text(), proptest::option::of(word()), proptest::option::of(word())).prop_map(
            |(pattern, path, include)| Tool::Search(Search::Grep { pattern, path, include })
        ),
        (word(), proptest::option::of(word()))
            .prop_map(|(pattern, path)| Tool::Search(Search::Glob { pattern, path })),
        (word(), text()).prop_map(|(path, content)| Tool::WriteTempScript { path, content }),
        (vec(operation(), 1..5), any::<bool>())
            .prop_map(|(operations, view_all)| Tool::Todo(Todo { operations, view_all })),
        text().prop_map(|content| Tool::Scratchpad(Scratchpad::Add { content })),
        Just(Tool::Scratchpad(Scratchpad::View)),
        Just(Tool::Scratchpad(Scratchpad::Clear)),
    ]
}

fn operation() -> impl Strategy<Value = TodoOperation> {
    prop_oneof![
        text().prop_map(|content| TodoOperation::Add { content }),
        any::<u32>().prop_map(|id| TodoOperation::Complete { id }),
        any::<u32>().prop_map(|id| TodoOperation::Delete { id }),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let context = (word(), text()).prop_map(|(id, content)| ReportedContext { id, content });
    (vec(context, 0..4), text()).prop_map(|(contexts, comments)| Report { contexts, comments })
}

fn coder() -> impl Strategy<Value = CoderAction> {
    let edit = (text(), prop_oneof![text(), Just(String::new())], any::<bool>())
        .prop_map(|(old, new, replace_all)| Edit { old, new, replace_all });
    let content = prop_oneof![text(), Just(String::new())];
    prop_oneof![
        tool().prop_map(SubagentAction::Tool),
        report().prop_map(SubagentAction::Report),
        (word(), content)
            .prop_map(|(path, content)| SubagentAction::Change(Change::Write { path, content })),
        (word(), vec(edit, 1..4))
            .prop_map(|(path, edits)| SubagentAction::Change(Change::Edit { path, edits })),
    ]
}

fn orchestrator() -> impl Strategy<Value = OrchestratorAction> {
    let bootstrap = (word(), text()).prop_map(|(path, reason)| Bootstrap { path, reason });
    let kind = prop::sample::select(vec![SubagentKind::Explorer, SubagentKind::Coder]);
    let task = (
        kind,
        word(),
        text(),
        1..=MAX_TURNS_MAX,
        vec(word(), 0..4),
        vec(bootstrap, 0..3),
        any::<bool>(),
    );
    prop_oneof![
        task.prop_map(|(agent, title, description, max_turns, refs, bootstrap, auto_launch)| {
            OrchestratorAction::CreateTask(CreateTask {
                agent,
                title,
                description,
                max_turns,
                context_refs: refs,
                bootstrap,
                auto_launch,
            })
        }),
        word().prop_map(|task| OrchestratorAction::Launch { task }),
        prop::collection::btree_set(word(), 1..10).prop_map(|tasks| {
            OrchestratorAction::LaunchParallel { tasks: tasks.into_iter().collect() }
        }),
        (word(), text()).prop_map(|(id, content)| OrchestratorAction::AddContext { id, content }),
        "[a-zA-Z:#\"' é]{0,20}(\n[a-z:# ]{1,20}[a-z]){0,3}"
            .prop_map(|message| OrchestratorAction::Finish { message: message.trim().to_owned() }),
    ]
}

#[track_caller]
fn is_bounded<A: Debug>(reading: &Reading<A>) {
    assert!(reading.actions.len() + reading.skipped <= ACTIONS_MAX, "{reading:?}");
    assert!(reading.faults.len() <= FAULTS_MAX, "{reading:?}");
    assert_eq!(reading.complaint().is_some(), !reading.faults.is_empty());
    assert!(reading.complaint().unwrap_or_default().len() < 8 << 10, "{reading:?}");
}

fn read_by_all(text: &str) {
    for finish in [Finish::Stop, Finish::Length, Finish::Refused] {
        is_bounded(&read_action::orchestrator(text, finish));
        is_bounded(&read_action::explorer(text, finish));
        is_bounded(&read_action::coder(text, finish));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_coders_actions_are_read_back(actions in vec(coder(), 1..5)) {
        let text: String = actions.iter().map(write_action::coder).collect();
        let reading = read_action::coder(&text, Finish::Stop);
        prop_assert_eq!(&reading.faults, &[], "{}", text);
        prop_assert_eq!(reading.actions, actions, "{}", text);
    }

    #[test]
    fn the_fields_of_a_trajectory_are_those_of_the_text(
        coder in coder(),
        orchestrator in orchestrator(),
    ) {
        let of_orchestrator = write_action::of_orchestrator(&orchestrator);
        for written in [write_action::of_coder(&coder), of_orchestrator] {
            let text = written.text();
            if text.starts_with("<finish>") {
                continue;
            }
            let (_, body) = text.trim_end().split_once('\n').unwrap();
            let (body, _) = body.rsplit_once('\n').unwrap();
            let options = serde_saphyr::options! { strict_booleans: true };
            let body = format!("{body}\n");
            let told: Map<String, Value> =
                serde_saphyr::from_str_with_options(&body, options).unwrap();
            prop_assert_eq!(written.fields(), told, "{}", text);
        }
    }

    #[test]
    fn an_orchestrators_actions_are_read_back(actions in vec(orchestrator(), 1..5)) {
        let text: String = actions.iter().map(write_action::orchestrator).collect();
        let reading = read_action::orchestrator(&text, Finish::Stop);
        prop_assert_eq!(&reading.faults, &[], "{}", text);
        prop_assert_eq!(reading.actions, actions, "{}", text);
    }

    #[test]
    fn what_stands_in_thoughts_is_never_run(
        drafts in vec(coder(), 1..3),
        meant in coder(),
        name in prop::sample::select(vec!["think", "thinking", "reasoning"]),
        is_opened: bool,
    ) {
        let drafts: String = drafts.iter().map(write_action::coder).collect();
        // A thought ends where its closing tag stands first.
        prop_assume!(THOUGHT_ENDS.iter().all(|end| !drafts.contains(end)));
        let open = if is_opened { format!("<{name}>") } else { String::new() };
        let text = format!("{open}\n{drafts}</{name}>\n{}", write_action::coder(&meant));
        let reading = read_action::coder(&text, Finish::Stop);
        prop_assert_eq!(&reading.actions, &[meant], "{}", text);
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}|[<>/a-c:\\-|\"' \n\t]{0,200}") {
        read_by_all(&text);
    }

    #[test]
    fn no_text_of_the_grammars_own_pieces_makes_reading_panic(
        pieces in vec(prop::sample::select([PIECES, TAGS].concat()), 0..60),
    ) {
        read_by_all(&pieces.concat());
    }
}

proptest! {
    // Each case reads its answer once for each of its characters.
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What is cut off is either whole or not run: no action that was not meant.
    #[test]
    fn an_answer_cut_anywhere_gives_a_beginning_of_its_actions(actions in vec(coder(), 1..4)) {
        let text: String = actions.iter().map(write_action::coder).collect();
        for (end, _) in text.char_indices() {
            let reading = read_action::coder(&text[..end], Finish::Length);
            let count = reading.actions.len();
            prop_assert_eq!(&reading.actions, &actions[..count], "{}", &text[..end]);
        }
    }
}

const THOUGHT_ENDS: [&str; 3] = ["</think>", "</thinking>", "</reasoning>"];

const TAGS: &[&str] = &[
    "<file>\n",
    "</file>",
    "action: write\n",
    "file_path: /a\n",
    "content: |\n",
    "  x\n",
    "edits:\n",
    "<task_create>",
    "</task_create>",
    "<finish>",
    "</finish>",
    "<report>\n",
    "contexts:\n",
    "  - id: x\n    content: |-\n",
    "\n  y\n",
    "description: >\n",
    "<foo>\n",
    "</foo>\n",
    "<bash/>",
    "<bash cmd='x'>",
    "<todo>",
    "<bas",
    "</",
    "```yaml\n",
    "context_refs: [a, b]\n",
    "task_ids:\n- a\n- b\n",
    "{\"cmd\": \"ls\",}",
    "timeout_secs: 5\n",
];

#[test]
fn large_and_hostile_answers_are_read_soon() {
    let pieces = [
        "<",
        "</",
        "<think>",
        "</think>",
        "<think>\n",
        "</think>\n",
        "<bash>\n",
        "<bash>",
        "</bash>\n",
        "<a>\n",
        "<a",
        "<a></a>",
        "<bash>cmd: x</bash>",
        "<bash></think>",
        "<file>\naction: x\n",
        "<bash>\ncmd: x\n</bash>\n",
        " ",
        "\n",
        "cmd: x\n",
        "\"",
        "\\",
        ",",
        "{\"a\":",
        "[",
        "- ",
        "&a ",
        "```\n",
        "é",
        "\u{feff}",
        "<think> ",
        "a: |\n",
    ];
    for piece in pieces {
        for head in [
            "",
            "<bash>\ncmd: ",
            "<file>\ncontent: |\n",
            "<bash>\n{\"cmd\": ",
            "</think>",
            "<todo>\noperations:\n",
        ] {
            let text = head.to_owned() + &piece.repeat((32 << 10) / piece.len());
            let began = Instant::now();
            is_bounded(&read_action::coder(&text, Finish::Stop));
            let took = began.elapsed();
            assert!(took < Duration::from_secs(10), "{head:?} {piece:?}: {took:?}");
        }
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let reading = read_action::coder(&"x".repeat(ANSWER_BYTES_MAX + 1), Finish::Stop);
    insta::assert_snapshot!(reading.complaint().unwrap(), @r"
    your answer: it has 1048577 bytes; at most 1048576 are read
    Nothing of this answer was run. Send it again, put right.
    ");

    let cmd = "x".repeat(BODY_BYTES_MAX);
    let reading = read_action::coder(&format!("<bash>\ncmd: {cmd}\n</bash>"), Finish::Stop);
    insta::assert_snapshot!(reading.complaint().unwrap(), @r"
    line 1, `bash`: its body has 262150 bytes, at most 262144 are read
    Nothing of this answer was run. Send it again, put right.
    ");

    let many = "<bash>\ncmd: ls\n</bash>\n".repeat(ACTIONS_MAX + 1);
    let reading = read_action::coder(&many, Finish::Stop);
    assert_eq!(reading.actions.len(), ACTIONS_MAX);
    insta::assert_snapshot!(reading.complaint().unwrap(), @r"
    line 97: an answer may hold at most 32 actions
    The 32 actions before that were run, and nothing behind. Send it again, put right.
    ");
}
