//! Teams of agents on built-in tasks: a scripted model behind a server of each protocol, every
//! action of the grammar, and the same answers once more.
//!
//! `ORCAPACK_SANDBOX=docker` runs the same over a Docker engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use orcapack_tasks::trajectory::Trajectory;
use serde_json::Value;

use crate::anthropic_server;
use crate::crash::sandbox;
use crate::http_server::Asked;
use crate::openai_server;
use crate::program::World;
use crate::team_bench::{KEY, SECRETS, Served, agents, answers, done, files_with, run, trajectory};
use crate::team_script::{ACCEPTANCE, Heard, INTRUDER, JOBS, Job, LAYOUT, THOUGHT, answer, text};

const ORCHESTRATORS: [&str; 6] = [
    "add_context",
    "finish",
    "launch_parallel_subagents",
    "launch_subagent",
    "task_create",
    "task_create later",
];
const TOOLS: [&str; 11] = [
    "bash",
    "bash later",
    "file metadata",
    "file read",
    "report",
    "scratchpad add",
    "scratchpad view",
    "search glob",
    "search grep",
    "todo",
    "write_temp_script",
];
const CHANGES: [&str; 3] = ["file edit", "file multi_edit", "file write"];

/// The tasks of the script, each with a secret in its environment.
fn world(sandbox: &str) -> World {
    let world = World::over(sandbox, &[]);
    for job in &JOBS {
        let to = world.path("tasks").join(job.name);
        let copied = Command::new("cp").arg("-a").arg(job.path()).arg(&to).status().unwrap();
        assert!(copied.success());
        let toml = fs::read_to_string(to.join("task.toml")).unwrap();
        let env = format!("[environment]\nenv = {{ SHOP_TOKEN = \"{}\" }}\n", SECRETS[1]);
        fs::write(to.join("task.toml"), toml.replace("[environment]\n", &env)).unwrap();
    }
    world
}

fn openai() -> Served {
    Served::openai(|messages| {
        let text = answer(&Heard::of(messages)).leak();
        let said = openai_server::Said { text, reasoning: Some(THOUGHT), ..Default::default() };
        openai_server::Reply::Answer(said)
    })
}

fn anthropic() -> Served {
    Served::anthropic(|messages| {
        let text = answer(&Heard::of(messages)).leak();
        let said = anthropic_server::Said { text, thinking: Some(THOUGHT), ..Default::default() };
        anthropic_server::Reply::Answer(said)
    })
}

/// Runs the script over a server and looks at everything that is left of it.
fn solves(served: &Served) {
    let Some(sandbox) = sandbox() else { return };
    let world = world(&sandbox);
    all_pass(&world, &served.model("main"));
    world.assert_nothing_left();
    let asked = served.asked();
    for job in &JOBS {
        let root = of_job(&world, job);
        let ends: Vec<&str> =
            root.subagent_trajectories.iter().map(|agent| agent.agent.name.as_str()).collect();
        assert_eq!(ends, ["explorer", "explorer", "explorer", "coder"]);
        uses_every_action(&root);
        is_told_what_it_needs(&asked, job);
        let turn = answers(&root.subagent_trajectories[0])[1].observation.as_ref().unwrap();
        let refused = turn.results[1].content.as_deref().unwrap();
        assert!(refused.contains("an explorer changes no files"), "{refused}");
        side_by_side(&world, job);
    }
    for secret in [KEY, SECRETS[0], SECRETS[1]] {
        assert_eq!(files_with(&world.run(""), secret), [""; 0], "{secret}");
        let said = |asked: &&Asked| asked.body.to_string().contains(secret);
        assert_eq!(asked.iter().filter(said).count(), 0, "{secret} was told a model");
    }
}

