//! Losses: from the log-probabilities of sampled tokens to a value and its gradient.
//!
//! Pure functions on the host: the model gives each trained token's log-probability, a loss gives
//! its derivative, and the model goes on from there.
