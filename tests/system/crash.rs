//! The program and its environments killed at random moments (AC-1, AC-2, AC-6), over real
//! sandboxes.
//!
//! `ORCAPACK_SANDBOX=docker` runs the same over a Docker engine, `ORCAPACK_CRASHES` sets how often
//! a run is killed, and `ORCAPACK_SEED` repeats a draw: each test prints its own.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orcapack_tasks::trajectory::Trajectory;
use serde_json::Value;

use crate::program::{AttemptRow, HONEST_SOLUTION, ResultRow, Running, Task, World, docker};

const ROLLOUTS: i64 = 64;
/// After so many terminal records, what is left of a run still takes longer than the longest pause
/// before a strike.
const STRIKE_AT_MOST_AFTER: i64 = 40;
const PAUSE_MS_MAX: u64 = 30;

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |value| value.parse().expect("a number"))
}

/// The driver of this test run; `None`, and a line that says so, where it is docker and no engine
/// answers.
pub fn sandbox() -> Option<String> {
    let sandbox = setting("ORCAPACK_SANDBOX").unwrap_or_else(|| "process".into());
    (sandbox != "docker" || engine_answers()).then_some(sandbox)
}

fn engine_answers() -> bool {
    let mut docker = std::process::Command::new("docker");
    let answers = docker.arg("version").output().is_ok_and(|output| output.status.success());
    if !answers {
        eprintln!("skipped: no Docker engine answers");
    }
    answers
}

/// splitmix64.
struct Draw(u64);

impl Draw {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = number("ORCAPACK_SEED", now);
        eprintln!("ORCAPACK_SEED={seed}");
        Self(seed)
    }

    /// From `0` to `max`, both included.
    fn up_to(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (max + 1)
    }
}

/// Six tasks that pass, one that fails, one that is worth a half.
fn tasks() -> Vec<Task> {
    let passing = (0..6).map(|n| Task::new(&format!("passes-{n}"), HONEST_SOLUTION));
    let half = Task::new("half", "true\n")
        .file("tests/test.sh", "echo '{\"reward\": 0.5}' > /logs/verifier/reward.json\n");
    passing.chain([Task::new("fails", "echo 41 > /app/answer\n"), half]).collect()
}

const ARGS: [&str; 7] = ["-k", "8", "-n", "8", "--json", "--set", "agent.think_sec=0.3"];

fn resume<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&ARGS[..], &["--resume"], more].concat()
}

/// What of a run's totals must not depend on what happened to it.
fn totals(stdout: &str) -> Value {
    let summary: Value = serde_json::from_str(stdout).unwrap();
    let keys = ["planned", "ended", "outcomes", "resolved", "mean_reward", "pass_at", "failures"];
    keys.iter().map(|key| ((*key).to_owned(), summary["totals"][*key].clone())).collect()
}

/// Waits for a random moment of the run's life: the start of its ledger, or some number of terminal
/// records.
fn wait_for_the_moment(world: &World, running: &mut Running<'_>, kills_left: u64, draw: &mut Draw) {
    let done = world.count("SELECT count(*) FROM results");
    let starts = world.count("SELECT count(*) FROM incarnations");
    let step = 2 * (ROLLOUTS - done).unsigned_abs() / (kills_left + 1);
    let target = (done + draw.up_to(step).cast_signed()).min(STRIKE_AT_MOST_AFTER);
    let at_start = target <= done || draw.up_to(3) == 0;
    running.until("the moment to strike", || {
        if at_start {
            world.count("SELECT count(*) FROM incarnations") > starts
        } else {
            world.count("SELECT count(*) FROM results") >= target
        }
    });
    // Not in step with the commits that were waited for.
    std::thread::sleep(Duration::from_millis(draw.up_to(PAUSE_MS_MAX)));
}

fn kill_program(running: Running<'_>) {
    running.signal(Signal::SIGKILL);
    let ended = running.end();
    assert_eq!(ended.code, None, "it ended before it was killed\n{}", ended.stderr);
}

