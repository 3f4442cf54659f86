//! Conversations as tokens that only grow.
//!
//! A conversation's next prompt is its last one, what the model said, token by token, and a bridge:
//!
//! ```text
//! prompt n+1 = prompt n, completion n, bridge
//! bridge     = end of the assistant's turn, added messages, start of its next turn
//! ```
//!
//! Rendering the whole conversation anew would not do: templates leave earlier thoughts out, and a
//! tokenizer would write what was sampled in other tokens. So a bridge is what the template renders
//! behind a fixed beginning, whatever was said before. The first prompt and the bridges are all
//! that is ever rendered.
//!
//! Contents cannot make special tokens. Where a message says `<|im_end|>`, its tokens spell that
//! text, and no turn ends: what a tool printed, or a model typed, must not be able to speak as
//! somebody else. (Servers that render a whole conversation to one text do read them.)

use orcapack_tasks::defect::{Defect, Defects};
use serde_json::{Map, Value as Json};

use crate::text::chat::{ChatMessage, ChatTemplate};
use crate::text::tokenizer::Tokenizer;

/// Renders one policy's conversations, for sampling and for training alike. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Renderer {
    tokenizer: Tokenizer,
    chat: ChatTemplate,
    /// Of the template, beside the messages.
    kwargs: Map<String, Json>,
    /// The text of the fixed beginning, up to the end of what the assistant says in it.
    beginning: String,
    end_id: u32,
}

impl Renderer {
    /// Finds out how the template ends an assistant's turn.
    ///
    /// # Errors
    /// A template that renders an assistant's text otherwise than as it is, or ends its turn with
    /// no special token: no prompt of it could be extended.
    pub fn new(
        tokenizer: Tokenizer,
        chat: ChatTemplate,
        kwargs: Map<String, Json>,
    ) -> Result<Self, Defects> {
        let [one, other] = ["a", "b"].map(|answer| {
            let messages = [fixed(answer), vec![ChatMessage::new("user", "x")]].concat();
            chat.render(&messages, true, &kwargs)
        });
        let (one, other) = (one?, other?);
        let beginning = beginning(&one, &other).ok_or_else(|| {
            let expected = "an assistant's text that stands once in the rendering, as it is";
            Defect::new(chat.file(), expected, format!("{one:?}"))
        })?;
        let bridge = &one[beginning.len()..];
        let end_id = special_at(&tokenizer, bridge).ok_or_else(|| {
            let expected = "a special token at the end of an assistant's turn";
            Defect::new(chat.file(), expected, format!("{bridge:?}"))
        })?;
        Ok(Self { beginning: beginning.to_owned(), tokenizer, chat, kwargs, end_id })
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token with which the assistant ends its turn.
    pub fn end_id(&self) -> u32 {
        self.end_id
    }

    /// The prompt of a conversation, up to where the assistant is to speak. What assistants have
    /// said in it is taken as it is, thoughts too, so that it extends the prompts before.
    ///
    /// # Errors
    /// A conversation that begins or ends with an assistant, or what the template refuses.
    pub fn prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, Defect> {
        let misplaced = |at: usize| {
            Defect::new(self.chat.file(), "a message of another role", "`assistant`")
                .at_key(format!("messages[{at}].role"))
        };
        match messages {
            [first, ..] if first.is_answer() => return Err(misplaced(0)),
            [.., last] if last.is_answer() => return Err(misplaced(messages.len() - 1)),
            [] => {
                let none = Defect::new(self.chat.file(), "one or more", "none");
                return Err(none.at_key("messages"));
            }
            _ => {}
        }
        let mut turns = messages.split(ChatMessage::is_answer);
        let mut ids = self.rendered(&[], turns.next().unwrap_or_default(), "")?;
        for (answer, added) in messages.iter().filter(|it| it.is_answer()).zip(turns) {
            ids.extend(self.answer(&answer.content));
            self.extend(&mut ids, added)?;
        }
        Ok(ids)
    }

    /// What stands between the last token that the assistant said and the first that it says next:
    /// first the end of its turn ([`Renderer::end_id`]), then the added messages, then the start of
    /// its next turn.
    ///
    /// # Errors
    /// What the template refuses, or renders otherwise behind these messages.
    pub fn bridge(&self, added: &[ChatMessage]) -> Result<Vec<u32>, Defect> {
        let bridge = self.rendered(&fixed("a"), added, &self.beginning)?;
        if bridge.first() != Some(&self.end_id) {
            let expected = "the assistant's turn to end as ever";
            return Err(Defect::new(self.chat.file(), expected, "another end"));
        }
        Ok(bridge)
    }

    /// Extends a prompt and the completion behind it to the next prompt. A completion that ended
    /// with the end token is not given a second one.
    ///
    /// # Errors
    /// Those of [`Renderer::bridge`].
    pub fn extend(&self, ids: &mut Vec<u32>, added: &[ChatMessage]) -> Result<(), Defect> {
        let bridge = self.bridge(added)?;
        let is_ended = ids.last() == Some(&self.end_id);
        ids.extend_from_slice(bridge.get(usize::from(is_ended)..).unwrap_or_default());
        Ok(())
    }

    /// An assistant's text as the tokens that a policy is taught: the text, and the end token.
    pub fn answer(&self, text: &str) -> Vec<u32> {
        let mark = self.free_mark([text].into_iter());
        let mut ids = self.encoded(&self.marked(text, mark), mark);
        ids.push(self.end_id);
        ids
    }

    /// The tokens of a rendering behind `beginning`, up to where the assistant is to speak.
    fn rendered(
        &self,
        before: &[ChatMessage],
        added: &[ChatMessage],
        beginning: &str,
    ) -> Result<Vec<u32>, Defect> {
        let mark = self.free_mark(added.iter().map(|message| message.content.as_str()));
        let marked = added.iter().map(|message| {
            let [role, content] =
                [&message.role, &message.content].map(|text| self.marked(text, mark));
            ChatMessage { role, content }
        });
        let messages: Vec<ChatMessage> = before.iter().cloned().chain(marked).collect();
        let text = self.chat.render(&messages, true, &self.kwargs)?;
        let text = text.strip_prefix(beginning).ok_or_else(|| {
            let expected = format!("a rendering that begins with {beginning:?}");
            Defect::new(self.chat.file(), expected, "another beginning")
        })?;
        Ok(self.encoded(text, mark))
    }

    /// A character for private use that is not in the contents.
    fn free_mark<'c>(&self, contents: impl Iterator<Item = &'c str> + Clone) -> char {
        let is_free = |mark: &char| {
            !self.chat.source().contains(*mark) && !contents.clone().any(|it| it.contains(*mark))
        };
        ('\u{e000}'..='\u{f8ff}').find(is_free).unwrap_or('\u{fffff}')
    }

