//! The tokens of running conversations, so that each call extends the one before it verbatim. Pure.
//!
//! A text can be written in tokens in more ways than one, and a model samples ways that no
//! tokenizer chooses. So what was sampled is kept as it was, and only what was added since is
//! rendered anew:
//!
//! ```text
//! prompt of call n+1 = prompt of call n, completion of call n, bridge
//! ```
//!
//! The bridge is the end of the assistant's turn, the added messages and the start of the next
//! turn. It is cut out of a rendering of the added messages behind a fixed beginning ([`Ruler`]).

use std::collections::{BTreeMap, HashMap};

use super::{CallKey, Finish, Message, Speaker};

/// Of all kept conversations together: 256 MiB of ids. What is forgotten first is what was asked
/// for longest ago, and its next call is rendered whole.
pub(super) const KEPT_TOKENS_MAX: usize = 64 << 20;
/// Their texts are kept too, and those of conversations that ended are not needed any more.
pub(super) const KEPT_CONVERSATIONS_MAX: usize = 16_384;

/// A call's key without its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Conversation {
    rollout: u32,
    attempt: u32,
    step: u32,
    agent: u32,
}

/// The last call of a conversation, as it was answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spoken {
    pub messages: Vec<Message>,
    pub prompt_ids: Vec<u32>,
    /// The text that the agent was given.
    pub answer: String,
    pub completion_ids: Vec<u32>,
    pub finish: Finish,
}

/// How the prompt of a call begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Beginning {
    /// The call has been made before: the same tokens again.
    Same(Vec<u32>),
    /// These tokens, a bridge over the end of the assistant's turn, and these messages.
    Grown(Spoken, Vec<Message>),
    /// Nothing is known of what comes before, or it has been changed.
    Unknown,
}

/// The conversations that were spoken last.
#[derive(Debug)]
pub(super) struct Conversations {
    spoken: HashMap<Conversation, (u64, Spoken)>,
    by_age: BTreeMap<u64, Conversation>,
    clock: u64,
    tokens: usize,
    tokens_max: usize,
    conversations_max: usize,
}

impl Conversations {
    pub fn new(tokens_max: usize, conversations_max: usize) -> Self {
        let (spoken, by_age) = (HashMap::new(), BTreeMap::new());
        Self { spoken, by_age, clock: 0, tokens: 0, tokens_max, conversations_max }
    }

    pub fn beginning(&self, key: &CallKey, messages: &[Message]) -> Beginning {
        let Some((_, spoken)) = self.spoken.get(&Conversation::of(key)) else {
            return Beginning::Unknown;
        };
        if spoken.messages == messages {
            return Beginning::Same(spoken.prompt_ids.clone());
        }
        let rest = messages.strip_prefix(spoken.messages.as_slice());
        match rest.and_then(|rest| rest.split_first()) {
            Some((answer, added))
                if answer.role == Speaker::Assistant
                    && *answer.content == *spoken.answer
                    && !added.is_empty()
                    && added.iter().all(|message| message.role == Speaker::User) =>
            {
                Beginning::Grown(spoken.clone(), added.to_vec())
            }
            _ => Beginning::Unknown,
        }
    }

    /// Keeps a call in place of the conversation's last one, and forgets what there is no room for.
    pub fn keep(&mut self, key: &CallKey, spoken: Spoken) {
        let conversation = Conversation::of(key);
        self.forget(conversation);
        self.clock += 1;
        self.tokens += spoken.tokens();
        self.by_age.insert(self.clock, conversation);
        self.spoken.insert(conversation, (self.clock, spoken));
        while self.tokens > self.tokens_max || self.spoken.len() > self.conversations_max {
            let Some((_, oldest)) = self.by_age.first_key_value() else { break };
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, conversation: Conversation) {
        if let Some((age, spoken)) = self.spoken.remove(&conversation) {
            self.by_age.remove(&age);
            self.tokens -= spoken.tokens();
        }
    }
}

impl Conversation {
    fn of(key: &CallKey) -> Self {
        let CallKey { rollout, attempt, step, agent, turn: _ } = *key;
        Self { rollout, attempt, step, agent }
    }
}

impl Spoken {
    fn tokens(&self) -> usize {
        self.prompt_ids.len() + self.completion_ids.len()
    }

    /// The prompt of the next call, given the bridge to it.
    pub fn extended(self, bridge: &[u32]) -> Vec<u32> {
        let mut ids = self.prompt_ids;
        ids.extend_from_slice(&self.completion_ids);
        // A model that came to its end has sampled the token that ends its turn itself; a cut one
        // has not.
        let is_ended = self.finish == Finish::Stop
            && self.completion_ids.last().is_some_and(|last| Some(last) == bridge.first());
        ids.extend_from_slice(bridge.get(usize::from(is_ended)..).unwrap_or_default());
        ids
    }
}

/// The tokens of a fixed beginning, up to the last one of an assistant's text. Whatever a template
/// renders behind them is a bridge.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruler(Vec<u32>);

impl Ruler {
    /// The texts that the assistant says in the two renderings that a ruler is found with: short,
    /// and with nothing in common.
    pub const ANSWERS: [&str; 2] = ["a", "b"];

    /// The fixed beginning with one of them.
    pub fn beginning(answer: &str) -> Vec<Message> {
        vec![Message::new(Speaker::User, "x"), Message::new(Speaker::Assistant, answer)]
    }

