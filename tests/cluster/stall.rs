//! Backpressure: a coordinator that stands still makes nothing grow.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::chaos::{number, tasks};
use crate::lab::{Lab, Layout};
use crate::process::{LOOK_EVERY, PATIENCE, tail};

/// Of a node, whose coordinator takes nothing, in bytes.
const GROWTH_MAX: u64 = 16 << 20;

/// `ORCAPACK_CLUSTER_STALL_SEC` makes it longer, `ORCAPACK_CLUSTER_SLOTS` wider.
#[test]
fn a_coordinator_that_stands_still_makes_no_node_grow() {
    let stall = Duration::from_secs(number("ORCAPACK_CLUSTER_STALL_SEC", 5) as u64);
    let slots = number("ORCAPACK_CLUSTER_SLOTS", 8);
    let nodes = ["n1", "n2"];
    let layout =
        Layout { nodes: &nodes, slots, sandbox: "process", lease_sec: 5.0, tasks: &tasks(4) };
    let Some(mut lab) = Lab::new(&layout) else { return };
    lab.start_all(&nodes);
    let samples = (2 * slots).to_string();
    let eval = lab.eval(&["-k", &samples, "--set", "agent.think_sec=0.2"]);
    let ledger = lab.ledger();
    // Under full load, with everything in memory that is ever used.
    ledger.until("under way", "SELECT count(*) FROM results", slots as i64);

    let before: Vec<u64> = nodes.iter().map(|node| lab.node(node).resident()).collect();
    let coordinator_before = eval.resident();
    eval.signal(Signal::SIGSTOP);
    let (begin, mut peak) = (Instant::now(), before.clone());
    while begin.elapsed() < stall {
        for (peak, node) in peak.iter_mut().zip(nodes) {
            *peak = (*peak).max(lab.node(node).resident());
        }
        // Memory tells nobody that it grew: polled, for as long as the pause is to be.
        std::thread::sleep(LOOK_EVERY);
    }
    eval.signal(Signal::SIGCONT);
    let done = ledger.done();
    ledger.until("going on", "SELECT count(*) FROM results", done + 1);
    let coordinator_after = eval.resident();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for ((node, before), peak) in nodes.iter().zip(&before).zip(&peak) {
        eprintln!("{node}: {:.1} MiB, {:.1} MiB at most in {stall:?}", mib(*before), mib(*peak));
        assert!(*peak < before + GROWTH_MAX, "{node} grew from {before} to {peak}");
    }
    eprintln!(
        "coordinator: {:.1} MiB, then {:.1}",
        mib(coordinator_before),
        mib(coordinator_after)
    );
    assert!(coordinator_after < coordinator_before + GROWTH_MAX);
    let log = eval.log().to_owned();
    assert_eq!(eval.end(PATIENCE), 0, "{}", tail(&log));
    ledger.assert_each_passed_once(8 * slots);
    assert_eq!(lab.left(), Vec::<String>::new());
}
