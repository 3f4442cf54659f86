//! Training samples: from what agents did to batches of tokens.

pub mod batch;
pub mod from_trajectory;
pub mod packing;
