use proptest::prelude::*;

use super::*;

/// Log-probabilities of one token.
#[derive(Clone, Copy, Debug)]
struct Token {
    now: f64,
    old: f64,
    sampler: f64,
    reference: f64,
}

/// Samples as papers write them: each the tokens `o_i` with an advantage `A_i`.
#[derive(Clone, Debug)]
struct Group(Vec<(f64, Vec<Token>)>);

/// The same as lists, with the tokens of different samples between each other.
struct Lists {
    logprobs: Vec<f32>,
    old: Vec<f32>,
    sampler: Vec<f32>,
    reference: Vec<f32>,
    samples: Vec<u32>,
    advantages: Vec<f32>,
    /// Sample and token of each target.
    places: Vec<(usize, usize)>,
}

impl Group {
    fn lists(&self) -> Lists {
        let longest = self.0.iter().map(|(_, tokens)| tokens.len()).max().unwrap();
        let places: Vec<(usize, usize)> = (0..longest)
            .flat_map(|token| (0..self.0.len()).map(move |sample| (sample, token)))
            .filter(|(sample, token)| *token < self.0[*sample].1.len())
            .collect();
        let of = |value: fn(&Token) -> f64| {
            let values = places.iter().map(|(sample, token)| value(&self.0[*sample].1[*token]));
            values.map(|value| value as f32).collect::<Vec<f32>>()
        };
        Lists {
            logprobs: of(|token| token.now),
            old: of(|token| token.old),
            sampler: of(|token| token.sampler),
            reference: of(|token| token.reference),
            samples: places.iter().map(|(sample, _)| *sample as u32).collect(),
            advantages: self.0.iter().map(|(advantage, _)| *advantage as f32).collect(),
            places,
        }
    }

    fn tokens(&self) -> f64 {
        self.0.iter().map(|(_, tokens)| tokens.len() as f64).sum()
    }
}

impl Lists {
    fn inputs(&self) -> LossInputs<'_> {
        LossInputs {
            logprobs: &self.logprobs,
            old: &self.old,
            sampler: &self.sampler,
            reference: Some(&self.reference),
            samples: &self.samples,
            advantages: &self.advantages,
            step: StepCounts::of(self.samples.iter().copied()),
        }
    }
}

fn clip(settings: &LossSettings, ratio: f64) -> f64 {
    ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high)
}

fn tis(settings: &LossSettings, token: &Token) -> f64 {
    settings.tis_cap.map_or(1.0, |cap| (token.old - token.sampler).exp().min(cap))
}

fn kl(token: &Token) -> f64 {
    let away = token.reference - token.now;
    away.exp() - away - 1.0
}

/// PPO's term of the objective, less the divergence.
fn ppo(settings: &LossSettings, advantage: f64, token: &Token) -> f64 {
    let ratio = (token.now - token.old).exp();
    let term = (ratio * advantage).min(clip(settings, ratio) * advantage);
    tis(settings, token) * term - settings.kl_coef * kl(token)
}

/// The objective of each paper, negated; `base` is where gradients are stopped.
fn written(settings: &LossSettings, group: &Group, base: &Group) -> f64 {
    let samples = group.0.len() as f64;
    let sum = |term: &dyn Fn(f64, &Token) -> f64| -> Vec<f64> {
        let of_sample = |(advantage, tokens): &(f64, Vec<Token>)| {
            tokens.iter().map(|token| term(*advantage, token)).sum()
        };
        group.0.iter().map(of_sample).collect()
    };
    let lengths = || group.0.iter().map(|(_, tokens)| tokens.len() as f64);
    let term = |advantage: f64, token: &Token| ppo(settings, advantage, token);
    -match settings.kind {
        LossKind::Grpo => {
            sum(&term).iter().zip(lengths()).map(|(sum, n)| sum / n).sum::<f64>() / samples
        }
        LossKind::DrGrpo => {
            sum(&term).iter().sum::<f64>() / f64::from(settings.norm_tokens) / samples
        }
        LossKind::Dapo => sum(&term).iter().sum::<f64>() / group.tokens(),
        LossKind::Gspo => {
            let of_sample = |(advantage, tokens): &(f64, Vec<Token>)| {
                let n = tokens.len() as f64;
                let s = tokens.iter().map(|t| t.now - t.old).sum::<f64>() / n;
                let s = s.exp();
                let weight = tokens.iter().map(|token| tis(settings, token)).sum::<f64>() / n;
                let kl = tokens.iter().map(kl).sum::<f64>() / n;
                weight * (s * advantage).min(clip(settings, s) * advantage) - settings.kl_coef * kl
            };
            group.0.iter().map(of_sample).sum::<f64>() / samples
        }
        LossKind::Cispo => {
            let mut sum = 0.0;
            for ((advantage, tokens), (_, stopped)) in group.0.iter().zip(&base.0) {
                for (token, stopped) in tokens.iter().zip(stopped) {
                    let weight = clip(settings, (stopped.now - stopped.old).exp());
                    sum += tis(settings, token) * weight * advantage * token.now
                        - settings.kl_coef * kl(token);
                }
            }
            sum / group.tokens()
        }
    }
}

