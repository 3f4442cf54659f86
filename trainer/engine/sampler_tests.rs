use proptest::prelude::*;

use super::*;

const GREEDY: SamplingParams = SamplingParams { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 };

fn params(temperature: f32, top_p: f32, top_k: usize) -> SamplingParams {
    SamplingParams { temperature, top_p, top_k, seed: 11 }
}

fn logits(count: usize, spread: f32) -> Vec<f32> {
    (0..count).map(|i| spread * f32::sin(1.7 * i as f32 + 0.3)).collect()
}

/// Probability of each token, computed the plainest way.
fn expected(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let weight = |logit: &f32| (f64::from(*logit) / f64::from(params.temperature)).exp();
    let mut weights: Vec<f64> = logits.iter().map(weight).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    if params.top_k > 0 {
        order.iter().skip(params.top_k).for_each(|id| weights[*id] = 0.0);
    }
    let total: f64 = weights.iter().sum();
    let mut reached = 0.0;
    for id in order {
        let weight = std::mem::take(&mut weights[id]);
        if reached < f64::from(params.top_p) * total {
            weights[id] = weight;
        }
        reached += weight;
    }
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

#[test]
fn philox_gives_its_published_numbers() {
    // kat_vectors of Random123.
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    let found = philox(pi, [0xa409_3822, 0x299f_31d0]);
    assert_eq!(found, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
}

#[test]
fn samples_are_distributed_as_they_should_be() {
    const DRAWS: usize = 20_000;
    for (params, count) in [
        (params(1.0, 1.0, 0), 40),
        (params(0.6, 1.0, 0), 300),
        (params(1.3, 1.0, 7), 40),
        (params(1.0, 0.8, 0), 300),
        (params(0.9, 0.7, 20), 40),
    ] {
        let logits = logits(count, 1.5);
        let expected = expected(&logits, &params);
        let mut counts = vec![0; count];
        for index in 0..DRAWS {
            let choice = sample(&logits, &params, index as u64, 0).unwrap();
            let error = f64::from(choice.logprob) - expected[choice.id as usize].ln();
            assert!(error.abs() < 1e-5, "{} for {choice:?}", expected[choice.id as usize].ln());
            counts[choice.id as usize] += 1;
        }
        let expected = expected.iter().map(|p| p * DRAWS as f64);
        let each = counts.iter().zip(expected).filter(|(_, expected)| *expected > 0.0);
        let each = each.map(|(found, expected)| (f64::from(*found) - expected).powi(2) / expected);
        let each: Vec<f64> = each.collect();
        let freedom = (each.len() - 1) as f64;
        // Mean and deviation of chi-square: 4 deviations happen once in 30,000 tries.
        let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
        let chi_square: f64 = each.iter().sum();
        assert!(chi_square < bound, "{params:?}: {chi_square} above {bound}");
        assert!(chi_square > freedom - 4.0 * (2.0 * freedom).sqrt(), "too even to be chance");
    }
}

#[test]
fn greedy_is_the_likeliest_and_tells_its_probability_at_temperature_1() {
    let mut logits = logits(100, 2.0);
    logits[40] = 5.0;
    logits[70] = 5.0;
    let choice = sample(&logits, &GREEDY, 0, 3).unwrap();
    let exact = expected(&logits, &params(1.0, 1.0, 0))[40].ln();
    assert_eq!(choice.id, 40, "the first of those that are alike");
    assert!((f64::from(choice.logprob) - exact).abs() < 1e-5);
    assert_eq!(choice.top[0], (40, choice.logprob));
    assert_eq!(choice.top[1], (70, choice.logprob));
}

#[test]
fn alternatives_are_told_before_top_k_and_top_p() {
    let logits = logits(100, 2.0);
    let choice = sample(&logits, &params(0.5, 0.9, 2), 3, 5).unwrap();
    let all = expected(&logits, &params(0.5, 1.0, 0));
    assert_eq!(choice.top.len(), 5);
    assert!(choice.top.is_sorted_by(|a, b| a.1 >= b.1));
    for (id, logprob) in choice.top {
        assert!((f64::from(logprob) - all[id as usize].ln()).abs() < 1e-5);
    }
}

#[test]
fn temperatures_near_nothing_are_greedy() {
    let mut logits = logits(100, 2.0);
    logits[40] = 5.0;
    let greedy = sample(&logits, &GREEDY, 0, 0).unwrap();
    for temperature in [1e-3, 1e-20, f32::from_bits(1)] {
        let choice = sample(&logits, &params(temperature, 1.0, 0), 5, 0).unwrap();
        assert_eq!((choice.id, choice.logprob), (greedy.id, 0.0));
    }
}

#[test]
fn what_is_not_finite_is_an_error() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut logits = logits(50, 1.0);
        logits[33] = bad;
        let error = sample(&logits, &GREEDY, 4, 0).unwrap_err();
        assert_eq!(error, EngineError::NotFinite { id: 33, index: 4 });
    }
}

proptest! {
    #[test]
    fn only_what_top_k_and_top_p_leave_is_chosen(
        count in 1_usize..700,
        spread in 0.1_f32..8.0,
        temperature in 0.05_f32..4.0,
        top_p in 0.01_f32..1.0,
        top_k in 0_usize..800,
        index in 0_u64..u64::MAX,
    ) {
        let params = params(temperature, top_p, top_k);
        let logits = logits(count, spread);
        let expected = expected(&logits, &params);
        let choice = sample(&logits, &params, index, 0).unwrap();
        let exact = expected[choice.id as usize];
        // The last of those in top_p may be in or out, by rounding.
        let slack = 1e-3_f64.max(expected.iter().copied().fold(0.0, f64::max));
        prop_assert!(exact > 0.0 || choice.logprob.exp() < slack as f32);
    }
}
