//! What a model is given for one forward and backward pass.

/// Rows of tokens, each cut into segments that do not see each other.
///
/// `ids` and `positions` are `[rows, len]`, row-major. The segments of each row cover it wholly, in
/// order; what fills a row up is a segment of its own without targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub rows: usize,
    pub len: usize,
    pub ids: Vec<u32>,
    /// Of each token in its segment, from 0.
    pub positions: Vec<u32>,
    /// Lengths of the segments of each row.
    pub segments: Vec<Vec<u32>>,
    /// The tokens in the loss, in the order of their places.
    pub targets: Vec<Target>,
}

/// A token that the model is asked the log-probability of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Where it is predicted: the flat index, `row * len + column`, of the token before it.
    pub place: u32,
    pub id: u32,
    /// Index of the sample in the step's list of samples.
    pub sample: u32,
    /// What the sampler said of it, natural logarithm; NaN where nobody sampled it (`sft`).
    pub sampler_logprob: f32,
    /// Policy version that sampled it.
    pub version: u64,
}
