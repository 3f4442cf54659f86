//! What `sft` shows while it trains: a bar on a terminal, plain lines otherwise.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::duration;
use crate::progress::Mode;
use crate::sft_metrics::{Evaluated, Trained};

/// Between two plain lines.
const BETWEEN: Duration = Duration::from_secs(5);

pub struct SftProgress {
    mode: Mode,
    bar: ProgressBar,
    steps: u64,
    began: Instant,
    steps_before: u64,
    shown: Option<Instant>,
}

impl SftProgress {
    /// Of a run of `steps`, of which a resumed one has some behind it.
    pub fn start(mode: Mode, steps: u64, steps_before: u64) -> Self {
        let target = match mode {
            Mode::Live => ProgressDrawTarget::stderr(),
            Mode::Plain | Mode::Silent => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}\n{msg}") {
            bar.set_style(style);
        }
        Self { mode, bar, steps, began: Instant::now(), steps_before, shown: None }
    }

    pub fn trained(&mut self, step: &Trained) {
        let text = line(step);
        self.bar.set_position(step.step);
        self.bar.set_message(format!("{text}, {} left", duration(self.left(step.step))));
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= BETWEEN);
        if self.mode == Mode::Plain && (is_due || step.step == self.steps) {
            eprintln!("step {}/{}: {text}", step.step, self.steps);
            self.shown = Some(Instant::now());
        }
    }

    pub fn evaluated(&self, found: &Evaluated) {
        let Evaluated { step, held_out_loss, .. } = found;
        self.tell(&format!("step {step}/{}: held-out loss {held_out_loss:.4}", self.steps));
    }

    /// A line that stays.
    pub fn tell(&self, line: &str) {
        match self.mode {
            Mode::Live => self.bar.println(line),
            Mode::Plain => eprintln!("{line}"),
            Mode::Silent => {}
        }
    }

    fn left(&self, step: u64) -> Duration {
        let done = step.saturating_sub(self.steps_before).max(1);
        let each = self.began.elapsed().div_f64(done as f64);
        each.mul_f64(self.steps.saturating_sub(step) as f64)
    }
}

impl Drop for SftProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line(step: &Trained) -> String {
    let Trained { loss, grad_norm, learning_rate, tokens_per_sec, .. } = step;
    format!(
        "loss {loss:.4}, gradient norm {grad_norm:.2}, rate {learning_rate:.1e}, \
         {tokens_per_sec:.0} tokens/s"
    )
}
