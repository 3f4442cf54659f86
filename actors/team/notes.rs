//! An agent's to-do list and scratchpad: pure.
//!
//! They live nowhere but in the record: the actions that were answered so far, applied again in
//! their order, are the notes of an agent that is taken over.

use std::fmt::Write as _;

use crate::team::action::{Scratchpad, Todo, TodoOperation, Tool};
use crate::team::record::Observation;
use crate::team::text::count;

/// More is not a list that anyone works off.
pub const ENTRIES_MAX: usize = 100;
/// Of one entry: a line or two.
pub const ENTRY_CHARS_MAX: usize = 500;
/// Of the whole scratchpad; as much as a few observations.
pub const SCRATCHPAD_CHARS_MAX: usize = 40_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    todos: Vec<Entry>,
    /// Numbers are not given twice.
    last_id: u32,
    scratchpad: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: u32,
    content: String,
    complete: bool,
}

impl Notes {
    /// What comes of an action on notes; `None` for any other.
    pub fn apply(&mut self, tool: &Tool) -> Option<Observation> {
        match tool {
            Tool::Todo(todo) => Some(self.todo(todo)),
            Tool::Scratchpad(scratchpad) => Some(self.scratchpad(scratchpad)),
            _ => None,
        }
    }

    /// All operations or none.
    pub fn todo(&mut self, todo: &Todo) -> Observation {
        let before = self.clone();
        let mut said = String::new();
        for (index, operation) in todo.operations.iter().enumerate() {
            match self.operate(operation) {
                Ok(line) => said.push_str(&line),
                Err(why) => {
                    *self = before;
                    let number = index + 1;
                    let text = format!("operation {number}: {why}\nThe list was not changed.");
                    return Observation { text, ..Observation::default() };
                }
            }
        }
        said.push_str(&self.list(todo.view_all));
        done(said)
    }

    pub fn scratchpad(&mut self, scratchpad: &Scratchpad) -> Observation {
        match scratchpad {
            Scratchpad::Add { content } => {
                let added = content.chars().count() + 1;
                let chars = self.scratchpad.chars().count() + added;
                if chars > SCRATCHPAD_CHARS_MAX {
                    let text = format!(
                        "the scratchpad would be longer than {SCRATCHPAD_CHARS_MAX} characters; \
                         clear it first"
                    );
                    return Observation { text, ..Observation::default() };
                }
                self.scratchpad.push_str(content.trim_end_matches('\n'));
                self.scratchpad.push('\n');
                done(format!("added; {} in the scratchpad", count(chars, "character")))
            }
            Scratchpad::View if self.scratchpad.is_empty() => done("the scratchpad is empty"),
            Scratchpad::View => done(self.scratchpad.clone()),
            Scratchpad::Clear => {
                self.scratchpad.clear();
                done("the scratchpad is empty now")
            }
        }
    }

    fn operate(&mut self, operation: &TodoOperation) -> Result<String, String> {
        match operation {
            TodoOperation::Add { content } => {
                let content = content.split_whitespace().collect::<Vec<_>>().join(" ");
                if content.is_empty() {
                    return Err("an entry has to say something".to_owned());
                }
                if content.chars().count() > ENTRY_CHARS_MAX {
                    return Err(format!("an entry is longer than {ENTRY_CHARS_MAX} characters"));
                }
                if self.todos.len() >= ENTRIES_MAX {
                    return Err(format!("the list is full ({ENTRIES_MAX} entries); delete some"));
                }
                self.last_id += 1;
                let id = self.last_id;
                self.todos.push(Entry { id, content, complete: false });
                Ok(format!("added {id}\n"))
            }
            TodoOperation::Complete { id } => {
                let at = self.find(*id)?;
                self.todos.iter_mut().skip(at).take(1).for_each(|entry| entry.complete = true);
                Ok(format!("completed {id}\n"))
            }
            TodoOperation::Delete { id } => {
                let at = self.find(*id)?;
                self.todos.remove(at);
                Ok(format!("deleted {id}\n"))
            }
        }
    }

    fn find(&self, id: u32) -> Result<usize, String> {
        self.todos.iter().position(|entry| entry.id == id).ok_or_else(|| {
            let ids: Vec<String> = self.todos.iter().map(|entry| entry.id.to_string()).collect();
            match ids.len() {
                0 => format!("there is no entry {id}: the list is empty"),
                _ => format!("there is no entry {id}; there are {}", ids.join(", ")),
            }
        })
    }

