//! A run on a cluster under strikes: every rollout ends once, and nothing is left.
//!
//! The sizes are for a small machine's CI; `just chaos-cluster` sets larger ones by variables.
//! `ORCAPACK_SEED` repeats a draw: each test prints its own. `ORCAPACK_KEEP` keeps the folders with
//! the logs and the ledger, and `ORCAPACK_BINARY` is another build of the program to try.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Layout};
use crate::measure::{self, percentile};
use crate::process::{PATIENCE, Process, tail, until_in};
use crate::program::{HONEST_SOLUTION, Task};
use crate::random::Random;
use crate::schedule::{Done, Plan, Schedule};

/// After the end of a run, what is left of it must be gone in this time.
const CLEAN_IN: Duration = Duration::from_secs(30);
const TASKS: usize = 4;
/// From the kill of a node, of 99 in 100.
const NOTICED_MS_MAX: i64 = 3000;
const PLACED_MS_MAX: i64 = 15_000;

/// A run, and what is done to it.
struct Scenario<'a> {
    nodes: &'a [&'a str],
    slots: usize,
    sandbox: &'a str,
    lease_sec: f64,
    /// Of each task.
    samples: usize,
    think_sec: f64,
    plan: Plan,
}

/// How a run went.
struct Went {
    wall: Duration,
    /// Sorted: from each kill of a node until the coordinator knew.
    noticed_ms: Vec<i64>,
    /// Sorted: from each kill of a node to the next attempt at each rollout that it had.
    placed_ms: Vec<i64>,
}

pub fn number(name: &str, default: usize) -> usize {
    let said = std::env::var(name).ok().filter(|value| !value.is_empty());
    said.map_or(default, |value| value.parse().expect("a number"))
}

pub fn tasks(count: usize) -> Vec<Task> {
    (0..count).map(|n| Task::new(&format!("passes-{n}"), HONEST_SOLUTION)).collect()
}

