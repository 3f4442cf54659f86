//! How a model's answer stands in a trajectory, and how it is read back, bit for bit.
//!
//! Trajectories are ATIF ([`orcapack_tasks::trajectory`]). The orchestrator's is the root of its
//! file, `trajectories/ROLLOUT.ATTEMPT.json` of a run, with the id `ROLLOUT.ATTEMPT`. Each
//! subagent's is in the root's `subagent_trajectories`, with the id `ROLLOUT.ATTEMPT/STEP/AGENT`:
//! the step of the task, from 0, and the agent's number in it, from 1. Each answer is a step of
//! source `agent`:
//!
//! | ATIF | answer |
//! |---|---|
//! | `message` | `text`, verbatim |
//! | `reasoning_content` | `reasoning` |
//! | `model_name` | `model`; absent where it is empty |
//! | `metrics.prompt_tokens`, `completion_tokens`, `cached_tokens` | `usage`, zeros too |
//! | `metrics.cost_usd` | of the call; not read back |
//! | `metrics.completion_token_ids` | `tokens.completion_ids`; present exactly where `tokens` is |
//! | `metrics.prompt_token_ids`, `logprobs` | the same of `tokens`; absent where they are empty |
//! | `metrics.extra.versions` | `tokens.versions`; absent where they are empty |
//! | `extra.finish` | `finish`: `stop`, `length` or `refused` |
//! | `extra.prompt` | what was asked, as said below; not read back |
//! | `extra.step`, `extra.turn` | where it stands: the task's step, from 0, the turn, from 1 |
//!
//! `extra.prompt` is what [`sent`](crate::team::sent) says: of the messages that were asked with
//! the agent's answer before, and that answer behind them, the first `kept`; behind those the
//! messages that were `added`, each with `role` and `content`. The first answer of a task's step
//! keeps none.
//!
//! A step of source `agent` without `extra.turn`, or one that is copied context, is no answer of a
//! model. Everything else in a step (tool calls, observation, other keys in `extra`) is free.

use std::path::Path;

use orcapack_tasks::defect::Defect;
use orcapack_tasks::trajectory::{Extra, Metrics, Source, Step};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::model::{Answer, TokenTrace, Usage};

/// Where an answer stands in its agent's trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Of the task, 0 for the first.
    pub step: u32,
    /// Of the agent in that step, 1 for the first.
    pub turn: u32,
}

/// The id of the orchestrator's trajectory.
pub fn root_id(rollout: u32, attempt: u32) -> String {
    format!("{rollout}.{attempt}")
}

/// The id of a subagent's trajectory.
pub fn subagent_id(rollout: u32, attempt: u32, step: u32, agent: u32) -> String {
    format!("{rollout}.{attempt}/{step}/{agent}")
}

/// Step and agent out of the id of a subagent below the root `root`.
pub fn parse_subagent_id(root: &str, id: &str) -> Option<(u32, u32)> {
    let (step, agent) = id.strip_prefix(root)?.strip_prefix('/')?.split_once('/')?;
    Some((step.parse().ok()?, agent.parse().ok()?))
}

