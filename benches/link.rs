//! What messages between nodes cost: our lanes over QUIC beside quinn with a stream per request,
//! TCP with nothing around it, and an actor in the same process.
//!
//! Both sides are in one process, over loopback. Samples are processes of their own and ways are
//! interleaved; of several rounds the best counts, as in `rollouts.rs`, but of memory the most.
//! About a minute.
//!
//! `cargo bench --bench link`

#[path = "support/link_peers.rs"]
mod link_peers;
#[expect(dead_code, reason = "other benches use more of it")]
#[path = "support/samples.rs"]
mod samples;
#[expect(dead_code, reason = "other benches use more of it")]
#[path = "support/usage.rs"]
mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use link_peers::{Lanes, Local, Peer, PingsOn, Streams, Tcp};
use samples::{in_a_process, least};
use usage::{load_average, memory_bytes};

const ROUNDS: usize = 2;
const WAYS: [&str; 6] = ["actor", "tcp", "streams", "lanes", "lanes-control", "lanes-same"];
/// The last two differ in their pings alone.
const PINGS_ONLY: [&str; 2] = ["lanes-control", "lanes-same"];

const SMALL: usize = 100;
const MEDIUM: usize = 64 << 10;
const LARGE: usize = 64 << 20;
const CALLS: usize = 10_000;
const IN_FLIGHT: usize = 64;
const CALLS_IN_FLIGHT: usize = 60_000;
const CASTS: usize = 400_000;
const MEDIUM_BYTES: usize = 512 << 20;
const STALL: Duration = Duration::from_secs(5);
/// What is offered to a reader that stands: an actor takes all of it.
const STALL_BYTES_MAX: usize = 512 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["sample", way] = arguments[..] {
        let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
        let figures = runtime.block_on(sample(way));
        let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
        return println!("{}", figures.join(" "));
    }
    println!("load average before: {}", load_average());
    let mut samples: Vec<Vec<Vec<f64>>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..ROUNDS {
        for (way, samples) in WAYS.iter().zip(&mut samples) {
            samples.push(in_a_process(&["sample".into(), (*way).into()]));
        }
    }
    print(&samples);
    println!("\nload average after: {}", load_average());
}

type Shown = fn(f64) -> String;

/// What is measured, in the order of a sample, whether less is better, and how it is shown.
const ROWS: [(&str, bool, Shown); 7] = [
    ("call of 100 B, median us", true, |it| format!("{it:.1}")),
    ("call of 100 B, p99 us", true, |it| format!("{it:.0}")),
    ("calls/s, 64 in flight", false, |it| format!("{it:.0}")),
    ("casts/s of 100 B", false, |it| format!("{it:.0}")),
    ("64 KiB messages, GB/s", false, |it| format!("{it:.2}")),
    ("worst ping beside 64 MiB, ms", true, |it| format!("{it:.1}")),
    ("MB grown, stalled reader", true, |it| format!("{it:.1}")),
];

fn print(samples: &[Vec<Vec<f64>>]) {
    let best = |way: usize, row: usize| {
        let figures: Vec<f64> = samples[way].iter().map(|sample| sample[row]).collect();
        match ROWS[row] {
            (_, true, _) if row + 1 < ROWS.len() => least(&figures, |it| *it),
            // The most: also of memory.
            _ => -least(&figures, |it| -it),
        }
    };
    let is_of_pings = |way: &str| PINGS_ONLY.contains(&way);
    let shown: Vec<usize> = (0..WAYS.len()).filter(|way| !is_of_pings(WAYS[*way])).collect();
    let lanes = WAYS.iter().position(|way| *way == "lanes").expect("a way");
    print!("{:>30}", "");
    shown.iter().for_each(|way| print!(" {:>20}", WAYS[*way]));
    println!("   (x of lanes)");
    for (row, (name, _, show)) in ROWS.iter().enumerate() {
        print!("{name:>30}");
        for way in &shown {
            let (figure, ours) = (best(*way, row), best(lanes, row));
            print!(" {:>20}", format!("{} ({:.2})", show(figure), figure / ours));
        }
        println!();
    }
    let pings = ROWS.iter().position(|(name, ..)| name.contains("ping")).expect("a row");
    for way in (0..WAYS.len()).filter(|way| is_of_pings(WAYS[*way])) {
        println!("{:>30} {:>20}: {:.1}", ROWS[pings].0, WAYS[way], best(way, pings));
    }
}

