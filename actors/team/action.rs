//! What agents can do, as types: an action that a role may not use cannot be built for it.
//!
//! [`OrchestratorAction`], [`ExplorerAction`] and [`CoderAction`] share nothing that would let one
//! stand for another. A subagent's action is a [`Tool`], which anyone below the orchestrator may
//! use, a [`Change`] of files, which an explorer has no value for, or its [`Report`].

use std::convert::Infallible;
use std::time::Duration;

use crate::team::role::SubagentKind;

#[derive(Clone, Debug, PartialEq)]
pub enum OrchestratorAction {
    CreateTask(CreateTask),
    /// `launch_subagent`: a task that was created without being launched, or is to be tried again.
    Launch {
        task: String,
    },
    /// `launch_parallel_subagents`: side by side; 1 to [`PARALLEL_MAX`], each task once.
    LaunchParallel {
        tasks: Vec<String>,
    },
    AddContext {
        id: String,
        content: String,
    },
    /// Ends the rollout's step; the text is for the reader of the record.
    Finish {
        message: String,
    },
}

/// Subagents that one action may launch.
pub const PARALLEL_MAX: usize = 10;
/// Turns of a subagent when its task names none, and the most that it may name.
pub const MAX_TURNS_DEFAULT: u32 = 8;
pub const MAX_TURNS_MAX: u32 = 20;

/// `task_create`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTask {
    pub agent: SubagentKind,
    pub title: String,
    pub description: String,
    /// 1 to [`MAX_TURNS_MAX`].
    pub max_turns: u32,
    /// Ids of contexts, or of tasks, which stand for all contexts of theirs.
    pub context_refs: Vec<String>,
    /// Files and folders whose content the subagent finds in its first message.
    pub bootstrap: Vec<Bootstrap>,
    /// Launched at once; the default.
    pub auto_launch: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    pub path: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SubagentAction<C> {
    Tool(Tool),
    Change(C),
    Report(Report),
}

/// There is no `Infallible`: an explorer's `Change` cannot be built.
pub type ExplorerAction = SubagentAction<Infallible>;
pub type CoderAction = SubagentAction<Change>;

/// What explorers and coders may do.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    Bash(Bash),
    /// `file` with action `read`.
    Read(ReadFile),
    /// `file` with action `metadata`: 1 to [`METADATA_PATHS_MAX`] paths.
    Metadata {
        paths: Vec<String>,
    },
    Search(Search),
    /// A script in the agent's scratch folder, executable.
    WriteTempScript {
        path: String,
        content: String,
    },
    Todo(Todo),
    Scratchpad(Scratchpad),
}

pub const METADATA_PATHS_MAX: usize = 10;

#[derive(Clone, Debug, PartialEq)]
pub struct Bash {
    pub cmd: String,
    /// `false`: started in the background, its output shown in later turns.
    pub block: bool,
    /// `timeout_secs`; the agent's remaining time bounds it too.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile {
    pub path: String,
    /// The first line, 1 for the file's first.
    pub offset: Option<u64>,
    /// Lines.
    pub limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// Lines that match a regular expression.
    Grep { pattern: String, path: Option<String>, include: Option<String> },
    /// Paths that match a glob.
    Glob { pattern: String, path: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Todo {
    pub operations: Vec<TodoOperation>,
    pub view_all: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TodoOperation {
    Add { content: String },
    Complete { id: u32 },
    Delete { id: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scratchpad {
    /// After what is there.
    Add {
        content: String,
    },
    View,
    Clear,
}

/// What a coder may do to files, each all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `file` with action `write`: made, or replaced as a whole.
    Write { path: String, content: String },
    /// `file` with action `edit` (one) or `multi_edit` (several, one after the other).
    Edit { path: String, edits: Vec<Edit> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Must occur: once, unless `replace_all`.
    pub old: String,
    pub new: String,
    pub replace_all: bool,
}

/// How a subagent ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub contexts: Vec<ReportedContext>,
    pub comments: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedContext {
    pub id: String,
    pub content: String,
}
