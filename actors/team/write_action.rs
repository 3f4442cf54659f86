//! From actions to the text that is read back as them: the grammar, written.
//!
//! Any text in an action comes back byte for byte, whatever it holds, but for the message of a
//! `finish`, which is plain: it is trimmed, and its lines that begin with `<` are moved in by a
//! space.

use std::fmt::Write as _;

use crate::team::action::{
    Change, CoderAction, CreateTask, Edit, ExplorerAction, OrchestratorAction, Report,
    ReportedContext, Scratchpad, Search, SubagentAction, Todo, TodoOperation, Tool,
};
use crate::team::role::SubagentKind;

pub fn orchestrator(action: &OrchestratorAction) -> String {
    match action {
        OrchestratorAction::CreateTask(task) => create_task(task),
        OrchestratorAction::Launch { task } => {
            Body::new().text("task_id", task).within("launch_subagent")
        }
        OrchestratorAction::LaunchParallel { tasks } => {
            Body::new().list("task_ids", tasks).within("launch_parallel_subagents")
        }
        OrchestratorAction::AddContext { id, content } => {
            Body::new().text("id", id).text("content", content).within("add_context")
        }
        OrchestratorAction::Finish { message } => {
            let message = message.trim().replace("\n<", "\n <");
            let gap = if message.starts_with('<') { " " } else { "" };
            format!("<finish>\n{gap}{message}\n</finish>\n")
        }
    }
}

pub fn explorer(action: &ExplorerAction) -> String {
    match action {
        SubagentAction::Tool(action) => tool(action),
        SubagentAction::Change(never) => match *never {},
        SubagentAction::Report(action) => report(action),
    }
}

pub fn coder(action: &CoderAction) -> String {
    match action {
        SubagentAction::Tool(action) => tool(action),
        SubagentAction::Change(action) => change(action),
        SubagentAction::Report(action) => report(action),
    }
}

pub fn tool(action: &Tool) -> String {
    match action {
        Tool::Bash(bash) => {
            let mut body = Body::new().text("cmd", &bash.cmd);
            if !bash.block {
                body = body.value("block", "false");
            }
            if let Some(timeout) = bash.timeout {
                body = body.value("timeout_secs", &timeout.as_secs().to_string());
            }
            body.within("bash")
        }
        Tool::Read(read) => {
            let body = Body::new().value("action", "read").text("file_path", &read.path);
            let body = body.number("offset", read.offset).number("limit", read.limit);
            body.within("file")
        }
        Tool::Metadata { paths } => {
            Body::new().value("action", "metadata").list("file_paths", paths).within("file")
        }
        Tool::Search(Search::Grep { pattern, path, include }) => {
            let body = Body::new().value("action", "grep").text("pattern", pattern);
            body.optional("path", path).optional("include", include).within("search")
        }
        Tool::Search(Search::Glob { pattern, path }) => {
            let body = Body::new().value("action", "glob").text("pattern", pattern);
            body.optional("path", path).within("search")
        }
        Tool::WriteTempScript { path, content } => {
            Body::new().text("file_path", path).text("content", content).within("write_temp_script")
        }
        Tool::Todo(action) => todo(action),
        Tool::Scratchpad(Scratchpad::Add { content }) => {
            Body::new().value("action", "add").text("content", content).within("scratchpad")
        }
        Tool::Scratchpad(Scratchpad::View) => {
            Body::new().value("action", "view").within("scratchpad")
        }
        Tool::Scratchpad(Scratchpad::Clear) => {
            Body::new().value("action", "clear").within("scratchpad")
        }
    }
}

pub fn report(report: &Report) -> String {
    let items = report.contexts.iter().map(|ReportedContext { id, content }| {
        Body::item().text("id", id).text("content", content)
    });
    let mut body = Body::new().items("contexts", items);
    if !report.comments.is_empty() {
        body = body.text("comments", &report.comments);
    }
    body.within("report")
}

fn create_task(task: &CreateTask) -> String {
    let agent = match task.agent {
        SubagentKind::Explorer => "explorer",
        SubagentKind::Coder => "coder",
    };
    let bootstrap = task.bootstrap.iter();
    let bootstrap = bootstrap.map(|b| Body::item().text("path", &b.path).text("reason", &b.reason));
    let mut body = Body::new()
        .value("agent_type", agent)
        .text("title", &task.title)
        .text("description", &task.description)
        .value("max_turns", &task.max_turns.to_string())
        .list("context_refs", &task.context_refs)
        .items("context_bootstrap", bootstrap);
    if !task.auto_launch {
        body = body.value("auto_launch", "false");
    }
    body.within("task_create")
}

