//! What an agent is told first of its task, after its system prompt.

use std::fmt::Write as _;

use crate::team::contexts::Context;
use crate::team::prompts::Style;

pub(crate) fn of_orchestrator(style: &Style, instruction: &str, snapshot: &str) -> String {
    if !style.introduces {
        return instruction.trim_end().to_owned();
    }
    format!(
        "# The task\n\n{}\n\n# The environment\n\n{}",
        instruction.trim_end(),
        snapshot.trim_end()
    )
}

/// What a subagent is given beside its task.
pub(crate) struct Given<'a> {
    pub task: &'a str,
    pub title: &'a str,
    pub description: &'a str,
    pub contexts: &'a [Context],
    pub bootstrap: &'a str,
    pub snapshot: &'a str,
}

pub(crate) fn of_subagent(style: &Style, given: &Given<'_>) -> String {
    let Given { task, title, description, contexts, bootstrap, snapshot } = given;
    let mut text = format!("{}\n", description.trim_end());
    if style.introduces {
        text.insert_str(0, &format!("# Your task ({task}): {title}\n\n"));
    }
    if !contexts.is_empty() {
        text.push_str("\n# What others found out\n");
        for context in *contexts {
            // Writing into a string cannot fail.
            let _ = write!(text, "\n## {}\n\n{}\n", context.id, context.content.trim_end());
        }
    }
    if !bootstrap.is_empty() {
        let _ = write!(text, "\n# Files to begin with\n\n{}\n", bootstrap.trim_end());
    }
    if style.introduces {
        let _ = write!(text, "\n# The environment\n\n{}", snapshot.trim_end());
    } else {
        text.truncate(text.trim_end().len());
    }
    text
}
