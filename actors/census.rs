//! Who is alive: the actors below one, by what they are.

use ractor::ActorCell;

use crate::environment::EnvironmentMessage;
use crate::rollout::RolloutMessage;
use crate::team::action::{CoderAction, ExplorerAction, OrchestratorAction};
use crate::team::context_store::ContextMessage;
use crate::team::member::MemberMessage;

/// The actors that come and go with attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActorKind {
    Rollout,
    Orchestrator,
    Explorer,
    Coder,
    ContextStore,
    Environment,
}

impl ActorKind {
    pub const ALL: [Self; 6] = [
        Self::Rollout,
        Self::Orchestrator,
        Self::Explorer,
        Self::Coder,
        Self::ContextStore,
        Self::Environment,
    ];

    /// `None` for the parts of a node that live as long as it does.
    pub fn of(cell: &ActorCell) -> Option<Self> {
        let is = |answer: Option<bool>| answer == Some(true);
        let kinds = [
            (is(cell.is_message_type_of::<RolloutMessage>()), Self::Rollout),
            (
                is(cell.is_message_type_of::<MemberMessage<OrchestratorAction>>()),
                Self::Orchestrator,
            ),
            (is(cell.is_message_type_of::<MemberMessage<ExplorerAction>>()), Self::Explorer),
            (is(cell.is_message_type_of::<MemberMessage<CoderAction>>()), Self::Coder),
            (is(cell.is_message_type_of::<ContextMessage>()), Self::ContextStore),
            (is(cell.is_message_type_of::<EnvironmentMessage>()), Self::Environment),
        ];
        kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
    }
}

/// Every such actor below `root`, at any depth.
pub fn below(root: &ActorCell) -> Vec<(ActorKind, ActorCell)> {
    let mut found = Vec::new();
    let mut open = root.get_children();
    while let Some(cell) = open.pop() {
        open.extend(cell.get_children());
        found.extend(ActorKind::of(&cell).map(|kind| (kind, cell)));
    }
    found
}
