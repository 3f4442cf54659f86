//! Endpoints that fail in every way there is: what passes is tried again and the rollout graded,
//! what does not ends in a record that says so.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use orcapack_tasks::trajectory::Trajectory;
use serde_json::Value;

use crate::openai_server::{Reply, Said};
use crate::program::{Ended, ResultRow, Task, World};
use crate::team_bench::{KEY, Served, agents, run, trajectory};
use crate::team_script::{Heard, report};

/// A task that a coder solves by one command. Its instruction ends with what is to go wrong.
fn task(fault: &str) -> Task {
    let instruction = format!("Write 42 into /app/answer.\nFault: {fault}\n");
    Task::new(fault, "true\n").file("instruction.md", instruction)
}

/// Which fault a conversation is to suffer; subagents have it in their description.
fn fault(heard: &Heard) -> String {
    let line = heard.first.lines().find_map(|line| line.strip_prefix("Fault: "));
    line.unwrap().to_owned()
}

/// What a team without faults says.
fn right(heard: &Heard) -> Reply {
    let text = match (heard.title().is_some(), heard.answers) {
        (false, 0) => format!(
            "<task_create>\nagent_type: coder\ntitle: solve it\ndescription: |\n\
             \x20 Do it.\n  Fault: {}\n</task_create>\n",
            fault(heard)
        ),
        (false, _) => "<finish>\nIt is there.\n</finish>\n".to_owned(),
        (true, 0) => "<bash>\ncmd: echo 42 > /app/answer\n</bash>\n".to_owned(),
        (true, _) => report("answer", "it is 42"),
    };
    Reply::text(text.leak())
}

/// Runs the tasks of these faults over a server; their results by name.
fn run_all(
    faults: &[&str],
    served: &Served,
    args: &[&str],
) -> (World, Ended, BTreeMap<String, ResultRow>) {
    let tasks: Vec<Task> = faults.iter().map(|fault| task(fault)).collect();
    let world = World::new(&tasks);
    let keys = "try_timeout_sec = 3\ntries_max = 6\n";
    let ended = run(&world, &format!("{}{keys}", served.model("main")), args);
    world.assert_nothing_left();
    let results = world.results().into_iter().map(|row| (row.task.clone(), row)).collect();
    (world, ended, results)
}

fn said(asked: &Value) -> Heard {
    Heard::of(&asked["messages"])
}

