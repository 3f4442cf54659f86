//! From a model's answer to the actions of its role.
//!
//! The actions of an answer are done in order, and later ones build on earlier ones. So an answer
//! with a fault gives the actions before it and none behind it; the model is told of all its faults
//! and that the rest was not run.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::Finish;
use crate::team::action::{
    Bash, Bootstrap, Change, CoderAction, CreateTask, Edit, ExplorerAction, MAX_TURNS_DEFAULT,
    MAX_TURNS_MAX, METADATA_PATHS_MAX, OrchestratorAction, PARALLEL_MAX, ReadFile, Report,
    ReportedContext, Scratchpad, Search, SubagentAction, Todo, TodoOperation, Tool,
};
use crate::team::fault::Fault;
use crate::team::fields::{Fields, Read, first};
use crate::team::grammar::{Block, blocks};
use crate::team::lenient_yaml::{BodyFault, Readings};
use crate::team::role::{Role, SubagentKind};
use crate::team::schema::{Body, tags_of};

/// Items of a list that has no narrower bound: more are never written by hand.
pub const ITEMS_MAX: usize = 64;
/// Of an id, title or the like, in characters: one line of a listing.
pub const NAME_CHARS_MAX: usize = 200;
/// What a command may ask for: a day. Its agent's remaining time bounds it too.
pub const TIMEOUT_SECS_MAX: u64 = 86_400;
/// Faults of one answer that are told: the others are mostly their echoes.
pub const FAULTS_MAX: usize = 5;

/// What came of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<A> {
    /// In order, up to the first fault.
    pub actions: Vec<A>,
    /// In order, up to [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// Actions behind the first fault, without one of their own.
    pub skipped: usize,
}

impl<A> Reading<A> {
    /// What the model is told of its faults; `None` where there are none.
    pub fn complaint(&self) -> Option<String> {
        if self.faults.is_empty() {
            return None;
        }
        let mut text = String::new();
        for fault in &self.faults {
            let _ = writeln!(text, "{fault}");
        }
        let _ = match self.actions.len() {
            0 => write!(text, "Nothing of this answer was run."),
            1 => write!(text, "The action before that was run, and nothing behind it."),
            count => write!(text, "The {count} actions before that were run, and nothing behind."),
        };
        text.push_str(match self.skipped {
            0 => " Send it again, put right.",
            _ => " Send it again, put right, with those that should follow.",
        });
        Some(text)
    }
}

pub fn orchestrator(answer: &str, finish: Finish) -> Reading<OrchestratorAction> {
    read(Role::Orchestrator, answer, finish, delegate)
}

pub fn explorer(answer: &str, finish: Finish) -> Reading<ExplorerAction> {
    read(Role::Explorer, answer, finish, |tag, fields| match work(tag, fields, Role::Explorer)? {
        SubagentAction::Tool(tool) => Ok(SubagentAction::Tool(tool)),
        SubagentAction::Report(report) => Ok(SubagentAction::Report(report)),
        SubagentAction::Change(_) => Err(may_not_change(fields)),
    })
}

pub fn coder(answer: &str, finish: Finish) -> Reading<CoderAction> {
    read(Role::Coder, answer, finish, |tag, fields| work(tag, fields, Role::Coder))
}