/// The step that holds an answer. The writer adds what came of it.
pub fn to_step(
    answer: &Answer,
    place: Place,
    cost_usd: Option<f64>,
    timestamp: impl Into<String>,
) -> Step {
    let Answer { text, reasoning, finish, usage, model, tokens } = answer;
    let mut metrics = Metrics {
        prompt_tokens: Some(usage.prompt_tokens),
        completion_tokens: Some(usage.completion_tokens),
        cached_tokens: Some(usage.cached_tokens),
        cost_usd,
        ..Metrics::default()
    };
    if let Some(TokenTrace { prompt_ids, completion_ids, logprobs, versions }) = tokens {
        metrics.prompt_token_ids = present(prompt_ids);
        metrics.completion_token_ids = Some(completion_ids.clone());
        metrics.logprobs = present(logprobs);
        metrics.extra = present(versions)
            .map(|versions| Extra::from_iter([("versions".to_owned(), json!(versions))]));
    }
    let extra =
        [("finish", json!(finish)), ("step", json!(place.step)), ("turn", json!(place.turn))];
    Step {
        model_name: Some(model.clone()).filter(|model| !model.is_empty()),
        reasoning_content: reasoning.clone(),
        metrics: Some(metrics),
        extra: Some(extra.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..Step::new(Source::Agent, timestamp, text)
    }
}

/// The answer that a step holds; `None` where it holds none.
///
/// # Errors
/// The key in the step that is missing or of another type; `file` is only its name.
pub fn from_step(step: &Step, file: &Path) -> Result<Option<(Place, Answer)>, Defect> {
    let Some(extra) = step.extra.as_ref().filter(|extra| extra.contains_key("turn")) else {
        return Ok(None);
    };
    if step.source != Source::Agent || step.is_copied_context {
        return Ok(None);
    }
    let defect = |key: &str, expected: &str, found: String| {
        let key = format!("steps[{}].{key}", step.step_id.saturating_sub(1));
        Defect::new(file, expected, found).at_key(key)
    };
    let of_extra = |key: &str, expected: &str| {
        let name = format!("extra.{key}");
        extra.get(key).ok_or_else(|| defect(&name, expected, "none".to_owned()))
    };
    let number = |key: &str| {
        let value = of_extra(key, "a number")?;
        read(value).ok_or_else(|| defect(&format!("extra.{key}"), "a number", value.to_string()))
    };
    let place = Place { step: number("step")?, turn: number("turn")? };
    let finish = of_extra("finish", FINISHES)?;
    let finish =
        read(finish).ok_or_else(|| defect("extra.finish", FINISHES, finish.to_string()))?;
    let metrics = step.metrics.clone().unwrap_or_default();
    let tokens = match metrics.completion_token_ids {
        None => None,
        Some(completion_ids) => {
            let versions = metrics.extra.as_ref().and_then(|extra| extra.get("versions"));
            let versions = versions.map_or(Some(Vec::new()), read).ok_or_else(|| {
                let found = "something else".to_owned();
                defect("metrics.extra.versions", "a list of numbers", found)
            })?;
            let (prompt_ids, logprobs) = (metrics.prompt_token_ids, metrics.logprobs);
            Some(TokenTrace {
                prompt_ids: prompt_ids.unwrap_or_default(),
                completion_ids,
                logprobs: logprobs.unwrap_or_default(),
                versions,
            })
        }
    };
    let answer = Answer {
        text: step.message.clone(),
        reasoning: step.reasoning_content.clone(),
        finish,
        usage: Usage {
            prompt_tokens: metrics.prompt_tokens.unwrap_or(0),
            completion_tokens: metrics.completion_tokens.unwrap_or(0),
            cached_tokens: metrics.cached_tokens.unwrap_or(0),
        },
        model: step.model_name.clone().unwrap_or_default(),
        tokens,
    };
    Ok(Some((place, answer)))
}

const FINISHES: &str = "`stop`, `length` or `refused`";

fn present<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

#[cfg(test)]
mod tests {
    use orcapack_tasks::trajectory::{Agent, Trajectory};
    use proptest::prelude::*;

    use super::*;
    use crate::model::Finish;

    fn tokens() -> impl Strategy<Value = TokenTrace> {
        let logprob = prop_oneof![-50.0..=0.0_f64, Just(-0.0), Just(f64::MIN_POSITIVE)];
        let completion = prop::collection::vec((any::<u32>(), logprob, any::<u64>()), 0..5);
        let with = (any::<bool>(), any::<bool>());
        (prop::collection::vec(any::<u32>(), 0..5), completion, with).prop_map(
            |(prompt_ids, completion, (with_logprobs, with_versions))| TokenTrace {
                prompt_ids,
                completion_ids: completion.iter().map(|(id, ..)| *id).collect(),
                logprobs: completion.iter().map(|(_, p, _)| *p).filter(|_| with_logprobs).collect(),
                versions: completion.iter().map(|(.., v)| *v).filter(|_| with_versions).collect(),
            },
        )
    }

    pub(crate) fn answers() -> impl Strategy<Value = Answer> {
        let finish = prop::sample::select(vec![Finish::Stop, Finish::Length, Finish::Refused]);
        let usage = (any::<u64>(), any::<u64>(), any::<u64>());
        let words = (any::<String>(), prop::option::of(any::<String>()), "[a-z0-9.-]{0,8}");
        (words, finish, usage, prop::option::of(tokens())).prop_map(
            |((text, reasoning, model), finish, usage, tokens)| Answer {
                text,
                reasoning,
                finish,
                usage: Usage {
                    prompt_tokens: usage.0,
                    completion_tokens: usage.1,
                    cached_tokens: usage.2,
                },
                model,
                tokens,
            },
        )
    }

    /// A root with this one step, written and read.
    fn through_a_file(step: Step) -> Trajectory {
        let agent = Agent {
            name: "team".to_owned(),
            version: "1".to_owned(),
            model_name: None,
            tool_definitions: None,
            extra: None,
        };
        let mut trajectory = Trajectory::new("run", &root_id(1, 1), agent);
        trajectory.append(step);
        let file = Path::new("1.1.json");
        Trajectory::from_json(file, &trajectory.to_json(file).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn an_answer_comes_back_from_a_file_bit_for_bit(
            answer in answers(),
            step in any::<u32>(),
            turn in any::<u32>(),
            cost in prop::option::of(0.0..1e6),
        ) {
            let place = Place { step, turn };
            let read = through_a_file(to_step(&answer, place, cost, "2026-01-02T03:04:05Z"));
            let back = from_step(&read.steps[0], Path::new("1.1.json")).unwrap();
            if let (Some(before), Some(after)) =
                (&answer.tokens, back.as_ref().and_then(|(_, answer)| answer.tokens.as_ref()))
            {
                let bits = |logprobs: &[f64]| -> Vec<u64> {
                    logprobs.iter().map(|logprob| logprob.to_bits()).collect()
                };
                prop_assert_eq!(bits(&before.logprobs), bits(&after.logprobs));
            }
            prop_assert_eq!(back, Some((place, answer)));
        }

        #[test]
        fn the_id_of_a_subagent_says_its_step_and_number(
            (rollout, attempt, step, agent) in any::<(u32, u32, u32, u32)>(),
        ) {
            let id = subagent_id(rollout, attempt, step, agent);
            let read = parse_subagent_id(&root_id(rollout, attempt), &id);
            prop_assert_eq!(read, Some((step, agent)));
            prop_assert_eq!(parse_subagent_id(&root_id(rollout, attempt ^ 1), &id), None);
        }
    }

    #[test]
    fn a_step_that_is_no_answer_is_passed_over_and_half_an_answer_is_refused() {
        let file = Path::new("1.1.json");
        let plain = Step::new(Source::Agent, "", "ran the solution");
        assert_eq!(from_step(&plain, file), Ok(None));
        let extra = |json: Value| json.as_object().cloned();
        let copied =
            Step { is_copied_context: true, extra: extra(json!({"turn": 1})), ..plain.clone() };
        assert_eq!(from_step(&copied, file), Ok(None));
        let half = Step { step_id: 3, extra: extra(json!({"turn": 1})), ..plain.clone() };
        let said = from_step(&half, file).unwrap_err().to_string();
        assert_eq!(said, "1.1.json: steps[2].extra.step: expected a number, found none");
        let other = extra(json!({"turn": 1, "step": 0, "finish": "halt"}));
        let said = from_step(&Step { step_id: 1, extra: other, ..plain }, file).unwrap_err();
        assert_eq!(said.key.as_deref(), Some("steps[0].extra.finish"));
        assert_eq!(said.found, "\"halt\"");
    }
}
