//! The actions of an answer as trajectories tell them: the name of a tag, and its fields; and what
//! was wrong with it.

use serde_json::{Map, Value};

use crate::model::{Answer, Finish};
use crate::team::action::{CoderAction, ExplorerAction, OrchestratorAction};
use crate::team::agent::Acts;
use crate::team::messages;
use crate::team::role::Role;
use crate::team::write_action;
use crate::team::written::Written;

/// The actions that are read from an answer of this role, in order.
pub fn of(role: Role, answer: &Answer) -> Vec<(String, Map<String, Value>)> {
    fn each<A: Acts>(
        answer: &Answer,
        write: fn(&A) -> Written<'_>,
    ) -> Vec<(String, Map<String, Value>)> {
        let actions = A::read(&answer.text, answer.finish).actions;
        actions.iter().map(|action| (action.name().to_owned(), write(action).fields())).collect()
    }
    match role {
        Role::Orchestrator => each::<OrchestratorAction>(answer, write_action::of_orchestrator),
        Role::Explorer => each::<ExplorerAction>(answer, write_action::of_explorer),
        Role::Coder => each::<CoderAction>(answer, write_action::of_coder),
    }
}

/// What an agent of this role is told of an answer that could not all be done, beside what came of
/// its actions.
pub fn complaint(role: Role, answer: &Answer) -> Option<String> {
    fn of<A: Acts>(answer: &Answer) -> Option<String> {
        messages::complaint(&A::read(&answer.text, answer.finish))
    }
    match role {
        // Its agent has ended.
        _ if answer.finish == Finish::Refused => None,
        Role::Orchestrator => of::<OrchestratorAction>(answer),
        Role::Explorer => of::<ExplorerAction>(answer),
        Role::Coder => of::<CoderAction>(answer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::team::sample::answer;

    #[test]
    fn an_answers_actions_are_told_with_their_fields() {
        let text = "<bash>\ncmd: |\n  echo \"a: b\"\n\n  ls\nblock: false\n</bash>\n<file>\n\
                    action: edit\nfile_path: a.txt\nold_string: x\nnew_string: ' y '\n</file>";
        let calls = of(Role::Coder, &answer(text));
        let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["bash", "file"]);
        let bash = json!({"cmd": "echo \"a: b\"\n\nls\n", "block": false});
        assert_eq!(Value::from(calls[0].1.clone()), bash);
        assert_eq!(calls[1].1["new_string"], " y ");
        let finish = of(Role::Orchestrator, &answer("<finish>\nall: done\n</finish>"));
        assert_eq!(Value::from(finish[0].1.clone()), json!({"message": "all: done"}));
    }
}
