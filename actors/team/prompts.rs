//! What agents are told once and for all, and how much they are told beside it. Nothing in these
//! texts varies, so that a prefix cache serves all rollouts; what varies comes behind them.

use std::sync::{Arc, LazyLock};

use crate::team::role::Role;
use crate::team::settings::Prompts;

/// How agents are spoken to.
pub struct Style {
    /// Of orchestrator, explorer and coder. All agents of a role share one text.
    systems: [LazyLock<Arc<str>>; 3],
    /// To an orchestrator and to a subagent that have to end now.
    forced: [&'static str; 2],
    /// First messages have headings, a subagent's its task's title, and what the environment looks
    /// like.
    pub introduces: bool,
    /// Each turn tells what is left of turns, time and tokens; reports tell what they took.
    pub counts: bool,
    /// Of what came of one action, as an orchestrator and a subagent see it; `None`: of no less
    /// than there is.
    seen_chars_max: [Option<usize>; 2],
}

static STANDARD: Style = Style {
    systems: [
        LazyLock::new(|| include_str!("prompts/orchestrator.md").into()),
        LazyLock::new(|| include_str!("prompts/explorer.md").into()),
        LazyLock::new(|| include_str!("prompts/coder.md").into()),
    ],
    forced: [include_str!("prompts/forced_finish.md"), include_str!("prompts/forced_report.md")],
    introduces: true,
    counts: true,
    seen_chars_max: [None, None],
};

static COMPACT: Style = Style {
    systems: [
        LazyLock::new(|| include_str!("prompts/compact_orchestrator.md").into()),
        LazyLock::new(|| include_str!("prompts/compact_explorer.md").into()),
        LazyLock::new(|| include_str!("prompts/compact_coder.md").into()),
    ],
    forced: ["Answer with one `<finish>`.", "Answer with one `<report>`."],
    introduces: false,
    counts: false,
    seen_chars_max: [Some(400), Some(2000)],
};

impl Prompts {
    pub fn style(self) -> &'static Style {
        match self {
            Self::Standard => &STANDARD,
            Self::Compact => &COMPACT,
        }
    }
}

impl Style {
    /// An agent's system message.
    pub fn system(&self, role: Role) -> Arc<str> {
        let [orchestrator, explorer, coder] = &self.systems;
        let text = match role {
            Role::Orchestrator => orchestrator,
            Role::Explorer => explorer,
            Role::Coder => coder,
        };
        Arc::clone(text)
    }

    /// The last message to an agent that has to end now.
    pub fn forced(&self, role: Role) -> &'static str {
        of_role(self.forced, role)
    }

    pub fn seen_chars_max(&self, role: Role) -> Option<usize> {
        of_role(self.seen_chars_max, role)
    }
}

fn of_role<T>([orchestrator, subagent]: [T; 2], role: Role) -> T {
    match role {
        Role::Orchestrator => orchestrator,
        Role::Explorer | Role::Coder => subagent,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Finish;
    use crate::team::action::{
        CoderAction, ExplorerAction, MAX_TURNS_DEFAULT, MAX_TURNS_MAX, OrchestratorAction,
        PARALLEL_MAX,
    };
    use crate::team::agent::Acts;
    use crate::team::messages::ending;
    use crate::team::schema::tags_of;
    use crate::team::settings::TeamSettings;

    /// Tags that stand alone on a line.
    fn examples(text: &str) -> Vec<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix('<'));
        lines.filter_map(|line| line.strip_suffix('>')).filter(|l| !l.starts_with('/')).collect()
    }

    /// How many actions a text holds, and what is wrong with it.
    fn read(role: Role, text: &str) -> (usize, Option<String>) {
        fn of<A: Acts>(text: &str) -> (usize, Option<String>) {
            let reading = A::read(text, Finish::Stop);
            (reading.actions.len(), reading.complaint())
        }
        match role {
            Role::Orchestrator => of::<OrchestratorAction>(text),
            Role::Explorer => of::<ExplorerAction>(text),
            Role::Coder => of::<CoderAction>(text),
        }
    }

    #[test]
    fn every_example_is_read_and_every_action_has_one() {
        for role in Role::ALL {
            for (name, prompts) in Prompts::NAMES {
                let text = &*prompts.style().system(role);
                let examples = examples(text);
                assert_eq!(read(role, text), (examples.len(), None), "{name} {role}");
                let shown: BTreeSet<&str> = examples.into_iter().collect();
                let tags: BTreeSet<&str> = tags_of(role).iter().copied().collect();
                match prompts {
                    Prompts::Standard => assert_eq!(shown, tags, "{role}"),
                    Prompts::Compact => assert!(shown.contains(ending(role)), "{role}"),
                }
            }
        }
    }

    #[test]
    fn every_limit_that_is_told_is_the_one_that_holds() {
        let holds = |role: Role, words: String| {
            assert!(STANDARD.system(role).contains(&words), "{role} is not told {words:?}");
        };
        let turns = format!("1 to {MAX_TURNS_MAX}, {MAX_TURNS_DEFAULT} if you say nothing");
        holds(Role::Orchestrator, turns);
        holds(Role::Orchestrator, format!("up to {PARALLEL_MAX} side by side"));
        let shown = TeamSettings::default().observation_chars_max;
        for role in [Role::Explorer, Role::Coder] {
            let shown = format!("{},{:03} characters", shown / 1000, shown % 1000);
            holds(role, shown);
            let turns = format!(
                "{MAX_TURNS_DEFAULT} turns unless told otherwise, never above {MAX_TURNS_MAX}"
            );
            holds(role, turns);
        }
    }

    /// At about 4 characters to a token.
    #[test]
    fn prompts_are_short() {
        for (role, tokens_max) in
            [(Role::Orchestrator, 1500), (Role::Explorer, 1000), (Role::Coder, 1000)]
        {
            let chars = STANDARD.system(role).chars().count();
            assert!(chars / 4 <= tokens_max, "{role}: {chars} characters");
            let chars = COMPACT.system(role).chars().count();
            assert!(chars <= 400, "compact {role}: {chars} characters");
        }
        assert!(Role::ALL.iter().all(|role| STANDARD.forced(*role).len() < 400));
    }
}