/// Whether a clip's edge is so near that a difference would step over it.
fn is_at_an_edge(settings: &LossSettings, group: &Group) -> bool {
    let near = |ratio: f64| {
        [1.0 - settings.clip_low, 1.0 + settings.clip_high]
            .iter()
            .any(|edge| (ratio - edge).abs() < 3.0 * STEP)
    };
    group.0.iter().any(|(_, tokens)| {
        let logs = tokens.iter().map(|token| token.now - token.old);
        let mean = logs.clone().sum::<f64>() / tokens.len() as f64;
        logs.chain([mean]).any(|log| near(log.exp()))
    })
}

const STEP: f64 = 1e-5;

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 2e-6 * (1.0 + one.abs().max(other.abs()))
}

/// As an f32 holds it, so that both sides compute from the same numbers.
fn single(range: std::ops::Range<f64>) -> impl Strategy<Value = f64> {
    range.prop_map(|value| f64::from(value as f32))
}

fn groups() -> impl Strategy<Value = Group> {
    let token = (single(-4.0..-0.01), single(-0.6..0.6), single(-0.6..0.6), single(-1.0..1.0));
    let token = token.prop_map(|(now, old, sampler, reference)| {
        let single = |value: f64| f64::from(value as f32);
        let old = single(now + old);
        Token { now, old, sampler: single(old + sampler), reference: single(now + reference) }
    });
    let advantage = prop_oneof![Just(0.0), single(-2.0..2.0)];
    let sample = (advantage, prop::collection::vec(token, 1..6));
    prop::collection::vec(sample, 1..5).prop_map(Group)
}

fn settings() -> impl Strategy<Value = LossSettings> {
    let kinds = prop::sample::select(LossKind::NAMES.to_vec());
    let tis_cap = prop::option::of(0.8..2.0_f64);
    let kl_coef = prop_oneof![Just(0.0), 0.001..0.5_f64];
    (kinds, tis_cap, kl_coef, any::<bool>()).prop_map(|((_, kind), tis_cap, kl_coef, wide)| {
        let mut settings = LossSettings { tis_cap, kl_coef, ..LossSettings::of(kind) };
        settings.norm_tokens = 7;
        if wide && kind == LossKind::Gspo {
            settings.clip_low = 0.1;
            settings.clip_high = 0.15;
        }
        settings
    })
}

