//! What a team costs us beside its models and its environment: a turn, a live team, an answer read,
//! an agent taken over.
//!
//! Teams of scripted models over the `fake` driver, with everything else as in `orcapack eval -a
//! team`: actors, gateways, a SQLite ledger on disk, trajectories, logs and metrics. A team is an
//! orchestrator, two explorers side by side and a coder, nine turns in all. Samples are processes
//! of their own and sizes are interleaved; the cost is CPU time, of which the least counts, as in
//! `rollouts.rs`.
//!
//! `cargo bench --bench agents`; behind `--`, the name of a table shows that one alone: `turns`,
//! `reading`, `live` or `takeover`.

#[path = "support/answers.rs"]
mod answers;
#[path = "support/samples.rs"]
mod samples;
#[expect(dead_code, reason = "the scenarios of the tests use more of it")]
#[path = "../tests/support/mod.rs"]
mod support;
#[expect(dead_code, reason = "the scenarios of the tests use more of it")]
#[path = "../tests/support/team.rs"]
mod team;
#[path = "support/usage.rs"]
mod usage;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack::metrics_log::Metrics;
use orcapack::work::RunEnd;
use orcapack_actors::agent::Solver;
use orcapack_actors::fake::FakeDriver;
use orcapack_actors::model::{Answer, Model, ModelError, Request};
use orcapack_actors::sandbox::Swept;
use orcapack_actors::team::action::CoderAction;
use orcapack_actors::team::agent::{Agent, Step};
use orcapack_actors::team::record::AgentId;
use orcapack_actors::team::settings::TeamSettings;
use samples::{in_a_process, least, median, records_folder};
use support::Scenario;
use team::{Scripted, explore_then_solve};
use tokio::sync::watch;
use usage::{cpu_sec, load_average, memory_bytes};

/// Teams side by side, and how many work in one sample.
const SIZES: [(usize, usize); 5] = [(1, 256), (64, 256), (256, 512), (1024, 1024), (4096, 4096)];
const ROUNDS: usize = 3;
/// The size that others are compared with.
const BASE: usize = 256;
/// Model calls of one team.
const TURNS: usize = 9;
/// Far more than 4,096 teams need together: no clock ends one.
const STEP_LIMIT: Duration = Duration::from_secs(3600);
/// How long one thing is done again and again to know what it costs.
const REPEATED_SEC: f64 = 0.5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["sample", kind, slots, teams] = arguments[..] {
        let number = |text: &str| text.parse().expect("a number that our own parent wrote");
        return match kind {
            "turns" => println!("{}", sample_turns(number(slots), number(teams))),
            _ => println!("{}", sample_live(number(slots))),
        };
    }
    let tables: [(&str, fn()); 4] =
        [("reading", reading), ("takeover", takeover), ("live", live), ("turns", turns)];
    println!("load average before: {}", load_average());
    for (name, table) in tables {
        let is_named = |name| arguments.contains(&name);
        if is_named(name) || !tables.iter().any(|(other, _)| is_named(other)) {
            table();
        }
    }
    println!("\nload average after: {}", load_average());
}

fn turns() {
    println!("\nTurns of teams side by side ({ROUNDS} rounds)");
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); SIZES.len()];
    for _ in 0..ROUNDS {
        for ((slots, teams), samples) in SIZES.into_iter().zip(&mut samples) {
            samples.extend(sample("turns", slots, teams));
        }
    }
    let us = |sample: &f64| sample * 1e6;
    let base = SIZES.iter().position(|(slots, _)| *slots == BASE).expect("the base is a size");
    let base_us = least(&samples[base], us);
    println!(
        "{:>12} {:>9} {:>24} {:>10}",
        "side by side", "turns", "CPU us/turn min (med)", "x of 256"
    );
    for ((slots, teams), samples) in SIZES.into_iter().zip(&samples) {
        let least = least(samples, us);
        println!(
            "{slots:>12} {:>9} {:>24} {:>10.2}",
            teams * TURNS,
            format!("{least:.0} ({:.0})", median(samples, us)),
            least / base_us,
        );
    }
}

fn live() {
    println!("\nLive teams, of each an orchestrator and two explorers that wait for their model");
    println!("{:>12} {:>12}", "side by side", "KiB/team");
    for slots in [BASE, 1024, 4096] {
        let kib = least(&sample("live", slots, slots), |bytes| bytes / 1024.0);
        println!("{slots:>12} {kib:>12.1}");
    }
}

fn reading() {
    println!("\nActions read from answers");
    println!("{:>28} {:>10} {:>12} {:>10}", "", "bytes each", "actions/s", "MB/s");
    for kind in answers::kinds() {
        let bytes: usize = kind.answers.iter().map(|(_, text)| text.len()).sum();
        let actions: usize = kind.answers.iter().map(answers::actions).sum();
        let sec = repeated(|| {
            kind.answers
                .iter()
                .for_each(|answer| assert!(black_box(answers::actions(answer)) < 100));
        });
        println!(
            "{:>28} {:>10} {:>12.0} {:>10.1}",
            kind.name,
            bytes / actions,
            actions as f64 / sec,
            bytes as f64 / sec / 1e6,
        );
    }
}

