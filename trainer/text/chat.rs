//! Chat templates: a conversation as the text that the model was taught.

use std::path::Path;

use orcapack_tasks::defect::{Defect, Defects};
use serde::Serialize;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// A Jinja template, from chat_template.jinja or tokenizer_config.json.
pub struct ChatTemplate {}

impl ChatTemplate {
    /// # Errors
    /// No template in the folder, or one that cannot be parsed, with its line.
    pub fn read(_dir: &Path) -> Result<Self, Defects> {
        todo!()
    }

    /// `kwargs` are given to the template beside the messages (`enable_thinking`).
    ///
    /// # Errors
    /// What the template itself raises, or a fault in it, with its line.
    pub fn render(
        &self,
        _messages: &[ChatMessage],
        _add_generation_prompt: bool,
        _kwargs: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Defect> {
        todo!()
    }
}
