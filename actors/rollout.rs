//! The rollout's actor: runs one attempt, and is the parent of its team.
//!
//! The attempt is a task beside the mailbox, so that the actor can hear its team. For each step of
//! a task that a team solves it has a [`Stage`], which owns the record of turns. Killing the actor
//! drops the attempt where it stands, and with it the environment; the team ends with it.

use std::sync::Arc;

use orcapack_tasks::outcome::FailureClass;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::alarm::Alarm;
use crate::attempt::{self, Assignment, AttemptReport, Context};
use crate::environment::Workbench;
use crate::model::scripts::Scripts;
use crate::rollout_supervisor::SupervisorMessage;
use crate::sandbox::{Limits, SandboxError};
use crate::team::protocol::Assigned;
use crate::team::stage::{Rollout, Stage, StageMessage, Work, Worked};

pub(crate) enum RolloutMessage {
    Run(Box<Assignment>),
    /// The attempt has come to its end.
    Ended(Box<AttemptReport>),
    /// The attempt wants a step to be solved.
    Solve(Box<Work>),
    /// For the stage of this number.
    Stage(u32, Box<StageMessage>),
    /// The attempt's task ended without a report: a defect of ours.
    Lost,
}

pub(crate) struct RolloutActor;

pub(crate) struct RolloutState {
    context: Arc<Context>,
    supervisor: ActorRef<SupervisorMessage>,
    attempt: JoinSet<()>,
    stage: Option<Stage>,
    /// Stages so far. What comes late for one is not taken for its successor's.
    stages: u32,
}

impl Actor for RolloutActor {
    type Msg = RolloutMessage;
    type State = RolloutState;
    type Arguments = (Arc<Context>, ActorRef<SupervisorMessage>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (context, supervisor): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(RolloutState { context, supervisor, attempt: JoinSet::new(), stage: None, stages: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RolloutMessage::Run(assignment) => {
                let context = state.context.clone();
                let team = Team(myself.clone());
                let lost = myself.clone();
                let alarm = Alarm::new(move || drop(lost.cast(RolloutMessage::Lost)));
                state.attempt.spawn(async move {
                    let report = attempt::run(&context, *assignment, &team).await;
                    alarm.disarm();
                    // Fails only when the actor has ended, and then its supervisor reports.
                    let _ = team.0.cast(RolloutMessage::Ended(Box::new(report)));
                });
            }
            RolloutMessage::Ended(report) => {
                let from = myself.get_id();
                state.supervisor.cast(SupervisorMessage::Reported { from, report })?;
                myself.stop(None);
            }
            RolloutMessage::Solve(work) => {
                let Some(context) = state.context.team.clone() else { return Ok(()) };
                state.stages += 1;
                let rollout = rollout(&myself, state.stages);
                state.stage = Some(Stage::begin(context, *work, rollout, myself.get_cell()).await);
            }
            RolloutMessage::Stage(of, message) => {
                if let Some(stage) = state.stage.as_mut().filter(|_| of == state.stages) {
                    stage.handle(*message).await;
                }
            }
            RolloutMessage::Lost => return Err("the attempt's task panicked".into()),
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
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell.get_id(), reason.unwrap_or_default())
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            _ => return Ok(()),
        };
        if let Some(stage) = &mut state.stage {
            stage.died(id, reason).await;
        }
        Ok(())
    }
}

fn rollout(myself: &ActorRef<RolloutMessage>, stage: u32) -> Rollout {
    let myself = myself.clone();
    Arc::new(move |message| myself.cast(RolloutMessage::Stage(stage, Box::new(message))).is_ok())
}

/// How an attempt asks for a step to be solved by its team.
pub(crate) struct Team(ActorRef<RolloutMessage>);

impl Team {
    /// Resolves at the step's time limit at the latest, or when the environment is lost.
    ///
    /// # Errors
    /// With the actor's death, or where the node has no models.
    pub(crate) async fn solve(
        &self,
        assigned: Assigned,
        workbench: Workbench,
        user: Option<String>,
        limits: Limits,
        scripts: Option<Arc<Scripts>>,
    ) -> Result<Worked, SandboxError> {
        let (reply, worked) = oneshot::channel();
        let work = Work { assigned, workbench, user, limits, scripts, reply };
        let _ = self.0.cast(RolloutMessage::Solve(Box::new(work)));
        let gone = |_| SandboxError::new(FailureClass::Internal, "the node has no team of models");
        worked.await.map_err(gone)
    }
}
