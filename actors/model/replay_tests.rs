use orcapack_tasks::trajectory::{Agent, Source, Step};
use serde_json::json;

use super::*;
use crate::model::recorded::{Place, subagent_id, to_step};
use crate::model::{Finish, Message, Speaker, TokenTrace, Usage};

fn answer(text: &str) -> Answer {
    Answer {
        text: text.to_owned(),
        reasoning: Some("hm".to_owned()),
        finish: Finish::Stop,
        usage: Usage { prompt_tokens: 9, completion_tokens: 2, cached_tokens: 0 },
        model: "m-1".to_owned(),
        tokens: Some(TokenTrace {
            prompt_ids: vec![1, 2],
            completion_ids: vec![3, 4],
            logprobs: vec![-0.1, -1.0 / 3.0],
            versions: vec![5, 6],
        }),
    }
}

fn trajectory(id: &str, answers: &[(u32, u32, &str)]) -> Trajectory {
    let agent = Agent {
        name: "team".to_owned(),
        version: "1".to_owned(),
        model_name: None,
        tool_definitions: None,
        extra: None,
    };
    let mut trajectory = Trajectory::new("run", id, agent);
    trajectory.append(Step::new(Source::User, "2026-01-02T03:04:05Z", "do it"));
    for (step, turn, text) in answers {
        let place = Place { step: *step, turn: *turn };
        trajectory.append(to_step(&answer(text), place, None, "2026-01-02T03:04:05Z"));
    }
    trajectory
}

fn write(run: &Path, name: &str, trajectory: &Trajectory) {
    let folder = run.join("trajectories");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), serde_json::to_vec(trajectory).unwrap()).unwrap();
}

fn ask(
    replay: &Replay,
    attempt: u32,
    step: u32,
    agent: u32,
    turn: u32,
) -> Result<Answer, ModelError> {
    let request = Request {
        key: CallKey { rollout: 7, attempt, step, agent, turn },
        messages: vec![Message::new(Speaker::User, "whatever")],
        max_tokens: 1,
        instruction: "".into(),
        policy_version: 0,
        scripts: None,
    };
    replay.call(&request).now_or_never().unwrap()
}

fn faults(run: &Path) -> String {
    let said = Replay::open(run).unwrap_err().to_string();
    said.replace(&format!("{}/", run.display()), "")
}

#[test]
fn the_last_attempt_answers_every_attempt_for_every_agent_of_every_step() {
    let run = tempfile::tempdir().unwrap();
    let lost = trajectory("7.1", &[(0, 1, "lost")]);
    let mut counted = trajectory("7.10", &[(0, 1, "root"), (0, 2, "root again"), (1, 1, "next")]);
    counted
        .subagent_trajectories
        .push(trajectory(&subagent_id(7, 10, 0, 2), &[(0, 1, "two"), (0, 2, "two again")]));
    write(run.path(), "7.1.json", &lost);
    write(run.path(), "7.10.json", &counted);
    fs::write(run.path().join("trajectories/.tmp"), "x").unwrap();
    let replay = Replay::open(run.path()).unwrap();
    let keys = [
        ((0, 0, 1), "root"),
        ((0, 0, 2), "root again"),
        ((1, 0, 1), "next"),
        ((0, 2, 1), "two"),
        ((0, 2, 2), "two again"),
    ];
    for ((step, agent, turn), text) in keys {
        for attempt in [1, 2, 10] {
            assert_eq!(ask(&replay, attempt, step, agent, turn), Ok(answer(text)));
        }
    }
    let error = ask(&replay, 1, 0, 1, 1).unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::NotRecorded);
    assert!(error.message.starts_with("7.1 step 0 agent 1 turn 1: no answer in "), "{error}");
    assert!(error.message.ends_with("trajectories/7.10.json"), "{error}");
}

#[test]
fn a_rollout_that_was_not_recorded_is_told() {
    let run = tempfile::tempdir().unwrap();
    write(run.path(), "8.1.json", &trajectory("8.1", &[(0, 1, "x")]));
    let error = ask(&Replay::open(run.path()).unwrap(), 1, 0, 0, 1).unwrap_err();
    let folder = run.path().join("trajectories");
    let expected = format!("7.1 step 0 agent 0 turn 1: no rollout 7 in {}", folder.display());
    assert_eq!(error.message, expected);
}

