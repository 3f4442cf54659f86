//! `metrics.jsonl` of a run that learns: a line for each step, and for each evaluation.
//!
//! A resumed run goes on from a checkpoint; what an earlier process wrote of later steps is cut
//! off, so that each step stands there once.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::files::{self, PUBLIC};

pub struct MetricsFile {
    file: File,
}

impl MetricsFile {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line = |step: u64| json!({"step": step, "loss": 0.5});
        let mut metrics = MetricsFile::open(&path, 0).unwrap();
        (1..=5).for_each(|step| metrics.write(&line(step)).unwrap());
        metrics.file.write_all(b"{\"step\": 6, \"held").unwrap();
        let mut metrics = MetricsFile::open(&path, 3).unwrap();
        metrics.write(&line(4)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> = text.lines().map(|line| step_of(line).unwrap()).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }
}
