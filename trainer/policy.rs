//! A policy's directory, opened: what it is, its words, and its weights.

use std::path::Path;

use candle_core::Device;
use orcapack_tasks::defect::Defects;

use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::text::chat::ChatTemplate;
use crate::text::tokenizer::Tokenizer;

/// Everything of a policy but its weights: enough to render conversations and to plan memory.
pub struct Policy {
    pub config: ModelConfig,
    pub tokenizer: Tokenizer,
    pub chat: ChatTemplate,
}

impl Policy {
    /// Reads and checks `dir` without its weights.
    ///
    /// # Errors
    /// Every fault in its files, and where they do not fit each other.
    pub fn open(dir: &Path) -> Result<Self, Defects> {
        let config = ModelConfig::read(&dir.join("config.json"))?;
        let tokenizer = Tokenizer::read(&dir.join("tokenizer.json"), &config)?;
        let chat = ChatTemplate::read(dir)?;
        Ok(Self { config, tokenizer, chat })
    }

    /// Its weights as f32, each a variable on `device`.
    ///
    /// # Errors
    /// Every fault in its safetensors files, told before memory is taken.
    pub fn load(&self, dir: &Path, device: &Device) -> Result<Parameters, Defects> {
        Parameters::load(dir, &self.config, device)
    }
}
