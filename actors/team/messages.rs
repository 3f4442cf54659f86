//! The words that agents are told around their prompts: what came of a turn, how much is left, why
//! they have to end.
//!
//! In a conversation that only grows, what varies stands last, so that prefix caches hold.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Message, Speaker};
use crate::team::agent::Acts;
use crate::team::prompts::Style;
use crate::team::read_action::Reading;
use crate::team::record::{ForcedBy, Observation};
use crate::team::role::Role;
use crate::team::text::cut_middle;

/// What an agent has left at the beginning of a turn.
pub(crate) struct Left {
    pub turn: u32,
    pub turns_max: u32,
    pub elapsed: Duration,
    pub time: Duration,
    pub tokens: u64,
}

/// An agent that has fewer tokens left is told how many. An orchestrator is told of its team's,
/// when subagents come back.
pub(crate) const TOKENS_TOLD_BELOW: u64 = 100_000;

/// Empty where there is nothing to say.
pub(crate) fn status(style: &Style, role: Role, left: &Left, forced: Option<ForcedBy>) -> String {
    if let Some(by) = forced {
        return format!("[{}]\n{}", reason(by), style.forced(role).trim_end());
    }
    if !style.counts {
        return String::new();
    }
    let Left { turn, turns_max, elapsed, time, tokens } = left;
    let mut status =
        format!("[turn {turn} of {turns_max}, {} elapsed, {} left", clock(*elapsed), clock(*time));
    if *tokens < TOKENS_TOLD_BELOW && role != Role::Orchestrator {
        status.push_str(&format!(", {tokens} tokens left"));
    }
    status.push(']');
    if turn == turns_max {
        let ending = ending(role);
        status.push_str(&format!("\nThis is your last turn: end it with `{ending}`."));
    }
    status
}

/// The action that ends a role's agent.
pub(crate) fn ending(role: Role) -> &'static str {
    match role {
        Role::Orchestrator => "finish",
        Role::Explorer | Role::Coder => "report",
    }
}

pub(crate) fn reason(by: ForcedBy) -> &'static str {
    match by {
        ForcedBy::ParseErrors => "several answers in a row could not be read",
        ForcedBy::NoActions => "several answers in a row held no action",
        ForcedBy::TurnsUsedUp => "all turns are used up",
        ForcedBy::TokensUsedUp => "all tokens are used up",
        ForcedBy::DeadlineNear => "time is nearly up",
        ForcedBy::ContextFull => "the conversation no longer fits the model's context window",
    }
}

/// What came of an answer: its actions in order, each within `chars_max`, then what was not run.
pub(crate) fn outcome<A: Acts>(
    reading: &Reading<A>,
    done: &[Arc<Observation>],
    chars_max: Option<usize>,
) -> String {
    let mut parts: Vec<String> = reading
        .actions
        .iter()
        .zip(done)
        .enumerate()
        .map(|(index, (action, observation))| {
            let number = index + 1;
            let seen = observation.text.trim_end();
            let seen = chars_max.map_or(seen.into(), |max| Cow::Owned(cut_middle(seen, max)));
            format!("[{number}. {}]\n{seen}", action.name())
        })
        .collect();
    parts.extend(complaint(reading).map(|complaint| format!("[error]\n{complaint}")));
    parts.join("\n\n")
}

/// What is wrong with an answer; `None` where all of it could be done.
pub(crate) fn complaint<A: Acts>(reading: &Reading<A>) -> Option<String> {
    let idle = || {
        "The answer held no action, so nothing was done. An action is a tag at the start of a line \
         with a YAML body."
            .to_owned()
    };
    reading.complaint().or_else(|| reading.actions.is_empty().then(idle))
}

/// Paragraphs, without the empty ones.
pub(crate) fn join(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).copied().collect();
    parts.join("\n\n")
}

/// Minutes and seconds.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Messages that are kept at either end of a conversation that no longer fits, and of each of the
/// later ones so many characters.
const KEPT_FIRST: usize = 2;
const KEPT_LAST: usize = 2;
const KEPT_CHARS_MAX: usize = 4_000;

/// Drops the middle of a conversation, so that a last answer can be asked for.
pub(crate) fn shorten(messages: &mut Vec<Message>) {
    // An assistant's message follows the first two, so that speakers still take turns.
    let last = messages.len().saturating_sub(KEPT_LAST).max(KEPT_FIRST);
    if last < messages.len() {
        messages.drain(KEPT_FIRST..last);
    }
    for message in messages.iter_mut().skip(1) {
        let max = if message.role == Speaker::User { 4 * KEPT_CHARS_MAX } else { KEPT_CHARS_MAX };
        message.content = cut_middle(&message.content, max).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::settings::Prompts;

    #[test]
    fn a_shortened_conversation_keeps_its_ends_and_speakers_in_turn() {
        let speakers = [Speaker::User, Speaker::Assistant];
        let mut messages = vec![Message::new(Speaker::System, "s")];
        for number in 0..11 {
            messages.push(Message::new(speakers[number % 2], format!("{number}")));
        }
        shorten(&mut messages);
        let texts: Vec<&str> = messages.iter().map(|message| &*message.content).collect();
        assert_eq!(texts, ["s", "0", "9", "10"]);
    }

    #[test]
    fn the_last_turn_is_told() {
        let style = Prompts::Standard.style();
        let seconds = Duration::from_secs;
        let left = |turn| Left {
            turn,
            turns_max: 8,
            elapsed: seconds(65),
            time: seconds(250),
            tokens: 1 << 30,
        };
        assert_eq!(
            status(style, Role::Coder, &left(3), None),
            "[turn 3 of 8, 1:05 elapsed, 4:10 left]"
        );
        assert!(status(style, Role::Coder, &left(8), None).ends_with("end it with `report`."));
        let forced = status(style, Role::Orchestrator, &left(9), Some(ForcedBy::TurnsUsedUp));
        assert!(
            forced.contains("all turns are used up") && forced.contains("`<finish>`"),
            "{forced}"
        );
    }
}
