//! `orcapack sft` as a script sees it: from trajectories to a policy that others can load.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use orcapack_tasks::trajectory::{Agent, Source, Step, Trajectory};
use orcapack_trainer::policy::Policy;
use serde_json::{Value, json};

/// A folder of demonstrations, in which the answer follows from the question.
fn demonstrations(folder: &Path, count: usize) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    for index in 0..count {
        let agent = Agent {
            name: "orchestrator".to_owned(),
            version: "1".to_owned(),
            model_name: None,
            tool_definitions: None,
            extra: None,
        };
        let mut trajectory = Trajectory::new("run", &format!("{index}.1"), agent);
        let asked = [("system", "be brief".to_owned()), ("user", format!("remove file {index}"))];
        let answer = format!("<finish>\nrm {index}\n</finish>\n");
        let mut step = Step::new(Source::Agent, "2026-01-02T03:04:05Z", &answer);
        let added = asked.map(|(role, content)| json!({"role": role, "content": content}));
        let extra = json!({
            "step": 0, "turn": 1, "finish": "stop", "prompt": {"kept": 0, "added": added},
        });
        step.extra = extra.as_object().cloned();
        trajectory.append(step);
        let file = data.join(format!("{index}.1.json"));
        fs::write(&file, trajectory.to_json(&file).unwrap()).unwrap();
    }
    data
}

/// `sft` in `folder`, over a policy that is as small as it can be.
fn sft(folder: &Path, name: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
    command.current_dir(folder).args(["sft", "--name", name]).args(more);
    command
}

const TINY: [&str; 19] = [
    "--from",
    "data",
    "--new",
    "--set",
    "policy.new.vocab_size=300",
    "--set",
    "policy.new.hidden_size=16",
    "--set",
    "policy.new.intermediate_size=32",
    "--set",
    "policy.new.num_hidden_layers=2",
    "--set",
    "policy.new.head_dim=8",
    "--set",
    "train.batch_samples=8",
    "--set",
    "train.epochs=4",
    "--set",
    "checkpoints.every_steps=3",
];

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("runs").join(name).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Of the steps, without what depends on the clock.
fn losses(folder: &Path, name: &str) -> Vec<(u64, f64)> {
    let lines = lines(folder, name);
    let steps = lines.iter().filter_map(|line| {
        Some((line["step"].as_u64()?, line.get("grad_norm").and(line["loss"].as_f64())?))
    });
    steps.collect()
}

fn weights(folder: &Path, name: &str, step: u64) -> Vec<u8> {
    let dir = folder.join("runs").join(name).join(format!("checkpoints/step_{step}"));
    fs::read(dir.join("model.safetensors")).unwrap()
}

fn ended(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_weights_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    demonstrations(folder, 40);
    let said = ended(sft(folder, "whole", &TINY).arg("--json").output().unwrap());
    let said: Value = serde_json::from_str(&said).unwrap();
    let steps = said["steps"].as_u64().unwrap();
    assert!(steps > 10, "{said}");
    assert!(said["last_loss"].as_f64() < said["first_loss"].as_f64(), "{said}");

    let mut killed = sft(folder, "killed", &TINY).stderr(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(killed.stderr.take().unwrap());
    // It works: the first step is told as soon as it is made.
    assert!(told.lines().any(|line| line.unwrap().starts_with("step 1/")));
    killed.kill().unwrap();
    killed.wait().unwrap();
    ended(sft(folder, "killed", &["--resume", "-q"]).output().unwrap());

    assert_eq!(weights(folder, "whole", steps), weights(folder, "killed", steps));
    let whole = losses(folder, "whole");
    assert_eq!(whole.len() as u64, steps);
    assert_eq!(losses(folder, "killed"), whole, "each step stands there once");
}

#[test]
fn a_checkpoint_is_a_policy_and_a_damaged_one_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    demonstrations(folder, 40);
    let more = [&TINY[..], &["--set", "lora.rank=2", "--set", "checkpoints.keep=9"]].concat();
    let said = ended(sft(folder, "r", &more).arg("--json").output().unwrap());
    let checkpoint = serde_json::from_str::<Value>(&said).unwrap()["checkpoint"].clone();
    let checkpoint = folder.join(checkpoint.as_str().unwrap());
    let policy = Policy::open(&checkpoint).unwrap();
    policy.load(&checkpoint, &candle_core::Device::Cpu).unwrap();
    assert!(checkpoint.join("adapters/adapter_model.safetensors").is_file());

    let weights = checkpoint.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let resumed = sft(folder, "r", &["--resume", "-q"]).output().unwrap();
    let told = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(told.contains("model.safetensors: expected SHA-256"), "{told}");
    ended(resumed);
}

#[test]
fn what_cannot_be_learnt_from_is_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = demonstrations(folder, 2);
    let file = data.join("1.1.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"prompt\"", "\"asked\"")).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    let cases = [
        (&["--from", "data", "--new"][..], "data/1.1.json: steps[0].extra.prompt: expected"),
        (&["--from", "empty", "--new"], "empty: expected a run with trajectories"),
        (&["--from", "nowhere", "--new"], "nowhere: expected a run's directory"),
        (&["--from", "data", "--base", "nowhere"], "nowhere/config.json: expected a file"),
        (&["--from", "data"], "policy.base: expected a policy: --base DIR, or --new"),
    ];
    for (args, expected) in cases {
        let output = sft(folder, "r", args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(expected), "{args:?}: {told}");
    }
    assert!(!folder.join("runs").exists());
}
