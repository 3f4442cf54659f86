//! What goes into a [conductor](crate::team::conductor), and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Answer, CallKey, Message, Request};
use crate::sandbox::SandboxError;
use crate::team::action::{Bootstrap, Change, OrchestratorAction, Tool};
use crate::team::agent::Ending;
use crate::team::contexts::{Context, NewContext, Provenance};
use crate::team::record::{AgentId, CallFacts, Entry, ForcedBy, Observation, TeamRun};
use crate::team::role::Role;

/// What an agent wants: its [`Step`](crate::team::agent::Step), in terms that its role can fill.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    Ask { turn: u32, forced: Option<ForcedBy> },
    Call { turn: u32, messages: Vec<Message>, max_tokens: u32 },
    Orchestrate { turn: u32, index: usize, action: OrchestratorAction },
    Tool { turn: u32, index: usize, tool: Tool },
    Change { turn: u32, index: usize, change: Change },
    End { turn: u32, index: usize, ending: Ending, forced: Option<ForcedBy> },
    GiveUp { by: ForcedBy },
    Refused { message: String },
}

#[derive(Debug)]
pub enum Input {
    /// From an agent's actor; `life` is the one that it was spawned with.
    Wants { agent: AgentId, life: u32, want: Box<Want> },
    /// An operation of an effect is done.
    Done(OpId, Box<Done>),
    /// An agent's actor ended before its agent did.
    Died { agent: AgentId, life: u32, reason: String },
    /// The step's time is over.
    TimeOver,
}

/// How an operation ended.
#[derive(Debug)]
pub enum Done {
    Called(Box<Result<(Answer, CallFacts), CallFailure>>),
    Acted(Result<Observation, SandboxError>),
    Looked(Result<Looked, SandboxError>),
    Resolved(Result<Vec<Context>, String>),
    /// What was stored, and why the others were not.
    Stored {
        stored: Vec<Context>,
        refused: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum CallFailure {
    ContextOverflow,
    /// The endpoint was slow, but did not fail: the agent's time was over.
    TimeOver,
    Endpoint(String),
}

/// What an agent is shown of the environment when it begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looked {
    /// `None` where it was not asked for.
    pub snapshot: Option<String>,
    /// The contents that its task asked for; empty where it asked for none.
    pub bootstrap: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What is to be done. Those with an [`OpId`] are answered by an [`Input::Done`], once.
#[derive(Debug)]
pub enum Effect {
    /// An actor for an agent, which begins with these entries.
    Spawn {
        agent: AgentId,
        life: u32,
        role: Role,
        entries: Vec<Arc<Entry>>,
    },
    /// To the agent's actor, which waits for it.
    Reply {
        agent: AgentId,
        entries: Vec<Arc<Entry>>,
    },
    Call {
        op: OpId,
        role: Role,
        request: Box<Request>,
        time_left: Duration,
    },
    Tool {
        op: OpId,
        agent: AgentId,
        role: Role,
        tool: Tool,
        time_left: Duration,
    },
    Change {
        op: OpId,
        agent: AgentId,
        change: Change,
        time_left: Duration,
    },
    Look {
        op: OpId,
        /// Of the environment as a whole.
        snapshot: bool,
        bootstrap: Vec<Bootstrap>,
    },
    Resolve {
        op: OpId,
        refs: Vec<String>,
        tasks: Vec<String>,
        for_task: Option<String>,
    },
    Store {
        op: OpId,
        contexts: Vec<NewContext>,
        from: Provenance,
    },
    /// The last one. What was lost with the infrastructure has an error beside its record.
    End {
        run: Box<TeamRun>,
        lost: Option<SandboxError>,
    },
}

/// What is given.
#[derive(Clone, Debug)]
pub struct Assigned {
    pub instruction: Arc<str>,
    /// The step's time limit.
    pub limit: Duration,
    /// Of the orchestrator's first call.
    pub key: CallKey,
}
