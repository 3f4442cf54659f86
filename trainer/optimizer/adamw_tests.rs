use candle_core::Var;
use proptest::prelude::*;

use super::*;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;

fn config() -> ModelConfig {
    ModelConfig { hidden_size: 12, intermediate_size: 20, ..ModelConfig::small(17, 0) }
}

fn random(seed: u64) -> Parameters {
    Parameters::random(&config(), seed, &Device::Cpu).unwrap()
}

/// Some for every weight, other ones in each step.
fn gradients(parameters: &Parameters, step: usize) -> Gradients {
    let mut gradients = Gradients::new(&parameters.named());
    let all = parameters.named().into_iter().enumerate().map(|(index, (_, var))| {
        let value = |i: usize| (((i * 31 + index * 7 + step * 13) % 101) as f32 - 50.0) / 40.0;
        let values: Vec<f32> = (0..var.elem_count()).map(value).collect();
        (index, Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
    });
    gradients.add(all.collect()).unwrap();
    gradients
}

fn host(parameters: &Parameters) -> Vec<Vec<f32>> {
    parameters.named().into_iter().map(|(_, var)| to_host(var).unwrap()).collect()
}

/// The paper's algorithm, in f64 and one element at a time.
fn reference(settings: AdamWSettings, lr: f64, decays: bool, w: f32, gradients: &[f64]) -> f64 {
    let (mut w, mut m, mut v) = (f64::from(w), 0.0, 0.0);
    for (g, t) in gradients.iter().zip(1..) {
        m = settings.beta1 * m + (1.0 - settings.beta1) * g;
        v = settings.beta2 * v + (1.0 - settings.beta2) * g * g;
        let (m_hat, v_hat) =
            (m / (1.0 - settings.beta1.powi(t)), v / (1.0 - settings.beta2.powi(t)));
        let decay = if decays { settings.weight_decay } else { 0.0 };
        w -= lr * (m_hat / (v_hat.sqrt() + settings.eps) + decay * w);
    }
    w
}

/// Four steps, each element compared with the reference.
fn follows_the_paper(settings: AdamWSettings, lr: f64) {
    let parameters = random(3);
    let before = host(&parameters);
    let steps: Vec<Gradients> = (0..4).map(|step| gradients(&parameters, step)).collect();
    let mut adamw = AdamW::new(&parameters.named(), settings).unwrap();
    for gradients in &steps {
        adamw.step(&parameters.named(), gradients, lr).unwrap();
    }
    let steps: Vec<Vec<Vec<f32>>> = steps
        .iter()
        .map(|step| step.all().unwrap().into_iter().map(|g| to_host(g).unwrap()).collect())
        .collect();
    for (index, (name, var)) in parameters.named().into_iter().enumerate() {
        for (i, found) in to_host(var).unwrap().into_iter().enumerate() {
            let gradients: Vec<f64> = steps.iter().map(|step| f64::from(step[index][i])).collect();
            let decays = !name.ends_with("norm.weight");
            let expected = reference(settings, lr, decays, before[index][i], &gradients);
            let off = (f64::from(found) - expected).abs();
            assert!(off < 1e-5 * expected.abs().max(lr), "{name}: {found} {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn steps_are_those_of_the_paper_and_norms_do_not_decay(
        (beta1, beta2) in (0.0_f64..0.99, 0.5_f64..0.9999),
        (weight_decay, lr) in (0.0_f64..0.5, 1e-5_f64..0.1),
    ) {
        follows_the_paper(AdamWSettings { beta1, beta2, eps: 1e-8, weight_decay }, lr);
    }
}

#[test]
fn a_beta_that_is_nearly_one_keeps_the_digits_of_its_difference() {
    let (beta1, beta2) = (0.0, 0.9994369320462612);
    follows_the_paper(AdamWSettings { beta1, beta2, eps: 1e-8, weight_decay: 0.0 }, 1e-5);
}

#[test]
fn a_restored_optimizer_goes_on_bit_for_bit() {
    let (parameters, resumed) = (random(5), random(6));
    let mut adamw = AdamW::new(&parameters.named(), AdamWSettings::default()).unwrap();
    for step in 0..3 {
        adamw.step(&parameters.named(), &gradients(&parameters, step), 1e-2).unwrap();
    }
    for ((_, to), (_, from)) in resumed.named().into_iter().zip(parameters.named()) {
        to.set(from).unwrap();
    }
    let mut restored = AdamW::new(&resumed.named(), AdamWSettings::default()).unwrap();
    restored.restore(&adamw.state().unwrap()).unwrap();
    assert_eq!(restored.steps(), 3);
    for step in 3..5 {
        adamw.step(&parameters.named(), &gradients(&parameters, step), 1e-2).unwrap();
        restored.step(&resumed.named(), &gradients(&parameters, step), 1e-2).unwrap();
    }
    assert_eq!(host(&parameters), host(&resumed));
}

#[test]
fn a_state_of_another_model_is_refused_and_nothing_changes() {
    let parameters = random(5);
    let mut adamw = AdamW::new(&parameters.named(), AdamWSettings::default()).unwrap();
    adamw.step(&parameters.named(), &gradients(&parameters, 0), 1e-2).unwrap();
    let mut state = adamw.state().unwrap();
    state.insert("step".to_owned(), Tensor::new(&[9_i64], &Device::Cpu).unwrap());
    let moment = "model.layers.1.self_attn.q_norm.weight.v";
    state.insert(moment.to_owned(), Tensor::new(&[1_f32], &Device::Cpu).unwrap());
    let error = adamw.restore(&state).unwrap_err().to_string();
    assert!(error.contains(&format!("{moment}: expected 32 elements, found 1")), "{error}");
    state.remove(moment);
    let error = adamw.restore(&state).unwrap_err().to_string();
    assert!(error.contains(&format!("{moment}: not in the optimizer's state")), "{error}");
    assert_eq!(adamw.steps(), 1);
}

#[test]
fn weights_of_less_precision_keep_a_master_that_small_steps_add_up_in() {
    let mut parameters = random(5);
    parameters.norm =
        Var::from_tensor(&Tensor::ones(12, DType::BF16, &Device::Cpu).unwrap()).unwrap();
    let mut adamw = AdamW::new(&parameters.named(), AdamWSettings::default()).unwrap();
    // Adam's first steps are of about the learning rate; bf16 has 256 steps between 1 and 2.
    for _ in 0..8 {
        adamw.step(&parameters.named(), &gradients(&parameters, 1), 1e-3).unwrap();
    }
    let moved = to_host(&parameters.norm).unwrap().iter().filter(|&&x| x != 1.0).count();
    assert!(moved > 0);
    assert!(adamw.state().unwrap().contains_key("model.norm.weight.master"));
}

#[test]
fn a_missing_gradient_stops_the_step_before_any_weight_changes() {
    let parameters = random(5);
    let before = host(&parameters);
    let mut some = Gradients::new(&parameters.named());
    let gradient = parameters.embed.zeros_like().unwrap();
    some.add(vec![(0, gradient)]).unwrap();
    let mut adamw = AdamW::new(&parameters.named(), AdamWSettings::default()).unwrap();
    let error = adamw.step(&parameters.named(), &some, 1.0).unwrap_err().to_string();
    assert_eq!(error, "model.layers.0.input_layernorm.weight has no gradient");
    assert_eq!((host(&parameters), adamw.steps()), (before, 0));
}
