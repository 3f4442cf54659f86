//! Progress of a run on standard error: live on a terminal, plain lines otherwise.
//!
//! [`show`] follows the run's [`RunStatus`] until its sender is gone. All texts are made by pure
//! functions of a status and a pace.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orcapack_actors::phase::{Phase, Waiting};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::output::{duration, plural};
use crate::status::RunStatus;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A block of lines that is drawn over again.
    Live,
    /// A line whenever something has changed, at most one each 2 seconds.
    Plain,
    Silent,
}

impl Mode {
    /// Log lines on the same terminal would tear the live block, so `logging` makes it plain.
    pub fn choose(silent: bool, logging: bool, terminal: bool) -> Self {
        match (silent, logging, terminal) {
            (true, _, _) => Self::Silent,
            (false, false, true) => Self::Live,
            (false, _, _) => Self::Plain,
        }
    }
}

/// Follows a run to its end.
pub async fn show(mode: Mode, status: watch::Receiver<RunStatus>) {
    match mode {
        Mode::Live => show_live(status).await,
        Mode::Plain => show_plain(status, |line| eprintln!("{line}")).await,
        Mode::Silent => {}
    }
}

async fn show_live(mut status: watch::Receiver<RunStatus>) {
    const REDRAW: Duration = Duration::from_millis(250);
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}\n{msg}") {
        bar.set_style(style);
    }
    let pace = Pace::start(&status.borrow());
    loop {
        let now = status.borrow_and_update().clone();
        bar.set_length(now.total as u64);
        bar.set_position(now.done as u64);
        let pace = pace.at(&now, Instant::now());
        bar.set_message(block(&now, pace, SystemTime::now()));
        // Waiting times grow without any news.
        if let Ok(Err(_gone)) = timeout_at(Instant::now() + REDRAW, status.changed()).await {
            break;
        }
    }
    bar.finish_and_clear();
}

async fn show_plain(mut status: watch::Receiver<RunStatus>, mut print: impl FnMut(&str)) {
    const BETWEEN: Duration = Duration::from_secs(2);
    let pace = Pace::start(&status.borrow());
    let mut shown = None;
    loop {
        let now = status.borrow_and_update().clone();
        if shown.as_ref() != Some(&now) {
            print(&line(&now, pace.at(&now, Instant::now())));
            for waiting in &now.waiting {
                print(&waiting_line(waiting, SystemTime::now()));
            }
            shown = Some(now);
        }
        let next = Instant::now() + BETWEEN;
        if status.changed().await.is_err() {
            break;
        }
        // What comes in the meantime is shown in one line; the end is not waited for.
        tokio::select! {
            () = sleep_until(next) => {}
            () = until_gone(status.clone()) => {}
        }
    }
}

async fn until_gone(mut status: watch::Receiver<RunStatus>) {
    while status.changed().await.is_ok() {}
}

/// When counting began, and with how many rollouts done: a resumed run has some from before.
#[derive(Clone, Copy, Debug)]
struct Pace {
    began: Instant,
    done_before: usize,
}

/// Rollouts done in how long, and how many are left.
#[derive(Clone, Copy, Debug)]
struct Measured {
    done: usize,
    elapsed: Duration,
    left: usize,
}

impl Pace {
    fn start(status: &RunStatus) -> Self {
        Self { began: Instant::now(), done_before: status.done }
    }

    fn at(self, status: &RunStatus, now: Instant) -> Measured {
        Measured {
            done: status.done.saturating_sub(self.done_before),
            elapsed: now.saturating_duration_since(self.began),
            left: status.total.saturating_sub(status.done),
        }
    }
}

impl Measured {
    /// `12.5 rollouts/min, about 4 min 05 s left`; nothing before the first rollout is done.
    fn text(self) -> Option<String> {
        let minutes = self.elapsed.as_secs_f64() / 60.0;
        if self.done == 0 || minutes <= 0.0 {
            return None;
        }
        let per_minute = self.done as f64 / minutes;
        let mut text = format!("{per_minute:.1} rollouts/min");
        if self.left > 0 {
            let left = Duration::try_from_secs_f64(60.0 * self.left as f64 / per_minute).ok()?;
            let _ = write!(text, ", about {} left", duration(left));
        }
        Some(text)
    }
}

/// The phases that a user is shown, in the order of an attempt.
const SHOWN: [(Phase, &str); 6] = [
    (Phase::Image, "image"),
    (Phase::Create, "create"),
    (Phase::Exec, "agent"),
    (Phase::Model, "model"),
    (Phase::Grade, "verify"),
    (Phase::Cleanup, "clean up"),
];

/// Rows of the block: always the same, so that the eye finds them; only the model's comes and goes.
fn rows(status: &RunStatus) -> Vec<(&'static str, usize)> {
    let phases = SHOWN.iter().map(|(phase, name)| (*phase, *name, status.in_phase(*phase)));
    let phases = phases
        .filter(|(phase, _, count)| *phase != Phase::Model || *count > 0)
        .map(|(_, name, count)| (name, count));
    [("queued", status.queued())].into_iter().chain(phases).collect()
}

/// The live block below the bar.
fn block(status: &RunStatus, pace: Measured, now: SystemTime) -> String {
    let mut text = String::new();
    for (name, count) in rows(status) {
        let _ = writeln!(text, "  {name:<9}{count:>6}");
    }
    text.push_str(&counts(status));
    if let Some(pace) = pace.text() {
        let _ = write!(text, "\n{pace}");
    }
    for waiting in &status.waiting {
        let _ = write!(text, "\n{}", waiting_line(waiting, now));
    }
    text
}

/// The plain line.
fn line(status: &RunStatus, pace: Measured) -> String {
    let mut text = format!("{}/{} done, {}", status.done, status.total, counts(status));
    let busy = rows(status).into_iter().filter(|(_, count)| *count > 0);
    let phases: Vec<String> = busy.map(|(name, count)| format!("{name} {count}")).collect();
    if !phases.is_empty() {
        let _ = write!(text, "; {}", phases.join(", "));
    }
    if let Some(pace) = pace.text() {
        let _ = write!(text, "; {pace}");
    }
    text
}

fn counts(status: &RunStatus) -> String {
    let mut text = format!(
        "{} passed, {}",
        status.passed,
        plural(status.infra_failures, "infrastructure failure"),
    );
    if status.retries > 0 {
        let _ = write!(text, ", {} repeated", plural(status.retries, "attempt"));
    }
    if status.live_environments > 0 {
        let _ = write!(text, ", {} up", plural(status.live_environments, "environment"));
    }
    text
}

fn waiting_line(waiting: &Waiting, now: SystemTime) -> String {
    let since = jiff::Timestamp::try_from(waiting.since)
        .map(|since| since.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string())
        .unwrap_or_default();
    let waited = now.duration_since(waiting.since).unwrap_or_default();
    format!("waiting for {} since {since} ({})", waiting.what, duration(waited))
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