fn read<A>(
    role: Role,
    answer: &str,
    finish: Finish,
    make: impl Fn(&str, &Fields<'_>) -> Read<A>,
) -> Reading<A>
where
    A: OfPlain,
{
    let mut reading = Reading { actions: Vec::new(), faults: Vec::new(), skipped: 0 };
    for block in blocks(answer, finish, role) {
        match block.and_then(|block| one(role, &block, &make)) {
            Ok(action) if reading.faults.is_empty() => reading.actions.push(action),
            Ok(_) => reading.skipped += 1,
            Err(fault) if reading.faults.len() < FAULTS_MAX => reading.faults.push(fault),
            Err(_) => {}
        }
    }
    reading
}

/// An action whose body is plain text.
trait OfPlain: Sized {
    fn of_plain(text: String) -> Option<Self>;
}

impl OfPlain for OrchestratorAction {
    fn of_plain(text: String) -> Option<Self> {
        Some(Self::Finish { message: text })
    }
}

impl<C> OfPlain for SubagentAction<C> {
    fn of_plain(_text: String) -> Option<Self> {
        None
    }
}

fn one<A: OfPlain>(
    role: Role,
    block: &Block,
    make: &impl Fn(&str, &Fields<'_>) -> Read<A>,
) -> Result<A, Fault> {
    let tag = block.spec.tag;
    let fault = |line: usize, message: String| Fault { line, tag: tag.to_owned(), message };
    if !tags_of(role).contains(&tag) {
        return Err(fault(block.line, not_of(role, tag)));
    }
    match block.spec.body {
        Body::Plain => A::of_plain(block.body.trim().to_owned())
            .ok_or_else(|| fault(block.line, not_of(role, tag))),
        Body::Fields(fields) => {
            let readings = Readings::of(fields, &block.body, block.body_line);
            first(&readings, |node| make(tag, &Fields::of(fields, node)?))
                .map_err(|found| fault(found.line, found.message))
        }
    }
}

fn not_of(role: Role, tag: &str) -> String {
    let may = tags_of(role).join(", ");
    let instead = match (role, tag) {
        (Role::Orchestrator, "report") => "end with `finish`",
        (Role::Orchestrator, _) => "delegate it with `task_create`",
        (_, "finish") => "end with `report`",
        (_, "add_context") => "give contexts in your `report`",
        _ => "say in your `report` what others should do",
    };
    let who = match role {
        Role::Orchestrator => "an orchestrator",
        Role::Explorer => "an explorer",
        Role::Coder => "a coder",
    };
    format!("{who} may not use it, only {may}; {instead}")
}

/// The orchestrator's actions.
fn delegate(tag: &str, fields: &Fields<'_>) -> Read<OrchestratorAction> {
    match tag {
        "task_create" => Ok(OrchestratorAction::CreateTask(create_task(fields)?)),
        "launch_subagent" => Ok(OrchestratorAction::Launch { task: name(fields, "task_id")? }),
        "launch_parallel_subagents" => {
            let tasks = fields.words("task_ids", PARALLEL_MAX)?;
            if tasks.is_empty() {
                return Err(fields.fault("`task_ids` is missing: 1 to 10 ids of tasks"));
            }
            let again = tasks.iter().zip(1..).find(|(task, next)| {
                tasks.get(*next..).is_some_and(|others| others.contains(task))
            });
            match again {
                Some((task, _)) => Err(fields.fault(format!("`{task}` is in `task_ids` twice"))),
                None => Ok(OrchestratorAction::LaunchParallel { tasks }),
            }
        }
        _ => {
            let ReportedContext { id, content } = context(fields)?;
            Ok(OrchestratorAction::AddContext { id, content })
        }
    }
}

fn create_task(fields: &Fields<'_>) -> Read<CreateTask> {
    const KINDS: &[(&str, SubagentKind)] =
        &[("explorer", SubagentKind::Explorer), ("coder", SubagentKind::Coder)];
    let max_turns = fields.number("max_turns", 1..=MAX_TURNS_MAX.into())?;
    let title = fields.filled_text("title")?.trim().to_owned();
    Ok(CreateTask {
        agent: fields.choice("agent_type", KINDS)?,
        title: short(fields, "title", title)?,
        description: fields.filled_text("description")?,
        max_turns: max_turns.and_then(|n| n.try_into().ok()).unwrap_or(MAX_TURNS_DEFAULT),
        context_refs: fields.words("context_refs", ITEMS_MAX)?,
        bootstrap: fields.items("context_bootstrap", ITEMS_MAX, |item| {
            Ok(Bootstrap { path: item.word("path")?, reason: item.filled_text("reason")? })
        })?,
        auto_launch: fields.flag("auto_launch", true)?,
    })
}

fn name(fields: &Fields<'_>, name: &str) -> Read<String> {
    let word = fields.word(name)?;
    short(fields, name, word)
}

fn short(fields: &Fields<'_>, name: &str, text: String) -> Read<String> {
    let chars = text.chars().count();
    if chars > NAME_CHARS_MAX {
        let message = format!("`{name}` has {chars} characters, at most {NAME_CHARS_MAX} are read");
        return Err(fields.fault(message));
    }
    if text.contains(char::is_control) {
        return Err(fields.fault(format!("`{name}` is one line without control characters")));
    }
    Ok(text)
}

fn context(fields: &Fields<'_>) -> Read<ReportedContext> {
    Ok(ReportedContext { id: name(fields, "id")?, content: fields.filled_text("content")? })
}

/// The actions of subagents.
fn work(tag: &str, fields: &Fields<'_>, role: Role) -> Read<CoderAction> {
    let tool = match tag {
        "bash" => Tool::Bash(Bash {
            cmd: fields.filled_text("cmd")?,
            block: fields.flag("block", true)?,
            timeout: fields.number("timeout_secs", 1..=TIMEOUT_SECS_MAX)?.map(Duration::from_secs),
        }),
        "file" => return file(fields, role),
        "search" => Tool::Search(search(fields)?),
        "write_temp_script" => Tool::WriteTempScript {
            path: fields.word("file_path")?,
            content: fields.filled_text("content")?,
        },
        "todo" => Tool::Todo(todo(fields)?),
        "scratchpad" => Tool::Scratchpad(scratchpad(fields)?),
        _ => {
            let contexts = fields.items("contexts", ITEMS_MAX, |item| context(&item))?;
            let comments = fields.opt_text("comments")?.unwrap_or_default();
            if contexts.is_empty() && comments.trim().is_empty() {
                return Err(fields.fault("it has neither `contexts` nor `comments`"));
            }
            return Ok(SubagentAction::Report(Report { contexts, comments }));
        }
    };
    Ok(SubagentAction::Tool(tool))
}

#[derive(Clone, Copy)]
enum FileAction {
    Read,
    Metadata,
    Write,
    Edit,
    MultiEdit,
}

fn file(fields: &Fields<'_>, role: Role) -> Read<CoderAction> {
    use FileAction as Do;
    const ACTIONS: &[(&str, FileAction)] = &[
        ("read", Do::Read),
        ("metadata", Do::Metadata),
        ("write", Do::Write),
        ("edit", Do::Edit),
        ("multi_edit", Do::MultiEdit),
    ];
    let path = || fields.word("file_path");
    let action = fields.choice("action", ACTIONS)?;
    if role == Role::Explorer && matches!(action, Do::Write | Do::Edit | Do::MultiEdit) {
        return Err(may_not_change(fields));
    }
    match action {
        Do::Read => {
            fields
                .only("`file` with `action: read`", &["action", "file_path", "offset", "limit"])?;
            let offset = fields.number("offset", 1..=u64::MAX)?;
            let limit = fields.number("limit", 1..=u64::MAX)?;
            let read = ReadFile { path: path()?, offset, limit };
            Ok(SubagentAction::Tool(Tool::Read(read)))
        }
        Do::Metadata => {
            fields.only("`file` with `action: metadata`", &["action", "file_paths"])?;
            let paths = fields.words("file_paths", METADATA_PATHS_MAX)?;
            match paths.is_empty() {
                true => Err(fields.fault("`file_paths` is missing: a list of 1 to 10 paths")),
                false => Ok(SubagentAction::Tool(Tool::Metadata { paths })),
            }
        }
        Do::Write => {
            fields.only("`file` with `action: write`", &["action", "file_path", "content"])?;
            let change = Change::Write { path: path()?, content: fields.text("content")? };
            Ok(SubagentAction::Change(change))
        }
        Do::Edit => {
            let names = ["action", "file_path", "old_string", "new_string", "replace_all"];
            fields.only("`file` with `action: edit`", &names)?;
            Ok(SubagentAction::Change(Change::Edit { path: path()?, edits: vec![edit(fields)?] }))
        }
        Do::MultiEdit => {
            let names = ["action", "file_path", "edits"];
            fields.only("`file` with `action: multi_edit`", &names)?;
            let edits = fields.items("edits", ITEMS_MAX, |item| edit(&item))?;
            match edits.is_empty() {
                true => Err(fields.fault("`edits` is missing: a list of old_string, new_string")),
                false => Ok(SubagentAction::Change(Change::Edit { path: path()?, edits })),
            }
        }
    }
}

fn may_not_change(fields: &Fields<'_>) -> BodyFault {
    fields.fault(
        "an explorer changes no files: its `file` has the actions read and metadata only; scripts \
         of its own it writes with `write_temp_script`, and what should be changed it says in its \
         `report`",
    )
}

fn edit(fields: &Fields<'_>) -> Read<Edit> {
    let old = fields.text("old_string")?;
    if old.is_empty() {
        return Err(fields.fault("`old_string` is empty: it is the text to be replaced"));
    }
    let new = fields.text("new_string")?;
    Ok(Edit { old, new, replace_all: fields.flag("replace_all", false)? })
}

fn search(fields: &Fields<'_>) -> Read<Search> {
    let is_grep = fields.choice("action", &[("grep", true), ("glob", false)])?;
    let pattern = fields.filled_text("pattern")?;
    let path = fields.opt_word("path")?;
    if is_grep {
        return Ok(Search::Grep { pattern, path, include: fields.opt_word("include")? });
    }
    fields.only("`search` with `action: glob`", &["action", "pattern", "path"])?;
    Ok(Search::Glob { pattern: pattern.trim().to_owned(), path })
}

fn todo(fields: &Fields<'_>) -> Read<Todo> {
    #[derive(Clone, Copy)]
    enum Do {
        Add,
        Complete,
        Delete,
    }
    let operations = fields.items("operations", ITEMS_MAX, |item| {
        let actions = [("add", Do::Add), ("complete", Do::Complete), ("delete", Do::Delete)];
        let action = item.choice("action", &actions)?;
        if let Do::Add = action {
            item.only("`add`", &["action", "content"])?;
            return Ok(TodoOperation::Add { content: item.filled_text("content")? });
        }
        let id = item.number("task_id", 0..=u32::MAX.into())?;
        let id = id.and_then(|id| id.try_into().ok());
        let id = id.ok_or_else(|| item.fault("`task_id` is missing"))?;
        Ok(match action {
            Do::Delete => TodoOperation::Delete { id },
            Do::Add | Do::Complete => TodoOperation::Complete { id },
        })
    })?;
    let view_all = fields.flag("view_all", false)?;
    if operations.is_empty() && !view_all {
        return Err(fields.fault("it has neither `operations` nor `view_all: true`"));
    }
    Ok(Todo { operations, view_all })
}

fn scratchpad(fields: &Fields<'_>) -> Read<Scratchpad> {
    #[derive(Clone, Copy)]
    enum Do {
        Add,
        View,
        Clear,
    }
    let actions = [("add", Do::Add), ("view", Do::View), ("clear", Do::Clear)];
    match fields.choice("action", &actions)? {
        Do::Add => Ok(Scratchpad::Add { content: fields.filled_text("content")? }),
        Do::View => Ok(Scratchpad::View),
        Do::Clear => Ok(Scratchpad::Clear),
    }
}
