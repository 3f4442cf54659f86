//! `orcapack train` as a script sees it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use orcapack::store_rows;
use orcapack::train::metrics::History;
use orcapack_trainer::random;

use crate::policy::{Learnt, ended, orcapack};

fn weights(folder: &Path, name: &str, step: u64) -> Vec<u8> {
    let dir = folder.join("runs").join(name).join(format!("checkpoints/step_{step}"));
    fs::read(dir.join("model.safetensors")).unwrap()
}

fn batches(folder: &Path, name: &str) -> BTreeMap<u64, Vec<u32>> {
    store_rows::batches(&folder.join("runs").join(name).join("run.db")).unwrap()
}

fn history(folder: &Path, name: &str) -> History {
    History::read(&folder.join("runs").join(name).join("metrics.jsonl")).unwrap()
}

/// What of a run must not depend on the clock.
fn rewards(history: &History) -> Vec<(u64, f64, Option<f64>)> {
    let of = |step: &orcapack::train::metrics::Stepped| {
        (step.step, step.reward_mean, step.learnt.as_ref().map(|learnt| learnt.loss))
    };
    history.steps.iter().map(of).collect()
}

#[test]
fn a_run_is_the_same_each_time_and_leaves_a_policy_and_a_report() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "");
    for name in ["one", "two"] {
        ended(
            orcapack(folder, &["train", "-c", "run.toml", "--name", name, "-q"]).output().unwrap(),
        );
    }
    assert_eq!(weights(folder, "one", 6), weights(folder, "two", 6));
    assert_ne!(weights(folder, "one", 2), weights(folder, "one", 6));
    let (one, two) = (history(folder, "one"), history(folder, "two"));
    assert_eq!(rewards(&one), rewards(&two));
    assert_eq!(one.evaluations, two.evaluations);
    let evaluated: Vec<u64> = one.evaluations.iter().map(|it| it.step).collect();
    assert_eq!(evaluated, [0, 3, 6]);
    assert!(one.steps.iter().any(|step| step.learnt.is_some()), "there was something to learn");
    assert!(one.steps.iter().all(|step| step.staleness_max == 0), "synchronous");
    let batches = batches(folder, "one");
    let consumed: Vec<u32> = batches.values().flatten().copied().collect();
    let first = consumed[0];
    assert_eq!(consumed, (first..first + 48).collect::<Vec<_>>(), "each rollout once, in order");
    let report = fs::read_to_string(folder.join("runs/one/report.html")).unwrap();
    assert!(report.contains("<svg"));
    let checkpoint = folder.join("runs/one/checkpoints/step_6");
    orcapack_trainer::policy::Policy::open(&checkpoint).unwrap();
    evaluations_can_be_compared(folder, &one);
}

/// Each is read from the ledger as it was told when it was made.
fn evaluations_can_be_compared(folder: &Path, history: &History) {
    let line =
        ["compare", "runs/one@first", "runs/one@3", "both=runs/one@last,runs/two@6", "--json"];
    let told = ended(orcapack(folder, &line).output().unwrap());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let names: Vec<&str> =
        told["arms"].as_array().unwrap().iter().map(|arm| arm["arm"].as_str().unwrap()).collect();
    assert_eq!(names, ["one@0", "one@3", "both"]);
    for (arm, evaluated) in told["arms"].as_array().unwrap().iter().zip(&history.evaluations) {
        let mean = arm["pass_at_1"]["mean"].as_f64().unwrap();
        assert!((mean - evaluated.held_out.share.unwrap()).abs() < 1e-9, "{arm} {evaluated:?}");
        assert_eq!(arm["attempts"], serde_json::json!([2, 2]));
    }
    assert_eq!(told["arms"][2]["spread"], 0.0, "the runs are the same");
    assert_eq!(told["notes"], serde_json::json!([]));
    for (run, said) in [
        ("runs/one@4", "found steps 0, 3, 6"),
        ("runs/one", "expected an evaluation of a run of train"),
    ] {
        let refused = orcapack(folder, &["compare", run]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(stderr.contains(said), "{stderr}");
    }
    let line = ["eval", "-d", "held-out", "--policy", "runs/one", "--dry-run"];
    let held_out = Learnt::get().held_out();
    let line = line.map(|word| if word == "held-out" { held_out.to_str().unwrap() } else { word });
    let dry = orcapack(folder, &line).output().unwrap();
    let (config, said) = (ended(dry.clone()), String::from_utf8_lossy(&dry.stderr).into_owned());
    assert!(config.contains("runs/one/checkpoints/step_6"), "{config}");
    let newest = "checkpoints/step_6, the newest of";
    let other = "trained with team.prompts = compact, not ";
    assert!(said.contains(newest) && said.contains(other), "{said}");
}

#[test]
fn a_learning_rate_of_zero_leaves_the_weights_as_they_are() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "");
    let still = ["train", "-c", "run.toml", "--name", "r", "-q", "--set", "train.lr=0"];
    ended(orcapack(folder, &still).output().unwrap());
    assert_eq!(weights(folder, "r", 2), weights(folder, "r", 6));
}