    /// The content with a mark inside of each special token that it spells.
    fn marked(&self, content: &str, mark: char) -> String {
        let mut marked = String::with_capacity(content.len());
        for (at, c) in content.char_indices() {
            marked.push(c);
            let is_special =
                |(special, _): &(String, u32)| content[at..].starts_with(special.as_str());
            if self.tokenizer.specials().iter().any(is_special) {
                marked.push(mark);
            }
        }
        marked
    }

    /// The tokens of a text, cut at the marks, which are no part of it.
    fn encoded(&self, text: &str, mark: char) -> Vec<u32> {
        text.split(mark).flat_map(|part| self.tokenizer.encode(part)).collect()
    }
}

/// What bridges are rendered behind.
fn fixed(answer: &str) -> Vec<ChatMessage> {
    vec![ChatMessage::new("user", "x"), ChatMessage::answer(answer)]
}

/// Compares two renderings that differ in an assistant's text only, `a` and `b`: what stands before
/// it, and `a`.
fn beginning<'r>(one: &'r str, other: &str) -> Option<&'r str> {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let tail = one.get(same..)?.strip_prefix('a')?;
    let is_alone = other.get(same..)?.strip_prefix('b')? == tail;
    one.get(..same + 1).filter(|_| is_alone)
}

/// The special token that the text begins with.
fn special_at(tokenizer: &Tokenizer, text: &str) -> Option<u32> {
    let id = *tokenizer.encode(text).first()?;
    tokenizer.is_special(id).then_some(id)
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
