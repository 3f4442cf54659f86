//! From a policy's directory to an engine that samples from it: what there is, how much of this
//! machine it takes, and the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use candle_core::Device;
use orcapack_actors::model::settings::{EngineBounds, PolicySettings};
use orcapack_tasks::{Defect, Defects};
use orcapack_trainer::caps::CONTEXT_TOKENS_MAX;
use orcapack_trainer::engine::handle::EngineHandle;
use orcapack_trainer::engine::request::EngineError;
use orcapack_trainer::engine::weights::EngineWeights;
use orcapack_trainer::engine::{Engine, EngineSettings};
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::model::parameters::Parameters;
use orcapack_trainer::policy::Policy;
use tokio::sync::oneshot;

use crate::memory;

/// Tokens of prompts in one step of the engine. More would make those who wait for their next
/// token wait longer, fewer would read the weights more often for the same prompts.
const PREFILL_TOKENS_MAX: usize = 256;
/// Of keys and values.
const NUMBER_BYTES: u64 = 4;
/// The engine keeps a head's numbers in rows of so many.
const LANES: usize = 16;

/// A policy's directory that was found in order, and the engine that it will be.
pub struct PolicyEngine {
    dir: PathBuf,
    pub policy: Policy,
    pub settings: EngineSettings,
    pub size: Size,
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub parameters: usize,
    pub weights_bytes: u64,
    /// At most, for the keys and values of all slots together.
    pub kept_bytes: u64,
}

/// What comes of a start; an error where its thread has panicked.
pub type Starting = oneshot::Receiver<Result<EngineHandle, StartError>>;

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Weights(#[from] Defects),
    #[error("the weights that were delivered are of another model")]
    OtherModel,
    #[error("the weights cannot be prepared: {0}")]
    Prepare(#[from] candle_core::Error),
    #[error("no thread for it: {0}")]
    Thread(std::io::Error),
    #[error("its start has panicked")]
    Panicked,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl PolicyEngine {
    /// Reads and checks the directory, of its weights only what they are.
    ///
    /// # Errors
    /// Every fault in its files, or bounds that do not fit the model or this machine.
    pub fn open(settings: &PolicySettings) -> Result<Self, Defects> {
        let PolicySettings { checkpoint, bounds, .. } = settings;
        let policy = Policy::open(checkpoint)?;
        Parameters::check(checkpoint, &policy.config)?;
        let (settings, size) = plan(checkpoint, &policy.config, bounds, memory::free_bytes())?;
        Ok(Self { dir: checkpoint.clone(), policy, settings, size })
    }

    /// Has room for other requests than one a slot to wait.
    #[must_use]
    pub fn with_queue(mut self, queue_max: usize) -> Self {
        self.settings.queue_max = queue_max;
        self
    }

    /// Whether they are weights of its model.
    pub fn fits(&self, weights: &EngineWeights) -> bool {
        *weights.config() == self.policy.config
    }

    /// Starts the engine with weights that were delivered, or reads the directory's own, on a
    /// thread for that: nobody who gives up has to wait for the disk.
    pub fn start(self: &Arc<Self>, delivered: Option<Arc<EngineWeights>>) -> Starting {
        let (told, starting) = oneshot::channel();
        let opened = self.clone();
        let load = move || {
            // Who waited may have gone.
            let _ = told.send(opened.load(delivered));
        };
        match thread::Builder::new().name("policy-load".to_owned()).spawn(load) {
            Ok(_) => starting,
            Err(error) => {
                let (told, failed) = oneshot::channel();
                let _ = told.send(Err(StartError::Thread(error)));
                failed
            }
        }
    }

    fn load(&self, delivered: Option<Arc<EngineWeights>>) -> Result<EngineHandle, StartError> {
        let weights = match delivered {
            Some(weights) if self.fits(&weights) => weights,
            Some(_) => return Err(StartError::OtherModel),
            None => {
                let parameters = self.policy.load(&self.dir, &Device::Cpu)?;
                Arc::new(EngineWeights::pack(&parameters, 0)?)
            }
        };
        let eos = self.policy.config.eos_token_ids.clone();
        let tokenizer = self.policy.tokenizer.clone();
        Ok(Engine::start(weights, tokenizer, eos, self.settings)?)
    }
}

/// Pure, but for the number of processors where none is asked for.
fn plan(
    dir: &Path,
    config: &ModelConfig,
    bounds: &EngineBounds,
    free_bytes: u64,
) -> Result<(EngineSettings, Size), Defects> {
    let refuse = |key: &str, expected: String, found: String| {
        Defects::from(Defect::new(dir, expected, found).at_key(key))
    };
    let weights_bytes = config.parameters() as u64 * NUMBER_BYTES;
    let model_max = config.max_position_embeddings.min(CONTEXT_TOKENS_MAX);
    let context = bounds.context_tokens_max.unwrap_or(model_max);
    if context > model_max {
        let expected = format!("at most {model_max}, for which the model was made");
        return Err(refuse("context_tokens_max", expected, context.to_string()));
    }
    let token_bytes = token_bytes(config);
    // While they are read, the weights are there twice.
    let free_bytes = free_bytes.saturating_sub(2 * weights_bytes);
    let kept_bytes = bounds.kept_mb.map_or(free_bytes / 2, |kept_mb| kept_mb << 20);
    let kept_tokens = usize::try_from(kept_bytes / token_bytes).unwrap_or(usize::MAX);
    // Who asks for no context gets what fits: a token and an answer at least.
    let least = bounds.context_tokens_max.unwrap_or(2);
    if kept_tokens < least {
        let mib = (least as u64 * token_bytes).div_ceil(1 << 20);
        let expected = format!("at least {mib} MiB for a context of {least} tokens");
        return Err(refuse("kept_mb", expected, format!("{} MiB", kept_bytes >> 20)));
    }
    let context_tokens_max = context.min(kept_tokens);
    let kept_tokens_max = kept_tokens.min(bounds.slots.saturating_mul(context_tokens_max));
    let settings = EngineSettings {
        slots: bounds.slots,
        context_tokens_max,
        kept_tokens_max,
        queue_max: bounds.slots,
        prefill_tokens_max: PREFILL_TOKENS_MAX,
        threads: bounds
            .threads
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)),
    };
    let kept_bytes = kept_tokens_max as u64 * token_bytes;
    let size = Size { parameters: config.parameters(), weights_bytes, kept_bytes };
    Ok((settings, size))
}

