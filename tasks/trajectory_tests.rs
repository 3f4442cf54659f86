use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";

fn file() -> &'static Path {
    Path::new("t.json")
}

fn agent(name: &str) -> Agent {
    Agent {
        name: name.to_owned(),
        version: "1".to_owned(),
        model_name: Some("m".to_owned()),
        tool_definitions: None,
        extra: None,
    }
}

fn metrics(prompt: u64, completion: u64) -> Metrics {
    Metrics {
        prompt_tokens: Some(prompt),
        completion_tokens: Some(completion),
        cost_usd: Some(0.5),
        completion_token_ids: Some(vec![7, 8]),
        logprobs: Some(vec![-0.1, -2.5]),
        ..Metrics::default()
    }
}

/// A call that hands work to a subagent, and its record.
fn delegation() -> Trajectory {
    let mut subagent = Trajectory::new("s", "coder-1", agent("coder"));
    subagent.append(Step::new(Source::User, NOW, "do it"));
    let mut whole = Trajectory::new("s", "root", agent("orchestrator"));
    whole.append(Step::new(Source::System, NOW, "you delegate"));
    let step = whole.append(Step::new(Source::Agent, NOW, "<task_create>"));
    step.tool_calls.push(ToolCall {
        tool_call_id: "c1".to_owned(),
        function_name: "task_create".to_owned(),
        arguments: Map::from_iter([("title".to_owned(), json!("x"))]),
        extra: None,
    });
    step.observation = Some(Observation {
        results: vec![ObservationResult {
            source_call_id: Some("c1".to_owned()),
            content: Some("done".to_owned()),
            subagent_trajectory_ref: vec![SubagentRef {
                trajectory_id: Some("coder-1".to_owned()),
                ..SubagentRef::default()
            }],
            extra: None,
        }],
    });
    step.metrics = Some(metrics(10, 2));
    whole.subagent_trajectories.push(subagent);
    whole
}

fn refused(trajectory: &Trajectory) -> Vec<String> {
    let defects = trajectory.to_json(file()).expect_err("must not be written");
    defects.0.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_written_is_read_back() {
    let mut whole = delegation();
    whole.total();
    let bytes = whole.to_json(file()).unwrap();
    assert_eq!(Trajectory::from_json(file(), &bytes).unwrap(), whole);
}

#[test]
fn absent_values_are_left_out_of_the_file() {
    let mut plain = Trajectory::new("s", "t", agent("nop"));
    plain.append(Step::new(Source::User, NOW, "hello"));
    let written: Value = serde_json::from_slice(&plain.to_json(file()).unwrap()).unwrap();
    let want = json!({
        "schema_version": "ATIF-v1.8",
        "session_id": "s",
        "trajectory_id": "t",
        "agent": {"name": "nop", "version": "1", "model_name": "m"},
        "steps": [{"step_id": 1, "timestamp": NOW, "source": "user", "message": "hello"}],
    });
    assert_eq!(written, want);
}

#[test]
fn totals_are_of_the_own_steps_that_were_not_copied() {
    let mut whole = delegation();
    let mut copied = Step::new(Source::Agent, NOW, "from elsewhere");
    copied.is_copied_context = true;
    copied.metrics = Some(metrics(1000, 1000));
    whole.append(copied);
    whole.append(Step::new(Source::Agent, NOW, "")).metrics = Some(metrics(5, 1));
    whole.total();
    let want = FinalMetrics {
        total_prompt_tokens: Some(15),
        total_completion_tokens: Some(3),
        total_cached_tokens: None,
        total_cost_usd: Some(1.0),
        total_steps: Some(4),
        extra: None,
    };
    assert_eq!(whole.final_metrics, Some(want));
}

#[test]
fn every_broken_rule_is_named_at_once() {
    let mut broken = delegation();
    broken.schema_version = "ATIF-v1.7".to_owned();
    broken.steps[0].metrics = Some(metrics(1, 2));
    broken.steps[1].step_id = 3;
    let call = broken.steps[1].tool_calls[0].clone();
    broken.steps[1].tool_calls.push(call);
    let result = &mut broken.steps[1].observation.as_mut().unwrap().results[0];
    result.source_call_id = Some("c2".to_owned());
    result.subagent_trajectory_ref.push(SubagentRef::default());
    result.subagent_trajectory_ref[0].trajectory_id = Some("coder-2".to_owned());
    let metrics = broken.steps[1].metrics.as_mut().unwrap();
    metrics.cost_usd = Some(f64::NAN);
    metrics.logprobs = Some(vec![f64::NEG_INFINITY]);
    broken.subagent_trajectories[0].steps.clear();
    broken.subagent_trajectories.push(broken.subagent_trajectories[0].clone());
    let subagent = "an id in subagent_trajectories, or a path";
    let result = "steps[1].observation.results[0]";
    let want = [
        "schema_version: expected ATIF-v1.8, found ATIF-v1.7".to_owned(),
        "subagent_trajectories[1].trajectory_id: expected an id of its own, found `coder-1` again"
            .to_owned(),
        "steps[0].metrics: expected a step of source agent, found one of source system".to_owned(),
        "steps[1].step_id: expected 2, found 3".to_owned(),
        "steps[1].tool_calls[1].tool_call_id: expected an id of its own, found `c1` again"
            .to_owned(),
        format!("{result}.source_call_id: expected a tool call of the same step, found `c2`"),
        format!("{result}.subagent_trajectory_ref: expected {subagent}, found `coder-2`"),
        format!("{result}.subagent_trajectory_ref: expected {subagent}, found neither id nor path"),
        "steps[1].metrics.cost_usd: expected a finite number, found NaN".to_owned(),
        "steps[1].metrics.logprobs: expected a finite number, found -inf".to_owned(),
        "steps[1].metrics.logprobs: expected 2, one for each completion token, found 1".to_owned(),
        "subagent_trajectories[0].steps: expected one step or more, found none".to_owned(),
        "subagent_trajectories[1].steps: expected one step or more, found none".to_owned(),
    ];
    assert_eq!(refused(&broken), want.map(|defect| format!("t.json: {defect}")));
}

#[test]
fn unknown_keys_are_refused_with_their_line_and_extra_is_open() {
    let text = r#"{"schema_version": "ATIF-v1.8", "agent": {"name": "a", "version": "1"},
"steps": [{"step_id": 1, "source": "user", "message": "", "extra": {"any": [1]},
"colour": 1}]}"#;
    let defects = Trajectory::from_json(file(), text.as_bytes()).unwrap_err().to_string();
    assert!(defects.starts_with("t.json:3: ") && defects.contains("`colour`"), "{defects}");
    let text = text.replace(",\n\"colour\": 1", "");
    let read = Trajectory::from_json(file(), text.as_bytes()).unwrap();
    assert_eq!(read.steps[0].extra.as_ref().unwrap()["any"], json!([1]));
}

proptest! {
    #[test]
    fn numbers_survive_the_file_to_the_last_bit(
        logprobs in prop::collection::vec(-1e300..0.0_f64, 0..8),
        cost in any::<f64>(),
        text in any::<String>(),
    ) {
        let mut whole = delegation();
        let step = whole.append(Step::new(Source::Agent, NOW, text));
        let ids = logprobs.iter().map(|_| 3).collect();
        step.metrics = Some(Metrics {
            logprobs: Some(logprobs),
            completion_token_ids: Some(ids),
            cost_usd: Some(cost),
            ..Metrics::default()
        });
        let bytes = whole.to_json(file()).expect("finite numbers can be written");
        prop_assert_eq!(Trajectory::from_json(file(), &bytes), Ok(whole));
    }
}
