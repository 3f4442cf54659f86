//! How a rollout can end (AC-2): graded, failed by the agent, or failed by the infrastructure.

use std::fmt;

use bincode::{Decode, Encode};

/// The terminal record of an attempt. Exactly one of these per attempt, and one final one per
/// rollout.
#[derive(Clone, Debug, PartialEq, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The verifier ran and gave a reward, 0 to 1 for the built-in grading rules.
    Graded { reward: f64 },
    /// The agent gave up, ran out of its budget, or refused. Graded all the same.
    AgentFailure { failure: AgentFailure, reward: f64 },
    /// Not the agent's doing: never a reward, retried within its class's limit, left out of
    /// advantages.
    InfrastructureFailure { class: FailureClass, message: String },
}

impl Outcome {
    /// The reward, or `None` after an infrastructure failure, which has none: not even 0.
    pub fn reward(&self) -> Option<f64> {
        match self {
            Self::Graded { reward } | Self::AgentFailure { reward, .. } => Some(*reward),
            Self::InfrastructureFailure { .. } => None,
        }
    }
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AgentFailure {
    /// The task's agent time limit ran out.
    TimedOut,
    /// Its turns were used up, or its model made nothing of them, without a finish.
    NoFinish,
    /// Its tokens were used up.
    TokensUsedUp,
    /// Its model refused by its protocol.
    Refused,
}

impl AgentFailure {
    pub const ALL: [Self; 4] = [Self::TimedOut, Self::NoFinish, Self::TokensUsedUp, Self::Refused];

    /// The name in ledgers and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::NoFinish => "no_finish",
            Self::TokensUsedUp => "tokens_used_up",
            Self::Refused => "refused",
        }
    }
}

/// Where an infrastructure failure arose. Each class has its own retry limit.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The image cannot be built, found or pulled.
    Image,
    /// The container engine is down, unreachable, or answers with an error of its own.
    Daemon,
    /// The environment was not ready in time (start, health check).
    StartTimeout,
    /// The kernel killed the environment, or its verifier, for memory.
    Oom,
    /// The environment was lost, or the connection to it broke, while it was in use.
    ExecTransport,
    /// The node that ran the attempt is gone, or was stopped in the middle of it.
    NodeLost,
    ModelEndpoint,
    /// The verifier could not run, or left no well-formed report.
    Grader,
    /// A defect of Orcapack.
    Internal,
}

impl FailureClass {
    pub const ALL: [Self; 9] = [
        Self::Image,
        Self::Daemon,
        Self::StartTimeout,
        Self::Oom,
        Self::ExecTransport,
        Self::NodeLost,
        Self::ModelEndpoint,
        Self::Grader,
        Self::Internal,
    ];

    /// The name in configs, ledgers and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Daemon => "daemon",
            Self::StartTimeout => "start_timeout",
            Self::Oom => "oom",
            Self::ExecTransport => "exec_transport",
            Self::NodeLost => "node_lost",
            Self::ModelEndpoint => "model_endpoint",
            Self::Grader => "grader",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
