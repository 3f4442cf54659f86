//! What a team used, by agent and by role.

use bincode::{Decode, Encode};
use orcapack_actors::team::record::AgentFigures;
use orcapack_actors::team::role::Role;
use serde::{Deserialize, Serialize};

/// Of a title or a name; models write them.
const TITLE_CHARS_MAX: usize = 200;
/// Of what an agent said at its end; the trajectory has all of it.
const MESSAGE_CHARS_MAX: usize = 1000;

/// One agent of an attempt: a row of the ledger.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct AgentSummary {
    /// Of the rollout, 1 for the first.
    pub attempt: u64,
    /// Of the task, 0 for the first.
    pub step: u64,
    /// 0 is the orchestrator; the others are numbered as they were launched.
    pub agent: u64,
    pub parent: Option<u64>,
    pub role: Role,
    /// The task of the team that it worked on; empty for the orchestrator.
    pub task: String,
    pub title: String,
    pub model: String,
    pub spent: Spent,
    /// How often a new actor went on in its place.
    pub takeovers: u64,
    /// Seconds since the step's start.
    pub began_sec: f64,
    pub ended_sec: f64,
    /// `finished`, `forced`, `synthetic`, `refused`, `failed` or `cancelled`.
    pub ended: String,
    /// What it said at its end, cut.
    pub message: String,
}

/// Of one agent, or a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode, Serialize, Deserialize)]
pub struct Spent {
    pub turns: u64,
    /// Those read from a cache included.
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// Of the calls to models that have a price; `None` where there were none.
    pub cost_usd: Option<f64>,
    /// Waiting for models.
    pub model_sec: f64,
    /// Acting, without the time of those who were launched.
    pub action_sec: f64,
}

/// All agents of one role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleSummary {
    pub role: Role,
    pub agents: u64,
    pub takeovers: u64,
    pub spent: Spent,
}

impl AgentSummary {
    pub fn of(attempt: u32, step: usize, figures: &AgentFigures) -> Self {
        Self {
            attempt: attempt.into(),
            step: step as u64,
            agent: figures.agent.0.into(),
            parent: figures.parent.map(|parent| parent.0.into()),
            role: figures.role,
            task: cut(&figures.task, TITLE_CHARS_MAX),
            title: cut(&figures.title, TITLE_CHARS_MAX),
            model: cut(&figures.model, TITLE_CHARS_MAX),
            spent: Spent {
                turns: figures.turns.into(),
                prompt_tokens: figures.usage.prompt_tokens,
                cached_tokens: figures.usage.cached_tokens,
                completion_tokens: figures.usage.completion_tokens,
                cost_usd: figures.cost_usd.filter(|cost| cost.is_finite()),
                model_sec: figures.model_time.as_secs_f64(),
                action_sec: figures.action_time.as_secs_f64(),
            },
            takeovers: figures.takeovers.into(),
            began_sec: figures.began.as_secs_f64(),
            ended_sec: figures.ended.as_secs_f64(),
            ended: figures.end.as_str().to_owned(),
            message: cut(figures.end.message(), MESSAGE_CHARS_MAX),
        }
    }
}

impl Spent {
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| sum.plus(one))
    }

    pub fn plus(&self, other: &Self) -> Self {
        let costs = [self.cost_usd, other.cost_usd];
        let priced = costs.iter().any(Option::is_some);
        Self {
            turns: self.turns.saturating_add(other.turns),
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
            cost_usd: priced.then(|| costs.iter().flatten().sum()),
            model_sec: self.model_sec + other.model_sec,
            action_sec: self.action_sec + other.action_sec,
        }
    }
}

impl RoleSummary {
    /// A row for each role that somebody played.
    pub fn over<'a>(agents: impl Iterator<Item = &'a AgentSummary>) -> Vec<Self> {
        let empty = |role| Self { role, agents: 0, takeovers: 0, spent: Spent::default() };
        let mut roles = Role::ALL.map(empty);
        for agent in agents {
            for role in roles.iter_mut().filter(|role| role.role == agent.role) {
                role.agents += 1;
                role.takeovers += agent.takeovers;
                role.spent = role.spent.plus(&agent.spent);
            }
        }
        roles.into_iter().filter(|role| role.agents > 0).collect()
    }
}

pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use orcapack_actors::team::figures;
    use orcapack_actors::team::sample::pair;

    use super::*;

    /// The agents of an attempt that a pair of subagents worked on.
    pub(crate) fn agents(attempt: u32) -> Vec<AgentSummary> {
        let figures = figures::agents(&pair().record);
        figures.iter().map(|agent| AgentSummary::of(attempt, 0, agent)).collect()
    }

    #[test]
    fn roles_are_the_sums_of_their_agents() {
        let all = [agents(1), agents(2)].concat();
        let roles = RoleSummary::over(all.iter());
        let names: Vec<_> = roles.iter().map(|role| (role.role.as_str(), role.agents)).collect();
        assert_eq!(names, [("orchestrator", 2), ("explorer", 2), ("coder", 2)]);
        assert_eq!((roles[0].spent.turns, roles[0].spent.tokens()), (4, 6400));
        assert_eq!((roles[0].spent.cost_usd, roles[1].spent.cost_usd), (Some(1.5), None));
        assert_eq!((roles[1].takeovers, roles[1].spent.model_sec), (2, 5.0));
        let spent = Spent::sum(all.iter().map(|agent| &agent.spent));
        assert_eq!(Spent::sum(roles.iter().map(|role| &role.spent)), spent);
        assert_eq!(RoleSummary::over([].iter()), []);
    }

    #[test]
    fn what_models_write_is_cut_at_a_whole_character() {
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
