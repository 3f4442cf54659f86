//! What a rollout costs on a cluster beside its environment, and that this stays flat from 256
//! environments on 4 nodes to 20,000 on 64.
//!
//! A cluster in simulation, as in `tests/sim/`: all of the program, with its ledger in memory, over
//! QUIC and TLS on a network of a seed; sandboxes and time are simulated. So the cost is that of
//! coordinator and nodes together, of the packets between them and of the simulation itself. Every
//! sample is a process of its own; of the rounds the least counts.
//!
//! `cargo bench --bench cluster`, some minutes.

#[path = "../tests/sim/checks.rs"]
mod checks;
#[path = "../tests/sim/machine.rs"]
mod machine;
#[path = "../tests/sim/process.rs"]
mod process;
#[path = "../tests/sim/random.rs"]
mod random;
#[expect(dead_code, reason = "other benchmarks use more of it")]
#[path = "support/samples.rs"]
mod samples;
#[path = "../tests/sim/scale.rs"]
mod scale;
#[expect(dead_code, reason = "the simulation's tests use more of it")]
#[path = "../tests/sim/seeds.rs"]
mod seeds;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "of what all scenarios share, a simulation needs the task alone")]
mod support;
#[path = "../tests/sim/swarm.rs"]
mod swarm;
#[path = "../tests/sim/truth.rs"]
mod truth;
#[path = "support/usage.rs"]
mod usage;
#[path = "../tests/sim/visits.rs"]
mod visits;
#[path = "../tests/sim/world.rs"]
mod world;

use samples::{in_a_process, least, median};
use scale::{Cost, Size};
use usage::{load_average, memory_bytes};

/// The first is what the others are compared with.
const SIZES: [Size; 3] =
    [Size { nodes: 4, slots: 64 }, Size { nodes: 16, slots: 128 }, Size { nodes: 64, slots: 313 }];
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, nodes, slots] = &arguments[..]
        && command == "sample"
    {
        let number = |text: &str| text.parse::<u32>().expect("a number of our own parent");
        let Cost { rollouts, at_work_peak, cpu_us } =
            scale::cost(Size { nodes: number(nodes) as usize, slots: number(slots) });
        println!("{rollouts} {at_work_peak} {cpu_us} {}", memory_bytes("VmHWM"));
        return;
    }
    println!("load average before: {}", load_average());
    let mut samples: Vec<Vec<Vec<f64>>> = vec![Vec::new(); SIZES.len()];
    for _ in 0..ROUNDS {
        for (Size { nodes, slots }, samples) in SIZES.into_iter().zip(&mut samples) {
            let arguments = ["sample".to_owned(), nodes.to_string(), slots.to_string()];
            samples.push(in_a_process(&arguments));
        }
    }
    println!(
        "{:>6} {:>13} {:>9} {:>12} {:>26} {:>9} {:>9}",
        "nodes",
        "environments",
        "rollouts",
        "peak at work",
        "CPU us/rollout min (med)",
        "x of 256",
        "MiB peak"
    );
    let base = least(&samples[0], |sample| sample[2]);
    for (Size { nodes, slots }, samples) in SIZES.into_iter().zip(&samples) {
        let cpu_us = least(samples, |sample| sample[2]);
        println!(
            "{nodes:>6} {:>13} {:>9} {:>12} {:>26} {:>9.2} {:>9.0}",
            nodes * slots as usize,
            samples[0][0],
            samples[0][1],
            format!("{cpu_us:.0} ({:.0})", median(samples, |sample| sample[2])),
            cpu_us / base,
            median(samples, |sample| sample[3]) / f64::from(1 << 20),
        );
    }
    println!("load average after: {}", load_average());
}
