//! What a [conductor](crate::team::conductor) waits for.

use std::time::Duration;

use crate::team::action::CreateTask;
use crate::team::record::{AgentId, ForcedBy};

/// What an operation was for.
#[derive(Debug)]
pub(crate) enum Op {
    /// The orchestrator's first look.
    Begin,
    /// A look that goes into an `Asked`.
    Ask {
        turn: u32,
        forced: Option<ForcedBy>,
    },
    Call {
        agent: AgentId,
        turn: u32,
    },
    Act {
        agent: AgentId,
        turn: u32,
        index: usize,
        since: Duration,
    },
    /// The contexts of an ending, or of `add_context`.
    Store {
        agent: AgentId,
        turn: u32,
        index: usize,
        since: Duration,
        ending: Option<Closing>,
    },
    /// The refs of a task that is to be created.
    Check {
        turn: u32,
        index: usize,
        since: Duration,
        spec: Box<CreateTask>,
    },
    /// The contexts of a launch, and then its look; the number is its place in the delegation.
    Give {
        launch: usize,
    },
    Look {
        launch: usize,
    },
}

/// A report that waits for its contexts to be stored.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) comments: String,
    pub(crate) forced: Option<ForcedBy>,
}

impl Op {
    /// Whose it is, where that has an actor that may die.
    pub(crate) fn agent(&self) -> Option<AgentId> {
        match self {
            Self::Call { agent, .. } | Self::Act { agent, .. } | Self::Store { agent, .. } => {
                Some(*agent)
            }
            _ => None,
        }
    }
}
