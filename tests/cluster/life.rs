//! Nodes that come and go in order while a run goes on, and coordinators that do not.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::chaos::tasks;
use crate::lab::{Lab, Layout};
use crate::network::Cut;
use crate::process::{PATIENCE, read, tail, until};

const RUNNING: &str = "SELECT count(*) FROM attempts WHERE state = 'assigned'";

fn lab(nodes: &[&str], slots: usize) -> Option<Lab> {
    let tasks = &tasks(4);
    Lab::new(&Layout { nodes, slots, sandbox: "process", lease_sec: 2.0, tasks })
}

fn running_on(node: &str) -> String {
    format!("{RUNNING} AND node = '{node}'")
}

#[test]
fn nodes_join_drain_and_leave_while_a_run_goes_on() {
    let Some(mut lab) = lab(&["n1", "n2", "n3"], 4) else { return };
    lab.start_all(&["n1", "n2"]);
    let mut args = vec!["-k", "32", "-n", "12", "--set", "agent.think_sec=0.5"];
    let eval = lab.eval(&args);
    let (ledger, log) = (lab.ledger(), eval.log().to_owned());
    ledger.until("full", &running_on("n1"), 4);

    lab.ask(&["node", "drain", "n1", "--cluster", "cluster.toml"]);
    until("empty", &log, || ledger.count(&running_on("n1")) == 0);
    let drained_at = ledger.assigned_to("n1");
    lab.start_all(&["n3"]);
    until("joined", &log, || ledger.assigned_to("n3") >= 4);
    assert_eq!(ledger.assigned_to("n1"), drained_at, "it gets nothing while it drains");
    assert_eq!(lab.status("n1").unwrap()["status"]["draining"], true);

    lab.ask(&["node", "drain", "n1", "--cluster", "cluster.toml", "--undo"]);
    until("taken again", &log, || ledger.assigned_to("n1") > drained_at);

    // It ends what it has, and goes.
    assert_eq!(lab.stop("n2"), 0, "{}", tail(&lab.path("n2.log")));
    assert_eq!(ledger.count(&running_on("n2")), 0);
    let left_at = ledger.assigned_to("n2");
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    assert_eq!(ledger.assigned_to("n2"), left_at);
    ledger.assert_each_passed_once(128);
    let failed = ledger.attempts().into_iter().filter(|attempt| attempt.class.is_some());
    assert_eq!(failed.collect::<Vec<_>>(), [], "nothing is lost by it");
    assert_eq!(lab.left(), Vec::<String>::new());

    // Over the same ledger there is nothing more to do.
    args.push("--resume");
    assert_eq!(lab.eval(&args).end(PATIENCE), 0);
}

