//! The task's own scripts: what a demonstrator knows, and no other model may.

use std::io;
use std::sync::Arc;

use orcapack_tasks::FileTree;
use orcapack_tasks::task::{Step, Task};

/// Those of one step of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scripts {
    pub solution: Option<Script>,
    /// In the task's order.
    pub known_bad: Vec<Script>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Of a known-bad solution; empty for the solution.
    pub name: String,
    pub text: Arc<str>,
}

impl Scripts {
    /// # Errors
    /// A file of the task cannot be read any more.
    pub fn of(task: &Task, step: &Step) -> io::Result<Self> {
        let known_bad = task.known_bad.iter().map(|(name, files)| script(name, files));
        let solution = step.solution.as_ref().map(|solution| script("", &solution.files));
        Ok(Self {
            solution: solution.transpose()?,
            known_bad: known_bad.collect::<Result<_, _>>()?,
        })
    }
}

/// Readers of tasks refuse one without a `solve.sh`.
fn script(name: &str, files: &FileTree) -> io::Result<Script> {
    let entry = files.get("solve.sh").ok_or_else(|| io::Error::other("no solve.sh"))?;
    let text = String::from_utf8_lossy(&entry.read()?).into();
    Ok(Script { name: name.to_owned(), text })
}
