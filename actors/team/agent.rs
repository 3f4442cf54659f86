//! One agent as a pure state machine over its part of the record.
//!
//! [`Agent::apply`] takes what happened, [`Agent::next`] says what the agent wants now. Nothing
//! else decides: the same record gives the same conversation, so an agent that died is taken over
//! by replaying its entries, and no answered call is made again.
//!
//! ```text
//! Ready ──Asked──► Asking ──Answered──► Acting ──Acted, for each action──► Ready
//!                    │                     └──an ending action──► Ended
//!                    └──Overflowed──► Ready
//! ```
//! The forced-report ladder is in [`Agent::forced_by`]: an agent that has to end is asked once
//! more, to end; if it does not, its end is written for it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Answer, Finish, Message, Speaker};
use crate::team::action::Report;
use crate::team::messages;
use crate::team::read_action::Reading;
use crate::team::record::{AgentId, Brief, Entry, Event, ForcedBy, Observation};
use crate::team::role::Role;
use crate::team::settings::{Mode, TeamSettings};
use crate::team::view::View;

/// Answers in a row that cannot be read, or have no action, before the agent has to end.
const SLIPS_MAX: u32 = 3;

/// What a role can do, and how it is read.
pub trait Acts: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    fn read(text: &str, finish: Finish) -> Reading<Self>;

    /// The name of its tag.
    fn name(&self) -> &'static str;

    /// What it ends its agent with, if it does.
    fn ending(&self) -> Option<Ending>;
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Report(Report),
    Finish { message: String },
}

/// What an agent wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<A> {
    /// To begin a turn.
    Ask {
        turn: u32,
        forced: Option<ForcedBy>,
    },
    /// The turn's answer.
    Call {
        turn: u32,
        messages: Vec<Message>,
        max_tokens: u32,
    },
    Act {
        turn: u32,
        index: usize,
        action: A,
    },
    /// To end. An ending that is refused is answered as an action would be.
    End {
        turn: u32,
        index: usize,
        ending: Ending,
        forced: Option<ForcedBy>,
    },
    /// It had to end, and did not: an end has to be written for it.
    GiveUp {
        by: ForcedBy,
    },
    Refused {
        message: String,
    },
    /// It has ended.
    Nothing,
}

#[derive(Debug)]
pub struct Agent<A> {
    id: AgentId,
    settings: Arc<TeamSettings>,
    brief: Option<Arc<Brief>>,
    began: Duration,
    /// The conversation so far; in `stateless` mode its first two messages only.
    messages: Vec<Message>,
    /// What the next user message tells of the turn before.
    news: String,
    turn: u32,
    forced: Option<ForcedBy>,
    state: State<A>,
    unreadable: u32,
    idle: u32,
    tokens: u64,
    context_full: bool,
    /// Of a `stateless` orchestrator.
    view: Option<Box<View>>,
}

#[derive(Debug)]
enum State<A> {
    Ready,
    Asking,
    Acting { reading: Reading<A>, done: Vec<Arc<Observation>> },
    Refused { message: String },
    Ended,
}

impl<A: Acts> Agent<A> {
    pub fn new(id: AgentId, settings: Arc<TeamSettings>) -> Self {
        let stateless = id == AgentId::ORCHESTRATOR && settings.mode == Mode::Stateless;
        Self {
            id,
            settings,
            brief: None,
            began: Duration::ZERO,
            messages: Vec::new(),
            news: String::new(),
            turn: 0,
            forced: None,
            state: State::Ready,
            unreadable: 0,
            idle: 0,
            tokens: 0,
            context_full: false,
            view: stateless.then(Box::default),
        }
    }

    /// The agent that a record's entries leave.
    pub fn replay<'a>(
        id: AgentId,
        settings: Arc<TeamSettings>,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Self {
        let mut agent = Self::new(id, settings);
        entries.into_iter().for_each(|entry| agent.apply(entry));
        agent
    }

    /// Takes what happened, to this agent or around it.
    pub fn apply(&mut self, entry: &Entry) {
        if let Some(view) = &mut self.view {
            view.apply(entry);
        }
        if entry.agent != self.id {
            return;
        }
        match &entry.event {
            Event::Began(brief) => self.begin(entry.at, brief),
            Event::Asked { turn, forced, snapshot } => {
                self.turn = *turn;
                self.forced = *forced;
                self.ask(entry.at, snapshot.as_deref());
                self.state = State::Asking;
            }
            Event::Answered { answer, .. } => self.answered(answer),
            Event::Overflowed { .. } => {
                self.context_full = true;
                self.state = State::Ready;
            }
            Event::Acted { observation, .. } => self.acted(observation),
            Event::Ended(_) => self.state = State::Ended,
            Event::TaskCreated(_) | Event::Stored(_) | Event::TakenOver => {}
        }
    }

    /// What it wants now; asked again, it wants the same, until something happens.
    pub fn next(&self, now: Duration) -> Step<A> {
        match &self.state {
            State::Ended => Step::Nothing,
            State::Refused { message } => Step::Refused { message: message.clone() },
            State::Asking => self.call(),
            State::Ready => match (self.forced, self.forced_by(now)) {
                (Some(by), _) => Step::GiveUp { by },
                (None, forced) => Step::Ask { turn: self.turn + 1, forced },
            },
            State::Acting { reading, done } => self.act(reading, done.len()),
        }
    }

