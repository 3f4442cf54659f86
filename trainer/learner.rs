//! What learns: a policy's weights or its adapters, with their optimizer.
//!
//! [`Sft`](crate::sft::Sft) and a [rank](crate::ranks) teach one, each in its way; what they save
//! is the same.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use candle_core::{Device, Result, Tensor, Var, safetensors};
use orcapack_tasks::defect::{Defect, Defects};

use crate::model::gradients::Gradients;
use crate::model::lora::Lora;
use crate::model::parameters::Parameters;
use crate::model::step::StepError;
use crate::model::weights_write::WeightsFormat;
use crate::optimizer::adamw::{AdamW, AdamWSettings};
use crate::policy::Policy;

/// In a checkpoint's folder.
pub const ADAPTERS: &str = "adapters";
const OPTIMIZER: &str = "optimizer.safetensors";

/// What of a policy learns.
pub enum Trainee {
    /// All of its weights.
    Full(Parameters),
    /// Adapters of a base that stays as it is.
    Adapters { base: Parameters, lora: Lora },
}

impl Trainee {
    /// What learns, by its name, always in the same order.
    pub fn named(&self) -> Vec<(String, &Var)> {
        match self {
            Self::Full(parameters) => parameters.named(),
            Self::Adapters { lora, .. } => lora.named(),
        }
    }

    /// The policy as it is now.
    ///
    /// # Errors
    /// The device's, and those of `with`.
    pub fn with_effective<T, E: From<candle_core::Error>>(
        &self,
        with: impl FnOnce(&Parameters) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match self {
            Self::Full(parameters) => with(parameters),
            Self::Adapters { base, lora } => with(&lora.effective(base)?),
        }
    }

    /// Of what learns, by the gradients of the policy's weights.
    pub(crate) fn gradients(
        &self,
        gradients: Vec<(usize, Tensor)>,
    ) -> std::result::Result<Vec<(usize, Tensor)>, StepError> {
        match self {
            Self::Full(_) => Ok(gradients),
            Self::Adapters { lora, .. } => Ok(lora.gradients(&gradients)?),
        }
    }

    /// Indices in [`Trainee::named`] of what has gradients in each group of a backward pass, in
    /// the order in which the groups come.
    pub(crate) fn groups(&self) -> Vec<Vec<usize>> {
        match self {
            Self::Full(parameters) => parameters.groups(),
            Self::Adapters { base, lora } => {
                let groups = base.groups().into_iter();
                groups.map(|weights| lora.trained_of(&weights)).collect()
            }
        }
    }
}

/// What learns, its optimizer, and how far they are.
pub struct Learner {
    trainee: Trainee,
    pub(crate) optimizer: AdamW,
    reference: Option<Parameters>,
    steps: u64,
}

/// All that another learner of the same policy needs to go on from here.
#[derive(Clone, Debug)]
pub struct LearnerState {
    pub steps: u64,
    /// Of what learns, by its name, in order; f32.
    pub weights: Vec<(String, Tensor)>,
    /// As [`AdamW::state`] gives it.
    pub optimizer: HashMap<String, Tensor>,
}

impl Learner {
    /// At its first step.
    ///
    /// # Errors
    /// The device's.
    pub fn new(trainee: Trainee, adamw: AdamWSettings) -> Result<Self> {
        let optimizer = AdamW::new(&trainee.named(), adamw)?;
        Ok(Self { trainee, optimizer, reference: None, steps: 0 })
    }

    /// With a policy that it is held to, where the loss has a `kl_coef`. The reference of adapters
    /// is their base, unless there is another.
    #[must_use]
    pub fn with_reference(self, reference: Parameters) -> Self {
        Self { reference: Some(reference), ..self }
    }

    pub fn reference(&self) -> Option<&Parameters> {
        match (&self.reference, &self.trainee) {
            (Some(reference), _) => Some(reference),
            (None, Trainee::Adapters { base, .. }) => Some(base),
            (None, Trainee::Full(_)) => None,
        }
    }

    pub fn trainee(&self) -> &Trainee {
        &self.trainee
    }

