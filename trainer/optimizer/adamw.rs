//! AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, Var};
use multiversion::multiversion;
use rayon::prelude::*;

use crate::model::gradients::Gradients;
use crate::model::step::StepError;
use crate::ops::composed::to_host;

/// Elements of a task.
const BLOCK: usize = 1 << 14;
pub(crate) const STEP: &str = "step";

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// In [0, 1), as `beta2`.
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Of matrices; norms do not decay.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// The optimizer's state: for every weight two moments and, where the weight itself is not f32 on
/// the host, a master copy that is; all on the host.
///
/// [`AdamW::step`] applies gradients. [`AdamW::state`] and [`AdamW::restore`] take the state to a
/// checkpoint and back: steps after that are the same bit for bit.
pub struct AdamW {
    pub(super) settings: AdamWSettings,
    /// Steps done.
    pub(super) step: u64,
    pub(super) weights: Vec<WeightState>,
}

pub(super) struct WeightState {
    pub name: String,
    pub decays: bool,
    /// Of the gradient and of its square, each with the weight's elements.
    pub m: Vec<f32>,
    pub v: Vec<f32>,
    pub master: Option<Tensor>,
}

impl WeightState {
    /// Moves `var`, which this is the state of.
    fn update(&mut self, var: &Var, gradient: &[f32], rates: Rates) -> Result<()> {
        let rates = rates.of(self.decays);
        let moments = Mutex::new((&mut self.m[..], &mut self.v[..]));
        let update = Update { rates, gradient, moments };
        match &self.master {
            None => var.inplace_op1(&update),
            Some(master) => {
                master.inplace_op1(&update)?;
                var.set(&master.to_dtype(var.dtype())?.to_device(var.device())?)
            }
        }
    }
}

impl AdamW {
    /// Of the weights in `named`, which every step is given in the same order.
    ///
    /// # Errors
    /// The device's.
    pub fn new(named: &[(String, &Var)], settings: AdamWSettings) -> Result<Self> {
        let weights = named.iter().map(|(name, var)| {
            let is_master = var.dtype() == DType::F32 && var.device().is_cpu();
            let master = (!is_master).then(|| {
                let host = var.as_detached_tensor().to_device(&Device::Cpu)?;
                host.to_dtype(DType::F32)
            });
            let (decays, zeros) = (var.rank() > 1, vec![0.0; var.elem_count()]);
            Ok(WeightState {
                name: name.clone(),
                decays,
                m: zeros.clone(),
                v: zeros,
                master: master.transpose()?,
            })
        });
        Ok(Self { settings, step: 0, weights: weights.collect::<Result<_>>()? })
    }

    /// Applies `gradients`, which are of the model that this was made for.
    ///
    /// # Errors
    /// A weight without a gradient, before any is changed; the device's.
    pub fn step(
        &mut self,
        named: &[(String, &Var)],
        gradients: &Gradients,
        lr: f64,
    ) -> std::result::Result<(), StepError> {
        let gradients = gradients.all()?;
        self.step += 1;
        let rates = Rates::new(self.settings, self.step, lr);
        let named = named.iter().zip(gradients);
        for (state, ((_, var), gradient)) in self.weights.iter_mut().zip(named) {
            state.update(var, &to_host(gradient)?, rates)?;
        }
        Ok(())
    }

    /// The same by gradients on the host, each with its weight's elements.
    ///
    /// # Errors
    /// A gradient of another size; the device's.
    pub fn step_host(
        &mut self,
        named: &[(String, &Var)],
        gradients: &[&[f32]],
        lr: f64,
    ) -> Result<()> {
        self.step += 1;
        let rates = Rates::new(self.settings, self.step, lr);
        let named = named.iter().zip(gradients);
        for (state, ((_, var), gradient)) in self.weights.iter_mut().zip(named) {
            state.update(var, gradient, rates)?;
        }
        Ok(())
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// All that a checkpoint needs, by names: `step`, and of each weight `NAME.m`, `NAME.v` and,
    /// where there is one, `NAME.master`.
    ///
    /// # Errors
    /// The device's.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let step = Tensor::new(&[self.step.cast_signed()], &Device::Cpu)?;
        let mut state = HashMap::from([(STEP.to_owned(), step)]);
        for WeightState { name, m, v, master, .. } in &self.weights {
            let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
            state.insert(format!("{name}.m"), tensor(m)?);
            state.insert(format!("{name}.v"), tensor(v)?);
            if let Some(master) = master {
                state.insert(format!("{name}.master"), master.copy()?);
            }
        }
        Ok(state)
    }

