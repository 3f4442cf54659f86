use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use orcapack_actors::model::recorded::from_step;
use orcapack_actors::team::record::AgentEnd;
use orcapack_actors::team::sample::{Recorder, pair, seen, tokens};

use super::*;

fn empty() -> Trajectory {
    let agent = Agent {
        name: "team".to_owned(),
        version: "1".to_owned(),
        model_name: None,
        tool_definitions: None,
        extra: None,
    };
    Trajectory::new("run", "3.1", agent)
}

fn place(step: u32) -> Place {
    Place { rollout: 3, attempt: 1, step, started: UNIX_EPOCH + Duration::from_secs(100) }
}

/// Written, validated and read back.
fn through_a_file(mut trajectory: Trajectory) -> Trajectory {
    trajectory.total();
    let file = Path::new("3.1.json");
    Trajectory::from_json(file, &trajectory.to_json(file).unwrap()).unwrap()
}

fn steps(runs: &[TeamRun]) -> Trajectory {
    let mut root = empty();
    for (step, run) in (0..).zip(runs) {
        append(&mut root, "Do it.", run, place(step));
    }
    through_a_file(root)
}

#[test]
fn the_orchestrator_is_the_root_and_its_launch_names_its_subagents() {
    let root = steps(&[pair()]);
    let sources: Vec<Source> = root.steps.iter().map(|step| step.source).collect();
    assert_eq!(sources, [Source::System, Source::User, Source::Agent, Source::Agent]);
    assert_eq!(root.agent.model_name.as_deref(), Some("qwen3"));
    let launch = &root.steps[2];
    assert!(launch.message.starts_with("<task_create>\nagent_type: explorer"));
    assert_eq!(launch.reasoning_content.as_deref(), Some("Let me see."));
    assert_eq!(launch.timestamp.as_deref(), Some("1970-01-01T00:01:42.000Z"));
    let calls: Vec<&str> = launch.tool_calls.iter().map(|it| it.function_name.as_str()).collect();
    assert_eq!(calls, ["task_create", "launch_parallel_subagents"]);
    let results = &launch.observation.as_ref().unwrap().results;
    assert_eq!(results[1].source_call_id.as_deref(), Some("call_3_1"));
    assert_eq!(results[1].content.as_deref(), Some("Both have reported."));
    let refs = results[1].subagent_trajectory_ref.iter();
    let refs: Vec<&str> = refs.filter_map(|it| it.trajectory_id.as_deref()).collect();
    assert_eq!(refs, ["3.1/0/1", "3.1/0/2"]);
    let subagents = root.subagent_trajectories.iter();
    let ids: Vec<&str> = subagents.filter_map(|it| it.trajectory_id.as_deref()).collect();
    assert_eq!(ids, refs);
    let coder = &root.subagent_trajectories[1];
    assert_eq!((coder.agent.name.as_str(), coder.notes.as_deref()), ("coder", Some("Written.")));
    assert_eq!(coder.extra.as_ref().unwrap()["ended"], "forced");
    let metrics = root.final_metrics.unwrap();
    assert_eq!((metrics.total_prompt_tokens, metrics.total_cost_usd), (Some(3000), Some(0.75)));
}

#[test]
fn every_answer_is_read_back_as_it_was_given() {
    let mut recorder = Recorder::default();
    recorder.began(0, Role::Orchestrator, "", "").asked(0, 1, None);
    recorder.at(1.0).answered(0, 1, "<finish>\nd\u{e9}j\u{e0} \n", Some(0.5));
    for entry in &mut recorder.record {
        if let Event::Answered { answer, .. } = &mut Arc::make_mut(entry).event {
            Arc::make_mut(answer).tokens = Some(tokens());
        }
    }
    let run = recorder.run(AgentEnd::Finished { message: String::new() });
    let given = run.record.iter().find_map(|entry| match &entry.event {
        Event::Answered { answer, .. } => Some((**answer).clone()),
        _ => None,
    });
    let root = steps(&[pair(), run]);
    let read: Vec<_> = root
        .steps
        .iter()
        .filter_map(|step| from_step(step, Path::new("3.1.json")).unwrap())
        .map(|(place, answer)| ((place.step, place.turn), answer))
        .collect();
    let places: Vec<_> = read.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [(0, 1), (0, 2), (1, 1)]);
    assert_eq!(Some(read[2].1.clone()), given);
}

#[test]
fn what_was_asked_can_be_put_together_from_the_answers_steps() {
    let root = steps(&[pair(), pair()]);
    let asked: Vec<Vec<String>> = root
        .steps
        .iter()
        .filter(|step| step.source == Source::Agent)
        .map(|step| {
            let prompt = &step.extra.as_ref().unwrap()["prompt"];
            let added = prompt["added"].as_array().unwrap().iter();
            let said = |message: &Value| {
                let [role, text] = ["role", "content"].map(|key| message[key].as_str().unwrap());
                format!("{role}: {text}")
            };
            std::iter::once(prompt["kept"].to_string()).chain(added.map(said)).collect()
        })
        .collect();
    let first = [
        "0",
        "system: You are the orchestrator.",
        "user: Do .\n\n[turn 1 of 8, 0:00 elapsed, 10:00 left]",
    ];
    let second = [
        "3",
        "user: [1. task_create]\ntask_1 was made\n\n[2. launch_parallel_subagents]\n\
         Both have reported.\n\n[turn 2 of 8, 0:09 elapsed, 9:51 left]",
    ];
    // Each step of a task is a conversation of its own.
    assert_eq!(asked, [&first[..], &second, &first, &second]);
    let coder = &root.subagent_trajectories[1].steps[3];
    let prompt = &coder.extra.as_ref().unwrap()["prompt"];
    assert_eq!(prompt["kept"], 3);
    let said = prompt["added"][0]["content"].as_str().unwrap();
    assert!(said.contains("[all turns are used up]"), "{said}");
}

