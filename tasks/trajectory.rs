//! What an agent did, step by step, in ATIF 1.8 (agent trajectory interchange format, of the Harbor
//! project).
//!
//! Unknown keys are refused, and `extra` is open everywhere. Messages are text; the format's lists
//! of content parts (images) are refused. Order of calls for a writer: [`Trajectory::new`],
//! [`Trajectory::append`] for every step,
//! [`Trajectory::total`], [`Trajectory::to_json`]. Clocks belong to the caller: timestamps are
//! given.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::defect::{Defect, Defects};

/// The value of `schema_version`.
pub const SCHEMA_VERSION: &str = "ATIF-v1.8";

/// Keys that the format does not know, by name.
pub type Extra = Map<String, Value>;

/// One agent's whole record. Those of its subagents are inside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trajectory {
    pub schema_version: String,
    /// Shared by everything that belongs to one rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Unique in its document; what a subagent reference names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectory_id: Option<String>,
    pub agent: Agent,
    pub steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_metrics: Option<FinalMetrics>,
    /// The file that goes on where this one ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_trajectory_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subagent_trajectories: Vec<Trajectory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub name: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_definitions: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    System,
    User,
    Agent,
}

/// One message and what came of it. What only an agent can have is refused on the others' steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// 1, 2, ... in its trajectory.
    pub step_id: u64,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    pub source: Source,
    pub message: String,
    /// Where it is another than the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Copied from another trajectory for context: never trained on, never counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_copied_context: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_call_count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Unique in its step.
    pub tool_call_id: String,
    pub function_name: String,
    pub arguments: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    pub results: Vec<ObservationResult>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationResult {
    /// The tool call of the same step; `None` for what no call asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_call_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subagent_trajectory_ref: Vec<SubagentRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

/// A subagent's record: inside this trajectory by id, or in another file by path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubagentRef {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectory_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectory_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

/// Of one step's model calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_token_ids: Option<Vec<u32>>,
    /// Of the completion tokens, natural logarithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

/// Sums over the trajectory's own steps, without its subagents'.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalMetrics {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_prompt_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_completion_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cached_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
}

impl Trajectory {
    /// A record without steps.
    pub fn new(session_id: &str, trajectory_id: &str, agent: Agent) -> Self {
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            session_id: Some(session_id.to_owned()),
            trajectory_id: Some(trajectory_id.to_owned()),
            agent,
            steps: Vec::new(),
            notes: None,
            final_metrics: None,
            continued_trajectory_ref: None,
            subagent_trajectories: Vec::new(),
            extra: None,
        }
    }

    /// Adds a step, whatever its `step_id`, under the next one.
    pub fn append(&mut self, step: Step) -> &mut Step {
        let step_id = self.steps.len() as u64 + 1;
        self.steps.push(Step { step_id, ..step });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// Writes the sums over the steps into `final_metrics`. Copied steps do not count; a sum of
    /// nothing is absent.
    pub fn total(&mut self) {
        let metrics = || {
            let own = self.steps.iter().filter(|step| !step.is_copied_context);
            own.filter_map(|step| step.metrics.as_ref())
        };
        let tokens = |of: fn(&Metrics) -> Option<u64>| {
            metrics()
                .filter_map(of)
                .fold(None, |sum: Option<u64>, n| Some(sum.unwrap_or(0).saturating_add(n)))
        };
        let cost =
            metrics().filter_map(|m| m.cost_usd).fold(None, |sum, c| Some(sum.unwrap_or(0.0) + c));
        self.final_metrics = Some(FinalMetrics {
            total_prompt_tokens: tokens(|m| m.prompt_tokens),
            total_completion_tokens: tokens(|m| m.completion_tokens),
            total_cached_tokens: tokens(|m| m.cached_tokens),
            total_cost_usd: cost,
            total_steps: Some(self.steps.len() as u64),
            extra: None,
        });
    }

    /// Reads and validates; `file` is only its name in messages.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<Self, Defects> {
        let trajectory: Self = serde_json::from_slice(bytes).map_err(|error| {
            Defect::new(file, "an ATIF 1.8 trajectory", error.to_string()).at_line(error.line())
        })?;
        trajectory.validate(file)?;
        Ok(trajectory)
    }

    /// Validates and writes, indented.
    pub fn to_json(&self, file: &Path) -> Result<Vec<u8>, Defects> {
        self.validate(file)?;
        serde_json::to_vec_pretty(self)
            .map_err(|error| Defect::new(file, "a trajectory to write", error.to_string()).into())
    }

    /// What the types cannot say: numbering, references, finite numbers.
    pub fn validate(&self, file: &Path) -> Result<(), Defects> {
        let mut defects = Vec::new();
        self.collect(file, "", &mut defects);
        Defects(defects).into_result(())
    }

    fn collect(&self, file: &Path, at: &str, defects: &mut Vec<Defect>) {
        let mut refuse = |key: String, expected: String, found: String| {
            defects.push(Defect::new(file, expected, found).at_key(format!("{at}{key}")));
        };
        if self.schema_version != SCHEMA_VERSION {
            refuse("schema_version".into(), SCHEMA_VERSION.into(), self.schema_version.clone());
        }
        if self.steps.is_empty() {
            refuse("steps".into(), "one step or more".into(), "none".into());
        }
        let mut ids = BTreeSet::new();
        for (i, subagent) in self.subagent_trajectories.iter().enumerate() {
            let key = || format!("subagent_trajectories[{i}].trajectory_id");
            match subagent.trajectory_id.as_deref() {
                None => refuse(key(), "an id".into(), "none".into()),
                Some(id) if !ids.insert(id) => {
                    refuse(key(), "an id of its own".into(), format!("`{id}` again"));
                }
                Some(_) => {}
            }
        }
        for (i, step) in self.steps.iter().enumerate() {
            step.collect(i as u64 + 1, &ids, &mut |key, expected, found| {
                refuse(format!("steps[{i}].{key}"), expected, found);
            });
        }
        if let Some(cost) = self.final_metrics.as_ref().and_then(|metrics| metrics.total_cost_usd)
            && !cost.is_finite()
        {
            let key = "final_metrics.total_cost_usd".into();
            refuse(key, "a finite number".into(), cost.to_string());
        }
        for (i, subagent) in self.subagent_trajectories.iter().enumerate() {
            subagent.collect(file, &format!("{at}subagent_trajectories[{i}]."), defects);
        }
    }
}

