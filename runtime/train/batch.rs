//! From complete groups to what a step trains on: rewards to advantages, and what is left out.

use orcapack_tasks::grading;
use orcapack_trainer::loss::advantage;
use orcapack_trainer::policy_step::RlSample;

use crate::train::pacer::{Group, Member};
use crate::train::trajectories::Said;

/// What the groups of a step came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupFigures {
    pub groups: u64,
    /// With nothing to learn: all members have the same reward, and it is a pass.
    pub all_passed: u64,
    /// The same, and it is none.
    pub all_failed: u64,
    pub rollouts: u64,
    /// Infrastructure failures: in no figure but this one.
    pub lost: u64,
    pub passed: u64,
    pub reward_mean: f64,
    /// Samples longer than the bound, which are left out.
    pub too_long: u64,
    /// Versions between the policy and the oldest that sampled a trained token of a group.
    pub staleness_mean: f64,
    pub staleness_max: u64,
}

/// The samples of a step with their advantages, in the order of the groups and of their members.
/// `version` is that of the policy that they train.
///
/// # Errors
/// A reward that is not finite.
pub fn make(
    groups: Vec<Group<Said>>,
    version: u64,
    settings: Settings,
) -> Result<(Vec<RlSample>, GroupFigures), advantage::BadReward> {
    let mut figures = GroupFigures { groups: groups.len() as u64, ..GroupFigures::default() };
    let (mut samples, mut rewards_sum, mut staleness) = (Vec::new(), 0.0, Vec::new());
    for group in groups {
        staleness.extend(group.oldest().map(|oldest| version.saturating_sub(oldest)));
        let rewards: Vec<f64> = group.members.iter().map(|member| member.reward).collect();
        let passed = rewards.iter().filter(|reward| grading::is_pass(**reward)).count() as u64;
        rewards_sum += rewards.iter().sum::<f64>();
        figures.rollouts += rewards.len() as u64;
        figures.passed += passed;
        figures.lost += u64::from(group.lost);
        let shaped: Vec<f64> = group.members.iter().map(|it| settings.shaped(it)).collect();
        let group_advantages = advantage::group(&shaped, settings.scale_by_std)?;
        if group_advantages.is_flat {
            match (rewards.is_empty(), passed > 0) {
                (true, _) => {}
                (false, true) => figures.all_passed += 1,
                (false, false) => figures.all_failed += 1,
            }
            continue;
        }
        for (member, advantage) in group.members.into_iter().zip(group_advantages.advantages) {
            for sample in member.samples.samples {
                if sample.ids.len() > settings.sample_tokens_max {
                    figures.too_long += 1;
                } else if !sample.trained.is_empty() {
                    samples.push(RlSample { sample, advantage });
                }
            }
        }
    }
    if figures.rollouts > 0 {
        figures.reward_mean = rewards_sum / figures.rollouts as f64;
    }
    if !staleness.is_empty() {
        figures.staleness_mean = staleness.iter().sum::<u64>() as f64 / staleness.len() as f64;
        figures.staleness_max = staleness.into_iter().max().unwrap_or_default();
    }
    Ok((samples, figures))
}

/// What of a run's settings it depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// See [`advantage::group`].
    pub scale_by_std: bool,
    pub sample_tokens_max: usize,
    /// See `train.action_bonus`. It is in the advantages, and in no figure.
    pub action_bonus: f64,
}

impl Settings {
    fn shaped(&self, member: &Member<Said>) -> f64 {
        member.reward + self.action_bonus * member.samples.actions as f64
    }
}

#[cfg(test)]
mod tests {
    use orcapack_trainer::samples::from_trajectory::{Sample, TrainedToken};

    use super::*;

    const SETTINGS: Settings =
        Settings { scale_by_std: false, sample_tokens_max: 4, action_bonus: 0.0 };

    fn sample(len: u32, trained: usize) -> Sample {
        let token = |index| TrainedToken { index, sampler_logprob: -1.0, version: 3 };
        let trained = (1..).take(trained).map(token).collect();
        Sample { ids: (0..len).collect(), trained, unproven: 0 }
    }

    fn group(number: u32, rewards: &[f64], oldest: u64) -> Group<Said> {
        let member = |(rollout, reward): (u32, &f64)| {
            let actions = rollout as usize;
            let samples = Said { samples: vec![sample(3, 2), sample(3, 0)], actions };
            Member { rollout, reward: *reward, samples, oldest: Some(oldest) }
        };
        let members = (0..).zip(rewards).map(member).collect();
        Group { number, members, lost: 1 }
    }

    #[test]
    fn groups_without_signal_are_counted_and_left_out() {
        let groups = vec![
            group(0, &[1.0, 1.0], 5),
            group(1, &[0.0, 0.0, 0.0], 4),
            group(2, &[1.0, 0.0], 3),
            group(3, &[], 5),
        ];
        let (samples, figures) = make(groups, 5, SETTINGS).unwrap();
        let advantages: Vec<f32> = samples.iter().map(|it| it.advantage).collect();
        assert_eq!(advantages, [0.5, -0.5]);
        let expected = GroupFigures {
            groups: 4,
            all_passed: 1,
            all_failed: 1,
            rollouts: 7,
            lost: 4,
            passed: 3,
            reward_mean: 3.0 / 7.0,
            too_long: 0,
            staleness_mean: 1.0,
            staleness_max: 2,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_bonus_for_actions_makes_other_advantages_and_no_other_figures() {
        let bonus = Settings { action_bonus: 0.5, ..SETTINGS };
        let failed = || vec![group(0, &[0.0, 0.0], 0)];
        let (samples, figures) = make(failed(), 0, bonus).unwrap();
        let advantages: Vec<f32> = samples.iter().map(|it| it.advantage).collect();
        assert_eq!(advantages, [-0.25, 0.25], "the second member took an action more");
        assert_eq!((figures.passed, figures.reward_mean, figures.all_failed), (0, 0.0, 0));
        let (samples, figures) = make(failed(), 0, SETTINGS).unwrap();
        assert_eq!((samples.len(), figures.all_failed), (0, 1));
    }

    #[test]
    fn what_is_too_long_is_left_out_and_its_group_keeps_its_advantages() {
        let mut long = group(0, &[1.0, 0.0], 0);
        long.members[0].samples.samples = vec![sample(5, 1)];
        let (samples, figures) = make(vec![long], 0, SETTINGS).unwrap();
        assert_eq!(samples.len(), 1);
        assert_eq!((samples[0].advantage, figures.too_long), (-0.5, 1));
    }
}
