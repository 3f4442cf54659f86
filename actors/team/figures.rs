//! A team in figures: what each agent used, read off the record of turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::team::record::{AgentEnd, AgentFigures, AgentId, Entry, Event};

/// One row for every agent that began, by its number.
///
/// Time with the model is from each question to its answer, whatever lay between, or to the end of
/// who asked. Time for actions leaves out those that launched others: the time of those is theirs.
/// An agent without an end was cancelled, at the time of the last entry.
pub fn agents(record: &[Arc<Entry>]) -> Vec<AgentFigures> {
    let mut agents: BTreeMap<AgentId, (AgentFigures, Option<Duration>)> = BTreeMap::new();
    for entry in record {
        let Entry { at, agent, event } = &**entry;
        if let Event::Began(brief) = event {
            let figures = AgentFigures {
                agent: *agent,
                // Nobody else has an action that launches.
                parent: (*agent != AgentId::ORCHESTRATOR).then_some(AgentId::ORCHESTRATOR),
                role: brief.role,
                task: brief.task.clone(),
                title: brief.title.clone(),
                model: String::new(),
                turns: 0,
                takeovers: 0,
                usage: Default::default(),
                cost_usd: None,
                model_time: Duration::ZERO,
                action_time: Duration::ZERO,
                began: *at,
                ended: record.last().map_or(*at, |last| last.at),
                end: AgentEnd::Cancelled,
            };
            agents.entry(*agent).or_insert((figures, None));
        } else if let Some((figures, asked)) = agents.get_mut(agent) {
            add(figures, asked, *at, event);
        }
    }
    let last = record.last().map_or(Duration::ZERO, |entry| entry.at);
    let close = |(mut figures, asked): (AgentFigures, Option<Duration>)| {
        wait_until(&mut figures, asked, last);
        figures
    };
    agents.into_values().map(close).collect()
}

/// How long the team did nothing but wait for answers of models. What overlapped counts once, and
/// while somebody acted on the environment nobody waited.
pub fn waiting(record: &[Arc<Entry>]) -> Duration {
    let mut asked: BTreeMap<AgentId, Duration> = BTreeMap::new();
    let (mut waited, mut acted) = (Vec::new(), Vec::new());
    for entry in record {
        let Entry { at, agent, event } = &**entry;
        match event {
            Event::Asked { .. } => drop(asked.insert(*agent, *at)),
            Event::Answered { .. } | Event::Overflowed { .. } | Event::Ended(_) => {
                waited.extend(asked.remove(agent).map(|since| (since, *at)));
            }
            // An orchestrator acts through others.
            Event::Acted { took, .. } if *agent != AgentId::ORCHESTRATOR => {
                acted.push((at.saturating_sub(*took), *at));
            }
            _ => {}
        }
    }
    let end = record.last().map_or(Duration::ZERO, |last| last.at);
    waited.extend(asked.into_values().map(|since| (since, end)));
    waited.extend(&acted);
    covered(waited).saturating_sub(covered(acted))
}

