//! The leader's mind: which ranks are one ring, and when a step takes effect. Pure.
//!
//! ```text
//!          ranks come         a step is asked for
//! Starting ──────────► Idle ─────────────────────► CatchingUp ─► Forming ─► Computing
//!                       ▲ ▲                             where ranks are new ▲    │ all are ready
//!                       │ └── all have applied ── Committed ◄───────────────┼────┤
//!                       └── it cannot be made ──── Aborting ── survivors ───┘ ◄──┘ one is lost
//! ```
//!
//! What holds, whatever dies in whatever order:
//! - **TR-1** A rank applies a step only after every rank of its epoch has prepared all of it,
//!   with the same digest. So no partial step is ever applied.
//! - **TR-2** A rank that was told to commit and did not is no member any more. So all members have
//!   applied the same steps.
//! - **TR-3** In one epoch, a step is either committed or aborted.
//! - **TR-4** Who comes, or comes back, is a member from a step boundary on, with the steps and the
//!   digest of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::collective::RankId;
pub use crate::ranks::group_events::{Cause, Done, Effect, Event, GroupError, GroupSettings};
use crate::ranks::restarts::Restarts;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// Its life begins.
    Starting,
    /// It is there, and no member.
    Here {
        steps: u64,
        digest: u64,
    },
    Member,
    /// Its next life begins then.
    Waiting {
        until: Duration,
    },
    /// It has failed too often.
    Gone,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    Starting,
    Idle,
    CatchingUp {
        until: Duration,
        from: RankId,
        waiting: BTreeSet<RankId>,
    },
    Forming {
        until: Duration,
        missing: BTreeSet<RankId>,
    },
    Computing {
        until: Duration,
        checks: BTreeMap<RankId, u64>,
    },
    Committed {
        until: Duration,
        digests: BTreeMap<RankId, u64>,
    },
    /// With why the step is not tried again.
    Aborting {
        until: Duration,
        missing: BTreeSet<RankId>,
        step: Option<GroupError>,
    },
    Over(GroupError),
}

/// A step that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub step: u64,
    pub aborts: Vec<String>,
    /// Aborts in a row without the loss of a rank.
    pub fruitless: u32,
}

/// Time is since any fixed moment, and does not go back.
#[derive(Debug)]
pub struct Group {
    pub(super) settings: GroupSettings,
    pub(super) shards_optimizer: bool,
    pub(super) ranks: BTreeMap<RankId, (Standing, Restarts)>,
    pub(super) phase: Phase,
    pub(super) epoch: u64,
    /// Who was a member when the epoch began, by place.
    pub(super) ring: Vec<RankId>,
    /// Who only waits for its peers, in this try of the step.
    pub(super) computed: BTreeSet<RankId>,
    /// Whether the ring of this epoch stands, and all of it are members.
    pub(super) is_formed: bool,
    pub(super) done: u64,
    pub(super) digest: Option<u64>,
    pub(super) wanted: Option<Wanted>,
    pub(super) shard_lost: Option<GroupError>,
    /// Why ranks were lost, the last few.
    pub(super) losses: Vec<String>,
    pub(super) effects: Vec<Effect>,
}

impl Group {
    /// Of ranks 0 to `count`, which are to be started.
    pub fn new(count: u32, shards_optimizer: bool, settings: GroupSettings) -> (Self, Vec<Effect>) {
        let all = || (0..count).map(RankId);
        let ranks = all().map(|rank| (rank, (Standing::Starting, Restarts::default())));
        let group = Self {
            settings,
            shards_optimizer,
            ranks: ranks.collect(),
            phase: Phase::Starting,
            epoch: 0,
            ring: Vec::new(),
            computed: BTreeSet::new(),
            is_formed: false,
            done: 0,
            digest: None,
            wanted: None,
            shard_lost: None,
            losses: Vec::new(),
            effects: Vec::new(),
        };
        (group, all().map(Effect::Start).collect())
    }

