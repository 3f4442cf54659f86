//! Sampling beside transformers' `generate`: the same shape of model, prompts and lengths of
//! answers, in f32 on all cores.
//!
//! Every sample is a process of its own, ours and theirs by turns, so that peaks of memory are
//! nobody else's and a noisy machine disturbs both alike; medians count. The ratio is what other
//! machines can be compared by.
//!
//! `cargo bench --bench engine`, about four minutes. `ORCAPACK_PYTHON` names a Python that has
//! torch and transformers (else it is `python3`); without one, only our side is measured.

#[path = "support/python.rs"]
mod python;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/samples.rs"]
mod samples;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/usage.rs"]
mod usage;

use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use orcapack_trainer::engine::handle::{EngineHandle, Generation};
use orcapack_trainer::engine::request::{EndReason, Event, GenerateRequest, SamplingParams};
use orcapack_trainer::engine::weights::EngineWeights;
use orcapack_trainer::engine::{Engine, EngineSettings};
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::text::CHATML_SPECIALS;
use orcapack_trainer::text::tokenizer::Tokenizer;
use python::{in_python, python_with};
use samples::{in_a_process, median};
use usage::{load_average, memory_bytes};

const BATCHES: [usize; 4] = [1, 8, 32, 128];
const PROMPT_TOKENS: usize = 64;
const NEW_TOKENS: usize = 128;
const ROUNDS: usize = 5;
const VOCAB: usize = 2048;

/// What one process measured.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    peak_bytes: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, batch] = &arguments[..]
        && command == "sample"
    {
        return sample(batch.parse().expect("a number that our own parent wrote")).print();
    }
    println!("load average before: {}", load_average());
    let python = python_with("torch, transformers");
    if python.is_none() {
        println!("transformers not found: not compared");
    }
    println!(
        "{:>6} {:>16} {:>16} {:>8} {:>12} {:>12}",
        "batch", "new tokens/s", "transformers", "ratio", "peak MiB", "transformers"
    );
    for batch in BATCHES {
        compare(batch, python.as_deref());
    }
    println!("load average after: {}", load_average());
}

fn compare(batch: usize, python: Option<&str>) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(Sample::of(&in_a_process(&["sample".to_owned(), batch.to_string()])));
        theirs.extend(python.map(|python| transformers(python, batch)));
    }
    let rate = |sample: &Sample| (batch * NEW_TOKENS) as f64 / sample.seconds;
    let peak_mib = |sample: &Sample| sample.peak_bytes / f64::from(1 << 20);
    let told = |value: fn(f64) -> String, of: &dyn Fn(&Sample) -> f64| {
        if theirs.is_empty() { "-".to_owned() } else { value(median(&theirs, of)) }
    };
    let ratio = |sample: &Sample| median(&ours, rate) / rate(sample);
    println!(
        "{batch:>6} {:>16.0} {:>16} {:>8} {:>12.0} {:>12}",
        median(&ours, rate),
        told(|value| format!("{value:.0}"), &rate),
        told(|value| format!("{value:.2}"), &ratio),
        median(&ours, peak_mib),
        told(|value| format!("{value:.0}"), &peak_mib),
    );
}

/// `batch` answers side by side, all asked for at once.
fn sample(batch: usize) -> Sample {
    let config = ModelConfig {
        hidden_size: 256,
        intermediate_size: 768,
        num_hidden_layers: 4,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 32,
        ..ModelConfig::small(VOCAB, 0)
    };
    let parameters = Parameters::random(&config, 0, &Device::Cpu).expect("weights");
    let weights = EngineWeights::pack(&parameters, 0).expect("they are on this machine");
    drop(parameters);
    let settings = EngineSettings {
        slots: batch,
        context_tokens_max: PROMPT_TOKENS + NEW_TOKENS,
        kept_tokens_max: batch * (PROMPT_TOKENS + NEW_TOKENS),
        queue_max: batch,
        prefill_tokens_max: 512,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let tokenizer = Tokenizer::train(&["a"], VOCAB, &CHATML_SPECIALS).expect("a vocabulary");
    let engine = Engine::start(Arc::new(weights), tokenizer, vec![], settings).expect("an engine");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(answers(&engine, batch, 4, 1));
    let begin = Instant::now();
    runtime.block_on(answers(&engine, batch, NEW_TOKENS, 2));
    let seconds = begin.elapsed().as_secs_f64();
    Sample { seconds, peak_bytes: memory_bytes("VmHWM") as f64 }
}

/// Prompts of another `round` have nothing in common with these.
async fn answers(engine: &EngineHandle, batch: usize, max_tokens: usize, round: usize) {
    let ask = |index: usize| {
        let id = |at: usize| ((at * (7919 + round) + index * 31) % VOCAB) as u32;
        let request = GenerateRequest {
            prompt: (0..PROMPT_TOKENS).map(id).collect(),
            sampling: SamplingParams { temperature: 1.0, top_p: 1.0, top_k: 0, seed: index as u64 },
            max_tokens,
            stop_ids: Vec::new(),
            stop: Vec::new(),
            ignore_eos: true,
            top_logprobs: 0,
        };
        engine.generate(request).expect("there is room for all")
    };
    let generations: Vec<Generation> = (0..batch).map(ask).collect();
    for mut generation in generations {
        let mut tokens = 0;
        while let Some(event) = generation.next().await {
            match event {
                Event::Token(_) => tokens += 1,
                Event::Started { cached_tokens } => assert_eq!(cached_tokens, 0),
                end => assert_eq!(end, Event::Ended(EndReason::Length)),
            }
        }
        assert_eq!(tokens, max_tokens);
    }
}

fn transformers(python: &str, batch: usize) -> Sample {
    Sample::of(&in_python(python, "generate.py", &[batch, PROMPT_TOKENS, NEW_TOKENS]))
}

impl Sample {
    fn print(self) {
        println!("{} {}", self.seconds, self.peak_bytes);
    }

    fn of(numbers: &[f64]) -> Self {
        let [seconds, peak_bytes] = *numbers else {
            panic!("expected the two numbers of a sample, found {numbers:?}")
        };
        Self { seconds, peak_bytes }
    }
}
