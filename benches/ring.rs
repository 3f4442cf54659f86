//! All-reduces over every link beside torch.distributed's over gloo, and within a process beside
//! what copying costs: f32, in place, all ranks on this machine.
//!
//! Every sample is a process of its own (gloo's ranks are one each), ours and theirs by turns; of
//! each sample the median call counts, of the rounds the best. *Algorithm* bandwidth is size over
//! time, *bus* bandwidth that times 2 (n - 1) / n: what each rank sends. The bound of copying is
//! the time in which as many threads copy as many bytes as an all-reduce has to read and write.
//!
//! `cargo bench --bench ring`, some minutes. `ORCAPACK_PYTHON` names a Python that has torch (else
//! it is `python3`); without one, only our side is measured.

#[path = "support/python.rs"]
mod python;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/ring_ranks.rs"]
mod ring_ranks;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/samples.rs"]
mod samples;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/usage.rs"]
mod usage;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use python::{in_python, python_with};
use ring_ranks::ranks;
use samples::{in_a_process, least, median};
use usage::load_average;

const ROUNDS: usize = 2;
const RANKS: [usize; 2] = [2, 4];
/// Millions of bytes.
const SIZES: [usize; 3] = [4, 64, 256];
const LINKS: [&str; 5] = ["copy", "memory", "tcp", "tls", "quic"];
/// Of a sample, after two that warm up.
const BYTES_OF_SAMPLE: usize = 1 << 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, link, world_size, megabytes] = &arguments[..]
        && command == "sample"
    {
        let number = |text: &str| text.parse().expect("a number that our own parent wrote");
        return println!("{}", sample(link, number(world_size), number(megabytes)));
    }
    println!("load average before: {}", load_average());
    let python = python_with("torch");
    if python.is_none() {
        println!("torch not found: not compared");
    }
    println!(
        "{:>5} {:>5} {:>8} {:>9} {:>15} {:>9} {:>7} {:>7}",
        "ranks", "MB", "link", "ms", "algorithm GB/s", "bus GB/s", "x gloo", "x copy"
    );
    for (world_size, megabytes) in RANKS.iter().flat_map(|n| SIZES.map(|size| (*n, size))) {
        compare(world_size, megabytes, python.as_deref());
    }
    println!("load average after: {}", load_average());
}

fn compare(world_size: usize, megabytes: usize, python: Option<&str>) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); LINKS.len() + 1];
    for _ in 0..ROUNDS {
        for (link, times) in LINKS.iter().zip(&mut times) {
            let numbers = [world_size, megabytes].map(|number| number.to_string());
            let words = ["sample", link].map(str::to_owned).into_iter().chain(numbers);
            times.extend(in_a_process(&words.collect::<Vec<_>>()));
        }
        if let Some(python) = python {
            let arguments = [world_size, megabytes, calls(megabytes)];
            times[LINKS.len()].extend(in_python(python, "ring_gloo.py", &arguments));
        }
    }
    let best: Vec<f64> = times.iter().map(|times| least(times, |ms| *ms)).collect();
    let (copy, gloo) = (best[0], best[LINKS.len()]);
    for (link, ms) in LINKS.iter().copied().chain(["gloo"]).zip(&best) {
        let ratio =
            |of: f64| if of.is_finite() { format!("{:.2}", of / ms) } else { "-".to_owned() };
        let algorithm = megabytes as f64 / ms;
        let share = 2.0 * (world_size - 1) as f64 / world_size as f64;
        let (algorithm, bus) = match link {
            "copy" => ("-".to_owned(), "-".to_owned()),
            _ => (format!("{algorithm:.2}"), format!("{:.2}", algorithm * share)),
        };
        if ms.is_finite() {
            println!(
                "{world_size:>5} {megabytes:>5} {link:>8} {ms:>9.2} {algorithm:>15} {bus:>9} \
                 {:>7} {:>7}",
                ratio(gloo),
                ratio(copy),
            );
        }
    }
}

fn calls(megabytes: usize) -> usize {
    (BYTES_OF_SAMPLE / (megabytes * 1_000_000)).clamp(5, 50)
}

/// The median milliseconds of a call.
fn sample(link: &str, world_size: usize, megabytes: usize) -> f64 {
    let (calls, len) = (calls(megabytes), megabytes * 1_000_000 / size_of::<f32>());
    if link == "copy" {
        return timed(calls, (0..world_size).collect(), |_| {
            let (from, mut to) = (vec![0.5_f32; len], vec![0.0; len]);
            move || to.copy_from_slice(&from)
        });
    }
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    let ranks = runtime.block_on(ranks(link, world_size));
    timed(calls, ranks, |mut rank| {
        let mut values = vec![0.5_f32; len];
        move || {
            // All of it: without its links a collective is lost.
            let rank = &mut rank;
            // Sums of sums grow to infinity at last, in the same time.
            rank.collective.all_reduce(&mut values).expect("nobody fails");
        }
    })
}

/// What each rank does, on a thread of its own, from the moment that all begin to that when all are
/// done.
fn timed<R: Send, A: FnMut()>(calls: usize, ranks: Vec<R>, act: impl Fn(R) -> A + Sync) -> f64 {
    let barrier = Barrier::new(ranks.len());
    thread::scope(|scope| {
        let threads = ranks.into_iter().map(|rank| {
            let (barrier, act) = (&barrier, &act);
            scope.spawn(move || {
                let mut act = act(rank);
                let mut times = Vec::new();
                for _ in 0..2 + calls {
                    barrier.wait();
                    let begin = Instant::now();
                    act();
                    barrier.wait();
                    times.push(begin.elapsed().as_secs_f64() * 1e3);
                }
                median(&times[2..], |ms| *ms)
            })
        });
        let threads: Vec<_> = threads.collect();
        let medians = threads.into_iter().map(|thread| thread.join().expect("a rank that ends"));
        medians.fold(0.0, f64::max)
    })
}
