//! Reinforcement learning of a policy from the rollouts of its own agents.
//!
//! - [`config`], [`layers`], [`plan`]: what is asked for, read and judged before anything starts.
//! - [`layout`], [`curriculum`], [`pacer`], [`batch`]: which rollouts there are, which are worth
//!   it, when they begin, and what a step makes of them. All of them pure.
//! - [`training`]: the loop. It has [`rollouts`] run, the ranks learn, and [`delivery`] bring the
//!   weights to the samplers; [`checkpoints`] are where it goes on.
//! - [`mod@start`] puts all of that together for a run's directory.
//! - [`learner`] is what a rank teaches; [`remote`] has ranks live on the nodes of a cluster.
//! - [`command`] is `orcapack train`; without any input it is the [`quick_start`].

pub mod batch;
pub mod checkpoints;
pub mod command;
pub mod config;
pub mod curriculum;
pub mod curves;
pub mod delivery;
pub mod layers;
pub mod layout;
pub mod learner;
pub mod metrics;
pub mod pacer;
pub mod plan;
pub mod progress;
pub mod quick_start;
pub mod remote;
pub mod report;
pub mod rollouts;
pub mod start;
pub mod training;
pub mod trajectories;

use crate::exit::Failure;

/// A file of the run that cannot be used.
fn io(error: std::io::Error) -> Failure {
    Failure::internal(error.to_string())
}
