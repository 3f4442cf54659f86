//! Answers as models write them, by what reading them takes.

use std::fmt::Write as _;
use std::time::Duration;

use orcapack_actors::model::Finish;
use orcapack_actors::team::read_action;
use orcapack_actors::team::record::{Entry, Event};
use orcapack_actors::team::role::Role;
use orcapack_actors::team::sample::{Recorder, seen};
use std::sync::Arc;

/// Answers of one kind, each with the role that gave it.
pub struct Kind {
    pub name: &'static str,
    pub answers: Vec<(Role, String)>,
}

/// Turns of the long conversation.
pub const TURNS: u32 = 50;
/// Of one observation in it; agents see up to 12,000.
const OBSERVATION_LINES: usize = 60;
/// Of the file in a long block: a program of a usual size.
const FILE_LINES: usize = 600;

const LINE: &str =
    "    let value = parse(&text[at..], options).map_err(Fault::within(\"body\"))?;\n";

const STRICT: &str = "The tests show where it fails.

<bash>
cmd: cargo test -p parser
timeout_secs: 120
</bash>
<file>
action: read
file_path: /app/src/parser.rs
offset: 120
limit: 60
</file>
<search>
action: grep
pattern: \"fn parse\"
path: /app/src
</search>
<file>
action: edit
file_path: /app/src/parser.rs
old_string: |
  fn parse(text: &str) -> Option<Value> {
      inner(text)
  }
new_string: |
  fn parse(text: &str) -> Result<Value, Fault> {
      inner(text)?
  }
</file>
";

/// Colons, comments and quotes that YAML takes for its own, a block without its indentation.
const REPAIRED: &str = "The tests show where it fails.

<bash>
cmd: grep -n \"key: value\" src/*.rs | sort # all of them
</bash>
<file>
action: edit
file_path: /app/src/parser.rs
old_string: |
fn parse(text: &str) -> Option<Value> {
    inner(text)
}
new_string: |
fn parse(text: &str) -> Result<Value, Fault> {
    inner(text)?
}
</file>
<bash>
cmd: cat > /tmp/a.txt <<'END'
name: x
END
</bash>
<report>
comments: Done: two files, of which one: changed
</report>
";

pub fn kinds() -> Vec<Kind> {
    let block = format!(
        "<file>\naction: write\nfile_path: /app/src/parser.rs\ncontent: |\n{}</file>\n",
        format!("  {LINE}").repeat(FILE_LINES)
    );
    let coder = |text: String| vec![(Role::Coder, text)];
    let conversation = conversation(TURNS);
    let answers = conversation.iter().filter_map(|entry| match &entry.event {
        Event::Answered { answer, .. } => Some((Role::Coder, answer.text.clone())),
        _ => None,
    });
    vec![
        Kind { name: "the corpus of the tests", answers: corpus() },
        Kind { name: "strict YAML", answers: coder(STRICT.to_owned()) },
        Kind { name: "repaired", answers: coder(REPAIRED.to_owned()) },
        Kind { name: "a long block", answers: coder(block) },
        Kind { name: "a conversation of 50 turns", answers: answers.collect() },
    ]
}

/// The actions that are read from it.
pub fn actions((role, text): &(Role, String)) -> usize {
    match role {
        Role::Orchestrator => read_action::orchestrator(text, Finish::Stop).actions.len(),
        Role::Explorer => read_action::explorer(text, Finish::Stop).actions.len(),
        Role::Coder => read_action::coder(text, Finish::Stop).actions.len(),
    }
}

fn corpus() -> Vec<(Role, String)> {
    let files = [
        (Role::Orchestrator, include_str!("../../actors/team/corpus/orchestrator.txt")),
        (Role::Explorer, include_str!("../../actors/team/corpus/explorer.txt")),
        (Role::Coder, include_str!("../../actors/team/corpus/coder.txt")),
    ];
    let cases = |(role, text): (Role, &'static str)| {
        let cases = text.split("=== ").skip(1).filter_map(|case| case.split_once('\n'));
        cases.map(move |(_, text)| (role, text.to_owned()))
    };
    files.into_iter().flat_map(cases).collect()
}

/// The record of a coder that has had so many turns, each with a thought, a command and an edit.
pub fn conversation(turns: u32) -> Vec<Arc<Entry>> {
    let mut recorder = Recorder::default();
    recorder.began(2, Role::Coder, "task_1", "Fix the parser");
    for turn in 1..=turns {
        let mut text = "The tests show where it fails. ".repeat(10);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n\n<bash>\ncmd: cargo test -p parser case_{turn}\n</bash>");
        let _ = writeln!(
            text,
            "<file>\naction: edit\nfile_path: /app/src/parser.rs\nold_string: |\n  {LINE}\
             new_string: |\n  // Case {turn}.\n  {LINE}</file>"
        );
        recorder.now += Duration::from_secs(1);
        recorder.asked(2, turn, None).answered(2, turn, &text, None);
        recorder.acted(2, turn, 0, 0.5, seen(&LINE.repeat(OBSERVATION_LINES)));
        recorder.acted(2, turn, 1, 0.1, seen("edited"));
    }
    recorder.asked(2, turns + 1, None);
    recorder.record
}
