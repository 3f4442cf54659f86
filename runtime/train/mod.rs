//! Training a policy on what its rollouts were worth.

pub mod delivery;
