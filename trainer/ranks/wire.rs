//! What goes over the wire where a rank lives elsewhere: [orders](super::home::Order), and what
//! ranks [say](super::home::Said), as messages of bounded size.
//!
//! What may be long follows its head in pieces: samples one by one, tensors as `Values`, files as
//! `Bytes`. Only one long thing is on its way in each direction at a time; short messages may come
//! between its pieces.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::collective::{CollectiveError, Member, Place, RankId};
use crate::policy_step::{RlSample, StepSums};
use crate::ranks::group_events::Cause;
use crate::ranks::home::Said;
use crate::ranks::replica::Prepared;
use crate::samples::from_trajectory::{Sample, TrainedToken};

/// Of one piece: 1 MiB.
pub const VALUES_MAX: usize = 1 << 18;
pub const BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToRank {
    Form {
        epoch: u64,
        place: u32,
        members: Vec<WireMember>,
    },
    /// So many samples follow.
    Begin {
        epoch: u64,
        step: u64,
        version: u64,
        learning_rate: f64,
        samples: u32,
    },
    Sample(WireSample),
    Commit {
        epoch: u64,
    },
    Abort {
        epoch: u64,
        reason: String,
    },
    /// Values follow.
    Load(StateHead),
    Values(Vec<f32>),
    State,
    Weights,
    /// The values of the optimizer's state follow, where each rank has a part of it.
    Save {
        optimizer: Option<StateHead>,
    },
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum FromRank {
    Came {
        steps: u64,
        digest: u64,
    },
    Formed {
        epoch: u64,
    },
    Computed {
        epoch: u64,
    },
    Ready {
        epoch: u64,
        prepared: WirePrepared,
    },
    Applied {
        epoch: u64,
        digest: u64,
    },
    Aborted {
        epoch: u64,
        cause: WireCause,
    },
    CaughtUp {
        steps: u64,
        digest: u64,
    },
    Down(String),
    /// Values follow.
    State(StateHead),
    /// Of the policy, adapters merged. Values follow.
    Weights {
        steps: u64,
        tensors: Vec<TensorHead>,
    },
    Values(Vec<f32>),
    /// Of a checkpoint's folder; so many bytes follow.
    File {
        name: String,
        bytes: u64,
    },
    Bytes(Vec<u8>),
    /// All files have come.
    Saved,
    /// Instead of what was asked for.
    Refused(String),
}

/// Of a [`LearnerState`](crate::learner::LearnerState).
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct StateHead {
    pub steps: u64,
    /// Those that the optimizer has counted.
    pub optimizer_steps: i64,
    /// Of the weights, and then of the optimizer.
    pub weights: Vec<TensorHead>,
    pub optimizer: Vec<TensorHead>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TensorHead {
    pub name: String,
    pub dims: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct WireMember {
    pub id: u32,
    pub node: String,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct WireSample {
    pub advantage: f32,
    pub ids: Vec<u32>,
    /// Index, log-probability and version.
    pub trained: Vec<(u32, f32, u64)>,
    pub unproven: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct WirePrepared {
    pub sums: StepSums,
    pub grad_norm: f64,
    pub compute_sec: f64,
    pub reduce_sec: f64,
    pub check: u64,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum WireCause {
    Told,
    Step(String),
    PeerLost { rank: u32, why: String },
    TimedOut { rank: u32, after_ms: u64 },
    Corrupt { rank: u32, what: String },
    Stopped(String),
    Mismatch { rank: u32, what: String },
}

pub(super) fn form(place: &Place) -> ToRank {
    let members = place.members.iter();
    let members = members.map(|it| WireMember { id: it.id.0, node: it.node.clone() });
    ToRank::Form { epoch: place.epoch, place: place.rank as u32, members: members.collect() }
}

pub(super) fn place(epoch: u64, place: u32, members: Vec<WireMember>) -> Place {
    let members = members.into_iter();
    let members = members.map(|it| Member { id: RankId(it.id), node: it.node });
    Place { epoch, rank: place as usize, members: members.collect() }
}

impl From<&RlSample> for WireSample {
    fn from(sample: &RlSample) -> Self {
        let trained = sample.sample.trained.iter();
        Self {
            advantage: sample.advantage,
            ids: sample.sample.ids.clone(),
            trained: trained.map(|it| (it.index, it.sampler_logprob, it.version)).collect(),
            unproven: sample.sample.unproven as u64,
        }
    }
}

impl From<WireSample> for RlSample {
    fn from(sample: WireSample) -> Self {
        let trained = sample.trained.into_iter();
        let trained = trained.map(|(index, sampler_logprob, version)| TrainedToken {
            index,
            sampler_logprob,
            version,
        });
        let (trained, unproven) = (trained.collect(), sample.unproven as usize);
        let own = Sample { ids: sample.ids, trained, unproven };
        Self { sample: own, advantage: sample.advantage }
    }
}

impl From<Said> for FromRank {
    fn from(said: Said) -> Self {
        match said {
            Said::Came { steps, digest } => Self::Came { steps, digest },
            Said::Formed { epoch } => Self::Formed { epoch },
            Said::Computed { epoch } => Self::Computed { epoch },
            Said::Ready { epoch, prepared } => {
                let Prepared { sums, grad_norm, compute_sec, reduce_sec, check } = prepared;
                let prepared = WirePrepared { sums, grad_norm, compute_sec, reduce_sec, check };
                Self::Ready { epoch, prepared }
            }
            Said::Applied { epoch, digest } => Self::Applied { epoch, digest },
            Said::Aborted { epoch, cause } => Self::Aborted { epoch, cause: cause.into() },
            Said::CaughtUp { steps, digest } => Self::CaughtUp { steps, digest },
            Said::Down(why) => Self::Down(why),
        }
    }
}

impl FromRank {
    /// What of it is for the leader; the rest is an answer, or a piece of one.
    pub(super) fn said(self) -> Result<Said, Box<Self>> {
        Ok(match self {
            Self::Came { steps, digest } => Said::Came { steps, digest },
            Self::Formed { epoch } => Said::Formed { epoch },
            Self::Computed { epoch } => Said::Computed { epoch },
            Self::Ready { epoch, prepared } => {
                let WirePrepared { sums, grad_norm, compute_sec, reduce_sec, check } = prepared;
                let prepared = Prepared { sums, grad_norm, compute_sec, reduce_sec, check };
                Said::Ready { epoch, prepared }
            }
            Self::Applied { epoch, digest } => Said::Applied { epoch, digest },
            Self::Aborted { epoch, cause } => Said::Aborted { epoch, cause: cause.into() },
            Self::CaughtUp { steps, digest } => Said::CaughtUp { steps, digest },
            Self::Down(why) => Said::Down(why),
            other => return Err(Box::new(other)),
        })
    }
}

impl From<Cause> for WireCause {
    fn from(cause: Cause) -> Self {
        let error = match cause {
            Cause::Told => return Self::Told,
            Cause::Step(why) => return Self::Step(why),
            Cause::Collective(error) => error,
        };
        match error {
            CollectiveError::PeerLost { rank, why } => Self::PeerLost { rank: rank as u32, why },
            CollectiveError::TimedOut { rank, after } => {
                Self::TimedOut { rank: rank as u32, after_ms: after.as_millis() as u64 }
            }
            CollectiveError::Corrupt { rank, what } => Self::Corrupt { rank: rank as u32, what },
            CollectiveError::Aborted(why) => Self::Stopped(why),
            CollectiveError::Mismatch { rank, what } => Self::Mismatch { rank: rank as u32, what },
        }
    }
}

impl From<WireCause> for Cause {
    fn from(cause: WireCause) -> Self {
        Self::Collective(match cause {
            WireCause::Told => return Self::Told,
            WireCause::Step(why) => return Self::Step(why),
            WireCause::PeerLost { rank, why } => {
                CollectiveError::PeerLost { rank: rank as usize, why }
            }
            WireCause::TimedOut { rank, after_ms } => {
                let after = Duration::from_millis(after_ms);
                CollectiveError::TimedOut { rank: rank as usize, after }
            }
            WireCause::Corrupt { rank, what } => {
                CollectiveError::Corrupt { rank: rank as usize, what }
            }
            WireCause::Stopped(why) => CollectiveError::Aborted(why),
            WireCause::Mismatch { rank, what } => {
                CollectiveError::Mismatch { rank: rank as usize, what }
            }
        })
    }
}
