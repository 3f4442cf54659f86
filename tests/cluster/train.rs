//! Training with rollouts and ranks on the nodes of a cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use orcapack::train::metrics::History;

use crate::lab::{Lab, Layout};
use crate::policy::Learnt;
use crate::process::{Process, read, tail, until_in};

/// Debug builds compute slowly.
const PATIENCE: Duration = Duration::from_secs(600);

const ON_NODES: [&str; 4] = ["--cluster", "cluster.toml", "--set", "ranks.nodes=[\"n1\", \"n2\"]"];

fn lab() -> Option<Lab> {
    let nodes = &["n1", "n2"];
    let layout = Layout { nodes, slots: 4, sandbox: "process", lease_sec: 2.0, tasks: &[] };
    let lab = Lab::new(&layout)?;
    Learnt::get().run_file(&lab.path(""), "");
    Some(lab)
}

/// A run file's training on the cluster, or here.
fn train(lab: &Lab, name: &str, steps: &str, more: &[&str]) -> Process {
    let args = ["train", "-c", "run.toml", "--name", name, "--steps", steps];
    lab.program(name, &[&args[..], &["--set", "checkpoints.every_steps=1"], more].concat())
}

fn end(process: Process) {
    let log = process.log().to_owned();
    assert_eq!(process.end(PATIENCE), 0, "{}", tail(&log));
}

fn checkpoint(lab: &Lab, name: &str, step: u64) -> PathBuf {
    lab.path(&format!("runs/{name}/checkpoints/step_{step}/model.safetensors"))
}

#[test]
fn ranks_and_rollouts_on_nodes_train_the_policy_that_one_machine_trains() {
    let Some(mut lab) = lab() else { return };
    end(train(&lab, "here", "3", &[]));
    lab.start_all(&["n1", "n2"]);
    end(train(&lab, "there", "3", &ON_NODES));
    let [here, there] = ["here", "there"].map(|name| {
        let history = History::read(&lab.path(&format!("runs/{name}/metrics.jsonl"))).unwrap();
        (history.evaluations, fs::read(checkpoint(&lab, name, 3)).unwrap())
    });
    assert_eq!(here.0, there.0);
    assert!(here.1 == there.1, "other weights");
    assert!(here.1 != fs::read(checkpoint(&lab, "here", 1)).unwrap(), "nothing was learnt");
    for node in ["n1", "n2"] {
        let log = lab.node(node).log();
        assert!(read(log).contains("a rank begins to live here"), "{}", tail(log));
    }
    // One that is killed gives its checkpoint to new ranks, which do not have it.
    let killed = train(&lab, "killed", "3", &ON_NODES);
    let log = killed.log().to_owned();
    until_in(PATIENCE, "a checkpoint", &log, || checkpoint(&lab, "killed", 1).exists());
    killed.kill();
    end(train(&lab, "killed", "3", &[&ON_NODES[..], &["--resume"]].concat()));
    assert!(here.1 == fs::read(checkpoint(&lab, "killed", 3)).unwrap(), "other weights");
}

#[test]
fn a_run_goes_on_when_a_node_with_a_rank_is_killed() {
    let Some(mut lab) = lab() else { return };
    lab.start_all(&["n1", "n2"]);
    let mut run = train(&lab, "run", "6", &ON_NODES);
    let log = run.log().to_owned();
    until_in(PATIENCE, "a checkpoint", &log, || checkpoint(&lab, "run", 1).exists());
    assert_eq!(run.ended(), None, "{}", tail(&log));
    lab.kill("n2");
    end(run);
    assert!(checkpoint(&lab, "run", 6).exists());
    let history = History::read(&lab.path("runs/run/metrics.jsonl")).unwrap();
    assert_eq!(history.steps.len(), 6);
    let learnt: Vec<u64> =
        history.steps.iter().filter_map(|step| Some(step.learnt.as_ref()?.world_size)).collect();
    assert_eq!((learnt.first(), learnt.last()), (Some(&2), Some(&1)));
}