#[test]
fn a_subagent_without_a_record_is_not_referred_to() {
    let mut recorder = Recorder::default();
    recorder.began(0, Role::Orchestrator, "", "").asked(0, 1, None).answered(0, 1, "a", None);
    let subagents = vec![AgentId(7)];
    recorder.acted(0, 1, 0, 0.0, Observation { subagents, ..seen("died at birth") });
    let root = steps(&[recorder.run(AgentEnd::Cancelled)]);
    assert_eq!(root.steps[2].observation.as_ref().unwrap().results[0].subagent_trajectory_ref, []);
}

#[test]
fn what_was_wrong_with_an_answer_stands_behind_what_came_of_its_actions() {
    let mut recorder = Recorder::default();
    recorder.began(0, Role::Orchestrator, "", "").asked(0, 1, None);
    let answer = "<add_context>\nid: a\ncontent: b\n</add_context>\n<bash>\ncmd: ls\n</bash>";
    recorder.answered(0, 1, answer, None).acted(0, 1, 0, 0.0, seen("stored as `a`"));
    recorder.asked(0, 2, None).answered(0, 2, "Let me think.", None);
    let run = recorder.run(AgentEnd::Cancelled);
    let root = steps(std::slice::from_ref(&run));
    let told = |step: usize| {
        let results = &root.steps[step].observation.as_ref().unwrap().results;
        let told =
            |result: &ObservationResult| (result.source_call_id.clone(), result.content.clone());
        results.iter().map(told).collect::<Vec<_>>()
    };
    let [stored, refused] = &*told(2) else { panic!("{:?}", told(2)) };
    assert_eq!(*stored, (Some("call_3_0".to_owned()), Some("stored as `a`".to_owned())));
    let complaint = refused.1.as_deref().unwrap();
    assert!(refused.0.is_none() && complaint.contains("`bash`"), "{complaint}");
    let [(None, Some(idle))] = &*told(3) else { panic!("{:?}", told(3)) };
    assert!(idle.starts_with("The answer held no action"), "{idle}");
    assert!(log_text(&run).contains("\n  not done:\n    The answer held no action"));
}

#[test]
fn a_team_that_did_nothing_has_its_instruction() {
    let (settings, record) = (Arc::default(), Vec::new());
    let nothing = TeamRun { settings, record, end: AgentEnd::Cancelled };
    let root = steps(&[nothing]);
    assert_eq!((root.steps.len(), root.steps[0].message.as_str()), (1, "Do it."));
}

#[test]
fn the_log_of_a_team() {
    insta::assert_snapshot!(log_text(&pair()), @r#"
    orchestrator 0: finished after 2 turns of qwen3, 3200 tokens, $0.7500, 0.0 to 10.0 s
      explorer 1 "Look around": finished after 2 turns of qwen3, 3200 tokens, 2.0 to 5.0 s
      coder 2 "Write it": forced after 2 turns of qwen3, 3200 tokens, 2.0 to 9.0 s

    [    0.000] orchestrator 0 begins
    [    0.000] orchestrator 0 asks, turn 1
    [    2.000] orchestrator 0 turn 1, 1000 + 100 tokens, try 1:
        <task_create>
        agent_type: explorer
        title: Look around
        description: See what is there.
        auto_launch: false
        </task_create>
        <launch_parallel_subagents>
        task_ids: [task_1, task_2]
        </launch_parallel_subagents>
    [    2.000] orchestrator 0 turn 1, action 1, done, 0.000 s:
        task_1 was made
    [    2.000] explorer 1 begins: Look around (task_1)
    [    2.000] explorer 1 asks, turn 1
    [    2.000] coder 2 begins: Write it (task_2)
    [    2.000] coder 2 asks, turn 1
    [    3.000] explorer 1 turn 1, 1000 + 100 tokens, try 1:
        ls
      not done:
        The answer held no action, so nothing was done. An action is a tag at the start of a line with a YAML body.
    [    3.500] explorer 1 turn 1, action 1, done, 0.500 s:
        a.txt
    [    3.500] explorer 1 asks, turn 2
    [    4.000] explorer 1 is taken over by a new actor
    [    5.000] explorer 1 turn 2, 2000 + 100 tokens, try 1:
        It is a.txt.
      not done:
        The answer held no action, so nothing was done. An action is a tag at the start of a line with a YAML body.
    [    5.000] explorer 1 finished:
        It is a.txt.
    [    6.000] coder 2 turn 1, 1000 + 100 tokens, try 1:
        write
      not done:
        The answer held no action, so nothing was done. An action is a tag at the start of a line with a YAML body.
    [    7.000] coder 2 turn 1, action 1, done, 1.000 s:
        written
    [    7.000] coder 2 must end, turn 2: turns used up
    [    9.000] coder 2 turn 2, 2000 + 100 tokens, try 1:
        Written.
      not done:
        The answer held no action, so nothing was done. An action is a tag at the start of a line with a YAML body.
    [    9.000] coder 2 forced:
        Written.
    [    9.000] orchestrator 0 turn 1, action 2, done, 7.000 s:
        Both have reported.
    [    9.000] orchestrator 0 asks, turn 2
    [   10.000] orchestrator 0 turn 2, 2000 + 100 tokens, try 1:
        finish: done
      not done:
        The answer held no action, so nothing was done. An action is a tag at the start of a line with a YAML body.
    [   10.000] orchestrator 0 finished:
        done
    "#);
}
