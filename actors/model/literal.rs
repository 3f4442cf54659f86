//! The model of kind `literal`: a subagent without a model, that does what its task says, word by
//! word.
//!
//! In its first turn it runs the commands in the task's description, in order: the content of each
//! fenced code block; where there is none, each line that begins with `$ `; where there is none of
//! those either, the whole description. In its next turn it reports what came of them, verbatim. So
//! a small trained orchestrator can be studied by itself.
//!
//! A pure function of the request. It has no word for delegating: an orchestrator of this kind is
//! refused where roles are given their endpoints.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use crate::model::{Answer, Finish, Model, ModelError, Request, Speaker, Usage};
use crate::team::action::{Bash, Report, ReportedContext, Tool};
use crate::team::write_action;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Literal;

impl Model for Literal {
    fn name(&self) -> &str {
        "literal"
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        ready(Ok(answer(request))).boxed()
    }
}

fn answer(request: &Request) -> Answer {
    let commands = commands(&request.instruction);
    let text = match (request.key.turn, commands.as_slice()) {
        (_, []) => report(None, "The task's description has no command: nothing was run."),
        (1, commands) => commands.iter().map(|command| bash(command)).collect(),
        (_, commands) => {
            // Agents are numbered within a step, so that no two of them report the same id.
            let id = format!("output-{}", request.key.agent);
            let count = commands.len();
            let comments = format!("Ran {count} command(s) of the description as they stood.");
            report(Some((&id, last_user(request))), &comments)
        }
    };
    Answer {
        text,
        reasoning: None,
        finish: Finish::Stop,
        usage: Usage::default(),
        model: "literal".to_owned(),
        tokens: None,
    }
}

/// What the agent has seen of its actions.
fn last_user(request: &Request) -> &str {
    let user = request.messages.iter().rev().find(|message| message.role == Speaker::User);
    user.map_or("", |message| &*message.content)
}

/// The commands in a description. None of them is blank.
fn commands(description: &str) -> Vec<String> {
    let mut commands = fenced(description);
    if commands.is_empty() {
        let lines = description.lines().filter_map(|line| line.strip_prefix("$ "));
        commands = lines.map(str::to_owned).collect();
    }
    if commands.is_empty() {
        commands.push(description.trim().to_owned());
    }
    commands.retain(|command| !command.trim().is_empty());
    commands
}

/// The contents of fenced code blocks, as CommonMark has them; one that is not closed goes on to
/// the end.
fn fenced(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(Fence, String)> = None;
    for line in text.lines() {
        open = match open {
            None => Fence::opened_by(line).map(|fence| (fence, String::new())),
            Some((fence, block)) if fence.is_closed_by(line) => {
                blocks.push(block);
                None
            }
            Some((fence, mut block)) => {
                block.push_str(fence.without_indent(line));
                block.push('\n');
                Some((fence, block))
            }
        };
    }
    blocks.extend(open.map(|(_, block)| block));
    blocks
}

/// An opening line of three or more backticks or tildes.
struct Fence {
    mark: char,
    len: usize,
    indent: usize,
}

/// With more of it a line is no fence any more.
const FENCE_INDENT_MAX: usize = 3;

impl Fence {
    fn opened_by(line: &str) -> Option<Self> {
        let (fence, info) = Self::marks(line)?;
        // Backticks after backticks are code within a line.
        (fence.mark == '~' || !info.contains('`')).then_some(fence)
    }

    fn is_closed_by(&self, line: &str) -> bool {
        Self::marks(line).is_some_and(|(other, rest)| {
            other.mark == self.mark && other.len >= self.len && rest.trim().is_empty()
        })
    }

    /// The marks that a line begins with, and what follows them.
    fn marks(line: &str) -> Option<(Self, &str)> {
        let marks = line.trim_start_matches(' ');
        let indent = line.len() - marks.len();
        let mark = marks.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let rest = marks.trim_start_matches(mark);
        let len = marks.len() - rest.len();
        (len >= 3 && indent <= FENCE_INDENT_MAX).then_some((Self { mark, len, indent }, rest))
    }

    /// A line of the block, without as much indentation as the fence has.
    fn without_indent<'a>(&self, line: &'a str) -> &'a str {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        &line[spaces.min(self.indent)..]
    }
}

fn bash(command: &str) -> String {
    let cmd = command.to_owned();
    write_action::tool(&Tool::Bash(Bash { cmd, block: true, timeout: None }))
}

fn report(context: Option<(&str, &str)>, comments: &str) -> String {
    let context = context
        .map(|(id, content)| ReportedContext { id: id.to_owned(), content: content.to_owned() });
    let contexts = context.into_iter().collect();
    write_action::report(&Report { contexts, comments: comments.to_owned() })
}

#[cfg(test)]
#[path = "literal_tests.rs"]
mod tests;
