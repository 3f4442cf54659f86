//! Angles of the rotary embedding (Su et al. 2021, RoFormer, section 3.4.2).

/// Cosines and sines of every position and frequency, `[positions, head_dim / 2]` each.
///
/// Frequencies and angles are rounded to f32 before the cosine, as transformers does: at a distant
/// position the rounding of the angle is more than that of all the rest.
pub struct RotaryTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RotaryTable {
    /// For positions from 0 to `positions - 1`; `head_dim` is even.
    pub fn new(theta: f64, head_dim: usize, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequency = |i: usize| theta.powf(-((2 * i) as f64) / head_dim as f64) as f32;
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles = (0..positions).flat_map(|position| {
            frequencies.iter().map(move |frequency| f64::from(position as f32 * frequency))
        });
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Self { half, cos, sin }
    }

    /// Cosines and sines at `position`, `[head_dim / 2]` each.
    pub fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let from = position as usize * self.half;
        (&self.cos[from..from + self.half], &self.sin[from..from + self.half])
    }
}
