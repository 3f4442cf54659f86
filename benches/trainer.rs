//! A training step beside PyTorch's: the same model and data, forward, backward, clipping and
//! AdamW, in f32 on all cores.
//!
//! Every sample is a process of its own, ours and theirs by turns, so that peaks of memory are
//! nobody else's and a noisy machine disturbs both alike; medians count. Where other programs
//! compute beside it, compare processor time, with one thread each (`RAYON_NUM_THREADS=1
//! OMP_NUM_THREADS=1`): threads that wait for each other are what suffers most.
//!
//! `cargo bench --bench trainer`, some minutes. `ORCAPACK_PYTHON` names a Python that has torch
//! (else it is `python3`); without one, only our side is measured.

#[path = "support/model.rs"]
mod model;
#[path = "support/python.rs"]
mod python;
#[expect(dead_code, reason = "the other benches use more of it")]
#[path = "support/samples.rs"]
mod samples;
#[path = "support/usage.rs"]
mod usage;

use std::time::Instant;

use candle_core::Device;
use model::config;
use orcapack_trainer::model::gradients::Gradients;
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::model::step::{Activations, StepSettings, forward_backward};
use orcapack_trainer::ops::Ops;
use orcapack_trainer::optimizer::adamw::{AdamW, AdamWSettings};
use orcapack_trainer::samples::batch::{Batch, Target};
use python::{in_python, python_with};
use samples::{in_a_process, median};
use usage::{cpu_sec, load_average, memory_bytes};

/// Rows and tokens of each.
const SIZES: [(usize, usize); 2] = [(16, 256), (4, 1024)];
const ROUNDS: usize = 5;
/// Timed steps of a sample, after two that are not.
const STEPS: usize = 6;

/// What one process measured.
#[derive(Clone, Copy, Debug)]
struct Sample {
    step_ms: f64,
    /// Of processor time, all threads together.
    cpu_ms: f64,
    peak_bytes: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, kind, rows, len] = &arguments[..]
        && command == "sample"
    {
        let number = |text: &str| text.parse().expect("a number that our own parent wrote");
        return sample(kind, number(rows), number(len)).print();
    }
    println!("load average before: {}", load_average());
    let python = python_with("torch");
    if python.is_none() {
        println!("torch not found: not compared");
    }
    println!(
        "{:>10} {:>12} {:>8} {:>9} {:>11} {:>12} {:>15} {:>9}",
        "rows x len",
        "",
        "ms/step",
        "tokens/s",
        "torch/this",
        "CPU ms/step",
        "torch/this CPU",
        "peak MiB"
    );
    for (rows, len) in SIZES {
        compare(rows, len, python.as_deref());
    }
    println!("load average after: {}", load_average());
}

fn compare(rows: usize, len: usize, python: Option<&str>) {
    let ours = |kind: &str| {
        let words = ["sample", kind].map(str::to_owned).into_iter();
        Sample::of(&in_a_process(
            &words.chain([rows, len].map(|n| n.to_string())).collect::<Vec<_>>(),
        ))
    };
    let mut kinds = [("keep", Vec::new()), ("recompute", Vec::new()), ("torch, sdpa", Vec::new())];
    for _ in 0..ROUNDS {
        for (kind, samples) in &mut kinds {
            match (*kind, python) {
                ("torch, sdpa", Some(python)) => samples.push(torch(python, rows, len)),
                ("torch, sdpa", None) => {}
                (kind, _) => samples.push(ours(kind)),
            }
        }
    }
    let (_, of_torch) = &kinds[2];
    for (kind, samples) in kinds.iter().filter(|(_, samples)| !samples.is_empty()) {
        let ratio = |of: fn(&Sample) -> f64| match &of_torch[..] {
            [] => "-".to_owned(),
            torch => format!("{:.2}", median(torch, of) / median(samples, of)),
        };
        let ms = median(samples, |sample| sample.step_ms);
        println!(
            "{:>10} {kind:>12} {ms:>8.0} {:>9.0} {:>11} {:>12.0} {:>15} {:>9.0}",
            format!("{rows} x {len}"),
            (rows * len) as f64 / ms * 1e3,
            ratio(|sample| sample.step_ms),
            median(samples, |sample| sample.cpu_ms),
            ratio(|sample| sample.cpu_ms),
            median(samples, |sample| sample.peak_bytes) / f64::from(1 << 20),
        );
    }
}

/// One segment a row; every token is a target but the first of each.
fn batch(rows: usize, len: usize, vocab: usize) -> Batch {
    let id = |at: usize| ((at * 7919 + at / 13) % vocab) as u32;
    let targets = (0..rows * len).filter(|at| at % len > 0).map(|at| Target {
        place: at as u32 - 1,
        id: id(at),
        sample: 0,
        sampler_logprob: f32::NAN,
        version: 0,
    });
    Batch {
        rows,
        len,
        ids: (0..rows * len).map(id).collect(),
        positions: (0..rows * len).map(|at| (at % len) as u32).collect(),
        segments: vec![vec![len as u32]; rows],
        targets: targets.collect(),
    }
}

fn sample(kind: &str, rows: usize, len: usize) -> Sample {
    let activations = if kind == "recompute" { Activations::Recompute } else { Activations::Keep };
    let settings =
        StepSettings { ops: Ops::Fused, activations, logprob_chunk: 1024, temperature: 1.0 };
    let parameters = Parameters::random(&config(), 0, &Device::Cpu).expect("weights");
    let mut adamw =
        AdamW::new(&parameters.named(), AdamWSettings::default()).expect("an optimizer");
    let batch = batch(rows, len, config().vocab_size);
    let (mut times, mut cpu_times) = (Vec::new(), Vec::new());
    for _ in 0..2 + STEPS {
        let (begin, cpu) = (Instant::now(), cpu_sec());
        let mut gradients = Gradients::new(&parameters.named());
        forward_backward(
            &parameters,
            &batch,
            &settings,
            &mut |targets| {
                let count = targets.logprobs.len();
                Ok(vec![-1.0 / count as f32; count])
            },
            &mut |group| gradients.add(group.gradients).expect("gradients that fit"),
        )
        .expect("a step");
        gradients.clip(1.0).expect("gradients that are finite");
        adamw.step(&parameters.named(), &gradients, 1e-4).expect("gradients for all weights");
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        cpu_times.push((cpu_sec() - cpu) * 1e3);
    }
    Sample {
        step_ms: median(&times[2..], |&ms| ms),
        cpu_ms: median(&cpu_times[2..], |&ms| ms),
        peak_bytes: memory_bytes("VmHWM") as f64,
    }
}

fn torch(python: &str, rows: usize, len: usize) -> Sample {
    Sample::of(&in_python(python, "trainer.py", &[rows, len, STEPS]))
}

impl Sample {
    fn print(self) {
        println!("{} {} {}", self.step_ms, self.cpu_ms, self.peak_bytes);
    }

    fn of(numbers: &[f64]) -> Self {
        let [step_ms, cpu_ms, peak_bytes] = *numbers else {
            panic!("expected the three numbers of a sample, found {numbers:?}")
        };
        Self { step_ms, cpu_ms, peak_bytes }
    }
}