impl Scenario<'_> {
    fn rollouts(&self) -> usize {
        TASKS * self.samples
    }

    fn args(&self) -> Vec<String> {
        let think = format!("agent.think_sec={}", self.think_sec);
        let concurrent = self.nodes.len() * self.slots;
        // Pure bad luck must not end a rollout of a test.
        let lost = "retries.node_lost=100";
        ["-k", &self.samples.to_string(), "-n", &concurrent.to_string(), "--json"]
            .into_iter()
            .chain(["--set", &think, "--set", lost])
            .map(str::to_owned)
            .collect()
    }

    fn eval(&self, lab: &Lab, resume: bool) -> Process {
        let mut args = self.args();
        args.extend(resume.then(|| "--resume".to_owned()));
        lab.eval(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `None` where there can be no cluster.
    fn run(&self, random: Option<&mut Random>) -> Option<Went> {
        let mut lab = Lab::new(&Layout {
            nodes: self.nodes,
            slots: self.slots,
            sandbox: self.sandbox,
            lease_sec: self.lease_sec,
            tasks: &tasks(TASKS),
        })?;
        lab.start_all(self.nodes);
        let begin = Instant::now();
        let eval = self.eval(&lab, false);
        let ledger = lab.ledger();
        ledger.until("assigned", "SELECT count(*) FROM attempts", 1);
        let (eval, done) = match random {
            None => (eval, Done::default()),
            Some(random) => {
                let schedule = Schedule::draw(&self.plan, self.nodes, random);
                schedule.carry_out(&mut lab, eval, |lab| self.eval(lab, true))
            }
        };
        let log = eval.log().to_owned();
        let code = eval.end(PATIENCE.max(self.plan.span));
        let (wall, ended) = (begin.elapsed(), Instant::now());
        assert_eq!(code, 0, "{}", tail(&log));
        until_in(CLEAN_IN, "clean", &log, || lab.left().is_empty());
        eprintln!("{wall:.1?}, and clean {:.1?} after it", ended.elapsed());
        let (noticed_ms, placed_ms) = measure::kills(&lab, &done);
        ledger.assert_each_passed_once(self.rollouts());
        ledger.assert_lost_with_nodes_only();
        for node in self.nodes {
            assert_eq!(lab.stop(node), 0, "{}", tail(&lab.path(&format!("{node}.log"))));
        }
        assert_eq!(lab.left(), Vec::<String>::new());
        Some(Went { wall, noticed_ms, placed_ms })
    }
}

#[test]
fn ac1_ac2_ac6_nodes_and_coordinators_die_and_every_rollout_ends_once() {
    let scenario = Scenario {
        nodes: &["n1", "n2", "n3"],
        slots: 8,
        sandbox: "process",
        lease_sec: 2.0,
        samples: 25,
        think_sec: 2.0,
        plan: Plan {
            node_kills: 3,
            coordinator_kills: 1,
            pauses: 1,
            cuts: 1,
            span: Duration::from_secs(9),
            outage_ms: (3000, 4000),
            restart_ms: (200, 1500),
        },
    };
    scenario.run(Some(&mut Random::seeded()));
}

/// The nodes share the engine: what one sweeps must not be the other's.
#[test]
fn so_they_do_over_containers_of_one_engine() {
    if !engine_answers() {
        return;
    }
    let scenario = Scenario {
        nodes: &["n1", "n2"],
        slots: 4,
        sandbox: "docker",
        lease_sec: 2.0,
        samples: 8,
        think_sec: 3.0,
        plan: Plan {
            node_kills: 4,
            coordinator_kills: 0,
            pauses: 0,
            cuts: 0,
            span: Duration::from_secs(10),
            outage_ms: (0, 0),
            restart_ms: (200, 1500),
        },
    };
    scenario.run(Some(&mut Random::seeded()));
}

fn engine_answers() -> bool {
    let answers = Command::new("docker").arg("version").output();
    let answers = answers.is_ok_and(|output| output.status.success());
    if !answers {
        eprintln!("skipped: no Docker engine answers");
    }
    answers
}

/// `ORCAPACK_CLUSTER_SEC` says for how long strikes are made; without it there is nothing to see.
#[test]
fn at_length() {
    let seconds = number("ORCAPACK_CLUSTER_SEC", 0);
    if seconds == 0 {
        return eprintln!("skipped: `just chaos-cluster` runs it");
    }
    let scenario = Scenario {
        nodes: &["n1", "n2", "n3", "n4"],
        slots: number("ORCAPACK_CLUSTER_SLOTS", 64),
        sandbox: "process",
        lease_sec: 5.0,
        samples: number("ORCAPACK_CLUSTER_ROLLOUTS", 2560) / TASKS,
        think_sec: number("ORCAPACK_CLUSTER_THINK_SEC", 25) as f64,
        plan: Plan {
            node_kills: number("ORCAPACK_CLUSTER_KILLS", 12),
            coordinator_kills: number("ORCAPACK_CLUSTER_COORDINATOR_KILLS", 3),
            pauses: number("ORCAPACK_CLUSTER_PAUSES", 6),
            cuts: number("ORCAPACK_CLUSTER_CUTS", 6),
            span: Duration::from_secs(seconds as u64),
            outage_ms: (5000, 20_000),
            restart_ms: (500, 8000),
        },
    };
    let Some(struck) = scenario.run(Some(&mut Random::seeded())) else { return };
    let noticed = percentile(&struck.noticed_ms, 99);
    let placed = percentile(&struck.placed_ms, 99);
    assert!(noticed.is_some_and(|ms| ms <= NOTICED_MS_MAX), "noticed: {noticed:?} ms");
    assert!(placed.is_some_and(|ms| ms <= PLACED_MS_MAX), "begun again: {placed:?} ms");
    let Some(whole) = scenario.run(None) else { return };
    let ratio = struck.wall.as_secs_f64() / whole.wall.as_secs_f64();
    eprintln!("{:.1?}, undisturbed {:.1?}: {ratio:.2} times", struck.wall, whole.wall);
}
