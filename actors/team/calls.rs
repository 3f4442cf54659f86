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

/// An answer as it was read.
#[derive(Debug)]
pub struct Calls {
    /// The actions, in order: each by its tag, with its fields.
    pub actions: Vec<(String, Map<String, Value>)>,
    /// What its agent is told of it beside what came of the actions; `None` where all is well, and
    /// of an answer that was refused, with which its agent has ended.
    pub complaint: Option<String>,
}

impl Calls {
    /// Reads an answer of this role.
    pub fn read(role: Role, answer: &Answer) -> Self {
        fn of<A: Acts>(answer: &Answer, write: fn(&A) -> Written<'_>) -> Calls {
            let reading = A::read(&answer.text, answer.finish);
            let told = |action: &A| (action.name().to_owned(), write(action).fields());
            Calls {
                actions: reading.actions.iter().map(told).collect(),
                complaint: (answer.finish != Finish::Refused)
                    .then(|| messages::complaint(&reading))
                    .flatten(),
            }
        }
        match role {
            Role::Orchestrator => of::<OrchestratorAction>(answer, write_action::of_orchestrator),
            Role::Explorer => of::<ExplorerAction>(answer, write_action::of_explorer),
            Role::Coder => of::<CoderAction>(answer, write_action::of_coder),
        }
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
        let calls = Calls::read(Role::Coder, &answer(text)).actions;
        let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["bash", "file"]);
        let bash = json!({"cmd": "echo \"a: b\"\n\nls\n", "block": false});
        assert_eq!(Value::from(calls[0].1.clone()), bash);
        assert_eq!(calls[1].1["new_string"], " y ");
        let answer = answer("<finish>\nall: done\n</finish>");
        let finish = Calls::read(Role::Orchestrator, &answer).actions;
        assert_eq!(Value::from(finish[0].1.clone()), json!({"message": "all: done"}));
    }
}
