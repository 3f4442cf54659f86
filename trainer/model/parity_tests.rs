//! The model against transformers' Qwen3: what it computes with the directories in trainer/goldens,
//! which tests/parity/qwen3.py has made.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor, Var};

use super::config::ModelConfig;
use super::init::Normal;
use super::lora::{Lora, LoraSettings, LoraTarget};
use super::parameters::Parameters;
use super::step::{Activations, StepSettings, TargetLogprobs, forward_backward, logprobs};
use super::weights_write::{WeightsFormat, write_weights};
use crate::ops::Ops;
use crate::policy::Policy;
use crate::samples::batch::{Batch, Target};
use crate::tensors::read::TensorFile;
use crate::tensors::write::{self, WeightType};
use crate::text::CHATML_SPECIALS;
use crate::text::chat::{ChatMessage, ChatTemplate};
use crate::text::tokenizer::Tokenizer;

/// Of the largest element of a tensor.
const TOLERANCE: f64 = 1e-4;
const GOLDENS: [&str; 2] = ["tied", "untied"];

struct Golden {
    parameters: Parameters,
    expected: TensorFile,
    ids: Vec<Vec<u32>>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name);
        let config = ModelConfig::read(&dir.join("config.json")).unwrap();
        let parameters = Parameters::load(&dir, &config, &Device::Cpu).unwrap();
        let expected = TensorFile::open(&dir.join("expected.safetensors")).unwrap();
        let ids = serde_json::from_str(&expected.metadata()["ids"]).unwrap();
        Self { parameters, expected, ids }
    }

    /// log softmax of transformers' logits, at the tokens after the first of each row.
    fn logprobs(&mut self) -> Vec<f32> {
        let logits = self.expected.read("logits").unwrap();
        let vocab = self.parameters.config.vocab_size;
        let mut places = logits.chunks(vocab);
        let mut logprobs = Vec::new();
        for row in &self.ids {
            for (at, logits) in places.by_ref().take(row.len()).enumerate() {
                let Some(next) = row.get(at + 1) else { continue };
                let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
                logprobs.push((f64::from(logits[*next as usize]) - sum.ln()) as f32);
            }
        }
        logprobs
    }
}

fn every_token_after_the_first(rows: &[Vec<u32>], offset: impl Fn(usize) -> usize) -> Vec<Target> {
    let of_row = rows.iter().enumerate().flat_map(|(row, ids)| {
        let first = offset(row);
        ids.iter().skip(1).enumerate().map(move |(at, id)| Target {
            place: (first + at) as u32,
            id: *id,
            sample: row as u32,
            sampler_logprob: f32::NAN,
            version: 0,
        })
    });
    of_row.collect()
}

/// A row for each sequence.
fn in_rows(ids: &[Vec<u32>]) -> Batch {
    let len = ids[0].len();
    Batch {
        rows: ids.len(),
        len,
        ids: ids.concat(),
        positions: ids.iter().flat_map(|_| 0..len as u32).collect(),
        segments: vec![vec![len as u32]; ids.len()],
        targets: every_token_after_the_first(ids, |row| row * len),
    }
}

/// All sequences in one row, and three tokens that fill it up.
fn packed(ids: &[Vec<u32>]) -> Batch {
    let len = ids[0].len();
    let fill: u32 = 3;
    let lengths = vec![len as u32; ids.len()].into_iter().chain([fill]);
    Batch {
        rows: 1,
        len: ids.len() * len + fill as usize,
        ids: [ids.concat(), vec![0; fill as usize]].concat(),
        positions: lengths.clone().flat_map(|len| 0..len).collect(),
        segments: vec![lengths.collect()],
        targets: every_token_after_the_first(ids, |row| row * len),
    }
}

/// Every way to compute the same.
fn settings() -> Vec<StepSettings> {
    let mut all = Vec::new();
    for ops in [Ops::Composed, Ops::Fused] {
        for activations in [Activations::Keep, Activations::Recompute] {
            // Also in pieces that do not fit the targets evenly.
            for logprob_chunk in [5, 1024] {
                all.push(StepSettings { ops, activations, logprob_chunk, temperature: 1.0 });
            }
        }
    }
    all
}

