//! Training with rollouts and ranks on the nodes of a cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use crate::lab::{Lab, Layout};
use crate::process::{read, tail, until_in};

/// Debug builds compute slowly.
const PATIENCE: Duration = Duration::from_secs(600);

const DEMO: &str = r#"
[agent]
kind = "team"

[team]
prompts = "compact"

[team.roles]
orchestrator = "demo"
explorer = "literal"
coder = "literal"

[models.demo]
kind = "solution"
mistakes = 0.5
known_bad = "near-miss"

[models.literal]
kind = "literal"
"#;

/// Synchronous, so that it is the same each time; `@` is the folder of the test.
const TRAIN: &str = r#"
[run]
dataset = "@/set"

[policy]
base = "@/warm/checkpoints/step_200"

[team]
prompts = "compact"
orchestrator_turns_max = 4
orchestrator_answer_tokens_max = 120

[models.policy]
temperature = 1.0
seed = 5

[rollouts]
n_attempts = 4
n_concurrent = 4

[train]
groups_per_step = 2
max_off_policy_steps = 0
lr = 3e-4
seed = 5

[ranks]
count = 2

[checkpoints]
every_steps = 1
keep = 100
"#;

/// What one try of a small policy looks like: some solve their task, some do not.
fn lab() -> Option<Lab> {
    let nodes = &["n1", "n2"];
    let lab =
        Lab::new(&Layout { nodes, slots: 4, sandbox: "process", lease_sec: 2.0, tasks: &[] })?;
    let folder = lab.path("").to_string_lossy().trim_end_matches('/').to_owned();
    fs::write(lab.path("demo.toml"), DEMO).unwrap();
    fs::write(lab.path("train.toml"), TRAIN.replace('@', &folder)).unwrap();
    let generate = "tasks generate --family files --difficulty easy --split train --count 4 -o set";
    let demo = "eval -c demo.toml -d set -k 4 -n 4 --sandbox process --name demo --runs-dir . -q";
    let sft = "sft --from demo --new --epochs 100 --name warm --runs-dir . -q \
        --set data.reward_min=0 --set data.held_out=0 --set train.batch_samples=8 \
        --set train.warmup_steps=5 --set train.lr=4e-3 --set policy.new.hidden_size=64 \
        --set policy.new.intermediate_size=128 --set policy.new.num_hidden_layers=2";
    for command in [generate, demo, sft] {
        let args: Vec<&str> = command.split_whitespace().collect();
        let program = lab.program(args[0], &args);
        let log = program.log().to_owned();
        assert_eq!(program.end(PATIENCE), 0, "{}", tail(&log));
    }
    Some(lab)
}

impl Lab {
    fn train(&self, name: &str, steps: u64, more: &[&str]) -> crate::process::Process {
        let steps = steps.to_string();
        let args = ["train", "-c", "train.toml", "--name", name, "--steps", &steps];
        self.program(name, &[&args[..], more].concat())
    }

    fn checkpoint(&self, name: &str, step: u64) -> PathBuf {
        self.path(&format!("runs/{name}/checkpoints/step_{step}/model.safetensors"))
    }

    /// A line for each step.
    fn steps(&self, name: &str) -> Vec<Json> {
        let lines = read(&self.path(&format!("runs/{name}/metrics.jsonl")));
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

const ON_NODES: [&str; 4] = ["--cluster", "cluster.toml", "--set", "ranks.nodes=[\"n1\", \"n2\"]"];

#[test]
fn ranks_and_rollouts_on_nodes_train_the_policy_that_one_machine_trains() {
    let Some(mut lab) = lab() else { return };
    let here = lab.train("here", 2, &["--sandbox", "process"]);
    let log = here.log().to_owned();
    assert_eq!(here.end(PATIENCE), 0, "{}", tail(&log));
    lab.start_all(&["n1", "n2"]);
    let there = lab.train("there", 2, &ON_NODES);
    let log = there.log().to_owned();
    assert_eq!(there.end(PATIENCE), 0, "{}", tail(&log));
    for step in [1, 2] {
        let [one, other] =
            ["here", "there"].map(|name| fs::read(lab.checkpoint(name, step)).unwrap());
        assert!(one == other, "step {step}: {}", tail(&log));
    }
    let base = fs::read(lab.path("warm/checkpoints/step_200/model.safetensors")).unwrap();
    assert!(base != fs::read(lab.checkpoint("here", 2)).unwrap(), "nothing was learnt");
    for node in ["n1", "n2"] {
        assert!(read(&lab.path(&format!("{node}.log"))).contains("a rank begins to live here"));
    }

    // One of them is killed once a step is made, and the run goes on without it.
    let steps = 4;
    let mut goes_on = lab.train("killed", steps, &ON_NODES);
    let log = goes_on.log().to_owned();
    until_in(PATIENCE, "a step", &log, || lab.checkpoint("killed", 1).exists());
    assert_eq!(goes_on.ended(), None, "{}", tail(&log));
    lab.kill("n2");
    assert_eq!(goes_on.end(PATIENCE), 0, "{}", tail(&log));
    assert!(lab.checkpoint("killed", steps).exists());
    assert_eq!(lab.steps("killed").len() as u64, steps);
    eprintln!("{}", read(&lab.path("runs/killed/metrics.jsonl")));
}
