//! The record of turns: everything that happened on a team, in order, and nothing that follows from
//! it.
//!
//! It is the truth of a rollout's step. Every agent's conversation, the tasks and the contexts are
//! functions of it; an agent that died is taken over from it, and it can be replayed from any
//! prefix. Its owner is the rollout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Answer, Usage};
use crate::team::action::CreateTask;
use crate::team::contexts::Context;
use crate::team::role::Role;
use crate::team::settings::TeamSettings;

/// 0 is the orchestrator; the others are numbered as they were launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u32);

impl AgentId {
    pub const ORCHESTRATOR: Self = Self(0);
}

/// Something that happened. Times are since the step's start.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub at: Duration,
    pub agent: AgentId,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Always the agent's first.
    Began(Arc<Brief>),
    /// A turn began: the model is being asked.
    Asked {
        turn: u32,
        forced: Option<ForcedBy>,
        /// The environment as it is now, for agents that are shown it anew each turn.
        snapshot: Option<Arc<str>>,
    },
    /// The model's answer to that turn. What cannot be answered at all is an [`AgentEnd`].
    Answered { turn: u32, answer: Arc<Answer>, call: CallFacts },
    /// What came of an action of that turn's answer, 0 for the first.
    Acted { turn: u32, index: usize, observation: Arc<Observation>, took: Duration },
    /// That turn's prompt did not fit the model's context window: there is no answer.
    Overflowed { turn: u32 },
    /// A task joined the orchestrator's tree.
    TaskCreated(Arc<Task>),
    /// The agent stored a context.
    Stored(Arc<Context>),
    /// Taken over by a new actor after the death of the one before.
    TakenOver,
    /// Always the agent's last.
    Ended(AgentEnd),
}

/// A task that the orchestrator made.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// `task_1`, `task_2`, ...
    pub id: String,
    pub spec: CreateTask,
}

/// Why an agent has to end with its next answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForcedBy {
    ParseErrors,
    NoActions,
    TurnsUsedUp,
    TokensUsedUp,
    DeadlineNear,
    ContextFull,
}

/// What an agent is told when it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief {
    pub role: Role,
    /// The task of the team that it works on; empty for the orchestrator.
    pub task: String,
    pub title: String,
    /// The instruction of the rollout's step, or the description of the delegated task.
    pub instruction: Arc<str>,
    pub max_turns: u32,
    /// Since the step's start.
    pub deadline: Duration,
    pub tokens_max: u64,
    /// The contexts that it was given, as exact refs.
    pub contexts: Vec<String>,
    /// Its first messages: system and user.
    pub system: Arc<str>,
    pub first: Arc<str>,
}

/// What a call cost beside its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallFacts {
    pub tries: u32,
    /// In the queue and between tries.
    pub waited: Duration,
    /// Of the try that was answered.
    pub took: Duration,
    /// US dollars; `None` where the endpoint has no price.
    pub cost_usd: Option<f64>,
}

/// What an agent sees of an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// As the agent sees it: bounded, and marked where it was cut.
    pub text: String,
    /// The action was done; what it did may still have failed in its own terms (an exit code).
    pub done: bool,
    /// Launched by it.
    pub subagents: Vec<AgentId>,
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEnd {
    /// A subagent's report, or the orchestrator's `finish`, of its own will.
    Finished { message: String },
    /// The same, after it was told to.
    Forced { by: ForcedBy, message: String },
    /// It had to end and did not say how: the message is ours.
    Synthetic { by: ForcedBy, message: String },
    /// The model refused by its protocol.
    Refused { message: String },
    /// It cannot be gone on with: its model, its environment, or its actor too often.
    Failed { message: String },
    /// Its rollout ended before it.
    Cancelled,
}

/// A team's whole work on one step of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TeamRun {
    /// With which, and the record, every conversation can be made anew.
    pub settings: Arc<TeamSettings>,
    pub record: Vec<Arc<Entry>>,
    pub end: AgentEnd,
}

/// One agent in figures, read off a record.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFigures {
    pub agent: AgentId,
    /// Who launched it; `None` for the orchestrator.
    pub parent: Option<AgentId>,
    pub role: Role,
    pub task: String,
    pub title: String,
    /// The model's name, as the endpoint gave it.
    pub model: String,
    pub turns: u32,
    pub takeovers: u32,
    pub usage: Usage,
    pub cost_usd: Option<f64>,
    /// Waiting for its model, and acting; seconds of the agent's own.
    pub model_time: Duration,
    pub action_time: Duration,
    pub began: Duration,
    pub ended: Duration,
    pub end: AgentEnd,
}

impl ForcedBy {
    /// In a few words, for notes and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ParseErrors => "parse errors",
            Self::NoActions => "no actions",
            Self::TurnsUsedUp => "turns used up",
            Self::TokensUsedUp => "tokens used up",
            Self::DeadlineNear => "deadline near",
            Self::ContextFull => "context full",
        }
    }
}

impl fmt::Display for ForcedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AgentEnd {
    /// The name in ledgers and reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished { .. } => "finished",
            Self::Forced { .. } => "forced",
            Self::Synthetic { .. } => "synthetic",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What it said at its end, or what was said for it; empty where there was nothing to say.
    pub fn message(&self) -> &str {
        match self {
            Self::Finished { message }
            | Self::Forced { message, .. }
            | Self::Synthetic { message, .. }
            | Self::Refused { message }
            | Self::Failed { message } => message,
            Self::Cancelled => "",
        }
    }
}
