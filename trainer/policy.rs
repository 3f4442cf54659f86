//! A policy's directory, opened: what it is, its words, and its weights.

use std::io;
use std::path::Path;

use candle_core::Device;
use orcapack_tasks::defect::{Defect, Defects};
use serde_json::{Map, Value};

use crate::files;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::model::weights_write::{WeightsFormat, write_weights};
use crate::text::chat::ChatTemplate;
use crate::text::conversation::Renderer;
use crate::text::tokenizer::Tokenizer;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Everything of a policy but its weights: enough to render conversations and to plan memory.
#[derive(Clone)]
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
        let config = ModelConfig::read(&dir.join("config.json"));
        let tokenizer_file = dir.join(TOKENIZER);
        // Without the size of the vocabulary, nothing can be said of the ids.
        let tokenizer = config.as_ref().ok().map(|config| Tokenizer::read(&tokenizer_file, config));
        let chat = ChatTemplate::read(dir);
        match (config, tokenizer, chat) {
            (Ok(config), Some(Ok(tokenizer)), Ok(chat)) => {
                let policy = Self { config, tokenizer, chat };
                policy.check_end_tokens(&tokenizer_file).into_result(policy)
            }
            (config, tokenizer, chat) => {
                let faults = [config.err(), tokenizer.and_then(Result::err), chat.err()];
                Err(Defects(faults.into_iter().flatten().flat_map(|faults| faults.0).collect()))
            }
        }
    }

    /// An id without a token could be sampled by nobody who learnt from text. And a policy that is
    /// not stopped by the token with which its template ends its turns would say that, and go on.
    fn check_end_tokens(&self, tokenizer: &Path) -> Defects {
        let ids = &self.config.eos_token_ids;
        let unknown = ids.iter().filter(|id| self.tokenizer.bytes(**id).is_empty());
        let defect = |id| Defect::new(tokenizer, format!("a token with eos_token_id {id}"), "none");
        let mut defects = Defects(unknown.map(defect).collect());
        // A template that ends no turn is refused by whoever renders with it.
        let renderer = self.renderer(Map::new());
        if let Some(end) =
            renderer.ok().map(|renderer| renderer.end_id()).filter(|end| !ids.contains(end))
        {
            let word = self.tokenizer.decode(&[end], true);
            let expected = format!(
                "{end} among them, `{word}`, which ends an assistant's turn in the template"
            );
            let file = tokenizer.with_file_name("generation_config.json");
            defects.0.push(Defect::new(&file, expected, format!("{ids:?}")).at_key("eos_token_id"));
        }
        defects
    }

    /// Its weights as f32, each a variable on `device`.
    ///
    /// # Errors
    /// Every fault in its safetensors files, told before memory is taken; then elements that are
    /// not finite, and a head that is not the embedding that it is tied to.
    pub fn load(&self, dir: &Path, device: &Device) -> Result<Parameters, Defects> {
        Parameters::load(dir, &self.config, device)
    }

    /// Writes the policy, with weights of its shape, as a directory that transformers reads. `dir`
    /// is new or empty. config.json comes last: without it the rest is no policy.
    ///
    /// # Errors
    /// A folder with something in it, or files that cannot be written.
    pub fn save(
        &self,
        dir: &Path,
        parameters: &Parameters,
        format: WeightsFormat,
    ) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        if std::fs::read_dir(dir)?.next().is_some() {
            let message = format!("{}: expected an empty folder", dir.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let tokenizer =
            self.tokenizer.to_json().map_err(|defect| io::Error::other(defect.to_string()))?;
        files::write_text(&dir.join(TOKENIZER), &tokenizer)?;
        let tokenizer_config = Value::Object(self.tokenizer_config());
        files::write_text(&dir.join(TOKENIZER_CONFIG), &format!("{tokenizer_config:#}\n"))?;
        files::write_text(&dir.join(CHAT_TEMPLATE), self.chat.source())?;
        write_weights(dir, parameters, format)?;
        parameters.config.write(dir, format.element)?;
        files::sync_dir(dir)
    }

    /// What renders its conversations; `kwargs` are given to the template beside the messages.
    ///
    /// # Errors
    /// A template whose prompts cannot be extended.
    pub fn renderer(&self, kwargs: Map<String, Value>) -> Result<Renderer, Defects> {
        Renderer::new(self.tokenizer.clone(), self.chat.clone(), kwargs)
    }

    /// What transformers wants beside tokenizer.json. The template stands here too, for those who
    /// do not know a file of its own.
    fn tokenizer_config(&self) -> Map<String, Value> {
        let mut config = self.chat.specials().clone();
        let end = self.config.eos_token_ids.first().map(|id| self.tokenizer.decode(&[*id], true));
        if let (Some(end), None) = (end, config.get("eos_token")) {
            config.insert("eos_token".to_owned(), end.into());
        }
        let rest = [
            ("chat_template", Value::from(self.chat.source())),
            ("clean_up_tokenization_spaces", Value::from(false)),
            ("model_max_length", Value::from(self.config.max_position_embeddings)),
            ("tokenizer_class", Value::from("PreTrainedTokenizerFast")),
        ];
        config.extend(rest.map(|(key, value)| (key.to_owned(), value)));
        config
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