#[test]
fn a_node_that_is_told_twice_to_end_gives_back_what_it_has() {
    let Some(mut lab) = lab(&["n1", "n2"], 4) else { return };
    lab.start_all(&["n1", "n2"]);
    let eval = lab.eval(&["-k", "3", "--set", "agent.think_sec=2"]);
    let (ledger, log) = (lab.ledger(), eval.log().to_owned());
    ledger.until("full", &running_on("n2"), 4);
    let leaving = lab.path("n2.log");
    lab.node("n2").signal(Signal::SIGTERM);
    until("draining", &leaving, || read(&leaving).contains("draining for up to"));
    let begin = Instant::now();
    assert_eq!(lab.stop("n2"), 0, "{}", tail(&leaving));
    assert!(begin.elapsed() < Duration::from_secs(20), "{}", tail(&leaving));
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    ledger.assert_each_passed_once(12);
    let lost = ledger.attempts().into_iter().filter(|attempt| attempt.class.is_some());
    assert!(lost.clone().all(|attempt| attempt.node == "n2"), "{:?}", lost.collect::<Vec<_>>());
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn a_coordinator_that_is_killed_takes_back_what_runs_and_loses_none() {
    let Some(mut lab) = lab(&["n1", "n2"], 8) else { return };
    lab.start_all(&["n1", "n2"]);
    let mut args = vec!["-k", "8", "--set", "agent.think_sec=3"];
    let eval = lab.eval(&args);
    let ledger = lab.ledger();
    ledger.until("full", RUNNING, 16);
    let log = lab.run_log();
    // All are there: an order that is on disk and was not sent is lost with the coordinator.
    until("up", &log, || lab.environments() == 16);
    eval.kill();
    args.push("--resume");
    let eval = lab.eval(&args);
    let said = eval.log().to_owned();
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&said));
    ledger.assert_each_passed_once(32);
    let again = ledger.attempts().into_iter().filter(|attempt| attempt.attempt > 1);
    assert_eq!(again.collect::<Vec<_>>(), []);
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn ac3_a_run_ends_while_a_node_is_cut_off_which_stops_and_cleans_up_by_itself() {
    let Some(mut lab) = lab(&["n1", "n2"], 4) else { return };
    lab.start_all(&["n1", "n2"]);
    let args = ["-k", "4", "--set", "agent.think_sec=2"];
    let eval = lab.eval(&args);
    let (ledger, log) = (lab.ledger(), eval.log().to_owned());
    ledger.until("full", &running_on("n2"), 4);
    lab.network.cut("n2", Cut::Off);
    // Nobody has told it anything.
    let away = lab.path("n2.log");
    until("stopped", &away, || read(&away).contains("the lease has ended"));
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    assert!(read(&log).contains("waiting for node n2"), "{}", tail(&log));
    ledger.assert_each_passed_once(16);
    until("clean", &away, || lab.left().is_empty());

    // Records that nobody will come for keep it from nothing.
    let begin = Instant::now();
    assert_eq!(lab.stop("n2"), 0, "{}", tail(&away));
    assert!(begin.elapsed() < Duration::from_secs(20), "{}", tail(&away));
    lab.network.heal("n2", Cut::Off);
    lab.start("n2");
    let eval = lab.eval(&[&args[..], &["--clean"]].concat());
    until("back", &log, || ledger.assigned_to("n2") > 0);
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    ledger.assert_each_passed_once(16);
    for node in ["n1", "n2"] {
        assert_eq!(lab.stop(node), 0, "{}", tail(&lab.path(&format!("{node}.log"))));
    }
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn ac3_a_node_that_stood_still_to_the_end_of_the_run_cleans_up_when_it_wakes() {
    let Some(mut lab) = lab(&["n1", "n2"], 4) else { return };
    lab.start_all(&["n1", "n2"]);
    let eval = lab.eval(&["-k", "3", "--set", "agent.think_sec=1"]);
    let (ledger, log) = (lab.ledger(), eval.log().to_owned());
    ledger.until("full", &running_on("n2"), 4);
    lab.node("n2").signal(Signal::SIGSTOP);
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    ledger.assert_each_passed_once(12);
    lab.node("n2").signal(Signal::SIGCONT);
    let asleep = lab.path("n2.log");
    until("stopped", &asleep, || read(&asleep).contains("the lease has ended"));
    until("clean", &asleep, || lab.left().is_empty());
    for node in ["n1", "n2"] {
        assert_eq!(lab.stop(node), 0, "{}", tail(&lab.path(&format!("{node}.log"))));
    }
}

#[test]
fn a_run_that_is_interrupted_leaves_its_nodes_clean_and_can_be_resumed() {
    let Some(mut lab) = lab(&["n1", "n2"], 4) else { return };
    lab.start_all(&["n1", "n2"]);
    let mut args = vec!["-k", "6", "--set", "agent.think_sec=1"];
    let eval = lab.eval(&args);
    let (ledger, log) = (lab.ledger(), eval.log().to_owned());
    ledger.until("full", RUNNING, 8);
    eval.signal(Signal::SIGTERM);
    until("drains", &log, || read(&log).contains("draining"));
    eval.signal(Signal::SIGTERM);
    assert_eq!(eval.end(Duration::from_secs(20)), 130, "{}", tail(&log));
    // An image that is being built is the node's, and of use to the next run.
    until("clean", &log, || lab.left().is_empty());
    args.push("--resume");
    assert_eq!(lab.eval(&args).end(PATIENCE), 0, "{}", tail(&log));
    ledger.assert_each_passed_once(24);
    assert_eq!(lab.left(), Vec::<String>::new());
}

/// One that is not there is named, with what is wrong and since when.
#[test]
fn a_run_waits_for_its_nodes_and_ends_without_the_one_that_never_comes() {
    let Some(mut lab) = lab(&["n1", "n2"], 4) else { return };
    let eval = lab.eval(&["-k", "4"]);
    let log = eval.log().to_owned();
    until("waiting", &log, || {
        let said = read(&log);
        ["n1", "n2"].iter().all(|node| said.contains(&format!("waiting for node {node}: no link")))
    });
    lab.start("n1");
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    lab.ledger().assert_each_passed_once(16);
    assert_eq!(lab.left(), Vec::<String>::new());
    let output = lab.status_table();
    assert!(output.contains("unreachable"), "{output}");
}

#[test]
fn a_node_whose_identity_was_cloned_is_fenced_and_leaves_nothing() {
    let Some(mut lab) = lab(&["n1", "n2", "n3"], 4) else { return };
    lab.start_all(&["n1", "n2"]);
    let eval = lab.eval(&["-k", "8", "-n", "8", "--set", "agent.think_sec=1"]);
    let (ledger, log) = (lab.ledger(), eval.log().to_owned());
    ledger.until("full", &running_on("n1"), 4);
    let cloned = lab.path("n3/state/orcapack/lab/n1");
    fs::create_dir_all(&cloned).unwrap();
    for file in fs::read_dir(lab.path("n1/state/orcapack/lab/n1")).unwrap().flatten() {
        fs::copy(file.path(), cloned.join(file.file_name())).unwrap();
    }
    let clone = lab.start_as("n1", "n3");
    assert_eq!(lab.end("n1"), 8, "{}", tail(&lab.path("n1.log")));
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    ledger.assert_each_passed_once(32);
    assert_eq!(lab.left(), Vec::<String>::new());
    clone.signal(Signal::SIGTERM);
    assert_eq!(clone.end(PATIENCE), 0);
}