    /// Goes on from what [`AdamW::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing or of another size; nothing has changed then.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let found = |name: &str| match state.get(name) {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("{name}: not in the optimizer's state"),
        };
        let values = |name: &str, len: usize| {
            let values = to_host(found(name)?)?;
            if values.len() != len {
                candle_core::bail!("{name}: expected {len} elements, found {}", values.len())
            }
            Ok(values)
        };
        let step = found(STEP)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        let restored =
            self.weights.iter().map(|WeightState { name, decays, m, master, .. }| {
                let of = |part: &str| values(&format!("{name}.{part}"), m.len());
                let master = master
                    .as_ref()
                    .map(|master| Tensor::from_vec(of("master")?, master.shape(), &Device::Cpu));
                Ok(WeightState {
                    name: name.clone(),
                    decays: *decays,
                    m: of("m")?,
                    v: of("v")?,
                    master: master.transpose()?,
                })
            });
        let restored = restored.collect::<Result<Vec<_>>>()?;
        match step[..] {
            [step] if step >= 0 => self.step = step.cast_unsigned(),
            _ => candle_core::bail!("{STEP}: expected one count, found {step:?}"),
        }
        self.weights = restored;
        Ok(())
    }
}

/// Of one step, as f32, after the bias correction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    beta1: f32,
    beta2: f32,
    /// `1 - beta1` and `1 - beta2`. Taken from what is f32 already, the difference to 1 would keep
    /// few of its digits.
    rest1: f32,
    rest2: f32,
    /// `lr / (1 - beta1^t)`.
    lr: f32,
    /// `1 / (1 - beta2^t)`.
    second: f32,
    eps: f32,
    /// What a weight is multiplied with.
    decay: f32,
}

impl Rates {
    #[expect(clippy::cast_possible_truncation, reason = "the weights are f32")]
    pub fn new(settings: AdamWSettings, step: u64, lr: f64) -> Self {
        let AdamWSettings { beta1, beta2, eps, weight_decay } = settings;
        let corrected = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            lr: (lr / corrected(beta1)) as f32,
            second: (1.0 / corrected(beta2)) as f32,
            eps: eps as f32,
            decay: (1.0 - lr * weight_decay) as f32,
        }
    }

    /// Of a weight that decays, or does not.
    pub fn of(self, decays: bool) -> Self {
        if decays { self } else { Self { decay: 1.0, ..self } }
    }
}

/// One weight's update, in one pass over its elements.
struct Update<'a> {
    rates: Rates,
    gradient: &'a [f32],
    /// Candle lends an operation to its tensor as shared; the lock is never waited for.
    moments: Mutex<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(weights), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("expected a contiguous f32 weight, found {layout:?}")
        };
        let weights = &mut weights[start..end];
        let Ok(mut moments) = self.moments.lock() else {
            candle_core::bail!("another update of this weight has failed")
        };
        let (m, v) = &mut *moments;
        if [self.gradient.len(), m.len()] != [weights.len(); 2] {
            candle_core::bail!("a weight of another shape than its gradient")
        }
        update_all(weights, self.gradient, m, v, self.rates);
        Ok(())
    }
}

/// On all threads; the same bits wherever the elements are cut.
pub(super) fn update_all(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], rates: Rates) {
    let moments = m.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK));
    let values = w.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK));
    values.zip(moments).for_each(|((w, g), (m, v))| update(w, g, m, v, rates));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn update(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], rates: Rates) {
    let Rates { beta1, beta2, rest1, rest2, lr, second, eps, decay } = rates;
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        *m = beta1 * *m + rest1 * g;
        *v = beta2 * *v + rest2 * g * g;
        *w = *w * decay - lr * *m / ((*v * second).sqrt() + eps);
    }
}

#[cfg(test)]
#[path = "adamw_tests.rs"]
mod tests;