impl Step {
    /// A step of text alone; its number comes when it is appended.
    pub fn new(source: Source, timestamp: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            step_id: 0,
            timestamp: Some(timestamp.into()),
            source,
            message: message.into(),
            model_name: None,
            reasoning_effort: None,
            reasoning_content: None,
            tool_calls: Vec::new(),
            observation: None,
            metrics: None,
            is_copied_context: false,
            llm_call_count: None,
            extra: None,
        }
    }

    /// `refuse` takes key, expected, found.
    fn collect(
        &self,
        number: u64,
        subagents: &BTreeSet<&str>,
        refuse: &mut dyn FnMut(String, String, String),
    ) {
        if self.step_id != number {
            refuse("step_id".into(), number.to_string(), self.step_id.to_string());
        }
        let agent_only = [
            ("model_name", self.model_name.is_some()),
            ("reasoning_effort", self.reasoning_effort.is_some()),
            ("reasoning_content", self.reasoning_content.is_some()),
            ("tool_calls", !self.tool_calls.is_empty()),
            ("metrics", self.metrics.is_some()),
        ];
        for (key, present) in agent_only {
            if present && self.source != Source::Agent {
                let found = format!("one of source {:?}", self.source).to_lowercase();
                refuse(key.into(), "a step of source agent".into(), found);
            }
        }
        let mut calls = BTreeSet::new();
        for (i, call) in self.tool_calls.iter().enumerate() {
            if !calls.insert(call.tool_call_id.as_str()) {
                let key = format!("tool_calls[{i}].tool_call_id");
                refuse(key, "an id of its own".into(), format!("`{}` again", call.tool_call_id));
            }
        }
        for (i, result) in self.observation.iter().flat_map(|o| &o.results).enumerate() {
            let key = |name: &str| format!("observation.results[{i}].{name}");
            if let Some(id) = result.source_call_id.as_deref().filter(|id| !calls.contains(id)) {
                let expected = "a tool call of the same step".into();
                refuse(key("source_call_id"), expected, format!("`{id}`"));
            }
            for reference in &result.subagent_trajectory_ref {
                let SubagentRef { trajectory_id: id, trajectory_path: path, .. } = reference;
                let found = match id {
                    Some(id) if path.is_none() && !subagents.contains(id.as_str()) => {
                        format!("`{id}`")
                    }
                    None if path.is_none() => "neither id nor path".into(),
                    _ => continue,
                };
                let expected = "an id in subagent_trajectories, or a path".into();
                refuse(key("subagent_trajectory_ref"), expected, found);
            }
        }
        if let Some(metrics) = &self.metrics {
            metrics.collect(refuse);
        }
    }
}

impl Metrics {
    fn collect(&self, refuse: &mut dyn FnMut(String, String, String)) {
        let finite = || "a finite number".to_owned();
        if let Some(cost) = self.cost_usd.filter(|cost| !cost.is_finite()) {
            refuse("metrics.cost_usd".into(), finite(), cost.to_string());
        }
        let Some(logprobs) = &self.logprobs else { return };
        if let Some(bad) = logprobs.iter().find(|logprob| !logprob.is_finite()) {
            refuse("metrics.logprobs".into(), finite(), bad.to_string());
        }
        if let Some(ids) = &self.completion_token_ids
            && ids.len() != logprobs.len()
        {
            let expected = format!("{}, one for each completion token", ids.len());
            refuse("metrics.logprobs".into(), expected, logprobs.len().to_string());
        }
    }
}

#[cfg(test)]
#[path = "trajectory_tests.rs"]
mod tests;
