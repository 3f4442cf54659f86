//! Whether a peer is there. A pure state machine for each peer: what its links do and when it was
//! heard go in, [`Change`]s come out.
//!
//! - **ME-1** `Up` and `Down` alternate, and begin with `Up`. Between them is one session: one link
//!   of one incarnation. A link that takes another's place ends its session first.
//! - **ME-2** Incarnations never go back: a link of an older process is refused, whatever the
//!   state.
//! - **ME-3** What an old link does after it was replaced changes nothing.
//! - **ME-4** A peer that is silent for `suspect_after` is a suspect, and for `dead_after` is down.
//!   Our own pause is not its silence: a look that comes too late decides nothing, once, so that
//!   what waits in our queues is heard first.

use std::time::{Duration, Instant};

use crate::address::Incarnation;
use crate::link::{CloseReason, LinkError};

/// A look that comes so much too late says that this process stood still.
const LATE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipConfig {
    /// Silence that makes a suspect. A peer that lives says something every keep-alive interval.
    pub suspect_after: Duration,
    /// Silence that makes it dead. Longer than `suspect_after`.
    pub dead_after: Duration,
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self { suspect_after: Duration::from_millis(1500), dead_after: Duration::from_secs(3) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has never been linked.
    Unknown,
    Alive,
    /// Silent, and linked still.
    Suspect,
    /// It has no link.
    Dead,
}

impl MemberState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// Something that others have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Up(Incarnation),
    Suspect,
    /// The suspect was heard.
    Heard,
    Down(Incarnation, Cause),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Silent,
    /// The peer's transport knows nothing of the link: its process has been restarted.
    Reset,
    /// It went in order.
    Left,
    /// A newer process of the peer came.
    Restarted,
    /// The same process came over a newer link.
    Replaced,
    /// Any other end of the link.
    Broken,
}

impl From<&LinkError> for Cause {
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::TimedOut(_) => Self::Silent,
            LinkError::Reset => Self::Reset,
            LinkError::ClosedByPeer(CloseReason::Leaving) => Self::Left,
            LinkError::ClosedByPeer(CloseReason::Fenced) => Self::Replaced,
            LinkError::Untrusted(_)
            | LinkError::ClosedByPeer(_)
            | LinkError::Closed(_)
            | LinkError::Transport(_) => Self::Broken,
        }
    }
}

/// What to do with a new link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// And close the one that there is.
    AcceptAndFenceOlder,
    /// It is of a process that has a successor. Close it.
    RefuseStale,
}

/// One peer. Its links are told apart by numbers that the caller gives them.
#[derive(Clone, Debug)]
pub struct Member {
    config: MembershipConfig,
    session: Option<Session>,
    /// The highest that was seen, also of a session that has ended.
    incarnation: Option<Incarnation>,
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    link: u64,
    incarnation: Incarnation,
    heard_at: Instant,
    suspect: bool,
    /// A late look has been excused since the peer was heard.
    excused: bool,
}

impl Member {
    pub fn new(config: MembershipConfig) -> Self {
        Self { config, session: None, incarnation: None, since: None }
    }

    /// A link to the peer is up; its handshake told the incarnation.
    pub fn link_up(
        &mut self,
        link: u64,
        incarnation: Incarnation,
        now: Instant,
    ) -> (Verdict, Vec<Change>) {
        if self.incarnation.is_some_and(|highest| incarnation < highest) {
            return (Verdict::RefuseStale, Vec::new());
        }
        let older = self.session.map(|session| {
            let same = session.incarnation == incarnation;
            let cause = if same { Cause::Replaced } else { Cause::Restarted };
            Change::Down(session.incarnation, cause)
        });
        let verdict = if older.is_some() { Verdict::AcceptAndFenceOlder } else { Verdict::Accept };
        self.incarnation = Some(incarnation);
        self.since = Some(now);
        self.session =
            Some(Session { link, incarnation, heard_at: now, suspect: false, excused: false });
        (verdict, older.into_iter().chain([Change::Up(incarnation)]).collect())
    }

    /// A link has ended.
    pub fn link_down(&mut self, link: u64, cause: Cause, now: Instant) -> Option<Change> {
        let session = self.session.take_if(|session| session.link == link)?;
        self.since = Some(now);
        Some(Change::Down(session.incarnation, cause))
    }

    /// Something came over a link.
    pub fn heard(&mut self, link: u64, now: Instant) -> Option<Change> {
        let session = self.session.as_mut().filter(|session| session.link == link)?;
        session.heard_at = session.heard_at.max(now);
        session.excused = false;
        let heard = session.suspect;
        session.suspect = false;
        if heard {
            self.since = Some(now);
        }
        heard.then_some(Change::Heard)
    }

    /// Looks how long the peer has been silent. After a `Down` its link is to be closed.
    pub fn tick(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let (Some(due), Some(session)) = (self.wake_at(), self.session.as_mut()) else {
            return changes;
        };
        let late = now.saturating_duration_since(due);
        if late > LATE && !session.excused {
            session.excused = true;
            session.heard_at += late + LATE;
            return changes;
        }
        let silent = now.saturating_duration_since(session.heard_at);
        if silent >= self.config.suspect_after && !session.suspect {
            session.suspect = true;
            self.since = Some(now);
            changes.push(Change::Suspect);
        }
        if silent >= self.config.dead_after {
            changes.push(Change::Down(session.incarnation, Cause::Silent));
            self.session = None;
            self.since = Some(now);
        }
        changes
    }

    /// When to look next, if nothing is heard.
    pub fn wake_at(&self) -> Option<Instant> {
        let session = self.session?;
        let MembershipConfig { suspect_after, dead_after } = self.config;
        Some(session.heard_at + if session.suspect { dead_after } else { suspect_after })
    }

    pub fn state(&self) -> MemberState {
        match (self.session, self.incarnation) {
            (Some(session), _) if session.suspect => MemberState::Suspect,
            (Some(_), _) => MemberState::Alive,
            (None, Some(_)) => MemberState::Dead,
            (None, None) => MemberState::Unknown,
        }
    }

    /// When the state changed; `None` while the peer is unknown.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The latest process of the peer that was seen.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// The link of the session that there is.
    pub fn link(&self) -> Option<u64> {
        self.session.map(|session| session.link)
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
