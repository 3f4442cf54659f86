//! What each role's agent can do, for the state machine that all of them share.

use crate::model::Finish;
use crate::team::action::{
    Change, CoderAction, ExplorerAction, OrchestratorAction, SubagentAction, Tool,
};
use crate::team::agent::{Acts, Ending};
use crate::team::read_action::{self, Reading};

impl Acts for OrchestratorAction {
    fn read(text: &str, finish: Finish) -> Reading<Self> {
        read_action::orchestrator(text, finish)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::CreateTask(_) => "task_create",
            Self::Launch { .. } => "launch_subagent",
            Self::LaunchParallel { .. } => "launch_parallel_subagents",
            Self::AddContext { .. } => "add_context",
            Self::Finish { .. } => "finish",
        }
    }

    fn ending(&self) -> Option<Ending> {
        match self {
            Self::Finish { message } => Some(Ending::Finish { message: message.clone() }),
            _ => None,
        }
    }
}

impl Acts for ExplorerAction {
    fn read(text: &str, finish: Finish) -> Reading<Self> {
        read_action::explorer(text, finish)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Tool(tool) => tool_name(tool),
            Self::Change(never) => match *never {},
            Self::Report(_) => "report",
        }
    }

    fn ending(&self) -> Option<Ending> {
        ending(self)
    }
}

impl Acts for CoderAction {
    fn read(text: &str, finish: Finish) -> Reading<Self> {
        read_action::coder(text, finish)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Tool(tool) => tool_name(tool),
            Self::Change(Change::Write { .. } | Change::Edit { .. }) => "file",
            Self::Report(_) => "report",
        }
    }

    fn ending(&self) -> Option<Ending> {
        ending(self)
    }
}

fn ending<C>(action: &SubagentAction<C>) -> Option<Ending> {
    match action {
        SubagentAction::Report(report) => Some(Ending::Report(report.clone())),
        _ => None,
    }
}

fn tool_name(tool: &Tool) -> &'static str {
    match tool {
        Tool::Bash(_) => "bash",
        Tool::Read(_) | Tool::Metadata { .. } => "file",
        Tool::Search(_) => "search",
        Tool::WriteTempScript { .. } => "write_temp_script",
        Tool::Todo(_) => "todo",
        Tool::Scratchpad(_) => "scratchpad",
    }
}