/// How long at least one of the spans lasted.
fn covered(mut spans: Vec<(Duration, Duration)>) -> Duration {
    spans.sort();
    let (mut sum, mut end) = (Duration::ZERO, Duration::ZERO);
    for (from, to) in spans {
        sum += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    sum
}

/// `asked` is when the question was put that has no answer yet.
fn add(figures: &mut AgentFigures, asked: &mut Option<Duration>, at: Duration, event: &Event) {
    match event {
        Event::Began(_) => {}
        Event::Asked { .. } => *asked = Some(at),
        Event::Answered { turn, answer, call } => {
            wait_until(figures, asked.take(), at);
            figures.turns = figures.turns.max(*turn);
            figures.usage += answer.usage;
            if let Some(cost) = call.cost_usd {
                *figures.cost_usd.get_or_insert(0.0) += cost;
            }
            if !answer.model.is_empty() {
                figures.model.clone_from(&answer.model);
            }
        }
        Event::Acted { observation, took, .. } => {
            if observation.subagents.is_empty() {
                figures.action_time += *took;
            }
        }
        Event::Overflowed { turn } => {
            wait_until(figures, asked.take(), at);
            figures.turns = figures.turns.max(*turn);
        }
        // Its calls and actions go on meanwhile.
        Event::TakenOver => figures.takeovers += 1,
        Event::TaskCreated(_) | Event::Stored(_) => {}
        Event::Ended(end) => {
            wait_until(figures, asked.take(), at);
            figures.ended = at;
            figures.end = end.clone();
        }
    }
}

fn wait_until(figures: &mut AgentFigures, asked: Option<Duration>, at: Duration) {
    figures.model_time += asked.map_or(Duration::ZERO, |asked| at.saturating_sub(asked));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usage;
    use crate::team::record::ForcedBy;
    use crate::team::role::Role;
    use crate::team::sample::{Recorder, pair, seen};

    fn seconds(figures: &AgentFigures) -> [f64; 4] {
        let AgentFigures { began, ended, model_time, action_time, .. } = figures;
        [began, ended, model_time, action_time].map(|time| time.as_secs_f64())
    }

    #[test]
    fn each_agent_has_its_own_turns_tokens_cost_and_time() {
        let [orchestrator, explorer, coder] = agents(&pair().record).try_into().unwrap();
        let usage = Usage { prompt_tokens: 3000, completion_tokens: 200, cached_tokens: 900 };
        assert_eq!((orchestrator.turns, orchestrator.usage), (2, usage));
        assert_eq!(orchestrator.cost_usd, Some(0.75));
        assert_eq!(orchestrator.model, "qwen3");
        assert_eq!(seconds(&orchestrator), [0.0, 10.0, 3.0, 0.0], "waiting for others is theirs");

        assert_eq!((explorer.role, explorer.parent), (Role::Explorer, Some(AgentId::ORCHESTRATOR)));
        assert_eq!((explorer.task.as_str(), explorer.title.as_str()), ("task_1", "Look around"));
        assert_eq!((explorer.turns, explorer.takeovers, explorer.cost_usd), (2, 1, None));
        assert_eq!(seconds(&explorer), [2.0, 5.0, 2.5, 0.5]);

        let message = "Written.".to_owned();
        assert_eq!(coder.end, AgentEnd::Forced { by: ForcedBy::TurnsUsedUp, message });
        assert_eq!(seconds(&coder), [2.0, 9.0, 6.0, 1.0]);
    }

    #[test]
    fn who_was_stopped_in_the_middle_was_cancelled_then() {
        let mut recorder = Recorder::default();
        recorder.began(0, Role::Orchestrator, "", "").asked(0, 1, None);
        recorder.at(1.0).answered(0, 1, "x", None).began(1, Role::Coder, "t", "c");
        recorder.asked(1, 1, None).at(4.0).acted(0, 1, 0, 3.0, seen("no more time"));
        let [orchestrator, coder] = agents(&recorder.record).try_into().unwrap();
        assert_eq!(
            (orchestrator.end, coder.end.clone()),
            (AgentEnd::Cancelled, AgentEnd::Cancelled)
        );
        assert_eq!(seconds(&coder), [1.0, 4.0, 3.0, 0.0]);
        assert_eq!(coder.turns, 0);
    }

    #[test]
    fn waiting_for_models_is_neither_acting_nor_looking_around_nor_counted_twice() {
        let mut recorder = Recorder::default();
        // The first look took 2 s; 3 s of the orchestrator's, then a launch with looks of 1 s.
        recorder.at(2.0).began(0, Role::Orchestrator, "", "").asked(0, 1, None);
        recorder.at(5.0).answered(0, 1, "x", None);
        recorder.at(6.0).began(1, Role::Coder, "", "").asked(1, 1, None);
        recorder.began(2, Role::Coder, "", "").asked(2, 1, None);
        // 2 s of both, then 4 s in which one acts and the other one waits at first.
        recorder.at(8.0).answered(1, 1, "x", None).at(9.0).answered(2, 1, "x", None);
        recorder.at(12.0).acted(1, 1, 0, 4.0, seen("")).at(13.0).acted(2, 1, 0, 2.0, seen(""));
        // 1 s until the end of the team's time.
        recorder.asked(1, 2, None).at(14.0).acted(0, 1, 0, 9.0, seen(""));
        assert_eq!(waiting(&recorder.record), Duration::from_secs(3 + 2 + 1));
    }

    #[test]
    fn a_record_of_nothing_has_nobody() {
        assert_eq!(agents(&[]), []);
    }
}
