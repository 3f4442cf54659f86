//! Chat templates: a conversation as the text that the model was taught.
//!
//! A template is Jinja as transformers renders it: the same settings for white space, the same
//! functions beside Jinja's own, the methods of Python's strings and dicts, and the special tokens
//! as variables. It is a stranger's program, so it has a budget: of its length, and of the steps
//! and the memory of a rendering.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use orcapack_tasks::defect::{Defect, Defects};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::caps::TEXT_BYTES_MAX;
use crate::files;
use crate::text::template_functions;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// A Jinja template, from chat_template.jinja or tokenizer_config.json. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    shared: Arc<Shared>,
}

struct Shared {
    environment: Environment<'static>,
    source: String,
    /// Where it was found.
    file: PathBuf,
    /// `bos_token`, `eos_token` and so on.
    specials: Map<String, Json>,
}

/// Of one rendering: a step of the template each, or 64 bytes that it makes. A long conversation
/// takes some 100,000.
const FUEL: u64 = 4_000_000;
const NAME: &str = "chat_template";
const ASSISTANT: &str = "assistant";
const CHATML: &str = "\
{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

impl ChatMessage {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// The assistant's.
    pub fn answer(content: impl Into<String>) -> Self {
        Self::new(ASSISTANT, content)
    }

    /// Whether it is the assistant's.
    pub fn is_answer(&self) -> bool {
        self.role == ASSISTANT
    }
}

impl ChatTemplate {
    /// Reads the template of a Hugging Face directory: chat_template.jinja, or `chat_template` in
    /// tokenizer_config.json (the one named `default`, where there are several).
    ///
    /// # Errors
    /// No template in the folder, or one that cannot be parsed, with its line.
    pub fn read(dir: &Path) -> Result<Self, Defects> {
        let config_file = dir.join("tokenizer_config.json");
        let config = match config_file.exists() {
            true => read_config(&config_file)?,
            false => Map::new(),
        };
        let own_file = dir.join("chat_template.jinja");
        let (file, source) = match own_file.exists() {
            true => (own_file.clone(), files::read_text(&own_file, TEXT_BYTES_MAX)?),
            false => {
                let source = config.get("chat_template").and_then(in_config).ok_or_else(|| {
                    let expected = "a file, or `chat_template` in tokenizer_config.json";
                    Defect::new(&own_file, expected, "neither")
                })?;
                (config_file, source.to_owned())
            }
        };
        Ok(Self::new(file, source, specials(&config))?)
    }

    /// ChatML, for policies without a template of their own: `<|im_start|>ROLE`, a line break, the
    /// text, `<|im_end|>`, a line break. It leaves nothing out, so a conversation's text extends
    /// that of its beginning.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn chatml() -> Result<Self, Defect> {
        Self::new(PathBuf::from("chat_template.jinja"), CHATML.to_owned(), Map::new())
    }

    /// A template; `file` is where it was found, `specials` are the special tokens that it can
    /// name.
    ///
    /// # Errors
    /// What cannot be parsed, with its line.
    pub fn new(file: PathBuf, source: String, specials: Map<String, Json>) -> Result<Self, Defect> {
        if source.len() as u64 > TEXT_BYTES_MAX {
            let expected = format!("a template of at most {TEXT_BYTES_MAX} bytes");
            return Err(Defect::new(&file, expected, format!("{} bytes", source.len())));
        }
        let unusable = |error: Error| defect(&file, "a Jinja template", &error);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let mut environment = Environment::new();
        environment.set_syntax(syntax.map_err(unusable)?);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        template_functions::add_to(&mut environment);
        let plain = template_functions::without_generation_tags(&source);
        environment.add_template_owned(NAME, plain).map_err(unusable)?;
        Ok(Self { shared: Arc::new(Shared { environment, source, file, specials }) })
    }

    /// The template's text, as it stands in chat_template.jinja.
    pub fn source(&self) -> &str {
        &self.shared.source
    }

    /// The special tokens that the template can name: `bos_token`, `eos_token` and so on.
    pub fn specials(&self) -> &Map<String, Json> {
        &self.shared.specials
    }

    /// Where it was found.
    pub fn file(&self) -> &Path {
        &self.shared.file
    }

    /// `kwargs` are given to the template beside the messages (`enable_thinking`).
    ///
    /// # Errors
    /// What the template itself raises, or a fault in it, with its line.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        kwargs: &Map<String, Json>,
    ) -> Result<String, Defect> {
        let Shared { environment, file, specials, .. } = &*self.shared;
        let mut variables =
            BTreeMap::from(["tools", "documents"].map(|key| (key, Value::from(()))));
        let given = specials.iter().chain(kwargs);
        variables.extend(given.map(|(key, value)| (key.as_str(), Value::from(Serde(value)))));
        variables.insert("messages", Value::from(Serde(messages)));
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        let rendered = environment.get_template(NAME).and_then(|it| it.render(variables));
        rendered.map_err(|error| {
            let expected = match error.kind() {
                ErrorKind::OutOfFuel => "a rendering within its budget",
                _ => "a conversation that the template can render",
            };
            defect(file, expected, &error)
        })
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("file", &self.shared.file).finish_non_exhaustive()
    }
}

fn defect(file: &Path, expected: &str, error: &Error) -> Defect {
    let found = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let defect = Defect::new(file, expected, found);
    match error.line() {
        Some(line) => defect.at_line(line),
        None => defect,
    }
}

fn read_config(file: &Path) -> Result<Map<String, Json>, Defect> {
    let bytes = files::read(file, TEXT_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Defect::new(file, "a JSON object", error.to_string()).at_line(error.line())
    })
}

/// `chat_template` is one template, or a list of `{"name": ..., "template": ...}`.
fn in_config(value: &Json) -> Option<&str> {
    match value {
        Json::String(source) => Some(source),
        Json::Array(list) => {
            list.iter().find(|entry| entry["name"] == "default")?["template"].as_str()
        }
        _ => None,
    }
}

/// `*_token` of tokenizer_config.json: a text, or an object with `content`.
fn specials(config: &Map<String, Json>) -> Map<String, Json> {
    let tokens = config.iter().filter(|(key, _)| key.ends_with("_token"));
    let text = |value: &Json| match value {
        Json::String(text) => Some(text.clone()),
        Json::Object(token) => token.get("content")?.as_str().map(str::to_owned),
        _ => None,
    };
    tokens.filter_map(|(key, value)| Some((key.clone(), text(value)?.into()))).collect()
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
