//! `metrics.jsonl` of a run that trains: a line for each step, and for each evaluation.
//!
//! A resumed run goes on from a checkpoint; what an earlier process wrote of later steps is cut
//! off, so that each step stands there once.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{self, PUBLIC};

/// One step of the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// 1 is the first.
    pub step: u64,
    /// Times that the samples have been seen, after it.
    pub epoch: f64,
    /// Mean over the trained tokens of the batch, in nats, before the step.
    pub loss: f64,
    /// Of the policy's distribution at those tokens, mean, in nats.
    pub entropy: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    pub samples: usize,
    /// All of the batch, prompts too.
    pub tokens: usize,
    /// Those in the loss.
    pub trained_tokens: usize,
    pub tokens_per_sec: f64,
}

/// A look at the held-out samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps before it.
    pub step: u64,
    /// Mean over their trained tokens, in nats.
    pub held_out_loss: f64,
}

pub struct SftMetrics {
    file: File,
}

impl SftMetrics {
    /// Appends to `path`, behind the lines of the first `steps` steps.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, steps: u64) -> io::Result<Self> {
        if let Some(text) = existing(path)? {
            let kept: String = text
                .lines()
                .filter(|line| step_of(line).is_some_and(|step| step <= steps))
                .map(|line| format!("{line}\n"))
                .collect();
            if kept != text {
                files::write_whole(path, kept.as_bytes(), PUBLIC)?;
            }
        }
        Ok(Self { file: File::options().create(true).append(true).open(path)? })
    }

    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

fn existing(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None` of a line that a dying process left half written.
fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step| Evaluated { step, held_out_loss: step as f64 };
        let mut metrics = SftMetrics::open(&path, 0).unwrap();
        (1..=5).for_each(|step| metrics.write(&line(step)).unwrap());
        metrics.file.write_all(b"{\"step\": 6, \"held").unwrap();
        let mut metrics = SftMetrics::open(&path, 3).unwrap();
        metrics.write(&line(4)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> = text.lines().map(|line| step_of(line).unwrap()).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }
}