    /// Compares a rendering of the same conversation with each answer, given the tokens of the
    /// answers alone. `None` where the template or the tokenizer mixes a text with what stands
    /// around it, so that no bridge can be cut out.
    pub fn new(rendered: [&[u32]; 2], answers: [&[u32]; 2]) -> Option<Self> {
        let ([one, other], [one_answer, other_answer]) = (rendered, answers);
        let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
        let (head, one_tail) = one.split_at_checked(same)?;
        let other_tail = other.get(same..)?;
        let bridge = one_tail.strip_prefix(one_answer)?;
        let is_clean = !bridge.is_empty()
            && !one_answer.is_empty()
            && other_tail.strip_prefix(other_answer)? == bridge;
        is_clean.then(|| Self([head, one_answer].concat()))
    }

    /// The bridge at the end of a rendering of the fixed beginning and the added messages.
    pub fn bridge<'r>(&self, rendered: &'r [u32]) -> Option<&'r [u32]> {
        rendered.strip_prefix(self.0.as_slice()).filter(|bridge| !bridge.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(agent: u32, turn: u32) -> CallKey {
        CallKey { rollout: 1, attempt: 1, step: 0, agent, turn }
    }

    fn user(text: &str) -> Message {
        Message::new(Speaker::User, text)
    }

    fn spoken(messages: &[Message], prompt: &[u32], answer: &str, completion: &[u32]) -> Spoken {
        Spoken {
            messages: messages.to_vec(),
            prompt_ids: prompt.to_vec(),
            answer: answer.into(),
            completion_ids: completion.to_vec(),
            finish: Finish::Stop,
        }
    }

    #[test]
    fn only_a_conversation_that_went_on_unchanged_is_extended() {
        let mut conversations = Conversations::new(100, 10);
        let first = vec![Message::new(Speaker::System, "s"), user("u")];
        let said = spoken(&first, &[1, 2], "yes", &[3]);
        conversations.keep(&key(0, 1), said.clone());
        let grown = |tail: &[Message]| [&first[..], tail].concat();
        let answer = Message::new(Speaker::Assistant, "yes");
        let at = |messages: &[Message]| conversations.beginning(&key(0, 2), messages);

        assert_eq!(at(&first), Beginning::Same(vec![1, 2]));
        let added = vec![user("more")];
        assert_eq!(
            at(&grown(&[answer.clone(), user("more")])),
            Beginning::Grown(said, added.clone())
        );
        let changed = Message::new(Speaker::Assistant, "no");
        for unknown in [
            grown(&[changed, user("more")]),
            grown(std::slice::from_ref(&answer)),
            grown(&[user("more")]),
            grown(&[answer.clone(), user("more"), answer, user("most")]),
            vec![user("u")],
        ] {
            assert_eq!(at(&unknown), Beginning::Unknown, "{unknown:?}");
        }
        assert_eq!(conversations.beginning(&key(1, 2), &first), Beginning::Unknown);
    }

    #[test]
    fn the_end_of_a_turn_stands_once_in_the_prompt() {
        let stopped = spoken(&[], &[1], "", &[2, 9]);
        assert_eq!(stopped.clone().extended(&[9, 5]), [1, 2, 9, 5]);
        assert_eq!(stopped.extended(&[8, 5]), [1, 2, 9, 8, 5]);
        let cut = Spoken { finish: Finish::Length, ..spoken(&[], &[1], "", &[2, 9]) };
        assert_eq!(cut.extended(&[9, 5]), [1, 2, 9, 9, 5]);
    }

    #[test]
    fn a_ruler_is_found_only_where_texts_stand_alone() {
        let clean = Ruler::new([&[1, 2, 7, 3, 4], &[1, 2, 8, 3, 4]], [&[7], &[8]]).unwrap();
        assert_eq!(clean.bridge(&[1, 2, 7, 3, 5, 6]), Some(&[3, 5, 6][..]));
        assert_eq!(clean.bridge(&[1, 2, 8, 3]), None);
        assert_eq!(clean.bridge(&[1, 2, 7]), None);
        // The tokenizer joins the text with what follows it.
        assert_eq!(Ruler::new([&[1, 70, 3], &[1, 80, 3]], [&[7], &[8]]), None);
        // The template leaves earlier answers out.
        assert_eq!(Ruler::new([&[1, 3], &[1, 3]], [&[7], &[8]]), None);
        assert_eq!(Ruler::new([&[], &[]], [&[], &[]]), None);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_and_the_newest_stays(
            kept in prop::collection::vec((0_u32..30, 1_usize..40), 1..100),
        ) {
            let mut conversations = Conversations::new(100, 5);
            for (agent, tokens) in kept {
                let said = spoken(&[user("u")], &vec![0; tokens], "", &[]);
                conversations.keep(&key(agent, 1), said);
                let held = conversations.spoken.values().map(|(_, said)| said.tokens());
                prop_assert_eq!(held.sum::<usize>(), conversations.tokens);
                prop_assert!(conversations.tokens <= 100 && conversations.spoken.len() <= 5);
                prop_assert_eq!(conversations.spoken.len(), conversations.by_age.len());
                prop_assert_ne!(
                    conversations.beginning(&key(agent, 1), &[user("u")]),
                    Beginning::Unknown
                );
            }
        }
    }
}
