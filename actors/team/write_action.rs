//! From actions to the text that is read back as them: the grammar, written.
//!
//! Any text in an action comes back byte for byte, whatever it holds, but for the message of a
//! `finish`, which is plain: it is trimmed, and its lines that begin with `<` are moved in by a
//! space.

use crate::team::action::{
    Change, CoderAction, CreateTask, Edit, ExplorerAction, MAX_TURNS_DEFAULT, OrchestratorAction,
    Report, ReportedContext, Scratchpad, Search, SubagentAction, Todo, TodoOperation, Tool,
};
use crate::team::role::SubagentKind;
use crate::team::written::{Body, Written};

pub fn orchestrator(action: &OrchestratorAction) -> String {
    of_orchestrator(action).text()
}

pub fn explorer(action: &ExplorerAction) -> String {
    of_explorer(action).text()
}

pub fn coder(action: &CoderAction) -> String {
    of_coder(action).text()
}

pub fn tool(action: &Tool) -> String {
    of_tool(action).text()
}

pub fn report(report: &Report) -> String {
    of_report(report).text()
}

pub(crate) fn of_orchestrator(action: &OrchestratorAction) -> Written<'_> {
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
        OrchestratorAction::Finish { message } => Written::plain("finish", message),
    }
}

pub(crate) fn of_explorer(action: &ExplorerAction) -> Written<'_> {
    match action {
        SubagentAction::Tool(action) => of_tool(action),
        SubagentAction::Change(never) => match *never {},
        SubagentAction::Report(action) => of_report(action),
    }
}

pub(crate) fn of_coder(action: &CoderAction) -> Written<'_> {
    match action {
        SubagentAction::Tool(action) => of_tool(action),
        SubagentAction::Change(action) => change(action),
        SubagentAction::Report(action) => of_report(action),
    }
}

fn of_tool(action: &Tool) -> Written<'_> {
    match action {
        Tool::Bash(bash) => {
            let mut body = Body::new().text("cmd", &bash.cmd);
            if !bash.block {
                body = body.flag("block", false);
            }
            let timeout = bash.timeout.map(|timeout| timeout.as_secs());
            body.number("timeout_secs", timeout).within("bash")
        }
        Tool::Read(read) => {
            let body = Body::new().word("action", "read").text("file_path", &read.path);
            let body = body.number("offset", read.offset).number("limit", read.limit);
            body.within("file")
        }
        Tool::Metadata { paths } => {
            Body::new().word("action", "metadata").list("file_paths", paths).within("file")
        }
        Tool::Search(Search::Grep { pattern, path, include }) => {
            let body = Body::new().word("action", "grep").text("pattern", pattern);
            body.optional("path", path).optional("include", include).within("search")
        }
        Tool::Search(Search::Glob { pattern, path }) => {
            let body = Body::new().word("action", "glob").text("pattern", pattern);
            body.optional("path", path).within("search")
        }
        Tool::WriteTempScript { path, content } => {
            Body::new().text("file_path", path).text("content", content).within("write_temp_script")
        }
        Tool::Todo(action) => todo(action),
        Tool::Scratchpad(Scratchpad::Add { content }) => {
            Body::new().word("action", "add").text("content", content).within("scratchpad")
        }
        Tool::Scratchpad(Scratchpad::View) => {
            Body::new().word("action", "view").within("scratchpad")
        }
        Tool::Scratchpad(Scratchpad::Clear) => {
            Body::new().word("action", "clear").within("scratchpad")
        }
    }
}

fn of_report(report: &Report) -> Written<'_> {
    let items = report
        .contexts
        .iter()
        .map(|ReportedContext { id, content }| Body::new().text("id", id).text("content", content));
    let mut body = Body::new().items("contexts", items);
    if !report.comments.is_empty() {
        body = body.text("comments", &report.comments);
    }
    body.within("report")
}

fn create_task(task: &CreateTask) -> Written<'_> {
    let agent = match task.agent {
        SubagentKind::Explorer => "explorer",
        SubagentKind::Coder => "coder",
    };
    let bootstrap = task.bootstrap.iter();
    let bootstrap = bootstrap.map(|b| Body::new().text("path", &b.path).text("reason", &b.reason));
    let max_turns = (task.max_turns != MAX_TURNS_DEFAULT).then_some(task.max_turns.into());
    let mut body = Body::new()
        .word("agent_type", agent)
        .text("title", &task.title)
        .text("description", &task.description)
        .number("max_turns", max_turns)
        .list("context_refs", &task.context_refs)
        .items("context_bootstrap", bootstrap);
    if !task.auto_launch {
        body = body.flag("auto_launch", false);
    }
    body.within("task_create")
}

fn change(action: &Change) -> Written<'_> {
    match action {
        Change::Write { path, content } => {
            let body = Body::new().word("action", "write").text("file_path", path);
            body.text("content", content).within("file")
        }
        Change::Edit { path, edits } => match edits.as_slice() {
            [one] => {
                let body = Body::new().word("action", "edit").text("file_path", path);
                edit(body, one).within("file")
            }
            several => {
                let body = Body::new().word("action", "multi_edit").text("file_path", path);
                let items = several.iter().map(|one| edit(Body::new(), one));
                body.items("edits", items).within("file")
            }
        },
    }
}

fn edit<'a>(body: Body<'a>, edit: &'a Edit) -> Body<'a> {
    let body = body.text("old_string", &edit.old).text("new_string", &edit.new);
    if edit.replace_all { body.flag("replace_all", true) } else { body }
}

fn todo(action: &Todo) -> Written<'_> {
    let items = action.operations.iter().map(|operation| match operation {
        TodoOperation::Add { content } => {
            Body::new().word("action", "add").text("content", content)
        }
        TodoOperation::Complete { id } => {
            Body::new().word("action", "complete").number("task_id", Some(u64::from(*id)))
        }
        TodoOperation::Delete { id } => {
            Body::new().word("action", "delete").number("task_id", Some(u64::from(*id)))
        }
    });
    let mut body = Body::new().items("operations", items);
    if action.view_all {
        body = body.flag("view_all", true);
    }
    body.within("todo")
}