async fn sample(way: &str) -> Vec<f64> {
    let peer: Arc<dyn Peer> = match way {
        "actor" => Arc::new(Local::new().await),
        "tcp" => Arc::new(Tcp::new().await),
        "streams" => Arc::new(Streams::new().await),
        "lanes" => Arc::new(Lanes::new(PingsOn::OwnLane).await),
        "lanes-control" => Arc::new(Lanes::new(PingsOn::Control).await),
        _ => Arc::new(Lanes::new(PingsOn::SameLane).await),
    };
    if PINGS_ONLY.contains(&way) {
        let mut figures = vec![0.0; ROWS.len()];
        figures[ROWS.len() - 2] = worst_ping(&peer).await;
        return figures;
    }
    let (median, p99) = calls(&*peer).await;
    let in_flight = calls_in_flight(&peer).await;
    let casts = CASTS as f64 / cast_all(&*peer, CASTS, SMALL).await;
    let count = MEDIUM_BYTES / MEDIUM;
    let bytes_per_sec = MEDIUM_BYTES as f64 / cast_all(&*peer, count, MEDIUM).await;
    let ping = worst_ping(&peer).await;
    let grown = stalled(&*peer).await;
    vec![median, p99, in_flight, casts, bytes_per_sec / 1e9, ping, grown]
}

/// One after the other; the first ones warm up.
async fn calls(peer: &dyn Peer) -> (f64, f64) {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begin = Instant::now();
        assert_eq!(peer.call(vec![1; SMALL]).await.len(), SMALL);
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let times = &mut times[CALLS / 10..];
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn calls_in_flight(peer: &Arc<dyn Peer>) -> f64 {
    let begin = Instant::now();
    let callers = (0..IN_FLIGHT).map(|_| {
        let peer = peer.clone();
        tokio::spawn(async move {
            for _ in 0..CALLS_IN_FLIGHT / IN_FLIGHT {
                peer.call(vec![1; SMALL]).await;
            }
        })
    });
    futures_util::future::join_all(callers).await;
    CALLS_IN_FLIGHT as f64 / begin.elapsed().as_secs_f64()
}

/// Seconds until all have arrived.
async fn cast_all(peer: &dyn Peer, count: usize, bytes: usize) -> f64 {
    let (begin, before) = (Instant::now(), peer.counted().messages());
    for _ in 0..count {
        peer.cast(vec![0; bytes]).await;
    }
    arrived(peer, before + count as u64).await;
    begin.elapsed().as_secs_f64()
}

async fn arrived(peer: &dyn Peer, messages: u64) {
    while peer.counted().messages() < messages {
        // Short against what is measured, and kinder to two cores than asking without a pause.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn worst_ping(peer: &Arc<dyn Peer>) -> f64 {
    let mut worst = 0.0_f64;
    for _ in 0..3 {
        let before = peer.counted().messages();
        let large = {
            let peer = peer.clone();
            tokio::spawn(async move { peer.cast(vec![0; LARGE]).await })
        };
        while peer.counted().messages() == before {
            let begin = Instant::now();
            peer.ping(vec![1; SMALL]).await;
            worst = worst.max(begin.elapsed().as_secs_f64() * 1e3);
        }
        large.await.expect("it is sent");
    }
    worst
}

/// Megabytes that this process, which is both sides, grows by.
async fn stalled(peer: &dyn Peer) -> f64 {
    peer.counted().stall();
    let before = memory_bytes("VmRSS");
    let (end, mut most) = (tokio::time::Instant::now() + STALL, before);
    for sent in 0.. {
        let is_offered = sent * MEDIUM < STALL_BYTES_MAX;
        let cast = async {
            if is_offered {
                // Written to, or it would take no memory.
                peer.cast(vec![0; MEDIUM].into_iter().map(|byte: u8| byte ^ 1).collect()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        if tokio::time::timeout_at(end, cast).await.is_err() {
            break;
        }
        if sent % 64 == 0 {
            most = most.max(memory_bytes("VmRSS"));
        }
    }
    (most.max(memory_bytes("VmRSS")) - before) as f64 / 1e6
}
