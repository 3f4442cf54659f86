//! The supervisor of the [rollouts](crate::rollout).
//!
//! It forwards each rollout's report, and when a rollout's actor dies without one, makes the report
//! itself: every attempt that was started is reported exactly once, whatever happens (AC-2).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use orcapack_tasks::outcome::{FailureClass, Outcome};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, DerivedActorRef, SupervisionEvent,
};
use tokio::time::Instant;

use crate::attempt::{Assignment, AttemptReport, Context};
use crate::phase::PhaseTimes;
use crate::rollout::{RolloutActor, RolloutMessage};

pub enum SupervisorMessage {
    Start(Box<Assignment>),
    Reported {
        from: ActorId,
        report: Box<AttemptReport>,
    },
    /// Ends the attempt with this fence now; it is reported as an infrastructure failure of class
    /// `node_lost`. One that has been reported is left alone.
    Kill {
        fence: u64,
    },
}

/// The rollout supervisor's address.
#[derive(Clone, Debug)]
pub struct Rollouts(ActorRef<SupervisorMessage>);

impl Rollouts {
    /// Starts a supervisor under `parent`; every report goes to `reports`.
    ///
    /// # Errors
    /// When the actor system refuses.
    pub async fn spawn(
        context: Arc<Context>,
        reports: DerivedActorRef<Box<AttemptReport>>,
        parent: ActorCell,
    ) -> Result<Self, ractor::SpawnErr> {
        let (actor, _) =
            Actor::spawn_linked(None, RolloutSupervisor, (context, reports), parent).await?;
        Ok(Self(actor))
    }

    pub fn start(&self, assignment: Assignment) {
        // Fails only when the supervisor has ended, which ends the node.
        let _ = self.0.cast(SupervisorMessage::Start(Box::new(assignment)));
    }

    pub fn kill(&self, fence: u64) {
        let _ = self.0.cast(SupervisorMessage::Kill { fence });
    }

    pub fn cell(&self) -> ActorCell {
        self.0.get_cell()
    }
}

struct RolloutSupervisor;

struct SupervisorState {
    context: Arc<Context>,
    reports: DerivedActorRef<Box<AttemptReport>>,
    /// Attempts that have been started and not reported.
    running: HashMap<ActorId, Running>,
    by_fence: HashMap<u64, ActorId>,
}

struct Running {
    assignment: Assignment,
    actor: ActorCell,
    started: SystemTime,
    began: Instant,
    killed: bool,
}

impl SupervisorState {
    fn remove(&mut self, actor: ActorId) -> Option<Running> {
        let running = self.running.remove(&actor)?;
        self.by_fence.remove(&running.assignment.fence);
        Some(running)
    }
}

impl Actor for RolloutSupervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = (Arc<Context>, DerivedActorRef<Box<AttemptReport>>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (context, reports): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let (running, by_fence) = (HashMap::new(), HashMap::new());
        Ok(SupervisorState { context, reports, running, by_fence })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Start(assignment) => {
                let arguments = (state.context.clone(), myself.clone());
                let (actor, _) =
                    Actor::spawn_linked(None, RolloutActor, arguments, myself.get_cell()).await?;
                let running = Running {
                    assignment: *assignment.clone(),
                    actor: actor.get_cell(),
                    started: SystemTime::now(),
                    began: Instant::now(),
                    killed: false,
                };
                state.by_fence.insert(assignment.fence, actor.get_id());
                state.running.insert(actor.get_id(), running);
                actor.cast(RolloutMessage::Run(assignment))?;
            }
            SupervisorMessage::Reported { from, report } => {
                if state.remove(from).is_some() {
                    state.reports.cast(report)?;
                }
            }
            SupervisorMessage::Kill { fence } => {
                let actor = state.by_fence.get(&fence);
                if let Some(running) = actor.and_then(|actor| state.running.get_mut(actor)) {
                    running.killed = true;
                    running.actor.kill();
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (id, reason) = match event {
            // Only a clean end has no reason. It comes after the report was sent; but supervision
            // events overtake messages, so the report may still be in the mailbox.
            SupervisionEvent::ActorTerminated(_, _, None) => return Ok(()),
            SupervisionEvent::ActorTerminated(cell, _, Some(reason)) => (cell.get_id(), reason),
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            _ => return Ok(()),
        };
        if let Some(running) = state.remove(id) {
            let killed = running.killed;
            let class = if killed { FailureClass::NodeLost } else { FailureClass::Internal };
            let report = died(running, class, &reason);
            state.reports.cast(Box::new(report))?;
        }
        Ok(())
    }
}

/// The report of an attempt whose actor died: its time is counted, to no phase's account.
fn died(running: Running, class: FailureClass, reason: &str) -> AttemptReport {
    let Running { assignment, started, began, .. } = running;
    let message = format!("the rollout's actor ended before its attempt did: {reason}");
    AttemptReport {
        assignment,
        outcome: Outcome::InfrastructureFailure { class, message },
        note: None,
        phases: PhaseTimes::default(),
        started,
        wall: began.elapsed(),
        steps: Vec::new(),
        unfinished: None,
    }
}

#[cfg(test)]
#[path = "rollout_supervisor_tests.rs"]
mod tests;
