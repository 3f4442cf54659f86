//! Gradients of a whole step: summed over micro-batches, measured and clipped.

use candle_core::Tensor;

use crate::model::parameters::Parameters;
use crate::model::step::{GradientGroup, StepError};
use crate::ops::composed::to_host;

/// By a weight's index in [`Parameters::named`].
#[derive(Clone, Debug)]
pub struct Gradients {
    names: Vec<String>,
    tensors: Vec<Option<Tensor>>,
}

impl Gradients {
    /// None yet, of any weight.
    pub fn new(parameters: &Parameters) -> Self {
        let names: Vec<String> = parameters.named().into_iter().map(|(name, _)| name).collect();
        Self { tensors: vec![None; names.len()], names }
    }

    /// Adds those of one micro-batch, in the order of the calls.
    ///
    /// # Errors
    /// The device's.
    pub fn add(&mut self, group: GradientGroup) -> Result<(), StepError> {
        for (index, gradient) in group.gradients {
            let sum = match self.tensors[index].take() {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.tensors[index] = Some(sum);
        }
        Ok(())
    }

    /// # Errors
    /// A weight that has none: it would not be trained, and nobody would see it.
    pub fn all(&self) -> Result<Vec<&Tensor>, StepError> {
        let named = self.names.iter().zip(&self.tensors);
        let found = named.map(|(name, gradient)| {
            gradient.as_ref().ok_or_else(|| StepError::MissingGradient(name.clone()))
        });
        found.collect()
    }

    /// Euclidean norm over all weights, summed in f64 and in a fixed order.
    ///
    /// # Errors
    /// A weight without a gradient, or whose gradient is not finite; it is named.
    pub fn norm(&self) -> Result<f64, StepError> {
        let mut total = 0.0;
        for (name, gradient) in self.names.iter().zip(self.all()?) {
            let square: f64 = to_host(gradient)?.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            if !square.is_finite() {
                let name = format!("the gradient of {name}");
                return Err(StepError::NotFinite { name, value: square.sqrt() });
            }
            total += square;
        }
        Ok(total.sqrt())
    }

    /// Scales all gradients so that their norm is at most `max`; gives the norm before.
    ///
    /// # Errors
    /// As [`Gradients::norm`].
    pub fn clip(&mut self, max: f64) -> Result<f64, StepError> {
        let norm = self.norm()?;
        if norm > max {
            for gradient in self.tensors.iter_mut().flatten() {
                *gradient = (&*gradient * (max / norm))?;
            }
        }
        Ok(norm)
    }
}

#[cfg(test)]
#[path = "gradients_tests.rs"]
mod tests;
