//! Teams whose prompts are compact: what each agent is sent, word by word.

use crate::model::{Message, Speaker};
use crate::team::conductor::tests::{Sim, mode};
use crate::team::record::{AgentId, TeamRun};
use crate::team::role::Role;
use crate::team::sent::{self, Sent};
use crate::team::settings::{Mode, Prompts, TeamSettings};

/// A coder runs a command and reports it at length; then again, then the end.
fn script(role: Role, _task: &str, turn: u32) -> &'static str {
    match (role, turn) {
        (Role::Orchestrator, 1 | 2) => {
            "<task_create>\nagent_type: coder\ntitle: solve\ndescription: |\n  $ ls\n\
             context_bootstrap:\n  - path: /app/a.txt\n    reason: it is there\n</task_create>"
        }
        (Role::Orchestrator, _) => "<finish>\ndone\n</finish>",
        (_, 1) => "<bash>\ncmd: ls\n</bash>",
        _ => {
            "<report>\ncontexts:\n  - id: seen\n    content: \"nothing, nothing, nothing, nothing, \
             nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, \
             nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, \
             nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, \
             nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, \
             nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing\"\n\
             comments: ran it\n</report>"
        }
    }
}

fn compact(mode_: Mode) -> TeamSettings {
    TeamSettings { prompts: Prompts::Compact, ..mode(mode_) }
}

fn run(settings: TeamSettings) -> TeamRun {
    Sim::new(5, settings, script).run().end.unwrap().0
}

fn texts(added: &[Message]) -> Vec<&str> {
    added.iter().map(|message| &*message.content).collect()
}

#[test]
fn the_first_message_is_the_instruction_alone_and_turns_are_told_without_a_clock() {
    let run = run(compact(Mode::Stateful));
    let sent = sent::of_agent(&run, AgentId::ORCHESTRATOR, Role::Orchestrator);
    let [first, second, third] = &*sent else { panic!("three turns: {sent:?}") };
    let system = include_str!("prompts/compact_orchestrator.md");
    assert_eq!(texts(&first.added), [system, "Do it."]);
    // Only what is new comes behind what was sent and answered.
    assert_eq!([second.kept, third.kept], [3, 5]);
    for (Sent { added, .. }, task) in [(second, "task_1"), (third, "task_2")] {
        let [told] = &**added else { panic!("one message: {added:?}") };
        let head = format!("[1. task_create]\n{task} created (coder).\n\n{task} reported.\nran it");
        assert!(told.role == Speaker::User && told.content.starts_with(&head), "{told:?}");
        assert!(told.content.contains("cut ..."), "{told:?}");
        assert!(told.content.chars().count() <= 450, "{told:?}");
    }
}

#[test]
fn a_subagent_is_told_its_description_and_what_it_was_given() {
    let run = run(compact(Mode::Stateful));
    let sent = sent::of_agent(&run, AgentId(1), Role::Coder);
    let first = "$ ls\n\n# Files to begin with\n\ncontent of /app/a.txt";
    assert_eq!(texts(&sent[0].added), [include_str!("prompts/compact_coder.md"), first]);
    assert!(texts(&sent[1].added)[0].starts_with("[1. bash]\ndid "));
}

#[test]
fn who_has_to_end_is_told_so_in_a_line() {
    let settings = TeamSettings { orchestrator_turns_max: 1, ..compact(Mode::Stateful) };
    let run = run(settings);
    let sent = sent::of_agent(&run, AgentId::ORCHESTRATOR, Role::Orchestrator);
    let told = texts(&sent[1].added)[0];
    assert!(told.ends_with("\n\n[all turns are used up]\nAnswer with one `<finish>`."), "{told}");
}

#[test]
fn a_stateless_orchestrator_has_no_snapshot_either() {
    let run = run(compact(Mode::Stateless));
    let sent = sent::of_agent(&run, AgentId::ORCHESTRATOR, Role::Orchestrator);
    let told = texts(&sent[2].added)[0];
    assert!(told.starts_with("Do it.\n\n# Tasks\n\n- task_1"), "{told}");
    assert!(!told.contains("container") && !told.contains("[turn"), "{told}");
}
