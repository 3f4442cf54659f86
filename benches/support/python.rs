//! The scripts in `benches/peers`, and a Python to run them with.

use std::process::Command;

use crate::samples::numbers_of;

/// One that has these modules, if there is one: `$ORCAPACK_PYTHON`, else `python3`.
pub fn python_with(modules: &str) -> Option<String> {
    let python = std::env::var("ORCAPACK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    output.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Runs a script, and reads the numbers of the one line that it prints.
pub fn in_python(python: &str, script: &str, arguments: &[usize]) -> Vec<f64> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
    let arguments = arguments.iter().map(usize::to_string);
    numbers_of(Command::new(python).arg(format!("{folder}/{script}")).args(arguments))
}