/// Of the curriculum too, whose choices follow from the batches.
#[test]
fn ac5_a_run_that_is_killed_ten_times_ends_with_the_same_batches_and_weights() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "[curriculum]\nenabled = true\nmax = 3\nof = 4\n");
    ended(
        orcapack(folder, &["train", "-c", "run.toml", "--name", "whole", "-q"]).output().unwrap(),
    );
    let mut begin = vec!["train", "-c", "run.toml", "--name", "killed", "-vv"];
    for life in 0..10 {
        let lines = random::below(11, life, 60) as usize;
        let mut program = orcapack(folder, &begin).stderr(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(program.stderr.take().unwrap());
        let said = told.lines().map_while(Result::ok).take(lines).count();
        program.kill().unwrap();
        program.wait().unwrap();
        eprintln!("life {life} was killed behind line {said}");
        if folder.join("runs/killed/run.db").exists() {
            begin = vec!["train", "--name", "killed", "--resume", "-vv"];
        }
    }
    ended(orcapack(folder, &["train", "--name", "killed", "--resume", "-q"]).output().unwrap());
    assert_eq!(batches(folder, "killed"), batches(folder, "whole"));
    assert_eq!(weights(folder, "killed", 6), weights(folder, "whole", 6));
    let (killed, whole) = (history(folder, "killed"), history(folder, "whole"));
    assert_eq!(rewards(&killed), rewards(&whole));
    assert_eq!(killed.evaluations, whole.evaluations);
    let pools = |history: &History| {
        history.steps.iter().map(|step| step.curriculum.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(pools(&killed), pools(&whole));
    assert!(pools(&whole).iter().any(|pools| pools.in_band > 0 && pools.in_band < 4));
}

#[test]
fn rollouts_may_lie_behind_within_their_bound() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "");
    let behind = ["train", "-c", "run.toml", "--name", "r", "-q"];
    let settings = ["--set", "train.max_off_policy_steps=2", "--set", "ranks.shard_optimizer=true"];
    ended(orcapack(folder, &[&behind[..], &settings].concat()).output().unwrap());
    let history = history(folder, "r");
    assert_eq!(history.steps.len(), 6);
    assert!(history.steps.iter().all(|step| step.staleness_max <= 2));
}

#[test]
fn a_run_that_is_interrupted_is_drained_and_goes_on() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "");
    let mut run = orcapack(folder, &["train", "-c", "run.toml", "--name", "r"]);
    let mut run = run.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(told.any(|line| line.starts_with("step 1/")));
    let pid = nix::unistd::Pid::from_raw(run.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let said: Vec<String> = told.collect();
    assert_eq!(run.wait().unwrap().code(), Some(130), "{said:?}");
    assert!(said.iter().any(|line| line.contains("--name r --resume")), "{said:?}");
    ended(orcapack(folder, &["train", "--name", "r", "--resume", "-q"]).output().unwrap());
    assert_eq!(history(folder, "r").steps.len(), 6);
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_made() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    learnt.run_file(folder, "");
    let tasks = learnt.tasks();
    let held_out = format!("evaluation.dataset={:?}", tasks.to_str().unwrap());
    let cases: [(&[&str], &str); 6] = [
        (&["--set", "train.steps=0"], "train.steps"),
        (&["--set", "loss.tis_cap=2.0"], "train.old_logprobs"),
        (&["--set", "agent.kind=\"nop\""], "team, whose orchestrator is trained"),
        (&["--set", &held_out], "which is trained on"),
        (&["--base", "absent"], "absent"),
        (&["--set", "ranks.count=0"], "ranks.count"),
    ];
    for (more, expected) in cases {
        let all = [&["train", "-c", "run.toml", "--name", "r"][..], more].concat();
        let output = orcapack(folder, &all).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {told}");
        assert!(told.contains(expected), "{more:?}: {told}");
        assert!(!folder.join("runs").exists(), "{more:?}");
    }
}
