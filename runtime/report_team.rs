//! The team of a rollout as the HTML report shows it: its agents, and when each was at work.

use serde::Serialize;

use crate::report::Row;
use crate::summary_team::{AgentSummary, Spent, cut};

/// Agents of one tree.
const AGENTS_MAX: usize = 60;
/// Of an agent's last words, beside its task; a pointer that rests on them shows more.
const SHOWN_CHARS_MAX: usize = 160;

/// The agents of a rollout's last attempt.
#[derive(Serialize)]
pub(crate) struct Tree<'a> {
    pub row: Row<'a>,
    /// Of the task, that a team worked on.
    steps: u64,
    spent: Spent,
    /// From the first agent's start to the last one's end, over the steps.
    seconds: f64,
    pub agents: Vec<Leaf<'a>>,
    pub agents_left_out: usize,
}

#[derive(Serialize)]
pub(crate) struct Leaf<'a> {
    agent: &'a AgentSummary,
    message: String,
    /// The class of how it ended; empty where it ended of its own will.
    mark: &'static str,
    /// When it worked, in percent of its step's time.
    pub left: f64,
    pub width: f64,
}

impl<'a> Tree<'a> {
    /// `None` where no team has left a record.
    pub fn of(row: Row<'a>) -> Option<Self> {
        let attempt = row.rollout.attempts;
        let agents = row.rollout.agents.iter().filter(|agent| agent.attempt == attempt);
        let agents: Vec<&AgentSummary> = agents.collect();
        let steps = agents.iter().map(|agent| agent.step + 1).max()?;
        let leaves = agents.iter().take(AGENTS_MAX);
        Some(Self {
            row,
            steps,
            spent: Spent::sum(agents.iter().map(|agent| &agent.spent)),
            seconds: (0..steps).map(|step| length(&agents, step)).sum(),
            agents: leaves.map(|agent| Leaf::of(agent, length(&agents, agent.step))).collect(),
            agents_left_out: agents.len().saturating_sub(AGENTS_MAX),
        })
    }
}

impl<'a> Leaf<'a> {
    fn of(agent: &'a AgentSummary, whole: f64) -> Self {
        let percent =
            |sec: f64| if whole > 0.0 { (100.0 * sec / whole).clamp(0.0, 100.0) } else { 0.0 };
        let left = percent(agent.began_sec);
        let mark = match agent.ended.as_str() {
            "finished" => "",
            "forced" | "synthetic" | "cancelled" => " odd",
            _ => " bad",
        };
        let width = (percent(agent.ended_sec) - left).max(0.0);
        Self { agent, message: cut(&agent.message, SHOWN_CHARS_MAX), mark, left, width }
    }
}

/// Seconds that a step took.
fn length(agents: &[&AgentSummary], step: u64) -> f64 {
    let own = agents.iter().filter(|agent| agent.step == step);
    own.map(|agent| agent.ended_sec).fold(0.0, f64::max)
}