/// A rollout that has a terminal record keeps it, and is not run again.
fn assert_kept(world: &World, results: &[ResultRow], attempts: &[AttemptRow]) {
    let (results_now, attempts_now) = (world.results(), world.attempts());
    for result in results {
        assert!(results_now.contains(result), "changed: {result:?}");
        let of = |rows: &[AttemptRow]| -> Vec<AttemptRow> {
            rows.iter().filter(|row| row.rollout == result.rollout).cloned().collect()
        };
        assert_eq!(of(&attempts_now), of(attempts), "ran again after its terminal record");
    }
}

#[test]
fn ac1_a_program_killed_at_any_moment_resumes_and_counts_every_rollout_once() {
    let Some(sandbox) = sandbox() else { return };
    let (mut draw, kills) = (Draw::new(), number("ORCAPACK_CRASHES", 5));
    let undisturbed = World::over(&sandbox, &tasks()).eval(&ARGS);
    assert_eq!(undisturbed.code, Some(0), "{}", undisturbed.stderr);

    let world = World::over(&sandbox, &tasks());
    for strike in 0..kills {
        let args = if strike == 0 { ARGS.to_vec() } else { resume(&[]) };
        let before = (strike > 0).then(|| (world.results(), world.attempts()));
        let mut running = world.start(&args);
        wait_for_the_moment(&world, &mut running, kills - strike, &mut draw);
        kill_program(running);
        if let Some((results, attempts)) = before {
            assert_kept(&world, &results, &attempts);
        }
        eprintln!("kill {} after {} terminal records", strike + 1, world.results().len());
    }
    let (results, attempts) = (world.results(), world.attempts());
    let ended = world.eval(&resume(&[]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_kept(&world, &results, &attempts);
    assert_eq!(totals(&ended.stdout), totals(&undisturbed.stdout));
    assert_counts_once(&world);
    assert_eq!(world.count("SELECT count(*) FROM incarnations"), kills.cast_signed() + 1);
    world.assert_nothing_left();
}

fn assert_counts_once(world: &World) {
    let results = world.results();
    let rollouts: BTreeSet<u32> = results.iter().map(|row| row.rollout).collect();
    assert_eq!((results.len(), rollouts.len()), (ROLLOUTS as usize, ROLLOUTS as usize));
    let attempts = world.attempts();
    for result in &results {
        let of = attempts.iter().filter(|row| row.rollout == result.rollout);
        let graded: Vec<u32> =
            of.filter(|row| row.reward.is_some()).map(|row| row.attempt).collect();
        assert_eq!(graded, [result.attempt], "rollout {}", result.rollout);
        let file = format!("trajectories/{}.{}.json", result.rollout, result.attempt);
        let file = world.run(&file);
        Trajectory::from_json(&file, &fs::read(&file).unwrap()).unwrap();
    }
    assert!(attempts.iter().all(|row| row.state != "assigned"), "{attempts:?}");
    let interrupted = attempts.iter().filter(|row| row.state == "interrupted").count();
    eprintln!("{} attempts, {interrupted} of them interrupted", attempts.len());
}

#[test]
fn ac6_a_killed_run_that_is_deleted_leaves_nothing_behind() {
    let Some(sandbox) = sandbox() else { return };
    let world = World::over(&sandbox, &tasks());
    let mut running = world.start(&ARGS);
    running.until("an attempt runs", || world.count("SELECT count(*) FROM attempts") > 0);
    running.until("an environment", || !environments(&world, &sandbox).is_empty());
    kill_program(running);
    let killed = world.run_id().unwrap();
    let ended = world.eval(&["-t", "passes-0", "--clean"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_ne!(world.run_id().unwrap(), killed);
    assert_eq!((world.left_of(&killed), world.results().len()), (Vec::new(), 1));
    world.assert_nothing_left();
}

#[test]
fn ac6_an_image_whose_builder_was_killed_is_built_anew_and_nothing_is_left_of_the_first() {
    let dockerfile = "FROM orcapack/base:1\nWORKDIR /app\nRUN sleep 0.5; echo 42 > /app/answer\n";
    let world =
        World::new(&[Task::new("built", "true\n").file("environment/Dockerfile", dockerfile)]);
    let mut running = world.start(&[]);
    running.until("a build", || environments(&world, "process").len() == 1);
    kill_program(running);
    let ended = world.eval(&["--resume"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(world.results()[0].reward, Some(1.0));
    world.assert_nothing_left();
}

/// A live environment of the run: its attempt's label, and what kills it.
struct Victim {
    label: String,
    handle: String,
}

fn environments(world: &World, sandbox: &str) -> Vec<Victim> {
    let Some(run) = world.run_id() else { return Vec::new() };
    let victim = |label: &str, handle: String| Victim { label: label.into(), handle };
    if sandbox == "docker" {
        let filter = format!("label=orcapack.run={run}");
        let format = "{{.ID}} {{.Label \"orcapack.attempt\"}}";
        let lines = docker(&["ps", "--filter", &filter, "--format", format]);
        let parts = lines.iter().filter_map(|line| line.split_once(' '));
        return parts.map(|(id, label)| victim(label, id.into())).collect();
    }
    let entries = fs::read_dir(world.path("cache/process-state")).into_iter().flatten().flatten();
    let state = |path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    let states = entries.filter_map(|entry| state(entry.path()));
    states
        .filter_map(|state| Some(victim(state["attempt"].as_str()?, state["pid"].to_string())))
        .collect()
}

/// False where it has ended by itself meanwhile.
fn kill_environment(victim: &Victim, sandbox: &str) -> bool {
    if sandbox == "docker" {
        let mut docker = std::process::Command::new("docker");
        let killed = docker.args(["kill", &victim.handle]).output();
        return killed.is_ok_and(|output| output.status.success());
    }
    kill(Pid::from_raw(victim.handle.parse().unwrap()), Signal::SIGKILL).is_ok()
}

fn killed_environments_fail_typed(sandbox: &str, kills: usize) {
    let mut draw = Draw::new();
    let samples = kills.div_ceil(2).max(4);
    let tasks: Vec<Task> =
        (0..4).map(|n| Task::new(&format!("passes-{n}"), HONEST_SOLUTION)).collect();
    let world = World::over(sandbox, &tasks);
    let think = if sandbox == "docker" { "2" } else { "0.3" };
    let think = format!("agent.think_sec={think}");
    let retries = ["--set", "retries.exec_transport=50", "--set", "retries.daemon=50"];
    let k = samples.to_string();
    let mut running =
        world.start(&[&["-k", &k, "-n", "8", "--set", &think][..], &retries].concat());
    let mut killed = BTreeSet::new();
    running.until("all kills", || {
        let mut victims = environments(&world, sandbox);
        // Not those in which images are built.
        let agents = |victim: &Victim| victim.label.ends_with(".agent");
        victims.retain(|victim| agents(victim) && !killed.contains(&victim.label));
        if !victims.is_empty() {
            let victim = &victims[draw.up_to(victims.len() as u64 - 1) as usize];
            if kill_environment(victim, sandbox) {
                killed.insert(victim.label.clone());
            }
        }
        killed.len() >= kills
    });
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let (results, attempts) = (world.results(), world.attempts());
    assert_eq!(results.len(), 4 * samples);
    assert!(results.iter().all(|row| row.reward == Some(1.0)), "{results:?}");
    assert!(attempts.iter().all(|row| row.reward.is_none_or(|reward| reward == 1.0)));
    let label = |row: &AttemptRow| format!("{}.{}.agent", row.rollout, row.attempt);
    let failed: Vec<&AttemptRow> = attempts.iter().filter(|row| row.class.is_some()).collect();
    for row in &failed {
        let typed = ["exec_transport", "daemon"].contains(&row.class.as_deref().unwrap());
        assert!(typed && killed.contains(&label(row)), "not by a kill: {row:?}");
    }
    eprintln!("{} killed, of them {} before they were graded", killed.len(), failed.len());
    assert!(!failed.is_empty());
    world.assert_nothing_left();
}

#[test]
fn ac2_environments_killed_in_a_run_fail_typed_are_retried_and_never_rewarded_with_zero() {
    killed_environments_fail_typed("process", number("ORCAPACK_KILLS", 12) as usize);
}

#[test]
fn ac2_so_do_containers_that_the_engine_kills() {
    if engine_answers() {
        killed_environments_fail_typed("docker", number("ORCAPACK_KILLS", 4) as usize);
    }
}