proptest! {
    #[test]
    fn a_loss_is_its_papers_objective_and_so_is_its_gradient(
        settings in settings(),
        group in groups(),
    ) {
        let lists = group.lists();
        let output = loss(&settings, &lists.inputs()).unwrap();
        let expected = written(&settings, &group, &group);
        prop_assert!(close(output.value, expected), "{} and {}", output.value, expected);
        prop_assume!(!is_at_an_edge(&settings, &group));
        for (target, (sample, token)) in lists.places.iter().enumerate() {
            let moved = |by: f64| {
                let mut moved = group.clone();
                moved.0[*sample].1[*token].now += by;
                written(&settings, &moved, &group)
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let found = f64::from(output.d_logprobs[target]);
            let both = (found, difference);
            prop_assert!(close(found, difference), "target {}: {:?}", target, both);
        }
    }

    #[test]
    fn the_batches_of_a_step_add_up_to_it(
        settings in settings(),
        group in groups(),
        others in groups(),
    ) {
        let whole = Group([group.0.clone(), others.0.clone()].concat());
        let lists = whole.lists();
        let inputs = lists.inputs();
        let all = loss(&settings, &inputs).unwrap();
        let (mut value, mut metrics) = (0.0, LossMetrics::default());
        for is_first in [true, false] {
            let mine: Vec<usize> = (0..lists.samples.len())
                .filter(|target| ((lists.samples[*target] as usize) < group.0.len()) == is_first)
                .collect();
            let part = |list: &[f32]| mine.iter().map(|target| list[*target]).collect::<Vec<f32>>();
            let samples: Vec<u32> = mine.iter().map(|target| lists.samples[*target]).collect();
            let output = loss(&settings, &LossInputs {
                logprobs: &part(inputs.logprobs),
                old: &part(inputs.old),
                sampler: &part(inputs.sampler),
                reference: Some(&part(&lists.reference)),
                samples: &samples,
                ..inputs
            }).unwrap();
            value += output.value;
            metrics.add(&output.metrics);
            for (d_logprob, target) in output.d_logprobs.iter().zip(&mine) {
                prop_assert_eq!(*d_logprob, all.d_logprobs[*target]);
            }
        }
        prop_assert!(close(value, all.value));
        prop_assert_eq!(metrics.tokens, all.metrics.tokens);
        prop_assert_eq!(metrics.clip_fraction(), all.metrics.clip_fraction());
        prop_assert!(close(metrics.kl_to_sampler_k3(), all.metrics.kl_to_sampler_k3()));
        prop_assert!(all.metrics.kl_to_sampler_k3() >= 0.0);
    }

    #[test]
    fn sft_is_cross_entropy(group in groups()) {
        let lists = group.lists();
        let step = StepCounts::of(lists.samples.iter().copied());
        let of_samples: Vec<Vec<f64>> = group
            .0
            .iter()
            .map(|(_, tokens)| tokens.iter().map(|token| -token.now).collect())
            .collect();
        let sum = |sample: &Vec<f64>| sample.iter().sum::<f64>();
        let mean = |sample: &Vec<f64>| sum(sample) / sample.len() as f64;
        let (n, t) = (of_samples.len() as f64, group.tokens());
        for (name, aggregate) in Aggregate::NAMES {
            let expected = match name {
                "token-mean" => of_samples.iter().map(sum).sum::<f64>() / t,
                "seq-mean-token-sum" => of_samples.iter().map(sum).sum::<f64>() / n,
                "seq-mean-token-mean" => of_samples.iter().map(mean).sum::<f64>() / n,
                _ => of_samples.iter().map(sum).sum::<f64>() / n / 7.0,
            };
            let (value, d_logprobs) =
                sft::loss(&lists.logprobs, &lists.samples, step, aggregate, 7).unwrap();
            prop_assert!(close(value, expected), "{}: {} and {}", name, value, expected);
            // Linear: its value is what its gradient says.
            let told = lists.logprobs.iter().zip(&d_logprobs).map(|(l, d)| f64::from(l * d));
            prop_assert!(close(told.sum(), expected), "{}", name);
            prop_assert_eq!(aggregate.as_str(), name);
        }
    }
}

/// One token in each sample, sampled by the policy itself.
fn singles(ratios_and_advantages: &[(f64, f64)]) -> Group {
    let token = |ratio: f64| Token {
        now: -1.0,
        old: -1.0 - ratio.ln(),
        sampler: -1.0 - ratio.ln(),
        reference: -1.0,
    };
    Group(ratios_and_advantages.iter().map(|(ratio, a)| (*a, vec![token(*ratio)])).collect())
}

#[test]
fn a_ratio_at_the_clip_is_not_clipped_and_one_beyond_it_has_no_gradient() {
    for kind in [LossKind::Grpo, LossKind::DrGrpo, LossKind::Dapo, LossKind::Gspo] {
        let settings = LossSettings { clip_low: 0.0, clip_high: 0.0, ..LossSettings::of(kind) };
        let settings = LossSettings { aggregate: Aggregate::SeqMeanTokenSum, ..settings };
        let at = singles(&[(1.0, 2.0), (1.0, -2.0)]).lists();
        let output = loss(&settings, &at.inputs()).unwrap();
        assert_eq!((output.d_logprobs, output.metrics.clip_fraction()), (vec![-1.0, 1.0], 0.0));
        // Only what would go on in its direction is clipped.
        let beyond = singles(&[(1.5, 2.0), (1.5, -2.0), (0.5, 2.0), (0.5, -2.0)]).lists();
        let output = loss(&settings, &beyond.inputs()).unwrap();
        assert_eq!(output.metrics.clip_fraction(), 0.5);
        let is_zero: Vec<bool> = output.d_logprobs.iter().map(|d| *d == 0.0).collect();
        assert_eq!(is_zero, [true, false, false, true], "{kind:?}");
        assert!((output.metrics.ratio_max() - 1.5).abs() < 1e-6);
        assert!((output.metrics.ratio_mean() - 1.0).abs() < 1e-6);
    }
}

#[test]
fn every_token_of_cispo_has_a_gradient() {
    let settings = LossSettings::of(LossKind::Cispo);
    let lists = singles(&[(9.0, 1.0), (1.0, -1.0), (0.01, 1.0)]).lists();
    let output = loss(&settings, &lists.inputs()).unwrap();
    let expected = [-1.2 / 3.0, 1.0 / 3.0, -0.01 / 3.0];
    for (found, expected) in output.d_logprobs.iter().zip(expected) {
        assert!(close(f64::from(*found), expected), "{found} and {expected}");
    }
    assert_eq!(output.metrics.clip_fraction(), 1.0 / 3.0);
}

#[test]
fn an_advantage_of_nothing_is_no_loss() {
    for (_, kind) in LossKind::NAMES {
        let lists = singles(&[(2.0, 0.0), (0.1, 0.0)]).lists();
        let output = loss(&LossSettings::of(kind), &lists.inputs()).unwrap();
        assert_eq!((output.value, output.d_logprobs), (0.0, vec![0.0, 0.0]), "{kind:?}");
        let clipped = if kind == LossKind::Cispo { 0.5 } else { 0.0 };
        assert_eq!(output.metrics.clip_fraction(), clipped);
    }
}

#[test]
fn a_sampler_that_found_a_token_unlikely_weighs_it_up_to_the_cap() {
    let mut group = singles(&[(1.0, 1.0), (1.0, 1.0)]);
    group.0[0].1[0].sampler -= 3.0;
    group.0[1].1[0].sampler += 0.5;
    let lists = group.lists();
    let settings = LossSettings { tis_cap: Some(2.0), ..LossSettings::of(LossKind::Dapo) };
    let output = loss(&settings, &lists.inputs()).unwrap();
    assert_eq!(output.d_logprobs, [-1.0, (-0.5 * (-0.5_f64).exp()) as f32]);
    assert_eq!(output.metrics.tis_cap_fraction(), 0.5);
    assert_eq!(output.metrics.kl_to_sampler_k1(), -1.25);
    assert_eq!(output.metrics.kl_to_reference_k3(), Some(0.0));
}

#[test]
fn what_is_missing_or_broken_is_told() {
    let lists = singles(&[(1.0, 1.0), (1.0, -1.0)]).lists();
    let inputs = lists.inputs();
    let settings = LossSettings::of(LossKind::Grpo);
    let refused = |settings: LossSettings, inputs: LossInputs<'_>| {
        loss(&settings, &inputs).unwrap_err().to_string()
    };
    let none = LossInputs { logprobs: &[], old: &[], sampler: &[], samples: &[], ..inputs };
    assert_eq!(loss(&settings, &none), Err(LossError::Empty));
    assert_eq!(sft::loss(&[], &[], inputs.step, Aggregate::TokenMean, 1), Err(LossError::Empty));
    let alone = LossInputs { reference: None, ..inputs };
    assert_eq!(refused(settings, alone), "kl_coef is 0.04, and there is no reference");
    let short = LossInputs { old: &[-1.0], ..inputs };
    assert_eq!(refused(settings, short), "old: expected 2 values, found 1");
    let broken = LossInputs { sampler: &[-1.0, f32::NAN], ..inputs };
    let said = "sampler of target 1: expected a finite number, found NaN";
    assert_eq!(refused(settings, broken), said);
    let unknown = LossInputs { advantages: &[1.0], ..inputs };
    assert_eq!(refused(settings, unknown), "target 1 is of sample 1, which has no advantage");
    let endless = LossInputs { old: &[-1.0, -1000.0], ..inputs };
    assert!(refused(settings, endless).contains("expected a finite number, found"));
    let negative = LossSettings { clip_low: -0.1, ..settings };
    assert!(refused(negative, inputs).starts_with("clip_low: expected a finite number, 0 or more"));
    let no_norm = LossSettings { norm_tokens: 0, ..settings };
    assert_eq!(refused(no_norm, inputs), "norm_tokens: expected 1 or more, found 0");
    let no_norm = sft::loss(&[-1.0], &[0], inputs.step, Aggregate::TokenMean, 0);
    assert!(matches!(no_norm, Err(LossError::Setting { name: "norm_tokens", .. })));
    let no_cap = LossSettings { tis_cap: Some(0.0), ..settings };
    assert!(refused(no_cap, inputs).starts_with("tis_cap: expected a finite number above 0"));
}

#[test]
fn each_loss_has_the_settings_of_its_paper() {
    let told = LossKind::NAMES.map(|(name, kind)| {
        let settings = LossSettings::of(kind);
        assert_eq!((settings.kind, kind.as_str()), (kind, name));
        assert_eq!(settings.check(), Ok(()));
        let LossSettings { clip_low, clip_high, kl_coef, aggregate, scale_by_std, .. } = settings;
        (name, clip_low, clip_high, kl_coef, aggregate.as_str(), scale_by_std)
    });
    assert_eq!(
        told,
        [
            ("grpo", 0.2, 0.2, 0.04, "seq-mean-token-mean", true),
            ("dr_grpo", 0.2, 0.2, 0.0, "seq-mean-token-sum-norm", false),
            ("dapo", 0.2, 0.28, 0.0, "token-mean", true),
            ("gspo", 3e-4, 4e-4, 0.0, "seq-mean-token-mean", true),
            ("cispo", 1.0, 0.2, 0.0, "token-mean", true),
        ]
    );
}
