//! What agents are told once and for all. Nothing in these texts varies, so that a prefix cache
//! serves all rollouts; what varies comes behind them.

use std::sync::{Arc, LazyLock};

use crate::team::role::Role;

static ORCHESTRATOR: LazyLock<Arc<str>> =
    LazyLock::new(|| include_str!("prompts/orchestrator.md").into());
static EXPLORER: LazyLock<Arc<str>> = LazyLock::new(|| include_str!("prompts/explorer.md").into());
static CODER: LazyLock<Arc<str>> = LazyLock::new(|| include_str!("prompts/coder.md").into());

/// An agent's system message. All agents of a role share one text.
pub fn system(role: Role) -> Arc<str> {
    match role {
        Role::Orchestrator => ORCHESTRATOR.clone(),
        Role::Explorer => EXPLORER.clone(),
        Role::Coder => CODER.clone(),
    }
}

/// The last message to an agent that has to end now.
pub fn forced(role: Role) -> &'static str {
    match role {
        Role::Orchestrator => include_str!("prompts/forced_finish.md"),
        Role::Explorer | Role::Coder => include_str!("prompts/forced_report.md"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Finish;
    use crate::team::action::{MAX_TURNS_DEFAULT, MAX_TURNS_MAX, PARALLEL_MAX};
    use crate::team::read_action;
    use crate::team::schema::tags_of;
    use crate::team::settings::TeamSettings;

    /// Tags that stand alone on a line.
    fn examples(text: &str) -> Vec<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix('<'));
        lines.filter_map(|line| line.strip_suffix('>')).filter(|l| !l.starts_with('/')).collect()
    }

    #[test]
    fn every_example_is_read_and_every_action_has_one() {
        for role in Role::ALL {
            let text = &*system(role);
            let (count, complaint) = match role {
                Role::Orchestrator => {
                    let reading = read_action::orchestrator(text, Finish::Stop);
                    (reading.actions.len(), reading.complaint())
                }
                Role::Explorer => {
                    let reading = read_action::explorer(text, Finish::Stop);
                    (reading.actions.len(), reading.complaint())
                }
                Role::Coder => {
                    let reading = read_action::coder(text, Finish::Stop);
                    (reading.actions.len(), reading.complaint())
                }
            };
            assert_eq!(complaint, None, "{role}");
            let examples = examples(text);
            assert_eq!(count, examples.len(), "{role}");
            let shown: BTreeSet<&str> = examples.into_iter().collect();
            assert_eq!(shown, tags_of(role).iter().copied().collect(), "{role}");
        }
    }

    #[test]
    fn every_limit_that_is_told_is_the_one_that_holds() {
        let holds = |role: Role, words: String| {
            assert!(system(role).contains(&words), "{role} is not told {words:?}");
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
            let chars = system(role).chars().count();
            assert!(chars / 4 <= tokens_max, "{role}: {chars} characters");
        }
        assert!(Role::ALL.iter().all(|role| forced(*role).len() < 400));
    }
}
