//! Samples that are processes of their own, so that processor time and memory are nobody else's.

use std::process::Command;

use tempfile::TempDir;

/// Runs this program again with `arguments`, and reads the numbers of the one line that it prints.
pub fn in_a_process(arguments: &[String]) -> Vec<f64> {
    let program = std::env::current_exe().expect("the path of this program");
    numbers_of(Command::new(program).args(arguments))
}

/// The numbers of the one line that a command prints.
pub fn numbers_of(command: &mut Command) -> Vec<f64> {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    let line = String::from_utf8_lossy(&output.stdout);
    let number = |word: &str| word.parse().expect("a number of a sample");
    line.split_whitespace().map(number).collect()
}

pub fn least<S>(samples: &[S], of: impl Fn(&S) -> f64) -> f64 {
    samples.iter().map(of).fold(f64::INFINITY, f64::min)
}

pub fn median<S>(samples: &[S], of: impl Fn(&S) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// In memory where that is possible: a disk's file system that has just deleted the files of one
/// sample creates those of the next slowly, which is no cost of ours.
pub fn records_folder() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a scratch folder")
}