    /// Steps that were made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Makes a step.
    ///
    /// # Errors
    /// A weight without a gradient, before any is changed; the device's.
    pub fn apply(
        &mut self,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> std::result::Result<(), StepError> {
        self.optimizer.step(&self.trainee.named(), gradients, learning_rate)?;
        self.steps += 1;
        Ok(())
    }

    /// The same by gradients on the host, one slice for each of [`Trainee::named`].
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn apply_host(&mut self, gradients: &[&[f32]], learning_rate: f64) -> Result<()> {
        self.optimizer.step_host(&self.trainee.named(), gradients, learning_rate)?;
        self.steps += 1;
        Ok(())
    }

    /// Makes a step whose weights are computed already, as `weights` in the order of
    /// [`Trainee::named`].
    pub(crate) fn apply_weights(&mut self, weights: &[&[f32]]) -> Result<()> {
        for ((_, var), values) in self.trainee.named().into_iter().zip(weights) {
            let tensor = Tensor::from_slice(values, var.shape(), &Device::Cpu)?;
            var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?;
        }
        self.steps += 1;
        Ok(())
    }

    /// A copy, which does not change with this one.
    ///
    /// # Errors
    /// The device's.
    pub fn state(&self) -> Result<LearnerState> {
        let weights = self.trainee.named().into_iter().map(|(name, var)| {
            let host = var.as_detached_tensor().to_device(&Device::Cpu)?;
            Ok((name, host.to_dtype(candle_core::DType::F32)?.copy()?))
        });
        let weights = weights.collect::<Result<_>>()?;
        Ok(LearnerState { steps: self.steps, weights, optimizer: self.optimizer.state()? })
    }

    /// Becomes what `state` was taken of, up to the reference.
    ///
    /// # Errors
    /// A state of another policy, before anything is changed; the device's.
    pub fn load(&mut self, state: &LearnerState) -> Result<()> {
        let named = self.trainee.named();
        let is_alike = named.len() == state.weights.len()
            && named
                .iter()
                .zip(&state.weights)
                .all(|((name, var), (other, tensor))| name == other && var.dims() == tensor.dims());
        if !is_alike {
            candle_core::bail!("the state of another policy: its weights have other shapes")
        }
        self.optimizer.restore(&state.optimizer)?;
        for ((_, var), (_, tensor)) in named.into_iter().zip(&state.weights) {
            var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?;
        }
        self.steps = state.steps;
        Ok(())
    }

    /// The policy's weights, adapters merged, which do not change with this learner.
    ///
    /// # Errors
    /// The device's.
    pub fn effective(&self) -> Result<Parameters> {
        match &self.trainee {
            Trainee::Full(parameters) => parameters.duplicate(),
            Trainee::Adapters { base, lora } => lora.effective(base),
        }
    }

    /// Fills a checkpoint's folder: the policy's directory, the optimizer's state, and the adapters
    /// where there are some, which are merged in the policy's weights.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, policy: &Policy, dir: &Path) -> io::Result<()> {
        let state = self.optimizer.state().map_err(io::Error::other)?;
        self.save_with(policy, dir, &state)
    }

    /// The same, with an optimizer's state that was put together from the parts of several.
    pub(crate) fn save_with(
        &self,
        policy: &Policy,
        dir: &Path,
        optimizer: &HashMap<String, Tensor>,
    ) -> io::Result<()> {
        self.trainee
            .with_effective(|parameters| {
                let saved = policy.save(dir, parameters, WeightsFormat::default());
                saved.map_err(candle_core::Error::from)
            })
            .map_err(io::Error::other)?;
        if let Trainee::Adapters { lora, .. } = &self.trainee {
            // In a folder of their own: beside a config.json they would be loaded over it.
            let adapters = dir.join(ADAPTERS);
            fs::create_dir(&adapters)?;
            lora.save(&adapters, "")?;
        }
        safetensors::save(optimizer, dir.join(OPTIMIZER)).map_err(io::Error::other)
    }

    /// Goes on behind the `steps` of a checkpoint, whose weights this was made with.
    ///
    /// # Errors
    /// A state that is not this optimizer's; nothing has changed then.
    pub fn restore(&mut self, dir: &Path, steps: u64) -> std::result::Result<(), Defects> {
        let file = dir.join(OPTIMIZER);
        let restored =
            safetensors::load(&file, &Device::Cpu).and_then(|state| self.optimizer.restore(&state));
        let unfit = |error: candle_core::Error| {
            Defect::new(&file, "the state of this policy's optimizer", error.to_string())
        };
        restored.map_err(unfit)?;
        self.steps = steps;
        Ok(())
    }
}