#[test]
fn what_passes_is_tried_again_and_the_rollout_is_graded() {
    let faults = [
        ("limited", Reply::Status(429, Some("1"))),
        ("broken", Reply::Status(500, None)),
        ("overloaded", Reply::Status(503, None)),
        ("silent", Reply::Hang),
        ("cut-off", Reply::CutOffJson),
        ("other-role", Reply::WrongRole),
        ("breaks", Reply::Break),
        ("drops", Reply::Drop),
        ("no-choices", Reply::NoChoices),
        ("proxied", Reply::Disguised(502)),
        ("aborted", Reply::Aborted),
    ];
    let names = faults.each_ref().map(|(name, _)| *name);
    let suffered = Mutex::new(Vec::new());
    // The first call of each agent.
    let served = Served::openai(move |messages| {
        let heard = Heard::of(messages);
        let of = (fault(&heard), heard.title().is_some());
        let mut suffered = suffered.lock().unwrap();
        if suffered.contains(&of) {
            return right(&heard);
        }
        let (_, reply) = faults.iter().find(|(name, _)| *name == of.0).unwrap();
        suffered.push(of);
        reply.clone()
    });
    let (world, ended, results) = run_all(&names, &served, &["-n", "4"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (name, row) in &results {
        assert_eq!((&*row.outcome, row.reward, row.attempt), ("graded", Some(1.0), 1), "{row:?}");
        let asked = served.asked();
        let own = asked.iter().filter(|asked| fault(&said(&asked.body)) == *name).count();
        assert_eq!(own, 6, "{name}: four answers, and two calls that were made again");
        let log = world.run(&format!("logs/attempt_{}.1.log", row.rollout));
        let log = fs::read_to_string(log).unwrap();
        assert_eq!(log.matches("tokens, try 2:").count(), 2, "{log}");
    }
    assert_eq!(results.len(), names.len());
}

#[test]
fn an_answer_that_was_cut_in_the_middle_of_an_action_is_not_run() {
    let served = Served::openai(|messages| {
        let heard = Heard::of(messages);
        match (heard.title().is_some(), heard.answers) {
            (true, 0) => Reply::Answer(Said {
                text: "<bash>\ncmd: touch /app/begun\n</bash>\n<bash>\ncmd: echo 41 > /app/answ",
                finish: "length",
                ..Said::default()
            }),
            (true, answers) => {
                let told = heard.last.contains("cut") && !heard.last.contains("2. bash");
                assert!(answers > 1 || told, "{}", heard.last);
                right(&Heard { answers: answers - 1, ..heard })
            }
            (false, _) => right(&heard),
        }
    });
    let (world, ended, results) = run_all(&["cut"], &served, &[]);
    assert_eq!((ended.code, results["cut"].reward), (Some(0), Some(1.0)), "{ended:?}");
    let coder = &trajectory(&world, 0, 1).subagent_trajectories[0];
    let finishes: Vec<_> = finishes(coder);
    assert_eq!(finishes, ["length", "stop", "stop"]);
}

fn finishes(agent: &Trajectory) -> Vec<&str> {
    let extras = agent.steps.iter().filter_map(|step| step.extra.as_ref()?.get("finish"));
    extras.filter_map(Value::as_str).collect()
}

const TWICE: [&str; 4] = ["--set", "retries.model_endpoint=1", "--set", "models.main.tries_max=2"];

#[test]
fn an_endpoint_that_never_recovers_is_an_infrastructure_failure_without_a_reward() {
    let served = Served::openai(|messages| match Heard::of(messages) {
        // Late enough for something to have been done already.
        heard if heard.answers > 0 => Reply::Status(500, None),
        heard => right(&heard),
    });
    let (world, ended, results) = run_all(&["down"], &served, &TWICE);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let row = &results["down"];
    assert_eq!((row.reward, row.class.as_deref()), (None, Some("model_endpoint")), "{row:?}");
    let message = row.message.as_deref().unwrap();
    assert!(message.contains("500") && message.contains("tries made: 2"), "{message}");
    assert_eq!(world.attempts().len(), 2);
    // What was done until then is in the record.
    let lost = trajectory(&world, 0, 2);
    assert_eq!(agents(&lost).iter().map(|agent| finishes(agent).len()).sum::<usize>(), 2);
}

#[test]
fn a_refused_key_is_told_clearly_and_not_shown() {
    let served = Served::openai(|_| Reply::EchoKey);
    let (world, ended, results) = run_all(&["locked"], &served, &TWICE);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let row = &results["locked"];
    assert_eq!((row.reward, row.class.as_deref()), (None, Some("model_endpoint")), "{row:?}");
    let told = ended.stdout.clone() + &ended.stderr;
    assert!(told.contains("\"main\"") && told.contains("401") && !told.contains(KEY), "{told}");
    assert_eq!(crate::team_bench::files_with(&world.run(""), KEY), [""; 0]);
    assert_eq!(served.asked().len(), world.attempts().len(), "no call is made again");
}

#[test]
fn whoever_never_says_anything_has_not_finished_and_is_graded_all_the_same() {
    let served = Served::openai(|_| Reply::text(""));
    let (world, ended, results) = run_all(&["empty"], &served, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let row = &results["empty"];
    assert_eq!((&*row.outcome, row.reward, row.attempt), ("no_finish", Some(0.0), 1), "{row:?}");
    assert_eq!(served.asked().len(), 4, "three answers, and a last one that was asked for");
    let note = world.attempts().remove(0).note.unwrap();
    assert!(note.contains("the team did not finish: no actions"), "{note}");
}

#[test]
fn a_conversation_that_outgrows_the_window_ends_with_a_forced_finish() {
    let served = Served::openai(|messages| {
        let heard = Heard::of(messages);
        let is_last = heard.last.contains("no longer fits the model's context window");
        match (heard.title().is_some(), heard.answers) {
            (false, 1) if !is_last => Reply::ContextOverflow,
            _ => right(&heard),
        }
    });
    let (world, ended, results) = run_all(&["full"], &served, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let row = &results["full"];
    assert_eq!((&*row.outcome, row.reward), ("graded", Some(1.0)), "{row:?}");
    let note = world.attempts().remove(0).note.unwrap();
    assert!(note.contains("told to finish: context full"), "{note}");
}
