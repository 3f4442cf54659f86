//! Advantages relative to a group: the samples of one task are each other's baseline.

/// Of one group, in the order of its rewards.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAdvantages {
    pub advantages: Vec<f32>,
    /// All rewards are the same, so that there is nothing to learn: all advantages are 0.
    pub is_flat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("reward {index} of the group: expected a finite number, found {found}")]
pub struct BadReward {
    pub index: usize,
    pub found: f64,
}

/// Keeps a division by a small deviation in bounds; that of verl.
const EPSILON: f64 = 1e-6;

/// `reward - mean`, and over the group's deviation where `scale_by_std` (DeepSeekMath,
/// arXiv:2402.03300, section 4.1.2; without it: Dr. GRPO, arXiv:2503.20783, section 3.2). The
/// deviation is that of a sample (`n - 1`), as in verl and TRL.
///
/// # Errors
/// The first reward that is not finite.
pub fn group(rewards: &[f64], scale_by_std: bool) -> Result<GroupAdvantages, BadReward> {
    if let Some(index) = rewards.iter().position(|reward| !reward.is_finite()) {
        return Err(BadReward { index, found: rewards[index] });
    }
    let is_flat = rewards.iter().all(|reward| Some(reward) == rewards.first());
    if is_flat {
        return Ok(GroupAdvantages { advantages: vec![0.0; rewards.len()], is_flat });
    }
    let count = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / count;
    let squares = rewards.iter().map(|reward| (reward - mean).powi(2));
    let deviation = (squares.sum::<f64>() / (count - 1.0)).sqrt();
    let scale = if scale_by_std { deviation + EPSILON } else { 1.0 };
    let advantages = rewards.iter().map(|reward| ((reward - mean) / scale) as f32).collect();
    Ok(GroupAdvantages { advantages, is_flat })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_group_is_its_own_baseline() {
        let scaled = group(&[1.0, 0.0, 0.0, 1.0], true).unwrap();
        assert!(!scaled.is_flat);
        // Of 1, 0, 0, 1 the deviation is sqrt(1/3).
        let expected = (0.5 / ((1.0_f64 / 3.0).sqrt() + 1e-6)) as f32;
        assert_eq!(scaled.advantages, [expected, -expected, -expected, expected]);
        let plain = group(&[1.0, 0.0, 0.0, 1.0], false).unwrap();
        assert_eq!(plain.advantages, [0.5, -0.5, -0.5, 0.5]);
    }

    #[test]
    fn a_group_without_signal_is_told() {
        for rewards in [&[][..], &[0.3], &[0.1, 0.1, 0.1]] {
            let flat = group(rewards, true).unwrap();
            assert!(flat.is_flat && flat.advantages == vec![0.0; rewards.len()], "{rewards:?}");
        }
        let refused = group(&[0.0, f64::NAN], true).unwrap_err().to_string();
        assert_eq!(refused, "reward 1 of the group: expected a finite number, found NaN");
    }

    proptest! {
        #[test]
        fn advantages_sum_to_nothing_and_keep_the_order_of_rewards(
            rewards in prop::collection::vec(0.0..1.0_f64, 2..20),
            scale_by_std in any::<bool>(),
        ) {
            let advantages = group(&rewards, scale_by_std).unwrap().advantages;
            let sum: f64 = advantages.iter().copied().map(f64::from).sum();
            prop_assert!(sum.abs() < 1e-4, "{}", sum);
            for (a, b) in (0..rewards.len()).zip(1..rewards.len()) {
                let by = f64::from(advantages[a] - advantages[b]);
                prop_assert!((rewards[a] - rewards[b]) * by >= 0.0);
            }
        }
    }
}