fn largest(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max)
}

/// The largest difference of two elements, of the largest element.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
    largest(&differences) / largest(expected)
}

#[test]
fn log_probabilities_are_those_of_transformers() {
    for name in GOLDENS {
        let mut golden = Golden::read(name);
        let expected = golden.logprobs();
        for batch in [in_rows(&golden.ids), packed(&golden.ids)] {
            for settings in settings() {
                let found = logprobs(&golden.parameters, &batch, &settings).unwrap().logprobs;
                let difference = difference(&found, &expected);
                assert!(difference < TOLERANCE, "{name}, {settings:?}: {difference:.1e}");
            }
        }
    }
}

/// Each target weighs 1, 2 or 3 parts in the loss, as in tests/parity/qwen3.py.
fn d_loss(targets: &TargetLogprobs) -> Vec<f32> {
    let count = targets.logprobs.len();
    (0..count).map(|at| -((at % 3 + 1) as f32) / count as f32).collect()
}

#[test]
fn the_loss_and_every_gradient_are_those_of_transformers() {
    for name in GOLDENS {
        let mut golden = Golden::read(name);
        let loss: f64 = golden.expected.metadata()["loss"].parse().unwrap();
        for batch in [in_rows(&golden.ids), packed(&golden.ids)] {
            for settings in settings() {
                let at = format!("{name}, {} rows, {settings:?}", batch.rows);
                let mut gradients: Vec<Option<Tensor>> =
                    golden.parameters.named().iter().map(|_| None).collect();
                let targets = forward_backward(
                    &golden.parameters,
                    &batch,
                    &settings,
                    &mut |targets| Ok(d_loss(targets)),
                    &mut |group| {
                        for (index, gradient) in group.gradients {
                            assert!(gradients[index].replace(gradient).is_none(), "final once");
                        }
                    },
                );
                let targets = targets.unwrap();
                let weighed = d_loss(&targets).into_iter().zip(&targets.logprobs);
                let found: f64 = weighed.map(|(d, l)| f64::from(d) * f64::from(*l)).sum();
                assert!((found - loss).abs() < TOLERANCE * loss.abs(), "{at}: {found} {loss}");
                for ((weight, _), gradient) in golden.parameters.named().iter().zip(&gradients) {
                    let gradient = gradient.as_ref().unwrap().flatten_all().unwrap();
                    let expected = golden.expected.read(weight).unwrap();
                    assert!(largest(&expected) > 1e-4, "{weight} takes part");
                    let difference = difference(&gradient.to_vec1().unwrap(), &expected);
                    assert!(difference < TOLERANCE, "{at}: {weight}: {difference:.1e}");
                }
            }
        }
    }
}

/// Both ways: a directory that is written here is read by transformers, or PEFT, which compute the
/// same with it, and what they write is read here as the same numbers.
#[test]
#[ignore = "needs Python with transformers and peft: see tests/parity/qwen3.py"]
fn transformers_and_peft_read_what_is_written_and_write_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in GOLDENS {
        let Golden { parameters, ids, .. } = Golden::read(name);
        for (element, shard_bytes_max) in [(WeightType::F32, 20_000), (WeightType::Bf16, 1 << 30)] {
            let dir = dir.path().join(format!("{name}-{element:?}"));
            std::fs::create_dir(&dir).unwrap();
            write_weights(&dir, &parameters, WeightsFormat { element, shard_bytes_max }).unwrap();
            parameters.config.write(&dir, element).unwrap();
            write_expected(&dir, &parameters, &ids, "[]");
            check(&dir, &parameters);
        }
        check_adapter(&dir.path().join(format!("{name}-F32")), &parameters, &ids);
    }
    check_policy(&dir.path().join("policy"));
}