    /// By rank.
    pub fn members(&self) -> Vec<RankId> {
        let members = self.ranks.iter().filter(|(_, (standing, _))| *standing == Standing::Member);
        members.map(|(rank, _)| *rank).collect()
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who was a member when the epoch began, by place.
    pub fn ring(&self) -> &[RankId] {
        &self.ring
    }

    /// Steps that are applied.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// When [`Group::tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let of_phase = match &self.phase {
            Phase::Over(_) => return None,
            Phase::Starting | Phase::Idle => None,
            Phase::CatchingUp { until, .. }
            | Phase::Forming { until, .. }
            | Phase::Computing { until, .. }
            | Phase::Committed { until, .. }
            | Phase::Aborting { until, .. } => Some(*until),
        };
        let restarts = self.ranks.values().filter_map(|(standing, _)| match standing {
            Standing::Waiting { until } => Some(*until),
            _ => None,
        });
        restarts.chain(of_phase).min()
    }

    #[must_use]
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        if let Phase::Over(error) = &self.phase {
            let is_asked = matches!(event, Event::Step(_));
            return Vec::from_iter(is_asked.then(|| Effect::Failed(error.clone())));
        }
        match event {
            Event::Step(step) => self.ask(now, step),
            Event::Came { rank, steps, digest } => self.came(rank, steps, digest),
            Event::Down { rank, why } => self.down(now, rank, why),
            Event::CaughtUp { rank, steps, digest } => self.caught_up(now, rank, steps, digest),
            Event::Formed { rank, epoch } if epoch == self.epoch => self.formed(now, rank),
            Event::Computed { rank, epoch } if epoch == self.epoch => {
                self.computed.insert(rank);
            }
            Event::Ready { rank, epoch, check } if epoch == self.epoch => {
                self.ready(now, rank, check);
            }
            Event::Applied { rank, epoch, digest } if epoch == self.epoch => {
                if let Phase::Committed { digests, .. } = &mut self.phase {
                    digests.insert(rank, digest);
                    self.end_if_applied();
                }
            }
            Event::Aborted { rank, epoch, cause } if epoch == self.epoch => {
                self.aborted(now, rank, cause);
            }
            // Of an epoch that is over.
            _ => {}
        }
        std::mem::take(&mut self.effects)
    }

    /// Ends what has waited too long.
    #[must_use]
    pub fn tick(&mut self, now: Duration) -> Vec<Effect> {
        if matches!(self.phase, Phase::Over(_)) {
            return Vec::new();
        }
        for (rank, (standing, _)) in &mut self.ranks {
            if matches!(standing, Standing::Waiting { until } if *until <= now) {
                *standing = Standing::Starting;
                self.effects.push(Effect::Start(*rank));
            }
        }
        match self.phase.clone() {
            Phase::CatchingUp { until, waiting, .. } if until <= now => {
                waiting.iter().for_each(|rank| self.put_out(now, *rank, "late to catch up"));
                self.join(now);
            }
            Phase::Forming { until, missing } if until <= now => {
                let missing: Vec<String> = missing.iter().map(|rank| rank.0.to_string()).collect();
                let why = format!("no ring in time: ranks {} are not in it", missing.join(", "));
                self.abort(now, why);
                self.go_on_if_aborted(now);
            }
            Phase::Computing { until, .. } if until <= now => {
                let late = self.members().into_iter().filter(|rank| !self.computed.contains(rank));
                let late: Vec<RankId> = late.collect();
                let why = match late.first() {
                    Some(rank) => format!("rank {} is late", rank.0),
                    None => "the reduction is late".to_owned(),
                };
                late.iter().for_each(|rank| self.put_out(now, *rank, "late"));
                self.abort(now, why);
                self.go_on_if_aborted(now);
            }
            Phase::Committed { until, digests } if until <= now => {
                let late = self.members().into_iter().filter(|rank| !digests.contains_key(rank));
                late.for_each(|rank| self.put_out(now, rank, "late to apply a step"));
                self.end_if_applied();
            }
            Phase::Aborting { until, missing, .. } if until <= now => {
                missing.iter().for_each(|rank| self.put_out(now, *rank, "does not stop"));
                self.go_on_if_aborted(now);
            }
            _ => {}
        }
        std::mem::take(&mut self.effects)
    }

    fn ask(&mut self, now: Duration, step: u64) {
        if self.phase != Phase::Idle || step != self.done + 1 {
            let error = GroupError::Order { asked: step, done: self.done };
            return self.effects.push(Effect::Failed(error));
        }
        self.wanted = Some(Wanted { step, aborts: Vec::new(), fruitless: 0 });
        if let Some(lost) = self.shard_lost.take() {
            return self.fail(lost);
        }
        let Some(from) = self.members().first().copied() else { return self.no_rank_left() };
        let (done, digest) = (self.done, self.digest);
        let behind = self.ranks.iter().filter(|(_, (standing, _))| match standing {
            Standing::Here { steps, digest: other } => *steps != done || Some(*other) != digest,
            _ => false,
        });
        let waiting: BTreeSet<RankId> = behind.map(|(rank, _)| *rank).collect();
        if waiting.is_empty() {
            return self.join(now);
        }
        self.effects.extend(waiting.iter().map(|to| Effect::CatchUp { from, to: *to }));
        let until = now + self.settings.catch_up_timeout;
        self.phase = Phase::CatchingUp { until, from, waiting };
    }

    /// Those who have what the members have are members.
    fn join(&mut self, now: Duration) {
        for (standing, _) in self.ranks.values_mut() {
            if matches!(standing, Standing::Here { steps, digest }
                if *steps == self.done && Some(*digest) == self.digest)
            {
                *standing = Standing::Member;
                self.is_formed = false;
            }
        }
        if self.is_formed { self.begin(now) } else { self.form(now) }
    }

    pub(super) fn form(&mut self, now: Duration) {
        let members = self.members();
        if members.is_empty() {
            return self.no_rank_left();
        }
        self.epoch += 1;
        self.ring.clone_from(&members);
        self.computed.clear();
        let missing = members.iter().copied().collect();
        self.phase = Phase::Forming { until: now + self.settings.form_timeout, missing };
        self.effects.push(Effect::Form { epoch: self.epoch, members });
    }

    fn formed(&mut self, now: Duration, rank: RankId) {
        if let Phase::Forming { missing, .. } = &mut self.phase {
            missing.remove(&rank);
            if missing.is_empty() {
                self.is_formed = true;
                self.begin(now);
            }
        }
    }

    fn begin(&mut self, now: Duration) {
        let Some(Wanted { step, .. }) = self.wanted else { return self.phase = Phase::Idle };
        let (epoch, members) = (self.epoch, self.members());
        self.effects.push(Effect::Begin { epoch, step, members });
        self.computed.clear();
        let until = now + self.settings.step_timeout;
        self.phase = Phase::Computing { until, checks: BTreeMap::new() };
    }

    fn ready(&mut self, now: Duration, rank: RankId, check: u64) {
        let members = self.members();
        let Phase::Computing { checks, .. } = &mut self.phase else { return };
        checks.insert(rank, check);
        if !members.iter().all(|member| checks.contains_key(member)) {
            return;
        }
        if let Some((one, other)) = differing(checks) {
            let why = format!("ranks {} and {} have other sums", one.0, other.0);
            return self.abort(now, why);
        }
        let Some(Wanted { step, .. }) = self.wanted else { return };
        self.effects.push(Effect::Commit { epoch: self.epoch, step, members });
        let until = now + self.settings.apply_timeout;
        self.phase = Phase::Committed { until, digests: BTreeMap::new() };
    }

    pub(super) fn end_if_applied(&mut self) {
        let members = self.members();
        let Phase::Committed { digests, .. } = &self.phase else { return };
        let digests: BTreeMap<RankId, u64> =
            members.iter().filter_map(|rank| Some((*rank, *digests.get(rank)?))).collect();
        if digests.len() < members.len() {
            return;
        }
        let Some(digest) = digests.values().next().copied() else { return self.no_rank_left() };
        let Some(Wanted { step, aborts, .. }) = self.wanted.take() else { return };
        if let Some((one, other)) = differing(&digests) {
            let digests = (digests[&one], digests[&other]);
            return self.fail(GroupError::Differ { step, ranks: (one, other), digests });
        }
        (self.done, self.digest, self.phase) = (step, Some(digest), Phase::Idle);
        let done = Done { step, epoch: self.epoch, members, aborts, digest };
        self.effects.push(Effect::Done(done));
    }

    fn came(&mut self, rank: RankId, steps: u64, digest: u64) {
        if let Some((standing, _)) = self.ranks.get_mut(&rank) {
            *standing = Standing::Here { steps, digest };
        }
        if self.phase != Phase::Starting {
            return;
        }
        let here = self.ranks.iter().filter_map(|(rank, (standing, _))| match standing {
            Standing::Here { steps, digest } => Some((*rank, *steps, *digest)),
            _ => None,
        });
        let here: Vec<(RankId, u64, u64)> = here.collect();
        if here.len() < self.ranks.len() {
            return;
        }
        self.done = here.iter().map(|(_, steps, _)| *steps).max().unwrap_or(0);
        let newest = here.into_iter().filter(|(_, steps, _)| *steps == self.done);
        let newest: BTreeMap<RankId, u64> =
            newest.map(|(rank, _, digest)| (rank, digest)).collect();
        if let Some((one, other)) = differing(&newest) {
            let digests = (newest[&one], newest[&other]);
            return self.fail(GroupError::Differ { step: self.done, ranks: (one, other), digests });
        }
        self.digest = newest.values().next().copied();
        for rank in newest.keys() {
            if let Some((standing, _)) = self.ranks.get_mut(rank) {
                *standing = Standing::Member;
            }
        }
        self.phase = Phase::Idle;
        self.effects.push(Effect::Started);
    }

    fn caught_up(&mut self, now: Duration, rank: RankId, steps: u64, digest: u64) {
        let Phase::CatchingUp { waiting, .. } = &mut self.phase else { return };
        if !waiting.remove(&rank) {
            return;
        }
        let is_last = waiting.is_empty();
        if (steps, Some(digest)) == (self.done, self.digest) {
            if let Some((standing, _)) = self.ranks.get_mut(&rank) {
                *standing = Standing::Here { steps, digest };
            }
        } else {
            self.put_out(now, rank, "its copy is another one");
        }
        if is_last {
            self.join(now);
        }
    }

    fn down(&mut self, now: Duration, rank: RankId, why: String) {
        if self.phase == Phase::Starting {
            return self.fail(GroupError::Start { rank, why });
        }
        let was_member = self.lose(now, rank, &why);
        match &mut self.phase {
            Phase::CatchingUp { waiting, from, .. } => {
                waiting.remove(&rank);
                if *from == rank {
                    // They begin again, from another.
                    let step = self.wanted.take().map(|wanted| wanted.step);
                    self.phase = Phase::Idle;
                    step.into_iter().for_each(|step| self.ask(now, step));
                } else if waiting.is_empty() {
                    self.join(now);
                }
            }
            Phase::Forming { .. } | Phase::Computing { .. } if was_member => {
                self.abort(now, format!("rank {} is down: {why}", rank.0));
                self.go_on_if_aborted(now);
            }
            Phase::Committed { .. } => self.end_if_applied(),
            Phase::Aborting { .. } => {
                self.tell_too(&format!("rank {} is down: {why}", rank.0));
                self.go_on_if_aborted(now);
            }
            _ => {}
        }
    }
}

/// Two ranks with other values, if there are any.
fn differing(values: &BTreeMap<RankId, u64>) -> Option<(RankId, RankId)> {
    let (one, first) = values.first_key_value()?;
    let other = values.iter().find(|(_, value)| *value != first)?;
    Some((*one, *other.0))
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
