//! A policy's directory, opened: what it is, its words, and its weights.

use std::io::{self, Write as _};
use std::path::Path;

use candle_core::Device;
use orcapack_tasks::defect::Defects;
use serde_json::{Map, json};

use crate::files;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::model::weights_write::{self, WeightsFormat};
use crate::text::chat::ChatTemplate;
use crate::text::conversation::Renderer;
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

    /// Fills `dir`, which is there and empty, with everything that [`Policy::open`] and
    /// transformers read.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(
        &self,
        dir: &Path,
        parameters: &Parameters,
        format: WeightsFormat,
    ) -> io::Result<()> {
        self.config.write(dir, format.element)?;
        let texts = [
            (
                "tokenizer.json",
                self.tokenizer.to_json().map_err(Defects::from).map_err(io::Error::other)?,
            ),
            ("tokenizer_config.json", self.tokenizer_config()),
            ("chat_template.jinja", self.chat.source().to_owned()),
        ];
        for (name, text) in texts {
            files::write_whole(&dir.join(name), |file| file.write_all(text.as_bytes()))?;
        }
        weights_write::write_weights(dir, parameters, format)
    }

    /// What transformers wants to know of the tokenizer beside its own file.
    fn tokenizer_config(&self) -> String {
        let eos = self.config.eos_token_ids.first().map(|id| self.tokenizer.decode(&[*id], true));
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.config.max_position_embeddings,
            "eos_token": eos,
            "pad_token": eos,
            "clean_up_tokenization_spaces": false,
        });
        format!("{config:#}\n")
    }

    /// What renders its conversations.
    ///
    /// # Errors
    /// A template whose prompts cannot be extended.
    pub fn renderer(&self) -> Result<Renderer, Defects> {
        Renderer::new(self.tokenizer.clone(), self.chat.clone(), Map::new())
    }
}
