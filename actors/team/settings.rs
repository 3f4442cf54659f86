//! The bounds within which a team works.

use std::time::Duration;

/// How an orchestrator is shown what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One conversation that only grows: what caches and training want.
    #[default]
    Stateful,
    /// One message, made anew each turn: task, task tree, contexts, history, environment.
    Stateless,
}

/// How agents are spoken to; [`Prompts::style`](crate::team::prompts) says what that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prompts {
    /// All that a capable model can use.
    #[default]
    Standard,
    /// A few lines and no clock: for policies with a small context.
    Compact,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TeamSettings {
    pub mode: Mode,
    pub prompts: Prompts,
    pub orchestrator_turns_max: u32,
    /// Of one answer.
    pub orchestrator_answer_tokens_max: u32,
    pub subagent_answer_tokens_max: u32,
    /// Prompt and completion tokens of all agents of a rollout's step together.
    pub tokens_max: u64,
    /// Of one subagent.
    pub subagent_tokens_max: u64,
    /// Of one action.
    pub observation_chars_max: usize,
    /// Of all files and folders that a subagent is shown when it begins.
    pub bootstrap_chars_max: usize,
    /// With less time left than this no subagent is launched, and agents are told to end.
    pub time_reserve: Duration,
    /// An agent that dies more often than this within `restart_window` has failed.
    pub restarts_max: u32,
    pub restart_window: Duration,
}

impl Mode {
    pub const NAMES: [(&str, Self); 2] =
        [("stateful", Self::Stateful), ("stateless", Self::Stateless)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stateful => "stateful",
            Self::Stateless => "stateless",
        }
    }
}

impl Prompts {
    pub const NAMES: [(&str, Self); 2] = [("standard", Self::Standard), ("compact", Self::Compact)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Compact => "compact",
        }
    }
}

impl Default for TeamSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Stateful,
            prompts: Prompts::Standard,
            orchestrator_turns_max: 50,
            orchestrator_answer_tokens_max: 4096,
            subagent_answer_tokens_max: 4096,
            tokens_max: 5_000_000,
            subagent_tokens_max: 1_000_000,
            observation_chars_max: 12_000,
            bootstrap_chars_max: 24_000,
            time_reserve: Duration::from_secs(30),
            restarts_max: 5,
            restart_window: Duration::from_secs(60),
        }
    }
}
