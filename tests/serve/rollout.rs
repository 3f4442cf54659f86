//! An embedded policy plays a team over fake sandboxes.

use orcapack::config_policy::BOUNDS;
use orcapack::embedded::Engines;
use orcapack::work::RunEnd;
use orcapack_actors::agent::Solver;
use orcapack_actors::fake::FakeDriver;
use orcapack_actors::model::connect::connect;
use orcapack_actors::model::settings::{
    EndpointKind, EndpointSettings, EngineBounds, PolicySettings,
};
use orcapack_actors::sandbox::Swept;
use orcapack_tasks::Outcome;
use orcapack_tasks::trajectory::{Source, Trajectory};

use crate::client::settings;
use crate::policy;
use crate::support::Scenario;

fn embedded(dir: &std::path::Path) -> EndpointSettings {
    let bounds =
        EngineBounds { slots: 4, context_tokens_max: Some(16_384), threads: Some(1), ..BOUNDS };
    let policy = PolicySettings {
        checkpoint: dir.to_owned(),
        bounds,
        chat_template_kwargs: Default::default(),
    };
    let settings = settings(EndpointKind::Embedded, String::new());
    EndpointSettings { policy: Some(policy), ..settings }
}

#[tokio::test]
async fn rollouts_of_an_embedded_policy_end_graded_with_their_tokens() {
    let (dir, policy, records) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    policy::write(policy.path(), 5);
    let model = connect(&embedded(policy.path()), &Engines::default()).unwrap();
    let run = Scenario {
        agent: Solver::Team,
        models: Some([model.clone(), model.clone(), model]),
        records: Some(records.path()),
        ..Scenario::new(dir.path(), 2, 1, 2)
    };
    let ended = run.to_end(&FakeDriver::default()).await;
    assert_eq!((ended.end, ended.swept), (RunEnd::Complete, Swept::default()));
    assert_eq!(ended.attempts.len(), 2, "nothing had to be run again");
    for row in &ended.results {
        // A policy of random weights solves nothing; that it is graded is what counts.
        assert!(
            matches!(row.outcome, Outcome::Graded { .. } | Outcome::AgentFailure { .. }),
            "{:?}",
            row.outcome
        );
    }
    for rollout in 0..2 {
        let file = records.path().join(format!("trajectories/{rollout}.1.json"));
        let trajectory = Trajectory::from_json(&file, &std::fs::read(&file).unwrap()).unwrap();
        assert!(proven(&trajectory) > 1, "one turn extends nothing");
    }
}

/// Looks at the tokens of every turn of an agent; how many there were.
fn proven(trajectory: &Trajectory) -> usize {
    let mut whole: Vec<u32> = Vec::new();
    let mut turns = 0;
    for step in trajectory.steps.iter().filter(|step| step.source == Source::Agent) {
        let Some(metrics) = &step.metrics else { continue };
        let prompt = metrics.prompt_token_ids.clone().expect("a prompt's ids");
        let completion = metrics.completion_token_ids.clone().expect("an answer's ids");
        assert_eq!(metrics.logprobs.as_ref().map(Vec::len), Some(completion.len()));
        let versions = metrics.extra.as_ref().and_then(|extra| extra.get("versions"));
        assert_eq!(versions, Some(&serde_json::json!(vec![0; completion.len()])));
        assert!(prompt.starts_with(&whole), "turn {turns} does not extend the one before");
        whole = [prompt, completion].concat();
        turns += 1;
    }
    turns
}

#[tokio::test]
async fn models_of_one_directory_share_its_engine() {
    let dir = tempfile::tempdir().unwrap();
    policy::write(dir.path(), 5);
    let engines = Engines::default();
    let settings = embedded(dir.path());
    let one = connect(&settings, &engines).unwrap();
    let two = connect(&settings, &engines).unwrap();
    assert_eq!(engines.in_use(), 1);
    drop((one, two));
    assert_eq!(engines.in_use(), 0);
}

#[tokio::test]
async fn a_directory_that_is_no_policy_is_told_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    policy::write(dir.path(), 5);
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let refused = connect(&embedded(dir.path()), &Engines::default());
    let error = refused.err().expect("refused").to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}
