//! Training samples of what an orchestrator said, out of its trajectory.
//!
//! Token in, token out: a sample is the tokens of one conversation as they were sampled, and only
//! what the policy itself has sampled is trained. A turn whose prompt extends the turn before,
//! token by token, goes on in its sample; any other begins a new one, in which what was said before
//! is context only.
//!
//! A turn is a step of source `agent` with `extra.turn`. Of its keys, these are read: `message`,
//! `metrics.prompt_token_ids`, `completion_token_ids`, `logprobs`, `metrics.extra.versions` (the
//! policy version of each token), `extra.finish`, and `extra.prompt`, which says what was asked:
//!
//! ```text
//! {"kept": n, "added": [{"role": ..., "content": ...}, ...]}
//! messages asked = the first n of (messages asked before, the answer to them), then those added
//! ```
//!
//! Steps that are copied context, and everything that subagents said, are never trained.

use std::path::Path;

use orcapack_tasks::defect::{Defect, Defects};
use orcapack_tasks::trajectory::{Metrics, Source, Step, Trajectory};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::text::chat::ChatMessage;
use crate::text::conversation::Renderer;

/// The tokens of one conversation, and which of them are trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub ids: Vec<u32>,
    /// Their indices ascend.
    pub trained: Vec<TrainedToken>,
    /// Tokens of answers that are not trained: nobody knows what sampled them, or how likely it
    /// found them.
    pub unproven: usize,
}

/// A token in the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainedToken {
    /// In the sample's ids; at least 1, as the first token follows none.
    pub index: u32,
    /// Natural logarithm; NaN where nobody sampled it.
    pub sampler_logprob: f32,
    /// Of the policy that sampled it; 0 where nobody did.
    pub version: u64,
}

/// Where the tokens of an answer come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The policy has sampled them. An answer without its ids, log-probabilities and versions is
    /// context only.
    Sampled,
    /// A teacher has written the text, and the policy is to learn it: its tokens are the
    /// renderer's.
    Taught,
}

/// The samples of the trajectory's own turns, in order; `file` is its name.
///
/// # Errors
/// Every value that does not fit, with its step: lengths, ids beyond the vocabulary,
/// log-probabilities that are none, a taught answer without what was asked.
pub fn from_trajectory(
    file: &Path,
    trajectory: &Trajectory,
    renderer: &Renderer,
    origin: Origin,
) -> Result<Vec<Sample>, Defects> {
    let mut samples = Vec::new();
    let mut said = Vec::new();
    let mut defects = Vec::new();
    for (index, step) in trajectory.steps.iter().enumerate() {
        if step.source != Source::Agent || step.is_copied_context || extra(step, "turn").is_none() {
            continue;
        }
        let place = Place { file, index };
        let turn = match origin {
            Origin::Sampled => sampled(&place, step, renderer),
            Origin::Taught => taught(&place, step, renderer, &mut said, samples.last()),
        };
        match turn {
            Ok(turn) => turn.into_iter().for_each(|turn| turn.go_on(&mut samples)),
            Err(mut found) => {
                defects.append(&mut found);
                if origin == Origin::Taught {
                    // What follows is told by what came before.
                    break;
                }
            }
        }
    }
    Defects(defects).into_result(samples)
}

/// One call: what was asked, what was said, and what of it is trained.
struct Turn {
    prompt: Vec<u32>,
    completion: Vec<u32>,
    proof: Proof,
}

enum Proof {
    /// Of each token, what its sampler said, and which it was.
    Sampled(Vec<(f32, u64)>),
    Taught,
    None,
}

impl Turn {
    /// Onto the last sample where its tokens are what this prompt begins with, else into a new one.
    fn go_on(self, samples: &mut Vec<Sample>) {
        let Self { prompt, completion, proof } = self;
        let mut sample = match samples.pop() {
            Some(last) if prompt.starts_with(&last.ids) => last,
            other => {
                samples.extend(other);
                Sample::default()
            }
        };
        let indices = (prompt.len() as u32..).take(completion.len());
        sample.ids = prompt;
        sample.ids.extend_from_slice(&completion);
        match proof {
            Proof::Sampled(tokens) => sample.trained.extend(indices.zip(tokens).map(
                |(index, (sampler_logprob, version))| TrainedToken {
                    index,
                    sampler_logprob,
                    version,
                },
            )),
            Proof::Taught => sample.trained.extend(indices.map(|index| TrainedToken {
                index,
                sampler_logprob: f32::NAN,
                version: 0,
            })),
            Proof::None => sample.unproven += completion.len(),
        }
        samples.push(sample);
    }
}

