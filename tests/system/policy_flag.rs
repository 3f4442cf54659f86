//! `orcapack eval --policy`: the settings that it stands for, and the checkpoint that it means.

use std::fs;
use std::path::Path;

use orcapack_trainer::checkpoint;
use toml::Table;

use crate::policy;
use crate::program::{Ended, HONEST_SOLUTION, Task, World};

/// With a policy, and a run `trained` that has checkpoints of it.
fn world() -> World {
    let world = World::new(&[Task::new("a", HONEST_SOLUTION)]);
    policy::write(&world.path("policy"), 1);
    let folder = world.path("runs/trained/checkpoints");
    for step in [5, 10] {
        checkpoint::write(&folder, step, &(), |dir| {
            policy::write(dir, step);
            Ok(())
        })
        .unwrap();
    }
    world
}

fn dry(world: &World, args: &[&str]) -> Ended {
    world.orcapack(&[&["eval", "-d", "tasks", "--dry-run"], args].concat())
}

/// The effective configuration.
#[track_caller]
fn config(ended: &Ended) -> Table {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.parse().unwrap()
}

fn checkpoint_of(config: &Table) -> &str {
    config["models"]["policy"]["checkpoint"].as_str().unwrap()
}

#[test]
fn a_checkpoint_is_the_orchestrator_and_the_others_do_as_they_are_told() {
    let world = world();
    let ended = dry(&world, &["--policy", "policy"]);
    let config = config(&ended);
    assert_eq!(config["agent"]["kind"].as_str(), Some("team"));
    let roles = &config["team"]["roles"];
    assert_eq!(roles["orchestrator"].as_str(), Some("policy"));
    assert_eq!(
        (roles["explorer"].as_str(), roles["coder"].as_str()),
        (Some("literal"), Some("literal"))
    );
    assert_eq!(config["models"]["policy"]["kind"].as_str(), Some("embedded"));
    assert_eq!(config["models"]["literal"]["kind"].as_str(), Some("literal"));
    assert!(Path::new(checkpoint_of(&config)).is_absolute(), "{config}");
    assert!(ended.stderr.contains("policy: ") && ended.stderr.contains("/policy\n"), "{ended:?}");
    // What it stands for, written out, is the same run.
    fs::write(world.path("eval.toml"), &ended.stdout).unwrap();
    let again = world.orcapack(&["eval", "-c", "eval.toml", "--dry-run"]);
    assert_eq!(again.stdout, ended.stdout);
}

#[test]
fn of_a_run_the_newest_whole_checkpoint_is_taken_or_that_of_a_step() {
    let world = world();
    let newest = dry(&world, &["--policy", "runs/trained"]);
    assert!(checkpoint_of(&config(&newest)).ends_with("runs/trained/checkpoints/step_10"));
    assert!(newest.stderr.contains("step_10, the newest of"), "{newest:?}");
    let fifth = dry(&world, &["--policy", "runs/trained@5"]);
    assert!(checkpoint_of(&config(&fifth)).ends_with("checkpoints/step_5"));
    let direct = dry(&world, &["--policy", "runs/trained/checkpoints/step_5"]);
    assert_eq!(config(&direct), config(&fifth));

    fs::write(world.path("runs/trained/checkpoints/step_10/config.json"), "{}").unwrap();
    let damaged = dry(&world, &["--policy", "runs/trained"]);
    assert!(checkpoint_of(&config(&damaged)).ends_with("checkpoints/step_5"));
    assert!(damaged.stderr.contains("a checkpoint is damaged, and left out"), "{damaged:?}");
    let asked = dry(&world, &["--policy", "runs/trained@10"]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.stderr.contains("config.json: expected SHA-256"), "{asked:?}");
}

#[test]
fn roles_and_settings_that_are_configured_stay() {
    let world = world();
    let other = "[team]\nprompts = \"compact\"\n[models.policy]\nkind = \"embedded\"\n\
                 checkpoint = \"elsewhere\"\ntemperature = 0.5\n";
    let served = "[models.served]\nkind = \"vllm\"\nmodel = \"m\"\n";
    fs::write(world.path("one.toml"), format!("{other}{served}")).unwrap();
    let one = config(&dry(&world, &["-c", "one.toml", "--policy", "policy"]));
    assert_eq!(one["team"]["roles"]["coder"].as_str(), Some("served"));
    assert_eq!(one["models"]["policy"]["temperature"].as_float(), Some(0.5));
    assert!(checkpoint_of(&one).ends_with("/policy"), "{one}");
    assert_eq!(one["team"]["prompts"].as_str(), Some("compact"));
    let roles = format!(
        "{served}[models.literal]\nkind = \"literal\"\n\
                         [team.roles]\nexplorer = \"literal\"\ncoder = \"served\"\n"
    );
    fs::write(world.path("two.toml"), roles).unwrap();
    let two = config(&dry(&world, &["-c", "two.toml", "--policy", "policy"]));
    let roles = &two["team"]["roles"];
    assert_eq!(
        (roles["explorer"].as_str(), roles["coder"].as_str()),
        (Some("literal"), Some("served"))
    );
}

#[test]
fn what_contradicts_it_or_is_no_policy_is_refused() {
    let world = world();
    fs::create_dir_all(world.path("runs/empty/checkpoints")).unwrap();
    for (args, said) in [
        (&["--policy", "policy", "-a", "oracle"][..], "expected agent `team`"),
        (&["--policy", "policy", "-m", "openai/x"], "cannot be used with"),
        (&["--policy", "tasks"], "expected a policy's directory"),
        (&["--policy", "absent"], "found `absent`"),
        (&["--policy", "runs/trained@7"], "found step 7; there are 5, 10"),
        (&["--policy", "runs/empty"], "expected a run with a checkpoint"),
        (&["--policy", "policy@5"], "found step 5; there are none"),
    ] {
        let ended = dry(&world, args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
    }
    let team = dry(&world, &["--policy", "policy", "-a", "team"]);
    assert_eq!(team.code, Some(0), "{team:?}");
}

#[test]
fn a_policy_that_knows_nothing_runs_to_its_end_and_is_resumed() {
    let world = world();
    let line = ["--policy", "policy", "--set", "team.orchestrator_turns_max=1"];
    let line = [&line[..], &["--set", "team.orchestrator_answer_tokens_max=8"]].concat();
    let ended = world.eval(&line);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(world.results()[0].reward, Some(0.0));
    let resumed = world.eval(&[&line[..], &["--resume"]].concat());
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
}
