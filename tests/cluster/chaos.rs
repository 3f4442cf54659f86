//! A run on a cluster under strikes: every rollout ends once, and nothing is left.
//!
//! The sizes are for a small machine's CI; `just chaos-cluster` sets larger ones by variables.
//! `ORCAPACK_SEED` repeats a draw: each test prints its own.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Layout};
use crate::measure;
use crate::process::{PATIENCE, Process, until_in};
use crate::program::{HONEST_SOLUTION, Task};
use crate::random::Random;
use crate::schedule::{Done, Plan, Schedule};

/// After the end of a run, what is left of it must be gone in this time.
const CLEAN_IN: Duration = Duration::from_secs(30);
const TASKS: usize = 4;

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
    clean_in: Duration,
    done: Done,
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
        assert_eq!(code, 0, "{}", crate::process::tail(&log));
        until_in(CLEAN_IN, &format!("clean: {:#?}", lab.left()), &log, || lab.left().is_empty());
        let clean_in = ended.elapsed();
        ledger.assert_each_passed_once(self.rollouts());
        measure::print(&lab, &done);
        for node in self.nodes {
            assert_eq!(
                lab.stop(node),
                0,
                "{}",
                crate::process::tail(&lab.path(&format!("{node}.log")))
            );
        }
        assert_eq!(lab.left(), Vec::<String>::new());
        Some(Went { wall, clean_in, done })
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
    let Some(Went { wall, clean_in, done }) = scenario.run(Some(&mut Random::seeded())) else {
        return;
    };
    eprintln!("{} kills: {wall:.1?}, clean after {clean_in:.1?}", done.kills.len());
}