/// The keys and values of one token in all layers.
fn token_bytes(config: &ModelConfig) -> u64 {
    let numbers = config.num_key_value_heads * config.head_dim.next_multiple_of(LANES);
    2 * (config.num_hidden_layers * numbers) as u64 * NUMBER_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        ModelConfig {
            vocab_size: 512,
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            max_position_embeddings: 4096,
            eos_token_ids: vec![1],
        }
    }

    const BOUNDS: EngineBounds =
        EngineBounds { slots: 4, context_tokens_max: None, kept_mb: None, threads: Some(2) };

    fn planned(bounds: EngineBounds, free_bytes: u64) -> Result<EngineSettings, String> {
        let planned = plan(Path::new("policy"), &config(), &bounds, free_bytes);
        planned.map(|(settings, _)| settings).map_err(|defects| defects.to_string())
    }

    #[test]
    fn an_engine_takes_no_more_than_its_slots_can_use() {
        let settings = planned(BOUNDS, 1 << 40).unwrap();
        assert_eq!((settings.context_tokens_max, settings.kept_tokens_max), (4096, 4 * 4096));
        assert_eq!((settings.slots, settings.queue_max, settings.threads), (4, 4, 2));
    }

    #[test]
    fn memory_bounds_what_is_kept_and_the_context_where_none_is_asked_for() {
        // Two layers, keys and values, two heads of one row: 512 bytes a token.
        assert_eq!(token_bytes(&config()), 512);
        let settings = planned(EngineBounds { kept_mb: Some(1), ..BOUNDS }, 0).unwrap();
        assert_eq!((settings.context_tokens_max, settings.kept_tokens_max), (2048, 2048));
        let weights = config().parameters() as u64 * 4;
        let settings = planned(BOUNDS, 2 * weights + 2 * 512 * 100).unwrap();
        assert_eq!((settings.context_tokens_max, settings.kept_tokens_max), (100, 100));
    }

    #[test]
    fn bounds_that_cannot_be_met_are_refused() {
        let long = EngineBounds { context_tokens_max: Some(5000), ..BOUNDS };
        let error = planned(long, 1 << 40).unwrap_err();
        assert!(error.contains("context_tokens_max: expected at most 4096"), "{error}");
        let tight = EngineBounds { context_tokens_max: Some(4096), kept_mb: Some(1), ..BOUNDS };
        let error = planned(tight, 1 << 40).unwrap_err();
        assert!(error.contains("kept_mb: expected at least 2 MiB"), "{error}");
        assert!(planned(BOUNDS, 0).is_err(), "no memory at all");
    }
}
