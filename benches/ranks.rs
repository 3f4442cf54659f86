//! A training step of two ranks on this machine, a thread each: gradients that are summed while
//! earlier layers still compute, beside those that are summed after the backward pass; in memory,
//! and over the links between nodes.
//!
//! Every sample is a process of its own, the two by turns; of each the median step counts.
//! *Summing* is what the sums took beyond the passes, on the rank that waited the least.
//!
//! `cargo bench --bench ranks`, about two minutes.

#[path = "support/model.rs"]
mod model;
#[path = "support/ring_ranks.rs"]
mod ring_ranks;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/samples.rs"]
mod samples;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/usage.rs"]
mod usage;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use candle_core::Device;
use futures_util::future::BoxFuture;
use model::{VOCAB_SIZE, config};
use orcapack_trainer::collective::exchange::Exchange;
use orcapack_trainer::collective::{Collectives, Formed, Place};
use orcapack_trainer::learner::{Learner, Trainee};
use orcapack_trainer::loss::{LossKind, LossSettings};
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::model::step::{Activations, StepSettings};
use orcapack_trainer::ops::Ops;
use orcapack_trainer::optimizer::adamw::AdamWSettings;
use orcapack_trainer::policy::Policy;
use orcapack_trainer::policy_step::{OldLogprobs, RlSample, RlSettings, StepBatch};
use orcapack_trainer::ranks::home::Home;
use orcapack_trainer::ranks::thread::Local;
use orcapack_trainer::ranks::{GroupSettings, Ranks, RanksSetup};
use orcapack_trainer::samples::from_trajectory::{Sample, TrainedToken};
use orcapack_trainer::samples::packing::PackSettings;
use orcapack_trainer::text::CHATML_SPECIALS;
use orcapack_trainer::text::chat::ChatTemplate;
use orcapack_trainer::text::tokenizer::Tokenizer;
use ring_ranks::Rank;
use samples::{in_a_process, median};
use usage::load_average;

const RANKS: usize = 2;
const LINKS: [&str; 3] = ["memory", "tcp", "quic"];
const ROUNDS: usize = 3;
/// Timed, after two that are not.
const STEPS: usize = 8;
/// Of each rank.
const ROWS: usize = 8;
const TOKENS: usize = 256;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, link, overlap] = &arguments[..]
        && command == "sample"
    {
        let [step, summing] = sample(link, overlap == "true");
        return println!("{step} {summing}");
    }
    println!("load average before: {}", load_average());
    println!(
        "{:>8} {:>12} {:>12} {:>13} {:>14} {:>10}",
        "link", "ms, after", "ms, beside", "summing after", "summing beside", "x faster"
    );
    for link in LINKS {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (overlap, times) in [false, true].into_iter().zip(&mut times) {
                let words = ["sample".to_owned(), link.to_owned(), overlap.to_string()];
                times.push(in_a_process(&words));
            }
        }
        let [after, beside] = times.map(|times| [0, 1].map(|at| median(&times, |it| it[at])));
        println!(
            "{link:>8} {:>12.1} {:>12.1} {:>13.1} {:>14.1} {:>10.2}",
            after[0],
            beside[0],
            after[1],
            beside[1],
            after[0] / beside[0]
        );
    }
    println!("load average after: {}", load_average());
}

/// Milliseconds of a step, and those of its sums.
fn sample(link: &str, overlap: bool) -> [f64; 2] {
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    runtime.block_on(async {
        let collectives: Arc<dyn Collectives> = match link {
            "memory" => Arc::new(Exchange::new(Duration::from_secs(60))),
            link => {
                let ranks = ring_ranks::ranks(link, RANKS).await.into_iter().map(Some).collect();
                Arc::new(Ready { ranks: Mutex::new(ranks), kept: Mutex::default() })
            }
        };
        let settings = settings(overlap);
        let home: Arc<dyn Home> = Arc::new(Local {
            make: Arc::new(|| learner().map_err(|error| error.to_string())),
            policy: Arc::new(policy()),
            settings: settings.clone(),
            collectives,
            threads: 1,
            pins: true,
            node: String::new(),
        });
        let setup =
            RanksSetup { homes: vec![home; RANKS], settings, group: GroupSettings::default() };
        let ranks = Ranks::start(setup).await.expect("they start");
        let mut times = Vec::new();
        for step in 1..=2 + STEPS as u64 {
            let begin = Instant::now();
            let report = ranks.step(batch(step)).await.expect("nobody fails");
            times.push([begin.elapsed().as_secs_f64() * 1e3, report.reduce_sec * 1e3]);
        }
        ranks.stop().await;
        [0, 1].map(|at| median(&times[2..], |it| it[at]))
    })
}

/// Rings that were made beforehand, for one epoch.
struct Ready {
    ranks: Mutex<Vec<Option<Rank>>>,
    /// What links need to live.
    kept: Mutex<Vec<ring_ranks::Kept>>,
}

impl Collectives for Ready {
    fn form<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Formed> {
        let rank = self.ranks.lock().expect("nobody panics")[place.rank].take();
        let Rank { collective, abort, kept } = rank.expect("one epoch");
        self.kept.lock().expect("nobody panics").push(kept);
        Box::pin(async { Ok((collective, abort)) })
    }
}

fn learner() -> candle_core::Result<Learner> {
    let parameters = Parameters::random(&config(), 3, &Device::Cpu)?;
    Learner::new(Trainee::Full(parameters), AdamWSettings::default())
}

/// Of which only the configuration matters: nothing is saved.
fn policy() -> Policy {
    let texts = ["hello there, hello you", "the cat sat on the mat"];
    Policy {
        config: config(),
        tokenizer: Tokenizer::train(&texts, 300, &CHATML_SPECIALS).expect("a tokenizer"),
        chat: ChatTemplate::chatml().expect("a template"),
    }
}

fn settings(overlap: bool) -> RlSettings {
    RlSettings {
        loss: LossSettings { kl_coef: 0.0, ..LossSettings::of(LossKind::Grpo) },
        micro_batch: PackSettings { row_tokens_max: TOKENS, rows_max: ROWS },
        clip_norm: 1.0,
        adamw: AdamWSettings::default(),
        step: StepSettings {
            ops: Ops::Fused,
            activations: Activations::Keep,
            logprob_chunk: 512,
            temperature: 1.0,
        },
        old: OldLogprobs::Sampler,
        overlap,
        shard_optimizer: false,
        bucket_bytes: 1 << 20,
    }
}

fn batch(step: u64) -> StepBatch {
    let samples = (0..RANKS * ROWS).map(|row| {
        let id = |at: usize| ((at * 7919 + row * 104_729 + step as usize) % VOCAB_SIZE) as u32;
        let ids = (0..TOKENS).map(id).collect();
        let token = |index| TrainedToken { index, sampler_logprob: -7.6, version: step - 1 };
        let trained = (1..TOKENS as u32).map(token).collect();
        let sample = Sample { ids, trained, unproven: 0 };
        RlSample { sample, advantage: if row % 2 == 0 { 0.5 } else { -0.5 } }
    });
    StepBatch { step, version: step - 1, learning_rate: 1e-5, samples: samples.collect() }
}
