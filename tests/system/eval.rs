//! `orcapack eval` from the command line to the ledger, the report and the exit code.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use orcapack_tasks::trajectory::Trajectory;
use serde_json::Value;

use crate::program::{HONEST_SOLUTION, HONEST_TEST, ResultRow, Task, World};

const NOTHING_AGAIN: [&str; 4] = ["--set", "retries.image=0", "--set", "retries.start_timeout=0"];

fn honest(name: &str) -> Task {
    Task::new(name, HONEST_SOLUTION).file("known-bad/almost.sh", "echo 41 > /app/answer\n")
}

/// Runs tasks that all end with a reward; their terminal records.
fn graded(tasks: &[Task], args: &[&str]) -> (Vec<ResultRow>, World) {
    let world = World::new(tasks);
    let ended = world.eval(args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    world.assert_nothing_left();
    (world.results(), world)
}

/// The reward of a single task.
fn reward(task: Task) -> Option<f64> {
    let (results, _) = graded(&[task], &[]);
    results[0].reward
}

#[test]
fn the_oracle_passes_and_doing_nothing_or_almost_right_does_not() {
    for (agent, expected) in [("oracle", 1.0), ("nop", 0.0), ("known-bad", 0.0)] {
        let (results, world) = graded(&[honest("a"), honest("b")], &["-a", agent, "-k", "2"]);
        assert_eq!(results.len(), 4);
        assert!(results.iter().all(|row| row.reward == Some(expected)), "{agent}: {results:?}");
        let agents = "SELECT DISTINCT agent FROM rollouts";
        let agents: Vec<String> = world.query(agents, |row| row.get(0)).unwrap();
        assert!(agents[0].starts_with(agent), "{agents:?}");
    }
}

#[test]
fn a_run_leaves_a_summary_a_report_and_a_trajectory_of_every_attempt() {
    let world = World::new(&[honest("a"), honest("b")]);
    let ended = world.eval(&["-k", "3", "--json"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(summary["totals"]["outcomes"]["passed"], 6);
    assert_eq!(summary["totals"]["pass_at"][2]["mean"], 1.0);
    for rollout in summary["rollouts"].as_array().unwrap() {
        let file = world.run(rollout["trajectory"].as_str().unwrap());
        let trajectory = Trajectory::from_json(&file, &fs::read(&file).unwrap()).unwrap();
        assert_eq!(trajectory.steps.len(), 2, "the instruction, and what the agent did");
    }
    let page = fs::read_to_string(world.run("report.html")).unwrap();
    assert!(page.starts_with("<!") && page.contains("passed"));
    for fetch in ["src=\"http", "href=\"http", "url(http", "@import", "<link", "src=\"//"] {
        assert!(!page.contains(fetch), "{fetch}");
    }
    assert!(world.run("metrics.jsonl").is_file() && world.run("config.toml").is_file());
    assert!(world.run("logs/attempt_5.1.log").is_file());
}

#[test]
fn the_time_ledger_of_every_attempt_adds_up_to_its_wall_time_within_1_percent() {
    let slow = ["-k", "4", "--set", "agent.think_sec=0.05"];
    let separate = honest("b").toml("verifier.environment_mode = \"separate\"");
    let (_, world) = graded(&[honest("a"), separate], &slow);
    let sql = "SELECT wall_sec, queue_sec + image_sec + create_sec + exec_sec + model_sec
               + grade_sec + cleanup_sec, model_sec FROM attempts";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let times: Vec<(f64, f64, f64)> = world.query(sql, read).unwrap();
    assert_eq!(times.len(), 8);
    for (wall, sum, model) in times {
        assert!((wall - sum).abs() <= 0.01 * wall, "{wall} s, phases {sum} s");
        assert!(model >= 0.05 && wall < 60.0, "{wall} s, {model} s of them for the model");
    }
}

#[test]
fn a_name_is_taken_once_and_resume_runs_what_is_missing_and_clean_everything() {
    let world = World::new(&[honest("a"), honest("b")]);
    let missing = world.eval(&["--resume"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert_eq!(world.eval(&[]).code, Some(0));
    let (id, attempts, results) = (world.run_id(), world.attempts(), world.results());

    let taken = world.eval(&[]);
    assert_eq!(taken.code, Some(5));
    assert!(taken.stderr.contains("--resume") && taken.stderr.contains("--clean"), "{taken:?}");
    assert_eq!(world.eval(&["--resume"]).code, Some(0));
    assert_eq!((world.attempts(), world.results()), (attempts, results), "nothing was missing");
    let other = world.eval(&["--resume", "-k", "2"]);
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stderr.contains("rollouts.n_attempts: 1 then, 2 now"), "{other:?}");

    assert_eq!(world.eval(&["--clean", "-k", "2"]).code, Some(0));
    assert_ne!(world.run_id(), id);
    assert_eq!(world.results().len(), 4);
}

#[test]
fn a_run_that_somebody_works_on_is_in_use() {
    let world = World::new(&[honest("a")]);
    let mut first = world.start(&["--set", "agent.think_sec=600"]);
    first.until("an attempt", || world.count("SELECT count(*) FROM attempts") == 1);
    for args in [&["--resume"][..], &["--clean"], &[]] {
        let second = world.eval(args);
        assert_eq!(second.code, Some(5), "{args:?}: {second:?}");
    }
    assert!(world.eval(&["--resume"]).stderr.contains("in use by process"));
}

#[test]
fn bad_input_and_a_missing_engine_have_exit_codes_of_their_own_and_make_nothing() {
    let world = World::new(&[honest("a")]);
    for (args, code, said) in [
        (&["--set", "rollouts.n_concurrent=0"][..], 2, "n_concurrent"),
        (&["--set", "agent.kid=1"], 2, "agent.kid"),
        (&["-t", "nothing-like-this"], 2, "nothing-like-this"),
        (&["-m", "some/model"], 2, "model"),
    ] {
        let ended = world.eval(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(said), "{ended:?}");
    }
    let no_engine = World::over("docker", &[honest("a")]);
    let ended = no_engine.start_with(&[("DOCKER_HOST", "unix:///nowhere.sock")], &[]).end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let dry = world.eval(&["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.stdout.contains("[rollouts]"), "{dry:?}");
    assert!(!world.path("runs").exists() && !world.path("cache").exists());
}

#[test]
fn one_interrupt_lets_running_rollouts_end_and_the_rest_is_resumed() {
    let world = World::new(&[honest("a"), honest("b")]);
    let args = ["-k", "4", "-n", "2", "--set"];
    let mut running = world.start(&[&args[..], &["agent.think_sec=0.5"]].concat());
    running.until("two attempts", || world.count("SELECT count(*) FROM attempts") == 2);
    running.signal(Signal::SIGINT);
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("draining") && ended.stderr.contains("--resume"), "{ended:?}");
    let (results, attempts) = (world.results(), world.attempts());
    assert_eq!((results.len(), attempts.len()), (2, 2), "those that ran, and no others");
    assert!(attempts.iter().all(|row| row.state == "ended"), "{attempts:?}");
    world.assert_nothing_left();

    let resumed = world.eval(&["--resume", "--set", "agent.think_sec=0"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!((world.results().len(), world.attempts().len()), (8, 8));
}

/// What runs is ended before its time: by a second signal, or when draining has taken too long.
fn cut_short(drain_sec: &str, second: Option<Signal>) {
    let world = World::new(&[honest("a"), honest("b")]);
    let drain = format!("timeouts.drain_sec={drain_sec}");
    let mut running = world.start(&["--set", "agent.think_sec=1000", "--set", &drain]);
    running.until("two attempts", || world.count("SELECT count(*) FROM attempts") == 2);
    running.signal(Signal::SIGINT);
    running.until("draining", || world.said().contains("draining"));
    if let Some(signal) = second {
        running.signal(signal);
    }
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(world.attempts().iter().all(|row| row.state == "interrupted"));
    assert_eq!(world.results(), []);
    world.assert_nothing_left();

    let resumed = world.eval(&["--resume", "--set", "agent.think_sec=0"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(world.results().iter().all(|row| (row.attempt, row.reward) == (2, Some(1.0))));
}

#[test]
fn a_second_interrupt_or_the_drains_limit_ends_what_runs_and_it_can_be_resumed() {
    cut_short("1000", Some(Signal::SIGINT));
    cut_short("1000", Some(Signal::SIGTERM));
    cut_short("0.3", None);
}

#[test]
fn a_build_does_not_hold_up_a_second_interrupt() {
    let dockerfile = "FROM orcapack/base:1\nRUN sleep 1000\n";
    let world = World::new(&[honest("a").file("environment/Dockerfile", dockerfile)]);
    let mut running = world.start(&[]);
    let state = world.path("cache/process-state");
    running.until("a build", || fs::read_dir(&state).is_ok_and(|states| states.count() > 0));
    running.signal(Signal::SIGINT);
    running.until("draining", || world.said().contains("draining"));
    running.signal(Signal::SIGINT);
    let begin = Instant::now();
    assert_eq!(running.end().code, Some(130));
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    world.assert_nothing_left();
}

/// Two steps in one environment: the second needs what the first made.
fn two_steps(first_solution: &str) -> Task {
    let second_test = "[ \"$(cat /app/second)\" = 42-2 ] && echo 1 > /logs/verifier/reward.txt\n";
    Task::new("steps", "")
        .toml("[[steps]]\nname = \"first\"\nmin_reward = 0.5")
        .toml("[[steps]]\nname = \"second\"")
        .file("steps/first/instruction.md", "Write 42.\n")
        .file("steps/first/solution/solve.sh", first_solution)
        .file("steps/first/tests/test.sh", HONEST_TEST)
        .file("steps/first/workdir/setup.sh", "[ ! -e /app/answer ]\n")
        .file("steps/second/instruction.md", "Write it again, with a 2.\n")
        .file(
            "steps/second/solution/solve.sh",
            "[ -e /tests ] || echo $(cat /app/answer)-2 > /app/second\n",
        )
        .file("steps/second/tests/test.sh", second_test)
}

#[test]
fn steps_share_an_environment_and_stop_below_a_minimal_reward() {
    assert_eq!(reward(two_steps(HONEST_SOLUTION)), Some(1.0));
    let (results, world) = graded(&[two_steps("echo 41 > /app/answer\n")], &[]);
    assert_eq!(results[0].reward, Some(0.0));
    let note = world.attempts().remove(0).note.unwrap();
    assert!(note.contains("stopped after step `first`"), "{note}");
    let second = fs::read_to_string(world.run("trajectories/0.1.json")).unwrap();
    assert!(!second.contains("with a 2"), "the second step was begun");
}

#[test]
fn a_separate_verifier_sees_the_artifacts_and_nothing_else_of_what_the_agent_did() {
    let tamper = "touch /etc/tampered /app/other\n\
                  echo 'echo 1 > /logs/verifier/reward.txt' > /usr/local/bin/cat\n\
                  chmod +x /usr/local/bin/cat\n";
    let test = format!(
        "{HONEST_TEST}\
         for path in /etc/tampered /app/other /usr/local/bin/cat /solution; do\n\
         if [ -e $path ]; then echo 0.25 > /logs/verifier/reward.txt; fi\ndone\n"
    );
    let task = |solve: &str, toml: &str| {
        let solve = format!("{solve}{tamper}");
        Task::new("separate", &solve).toml(toml).file("tests/test.sh", test.clone())
    };
    // `artifacts` is a key of the root table, and tables of Task::toml are dotted keys of it.
    let separate = "artifacts = [\"/app/answer\"]\nverifier.environment_mode = \"separate\"";
    assert_eq!(reward(task(HONEST_SOLUTION, separate)), Some(1.0));
    assert_eq!(reward(task("echo 41 > /app/answer\n", separate)), Some(0.0));
    let undeclared = "verifier.environment_mode = \"separate\"";
    assert_eq!(reward(task(HONEST_SOLUTION, undeclared)), Some(0.0));
    assert_eq!(reward(task(HONEST_SOLUTION, "")), Some(0.25), "in a shared one it can be seen");
}

#[test]
fn an_agent_starts_when_its_environment_is_healthy_and_never_in_one_that_is_not() {
    let check = |command: &str| {
        let check = "environment.healthcheck.interval_sec = 0.01";
        let command = format!("environment.healthcheck.command = {command:?}");
        Task::new("health", "[ -e /healthy ] && echo 42 > /app/answer\n")
            .toml(&format!("{check}\n{command}"))
    };
    assert_eq!(reward(check("[ -e /almost ] && touch /healthy || ! touch /almost")), Some(1.0));
    let world = World::new(&[check("false")]);
    assert_eq!(world.eval(&NOTHING_AGAIN).code, Some(3));
    let result = world.results().remove(0);
    assert_eq!((result.reward, result.class.as_deref()), (None, Some("start_timeout")));
    world.assert_nothing_left();
}

#[test]
fn a_pytest_report_is_weighed_when_partial_rewards_are_asked_for() {
    let pytest = "printf '%s\\n' '== short test summary info ==' 'PASSED t.py::test_a' \
                  'FAILED t.py::test_b - no' '== 1 failed, 1 passed in 0.1s =='";
    let csv = format!(
        "task_id,prompt,dockerfile,test_functions,test_weights,additional_files\n\
         weighed,Do it.,\"FROM orcapack/base:1\nCOPY pytest /usr/local/bin/pytest\n\",\
         \"def test_a(): pass\ndef test_b(): pass\n\",\
         \"{{\"\"test_a\"\": 0.75, \"\"test_b\"\": 0.25}}\",\
         \"{{\"\"pytest\"\": \"\"#!/bin/bash\\n{}\\n\"\"}}\"\n",
        pytest.replace('\\', "\\\\").replace('"', "\"\"")
    );
    for (partial, expected) in [("true", 0.75), ("false", 0.0)] {
        let world = World::new(&[]);
        fs::write(world.path("tasks.csv"), &csv).unwrap();
        let partial = format!("rollouts.partial_reward={partial}");
        let ended = world.eval(&["-a", "nop", "-d", "tasks.csv", "--set", &partial]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(world.results()[0].reward, Some(expected));
    }
}

#[test]
fn ac4_an_image_that_cannot_be_built_ends_its_group_once_and_no_other() {
    let broken = honest("b")
        .file("environment/Dockerfile", "FROM orcapack/base:1\nRUN echo no such luck; exit 7\n");
    let world = World::new(&[honest("a"), broken]);
    let ended = world.eval(&[&["-k", "3", "-n", "1"][..], &NOTHING_AGAIN].concat());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let (broken, whole): (Vec<_>, Vec<_>) =
        world.results().into_iter().partition(|row| row.task == "b");
    assert!(whole.iter().all(|row| row.reward == Some(1.0)) && whole.len() == 3, "{whole:?}");
    assert!(broken.iter().all(|row| row.class.as_deref() == Some("image")) && broken.len() == 3);
    assert!(broken[0].message.as_ref().is_some_and(|message| message.contains("no such luck")));
    let attempts = world.attempts().iter().filter(|row| row.task == "b").count();
    assert_eq!(attempts, 1, "the other members were cancelled, not tried");
    world.assert_nothing_left();
}

#[test]
fn an_agent_that_runs_out_of_time_has_failed_and_is_graded_all_the_same() {
    let late = |solve: &str| {
        Task::new("late", &format!("{solve}sleep 1000\n")).toml("agent.timeout_sec = 0.3")
    };
    for (solve, expected) in [(HONEST_SOLUTION, 1.0), ("", 0.0)] {
        let (results, _) = graded(&[late(solve)], &[]);
        assert_eq!((&*results[0].outcome, results[0].reward), ("timed_out", Some(expected)));
    }
}