#[test]
fn a_run_that_is_none_is_refused_before_anything_starts() {
    let run = tempfile::tempdir().unwrap();
    let said = faults(run.path());
    assert!(
        said.starts_with("trajectories: expected the trajectories of a run, found No "),
        "{said}"
    );
    fs::create_dir(run.path().join("trajectories")).unwrap();
    let said = faults(run.path());
    assert!(said.ends_with("found no file ROLLOUT.ATTEMPT.json"), "{said}");
    write(run.path(), "7.1.json", &trajectory("7.1", &[]));
    let said = faults(run.path());
    assert_eq!(
        said,
        "trajectories: expected a run in which models answered, found none in 1 trajectories"
    );
}

#[test]
fn everything_that_is_wrong_in_a_run_is_told_at_once() {
    let run = tempfile::tempdir().unwrap();
    write(run.path(), "1.1.json", &trajectory("2.1", &[(0, 1, "x")]));
    let mut twice = trajectory("3.1", &[(0, 1, "x"), (0, 1, "y")]);
    twice.subagent_trajectories.push(trajectory("3.2/0/1", &[(0, 1, "x")]));
    twice.subagent_trajectories.push(trajectory("3.1/0/2", &[(1, 1, "x")]));
    write(run.path(), "3.1.json", &twice);
    let mut half = trajectory("4.1", &[(0, 1, "x")]);
    half.steps[1].extra = json!({"turn": 1, "step": -1}).as_object().cloned();
    write(run.path(), "4.1.json", &half);
    fs::write(run.path().join("trajectories/5.1.json"), "{").unwrap();
    let said = faults(run.path());
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "1.1.json: trajectory_id: expected `1.1`, as the file is named, found `2.1`",
        "3.1.json: 3.1: steps[2].extra: expected a turn of its own, found turn 1 again",
        "3.1.json: subagent_trajectories[0].trajectory_id: expected `3.1/STEP/AGENT`, \
         found `3.2/0/1`",
        "3.1.json: 3.1/0/2: steps[1].extra: expected step 0, as in the id, found step 1",
        "4.1.json: 4.1: steps[1].extra.step: expected a number, found -1",
    ]
    .map(|fault| format!("trajectories/{fault}"));
    assert_eq!(lines[..5], expected);
    assert!(lines[5].starts_with("trajectories/5.1.json:1: expected an ATIF 1.8"), "{said}");
}

#[test]
fn the_lines_of_authors_are_answered_by_task_author_and_turn() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.jsonl");
    let line = |task: u32, author: &str, turn: u32| {
        let event = json!({"kind": "answer", "author": author, "turn": turn, "text": author});
        json!({"task": task, "event": event}).to_string() + "\n"
    };
    let accepted = json!({"task": 7, "event": {"kind": "accepted"}}).to_string() + "\n";
    let lines = line(7, "idea", 1) + &line(7, "builder", 1) + &accepted + &line(7, "builder", 2);
    fs::write(&file, &lines).unwrap();
    let replay = Replay::open(&file).unwrap();
    for (agent, turn, text) in [(0, 1, "idea"), (1, 1, "builder"), (1, 2, "builder")] {
        assert_eq!(ask(&replay, 1, 0, agent, turn).unwrap().text, text);
    }
    let error = ask(&replay, 1, 0, 2, 1).expect_err("not recorded");
    assert_eq!(error.kind, ModelErrorKind::NotRecorded);

    fs::write(&file, format!("{lines}{}", line(7, "idea", 1))).unwrap();
    let error = Replay::open(&file).expect_err("twice");
    assert!(error.to_string().contains(":5: expected a turn of its own, found the idea's turn 1"));
    fs::write(&file, accepted).unwrap();
    assert!(Replay::open(&file).expect_err("empty").to_string().contains("found none"));
    fs::write(&file, "{}\n").unwrap();
    assert!(Replay::open(&file).is_err());
}