    /// Why it has to end with its next answer, the gravest first.
    fn forced_by(&self, now: Duration) -> Option<ForcedBy> {
        let brief = self.brief.as_ref()?;
        let limit = brief.deadline.saturating_sub(self.began);
        let reserve = self.settings.time_reserve.min(limit / 4);
        [
            (now + reserve >= brief.deadline, ForcedBy::DeadlineNear),
            (self.context_full, ForcedBy::ContextFull),
            (self.tokens >= brief.tokens_max, ForcedBy::TokensUsedUp),
            (self.turn >= brief.max_turns, ForcedBy::TurnsUsedUp),
            (self.unreadable >= SLIPS_MAX, ForcedBy::ParseErrors),
            (self.idle >= SLIPS_MAX, ForcedBy::NoActions),
        ]
        .into_iter()
        .find_map(|(holds, by)| holds.then_some(by))
    }

    fn begin(&mut self, at: Duration, brief: &Arc<Brief>) {
        self.began = at;
        self.messages = vec![
            Message::new(Speaker::System, brief.system.clone()),
            Message::new(Speaker::User, brief.first.clone()),
        ];
        self.brief = Some(brief.clone());
    }

    /// Completes the conversation by this turn's user message.
    fn ask(&mut self, at: Duration, snapshot: Option<&str>) {
        let Some(brief) = &self.brief else { return };
        let left = messages::Left {
            turn: self.turn,
            turns_max: brief.max_turns,
            elapsed: at.saturating_sub(self.began),
            time: brief.deadline.saturating_sub(at),
            tokens: brief.tokens_max.saturating_sub(self.tokens),
        };
        let status =
            messages::status(self.settings.prompts.style(), brief.role, &left, self.forced);
        let news = std::mem::take(&mut self.news);
        if let Some(view) = &mut self.view {
            view.told(&news);
            view.short = self.context_full;
            self.messages.truncate(1);
            let text = view.render(&brief.first, snapshot, &status);
            self.messages.push(Message::new(Speaker::User, text));
            return;
        }
        if self.context_full {
            messages::shorten(&mut self.messages);
        }
        // After the first message, or an overflow, the last word is a user's already.
        if let Some(last) = self.messages.last_mut().filter(|last| last.role == Speaker::User) {
            last.content = messages::join(&[&last.content, &news, &status]).into();
        } else {
            let text = messages::join(&[&news, &status]);
            self.messages.push(Message::new(Speaker::User, text));
        }
    }

    fn call(&self) -> Step<A> {
        let is_orchestrator =
            self.brief.as_ref().is_some_and(|brief| brief.role == Role::Orchestrator);
        let max_tokens = match is_orchestrator {
            true => self.settings.orchestrator_answer_tokens_max,
            false => self.settings.subagent_answer_tokens_max,
        };
        Step::Call { turn: self.turn, messages: self.messages.clone(), max_tokens }
    }

    fn answered(&mut self, answer: &Answer) {
        self.tokens += answer.usage.prompt_tokens + answer.usage.completion_tokens;
        match &mut self.view {
            Some(view) => view.answered(&answer.text),
            None => self.messages.push(Message::new(Speaker::Assistant, answer.text.as_str())),
        }
        if answer.finish == Finish::Refused {
            self.state = State::Refused { message: answer.text.clone() };
            return;
        }
        let reading = A::read(&answer.text, answer.finish);
        let (acts, fails) = (!reading.actions.is_empty(), !reading.faults.is_empty());
        self.unreadable = if fails && !acts { self.unreadable + 1 } else { 0 };
        self.idle = if fails || acts { 0 } else { self.idle + 1 };
        self.state = State::Acting { reading, done: Vec::new() };
        self.close_turn();
    }

    fn acted(&mut self, observation: &Arc<Observation>) {
        if let State::Acting { done, .. } = &mut self.state {
            done.push(observation.clone());
        }
        self.close_turn();
    }

    /// Goes on to the next turn when every action of this one has been done.
    fn close_turn(&mut self) {
        let State::Acting { reading, done } = &self.state else { return };
        if done.len() < reading.actions.len() {
            return;
        }
        let role = self.brief.as_ref().map_or(Role::Coder, |brief| brief.role);
        let chars_max = self.settings.prompts.style().seen_chars_max(role);
        self.news = messages::outcome(reading, done, chars_max);
        self.state = State::Ready;
    }

    fn act(&self, reading: &Reading<A>, index: usize) -> Step<A> {
        let turn = self.turn;
        let end = |index, ending| Step::End { turn, index, ending, forced: self.forced };
        if let Some(by) = self.forced {
            // Only an ending counts now; it is looked for wherever it stands.
            let rest = reading.actions.iter().enumerate().skip(index);
            let mut endings = rest.filter_map(|(at, action)| Some((at, action.ending()?)));
            return match endings.next() {
                Some((at, ending)) => end(at, ending),
                None => Step::GiveUp { by },
            };
        }
        match reading.actions.get(index) {
            None => Step::Nothing,
            Some(action) => match action.ending() {
                Some(ending) => end(index, ending),
                None => Step::Act { turn, index, action: action.clone() },
            },
        }
    }
}
