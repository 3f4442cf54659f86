//! Prompts as tokens that only grow, whoever renders them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::conversations::{
    Beginning, Conversations, KEPT_CONVERSATIONS_MAX, KEPT_TOKENS_MAX, Spoken,
};
use super::renderer::Renderer;
use super::{Answer, ModelError, Request};

/// Makes the prompts of one endpoint's calls, and keeps what was answered.
#[derive(Debug)]
pub(super) struct TokenPrompts(Mutex<Conversations>);

impl Default for TokenPrompts {
    fn default() -> Self {
        Self(Mutex::new(Conversations::new(KEPT_TOKENS_MAX, KEPT_CONVERSATIONS_MAX)))
    }
}

impl TokenPrompts {
    /// The tokens to ask with: those of the conversation so far, verbatim, and what was added; or
    /// all of it rendered anew where the conversation is not known, as after a restart, or the
    /// template gives no bridge.
    ///
    /// # Errors
    /// Those of the renderer.
    pub async fn prompt(
        &self,
        renderer: &dyn Renderer,
        request: &Request,
    ) -> Result<Vec<u32>, ModelError> {
        let beginning = self.conversations().beginning(&request.key, &request.messages);
        match beginning {
            Beginning::Same(ids) => return Ok(ids),
            Beginning::Grown(spoken, added) => {
                if let Some(bridge) = renderer.bridge(&added).await? {
                    return Ok(spoken.extended(&bridge));
                }
            }
            Beginning::Unknown => {}
        }
        renderer.prompt(&request.messages).await
    }

    /// Keeps an answer with tokens, so that the conversation's next call extends it.
    pub fn keep(&self, request: &Request, answer: &Answer) {
        if let Some(tokens) = &answer.tokens {
            let spoken = Spoken {
                messages: request.messages.clone(),
                prompt_ids: tokens.prompt_ids.clone(),
                answer: answer.text.clone(),
                completion_ids: tokens.completion_ids.clone(),
                finish: answer.finish,
            };
            self.conversations().keep(&request.key, spoken);
        }
    }

    fn conversations(&self) -> MutexGuard<'_, Conversations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
