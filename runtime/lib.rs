//! The composition root: command line, configuration, run directory, progress, telemetry.

pub mod cli;
pub mod exit;
