//! What the [group](super::group) does when a step cannot go on: aborts, blame, losses. Pure.

use std::time::Duration;

use crate::collective::{CollectiveError, RankId};
use crate::ranks::group::{Group, Phase, Standing};
use crate::ranks::group_events::{Cause, Effect, GroupError};

/// Losses that are told where no rank is left.
const LOSSES_TOLD: usize = 8;

impl Group {
    pub(super) fn aborted(&mut self, now: Duration, rank: RankId, cause: Cause) {
        let why = match &cause {
            Cause::Told => format!("rank {} has stopped", rank.0),
            Cause::Collective(error) => format!("rank {}: {error}", rank.0),
            Cause::Step(why) => format!("rank {}: {why}", rank.0),
        };
        // It was told to commit.
        if matches!(self.phase, Phase::Committed { .. }) {
            self.put_out(now, rank, &why);
            return self.end_if_applied();
        }
        if matches!(self.phase, Phase::Forming { .. } | Phase::Computing { .. }) {
            self.abort(now, why.clone());
        }
        let Phase::Aborting { missing, step, .. } = &mut self.phase else { return };
        missing.remove(&rank);
        match cause {
            Cause::Step(why) if step.is_none() => *step = Some(GroupError::Step { rank, why }),
            Cause::Collective(error) => {
                if let Some(blamed) = self.blamed(&error) {
                    self.tell_too(&why);
                    self.put_out(now, blamed, &why);
                }
            }
            _ => {}
        }
        self.go_on_if_aborted(now);
    }

    /// One more reason of an abort. The first to be heard is not always the one that explains it.
    pub(super) fn tell_too(&mut self, why: &str) {
        let told = self.wanted.as_mut().and_then(|wanted| wanted.aborts.last_mut());
        if let Some(told) = told.filter(|told| !told.contains(why)) {
            *told = format!("{told}; {why}");
        }
    }

    /// The member that has to leave for it: it damages what it sends, or was waited for while it
    /// computed. A connection that was lost may be anyone's fault: who is dead is told otherwise.
    pub(super) fn blamed(&self, error: &CollectiveError) -> Option<RankId> {
        let place = match error {
            CollectiveError::Corrupt { rank, .. } | CollectiveError::TimedOut { rank, .. } => *rank,
            _ => return None,
        };
        let is_corrupt = matches!(error, CollectiveError::Corrupt { .. });
        let blamed = self.ring.get(place).copied()?;
        let is_late = !self.computed.contains(&blamed);
        let is_member = self.members().contains(&blamed);
        (is_member && (is_corrupt || is_late)).then_some(blamed)
    }

    /// Every member is to let go what it is at.
    pub(super) fn abort(&mut self, now: Duration, why: String) {
        let members = self.members();
        self.is_formed = false;
        if let Some(wanted) = &mut self.wanted {
            wanted.aborts.push(why.clone());
        }
        let missing = members.iter().copied().collect();
        self.effects.push(Effect::Abort { epoch: self.epoch, members, reason: why });
        let until = now + self.settings.abort_timeout;
        self.phase = Phase::Aborting { until, missing, step: None };
    }

    pub(super) fn go_on_if_aborted(&mut self, now: Duration) {
        let Phase::Aborting { missing, step, .. } = &self.phase else { return };
        let members = self.members();
        if members.iter().any(|member| missing.contains(member)) {
            return;
        }
        if members.is_empty() {
            return self.no_rank_left();
        }
        if let Some(error) = self.shard_lost.take().or(step.clone()) {
            return self.fail(error);
        }
        let Some(wanted) = &mut self.wanted else { return self.phase = Phase::Idle };
        let has_lost = members.len() < self.ring.len();
        wanted.fruitless = if has_lost { 0 } else { wanted.fruitless + 1 };
        if wanted.fruitless > self.settings.aborts_max {
            let (step, why) = (wanted.step, wanted.aborts.clone());
            return self.fail(GroupError::Aborts { step, why });
        }
        self.form(now);
    }

    /// Ends the life of a rank that is at fault.
    pub(super) fn put_out(&mut self, now: Duration, rank: RankId, why: &str) {
        self.effects.push(Effect::Kill { rank, why: why.to_owned() });
        self.lose(now, rank, why);
    }

    /// The life of a rank has ended. Gives whether it was a member.
    pub(super) fn lose(&mut self, now: Duration, rank: RankId, why: &str) -> bool {
        let Some((standing, restarts)) = self.ranks.get_mut(&rank) else { return false };
        let was_member = *standing == Standing::Member;
        *standing = match restarts.next(now, &self.settings.restarts) {
            Some(until) => Standing::Waiting { until },
            None => Standing::Gone,
        };
        self.losses.push(format!("rank {}: {why}", rank.0));
        let old = self.losses.len().saturating_sub(LOSSES_TOLD);
        self.losses.drain(..old);
        if was_member {
            self.is_formed = false;
            if self.shards_optimizer {
                let why = why.to_owned();
                self.shard_lost.get_or_insert(GroupError::ShardLost { rank, why });
            }
        }
        was_member
    }

    pub(super) fn no_rank_left(&mut self) {
        let why = self.losses.clone();
        self.fail(GroupError::NoRankLeft { why });
    }

    pub(super) fn fail(&mut self, error: GroupError) {
        self.wanted = None;
        self.phase = if error.is_end() { Phase::Over(error.clone()) } else { Phase::Idle };
        self.effects.push(Effect::Failed(error));
    }
}