    /// What is open, or everything.
    fn list(&self, all: bool) -> String {
        let complete = self.todos.iter().filter(|entry| entry.complete).count();
        let open = self.todos.len() - complete;
        let mut list = format!("{open} open, {complete} complete\n");
        for entry in self.todos.iter().filter(|entry| all || !entry.complete) {
            let mark = if entry.complete { 'x' } else { ' ' };
            // Writing to a string does not fail.
            let _ = writeln!(list, "[{mark}] {} {}", entry.id, entry.content);
        }
        list
    }
}

fn done(text: impl Into<String>) -> Observation {
    Observation { text: text.into(), done: true, ..Observation::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(content: &str) -> TodoOperation {
        TodoOperation::Add { content: content.to_owned() }
    }

    fn todo(operations: Vec<TodoOperation>, view_all: bool) -> Tool {
        Tool::Todo(Todo { operations, view_all })
    }

    #[test]
    fn a_list_is_added_to_worked_off_and_looked_at() {
        let mut notes = Notes::default();
        notes.apply(&todo(vec![add("look\naround"), add("fix it")], false));
        let seen = notes.apply(&todo(vec![TodoOperation::Complete { id: 1 }], false));
        assert_eq!(seen, Some(done("completed 1\n1 open, 1 complete\n[ ] 2 fix it\n")));
        notes.apply(&todo(vec![TodoOperation::Delete { id: 2 }, add("go")], false));
        let seen = notes.apply(&todo(vec![], true));
        assert_eq!(seen, Some(done("1 open, 1 complete\n[x] 1 look around\n[ ] 3 go\n")));
    }

    #[test]
    fn operations_are_done_all_or_none_and_a_wrong_number_is_told_with_the_right_ones() {
        let mut notes = Notes::default();
        notes.apply(&todo(vec![add("a")], false));
        let before = notes.clone();
        let seen = notes.apply(&todo(vec![add("b"), TodoOperation::Delete { id: 7 }], false));
        let seen = seen.expect("it is about notes");
        assert!(
            !seen.done && seen.text.contains("operation 2: there is no entry 7; there are 1, 2")
        );
        assert_eq!(notes, before);
    }

    #[test]
    fn the_scratchpad_keeps_what_is_added_up_to_its_bound() {
        let mut notes = Notes::default();
        for content in ["one", "two\n"] {
            notes.scratchpad(&Scratchpad::Add { content: content.to_owned() });
        }
        assert_eq!(notes.scratchpad(&Scratchpad::View), done("one\ntwo\n"));
        let content = "x".repeat(SCRATCHPAD_CHARS_MAX);
        assert!(!notes.scratchpad(&Scratchpad::Add { content }).done);
        notes.scratchpad(&Scratchpad::Clear);
        assert_eq!(notes.scratchpad(&Scratchpad::View), done("the scratchpad is empty"));
    }

    fn tool() -> impl Strategy<Value = Tool> {
        let operation = prop_oneof![
            "[a-c ]{0,4}".prop_map(|content| TodoOperation::Add { content }),
            (0..6_u32).prop_map(|id| TodoOperation::Complete { id }),
            (0..6_u32).prop_map(|id| TodoOperation::Delete { id }),
        ];
        let operations = prop::collection::vec(operation, 0..4);
        prop_oneof![
            (operations, any::<bool>())
                .prop_map(|(operations, view_all)| Tool::Todo(Todo { operations, view_all })),
            "[a-c]{0,4}".prop_map(|content| Tool::Scratchpad(Scratchpad::Add { content })),
            Just(Tool::Scratchpad(Scratchpad::View)),
            Just(Tool::Scratchpad(Scratchpad::Clear)),
        ]
    }

    proptest! {
        /// Open entries are the added ones that were neither completed nor deleted, and an agent
        /// that is taken over at any moment goes on with the same notes.
        #[test]
        fn replayed_from_the_record_notes_are_the_same(
            tools in prop::collection::vec(tool(), 0..30), taken_over in 0..30_usize
        ) {
            let mut notes = Notes::default();
            let mut again = Notes::default();
            for (index, tool) in tools.iter().enumerate() {
                if index == taken_over {
                    again = Notes::default();
                    tools.iter().take(index).for_each(|tool| drop(again.apply(tool)));
                }
                prop_assert_eq!(notes.apply(tool), again.apply(tool));
            }
            let mut ids: Vec<u32> = notes.todos.iter().map(|entry| entry.id).collect();
            let length = ids.len();
            ids.dedup();
            prop_assert!(ids.len() == length && ids.is_sorted());
        }
    }
}
