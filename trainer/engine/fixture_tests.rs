//! Models for the tests of the engine, and what they say by the plainest computation.

use candle_core::{Device, Var};

use crate::model::config::ModelConfig;
use crate::model::parameters::{LayerParameters, Parameters};

/// A few layers with everything that can go wrong: heads that fill no lanes, more queries than
/// keys, sizes that are no multiples of anything.
pub(crate) fn odd_config() -> ModelConfig {
    ModelConfig {
        hidden_size: 40,
        intermediate_size: 52,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 12,
        tie_word_embeddings: false,
        ..ModelConfig::small(71, 0)
    }
}

/// Weights large enough that every part of the model counts; those of a fresh model say almost
/// the same of every token.
pub(crate) fn parameters(config: &ModelConfig, seed: u64) -> Parameters {
    let parameters = Parameters::random(config, seed, &Device::Cpu).unwrap();
    for (index, (_, weight)) in parameters.named().into_iter().enumerate() {
        if weight.rank() > 1 {
            weight.set(&(weight.as_tensor() * 8.0).unwrap()).unwrap();
        } else {
            let count = weight.elem_count();
            let values = (0..count).map(|i| 1.0 + 0.5 * f32::sin((index + 3 * i) as f32));
            let values = values.collect::<Vec<_>>();
            weight.set(Var::from_vec(values, count, &Device::Cpu).unwrap().as_tensor()).unwrap();
        }
    }
    parameters
}

/// Logits after each of `tokens`, in 64 bits, one number after the other.
pub(crate) fn oracle(parameters: &Parameters, tokens: &[u32]) -> Vec<Vec<f64>> {
    let config = &parameters.config;
    let embed = rows(&parameters.embed);
    let mut hidden: Vec<_> = tokens.iter().map(|id| embed[*id as usize].clone()).collect();
    for layer in &parameters.layers {
        oracle_layer(config, layer, &mut hidden);
    }
    let head = rows(parameters.head.as_ref().unwrap_or(&parameters.embed));
    let norm = vector(&parameters.norm);
    hidden.iter().map(|x| product(&head, &normed(x, &norm, config.rms_norm_eps))).collect()
}

fn oracle_layer(config: &ModelConfig, layer: &LayerParameters, hidden: &mut [Vec<f64>]) {
    let dim = config.head_dim;
    let group = config.num_attention_heads / config.num_key_value_heads;
    let project = |weight: &Var, norm: Option<&Var>, x: &[f64], position: usize| -> Vec<Vec<f64>> {
        let product = product(&rows(weight), x);
        let heads = product.chunks(dim).map(|head| match norm {
            Some(norm) => {
                let normed = normed(head, &vector(norm), config.rms_norm_eps);
                rotated(&normed, position, config.rope_theta)
            }
            None => head.to_vec(),
        });
        heads.collect()
    };
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (position, hidden) in hidden.iter_mut().enumerate() {
        let x = normed(hidden, &vector(&layer.input_norm), config.rms_norm_eps);
        let queries = project(&layer.q_proj, Some(&layer.q_norm), &x, position);
        keys.push(project(&layer.k_proj, Some(&layer.k_norm), &x, position));
        values.push(project(&layer.v_proj, None, &x, position));
        let attended = queries.iter().enumerate().flat_map(|(head, query)| {
            let scores =
                keys.iter().map(|key| dot(query, &key[head / group]) / (dim as f64).sqrt());
            let weights: Vec<f64> = scores.map(f64::exp).collect();
            let total: f64 = weights.iter().sum();
            let of = |i: usize| {
                let each = weights.iter().zip(&values);
                each.map(|(weight, value)| weight * value[head / group][i]).sum::<f64>() / total
            };
            (0..dim).map(of).collect::<Vec<_>>()
        });
        let attended: Vec<f64> = attended.collect();
        add(hidden, &product(&rows(&layer.o_proj), &attended));
        let x = normed(hidden, &vector(&layer.post_norm), config.rms_norm_eps);
        let (gate, up) = (product(&rows(&layer.gate_proj), &x), product(&rows(&layer.up_proj), &x));
        let gated = gate.iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up);
        add(hidden, &product(&rows(&layer.down_proj), &gated.collect::<Vec<_>>()));
    }
}

fn rows(weight: &Var) -> Vec<Vec<f64>> {
    let columns = *weight.dims().last().unwrap();
    vector(weight).chunks(columns).map(<[f64]>::to_vec).collect()
}

fn vector(weight: &Var) -> Vec<f64> {
    let values: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(rows: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    rows.iter().map(|row| dot(row, x)).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn normed(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let scale = 1.0 / (dot(x, x) / x.len() as f64 + eps).sqrt();
    x.iter().zip(weight).map(|(x, weight)| x * scale * weight).collect()
}

fn rotated(head: &[f64], position: usize, theta: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let each = (0..head.len()).map(|i| {
        let pair = i % half;
        let angle = position as f64 / theta.powf(2.0 * pair as f64 / head.len() as f64);
        let other = if i < half { -head[i + half] } else { head[i - half] };
        head[i] * angle.cos() + other * angle.sin()
    });
    each.collect()
}