fn all_pass(world: &World, config: &str) {
    let ended = run(world, config, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let results = world.results();
    assert_eq!(results.len(), JOBS.len());
    let passed = |outcome: &str, reward: Option<f64>| outcome == "graded" && reward == Some(1.0);
    assert!(results.iter().all(|row| passed(&row.outcome, row.reward)), "{results:#?}");
    assert!(results.iter().all(|row| row.attempt == 1), "{results:#?}");
}

fn of_job(world: &World, job: &Job) -> Trajectory {
    let results = world.results();
    let row = results.iter().find(|row| row.task.ends_with(job.name)).unwrap();
    trajectory(world, row.rollout, row.attempt)
}

fn uses_every_action(root: &Trajectory) {
    let used: BTreeSet<String> = agents(root)
        .into_iter()
        .flat_map(|agent| match std::ptr::eq(agent, root) {
            true => done(agent, "orchestrator"),
            false => done(agent, &agent.agent.name),
        })
        .collect();
    let of = |role: &str, actions: &[&str]| {
        actions.iter().map(|action| format!("{role} {action}")).collect::<Vec<_>>()
    };
    let all = [
        of("orchestrator", &ORCHESTRATORS),
        of("explorer", &TOOLS),
        of("coder", &TOOLS),
        of("coder", &CHANGES),
    ];
    assert_eq!(used, all.concat().into_iter().collect());
}

/// The conversation of a subagent's last call, as its model saw it.
fn conversation(asked: &[Asked], title: &str) -> (Heard, String) {
    let mut own = asked
        .iter()
        .filter(|asked| Heard::of(&asked.body["messages"]).title().is_some_and(|own| own == title));
    let last = own.next_back().unwrap_or_else(|| panic!("nobody was asked to {title}"));
    let messages = last.body["messages"].as_array().unwrap();
    let all = messages.iter().map(|message| text(&message["content"])).collect();
    (Heard::of(&last.body["messages"]), all)
}

fn is_told_what_it_needs(asked: &[Asked], job: &Job) {
    let Job { name, file, in_file, folder, in_folder } = job;
    let (look, all) = conversation(asked, &format!("look {name}"));
    let (files, environment) = look.first.split_once("# The environment\n").unwrap();
    for words in [ACCEPTANCE, file, in_file, folder, in_folder] {
        assert!(files.contains(words), "{words} in {files}");
    }
    assert!(environment.contains("## Files\n") && environment.contains("## Tools\n"));
    let denied = format!("{INTRUDER}: Permission denied");
    for words in ["heard from behind", &denied, "an explorer changes no files: its `file` has"] {
        assert!(all.contains(words), "{words} in {all}");
    }
    let (solve, all) = conversation(asked, &format!("solve {name}"));
    assert!(solve.first.contains(ACCEPTANCE) && solve.first.contains(LAYOUT), "{}", solve.first);
    assert!(!all.contains(INTRUDER), "an explorer has written: {all}");
}

/// The two scans overlap, and nobody else's work does.
fn side_by_side(world: &World, job: &Job) {
    let sql = format!(
        "SELECT agents.title, began_sec, ended_sec FROM agents JOIN rollouts USING (rollout)
         WHERE rollouts.task LIKE '%{}' AND parent IS NOT NULL ORDER BY agents.agent",
        job.name
    );
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let spans: Vec<(String, f64, f64)> = world.query(&sql, read).unwrap();
    let titles: Vec<&str> =
        spans.iter().map(|(title, ..)| title.split(' ').next().unwrap()).collect();
    assert_eq!(titles, ["look", "scan_a", "scan_b", "solve"]);
    let overlap = |a: usize, b: usize| spans[b].1 < spans[a].2 && spans[a].1 < spans[b].2;
    assert!(overlap(1, 2) && !overlap(0, 1) && !overlap(2, 3), "{spans:?}");
}

#[test]
fn a_team_behind_an_openai_server_uses_every_action_and_solves_five_tasks() {
    let served = openai();
    solves(&served);
    let roles = asked_by_role(&served, |body| text(&body["messages"][0]["content"]));
    assert_eq!(roles, [20, 35, 10]);
}

#[test]
fn a_team_behind_an_anthropic_server_uses_every_action_and_solves_five_tasks() {
    let served = anthropic();
    solves(&served);
    let roles = asked_by_role(&served, |body| text(&body["system"]));
    assert_eq!(roles, [20, 35, 10]);
}

/// Calls of orchestrators, explorers and coders, told apart by their system prompts.
fn asked_by_role(served: &Served, system: fn(&Value) -> String) -> [usize; 3] {
    let systems: Vec<String> = served.asked().iter().map(|asked| system(&asked.body)).collect();
    ["You lead a small team", "You are an explorer", "You are a coder"]
        .map(|begin| systems.iter().filter(|system| system.starts_with(begin)).count())
}

/// Runs the script, and its answers once more without a server.
fn replays(sandbox: &str) {
    let first = world(sandbox);
    let served = openai();
    all_pass(&first, &served.model("main"));
    let asked = served.asked().len();
    let again = world(sandbox);
    let from = first.run("").display().to_string();
    let config = format!("[models.main]\nkind = \"replay\"\nrun = \"{from}\"\n");
    all_pass(&again, &config);
    assert_eq!(served.asked().len(), asked, "nobody is asked twice");
    for job in &JOBS {
        same_answers(&of_job(&first, job), &of_job(&again, job));
    }
    again.assert_nothing_left();
}

/// Bit for bit, agent by agent and turn by turn.
fn same_answers(recorded: &Trajectory, replayed: &Trajectory) {
    let of = |root: &Trajectory| -> Vec<String> {
        let agents = agents(root).into_iter().map(|agent| {
            let said: Vec<Value> = answers(agent)
                .into_iter()
                .map(|step| {
                    // What was asked tells the time.
                    let mut extra = step.extra.clone().unwrap_or_default();
                    extra.remove("prompt");
                    serde_json::json!([
                        step.message,
                        step.reasoning_content,
                        step.model_name,
                        step.metrics,
                        extra,
                        step.tool_calls,
                    ])
                })
                .collect();
            format!("{:?} {:?} {}", agent.trajectory_id, agent.extra, Value::from(said))
        });
        agents.collect()
    };
    assert_eq!(of(recorded), of(replayed));
}

#[test]
fn a_replay_gives_every_answer_once_more_bit_for_bit() {
    if let Some(sandbox) = sandbox() {
        replays(&sandbox);
    }
}

#[test]
fn a_run_that_is_not_there_cannot_be_replayed() {
    let world = world("process");
    let ended = world.eval(&["-a", "team", "-m", "replay/nowhere"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("nowhere") && !Path::new(&world.run("")).exists(), "{ended:?}");
}
