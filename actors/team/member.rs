//! The actor of one agent: orchestrator, explorer or coder.
//!
//! It holds the agent's state machine, made from the agent's entries, asks the rollout for what the
//! agent wants, and applies what it is told has happened. It keeps nothing that the record does not
//! have, so its death costs nothing: a successor begins where it was.

use std::marker::PhantomData;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::team::action::{CoderAction, ExplorerAction, OrchestratorAction, SubagentAction};
use crate::team::agent::{Acts, Agent, Step};
use crate::team::protocol::Want;
use crate::team::record::{AgentId, Entry};
use crate::team::settings::TeamSettings;

/// A want on its way to the rollout, which answers it with what has happened. Dropped without an
/// answer, it ends the actor: the rollout has ended, or has given the agent another actor.
pub(crate) struct Wanted {
    pub agent: AgentId,
    pub life: u32,
    pub want: Box<Want>,
    pub reply: oneshot::Sender<Vec<Arc<Entry>>>,
}

/// What an agent's actor begins with.
pub(crate) struct MemberArguments {
    pub agent: AgentId,
    pub life: u32,
    pub settings: Arc<TeamSettings>,
    pub entries: Vec<Arc<Entry>>,
    pub started: Instant,
    pub rollout: Box<dyn Fn(Wanted) -> bool + Send + Sync>,
}

/// A type of its own for each role, by which its actors can be told apart.
pub struct MemberMessage<A>(PhantomData<A>);

pub(crate) struct Member<A>(PhantomData<A>);

impl<A> Default for Member<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Wants> Actor for Member<A> {
    type Msg = MemberMessage<A>;
    type State = MemberArguments;
    type Arguments = MemberArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: MemberArguments,
    ) -> Result<MemberArguments, ActorProcessingErr> {
        myself.cast(MemberMessage(PhantomData))?;
        Ok(arguments)
    }

    /// The one message is to begin. Killing the actor drops this where it stands.
    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        _begin: Self::Msg,
        state: &mut MemberArguments,
    ) -> Result<(), ActorProcessingErr> {
        let entries = state.entries.iter().map(|entry| &**entry);
        let mut agent = Agent::<A>::replay(state.agent, state.settings.clone(), entries);
        state.entries = Vec::new();
        while let Some(want) = want(agent.next(state.started.elapsed())) {
            let (reply, told) = oneshot::channel();
            let (agent_id, life) = (state.agent, state.life);
            let wanted = Wanted { agent: agent_id, life, want: Box::new(want), reply };
            let sent = (state.rollout)(wanted);
            let Some(entries) = (if sent { told.await.ok() } else { None }) else { break };
            entries.iter().for_each(|entry| agent.apply(entry));
        }
        myself.stop(None);
        Ok(())
    }
}

/// A role's actions, as the rollout is asked for them.
pub(crate) trait Wants: Acts {
    fn want(self, turn: u32, index: usize) -> Want;
}

impl Wants for OrchestratorAction {
    fn want(self, turn: u32, index: usize) -> Want {
        Want::Orchestrate { turn, index, action: self }
    }
}

impl Wants for ExplorerAction {
    fn want(self, turn: u32, index: usize) -> Want {
        match self {
            SubagentAction::Tool(tool) => Want::Tool { turn, index, tool },
            SubagentAction::Change(never) => match never {},
            SubagentAction::Report(report) => ending(turn, index, report),
        }
    }
}

impl Wants for CoderAction {
    fn want(self, turn: u32, index: usize) -> Want {
        match self {
            SubagentAction::Tool(tool) => Want::Tool { turn, index, tool },
            SubagentAction::Change(change) => Want::Change { turn, index, change },
            SubagentAction::Report(report) => ending(turn, index, report),
        }
    }
}

fn ending(turn: u32, index: usize, report: crate::team::action::Report) -> Want {
    let ending = crate::team::agent::Ending::Report(report);
    Want::End { turn, index, ending, forced: None }
}

pub(crate) fn want<A: Wants>(step: Step<A>) -> Option<Want> {
    Some(match step {
        Step::Nothing => return None,
        Step::Ask { turn, forced } => Want::Ask { turn, forced },
        Step::Call { turn, messages, max_tokens } => Want::Call { turn, messages, max_tokens },
        Step::Act { turn, index, action } => action.want(turn, index),
        Step::End { turn, index, ending, forced } => Want::End { turn, index, ending, forced },
        Step::GiveUp { by } => Want::GiveUp { by },
        Step::Refused { message } => Want::Refused { message },
    })
}
