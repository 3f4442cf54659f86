//! From gradients to the next weights.
