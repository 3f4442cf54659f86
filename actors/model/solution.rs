//! The model of kind `solution`: an orchestrator without a model, that knows the task's own
//! solution and has a coder run it.
//!
//! In its first turn it delegates the script by one `task_create`: line by line where it is plain
//! commands, each behind `$ `, else as a whole in a fenced block. Subagents of kind
//! [`literal`](crate::model::literal) run either as it stands. In its next turn it finishes. So it
//! shows a policy how tasks are solved, graded by their own tests. On a share of the rollouts it
//! can delegate a known-bad solution instead: a mistake to be unlearned.
//!
//! A pure function of the request, which carries the scripts for this kind alone.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use crate::model::sampling::seed_of_call;
use crate::model::scripts::{Script, Scripts};
use crate::model::settings::{EndpointSettings, Mistakes};
use crate::model::{Answer, CallKey, Finish, Model, ModelError, ModelErrorKind, Request, Usage};
use crate::team::action::{CreateTask, MAX_TURNS_DEFAULT, OrchestratorAction};
use crate::team::role::SubagentKind;
use crate::team::write_action;

/// See the module.
#[derive(Clone, Debug)]
pub struct Solution {
    mistakes: Mistakes,
    /// Draws the rollouts of mistakes.
    seed: u64,
}

/// Of a script that is delegated line by line; what is longer is rather run as a whole.
const PLAIN_LINES_MAX: usize = 12;

impl Solution {
    pub fn new(settings: &EndpointSettings) -> Self {
        let (mistakes, seed) = (settings.mistakes.clone(), settings.sampling.seed.unwrap_or(0));
        Self { mistakes, seed }
    }

    fn answer(&self, request: &Request) -> Result<Answer, ModelError> {
        let action = match request.key.turn {
            1 => {
                let scripts = request.scripts.as_deref().ok_or_else(|| lacks("scripts"))?;
                let Script { text, .. } = self.script(scripts, request.key.rollout)?;
                OrchestratorAction::CreateTask(CreateTask {
                    agent: SubagentKind::Coder,
                    title: "solve".to_owned(),
                    description: description(text),
                    max_turns: MAX_TURNS_DEFAULT,
                    context_refs: Vec::new(),
                    bootstrap: Vec::new(),
                    auto_launch: true,
                })
            }
            _ => OrchestratorAction::Finish { message: "done".to_owned() },
        };
        Ok(Answer {
            text: write_action::orchestrator(&action),
            reasoning: None,
            finish: Finish::Stop,
            usage: Usage::default(),
            model: "solution".to_owned(),
            tokens: None,
        })
    }

    /// The script for a rollout: the same in every attempt at it, and in every run of the plan.
    fn script<'a>(&self, scripts: &'a Scripts, rollout: u32) -> Result<&'a Script, ModelError> {
        let Mistakes { share, known_bad } = &self.mistakes;
        if self.draw(rollout, 0) >= *share {
            return scripts.solution.as_ref().ok_or_else(|| lacks("solution"));
        }
        let fits = |script: &&Script| known_bad.as_ref().is_none_or(|name| script.name == *name);
        let fitting: Vec<&Script> = scripts.known_bad.iter().filter(fits).collect();
        let at = (self.draw(rollout, 1) * fitting.len() as f64) as usize;
        fitting.get(at).copied().ok_or_else(|| match known_bad {
            Some(name) => lacks(&format!("known-bad solution `{name}`")),
            None => lacks("known-bad solution"),
        })
    }

    /// 0 to 1, without 1.
    fn draw(&self, rollout: u32, turn: u32) -> f64 {
        let key = CallKey { rollout, attempt: 0, step: 0, agent: 0, turn };
        seed_of_call(self.seed, &key) as f64 / f64::from(1_u32 << 31)
    }
}

impl Model for Solution {
    fn name(&self) -> &str {
        "solution"
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        ready(self.answer(request)).boxed()
    }
}

fn lacks(what: &str) -> ModelError {
    ModelError::new(ModelErrorKind::Rejected, format!("the task has no {what} to demonstrate"))
}

/// What a literal subagent is to run, so that it comes to the same as the script.
fn description(script: &str) -> String {
    if let Some(commands) = plain_commands(script) {
        return commands.iter().map(|command| format!("$ {command}\n")).collect();
    }
    // A block with nothing in it would be no command.
    if script.trim().is_empty() {
        return "$ true\n".to_owned();
    }
    // Longer than any row of backticks within.
    let mut marks = "```".to_owned();
    while script.contains(&marks) {
        marks.push('`');
    }
    let end = if script.ends_with('\n') { "" } else { "\n" };
    format!("{marks}\n{script}{end}{marks}\n")
}

/// The lines of a script that does the same when each is run in a shell of its own; `None` where
/// one might not.
fn plain_commands(script: &str) -> Option<Vec<&str>> {
    let lines = script.lines().map(str::trim_end);
    let says =
        |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set -");
    let commands: Vec<&str> = lines.filter(says).collect();
    let plain = !commands.is_empty()
        && commands.len() <= PLAIN_LINES_MAX
        && commands.iter().all(|command| is_plain(command));
    plain.then_some(commands)
}

/// Whether a line is a whole command that leaves nothing to the next line but what is on disk.
fn is_plain(line: &str) -> bool {
    /// Of the shell's own words, those that change the shell or go on in the next line.
    const BOUND: [&str; 27] = [
        "alias", "break", "case", "cd", "continue", "do", "done", "elif", "else", "esac", "eval",
        "exec", "exit", "export", "fi", "for", "function", "if", "local", "return", "select",
        "set", "source", "then", "trap", "until", "while",
    ];
    let word = line.split([' ', ';', '(']).next().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    !word.is_empty()
        && word != "."
        && word.chars().all(is_name)
        && !BOUND.contains(&word)
        && line[word.len()..].starts_with([' ', ';']) | (line.len() == word.len())
        && !line.contains("<<")
        && !line.contains('`')
        && !line.ends_with(['\\', '|', '&', '{', '('])
        && quotes_are_closed(line)
}

fn quotes_are_closed(line: &str) -> bool {
    let mut open = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (open, c) {
            (Some('\''), '\\') => {}
            // What is escaped is no quote.
            (_, '\\') => drop(chars.next()),
            (None, '\'' | '"') => open = Some(c),
            (Some(quote), c) if quote == c => open = None,
            _ => {}
        }
    }
    open.is_none()
}

#[cfg(test)]
#[path = "solution_tests.rs"]
mod tests;
