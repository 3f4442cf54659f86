//! The composition root: command line, configuration, run directory, ledger, progress, reports.

pub mod cli;
pub mod config;
pub mod config_layers;
mod config_read;
pub mod coordinator;
pub mod engine;
pub mod eval;
pub mod exit;
pub mod host;
pub mod ledger;
pub mod metrics_log;
pub mod node;
pub mod output;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod run_dir;
pub mod sandboxes;
pub mod status;
pub mod store;
pub mod summary;
pub mod summary_rows;
pub mod table;
pub mod tasks_command;
pub mod telemetry;