fn change(action: &Change) -> String {
    let edit = |body: Body, edit: &Edit| {
        let body = body.text("old_string", &edit.old).text("new_string", &edit.new);
        if edit.replace_all { body.value("replace_all", "true") } else { body }
    };
    match action {
        Change::Write { path, content } => {
            let body = Body::new().value("action", "write").text("file_path", path);
            body.text("content", content).within("file")
        }
        Change::Edit { path, edits } => match edits.as_slice() {
            [one] => {
                let body = Body::new().value("action", "edit").text("file_path", path);
                edit(body, one).within("file")
            }
            several => {
                let body = Body::new().value("action", "multi_edit").text("file_path", path);
                let items = several.iter().map(|one| edit(Body::item(), one));
                body.items("edits", items).within("file")
            }
        },
    }
}

fn todo(action: &Todo) -> String {
    let items = action.operations.iter().map(|operation| match operation {
        TodoOperation::Add { content } => {
            Body::item().value("action", "add").text("content", content)
        }
        TodoOperation::Complete { id } => {
            Body::item().value("action", "complete").value("task_id", &id.to_string())
        }
        TodoOperation::Delete { id } => {
            Body::item().value("action", "delete").value("task_id", &id.to_string())
        }
    });
    let mut body = Body::new().items("operations", items);
    if action.view_all {
        body = body.value("view_all", "true");
    }
    body.within("todo")
}

/// A mapping, on its way to being written.
struct Body {
    /// Of its keys.
    indent: &'static str,
    text: String,
}

impl Body {
    fn new() -> Self {
        Self { indent: "", text: String::new() }
    }

    /// One in a list, behind its dash.
    fn item() -> Self {
        Self { indent: "    ", text: String::new() }
    }

    fn value(mut self, key: &str, value: &str) -> Self {
        let _ = writeln!(self.text, "{}{key}: {value}", self.indent);
        self
    }

    fn text(self, key: &str, text: &str) -> Self {
        let value = scalar(text, self.indent);
        self.value(key, &value)
    }

    fn optional(self, key: &str, text: &Option<String>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self,
        }
    }

    fn number(self, key: &str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.value(key, &number.to_string()),
            None => self,
        }
    }

    fn list(mut self, key: &str, list: &[String]) -> Self {
        if !list.is_empty() {
            let _ = writeln!(self.text, "{key}:");
        }
        for text in list {
            let _ = writeln!(self.text, "  - {}", quoted(text));
        }
        self
    }

    fn items(mut self, key: &str, items: impl Iterator<Item = Self>) -> Self {
        for (at, item) in items.enumerate() {
            if at == 0 {
                let _ = writeln!(self.text, "{key}:");
            }
            let first = item.text.strip_prefix(item.indent).unwrap_or(&item.text);
            let _ = write!(self.text, "  - {first}");
        }
        self
    }

    fn within(self, tag: &str) -> String {
        format!("<{tag}>\n{}</{tag}>\n", self.text)
    }
}

/// A text as a YAML scalar: as it is where that is safe, else as a block, else in quotes.
fn scalar(text: &str, indent: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | ' ');
    let is_word = text.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(is_plain)
        && !["true", "false", "null"].contains(&text.to_ascii_lowercase().as_str());
    if is_word {
        return text.to_owned();
    }
    let is_printable = |c: char| match c {
        '\n' | '\t' => true,
        // Line ends of some readers, and marks that are lost on the way.
        '\u{2028}' | '\u{2029}' | '\u{feff}' => false,
        c => {
            !c.is_control()
                && !('\u{fdd0}'..='\u{fdef}').contains(&c)
                && u32::from(c) & 0xfffe != 0xfffe
        }
    };
    let fits = text.chars().all(is_printable) && text.contains('\n') && !text.trim().is_empty();
    if !fits {
        return quoted(text);
    }
    // Said where the text itself would hide it.
    let digit = if text.starts_with([' ', '\t', '\n']) { "2" } else { "" };
    let ends = text.len() - text.trim_end_matches('\n').len();
    let sign = match ends {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let mut block = format!("|{digit}{sign}");
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        block.push('\n');
        if !line.is_empty() {
            let _ = write!(block, "{indent}  {line}");
        }
    }
    block
}

/// In double quotes, which hold everything.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            ' '..='~' => write!(quoted, "{c}"),
            c if c.is_alphanumeric() => write!(quoted, "{c}"),
            c => write!(quoted, "\\U{:08x}", u32::from(c)),
        };
    }
    quoted.push('"');
    quoted
}
