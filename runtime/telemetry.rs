//! Logs of a process: into the run's `logs/orcapack.log`, and with `-v` to standard error.
//!
//! Metrics are [`crate::metrics_log`]'s. The two facades (`tracing`, `metrics`) hold the only
//! global state; both are set once, by the program and by no library code.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Mutex;

use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use crate::progress;

/// Logs from now on, into `folder/orcapack.log` where a run has one.
///
/// # Errors
/// The file cannot be opened for appending, or the process logs already.
pub fn start_logs(folder: Option<&Path>, verbose: u8) -> io::Result<()> {
    let file = folder.map(open).transpose()?;
    tracing::subscriber::set_global_default(subscriber(file, verbose)).map_err(io::Error::other)
}

/// How the process shows progress, given what else it writes to standard error.
pub fn progress_mode(silent: bool, verbose: u8) -> progress::Mode {
    progress::Mode::choose(silent, verbose > 0, io::stderr().is_terminal())
}

fn open(folder: &Path) -> io::Result<File> {
    let path = folder.join("orcapack.log");
    let file = File::options().create(true).append(true).open(&path);
    file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn subscriber(file: Option<File>, verbose: u8) -> impl Subscriber + Send + Sync {
    let file_layer = file.map(|file| {
        fmt::layer().with_ansi(false).with_writer(Mutex::new(file)).with_filter(ours("debug"))
    });
    let stderr_layer = (verbose > 0).then(|| {
        let filter = ours(if verbose > 1 { "debug" } else { "info" });
        fmt::layer().with_ansi(false).with_writer(io::stderr).with_filter(filter)
    });
    tracing_subscriber::registry().with(file_layer).with(stderr_layer)
}

/// Our crates (all begin with `orcapack`) at `level`, others only where they warn.
fn ours(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,orcapack={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_file_gets_our_debug_lines_and_only_warnings_of_others() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["first", "second"] {
            let subscriber = subscriber(Some(open(folder.path()).unwrap()), 0);
            tracing::subscriber::with_default(subscriber, || {
                tracing::debug!(target: "orcapack_actors::pool", "{line} of ours");
                tracing::info!(target: "bollard", "{line} chatter");
                tracing::warn!(target: "bollard", "{line} warning");
            });
        }
        let text = std::fs::read_to_string(folder.path().join("orcapack.log")).unwrap();
        let messages: Vec<&str> =
            text.lines().filter_map(|line| line.split_once(": ").map(|(_, m)| m)).collect();
        let expected = ["first of ours", "first warning", "second of ours", "second warning"];
        assert_eq!(messages, expected);
    }
}