/// `None` where the tokens are not told, so that they are not even context.
fn sampled(place: &Place, step: &Step, renderer: &Renderer) -> Result<Option<Turn>, Vec<Defect>> {
    let metrics = step.metrics.as_ref();
    let prompt = metrics.and_then(|it| it.prompt_token_ids.as_ref()).filter(|ids| !ids.is_empty());
    let completion = metrics.and_then(|it| it.completion_token_ids.as_ref());
    let (Some(metrics), Some(prompt), Some(completion)) = (metrics, prompt, completion) else {
        return Ok(None);
    };
    let mut defects = Vec::new();
    let vocab_size = renderer.tokenizer().vocab_size();
    for (key, ids) in [("prompt_token_ids", prompt), ("completion_token_ids", completion)] {
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
            let expected = format!("ids below {vocab_size}, the model's vocab_size");
            defects.push(place.defect(&format!("metrics.{key}"), expected, id.to_string()));
        }
    }
    let logprobs = read_logprobs(place, metrics, completion.len());
    let versions = read_versions(place, metrics, completion.len());
    let proof = match (logprobs, versions) {
        (Ok(Some(logprobs)), Ok(Some(versions))) => {
            Proof::Sampled(logprobs.into_iter().zip(versions).collect())
        }
        (logprobs, versions) => {
            defects.extend(logprobs.err().into_iter().chain(versions.err()));
            Proof::None
        }
    };
    let turn = Turn { prompt: prompt.clone(), completion: completion.clone(), proof };
    Defects(defects).into_result(Some(turn)).map_err(|defects| defects.0)
}

/// Sums of rounded numbers may lie a little above 0.
const LOGPROB_MAX: f64 = 1e-3;

fn read_logprobs(
    place: &Place,
    metrics: &Metrics,
    tokens: usize,
) -> Result<Option<Vec<f32>>, Defect> {
    let Some(logprobs) = &metrics.logprobs else { return Ok(None) };
    let key = "metrics.logprobs";
    if logprobs.len() != tokens {
        let expected = format!("{tokens}, one for each completion token");
        return Err(place.defect(key, expected, logprobs.len().to_string()));
    }
    match logprobs.iter().find(|logprob| !logprob.is_finite() || **logprob > LOGPROB_MAX) {
        Some(bad) => Err(place.defect(key, "finite numbers not above 0", bad.to_string())),
        None => Ok(Some(logprobs.iter().map(|logprob| logprob.min(0.0) as f32).collect())),
    }
}

fn read_versions(
    place: &Place,
    metrics: &Metrics,
    tokens: usize,
) -> Result<Option<Vec<u64>>, Defect> {
    let versions = metrics.extra.as_ref().and_then(|extra| extra.get("versions"));
    let Some(versions) = versions else { return Ok(None) };
    let key = "metrics.extra.versions";
    let versions = Vec::<u64>::deserialize(versions)
        .map_err(|error| place.defect(key, "a list of versions", error.to_string()))?;
    if versions.len() != tokens {
        let expected = format!("{tokens}, one for each completion token");
        return Err(place.defect(key, expected, versions.len().to_string()));
    }
    Ok(Some(versions))
}

/// `extra.prompt` of a turn.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    kept: usize,
    added: Vec<ChatMessage>,
}

/// `said` is the conversation so far, with its last answer, whose tokens are `last`'s.
fn taught(
    place: &Place,
    step: &Step,
    renderer: &Renderer,
    said: &mut Vec<ChatMessage>,
    last: Option<&Sample>,
) -> Result<Option<Turn>, Vec<Defect>> {
    let key = "extra.prompt";
    let asked = extra(step, "prompt")
        .ok_or_else(|| vec![place.defect(key, "what was asked, in messages", "none")])?;
    let Asked { kept, added } = Asked::deserialize(asked)
        .map_err(|error| vec![place.defect(key, "`kept` and `added`", error.to_string())])?;
    if kept > said.len() {
        let expected = format!("at most {}, the messages so far", said.len());
        return Err(vec![place.defect("extra.prompt.kept", expected, kept.to_string())]);
    }
    let goes_on = kept == said.len() && added.iter().all(|message| !message.is_answer());
    said.truncate(kept);
    said.extend_from_slice(&added);
    let prompt = match last.filter(|_| goes_on && kept > 0) {
        Some(last) => {
            let mut ids = last.ids.clone();
            renderer.extend(&mut ids, &added).map(|()| ids)
        }
        None => renderer.prompt(said),
    };
    let prompt = prompt.map_err(|defect| {
        vec![place.defect(key, "a conversation that can be rendered", defect.to_string())]
    })?;
    said.push(ChatMessage::answer(step.message.as_str()));
    let mut completion = renderer.answer(&step.message);
    let proof = match extra(step, "finish").and_then(Json::as_str) {
        Some("stop") => Proof::Taught,
        Some("length") => {
            // It was cut: nobody has said that it ends here.
            completion.pop();
            Proof::Taught
        }
        Some("refused") => Proof::None,
        other => {
            let found = other.unwrap_or("none").to_owned();
            return Err(vec![place.defect("extra.finish", FINISHES, found)]);
        }
    };
    Ok(Some(Turn { prompt, completion, proof }))
}

const FINISHES: &str = "`stop`, `length` or `refused`";

fn extra<'s>(step: &'s Step, key: &str) -> Option<&'s Json> {
    step.extra.as_ref().and_then(|extra| extra.get(key))
}

/// Of a step.
struct Place<'f> {
    file: &'f Path,
    index: usize,
}

impl Place<'_> {
    fn defect(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) -> Defect {
        Defect::new(self.file, expected, found).at_key(format!("steps[{}].{key}", self.index))
    }
}

#[cfg(test)]
#[path = "from_trajectory_tests.rs"]
mod tests;
