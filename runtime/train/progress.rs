//! What `train` shows while it runs: a bar on a terminal, plain lines otherwise.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::duration;
use crate::progress::Mode;
use crate::table::percent;
use crate::train::metrics::{Evaluated, Learnt, Stepped};

/// Between two plain lines.
const BETWEEN: Duration = Duration::from_secs(5);

pub struct Progress {
    mode: Mode,
    bar: ProgressBar,
    steps: u64,
    steps_before: u64,
    began: Instant,
    shown: Option<Instant>,
    /// Of the last step.
    text: String,
}

impl Progress {
    /// Of a run of `steps`, of which a resumed one has some behind it.
    pub fn start(mode: Mode, steps: u64, steps_before: u64) -> Self {
        let target = match mode {
            Mode::Live => ProgressDrawTarget::stderr_with_hz(4),
            Mode::Plain | Mode::Silent => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}\n{msg}") {
            bar.set_style(style);
        }
        bar.set_position(steps_before);
        if steps_before > 0 {
            tell(mode, &bar, &format!("goes on behind step {steps_before}"));
        }
        let (began, text) = (Instant::now(), "the first batch is sampled".to_owned());
        Self { mode, bar, steps, steps_before, began, shown: None, text }
    }

    /// A rollout has ended; so many run.
    pub fn ended(&self, in_flight: usize) {
        self.bar.set_message(format!("{}, {in_flight} rollouts under way", self.text));
    }

    pub fn stepped(&mut self, step: &Stepped) {
        let done = step.step.saturating_sub(self.steps_before).max(1);
        let each = self.began.elapsed().div_f64(done as f64);
        let left = each.mul_f64(self.steps.saturating_sub(step.step) as f64);
        self.text = format!("{}, {} left", line(step), duration(left));
        self.bar.set_position(step.step);
        self.bar.set_message(self.text.clone());
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= BETWEEN);
        if self.mode == Mode::Plain && (is_due || step.step == self.steps) {
            eprintln!("step {}/{}: {}", step.step, self.steps, self.text);
            self.shown = Some(Instant::now());
        }
    }

    pub fn evaluated(&self, found: &Evaluated) {
        let line = format!("step {}/{}: {}", found.step, self.steps, held_out(found));
        tell(self.mode, &self.bar, &line);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line that stays.
fn tell(mode: Mode, bar: &ProgressBar, line: &str) {
    match mode {
        Mode::Live => bar.println(line),
        Mode::Plain => eprintln!("{line}"),
        Mode::Silent => {}
    }
}

/// `held out 61.0% (122 of 200, 95%: 54.1% to 67.5%)`.
pub fn held_out(found: &Evaluated) -> String {
    let share = found.held_out;
    if share.of == 0 {
        return format!("held out: all {} rollouts were lost", found.lost);
    }
    let lost = if found.lost > 0 { format!(", {} lost", found.lost) } else { String::new() };
    format!(
        "held out {} ({} of {}, 95%: {} to {}{lost})",
        percent(share.share),
        share.count,
        share.of,
        percent(share.low),
        percent(share.high),
    )
}

fn line(step: &Stepped) -> String {
    let flat = step.groups_all_passed + step.groups_all_failed;
    let learnt = match &step.learnt {
        Some(Learnt { entropy, grad_norm, .. }) => {
            format!("entropy {entropy:.3}, gradient norm {grad_norm:.2}")
        }
        None => "nothing to learn from".to_owned(),
    };
    format!(
        "reward {:.3}, {flat} of {} groups flat, {learnt}, behind {}",
        step.reward_mean, step.groups, step.staleness_max
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Share;

    #[test]
    fn lines_tell_what_a_step_came_to() {
        let mut step = Stepped {
            step: 3,
            reward_mean: 0.5,
            groups: 16,
            groups_all_passed: 2,
            groups_all_failed: 1,
            staleness_max: 1,
            ..Stepped::default()
        };
        assert_eq!(
            line(&step),
            "reward 0.500, 3 of 16 groups flat, nothing to learn from, behind 1"
        );
        step.learnt = Some(Learnt { entropy: 0.25, grad_norm: 1.5, ..Learnt::default() });
        let found = line(&step);
        assert!(found.contains("entropy 0.250, gradient norm 1.50"), "{found}");
        let evaluated = Evaluated { step: 0, held_out: Share::wilson(1, 2), lost: 3 };
        let found = held_out(&evaluated);
        assert_eq!(found, "held out 50.0% (1 of 2, 95%: 9.5% to 90.5%, 3 lost)");
        let lost = Evaluated { held_out: Share::wilson(0, 0), ..evaluated };
        assert_eq!(held_out(&lost), "held out: all 3 rollouts were lost");
    }
}
