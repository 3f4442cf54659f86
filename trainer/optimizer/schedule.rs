//! The learning rate of each step.

/// A linear rise to `lr`, and what comes after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub lr: f64,
    /// The rate rises to `lr` over so many steps.
    pub warmup_steps: u64,
    /// Of the whole training, warm-up included.
    pub steps: u64,
    pub decay: Decay,
}

/// After the warm-up; those that fall reach 0 where the training ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    Constant,
    Linear,
    /// Half a cosine (Loshchilov & Hutter 2017, SGDR, without restarts).
    Cosine,
}

impl Schedule {
    /// Of step `step`, counted from 0; no step of the training has 0.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let (done, all) = (step - self.warmup_steps, self.steps.saturating_sub(self.warmup_steps));
        let progress = done.min(all) as f64 / all.max(1) as f64;
        self.lr
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - progress,
                Decay::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * progress).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay) -> Vec<f64> {
        let schedule = Schedule { lr: 8.0, warmup_steps: 2, steps: 6, decay };
        (0..8).map(|step| (schedule.lr(step) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn rates_rise_and_then_stay_or_fall_to_nothing_at_the_end() {
        assert_eq!(rates(Decay::Constant), [4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]);
        assert_eq!(rates(Decay::Linear), [4.0, 8.0, 8.0, 6.0, 4.0, 2.0, 0.0, 0.0]);
        let cosine = [4.0, 8.0, 8.0, 6.828_427, 4.0, 1.171_573, 0.0, 0.0];
        assert_eq!(rates(Decay::Cosine), cosine);
    }

    #[test]
    fn without_a_warm_up_the_first_step_has_the_full_rate() {
        let schedule = Schedule { lr: 1.0, warmup_steps: 0, steps: 3, decay: Decay::Linear };
        assert_eq!(schedule.lr(0), 1.0);
        let nothing_after = Schedule { warmup_steps: 3, ..schedule };
        assert_eq!(nothing_after.lr(2), 1.0);
    }
}
