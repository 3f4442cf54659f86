//! Reinforcement learning of a policy from the rollouts of its own agents.

pub mod rollouts;
