//! Who writes a conversation in tokens: the tokenizer and the chat template of the model that will
//! answer, behind a server's route or in this process.

use futures_util::future::BoxFuture;

use super::{Message, ModelError};

/// A tokenizer with a chat template.
pub trait Renderer: Send + Sync {
    /// The tokens of a conversation up to where the assistant is to speak; at least one.
    ///
    /// # Errors
    /// What the template or its server says.
    fn prompt<'a>(&'a self, messages: &'a [Message])
    -> BoxFuture<'a, Result<Vec<u32>, ModelError>>;

    /// What stands between two things that the assistant says: the end of its turn, beginning with
    /// the token that a model samples to end it, the `added` messages, and the start of its next
    /// turn. `None` where the template mixes texts with what stands around them, so that there is
    /// nothing that could be put between.
    ///
    /// # Errors
    /// What the template or its server says.
    fn bridge<'a>(
        &'a self,
        added: &'a [Message],
    ) -> BoxFuture<'a, Result<Option<Vec<u32>>, ModelError>>;
}
