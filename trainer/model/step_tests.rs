use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::*;
use crate::model::config::ModelConfig;
use crate::model::gradients::Gradients;
use crate::model::plan::AttentionPlan;
use crate::ops::composed::to_host;
use crate::samples::batch::Target;

fn config(tied: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 29,
        hidden_size: 20,
        intermediate_size: 28,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 10,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: tied,
        max_position_embeddings: 4096,
        eos_token_ids: vec![0],
    }
}

/// Weights away from the special values of a fresh model: norms are not 1, matrices are not small.
fn parameters(config: &ModelConfig) -> Parameters {
    let parameters = Parameters::random(config, 7, &Device::Cpu).unwrap();
    for (index, (_, var)) in parameters.named().into_iter().enumerate() {
        let wave: Vec<f32> =
            (0..var.elem_count()).map(|i| 0.1 * ((i * 7 + index) as f32).sin()).collect();
        let wave = Tensor::from_vec(wave, var.shape(), &Device::Cpu).unwrap();
        let stretch = if var.rank() == 1 { 1.0 } else { 8.0 };
        var.set(&(var.as_detached_tensor() * stretch).unwrap().add(&wave).unwrap()).unwrap();
    }
    parameters
}

/// Each row's segments; every token but the first of a segment is a target, in odd rows every
/// second one.
fn batch(segments: Vec<Vec<u32>>, vocab: usize) -> Batch {
    let (rows, len) = (segments.len(), segments[0].iter().sum::<u32>() as usize);
    let id = |at: usize| ((at * 7 + at / 5 * 3) % vocab) as u32;
    let ids = (0..rows * len).map(id).collect();
    let positions: Vec<u32> = segments.iter().flatten().flat_map(|&len| 0..len).collect();
    let wanted =
        |at: &usize| positions[*at] > 0 && ((at / len).is_multiple_of(2) || at.is_multiple_of(2));
    let targets = (0..rows * len).filter(wanted).map(|at| Target {
        place: at as u32 - 1,
        id: id(at),
        sample: 0,
        sampler_logprob: f32::NAN,
        version: 0,
    });
    let targets = targets.collect();
    Batch { rows, len, ids, positions, segments, targets }
}

fn settings(ops: Ops) -> StepSettings {
    let activations = Activations::Keep;
    StepSettings { ops, activations, logprob_chunk: 7, temperature: 1.0 }
}

/// Of a loss that weighs each target differently.
fn derivatives(targets: usize) -> Vec<f32> {
    (0..targets).map(|at| -0.3 - 0.2 * (at as f32).cos()).collect()
}

fn run(
    parameters: &Parameters,
    batch: &Batch,
    settings: &StepSettings,
) -> (TargetLogprobs, Gradients) {
    let mut gradients = Gradients::new(&parameters.named());
    let targets = forward_backward(
        parameters,
        batch,
        settings,
        &mut |targets| Ok(derivatives(targets.logprobs.len())),
        &mut |group| gradients.add(group.gradients).unwrap(),
    );
    (targets.unwrap(), gradients)
}

fn host(gradients: &Gradients) -> Vec<Vec<f32>> {
    gradients.all().unwrap().into_iter().map(|tensor| to_host(tensor).unwrap()).collect()
}

/// The largest difference, over the largest value of `expected`.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-6_f32, |max, x| max.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |max: f32, x| if x.is_nan() { x } else { max.max(x) }) / scale
}

fn assert_same(
    parameters: &Parameters,
    (found, found_gradients): &(TargetLogprobs, Gradients),
    (expected, expected_gradients): &(TargetLogprobs, Gradients),
) {
    assert!(distance(&found.logprobs, &expected.logprobs) < 2e-5);
    assert!(distance(&found.entropies, &expected.entropies) < 2e-5);
    let (found, expected) = (host(found_gradients), host(expected_gradients));
    // Where a weight hardly matters, its gradient is what large numbers leave that cancel out, and
    // their rounding is in it: of a hundredth of the largest gradient, not of itself. And a head
    // that is nearly zero is normalised by up to a thousand, its rounding with it.
    let floor = expected.iter().flatten().fold(0.0_f32, |max, x| max.max(x.abs())) / 100.0;
    for ((found, expected), (name, _)) in found.iter().zip(&expected).zip(parameters.named()) {
        let largest = expected.iter().fold(1e-6_f32, |max, x| max.max(x.abs()));
        let distance = distance(found, expected) * largest / largest.max(floor);
        assert!(distance < 5e-4, "{name}: {distance}");
    }
}