fn check(dir: &Path, parameters: &Parameters) {
    python(["check".as_ref(), dir]);
    let (again, config) = (dir.join("again"), &parameters.config);
    assert_eq!(&ModelConfig::read(&again.join("config.json")).unwrap(), config);
    let again = Parameters::load(&again, config, &Device::Cpu).unwrap();
    same_bits(&again.named(), &parameters.named());
}

/// With words: the same conversation is the same tokens.
fn check_policy(dir: &Path) {
    let texts = ["hello there, hello you", "the cat sat on the mat"];
    let policy = Policy {
        config: ModelConfig::small(300, 1),
        tokenizer: Tokenizer::train(&texts, 300, &CHATML_SPECIALS).unwrap(),
        chat: ChatTemplate::chatml().unwrap(),
    };
    let parameters = Parameters::random(&policy.config, 1, &Device::Cpu).unwrap();
    policy.save(dir, &parameters, WeightsFormat::default()).unwrap();
    let messages = [ChatMessage::new("user", "hello, äöü 17 cats"), ChatMessage::answer("you")];
    let rendered = policy.chat.render(&messages, false, &serde_json::Map::new()).unwrap();
    let ids = policy.tokenizer.encode(&rendered);
    let messages = serde_json::to_string(&messages).unwrap();
    write_expected(dir, &parameters, std::slice::from_ref(&ids), &messages);
    check(dir, &parameters);
    let again = Policy::open(&dir.join("again")).unwrap();
    assert_eq!(again.tokenizer.encode(&rendered), ids);
    assert_eq!(again.chat.source(), policy.chat.source());
}

fn check_adapter(base: &Path, parameters: &Parameters, ids: &[Vec<u32>]) {
    let targets = LoraTarget::ALL.into_iter().collect();
    let settings = LoraSettings { rank: 4, alpha: 6.0, targets };
    let config = &parameters.config;
    let lora = Lora::random(config, &settings, 1, &Device::Cpu).unwrap();
    for (stream, (_, var)) in lora.named().into_iter().enumerate() {
        let draws = Normal::new(2, stream as u64).draws(var.elem_count(), 0.1);
        var.set(&Tensor::from_vec(draws, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
    let dir = base.join("adapter");
    std::fs::create_dir(&dir).unwrap();
    lora.save(&dir, &base.display().to_string()).unwrap();
    write_expected(&dir, &lora.effective(parameters).unwrap(), ids, "[]");
    python(["check-adapter".as_ref(), base, &dir]);
    let again = Lora::load(&dir.join("again"), config, &Device::Cpu).unwrap();
    assert_eq!(again.settings, settings);
    same_bits(&again.named(), &lora.named());
}

/// What the script compares its own log-probabilities with.
fn write_expected(dir: &Path, parameters: &Parameters, ids: &[Vec<u32>], messages: &str) {
    let batch = in_rows(ids);
    let settings = settings().pop().unwrap();
    let found = logprobs(parameters, &batch, &settings).unwrap().logprobs;
    let found = Tensor::from_vec(found, (batch.rows, batch.len - 1), &Device::Cpu).unwrap();
    let tensors = BTreeMap::from([("logprobs".to_owned(), found)]);
    let ids = serde_json::to_string(ids).unwrap();
    let metadata = [("ids", ids), ("messages", messages.to_owned())];
    let metadata = metadata.map(|(key, text)| (key.to_owned(), text)).into();
    write::write(&dir.join("expected.safetensors"), &tensors, WeightType::F32, &metadata).unwrap();
}

fn python<const N: usize>(arguments: [&Path; N]) {
    let python = std::env::var_os("ORCAPACK_PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/qwen3.py");
    let status = Command::new(python).arg(script).args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

fn same_bits(found: &[(String, &Var)], expected: &[(String, &Var)]) {
    assert_eq!(found.len(), expected.len());
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let bits = |var: &Var| -> Vec<u32> {
            let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(bits(found), bits(expected), "{name}");
    }
}