fn takeover() {
    println!("\nAn agent made anew from its record, up to its next call");
    println!("{:>12} {:>12}", "turns", "CPU us");
    for turns in [answers::TURNS / 5, answers::TURNS] {
        let record = answers::conversation(turns);
        let settings = Arc::new(TeamSettings::default());
        let sec = repeated(|| {
            let entries = record.iter().map(|entry| &**entry);
            let agent = Agent::<CoderAction>::replay(AgentId(2), settings.clone(), entries);
            let step = agent.next(Duration::ZERO);
            assert!(matches!(black_box(step), Step::Call { .. }), "it waits for its answer");
        });
        println!("{turns:>12} {:>12.0}", sec * 1e6);
    }
}

/// CPU seconds of one time, the least of several rounds.
fn repeated(mut work: impl FnMut()) -> f64 {
    let mut round = || {
        let (begin, mut times) = (cpu_sec(), 0);
        while cpu_sec() - begin < REPEATED_SEC {
            work();
            times += 1;
        }
        (cpu_sec() - begin) / f64::from(times)
    };
    let rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    least(&rounds, |sec| *sec)
}

fn sample(kind: &str, slots: usize, teams: usize) -> Vec<f64> {
    in_a_process(&["sample".into(), kind.into(), slots.to_string(), teams.to_string()])
}

/// CPU seconds for each turn of `teams`, with room for `slots` at a time.
fn sample_turns(slots: usize, teams: usize) -> f64 {
    let cpu_sec = run(slots, teams, true).cpu_sec;
    cpu_sec / (teams * TURNS) as f64
}

/// Bytes of memory for each team that waits for its explorers' models.
fn sample_live(teams: usize) -> f64 {
    run(teams, teams, false).rss_growth_bytes as f64 / teams as f64
}

struct Used {
    cpu_sec: f64,
    /// When all explorers waited; 0 where they did not have to.
    rss_growth_bytes: u64,
}

/// Runs teams to their end. Where `answers` is not set, no explorer is answered before all wait.
fn run(slots: usize, teams: usize, answers: bool) -> Used {
    Metrics::new().install().expect("no other recorder");
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    let (dir, records) = (tempfile::tempdir().expect("a scratch folder"), records_folder());
    let (gate, seen) = watch::channel(answers);
    let ([orchestrator, explorer, coder], _) =
        Scripted::team(Arc::new(explore_then_solve), Duration::ZERO);
    let explorer: Arc<dyn Model> = Arc::new(Gated { model: explorer, gate: seen });
    let mut run = Scenario::new(dir.path(), 0, 1, slots);
    run.tasks = (0..teams).map(|number| Arc::new(patient(number))).collect();
    let models = Some([orchestrator, explorer, coder]);
    let records = Some(records.path());
    let run = Scenario { agent: Solver::Team, starts: slots, records, models, ..run };
    let driver = FakeDriver::default();
    let (rss, cpu) = (memory_bytes("VmRSS"), cpu_sec());
    let (end, swept, rss_growth_bytes) = runtime.block_on(async {
        let node = run.start(&driver).await;
        let mut rss_growth_bytes = 0;
        if !answers {
            still().await;
            rss_growth_bytes = memory_bytes("VmRSS").saturating_sub(rss);
            gate.send_replace(true);
        }
        (node.wait_end().await, node.stop().await.expect("the engine answers"), rss_growth_bytes)
    });
    let cpu_sec = cpu_sec() - cpu;
    let ended = run.ended(end, swept);
    assert_eq!((ended.end, ended.swept), (RunEnd::Complete, Swept::default()));
    assert!(ended.results.iter().all(|row| row.outcome.reward() == Some(1.0)));
    assert_eq!((ended.results.len(), ended.attempts.len()), (teams, teams), "one attempt each");
    Used { cpu_sec, rss_growth_bytes }
}

/// Waits until this process does nothing any more.
async fn still() {
    let mut before = cpu_sec();
    loop {
        // What is measured here is that nothing happens, for which there is no event.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = cpu_sec();
        if now - before < 0.02 {
            return;
        }
        before = now;
    }
}

fn patient(number: usize) -> orcapack_tasks::task::Task {
    let mut task = support::task(&format!("task-{number}"));
    for step in &mut task.steps {
        step.agent.timeout = STEP_LIMIT;
        step.verifier.timeout = STEP_LIMIT;
    }
    task
}

/// A model that does not answer before it is told to.
struct Gated {
    model: Arc<dyn Model>,
    gate: watch::Receiver<bool>,
}

impl Model for Gated {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(async move {
            let mut gate = self.gate.clone();
            // An error is a gate that nobody will open: the run is over.
            let _ = gate.wait_for(|open| *open).await;
            self.model.call(request).await
        })
    }
}
