//! What a rollout costs us beside its environment, and that this stays flat from 1 to 4096 side by
//! side.
//!
//! Rollouts of the `fake` driver, with everything else as in `orcapack eval`: actors, a SQLite
//! ledger on disk, trajectories, logs and metrics. Every sample is a process of its own, so that
//! CPU time and memory are nobody else's; sizes are interleaved, so that a noisy machine disturbs
//! all alike. The cost is CPU time, user and system; what other processes do to caches and file
//! system can only add to it, so the least of the rounds counts.
//!
//! `cargo bench --bench rollouts`, about a minute. `TMPDIR` says on which disk the ledgers are.

#[path = "support/samples.rs"]
mod samples;
#[expect(dead_code, reason = "the scenarios of the tests use more of it")]
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "support/usage.rs"]
mod usage;

use std::time::{Duration, Instant};

use orcapack::metrics_log::Metrics;
use orcapack::work::RunEnd;
use orcapack_actors::fake::{FakeDriver, FakeTimes};
use orcapack_actors::sandbox::Swept;
use orcapack_tasks::Outcome;
use samples::{in_a_process, least, median, records_folder};
use support::Scenario;
use usage::{cpu_sec, load_average, memory_bytes};

/// Rollouts side by side, and how many are done in one sample.
const SIZES: [(usize, usize); 6] =
    [(1, 2048), (16, 2048), (64, 2048), (256, 4096), (1024, 4096), (4096, 8192)];
const ROUNDS: usize = 5;
/// The size that others are compared with.
const BASE: usize = 256;
/// Rollouts of one task are a group of this many.
const SAMPLES: usize = 8;
/// The environments of the second table: each rollout is 50 ms of creation and five commands.
const TAKING_TIME: FakeTimes = FakeTimes {
    image: Duration::ZERO,
    create: Duration::from_millis(50),
    exec: Duration::from_millis(200),
    remove: Duration::ZERO,
};

/// What one run came to.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rollouts: usize,
    wall_sec: f64,
    cpu_sec: f64,
    rss_growth_bytes: u64,
    environments_peak: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, slots, rollouts, pace] = &arguments[..]
        && command == "sample"
    {
        let number = |text: &str| text.parse().expect("a number that our own parent wrote");
        let times = if pace == "slow" { TAKING_TIME } else { FakeTimes::default() };
        return sample(number(slots), number(rollouts), times).print();
    }
    println!("load average before: {}", load_average());
    println!("\nEnvironments that take no time: all cost is ours ({ROUNDS} rounds)");
    flat_cost();
    println!("\nEnvironments that take time (creation 50 ms, each command 200 ms; 1 round)");
    side_by_side();
    println!("\nload average after: {}", load_average());
}

fn flat_cost() {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); SIZES.len()];
    for _ in 0..ROUNDS {
        for ((slots, rollouts), samples) in SIZES.into_iter().zip(&mut samples) {
            samples.push(sample_of(slots, rollouts, "fast"));
        }
    }
    let base = SIZES.iter().position(|(slots, _)| *slots == BASE).expect("the base is a size");
    let base_us = least(&samples[base], Sample::cpu_us);
    println!(
        "{:>12} {:>9} {:>22} {:>26} {:>10} {:>18}",
        "side by side",
        "rollouts",
        "rollouts/s med (max)",
        "CPU us/rollout min (med)",
        "x of 256",
        "KiB/live rollout"
    );
    for ((slots, rollouts), samples) in SIZES.into_iter().zip(&samples) {
        let rate = |sample: &Sample| sample.rollouts as f64 / sample.wall_sec;
        let fastest = -least(samples, |sample| -rate(sample));
        let cpu_us = least(samples, Sample::cpu_us);
        let memory = |sample: &Sample| sample.rss_growth_bytes as f64 / 1024.0 / slots as f64;
        println!(
            "{slots:>12} {rollouts:>9} {:>22} {:>26} {:>10.2} {:>18}",
            format!("{:.0} ({fastest:.0})", median(samples, rate)),
            format!("{cpu_us:.0} ({:.0})", median(samples, Sample::cpu_us)),
            cpu_us / base_us,
            // The fixed cost of a process hides what a few rollouts need.
            if slots < BASE { "-".to_owned() } else { format!("{:.1}", median(samples, memory)) },
        );
    }
}

fn side_by_side() {
    println!(
        "{:>12} {:>9} {:>12} {:>8} {:>15} {:>18}",
        "side by side", "rollouts", "peak alive", "wall s", "CPU us/rollout", "KiB/live rollout"
    );
    for slots in [BASE, 1024, 4096] {
        let sample = sample_of(slots, 2 * slots, "slow");
        println!(
            "{slots:>12} {:>9} {:>12} {:>8.2} {:>15.0} {:>18.1}",
            sample.rollouts,
            sample.environments_peak,
            sample.wall_sec,
            sample.cpu_us(),
            sample.rss_growth_bytes as f64 / 1024.0 / slots as f64,
        );
    }
}

/// Runs `rollouts` to their end, with room for `slots` at a time.
fn sample(slots: usize, rollouts: usize, times: FakeTimes) -> Sample {
    Metrics::new().install().expect("no other recorder");
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    let dir = tempfile::tempdir().expect("a scratch folder");
    let records = records_folder();
    let run = Scenario::new(dir.path(), rollouts / SAMPLES, SAMPLES as u32, slots);
    let run = Scenario { starts: slots, records: Some(records.path()), ..run };
    let driver = FakeDriver::new(times);
    let (rss, cpu, begin) = (memory_bytes("VmRSS"), cpu_sec(), Instant::now());
    let (end, swept, environments_peak) = runtime.block_on(async {
        let node = run.start(&driver).await;
        let end = node.wait_end().await;
        let peak = node.environments_peak();
        (end, node.stop().await.expect("the engine answers"), peak)
    });
    let (wall_sec, cpu_sec) = (begin.elapsed().as_secs_f64(), cpu_sec() - cpu);
    let rss_growth_bytes = memory_bytes("VmHWM").saturating_sub(rss);
    let ended = run.ended(end, swept);
    assert_eq!((ended.end, ended.swept), (RunEnd::Complete, Swept::default()));
    let passed = |outcome: &Outcome| outcome.reward() == Some(1.0);
    assert_eq!(ended.results.iter().filter(|row| passed(&row.outcome)).count(), rollouts);
    assert_eq!(ended.attempts.len(), rollouts, "something was run again");
    Sample { rollouts, wall_sec, cpu_sec, rss_growth_bytes, environments_peak }
}

fn sample_of(slots: usize, rollouts: usize, pace: &str) -> Sample {
    let arguments = ["sample".to_owned(), slots.to_string(), rollouts.to_string(), pace.to_owned()];
    Sample::of(rollouts, &in_a_process(&arguments))
}

impl Sample {
    fn cpu_us(&self) -> f64 {
        self.cpu_sec * 1e6 / self.rollouts as f64
    }

    fn print(self) {
        let Self { wall_sec, cpu_sec, rss_growth_bytes, environments_peak, .. } = self;
        println!("{wall_sec} {cpu_sec} {rss_growth_bytes} {environments_peak}");
    }

    fn of(rollouts: usize, numbers: &[f64]) -> Self {
        let [wall_sec, cpu_sec, rss, peak] = *numbers else {
            panic!("expected the four numbers of a sample, found {numbers:?}")
        };
        let (rss_growth_bytes, environments_peak) = (rss as u64, peak as u64);
        Self { rollouts, wall_sec, cpu_sec, rss_growth_bytes, environments_peak }
    }
}