/// Of the loss whose derivatives are [`derivatives`].
fn loss(parameters: &Parameters, batch: &Batch, settings: &StepSettings) -> f64 {
    let targets = logprobs(parameters, batch, settings).unwrap().logprobs;
    let weights = derivatives(targets.len());
    targets.iter().zip(weights).map(|(&logprob, d)| f64::from(logprob) * f64::from(d)).sum()
}

#[test]
fn every_weight_gets_a_gradient_that_agrees_with_finite_differences() {
    for (tied, ops) in [(true, Ops::Composed), (false, Ops::Composed), (true, Ops::Fused)] {
        let parameters = parameters(&config(tied));
        let batch = batch(vec![vec![9, 4], vec![2, 11]], 29);
        let settings = StepSettings { temperature: 0.8, ..settings(ops) };
        let (_, gradients) = run(&parameters, &batch, &settings);
        for ((name, var), gradient) in parameters.named().into_iter().zip(gradients.all().unwrap())
        {
            let norm =
                to_host(gradient).unwrap().iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            assert!(norm > 1e-4, "{name}: {norm}");
            let (before, step) = (var.copy().unwrap(), 2e-3);
            let at = |side: f64| {
                let moved = (&before + (gradient * (side * step / norm)).unwrap()).unwrap();
                var.set(&moved).unwrap();
                loss(&parameters, &batch, &settings)
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
            var.set(&before).unwrap();
            assert!((slope / norm - 1.0).abs() < 5e-3, "{name}: slope {slope}, norm {norm}");
        }
    }
}

#[test]
fn layers_one_at_a_time_give_the_gradients_of_the_whole_graph() {
    let parameters = parameters(&config(true));
    let batch = batch(vec![vec![5, 6], vec![11]], 29);
    let (_, gradients) = run(&parameters, &batch, &settings(Ops::Composed));

    let plan = plan(&parameters, &batch, &settings(Ops::Composed)).unwrap();
    let mut x = parameters.embed.index_select(&ids(&parameters, &batch).unwrap(), 0).unwrap();
    for layer in &parameters.layers {
        let AttentionPlan::Composed(places) = &plan.attention else { unreachable!() };
        x = layer::compose(layer, &x, places, &parameters.config).unwrap();
    }
    let eps = parameters.config.rms_norm_eps;
    let normed = crate::ops::composed::rms_norm(&x, &parameters.norm, eps).unwrap();
    let logits = normed.matmul(&parameters.embed.t().unwrap()).unwrap();
    let e = logits.exp().unwrap();
    let logprobs = e.broadcast_div(&e.sum_keepdim(1).unwrap()).unwrap().log().unwrap();
    let mut weights = vec![0.0_f32; batch.rows * batch.len * 29];
    for (target, d) in batch.targets.iter().zip(derivatives(batch.targets.len())) {
        weights[target.place as usize * 29 + target.id as usize] = d;
    }
    let weights = Tensor::from_vec(weights, logprobs.shape(), &Device::Cpu).unwrap();
    let expected = (logprobs * weights).unwrap().sum_all().unwrap().backward().unwrap();
    for ((name, var), found) in parameters.named().into_iter().zip(host(&gradients)) {
        let expected = to_host(expected.get(var).unwrap()).unwrap();
        let distance = distance(&found, &expected);
        assert!(distance < 1e-4, "{name}: {distance}");
    }
}

#[test]
fn keeping_and_computing_again_are_the_same_bit_for_bit() {
    let parameters = parameters(&config(true));
    let batch = batch(vec![vec![3, 8], vec![11]], 29);
    for ops in [Ops::Composed, Ops::Fused] {
        let kept = run(&parameters, &batch, &settings(ops));
        let again = StepSettings { activations: Activations::Recompute, ..settings(ops) };
        let again = run(&parameters, &batch, &again);
        assert_eq!(kept.0, again.0);
        assert_eq!(host(&kept.1), host(&again.1));
    }
}

#[test]
fn groups_come_from_the_head_to_the_embedding_and_cover_all_weights_once() {
    for tied in [true, false] {
        let parameters = parameters(&config(tied));
        let batch = batch(vec![vec![6]], 29);
        let (mut names, mut seen) = (Vec::new(), Vec::new());
        let mut groups = Vec::new();
        forward_backward(
            &parameters,
            &batch,
            &settings(Ops::Composed),
            &mut |targets| Ok(vec![1.0; targets.logprobs.len()]),
            &mut |group| {
                let named = parameters.named();
                for (index, gradient) in &group.gradients {
                    let (name, var) = &named[*index];
                    let of_group = name.starts_with(&group.name) || name == "model.norm.weight";
                    assert!(of_group, "{name} in {}", group.name);
                    assert_eq!(gradient.dims(), var.dims(), "{name}");
                    seen.push(*index);
                }
                names.push(group.name);
                groups.push(group.gradients.iter().map(|(index, _)| *index).collect::<Vec<_>>());
            },
        )
        .unwrap();
        let expected =
            ["lm_head", "model.layers.2", "model.layers.1", "model.layers.0", "model.embed_tokens"];
        assert_eq!(names, expected);
        assert_eq!(groups, parameters.groups());
        seen.sort_unstable();
        assert_eq!(seen, (0..parameters.named().len()).collect::<Vec<_>>());
    }
}

#[test]
fn samples_in_one_row_do_not_see_each_other() {
    let parameters = parameters(&config(true));
    for ops in [Ops::Composed, Ops::Fused] {
        let packed = batch(vec![vec![4, 7]], 29);
        let together = logprobs(&parameters, &packed, &settings(ops)).unwrap().logprobs;
        let mut apart = Vec::new();
        for range in [0..4, 4..11] {
            let within = |target: &&Target| range.contains(&(target.place as usize));
            let targets = packed.targets.iter().filter(within);
            let targets =
                targets.map(|t| Target { place: t.place - range.start as u32, ..*t }).collect();
            let (rows, len) = (1, range.len());
            let ids = packed.ids[range.clone()].to_vec();
            let (positions, segments) = ((0..len as u32).collect(), vec![vec![len as u32]]);
            let alone = Batch { rows, len, ids, positions, segments, targets };
            apart.extend(logprobs(&parameters, &alone, &settings(ops)).unwrap().logprobs);
        }
        assert!(distance(&together, &apart) < 1e-5);
    }
}

#[test]
fn the_chunk_of_logits_changes_nothing() {
    let parameters = parameters(&config(false));
    let batch = batch(vec![vec![12, 1]], 29);
    for ops in [Ops::Composed, Ops::Fused] {
        let whole = StepSettings { logprob_chunk: 1000, ..settings(ops) };
        let whole = run(&parameters, &batch, &whole);
        assert_same(&parameters, &run(&parameters, &batch, &settings(ops)), &whole);
    }
}

#[test]
fn a_batch_without_targets_gives_gradients_of_zero() {
    let parameters = parameters(&config(true));
    let batch = Batch { targets: Vec::new(), ..batch(vec![vec![5]], 29) };
    for ops in [Ops::Composed, Ops::Fused] {
        let (_, gradients) = run(&parameters, &batch, &settings(ops));
        assert!(host(&gradients).iter().flatten().all(|&x| x == 0.0));
    }
}

#[test]
fn a_loss_that_is_not_finite_or_too_short_stops_the_step_before_any_gradient() {
    let parameters = parameters(&config(true));
    let batch = batch(vec![vec![5]], 29);
    let step = |derivatives: Vec<f32>| {
        let mut derivatives = Some(derivatives);
        forward_backward(
            &parameters,
            &batch,
            &settings(Ops::Composed),
            &mut |_| Ok(derivatives.take().unwrap()),
            &mut |group| panic!("gradients of {}", group.name),
        )
    };
    let error = step(vec![1.0, f32::NAN, 1.0, 1.0]).unwrap_err().to_string();
    assert_eq!(error, "derivative of the loss (1) is not finite: NaN");
    let error = step(vec![1.0]).unwrap_err().to_string();
    assert_eq!(error, "the loss gave 1 derivatives for 4 targets");
}

#[test]
fn weights_that_are_not_finite_are_noticed() {
    let parameters = parameters(&config(true));
    let weight = &parameters.layers[1].up_proj;
    weight.set(&(weight.as_detached_tensor() * f64::INFINITY).unwrap()).unwrap();
    for ops in [Ops::Composed, Ops::Fused] {
        let error = logprobs(&parameters, &batch(vec![vec![5]], 29), &settings(ops));
        assert!(matches!(error, Err(StepError::NotFinite { .. })));
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused_with_what_was_expected() {
    let parameters = parameters(&config(true));
    let good = batch(vec![vec![2, 3]], 29);
    let refused = |batch: Batch| {
        logprobs(&parameters, &batch, &settings(Ops::Composed)).unwrap_err().to_string()
    };
    let with = |change: fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        refused(batch)
    };
    let cases = [
        (with(|b| b.ids[3] = 29), "token id: expected less than 29, found 29"),
        (with(|b| b.positions.truncate(4)), "positions: expected 5, found 4"),
        (with(|b| b.segments[0][0] = 1), "tokens in the segments of row 0: expected 5, found 4"),
        (with(|b| b.targets[0].place = 5), "place of a target: expected less than 5, found 5"),
        (with(|b| b.rows = 0), "it has no tokens"),
    ];
    for (found, expected) in cases {
        assert_eq!(found, format!("the batch does not fit: {expected}"));
    }
}

#[test]
fn a_segment_of_many_blocks_of_keys_is_seen_whole() {
    let config = ModelConfig { num_hidden_layers: 1, ..config(true) };
    let parameters = parameters(&config);
    let batch = batch(vec![vec![577, 1, 70]], 29);
    let composed = run(&parameters, &batch, &settings(Ops::Composed));
    assert_same(&parameters, &run(&parameters, &batch, &settings(Ops::Fused)), &composed);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let parameters = parameters(&config(true));
    let batch = batch(vec![vec![70, 30], vec![100]], 29);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (targets, gradients) = pool.install(|| run(&parameters, &batch, &settings(Ops::Fused)));
        (targets, host(&gradients))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn fused_operations_refuse_weights_that_are_not_f32() {
    let mut parameters = parameters(&config(true));
    let half = parameters.layers[1].up_proj.to_dtype(candle_core::DType::BF16).unwrap();
    parameters.layers[1].up_proj = candle_core::Var::from_tensor(&half.detach()).unwrap();
    let error = logprobs(&parameters, &batch(vec![vec![5]], 29), &settings(Ops::Fused));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("fused operations need F32, found BF16"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn fused_and_composed_agree_in_values_and_gradients(
        cut in proptest::collection::vec(1_u32..70, 2),
        (heads, groups) in (1_usize..3, 1_usize..4),
        head_dim in prop::sample::select(vec![2_usize, 6, 16, 34]),
        (hidden, ff, vocab) in (8_usize..40, 1_usize..40, 2_usize..60),
        temperature in 0.5_f32..2.0,
    ) {
        let config = ModelConfig {
            vocab_size: vocab,
            hidden_size: hidden,
            intermediate_size: ff,
            num_hidden_layers: 2,
            num_attention_heads: heads * groups,
            num_key_value_heads: heads,
            head_dim,
            ..config(true)
        };
        let parameters = parameters(&config);
        let whole = cut.iter().sum();
        let batch = batch(vec![cut, vec![whole]], vocab);
        let settings = |ops| StepSettings { temperature, ..settings(ops) };
        let composed = run(&parameters, &batch, &settings(Ops::Composed));
        assert_same(&parameters, &run(&parameters, &batch, &settings(Ops::Fused)), &composed);
    }
}
